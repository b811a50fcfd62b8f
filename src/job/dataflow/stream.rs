//! What travels between sources and operators: records, and between them how far event time has come.
//!
//! A watermark says: of what this sender gives on this stream, no record of that event time or an earlier one comes any
//! more. It travels in band, because what it says is about order: behind the records that it speaks of, before all others.
//! It belongs to the epoch in which it is sent, as records do, so a checkpoint's cut goes through the watermarks of a
//! sender where it goes through its records. Each sender says it to every worker behind the next exchange, and each
//! receiver believes the least that its senders have said.

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Concat as _;
use timely::dataflow::operators::generic::Operator as _;
use timely::dataflow::operators::vec::Map as _;

use super::watermark::Watermark;

/// What a stream is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Element<T> {
    Record(T),
    Watermark(Watermark),
}

/// Records from sources or operators, with their event time, in a dataflow whose timestamps are epochs.
///
/// Its own [`map`](Self::map) and the like stand for timely's of the same name. Those cannot be used here: they sort
/// what has come by timestamp, and not stably, so a watermark might get before the records that it speaks of. For what
/// needs no event time there is a way to timely's streams and back: [`records`](Self::records), and `From`.
#[derive(Clone, Debug)]
pub struct DataStream<'scope, T: 'static> {
    elements: StreamVec<'scope, u64, Element<T>>,
    /// How many streams of one sender a worker were merged in it.
    inputs: u32,
}

impl<'scope, T: 'static> DataStream<'scope, T> {
    /// The stream of one source or operator.
    pub(super) fn of_one(elements: StreamVec<'scope, u64, Element<T>>) -> Self {
        Self { elements, inputs: 1 }
    }

    pub(super) fn into_parts(self) -> (StreamVec<'scope, u64, Element<T>>, u32) {
        (self.elements, self.inputs)
    }

    /// What `logic` makes of each record.
    pub fn map<U: 'static>(self, mut logic: impl FnMut(T) -> U + 'static) -> DataStream<'scope, U> {
        self.flat_map(move |record| Some(logic(record)))
    }

    /// The records for which `holds` does.
    pub fn filter(self, mut holds: impl FnMut(&T) -> bool + 'static) -> Self {
        self.flat_map(move |record| holds(&record).then_some(record))
    }

    /// All that `logic` makes of each record: none, one, or some. Event time is that of the records it was made of.
    pub fn flat_map<I>(self, mut logic: impl FnMut(T) -> I + 'static) -> DataStream<'scope, I::Item>
    where
        I: IntoIterator,
        I::Item: 'static,
    {
        let inputs = self.inputs;
        let elements = self.elements.unary::<CapacityContainerBuilder<Vec<Element<I::Item>>>, _, _, _>(
            Pipeline,
            "FlatMap",
            move |_, _| {
                move |input, output| {
                    // Not `for_each_stamp`, which sorts.
                    input.for_each(|capability, batch| {
                        let mut session = output.session(&capability);
                        for element in batch.drain(..) {
                            match element {
                                Element::Record(record) => {
                                    session.give_iterator(logic(record).into_iter().map(Element::Record));
                                }
                                Element::Watermark(watermark) => session.give(Element::Watermark(watermark)),
                            }
                        }
                    });
                }
            },
        );
        DataStream { elements, inputs }
    }

    /// The same stream; `look` sees each record.
    pub fn inspect(self, mut look: impl FnMut(&T) + 'static) -> Self {
        self.map(move |record| {
            look(&record);
            record
        })
    }

    /// The records of both streams. Its event time is the lesser of theirs: an operator behind it that takes an enum of
    /// two types of records joins two streams.
    pub fn union(self, other: Self) -> Self {
        let first = self.inputs;
        let inputs = first.saturating_add(other.inputs);
        let others = other.elements.unary::<CapacityContainerBuilder<Vec<Element<T>>>, _, _, _>(
            Pipeline,
            "Union",
            move |_, _| {
                move |input, output| {
                    input.for_each(|capability, batch| {
                        for element in batch.iter_mut() {
                            if let Element::Watermark(watermark) = element {
                                watermark.input = watermark.input.saturating_add(first);
                            }
                        }
                        output.session(&capability).give_container(batch);
                    });
                }
            },
        );
        Self { elements: self.elements.concat(others), inputs }
    }

    /// The records alone, as timely's own operators take them.
    pub fn records(self) -> StreamVec<'scope, u64, T> {
        self.elements.flat_map(|element| match element {
            Element::Record(record) => Some(record),
            Element::Watermark(_) => None,
        })
    }
}

/// A stream of timely's. It says nothing of event time, ever, so behind it, or behind a union with it, no timer is due.
impl<'scope, T: 'static> From<StreamVec<'scope, u64, T>> for DataStream<'scope, T> {
    fn from(records: StreamVec<'scope, u64, T>) -> Self {
        Self::of_one(records.map(Element::Record))
    }
}
