//! One file of a file list, and the segments a list is cut into.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fault::{Checked, Fault, at_most};
use super::limits::{MAX_SEGMENT_BYTES, SEGMENT_BYTES, SEGMENT_FILES};
use super::model::{FileEntry, FileIdentity, Location, TableInfo};
use super::names::{hash, job, key_groups, key_groups_to_wire, path, present};
use super::{numbers, wire};
use crate::layout::{CheckpointId, Epoch, FileKind, JobId, JobLayout, SharedName, Tag, Uid};
use crate::store::StorePath;

/// More fields than a file has, later versions included.
const MAX_FILE_FIELDS: usize = 64;

/// The texts that many files share, each kept once.
#[derive(Default)]
pub(super) struct Interner(BTreeSet<Arc<str>>);

impl Interner {
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// Cuts a file list into segments: always at the same places for the same list.
pub(super) struct Segments<'a> {
    own_job: &'a JobId,
    files: &'a [FileEntry],
}

impl<'a> Segments<'a> {
    /// The segments of `files`, a list of a checkpoint of `own_job`.
    pub(super) fn of(own_job: &'a JobId, files: &'a [FileEntry]) -> Self {
        Self { own_job, files }
    }

    /// Writes the next segment into `segment` (what was there goes) and says how many files it has;
    /// `None` at the end.
    pub(super) fn next_into(&mut self, segment: &mut Vec<u8>) -> Option<usize> {
        segment.clear();
        let mut count = 0;
        while let Some((file, rest)) = self.files.split_first() {
            if count == SEGMENT_FILES || segment.len() >= SEGMENT_BYTES {
                break;
            }
            wire::put_message(segment, wire::SEGMENT_FILE, &to_wire(self.own_job, file));
            self.files = rest;
            count += 1;
        }
        (count > 0).then_some(count)
    }
}

/// Reads a segment and appends its files to `files`.
pub(super) fn read_segment(
    own_job: &JobId,
    mut segment: &[u8],
    families: &mut Interner,
    files: &mut Vec<FileEntry>,
) -> Checked<usize> {
    at_most("a segment, bytes", segment.len(), MAX_SEGMENT_BYTES)?;
    let mut count = 0;
    while let Some((number, bytes)) = wire::take_field(&mut segment)? {
        if number != wire::SEGMENT_FILE {
            return Err(Fault::unknown(format!("a segment holds a record of the unknown number {number}")));
        }
        count += 1;
        at_most("a segment, files", count, SEGMENT_FILES)?;
        let message: wire::File = wire::decode("a file", bytes, MAX_FILE_FIELDS)?;
        let name = path(message.local_name.clone()).map_err(|fault| fault.within("a file's local name"))?;
        let file = from_wire(own_job, name.clone(), message, families);
        files.push(file.map_err(|fault| fault.within(format_args!("file `{name}`")))?);
    }
    Ok(count)
}

fn to_wire(own_job: &JobId, file: &FileEntry) -> wire::File {
    wire::File {
        local_name: file.local_name.as_str().to_owned(),
        kind: numbers::number(file.kind),
        place: Some(place(own_job, file)),
        offset_bytes: file.offset_bytes,
        stored_size_bytes: file.stored_size_bytes,
        encoding: numbers::number(file.encoding),
        size_bytes: file.size_bytes,
        sha256: file.sha256.0.to_vec(),
        key_groups: file.key_groups.map(key_groups_to_wire),
        table: file.table.as_ref().map(|table| wire::Table {
            column_family: table.column_family.as_ref().to_owned(),
            level: table.level,
            smallest_key: table.smallest_key.clone(),
            largest_key: table.largest_key.clone(),
            smallest_sequence: table.smallest_sequence,
            largest_sequence: table.largest_sequence,
        }),
        identity: file.identity.map(|identity| {
            let [unique_id_first, unique_id_second] = identity.unique_id;
            let [smallest_sequence, largest_sequence] = identity.sequences;
            wire::Identity { unique_id_first, unique_id_second, smallest_sequence, largest_sequence }
        }),
    }
}

/// A shared object's name repeats the file's hash and kind; the short form leaves them out. It is
/// used whenever it can be, so that one value has one form.
fn place(own_job: &JobId, file: &FileEntry) -> wire::Place {
    match &file.location {
        Location::InCheckpoint(path) => wire::Place::InCheckpoint(path.as_str().to_owned()),
        Location::InRoot(path) => match shared_parts(path) {
            Some((job, name)) if name.hash == file.sha256 && name.kind == file.kind => {
                wire::Place::Shared(wire::Shared {
                    job: if job == *own_job { String::new() } else { job.as_str().to_owned() },
                    epoch_counter: name.tag.epoch.counter,
                    epoch_uid: name.tag.epoch.uid.0,
                    generation: name.tag.generation,
                    checkpoint: name.tag.checkpoint.0,
                    upload: name.tag.upload.0,
                })
            }
            _ => wire::Place::InRoot(path.as_str().to_owned()),
        },
    }
}

fn shared_parts(path: &StorePath) -> Option<(JobId, SharedName)> {
    let (folder, rest) = path.as_str().split_once('/')?;
    let name = rest.strip_prefix("shared/")?.parse().ok()?;
    Some((JobLayout::job_of_folder(folder)?, name))
}

fn from_wire(own_job: &JobId, name: StorePath, file: wire::File, families: &mut Interner) -> Checked<FileEntry> {
    let kind: FileKind = numbers::value(file.kind)?;
    let sha256 = hash(&file.sha256)?;
    let location = match present("its location", file.place)? {
        wire::Place::InCheckpoint(text) => Location::InCheckpoint(path(text)?),
        wire::Place::InRoot(text) => Location::InRoot(path(text)?),
        wire::Place::Shared(shared) => {
            let tag = Tag {
                epoch: Epoch { counter: shared.epoch_counter, uid: Uid(shared.epoch_uid) },
                generation: shared.generation,
                checkpoint: CheckpointId(shared.checkpoint),
                upload: Uid(shared.upload),
            };
            let job = if shared.job.is_empty() { own_job.clone() } else { job(&shared.job)? };
            let name = SharedName { hash: sha256, tag, kind };
            Location::InRoot(path(format!("job-{job}/shared/{name}"))?)
        }
    };
    Ok(FileEntry {
        local_name: name,
        kind,
        location,
        offset_bytes: file.offset_bytes,
        stored_size_bytes: file.stored_size_bytes,
        encoding: numbers::value(file.encoding)?,
        size_bytes: file.size_bytes,
        sha256,
        key_groups: file.key_groups.map(key_groups).transpose()?,
        table: file.table.map(|table| TableInfo {
            column_family: families.intern(&table.column_family),
            level: table.level,
            smallest_key: table.smallest_key,
            largest_key: table.largest_key,
            smallest_sequence: table.smallest_sequence,
            largest_sequence: table.largest_sequence,
        }),
        identity: file.identity.map(|identity| FileIdentity {
            unique_id: [identity.unique_id_first, identity.unique_id_second],
            size_bytes: file.size_bytes,
            sequences: [identity.smallest_sequence, identity.largest_sequence],
        }),
    })
}
