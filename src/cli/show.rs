//! `show`: a checkpoint as a tree, from its `_metadata` down to every file and the object it lies in.
//!
//! One tree for full and incremental checkpoints alike: files that belong to single key groups
//! stand below those, others below their subtask.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::{Depth, ShowArgs};
use super::output::{Done, one_line};
use super::place::Place;
use super::select::{find, kind_name, open, open_exported};
use super::show_job;
use super::text::{count, hex, size, time};
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::KeyGroupRange;
use crate::metadata::{Backend, FileEntry, OperatorState, StateKind, SubtaskState, total_bytes};
use crate::restore::Checkpoint;

/// How much of a long key is shown, in bytes. JSON has all of it.
const MAX_SHOWN_KEY_BYTES: usize = 16;

#[derive(Debug, Serialize)]
struct CheckpointNode {
    job: String,
    checkpoint: u64,
    folder: String,
    kind: &'static str,
    triggered_at_unix_ms: u64,
    writer: String,
    /// Of a copy: whose state it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginNode>,
    metadata_path: String,
    max_parallelism: u32,
    sources: Vec<SourceNode>,
    properties: Vec<String>,
    files: u64,
    size_bytes: u64,
    operators: Vec<OperatorNode>,
}

#[derive(Debug, Serialize)]
struct OriginNode {
    job: String,
    checkpoint: u64,
    folder: String,
}

#[derive(Debug, Serialize)]
struct SourceNode {
    source: String,
    split: String,
    position_hex: String,
}

#[derive(Debug, Serialize)]
struct OperatorNode {
    operator: String,
    parallelism: u32,
    max_parallelism: u32,
    states: Vec<StateNode>,
    subtasks: Vec<SubtaskNode>,
}

#[derive(Debug, Serialize)]
struct StateNode {
    name: String,
    kind: &'static str,
    key_serializer: String,
    value_serializer: String,
}

#[derive(Debug, Serialize)]
struct SubtaskNode {
    subtask: u32,
    backend: &'static str,
    /// First and last, both inclusive.
    key_groups: Option<[u32; 2]>,
    files: u64,
    size_bytes: u64,
    /// Files of one key group, or of some.
    groups: Vec<GroupNode>,
    /// Files of the whole subtask.
    own_files: Vec<FileNode>,
}

#[derive(Debug, Serialize)]
struct GroupNode {
    key_groups: [u32; 2],
    files: Vec<FileNode>,
}

#[derive(Debug, Serialize)]
struct FileNode {
    name: String,
    kind: &'static str,
    size_bytes: u64,
    sha256: String,
    object: String,
    offset_bytes: u64,
    stored_size_bytes: u64,
    table: Option<TableNode>,
}

#[derive(Debug, Serialize)]
struct TableNode {
    column_family: String,
    level: u32,
    smallest_key_hex: String,
    largest_key_hex: String,
    smallest_sequence: u64,
    largest_sequence: u64,
}

pub(super) async fn run(place: &Place, args: ShowArgs) -> Result<Done> {
    let checkpoint = match (&args.checkpoint, &args.from) {
        (_, Some(folder)) => open_exported(place, folder, &args.from_option).await?,
        (None, None) => return show_job::run(place).await,
        (Some(text), None) => {
            let (job, view) = place.view().await?;
            open(&job, find(&view, text)?)?
        }
    };
    let node = checkpoint_node(&checkpoint, &args)?;
    Done::new(text_of(&node), &node)
}

fn checkpoint_node(checkpoint: &Checkpoint, args: &ShowArgs) -> Result<CheckpointNode> {
    let metadata = &checkpoint.metadata;
    let is_wanted =
        |operator: &&OperatorState| args.operator.as_ref().is_none_or(|id| operator.operator.as_str() == id);
    let wanted: Vec<&OperatorState> = metadata.operators.iter().filter(is_wanted).collect();
    if wanted.is_empty() && args.operator.is_some() {
        let known: Vec<&str> = metadata.operators.iter().map(|operator| operator.operator.as_str()).collect();
        return Err(Error::new(ErrorKind::NotFound, "show a checkpoint", "it has no such operator")
            .with_object(args.operator.as_deref().unwrap_or_default())
            .with_advice(format!("it has: {}", known.join(", "))));
    }
    let mut operators = Vec::new();
    if args.depth >= Depth::Operator {
        for operator in wanted {
            operators.push(operator_node(checkpoint, operator, args)?);
        }
    }
    let sources = metadata.sources.iter().map(|source| SourceNode {
        source: source.source.clone(),
        split: source.split.clone(),
        position_hex: hex(&source.position, usize::MAX),
    });
    let index = crate::layout::METADATA_NAME;
    Ok(CheckpointNode {
        job: metadata.job.to_string(),
        checkpoint: metadata.checkpoint.0,
        folder: metadata.folder().to_string(),
        kind: kind_name(metadata.kind),
        triggered_at_unix_ms: metadata.triggered_at_unix_ms,
        writer: metadata.writer.clone(),
        origin: metadata.origin.as_ref().map(|origin| OriginNode {
            job: origin.job.to_string(),
            checkpoint: origin.folder.checkpoint.0,
            folder: origin.folder.to_string(),
        }),
        metadata_path: checkpoint
            .folder
            .as_ref()
            .map_or_else(|| index.to_owned(), |folder| format!("{folder}/{index}")),
        max_parallelism: metadata.max_parallelism,
        sources: sources.collect(),
        properties: metadata.properties.keys().cloned().collect(),
        files: metadata.files().count() as u64,
        size_bytes: total_bytes(metadata.files().map(|file| file.size_bytes)),
        operators,
    })
}

fn operator_node(checkpoint: &Checkpoint, operator: &OperatorState, args: &ShowArgs) -> Result<OperatorNode> {
    let mut subtasks = Vec::new();
    let is_wanted = |part: &&SubtaskState| {
        args.subtask.is_none_or(|index| part.index == index)
            && args.key_group.is_none_or(|group| part.key_groups.is_none_or(|range| range.contains(group)))
    };
    if args.depth >= Depth::Keygroup {
        for part in operator.subtasks.iter().filter(is_wanted) {
            subtasks.push(subtask_node(checkpoint, part, args)?);
        }
    }
    let states = operator.states.iter().map(|state| StateNode {
        name: state.name.clone(),
        kind: state_kind_name(state.kind),
        key_serializer: state.key_serializer.clone(),
        value_serializer: state.value_serializer.clone(),
    });
    Ok(OperatorNode {
        operator: operator.operator.to_string(),
        parallelism: operator.parallelism,
        max_parallelism: operator.max_parallelism,
        states: states.collect(),
        subtasks,
    })
}

fn subtask_node(checkpoint: &Checkpoint, part: &SubtaskState, args: &ShowArgs) -> Result<SubtaskNode> {
    let mut groups: BTreeMap<KeyGroupRange, Vec<FileNode>> = BTreeMap::new();
    let mut own_files = Vec::new();
    let may_hold = |file: &&FileEntry| match (args.key_group, file.key_groups) {
        (Some(group), Some(range)) => range.contains(group),
        _ => true,
    };
    if args.depth >= Depth::Files {
        for file in part.files.iter().filter(may_hold) {
            let node = file_node(checkpoint, file)?;
            match file.key_groups.filter(|range| Some(*range) != part.key_groups) {
                Some(range) => groups.entry(range).or_default().push(node),
                None => own_files.push(node),
            }
        }
    }
    Ok(SubtaskNode {
        subtask: part.index,
        backend: backend_name(part.backend),
        key_groups: part.key_groups.map(bounds),
        files: part.files.len() as u64,
        size_bytes: total_bytes(part.files.iter().map(|file| file.size_bytes)),
        groups: groups.into_iter().map(|(range, files)| GroupNode { key_groups: bounds(range), files }).collect(),
        own_files,
    })
}

fn file_node(checkpoint: &Checkpoint, file: &FileEntry) -> Result<FileNode> {
    let table = file.table.as_ref().map(|table| TableNode {
        column_family: table.column_family.to_string(),
        level: table.level,
        smallest_key_hex: hex(&table.smallest_key, usize::MAX),
        largest_key_hex: hex(&table.largest_key, usize::MAX),
        smallest_sequence: table.smallest_sequence,
        largest_sequence: table.largest_sequence,
    });
    Ok(FileNode {
        name: file.local_name.to_string(),
        kind: file.kind.as_str(),
        size_bytes: file.size_bytes,
        sha256: file.sha256.to_string(),
        object: checkpoint.stored_file(file)?.object.to_string(),
        offset_bytes: file.offset_bytes,
        stored_size_bytes: file.stored_size_bytes,
        table,
    })
}

fn bounds(range: KeyGroupRange) -> [u32; 2] {
    [u32::from(range.first()), u32::from(range.last())]
}

fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Heap => "heap",
        Backend::RocksDb => "rocksdb",
        Backend::RocksDbFolder => "rocksdb-folder",
    }
}

fn state_kind_name(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Value => "value",
        StateKind::List => "list",
        StateKind::Map => "map",
        StateKind::Reducing => "reducing",
        StateKind::Aggregating => "aggregating",
        StateKind::Timer => "timer",
        StateKind::Opaque => "opaque",
    }
}

/// Lines with the branches of a tree before them.
#[derive(Default)]
struct Tree {
    text: String,
}

impl Tree {
    /// One line below `stem`; returns the stem for what is below it.
    fn line(&mut self, stem: &str, is_last: bool, line: &str) -> String {
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        self.text += &format!("{stem}{branch}{}\n", one_line(line));
        format!("{stem}{below}")
    }
}

fn text_of(node: &CheckpointNode) -> String {
    let mut tree = Tree::default();
    let (files, bytes) = (count(node.files, "file"), size(node.size_bytes));
    let heading = format!(
        "checkpoint {} of job {}  {}  {} UTC  {files}  {bytes}",
        node.checkpoint,
        node.job,
        node.kind,
        time(node.triggered_at_unix_ms)
    );
    tree.text = format!("{}\n", one_line(&heading));
    let further = node.sources.len() + node.operators.len();
    let mut writer = format!("_metadata  {}  by {}", node.metadata_path, node.writer);
    if let Some(origin) = &node.origin {
        writer += &format!("; copied from {} of job {}", origin.folder, origin.job);
    }
    tree.line("", further == 0 && node.properties.is_empty(), &writer);
    if !node.properties.is_empty() {
        tree.line("", further == 0, &format!("properties  {}", node.properties.join(", ")));
    }
    for (index, source) in node.sources.iter().enumerate() {
        let line = format!("source {}  split {}  at 0x{}", source.source, source.split, source.position_hex);
        tree.line("", index + 1 == further, &line);
    }
    for (index, operator) in node.operators.iter().enumerate() {
        operator_text(&mut tree, operator, index + 1 == node.operators.len());
    }
    tree.text
}

fn operator_text(tree: &mut Tree, node: &OperatorNode, is_last: bool) {
    let line = format!(
        "operator {}  parallelism {}  {}",
        node.operator,
        node.parallelism,
        count(u64::from(node.max_parallelism), "key group")
    );
    let stem = tree.line("", is_last, &line);
    let children = node.states.len() + node.subtasks.len();
    for (index, state) in node.states.iter().enumerate() {
        let line =
            format!("state {}  {}  {} -> {}", state.name, state.kind, state.key_serializer, state.value_serializer);
        tree.line(&stem, index + 1 == children, &line);
    }
    for (index, subtask) in node.subtasks.iter().enumerate() {
        subtask_text(tree, &stem, subtask, index + 1 == node.subtasks.len());
    }
}

fn subtask_text(tree: &mut Tree, stem: &str, node: &SubtaskNode, is_last: bool) {
    let groups = node.key_groups.map(|bounds| format!("  {}", range_text(bounds))).unwrap_or_default();
    let (files, bytes) = (count(node.files, "file"), size(node.size_bytes));
    let line = format!("subtask {}  {}{groups}  {files}  {bytes}", node.subtask, node.backend);
    let stem = tree.line(stem, is_last, &line);
    for (index, group) in node.groups.iter().enumerate() {
        let is_last = node.own_files.is_empty() && index + 1 == node.groups.len();
        let stem = tree.line(&stem, is_last, &range_text(group.key_groups));
        files_text(tree, &stem, &group.files);
    }
    files_text(tree, &stem, &node.own_files);
}

fn files_text(tree: &mut Tree, stem: &str, files: &[FileNode]) {
    let width = |of: fn(&FileNode) -> usize| files.iter().map(of).max().unwrap_or(0);
    let (names, sizes) = (width(|file| file.name.len()), width(|file| size(file.size_bytes).len()));
    for (index, file) in files.iter().enumerate() {
        let FileNode { name, kind, object, .. } = file;
        let table = file.table.as_ref().map(|table| format!("  {}", table_text(table))).unwrap_or_default();
        let hash: String = file.sha256.chars().take(12).collect();
        let bytes = size(file.size_bytes);
        let line = format!("{name:<names$}  {kind:<8}  {bytes:>sizes$}  sha256 {hash}{table}");
        let below = tree.line(stem, index + 1 == files.len(), &line);
        let offset = if file.offset_bytes > 0 { format!(" from byte {}", file.offset_bytes) } else { String::new() };
        tree.text += &format!("{below}   in {object}{offset}\n");
    }
}

fn table_text(table: &TableNode) -> String {
    let key = |hex: &str| match hex.get(..2 * MAX_SHOWN_KEY_BYTES) {
        Some(head) if hex.len() > head.len() => format!("{head}…"),
        _ => hex.to_owned(),
    };
    let (smallest, largest) = (key(&table.smallest_key_hex), key(&table.largest_key_hex));
    format!("{} L{} [{smallest} .. {largest}]", table.column_family, table.level)
}

fn range_text([first, last]: [u32; 2]) -> String {
    if first == last { format!("key group {first}") } else { format!("key groups {first}-{last}") }
}
