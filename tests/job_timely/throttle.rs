//! Timely has no flow control: the epochs are it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use icecore::job::dataflow::{MAX_EPOCHS_IN_FLIGHT, MAX_RECORDS_PER_EPOCH};

use crate::support::{A_WHILE, Job, Kind, until};

const MORE_THAN_MAY_BE: u64 = 1_000_000;

#[test]
fn a_source_waits_for_an_operator_that_stands_still() {
    let mut job = Job::new(Kind::Heap, MORE_THAN_MAY_BE);
    let stands_still = Arc::new(AtomicBool::new(true));
    let (held, holder) = (stands_still.clone(), Arc::new(parking_lot::Mutex::new(None)));
    // The worker that gets the first number stands still at it. The other one's source has split 0 or 1.
    job.hook = Arc::new(move |_| {
        let me = thread::current().id();
        let is_holder = *holder.lock().get_or_insert(me) == me;
        while is_holder && held.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    job.live(2, async |life| {
        let mut before = u64::MAX;
        while life.given() != before {
            before = life.given();
            tokio::time::sleep(A_WHILE).await;
        }
        let bound = 2 * MAX_EPOCHS_IN_FLIGHT * MAX_RECORDS_PER_EPOCH as u64;
        assert!((MAX_RECORDS_PER_EPOCH as u64 + 1..=bound).contains(&before), "{before} are in flight");
        stands_still.store(false, Ordering::SeqCst);
        until(|| life.given() > 2 * bound).await;
    });
}

#[test]
fn a_source_without_records_is_asked_now_and_then_and_its_worker_sleeps_meanwhile() {
    let job = Job::new(Kind::Heap, MORE_THAN_MAY_BE);
    job.limit.store(0, Ordering::SeqCst);
    job.live(2, async |_| {
        let before = job.polls.load(Ordering::SeqCst);
        tokio::time::sleep(10 * A_WHILE).await;
        let polls = job.polls.load(Ordering::SeqCst) - before;
        // Each 10 ms by each of two workers; a worker that never sleeps asks a thousand times as often.
        assert!((1..10_000).contains(&polls), "asked {polls} times");
    });
}
