//! Register and release.

use super::*;
use crate::error::ErrorKind;
use crate::registry::ObjectStatus;

/// The example of the module's text: a in 1-2, b in 1-3, c in 2, d in 3.
fn example() -> (Arc<Registry>, [SharedName; 4]) {
    let registry = Registry::new();
    let [a, b] = complete(&registry, 1, &["a", "b"], &[])[..] else { panic!() };
    let [c] = complete(&registry, 2, &["c"], &[])[..] else { panic!() };
    let [d] = complete(&registry, 3, &["d"], &[(a, 1), (c, 2)])[..] else { panic!() };
    (registry, [a, b, c, d])
}

#[test]
fn dropping_the_oldest_frees_only_what_its_successor_lost() {
    let (registry, [a, ..]) = example();
    assert_eq!(registry.release(cp(1)).unwrap(), []);
    let freed = registry.release(cp(2)).unwrap();
    assert_eq!(freed.len(), 2);
    assert!(freed.contains(&a));
}

#[test]
fn dropping_a_middle_one_frees_only_what_neither_neighbour_has() {
    let (registry, [a, _, c, _]) = example();
    assert_eq!(registry.release(cp(2)).unwrap(), [c]);
    assert_eq!(registry.release(cp(1)).unwrap(), [a]);
}

#[test]
fn dropping_the_newest_frees_what_it_introduced_and_revives_what_it_lost() {
    let (registry, [a, b, c, d]) = example();
    assert_eq!(registry.release(cp(3)).unwrap(), [d]);
    assert_eq!(registry.checkpoints_of(&a).unwrap(), [cp(1), cp(2)]);
    // The next difference is to checkpoint 2 again.
    complete(&registry, 4, &[], &[(c, 2)]);
    assert_eq!(registry.release(cp(2)).unwrap(), [c]);
    assert_eq!(registry.status(&b).unwrap(), ObjectStatus::Referenced { tenancies: 1 });
}

#[test]
fn an_object_of_two_subtasks_lives_until_both_lost_it() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    let name = store(&registry, 1, "same");
    registry.register(cp(1), [(name, SIZE_BYTES), (name, SIZE_BYTES)], []).unwrap();
    registry.finish_pending(cp(1)).unwrap();
    complete(&registry, 2, &[], &[(name, 1)]);
    assert_eq!(registry.release(cp(1)).unwrap(), []);
    complete(&registry, 3, &[], &[(name, 1)]);
    assert_eq!(registry.release(cp(2)).unwrap(), [name]);
}

#[test]
fn one_local_name_with_other_content_is_another_entry() {
    let registry = Registry::new();
    let [old] = complete(&registry, 1, &["old bytes"], &[])[..] else { panic!() };
    let [new] = complete(&registry, 2, &["new bytes"], &[(old, 1)])[..] else { panic!() };
    assert_ne!(old, new);
    assert_eq!(registry.stats().entries, 2);
    assert_eq!(registry.release(cp(1)).unwrap(), [old]);
}

#[test]
fn an_object_that_came_back_is_kept_by_its_second_life() {
    let registry = Registry::new();
    let [name] = complete(&registry, 1, &["x"], &[])[..] else { panic!() };
    complete(&registry, 2, &[], &[(name, 1)]);
    assert_eq!(complete(&registry, 3, &["x"], &[]), [name]);
    assert_eq!(registry.checkpoints_of(&name).unwrap(), [cp(1), cp(3)]);
    assert_eq!(registry.release(cp(1)).unwrap(), []);
    assert_eq!(registry.release(cp(3)).unwrap(), [name]);
}

#[test]
fn registering_a_checkpoint_twice_is_refused() {
    let (registry, _) = example();
    assert_eq!(registry.register(cp(3), [], []).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn registering_an_id_below_one_that_was_released_is_refused() {
    let (registry, _) = example();
    registry.release(cp(3)).unwrap();
    assert_eq!(registry.register(cp(3), [], []).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn releasing_an_unknown_checkpoint_is_refused_and_changes_nothing() {
    let (registry, _) = example();
    let before = registry.stats();
    assert_eq!(registry.release(cp(9)).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.stats(), before);
}

#[test]
fn releasing_twice_is_refused() {
    let (registry, _) = example();
    registry.release(cp(1)).unwrap();
    assert_eq!(registry.release(cp(1)).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Registers checkpoint 4 with one good addition and `removed`, which is wrong; nothing may change.
fn assert_refused(registry: &Arc<Registry>, removed: &[(SharedName, u64)]) {
    let [good] = [store_for_four(registry)];
    let without_counters = |mut stats: crate::registry::Stats| {
        (stats.touched, stats.heap_bytes) = (0, 0);
        stats
    };
    let before = without_counters(registry.stats());
    let removed = removed.iter().map(|(name, born)| (*name, cp(*born)));
    let error = registry.register(cp(4), [(good, SIZE_BYTES)], removed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(without_counters(registry.stats()), before);
    assert_eq!(registry.status(&good).unwrap(), ObjectStatus::Held);
    assert_eq!(registry.checkpoints(), [cp(1), cp(2), cp(3)]);
}

fn store_for_four(registry: &Arc<Registry>) -> SharedName {
    registry.begin_pending(cp(4)).unwrap();
    store(registry, 4, "good")
}

#[test]
fn removing_a_file_that_the_newest_has_not_is_refused_and_changes_nothing() {
    let (registry, [a, ..]) = example();
    assert_refused(&registry, &[(a, 1)]);
}

#[test]
fn removing_a_file_twice_is_refused_and_changes_nothing() {
    let (registry, [_, b, ..]) = example();
    assert_refused(&registry, &[(b, 1), (b, 1)]);
    assert_eq!(registry.checkpoints_of(&b).unwrap(), [cp(1), cp(2), cp(3)]);
}

#[test]
fn removing_a_file_under_a_wrong_birth_is_refused_and_changes_nothing() {
    let (registry, [_, b, ..]) = example();
    assert_refused(&registry, &[(b, 2)]);
    assert_eq!(registry.release(cp(1)).unwrap(), []);
    assert_eq!(registry.release(cp(2)).unwrap().len(), 2);
}

#[test]
fn registering_an_object_that_was_never_stored_is_refused() {
    let registry = Registry::new();
    let name = SharedName { hash: hash("x"), tag: fresh(1), kind: FileKind::Sst };
    let error = registry.register(cp(1), [(name, SIZE_BYTES)], []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn registering_an_upload_that_has_not_ended_is_refused() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let error = registry.register(cp(1), [(*guard.name(), SIZE_BYTES)], []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn registering_an_object_with_another_size_is_refused() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    let name = store(&registry, 1, "x");
    let error = registry.register(cp(1), [(name, SIZE_BYTES + 1)], []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

/// Tenancies touched by ten checkpoints of 50 changes each, one retained.
fn touched_with(unchanged: usize) -> Vec<u64> {
    let registry = Registry::new();
    let contents: Vec<String> = (0..unchanged).map(|i| format!("unchanged {i}")).collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    complete(&registry, 1, &contents, &[]);
    let mut last: Vec<(SharedName, u64)> = Vec::new();
    let mut touched = Vec::new();
    for id in 2..12 {
        let before = registry.stats().touched;
        let contents: Vec<String> = (0..50).map(|i| format!("changed {i} of {id}")).collect();
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        last = complete(&registry, id, &contents, &last).into_iter().map(|name| (name, id)).collect();
        registry.release(cp(id - 1)).unwrap();
        touched.push(registry.stats().touched - before);
    }
    touched
}

#[test]
fn entries_touched_by_a_checkpoint_do_not_depend_on_unchanged_files() {
    let few = touched_with(1_000);
    assert_eq!(few, touched_with(100_000));
    assert_eq!(few.last(), Some(&250), "50 added, 50 looked for, unlinked and dead, 50 freed");
}

#[test]
fn memory_is_given_back_to_later_entries() {
    let registry = Registry::new();
    let mut last: Vec<(SharedName, u64)> = Vec::new();
    let mut heap_bytes = 0;
    for id in 1..100 {
        let contents: Vec<String> = (0..500).map(|i| format!("{i} of {id}")).collect();
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        last = complete(&registry, id, &contents, &last).into_iter().map(|name| (name, id)).collect();
        if id > 1 {
            let freed = registry.release(cp(id - 1)).unwrap();
            registry.forget(&registry.condemn(&freed).unwrap()).unwrap();
        }
        if id == 20 {
            heap_bytes = registry.stats().heap_bytes;
        }
    }
    assert_eq!(registry.stats().entries, 500);
    assert!(registry.stats().heap_bytes < heap_bytes * 3 / 2);
}
