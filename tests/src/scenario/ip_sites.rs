//! Provokes two ends of a packet in IP itself: a time to live that runs out at a router, and an IP protocol that
//! nobody handles.
//!
//! Asserts what `sites` does of its drops, against the namespace's own counters, and that these stand in tracer's
//! reconciliation with as many.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use tracer::model::report::Stage;

use super::{
    Need, Scenario,
    protocols::reconciled,
    repeat,
    sites::{Expected, PACKETS, observe},
};
use crate::{
    kernel::{drop_reason, snmp},
    netns::Pair,
    setting,
    tracer::Outcome,
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_packet_whose_time_to_live_ran_out_is_named",
        needs: NEEDS,
        run: || repeat(expired),
    },
    Scenario {
        name: "a_packet_of_an_unknown_ip_protocol_is_a_benign_drop",
        needs: NEEDS,
        run: || repeat(unknown_protocol),
    },
];

const PORT: u16 = 7010;
/// A network behind the receiver.
const BEHIND: &str = "10.77.99.0/24";
const HOST_BEHIND: Ipv4Addr = Ipv4Addr::new(10, 77, 99, 1);
/// The first octet of an IP header: version 4, no options.
const VERSION_AND_LENGTH: u8 = 0x45;
/// For experiments (RFC 3692): no kernel handles it.
const PROTOCOL: u8 = 253;

fn expired() -> Result<()> {
    let pair = Pair::new()?;
    // The packets would leave the way they came.
    pair.receiver
        .run(|| setting::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    pair.receiver
        .ip(&["route", "add", BEHIND, "dev", Pair::RECEIVER_DEVICE])?;
    let router = Pair::RECEIVER.to_string();
    pair.sender.ip(&["route", "add", BEHIND, "via", &router])?;
    let (outcome, ()) = observe(&pair, || {
        pair.sender.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_ttl(1)?;
            for _ in 0..PACKETS {
                socket.send_to(&[0x77; 16], (HOST_BEHIND, PORT))?;
            }
            anyhow::Ok(())
        })?
    })?;
    let refused = snmp(&pair.receiver, "Ip", "InHdrErrors")?;
    ensure!(refused == PACKETS, "InHdrErrors {refused}, sent {PACKETS}");
    Expected {
        reason: "IP_INHDR",
        rule: None,
        site: &["ip_forward"],
        stage: &[Stage::Ip],
        benign: false,
    }
    .check(&outcome, PACKETS)?;
    beside_its_counter(&outcome, "Ip.InHdrErrors", "IP_INHDR")
}

/// tracer's own reconciliation comes to the same, where there is a reason to tell the drops by.
fn beside_its_counter(outcome: &Outcome, counter: &str, reason: &str) -> Result<()> {
    if drop_reason(reason)?.is_some() {
        reconciled(outcome, counter, PACKETS)?;
    }
    Ok(())
}

fn unknown_protocol() -> Result<()> {
    let pair = Pair::new()?;
    let (outcome, ()) = observe(&pair, || pair.sender.run(send_unknown)?)?;
    let refused = snmp(&pair.receiver, "Ip", "InUnknownProtos")?;
    ensure!(
        refused == PACKETS,
        "InUnknownProtos {refused}, sent {PACKETS}"
    );
    Expected {
        reason: "IP_NOPROTO",
        rule: None,
        // Inlined or not.
        site: &["ip_protocol_deliver_rcu", "ip_local_deliver"],
        stage: &[Stage::Ip],
        benign: true,
    }
    .check(&outcome, PACKETS)?;
    beside_its_counter(&outcome, "Ip.InUnknownProtos", "IP_NOPROTO")
}

/// An IP header written by hand and some payload; the kernel fills in length and checksum.
fn send_unknown() -> Result<()> {
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::Raw,
    )
    .context("cannot open a raw socket")?;
    let mut packet = vec![VERSION_AND_LENGTH, 0, 0, 0, 0, 0, 0, 0, 64, PROTOCOL, 0, 0];
    packet.extend(Pair::SENDER.octets());
    packet.extend(Pair::RECEIVER.octets());
    packet.extend([0x77; 8]);
    let to = SockaddrIn::from(SocketAddrV4::new(Pair::RECEIVER, 0));
    for _ in 0..PACKETS {
        let sent = sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        ensure!(sent == packet.len(), "short packet");
    }
    Ok(())
}
