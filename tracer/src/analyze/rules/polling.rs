//! Rules 10 to 12: how packets are fetched — polling without interrupts, threads instead of softirqs, too many interrupts.

use std::collections::BTreeSet;

use super::{
    case::{Case, share},
    command::quote,
    found::{Found, NOTHING, Verdict, With as _, step},
    threshold::Key,
};
use crate::{
    model::{
        finding::{Advice, Severity},
        report::{Cpu, Irq},
        topology::Nic,
    },
    report::number::{self, count, of, ranges, ratio},
};

pub(super) const SUSTAINED: &str = "sustained-polling";
pub(super) const THREADED: &str = "threaded-napi";
pub(super) const IRQ_RATE: &str = "irq-rate";

/// `NET_RX` runs for each hard interrupt from which on polling goes on without them.
const RUNS_PER_IRQ: u64 = 20;

/// Longer waits for an interrupt are not advised to be doubled, µs.
const LONGEST_USECS: u32 = 250;

/// Few interrupts do not mean an idle queue: NAPI keeps polling while packets come.
pub(super) fn sustained(case: Case<'_>) -> Verdict {
    let cpus = &case.report.cpus;
    if cpus
        .iter()
        .all(|cpu| cpu.hardirqs.is_none() || cpu.net_rx_runs.is_none())
    {
        return Err("hard interrupts beside NET_RX runs: one of their hooks is missing".to_owned());
    }
    let devices: Vec<_> = case
        .report
        .napi
        .iter()
        .filter(|napi| napi.device != "backlog")
        .collect();
    let polls = |cpu: &Cpu| {
        let own = devices.iter().filter_map(|napi| napi.per_cpu.get(&cpu.cpu));
        let own = own.copied().fold(0, u64::saturating_add);
        own > 0 && cpu.packets.is_some_and(|all| share(own, all) >= 50)
    };
    let is_polling = |cpu: &&Cpu| {
        let (Some(irqs), Some(runs), Some(ns)) = (cpu.hardirqs, cpu.net_rx_runs, cpu.net_rx_ns)
        else {
            return false;
        };
        irqs.saturating_mul(RUNS_PER_IRQ) < runs
            && share(ns, case.report.duration_ns) >= case.limit(Key::PollingBusy)
            && polls(cpu)
    };
    let hit: Vec<&Cpu> = cpus.iter().filter(is_polling).collect();
    let Some(first) = hit.first() else {
        return NOTHING;
    };
    let ids = number::cpus(hit.iter().map(|cpu| cpu.cpu));
    let (irqs, runs) = (first.hardirqs.unwrap_or(0), first.net_rx_runs.unwrap_or(0));
    Found::new(
        SUSTAINED,
        Severity::Info,
        format!(
            "{ids} polls without a pause: few interrupts here mean sustained load, not idleness"
        ),
    )
    .on(hit.iter().map(|cpu| cpu.cpu))
    .evidence(
        format!("CPU {}: hard interrupts, NET_RX runs", first.cpu),
        format!("{}, {}", count(irqs), count(runs)),
        "irq_handler_entry, softirq_entry",
    )
    .advice([step(
        "After a change of affinity, wait before judging it",
        "a queue moves with its next interrupt, and there is none until NAPI has drained it",
    )])
    .useless("interrupt moderation: there are hardly any interrupts")
    .alone()
}

/// Where packets are polled outside `NET_RX`, its numbers are blind.
pub(super) fn threaded(case: Case<'_>) -> Verdict {
    let cpus = &case.report.cpus;
    let sum =
        |field: fn(&Cpu) -> Option<u64>| cpus.iter().filter_map(field).reduce(u64::saturating_add);
    let outside = sum(|cpu| cpu.packets_outside_net_rx);
    if outside.is_none() && case.host.devices.is_empty() {
        return Err("polls outside NET_RX: napi_poll is not hooked, and /sys/class/net/*/threaded was not read".to_owned());
    }
    let outside = outside.unwrap_or(0);
    let threaded = case
        .host
        .devices
        .iter()
        .filter(|(_, nic)| nic.threaded == Some(true));
    let threaded: Vec<_> = threaded
        .filter(|(name, _)| case.received(name) > 0)
        .collect();
    let within = sum(|cpu| cpu.packets).unwrap_or(0);
    if threaded.is_empty() && share(outside, within.saturating_add(outside)) < 1 {
        return NOTHING;
    }
    let names: Vec<&str> = threaded.iter().map(|(name, _)| name.as_str()).collect();
    let who = if names.is_empty() {
        "busy polling or threaded NAPI".to_owned()
    } else {
        format!("threaded NAPI of {}", names.join(", "))
    };
    let found = Found::new(
        THREADED,
        Severity::Info,
        format!(
            "{} were polled by {who}: the NET_RX columns do not show that work",
            of(outside, "packet")
        ),
    )
    .on(cpus
        .iter()
        .filter(|cpu| cpu.packets_outside_net_rx.is_some_and(|n| n > 0))
        .map(|cpu| cpu.cpu))
    .evidence("packets polled outside NET_RX", count(outside), "napi_poll")
    .evidence("packets polled in NET_RX", count(within), "napi_poll");
    let found = names.iter().fold(found, |found, name| {
        found.evidence(
            format!("threaded NAPI of {name}"),
            "on",
            format!("/sys/class/net/{name}/threaded"),
        )
    });
    let pins = threaded.iter().filter_map(|(name, nic)| {
        let of_queues = nic.rx_queues.values().filter_map(|queue| queue.napi_pid);
        let of_instances = nic.napi.values().filter_map(|napi| napi.pid);
        let pids: BTreeSet<u32> = of_queues.chain(of_instances).collect();
        let back = unpin(&pids, nic);
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let cores = super::plan::cores(case, nic.node);
        let cpus: Vec<u32> = cores
            .iter()
            .filter_map(|core| core.first().copied())
            .collect();
        if pids.is_empty() || cpus.is_empty() {
            return None;
        }
        let list = ranges(cpus);
        let advice = step(
            format!("Pin the NAPI threads of {name}"),
            "they are tasks: taskset and priorities decide where they run, not smp_affinity",
        );
        let advice = advice.command(format!(
            "for p in {}; do taskset -cp {list} $p; done",
            pids.join(" ")
        ));
        Some(match back {
            Some(back) => advice.undo(back),
            None => advice.risk(
                "where they may run now is not known: note taskset -cp PID of each to undo it",
            ),
        })
    });
    let found = found.advice(pins.collect::<Vec<_>>());
    found
        .useless("netdev_budget and RPS by NET_RX load: read the NAPI table instead")
        .alone()
}

/// Lets NAPI threads run where they may now; `None` if that is not known of one.
fn unpin(pids: &BTreeSet<u32>, nic: &Nic) -> Option<String> {
    let allowed = |pid: &u32| {
        let mut napi = nic.napi.values();
        let napi = napi.find(|napi| napi.pid == Some(*pid) && !napi.allowed.is_empty())?;
        Some(format!("{pid}:{}", ranges(napi.allowed.iter().copied())))
    };
    let each: Option<Vec<String>> = pids.iter().map(allowed).collect();
    Some(format!(
        "for v in {}; do taskset -cp ${{v#*:}} ${{v%%:*}}; done",
        each?.join(" ")
    ))
}

/// One interrupt for hardly more than one packet.
pub(super) fn irq_rate(case: Case<'_>) -> Verdict {
    let hooked = case.report.cpus.iter().any(|cpu| cpu.hardirqs.is_some());
    if !hooked {
        return Err("interrupts: irq_handler_entry and irq_handler_exit are not hooked".to_owned());
    }
    let fast = |irq: &&Irq| case.rate(irq.count) >= case.limit(Key::IrqRate);
    let mut devices: Vec<&str> = case
        .report
        .irqs
        .iter()
        .filter(fast)
        .filter_map(|irq| irq.device.as_deref())
        .collect();
    devices.sort_unstable();
    devices.dedup();
    let judged = devices
        .into_iter()
        .filter_map(|device| device_rate(case, device));
    Ok(judged.collect())
}

fn device_rate(case: Case<'_>, device: &str) -> Option<Found> {
    let napi = case.napi(device);
    let (polls, packets) = napi.fold((0u64, 0u64), |(polls, packets), napi| {
        (
            polls.saturating_add(napi.polls),
            packets.saturating_add(napi.packets),
        )
    });
    if polls == 0 || packets / polls >= case.limit(Key::PacketsPerPoll) {
        return None;
    }
    let irqs = case
        .report
        .irqs
        .iter()
        .filter(|irq| irq.device.as_deref() == Some(device));
    let busiest = irqs.max_by_key(|irq| irq.count)?;
    let (at, _) = busiest.per_cpu.iter().max_by_key(|(_, n)| **n)?;
    let hard = case
        .cpu(*at)
        .and_then(|cpu| cpu.hardirq_ns)
        .map_or(0, |ns| share(ns, case.report.duration_ns));
    let severity = if hard >= case.limit(Key::HardIrqTime) {
        Severity::Warning
    } else {
        Severity::Info
    };
    let rate = count(case.rate(busiest.count));
    let summary = format!(
        "IRQ {} of {device} comes {rate} times a second for {} packets a poll; its handlers take {hard} % of CPU {at}",
        busiest.irq,
        ratio(packets, polls)
    );
    let found = Found::new(IRQ_RATE, severity, summary)
        .on([*at])
        .evidence(
            format!("IRQ {} ({})", busiest.irq, busiest.name),
            format!("{rate} a second"),
            "irq_handler_entry",
        )
        .evidence("packets a poll", ratio(packets, polls), "napi_poll");
    Some(
        found
            .advice(moderate(case, device))
            .useless("spreading the vectors: each would interrupt as often as before"),
    )
}

fn moderate(case: Case<'_>, device: &str) -> Option<Advice> {
    let now = case.host.devices.get(device)?.coalesce?;
    let name = quote(device);
    if now.adaptive_rx == Some(false) {
        let usecs = now
            .rx_usecs
            .map(|usecs| format!(" rx-usecs {usecs}"))
            .unwrap_or_default();
        let advice = step(
            format!("Let {device} adapt its interrupt rate"),
            "under load an interrupt then covers many packets, and GRO can merge them; at low rates latency stays",
        );
        return Some(
            advice
                .command(format!("ethtool -C {name} adaptive-rx on"))
                .undo(format!("ethtool -C {name} adaptive-rx off{usecs}"))
                .risk("adds some microseconds of latency under load"),
        );
    }
    let usecs = now.rx_usecs.filter(|usecs| *usecs <= LONGEST_USECS)?;
    let then = usecs.saturating_mul(2).max(8);
    let advice = step(
        format!("Raise rx-usecs of {device} from {usecs} to {then}"),
        "an interrupt then covers more packets",
    );
    // Drivers refuse it or do not keep to it while they adapt it themselves.
    let (command, undo) = if now.adaptive_rx == Some(true) {
        (
            format!("ethtool -C {name} adaptive-rx off rx-usecs {then}"),
            format!("ethtool -C {name} rx-usecs {usecs}; ethtool -C {name} adaptive-rx on"),
        )
    } else {
        (
            format!("ethtool -C {name} rx-usecs {then}"),
            format!("ethtool -C {name} rx-usecs {usecs}"),
        )
    };
    Some(
        advice
            .command(command)
            .undo(undo)
            .risk(format!("up to {then} µs more latency for each packet")),
    )
}
