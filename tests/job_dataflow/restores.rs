//! What is restored: a chosen checkpoint, and what happens if it is damaged.

use std::fs;
use std::path::PathBuf;

use icecore::env::Env;
use icecore::job::{Ending, Phase};
use icecore::layout::JobId;
use icecore::layout::JobLayout;
use icecore::restore::verify_checkpoint;
use icecore::store::StoreRef;
use icecore::transfer::{NoProgress, TransferLimits};

use crate::dataflow::{committed, expected};
use crate::job::{Job, Settings, Turn, eventually};
use crate::job_process::signal;
use crate::test_store::{Damage, damage};

/// Flips a byte of one object that only the newest checkpoint references: in the file of the operator's state.
async fn damage_newest(job: &Job, settings: &Settings) {
    let latest = job.manager.coordinator().latest().await.unwrap().unwrap();
    let view = job.manager.coordinator().view();
    let objects: Vec<_> = view.references(&latest.metadata).collect();
    let store: StoreRef = settings.store();
    for object in &objects {
        let is_own = view.referenced_by(object).count() == 1;
        if is_own && store.stat(object).await.unwrap().size_bytes > 0 {
            damage(&store, object, Damage::FlippedByte).await;
            return;
        }
    }
    panic!("nothing is the newest one's alone");
}

/// A job that has completed some checkpoints, the newest of which is damaged, and that is over.
async fn damaged(settings: &Settings) -> PathBuf {
    let job = Job::start(settings).await;
    for _ in 0..3 {
        job.moves_on().await;
    }
    job.manager.cancel();
    job.ends().await;
    damage_newest(&job, settings).await;
    settings.outputs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_in_memory_s_encoding_fails_the_job_before_its_first_record() {
    let folder = Turn::come().await;
    fails(&Settings::new(folder.path(), 20_000, 5_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_of_rocksdb_fails_the_job_before_its_first_record() {
    let folder = Turn::come().await;
    fails(&Settings { is_rocksdb: true, ..Settings::new(folder.path(), 10_000, 2_000) }).await;
}

async fn fails(settings: &Settings) {
    let outputs = damaged(settings).await;
    // What this machine still has would be used instead of what is damaged.
    fs::remove_dir_all(settings.root.join("local")).unwrap_or_default();
    let before = committed(&outputs);
    let job = Job::start(settings).await;
    let Ending::Failed(why) = job.ends().await else { panic!("{:?}", job.manager.status()) };
    assert!(why.contains("damaged"), "{why}");
    let failure = job.manager.status().last_failure.unwrap();
    assert!(failure.contains("damaged"), "{failure}");
    assert_eq!(committed(&outputs), before, "something came out of a damaged state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_may_fall_back_goes_on_from_the_newest_sound_checkpoint_and_loses_nothing() {
    let folder = Turn::come().await;
    let settings = Settings { falls_back: true, ..Settings::new(folder.path(), 20_000, 5_000) };
    let outputs = damaged(&settings).await;
    let job = Job::start(&settings).await;
    assert_eq!(job.ends().await, Ending::Finished);
    let failure = job.manager.status().last_failure.unwrap();
    assert!(failure.contains("worker"), "{failure}");
    assert_eq!(job.generation(), 2, "{failure}");
    // What was committed since the older checkpoint may come out again, by another name; nothing is missing.
    let mut all = committed(&outputs);
    all.dedup();
    assert!(all == expected(settings.end), "{} of {}", all.len(), expected(settings.end).len());
}

/// After an older checkpoint the rest of the input brings the state to where it was, in the same bytes: they must not be taken for
/// stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_the_content_of_a_damaged_checkpoint_again_is_stored_anew() {
    let folder = Turn::come().await;
    let settings = Settings { falls_back: true, ..Settings::new(folder.path(), 20_000, 5_000) };
    let job = Job::start(&settings).await;
    job.moves_on().await;
    job.moves_on().await;
    assert_eq!(job.ends().await, Ending::Finished);
    damage_newest(&job, &settings).await;
    fs::remove_dir_all(settings.root.join("local")).unwrap_or_default();
    let job = Job::start(&settings).await;
    assert_eq!(job.ends().await, Ending::Finished);
    assert_eq!(job.generation(), 2, "it has not fallen back");
    let latest = job.manager.coordinator().latest().await.unwrap().unwrap();
    let (env, limits) = (Env::system().unwrap(), TransferLimits::default());
    let looked = verify_checkpoint(&env, &latest, true, limits, &NoProgress).await.unwrap();
    assert!(looked.is_sound(), "{:?}", looked.damaged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chosen_checkpoint_is_restored_once_and_later_failures_go_back_to_newer_ones() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 20_000, 4_000);
    let job = Job::start(&settings).await;
    job.moves_on().await;
    job.manager.cancel();
    job.ends().await;
    let chosen = job.newest().unwrap();
    let path = JobLayout::new(JobId::new("count").unwrap()).unwrap().checkpoint(chosen).unwrap();

    let settings = Settings { start_from: path.as_str().to_owned(), ..settings };
    let job = Job::start(&settings).await;
    job.moves_on().await;
    let newest = job.newest().unwrap();
    assert!(newest > chosen);
    signal(job.process(0), "KILL");
    eventually("the next generation runs", || async {
        let status = job.manager.status();
        status.generation > 1 && status.phase == Phase::Running
    })
    .await;
    assert_eq!(job.ends().await, Ending::Finished);
    crate::dataflow::assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_a_local_folder_gives_no_sound_checkpoint_up() {
    let folder = Turn::come().await;
    let settings = Settings { is_rocksdb: true, falls_back: true, ..Settings::new(folder.path(), 10_000, 2_000) };
    let job = Job::start(&settings).await;
    job.moves_on().await;
    job.moves_on().await;
    job.manager.cancel();
    job.ended().await;
    let newest = job.newest().unwrap();
    let local = settings.root.join("local");
    fs::remove_dir_all(&local).unwrap();
    std::os::unix::fs::symlink("/proc", &local).unwrap();
    let job = Job::start(&settings).await;
    eventually("some failures", || async { job.manager.status().generation > 3 }).await;
    fs::remove_file(&local).unwrap();
    let restored = || job.manager.report().restored_from.and_then(|from| from.checkpoint);
    assert_eq!(restored(), Some(newest.checkpoint.0), "{:?}", job.manager.status().last_failure);
    assert_eq!(job.ends().await, Ending::Finished);
    crate::dataflow::assert_exact(&settings.outputs(), settings.end);
}
