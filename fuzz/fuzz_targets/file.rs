//! One hostile file in an otherwise sound `_metadata`.
//!
//! The lengths and hashes around a file keep a fuzzer of whole bodies from changing much inside
//! one, so here the input is the file's message alone, and everything around it is made to fit.
#![no_main]

use icecore::metadata::{decode, decode_body, encode};
use libfuzzer_sys::fuzz_target;

/// Job `a`, checkpoint 1, epoch 1-0, incremental, 64 key groups; operator `o` of one subtask.
const BEFORE: &[u8] = b"\x0a\x0d\x0a\x01a\x10\x01\x1a\x02\x08\x01\x20\x02\x30\x40\x12\x07\x0a\x01o\x10\x01\x18\x40";
/// The subtask: key groups 0-63, RocksDB, one inline segment of one file; its hash (zeros) passes with `cfg(fuzzing)`.
const AFTER: &[u8] = b"\x2a\x2e\x12\x02\x10\x3f\x18\x02\x20\x01\x2a\x24\x0a\x20\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\x01";

fuzz_target!(|file: &[u8]| {
    let segment = field(1, file);
    let body = [BEFORE, &field(4, &segment), AFTER].concat();
    if let Ok(value) = decode_body(&body) {
        let object = encode(&value).expect("what was decoded obeys the writer's rules");
        assert_eq!(decode(&object).expect("what was encoded is decoded"), value);
    }
});

/// A length-delimited protobuf field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}
