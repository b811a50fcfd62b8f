//! What a run of the checker covers, and what is deliberately wrong in it.

use crate::state::MAX_COORDINATORS;

/// One bounded world.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Tenures that may claim the job. A restarted process is one more tenure.
    pub coordinators: usize,
    /// Checkpoint ids 1..=ids.
    pub ids: usize,
    /// Coordinator 0 owns the job when the world begins, with this many complete checkpoints, each with a file of its own.
    pub booted_with: usize,
    /// Deletions (dropped checkpoints or sweeps) each tenure may plan.
    pub deletions: [u8; MAX_COORDINATORS],
    /// Writes answered with an error, and aborts, in the whole run.
    pub faults: u8,
    /// Whether a plan of deletion (D1, S1, S2) is made in steps, between which its tenure commits.
    pub staged: bool,
}

impl Scope {
    /// Two tenures from an empty store: both claim, with one counter or with two.
    pub const TWO: Scope =
        Scope { coordinators: 2, ids: 2, booted_with: 0, deletions: [2; 4], faults: 1, staged: false };
    /// A running owner and a successor; three checkpoints, so that files are shared and freed, and lists fail.
    pub const SHARING: Scope =
        Scope { coordinators: 2, ids: 3, booted_with: 1, deletions: [2, 1, 0, 0], faults: 1, staged: false };
    /// A running owner and two claimants.
    pub const THREE: Scope =
        Scope { coordinators: 3, ids: 2, booted_with: 1, deletions: [1; 4], faults: 0, staged: false };
    /// A running owner that drops a checkpoint, and three claimants.
    pub const FOUR: Scope =
        Scope { coordinators: 4, ids: 2, booted_with: 2, deletions: [1, 0, 0, 0], faults: 0, staged: false };
    /// A running owner that commits beside a sweep, and a successor.
    pub const BESIDE: Scope =
        Scope { coordinators: 2, ids: 3, booted_with: 1, deletions: [1, 1, 0, 0], faults: 1, staged: true };

    /// The same world, or a larger one if `ICECORE_MODEL_SCOPE=large` is set (many minutes, gigabytes of memory).
    pub fn or_larger(self) -> Scope {
        if std::env::var_os("ICECORE_MODEL_SCOPE").is_none_or(|scope| scope != "large") {
            return self;
        }
        match (self.coordinators, self.booted_with) {
            (2, 0) => Scope { ids: 3, ..self },
            _ if self.staged => Scope { deletions: [2; 4], ..self },
            (2, _) => Scope { deletions: [2; 4], faults: 2, ..self },
            (3, _) => Scope { faults: 1, ..self },
            _ => Scope { deletions: [1; 4], ..self },
        }
    }
}

/// One look, order or name left out or done wrong. See the table in `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    CommitWithoutLook,
    LookBeforeMetadata,
    DeleteWithoutLook,
    LookBeforeCondemnedList,
    ReadBeforeClaiming,
    CheckpointsBeforeLists,
    CheckpointsBeforeStarts,
    StartsBeforeLists,
    HonourEveryList,
    HonourNoList,
    CountEveryVisible,
    NamesWithoutTag,
    FoldersWithoutEpoch,
    EpochIsCounterOnly,
    ListRemovedFirst,
    ListBelievedAbsent,
    CommitBelievedAbsent,
    FinishPredecessorsList,
    DeleteBeforeStart,
    CondemnedHandedOut,
    ClaimWithoutLook,
    AdoptedReportedWithoutLook,
    NewestDropped,
    SweepTakesInFlight,
    SweepSparesOwnAborted,
    InFlightNotHeld,
    FilesDeletedBeforeMetadata,
    FailedListNotRepeated,
    SweepReadsBeforeProgress,
    HeldNotAskedAgain,
}

/// The steps of a claim (C1-C8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimStep {
    Choose,
    Publish,
    Look,
    ReadLists,
    ReadStarts,
    ReadFirstPage,
    ReadSecondPage,
    FinishPredecessor,
    Start,
}

/// The steps of a commit after its file is stored (K3-K5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStep {
    Publish,
    Look,
    Report,
}

/// The steps of a deletion after its plan (D2-D5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteStep {
    Publish,
    Look,
    Delete,
    Remove,
}

/// The steps of a sweep's plan, where it is made in steps (S1, S2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanStep {
    /// Which checkpoints of the tenure are finished, and which are in flight.
    Progress,
    /// What counts.
    Read,
    /// What is there, and what of it goes; it is condemned (D1).
    ListAndCondemn,
}

impl Mutation {
    pub fn plan_steps(self) -> &'static [PlanStep] {
        use PlanStep::*;
        match self {
            Mutation::SweepReadsBeforeProgress => &[Read, Progress, ListAndCondemn],
            _ => &[Progress, Read, ListAndCondemn],
        }
    }

    pub fn claim_steps(self) -> &'static [ClaimStep] {
        use ClaimStep::*;
        match self {
            Mutation::ReadBeforeClaiming => {
                &[Choose, ReadLists, ReadStarts, ReadFirstPage, ReadSecondPage, Publish, Look, Start]
            }
            Mutation::CheckpointsBeforeLists => {
                &[Choose, Publish, Look, ReadFirstPage, ReadSecondPage, ReadLists, ReadStarts, Start]
            }
            Mutation::CheckpointsBeforeStarts => {
                &[Choose, Publish, Look, ReadLists, ReadFirstPage, ReadSecondPage, ReadStarts, Start]
            }
            Mutation::StartsBeforeLists => {
                &[Choose, Publish, Look, ReadStarts, ReadLists, ReadFirstPage, ReadSecondPage, Start]
            }
            Mutation::FinishPredecessorsList => &[
                Choose,
                Publish,
                Look,
                ReadLists,
                ReadStarts,
                ReadFirstPage,
                ReadSecondPage,
                Look,
                FinishPredecessor,
                Start,
            ],
            Mutation::ClaimWithoutLook => {
                &[Choose, Publish, ReadLists, ReadStarts, ReadFirstPage, ReadSecondPage, Start]
            }
            _ => &[Choose, Publish, Look, ReadLists, ReadStarts, ReadFirstPage, ReadSecondPage, Start],
        }
    }

    pub fn commit_steps(self) -> &'static [CommitStep] {
        use CommitStep::*;
        match self {
            Mutation::CommitWithoutLook => &[Publish, Report],
            Mutation::LookBeforeMetadata => &[Look, Publish, Report],
            _ => &[Publish, Look, Report],
        }
    }

    pub fn delete_steps(self) -> &'static [DeleteStep] {
        use DeleteStep::*;
        match self {
            Mutation::DeleteWithoutLook => &[Publish, Delete, Remove],
            Mutation::LookBeforeCondemnedList => &[Look, Publish, Delete, Remove],
            Mutation::ListRemovedFirst => &[Publish, Look, Remove, Delete],
            _ => &[Publish, Look, Delete, Remove],
        }
    }
}
