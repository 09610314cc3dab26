//! Rows made from windows by hand.

use std::collections::BTreeMap;

use tracer_common::counter::{CpuCounters, DropCounters, DropKey, NO_CPU, NO_REASON, NapiCounters};

use super::{super::Hooks, *};
use crate::{
    analyze::names::{Function, Kernel, Names},
    model::report::{Host, Softnet},
};

const OWN: u32 = 4_026_531_840;
const OTHER: u32 = 4_026_532_000;
const UDP: u64 = 1;
const TCP: u64 = 2;
const DESTROYED: u64 = 3;
const V4: u32 = 0x0800;
const V6: u32 = 0x86dd;

/// Drop reasons by number; none before 5.17.
struct Named(&'static [&'static str]);

const REASONS: &[&str] = &[
    "NOT_SPECIFIED",
    "NO_SOCKET",
    "SOCKET_RCVBUFF",
    "SOCKET_BACKLOG",
    "SOCKET_FILTER",
];

impl Kernel for Named {
    fn function(&self, return_address: u64) -> Option<Function> {
        let name = match return_address {
            UDP => "udp_queue_rcv_one_skb",
            TCP => "tcp_v4_rcv",
            DESTROYED => "udp_destruct_common",
            _ => return None,
        };
        Some(Function {
            name: name.to_owned(),
            module: None,
            offset: 1,
        })
    }

    fn reason(&self, number: u32) -> Option<String> {
        Some((*self.0.get(number as usize)?).to_owned())
    }
}

fn facts(reasons: &'static [&'static str]) -> Facts {
    let mut names = Names::new(Box::new(Named(reasons)));
    names.own_netns = OWN;
    Facts {
        host: Host::default(),
        node_of: BTreeMap::new(),
        names,
        irqs: BTreeMap::new(),
        devices: BTreeMap::new(),
        topology: None,
        interfaces: BTreeMap::new(),
        kinds: Vec::new(),
        budget_known: true,
        names_full_backlog: true,
        processes: Vec::new(),
        thresholds: crate::analyze::rules::threshold::Thresholds::default(),
        notes: Vec::new(),
    }
}

fn hooks() -> Hooks {
    Hooks {
        hard_irq: true,
        softirq: true,
        softirq_exit: true,
        net_rx: true,
        net_rx_action: false,
        raise: true,
        napi: true,
        drop: true,
        backlog: true,
    }
}

fn window(protocols: &[(&str, u64)]) -> Window {
    let protocols = protocols.iter().map(|(name, n)| ((*name).to_owned(), *n));
    Window {
        duration_ns: 1_000_000_000,
        protocols: protocols.collect(),
        ..Window::default()
    }
}

fn dropped(window: &mut Window, (at, reason): (u64, &str), netns: u32, v: u32, packets: u64) {
    let number = REASONS.iter().position(|name| *name == reason);
    let key = DropKey {
        location: at,
        reason: number.map_or(NO_REASON, |n| u32::try_from(n).unwrap()),
        ifindex: 1,
        netns,
        target_cpu: NO_CPU,
        protocol: v,
        reserved: 0,
    };
    let counters = DropCounters { packets, bytes: 0 };
    window.drops.insert(key, [(0, counters)].into());
}

fn row(window: &Window, facts: &Facts, counter: &str) -> Option<Reconciliation> {
    let mut rows = rows(window, facts, &hooks()).into_iter();
    rows.find(|row| row.counter == counter)
}

#[test]
fn a_full_udp_socket_is_one_drop_in_one_row() {
    let counted = [("Udp.RcvbufErrors", 40), ("Udp.InErrors", 40)];
    let mut window = window(&counted);
    dropped(&mut window, (UDP, "SOCKET_RCVBUFF"), OWN, V4, 40);
    let rows = rows(&window, &facts(REASONS), &hooks());
    let [row] = rows.as_slice() else {
        panic!("{rows:#?}");
    };
    assert_eq!(row.counter, "Udp.RcvbufErrors");
    assert_eq!((row.traced, row.residual), (Some(40), Some(0)));
}

#[test]
fn a_burst_between_the_reads_explains_as_much_as_was_counted_there_and_on_its_side_only() {
    let unexplained = |kernel, traced, end: u64| {
        let mut window = window(&[("Udp.InErrors", kernel), ("Udp.RcvbufErrors", kernel)]);
        dropped(&mut window, (UDP, "SOCKET_RCVBUFF"), OWN, V4, traced);
        let moved = [("Udp.RcvbufErrors".to_owned(), end)];
        window.between[1].protocols = moved.into();
        let row = row(&window, &facts(REASONS), "Udp.RcvbufErrors");
        row.and_then(|row| row.unexplained)
    };
    assert_eq!(unexplained(156, 134, 22), Some(0));
    assert_eq!(unexplained(156, 134, 20), Some(2));
    assert_eq!(unexplained(134, 156, 22), Some(22));
}

#[test]
fn what_udp_refused_for_another_reason_is_what_is_left_of_in_errors() {
    let protocols = [("Udp.RcvbufErrors", 40), ("Udp.InErrors", 43)];
    let mut window = window(&protocols);
    dropped(&mut window, (UDP, "SOCKET_RCVBUFF"), OWN, V4, 40);
    dropped(&mut window, (UDP, "SOCKET_FILTER"), OWN, V4, 3);
    let counter = "Udp.InErrors beyond RcvbufErrors, MemErrors, InCsumErrors";
    let row = row(&window, &facts(REASONS), counter).unwrap();
    assert_eq!((row.delta, row.residual), (3, Some(0)));
}

#[test]
fn drops_of_another_namespace_and_ip_version_are_none_of_its() {
    let mut window = window(&[("Udp.NoPorts", 5), ("Udp6.NoPorts", 7)]);
    dropped(&mut window, (UDP, "NO_SOCKET"), OWN, V4, 5);
    dropped(&mut window, (UDP, "NO_SOCKET"), OTHER, V4, 100);
    dropped(&mut window, (UDP, "NO_SOCKET"), OWN, V6, 7);
    let facts = facts(REASONS);
    for (counter, n) in [("Udp.NoPorts", 5), ("Udp6.NoPorts", 7)] {
        let row = row(&window, &facts, counter).unwrap();
        assert_eq!((row.delta, row.traced), (n, Some(n)), "{row:?}");
    }
}

#[test]
fn a_drop_whose_namespace_is_not_known_is_counted_and_may_explain_a_difference() {
    let mut window = window(&[("Udp.NoPorts", 5)]);
    dropped(&mut window, (UDP, "NO_SOCKET"), 0, V4, 8);
    let row = row(&window, &facts(REASONS), "Udp.NoPorts").unwrap();
    assert_eq!((row.residual, row.unexplained), (Some(-3), Some(0)));
    assert!(row.explanation.unwrap().contains("namespace"));
}

#[test]
fn a_counter_that_no_drop_stands_beside_is_unexplained_or_a_drop_without_reason() {
    let facts = facts(REASONS);
    let mut window = window(&[("TcpExt.TCPBacklogDrop", 9)]);
    let unexplained = |window: &Window| {
        let row = row(window, &facts, "TcpExt.TCPBacklogDrop").unwrap();
        row.unexplained
    };
    assert_eq!(unexplained(&window), Some(9));
    dropped(&mut window, (TCP, "SOCKET_BACKLOG"), OWN, V4, 5);
    dropped(&mut window, (TCP, "NOT_SPECIFIED"), OWN, V4, 3);
    assert_eq!(unexplained(&window), Some(1));
}

#[test]
fn without_reasons_udp_has_one_row_for_all_its_drops_and_tcp_says_why_none() {
    let mut window = window(&[
        ("Udp.RcvbufErrors", 40),
        ("Udp.InErrors", 40),
        ("Udp.NoPorts", 5),
        ("TcpExt.TCPBacklogDrop", 2),
    ]);
    dropped(&mut window, (UDP, ""), OWN, V4, 45);
    dropped(&mut window, (DESTROYED, ""), OWN, V4, 9);
    let facts = facts(&[]);
    let udp = row(&window, &facts, "Udp.InErrors + Udp.NoPorts").unwrap();
    assert_eq!((udp.delta, udp.residual), (45, Some(0)));
    assert!(row(&window, &facts, "Udp.RcvbufErrors").is_none());
    let tcp = row(&window, &facts, "TcpExt.TCPBacklogDrop").unwrap();
    assert_eq!(tcp.traced, None);
    assert!(tcp.explanation.unwrap().contains("no drop reason"));
}

#[test]
fn without_names_of_functions_nobody_can_tell_udp_from_others() {
    let mut window = window(&[("Udp.RcvbufErrors", 40)]);
    dropped(&mut window, (99, "SOCKET_RCVBUFF"), OWN, V4, 40);
    let row = row(&window, &facts(REASONS), "Udp.RcvbufErrors").unwrap();
    assert_eq!(row.traced, None);
    assert!(row.explanation.unwrap().contains("hidden"));
}

#[test]
fn a_listen_queue_that_was_full_is_counted_once_and_explained() {
    let window = window(&[("TcpExt.ListenOverflows", 12), ("TcpExt.ListenDrops", 12)]);
    let rows = rows(&window, &facts(REASONS), &hooks());
    let [row] = rows.as_slice() else {
        panic!("{rows:#?}");
    };
    assert_eq!((row.delta, row.traced), (12, None));
    assert!(row.explanation.is_some());
}

#[test]
fn nothing_counted_makes_no_row() {
    let mut window = window(&[("Ip.InReceives", 7)]);
    window.softnet.insert(0, Softnet::default());
    window.cpus.insert(0, Box::new(CpuCounters::ZERO));
    assert!(rows(&window, &facts(REASONS), &hooks()).is_empty());
}

fn polled(window: &mut Window, ifindex: u32, packets: u64) {
    let napi = NapiCounters {
        ifindex,
        packets,
        polls: 1,
        ..NapiCounters::default()
    };
    window.napi.entry(0).or_default().push(napi);
}

#[test]
fn packets_of_the_backlog_are_what_the_kernel_processed() {
    let mut window = window(&[]);
    let softnet = Softnet {
        processed: 500,
        ..Softnet::default()
    };
    window.softnet.insert(0, softnet);
    polled(&mut window, 0, 500);
    let facts = facts(REASONS);
    let processed = |window: &Window| row(window, &facts, "softnet_stat processed total").unwrap();
    assert_eq!(processed(&window).explanation, None);

    polled(&mut window, 2, 300);
    let merged = processed(&window);
    assert_eq!((merged.residual, merged.unexplained), (Some(-300), Some(0)));
    assert!(merged.explanation.unwrap().contains("GRO"));

    window.napi.clear();
    polled(&mut window, 0, 900);
    let lost = processed(&window);
    assert_eq!(lost.unexplained, Some(400 - 64), "{lost:?}");
}

#[test]
fn a_packet_that_a_bridge_hands_on_is_processed_twice() {
    let mut window = window(&[]);
    let softnet = Softnet {
        processed: 1000,
        ..Softnet::default()
    };
    window.softnet.insert(0, softnet);
    polled(&mut window, 0, 500);
    let row = row(&window, &facts(REASONS), "softnet_stat processed total").unwrap();
    assert_eq!((row.residual, row.unexplained), (Some(500), Some(0)));
    assert!(row.explanation.unwrap().contains("bridge"));
}

#[test]
fn packets_that_no_program_saw_are_not_put_down_to_a_bridge() {
    let mut window = window(&[]);
    let softnet = Softnet {
        processed: 1000,
        ..Softnet::default()
    };
    window.softnet.insert(0, softnet);
    polled(&mut window, 0, 500);
    let mut cpu = CpuCounters::ZERO;
    cpu.softirqs[3].runs = 50;
    window.cpus.insert(0, Box::new(cpu));
    window.softirqs = [("NET_RX".to_owned(), [(0, 70)].into())].into();
    let row = row(&window, &facts(REASONS), "softnet_stat processed total").unwrap();
    // 20 runs of 10 packets, less what was under way at a read.
    assert_eq!(row.unexplained, Some(20 * 10 - 64), "{row:?}");
}

#[test]
fn squeezed_runs_are_those_that_met_either_limit_but_for_a_tick() {
    let mut window = window(&[]);
    let softnet = Softnet {
        time_squeeze: 30,
        received_rps: Some(4),
        flow_limit: Some(6),
        ..Softnet::default()
    };
    window.softnet.insert(0, softnet);
    let mut cpu = CpuCounters::ZERO;
    (cpu.budget_exhausted, cpu.time_exhausted, cpu.net_rx_runs) = (20, 9, 100);
    window.cpus.insert(0, Box::new(cpu));
    let facts = facts(REASONS);
    let squeezed = row(&window, &facts, "softnet_stat time_squeeze total").unwrap();
    assert_eq!(
        (squeezed.residual, squeezed.unexplained),
        (Some(1), Some(0))
    );
    assert!(squeezed.explanation.unwrap().contains("tick"));
    for (counter, n) in [("received_rps", 4), ("flow_limit", 6)] {
        let row = row(&window, &facts, &format!("softnet_stat {counter} total")).unwrap();
        assert_eq!((row.delta, row.traced), (n, None));
        assert!(row.explanation.is_some());
    }
}
