//! Damaged bytes: every flipped byte, every cut, every frame that lies.

use std::fmt::Debug;

use sha2::{Digest, Sha256};

use super::samples::checkpoint;
use crate::metadata::{Format, HEADER_BYTES, decode, encode};
use crate::{ErrorKind, Result};

/// Every byte changed in every bit at once and in its lowest, every cut, one byte more: errors all.
pub(super) fn assert_no_damage_is_believed<T: Debug>(object: &[u8], decode: impl Fn(&[u8]) -> Result<T>) {
    assert!(decode(object).is_ok());
    for index in 0..object.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut damaged = object.to_vec();
            damaged[index] ^= mask;
            let error = decode(&damaged).expect_err("a changed byte was believed");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {index}: {error}");
        }
    }
    for length in 0..object.len() {
        let error = decode(&object[..length]).expect_err("a cut was believed");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {length}: {error}");
    }
    let longer = [object, &[0]].concat();
    assert_eq!(decode(&longer).expect_err("a longer object was believed").kind(), ErrorKind::Corrupt);
}

/// `object` with a right hash over whatever it says now.
fn rehashed(mut object: Vec<u8>) -> Vec<u8> {
    let end = object.len() - 32;
    let hash = Sha256::digest(&object[..end]);
    object[end..].copy_from_slice(&hash);
    object
}

#[test]
fn no_flipped_byte_and_no_cut_of_a_metadata_is_believed() {
    assert_no_damage_is_believed(&encode(&checkpoint()).unwrap(), decode);
}

#[test]
fn a_changed_body_under_a_right_hash_never_panics_and_reads_back_if_it_is_taken() {
    let body = &encode(&checkpoint()).unwrap();
    let body = &body[HEADER_BYTES..body.len() - 32];
    let mut taken = 0;
    for index in 0..body.len() {
        for change in [1, 0x7f, 0x80, 0xff] {
            let mut changed = body.to_vec();
            changed[index] ^= change;
            if let Ok(value) = crate::metadata::decode_body(&changed) {
                taken += 1;
                assert_eq!(decode(&encode(&value).unwrap()).unwrap(), value);
            }
        }
        assert!(crate::metadata::decode_body(&body[..index]).map_or(true, |value| value != checkpoint()));
    }
    assert!(taken > 0, "no change of a name or number was taken, so nothing was tested");
}

#[test]
fn an_unknown_version_under_a_right_hash_is_a_newer_builds() {
    let mut object = encode(&checkpoint()).unwrap();
    object[8] = 2;
    let error = decode(&rehashed(object)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("version 2") && error.advice().is_some(), "{error}");
}

#[test]
fn a_length_that_lies_is_found_even_under_a_right_hash() {
    for lie in [0, 1, u64::MAX, u64::MAX - 60] {
        let mut object = encode(&checkpoint()).unwrap();
        object[12..20].copy_from_slice(&lie.to_le_bytes());
        let error = decode(&rehashed(object)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(&format!("promises a body of {lie} bytes")), "{error}");
    }
}

#[test]
fn an_object_over_its_formats_limit_is_refused_by_its_length_alone() {
    let long = vec![0; Format::CLAIM.max_object_bytes() as usize + 1];
    assert_eq!(Format::CLAIM.unframe(&long).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(Format::CLAIM.unframe(&long[1..]).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn what_is_no_object_of_icecore_is_told_so() {
    let error = decode(&[b'x'; 100]).unwrap_err();
    assert!(error.message().contains("no object of icecore"), "{error}");
}
