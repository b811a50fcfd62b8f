//! Planning to drop checkpoints.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::StreamExt;

use super::holdings::Holdings;
use super::plan::{Dropped, GcPlan, PlannedObject, Reason, Refused, is_blocked};
use crate::error::Result;
use crate::layout::{CheckpointFolder, Place};
use crate::metadata::CheckpointMetadata;
use crate::ownership::{Blocker, CheckpointView, JobView};
use crate::store::{ObjectMeta, Store, StorePath};

/// What keeps a checkpoint from being dropped, if anything does. In this order: it does not count,
/// it cannot be read, everything is blocked, a pin or another job holds it, it is the newest (R1).
pub fn refusal(view: &JobView, folder: CheckpointFolder) -> Option<Refused> {
    let refused = |why: String| Some(Refused { folder, why });
    let Some(checkpoint) = view.checkpoints.get(&folder) else {
        return refused("it is no checkpoint that counts".to_owned());
    };
    if let Err(unreadable) = &checkpoint.content {
        return refused(format!("its index cannot be read: {}; only `icecore repair` removes it", unreadable.reason));
    }
    kept_by(view, folder).and_then(refused)
}

fn kept_by(view: &JobView, folder: CheckpointFolder) -> Option<String> {
    if let Some(blocker) = view.blocks_everything() {
        return Some(format!("{} cannot be read", blocker.object));
    }
    let holds: Vec<String> = view.holds(folder).map(|hold| hold.path.to_string()).collect();
    if !holds.is_empty() {
        return Some(format!("held by {}; remove the hold first", holds.join(", ")));
    }
    // Its number keeps later ones from being given twice (I3).
    let is_newest = view.newest().is_some_and(|newest| newest.folder.checkpoint == folder.checkpoint);
    is_newest.then(|| "it is the newest checkpoint; take another one first".to_owned())
}

/// Plans to drop checkpoints, each with the reason that people are told: their folders, and the
/// shared files that no other checkpoint that counts references.
///
/// A dry run: whether a checkpoint in flight holds one of these files is asked by the execution.
/// Work grows with all that the job keeps; a coordinator that has a registry uses [`plan_release`].
///
/// # Errors
/// What the store says of listing the folders.
pub async fn plan_drop(store: &dyn Store, view: &JobView, drops: &[(CheckpointFolder, String)]) -> Result<GcPlan> {
    let (mut plan, going) = choose(view, drops);
    let blockers = view.all_blockers();
    plan.block(&blockers);
    let staying: HashSet<StorePath> = view
        .checkpoints
        .values()
        .filter(|checkpoint| !going.contains(&checkpoint.folder))
        .filter_map(|checkpoint| checkpoint.content.as_ref().ok())
        .flat_map(|metadata| view.references(metadata))
        .collect();
    let mut freed = BTreeMap::new();
    for folder in &going {
        if let Some(Ok(metadata)) = view.checkpoints.get(folder).map(|checkpoint| &checkpoint.content) {
            note_shared(view, metadata, &mut freed);
        }
    }
    freed.retain(|path, _| !staying.contains(path));
    add_shared(&mut plan, &blockers, freed);
    add_folders(store, view, &mut plan, &blockers, &going, &staying).await?;
    Ok(plan.in_order())
}

/// Releases checkpoints in the registry and plans to delete what that frees: work grows with what
/// goes, not with what exists. No dry run, so execute the plan; a plan that is lost costs only time,
/// until the next sweep. Leave out what [`super::Collector::is_pinned`].
///
/// A checkpoint that counts, is not registered (its index could not be read at the claim, say, but
/// can be by now) and does not stand alone keeps what it references.
///
/// # Errors
/// What the store says of listing the folders.
pub async fn plan_release(
    store: &dyn Store,
    view: &JobView,
    holdings: &dyn Holdings,
    drops: &[(CheckpointFolder, String)],
) -> Result<GcPlan> {
    let (mut plan, going) = choose(view, drops);
    let blockers = view.all_blockers();
    plan.block(&blockers);
    let staying: HashSet<StorePath> = view
        .checkpoints
        .values()
        .filter(|checkpoint| !going.contains(&checkpoint.folder) && !is_accounted_for(checkpoint, holdings))
        .filter_map(|checkpoint| checkpoint.content.as_ref().ok())
        .flat_map(|metadata| view.references(metadata))
        .collect();
    // First what can fail: released twice, a checkpoint frees nothing.
    add_folders(store, view, &mut plan, &blockers, &going, &staying).await?;
    let mut freed = BTreeMap::new();
    for folder in &going {
        for (name, size_bytes) in holdings.release(folder.checkpoint) {
            freed.insert(view.layout.shared_object(&name)?, size_bytes);
        }
    }
    freed.retain(|path, _| !staying.contains(path));
    add_shared(&mut plan, &blockers, freed);
    Ok(plan.in_order())
}

/// Whether no shared object, and none in another checkpoint's folder, is kept by `checkpoint` unknown
/// to `holdings`.
pub(super) fn is_accounted_for(checkpoint: &CheckpointView, holdings: &dyn Holdings) -> bool {
    checkpoint.stands_alone || holdings.is_registered(checkpoint.folder.checkpoint)
}

/// Plans to give up a checkpoint that counts but whose index cannot be read, so that it blocks nothing
/// any more (4.6): its folder goes, and what only it referenced goes with the next sweep. For
/// `repair`, on a person's word: the object may be sound and only out of reach.
///
/// # Errors
/// What the store says of listing the folder.
pub async fn plan_repair(store: &dyn Store, view: &JobView, folder: CheckpointFolder) -> Result<GcPlan> {
    let mut plan = GcPlan::empty(view.layout.job().clone());
    let blockers = view.all_blockers();
    plan.block(&blockers);
    let refused = match view.checkpoints.get(&folder).map(|checkpoint| &checkpoint.content) {
        Some(Err(_)) => kept_by(view, folder),
        Some(Ok(_)) => Some("its index can be read; drop it instead".to_owned()),
        None => Some("it is no checkpoint that counts".to_owned()),
    };
    if let Some(why) = refused {
        plan.refused.push(Refused { folder, why });
        return Ok(plan);
    }
    let why = "its index cannot be read, and it was given up".to_owned();
    plan.dropped.push(Dropped { folder, why });
    add_folders(store, view, &mut plan, &blockers, &BTreeSet::from([folder]), &HashSet::new()).await?;
    Ok(plan.in_order())
}

fn choose(view: &JobView, drops: &[(CheckpointFolder, String)]) -> (GcPlan, BTreeSet<CheckpointFolder>) {
    let mut plan = GcPlan::empty(view.layout.job().clone());
    let mut going = BTreeSet::new();
    for (folder, why) in drops {
        if going.contains(folder) {
            continue;
        }
        if let Some(refused) = refusal(view, *folder) {
            plan.refused.push(refused);
        } else {
            going.insert(*folder);
            plan.dropped.push(Dropped { folder: *folder, why: why.clone() });
        }
    }
    (plan, going)
}

/// Notes the shared objects of this job that `metadata` references, with the length that is known.
fn note_shared(view: &JobView, metadata: &CheckpointMetadata, freed: &mut BTreeMap<StorePath, u64>) {
    for (file, path) in metadata.files().filter_map(|file| Some((file, view.object_at(metadata, file)?))) {
        if matches!(Place::of(&view.layout, &path), Some(Place::Shared(_))) {
            let end_bytes = file.offset_bytes.saturating_add(file.stored_size_bytes);
            let size_bytes = freed.entry(path).or_default();
            *size_bytes = end_bytes.max(*size_bytes);
        }
    }
}

fn add_shared(plan: &mut GcPlan, blockers: &[Blocker], freed: BTreeMap<StorePath, u64>) {
    for (path, size_bytes) in freed {
        let Some(place) = path.file_name().parse().ok().map(Place::Shared) else {
            continue;
        };
        if is_blocked(blockers, &place) {
            plan.add_blocked(size_bytes);
        } else {
            plan.add(PlannedObject { path, size_bytes, reason: Reason::UnreferencedShared, place });
        }
    }
}

async fn add_folders(
    store: &dyn Store,
    view: &JobView,
    plan: &mut GcPlan,
    blockers: &[Blocker],
    going: &BTreeSet<CheckpointFolder>,
    staying: &HashSet<StorePath>,
) -> Result<()> {
    for folder in going {
        let root = view.layout.checkpoint(*folder)?;
        let mut listing = store.list(Some(&root));
        while let Some(object) = listing.next().await {
            let ObjectMeta { path, size_bytes } = object?;
            let (reason, place) = match Place::of(&view.layout, &path) {
                Some(place @ Place::Metadata(_)) => (Reason::DroppedIndex, place),
                Some(place @ Place::Private(_)) => (Reason::DroppedPrivate, place),
                _ => {
                    plan.add_foreign(path);
                    continue;
                }
            };
            if is_blocked(blockers, &place) || staying.contains(&path) {
                plan.add_blocked(size_bytes);
            } else {
                plan.add(PlannedObject { path, size_bytes, reason, place });
            }
        }
    }
    Ok(())
}
