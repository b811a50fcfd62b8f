//! What a generation of workers restores.

use std::collections::BTreeSet;

use super::Manager;
use super::options::{ManagerOptions, OnDamage, StartFrom};
use crate::coordinator::shared_name;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, Epoch, JobId, JobLayout, SharedName};
use crate::metadata::{CheckpointMetadata, OperatorState};
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

    /// What only the damaged checkpoints have that are passed over is shared with no later one: whatever comes to the same content again is
    /// stored anew, or the next checkpoint would be as damaged.
    ///
    /// # Errors
    /// As [`Coordinator::distrust`](crate::coordinator::Coordinator::distrust).
    pub(super) async fn distrust_what_is_passed_over(&self, restore: &Restore) -> Result<()> {
        if restore.passed_over.is_empty() {
            return Ok(());
        }
        let view = self.coordinator.view();
        let shared = |folder: &CheckpointFolder| -> Vec<SharedName> {
            let metadata = view.checkpoints.get(folder).and_then(|checkpoint| checkpoint.content.as_ref().ok());
            let files = metadata.into_iter().flat_map(|metadata| metadata.files());
            files.filter_map(|file| shared_name(&view.layout, file)).collect()
        };
        let restored: BTreeSet<SharedName> = restore.own.iter().flat_map(shared).collect();
        let names: BTreeSet<SharedName> = restore.passed_over.iter().flat_map(shared).collect();
        let names: Vec<SharedName> = names.difference(&restored).copied().collect();
        if !names.is_empty() {
            self.coordinator.distrust(&names, "only damaged checkpoints have it").await?;
        }
        Ok(())
    }

    /// What the next generation restores.
    ///
    /// # Errors
    /// [`ErrorKind::Blocked`] if it is not known what counts; [`ErrorKind::Corrupt`] if what is to be restored is damaged, and the
    /// options, or what is there, allow nothing else; as [`ManagerOptions::check_takes_state_of`].
    pub(super) fn choose_restore(&self) -> Result<Restore> {
        let view = self.coordinator.view();
        if view.start.is_none() {
            // Nothing counts in such a view, which is not to say that there is nothing.
            return Err(Error::new(ErrorKind::Blocked, OPERATION, "what counts is not known")
                .with_object(view.layout.root())
                .with_advice("start the job again"));
        }
        let restore = self.sound_restore(&view)?;
        // What was named to the job was read when it began; of one that cannot be read the workers tell.
        let own = restore.own.and_then(|folder| view.checkpoints.get(&folder));
        if let (Some(Ok(metadata)), Some(path)) = (own.map(|own| &own.content), &restore.path) {
            self.options.check_takes_state_of(metadata, path)?;
        }
        Ok(restore)
    }

    fn sound_restore(&self, view: &JobView) -> Result<Restore> {
        let named = match &self.options.start_from {
            StartFrom::Folder(folder) | StartFrom::Rewind(folder) => Some(folder),
            StartFrom::Newest => None,
        };
        // Behind what was named to it a job does not go back: what it has itself, then that.
        let counts = |folder: &CheckpointFolder| named.is_none() || folder.epoch == self.coordinator.epoch();
        let own: Vec<CheckpointFolder> = view.checkpoints.keys().rev().copied().filter(counts).collect();
        if let (Some(folder), Some(begins_with), true) = (named, &self.begins_with, own.is_empty()) {
            // Whoever had the job may have gone on until it was claimed.
            begins_with.check_not_passed(folder, view)?;
        }
        let mut choices = Vec::new();
        for folder in own {
            choices.push((view.layout.checkpoint(folder)?, Some(folder)));
        }
        choices.extend(named.map(|folder| (folder.clone(), None)));
        let Some((newest, _)) = choices.first() else { return Ok(Restore::default()) };
        let damaged = self.desk.known_damage();
        if damaged.contains(newest) && self.options.on_damage == OnDamage::Fail {
            return Err(is_damaged(newest)
                .with_advice("look at it with `icecore verify`; `OnDamage::FallBack` restores the one before"));
        }
        let Some(at) = choices.iter().position(|(path, _)| !damaged.contains(path)) else {
            return Err(is_damaged(newest).with_note("there is no sound one before it that the job may go back to"));
        };
        if at > 0 {
            tracing::warn!(%newest, "the newest checkpoint is damaged: an older one is restored");
        }
        let passed_over = choices.iter().take(at).filter_map(|(_, folder)| *folder).collect();
        let (path, own) = choices.swap_remove(at);
        Ok(Restore { path: Some(path), own, passed_over })
    }
}

/// What a generation of workers restores.
#[derive(Debug, Default)]
pub(super) struct Restore {
    /// The folder of a checkpoint or savepoint; `None`: nothing.
    pub(super) path: Option<StorePath>,
    /// Which of the job's own checkpoints that is, if it was not named to it.
    own: Option<CheckpointFolder>,
    /// Newer ones, which are damaged.
    passed_over: Vec<CheckpointFolder>,
}

impl ManagerOptions {
    /// Whether the operators can go on with all the state that a checkpoint has: one that was renamed would begin with nothing, and its state go
    /// with the checkpoint, as would the outputs that a sink has not committed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming an operator of the checkpoint that has another max parallelism now, or that is not named, unless
    /// that is allowed.
    fn check_takes_state_of(&self, checkpoint: &CheckpointMetadata, folder: &StorePath) -> Result<()> {
        let check = |known: &OperatorState| match self.operators.iter().find(|named| named.operator == known.operator) {
            Some(named) => named.description(1).check_unchanged(&known.operator, known.max_parallelism),
            None if self.allow_non_restored_state => Ok(()),
            None => {
                Err(Error::invalid("begin with a checkpoint", "it has state of an operator that the job does not name")
                    .with_object(&known.operator)
                    .with_advice(
                        "name the operator as it was; to drop its state for good, say so (--allow-non-restored-state, \
                         `ManagerOptions::allow_non_restored_state`)",
                    ))
            }
        };
        let note = |error: Error| error.with_note(format!("the checkpoint is {folder}"));
        checkpoint.operators.iter().try_for_each(check).map_err(note)
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
/// [`ErrorKind::NotFound`] if nothing lies there; [`ErrorKind::InvalidInput`] if the job has gone on from it; as [`ManagerOptions::check_takes_state_of`],
/// [`read_checkpoint`] and [`JobView::read`].
pub(super) async fn check_start(store: &StoreRef, job: &JobId, options: &ManagerOptions) -> Result<Option<Named>> {
    let layout = JobLayout::new(job.clone())?;
    let (StartFrom::Folder(folder) | StartFrom::Rewind(folder)) = &options.start_from else {
        let view = JobView::read(&**store, &layout).await?;
        if let Some(newest) = view.newest()
            && let Ok(metadata) = &newest.content
        {
            options.check_takes_state_of(metadata, &layout.checkpoint(newest.folder)?)?;
        }
        return Ok(None);
    };
    let found = read_checkpoint(store.clone(), Some(folder.clone())).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, OPERATION, "there is no checkpoint or savepoint")
            .with_object(folder)
            .with_advice("name the folder that has a `_metadata`, relative to the store"),
        _ => error,
    })?;
    options.check_takes_state_of(&found.metadata, folder)?;
    let named = Named {
        checkpoint: found.metadata.checkpoint,
        epoch: found.metadata.epoch,
        must_be_newest: matches!(options.start_from, StartFrom::Folder(_)),
        is_own: found.metadata.job == *job,
    };
    if named.must_be_newest {
        named.check_not_passed(folder, &JobView::read(&**store, &layout).await?)?;
    }
    Ok(Some(named))
}

fn is_damaged(folder: &StorePath) -> Error {
    Error::corrupt(OPERATION, folder, "it is damaged, as the worker that restored it has found")
}
