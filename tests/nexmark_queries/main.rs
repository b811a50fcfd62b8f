//! NEXMark's queries, really run on several workers, with checkpoints, crashes and other numbers of workers, compared
//! result by result with what a single thread computes from the same events.

#[path = "../../examples/nexmark_queries/local_job.rs"]
mod local_job;
#[path = "../../examples/nexmark_queries/queries/mod.rs"]
#[allow(dead_code, reason = "some of it is for people who read the example's output")]
mod queries;
#[path = "../../examples/nexmark_queries/query_job.rs"]
#[allow(dead_code, reason = "some of it is for the example's progress line")]
mod query_job;
mod reference;
#[path = "../../examples/nexmark_queries/source.rs"]
#[allow(dead_code, reason = "some of it is for the example's progress line")]
mod source;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use icecore::metadata::CheckpointKind;
use nexmark::event::Event;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use local_job::{Backend, Life, LocalJob};
use queries::{Q3, Q4, Q5, Q6, Q7, Q8, Q9, Q11, Q17, Q18, Q19, Q20, Query};
use query_job::QueryJob;

/// 40 seconds of event time.
const END: u64 = 8_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn all_events() -> Vec<Event> {
    source::events(0, 1).take(END as usize).collect()
}

/// Waits until all events up to `limit` were given.
async fn until_given<Q: Query>(job: &LocalJob<QueryJob<Q>>, life: &Life, limit: u64) -> icecore::Result<()> {
    let started = Instant::now();
    job.dataflow().events.limit.store(limit, Ordering::SeqCst);
    while !job.dataflow().events.are_given(limit) {
        life.control.outcome()?;
        assert!(started.elapsed() < PATIENCE, "the events do not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn compare<Q: Query>(job: &LocalJob<QueryJob<Q>>, expected: &[Q::Output], how: &str) {
    let found = job.dataflow().results.all();
    let first = found.iter().zip(expected).find(|(found, expected)| found != expected);
    let (found, expected) = (found.len(), expected.len());
    assert!(first.is_none() && found == expected, "{} {how}: {found} of {expected}, first {first:?}", Q::NAME);
}

fn undisturbed<Q: Query>(backend: Backend, workers: u32, expected: &[Q::Output]) {
    let folder = tempfile::tempdir().unwrap();
    let job = LocalJob::new(folder.path(), backend, QueryJob::<Q>::new(END));
    job.live(workers, async |life| life.finish().await).unwrap();
    compare(&job, expected, &format!("on {workers} workers"));
}

/// Some lives, each on another number of workers: to a checkpoint, further, and to a crash, now and then with another
/// checkpoint in flight.
fn crashing<Q: Query>(backend: Backend, seed: u64, expected: &[Q::Output]) {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let job = LocalJob::new(folder.path(), backend, QueryJob::<Q>::new(END));
    let mut limit = 0;
    for workers in [2, 3, 1, 2] {
        job.live(workers, async |life| {
            limit += dice.random_range(300..900);
            until_given(&job, life, limit).await?;
            life.checkpoint().await?;
            limit += dice.random_range(1..900);
            job.dataflow().events.limit.store(limit, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_micros(dice.random_range(0..20_000))).await;
            if dice.random_bool(0.5) {
                life.control.trigger_checkpoint(CheckpointKind::Incremental)?;
                tokio::time::sleep(Duration::from_micros(dice.random_range(0..20_000))).await;
            }
            Ok(())
        })
        .unwrap();
    }
    assert!(job.dataflow().results.all().len() < expected.len(), "all was over before the last life");
    job.dataflow().events.limit.store(u64::MAX, Ordering::SeqCst);
    job.live(3, async |life| life.finish().await).unwrap();
    compare(&job, expected, &format!("after crashes, seed {seed}"));
}

fn runs_exactly<Q: Query>(reference: impl Fn(&[Event]) -> Vec<Q::Output>) {
    let mut expected = reference(&all_events());
    expected.sort_unstable();
    assert!(!expected.is_empty(), "{} has no results", Q::NAME);
    for workers in [1, 2, 3] {
        undisturbed::<Q>(Backend::Heap, workers, &expected);
    }
    for seed in 0..2 {
        crashing::<Q>(Backend::Heap, seed, &expected);
    }
    #[cfg(feature = "rocksdb")]
    crashing::<Q>(Backend::RocksDb, 2, &expected);
}

#[test]
fn q3_suggests_every_local_item_once() {
    runs_exactly::<Q3>(reference::local_items);
}

#[test]
fn q4_averages_every_category_at_every_closing() {
    runs_exactly::<Q4>(reference::category_averages);
}

#[test]
fn q5_finds_the_hottest_items_of_every_sliding_window() {
    runs_exactly::<Q5>(reference::hot_items);
}

#[test]
fn q6_averages_the_last_auctions_of_every_seller() {
    runs_exactly::<Q6>(reference::seller_averages);
}

#[test]
fn q7_finds_the_highest_bids_of_every_window() {
    runs_exactly::<Q7>(reference::highest_bids);
}

#[test]
fn q8_finds_who_registered_and_sold_in_the_same_window() {
    runs_exactly::<Q8>(reference::new_sellers);
}

#[test]
fn q9_finds_the_winning_bid_of_every_auction() {
    runs_exactly::<Q9>(reference::winning_bids);
}

#[test]
fn q11_counts_the_bids_of_every_session() {
    runs_exactly::<Q11>(reference::sessions);
}

#[test]
fn q17_has_the_statistics_of_every_auction_and_day() {
    runs_exactly::<Q17>(reference::auction_days);
}

#[test]
fn q18_finds_every_last_bid() {
    runs_exactly::<Q18>(reference::last_bids);
}

#[test]
fn q19_ranks_every_top_bid() {
    runs_exactly::<Q19>(reference::top_bids);
}

#[test]
fn q20_joins_every_bid_with_its_auction_once() {
    runs_exactly::<Q20>(reference::expanded_bids);
}
