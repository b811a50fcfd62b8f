//! A database folder on disk: which files, up to which length, make one consistent copy.
//!
//! Nothing is locked and RocksDB is not asked: another process may be writing while the folder is
//! read. What makes the result consistent is an order of steps:
//!
//! 1. `CURRENT`, then the MANIFEST it names, up to its last whole edit: the version.
//! 2. The list of write-ahead logs, and only then their lengths. A log that is not the newest in the
//!    list was finished when the list was made, so no write lies between what is taken of it and what is
//!    taken of the next one. Of the newest, the whole records that are there are taken.
//! 3. Every file of the version is there and has the length that the MANIFEST tells.
//! 4. `CURRENT` and the MANIFEST's length are still those of step 1. RocksDB deletes, renames and reuses
//!    a file only after an edit that makes it superfluous, so nothing of the version was gone before.
//!
//! If step 4 fails the folder is read again, a few times. The same check, made by
//! [`RocksFolder::is_still_current`] after the files have been copied or linked, proves that the copy is of
//! one version; if it says no, files may have been missing or reused under the copy.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::names::{self, Name};
use super::options::foreign_wal_dir;
use super::version::FolderVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::FileKind;
use crate::metadata::{FileIdentity, TableInfo};

mod files;

/// How often a folder that changes while it is read is read again.
pub const MAX_READ_ATTEMPTS: u32 = 8;
/// The longest `CURRENT` or `IDENTITY`, in bytes.
pub const MAX_NAME_FILE_BYTES: u64 = 4096;
/// The longest OPTIONS file, in bytes.
pub const MAX_OPTIONS_BYTES: u64 = 16 * 1024 * 1024;

const READ: &str = "read a RocksDB folder";

/// How to read a folder.
#[derive(Clone, Copy, Default)]
pub struct ReadOptions<'a> {
    /// Tells of which tables a copy is known already: they are not opened to check their magic number.
    pub is_known: Option<&'a dyn Fn(&FileIdentity) -> bool>,
    /// Take the write-ahead logs in the folder for all there are, even if OPTIONS names another folder
    /// for them. True for a checkpoint of a database with a `wal_dir`: RocksDB copies its logs in.
    pub logs_are_in_folder: bool,
}

/// One file of a consistent copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderFile {
    /// Its name in the folder.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// How many bytes, from its beginning, belong to the copy. It may be longer, or grow.
    pub size_bytes: u64,
    /// What tells a table apart without reading it.
    pub identity: Option<FileIdentity>,
    /// What the MANIFEST says of a table.
    pub table: Option<TableInfo>,
    /// The bytes themselves, for small files that RocksDB replaces at any time. Copy these.
    pub content: Option<Vec<u8>>,
}

/// A database folder, read at one moment.
#[derive(Clone, Debug)]
pub struct RocksFolder {
    path: PathBuf,
    version: FolderVersion,
    files: Vec<FolderFile>,
    seen: Seen,
}

/// What tells whether the folder has moved on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    current: Vec<u8>,
    manifest: String,
    /// Length of the MANIFEST when it was opened; 0 before that.
    manifest_bytes: u64,
}

impl RocksFolder {
    /// Reads the folder at `path` with the default [`ReadOptions`]. Blocks.
    ///
    /// # Errors
    /// As [`Self::read_with`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::read_with(path, ReadOptions::default())
    }

    /// Reads the folder at `path`. Blocks; opens every table that is not known.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`]: no folder, or no RocksDB folder (it has no `CURRENT`).
    /// - [`ErrorKind::Corrupt`]: a file is missing, has another length than the MANIFEST says or is no
    ///   table, or the MANIFEST is damaged.
    /// - [`ErrorKind::Changed`]: it kept changing during [`MAX_READ_ATTEMPTS`] attempts.
    /// - [`ErrorKind::Unsupported`]: files in other folders (`db_paths`, `cf_paths`, `wal_dir`), symbolic
    ///   links, or features of a newer RocksDB.
    pub fn read_with(path: impl AsRef<Path>, options: ReadOptions<'_>) -> Result<Self> {
        let path = path.as_ref();
        for _ in 0..MAX_READ_ATTEMPTS {
            let mut seen = Seen::read(path)?;
            match files::collect(path, &mut seen, options) {
                Ok((version, files)) if seen.holds(path)? => {
                    return Ok(Self { path: path.to_path_buf(), version, files, seen });
                }
                Err(error) if error.kind() != ErrorKind::Changed && seen.holds(path)? => return Err(error),
                // Whatever was found, it was found in a folder that was changing: look again.
                Ok(_) | Err(_) => {}
            }
        }
        let message = format!("it changed each of the {MAX_READ_ATTEMPTS} times that it was read");
        Err(Error::new(ErrorKind::Changed, READ, message)
            .with_object(path.display())
            .with_advice("make a checkpoint with RocksDB and give that folder, or try again when fewer writes go on"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the database held, logs apart.
    pub fn version(&self) -> &FolderVersion {
        &self.version
    }

    /// The files of a consistent copy: tables, blob files, logs in order, OPTIONS, IDENTITY, MANIFEST,
    /// `CURRENT`.
    pub fn files(&self) -> &[FolderFile] {
        &self.files
    }

    /// Length of the copy in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    /// Opens one of [`Self::files`] for reading, following no symbolic link.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] if it is gone because the database moved on; [`ErrorKind::NotFound`] if it
    /// is gone otherwise; [`ErrorKind::Unsupported`] if it is no plain file; what opening gives.
    pub fn open(&self, file: &FolderFile) -> Result<File> {
        files::open(&self.path, &file.name).map_err(|error| match self.is_still_current() {
            Ok(true) => error,
            _ => error.with_kind(ErrorKind::Changed).with_advice("read the folder again"),
        })
    }

    /// Whether the database still is at the version that was read. Writes to the newest log alone do not
    /// count: they are behind what was read.
    ///
    /// Ask after the files have been copied or linked: `true` proves that all of them were those of the
    /// version.
    ///
    /// # Errors
    /// What reading `CURRENT` gives, other than that it is gone.
    pub fn is_still_current(&self) -> Result<bool> {
        self.seen.holds(&self.path)
    }
}

impl Seen {
    fn read(path: &Path) -> Result<Self> {
        let current = match files::read_small(path, "CURRENT", MAX_NAME_FILE_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::new(ErrorKind::NotFound, READ, "it is no RocksDB folder: it has no CURRENT")
                    .with_object(path.display())
                    .with_advice("give the folder that holds CURRENT and the MANIFEST"));
            }
            other => other?,
        };
        let manifest = names::manifest_of_current(&current).map(str::to_owned).ok_or_else(|| {
            Error::corrupt(READ, path.join("CURRENT").display(), "it does not hold the name of a MANIFEST")
        })?;
        Ok(Self { current, manifest, manifest_bytes: 0 })
    }

    fn holds(&self, path: &Path) -> Result<bool> {
        match files::read_small(path, "CURRENT", MAX_NAME_FILE_BYTES) {
            Ok(current) if current == self.current => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        // Before its length was seen (it may have been missing), an unchanged CURRENT is all there is.
        let length = std::fs::symlink_metadata(path.join(&self.manifest)).map(|manifest| manifest.len());
        Ok(self.manifest_bytes == 0 || length.is_ok_and(|length| length == self.manifest_bytes))
    }
}

#[cfg(test)]
mod tests;
