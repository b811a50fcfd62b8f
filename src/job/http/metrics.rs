//! The job in Prometheus' text format, under Flink's names where Flink has one
//! (`org.apache.flink.runtime.checkpoint.CheckpointStatsTracker`, `NumberOfFullRestartsGauge`).

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::job::manager::Manager;
use crate::job::report::JobReport;

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PREFIX: &str = "icecore_jobmanager_job";

pub(super) async fn metrics(State(manager): State<Arc<Manager>>) -> Response {
    match text(&manager.report()) {
        Ok(text) => ([(CONTENT_TYPE, TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn text(report: &JobReport) -> Result<String, std::fmt::Error> {
    let mut registry =
        Registry::with_prefix_and_labels(PREFIX, [("job_name".into(), report.job.clone().into())].into_iter());
    let mut whole = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    checkpoints(report, &mut whole);
    workers(report, &mut whole);
    let shared = &report.shared;
    whole(
        "sharedFiles",
        "Shared files that the registry knows, without those whose deletion is under way",
        shared.objects,
    );
    whole("sharedBytes", "Bytes of the shared files", shared.stored_bytes);
    whole(
        "referencedBytes",
        "Bytes of all complete checkpoints, each shared file counted for each",
        shared.referenced_bytes,
    );
    whole("condemnedFiles", "Shared files whose deletion is under way", shared.condemned);
    whole(
        "orphanedFiles",
        "Shared files that nothing references and whose deletion is not planned yet",
        shared.orphans,
    );
    whole(
        "failedDeletes",
        "Deletes that the store has not confirmed, since the manager started",
        shared.failed_deletes,
    );
    whole("uploadsInFlight", "Shared files that are being sent", shared.in_flight);
    let ratio: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
    ratio.set(shared.dedupe_ratio.unwrap_or(1.0));
    registry.register("dedupeRatio", "Referenced bytes by stored bytes", ratio);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    // Ends with a line, whatever the encoder does.
    if !text.ends_with('\n') {
        writeln!(text)?;
    }
    Ok(text)
}

fn checkpoints(report: &JobReport, whole: &mut impl FnMut(&str, &str, u64)) {
    whole(
        "numberOfCompletedCheckpoints",
        "Checkpoints that became complete since the manager started",
        report.completed,
    );
    whole("numberOfFailedCheckpoints", "Checkpoints that were aborted since the manager started", report.aborted);
    whole(
        "totalNumberOfCheckpoints",
        "Checkpoints that have ended since the manager started",
        report.completed + report.aborted,
    );
    whole("numberOfInProgressCheckpoints", "Checkpoints in flight", report.in_flight.len() as u64);
    let mut ended = report.checkpoints.iter();
    if let Some(last) =
        ended.find(|record| matches!(record.status.as_str(), "complete" | "dropped") && record.kind != "savepoint")
    {
        let sent = last.uploaded_bytes.unwrap_or(0);
        whole("lastCompletedCheckpointId", "The newest complete checkpoint", last.checkpoint);
        whole("lastCheckpointDuration", "Milliseconds that it took", last.duration_ms.unwrap_or(0));
        whole("lastCheckpointSize", "Bytes that were sent for it", sent);
        whole("lastCheckpointFullSize", "Bytes of its state", sent.saturating_add(last.shared_bytes.unwrap_or(0)));
        whole(
            "lastCheckpointSyncDuration",
            "Milliseconds that a subtask was held up, at most",
            last.sync_ms.unwrap_or(0),
        );
    }
    if let Some(restored) = report.restored_from.as_ref().and_then(|restored| restored.checkpoint) {
        whole("lastRestoredCheckpointId", "The checkpoint that the workers began with", restored);
    }
}

fn workers(report: &JobReport, whole: &mut impl FnMut(&str, &str, u64)) {
    let uptime = report.now_unix_ms.saturating_sub(report.manager.started_at_unix_ms);
    whole("uptime", "Milliseconds since the manager started", uptime);
    whole("running", "Whether all workers run", u64::from(report.state == "running"));
    whole("numRestarts", "Generations of workers after the first", report.restarts);
    if let Some(total_ms) = report.recovery.total_ms {
        whole("lastRecoveryDuration", "Milliseconds from the end of the workers before to a record of these", total_ms);
    }
    if let Some(restore_ms) = report.recovery.restore_ms {
        whole("lastRestoreDuration", "Milliseconds that the workers took to restore", restore_ms);
        whole("lastRestoreFetchedBytes", "Bytes that they fetched for it", report.recovery.fetched_bytes);
        whole("lastRestoreLinkedBytes", "Bytes that they had on their machines", report.recovery.linked_bytes);
    }
    whole("numFailures", "Failures since the manager started", report.failures);
    whole("parallelism", "Workers of the job", report.parallelism.into());
    let registered = report.workers.iter().filter(|worker| worker.registered).count();
    whole("registeredWorkers", "Workers that have registered", registered as u64);
}
