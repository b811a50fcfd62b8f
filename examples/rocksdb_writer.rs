//! A program with its own open RocksDB and several column families, made safe against losing its disk:
//! checkpoint every so often, crash, restore, go on.
//!
//! icecore knows nothing of the keys, the comparators or the merge operators. It needs one thing of the
//! program: that the cut is the same moment in every column family. Atomic flush gives that.
//!
//! Run it: `cargo run --example rocksdb_writer --features rocksdb`

use std::path::Path;
use std::sync::Arc;

use icecore::coordinator::{Acknowledged, Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::layout::{JobId, OperatorId, SubtaskName};
use icecore::metadata::CheckpointKind;
use icecore::restore::{FetchOptions, RestorePlan, restore_folder};
use icecore::snapshot::{Snapshotter, SnapshotterOptions};
use icecore::store::{LocalStore, StoreRef};
use icecore::task::{Cut, freeze_database};
use rocksdb::{DB, Options, WriteBatch};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn open(folder: &Path) -> Outcome<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The promise to icecore: all column families are flushed at one sequence number.
    options.set_atomic_flush(true);
    Ok(DB::open_cf(&options, folder, ["orders", "totals"])?)
}

/// One order: a row in one family, and the customer's total in the other, in one batch.
fn order(db: &DB, number: u64) -> Outcome {
    let (Some(orders), Some(totals)) = (db.cf_handle("orders"), db.cf_handle("totals")) else {
        return Err("a column family is missing".into());
    };
    let (customer, amount) = ((number % 7).to_be_bytes(), number % 100);
    let mut batch = WriteBatch::default();
    batch.put_cf(orders, number.to_be_bytes(), amount.to_be_bytes());
    let total = read_number(db.get_cf(totals, customer)?) + amount;
    batch.put_cf(totals, customer, total.to_be_bytes());
    Ok(db.write(batch)?)
}

fn read_number(bytes: Option<Vec<u8>>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// The sums of the two families, which must be equal, and how many orders there are.
fn sums(db: &DB) -> Outcome<(u64, u64, usize)> {
    let mut sums = [0, 0];
    let mut orders = 0;
    for (sum, name) in sums.iter_mut().zip(["orders", "totals"]) {
        let family = db.cf_handle(name).ok_or("a column family is missing")?;
        for row in db.iterator_cf(family, rocksdb::IteratorMode::Start) {
            *sum += read_number(Some(row?.1.to_vec()));
            orders += usize::from(name == "orders");
        }
    }
    Ok((sums[0], sums[1], orders))
}

/// One checkpoint: freeze (the writer waits), upload (it need not), acknowledge.
async fn checkpoint(db: &DB, coordinator: &Coordinator, snapshotter: &Snapshotter, env: &Env) -> Outcome {
    let trigger = coordinator.trigger(CheckpointKind::Incremental)?;
    let is_known = |identity: &_| snapshotter.knows(identity);
    let frozen = freeze_database(db, Cut::AtomicFlush, trigger.checkpoint, &is_known, env)?;
    let handle = snapshotter.upload(&trigger, frozen).await?;
    if let Acknowledged::Complete(folder, stats) = coordinator.acknowledge(handle).await? {
        snapshotter.notify_complete(folder.checkpoint);
        let (new, shared, waited) = (stats.uploaded_bytes, stats.shared_bytes, stats.sync_us);
        println!("checkpoint {}: {new} bytes sent, {shared} shared, waited {waited} us", folder.checkpoint);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let here = tempfile::tempdir()?;
    let env = Env::system()?;
    let store: StoreRef = Arc::new(LocalStore::open(&here.path().join("checkpoints"), env.clone())?);
    let operator = OperatorId::new("writer")?;
    let described = OperatorDescription { operator: operator.clone(), parallelism: 1, max_parallelism: 1 };
    let options = CoordinatorOptions::default();
    let coordinator =
        Coordinator::start(store.clone(), JobId::new("shop")?, vec![described], env.clone(), options, vec![]).await?;
    let subtask = SubtaskName { operator: operator.clone(), index: 0 };
    let uploader = SnapshotterOptions::default();
    let snapshotter = Snapshotter::new(subtask, store, env.clone(), coordinator.broker(), uploader);

    let live = here.path().join("live");
    let db = open(&live)?;
    for number in 1..=30_000 {
        order(&db, number)?;
        if number % 10_000 == 0 {
            checkpoint(&db, &coordinator, &snapshotter, &env).await?;
        }
    }
    for number in 30_001..=34_567 {
        order(&db, number)?;
    }
    println!("crash after 34567 orders: the disk is gone");
    drop(db);
    std::fs::remove_dir_all(&live)?;

    let latest = coordinator.latest().await?.ok_or("no checkpoint")?;
    let plan = RestorePlan::new(&latest.metadata, &operator, 0, 1)?;
    for source in &plan.sources {
        restore_folder(&env, &latest, &source.files, &live, &FetchOptions::default()).await?;
    }
    let db = open(&live)?;
    let (orders, totals, count) = sums(&db)?;
    println!("restored {}: {count} orders, sum of orders {orders}, sum of totals {totals}", latest.describe());
    if (orders, count) != (totals, 30_000) {
        return Err("the restored state is wrong".into());
    }
    // Deterministic input, so the writer simply goes on where the checkpoint was.
    for number in 30_001..=40_000 {
        order(&db, number)?;
    }
    checkpoint(&db, &coordinator, &snapshotter, &env).await?;
    println!("went on to {} orders", sums(&db)?.2);
    Ok(coordinator.end().await?)
}
