//! Recordings from the first line to the last.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use proptest::prelude::*;
use tracer_common::{
    counter::{CpuCounters, DropCounters, DropKey, NO_CPU, NapiCounters, SOFTIRQ_NAMES},
    hist::bucket,
};

use super::{
    FORMAT, VERSION,
    delta::{Delta as _, tests::Dice},
    frame::{self, Broken},
    reader::NoRecording,
    replay::{End, Replay, Step},
    state::{Header, State},
    writer::{CannotRecord, Recorder, check},
};
use crate::{
    analyze::{
        details::Kept,
        names::{Function, Kernel, Names},
        rules::threshold::Thresholds,
        summary::{Facts, summarize},
    },
    model::{
        event::{Event, What},
        report::{Hook, HookStatus, Host},
        snapshot::{KernelCounters, Snapshot, Traced},
        topology::{Irqbalance, Nic, Place, Process, RxQueue, Topology, Vector},
        window::Window,
    },
    proc::{interrupts::Row, netdev::DeviceFacts, softnet::SoftnetRow},
    topology::irq::IrqFacts,
};

const OWN: u32 = 4_026_531_840;
/// Network cards, each with a vector for every CPU.
const CARDS: u32 = 4;

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

fn facts(cpus: u32, topology: Topology) -> Facts {
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
            nodes: 2,
        },
        node_of: (0..cpus).map(|cpu| (cpu, cpu % 2)).collect(),
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

fn topology(cpus: u32) -> Topology {
    let place = |cpu: u32| Place {
        online: true,
        node: Some(cpu % 2),
        package: Some(cpu % 2),
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
        irq: Some(64 + queue),
        ..RxQueue::default()
    };
    let nic = Nic {
        ifindex: 2,
        rx_queues: (0..cpus).map(|n| (n, queue(n))).collect(),
        xps_cpus: (0..cpus).map(|n| (n, format!("{:x}", 1u64 << n))).collect(),
        ..Nic::default()
    };
    Topology {
        cpus: (0..cpus).map(|cpu| (cpu, place(cpu))).collect(),
        devices: [("eth0".to_owned(), nic)].into(),
        irqs: (0..cpus).map(|n| (64 + n, vector(n))).collect(),
        sysctls: (0..40)
            .map(|n| (format!("net.core.setting_{n}"), "1000".to_owned()))
            .collect(),
        // Every field by name: one that is new has to be recorded, too.
        host_sysctls: ["net.core.setting_1".to_owned()].into(),
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
fn second(now: &mut Snapshot, cpus: u32, dice: &mut Dice) {
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
    for site in 0..100 {
        let key = DropKey {
            location: 0xffff_ffff_81a0_0000 + 0x1234 * site,
            reason: 2 + u32::try_from(site).unwrap(),
            ifindex: 2,
            netns: OWN,
            target_cpu: NO_CPU,
            protocol: 0x800,
            reserved: 0,
        };
        let per_cpu = now.traced.drops.entry(key).or_default();
        // Where its queues are handled.
        for turn in 0..4 {
            let cpu = u32::try_from(site * 7 + turn * 16).unwrap() % cpus;
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
        let irqs = now.traced.irqs.entry(64 + card * cpus + cpu).or_default();
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
    let now = u32::try_from(traced + moment).unwrap();
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
    row.dropped += u32::try_from(dice.below(60)).unwrap();
    row.time_squeeze += u32::try_from(dice.below(20)).unwrap();
    row.backlog_len = Some(u32::try_from(dice.below(300)).unwrap());
    for vector in 0..CARDS * cpus {
        let row = kernel
            .interrupts
            .device
            .entry(64 + vector)
            .or_insert_with(|| Row {
                name: format!("eth{}-TxRx-{}", vector / cpus, vector % cpus),
                ..Row::default()
            });
        let count = row.counts.entry(cpu).or_default();
        if vector % cpus == cpu {
            read_later(count, traced.irqs[&(64 + vector)][&cpu].count, dice);
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
        *row.counts.entry(cpu).or_default() += u32::try_from(dice.below(rate)).unwrap();
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

fn busy(cpus: u32, dice: &mut Dice) -> Snapshot {
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
    for _ in 0..50 {
        second(&mut first, cpus, dice);
    }
    first
}

fn kept(dice: &mut Dice) -> Kept {
    let event = |dice: &mut Dice| Event {
        time_ns: 1 << 50,
        cpu: 3,
        what: What::Irq {
            irq: 70,
            handler_ns: dice.below(90_000),
        },
    };
    let mut kept = Kept::default();
    kept.samples.slowest_irqs = (0..5).map(|_| event(dice)).collect();
    for irq in 64..128 {
        let times = kept.handlers.entry(irq).or_default();
        times.count = dice.below(9_000_000);
        times.p50 = dice.below(3000);
        times.p99 = dice.below(9000);
    }
    kept
}

/// A recorded run of so many seconds, and what was recorded.
fn record(cpus: u32, seconds: usize) -> (Vec<u8>, Vec<Snapshot>, Facts, Kept) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    let dice = &mut Dice(1);
    let facts = facts(cpus, topology(cpus));
    let mut snapshots = vec![busy(cpus, dice)];
    let header = Header::new(&facts, 1_000_000_000, true);
    let mut recorder = Recorder::start(&path, false, &header, &snapshots[0], &facts).unwrap();
    let mut details = Kept::default();
    for n in 1..=seconds {
        let mut now = snapshots[n - 1].clone();
        second(&mut now, cpus, dice);
        // The slowest so far are soon found.
        if n < 10 {
            details = kept(dice);
        }
        if n == seconds {
            recorder.end(&now, &facts, details.clone());
        } else {
            let window = Window::between(&snapshots[n - 1], &now);
            let _ = summarize(&window, &facts, None);
            recorder.interval(&now, &facts, details.clone());
        }
        snapshots.push(now);
    }
    recorder.close();
    assert_eq!(recorder.failed(), None);
    (std::fs::read(&path).unwrap(), snapshots, facts, details)
}

/// Intervals and reports of a recording, and its end.
fn replay(file: &[u8]) -> Result<(usize, Option<String>, End), NoRecording> {
    let mut replay = Replay::open(file)?;
    let mut intervals = 0;
    let end = loop {
        match replay.step() {
            Ok(Step::Interval) => intervals += 1,
            Ok(Step::Event(_)) => {}
            Err(end) => break end,
        }
    };
    let summary = replay.window().map(|window| {
        let report = replay.summary(&window);
        serde_json::to_string(&report).unwrap()
    });
    Ok((intervals, summary, end))
}

#[test]
fn a_minute_of_a_busy_host_with_64_cpus_takes_less_than_a_mebibyte() {
    let (file, snapshots, facts, _) = record(64, 60);
    println!("{} bytes a minute", file.len());
    assert!(file.len() <= 1 << 20, "{} bytes", file.len());
    // What the run's own thread does an interval, and what the recorder's does.
    let timed = |what: &str, work: &dyn Fn() -> usize| {
        let began = Instant::now();
        let size = work();
        println!("{what}: {:?}, {size}", began.elapsed());
    };
    timed("facts", &|| {
        State::of(&facts, Kept::default()).functions.len()
    });
    let text = || serde_json::to_vec(&snapshots[60].since(&snapshots[59])).unwrap();
    timed("difference", &|| text().len());
    let text = text();
    timed("compressed", &|| frame::encode(&text).unwrap().len());
}

#[test]
fn a_recording_gives_the_report_of_the_run() {
    let (file, snapshots, facts, kept) = record(3, 6);
    let (intervals, summary, end) = replay(&file).unwrap();
    assert!(matches!(end, End::Whole), "{end:?}");
    assert_eq!(intervals, 5);
    let window = Window::between(&snapshots[0], &snapshots[6]);
    let live = summarize(&window, &facts, Some(&kept));
    assert_eq!(summary, Some(serde_json::to_string(&live).unwrap()));
}

#[test]
fn a_recording_cut_anywhere_gives_what_is_whole_before() {
    let (file, ..) = record(1, 3);
    let mut most = 0;
    let mut ends = vec![];
    let mut rest = &file[..];
    while let Ok(Some(_)) = frame::decode(&mut rest) {
        ends.push(file.len() - rest.len());
    }
    // Every place would take minutes; those within a frame are alike.
    for at in 0..file.len() {
        let near = |end: &usize| end.abs_diff(at) < 3;
        if at % 211 != 0 && !ends.iter().any(near) {
            continue;
        }
        match replay(&file[..at]) {
            Ok((intervals, summary, end)) => {
                assert!(intervals >= most, "at {at}");
                most = intervals;
                assert_eq!(summary.is_some(), intervals > 0, "at {at}");
                assert!(
                    matches!(end, End::Early | End::Broken(Broken::Truncated)),
                    "at {at}: {end:?}"
                );
            }
            Err(error) => {
                assert_eq!(most, 0, "at {at}");
                let early = matches!(
                    error,
                    NoRecording::Empty | NoRecording::Broken(Broken::Truncated)
                );
                assert!(early, "at {at}: {error}");
            }
        }
    }
    assert_eq!(most, 2);
}

#[test]
fn what_is_no_recording_is_said_so() {
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, b"something else\n").unwrap();
        encoder.finish().unwrap()
    };
    let other = frame::encode(b"{\"kind\":\"header\",\"format\":\"other\"}\n").unwrap();
    for file in [
        b"{\"kind\":\"window\"}\n".to_vec(),
        gzip,
        other,
        vec![0x1f],
        b"x".to_vec(),
    ] {
        let error = replay(&file).unwrap_err();
        let early = file == [0x1f];
        assert!(
            early || matches!(error, NoRecording::Foreign),
            "{file:?}: {error}"
        );
    }
}

#[test]
fn a_newer_format_names_the_version_that_is_needed() {
    let header = format!(
        "{{\"kind\":\"header\",\"format\":\"{FORMAT}\",\"version\":{},\"tracer\":\"9.1.0\",\"host\":17}}\n",
        VERSION + 1
    );
    let error = replay(&frame::encode(header.as_bytes()).unwrap()).unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("version 3") && words.contains("take tracer 9.1.0 or later"),
        "{words}"
    );
}

#[test]
fn lines_of_unknown_kind_are_passed_over() {
    let (file, ..) = record(1, 2);
    let mut rest = &file[..];
    let first = frame::decode(&mut rest).unwrap().unwrap();
    let unknown = frame::encode(b"{\"kind\":\"weather\",\"sun\":true}\n").unwrap();
    let more = [frame::encode(&first).unwrap(), unknown, rest.to_vec()].concat();
    assert_eq!(replay(&more).unwrap().1, replay(&file).unwrap().1);
}

#[test]
fn an_existing_file_is_replaced_by_force_only_and_a_directory_never() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("there");
    assert!(check(&file, false).is_ok());
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(check(&file, false), Err(CannotRecord::Exists(_))));
    assert!(check(&file, true).is_ok());
    assert!(matches!(
        check(directory.path(), true),
        Err(CannotRecord::NoFile(_))
    ));
    let nowhere = directory.path().join("no/such");
    assert!(matches!(
        check(&nowhere, false),
        Err(CannotRecord::Io { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_is_found_and_loses_nothing_before_it(at: prop::sample::Index, by in 1u8..) {
        let (mut file, ..) = record(1, 3);
        let frames = {
            let mut ends = vec![0];
            let mut rest = &file[..];
            while let Ok(Some(_)) = frame::decode(&mut rest) {
                ends.push(file.len() - rest.len());
            }
            ends
        };
        let at = at.index(file.len());
        file[at] ^= by;
        let whole = frames.iter().filter(|end| **end <= at).count() - 1;
        match replay(&file) {
            Err(_) => prop_assert_eq!(whole, 0),
            Ok((intervals, _, end)) => {
                // The first frame has the start in it; some bits of deflate are padding.
                let harmless = matches!(end, End::Whole);
                prop_assert!(harmless || intervals == whole - 1, "{} of {}", intervals, whole);
                prop_assert!(harmless || matches!(end, End::Broken(_)), "{:?}", end);
            }
        }
    }

    #[test]
    fn any_lines_are_read_without_panic(lines: Vec<String>) {
        let (file, ..) = record(1, 1);
        let mut rest = &file[..];
        let first = frame::decode(&mut rest).unwrap().unwrap();
        let kinds = ["interval", "event", "end", "start"];
        let mut text = String::new();
        for (line, kind) in lines.iter().zip(kinds.iter().cycle()) {
            let _ = write!(text, "{{\"kind\":\"{kind}\",\"counters\":{line:?}}}\n{line}\n");
        }
        let file = [frame::encode(&first).unwrap(), frame::encode(text.as_bytes()).unwrap()].concat();
        let _ = replay(&file);
    }
}
