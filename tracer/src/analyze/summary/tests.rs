//! Reports made from windows by hand.

use tracer_common::counter::{
    CpuCounters, DropCounters, DropKey, IrqCounters, NO_CPU, NO_REASON, NapiCounters,
};

use super::*;
use crate::{
    analyze::names::{Function, Kernel},
    model::{
        report::{Hook, Reconciliation, Softnet},
        topology::{Nic, Range},
        window::Counted,
    },
    proc::netdev::NetDevice,
};

const BACKLOG: u64 = 0x100;
const UDP: u64 = 0x200;
const CPU_BACKLOG: u32 = 5;
const NO_SOCKET: u32 = 7;
const OWN: u32 = 4_026_531_840;

/// A kernel with two functions; without names if `hidden`.
struct Two {
    hidden: bool,
}

impl Kernel for Two {
    fn function(&self, return_address: u64) -> Option<Function> {
        let name = match return_address {
            _ if self.hidden => return None,
            BACKLOG => "enqueue_to_backlog",
            UDP => "__udp4_lib_rcv",
            _ => return None,
        };
        Some(Function {
            name: name.to_owned(),
            module: None,
            offset: 0x10,
        })
    }

    fn reason(&self, number: u32) -> Option<String> {
        let name = match number {
            CPU_BACKLOG => "CPU_BACKLOG",
            NO_SOCKET => "NO_SOCKET",
            _ => return None,
        };
        Some(name.to_owned())
    }
}

fn facts(hidden: bool) -> Facts {
    let mut names = Names::new(Box::new(Two { hidden }));
    names.own_netns = OWN;
    names.devices.insert((OWN, 2), "eth0".to_owned());
    Facts {
        host: Host::default(),
        node_of: BTreeMap::new(),
        names,
        irqs: BTreeMap::new(),
        devices: BTreeMap::new(),
        topology: None,
        interfaces: BTreeMap::new(),
        kinds: Kind::ALL.to_vec(),
        budget_known: true,
        names_full_backlog: true,
        processes: Vec::new(),
        thresholds: Thresholds::default(),
        notes: Vec::new(),
    }
}

fn attached(names: &[&str]) -> Vec<Hook> {
    names
        .iter()
        .map(|name| Hook {
            name: (*name).to_owned(),
            status: HookStatus::Attached,
            missed: Some(0),
            ..Hook::default()
        })
        .collect()
}

/// No counter has moved.
fn zero() -> Box<CpuCounters> {
    Box::new(CpuCounters::ZERO)
}

fn window(hooks: &[&str]) -> Window {
    Window {
        duration_ns: 1_000_000_000,
        hooks: attached(hooks),
        cpus: BTreeMap::from([(0, zero()), (1, zero())]),
        online: vec![0, 1],
        ..Window::default()
    }
}

fn drop_at(location: u64, reason: u32, netns: u32, target_cpu: u32) -> DropKey {
    DropKey {
        location,
        reason,
        ifindex: 2,
        netns,
        target_cpu,
        protocol: 0x0800,
        reserved: 0,
    }
}

fn on_cpu(cpu: u32, packets: u64) -> BTreeMap<u32, DropCounters> {
    let bytes = packets * 100;
    BTreeMap::from([(cpu, DropCounters { packets, bytes })])
}

fn row<'a>(report: &'a Report, counter: &str) -> Option<&'a Reconciliation> {
    report.reconciliation.iter().find(|r| r.counter == counter)
}

#[test]
fn a_backlog_drop_is_charged_to_the_target_cpu() {
    let mut window = window(&["kfree_skb", "enqueue_to_backlog"]);
    let key = drop_at(BACKLOG, CPU_BACKLOG, OWN, 0);
    window.drops.insert(key, on_cpu(1, 50));
    let dropped = Softnet {
        dropped: 50,
        processed: 100,
        ..Softnet::default()
    };
    window.softnet.insert(0, dropped);
    let report = summarize(&window, &facts(false), None);
    let drop = &report.drops[0];
    assert_eq!(drop.per_cpu, BTreeMap::from([(1, 50)]));
    assert_eq!(drop.per_target_cpu, Some(BTreeMap::from([(0, 50)])));
    let row = row(&report, "softnet_stat dropped cpu0").unwrap();
    assert_eq!(
        (row.delta, row.traced, row.residual),
        (50, Some(50), Some(0))
    );
}

#[test]
fn a_target_cpu_at_any_other_site_is_not_shown_and_does_not_split_the_row() {
    let mut window = window(&["kfree_skb", "enqueue_to_backlog"]);
    for target in [0, 1, NO_CPU] {
        window
            .drops
            .insert(drop_at(UDP, NO_SOCKET, OWN, target), on_cpu(1, 5));
    }
    let report = summarize(&window, &facts(false), None);
    assert_eq!(report.drops.len(), 1);
    assert_eq!(report.drops[0].packets, 15);
    assert_eq!(report.drops[0].per_target_cpu, None);
    assert!(report.drops[0].benign);
}

#[test]
fn without_a_hook_its_numbers_are_unknown_not_zero() {
    let report = summarize(&window(&["softirq_entry"]), &facts(false), None);
    assert_eq!(
        report.drop_totals,
        crate::model::report::DropTotals::default()
    );
    let cpu = &report.cpus[0];
    assert_eq!(
        (cpu.hardirqs, cpu.net_rx_runs, cpu.packets, cpu.drops),
        (None, None, None, None)
    );
}

#[test]
fn drops_of_other_devices_are_summed_and_those_of_an_unknown_namespace_are_kept() {
    let mut window = window(&["kfree_skb"]);
    window
        .drops
        .insert(drop_at(UDP, NO_SOCKET, OWN, NO_CPU), on_cpu(0, 1));
    window
        .drops
        .insert(drop_at(UDP, NO_SOCKET, 0, NO_CPU), on_cpu(0, 2));
    window
        .drops
        .insert(drop_at(UDP, NO_SOCKET, OWN + 9, NO_CPU), on_cpu(0, 4));
    let mut facts = facts(false);
    facts.interfaces.insert(2, "eth0".to_owned());
    let totals = summarize(&window, &facts, None).drop_totals;
    assert_eq!(
        (totals.packets, totals.benign, totals.other_devices),
        (Some(7), Some(3), Some(4))
    );
}

#[test]
fn what_the_full_table_could_not_attribute_is_in_the_total_and_a_loss() {
    let mut window = window(&["kfree_skb"]);
    window
        .drops
        .insert(drop_at(UDP, NO_SOCKET, OWN, NO_CPU), on_cpu(0, 10));
    if let Some(cpu) = window.cpus.get_mut(&1) {
        cpu.drop_table_full = 3;
    }
    let report = summarize(&window, &facts(false), None);
    assert_eq!(report.drop_totals.packets, Some(13));
    assert_eq!(report.drop_totals.unattributed, Some(3));
    assert_eq!(report.drop_totals.bytes, None, "theirs are not known");
    assert_eq!(
        (report.losses.drop_table_full, report.losses.map_full),
        (3, 3)
    );
}

#[test]
fn hidden_names_do_not_make_backlog_drops_zero() {
    let mut with_reason = window(&["kfree_skb"]);
    with_reason
        .drops
        .insert(drop_at(BACKLOG, CPU_BACKLOG, OWN, NO_CPU), on_cpu(0, 10));
    let report = summarize(&with_reason, &facts(true), None);
    assert_eq!(
        row(&report, "softnet_stat dropped total").unwrap().traced,
        Some(10)
    );
    assert_eq!(report.drops[0].site, "0x100");

    let mut without = window(&["kfree_skb"]);
    without
        .drops
        .insert(drop_at(BACKLOG, NO_REASON, OWN, NO_CPU), on_cpu(0, 10));
    let report = summarize(&without, &facts(true), None);
    assert_eq!(
        row(&report, "softnet_stat dropped total").unwrap().traced,
        None
    );
}

#[test]
fn an_inactive_slave_of_a_bond_leaves_no_residual() {
    let mut window = window(&["kfree_skb"]);
    window
        .drops
        .insert(drop_at(BACKLOG, CPU_BACKLOG, OWN, NO_CPU), on_cpu(0, 10));
    window.devices.push(NetDevice {
        name: "eth0".to_owned(),
        ifindex: 2,
        rx_dropped: 4,
        rx_nohandler: 6,
        ..NetDevice::default()
    });
    let report = summarize(&window, &facts(false), None);
    assert_eq!(row(&report, "eth0 rx_dropped").unwrap().residual, Some(0));
}

#[test]
fn runs_that_no_program_saw_are_said_so() {
    let mut window = window(&["softirq_entry", "softirq_exit"]);
    window
        .softirqs
        .insert("NET_RX".to_owned(), BTreeMap::from([(1, 1000)]));
    if let Some(cpu) = window.cpus.get_mut(&1) {
        cpu.softirqs[3].runs = 900;
    }
    let report = summarize(&window, &facts(false), None);
    assert!(
        report.notes[0].starts_with("100 NET_RX runs"),
        "{:?}",
        report.notes
    );

    if let Some(cpu) = window.cpus.get_mut(&1) {
        cpu.softirqs[3].runs = 1000;
    }
    assert!(summarize(&window, &facts(false), None).notes.is_empty());
}

#[test]
fn hard_irqs_are_compared_only_where_the_kernel_still_shows_them() {
    let mut window = window(&["irq_handler_exit"]);
    let counters = |count| IrqCounters {
        count,
        ..IrqCounters::default()
    };
    let counted = |per_cpu| Counted {
        name: "eth0-rx-0".to_owned(),
        per_cpu,
    };
    // CPU 1 went offline; interrupt 31 was freed.
    window.hidden_cpus = [1].into();
    window.freed_irqs = [(31, "eth0-rx-1".to_owned())].into();
    window.irqs = BTreeMap::from([
        (30, BTreeMap::from([(0, counters(5)), (1, counters(9))])),
        (31, BTreeMap::from([(0, counters(7))])),
    ]);
    window.interrupts = [(30, counted([(0, 5)].into()))].into();
    let report = summarize(&window, &facts(false), None);
    assert_eq!(row(&report, "interrupts 30").unwrap().residual, Some(0));
    assert_eq!(row(&report, "interrupts 31"), None);
    assert_eq!(row(&report, "interrupts total").unwrap().residual, Some(0));
    assert_eq!(
        report.irqs[0].count, 14,
        "all are reported: {:?}",
        report.irqs
    );
}

#[test]
fn a_namespace_that_is_gone_keeps_its_name_and_is_noted_if_it_counted() {
    let mut window = window(&["kfree_skb"]);
    let key = drop_at(UDP, NO_SOCKET, 77, NO_CPU);
    window.drops = [(key, on_cpu(0, 3))].into();
    let mut facts = facts(false);
    let names = |names: &[(u32, &str)]| {
        let names = names.iter();
        names.map(|(n, name)| (*n, (*name).to_owned())).collect()
    };
    facts
        .names
        .set_netns(names(&[(77, "web"), (78, "idle"), (79, "db")]));
    facts.names.set_netns(names(&[(79, "db")]));
    let report = summarize(&window, &facts, None);
    assert_eq!(report.drops[0].netns.as_deref(), Some("web"));
    let [note] = report.notes.as_slice() else {
        panic!("{:?}", report.notes);
    };
    assert!(note.contains("namespace web went away"), "{note}");
}

#[test]
fn interrupts_of_a_renamed_device_are_shown_by_either_name() {
    let mut facts = facts(false);
    facts.interfaces = [(2, "eth0".to_owned())].into();
    facts.names.devices.insert((OWN, 2), "wan0".to_owned());
    assert!(facts.shows_name(Some("eth0")) && facts.shows_name(Some("wan0")));
    assert!(!facts.shows_name(Some("eth1")) && !facts.shows_name(None));
}

#[test]
fn the_summary_alone_carries_the_topology_and_devices_have_their_ring() {
    let mut window = window(&[]);
    window.devices = ["eth0", "eth1"]
        .map(|name| NetDevice {
            name: name.to_owned(),
            ..NetDevice::default()
        })
        .into();
    let mut facts = facts(false);
    assert_eq!(
        summarize(&window, &facts, Some(&Kept::default())).topology,
        None
    );
    let nic = Nic {
        ring: Some(Range {
            now: 512,
            max: None,
        }),
        ..Nic::default()
    };
    let mut topology = Topology::default();
    topology.devices.insert("eth0".to_owned(), nic);
    facts.topology = Some(topology);
    let report = summarize(&window, &facts, None);
    assert_eq!(report.topology, None);
    let rings: Vec<_> = report.devices.iter().map(|d| d.ring).collect();
    assert_eq!(rings, [Some(512), None]);
    let summary = summarize(&window, &facts, Some(&Kept::default()));
    assert_eq!(summary.topology, facts.topology);
}

#[test]
fn only_the_whole_run_is_judged() {
    let mut window = window(&["kfree_skb", "enqueue_to_backlog"]);
    let row = Softnet {
        dropped: 7,
        ..Softnet::default()
    };
    window.softnet.insert(1, row);
    let facts = facts(false);
    assert!(summarize(&window, &facts, None).findings.is_empty());
    let report = summarize(&window, &facts, Some(&Kept::default()));
    let rules: Vec<_> = report.findings.iter().map(|f| f.rule.as_str()).collect();
    assert!(rules.contains(&"backlog-overflow"), "{rules:?}");
    assert!(report.abstained.iter().any(|a| a.rule == "irqbalance"));
}

#[test]
fn instances_and_processes_have_their_namespace_and_changed_thresholds_are_told() {
    let mut window = window(&["napi_poll"]);
    let napi = |netns, ifindex| NapiCounters {
        netns,
        ifindex,
        polls: 1,
        ..NapiCounters::default()
    };
    let all = vec![napi(OWN, 2), napi(77, 2), napi(77, 0)];
    window.napi.insert(0, all);
    let mut facts = facts(false);
    facts.names.devices.insert((77, 2), "eth0".to_owned());
    facts.names.set_netns([(77, "pod".to_owned())].into());
    facts.processes = [Some(u64::from(OWN)), Some(77), None]
        .map(|netns_inode| Process {
            netns_inode,
            ..Process::default()
        })
        .into();
    facts.thresholds.set("steal=3".parse().unwrap());
    let report = summarize(&window, &facts, Some(&Kept::default()));
    let napi: BTreeMap<_, _> = report
        .napi
        .iter()
        .map(|n| ((n.device.as_str(), n.netns.as_deref()), n.polls))
        .collect();
    let expected = [
        (("eth0", None), 1),
        (("eth0", Some("pod")), 1),
        (("backlog", None), 1),
    ];
    assert_eq!(napi, expected.into());
    let processes = report.topology.unwrap_or_default().processes;
    let netns: Vec<_> = processes.iter().map(|p| p.netns.as_deref()).collect();
    assert_eq!(netns, [None, Some("pod"), None]);
    // Where tracer itself runs has no name, and then one.
    let own = |facts: &Facts| {
        let report = summarize(&window, facts, Some(&Kept::default()));
        report.topology.unwrap_or_default().netns
    };
    facts.topology = Some(Topology::default());
    assert_eq!(own(&facts), None);
    facts.names.set_netns([(OWN, "red".to_owned())].into());
    assert_eq!(own(&facts).as_deref(), Some("red"));
    assert_eq!(report.thresholds, [("steal".to_owned(), 3)].into());
}
