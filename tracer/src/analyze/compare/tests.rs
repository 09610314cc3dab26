//! Comparisons of reports made by hand.

use super::*;
use crate::model::{
    report::{Cpu, Drop, DropTotals, Hook, Host, Softnet},
    topology::{Topology, Vector},
};

/// A run of 10 s that got so many packets and dropped some.
fn report(packets: u64, drops: u64) -> Report {
    Report {
        host: Host {
            name: "web7".to_owned(),
            kernel: "6.12.1".to_owned(),
            cpus: 2,
            nodes: 1,
            ..Host::default()
        },
        duration_ns: 10_000_000_000,
        hooks: vec![Hook {
            name: "kfree_skb".to_owned(),
            status: HookStatus::Attached,
            ..Hook::default()
        }],
        cpus: vec![Cpu {
            hardirqs: Some(packets / 10),
            net_rx_ns: Some(500),
            softnet: Some(Softnet {
                processed: packets - drops,
                dropped: drops,
                ..Softnet::default()
            }),
            ..Cpu::default()
        }],
        drops: vec![Drop {
            site: "enqueue_to_backlog".to_owned(),
            reason: Some("CPU_BACKLOG".to_owned()),
            packets: drops,
            ..Drop::default()
        }],
        drop_totals: DropTotals {
            harmful: Some(drops),
            ..DropTotals::default()
        },
        ..Report::default()
    }
}

fn compared(before: &Report, after: &Report) -> Comparison {
    let window = Window::default();
    let side = |report| Side {
        report,
        window: &window,
    };
    compare(side(before), side(after))
}

#[test]
fn drops_are_judged_by_packets_and_not_by_time() {
    let before = report(1_000_000, 10_000);
    let longer = Report {
        duration_ns: 20_000_000_000,
        ..report(2_000_000, 20_000)
    };
    assert_eq!(compared(&before, &longer).verdict, Verdict::Same);
    let better = compared(&before, &report(1_500_000, 100));
    assert_eq!(better.verdict, Verdict::Better);
    assert_eq!(better.before.drops_per_million, Some(10_000.0));
    assert_eq!(better.before.hardirqs_per_thousand, Some(100.0));
    assert!(
        better.summary.starts_with("better: 10,000 → 66.7 lost"),
        "{}",
        better.summary
    );
    assert_eq!(
        compared(&before, &report(1_000_000, 11_100)).verdict,
        Verdict::Worse
    );
}

#[test]
fn a_tenth_more_or_less_of_many_drops_is_no_difference() {
    let verdict =
        |drops| compared(&report(10_000_000, 1_000_000), &report(10_000_000, drops)).verdict;
    assert_eq!(verdict(1_090_000), Verdict::Same);
    assert_eq!(verdict(910_000), Verdict::Same);
    assert_eq!(verdict(1_110_000), Verdict::Worse);
    assert_eq!(verdict(890_000), Verdict::Better);
}

#[test]
fn a_few_drops_more_are_chance() {
    let few = |drops| report(1_000_000, drops);
    assert_eq!(compared(&few(0), &few(1)).verdict, Verdict::Same);
    assert_eq!(compared(&few(0), &few(10)).verdict, Verdict::Worse);
    assert_eq!(compared(&few(100), &few(115)).verdict, Verdict::Same);
    assert_eq!(compared(&few(0), &few(0)).verdict, Verdict::Same);
}

#[test]
fn losses_that_moved_into_the_card_are_no_cure() {
    let mut after = report(1_000_000, 0);
    after.devices = vec![crate::model::report::Device {
        rx_missed: 10_000,
        ..crate::model::report::Device::default()
    }];
    assert_eq!(
        compared(&report(1_000_000, 1000), &after).verdict,
        Verdict::Worse
    );
}

#[test]
fn other_hosts_kernels_and_traffic_are_not_compared() {
    let before = report(1_000_000, 10);
    let why = |after: Report| {
        let comparison = compared(&before, &after);
        assert_eq!(comparison.verdict, Verdict::NotComparable);
        comparison.summary
    };
    let mut host = before.clone();
    host.host.name = "db1".to_owned();
    assert!(why(host).contains("another host: web7 before, db1 after"));
    let mut kernel = before.clone();
    kernel.host.kernel = "7.2".to_owned();
    assert!(why(kernel).contains("another kernel"));
    assert!(why(report(2_100_000, 10)).contains("a factor of 2.1"));
    assert!(why(report(400_000, 10)).contains("a factor of 2.5"));
    assert!(why(report(10, 1)).contains("too few packets"));
    let mut untraced = before.clone();
    untraced.hooks.clear();
    assert!(why(untraced).contains("in one of them only"));
}

#[test]
fn causes_settings_and_findings_are_put_side_by_side() {
    let finding = |rule: &str| Finding {
        rule: rule.to_owned(),
        ..Finding::default()
    };
    let topology = |backlog: &str, affinity| Topology {
        sysctls: [("net.core.netdev_max_backlog".to_owned(), backlog.to_owned())].into(),
        irqs: [(
            41,
            Vector {
                name: "eth0-rx-0".to_owned(),
                affinity: vec![affinity],
                effective: vec![0],
                ..Vector::default()
            },
        )]
        .into(),
        ..Topology::default()
    };
    let mut before = report(1_000_000, 1000);
    before.topology = Some(topology("1000", 0));
    before.findings = vec![Finding {
        follows: vec![finding("squeeze")],
        ..finding("backlog-overflow")
    }];
    let mut after = report(1_000_000, 0);
    after.topology = Some(topology("10000", 1));
    after.findings = vec![finding("squeeze"), finding("single-cpu")];
    let comparison = compared(&before, &after);
    let settings: Vec<_> = comparison
        .settings
        .iter()
        .map(|c| c.setting.as_str())
        .collect();
    assert_eq!(
        settings,
        ["IRQ 41 eth0-rx-0 affinity", "net.core.netdev_max_backlog"]
    );
    let rules = |told: &[Told]| told.iter().map(|t| t.rule.clone()).collect::<Vec<_>>();
    let findings = &comparison.findings;
    assert_eq!(rules(&findings.gone), ["backlog-overflow"]);
    assert_eq!(rules(&findings.new), ["single-cpu"]);
    assert_eq!(rules(&findings.kept), ["squeeze"]);
    let cause = &comparison.causes[0];
    assert_eq!((cause.before, cause.after), (1000, 0));
    let text = crate::report::compare::render(&comparison, &crate::report::Style::default());
    assert!(text.contains("1000 → 10000"), "{text}");
}
