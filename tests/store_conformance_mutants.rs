//! The suite can fail: a store with one flaw is caught by the check that is there for it, and every
//! check has a flaw that it catches.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use icecore::store::testing::conformance::{self, CHECKS, Options};
use icecore::store::{Child, ObjectMeta, ObjectWriter, Store, StorePath};
use icecore::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// What a store does wrong. Each with the check that must catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    PutShowsHalfFirst,
    StreamShowsPieces,
    EmptyObjectsAreLost,
    LastByteOfBigObjectsFlips,
    EmptyPieceEndsTheObject,
    ObjectsEndAtEightMebibytes,
    RangesBeginOneTooEarly,
    RangesAreCutAtTheEnd,
    MissingIsCalledIo,
    DroppedWriterFinishes,
    AbortedWriterFinishes,
    WritersShareABuffer,
    CaseIsFolded,
    LongNamesAreCut,
    ListsWhatTheLastListingShouldHave,
    ListingStopsAtAThousand,
    ListingStopsAtTenFolders,
    ListingGoesByComponents,
    ListingForgetsSizes,
    PrefixIsText,
    ChildrenComeTwice,
    MissingFolderIsAnError,
    FoldersStay,
    DeleteIsForgotten,
    ListShowsWhatWasDeleted,
    DeletingTheMissingFails,
    AnswersOfMissingAreLeftOut,
    DeleteTakesNeighbours,
    DeleteTakesFolders,
    DeleteBreaksWritersBeside,
    HousekeepingTakesObjects,
    HousekeepingCutsWriters,
}

use Flaw as F;

const CAUGHT_BY: &[(Flaw, &str)] = &[
    (F::PutShowsHalfFirst, "an_object_put_is_whole_at_first_sight"),
    (F::PutShowsHalfFirst, "a_put_that_is_dropped_leaves_a_whole_object_or_none"),
    (F::StreamShowsPieces, "an_object_being_streamed_is_not_seen_before_it_is_finished"),
    (F::EmptyObjectsAreLost, "objects_of_all_sizes_are_read_as_they_were_written"),
    (F::LastByteOfBigObjectsFlips, "objects_of_all_sizes_are_read_as_they_were_written"),
    (F::EmptyPieceEndsTheObject, "an_object_streamed_in_uneven_pieces_is_read_as_it_was_written"),
    (F::ObjectsEndAtEightMebibytes, "a_large_object_is_read_as_it_was_written"),
    (F::RangesBeginOneTooEarly, "a_range_is_answered_exactly"),
    (F::RangesAreCutAtTheEnd, "a_range_past_the_end_is_corrupt"),
    (F::MissingIsCalledIo, "a_missing_object_is_not_found"),
    (F::DroppedWriterFinishes, "a_dropped_writer_leaves_nothing"),
    (F::AbortedWriterFinishes, "an_aborted_writer_leaves_nothing"),
    (F::WritersShareABuffer, "writers_side_by_side_do_not_disturb_each_other"),
    (F::CaseIsFolded, "names_that_differ_a_little_are_different_objects"),
    (F::LongNamesAreCut, "the_longest_names_can_be_written"),
    (F::ListsWhatTheLastListingShouldHave, "what_was_written_is_listed_at_once"),
    (F::ListingStopsAtAThousand, "thousands_of_objects_are_listed_completely_and_in_order"),
    (F::ListingStopsAtTenFolders, "a_deep_tree_is_listed_completely"),
    (F::ListingGoesByComponents, "the_order_is_that_of_whole_paths"),
    (F::ListingForgetsSizes, "a_deep_tree_is_listed_completely"),
    (F::PrefixIsText, "a_prefix_is_a_folder_and_not_a_piece_of_a_name"),
    (F::ChildrenComeTwice, "children_are_the_names_directly_below_each_once"),
    (F::MissingFolderIsAnError, "a_missing_folder_is_empty"),
    (F::FoldersStay, "a_folder_goes_with_its_last_object"),
    (F::DeleteIsForgotten, "a_deleted_object_is_gone_at_once"),
    (F::ListShowsWhatWasDeleted, "a_deleted_object_is_gone_at_once"),
    (F::DeletingTheMissingFails, "deleting_what_is_missing_is_ok_and_answers_are_one_each"),
    (F::AnswersOfMissingAreLeftOut, "deleting_what_is_missing_is_ok_and_answers_are_one_each"),
    (F::DeleteTakesNeighbours, "a_delete_hits_only_what_it_names"),
    (F::DeleteTakesFolders, "a_delete_hits_only_what_it_names"),
    (F::DeleteBreaksWritersBeside, "a_writer_survives_the_deletes_that_empty_its_folder"),
    (F::HousekeepingTakesObjects, "housekeeping_leaves_objects_alone_and_breaks_no_promise"),
    (F::HousekeepingCutsWriters, "housekeeping_leaves_objects_alone_and_breaks_no_promise"),
];

#[derive(Debug)]
struct Flawed {
    flaw: Flaw,
    shared: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    objects: BTreeMap<String, Bytes>,
    folders: BTreeSet<String>,
    /// What the last listing saw, for the flaws that are late.
    seen: BTreeMap<String, Bytes>,
    buffer: Vec<u8>,
    deleting: Option<String>,
    housekept: bool,
}

impl Flawed {
    fn new(flaw: Flaw) -> Arc<Self> {
        Arc::new(Self { flaw, shared: Arc::default() })
    }

    fn key(&self, path: &StorePath) -> String {
        match self.flaw {
            F::CaseIsFolded => path.as_str().to_lowercase(),
            F::LongNamesAreCut => path.as_str().chars().take(800).collect(),
            _ => path.as_str().to_owned(),
        }
    }

    fn insert(&self, key: String, mut bytes: Vec<u8>) {
        match self.flaw {
            F::EmptyObjectsAreLost if bytes.is_empty() => return,
            F::ObjectsEndAtEightMebibytes => bytes.truncate(8 << 20),
            F::LastByteOfBigObjectsFlips if bytes.len() > 65_536 => *bytes.last_mut().unwrap() ^= 1,
            _ => {}
        }
        let mut inside = self.shared.lock();
        let mut folder = key.as_str();
        while let Some((above, _)) = folder.rsplit_once('/') {
            inside.folders.insert(above.to_owned());
            folder = above;
        }
        inside.objects.insert(key, bytes.into());
    }

    fn missing(&self, path: &StorePath) -> Error {
        let kind = if self.flaw == F::MissingIsCalledIo { ErrorKind::Io } else { ErrorKind::NotFound };
        Error::new(kind, "look", "missing").with_object(path)
    }

    fn listing(&self, prefix: Option<&StorePath>) -> Vec<ObjectMeta> {
        let mut inside = self.shared.lock();
        let start = match prefix {
            Some(prefix) if self.flaw == F::PrefixIsText => prefix.to_string(),
            Some(prefix) => format!("{prefix}/"),
            None => String::new(),
        };
        let mut objects = inside.objects.clone();
        match self.flaw {
            F::ListsWhatTheLastListingShouldHave => objects = std::mem::replace(&mut inside.seen, objects),
            F::ListShowsWhatWasDeleted => {
                objects.append(&mut inside.seen.clone());
                inside.seen = objects.clone();
            }
            _ => {}
        }
        let below = objects.iter().filter(|(key, _)| key.starts_with(&start));
        let mut keys: Vec<(String, u64)> = below.map(|(key, bytes)| (key.clone(), bytes.len() as u64)).collect();
        match self.flaw {
            F::ListingStopsAtAThousand => keys.truncate(1000),
            F::ListingStopsAtTenFolders => keys.retain(|(key, _)| key.matches('/').count() <= 10),
            F::ListingGoesByComponents => {
                keys.sort_by(|a, b| a.0.split('/').collect::<Vec<_>>().cmp(&b.0.split('/').collect()));
            }
            F::ListingForgetsSizes => keys.iter_mut().for_each(|(_, size)| *size = 0),
            _ => {}
        }
        keys.into_iter()
            .map(|(key, size_bytes)| ObjectMeta { path: StorePath::new(key).unwrap(), size_bytes })
            .collect()
    }
}

#[async_trait]
impl Store for Flawed {
    fn describe(&self) -> String {
        format!("flawed:{:?}", self.flaw)
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        if self.flaw == F::PutShowsHalfFirst {
            self.insert(self.key(path), bytes.slice(..bytes.len() / 2).to_vec());
        }
        tokio::task::yield_now().await;
        if self.flaw == F::DeleteBreaksWritersBeside {
            let parent = path.parent().map(|parent| parent.to_string());
            if parent.is_some() && self.shared.lock().deleting == parent {
                return Err(self.missing(path));
            }
        }
        self.insert(self.key(path), bytes.to_vec());
        Ok(())
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        let store = Flawed { flaw: self.flaw, shared: Arc::clone(&self.shared) };
        self.shared.lock().housekept = false;
        Ok(Box::new(FlawedWriter { key: self.key(path), store, bytes: Vec::new(), ended: false, settled: false }))
    }

    async fn read(&self, path: &StorePath, mut range: Range<u64>) -> Result<Bytes> {
        let inside = self.shared.lock();
        let bytes = inside.objects.get(&self.key(path)).ok_or_else(|| self.missing(path))?;
        let size = bytes.len() as u64;
        match self.flaw {
            F::RangesBeginOneTooEarly if range.start > 0 => range = range.start - 1..range.end - 1,
            F::RangesAreCutAtTheEnd => range = range.start.min(size)..range.end.min(size),
            _ if range.end > size => return Err(Error::corrupt("read", path, "too short")),
            _ => {}
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let inside = self.shared.lock();
        let bytes = inside.objects.get(&self.key(path)).ok_or_else(|| self.missing(path))?;
        Ok(ObjectMeta { path: path.clone(), size_bytes: bytes.len() as u64 })
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        let objects = self.listing(prefix);
        // The suite's own first look at its folder must pass, or it is not a check that fails.
        let below_a_folder = prefix.is_some_and(|prefix| prefix.as_str().matches('/').count() > 1);
        if self.flaw == F::MissingFolderIsAnError && objects.is_empty() && below_a_folder {
            return stream::iter([Err(self.missing(prefix.unwrap()))]).boxed();
        }
        stream::iter(objects.into_iter().map(Ok)).boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        let start = prefix.map_or(0, |prefix| prefix.as_str().len() + 1);
        let inside = self.shared.lock();
        let mut children = Vec::new();
        let mut add = |key: &str, size_bytes: Option<u64>| {
            let below = prefix.is_none_or(|prefix| key.starts_with(&format!("{prefix}/")));
            if let (true, Some(rest)) = (below, key.get(start..)) {
                match rest.split_once('/') {
                    Some((folder, _)) => children.push(Child { name: folder.to_owned(), size_bytes: None }),
                    None => children.push(Child { name: rest.to_owned(), size_bytes }),
                }
            }
        };
        inside.objects.iter().for_each(|(key, bytes)| add(key, Some(bytes.len() as u64)));
        if self.flaw == F::FoldersStay {
            inside.folders.iter().for_each(|folder| add(folder, None));
        }
        children.sort();
        if self.flaw != F::ChildrenComeTwice {
            children.dedup();
        }
        Ok(children)
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        if let Some(first) = paths.first() {
            self.shared.lock().deleting = first.parent().map(|parent| parent.to_string());
        }
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let mut inside = self.shared.lock();
        inside.deleting = None;
        let mut answers = Vec::new();
        for path in paths {
            let key = self.key(path);
            let there = inside.objects.contains_key(&key);
            match self.flaw {
                F::DeleteIsForgotten => {}
                F::DeleteTakesNeighbours => inside.objects.retain(|other, _| !other.starts_with(&key)),
                F::DeleteTakesFolders => {
                    let folder = format!("{key}/");
                    inside.objects.retain(|other, _| *other != key && !other.starts_with(&folder));
                }
                _ => drop(inside.objects.remove(&key)),
            }
            match self.flaw {
                F::DeletingTheMissingFails if !there => answers.push(Err(self.missing(path))),
                F::AnswersOfMissingAreLeftOut if !there => {}
                _ => answers.push(Ok(())),
            }
        }
        answers
    }

    async fn remove_unfinished(&self, prefix: Option<&StorePath>, _older_than: Duration) -> Result<u64> {
        let mut inside = self.shared.lock();
        inside.housekept = true;
        if self.flaw == F::HousekeepingTakesObjects {
            let start = prefix.map_or(String::new(), |prefix| format!("{prefix}/"));
            inside.objects.retain(|key, _| !key.starts_with(&start));
        }
        Ok(0)
    }
}

struct FlawedWriter {
    key: String,
    store: Flawed,
    bytes: Vec<u8>,
    ended: bool,
    settled: bool,
}

#[async_trait]
impl ObjectWriter for FlawedWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self.store.flaw {
            F::WritersShareABuffer => {
                self.store.shared.lock().buffer.extend_from_slice(&bytes);
                return Ok(());
            }
            // As a first byte stream may be taken to have ended.
            F::EmptyPieceEndsTheObject if bytes.is_empty() && !self.bytes.is_empty() => self.ended = true,
            F::HousekeepingCutsWriters if self.store.shared.lock().housekept => self.bytes.clear(),
            _ => {}
        }
        if !self.ended {
            self.bytes.extend_from_slice(&bytes);
        }
        if self.store.flaw == F::StreamShowsPieces {
            self.store.insert(self.key.clone(), self.bytes.clone());
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        if self.store.flaw == F::WritersShareABuffer {
            self.bytes = std::mem::take(&mut self.store.shared.lock().buffer);
        }
        self.settled = true;
        self.store.insert(self.key.clone(), self.bytes.clone());
        Ok(())
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        if self.store.flaw == F::AbortedWriterFinishes {
            self.store.insert(self.key.clone(), self.bytes.clone());
        }
        Ok(())
    }
}

impl Drop for FlawedWriter {
    fn drop(&mut self) {
        if self.store.flaw == F::DroppedWriterFinishes && !self.settled {
            self.store.insert(self.key.clone(), self.bytes.clone());
        }
    }
}

#[tokio::test]
async fn the_same_store_without_a_flaw_conforms() {
    conformance::run(|| async { Flawed::new(F::None) as _ }).await.assert_conforms();
}

#[tokio::test]
async fn every_flaw_is_caught_by_the_check_that_is_there_for_it() {
    let options = Options { listed_objects: 1500, ..Options::default() };
    let mut survivors = Vec::new();
    for (flaw, name) in CAUGHT_BY {
        let check = CHECKS.iter().find(|check| check.name == *name).unwrap_or_else(|| panic!("no check {name}"));
        match check.run(Flawed::new(*flaw), &options).await {
            Ok(()) => survivors.push(format!("{flaw:?} was not caught by {name}")),
            Err(violation) if violation.detail.contains("in use") => {
                survivors.push(format!("{flaw:?} was caught before its check began: {violation}"));
            }
            Err(violation) => assert_eq!(violation.clause, check.clause),
        }
    }
    assert!(survivors.is_empty(), "{survivors:#?}");
}

#[test]
fn every_check_has_a_flaw_that_it_catches() {
    for check in CHECKS {
        assert!(CAUGHT_BY.iter().any(|(_, name)| *name == check.name), "nothing proves that {} can fail", check.name);
    }
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_not_taken_for_a_violation_of_the_contract() {
    let store = Flawed::new(F::None);
    let check = &CHECKS[0];
    check.run(store.clone(), &Options::default()).await.unwrap();
    let again = check.run(store, &Options::default()).await.unwrap_err();
    assert!(again.detail.contains("in use"), "{again}");
}
