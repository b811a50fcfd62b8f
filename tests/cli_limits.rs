//! `--limit-upload` and `--limit-download`: the command moves bytes no faster than it is told.

mod cli_support;

use std::time::{Duration, Instant};

use cli_support::{Bench, JOB, local_store};
use icecore::coordinator::{Acknowledged, Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::layout::{FileKind, JobId, OperatorId, SubtaskName};
use icecore::metadata::{Backend, CheckpointKind};
use icecore::snapshot::{FileSource, Known, LocalFile, LocalSnapshot, Placing, Snapshotter, SnapshotterOptions};
use icecore::store::StorePath;

const SIZE_BYTES: u64 = 2 << 20;
/// The first piece goes at once, and the second one waits for it: one MiB at two a second.
const AT_LEAST: Duration = Duration::from_millis(450);

/// A store with a checkpoint of one file.
fn one_checkpoint() -> Bench {
    let bench = Bench::new();
    let source = bench.path("source");
    std::fs::write(&source, vec![7; SIZE_BYTES as usize]).unwrap();
    let file = LocalFile {
        local_name: StorePath::new("000007.sst").unwrap(),
        kind: FileKind::Sst,
        source: FileSource::Path { path: source, size_bytes: SIZE_BYTES },
        placing: Placing::Shared,
        known: Known::No,
        key_groups: None,
        table: None,
    };
    let frozen = LocalSnapshot {
        backend: Backend::RocksDbFolder,
        key_groups: None,
        states: Vec::new(),
        files: vec![file],
        prepare: None,
        sync_us: 0,
        beside_us: 0,
        hold: None,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (store, env) = (local_store(&bench.store()), Env::system().unwrap());
        let operator = OperatorId::new("db").unwrap();
        let description = OperatorDescription { operator: operator.clone(), parallelism: 1, max_parallelism: 1 };
        let options = CoordinatorOptions::default();
        let job = JobId::new(JOB).unwrap();
        let coordinator =
            Coordinator::start(store.clone(), job, vec![description], env.clone(), options, vec![]).await.unwrap();
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let subtask = SubtaskName { operator, index: 0 };
        let broker = coordinator.broker();
        let snapshotter = Snapshotter::new(subtask, store, env, broker, SnapshotterOptions::default());
        let handle = snapshotter.upload(&trigger, frozen).await.unwrap();
        let acknowledged = coordinator.acknowledge(handle).await.unwrap();
        assert!(matches!(acknowledged, Acknowledged::Complete(..)));
        coordinator.end().await.unwrap();
    });
    bench
}

#[test]
fn what_is_read_and_what_is_written_takes_as_long_as_was_said() {
    let bench = one_checkpoint();
    for line in [
        "verify --limit-download 2MiB",
        "restore latest restored --limit-download 2MiB/s",
        "export latest read-slowly --limit-download 2097152",
        "--limit-upload 2.0Mi export latest written-slowly",
        "verify --from read-slowly --limit-download 2MiB",
    ] {
        let began = Instant::now();
        bench.ok(line);
        assert!(began.elapsed() >= AT_LEAST, "icecore {line} took {:?}", began.elapsed());
    }
    // The other direction is not slowed: at a byte a second it would take weeks.
    bench.ok("verify --limit-upload 1");
}

#[test]
fn limits_that_are_none_are_refused() {
    let bench = Bench::new();
    for line in ["list --limit-upload fast", "list --limit-download 0", "list --limit-download 10Mb"] {
        let said = bench.fails(line, 2);
        assert!(said.contains("--limit-"), "{said}");
    }
}
