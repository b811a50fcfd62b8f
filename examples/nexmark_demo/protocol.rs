//! What the demo tells the job's process, and what that process says, a line of JSON each.

use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The environment variable by which a process is told that it is the job, and which.
pub const JOB_VARIABLE: &str = "ICECORE_NEXMARK_DEMO_JOB";

/// What a job's process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobConfig {
    /// Where checkpoints go; `None`: take none, and keep the state in memory (the reference).
    pub store: Option<String>,
    /// A folder of its own for databases.
    pub work: PathBuf,
    /// Where the final state is written.
    pub dump: PathBuf,
    pub events: u64,
    pub checkpoint_every: u64,
    pub parallelism: u32,
    /// Of this checkpoint only the first part is acknowledged: it stays in flight until the process dies.
    pub hold_checkpoint: Option<u64>,
    /// Without checkpoints: leave the event at this offset out, to show that the comparison notices.
    pub skip_event: Option<u64>,
}

/// What a job's process says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// It starts from a checkpoint.
    Restored { checkpoint: u64, from_parallelism: u32, offset: u64, files: u64, bytes: u64, ms: u64 },
    /// So many events went in.
    Progress { offset: u64 },
    /// A checkpoint is complete.
    Checkpoint(CheckpointRow),
    /// A checkpoint is in flight, and will stay so.
    Held { checkpoint: u64, offset: u64, acknowledged: u64, of: u64 },
    /// All events are in, and the final state is written.
    Done { events_per_second: u64 },
    /// It failed.
    Failed { error: String },
}

/// A complete checkpoint, as the table shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointRow {
    pub checkpoint: u64,
    pub offset: u64,
    pub files: u64,
    pub new_files: u64,
    pub uploaded_bytes: u64,
    pub shared_bytes: u64,
    pub sync_us: u64,
    pub async_us: u64,
    pub events_per_second: u64,
}

impl CheckpointRow {
    /// What a full checkpoint would have uploaded: every file of the state as it was.
    pub fn full_bytes(&self) -> u64 {
        self.uploaded_bytes + self.shared_bytes
    }
}

/// Says it to the parent. If that is gone, so is whoever wanted the job.
pub fn say(report: &Report) {
    let line = serde_json::to_string(report).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Ends this process as soon as the parent is gone: it holds the other end of our input, and never
/// writes to it.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}
