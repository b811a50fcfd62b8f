//! What the manager does for the job's files beside everything else: some of it takes long.

use std::sync::Arc;
use std::time::Duration;

use super::Manager;
use crate::error::Result;
use crate::gc::SweepScope;
use crate::layout::{Place, SharedName};
use crate::restore::verify_checkpoint;
use crate::store::StorePath;
use crate::transfer::{NoProgress, TransferLimits};

/// The pause between two looks for what commands ask. They wait for 30 s before they take the job over.
const REQUESTS_PAUSE: Duration = Duration::from_secs(5);
/// The pause between two looks for what is to be done.
const UPKEEP_PAUSE: Duration = Duration::from_secs(2);
/// Between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// How often whether the store has what was linked is looked for in vain, before it is left to the next restore.
const MAX_LOOKS: u32 = 10;

/// How far it has come.
#[derive(Default)]
struct Done {
    swept_at: Option<Duration>,
    /// The newest generation whose linked files were looked for.
    looked_for: u64,
    /// How often in vain.
    looks: u32,
}

impl Manager {
    /// Does what commands ask of the job's owner. It answers them soon, so they need not take the job over: nothing else is done here.
    pub(super) async fn serve_commands(self: Arc<Self>) {
        while self.coordinator.over().is_none() {
            if let Err(error) = self.coordinator.serve_requests().await {
                tracing::warn!(%error, "what commands ask could not be done; it is tried again");
            }
            tokio::select! {
                _ = self.ended() => return,
                () = self.env.runtime.sleep(REQUESTS_PAUSE) => {}
            }
        }
    }

    /// Sweeps, and looks for what the store has lost.
    pub(super) async fn keep_up(self: Arc<Self>) {
        let mut done = Done::default();
        while self.coordinator.over().is_none() {
            self.sweep_now_and_then(&mut done).await;
            self.look_for_linked_files(&mut done).await;
            tokio::select! {
                _ = self.ended() => return,
                () = self.env.runtime.sleep(UPKEEP_PAUSE) => {}
            }
        }
    }

    /// What managers and workers that died have left goes once this tenure has a checkpoint of its own, and what workers left since, once
    /// a day.
    async fn sweep_now_and_then(&self, done: &mut Done) {
        let now = self.env.clock.monotonic();
        let is_due = match done.swept_at {
            None => {
                self.coordinator.completed().last().is_some_and(|done| done.folder.epoch == self.coordinator.epoch())
            }
            Some(at) => now.saturating_sub(at) >= SWEEP_INTERVAL,
        };
        if !is_due {
            return;
        }
        done.swept_at = Some(now);
        match self.coordinator.collect(SweepScope::Everything, false).await {
            Ok((_, report)) => tracing::info!(objects = report.deleted_objects, "swept"),
            Err(error) => {
                tracing::warn!(%error, "what earlier runs have left could not be swept; it is tried again in a day")
            }
        }
        tracing::info!("{}", self.coordinator.remove_unfinished().await);
    }

    /// Files that workers have linked, from what was left on their machines, were not read from the store. Those that it has lost are
    /// stored anew by the next checkpoint: otherwise it would be complete, and no other machine could restore it.
    async fn look_for_linked_files(&self, done: &mut Done) {
        let (generation, recovery) = self.desk.read(|run, _| (run.generation(), *run.recovery()));
        if recovery.restored.is_none() || done.looked_for >= generation {
            return;
        }
        if recovery.files.linked_files == 0 || done.looks >= MAX_LOOKS {
            (done.looked_for, done.looks) = (generation, 0);
            return;
        }
        done.looks += 1;
        match self.distrust_what_is_lost().await {
            Ok(()) => (done.looked_for, done.looks) = (generation, 0),
            Err(error) => tracing::warn!(%error, "whether the store has what workers have linked is not known yet"),
        }
    }

    /// Looks at the newest checkpoint, whose files are those that were linked and newer ones. It may be dropped meanwhile, and with it files
    /// that no other one needs: what is missing of those is not lost.
    async fn distrust_what_is_lost(&self) -> Result<()> {
        let Some(checkpoint) = self.coordinator.latest().await? else { return Ok(()) };
        let looked = verify_checkpoint(&self.env, &checkpoint, false, TransferLimits::default(), &NoProgress).await?;
        let name = |object: &StorePath| match Place::of(self.coordinator.layout(), object) {
            Some(Place::Shared(name)) => Some(name),
            _ => None,
        };
        let lost: Vec<SharedName> = looked.damaged.iter().filter_map(|damage| name(&damage.object)).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let found =
            self.coordinator.distrust(&lost, "lost, as a look after a restore from local files has found").await?;
        let lost = found.marked.len() + found.known.len();
        if lost > 0 {
            tracing::error!(checkpoint = checkpoint.describe(), lost, "the store has lost files; they are stored anew");
            let generation = self.desk.read(|run, _| run.generation());
            let text = format!(
                "the store has lost {lost} files that workers have still: the next checkpoint stores them anew"
            );
            self.history.event("lost", generation, &text);
        }
        Ok(())
    }
}
