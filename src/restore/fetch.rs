//! Fetches files in parallel, each verified before anyone may use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::StreamExt;

use super::checkpoint::Checkpoint;
use super::plan::is_immutable;
use super::staged::StagedFolder;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{FileEntry, total_bytes};
use crate::ownership::proven;
use crate::transfer::{
    NoProgress, Progress, TransferLimits, Unsynced, download_to_memory, download_unsynced, hash_file,
};

/// How files are fetched.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// How many files are fetched at once.
    pub limits: TransferLimits,
    /// Told as files are fetched.
    pub progress: Arc<dyn Progress>,
    /// Folders of databases that are no longer open. A file in them that has the recorded hash is
    /// linked rather than fetched. Never name a folder of a store here.
    pub local_folders: Vec<PathBuf>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { limits: TransferLimits::default(), progress: Arc::new(NoProgress), local_folders: Vec::new() }
    }
}

/// What fetching took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchReport {
    /// Files that came from the store.
    pub fetched_files: u64,
    /// Bytes that came from the store.
    pub fetched_bytes: u64,
    /// Files that were linked from a local folder after hashing them.
    pub linked_files: u64,
}

/// Restores the whole folder of files to `target`, which appears complete and verified or not at
/// all (I7).
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if the target has content; [`ErrorKind::Corrupt`] or
/// [`ErrorKind::NotFound`], naming every damaged file, if the checkpoint is not sound.
pub async fn restore_folder(
    env: &Env,
    checkpoint: &Checkpoint,
    files: &[FileEntry],
    target: &Path,
    options: &FetchOptions,
) -> Result<FetchReport> {
    let staged = StagedFolder::create(env, target)?;
    let report = fetch_files(env, checkpoint, files, staged.path(), options).await?;
    env.blocking(move || staged.publish()).await??;
    Ok(report)
}

/// Fetches files into the existing folder `folder`, under their local names. Reports all that is
/// damaged, not only the first.
///
/// # Errors
/// As [`restore_folder`]. The folder's content is of no use after an error.
pub async fn fetch_files<'a>(
    env: &Env,
    checkpoint: &Checkpoint,
    files: &'a [FileEntry],
    folder: &Path,
    options: &FetchOptions,
) -> Result<FetchReport> {
    options.progress.expect(files.len() as u64, total_bytes(files.iter().map(|file| file.size_bytes)));
    for file in files {
        if let Some(parent) = file.local_name.parent() {
            let parent = folder.join(parent.as_str());
            fs::create_dir_all(&parent).map_err(|error| Error::local_io("make the folder", parent.display(), error))?;
        }
    }
    // After a failure nothing new is begun, but what runs is waited for: a file that another thread still
    // writes would appear in the folder after its removal.
    let has_failed = &AtomicBool::new(false);
    let fetch = |file| async move {
        let outcome = match has_failed.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Cancelled, "fetch file", "another file could not be fetched")),
            false => fetch_one(env, checkpoint, file, folder, options).await,
        };
        (file, outcome)
    };
    let fetched = options.limits.run(files, |file| Some(file.size_bytes), fetch);
    // While the disk takes one in, others are fetched.
    let sync =
        |(file, outcome): (&'a FileEntry, _)| async move { (file, settle(env, outcome, &*options.progress).await) };
    let mut outcomes = fetched.map(sync).buffer_unordered(options.limits.total()).boxed();
    let mut report = FetchReport::default();
    let mut damaged: Vec<(String, Error)> = Vec::new();
    let mut failed: Option<Error> = None;
    while let Some((file, outcome)) = outcomes.next().await {
        match outcome {
            Ok(Fetched::FromStore) => {
                report.fetched_files += 1;
                report.fetched_bytes = report.fetched_bytes.saturating_add(file.size_bytes);
            }
            Ok(Fetched::Linked) => report.linked_files += 1,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                damaged.push((file.local_name.to_string(), error));
            }
            Err(error) => {
                has_failed.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
            }
        }
    }
    match failed.or_else(|| damage(checkpoint, damaged)) {
        None => Ok(report),
        Some(error) => Err(error),
    }
}

/// Fetches one small file into memory, verified. Like every file it is read once more if its hash is not what was recorded.
///
/// # Errors
/// As [`download_to_memory`].
pub async fn fetch_to_memory(checkpoint: &Checkpoint, file: &FileEntry, options: &FetchOptions) -> Result<Bytes> {
    let stored = checkpoint.stored_file(file)?;
    let download = || download_to_memory(&*checkpoint.store, &stored, &*options.progress);
    proven(download, || Ok(())).await
}

enum Fetched {
    FromStore,
    Linked,
}

/// Brings what was fetched to the disk.
async fn settle(env: &Env, fetched: Result<(Fetched, Unsynced)>, progress: &dyn Progress) -> Result<Fetched> {
    let (fetched, unsynced) = fetched?;
    unsynced.sync(env).await?;
    progress.file_done();
    Ok(fetched)
}

async fn fetch_one(
    env: &Env,
    checkpoint: &Checkpoint,
    file: &FileEntry,
    folder: &Path,
    options: &FetchOptions,
) -> Result<(Fetched, Unsynced)> {
    let target = folder.join(file.local_name.as_str());
    if is_immutable(file.kind) {
        for local in &options.local_folders {
            if link_local(env, file, &local.join(file.local_name.as_str()), &target).await? {
                options.progress.advance(file.size_bytes);
                options.progress.linked(file.size_bytes);
                return Ok((Fetched::Linked, Unsynced::default()));
            }
        }
    }
    let stored = checkpoint.stored_file(file)?;
    let download = || download_unsynced(&*checkpoint.store, env, &stored, &target, &*options.progress);
    let clear = || match fs::remove_file(&target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::local_io("restore", target.display(), error))
        }
        _ => Ok(()),
    };
    Ok((Fetched::FromStore, proven(download, clear).await?))
}

/// Links `candidate` to `target` if it has the file's content, by hash and not by name (I6). What is
/// hashed is the link, so that nothing put at the candidate's name meanwhile gets in.
async fn link_local(env: &Env, file: &FileEntry, candidate: &Path, target: &Path) -> Result<bool> {
    let is_like = |path: &Path| {
        let metadata = fs::symlink_metadata(path);
        metadata.is_ok_and(|metadata| metadata.file_type().is_file() && metadata.len() == file.size_bytes)
    };
    if !is_like(candidate) || fs::hard_link(candidate, target).is_err() {
        return Ok(false);
    }
    let is_same = is_like(target)
        && hash_file(env, target, file.size_bytes).await.is_ok_and(|hash| hash == file.sha256)
        && fs::File::open(target).and_then(|linked| linked.sync_all()).is_ok();
    if !is_same {
        // Unreadable or different: the store has the right one.
        fs::remove_file(target).map_err(|error| Error::local_io("restore", target.display(), error))?;
    }
    Ok(is_same)
}

/// One error that names every damaged file, up to a handful.
fn damage(checkpoint: &Checkpoint, mut damaged: Vec<(String, Error)>) -> Option<Error> {
    const MAX_NAMED: usize = 5;
    damaged.sort_by(|a, b| a.0.cmp(&b.0));
    let count = damaged.len();
    let mut named: Vec<String> =
        damaged.iter().take(MAX_NAMED).map(|(name, error)| format!("{name} ({})", error.message())).collect();
    if count > MAX_NAMED {
        named.push(format!("and {} more", count - MAX_NAMED));
    }
    let (_, first) = damaged.into_iter().next()?;
    let files = if count == 1 { "file" } else { "files" };
    Some(
        Error::new(ErrorKind::Corrupt, "restore", format!("{count} damaged {files}: {}", named.join(", ")))
            .with_object(checkpoint.describe())
            .with_source(first),
    )
}
