//! What a generation of workers restores.

use std::collections::BTreeSet;

use super::Manager;
use super::options::{ManagerOptions, OnDamage, StartFrom};
use super::plan::check_state_is_taken;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointId, Epoch, JobId, JobLayout, Place, SharedName};
use crate::metadata::{CheckpointMetadata, FileEntry, Location};
use crate::ownership::JobView;
use crate::restore::{read_checkpoint, verify_checkpoint};
use crate::store::{StorePath, StoreRef};
use crate::transfer::{NoProgress, TransferLimits};

const OPERATION: &str = "choose what to restore";

impl Manager {
    /// What a worker has missed may be there, and only its way to the store be wrong (a folder that is not mounted): that is looked for from
    /// here, so that no sound checkpoint is given up.
    pub(super) async fn settle_suspicions(&self) {
        for folder in self.desk.take_missed() {
            match self.misses_something(&folder).await {
                Ok(true) => self.desk.note_damage(folder),
                Ok(false) => tracing::warn!(%folder, "a worker misses what is there: look at its way to the store"),
                Err(error) => tracing::warn!(%folder, %error, "whether what a worker misses is there is not known"),
            }
        }
    }

    async fn misses_something(&self, folder: &StorePath) -> Result<bool> {
        let checkpoint = match read_checkpoint(self.coordinator.store().clone(), Some(folder.clone())).await {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(true),
            read => read?,
        };
        let looked = verify_checkpoint(&self.env, &checkpoint, false, TransferLimits::default(), &NoProgress).await?;
        Ok(!looked.is_sound())
    }

    /// What only damaged checkpoints have is shared with no later one, where an older one is restored: whatever comes to the same content again is
    /// stored anew, or the next checkpoint would be as damaged.
    ///
    /// # Errors
    /// As [`Coordinator::distrust`](crate::coordinator::Coordinator::distrust).
    pub(super) async fn distrust_what_is_passed_over(&self, restore: Option<&StorePath>) -> Result<()> {
        let (view, damaged) = (self.coordinator.view(), self.desk.known_damage());
        let mut passed_over: BTreeSet<SharedName> = BTreeSet::new();
        let mut restored: BTreeSet<SharedName> = BTreeSet::new();
        for (folder, checkpoint) in &view.checkpoints {
            let Ok(metadata) = &checkpoint.content else { continue };
            let path = view.layout.checkpoint(*folder)?;
            let shared = metadata.files().filter_map(|file| shared_name(&view, file));
            if restore == Some(&path) {
                restored.extend(shared);
            } else if damaged.contains(&path) {
                passed_over.extend(shared);
            }
        }
        let names: Vec<SharedName> = passed_over.difference(&restored).copied().collect();
        if !names.is_empty() {
            self.coordinator.distrust(&names, "only a damaged checkpoint has it").await?;
        }
        Ok(())
    }

    /// The folder of a checkpoint or savepoint; `None`: nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Blocked`] if it is not known what counts; [`ErrorKind::Corrupt`] if what is to be restored is damaged, and the
    /// options, or what is there, allow nothing else; as [`check_state_is_taken`].
    pub(super) fn choose_restore(&self) -> Result<Option<StorePath>> {
        let view = self.coordinator.view();
        let chosen = self.sound_restore(&view)?;
        // What was named to the job was read when it began.
        for (folder, checkpoint) in &view.checkpoints {
            // Of one that cannot be read the workers tell.
            let Ok(metadata) = &checkpoint.content else { continue };
            if chosen.is_some() && chosen == Some(view.layout.checkpoint(*folder)?) {
                self.options.check_takes_state_of(metadata)?;
            }
        }
        Ok(chosen)
    }

    fn sound_restore(&self, view: &JobView) -> Result<Option<StorePath>> {
        if view.start.is_none() {
            // Nothing counts in such a view, which is not to say that there is nothing.
            return Err(Error::new(ErrorKind::Blocked, OPERATION, "what counts is not known")
                .with_object(view.layout.root())
                .with_advice("start the job again"));
        }
        let mut folders = view.checkpoints.keys().rev().copied().peekable();
        let newest_is_own = folders.peek().is_some_and(|newest| newest.epoch == self.coordinator.epoch());
        let damaged = self.desk.known_damage();
        if let StartFrom::Folder(folder) | StartFrom::Rewind(folder) = &self.options.start_from
            && !newest_is_own
        {
            // Whoever had the job may have gone on until it was claimed.
            if let Some(named) = &self.begins_with {
                named.check_not_passed(folder, view)?;
            }
            return match damaged.contains(folder) {
                // Older checkpoints of the job are not what was asked for.
                true => Err(is_damaged(folder)),
                false => Ok(Some(folder.clone())),
            };
        }
        let paths = folders.map(|folder| view.layout.checkpoint(folder)).collect::<Result<Vec<_>>>()?;
        let Some(newest) = paths.first() else { return Ok(None) };
        if damaged.contains(newest) && self.options.on_damage == OnDamage::Fail {
            return Err(is_damaged(newest)
                .with_advice("look at it with `icecore verify`; `OnDamage::FallBack` restores the one before"));
        }
        match paths.iter().find(|path| !damaged.contains(*path)) {
            Some(path) => {
                if path != newest {
                    tracing::warn!(%newest, fallback = %path, "the newest checkpoint is damaged");
                }
                Ok(Some(path.clone()))
            }
            None => Err(Error::corrupt(OPERATION, newest, "every checkpoint of the job is damaged")),
        }
    }
}

fn shared_name(view: &JobView, file: &FileEntry) -> Option<SharedName> {
    let Location::InRoot(path) = &file.location else { return None };
    match Place::of(&view.layout, path) {
        Some(Place::Shared(name)) => Some(name),
        _ => None,
    }
}

impl ManagerOptions {
    fn check_takes_state_of(&self, checkpoint: &CheckpointMetadata) -> Result<()> {
        let known = checkpoint.operators.iter().map(|known| (&known.operator, known.max_parallelism));
        check_state_is_taken(&self.operators, known, self.allow_non_restored_state)
    }
}

/// What a job begins with that is named to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    /// The number of the checkpoint. A savepoint's may be given to a checkpoint again, by a later tenure.
    pub(super) checkpoint: CheckpointId,
    /// The tenure that took it.
    epoch: Epoch,
    /// The job must not have gone on from it.
    must_be_newest: bool,
    /// It is the job's own.
    is_own: bool,
}

impl Named {
    /// What was put out since would be put out again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the job has gone on from it, or from anything else.
    fn check_not_passed(&self, folder: &StorePath, view: &JobView) -> Result<()> {
        let newest = match view.newest().map(|newest| newest.folder) {
            Some(newest) if self.must_be_newest => newest,
            _ => return Ok(()),
        };
        let message = if !self.is_own {
            format!(
                "it is of another job, and this one has checkpoints of its own, to checkpoint {}",
                newest.checkpoint
            )
        } else if newest.checkpoint > self.checkpoint {
            format!(
                "it is of checkpoint {}, and the job has gone on to checkpoint {}",
                self.checkpoint, newest.checkpoint
            )
        } else if newest.epoch > self.epoch {
            format!("a later run of the job has gone on without it, to checkpoint {}", newest.checkpoint)
        } else {
            return Ok(());
        };
        Err(Error::invalid(OPERATION, message).with_object(folder).with_advice(
            "leave it out to begin with the newest; to rewind, though what was put out since is put out again, say so \
             (`StartFrom::Rewind`, --rewind)",
        ))
    }
}

/// Whether a job may begin as it is to, before anything is claimed for it. Returns what it begins with, if that is named.
///
/// # Errors
/// [`ErrorKind::NotFound`] if nothing lies there; [`ErrorKind::InvalidInput`] if the job has gone on from it; as [`check_state_is_taken`],
/// [`read_checkpoint`] and [`JobView::read`].
pub(super) async fn check_start(store: &StoreRef, job: &JobId, options: &ManagerOptions) -> Result<Option<Named>> {
    let (StartFrom::Folder(folder) | StartFrom::Rewind(folder)) = &options.start_from else { return Ok(None) };
    let found = read_checkpoint(store.clone(), Some(folder.clone())).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, OPERATION, "there is no checkpoint or savepoint")
            .with_object(folder)
            .with_advice("name the folder that has a `_metadata`, relative to the store"),
        _ => error,
    })?;
    options
        .check_takes_state_of(&found.metadata)
        .map_err(|error| error.with_note(format!("the checkpoint is {folder}")))?;
    let named = Named {
        checkpoint: found.metadata.checkpoint,
        epoch: found.metadata.epoch,
        must_be_newest: matches!(options.start_from, StartFrom::Folder(_)),
        is_own: found.metadata.job == *job,
    };
    if named.must_be_newest {
        named.check_not_passed(folder, &JobView::read(&**store, &JobLayout::new(job.clone())?).await?)?;
    }
    Ok(Some(named))
}

fn is_damaged(folder: &StorePath) -> Error {
    Error::corrupt(OPERATION, folder, "it is damaged, as the worker that restored it has found")
}
