//! `show` without a checkpoint: the job, its owner, and what is in the way of deletions.

use std::collections::BTreeSet;

use serde::Serialize;

use super::output::{Done, one_line};
use super::place::Place;
use super::text::count;
use crate::error::Result;

#[derive(Debug, Serialize)]
struct JobNode {
    job: String,
    store: String,
    checkpoints: u64,
    newest_checkpoint: Option<u64>,
    uncounted_folders: u64,
    epochs: u64,
    newest_epoch: Option<String>,
    /// The epoch whose owner may be alive.
    living_owner: Option<String>,
    pins: u64,
    refs: u64,
    /// Objects that are known to be damaged, and so not shared by later checkpoints.
    damaged_objects: u64,
    blockers: Vec<BlockerNode>,
    foreign: Vec<String>,
}

#[derive(Debug, Serialize)]
struct BlockerNode {
    object: String,
    reason: String,
    blocks: &'static str,
}

pub(super) async fn run(place: &Place) -> Result<Done> {
    let (job, view) = place.view().await?;
    let blockers = view.all_blockers();
    let blockers = blockers.iter().map(|blocker| BlockerNode {
        object: blocker.object.to_string(),
        reason: blocker.reason.clone(),
        blocks: blocker.scope.as_str(),
    });
    let node = JobNode {
        job: job.layout.job().to_string(),
        store: job.store.describe(),
        checkpoints: view.checkpoints.len() as u64,
        newest_checkpoint: view.newest().map(|newest| newest.folder.checkpoint.0),
        uncounted_folders: view.uncounted.len() as u64,
        epochs: view.epochs.known.len() as u64,
        newest_epoch: view.epochs.greatest().map(|epoch| epoch.to_string()),
        living_owner: view.epochs.living_owner().map(|epoch| epoch.to_string()),
        pins: view.pins.len() as u64,
        refs: view.refs.len() as u64,
        damaged_objects: view.distrusted.iter().map(|record| record.object).collect::<BTreeSet<_>>().len() as u64,
        blockers: blockers.collect(),
        foreign: view.foreign.iter().map(ToString::to_string).collect(),
    };
    Done::new(text(&node), &node)
}

fn text(node: &JobNode) -> String {
    let owner = match (&node.living_owner, &node.newest_epoch) {
        (Some(epoch), _) => format!("epoch {epoch} has not ended: its owner is alive, or was killed"),
        (None, Some(epoch)) => format!("nobody; epoch {epoch} is over or never started"),
        (None, None) => "nobody yet".to_owned(),
    };
    let newest = node.newest_checkpoint.map(|newest| format!(", the newest {newest}")).unwrap_or_default();
    let mut lines = vec![
        format!("job {} on {}", node.job, node.store),
        format!("  checkpoints  {}{newest}", node.checkpoints),
        format!("  owner        {owner}"),
        format!("  held         {}, {}", count(node.pins, "pin"), count(node.refs, "ref")),
    ];
    if node.damaged_objects > 0 {
        let damaged = count(node.damaged_objects, "damaged object");
        lines.push(format!(
            "  damaged      {damaged}, shared by no later checkpoint; `icecore verify --all` names them"
        ));
    }
    if node.uncounted_folders > 0 {
        lines
            .push(format!("  uncounted    {}; `icecore list --all` says why", count(node.uncounted_folders, "folder")));
    }
    for blocker in &node.blockers {
        lines.push(format!("  blocks deletion of {}: {}: {}", blocker.blocks, blocker.object, blocker.reason));
    }
    for foreign in &node.foreign {
        lines.push(format!("  unknown name {foreign}: left alone"));
    }
    lines.iter().map(|line| one_line(line) + "\n").collect()
}
