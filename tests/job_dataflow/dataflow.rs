//! What the workers run, and what comes out of it when nothing disturbs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use icecore::Result;
use icecore::job::dataflow::{
    AnyTask, Checkpoints, Committer, KeyedOperator, Source, Start, Transaction, keyed, sink, source,
};
use icecore::layout::OperatorId;
use icecore::metadata::SourcePosition;
use icecore::state::typed::{KeyContext, ValueState};
use timely::dataflow::Scope;

pub const SPLITS: u32 = 5;
const WORDS: u64 = 40;
const SUMS: u64 = 7;
pub const KEY_GROUPS: u32 = 10;
pub const OPERATORS: [&str; 3] = ["counts", "sums", "files"];
const SOURCE: &str = "numbers";

/// Split and position.
type Number = (u32, u64);
/// Split, position, word, how often the word came in the split so far.
pub type Counted = (u32, u64, u64, u64);

fn word(split: u32, position: u64) -> u64 {
    (position * position + 3 * position + u64::from(split)) % WORDS
}

/// What a run without any trouble puts out.
pub fn expected(end: u64) -> Vec<Counted> {
    let mut all = Vec::new();
    for split in 0..SPLITS {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for position in 0..end {
            let word = word(split, position);
            let count = counts.entry(word).or_default();
            *count += 1;
            all.push((split, position, word, *count));
        }
    }
    all.sort_unstable();
    all
}

/// What was committed so far, in order.
pub fn committed(folder: &Path) -> Vec<Counted> {
    let mut all = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none() {
            all.extend(serde_json::from_slice::<Vec<Counted>>(&fs::read(path).unwrap()).unwrap());
        }
    }
    all.sort_unstable();
    all
}

/// Compares what came out with what must.
#[track_caller]
pub fn assert_exact(folder: &Path, end: u64) {
    let (committed, expected) = (committed(folder), expected(end));
    let different = committed.iter().zip(&expected).find(|(is, must)| is != must);
    assert!(committed == expected, "{} outputs of {}, first {different:?}", committed.len(), expected.len());
}

/// How many numbers a source gives.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Of each split, in all.
    pub end: u64,
    /// Of each split, a second.
    pub per_second: u64,
    /// The last tenth comes only when this file is there: however slow the machine, a job lasts as long as its test has something
    /// to do to it.
    pub go: PathBuf,
}

/// The splits of one worker.
struct Numbers {
    splits: BTreeMap<u32, u64>,
    rate: Rate,
    began: Instant,
    given: u64,
}

impl Numbers {
    fn new(start: &Start, rate: Rate) -> Self {
        let (worker, workers) = (start.worker(), start.workers());
        let stood = start.positions(SOURCE).unwrap_or_default();
        let stood = |split: u32| {
            let known = stood.iter().find(|position| position.split == split.to_string());
            known.map_or(0, |known| u64::from_be_bytes(known.position.as_slice().try_into().unwrap()))
        };
        let splits = (0..SPLITS).filter(|split| split % workers == worker).map(|split| (split, stood(split))).collect();
        Self { splits, rate, began: Instant::now(), given: 0 }
    }
}

impl Source for Numbers {
    type Record = Number;

    fn poll(&mut self, max: usize, records: &mut Vec<Number>) -> Result<bool> {
        let due = (self.began.elapsed().as_secs_f64() * self.rate.per_second as f64) as u64;
        let each = due.saturating_sub(self.given).min(max as u64 / u64::from(SPLITS));
        self.given += each;
        let end = if self.rate.go.exists() { self.rate.end } else { self.rate.end / 10 * 9 };
        for (split, next) in &mut self.splits {
            let end = end.min(*next + each).max(*next);
            records.extend((*next..end).map(|position| (*split, position)));
            *next = end;
        }
        Ok(self.splits.values().any(|next| *next < self.rate.end))
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let position = |(split, next): (&u32, &u64)| SourcePosition {
            source: SOURCE.to_owned(),
            split: split.to_string(),
            position: next.to_be_bytes().to_vec(),
        };
        self.splits.iter().map(position).collect()
    }
}

struct Counts(ValueState<u64>);

impl KeyedOperator<AnyTask> for Counts {
    type Key = u64;
    type Input = Number;
    type Output = Counted;

    fn key((split, position): &Number) -> u64 {
        u64::from(*split) * WORDS + word(*split, *position)
    }

    fn record(
        &mut self,
        keys: &mut KeyContext<u64, AnyTask>,
        (split, position): Number,
        output: &mut Vec<Counted>,
    ) -> Result<()> {
        let count = self.0.get(keys)?.unwrap_or(0) + 1;
        self.0.set(keys, &count)?;
        output.push((split, position, word(split, position), count));
        Ok(())
    }
}

struct Sums(ValueState<u64>);

impl KeyedOperator<AnyTask> for Sums {
    type Key = u64;
    type Input = Counted;
    type Output = Counted;

    fn key((_, _, word, _): &Counted) -> u64 {
        word % SUMS
    }

    fn record(
        &mut self,
        keys: &mut KeyContext<u64, AnyTask>,
        counted: Counted,
        output: &mut Vec<Counted>,
    ) -> Result<()> {
        let sum = self.0.get(keys)?.unwrap_or(0) + counted.1 + counted.3;
        self.0.set(keys, &sum)?;
        output.push(counted);
        Ok(())
    }
}

/// One file a transaction, of the same name and content however often it is written.
struct Files(PathBuf);

impl Committer for Files {
    type Output = Counted;
    type Key = u64;

    fn key((split, ..): &Counted) -> u64 {
        u64::from(*split)
    }

    fn commit(&mut self, transaction: Transaction, outputs: Vec<Counted>) -> Result<()> {
        let Transaction { after, key_group, part } = transaction;
        let path = self.0.join(format!("{after}-{key_group}-{part}"));
        let bytes = serde_json::to_vec(&outputs).unwrap();
        if let Ok(before) = fs::read(&path) {
            assert!(before == bytes, "{} means something else now", path.display());
        }
        let draft = path.with_extension(format!("draft-{}", std::process::id()));
        fs::write(&draft, bytes).unwrap();
        fs::rename(&draft, &path).unwrap();
        Ok(())
    }
}

/// Builds the dataflow of a worker.
pub fn build(
    scope: Scope<'_, u64>,
    mut start: Start,
    rate: Rate,
    outputs: PathBuf,
    checkpoints: &Checkpoints,
) -> Result<()> {
    let numbers = source(scope, SOURCE, Numbers::new(&start, rate), checkpoints);
    let mut counts = KeyContext::new(start.task("counts")?);
    let count = Counts(counts.value_state("count")?);
    let counted = keyed(numbers, "counts", count, counts, checkpoints)?;
    let mut sums = KeyContext::new(start.task("sums")?);
    let sum = Sums(sums.value_state("sum")?);
    let summed = keyed(counted, "sums", sum, sums, checkpoints)?;
    sink(summed, "files", Files(outputs), start.task("files")?, start.newest(), checkpoints)
}

pub fn operators() -> Vec<OperatorId> {
    OPERATORS.iter().map(|operator| OperatorId::new(*operator).unwrap()).collect()
}
