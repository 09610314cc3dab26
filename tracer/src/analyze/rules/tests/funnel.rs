//! Vectors, masks and processes in one place, on the wrong node, in one queue.

use super::*;

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
fn a_queue_with_vectors_to_receive_and_to_transmit_is_still_one() {
    let mut host = host();
    nic(&mut host, "eth0", 1, 24, &[4, 5, 6, 7], &[]);
    for queue in 0..4 {
        let mut transmits = host.irqs[&(24 + queue)].clone();
        transmits.name = format!("eth0-tx-{queue}");
        host.irqs.insert(28 + queue, transmits);
    }
    let report = traffic("eth0", 24, &[(4, 4_000_000, 96), (5, 9_000, 1)]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert!(
        found.summary.contains("2 of 8 vectors"),
        "{}",
        found.summary
    );
    assert!(
        found.will_not_help[0].starts_with("one of 4 queues of eth0"),
        "{found:#?}"
    );
    // Two queues are there.
    let transmits = host.irqs.get_mut(&29).unwrap();
    transmits.effective = vec![4];
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert!(
        commands(&found)[0].contains("smp_affinity_list"),
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

#[test]
fn vectors_that_the_kernel_may_manage_are_moved_with_a_warning() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0, 0, 0, 0], &[]);
    let report = traffic("eth0", 24, &[(0, 4_000_000, 94)]);
    let risk = |host: &Topology| {
        let found = fires(&report, host, "single-cpu", Severity::Warning);
        let pins = |advice: &&Advice| {
            let command = advice.command.as_deref();
            command.is_some_and(|command| command.contains("smp_affinity_list"))
        };
        let pin = found.advice.iter().find(pins).unwrap();
        pin.risk.clone().unwrap()
    };
    assert!(!risk(&host).contains("EPERM"), "{}", risk(&host));
    host.irqs.get_mut(&26).unwrap().managed = None;
    let may = risk(&host);
    assert!(may.contains("EPERM"), "{may}");
    assert!(may.ends_with("ethtool -L eth0 combined N"), "{may}");
    host.devices.get_mut("eth0").unwrap().channel_kind = Some(ChannelKind::Rx);
    let may = risk(&host);
    assert!(may.ends_with("ethtool -L eth0 rx N"), "{may}");
}

#[test]
fn receive_channels_of_managed_vectors_are_not_called_combined() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0, 0, 0, 0], &[]);
    for vector in host.irqs.values_mut() {
        vector.managed = Some(true);
    }
    let eth0 = host.devices.get_mut("eth0").unwrap();
    eth0.channels = Some(Range {
        now: 4,
        max: Some(63),
    });
    eth0.channel_kind = Some(ChannelKind::Rx);
    let report = traffic("eth0", 24, &[(0, 4_000_000, 94)]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert_eq!(commands(&found)[0], "ethtool -L eth0 rx 8");
    assert_eq!(
        found.advice[0].revert.as_deref(),
        Some("ethtool -L eth0 rx 4")
    );
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
fn a_managed_interrupt_is_left_alone_and_keeps_no_advice_from_others() {
    let (report, mut host) = well_spread();
    let managed = host.irqs.get_mut(&24).unwrap();
    managed.managed = Some(true);
    is_silent(&report, &host, "effective-affinity");
    let managed = host.irqs.get_mut(&24).unwrap();
    managed.affinity = vec![6];
    let found = fires(&report, &host, "effective-affinity", Severity::Warning);
    let told = commands(&found);
    assert!(
        matches!(told.as_slice(), [one] if one.starts_with("ethtool -l ")),
        "{told:?}"
    );
    let own = host.irqs.get_mut(&25).unwrap();
    own.affinity = vec![7];
    let found = fires(&report, &host, "effective-affinity", Severity::Warning);
    let told = commands(&found);
    assert!(told[0].starts_with("ethtool -l "), "{told:?}");
    assert_eq!(told[2], "echo 7 > /proc/irq/25/smp_affinity_list");
    let writes = told.iter().any(|line| line.contains("> /proc/irq/24/"));
    assert!(!writes, "{told:?}");
}

#[test]
fn irqbalance_matters_where_interrupts_are_to_be_pinned() {
    let (report, mut host) = incident();
    is_silent(&report, &host, "irqbalance");
    host.irqbalance = Some(Irqbalance {
        pid: 600,
        args: vec!["--foreground".into(), "--policyscript=/x; reboot".into()],
        banned_irqs: vec![24],
        banned_cpus: vec![],
    });
    fires(&report, &host, "irqbalance", Severity::Warning);
    let found = fires(&report, &host, "single-cpu", Severity::Critical);
    assert_eq!(found.advice[0].command, None);
    let by_hand = found.advice[0].risk.as_deref().unwrap();
    assert!(
        by_hand.contains("--banirq=25 --banirq=26 --banirq=27"),
        "{by_hand}"
    );
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
    let group = |path: &str, version, own| Cpuset {
        dir: format!("/sys/fs/cgroup{path}"),
        version,
        own,
        cpus: "0-2".into(),
    };
    host.processes[0].cpuset = Some("/system.slice/redis.service".into());
    host.processes[0].confined_by = Some(group("/system.slice/redis.service", 2, true));
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert_eq!(
        commands(&found).last(),
        Some(&"systemctl set-property --runtime redis.service AllowedCPUs=6-7,14-15")
    );
    let advice = found.advice.last().unwrap();
    assert_eq!(
        advice.revert.as_deref(),
        Some("systemctl set-property --runtime redis.service AllowedCPUs=0-2")
    );
    assert!(advice.step.contains("all processes"), "{advice:#?}");
    // Of version 1 systemd sets nothing.
    host.processes[0].confined_by = Some(group("/cpuset/system.slice/redis.service", 1, true));
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert_eq!(
        commands(&found).last(),
        Some(&"echo 6-7,14-15 > /sys/fs/cgroup/cpuset/system.slice/redis.service/cpuset.cpus")
    );
    // A group with others in it is not moved.
    host.processes[0].cpuset = Some("/system.slice".into());
    host.processes[0].confined_by = Some(group("/system.slice", 2, false));
    let found = fires(&report, &host, "shared-cpu", Severity::Warning);
    assert_eq!(found.advice.last().unwrap().command, None, "{found:#?}");
    host.processes[0].cpuset = Some("/pods/redis".into());
    host.processes[0].confined_by = Some(group("/pods/redis", 2, true));
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
fn a_virtio_device_with_one_queue_needs_rps_or_more_queues() {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0], &[]);
    let report = traffic("eth0", 24, &[(0, 400_000, 20)]);
    is_silent(&report, &host, "single-queue");
    host.devices.get_mut("eth0").unwrap().driver = Some("virtio_net".into());
    let mut told = |channels| {
        host.devices.get_mut("eth0").unwrap().channels = channels;
        fires(&report, &host, "single-queue", Severity::Info)
    };
    let now_1 = |max| Some(Range { now: 1, max });
    let steer = "echo e0e > /sys/class/net/eth0/queues/rx-0/rps_cpus";
    let found = told(now_1(Some(1)));
    assert!(found.summary.contains("gives no more"), "{found:#?}");
    assert_eq!(commands(&found)[0], steer);
    for unknown in [None, now_1(None)] {
        let found = told(unknown);
        assert!(
            found.summary.contains("how many it may have is not known"),
            "{found:#?}"
        );
        assert_eq!(commands(&found)[..2], ["ethtool -l eth0", steer]);
    }
    let found = told(now_1(Some(4)));
    assert_eq!(commands(&found), ["ethtool -L eth0 combined 4"]);
    nic(&mut host, "eth0", 0, 24, &[0], &[1, 2]);
    host.devices.get_mut("eth0").unwrap().driver = Some("virtio_net".into());
    is_silent(&report, &host, "single-queue");
}

/// Two vectors and RPS masks of a card on CPU 0, which polled 100,000 packets and refused `refused`, `busy` % in softirqs.
fn pointed_at_one(busy: u64, refused: u64) -> (Report, Topology) {
    let mut host = host();
    nic(&mut host, "eth0", 0, 24, &[0, 0], &[0]);
    let mut report = traffic("eth0", 24, &[(0, 100_000, busy)]);
    refuse(&mut report, "eth0", 0, 0, refused);
    (report, host)
}

#[test]
fn a_cpu_with_time_left_is_a_bottleneck_only_by_what_it_refuses() {
    let critical = |busy, refused| {
        let (report, host) = pointed_at_one(busy, refused);
        fires(&report, &host, "single-cpu", Severity::Critical)
    };
    let warning = |busy, refused| {
        let (report, host) = pointed_at_one(busy, refused);
        fires(&report, &host, "single-cpu", Severity::Warning)
    };
    let silent = |busy, refused| {
        let (report, host) = pointed_at_one(busy, refused);
        is_silent(&report, &host, "single-cpu");
        fires(&report, &host, "backlog-overflow", Severity::Critical);
    };
    let found = critical(40, 20_000);
    let rate = found.evidence.iter().map(|evidence| &evidence.value);
    assert!(
        rate.clone().any(|value| value.contains("per million")),
        "{found:#?}"
    );
    warning(40, 500);
    silent(40, 99);
    critical(4, 20_000);
    warning(4, 5_000);
    silent(4, 500);
    silent(4, 3);
    critical(94, 3);
}

#[test]
fn a_graver_effect_is_not_put_under_a_warning() {
    let (report, host) = pointed_at_one(40, 500);
    let all = findings(&report, &host);
    let told: Vec<_> = all.iter().map(|f| (f.rule.as_str(), f.severity)).collect();
    assert_eq!(
        told[..2],
        [
            ("backlog-overflow", Severity::Critical),
            ("single-cpu", Severity::Warning)
        ]
    );
}

/// A virtual device whose RPS mask has CPU 1 alone, and which fills that.
fn steered_to_cpu_1(host: &mut Topology) -> Report {
    let pair = Nic {
        rx_queues: [(
            0,
            RxQueue {
                rps_cpus: vec![1],
                ..RxQueue::default()
            },
        )]
        .into(),
        ..Nic::default()
    };
    host.devices.insert("veth0".into(), pair);
    let mut report = traffic("veth0", 24, &[(1, 100_000, 94)]);
    report.cpus.truncate(2);
    report.irqs.clear();
    report
}

/// Two CPUs without siblings.
fn two_cpus() -> Topology {
    let mut host = host();
    host.cpus.retain(|cpu, _| *cpu < 2);
    for (cpu, place) in &mut host.cpus {
        (place.node, place.siblings) = (Some(0), vec![*cpu]);
    }
    host
}

#[test]
fn on_two_cpus_no_mask_moves_everything_to_the_other_one() {
    let masks = |found: &Finding| -> Vec<String> {
        let masks = commands(found)
            .into_iter()
            .filter(|c| c.contains("rps_cpus"));
        masks.map(str::to_owned).collect()
    };
    // A virtual device, its RPS mask on CPU 1.
    let mut host = two_cpus();
    let mut report = steered_to_cpu_1(&mut host);
    refuse(&mut report, "veth0", 0, 1, 60_000);
    for rule in ["single-cpu", "backlog-overflow"] {
        let alone: Vec<_> = RULES.iter().filter(|r| r.id == rule).collect();
        let thresholds = Thresholds::default();
        let case = Case {
            report: &report,
            host: &host,
            thresholds: &thresholds,
            apps: &[],
        };
        let found = (alone[0].judge)(case).unwrap().remove(0).finding;
        assert_eq!(
            masks(&found),
            ["echo 3 > /sys/class/net/veth0/queues/rx-0/rps_cpus"],
            "{found:#?}"
        );
    }
    // A card with one queue: the vector stays where it is.
    let mut host = two_cpus();
    nic(&mut host, "eth0", 0, 24, &[1], &[]);
    let mut report = traffic("eth0", 24, &[(1, 4_000_000, 96)]);
    report.cpus.truncate(2);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert_eq!(
        masks(&found),
        ["echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus"]
    );
    assert!(
        !commands(&found).iter().any(|c| c.contains("smp_affinity")),
        "{found:#?}"
    );
    assert!(found.advice[0].why.contains("alone"), "{found:#?}");
    // Near miss: two queues can be spread over both.
    nic(&mut host, "eth0", 0, 24, &[1, 1], &[]);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert_eq!(
        commands(&found)[0],
        "echo 0 > /proc/irq/24/smp_affinity_list"
    );
}

#[test]
fn where_the_other_cpus_are_isolated_one_mask_says_so() {
    let mut host = two_cpus();
    host.cpus.get_mut(&1).unwrap().isolated = true;
    let report = steered_to_cpu_1(&mut host);
    let found = fires(&report, &host, "single-cpu", Severity::Warning);
    assert!(
        found
            .summary
            .ends_with("1 of 1 RPS mask of veth0 points to it"),
        "{found:#?}"
    );
    assert_eq!(
        commands(&found)[0],
        "echo 1 > /sys/class/net/veth0/queues/rx-0/rps_cpus"
    );
    assert!(found.advice[0].why.ends_with("not isolated"), "{found:#?}");
}
