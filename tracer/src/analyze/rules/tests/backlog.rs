//! Queues that overflow before the stack: backlogs, rings, budgets.

use super::*;
use crate::analyze::rules::command::quote;

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
fn a_setting_that_only_the_hosts_namespace_has_is_set_there() {
    let (report, mut host) = veth(30, 100_000, 2_000);
    host.host_sysctls = ["net.core.netdev_max_backlog".to_owned()].into();
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert_eq!(
        commands(&found),
        ["nsenter -t 1 -n sysctl -w net.core.netdev_max_backlog=2000"]
    );
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("nsenter -t 1 -n sysctl -w net.core.netdev_max_backlog=1000")
    );
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
fn a_device_whose_name_is_not_known_has_no_command() {
    let (report, host) = veth(60, 100_000, 90_000);
    let steer = |name: &str, netns: Option<&str>, there: bool| {
        let (mut report, mut host) = (report.clone(), host.clone());
        report.drops[0].device = Some(name.into());
        report.drops[0].netns = netns.map(str::to_owned);
        let device = host.devices.remove("veth0");
        if there {
            host.devices.extend(device.map(|nic| (name.into(), nic)));
        }
        let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
        found.advice[0].clone()
    };
    for (netns, there) in [(None, false), (Some("pod"), false), (Some("pod"), true)] {
        let advice = steer("if7", netns, there);
        assert!(advice.step.starts_with("Steer if7 to"), "{advice:#?}");
        assert!(advice.why.ends_with("only its index"), "{advice:#?}");
        assert_eq!(advice.command, None);
    }
    // It is called so.
    assert_eq!(
        steer("if7", None, true).command.as_deref(),
        Some("echo 707 > /sys/class/net/if7/queues/rx-0/rps_cpus")
    );
    assert!(steer("ifb0", Some("pod"), false).command.is_some());
}

#[test]
fn whether_rps_steers_is_told_only_where_it_is_known() {
    let (mut report, mut host) = veth(60, 100_000, 90_000);
    host.devices.clear();
    report.drops[0].per_target_cpu = None;
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert!(found.summary.ends_with(", of veth0"), "{}", found.summary);
    // Executed on a CPU that refused nothing.
    report.drops[0].per_cpu = [(0, 90_000)].into();
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert!(
        found.summary.ends_with("steered there by RPS of veth0"),
        "{}",
        found.summary
    );
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
fn a_wait_that_only_the_hypervisor_can_explain_makes_no_squeeze_matter() {
    let (mut report, mut host) = well_spread();
    host.processes.clear();
    report.cpus[4].softnet.as_mut().unwrap().time_squeeze = 400;
    report.cpus[4].time_exhausted = Some(400);
    report.cpus[4].net_rx_wait_ns = Some(wait(1_200_000));
    fires(&report, &host, "time-squeeze", Severity::Warning);
    host.hypervisor = Some("kvm".into());
    fires(&report, &host, "time-squeeze", Severity::Info);
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
fn a_ring_is_said_to_overrun_by_bursts_only_where_its_cpu_had_time_left() {
    let told = |change: &dyn Fn(&mut crate::model::report::Cpu)| {
        let (mut report, host) = well_spread();
        report.devices[0].rx_missed = 5_000;
        // CPU 7 polls most.
        change(&mut report.cpus[7]);
        fires(&report, &host, "ring-overrun", Severity::Critical)
    };
    let (has_time, full, unknown) = (
        "CPU 7, which empties it, has time left: bursts",
        "CPU 7, which empties it, is full",
        "whether CPU 7, which empties it, has time left is not known",
    );
    let is = |found: &Finding, words: &str| {
        assert!(found.summary.ends_with(words), "{}", found.summary);
    };
    let without_idle = |cpu: &mut crate::model::report::Cpu| {
        if let Some(time) = &mut cpu.time {
            time.user_ns += time.idle_ns;
            time.idle_ns = 0;
        }
    };
    is(&told(&|_| ()), has_time);
    // Softirqs run before tasks, unless they run in one: then tasks may have taken the time, or not.
    let found = told(&without_idle);
    is(&found, unknown);
    assert_eq!(commands(&found), ["ethtool -G eth0 rx 1024"]);
    assert!(found.advice[0].why.contains("sustained"), "{found:#?}");
    is(&told(&|cpu| cpu.time = None), unknown);
    let found = told(&|cpu| {
        without_idle(cpu);
        cpu.ksoftirqd_runs = cpu.net_rx_runs;
    });
    is(&found, full);
    assert!(found.will_not_help[0].contains("a larger ring"));
    // Polled by threads, which NET_RX does not show.
    let threads = |cpu: &mut crate::model::report::Cpu| {
        cpu.packets_outside_net_rx = Some(9_000_000);
    };
    is(&told(&threads), has_time);
    is(
        &told(&|cpu| {
            without_idle(cpu);
            threads(cpu);
        }),
        full,
    );
}

#[test]
fn a_ring_overrun_follows_only_from_what_is_wrong_on_the_cpu_that_empties_it() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0, 0, 0, 0], &[]);
    nic(&mut host, "eth1", 0, 40, &[1], &[]);
    let mut report = traffic("eth0", 24, &[(0, 4_000_000, 94), (1, 400_000, 4)]);
    report.napi[1].device = "eth1".into();
    let mut second = report.devices[0].clone();
    second.name = "eth1".into();
    second.rx_missed = 5_000;
    report.devices.push(second);
    let follows = |report: &Report| {
        let all = findings(report, &host);
        assert_eq!(all[0].rule, "single-cpu");
        let mut follows = all[0].follows.iter();
        follows.any(|found| found.rule == "ring-overrun")
    };
    assert!(!follows(&report));
    // One packet, from when the vector was elsewhere.
    report.napi[1].per_cpu.insert(0, 1);
    assert!(!follows(&report));
    report.napi[1].per_cpu.insert(0, 500_000);
    assert!(follows(&report));
}

#[test]
fn a_bond_does_not_tell_the_loss_of_its_slave_again() {
    let (mut report, host) = well_spread();
    report.devices[0].driver = Some("ixgbe".into());
    report.devices[0].rx_missed = 5_000;
    let mut bond = report.devices[0].clone();
    (bond.name, bond.driver) = ("bond0".into(), None);
    report.devices.push(bond);
    let all = findings(&report, &host);
    let told = flat(&all).into_iter().filter(|f| f.rule == "ring-overrun");
    let told: Vec<_> = told.map(|found| found.summary.as_str()).collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("the receive ring of eth0"), "{told:#?}");
    // A tenth of all losses, if these are counted once.
    report.protocols = [("Udp.RcvbufErrors".to_owned(), 600)].into();
    report.drops = vec![drop(
        "udp_queue_rcv_one_skb",
        "SOCKET_RCVBUFF",
        Stage::Udp,
        600,
    )];
    fires(&report, &host, "slow-reader", Severity::Critical);
}

#[test]
fn commands_enter_the_namespace_that_tracer_ran_in() {
    let (report, mut host) = veth(60, 100_000, 90_000);
    host.netns = Some("red".into());
    host.host_sysctls = [
        "net.core.netdev_max_backlog".to_owned(),
        "net.core.rmem_max".to_owned(),
    ]
    .into();
    let found = fires(&report, &host, "backlog-overflow", Severity::Critical);
    assert_eq!(
        commands(&found)[0],
        "ip netns exec red sh -c 'echo 707 > /sys/class/net/veth0/queues/rx-0/rps_cpus'"
    );
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("ip netns exec red sh -c 'echo 0 > /sys/class/net/veth0/queues/rx-0/rps_cpus'")
    );
    // The host's own is entered from anywhere.
    assert_eq!(
        commands(&found).last(),
        Some(&"nsenter -t 1 -n sysctl -w net.core.netdev_max_backlog=2000")
    );
    let (mut report, _) = well_spread();
    report.protocols = [
        ("Udp.RcvbufErrors".to_owned(), 600),
        ("TcpExt.ListenOverflows".to_owned(), 600),
    ]
    .into();
    let found = fires(&report, &host, "slow-reader", Severity::Critical);
    assert_eq!(
        commands(&found),
        ["nsenter -t 1 -n sysctl -w net.core.rmem_max=425984"]
    );
    let found = fires(&report, &host, "listen-overflow", Severity::Critical);
    assert_eq!(
        commands(&found),
        [
            "ip netns exec red ss -ltn",
            "ip netns exec red sysctl -w net.core.somaxconn=8192"
        ]
    );
    // A shell in a namespace has a /sys without control groups; systemd it can reach.
    let (report, mut host) = incident();
    host.processes[0].allowed = vec![0, 1];
    host.processes[0].cpuset = Some("/pods/a b".into());
    host.processes[0].confined_by = Some(Cpuset {
        dir: "/sys/fs/cgroup/pods/a b".into(),
        version: 2,
        own: true,
        cpus: "0-2".into(),
    });
    let group = |host: &Topology| {
        let found = fires(&report, host, "shared-cpu", Severity::Warning);
        let advice = found.advice.last().unwrap().clone();
        (advice.command.unwrap(), advice.revert.unwrap())
    };
    let write = |cpus: &str| format!("echo {cpus} > '/sys/fs/cgroup/pods/a b/cpuset.cpus'");
    assert_eq!(group(&host), (write("6-7,14-15"), write("0-2")));
    host.netns = Some("red".into());
    let enter = |command: String| format!("nsenter -t 1 -m sh -c {}", quote(&command));
    assert_eq!(
        group(&host),
        (enter(write("6-7,14-15")), enter(write("0-2")))
    );
    host.processes[0].cpuset = Some("/redis.service".into());
    assert!(group(&host).0.starts_with("systemctl "));
    // Near miss: interrupts are the same everywhere, and so is all from the host's own namespace.
    let (report, mut host) = incident();
    let plain: Vec<_> = flat(&findings(&report, &host))
        .iter()
        .flat_map(|found| found.advice.clone())
        .collect();
    assert!(!format!("{plain:?}").contains("netns exec"), "{plain:#?}");
    host.netns = Some("red".into());
    let found = fires(&report, &host, "single-cpu", Severity::Critical);
    assert!(commands(&found)[0].starts_with("for v in "), "{found:#?}");
}

#[test]
fn a_queue_of_another_namespace_is_looked_at_there() {
    let (mut report, host) = well_spread();
    let mut refused = drop(
        "tcp_v4_syn_recv_sock",
        "TCP_LISTEN_OVERFLOW",
        Stage::Tcp,
        600,
    );
    refused.netns = Some("pod".into());
    report.drops = vec![refused];
    let found = fires(&report, &host, "listen-overflow", Severity::Critical);
    assert_eq!(
        commands(&found),
        [
            "ip netns exec pod ss -ltn",
            "ip netns exec pod sysctl net.core.somaxconn"
        ]
    );
}

#[test]
fn only_devices_that_rps_steers_are_said_to_be_steered() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0], &[1]);
    nic(&mut host, "eth1", 0, 25, &[0], &[]);
    let mut report = traffic("eth0", 24, &[(0, 900_000, 50), (1, 900_000, 60)]);
    refuse(&mut report, "eth0", 0, 1, 900);
    let mut other = report.drops[0].clone();
    (other.device, other.packets) = (Some("eth1".into()), 60);
    (other.per_cpu, other.per_target_cpu) = ([(1, 60)].into(), None);
    report.drops.push(other);
    let ends = |report: &Report, words: &str| {
        let found = fires(report, &host, "backlog-overflow", Severity::Critical);
        assert!(found.summary.ends_with(words), "{}", found.summary);
    };
    ends(
        &report,
        ", steered there by RPS of eth0, put there by eth1 without RPS",
    );
    // Of another namespace: not known.
    let other = &mut report.drops[1];
    (other.device, other.netns) = (Some("if2".into()), Some("snd".into()));
    ends(
        &report,
        ", steered there by RPS of eth0, some of them of if2@snd",
    );
    // Executed on another CPU: steered.
    report.drops[1].per_cpu = [(0, 60)].into();
    ends(&report, ", steered there by RPS of eth0 and 1 other device");
}

/// The first `cpus` CPUs of one node, without siblings.
fn small(cpus: u32) -> Topology {
    let mut host = host();
    host.cpus.retain(|cpu, _| *cpu < cpus);
    for (cpu, place) in &mut host.cpus {
        (place.node, place.siblings) = (Some(0), vec![*cpu]);
    }
    host
}

/// What is told about veth0 with this RPS mask on `cpus` CPUs, where those of `full` refuse packets.
fn steered(cpus: u32, mask: &[u32], full: &[u32]) -> Finding {
    let mut host = small(cpus);
    let queue = RxQueue {
        rps_cpus: mask.to_vec(),
        rps_flow_cnt: Some(0),
        ..RxQueue::default()
    };
    let pair = Nic {
        rx_queues: [(0, queue)].into(),
        ..Nic::default()
    };
    host.devices.insert("veth0".into(), pair);
    let load: Vec<_> = full.iter().map(|cpu| (*cpu, 100_000, 94)).collect();
    let mut report = traffic("veth0", 24, &load);
    report.cpus.truncate(cpus as usize);
    report.irqs.clear();
    refuse(&mut report, "veth0", 0, full[0], 60_000);
    for cpu in full {
        report.cpus[*cpu as usize].softnet.as_mut().unwrap().dropped = 60_000;
    }
    let packets = 60_000 * full.len() as u64;
    report.drops[0].packets = packets;
    report.drops[0].per_cpu = [(0, packets)].into();
    report.drops[0].per_target_cpu = Some(full.iter().map(|cpu| (*cpu, 60_000)).collect());
    judged(&report, &host, "backlog-overflow")
}

/// What one rule finds, whatever the others do.
fn judged(report: &Report, host: &Topology, rule: &str) -> Finding {
    let thresholds = Thresholds::default();
    let case = Case {
        report,
        host,
        thresholds: &thresholds,
        apps: &[],
    };
    let rule = RULES.iter().find(|r| r.id == rule).unwrap();
    (rule.judge)(case).unwrap().remove(0).finding
}

fn steers(found: &Finding) -> Vec<&Advice> {
    let steps = found.advice.iter();
    steps.filter(|a| a.step.starts_with("Steer ")).collect()
}

#[test]
fn a_mask_that_is_so_already_is_no_step() {
    for (cpus, mask, full) in [
        (2, &[0, 1][..], &[1][..]),
        (4, &[0, 1, 2, 3], &[1, 2, 3]),
        (4, &[3, 2, 1, 0], &[1, 2, 3]),
    ] {
        let found = steered(cpus, mask, full);
        assert!(steers(&found).is_empty(), "{found:#?}");
        assert!(!format!("{found:?}").contains("send everything"));
        // Where flows are read still can be told.
        assert!(
            found.advice[0].step.starts_with("Let RFS pick"),
            "{found:#?}"
        );
    }
    // A card with one queue: its plan.
    let mut host = small(2);
    nic(&mut host, "eth0", 0, 24, &[1], &[0, 1]);
    let mut report = traffic("eth0", 24, &[(1, 4_000_000, 96)]);
    report.cpus.truncate(2);
    refuse(&mut report, "eth0", 0, 1, 60_000);
    for rule in ["backlog-overflow", "single-cpu"] {
        let found = judged(&report, &host, rule);
        assert!(steers(&found).is_empty(), "{found:#?}");
    }
}

#[test]
fn masks_send_everything_only_where_they_name_no_other_cpu() {
    let why = |cpus, mask: &[u32], full: &[u32]| {
        let found = steered(cpus, mask, full);
        steers(&found)[0].why.clone()
    };
    let all = "its RPS masks send everything to CPU 1, which is full";
    assert_eq!(why(2, &[1], &[1]), all);
    assert_eq!(why(4, &[1], &[1]), all);
    let some = "RPS steers packets of it to CPU 1, whose backlog is full";
    assert_eq!(why(4, &[1, 2], &[1]), some);
    let some = "RPS steers packets of it to CPUs 1-2, whose backlog is full";
    assert_eq!(why(4, &[1, 2, 3], &[1, 2]), some);
}
