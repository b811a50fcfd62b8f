//! What is encoded is decoded to the same value.

use super::samples;
use crate::metadata::{decode, encode};

#[test]
fn a_checkpoint_that_uses_every_field_reads_back() {
    let value = samples::checkpoint();
    let bytes = encode(&value).unwrap();
    assert_eq!(decode(&bytes).unwrap(), value);
}
