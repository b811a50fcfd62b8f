//! K1-K5: how a checkpoint becomes complete.

use crate::model::{Action, Protocol, referenced};
use crate::scope::{CommitStep, Mutation};
use crate::state::*;

/// The checkpoints in this owner's registry that retention has not dropped.
pub fn retained(protocol: &Protocol, state: &State, me: usize) -> Set {
    let coordinator = &state.coordinators[me];
    let own = (1..=protocol.scope.ids).filter(|id| coordinator.complete & (1 << id) != 0);
    let own: Set = own.map(|id| 1 << protocol.metadata_object(me, id)).fold(0, |set, bit| set | bit);
    (coordinator.adopted | own) & !coordinator.condemned_metas
}

/// The files that the registry hands out for a new checkpoint.
fn handed_out(protocol: &Protocol, state: &State, me: usize) -> Set {
    let coordinator = &state.coordinators[me];
    if protocol.mutation == Mutation::CondemnedHandedOut {
        let dropped = if coordinator.delete > 0 { coordinator.plan.metas } else { 0 };
        return referenced(state, retained(protocol, state, me) | dropped);
    }
    // What nothing references is handed out, too, until it is condemned: of an aborted checkpoint, say. It matters where
    // plans are made in steps.
    let unreferenced = if protocol.scope.staged { state.files & written_by(me) } else { 0 };
    (referenced(state, retained(protocol, state, me)) | unreferenced) & !coordinator.condemned_files
}

fn next_id(coordinator: &Coordinator) -> usize {
    let adopted = members(coordinator.adopted).map(id_of).max().unwrap_or(0);
    adopted.max(usize::from(coordinator.used)) + 1
}

pub fn actions(protocol: &Protocol, state: &State, me: usize, actions: &mut Vec<Action>) {
    let coordinator = &state.coordinators[me];
    let may_fail = state.faults < protocol.scope.faults;
    match coordinator.commit {
        Commit::Idle => {
            if !coordinator.started || coordinator.ended || next_id(coordinator) > protocol.scope.ids {
                return;
            }
            let handed_out = handed_out(protocol, state, me);
            actions.extend(members(handed_out).map(|file| Action::Reuse(me, file)));
            let same_name = protocol.mutation == Mutation::NamesWithoutTag;
            // Other content than what is stored, or nothing stored is handed out.
            if handed_out == 0 || !same_name {
                actions.push(Action::Upload(me));
                if may_fail {
                    actions.push(Action::UploadFails(me));
                }
            }
        }
        Commit::Step(step) => {
            actions.push(Action::Commit(me));
            let publishes = protocol.mutation.commit_steps()[usize::from(step)] == CommitStep::Publish;
            if publishes && may_fail {
                actions.extend([Action::CommitFails(me), Action::Abort(me)]);
            }
        }
        Commit::AdoptedLook | Commit::AdoptedReport => {}
    }
}

/// K1: takes the next id for a checkpoint that references `file`.
pub fn begin(state: &mut State, me: usize, file: usize) {
    let coordinator = &mut state.coordinators[me];
    coordinator.used = next_id(coordinator) as u8;
    coordinator.current_id = coordinator.used;
    coordinator.current_file = file as u8;
    coordinator.commit = Commit::Step(0);
}

pub fn upload(protocol: &Protocol, state: &mut State, me: usize) {
    let file = protocol.file_object(me, next_id(&state.coordinators[me]));
    begin(state, me, file);
    state.files |= 1 << file;
}

pub fn upload_fails(protocol: &Protocol, state: &mut State, me: usize) {
    let file = protocol.file_object(me, next_id(&state.coordinators[me]));
    begin(state, me, file);
    state.late_files |= 1 << file;
    state.faults += 1;
    rest(&mut state.coordinators[me]);
}

pub fn abort(state: &mut State, me: usize) {
    state.faults += 1;
    rest(&mut state.coordinators[me]);
}

/// No checkpoint is in flight any more.
fn rest(coordinator: &mut Coordinator) {
    coordinator.commit = Commit::Idle;
    coordinator.current_id = 0;
    coordinator.current_file = 0;
}

pub fn step(protocol: &Protocol, state: &mut State, me: usize) {
    let Commit::Step(done) = state.coordinators[me].commit else {
        return;
    };
    let id = usize::from(state.coordinators[me].current_id);
    state.coordinators[me].commit = Commit::Step(done + 1);
    match protocol.mutation.commit_steps()[usize::from(done)] {
        CommitStep::Publish => {
            let metadata = write_metadata(protocol, state, me);
            state.metas |= 1 << metadata;
        }
        CommitStep::Look => {
            if protocol.is_fenced(state, me) {
                state.coordinators[me].ended = true;
                rest(&mut state.coordinators[me]);
            }
        }
        CommitStep::Report => {
            state.coordinators[me].complete |= 1 << id;
            state.reported |= 1 << object(me, id);
            rest(&mut state.coordinators[me]);
        }
    }
}

/// Sets what the `_metadata` will say; whether it is there is another question.
fn write_metadata(protocol: &Protocol, state: &mut State, me: usize) -> usize {
    let coordinator = state.coordinators[me];
    let id = usize::from(coordinator.current_id);
    let metadata = protocol.metadata_object(me, id);
    state.references[metadata] = coordinator.current_file + 1;
    if protocol.mutation == Mutation::FoldersWithoutEpoch {
        state.folder_writer[id - 1] = me as u8;
    }
    metadata
}

pub fn publishing_fails(protocol: &Protocol, state: &mut State, me: usize) {
    let metadata = write_metadata(protocol, state, me);
    state.late_metas |= 1 << metadata;
    state.faults += 1;
    state.coordinators[me].ended = protocol.mutation != Mutation::CommitBelievedAbsent;
    rest(&mut state.coordinators[me]);
}
