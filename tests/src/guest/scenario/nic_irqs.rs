//! Provokes interrupts of every receiving queue of a real (emulated) network card: each vector on a CPU of its own,
//! datagrams from many source addresses, which the card spreads over its queues.
//!
//! Asserts that hard IRQs per vector and CPU are those of /proc/interrupts, that each vector is resolved to its name,
//! device, queue and NUMA node, and that the packets that NAPI polled are those that the card received. The driver's
//! watchdog interrupts once in two seconds; what it adds between two readings is the only slack.

use std::{net::UdpSocket, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Scenario, need_card};
use crate::{
    findings,
    guest::{
        bracket::{Bracket, Counter},
        nic::{self, RECEIVER_NODE, Vector, Wire},
    },
    kernel::device_statistic,
    scenario::{Need, note},
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "hard_irqs_of_every_vector_of_a_card_equal_proc_interrupts_and_are_resolved",
    needs: &[Need::Root, Need::Cpus(4), Need::Program("ip")],
    run: vectors,
}];

const PORT: u16 = 7101;
/// Hosts that the sender pretends to be.
const SOURCES: u8 = 16;
const PACKETS_EACH: u64 = 40;
/// Interrupts of the watchdog that may fall between two readings.
const WATCHDOG: u64 = 4;

fn vectors() -> Result<()> {
    need_card("igb")?;
    let wire = Wire::new()?;
    let socket = wire
        .receiver
        .run(|| UdpSocket::bind((Wire::RECEIVER, PORT)))??;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
    wire.be_many((0..SOURCES).map(nic::source))?;
    let vectors = wire.pin(|vector| vector.queue, || send(&wire))?;
    let receiving: Vec<_> = vectors
        .iter()
        .filter(|vector| vector.name.contains("-rx-"))
        .collect();
    ensure!(
        receiving.len() == 4,
        "4 receiving queues expected: {vectors:?}"
    );
    let received = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_packets");
    let before = received()?;
    let seen = Bracket::around(&wire.receiver, &[], || send(&wire))?;
    let arrived = received()? - before;
    let sent = u64::from(SOURCES) * PACKETS_EACH;
    ensure!(
        arrived > sent / 2,
        "sent {sent} datagrams, the card received {arrived}"
    );
    seen.check()?;
    let report = &seen.outcome.summary;
    let polled: u64 = report
        .napi
        .iter()
        .filter(|napi| napi.device == Wire::RECEIVER_DEVICE)
        .map(|napi| napi.packets)
        .sum();
    ensure!(
        polled + seen.outcome.missed() >= arrived && polled <= arrived,
        "the card received {arrived} packets, {polled} were polled: {:?}",
        report.napi
    );

    let mut busy = 0;
    for Vector { irq, name, queue } in receiving {
        let counted = seen.inner(Counter::Irq(*irq));
        if counted == 0 {
            continue;
        }
        let row = report.irqs.iter().find(|row| row.irq == *irq);
        let row = row.with_context(|| format!("no row of {name}: {:#?}", report.irqs))?;
        ensure!(
            row.name == *name
                && row.device.as_deref() == Some(Wire::RECEIVER_DEVICE)
                && row.queue == Some(*queue)
                && row.node == Some(RECEIVER_NODE)
                && row.effective_affinity == Some(queue.to_string()),
            "{name}, queue {queue}, node {RECEIVER_NODE}: {row:?}"
        );
        ensure!(
            row.count >= counted && row.count <= counted + WATCHDOG,
            "{name}: the kernel counted {counted}, tracer {}",
            row.count
        );
        ensure!(
            row.per_cpu.keys().eq([queue]),
            "{name} belongs to CPU {queue}: {row:?}"
        );
        let own = report
            .reconciliation
            .iter()
            .find(|row| row.counter == format!("interrupts {irq}"));
        // As above, between the reading of the kernel's counter and of tracer's.
        let close = |residual: Option<i64>| residual.is_some_and(|n| n.unsigned_abs() <= WATCHDOG);
        ensure!(
            own.is_some_and(|row| row.unexplained == Some(0) && close(row.residual)),
            "{name}: {own:?}"
        );
        busy += u32::from(counted > WATCHDOG);
        note(format_args!(
            "{name}: {counted} by the kernel, {}",
            row.count
        ));
    }
    findings::explained(report)?;
    ensure!(
        busy >= 2,
        "the card used {busy} of its queues: {:#?}",
        report.irqs
    );
    Ok(())
}

/// Datagrams from all sources in turn.
fn send(wire: &Wire) -> Result<()> {
    wire.sender.run(|| {
        let sockets = (0..SOURCES)
            .map(|index| UdpSocket::bind((nic::source(index), 0)))
            .collect::<Result<Vec<_>, _>>()?;
        for _ in 0..PACKETS_EACH {
            for socket in &sockets {
                socket.send_to(&[0x77; 18], (Wire::RECEIVER, PORT))?;
            }
            thread::sleep(Duration::from_millis(5));
        }
        anyhow::Ok(())
    })?
}
