//! The control records.

use std::fmt::Debug;

use super::samples::{condemned, distrust, epoch, hold, path, start};
use crate::ErrorKind;
use crate::layout::{JobId, Uid};
use crate::metadata::*;

/// One of each, as pairs of name and a function that exercises it.
fn each(check: &impl Check) {
    let job = JobId::new("a").unwrap();
    check.one(&Claim { epoch: epoch(4), job: job.clone(), claimed_at_unix_ms: 17, holder: "host:1".to_owned() });
    check.one(&start());
    check.one(&End { epoch: epoch(4) });
    check.one(&condemned());
    check.one(&Pin { name: hold(5), reason: "before the upgrade".to_owned(), created_at_unix_ms: 18 });
    check.one(&Ref { name: hold(5), holder: job, created_at_unix_ms: 19 });
    check.one(&distrust());
    check.one(&Request { uid: Uid(3), kind: RequestKind::Drop, argument: "5".to_owned(), created_at_unix_ms: 20 });
    check.one(&Answer { uid: Uid(3), result: Outcome::Done(String::new()) });
    check.one(&Answer { uid: Uid(3), result: Outcome::Refused("it is pinned".to_owned()) });
}

trait Check {
    fn one<R: ControlRecord + Debug + PartialEq>(&self, record: &R);
}

struct ReadsBack;
impl Check for ReadsBack {
    fn one<R: ControlRecord + Debug + PartialEq>(&self, record: &R) {
        assert_eq!(&R::decode(&record.encode().unwrap()).unwrap(), record);
    }
}

#[test]
fn every_record_reads_back() {
    each(&ReadsBack);
}

struct NoDamageIsBelieved;
impl Check for NoDamageIsBelieved {
    fn one<R: ControlRecord + Debug + PartialEq>(&self, record: &R) {
        super::damage::assert_no_damage_is_believed(&record.encode().unwrap(), R::decode);
    }
}

#[test]
fn no_flipped_byte_and_no_cut_is_believed() {
    each(&NoDamageIsBelieved);
}

struct OthersRefuse;
impl Check for OthersRefuse {
    fn one<R: ControlRecord + Debug + PartialEq>(&self, record: &R) {
        let error = decode(&record.encode().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(&format!("this is a {}", R::FORMAT.name())), "{error}");
    }
}

#[test]
fn a_record_under_another_records_name_is_told_by_its_magic() {
    each(&OthersRefuse);
}

#[test]
fn magics_are_unique() {
    for (index, format) in Format::ALL.iter().enumerate() {
        assert!(Format::ALL[index + 1..].iter().all(|other| other.magic() != format.magic()), "{}", format.name());
    }
}

#[test]
fn a_start_whose_lists_are_not_sorted_is_refused() {
    for mix_up in [
        |start: &mut Start| start.adopted.reverse(),
        |start: &mut Start| start.pins.reverse(),
        |start: &mut Start| start.refs.push(start.refs[0]),
    ] {
        let mut record = start();
        mix_up(&mut record);
        assert_eq!(record.encode().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_condemned_list_names_nothing_twice_and_nothing_outside_a_job() {
    let mut twice = condemned();
    twice.objects.push(twice.objects[0].clone());
    assert!(twice.encode().unwrap_err().message().contains("named twice"));
    for outside in ["etc/passwd", "job-a", "job-/x", "savepoints/job-a/x"] {
        let mut record = condemned();
        record.objects.push(path(outside));
        assert_eq!(record.encode().unwrap_err().kind(), ErrorKind::InvalidInput, "{outside} was taken");
    }
}

#[test]
fn the_order_of_condemned_objects_is_kept() {
    let mut record = condemned();
    record.objects.reverse();
    assert_eq!(Condemned::decode(&record.encode().unwrap()).unwrap().objects, record.objects);
}

#[test]
fn a_condemned_list_over_its_limit_is_refused_by_the_writer() {
    let mut record = condemned();
    record.objects = (0..=limits::MAX_CONDEMNED_OBJECTS).map(|n| path(&format!("job-a/shared/{n}"))).collect();
    assert_eq!(record.encode().unwrap_err().kind(), ErrorKind::LimitExceeded);
    record.objects.pop();
    assert_eq!(Condemned::decode(&record.encode().unwrap()).unwrap(), record);
}

#[test]
fn the_longest_condemned_list_with_the_longest_paths_fits() {
    let mut record = condemned();
    let folder = format!("job-a/{}", vec!["x".repeat(250); 4].join("/"));
    record.objects = (0..limits::MAX_CONDEMNED_OBJECTS).map(|n| path(&format!("{folder}/{n:05}"))).collect();
    assert_eq!(Condemned::decode(&record.encode().unwrap()).unwrap(), record);
}

#[test]
fn many_empty_elements_are_refused_before_they_take_memory() {
    // Field 4 (objects), length 0, over and over: two bytes on the wire, a `String` each in memory.
    let body = [0x22, 0x00].repeat(4 << 20);
    assert_eq!(Condemned::decode_body(&body).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let body = [0x12, 0x00].repeat(4 << 20);
    assert_eq!(Start::decode_body(&body).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn text_over_its_limit_is_refused_by_the_writer() {
    let reason = "x".repeat(limits::MAX_CONTROL_TEXT_BYTES);
    let pin = Pin { name: hold(5), reason, created_at_unix_ms: 0 };
    assert!(pin.encode().is_ok());
    let longer = Pin { reason: format!("{}x", pin.reason), ..pin };
    assert_eq!(longer.encode().unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn an_unknown_kind_of_request_or_outcome_is_a_newer_builds() {
    // Field 2 as varint 99.
    assert_eq!(Request::decode_body(&[0x10, 99]).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(Answer::decode_body(&[0x10, 99]).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_distrust_record_that_names_no_shared_object_is_corrupt() {
    for name in ["", "000012.sst", "job-a/shared/x.sst", "../x"] {
        let mut body = vec![0x0a, name.len() as u8];
        body.extend(name.as_bytes());
        assert_eq!(Distrust::decode_body(&body).unwrap_err().kind(), ErrorKind::Corrupt, "{name:?} was taken");
    }
}

#[test]
fn a_record_without_its_epoch_is_corrupt() {
    let error = End::decode_body(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("the epoch is not there"), "{error}");
}
