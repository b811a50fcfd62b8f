//! What a store that repeats calls repeats, and what it does not (K2).

#[path = "support/paused.rs"]
mod paused;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use icecore::env::Env;
use icecore::store::testing::{CountingStore, Fault, FaultyStore, Rule, Step, conformance};
use icecore::store::{
    Access, LocalStore, OpendalStore, PROBE_PATIENCE, RateLimitedStore, RateLimiter, RateLimits, ReadAhead,
    RetryPolicy, RetryingStore, Store, StorePath, StoreRef,
};
use icecore::transfer::{NoProgress, StoredFile, download, verify_object};
use icecore::{Error, ErrorKind, Result};

const PASSING: [ErrorKind; 3] = [ErrorKind::Temporary, ErrorKind::RateLimited, ErrorKind::Unreachable];

/// From top to bottom: what repeats, what counts, what fails, what keeps.
struct Bench {
    store: RetryingStore,
    counting: Arc<CountingStore>,
    faulty: Arc<FaultyStore>,
    memory: StoreRef,
    env: Env,
}

fn bench() -> Bench {
    bench_in(paused::env(), RetryPolicy::REQUESTS)
}

fn bench_in(env: Env, policy: RetryPolicy) -> Bench {
    let memory: StoreRef = Arc::new(OpendalStore::memory(env.clone()).unwrap());
    let faulty = FaultyStore::new(memory.clone());
    let counting = CountingStore::new(faulty.clone());
    let store = RetryingStore::new(counting.clone(), policy, env.clone());
    Bench { store, counting, faulty, memory, env }
}

impl Bench {
    async fn with(names: &[&str]) -> Self {
        let bench = bench();
        for name in names {
            bench.memory.put(&path(name), Bytes::from_static(b"0123456789")).await.unwrap();
        }
        bench
    }

    fn inject(&self, rule: Rule, fault: Fault) {
        self.faulty.inject(rule, fault).unwrap();
    }

    async fn there(&self, name: &str) -> bool {
        self.memory.stat(&path(name)).await.is_ok()
    }

    async fn listed(&self) -> Result<Vec<String>> {
        let objects: Vec<_> = self.store.list(None).try_collect().await?;
        Ok(objects.into_iter().map(|object| object.path.to_string()).collect())
    }

    fn passed(&self) -> Duration {
        self.env.clock.monotonic()
    }
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn whatever_only_looks_is_repeated_on_every_error_that_may_pass() {
    for kind in PASSING {
        let bench = Bench::with(&["a/x", "a/y"]).await;
        for step in [Step::Read, Step::Stat, Step::List, Step::ListChildren] {
            bench.inject(Rule::on(step).times(3), Fault::Fail(kind));
        }
        assert_eq!(bench.store.read(&path("a/x"), 2..4).await.unwrap(), "23");
        assert_eq!(bench.store.stat(&path("a/x")).await.unwrap().size_bytes, 10);
        assert_eq!(bench.store.list_children(None).await.unwrap().len(), 1);
        assert_eq!(bench.listed().await.unwrap(), ["a/x", "a/y"]);
        assert_eq!(bench.faulty.fired(), 12, "{kind}");
        assert!(bench.passed() > RetryPolicy::REQUESTS.first_wait, "nobody waited");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_handed_on_and_repeated_unless_nobody_is_there() {
    for (kind, attempts) in [
        (ErrorKind::Temporary, 2),
        (ErrorKind::RateLimited, 2),
        (ErrorKind::Unreachable, 1),
        (ErrorKind::PermissionDenied, 1),
    ] {
        let bench = bench();
        bench.inject(Rule::on(Step::Probe), Fault::Fail(kind));
        assert_eq!(bench.store.probe(Access::Change).await.is_ok(), attempts == 2, "{kind}");
        assert_eq!(bench.counting.requests(Step::Probe), attempts, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_stays_broken_gives_up_soon() {
    let never = Duration::ZERO;
    let minute = RetryPolicy::REQUESTS.give_up_after;
    for (give_up_after, passed) in [(minute, PROBE_PATIENCE), (PROBE_PATIENCE / 5, PROBE_PATIENCE / 5), (never, never)]
    {
        let bench = bench_in(paused::env(), RetryPolicy::REQUESTS.giving_up_after(give_up_after));
        bench.inject(Rule::on(Step::Probe).always(), Fault::Fail(ErrorKind::Temporary));
        assert_eq!(bench.store.probe(Access::Read).await.unwrap_err().kind(), ErrorKind::Temporary);
        assert_eq!(bench.passed(), passed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_told_at_once() {
    let bench = Bench::with(&["a"]).await;
    for step in [Step::Read, Step::Stat, Step::List, Step::ListChildren, Step::Delete, Step::Put] {
        bench.inject(Rule::on(step).always(), Fault::Fail(ErrorKind::PermissionDenied));
    }
    let answers: Vec<Error> = vec![
        bench.store.read(&path("a"), 0..1).await.unwrap_err(),
        bench.store.stat(&path("a")).await.unwrap_err(),
        bench.store.list_children(None).await.unwrap_err(),
        bench.listed().await.unwrap_err(),
        bench.store.delete(&[path("a")]).await.remove(0).unwrap_err(),
        bench.store.put(&path("b"), Bytes::new()).await.unwrap_err(),
    ];
    assert!(answers.iter().all(|error| error.kind() == ErrorKind::PermissionDenied), "{answers:?}");
    assert_eq!((bench.faulty.fired(), bench.passed()), (6, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_stays_broken_is_told_after_the_time_of_the_policy_with_the_number_of_attempts() {
    let bench = Bench::with(&["a"]).await;
    bench.inject(Rule::on(Step::Stat).always(), Fault::Fail(ErrorKind::Unreachable));
    let error = bench.store.stat(&path("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let attempts = bench.counting.requests(Step::Stat);
    assert!(attempts > 8 && error.message().contains(&format!("tried {attempts} times")), "{attempts}: {error}");
    assert_eq!(bench.passed().as_secs(), RetryPolicy::REQUESTS.give_up_after.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_breaks_goes_on_behind_the_last_path_it_gave() {
    let names = ["a", "b/1", "b/2", "b/3", "c"];
    let bench = Bench::with(&names).await;
    // In the middle, then again a little further on, at its beginning, and at its end.
    bench.inject(Rule::on(Step::ListItem).nth(3), Fault::Fail(ErrorKind::Temporary));
    bench.inject(Rule::on(Step::ListItem).path_ends_with("b/3"), Fault::Fail(ErrorKind::Temporary));
    bench.inject(Rule::on(Step::List).nth(2), Fault::Fail(ErrorKind::Temporary));
    bench.inject(Rule::on(Step::ListItem).path_ends_with("c").times(2), Fault::Fail(ErrorKind::Temporary));
    assert_eq!(bench.listed().await.unwrap(), names);
    assert_eq!(bench.faulty.fired(), 5);
    let below: Vec<_> = bench.store.list(Some(&path("b"))).try_collect().await.unwrap();
    assert_eq!(below.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_long_listing_may_break_more_often_than_one_request_is_tried() {
    let names: Vec<String> = (0..60).map(|number| format!("{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bench = Bench::with(&names).await;
    for name in &names {
        bench.inject(Rule::on(Step::ListItem).path_ends_with(*name).times(6), Fault::Fail(ErrorKind::Temporary));
    }
    assert_eq!(bench.listed().await.unwrap(), names);
    assert!(bench.passed() > 3 * RetryPolicy::REQUESTS.give_up_after);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_stays_broken_ends_with_its_error() {
    let bench = Bench::with(&["a", "b", "c"]).await;
    bench.inject(Rule::on(Step::ListItem).path_ends_with("b").always(), Fault::Fail(ErrorKind::Temporary));
    let mut listing = bench.store.list(None);
    assert_eq!(listing.try_next().await.unwrap().unwrap().path, path("a"));
    assert_eq!(listing.try_next().await.unwrap_err().kind(), ErrorKind::Temporary);
    assert!(listing.try_next().await.unwrap().is_none(), "an end that could be taken for the listing's");
}

#[tokio::test(start_paused = true)]
async fn only_those_deletes_are_repeated_that_failed() {
    let bench = Bench::with(&["a", "b", "c", "d", "e"]).await;
    bench.inject(Rule::on(Step::Delete).path_ends_with("b").times(2), Fault::Fail(ErrorKind::Temporary));
    bench.inject(Rule::on(Step::Delete).path_ends_with("d"), Fault::LoseAnswer(ErrorKind::RateLimited));
    bench.inject(Rule::on(Step::Delete).path_ends_with("e").always(), Fault::Fail(ErrorKind::PermissionDenied));
    let answers = bench.store.delete(&["a", "b", "c", "d", "e"].map(path)).await;
    let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Error::kind)).collect();
    assert_eq!(kinds, [None, None, None, None, Some(ErrorKind::PermissionDenied)]);
    assert_eq!(bench.counting.requests(Step::Delete), 5 + 2 + 1);
    assert!(!bench.there("b").await && !bench.there("d").await && bench.there("e").await);
}

#[tokio::test(start_paused = true)]
async fn deletes_that_stay_broken_are_each_told_and_the_others_done() {
    let bench = Bench::with(&["a", "b", "c"]).await;
    bench.inject(Rule::on(Step::Delete).path_ends_with("b").always(), Fault::Fail(ErrorKind::Temporary));
    let answers = bench.store.delete(&["a", "b", "c"].map(path)).await;
    let failed: Vec<_> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, false]);
    assert!(bench.passed() >= RetryPolicy::REQUESTS.give_up_after);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_certainly_not_done_is_repeated_in_place() {
    for kind in [ErrorKind::RateLimited, ErrorKind::Unreachable] {
        let bench = bench();
        for step in [Step::Put, Step::Create] {
            bench.inject(Rule::on(step).times(2), Fault::Fail(kind));
        }
        bench.store.put(&path("a"), Bytes::from_static(b"x")).await.unwrap();
        let mut writer = bench.store.create(&path("b")).await.unwrap();
        writer.write(Bytes::from_static(b"y")).await.unwrap();
        writer.finish().await.unwrap();
        assert!(bench.there("a").await && bench.there("b").await);
        assert_eq!((bench.counting.requests(Step::Put), bench.counting.requests(Step::Create)), (3, 3), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_been_done_is_never_repeated() {
    let bench = bench();
    let ambiguous = Fault::LoseAnswer(ErrorKind::Temporary);
    for step in [Step::Put, Step::Create, Step::Finish] {
        bench.inject(Rule::on(step), ambiguous);
    }
    assert_eq!(bench.store.put(&path("a"), Bytes::new()).await.unwrap_err().kind(), ErrorKind::Temporary);
    assert_eq!(bench.store.create(&path("b")).await.err().unwrap().kind(), ErrorKind::Temporary);
    let writer = bench.store.create(&path("c")).await.unwrap();
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Temporary);
    let requests = [Step::Put, Step::Create, Step::Finish].map(|step| bench.counting.requests(step));
    assert_eq!((requests, bench.passed()), ([1, 2, 1], Duration::ZERO));
}

/// Nothing in a writer's call tells whether what failed was this piece or an earlier one.
#[tokio::test(start_paused = true)]
async fn a_piece_of_an_object_is_not_repeated_here() {
    for kind in PASSING {
        let bench = bench();
        bench.inject(Rule::on(Step::Write), Fault::Fail(kind));
        let mut writer = bench.store.create(&path("a")).await.unwrap();
        assert_eq!(writer.write(Bytes::from_static(b"x")).await.unwrap_err().kind(), kind);
        assert_eq!(bench.counting.requests(Step::Write), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_deleted_comes_back_by_a_first_attempt_that_lands_late() {
    // Whoever is told `Ok` commits the object, drops it one day and deletes it, and looks for it no more. Were the
    // put sent again, it would be told so; and here is the first one.
    for kind in PASSING {
        let bench = bench();
        bench.inject(Rule::on(Step::Put), Fault::LandLater(kind));
        let was_acknowledged = bench.store.put(&path("a"), Bytes::from_static(b"x")).await.is_ok();
        bench.store.delete(&[path("a")]).await.remove(0).unwrap();
        bench.faulty.land_late().await;
        let came_back = bench.there("a").await;
        if kind == ErrorKind::Temporary {
            assert!(!was_acknowledged, "an object that was acknowledged and deleted came back");
            assert!(came_back, "the first attempt did not land, so this tests nothing");
        } else {
            // What a store must never do: call a write undone that it may still do. This is why it must not.
            assert!(was_acknowledged && came_back);
        }
    }
}

#[tokio::test]
async fn a_broken_connection_costs_a_piece_and_not_the_object() {
    const SIZE_BYTES: u64 = 10 << 20;
    // Real time: tokio's does not pass while a thread waits for bytes.
    let wait = Duration::from_millis(1);
    let policy = RetryPolicy { first_wait: wait, longest_wait: wait, ..RetryPolicy::REQUESTS };
    let bench = bench_in(Env::system().unwrap(), policy);
    let bytes: Vec<u8> = (0..SIZE_BYTES).map(|index| (index * 31 % 251) as u8).collect();
    let hash = icecore::layout::ContentHash::of(&bytes);
    bench.memory.put(&path("a"), bytes.clone().into()).await.unwrap();
    let file = StoredFile { object: path("a"), offset_bytes: 0, size_bytes: SIZE_BYTES, sha256: hash };
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a");
    for nth in [2, 7, 8] {
        bench.inject(Rule::on(Step::Read).nth(nth), Fault::LoseAnswer(ErrorKind::Temporary));
    }
    download(&bench.store, &bench.env, &file, &target, &NoProgress).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), bytes);
    let traffic = bench.counting.traffic("a");
    assert_eq!((bench.faulty.fired(), traffic.reads, traffic.read_bytes), (3, 10 + 3, SIZE_BYTES));

    bench.inject(Rule::on(Step::Read).nth(5), Fault::Fail(ErrorKind::Temporary));
    verify_object(&bench.store, &bench.env, &file, &NoProgress).await.unwrap();
    assert_eq!(bench.counting.traffic("a").reads, 2 * 10 + 4);
}

#[tokio::test]
async fn wrappers_hand_on_what_only_the_store_itself_can_do() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local: StoreRef = Arc::new(LocalStore::open(folder.path(), env.clone()).unwrap());
    let limits = RateLimits { upload_bytes_per_s: std::num::NonZeroU64::new(u64::MAX), ..RateLimits::default() };
    let limiter = RateLimiter::new(limits, env.clone());
    let wrapped: [StoreRef; 2] = [
        Arc::new(RetryingStore::new(local.clone(), RetryPolicy::REQUESTS, env.clone())),
        Arc::new(RateLimitedStore::new(local.clone(), limiter)),
    ];
    for store in wrapped {
        assert_eq!(store.describe(), local.describe());
        let mut writer = store.create_unnamed(&path("a")).await.unwrap().expect("a folder names objects last");
        writer.write(Bytes::from_static(b"x")).await.unwrap();
        writer.finish_as(&path("a/b")).await.unwrap();
        assert_eq!(local.stat(&path("a/b")).await.unwrap().size_bytes, 1);
        local.delete(&[path("a/b")]).await.remove(0).unwrap();
        std::fs::write(folder.path().join(".tmp-left-behind"), b"x").unwrap();
        assert_eq!(store.remove_unfinished(None, Duration::ZERO).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn wrappers_hand_on_how_their_store_is_best_read() {
    #[derive(Debug)]
    struct Far(StoreRef);
    #[async_trait::async_trait]
    impl Store for Far {
        fn describe(&self) -> String {
            self.0.describe()
        }
        fn read_ahead(&self) -> ReadAhead {
            ReadAhead::FAR
        }
        async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
            self.0.put(path, bytes).await
        }
        async fn create(&self, path: &StorePath) -> Result<Box<dyn icecore::store::ObjectWriter>> {
            self.0.create(path).await
        }
        async fn read(&self, path: &StorePath, range: std::ops::Range<u64>) -> Result<Bytes> {
            self.0.read(path, range).await
        }
        async fn stat(&self, path: &StorePath) -> Result<icecore::store::ObjectMeta> {
            self.0.stat(path).await
        }
        fn list(
            &self,
            prefix: Option<&StorePath>,
        ) -> futures::stream::BoxStream<'_, Result<icecore::store::ObjectMeta>> {
            self.0.list(prefix)
        }
        async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<icecore::store::Child>> {
            self.0.list_children(prefix).await
        }
        async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
            self.0.delete(paths).await
        }
    }

    let env = Env::system().unwrap();
    let far: StoreRef = Arc::new(Far(Arc::new(OpendalStore::memory(env.clone()).unwrap())));
    let limiter = |download| {
        let limits =
            RateLimits { upload_bytes_per_s: std::num::NonZeroU64::new(1 << 40), download_bytes_per_s: download };
        RateLimiter::new(limits, env.clone())
    };
    let unlimited_reads: StoreRef = Arc::new(RateLimitedStore::new(far.clone(), limiter(None)));
    let wrapped: [StoreRef; 4] = [
        Arc::new(RetryingStore::new(far.clone(), RetryPolicy::REQUESTS, env.clone())),
        unlimited_reads,
        CountingStore::new(far.clone()),
        FaultyStore::new(far.clone()),
    ];
    for store in wrapped {
        assert_eq!(store.read_ahead(), ReadAhead::FAR, "{store:?}");
    }
    // Where reads are limited, large ones would only be cut up again.
    let limited = RateLimitedStore::new(far, limiter(std::num::NonZeroU64::new(1 << 40)));
    assert_eq!(limited.read_ahead(), ReadAhead { request_bytes: 1 << 20, ..ReadAhead::FAR });
}

#[tokio::test]
async fn wrappers_keep_the_contract() {
    let env = Env::system().unwrap();
    let memory = || -> StoreRef { Arc::new(OpendalStore::memory(env.clone()).unwrap()) };
    let retrying: StoreRef = Arc::new(RetryingStore::new(memory(), RetryPolicy::REQUESTS, env.clone()));
    conformance::run(|| async { retrying.clone() }).await.assert_conforms();
    let fast = std::num::NonZeroU64::new(1 << 40);
    let limits = RateLimits { upload_bytes_per_s: fast, download_bytes_per_s: fast };
    let limited = RateLimiter::new(limits, env.clone()).limit(memory());
    conformance::run(|| async { limited.clone() }).await.assert_conforms();
}
