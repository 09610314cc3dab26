//! Provokes `NET_RX` runs that end with work left: by a small `netdev_budget`, with RPS; then by the smallest
//! `netdev_budget_usecs` that the kernel accepts, with so many rules for each packet that the card's ring never is empty.
//!
//! Asserts that runs per CPU are those of /proc/softirqs, that those cut short are the change of `time_squeeze` of
//! their CPU and all for the one reason, that the packets of all runs are those polled, and that runs, packets,
//! longest wait and longest run are those of the single runs in the details.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result, ensure};
use tracer::model::{
    event::What,
    finding::Severity,
    report::{Cpu, Report},
};

use super::{Scenario, need_nic};
use crate::{
    findings,
    flood::Flood,
    guest::{
        bracket::{Bracket, Counter},
        nic::Wire,
    },
    kept,
    kernel::{device_statistic, gained, softnet},
    netns::Netns,
    scenario::{Need, note},
    setting::Setting,
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Cpus(4), Need::Program("ip")];

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "net_rx_runs_that_end_at_the_packet_budget_are_the_kernels_time_squeeze",
        needs: NEEDS,
        run: || cut_short(&BUDGET),
    },
    Scenario {
        name: "net_rx_runs_that_end_at_the_time_limit_are_the_kernels_time_squeeze",
        needs: NEEDS,
        run: || cut_short(&TIME),
    },
];

/// What cuts the runs short.
struct Limit {
    budget: &'static str,
    /// The first that the kernel accepts.
    usecs: &'static [&'static str],
    /// Target CPUs of RPS, as a mask.
    steer_to: u32,
    /// Rules that each packet has to pass.
    rules: usize,
    /// Packets per second.
    rate: Option<u32>,
    /// Packets that a backlog holds: too few for a burst.
    backlog: &'static str,
    /// Packets are lost beside it for certain.
    loses: bool,
    /// What the finding says which limit it was.
    told: &'static str,
    /// What it advises, and what it says is useless.
    knobs: &'static [&'static str],
    /// Of the report that is kept.
    name: &'static str,
    /// Runs that ended for the reason under test, and for the other.
    counts: fn(&Cpu) -> (Option<u64>, Option<u64>),
}

const BUDGET: Limit = Limit {
    budget: "4",
    usecs: &["10000000"],
    steer_to: 1 << TARGET_CPU,
    rules: 0,
    rate: Some(10_000),
    backlog: "8",
    loses: true,
    told: "mostly at the packet budget",
    knobs: &[
        "net.core.netdev_budget=8",
        "netdev_budget_usecs: time was left",
    ],
    name: "squeeze-budget",
    counts: |cpu| (cpu.budget_exhausted, cpu.time_exhausted),
};
/// Not even the jiffy in which the run began, or two jiffies, which newer kernels have as the least.
const TIME: Limit = Limit {
    budget: "1000000",
    usecs: &["0", "2000", "8000", "20000"],
    steer_to: 0,
    rules: 200,
    rate: None,
    backlog: "1000",
    loses: false,
    told: "mostly at the time limit",
    knobs: &[
        "netdev_budget_usecs",
        "a larger netdev_budget: the time runs out before the packets do",
    ],
    name: "squeeze-time",
    counts: |cpu| (cpu.time_exhausted, cpu.budget_exhausted),
};

const PORT: u16 = 7105;
const PACKETS: u64 = 10_000;
/// Of these at least so many have to arrive: a slow receiver's ring overruns.
const ENOUGH: u64 = 1_000;
/// Datagrams that make the vectors fire and move.
const WARM_UP: u64 = 200;
const STEERING_CPU: u32 = 1;
const TARGET_CPU: u32 = 0;
const SENDING_CPU: usize = 3;

fn cut_short(limit: &Limit) -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    wire.pin(
        |_| STEERING_CPU,
        || {
            let flood = Flood::new(Wire::RECEIVER, PORT, WARM_UP);
            flood.run(&wire.sender).map(|_| ())
        },
    )?;
    wire.steer(limit.steer_to)?;
    slow_down(&wire.receiver, limit.rules)?;
    let _budget = Setting::change("/proc/sys/net/core/netdev_budget", limit.budget)?;
    let (_usecs, ticks) = smallest(limit.usecs)?;
    let _backlog = Setting::change("/proc/sys/net/core/netdev_max_backlog", limit.backlog)?;

    let arrived = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_packets");
    quiet();
    let arrived_before = arrived()?;
    let outer_before = squeezes()?;
    let mut inner = BTreeMap::new();
    let details = ["--events", "net_rx", "--detail-rate", "unlimited"];
    let seen = Bracket::around(&wire.receiver, &details, || {
        let before = squeezes()?;
        let sent = Flood {
            rate: limit.rate,
            cpu: Some(SENDING_CPU),
            ..Flood::new(Wire::RECEIVER, PORT, PACKETS)
        }
        .run(&wire.sender)?;
        ensure!(sent >= PACKETS / 2, "sent only {sent} of {PACKETS}");
        inner = gained(&before, &squeezes()?);
        Ok(())
    })?;
    let outer = gained(&outer_before, &squeezes()?);
    let arrived = arrived()? - arrived_before;
    ensure!(
        arrived >= ENOUGH,
        "only {arrived} packets of {PACKETS} reached the card"
    );
    seen.check()?;

    let report = &seen.outcome.summary;
    let missed = seen.outcome.missed();
    let mut all = 0;
    for cpu in &report.cpus {
        let (cut, otherwise) = (limit.counts)(cpu);
        let cut = cut.context("the limits are not known")?;
        let kernel = [&inner, &outer].map(|counts| counts.get(&cpu.cpu).copied().unwrap_or(0));
        // The kernel reads the jiffies a moment after tracer: now and then a tick comes between.
        let slack = if ticks && limit.rate.is_none() {
            1 + cut / 20
        } else {
            0
        };
        ensure!(
            cut + missed + slack >= kernel[0] && cut <= kernel[1] + slack && otherwise == Some(0),
            "CPU {}: time_squeeze {kernel:?}, traced {cut}, for the other reason {otherwise:?} (missed {missed})",
            cpu.cpu
        );
        all += cut;
    }
    let runs: u64 = report.cpus.iter().filter_map(|cpu| cpu.net_rx_runs).sum();
    ensure!(
        all > 0 && all <= runs,
        "{all} of {runs} runs were cut short"
    );
    let packets: u64 = report.cpus.iter().filter_map(|cpu| cpu.packets).sum();
    let polled: u64 = report.napi.iter().map(|napi| napi.packets).sum();
    let of_card: u64 = report
        .napi
        .iter()
        .filter(|napi| napi.device == Wire::RECEIVER_DEVICE)
        .map(|napi| napi.packets)
        .sum();
    ensure!(
        packets == polled && of_card <= arrived && of_card + missed >= arrived,
        "{packets} packets in runs, {polled} polled, {of_card} of the card's {arrived} (missed {missed}): {:#?}",
        report.napi
    );
    single_runs(&seen)?;
    concluded(limit, report)?;
    note(format_args!(
        "{arrived} packets, {runs} runs with {packets} packets, cut short {all}, time_squeeze {inner:?} to {outer:?}"
    ));
    Ok(())
}

/// The finding tells which limit it was and, as packets were lost beside it, which knob helps and which does not.
fn concluded(limit: &Limit, report: &Report) -> Result<()> {
    let found = findings::has(report, "time-squeeze")?;
    findings::says(found, &[limit.told])?;
    if found.severity != Severity::Info {
        findings::says(found, limit.knobs)?;
    }
    ensure!(
        found.severity != Severity::Info || !limit.loses,
        "packets were lost beside it: {}",
        findings::told(report)
    );
    findings::explained(report)?;
    kept::keep_report(limit.name, report)
}

/// Sets the first of these that the kernel accepts; also whether it is a limit that only a tick can end.
fn smallest(usecs: &[&str]) -> Result<(Setting, bool)> {
    let mut refused = None;
    for value in usecs {
        match Setting::change("/proc/sys/net/core/netdev_budget_usecs", value) {
            Ok(setting) => {
                note(format_args!("netdev_budget_usecs {value}"));
                return Ok((setting, *value != "0"));
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.context("no value")?)
}

/// The counters against the details, which are collected one by one.
fn single_runs(seen: &Bracket) -> Result<()> {
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Runs {
        count: u64,
        packets: u64,
        wait_unknown: u64,
        cut_short: u64,
    }
    #[derive(Debug, Default)]
    struct Longest {
        run_ns: u64,
        wait_ns: u64,
    }
    // Exact, or the end of its bucket, an eighth of it wide, if a longer one came before the window.
    let is_max = |counted: u64, exact: u64| counted >= exact && counted <= exact + exact / 8 + 1;
    let outcome = &seen.outcome;
    ensure!(
        outcome.summary.losses.ring_full == 0,
        "details were lost: {:?}",
        outcome.summary.losses
    );
    let mut singly: BTreeMap<u32, (Runs, Longest)> = BTreeMap::new();
    for event in &outcome.events {
        let What::NetRx {
            wait_ns,
            run_ns,
            packets,
            budget_exhausted,
            time_exhausted,
            ..
        } = event.what
        else {
            continue;
        };
        let (of, longest) = singly.entry(event.cpu).or_default();
        of.count += 1;
        of.packets += u64::from(packets);
        longest.run_ns = longest.run_ns.max(run_ns);
        longest.wait_ns = longest.wait_ns.max(wait_ns.unwrap_or(0));
        of.wait_unknown += u64::from(wait_ns.is_none());
        of.cut_short += u64::from(budget_exhausted) + u64::from(time_exhausted);
    }
    let mut waited = false;
    for cpu in &outcome.summary.cpus {
        let sum = |one: Option<u64>| one.unwrap_or(0);
        let counted = Runs {
            count: sum(cpu.net_rx_runs),
            packets: sum(cpu.packets),
            wait_unknown: sum(cpu.net_rx_wait_unknown),
            cut_short: sum(cpu.budget_exhausted) + sum(cpu.time_exhausted),
        };
        let (singly, longest) = singly.remove(&cpu.cpu).unwrap_or_default();
        let max_run = cpu.net_rx_run_ns.map_or(0, |run| run.max);
        let max_wait = cpu.net_rx_wait_ns.map_or(0, |wait| wait.max);
        ensure!(
            counted == singly
                && is_max(max_run, longest.run_ns)
                && is_max(max_wait, longest.wait_ns),
            "CPU {}: counted {counted:?}, {max_run}, {max_wait}; one by one {singly:?}, {longest:?}",
            cpu.cpu
        );
        if let Some(wait) = cpu.net_rx_wait_ns {
            ensure!(
                wait.p50 > 0
                    && wait.p50 <= wait.p99
                    && wait.p99 <= wait.max
                    && wait.max < outcome.summary.duration_ns,
                "CPU {}: wait {wait:?}",
                cpu.cpu
            );
            waited = true;
        }
    }
    ensure!(
        waited && seen.inner(Counter::NetRx) > 0,
        "no run with a known wait"
    );
    Ok(())
}

/// Rules that match nothing, for every packet that arrives.
pub(super) fn slow_down(netns: &Netns, rules: usize) -> Result<()> {
    if rules == 0 {
        return Ok(());
    }
    let mut text =
        "add table ip t; add chain ip t in { type filter hook input priority 0; }".to_owned();
    for _ in 0..rules {
        text.push_str("; add rule ip t in udp dport 1 drop");
    }
    let output = netns.run(|| Command::new("nft").arg(&text).output())??;
    ensure!(
        output.status.success(),
        "nft: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// `time_squeeze` by CPU id.
fn squeezes() -> Result<BTreeMap<u32, u64>> {
    let rows = softnet()?;
    Ok(rows
        .iter()
        .map(|(cpu, row)| (*cpu, u64::from(row.time_squeeze)))
        .collect())
}
