//! A very small engine: words are counted by two subtasks that keep their state in memory; every so many
//! words there is a checkpoint; the engine crashes, and goes on with three subtasks.
//!
//! The pieces: a `HeapTask` a subtask, which is frozen at the trigger and uploads in the background; one
//! `Coordinator`; and the source's position in the checkpoint, so that no word counts twice or never.
//!
//! Run it: `cargo run --example heap_engine`

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore::coordinator::{Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::keygroup::MaxParallelism;
use icecore::layout::{JobId, OperatorId, SubtaskName};
use icecore::metadata::{CheckpointKind, SourcePosition};
use icecore::restore::{FetchOptions, RestorePlan};
use icecore::snapshot::{Snapshotter, SnapshotterOptions};
use icecore::state::typed::{KeyContext, ValueState};
use icecore::store::{LocalStore, StoreRef};
use icecore::task::HeapTask;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs";
const WORDS: u64 = 10_000;
const CHECKPOINT_EVERY: u64 = 1_500;

/// The source: the same word at the same position, always.
fn word(position: u64) -> String {
    let words: Vec<&str> = TEXT.split(' ').collect();
    let at = (position * position) as usize % words.len();
    format!("{}-{}", words.get(at).copied().unwrap_or_default(), position % 50)
}

/// A subtask: its state, and a handle to the state's name.
struct Counter {
    context: KeyContext<String, HeapTask>,
    count: ValueState<u64>,
}

struct Engine {
    env: Env,
    store: StoreRef,
    coordinator: Coordinator,
    operator: OperatorId,
    max: MaxParallelism,
    counters: Vec<Counter>,
}

impl Engine {
    async fn start(store: StoreRef, parallelism: u32) -> Outcome<(Self, u64)> {
        let env = Env::system()?;
        let (operator, max) = (OperatorId::new("count")?, MaxParallelism::default_for(parallelism)?);
        let described = OperatorDescription { operator: operator.clone(), parallelism, max_parallelism: max.get() };
        let (job, options) = (JobId::new("words")?, CoordinatorOptions::default());
        let coordinator = Coordinator::start(store.clone(), job, vec![described], env.clone(), options, vec![]).await?;
        let mut engine = Self { env, store, coordinator, operator, max, counters: Vec::new() };
        let position = engine.start_subtasks(parallelism).await?;
        Ok((engine, position))
    }

    /// Restores every subtask from the newest checkpoint, if there is one; answers where to go on reading.
    async fn start_subtasks(&mut self, parallelism: u32) -> Outcome<u64> {
        let latest = self.coordinator.latest().await?;
        for index in 0..parallelism {
            let subtask = SubtaskName { operator: self.operator.clone(), index };
            let (store, env, broker) = (self.store.clone(), self.env.clone(), self.coordinator.broker());
            let snapshotter = Snapshotter::new(subtask, store, env.clone(), broker, SnapshotterOptions::default());
            let snapshotter = Arc::new(snapshotter);
            let task = match &latest {
                None => HeapTask::new(self.max, self.max.range_of_subtask(index, parallelism)?, snapshotter, env)?,
                Some(checkpoint) => {
                    let plan = RestorePlan::new(&checkpoint.metadata, &self.operator, index, parallelism)?;
                    print!("restore {plan}");
                    HeapTask::restore(&plan, checkpoint, snapshotter, env, &FetchOptions::default()).await?
                }
            };
            let mut context = KeyContext::new(task);
            let count = context.value_state("count")?;
            self.counters.push(Counter { context, count });
        }
        let source = latest.as_ref().and_then(|checkpoint| checkpoint.metadata.sources.first());
        let position = source.and_then(|source| source.position.clone().try_into().ok());
        Ok(position.map_or(0, u64::from_be_bytes))
    }

    fn process(&mut self, word: String) -> Outcome {
        let subtasks = u32::try_from(self.counters.len())?;
        let owner = self.max.subtask_of_group(self.max.key_group_of(&word), subtasks)?;
        let Counter { context, count } = self.counters.get_mut(owner as usize).ok_or("no such subtask")?;
        context.set_current_key(&word)?;
        let before = count.get(context)?.unwrap_or(0);
        Ok(count.set(context, &(before + 1))?)
    }

    async fn checkpoint(&mut self, position: u64) -> Outcome {
        let trigger = self.coordinator.trigger(CheckpointKind::Incremental)?;
        let source = SourcePosition {
            source: "text".to_owned(),
            split: "0".to_owned(),
            position: position.to_be_bytes().to_vec(),
        };
        self.coordinator.set_source_positions(trigger.checkpoint, vec![source]);
        for Counter { context, .. } in &mut self.counters {
            let task = context.backend_mut();
            let frozen = task.freeze(&trigger)?;
            // An engine would go on with its records here, and upload elsewhere.
            let handle = task.snapshotter().upload(&trigger, frozen).await?;
            self.coordinator.acknowledge(handle).await?;
        }
        for Counter { context, .. } in &mut self.counters {
            context.backend_mut().notify_complete(trigger.checkpoint);
        }
        println!("checkpoint {} at word {position}", trigger.checkpoint);
        Ok(())
    }

    /// The count of every word that is in `words`.
    fn counts<'a>(&mut self, words: impl Iterator<Item = &'a String>) -> Outcome<BTreeMap<String, u64>> {
        let subtasks = u32::try_from(self.counters.len())?;
        let mut counts = BTreeMap::new();
        for word in words {
            let owner = self.max.subtask_of_group(self.max.key_group_of(word), subtasks)?;
            let Counter { context, count } = self.counters.get_mut(owner as usize).ok_or("no such subtask")?;
            context.set_current_key(word)?;
            counts.insert(word.clone(), count.get(context)?.unwrap_or(0));
        }
        Ok(counts)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let here = tempfile::tempdir()?;
    let store: StoreRef = Arc::new(LocalStore::open(&here.path().join("checkpoints"), Env::system()?)?);

    let (mut engine, start) = Engine::start(store.clone(), 2).await?;
    for position in start..7_777 {
        engine.process(word(position))?;
        if (position + 1) % CHECKPOINT_EVERY == 0 {
            engine.checkpoint(position + 1).await?;
        }
    }
    println!("crash after 7777 words");
    drop(engine);

    let (mut engine, start) = Engine::start(store, 3).await?;
    println!("three subtasks go on at word {start}");
    for position in start..WORDS {
        engine.process(word(position))?;
    }
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    (0..WORDS).for_each(|position| *expected.entry(word(position)).or_default() += 1);
    if engine.counts(expected.keys())? != expected {
        return Err("the counts differ from those of a run without a crash".into());
    }
    println!("{} words counted, {} different ones, as if nothing had happened", WORDS, expected.len());
    Ok(engine.coordinator.end().await?)
}
