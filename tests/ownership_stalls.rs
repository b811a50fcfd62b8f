//! I4: a coordinator that stalls at any step, while another one claims and works, and that then goes
//! on, breaks nothing. Every step is tried, before and after its effect; none is picked by hand.
#![cfg(feature = "test-support")]

mod ownership_support;

use icecore::Result;
use icecore::store::testing::{FaultyStore, Rule, Step};
use ownership_support::{Style, World};

const STEPS: [Step; 7] =
    [Step::Put, Step::Read, Step::Stat, Step::List, Step::ListItem, Step::ListChildren, Step::Delete];

/// A place in a party's life: before or after its `n`-th step of a kind.
#[derive(Clone, Copy, Debug)]
struct Stall {
    step: Step,
    n: u64,
    is_after: bool,
}

/// A party claims and lives on a store that stalls once. Returns the gate and the task.
async fn start_stalled(
    world: &World,
    stall: Stall,
    style: Style,
) -> (icecore::store::testing::Gate, tokio::task::JoinHandle<Result<()>>) {
    let store = FaultyStore::new(world.store());
    let rule = Rule::on(stall.step).nth(stall.n);
    let gate = if stall.is_after { store.park_after(rule) } else { store.park(rule) };
    let world = world.clone();
    let task = tokio::spawn(async move { world.party_on(store).await?.live(style).await });
    (gate, task)
}

/// Waits until the party has stalled; `false` if it lived to its end without.
async fn has_stalled(gate: &icecore::store::testing::Gate, task: &mut tokio::task::JoinHandle<Result<()>>) -> bool {
    tokio::select! {
        () = gate.reached() => true,
        _ = task => false,
    }
}

async fn run_one(stall: Stall) -> bool {
    let when = format!("{stall:?}");
    let world = World::new();
    world.party().await.live(Style::Keeping).await.unwrap();
    let (gate, mut task) = start_stalled(&world, stall, Style::Forgetting).await;
    if !has_stalled(&gate, &mut task).await {
        return false;
    }
    world.assert_sound(&format!("{when}, stalled")).await;
    let second = world.party().await;
    world.assert_sound(&format!("{when}, second claim")).await;
    second.live(Style::Keeping).await.unwrap();
    world.assert_sound(&format!("{when}, second life")).await;
    gate.release();
    // It may have been told that it is fenced, or have stalled in its last step.
    let _ = task.await.unwrap();
    world.assert_sound(&format!("{when}, resumed")).await;
    let third = world.party().await;
    world.assert_sound(&format!("{when}, third claim")).await;
    third.live(Style::Keeping).await.unwrap();
    for _ in 0..2 {
        let report = third.sweep(icecore::gc::SweepScope::Everything).await.unwrap();
        assert!(report.is_finished(), "{when}: {report}");
    }
    world.assert_sound(&format!("{when}, the end")).await;
    world.assert_nothing_unreferenced().await;
    true
}

#[tokio::test]
async fn a_coordinator_that_stalls_at_any_step_of_claim_commit_delete_and_sweep_breaks_nothing() {
    let mut tried = 0;
    for step in STEPS {
        for is_after in [false, true] {
            for n in 1.. {
                if !run_one(Stall { step, n, is_after }).await {
                    break;
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "only {tried} stalls were tried");
}

/// Two coordinators stall, the second while the first is stalled; a third works; both go on, in
/// either order.
async fn run_two(first: Stall, second: Stall, second_goes_on_first: bool) -> (bool, bool) {
    let when = format!("{first:?}, {second:?}, second goes on first: {second_goes_on_first}");
    let world = World::new();
    world.party().await.live(Style::Keeping).await.unwrap();
    let (gate_1, mut task_1) = start_stalled(&world, first, Style::Forgetting).await;
    if !has_stalled(&gate_1, &mut task_1).await {
        return (false, false);
    }
    let (gate_2, mut task_2) = start_stalled(&world, second, Style::Forgetting).await;
    if !has_stalled(&gate_2, &mut task_2).await {
        return (true, false);
    }
    world.assert_sound(&format!("{when}, both stalled")).await;
    let third = world.party().await;
    third.live(Style::Keeping).await.unwrap();
    world.assert_sound(&format!("{when}, third life")).await;
    let mut parties = [(gate_1, task_1), (gate_2, task_2)];
    if second_goes_on_first {
        parties.reverse();
    }
    for (gate, task) in parties {
        gate.release();
        let _ = task.await.unwrap();
        world.assert_sound(&format!("{when}, one resumed")).await;
    }
    // A claim that had stalled before it was written fences the third one, too.
    let _ = third.live(Style::Keeping).await;
    let last = world.party().await;
    last.live(Style::Keeping).await.unwrap();
    for _ in 0..2 {
        last.sweep(icecore::gc::SweepScope::Everything).await.unwrap().into_result().unwrap();
    }
    world.assert_sound(&format!("{when}, the end")).await;
    world.assert_nothing_unreferenced().await;
    (true, true)
}

#[tokio::test]
async fn two_coordinators_that_stall_at_any_two_steps_that_change_the_store_break_nothing() {
    let mut tried = 0;
    let steps = [Step::Put, Step::Delete, Step::List];
    for (first_step, second_step) in steps.iter().flat_map(|first| steps.iter().map(move |second| (*first, *second))) {
        // Every fifth pair, a different fifth for each kind; all of them in long mode.
        let stride = if std::env::var_os("ICECORE_LONG").is_some() { 1 } else { 5 };
        'first: for n in 1.. {
            for m in 1.. {
                if (n + m + tried) % stride != 0 {
                    // Still ask whether there is such a step at all.
                    if m > 40 {
                        break;
                    }
                    continue;
                }
                let first = Stall { step: first_step, n, is_after: n % 2 == 0 };
                let second = Stall { step: second_step, n: m, is_after: m % 2 == 0 };
                match run_two(first, second, m % 3 == 0).await {
                    (false, _) => break 'first,
                    (true, false) => break,
                    (true, true) => tried += 1,
                }
            }
        }
    }
    assert!(tried > 300, "only {tried} pairs were tried");
}

/// An owner stalls in the middle of its work; a successor's claim stalls somewhere; the owner ends
/// what it may, and the successor goes on from there.
async fn run_handover(owner: Stall, claimant: Stall) -> (bool, bool) {
    let when = format!("owner {owner:?}, claimant {claimant:?}");
    let world = World::new();
    world.party().await.live(Style::Keeping).await.unwrap();
    let (owner_gate, mut owner_task) = start_stalled(&world, owner, Style::Forgetting).await;
    if !has_stalled(&owner_gate, &mut owner_task).await {
        return (false, false);
    }
    let (gate, mut task) = start_stalled(&world, claimant, Style::Keeping).await;
    if !has_stalled(&gate, &mut task).await {
        return (true, false);
    }
    owner_gate.release();
    let _ = owner_task.await.unwrap();
    world.assert_sound(&format!("{when}, the owner is done")).await;
    gate.release();
    let _ = task.await.unwrap();
    world.assert_sound(&format!("{when}, the claimant is done")).await;
    let last = world.party().await;
    last.live(Style::Keeping).await.unwrap();
    world.assert_sound(&format!("{when}, the end")).await;
    (true, true)
}

#[tokio::test]
async fn a_claim_that_stalls_at_any_step_while_its_predecessor_deletes_breaks_nothing() {
    let mut tried = 0;
    for claimant_step in [Step::Put, Step::Read, Step::Stat, Step::List, Step::ListChildren] {
        // A claim has fewer than twelve steps of each kind here; what comes later is the life after it.
        for m in 1..12 {
            let claimant = Stall { step: claimant_step, n: m, is_after: true };
            'owner: for n in 1.. {
                let owner = Stall { step: Step::Delete, n, is_after: false };
                match run_handover(owner, claimant).await {
                    (false, _) | (true, false) => break 'owner,
                    (true, true) => tried += 1,
                }
            }
        }
    }
    assert!(tried > 200, "only {tried} pairs were tried");
}
