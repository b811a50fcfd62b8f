//! What the workers run: events from Kafka, a query, its results to Kafka.

use std::collections::BTreeMap;

use icecore::job::dataflow::{AnyTask, Checkpoints, Start, sink, source};
use icecore::job::kafka::{
    KafkaCluster, KafkaCommitter, KafkaOutput, KafkaRecord, KafkaSinkOptions, KafkaSource, KafkaSourceOptions,
};
use icecore::layout::OperatorId;
use icecore::{Error, Result};
use nexmark::event::Event;
use timely::dataflow::Scope;

use crate::queries::{Q5, Q7, Q8, Query, Tasks};

const EVENTS: &str = "events";
const RESULTS: &str = "results";

/// Where events come from, and where results go.
#[derive(Clone, Debug)]
pub struct Topics {
    /// `host:port` of a broker.
    pub bootstrap: String,
    pub events: String,
    pub results: String,
}

/// A query that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    HotItems,
    HighestBids,
    NewSellers,
}

impl Question {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            Q5::NAME => Some(Self::HotItems),
            Q7::NAME => Some(Self::HighestBids),
            Q8::NAME => Some(Self::NewSellers),
            _ => None,
        }
    }

    fn operators_of_query(self) -> &'static [&'static str] {
        match self {
            Self::HotItems => Q5::OPERATORS,
            Self::HighestBids => Q7::OPERATORS,
            Self::NewSellers => Q8::OPERATORS,
        }
    }

    /// The ids of all stateful operators.
    pub fn operators(self) -> Vec<OperatorId> {
        let all = self.operators_of_query().iter().copied().chain([RESULTS]);
        all.map(|operator| OperatorId::new(operator).unwrap()).collect()
    }

    /// Builds the dataflow of a worker.
    pub fn build(self, scope: Scope<'_, u64>, start: Start, topics: &Topics, checkpoints: &Checkpoints) -> Result<()> {
        match self {
            Self::HotItems => build::<Q5>(scope, start, topics, checkpoints),
            Self::HighestBids => build::<Q7>(scope, start, topics, checkpoints),
            Self::NewSellers => build::<Q8>(scope, start, topics, checkpoints),
        }
    }
}

fn decode(record: KafkaRecord<'_>) -> Result<Event> {
    let event = record.value.and_then(|value| serde_json::from_slice(value).ok());
    event.ok_or_else(|| Error::corrupt("decode", "an event", "it is none"))
}

fn build<Q: Query>(scope: Scope<'_, u64>, mut start: Start, topics: &Topics, checkpoints: &Checkpoints) -> Result<()> {
    let cluster = KafkaCluster::new(topics.bootstrap.clone());
    let place = (start.worker() as usize, start.workers() as usize);
    let restored = start.positions(EVENTS).unwrap_or_default();
    let read = KafkaSourceOptions::new(cluster.clone(), topics.events.clone());
    let events = KafkaSource::open(EVENTS, &read, &restored, place, decode)?
        .with_event_time(|event: &Event| event.timestamp() as i64, 0);
    let events = source(scope, EVENTS, events, checkpoints);
    let mut tasks: BTreeMap<&'static str, AnyTask> = BTreeMap::new();
    for operator in Q::OPERATORS {
        tasks.insert(operator, start.task(operator)?);
    }
    let results = Q::build(events, &mut Tasks::new(tasks), checkpoints)?;
    let (task, newest) = (start.task(RESULTS)?, start.newest());
    let write = KafkaSinkOptions::new(cluster, topics.results.clone(), topics.results.clone());
    let encode = |result: &Q::Output| {
        Ok(KafkaOutput { key: None, payload: Some(result.to_string().into_bytes()), partition: None })
    };
    let committer = KafkaCommitter::open(&write, &task, newest, encode)?;
    sink(results, RESULTS, committer, task, newest, checkpoints)
}
