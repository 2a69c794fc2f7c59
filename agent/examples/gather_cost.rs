//! What gathering costs on this host: CPU and allocations per tick of each group, and of a host with many processes.
//!
//! `cargo run --release -p pitwatch-agent --example gather_cost [TICKS] [PROCESSES]`, 1,000 and 2,000 by default;
//! PROCESSES is how many sleeping processes are started for the second part, where `sysinfo`'s scan is measured too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pitwatch_agent::signals::{Now, PROCESSES, Signals, SignalsConfig, VITALS};
use rustix::time::{ClockId, clock_gettime};

/// Ticks before anything is counted: slots are given and files opened in the first.
const WARM_UP_TICKS: u32 = 5;

/// The system's allocator, counting.
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

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for `dealloc`; the caller's promise about `size` is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// CPU and allocations per tick.
struct Cost {
    micros: f64,
    allocations: f64,
}

fn measure(ticks: u32, mut tick: impl FnMut()) -> Cost {
    let (cpu, allocations) = (cpu(), ALLOCATIONS.load(Ordering::Relaxed));
    for _ in 0..ticks {
        tick();
    }
    let used = cpu_since(cpu).as_secs_f64() * 1e6;
    let made = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    Cost { micros: used / f64::from(ticks), allocations: made as f64 / f64::from(ticks) }
}

fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

fn cpu_since(before: Duration) -> Duration {
    cpu().saturating_sub(before)
}

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Processes that sleep until they are dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(count: usize) -> std::io::Result<Self> {
        let mut all = Self(Vec::with_capacity(count));
        for _ in 0..count {
            all.0.push(Command::new("sleep").arg("3600").spawn()?);
        }
        Ok(all)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn main() -> std::io::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let ticks = numbers.next().unwrap_or(1000_u32).max(1);
    let processes = numbers.next().unwrap_or(2000_u32);

    let mut signals = Signals::new(&SignalsConfig::default(), &[("job".to_owned(), "node".to_owned())]);
    // Sources on threads of their own are waited for, so that what they use is in the figures.
    signals.be_patient(Duration::from_secs(10));
    let groups = signals.groups().to_vec();
    println!("{:12} {:>8} {:>12} {:>12} {:>10}", "group", "series", "CPU us/tick", "allocs/tick", "% of core");
    let mut sum = 0.0;
    for group in &groups {
        for _ in 0..WARM_UP_TICKS {
            signals.gather(group.id, Now::read()).take_changes();
        }
        let ticks = if group.id == VITALS { ticks } else { (ticks / 20).max(1) };
        let cost = measure(ticks, || drop(signals.gather(group.id, Now::read()).take_changes()));
        let percent = cost.micros / group.cadence.as_secs_f64() / 1e4;
        sum += percent;
        let series = signals.table(group.id).len();
        println!("{:12} {series:8} {:12.1} {:12.2} {percent:10.4}", group.name, cost.micros, cost.allocations);
    }
    println!("{:12} {:>44.4} (RSS {} KiB)", "all", sum, resident_kib());

    println!("\nwith {processes} sleeping processes more:");
    let sleepers = Sleepers::start(processes as usize)?;
    // A second each between passes, so that the sleepers are seen to sleep.
    let mut now = Now::read();
    let mut pass = |signals: &mut Signals| {
        now.monotonic += Duration::from_secs(5);
        drop(signals.gather(PROCESSES, now).take_changes());
    };
    let first = measure(1, || pass(&mut signals));
    println!("{:44} {:10.0} us", "the first pass, every process read", first.micros);
    for _ in 0..2 * WARM_UP_TICKS {
        pass(&mut signals);
    }
    let idle = measure(20, || pass(&mut signals));
    println!("{:44} {:10.0} us = {:.3}% of a core at 5 s", "a pass", idle.micros, idle.micros / 5e4);
    let before_kib = resident_kib();
    let mut system = sysinfo::System::new().map_err(std::io::Error::other)?;
    let what = sysinfo::ProcessRefreshKind::nothing().with_cpu().with_memory();
    let mut scan = || {
        system.refresh_processes_specifics(sysinfo::ProcessesToUpdate::All, true, what);
    };
    scan();
    let cost = measure(5, scan);
    println!("{:44} {:10.0} us = {:.3}% of a core at 5 s", "sysinfo's scan", cost.micros, cost.micros / 5e4);
    println!("{:44} {:10} KiB", "and its RSS", resident_kib().saturating_sub(before_kib));
    let began = Instant::now();
    drop(sleepers);
    println!("(stopped them in {:.1} s)", began.elapsed().as_secs_f64());
    Ok(())
}
