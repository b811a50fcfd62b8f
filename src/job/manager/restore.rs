//! What a generation of workers restores.

use super::Manager;
use super::options::{OnDamage, StartFrom};
use crate::error::{Error, ErrorKind, Result};
use crate::store::StorePath;

const OPERATION: &str = "choose what to restore";

impl Manager {
    /// The folder of a checkpoint or savepoint; `None`: nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Blocked`] if it is not known what counts; [`ErrorKind::Corrupt`] if what is to be restored is damaged, and the
    /// options, or what is there, allow nothing else.
    pub(super) fn choose_restore(&self) -> Result<Option<StorePath>> {
        let view = self.coordinator.view();
        if view.start.is_none() {
            // Nothing counts in such a view, which is not to say that there is nothing.
            return Err(Error::new(ErrorKind::Blocked, OPERATION, "what counts is not known")
                .with_object(view.layout.root())
                .with_advice("start the job again"));
        }
        let mut folders = view.checkpoints.keys().rev().copied().peekable();
        let newest_is_own = folders.peek().is_some_and(|newest| newest.epoch == self.coordinator.epoch());
        let damaged = self.desk.known_damage();
        if let StartFrom::Folder(folder) = &self.options.start_from
            && !newest_is_own
        {
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

fn is_damaged(folder: &StorePath) -> Error {
    Error::corrupt(OPERATION, folder, "it is damaged, as the worker that restored it has found")
}
