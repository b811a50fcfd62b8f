//! What a job begins with, and what it is refused.

use super::*;

#[tokio::test]
async fn a_job_with_checkpoints_of_its_own_begins_with_another_jobs_only_if_somebody_says_rewind() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (job(), JobId::new("second").unwrap());
    let started = |job: JobId, start_from| {
        let options = ManagerOptions { start_from, ..options(1) };
        let folder = folder.path();
        async move { manager_of(folder, &job, options).await }
    };
    let mut of_first = None;
    for job in [&first, &second] {
        // The second job begins with the first one's checkpoint, and has one of its own then.
        let start_from = of_first.take().map_or(StartFrom::Newest, StartFrom::Folder);
        let (orders, manager) = started(job.clone(), start_from.clone()).await.unwrap();
        let mut worker = only_worker(&orders, &manager, job).await;
        let trigger = completes_one(&manager, &mut worker).await;
        manager.cancel();
        assert_eq!(manager.ended().await, Ending::Cancelled);
        of_first = Some(match start_from {
            StartFrom::Folder(folder) => folder,
            _ => trigger.folder,
        });
    }
    let of_first = of_first.unwrap();
    let error = started(second.clone(), StartFrom::Folder(of_first.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("this one has checkpoints of its own"), "{error}");
    let (orders, _manager) = started(second, StartFrom::Rewind(of_first.clone())).await.unwrap();
    let mut worker = Puppet::register(&orders.number(0).await).await.unwrap();
    let Some(Tell::Deploy(deployment)) = worker.hears().await else { panic!("it was not deployed") };
    assert_eq!(deployment.restore, Some(of_first));
}

/// A job with one checkpoint, of the operator `counts`. Returns its folder.
async fn ends_with_a_checkpoint(store: &Path) -> StorePath {
    let (orders, manager) = manager_of(store, &job(), options(1)).await.unwrap();
    let mut worker = only_worker(&orders, &manager, &job()).await;
    let trigger = completes_one(&manager, &mut worker).await;
    manager.cancel();
    assert_eq!(manager.ended().await, Ending::Cancelled);
    trigger.folder
}

fn renamed() -> ManagedOperator {
    ManagedOperator { operator: OperatorId::new("renamed").unwrap(), ..counts() }
}

#[tokio::test]
async fn a_job_that_does_not_name_an_operator_of_its_newest_checkpoint_is_refused_before_it_is_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = ends_with_a_checkpoint(folder.path()).await;
    let without = |allow_non_restored_state| ManagerOptions {
        operators: vec![renamed()],
        allow_non_restored_state,
        ..options(1)
    };
    let (_orders, running) = manager_of(folder.path(), &job(), options(1)).await.unwrap();
    let error = manager_of(folder.path(), &job(), without(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("counts"), "{error}");
    running.coordinator().look().await.expect("who runs the job is not fenced by that");
    running.cancel();
    running.ended().await;
    let (orders, _manager) = manager_of(folder.path(), &job(), without(true)).await.unwrap();
    let mut worker = Puppet::register(&orders.number(0).await).await.unwrap();
    let Some(Tell::Deploy(deployment)) = worker.hears().await else { panic!("it was not deployed") };
    assert_eq!(deployment.restore, Some(checkpoint));
}

#[tokio::test]
async fn a_named_checkpoint_with_state_that_the_job_cannot_take_is_refused_before_the_job_is_claimed() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = ends_with_a_checkpoint(folder.path()).await;
    let other_groups = ManagedOperator { max_parallelism: MaxParallelism::new(16).unwrap(), ..counts() };
    for operator in [renamed(), other_groups] {
        let options = ManagerOptions {
            start_from: StartFrom::Folder(checkpoint.clone()),
            operators: vec![operator],
            ..options(1)
        };
        let second = JobId::new("second").unwrap();
        let error = manager_of(folder.path(), &second, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("counts"), "{error}");
        assert!(folder.path().join("job-count").exists());
        assert!(!folder.path().join("job-second").exists(), "something was claimed");
    }
}

#[tokio::test]
async fn a_savepoint_that_a_later_run_has_gone_on_without_is_refused_though_its_number_was_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let kept = StorePath::new("kept/up").unwrap();
    let (orders, manager) = manager_of(folder.path(), &job(), options(1)).await.unwrap();
    let mut worker = only_worker(&orders, &manager, &job()).await;
    completes_one(&manager, &mut worker).await;
    let saves = tokio::spawn({
        let (manager, kept) = (manager.clone(), kept.clone());
        async move { manager.savepoint(&kept).await }
    });
    let savepoint = worker.hears_a_trigger().await;
    worker.acknowledges(&savepoint).await.unwrap();
    saves.await.unwrap().unwrap();
    manager.cancel();
    manager.ended().await;
    let from_savepoint = || ManagerOptions { start_from: StartFrom::Folder(kept.clone()), ..options(1) };
    // Nothing has gone on yet.
    let (_orders, manager) = manager_of(folder.path(), &job(), from_savepoint()).await.unwrap();
    manager.cancel();
    manager.ended().await;

    let (orders, manager) = manager_of(folder.path(), &job(), options(1)).await.unwrap();
    let mut worker = only_worker(&orders, &manager, &job()).await;
    let again = completes_one(&manager, &mut worker).await;
    assert_eq!(again.checkpoint, savepoint.checkpoint, "numbers of savepoints are given again");
    manager.cancel();
    manager.ended().await;
    let error = manager_of(folder.path(), &job(), from_savepoint()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("has gone on without it"), "{error}");
}
