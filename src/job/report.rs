//! How a job is and what happened to it, in the form that the manager gives to people and their programs: JSON over HTTP
//! ([`super::http`]), the job's history on the store, `icecore job status`, the web page.
//!
//! Fields are only added. Times are milliseconds since 1970 UTC; durations are milliseconds.

use serde::{Deserialize, Serialize};

/// How a job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobReport {
    /// The job's id.
    pub job: String,
    /// The store that it lies on, as [`crate::store::Store::describe`] calls it.
    pub store: String,
    /// The version of icecore that the manager runs.
    pub version: String,
    /// When this report was made.
    pub now_unix_ms: u64,
    /// Who manages it.
    pub manager: ManagerReport,
    /// `starting`, `restoring`, `running`, `restarting`, `finished`, `cancelled` or `failed`.
    pub state: String,
    /// Why it failed, if it did.
    pub reason: Option<String>,
    /// Workers that have not registered, while it starts; that have not restored, while it restores.
    pub missing_workers: Vec<u32>,
    /// When the next generation starts, while it restarts.
    pub restarts_in_ms: Option<u64>,
    /// Somebody wants it to stop in good order.
    pub stopping: bool,
    /// Which generation of workers runs, or ran last.
    pub generation: u64,
    /// How many workers it has.
    pub parallelism: u32,
    /// Why workers were ended last.
    pub last_failure: Option<String>,
    /// Failures since the manager started.
    pub failures: u64,
    /// Generations that were started after the first, since then.
    pub restarts: u64,
    /// What the newest generation restored; `None`: it began with nothing.
    pub restored_from: Option<RestoredFrom>,
    /// How that came to run.
    pub recovery: RecoveryReport,
    /// The stateful operators.
    pub operators: Vec<OperatorReport>,
    /// The workers of the newest generation.
    pub workers: Vec<WorkerReport>,
    /// How it is configured.
    pub options: OptionsReport,
    /// Checkpoints and savepoints that became complete since the manager started.
    pub completed: u64,
    /// Those that were aborted since then.
    pub aborted: u64,
    /// Checkpoints that were triggered and have not ended.
    pub in_flight: Vec<InFlightReport>,
    /// Checkpoints that have ended, newest first.
    pub checkpoints: Vec<CheckpointRecord>,
    /// What else happened, newest first.
    pub events: Vec<EventRecord>,
    /// The shared files.
    pub shared: SharedReport,
    /// How the shared files have grown, oldest first.
    pub growth: Vec<GrowthPoint>,
}

/// Who manages a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagerReport {
    /// Its tenure.
    pub epoch: String,
    /// What it calls itself.
    pub holder: String,
    /// Since when.
    pub started_at_unix_ms: u64,
    /// Where workers report.
    pub workers_address: String,
}

/// What a generation has restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoredFrom {
    /// The checkpoint's number, as far as its path tells.
    pub checkpoint: Option<u64>,
    /// Where it lies on the store.
    pub path: String,
}

/// How a generation of workers came to run: each step, as far as it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecoveryReport {
    /// From the end of the workers before, if there were any, to the start of these: they are ended, and the restart strategy waits.
    pub pause_ms: Option<u64>,
    /// Until the last of them has registered.
    pub start_ms: Option<u64>,
    /// Until the last of them has restored and verified its state.
    pub restore_ms: Option<u64>,
    /// Until a record was processed.
    pub resume_ms: Option<u64>,
    /// All of that.
    pub total_ms: Option<u64>,
    /// Files that came from the store.
    pub fetched_files: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Files that earlier runs have left on the workers' machines.
    pub linked_files: u64,
    /// Their bytes.
    pub linked_bytes: u64,
}

/// A stateful operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperatorReport {
    /// Its id.
    pub operator: String,
    /// Into how many key groups its keys are hashed.
    pub max_parallelism: u32,
    /// First and last key group of each worker, both included.
    pub key_groups: Vec<(u32, u32)>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerReport {
    /// Which it is, from 0.
    pub worker: u32,
    /// What it calls itself.
    pub name: String,
    /// Whether it has registered.
    pub registered: bool,
    /// How many steps its dataflow has made.
    pub steps: u64,
    /// Whether input waits for it.
    pub input_waits: bool,
    /// How long it has said nothing.
    pub silent_ms: Option<u64>,
    /// Whether it has no more input.
    pub drained: bool,
}

/// How a job is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptionsReport {
    /// Between two periodic checkpoints; `None`: by hand only.
    pub interval_ms: Option<u64>,
    /// Between the end of one and the trigger of the next.
    pub min_pause_ms: u64,
    /// How long one may take.
    pub timeout_ms: u64,
    /// How many may be in flight.
    pub max_concurrent: u64,
    /// How many in a row may fail.
    pub tolerable_failures: u32,
    /// How often workers say that they are alive.
    pub heartbeat_interval_ms: u64,
    /// After how long a silent one has failed.
    pub heartbeat_timeout_ms: u64,
    /// The restart strategy, in the form that `icecore job run` takes.
    pub restart: String,
    /// Which checkpoints are kept.
    pub retention: String,
}

/// A checkpoint in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InFlightReport {
    /// Its number.
    pub checkpoint: u64,
    /// `incremental`, `full` or `savepoint`.
    pub kind: String,
    /// When it was triggered.
    pub triggered_at_unix_ms: u64,
}

/// A checkpoint that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointRecord {
    /// Its number.
    pub checkpoint: u64,
    /// Its folder's name.
    pub folder: String,
    /// Where a savepoint lies, relative to the store.
    pub path: Option<String>,
    /// The tenure that triggered it.
    pub epoch: String,
    /// The generation of workers that it was taken of.
    pub generation: u64,
    /// `incremental`, `full` or `savepoint`.
    pub kind: String,
    /// `complete` or `aborted`; in a report also `dropped`: it was complete, and is not kept any more.
    pub status: String,
    /// Whether it can be restored. In a report only. Savepoints are their owners': what became of one since is not known here.
    pub is_retained: bool,
    /// Why it was aborted.
    pub reason: Option<String>,
    /// When it was triggered.
    pub triggered_at_unix_ms: u64,
    /// From the trigger to its end.
    pub duration_ms: Option<u64>,
    /// How long a subtask was held up, at most.
    pub sync_ms: Option<u64>,
    /// How long a subtask took to hash and send, at most.
    pub async_ms: Option<u64>,
    /// Files of the state.
    pub files: Option<u64>,
    /// Files that were sent.
    pub uploaded_files: Option<u64>,
    /// Bytes that were sent.
    pub uploaded_bytes: Option<u64>,
    /// Bytes that the store had already.
    pub shared_bytes: Option<u64>,
    /// Bytes of all the job's shared files after it.
    pub stored_bytes: Option<u64>,
    /// How many these are.
    pub stored_objects: Option<u64>,
}

/// Something that happened to a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventRecord {
    /// When.
    pub at_unix_ms: u64,
    /// `claimed`, `started`, `running`, `resumed`, `failed`, `rescaled`, `stopping`, `lost`, `finished`, `cancelled` or `over`.
    pub kind: String,
    /// The generation of workers.
    pub generation: u64,
    /// What, for a person.
    pub text: String,
}

/// The shared files of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharedReport {
    /// How many there are.
    pub objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Those whose deletion is under way.
    pub condemned: u64,
    /// Those that are being sent.
    pub in_flight: u64,
    /// Those that ended checkpoints left and whose deletion is not planned yet.
    pub orphans: u64,
    /// Deletes that failed since the manager started.
    pub failed_deletes: u64,
    /// Bytes of the files of all complete checkpoints, each counted as often as a checkpoint needs it.
    pub referenced_bytes: u64,
    /// That by the bytes that are stored; `None`: nothing is.
    pub dedupe_ratio: Option<f64>,
}

/// How many shared files there were at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrowthPoint {
    /// When.
    pub at_unix_ms: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// How many.
    pub stored_objects: u64,
}
