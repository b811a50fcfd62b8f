//! Workers as tasks of the manager's process, over the loopback interface.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use icecore::job::wire::Cookie;
use icecore::job::worker::{Assignment, Order, Orders, WorkerHandle, Workload};
use icecore::job::{Ending, HeartbeatOptions, LaunchOrder, Phase, RestartStrategy, RestoredFiles};
use icecore::keygroup::KeyGroup;
use icecore::layout::{ContentHash, FileKind, SubtaskName};
use icecore::metadata::Backend;
use icecore::snapshot::{PlacementRequest, SnapshotStats, SubtaskHandle, Trigger};
use icecore::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::support::*;
use crate::workload::{Counting, GROUPS, offsets, operator};

/// Does what a function says.
struct Does<F>(F);

fn does<F, Fut>(what: F) -> Box<dyn Workload>
where
    F: FnOnce(Assignment, Orders, WorkerHandle) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Box::new(Does(what))
}

#[async_trait]
impl<F, Fut> Workload for Does<F>
where
    F: FnOnce(Assignment, Orders, WorkerHandle) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    async fn run(self: Box<Self>, assignment: Assignment, orders: Orders, handle: WorkerHandle) -> Result<()> {
        handle.note_restored(RestoredFiles::default());
        (self.0)(assignment, orders, handle).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_worker_comes_to_its_end_is_finished_and_its_result_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let counting = Counting { returns: true, ..counting(folder.path(), 500) };
    let tasks = Arc::new(Tasks::counting(&counting));
    let job = Job::start(folder, counting, tasks.clone(), options(1)).await;
    assert_eq!(job.manager.ended().await, Ending::Finished);
    job.is_exact(1).await;
    let results = tasks.results.lock();
    assert!(results.len() == 1 && results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_finished_when_the_last_of_its_workers_is() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1);
    let tasks = Arc::new(Tasks::new(&counting, |order: &LaunchOrder| {
        let time = ms(500) * order.pass.worker;
        does(move |_, _, _| async move {
            tokio::time::sleep(time).await;
            Ok(())
        })
    }));
    let begin = Instant::now();
    let job = Job::start(folder, counting, tasks.clone(), options(3)).await;
    assert_eq!(job.manager.ended().await, Ending::Finished);
    assert!(begin.elapsed() >= ms(1000));
    assert_eq!(job.manager.status().generation, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_connection_breaks_is_noticed_and_all_go_on_from_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 3_000);
    let begun: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let (own, noted) = (counting.clone(), begun.clone());
    let tasks = Arc::new(Tasks::new(&counting, move |_| {
        let (counting, begun) = (own.clone(), noted.clone());
        does(|assignment: Assignment, orders, handle| async move {
            let least = offsets(assignment.sources()).values().min().copied();
            begun.lock().push((assignment.deployment.generation, least.unwrap_or(0)));
            Box::new(counting).run(assignment, orders, handle).await
        })
    }));
    let job = Job::start(folder, counting, tasks.clone(), options(2)).await;
    job.runs(1).await;
    job.is_half_way().await;
    tasks.kill(1, 1);
    job.runs(2).await;
    assert!(job.manager.status().last_failure.unwrap().contains("connection"));
    job.is_done().await;
    job.is_exact(2).await;
    let second: Vec<u64> =
        begun.lock().iter().filter(|(generation, _)| *generation == 2).map(|begun| begun.1).collect();
    assert!(second.len() == 2 && second.iter().all(|least| *least > 300), "they began anew: {second:?}");
    job.end().await;
}

/// A part that a stale worker hands in: nothing of it is new.
fn empty_part(trigger: &Trigger, assignment: &Assignment) -> SubtaskHandle {
    SubtaskHandle {
        checkpoint: trigger.checkpoint,
        epoch: trigger.epoch,
        generation: trigger.generation,
        subtask: SubtaskName { operator: operator(), index: assignment.deployment.worker },
        key_groups: Some(assignment.deployment.operators[0].key_groups),
        backend: Backend::Heap,
        states: Vec::new(),
        base: None,
        added: Vec::new(),
        removed: Vec::new(),
        stats: SnapshotStats::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_an_earlier_generation_can_neither_join_again_nor_acknowledge() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1);
    let held: Arc<Mutex<Vec<(WorkerHandle, Trigger, SubtaskHandle)>>> = Arc::default();
    let kept = held.clone();
    let tasks = Arc::new(Tasks::new(&counting, move |_| {
        let held = kept.clone();
        does(|assignment, mut orders: Orders, handle| async move {
            while let Some(order) = orders.next().await {
                if let Order::Trigger { trigger, .. } = order {
                    let part = empty_part(&trigger, &assignment);
                    held.lock().push((handle.clone(), trigger, part));
                }
            }
            Ok(())
        })
    }));
    let job = Job::start(folder, counting, tasks.clone(), options(1)).await;
    eventually("a trigger", || async { !held.lock().is_empty() }).await;
    job.manager.rescale(1).unwrap();
    job.runs(2).await;
    eventually("a trigger of the new generation", || async { held.lock().len() > 1 }).await;

    let (handle, old, part) = held.lock()[0].clone();
    let (_, new, _) = held.lock()[1].clone();
    assert_ne!(old.generation, new.generation);
    // Its connection is gone; what the manager says to one whose connection stands is tested beside the manager.
    let fenced = |result: Result<()>| {
        let kind = result.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Fenced | ErrorKind::Temporary), "{kind}");
    };
    fenced(handle.acknowledge(part.clone(), Vec::new()).await);
    // Not even for the checkpoint that is awaited, and by what its generation would be.
    let forged = SubtaskHandle { checkpoint: new.checkpoint, generation: new.generation, ..part };
    fenced(handle.acknowledge(forged, Vec::new()).await);
    fenced(handle.decline(new.checkpoint, operator(), "I would rather not").await);
    let trigger = (new.epoch, new.generation, new.checkpoint);
    let hash = ContentHash::of(b"late");
    let request = PlacementRequest { trigger, hash, size_bytes: 4, kind: FileKind::HeapChunk };
    fenced(handle.broker().place(request).await.map(|_| ()));

    let order = tasks.orders.lock()[0].clone();
    assert_eq!(order.pass.generation, 1);
    assert_eq!(tasks.worker(order).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(job.manager.coordinator().completed().is_empty());
    assert_eq!(job.manager.status().generation, 2);
    job.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_the_cookie_and_a_second_one_of_a_number_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1);
    let tasks = Arc::new(Tasks::counting(&counting));
    let job = Job::start(folder, counting, tasks.clone(), options(1)).await;
    job.runs(1).await;
    let right = tasks.orders.lock()[0].clone();
    let mut wrong = right.clone();
    wrong.pass.cookie = Cookie { first: 1, second: 2 };
    for order in [wrong, right] {
        assert_eq!(tasks.worker(order).await.unwrap_err().kind(), ErrorKind::Fenced);
    }
    job.is_done().await;
    assert_eq!(job.manager.status().generation, 1);
    job.end().await;
}

/// A job whose only worker fails with this at once, each time. Returns what the job failed with, and how often it was started.
async fn fails_with(error: fn() -> Error, restart: RestartStrategy) -> (String, u32) {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1);
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let tasks = Arc::new(Tasks::new(&counting, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        does(move |_, _, _| async move { Err(error()) })
    }));
    let mut options = options(1);
    options.run.restart = restart;
    let job = Job::start(folder, counting, tasks, options).await;
    let Ending::Failed(why) = job.manager.ended().await else { panic!("it did not fail") };
    (why, attempts.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_fails_with_its_workload_when_the_strategy_allows_no_restart() {
    let twice = RestartStrategy::FixedDelay { attempts: 2, delay: ms(10) };
    let failed = fails_with(|| Error::new(ErrorKind::Io, "divide", "by zero"), twice).await;
    assert_eq!(failed, ("worker 0: divide: by zero".to_owned(), 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_whose_options_are_wrong_is_not_started_again() {
    let failed = fails_with(|| Error::invalid("divide", "by zero"), options(1).run.restart).await;
    assert_eq!(failed, ("worker 0: divide: by zero".to_owned(), 1));
}

/// Works for `time` on its thread, with a step every so often, and awaits nothing.
fn burns_its_thread(time: Duration, step: Duration) -> Box<dyn Workload> {
    does(move |_, _, handle: WorkerHandle| async move {
        handle.set_has_input(true);
        let begin = Instant::now();
        while begin.elapsed() < time {
            std::thread::sleep(step.min(time));
            handle.step();
        }
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_burns_its_thread_is_heard_as_long_as_it_makes_steps() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1);
    let tasks = Arc::new(Tasks::new(&counting, |_| burns_its_thread(ms(4000), ms(300))));
    let mut options = options(1);
    options.run.heartbeat = HeartbeatOptions { interval: ms(50), timeout: ms(2000) };
    let job = Job::start(folder, counting, tasks, options).await;
    assert_eq!(job.manager.ended().await, Ending::Finished);
    assert_eq!(job.manager.status().generation, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_is_heard_and_makes_no_step_while_input_waits_has_failed() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1);
    let tasks = Arc::new(Tasks::new(&counting, |order: &LaunchOrder| {
        let step = if order.pass.generation == 1 { ms(4000) } else { ms(10) };
        burns_its_thread(step, step)
    }));
    let mut options = options(1);
    options.run.heartbeat = HeartbeatOptions { interval: ms(50), timeout: ms(1500) };
    let job = Job::start(folder, counting, tasks, options).await;
    assert_eq!(job.manager.ended().await, Ending::Finished);
    let status = job.manager.status();
    assert_eq!(status.generation, 2);
    assert!(status.last_failure.unwrap().contains("while input waited"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_leaves_when_the_manager_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1);
    let tasks = Tasks::counting(&counting);
    // It takes connections and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("{} 1 0 {} 50 500", deaf.local_addr().unwrap(), Cookie { first: 1, second: 2 });
    let error = tasks.worker(text.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_checkpoint_is_given_up_and_too_many_of_them_restart_the_workers() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 5);
    let own = counting.clone();
    let tasks = Arc::new(Tasks::new(&counting, move |order: &LaunchOrder| {
        if order.pass.generation > 1 {
            return Box::new(own.clone());
        }
        does(|_, mut orders: Orders, handle: WorkerHandle| async move {
            while let Some(order) = orders.next().await {
                if let Order::Trigger { trigger, .. } = order {
                    handle.decline(trigger.checkpoint, operator(), "not today").await?;
                }
            }
            Ok(())
        })
    }));
    let mut options = options(1);
    options.coordinator.tolerable_failures = 1;
    let job = Job::start(folder, counting, tasks, options).await;
    job.is_done().await;
    let status = job.manager.status();
    assert_eq!(status.generation, 2, "{status:?}");
    assert!(status.last_failure.unwrap().contains("more checkpoints in a row failed"));
    job.is_exact(1).await;
    job.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_group_has_one_owner_in_every_generation_of_a_job_that_is_rescaled() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 3_000);
    let owners: Arc<Mutex<Vec<(u64, KeyGroup)>>> = Arc::default();
    let (own, noted) = (counting.clone(), owners.clone());
    let tasks = Arc::new(Tasks::new(&counting, move |_| {
        let (counting, owners) = (own.clone(), noted.clone());
        does(|assignment: Assignment, orders, handle| async move {
            let deployment = &assignment.deployment;
            let groups = deployment.operators[0].key_groups.iter();
            owners.lock().extend(groups.map(|group| (deployment.generation, group)));
            Box::new(counting).run(assignment, orders, handle).await
        })
    }));
    let job = Job::start(folder, counting, tasks.clone(), options(1)).await;
    for (generation, next) in [(1, 2), (2, 1), (3, 3), (4, 0)] {
        job.runs(generation).await;
        let all = || owners.lock().iter().filter(|(of, _)| *of == generation).map(|owner| owner.1).collect::<Vec<_>>();
        eventually("all key groups are owned", || async { all().len() >= GROUPS as usize }).await;
        assert_eq!(all().len(), GROUPS as usize);
        assert_eq!(all().into_iter().collect::<BTreeSet<_>>().len(), GROUPS as usize);
        if next > 0 {
            job.manager.rescale(next).unwrap();
        }
    }
    job.is_done().await;
    job.is_exact(3).await;
    assert_eq!(job.manager.rescale(GROUPS + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    job.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_is_fenced_ends_its_workers_and_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 1_000_000);
    let mut tasks = Tasks::counting(&counting);
    tasks.is_forceful = false;
    let tasks = Arc::new(tasks);
    let job = Job::start(folder, counting, tasks.clone(), options(1)).await;
    job.has_begun().await;
    let other = job.another_coordinator().await;
    let Ending::Failed(why) = job.manager.ended().await else { panic!("it did not fail") };
    assert!(why.contains("claim"), "{why}");
    assert!(matches!(job.manager.status().phase, Phase::Over(_)));
    eventually("the worker leaves", || async { !tasks.results.lock().is_empty() }).await;
    drop(other);
}
