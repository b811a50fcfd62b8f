//! What a copy would do, as a value: printed, tested, dry-run, then executed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, ContentHash, FileKind, JobId, SharedName};
use crate::metadata::{CheckpointKind, CheckpointMetadata, FileEntry, Location, OperatorState, Origin, total_bytes};
use crate::ownership::{CheckpointView, JobView, Unreadable};
use crate::transfer::TransferLimits;

const PLAN: &str = "plan a copy";

/// How checkpoints are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Copy also what cannot keep its number, under the next free one, and beside the state of other jobs. A copy
    /// becomes the target's newest checkpoint then, which is what a recovery takes.
    pub on_top: bool,
    /// Pin at the target what is pinned at the source.
    pub pins: bool,
    /// After a damaged checkpoint go on with the others.
    pub keep_going: bool,
    /// How many files are copied at once.
    pub limits: TransferLimits,
}

/// What becomes of one checkpoint of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is copied, and has this number at the target.
    Send(CheckpointId),
    /// The target has it, in this folder.
    There(CheckpointFolder),
    /// The target has a newer state of the same job, in this folder: an older one is not put above it.
    Older(CheckpointFolder),
    /// It is not copied.
    Refused(Refusal),
    /// Its `_metadata` cannot be read.
    Unreadable(Unreadable),
}

/// Why a sound checkpoint is not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its number, or a greater one, is taken at the target by something else; the smallest that is free.
    NumberTaken(CheckpointId),
    /// The target has a checkpoint of another job, in this folder.
    OtherJob(CheckpointFolder, JobId),
    /// This one of the target says that it is the same, and has other content.
    OtherContent(CheckpointFolder),
    /// It is a savepoint, and does not lie in a job's folder.
    Savepoint,
    /// Its number is the greatest there is: no checkpoint could follow it.
    LastNumber,
}

impl Refusal {
    /// Whether it can be copied all the same, with [`CopyOptions::on_top`].
    pub fn yields_to_on_top(&self) -> bool {
        matches!(self, Self::NumberTaken(_) | Self::OtherJob(..))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumberTaken(next) => write!(f, "the target has other checkpoints below {next}, and numbers grow"),
            Self::OtherJob(folder, job) => write!(f, "the target has state of job {job}, in {folder}"),
            Self::OtherContent(folder) => write!(f, "{folder} at the target says that it is the same, and is not"),
            Self::Savepoint => f.write_str("a savepoint does not lie in a job's folder; copy it by its path"),
            Self::LastNumber => f.write_str("its number is the greatest there is, and none could follow it"),
        }
    }
}

/// One checkpoint of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// Its folder at the source.
    pub source: CheckpointFolder,
    /// How it was written, if its `_metadata` can be read.
    pub kind: Option<CheckpointKind>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The files that are sent. The target has the content of the others, or will by then.
    pub send_files: u64,
    /// Their bytes.
    pub send_bytes: u64,
    /// Whether somebody pinned it at the source.
    pub is_pinned: bool,
    /// Whether the copy is pinned with that.
    pub sets_pin: bool,
}

/// What a copy would do, oldest checkpoint first. Nothing has happened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// The job that is copied.
    pub job: JobId,
    /// What it is called at the target.
    pub to_job: JobId,
    /// Checkpoint by checkpoint.
    pub steps: Vec<CopyStep>,
}

impl CopyPlan {
    /// Plans to copy the checkpoints `chosen` of `source` to the job of `target`. Views that were read while
    /// others work there may be out of date: the owner of the target plans again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a chosen one does not count; [`ErrorKind::Blocked`] if nobody can tell what
    /// counts at either end.
    pub fn new(source: &JobView, chosen: &[CheckpointFolder], target: &JobView, options: &CopyOptions) -> Result<Self> {
        refuse_unknown(source)?;
        refuse_unknown(target)?;
        let mut planner = Planner::new(source, target, options);
        let mut steps = Vec::with_capacity(chosen.len());
        for folder in chosen.iter().copied().collect::<BTreeSet<_>>() {
            let checkpoint = source.checkpoints.get(&folder).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, PLAN, "it does not count at the source").with_object(folder)
            })?;
            steps.push(planner.step(checkpoint));
        }
        Ok(Self { job: source.layout.job().clone(), to_job: target.layout.job().clone(), steps })
    }

    /// How many checkpoints are copied.
    pub fn send_checkpoints(&self) -> u64 {
        self.steps.iter().filter(|step| matches!(step.verdict, Verdict::Send(_))).count() as u64
    }

    /// How many files are sent.
    pub fn send_files(&self) -> u64 {
        total_bytes(self.steps.iter().map(|step| step.send_files))
    }

    /// How many bytes are sent, indexes not counted.
    pub fn send_bytes(&self) -> u64 {
        total_bytes(self.steps.iter().map(|step| step.send_bytes))
    }

    /// Whether it changes nothing at the target. What cannot be copied is no change, either.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| !matches!(step.verdict, Verdict::Send(_)) && !step.sets_pin)
    }
}

impl fmt::Display for CopyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let number = step.source.checkpoint;
            match &step.verdict {
                Verdict::Send(to) if *to == number => write!(f, "copy    {number}")?,
                Verdict::Send(to) => write!(f, "copy    {number} as {to}")?,
                Verdict::There(folder) => write!(f, "there   {number}  ({folder})")?,
                Verdict::Older(newer) => write!(f, "older   {number}  (the target has {newer}, and numbers grow)")?,
                Verdict::Refused(why) => write!(f, "refused {number}  ({why})")?,
                Verdict::Unreadable(unreadable) => write!(f, "damaged {number}  ({})", unreadable.reason)?,
            }
            if matches!(step.verdict, Verdict::Send(_)) {
                let there = step.files.saturating_sub(step.send_files);
                write!(f, "  {} files, {} bytes to send; {there} files are there", step.send_files, step.send_bytes)?;
            }
            match (step.is_pinned, step.sets_pin) {
                (_, true) => writeln!(f, "; pins it")?,
                (true, false) => writeln!(f, "; pinned at the source")?,
                (false, false) => writeln!(f)?,
            }
        }
        let (checkpoints, files, bytes) = (self.send_checkpoints(), self.send_files(), self.send_bytes());
        write!(f, "{checkpoints} checkpoints, {files} files, {bytes} bytes to send")
    }
}

fn refuse_unknown(view: &JobView) -> Result<()> {
    match view.blocks_everything() {
        None => Ok(()),
        Some(blocker) => Err(Error::new(ErrorKind::Blocked, PLAN, blocker.reason.clone())
            .with_object(&blocker.object)
            .with_advice("which checkpoints count cannot be known without it; put back a sound copy of it")),
    }
}

/// Whether a file of a checkpoint of `kind` lies beside others in `shared/` at the target.
pub(super) fn is_shared(kind: CheckpointKind, file: &FileEntry) -> bool {
    kind == CheckpointKind::Incremental && matches!(file.location, Location::InRoot(_))
}

/// What is known while a plan is made.
struct Planner<'a> {
    source: &'a JobView,
    target: &'a JobView,
    options: &'a CopyOptions,
    /// The target's checkpoints that can be read, by whose state they are.
    there: HashMap<Origin, &'a Arc<CheckpointMetadata>>,
    /// Whose states the source has.
    identities: HashSet<Origin>,
    /// The contents in the target's `shared/`, and those that will be there.
    contents: HashSet<(ContentHash, FileKind)>,
    /// The smallest number that is free for the next copy.
    next: CheckpointId,
}

impl<'a> Planner<'a> {
    fn new(source: &'a JobView, target: &'a JobView, options: &'a CopyOptions) -> Self {
        let there = readable(target).map(|metadata| (metadata.identity(), metadata)).collect();
        let identities = readable(source).map(|metadata| metadata.identity()).collect();
        let (contents, next) = (contents(target), target.least_checkpoint());
        Self { source, target, options, there, identities, contents, next }
    }

    fn step(&mut self, checkpoint: &CheckpointView) -> CopyStep {
        let source = checkpoint.folder;
        let (verdict, metadata) = match &checkpoint.content {
            Ok(metadata) => (self.verdict(metadata), Some(metadata)),
            Err(unreadable) => (Verdict::Unreadable(unreadable.clone()), None),
        };
        let (send_files, send_bytes) = match (&verdict, metadata) {
            (Verdict::Send(number), Some(metadata)) => {
                self.next = CheckpointId(number.0.saturating_add(1));
                self.take_in(metadata)
            }
            _ => (0, 0),
        };
        let is_pinned = is_held(self.source, source);
        let sets_pin = match &verdict {
            Verdict::Send(_) => is_pinned && self.options.pins,
            Verdict::There(folder) => is_pinned && self.options.pins && !is_held(self.target, *folder),
            _ => false,
        };
        CopyStep {
            source,
            kind: metadata.map(|metadata| metadata.kind),
            verdict,
            files: metadata.map_or(0, |metadata| metadata.files().count() as u64),
            bytes: metadata.map_or(0, |metadata| total_bytes(metadata.files().map(|file| file.size_bytes))),
            send_files,
            send_bytes,
            is_pinned,
            sets_pin,
        }
    }

    fn verdict(&self, metadata: &CheckpointMetadata) -> Verdict {
        let identity = metadata.identity();
        if let Some(known) = self.there.get(&identity) {
            return match is_same_state(known, metadata) {
                true => Verdict::There(known.folder()),
                false => Verdict::Refused(Refusal::OtherContent(known.folder())),
            };
        }
        if metadata.kind == CheckpointKind::Savepoint {
            return Verdict::Refused(Refusal::Savepoint);
        }
        let number = if self.options.on_top { metadata.checkpoint.max(self.next) } else { metadata.checkpoint };
        if number.0 == u64::MAX {
            return Verdict::Refused(Refusal::LastNumber);
        }
        if self.options.on_top {
            return Verdict::Send(number);
        }
        if let Some(other) = self.of_another_job() {
            return Verdict::Refused(Refusal::OtherJob(other.folder(), other.identity().job));
        }
        if number >= self.next {
            return Verdict::Send(number);
        }
        let newer = self.newer(&identity).map(Verdict::Older);
        newer.unwrap_or(Verdict::Refused(Refusal::NumberTaken(self.next)))
    }

    /// Something at the target that is not of the job whose checkpoints are copied, nor of one that this was
    /// copied from itself.
    fn of_another_job(&self) -> Option<&'a Arc<CheckpointMetadata>> {
        let is_kin = |job: &JobId| {
            *job == *self.source.layout.job() || self.identities.iter().any(|identity| identity.job == *job)
        };
        readable(self.target).find(|metadata| !is_kin(&metadata.identity().job))
    }

    /// The target's newest checkpoint, if it is known to hold a newer state than `identity`: an earlier copy
    /// brought it, and later ones have nothing to catch up with.
    fn newer(&self, identity: &Origin) -> Option<CheckpointFolder> {
        let newest = self.target.newest()?.content.as_ref().ok()?;
        let other = newest.identity();
        let came_from_there = newest.origin.is_some() || self.identities.contains(&other);
        let is_newer = other.job == identity.job && other.folder >= identity.folder;
        (came_from_there && is_newer).then(|| newest.folder())
    }

    /// Counts what has to be sent of a checkpoint, and notes that it will be there.
    fn take_in(&mut self, metadata: &CheckpointMetadata) -> (u64, u64) {
        let (mut files, mut bytes) = (0_u64, 0_u64);
        for file in metadata.files() {
            if !is_shared(metadata.kind, file) || self.contents.insert((file.sha256, file.kind)) {
                files += 1;
                bytes = bytes.saturating_add(file.size_bytes);
            }
        }
        (files, bytes)
    }
}

fn readable(view: &JobView) -> impl Iterator<Item = &Arc<CheckpointMetadata>> {
    view.checkpoints.values().filter_map(|checkpoint| checkpoint.content.as_ref().ok())
}

/// What the owner's registry will hand out: the shared objects of the job itself, but for those known to be damaged (X1).
fn contents(view: &JobView) -> HashSet<(ContentHash, FileKind)> {
    let Ok(shared) = view.layout.shared() else { return HashSet::new() };
    let incremental = readable(view).filter(|metadata| metadata.kind == CheckpointKind::Incremental);
    let name = |file: &FileEntry| match &file.location {
        Location::InRoot(path) => path.below(&shared)?.parse::<SharedName>().ok(),
        Location::InCheckpoint(_) => None,
    };
    let names = incremental.flat_map(|metadata| metadata.files()).filter_map(name);
    names.filter(|name| !view.is_distrusted(name)).map(|name| (name.hash, name.kind)).collect()
}

/// Whether somebody pinned it.
fn is_held(view: &JobView, folder: CheckpointFolder) -> bool {
    view.pins.keys().any(|name| name.folder == folder)
}

/// Whether two `_metadata` hold the same state: all but where it lies, and what it is called there.
pub(super) fn is_same_state(a: &CheckpointMetadata, b: &CheckpointMetadata) -> bool {
    a.kind == b.kind
        && a.triggered_at_unix_ms == b.triggered_at_unix_ms
        && a.max_parallelism == b.max_parallelism
        && a.sources == b.sources
        && a.properties == b.properties
        && a.operators.len() == b.operators.len()
        && a.operators.iter().zip(&b.operators).all(|(a, b)| is_same_operator(a, b))
}

fn is_same_operator(a: &OperatorState, b: &OperatorState) -> bool {
    let is_same_file = |(a, b): (&FileEntry, &FileEntry)| {
        a.local_name == b.local_name
            && (a.kind, a.size_bytes, a.sha256) == (b.kind, b.size_bytes, b.sha256)
            && (a.key_groups, &a.table, a.identity) == (b.key_groups, &b.table, b.identity)
    };
    let mut subtasks = a.subtasks.iter().zip(&b.subtasks);
    (&a.operator, a.parallelism, a.max_parallelism) == (&b.operator, b.parallelism, b.max_parallelism)
        && a.states == b.states
        && a.subtasks.len() == b.subtasks.len()
        && subtasks.all(|(a, b)| {
            (a.index, a.key_groups, a.backend, a.files.len()) == (b.index, b.key_groups, b.backend, b.files.len())
                && a.files.iter().zip(&b.files).all(is_same_file)
        })
}
