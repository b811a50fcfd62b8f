//! One Kafka broker. What it acknowledged survives kill -9.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::supervised::{Supervised, Unavailable, fact, path_fact};

/// A broker of one's own, without topics; dropping it stops it and removes its data.
pub struct KafkaBroker {
    supervised: Mutex<Supervised>,
    bootstrap: String,
    data: PathBuf,
}

impl KafkaBroker {
    /// Takes 3 to 10 s, and 250 MB of memory.
    pub fn start() -> Option<Self> {
        Self::try_start().inspect_err(Unavailable::skip).ok()
    }

    /// The address of the one that `scripts/test` started for all tests.
    pub(super) fn shared_from_environment() -> Option<String> {
        std::env::var("ICECORE_TEST_KAFKA").ok()
    }

    pub(super) fn try_start() -> Result<Self, Unavailable> {
        let (supervised, facts) = Supervised::start(&["kafka"])?;
        Ok(Self {
            supervised: Mutex::new(supervised),
            bootstrap: fact(&facts, "bootstrap"),
            data: path_fact(&facts, "data"),
        })
    }

    /// `127.0.0.1:PORT`, what clients call `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The folder with its log.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns when the process is gone.
    pub fn kill9(&self) {
        self.supervised.lock().ask("kill");
    }

    /// Starts it again after [`KafkaBroker::kill9`], at the same address with the same data, and waits until it answers.
    pub fn restart(&self) {
        self.supervised.lock().ask("start");
    }

    /// Stops answering (SIGSTOP), with all connections open, until [`KafkaBroker::resume`].
    pub fn pause(&self) {
        self.supervised.lock().ask("pause");
    }

    pub fn resume(&self) {
        self.supervised.lock().ask("resume");
    }

    /// As dropping it does.
    pub fn stop(self) {}

    /// The process whose input keeps the broker alive.
    pub fn guard(&self) -> u32 {
        self.supervised.lock().guard()
    }
}
