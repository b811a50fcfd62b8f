//! The invariants, and the states that a run must reach to mean anything.
//!
//! These speak of the store by the true rules (`docs/protocol.md`), whatever the mutation under test believes.

use stateright::Property;

use crate::claim::condemned;
use crate::delete::orphans;
use crate::model::{Protocol, referenced};
use crate::scope::DeleteStep;
use crate::state::*;

/// The newest start: the greatest epoch that has published one.
pub fn newest_start(state: &State) -> Option<usize> {
    let started = (0..MAX_COORDINATORS).filter(|me| state.coordinators[*me].started);
    started.max_by_key(|me| (state.coordinators[*me].counter, *me))
}

/// The owner: who holds the greatest claim, if it has started.
pub fn owner(state: &State) -> Option<usize> {
    let claimed = (0..MAX_COORDINATORS).filter(|me| state.coordinators[*me].claimed);
    let greatest = claimed.max_by_key(|me| (state.coordinators[*me].counter, *me));
    greatest.filter(|me| state.coordinators[*me].started)
}

/// What counts: visible, adopted or written by the newest start's epoch, and on none of its lists.
fn counting(protocol: &Protocol, state: &State, newest: usize) -> Set {
    let coordinator = &state.coordinators[newest];
    let written = protocol.written_by(state, state.metas, newest);
    (state.metas & coordinator.adopted | written) & !condemned(coordinator).metas
}

/// I1: every file of every checkpoint that counts exists; what was adopted and not dropped is there.
fn files_of_counting_checkpoints_exist(protocol: &Protocol, state: &State) -> bool {
    let Some(newest) = newest_start(state) else {
        return true;
    };
    let files = referenced(state, counting(protocol, state, newest));
    let kept = state.coordinators[newest].adopted & !state.dropped;
    files & !state.files == 0 && kept & !state.metas == 0
}

/// "Nothing referenced is ever deleted", for the references not yet on the store: what the owner's checkpoint in flight counts on.
fn files_of_the_owners_checkpoint_in_flight_exist(_: &Protocol, state: &State) -> bool {
    let Some(owner) = owner(state) else {
        return true;
    };
    let owner = &state.coordinators[owner];
    owner.ended || !owner.in_flight() || state.files & (1 << owner.current_file) != 0
}

/// I2: what was reported complete, and no owner's retention dropped, counts.
fn reported_checkpoints_stay(protocol: &Protocol, state: &State) -> bool {
    let Some(newest) = newest_start(state) else {
        return state.reported == 0;
    };
    let counting = counting(protocol, state, newest);
    members(state.reported).all(|told| {
        let metadata = protocol.metadata_object(writer_of(told), id_of(told));
        if state.dropped & (1 << metadata) != 0 {
            return true;
        }
        counting & (1 << metadata) != 0 && protocol.metadata_writer(state, metadata) == writer_of(told)
    })
}

/// I3: for one id at most one checkpoint is ever reported complete.
fn one_checkpoint_an_id(_: &Protocol, state: &State) -> bool {
    (1..=MAX_IDS).all(|id| (state.reported & with_id(id)).count_ones() <= 1)
}

/// I5: an idle owner's sweep takes everything that nothing references. (So after two sweeps, the second for what landed
/// late meanwhile, nothing else is left.)
fn an_idle_owners_sweep_finds_all_garbage(protocol: &Protocol, state: &State) -> bool {
    let Some(me) = owner(state) else {
        return true;
    };
    let coordinator = &state.coordinators[me];
    let idle = !coordinator.ended && coordinator.commit == Commit::Idle && coordinator.delete == 0;
    if !idle {
        return true;
    }
    let counting = counting(protocol, state, me) & !coordinator.condemned_metas;
    let orphans = orphans(protocol, state, me);
    let others_list = (0..MAX_COORDINATORS).any(|other| {
        let other_lists = &state.coordinators[other];
        let missed = other_lists.list_published && orphans.lists & (1 << (2 * other)) == 0;
        other != me && missed
    });
    state.metas & !counting & !orphans.metas == 0
        && state.files & !referenced(state, counting) & !orphans.files == 0
        && !others_list
}

pub const I1: &str = "I1 every file of every checkpoint that counts exists";
pub const IN_FLIGHT: &str = "I1 every file of the owner's checkpoint in flight exists";
pub const I2: &str = "I2 a checkpoint reported complete counts until retention drops it";
pub const I3: &str = "I3 one checkpoint an id is reported complete";
pub const I5: &str = "I5 an idle owner's sweep finds all garbage";

fn is_deleting(protocol: &Protocol, coordinator: &Coordinator) -> bool {
    let step = usize::from(coordinator.delete).checked_sub(1);
    step.is_some_and(|step| protocol.mutation.delete_steps()[step] == DeleteStep::Delete)
}

fn any(state: &State, condition: impl Fn(&Coordinator) -> bool) -> bool {
    state.coordinators.iter().any(condition)
}

/// A later owner has started while an earlier one is on its way to delete.
fn a_zombie_deletes(protocol: &Protocol, state: &State) -> bool {
    let newest = newest_start(state);
    (0..MAX_COORDINATORS).any(|me| newest != Some(me) && is_deleting(protocol, &state.coordinators[me]))
}

pub fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always(I1, files_of_counting_checkpoints_exist),
        Property::always(IN_FLIGHT, files_of_the_owners_checkpoint_in_flight_exist),
        Property::always(I2, reported_checkpoints_stay),
        Property::always(I3, one_checkpoint_an_id),
        Property::always(I5, an_idle_owners_sweep_finds_all_garbage),
    ]
}

/// Conditions are narrow: the checker notes every state that meets one.
pub fn sometimes() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("two checkpoints complete in one tenure", |_, s: &State| {
            any(s, |c| c.complete.count_ones() == 2 && c.commit == Commit::Idle && c.delete == 0)
        }),
        Property::sometimes("a dropped checkpoint's file is gone", |p, s: &State| {
            any(s, |c| is_deleting(p, c) && c.plan.metas & s.dropped != 0 && c.plan.files & !s.files != 0)
        }),
        Property::sometimes("a commit is fenced", |_, s: &State| {
            (0..MAX_COORDINATORS).any(|me| s.coordinators[me].ended && s.metas & written_by(me) & !s.reported != 0)
        }),
        Property::sometimes("a deletion is fenced, its list stays", |_, s: &State| {
            any(s, |c| c.ended && c.delete == 0 && c.list_published)
        }),
        Property::sometimes("a zombie deletes what the next owner honoured", a_zombie_deletes),
        Property::sometimes("two claims have one counter", |_, s: &State| {
            s.coordinators.iter().enumerate().any(|(me, c)| {
                c.started && s.coordinators[..me].iter().any(|other| other.started && other.counter == c.counter)
            })
        }),
        Property::sometimes("a successor adopts what nobody was told of", |_, s: &State| {
            any(s, |c| c.started && c.adopted & !s.reported != 0)
        }),
        Property::sometimes("a sweep removes an orphan", |p, s: &State| {
            any(s, |c| is_deleting(p, c) && c.plan.metas & s.dropped == 0 && c.plan.files & !s.files != 0)
        }),
        Property::sometimes("a file is shared by two complete checkpoints", |_, s: &State| {
            any(s, |c| {
                let complete = c.complete.count_ones() == 2 && c.commit == Commit::Idle;
                complete && s.references.iter().any(|f| *f > 0 && s.references.iter().filter(|g| *g == f).count() == 2)
            })
        }),
    ]
}

/// Reached only in a scope with faults.
pub fn sometimes_with_faults() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("a late list lands", |_, s: &State| any(s, |c| c.late_list == LateList::Landed)),
        Property::sometimes("an upload lands after its checkpoint was aborted", |_, s: &State| {
            s.faults == 1
                && s.late_files == 0
                && (0..MAX_COORDINATORS).any(|me| {
                    let c = &s.coordinators[me];
                    !c.in_flight() && s.files & written_by(me) & !referenced(s, s.metas) != 0 && c.deletions == 0
                })
        }),
        Property::sometimes("a late commit lands and is adopted", |_, s: &State| {
            (0..MAX_COORDINATORS).any(|me| {
                let lost = s.coordinators[me].ended && s.coordinators[me].used == 2 && s.faults == 1;
                lost && any(s, |c| c.started && c.adopted & (1 << object(me, 2)) != 0)
            })
        }),
    ]
}
