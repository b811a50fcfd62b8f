//! One test for each step done wrong. `breaks`: the checker has a run against it. `holds`: it has none; the step is redundant
//! as far as these worlds go, and the test says why it is kept.

use crate::properties::{I1, I2, I3, I5, IN_FLIGHT};
use crate::scope::{Mutation, Scope};
use crate::{breaks, holds};

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident: $check:ident($scope:ident, $mutation:ident, $expected:expr);)*) => {
        $($(#[$doc])* #[test] fn $name() { $check(Scope::$scope, Mutation::$mutation, $expected); })*
    };
}

mutants! {
    a_commit_without_its_look: breaks(TWO, CommitWithoutLook, I2);
    a_commit_that_looks_before_its_metadata: breaks(TWO, LookBeforeMetadata, I2);
    a_delete_without_its_look: breaks(TWO, DeleteWithoutLook, I1);
    a_delete_that_looks_before_its_list: breaks(TWO, LookBeforeCondemnedList, I1);
    a_claim_that_reads_before_it_is_visible: breaks(TWO, ReadBeforeClaiming, I2);
    checkpoints_read_before_lists: breaks(TWO, CheckpointsBeforeLists, I1);
    starts_read_before_lists: breaks(THREE, StartsBeforeLists, I2);
    every_list_honoured: breaks(THREE, HonourEveryList, I2);
    no_list_honoured: breaks(TWO, HonourNoList, I1);
    every_visible_checkpoint_counted: breaks(THREE, CountEveryVisible, I3);
    files_named_without_a_tag: breaks(TWO, NamesWithoutTag, I1);
    folders_named_without_an_epoch: breaks(TWO, FoldersWithoutEpoch, I2);
    an_epoch_that_is_only_a_counter: breaks(TWO, EpochIsCounterOnly, I3);
    a_list_removed_before_its_deletes_are_confirmed: breaks(TWO, ListRemovedFirst, I1);
    a_failed_list_believed_absent: breaks(TWO, ListBelievedAbsent, I2);
    a_failed_commit_believed_absent: breaks(TWO, CommitBelievedAbsent, I1);
    a_file_freed_without_the_checkpoint_of_a_failed_list: breaks(SHARING, FailedListNotRepeated, I1);
    /// Takes four tenures: the owner of the list, a slow start that makes it void, its finisher, and a successor of both.
    a_predecessors_list_finished_before_the_own_start: breaks(FOUR, FinishPredecessorsList, I1);
    a_sweep_before_the_own_start: breaks(TWO, DeleteBeforeStart, I1);
    a_condemned_file_handed_out_again: breaks(TWO, CondemnedHandedOut, IN_FLIGHT);
    a_file_of_a_checkpoint_in_flight_not_held: breaks(SHARING, InFlightNotHeld, IN_FLIGHT);
    adopted_checkpoints_reported_without_a_look: breaks(THREE, AdoptedReportedWithoutLook, I2);
    the_newest_checkpoint_dropped: breaks(TWO, NewestDropped, I3);
    a_sweep_that_takes_a_commit_in_flight: breaks(TWO, SweepTakesInFlight, I2);
    a_sweep_that_spares_its_own_aborted_uploads: breaks(TWO, SweepSparesOwnAborted, I5);
    a_sweep_that_reads_what_counts_before_it_notes_what_is_in_flight: breaks(BESIDE, SweepReadsBeforeProgress, I2);
    a_sweep_that_does_not_ask_again_what_is_held: breaks(BESIDE, HeldNotAskedAgain, IN_FLIGHT);

    /// Redundant for safety: a fenced claimant's later looks stop it before it tells or deletes anything. Kept (C3) because it
    /// spares the reading, and tells a process at once that another runs.
    a_claim_without_its_look_harms_nothing: holds(THREE, ClaimWithoutLook, false);
    /// Redundant here: a start that appears between the two readings belongs to an epoch that was fenced as it started, or
    /// was read. Kept (C5 before C7) because only what counts need be read at all.
    checkpoints_read_before_starts_harm_nothing: holds(THREE, CheckpointsBeforeStarts, false);
    /// Redundant for those who follow the protocol: the list stands until all is gone, and whoever does not honour it has not
    /// adopted the checkpoint. Kept (D4) for readers that know nothing of lists, such as a person with a copy of the root.
    files_deleted_before_their_metadata_harm_nothing: holds(TWO, FilesDeletedBeforeMetadata, false);
}
