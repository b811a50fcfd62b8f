//! Windows of event time, and how they are keys of state: by a namespace each, in which timers are registered, too.

/// The length of windows.
pub const WINDOW_MS: i64 = 10_000;
/// A sliding window begins so often.
pub const SLIDE_MS: i64 = 2_000;

/// From `WINDOW_MS` before its end up to that, exclusively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub end_ms: i64,
}

impl Window {
    /// The tumbling window that a moment is in.
    pub fn tumbling(at_ms: i64) -> Self {
        Self { end_ms: at_ms.div_euclid(WINDOW_MS) * WINDOW_MS + WINDOW_MS }
    }

    /// The sliding windows that a moment is in.
    pub fn sliding(at_ms: i64) -> impl Iterator<Item = Self> {
        let first_end_ms = at_ms.div_euclid(SLIDE_MS) * SLIDE_MS + SLIDE_MS;
        (0..WINDOW_MS / SLIDE_MS).map(move |slide| Self { end_ms: first_end_ms + slide * SLIDE_MS })
    }

    /// The window whose last moment it is.
    pub fn of_last_ms(last_ms: i64) -> Self {
        Self { end_ms: last_ms + 1 }
    }

    /// Its last moment. When event time has come to that, the window is complete.
    pub fn last_ms(self) -> i64 {
        self.end_ms - 1
    }

    /// Its state's namespace.
    pub fn namespace(self) -> [u8; 8] {
        self.end_ms.to_be_bytes()
    }
}
