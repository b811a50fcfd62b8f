//! How a job is managed, and how it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::plan::ManagedOperator;
use crate::coordinator::CoordinatorOptions;
use crate::job::liveness::Heartbeat;
use crate::job::run::{Phase, RunOptions};
use crate::store::StorePath;

/// How a job is managed.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// Where workers report. Port 0: any that is free ([`Manager::address`](super::Manager::address)). Whoever reaches it can disturb the job: there is
    /// neither encryption nor a secret that a reader of the network does not see, so it belongs on a network of the job's own.
    pub listen: SocketAddr,
    /// How many workers there are at first.
    pub workers: u32,
    /// The stateful operators. Each worker runs one subtask of each.
    pub operators: Vec<ManagedOperator>,
    /// How workers are watched and restarted.
    pub run: RunOptions,
    /// How checkpoints are taken.
    pub coordinator: CoordinatorOptions,
    /// What the first workers restore.
    pub start_from: StartFrom,
    /// What happens when a checkpoint that is to be restored is damaged.
    pub on_damage: OnDamage,
    /// Whether the job may begin with a checkpoint that has state of operators which it does not name. That state is dropped with the
    /// checkpoint. (Flink's `allowNonRestoredState`.)
    pub allow_non_restored_state: bool,
}

/// What the first workers of a manager restore. Once it has completed a checkpoint of its own, later ones restore the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// The newest complete checkpoint of the job, if it has one; otherwise they begin with nothing. A manager that takes over for
    /// one that died wants this, whatever that one was started with.
    #[default]
    Newest,
    /// The checkpoint or savepoint in this folder of the store. One that this job has gone on from is refused, and so is another
    /// job's if this one has checkpoints of its own: what was put out since would be put out again.
    Folder(StorePath),
    /// The same, and what was put out since is put out again, under new names: doubled, unless its readers have forgotten it.
    Rewind(StorePath),
}

/// What happens when a worker finds what it restores damaged: a hash is wrong, or something is not there. No record was
/// processed then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// The job fails, and a person decides.
    #[default]
    Fail,
    /// The next older checkpoint is restored, and if it is damaged, too, the one before. Outputs that were committed since are
    /// made again. When none is left the job fails: it never begins with nothing by itself.
    FallBack,
}

/// A registered worker, as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// What it calls itself.
    pub name: String,
    /// Its last heartbeat.
    pub heartbeat: Heartbeat,
}

/// How a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerStatus {
    /// Which generation of workers runs, or ran last.
    pub generation: u64,
    /// How many workers it has.
    pub workers: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why workers were ended last, if they were.
    pub last_failure: Option<String>,
    /// Those that have registered.
    pub registered: BTreeMap<u32, WorkerStatus>,
}
