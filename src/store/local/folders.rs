//! Folders: making them, making their entries durable, and pruning empty ones.
//!
//! An entry is durable once its folder was synced, and that folder's own entry in its parent, and so
//! on up. Syncing the whole chain for every object would cost four syncs where one is needed, so
//! [`Folders`] remembers which folders' entries it has synced. Memory of a path is not enough: a
//! folder may be pruned and made again by another process. So a folder is remembered by device,
//! inode and time of birth, and where the file system tells no birth it is not remembered at all.
//!
//! **A failed sync of a folder poisons the store.** Linux reports a lost write once; the next sync
//! of the same folder succeeds although the entry is gone. So after one failure every later write and
//! delete through this `LocalStore` is refused: only opening it anew, with a claim that looks at
//! what is really there, starts again. Syncs of one folder run one at a time, or a neighbour's sync
//! could slip between the failure and the poison. Writers that wait their turn share one sync: a
//! sync that begins after a rename covers it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::disk::Disk;
use crate::error::{Error, ErrorKind, Result};

/// How often making a folder is tried while deleters prune the same folder.
const MAX_FOLDER_ATTEMPTS: usize = 1000;

/// How many folders are remembered as durable. Beyond it all are forgotten: that only costs syncs.
const MAX_REMEMBERED_FOLDERS: usize = 16_384;

/// The folders of one store.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) root: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    /// The deepest folder above the root that was there when the store was opened. What lies above
    /// it was there before us and is durable by assumption.
    anchor: PathBuf,
    root_was_there: bool,
    syncs: Mutex<HashMap<PathBuf, Arc<FolderSync>>>,
    durable: Mutex<HashMap<PathBuf, Identity>>,
    poison: Mutex<Option<String>>,
}

/// Lets those who wait for a sync of one folder share it.
#[derive(Debug, Default)]
struct FolderSync {
    asked: AtomicU64,
    /// The greatest ticket that a successful sync covers; held while syncing.
    covered: Mutex<u64>,
}

/// What tells a folder from another one that later got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    birth: SystemTime,
}

impl Identity {
    fn of(folder: &Path) -> Option<Self> {
        let metadata = fs::metadata(folder).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino(), birth: metadata.created().ok()? })
    }
}

impl Folders {
    pub(super) fn new(root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        let anchor = root.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(&root).to_path_buf();
        Self {
            root_was_there: root.is_dir(),
            anchor,
            root,
            disk,
            syncs: Mutex::default(),
            durable: Mutex::default(),
            poison: Mutex::default(),
        }
    }

    /// Refuses to go on after a failed sync of a folder.
    pub(super) fn check_sound(&self, operation: &'static str) -> Result<()> {
        match &*self.poison.lock() {
            None => Ok(()),
            Some(cause) => Err(Error::new(ErrorKind::Io, operation, cause.clone())
                .with_advice("check the device and the kernel's log, then open the store anew")),
        }
    }

    /// Makes `folder` and what is missing above it, beside others who prune empty folders.
    pub(super) fn make(&self, folder: &Path) -> io::Result<()> {
        for _ in 0..MAX_FOLDER_ATTEMPTS {
            match self.disk.make_folder(folder) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::metadata(folder) {
                    Ok(metadata) if metadata.is_dir() => return Ok(()),
                    Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
                    Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                    Err(other) => return Err(other),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => match folder.parent() {
                    Some(parent) => self.make(parent)?,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "others keep removing the folder"))
    }

    /// Makes the entries of `folder` durable: those that were there when this was called, and the
    /// folders on the way to it.
    pub(super) fn sync_chain(&self, folder: &Path) -> Result<()> {
        self.sync_one(folder)?;
        let mut child = folder;
        while child != self.anchor {
            let Some(parent) = child.parent() else { break };
            let identity = Identity::of(child);
            let known = self.durable.lock().get(child).copied();
            if identity.is_none() || identity != known {
                // Taken before the sync: the entry of this very folder is what the sync covers.
                self.sync_parent(parent)?;
                if let Some(identity) = identity {
                    self.remember(child, identity);
                }
            }
            child = parent;
        }
        Ok(())
    }

    /// Makes the entries of `folder` durable, once for all who ask meanwhile.
    pub(super) fn sync_one(&self, folder: &Path) -> Result<()> {
        let sync = Arc::clone(self.syncs.lock().entry(folder.to_path_buf()).or_default());
        let ticket = sync.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let result = self.sync_covering(&sync, ticket, folder);
        let mut syncs = self.syncs.lock();
        drop(sync);
        // Ours was the last hold beside the map's, and new ones are taken under its lock.
        if syncs.get(folder).is_some_and(|left| Arc::strong_count(left) == 1) {
            syncs.remove(folder);
        }
        result
    }

    fn sync_covering(&self, sync: &FolderSync, ticket: u64, folder: &Path) -> Result<()> {
        let mut covered = sync.covered.lock();
        self.check_sound("sync a folder")?;
        if *covered >= ticket {
            return Ok(());
        }
        let upto = sync.asked.load(Ordering::SeqCst);
        // Failing to open it loses nothing: only a failed sync does.
        let open = fs::File::open(folder).map_err(|error| Error::io("open a folder", folder.display(), error))?;
        match self.disk.sync_folder(&open, folder) {
            Ok(()) => {
                *covered = upto;
                Ok(())
            }
            Err(error) => {
                let cause = format!("an earlier sync of {} failed ({error})", folder.display());
                self.poison.lock().get_or_insert(cause);
                // Never a retryable kind, whatever the system calls it.
                Err(Error::io("sync a folder", folder.display(), error).with_kind(ErrorKind::Io))
            }
        }
    }

    /// Syncs a folder above another. Above a root that was there already, a folder that we may not
    /// open is left out: we made nothing in it.
    fn sync_parent(&self, parent: &Path) -> Result<()> {
        match self.sync_one(parent) {
            Err(error)
                if error.kind() == ErrorKind::PermissionDenied
                    && self.root_was_there
                    && !parent.starts_with(&self.root) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    fn remember(&self, folder: &Path, identity: Identity) {
        let mut durable = self.durable.lock();
        if durable.len() >= MAX_REMEMBERED_FOLDERS {
            durable.clear();
        }
        durable.insert(folder.to_path_buf(), identity);
    }

    /// Removes `folder` and the folders above it as far as they are empty; never the root. Not
    /// durable, and need not be: an empty folder that comes back is no object.
    pub(super) fn prune(&self, folder: &Path) {
        let mut empty = folder;
        while empty != self.root && empty.starts_with(&self.root) {
            if self.disk.remove_empty_folder(empty).is_err() {
                return;
            }
            self.durable.lock().remove(empty);
            let Some(parent) = empty.parent() else { return };
            empty = parent;
        }
    }
}
