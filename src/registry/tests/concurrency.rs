//! Many threads at once.

use std::collections::HashSet;
use std::sync::Barrier;

use super::*;
use crate::registry::UploadOutcome;

const THREADS: u64 = 4;
const CONTENTS: u64 = 200;

#[test]
fn many_threads_with_the_same_contents_store_each_once() {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    let barrier = Barrier::new(THREADS as usize);
    let answers = std::thread::scope(|scope| {
        let work = |thread: u64| {
            let (registry, barrier) = (&registry, &barrier);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                barrier.wait();
                let one = |content: u64| {
                    let mut decision = begin(registry, 1, &format!("content {content}"));
                    // One thread in four fails its first attempt at some contents.
                    if content % 4 == thread && matches!(decision, UploadDecision::Upload(_)) {
                        drop(decision);
                        decision = begin(registry, 1, &format!("content {content}"));
                    }
                    let guard = match decision {
                        UploadDecision::Stored(name) => return name,
                        UploadDecision::Upload(guard) => guard,
                        UploadDecision::InFlight(waiter) => match runtime.block_on(waiter.wait()).unwrap() {
                            UploadOutcome::Stored(name) => return name,
                            UploadOutcome::TakeOver(guard) => guard,
                        },
                    };
                    std::thread::yield_now();
                    guard.complete().unwrap()
                };
                (0..CONTENTS).map(one).collect::<Vec<SharedName>>()
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    assert_eq!((registry.stats().entries, registry.stats().in_flight), (CONTENTS, 0));
}

#[test]
fn registering_beside_releasing_and_condemning_loses_and_frees_nothing_wrongly() {
    const CHECKPOINTS: u64 = 300;
    let registry = Registry::new();
    let (sender, receiver) = std::sync::mpsc::channel::<u64>();
    let (created, freed) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut created = HashSet::new();
            let mut last: Vec<(SharedName, u64)> = Vec::new();
            for id in 1..=CHECKPOINTS {
                let contents: Vec<String> = (0..40).map(|i| format!("{}", i * 7 % 40 + id / 2)).collect();
                let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
                registry.begin_pending(cp(id)).unwrap();
                let names: Vec<SharedName> = contents.iter().map(|content| store(&registry, id, content)).collect();
                let removed = last.iter().map(|(name, born)| (*name, cp(*born)));
                registry.register(cp(id), names.iter().map(|name| (*name, SIZE_BYTES)), removed).unwrap();
                let ended = registry.finish_pending(cp(id)).unwrap();
                assert_eq!(ended.created, []);
                created.extend(names.iter().copied());
                last = names.into_iter().map(|name| (name, id)).collect();
                // Never the newest: the next difference is to that.
                sender.send(id - 1).unwrap();
            }
            sender.send(CHECKPOINTS).unwrap();
            drop(sender);
            created
        });
        let collector = scope.spawn(|| {
            let mut freed = HashSet::new();
            for id in receiver.into_iter().filter(|id| *id > 0) {
                let condemned = registry.condemn(&registry.release(cp(id)).unwrap()).unwrap();
                for name in &condemned {
                    assert!(freed.insert(*name), "freed twice");
                    assert_eq!(registry.checkpoints_of(name).unwrap(), []);
                }
                registry.forget(&condemned).unwrap();
            }
            freed
        });
        (writer.join().unwrap(), collector.join().unwrap())
    });
    // What a pending checkpoint held while its last tenancy went is unreferenced or gone, never needed.
    for name in &created {
        assert!(freed.contains(name) || !registry.status(name).unwrap().is_needed());
    }
    assert_eq!((registry.stats().tenancies, registry.stats().checkpoints), (0, 0));
}
