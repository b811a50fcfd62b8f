//! A delete removes what it names, at once, and nothing else.

use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::join;

use super::place::{Outcome, Place, content, ensure};
use crate::store::StorePath;

impl Place {
    /// Deletes `paths`; every answer must be `Ok`.
    pub(super) async fn delete_all(&self, paths: &[StorePath]) -> Outcome {
        let answers = self.store.delete(paths).await;
        ensure!(answers.len() == paths.len(), "{} deletes got {} answers", paths.len(), answers.len());
        for (path, answer) in paths.iter().zip(answers) {
            answer.map_err(|error| format!("the delete of {path} failed: {error:?}"))?;
        }
        Ok(())
    }
}

pub(super) async fn a_deleted_object_is_gone_at_once(place: &Place) -> Outcome {
    place.put("kept", 1).await?;
    for round in 0..20 {
        let path = place.put(&format!("gone-{round}"), 10).await?;
        // Seen by everyone first, so that whoever remembers it gives it away below.
        place.expect_whole(&path, 10).await?;
        place.delete_all(std::slice::from_ref(&path)).await?;
        place.expect_absent(&path, "after its delete").await?;
        let everything: Vec<_> = place.store.list(None).try_collect().await?;
        ensure!(everything.iter().all(|object| object.path != path), "{path} is listed after its delete");
    }
    Ok(())
}

pub(super) async fn deleting_what_is_missing_is_ok_and_answers_are_one_each(place: &Place) -> Outcome {
    let first = place.put("first", 1).await?;
    let last = place.put("folder/last", 1).await?;
    let missing = [place.path("missing")?, place.path("no/such/folder")?, place.path("first/below-an-object")?];
    let [missing_one, missing_two, missing_three] = missing.clone();
    place.delete_all(&[missing_one, first.clone(), missing_two, last.clone(), missing_three]).await?;
    place.expect_absent(&first, "after a batch").await?;
    place.expect_absent(&last, "after a batch").await?;
    place.delete_all(&[first, last]).await.map_err(|fail| format!("again: {fail}"))?;
    place.delete_all(&missing).await?;
    place.delete_all(&[]).await
}

pub(super) async fn a_delete_hits_only_what_it_names(place: &Place) -> Outcome {
    let names = ["a", "ab", "a.b", "a-", "folder/a", "folder/ab", "folder-2/a", "b/a"];
    for name in names {
        place.put(name, 20).await?;
    }
    let gone = [place.path("a")?, place.path("folder/a")?];
    // A folder is no object: naming one deletes nothing, and is no error.
    let folders = [place.path("folder")?, place.path("folder-2")?, place.path("b")?];
    place.delete_all(&[gone.as_slice(), folders.as_slice()].concat()).await?;
    for name in names {
        let path = place.path(name)?;
        if gone.contains(&path) {
            place.expect_absent(&path, "after its delete").await?;
        } else {
            place.expect_whole(&path, 20).await.map_err(|fail| format!("beside deletes of others: {fail}"))?;
        }
    }
    Ok(())
}

pub(super) async fn a_writer_survives_the_deletes_that_empty_its_folder(place: &Place) -> Outcome {
    let mut victim = place.put("folder/deep/0", 30).await?;
    for round in 1..200 {
        let path = place.path(&format!("folder/deep/{round}"))?;
        let victims = [victim];
        let (written, deleted) = join(place.store.put(&path, content(&path, 0, 30)), place.delete_all(&victims)).await;
        written.map_err(|error| format!("a put failed beside a delete in its folder: {error:?}"))?;
        deleted?;
        place.expect_whole(&path, 30).await?;
        victim = path;
    }
    Ok(())
}

pub(super) async fn housekeeping_leaves_objects_alone_and_breaks_no_promise(place: &Place) -> Outcome {
    let kept = place.put("folder/kept", 40).await?;
    let path = place.path("folder/being-written")?;
    let mut writer = place.store.create(&path).await?;
    writer.write(content(&path, 0, 25)).await?;
    place.store.remove_unfinished(Some(&place.folder), Duration::ZERO).await?;
    place.expect_whole(&kept, 40).await?;
    writer.write(content(&path, 25, 25)).await?;
    match writer.finish().await {
        Ok(()) => place.expect_whole(&path, 50).await,
        Err(_) => place.expect_absent(&path, "after its writer was refused").await,
    }
}
