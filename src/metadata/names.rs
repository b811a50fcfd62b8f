//! Epochs, folders, hold names, hashes and ranges: the parts that several messages share.

use super::fault::{Checked, Fault};
use super::model::Origin;
use super::wire;
use crate::error::Error;
use crate::keygroup::{KeyGroup, KeyGroupRange};
use crate::layout::{CheckpointFolder, CheckpointId, ContentHash, Epoch, JobId, RefName, SharedName, Uid};
use crate::store::StorePath;

/// Of a required part of a message: what it says, or the fault that it is not there.
pub(crate) fn present<T>(what: &str, part: Option<T>) -> Checked<T> {
    part.ok_or_else(|| Fault::bad(format!("{what} is not there")))
}

/// A rule of `layout` or `store` that a name breaks.
pub(crate) fn name_fault(error: &Error) -> Fault {
    match error.object() {
        Some(object) => Fault::bad(format!("`{object}`: {}", error.message())),
        None => Fault::bad(error.message()),
    }
}

pub(crate) fn path(text: String) -> Checked<StorePath> {
    StorePath::new(text).map_err(|error| name_fault(&error))
}

pub(crate) fn job(text: &str) -> Checked<JobId> {
    JobId::new(text).map_err(|error| name_fault(&error).within("job id"))
}

pub(crate) fn shared(text: &str) -> Checked<SharedName> {
    text.parse().map_err(|error| name_fault(&error))
}

pub(crate) fn hash(bytes: &[u8]) -> Checked<ContentHash> {
    match bytes.try_into() {
        Ok(hash) => Ok(ContentHash(hash)),
        Err(_) => Err(Fault::bad(format!("a SHA-256 has 32 bytes, not {}", bytes.len()))),
    }
}

pub(crate) fn epoch_to_wire(epoch: Epoch) -> wire::Epoch {
    wire::Epoch { counter: epoch.counter, uid: epoch.uid.0 }
}

pub(crate) fn epoch(wire: Option<wire::Epoch>) -> Checked<Epoch> {
    let wire = present("the epoch", wire)?;
    Ok(Epoch { counter: wire.counter, uid: Uid(wire.uid) })
}

pub(crate) fn folder_to_wire(folder: CheckpointFolder) -> wire::Folder {
    wire::Folder { checkpoint: folder.checkpoint.0, epoch: Some(epoch_to_wire(folder.epoch)) }
}

pub(crate) fn folder(wire: wire::Folder) -> Checked<CheckpointFolder> {
    Ok(CheckpointFolder { checkpoint: CheckpointId(wire.checkpoint), epoch: epoch(wire.epoch)? })
}

pub(super) fn origin_to_wire(origin: &Origin) -> wire::Origin {
    wire::Origin { job: origin.job.as_str().to_owned(), folder: Some(folder_to_wire(origin.folder)) }
}

pub(super) fn origin(wire: wire::Origin) -> Checked<Origin> {
    let read = || Ok(Origin { job: job(&wire.job)?, folder: folder(present("the checkpoint", wire.folder)?)? });
    read().map_err(|fault: Fault| fault.within("origin"))
}

pub(super) fn hold_to_wire(name: RefName) -> wire::HoldName {
    wire::HoldName {
        folder: Some(folder_to_wire(name.folder)),
        writer: Some(epoch_to_wire(name.writer)),
        uid: name.uid.0,
    }
}

pub(super) fn hold(wire: wire::HoldName) -> Checked<RefName> {
    Ok(RefName {
        folder: folder(present("the checkpoint that is held", wire.folder)?)?,
        writer: epoch(wire.writer)?,
        uid: Uid(wire.uid),
    })
}

pub(crate) fn key_groups_to_wire(range: KeyGroupRange) -> wire::KeyGroups {
    wire::KeyGroups { first: range.first().into(), last: range.last().into() }
}

pub(crate) fn key_groups(wire: wire::KeyGroups) -> Checked<KeyGroupRange> {
    let group = |number: u32| KeyGroup::try_from(number).ok();
    let range = group(wire.first).zip(group(wire.last)).and_then(|(first, last)| KeyGroupRange::new(first, last));
    range.ok_or_else(|| Fault::bad(format!("{}-{} is not a range of key groups", wire.first, wire.last)))
}

/// A path below the store's root that icecore may read and delete: inside some job's folder.
pub(super) fn in_a_job(path: &StorePath) -> Checked {
    let inside = path
        .as_str()
        .split_once('/')
        .is_some_and(|(folder, _)| crate::layout::JobLayout::job_of_folder(folder).is_some());
    if inside { Ok(()) } else { Err(Fault::bad(format!("`{path}` does not lie in a job's folder (`job-<id>/`)"))) }
}
