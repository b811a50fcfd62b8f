//! How a job is, for people and their programs.

use std::collections::BTreeMap;

use super::Manager;
use super::history::whole_ms;
use super::session::Session;
use crate::job::report::{
    CheckpointRecord, EventRecord, JobReport, ManagerReport, OperatorReport, OptionsReport, RecoveryReport,
    RestoredFrom, SharedReport, WorkerReport,
};
use crate::job::run::{Ending, JobRun, Phase, Recovery};
use crate::layout::CheckpointFolder;
use crate::metadata::total_bytes;
use crate::ownership::JobView;
use crate::store::StorePath;

/// How many checkpoints that have ended a report has.
const MAX_REPORTED_CHECKPOINTS: usize = 200;
/// How many other events it has.
const MAX_REPORTED_EVENTS: usize = 200;

impl Manager {
    /// Everything that is known of the job: what `icecore job status` and the web page show.
    pub fn report(&self) -> JobReport {
        let now = self.env.clock.monotonic();
        let view = self.coordinator.view();
        let (checkpoints, events) = self.history.newest(MAX_REPORTED_CHECKPOINTS, MAX_REPORTED_EVENTS);
        let (completed, aborted) = self.history.counts();
        let mut report = JobReport {
            job: self.coordinator.layout().job().to_string(),
            store: self.coordinator.store().describe(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_unix_ms: self.env.clock.unix_time_ms(),
            manager: self.manager_report(),
            stopping: self.stop.lock().is_some(),
            restored_from: self.restored.lock().as_ref().map(restored_from),
            options: self.options_report(),
            completed,
            aborted,
            in_flight: self.history.in_flight(),
            checkpoints: checkpoints.into_iter().map(|record| judged(record, &view)).collect(),
            events,
            shared: self.shared_report(&view),
            growth: self.history.growth(),
            ..JobReport::default()
        };
        self.desk.read(|run, sessions| {
            report.generation = run.generation();
            report.parallelism = run.workers();
            report.last_failure = run.last_failure().map(str::to_owned);
            report.failures = run.failures();
            report.restarts = run.generation().saturating_sub(1);
            let worker = |worker| worker_report(worker, run, sessions.get(&worker), now);
            report.workers = (0..run.workers()).map(worker).collect();
            report.operators = self.operator_reports(run.workers());
            report.recovery = recovery_report(run.recovery());
            match run.phase() {
                Phase::Starting { missing, .. } => {
                    "starting".clone_into(&mut report.state);
                    report.missing_workers = missing.iter().copied().collect();
                }
                Phase::Restoring { missing } => {
                    "restoring".clone_into(&mut report.state);
                    report.missing_workers = missing.iter().copied().collect();
                }
                Phase::Running => "running".clone_into(&mut report.state),
                Phase::Restarting { at } => {
                    "restarting".clone_into(&mut report.state);
                    report.restarts_in_ms = Some(whole_ms(at.saturating_sub(now)));
                }
                Phase::Over(ending) => {
                    report.stopping = false;
                    report.state = ending.name().to_owned();
                    if let Ending::Failed(why) = ending {
                        report.reason = Some(why.clone());
                    }
                }
            }
        });
        report
    }

    /// What happened last, newest first: as [`JobReport::events`], and cheaper.
    pub fn newest_events(&self) -> Vec<EventRecord> {
        self.history.newest(0, MAX_REPORTED_EVENTS).1
    }

    fn manager_report(&self) -> ManagerReport {
        ManagerReport {
            epoch: self.coordinator.epoch().to_string(),
            holder: self.options.coordinator.holder.clone(),
            started_at_unix_ms: self.started_at_unix_ms,
            workers_address: self.address.to_string(),
        }
    }

    fn options_report(&self) -> OptionsReport {
        let (run, coordinator) = (&self.options.run, &self.options.coordinator);
        OptionsReport {
            interval_ms: coordinator.interval.map(whole_ms),
            min_pause_ms: whole_ms(coordinator.min_pause),
            timeout_ms: whole_ms(coordinator.timeout),
            max_concurrent: coordinator.max_concurrent as u64,
            tolerable_failures: coordinator.tolerable_failures,
            heartbeat_interval_ms: whole_ms(run.heartbeat.interval),
            heartbeat_timeout_ms: whole_ms(run.heartbeat.timeout),
            restart: run.restart.to_string(),
            retention: coordinator.retention.to_string(),
        }
    }

    fn operator_reports(&self, workers: u32) -> Vec<OperatorReport> {
        let report = |operator: &super::ManagedOperator| {
            let range = |worker| operator.max_parallelism.range_of_subtask(worker, workers).ok();
            let ranges = (0..workers).filter_map(range).map(|range| (range.first().into(), range.last().into()));
            OperatorReport {
                operator: operator.operator.to_string(),
                max_parallelism: operator.max_parallelism.get(),
                key_groups: ranges.collect(),
            }
        };
        self.options.operators.iter().map(report).collect()
    }

    fn shared_report(&self, view: &JobView) -> SharedReport {
        let stats = self.coordinator.registry().stats();
        let referenced_bytes = total_bytes(self.checkpoint_sizes(view).into_values());
        SharedReport {
            objects: stats.entries.saturating_sub(stats.condemned),
            stored_bytes: stats.stored_bytes,
            condemned: stats.condemned,
            in_flight: stats.in_flight,
            orphans: self.coordinator.orphans(),
            failed_deletes: self.coordinator.failed_deletes(),
            referenced_bytes,
            dedupe_ratio: (stats.stored_bytes > 0).then(|| referenced_bytes as f64 / stats.stored_bytes as f64),
        }
    }

    /// What each checkpoint that counts needs. Counted once, as the lists of files may be long.
    fn checkpoint_sizes(&self, view: &JobView) -> BTreeMap<CheckpointFolder, u64> {
        let mut known = self.sizes.lock();
        known.retain(|folder, _| view.checkpoints.contains_key(folder));
        for (folder, checkpoint) in &view.checkpoints {
            if let Ok(metadata) = &checkpoint.content {
                known
                    .entry(*folder)
                    .or_insert_with(|| total_bytes(metadata.files().map(|file| file.stored_size_bytes)));
            }
        }
        known.clone()
    }
}

fn worker_report(worker: u32, run: &JobRun, session: Option<&Session>, now: std::time::Duration) -> WorkerReport {
    let Some(session) = session else { return WorkerReport { worker, ..WorkerReport::default() } };
    WorkerReport {
        worker,
        name: session.name.clone(),
        registered: true,
        steps: session.heartbeat.steps,
        input_waits: session.heartbeat.has_input,
        silent_ms: run.silence(worker, now).map(whole_ms),
        drained: session.is_drained,
    }
}

/// A record with what has become of its checkpoint since.
fn judged(record: CheckpointRecord, view: &JobView) -> CheckpointRecord {
    if record.status != "complete" {
        return record;
    }
    let is_retained = record.kind == "savepoint"
        || record.folder.parse().is_ok_and(|folder: CheckpointFolder| view.checkpoints.contains_key(&folder));
    let status = if is_retained { "complete" } else { "dropped" };
    CheckpointRecord { is_retained, status: status.to_owned(), ..record }
}

fn restored_from(path: &StorePath) -> RestoredFrom {
    let folder = path.file_name().parse().ok();
    RestoredFrom { checkpoint: folder.map(|folder: CheckpointFolder| folder.checkpoint.0), path: path.to_string() }
}

fn recovery_report(recovery: &Recovery) -> RecoveryReport {
    let (steps, files) = (recovery.steps(), recovery.files);
    RecoveryReport {
        pause_ms: steps.pause.map(whole_ms),
        start_ms: steps.start.map(whole_ms),
        restore_ms: steps.restore.map(whole_ms),
        resume_ms: steps.resume.map(whole_ms),
        total_ms: steps.total.map(whole_ms),
        fetched_files: files.fetched_files,
        fetched_bytes: files.fetched_bytes,
        linked_files: files.linked_files,
        linked_bytes: files.linked_bytes,
    }
}
