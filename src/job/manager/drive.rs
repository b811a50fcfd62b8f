//! Carries out what the life of a job asks for.

use std::sync::Arc;
use std::time::Duration;

use super::history::whole_ms;
use super::last::LastWords;
use super::plan::Admission;
use super::{Manager, ends_the_job};
use crate::error::{ErrorKind, Result};
use crate::job::launch::{Ended, LaunchOrder};
use crate::job::run::{Action, Ending, Phase};
use crate::job::wire::{Cookie, Pass};
use crate::job::worker::LEFT_EXIT_CODE;
use crate::layout::CheckpointId;

/// How often time-outs are looked for, at the least and at the most.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// How long workers that have finished may take to leave.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Of which generations the history has it.
#[derive(Default)]
struct Noted {
    running: u64,
    resumed: u64,
}

impl Manager {
    /// Until the job is over.
    pub(super) async fn drive(self: Arc<Self>) {
        let ending = self.drive_to_end().await;
        self.ending.send_replace(Some(ending));
    }

    /// Until the job's end, which is not told yet.
    async fn drive_to_end(&self) -> Ending {
        let tick = (self.options.run.heartbeat.interval / 4).clamp(TICK.0, TICK.1);
        let mut last = LastWords::default();
        let mut noted = Noted::default();
        let ending = loop {
            let ended = self.launcher.ended();
            for ended in &ended {
                self.desk.failed(ended.worker, ended.generation, &self.how_it_ended(ended));
            }
            self.desk.tick();
            if let Some(ending) = self.carry_out(&ended).await {
                break ending;
            }
            self.note_recovery(&mut noted);
            // Before the periodic ones, which would take the place of the last one again and again.
            if let Err(error) = self.say_last_words(&mut last).await {
                tracing::warn!(%error, "the job cannot come to its end yet");
            }
            if let Err(error) = self.take_checkpoints() {
                tracing::error!(%error, "the job has lost its coordinator");
                self.desk.change(|run, _| run.give_up(error.to_string()));
                self.carry_out(&ended).await;
                break Ending::Failed(error.to_string());
            }
            tokio::select! {
                () = self.desk.changed.notified() => {}
                () = self.env.runtime.sleep(tick) => {}
            }
        };
        self.bring_to_end(&ending).await;
        ending
    }

    /// How a worker's process ended, and what to look at if it never reported.
    fn how_it_ended(&self, ended: &Ended) -> String {
        let is_missing = self.desk.read(|run, _| match run.phase() {
            Phase::Starting { missing, .. } => missing.contains(&ended.worker),
            _ => false,
        });
        let hint = match ended.exit_code.filter(|_| is_missing) {
            None => return ended.how.clone(),
            Some(LEFT_EXIT_CODE) => format!("could it reach {}?", self.address),
            Some(_) => "is it a program that calls `run_job_worker`?".to_owned(),
        };
        format!("{} before it had reported: {hint}", ended.how)
    }

    /// Notes that a generation's workers have all restored, and that records are processed, each once.
    fn note_recovery(&self, noted: &mut Noted) {
        let (generation, recovery) = self.desk.read(|run, _| (run.generation(), *run.recovery()));
        let (steps, whole) = (recovery.steps(), |time: Option<Duration>| whole_ms(time.unwrap_or_default()));
        if recovery.restored.is_some() && noted.running < generation {
            noted.running = generation;
            let text = format!(
                "all workers were there after {} ms, and had restored after {} ms more: {}",
                whole(steps.start),
                whole(steps.restore),
                recovery.files
            );
            self.history.event("running", generation, &text);
        }
        if let Some(total) = recovery.resumed.and(steps.total)
            && noted.resumed < generation
        {
            noted.resumed = generation;
            let since = if recovery.ended.is_some() { "the workers before were ended" } else { "the start" };
            let text = format!("the first record was processed {} ms after {since}", whole_ms(total));
            self.history.event("resumed", generation, &text);
        }
    }

    /// Everything that waits. Returns how the job ended, if it did.
    async fn carry_out(&self, ended: &[Ended]) -> Option<Ending> {
        while let Some(action) = self.desk.next_action() {
            match action {
                Action::EndWorkers { generation, why } => {
                    let why = self.note_failure(generation, why, ended).await;
                    tracing::info!(job = %self.coordinator.layout().job(), generation, why, "workers are ended");
                    self.launcher.end(generation).await;
                }
                Action::StartWorkers { generation, workers } => {
                    if let Err(error) = self.start_workers(generation, workers).await {
                        self.desk.interrupted(generation, &error.to_string());
                    }
                }
                Action::Over(ending) => {
                    if ending == Ending::Finished {
                        // They are told so, and leave by themselves; whoever does not is ended.
                        self.env.runtime.sleep(LEAVE_TIME).await;
                    }
                    self.launcher.end(self.desk.read(|run, _| run.generation())).await;
                    return Some(ending);
                }
            }
        }
        None
    }

    async fn start_workers(&self, generation: u64, workers: u32) -> Result<()> {
        // After a pause of this process another manager may have the job: workers of this one would fence the sinks of its workers.
        if let Err(error) = self.coordinator.look().await {
            if ends_the_job(&error) {
                self.desk.change(|run, _| run.give_up(error.to_string()));
                return Ok(());
            }
            return Err(error);
        }
        self.settle_suspicions().await;
        // What the last generation has acknowledged is taken in to its end, and nothing more of it.
        let gate = self.gate.write().await;
        let descriptions = self.options.operators.iter().map(|operator| operator.description(workers)).collect();
        self.coordinator.restart_tasks(descriptions)?;
        self.positions.clear();
        let restore = match self.choose_restore() {
            Ok(restore) => restore,
            Err(error) => {
                // Another start would find the same.
                self.desk.change(|run, _| run.give_up(error.to_string()));
                return Ok(());
            }
        };
        match self.distrust_what_is_passed_over(&restore).await {
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                let why =
                    error.with_note("the newest checkpoint is damaged, and the job cannot go back to an older one");
                self.desk.change(|run, _| run.give_up(why.to_string()));
                return Ok(());
            }
            done => done?,
        }
        let restore = restore.path;
        self.restored.lock().clone_from(&restore);
        let from = restore.as_ref().map_or_else(|| "with nothing".to_owned(), |path| format!("from {path}"));
        self.history.event("started", generation, &format!("{workers} workers, {from}"));
        let cookie = Cookie::random(&*self.env.randomness);
        let admission = Admission {
            generation,
            cookie,
            job: self.coordinator.layout().job().clone(),
            operators: self.options.operators.clone(),
            restore,
            epoch: self.coordinator.epoch(),
            newest: self.coordinator.view().newest().map_or(CheckpointId(0), |newest| newest.folder.checkpoint),
            // What is read now would lie behind the savepoint that it is stopped with.
            is_pausing: self.stop.lock().is_some(),
        };
        let is_current = self.desk.admit(admission);
        drop(gate);
        if !is_current {
            // It was ended before it began: the next one is in the queue.
            return Ok(());
        }
        for worker in 0..workers {
            let pass = Pass { generation, worker, cookie };
            let heartbeat = self.options.run.heartbeat;
            self.launcher.start(&LaunchOrder { manager: self.address.to_string(), pass, heartbeat }).await?;
        }
        Ok(())
    }

    /// Periodic checkpoints, and the time-outs of those in flight.
    ///
    /// # Errors
    /// The coordinator's tenure is over: nothing more can be done for the job here.
    fn take_checkpoints(&self) -> Result<()> {
        if !self.desk.can_checkpoint() {
            return self.coordinator.check();
        }
        let generation = self.desk.read(|run, _| run.generation());
        // While the job comes to its end its last checkpoint is the last one: nothing overtakes its savepoint, or comes behind it.
        let is_ending = self.stop.lock().is_some() || self.desk.is_drained();
        let ticked = match is_ending {
            true => self.coordinator.tick_without_trigger().map(|(report, _)| report),
            false => self.coordinator.tick(),
        };
        let report = match ticked {
            Ok(report) => report,
            Err(error) if ends_the_job(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "no checkpoint could be triggered");
                return self.coordinator.check();
            }
        };
        if let Some(trigger) = report.triggered
            && let Err(error) = self.hand_out(trigger)
        {
            tracing::warn!(%error, "a trigger could not be handed out");
        }
        if report.too_many_failures {
            self.desk.interrupted(generation, "more checkpoints in a row failed than are tolerated");
        }
        Ok(())
    }
}
