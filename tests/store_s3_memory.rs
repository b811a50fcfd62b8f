//! Four large uploads at once need less than 256 MiB. Its own program: the allocator counts.

#[path = "support/peak_memory.rs"]
mod peak_memory;
mod s3_support;
mod services;

use bytes::Bytes;

#[global_allocator]
static COUNTING: peak_memory::Counting = peak_memory::Counting;

const UPLOADS: usize = 4; // TransferLimits::default().parallelism
const UPLOAD_BYTES: usize = 128 << 20;

#[test]
fn four_large_uploads_at_once_stay_within_256_mib() {
    let Some(s3) = services::shared_s3() else { return };
    assert_eq!(icecore::transfer::TransferLimits::default().parallelism, UPLOADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime
        .block_on(async { s3_support::store_at(s3, &services::fresh_prefix("memory"), &s3_support::options(s3)) });
    let upload = |number: usize| {
        let store = store.clone();
        async move {
            let mut writer = store.create(&s3_support::path(&format!("{number}"))).await.unwrap();
            for _ in 0..UPLOAD_BYTES >> 20 {
                // A chunk of its own each, as a file's are.
                writer.write(Bytes::from(vec![7; 1 << 20])).await.unwrap();
            }
            writer.finish().await.unwrap();
        }
    };
    let ((), memory) = peak_memory::measure(|| {
        runtime.block_on(async { futures::future::join_all((0..UPLOADS).map(upload)).await });
    });
    println!("peak {} MiB for {UPLOADS} uploads of {} MiB", memory.peak_bytes >> 20, UPLOAD_BYTES >> 20);
    assert!(memory.peak_bytes < 256 << 20, "peak {} MiB", memory.peak_bytes >> 20);
    assert!(memory.peak_bytes > 8 << 20, "the allocator does not count");
    assert!(memory.kept_bytes < 16 << 20, "{} MiB are kept", memory.kept_bytes >> 20);
}
