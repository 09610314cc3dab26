//! A made-up busy host of any width, for tests and benchmarks: what a run on it reads every second.

use std::collections::BTreeMap;

use tracer_common::{
    counter::{CpuCounters, DropCounters, DropKey, NO_CPU, NapiCounters, SOFTIRQ_NAMES},
    hist::bucket,
};

use crate::{
    analyze::{
        names::{Function, Kernel, Names},
        rules::threshold::Thresholds,
        summary::Facts,
    },
    model::{
        report::{Hook, HookStatus, Host},
        snapshot::{KernelCounters, Snapshot, Traced},
        topology::{Irqbalance, Nic, Place, Process, RxQueue, Topology, Vector},
    },
    proc::{interrupts::Row, netdev::DeviceFacts, softnet::SoftnetRow},
    topology::irq::IrqFacts,
};

const OWN: u32 = 4_026_531_840;
/// Network cards, each with a vector for every CPU.
const CARDS: u32 = 4;
/// The first vector of a card.
const FIRST_IRQ: u32 = 64;

/// How wide the host is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// CPUs.
    pub cpus: u32,
    /// NUMA nodes; CPUs are on them in turn.
    pub nodes: u32,
    /// Interrupts that are no card's and never come, as a disk has them for each CPU.
    pub idle_irqs: u32,
    /// Places where packets are dropped.
    pub sites: u32,
}

impl Shape {
    /// Two nodes, a hundred places.
    #[must_use]
    pub const fn of(cpus: u32) -> Self {
        Self {
            cpus,
            nodes: 2,
            idle_irqs: 0,
            sites: 100,
        }
    }
}

/// Numbers that look random and are the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.roll() >> 11) % limit.max(1)
    }

    /// A number below `limit`.
    pub fn below_u32(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(limit.into())).unwrap_or(0)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct Synthetic;

impl Kernel for Synthetic {
    fn function(&self, address: u64) -> Option<Function> {
        Some(Function {
            name: format!("function_that_drops_{}", address & 0xff),
            module: (address & 1 == 1).then(|| "nf_tables".to_owned()),
            offset: address & 0xfff,
        })
    }

    fn reason(&self, number: u32) -> Option<String> {
        (2..130).contains(&number).then(|| match number {
            3 => "NO_SOCKET".to_owned(),
            5 => "CPU_BACKLOG".to_owned(),
            _ => format!("REASON_NUMBER_{number}"),
        })
    }
}

/// What a run knows about the host beside its counters.
#[must_use]
pub fn facts(shape: Shape) -> Facts {
    let Shape { cpus, nodes, .. } = shape;
    let topology = topology(shape);
    let mut names = Names::new(Box::new(Synthetic));
    names.own_netns = OWN;
    names.devices.insert((OWN, 2), "eth0".to_owned());
    names.netns.insert(9, "blue".to_owned());
    let irqs = topology.irqs.iter().map(|(irq, vector)| {
        let facts = IrqFacts {
            name: vector.name.clone(),
            device: vector.device.clone(),
            queue: vector.queue,
            affinity: Some(irq.to_string()),
            ..IrqFacts::default()
        };
        (*irq, facts)
    });
    Facts {
        host: Host {
            name: "web7".to_owned(),
            kernel: "6.12.1".to_owned(),
            cpus,
            nodes,
            ..Host::default()
        },
        node_of: (0..cpus).map(|cpu| (cpu, cpu % nodes)).collect(),
        names,
        irqs: irqs.collect(),
        devices: [("eth0".to_owned(), DeviceFacts::default())].into(),
        topology: Some(topology),
        interfaces: BTreeMap::new(),
        kinds: tracer_common::event::Kind::ALL.to_vec(),
        budget_known: true,
        names_full_backlog: true,
        processes: Vec::new(),
        thresholds: Thresholds::default(),
        notes: vec!["a note".to_owned()],
    }
}

fn topology(shape: Shape) -> Topology {
    let Shape { cpus, nodes, .. } = shape;
    let place = |cpu: u32| Place {
        online: true,
        node: Some(cpu % nodes),
        package: Some(cpu % nodes),
        core: Some(cpu / 4),
        siblings: vec![cpu, cpu ^ 1],
        isolated: false,
    };
    let vector = |queue: u32| Vector {
        name: format!("eth0-TxRx-{queue}"),
        device: Some("eth0".to_owned()),
        queue: Some(queue),
        node: Some(0),
        affinity: vec![queue],
        effective: vec![queue],
        managed: Some(false),
    };
    let queue = |queue: u32| RxQueue {
        rps_flow_cnt: Some(0),
        napi_id: Some(8193 + queue),
        irq: Some(FIRST_IRQ + queue),
        ..RxQueue::default()
    };
    let nic = Nic {
        ifindex: 2,
        rx_queues: (0..cpus).map(|n| (n, queue(n))).collect(),
        xps_cpus: (0..cpus).map(|n| (n, mask(n))).collect(),
        ..Nic::default()
    };
    Topology {
        cpus: (0..cpus).map(|cpu| (cpu, place(cpu))).collect(),
        devices: [("eth0".to_owned(), nic)].into(),
        irqs: (0..cpus).map(|n| (FIRST_IRQ + n, vector(n))).collect(),
        sysctls: (0..40)
            .map(|n| (format!("net.core.setting_{n}"), "1000".to_owned()))
            .collect(),
        // Every field by name: one that is new has to be recorded, too.
        host_sysctls: ["net.core.setting_1".to_owned()].into(),
        netns: None,
        irqbalance: Some(Irqbalance {
            pid: 600,
            ..Irqbalance::default()
        }),
        tick_ns: Some(4_000_000),
        hypervisor: Some("kvm".to_owned()),
        processes: vec![Process {
            pid: 812,
            ..Process::default()
        }],
    }
}

/// One second of a busy host goes by: every CPU takes interrupts and packets, every counter moves.
pub fn second(now: &mut Snapshot, shape: Shape, dice: &mut Dice) {
    let Shape { cpus, sites, .. } = shape;
    now.monotonic_ns += 1_000_000_000 + dice.below(1_000_000);
    now.unix_ns += 1_000_000_000 + dice.below(1_000_000);
    now.gaps.softnet = 100_000 + dice.below(90_000);
    now.gaps.interrupts = 100_000 + dice.below(90_000);
    now.gaps.protocols = 100_000 + dice.below(90_000);
    now.between.hardirqs = dice.below(200);
    for cpu in 0..cpus {
        now.between.net_rx.insert(cpu, dice.below(30));
        busy_cpu(now, cpu, cpus, dice);
    }
    for site in 0..sites {
        let key = DropKey {
            location: 0xffff_ffff_81a0_0000 + 0x1234 * u64::from(site),
            reason: 2 + site % 100,
            ifindex: 2,
            netns: OWN,
            target_cpu: NO_CPU,
            protocol: 0x800,
            reserved: 0,
        };
        let per_cpu = now.traced.drops.entry(key).or_default();
        // Where its queues are handled.
        for turn in 0..4 {
            let cpu = (site * 7 + turn * 16) % cpus;
            let entry = per_cpu.entry(cpu).or_insert(DropCounters::ZERO);
            let packets = dice.below(500);
            entry.packets += packets;
            entry.bytes += packets * (64 + dice.below(1400));
        }
    }
    for n in 0..400u64 {
        let counter = now.kernel.protocols.entry(format!("TcpExt.Counter{n}"));
        *counter.or_default() += if n < 60 { dice.below(100_000) } else { 0 };
    }
    for index in 1..5 {
        let device = now.kernel.devices.entry(index).or_default();
        device.ifindex = index;
        device.name = format!("eth{}", index - 2 * u32::from(index > 1));
        device.rx_packets += dice.below(3_000_000);
        device.rx_bytes += dice.below(3_000_000_000);
        device.rx_dropped += dice.below(3000);
    }
}

fn busy_cpu(now: &mut Snapshot, cpu: u32, cpus: u32, dice: &mut Dice) {
    let c = now
        .traced
        .cpus
        .entry(cpu)
        .or_insert_with(|| Box::new(CpuCounters::ZERO));
    let runs = 2_500 + dice.below(1_000);
    c.hardirqs += runs;
    c.hardirq_max_ns = c.hardirq_max_ns.max(dice.below(100_000));
    c.net_rx_runs += runs;
    c.net_rx_ns += runs * (9000 + dice.below(3000));
    c.net_rx_run_max_ns = c.net_rx_run_max_ns.max(dice.below(9_000_000));
    c.net_rx_wait_max_ns = c.net_rx_wait_max_ns.max(dice.below(900_000));
    c.ksoftirqd_runs += dice.below(50);
    c.packets += runs * (4 + dice.below(9));
    c.budget_exhausted += dice.below(10);
    c.time_exhausted += dice.below(10);
    for (vector, rate, ns) in [
        (1, 1000, 900),
        (2, 40, 2000),
        (7, 900, 1200),
        (9, 1200, 800),
    ] {
        let softirq = &mut c.softirqs[vector];
        let runs = rate / 2 + dice.below(rate);
        softirq.runs += runs;
        softirq.ns += runs * (ns + dice.below(ns));
    }
    let net_rx = &mut c.softirqs[3];
    (net_rx.runs, net_rx.ns) = (c.net_rx_runs, c.net_rx_ns);
    for detail in &mut c.details {
        detail.sent += 96 + dice.below(8);
    }
    // Times as a host under load has them: some thirty buckets, most in the middle ones.
    let mut times = |hist: &mut [u64], middle: usize, buckets: usize| {
        let mut left = runs;
        for n in 0..buckets {
            let (at, share) = match n % 2 {
                0 => (middle + n / 2, 5),
                _ => (middle - n / 2, 6),
            };
            let part = left / share;
            let part = (part + dice.below(1 + 2 * part.isqrt())).saturating_sub(part.isqrt());
            hist[at] += part;
            left = left.saturating_sub(part);
        }
    };
    times(&mut c.hardirq_hist, bucket(1500), 24);
    times(&mut c.net_rx_wait_hist, bucket(900), 36);
    times(&mut c.net_rx_run_hist, bucket(9000), 36);
    let mut left = runs;
    for card in 0..CARDS {
        let irqs = now
            .traced
            .irqs
            .entry(FIRST_IRQ + card * cpus + cpu)
            .or_default();
        let irq = irqs.entry(cpu).or_default();
        let count = if card + 1 == CARDS {
            left
        } else {
            left / 3 + dice.below(left / 8)
        };
        left -= count;
        irq.count += count;
        let ns = count * (1500 + dice.below(500));
        irq.ns += ns;
        c.hardirq_ns += ns;
        irq.max_ns = irq.max_ns.max(dice.below(100_000));
    }
    let slots = now.traced.napi.entry(cpu).or_default();
    if slots.is_empty() {
        let name = *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0";
        let slot = |napi_id, device| NapiCounters {
            napi: 0xffff_8881_0000_0000 + u64::from(cpu) * 0x4a40,
            napi_id,
            ifindex: 2,
            netns: OWN,
            device,
            ..NapiCounters::default()
        };
        *slots = vec![slot(8193 + cpu, name), slot(0, [0; 16])];
    }
    // The backlog's stays idle: with a queue for each CPU nobody needs RPS.
    for slot in slots.iter_mut().take(1) {
        slot.polls += runs;
        slot.packets = c.packets;
        slot.full_budget += dice.below(100);
    }
    busy_kernel(&mut now.kernel, &now.traced, cpu, cpus, dice);
}

/// A counter of the kernel, read a moment after that of the programs.
fn read_later(counter: &mut u32, traced: u64, dice: &mut Dice) {
    let moment = if dice.below(8) == 0 { dice.below(4) } else { 0 };
    let now = u32::try_from(traced + moment).unwrap_or(u32::MAX);
    *counter = now.max(*counter);
}

/// What the kernel counts beside it.
fn busy_kernel(kernel: &mut KernelCounters, traced: &Traced, cpu: u32, cpus: u32, dice: &mut Dice) {
    let row = kernel.softnet.entry(cpu).or_insert_with(|| SoftnetRow {
        received_rps: Some(0),
        flow_limit: Some(0),
        backlog_len: Some(0),
        ..SoftnetRow::default()
    });
    let c = &traced.cpus[&cpu];
    read_later(&mut row.processed, c.packets, dice);
    row.dropped += dice.below_u32(60);
    row.time_squeeze += dice.below_u32(20);
    row.backlog_len = Some(dice.below_u32(300));
    for vector in 0..CARDS * cpus {
        let row = kernel
            .interrupts
            .device
            .entry(FIRST_IRQ + vector)
            .or_insert_with(|| Row {
                name: format!("eth{}-TxRx-{}", vector / cpus, vector % cpus),
                ..Row::default()
            });
        let count = row.counts.entry(cpu).or_default();
        if vector % cpus == cpu {
            read_later(count, traced.irqs[&(FIRST_IRQ + vector)][&cpu].count, dice);
        }
    }
    for (vector, rate) in [
        ("LOC", 1500),
        ("RES", 3000),
        ("CAL", 9000),
        ("TLB", 300),
        ("IWI", 20),
        ("PMI", 2),
    ] {
        let row = kernel.interrupts.arch.entry(vector.to_owned()).or_default();
        vector.clone_into(&mut row.name);
        *row.counts.entry(cpu).or_default() += dice.below_u32(rate);
    }
    for (name, softirq) in SOFTIRQ_NAMES.iter().zip(&c.softirqs) {
        let runs = kernel.softirqs.runs.entry((*name).to_owned()).or_default();
        if softirq.runs > 0 {
            read_later(runs.entry(cpu).or_default(), softirq.runs, dice);
        }
    }
    let time = kernel.time.entry(cpu).or_default();
    time.user += dice.below(40);
    time.system += dice.below(30);
    time.idle += dice.below(40);
    time.softirq += dice.below(40);
}

/// The counters of a host that has been busy for a while.
pub fn busy(shape: Shape, dice: &mut Dice) -> Snapshot {
    let cpus = shape.cpus;
    let mut first = Snapshot::default();
    first.kernel.online = (0..cpus).collect();
    first.kernel.tick_ns = 10_000_000;
    first.traced.hooks = [
        "irq_handler_exit",
        "softirq_entry",
        "softirq_exit",
        "napi_poll",
        "kfree_skb",
    ]
    .map(|name| Hook {
        name: name.to_owned(),
        via: Some("tp_btf".to_owned()),
        status: HookStatus::Attached,
        missed: Some(0),
        ..Hook::default()
    })
    .into();
    let idle = FIRST_IRQ + CARDS * cpus..;
    for irq in idle.take(shape.idle_irqs as usize) {
        let row = Row {
            name: format!("nvme0q{irq}"),
            counts: (0..cpus).map(|cpu| (cpu, 0)).collect(),
        };
        first.kernel.interrupts.device.insert(irq, row);
    }
    for _ in 0..50 {
        second(&mut first, shape, dice);
    }
    first
}

/// A mask of one CPU as sysfs prints it.
fn mask(cpu: u32) -> String {
    format!(
        "{:x}{}",
        1u32 << (cpu % 32),
        ",00000000".repeat(cpu as usize / 32)
    )
}
