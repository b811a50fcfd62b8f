//! The heap backend against a reference model: what it holds, what its snapshots hold while it goes
//! on writing, and what they give back on another number of subtasks (I10).

mod state_model;

use std::collections::BTreeMap;

use icecore::keygroup::MaxParallelism;
use icecore::layout::ContentHash;
use icecore::metadata::StateSchema;
use icecore::state::heap::{ChunkName, HeapBackend, HeapRestore, HeapSnapshot};
use proptest::prelude::*;
use state_model::{Model, Operation, Subject, max_parallelism, operation, ranges};

fn chunks_of(snapshot: &HeapSnapshot) -> BTreeMap<ChunkName, Vec<u8>> {
    let write = |name: ChunkName| {
        let mut bytes = Vec::new();
        snapshot.write_chunk(&name, &mut bytes).unwrap();
        (name, bytes)
    };
    snapshot.chunks().into_iter().map(write).collect()
}

fn hashes_of(chunks: &BTreeMap<ChunkName, Vec<u8>>) -> BTreeMap<ChunkName, ContentHash> {
    chunks.iter().map(|(name, bytes)| (name.clone(), ContentHash::of(bytes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_snapshot_taken_amid_writes_is_restored_key_by_key_at_any_parallelism(
        max in max_parallelism(),
        operations in prop::collection::vec(operation(), 0..250),
        cut in 0.0..1.0,
        parallelism in 1_u32..=4,
    ) {
        let cut = (operations.len() as f64 * cut) as usize;
        let mut subject = Subject::over(HeapBackend::new(max, max.all_groups()).unwrap()).unwrap();
        let mut model = Model::default();
        for operation in &operations[..cut] {
            prop_assert_eq!(subject.apply(operation), model.apply(operation));
        }
        let snapshot = subject.context.backend_mut().snapshot();
        let at_cut = model.clone();
        for operation in &operations[cut..] {
            prop_assert_eq!(subject.apply(operation), model.apply(operation));
        }
        prop_assert_eq!(subject.read().unwrap(), model);

        let states: Vec<StateSchema> = snapshot.states().cloned().collect();
        let chunks = chunks_of(&snapshot);
        let mut restored = Model::default();
        let mut chunks_again = BTreeMap::new();
        for range in ranges(max, parallelism) {
            let mut restore = HeapRestore::new(max, range, &states).unwrap();
            for bytes in chunks.values() {
                restore.add_chunk(bytes.as_slice()).unwrap();
            }
            let mut subject = Subject::over(restore.finish().unwrap()).unwrap();
            chunks_again.extend(chunks_of(&subject.context.backend_mut().snapshot()));
            restored.merge(subject.read().unwrap());
        }
        prop_assert_eq!(restored, at_cut);
        prop_assert_eq!(chunks_again, chunks);
    }

    #[test]
    fn chunks_that_changed_since_does_not_name_have_the_same_content_as_before(
        max in max_parallelism(),
        rounds in prop::collection::vec(prop::collection::vec(operation(), 0..40), 2..6),
        base in 0_usize..4,
    ) {
        let mut subject = Subject::over(HeapBackend::new(max, max.all_groups()).unwrap()).unwrap();
        let mut snapshots = Vec::new();
        for operations in &rounds {
            for operation in operations {
                subject.apply(operation);
            }
            snapshots.push(subject.context.backend_mut().snapshot());
        }
        let (last, base) = (snapshots.last().unwrap(), &snapshots[base.min(snapshots.len() - 2)]);
        // What an incremental checkpoint would do: take the base's files, apply the changes.
        let mut files = hashes_of(&chunks_of(base));
        let now = hashes_of(&chunks_of(last));
        for change in last.changed_since(base.generation()) {
            files.remove(&change.name);
            prop_assert_eq!(change.has_rows, now.contains_key(&change.name));
            if change.has_rows {
                files.insert(change.name.clone(), now[&change.name]);
            }
        }
        prop_assert_eq!(files, now);
    }
}

#[test]
fn a_snapshot_is_written_on_another_thread_while_the_backend_goes_on_writing() {
    const ROUNDS: u32 = 2_000;
    let max = MaxParallelism::new(8).unwrap();
    let mut subject = Subject::over(HeapBackend::new(max, max.all_groups()).unwrap()).unwrap();
    let place = |key: u32| (key.to_string(), Vec::new());
    for key in 0..ROUNDS {
        subject.apply(&Operation::SetValue(place(key), key));
    }
    let snapshot = subject.context.backend_mut().snapshot();
    let before = chunks_of(&snapshot);
    let writer = std::thread::spawn(move || (0..10).map(|_| chunks_of(&snapshot)).collect::<Vec<_>>());
    for key in 0..ROUNDS {
        subject.apply(&Operation::SetValue(place(key), key + 1));
        subject.apply(&Operation::ClearValue(place(key / 2)));
    }
    for chunks in writer.join().unwrap() {
        assert!(chunks == before, "a later write shows in the snapshot");
    }
}
