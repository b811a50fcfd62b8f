//! Faults at random moments.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::job_process::{signal, wish};
use crate::processes::start_manager;
use crate::services::kafka::KafkaBroker;
use crate::stage::{Kind, QUESTIONS, Stage};

/// Faults of each of the four jobs, so 32 in all; with `ICECORE_LONG` 252 of each, more than 1,000.
const FAULTS: u32 = 8;
const FAULTS_LONG: u32 = 252;
/// Events between two faults.
const EVENTS: u64 = 1_500;
const SIZES: [u32; 4] = [3, 1, 4, 2];

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillWorker,
    StopWorker,
    KillManager,
    StopManager,
    KillBroker,
    Rescale(u32),
}

/// All kinds come in each job, in an order of its own.
fn plan(dice: &mut ChaCha8Rng, count: u32) -> Vec<Fault> {
    use Fault::{KillBroker, KillManager, KillWorker, Rescale, StopManager, StopWorker};
    let fixed = [KillWorker, StopWorker, KillManager, KillBroker, Rescale(3), Rescale(1), Rescale(4)];
    let more = [KillWorker, KillWorker, StopWorker, KillManager, StopManager, KillBroker];
    let mut plan: Vec<Fault> = fixed.into_iter().take(count as usize).collect();
    while plan.len() < count as usize {
        match dice.random_range(0..4) {
            0 => plan.push(Rescale(*SIZES.choose(dice).unwrap())),
            _ => plan.push(*more.choose(dice).unwrap()),
        }
    }
    for at in (1..plan.len()).rev() {
        plan.swap(at, dice.random_range(0..=at));
    }
    plan
}

impl Stage<'_> {
    async fn suffers(&mut self, fault: Fault, dice: &mut ChaCha8Rng) {
        match fault {
            Fault::KillWorker | Fault::StopWorker => {
                let name = if matches!(fault, Fault::KillWorker) { "KILL" } else { "STOP" };
                if let Some(worker) = self.manager.workers().choose(dice) {
                    signal(*worker, name);
                }
            }
            Fault::KillManager => {
                self.manager.kill();
                self.manager = start_manager(&self.settings);
            }
            Fault::StopManager => {
                // Its successor takes the job over; then it goes on, and has to find out that it is out.
                self.manager.signal("STOP");
                let stopped = std::mem::replace(&mut self.manager, start_manager(&self.settings));
                self.moves_on().await;
                stopped.signal("CONT");
                tokio::time::sleep(Duration::from_millis(dice.random_range(0..1_000))).await;
            }
            Fault::KillBroker => {
                self.broker.kill9();
                tokio::time::sleep(Duration::from_millis(dice.random_range(0..500))).await;
                self.broker.restart();
            }
            Fault::Rescale(workers) => wish(&self.settings.root, "workers", &workers.to_string()),
        }
    }
}

async fn faulty(broker: &KafkaBroker, seed: u64, kind: Kind) {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let question = QUESTIONS[seed as usize % QUESTIONS.len()];
    let Some(mut stage) = Stage::set(broker, question, kind, 2) else { return };
    let count = if std::env::var_os("ICECORE_LONG").is_some() { FAULTS_LONG } else { FAULTS };
    stage.give(EVENTS);
    stage.moves_on().await;
    for fault in plan(&mut dice, count) {
        stage.give(EVENTS);
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..700))).await;
        eprintln!("{question} {kind:?}: {fault:?}");
        stage.suffers(fault, &mut dice).await;
        // Now and then the next fault comes before all have recovered from this one.
        if dice.random_bool(0.7) {
            stage.moves_on().await;
        }
    }
    stage.ends_exactly().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_no_result_is_lost_and_none_is_doubled() {
    let Some(broker) = KafkaBroker::start() else { return };
    let kinds = [(false, false), (true, true), (true, false), (false, true)];
    for (seed, (is_rocksdb, is_s3)) in (0..).zip(kinds) {
        faulty(&broker, seed, Kind { is_rocksdb, is_s3 }).await;
    }
}
