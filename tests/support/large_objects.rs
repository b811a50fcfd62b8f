//! Four large objects written and read at once, and what that needs of memory. For a program whose allocator counts.

use bytes::Bytes;
use futures::future::join_all;
use icecore::env::Env;
use icecore::layout::ContentHash;
use icecore::store::{StorePath, StoreRef};
use icecore::transfer::{NoProgress, StoredFile, TransferLimits, verify_object};
use tokio::runtime::Runtime;

use super::peak_memory::{Memory, measure};

/// As many as a snapshot or a restore moves at once; 1 GiB in all.
const OBJECTS: usize = 4;
const OBJECT_BYTES: usize = 256 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const BYTE: u8 = 7;

const MAX_PEAK_BYTES: usize = 256 << 20;
/// What a store keeps for the next ones.
const MAX_KEPT_BYTES: usize = 40 << 20;

fn name(number: usize) -> StorePath {
    StorePath::new(format!("{number}")).unwrap()
}

/// 1 GiB to the store, and from it again.
pub fn assert_bounded(runtime: &Runtime, store: &StoreRef) {
    assert_eq!(TransferLimits::default().parallelism, OBJECTS);
    let upload = |number: usize| async move {
        let mut writer = store.create(&name(number)).await.unwrap();
        for _ in 0..OBJECT_BYTES / CHUNK_BYTES {
            // A chunk of its own each, as a file's are.
            writer.write(Bytes::from(vec![BYTE; CHUNK_BYTES])).await.unwrap();
        }
        writer.finish().await.unwrap();
    };
    let (_, memory) = measure(|| runtime.block_on(join_all((0..OBJECTS).map(upload))));
    check("uploads", memory);

    let sha256 = ContentHash::of(&vec![BYTE; OBJECT_BYTES]);
    let env = &runtime.block_on(async { Env::system().unwrap() });
    let download = |number: usize| async move {
        let file = StoredFile { object: name(number), offset_bytes: 0, size_bytes: OBJECT_BYTES as u64, sha256 };
        verify_object(&**store, env, &file, &NoProgress).await.unwrap();
    };
    let (_, memory) = measure(|| runtime.block_on(join_all((0..OBJECTS).map(download))));
    check("downloads", memory);
}

fn check(what: &str, memory: Memory) {
    let (peak_mib, kept_mib) = (memory.peak_bytes >> 20, memory.kept_bytes >> 20);
    println!("peak {peak_mib} MiB, kept {kept_mib} MiB, for {OBJECTS} {what} of {} MiB", OBJECT_BYTES >> 20);
    assert!(memory.peak_bytes < MAX_PEAK_BYTES, "{what}: peak {peak_mib} MiB");
    assert!(memory.peak_bytes > 8 << 20, "the allocator does not count");
    assert!(memory.kept_bytes < MAX_KEPT_BYTES, "{what}: {kept_mib} MiB are kept");
}
