//! Finding, opening and checking the files of a folder: the steps of one attempt.

use super::*;
use crate::rocksfolder::log::LogReader;
use crate::rocksfolder::table;
use crate::rocksfolder::version::{LiveBlobFile, LiveTable};

/// The first four bytes of a blob file (`db/blob/blob_log_format.h`), little-endian.
const BLOB_MAGIC: [u8; 4] = 2_395_959u32.to_le_bytes();

/// One attempt; see the module above for the order of its steps.
pub(super) fn collect(
    path: &Path,
    seen: &mut Seen,
    options: ReadOptions<'_>,
) -> Result<(FolderVersion, Vec<FolderFile>)> {
    let (mut version, manifest_bytes) = read_manifest(path, seen)?;
    let listing = Listing::read(path)?;
    let mut files = Vec::new();
    for (family, table) in version.tables() {
        files.push(table_file(path, &family.name, table, options)?);
    }
    for (_, blob) in version.blob_files() {
        files.push(blob_file(path, blob)?);
    }
    // A log is begun before any edit tells of it, so its number may be one that the MANIFEST calls free.
    // RocksDB does the same when it recovers (`MarkFileNumberUsed`).
    if let Some(newest) = listing.logs.last() {
        version.next_file_number = version.next_file_number.max(newest.saturating_add(1));
    }
    files.extend(log_files(path, &version, &listing)?);
    if let Some(number) = listing.newest_options {
        let name = format!("OPTIONS-{number:06}");
        let content = read_small(path, &name, MAX_OPTIONS_BYTES).map_err(gone_since_listed)?;
        if let Some(wal_dir) = foreign_wal_dir(&content, path).filter(|_| !options.logs_are_in_folder) {
            let message = format!("its write-ahead log lies in another folder, `{wal_dir}` (option wal_dir)");
            return Err(Error::new(ErrorKind::Unsupported, READ, message)
                .with_object(path.display())
                .with_advice("make a checkpoint with RocksDB and read that folder with its logs taken as they are"));
        }
        files.push(small_file(name, FileKind::Options, content));
    }
    match read_small(path, "IDENTITY", MAX_NAME_FILE_BYTES) {
        Ok(content) => files.push(small_file("IDENTITY".to_owned(), FileKind::Identity, content)),
        // RocksDB can be told not to write one; the MANIFEST then has the id.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    files.push(plain_file(seen.manifest.clone(), FileKind::Manifest, manifest_bytes));
    files.push(small_file("CURRENT".to_owned(), FileKind::Current, seen.current.clone()));
    Ok((version, files))
}

fn read_manifest(path: &Path, seen: &mut Seen) -> Result<(FolderVersion, u64)> {
    let object = path.join(&seen.manifest);
    let manifest = open(path, &seen.manifest).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::corrupt(READ, object.display(), "CURRENT names this MANIFEST, and it is not there")
        }
        _ => error,
    })?;
    let length = manifest.metadata().map_err(|error| Error::io(READ, object.display(), error))?.len();
    seen.manifest_bytes = length;
    let replayed = FolderVersion::replay(std::io::BufReader::new(manifest).take(length));
    let replayed = replayed.map_err(|error| error.with_object(object.display()))?;
    Ok((replayed.version, replayed.complete_bytes))
}

/// What is found by listing rather than by name.
#[derive(Default)]
struct Listing {
    /// Numbers of the write-ahead logs, ascending.
    logs: Vec<u64>,
    newest_options: Option<u64>,
}

impl Listing {
    fn read(path: &Path) -> Result<Self> {
        let io = |error| Error::io("list a RocksDB folder", path.display(), error);
        let mut listing = Self::default();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            match name.to_str().and_then(names::parse) {
                Some(Name::Wal(number)) => listing.logs.push(number),
                Some(Name::Options(number)) => listing.newest_options = listing.newest_options.max(Some(number)),
                None => {}
            }
        }
        listing.logs.sort_unstable();
        listing.logs.dedup();
        Ok(listing)
    }
}

fn table_file(path: &Path, family: &str, table: &LiveTable, options: ReadOptions<'_>) -> Result<FolderFile> {
    let meta = &table.meta;
    let name = names::table_name(meta.number);
    if meta.path_id != 0 {
        let message = format!("the table lies in another folder (path {} of db_paths or cf_paths)", meta.path_id);
        return Err(Error::new(ErrorKind::Unsupported, READ, message)
            .with_object(path.join(&name).display())
            .with_advice("make a checkpoint with RocksDB, which gathers all files, and give that folder"));
    }
    check_length(path, &name, meta.size_bytes)?;
    let identity = table.identity();
    let known = identity.as_ref().is_some_and(|identity| options.is_known.is_some_and(|is_known| is_known(identity)));
    if !known {
        let mut file = open(path, &name)?;
        table::check_magic(&mut file, meta.size_bytes)
            .map_err(|error| error.with_object(path.join(&name).display()))?;
    }
    let file = plain_file(name, FileKind::Sst, meta.size_bytes);
    Ok(FolderFile { identity, table: Some(table.info(family)), ..file })
}

fn blob_file(path: &Path, blob: &LiveBlobFile) -> Result<FolderFile> {
    let name = names::blob_name(blob.meta.number);
    check_length(path, &name, blob.size_bytes())?;
    let mut magic = [0; BLOB_MAGIC.len()];
    let read = open(path, &name)?.read_exact(&mut magic);
    read.map_err(|error| Error::io(READ, path.join(&name).display(), error))?;
    if magic != BLOB_MAGIC {
        return Err(Error::corrupt(READ, path.join(&name).display(), "it does not begin as a blob file does"));
    }
    Ok(plain_file(name, FileKind::Blob, blob.size_bytes()))
}

/// The logs that are needed, with the lengths that belong to the copy.
fn log_files(path: &Path, version: &FolderVersion, listing: &Listing) -> Result<Vec<FolderFile>> {
    let first = version.first_needed_log();
    let needed = |number: &u64| *number >= first || (version.prev_log_number > 0 && *number == version.prev_log_number);
    let numbers: Vec<u64> = listing.logs.iter().copied().filter(needed).collect();
    let newest = numbers.last().copied();
    let files = newest_first(&numbers, |number| log_file(path, number, Some(number) == newest))?;
    for (number, synced_bytes) in &version.tracked_logs {
        let name = names::wal_name(*number);
        let there = files.iter().find(|file| file.name == name).map(|file| file.size_bytes);
        let Some(synced_bytes) = synced_bytes.filter(|_| needed(number)) else { continue };
        if there.is_none_or(|there| there < synced_bytes) {
            let message = format!("the MANIFEST says that {synced_bytes} bytes of it were synced, found: {there:?}");
            return Err(Error::corrupt(READ, path.join(&name).display(), message));
        }
    }
    Ok(files)
}

/// Looks at each log, the newest first, and gives them back in order of their numbers. RocksDB begins a log before
/// it has written the end of the one before (`manual_wal_flush` keeps that in memory until then), but puts nothing
/// into the new one earlier. So an end that is not there yet when the older log is measured belongs to nothing that
/// was measured before; the other way round there could be a gap between the two.
pub(super) fn newest_first<T>(numbers: &[u64], mut look: impl FnMut(u64) -> Result<T>) -> Result<Vec<T>> {
    let mut found: Vec<T> = numbers.iter().rev().map(|number| look(*number)).collect::<Result<_>>()?;
    found.reverse();
    Ok(found)
}

/// A log, with the length up to its last complete record if it `is_newest`.
fn log_file(path: &Path, number: u64, is_newest: bool) -> Result<FolderFile> {
    let name = names::wal_name(number);
    let object = path.join(&name);
    let file = open(path, &name).map_err(gone_since_listed)?;
    let mut length = file.metadata().map_err(|error| Error::io(READ, object.display(), error))?.len();
    if is_newest {
        let mut reader = LogReader::new(std::io::BufReader::new(file).take(length), number);
        reader.scan().map_err(|error| {
            error
                .with_object(object.display())
                .with_advice("open and close the database with RocksDB, which decides what of the log counts")
        })?;
        length = reader.complete_bytes();
    }
    Ok(plain_file(name, FileKind::Wal, length))
}

fn check_length(path: &Path, name: &str, expected_bytes: u64) -> Result<()> {
    let object = path.join(name);
    let found = match std::fs::symlink_metadata(&object) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::corrupt(READ, object.display(), "the MANIFEST names it, and it is not there")
                .with_advice(
                    "files in other folders (db_paths, cf_paths) are not supported; else the folder is damaged",
                ));
        }
        Err(error) => return Err(Error::io(READ, object.display(), error)),
    };
    if !found.is_file() {
        return Err(not_plain(&object));
    }
    if found.len() != expected_bytes {
        let message = format!("it has {} bytes, and {expected_bytes} by the MANIFEST", found.len());
        return Err(Error::corrupt(READ, object.display(), message));
    }
    Ok(())
}

/// A file that the list had and that is gone was replaced, with or without an edit in the MANIFEST.
fn gone_since_listed(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound { error.with_kind(ErrorKind::Changed) } else { error }
}

fn not_plain(object: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, READ, "it is no plain file (a symbolic link, say)")
        .with_object(object.display())
        .with_advice("give a folder that holds the files themselves")
}

/// Opens a plain file of the folder, following no symbolic link and never waiting for a pipe.
pub(super) fn open(path: &Path, name: &str) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let object = path.join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(&object, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(not_plain(&object)),
        Err(error) => return Err(Error::io(READ, object.display(), error.into())),
    };
    let found = file.metadata().map_err(|error| Error::io(READ, object.display(), error))?;
    if found.is_file() { Ok(file) } else { Err(not_plain(&object)) }
}

/// Reads a whole file of at most `limit_bytes`.
pub(super) fn read_small(path: &Path, name: &str, limit_bytes: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = open(path, name)?;
    let read = file.take(limit_bytes + 1).read_to_end(&mut content);
    read.map_err(|error| Error::io(READ, path.join(name).display(), error))?;
    if content.len() as u64 > limit_bytes {
        return Err(Error::new(ErrorKind::LimitExceeded, READ, format!("it is longer than {limit_bytes} bytes"))
            .with_object(path.join(name).display()));
    }
    Ok(content)
}

fn plain_file(name: String, kind: FileKind, size_bytes: u64) -> FolderFile {
    FolderFile { name, kind, size_bytes, identity: None, table: None, content: None }
}

fn small_file(name: String, kind: FileKind, content: Vec<u8>) -> FolderFile {
    FolderFile { content: Some(content.clone()), ..plain_file(name, kind, content.len() as u64) }
}
