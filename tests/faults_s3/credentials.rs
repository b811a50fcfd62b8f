//! Wrong keys, a bucket that is not there, keys that end in the middle of a job's life.

use icecore::ErrorKind;
use icecore::env::Env;
use icecore::store::{StoreAddress, open};

use crate::fault_scenarios::{Job, Patience, Remote as _, refused};
use crate::support::Place;
use crate::task_support::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_never_makes_a_job_look_empty() {
    let Some(place) = Place::shared("wrong-key") else { return };
    let wrong = place.opened_with(&place.options().with("access-key-id", "AKIAWRONG"));
    refused::is_never_empty(&place, &wrong, ErrorKind::PermissionDenied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_never_makes_a_job_look_empty() {
    let Some(place) = Place::shared("wrong-secret") else { return };
    let wrong = place.opened_with(&place.options().with("secret-access-key", "geheim"));
    refused::is_never_empty(&place, &wrong, ErrorKind::PermissionDenied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_bucket_never_makes_a_job_look_empty() {
    let Some(place) = Place::shared("no-bucket") else { return };
    let elsewhere = StoreAddress::parse("s3://no-such-bucket/x").unwrap();
    let wrong = open(&elsewhere, &place.options(), Env::system().unwrap()).unwrap();
    refused::is_never_empty(&place, &wrong, ErrorKind::InvalidInput).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_endpoint_never_makes_a_job_look_empty() {
    let Some(place) = Place::shared("nobody") else { return };
    let wrong = place.opened_with(&place.options().with("endpoint", "http://127.0.0.1:1"));
    refused::is_never_empty(&place, &wrong, ErrorKind::Unreachable).await;
}

/// What is refused will not pass by itself: nobody waits for it, and the job is as it was when it has keys again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_end_in_the_middle_of_a_job_fail_its_checkpoints_until_there_are_others() {
    let Some(place) = Place::shared("expired") else { return };
    let mut job = Job::start(&place, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    for method in ["PUT", "GET", "HEAD", "POST", "DELETE"] {
        let aim = crate::services::proxy::Aim::at(method, "").times(100_000);
        place.network().answer(aim, "403 Forbidden", "<Error><Code>ExpiredToken</Code></Error>");
    }
    let error = job.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(job.collect().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    place.network().clear_aims();
    job.settle().await;
}
