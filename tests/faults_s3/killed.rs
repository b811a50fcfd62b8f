//! kill -9 of the server, and its restart.

use crate::fault_scenarios::killed;
use crate::support::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_the_middle_of_an_upload_and_comes_back_is_waited_for() {
    let Some(place) = Place::own("killed") else { return };
    killed::in_the_middle_of_an_upload(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_dead_fails_checkpoints_and_nothing_of_them_is_left() {
    let Some(place) = Place::own("dead") else { return };
    killed::and_away_until_the_checkpoint_has_failed(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_a_dead_server_did_not_answer_is_decided_by_the_successor() {
    let Some(place) = Place::own("commit") else { return };
    killed::behind_a_commit_that_nobody_heard_of(&place).await;
}
