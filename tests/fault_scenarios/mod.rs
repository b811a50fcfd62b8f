//! What a job must survive on a store that is a network away: scenarios that hold for every kind of remote store,
//! written against [`Remote`]. A test program for one kind implements that and calls them.
//!
//! Each scenario takes checkpoints of real state, breaks something, mends it, and ends with [`Job::settle`]: every
//! checkpoint that was acknowledged restores key by key, the next one succeeds, and after two collections nothing
//! lies on the store that the retained checkpoints do not need.
#![allow(dead_code)] // each kind of store uses some of it

mod job;
pub mod killed;
pub mod late;
pub mod lost;
pub mod passing;
pub mod refused;

use std::time::Duration;

use icecore::store::StoreRef;

use crate::services::proxy::{Aim, Proxy};

pub use job::Job;

/// A test for each of these scenarios, on the server that all tests share. `Place` is that of the test program.
macro_rules! scenarios {
    ($($name:ident: $scenario:path,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(place) = crate::support::Place::shared(stringify!($name)) else { return };
                $scenario(&place).await;
            }
        )*
    };
}
pub(crate) use scenarios;

/// How long a job's calls on its store are patient.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The store's option `retry-for`.
    pub retry_for: &'static str,
    /// How long the service may be silent.
    pub silence: &'static str,
    /// Whether files whose upload failed are sent again, under other names.
    pub sends_again: bool,
}

impl Patience {
    /// As jobs are by default.
    pub const DEFAULT: Self = Self { retry_for: "60s", silence: "30s", sends_again: true };
    /// What is down is told at once.
    pub const NONE: Self = Self { retry_for: "0s", silence: "30s", sends_again: false };
}

/// Waits, beside what the job does, for the moment at which something is to break.
pub async fn until(is: impl Fn() -> bool) {
    while !is() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A place of one test's own on a real server, and what breaks it.
pub trait Remote {
    /// As a job opens it: through the network.
    fn store(&self, patience: Patience) -> StoreRef;

    /// The same place past the network, opened by somebody who writes nothing.
    fn witness(&self) -> StoreRef;

    /// What lies between the job and the server.
    fn network(&self) -> &Proxy;

    /// The request by which an object appears whose name contains `part`.
    fn write_of(&self, part: &str) -> Aim;

    /// The request by which one object is deleted whose name contains `part`.
    fn delete_of(&self, part: &str) -> Aim;

    /// Whether an object that is sent in pieces was begun.
    fn has_sent_a_piece(&self) -> bool;

    /// kill -9.
    fn kill(&self);

    /// Starts it again with its data, and waits until it answers.
    fn restart(&self);
}
