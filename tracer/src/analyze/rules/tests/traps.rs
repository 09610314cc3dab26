//! Where a plausible reading of the numbers, or a plausible command, would be wrong.

use super::*;
use crate::model::{
    event::{Event, Flow, What},
    setting::Setting,
};

fn evidence(found: &Finding) -> String {
    let lines = found.evidence.iter();
    let lines = lines.map(|e| format!("{}: {}", e.what, e.value));
    lines.collect::<Vec<_>>().join("\n")
}

fn reverts(found: &Finding) -> Vec<Option<&str>> {
    found.advice.iter().map(|a| a.revert.as_deref()).collect()
}

#[test]
fn a_pods_device_is_not_the_hosts_of_the_same_name() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[4, 4], &[4]);
    let mut report = traffic("eth0", 24, &[(3, 100_000, 60)]);
    refuse(&mut report, "eth0", 3, 3, 90_000);
    report.drops[0].netns = Some("pod".into());
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    let commands = commands(&found);
    assert!(
        !commands.iter().any(|c| c.contains("smp_affinity_list")),
        "{commands:#?}"
    );
    // Node 0, where CPU 3 is, without it and its sibling.
    assert_eq!(
        commands[0],
        "ip netns exec pod sh -c 'for q in /sys/class/net/eth0/queues/rx-*; do echo 707 > $q/rps_cpus; done'"
    );
    assert_eq!(commands.len(), 2, "{commands:#?}");
    assert!(!found.advice[0].why.contains("no interrupts"), "{found:#?}");
}

#[test]
fn a_ring_that_ran_dry_lost_nothing_by_that() {
    let (mut report, host) = well_spread();
    report.devices[0].driver_stats = [("rx_no_buffer_count".to_owned(), 9_000)].into();
    is_silent(&report, &host, "ring-overrun");
    report.devices[0].rx_missed = 12;
    let found = fires(&report, &host, "ring-overrun", Severity::Critical);
    assert!(
        found.summary.contains("no room for 12 packets"),
        "{}",
        found.summary
    );
    assert!(
        evidence(&found).contains("rx_no_buffer_count: the ring ran dry: 9,000 times"),
        "{found:#?}"
    );
}

/// irqbalance as the reader of /proc finds it.
fn running(cmdline: &[&str]) -> Irqbalance {
    let proc = tempfile::tempdir().unwrap();
    let dir = proc.path().join("600");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("comm"), "irqbalance\n").unwrap();
    std::fs::write(dir.join("cmdline"), cmdline.join("\0") + "\0").unwrap();
    crate::topology::irqbalance::read(proc.path()).unwrap()
}

#[test]
fn irqbalance_keeps_its_arguments_and_their_values() {
    let (report, mut host) = incident();
    host.irqbalance = Some(running(&[
        "/usr/sbin/irqbalance",
        "--banirq=38",
        "-i",
        "39",
        "--policyscript",
        "/x",
    ]));
    let all = findings(&report, &host);
    let ban = flat(&all)
        .into_iter()
        .flat_map(|f| f.advice.clone())
        .find(|a| a.step.contains("irqbalance"))
        .unwrap();
    let command = ban.command.unwrap();
    assert!(
        command.contains(
            "\"--banirq=38 -i 39 --policyscript /x --banirq=24 --banirq=25 --banirq=26 --banirq=27\""
        ),
        "{command}"
    );
    assert!(
        command.contains("[ -f /etc/sysconfig/irqbalance ]"),
        "{command}"
    );
    // What cannot be carried over is not left out in silence.
    host.irqbalance = Some(running(&["irqbalance", "--policyscript=/x; reboot"]));
    let all = findings(&report, &host);
    let ban = flat(&all)
        .into_iter()
        .flat_map(|f| f.advice.clone())
        .find(|a| a.step.contains("irqbalance"))
        .unwrap();
    assert_eq!(ban.command, None);
    assert!(ban.risk.unwrap().contains("--banirq=24"));
}

#[test]
fn a_ban_comes_before_the_pinning_and_once() {
    let (report, mut host) = incident();
    host.irqbalance = Some(running(&["irqbalance"]));
    let findings = findings(&report, &host);
    let steps: Vec<_> = flat(&findings)
        .into_iter()
        .flat_map(|f| &f.advice)
        .collect();
    let at = |is: fn(&str) -> bool| {
        let all = steps.iter().enumerate();
        all.filter(|(_, a)| a.command.as_deref().is_some_and(is))
            .map(|(at, _)| at)
            .collect::<Vec<_>>()
    };
    let bans = at(|c| c.contains("--banirq=24"));
    let pins = at(|c| c.contains("smp_affinity_list"));
    assert_eq!(bans, [0], "{steps:#?}");
    assert!(pins.iter().all(|pin| *pin > 0) && !pins.is_empty());
    let daemon = find(&findings, "irqbalance").unwrap();
    assert!(daemon.advice[0].step.contains("single-cpu"), "{daemon:#?}");
}

#[test]
fn masks_of_threads_that_differ_cannot_be_given_back() {
    let (report, mut host) = incident();
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert_eq!(reverts(&found).last(), Some(&Some("taskset -acp 0-15 812")));
    host.processes[0].allowed = vec![0];
    host.processes[0].threads_allowed = vec![0, 3];
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert_eq!(reverts(&found).last(), Some(&None), "{found:#?}");
    let risk = found.advice.last().unwrap().risk.as_deref().unwrap();
    assert!(risk.contains("cannot be undone"), "{risk}");
}

/// A NIC without RPS at CPU 0, and a device that is going down.
#[test]
fn a_device_that_goes_down_is_no_full_backlog() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0], &[1]);
    let mut report = traffic("eth0", 24, &[(0, 900_000, 50), (1, 900_000, 60)]);
    report.host.kernel = "6.1.0-37-amd64".into();
    refuse(&mut report, "eth0", 0, 1, 500);
    report.drops[0].reason = Some("NOT_SPECIFIED".into());
    is_silent(&report, &host, "backlog-overflow");
    if let Some(row) = &mut report.cpus[1].softnet {
        row.dropped = 800;
    }
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert!(
        found.summary.contains("it refused 300 packets"),
        "{found:#?}"
    );
    // Without reasons nobody can tell.
    report.host.kernel = "5.10.0-35-amd64".into();
    report.drops[0].reason = None;
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert!(
        found.summary.contains("or a device went down"),
        "{}",
        found.summary
    );
    // Since 6.12 the kernel does not count it there.
    report.host.kernel = "6.12.1".into();
    report.drop_totals.packets = None;
    report.drops.clear();
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert!(!found.summary.contains("went down"), "{}", found.summary);
}

#[test]
fn two_nics_of_a_node_get_cores_of_their_own() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[4, 4], &[]);
    nic(&mut host, "eth1", 1, 40, &[4, 4], &[]);
    let mut report = traffic("eth0", 24, &[(4, 4_000_000, 94)]);
    let mut second = report.napi[0].clone();
    second.device = "eth1".into();
    second.packets /= 2;
    report.napi.push(second);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    let pins: Vec<_> = commands(&found)
        .into_iter()
        .filter(|c| c.contains("smp_affinity_list"))
        .collect();
    assert_eq!(
        pins,
        [
            "echo 5 > /proc/irq/25/smp_affinity_list",
            "for v in 40:6 41:7; do echo ${v#*:} > /proc/irq/${v%%:*}/smp_affinity_list; done"
        ]
    );
    // Where there are too few cores, the second begins again with the first.
    nic(&mut host, "eth1", 1, 40, &[4, 4, 4], &[]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert!(
        commands(&found).iter().any(|c| c.contains("41:5 42:6")),
        "{found:#?}"
    );
}

#[test]
fn only_one_of_two_devices_with_a_queue_stays_where_both_are() {
    let told = |cpus: [u32; 3]| {
        let mut host = host();
        let mut report = traffic("eth0", 24, &[(cpus[0], 4_000_000, 94)]);
        let napi = report.napi[0].clone();
        let mut to = Vec::new();
        for (at, cpu) in (0..).zip(cpus) {
            let name = format!("eth{at}");
            nic(&mut host, &name, 1, 24 + 16 * at, &[cpu], &[]);
            if at > 0 {
                let mut other = napi.clone();
                other.device = name;
                report.napi.push(other);
            }
        }
        let thresholds = Thresholds::default();
        let case = Case {
            report: &report,
            host: &host,
            thresholds: &thresholds,
            apps: &[],
        };
        for device in ["eth0", "eth1", "eth2"] {
            let plan = crate::analyze::rules::plan::plan(case, device).unwrap();
            to.push(plan.irq_cpus[0]);
        }
        to
    };
    // By default they get CPUs 4, 5 and 6; eth0 stays on 7.
    assert_eq!(told([7, 7, 7]), [7, 5, 6]);
    // A thread of the same core.
    assert_eq!(told([7, 15, 6]), [7, 5, 6]);
    // Near miss: alone, each stays, unless it is where another one goes.
    assert_eq!(told([4, 15, 6]), [4, 15, 6]);
    assert_eq!(told([7, 7, 5]), [7, 5, 6]);
}

#[test]
fn a_full_syn_queue_is_no_full_accept_queue() {
    let (mut report, mut host) = well_spread();
    report.protocols = [("TcpExt.TCPReqQFullDrop".to_owned(), 40)].into();
    is_silent(&report, &host, "listen-overflow");
    for (name, value) in [
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.ipv4.tcp_max_syn_backlog", "256"),
    ] {
        host.sysctls.insert(name.into(), value.into());
    }
    let found = fires(&report, &host, "syn-queue-overflow", Severity::Critical);
    assert!(found.summary.contains("40 attempts"), "{}", found.summary);
    assert_eq!(
        commands(&found),
        [
            "sysctl -w net.ipv4.tcp_syncookies=1",
            "sysctl -w net.core.somaxconn=8192; sysctl -w net.ipv4.tcp_max_syn_backlog=512"
        ]
    );
    report.protocols = [("TcpExt.ListenOverflows".to_owned(), 40)].into();
    is_silent(&report, &host, "syn-queue-overflow");
    let found = fires(&report, &host, "listen-overflow", Severity::Critical);
    assert!(found.summary.contains("40 attempts"), "{}", found.summary);
}

#[test]
fn a_miss_elsewhere_does_not_make_a_squeeze_matter() {
    let (mut report, host) = well_spread();
    report.cpus[0].softnet.as_mut().unwrap().time_squeeze = 400;
    report.devices[0].rx_missed = 1;
    fires(&report, &host, "time-squeeze", Severity::Info);
    report.cpus[4].softnet.as_mut().unwrap().time_squeeze = 1;
    fires(&report, &host, "time-squeeze", Severity::Warning);
    // Without the NAPI table the interrupts say where it is polled.
    report.napi.clear();
    fires(&report, &host, "time-squeeze", Severity::Warning);
    report.cpus[4].softnet.as_mut().unwrap().time_squeeze = 0;
    fires(&report, &host, "time-squeeze", Severity::Info);
}

#[test]
fn drops_of_a_full_connection_table_are_not_told_twice() {
    let (mut report, mut host) = well_spread();
    report.drops = vec![drop(
        "nf_hook_slow",
        "NETFILTER_DROP",
        Stage::Netfilter,
        4_000,
    )];
    host.sysctls
        .insert("net.netfilter.nf_conntrack_count".into(), "262144".into());
    is_silent(&report, &host, "firewall");
    fires(&report, &host, "conntrack-full", Severity::Critical);
    host.sysctls
        .insert("net.netfilter.nf_conntrack_count".into(), "250000".into());
    let all = findings(&report, &host);
    let table = all.iter().find(|f| f.rule == "conntrack-full").unwrap();
    assert_eq!(table.severity, Severity::Warning);
    let folded = &table.follows[0];
    assert_eq!(folded.rule, "firewall");
    assert!(
        folded
            .summary
            .contains("a rule or the full connection table"),
        "{}",
        folded.summary
    );
}

#[test]
fn a_flow_table_is_never_made_smaller() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[4], &[]);
    host.sysctls
        .insert("net.core.rps_sock_flow_entries".into(), "65536".into());
    let report = traffic("eth0", 24, &[(4, 4_000_000, 96)]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    let rfs = commands(&found)[1];
    assert!(rfs.contains("rps_sock_flow_entries=65536"), "{rfs}");
    assert!(rfs.contains("echo 65536 > "), "{rfs}");
}

#[test]
fn a_flow_table_of_a_queue_is_as_large_as_the_kernel_makes_it() {
    let report = traffic("eth0", 24, &[(4, 4_000_000, 96)]);
    let thresholds = Thresholds::default();
    for (queues, each) in [(1, "32768"), (3, "16384"), (5, "8192"), (12, "4096")] {
        let mut host = host();
        nic(&mut host, "eth0", 1, 24, &vec![4; queues], &[]);
        let case = Case {
            report: &report,
            host: &host,
            thresholds: &thresholds,
            apps: &[],
        };
        let steps = crate::analyze::rules::plan::widen(case, "eth0", &[5], "");
        let set = |setting: &Setting| matches!(setting, Setting::RpsFlowCount { .. });
        let changes = steps[1].changes.iter();
        let changes: Vec<_> = changes.filter(|change| set(&change.setting)).collect();
        assert_eq!(changes.len(), queues);
        assert!(changes.iter().all(|change| change.to == each), "{steps:#?}");
        let command = steps[1].command.as_deref().unwrap();
        assert!(command.contains(&format!("echo {each} > ")), "{command}");
    }
}

#[test]
fn cpu_time_is_booked_to_the_last_cpu_and_so_said() {
    let (report, mut host) = incident();
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert!(
        found.summary.ends_with("(it last ran there)"),
        "{}",
        found.summary
    );
    assert!(
        evidence(&found).contains(
            "threads of redis-server (pid 812, tcp/6379) that last ran on CPU 0: 3.0 s of its 3.0 s"
        ),
        "{found:#?}"
    );
    // One that may run nowhere else did not.
    host.processes[0].allowed = vec![0];
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert!(!evidence(&found).contains("last ran"), "{found:#?}");
    assert!(!found.summary.contains("last ran"), "{}", found.summary);
}

/// A datagram to port 53 that found no room, on `device` of `netns`.
fn unread(device: Option<&str>, netns: Option<&str>) -> Event {
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    Event {
        time_ns: 1,
        cpu: 4,
        what: What::Drop {
            site: "udp_queue_rcv_one_skb".into(),
            offset: None,
            reason: Some("SOCKET_RCVBUFF".into()),
            device: device.map(str::to_owned),
            netns: netns.map(str::to_owned),
            protocol: "ipv4".into(),
            len: 60,
            target_cpu: None,
            flow: Some(Flow {
                protocol: 17,
                source: address,
                source_port: Some(9),
                destination: address,
                destination_port: Some(53),
            }),
        },
    }
}

#[test]
fn a_reader_is_named_only_in_the_packets_namespace() {
    let (mut report, mut host) = well_spread();
    report.protocols = [("Udp.RcvbufErrors".to_owned(), 12)].into();
    let dns = |pid, inode, netns: Option<&str>| Process {
        pid,
        name: "dns".into(),
        ports: vec!["udp/53".into()],
        netns_inode: inode,
        netns: netns.map(str::to_owned),
        ..Process::default()
    };
    host.processes = vec![dns(7, Some(1), None), dns(8, Some(2), Some("pod"))];
    let mut told = |host: &Topology, event: Event| {
        report.samples.drops = vec![event];
        fires(&report, host, "slow-reader", Severity::Critical).summary
    };
    let own = told(&host, unread(Some("eth0"), None));
    assert!(own.contains("dns (pid 7) on udp/53"), "{own}");
    let pod = told(&host, unread(Some("eth0"), Some("pod")));
    assert!(pod.contains("dns (pid 8) on udp/53"), "{pod}");
    let other = told(&host, unread(Some("eth0"), Some("other")));
    assert!(!other.contains("pid"), "{other}");
    for unknown in [unread(None, None), unread(Some("if3"), None)] {
        let unknown = told(&host, unknown);
        assert!(
            unknown.contains("a process with a socket on that port"),
            "{unknown}"
        );
    }
    host.processes[0].netns_inode = None;
    let unknown = told(&host, unread(Some("eth0"), None));
    assert!(
        unknown.contains("a process with a socket on that port"),
        "{unknown}"
    );
}

#[test]
fn a_pods_napi_is_not_the_hosts() {
    let (mut report, host) = well_spread();
    let case = |report: &Report| {
        let thresholds = Thresholds::default();
        let case = Case {
            report,
            host: &host,
            thresholds: &thresholds,
            apps: &[],
        };
        case.polled_by_cpu("eth0")
    };
    let before = case(&report);
    let mut pod = report.napi[0].clone();
    pod.netns = Some("pod".into());
    report.napi.push(pod);
    assert_eq!(case(&report), before);
    assert!(text::render(&report, &Style::default()).contains("eth0@pod"));
}

#[test]
fn a_time_limit_that_is_as_many_ticks_as_before_is_not_advised() {
    let (mut report, mut host) = well_spread();
    report.cpus[4].softnet.as_mut().unwrap().time_squeeze = 400;
    report.cpus[4].time_exhausted = Some(390);
    report.devices[0].rx_missed = 5_000;
    let mut advised = |now: &str, tick_ms: u64| {
        let name = "net.core.netdev_budget_usecs";
        host.sysctls.insert(name.into(), now.into());
        host.tick_ns = Some(tick_ms * 1_000_000);
        let found = fires(&report, &host, "time-squeeze", Severity::Warning);
        commands(&found).first().map(|&c| c.to_owned())
    };
    let set = |usecs: u32| Some(format!("sysctl -w net.core.netdev_budget_usecs={usecs}"));
    assert_eq!(advised("2000", 4), set(8_000));
    assert_eq!(advised("2000", 1), set(4_000));
    assert_eq!(advised("0", 1), set(2_000));
    // Up to the cap there is no second tick.
    assert_eq!(advised("2000", 10), None);
    assert_eq!(advised("7000", 4), None);
}

#[test]
fn threads_of_napi_can_be_let_go_again() {
    let (mut report, mut host) = well_spread();
    report.cpus[4].packets_outside_net_rx = Some(9_000_000);
    let eth0 = host.devices.get_mut("eth0").unwrap();
    eth0.threaded = Some(true);
    let thread = |pid, allowed| NapiInstance {
        irq: None,
        pid: Some(pid),
        allowed,
    };
    eth0.napi = [(1, thread(77, (0..16).collect())), (2, thread(78, vec![3]))].into();
    let found = fires(&report, &host, "threaded-napi", Severity::Info);
    assert_eq!(
        reverts(&found),
        [Some(
            "for v in 77:0-15 78:3; do taskset -cp ${v#*:} ${v%%:*}; done"
        )]
    );
    let eth0 = host.devices.get_mut("eth0").unwrap();
    eth0.napi.insert(2, thread(78, vec![]));
    let found = fires(&report, &host, "threaded-napi", Severity::Info);
    assert_eq!(reverts(&found), [None]);
    let risk = found.advice[0].risk.as_deref().unwrap();
    assert!(risk.contains("to undo it"), "{risk}");
}

#[test]
fn receive_channels_are_not_called_combined() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[4], &[]);
    let report = traffic("eth0", 24, &[(4, 4_000_000, 96)]);
    let eth0 = host.devices.get_mut("eth0").unwrap();
    eth0.channels = Some(Range {
        now: 1,
        max: Some(4),
    });
    eth0.channel_kind = Some(ChannelKind::Rx);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert!(
        commands(&found).contains(&"ethtool -L eth0 rx 4"),
        "{found:#?}"
    );
    assert!(reverts(&found).contains(&Some("ethtool -L eth0 rx 1")));
}

#[test]
fn the_first_line_keeps_to_the_thresholds_in_force() {
    let (mut report, _) = incident();
    report.drops.clear();
    let told = |report: &Report| crate::analyze::answer::answer(report);
    assert!(told(&report).contains("CPU 0 took"), "{}", told(&report));
    report.thresholds = [("net-rx-share".to_owned(), 100)].into();
    assert!(!told(&report).contains("CPU 0 took"), "{}", told(&report));
}
