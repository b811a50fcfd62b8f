//! Deleting what nothing references: plan, condemn, look, delete; sweep; explain.
//!
//! Nothing is ever deleted because it is old. An object goes if the registry and every checkpoint
//! that counts can do without it, and it goes by one path only (`docs/protocol.md`, D1-D5): it is
//! condemned in the registry, a published list names it, a look finds no greater claim, it is
//! deleted, and the list goes when every delete in it is confirmed.
//!
//! - [`plan_drop`], [`plan_release`], [`plan_repair`], [`plan_sweep`] and [`plan_listed`] make a
//!   [`GcPlan`], a value that can be printed and tested, and dry-run.
//! - [`Collector`] executes plans for a tenure and remembers what is not confirmed yet; pins go
//!   through it, too, because they change what may be dropped.
//! - [`Judge`] decides what becomes of one object; [`explain`] says it to people.
//!
//! It fails closed (4.6): an unreadable index that counts keeps all of `shared/`; an unreadable start
//! or list keeps everything; the plan names the object that is in the way.

mod collector;
mod drop;
mod explain;
mod holdings;
mod judge;
mod pins;
mod plan;
mod report;
mod sweep;

pub use collector::{CONDEMNED_BATCH_OBJECTS, Collector, DELETE_BATCH_OBJECTS};
pub use drop::{plan_drop, plan_release, plan_repair, refusal};
pub use explain::{Explanation, explain};
pub use holdings::{Holdings, NoHoldings};
pub use judge::{Fate, Judge, Keep, Progress};
pub use pins::plan_unpin;
pub use plan::{BlockedBy, Dropped, GcPlan, MAX_NAMED_FOREIGN, MAX_PLAN_OBJECTS, PlannedObject, Reason, Refused};
pub use report::{Failed, GcReport};
pub use sweep::{SweepScope, plan_listed, plan_sweep};
