//! How right the clock is: the kernel's clock discipline (adjtimex(2)), its clock sources, the time zone.

use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::parse;
use super::source::{Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest name taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 64;
/// What frequencies are counted in: 2^-16 parts per million.
const PPM_FRACTION: f64 = 65_536.0 * 1e6;
/// Set in the status while offsets are in nanoseconds, not in microseconds.
const STA_NANO: i32 = 0x2000;
/// What adjtimex(2) returns while the clock is not synchronised.
const TIME_ERROR: i32 = 5;

const CALL: &str = "adjtimex(2)";

/// What adjtimex(2) gives, in the order of [`values`].
pub(super) static TIMEX: [Metric; 17] = [
    Metric::gauge("node_timex_offset_seconds", "seconds", CALL, "How far the clock is from its reference."),
    Metric::gauge(
        "node_timex_frequency_adjustment_ratio",
        "",
        CALL,
        "How much faster or slower the clock is made to run.",
    ),
    Metric::gauge("node_timex_maxerror_seconds", "seconds", CALL, "Largest error that the clock can have."),
    Metric::gauge("node_timex_estimated_error_seconds", "seconds", CALL, "Error that the clock is thought to have."),
    Metric::gauge("node_timex_status", "", CALL, "Bits of the clock discipline, STA_* of the kernel."),
    Metric::gauge("node_timex_loop_time_constant", "", CALL, "Time constant of the phase-locked loop."),
    Metric::gauge("node_timex_tick_seconds", "seconds", CALL, "Seconds between two ticks of the clock."),
    Metric::gauge("node_timex_pps_frequency_hertz", "hertz", CALL, "Frequency of the pulse-per-second signal."),
    Metric::gauge("node_timex_pps_jitter_seconds", "seconds", CALL, "Jitter of the pulse-per-second signal."),
    Metric::gauge("node_timex_pps_shift_seconds", "seconds", CALL, "Interval of the pulse-per-second calibration."),
    Metric::gauge("node_timex_pps_stability_hertz", "hertz", CALL, "Stability of the pulse-per-second signal."),
    Metric::counter("node_timex_pps_jitter_total", "events", CALL, "Times that its jitter was too large."),
    Metric::counter(
        "node_timex_pps_calibration_total",
        "intervals",
        CALL,
        "Calibrations of the pulse-per-second signal.",
    ),
    Metric::counter("node_timex_pps_error_total", "errors", CALL, "Calibrations that failed."),
    Metric::counter("node_timex_pps_stability_exceeded_total", "events", CALL, "Times that it was not stable enough."),
    Metric::gauge("node_timex_tai_offset_seconds", "seconds", CALL, "Leap seconds between UTC and TAI."),
    Metric::gauge("node_timex_sync_status", "", CALL, "Whether the clock is synchronised: 1, else 0."),
];

/// The clock discipline.
#[derive(Default)]
pub(super) struct Timex([Handle; TIMEX.len()]);

impl Source for Timex {
    fn name(&self) -> &'static str {
        "timex"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let (state, timex) = read_timex().map_err(|source| SourceError::Call { what: CALL, source })?;
        for ((handle, metric), value) in self.0.iter_mut().zip(&TIMEX).zip(values(state, &timex)) {
            pass.sink.set(handle, metric, &[], Some(value));
        }
        Ok(())
    }
}

/// Asks the kernel, and changes nothing.
#[allow(unsafe_code)]
fn read_timex() -> std::io::Result<(i32, libc::timex)> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `timex` is a whole timex of zeros, whose `modes` of 0 asks for nothing to be set; the kernel writes
    // within it. All of its fields are integers, for which zeros are values.
    let (state, timex) = unsafe { (libc::adjtimex(timex.as_mut_ptr()), timex.assume_init()) };
    if state < 0 { Err(std::io::Error::last_os_error()) } else { Ok((state, timex)) }
}

fn values(state: i32, timex: &libc::timex) -> [f64; TIMEX.len()] {
    let divisor = if timex.status & STA_NANO != 0 { 1e9 } else { 1e6 };
    [
        timex.offset as f64 / divisor,
        1.0 + timex.freq as f64 / PPM_FRACTION,
        timex.maxerror as f64 / 1e6,
        timex.esterror as f64 / 1e6,
        f64::from(timex.status),
        timex.constant as f64,
        timex.tick as f64 / 1e6,
        timex.ppsfreq as f64 / PPM_FRACTION,
        timex.jitter as f64 / divisor,
        f64::from(timex.shift),
        timex.stabil as f64 / PPM_FRACTION,
        timex.jitcnt as f64,
        timex.calcnt as f64,
        timex.errcnt as f64,
        timex.stbcnt as f64,
        f64::from(timex.tai),
        f64::from(u8::from(state != TIME_ERROR)),
    ]
}

const CLOCK_SOURCES: &str = "/sys/devices/system/clocksource";

/// What clock sources there are, and which is used.
pub(super) static SOURCES: [Metric; 2] = [
    Metric::gauge(
        "node_time_clocksource_available_info",
        "",
        CLOCK_SOURCES,
        "A clock source of the kernel's; always 1.",
    )
    .by(&["clocksource", "device"]),
    Metric::gauge("node_time_clocksource_current_info", "", CLOCK_SOURCES, "The clock source in use; always 1.")
        .by(&["clocksource", "device"]),
];

/// The kernel's clock sources.
pub(super) struct ClockSources {
    dir: PathBuf,
    /// By which of the metrics, device and source.
    known: Keyed<Handle>,
}

impl ClockSources {
    pub(super) fn new(sys_root: &Path) -> Self {
        Self { dir: sys_root.join("devices/system/clocksource"), known: Keyed::default() }
    }
}

impl Source for ClockSources {
    fn name(&self) -> &'static str {
        "clocksources"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let Ok(listing) = std::fs::read_dir(&self.dir) else { return Ok(()) };
        self.known.begin();
        for name in listing.flatten().map(|entry| entry.file_name()) {
            let Some(device) = name.as_bytes().strip_prefix(b"clocksource").filter(|n| parse::whole(n).is_some())
            else {
                continue;
            };
            let device = parse::text(device, TEXT_MAX_BYTES);
            for (at, file) in ["available_clocksource", "current_clocksource"].into_iter().enumerate() {
                let Some(text) = pass.buffer.read_small(&self.dir.join(&name).join(file)) else { continue };
                for word in parse::words(text) {
                    let key = [file.as_bytes(), device.as_bytes(), word].join(&b' ');
                    let Some(handle) = self.known.entry(&key, |_| Handle::default()) else { continue };
                    let clock = parse::text(word, TEXT_MAX_BYTES);
                    let labels = [("clocksource", clock.as_str()), ("device", &device)];
                    pass.sink.set(handle, &SOURCES[at], &labels, Some(1.0));
                }
            }
        }
        self.known.end();
        Ok(())
    }
}

/// The host's time zone.
pub(super) static ZONE: [Metric; 1] =
    [Metric::gauge("node_time_zone_offset_seconds", "seconds", "localtime_r(3)", "How far local time is before UTC.")
        .by(&["time_zone"])];

/// Local time, as the C library has it.
#[derive(Default)]
pub(super) struct Zone {
    name: String,
    handle: Handle,
}

impl Source for Zone {
    fn name(&self) -> &'static str {
        "time_zone"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let failed = || SourceError::Call { what: "localtime_r(3)", source: std::io::Error::last_os_error() };
        let (offset_secs, name) = local_time(pass.now.ts_ms / 1000).ok_or_else(failed)?;
        if name != self.name {
            self.name = name;
            self.handle = Handle::default();
        }
        pass.sink.set(&mut self.handle, &ZONE[0], &[("time_zone", &self.name)], Some(offset_secs as f64));
        Ok(())
    }
}

/// Seconds east of Greenwich, and the zone's name.
#[allow(unsafe_code)]
fn local_time(unix_secs: i64) -> Option<(i64, String)> {
    let mut broken = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to whole values of ours; on success the library has filled `broken`, whose zone is a
    // string of its own that lives as long as the zone is not read anew, which nothing else of this program does.
    unsafe {
        if libc::localtime_r(&raw const unix_secs, broken.as_mut_ptr()).is_null() {
            return None;
        }
        let broken = broken.assume_init();
        if broken.tm_zone.is_null() {
            return None;
        }
        let name = parse::text(std::ffi::CStr::from_ptr(broken.tm_zone).to_bytes(), TEXT_MAX_BYTES);
        Some((broken.tm_gmtoff, name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    #[test]
    fn the_kernel_says_how_right_its_clock_is() {
        let mut bench = Bench::new(|_| Box::new(Timex::default()));
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.len(), TIMEX.len());
        assert!(bench.value("node_timex_tick_seconds").is_some_and(|secs| (secs - 0.01).abs() < 0.0011));
        let ratio = bench.value("node_timex_frequency_adjustment_ratio").unwrap();
        assert!((ratio - 1.0).abs() < 0.001, "{ratio}");
    }

    #[test]
    fn units_are_those_of_the_status() {
        let (_, mut timex) = read_timex().unwrap();
        (timex.offset, timex.status, timex.freq) = (1_500_000, STA_NANO, 65_536);
        let nanos = values(0, &timex);
        assert_eq!((nanos[0], nanos[1], nanos[16]), (0.0015, 1.000_001, 1.0));
        timex.status = 0;
        assert_eq!(values(TIME_ERROR, &timex)[0], 1.5);
        assert_eq!(values(TIME_ERROR, &timex)[16], 0.0);
    }

    #[test]
    fn clock_sources_are_listed_and_one_is_current() {
        let mut bench = Bench::new(|root| Box::new(ClockSources::new(root)));
        bench.file("devices/system/clocksource/clocksource0/available_clocksource", b"tsc hpet \n");
        bench.file("devices/system/clocksource/clocksource0/current_clocksource", b"tsc\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(
            bench.names(),
            [
                "node_time_clocksource_available_info{clocksource=\"hpet\",device=\"0\"}",
                "node_time_clocksource_available_info{clocksource=\"tsc\",device=\"0\"}",
                "node_time_clocksource_current_info{clocksource=\"tsc\",device=\"0\"}"
            ]
        );
        bench.file("devices/system/clocksource/clocksource0/current_clocksource", b"hpet\n");
        bench.tick().unwrap();
        assert!(bench.names()[2].contains("hpet"));
    }

    #[test]
    fn the_zone_is_what_date_says() {
        let output = std::process::Command::new("date").arg("+%z %Z").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (offset, name) = text.trim().split_once(' ').unwrap();
        let (hours, minutes): (i64, i64) = (offset[..3].parse().unwrap(), offset[3..].parse().unwrap());
        let now = super::super::Now::read().ts_ms / 1000;
        assert_eq!(local_time(now), Some((hours * 3600 + hours.signum() * minutes * 60, name.to_owned())));
    }
}
