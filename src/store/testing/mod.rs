//! Stores for tests, and the conformance suite (feature `test-support`).
//!
//! - [`conformance`] checks any [`Store`](super::Store) against the contract. Run it on yours.
//! - [`CountingStore`] counts requests and bytes, so that a test can say what an operation costs.
//! - [`FaultyStore`] fails, loses answers, lands writes late, damages objects, and stops one party at
//!   any step.
//!
//! Both wrap any store and can wrap each other.

pub mod conformance;
mod counting;
mod faulty;
mod gate;
mod rule;

pub use counting::{CountingStore, Traffic};
pub use faulty::FaultyStore;
pub use gate::Gate;
pub use rule::{Fault, Rule, Step};
