//! What /proc says, read plainly, to compare with what Pitwatch says.

use std::fs;

/// CPU seconds (user and system) that a process has used, and its resident bytes; `None` if it is gone.
#[must_use]
pub fn process_cost(pid: u32) -> Option<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<f64>().ok();
    // Linux has given 100 ticks a second to user space on every machine these suites run on.
    Some(((field(11)? + field(12)?) / 100.0, field(21)? * 4096.0))
}

/// The most resident bytes that a process ever had, or had since its peak was cleared; `None` if it is gone.
#[must_use]
pub fn peak_resident_bytes(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

/// A field of /proc/meminfo in bytes.
#[must_use]
pub fn memory_bytes(field: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

/// The host's name.
#[must_use]
pub fn name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
