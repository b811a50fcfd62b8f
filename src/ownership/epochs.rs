//! The claims, starts and ends that are visible.
//!
//! Only names are read here: a torn `claim` is a claim (4.6), and order is in the names.

use std::collections::BTreeMap;

use super::reading::list_bounded;
use crate::error::Result;
use crate::layout::{Epoch, JobLayout, Place};
use crate::store::{ObjectMeta, Store, StorePath};

/// The most objects below `epochs/` that are looked at; a sound job has fewer than ten.
pub const MAX_EPOCH_OBJECTS: usize = 1_000_000;

/// What is visible of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochState {
    /// Its claim is there.
    pub claimed: bool,
    /// It published what it adopted.
    pub started: bool,
    /// It said itself that it is over.
    pub ended: bool,
    /// The objects of its folder, the claim last.
    pub objects: Vec<ObjectMeta>,
}

/// Every visible epoch of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// By epoch, smallest first.
    pub known: BTreeMap<Epoch, EpochState>,
    /// Objects below `epochs/` that icecore did not write.
    pub foreign: Vec<StorePath>,
}

impl Epochs {
    /// Lists the epochs.
    ///
    /// # Errors
    /// What the store says, or [`crate::ErrorKind::LimitExceeded`] over [`MAX_EPOCH_OBJECTS`].
    pub async fn list(store: &dyn Store, layout: &JobLayout) -> Result<Self> {
        let mut epochs = Self::default();
        for object in list_bounded(store, &layout.epochs()?, MAX_EPOCH_OBJECTS).await? {
            epochs.note(layout, object);
        }
        for state in epochs.known.values_mut() {
            // The claim goes last when a folder is removed, so that what is left still shows whose it was.
            state.objects.sort_by_key(|object| object.path.file_name() == "claim");
        }
        Ok(epochs)
    }

    fn note(&mut self, layout: &JobLayout, object: ObjectMeta) {
        let place = Place::of(layout, &object.path);
        let (Some(Place::Claim(epoch)) | Some(Place::Start(epoch)) | Some(Place::End(epoch))) = place else {
            self.foreign.push(object.path);
            return;
        };
        let state = self.known.entry(epoch).or_default();
        match place {
            Some(Place::Claim(_)) => state.claimed = true,
            Some(Place::Start(_)) => state.started = true,
            _ => state.ended = true,
        }
        state.objects.push(object);
    }

    /// The greatest epoch in sight.
    pub fn greatest(&self) -> Option<Epoch> {
        self.known.keys().next_back().copied()
    }

    /// The greatest epoch that has started: the one whose word on what counts is valid.
    pub fn newest_start(&self) -> Option<Epoch> {
        self.known.iter().rev().find(|(_, state)| state.started).map(|(epoch, _)| *epoch)
    }

    /// The greatest epoch in sight, if it is greater than `epoch`.
    pub fn above(&self, epoch: Epoch) -> Option<Epoch> {
        self.greatest().filter(|greatest| *greatest > epoch)
    }

    /// The greatest epoch above `epoch` that has not said that it is over: whose coordinator may be alive,
    /// so that one that it fenced must not claim again (M4). `is_own` tells epochs that the asker gave up
    /// itself.
    pub fn living_above(&self, epoch: Epoch, is_own: impl Fn(Epoch) -> bool) -> Option<Epoch> {
        let above = self.known.iter().rev().take_while(|(other, _)| **other > epoch);
        above.filter(|(other, state)| !state.ended && !is_own(**other)).map(|(other, _)| *other).next()
    }

    /// The epoch whose coordinator may be alive: the greatest, if it has started and not ended.
    pub fn living_owner(&self) -> Option<Epoch> {
        let (epoch, state) = self.known.iter().next_back()?;
        (state.started && !state.ended).then_some(*epoch)
    }
}
