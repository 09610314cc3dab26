//! How packets are fetched: late, without a pause, by threads, one at a time.

use super::*;

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
    // Few runs, since the CPU hardly was to be had: a tenth of the window in one wait.
    report.cpus[4].net_rx_wait_ns = Some(wait(SECOND));
    fires(&report, &host, "softirq-wait", Severity::Info);
    report.cpus[4].net_rx_wait_ns = None;
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
fn a_device_that_adapts_its_interrupt_rate_has_that_switched_off_before_it_is_set() {
    let (mut report, mut host) = well_spread();
    (report.irqs[0].count, report.irqs[0].per_cpu) = (600_000, [(4, 600_000)].into());
    for napi in &mut report.napi {
        napi.polls = napi.packets;
    }
    let mut told = |adaptive_rx| {
        let eth0 = host.devices.get_mut("eth0").unwrap();
        eth0.coalesce = Some(Coalesce {
            adaptive_rx,
            rx_usecs: Some(50),
            rx_frames: None,
        });
        let found = fires(&report, &host, "irq-rate", Severity::Info);
        let advice = found.advice[0].clone();
        (advice.command.unwrap(), advice.revert.unwrap())
    };
    assert_eq!(
        told(Some(true)),
        (
            "ethtool -C eth0 adaptive-rx off rx-usecs 100".to_owned(),
            "ethtool -C eth0 rx-usecs 50; ethtool -C eth0 adaptive-rx on".to_owned()
        )
    );
    assert_eq!(
        told(None),
        (
            "ethtool -C eth0 rx-usecs 100".to_owned(),
            "ethtool -C eth0 rx-usecs 50".to_owned()
        )
    );
}
