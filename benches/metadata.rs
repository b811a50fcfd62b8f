//! Size, time and memory of a `_metadata` of 100,000 files.

#[path = "../tests/support/large_metadata.rs"]
mod large_metadata;
#[path = "../tests/support/peak_memory.rs"]
mod peak_memory;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use icecore::metadata::{decode, encode};
use peak_memory::{Counting, measure};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FILES: u64 = 100_000;

fn metadata(criterion: &mut Criterion) {
    let value = large_metadata::checkpoint_of(FILES);
    let (object, encoding) = measure(|| encode(&value).unwrap());
    let (read, decoding) = measure(|| decode(&object).unwrap());
    assert!(read == value);
    drop(read);
    let length_bytes = object.len();
    println!("_metadata of {FILES} files: {length_bytes} bytes, {:.1} a file", length_bytes as f64 / FILES as f64);
    println!("encode: peak {} bytes over the value's own", encoding.peak_bytes);
    println!("decode: peak {} bytes over the object's own, result {}", decoding.peak_bytes, decoding.kept_bytes);

    let mut group = criterion.benchmark_group("metadata");
    group.sample_size(20);
    group.throughput(Throughput::Elements(FILES));
    group.bench_function("encode 100,000 files", |bencher| bencher.iter(|| encode(&value).unwrap()));
    group.bench_function("decode 100,000 files", |bencher| {
        bencher.iter_with_large_drop(|| decode(&object).unwrap());
    });
    group.finish();
}

criterion_group!(benches, metadata);
criterion_main!(benches);
