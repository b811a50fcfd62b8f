//! Carrying a plan out: checkpoint by checkpoint, each committed before the next is begun.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::StreamExt;
use parking_lot::Mutex;

use super::plan::{CopyOptions, CopyPlan, CopyStep, Verdict, is_shared};
use crate::coordinator::{Coordinator, Import, check_key_groups};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::gc::SweepScope;
use crate::layout::{CheckpointFolder, CheckpointId, FileKind, Uid, place_anew};
use crate::metadata::Location;
use crate::ownership::JobView;
use crate::restore::{Checkpoint, own_place};
use crate::snapshot::{Placement, PlacementRequest, Trigger, UploadBroker};
use crate::store::{Retries, RetryPolicy, StorePath, StoreRef};
use crate::transfer::{CopyEnd, FailedCopy, Progress, StoredFile, copy_object, is_unreadable};

const COPY: &str = "copy a checkpoint";
/// The longest reason that a copied pin gets, in bytes.
const MAX_REASON_BYTES: usize = 1_024;

/// The job that is copied from. It is only read.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// Its store.
    pub store: StoreRef,
    /// What counted in it when it was read.
    pub view: JobView,
}

impl CopySource {
    /// One of its checkpoints.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it does not count; the reason why its `_metadata` cannot be read.
    pub fn checkpoint(&self, folder: CheckpointFolder) -> Result<Checkpoint> {
        let known = self.view.checkpoints.get(&folder).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, COPY, "it does not count at the source").with_object(folder)
        })?;
        let metadata = known
            .content
            .clone()
            .map_err(|unreadable| Error::new(unreadable.kind, COPY, unreadable.reason).with_object(folder))?;
        let folder = Some(self.view.layout.checkpoint(folder)?);
        Ok(Checkpoint { store: self.store.clone(), folder, metadata })
    }
}

/// A checkpoint that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiedCheckpoint {
    /// Its folder at the source.
    pub source: CheckpointFolder,
    /// Its folder at the target, where it is complete.
    pub target: CheckpointFolder,
    /// The files that were sent.
    pub sent_files: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// The files whose content was there.
    pub shared_files: u64,
    /// Their bytes.
    pub shared_bytes: u64,
}

/// A checkpoint of the source that cannot be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSource {
    /// Its folder at the source.
    pub source: CheckpointFolder,
    /// What is wrong, naming the object.
    pub reason: String,
}

/// What a copy did. What it tells as copied is complete at the target, whatever came after.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// The checkpoints that were copied, in that order.
    pub copied: Vec<CopiedCheckpoint>,
    /// Those that are damaged at the source. Nothing of them appeared at the target.
    pub damaged: Vec<DamagedSource>,
    /// Those that the source's owner dropped while they were copied.
    pub gone: Vec<CheckpointFolder>,
    /// Folders at the target that were pinned.
    pub pinned: Vec<CheckpointFolder>,
    /// What stopped the copy before its end.
    pub stopped: Option<Error>,
}

impl CopyReport {
    /// The bytes that were sent.
    pub fn sent_bytes(&self) -> u64 {
        self.copied.iter().map(|copied| copied.sent_bytes).fold(0, u64::saturating_add)
    }

    /// The report, unless the copy was stopped.
    ///
    /// # Errors
    /// What stopped it.
    pub fn into_result(mut self) -> Result<Self> {
        match self.stopped.take() {
            None => Ok(self),
            Some(error) => Err(error),
        }
    }
}

/// Carries `plan` out, which was made of the source's view and of [`Coordinator::view`] of the target. First
/// removes what nothing references at the target, as an interrupted copy may have left it.
///
/// As soon as `stop` is ready the copy ends with its error: files on their way are given up, a commit under way is
/// waited for. It is polled beside everything that the coordinator does, so it may serve that coordinator's requests.
/// Dropping the copy itself leaves orphans for the next collection, and never half a checkpoint; but in the middle of
/// a commit it ends the tenure.
///
/// The coordinator's retention applies to what is copied as to everything else.
pub async fn copy_checkpoints(
    env: &Env,
    source: &CopySource,
    plan: &CopyPlan,
    target: &Coordinator,
    options: &CopyOptions,
    progress: &dyn Progress,
    stop: &mut StopCopy<'_>,
) -> CopyReport {
    let damaged = Mutex::default();
    let broker = target.broker();
    let retries = Retries::new(RetryPolicy::OBJECTS, env.clone());
    let copier = Copier { env, source, target, broker, options, progress, retries, damaged };
    let mut stop = Stop { future: stop, error: None };
    let mut report = CopyReport::default();
    progress.expect(plan.send_files(), plan.send_bytes());
    let mut outcome = copier.sweep(&mut stop).await;
    for step in &plan.steps {
        if outcome.is_err() {
            break;
        }
        outcome = copier.take(step, &mut report, &mut stop).await;
    }
    report.stopped = outcome.err();
    let is_unfinished = report.stopped.is_some() || !report.damaged.is_empty() || !report.gone.is_empty();
    if is_unfinished && let Err(error) = copier.sweep(&mut stop).await {
        tracing::warn!(%error, "could not remove what was sent in vain; a later collection does");
    }
    report
}

/// What ends a copy early, with the error to report. [`futures::future::pending`] never does.
pub type StopCopy<'a> = dyn Future<Output = Error> + Send + Unpin + 'a;

/// Polls what may stop the copy beside the copy's own work. It may hold what the coordinator's next step waits for,
/// so none of these steps is ever waited for alone.
struct Stop<'a, 'b> {
    future: &'a mut StopCopy<'b>,
    /// Set once it is ready; it is not polled any more then.
    error: Option<Error>,
}

impl Stop<'_, '_> {
    /// Does `work` unless the copy is to end, in which case it is dropped.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.check().map_err(Failure::Stop)?;
        tokio::select! {
            biased;
            error = &mut *self.future => {
                self.error = Some(Error::new(ErrorKind::Cancelled, COPY, "the copy was stopped"));
                Err(Failure::Stop(error))
            }
            done = work => done,
        }
    }

    /// Does `work` to its end, whatever happens.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        if self.error.is_some() {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done,
            error = &mut *self.future => {
                self.error = Some(error);
                work.await
            }
        }
    }

    /// Fails once the copy is to end.
    fn check(&mut self) -> Result<()> {
        match self.error.take() {
            None => Ok(()),
            Some(error) => {
                self.error = Some(Error::new(ErrorKind::Cancelled, COPY, "the copy was stopped"));
                Err(error)
            }
        }
    }
}

struct Copier<'a> {
    env: &'a Env,
    source: &'a CopySource,
    target: &'a Coordinator,
    broker: Arc<dyn UploadBroker>,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
    retries: Retries,
    /// Files of the source that were found damaged, and how: nothing is sent for another checkpoint that needs one.
    damaged: Mutex<HashMap<StoredFile, String>>,
}

/// Why a checkpoint was not copied.
enum Failure {
    /// It is damaged at the source.
    Damaged(Error),
    /// Nothing more can be copied now.
    Stop(Error),
    /// Another file failed.
    Skipped,
}

/// One file on its way.
struct Item {
    /// Which of the checkpoint's files.
    index: usize,
    file: StoredFile,
    kind: FileKind,
    /// Below the checkpoint's folder; `None`: in `shared/`.
    own_place: Option<StorePath>,
}

/// What became of it.
struct Moved {
    location: Location,
    is_sent: bool,
}

impl Copier<'_> {
    async fn sweep(&self, stop: &mut Stop<'_, '_>) -> Result<()> {
        match stop.beside(self.target.collect(SweepScope::Everything, false)).await {
            Ok(_) => Ok(()),
            // What is in the way of collecting is none of a copy, unless the tenure is over.
            Err(error) => {
                tracing::warn!(%error, "could not remove what nothing references at the target");
                self.target.check()
            }
        }
    }

    async fn take(&self, step: &CopyStep, report: &mut CopyReport, stop: &mut Stop<'_, '_>) -> Result<()> {
        stop.check()?;
        let folder = match &step.verdict {
            Verdict::There(folder) => *folder,
            Verdict::Send(number) => match self.copy(step.source, *number, stop).await {
                Ok(copied) => {
                    report.copied.push(copied);
                    copied.target
                }
                Err(Failure::Stop(error)) => return Err(error),
                Err(Failure::Damaged(error)) if self.is_gone(step.source).await => {
                    tracing::info!(checkpoint = %step.source, %error, "dropped at the source while it was copied");
                    report.gone.push(step.source);
                    return Ok(());
                }
                Err(Failure::Damaged(error)) => return self.note_damage(step.source, error, report),
                Err(Failure::Skipped) => return Err(Error::new(ErrorKind::Internal, COPY, "nothing failed")),
            },
            Verdict::Unreadable(unreadable) => {
                let error = Error::new(unreadable.kind, COPY, unreadable.reason.clone());
                let object = self.source.view.layout.metadata(step.source)?;
                return self.note_damage(step.source, error.with_object(object), report);
            }
            Verdict::Older(_) | Verdict::Refused(_) => return Ok(()),
        };
        if step.sets_pin {
            stop.beside(self.target.pin(folder, &self.pin_reason(step.source))).await?;
            report.pinned.push(folder);
        }
        Ok(())
    }

    fn note_damage(&self, source: CheckpointFolder, error: Error, report: &mut CopyReport) -> Result<()> {
        report.damaged.push(DamagedSource { source, reason: error.to_string() });
        if self.options.keep_going {
            return Ok(());
        }
        let kind = if error.kind() == ErrorKind::Unsupported { ErrorKind::Unsupported } else { ErrorKind::Corrupt };
        let message = format!("it cannot be read at the source: {}", error.message());
        let object = error.object().map_or_else(|| source.to_string(), |object| format!("{source}: {object}"));
        Err(Error::new(kind, COPY, message)
            .with_object(object)
            .with_advice("nothing of it is at the target; the sound ones can be copied without it")
            .with_source(error))
    }

    /// Whether the source's owner dropped the checkpoint since the source was read.
    async fn is_gone(&self, folder: CheckpointFolder) -> bool {
        let view = JobView::read(&*self.source.store, &self.source.view.layout).await;
        view.is_ok_and(|view| view.blocks_everything().is_none() && !view.checkpoints.contains_key(&folder))
    }

    async fn copy(
        &self,
        source: CheckpointFolder,
        number: CheckpointId,
        stop: &mut Stop<'_, '_>,
    ) -> Result<CopiedCheckpoint, Failure> {
        let checkpoint = self.source.checkpoint(source).map_err(Failure::Stop)?;
        // Before anything is sent of it.
        check_key_groups(&checkpoint.metadata).map_err(Failure::Damaged)?;
        let items = self.items(&checkpoint).map_err(Failure::Damaged)?;
        let mut metadata = (*checkpoint.metadata).clone();
        metadata.origin = Some(metadata.identity());
        let import = self.target.begin_import(number, metadata.kind).map_err(Failure::Stop)?;
        let mut copied = CopiedCheckpoint {
            source,
            target: import.trigger().checkpoint_folder(),
            sent_files: 0,
            sent_bytes: 0,
            shared_files: 0,
            shared_bytes: 0,
        };
        let moved = stop.or(self.move_all(&import, items)).await?;
        let files = metadata.operators.iter_mut().flat_map(|operator| &mut operator.subtasks);
        for (file, moved) in files.flat_map(|part| &mut part.files).zip(moved) {
            let moved = moved.ok_or_else(|| Failure::Stop(Error::new(ErrorKind::Internal, COPY, "a file was lost")))?;
            let (files, bytes) = match moved.is_sent {
                true => (&mut copied.sent_files, &mut copied.sent_bytes),
                false => (&mut copied.shared_files, &mut copied.shared_bytes),
            };
            *files += 1;
            *bytes = bytes.saturating_add(file.size_bytes);
            file.location = moved.location;
            file.offset_bytes = 0;
            file.stored_size_bytes = file.size_bytes;
        }
        stop.beside(import.commit(metadata)).await.map_err(|error| match self.target.check() {
            // It was refused before anything was written of it.
            Ok(()) if is_damage(&error) => Failure::Damaged(error),
            _ => Failure::Stop(error),
        })?;
        Ok(copied)
    }

    /// Every file, in the order of the `_metadata`.
    fn items(&self, checkpoint: &Checkpoint) -> Result<Vec<Item>> {
        let (metadata, damaged) = (&checkpoint.metadata, self.damaged.lock());
        let mut items = Vec::new();
        let mut own_places = BTreeSet::new();
        for operator in &metadata.operators {
            for part in &operator.subtasks {
                for entry in &part.files {
                    let file = checkpoint.stored_file(entry)?;
                    if let Some(reason) = damaged.get(&file) {
                        return Err(Error::corrupt(COPY, &file.object, reason.clone()));
                    }
                    let own_place = match is_shared(metadata.kind, entry) {
                        true => None,
                        false => Some(own_place(&operator.operator, part.index, entry)?),
                    };
                    if let Some(place) = own_place.clone().filter(|place| !own_places.insert(place.clone())) {
                        return Err(Error::corrupt(COPY, place, "two files would lie there"));
                    }
                    items.push(Item { index: items.len(), file, kind: entry.kind, own_place });
                }
            }
        }
        Ok(items)
    }

    /// Moves the files, as many at once as the limits say. After a failure nothing new is begun, but what runs is
    /// waited for: an object that appears after the clean-up would be an orphan once more.
    async fn move_all(&self, import: &Import<'_>, items: Vec<Item>) -> Result<Vec<Option<Moved>>, Failure> {
        let mut moved: Vec<Option<Moved>> = Vec::new();
        moved.resize_with(items.len(), || None);
        let has_failed = &AtomicBool::new(false);
        let trigger = import.trigger();
        let perform = |item: Item| async move {
            if has_failed.load(Ordering::Relaxed) {
                return Err(Failure::Skipped);
            }
            let outcome = self.move_one(trigger, &item, has_failed).await;
            has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
            outcome.map(|moved| (item.index, moved))
        };
        let mut outcomes = self.options.limits.run(items, |item| Some(item.file.size_bytes), perform);
        let mut failure = None;
        while let Some(outcome) = outcomes.next().await {
            match (outcome, &failure) {
                (Ok((index, done)), _) => {
                    if let Some(place) = moved.get_mut(index) {
                        *place = Some(done);
                    }
                }
                (Err(Failure::Skipped), _) => {}
                (Err(error @ Failure::Stop(_)), _) | (Err(error), None) => failure = Some(error),
                (Err(Failure::Damaged(_)), Some(_)) => {}
            }
        }
        failure.map_or(Ok(moved), Err)
    }

    /// Attempt after attempt, each under a fresh name: what a failed one has sent may appear late (K2).
    async fn move_one(&self, trigger: &Trigger, item: &Item, has_failed: &AtomicBool) -> Result<Moved, Failure> {
        let mut backoff = self.retries.begin();
        let mut own_place = item.own_place.clone();
        loop {
            let FailedCopy { error, end, .. } = match self.try_one(trigger, item, own_place.as_ref()).await {
                Ok(moved) => return Ok(moved),
                Err(failed) => failed,
            };
            if let Err(error) = backoff.after(error).await {
                let source = &*self.source.store;
                let is_lost = async || is_unreadable(source, &item.file.object, &error).await;
                if end == CopyEnd::Source && (is_damage(&error) || is_lost().await) {
                    self.damaged.lock().insert(item.file.clone(), error.message().to_owned());
                    return Err(Failure::Damaged(error));
                }
                return Err(Failure::Stop(error));
            }
            if has_failed.load(Ordering::Relaxed) {
                return Err(Failure::Skipped);
            }
            if let Some(place) = &item.own_place {
                own_place = Some(place_anew(place, Uid::random(&*self.env.randomness)).map_err(Failure::Damaged)?);
            }
        }
    }

    async fn try_one(&self, trigger: &Trigger, item: &Item, own: Option<&StorePath>) -> Result<Moved, FailedCopy> {
        let failed_at = |end| move |error| FailedCopy { error, end, may_exist: false };
        let file = &item.file;
        if let Some(below) = own {
            // Only the names in the source's `_metadata` can make too long a path of it.
            let object = trigger.folder.join(below.as_str()).map_err(failed_at(CopyEnd::Source))?;
            self.send(file, &object).await?;
            return Ok(Moved { location: Location::InCheckpoint(below.clone()), is_sent: true });
        }
        let request = PlacementRequest {
            trigger: (trigger.epoch, trigger.generation, trigger.checkpoint),
            hash: file.sha256,
            size_bytes: file.size_bytes,
            kind: item.kind,
        };
        // What the registry refuses of a file is what the source's `_metadata` says of it (I8).
        let end = |error: &Error| match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::LimitExceeded => CopyEnd::Source,
            _ => CopyEnd::Target,
        };
        let placed = self.broker.place(request).await;
        match placed.map_err(|error| failed_at(end(&error))(error))? {
            Placement::Stored(path) => Ok(Moved { location: Location::InRoot(path), is_sent: false }),
            Placement::Upload(ticket) => {
                let object = ticket.object().clone();
                self.send(file, &object).await?;
                ticket.completed().await.map_err(failed_at(CopyEnd::Target))?;
                Ok(Moved { location: Location::InRoot(object), is_sent: true })
            }
        }
    }

    async fn send(&self, file: &StoredFile, object: &StorePath) -> Result<(), FailedCopy> {
        let target = &self.target.store();
        copy_object(&*self.source.store, self.env, file, &***target, object, self.progress).await
    }

    fn pin_reason(&self, source: CheckpointFolder) -> String {
        let pins = self.source.view.pins.iter().filter(|(name, _)| name.folder == source);
        let notes: Vec<&str> = pins.filter_map(|(_, hold)| hold.note.as_deref().ok()).collect();
        let mut reason = notes.join("; ");
        let end = (0..=MAX_REASON_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or(0));
        reason
    }
}

/// Whether an error of the source tells of the checkpoint, and not of the way to the store.
fn is_damage(error: &Error) -> bool {
    use ErrorKind::{Corrupt, InvalidInput, LimitExceeded, NotFound, Unsupported};
    matches!(error.kind(), Corrupt | InvalidInput | LimitExceeded | NotFound | Unsupported)
}
