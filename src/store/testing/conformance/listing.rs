//! Listings are complete, in order, and know folders from names.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::place::{Outcome, Place, ensure};
use crate::store::Child;

/// How many objects are written at once to fill a folder.
const FILLERS: usize = 32;

async fn fill(place: &Place, names: &[String]) -> Outcome {
    let puts: Vec<_> = names.iter().map(|name| place.put(name, name.len() as u64)).collect();
    stream::iter(puts).buffer_unordered(FILLERS).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// `names`, and nothing else, is listed, in order, each with the size that `fill` gave it.
async fn expect_listed(place: &Place, names: &[String]) -> Outcome {
    let expected: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let objects = place.list(&place.folder).await?;
    for pair in objects.windows(2) {
        if let [first, second] = pair {
            ensure!(first.path < second.path, "{} is listed before {}", first.path, second.path);
        }
    }
    let mut seen = BTreeSet::new();
    for object in &objects {
        let name = object.path.below(&place.folder).unwrap_or("(not in the folder)");
        ensure!(expected.contains(name), "{} is listed and was never written", object.path);
        ensure!(object.size_bytes == name.len() as u64, "{} is listed with a wrong size: {object:?}", object.path);
        seen.insert(name);
    }
    let missing: Vec<_> = expected.difference(&seen).take(3).collect();
    ensure!(
        missing.is_empty(),
        "of {} objects {} are listed; missing are {missing:?} and perhaps others",
        expected.len(),
        seen.len()
    );
    Ok(())
}

pub(super) async fn what_was_written_is_listed_at_once(place: &Place) -> Outcome {
    for round in 0..20_u64 {
        let name = format!("folder-{}/{round}", round % 3);
        let path = if round.is_multiple_of(2) {
            place.put(&name, round).await?
        } else {
            let path = place.path(&name)?;
            let mut writer = place.store.create(&path).await?;
            writer.write(super::place::content(&path, 0, round)).await?;
            writer.finish().await?;
            path
        };
        place.expect_whole(&path, round).await?;
        let everything: Vec<_> = place.store.list(None).try_collect().await?;
        ensure!(everything.iter().any(|object| object.path == path), "{path} is not in the listing of everything");
    }
    Ok(())
}

pub(super) async fn thousands_of_objects_are_listed_completely_and_in_order(place: &Place) -> Outcome {
    // Written in an order that is not theirs.
    let count = place.options.listed_objects;
    let names: Vec<String> = (0..count).map(|i| format!("{:06}", (i * 7919) % count.max(1))).collect();
    let names: Vec<String> = names.into_iter().collect::<BTreeSet<_>>().into_iter().rev().collect();
    fill(place, &names).await?;
    expect_listed(place, &names).await?;
    let children = place.children(&place.folder).await?.len();
    ensure!(children == names.len(), "a folder of {} objects has {children} children", names.len());
    Ok(())
}

pub(super) async fn a_deep_tree_is_listed_completely(place: &Place) -> Outcome {
    let mut names = Vec::new();
    let mut folder = String::new();
    for depth in 0..60 {
        names.push(format!("{folder}leaf-{depth}"));
        names.push(format!("{folder}side-{depth}/x"));
        folder.push_str("d/");
    }
    fill(place, &names).await?;
    expect_listed(place, &names).await
}

pub(super) async fn the_order_is_that_of_whole_paths(place: &Place) -> Outcome {
    // `%` to `.` sort before the slash, digits and letters behind it.
    let names =
        ["a/z", "a-/b", "a-b", "a.b", "a%", "a+", "a0", "a=", "aa/b", "A/b", "a/b/c", "a/b-c", "a/b.d/e", "_", "Z"];
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    fill(place, &names).await?;
    expect_listed(place, &names).await
}

pub(super) async fn a_prefix_is_a_folder_and_not_a_piece_of_a_name(place: &Place) -> Outcome {
    for name in ["job-1/x", "job-1/deep/y", "job-10/x", "job-1-a/x", "job-1.b", "job"] {
        place.put(name, 3).await?;
    }
    let folder = place.path("job-1")?;
    let listed: Vec<_> = place.list(&folder).await?.into_iter().map(|object| object.path.as_str().to_owned()).collect();
    let expected = [format!("{folder}/deep/y"), format!("{folder}/x")];
    ensure!(listed == expected, "the listing of {folder} is {listed:?}");
    let children: Vec<_> = place.children(&folder).await?.into_iter().map(|child| child.name).collect();
    ensure!(children == ["deep", "x"], "the children of {folder} are {children:?}");
    let object = place.path("job")?;
    ensure!(place.list(&object).await?.is_empty(), "an object was listed as if it were a folder");
    Ok(())
}

pub(super) async fn children_are_the_names_directly_below_each_once(place: &Place) -> Outcome {
    for name in ["f/a", "f/b", "f/g/h/i", "o1", "o-2", "e/x"] {
        place.put(name, name.len() as u64).await?;
    }
    let child = |name: &str, size_bytes| Child { name: name.to_owned(), size_bytes };
    let children = place.children(&place.folder).await?;
    let expected = [child("e", None), child("f", None), child("o-2", Some(3)), child("o1", Some(2))];
    ensure!(children == expected, "the children are {children:?}");
    let below = place.children(&place.path("f")?).await?;
    let expected = [child("a", Some(3)), child("b", Some(3)), child("g", None)];
    ensure!(below == expected, "the children of f are {below:?}");
    let top = place.store.list_children(None).await?;
    let suite = place.folder.as_str().split('/').next().unwrap_or_default();
    ensure!(top.contains(&child(suite, None)), "the store's children do not have {suite}: {top:?}");
    Ok(())
}

pub(super) async fn a_missing_folder_is_empty(place: &Place) -> Outcome {
    for name in ["nothing", "nothing/below/it"] {
        let folder = place.path(name)?;
        let listed = place.list(&folder).await.map_err(|fail| format!("list of a missing folder: {fail}"))?;
        ensure!(listed.is_empty(), "a missing folder lists {listed:?}");
        let children = place.children(&folder).await.map_err(|fail| format!("children of a missing folder: {fail}"))?;
        ensure!(children.is_empty(), "a missing folder has the children {children:?}");
    }
    Ok(())
}

pub(super) async fn a_folder_goes_with_its_last_object(place: &Place) -> Outcome {
    let first = place.put("folder/deep/1", 1).await?;
    let second = place.put("folder/deep/2", 1).await?;
    let third = place.put("folder/beside", 1).await?;
    place.delete_all(&[first]).await?;
    let deep = place.path("folder/deep")?;
    ensure!(place.children(&deep).await?.len() == 1, "a delete took a folder that had another object");
    place.delete_all(&[second]).await?;
    let names: Vec<_> = place.children(&place.path("folder")?).await?.into_iter().map(|child| child.name).collect();
    ensure!(names == ["beside"], "an empty folder is still there: {names:?}");
    place.delete_all(&[third]).await?;
    let left = place.children(&place.folder).await?;
    ensure!(left.is_empty(), "empty folders are still there: {left:?}");
    Ok(())
}
