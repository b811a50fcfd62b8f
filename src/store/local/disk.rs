//! The system calls whose order decides what a power cut leaves behind.
//!
//! They sit behind a trait for one reason: a test can record them and make any one of them fail,
//! and so prove that an object is synced before it is renamed, that every folder that got an entry
//! is synced before `Ok`, and that a failed sync is never retried into a false `Ok`. Calls that only
//! look (open, stat, read a folder) are not here.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempPath;

use crate::store::temporary::TEMPORARY_PREFIX;

/// Objects are readable for whom the process's umask allows, as if a shell had made them. (The
/// crate `tempfile` alone would make them readable for their owner only.)
const OBJECT_MODE: u32 = 0o666;

/// Every call that changes the disk.
pub(super) trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes one folder; its parent must be there.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)
    }

    /// Makes the new, empty file `name` in `folder`. It is removed when the path is dropped.
    fn create_temporary(&self, folder: &Path, name: &str) -> io::Result<(File, TempPath)> {
        let named = tempfile::Builder::new()
            .prefix(name)
            .rand_bytes(0)
            .permissions(Permissions::from_mode(OBJECT_MODE))
            .tempfile_in(folder)?;
        Ok(named.into_parts())
    }

    /// Appends all of `bytes`.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Brings a file's bytes and length to the device.
    fn sync_file(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    /// Gives the file `from` the name `to`, or fails with `AlreadyExists`.
    fn rename_to_unused(&self, from: &Path, to: &Path) -> io::Result<()> {
        rename_no_replace(from, to)
    }

    /// Brings a folder's entries to the device.
    fn sync_folder(&self, folder: &File, _path: &Path) -> io::Result<()> {
        folder.sync_all()
    }

    /// Removes one file (never a folder).
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Removes one folder if it is empty.
    fn remove_empty_folder(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir(folder)
    }
}

/// The operating system's calls.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// Renames without replacing. Where the file system does not know such a rename, a hard link does
/// the same; where it does not know hard links either (some FUSE and network file systems), it looks
/// first. The last is not exclusive, which costs nothing here: icecore never uses a name twice, and
/// the check only makes a mistake loud.
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    match exclusive_rename(from, to) {
        Err(error) if is_unsupported(&error) => link_or_look(from, to),
        done => done,
    }
}

fn link_or_look(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            if let Err(error) = fs::remove_file(from) {
                tracing::warn!(path = %from.display(), %error, "a temporary name of a finished object stays behind");
            }
            return Ok(());
        }
        Err(error) if is_unsupported(&error) => {}
        Err(error) => return Err(error),
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn exclusive_rename(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(target_os = "linux"))]
fn exclusive_rename(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(io::Error::from(rustix::io::Errno::NOSYS))
}

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let unsupported = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::PERM];
    error.raw_os_error().is_some_and(|code| unsupported.iter().any(|errno| errno.raw_os_error() == code))
}

/// Whether `name` is an unfinished object's.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_never_replaces_with_the_kernels_help_or_without() {
        for rename in [rename_no_replace, link_or_look] {
            let folder = tempfile::tempdir().unwrap();
            let (a, b) = (folder.path().join("a"), folder.path().join("b"));
            fs::write(&a, "a").unwrap();
            fs::write(&b, "b").unwrap();
            assert_eq!(rename(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&b).unwrap(), b"b");
            fs::remove_file(&b).unwrap();
            rename(&a, &b).unwrap();
            assert_eq!(fs::read(&b).unwrap(), b"a");
            assert!(!a.exists());
        }
    }

    #[test]
    fn objects_are_not_private_to_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let shell = folder.path().join("shell");
        fs::write(&shell, "").unwrap();
        let (file, _path) = RealDisk.create_temporary(folder.path(), ".tmp-x").unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode(),
            fs::metadata(&shell).unwrap().permissions().mode(),
            "the mode is not the umask's"
        );
    }
}
