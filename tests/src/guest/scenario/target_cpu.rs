//! Provokes backlog drops whose executing and target CPU differ: all vectors of the receiving card on CPU 1, RPS to
//! CPU 0, whose backlog holds eight packets, a UDP flood. Seen by two tracers: one hooks `enqueue_to_backlog` through
//! fentry, one through a kprobe.
//!
//! Asserts of each that the drops are charged to CPU 0 as their target and to CPU 1 as the one that executed them, and that
//! their number is that of CPU 0's softnet `dropped` and of the card's `rx_dropped`; that the finding says so, and that
//! interrupts are on another node than the card; that no counter is left unexplained.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ::tracer::model::report::Report;
use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{setsockopt, sockopt},
    unistd::Pid,
};

use super::{Scenario, need_hook, need_nic};
use crate::{
    findings,
    flood::Flood,
    guest::nic::{RECEIVER_NODE, Wire},
    kept,
    kernel::{device_statistic, softnet},
    scenario::{Need, note},
    setting::Setting,
    tracer::{Outcome, Tracer},
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Cpus(4), Need::Program("ip")];

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "backlog_drops_are_charged_to_the_target_cpu_by_fentry_and_by_kprobe",
    needs: NEEDS,
    run: charged,
}];

const PORT: u16 = 7102;
const PACKETS: u64 = 40_000;
const RATE: u32 = 20_000;
/// Enough to make the vector move.
const WARM_UP: u64 = 50;
const STEERING_CPU: u32 = 1;
const TARGET_CPU: u32 = 0;
const SENDING_CPU: usize = 3;
const BACKLOG: &str = "8";
const MAX_BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";

/// How `enqueue_to_backlog` is hooked.
const MECHANISMS: [&str; 2] = ["fentry", "kprobe"];

fn charged() -> Result<()> {
    need_nic()?;
    let hook = |mechanism: &str| format!("enqueue_to_backlog={mechanism}");
    let mut mechanisms = MECHANISMS.to_vec();
    mechanisms.retain(|mechanism| need_hook(&hook(mechanism)).is_ok());
    if mechanisms.is_empty() {
        return need_hook(&hook(MECHANISMS[0]));
    }
    let wire = Wire::new()?;
    let socket = wire
        .receiver
        .run(|| UdpSocket::bind((Wire::RECEIVER, PORT)))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20))?;
    wire.pin(
        |_| STEERING_CPU,
        || {
            let flood = Flood::new(Wire::RECEIVER, PORT, WARM_UP);
            flood.run(&wire.sender).map(|_| ())
        },
    )?;
    wire.steer(1 << TARGET_CPU)?;
    let small = Setting::change(MAX_BACKLOG, BACKLOG)?;
    let start = |mechanism| Tracer::start(Some(&wire.receiver), &["--hook", &hook(mechanism)]);
    let running = mechanisms
        .iter()
        .copied()
        .map(start)
        .collect::<Result<Vec<_>>>()?;
    quiet();
    let before = refused(&wire)?;
    let sent = while_read(&socket, || {
        Flood {
            rate: Some(RATE),
            cpu: Some(SENDING_CPU),
            ..Flood::new(Wire::RECEIVER, PORT, PACKETS)
        }
        .run(&wire.sender)
    })?;
    quiet();
    let after = refused(&wire)?;
    // Only now: tracer looks at the settings at the end, too.
    let outcomes = running.into_iter().map(Tracer::stop);
    let outcomes = outcomes.collect::<Result<Vec<_>>>()?;
    small.restore()?;

    let of_device = after.1 - before.1;
    let softnet: BTreeMap<u32, u32> = after
        .0
        .iter()
        .map(|(cpu, dropped)| (*cpu, dropped.wrapping_sub(before.0[cpu])))
        .filter(|(_, dropped)| *dropped > 0)
        .collect();
    ensure!(sent >= PACKETS / 2, "sent only {sent} of {PACKETS}");
    ensure!(
        of_device > 0 && of_device < sent,
        "of {sent} datagrams the backlog refused {of_device}"
    );
    ensure!(
        softnet == BTreeMap::from([(TARGET_CPU, u32::try_from(of_device)?)]),
        "rx_dropped {of_device}, softnet {softnet:?}"
    );

    for (mechanism, outcome) in mechanisms.into_iter().zip(&outcomes) {
        let targets =
            charged_by(mechanism, outcome, of_device).with_context(|| format!("by {mechanism}"))?;
        note(format_args!(
            "{mechanism}: sent {sent}, rx_dropped {of_device}, target {targets}"
        ));
    }
    Ok(())
}

/// The drops that it charged to the target CPU.
fn charged_by(mechanism: &str, outcome: &Outcome, of_device: u64) -> Result<u64> {
    let report = &outcome.summary;
    let sites: Vec<_> = report
        .drops
        .iter()
        .filter(|drop| drop.site == "enqueue_to_backlog")
        .collect();
    let missed = outcome.missed_at("kfree_skb");
    let traced: u64 = sites.iter().map(|drop| drop.packets).sum();
    ensure!(
        traced <= of_device && traced + missed >= of_device,
        "rx_dropped {of_device}, traced {traced} (missed {missed}): {sites:#?}"
    );
    for drop in &sites {
        ensure!(
            drop.per_cpu.keys().eq([&STEERING_CPU]),
            "executed on CPU {STEERING_CPU}: {drop:?}"
        );
        ensure!(
            drop.device.as_deref() == Some(Wire::RECEIVER_DEVICE),
            "device: {drop:?}"
        );
    }
    let targets: u64 = sites
        .iter()
        .filter_map(|drop| drop.per_target_cpu.as_ref()?.get(&TARGET_CPU))
        .sum();
    let unseen = outcome.missed_at("enqueue_to_backlog");
    ensure!(
        targets + unseen >= traced && targets <= traced,
        "target CPU {TARGET_CPU} has {targets} of {traced} (missed {unseen}): {sites:#?}"
    );
    let hooked = report
        .hooks
        .iter()
        .find(|hook| hook.name == "enqueue_to_backlog");
    ensure!(
        hooked.is_some_and(|hook| hook.via.as_deref() == Some(mechanism)),
        "{hooked:?}"
    );
    concluded(report)?;
    kept::keep_report(&format!("rps-backlog-{mechanism}"), report)?;
    Ok(targets)
}

/// What the report concludes.
fn concluded(report: &Report) -> Result<()> {
    let found = findings::has(report, "backlog-overflow")?;
    findings::says(
        found,
        &[
            &format!("target CPU {TARGET_CPU} overflowed"),
            &format!("steered there by RPS of {}", Wire::RECEIVER_DEVICE),
            "netdev_max_backlog=1000",
        ],
    )?;
    if nodes_differ(STEERING_CPU) {
        let found = findings::has(report, "remote-node")?;
        findings::says(found, &[&format!("CPU {STEERING_CPU}")])?;
    }
    findings::explained(report)
}

/// Whether the receiving card is on another node than this CPU.
fn nodes_differ(cpu: u32) -> bool {
    let of_cpu = format!("/sys/devices/system/node/node{RECEIVER_NODE}/cpu{cpu}");
    super::nic::driver().as_deref() == Some("igb") && !std::path::Path::new(&of_cpu).exists()
}

/// softnet `dropped` by CPU, and `rx_dropped` of the receiving card.
fn refused(wire: &Wire) -> Result<(BTreeMap<u32, u32>, u64)> {
    let rows = softnet()?;
    Ok((
        rows.iter().map(|(cpu, row)| (*cpu, row.dropped)).collect(),
        device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_dropped")?,
    ))
}

/// Runs `work` while a thread reads from `socket`.
pub(super) fn while_read<T>(socket: &UdpSocket, work: impl FnOnce() -> Result<T>) -> Result<T> {
    while_read_on(None, socket, work)
}

/// The same with that thread on one CPU.
pub(super) fn while_read_on<T>(
    cpu: Option<usize>,
    socket: &UdpSocket,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            if let Some(cpu) = cpu {
                let mut affinity = CpuSet::new();
                // Elsewhere it reads as well.
                let _ = affinity.set(cpu);
                let _ = sched_setaffinity(Pid::from_raw(0), &affinity);
            }
            let mut buffer = [0; 64];
            while !done.load(Ordering::Relaxed) {
                let _ = socket.recv(&mut buffer);
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}
