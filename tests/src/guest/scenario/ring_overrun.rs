//! Sends more than a card with a ring of 64 packets can hand to a slow receiver: the card throws away what it has no
//! room for, before there is an `sk_buff`.
//!
//! Asserts that every datagram was delivered or missed, that `rx_missed` is the card's own number, that no harmful drop
//! is reported beside it, and that the report's first line says what it was.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
};

use anyhow::{Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Scenario, need_nic, net_rx::slow_down};
use crate::{
    findings,
    flood::Flood,
    guest::nic::{SMALL_DEVICE, SMALL_MAC, Wire, carrier, take},
    kept,
    kernel::device_statistic,
    netns::{Netns, knows},
    scenario::{Need, Skip, note},
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_ring_overrun_is_told_as_such_and_not_as_a_drop",
    needs: &[Need::Root, Need::Program("ip"), Need::Program("nft")],
    run: overrun,
}];

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 3);
const PORT: u16 = 7109;
const PACKETS: u64 = 5_000;
/// At most so many, until one was too much for the card: the CPUs of a busy host may not take turns badly enough.
const FLOODS: usize = 4;
/// Makes the receiver slower than the sender.
const RULES: usize = 800;

fn overrun() -> Result<()> {
    need_nic()?;
    if !PathBuf::from(format!("/sys/class/net/{SMALL_DEVICE}")).exists() {
        return Err(Skip("this kernel has no driver 8139cp".to_owned()).into());
    }
    let wire = Wire::new()?;
    let receiver = Netns::new("small")?;
    attach(&wire, &receiver)?;
    slow_down(&receiver, RULES)?;
    // With room for all: what gets past the card is delivered.
    let socket = receiver.run(|| UdpSocket::bind((ADDRESS, PORT)))??;
    setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20))?;
    let count = |name: &str| device_statistic(&receiver, SMALL_DEVICE, name);

    let tracer = Tracer::start(Some(&receiver), &[])?;
    quiet();
    let before = (count("rx_packets")?, count("rx_missed_errors")?);
    let mut sent = 0;
    for _ in 0..FLOODS {
        let flood = Flood::new(ADDRESS, PORT, PACKETS).run(&wire.sender)?;
        ensure!(flood == PACKETS, "sent {flood} of {PACKETS}");
        sent += flood;
        if count("rx_missed_errors")? > before.1 {
            break;
        }
    }
    quiet();
    let packets = count("rx_packets")? - before.0;
    let missed = count("rx_missed_errors")? - before.1;
    let outcome = tracer.stop()?;

    ensure!(
        missed > 0 && packets > 0 && packets + missed >= sent,
        "sent {sent}, the card received {packets} and missed {missed}"
    );
    let report = &outcome.summary;
    let device = report.devices.iter().find(|d| d.name == SMALL_DEVICE);
    ensure!(
        device.is_some_and(|d| d.rx_missed == missed && d.rx_dropped == 0),
        "the card missed {missed}: {device:#?}"
    );
    let delivered = delivered(&socket)?;
    ensure!(
        delivered + missed == sent,
        "sent {sent}, delivered {delivered}, missed {missed}"
    );
    ensure!(
        report.drop_totals.harmful == Some(0),
        "no packet was dropped behind the card: {:#?}",
        report.drops
    );
    ensure!(
        report.answer.contains(&format!("{SMALL_DEVICE} missed")) && report.answer.contains("ring"),
        "the answer is {:?}",
        report.answer
    );
    let found = findings::has(report, "ring-overrun")?;
    findings::says(
        found,
        &[
            &format!("the receive ring of {SMALL_DEVICE}"),
            "netdev_max_backlog: these packets never came that far",
        ],
    )?;
    findings::has_not(report, "backlog-overflow")?;
    kept::keep_report("ring-overrun", report)?;
    note(format_args!(
        "sent {sent}, received {packets}, missed {missed}: {}",
        report.answer
    ));
    Ok(())
}

/// How many datagrams wait in the socket.
fn delivered(socket: &UdpSocket) -> Result<u64> {
    socket.set_nonblocking(true)?;
    let mut delivered = 0;
    loop {
        match socket.recv(&mut [0; 64]) {
            Ok(_) => delivered += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(delivered),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The small card in a namespace of its own, with an address that the sender knows.
fn attach(wire: &Wire, receiver: &Netns) -> Result<()> {
    take([(receiver, SMALL_DEVICE)])?;
    receiver.ip_batch(&[
        format!("address add {ADDRESS}/24 dev {SMALL_DEVICE}"),
        format!("link set {SMALL_DEVICE} up"),
    ])?;
    let known = knows(Wire::SENDER_DEVICE, ADDRESS, SMALL_MAC);
    wire.sender.ip_batch(&[known])?;
    carrier(receiver, SMALL_DEVICE)
}
