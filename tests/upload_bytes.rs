//! What a checkpoint sends, byte for byte, on a small workload W; `benches/snapshot.rs` runs the large one.

#[path = "support/workload_w.rs"]
mod workload_w;

use std::collections::BTreeMap;
use std::path::Path;

use icecore::metadata::CheckpointKind;
use icecore::state::rocksdb::RocksDbOptions;
use sha2::{Digest as _, Sha256};
use workload_w::{KEY_BYTES, Keys, Sent, State, Uploader, VALUE_BYTES, frozen_folder, sizes, tables};

const KEYS: u64 = 20_000;
const UPDATES: u64 = 1_000;
const ROUNDS: usize = 6;

/// Small files, so that a round leaves some of them as they were.
fn options() -> RocksDbOptions {
    RocksDbOptions { write_buffer_bytes: 256 << 10, target_file_bytes: 256 << 10, ..RocksDbOptions::default() }
}

/// One checkpoint: what was sent, and the files of its frozen folder.
struct Round {
    sent: Sent,
    files: BTreeMap<String, u64>,
    tables: BTreeMap<String, u64>,
}

async fn rounds(work: &Path, keys: &Keys, kind: CheckpointKind) -> (Uploader, Vec<Round>) {
    let mut uploader = Uploader::new(&work.join("store"), kind);
    let mut state = State::create(&work.join("db"), KEYS, options(), &uploader, 7);
    let mut rounds = Vec::new();
    state.load();
    for round in 0..ROUNDS {
        if round > 0 {
            state.update(keys, UPDATES);
        }
        let snapshot = state.freeze(&uploader.trigger());
        let folder = frozen_folder(work);
        let (files, tables) = (sizes(&folder), tables(&folder));
        let sent = uploader.upload(snapshot).await;
        rounds.push(Round { sent, files, tables });
    }
    (uploader, rounds)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_checkpoint_sends_the_new_tables_and_the_private_files_and_nothing_else() {
    for keys in [Keys::Uniform, Keys::zipf(KEYS, 0.99)] {
        let work = tempfile::tempdir().unwrap();
        let (_, rounds) = rounds(work.path(), &keys, CheckpointKind::Incremental).await;
        let mut before = BTreeMap::new();
        for round in &rounds {
            // A number is never used twice by one database, so a new name is a new table.
            let new = round.tables.iter().filter(|(name, _)| !before.contains_key(*name));
            assert_eq!(round.sent.shared_bytes, new.map(|(_, size)| size).sum::<u64>());
            let private: u64 =
                round.files.iter().filter(|(name, _)| !name.ends_with(".sst")).map(|(_, size)| size).sum();
            assert_eq!(round.sent.private_bytes, private);
            assert_eq!(round.sent.bytes(), round.sent.handle.stats.uploaded_bytes);
            before = round.tables.clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn incremental_checkpoints_send_less_than_full_ones_and_full_ones_send_everything() {
    let work = tempfile::tempdir().unwrap();
    let incremental = work.path().join("incremental");
    let full = work.path().join("full");
    let keys = Keys::zipf(KEYS, 0.99);
    std::fs::create_dir(&incremental).unwrap();
    std::fs::create_dir(&full).unwrap();
    let (_, incremental) = rounds(&incremental, &keys, CheckpointKind::Incremental).await;
    let (_, full) = rounds(&full, &keys, CheckpointKind::Full).await;
    for round in &full {
        assert_eq!(round.sent.shared_bytes, 0);
        // A full checkpoint has tables of its own, so it is about as long as the live rows.
        assert!(round.sent.private_bytes >= KEYS * (KEY_BYTES + VALUE_BYTES));
    }
    let after_first = |rounds: &[Round]| rounds[1..].iter().map(|round| round.sent.bytes()).sum::<u64>();
    // With everything rewritten in every round the two would be equal.
    assert!(after_first(&incremental) * 4 < after_first(&full) * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shared_object_has_the_content_that_its_name_tells_and_lies_there_once() {
    let work = tempfile::tempdir().unwrap();
    let (uploader, rounds) = rounds(work.path(), &Keys::Uniform, CheckpointKind::Incremental).await;
    let objects = uploader.objects();
    let sent: u64 = rounds.iter().map(|round| round.sent.shared_bytes).sum();
    assert_eq!(objects.values().sum::<u64>(), sent);
    let mut hashes = Vec::new();
    for name in objects.keys() {
        let bytes = std::fs::read(uploader.root.join("job-w/shared").join(name)).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(name.starts_with(&hash), "{name} holds other bytes");
        hashes.push(hash);
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), objects.len());
}
