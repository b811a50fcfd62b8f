//! A cluster that has no room for us, and an address at which nobody is.

use icecore::ErrorKind;
use icecore::store::StoreOptions;

use crate::fault_scenarios::refused;
use crate::support::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_quota_fails_checkpoints_with_its_reason_and_they_go_on_when_there_is_room() {
    let Some(place) = Place::own("quota").await else { return };
    let folder = place.folder();
    let (fill, free) = (|| place.cluster().set_space_quota(&folder, 1), || place.cluster().clear_space_quota(&folder));
    refused::for_want_of_room(&place, fill, free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_name_node_never_makes_a_job_look_empty() {
    let Some(place) = Place::shared("nobody") else { return };
    let wrong = place.by_way_of("127.0.0.1:1", &StoreOptions::new().with("retry-for", "1s"));
    refused::is_never_empty(&place, &wrong, ErrorKind::Unreachable).await;
}
