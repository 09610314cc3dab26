//! Each rule where it has to fire and where it must not, on reports made by hand (synthetic).

mod any;

use std::collections::BTreeMap;

use super::{Case, RULES, diagnose, threshold::Thresholds};
use crate::{
    model::{
        finding::{Finding, Severity},
        report::{CpuTime, Drop, Irq, Napi, Percentiles, Reconciliation, Report, Stage},
        topology::{Coalesce, Irqbalance, Nic, Place, Process, Range, RxQueue, Topology, Vector},
    },
    report::{Style, fixture, text},
};

const SECOND: u64 = 1_000_000_000;

fn findings(report: &Report, host: &Topology) -> Vec<Finding> {
    let thresholds = Thresholds::default();
    diagnose(Case {
        report,
        host,
        thresholds: &thresholds,
    })
    .0
}

fn abstentions(report: &Report, host: &Topology) -> BTreeMap<String, String> {
    let thresholds = Thresholds::default();
    let (_, abstained) = diagnose(Case {
        report,
        host,
        thresholds: &thresholds,
    });
    abstained.into_iter().map(|a| (a.rule, a.why)).collect()
}

/// In the order told, folded ones behind what they follow from.
fn flat(findings: &[Finding]) -> Vec<&Finding> {
    let mut all = Vec::new();
    for finding in findings {
        all.push(finding);
        all.extend(flat(&finding.follows));
    }
    all
}

fn find<'a>(findings: &'a [Finding], rule: &str) -> Option<&'a Finding> {
    flat(findings)
        .into_iter()
        .find(|finding| finding.rule == rule)
}

fn commands(finding: &Finding) -> Vec<&str> {
    finding
        .advice
        .iter()
        .filter_map(|advice| advice.command.as_deref())
        .collect()
}

/// Two nodes of four cores with two threads each: CPU n and n + 8 are one core, 0-3 and 8-11 node 0.
fn two_nodes() -> BTreeMap<u32, Place> {
    let place = |cpu: u32| Place {
        online: true,
        node: Some(cpu % 8 / 4),
        package: Some(cpu % 8 / 4),
        core: Some(cpu % 4),
        siblings: vec![cpu % 8, cpu % 8 + 8],
        isolated: false,
    };
    (0..16).map(|cpu| (cpu, place(cpu))).collect()
}

/// A NIC with one vector a queue, queue n on `cpus[n]`, each RPS mask `rps`.
fn nic(host: &mut Topology, name: &str, node: u32, first_irq: u32, cpus: &[u32], rps: &[u32]) {
    let mut queues = BTreeMap::new();
    for (queue, cpu) in (0..).zip(cpus) {
        let irq = first_irq + queue;
        let vector = Vector {
            name: format!("{name}-TxRx-{queue}"),
            device: Some(name.into()),
            queue: Some(queue),
            node: Some(node),
            affinity: vec![*cpu],
            effective: vec![*cpu],
            managed: Some(false),
        };
        host.irqs.insert(irq, vector);
        let state = RxQueue {
            rps_cpus: rps.to_vec(),
            rps_flow_cnt: Some(0),
            irq: Some(irq),
            ..RxQueue::default()
        };
        queues.insert(queue, state);
    }
    let nic = Nic {
        ifindex: 2,
        driver: Some("ixgbe".into()),
        bus: Some("0000:81:00.0".into()),
        node: Some(node),
        rx_queues: queues,
        threaded: Some(false),
        ring: Some(Range {
            now: 512,
            max: Some(4_096),
        }),
        coalesce: Some(Coalesce {
            adaptive_rx: Some(false),
            rx_usecs: Some(3),
            rx_frames: None,
        }),
        ..Nic::default()
    };
    host.devices.insert(name.into(), nic);
}

fn host() -> Topology {
    let sysctls = [
        ("net.core.netdev_max_backlog", "1000"),
        ("net.core.netdev_budget", "300"),
        ("net.core.netdev_budget_usecs", "2000"),
        ("net.core.rmem_max", "212992"),
        ("net.core.somaxconn", "4096"),
        ("net.core.rps_sock_flow_entries", "0"),
        ("net.core.flow_limit_cpu_bitmap", "0000,000000ff"),
        ("net.netfilter.nf_conntrack_count", "1200"),
        ("net.netfilter.nf_conntrack_max", "262144"),
    ];
    Topology {
        cpus: two_nodes(),
        sysctls: sysctls
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Topology::default()
    }
}

/// Ten seconds of one device, `packets` and `busy` percent of NET_RX by CPU.
fn traffic(device: &str, first_irq: u32, by_cpu: &[(u32, u64, u64)]) -> Report {
    let mut report = fixture::healthy();
    let template = report.cpus[0].clone();
    report.duration_ns = 10 * SECOND;
    report.host.cpus = 16;
    report.host.nodes = 2;
    report.cpus = (0..16)
        .map(|id| {
            let load = by_cpu.iter().find(|(cpu, ..)| *cpu == id);
            let (packets, busy) = load.map_or((0, 0), |(_, packets, busy)| (*packets, *busy));
            let mut cpu = template.clone();
            cpu.cpu = id;
            cpu.node = Some(id % 8 / 4);
            cpu.hardirqs = Some(packets / 16);
            cpu.hardirq_ns = Some(packets / 16 * 1_000);
            cpu.net_rx_runs = Some(packets / 16);
            cpu.net_rx_ns = Some(10 * SECOND / 100 * busy);
            cpu.packets = Some(packets);
            cpu.net_rx_wait_ns = (packets > 0).then(|| wait(20_000));
            cpu.time = Some(CpuTime {
                user_ns: 20 * SECOND / 10,
                system_ns: SECOND / 10,
                softirq_ns: 10 * SECOND / 100 * busy,
                idle_ns: 10 * SECOND / 100 * (75_u64.saturating_sub(busy)),
                ..CpuTime::default()
            });
            if let Some(row) = &mut cpu.softnet {
                row.processed = packets;
            }
            cpu
        })
        .collect();
    report.irqs = (first_irq..)
        .zip(by_cpu)
        .zip(0..)
        .map(|((irq, (cpu, packets, _)), queue)| Irq {
            irq,
            name: format!("{device}-TxRx-{queue}"),
            device: Some(device.into()),
            queue: Some(queue),
            count: packets / 16,
            per_cpu: [(*cpu, packets / 16)].into(),
            ..Irq::default()
        })
        .collect();
    report.napi = by_cpu
        .iter()
        .map(|(cpu, packets, _)| Napi {
            device: device.into(),
            napi_id: Some(8_193 + cpu),
            polls: packets / 16,
            packets: *packets,
            full_budget: 0,
            per_cpu: [(*cpu, *packets)].into(),
        })
        .collect();
    report.devices[0].name = device.into();
    report.devices[0].rx_packets = by_cpu.iter().map(|(_, packets, _)| packets).sum();
    report
}

fn wait(p99: u64) -> Percentiles {
    Percentiles {
        p50: p99 / 4,
        p90: p99 / 2,
        p99,
        p999: p99 * 2,
        max: p99 * 4,
    }
}

fn refuse(report: &mut Report, device: &str, on: u32, target: u32, packets: u64) {
    if let Some(row) = &mut report.cpus[target as usize].softnet {
        row.dropped = packets;
    }
    report.drops = vec![drop(
        "enqueue_to_backlog",
        "CPU_BACKLOG",
        Stage::Backlog,
        packets,
    )];
    report.drops[0].device = Some(device.into());
    report.drops[0].per_cpu = [(on, packets)].into();
    report.drops[0].per_target_cpu = Some([(target, packets)].into());
}

fn drop(site: &str, reason: &str, stage: Stage, packets: u64) -> Drop {
    Drop {
        site: site.into(),
        reason: Some(reason.into()),
        device: Some("eth0".into()),
        protocol: "ipv4".into(),
        packets,
        per_cpu: [(4, packets)].into(),
        stage,
        ..Drop::default()
    }
}

fn redis(cpu: u32) -> Process {
    Process {
        pid: 812,
        name: "redis-server".into(),
        cpu_ns: 3 * SECOND,
        ran_on: [(cpu, 3 * SECOND)].into(),
        allowed: (0..16).collect(),
        ports: vec!["tcp/6379".into()],
        ..Process::default()
    }
}

/// The write-up's host: vectors, RPS masks and Redis on CPU 0, the NIC on node 1.
fn incident() -> (Report, Topology) {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[0, 0, 0, 0], &[0]);
    host.processes = vec![redis(0)];
    let mut report = traffic("eth0", 24, &[(0, 4_000_000, 94)]);
    report.irqs = (0..4)
        .map(|queue| Irq {
            irq: 24 + queue,
            device: Some("eth0".into()),
            queue: Some(queue),
            count: 60_000,
            per_cpu: [(0, 60_000)].into(),
            ..Irq::default()
        })
        .collect();
    refuse(&mut report, "eth0", 0, 0, 900_000);
    (report, host)
}

/// Eight queues, each on a core of its own on the NIC's node; a busy server everywhere else.
fn well_spread() -> (Report, Topology) {
    let mut host = host();
    let cpus = [4, 5, 6, 7];
    nic(&mut host, "eth0", 1, 24, &cpus, &[]);
    let mut server = redis(12);
    server.ran_on = (0..16).map(|cpu| (cpu, SECOND)).collect();
    server.cpu_ns = 16 * SECOND;
    host.processes = vec![server];
    let load: Vec<_> = cpus
        .iter()
        .map(|cpu| (*cpu, 3_000_000 + u64::from(*cpu) * 1_000, 40))
        .collect();
    (traffic("eth0", 24, &load), host)
}

#[test]
fn a_healthy_busy_well_spread_host_has_nothing_above_information() {
    let (mut report, mut host) = well_spread();
    report.cpus[4].softnet.as_mut().unwrap().time_squeeze = 12;
    host.irqbalance = Some(Irqbalance {
        pid: 600,
        ..Irqbalance::default()
    });
    report.drops = vec![
        drop("nf_hook_slow", "NETFILTER_DROP", Stage::Netfilter, 40),
        Drop {
            benign: true,
            ..drop("__udp4_lib_rcv", "NO_SOCKET", Stage::Udp, 12)
        },
    ];
    let findings = findings(&report, &host);
    for finding in flat(&findings) {
        assert_eq!(finding.severity, Severity::Info, "{finding:#?}");
    }
    let rules: Vec<_> = flat(&findings).iter().map(|f| f.rule.clone()).collect();
    assert_eq!(
        rules,
        ["time-squeeze", "irqbalance", "firewall", "ordinary-drops"]
    );
    let (report, host) = (fixture::healthy(), Topology::default());
    assert_eq!(self::findings(&report, &host), []);
}

#[test]
fn the_incident_is_told_in_the_order_of_cause_and_effect() {
    let (report, host) = incident();
    let findings = findings(&report, &host);
    let told: Vec<_> = flat(&findings)
        .iter()
        .map(|f| (f.rule.clone(), f.severity))
        .collect();
    assert_eq!(
        told,
        [
            ("single-cpu".to_owned(), Severity::Critical),
            ("backlog-overflow".to_owned(), Severity::Critical),
            ("shared-cpu".to_owned(), Severity::Warning),
            ("remote-node".to_owned(), Severity::Warning),
        ]
    );
    assert_eq!(findings.len(), 1);
    let style = Style {
        width: 100,
        ..Style::default()
    };
    let shown = Report {
        findings,
        ..Report::default()
    };
    let text = text::render(&shown, &style);
    let findings = text
        .split_once("critical")
        .and_then(|(_, rest)| rest.split_once("\n\n"));
    insta::assert_snapshot!(findings.unwrap().0);
}

/// Fires with this rule, at this severity.
fn fires(report: &Report, host: &Topology, rule: &str, severity: Severity) -> Finding {
    let all = findings(report, host);
    let found = find(&all, rule).unwrap_or_else(|| panic!("{rule} did not fire: {all:#?}"));
    assert_eq!(found.severity, severity, "{found:#?}");
    assert!(!found.evidence.is_empty() && !found.summary.is_empty());
    found.clone()
}

fn is_silent(report: &Report, host: &Topology, rule: &str) {
    let all = findings(report, host);
    let found = find(&all, rule);
    assert!(found.is_none(), "{found:#?}");
    let why = abstentions(report, host);
    assert!(!why.contains_key(rule), "{rule} abstained: {why:?}");
}

fn abstains(report: &Report, host: &Topology, rule: &str, word: &str) {
    let why = abstentions(report, host);
    let why = why
        .get(rule)
        .unwrap_or_else(|| panic!("{rule} did not abstain"));
    assert!(why.contains(word), "{why}");
}

#[test]
fn every_rule_has_an_id_of_its_own_and_follows_only_from_rules_before_it() {
    for (at, rule) in RULES.iter().enumerate() {
        assert!(rule.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        for cause in rule.causes {
            let before = RULES[..at].iter().any(|other| other.id == *cause);
            assert!(before, "{} before {}", cause, rule.id);
        }
        assert!(RULES[..at].iter().all(|other| other.id != rule.id));
    }
}

#[test]
fn one_cpu_at_its_limit_with_several_vectors_has_them_spread() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0, 0, 0, 0], &[]);
    let mut report = traffic("eth0", 24, &[(0, 4_000_000, 94)]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert_eq!(
        commands(&found)[0],
        "for v in 25:1 26:2 27:3; do echo ${v#*:} > /proc/irq/${v%%:*}/smp_affinity_list; done"
    );
    // Near miss: the same share, and time left.
    report.cpus[0].net_rx_ns = Some(8 * SECOND);
    report.cpus[0].time = None;
    is_silent(&report, &host, "single-cpu");
    // Near miss: two CPUs share the work.
    let report = traffic("eth0", 24, &[(0, 4_000_000, 94), (1, 4_000_000, 90)]);
    is_silent(&report, &host, "single-cpu");
    for cpu in &mut host.cpus.values_mut() {
        cpu.online = false;
    }
    let mut blind = report;
    for cpu in &mut blind.cpus {
        cpu.net_rx_ns = None;
    }
    abstains(&blind, &host, "single-cpu", "NET_RX");
}

#[test]
fn one_queue_of_several_at_its_limit_is_one_flow_and_cannot_be_split() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[4, 5, 6, 7], &[]);
    let report = traffic("eth0", 24, &[(4, 4_000_000, 96), (5, 9_000, 1)]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert!(
        found.will_not_help[0].contains("can split one flow"),
        "{found:#?}"
    );
    assert!(
        !commands(&found)
            .iter()
            .any(|c| c.contains("smp_affinity_list")),
        "{found:#?}"
    );
}

#[test]
fn a_device_with_one_queue_gets_rps_beside_the_interrupt_core() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[4], &[]);
    let report = traffic("eth0", 24, &[(4, 4_000_000, 96)]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    // Without CPU 4 and its sibling 12.
    assert_eq!(
        commands(&found)[0],
        "echo e0e0 > /sys/class/net/eth0/queues/rx-0/rps_cpus"
    );
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("echo 0 > /sys/class/net/eth0/queues/rx-0/rps_cpus")
    );
    assert!(commands(&found)[1].contains("net.core.rps_sock_flow_entries=32768"));
}

#[test]
fn managed_vectors_are_not_written() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0, 0, 0, 0], &[]);
    for vector in host.irqs.values_mut() {
        vector.managed = Some(true);
    }
    let report = traffic("eth0", 24, &[(0, 4_000_000, 94)]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert_eq!(commands(&found)[0], "ethtool -l eth0");
}

/// A veth pair without RPS: no vectors, the packets stay on CPU 3.
fn veth(busy: u64, packets: u64, refused: u64) -> (Report, Topology) {
    let mut host = host();
    let pair = Nic {
        driver: None,
        rx_queues: [(0, RxQueue::default())].into(),
        ..Nic::default()
    };
    host.devices.insert("veth0".into(), pair);
    let mut report = traffic("veth0", 24, &[(3, packets, busy)]);
    report.irqs.clear();
    refuse(&mut report, "veth0", 3, 3, refused);
    (report, host)
}

#[test]
fn a_burst_into_a_backlog_needs_a_larger_one_and_nothing_else() {
    let (report, host) = veth(30, 100_000, 2_000);
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert_eq!(
        commands(&found),
        ["sysctl -w net.core.netdev_max_backlog=2000"]
    );
    assert!(
        !found
            .will_not_help
            .iter()
            .any(|what| what.contains("alone")),
        "{found:#?}"
    );
    let (mut report, host) = veth(30, 100_000, 0);
    report.drops.clear();
    is_silent(&report, &host, "backlog-overflow");
}

#[test]
fn a_sustained_load_on_a_virtual_device_is_steered_first() {
    let (report, host) = veth(60, 100_000, 90_000);
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    let commands = commands(&found);
    // CPUs 0-2 and 8-10: of the same node, without CPU 3 and its sibling 11.
    assert_eq!(
        commands[0],
        "echo 707 > /sys/class/net/veth0/queues/rx-0/rps_cpus"
    );
    assert_eq!(
        commands.last(),
        Some(&"sysctl -w net.core.netdev_max_backlog=2000")
    );
    assert!(
        found.will_not_help[0].starts_with("a larger netdev_max_backlog alone"),
        "{found:#?}"
    );
    assert!(found.summary.contains("without RPS"), "{}", found.summary);
}

#[test]
fn an_rps_mask_on_a_full_cpu_is_widened_without_the_interrupt_core() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0], &[1]);
    let mut report = traffic("eth0", 24, &[(0, 900_000, 50), (1, 900_000, 60)]);
    refuse(&mut report, "eth0", 0, 1, 900_000);
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert!(
        found.summary.contains("target CPU 1 overflowed"),
        "{}",
        found.summary
    );
    assert!(
        found.summary.contains("steered there by RPS of eth0"),
        "{}",
        found.summary
    );
    assert_eq!(
        commands(&found)[0],
        "echo e0e > /sys/class/net/eth0/queues/rx-0/rps_cpus"
    );
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("echo 2 > /sys/class/net/eth0/queues/rx-0/rps_cpus")
    );
}

#[test]
fn the_flow_limit_is_told_from_the_size() {
    let (mut report, host) = veth(60, 100_000, 2_000);
    report.cpus[3].softnet.as_mut().unwrap().flow_limit = Some(2_000);
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert_eq!(
        commands(&found),
        ["sysctl -w net.core.flow_limit_cpu_bitmap=0"]
    );
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("sysctl -w net.core.flow_limit_cpu_bitmap=0000,000000ff")
    );
    assert!(found.will_not_help[0].contains("flow limit"), "{found:#?}");
}

#[test]
fn a_device_of_another_namespace_is_steered_there() {
    let (mut report, mut host) = veth(60, 100_000, 90_000);
    host.devices.clear();
    report.drops[0].netns = Some("red is".into());
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert!(
        commands(&found)[0].starts_with("ip netns exec 'red is' sh -c '"),
        "{found:#?}"
    );
    report.drops[0].netns = Some("4026532345".into());
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert_eq!(found.advice[0].command, None);
}

#[test]
fn without_softnet_rows_and_kfree_skb_nothing_is_said_about_backlogs() {
    let mut report = fixture::healthy();
    report.drop_totals.packets = None;
    for cpu in &mut report.cpus {
        cpu.softnet = None;
    }
    abstains(&report, &host(), "backlog-overflow", "softnet_stat");
    abstains(&report, &host(), "time-squeeze", "softnet_stat");
}

#[test]
fn a_squeeze_alone_is_information_and_beside_a_loss_names_the_limit() {
    let (mut report, host) = well_spread();
    is_silent(&report, &host, "time-squeeze");
    report.cpus[4].softnet.as_mut().unwrap().time_squeeze = 400;
    report.cpus[4].budget_exhausted = Some(390);
    let found = fires(&report, &host, "time-squeeze", Severity::Info);
    assert!(found.advice.is_empty(), "{found:#?}");
    report.devices[0].rx_missed = 5_000;
    let found = fires(&report, &host, "time-squeeze", Severity::Warning);
    assert_eq!(commands(&found), ["sysctl -w net.core.netdev_budget=600"]);
    (
        report.cpus[4].budget_exhausted,
        report.cpus[4].time_exhausted,
    ) = (Some(2), Some(390));
    let found = fires(&report, &host, "time-squeeze", Severity::Warning);
    assert_eq!(
        commands(&found),
        ["sysctl -w net.core.netdev_budget_usecs=4000"]
    );
    assert!(
        found.will_not_help[0].contains("a larger netdev_budget"),
        "{found:#?}"
    );
    let mut host = host;
    host.sysctls
        .insert("net.core.netdev_budget_usecs".into(), "300000".into());
    let found = fires(&report, &host, "time-squeeze", Severity::Warning);
    assert_eq!(commands(&found), [""; 0]);
}

#[test]
fn a_ring_overrun_by_bursts_wants_a_larger_ring_and_by_a_full_cpu_does_not() {
    let (mut report, host) = well_spread();
    is_silent(&report, &host, "ring-overrun");
    report.devices[0].driver_stats = [("rx_no_dma_resources".to_owned(), 88)].into();
    let found = fires(&report, &host, "ring-overrun", Severity::Critical);
    assert_eq!(commands(&found), ["ethtool -G eth0 rx 1024"]);
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("ethtool -G eth0 rx 512")
    );
    let mut host = self::host();
    nic(&mut host, "eth0", 0, 24, &[0, 0, 0, 0], &[]);
    let mut report = traffic("eth0", 24, &[(0, 4_000_000, 94)]);
    report.devices[0].rx_missed = 10_000;
    let all = findings(&report, &host);
    assert_eq!(all[0].rule, "single-cpu");
    let found = &all[0].follows[0];
    assert_eq!(found.rule, "ring-overrun");
    assert!(
        found.will_not_help[0].contains("a larger ring"),
        "{found:#?}"
    );
    assert_eq!(commands(found), [""; 0]);
    // An unrelated counter of the driver is none of this.
    let (mut report, host) = well_spread();
    report.devices[0].driver_stats = [("tx_timeout_count".to_owned(), 3)].into();
    is_silent(&report, &host, "ring-overrun");
}

#[test]
fn interrupts_on_another_node_are_moved_and_a_device_without_node_is_not_judged() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[0, 1], &[]);
    let report = traffic("eth0", 24, &[(0, 900_000, 20), (1, 900_000, 20)]);
    let found = fires(&report, &host, "remote-node", Severity::Warning);
    assert_eq!(
        commands(&found),
        ["for v in 24:4 25:5; do echo ${v#*:} > /proc/irq/${v%%:*}/smp_affinity_list; done"]
    );
    let mut near = self::host();
    nic(&mut near, "eth0", 0, 24, &[0, 1], &[]);
    is_silent(&report, &near, "remote-node");
    for vector in host.irqs.values_mut() {
        vector.node = None;
    }
    abstains(&report, &host, "remote-node", "−1");
}

#[test]
fn a_mask_that_the_hardware_does_not_follow_is_told() {
    let (report, mut host) = well_spread();
    is_silent(&report, &host, "effective-affinity");
    let vector = host.irqs.get_mut(&24).unwrap();
    vector.affinity = vec![4, 5, 6, 7];
    fires(&report, &host, "effective-affinity", Severity::Info);
    let vector = host.irqs.get_mut(&24).unwrap();
    vector.affinity = vec![6];
    let found = fires(&report, &host, "effective-affinity", Severity::Warning);
    assert_eq!(
        commands(&found)[1],
        "echo 6 > /proc/irq/24/smp_affinity_list"
    );
    for vector in host.irqs.values_mut() {
        vector.effective.clear();
    }
    abstains(
        &report,
        &host,
        "effective-affinity",
        "effective_affinity_list",
    );
}

#[test]
fn irqbalance_matters_where_interrupts_are_to_be_pinned() {
    let (report, mut host) = incident();
    is_silent(&report, &host, "irqbalance");
    host.irqbalance = Some(Irqbalance {
        pid: 600,
        args: vec![
            "/usr/sbin/irqbalance".into(),
            "--foreground".into(),
            "--policyscript=/x; reboot".into(),
        ],
        banned_irqs: vec![24],
    });
    let found = fires(&report, &host, "irqbalance", Severity::Warning);
    let command = commands(&found)[0];
    assert!(
        command.contains("'--banirq=25 --banirq=26 --banirq=27'"),
        "{command}"
    );
    assert!(!command.contains("reboot"), "{command}");
    if let Some(daemon) = &mut host.irqbalance {
        daemon.banned_irqs = vec![24, 25, 26, 27];
    }
    is_silent(&report, &host, "irqbalance");
}

#[test]
fn a_process_on_the_interrupt_cpu_is_named_and_moved() {
    let (report, mut host) = incident();
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert!(
        found
            .summary
            .starts_with("redis-server (pid 812, tcp/6379) shares CPU 0 with 4 vectors of eth0")
    );
    // A cpuset confines it: its unit, or its group's file.
    host.processes[0].allowed = vec![0, 1];
    host.processes[0].cpuset = Some("/system.slice/redis.service".into());
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert_eq!(
        commands(&found).last(),
        Some(&"systemctl set-property --runtime redis.service AllowedCPUs=6-7,14-15")
    );
    host.processes[0].cpuset = Some("/pods/redis".into());
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert_eq!(
        commands(&found).last(),
        Some(&"echo 6-7,14-15 > /sys/fs/cgroup/pods/redis/cpuset.cpus")
    );
    // Near misses: elsewhere, or hardly running.
    host.processes = vec![redis(6)];
    is_silent(&report, &host, "shared-cpu");
    host.processes = vec![Process {
        cpu_ns: SECOND / 100,
        ..redis(0)
    }];
    is_silent(&report, &host, "shared-cpu");
    host.processes.clear();
    abstains(&report, &host, "shared-cpu", "processes");
}

#[test]
fn a_late_softirq_has_a_rival() {
    let (mut report, mut host) = well_spread();
    is_silent(&report, &host, "softirq-wait");
    report.cpus[4].net_rx_wait_ns = Some(wait(3_000_000));
    host.processes = vec![Process {
        realtime: true,
        ..redis(4)
    }];
    let found = fires(&report, &host, "softirq-wait", Severity::Warning);
    assert!(commands(&found).contains(&"chrt -p 812"), "{found:#?}");
    // In a virtual machine without a rival nobody here can know.
    host.processes.clear();
    host.hypervisor = Some("kvm".into());
    fires(&report, &host, "softirq-wait", Severity::Info);
    report.cpus[4].net_rx_runs = Some(12);
    is_silent(&report, &host, "softirq-wait");
    report.cpus[5].ksoftirqd_runs = report.cpus[5].net_rx_runs;
    fires(&report, &host, "softirq-wait", Severity::Info);
}

#[test]
fn polling_without_interrupts_is_not_idleness() {
    let (mut report, host) = well_spread();
    is_silent(&report, &host, "sustained-polling");
    report.cpus[4].hardirqs = Some(40);
    let found = fires(&report, &host, "sustained-polling", Severity::Info);
    assert!(found.advice[0].step.contains("wait"));
    // Near miss: the packets come by RPS, which needs no interrupt here.
    for napi in &mut report.napi {
        napi.device = "backlog".into();
    }
    is_silent(&report, &host, "sustained-polling");
}

#[test]
fn threaded_napi_makes_net_rx_blind() {
    let (mut report, mut host) = well_spread();
    is_silent(&report, &host, "threaded-napi");
    let eth0 = host.devices.get_mut("eth0").unwrap();
    eth0.threaded = Some(true);
    eth0.rx_queues.get_mut(&0).unwrap().napi_pid = Some(77);
    report.cpus[4].packets_outside_net_rx = Some(9_000_000);
    let found = fires(&report, &host, "threaded-napi", Severity::Info);
    assert_eq!(
        commands(&found),
        ["for p in 77; do taskset -cp 4-7 $p; done"]
    );
    report.cpus[4].packets_outside_net_rx = Some(3);
    host.devices.get_mut("eth0").unwrap().threaded = Some(false);
    is_silent(&report, &host, "threaded-napi");
}

#[test]
fn an_interrupt_for_each_packet_is_too_many() {
    let (mut report, host) = well_spread();
    is_silent(&report, &host, "irq-rate");
    (report.irqs[0].count, report.irqs[0].per_cpu) = (600_000, [(4, 600_000)].into());
    // Near miss: many packets a poll.
    is_silent(&report, &host, "irq-rate");
    for napi in &mut report.napi {
        napi.polls = napi.packets;
    }
    let found = fires(&report, &host, "irq-rate", Severity::Info);
    assert_eq!(commands(&found), ["ethtool -C eth0 adaptive-rx on"]);
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("ethtool -C eth0 adaptive-rx off rx-usecs 3")
    );
    report.cpus[4].hardirq_ns = Some(4 * SECOND);
    fires(&report, &host, "irq-rate", Severity::Warning);
}

#[test]
fn a_full_socket_is_the_applications_and_no_interrupt_knob_is_advised() {
    let (mut report, host) = well_spread();
    is_silent(&report, &host, "slow-reader");
    report.protocols = [
        ("Udp.RcvbufErrors".to_owned(), 12),
        ("Udp.InErrors".to_owned(), 12),
    ]
    .into();
    report.drops = vec![drop(
        "udp_queue_rcv_one_skb",
        "SOCKET_RCVBUFF",
        Stage::Udp,
        12,
    )];
    let found = fires(&report, &host, "slow-reader", Severity::Critical);
    assert_eq!(commands(&found), ["sysctl -w net.core.rmem_max=425984"]);
    assert!(
        found.will_not_help[0].contains("interrupt affinity"),
        "{found:#?}"
    );
    // Beside a hundred times as many other losses it is not the first thing to look at.
    report.devices[0].rx_missed = 5_000;
    fires(&report, &host, "slow-reader", Severity::Warning);
    report.drop_totals.packets = None;
    report.protocols.clear();
    abstains(&report, &host, "slow-reader", "kfree_skb");
}

#[test]
fn queues_of_tcp_are_no_interrupt_problem() {
    let (mut report, host) = well_spread();
    is_silent(&report, &host, "socket-backlog");
    is_silent(&report, &host, "listen-overflow");
    report.protocols = [
        ("TcpExt.ListenOverflows".to_owned(), 40),
        ("TcpExt.TCPBacklogDrop".to_owned(), 9),
    ]
    .into();
    let found = fires(&report, &host, "listen-overflow", Severity::Critical);
    assert_eq!(
        commands(&found),
        ["ss -ltn", "sysctl -w net.core.somaxconn=8192"]
    );
    fires(&report, &host, "socket-backlog", Severity::Critical);
}

#[test]
fn a_connection_table_is_full_at_nine_tenths() {
    let (report, mut host) = well_spread();
    is_silent(&report, &host, "conntrack-full");
    host.sysctls
        .insert("net.netfilter.nf_conntrack_count".into(), "240000".into());
    let found = fires(&report, &host, "conntrack-full", Severity::Warning);
    assert_eq!(
        commands(&found),
        ["sysctl -w net.netfilter.nf_conntrack_max=524288"]
    );
    host.sysctls.remove("net.netfilter.nf_conntrack_max");
    abstains(&report, &host, "conntrack-full", "nf_conntrack_max");
}

#[test]
fn the_firewall_is_policy() {
    let (mut report, host) = well_spread();
    is_silent(&report, &host, "firewall");
    report.drops = vec![drop(
        "nf_hook_slow",
        "NETFILTER_DROP",
        Stage::Netfilter,
        4_000,
    )];
    fires(&report, &host, "firewall", Severity::Info);
}

#[test]
fn what_the_provider_limits_no_knob_changes() {
    let (mut report, host) = well_spread();
    report.devices[0].driver_stats = [("conntrack_allowance_available".to_owned(), 9_000)].into();
    is_silent(&report, &host, "cloud-limit");
    report.devices[0].driver_stats = [("pps_allowance_exceeded".to_owned(), 812)].into();
    let found = fires(&report, &host, "cloud-limit", Severity::Warning);
    assert!(
        found.summary.contains("packets per second"),
        "{}",
        found.summary
    );
    is_silent(&report, &host, "steal");
    report.cpus[4].time.as_mut().unwrap().steal_ns = 2 * SECOND;
    fires(&report, &host, "steal", Severity::Warning);
    for cpu in &mut report.cpus {
        cpu.time = None;
    }
    abstains(&report, &host, "steal", "/proc/stat");
}

#[test]
fn a_virtio_device_with_one_queue_needs_rps_or_more_queues() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0], &[]);
    let report = traffic("eth0", 24, &[(0, 400_000, 20)]);
    is_silent(&report, &host, "single-queue");
    host.devices.get_mut("eth0").unwrap().driver = Some("virtio_net".into());
    let found = fires(&report, &host, "single-queue", Severity::Info);
    assert_eq!(
        commands(&found)[0],
        "echo e0e > /sys/class/net/eth0/queues/rx-0/rps_cpus"
    );
    host.devices.get_mut("eth0").unwrap().channels = Some(Range {
        now: 1,
        max: Some(4),
    });
    let found = fires(&report, &host, "single-queue", Severity::Info);
    assert_eq!(commands(&found), ["ethtool -L eth0 combined 4"]);
    nic(&mut host, "eth0", 0, 24, &[0], &[1, 2]);
    host.devices.get_mut("eth0").unwrap().driver = Some("virtio_net".into());
    is_silent(&report, &host, "single-queue");
}

#[test]
fn ordinary_drops_are_listed_apart() {
    let found = fires(
        &fixture::benign_only(),
        &host(),
        "ordinary-drops",
        Severity::Info,
    );
    assert!(
        found
            .summary
            .starts_with("14 drops of packets are ordinary"),
        "{}",
        found.summary
    );
    is_silent(&fixture::healthy(), &host(), "ordinary-drops");
}

#[test]
fn a_residual_is_told_if_it_is_more_than_reads_can_differ_by() {
    let (mut report, host) = well_spread();
    let row = |unexplained: u64, delta| Reconciliation {
        counter: "eth0 rx_dropped".into(),
        delta,
        traced: Some(delta - unexplained),
        residual: Some(unexplained.cast_signed()),
        unexplained: Some(unexplained),
        explanation: None,
    };
    report.reconciliation.push(row(90, 10_000));
    is_silent(&report, &host, "residual");
    report.reconciliation.push(row(9, 20));
    is_silent(&report, &host, "residual");
    report.reconciliation.push(row(900, 10_000));
    let found = fires(&report, &host, "residual", Severity::Warning);
    assert!(
        found.summary.contains("9 % of eth0 rx_dropped"),
        "{}",
        found.summary
    );
    report.reconciliation.clear();
    abstains(&report, &host, "residual", "compared");
}

#[test]
fn a_threshold_decides() {
    let (report, host) = incident();
    let mut thresholds = Thresholds::default();
    thresholds.set("remote-rate=1000000".parse().unwrap());
    let (all, _) = diagnose(Case {
        report: &report,
        host: &host,
        thresholds: &thresholds,
    });
    assert_eq!(
        find(&all, "remote-node").map(|found| found.severity),
        Some(Severity::Info)
    );
}
