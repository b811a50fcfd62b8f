//! E1 and E2: a look lists the claims object by object, while successors remove superseded ones.
//!
//! A world of its own, to stay small: epoch 0 commits one checkpoint and looks; greater epochs claim, read, start, and then
//! remove smaller epochs' claims. The listing meets the claims one at a time in any order, as stores may.

use stateright::{Checker, HasDiscoveries, Model, Property};

const EPOCHS: usize = 4;
const ALWAYS_COUNTS: &str = "I2 a checkpoint reported complete counts";
const REMOVED: &str = "the committing epoch's claim is removed while it looks";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// E1 and E2 as they are.
    Right,
    /// Superseded claims removed in any order.
    AnyOrder,
    /// The own claim is not read after the listing.
    OwnClaimNotRead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    claims: u8,
    starts: u8,
    /// Bit e: epoch e has adopted the checkpoint.
    adopted: u8,
    /// Steps of each greater epoch: 0 nothing, 1 claimed, 2 read, 3 started.
    steps: [u8; EPOCHS],
    published: bool,
    listed: u8,
    saw_greater: bool,
    own_claim_read: bool,
    fenced: bool,
    reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Publish,
    /// The listing comes to this claim's place.
    List(usize),
    ReadOwnClaim,
    Report,
    Successor(usize),
    Remove(usize, usize),
}

struct Collecting(Rule);

impl Model for Collecting {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World { claims: 1, starts: 1, ..World::default() }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        let all_listed = world.listed == (1 << EPOCHS) - 2;
        if !world.published {
            actions.push(Step::Publish);
        } else if !all_listed {
            actions.extend((1..EPOCHS).filter(|epoch| world.listed & (1 << epoch) == 0).map(Step::List));
        } else if !world.own_claim_read {
            actions.push(Step::ReadOwnClaim);
        } else if !world.fenced && !world.reported {
            actions.push(Step::Report);
        }
        for epoch in 1..EPOCHS {
            match world.steps[epoch] {
                // Epochs claim in their order: a lesser one would see that it is too late.
                0 if epoch == 1 || world.steps[epoch - 1] > 0 => actions.push(Step::Successor(epoch)),
                1 | 2 => actions.push(Step::Successor(epoch)),
                3 if world.claims >> (epoch + 1) == 0 => self.removals(world, epoch, actions),
                _ => {}
            }
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = *last;
        match step {
            Step::Publish => world.published = true,
            Step::List(epoch) => {
                world.listed |= 1 << epoch;
                world.saw_greater |= world.claims & (1 << epoch) != 0;
            }
            Step::ReadOwnClaim => {
                world.own_claim_read = true;
                let gone = world.claims & 1 == 0 && self.0 != Rule::OwnClaimNotRead;
                world.fenced = world.saw_greater || gone;
            }
            Step::Report => world.reported = true,
            Step::Successor(epoch) => {
                world.steps[epoch] += 1;
                match world.steps[epoch] {
                    1 => world.claims |= 1 << epoch,
                    2 => {
                        // What counts by the newest start in sight.
                        let newest = (0..epoch).rev().find(|other| world.starts & (1 << other) != 0);
                        let counts = world.published && newest.is_none_or(|n| n == 0 || world.adopted & (1 << n) != 0);
                        world.adopted |= u8::from(counts) << epoch;
                    }
                    _ => world.starts |= 1 << epoch,
                }
            }
            Step::Remove(_, epoch) => world.claims &= !(1 << epoch),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ALWAYS_COUNTS, |_, world: &World| {
                let newest = (1..EPOCHS).rev().find(|epoch| world.starts & (1 << epoch) != 0);
                !world.reported || newest.is_none_or(|newest| world.adopted & (1 << newest) != 0)
            }),
            Property::sometimes(REMOVED, |_, world: &World| {
                world.published && !world.own_claim_read && world.listed != 0 && world.claims & 1 == 0
            }),
        ]
    }
}

impl Collecting {
    fn removals(&self, world: &World, remover: usize, actions: &mut Vec<Step>) {
        let smaller = (0..remover).filter(|epoch| world.claims & (1 << epoch) != 0);
        let how_many = if self.0 == Rule::AnyOrder { EPOCHS } else { 1 };
        actions.extend(smaller.take(how_many).map(|epoch| Step::Remove(remover, epoch)));
    }
}

fn check(rule: Rule) -> bool {
    let checker = Collecting(rule).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{rule:?}: {} states, {:?}",
        checker.unique_state_count(),
        checker.discovery(ALWAYS_COUNTS).map(|run| run.into_actions())
    );
    if checker.discovery(ALWAYS_COUNTS).is_none() {
        checker.assert_any_discovery(REMOVED);
    }
    checker.discovery(ALWAYS_COUNTS).is_none()
}

#[test]
fn removing_epochs_in_order_and_reading_the_own_claim_last_breaks_nothing() {
    assert!(check(Rule::Right));
}

#[test]
fn epochs_removed_in_any_order() {
    assert!(!check(Rule::AnyOrder));
}

#[test]
fn a_look_that_does_not_read_the_own_claim() {
    assert!(!check(Rule::OwnClaimNotRead));
}
