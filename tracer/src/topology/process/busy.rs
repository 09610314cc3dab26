//! Who used how much, and on which CPU: pure.

use std::collections::BTreeMap;

use super::Sample;
use crate::proc::pid::stat::Stat;

/// Ticks that each process used between two samples, the busiest first; those that used none are left out. One that
/// is younger than `begin` used all it has.
pub(super) fn busiest(begin: &Sample, end: &Sample) -> Vec<(u32, u64)> {
    let used = |pid: &u32, after: &Stat| match begin.processes.get(pid) {
        Some(before) if before.start == after.start => after.ticks.saturating_sub(before.ticks),
        _ => after.ticks,
    };
    let mut busy: Vec<_> = end
        .processes
        .iter()
        .map(|(pid, after)| (*pid, used(pid, after)))
        .filter(|(_, ticks)| *ticks != 0)
        .collect();
    busy.sort_by_key(|&(pid, ticks)| (std::cmp::Reverse(ticks), pid));
    busy
}

/// CPU time, ns, of `threads` by the CPU that each last ran on.
///
/// Where a thread's begin is not known (only so many are read then), the process's own `cpu_ns` is divided as all its
/// threads' time since they started.
pub(super) fn ran_on(
    pid: u32,
    threads: &BTreeMap<u32, Stat>,
    begin: &Sample,
    cpu_ns: u64,
    tick_ns: u64,
) -> BTreeMap<u32, u64> {
    // A process of one thread is that thread.
    if let [only] = threads.values().collect::<Vec<_>>().as_slice() {
        return BTreeMap::from([(only.cpu, cpu_ns)]);
    }
    let before = begin.threads.get(&pid);
    let used = |(tid, thread): (&u32, &Stat)| match before.and_then(|b| b.get(tid)) {
        Some(before) if before.start == thread.start => {
            Some(thread.ticks.saturating_sub(before.ticks))
        }
        _ => (thread.start >= begin.at).then_some(thread.ticks),
    };
    let known: Option<Vec<u64>> = threads.iter().map(used).collect();
    let share: Box<dyn Fn(u64) -> u64> = if known.is_some() {
        Box::new(|ticks| ticks.saturating_mul(tick_ns))
    } else {
        let all: u128 = threads.values().map(|t| u128::from(t.ticks)).sum();
        Box::new(move |ticks| {
            let ns = u128::from(ticks) * u128::from(cpu_ns) / all.max(1);
            u64::try_from(ns).unwrap_or(u64::MAX)
        })
    };
    let ticks = known.unwrap_or_else(|| threads.values().map(|t| t.ticks).collect());
    let mut ran_on = BTreeMap::new();
    for (thread, ticks) in threads.values().zip(ticks).filter(|(_, ticks)| *ticks != 0) {
        let ns: &mut u64 = ran_on.entry(thread.cpu).or_default();
        *ns = ns.saturating_add(share(ticks));
    }
    // The threads are read a moment after the process, and go on meanwhile: together they have no more than it has.
    let all: u128 = ran_on.values().map(|ns| u128::from(*ns)).sum();
    if all > u128::from(cpu_ns) {
        for ns in ran_on.values_mut() {
            let part = u128::from(*ns) * u128::from(cpu_ns) / all;
            *ns = u64::try_from(part).unwrap_or(cpu_ns);
        }
    }
    ran_on
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(start: u64, ticks: u64, cpu: u32) -> Stat {
        Stat {
            ticks,
            start,
            cpu,
            ..Stat::default()
        }
    }

    fn sample(at: u64, processes: &[(u32, Stat)]) -> Sample {
        Sample {
            at,
            tick_ns: 10,
            processes: processes.iter().cloned().collect(),
            threads: BTreeMap::new(),
        }
    }

    #[test]
    fn the_busiest_come_first_and_the_idle_not_at_all() {
        let begin = sample(
            50,
            &[
                (1, stat(5, 100, 0)),
                (2, stat(6, 7, 0)),
                (3, stat(7, 90, 0)),
            ],
        );
        let end = sample(
            90,
            &[
                (1, stat(5, 103, 0)),
                (2, stat(6, 7, 0)),
                // The id of one that ended, given out again.
                (3, stat(60, 4, 0)),
                (4, stat(61, 9, 0)),
            ],
        );
        assert_eq!(busiest(&begin, &end), [(4, 9), (3, 4), (1, 3)]);
    }

    #[test]
    fn a_single_thread_ran_where_its_process_did() {
        let threads = [(7, stat(5, 100, 3))].into();
        let on = ran_on(7, &threads, &Sample::default(), 120, 10);
        assert_eq!(on, [(3, 120)].into());
    }

    #[test]
    fn threads_count_since_the_begin() {
        let mut begin = sample(50, &[]);
        let before = [(7, stat(5, 100, 0)), (8, stat(5, 900, 0))];
        begin.threads.insert(7, before.into());
        let threads = [
            (7, stat(5, 104, 2)),
            (8, stat(5, 900, 1)),
            (9, stat(60, 3, 2)),
        ];
        let on = ran_on(7, &threads.into(), &begin, 70, 10);
        assert_eq!(on, [(2, 70)].into());
    }

    #[test]
    fn threads_whose_begin_is_not_known_share_what_the_process_used() {
        let threads = [(7, stat(5, 300, 2)), (8, stat(5, 100, 1))];
        let on = ran_on(7, &threads.into(), &sample(50, &[]), 1000, 10);
        assert_eq!(on, [(2, 750), (1, 250)].into());
    }
}
