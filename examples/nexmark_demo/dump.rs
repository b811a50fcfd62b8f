//! The complete final state as files of rows, and their comparison.
//!
//! Both backends hold the same rows for the same state, and a subtask's key groups follow those of
//! the one before; so the rows of all subtasks one after another are the same whatever the backend
//! and the parallelism.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use icecore::keygroup::MaxParallelism;
use icecore::metadata::StateKind;
use icecore::state::{KeyLayout, KeyedBackend};
use icecore::{Error, Result};
use sha2::{Digest, Sha256};

use crate::pipeline::KEY_GROUPS;

const WRITE: &str = "write the final state";
const COMPARE: &str = "compare the final states";
/// Marks the files of timers, whose rows are laid out by time.
const TIMERS: &str = "timers";
const ROWS: &str = "rows";

/// Writes a subtask's rows, a file for each state: `<operator>,<state>,<rows or timers>,<subtask>`.
pub fn dump_rows<B: KeyedBackend>(backend: &mut B, folder: &Path, operator: &str, subtask: usize) -> Result<()> {
    let fail = |error| Error::io(WRITE, folder.display(), error);
    std::fs::create_dir_all(folder).map_err(fail)?;
    let groups = backend.key_groups();
    for schema in backend.states() {
        let layout = if schema.kind == StateKind::Timer { TIMERS } else { ROWS };
        let file = File::create(folder.join(format!("{operator},{},{layout},{subtask}", schema.name))).map_err(fail)?;
        let mut file = BufWriter::new(file);
        let state = backend.open_state(&schema)?;
        backend.scan_key_groups(state, groups, &mut |key, value| {
            for part in [key, value] {
                let length = (part.len() as u32).to_le_bytes();
                file.write_all(&length).and_then(|()| file.write_all(part)).map_err(fail)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        file.flush().map_err(fail)?;
    }
    Ok(())
}

/// What comparing one state of one operator found.
pub struct StateComparison {
    pub operator: String,
    pub state: String,
    pub rows: u64,
    pub bytes: u64,
}

/// What comparing everything found.
pub struct Comparison {
    pub states: Vec<StateComparison>,
    /// SHA-256 over all rows of either side, in order.
    pub digests: [String; 2],
    /// The first key that differs, in words.
    pub difference: Option<String>,
}

/// Compares two dumps row by row.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison> {
    let names: BTreeSet<StateName> = state_names(a)?.into_iter().chain(state_names(b)?).collect();
    let mut digests = [Sha256::new(), Sha256::new()];
    let mut comparison = Comparison { states: Vec::new(), digests: Default::default(), difference: None };
    for name in names {
        let mut sides = [Rows::open(a, &name)?, Rows::open(b, &name)?];
        let (mut rows, mut bytes) = (0, 0);
        loop {
            let [left, right] = &mut sides;
            let (left, right) = (left.next()?, right.next()?);
            for (digest, row) in digests.iter_mut().zip([&left, &right]) {
                if let Some((key, value)) = row {
                    digest.update(name.title());
                    for part in [key, value] {
                        digest.update((part.len() as u32).to_le_bytes());
                        digest.update(part);
                    }
                }
            }
            if left != right && comparison.difference.is_none() {
                comparison.difference = Some(describe(&name, left.as_ref(), right.as_ref())?);
            }
            match left.or(right) {
                None => break,
                Some((key, value)) => (rows, bytes) = (rows + 1, bytes + (key.len() + value.len()) as u64),
            }
        }
        comparison.states.push(StateComparison { operator: name.operator, state: name.state, rows, bytes });
    }
    comparison.digests = digests.map(|digest| hex(&digest.finalize()));
    Ok(comparison)
}

type Row = (Vec<u8>, Vec<u8>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct StateName {
    operator: String,
    state: String,
    layout: String,
}

impl StateName {
    fn title(&self) -> String {
        format!("{}.{}", self.operator, self.state)
    }
}

fn state_names(folder: &Path) -> Result<BTreeSet<StateName>> {
    let fail = |error| Error::io(COMPARE, folder.display(), error);
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        if let [operator, state, layout, _] = name.split(',').map(str::to_owned).collect::<Vec<_>>().as_slice() {
            names.insert(StateName { operator: operator.clone(), state: state.clone(), layout: layout.clone() });
        }
    }
    Ok(names)
}

/// One state's rows: those of all subtasks, one after another.
struct Rows {
    folder: PathBuf,
    prefix: String,
    subtask: usize,
    file: Option<BufReader<File>>,
}

impl Rows {
    fn open(folder: &Path, name: &StateName) -> Result<Self> {
        let prefix = format!("{},{},{}", name.operator, name.state, name.layout);
        let mut rows = Self { folder: folder.to_owned(), prefix, subtask: 0, file: None };
        rows.open_file()?;
        Ok(rows)
    }

    fn open_file(&mut self) -> Result<()> {
        let path = self.folder.join(format!("{},{}", self.prefix, self.subtask));
        self.file = match File::open(&path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(COMPARE, path.display(), error)),
        };
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Row>> {
        let fail = |error| Error::io(COMPARE, "a dump", error);
        while let Some(file) = &mut self.file {
            let mut length = [0; 4];
            match file.read_exact(&mut length) {
                Ok(()) => {
                    let key = read_bytes(file, length).map_err(fail)?;
                    file.read_exact(&mut length).map_err(fail)?;
                    return Ok(Some((key, read_bytes(file, length).map_err(fail)?)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    self.subtask += 1;
                    self.open_file()?;
                }
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(None)
    }
}

fn read_bytes(file: &mut impl Read, length: [u8; 4]) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Names the first differing key, and says how it differs.
fn describe(name: &StateName, left: Option<&Row>, right: Option<&Row>) -> Result<String> {
    let what = match (left, right) {
        (Some((a, _)), Some((b, _))) if a == b => "its value is not the same",
        (Some((a, _)), Some((b, _))) if a < b => "the reference does not have it",
        (Some(_), None) => "the reference does not have it",
        _ => "it is missing after the kill",
    };
    let keys = left.into_iter().chain(right).map(|(key, _)| key);
    let Some(row) = keys.min() else { return Ok(String::new()) };
    let layout = KeyLayout::new(MaxParallelism::new(KEY_GROUPS)?);
    let (group, key) = match name.layout.as_str() {
        TIMERS => layout.parse_timer(row).map(|timer| (timer.key_group, timer.key))?,
        _ => layout.parse_row(row).map(|row| (row.key_group, row.key))?,
    };
    let key = postcard::from_bytes::<u64>(key).map_or_else(|_| hex(key), |key| key.to_string());
    Ok(format!("state {}, key group {group}, key {key}: {what}", name.title()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
