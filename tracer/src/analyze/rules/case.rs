//! What a rule may look at, and look-ups that several rules share.

use std::collections::{BTreeMap, BTreeSet};

use super::threshold::{Key, Thresholds};
use crate::{
    analyze::missed,
    model::{
        finding::Severity,
        report::{Cpu, Drop, Napi, PerCpu, Report},
        topology::{Topology, Vector},
    },
};

/// What a rule may look at.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The window's numbers.
    pub report: &'a Report,
    /// How the host is set up.
    pub host: &'a Topology,
    /// From where on something is a finding.
    pub thresholds: &'a Thresholds,
    /// Processes, by id, that shall have CPUs of their own whether they suffer or not (`tune plan --app`).
    pub apps: &'a [u32],
}

impl<'a> Case<'a> {
    pub(super) fn limit(self, key: Key) -> u64 {
        self.thresholds.get(key)
    }

    pub(super) fn cpu(self, id: u32) -> Option<&'a Cpu> {
        self.report.cpus.iter().find(|cpu| cpu.cpu == id)
    }

    /// CPUs that are online by the host's set-up and that the report did not see go.
    pub(crate) fn online(self) -> BTreeSet<u32> {
        let gone: BTreeSet<u32> = self
            .report
            .cpus
            .iter()
            .filter(|cpu| !cpu.online)
            .map(|cpu| cpu.cpu)
            .collect();
        let online = self.host.cpus.iter().filter(|(_, place)| place.online);
        online
            .map(|(cpu, _)| *cpu)
            .filter(|cpu| !gone.contains(cpu))
            .collect()
    }

    pub(super) fn node_of(self, cpu: u32) -> Option<u32> {
        let place = self.host.cpus.get(&cpu).and_then(|place| place.node);
        place.or_else(|| self.cpu(cpu)?.node)
    }

    /// Percent of the time this CPU had (what the hypervisor took is not its own) that softirqs used.
    pub(super) fn softirq_busy(self, cpu: &Cpu) -> Option<u64> {
        let stolen = cpu.time.map_or(0, |time| time.steal_ns);
        let had = self.report.duration_ns.saturating_sub(stolen);
        softirq_ns(cpu).map(|ns| share(ns, had).min(100))
    }

    /// Percent of its `NET_RX` runs that ran in ksoftirqd; 0 where that is not known.
    #[expect(clippy::unused_self, reason = "asked like the other look-ups")]
    pub(super) fn ksoftirqd_share(self, cpu: &Cpu) -> u64 {
        let runs = cpu.net_rx_runs.unwrap_or(0);
        share(cpu.ksoftirqd_runs.unwrap_or(0), runs)
    }

    /// Percent of the window this CPU was idle.
    #[expect(clippy::unused_self, reason = "asked like the other look-ups")]
    pub(super) fn idle(self, cpu: &Cpu) -> Option<u64> {
        let time = cpu.time?;
        let all = [
            time.user_ns,
            time.system_ns,
            time.idle_ns,
            time.irq_ns,
            time.softirq_ns,
            time.steal_ns,
        ];
        let all = all.into_iter().fold(0, u64::saturating_add);
        (all > 0).then(|| share(time.idle_ns, all))
    }

    /// Whether `NET_RX` waited too long for this CPU: more than now and then, or once for a good part of the window.
    pub(super) fn is_late(self, cpu: &Cpu) -> bool {
        let Some(wait) = cpu.net_rx_wait_ns else {
            return false;
        };
        let often = cpu
            .net_rx_runs
            .is_some_and(|runs| runs >= self.limit(Key::WaitRuns));
        let long = share(wait.max, self.report.duration_ns) >= self.limit(Key::WaitMax);
        wait.p99 / 1_000 >= self.limit(Key::WaitP99) && (often || long)
    }

    /// Whether tasks take the time that polling needs: `in_tasks` percent of it run in a task themselves, on a CPU without
    /// time to spare. Other softirqs run before any task.
    pub(super) fn competes(self, cpu: &Cpu, in_tasks: u64) -> bool {
        in_tasks >= self.limit(Key::KsoftirqdShare)
            && self
                .idle(cpu)
                .is_some_and(|idle| idle < self.limit(Key::CpuIdle))
    }

    /// Whether this CPU had time to poll more; `None` where that is not known.
    pub(super) fn had_time(self, cpu: &Cpu) -> Option<bool> {
        let in_tasks = self.ksoftirqd_share(cpu).max(outside_share(cpu));
        if self.is_saturated(cpu) || self.competes(cpu, in_tasks) {
            return Some(false);
        }
        // Where that is known, the time in softirqs is.
        (self.idle(cpu)? >= self.limit(Key::CpuIdle)).then_some(true)
    }

    /// Whether softirqs leave this CPU no room.
    pub(super) fn is_saturated(self, cpu: &Cpu) -> bool {
        self.softirq_busy(cpu)
            .is_some_and(|busy| busy >= self.limit(Key::SoftirqBusy))
    }

    pub(super) fn sysctl(self, name: &str) -> Option<u64> {
        self.host.sysctls.get(name)?.trim().parse().ok()
    }

    /// The vectors of `device` that carry packets: those with a queue, or all if none has one.
    pub(super) fn vectors(self, device: &str) -> Vec<(u32, &'a Vector)> {
        let ours = self.host.irqs.iter();
        let mut ours: Vec<_> = ours
            .filter(|(_, vector)| vector.device.as_deref() == Some(device))
            .map(|(irq, vector)| (*irq, vector))
            .collect();
        if ours.iter().any(|(_, vector)| vector.queue.is_some()) {
            ours.retain(|(_, vector)| vector.queue.is_some());
        }
        ours
    }

    /// Devices with interrupts or queues, by name.
    pub(crate) fn devices(self) -> BTreeSet<&'a str> {
        let nics = self.host.devices.keys().map(String::as_str);
        let vectors = self.host.irqs.values();
        nics.chain(vectors.filter_map(|vector| vector.device.as_deref()))
            .collect()
    }

    /// Packets that `device` received, by the best source there is.
    pub(crate) fn received(self, device: &str) -> u64 {
        let counted = self.report.devices.iter().filter(|d| d.name == device);
        let counted = counted.map(|d| d.rx_packets).max().unwrap_or(0);
        let polled = self.polled_by_cpu(device).into_values();
        counted.max(polled.fold(0, u64::saturating_add))
    }

    /// Packets polled from `device`, by CPU.
    pub(super) fn polled_by_cpu(self, device: &str) -> BTreeMap<u32, u64> {
        let mut polled = BTreeMap::new();
        for napi in self.napi(device) {
            for (cpu, packets) in &napi.per_cpu {
                let sum: &mut u64 = polled.entry(*cpu).or_default();
                *sum = sum.saturating_add(*packets);
            }
        }
        polled
    }

    /// NAPI instances of `device`, which is one of tracer's namespace.
    pub(super) fn napi(self, device: &str) -> impl Iterator<Item = &'a Napi> {
        let all = self.report.napi.iter();
        all.filter(move |napi| napi.device == device && napi.netns.is_none())
    }

    /// Harmful drops that `is` picks: their packets, and the drops, most packets first.
    pub(super) fn lost(self, is: impl Fn(&Drop) -> bool) -> (u64, Vec<&'a Drop>) {
        let drops = self.report.drops.iter();
        let mut drops: Vec<_> = drops
            .filter(|drop| !drop.benign && drop.packets > 0 && is(drop))
            .collect();
        drops.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
        let packets = drops.iter().map(|drop| drop.packets);
        (packets.fold(0, u64::saturating_add), drops)
    }

    /// How bad it is that this cause lost `packets`.
    pub(super) fn loss(self, packets: u64) -> Severity {
        let (dropped, _) = self.lost(|_| true);
        let all = dropped.saturating_add(missed::packets(self.report));
        if share(packets, all.max(packets)) >= self.limit(Key::MainLoss) {
            Severity::Critical
        } else {
            Severity::Warning
        }
    }

    /// Packets that the backlog of each CPU refused: the kernel's row, else what was traced.
    pub(super) fn refused(self) -> BTreeMap<u32, u64> {
        let rows = self.report.cpus.iter();
        let mut refused: BTreeMap<u32, u64> = rows
            .filter_map(|cpu| Some((cpu.cpu, cpu.softnet?.dropped)))
            .collect();
        for (cpu, packets) in self.down() {
            if let Some(sum) = refused.get_mut(&cpu) {
                *sum = sum.saturating_sub(packets);
            }
        }
        let (_, drops) = self.lost(is_full_backlog);
        for (cpu, packets) in drops
            .iter()
            .filter_map(|d| d.per_target_cpu.as_ref())
            .flatten()
        {
            if self.cpu(*cpu).is_none_or(|cpu| cpu.softnet.is_none()) {
                let sum = refused.entry(*cpu).or_default();
                *sum = sum.saturating_add(*packets);
            }
        }
        refused.retain(|_, packets| *packets > 0);
        refused
    }

    /// Packets by CPU that its backlog did not take because their device was going down, as far as drop reasons tell. The
    /// kernel counts them as refused before 6.12; since then they have a reason of their own (`DEV_READY`).
    fn down(self) -> PerCpu {
        let mut down = PerCpu::new();
        // 5.17 has reasons, but none for a full backlog.
        if self.before(5, 18) {
            return down;
        }
        let drops = self.report.drops.iter();
        let drops = drops
            .filter(|drop| drop.site == BACKLOG && drop.reason.as_deref() == Some("NOT_SPECIFIED"));
        // Without a target: `netif_rx` queues on its own CPU.
        for (cpu, packets) in
            drops.flat_map(|drop| drop.per_target_cpu.as_ref().unwrap_or(&drop.per_cpu))
        {
            let sum = down.entry(*cpu).or_default();
            *sum = sum.saturating_add(*packets);
        }
        down
    }

    /// Whether some of [`Self::refused`] may be packets of a device that was going down.
    pub(super) fn may_be_down(self) -> bool {
        let is_told = self.report.drop_totals.packets.is_some() && !self.before(5, 18);
        self.before(6, 12) && !is_told
    }

    /// Whether the kernel is older than this; not if its release is not understood.
    fn before(self, major: u32, minor: u32) -> bool {
        let mut numbers = self.report.host.kernel.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse::<u32>().ok();
        number()
            .zip(number())
            .is_some_and(|kernel| kernel < (major, minor))
    }

    /// Events a second.
    pub(super) fn rate(self, events: u64) -> u64 {
        let per_s = u128::from(events) * 1_000_000_000 / u128::from(self.report.duration_ns.max(1));
        u64::try_from(per_s).unwrap_or(u64::MAX)
    }
}

/// The function that puts packets into a backlog.
const BACKLOG: &str = "enqueue_to_backlog";

pub(super) fn is_full_backlog(drop: &Drop) -> bool {
    drop.reason.as_deref() == Some("CPU_BACKLOG") || drop.reason.is_none() && drop.site == BACKLOG
}

/// Time of all softirqs, traced or by the kernel's account, whichever saw more.
pub(super) fn softirq_ns(cpu: &Cpu) -> Option<u64> {
    let vectors = cpu.softirqs.values().filter_map(|softirq| softirq.ns);
    let sources = [
        vectors.reduce(u64::saturating_add),
        cpu.net_rx_ns,
        cpu.time.map(|time| time.softirq_ns),
    ];
    sources.into_iter().flatten().max()
}

/// Percent of the packets polled on this CPU that were polled outside `NET_RX`, by tasks; 0 where that is not known.
fn outside_share(cpu: &Cpu) -> u64 {
    let outside = cpu.packets_outside_net_rx.unwrap_or(0);
    share(outside, cpu.packets.unwrap_or(0).saturating_add(outside))
}

/// `part` in percent of `whole`; 0 if `whole` is.
pub(super) fn share(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// Twice the value of a sysctl, if the kernel's `int` takes it.
pub(super) fn doubled(now: u64) -> Option<u64> {
    let then = now.checked_mul(2)?;
    i32::try_from(then).is_ok().then_some(then)
}
