//! Checkpoints for a dataflow of the crate timely: words are counted by two workers, which crash; three go on. Each
//! count is put out once, although the words since the last checkpoint are read twice.
//!
//! What a dataflow needs for that: a `Source` that knows where it stands, `KeyedOperator`s that keep their state in
//! tasks, a `Committer` for what it puts out, and `run_worker`. Everything else is timely as you know it.
//!
//! Run it: `cargo run --features timely --example timely_word_count`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use icecore::coordinator::{Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::job::dataflow::{
    Committer, KeyedOperator, LocalControl, Source, Transaction, keyed, run_worker, sink, source,
};
use icecore::keygroup::MaxParallelism;
use icecore::layout::{JobId, OperatorId, SubtaskName};
use icecore::metadata::{CheckpointKind, SourcePosition};
use icecore::restore::{Checkpoint, FetchOptions, RestorePlan};
use icecore::snapshot::{Snapshotter, SnapshotterOptions};
use icecore::state::typed::{KeyContext, ValueState};
use icecore::store::LocalStore;
use icecore::task::HeapTask;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps on while the fox runs";
const WORDS: u64 = 100_000;
const KEY_GROUPS: u32 = 8;

/// The word at a position, always the same.
fn word(position: u64) -> String {
    let words: Vec<&str> = TEXT.split(' ').collect();
    words.get((position * position) as usize % words.len()).copied().unwrap_or_default().to_owned()
}

/// The text, from a position on.
struct Text(u64);

impl Source for Text {
    type Record = String;

    fn poll(&mut self, max: usize, words: &mut Vec<String>) -> icecore::Result<bool> {
        let end = WORDS.min(self.0 + max as u64);
        words.extend((self.0..end).map(word));
        self.0 = end;
        Ok(end < WORDS)
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let position = self.0.to_be_bytes().to_vec();
        vec![SourcePosition { source: "text".to_owned(), split: "0".to_owned(), position }]
    }
}

/// A worker that has no part of the text.
struct Nothing;

impl Source for Nothing {
    type Record = String;

    fn poll(&mut self, _max: usize, _words: &mut Vec<String>) -> icecore::Result<bool> {
        Ok(false)
    }

    fn positions(&self) -> Vec<SourcePosition> {
        Vec::new()
    }
}

struct Count(ValueState<u64>);

impl KeyedOperator<HeapTask> for Count {
    type Key = String;
    type Input = String;
    type Output = (String, u64);

    fn key(word: &String) -> String {
        word.clone()
    }

    fn record(
        &mut self,
        keys: &mut KeyContext<String, HeapTask>,
        word: String,
        counts: &mut Vec<(String, u64)>,
    ) -> icecore::Result<()> {
        let count = self.0.get(keys)?.unwrap_or(0) + 1;
        self.0.set(keys, &count)?;
        counts.push((word, count));
        Ok(())
    }
}

/// One file a transaction: written again after a crash it is the same file.
struct Files(PathBuf);

impl Committer for Files {
    type Output = (String, u64);
    type Key = String;

    fn key((word, _): &(String, u64)) -> String {
        word.clone()
    }

    fn commit(&mut self, transaction: Transaction, outputs: Vec<(String, u64)>) -> icecore::Result<()> {
        let Transaction { after, key_group, part } = transaction;
        let path = self.0.join(format!("{after}-{key_group}-{part}"));
        let lines: String = outputs.iter().map(|(word, count)| format!("{word} {count}\n")).collect();
        // A program that must survive a loss of power would sync the file and its folder, too.
        let draft = path.with_extension("draft");
        fs::write(&draft, lines)
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(|error| icecore::Error::io("write counts", path.display(), error))
    }
}

/// The task of one worker for one operator: empty, or what the checkpoint says.
async fn task(
    operator: &str,
    index: u32,
    workers: u32,
    coordinator: &Coordinator,
    latest: Option<&Checkpoint>,
) -> Outcome<HeapTask> {
    let (operator, groups, env) = (OperatorId::new(operator)?, MaxParallelism::new(KEY_GROUPS)?, Env::system()?);
    let subtask = SubtaskName { operator: operator.clone(), index };
    let (store, broker) = (coordinator.store().clone(), coordinator.broker());
    let snapshotter = Arc::new(Snapshotter::new(subtask, store, env.clone(), broker, SnapshotterOptions::default()));
    Ok(match latest {
        None => HeapTask::new(groups, groups.range_of_subtask(index, workers)?, snapshotter, env)?,
        Some(latest) => {
            let plan = RestorePlan::new(&latest.metadata, &operator, index, workers)?;
            HeapTask::restore(&plan, latest, snapshotter, env, &FetchOptions::default()).await?
        }
    })
}

/// Runs the job on so many workers from its newest checkpoint: to a crash, or to the end.
async fn run(folder: &Path, workers: u32, crashes: bool) -> Outcome {
    let env = Env::system()?;
    let store = Arc::new(LocalStore::open(&folder.join("checkpoints"), env.clone())?);
    let control = LocalControl::new(env.clone());
    let operators = ["count", "files"].map(|operator| {
        Ok(OperatorDescription {
            operator: OperatorId::new(operator)?,
            parallelism: workers,
            max_parallelism: KEY_GROUPS,
        })
    });
    let operators = operators.into_iter().collect::<icecore::Result<Vec<_>>>()?;
    let (job, options) = (JobId::new("words")?, CoordinatorOptions::default());
    let coordinator = Arc::new(Coordinator::start(store, job, operators, env, options, vec![control.clone()]).await?);
    control.serve(&coordinator);

    let latest = coordinator.latest().await?;
    let restored = latest.as_ref().map(|checkpoint| checkpoint.metadata.checkpoint);
    let stood = latest.as_ref().and_then(|checkpoint| checkpoint.metadata.sources.first());
    let position = stood.and_then(|source| source.position.clone().try_into().ok()).map_or(0, u64::from_be_bytes);
    println!("{workers} workers begin at word {position}");
    let mut tasks = Vec::new();
    for index in 0..workers {
        let counts = task("count", index, workers, &coordinator, latest.as_ref()).await?;
        tasks.push(Some((counts, task("files", index, workers, &coordinator, latest.as_ref()).await?)));
    }

    // From here on: timely.
    let (tasks, files, operators) = (Mutex::new(tasks), folder.join("counts"), control.clone());
    let guards = timely::execute(timely::Config::process(workers as usize), move |worker| {
        let index = worker.index();
        let mine = tasks.lock().ok().and_then(|mut tasks| tasks.get_mut(index)?.take());
        run_worker(worker, operators.clone(), |scope, checkpoints| {
            let (counts, outputs) = mine.ok_or_else(|| icecore::Error::invalid("start a worker", "it has no tasks"))?;
            let mut keys = KeyContext::new(counts);
            let count = Count(keys.value_state("count")?);
            let words = match index {
                0 => source(scope, "text", Text(position), checkpoints),
                _ => source(scope, "text", Nothing, checkpoints),
            };
            let shouted = words.map(|word| word.to_uppercase());
            let counted = keyed(shouted, "count", count, keys, checkpoints)?;
            sink(counted, "files", Files(files.clone()), outputs, restored, checkpoints)
        });
    })?;

    if crashes {
        println!("checkpoint {}", control.checkpoint(CheckpointKind::Incremental).await?);
        println!("checkpoint {}", control.checkpoint(CheckpointKind::Incremental).await?);
        control.cancel("this is the crash");
    } else {
        println!("checkpoint {} is the last", control.finish().await?);
        coordinator.end().await?;
    }
    guards.join().into_iter().collect::<Result<Vec<()>, String>>()?;
    if crashes { Ok(()) } else { Ok(control.outcome()?) }
}

#[tokio::main]
async fn main() -> Outcome {
    let here = tempfile::tempdir()?;
    fs::create_dir(here.path().join("counts"))?;
    run(here.path(), 2, true).await?;
    println!("crash");
    run(here.path(), 3, false).await?;

    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    (0..WORDS).for_each(|position| *expected.entry(word(position).to_uppercase()).or_default() += 1);
    let mut lines = Vec::new();
    for file in fs::read_dir(here.path().join("counts"))? {
        lines.extend(fs::read_to_string(file?.path())?.lines().map(str::to_owned));
    }
    lines.sort_unstable();
    let once = expected.iter().flat_map(|(word, count)| (1..=*count).map(move |count| format!("{word} {count}")));
    let mut once: Vec<String> = once.collect();
    once.sort_unstable();
    if lines != once {
        return Err("the counts that were put out differ from those of a run without a crash".into());
    }
    println!("{WORDS} words: every count was put out exactly once");
    Ok(())
}
