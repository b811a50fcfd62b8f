//! An allocator that counts, and so says how much memory a call needs at most.
//!
//! The counts are of the whole process: measure in a program of one test.

#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what passes through to the system's allocator.
pub struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let live = LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call is handed on to `System` unchanged; counting touches no memory of the caller's.
// `realloc` is the provided one (allocate, copy, free), so its peak is the worst an allocator has.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise to us is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What a call kept and what it needed at most, in bytes over what was there before.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Still allocated after the call: its result.
    pub kept_bytes: usize,
    /// The most that was allocated at once, the result included.
    pub peak_bytes: usize,
}

/// Runs `call` and counts.
pub fn measure<T>(call: impl FnOnce() -> T) -> (T, Memory) {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let result = call();
    let memory = Memory {
        kept_bytes: LIVE_BYTES.load(Ordering::Relaxed).saturating_sub(before),
        peak_bytes: PEAK_BYTES.load(Ordering::Relaxed).saturating_sub(before),
    };
    (result, memory)
}
