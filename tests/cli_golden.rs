//! `show` and `list` on frozen input print exactly what they always did: people and scripts read it.
//!
//! `ICECORE_WRITE_GOLDEN=1 cargo test --features cli --test cli_golden` writes the files anew; look at
//! the difference before you keep it.

mod cli_support;

use std::path::{Path, PathBuf};

use cli_support::Bench;
use icecore::keygroup::KeyGroupRange;
use icecore::layout::{ContentHash, Epoch, FileKind, JobId, JobLayout, Uid};
use icecore::metadata::{
    CheckpointKind, CheckpointMetadata, Claim, ControlRecord, Encoding, FileEntry, Location, Start, decode, encode,
};
use icecore::store::StorePath;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("tests/fixtures/format/v1").join(format!("{name}.bin"))).unwrap()
}

fn golden(name: &str) -> PathBuf {
    repository().join("tests/golden/cli").join(format!("{name}.txt"))
}

fn compare(name: &str, printed: &str) {
    let file = golden(name);
    if std::env::var_os("ICECORE_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, printed).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert!(printed == expected, "{name}: printed\n{printed}\nexpected\n{expected}");
}

/// A folder as `export` makes it, with only its index.
fn exported(bench: &Bench, name: &str) -> PathBuf {
    let folder = bench.path(name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("_metadata"), fixture(name)).unwrap();
    folder
}

#[test]
fn checkpoints_of_every_kind_are_shown_as_the_same_tree() {
    for name in ["metadata-everything", "metadata-full", "metadata-savepoint", "metadata-tiny"] {
        let bench = Bench::new();
        let folder = exported(&bench, name);
        compare(&format!("show-{name}"), &bench.ok(&format!("show --from {}", folder.display())));
        compare(&format!("show-{name}.json"), &bench.ok(&format!("show --from {} --json", folder.display())));
    }
}

/// A full checkpoint: a folder a key group, with a table and its MANIFEST.
fn full() -> CheckpointMetadata {
    let mut metadata = decode(&fixture("metadata-tiny")).unwrap();
    metadata.kind = CheckpointKind::Full;
    let file = |group: u16, name: &str, kind| {
        let local_name = StorePath::new(format!("keygroup-{group}/{name}")).unwrap();
        FileEntry {
            location: Location::InCheckpoint(StorePath::new(format!("operator-sum/{local_name}")).unwrap()),
            sha256: ContentHash::of(local_name.as_str().as_bytes()),
            local_name,
            kind,
            offset_bytes: 0,
            stored_size_bytes: 2000,
            encoding: Encoding::Plain,
            size_bytes: 2000,
            key_groups: KeyGroupRange::new(group, group),
            table: None,
            identity: None,
        }
    };
    let groups =
        (0..3).flat_map(|group| [file(group, "0.sst", FileKind::Sst), file(group, "MANIFEST", FileKind::Manifest)]);
    metadata.operators[0].subtasks[0].files = groups.collect();
    metadata
}

#[test]
fn a_full_checkpoint_is_shown_key_group_by_key_group() {
    let bench = Bench::new();
    let folder = bench.path("full");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("_metadata"), encode(&full()).unwrap()).unwrap();
    let folder = folder.display();
    compare("show-key-groups", &bench.ok(&format!("show --from {folder}")));
    compare("show-key-group-1", &bench.ok(&format!("show --from {folder} --key-group 1")));
    compare("show-operators", &bench.ok(&format!("show --from {folder} --depth operator")));
}

#[test]
fn sizes_that_lie_are_refused_as_damage_and_overflow_nothing() {
    let bench = Bench::new();
    let mut metadata = full();
    for file in &mut metadata.operators[0].subtasks[0].files {
        (file.size_bytes, file.stored_size_bytes) = (u64::MAX, u64::MAX);
    }
    let folder = bench.path("full");
    for file in metadata.files() {
        let Location::InCheckpoint(path) = &file.location else { unreachable!() };
        std::fs::create_dir_all(folder.join(path.as_str()).parent().unwrap()).unwrap();
        std::fs::write(folder.join(path.as_str()), b"short").unwrap();
    }
    std::fs::write(folder.join("_metadata"), encode(&metadata).unwrap()).unwrap();
    assert!(bench.ok("show --from full").contains("16.0 EiB"));
    for line in ["verify --from full", "verify --from full --quick", "restore --from full target"] {
        bench.fails(line, 3);
    }
    assert!(!bench.path("target").exists());
}

#[test]
fn a_job_is_listed_and_shown() {
    let bench = Bench::new();
    let metadata = decode(&fixture("metadata-tiny")).unwrap();
    let layout = JobLayout::new(JobId::new("a").unwrap()).unwrap();
    let put = |path: &StorePath, bytes: Vec<u8>| {
        let file = bench.store().join(path.as_str());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    };
    let epoch = Epoch { counter: 9, uid: Uid(0xabc) };
    let claim = Claim { epoch, job: layout.job().clone(), claimed_at_unix_ms: 0, holder: "test".to_owned() };
    let start = Start { epoch, adopted: vec![metadata.folder()], refs: vec![], pins: vec![] };
    put(&layout.claim(epoch).unwrap(), claim.encode().unwrap());
    put(&layout.start(epoch).unwrap(), start.encode().unwrap());
    put(&layout.metadata(metadata.folder()).unwrap(), fixture("metadata-tiny"));
    // Nobody adopted this one.
    let mut other = metadata.folder();
    other.checkpoint.0 += 1;
    put(&layout.checkpoint(other).unwrap().join("operator-sum/subtask-0/CURRENT").unwrap(), b"x".to_vec());
    compare("list", &bench.ok("list --all"));
    compare("list.json", &bench.ok("list --all --json"));
    compare("show-checkpoint", &bench.ok("show latest"));
    let shown = bench.ok("show").replace(bench.store().to_str().unwrap(), "STORE");
    compare("show-job", &shown);
    compare("du", &bench.ok("du"));
    compare("why", &bench.ok("why CURRENT"));
}
