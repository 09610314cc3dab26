//! Length of a jiffy.

use rustix::time::{ClockId, clock_getres};

const NSEC_PER_SEC: u64 = 1_000_000_000;
const USEC_PER_SEC: u128 = 1_000_000;

/// Length of a jiffy, ns: the resolution of `CLOCK_MONOTONIC_COARSE`, which the kernel defines as
/// `TICK_NSEC` (`KTIME_LOW_RES` in `include/linux/hrtimer_defs.h`). 4,000,000 with `HZ=250`.
#[must_use]
pub fn tick_ns() -> u64 {
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    let seconds = u64::try_from(resolution.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(resolution.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(NSEC_PER_SEC).saturating_add(nanos)
}

/// Jiffies in `usecs` µs, rounded up as `usecs_to_jiffies` does; 0 for a `tick_ns` of 0.
#[must_use]
pub fn usecs_to_jiffies(usecs: u32, tick_ns: u64) -> u64 {
    if tick_ns == 0 {
        return 0;
    }
    // A tick is 1 s / HZ rounded to ns, the kernel counts with HZ itself.
    let hz = u128::from((NSEC_PER_SEC + tick_ns / 2) / tick_ns);
    let jiffies = (u128::from(usecs) * hz).div_ceil(USEC_PER_SEC);
    u64::try_from(jiffies).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_rounded_up_to_jiffies() {
        for (usecs, tick_ns, jiffies) in [
            (0, 4_000_000, 0),
            (1, 4_000_000, 1),
            (2000, 4_000_000, 1),
            (8000, 4_000_000, 2),
            (8001, 4_000_000, 3),
            (2000, 1_000_000, 2),
            (20_000, 10_000_000, 2),
            (6666, 3_333_333, 2),
            (10_000, 3_333_333, 3),
            (u32::MAX, 1_000_000, 4_294_968),
        ] {
            assert_eq!(
                usecs_to_jiffies(usecs, tick_ns),
                jiffies,
                "{usecs} {tick_ns}"
            );
        }
        assert_eq!(usecs_to_jiffies(1, 0), 0);
    }

    #[test]
    fn this_hosts_tick_is_between_a_tenth_and_a_hundred_milliseconds() {
        assert!(
            (100_000..=100_000_000).contains(&tick_ns()),
            "{}",
            tick_ns()
        );
    }
}
