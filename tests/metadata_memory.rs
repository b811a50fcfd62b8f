//! Encoding and decoding a long file list needs the result's memory and little more.

#[path = "support/large_metadata.rs"]
mod large_metadata;
#[path = "support/peak_memory.rs"]
mod peak_memory;

use icecore::metadata::limits::SEGMENT_BYTES;
use icecore::metadata::{decode, encode};
use peak_memory::{Counting, measure};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Beside the result: one segment while it is made.
const SLACK_BYTES: usize = SEGMENT_BYTES;

#[test]
fn neither_side_holds_a_second_copy_of_the_file_list() {
    let value = large_metadata::checkpoint_of(100_000);
    let (object, encoding) = measure(|| encode(&value).unwrap());
    let length_bytes = object.len();
    assert!(length_bytes > 3 * SLACK_BYTES, "{length_bytes} bytes are too few to show anything");
    assert!(encoding.peak_bytes < length_bytes * 5 / 4 + SLACK_BYTES, "{encoding:?} for {length_bytes} bytes");

    let (read, decoding) = measure(|| decode(&object).unwrap());
    assert!(decoding.peak_bytes < decoding.kept_bytes + SLACK_BYTES, "{decoding:?} for {length_bytes} bytes");
    assert!(read == value);
}
