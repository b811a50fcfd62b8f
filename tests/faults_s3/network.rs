//! Networks that are slow, break, lose answers, and deliver late.

use crate::fault_scenarios::{late, lost, passing, scenarios};

scenarios! {
    a_slow_network_only_takes_longer: passing::delays,
    uploads_that_break_are_sent_again: passing::cut_uploads,
    parts_of_large_uploads_that_break_are_sent_again: passing::a_large_upload_that_is_cut,
    a_restore_goes_on_where_its_connections_break: passing::cut_restores,
    an_unreachable_endpoint_that_comes_back_is_waited_for: passing::a_short_outage,
    an_unreachable_endpoint_fails_checkpoints_and_the_job_goes_on: passing::a_long_outage,
    a_silent_service_fails_checkpoints_and_what_lands_when_it_wakes_up_goes: passing::silence,
    an_upload_whose_answer_is_lost_is_sent_again_under_another_name: lost::answers_to_uploads,
    an_upload_that_is_lost_is_sent_again_under_another_name: lost::uploads,
    a_commit_whose_answer_is_lost_counts_for_the_successor: lost::the_answer_to_a_commit,
    a_commit_that_is_lost_does_not_count: lost::a_commit,
    deletes_that_are_lost_are_sent_again: lost::deletes_and_their_answers,
    an_upload_that_lands_late_is_collected: late::uploads,
    a_commit_that_lands_late_never_counts_and_is_collected: late::a_commit,
}
