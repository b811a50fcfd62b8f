//! Stopping one party at a step, and letting it go on.

use std::sync::Arc;

use tokio::sync::watch;

/// A place where calls stop. See [`super::FaultyStore::park`].
///
/// Dropping the gate opens it, so a test that fails half-way leaves nobody waiting.
#[derive(Debug)]
pub struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    arrived: u64,
    open: bool,
}

/// The side of the gate where calls stop.
#[derive(Clone, Debug)]
pub(super) struct Barrier {
    state: Arc<watch::Sender<State>>,
}

impl Gate {
    pub(super) fn new() -> (Self, Barrier) {
        let state = Arc::new(watch::Sender::new(State::default()));
        (Self { state: Arc::clone(&state) }, Barrier { state })
    }

    /// Waits until a call has stopped here.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until `calls` calls have stopped here.
    pub async fn reached_by(&self, calls: u64) {
        let mut watcher = self.state.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = watcher.wait_for(|state| state.arrived >= calls).await;
    }

    /// How many calls have stopped here so far.
    pub fn arrived(&self) -> u64 {
        self.state.borrow().arrived
    }

    /// Lets all calls go on, those that stopped and those that come later.
    pub fn release(&self) {
        self.state.send_modify(|state| state.open = true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.release();
    }
}

impl Barrier {
    pub(super) async fn wait(&self) {
        let mut watcher = self.state.subscribe();
        self.state.send_modify(|state| state.arrived += 1);
        let _ = watcher.wait_for(|state| state.open).await;
    }
}
