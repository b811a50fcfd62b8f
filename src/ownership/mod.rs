//! Who owns a job: claims, tenures, fencing, what counts, holds, and requests to the living owner.
//!
//! One rule keeps a job's folder sound: it is changed only by the coordinator with the greatest
//! claim, and that one **publishes, then looks** (`docs/protocol.md`). Nothing here trusts a clock, a
//! lock or compare-and-swap; all that is assumed of the store is its contract ([`crate::store`]).
//!
//! - [`Tenure::claim`] takes the job over (steps C1-C9) and yields a [`Tenure`] and a [`JobView`].
//! - [`Tenure::commit`] publishes a checkpoint (K3-K5); [`Tenure::look`] is the look of every step.
//! - [`JobView::read`] is for everyone, owner or not: what counts, what does not, and why.
//! - [`requests`] carries a command's wish to the living owner.
//!
//! A tenure that is fenced, or has made a write of unknown outcome, is over for good: the value
//! remembers it, and every later look and commit fails. The process may claim again.

mod epochs;
mod reading;
pub mod requests;
mod tenure;
mod view;

#[cfg(feature = "cli")]
pub(crate) use reading::read_record;
pub(crate) use reading::{proven, read_metadata};

pub use epochs::{EpochState, Epochs, MAX_EPOCH_OBJECTS};
pub use tenure::{Claimed, Committed, LOOK_ATTEMPTS, Tenure, TenureEnd};
pub(crate) use view::check_locations;
pub use view::{BlockScope, Blocker, CheckpointView, HoldView, JobView, ListView, NotCounting, Uncounted, Unreadable};
