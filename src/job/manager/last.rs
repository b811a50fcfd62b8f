//! The end of a job in good order: when its input is over, or somebody wants it to stop.
//!
//! Sources give nothing more, a last checkpoint is taken, so that sinks commit all that was put out, then a savepoint if one is
//! wanted, and only then the workers may come to their end. What fails is tried again; a generation that begins meanwhile begins with this
//! from the start. (Flink: FLIP-147 and stop-with-savepoint.)

use std::time::Duration;

use tokio::sync::oneshot;

use super::Manager;
use super::outcomes::Outcome;
use crate::error::{Error, ErrorKind, Result};
use crate::job::run::{Ending, Phase};
use crate::job::wire::Tell;
use crate::layout::{CheckpointFolder, CheckpointId, METADATA_NAME};
use crate::metadata::CheckpointKind;
use crate::store::StorePath;

/// Between two tries to trigger a checkpoint while others are in flight.
const IN_FLIGHT_PAUSE: Duration = Duration::from_millis(20);
/// So many savepoints may fail before the job is not stopped with one, as they count for nothing else. Those of generations that ended, too: each
/// try may end one.
pub(super) const MAX_FAILED_SAVEPOINTS: u32 = 5;

/// How a job is to be stopped.
#[derive(Debug)]
pub(super) struct Stop {
    /// Where a savepoint shall lie.
    savepoint: Option<StorePath>,
    /// How far that is. A savepoint outlives the generation that it was taken of.
    step: Step,
    /// How many savepoints could not be taken.
    failed_savepoints: u32,
    /// Told if it cannot be done.
    refused: oneshot::Sender<Error>,
}

/// How far a generation has come with it.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    generation: u64,
    is_paused: bool,
    checkpoint: Step,
    is_closed: bool,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    ToDo,
    Begun(CheckpointId),
    Done,
}

impl Manager {
    /// What can be done now. Called often.
    ///
    /// # Errors
    /// As [`Coordinator::trigger`](crate::coordinator::Coordinator::trigger); the next call begins where this one ended.
    pub(super) async fn say_last_words(&self, last: &mut LastWords) -> Result<()> {
        // No generation begins meanwhile.
        let _gate = self.gate.read().await;
        if !self.desk.can_checkpoint() {
            return Ok(());
        }
        let generation = self.desk.read(|run, _| run.generation());
        if last.generation != generation {
            *last = LastWords { generation, ..LastWords::default() };
        }
        let stop = self.stop.lock().as_ref().map(|stop| stop.savepoint.clone());
        if stop.is_some() && !last.is_paused {
            self.desk.tell_all(&Tell::Pause)?;
            last.is_paused = true;
        }
        if last.is_closed || !(last.is_paused || self.desk.is_drained()) {
            return Ok(());
        }
        if self.has_last_savepoint() {
            // Its sources have given nothing since: there is nothing that a further checkpoint would have.
            last.checkpoint = Step::Done;
        }
        self.advance(&mut last.checkpoint, None).await?;
        if !matches!(last.checkpoint, Step::Done) {
            return Ok(());
        }
        if let Some(path) = stop.flatten()
            && !self.save_last(&path).await?
        {
            return Ok(());
        }
        last.is_closed = true;
        self.desk.close()
    }

    /// Takes the savepoint that the job is stopped with, one step at a time, or gives the stop up. Returns whether it is complete.
    async fn save_last(&self, path: &StorePath) -> Result<bool> {
        let mut step = self.stop.lock().as_mut().map(|stop| std::mem::take(&mut stop.step)).unwrap_or_default();
        let was_begun = matches!(step, Step::Begun(_));
        let advanced = self.advance(&mut step, Some(path)).await;
        let (is_done, has_failed) = (matches!(step, Step::Done), was_begun && matches!(step, Step::ToDo));
        let failed = self.stop.lock().as_mut().map_or(0, |stop| {
            stop.step = step;
            stop.failed_savepoints += u32::from(has_failed);
            stop.failed_savepoints
        });
        match advanced {
            // A part of it, or all, lies there already: no further try can succeed.
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::InvalidInput) => {
                self.give_up_stop(error);
                return Ok(false);
            }
            advanced => advanced?,
        }
        if failed >= MAX_FAILED_SAVEPOINTS {
            let message = format!("{MAX_FAILED_SAVEPOINTS} savepoints could not be taken");
            let error = Error::new(ErrorKind::Cancelled, "stop a job", message).with_object(path);
            self.give_up_stop(error.with_advice("see by `icecore job status` why; or stop it without one"));
        }
        Ok(is_done)
    }

    /// Whether the savepoint that the job is stopped with is complete, of whichever generation.
    fn has_last_savepoint(&self) -> bool {
        match self.stop.lock().as_ref().map(|stop| &stop.step) {
            Some(Step::Done) => true,
            Some(Step::Begun(savepoint)) => matches!(self.outcomes.of(*savepoint), Some(Outcome::Complete(_))),
            Some(Step::ToDo) | None => false,
        }
    }

    /// The job does not stop but goes on, with workers whose sources are not paused.
    fn give_up_stop(&self, error: Error) {
        tracing::warn!(%error, "the job cannot be stopped with this savepoint; it goes on");
        let generation = self.desk.read(|run, _| run.generation());
        self.history.event("stopping", generation, &format!("it does not stop after all: {error}"));
        if let Some(stop) = self.stop.lock().take() {
            // Whoever wanted it may be gone.
            let _ = stop.refused.send(error);
        }
        self.desk.change(|run, now| run.begin_anew("it does not stop after all", now));
    }

    /// Whether a savepoint is complete whose last write was answered with an error: nothing lay there before.
    async fn lies_there(&self, savepoint: Option<&StorePath>) -> Result<bool> {
        let Some(path) = savepoint else { return Ok(false) };
        match self.coordinator.store().stat(&path.join(METADATA_NAME)?).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn advance(&self, step: &mut Step, savepoint: Option<&StorePath>) -> Result<()> {
        match step {
            Step::Done => {}
            Step::Begun(checkpoint) => match self.outcomes.of(*checkpoint) {
                None => {}
                Some(Outcome::Complete(_)) => *step = Step::Done,
                Some(Outcome::Unknown(_)) if self.lies_there(savepoint).await? => *step = Step::Done,
                // How often: for checkpoints as many failures in a row as are tolerated, for savepoints `MAX_FAILED_SAVEPOINTS`.
                Some(Outcome::Aborted(_) | Outcome::Unknown(_)) => *step = Step::ToDo,
            },
            Step::ToDo => {
                let trigger = match savepoint {
                    Some(path) => self.coordinator.trigger_savepoint(path).await,
                    None => self.coordinator.trigger(CheckpointKind::Incremental),
                };
                match trigger {
                    Ok(trigger) => *step = Step::Begun(self.hand_out(trigger)?),
                    // Another one is in flight.
                    Err(error) if error.kind() == ErrorKind::LimitExceeded => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Takes a checkpoint and waits for its end. While others are in flight, and no more are allowed, it waits for those first,
    /// no longer than a checkpoint may take.
    ///
    /// # Errors
    /// As [`Manager::trigger`]; [`ErrorKind::Cancelled`] if it was given up.
    pub async fn checkpoint(&self, kind: CheckpointKind) -> Result<CheckpointFolder> {
        let until = self.env.clock.monotonic().saturating_add(self.options.coordinator.timeout);
        let checkpoint = loop {
            match self.trigger(kind).await {
                Err(error) if error.kind() == ErrorKind::LimitExceeded && self.env.clock.monotonic() < until => {
                    self.env.runtime.sleep(IN_FLIGHT_PAUSE).await;
                }
                triggered => break triggered?,
            }
        };
        self.outcome_of(checkpoint).await
    }

    /// Takes a savepoint and waits for its end. It stands for itself: nothing of it depends on the job's folder. Sinks
    /// commit nothing by it.
    ///
    /// # Errors
    /// As [`Coordinator::trigger_savepoint`](crate::coordinator::Coordinator::trigger_savepoint), and as [`Manager::checkpoint`].
    pub async fn savepoint(&self, path: &StorePath) -> Result<CheckpointFolder> {
        let checkpoint = {
            let _gate = self.gate.read().await;
            self.check_running()?;
            self.hand_out(self.coordinator.trigger_savepoint(path).await?)?
        };
        self.outcome_of(checkpoint).await
    }

    /// Stops the job in good order, with a savepoint if a path is given, and waits for its end. All that was put out up to
    /// then is committed; nothing of the input is read beyond it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is being stopped already; [`ErrorKind::AlreadyExists`] if something lies at the
    /// path, now or when its turn comes (the job goes on then); [`ErrorKind::Cancelled`] if the job ends in another way, or before
    /// the savepoint.
    pub async fn stop(&self, savepoint: Option<StorePath>) -> Result<()> {
        if let Some(path) = &savepoint {
            self.coordinator.check_savepoint_path(path).await?;
        }
        let wants_savepoint = savepoint.is_some();
        let (refused, mut refusal) = oneshot::channel();
        {
            let mut stop = self.stop.lock();
            if stop.is_some() {
                return Err(Error::invalid("stop a job", "it is being stopped already"));
            }
            if self.desk.read(|run, _| matches!(run.phase(), Phase::Over(_))) {
                return Err(Error::new(ErrorKind::Cancelled, "stop a job", "it is over already"));
            }
            *stop = Some(Stop { savepoint, step: Step::ToDo, failed_savepoints: 0, refused });
        }
        let generation = self.desk.read(|run, _| run.generation());
        self.history.event("stopping", generation, "sources pause; a last checkpoint follows");
        let ending = tokio::select! {
            biased;
            ending = self.ended() => ending,
            Ok(error) = &mut refusal => return Err(error),
        };
        let is_taken = self.stop.lock().as_ref().is_some_and(|stop| matches!(stop.step, Step::Done));
        match ending {
            Ending::Finished if wants_savepoint && !is_taken => {
                let message = "it came to its end by itself, and no savepoint was taken";
                Err(Error::new(ErrorKind::Cancelled, "stop a job", message)
                    .with_advice("its last checkpoint is complete: `icecore export latest` copies it"))
            }
            Ending::Finished => Ok(()),
            other => Err(Error::new(ErrorKind::Cancelled, "stop a job", format!("it {other} instead"))),
        }
    }

    /// Ends the job at once, its checkpoints, too, if that is said, and waits for its end.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if it ends in another way; what the store says if its checkpoints could not be dropped.
    pub async fn cancelled(&self, drops_checkpoints: bool) -> Result<()> {
        match drops_checkpoints {
            true => self.cancel_and_drop(),
            false => self.cancel(),
        }
        match self.ended().await {
            Ending::Cancelled => self.drop_failure.lock().take().map_or(Ok(()), Err),
            other => Err(Error::new(ErrorKind::Cancelled, "cancel a job", format!("it {other} instead"))),
        }
    }

    pub(super) async fn outcome_of(&self, checkpoint: CheckpointId) -> Result<CheckpointFolder> {
        tokio::select! {
            biased;
            outcome = self.outcomes.wait(checkpoint) => outcome,
            ending = self.ended() => {
                let message = format!("the job {ending} before its end");
                Err(Error::new(ErrorKind::Cancelled, "take a checkpoint", message).with_object(checkpoint))
            }
        }
    }
}
