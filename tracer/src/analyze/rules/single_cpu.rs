//! Rule 4: one CPU does nearly all of `NET_RX` and has no room left.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    case::{Case, share},
    found::{Found, NOTHING, Verdict, With as _, step},
    plan::{Plan, placed, plan, rank},
    threshold::Key,
};
use crate::{
    model::{finding::Severity, report::Cpu, setting::Setting, topology::Nic},
    report::number::{count, duration, of, percent},
};

pub(super) const ID: &str = "single-cpu";

/// Devices that advice is given for.
const DEVICES: usize = 2;

pub(super) fn judge(case: Case<'_>) -> Verdict {
    let times: Vec<(&Cpu, u64)> = case
        .report
        .cpus
        .iter()
        .filter_map(|cpu| Some((cpu, cpu.net_rx_ns?)))
        .collect();
    let total = times
        .iter()
        .fold(0, |sum: u64, (_, ns)| sum.saturating_add(*ns));
    let Some((cpu, ns)) = times.iter().copied().max_by_key(|(_, ns)| *ns) else {
        return Err("the time of NET_RX: neither net_rx_action nor softirq_entry and softirq_exit is hooked".to_owned());
    };
    let online = case.report.cpus.iter().filter(|cpu| cpu.online).count();
    if online < 2 || share(ns, total) < case.limit(Key::NetRxShare) {
        return NOTHING;
    }
    let funnels = funnels(case, cpu.cpu);
    let refused = Refused::of(case, cpu);
    let severity = if case.is_saturated(cpu) {
        let mut devices = case.report.devices.iter();
        let missed = devices.any(|device| device.rx_missed > 0);
        if refused.packets > 0 || missed {
            Severity::Critical
        } else {
            Severity::Warning
        }
    } else {
        // A CPU that loses packets at less than full load has bursts; that everything was pointed at it is still the cause.
        let set_up = funnels.iter().any(Funnel::is_set_up);
        match refused.severity(case, cpu).filter(|_| set_up) {
            Some(severity) => severity,
            None => return NOTHING,
        }
    };
    let mut found = Found::new(ID, severity, summary(case, cpu, ns, total, &funnels))
        .on([cpu.cpu])
        .evidence(
            format!("NET_RX time on CPU {}", cpu.cpu),
            format!(
                "{} of {} on all CPUs",
                duration(ns, true),
                duration(total, true)
            ),
            "net_rx_action or softirq_entry/exit",
        );
    if let Some(busy) = case.softirq_busy(cpu) {
        found = found.evidence(
            format!("CPU {} in softirqs", cpu.cpu),
            format!("{busy} % of the time"),
            "softirq_entry/exit, /proc/stat",
        );
    }
    found = refused.testify(found, cpu.cpu);
    for funnel in &funnels {
        found = funnel.testify(found);
    }
    for funnel in &funnels {
        found = funnel.advise(case, found);
    }
    if funnels.is_empty() {
        found = found.advice([step(
            "See which device's packets this CPU handles (table NAPI) and spread its queues",
            "no vector and no RPS mask of a device here points to this CPU alone",
        )]);
    }
    if case.is_saturated(cpu) {
        found = found.useless(
            "a larger netdev_max_backlog or ring: they hold bursts, and this is one CPU at its limit",
        );
    }
    found.alone()
}

fn summary(case: Case<'_>, cpu: &Cpu, ns: u64, total: u64, funnels: &[Funnel<'_>]) -> String {
    let busy = case
        .softirq_busy(cpu)
        .map(|busy| format!(" and was {busy} % busy with softirqs"))
        .unwrap_or_default();
    let mut words = format!(
        "CPU {} took {} of NET_RX time{busy}",
        cpu.cpu,
        percent(ns, total)
    );
    let why: Vec<String> = funnels.iter().filter_map(Funnel::words).collect();
    if !why.is_empty() {
        words = format!("{words}: {}", why.join("; "));
    }
    words
}

/// What the backlog of the CPU refused.
#[derive(Clone, Copy)]
struct Refused {
    packets: u64,
    /// Those that came there, refused ones included; `None`: not known.
    offered: Option<u64>,
}

impl Refused {
    fn of(case: Case<'_>, cpu: &Cpu) -> Self {
        let packets = case.refused().get(&cpu.cpu).copied().unwrap_or(0);
        let offered = cpu.softnet.map(|row| row.processed.saturating_add(packets));
        Self { packets, offered }
    }

    fn per_million(self) -> Option<u64> {
        let offered = self.offered.filter(|offered| *offered > 0)?;
        let rate = u128::from(self.packets) * 1_000_000 / u128::from(offered);
        u64::try_from(rate).ok()
    }

    /// What it says about a CPU with time left; `None`: too few for that, `backlog-overflow` tells of them alone.
    fn severity(self, case: Case<'_>, cpu: &Cpu) -> Option<Severity> {
        if self.packets < case.limit(Key::RefusedFloor).max(1) {
            return None;
        }
        let is_idle = case
            .softirq_busy(cpu)
            .is_some_and(|busy| busy < case.limit(Key::NearlyIdle));
        let rate = case.limit(Key::RefusedRate);
        let few = if is_idle {
            rate.saturating_mul(10)
        } else {
            rate
        };
        match self.per_million() {
            Some(refused) if refused < few => None,
            Some(refused) if refused >= few.saturating_mul(10) => Some(Severity::Critical),
            _ => Some(Severity::Warning),
        }
    }

    fn testify(self, found: Found, cpu: u32) -> Found {
        if self.packets == 0 {
            return found;
        }
        let rate = self
            .per_million()
            .map(|rate| format!(", {} per million", count(rate)));
        found.evidence(
            format!("refused by the backlog of CPU {cpu}"),
            format!("{}{}", of(self.packets, "packet"), rate.unwrap_or_default()),
            "/proc/net/softnet_stat, columns 1 and 2",
        )
    }
}

/// What of one device points to the CPU.
struct Funnel<'a> {
    device: &'a str,
    cpu: u32,
    nic: Option<&'a Nic>,
    /// Vectors that are delivered to this CPU alone, of how many.
    here: usize,
    vectors: usize,
    /// Queues that these vectors are of: one may have a vector to receive and one to transmit.
    queues_here: usize,
    /// Receive queues with vectors, of the device.
    queues: usize,
    /// Receive queues whose RPS mask is this CPU alone, of how many.
    rps_here: usize,
    rx_queues: usize,
    /// Percent of the device's packets that this CPU polled.
    polled: Option<u64>,
}

/// The devices that bring packets to `cpu`, those with most packets first.
fn funnels<'a>(case: Case<'a>, cpu: u32) -> Vec<Funnel<'a>> {
    let mut funnels: Vec<(u64, Funnel<'a>)> = Vec::new();
    for device in case.devices() {
        let received = case.received(device);
        let vectors = case.vectors(device);
        let here = vectors.iter().filter(|(_, v)| placed(v) == [cpu]);
        let here: Vec<u32> = here.map(|(irq, _)| *irq).collect();
        let rank = rank(&vectors);
        let queues_here: BTreeSet<_> = here.iter().map(|irq| rank[irq]).collect();
        let here = here.len();
        let nic = case.host.devices.get(device);
        let rx = nic.map(|nic| &nic.rx_queues);
        let rps_here = rx.map_or(0, |rx| rx.values().filter(|q| q.rps_cpus == [cpu]).count());
        let polled = case.polled_by_cpu(device);
        let all = polled.values().copied().fold(0, u64::saturating_add);
        let mine = polled.get(&cpu).copied().unwrap_or(0);
        let queues: BTreeSet<_> = vectors.iter().filter_map(|(_, v)| v.queue).collect();
        let active = received > 0
            || case.report.irqs.iter().any(|irq| {
                irq.device.as_deref() == Some(device)
                    && irq.per_cpu.get(&cpu).is_some_and(|n| *n > 0)
            });
        if active && (here > 0 || rps_here > 0) {
            let funnel = Funnel {
                device,
                cpu,
                nic,
                here,
                vectors: vectors.len(),
                queues_here: queues_here.len(),
                queues: queues.len().max(1),
                rps_here,
                rx_queues: rx.map_or(0, BTreeMap::len),
                polled: (all > 0).then(|| share(mine, all)),
            };
            funnels.push((received, funnel));
        }
    }
    funnels.sort_by_key(|(received, _)| std::cmp::Reverse(*received));
    let funnels = funnels.into_iter().map(|(_, funnel)| funnel);
    funnels.take(DEVICES).collect()
}

impl Funnel<'_> {
    /// Somebody, or a default, pointed all of the device at one CPU.
    fn is_set_up(&self) -> bool {
        self.here >= 2 && self.here == self.vectors
            || self.rps_here > 0 && self.rps_here == self.rx_queues
    }

    fn words(&self) -> Option<String> {
        let device = self.device;
        let vectors = (self.here > 0).then(|| {
            format!(
                "{} of {} of {device}",
                self.here,
                of(self.vectors as u64, "vector")
            )
        });
        let rps = (self.rps_here > 0).then(|| {
            format!(
                "{} of {}",
                self.rps_here,
                of(self.rx_queues as u64, "RPS mask")
            )
        });
        match (vectors, rps) {
            (Some(vectors), Some(rps)) => Some(format!("{vectors} and {rps} point to it")),
            (Some(vectors), None) => {
                let go = if self.here == 1 { "goes" } else { "go" };
                Some(format!("{vectors} {go} there"))
            }
            (None, Some(rps)) => {
                let point = if self.rps_here == 1 {
                    "points"
                } else {
                    "point"
                };
                Some(format!("{rps} of {device} {point} to it"))
            }
            (None, None) => None,
        }
    }

    fn testify(&self, mut found: Found) -> Found {
        let (device, cpu) = (self.device, self.cpu);
        if self.vectors > 0 {
            found = found.evidence(
                format!("vectors of {device} on CPU {cpu} alone"),
                format!("{} of {}", self.here, self.vectors),
                "/proc/irq/*/effective_affinity_list",
            );
        }
        if self.rps_here > 0 {
            found = found.evidence(
                format!("RPS masks of {device} with CPU {cpu} alone"),
                format!("{} of {}", self.rps_here, self.rx_queues),
                format!("/sys/class/net/{device}/queues/rx-*/rps_cpus"),
            );
        }
        if let Some(polled) = self.polled {
            found = found.evidence(
                format!("packets of {device} polled on CPU {cpu}"),
                format!("{polled} %"),
                "napi_poll",
            );
        }
        found
    }

    fn advise(&self, case: Case<'_>, found: Found) -> Found {
        let device = self.device;
        let Some(plan) = plan(case, device) else {
            return self.virtual_device(case, found);
        };
        let cpus = case.online().len();
        // Vectors elsewhere carry the rest; this CPU is full with one of them.
        if self.queues_here == 1 && self.queues > 1 && self.rps_here == 0 {
            let words = format!(
                "one of {} queues of {device} brings this load: one flow, or flows that hash alike; neither RSS nor RPS \
                 can split one flow",
                self.queues
            );
            let advice = step(
                format!("See whether it is one flow: ethtool -S {device} by queue, and who sends"),
                "many flows that hash alike can be spread by another hash or indirection table; one flow only by its sender",
            )
            .command(format!("ethtool -x {}", super::command::quote(device)));
            let found = found.advice([advice]).useless(words);
            return if self.queues >= cpus {
                found.useless("RPS: there are as many queues as CPUs, it would only steer again")
            } else {
                found.advice(plan.steer(case))
            };
        }
        let found = found.advice(plan.spread());
        let found = found.advice(self.more_queues(&plan));
        let found = found.advice(plan.steer(case));
        found.useless("any of this, if it is one flow: neither RSS nor RPS can split one")
    }

    /// The device could have more queues than it has.
    fn more_queues(&self, plan: &Plan) -> Option<crate::model::finding::Advice> {
        let channels = self.nic?.channels?;
        let kind = self.nic?.channel_word();
        let cores = u32::try_from(plan.irq_cpus.len() + plan.rest.len()).ok()?;
        let most = channels.max?.min(cores);
        if self.queues > 1 || most <= channels.now.max(1) {
            return None;
        }
        let device = super::command::quote(self.device);
        let advice = step(
            format!("Give {} {} queues", self.device, count(u64::from(most))),
            format!(
                "it has {} and takes up to {}; RSS then spreads flows",
                channels.now,
                count(u64::from(channels.max?))
            ),
        );
        Some(
            advice
                .command(format!("ethtool -L {device} {kind} {most}"))
                .undo(format!("ethtool -L {device} {kind} {}", channels.now))
                .risk("resets the device: a moment without packets")
                .sets([(
                    Setting::Channels {
                        device: self.device.to_owned(),
                    },
                    most.to_string(),
                )]),
        )
    }

    fn virtual_device(&self, case: Case<'_>, found: Found) -> Found {
        let targets = super::backlog::targets(case, Some(self.device), &[self.cpu]);
        if targets.is_empty() {
            return found;
        }
        let why = format!("its RPS masks name CPU {} alone", self.cpu);
        found.advice(super::plan::widen(case, self.device, &targets, &why))
    }
}
