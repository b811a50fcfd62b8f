//! A progress bar on stderr, where a terminal is there.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use crate::transfer::Progress;

/// How often the bar is drawn anew although nothing happened, in milliseconds.
const TICK_MS: u64 = 200;

/// Says that something goes on of which nobody knows how far it is, and for how long it has.
#[cfg(feature = "job")]
#[derive(Debug)]
pub(super) struct Spinner(ProgressBar);

#[cfg(feature = "job")]
impl Spinner {
    pub(super) fn new(output: Output, what: &'static str) -> Self {
        let spinner = if output.wants_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            spinner.set_style(style);
        }
        spinner.set_message(what);
        if !spinner.is_hidden() {
            spinner.enable_steady_tick(Duration::from_millis(TICK_MS));
        }
        Self(spinner)
    }
}

#[cfg(feature = "job")]
impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Files and bytes of one piece of long work.
#[derive(Debug)]
pub(super) struct Bar {
    bytes: ProgressBar,
}

impl Bar {
    /// A bar for `what`, hidden where nobody would see it.
    pub(super) fn new(output: Output, what: &'static str) -> Self {
        let bytes = if output.wants_progress() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let template = "{prefix} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bytes.set_style(style.progress_chars("=> "));
        }
        bytes.set_prefix(what);
        if !bytes.is_hidden() {
            bytes.enable_steady_tick(Duration::from_millis(TICK_MS));
        }
        Self { bytes }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bytes.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Bar {
    fn expect(&self, _files: u64, bytes: u64) {
        self.bytes.inc_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        if self.bytes.length().is_some_and(|length| length < self.bytes.position().saturating_add(bytes)) {
            // What is sent again after a failure, or made on demand, was not among what was expected.
            self.bytes.inc_length(bytes);
        }
        self.bytes.inc(bytes);
    }

    fn file_done(&self) {}
}
