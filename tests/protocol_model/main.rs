//! The protocol of `docs/protocol.md`, checked exhaustively in small worlds, and one mutant for every look, order and name in
//! it: a step whose absence the checker does not notice is either redundant or not checked, and the document says which.
//!
//! `ICECORE_MODEL_SCOPE=large` runs the same tests in larger worlds.

mod claim;
mod collect_epochs;
mod commit;
mod delete;
mod model;
mod mutants;
mod properties;
mod scope;
mod state;

use std::collections::BTreeSet;

use model::Protocol;
use scope::{Mutation, Scope};
use stateright::{Checker, HasDiscoveries, Model};

/// Threads of one checker: the machines that run this have two cores.
const THREADS: usize = 2;

/// Walks through the whole world; every invariant must hold, and with `coverage` every interesting state be reached.
fn holds(scope: Scope, mutation: Mutation, coverage: bool) {
    let protocol = Protocol { scope: scope.or_larger(), mutation, coverage };
    let checker = protocol.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{mutation:?}: {} states, {} steps", checker.unique_state_count(), checker.state_count());
    checker.assert_properties();
}

/// The checker finds a run in which `mutation` breaks `invariant`.
fn breaks(scope: Scope, mutation: Mutation, invariant: &'static str) {
    let protocol = Protocol { scope, mutation, coverage: false };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([invariant]));
    let checker = protocol.checker().threads(THREADS).finish_when(found).spawn_bfs().join();
    println!("{mutation:?}: {} states, {} steps", checker.unique_state_count(), checker.state_count());
    let run = checker.discovery(invariant);
    assert!(run.is_some(), "{mutation:?} does not break {invariant}");
    println!("{:?}", run.map(|run| run.into_actions()));
}

#[test]
fn two_coordinators_that_claim_an_empty_job_break_nothing() {
    holds(Scope::TWO, Mutation::None, true);
}

#[test]
fn an_owner_that_shares_files_and_its_successor_break_nothing() {
    holds(Scope::SHARING, Mutation::None, false);
}

#[test]
fn an_owner_that_commits_beside_its_sweeps_and_a_successor_break_nothing() {
    holds(Scope::BESIDE, Mutation::None, false);
}

#[test]
fn an_owner_and_two_claimants_break_nothing() {
    holds(Scope::THREE, Mutation::None, true);
}

#[test]
fn an_owner_that_drops_a_checkpoint_and_three_claimants_break_nothing() {
    holds(Scope::FOUR, Mutation::None, false);
}
