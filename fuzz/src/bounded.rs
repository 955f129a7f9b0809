//! Memory that an input may take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory beside what the input's bytes account for: tables of regular expressions, buffers of codecs.
const OVERHEAD: usize = 96 << 20;

/// Copies of the input that may be in memory at once.
const COPIES: usize = 64;

/// Runs a target on an input of some bytes; more memory than they account for ends the process, as a panic does.
pub fn bounded(bytes: usize, run: impl FnOnce()) {
    let before = ALLOCATOR.live.load(Ordering::Relaxed);
    ALLOCATOR.most.store(before + OVERHEAD + COPIES * bytes, Ordering::Relaxed);
    run();
    ALLOCATOR.most.store(usize::MAX, Ordering::Relaxed);
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded { live: AtomicUsize::new(0), most: AtomicUsize::new(usize::MAX) };

/// The system's allocator, which ends the process at a bound.
struct Bounded {
    live: AtomicUsize,
    most: AtomicUsize,
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = self.live.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        let most = self.most.load(Ordering::Relaxed);
        if live > most {
            // What follows allocates too.
            self.most.store(usize::MAX, Ordering::Relaxed);
            let trace = std::backtrace::Backtrace::force_capture();
            let _ = writeln!(std::io::stderr(), "{live} bytes in use, at most {most} expected\n{trace}");
            std::process::abort();
        }
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.live.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}
