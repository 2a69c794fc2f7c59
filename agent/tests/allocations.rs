//! The vitals path allocates nothing at steady state: counted, on this host, by an allocator of the test's own.
//!
//! It has a binary to itself, because it counts the allocations of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use pitwatch_agent::signals::{Now, Signals, SignalsConfig, VITALS};

/// Ticks to measure at a time.
const TICKS: u32 = 50;
/// Measurements of which one must be clean: a disk or an interface that comes meanwhile gets its slots.
const TRIES: u32 = 10;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// A global allocator cannot be written without unsafe; this one only counts.
#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator with its own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above with this layout, and so from the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let mut signals = Signals::new(&SignalsConfig::default(), &[("job".to_owned(), "node".to_owned())]);
    let mut ticks = |count: u32| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..count {
            drop(signals.gather(VITALS, Now::read()).take_changes());
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    assert!(ticks(2) > 100, "the counter counts: slots are given in the first tick");
    let counts: Vec<_> = (0..TRIES).map(|_| ticks(TICKS)).collect();
    println!("allocations in {TICKS} ticks of the vitals, {TRIES} times: {counts:?}");
    assert!(counts.contains(&0), "every {TICKS} ticks allocated: {counts:?}");
}
