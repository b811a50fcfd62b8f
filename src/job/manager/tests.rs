//! Stale workers that ignore every order to leave: each has a connection that stands.

mod starts;
mod triggers;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::*;
use crate::coordinator::CoordinatorOptions;
use crate::job::launch::LaunchOrder;
use crate::job::liveness::HeartbeatOptions;
use crate::job::restart::RestartStrategy;
use crate::job::run::{Phase, RestoredFiles, RunOptions};
use crate::job::wire::Tell;
use crate::job::wire::answers::{Acknowledgement, Decline};
use crate::job::wire::rpc::{Client, calls};
use crate::job::wire::upload::{EndUpload, Place, Placed};
use crate::job::wire::{Damage, Pass, Say};
use crate::keygroup::MaxParallelism;
use crate::layout::{ContentHash, FileKind, JobLayout, OperatorId, SubtaskName};
use crate::metadata::Backend;
use crate::snapshot::{PlacementRequest, SnapshotStats, SubtaskHandle, Trigger};
use crate::store::LocalStore;

const PATIENCE: Duration = Duration::from_secs(60);

/// Notes who was to be started, and starts nobody.
#[derive(Debug, Default)]
struct Orders(Mutex<Vec<LaunchOrder>>);

#[async_trait]
impl Launcher for Orders {
    async fn start(&self, order: &LaunchOrder) -> Result<()> {
        self.0.lock().push(order.clone());
        Ok(())
    }

    async fn end(&self, _generation: u64) {}
}

impl Orders {
    async fn number(&self, at: usize) -> LaunchOrder {
        for _ in 0..PATIENCE.as_millis() / 10 {
            if let Some(order) = self.0.lock().get(at) {
                return order.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("worker {at} was never started");
    }
}

/// A worker that does only what a test says.
struct Puppet {
    job: JobId,
    pass: Pass,
    client: Client,
    said: mpsc::Sender<Bytes>,
    told: Streaming<Bytes>,
}

impl Puppet {
    async fn register(order: &LaunchOrder) -> Result<Self> {
        let client = Client::connect(&order.manager).await?;
        let (said, words) = mpsc::channel(4);
        let (name, data_address) = ("puppet".to_owned(), String::new());
        said.try_send(Say::Register { pass: order.pass, name, data_address }.encode()).unwrap();
        let words = futures::stream::unfold(words, |mut words| async { words.recv().await.map(|next| (next, words)) });
        let told = client.work(words).await?;
        Ok(Self { job: job(), pass: order.pass, client, said, told })
    }

    async fn hears(&mut self) -> Option<Tell> {
        loop {
            let word = tokio::time::timeout(PATIENCE, self.told.message()).await.unwrap();
            match word.unwrap().map(|bytes| Tell::decode(&bytes).unwrap()) {
                Some(Tell::Epochs(_)) => {}
                Some(Tell::Deploy(deployment)) => {
                    self.said.try_send(Say::Restored(RestoredFiles::default()).encode()).unwrap();
                    return Some(Tell::Deploy(deployment));
                }
                other => return other,
            }
        }
    }

    async fn is_deployed(&mut self) {
        let Some(Tell::Deploy(_)) = self.hears().await else { panic!("it was not deployed") };
    }

    async fn hears_a_trigger(&mut self) -> Trigger {
        loop {
            if let Some(Tell::Trigger { trigger, .. }) = self.hears().await {
                return trigger;
            }
        }
    }

    async fn acknowledges(&self, trigger: &Trigger) -> Result<Bytes> {
        self.acknowledges_for(self.pass.worker, trigger).await
    }

    /// An acknowledgement with nothing in it.
    async fn acknowledges_for(&self, index: u32, trigger: &Trigger) -> Result<Bytes> {
        let handle = SubtaskHandle {
            checkpoint: trigger.checkpoint,
            epoch: trigger.epoch,
            generation: trigger.generation,
            subtask: SubtaskName { operator: counts().operator, index },
            key_groups: Some(counts().max_parallelism.all_groups()),
            backend: Backend::Heap,
            states: Vec::new(),
            base: None,
            added: Vec::new(),
            removed: Vec::new(),
            stats: SnapshotStats::default(),
        };
        let acknowledgement = Acknowledgement { pass: self.pass, handle, sources: Vec::new() };
        self.client.ask(&self.pass, calls::ACKNOWLEDGE, acknowledgement.encode(&self.job).unwrap()).await
    }

    async fn places(&self, trigger: &Trigger) -> Result<Placed> {
        let request = PlacementRequest {
            trigger: (trigger.epoch, trigger.generation, trigger.checkpoint),
            hash: ContentHash::of(b"one"),
            size_bytes: 3,
            kind: FileKind::HeapChunk,
        };
        let answer = self.client.ask(&self.pass, calls::PLACE, Place { pass: self.pass, request }.encode()).await?;
        Placed::decode(&JobLayout::new(job())?, &request, &answer)
    }

    async fn ends_upload(&self, ticket: u64, is_durable: bool) -> Result<Bytes> {
        self.client.ask(&self.pass, calls::END_UPLOAD, EndUpload { pass: self.pass, ticket, is_durable }.encode()).await
    }
}

fn job() -> JobId {
    JobId::new("count").unwrap()
}

fn counts() -> ManagedOperator {
    ManagedOperator { operator: OperatorId::new("counts").unwrap(), max_parallelism: MaxParallelism::new(8).unwrap() }
}

/// Triggers nothing by itself.
fn options(workers: u32) -> ManagerOptions {
    let never = Duration::from_secs(600);
    ManagerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        workers,
        operators: vec![counts()],
        run: RunOptions {
            heartbeat: HeartbeatOptions { interval: Duration::from_secs(1), timeout: never },
            restart: RestartStrategy::FixedDelay { attempts: 10, delay: Duration::from_millis(10) },
            startup_timeout: never,
        },
        coordinator: CoordinatorOptions::default(),
        start_from: StartFrom::Newest,
        on_damage: OnDamage::Fail,
        allow_non_restored_state: false,
    }
}

async fn manager_of(folder: &Path, job: &JobId, options: ManagerOptions) -> Result<(Arc<Orders>, Arc<Manager>)> {
    let env = Env::system().unwrap();
    let store = Arc::new(LocalStore::open(folder, env.clone()).unwrap());
    let orders = Arc::new(Orders::default());
    let manager = Manager::start(store, job.clone(), orders.clone(), env, options, Vec::new()).await?;
    Ok((orders, manager))
}

async fn manager(workers: u32) -> (tempfile::TempDir, Arc<Orders>, Arc<Manager>) {
    let folder = tempfile::tempdir().unwrap();
    let (orders, manager) = manager_of(folder.path(), &job(), options(workers)).await.unwrap();
    (folder, orders, manager)
}

#[track_caller]
fn assert_fenced<T: std::fmt::Debug>(result: Result<T>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_stale_worker_with_a_standing_connection_changes_nothing() {
    let (_folder, orders, manager) = manager(1).await;
    let mut stale = only_worker(&orders, &manager, &job()).await;
    manager.trigger(CheckpointKind::Incremental).await.unwrap();
    let old = stale.hears_a_trigger().await;
    manager.rescale(1).unwrap();
    let mut fresh = Puppet::register(&orders.number(1).await).await.unwrap();
    fresh.is_deployed().await;
    manager_runs(&manager).await;
    manager.trigger(CheckpointKind::Incremental).await.unwrap();
    let new = fresh.hears_a_trigger().await;

    assert_fenced(stale.acknowledges(&old).await);
    // Not even for the checkpoint that is awaited, in the name of the generation that takes it.
    assert_fenced(stale.acknowledges(&new).await);
    assert_fenced(stale.places(&new).await);
    assert_fenced(stale.ends_upload(1, true).await);
    let decline = Decline {
        pass: stale.pass,
        checkpoint: new.checkpoint,
        operator: counts().operator,
        reason: "I would rather not".to_owned(),
    };
    assert_fenced(stale.client.ask(&stale.pass, calls::DECLINE, decline.encode()).await);
    assert_fenced(Puppet::register(&orders.number(0).await).await.map(|_| ()));
    // Its stream is not heard any more, whatever it says there.
    let _ = stale.said.try_send(Say::Failed { why: "of old age".to_owned(), damage: None, is_final: true }.encode());
    let leave = Tell::Leave { why: "rescaled from 1 to 1 workers".to_owned(), is_end: false };
    assert_eq!(stale.hears().await, Some(leave));
    assert_eq!(stale.hears().await, None);

    fresh.acknowledges(&new).await.unwrap();
    assert_eq!(fresh.hears().await, Some(Tell::Complete(new.checkpoint_folder())));
    assert_eq!(manager.status().generation, 2);
    assert_eq!(manager.coordinator().completed().len(), 1);
}

#[tokio::test]
async fn a_sound_checkpoint_that_a_worker_misses_is_restored_again_and_one_that_it_finds_changed_is_not() {
    let (_folder, orders, manager) = manager(1).await;
    let mut first = only_worker(&orders, &manager, &job()).await;
    let trigger = completes_one(&manager, &mut first).await;
    for (number, damage) in [(1, Damage::Missing), (2, Damage::Wrong)] {
        if number == 1 {
            manager.rescale(1).unwrap();
        }
        let mut worker = Puppet::register(&orders.number(number).await).await.unwrap();
        let Some(Tell::Deploy(deployment)) = worker.hears().await else { panic!("it was not deployed") };
        assert_eq!(deployment.restore, Some(trigger.folder.clone()));
        let failed = Say::Failed { why: "it is not as it was".to_owned(), damage: Some(damage), is_final: false };
        worker.said.send(failed.encode()).await.unwrap();
        while worker.hears().await.is_some() {}
    }
    let ending = manager.ended().await;
    assert!(matches!(&ending, Ending::Failed(why) if why.contains("it is damaged")), "{ending}");
}

#[tokio::test]
async fn the_duty_to_upload_passes_on_when_it_is_given_back() {
    let (_folder, orders, manager) = manager(2).await;
    let mut workers = Vec::new();
    for number in 0..2 {
        workers.push(Puppet::register(&orders.number(number).await).await.unwrap());
    }
    let (mut second, mut first) = (workers.pop().unwrap(), workers.pop().unwrap());
    first.is_deployed().await;
    // Not before the last one has restored.
    assert_eq!(manager.trigger(CheckpointKind::Incremental).await.unwrap_err().kind(), ErrorKind::Temporary);
    second.is_deployed().await;
    manager_runs(&manager).await;
    manager.trigger(CheckpointKind::Incremental).await.unwrap();
    let trigger = first.hears_a_trigger().await;
    assert_eq!(second.hears_a_trigger().await, trigger);

    let given = first.places(&trigger).await.unwrap();
    first.ends_upload(given.ticket.unwrap(), false).await.unwrap();
    let again = second.places(&trigger).await.unwrap();
    assert_ne!(again.object, given.object, "a name is never used twice");
    // The other one waits for the one who uploads, and is told where it lies when that has come to its end.
    let (waits, ended) = tokio::join!(first.places(&trigger), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        second.ends_upload(again.ticket.unwrap(), true).await
    });
    ended.unwrap();
    assert_eq!(waits.unwrap(), Placed { object: again.object, ticket: None });
}

#[tokio::test]
async fn a_worker_acknowledges_its_own_part_only() {
    let (_folder, orders, manager) = manager(2).await;
    let mut first = Puppet::register(&orders.number(0).await).await.unwrap();
    let mut second = Puppet::register(&orders.number(1).await).await.unwrap();
    first.is_deployed().await;
    second.is_deployed().await;
    manager_runs(&manager).await;
    manager.trigger(CheckpointKind::Incremental).await.unwrap();
    let trigger = first.hears_a_trigger().await;
    let error = first.acknowledges_for(1, &trigger).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(manager.coordinator().completed().is_empty());
    drop(second);
}

#[tokio::test]
async fn a_deployment_gives_every_key_group_to_one_worker_and_all_the_same_peers() {
    let (_folder, orders, _manager) = manager(3).await;
    let mut workers = Vec::new();
    for number in 0..3 {
        workers.push(Puppet::register(&orders.number(number).await).await.unwrap());
    }
    let mut groups = BTreeSet::new();
    for (number, worker) in workers.iter_mut().enumerate() {
        let Some(Tell::Deploy(deployment)) = worker.hears().await else { panic!("it was not deployed") };
        assert_eq!((deployment.worker as usize, deployment.workers(), deployment.restore), (number, 3, None));
        for group in deployment.operators[0].key_groups.iter() {
            assert!(groups.insert(group), "key group {group} has two owners");
        }
    }
    assert_eq!(groups.len(), 8);
}

/// The only worker of the manager's first generation, deployed and running.
async fn only_worker(orders: &Orders, manager: &Manager, job: &JobId) -> Puppet {
    let mut worker = Puppet::register(&orders.number(0).await).await.unwrap();
    worker.job = job.clone();
    worker.is_deployed().await;
    manager_runs(manager).await;
    worker
}

/// Has a checkpoint taken that the worker alone completes.
async fn completes_one(manager: &Manager, worker: &mut Puppet) -> Trigger {
    manager.trigger(CheckpointKind::Incremental).await.unwrap();
    let trigger = worker.hears_a_trigger().await;
    worker.acknowledges(&trigger).await.unwrap();
    trigger
}

async fn manager_runs(manager: &Manager) {
    for _ in 0..PATIENCE.as_millis() / 10 {
        if manager.status().phase == Phase::Running {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", manager.status());
}
