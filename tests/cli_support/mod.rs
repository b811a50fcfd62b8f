//! What the tests of the command share: running it, and looking at what it left on the store.
#![allow(dead_code)]

#[path = "../support/test_store.rs"]
mod test_store;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use futures::TryStreamExt as _;
use icecore::env::Env;
use icecore::layout::{JobId, JobLayout};
use icecore::ownership::JobView;
use icecore::store::{LocalStore, StoreRef};
use serde_json::Value;

pub const JOB: &str = "a";

/// A store, and the command working on it in a temporary folder.
pub struct Bench {
    pub folder: tempfile::TempDir,
    address: String,
}

impl Bench {
    /// With the store in the folder, for tests that look at its files.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { address: folder.path().join("store").to_str().unwrap().to_owned(), folder }
    }

    /// With a store of the kind that this run tests.
    pub fn on_any_store() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { address: test_store::fresh_address(folder.path()), folder }
    }

    fn opened(&self) -> StoreRef {
        test_store::open_at(&self.address, &Env::system().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn job(&self) -> PathBuf {
        self.store().join(format!("job-{JOB}"))
    }

    /// `icecore` with the store and job named, in words.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        command.args(line.split_whitespace()).env("ICECORE_STORE", &self.address).env("ICECORE_JOB", JOB);
        command.env("ICECORE_STORE_OPTIONS", test_store::option_list(&self.address));
        command.env_remove("RUST_LOG").current_dir(self.folder.path());
        command
    }

    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What it prints; it must succeed.
    pub fn ok(&self, line: &str) -> String {
        succeeded(line, self.run(line))
    }

    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).unwrap()
    }

    /// What it says on stderr; it must end with `code`, in one line of its own.
    pub fn fails(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "icecore {line}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// The job as it counts.
    pub fn view(&self) -> JobView {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { JobView::read(&*self.opened(), &layout()).await.unwrap() })
    }

    /// Everything on the store by name; of a local one also what no store lists.
    fn names(&self) -> BTreeSet<String> {
        if Path::new(&self.address) == self.store() {
            return files_below(&self.store(), &self.store());
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = self.opened();
            let names: Vec<String> =
                store.list(None).map_ok(|object| object.path.to_string()).try_collect().await.unwrap();
            names.into_iter().collect()
        })
    }

    /// On the store is exactly what the checkpoints that count need, and one epoch's records.
    pub fn assert_only_referenced(&self) {
        let view = self.view();
        let mut needed = BTreeSet::new();
        for checkpoint in view.checkpoints.values() {
            let metadata = checkpoint.content.as_ref().unwrap();
            needed.insert(view.layout.metadata(checkpoint.folder).unwrap().to_string());
            needed.extend(view.references(metadata).map(|path| path.to_string()));
        }
        let mut there = self.names();
        let epochs: BTreeSet<String> = there.iter().filter(|name| name.contains("/epochs/")).cloned().collect();
        there.retain(|name| !name.contains("/epochs/"));
        assert_eq!(there, needed);
        assert_eq!(epochs.len(), 3, "claim, start and end of one epoch: {epochs:?}");
    }

    /// Waits until something is there, for a minute at least.
    pub fn wait_for(&self, is_there: impl Fn(&Self) -> bool) {
        for _ in 0..12_000 {
            if is_there(self) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("it did not come");
    }
}

pub fn layout() -> JobLayout {
    JobLayout::new(JobId::new(JOB).unwrap()).unwrap()
}

pub fn local_store(folder: &Path) -> Arc<LocalStore> {
    Arc::new(LocalStore::open(folder, Env::system().unwrap()).unwrap())
}

/// Every plain file below `folder`, relative to `root`.
pub fn files_below(folder: &Path, root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, root));
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

/// A copy of a folder as it is, by the system's own program.
pub fn copy_folder(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Changes one byte in the middle of a file.
pub fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Every key and value, as RocksDB's own program prints them.
pub fn scan(db: &Path) -> String {
    let output = Command::new("ldb").arg(format!("--db={}", db.display())).args(["scan", "--hex"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command printed that succeeded.
pub fn succeeded(line: &str, output: Output) -> String {
    assert!(output.status.success(), "icecore {line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command said that failed: one line on stderr. And the code.
pub fn failed(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}
