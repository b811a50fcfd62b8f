//! Lets a test hold up what runs on another thread.

use parking_lot::{Condvar, Mutex};

/// Open at first.
#[derive(Default)]
pub struct Gate {
    is_shut: Mutex<bool>,
    opens: Condvar,
}

/// Keeps a gate shut for as long as it lives.
pub struct Shut<'a>(&'a Gate);

impl Gate {
    pub fn shut(&self) -> Shut<'_> {
        *self.is_shut.lock() = true;
        Shut(self)
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        let mut is_shut = self.is_shut.lock();
        while *is_shut {
            self.opens.wait(&mut is_shut);
        }
    }
}

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        *self.0.is_shut.lock() = false;
        self.0.opens.notify_all();
    }
}
