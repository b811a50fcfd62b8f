//! Checkpoints from one store to another: same content by hash, only what the target lacks, every byte
//! verified on the way.
//!
//! The target is a job's folder, so its owner changes it and nobody else: a copy is the work of a tenure of the
//! *target's* job, with a [`crate::coordinator::Coordinator`] of its own. Each checkpoint is committed there as
//! if it had been taken there (K1-K5): under the target's epoch, its files under fresh names that the target's
//! registry gives out, `_metadata` last. So it appears whole or not at all; content that a checkpoint at the
//! target has already is referenced and not sent; and what an interrupted copy sent is an orphan like any other,
//! which the next copy or collection removes. The source is only read.
//!
//! **Which is which.** A copy keeps the identity of the state it holds in its `_metadata`
//! ([`crate::metadata::Origin`]): job, number and epoch that the state was taken under. By that, and by comparing
//! the content, a later copy finds what is there already, so that it may be repeated, or go on after any
//! interruption, without doubling anything; and a copy of a copy is known for the same.
//!
//! **Numbers.** A checkpoint keeps its number where the protocol allows it: above every checkpoint that counts at
//! the target (C9). Checkpoints go oldest first, so that this is the rule, and so that each sends only what is new
//! since the one before it. One that would have to go below what is there is not copied, because numbers stand for
//! age, and the newest is what a recovery takes. Whoever wants it all the same copies it *on top*.
//!
//! - [`CopyPlan`] says what a copy would do, from two views; [`copy_checkpoints`] does it.
//! - [`SavepointPlan`] and [`copy_savepoint`] do the same for a savepoint, which is a folder of the user's.

mod plan;
mod run;
mod savepoint;

pub use plan::{CopyOptions, CopyPlan, CopyStep, Refusal, Verdict};
pub use run::{CopiedCheckpoint, CopyReport, CopySource, DamagedSource, StopCopy, copy_checkpoints};
pub use savepoint::{SavepointPlan, copy_savepoint};
