//! Rule 3: the NIC had no descriptor for a packet: lost before there was an `sk_buff`, so no probe sees it.

use super::{
    case::Case,
    command::quote,
    found::{Found, Verdict, With as _, step},
    plan::plan,
};
use crate::{
    analyze::missed,
    model::{
        finding::{Advice, Severity},
        report::Device,
        setting::Setting,
        topology::Range,
    },
    report::number::{count, of, percent, times},
};

pub(super) const ID: &str = "ring-overrun";

/// Counts how often the ring was seen empty, not packets (Intel's RNBC: `rx_no_buffer_count`).
const RAN_DRY: &str = "no_buffer";

/// Parts of the names by which drivers count packets that found no descriptor.
const NAMES: &[&str] = &[
    "rx_missed",
    "no_dma_resource",
    "out_of_buffer",
    "rx_fifo_err",
    "rx_discards_phy",
    "rx_over_err",
    "rx_overruns",
    "nodesc",
    "no_desc",
];

pub(super) fn judge(case: Case<'_>) -> Verdict {
    if case.report.devices.is_empty() {
        return Err("rx_missed_errors: no device's counters".to_owned());
    }
    let lost = missed::devices(case.report).filter_map(|device| Some((device, lost(device)?)));
    Ok(lost
        .map(|(device, (counter, packets))| tell(case, device, counter, packets))
        .collect())
}

/// The largest of the counters that may count the same packets, and its name.
fn lost(device: &Device) -> Option<(&str, u64)> {
    let missed = ("rx_missed_errors", device.rx_missed);
    let stats = device
        .driver_stats
        .iter()
        .map(|(name, n)| (name.as_str(), *n));
    let stats = stats.filter(|(name, _)| NAMES.iter().any(|part| name.contains(part)));
    // Of equal counters the kernel's own name.
    let all = stats.chain([missed]);
    all.max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0)
}

fn tell(case: Case<'_>, device: &Device, counter: &str, packets: u64) -> Found {
    let name = device.name.as_str();
    let polled = case.polled_by_cpu(name);
    // The one that polls most is the one that has to keep the ring empty.
    let polled = polled.iter().filter(|(_, n)| **n > 0);
    let empties = polled.max_by_key(|(_, n)| **n).map(|(cpu, _)| *cpu);
    let busiest = empties.and_then(|cpu| case.cpu(cpu));
    let had_time = busiest.and_then(|cpu| case.had_time(cpu));
    let offered = packets.saturating_add(device.rx_packets);
    let because = match (busiest, had_time) {
        (Some(cpu), Some(false)) => format!("CPU {}, which empties it, is full", cpu.cpu),
        (Some(cpu), Some(true)) => {
            format!("CPU {}, which empties it, has time left: bursts", cpu.cpu)
        }
        (Some(cpu), None) => format!(
            "whether CPU {}, which empties it, has time left is not known",
            cpu.cpu
        ),
        (None, _) => "which CPU empties it is not known".to_owned(),
    };
    let summary = format!(
        "the receive ring of {name} had no room for {} ({}), lost before the kernel saw them; {because}",
        of(packets, "packet"),
        percent(packets, offered)
    );
    let ring = case.host.devices.get(name).and_then(|nic| nic.ring);
    let source = if counter == "rx_missed_errors" {
        format!("/sys/class/net/{name}/statistics/rx_missed_errors")
    } else {
        format!("ethtool -S {name}")
    };
    let mut found = Found::new(ID, Severity::Critical, summary)
        .on(empties)
        .evidence(counter, of(packets, "packet"), source);
    let dry = device.driver_stats.iter();
    for (name, n) in dry.filter(|(name, n)| name.contains(RAN_DRY) && **n > 0) {
        let source = format!("ethtool -S {}", device.name);
        found = found.evidence(format!("{name}: the ring ran dry"), times(*n), source);
    }
    if let Some(ring) = ring {
        let max = ring
            .max
            .map_or_else(|| "not known".to_owned(), |max| count(max.into()));
        found = found.evidence(
            "receive ring",
            format!("{} entries, at most {max}", count(ring.now.into())),
            format!("ethtool -g {name}"),
        );
    }
    if let Some(cpu) = busiest
        && let Some(busy) = case.softirq_busy(cpu)
    {
        found = found.evidence(
            format!("CPU {} in softirqs", cpu.cpu),
            format!("{busy} % of the time"),
            "softirq_entry/exit, /proc/stat",
        );
    }
    if let Some(cpu) = busiest
        && let Some(idle) = case.idle(cpu)
    {
        found = found.evidence(
            format!("CPU {} idle", cpu.cpu),
            format!("{idle} % of the time"),
            "/proc/stat",
        );
    }
    let found = if had_time == Some(false) {
        let found =
            found.useless("a larger ring: it absorbs bursts, not a load that its CPU cannot take");
        match plan(case, name) {
            Some(plan) => found.advice(plan.spread()).advice(plan.steer(case)),
            None => found,
        }
    } else {
        let bursts = had_time == Some(true);
        found.advice(ring.map(|ring| larger(name, ring, bursts)))
    };
    found.useless("netdev_max_backlog: these packets never came that far")
}

fn larger(name: &str, ring: Range, bursts: bool) -> Advice {
    let Some(max) = ring.max.filter(|max| *max > ring.now) else {
        return step(
            format!("Spread the packets of {name} over more queues"),
            format!("its ring cannot be larger than {}", count(ring.now.into())),
        );
    };
    let then = ring.now.saturating_mul(2).min(max);
    let device = quote(name);
    let for_load = if bursts {
        ""
    } else {
        ", and is useless for a sustained load"
    };
    let advice = step(
        format!(
            "Raise the receive ring of {name} from {} to {}",
            count(ring.now.into()),
            count(then.into())
        ),
        format!(
            "it holds a burst until its CPU comes{for_load}; at most {}",
            count(max.into())
        ),
    );
    advice
        .command(format!("ethtool -G {device} rx {then}"))
        .sets([(
            Setting::Ring {
                device: name.to_owned(),
            },
            then.to_string(),
        )])
        .undo(format!("ethtool -G {device} rx {}", ring.now))
        .risk("the device stops for a moment and loses packets meanwhile")
}
