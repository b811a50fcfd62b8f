//! Executes upload plans and remembers what earlier checkpoints of the subtask hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::TryStreamExt;
use parking_lot::Mutex;

use super::broker::UploadBroker;
use super::file_set::FileSet;
use super::handle::{SnapshotStats, SubtaskHandle, Trigger};
use super::local::{LocalFile, LocalSnapshot};
use super::plan::UploadPlan;
use super::send::Work;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, ContentHash, SubtaskName};
use crate::metadata::{CheckpointKind, FileEntry, FileIdentity, total_bytes};
use crate::store::{Retries, RetryPolicy, StorePath, StoreRef};
use crate::transfer::{NoProgress, Progress, TransferLimits};

/// How many acknowledged checkpoints a subtask remembers while it waits to hear of their completion.
pub const MAX_REMEMBERED_CHECKPOINTS: usize = 16;

/// Of how many checkpoints a subtask remembers that it took part: more than can be in flight.
pub const MAX_BEGUN_CHECKPOINTS: usize = 128;

/// How a [`Snapshotter`] works.
#[derive(Clone, Debug)]
pub struct SnapshotterOptions {
    /// How many files are hashed and sent at once.
    pub limits: TransferLimits,
    /// Told as files are sent. What is sent again is told again.
    pub progress: Arc<dyn Progress>,
    /// When a file whose upload failed is sent again, whole and under another name. It ends with the checkpoint.
    pub retry: RetryPolicy,
}

impl Default for SnapshotterOptions {
    fn default() -> Self {
        Self { limits: TransferLimits::default(), progress: Arc::new(NoProgress), retry: RetryPolicy::OBJECTS }
    }
}

/// One subtask's uploader. It belongs to the subtask for as long as that runs.
#[derive(Debug)]
pub struct Snapshotter {
    pub(super) subtask: SubtaskName,
    pub(super) store: StoreRef,
    pub(super) env: Env,
    pub(super) broker: Arc<dyn UploadBroker>,
    pub(super) options: SnapshotterOptions,
    pub(super) retries: Retries,
    /// By folder: other tenures and other jobs give the same numbers.
    remembered: Mutex<BTreeMap<CheckpointFolder, FileSet>>,
    /// Hashes of files that came from elsewhere: a restore from other subtasks' files.
    seeds: Mutex<HashMap<FileIdentity, ContentHash>>,
    /// Checkpoints that were begun, the newest [`MAX_BEGUN_CHECKPOINTS`] of them.
    begun: Mutex<BTreeSet<CheckpointFolder>>,
    /// Checkpoints that were given up, the newest of them: nothing is sent again for them.
    given_up: Mutex<BTreeSet<CheckpointId>>,
}

impl Snapshotter {
    /// An uploader for `subtask`, which remembers nothing yet.
    pub fn new(
        subtask: SubtaskName,
        store: StoreRef,
        env: Env,
        broker: Arc<dyn UploadBroker>,
        options: SnapshotterOptions,
    ) -> Self {
        let retries = Retries::new(options.retry, env.clone());
        let (remembered, seeds) = (Mutex::default(), Mutex::default());
        let (begun, given_up) = (Mutex::default(), Mutex::default());
        Self { subtask, store, env, broker, options, retries, remembered, seeds, begun, given_up }
    }

    /// Whose files these are.
    pub fn subtask(&self) -> &SubtaskName {
        &self.subtask
    }

    /// Remembers the files of a complete checkpoint that this subtask was restored from, so that
    /// the next snapshot builds on it, if it is the one that the trigger names.
    pub fn remember(&self, checkpoint: CheckpointFolder, files: impl IntoIterator<Item = FileEntry>) {
        let files = FileSet::from_entries(files);
        // Their identities hold, too, for a checkpoint that builds on another base.
        self.seed(files.entries().map(|entry| &**entry));
        self.remembered.lock().insert(checkpoint, files);
    }

    /// Remembers the hashes of files that this subtask was restored from, where they are not the same
    /// list of files as any subtask's of a checkpoint: after a rescale. They are not read again.
    pub fn seed<'a>(&self, files: impl IntoIterator<Item = &'a FileEntry>) {
        let hashes = files.into_iter().filter_map(|file| Some((file.identity?, file.sha256)));
        self.seeds.lock().extend(hashes);
    }

    /// Whether a file with this identity need not be read.
    pub fn knows(&self, identity: &FileIdentity) -> bool {
        self.seeds.lock().contains_key(identity)
            || self.remembered.lock().values().any(|files| files.with_identity(identity).is_some())
    }

    /// Hears that a checkpoint is complete: earlier ones will not be built on any more. A savepoint or
    /// full checkpoint is never built on, so it changes nothing.
    pub fn notify_complete(&self, checkpoint: CheckpointId) {
        let mut remembered = self.remembered.lock();
        if remembered.keys().any(|known| known.checkpoint == checkpoint) {
            remembered.retain(|earlier, _| earlier.checkpoint >= checkpoint);
        }
    }

    /// Hears that a checkpoint was given up: it will not be built on, and nothing more is sent again for it.
    pub fn notify_aborted(&self, checkpoint: CheckpointId) {
        self.remembered.lock().retain(|known, _| known.checkpoint != checkpoint);
        let mut given_up = self.given_up.lock();
        given_up.insert(checkpoint);
        while given_up.len() > MAX_BEGUN_CHECKPOINTS {
            given_up.pop_first();
        }
    }

    /// Whether [`Self::notify_aborted`] named this checkpoint since its upload began.
    pub(super) fn is_given_up(&self, checkpoint: CheckpointId) -> bool {
        self.given_up.lock().contains(&checkpoint)
    }

    /// What an upload of `files` would do.
    pub fn plan(&self, trigger: &Trigger, files: Vec<LocalFile>) -> UploadPlan {
        let base = self.base_of(trigger);
        self.plan_on(base.as_ref(), trigger, files)
    }

    fn plan_on(
        &self,
        base: Option<&(CheckpointFolder, FileSet)>,
        trigger: &Trigger,
        files: Vec<LocalFile>,
    ) -> UploadPlan {
        let seeds = self.seeds.lock();
        let base = base.map(|(folder, files)| (*folder, files));
        UploadPlan::new(files, trigger.kind, base, &trigger.distrusted, &|identity| seeds.get(identity).copied())
    }

    /// The asynchronous part: moves what is new of a frozen state to the store. A file whose upload fails with
    /// an error that may pass is sent again, whole and under a name that was never used (K2), for as long as
    /// [`SnapshotterOptions::retry`] says.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if this checkpoint was uploaded or tried before: a private file's
    /// name is written once (K2), so decline the checkpoint and take the next. Otherwise
    /// any failure of the store or of reading the frozen files; what was uploaded until then is an
    /// orphan of this checkpoint, which the coordinator's abort or sweep removes (I9).
    pub async fn upload(&self, trigger: &Trigger, snapshot: LocalSnapshot) -> Result<SubtaskHandle> {
        let started = self.env.clock.monotonic();
        self.begin(trigger)?;
        let LocalSnapshot { backend, key_groups, mut states, mut files, prepare, sync_us, beside_us, hold } = snapshot;
        if let Some(prepare) = prepare {
            files.extend(self.env.blocking(move || prepare.run()).await??);
        }
        // Taken once: were it forgotten half-way (a newer checkpoint completes meanwhile), the files that
        // are carried over from it would be lost.
        let base = self.base_of(trigger);
        let plan = self.plan_on(base.as_ref(), trigger, files);
        tracing::debug!(subtask = %self.subtask, checkpoint = %trigger.checkpoint, %plan, "snapshot");
        let mut stats = SnapshotStats { sync_us, files: plan.len() as u64, ..SnapshotStats::default() };
        let base_files = base.as_ref().map(|(_, files)| files.clone()).unwrap_or_default();
        let set = self.execute(trigger, plan, base_files.clone(), &mut stats).await?;
        drop(hold);
        let (added, removed) = difference(&base_files, &set);
        let elapsed = self.env.clock.monotonic().saturating_sub(started);
        stats.async_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).saturating_add(beside_us);
        self.acknowledged(trigger, set);
        states.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(SubtaskHandle {
            checkpoint: trigger.checkpoint,
            epoch: trigger.epoch,
            generation: trigger.generation,
            subtask: self.subtask.clone(),
            key_groups,
            backend,
            states,
            base: base.map(|(folder, _)| folder),
            added,
            removed,
            stats,
        })
    }

    fn begin(&self, trigger: &Trigger) -> Result<()> {
        let mut begun = self.begun.lock();
        if !begun.insert(trigger.checkpoint_folder()) {
            let message = format!("{} has begun it before", self.subtask);
            return Err(Error::new(ErrorKind::AlreadyExists, "upload a snapshot", message)
                .with_object(trigger.checkpoint)
                .with_advice("decline the checkpoint, and take the next one"));
        }
        while begun.len() > MAX_BEGUN_CHECKPOINTS {
            begun.pop_first();
        }
        // A later tenure may give the same number to a checkpoint of its own.
        self.given_up.lock().remove(&trigger.checkpoint);
        Ok(())
    }

    async fn execute(
        &self,
        trigger: &Trigger,
        plan: UploadPlan,
        base_files: FileSet,
        stats: &mut SnapshotStats,
    ) -> Result<FileSet> {
        let mut set = base_files;
        let mut kept: std::collections::HashSet<StorePath> = std::collections::HashSet::with_capacity(plan.len());
        for entry in &plan.carried {
            stats.shared_bytes += entry.size_bytes;
            kept.insert(entry.local_name.clone());
        }
        let hashed = plan.hashed.into_iter().map(|(file, hash)| Work::Shared(file, Some(hash)));
        let unknown = plan.unknown.into_iter().map(|file| Work::Shared(file, None));
        let work: Vec<Work> = hashed.chain(unknown).chain(plan.private.into_iter().map(Work::Private)).collect();
        self.options.progress.expect(work.len() as u64, total_bytes(work.iter().filter_map(Work::size_bytes)));
        let mut done = self.options.limits.run(work, Work::size_bytes, |work| self.perform(trigger, work));
        while let Some(outcome) = done.try_next().await? {
            stats.hashed_files += u64::from(outcome.hashed);
            if outcome.sent {
                stats.uploaded_files += 1;
                stats.uploaded_bytes += outcome.entry.size_bytes;
            } else {
                stats.shared_bytes += outcome.entry.size_bytes;
            }
            kept.insert(outcome.entry.local_name.clone());
            // An equal entry would only hide from the difference that nothing changed.
            if set.get(&outcome.entry.local_name).is_none_or(|old| **old != outcome.entry) {
                set.insert(Arc::new(outcome.entry));
            }
        }
        let gone: Vec<StorePath> =
            set.entries().filter(|entry| !kept.contains(&entry.local_name)).map(|e| e.local_name.clone()).collect();
        for name in &gone {
            set.remove(name);
        }
        Ok(set)
    }

    /// The files that a checkpoint builds on, if this subtask remembers them.
    fn base_of(&self, trigger: &Trigger) -> Option<(CheckpointFolder, FileSet)> {
        let base = trigger.base.filter(|_| trigger.kind == CheckpointKind::Incremental)?;
        self.remembered.lock().get(&base).map(|files| (base, files.clone()))
    }

    fn acknowledged(&self, trigger: &Trigger, set: FileSet) {
        if trigger.kind != CheckpointKind::Incremental {
            return;
        }
        let mut remembered = self.remembered.lock();
        remembered.insert(trigger.checkpoint_folder(), set);
        while remembered.len() > MAX_REMEMBERED_CHECKPOINTS {
            remembered.pop_first();
        }
    }
}

fn difference(base: &FileSet, set: &FileSet) -> (Vec<FileEntry>, Vec<StorePath>) {
    let change = set.since(base);
    let replaced: std::collections::HashSet<&StorePath> = change.added.iter().map(|e| &e.local_name).collect();
    let removed = change.removed.iter().map(|entry| &entry.local_name);
    let removed = removed.filter(|name| !replaced.contains(name)).cloned().collect();
    let added = change.added.iter().map(|entry| (**entry).clone()).collect();
    (added, removed)
}
