//! A job with its broker and its store: what is put in, and what comes out.

use std::time::{Duration, Instant};

use icecore::layout::{CheckpointFolder, JobId, JobLayout};
use icecore::ownership::JobView;
use nexmark::event::Event;
use tempfile::TempDir;

use crate::job_process::{ManagerProcess, wish};
use crate::kafka::Topic;
use crate::pipeline::Question;
use crate::processes::{JOB, Settings, start_manager};
use crate::queries::Query as _;
use crate::services;
use crate::services::kafka::KafkaBroker;
use crate::source::{self, SPLITS};
use crate::{queries, reference};

/// How long a test waits for what must come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
const RESULT_PARTITIONS: i32 = 2;
/// Later than all events by far: it lets every window end, and its own never does.
const FAR_EVENTS: u64 = 10_000_000;

/// Where state and checkpoints are.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub is_rocksdb: bool,
    pub is_s3: bool,
}

pub struct Stage<'a> {
    pub broker: &'a KafkaBroker,
    pub settings: Settings,
    pub manager: ManagerProcess,
    events: Topic,
    results: Topic,
    /// Events in Kafka.
    given: u64,
    _folder: TempDir,
}

impl<'a> Stage<'a> {
    /// `None`: there is no S3 server.
    pub fn set(broker: &'a KafkaBroker, question: &str, kind: Kind, workers: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let events = Topic::new(broker.bootstrap(), "events", SPLITS as i32);
        let results = Topic::new(broker.bootstrap(), "results", RESULT_PARTITIONS);
        let (store, store_options) = match kind.is_s3 {
            false => (folder.path().join("store").to_str().unwrap().to_owned(), Vec::new()),
            true => {
                let s3 = services::shared_s3()?;
                let options = [
                    ("endpoint", s3.endpoint()),
                    ("region", s3.region()),
                    ("access-key-id", s3.access_key()),
                    ("secret-access-key", s3.secret_key()),
                ];
                let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
                (format!("s3://{}/{}", s3.bucket(), services::fresh_prefix("faults")), options)
            }
        };
        let settings = Settings {
            root: folder.path().to_owned(),
            store,
            store_options,
            is_rocksdb: kind.is_rocksdb,
            question: question.to_owned(),
            bootstrap: broker.bootstrap().to_owned(),
            events: events.name.clone(),
            results: results.name.clone(),
            workers,
        };
        let manager = start_manager(&settings);
        Some(Self { broker, settings, manager, events, results, given: 0, _folder: folder })
    }

    /// Further events, in their order, each in its partition.
    pub fn give(&mut self, count: u64) {
        let new = source::events(self.given, 1).take(count as usize);
        self.put(new.collect());
        self.given += count;
    }

    fn put(&self, events: Vec<Event>) {
        let first = self.given;
        let texts: Vec<Vec<u8>> = events.iter().map(|event| serde_json::to_vec(event).unwrap()).collect();
        let records = (first..).zip(&texts).map(|(n, text)| ((n % SPLITS) as i32, "", text.as_slice()));
        self.events.produce(records);
    }

    /// The newest complete checkpoint on the store.
    pub async fn newest(&self) -> Option<CheckpointFolder> {
        let layout = JobLayout::new(JobId::new(JOB).unwrap()).unwrap();
        let view = JobView::read(&*self.settings.open_store(), &layout).await.ok()?;
        view.newest().map(|newest| newest.folder)
    }

    /// Waits until a checkpoint is complete that is not yet.
    pub async fn moves_on(&mut self) {
        let (before, began) = (self.newest().await, Instant::now());
        while self.newest().await <= before {
            assert_eq!(self.manager.ended(), None, "the manager is gone\n{}", self.said());
            assert!(began.elapsed() < PATIENCE, "no further checkpoint\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The last lines that the job's processes said.
    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.settings.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// What must come out.
    fn expected(&self) -> Vec<String> {
        fn texts<T: ToString>(results: Vec<T>) -> Vec<String> {
            let mut texts: Vec<String> = results.iter().map(T::to_string).collect();
            texts.sort_unstable();
            texts
        }
        let events: Vec<Event> = source::events(0, 1).take(self.given as usize).collect();
        match self.settings.question() {
            Question::HotItems => texts(reference::hot_items(&events)),
            Question::HighestBids => texts(reference::highest_bids(&events)),
            Question::NewSellers => texts(reference::new_sellers(&events)),
        }
    }

    /// Lets all windows end, waits for what must come out, stops the job, and compares.
    pub async fn ends_exactly(mut self) {
        let last = source::events(FAR_EVENTS, 1).find(|event| matches!(event, Event::Person(_))).unwrap();
        let given = self.given.next_multiple_of(SPLITS);
        let at = self.given;
        // One a partition.
        self.given = given;
        self.put(vec![last; SPLITS as usize]);
        self.given = at;
        let (expected, began) = (self.expected(), Instant::now());
        assert!(expected.len() > 4, "{} results are too few", expected.len());
        while self.results.read().len() < expected.len() {
            assert!(began.elapsed() < PATIENCE, "some results never come\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        wish(&self.settings.root, "stop", "");
        while self.manager.ended().is_none() {
            assert!(began.elapsed() < PATIENCE, "the job does not stop\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.manager.ended(), Some(true), "the job ended in another way\n{}", self.said());
        let seen = self.results.values();
        let different = seen.iter().zip(&expected).find(|(is, must)| is != must);
        assert!(seen == expected, "{} of {} results, first {different:?}\n{}", seen.len(), expected.len(), self.said());
    }
}

/// The names of the queries that are run.
pub const QUESTIONS: [&str; 3] = [queries::Q5::NAME, queries::Q7::NAME, queries::Q8::NAME];
