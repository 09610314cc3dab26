//! Rules 15 and 16: limits that the provider of a virtual machine sets.

use super::{
    case::{Case, share},
    command::quote,
    found::{Found, NOTHING, Verdict, With as _, step},
    plan::plan,
    threshold::Key,
};
use crate::{
    model::finding::Severity,
    report::number::{self, count, duration},
};

pub(super) const CLOUD: &str = "cloud-limit";
pub(super) const STEAL: &str = "steal";
pub(super) const SINGLE_QUEUE: &str = "single-queue";

/// What each counter of the ENA driver limits (its guide).
const ALLOWANCES: &[(&str, &str)] = &[
    ("bw_in_", "inbound bandwidth"),
    ("bw_out_", "outbound bandwidth"),
    ("pps_", "packets per second"),
    ("conntrack_", "tracked connections"),
    (
        "linklocal_",
        "packets to local services (DNS, time, metadata)",
    ),
];

/// Packets that the hypervisor queued or dropped because the instance is not entitled to more.
pub(super) fn cloud(case: Case<'_>) -> Verdict {
    if case.report.devices.is_empty() {
        return Err("driver statistics: no device's counters".to_owned());
    }
    let mut found = Vec::new();
    for device in &case.report.devices {
        let exceeded = device.driver_stats.iter();
        let exceeded: Vec<_> = exceeded
            .filter(|(name, n)| **n > 0 && name.ends_with("_allowance_exceeded"))
            .collect();
        let Some((name, packets)) = exceeded.iter().max_by_key(|(_, n)| **n) else {
            continue;
        };
        let what = ALLOWANCES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix));
        let what = what.map_or("an allowance", |(_, what)| what);
        let summary = format!(
            "the cloud limits {}: {} packets over the allowance for {what} of this instance",
            device.name,
            count(**packets)
        );
        let mut one = Found::new(CLOUD, Severity::Warning, summary);
        for (name, n) in &exceeded {
            one = one.evidence(
                name.as_str(),
                count(**n),
                format!("ethtool -S {}", device.name),
            );
        }
        let advice = step(
            "Take a larger instance, spread the load over several, or send less",
            "the hypervisor queues or drops these packets outside of this host",
        );
        found.push(one.advice([advice]).useless("any knob of this host"));
    }
    Ok(found)
}

/// The hypervisor takes CPUs away that receive packets.
pub(super) fn steal(case: Case<'_>) -> Verdict {
    let cpus = &case.report.cpus;
    if cpus.iter().all(|cpu| cpu.time.is_none()) {
        return Err("CPU time: no row of /proc/stat".to_owned());
    }
    let stolen = cpus
        .iter()
        .filter_map(|cpu| Some((cpu.cpu, cpu.time?.steal_ns, cpu.packets)));
    let stolen: Vec<_> = stolen
        .filter(|(_, ns, packets)| {
            share(*ns, case.report.duration_ns) >= case.limit(Key::Steal) && *packets != Some(0)
        })
        .collect();
    let Some((worst, ns, _)) = stolen.iter().max_by_key(|(_, ns, _)| *ns) else {
        return NOTHING;
    };
    let ids = number::cpus(stolen.iter().map(|(cpu, ..)| *cpu));
    let summary = format!(
        "the hypervisor took CPU {worst} away for {} % of the time; packets wait meanwhile ({ids})",
        share(*ns, case.report.duration_ns)
    );
    Found::new(STEAL, Severity::Warning, summary)
        .on(stolen.iter().map(|(cpu, ..)| *cpu))
        .evidence(
            format!("steal on CPU {worst}"),
            duration(*ns, true),
            "/proc/stat",
        )
        .advice([step(
            "Ask the provider for CPUs that are not shared, or move to another host",
            "whatever runs beside this machine is none of its business",
        )])
        .useless("any knob of this host: its CPUs are not there when packets come")
        .alone()
}

/// A virtio device with one queue on a host with several CPUs.
pub(super) fn single_queue(case: Case<'_>) -> Verdict {
    if case.host.devices.is_empty() {
        return Err("the devices' queues: the host's set-up was not read".to_owned());
    }
    let online = case.online().len();
    let mut found = Vec::new();
    for (name, nic) in &case.host.devices {
        let is_virtio = nic.driver.as_deref() == Some("virtio_net");
        let queues = nic
            .channels
            .map_or(nic.rx_queues.len(), |channels| channels.now as usize);
        let steered = nic.rx_queues.values().any(|queue| queue.rps_cpus.len() > 1);
        if !is_virtio || queues != 1 || online < 2 || steered || case.received(name) == 0 {
            continue;
        }
        let max = nic.channels.and_then(|channels| channels.max);
        let most = max.filter(|max| *max > 1);
        let by = match max {
            Some(max) if max > 1 => "though the provider allows more",
            Some(_) => "the provider gives no more",
            None => "how many it may have is not known",
        };
        let summary = format!(
            "{name} (virtio) has one queue for {online} CPUs, {by}: one CPU receives everything"
        );
        let mut one = Found::new(SINGLE_QUEUE, Severity::Info, summary)
            .on(case.polled_by_cpu(name).into_keys())
            .evidence(
                format!("queues of {name}"),
                "1",
                format!("ethtool -l {name}"),
            );
        let device = quote(name);
        if max.is_none() {
            let advice = step(
                format!("See how many queues {name} may have"),
                "with more of them it spreads flows itself: ethtool -L sets their number",
            );
            one = one.advice([advice.command(format!("ethtool -l {device}"))]);
        }
        if let Some(most) = most {
            let then = most.min(u32::try_from(online).unwrap_or(most));
            let kind = nic.channel_word();
            let advice = step(
                format!("Give {name} {then} queues"),
                "the device then spreads flows itself",
            );
            one = one.advice([advice
                .command(format!("ethtool -L {device} {kind} {then}"))
                .undo(format!("ethtool -L {device} {kind} 1"))
                .risk("resets the device: a moment without packets")]);
        } else if let Some(plan) = plan(case, name) {
            // Receive and transmit interrupts of the queue share a core by the plan.
            one = one.advice(plan.spread()).advice(plan.steer(case));
            one = one.useless("spreading the vectors: there is one receive queue");
        }
        found.push(one);
    }
    Ok(found)
}
