//! Objects appear whole, or not at all, and writers keep out of each other's way.

use futures::FutureExt as _;
use futures::future::join_all;

use super::place::{Fail, Outcome, PIECE_BYTES, Place, content, ensure};
use crate::store::{MAX_COMPONENT_BYTES, MAX_PATH_BYTES};

pub(super) async fn an_object_put_is_whole_at_first_sight(place: &Place) -> Outcome {
    for round in 0..8 {
        let path = place.path(&format!("put-{round}"))?;
        let size_bytes = 2 << 20;
        let bytes = content(&path, 0, size_bytes);
        place.watch(&path, size_bytes, place.store.put(&path, bytes)).await?;
    }
    Ok(())
}

pub(super) async fn an_object_being_streamed_is_not_seen_before_it_is_finished(place: &Place) -> Outcome {
    let path = place.path("streamed")?;
    let pieces = 12;
    let mut writer = place.store.create(&path).await?;
    place.expect_absent(&path, "after create").await?;
    for piece in 0..pieces {
        let offset = piece * PIECE_BYTES as u64;
        writer.write(content(&path, offset, PIECE_BYTES as u64)).await?;
        place.expect_absent(&path, &format!("after write {piece} and before finish")).await?;
    }
    place.watch(&path, pieces * PIECE_BYTES as u64, writer.finish()).await
}

pub(super) async fn a_put_that_is_dropped_leaves_a_whole_object_or_none(place: &Place) -> Outcome {
    let size_bytes = 1 << 20;
    for round in 0..8 {
        let path = place.path(&format!("dropped-{round}"))?;
        // Polled once, then dropped.
        let _ = place.store.put(&path, content(&path, 0, size_bytes)).now_or_never();
        for _ in 0..20 {
            place.look(&path, size_bytes).await?;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

pub(super) async fn a_dropped_writer_leaves_nothing(place: &Place) -> Outcome {
    abandon(place, false).await
}

pub(super) async fn an_aborted_writer_leaves_nothing(place: &Place) -> Outcome {
    abandon(place, true).await
}

async fn abandon(place: &Place, by_abort: bool) -> Outcome {
    for pieces in [0, 1, 7] {
        let path = place.path(&format!("new-folder/abandoned-{pieces}"))?;
        let mut writer = place.store.create(&path).await?;
        for piece in 0..pieces {
            writer.write(content(&path, piece * PIECE_BYTES as u64, PIECE_BYTES as u64)).await?;
        }
        if by_abort {
            writer.abort().await?;
        } else {
            drop(writer);
        }
        for _ in 0..20 {
            place.expect_absent(&path, "after the writer was given up").await?;
            tokio::task::yield_now().await;
        }
    }
    let left = place.listed_names().await?;
    ensure!(left.is_empty(), "writers that were given up left {left:?}");
    let children = place.children(&place.folder).await?;
    ensure!(children.is_empty(), "writers that were given up left the folders {children:?}");
    Ok(())
}

pub(super) async fn writers_side_by_side_do_not_disturb_each_other(place: &Place) -> Outcome {
    let write = |index: usize| async move {
        // Half of them share a folder, half make one of their own at the same moment.
        let folder = if index.is_multiple_of(2) { "shared".to_owned() } else { format!("own/{index}") };
        let path = place.path(&format!("{folder}/{index}"))?;
        let pieces = 1 + index as u64 % 4;
        let piece_bytes = 200_000 + index as u64;
        let mut writer = place.store.create(&path).await?;
        for piece in 0..pieces {
            writer.write(content(&path, piece * piece_bytes, piece_bytes)).await?;
            tokio::task::yield_now().await;
        }
        writer.finish().await?;
        place.put(&format!("{folder}/{index}-small"), index as u64).await?;
        Ok::<_, Fail>((path, pieces * piece_bytes))
    };
    let written: Vec<_> = join_all((0..place.options.writers).map(write)).await.into_iter().collect::<Outcome<_>>()?;
    for (path, size_bytes) in &written {
        place.expect_whole(path, *size_bytes).await?;
    }
    let listed = place.listed_names().await?.len();
    ensure!(listed == 2 * written.len(), "{} objects were written and {listed} are listed", 2 * written.len());
    Ok(())
}

pub(super) async fn names_that_differ_a_little_are_different_objects(place: &Place) -> Outcome {
    let names = [
        "a",
        "aa",
        "ab",
        "a.b",
        "a-b",
        "a_b",
        "a+b",
        "a=b",
        "a@b",
        "a%b",
        "A",
        "a.",
        "a%20",
        "a%2Fb",
        "0",
        "00",
        ".a",
        "x.tmp-",
        "tmp-x",
        "_metadata",
        "_metadata2",
        "-",
        "--",
        "...",
        "d/a",
        "d/ab",
        "d.e/a",
        "D/a",
    ];
    let mut written = Vec::new();
    for (index, name) in names.iter().enumerate() {
        written.push((place.put(name, 100 + index as u64).await?, 100 + index as u64));
    }
    for (path, size_bytes) in &written {
        place.expect_whole(path, *size_bytes).await?;
    }
    let mut sorted: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    sorted.sort();
    let listed = place.listed_names().await?;
    ensure!(listed == sorted, "the names {sorted:?} were written and {listed:?} are listed");
    Ok(())
}

pub(super) async fn the_longest_names_can_be_written(place: &Place) -> Outcome {
    let component = place.put(&"n".repeat(MAX_COMPONENT_BYTES), 7).await?;
    place.expect_whole(&component, 7).await?;
    let mut name = String::new();
    let room = MAX_PATH_BYTES.saturating_sub(place.folder.as_str().len() + 1);
    while name.len() < room {
        // Components of 99 bytes; one that would end in a slash is cut shorter by the last step.
        let left = room - name.len();
        let (length, slash) = if left > 101 { (99, "/") } else { (left, "") };
        name.push_str(&"p".repeat(length));
        name.push_str(slash);
    }
    let path = place.put(&name, 9).await?;
    ensure!(path.as_str().len() == MAX_PATH_BYTES, "the suite made a path of {} bytes", path.as_str().len());
    place.expect_whole(&path, 9).await
}
