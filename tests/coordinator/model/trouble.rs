//! What goes wrong in a life: the store, calls that are dropped or stand still, processes that end and go on.

use std::future::Future;

use super::*;

impl Life {
    /// Runs a call, or drops it at some request to the store (`None`).
    pub(super) async fn maybe_cancelled<T>(&mut self, call: impl Future<Output = Result<T>>) -> Option<Result<T>> {
        if self.rng.random_bool(0.85) {
            return Some(call.await);
        }
        let gate = self.some_gate();
        tokio::select! {
            biased;
            outcome = call => Some(outcome),
            () = gate.reached() => {
                self.log.push("  cancelled".to_owned());
                None
            }
        }
    }

    pub(super) fn some_rule(&mut self) -> (Step, Rule) {
        let steps =
            [Step::Put, Step::Put, Step::Delete, Step::Delete, Step::List, Step::ListItem, Step::Stat, Step::Read];
        let step = steps[self.rng.random_range(0..steps.len())];
        if self.rng.random_bool(0.5) {
            return (step, Rule::on(step).nth(self.rng.random_range(1..6)));
        }
        // What the protocol turns on.
        let places = ["/pins/", "/condemned/", "_metadata", "/shared/", "/epochs"];
        let place = places[self.rng.random_range(0..places.len())];
        (step, Rule::on(step).path_contains(place))
    }

    pub(super) fn some_gate(&mut self) -> Gate {
        let (step, rule) = self.some_rule();
        if self.rng.random_bool(0.5) && step != Step::ListItem {
            self.world.store.park_after(rule)
        } else {
            self.world.store.park(rule)
        }
    }

    pub(super) fn inject(&mut self) {
        let (step, rule) = self.some_rule();
        let kinds = [ErrorKind::Temporary, ErrorKind::StorageFull];
        let kind = kinds[self.rng.random_range(0..2)];
        let fault = match self.rng.random_range(0..3) {
            0 => Fault::LoseAnswer(kind),
            1 => Fault::LandLater(kind),
            _ => Fault::Fail(kind),
        };
        if self.world.store.inject(rule, fault).is_ok() {
            self.note(format!("inject {fault:?} at {step:?}"));
        }
    }

    pub(super) async fn heal(&mut self) {
        self.note("heal");
        self.world.store.heal();
        self.world.store.land_late().await;
    }

    /// The same process goes on with the tasks it has, if it may.
    pub(super) async fn claim_again(&mut self) {
        let before = self.told.0.lock().len();
        let outcome = self.supervisor.keep_up().await;
        self.note(format!("claim again: {outcome:?}"));
        let Ok(KeptUp::ClaimedAgain { restore_first }) = outcome else { return self.crash().await };
        CLAIMED_AGAIN.fetch_add(1, Ordering::SeqCst);
        let old = std::mem::replace(&mut self.coordinator, self.supervisor.coordinator());
        self.zombies.push(old);
        self.adopted.extend(self.world.view().await.checkpoints.into_keys());
        let told = self.told.0.lock()[before..].to_vec();
        for line in told {
            match line.split_once(' ').unwrap() {
                ("complete", id) => {
                    let folder = self.adopted.iter().rfind(|folder| folder.checkpoint.to_string() == id).copied();
                    self.reported(folder.unwrap_or_else(|| panic!("{line}, and it was not adopted")));
                }
                ("aborted", id) => {
                    let id = CheckpointId(id.parse().unwrap());
                    self.tasks.iter().for_each(|task| task.snapshotter.notify_aborted(id));
                }
                _ => {}
            }
        }
        assert!(!restore_first, "nobody else took checkpoints");
    }

    /// Of each checkpoint a process hears one thing: that it is complete, or that it was given up.
    pub(super) fn check_told(&self) {
        let mut heard = BTreeSet::new();
        for line in self.told.0.lock().iter() {
            if let Some((_, id)) = line.split_once(' ').filter(|(what, _)| *what != "subsumed") {
                assert!(heard.insert(id.to_owned()), "told twice of {id}: {:?}", self.told);
            }
        }
    }

    /// A new process; the old one lives on as a zombie.
    pub(super) async fn crash(&mut self) {
        let mut failures = 0;
        self.check_told();
        let (supervisor, told) = loop {
            match supervised(&self.world).await {
                Ok(next) => break next,
                Err(error) => {
                    self.note(format!("no start: {error}"));
                    failures += 1;
                    if failures > 2 {
                        self.world.store.heal();
                    }
                }
            }
        };
        let next = supervisor.coordinator();
        self.note(format!("start {}", next.epoch()));
        // Those that could not be read just now, too.
        self.adopted.extend(self.world.view().await.checkpoints.into_keys());
        let newest = next.completed().into_iter().rfind(|done| done.kind == CheckpointKind::Incremental);
        let mut tasks = Vec::new();
        for index in 0..SUBTASKS {
            let mut task = self.world.supervised_task(&supervisor, index, SUBTASKS);
            let old = &self.tasks[index as usize];
            match &newest {
                Some(newest) if self.rng.random_bool(0.7) => {
                    task = task.restored_from(old, &self.world.metadata(newest.folder).await.as_ref().clone());
                }
                _ => task.files = old.files.clone(),
            }
            tasks.push(task);
        }
        self.tasks = tasks;
        (self.supervisor, self.told) = (supervisor, told);
        let old = std::mem::replace(&mut self.coordinator, next);
        self.zombies.push(old);
    }

    /// A call of this coordinator stands still at some request, and a new one takes over.
    pub(super) async fn stall(&mut self) {
        let call: std::pin::Pin<Box<dyn Future<Output = Option<CheckpointFolder>> + Send>> = {
            let coordinator = Arc::clone(&self.coordinator);
            if self.rng.random_bool(0.6) {
                let Some(trigger) = self.trigger() else { return };
                let Some(handles) = self.upload(&trigger).await else { return };
                Box::pin(async move {
                    let mut complete = None;
                    for handle in handles {
                        if let Ok(Acknowledged::Complete(folder, _)) = coordinator.acknowledge(handle).await {
                            complete = Some(folder);
                        }
                    }
                    complete
                })
            } else {
                let drops: Vec<_> =
                    coordinator.completed().iter().map(|done| (done.folder, "at random".to_owned())).collect();
                Box::pin(async move {
                    let _ = coordinator.drop_checkpoints(&drops, false).await;
                    let _ = coordinator.collect(SweepScope::Everything, false).await;
                    None
                })
            }
        };
        let gate = self.some_gate();
        let mut call = tokio::spawn(call);
        tokio::select! {
            biased;
            outcome = &mut call => {
                if let Some(folder) = outcome.unwrap() {
                    self.reported(folder);
                }
            }
            () = gate.reached() => {
                self.note("stalled");
                self.stalled.push(Stalled { gate, call });
                self.crash().await;
                // It stands still: nothing more can be asked of it.
                self.zombies.pop();
            }
        }
    }

    pub(super) async fn release_a_stalled_call(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.stalled.len());
        let Stalled { gate, call } = self.stalled.swap_remove(at);
        self.note("a stalled call goes on");
        gate.release();
        if let Some(folder) = call.await.unwrap() {
            // It may be reported only if its successors knew of it.
            assert!(self.adopted.contains(&folder), "a zombie reported {folder}, which nobody adopted");
            let other = self.reported.insert(folder.checkpoint.0, folder);
            assert!(other.is_none_or(|other| other == folder), "{folder} and {other:?} were reported");
        }
    }

    pub(super) async fn act_as_a_zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let zombie = Arc::clone(&self.zombies[self.rng.random_range(0..self.zombies.len())]);
        self.note(format!("zombie {}", zombie.epoch()));
        let drops: Vec<_> = zombie.completed().iter().map(|done| (done.folder, "at random".to_owned())).collect();
        let _ = zombie.drop_checkpoints(&drops, false).await;
        let _ = zombie.collect(SweepScope::Everything, false).await;
        if let Some((folder, _)) = drops.first() {
            assert!(zombie.pin(*folder, "of a zombie").await.is_err());
        }
    }
}
