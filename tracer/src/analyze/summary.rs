//! A window and the names for it to the [`Report`].

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::{
    counter::{CpuCounters, NET_RX, NO_CPU, SOFTIRQ_NAMES},
    event::Kind,
};

use super::{
    answer::answer,
    benign::is_benign,
    details::Collected,
    names::{Names, Site, protocol},
    percentiles::percentiles,
    reconcile::{self, Evidence, skew_bound},
};
use crate::{
    model::{
        report::{
            ArchIrq, Cpu, DetailCoverage, Device, Drop, DropTotals, HandlerTime, Host, Irq, Losses,
            Napi, PerCpu, Reconciliation, Report, SCHEMA, Softirq,
        },
        window::{NewMax, Window},
    },
    proc::netdev::DeviceFacts,
    topology::irq::IrqFacts,
};

/// What is known about the host beside its counters.
pub struct Facts {
    /// For [`Report::host`].
    pub host: Host,
    /// NUMA node by CPU id.
    pub node_of: BTreeMap<u32, u32>,
    /// Names of sites, reasons, devices, namespaces.
    pub names: Names,
    /// Interrupts by number.
    pub irqs: BTreeMap<u32, IrqFacts>,
    /// Devices by name.
    pub devices: BTreeMap<String, DeviceFacts>,
    /// Interface indices that the report is restricted to, in tracer's namespace; empty: all.
    pub interfaces: BTreeMap<u32, String>,
    /// Kinds of detail asked for.
    pub kinds: Vec<Kind>,
    /// Whether `netdev_budget` and `netdev_budget_usecs` could be read.
    pub budget_known: bool,
    /// Notes on the whole run.
    pub notes: Vec<String>,
}

impl Facts {
    /// Namespace 0 is an unknown one: the packet may well have been on that device.
    fn shows(&self, netns: u32, ifindex: u32) -> bool {
        self.interfaces.is_empty()
            || (self.interfaces.contains_key(&ifindex)
                && (netns == self.names.own_netns || netns == 0))
    }

    /// A device that was renamed is shown by either name.
    fn shows_name(&self, device: Option<&str>) -> bool {
        let is = |ifindex: &u32, shown: &str, device: &str| {
            let now = self.names.devices.get(&(self.names.own_netns, *ifindex));
            shown == device || now.is_some_and(|now| now == device)
        };
        self.interfaces.is_empty()
            || device.is_some_and(|device| {
                let mut interfaces = self.interfaces.iter();
                interfaces.any(|(ifindex, shown)| is(ifindex, shown, device))
            })
    }

    /// Namespaces that are gone, if anything was counted there.
    fn gone_netns<'a>(&'a self, window: &'a Window) -> impl Iterator<Item = String> + 'a {
        let counted = |inode: u32| {
            let mut napi = window.napi.values().flatten();
            napi.any(|napi| napi.netns == inode)
                || window.drops.keys().any(|key| key.netns == inode)
        };
        let gone = self.names.gone_netns.iter();
        gone.filter(move |(inode, _)| counted(**inode))
            .map(|(_, name)| {
                format!("network namespace {name} went away; its counts are those of before")
            })
    }
}

/// The report on `window`. `collected` are the details of the whole run, for the summary.
#[must_use]
pub fn summarize(window: &Window, facts: &Facts, collected: Option<&Collected>) -> Report {
    let hooks = Hooks::of(window);
    let drops = drops(window, facts);
    let mut report = Report {
        schema: SCHEMA,
        answer: String::new(),
        host: facts.host.clone(),
        start_unix_ns: window.start_unix_ns,
        duration_ns: window.duration_ns,
        interfaces: facts.interfaces.values().cloned().collect(),
        hooks: window.hooks.clone(),
        cpus: cpus(window, facts, &hooks),
        irqs: irqs(window, facts, collected),
        arch_irqs: arch_irqs(window),
        napi: napi(window, facts),
        drop_totals: drop_totals(window, &drops, &hooks),
        devices: devices(window, facts),
        reconciliation: reconciliation(window, facts, &hooks),
        losses: losses(window, facts),
        details: details(window, facts),
        samples: collected.map(Collected::samples).unwrap_or_default(),
        drops: drops.shown,
        findings: Vec::new(),
        notes: facts
            .notes
            .iter()
            .chain(&window.notes)
            .cloned()
            .chain(facts.gone_netns(window))
            .collect(),
    };
    report.answer = answer(&report);
    report
}

/// Which hooks count.
#[expect(clippy::struct_excessive_bools, reason = "one for each hook")]
struct Hooks {
    hard_irq: bool,
    softirq: bool,
    softirq_exit: bool,
    net_rx: bool,
    /// `NET_RX` runs are measured at `net_rx_action` itself.
    net_rx_action: bool,
    raise: bool,
    napi: bool,
    drop: bool,
    backlog: bool,
}

impl Hooks {
    fn of(window: &Window) -> Self {
        let attached = |name: &str| {
            window
                .hooks
                .iter()
                .any(|h| h.name == name && h.status == crate::model::report::HookStatus::Attached)
        };
        let softirq = attached("softirq_entry");
        let softirq_exit = attached("softirq_exit");
        let net_rx_action = attached("net_rx_action");
        Self {
            hard_irq: attached("irq_handler_exit"),
            softirq,
            softirq_exit,
            net_rx: net_rx_action || softirq && softirq_exit,
            net_rx_action,
            raise: attached("softirq_raise"),
            napi: attached("napi_poll"),
            drop: attached("kfree_skb"),
            backlog: attached("enqueue_to_backlog"),
        }
    }

    /// Program runs that the kernel skipped at one of `names`; `None` if it tells for none.
    fn missed(window: &Window, names: &[&str]) -> Option<u64> {
        window
            .hooks
            .iter()
            .filter(|h| names.is_empty() || names.contains(&h.name.as_str()))
            .filter_map(|h| h.missed)
            .reduce(|a, b| a + b)
    }
}

fn cpus(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Cpu> {
    let executed = drops_by_executing_cpu(window);
    let ids: BTreeSet<u32> = window
        .online
        .iter()
        .chain(window.cpus.keys())
        .copied()
        .collect();
    ids.into_iter()
        .filter_map(|id| {
            let online = window.online.contains(&id);
            let counters = window.cpus.get(&id)?;
            let softnet = window.softnet.get(&id).copied();
            let new_max = window.new_max.get(&id).copied().unwrap_or_default();
            let mut cpu = one_cpu(id, counters, new_max, facts, hooks);
            cpu.online = online;
            cpu.softnet = softnet;
            cpu.drops = hooks
                .drop
                .then(|| executed.get(&id).copied().unwrap_or(0) + counters.drop_table_full);
            (online || counted(counters)).then_some(cpu)
        })
        .collect()
}

fn counted(c: &CpuCounters) -> bool {
    c.hardirqs != 0 || c.softirqs.iter().any(|s| s.runs != 0) || c.net_rx_runs != 0
}

fn one_cpu(id: u32, c: &CpuCounters, new_max: NewMax, facts: &Facts, hooks: &Hooks) -> Cpu {
    let softirqs = if hooks.softirq {
        SOFTIRQ_NAMES
            .iter()
            .zip(&c.softirqs)
            .filter(|(_, s)| s.runs != 0)
            .map(|(name, s)| {
                let ns = hooks.softirq_exit.then_some(s.ns);
                ((*name).to_owned(), Softirq { runs: s.runs, ns })
            })
            .collect()
    } else {
        BTreeMap::new()
    };
    let net_rx = |value: u64| hooks.net_rx.then_some(value);
    let polled = |value: u64| (hooks.net_rx && hooks.napi).then_some(value);
    let outside = |value: u64| (hooks.net_rx && hooks.napi).then_some(value);
    let ended = |value: u64| (hooks.net_rx && hooks.napi && facts.budget_known).then_some(value);
    Cpu {
        cpu: id,
        node: facts.node_of.get(&id).copied(),
        hardirqs: hooks.hard_irq.then_some(c.hardirqs),
        hardirq_ns: hooks.hard_irq.then_some(c.hardirq_ns),
        hardirq_handler_ns: percentiles(&c.hardirq_hist, c.hardirq_max_ns, new_max.hardirq),
        softirqs,
        net_rx_runs: net_rx(c.net_rx_runs),
        net_rx_ns: net_rx(c.net_rx_ns),
        net_rx_wait_ns: percentiles(
            &c.net_rx_wait_hist,
            c.net_rx_wait_max_ns,
            new_max.net_rx_wait,
        )
        .filter(|_| hooks.raise),
        net_rx_wait_unknown: net_rx(
            c.net_rx_runs
                .saturating_sub(c.net_rx_wait_hist.iter().sum()),
        ),
        net_rx_run_ns: percentiles(&c.net_rx_run_hist, c.net_rx_run_max_ns, new_max.net_rx_run),
        ksoftirqd_runs: net_rx(c.ksoftirqd_runs),
        packets: polled(c.packets),
        budget_exhausted: ended(c.budget_exhausted),
        time_exhausted: ended(c.time_exhausted),
        polls_outside_net_rx: outside(c.polls_outside),
        packets_outside_net_rx: outside(c.packets_outside),
        ..Cpu::default()
    }
}

fn drops_by_executing_cpu(window: &Window) -> PerCpu {
    let mut executed = PerCpu::new();
    for (cpu, drops) in window.drops.values().flatten() {
        *executed.entry(*cpu).or_default() += drops.packets;
    }
    executed
}

fn irqs(window: &Window, facts: &Facts, collected: Option<&Collected>) -> Vec<Irq> {
    let mut irqs: Vec<_> = window
        .irqs
        .iter()
        .map(|(&number, by_cpu)| {
            let topology = facts.irqs.get(&number);
            let row = window.interrupts.get(&number);
            let name = row.map(|row| row.name.clone()).filter(|n| !n.is_empty());
            let per_cpu: PerCpu = by_cpu.iter().map(|(cpu, c)| (*cpu, c.count)).collect();
            let count = per_cpu.values().sum();
            let ns: u64 = by_cpu.values().map(|c| c.ns).sum();
            let max = by_cpu.values().map(|c| c.max_ns).max().filter(|&ns| ns > 0);
            let most = max.unwrap_or(u64::MAX);
            let details = collected.and_then(|c| c.handler_percentiles(number, count));
            Irq {
                irq: number,
                name: name
                    .or_else(|| topology.map(|t| t.name.clone()))
                    .unwrap_or_default(),
                device: topology.and_then(|t| t.device.clone()),
                queue: topology.and_then(|t| t.queue),
                node: topology.and_then(|t| t.node),
                affinity: topology.and_then(|t| t.affinity.clone()),
                effective_affinity: topology.and_then(|t| t.effective_affinity.clone()),
                count,
                per_cpu,
                handler_ns: ns.checked_div(count).map(|mean| HandlerTime {
                    mean,
                    p50: details.map(|(p50, _)| p50.min(most)),
                    p99: details.map(|(_, p99)| p99.min(most)),
                    max,
                }),
            }
        })
        .filter(|irq| facts.shows_name(irq.device.as_deref()))
        .collect();
    irqs.sort_by_key(|irq| (std::cmp::Reverse(irq.count), irq.irq));
    irqs
}

fn arch_irqs(window: &Window) -> Vec<ArchIrq> {
    window
        .arch
        .iter()
        .filter(|(_, counted)| counted.total() != 0)
        .map(|(name, counted)| ArchIrq {
            name: name.clone(),
            description: counted.name.clone(),
            count: counted.total(),
            per_cpu: counted.per_cpu.clone(),
        })
        .collect()
}

fn napi(window: &Window, facts: &Facts) -> Vec<Napi> {
    let mut by_instance: BTreeMap<(u32, u32, u32), Napi> = BTreeMap::new();
    for (cpu, instances) in &window.napi {
        for n in instances {
            if !facts.shows(n.netns, n.ifindex) {
                continue;
            }
            let device = facts.names.device(n.netns, n.ifindex);
            let row = by_instance
                .entry((n.netns, n.ifindex, n.napi_id))
                .or_insert_with(|| Napi {
                    device: device.unwrap_or_else(|| "backlog".to_owned()),
                    napi_id: (n.napi_id != 0).then_some(n.napi_id),
                    ..Napi::default()
                });
            row.polls += n.polls;
            row.packets += n.packets;
            row.full_budget += n.full_budget;
            if n.packets != 0 {
                *row.per_cpu.entry(*cpu).or_default() += n.packets;
            }
        }
    }
    let mut rows: Vec<_> = by_instance.into_values().collect();
    rows.sort_by_key(|n| std::cmp::Reverse((n.packets, n.polls)));
    rows
}

/// Drops of a window that are shown, and the number of those that are not.
struct Drops {
    shown: Vec<Drop>,
    other_devices: u64,
    bytes: u64,
}

fn drops(window: &Window, facts: &Facts) -> Drops {
    type Key = (Site, Option<String>, Option<String>, u32);
    let mut shown: BTreeMap<Key, Drop> = BTreeMap::new();
    let mut other_devices = 0;
    let mut bytes = 0;
    for (key, by_cpu) in &window.drops {
        let packets: u64 = by_cpu.values().map(|d| d.packets).sum();
        bytes += by_cpu.values().map(|d| d.bytes).sum::<u64>();
        if !facts.shows(key.netns, key.ifindex) {
            other_devices += packets;
            continue;
        }
        let site = facts.names.site(key);
        let device = facts.names.device(key.netns, key.ifindex);
        let netns = facts.names.netns(key.netns);
        let target = (site.function == "enqueue_to_backlog" && key.target_cpu != NO_CPU)
            .then_some(key.target_cpu);
        let row = shown
            .entry((site.clone(), device.clone(), netns.clone(), key.protocol))
            .or_insert_with(|| Drop {
                benign: is_benign(&site.function, site.reason.as_deref(), site.stage).is_some(),
                site: site.site,
                offset: site.offset,
                reason: site.reason,
                stage: site.stage,
                device,
                netns,
                protocol: protocol(key.protocol),
                ..Drop::default()
            });
        for (cpu, d) in by_cpu {
            row.packets += d.packets;
            row.bytes += d.bytes;
            *row.per_cpu.entry(*cpu).or_default() += d.packets;
        }
        if let Some(target) = target {
            *row.per_target_cpu
                .get_or_insert_default()
                .entry(target)
                .or_default() += packets;
        }
    }
    let mut shown: Vec<_> = shown.into_values().collect();
    shown.sort_by_key(|d| (d.benign, std::cmp::Reverse(d.packets)));
    Drops {
        shown,
        other_devices,
        bytes,
    }
}

fn drop_totals(window: &Window, drops: &Drops, hooks: &Hooks) -> DropTotals {
    if !hooks.drop {
        return DropTotals::default();
    }
    let sum = |benign: bool| -> u64 {
        let of = drops.shown.iter().filter(|d| d.benign == benign);
        of.map(|d| d.packets).sum()
    };
    let unattributed = window.cpus.values().map(|c| c.drop_table_full).sum();
    DropTotals {
        packets: Some(sum(true) + sum(false) + drops.other_devices + unattributed),
        // Bytes are kept in the table only.
        bytes: (unattributed == 0).then_some(drops.bytes),
        harmful: Some(sum(false)),
        benign: Some(sum(true)),
        other_devices: Some(drops.other_devices),
        unattributed: Some(unattributed),
    }
}

fn devices(window: &Window, facts: &Facts) -> Vec<Device> {
    window
        .devices
        .iter()
        .filter(|d| facts.interfaces.is_empty() || facts.interfaces.contains_key(&d.ifindex))
        .map(|d| {
            let known = facts.devices.get(&d.name);
            Device {
                name: d.name.clone(),
                ifindex: d.ifindex,
                driver: known.and_then(|k| k.driver.clone()),
                node: known.and_then(|k| k.numa_node),
                rx_packets: d.rx_packets,
                rx_bytes: d.rx_bytes,
                rx_dropped: d.rx_dropped,
                rx_missed: d.rx_missed_errors,
                rx_errors: d.rx_errors,
                rx_nohandler: d.rx_nohandler,
                queues: known.and_then(|k| k.rx_queues),
                rps: known.and_then(|k| k.rps_cpus.first().cloned()),
                ring: None,
            }
        })
        .collect()
}

fn reconciliation(window: &Window, facts: &Facts, hooks: &Hooks) -> Vec<Reconciliation> {
    let evidence = |delta: u64, gap_ns: u64, hooks: &[&str], under_way| Evidence {
        gap_ns,
        skew: skew_bound(delta, gap_ns, window.duration_ns),
        missed: Hooks::missed(window, hooks),
        under_way,
    };
    let total = |counts: &PerCpu| counts.values().sum::<u64>();
    let mut rows = Vec::new();

    let dropped: PerCpu = nonzero(window.softnet.iter().map(|(cpu, s)| (*cpu, s.dropped)));
    let traced = Backlog::of(window, facts);
    rows.extend(reconcile::softnet_dropped(
        &dropped,
        (hooks.drop && hooks.backlog && traced.known).then_some(&traced.by_target),
        (hooks.drop && traced.known).then_some(traced.total),
        &evidence(
            total(&dropped),
            window.gaps.softnet,
            &["kfree_skb", "enqueue_to_backlog"],
            0,
        ),
    ));

    let refused: BTreeMap<String, u64> = devices(window, facts)
        .into_iter()
        .map(|d| (d.name, d.rx_dropped + d.rx_nohandler))
        .filter(|(_, refused)| *refused != 0)
        .collect();
    rows.extend(reconcile::rx_dropped(
        &refused,
        (hooks.drop && traced.known).then_some(&traced.by_device),
        &evidence(
            refused.values().sum(),
            window.gaps.devices,
            &["kfree_skb"],
            0,
        ),
    ));

    let kernel = window.softirqs.get(SOFTIRQ_NAMES[NET_RX as usize]);
    let kernel = kernel.cloned().unwrap_or_default();
    let runs = nonzero(window.cpus.iter().map(|(cpu, c)| {
        let runs = if hooks.net_rx_action {
            c.net_rx_runs
        } else {
            c.softirqs[NET_RX as usize].runs
        };
        (*cpu, runs)
    }));
    let under_way = u64::from(hooks.net_rx_action);
    let at: &[&str] = if hooks.net_rx_action {
        &["net_rx_action"]
    } else {
        &["softirq_entry"]
    };
    rows.extend(reconcile::net_rx_runs(
        &kernel,
        (hooks.softirq || hooks.net_rx_action).then_some(&runs),
        &evidence(total(&kernel), window.gaps.softirqs, at, under_way),
    ));

    // Only what the kernel still shows can be compared.
    let shown = |irq: &u32| !window.freed_irqs.contains_key(irq);
    let kernel: BTreeMap<u32, u64> = window
        .interrupts
        .iter()
        .map(|(irq, counted)| (*irq, counted.total()))
        .filter(|(irq, n)| *n != 0 && shown(irq))
        .collect();
    let traced: BTreeMap<u32, u64> = window
        .irqs
        .iter()
        .filter(|(irq, _)| shown(irq))
        .map(|(irq, by_cpu)| {
            let on_shown = by_cpu
                .iter()
                .filter(|(cpu, _)| !window.hidden_cpus.contains(cpu));
            (*irq, on_shown.map(|(_, c)| c.count).sum())
        })
        .collect();
    rows.extend(reconcile::hard_irqs(
        &kernel,
        hooks.hard_irq.then_some(&traced),
        &evidence(
            kernel.values().sum(),
            window.gaps.interrupts,
            &["irq_handler_exit"],
            1,
        ),
    ));
    rows
}

fn nonzero(counts: impl Iterator<Item = (u32, u64)>) -> PerCpu {
    counts.filter(|(_, n)| *n != 0).collect()
}

/// Traced drops that the kernel counts in softnet `dropped` or a device's `rx_dropped`.
struct Backlog {
    /// False where the kernel hides the names of functions and gives no reasons: then nobody can tell.
    known: bool,
    by_target: PerCpu,
    total: u64,
    by_device: BTreeMap<String, u64>,
}

impl Backlog {
    fn of(window: &Window, facts: &Facts) -> Self {
        let mut backlog = Self {
            known: true,
            by_target: PerCpu::new(),
            total: 0,
            by_device: BTreeMap::new(),
        };
        for (key, by_cpu) in &window.drops {
            let packets: u64 = by_cpu.values().map(|d| d.packets).sum();
            let site = facts.names.site(key);
            let reason = site.reason.as_deref();
            backlog.known &= !site.function.is_empty() || reason.is_some();
            // Of a CPU that was offline at one end the kernel does not tell what it refused.
            if reconcile::counts_in_softnet(&site.function, reason)
                && !window.hidden_cpus.contains(&key.target_cpu)
            {
                backlog.total += packets;
                if key.target_cpu != NO_CPU {
                    *backlog.by_target.entry(key.target_cpu).or_default() += packets;
                }
            }
            if reconcile::counts_in_rx_dropped(&site.function, reason)
                && key.netns == facts.names.own_netns
                && facts.shows(key.netns, key.ifindex)
                // A device that is gone has taken its counter with it.
                && window.devices.iter().any(|d| d.ifindex == key.ifindex)
                && let Some(device) = facts.names.device(key.netns, key.ifindex)
            {
                *backlog.by_device.entry(device).or_default() += packets;
            }
        }
        backlog
    }
}

fn details(window: &Window, facts: &Facts) -> Vec<DetailCoverage> {
    let sum = |of: &dyn Fn(&CpuCounters) -> u64| window.cpus.values().map(|c| of(c)).sum::<u64>();
    let drops: u64 = window
        .drops
        .values()
        .flat_map(BTreeMap::values)
        .map(|d| d.packets)
        .sum();
    facts
        .kinds
        .iter()
        .map(|kind| {
            let seen = match kind {
                Kind::Irq => sum(&|c| c.hardirq_hist.iter().sum()),
                Kind::NetRx => sum(&|c| c.net_rx_runs),
                Kind::Drop => drops + sum(&|c| c.drop_table_full),
            };
            let sent = sum(&|c| c.details[*kind as usize].sent);
            let ring_full = sum(&|c| c.details[*kind as usize].ring_full);
            DetailCoverage {
                kind: kind.name().to_owned(),
                seen,
                sent,
                ring_full,
                // The programs count what they send and lose; the rest they were told to leave out.
                limited: seen.saturating_sub(sent + ring_full),
            }
        })
        .collect()
}

fn losses(window: &Window, facts: &Facts) -> Losses {
    let sum = |of: &dyn Fn(&CpuCounters) -> u64| window.cpus.values().map(|c| of(c)).sum::<u64>();
    let details = details(window, facts);
    let irq_table_full = sum(&|c| c.irq_table_full);
    let napi_table_full = sum(&|c| c.napi_table_full);
    let drop_table_full = sum(&|c| c.drop_table_full);
    Losses {
        ring_full: details.iter().map(|d| d.ring_full).sum(),
        map_full: irq_table_full + napi_table_full + drop_table_full,
        irq_table_full,
        napi_table_full,
        drop_table_full,
        recursion_missed: Hooks::missed(window, &[]),
        unreadable: sum(&|c| c.unreadable),
        net_rx_nested: sum(&|c| c.net_rx_nested),
        detail_limited: details.iter().map(|d| d.limited).sum(),
        undecodable: window.undecodable,
    }
}
