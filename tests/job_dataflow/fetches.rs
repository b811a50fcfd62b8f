//! What the workers of a job fetch: what `_metadata` says of their key groups, and no more.

use std::collections::BTreeSet;
use std::fs;

use icecore::env::Env;
use icecore::keygroup::{KeyGroupRange, MaxParallelism};
use icecore::layout::{FileKind, JobId, JobLayout, SharedName};
use icecore::restore::{Checkpoint, read_checkpoint, verify_checkpoint};
use icecore::store::StorePath;
use icecore::transfer::{NoProgress, TransferLimits};

use crate::dataflow::KEY_GROUPS;
use crate::job::{Job, Settings, Turn, eventually};

/// Objects, by name.
type Names = BTreeSet<String>;

/// What a worker with these key groups has to fetch, and what else the checkpoint has.
fn divided(checkpoint: &Checkpoint, groups: KeyGroupRange) -> (Names, Names) {
    let (mut needed, mut others) = (Names::new(), Names::new());
    for part in checkpoint.metadata.operators.iter().flat_map(|operator| &operator.subtasks) {
        let owned = part.key_groups.unwrap();
        for file in &part.files {
            let name = checkpoint.stored_file(file).unwrap().object.to_string();
            let of_file = file.key_groups.unwrap_or(owned);
            let is_needed = owned.intersection(groups).is_some() && of_file.intersection(groups).is_some();
            if is_needed {
                needed.insert(name)
            } else {
                others.insert(name)
            };
        }
    }
    (needed, others)
}

/// What the newest worker of a number has read, but for `_metadata`.
fn fetched(settings: &Settings, worker: u32) -> Names {
    let names = fs::read_to_string(settings.fetched(worker)).unwrap();
    names.lines().filter(|name| !name.ends_with("/_metadata")).map(str::to_owned).collect()
}

fn last_part(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

/// Workers go on from a checkpoint of `before` workers, on machines that have nothing. Returns how many objects some did without.
async fn restores(settings: &Settings, before: u32, now: u32) -> usize {
    let job = Job::start(&Settings { workers: before, ..settings.clone() }).await;
    job.moves_on().await;
    job.moves_on().await;
    job.manager.cancel();
    job.ended().await;
    let checkpoint = job.manager.coordinator().latest().await.unwrap().unwrap();
    fs::remove_dir_all(settings.root.join("local")).unwrap_or_default();
    (0..before).for_each(|worker| fs::remove_file(settings.fetched(worker)).unwrap());

    let job = Job::start(&Settings { workers: now, ..settings.clone() }).await;
    job.moves_on().await;
    let layout = JobLayout::new(JobId::new("count").unwrap()).unwrap();
    let path = layout.checkpoint(checkpoint.metadata.folder()).unwrap();
    assert_eq!(job.manager.report().restored_from.unwrap().path, path.to_string());
    let (mut spared, mut owned) = (0, Vec::new());
    for worker in 0..now {
        let groups = MaxParallelism::new(KEY_GROUPS).unwrap().range_of_subtask(worker, now).unwrap();
        let (needed, others) = divided(&checkpoint, groups);
        assert_eq!(fetched(settings, worker), needed, "worker {worker} of {now}, key groups {groups}");
        spared += others.difference(&needed).count();
        owned.extend(groups.iter());
    }
    assert_eq!(owned, (0..KEY_GROUPS as u16).collect::<Vec<_>>(), "each key group has one owner");
    let files = job.manager.report().recovery;
    assert!(files.fetched_files > 0 && files.linked_files == 0, "{files:?}");
    job.manager.cancel();
    job.ended().await;
    spared
}

async fn restores_in_every_way(settings: &Settings, spares_halves: bool) {
    assert_eq!(restores(settings, 1, 1).await, 0, "0-9 takes over 0-9");
    let halves = restores(settings, 1, 2).await;
    assert!(halves > 0 || !spares_halves, "0-4 and 5-9 take over 0-9");
    assert!(restores(settings, 2, 2).await > 0, "0-4 and 5-9 take over 0-4 and 5-9");
    assert_eq!(restores(settings, 2, 1).await, 0, "0-9 takes over 0-4 and 5-9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_with_state_in_memory_fetch_what_overlaps_their_key_groups_and_nothing_else() {
    let folder = Turn::come().await;
    restores_in_every_way(&Settings::new(folder.path(), 1_000_000, 2_000), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_with_state_in_rocksdb_fetch_what_overlaps_their_key_groups_and_nothing_else() {
    let folder = Turn::come().await;
    // A table has rows of all key groups of the worker that wrote it.
    let settings = Settings { is_rocksdb: true, ..Settings::new(folder.path(), 1_000_000, 1_000) };
    restores_in_every_way(&settings, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_run_left_on_the_machine_is_linked_and_not_fetched() {
    let folder = Turn::come().await;
    let settings = Settings { is_rocksdb: true, ..Settings::new(folder.path(), 1_000_000, 1_000) };
    let job = Job::start(&settings).await;
    job.moves_on().await;
    job.moves_on().await;
    crate::job_process::signal(job.process(0), "KILL");
    eventually("the next generation has processed a record", || async {
        let report = job.manager.report();
        report.generation > 1 && report.state == "running" && report.recovery.total_ms.is_some()
    })
    .await;
    let report = job.manager.report();
    assert!(report.recovery.linked_files > 0, "{:?}", report.recovery);
    let path = StorePath::new(report.restored_from.unwrap().path).unwrap();
    let checkpoint = read_checkpoint(settings.store(), Some(path)).await.unwrap();
    let tables = checkpoint.metadata.files().filter(|file| file.kind == FileKind::Sst).count();
    let is_table = |name: &&String| name.parse().is_ok_and(|name: SharedName| name.kind == FileKind::Sst);
    let names: Names = (0..2).flat_map(|worker| fetched(&settings, worker)).map(|path| last_part(&path)).collect();
    // RocksDB may have compacted some away since.
    assert_eq!(names.iter().filter(is_table).count() + report.recovery.linked_files as usize, tables);
    job.manager.cancel();
    job.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_has_lost_and_workers_have_still_is_stored_anew() {
    let folder = Turn::come().await;
    // Seldom: compactions of what was restored would soon take the place of what is lost.
    let settings = Settings { is_rocksdb: true, interval_ms: 6_000, ..Settings::new(folder.path(), 20_000, 1_000) };
    let job = Job::start(&settings).await;
    // No more: RocksDB would compact what was there away, here, too.
    job.moves_on().await;
    let shared = settings.root.join("store/job-count/shared");
    let is_table = |file: &fs::DirEntry| file.file_name().to_str().unwrap().ends_with(".sst");
    let mut lost = Vec::new();
    // What is there now; whatever a checkpoint in flight adds is sound.
    for file in fs::read_dir(&shared).unwrap().map(Result::unwrap).filter(is_table) {
        fs::remove_file(file.path()).unwrap();
        lost.push(file.path());
    }
    crate::job_process::signal(job.process(0), "KILL");
    let newest_is_sound = || async {
        let Ok(Some(newest)) = job.manager.coordinator().latest().await else { return false };
        let env = Env::system().unwrap();
        let report = verify_checkpoint(&env, &newest, true, TransferLimits::default(), &NoProgress).await;
        job.generation() > 1 && report.is_ok_and(|report| report.is_sound())
    };
    let is_told = || async { job.manager.newest_events().iter().any(|event| event.kind == "lost") };
    eventually("that it is noticed", is_told).await;
    eventually("a sound checkpoint", newest_is_sound).await;
    fs::remove_dir_all(settings.root.join("local")).unwrap();
    job.manager.cancel();
    job.ended().await;
    let job = Job::start(&settings).await;
    assert_eq!(job.ends().await, icecore::job::Ending::Finished);
    crate::dataflow::assert_exact(&settings.outputs(), settings.end);
}
