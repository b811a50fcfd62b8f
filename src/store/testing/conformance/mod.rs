//! The conformance suite: does a [`Store`](crate::store::Store) keep the contract?
//!
//! ```
//! # async fn on_my_store(my_store: icecore::store::StoreRef) {
//! use icecore::store::testing::conformance;
//! conformance::run(|| async { my_store.clone() }).await.assert_conforms();
//! # }
//! ```
//!
//! Each check is a named function that works in a folder of its own and knows the clause of the
//! contract that it checks; [`CHECKS`] lists them. The store need not be empty, but the suite's folder
//! ([`Options::folder`]) must be, because no name is ever written twice: give every run on a store
//! that stays a fresh one.
//!
//! What it cannot check: that objects survive a crash or a power cut, and what *another* process sees.

mod deleting;
mod listing;
mod place;
mod reading;
mod writing;

use std::fmt;
use std::future::Future;

use futures::future::BoxFuture;

use self::place::Outcome;
use crate::store::StoreRef;

pub use self::place::{Fail, Place};

/// The parts of the contract (see [`crate::store`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clause {
    /// An object appears at once and complete, or not at all.
    Whole,
    /// What was written is read, as it was, by every read that starts later.
    ReadAfterWrite,
    /// What was written is listed, and what was deleted is not, by every listing that starts later.
    ListAfterWrite,
    /// Listings are complete and in order of paths; a prefix is a folder; folders come and go with
    /// their objects.
    Listing,
    /// A range is answered exactly or not at all.
    Ranges,
    /// Different names are different objects; every valid name can be written.
    Names,
    /// A delete removes what it names and only that; a missing object is no error.
    Deleting,
    /// A writer that is dropped or aborted leaves nothing.
    Abandoned,
    /// Writers side by side do not disturb each other.
    SideBySide,
    /// Errors have the kind that the contract says.
    ErrorKinds,
}

/// One check.
#[derive(Clone, Copy)]
pub struct Check {
    /// The name of the function that checks.
    pub name: &'static str,
    /// What it checks.
    pub clause: Clause,
    run: fn(Place) -> BoxFuture<'static, Outcome>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).field("clause", &self.clause).finish_non_exhaustive()
    }
}

macro_rules! checks {
    ($($clause:ident: $module:ident::$name:ident,)*) => {
        /// All checks, in the order in which they run.
        pub const CHECKS: &[Check] = &[$(Check {
            name: stringify!($name),
            clause: Clause::$clause,
            run: |place| Box::pin(async move { $module::$name(&place).await }),
        },)*];
    };
}

checks! {
    ReadAfterWrite: reading::objects_of_all_sizes_are_read_as_they_were_written,
    ReadAfterWrite: reading::an_object_streamed_in_uneven_pieces_is_read_as_it_was_written,
    ReadAfterWrite: reading::a_large_object_is_read_as_it_was_written,
    Ranges: reading::a_range_is_answered_exactly,
    Ranges: reading::a_range_past_the_end_is_corrupt,
    ErrorKinds: reading::a_missing_object_is_not_found,
    Whole: writing::an_object_put_is_whole_at_first_sight,
    Whole: writing::an_object_being_streamed_is_not_seen_before_it_is_finished,
    Whole: writing::a_put_that_is_dropped_leaves_a_whole_object_or_none,
    Abandoned: writing::a_dropped_writer_leaves_nothing,
    Abandoned: writing::an_aborted_writer_leaves_nothing,
    SideBySide: writing::writers_side_by_side_do_not_disturb_each_other,
    Names: writing::names_that_differ_a_little_are_different_objects,
    Names: writing::the_longest_names_can_be_written,
    ListAfterWrite: listing::what_was_written_is_listed_at_once,
    Listing: listing::thousands_of_objects_are_listed_completely_and_in_order,
    Listing: listing::a_deep_tree_is_listed_completely,
    Listing: listing::the_order_is_that_of_whole_paths,
    Listing: listing::a_prefix_is_a_folder_and_not_a_piece_of_a_name,
    Listing: listing::children_are_the_names_directly_below_each_once,
    Listing: listing::a_missing_folder_is_empty,
    Listing: listing::a_folder_goes_with_its_last_object,
    ListAfterWrite: deleting::a_deleted_object_is_gone_at_once,
    Deleting: deleting::deleting_what_is_missing_is_ok_and_answers_are_one_each,
    Deleting: deleting::a_delete_hits_only_what_it_names,
    SideBySide: deleting::a_writer_survives_the_deletes_that_empty_its_folder,
    Abandoned: deleting::housekeeping_leaves_objects_alone_and_breaks_no_promise,
}

/// How much the suite writes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder that the suite works in; must be empty. Default `conformance`.
    pub folder: String,
    /// How many objects the listing check writes. Default 5,000.
    pub listed_objects: usize,
    /// The size of the largest object, in bytes. Default 9 MiB; 1 GiB is worth a try before a store
    /// goes into production. It is made up and compared piece by piece, never held in memory.
    pub large_object_bytes: u64,
    /// How many writers work side by side. Default 32.
    pub writers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { folder: "conformance".to_owned(), listed_objects: 5_000, large_object_bytes: (9 << 20) + 1, writers: 32 }
    }
}

/// A broken clause of the contract.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// The clause that was broken.
    pub clause: Clause,
    /// What was seen, and where.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is broken: {}: {}", self.clause, self.check, self.detail)
    }
}

/// What the suite found.
#[derive(Clone, Debug)]
#[must_use = "a report that nobody looks at checks nothing"]
pub struct Report {
    /// The store's name for itself.
    pub store: String,
    /// The checks that passed.
    pub passed: Vec<&'static str>,
    /// The checks that did not.
    pub violations: Vec<Violation>,
}

impl Report {
    /// # Panics
    /// If a clause is broken; the message names each one.
    #[track_caller]
    #[allow(clippy::panic)]
    pub fn assert_conforms(&self) {
        if !self.violations.is_empty() {
            panic!("{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, broken) = (self.passed.len(), self.violations.len());
        writeln!(f, "{}: {passed} checks passed, {broken} failed", self.store)?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "- {violation}"))
    }
}

/// Runs every check with the default [`Options`]. `store` is called once for each.
pub async fn run<F, Fut>(store: F) -> Report
where
    F: Fn() -> Fut,
    Fut: Future<Output = StoreRef>,
{
    run_with(&Options::default(), store).await
}

/// Runs every check. `store` is called once for each; it may give the same store or a new one.
pub async fn run_with<F, Fut>(options: &Options, store: F) -> Report
where
    F: Fn() -> Fut,
    Fut: Future<Output = StoreRef>,
{
    let mut report = Report { store: String::new(), passed: Vec::new(), violations: Vec::new() };
    for check in CHECKS {
        let store = store().await;
        report.store = store.describe();
        match check.run(store, options).await {
            Ok(()) => report.passed.push(check.name),
            Err(violation) => report.violations.push(violation),
        }
    }
    report
}

impl Check {
    /// Runs this check alone.
    ///
    /// # Errors
    /// The violation, if the contract is broken.
    pub async fn run(&self, store: StoreRef, options: &Options) -> Result<(), Violation> {
        let broken = |fail: Fail| Violation { check: self.name, clause: self.clause, detail: fail.to_string() };
        let place = Place::new(store, options, self.name).map_err(broken)?;
        place.expect_unused().await.map_err(broken)?;
        (self.run)(place).await.map_err(broken)
    }
}
