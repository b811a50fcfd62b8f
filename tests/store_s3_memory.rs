//! Moving 1 GiB to S3 and back needs less than 256 MiB. Its own program: the allocator counts.

#[path = "support/large_objects.rs"]
mod large_objects;
#[path = "support/peak_memory.rs"]
mod peak_memory;
mod s3_support;
mod services;

#[global_allocator]
static COUNTING: peak_memory::Counting = peak_memory::Counting;

#[test]
fn four_large_objects_at_once_stay_within_256_mib_on_s3() {
    let Some(s3) = services::shared_s3() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime
        .block_on(async { s3_support::store_at(s3, &services::fresh_prefix("memory"), &s3_support::options(s3)) });
    large_objects::assert_bounded(&runtime, &store);
}
