//! Counts what each thread takes of the heap: what a few bytes from a stranger may cost is a
//! promise, and only the allocator sees whether it is kept.
#![allow(unsafe_code)] // an allocator can't be made without; none of it is in the product
#![allow(unreachable_pub)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread took and did not give back. What it gives back for another makes
    /// it negative.
    static TAKEN: Cell<isize> = const { Cell::new(0) };
    /// The most that it was.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// Runs `work` and returns as well how many bytes more than before it held at most. What moves
/// because it grew counts in both places.
pub fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.get();
    MOST.set(before);
    let result = work();
    (result, (MOST.get() - before).unsigned_abs())
}

fn count(taken: usize, given_back: usize) {
    let now = TAKEN.get().saturating_add_unsigned(taken);
    MOST.set(MOST.get().max(now));
    TAKEN.set(now.saturating_sub_unsigned(given_back));
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is left to the system's allocator; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller keeps the same promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller keeps the same promises.
        unsafe { System.dealloc(old, layout) }
    }
}
