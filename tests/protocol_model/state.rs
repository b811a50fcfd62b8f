//! The store, the memory of every coordinator, and what the outside has been told.
//!
//! Everything is a small integer or a bit set, and hashing packs it into words: the checker visits millions of these.

use std::hash::{Hash, Hasher};

pub const MAX_COORDINATORS: usize = 4;
pub const MAX_IDS: usize = 3;
pub const OBJECTS: usize = MAX_COORDINATORS * MAX_IDS;

/// A set of objects: bit `object(writer, id)`. A checkpoint's `_metadata` and the shared file tagged with it have one number.
pub type Set = u16;

pub fn object(writer: usize, id: usize) -> usize {
    writer * MAX_IDS + id - 1
}

pub fn writer_of(object: usize) -> usize {
    object / MAX_IDS
}

pub fn id_of(object: usize) -> usize {
    object % MAX_IDS + 1
}

pub fn written_by(writer: usize) -> Set {
    ((1 << MAX_IDS) - 1) << (writer * MAX_IDS)
}

/// Every object that belongs to checkpoint `id`, whoever wrote it.
pub fn with_id(id: usize) -> Set {
    (0..MAX_COORDINATORS).map(|writer| 1 << object(writer, id)).sum()
}

pub fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..OBJECTS).filter(move |object| set & (1 << object) != 0)
}

/// What a condemned list names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    pub metas: Set,
    pub files: Set,
    /// Void lists: bit `2 * owner` for an ordinary list of that coordinator, the next one for its late one.
    pub lists: u8,
}

/// What a sweep has noted so far of its own tenure, which goes on committing (S2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The greatest id that was used, and the one in flight, if any.
    pub used: u8,
    pub in_flight: u8,
    /// What counted.
    pub retained: Set,
    /// The files that the registry held.
    pub held: Set,
}

/// How far a plan is that is made in steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planning {
    #[default]
    Nothing,
    /// This `_metadata` may go; it is not released yet.
    Drop(u8),
    /// So many steps of a sweep's plan are done.
    Sweep(u8),
}

/// A write that was answered with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateList {
    #[default]
    None,
    /// It may land.
    Pending,
    Landed,
}

/// One tenure: its memory, and the objects on the store that only it writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coordinator {
    // The claim: how many of its steps are done, and what has been read so far.
    pub claim_step: u8,
    pub counter: u8,
    pub claimed: bool,
    pub started: bool,
    /// The `_metadata` named by the lists read, by the lists' owner.
    pub listed: [Set; MAX_COORDINATORS],
    /// The newest start read, plus one.
    pub newest: u8,
    /// Checkpoints seen.
    pub visible: Set,
    /// What the start says; on the store once `started`.
    pub adopted: Set,
    /// Fenced, or a commit of unknown outcome: begins nothing any more.
    pub ended: bool,
    // The committing thread.
    pub commit: Commit,
    pub current_id: u8,
    /// The file that the checkpoint in flight references.
    pub current_file: u8,
    /// The greatest id this tenure has used.
    pub used: u8,
    /// Own complete checkpoints: bit id.
    pub complete: u8,
    // The deleting thread.
    pub planning: Planning,
    pub noted: Noted,
    /// 0 idle, otherwise steps done plus one.
    pub delete: u8,
    pub deletions: u8,
    pub condemned_metas: Set,
    pub condemned_files: Set,
    /// The plan, which is also the content of the list while `list_published`.
    pub plan: List,
    pub list_published: bool,
    pub late_list: LateList,
    pub late_plan: List,
}

/// Where the committing thread is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commit {
    #[default]
    Idle,
    /// The start is published; the look before the adopted checkpoints are reported is due (C9).
    AdoptedLook,
    AdoptedReport,
    /// Steps of the commit done, its file being stored.
    Step(u8),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    // The store.
    pub files: Set,
    pub metas: Set,
    /// Answered with an error, may land.
    pub late_files: Set,
    pub late_metas: Set,
    /// The file that each `_metadata` references, plus one.
    pub references: [u8; OBJECTS],
    /// Who wrote `cp-<id>/_metadata`: only where folders carry no epoch.
    pub folder_writer: [u8; MAX_IDS],
    pub coordinators: [Coordinator; MAX_COORDINATORS],
    // What only the checker knows.
    pub faults: u8,
    /// Checkpoints that somebody outside was told are complete.
    pub reported: Set,
    /// Checkpoints that retention has dropped, in a tenure that was the newest start when it decided.
    pub dropped: Set,
}

impl Commit {
    fn code(self) -> u64 {
        match self {
            Commit::Idle => 0,
            Commit::AdoptedLook => 1,
            Commit::AdoptedReport => 2,
            Commit::Step(step) => 3 + u64::from(step),
        }
    }
}

fn word(parts: [Set; 4]) -> u64 {
    parts.iter().fold(0, |word, part| word << 16 | u64::from(*part))
}

impl Planning {
    fn code(self) -> u64 {
        match self {
            Planning::Nothing => 0,
            Planning::Sweep(step) => u64::from(step),
            Planning::Drop(metadata) => 4 + u64::from(metadata),
        }
    }
}

impl Coordinator {
    /// Uploads and commits under way hold their file.
    pub fn in_flight(&self) -> bool {
        matches!(self.commit, Commit::Step(_))
    }

    fn pack(&self) -> [u64; 5] {
        let flags = u64::from(self.claimed)
            | u64::from(self.started) << 1
            | u64::from(self.ended) << 2
            | u64::from(self.list_published) << 3
            | (self.late_list as u64) << 4;
        let small = [
            (u64::from(self.claim_step), 4),
            (u64::from(self.counter), 4),
            (u64::from(self.newest), 3),
            (flags, 6),
            (self.commit.code(), 4),
            (u64::from(self.current_id), 2),
            (u64::from(self.current_file), 4),
            (u64::from(self.used), 2),
            (u64::from(self.complete), 4),
            (u64::from(self.delete), 3),
            (u64::from(self.deletions), 3),
            (u64::from(self.plan.lists), 8),
        ];
        let small = small.iter().fold(0, |word, (value, bits)| word << bits | value);
        let noted = self.planning.code() << 4 | u64::from(self.noted.used) << 2 | u64::from(self.noted.in_flight);
        [
            word(self.listed),
            word([self.visible, self.noted.retained, self.noted.held, noted as u16]),
            word([self.adopted, self.condemned_files, self.plan.metas, self.plan.files]),
            word([self.late_plan.metas, self.late_plan.files, u16::from(self.late_plan.lists), self.condemned_metas]),
            small,
        ]
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(word([self.files, self.metas, self.late_files, self.late_metas]));
        hasher.write_u64(word([self.reported, self.dropped, u16::from(self.faults), 0]));
        let references = self.references.iter().fold(0, |word, file| word << 4 | u64::from(*file));
        hasher.write_u64(self.folder_writer.iter().fold(references, |word, writer| word << 2 | u64::from(*writer)));
        for coordinator in &self.coordinators {
            for word in coordinator.pack() {
                hasher.write_u64(word);
            }
        }
    }
}
