//! Reading a [`JobView`]: C4-C7, for the claimant and for everyone else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    BlockScope, Blocker, CheckpointView, HoldView, JobView, ListView, NotCounting, Uncounted, Unreadable,
    check_locations,
};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, Epoch, JobLayout, Place, RefName, Uid};
use crate::metadata::{CheckpointMetadata, Condemned, ControlRecord, FileEntry, Location, Pin, Ref, Start};
use crate::ownership::epochs::Epochs;
use crate::ownership::reading::{is_missing, list_bounded, read_metadata, read_record};
use crate::store::{ObjectMeta, Store, StorePath};

/// How often a view is read anew because the job got a new owner meanwhile.
const MAX_VIEW_ATTEMPTS: usize = 5;
/// `_metadata` objects that are read at a time.
const READ_CONCURRENCY: usize = 8;
/// The most pins, or refs, or lists, or distrust records of one job that are looked at.
const MAX_CONTROL_OBJECTS: usize = 65_536;

impl JobView {
    /// Reads a job as it is now. Claims nothing, changes nothing.
    ///
    /// A job that does not exist reads as an empty one: [`JobView::is_absent`].
    ///
    /// # Errors
    /// What the store says of a listing, and a passing error of reading the newest start or a list;
    /// [`ErrorKind::Changed`] if owners follow each other so fast that no view of one tenure can be
    /// had. Objects that cannot be read are no errors here: see [`JobView::all_blockers`].
    pub async fn read(store: &dyn Store, layout: &JobLayout) -> Result<Self> {
        for _ in 0..MAX_VIEW_ATTEMPTS {
            let view = Self::read_once(store, layout).await?;
            // A start that came meanwhile may have swept what the older one adopted.
            if Epochs::list(store, layout).await?.newest_start() == view.epochs.newest_start() {
                return Ok(view);
            }
        }
        Err(Error::new(ErrorKind::Changed, "read a job", "its owner changed at every attempt to read it")
            .with_object(layout.root())
            .with_advice("try again"))
    }

    /// Reads a job for the claimant of `epoch`, whose claim is visible.
    pub(in crate::ownership) async fn read_for_claim(
        store: &dyn Store,
        layout: &JobLayout,
        epoch: Epoch,
    ) -> Result<Self> {
        let view = Self::read_once(store, layout).await?;
        match view.epochs.above(epoch) {
            None => Ok(view),
            Some(greater) => {
                Err(Error::new(ErrorKind::Fenced, "claim a job", format!("epoch {greater} has claimed it meanwhile"))
                    .with_object(layout.root()))
            }
        }
    }

    /// Whether the job's folder holds nothing that icecore wrote.
    pub fn is_absent(&self) -> bool {
        self.epochs.known.is_empty() && self.checkpoints.is_empty() && self.uncounted.is_empty()
    }

    async fn read_once(store: &dyn Store, layout: &JobLayout) -> Result<Self> {
        let listed = list_bounded(store, &layout.condemned()?, MAX_CONTROL_OBJECTS).await?; // C4
        let epochs = Epochs::list(store, layout).await?; // C5
        let mut view = Self {
            layout: layout.clone(),
            foreign: epochs.foreign.clone(),
            epochs,
            start: None,
            checkpoints: BTreeMap::new(),
            uncounted: BTreeMap::new(),
            pins: BTreeMap::new(),
            refs: BTreeMap::new(),
            distrusted: BTreeSet::new(),
            lists: Vec::new(),
            blockers: Vec::new(),
            entries_read: Arc::default(),
        };
        view.read_start(store).await?;
        view.read_lists(store, listed).await?;
        view.read_holds(store).await?; // C6
        view.read_distrusted(store).await?; // X3
        view.read_checkpoints(store).await?; // C7
        Ok(view)
    }

    async fn read_start(&mut self, store: &dyn Store) -> Result<()> {
        let Some(newest) = self.epochs.newest_start() else {
            return Ok(());
        };
        let path = self.layout.start(newest)?;
        match read_record::<Start>(store, &path).await {
            Ok(start) if start.epoch == newest => self.start = Some(start),
            Ok(start) => self.block(path, format!("it says that it is the start of epoch {}", start.epoch)),
            // What counts is known as soon as the store answers again: that is no view.
            Err(error) if error.is_retryable() => return Err(error),
            // Also when it is missing now: a greater start then has removed it, and the caller sees that.
            Err(error) => self.block(path, error.to_string()),
        }
        Ok(())
    }

    /// Reads the lists of the newest start's epoch; every other is void and its content means
    /// nothing. A list that is gone since it was listed had all its deletes confirmed.
    async fn read_lists(&mut self, store: &dyn Store, listed: Vec<ObjectMeta>) -> Result<()> {
        let newest = self.epochs.newest_start();
        for object in listed {
            let Some(Place::List(epoch, uid)) = Place::of(&self.layout, &object.path) else {
                self.foreign.push(object.path);
                continue;
            };
            if Some(epoch) != newest {
                continue;
            }
            match read_record::<Condemned>(store, &object.path).await {
                Ok(content) if content.epoch == epoch && content.uid == uid => self.note_list(object.path, content),
                Ok(_) => self.block(object.path, "it is a copy of another list".to_owned()),
                Err(error) if is_missing(&error) => {}
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => self.block(object.path, error.to_string()),
            }
        }
        Ok(())
    }

    fn note_list(&mut self, path: StorePath, content: Condemned) {
        let (epoch, uid): (Epoch, Uid) = (content.epoch, content.uid);
        self.lists.push(ListView { path, epoch, uid, content: Arc::new(content) });
    }

    async fn read_holds(&mut self, store: &dyn Store) -> Result<()> {
        let condemned = self.condemned_objects();
        let adopted = self.start.as_ref().map(|start| (start.epoch, &start.pins, &start.refs));
        let counts = |name: &RefName, adopted_names: &[RefName]| {
            Some(name.writer) == adopted.map(|(epoch, ..)| epoch) || adopted_names.binary_search(name).is_ok()
        };
        let (mut pins, mut refs, mut foreign) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for folder in [self.layout.refs()?, self.layout.pins()?] {
            for object in list_bounded(store, &folder, MAX_CONTROL_OBJECTS).await? {
                let path = object.path;
                match Place::of(&self.layout, &path) {
                    _ if condemned.contains(&path) => {}
                    Some(Place::Ref(name)) if counts(&name, adopted.map_or(&[][..], |(.., refs)| refs)) => {
                        let note = note_of::<Ref>(store, &path, |holder| holder.holder.to_string()).await;
                        refs.insert(name, HoldView { path, note });
                    }
                    Some(Place::Pin(name)) if counts(&name, adopted.map_or(&[][..], |(_, pins, _)| pins)) => {
                        let note = note_of::<Pin>(store, &path, |pin| pin.reason).await;
                        pins.insert(name, HoldView { path, note });
                    }
                    Some(Place::Ref(_) | Place::Pin(_)) => {}
                    _ => foreign.push(path),
                }
            }
        }
        self.pins = pins;
        self.refs = refs;
        self.foreign.append(&mut foreign);
        Ok(())
    }

    /// Names only: they say it all.
    async fn read_distrusted(&mut self, store: &dyn Store) -> Result<()> {
        for object in list_bounded(store, &self.layout.distrusted()?, MAX_CONTROL_OBJECTS).await? {
            match Place::of(&self.layout, &object.path) {
                Some(Place::Distrust(name)) => {
                    self.distrusted.insert(name);
                }
                _ => self.foreign.push(object.path),
            }
        }
        Ok(())
    }

    async fn read_checkpoints(&mut self, store: &dyn Store) -> Result<()> {
        let mut folders = Vec::new();
        for child in store.list_children(Some(self.layout.root())).await? {
            match child.name.parse::<CheckpointFolder>() {
                Ok(folder) if child.size_bytes.is_none() => folders.push(folder),
                _ if child.size_bytes.is_none() && is_known_folder(&child.name) => {}
                // A name that is no path of ours cannot be spoken of in ours.
                _ => self.foreign.extend(self.layout.root().join(&child.name).ok()),
            }
        }
        let condemned = self.condemned_objects();
        let dropped: BTreeSet<_> = self.lists.iter().flat_map(|list| list.content.dropped.iter().copied()).collect();
        let layout = &self.layout;
        let sizes: Vec<_> = stream::iter(folders)
            .map(|folder| async move {
                let path = layout.metadata(folder)?;
                match store.stat(&path).await {
                    Ok(meta) => Ok((folder, path, Some(meta.size_bytes))),
                    Err(error) if is_missing(&error) => Ok((folder, path, None)),
                    // Present and unreadable (4.6): the length is not known.
                    Err(error) if error.kind() == ErrorKind::Corrupt => Ok((folder, path, Some(0))),
                    Err(error) => Err(error),
                }
            })
            .buffered(READ_CONCURRENCY)
            .try_collect()
            .await?;
        let mut counting = Vec::new();
        for (folder, path, metadata_size_bytes) in sizes {
            let is_condemned = dropped.contains(&folder) || condemned.contains(&path);
            match (metadata_size_bytes, self.not_counting(folder, is_condemned)) {
                (Some(size_bytes), None) => counting.push((folder, path, size_bytes)),
                (None, _) => {
                    self.uncounted.insert(folder, Uncounted { metadata_size_bytes, why: NotCounting::NoMetadata });
                }
                (Some(_), Some(why)) => {
                    self.uncounted.insert(folder, Uncounted { metadata_size_bytes, why });
                }
            }
        }
        self.read_metadata(store, counting).await;
        Ok(())
    }

    async fn read_metadata(&mut self, store: &dyn Store, counting: Vec<(CheckpointFolder, StorePath, u64)>) {
        let layout = &self.layout;
        let read: Vec<_> = stream::iter(counting)
            .map(|(folder, path, metadata_size_bytes)| async move {
                let content = read_checkpoint(store, layout, folder, &path).await;
                (folder, metadata_size_bytes, content)
            })
            .buffered(READ_CONCURRENCY)
            .collect()
            .await;
        for (folder, metadata_size_bytes, content) in read {
            match content {
                Err(error) if is_missing(&error) => {
                    let why = NotCounting::NoMetadata;
                    self.uncounted.insert(folder, Uncounted { metadata_size_bytes: None, why });
                }
                content => {
                    let content = content.map(Arc::new).map_err(|error| Unreadable::from(&error));
                    let lies_inside = |file: &FileEntry| matches!(file.location, Location::InCheckpoint(_));
                    let stands_alone = content.as_ref().is_ok_and(|metadata| metadata.files().all(lies_inside));
                    let checkpoint = CheckpointView { folder, metadata_size_bytes, content, stands_alone };
                    self.checkpoints.insert(folder, checkpoint);
                }
            }
        }
    }

    fn not_counting(&self, folder: CheckpointFolder, is_condemned: bool) -> Option<NotCounting> {
        let Some(start) = &self.start else {
            return Some(NotCounting::Unknown);
        };
        if folder.epoch > start.epoch {
            return Some(NotCounting::NewerEpoch);
        }
        if folder.epoch != start.epoch && start.adopted.binary_search(&folder).is_err() {
            return Some(NotCounting::NotAdopted);
        }
        is_condemned.then_some(NotCounting::Condemned)
    }

    fn condemned_objects(&self) -> BTreeSet<StorePath> {
        self.lists.iter().flat_map(|list| list.content.objects.iter().cloned()).collect()
    }

    fn block(&mut self, object: StorePath, reason: String) {
        self.blockers.push(Blocker { object, reason, scope: BlockScope::Everything });
    }
}

fn is_known_folder(name: &str) -> bool {
    matches!(name, "epochs" | "shared" | "condemned" | "refs" | "pins" | "distrusted" | "history" | "requests")
}

/// Reads what a hold says to people. A hold that cannot be read holds all the same.
async fn note_of<R: ControlRecord>(
    store: &dyn Store,
    path: &StorePath,
    note: impl FnOnce(R) -> String,
) -> Result<String, Unreadable> {
    read_record::<R>(store, path).await.map(note).map_err(|error| Unreadable::from(&error))
}

async fn read_checkpoint(
    store: &dyn Store,
    layout: &JobLayout,
    folder: CheckpointFolder,
    path: &StorePath,
) -> Result<CheckpointMetadata> {
    let metadata = read_metadata(store, path).await?;
    if metadata.folder() != folder || metadata.job != *layout.job() {
        let message = format!("it says that it is {} of job {}", metadata.folder(), metadata.job);
        return Err(Error::corrupt("read a checkpoint", path, message));
    }
    check_locations(layout, &metadata).map_err(|error| error.with_object(path))?;
    Ok(metadata)
}
