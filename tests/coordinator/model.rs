//! Random lives of a job, from a seed: changes, checkpoints, aborts, drops, pins, sweeps, checkpoints beside a
//! sweep that stands still, objects that are said to be damaged, crashes, processes that claim again,
//! zombies, stalls, cancelled calls and a store that fails, loses answers and lands writes late.
//! After every step the checkpoints that count are whole (I1) and the reported ones are there (I2);
//! in the end two clean sweeps leave exactly what they reference (I5).
//!
//! `ICECORE_SEED=n` runs one life, `ICECORE_LONG=1` goes on for ten minutes.

mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use icecore::coordinator::{Acknowledged, CheckpointListener, Coordinator, KeptUp, RetentionPolicy, Supervisor};
use icecore::gc::SweepScope;
use icecore::layout::{CheckpointFolder, CheckpointId};
use icecore::metadata::CheckpointKind;
use icecore::snapshot::{SubtaskHandle, Trigger};
use icecore::store::StoreRef;
use icecore::store::testing::{Fault, Gate, Rule, Step};
use icecore::{ErrorKind, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;

use crate::support::*;

const SUBTASKS: u32 = 2;
const STEPS: usize = 60;
/// The same ones everywhere, however busy the machine is: what fails on one fails on all.
const LIVES: u64 = 300;
/// In the long mode, those after them, too.
const LIVES_FOR_LONG: Duration = Duration::from_secs(600);

/// How often what is seldom came about, over all lives.
static CLAIMED_AGAIN: AtomicU64 = AtomicU64::new(0);
static DISTRUSTED: AtomicU64 = AtomicU64::new(0);
static COMPLETE_BESIDE: AtomicU64 = AtomicU64::new(0);

/// Hashes of files by subtask and local name.
type Content = BTreeMap<(u32, String), [u8; 32]>;

/// A call of an old coordinator that stands still somewhere in the store.
struct Stalled {
    gate: Gate,
    call: JoinHandle<Option<CheckpointFolder>>,
}

struct Life {
    world: World,
    rng: ChaCha8Rng,
    supervisor: Arc<Supervisor>,
    /// Who coordinates now.
    coordinator: Arc<Coordinator>,
    /// What this process was told.
    told: Arc<Told>,
    tasks: Vec<Task>,
    zombies: Vec<Arc<Coordinator>>,
    stalled: Vec<Stalled>,
    /// What each checkpoint must hold, if it comes to count.
    content: BTreeMap<CheckpointFolder, Content>,
    /// What was reported complete, by number.
    reported: BTreeMap<u64, CheckpointFolder>,
    pinned: BTreeSet<CheckpointFolder>,
    adopted: BTreeSet<CheckpointFolder>,
    /// A collection stands still: what waits for it must not be called.
    is_collecting: bool,
    log: Vec<String>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the steps of this life:\n  {}", self.log.join("\n  "));
        }
    }
}

impl Life {
    async fn begin(seed: u64) -> Self {
        let world = World::new();
        let (supervisor, told) = supervised(&world).await.unwrap();
        let tasks = (0..SUBTASKS).map(|index| world.supervised_task(&supervisor, index, SUBTASKS)).collect();
        Self {
            world,
            rng: ChaCha8Rng::seed_from_u64(seed),
            coordinator: supervisor.coordinator(),
            supervisor,
            told,
            tasks,
            zombies: Vec::new(),
            stalled: Vec::new(),
            content: BTreeMap::new(),
            reported: BTreeMap::new(),
            pinned: BTreeSet::new(),
            adopted: BTreeSet::new(),
            is_collecting: false,
            log: Vec::new(),
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..18 => self.change(),
            18..38 => self.checkpoint().await,
            38..45 => self.checkpoints_beside_a_collection().await,
            45..52 => self.overlapping_checkpoints().await,
            52..59 => self.drop_one().await,
            59..64 => self.pin_one().await,
            64..67 => self.unpin_one().await,
            67..69 => self.retain().await,
            69..71 => self.distrust_one().await,
            71..78 => self.collect().await,
            78..83 => self.crash().await,
            83..87 => self.stall().await,
            87..90 => self.release_a_stalled_call().await,
            90..92 => self.act_as_a_zombie().await,
            92..98 => self.inject(),
            _ => self.heal().await,
        }
        if self.coordinator.trigger_is_refused_for_good() {
            match self.rng.random_bool(0.5) {
                true => self.claim_again().await,
                false => self.crash().await,
            }
        }
        self.check().await;
    }

    fn change(&mut self) {
        for task in &mut self.tasks {
            for _ in 0..self.rng.random_range(0..3) {
                let name = match self.rng.random_range(0..8) {
                    7 => "private-1".to_owned(),
                    number => format!("{number}.sst"),
                };
                if self.rng.random_bool(0.3) {
                    task.files.remove(&name);
                } else {
                    let content = self.rng.random_range(0..12_u8);
                    task.write(&name, vec![content; 8 + usize::from(content)]);
                }
            }
        }
    }

    fn content_now(&self) -> Content {
        let files = self.tasks.iter().zip(0..).flat_map(|(task, index)| {
            task.files.iter().map(move |(name, (bytes, _))| ((index, name.clone()), sha256(bytes)))
        });
        files.collect()
    }

    fn trigger(&mut self) -> Option<Trigger> {
        let kind = if self.rng.random_bool(0.1) { CheckpointKind::Full } else { CheckpointKind::Incremental };
        let trigger = self.coordinator.trigger(kind).ok()?;
        self.note(format!("trigger {} {kind:?}", trigger.checkpoint));
        let content = self.content_now();
        self.content.insert(trigger.checkpoint_folder(), content);
        Some(trigger)
    }

    /// Every subtask uploads; `None` if it was declined or aborted on the way.
    async fn upload(&mut self, trigger: &Trigger) -> Option<Vec<SubtaskHandle>> {
        let mut handles = Vec::new();
        for index in 0..self.tasks.len() {
            if self.rng.random_bool(0.05) {
                self.note(format!("abort {}", trigger.checkpoint));
                self.coordinator.abort(trigger.checkpoint, "at random");
                if self.rng.random_bool(0.5) {
                    return None;
                }
            }
            // What else may happen while a checkpoint is in flight, if it need not wait.
            match self.rng.random_range(0..20) {
                _ if self.is_collecting => {}
                0 => self.collect().await,
                1 => self.drop_one().await,
                2 => self.retain().await,
                _ => {}
            }
            match self.tasks[index].upload(trigger).await {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    self.note(format!("decline {}: {error}", trigger.checkpoint));
                    self.coordinator.decline(trigger.checkpoint, &subtask(0), "its upload failed");
                    self.tasks.iter().for_each(|task| task.snapshotter.notify_aborted(trigger.checkpoint));
                    return None;
                }
            }
            if self.rng.random_bool(0.05) {
                handles.extend(handles.last().cloned());
            }
        }
        Some(handles)
    }

    async fn acknowledge(&mut self, handles: Vec<SubtaskHandle>) {
        for handle in handles {
            let coordinator = Arc::clone(&self.coordinator);
            let Some(outcome) = self.maybe_cancelled(async move { coordinator.acknowledge(handle).await }).await else {
                continue;
            };
            match outcome {
                Ok(Acknowledged::Complete(folder, _)) => self.reported(folder),
                Ok(_) => {}
                Err(error) => self.note(format!("not complete: {error}")),
            }
        }
    }

    fn reported(&mut self, folder: CheckpointFolder) {
        self.note(format!("complete {folder}"));
        // I3.
        let other = self.reported.insert(folder.checkpoint.0, folder);
        assert!(other.is_none(), "{folder} and {other:?} were reported");
        self.tasks.iter().for_each(|task| task.snapshotter.notify_complete(folder.checkpoint));
    }

    async fn checkpoint(&mut self) {
        let Some(trigger) = self.trigger() else { return };
        if let Some(handles) = self.upload(&trigger).await {
            self.acknowledge(handles).await;
        }
        if self.rng.random_bool(0.9) {
            self.coordinator.abort(trigger.checkpoint, "it was not finished");
        }
    }

    async fn overlapping_checkpoints(&mut self) {
        let Some(first) = self.trigger() else { return };
        let early = self.upload(&first).await;
        self.change();
        let Some(second) = self.trigger() else { return };
        let late = self.upload(&second).await;
        let mut both = [early, late];
        if self.rng.random_bool(0.5) {
            both.reverse();
        }
        for handles in both.into_iter().flatten() {
            self.acknowledge(handles).await;
        }
        self.coordinator.abort(first.checkpoint, "it was not finished");
        self.coordinator.abort(second.checkpoint, "it was not finished");
    }

    /// A collection stands still at some request, and this coordinator goes on.
    async fn checkpoints_beside_a_collection(&mut self) {
        let gate = self.some_gate();
        let coordinator = Arc::clone(&self.coordinator);
        let mut collecting = tokio::spawn(async move {
            let _ = coordinator.collect(SweepScope::Everything, false).await;
        });
        tokio::select! {
            biased;
            ended = &mut collecting => return ended.unwrap(),
            () = gate.reached() => {}
        }
        self.note("a collection stands still");
        self.is_collecting = true;
        let before = self.reported.len();
        for _ in 0..self.rng.random_range(1..4) {
            self.change();
            match self.rng.random_range(0..10) {
                0..6 => self.checkpoint().await,
                6..8 => self.overlapping_checkpoints().await,
                8 => self.distrust_one().await,
                _ => self.pin_one().await,
            }
            self.check().await;
        }
        COMPLETE_BESIDE.fetch_add((self.reported.len() - before) as u64, Ordering::SeqCst);
        self.is_collecting = false;
        self.note("it goes on");
        gate.release();
        collecting.await.unwrap();
    }

    fn some_checkpoint(&mut self) -> Option<CheckpointFolder> {
        let completed = self.coordinator.completed();
        if completed.is_empty() {
            return None;
        }
        Some(completed[self.rng.random_range(0..completed.len())].folder)
    }

    async fn drop_one(&mut self) {
        let Some(folder) = self.some_checkpoint() else { return };
        self.note(format!("drop {folder}"));
        let coordinator = Arc::clone(&self.coordinator);
        let drops = vec![(folder, "at random".to_owned())];
        self.maybe_cancelled(async move { coordinator.drop_checkpoints(&drops, false).await.map(|_| ()) }).await;
    }

    async fn pin_one(&mut self) {
        let Some(folder) = self.some_checkpoint() else { return };
        let coordinator = Arc::clone(&self.coordinator);
        let outcome = self.maybe_cancelled(async move { coordinator.pin(folder, "at random").await }).await;
        self.note(format!("pin {folder}: {outcome:?}"));
        if let Some(Ok(_)) = outcome {
            self.pinned.insert(folder);
        }
    }

    async fn unpin_one(&mut self) {
        let Some(folder) = self.pinned.first().copied() else { return };
        self.pinned.remove(&folder);
        self.note(format!("unpin {folder}"));
        let coordinator = Arc::clone(&self.coordinator);
        self.maybe_cancelled(async move { coordinator.unpin(folder).await.map(|_| ()) }).await;
    }

    async fn retain(&mut self) {
        let policy = RetentionPolicy { last: self.rng.random_range(1..4), ..RetentionPolicy::default() };
        self.note(format!("retain {}", policy.last));
        let coordinator = Arc::clone(&self.coordinator);
        self.maybe_cancelled(async move { coordinator.apply_retention(policy, false).await.map(|_| ()) }).await;
    }

    async fn collect(&mut self) {
        let scope = if self.rng.random_bool(0.7) { SweepScope::Everything } else { SweepScope::Records };
        self.note(format!("collect {scope:?}"));
        let coordinator = Arc::clone(&self.coordinator);
        self.maybe_cancelled(async move { coordinator.collect(scope, false).await.map(|_| ()) }).await;
    }

    /// An object is said to be damaged, and is not: nothing may go wrong by that.
    async fn distrust_one(&mut self) {
        let Some(folder) = self.some_checkpoint() else { return };
        let objects: Vec<_> = self.world.objects_of(folder).await.into_values().collect();
        let shared: Vec<_> = objects.iter().filter_map(|path| path.file_name().parse().ok()).collect();
        if shared.is_empty() {
            return;
        }
        let object = shared[self.rng.random_range(0..shared.len())];
        let coordinator = Arc::clone(&self.coordinator);
        let call = async move { coordinator.distrust(&[object], "at random").await.map(|_| ()) };
        let outcome = self.maybe_cancelled(call).await;
        DISTRUSTED.fetch_add(u64::from(matches!(outcome, Some(Ok(())))), Ordering::SeqCst);
        self.note(format!("distrust {object}: {outcome:?}"));
    }

    async fn check(&mut self) {
        let when = format!("after step {}", self.log.len());
        self.world.assert_sound(&when).await;
        let view = self.world.view().await;
        for (folder, checkpoint) in &view.checkpoints {
            let metadata = checkpoint.content.as_ref().unwrap();
            let mut found = Content::new();
            for operator in &metadata.operators {
                for part in &operator.subtasks {
                    for file in &part.files {
                        found.insert((part.index, file.local_name.to_string()), file.sha256.0);
                    }
                }
            }
            assert_eq!(found, self.content[folder], "{when}: {folder} is not what the subtasks had");
        }
        // I2: the newest that was reported counts, or a newer one does.
        let newest = view.checkpoints.keys().next_back().copied();
        if let Some((number, folder)) = self.reported.last_key_value() {
            let newest = newest.unwrap_or_else(|| panic!("{when}: {folder} was reported, and nothing counts"));
            let CheckpointId(id) = newest.checkpoint;
            assert!(id > *number || newest == *folder, "{when}: {folder} was reported, {newest} is the newest");
        }
        for folder in &self.pinned {
            assert!(view.checkpoints.contains_key(folder), "{when}: {folder} is pinned and does not count");
        }
        if self.coordinator.latest_is_believed() {
            for done in self.coordinator.completed() {
                assert!(view.checkpoints.contains_key(&done.folder), "{when}: {} is gone", done.folder);
            }
        }
    }

    async fn end(&mut self) {
        self.world.store.heal();
        while !self.stalled.is_empty() {
            self.release_a_stalled_call().await;
            self.check().await;
        }
        self.heal().await;
        self.crash().await;
        self.check().await;
        for _ in 0..2 {
            let (_, report) = self.coordinator.collect(SweepScope::Everything, false).await.unwrap();
            assert!(report.is_finished(), "{report}");
            self.check().await;
        }
        self.world.assert_exact("two clean sweeps").await;
        let view = self.world.view().await;
        for record in &view.distrusted {
            let object = self.world.layout.shared_object(&record.object).unwrap();
            assert!(view.referenced_by(&object).next().is_some(), "a record of what nobody has: {record}");
        }
        for path in self.world.objects().await.keys() {
            let begun = self.world.counting.traffic(path.as_str()).objects_begun;
            assert_eq!(begun, 1, "{path} was written {begun} times");
        }
    }
}

async fn supervised(world: &World) -> Result<(Arc<Supervisor>, Arc<Told>)> {
    let told: Arc<Told> = Arc::default();
    let listeners = vec![Arc::clone(&told) as Arc<dyn CheckpointListener>];
    let store = Arc::clone(&world.store) as StoreRef;
    let coordinator = world.coordinator_on(store, SUBTASKS, keep(2), listeners).await?;
    Ok((Supervisor::over(coordinator), told))
}

/// What the life asks of a coordinator beyond its own interface.
trait Asked {
    fn trigger_is_refused_for_good(&self) -> bool;
    fn latest_is_believed(&self) -> bool;
}

impl Asked for Coordinator {
    fn trigger_is_refused_for_good(&self) -> bool {
        self.tick().is_err()
    }

    fn latest_is_believed(&self) -> bool {
        self.tick().is_ok()
    }
}

async fn live(seed: u64) {
    let mut life = Life::begin(seed).await;
    for _ in 0..STEPS {
        life.step().await;
    }
    life.end().await;
}

#[test]
fn random_lives_lose_nothing_and_leave_nothing() {
    let one = std::env::var("ICECORE_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let long = std::env::var_os("ICECORE_LONG").is_some();
    let begun = Instant::now();
    let mut lives = 0;
    for seed in one.map_or(0..u64::MAX, |seed| seed..seed + 1) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(live(seed))));
        if let Err(panic) = outcome {
            eprintln!("run this life again with ICECORE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        lives += 1;
        if lives >= LIVES && !(long && begun.elapsed() < LIVES_FOR_LONG) {
            break;
        }
    }
    let seldom = [&CLAIMED_AGAIN, &DISTRUSTED, &COMPLETE_BESIDE].map(|count| count.load(Ordering::SeqCst));
    let [again, distrusted, beside] = seldom;
    println!("{lives} lives of {STEPS} steps; {again} processes claimed again; {distrusted} objects were distrusted");
    println!("{beside} checkpoints were completed beside a collection");
    assert!(one.is_some() || !seldom.contains(&0), "something never came about");
}
