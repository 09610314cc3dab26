//! Reports made by hand, after measurements of real hosts.

use std::collections::BTreeMap;

use crate::analyze::rules::{Case, diagnose, threshold::Thresholds};
use crate::model::event::{Event, Flow, What};
use crate::model::report::{
    ArchIrq, Cpu, DetailCoverage, Device, Drop, DropTotals, HandlerTime, Hook, HookStatus, Host,
    Irq, Losses, Napi, PerCpu, Percentiles, Reconciliation, Report, SCHEMA, Samples, Softnet,
    Stage,
};
use crate::model::topology::{Nic, Place, Range, RxQueue, Topology, Vector};

const HOOKS: [&str; 9] = [
    "irq_handler_entry",
    "irq_handler_exit",
    "softirq_raise",
    "softirq_entry",
    "softirq_exit",
    "net_rx_action",
    "napi_poll",
    "kfree_skb",
    "enqueue_to_backlog",
];

fn attached() -> Vec<Hook> {
    let via = |name: &str| {
        if matches!(name, "net_rx_action" | "enqueue_to_backlog") {
            "fentry"
        } else {
            "tp_btf"
        }
    };
    HOOKS
        .iter()
        .map(|name| Hook {
            name: (*name).into(),
            via: Some(via(name).into()),
            status: HookStatus::Attached,
            missed: Some(0),
            ..Hook::default()
        })
        .collect()
}

fn percentiles(p50: u64) -> Percentiles {
    Percentiles {
        p50,
        p90: p50 * 2,
        p99: p50 * 4,
        p999: p50 * 8,
        max: p50 * 16,
    }
}

fn cpu(cpu: u32, hardirqs: u64, net_rx_runs: u64, net_rx_ns: u64, packets: u64) -> Cpu {
    Cpu {
        net_rx_wait_unknown: Some(0),
        cpu,
        node: Some(0),
        online: true,
        hardirqs: Some(hardirqs),
        hardirq_ns: Some(hardirqs * 1_800),
        hardirq_handler_ns: (hardirqs > 0).then(|| percentiles(1_700)),
        softirqs: BTreeMap::new(),
        net_rx_runs: Some(net_rx_runs),
        net_rx_ns: Some(net_rx_ns),
        net_rx_wait_ns: (net_rx_runs > 0).then(|| percentiles(1_500)),
        net_rx_run_ns: net_rx_ns.checked_div(net_rx_runs).map(percentiles),
        ksoftirqd_runs: Some(0),
        packets: Some(packets),
        budget_exhausted: Some(0),
        time_exhausted: Some(0),
        polls_outside_net_rx: Some(0),
        packets_outside_net_rx: Some(0),
        drops: Some(0),
        time: None,
        softnet: Some(Softnet {
            processed: packets,
            received_rps: Some(0),
            flow_limit: Some(0),
            backlog_len: Some(0),
            ..Softnet::default()
        }),
    }
}

fn irq(irq: u32, name: &str, per_cpu: PerCpu, affinity: &str, effective: &str) -> Irq {
    Irq {
        irq,
        name: name.into(),
        count: per_cpu.values().sum(),
        per_cpu,
        affinity: Some(affinity.into()),
        effective_affinity: Some(effective.into()),
        handler_ns: Some(HandlerTime {
            mean: 1_800,
            p50: None,
            p99: None,
            max: Some(64_000),
        }),
        ..Irq::default()
    }
}

fn arch(name: &str, description: &str, per_cpu: PerCpu) -> ArchIrq {
    ArchIrq {
        name: name.into(),
        description: description.into(),
        count: per_cpu.values().sum(),
        per_cpu,
    }
}

fn agree(counter: &str, n: u64) -> Reconciliation {
    Reconciliation {
        unexplained: Some(0),
        counter: counter.into(),
        delta: n,
        traced: Some(n),
        residual: Some(0),
        explanation: None,
    }
}

/// Four CPUs, four queues, nothing lost.
#[expect(clippy::too_many_lines, reason = "one report, spelled out")]
pub fn healthy() -> Report {
    Report {
        schema: SCHEMA,
        host: Host {
            name: "web1".into(),
            kernel: "6.12.9-amd64".into(),
            cpus: 4,
            nodes: 1,
            ..Host::default()
        },
        start_unix_ns: 1_769_829_127_000_000_000,
        duration_ns: 10_003_000_000,
        hooks: attached(),
        cpus: (0..4)
            .map(|n: u32| {
                let n = u64::from(n);
                cpu(
                    u32::try_from(n).unwrap(),
                    1_204 + n * 40,
                    1_220 + n * 41,
                    12_400_000 + n * 800_000,
                    4_118 + n * 97,
                )
            })
            .collect(),
        irqs: (0..4)
            .map(|n| Irq {
                device: Some("eth0".into()),
                queue: Some(n),
                ..irq(
                    24 + n,
                    &format!("eth0-rx-{n}"),
                    [(n, 1_204 + u64::from(n) * 40)].into(),
                    &n.to_string(),
                    &n.to_string(),
                )
            })
            .collect(),
        arch_irqs: vec![
            arch(
                "LOC",
                "Local timer interrupts",
                [(0, 2_210), (1, 2_004), (2, 1_980), (3, 2_101)].into(),
            ),
            arch("RES", "Rescheduling interrupts", [(0, 12), (2, 40)].into()),
            arch("CAL", "Function call interrupts", [(1, 31), (3, 8)].into()),
            arch("TLB", "TLB shootdowns", [(1, 4)].into()),
        ],
        napi: (0..4)
            .map(|n| Napi {
                device: "eth0".into(),
                napi_id: Some(8_193 + n),
                netns: None,
                polls: 1_220,
                packets: 4_118 - u64::from(n),
                full_budget: 0,
                per_cpu: [(n, 4_118)].into(),
            })
            .collect(),
        drop_totals: DropTotals {
            packets: Some(0),
            bytes: Some(0),
            harmful: Some(0),
            benign: Some(0),
            other_devices: Some(0),
            unattributed: Some(0),
        },
        devices: vec![
            Device {
                name: "eth0".into(),
                ifindex: 2,
                driver: Some("igb".into()),
                node: Some(0),
                rx_packets: 17_054,
                rx_bytes: 9_120_441,
                queues: Some(4),
                rps: Some("0".into()),
                ring: Some(256),
                driver_stats: BTreeMap::new(),
                ..Device::default()
            },
            Device {
                name: "lo".into(),
                ifindex: 1,
                ..Device::default()
            },
        ],
        reconciliation: vec![
            agree("softnet_stat dropped total", 0),
            agree("softirqs NET_RX cpu0", 1_220),
            agree("softirqs NET_RX total", 5_126),
            agree("interrupts total", 5_056),
        ],
        losses: Losses {
            recursion_missed: Some(0),
            detail_limited: 2_100,
            ..Losses::default()
        },
        details: vec![
            DetailCoverage {
                kind: "irq".into(),
                seen: 5_056,
                sent: 4_000,
                ring_full: 0,
                limited: 1_056,
            },
            DetailCoverage {
                kind: "net_rx".into(),
                seen: 5_126,
                sent: 4_082,
                ring_full: 0,
                limited: 1_044,
            },
        ],
        samples: Samples {
            slowest_net_rx: vec![Event {
                time_ns: 1,
                cpu: 2,
                what: What::NetRx {
                    wait_ns: Some(4_000),
                    run_ns: 168_000,
                    packets: 31,
                    ksoftirqd: false,
                    budget_exhausted: false,
                    time_exhausted: false,
                },
            }],
            slowest_irqs: vec![Event {
                time_ns: 1,
                cpu: 0,
                what: What::Irq {
                    irq: 24,
                    handler_ns: 64_000,
                },
            }],
            drops: vec![],
        },
        ..Report::default()
    }
}

/// The write-up's host: one CPU takes every interrupt, RPS points at another that cannot keep up.
#[expect(clippy::too_many_lines, reason = "one report, spelled out")]
pub fn incident() -> Report {
    let mut report = healthy();
    report.cpus = vec![
        Cpu {
            drops: Some(29_122),
            time_exhausted: Some(211),
            ksoftirqd_runs: Some(1_840),
            net_rx_wait_ns: Some(percentiles(410_000)),
            ..cpu(0, 412_877, 9_204, 9_412_000_000, 460_112)
        },
        Cpu {
            drops: Some(5),
            ..cpu(1, 12, 31_020, 2_140_000_000, 430_997)
        },
        Cpu {
            drops: Some(3),
            ..cpu(2, 8, 14, 90_000, 20)
        },
        Cpu {
            node: Some(1),
            ..cpu(3, 0, 0, 0, 0)
        },
    ];
    if let Some(row) = &mut report.cpus[0].softnet {
        (row.processed, row.time_squeeze) = (12, 214);
    }
    if let Some(row) = &mut report.cpus[1].softnet {
        (row.dropped, row.received_rps) = (29_115, Some(31_004));
    }
    report.host.nodes = 2;
    report.irqs = vec![
        Irq {
            device: Some("eth1".into()),
            queue: Some(0),
            node: Some(1),
            ..irq(36, "eth1-rx-0", [(0, 398_204)].into(), "0-3", "0")
        },
        Irq {
            device: Some("eth1".into()),
            queue: Some(1),
            node: Some(1),
            ..irq(37, "eth1-rx-1", [(0, 14_660), (1, 12)].into(), "0-3", "0")
        },
        irq(
            9,
            "ahci[0000:00:1f.2]",
            [(0, 13), (2, 8)].into(),
            "0-3",
            "2",
        ),
    ];
    report.arch_irqs[2] = arch(
        "CAL",
        "Function call interrupts",
        [(0, 20), (1, 31_120)].into(),
    );
    report.napi = vec![
        Napi {
            device: "eth1".into(),
            napi_id: Some(8_201),
            netns: None,
            polls: 9_188,
            packets: 460_080,
            full_budget: 6_120,
            per_cpu: [(0, 460_080)].into(),
        },
        Napi {
            device: "backlog".into(),
            napi_id: None,
            netns: None,
            polls: 31_020,
            packets: 430_997,
            full_budget: 4_410,
            per_cpu: [(0, 12), (1, 430_985)].into(),
        },
    ];
    report.drops = vec![
        Drop {
            site: "enqueue_to_backlog".into(),
            offset: Some(0x1a3),
            reason: Some("CPU_BACKLOG".into()),
            device: Some("eth1".into()),
            protocol: "ipv4".into(),
            netns: Some("redis".into()),
            packets: 29_115,
            bytes: 29_115 * 60,
            per_cpu: [(0, 29_115)].into(),
            per_target_cpu: Some([(1, 29_115)].into()),
            stage: Stage::Backlog,
            benign: false,
        },
        Drop {
            site: "udp_queue_rcv_one_skb".into(),
            offset: Some(0x2b0),
            reason: Some("SOCKET_RCVBUFF".into()),
            device: Some("eth1".into()),
            protocol: "ipv4".into(),
            packets: 12,
            bytes: 720,
            per_cpu: [(0, 7), (1, 5)].into(),
            stage: Stage::Udp,
            ..Drop::default()
        },
        Drop {
            site: "__udp4_lib_rcv".into(),
            offset: Some(0x5d1),
            reason: Some("NO_SOCKET".into()),
            device: Some("lo".into()),
            protocol: "ipv4".into(),
            packets: 3,
            bytes: 180,
            per_cpu: [(2, 3)].into(),
            stage: Stage::Udp,
            benign: true,
            ..Drop::default()
        },
    ];
    report.drop_totals = DropTotals {
        packets: Some(29_130),
        bytes: Some(29_130 * 60),
        harmful: Some(29_127),
        benign: Some(3),
        other_devices: Some(0),
        unattributed: Some(0),
    };
    report.devices[0] = Device {
        name: "eth1".into(),
        ifindex: 3,
        driver: Some("igb".into()),
        node: Some(1),
        rx_packets: 460_080,
        rx_bytes: 27_604_800,
        rx_dropped: 29_115,
        queues: Some(2),
        rps: Some("2".into()),
        ring: Some(256),
        driver_stats: BTreeMap::new(),
        ..Device::default()
    };
    report.reconciliation = vec![
        agree("softnet_stat dropped cpu1", 29_115),
        agree("softnet_stat dropped total", 29_115),
        agree("eth1 rx_dropped", 29_115),
        Reconciliation {
            unexplained: Some(0),
            counter: "softirqs NET_RX cpu0".into(),
            delta: 9_206,
            traced: Some(9_204),
            residual: Some(2),
            explanation: Some("counters were read 120 µs apart; up to 2 could fall between".into()),
        },
        agree("interrupts total", 412_897),
    ];
    report.samples.drops = vec![Event {
        time_ns: 1,
        cpu: 0,
        what: What::Drop {
            site: "enqueue_to_backlog".into(),
            offset: Some(0x1a3),
            reason: Some("CPU_BACKLOG".into()),
            device: Some("eth1".into()),
            netns: Some("redis".into()),
            protocol: "ipv4".into(),
            len: 60,
            target_cpu: Some(1),
            flow: Some(Flow {
                protocol: 17,
                source: [10, 0, 0, 1].into(),
                source_port: Some(40_112),
                destination: [10, 0, 0, 2].into(),
                destination_port: Some(6_379),
            }),
        },
    }];
    let host = incident_host();
    (report.findings, report.abstained) = diagnose(Case {
        report: &report,
        host: &host,
        thresholds: &Thresholds::default(),
        apps: &[],
    });
    report
}

/// How the host of [`incident`] is set up: two nodes of two CPUs, the NIC on the second.
pub fn incident_host() -> Topology {
    let queue = |irq| RxQueue {
        rps_cpus: vec![1],
        rps_flow_cnt: Some(0),
        irq: Some(irq),
        ..RxQueue::default()
    };
    let vector = |queue: u32| Vector {
        name: format!("eth1-rx-{queue}"),
        device: Some("eth1".into()),
        queue: Some(queue),
        node: Some(1),
        affinity: vec![0, 1, 2, 3],
        effective: vec![0],
        managed: Some(false),
    };
    Topology {
        cpus: (0..4)
            .map(|cpu| {
                let place = Place {
                    online: true,
                    node: Some(cpu / 2),
                    package: Some(cpu / 2),
                    core: Some(cpu % 2),
                    siblings: vec![cpu],
                    isolated: false,
                };
                (cpu, place)
            })
            .collect(),
        devices: [(
            "eth1".into(),
            Nic {
                ifindex: 3,
                driver: Some("igb".into()),
                bus: Some("0000:81:00.0".into()),
                node: Some(1),
                rx_queues: [(0, queue(36)), (1, queue(37))].into(),
                ring: Some(Range {
                    now: 256,
                    max: Some(4_096),
                }),
                ..Nic::default()
            },
        )]
        .into(),
        irqs: [(36, vector(0)), (37, vector(1))].into(),
        sysctls: [
            ("net.core.netdev_max_backlog", "1000"),
            ("net.core.netdev_budget", "300"),
            ("net.core.netdev_budget_usecs", "2000"),
            ("net.core.rmem_max", "212992"),
            ("net.core.rps_sock_flow_entries", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..Topology::default()
    }
}

/// `kfree_skb` and `enqueue_to_backlog` were refused: drops are only in the kernel's counters.
pub fn no_kfree_skb() -> Report {
    let mut report = incident();
    report.findings.clear();
    report.drops.clear();
    report.samples.drops.clear();
    report.drop_totals = DropTotals::default();
    for cpu in &mut report.cpus {
        cpu.drops = None;
    }
    for (name, via, reason) in [
        (
            "kfree_skb",
            None,
            "tp_btf: Invalid argument (os error 22); raw_tp: Operation not permitted (os error 1)",
        ),
        (
            "enqueue_to_backlog",
            Some("softnet_stat"),
            "fentry: Operation not permitted (os error 1); kprobe: not built into this kernel",
        ),
    ] {
        if let Some(hook) = report.hooks.iter_mut().find(|hook| hook.name == name) {
            *hook = Hook {
                name: name.into(),
                via: via.map(Into::into),
                status: HookStatus::Failed,
                reason: Some(reason.into()),
                ..Hook::default()
            };
        }
    }
    for row in report.reconciliation.iter_mut().take(3) {
        (row.traced, row.residual) = (None, None);
    }
    report.losses.recursion_missed = None;
    report
}

/// 64 CPUs on two nodes and 200 interrupts, most of which do next to nothing.
pub fn many_cpus() -> Report {
    let mut report = healthy();
    report.host = Host {
        name: "storage-7.fra.example".into(),
        kernel: "6.1.0-28-amd64".into(),
        cpus: 64,
        nodes: 2,
        ..Host::default()
    };
    report.cpus = (0..64u32)
        .map(|n| {
            let load = u64::from(if n < 12 { 90 - n * 5 } else { n % 3 });
            Cpu {
                node: Some(n / 32),
                ..cpu(
                    n,
                    load * 31_007,
                    load * 30_112,
                    load * 61_234_567,
                    load * 412_345,
                )
            }
        })
        .collect();
    report.irqs = (0..200u32)
        .map(|n| {
            let name = format!("mlx5_comp{n}@pci:0000:{:02x}:00.0", 0x3b + n / 64);
            let device = format!("enp{}s0f0np0", 59 + n / 64);
            Irq {
                device: Some(device),
                queue: Some(n % 64),
                node: Some(n % 2),
                ..irq(
                    120 + n,
                    &name,
                    [(n % 64, 2_400_000 / u64::from(n * n + 1) + 3)].into(),
                    &format!("{}", n % 64),
                    &format!("{}", n % 64),
                )
            }
        })
        .collect();
    report.napi = (0..64u32)
        .map(|n| Napi {
            device: "enp59s0f0np0".into(),
            napi_id: Some(8_193 + n),
            netns: None,
            polls: 2_400_000 / u64::from(n + 1),
            packets: 31_000_000 / u64::from(n + 1),
            full_budget: 17,
            per_cpu: [(n, 1)].into(),
        })
        .collect();
    report.reconciliation = (0..64)
        .map(|n| agree(&format!("softirqs NET_RX cpu{n}"), 30_112))
        .collect();
    report
}

/// Only what a healthy host drops.
pub fn benign_only() -> Report {
    let mut report = healthy();
    let benign =
        |site: &str, offset, reason: &str, device: &str, protocol: &str, packets, stage| Drop {
            site: site.into(),
            offset: Some(offset),
            reason: Some(reason.into()),
            device: Some(device.into()),
            protocol: protocol.into(),
            packets,
            bytes: packets * 60,
            per_cpu: [(1, packets)].into(),
            stage,
            benign: true,
            ..Drop::default()
        };
    report.drops = vec![
        benign(
            "__udp4_lib_rcv",
            0x5d1,
            "NO_SOCKET",
            "eth0",
            "ipv4",
            12,
            Stage::Udp,
        ),
        benign(
            "__netif_receive_skb_core",
            0x1c2,
            "UNHANDLED_PROTO",
            "eth0",
            "0x88cc",
            2,
            Stage::Other,
        ),
    ];
    report.cpus[1].drops = Some(14);
    report.drop_totals = DropTotals {
        packets: Some(14),
        bytes: Some(840),
        benign: Some(14),
        ..report.drop_totals
    };
    report
}

/// Every sort of loss, a full drop table among them, on a selection of devices.
pub fn lossy() -> Report {
    let mut report = incident();
    report.findings.clear();
    report.interfaces = vec!["eth1".into()];
    report
        .drops
        .retain(|drop| drop.device.as_deref() == Some("eth1"));
    report.drop_totals.packets = Some(31_200);
    report.drop_totals.unattributed = Some(1_070);
    report.drop_totals.benign = Some(0);
    report.drop_totals.other_devices = Some(1_003);
    report.hooks[7].missed = Some(46);
    report.cpus[3].online = false;
    report.cpus[1].polls_outside_net_rx = Some(77);
    report.cpus[1].packets_outside_net_rx = Some(1_204);
    if let Some(row) = &mut report.cpus[0].softnet {
        row.flow_limit = Some(31);
    }
    report.devices[0].rx_missed = 88;
    report.losses = Losses {
        net_rx_nested: 0,
        ring_full: 12_881,
        map_full: 1_077,
        irq_table_full: 3,
        napi_table_full: 4,
        drop_table_full: 1_070,
        recursion_missed: Some(46),
        unreadable: 9,
        detail_limited: 400_122,
        undecodable: 1,
    };
    report.reconciliation.push(Reconciliation {
        unexplained: Some(10),
        counter: "interrupts 36".into(),
        delta: 398_260,
        traced: Some(398_204),
        residual: Some(56),
        explanation: Some("the program was skipped 46 times by recursion; 10 unexplained".into()),
    });
    report.notes = vec!["CPU 3 went offline during the run; its counters end there".into()];
    report
}

/// `kptr_restrict=2`: addresses instead of names, on a kernel without reasons.
pub fn hidden_names() -> Report {
    let mut report = incident();
    report.findings.clear();
    report.host.kernel = "5.10.0-33-amd64".into();
    for (drop, address) in report.drops.iter_mut().zip([
        "0xffffffff81a3c1f3",
        "0xffffffff81b20b40",
        "0xffffffff81b22d1e",
    ]) {
        drop.site = address.into();
        drop.offset = None;
        drop.reason = None;
        drop.stage = Stage::Other;
        drop.per_target_cpu = None;
        drop.benign = false;
    }
    report.samples.drops.clear();
    report.drop_totals.harmful = Some(29_130);
    report.drop_totals.benign = Some(0);
    report.losses.recursion_missed = None;
    report.notes = vec![
        "kernel.kptr_restrict is 2: functions are shown as addresses; set it to 1 to see names"
            .into(),
        "this kernel gives no drop reasons (they came with 5.17)".into(),
    ];
    report
}

/// A socket that nobody reads, on a host where neither fentry nor kprobe can be attached.
pub fn full_socket() -> Report {
    let mut report = incident();
    report.findings.clear();
    report.drops[0].packets = 2_442;
    report.drops[0].per_target_cpu = None;
    report.drops[1].packets = 19_758;
    report.drops.swap(0, 1);
    report.drop_totals.harmful = Some(22_200);
    report.drop_totals.packets = Some(22_203);
    for cpu in &mut report.cpus {
        cpu.net_rx_ns = cpu.net_rx_ns.map(|ns| ns / 2);
        cpu.budget_exhausted = Some(u64::from(cpu.cpu == 1) * 3);
        if let Some(row) = &mut cpu.softnet {
            (row.dropped, row.time_squeeze) = (u64::from(cpu.cpu == 1) * 2_442, 0);
        }
    }
    for hook in &mut report.hooks {
        match hook.name.as_str() {
            "net_rx_action" => {
                hook.status = HookStatus::Skipped;
                hook.via = Some("softirq_entry/exit".into());
                hook.reason = Some("not needed: softirq_entry/exit bracket the same call".into());
            }
            "enqueue_to_backlog" => {
                hook.status = HookStatus::Failed;
                hook.via = Some("softnet_stat".into());
                hook.reason = Some("kprobe: this kernel has no kprobes".into());
            }
            _ => {}
        }
    }
    report.reconciliation = vec![
        Reconciliation {
            counter: "softnet_stat dropped cpu1".into(),
            delta: 2_442,
            explanation: Some(
                "enqueue_to_backlog is not hooked, so the target CPU is not known; see the total"
                    .into(),
            ),
            ..Reconciliation::default()
        },
        agree("softnet_stat dropped total", 2_442),
        agree("eth1 rx_dropped", 2_442),
    ];
    report
}
