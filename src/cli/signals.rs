//! Ctrl-C, SIGTERM and SIGHUP (the terminal is closed): stop cleanly at the first, at once at the second.
//!
//! Nothing is lost either way: the protocol holds for a process that is killed at any step (I4).
//! Stopping cleanly spares the next owner the wait, and the next sweep some work.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::watch;

use super::exit;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// Tells when the process is asked to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    received: watch::Receiver<u8>,
    /// How many are at work that put things in order themselves.
    awaited: Arc<AtomicUsize>,
}

/// Whether the process was started to outlive its terminal (`nohup`).
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}

impl Signals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn catch() -> Result<Self> {
        let fail = |error| Error::io("catch signals", "SIGINT, SIGTERM and SIGHUP", error);
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(fail)?;
        if !ignores_hangup() {
            signals.add_signal(SIGHUP).map_err(fail)?;
        }
        let (sender, received) = watch::channel(0);
        Env::system()?.runtime.spawn_blocking(Box::new(move || {
            for signal in signals.forever() {
                let number = u8::try_from(signal).unwrap_or(0);
                if *sender.borrow() != 0 {
                    // Without destructors: others are at work still, and use what those would take away.
                    signal_hook::low_level::exit(i32::from(exit::SIGNAL_BASE + number));
                }
                if sender.send(number).is_err() {
                    return;
                }
            }
        }));
        Ok(Self { received, awaited: Arc::default() })
    }

    /// Ready once a signal has come.
    pub(super) async fn received(&self) {
        let mut received = self.received.clone();
        if received.wait_for(|signal| *signal != 0).await.is_err() {
            // The thread that listens is gone, so none will come.
            std::future::pending().await
        }
    }

    /// As [`Self::received`], but never while someone [`Self::awaits`] it.
    pub(super) async fn received_and_not_awaited(&self) {
        self.received().await;
        if self.awaited.load(Ordering::SeqCst) > 0 {
            std::future::pending().await
        }
    }

    /// Whether one has come.
    pub(super) fn has_come(&self) -> bool {
        *self.received.borrow() != 0
    }

    /// From now on the caller stops by itself, and is not just dropped, when a signal comes.
    pub(super) fn awaits(&self) {
        self.awaited.fetch_add(1, Ordering::SeqCst);
    }

    /// The error that says that a signal stopped the work, and how things stand.
    pub(super) fn error(&self, standing: &str) -> Error {
        error_of(*self.received.borrow(), standing)
    }
}

#[derive(Debug)]
struct Interrupted(u8);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

pub(super) fn error_of(signal: u8, standing: &str) -> Error {
    let name = if i32::from(signal) == SIGTERM { "SIGTERM" } else { "Ctrl-C" };
    Error::new(ErrorKind::Cancelled, "run", format!("interrupted by {name}"))
        .with_advice(standing)
        .with_source(Interrupted(signal))
}

/// The signal that an error tells of, if it does.
pub(super) fn signal_of(error: &Error) -> Option<u8> {
    use std::error::Error as _;
    error.source()?.downcast_ref::<Interrupted>().map(|interrupted| interrupted.0)
}
