//! NEXMark's queries as dataflows: each a function from a stream of events to a stream of results.
//!
//! They know nothing of where events come from, where results go to, and how state is kept. Each result comes once,
//! and is the same in every run, whatever the number of workers and in which order records of different workers meet:
//! where a query in SQL would put out a number again whenever a record changes it, the one here waits until event time
//! has come to the change, and puts the changes out in that order.
//!
//! Not here: q0-q2, q10, q13, q14, q21 and q22, which have no state; q12, whose windows are of processing time, so that
//! no two runs give the same; q15 and q16, which are q17 with more columns.

use std::collections::BTreeMap;
use std::fmt;

use icecore::job::dataflow::{Checkpoints, DataStream};
use icecore::state::typed::KeyContext;
use icecore::task::CheckpointedTask;
use icecore::{Error, Result};
use nexmark::event::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::ExchangeData;

mod clock;
mod highest;
pub mod q11_sessions;
pub mod q17_auction_statistics;
pub mod q18_last_bids;
pub mod q19_top_bids;
pub mod q20_expanded_bids;
pub mod q3_local_items;
pub mod q4_category_averages;
pub mod q5_hot_items;
pub mod q6_seller_averages;
pub mod q7_highest_bids;
pub mod q8_new_sellers;
pub mod q9_winning_bids;
pub mod records;
pub mod window;
mod winners;

pub use q3_local_items::Q3;
pub use q4_category_averages::Q4;
pub use q5_hot_items::Q5;
pub use q6_seller_averages::Q6;
pub use q7_highest_bids::Q7;
pub use q8_new_sellers::Q8;
pub use q9_winning_bids::Q9;
pub use q11_sessions::Q11;
pub use q17_auction_statistics::Q17;
pub use q18_last_bids::Q18;
pub use q19_top_bids::Q19;
pub use q20_expanded_bids::Q20;

/// A query.
pub trait Query: 'static {
    /// One result.
    type Output: ExchangeData + Serialize + DeserializeOwned + Clone + Ord + fmt::Debug + fmt::Display;

    /// What it is called.
    const NAME: &'static str;
    /// The question.
    const ABOUT: &'static str;
    /// The ids of its stateful operators.
    const OPERATORS: &'static [&'static str];

    /// Builds it on one worker. `tasks` holds one for each of its operators.
    ///
    /// # Errors
    /// If one is missing, or of another worker, or its state is of other types.
    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, Self::Output>>;

    /// What its results are distributed by.
    fn key(output: &Self::Output) -> u64;
}

/// One worker's tasks, by operator.
pub struct Tasks<B>(BTreeMap<&'static str, B>);

impl<B: CheckpointedTask> Tasks<B> {
    pub fn new(tasks: BTreeMap<&'static str, B>) -> Self {
        Self(tasks)
    }

    /// The task of an operator.
    ///
    /// # Errors
    /// If there is none.
    pub fn take(&mut self, operator: &str) -> Result<B> {
        let none = || Error::invalid("build a query", "the operator has no task").with_object(operator);
        self.0.remove(operator).ok_or_else(none)
    }

    /// The keyed state of an operator.
    fn keys<K>(&mut self, operator: &str) -> Result<KeyContext<K, B>> {
        Ok(KeyContext::new(self.take(operator)?))
    }
}
