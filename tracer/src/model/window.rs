//! The difference of two snapshots. Wrapping counters, CPUs that come and go and devices that
//! are made, renamed or removed in between are dealt with here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::{
    counter::{
        CpuCounters, DetailCounters, DropCounters, DropKey, IrqCounters, NapiCounters,
        SoftirqCounters,
    },
    hist::BUCKETS,
};

use super::{
    report::{CpuTime, Hook, Softnet},
    snapshot::{Between, Gaps, Snapshot},
};
use crate::proc::{
    interrupts::Row, netdev::NetDevice, snmp::Protocols, softnet::SoftnetRow, stat::CpuTicks,
};

/// What happened between two snapshots. Counts are differences; maxima and levels are those of
/// the later snapshot.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// `CLOCK_REALTIME` of the earlier snapshot, ns.
    pub start_unix_ns: u64,
    /// Length, ns.
    pub duration_ns: u64,
    /// How far apart the programs' counters and the kernel's were read, the worse of both ends.
    pub gaps: Gaps,
    /// What was counted between these reads, at the begin and at the end.
    pub between: [Between; 2],
    /// Which maxima rose in this window and so belong to it, by CPU id.
    pub new_max: BTreeMap<u32, NewMax>,
    /// The programs' counters by CPU id.
    pub cpus: BTreeMap<u32, Box<CpuCounters>>,
    /// By IRQ number, then CPU id; only those that counted. `max_ns` is 0 where the longest handler so
    /// far was not in this window.
    pub irqs: BTreeMap<u32, BTreeMap<u32, IrqCounters>>,
    /// By CPU id; only instances that were polled.
    pub napi: BTreeMap<u32, Vec<NapiCounters>>,
    /// By key, then CPU id; only those that counted.
    pub drops: BTreeMap<DropKey, BTreeMap<u32, DropCounters>>,
    /// Hooks, runs and misses of the window.
    pub hooks: Vec<Hook>,
    /// Ring frames the reader could not decode.
    pub undecodable: u64,
    /// By CPU id; CPUs in both snapshots.
    pub softnet: BTreeMap<u32, Softnet>,
    /// Numbered interrupts by number; CPUs in both snapshots.
    pub interrupts: BTreeMap<u32, Counted>,
    /// Lettered interrupts by name.
    pub arch: BTreeMap<String, Counted>,
    /// Softirq runs by vector name, then CPU id.
    pub softirqs: BTreeMap<String, BTreeMap<u32, u64>>,
    /// Devices of the later snapshot.
    pub devices: Vec<NetDevice>,
    /// The drivers' own counters that changed, by interface index; empty but for a whole run.
    pub driver_stats: BTreeMap<u32, BTreeMap<String, u64>>,
    /// Counters of tracer's network namespace that changed: `Udp.RcvbufErrors`.
    pub protocols: Protocols,
    /// How each CPU of both snapshots spent the window.
    pub time: BTreeMap<u32, CpuTime>,
    /// CPU ids online at the end.
    pub online: Vec<u32>,
    /// CPUs that were online at one end only: the kernel's tables of online CPUs do not tell what they counted.
    pub hidden_cpus: BTreeSet<u32>,
    /// Numbered interrupts that were freed, perhaps requested anew: the kernel has forgotten their counts. By number,
    /// with the name at the begin.
    pub freed_irqs: BTreeMap<u32, String>,
    /// What has to be known to read the numbers right.
    pub notes: Vec<String>,
}

/// Which maxima of one CPU rose in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewMax {
    /// `hardirq_max_ns`.
    pub hardirq: bool,
    /// `net_rx_wait_max_ns`.
    pub net_rx_wait: bool,
    /// `net_rx_run_max_ns`.
    pub net_rx_run: bool,
}

/// One row of /proc/interrupts over a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Handler names or description.
    pub name: String,
    /// Interrupts by CPU id; CPUs without any are left out.
    pub per_cpu: BTreeMap<u32, u64>,
}

impl Counted {
    /// Over all CPUs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.per_cpu.values().sum()
    }
}

impl Window {
    /// `end - start`.
    #[must_use]
    pub fn between(start: &Snapshot, end: &Snapshot) -> Self {
        let mut notes = Vec::new();
        let cpus: BTreeMap<_, _> = end
            .traced
            .cpus
            .iter()
            .map(|(&cpu, after)| {
                let delta = match start.traced.cpus.get(&cpu) {
                    Some(before) => Box::new(cpu_delta(before, after)),
                    None => after.clone(),
                };
                (cpu, delta)
            })
            .collect();
        hotplug(start, end, &mut notes);
        let irqs = nested(&start.traced.irqs, &end.traced.irqs, irq_delta, |d| {
            d.count == 0 && d.ns == 0
        });
        let freed_irqs = freed_irqs(start, end);
        note_freed(
            freed_irqs.iter().filter(|(irq, _)| irqs.contains_key(irq)),
            &mut notes,
        );
        Self {
            start_unix_ns: start.unix_ns,
            duration_ns: end.monotonic_ns.saturating_sub(start.monotonic_ns),
            gaps: start.gaps.max(end.gaps),
            between: [start.between.clone(), end.between.clone()],
            new_max: new_max(start, end),
            cpus,
            irqs,
            napi: napi(start, end),
            drops: nested(&start.traced.drops, &end.traced.drops, drop_delta, |d| {
                d.packets == 0
            }),
            hooks: hooks(start, end),
            undecodable: end
                .traced
                .undecodable
                .saturating_sub(start.traced.undecodable),
            softnet: softnet(start, end),
            interrupts: rows(
                &start.kernel.interrupts.device,
                &end.kernel.interrupts.device,
                &start.kernel.online,
            ),
            arch: rows(
                &start.kernel.interrupts.arch,
                &end.kernel.interrupts.arch,
                &start.kernel.online,
            ),
            softirqs: softirqs(start, end),
            devices: devices(start, end, &mut notes),
            driver_stats: driver_stats(start, end),
            protocols: protocols(start, end),
            time: time(start, end),
            online: end.kernel.online.clone(),
            hidden_cpus: hidden_cpus(start, end),
            freed_irqs,
            notes,
        }
    }
}

fn new_max(start: &Snapshot, end: &Snapshot) -> BTreeMap<u32, NewMax> {
    let rose = |cpu: &u32, after: &CpuCounters| {
        let before = start.traced.cpus.get(cpu);
        let of = |max: fn(&CpuCounters) -> u64| max(after) > before.map_or(0, |b| max(b));
        NewMax {
            hardirq: of(|c| c.hardirq_max_ns),
            net_rx_wait: of(|c| c.net_rx_wait_max_ns),
            net_rx_run: of(|c| c.net_rx_run_max_ns),
        }
    };
    let cpus = end.traced.cpus.iter();
    cpus.map(|(cpu, after)| (*cpu, rose(cpu, after))).collect()
}

fn hotplug(start: &Snapshot, end: &Snapshot, notes: &mut Vec<String>) {
    let (before, after) = (&start.kernel.online, &end.kernel.online);
    for cpu in after.iter().filter(|cpu| !before.contains(cpu)) {
        notes.push(format!(
            "CPU {cpu} came online in this window; the kernel's own counters for it have no begin and are left out"
        ));
    }
    for cpu in before.iter().filter(|cpu| !after.contains(cpu)) {
        notes.push(format!(
            "CPU {cpu} went offline in this window; the kernel no longer shows its counters"
        ));
    }
}

fn hidden_cpus(start: &Snapshot, end: &Snapshot) -> BTreeSet<u32> {
    let online = |snapshot: &Snapshot| snapshot.kernel.online.iter().copied().collect();
    let (before, after): (BTreeSet<u32>, BTreeSet<u32>) = (online(start), online(end));
    before.symmetric_difference(&after).copied().collect()
}

fn freed_irqs(start: &Snapshot, end: &Snapshot) -> BTreeMap<u32, String> {
    let after = &end.kernel.interrupts.device;
    let before = start.kernel.interrupts.device.iter();
    before
        .filter(|(irq, before)| after.get(irq).is_none_or(|after| is_reset(before, after)))
        .map(|(irq, before)| (*irq, before.name.clone()))
        .collect()
}

fn note_freed<'a>(freed: impl Iterator<Item = (&'a u32, &'a String)>, notes: &mut Vec<String>) {
    let freed: Vec<_> = freed
        .map(|(irq, name)| format!("{irq} {name}").trim_end().to_owned())
        .collect();
    if !freed.is_empty() {
        notes.push(format!(
            "interrupts that were freed in this window, the kernel has forgotten its counts of them: {}",
            freed.join(", ")
        ));
    }
}

/// Whether counts began anew. A wrap looks the same, but nothing interrupts half of 2³² times in a window.
fn is_reset(before: &Row, after: &Row) -> bool {
    after.counts.iter().any(|(cpu, after)| {
        let before = before.counts.get(cpu).copied().unwrap_or(0);
        after.wrapping_sub(before) > u32::MAX / 2
    })
}

fn cpu_delta(before: &CpuCounters, after: &CpuCounters) -> CpuCounters {
    let mut d = *after;
    macro_rules! subtract {
        ($($field:ident),+) => { $(d.$field = after.$field.wrapping_sub(before.$field);)+ };
    }
    subtract!(
        hardirqs,
        hardirq_ns,
        hardirq_untimed,
        net_rx_runs,
        net_rx_ns,
        net_rx_nested,
        ksoftirqd_runs,
        packets,
        budget_exhausted,
        time_exhausted,
        polls_outside,
        packets_outside,
        irq_table_full,
        napi_table_full,
        drop_table_full,
        unreadable
    );
    for (d, b) in d.softirqs.iter_mut().zip(&before.softirqs) {
        *d = SoftirqCounters {
            runs: d.runs.wrapping_sub(b.runs),
            ns: d.ns.wrapping_sub(b.ns),
        };
    }
    for (d, b) in d.details.iter_mut().zip(&before.details) {
        *d = DetailCounters {
            sent: d.sent.wrapping_sub(b.sent),
            ring_full: d.ring_full.wrapping_sub(b.ring_full),
        };
    }
    histogram(&mut d.hardirq_hist, &before.hardirq_hist);
    histogram(&mut d.net_rx_wait_hist, &before.net_rx_wait_hist);
    histogram(&mut d.net_rx_run_hist, &before.net_rx_run_hist);
    d
}

fn histogram(d: &mut [u64; BUCKETS], before: &[u64; BUCKETS]) {
    for (d, b) in d.iter_mut().zip(before) {
        *d = d.wrapping_sub(*b);
    }
}

fn irq_delta(before: IrqCounters, after: IrqCounters) -> IrqCounters {
    IrqCounters {
        count: after.count.wrapping_sub(before.count),
        ns: after.ns.wrapping_sub(before.ns),
        max_ns: if after.max_ns > before.max_ns {
            after.max_ns
        } else {
            0
        },
        ..after
    }
}

fn drop_delta(before: DropCounters, after: DropCounters) -> DropCounters {
    DropCounters {
        packets: after.packets.wrapping_sub(before.packets),
        bytes: after.bytes.wrapping_sub(before.bytes),
    }
}

/// Subtracts entry by entry; what `empty` says is nothing is left out.
fn nested<K: Ord + Copy, V: Copy + Default>(
    start: &BTreeMap<K, BTreeMap<u32, V>>,
    end: &BTreeMap<K, BTreeMap<u32, V>>,
    subtract: impl Fn(V, V) -> V,
    empty: impl Fn(&V) -> bool,
) -> BTreeMap<K, BTreeMap<u32, V>> {
    end.iter()
        .map(|(key, per_cpu)| {
            let before = start.get(key);
            let deltas = per_cpu
                .iter()
                .map(|(cpu, &after)| {
                    let before = before.and_then(|b| b.get(cpu)).copied();
                    (*cpu, subtract(before.unwrap_or_default(), after))
                })
                .filter(|(_, delta)| !empty(delta))
                .collect::<BTreeMap<_, _>>();
            (*key, deltas)
        })
        .filter(|(_, deltas)| !deltas.is_empty())
        .collect()
}

fn napi(start: &Snapshot, end: &Snapshot) -> BTreeMap<u32, Vec<NapiCounters>> {
    end.traced
        .napi
        .iter()
        .map(|(cpu, after)| {
            let before = start.traced.napi.get(cpu);
            let deltas = after
                .iter()
                .map(|after| {
                    let before =
                        before.and_then(|b| b.iter().find(|b| identity(b) == identity(after)));
                    before.map_or(*after, |before| NapiCounters {
                        polls: after.polls.wrapping_sub(before.polls),
                        packets: after.packets.wrapping_sub(before.packets),
                        full_budget: after.full_budget.wrapping_sub(before.full_budget),
                        ..*after
                    })
                })
                .filter(|delta| delta.polls != 0)
                .collect();
            (*cpu, deltas)
        })
        .collect()
}

/// What one slot counts. The address alone may become another device's, and the id is 0 for many.
fn identity(napi: &NapiCounters) -> (u64, u32, u32, u32) {
    (napi.napi, napi.napi_id, napi.netns, napi.ifindex)
}

fn hooks(start: &Snapshot, end: &Snapshot) -> Vec<Hook> {
    let since = |name: &str, value: Option<u64>, of: fn(&Hook) -> Option<u64>| {
        let before = start
            .traced
            .hooks
            .iter()
            .find(|h| h.name == name)
            .and_then(of);
        value.map(|v| v.saturating_sub(before.unwrap_or(0)))
    };
    let mut hooks = end.traced.hooks.clone();
    for hook in &mut hooks {
        hook.runs = since(&hook.name, hook.runs, |h| h.runs);
        hook.missed = since(&hook.name, hook.missed, |h| h.missed);
    }
    hooks
}

/// Difference of two u32 counters of the kernel, over a wrap too.
fn wrapping(before: u32, after: u32) -> u64 {
    u64::from(after.wrapping_sub(before))
}

/// Difference of two readings of a counter that goes with what counts it: the flow limit's is freed when
/// `net.core.flow_limit_cpu_bitmap` takes the CPU out, and begins at 0 when it puts it in again.
fn restarting(before: u32, after: u32) -> u64 {
    u64::from(after.checked_sub(before).unwrap_or(after))
}

fn softnet(start: &Snapshot, end: &Snapshot) -> BTreeMap<u32, Softnet> {
    let both = |before: &SoftnetRow, after: &SoftnetRow| Softnet {
        processed: wrapping(before.processed, after.processed),
        dropped: wrapping(before.dropped, after.dropped),
        time_squeeze: wrapping(before.time_squeeze, after.time_squeeze),
        received_rps: before
            .received_rps
            .zip(after.received_rps)
            .map(|(b, a)| wrapping(b, a)),
        flow_limit: before
            .flow_limit
            .zip(after.flow_limit)
            .map(|(b, a)| restarting(b, a)),
        backlog_len: after.backlog_len.map(u64::from),
    };
    end.kernel
        .softnet
        .iter()
        .filter_map(|(cpu, after)| {
            let before = start.kernel.softnet.get(cpu)?;
            Some((*cpu, both(before, after)))
        })
        .collect()
}

fn rows<K: Ord + Clone>(
    start: &BTreeMap<K, Row>,
    end: &BTreeMap<K, Row>,
    online_at_start: &[u32],
) -> BTreeMap<K, Counted> {
    // An interrupt that was requested in the window started at 0 on every CPU. Of a CPU that was offline nothing is
    // known: a row without handler is only shown where an online CPU has counted.
    let zero: BTreeMap<u32, u32> = online_at_start.iter().map(|&cpu| (cpu, 0)).collect();
    end.iter()
        .map(|(key, after)| {
            let before = start.get(key).filter(|before| !is_reset(before, after));
            let per_cpu = per_cpu(before.map_or(&zero, |b| &b.counts), &after.counts);
            let name = after.name.clone();
            (key.clone(), Counted { name, per_cpu })
        })
        .collect()
}

/// Differences by CPU, of CPUs in both.
fn per_cpu(before: &BTreeMap<u32, u32>, after: &BTreeMap<u32, u32>) -> BTreeMap<u32, u64> {
    after
        .iter()
        .filter_map(|(cpu, &after)| Some((*cpu, wrapping(*before.get(cpu)?, after))))
        .filter(|&(_, delta)| delta != 0)
        .collect()
}

fn softirqs(start: &Snapshot, end: &Snapshot) -> BTreeMap<String, BTreeMap<u32, u64>> {
    let before = &start.kernel.softirqs.runs;
    end.kernel
        .softirqs
        .runs
        .iter()
        .filter_map(|(name, after)| Some((name.clone(), per_cpu(before.get(name)?, after))))
        .collect()
}

fn devices(start: &Snapshot, end: &Snapshot, notes: &mut Vec<String>) -> Vec<NetDevice> {
    for (ifindex, gone) in &start.kernel.devices {
        if !end.kernel.devices.contains_key(ifindex) {
            notes.push(format!("device {} went away in this window", gone.name));
        }
    }
    let mut deltas = Vec::new();
    for (ifindex, after) in &end.kernel.devices {
        let Some(before) = start.kernel.devices.get(ifindex) else {
            // Made in the window: it began with 0.
            deltas.push(after.clone());
            continue;
        };
        if before.name != after.name {
            notes.push(format!(
                "device {} is now called {}",
                before.name, after.name
            ));
        }
        let mut reset = false;
        let mut since = |before: u64, after: u64| {
            reset |= after < before;
            after.checked_sub(before).unwrap_or(after)
        };
        deltas.push(NetDevice {
            rx_packets: since(before.rx_packets, after.rx_packets),
            rx_bytes: since(before.rx_bytes, after.rx_bytes),
            rx_dropped: since(before.rx_dropped, after.rx_dropped),
            rx_missed_errors: since(before.rx_missed_errors, after.rx_missed_errors),
            rx_errors: since(before.rx_errors, after.rx_errors),
            rx_nohandler: since(before.rx_nohandler, after.rx_nohandler),
            ..after.clone()
        });
        if reset {
            notes.push(format!(
                "the counters of {} were reset in this window; its row counts from the reset on",
                after.name
            ));
        }
    }
    deltas
}

/// What grew. A counter that is new was 0; one that fell was reset with the device.
fn grown(start: Option<&BTreeMap<String, u64>>, end: &BTreeMap<String, u64>) -> Protocols {
    let before = |name: &String| start.and_then(|s| s.get(name)).copied().unwrap_or(0);
    end.iter()
        .map(|(name, &after)| {
            let delta = after.checked_sub(before(name)).unwrap_or(after);
            (name.clone(), delta)
        })
        .filter(|(_, delta)| *delta != 0)
        .collect()
}

fn protocols(start: &Snapshot, end: &Snapshot) -> Protocols {
    grown(Some(&start.kernel.protocols), &end.kernel.protocols)
}

fn driver_stats(start: &Snapshot, end: &Snapshot) -> BTreeMap<u32, BTreeMap<String, u64>> {
    let before = &start.kernel.driver_stats;
    end.kernel
        .driver_stats
        .iter()
        .filter_map(|(ifindex, after)| {
            // A device made in the window began with 0; one whose begin was not read tells nothing.
            let made = !start.kernel.devices.contains_key(ifindex);
            let before = before.get(ifindex);
            (made || before.is_some()).then(|| (*ifindex, grown(before, after)))
        })
        .filter(|(_, grown)| !grown.is_empty())
        .collect()
}

/// Differences of ticks. Idle time may step back by a tick: then it is 0.
fn time(start: &Snapshot, end: &Snapshot) -> BTreeMap<u32, CpuTime> {
    let tick_ns = end.kernel.tick_ns;
    let between = |before: &CpuTicks, after: &CpuTicks| {
        let ns = |before: u64, after: u64| after.saturating_sub(before).saturating_mul(tick_ns);
        CpuTime {
            user_ns: ns(before.user, after.user),
            system_ns: ns(before.system, after.system),
            idle_ns: ns(before.idle, after.idle),
            irq_ns: ns(before.irq, after.irq),
            softirq_ns: ns(before.softirq, after.softirq),
            steal_ns: ns(before.steal, after.steal),
        }
    };
    let before = &start.kernel.time;
    let cpus = end.kernel.time.iter().filter(|_| tick_ns != 0);
    cpus.filter_map(|(cpu, after)| Some((*cpu, between(before.get(cpu)?, after))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softnet_row(processed: u32, dropped: u32) -> SoftnetRow {
        SoftnetRow {
            processed,
            dropped,
            ..SoftnetRow::default()
        }
    }

    #[test]
    fn a_counter_that_wraps_counts_across_the_wrap() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        start.kernel.softnet.insert(3, softnet_row(u32::MAX - 1, 5));
        end.kernel.softnet.insert(3, softnet_row(8, 5));
        let row = Window::between(&start, &end).softnet[&3];
        assert_eq!((row.processed, row.dropped), (10, 0));
    }

    #[test]
    fn a_cpu_that_came_online_has_no_kernel_counts_and_a_note() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        start.kernel.online = vec![0];
        end.kernel.online = vec![0, 7];
        end.kernel.softnet.insert(7, softnet_row(1000, 10));
        let window = Window::between(&start, &end);
        assert!(window.softnet.is_empty());
        assert!(
            window.notes[0].contains("CPU 7 came online"),
            "{:?}",
            window.notes
        );
    }

    #[test]
    fn an_interrupt_requested_in_the_window_counts_from_zero() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        start.kernel.online = vec![0, 1];
        let row = Row {
            name: "eth0-rx-0".to_owned(),
            counts: BTreeMap::from([(0, 4), (1, 0)]),
        };
        end.kernel.interrupts.device.insert(50, row);
        let window = Window::between(&start, &end);
        assert_eq!(window.interrupts[&50].per_cpu, BTreeMap::from([(0, 4)]));
    }

    #[test]
    fn a_row_that_only_the_return_of_its_cpu_shows_again_has_counted_nothing() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        start.kernel.online = vec![0];
        end.kernel.online = vec![0, 3];
        let row = Row {
            name: String::new(),
            counts: BTreeMap::from([(0, 0), (3, 43)]),
        };
        end.kernel.interrupts.device.insert(27, row);
        assert_eq!(Window::between(&start, &end).interrupts[&27].total(), 0);
    }

    #[test]
    fn an_interrupt_that_was_freed_is_named_and_one_given_out_again_counts_from_zero() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        let row = |count| Row {
            name: "eth0-rx-0".to_owned(),
            counts: BTreeMap::from([(0, count)]),
        };
        let traced = |count| {
            let counters = IrqCounters {
                count,
                ..IrqCounters::default()
            };
            BTreeMap::from([(0, counters)])
        };
        start.kernel.online = vec![0];
        end.kernel.online = vec![0];
        for irq in [50, 51, 52] {
            start.kernel.interrupts.device.insert(irq, row(900));
            start.traced.irqs.insert(irq, traced(900));
            end.traced.irqs.insert(irq, traced(904));
        }
        end.kernel.interrupts.device.insert(51, row(4));
        end.kernel.interrupts.device.insert(52, row(904));
        let window = Window::between(&start, &end);
        assert!(window.freed_irqs.keys().eq([&50, &51]));
        assert_eq!(window.interrupts[&51].total(), 4);
        assert_eq!(window.interrupts[&52].total(), 4);
        let [note] = window.notes.as_slice() else {
            panic!("{:?}", window.notes);
        };
        assert!(note.ends_with("50 eth0-rx-0, 51 eth0-rx-0"), "{note}");
    }

    #[test]
    fn a_cpu_online_at_one_end_only_is_hidden() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        start.kernel.online = vec![0, 1, 2];
        end.kernel.online = vec![0, 2, 3];
        assert!(Window::between(&start, &end).hidden_cpus.iter().eq(&[1, 3]));
    }

    #[test]
    fn a_renamed_device_keeps_its_counts() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        let device = |name: &str, rx_dropped| NetDevice {
            name: name.to_owned(),
            ifindex: 4,
            rx_dropped,
            ..NetDevice::default()
        };
        start.kernel.devices.insert(4, device("eth0", 10));
        end.kernel.devices.insert(4, device("wan", 13));
        let window = Window::between(&start, &end);
        assert_eq!(
            (
                window.devices[0].name.as_str(),
                window.devices[0].rx_dropped
            ),
            ("wan", 3)
        );
        assert_eq!(window.notes, ["device eth0 is now called wan"]);
    }

    #[test]
    fn a_device_whose_counters_were_reset_is_said_so() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        let device = |rx_packets| NetDevice {
            name: "eth0".to_owned(),
            rx_packets,
            ..NetDevice::default()
        };
        start.kernel.devices.insert(2, device(100));
        end.kernel.devices.insert(2, device(7));
        let window = Window::between(&start, &end);
        assert_eq!(window.devices[0].rx_packets, 7);
        assert!(window.notes[0].contains("reset"), "{:?}", window.notes);
    }

    #[test]
    fn a_flow_limit_that_was_switched_off_refused_nothing_since() {
        let row = |flow_limit| SoftnetRow {
            flow_limit: Some(flow_limit),
            ..SoftnetRow::default()
        };
        let limited = |before, after| {
            let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
            start.kernel.softnet.insert(1, row(before));
            end.kernel.softnet.insert(1, row(after));
            Window::between(&start, &end).softnet[&1].flow_limit
        };
        assert_eq!(limited(5, 12), Some(7));
        assert_eq!(limited(5, 0), Some(0));
        assert_eq!(limited(5, 3), Some(3));
    }

    #[test]
    fn drops_of_one_key_are_subtracted_per_cpu() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        let key = DropKey::default();
        let drops = |packets| DropCounters {
            packets,
            bytes: packets * 10,
        };
        start
            .traced
            .drops
            .insert(key, BTreeMap::from([(0, drops(5))]));
        end.traced
            .drops
            .insert(key, BTreeMap::from([(0, drops(5)), (1, drops(2))]));
        let window = Window::between(&start, &end);
        assert_eq!(window.drops[&key], BTreeMap::from([(1, drops(2))]));
    }

    #[test]
    fn a_napi_instance_whose_device_moved_counts_for_each_namespace_apart() {
        let slot = |netns, ifindex, packets| NapiCounters {
            napi: 0xffff_8880_0000_1000,
            netns,
            ifindex,
            polls: packets,
            packets,
            ..NapiCounters::default()
        };
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        start.traced.napi = [(0, vec![slot(1, 4, 100)])].into();
        // Moved, then its memory became another device's.
        let slots = vec![slot(1, 4, 103), slot(2, 4, 20), slot(2, 9, 7)];
        end.traced.napi = [(0, slots)].into();
        let window = Window::between(&start, &end);
        let rows = window.napi[&0].iter();
        let rows: Vec<_> = rows.map(|n| (n.netns, n.ifindex, n.packets)).collect();
        assert_eq!(rows, [(1, 4, 3), (2, 4, 20), (2, 9, 7)]);
    }

    #[test]
    fn only_protocol_counters_that_changed_are_kept() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        let counters = |pairs: &[(&str, u64)]| {
            let pairs = pairs.iter().map(|(name, n)| ((*name).to_owned(), *n));
            pairs.collect::<Protocols>()
        };
        start.kernel.protocols = counters(&[("Udp.NoPorts", 5), ("Udp.InErrors", 9)]);
        end.kernel.protocols = counters(&[
            ("Udp.NoPorts", 7),
            ("Udp.InErrors", 9),
            ("IcmpMsg.InType3", 2),
        ]);
        assert_eq!(
            Window::between(&start, &end).protocols,
            counters(&[("IcmpMsg.InType3", 2), ("Udp.NoPorts", 2)])
        );
    }

    #[test]
    fn idle_time_that_steps_back_is_none() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        let ticks = |user, idle| CpuTicks {
            user,
            idle,
            ..CpuTicks::default()
        };
        end.kernel.tick_ns = 10_000_000;
        start.kernel.time = [(0, ticks(100, 51)), (1, ticks(0, 0))].into();
        end.kernel.time = [(0, ticks(103, 50)), (2, ticks(9, 9))].into();
        let time = Window::between(&start, &end).time;
        assert_eq!(time.keys().collect::<Vec<_>>(), [&0]);
        assert_eq!((time[&0].user_ns, time[&0].idle_ns), (30_000_000, 0));
    }

    #[test]
    fn driver_counters_that_were_not_read_at_the_begin_are_left_out() {
        let (mut start, mut end) = (Snapshot::default(), Snapshot::default());
        let counters = |n| BTreeMap::from([("rx_drops".to_owned(), n), ("idle".to_owned(), 0)]);
        let device = |ifindex| NetDevice {
            ifindex,
            ..NetDevice::default()
        };
        start.kernel.devices = [(2, device(2)), (3, device(3))].into();
        start.kernel.driver_stats = [(2, counters(5))].into();
        end.kernel.driver_stats = [(2, counters(9)), (3, counters(7)), (4, counters(1))].into();
        let stats = Window::between(&start, &end).driver_stats;
        let drops = |n| BTreeMap::from([("rx_drops".to_owned(), n)]);
        assert_eq!(stats, [(2, drops(4)), (4, drops(1))].into());
    }
}
