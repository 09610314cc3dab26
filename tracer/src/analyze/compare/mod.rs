//! Two runs side by side, by their traffic: did it get better?

mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tracer_common::{counter::CpuCounters, hist::BUCKETS};

use super::{missed, percentiles::percentiles};
use crate::{
    model::{
        finding::{Finding, Severity},
        report::{HookStatus, Percentiles, Report, SCHEMA},
        window::Window,
    },
    tune::baseline::MARGIN_PERCENT,
};

/// Traffic may differ by this factor.
const FACTOR: f64 = 2.0;
/// Fewer packets tell nothing about millionths.
const PACKETS: u64 = 100;
/// Times the counting noise that a change must exceed.
const NOISE: f64 = 2.0;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The report on it.
    pub report: &'a Report,
    /// What it was made from.
    pub window: &'a Window,
}

/// What came out: one JSON object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `comparison`.
    pub kind: String,
    /// As [`Report::schema`].
    pub schema: u32,
    /// The outcome.
    pub verdict: Verdict,
    /// The same in one sentence.
    pub summary: String,
    /// Why they cannot be compared; empty if they can.
    pub not_comparable: Vec<String>,
    /// What counts as a packet on both sides.
    pub packets_from: String,
    /// Earlier run.
    pub before: Run,
    /// Later run.
    pub after: Run,
    /// Drops by cause, those that changed most first. Packets, not rates.
    pub causes: Vec<Cause>,
    /// By CPU id.
    pub cpus: Vec<CpuShare>,
    /// What is set otherwise.
    pub settings: Vec<Change>,
    /// Conclusions of the one that the other does not have, and those of both.
    pub findings: Findings,
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Fewer drops per packet.
    Better,
    /// More.
    Worse,
    /// As many, but for chance and a tenth.
    Same,
    /// The two cannot be compared.
    NotComparable,
    /// Drops were not traced.
    Unknown,
}

/// One run in numbers that do not depend on its length. `null`: not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Host, kernel.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Begin, ns since the Unix epoch.
    pub start_unix_ns: u64,
    /// Length, ns.
    pub duration_ns: u64,
    /// Packets that came.
    pub packets: u64,
    /// The same by second.
    pub packets_per_s: f64,
    /// Drops that are not ordinary, those without an entry included.
    pub drops: Option<u64>,
    /// The same by million packets.
    pub drops_per_million: Option<f64>,
    /// Lost in the NIC (`rx_missed_errors`).
    pub missed: u64,
    /// The same by million packets.
    pub missed_per_million: Option<f64>,
    /// Device interrupts by thousand packets.
    pub hardirqs_per_thousand: Option<f64>,
    /// From the raise of `NET_RX` to its entry, all CPUs together.
    pub net_rx_wait_ns: Option<Percentiles>,
    /// From entry to exit.
    pub net_rx_run_ns: Option<Percentiles>,
}

/// Drops at one place for one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// Function.
    pub site: String,
    /// Drop reason.
    pub reason: Option<String>,
    /// Packets.
    pub before: u64,
    /// Packets.
    pub after: u64,
    /// By million packets.
    pub before_per_million: Option<f64>,
    /// By million packets.
    pub after_per_million: Option<f64>,
}

/// Share of all `NET_RX` time, percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuShare {
    /// CPU id.
    pub cpu: u32,
    /// Percent.
    pub before: f64,
    /// Percent.
    pub after: f64,
}

/// A setting of the host that is not what it was; `null`: there was or is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `net.core.netdev_max_backlog`, `eth0 rx-0 rps_cpus`, `IRQ eth0-rx-0 affinity`, …
    pub setting: String,
    /// Then.
    pub before: Option<String>,
    /// Later.
    pub after: Option<String>,
}

/// Conclusions by whether both runs have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Of the earlier run only.
    pub gone: Vec<Told>,
    /// Of the later run only.
    pub new: Vec<Told>,
    /// Of both; as the later run tells it.
    pub kept: Vec<Told>,
}

/// A finding in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Rule.
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// In words.
    pub summary: String,
}

/// Compares.
#[must_use]
pub fn compare(before: Side<'_>, after: Side<'_>) -> Comparison {
    let traffic = Traffic::of(before.report, after.report);
    let not_comparable = not_comparable(before.report, after.report, &traffic);
    let sides = (run(before, traffic.before), run(after, traffic.after));
    let verdict = if not_comparable.is_empty() {
        verdict(&sides.0, &sides.1)
    } else {
        Verdict::NotComparable
    };
    Comparison {
        kind: "comparison".to_owned(),
        schema: SCHEMA,
        verdict,
        summary: summary(verdict, &sides.0, &sides.1, &not_comparable),
        not_comparable,
        packets_from: traffic.from.to_owned(),
        causes: causes(before.report, after.report, &traffic),
        cpus: cpus(before.report, after.report),
        settings: settings::changes(before.report, after.report),
        findings: findings(&before.report.findings, &after.report.findings),
        before: sides.0,
        after: sides.1,
    }
}

/// How many packets came, counted in the same way on both sides.
struct Traffic {
    from: &'static str,
    before: u64,
    after: u64,
}

impl Traffic {
    fn of(before: &Report, after: &Report) -> Self {
        let (b, a) = (from_devices(before), from_devices(after));
        // A trickle on a card says nothing about packets that come from elsewhere.
        let stack = (from_softnet(before), from_softnet(after));
        let cards_tell = b.saturating_mul(2) >= stack.0 && a.saturating_mul(2) >= stack.1;
        let restricted = !before.interfaces.is_empty();
        if b > 0 && a > 0 && (restricted || cards_tell) {
            Self {
                from: "rx_packets + rx_missed of the cards",
                before: b,
                after: a,
            }
        } else {
            Self {
                from: "softnet_stat processed + dropped",
                before: stack.0,
                after: stack.1,
            }
        }
    }
}

/// Devices on a bus only, for what bonds, bridges and VLANs count passed a card before; those of `--interface`
/// whatever they are.
fn from_devices(report: &Report) -> u64 {
    let restricted = !report.interfaces.is_empty();
    let devices = report.devices.iter();
    devices
        .filter(|d| restricted || d.driver.is_some())
        .map(|d| d.rx_packets.saturating_add(d.rx_missed))
        .sum()
}

fn from_softnet(report: &Report) -> u64 {
    let rows = report.cpus.iter().filter_map(|cpu| cpu.softnet);
    rows.map(|row| row.processed.saturating_add(row.dropped))
        .sum()
}

fn not_comparable(before: &Report, after: &Report, traffic: &Traffic) -> Vec<String> {
    let mut why = Vec::new();
    let mut differ = |what: &str, b: &dyn std::fmt::Display, a: &dyn std::fmt::Display| {
        why.push(format!("{what}: {b} before, {a} after"));
    };
    if before.host.name != after.host.name {
        differ("another host", &before.host.name, &after.host.name);
    }
    if before.host.kernel != after.host.kernel {
        differ("another kernel", &before.host.kernel, &after.host.kernel);
    }
    if before.host.nodes != after.host.nodes {
        differ(
            "another machine, NUMA nodes",
            &before.host.nodes,
            &after.host.nodes,
        );
    }
    if before.interfaces != after.interfaces {
        let named = |report: &Report| match report.interfaces.as_slice() {
            [] => "all".to_owned(),
            names => names.join(", "),
        };
        differ("other devices", &named(before), &named(after));
    }
    let covers = |report: &Report| attached(report, "kfree_skb");
    if covers(before) != covers(after) {
        why.push("drops were traced in one of them only".to_owned());
    }
    if traffic.before < PACKETS || traffic.after < PACKETS {
        why.push(format!(
            "too few packets: {} before, {} after, {PACKETS} are needed",
            traffic.before, traffic.after
        ));
    } else {
        let rate = |packets, report: &Report| per_second(packets, report.duration_ns);
        let (b, a) = (rate(traffic.before, before), rate(traffic.after, after));
        let factor = (b / a).max(a / b);
        if factor > FACTOR {
            why.push(format!(
                "other traffic: {b:.0} packets/s before, {a:.0} after, a factor of {factor:.1}; up to {FACTOR} can be \
                 compared"
            ));
        }
    }
    why
}

fn attached(report: &Report, hook: &str) -> bool {
    let mut hooks = report.hooks.iter();
    hooks.any(|h| h.name == hook && h.status == HookStatus::Attached)
}

fn per_second(n: u64, ns: u64) -> f64 {
    n as f64 / (ns.max(1) as f64 / 1e9)
}

fn by(n: u64, packets: u64, of: f64) -> Option<f64> {
    (packets > 0).then(|| n as f64 / packets as f64 * of)
}

fn drops(report: &Report) -> Option<u64> {
    let totals = &report.drop_totals;
    let harmful = totals.harmful?;
    Some(harmful.saturating_add(totals.unattributed.unwrap_or(0)))
}

fn run(side: Side<'_>, packets: u64) -> Run {
    let Side { report, window } = side;
    let drops = drops(report);
    let missed = missed::packets(report);
    let hardirqs: Option<u64> = report
        .cpus
        .iter()
        .filter_map(|cpu| cpu.hardirqs)
        .reduce(|a, b| a + b);
    let merged = |histogram: fn(&CpuCounters) -> &[u64; BUCKETS], max: fn(&CpuCounters) -> u64| {
        let mut sum = [0u64; BUCKETS];
        for cpu in window.cpus.values() {
            for (sum, n) in sum.iter_mut().zip(histogram(cpu)) {
                *sum = sum.saturating_add(*n);
            }
        }
        let max = window.cpus.values().map(|cpu| max(cpu)).max()?;
        percentiles(&sum, max, false)
    };
    Run {
        host: report.host.name.clone(),
        kernel: report.host.kernel.clone(),
        start_unix_ns: report.start_unix_ns,
        duration_ns: report.duration_ns,
        packets,
        packets_per_s: per_second(packets, report.duration_ns),
        drops,
        drops_per_million: drops.and_then(|n| by(n, packets, 1e6)),
        missed,
        missed_per_million: by(missed, packets, 1e6),
        hardirqs_per_thousand: hardirqs.and_then(|n| by(n, packets, 1e3)),
        net_rx_wait_ns: merged(|c| &c.net_rx_wait_hist, |c| c.net_rx_wait_max_ns),
        net_rx_run_ns: merged(|c| &c.net_rx_run_hist, |c| c.net_rx_run_max_ns),
    }
}

/// Whether drops changed by more than counting them twice would, and by more than [`MARGIN_PERCENT`]: drops come in
/// bursts, which differ by more than single packets do. Losses in the NIC count too: a larger backlog is no
/// cure if the ring then overflows.
fn verdict(before: &Run, after: &Run) -> Verdict {
    let (Some(b), Some(a)) = (before.drops, after.drops) else {
        return Verdict::Unknown;
    };
    let (b, a) = (
        b.saturating_add(before.missed) as f64,
        a.saturating_add(after.missed) as f64,
    );
    let scale = after.packets as f64 / before.packets.max(1) as f64;
    let expected = b * scale;
    let noise = NOISE * (a + b * scale * scale).sqrt();
    let margin = noise.max(expected * f64::from(MARGIN_PERCENT) / 100.0);
    if a > expected + margin {
        Verdict::Worse
    } else if a < expected - margin {
        Verdict::Better
    } else {
        Verdict::Same
    }
}

fn summary(verdict: Verdict, before: &Run, after: &Run, why: &[String]) -> String {
    let lost = |run: &Run| {
        let drops = run.drops.unwrap_or(0).saturating_add(run.missed);
        rate(by(drops, run.packets, 1e6))
    };
    let change = format!(
        "{} → {} lost per million packets",
        lost(before),
        lost(after)
    );
    match verdict {
        Verdict::Better => format!("better: {change}"),
        Verdict::Worse => format!("worse: {change}"),
        Verdict::Same => format!("no difference in losses beyond chance and a tenth: {change}"),
        Verdict::Unknown => "drops were not traced: nothing to judge by".to_owned(),
        Verdict::NotComparable => format!("not comparable: {}", why.join("; ")),
    }
}

/// A rate in words; three digits are enough.
#[must_use]
pub fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "?".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.2}"),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; above 2^64 it saturates"
        )]
        Some(rate) => crate::report::number::count(rate.round() as u64),
    }
}

fn causes(before: &Report, after: &Report, traffic: &Traffic) -> Vec<Cause> {
    let mut all: BTreeMap<(&str, Option<&str>), [u64; 2]> = BTreeMap::new();
    for (at, report) in [before, after].into_iter().enumerate() {
        for drop in report.drops.iter().filter(|drop| !drop.benign) {
            let cause = (drop.site.as_str(), drop.reason.as_deref());
            let packets = &mut all.entry(cause).or_default()[at];
            *packets = packets.saturating_add(drop.packets);
        }
    }
    let mut causes: Vec<_> = all
        .into_iter()
        .map(|((site, reason), [b, a])| Cause {
            site: site.to_owned(),
            reason: reason.map(str::to_owned),
            before: b,
            after: a,
            before_per_million: by(b, traffic.before, 1e6),
            after_per_million: by(a, traffic.after, 1e6),
        })
        .collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.before.max(cause.after)));
    causes
}

fn cpus(before: &Report, after: &Report) -> Vec<CpuShare> {
    let shares = |report: &Report| -> BTreeMap<u32, f64> {
        let times = report
            .cpus
            .iter()
            .map(|cpu| (cpu.cpu, cpu.net_rx_ns.unwrap_or(0)));
        let times: BTreeMap<u32, u64> = times.collect();
        let all: u64 = times.values().sum();
        let share = |ns| ns as f64 / all.max(1) as f64 * 100.0;
        times
            .into_iter()
            .map(|(cpu, ns)| (cpu, share(ns)))
            .collect()
    };
    let (before, after) = (shares(before), shares(after));
    let ids: BTreeSet<u32> = before.keys().chain(after.keys()).copied().collect();
    let of = |shares: &BTreeMap<u32, f64>, cpu| shares.get(cpu).copied().unwrap_or(0.0);
    ids.iter()
        .map(|cpu| CpuShare {
            cpu: *cpu,
            before: of(&before, cpu),
            after: of(&after, cpu),
        })
        .filter(|share| share.before > 0.0 || share.after > 0.0)
        .collect()
}

/// Every finding and those that follow from it.
fn flat(findings: &[Finding]) -> Vec<Told> {
    let told = |finding: &Finding| Told {
        rule: finding.rule.clone(),
        severity: finding.severity,
        summary: finding.summary.clone(),
    };
    let with_followers = |finding: &Finding| {
        let mut all = vec![told(finding)];
        all.extend(flat(&finding.follows));
        all
    };
    findings.iter().flat_map(with_followers).collect()
}

fn findings(before: &[Finding], after: &[Finding]) -> Findings {
    let (before, after) = (flat(before), flat(after));
    let has = |all: &[Told], one: &Told| all.iter().any(|other| other.rule == one.rule);
    let gone = before
        .iter()
        .filter(|one| !has(&after, one))
        .cloned()
        .collect();
    let (kept, new) = after.into_iter().partition(|one| has(&before, one));
    Findings { gone, new, kept }
}
