//! A savepoint from one store to another: a folder of the user's, which no owner guards.
//!
//! Its `_metadata` comes last, so that the savepoint is there whole or not at all. A file's name is the same at
//! every attempt, and so are its bytes, which is why this may be repeated where names of a job's folder may not: what
//! lands late is what would have been written again. What an interrupted copy left is read back and proven before
//! it is believed; anything else in the folder is in the way and stays.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures::stream::StreamExt;

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::METADATA_NAME;
use crate::metadata::{self, CheckpointKind, CheckpointMetadata, total_bytes};
use crate::restore::{Checkpoint, StandAlone, read_checkpoint, refuse_job_folder, stand_alone};
use crate::store::{StorePath, StoreRef};
use crate::transfer::{Progress, StoredFile, TransferLimits, copy_object, verify_object};

const COPY: &str = "copy a savepoint";

/// What copying a savepoint would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavepointPlan {
    /// Where it goes.
    pub folder: StorePath,
    /// Whether the very savepoint is there already; then nothing is done.
    pub is_there: bool,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The files that are sent.
    pub send_files: u64,
    /// Their bytes.
    pub send_bytes: u64,
    metadata: CheckpointMetadata,
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    source: StoredFile,
    target: StorePath,
    /// An earlier copy left something of its length at its place.
    may_be_there: bool,
}

impl SavepointPlan {
    /// Plans to copy `source` to `folder` of `target`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `source` is no savepoint, or `folder` lies in a job's;
    /// [`ErrorKind::AlreadyExists`] if something else lies there; [`ErrorKind::Corrupt`] if `source` contradicts
    /// itself; what the target says.
    pub async fn new(source: &Checkpoint, target: &StoreRef, folder: &StorePath) -> Result<Self> {
        if source.metadata.kind != CheckpointKind::Savepoint {
            return Err(Error::invalid(COPY, "it is no savepoint").with_object(source.describe()));
        }
        refuse_job_folder(folder)?;
        let StandAlone { metadata, copies } = stand_alone(source)?;
        let mut items = Vec::with_capacity(copies.len());
        for copy in copies {
            let (source, target) = (source.stored_file(copy.entry)?, folder.join(copy.below.as_str())?);
            items.push(Item { source, target, may_be_there: false });
        }
        let bytes = total_bytes(items.iter().map(|item| item.source.size_bytes));
        let mut plan = Self {
            folder: folder.clone(),
            is_there: false,
            files: items.len() as u64,
            bytes,
            send_files: 0,
            send_bytes: 0,
            metadata,
            items,
        };
        plan.look(target).await?;
        let sent = plan.items.iter().filter(|item| !plan.is_there && !item.may_be_there);
        (plan.send_files, plan.send_bytes) =
            sent.fold((0, 0), |(files, bytes), item| (files + 1, item.source.size_bytes.saturating_add(bytes)));
        Ok(plan)
    }

    /// What lies at the target.
    async fn look(&mut self, target: &StoreRef) -> Result<()> {
        match read_checkpoint(target.clone(), Some(self.folder.clone())).await {
            Ok(known) if *known.metadata == self.metadata => {
                self.is_there = true;
                return Ok(());
            }
            Ok(known) => return Err(occupied(&self.folder, &format!("{} lies there", known.describe()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let known: BTreeMap<StorePath, usize> =
            self.items.iter().enumerate().map(|(index, item)| (item.target.clone(), index)).collect();
        let mut there = HashSet::new();
        let mut listing = target.list(Some(&self.folder));
        while let Some(object) = listing.next().await {
            let object = object?;
            let item = known.get(&object.path).and_then(|index| Some((*index, self.items.get(*index)?)));
            match item {
                Some((index, item)) if item.source.size_bytes == object.size_bytes => {
                    there.insert(index);
                }
                _ => return Err(occupied(&object.path, "it is in the way")),
            }
        }
        for (index, item) in self.items.iter_mut().enumerate() {
            item.may_be_there = there.contains(&index);
        }
        Ok(())
    }
}

/// Carries a plan out. What is there of an earlier attempt is hashed, and only the rest is sent. After an error
/// what was sent stays, without a `_metadata`: the same copy goes on with it.
///
/// # Errors
/// [`ErrorKind::Corrupt`] or [`ErrorKind::NotFound`] if the source is damaged, naming the object;
/// [`ErrorKind::AlreadyExists`] if what is there has other bytes; [`ErrorKind::OutcomeUnknown`] if its `_metadata`
/// may be there or not; what either store says otherwise.
pub async fn copy_savepoint(
    env: &Env,
    source: &Checkpoint,
    target: &StoreRef,
    plan: &SavepointPlan,
    limits: TransferLimits,
    progress: &dyn Progress,
) -> Result<()> {
    if plan.is_there {
        return Ok(());
    }
    progress.expect(plan.files, plan.bytes);
    let perform = |item| move_one(env, source, target, item, progress);
    let mut outcomes = limits.run(&plan.items, |item| Some(item.source.size_bytes), perform);
    let mut first_error = None;
    while let Some(outcome) = outcomes.next().await {
        if let Err(error) = outcome {
            first_error = Some(error);
            break;
        }
    }
    drop(outcomes);
    if let Some(error) = first_error {
        return Err(error.with_advice("the target is unfinished (it has no `_metadata`): copy again, or remove it"));
    }
    let index = plan.folder.join(METADATA_NAME)?;
    let metadata = plan.metadata.clone();
    let bytes = Bytes::from(env.blocking(move || metadata::encode(&metadata)).await??);
    target.put(&index, bytes).await.map_err(|error| {
        let message = format!("it may be there or not ({}); outcome unknown", error.message());
        Error::new(ErrorKind::OutcomeUnknown, COPY, message)
            .with_object(&index)
            .with_advice("copy it again, which finds out")
            .with_source(error)
    })
}

async fn move_one(
    env: &Env,
    source: &Checkpoint,
    target: &StoreRef,
    item: &Item,
    progress: &dyn Progress,
) -> Result<()> {
    if !item.may_be_there {
        let copied = copy_object(&*source.store, env, &item.source, &**target, &item.target, progress).await;
        return copied.map_err(|failed| failed.error);
    }
    let there = StoredFile { object: item.target.clone(), offset_bytes: 0, ..item.source.clone() };
    verify_object(&**target, env, &there, progress).await.map_err(|error| match error.kind() {
        ErrorKind::Corrupt => occupied(&item.target, "it has other bytes than the savepoint's"),
        _ => error,
    })
}

fn occupied(object: &StorePath, why: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, COPY, why)
        .with_object(object)
        .with_advice("nothing is overwritten: name another path, or remove what lies there")
}
