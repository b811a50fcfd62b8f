//! D1-D5 and S1-S3: how objects go.

use crate::claim::has_read;
use crate::commit::retained;
use crate::model::{Action, Protocol, referenced};
use crate::properties::newest_start;
use crate::scope::{DeleteStep, Mutation, PlanStep};
use crate::state::*;

pub fn actions(protocol: &Protocol, state: &State, me: usize, actions: &mut Vec<Action>) {
    let coordinator = &state.coordinators[me];
    if coordinator.delete > 0 {
        actions.push(Action::Delete(me));
        let step = protocol.mutation.delete_steps()[usize::from(coordinator.delete) - 1];
        let may_fail = state.faults < protocol.scope.faults && coordinator.late_list == LateList::None;
        if step == DeleteStep::Publish && may_fail {
            actions.push(Action::ListFails(me));
        }
        return;
    }
    if coordinator.ended || coordinator.list_published || coordinator.deletions >= protocol.scope.deletions[me] {
        return;
    }
    match coordinator.planning {
        Planning::Nothing => {}
        Planning::Drop(metadata) => return actions.push(Action::PlanDrop(me, usize::from(metadata))),
        Planning::Sweep(_) => return actions.push(Action::PlanSweep(me)),
    }
    let early =
        protocol.mutation == Mutation::DeleteBeforeStart && coordinator.claimed && has_read(protocol, coordinator);
    if coordinator.started {
        let retained = retained(protocol, state, me);
        let newest = members(retained).map(id_of).max().unwrap_or(0);
        let droppable = |metadata: &usize| id_of(*metadata) < newest || protocol.mutation == Mutation::NewestDropped;
        let plan = if protocol.scope.staged { Action::ChooseDrop } else { Action::PlanDrop };
        actions.extend(members(retained).filter(droppable).map(|metadata| plan(me, metadata)));
    }
    // A sweep made in steps may begin when there is nothing yet, and find what comes meanwhile.
    let worthwhile = protocol.scope.staged || orphans(protocol, state, me) != List::default();
    if (coordinator.started || early) && worthwhile {
        actions.push(Action::PlanSweep(me));
    }
}

/// The files that the registry holds: for what is retained, and for a checkpoint in flight.
fn held(protocol: &Protocol, state: &State, me: usize, retained: Set) -> Set {
    let coordinator = &state.coordinators[me];
    let in_flight = coordinator.in_flight() && protocol.mutation != Mutation::InFlightNotHeld;
    referenced(state, retained) | if in_flight { 1 << coordinator.current_file } else { 0 }
}

/// Plans `list` (D1). From here on its files are not handed out any more.
fn plan(state: &mut State, me: usize, list: List) {
    let coordinator = &mut state.coordinators[me];
    coordinator.condemned_metas |= list.metas;
    coordinator.condemned_files |= list.files;
    coordinator.plan = list;
    (coordinator.planning, coordinator.noted) = (Planning::Nothing, Noted::default());
    coordinator.deletions += 1;
    coordinator.delete = 1;
}

pub fn plan_drop(protocol: &Protocol, state: &mut State, me: usize, metadata: usize) {
    let rest = retained(protocol, state, me) & !(1 << metadata);
    let mut metas = 1 << metadata;
    if protocol.mutation != Mutation::FailedListNotRepeated {
        // D1: a checkpoint whose list failed still counts for a successor, so a file that it references goes only by a list
        // that names it again.
        metas |= state.coordinators[me].condemned_metas & state.metas;
    }
    let files = referenced(state, metas) & !held(protocol, state, me, rest);
    plan(state, me, List { metas, files, lists: 0 });
    if newest_start(state) == Some(me) {
        state.dropped |= 1 << metadata;
    }
}

/// What a sweep by `me` would take, made in one step (S2).
pub fn orphans(protocol: &Protocol, state: &State, me: usize) -> List {
    let mut now = Noted::default();
    for step in [PlanStep::Progress, PlanStep::Read] {
        note(protocol, state, me, step, &mut now);
    }
    orphans_as_noted(protocol, state, me, &now)
}

fn note(protocol: &Protocol, state: &State, me: usize, step: PlanStep, noted: &mut Noted) {
    let coordinator = &state.coordinators[me];
    match step {
        PlanStep::Progress => {
            noted.used = coordinator.used;
            noted.in_flight = if coordinator.in_flight() { coordinator.current_id } else { 0 };
        }
        PlanStep::Read => {
            noted.retained = retained(protocol, state, me);
            if protocol.mutation == Mutation::HeldNotAskedAgain {
                noted.held = held(protocol, state, me, noted.retained);
            }
        }
        PlanStep::ListAndCondemn => {}
    }
}

/// What a sweep takes of what is there now, going by what it noted before.
fn orphans_as_noted(protocol: &Protocol, state: &State, me: usize, noted: &Noted) -> List {
    let retained_now = retained(protocol, state, me);
    let held = match protocol.mutation {
        Mutation::HeldNotAskedAgain => noted.held,
        _ => held(protocol, state, me, retained_now) | referenced(state, noted.retained),
    };
    let smaller = (0..protocol.scope.coordinators).filter(|other| {
        let other_claim = &state.coordinators[*other];
        *other != me && other_claim.claimed && protocol.is_greater(state, me, *other)
    });
    let (mut sweepable, mut lists) = (0, 0);
    for other in smaller {
        sweepable |= written_by(other);
        lists |= u8::from(state.coordinators[other].list_published) << (2 * other);
        lists |= u8::from(state.coordinators[other].late_list == LateList::Landed) << (2 * other + 1);
    }
    for id in 1..=usize::from(noted.used) {
        let in_flight = usize::from(noted.in_flight) == id;
        let spared = match protocol.mutation {
            Mutation::SweepTakesInFlight => false,
            Mutation::SweepSparesOwnAborted => true,
            _ => in_flight,
        };
        if !spared {
            sweepable |= 1 << object(me, id);
        }
    }
    let mut sweepable_files = sweepable;
    if protocol.mutation == Mutation::NamesWithoutTag {
        // Nothing in the name says whose it is.
        sweepable_files = 1 << object(0, 1);
    }
    List { metas: state.metas & sweepable & !noted.retained, files: state.files & sweepable_files & !held, lists }
}

pub fn plan_sweep(protocol: &Protocol, state: &mut State, me: usize) {
    if !protocol.scope.staged {
        let list = orphans(protocol, state, me);
        return plan(state, me, list);
    }
    let done = match state.coordinators[me].planning {
        Planning::Sweep(done) => done,
        _ => 0,
    };
    let mut noted = state.coordinators[me].noted;
    let step = protocol.mutation.plan_steps()[usize::from(done)];
    if step == PlanStep::ListAndCondemn {
        let list = orphans_as_noted(protocol, state, me, &noted);
        return plan(state, me, list);
    }
    note(protocol, state, me, step, &mut noted);
    state.coordinators[me].noted = noted;
    state.coordinators[me].planning = Planning::Sweep(done + 1);
}

pub fn step(protocol: &Protocol, state: &mut State, me: usize) {
    let steps = protocol.mutation.delete_steps();
    let done = usize::from(state.coordinators[me].delete) - 1;
    let mut finished = true;
    match steps[done] {
        DeleteStep::Publish => state.coordinators[me].list_published = true,
        DeleteStep::Look => {
            if protocol.is_fenced(state, me) {
                state.coordinators[me].ended = true;
                rest(&mut state.coordinators[me]);
                return;
            }
        }
        DeleteStep::Delete => finished = delete_one(protocol, state, me),
        DeleteStep::Remove => state.coordinators[me].list_published = false,
    }
    if finished {
        state.coordinators[me].delete += 1;
        if done + 1 == steps.len() {
            rest(&mut state.coordinators[me]);
        }
    }
}

/// The deleting thread is idle. The plan stays while it is the content of a list on the store.
fn rest(coordinator: &mut Coordinator) {
    coordinator.delete = 0;
    if !coordinator.list_published {
        coordinator.plan = List::default();
    }
}

/// Deletes the next object of the plan; true when that was the last. What is not there counts as confirmed.
fn delete_one(protocol: &Protocol, state: &mut State, me: usize) -> bool {
    let plan = state.coordinators[me].plan;
    let (metas, files) = (plan.metas & state.metas, plan.files & state.files);
    let files_first = protocol.mutation == Mutation::FilesDeletedBeforeMetadata;
    if metas != 0 && !(files_first && files != 0) {
        state.metas &= !(metas & metas.wrapping_neg());
    } else if files != 0 {
        state.files &= !(files & files.wrapping_neg());
    } else {
        remove_lists(state, plan.lists);
    }
    plan.metas & state.metas == 0 && plan.files & state.files == 0 && plan.lists & lists_present(state) == 0
}

fn lists_present(state: &State) -> u8 {
    let mut present = 0;
    for (index, coordinator) in state.coordinators.iter().enumerate() {
        present |= u8::from(coordinator.list_published) << (2 * index);
        present |= u8::from(coordinator.late_list == LateList::Landed) << (2 * index + 1);
    }
    present
}

/// Void lists go all at once: nobody acts upon them any more.
fn remove_lists(state: &mut State, lists: u8) {
    for (index, coordinator) in state.coordinators.iter_mut().enumerate() {
        if lists & (1 << (2 * index)) != 0 {
            coordinator.list_published = false;
            if coordinator.delete == 0 {
                coordinator.plan = List::default();
            }
        }
        if lists & (2 << (2 * index)) != 0 && coordinator.late_list == LateList::Landed {
            (coordinator.late_list, coordinator.late_plan) = (LateList::None, List::default());
        }
    }
}

pub fn publishing_fails(protocol: &Protocol, state: &mut State, me: usize) {
    let list = state.coordinators[me].plan;
    let coordinator = &mut state.coordinators[me];
    coordinator.late_list = LateList::Pending;
    coordinator.late_plan = list;
    state.faults += 1;
    if protocol.mutation == Mutation::ListBelievedAbsent {
        coordinator.condemned_metas &= !list.metas;
        coordinator.condemned_files &= !list.files;
        state.dropped &= !list.metas;
    }
    rest(&mut state.coordinators[me]);
}
