//! Networks to the NameNode that are slow, break, lose answers, and deliver late.

use icecore::ErrorKind;

use crate::fault_scenarios::{Job, Patience, Remote as _, lost, passing, scenarios};
use crate::support::Place;
use crate::task_support::Kind;

scenarios! {
    a_slow_network_only_takes_longer: passing::delays,
    uploads_that_break_are_sent_again: passing::cut_uploads,
    a_restore_goes_on_where_its_connections_break: passing::cut_restores,
    an_unreachable_name_node_that_comes_back_is_waited_for: passing::a_short_outage,
    an_unreachable_name_node_fails_checkpoints_and_the_job_goes_on: passing::a_long_outage,
    a_silent_name_node_fails_checkpoints_and_what_lands_when_it_wakes_up_goes: passing::silence,
    a_rename_that_is_lost_is_settled_and_the_file_sent_again: lost::uploads,
    a_commit_that_is_lost_does_not_count: lost::a_commit,
    deletes_that_are_lost_are_sent_again: lost::deletes_and_their_answers,
}

/// Other than on S3: whether the rename happened is found out, so nothing is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_whose_answer_is_lost_is_settled() {
    let Some(place) = Place::shared("lost-answers") else { return };
    let mut job = Job::start(&place, Kind::Heap, Patience::DEFAULT).await;
    // One at a time: many calls share a connection, and one that is cut takes the others' answers along.
    for round in 1..=2 {
        job.churn(50);
        place.network().lose_answer(place.write_of("/shared/"));
        let before = place.network().count("rename2", "");
        job.checkpoint().await.expect("the files are there");
        assert_eq!(place.network().hits(), round);
        assert!(place.network().count("rename2", "") - before > 1, "the index, too");
    }
    job.settle().await;
}

/// Other than on S3: whether the rename happened is found out, so nobody's tenure ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_out_to_be_there() {
    let Some(place) = Place::shared("lost-commit") else { return };
    let mut job = Job::start(&place, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    place.network().lose_answer(place.write_of("_metadata"));
    let folder = job.checkpoint().await.expect("it is there");
    assert_eq!(place.network().hits(), 1);
    assert_eq!(job.restart().await, folder);
    job.settle().await;
}

/// Its source is gone by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_that_comes_late_changes_nothing() {
    let Some(place) = Place::shared("late") else { return };
    let mut job = Job::start(&place, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    place.network().hold(place.write_of("/shared/").times(3));
    job.checkpoint().await.expect("what failed is sent again");
    job.churn(50);
    place.network().hold(place.write_of("_metadata"));
    let error = job.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    let counts = job.restart().await;
    assert_eq!(place.network().release().len(), 4);
    assert_eq!(job.restart().await, counts, "what came late counts for somebody");
    job.settle().await;
}
