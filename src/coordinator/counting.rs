//! What counts, as the job's owner knows it without asking the store.
//!
//! Since its start nobody but the owner makes a checkpoint or a pin count, or count no longer. So which
//! they are is known here, and changes at one moment each: a checkpoint counts from its look on (K4,
//! K5), and no more from its plan on (D1); records of damage are added by the owner, too. What the store shows may be older or younger than that: an
//! index whose look is not made yet, one whose delete is under way. The store is read anew for what
//! only it can tell: what can be read by now, what cannot any more, which records are there.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::gc::Progress;
use crate::ownership::JobView;

/// The owner's view of its job. Asks the store nothing and is locked for moments only.
#[derive(Debug)]
pub(super) struct Counting {
    view: Mutex<Arc<JobView>>,
}

impl Counting {
    pub(super) fn new(view: JobView) -> Self {
        Self { view: Mutex::new(Arc::new(view)) }
    }

    /// What counts now. A value: what is noted later does not change it.
    pub(super) fn now(&self) -> Arc<JobView> {
        self.view.lock().clone()
    }

    /// Notes something that the owner did. Costs a copy of the view (its checkpoints' contents are
    /// shared) only while somebody works with one of before.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut JobView) -> T) -> T {
        change(Arc::make_mut(&mut self.view.lock()))
    }

    /// Takes in what the store showed: `fresh`, read after `progress` and `before` were taken. To be
    /// called while nothing is dropped, pinned or distrusted.
    pub(super) fn take_in(&self, fresh: JobView, before: &JobView, progress: &Progress) -> Arc<JobView> {
        let mut view = self.view.lock();
        *view = Arc::new(merged(fresh, before, &view, progress));
        view.clone()
    }
}

/// `fresh`, with what counts as the owner knows it: `before` it was read, and `now`.
pub(super) fn merged(fresh: JobView, before: &JobView, now: &JobView, progress: &Progress) -> JobView {
    let mut merged = fresh;
    merged.checkpoints.retain(|folder, _| now.checkpoints.contains_key(folder));
    let own = now.start.as_ref().map(|start| start.epoch);
    for (folder, checkpoint) in &now.checkpoints {
        // Completed while the store was read, which may have shown it or not.
        if Some(folder.epoch) == own && !progress.is_finished(folder.checkpoint) {
            merged.checkpoints.insert(*folder, checkpoint.clone());
        }
    }
    merged.pins.retain(|name, _| now.pins.contains_key(name) || !before.pins.contains_key(name));
    merged.distrusted.extend(now.distrusted.difference(&before.distrusted).copied());
    for (name, hold) in now.pins.iter().filter(|(name, _)| !before.pins.contains_key(*name)) {
        merged.pins.insert(*name, hold.clone());
    }
    merged
}
