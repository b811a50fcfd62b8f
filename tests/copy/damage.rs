//! A source that is damaged, or lies.

use bytes::Bytes;
use icecore::ErrorKind;
use icecore::copy::CopyOptions;
use icecore::keygroup::KeyGroupRange;
use icecore::layout::{CheckpointFolder, CheckpointId, ContentHash};
use icecore::metadata::{CheckpointKind, CheckpointMetadata, FileEntry, Location, encode};
use icecore::store::StorePath;
use icecore::store::testing::{Fault, Rule, Step};

use crate::pair::{Pair, stopped};

fn keep_going() -> CopyOptions {
    CopyOptions { keep_going: true, ..CopyOptions::default() }
}

async fn replace(pair: &Pair, path: &StorePath, bytes: Vec<u8>) {
    pair.source.memory.delete(std::slice::from_ref(path)).await.pop().unwrap().unwrap();
    pair.source.memory.put(path, Bytes::from(bytes)).await.unwrap();
}

/// The object of a file of the source's checkpoint `number`.
async fn object_of(pair: &Pair, number: usize, name: &str) -> StorePath {
    let folder = *pair.source.view().await.checkpoints.keys().nth(number - 1).unwrap();
    pair.source.objects_of(folder).await.remove(name).unwrap()
}

#[tokio::test]
async fn a_damaged_object_stops_the_copy_at_its_checkpoint_and_is_named() {
    for name in ["4.sst", "private-a"] {
        let pair = Pair::with_history().await;
        let object = object_of(&pair, 2, name).await;
        let mut bytes = pair.source.read(&object).await.unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        replace(&pair, &object, bytes).await;
        let report = pair.copy(&CopyOptions::default()).await;
        let error = report.stopped.as_ref().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(object.as_str()) && error.to_string().contains("cp-2."), "{error}");
        assert_eq!(pair.target.counting_ids().await, [1]);
        pair.target.assert_exact("stopped by damage").await;
        // Put back, it is all copied, under the same numbers.
        let whole = if name == "4.sst" { vec![4; crate::pair::LARGE] } else { b"manifest 2".to_vec() };
        replace(&pair, &object, whole).await;
        assert!(stopped(&pair.copy(&CopyOptions::default()).await).is_none());
        pair.assert_copied("put back").await;
    }
}

#[tokio::test]
async fn if_asked_the_sound_ones_are_copied_and_the_damaged_object_is_read_once() {
    let mut pair = Pair::with_history().await;
    pair.tasks[1].remove("4.sst");
    pair.checkpoint().await;
    let object = object_of(&pair, 2, "4.sst").await;
    replace(&pair, &object, vec![5; crate::pair::LARGE]).await;
    pair.source.counting.reset();
    let report = pair.copy(&keep_going()).await;
    assert!(stopped(&report).is_none(), "{report:?}");
    let damaged: Vec<u64> = report.damaged.iter().map(|damaged| damaged.source.checkpoint.0).collect();
    assert_eq!(damaged, [2, 3]);
    assert!(report.damaged.iter().all(|damaged| damaged.reason.contains(object.as_str())), "{report:?}");
    assert_eq!(pair.target.counting_ids().await, [1, 4]);
    let read = pair.source.counting.traffic(object.as_str()).read_bytes;
    assert_eq!(read, crate::pair::LARGE as u64, "read again for checkpoint 3");
    pair.collect_target("the sound ones").await;
}

#[tokio::test]
async fn what_the_target_has_already_is_not_read_and_so_its_damage_does_no_harm() {
    let mut pair = Pair::with_history().await;
    pair.copy(&CopyOptions::default()).await;
    let object = object_of(&pair, 3, "4.sst").await;
    replace(&pair, &object, vec![5; crate::pair::LARGE]).await;
    pair.write(0, "7.sst", "seven");
    pair.checkpoint().await;
    assert!(stopped(&pair.copy(&CopyOptions::default()).await).is_none());
    assert_eq!(pair.target.counting_ids().await, [1, 2, 3, 4]);
    pair.target.assert_sound("healed").await;
}

#[tokio::test]
async fn an_object_that_is_there_and_cannot_be_read_is_damage_and_the_sound_ones_are_copied() {
    let pair = Pair::with_history().await;
    let object = object_of(&pair, 2, "4.sst").await;
    let rule = Rule::on(Step::Read).path_contains(object.as_str()).always();
    pair.source.store.inject(rule, Fault::Fail(ErrorKind::Io)).unwrap();
    let report = pair.copy(&keep_going()).await;
    assert!(stopped(&report).is_none(), "{report:?}");
    let damaged: Vec<u64> = report.damaged.iter().map(|damaged| damaged.source.checkpoint.0).collect();
    assert_eq!(damaged, [2, 3]);
    assert_eq!(pair.target.counting_ids().await, [1]);
    // A source that does not answer at all is none.
    let silent = Rule::on(Step::Stat).path_contains(object.as_str()).always();
    pair.source.store.inject(silent, Fault::Fail(ErrorKind::Io)).unwrap();
    assert_eq!(pair.copy(&keep_going()).await.stopped.unwrap().kind(), ErrorKind::Io);
}

#[tokio::test]
async fn an_object_that_is_gone_or_short_is_damage_too() {
    let pair = Pair::with_history().await;
    let gone = object_of(&pair, 1, "1.sst").await;
    let short = object_of(&pair, 2, "4.sst").await;
    pair.source.memory.delete(std::slice::from_ref(&gone)).await.pop().unwrap().unwrap();
    replace(&pair, &short, vec![4; 100]).await;
    let report = pair.copy(&keep_going()).await;
    assert_eq!(report.damaged.len(), 3, "{report:?}");
    assert!(report.damaged[0].reason.contains(gone.as_str()), "{report:?}");
    assert!(pair.target.counting_ids().await.is_empty());
    pair.collect_target("nothing was sound").await;
}

#[tokio::test]
async fn an_index_that_cannot_be_read_is_damage() {
    let pair = Pair::with_history().await;
    let folder = *pair.source.view().await.checkpoints.keys().next().unwrap();
    let path = pair.source.layout.metadata(folder).unwrap();
    let mut bytes = pair.source.read(&path).await.unwrap().to_vec();
    bytes[30] ^= 1;
    replace(&pair, &path, bytes).await;
    let report = pair.copy(&CopyOptions::default()).await;
    assert_eq!(stopped(&report), Some(ErrorKind::Corrupt));
    assert!(report.copied.is_empty() && report.stopped.unwrap().to_string().contains(path.as_str()));
    assert_eq!(pair.copy(&keep_going()).await.copied.len(), 2);
}

/// A copy of the newest `_metadata` with a lie in it, as checkpoint 4 of the same owner.
async fn lie(pair: &Pair, change: impl FnOnce(&mut CheckpointMetadata)) -> CheckpointFolder {
    let view = pair.source.view().await;
    let mut metadata = (*view.newest().unwrap().content.clone().unwrap()).clone();
    metadata.checkpoint.0 += 1;
    // Its own files lie elsewhere; only the shared ones are of use here.
    for part in metadata.operators.iter_mut().flat_map(|operator| &mut operator.subtasks) {
        part.files.retain(|file| matches!(file.location, Location::InRoot(_)));
    }
    change(&mut metadata);
    let path = pair.source.layout.metadata(metadata.folder()).unwrap();
    pair.source.memory.put(&path, encode(&metadata).unwrap().into()).await.unwrap();
    metadata.folder()
}

fn first(metadata: &mut CheckpointMetadata) -> &mut FileEntry {
    &mut metadata.operators[0].subtasks[0].files[0]
}

#[tokio::test]
async fn lies_of_an_index_are_damage_of_its_checkpoint_alone() {
    let path = |text: &str| StorePath::new(text).unwrap();
    let long = format!("{}/x", ["d"; 490].join("/"));
    type Lie = Box<dyn Fn(&mut CheckpointMetadata)>;
    let lies: Vec<(&str, Lie)> = vec![
        (
            "a length that the known content has not",
            Box::new(|metadata| {
                let file = first(metadata);
                (file.size_bytes, file.stored_size_bytes) = (9, 9);
                file.identity = None;
            }),
        ),
        (
            "a length beyond all measure",
            Box::new(|metadata| {
                let file = first(metadata);
                (file.size_bytes, file.stored_size_bytes) = (u64::MAX - 1, u64::MAX - 1);
                (file.identity, file.sha256) = (None, ContentHash::of(b"else"));
            }),
        ),
        (
            "an own file without end",
            Box::new(|metadata| {
                let file = first(metadata);
                (file.size_bytes, file.stored_size_bytes) = (1 << 50, 1 << 50);
                file.identity = None;
                file.location = Location::InCheckpoint(StorePath::new("operator-op/subtask-0/x").unwrap());
            }),
        ),
        ("another hash", Box::new(|metadata| first(metadata).sha256 = ContentHash::of(b"else"))),
        (
            "an object of another job that is not there",
            Box::new(move |metadata| {
                let file = first(metadata);
                file.sha256 = ContentHash::of(b"else");
                file.location = Location::InRoot(StorePath::new("job-other/shared/x").unwrap());
            }),
        ),
        (
            "a name that makes too long a path",
            Box::new(move |metadata| {
                let file = first(metadata);
                file.local_name = path(&long);
                file.location = Location::InCheckpoint(path("x"));
                metadata.operators[0].subtasks[0].files.sort_by(|a, b| a.local_name.cmp(&b.local_name));
            }),
        ),
        (
            "two files at one place",
            Box::new(|metadata| {
                for part in &mut metadata.operators[0].subtasks {
                    let groups = part.key_groups.unwrap();
                    let file = &mut part.files[0];
                    file.local_name = StorePath::new("keygroup-1/0.sst").unwrap();
                    file.location = Location::InCheckpoint(StorePath::new("x").unwrap());
                    file.key_groups = KeyGroupRange::new(groups.first(), groups.first());
                    part.files.truncate(1);
                }
            }),
        ),
    ];
    for (what, change) in lies {
        let pair = Pair::with_history().await;
        let folder = lie(&pair, change).await;
        let report = pair.copy(&keep_going()).await;
        assert!(stopped(&report).is_none(), "{what}: {report:?}");
        assert_eq!(report.damaged.len(), 1, "{what}: {report:?}");
        assert_eq!(report.damaged[0].source, folder, "{what}");
        assert_eq!(pair.target.counting_ids().await, [1, 2, 3], "{what}");
        pair.collect_target(what).await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_leaves_out_a_key_group_is_not_taken_over() {
    let pair = Pair::with_history().await;
    // As an older build may have written it: nothing but a restore would find out.
    let folder = lie(&pair, |metadata| {
        metadata.operators[0].subtasks.remove(0);
    })
    .await;
    pair.target.counting.reset();
    let report = pair.copy(&keep_going()).await;
    assert!(stopped(&report).is_none(), "{report:?}");
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert_eq!(report.damaged[0].source, folder);
    assert!(report.damaged[0].reason.contains("key group 0"), "{report:?}");
    assert_eq!(pair.target.counting_ids().await, [1, 2, 3]);
    pair.collect_target("without the incomplete one").await;
}

#[tokio::test]
async fn content_that_is_known_to_be_damaged_at_the_target_is_sent_anew() {
    let mut pair = Pair::with_history().await;
    pair.copy(&CopyOptions::default()).await;
    let owner = pair.target.coordinator(2, crate::pair::keep_all()).await;
    let view = pair.target.view().await;
    let large = view.newest().unwrap().content.clone().unwrap();
    let large = large.files().find(|file| file.size_bytes == crate::pair::LARGE as u64).unwrap();
    let Location::InRoot(object) = &large.location else { panic!("{large:?}") };
    // An import that is on its way meanwhile may share it, and comes to nothing.
    let import = owner.begin_import(CheckpointId(9), CheckpointKind::Incremental).unwrap();
    owner.distrust(&[object.file_name().parse().unwrap()], "found damaged").await.unwrap();
    let shares = (*view.newest().unwrap().content.clone().unwrap()).clone();
    assert_eq!(import.commit(shares).await.unwrap_err().kind(), ErrorKind::Cancelled);
    owner.end().await.unwrap();
    pair.write(0, "7.sst", "seven");
    pair.checkpoint().await;
    let plan = pair.plan(&CopyOptions::default()).await;
    let report = pair.copy(&CopyOptions::default()).await;
    assert!(stopped(&report).is_none(), "{report:?}");
    assert_eq!((report.copied.len(), report.sent_bytes()), (1, plan.send_bytes()), "{plan}");
    assert!(report.sent_bytes() > crate::pair::LARGE as u64, "{report:?}");
    pair.assert_copied("stored anew").await;
    let copied = pair.target.view().await.newest().unwrap().content.clone().unwrap();
    assert!(copied.files().all(|file| file.location != large.location), "it shares what is damaged");
    pair.collect_target("stored anew").await;
}

#[tokio::test]
async fn names_that_no_collection_would_know_are_not_taken_over() {
    let pair = Pair::with_history().await;
    // Where no sweep looks, and in a folder that only looks like a key group's.
    let foreign = StorePath::new("lost/and/found").unwrap();
    let folder = lie(&pair, |metadata| {
        let groups = metadata.operators[0].subtasks[0].key_groups.unwrap();
        let file = first(metadata);
        file.local_name = StorePath::new("keygroup-01/0.sst").unwrap();
        file.location = Location::InCheckpoint(foreign.clone());
        file.key_groups = Some(groups);
        let bytes = b"content";
        (file.sha256, file.size_bytes, file.stored_size_bytes) = (ContentHash::of(bytes), 7, 7);
        file.identity = None;
        metadata.operators[0].subtasks[0].files.sort_by(|a, b| a.local_name.cmp(&b.local_name));
    })
    .await;
    let object = pair.source.layout.checkpoint(folder).unwrap().join(foreign.as_str()).unwrap();
    pair.source.memory.put(&object, Bytes::from_static(b"content")).await.unwrap();
    assert!(stopped(&pair.copy(&CopyOptions::default()).await).is_none());
    assert_eq!(pair.target.counting_ids().await, [1, 2, 3, 4]);
    // Everything that was written is known for what it is, or the drop below would leave it.
    let mut owner_keeps_one = pair.target.coordinator(2, crate::support::keep(1)).await;
    owner_keeps_one.collect(icecore::gc::SweepScope::Everything, false).await.unwrap();
    assert!(pair.target.view().await.foreign.is_empty());
    owner_keeps_one.end().await.unwrap();
    owner_keeps_one = pair.target.coordinator(2, crate::support::keep(1)).await;
    owner_keeps_one.end().await.unwrap();
    pair.collect_target("foreign names").await;
}
