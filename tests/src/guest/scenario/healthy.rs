//! A host as it should be, under a load that it can take: the vectors spread over the CPUs of the card's node, RPS off,
//! datagrams from many addresses at a steady rate, a sender and a reader on CPUs without interrupts.
//!
//! Asserts that at least nine tenths of the packets came (the emulated wire loses some), on both CPUs, that the report
//! explains all of the kernel's counters, and that no finding is worse than worth knowing.

use std::{net::UdpSocket, thread, time::Duration};

use anyhow::{Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{setsockopt, sockopt},
    unistd::Pid,
};

use super::{Scenario, incident::poll_sender_by_threads, need_card, target_cpu::while_read_on};
use crate::{
    findings,
    guest::nic::{self, Wire},
    kept,
    kernel::device_statistic,
    scenario::{Need, note},
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_healthy_busy_host_has_no_finding_above_info",
    needs: &[Need::Root, Need::Cpus(4), Need::Program("ip")],
    run: healthy,
}];

const PORT: u16 = 7125;
/// Hosts that the sender pretends to be.
const SOURCES: u8 = 16;
/// Datagrams from each.
const TURNS: u64 = 300;
/// CPUs of the receiving card's node.
const NEAR: [u32; 2] = [2, 3];
const READING_CPU: usize = 1;
const SENDING_CPU: usize = 0;

fn healthy() -> Result<()> {
    need_card("igb")?;
    let wire = Wire::new()?;
    // Before 5.12 the sending card's softirqs are this host's, too.
    let _ = poll_sender_by_threads(&wire);
    wire.be_many((0..SOURCES).map(nic::source))?;
    let socket = wire
        .receiver
        .run(|| UdpSocket::bind((Wire::RECEIVER, PORT)))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
    wire.pin(
        |vector| NEAR[vector.queue as usize % NEAR.len()],
        || send(&wire, 10).map(|_| ()),
    )?;
    wire.steer(0)?;
    let received = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_packets");
    let before = received()?;
    let tracer = Tracer::start(Some(&wire.receiver), &[])?;
    quiet();
    let sent = while_read_on(Some(READING_CPU), &socket, || send(&wire, TURNS))?;
    quiet();
    let received = received()? - before;
    let report = tracer.stop()?.summary;
    ensure!(
        received >= sent * 9 / 10,
        "sent {sent}, the card received {received}"
    );
    let by_cpu: Vec<_> = report
        .cpus
        .iter()
        .filter(|cpu| cpu.packets.is_some_and(|packets| packets * 10 >= received))
        .map(|cpu| cpu.cpu)
        .collect();
    ensure!(
        by_cpu == NEAR,
        "packets came on CPUs {by_cpu:?}: {:#?}",
        report.napi
    );
    findings::nothing_above_info(&report)?;
    findings::explained(&report)?;
    kept::keep_report("healthy", &report)?;
    note(format_args!(
        "sent {sent}, received {received}: {}",
        findings::told(&report)
    ));
    Ok(())
}

/// Datagrams from all sources in turn; returns how many.
fn send(wire: &Wire, turns: u64) -> Result<u64> {
    wire.sender.run(|| {
        let mut affinity = CpuSet::new();
        affinity.set(SENDING_CPU)?;
        sched_setaffinity(Pid::from_raw(0), &affinity)?;
        let sockets = (0..SOURCES)
            .map(|index| UdpSocket::bind((nic::source(index), 0)))
            .collect::<Result<Vec<_>, _>>()?;
        for _ in 0..turns {
            for socket in &sockets {
                socket.send_to(&[0x77; 18], (Wire::RECEIVER, PORT))?;
            }
            thread::sleep(Duration::from_millis(5));
        }
        anyhow::Ok(turns * u64::from(SOURCES))
    })?
}
