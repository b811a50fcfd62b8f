//! A folder that appears complete or not at all (I7).

use std::fs;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Uid;

/// A folder beside its target, filled first and renamed last. Dropped before
/// [`StagedFolder::publish`], it is removed.
#[derive(Debug)]
pub struct StagedFolder {
    staging: PathBuf,
    target: PathBuf,
    published: bool,
}

impl StagedFolder {
    /// Makes the staging folder for `target`, which must not exist or be an empty folder.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if something is at the target; io errors as they are.
    pub fn create(env: &Env, target: &Path) -> Result<Self> {
        refuse_content(target)?;
        let parent = folder_of(target);
        fs::create_dir_all(parent).map_err(|error| Error::local_io("make the folder", parent.display(), error))?;
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Error::invalid("restore", "the target has no usable name").with_object(target.display()))?;
        let staging = parent.join(format!(".{name}.restoring-{}", Uid::random(&*env.randomness)));
        fs::create_dir(&staging).map_err(|error| Error::local_io("make the folder", staging.display(), error))?;
        Ok(Self { staging, target: target.to_owned(), published: false })
    }

    /// Where to put the files.
    pub fn path(&self) -> &Path {
        &self.staging
    }

    /// Syncs the folder and renames it to its target.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if something appeared at the target meanwhile.
    pub fn publish(mut self) -> Result<()> {
        let fail = |error| Error::io("publish the restored folder", self.target.display(), error);
        sync_tree(&self.staging)?;
        refuse_content(&self.target)?;
        // Replaces an empty folder; fails on anything else, which is what all or nothing wants.
        fs::rename(&self.staging, &self.target).map_err(fail)?;
        self.published = true;
        fs::File::open(folder_of(&self.target)).and_then(|folder| folder.sync_all()).map_err(|error| {
            fail(error).with_advice("the folder is there, complete and verified; only a power cut could undo it")
        })
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_dir_all(&self.staging)
        {
            tracing::warn!(folder = %self.staging.display(), %error, "could not remove an unfinished restore");
        }
    }
}

/// The folder that holds the entry of `target`: the current one for a bare name.
fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a target that is anything but absent or an empty folder.
pub(crate) fn refuse_content(target: &Path) -> Result<()> {
    match fs::read_dir(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("look at the restore target", target.display(), error)
            .with_advice("name a folder that does not exist yet")),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::AlreadyExists, "restore", "the target folder is not empty")
                .with_object(target.display())
                .with_advice("name a folder that does not exist yet; nothing was changed")),
        },
    }
}

/// Syncs every folder of a tree; its files were synced as they were written.
fn sync_tree(folder: &Path) -> Result<()> {
    let fail = |error| Error::io("sync the restored folder", folder.display(), error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_type().map_err(fail)?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    fs::File::open(folder).and_then(|opened| opened.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `publish` syncs this folder, or the restored one may be gone after a power cut.
    #[test]
    fn a_bare_name_lies_in_the_current_folder() {
        for (target, folder) in [("db", "."), ("./db", "."), ("a/db", "a"), ("/db", "/")] {
            assert_eq!(folder_of(Path::new(target)), Path::new(folder), "{target}");
        }
    }

    #[tokio::test]
    async fn nothing_is_left_of_an_unfinished_folder() {
        let env = Env::system().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("db");
        let staged = StagedFolder::create(&env, &target).unwrap();
        fs::write(staged.path().join("f"), b"x").unwrap();
        drop(staged);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_target_with_content_is_never_touched() {
        let env = Env::system().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("db");
        fs::create_dir(&target).unwrap();
        // An empty folder may be there.
        let staged = StagedFolder::create(&env, &target).unwrap();
        fs::write(staged.path().join("f"), b"new").unwrap();
        // Something appears while the restore runs.
        fs::write(target.join("f"), b"old").unwrap();
        assert_eq!(staged.publish().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(target.join("f")).unwrap(), b"old");
        assert_eq!(StagedFolder::create(&env, &target).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
