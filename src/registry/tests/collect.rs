//! Pending checkpoints, abort, condemn, forget, rebuild.

use super::*;
use crate::error::ErrorKind;
use crate::registry::{ObjectStatus, Rebuilder};

#[test]
fn aborting_frees_what_only_this_checkpoint_created() {
    let registry = Registry::new();
    let [kept] = complete(&registry, 1, &["shared"], &[])[..] else { panic!() };
    registry.begin_pending(cp(2)).unwrap();
    assert_eq!(store(&registry, 2, "shared"), kept);
    let private = store(&registry, 2, "private");
    let ended = registry.abort(cp(2)).unwrap();
    assert_eq!((ended.created, ended.outlived, ended.suspects), (vec![private], vec![], vec![]));
}

#[test]
fn aborting_keeps_what_another_pending_checkpoint_holds() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    registry.begin_pending(cp(2)).unwrap();
    let name = store(&registry, 1, "x");
    assert_eq!(store(&registry, 2, "x"), name);
    assert_eq!(registry.abort(cp(1)).unwrap().created, []);
    assert_eq!(registry.status(&name).unwrap(), ObjectStatus::Held);
    let ended = registry.abort(cp(2)).unwrap();
    assert_eq!((ended.created, ended.outlived), (vec![], vec![name]));
}

#[test]
fn a_released_object_is_kept_while_a_pending_checkpoint_holds_it() {
    let registry = Registry::new();
    let [name] = complete(&registry, 1, &["x"], &[])[..] else { panic!() };
    registry.begin_pending(cp(2)).unwrap();
    assert_eq!(store(&registry, 2, "x"), name);
    assert_eq!(registry.release(cp(1)).unwrap(), []);
    assert_eq!(registry.condemn(&[name]).unwrap(), []);
    assert_eq!(registry.abort(cp(2)).unwrap().outlived, [name]);
}

#[test]
fn finishing_reports_what_was_uploaded_and_not_registered() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    let [used, spare] = [store(&registry, 1, "used"), store(&registry, 1, "spare")];
    registry.register(cp(1), [(used, SIZE_BYTES)], []).unwrap();
    assert_eq!(registry.finish_pending(cp(1)).unwrap().created, [spare]);
}

#[test]
fn aborting_a_complete_checkpoint_is_refused() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    registry.register(cp(1), [], []).unwrap();
    assert_eq!(registry.abort(cp(1)).unwrap_err().kind(), ErrorKind::InvalidInput);
    registry.finish_pending(cp(1)).unwrap();
}

#[test]
fn ending_a_checkpoint_twice_is_refused() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    registry.abort(cp(1)).unwrap();
    assert_eq!(registry.abort(cp(1)).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn beginning_a_checkpoint_twice_is_refused() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    assert_eq!(registry.begin_pending(cp(1)).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

/// A registry with one object that nothing references.
fn unreferenced() -> (Arc<Registry>, SharedName) {
    let registry = Registry::new();
    let [name] = complete(&registry, 1, &["x"], &[])[..] else { panic!() };
    assert_eq!(registry.release(cp(1)).unwrap(), [name]);
    (registry, name)
}

#[test]
fn a_condemned_object_is_never_handed_out() {
    let (registry, old) = unreferenced();
    assert_eq!(registry.condemn(&[old]).unwrap(), [old]);
    registry.begin_pending(cp(2)).unwrap();
    let new = expect_upload(begin(&registry, 2, "x")).complete().unwrap();
    assert_ne!(new, old);
    assert_eq!(expect_stored(begin(&registry, 2, "x")), new);
    registry.forget(&[old]).unwrap();
    assert_eq!(registry.status(&old).unwrap(), ObjectStatus::Unknown);
    assert_eq!(registry.status(&new).unwrap(), ObjectStatus::Held);
}

#[test]
fn a_condemned_object_cannot_be_registered() {
    let (registry, name) = unreferenced();
    registry.condemn(&[name]).unwrap();
    let error = registry.register(cp(2), [(name, SIZE_BYTES)], []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn an_object_handed_out_again_before_it_was_condemned_is_not_condemned() {
    let (registry, name) = unreferenced();
    registry.begin_pending(cp(2)).unwrap();
    assert_eq!(expect_stored(begin(&registry, 2, "x")), name);
    assert_eq!(registry.condemn(&[name]).unwrap(), []);
    assert!(registry.status(&name).unwrap().is_needed());
}

#[test]
fn condemning_again_is_allowed_for_a_list_whose_writing_failed() {
    let (registry, name) = unreferenced();
    registry.condemn(&[name]).unwrap();
    assert_eq!(registry.condemn(&[name]).unwrap(), [name]);
    assert_eq!(registry.stats().condemned, 1);
}

#[test]
fn an_orphan_that_was_never_known_can_be_condemned_and_forgotten() {
    let registry = Registry::new();
    let orphan = SharedName { hash: hash("x"), tag: fresh(1), kind: FileKind::Sst };
    assert!(!registry.status(&orphan).unwrap().is_needed());
    assert_eq!(registry.condemn(&[orphan]).unwrap(), [orphan]);
    registry.forget(&[orphan]).unwrap();
    assert_eq!(registry.stats().entries, 0);
}

#[test]
fn forgetting_what_was_never_condemned_is_refused_and_changes_nothing() {
    let (registry, name) = unreferenced();
    let [other] = complete(&registry, 2, &["y"], &[])[..] else { panic!() };
    registry.condemn(&[name]).unwrap();
    assert_eq!(registry.forget(&[name, other]).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(registry.status(&name).unwrap(), ObjectStatus::Condemned);
}

#[test]
fn forgetting_an_unknown_object_is_refused() {
    let (registry, name) = unreferenced();
    registry.forget(&registry.condemn(&[name]).unwrap()).unwrap();
    assert_eq!(registry.forget(&[name]).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_new_registry_takes_ownership_of_registered_checkpoints() {
    let [a, b] = ["a", "b"].map(|content| SharedName { hash: hash(content), tag: fresh(3), kind: FileKind::Sst });
    let files = [(cp(3), vec![("1.sst", a, 7), ("2.sst", b, 7)]), (cp(5), vec![("2.sst", b, 7)])];
    let rebuilt = Registry::rebuild(files).unwrap();
    assert_eq!(rebuilt.newest.get("2.sst"), Some(&(b, cp(3))));
    assert_eq!(rebuilt.registry.stats().stored_bytes, 14);
    assert_eq!(rebuilt.registry.release(cp(3)).unwrap(), [a]);
}

#[test]
fn a_damaged_checkpoint_leaves_no_trace_in_a_rebuilt_registry() {
    let [a, b] = ["a", "b"].map(|content| SharedName { hash: hash(content), tag: fresh(3), kind: FileKind::Sst });
    let mut rebuilder = Rebuilder::new();
    rebuilder.add(cp(3), [(1, a, 7)]).unwrap();
    let twice = rebuilder.add(cp(4), [(1, a, 7), (2, b, 7), (2, b, 7)]).unwrap_err();
    let sizes = rebuilder.add(cp(4), [(1, a, 7), (2, b, 7), (3, b, 8)]).unwrap_err();
    assert_eq!((twice.kind(), sizes.kind()), (ErrorKind::Corrupt, ErrorKind::Corrupt));
    let registry = rebuilder.finish().registry;
    assert_eq!(registry.status(&b).unwrap(), ObjectStatus::Unknown);
    assert_eq!((registry.checkpoints(), registry.stats().stored_bytes), (vec![cp(3)], 7));
}

#[test]
fn a_distrusted_object_is_handed_out_no_more_and_needed_as_before() {
    let registry = Registry::new();
    let [old] = complete(&registry, 1, &["x"], &[])[..] else { panic!() };
    assert_eq!(registry.distrust(&[old]).unwrap(), [old]);
    assert_eq!(registry.status(&old).unwrap(), ObjectStatus::Referenced { tenancies: 1 });
    assert_eq!(registry.condemn(&[old]).unwrap(), [], "a checkpoint has it");
    registry.begin_pending(cp(2)).unwrap();
    let new = expect_upload(begin(&registry, 2, "x")).complete().unwrap();
    assert_ne!(new, old);
    assert_eq!(expect_stored(begin(&registry, 2, "x")), new);
    registry.register(cp(2), [(new, SIZE_BYTES)], [(old, cp(1))]).unwrap();
    registry.finish_pending(cp(2)).unwrap();
    // It goes with the last checkpoint that has it.
    assert_eq!(registry.release(cp(1)).unwrap(), [old]);
    assert_eq!(registry.condemn(&[old]).unwrap(), [old]);
    registry.forget(&[old]).unwrap();
    assert_eq!(registry.status(&new).unwrap(), ObjectStatus::Referenced { tenancies: 1 });
}

#[test]
fn a_distrusted_object_cannot_be_registered_anew() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    let name = store(&registry, 1, "x");
    registry.distrust(&[name]).unwrap();
    let error = registry.register(cp(1), [(name, SIZE_BYTES)], []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(registry.abort(cp(1)).unwrap().created, [name], "what was held is let go as ever");
}

#[test]
fn what_the_registry_does_not_know_as_stored_is_not_distrusted() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let stranger = SharedName { hash: hash("y"), tag: fresh(1), kind: FileKind::Sst };
    assert_eq!(registry.distrust(&[*guard.name(), stranger]).unwrap(), []);
    assert!(!registry.is_distrusted(&stranger).unwrap());
    let name = guard.complete().unwrap();
    assert_eq!(expect_stored(begin(&registry, 1, "x")), name);
}
