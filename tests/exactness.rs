//! What a checkpoint costs and what lies on the store, to the byte, by hashes computed here.

#[path = "coordinator/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use icecore::coordinator::{Acknowledged, Coordinator};
use icecore::gc::SweepScope;
use icecore::layout::Place;
use icecore::metadata::{CheckpointKind, FileEntry, Location};
use icecore::snapshot::{FileSource, SubtaskHandle, Trigger};
use icecore::store::testing::{Rule, Step};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::*;

const SUBTASKS: u32 = 3;

/// The contents in `shared/`, by hashes computed here, and their lengths.
async fn contents_there(world: &World) -> BTreeMap<[u8; 32], u64> {
    let mut contents = BTreeMap::new();
    for (path, size) in world.shared().await {
        let bytes = world.read(&path).await.unwrap();
        assert!(contents.insert(sha256(&bytes), size).is_none(), "one content lies there twice: {path}");
    }
    contents
}

/// The sizes of live contents that are not there yet, each once.
fn missing_bytes(tasks: &[Task], there: &BTreeMap<[u8; 32], u64>) -> u64 {
    let live = tasks.iter().flat_map(|task| task.files.values()).map(|(bytes, _)| (sha256(bytes), bytes.len() as u64));
    let live: BTreeMap<[u8; 32], u64> = live.collect();
    live.iter().filter(|(hash, _)| !there.contains_key(*hash)).map(|(_, size)| size).sum()
}

fn change(rng: &mut ChaCha8Rng, tasks: &mut [Task]) {
    for task in tasks {
        for _ in 0..rng.random_range(0..4) {
            let name = format!("{}.sst", rng.random_range(0..8));
            if rng.random_bool(0.3) {
                task.files.remove(&name);
            } else {
                // Few contents, so that they are met again in other subtasks and later.
                let content = rng.random_range(0..20_u8);
                task.write(&name, vec![content; 10 + usize::from(content)]);
            }
        }
    }
}

async fn upload_all(tasks: &[Task], trigger: &Trigger) -> Vec<SubtaskHandle> {
    join_all(tasks.iter().map(|task| task.upload(trigger))).await.into_iter().map(Result::unwrap).collect()
}

/// No list, request or superseded record is left: the own claim and start only.
async fn assert_records(world: &World, coordinator: &Coordinator) {
    let epoch = coordinator.epoch();
    for path in world.objects().await.into_keys() {
        let place = Place::of(&world.layout, &path).unwrap();
        let is_fine = match place {
            Place::Claim(other) | Place::Start(other) => other == epoch,
            Place::Shared(_) | Place::Metadata(_) | Place::Private(_) => true,
            _ => false,
        };
        assert!(is_fine, "{path} is left: {place:?}");
    }
}

#[tokio::test]
async fn each_checkpoint_writes_the_live_content_that_was_not_there_and_the_store_holds_the_union() {
    let world = World::new();
    let coordinator = world.coordinator(SUBTASKS, keep(3)).await;
    let mut tasks: Vec<Task> = (0..SUBTASKS).map(|index| world.task(&coordinator, index, SUBTASKS)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut uploaded = 0;
    for round in 0..120 {
        change(&mut rng, &mut tasks);
        let there = contents_there(&world).await;
        let expected = missing_bytes(&tasks, &there);
        world.counting.reset();
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let handles = upload_all(&tasks, &trigger).await;
        let written = world.counting.traffic("job-j/shared/").written_bytes;
        assert_eq!(written, expected, "round {round}");
        let told: u64 = handles.iter().map(|handle| handle.stats.uploaded_bytes).sum();
        assert_eq!(told, expected, "round {round}: what the statistics say");
        uploaded += written;
        if round % 7 == 3 {
            assert!(coordinator.abort(trigger.checkpoint, "for the test"));
            coordinator.collect(SweepScope::Everything, false).await.unwrap();
            assert_records(&world, &coordinator).await;
        } else {
            for handle in handles {
                coordinator.acknowledge(handle).await.unwrap();
            }
            tasks.iter().for_each(|task| task.snapshotter.notify_complete(trigger.checkpoint));
        }
        world.assert_exact(&format!("round {round}")).await;
        if round % 11 == 5 {
            let oldest = coordinator.completed()[0].folder;
            coordinator.drop_checkpoints(&asked(oldest), false).await.unwrap();
            world.assert_exact(&format!("round {round}, dropped")).await;
        }
        if round % 13 == 6 {
            coordinator.collect(SweepScope::Everything, false).await.unwrap();
            world.assert_exact(&format!("round {round}, collected")).await;
            assert_records(&world, &coordinator).await;
        }
    }
    world.assert_sound("in the end").await;
    assert!(uploaded > 1_000, "the rounds did something: {uploaded} bytes");
}

#[tokio::test]
async fn two_subtasks_that_upload_the_same_content_at_once_make_one_object() {
    let (world, coordinator, [mut a, mut b]) = two_tasks(keep(2)).await;
    a.write("1.sst", "the same");
    b.write("2.sst", "the same");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let gate = world.store.park(Rule::on(Step::Put).path_contains("/shared/").always());
    let (a, b) = (Arc::new(a), Arc::new(b));
    let start = |task: &Arc<Task>| {
        let (task, trigger) = (Arc::clone(task), trigger.clone());
        tokio::spawn(async move { task.upload(&trigger).await.unwrap() })
    };
    let uploads = [start(&a), start(&b)];
    gate.reached().await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.arrived(), 1, "the other one waits");
    gate.release();
    let mut sent = 0;
    for upload in uploads {
        let handle = upload.await.unwrap();
        sent += handle.stats.uploaded_files;
        coordinator.acknowledge(handle).await.unwrap();
    }
    assert_eq!((sent, world.shared().await.len()), (1, 1));
    world.assert_sound("one object").await;
}

#[tokio::test]
async fn a_file_whose_identity_is_known_is_not_opened() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(2)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("000007.sst");
    std::fs::write(&path, b"a table").unwrap();
    let mut task = world.task(&coordinator, 0, 1);
    task.write("000007.sst", b"a table");
    let snapshot = || {
        let mut snapshot = task.snapshot();
        snapshot.files[0].source = FileSource::Path { path: path.clone(), size_bytes: 7 };
        snapshot
    };
    for round in 0..2 {
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let handle = task.snapshotter.upload(&trigger, snapshot()).await.unwrap();
        assert_eq!(handle.stats.hashed_files, 1 - round);
        coordinator.acknowledge(handle).await.unwrap();
        if round == 0 {
            std::fs::remove_file(&path).unwrap();
        }
    }
    assert_eq!(coordinator.completed().len(), 2);
    // The control: one of an identity that is not known is opened, and that fails.
    task.write("000007.sst", b"a tuple");
    let mut snapshot = task.snapshot();
    snapshot.files[0].source = FileSource::Path { path: path.clone(), size_bytes: 7 };
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.snapshotter.upload(&trigger, snapshot).await.unwrap_err();
}

#[tokio::test]
async fn same_name_and_size_with_other_bytes_is_uploaded() {
    let (world, coordinator, mut task) = one_task(keep(2)).await;
    task.write("000007.sst", b"aaaa");
    let first = checkpoint(&coordinator, &[&task]).await;
    task.write("000007.sst", b"bbbb");
    let second = checkpoint(&coordinator, &[&task]).await;
    for (folder, bytes) in [(first, b"aaaa"), (second, b"bbbb")] {
        let object = world.objects_of(folder).await["000007.sst"].clone();
        assert_eq!(&world.read(&object).await.unwrap()[..], bytes);
    }
}

#[tokio::test]
async fn a_file_of_no_identity_is_hashed_and_not_sent_again() {
    let (_world, coordinator, mut task) = one_task(keep(2)).await;
    task.write("1.sst", "a");
    for sent in [1, 0] {
        let mut snapshot = task.snapshot();
        snapshot.files[0].known = icecore::snapshot::Known::No;
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let handle = task.snapshotter.upload(&trigger, snapshot).await.unwrap();
        assert_eq!((handle.stats.hashed_files, handle.stats.uploaded_files), (1, sent));
        coordinator.acknowledge(handle).await.unwrap();
    }
}

/// What one step of a job costs that must not depend on how much there is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cost {
    registry_touched: u64,
    /// File entries of indexes that plans of deletion went through.
    index_entries: u64,
    requests: u64,
    acknowledgement_bytes: usize,
    uploaded_bytes: u64,
    opened_files: u64,
}

fn entry_bytes(entry: &FileEntry) -> usize {
    let location = match &entry.location {
        Location::InRoot(path) | Location::InCheckpoint(path) => path.as_str().len(),
    };
    // The hash, four numbers, the identity.
    entry.local_name.as_str().len() + location + 32 + 4 * 8 + 5 * 8
}

fn handle_bytes(handle: &SubtaskHandle) -> usize {
    let added: usize = handle.added.iter().map(entry_bytes).sum();
    added + handle.removed.iter().map(|name| name.as_str().len()).sum::<usize>()
}

/// A job with many files that never change, and few that always do.
struct Large {
    world: World,
    coordinator: Arc<Coordinator>,
    task: Task,
    unchanged: usize,
    written: usize,
}

impl Large {
    async fn of(unchanged: usize, retained: u32) -> Self {
        let (world, coordinator, mut task) = one_task(keep(retained)).await;
        for number in 0..unchanged {
            task.write(&format!("{number:08}.sst"), number.to_le_bytes());
        }
        let mut large = Self { world, coordinator, task, unchanged, written: unchanged };
        for _ in 0..3 {
            large.churn();
            checkpoint(&large.coordinator, &[&large.task]).await;
        }
        large
    }

    /// 25 files are replaced.
    fn churn(&mut self) {
        for slot in 0..25 {
            self.task.write(&format!("x{slot:07}.sst"), self.written.to_le_bytes());
            self.written += 1;
        }
    }

    /// What `step` costs.
    async fn cost_of(&mut self, step: impl AsyncFnOnce(&mut Self, &mut Cost)) -> Cost {
        self.world.counting.reset();
        let figures = |large: &Self| {
            let touched = large.coordinator.registry().stats().touched;
            (touched, large.coordinator.view().entries_read(), large.task.opened())
        };
        let before = figures(self);
        let mut cost = Cost::default();
        step(self, &mut cost).await;
        let after = figures(self);
        Cost {
            registry_touched: after.0 - before.0,
            index_entries: after.1 - before.1,
            requests: self.world.counting.total_requests(),
            opened_files: after.2 - before.2,
            ..cost
        }
    }
}

/// Takes a checkpoint with 50 changes on top of `unchanged` files, which lets the oldest go.
async fn cost_of_a_checkpoint_beside(unchanged: usize) -> Cost {
    let mut large = Large::of(unchanged, 2).await;
    large.churn();
    let take = async |large: &mut Large, cost: &mut Cost| {
        let trigger = large.coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let handle = large.task.upload(&trigger).await.unwrap();
        (cost.acknowledgement_bytes, cost.uploaded_bytes) = (handle_bytes(&handle), handle.stats.uploaded_bytes);
        assert_eq!(handle.stats.files as usize, large.unchanged + 25);
        let acknowledged = large.coordinator.acknowledge(handle).await.unwrap();
        assert!(matches!(acknowledged, Acknowledged::Complete(..)));
    };
    let cost = large.cost_of(take).await;
    assert_eq!(large.world.counting_ids().await, [3, 4], "the oldest one went");
    cost
}

/// Drops a checkpoint by hand, beside a full one.
async fn cost_of_a_drop_beside(unchanged: usize) -> Cost {
    let mut large = Large::of(unchanged, 9).await;
    checkpoint_of(&large.coordinator, &[&large.task], CheckpointKind::Full).await;
    let first = large.coordinator.completed()[0].folder;
    let drop_it = async |large: &mut Large, _: &mut Cost| {
        large.coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    };
    let cost = large.cost_of(drop_it).await;
    assert_eq!(large.world.counting_ids().await, [2, 3, 4]);
    large.world.assert_exact("after the drop").await;
    cost
}

/// Removes what an aborted checkpoint left, with the next completion.
async fn cost_of_an_abort_beside(unchanged: usize) -> Cost {
    let mut large = Large::of(unchanged, 9).await;
    checkpoint_of(&large.coordinator, &[&large.task], CheckpointKind::Full).await;
    large.churn();
    let trigger = large.coordinator.trigger(CheckpointKind::Incremental).unwrap();
    large.task.upload(&trigger).await.unwrap();
    large.coordinator.abort(trigger.checkpoint, "for the test");
    large.churn();
    let take = async |large: &mut Large, _: &mut Cost| {
        checkpoint(&large.coordinator, &[&large.task]).await;
    };
    let cost = large.cost_of(take).await;
    large.world.assert_exact("after the next completion").await;
    cost
}

#[tokio::test]
async fn a_checkpoint_costs_the_same_beside_a_thousand_and_a_hundred_thousand_unchanged_files() {
    let few = cost_of_a_checkpoint_beside(1_000).await;
    assert_eq!(few.opened_files, 25);
    assert!(few.registry_touched > 0 && few.requests > 25);
    assert_eq!(few, cost_of_a_checkpoint_beside(100_000).await);
}

#[tokio::test]
async fn a_drop_costs_the_same_beside_a_thousand_and_twenty_thousand_unchanged_files() {
    let few = cost_of_a_drop_beside(1_000).await;
    assert!(few.registry_touched > 0 && few.requests > 3);
    assert_eq!(few, cost_of_a_drop_beside(20_000).await);
}

#[tokio::test]
async fn what_an_abort_left_costs_the_same_beside_a_thousand_and_twenty_thousand_unchanged_files() {
    let few = cost_of_an_abort_beside(1_000).await;
    assert!(few.requests > 25);
    assert_eq!(few, cost_of_an_abort_beside(20_000).await);
}

#[tokio::test]
async fn one_shot_coordinators_leave_at_most_three_epoch_folders() {
    let rounds = if std::env::var_os("ICECORE_LONG").is_some() { 10_000 } else { 300 };
    let world = World::new();
    for round in 0..rounds {
        let coordinator = world.coordinator(1, keep(2)).await;
        let mut task = world.task(&coordinator, 0, 1);
        task.write("1.sst", format!("{}", round / 2));
        checkpoint(&coordinator, &[&task]).await;
        coordinator.collect(SweepScope::Records, false).await.unwrap();
        coordinator.end().await.unwrap();
        let epochs = world.memory.list_children(Some(&world.layout.epochs().unwrap())).await.unwrap();
        assert!(epochs.len() <= 3, "round {round}: {epochs:?}");
    }
    world.assert_sound("in the end").await;
    world.assert_exact("in the end").await;
    let ids: BTreeSet<u64> = world.counting_ids().await.into_iter().collect();
    assert_eq!(ids, BTreeSet::from([rounds - 1, rounds]));
}
