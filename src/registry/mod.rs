//! The shared-file registry: which stored object is still needed, and by how many.
//!
//! One [`Registry`] belongs to one tenure of a job's coordinator. It lives in memory, does no input
//! or output, and is rebuilt from the `_metadata` files after a claim ([`Rebuilder`]). It answers
//! three questions: *is this content stored already* ([`Registry::begin_upload`]), *what does nobody
//! need any more* ([`Registry::release`], [`Registry::abort`]), and *may this object be deleted*
//! ([`Registry::condemn`], [`Registry::status`]). Full checkpoints and savepoints own their files
//! alone and do not enter.
//!
//! # Counting only what changed: dead lists
//! A job of a million files that changes fifty of them must not pay for a million counts at every
//! checkpoint. So nothing is counted per checkpoint. A *tenancy* is one file of one subtask that lies
//! in one object; it is **born** at the first checkpoint that has it and **dies** at the first later
//! one that has it no more. An object's count is the number of its tenancies. The registered
//! checkpoints form a chain in id order, and each keeps two lists:
//!
//! - its **live list**: tenancies born since its predecessor that no checkpoint has lost yet;
//! - its **dead list**: tenancies that its predecessor has and it has not.
//!
//! A tenancy is in exactly one list. OpenZFS keeps its snapshots so (`dsl_deadlist.c`). Say `a` is
//! in checkpoints 1 and 2, `b` in 1 to 3, `c` in 2 only, `d` from 3 on:
//!
//! | checkpoint | files | live list | dead list |
//! |---|---|---|---|
//! | 1 | a b | b | |
//! | 2 | a b c | | |
//! | 3 | b d | d | a (born 1), c (born 2) |
//!
//! *Release 2.* Its predecessor is 1, its successor 3. What 3 lost and was born after 1 had only 2 to
//! live for: `c` is freed. The rest of 3's dead list, `a`, and 2's own dead list (empty) are 3's dead
//! list now, and 2's live list joins 3's. *Release 1 then.* It has no predecessor, so all of 3's dead
//! list is freed: `a`. `b` is never touched. *Release the newest*, 3, instead: its live list is
//! freed, and what it lost comes back to life, since the newest checkpoint has it again.
//!
//! Lists are linked through the tenancies, and a dead list is kept in parts by the checkpoint in
//! whose live list a tenancy was. So a release costs what it frees plus the number of parts of the
//! smaller of two dead lists, never their length, and `register` costs the changes.
//!
//! **The caller's side of the bargain**: `added` and `removed` are the difference to the *newest
//! registered* checkpoint, whichever checkpoint the subtasks took as their base. So the newest is not
//! released between computing a difference and registering it. A removal that names no living
//! tenancy is refused, so a wrong difference is found and not counted.
//!
//! # From upload to deletion
//! ```text
//!  begin_upload -> in flight -> complete: held for its pending checkpoints -> register: referenced
//!                     |                                |                              |
//!             dropped: a waiter                finish_pending / abort              release
//!              takes over, or gone                     |                              |
//!                                                      v                              v
//!                        handed out again <- - - unreferenced, reported once  -> condemn -> forget
//! ```
//! - What a pending checkpoint was answered is held until it ends, so it cannot be deleted under it
//!   (design 4.3). Two pending checkpoints may hold one object; ending one reports only what is
//!   nobody's then (I9).
//! - An object that was reported unreferenced can be handed out until it is condemned. So
//!   [`Registry::condemn`] decides, under the object's lock, and returns what it did condemn; only
//!   that may be deleted. Afterwards it is handed out no more, for the whole tenure; new content of
//!   the same hash gets a new name beside it.
//! - An object that is damaged on the store is *distrusted* ([`Registry::distrust`]): handed out no more,
//!   too, but needed by what references it, and condemned when nothing does.
//! - A name is never used twice (design 3). A failed attempt's name is reported as a suspect with its
//!   checkpoint: the object may land later, even after a look-up found nothing (design 4.7).
//! - A list that a caller lost is found again: the sweep deletes what [`ObjectStatus::is_needed`]
//!   denies, of checkpoints that have ended (I5).
//!
//! # Locks
//! Objects are sharded by hash; a shard has everything about its objects, its part of the chain
//! included, under one lock. `register` and `release` go through the shards one after the other, so
//! they run beside uploads and beside each other; two of a kind wait for each other. No lock is held
//! while a caller's code runs or a waiter is woken.

mod chain;
mod hasher;
mod holds;
mod objects;
mod rebuild;
mod shard;
mod shared;
mod slab;
mod tags;
#[cfg(test)]
mod tests;
mod upload;

pub use objects::MAX_OBJECT_SIZE_BYTES;
pub use rebuild::{Rebuilder, Rebuilt};
pub use shared::Registry;
pub use upload::{UploadDecision, UploadGuard, UploadOutcome, UploadWaiter};

use crate::layout::SharedName;

/// What the registry knows of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectStatus {
    /// Nothing.
    Unknown,
    /// It is being uploaded.
    InFlight,
    /// Registered checkpoints have it.
    Referenced {
        /// How many files of subtasks lie in it, over all registered checkpoints; a file that many
        /// of them have counts once.
        tenancies: u32,
    },
    /// Only pending checkpoints have it.
    Held,
    /// Nothing needs it, and it may still be handed out.
    Unreferenced,
    /// Its deletion is planned.
    Condemned,
}

impl ObjectStatus {
    /// Whether something needs the object, or is about to: the sweep leaves it alone.
    pub fn is_needed(self) -> bool {
        matches!(self, Self::InFlight | Self::Referenced { .. } | Self::Held)
    }
}

/// What nothing needs any more when a pending checkpoint has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreferenced {
    /// Uploaded for this checkpoint and used by no other (I9: all that an abort may delete).
    pub created: Vec<SharedName>,
    /// Created by others, released meanwhile, and kept only because this checkpoint held them.
    pub outlived: Vec<SharedName>,
    /// Names of its failed uploads: they may be there, may not, and may appear later (design 4.7).
    pub suspects: Vec<SharedName>,
}

/// Figures of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Objects known, condemned ones and those in flight included.
    pub entries: u64,
    /// Files of subtasks that lie in them.
    pub tenancies: u64,
    /// Bytes of the objects that are stored and not condemned.
    pub stored_bytes: u64,
    /// Objects whose deletion is planned and not yet confirmed.
    pub condemned: u64,
    /// Uploads in flight.
    pub in_flight: u64,
    /// Objects that pending checkpoints hold.
    pub held: u64,
    /// Registered checkpoints.
    pub checkpoints: u64,
    /// Tenancies read or written by `register` and `release` so far: grows with what changes, not
    /// with what exists.
    pub touched: u64,
    /// Memory behind the entries, in bytes; holds and uploads in flight not included.
    pub heap_bytes: u64,
}

impl Stats {
    /// Memory behind one entry and its tenancies, in bytes.
    pub fn bytes_per_entry(&self) -> u64 {
        self.heap_bytes.checked_div(self.entries).unwrap_or(0)
    }
}
