//! Hosts and reports made by hand; nothing here was captured.

use std::collections::BTreeMap;

use crate::{
    model::{
        report::{CpuTime, Drop, Irq, Napi, Percentiles, Report, Stage},
        topology::{Coalesce, Nic, Place, Process, Range, RxQueue, Topology, Vector},
    },
    report::fixture,
};

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Two nodes of four cores with two threads each: CPU n and n + 8 are one core, 0-3 and 8-11 node 0.
pub(crate) fn two_nodes() -> BTreeMap<u32, Place> {
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
pub(crate) fn nic(
    host: &mut Topology,
    name: &str,
    node: u32,
    first_irq: u32,
    cpus: &[u32],
    rps: &[u32],
) {
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

pub(crate) fn host() -> Topology {
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
pub(crate) fn traffic(device: &str, first_irq: u32, by_cpu: &[(u32, u64, u64)]) -> Report {
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
            netns: None,
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

pub(crate) fn wait(p99: u64) -> Percentiles {
    Percentiles {
        p50: p99 / 4,
        p90: p99 / 2,
        p99,
        p999: p99 * 2,
        max: p99 * 4,
    }
}

pub(crate) fn refuse(report: &mut Report, device: &str, on: u32, target: u32, packets: u64) {
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

pub(crate) fn drop(site: &str, reason: &str, stage: Stage, packets: u64) -> Drop {
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

pub(crate) fn redis(cpu: u32) -> Process {
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
pub(crate) fn incident() -> (Report, Topology) {
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
pub(crate) fn well_spread() -> (Report, Topology) {
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
