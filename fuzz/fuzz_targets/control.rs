//! Hostile control records. The first byte says which record the rest is tried as.
#![no_main]

use std::fmt::Debug;

use icecore::metadata::{Answer, Claim, Condemned, ControlRecord, Distrust, End, Pin, Ref, Request, Start};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 9 {
        0 => try_as::<Claim>(bytes),
        1 => try_as::<Start>(bytes),
        2 => try_as::<End>(bytes),
        3 => try_as::<Condemned>(bytes),
        4 => try_as::<Pin>(bytes),
        5 => try_as::<Ref>(bytes),
        6 => try_as::<Request>(bytes),
        7 => try_as::<Answer>(bytes),
        _ => try_as::<Distrust>(bytes),
    }
});

fn try_as<R: ControlRecord + Debug + PartialEq>(bytes: &[u8]) {
    for record in [R::decode(bytes), R::decode_body(bytes)].into_iter().flatten() {
        let object = record.encode().expect("what was decoded obeys the writer's rules");
        assert_eq!(R::decode(&object).expect("what was encoded is decoded"), record);
    }
}
