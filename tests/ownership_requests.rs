//! 4.8: commands ask the living owner, and wait no longer than they said.
#![cfg(feature = "test-support")]

mod ownership_support;

use std::collections::BTreeSet;
use std::time::Duration;

use icecore::ErrorKind;
use icecore::gc::{Judge, SweepScope, plan_sweep};
use icecore::metadata::{Outcome, RequestKind};
use icecore::ownership::requests::{ANSWER_KEPT_MS, Asked, Inbox, ask, wait_for_answer};
use ownership_support::World;

async fn ask_gc(world: &World) -> icecore::Result<Asked> {
    ask(&*world.mem, &world.layout, &world.env, RequestKind::Gc, "all").await
}

async fn wait(world: &World, asked: &Asked) -> icecore::Result<Outcome> {
    wait_for_answer(&*world.mem, &world.layout, &world.env, asked, Duration::from_secs(30)).await
}

#[tokio::test]
async fn the_living_owner_answers_and_the_asker_reads_it() {
    let world = World::new();
    let owner = world.party().await;
    let asked = ask_gc(&world).await.unwrap();
    let inbox = Inbox::default();
    let pending = inbox.pending(&owner.tenure).await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].kind, pending[0].argument.as_str()), (RequestKind::Gc, "all"));
    let waiting = wait(&world, &asked);
    let answering = inbox.answer(&owner.tenure, asked.uid, Outcome::Done("3 objects".to_owned()));
    let (outcome, answered) = tokio::join!(waiting, answering);
    answered.unwrap();
    assert_eq!(outcome.unwrap(), Outcome::Done("3 objects".to_owned()));
    assert!(inbox.pending(&owner.tenure).await.unwrap().is_empty(), "nothing is done twice");
    assert!(inbox.answer(&owner.tenure, asked.uid, Outcome::Done(String::new())).await.is_err());
}

#[tokio::test]
async fn an_asker_gives_up_after_its_deadline() {
    let world = World::new();
    world.party().await;
    let asked = ask_gc(&world).await.unwrap();
    assert_eq!(wait(&world, &asked).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(world.env.clock.monotonic(), Duration::from_secs(30));
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_lives() {
    let world = World::new();
    assert_eq!(ask_gc(&world).await.unwrap_err().kind(), ErrorKind::NotFound);
    let owner = world.party().await;
    let asked = ask_gc(&world).await.unwrap();
    owner.tenure.end().await.unwrap();
    assert_eq!(ask_gc(&world).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(wait(&world, &asked).await.unwrap_err().kind(), ErrorKind::Fenced, "it need not wait to the end");
}

#[tokio::test]
async fn a_request_to_a_superseded_owner_is_nobodys_and_is_swept() {
    let world = World::new();
    let first = world.party().await;
    let asked = ask_gc(&world).await.unwrap();
    let second = world.party().await;
    assert!(Inbox::default().pending(&second.tenure).await.unwrap().is_empty());
    let refused = Inbox::default().answer(&first.tenure, asked.uid, Outcome::Done(String::new())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Fenced, "a fenced owner promises nothing");
    second.sweep(SweepScope::Records).await.unwrap().into_result().unwrap();
    assert!(!world.mem.paths().iter().any(|path| path.contains("/requests/")));
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused() {
    let world = World::new();
    let owner = world.party().await;
    let asked = ask_gc(&world).await.unwrap();
    world.mem.overwrite(&world.layout.request(asked.owner, asked.uid).unwrap(), b"torn");
    assert!(Inbox::default().pending(&owner.tenure).await.unwrap().is_empty());
    assert!(matches!(wait(&world, &asked).await.unwrap(), Outcome::Refused(_)));
}

#[tokio::test]
async fn an_answer_stays_long_enough_to_be_read_and_then_goes() {
    let world = World::new();
    let owner = world.party().await;
    let (answered, open) = (ask_gc(&world).await.unwrap(), ask_gc(&world).await.unwrap());
    let inbox = Inbox::default();
    inbox.answer(&owner.tenure, answered.uid, Outcome::Done(String::new())).await.unwrap();
    for (later_ms, left) in [(0, 3), (ANSWER_KEPT_MS - 1, 3), (1, 1)] {
        world.time.pass(Duration::from_millis(later_ms));
        let done: BTreeSet<_> = inbox.done(&owner.tenure).unwrap();
        let (view, progress) = (world.view().await, owner.progress());
        let judge = Judge::new(&view, &*owner.held, owner.tenure.epoch(), &progress, &done);
        let plan = plan_sweep(&*world.mem, &world.layout, &judge, SweepScope::Records).await.unwrap();
        owner.collector.execute(plan).await.into_result().unwrap();
        assert_eq!(world.mem.paths().iter().filter(|path| path.contains("/requests/")).count(), left);
    }
    assert_eq!(inbox.pending(&owner.tenure).await.unwrap()[0].uid, open.uid);
}
