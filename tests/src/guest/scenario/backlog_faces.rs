//! Provokes in one run of tracer the three faces of a drop at `enqueue_to_backlog`, one after the other: a backlog of
//! eight packets that is full; the RPS flow limit, which refuses a flow that fills half of a larger one; a receiving
//! card that is taken down while packets arrive, with a backlog that has room for all.
//!
//! Asserts that each is told apart with exactly the number of the kernel's counters: the flow limit by
//! `flow_limit_count`, the device by its reason. Where the kernel gives no reasons, that the report says that the
//! faces cannot be told apart, and that their sum is right. The finding names the share of the flow limit and advises
//! about that, not about the size of the backlog alone.

use std::{net::UdpSocket, thread, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tracer::model::report::Report;

use super::{Scenario, need_nic, target_cpu::while_read};
use crate::{
    findings,
    flood::Flood,
    guest::nic::Wire,
    kept,
    kernel::{device_statistic, drop_reason, softnet},
    scenario::{Need, note},
    setting::Setting,
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_full_backlog_the_flow_limit_and_a_device_down_are_told_apart_where_the_kernel_can",
    needs: &[Need::Root, Need::Cpus(4), Need::Program("ip")],
    run: faces,
}];

const PORT: u16 = 7104;
const PACKETS: u64 = 20_000;
const RATE: u32 = 20_000;
/// Datagrams that make the vectors fire and move.
const WARM_UP: u64 = 200;
const STEERING_CPU: u32 = 1;
const TARGET_CPU: u32 = 0;
const SENDING_CPU: usize = 3;
const MAX_BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";
const FLOW_LIMIT: &str = "/proc/sys/net/core/flow_limit_cpu_bitmap";
/// A full backlog: half of it is below what the flow limit wants to see before it acts, or that is off.
const SMALL: &str = "8";
/// Room for more than a flow may have.
const MEDIUM: &str = "64";
/// Times that the card is taken down until it refused a packet.
const ROUNDS: u32 = 8;
/// Room for everything.
const LARGE: &str = "1000000";

#[expect(
    clippy::too_many_lines,
    reason = "three phases of one run, then what each has to look like"
)]
fn faces() -> Result<()> {
    need_nic()?;
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

    let tracer = Tracer::start(Some(&wire.receiver), &[])?;
    quiet();
    let full = refused_during(&wire, MAX_BACKLOG, SMALL, || flood(&wire, &socket))?;
    // Stays on to the end: the kernel frees the counter with it.
    let limiting = Setting::change(FLOW_LIMIT, &format!("{:x}", 1 << STEERING_CPU))?;
    let limited = refused_during(&wire, MAX_BACKLOG, MEDIUM, || flood(&wire, &socket))?;
    let down = refused_during(&wire, MAX_BACKLOG, LARGE, || taken_down(&wire, &socket))?;
    let outcome = tracer.stop()?;
    limiting.restore()?;

    note(format_args!(
        "full {full:?}, limited {limited:?}, down {down:?}"
    ));
    ensure!(
        full.of_device > 0 && full.flow_limit == 0 && full.softnet == full.of_device,
        "a full backlog: {full:?}"
    );
    ensure!(
        limited.flow_limit > 0 && limited.softnet == limited.of_device,
        "the flow limit: {limited:?}"
    );
    // Since 6.11 the kernel does not charge a device's fault to the CPU.
    ensure!(
        down.of_device > 0
            && down.flow_limit == 0
            && (down.softnet == 0 || down.softnet == down.of_device),
        "the device down: {down:?}"
    );

    let report = &outcome.summary;
    let missed = outcome.missed_at("kfree_skb");
    let agrees = |traced: u64, kernel: u64| traced <= kernel && traced + missed >= kernel;
    let backlog = full.of_device + limited.of_device;
    let all = backlog + down.of_device;
    ensure!(
        agrees(refused_for(report, |_| true), all),
        "the card refused {all} (missed {missed}): {:#?}",
        report.drops
    );
    let by_flow_limit: Vec<_> = report
        .cpus
        .iter()
        .filter_map(|cpu| Some((cpu.cpu, cpu.softnet?.flow_limit?)))
        .filter(|(_, packets)| *packets > 0)
        .collect();
    ensure!(
        by_flow_limit == [(STEERING_CPU, limited.flow_limit)],
        "the flow limit refused {limited:?}, reported {by_flow_limit:?}"
    );

    let notes = report.notes.join("; ");
    let device_reason = if down.softnet == 0 {
        "DEV_READY"
    } else {
        "NOT_SPECIFIED"
    };
    if let Some(reason) = drop_reason("CPU_BACKLOG")? {
        let by_backlog = refused_for(report, |own| own == Some(reason));
        let by_device = refused_for(report, |own| own == Some(device_reason));
        ensure!(
            agrees(by_backlog, backlog) && agrees(by_device, down.of_device),
            "{reason}: kernel {backlog}, traced {by_backlog}; {device_reason}: kernel {}, traced {by_device}: {:#?}",
            down.of_device,
            report.drops
        );
        ensure!(
            notes.contains("the device was down") == (device_reason == "NOT_SPECIFIED")
                && !notes.contains("cannot be told apart"),
            "notes: {notes}"
        );
    } else {
        ensure!(
            report
                .notes
                .iter()
                .any(|note| note.contains("cannot be told apart on this kernel")),
            "not said that the reasons cannot be told apart: {notes}"
        );
    }
    let counters = [
        "softnet_stat dropped total".to_owned(),
        format!("{} rx_dropped", Wire::RECEIVER_DEVICE),
    ];
    for counter in counters {
        let row = report
            .reconciliation
            .iter()
            .find(|row| row.counter == counter);
        let residual = row.and_then(|row| row.residual);
        ensure!(
            residual.is_some_and(|residual| residual.unsigned_abs() <= missed),
            "{counter}: {row:?}"
        );
    }
    let found = findings::has(report, "backlog-overflow")?;
    findings::says(
        found,
        &[
            "refused by the RPS flow limit",
            "net.core.flow_limit_cpu_bitmap=0",
            "a larger netdev_max_backlog for the",
        ],
    )?;
    kept::keep_report("flow-limit", report)?;
    note(format_args!("{}; notes: {notes}", report.answer));
    Ok(())
}

/// Takes the card down under a flood, again until a packet came at the moment between the device's end and its
/// driver's: there seldom is none.
fn taken_down(wire: &Wire, socket: &UdpSocket) -> Result<()> {
    let refused = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_dropped");
    let before = refused()?;
    for _ in 0..ROUNDS {
        thread::scope(|scope| {
            let down = scope.spawn(|| {
                thread::sleep(Duration::from_millis(400));
                wire.receiver
                    .ip(&["link", "set", Wire::RECEIVER_DEVICE, "down"])
            });
            flood(wire, socket)?;
            down.join().map_err(|_| anyhow::anyhow!("`ip` panicked"))?
        })?;
        if refused()? > before {
            return Ok(());
        }
        wire.up()?;
    }
    Ok(())
}

/// Packets that the receiving card lost at `enqueue_to_backlog` for such a reason.
fn refused_for(report: &Report, has: impl Fn(Option<&str>) -> bool) -> u64 {
    report
        .drops
        .iter()
        .filter(|drop| {
            drop.site == "enqueue_to_backlog"
                && drop.device.as_deref() == Some(Wire::RECEIVER_DEVICE)
                && has(drop.reason.as_deref())
        })
        .map(|drop| drop.packets)
        .sum()
}

fn flood(wire: &Wire, socket: &UdpSocket) -> Result<()> {
    let sent = while_read(socket, || {
        Flood {
            rate: Some(RATE),
            cpu: Some(SENDING_CPU),
            ..Flood::new(Wire::RECEIVER, PORT, PACKETS)
        }
        .run(&wire.sender)
    })?;
    ensure!(sent >= PACKETS / 2, "sent only {sent} of {PACKETS}");
    Ok(())
}

/// What the kernel counted, all CPUs together.
#[derive(Debug)]
struct Refused {
    softnet: u64,
    flow_limit: u64,
    of_device: u64,
}

impl Refused {
    fn read(wire: &Wire) -> Result<Self> {
        let rows = softnet()?;
        Ok(Self {
            softnet: rows.values().map(|row| u64::from(row.dropped)).sum(),
            flow_limit: rows.values().map(|row| u64::from(row.flow_limit)).sum(),
            of_device: device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_dropped")?,
        })
    }
}

/// The change of the kernel's counters while `path` is set to `value` and `work` is done.
fn refused_during(
    wire: &Wire,
    path: &str,
    value: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<Refused> {
    let before = Refused::read(wire)?;
    let changed = Setting::change(path, value)?;
    work()?;
    quiet();
    changed.restore()?;
    let after = Refused::read(wire)?;
    Ok(Refused {
        softnet: after.softnet - before.softnet,
        flow_limit: after.flow_limit - before.flow_limit,
        of_device: after.of_device - before.of_device,
    })
}
