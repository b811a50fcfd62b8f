use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

#[derive(Debug)]
struct Zero;

impl Randomness for Zero {
    fn next_u64(&self) -> u64 {
        1 << 63
    }
}

const ALIVE: Heartbeat = Heartbeat { steps: 1, has_input: false };

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn options(restart: RestartStrategy) -> RunOptions {
    RunOptions {
        heartbeat: HeartbeatOptions { interval: ms(200), timeout: ms(2000) },
        restart,
        startup_timeout: ms(10_000),
    }
}

fn twice() -> RestartStrategy {
    RestartStrategy::FixedDelay { attempts: 2, delay: ms(1000) }
}

const FILES: RestoredFiles = RestoredFiles { fetched_files: 3, fetched_bytes: 300, linked_files: 1, linked_bytes: 50 };

/// Two workers that have reported.
fn registered() -> JobRun {
    let (mut run, actions) = JobRun::start(options(twice()), 2, ms(0)).unwrap();
    assert_eq!(actions, [Action::StartWorkers { generation: 1, workers: 2 }]);
    assert!(run.registered(0, 1, ms(0)) && run.registered(1, 1, ms(0)));
    run
}

/// Two workers that have restored their state.
fn running() -> JobRun {
    let mut run = registered();
    assert!(run.restored(0, 1, FILES, ms(0)) && run.restored(1, 1, FILES, ms(0)));
    assert_eq!(run.phase(), &Phase::Running);
    run
}

fn ended(actions: &[Action]) -> Vec<u64> {
    let generation = |action: &Action| match action {
        Action::EndWorkers { generation, .. } => Some(*generation),
        _ => None,
    };
    actions.iter().filter_map(generation).collect()
}

#[test]
fn one_worker_that_dies_ends_all_and_the_next_generation_starts_after_the_pause() {
    let mut run = running();
    let actions = run.failed(1, 1, "killed by signal 9", ms(500), &Zero);
    assert_eq!(ended(&actions), [1]);
    assert_eq!(run.phase(), &Phase::Restarting { at: ms(1500) });
    assert_eq!(run.tick(ms(1499), &Zero), []);
    assert_eq!(run.tick(ms(1500), &Zero), [Action::StartWorkers { generation: 2, workers: 2 }]);
    assert!(run.last_failure().unwrap().contains("signal 9"));
    // The other one's death is part of the same failure.
    assert_eq!(run.failed(0, 1, "killed by signal 9", ms(1600), &Zero), []);
}

#[test]
fn a_worker_that_hangs_is_noticed_by_the_timeout_and_only_that() {
    let mut run = running();
    for now in (200..=3000).step_by(200) {
        assert!(run.heard(0, 1, ALIVE, ms(now)));
        let actions = run.tick(ms(now), &Zero);
        if now < 2000 {
            assert_eq!(actions, []);
        } else {
            assert_eq!(ended(&actions), [1]);
            assert!(run.last_failure().unwrap().starts_with("worker 1: no heartbeat"), "{run:?}");
            return;
        }
    }
    panic!("it was never noticed");
}

#[test]
fn a_stale_worker_neither_joins_nor_is_heard_nor_fails_the_run() {
    let mut run = running();
    run.failed(1, 1, "died", ms(0), &Zero);
    run.tick(ms(1000), &Zero);
    assert!(!run.registered(0, 1, ms(1000)), "it is of generation 1");
    assert!(!run.heard(0, 1, ALIVE, ms(1000)));
    assert_eq!(run.finished(0, 1, ms(1000)), []);
    assert!(run.registered(0, 2, ms(1000)));
    assert!(!run.registered(0, 2, ms(1000)), "there is one already");
    assert!(!run.registered(2, 2, ms(1000)), "there is no third");
    assert!(run.registered(1, 2, ms(1000)));
    assert_eq!(run.failed(1, 1, "died", ms(1100), &Zero), []);
    let missing = Phase::Restoring { missing: [0, 1].into() };
    assert_eq!(run.phase(), &missing);
    assert!(!run.restored(0, 1, FILES, ms(1100)) && !run.resumed(0, 1, ms(1100)));
    assert_eq!((run.phase(), run.recovery().files), (&missing, RestoredFiles::default()));
}

#[test]
fn it_runs_when_all_have_restored_and_one_that_fails_before_that_is_a_failure() {
    let mut run = registered();
    assert!(run.restored(1, 1, FILES, ms(300)));
    assert!(!run.restored(1, 1, FILES, ms(300)), "it has said so");
    assert_eq!(run.phase(), &Phase::Restoring { missing: [0].into() });
    assert_eq!(run.tick(ms(1900), &Zero), [], "however long it takes, while it is heard");
    assert_eq!(ended(&run.failed(0, 1, "damaged", ms(1950), &Zero)), [1]);
}

#[test]
fn a_recovery_says_how_long_each_step_took_and_what_was_fetched() {
    let mut run = running();
    assert!(run.resumed(1, 1, ms(100)) && !run.resumed(0, 1, ms(200)), "the first record counts");
    assert_eq!(run.recovery().steps().total, Some(ms(100)), "since the start, as nothing was ended");
    run.failed(0, 1, "died", ms(5000), &Zero);
    assert_eq!(run.recovery().resumed, Some(ms(100)), "the one that ended is told of until the next begins");
    run.tick(ms(6010), &Zero);
    assert_eq!(run.recovery().steps(), RecoverySteps { pause: Some(ms(1010)), ..RecoverySteps::default() });
    assert!(run.registered(0, 2, ms(6100)) && run.registered(1, 2, ms(6200)));
    assert!(run.restored(1, 2, FILES, ms(6300)) && run.resumed(1, 2, ms(6350)));
    assert_eq!(run.recovery().resumed, None, "others restore still");
    assert!(run.restored(0, 2, FILES, ms(6900)));
    let steps = RecoverySteps {
        pause: Some(ms(1010)),
        start: Some(ms(190)),
        restore: Some(ms(700)),
        resume: Some(ms(0)),
        total: Some(ms(1900)),
    };
    assert_eq!(run.recovery().steps(), steps);
    assert_eq!(run.recovery().files.to_string(), "6 files fetched (0.0 MiB), 2 linked (0.0 MiB)");
}

#[test]
fn a_worker_that_never_starts_is_a_failure() {
    let (mut run, _) = JobRun::start(options(twice()), 2, ms(0)).unwrap();
    assert!(run.registered(1, 1, ms(0)));
    for now in (200..10_000).step_by(200) {
        assert!(run.heard(1, 1, ALIVE, ms(now)));
        assert_eq!(run.tick(ms(now), &Zero), []);
    }
    assert_eq!(ended(&run.tick(ms(10_000), &Zero)), [1]);
    assert!(run.last_failure().unwrap().contains("worker 0 did not start"), "{run:?}");
}

#[test]
fn the_job_fails_when_the_strategy_allows_no_restart() {
    let mut run = running();
    for generation in 1..=3 {
        let now = ms(10_000 * generation);
        let actions = run.failed(0, generation, "died", now, &Zero);
        assert_eq!(ended(&actions), [generation]);
        if generation == 3 {
            assert_eq!(actions.last(), Some(&Action::Over(Ending::Failed("worker 0: died".to_owned()))));
        } else {
            run.tick(now + ms(1000), &Zero);
        }
    }
    assert_eq!(run.tick(ms(1_000_000), &Zero), []);
    assert!(run.rescale(3, ms(0)).is_err());
    assert_eq!(run.cancel(), []);
}

#[test]
fn a_failure_that_would_come_again_is_the_end_whatever_the_strategy_says() {
    let mut run = running();
    assert_eq!(run.failed_for_good(0, 0, "of another generation", ms(0), &Zero), []);
    let actions = run.failed_for_good(1, 1, "there is no such option", ms(0), &Zero);
    let ending = Ending::Failed("worker 1: there is no such option".to_owned());
    assert_eq!((ended(&actions), actions.last()), (vec![1], Some(&Action::Over(ending))));
    assert_eq!((run.failures(), run.failed_for_good(1, 1, "again", ms(0), &Zero)), (1, vec![]));
    let mut others = running();
    assert!(others.resumed(0, 1, ms(0)));
    others.failed_for_good(1, 1, "there is no such option", ms(0), &Zero);
    assert_eq!(others.phase(), &Phase::Restarting { at: ms(1000) }, "the program works");
}

#[test]
fn the_job_is_finished_when_all_workers_are() {
    let mut run = running();
    assert_eq!(run.finished(0, 1, ms(1000)), []);
    // It is not watched any more, and its end is no failure.
    assert!(run.heard(1, 1, ALIVE, ms(5000)));
    assert_eq!(run.tick(ms(5000), &Zero), []);
    assert_eq!(run.failed(0, 1, "exit 0", ms(5000), &Zero), []);
    assert_eq!(run.finished(1, 1, ms(1000)), [Action::Over(Ending::Finished)]);
}

#[test]
fn one_that_finished_starts_again_when_another_fails() {
    let mut run = running();
    run.finished(0, 1, ms(1000));
    assert_eq!(ended(&run.failed(1, 1, "died", ms(0), &Zero)), [1]);
    run.tick(ms(1000), &Zero);
    assert_eq!(run.phase(), &Phase::Starting { missing: [0, 1].into(), until: ms(11_000) });
}

#[test]
fn rescaling_ends_all_and_starts_another_number_without_counting_as_a_failure() {
    let mut run = running();
    for (generation, workers) in [(1, 3), (2, 1), (3, 4)] {
        let actions = run.rescale(workers, ms(0)).unwrap();
        assert_eq!(ended(&actions), [generation]);
        assert_eq!(actions.last(), Some(&Action::StartWorkers { generation: generation + 1, workers }));
    }
    assert!(run.rescale(0, ms(0)).is_err() && run.rescale(MAX_WORKERS + 1, ms(0)).is_err());
    // Both restarts that the strategy allows are left.
    for generation in [4, 5] {
        run.failed(0, generation, "died", ms(100), &Zero);
        assert_eq!(run.tick(ms(2000), &Zero).len(), 1);
    }
}

#[test]
fn cancelling_ends_the_workers_once() {
    let mut run = running();
    let actions = run.cancel();
    assert_eq!((ended(&actions), actions.last()), (vec![1], Some(&Action::Over(Ending::Cancelled))));
    assert_eq!(run.cancel(), []);
    let mut waiting = running();
    waiting.failed(0, 1, "died", ms(0), &Zero);
    assert_eq!(waiting.cancel(), [Action::Over(Ending::Cancelled)], "there are no workers to end");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    assert!(JobRun::start(options(twice()), 0, ms(0)).is_err());
    assert!(JobRun::start(RunOptions { startup_timeout: ms(0), ..options(twice()) }, 1, ms(0)).is_err());
    let heartbeat = HeartbeatOptions { interval: ms(10), timeout: ms(5) };
    assert!(JobRun::start(RunOptions { heartbeat, ..options(twice()) }, 1, ms(0)).is_err());
    JobRun::start(RunOptions::default(), MAX_WORKERS, ms(0)).unwrap();
}

/// What a world outside would have: which generation lives, and how it ended.
#[derive(Default)]
struct World {
    alive: Option<u64>,
    last: u64,
    over: Option<Ending>,
}

impl World {
    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.over, None, "{action:?} after the end");
            match action {
                Action::EndWorkers { generation, why } => {
                    assert_eq!(self.alive.take(), Some(generation), "{why}");
                }
                Action::StartWorkers { generation, workers } => {
                    assert_eq!(self.alive, None, "two generations at once");
                    assert!(generation > self.last && workers > 0);
                    (self.alive, self.last) = (Some(generation), generation);
                }
                Action::Over(ending) => {
                    self.alive = None;
                    self.over = Some(ending);
                }
            }
        }
    }
}

#[test]
fn in_any_life_one_generation_lives_at_a_time_and_none_after_the_end() {
    let mut endings = BTreeSet::new();
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let strategy = if seed % 2 == 0 { twice() } else { RestartStrategy::EXPONENTIAL_DELAY };
        let (mut run, actions) = JobRun::start(options(strategy), 2, ms(0)).unwrap();
        let mut world = World::default();
        world.carry_out(actions);
        let mut now = ms(0);
        for _ in 0..400 {
            now += ms(rng.random_range(0..700));
            let (worker, stale) = (rng.random_range(0..4), rng.random_range(0..3_u64) / 2);
            let generation = run.generation().saturating_sub(stale);
            let actions = match rng.random_range(0..200) {
                0..80 => {
                    (0..run.workers()).for_each(|worker| {
                        run.registered(worker, generation, now);
                        run.heard(worker, generation, ALIVE, now);
                        run.restored(worker, generation, FILES, now);
                    });
                    Vec::new()
                }
                80..190 => run.tick(now, &Zero),
                190..194 => run.failed(worker, generation, "at random", now, &Zero),
                194..197 => run.finished(worker, generation, now),
                197..199 => run.rescale(rng.random_range(1..5), now).unwrap_or_default(),
                _ if rng.random_bool(0.2) => run.cancel(),
                _ => Vec::new(),
            };
            world.carry_out(actions);
            let has_ended = matches!(run.phase(), Phase::Restarting { .. } | Phase::Over(_));
            assert_eq!(world.alive.is_none(), has_ended, "seed {seed}: {run:?}");
        }
        endings.insert(world.over.map_or("goes on".to_owned(), |ending| ending.to_string()[..6].to_owned()));
    }
    assert_eq!(endings.len(), 4, "some ending never came about: {endings:?}");
}

#[test]
fn an_interruption_that_is_no_single_workers_fault_restarts_all_and_a_late_one_changes_nothing() {
    let mut run = running();
    assert_eq!(ended(&run.interrupted(1, "no checkpoint completes", ms(0), &Zero)), [1]);
    assert_eq!(run.last_failure(), Some("no checkpoint completes"));
    assert_eq!(run.interrupted(1, "again", ms(0), &Zero), []);
    run.tick(ms(1000), &Zero);
    assert_eq!(run.interrupted(1, "late", ms(1000), &Zero), []);
    assert_eq!(run.generation(), 2);
}
