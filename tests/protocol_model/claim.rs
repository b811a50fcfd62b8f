//! C1-C9: how a coordinator becomes the owner.

use crate::model::{Action, Protocol};
use crate::scope::{ClaimStep, Mutation};
use crate::state::*;

pub fn actions(protocol: &Protocol, state: &State, me: usize, actions: &mut Vec<Action>) {
    let coordinator = &state.coordinators[me];
    if coordinator.ended {
        return;
    }
    if usize::from(coordinator.claim_step) < protocol.mutation.claim_steps().len() {
        actions.push(Action::Claim(me));
    }
    if matches!(coordinator.commit, Commit::AdoptedLook | Commit::AdoptedReport) {
        actions.push(Action::Adopted(me));
    }
}

/// Has everything been read that the start is made of?
pub fn has_read(protocol: &Protocol, coordinator: &Coordinator) -> bool {
    let steps = protocol.mutation.claim_steps();
    let pending = &steps[usize::from(coordinator.claim_step)..];
    !pending.iter().any(|step| {
        !matches!(step, ClaimStep::Publish | ClaimStep::Look | ClaimStep::Start | ClaimStep::FinishPredecessor)
    })
}

pub fn step(protocol: &Protocol, state: &mut State, me: usize) {
    let step = protocol.mutation.claim_steps()[usize::from(state.coordinators[me].claim_step)];
    state.coordinators[me].claim_step += 1;
    match step {
        ClaimStep::Choose => {
            let seen = state.coordinators.iter().filter(|other| other.claimed).map(|other| other.counter).max();
            state.coordinators[me].counter = seen.unwrap_or(0) + 1;
        }
        ClaimStep::Publish => state.coordinators[me].claimed = true,
        ClaimStep::Look => {
            if protocol.is_fenced(state, me) {
                stop(&mut state.coordinators[me]);
            }
        }
        ClaimStep::ReadLists => read_lists(protocol, state, me),
        ClaimStep::ReadStarts => {
            let newest = newest_start_seen(protocol, state, me);
            state.coordinators[me].newest = newest.map_or(0, |newest| newest as u8 + 1);
        }
        ClaimStep::ReadFirstPage => state.coordinators[me].visible |= state.metas & with_id(1),
        ClaimStep::ReadSecondPage => state.coordinators[me].visible |= state.metas & !with_id(1),
        ClaimStep::FinishPredecessor => finish_predecessor(state, me),
        ClaimStep::Start => start(protocol, state, me),
    }
    use ClaimStep::{ReadFirstPage, ReadLists, ReadSecondPage, ReadStarts};
    let reading = matches!(step, ReadLists | ReadStarts | ReadFirstPage | ReadSecondPage);
    if reading && has_read(protocol, &state.coordinators[me]) && !state.coordinators[me].ended {
        state.coordinators[me].adopted = adopted(protocol, state, me);
        let done = &mut state.coordinators[me];
        done.visible = 0;
        if protocol.mutation != Mutation::FinishPredecessorsList {
            done.listed = [0; MAX_COORDINATORS];
            done.newest = 0;
        }
    }
}

fn stop(coordinator: &mut Coordinator) {
    coordinator.ended = true;
    coordinator.listed = [0; MAX_COORDINATORS];
    coordinator.visible = 0;
    coordinator.newest = 0;
}

fn read_lists(protocol: &Protocol, state: &mut State, me: usize) {
    for other in (0..protocol.scope.coordinators).filter(|other| *other != me) {
        state.coordinators[me].listed[other] = condemned(&state.coordinators[other]).metas;
    }
}

/// What the lists of this coordinator that are on the store name.
pub fn condemned(owner: &Coordinator) -> List {
    let mut list = List::default();
    if owner.list_published {
        list = owner.plan;
    }
    if owner.late_list == LateList::Landed {
        list.metas |= owner.late_plan.metas;
        list.files |= owner.late_plan.files;
    }
    list
}

fn newest_start_seen(protocol: &Protocol, state: &State, me: usize) -> Option<usize> {
    let started = (0..protocol.scope.coordinators).filter(|other| *other != me && state.coordinators[*other].started);
    started.reduce(|newest, other| if protocol.is_greater(state, other, newest) { other } else { newest })
}

/// What counts, as this claimant has read it (C7).
fn adopted(protocol: &Protocol, state: &State, me: usize) -> Set {
    let coordinator = &state.coordinators[me];
    let newest = usize::from(coordinator.newest).checked_sub(1);
    let Some(newest) = newest else {
        return if protocol.mutation == Mutation::CountEveryVisible { coordinator.visible } else { 0 };
    };
    let written = protocol.written_by(state, coordinator.visible, newest);
    let mut counting = coordinator.visible & state.coordinators[newest].adopted | written;
    if protocol.mutation == Mutation::CountEveryVisible {
        counting = coordinator.visible;
    }
    let gone = match protocol.mutation {
        Mutation::HonourEveryList => coordinator.listed.iter().fold(0, |all, listed| all | listed),
        Mutation::HonourNoList => 0,
        _ => coordinator.listed[newest],
    };
    counting & !gone
}

/// Mutant: what the predecessor's lists name is deleted, and the lists, before the own start.
fn finish_predecessor(state: &mut State, me: usize) {
    let Some(newest) = usize::from(state.coordinators[me].newest).checked_sub(1) else {
        return;
    };
    let predecessor = &mut state.coordinators[newest];
    let was_read = predecessor.list_published && predecessor.plan.metas != 0;
    let (plan, seen) = (predecessor.plan, state.coordinators[me].listed[newest]);
    if was_read && plan.metas & !seen == 0 {
        state.coordinators[newest].list_published = false;
        state.metas &= !plan.metas;
        state.files &= !plan.files;
    }
    let me = &mut state.coordinators[me];
    (me.listed, me.newest) = ([0; MAX_COORDINATORS], 0);
}

fn start(protocol: &Protocol, state: &mut State, me: usize) {
    state.coordinators[me].started = true;
    let adopted = state.coordinators[me].adopted;
    if crate::properties::owner(state) == Some(me) {
        // From now on it is this owner's retention that decides about what it adopted. (One that is fenced as it starts
        // decides nothing: its successor may have honoured a list that this start makes void.)
        state.dropped &= !adopted;
    }
    if adopted & !state.reported != 0 {
        let looks = protocol.mutation != Mutation::AdoptedReportedWithoutLook;
        state.coordinators[me].commit = if looks { Commit::AdoptedLook } else { Commit::AdoptedReport };
    }
}

pub fn report_adopted(protocol: &Protocol, state: &mut State, me: usize) {
    if state.coordinators[me].commit == Commit::AdoptedLook {
        let fenced = protocol.is_fenced(state, me);
        state.coordinators[me].ended |= fenced;
        state.coordinators[me].commit = if fenced { Commit::Idle } else { Commit::AdoptedReport };
        return;
    }
    // What its own deleting thread has dropped meanwhile is nobody's concern any more.
    let told = state.coordinators[me].adopted & !state.coordinators[me].condemned_metas;
    for metadata in members(told) {
        state.reported |= 1 << object(protocol.metadata_writer(state, metadata), id_of(metadata));
    }
    state.coordinators[me].commit = Commit::Idle;
}
