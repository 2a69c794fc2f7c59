//! The agent's own limits: CPU is kept by lengthening cadences, memory by giving up what waits and, if that does not
//! help, by a new start.
//!
//! [`Limits`] is told what the agent used and says what to do; it reads no clock and no file. The run loop does it:
//! cadences are multiplied by [`Limits::stretch`], the agent's own metrics excepted.

use std::time::{Duration, Instant};

/// How often the limits are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The most that cadences are lengthened.
const STRETCH_MAX: u32 = 64;
/// Looks in a row, with CPU to spare, after which cadences are shortened again by half.
const CALM_LOOKS: u32 = 6;
/// How much of the limit may be used, after shortening, for it to be worth trying.
const CALM_SHARE: f64 = 0.8;
/// Looks in a row over the memory limit, relieved each time, until only a new start is left.
const OVER_LOOKS: u32 = 3;

/// What the agent may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Of one core, over [`LOOK_EVERY`].
    pub cpu_max_ratio: f64,
    /// In RAM.
    pub memory_max_bytes: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { cpu_max_ratio: 0.1, memory_max_bytes: 48 * 1024 * 1024 }
    }
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All within the limits.
    Within,
    /// The limit of CPU is kept in another way than before: see [`Limits::stretch`].
    Stretched,
    /// Over the limit of memory: what waits in memory goes to disk, and free pages back to the system.
    Relieve,
    /// Over the limit of memory though it was relieved: the agent starts anew, with all that it has on disk.
    Restart,
}

/// The limits, and how near the agent is to them.
#[derive(Debug)]
pub struct Limits {
    config: LimitsConfig,
    /// When the last look was, and the CPU time used until then.
    last: Option<(Instant, Duration)>,
    cpu_ratio: f64,
    stretch: u32,
    calm: u32,
    over: u32,
    relieved: u64,
}

impl Limits {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: LimitsConfig) -> Self {
        Self { config, last: None, cpu_ratio: 0.0, stretch: 1, calm: 0, over: 0, relieved: 0 }
    }

    /// What to do, by all the CPU time used until `now` and the memory in RAM.
    pub fn look(&mut self, now: Instant, cpu: Duration, resident_bytes: u64) -> Verdict {
        let stretched = self.look_at_cpu(now, cpu);
        if resident_bytes <= self.config.memory_max_bytes {
            self.over = 0;
            return if stretched { Verdict::Stretched } else { Verdict::Within };
        }
        self.over += 1;
        if self.over > OVER_LOOKS {
            return Verdict::Restart;
        }
        self.relieved += 1;
        Verdict::Relieve
    }

    /// Whether the cadences are lengthened otherwise than before.
    fn look_at_cpu(&mut self, now: Instant, cpu: Duration) -> bool {
        let Some((then, before)) = self.last.replace((now, cpu)) else { return false };
        let secs = now.saturating_duration_since(then).as_secs_f64();
        if secs <= 0.0 {
            return false;
        }
        self.cpu_ratio = cpu.saturating_sub(before).as_secs_f64() / secs;
        let stretch = self.stretch;
        if self.cpu_ratio > self.config.cpu_max_ratio {
            self.calm = 0;
            self.stretch = (self.stretch * 2).min(STRETCH_MAX);
        } else if self.stretch > 1 && self.cpu_ratio * 2.0 <= self.config.cpu_max_ratio * CALM_SHARE {
            self.calm += 1;
            if self.calm >= CALM_LOOKS {
                self.calm = 0;
                self.stretch /= 2;
            }
        } else {
            self.calm = 0;
        }
        stretch != self.stretch
    }

    /// By how much cadences are lengthened; 1 is not at all.
    #[must_use]
    pub fn stretch(&self) -> u32 {
        self.stretch
    }

    /// The CPU time a second at the last look.
    #[must_use]
    pub fn cpu_ratio(&self) -> f64 {
        self.cpu_ratio
    }

    /// Times that memory was given up for being over the limit.
    #[must_use]
    pub fn relieved(&self) -> u64 {
        self.relieved
    }

    /// What the agent may use.
    #[must_use]
    pub fn config(&self) -> LimitsConfig {
        self.config
    }
}

/// Gives pages that the allocator holds but nobody uses back to the system.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn give_back_free_memory() {
    // SAFETY: malloc_trim(3) may be called at any time, from any thread; it moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give back by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back_free_memory() {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: LimitsConfig = LimitsConfig { cpu_max_ratio: 0.1, memory_max_bytes: 1000 };

    /// An agent that uses `ratio` of a core at its own cadences, and less as they are lengthened.
    struct Host {
        limits: Limits,
        now: Instant,
        cpu: Duration,
    }

    impl Host {
        fn new() -> Self {
            Self { limits: Limits::new(CONFIG), now: Instant::now(), cpu: Duration::ZERO }
        }

        fn look(&mut self, ratio: f64) -> Verdict {
            self.now += LOOK_EVERY;
            self.cpu += LOOK_EVERY.mul_f64(ratio / f64::from(self.limits.stretch()));
            self.limits.look(self.now, self.cpu, 10)
        }
    }

    #[test]
    fn cadences_are_lengthened_until_the_limit_is_kept_and_shortened_when_it_is_calm() {
        let mut host = Host::new();
        for _ in 0..3 {
            assert_eq!(host.look(0.09), Verdict::Within);
        }
        for _ in 0..10 {
            host.look(0.7);
        }
        assert_eq!(host.limits.stretch(), 8);
        assert!(host.limits.cpu_ratio() <= 0.1);
        for _ in 0..CALM_LOOKS * 3 {
            host.look(0.01);
        }
        assert_eq!(host.limits.stretch(), 1);
    }

    #[test]
    fn memory_is_relieved_and_then_the_agent_starts_anew() {
        let mut limits = Limits::new(CONFIG);
        let mut look = |bytes| limits.look(Instant::now(), Duration::ZERO, bytes);
        let over = [1001, 1001, 1000, 1001, 1001, 1001, 1001].map(&mut look);
        let (within, relieve) = (Verdict::Within, Verdict::Relieve);
        assert_eq!(over, [relieve, relieve, within, relieve, relieve, relieve, Verdict::Restart]);
        assert_eq!(limits.relieved(), 5);
        give_back_free_memory();
    }

    proptest! {
        #[test]
        fn a_steady_load_comes_to_rest_within_the_limit(ratio in 0.0_f64..6.0) {
            let mut host = Host::new();
            for _ in 0..60 {
                host.look(ratio);
            }
            let stretch = host.limits.stretch();
            for _ in 0..60 {
                host.look(ratio);
            }
            prop_assert_eq!(host.limits.stretch(), stretch, "it does not swing");
            prop_assert!(ratio / f64::from(stretch) <= CONFIG.cpu_max_ratio);
        }
    }
}
