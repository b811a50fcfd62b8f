//! So many bytes a second, fairly, in simulated time.

#[path = "support/paused.rs"]
mod paused;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore::env::Env;
use icecore::store::testing::{CountingStore, Step};
use icecore::store::{Access, OpendalStore, RateLimiter, RateLimits, StorePath, StoreRef};

const MIB: usize = 1 << 20;

struct Bench {
    env: Env,
    counting: Arc<CountingStore>,
    limiter: RateLimiter,
    store: StoreRef,
}

/// A store in memory that takes `upload` and gives `download` MiB a second.
fn bench(upload: Option<u64>, download: Option<u64>) -> Bench {
    let env = paused::env();
    let rate = |mib: Option<u64>| mib.and_then(|mib| NonZeroU64::new(mib << 20));
    let limits = RateLimits { upload_bytes_per_s: rate(upload), download_bytes_per_s: rate(download) };
    let limiter = RateLimiter::new(limits, env.clone());
    let counting = CountingStore::new(Arc::new(OpendalStore::memory(env.clone()).unwrap()));
    let store = limiter.limit(counting.clone());
    Bench { env, counting, limiter, store }
}

impl Bench {
    fn passed(&self) -> Duration {
        self.env.clock.monotonic()
    }

    fn written(&self, name: &str) -> usize {
        self.counting.traffic(name).written_bytes as usize
    }
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

/// Writes an object of `mib` MiB in pieces of `piece` bytes.
async fn stream(store: StoreRef, name: &str, mib: usize, piece: usize) {
    let mut writer = store.create(&path(name)).await.unwrap();
    let mut left = mib * MIB;
    while left > 0 {
        let length = piece.min(left);
        writer.write(Bytes::from(vec![7; length])).await.unwrap();
        left -= length;
    }
    writer.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_handed_on() {
    let bench = bench(Some(1), Some(1));
    bench.store.probe(Access::Change).await.unwrap();
    assert_eq!(bench.counting.requests(Step::Probe), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upload_takes_the_time_its_rate_says_and_never_runs_ahead() {
    let bench = bench(Some(2), None);
    let upload = tokio::spawn(stream(bench.store.clone(), "a", 20, 300_000));
    while !upload.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let allowed = 2.0 * bench.passed().as_secs_f64() * MIB as f64 + MIB as f64;
        assert!(bench.written("a") as f64 <= allowed, "{} bytes after {:?}", bench.written("a"), bench.passed());
    }
    let seconds = bench.passed().as_secs_f64();
    assert!((9.5..=10.2).contains(&seconds), "20 MiB at 2 MiB/s took {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn a_large_piece_goes_in_small_ones() {
    let bench = bench(Some(1), Some(1));
    stream(bench.store.clone(), "a", 8, 8 * MIB).await;
    assert!(bench.passed() >= Duration::from_secs(7), "{:?}", bench.passed());
    let before = bench.passed();
    assert_eq!(bench.store.read(&path("a"), 1..8 * MIB as u64 - 1).await.unwrap().len(), 8 * MIB - 2);
    assert!(bench.passed() - before >= Duration::from_secs(6));
    assert_eq!(bench.counting.traffic("a").reads, 8);
}

#[tokio::test(start_paused = true)]
async fn transfers_side_by_side_get_equal_shares() {
    let bench = bench(Some(4), None);
    let names = ["a", "b", "c", "d"];
    // The first has a head start, which the others must not pay for.
    let mut uploads = vec![tokio::spawn(stream(bench.store.clone(), names[0], 40, MIB))];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ahead = bench.written("a");
    uploads.extend(names[1..].iter().map(|name| tokio::spawn(stream(bench.store.clone(), name, 40, MIB))));
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let shares = names.map(|name| bench.written(name) - if name == "a" { ahead } else { 0 });
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        // The turn of the one that the first had taken before, and the one that is just on.
        assert!(most - least <= 2 * MIB, "unfair: {shares:?}");
    }
    assert!(bench.written("b") >= 7 * MIB);
    uploads.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_saved_up_while_the_line_is_idle() {
    let bench = bench(Some(1), None);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let before = bench.passed();
    stream(bench.store.clone(), "a", 3, MIB).await;
    assert!(bench.passed() - before >= Duration::from_secs(2), "{:?}", bench.passed() - before);
}

#[tokio::test(start_paused = true)]
async fn downloads_are_limited_apart_from_uploads() {
    let bench = bench(None, Some(1));
    stream(bench.store.clone(), "a", 8, MIB).await;
    bench.store.put(&path("b"), Bytes::from(vec![7; MIB])).await.unwrap();
    assert_eq!(bench.passed(), Duration::ZERO, "uploads have no limit");
    for piece in 0..4 {
        bench.store.read(&path("a"), piece << 20..(piece + 1) << 20).await.unwrap();
    }
    assert_eq!(bench.passed().as_secs(), 3);
    assert_eq!(bench.store.stat(&path("a")).await.unwrap().size_bytes, 8 << 20);
}

#[tokio::test(start_paused = true)]
async fn objects_of_one_request_are_slowed_too_and_stores_share_a_limit() {
    let bench = bench(Some(1), None);
    let other = bench.limiter.limit(Arc::new(OpendalStore::memory(bench.env.clone()).unwrap()));
    for store in [&bench.store, &other, &bench.store, &other] {
        store.put(&path("a"), Bytes::from(vec![7; 2 * MIB])).await.unwrap();
    }
    assert_eq!(bench.passed().as_secs(), 6);
}

#[tokio::test(start_paused = true)]
async fn without_limits_a_store_stays_what_it_is() {
    let env = paused::env();
    let store: StoreRef = Arc::new(OpendalStore::memory(env.clone()).unwrap());
    let limited = RateLimiter::new(RateLimits::default(), env).limit(store.clone());
    assert!(Arc::ptr_eq(&limited, &store));
}
