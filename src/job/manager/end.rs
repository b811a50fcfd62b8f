//! What the manager does for a job when no worker is left; and what it keeps of it for people.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Manager;
use super::chronicle::{Chronicle, MAX_AGE};
use super::service::CONNECTION;
use crate::error::Result;
use crate::gc::SweepScope;
use crate::job::launch::Ended;
use crate::job::run::Ending;
use crate::metadata::{CheckpointKind, CheckpointMetadata};

/// Between two tries to write the history.
const HISTORY_PAUSE: Duration = Duration::from_secs(1);

/// How long the end of a process may take to be seen after its connections have broken.
const END_IS_SEEN: Duration = Duration::from_millis(10);

impl Manager {
    /// Writes what happens to the store, by and by.
    pub(super) async fn keep_history(self: Arc<Self>) {
        let mut tried_at = self.env.clock.monotonic();
        loop {
            tokio::select! {
                _ = self.ended() => return,
                () = self.history.changed.notified() => {}
                () = self.env.runtime.sleep(MAX_AGE) => {}
            }
            self.history.note_stored(&self.coordinator.registry().stats());
            let waited = self.env.clock.monotonic().saturating_sub(tried_at);
            if waited >= MAX_AGE || (Chronicle::is_due(&self.history) && waited >= HISTORY_PAUSE) {
                self.save_history().await;
                tried_at = self.env.clock.monotonic();
            }
        }
    }

    async fn save_history(&self) {
        let mut chronicle = self.chronicle.lock().await;
        if self.coordinator.over().is_none()
            && let Err(error) = chronicle.save(&self.history).await
        {
            tracing::warn!(%error, "the job's history could not be written; it is tried again");
        }
    }

    /// Notes a failure, and tells it from workers that were ended for another reason. Returns why.
    pub(super) async fn note_failure(&self, generation: u64, why: String, ended: &[Ended]) -> String {
        let failures = self.desk.read(|run, _| run.failures());
        if self.noted_failures.swap(failures, Ordering::SeqCst) >= failures {
            return why;
        }
        let why = self.explain(generation, why, ended).await;
        self.history.event("failed", generation, &why);
        why
    }

    /// When a process dies its peers may be the first to say so, by failing themselves: names those that have ended, too.
    async fn explain(&self, generation: u64, why: String, ended: &[Ended]) -> String {
        if ended.is_empty() {
            // Connections of a process break a moment before its end can be seen.
            self.env.runtime.sleep(END_IS_SEEN).await;
        }
        let newest = self.launcher.ended();
        let own = ended.iter().chain(&newest).filter(|ended| ended.generation == generation);
        let own: Vec<&Ended> = own.collect();
        let Some(why) = explained(&why, &own) else { return why };
        self.desk.change(|run, _| {
            run.explain_failure(&why);
            Vec::new()
        });
        why
    }

    /// While the job is ours still.
    pub(super) async fn bring_to_end(&self, ending: &Ending) {
        let kind = match ending {
            Ending::Finished | Ending::Cancelled => ending.name(),
            // `failed` says that a worker has, which need not be the end.
            Ending::Failed(_) => "over",
        };
        let generation = self.desk.read(|run, _| run.generation());
        self.history.event(kind, generation, &ending.to_string());
        if *ending == Ending::Cancelled
            && self.drops_checkpoints.load(Ordering::SeqCst)
            && let Err(error) = self.drop_all_checkpoints().await
        {
            tracing::error!(%error, "the job's checkpoints could not be dropped");
            self.history.event(kind, generation, &format!("its checkpoints are not all dropped: {error}"));
            *self.drop_failure.lock() = Some(error);
        }
        self.history.note_stored(&self.coordinator.registry().stats());
        self.save_history().await;
        if self.coordinator.over().is_none()
            && let Err(error) = self.coordinator.end().await
        {
            tracing::warn!(%error, "the coordinator's tenure could not be ended in good order");
        }
    }

    /// A checkpoint of no state, and then all others away: ids grow from the newest, which therefore is never dropped (R1).
    async fn drop_all_checkpoints(&self) -> Result<()> {
        let coordinator = &self.coordinator;
        // Those in flight are given up, so that none of them needs another one.
        coordinator.restart_tasks(Vec::new())?;
        // Incremental, or the newest that is would stay as what the next one builds on.
        let import = coordinator.begin_import(coordinator.least_import(), CheckpointKind::Incremental)?;
        let metadata = CheckpointMetadata {
            job: coordinator.layout().job().clone(),
            checkpoint: import.trigger().checkpoint,
            epoch: coordinator.epoch(),
            kind: CheckpointKind::Incremental,
            triggered_at_unix_ms: import.trigger().triggered_at_unix_ms,
            max_parallelism: self.options.operators.first().map_or(1, |operator| operator.max_parallelism.get()),
            writer: String::new(),
            origin: None,
            operators: Vec::new(),
            sources: Vec::new(),
            properties: BTreeMap::new(),
        };
        let empty = import.commit(metadata).await?;
        let view = coordinator.view();
        let others = view.checkpoints.keys().filter(|folder| **folder != empty);
        let drops: Vec<_> = others.map(|folder| (*folder, "the job was cancelled".to_owned())).collect();
        let (plan, report) = coordinator.drop_checkpoints(&drops, false).await?;
        for refused in &plan.refused {
            tracing::warn!(folder = %refused.folder, refused.why, "a checkpoint stays");
        }
        // What aborted checkpoints and earlier tenures have left, too: nobody may come back for it.
        coordinator.collect(SweepScope::Everything, false).await?;
        tracing::info!(dropped = report.dropped.len(), objects = report.deleted_objects, "checkpoints are dropped");
        Ok(())
    }
}

/// Says of a failure which processes have ended, if that is not said already.
fn explained(why: &str, ended: &[&Ended]) -> Option<String> {
    let told = |ended: &&Ended| format!("worker {}: {}", ended.worker, ended.how);
    let is_of = |ended: &&&Ended| why.starts_with(&format!("worker {}: ", ended.worker));
    match ended.iter().find(is_of) {
        // How its process ended says more than that it is not heard any more, and less than what it said itself.
        Some(own) => why.starts_with(&format!("worker {}: {CONNECTION}", own.worker)).then(|| told(own)),
        None if ended.is_empty() => None,
        None => Some(format!("{why} ({})", ended.iter().map(told).collect::<Vec<_>>().join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_first_what_a_person_can_do_something_about() {
        let ended = |worker, how: &str| Ended { generation: 1, worker, how: how.to_owned(), exit_code: None };
        let killed = ended(1, "its process ended: signal: 9 (SIGKILL)");
        let told = "worker 1: its process ended: signal: 9 (SIGKILL)".to_owned();
        assert_eq!(explained("worker 1: its connection broke", &[&killed]), Some(told.clone()));
        assert_eq!(explained(&told, &[&killed]), None, "it is said already");
        assert_eq!(explained("worker 1: decode `an event`: it is none", &[&ended(1, "its process ended: 1")]), None);
        let peer = explained("worker 0: its peer is gone", &[&killed]).unwrap();
        assert_eq!(peer, "worker 0: its peer is gone (worker 1: its process ended: signal: 9 (SIGKILL))");
        assert_eq!(explained("worker 0: no heartbeat", &[]), None);
    }
}
