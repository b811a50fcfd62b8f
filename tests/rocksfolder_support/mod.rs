//! What the tests of `rocksfolder` share: RocksDB's own programs, and copying by a file list.
#![allow(dead_code)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use icecore::layout::FileKind;
use icecore::rocksfolder::{FolderFile, RocksFolder};

/// Whether RocksDB's programs (Debian: `rocksdb-tools`) are here. In CI they must be; elsewhere the test
/// says loudly that it did nothing.
pub fn have_rocksdb_tools(test: &str) -> bool {
    let missing: Vec<_> = ["db_bench", "ldb"].into_iter().filter(|tool| !runs(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{missing:?} are missing: install rocksdb-tools");
    // Not `eprintln!`, which the test harness swallows.
    let line = format!("\n*** SKIPPED {test}: {missing:?} are missing; install rocksdb-tools to run it ***\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}

fn runs(tool: &str) -> bool {
    Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// `db_bench` on the database at `db`, with small buffers and files so that few keys make many tables.
pub fn db_bench(db: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("db_bench");
    command
        .arg(format!("--db={}", db.display()))
        .args(["--value_size=100", "--write_buffer_size=65536", "--target_file_size_base=16384"])
        .args(["--max_bytes_for_level_base=65536", "--num_levels=7", "--seed=7", "--threads=1"])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Runs `ldb` and gives what it printed.
pub fn ldb(arguments: &[&str]) -> String {
    let output = Command::new("ldb").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "ldb {arguments:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Copies the files of `folder` to the new folder `to`, each up to the length that belongs to the copy.
pub fn copy(folder: &RocksFolder, to: &Path) -> icecore::Result<()> {
    std::fs::create_dir_all(to).unwrap();
    folder.files().iter().try_for_each(|file| copy_file(folder, file, &to.join(&file.name)))
}

/// As [`copy`], but links what never changes: tables and blob files.
pub fn copy_or_link(folder: &RocksFolder, to: &Path) -> icecore::Result<()> {
    folder.files().iter().try_for_each(|file| match file.kind {
        FileKind::Sst | FileKind::Blob => std::fs::hard_link(folder.path().join(&file.name), to.join(&file.name))
            .map_err(|error| icecore::Error::io("link", &file.name, error).with_kind(icecore::ErrorKind::Changed)),
        _ => copy_file(folder, file, &to.join(&file.name)),
    })
}

/// Copies one file of `folder`.
pub fn copy_file(folder: &RocksFolder, file: &FolderFile, to: &Path) -> icecore::Result<()> {
    if let Some(content) = &file.content {
        std::fs::write(to, content).unwrap();
        return Ok(());
    }
    let mut source = std::io::Read::take(folder.open(file)?, file.size_bytes);
    let copied = std::io::copy(&mut source, &mut std::fs::File::create(to).unwrap()).unwrap();
    if copied == file.size_bytes {
        return Ok(());
    }
    // A log that is used again is cut and renamed under its reader.
    let message = format!("{copied} of {} bytes are there", file.size_bytes);
    Err(icecore::Error::new(icecore::ErrorKind::Changed, "copy a file", message).with_object(&file.name))
}
