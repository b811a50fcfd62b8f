//! The world as `stateright` walks through it. Every action is one step of one thread, or a late write landing. A thread that
//! takes no further step is stalled; a tenure none of whose threads takes one has crashed. So stalls and crashes need no
//! actions of their own: the properties are checked after every prefix of every interleaving.

use stateright::{Model, Property};

use crate::properties;
use crate::scope::{Mutation, Scope};
use crate::state::*;
use crate::{claim, commit, delete};

#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub scope: Scope,
    pub mutation: Mutation,
    /// Check also that the interesting states are reached.
    pub coverage: bool,
}

/// One step. The number is the coordinator's, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next step of its claim.
    Claim(usize),
    /// C9: the look, then telling the outside of what was adopted.
    Adopted(usize),
    /// K1, K2: a new id; the file is uploaded.
    Upload(usize),
    /// K2: the upload is answered with an error and the checkpoint aborted; the file may land later.
    UploadFails(usize),
    /// K1: a new id; the registry hands out this stored file.
    Reuse(usize, usize),
    /// The checkpoint in flight is aborted after its file was stored.
    Abort(usize),
    /// The next of K3-K5.
    Commit(usize),
    /// K3 answered with an error: the `_metadata` may land later.
    CommitFails(usize),
    /// A checkpoint that may go, where a plan is made in steps.
    ChooseDrop(usize, usize),
    /// D1 for a dropped checkpoint.
    PlanDrop(usize, usize),
    /// S1, S2, D1: all of it, or the next step.
    PlanSweep(usize),
    /// The next of D2-D5; one delete a step.
    Delete(usize),
    /// D2 answered with an error: the list may land later.
    ListFails(usize),
    FileLands(usize),
    MetadataLands(usize),
    ListLands(usize),
}

impl Protocol {
    /// Is the epoch of `a` greater than that of `b`, as the protocol under test sees it?
    pub fn is_greater(&self, state: &State, a: usize, b: usize) -> bool {
        let (first, second) = (state.coordinators[a].counter, state.coordinators[b].counter);
        first > second || (self.mutation != Mutation::EpochIsCounterOnly && first == second && a > b)
    }

    /// A look: is there a greater claim?
    pub fn is_fenced(&self, state: &State, me: usize) -> bool {
        (0..self.scope.coordinators).any(|other| state.coordinators[other].claimed && self.is_greater(state, other, me))
    }

    /// The `_metadata` object of a checkpoint.
    pub fn metadata_object(&self, writer: usize, id: usize) -> usize {
        object(if self.mutation == Mutation::FoldersWithoutEpoch { 0 } else { writer }, id)
    }

    /// The shared file uploaded for a checkpoint.
    pub fn file_object(&self, writer: usize, id: usize) -> usize {
        if self.mutation == Mutation::NamesWithoutTag { object(0, 1) } else { object(writer, id) }
    }

    /// Who wrote this `_metadata`.
    pub fn metadata_writer(&self, state: &State, metadata: usize) -> usize {
        if self.mutation == Mutation::FoldersWithoutEpoch {
            usize::from(state.folder_writer[id_of(metadata) - 1])
        } else {
            writer_of(metadata)
        }
    }

    /// Those of `metas` that `writer` wrote.
    pub fn written_by(&self, state: &State, metas: Set, writer: usize) -> Set {
        if self.mutation == Mutation::FoldersWithoutEpoch {
            members(metas).filter(|m| self.metadata_writer(state, *m) == writer).map(|m| 1 << m).sum()
        } else {
            metas & written_by(writer)
        }
    }
}

/// The files that these checkpoints reference.
pub fn referenced(state: &State, metas: Set) -> Set {
    let mut files = 0;
    for metadata in members(metas) {
        if let Some(file) = state.references[metadata].checked_sub(1) {
            files |= 1 << file;
        }
    }
    files
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::default();
        if self.scope.booted_with > 0 {
            let owner = &mut state.coordinators[0];
            *owner = Coordinator {
                claim_step: self.mutation.claim_steps().len() as u8,
                counter: 1,
                claimed: true,
                started: true,
                used: self.scope.booted_with as u8,
                ..Coordinator::default()
            };
            for id in 1..=self.scope.booted_with {
                owner.complete |= 1 << id;
                let metadata = self.metadata_object(0, id);
                state.metas |= 1 << metadata;
                state.files |= 1 << self.file_object(0, id);
                state.references[metadata] = self.file_object(0, id) as u8 + 1;
                state.reported |= 1 << metadata;
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for me in 0..self.scope.coordinators {
            claim::actions(self, state, me, actions);
            commit::actions(self, state, me, actions);
            delete::actions(self, state, me, actions);
            if state.coordinators[me].late_list == LateList::Pending {
                actions.push(Action::ListLands(me));
            }
        }
        if state.late_files != 0 {
            actions.extend(members(state.late_files).map(Action::FileLands));
        }
        if state.late_metas != 0 {
            actions.extend(members(state.late_metas).map(Action::MetadataLands));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Claim(me) => claim::step(self, &mut state, me),
            Action::Adopted(me) => claim::report_adopted(self, &mut state, me),
            Action::Upload(me) => commit::upload(self, &mut state, me),
            Action::UploadFails(me) => commit::upload_fails(self, &mut state, me),
            Action::Reuse(me, file) => commit::begin(&mut state, me, file),
            Action::Abort(me) => commit::abort(&mut state, me),
            Action::Commit(me) => commit::step(self, &mut state, me),
            Action::CommitFails(me) => commit::publishing_fails(self, &mut state, me),
            Action::ChooseDrop(me, metadata) => {
                state.coordinators[me].planning = Planning::Drop(metadata as u8);
            }
            Action::PlanDrop(me, metadata) => delete::plan_drop(self, &mut state, me, metadata),
            Action::PlanSweep(me) => delete::plan_sweep(self, &mut state, me),
            Action::Delete(me) => delete::step(self, &mut state, me),
            Action::ListFails(me) => delete::publishing_fails(self, &mut state, me),
            Action::FileLands(file) => {
                state.late_files &= !(1 << file);
                state.files |= 1 << file;
            }
            Action::MetadataLands(metadata) => {
                state.late_metas &= !(1 << metadata);
                state.metas |= 1 << metadata;
            }
            Action::ListLands(me) => state.coordinators[me].late_list = LateList::Landed,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = properties::always();
        if self.coverage {
            all.extend(properties::sometimes());
            if self.scope.faults > 0 {
                all.extend(properties::sometimes_with_faults());
            }
        }
        all
    }
}
