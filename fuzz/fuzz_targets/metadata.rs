//! Hostile `_metadata`: no panic, no memory without end, and what is taken has one form.
//!
//! The input is tried as a whole object and as a body; a fuzzer does not guess a SHA-256, so the
//! body is decoded without its frame, and `cfg(fuzzing)` lets a segment's hash pass.
#![no_main]

use icecore::metadata::{CheckpointMetadata, decode, decode_body, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for value in [decode(bytes), decode_body(bytes)].into_iter().flatten() {
        assert_has_one_form(&value);
    }
});

fn assert_has_one_form(value: &CheckpointMetadata) {
    let object = encode(value).expect("what was decoded obeys the writer's rules");
    let read = decode(&object).expect("what was encoded is decoded");
    assert_eq!(&read, value);
    assert_eq!(encode(&read).expect("what was decoded obeys the writer's rules"), object);
}
