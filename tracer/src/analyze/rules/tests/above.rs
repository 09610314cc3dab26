//! Losses above the interrupt path, outside of the host, or none at all.

use super::*;

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
fn packets_of_ipv4_and_of_ipv6_that_found_a_socket_full_add_up() {
    let (mut report, host) = well_spread();
    report.protocols = [
        ("Udp.RcvbufErrors".to_owned(), 700),
        ("Udp6.RcvbufErrors".to_owned(), 500),
    ]
    .into();
    let found = fires(&report, &host, "slow-reader", Severity::Critical);
    assert!(
        found.summary.starts_with("1,200 packets"),
        "{}",
        found.summary
    );
    // Traced, they are the same packets.
    report.drops = vec![drop(
        "udp_queue_rcv_one_skb",
        "SOCKET_RCVBUFF",
        Stage::Udp,
        1_200,
    )];
    let found = fires(&report, &host, "slow-reader", Severity::Critical);
    assert!(
        found.summary.starts_with("1,200 packets"),
        "{}",
        found.summary
    );
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
fn a_firewall_is_seen_by_the_function_where_the_kernel_gives_no_reasons() {
    let (mut report, mut host) = well_spread();
    let at = |site: &str, stage, packets| Drop {
        reason: None,
        ..drop(site, "", stage, packets)
    };
    let udp = at("udp_queue_rcv_one_skb", Stage::Udp, 9);
    let filter = at("nf_hook_slow", Stage::Netfilter, 4_000);
    report.drops = vec![udp.clone(), filter];
    let found = fires(&report, &host, "firewall", Severity::Info);
    assert!(found.summary.contains("4,000 packets"), "{}", found.summary);
    assert!(
        found.evidence[0].what.contains("no reason given"),
        "{found:#?}"
    );
    host.sysctls
        .insert("net.netfilter.nf_conntrack_count".into(), "262144".into());
    fires(&report, &host, "conntrack-full", Severity::Critical);
    // Not one of them was in netfilter.
    report.drops = vec![udp.clone()];
    is_silent(&report, &host, "firewall");
    // Where names are hidden it may have been.
    report.drops = vec![udp, at("0xffffffff81a0b3c4", Stage::Other, 4_000)];
    abstains(&report, &host, "firewall", "reason");
    report.drops[0].reason = Some("SOCKET_RCVBUFF".into());
    is_silent(&report, &host, "firewall");
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
