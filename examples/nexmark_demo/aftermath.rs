//! After the job: collect, verify what is retained, look at the store.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use icecore::coordinator::Coordinator;
use icecore::env::Env;
use icecore::gc::{GcPlan, SweepScope};
use icecore::layout::JobId;
use icecore::metadata::Location;
use icecore::restore::{Checkpoint, read_checkpoint, verify_checkpoint};
use icecore::store::{ObjectMeta, StorePath, StoreRef};
use icecore::transfer::{NoProgress, TransferLimits};
use icecore::{Error, ErrorKind, Result};

use crate::job::{JOB, coordinator_options, operators};
use crate::screen::{Screen, count, size};

/// Sweeps until a sweep finds nothing: two when nothing fails (I5).
const MAX_SWEEPS: usize = 3;

/// Claims the job, removes what nothing references, and checks what is left.
pub async fn collect_and_verify(store: StoreRef, env: &Env, parallelism: u32, screen: &Screen) -> Result<()> {
    let options = coordinator_options("collection");
    let job = JobId::new(JOB)?;
    let coordinator =
        Coordinator::start(store.clone(), job, operators(parallelism)?, env.clone(), options, Vec::new()).await?;
    for sweep in 1..=MAX_SWEEPS {
        let (plan, report) = coordinator.collect(SweepScope::Everything, false).await?;
        if plan.is_empty() {
            break;
        }
        if sweep == MAX_SWEEPS {
            return Err(Error::new(ErrorKind::Internal, "collect", "there is always more to collect"));
        }
        screen.line("   nothing references these, so they go:");
        for (reason, (objects, bytes)) in by_reason(&plan) {
            screen.line(format_args!("   {:>4} objects {:>9}  {reason}", count(objects), size(bytes)));
        }
        screen.line(format_args!("   deleted: {} objects, {}", report.deleted_objects, size(report.deleted_bytes)));
    }
    let mut retained = Vec::new();
    for done in coordinator.completed() {
        let folder = coordinator.layout().checkpoint(done.folder)?;
        let checkpoint = read_checkpoint(store.clone(), Some(folder)).await?;
        verify(env, &checkpoint, screen).await?;
        retained.push(checkpoint);
    }
    let shared = coordinator.layout().shared()?;
    coordinator.end().await?;
    check_exact(&store, &shared, &retained, screen).await
}

fn by_reason(plan: &GcPlan) -> BTreeMap<&'static str, (u64, u64)> {
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for object in &plan.objects {
        let (objects, bytes) = sums.entry(object.reason.as_str()).or_default();
        (*objects, *bytes) = (*objects + 1, *bytes + object.size_bytes);
    }
    sums
}

async fn verify(env: &Env, checkpoint: &Checkpoint, screen: &Screen) -> Result<()> {
    let report = verify_checkpoint(env, checkpoint, true, TransferLimits::default(), &NoProgress).await?;
    if let Some(damage) = report.damaged.first() {
        return Err(Error::corrupt("verify", &damage.object, damage.reason.clone()));
    }
    screen.line(format_args!(
        "   checkpoint {:>3}: {} files, {}, every byte hashed: sound",
        checkpoint.metadata.checkpoint,
        report.files,
        size(report.read_bytes)
    ));
    Ok(())
}

/// `shared/` holds exactly what the retained checkpoints reference.
async fn check_exact(store: &StoreRef, shared: &StorePath, retained: &[Checkpoint], screen: &Screen) -> Result<()> {
    let stored: BTreeSet<StorePath> = list(store, shared).await?.into_iter().map(|object| object.path).collect();
    let files = retained.iter().flat_map(|checkpoint| checkpoint.metadata.files());
    let referenced: BTreeSet<StorePath> = files
        .filter_map(|file| match &file.location {
            Location::InRoot(path) => Some(path.clone()),
            Location::InCheckpoint(_) => None,
        })
        .collect();
    if let Some(odd) = stored.symmetric_difference(&referenced).next() {
        let what = if stored.contains(odd) { "nothing references it" } else { "it is referenced and missing" };
        return Err(Error::new(ErrorKind::Internal, "check the shared files", what).with_object(odd));
    }
    screen.line(format_args!(
        "   shared files on the store: {}; referenced by these checkpoints: {}, the same ones",
        stored.len(),
        referenced.len()
    ));
    Ok(())
}

async fn list(store: &StoreRef, folder: &StorePath) -> Result<Vec<ObjectMeta>> {
    let mut objects = Vec::new();
    let mut listing = store.list(Some(folder));
    while let Some(object) = listing.next().await {
        objects.push(object?);
    }
    Ok(objects)
}

/// Prints the job's folder: the newest checkpoint in full, of the rest the sums.
pub async fn print_tree(store: &StoreRef, screen: &Screen) -> Result<()> {
    let root = StorePath::new(format!("job-{JOB}"))?;
    let objects = list(store, &root).await?;
    let mut folders: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for object in &objects {
        let below = object.path.below(&root).unwrap_or_default();
        let (folder, rest) = below.split_once('/').unwrap_or((".", below));
        folders.entry(folder).or_default().push((rest, object.size_bytes));
    }
    let newest = folders.keys().filter_map(|name| Some((checkpoint_number(name)?, *name))).max();
    screen.line(format_args!("   {root}/"));
    for (folder, files) in &folders {
        let bytes: u64 = files.iter().map(|(_, size_bytes)| size_bytes).sum();
        screen.line(format_args!("     {:<28} {:>3} files {:>9}", format!("{folder}/"), files.len(), size(bytes)));
        if newest.is_some_and(|(_, name)| name == *folder) {
            print_checkpoint(files, screen);
        }
        if *folder == "shared"
            && let Some((name, size_bytes)) = files.first()
        {
            let (hash, rest) = name.split_at_checked(12).unwrap_or((name, ""));
            let kind = rest.rsplit_once('.').map_or("", |(_, kind)| kind);
            screen.line(format_args!(
                "       {hash}...-<tag>.{kind}  {}, named by its SHA-256; and so on",
                size(*size_bytes)
            ));
        }
    }
    Ok(())
}

fn checkpoint_number(folder: &str) -> Option<u64> {
    folder.strip_prefix("cp-")?.split_once('.')?.0.parse().ok()
}

fn print_checkpoint(files: &[(&str, u64)], screen: &Screen) {
    let mut subtasks: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (name, size_bytes) in files {
        let (folder, _) = name.rsplit_once('/').unwrap_or((name, ""));
        let (count, bytes) = subtasks.entry(folder).or_default();
        (*count, *bytes) = (*count + 1, *bytes + size_bytes);
    }
    for (folder, (files, bytes)) in subtasks {
        match folder {
            "_metadata" => {
                screen.line(format_args!("       {folder:<26} {:>13}  <- its appearance is the commit", size(bytes)))
            }
            _ => screen.line(format_args!("       {:<26} {files:>3} files {:>9}", format!("{folder}/"), size(bytes))),
        }
    }
}
