//! Watermarks and event-time timers in dataflows of the crate timely: on several workers, with several sources, crashes
//! and other numbers of workers.

#[path = "../../examples/nexmark_queries/local_job.rs"]
#[allow(dead_code, reason = "some of it is for the queries")]
mod local_job;
mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use icecore::metadata::CheckpointKind;

use local_job::{Backend, LocalJob};
use support::{Job, LATE_EVERY, Readings, WINDOW_MS, Windowed, ascending, disordered, sometimes_late, until};

/// Readings of each split: 30 seconds of event time.
const END: u64 = 3_000;
const DISORDER_MS: i64 = 500;
/// Long enough for records to get from one worker to the other many times.
const A_WHILE: Duration = Duration::from_millis(100);

/// The folder goes with the job.
fn job(sources: Vec<Readings>) -> (Job, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (LocalJob::new(folder.path(), Backend::Heap, Windowed::new(sources)), folder)
}

fn two_sources() -> Vec<Readings> {
    vec![
        Readings::new("left", 3, END, DISORDER_MS, disordered),
        Readings::new("right", 2, END / 2, DISORDER_MS, disordered),
    ]
}

/// All that was expected came, nothing else, and nobody was told too early.
fn check(job: &Job) {
    let (found, expected) = (job.dataflow().outputs(), job.dataflow().expected());
    let first = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert!(found == expected, "{} of {} windows, first {first:?}", found.len(), expected.len());
    assert_eq!(job.dataflow().seen.told_too_early.load(Ordering::SeqCst), 0);
}

#[test]
fn windows_of_disordered_splits_are_exact_on_any_number_of_workers() {
    for workers in [1, 2, 3, 5] {
        let (job, _folder) = job(two_sources());
        job.live(workers, async |life| life.finish().await).unwrap();
        check(&job);
        assert_eq!(job.dataflow().seen.late.load(Ordering::SeqCst), 0, "a reading in time was dropped");
    }
}

#[test]
fn windows_survive_crashes_and_rescaling() {
    for seed in 0..4 {
        let (job, _folder) = job(two_sources());
        for (life, workers) in [2, 3, 1, 4].into_iter().enumerate() {
            let limit = 500 * life as u64 + 100 * seed;
            job.live(workers, async |life| {
                job.dataflow().limit(limit + 137);
                until(life, || job.dataflow().are_given()).await?;
                life.checkpoint().await?;
                job.dataflow().limit(limit + 400);
                tokio::time::sleep(Duration::from_millis(2 * seed)).await;
                life.control.trigger_checkpoint(CheckpointKind::Incremental)?;
                tokio::time::sleep(Duration::from_millis(seed)).await;
                Ok(())
            })
            .unwrap();
        }
        job.dataflow().limit(u64::MAX);
        job.live(2, async |life| life.finish().await).unwrap();
        check(&job);
        assert_eq!(job.dataflow().seen.late.load(Ordering::SeqCst), 0, "a reading in time was dropped");
    }
}

#[test]
fn a_timer_waits_for_the_slowest_split_of_either_source() {
    for (source, split) in [(0, 1), (1, 0)] {
        let (job, _folder) = job(two_sources());
        let windows = job.dataflow();
        let (readings, seen) = (&windows.sources[source], &windows.seen.last_window_end_ms);
        readings.splits[split].limit.store(705, Ordering::SeqCst);
        let complete_ms = readings.last_complete_end_ms(split as u64, 705);
        job.live(3, async |life| {
            until(life, || windows.are_given()).await?;
            until(life, || seen.load(Ordering::SeqCst) >= complete_ms).await?;
            tokio::time::sleep(A_WHILE).await;
            assert_eq!(seen.load(Ordering::SeqCst), complete_ms);
            windows.limit(u64::MAX);
            life.finish().await
        })
        .unwrap();
        check(&job);
    }
}

#[test]
fn a_worker_without_splits_and_one_with_drained_ones_hold_nobody_back() {
    let (job, _folder) = job(vec![Readings::new("left", 2, END, 0, ascending)]);
    let windows = job.dataflow();
    let [short, long] = &windows.sources[0].splits[..] else { panic!("two splits") };
    short.end.store(100, Ordering::SeqCst);
    long.limit.store(2_001, Ordering::SeqCst);
    job.live(4, async |life| {
        until(life, || windows.seen.last_window_end_ms.load(Ordering::SeqCst) == 20_000).await?;
        long.limit.store(u64::MAX, Ordering::SeqCst);
        life.finish().await
    })
    .unwrap();
    check(&job);
}

/// Each late reading is the first one after a checkpoint and a crash: what is late is known before any sender has said
/// anything in the new life.
#[test]
fn a_reading_that_was_late_is_late_after_a_restore_too() {
    let (job, _folder) = job(vec![Readings::new("left", 1, END, 0, sometimes_late)]);
    for (life, workers) in [1, 3, 2, 1, 4].into_iter().enumerate() {
        let limit = LATE_EVERY * (life as u64 + 1);
        job.dataflow().limit(limit);
        let complete_ms = job.dataflow().sources[0].last_complete_end_ms(0, limit);
        job.live(workers, async |life| {
            // Until then the next late reading is none: another worker may have said nothing yet.
            until(life, || job.dataflow().seen.last_window_end_ms.load(Ordering::SeqCst) >= complete_ms).await?;
            life.checkpoint().await
        })
        .unwrap();
    }
    job.dataflow().limit(u64::MAX);
    job.live(2, async |life| life.finish().await).unwrap();
    check(&job);
    assert_eq!(job.dataflow().seen.late.load(Ordering::SeqCst), (END - 1) / LATE_EVERY);
}

#[test]
fn after_the_end_of_all_splits_a_job_goes_on_when_there_is_more() {
    let (job, _folder) = job(vec![Readings::new("left", 2, 1_000, 0, ascending)]);
    job.live(2, async |life| life.finish().await).unwrap();
    check(&job);
    // Windows begin with whole hundreds of readings, so none of them was put out before it was complete.
    job.dataflow().sources[0].splits.iter().for_each(|split| split.end.store(2_000, Ordering::SeqCst));
    job.live(3, async |life| life.finish().await).unwrap();
    check(&job);
    assert_eq!(job.dataflow().outputs().last().unwrap().window_end_ms, 20 * WINDOW_MS);
}
