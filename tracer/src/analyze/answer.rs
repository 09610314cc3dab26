//! The first line of the report: the answer in one sentence, claiming nothing that is not known.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::fate::fate;
use super::missed;
use super::rules::threshold::{Key, Thresholds};
use crate::model::report::{Cpu, Drop, HookStatus, PerCpu, Report, Stage};
use crate::report::number::{self, count, of, percent, ranges, span};

/// One CPU with more than this share of all `NET_RX` time is named, in percent.
const CONCENTRATED: Key = Key::NetRxShare;
/// A CPU takes part in `NET_RX` from this share of its time on, in percent.
const TAKES_PART_PERCENT: u64 = 1;

/// A CPU that spends more than this share of the window in `NET_RX` is busy, in percent.
const BUSY: Key = Key::SoftirqBusy;

/// What the host did with its packets in the window.
#[must_use]
pub fn answer(report: &Report) -> String {
    let mut parts = vec![drops(report)];
    parts.extend(missed_by_card(report));
    parts.extend(net_rx(report).filter(|_| cpus_matter(report)));
    parts.join("; ")
}

fn drops(report: &Report) -> String {
    let Some(traced) = report.drop_totals.packets else {
        return unknown(report);
    };
    let harmful = group(report, false);
    let on = interfaces(report);
    let unattributed = report.drop_totals.unattributed.unwrap_or(0);
    if let Some(worst) = harmful.first() {
        let mut words = refused(report, worst).unwrap_or_else(|| dropped(report, worst));
        if let Some(others) = others(report, &harmful) {
            let _ = write!(words, "; also {others}");
        }
        if unattributed > 0 {
            let _ = write!(words, "; {} more at unknown sites", count(unattributed));
        }
        if let Some(kernel) =
            softnet_refused(report).filter(|_| !harmful.iter().any(Site::is_full_backlog))
        {
            let _ = write!(words, "; softnet_stat counts {kernel}");
        }
        return words;
    }
    let lasted = span(report.duration_ns);
    if unattributed > 0 {
        return format!(
            "{} dropped at unknown sites in {lasted} (drop table full)",
            of(unattributed, "packet")
        );
    }
    let mut words = match ordinary(report) {
        Some(ordinary) => format!("no harmful drops{on} in {lasted}; {ordinary}"),
        None if traced == 0 && !any_traffic(report) => {
            format!("no drops and no packets{on} in {lasted}")
        }
        None => format!("no drops{on} in {lasted}"),
    };
    let other = report.drop_totals.other_devices.unwrap_or(0);
    if other > 0 {
        // What is not listed is only counted: nobody knows which of it is ordinary.
        let _ = write!(
            words,
            "; {} elsewhere, ordinary ones included",
            count(other)
        );
    } else if let Some(kernel) = softnet_refused(report) {
        words = format!("no drops traced{on} in {lasted}, but softnet_stat counts {kernel}");
    }
    words
}

/// Whether the spread of `NET_RX` has to do with the answer. A full socket or a firewall has
/// nothing to do with it, unless a CPU was at its limit, too.
fn cpus_matter(report: &Report) -> bool {
    let most = u128::from(Thresholds::changed_to(&report.thresholds).get(BUSY));
    let harmful = group(report, false);
    let Some(worst) = harmful.first() else {
        return true;
    };
    worst.is_full_backlog()
        || report.devices.iter().any(|device| device.rx_missed > 0)
        || report.cpus.iter().any(|cpu| {
            let busy = u128::from(cpu.net_rx_ns.unwrap_or(0)) * 100;
            busy > most * u128::from(report.duration_ns)
                || cpu.softnet.is_some_and(|row| row.time_squeeze > 0)
        })
}

/// `29,115 UDP packets found the receive buffer of a socket full (SOCKET_RCVBUFF at
/// udp_queue_rcv_one_skb) on eth1`; without words for the reason, where they were dropped.
fn dropped(report: &Report, site: &Site<'_>) -> String {
    let on = devices(report, site);
    let words = site.reason.and_then(|reason| {
        let fate = fate(reason, site.packets)?;
        let packets = of(site.packets, site.noun());
        Some(format!("{packets} {fate} ({reason} at {})", site.function))
    });
    let words = words.unwrap_or_else(|| {
        let packets = of(site.packets, "packet");
        format!("{packets} dropped at {}", site.place())
    });
    words + &on
}

/// All sites but the worst: the second by its cause, the others as a sum. `None` if they are less
/// than half a percent: the table tells, the sentence need not.
fn others(report: &Report, harmful: &[Site<'_>]) -> Option<String> {
    let all = packets(harmful);
    let (_, rest) = harmful.split_first()?;
    if u128::from(packets(rest)) * 200 <= u128::from(all) {
        return None;
    }
    let (second, rest) = rest.split_first()?;
    let mut words = count(second.packets);
    let backlogs = Some(backlog_cpus(report, second))
        .filter(|cpus| second.is_full_backlog() && !cpus.is_empty());
    let fate = second.reason.and_then(|reason| {
        let fate = fate(reason, second.packets)?;
        Some(format!(" {fate} ({reason})"))
    });
    match (backlogs.as_deref(), fate) {
        (Some([cpu]), _) => {
            let _ = write!(words, " refused by CPU {cpu}'s full backlog");
        }
        (Some(cpus), _) => {
            let cpus = ranges(cpus.iter().copied());
            let _ = write!(words, " refused by the full backlogs of CPUs {cpus}");
        }
        (None, Some(fate)) => words += &fate,
        (None, None) => {
            let _ = write!(words, " at {}", second.place());
        }
    }
    if !rest.is_empty() {
        let places = if rest.len() == 1 { "place" } else { "places" };
        let _ = write!(
            words,
            " and {} at {} other {places}",
            count(packets(rest)),
            rest.len()
        );
    }
    Some(words)
}

fn packets(sites: &[Site<'_>]) -> u64 {
    sites
        .iter()
        .fold(0, |sum: u64, site| sum.saturating_add(site.packets))
}

/// `kfree_skb` is not there: what the kernel's own counters still say.
fn unknown(report: &Report) -> String {
    let hook = report.hooks.iter().find(|hook| hook.name == "kfree_skb");
    let why = match hook.map(|hook| hook.status) {
        Some(HookStatus::Failed) => "kfree_skb could not be attached",
        Some(HookStatus::Skipped) => "kfree_skb is switched off",
        Some(HookStatus::Attached) | None => "kfree_skb was not counted",
    };
    match softnet_refused(report) {
        Some(kernel) => format!("drops unknown: {why}; softnet_stat counts {kernel}"),
        None if report.cpus.iter().any(|cpu| cpu.softnet.is_some()) => {
            format!("drops unknown: {why}; softnet_stat counts no packet refused")
        }
        None => format!("drops unknown: {why}"),
    }
}

/// Drops at one function for one reason, over all devices and protocols.
struct Site<'a> {
    function: &'a str,
    reason: Option<&'a str>,
    stage: Stage,
    packets: u64,
    /// By target CPU, as far as known.
    targets: PerCpu,
    /// By device and its namespace; without a device an empty name.
    devices: BTreeMap<String, u64>,
}

impl Site<'_> {
    /// Where names are hidden the stage is not known, but the reason has one place only.
    fn is_full_backlog(&self) -> bool {
        match self.reason {
            Some(reason) => reason == "CPU_BACKLOG",
            None => self.stage == Stage::Backlog,
        }
    }

    fn place(&self) -> String {
        match self.reason {
            Some(reason) => format!("{} ({reason})", self.function),
            None => self.function.to_owned(),
        }
    }

    fn noun(&self) -> &'static str {
        match self.stage {
            Stage::Tcp => "TCP packet",
            Stage::Udp => "UDP packet",
            _ => "packet",
        }
    }
}

/// `eth1@receiver`, the namespace only if it is not tracer's own; `None` if the packets had no device.
#[must_use]
pub fn device_of(drop: &Drop) -> Option<String> {
    Some(named(drop.device.as_deref()?, drop.netns.as_deref()))
}

/// `eth1@receiver`; without a namespace the name alone.
#[must_use]
pub fn named(device: &str, netns: Option<&str>) -> String {
    match netns {
        Some(netns) => format!("{device}@{netns}"),
        None => device.to_owned(),
    }
}

/// Sites with most packets first.
fn group(report: &Report, benign: bool) -> Vec<Site<'_>> {
    let mut sites: BTreeMap<(&str, Option<&str>), Site<'_>> = BTreeMap::new();
    for drop in report
        .drops
        .iter()
        .filter(|drop| drop.benign == benign && drop.packets > 0)
    {
        let Drop {
            site,
            reason,
            stage,
            ..
        } = drop;
        let entry = sites
            .entry((site, reason.as_deref()))
            .or_insert_with(|| Site {
                function: site,
                reason: reason.as_deref(),
                stage: *stage,
                packets: 0,
                targets: PerCpu::new(),
                devices: BTreeMap::new(),
            });
        entry.packets = entry.packets.saturating_add(drop.packets);
        let name = device_of(drop).unwrap_or_default();
        let on_device = entry.devices.entry(name).or_default();
        *on_device = on_device.saturating_add(drop.packets);
        for (cpu, packets) in drop.per_target_cpu.iter().flatten() {
            let target = entry.targets.entry(*cpu).or_default();
            *target = target.saturating_add(*packets);
        }
    }
    let mut sites: Vec<_> = sites.into_values().collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.packets));
    sites
}

/// A full backlog, told by the CPU it belongs to. `None` if this is none or the CPU is not known.
fn refused(report: &Report, site: &Site<'_>) -> Option<String> {
    if !site.is_full_backlog() {
        return None;
    }
    let cpus = backlog_cpus(report, site);
    let offered = offered(report, &cpus, site.packets);
    let of_all = offered
        .map(|all| format!(" of {}", count(all)))
        .unwrap_or_default();
    let who = match cpus.as_slice() {
        [] => return None,
        several => number::cpus(several.iter().copied()),
    };
    let noun = if offered.is_none() && site.packets == 1 {
        "packet"
    } else {
        "packets"
    };
    Some(format!(
        "{who} refused {}{of_all} {noun} at {}{}",
        count(site.packets),
        site.place(),
        devices(report, site)
    ))
}

/// CPUs whose backlog refused the packets of `site`; none if nobody knows.
fn backlog_cpus(report: &Report, site: &Site<'_>) -> Vec<u32> {
    let known = site
        .targets
        .values()
        .fold(0, |sum: u64, n| sum.saturating_add(*n));
    if known == site.packets {
        let refusing = site.targets.iter().filter(|(_, n)| **n > 0);
        return refusing.map(|(cpu, _)| *cpu).collect();
    }
    // The target was not traced for all: the kernel's rows say which CPUs refused anything at all.
    let rows = softnet_rows(report);
    if rows.len() > 1 && !report.interfaces.is_empty() {
        return Vec::new();
    }
    rows.into_keys().collect()
}

/// ` on eth1@redis and eth2`: devices with at least half a percent of the packets, the first with
/// most. Empty if the packets had none.
fn devices(report: &Report, site: &Site<'_>) -> String {
    let mut devices: Vec<(&str, u64)> = site
        .devices
        .iter()
        .map(|(name, n)| (name.as_str(), *n))
        .filter(|(_, n)| u128::from(*n) * 200 >= u128::from(site.packets))
        .collect();
    devices.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
    match devices.as_slice() {
        [] | [("", _), ..] => interfaces(report),
        [(one, _)] => format!(" on {one}"),
        [(one, _), rest @ ..] if rest.iter().any(|(name, _)| name.is_empty()) => {
            format!(" on {one} and elsewhere")
        }
        [(one, _), (two, _)] => format!(" on {one} and {two}"),
        [(one, _), rest @ ..] => format!(" on {one} and {} other devices", rest.len()),
    }
}

/// Packets that came to these CPUs, refused ones included. Unknown for a selection of devices: the
/// kernel's rows hold all of them.
fn offered(report: &Report, cpus: &[u32], refused: u64) -> Option<u64> {
    if !report.interfaces.is_empty() {
        return None;
    }
    let mut all = refused;
    for cpu in cpus {
        let row = report.cpus.iter().find(|row| row.cpu == *cpu)?.softnet?;
        all = all.saturating_add(row.processed);
    }
    Some(all)
}

/// `12 ordinary ones (NO_SOCKET)`.
fn ordinary(report: &Report) -> Option<String> {
    let sites = group(report, true);
    let packets = sites
        .iter()
        .fold(0, |sum: u64, site| sum.saturating_add(site.packets));
    let mut names: Vec<&str> = Vec::new();
    for site in &sites {
        let name = site.reason.unwrap_or(site.function);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let listed = match names.as_slice() {
        [] => return None,
        [one] => (*one).to_owned(),
        [one, two] => format!("{one}, {two}"),
        [one, rest @ ..] => format!("{one} and {} other reasons", rest.len()),
    };
    let noun = if packets == 1 { "one" } else { "ones" };
    Some(format!("{} ordinary {noun} ({listed})", count(packets)))
}

/// `29,115 refused by CPU 1`, from the kernel's own rows; `None` if there is none.
fn softnet_refused(report: &Report) -> Option<String> {
    let rows = softnet_rows(report);
    let packets = rows.values().fold(0, |sum: u64, n| sum.saturating_add(*n));
    let cpus = if rows.len() == 1 { "CPU" } else { "CPUs" };
    (packets > 0).then(|| {
        format!(
            "{} refused by {cpus} {}",
            count(packets),
            ranges(rows.into_keys())
        )
    })
}

/// CPUs whose backlog refused anything.
fn softnet_rows(report: &Report) -> PerCpu {
    let rows = report
        .cpus
        .iter()
        .filter_map(|cpu| cpu.softnet.map(|row| (cpu.cpu, row.dropped)));
    rows.filter(|(_, dropped)| *dropped > 0).collect()
}

/// Packets that no `sk_buff` was ever made for.
fn missed_by_card(report: &Report) -> Option<String> {
    let worst = missed::devices(report)
        .filter(|device| device.rx_missed > 0)
        .max_by_key(|device| device.rx_missed)?;
    Some(format!(
        "{} missed {} for want of ring space",
        worst.name,
        of(worst.rx_missed, "packet")
    ))
}

fn net_rx(report: &Report) -> Option<String> {
    let online = report.cpus.iter().filter(|cpu| cpu.online).count();
    let times: Vec<(&Cpu, u64)> = report
        .cpus
        .iter()
        .filter_map(|cpu| Some((cpu, cpu.net_rx_ns?)))
        .collect();
    let total = times
        .iter()
        .fold(0, |sum: u64, (_, ns)| sum.saturating_add(*ns));
    if online < 2 || total == 0 {
        return None;
    }
    let share = |ns: u64| u128::from(ns) * 100;
    let concentrated = Thresholds::changed_to(&report.thresholds).get(CONCENTRATED);
    let (busiest, ns) = times.iter().max_by_key(|(_, ns)| *ns)?;
    if share(*ns) > u128::from(concentrated) * u128::from(total) {
        return Some(format!(
            "CPU {} took {} of NET_RX time",
            busiest.cpu,
            percent(*ns, total)
        ));
    }
    let harmless = report.drop_totals.packets.is_some() && group(report, false).is_empty();
    let taking_part = times
        .iter()
        .filter(|(_, ns)| share(*ns) >= u128::from(TAKES_PART_PERCENT) * u128::from(total))
        .count();
    harmless.then(|| format!("NET_RX is spread over {taking_part} CPUs"))
}

fn any_traffic(report: &Report) -> bool {
    // Unknown counts as traffic: "no packets" is a claim.
    report.devices.is_empty()
        || report.devices.iter().any(|device| device.rx_packets > 0)
        || report
            .cpus
            .iter()
            .any(|cpu| cpu.packets != Some(0) || cpu.net_rx_runs.is_none())
}

fn interfaces(report: &Report) -> String {
    match report.interfaces.as_slice() {
        [] => String::new(),
        names => format!(" on {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::{Device, DropTotals, Hook, Host, Softnet};

    fn cpu(cpu: u32, net_rx_ns: u64, refused: u64) -> Cpu {
        Cpu {
            cpu,
            online: true,
            net_rx_runs: Some(net_rx_ns / 1_000),
            net_rx_ns: Some(net_rx_ns),
            packets: Some(net_rx_ns / 1_000),
            softnet: Some(Softnet {
                processed: 430_997,
                dropped: refused,
                ..Softnet::default()
            }),
            ..Cpu::default()
        }
    }

    fn report(cpus: Vec<Cpu>, drops: Vec<Drop>) -> Report {
        let sum = |benign| {
            drops
                .iter()
                .filter(|drop| drop.benign == benign)
                .map(|drop| drop.packets)
                .sum::<u64>()
        };
        Report {
            host: Host {
                cpus: 4,
                nodes: 1,
                ..Host::default()
            },
            duration_ns: 10_000_000_000,
            drop_totals: DropTotals {
                packets: Some(sum(true) + sum(false)),
                harmful: Some(sum(false)),
                benign: Some(sum(true)),
                ..DropTotals::default()
            },
            cpus,
            drops,
            ..Report::default()
        }
    }

    fn backlog(packets: u64, targets: Option<PerCpu>) -> Drop {
        Drop {
            site: "enqueue_to_backlog".into(),
            reason: Some("CPU_BACKLOG".into()),
            stage: Stage::Backlog,
            packets,
            per_target_cpu: targets,
            ..Drop::default()
        }
    }

    #[test]
    fn a_backlog_drop_is_charged_to_the_target_cpu() {
        let report = report(
            vec![cpu(0, 0, 0), cpu(1, 0, 29_115)],
            vec![backlog(29_115, Some([(1, 29_115)].into()))],
        );
        assert_eq!(
            answer(&report),
            "CPU 1 refused 29,115 of 460,112 packets at enqueue_to_backlog (CPU_BACKLOG)"
        );
    }

    #[test]
    fn where_the_target_was_not_traced_the_softnet_rows_say_which_cpu() {
        let report = report(
            vec![cpu(0, 0, 0), cpu(1, 0, 29_115)],
            vec![backlog(29_115, None)],
        );
        assert!(answer(&report).starts_with("CPU 1 refused 29,115"));
    }

    #[test]
    fn a_backlog_drop_of_unknown_target_names_no_cpu() {
        let report = report(vec![cpu(0, 0, 0), cpu(1, 0, 0)], vec![backlog(5, None)]);
        assert_eq!(
            answer(&report),
            "5 packets found the backlog of a CPU full (CPU_BACKLOG at enqueue_to_backlog)"
        );
    }

    #[test]
    fn with_a_selection_of_devices_no_total_is_claimed() {
        let mut report = report(
            vec![cpu(0, 0, 0), cpu(1, 0, 29_115)],
            vec![backlog(29_115, Some([(1, 29_115)].into()))],
        );
        report.interfaces = vec!["eth0".into()];
        assert_eq!(
            answer(&report),
            "CPU 1 refused 29,115 packets at enqueue_to_backlog (CPU_BACKLOG) on eth0"
        );
    }

    #[test]
    fn where_names_are_hidden_the_kernels_own_count_stands_beside_the_address() {
        let drop = Drop {
            site: "0xffffffff81a3c1f3".into(),
            packets: 5,
            ..Drop::default()
        };
        let report = report(vec![cpu(0, 0, 0), cpu(1, 0, 5)], vec![drop]);
        assert_eq!(
            answer(&report),
            "5 packets dropped at 0xffffffff81a3c1f3; softnet_stat counts 5 refused by CPU 1"
        );
    }

    #[test]
    fn a_device_that_is_not_ready_is_not_called_a_full_backlog() {
        let mut drop = backlog(7, Some([(1, 7)].into()));
        drop.reason = Some("DEV_READY".into());
        let report = report(vec![cpu(0, 0, 0), cpu(1, 0, 0)], vec![drop]);
        assert_eq!(
            answer(&report),
            "7 packets dropped at enqueue_to_backlog (DEV_READY)"
        );
    }

    #[test]
    fn several_refusing_cpus_are_all_named() {
        let report = report(
            vec![cpu(0, 0, 5), cpu(1, 0, 0), cpu(2, 0, 5), cpu(3, 0, 5)],
            vec![backlog(15, Some([(0, 5), (2, 5), (3, 5)].into()))],
        );
        assert!(
            answer(&report).starts_with("CPUs 0,2-3 refused 15 of 1,293,006 packets at"),
            "{}",
            answer(&report)
        );
    }

    #[test]
    fn the_worst_cause_is_told_in_words_and_the_second_beside_it() {
        let socket = |packets, site: &str| Drop {
            site: site.into(),
            reason: Some("SOCKET_RCVBUFF".into()),
            packets,
            stage: Stage::Udp,
            ..Drop::default()
        };
        let report = report(
            vec![cpu(0, 0, 0)],
            vec![
                socket(600, "udp_queue_rcv_one_skb"),
                socket(400, "udp_queue_rcv_one_skb"),
                Drop {
                    reason: None,
                    ..socket(20, "tcp_v4_rcv")
                },
            ],
        );
        assert_eq!(
            answer(&report),
            "1,000 UDP packets found the receive buffer of a socket full \
             (SOCKET_RCVBUFF at udp_queue_rcv_one_skb); also 20 at tcp_v4_rcv"
        );
    }

    #[test]
    fn a_full_socket_is_told_with_its_device_and_without_the_cpus() {
        let socket = Drop {
            site: "udp_queue_rcv_one_skb".into(),
            reason: Some("SOCKET_RCVBUFF".into()),
            device: Some("svb".into()),
            netns: Some("str_b".into()),
            packets: 19_758,
            stage: Stage::Udp,
            ..Drop::default()
        };
        let report = report(
            vec![cpu(0, 3_000_000, 0), cpu(1, 97_000_000, 2_442)],
            vec![socket, backlog(2_442, Some([(1, 2_442)].into()))],
        );
        assert_eq!(
            answer(&report),
            "19,758 UDP packets found the receive buffer of a socket full \
             (SOCKET_RCVBUFF at udp_queue_rcv_one_skb) on svb@str_b; \
             also 2,442 refused by CPU 1's full backlog"
        );
    }

    #[test]
    fn a_backlog_drop_names_its_device() {
        let on = |device: &str, packets| Drop {
            device: Some(device.into()),
            ..backlog(packets, Some([(1, packets)].into()))
        };
        let told = |drops| answer(&report(vec![cpu(0, 0, 0), cpu(1, 0, 29_115)], drops));
        assert!(told(vec![on("rx0", 995), on("if2", 5)]).ends_with("(CPU_BACKLOG) on rx0 and if2"));
        assert!(told(vec![on("rx0", 996), on("if2", 4)]).ends_with("(CPU_BACKLOG) on rx0"));
        assert!(
            told(vec![on("rx0", 9), on("a", 1), on("b", 1)])
                .ends_with("on rx0 and 2 other devices")
        );
    }

    #[test]
    fn drops_outside_the_selected_devices_may_be_ordinary() {
        let mut report = report(vec![cpu(0, 0, 0)], vec![]);
        report.interfaces = vec!["lo".into()];
        report.drop_totals.packets = Some(59_872);
        report.drop_totals.other_devices = Some(59_872);
        assert_eq!(
            answer(&report),
            "no drops on lo in 10 s; 59,872 elsewhere, ordinary ones included"
        );
    }

    #[test]
    fn ordinary_drops_are_no_harmful_drops() {
        let drop = Drop {
            site: "udp_rcv".into(),
            reason: Some("NO_SOCKET".into()),
            packets: 12,
            benign: true,
            ..Drop::default()
        };
        let report = report(vec![cpu(0, 0, 0)], vec![drop]);
        assert_eq!(
            answer(&report),
            "no harmful drops in 10 s; 12 ordinary ones (NO_SOCKET)"
        );
    }

    #[test]
    fn a_healthy_host_is_told_how_its_net_rx_is_spread() {
        let report = report((0..4).map(|n| cpu(n, 1_000_000, 0)).collect(), vec![]);
        assert_eq!(
            answer(&report),
            "no drops in 10 s; NET_RX is spread over 4 CPUs"
        );
    }

    #[test]
    fn a_single_cpu_that_takes_it_all_is_named() {
        let report = report(vec![cpu(0, 97_000_000, 0), cpu(1, 3_000_000, 0)], vec![]);
        assert_eq!(
            answer(&report),
            "no drops in 10 s; CPU 0 took 97 % of NET_RX time"
        );
    }

    #[test]
    fn the_only_cpu_of_a_host_is_not_called_concentrated() {
        let report = report(vec![cpu(0, 97_000_000, 0)], vec![]);
        assert_eq!(answer(&report), "no drops in 10 s");
    }

    #[test]
    fn without_kfree_skb_drops_are_unknown_and_softnet_speaks() {
        let mut report = report(vec![cpu(0, 0, 0), cpu(1, 0, 29_115)], vec![]);
        report.drop_totals = DropTotals::default();
        report.hooks = vec![Hook {
            name: "kfree_skb".into(),
            status: HookStatus::Failed,
            ..Hook::default()
        }];
        assert_eq!(
            answer(&report),
            "drops unknown: kfree_skb could not be attached; softnet_stat counts 29,115 refused by CPU 1"
        );
    }

    #[test]
    fn a_refusal_only_the_kernel_counted_is_not_passed_over() {
        let report = report(vec![cpu(0, 0, 0), cpu(1, 0, 3)], vec![]);
        assert_eq!(
            answer(&report),
            "no drops traced in 10 s, but softnet_stat counts 3 refused by CPU 1"
        );
    }

    #[test]
    fn a_full_nic_ring_is_named_although_it_drops_no_sk_buff() {
        let mut report = report(vec![cpu(0, 0, 0)], vec![]);
        report.devices = vec![Device {
            name: "eth0".into(),
            rx_packets: 9,
            rx_missed: 1_200,
            ..Device::default()
        }];
        assert_eq!(
            answer(&report),
            "no drops in 10 s; eth0 missed 1,200 packets for want of ring space"
        );
    }

    #[test]
    fn a_bond_is_not_named_for_what_its_slaves_missed() {
        let mut report = report(vec![cpu(0, 0, 0)], vec![]);
        let device = |name: &str, driver: Option<&str>, rx_missed| Device {
            name: name.into(),
            driver: driver.map(str::to_owned),
            rx_missed,
            ..Device::default()
        };
        report.devices = vec![
            device("bond0", None, 1_300),
            device("eth0", Some("ice"), 1_200),
            device("eth1", Some("ice"), 100),
        ];
        let answer = answer(&report);
        assert!(answer.contains("; eth0 missed 1,200 packets"), "{answer}");
    }

    #[test]
    fn a_host_without_packets_is_not_praised() {
        let mut report = report(vec![cpu(0, 0, 0)], vec![]);
        report.devices = vec![Device {
            name: "eth0".into(),
            ..Device::default()
        }];
        assert_eq!(answer(&report), "no drops and no packets in 10 s");
    }

    #[test]
    fn drops_that_found_no_room_in_the_table_are_still_drops() {
        let mut report = report(vec![cpu(0, 0, 0)], vec![]);
        report.drop_totals.packets = Some(8);
        report.drop_totals.unattributed = Some(8);
        assert_eq!(
            answer(&report),
            "8 packets dropped at unknown sites in 10 s (drop table full)"
        );
    }
}
