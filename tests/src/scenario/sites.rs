//! Provokes four ordinary ends of a datagram in a namespace: a port nobody listens on, a wrong UDP checksum, a
//! socket buffer that nobody reads, a netfilter rule.
//!
//! Asserts for each its reason, function, stage, device, protocol, whether it is benign, and exactly the number of
//! packets that the namespace's own counters name.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt,
    socket, sockopt,
};
use tracer::model::report::Stage;

use super::{Need, Scenario, Skip, note};
use crate::{
    findings,
    flood::Flood,
    kept,
    kernel::{drop_reason, snmp},
    netns::{Netns, Pair},
    tracer::{Outcome, Tracer},
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_datagram_to_a_closed_port_is_a_benign_no_socket_drop",
        needs: NEEDS,
        run: closed_port,
    },
    Scenario {
        name: "a_wrong_udp_checksum_is_named",
        needs: NEEDS,
        run: wrong_checksum,
    },
    Scenario {
        name: "a_full_socket_buffer_is_named_with_what_did_not_fit",
        needs: NEEDS,
        run: full_socket_buffer,
    },
    Scenario {
        name: "a_netfilter_verdict_is_named",
        needs: NEEDS,
        run: netfilter_verdict,
    },
];

const PORT: u16 = 7002;
/// Below `netdev_max_backlog`, so that none is lost on the way.
pub(super) const PACKETS: u64 = 800;

/// What one kind of drop has to look like.
pub(super) struct Expected {
    /// `enum skb_drop_reason`, without its prefix; `None` in the report where the kernel has none of that name.
    pub(super) reason: &'static str,
    /// Rule of the finding about it; one that goes by the reason needs a kernel that gives it.
    pub(super) rule: Option<&'static str>,
    /// The function's name contains one of these: inlining differs between kernels.
    pub(super) site: &'static [&'static str],
    pub(super) stage: &'static [Stage],
    pub(super) benign: bool,
}

impl Expected {
    pub(super) fn check(&self, outcome: &Outcome, packets: u64) -> Result<()> {
        let all = &outcome.summary.drops;
        let reason = drop_reason(self.reason)?;
        let drops: Vec<_> = all
            .iter()
            .filter(|drop| {
                drop.reason.as_deref() == reason
                    && drop.device.as_deref() == Some(Pair::RECEIVER_DEVICE)
                    && drop.netns.is_none()
            })
            .collect();
        let traced: u64 = drops.iter().map(|drop| drop.packets).sum();
        let missed = outcome.missed_at("kfree_skb");
        ensure!(
            traced <= packets && traced + missed >= packets,
            "{}: {packets} dropped, traced {traced} (missed {missed}): {all:#?}",
            self.reason
        );
        for drop in drops {
            ensure!(
                self.site.iter().any(|part| drop.site.contains(part)),
                "site: {drop:?}"
            );
            ensure!(self.stage.contains(&drop.stage), "stage: {drop:?}");
            // Without a reason nobody knows.
            ensure!(
                drop.benign == (self.benign && reason.is_some()),
                "benign: {drop:?}"
            );
            ensure!(drop.protocol == "ipv4", "protocol: {drop:?}");
            ensure!(
                drop.per_cpu.values().sum::<u64>() == drop.packets,
                "per_cpu does not add up: {drop:?}"
            );
            ensure!(
                drop.per_target_cpu.is_none(),
                "not on the way to a backlog: {drop:?}"
            );
            ensure!(drop.bytes >= drop.packets, "bytes: {drop:?}");
        }
        let report = &outcome.summary;
        if let Some(rule) = self.rule
            && (reason.is_some() || rule == "slow-reader")
        {
            let found = findings::has(report, rule)?;
            findings::says(found, &[&traced.to_string()])?;
            kept::keep_report(rule, report)?;
        }
        if kept::is_vm() {
            findings::explained(report)?;
        }
        note(format_args!(
            "{}: {packets} dropped, traced {traced}",
            self.reason
        ));
        Ok(())
    }
}

/// Runs `traffic` with a tracer in the receiver's namespace.
pub(super) fn observe<T>(pair: &Pair, traffic: impl FnOnce() -> Result<T>) -> Result<(Outcome, T)> {
    let tracer = Tracer::start(Some(&pair.receiver), &[])?;
    let result = traffic()?;
    quiet();
    Ok((tracer.stop()?, result))
}

pub(super) fn send(pair: &Pair) -> Result<()> {
    let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&pair.sender)?;
    ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
    Ok(())
}

fn closed_port() -> Result<()> {
    let pair = Pair::new()?;
    let (outcome, ()) = observe(&pair, || send(&pair))?;
    let refused = snmp(&pair.receiver, "Udp", "NoPorts")?;
    ensure!(refused == PACKETS, "NoPorts {refused}, sent {PACKETS}");
    Expected {
        reason: "NO_SOCKET",
        rule: Some("ordinary-drops"),
        site: &["udp"],
        stage: &[Stage::Udp],
        benign: true,
    }
    .check(&outcome, PACKETS)
}

fn wrong_checksum() -> Result<()> {
    let pair = Pair::new()?;
    let _listener = listen(&pair.receiver)?;
    let (outcome, ()) = observe(&pair, || pair.sender.run(send_with_wrong_checksum)?)?;
    let refused = snmp(&pair.receiver, "Udp", "InCsumErrors")?;
    ensure!(refused == PACKETS, "InCsumErrors {refused}, sent {PACKETS}");
    Expected {
        reason: "UDP_CSUM",
        rule: None,
        site: &["udp"],
        stage: &[Stage::Udp],
        benign: false,
    }
    .check(&outcome, PACKETS)
}

fn full_socket_buffer() -> Result<()> {
    let pair = Pair::new()?;
    let listener = listen(&pair.receiver)?;
    setsockopt(&listener, sockopt::RcvBuf, &4096)?;
    let (outcome, ()) = observe(&pair, || send(&pair))?;
    listener.set_nonblocking(true)?;
    let mut queued = 0;
    while listener.recv(&mut [0; 64]).is_ok() {
        queued += 1;
    }
    let refused = snmp(&pair.receiver, "Udp", "RcvbufErrors")?;
    ensure!(queued > 0 && queued < PACKETS, "{queued} of {PACKETS} fit");
    ensure!(
        refused == PACKETS - queued,
        "RcvbufErrors {refused}, sent {PACKETS}, queued {queued}"
    );
    Expected {
        reason: "SOCKET_RCVBUFF",
        rule: Some("slow-reader"),
        site: &["udp"],
        stage: &[Stage::Socket, Stage::Udp],
        benign: false,
    }
    .check(&outcome, refused)
}

fn netfilter_verdict() -> Result<()> {
    let pair = Pair::new()?;
    let _listener = listen(&pair.receiver)?;
    drop_by_rule(&pair.receiver)?;
    let (outcome, ()) = observe(&pair, || send(&pair))?;
    let arrived = snmp(&pair.receiver, "Udp", "InDatagrams")?;
    ensure!(arrived == 0, "{arrived} datagrams passed the rule");
    let received = snmp(&pair.receiver, "Ip", "InReceives")?;
    ensure!(received == PACKETS, "{received} of {PACKETS} reached IP");
    Expected {
        reason: "NETFILTER_DROP",
        rule: Some("firewall"),
        site: &["nf", "ipt"],
        stage: &[Stage::Netfilter],
        benign: false,
    }
    .check(&outcome, PACKETS)
}

pub(super) fn listen(netns: &Netns) -> Result<UdpSocket> {
    Ok(netns.run(|| UdpSocket::bind((Pair::RECEIVER, PORT)))??)
}

fn drop_by_rule(netns: &Netns) -> Result<()> {
    let rules = format!(
        "add table ip t; add chain ip t in {{ type filter hook input priority 0; }}; add rule ip t in udp dport {PORT} drop"
    );
    let port = PORT.to_string();
    let attempts: [(&str, &[&str]); 2] = [
        ("nft", &[&rules]),
        (
            "iptables",
            &["-A", "INPUT", "-p", "udp", "--dport", &port, "-j", "DROP"],
        ),
    ];
    let mut said = Vec::new();
    for (program, args) in attempts {
        match netns.run(|| Command::new(program).args(args).output())? {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => said.push(format!(
                "{program}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => said.push(format!("{program}: {error}")),
        }
    }
    Err(Skip(format!(
        "no netfilter rule can be made here ({})",
        said.join("; ")
    ))
    .into())
}

/// IPv4 and UDP headers written by hand; the kernel fills in the IP checksum and leaves UDP's alone.
pub(super) fn send_with_wrong_checksum() -> Result<()> {
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::Raw,
    )
    .context("cannot open a raw socket")?;
    let packet = datagram_with_wrong_checksum(Pair::SENDER, Pair::RECEIVER, PORT);
    let to = SockaddrIn::from(SocketAddrV4::new(Pair::RECEIVER, 0));
    for _ in 0..PACKETS {
        let sent = sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        ensure!(sent == packet.len(), "short packet");
    }
    Ok(())
}

fn datagram_with_wrong_checksum(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    const PAYLOAD: [u8; 8] = [0x77; 8];
    let udp_length: u16 = 8 + 8;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_length).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    let right = udp_checksum(&packet[12..20], &packet[20..], &PAYLOAD);
    // Never 0, which would mean "no checksum".
    let wrong = if right == 1 { 2 } else { right ^ 1 };
    packet.extend(wrong.to_be_bytes());
    packet.extend(PAYLOAD);
    packet
}

/// RFC 768 over pseudo header, header without checksum, and payload.
fn udp_checksum(addresses: &[u8], header: &[u8], payload: &[u8]) -> u16 {
    let pseudo = [0, 17, header[4], header[5]];
    let words = [addresses, &pseudo, header, payload]
        .into_iter()
        .flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match u16::try_from(!sum & 0xffff) {
        Ok(0) | Err(_) => 0xffff,
        Ok(checksum) => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_wrong_by_one_bit() {
        let packet = datagram_with_wrong_checksum(Pair::SENDER, Pair::RECEIVER, PORT);
        let right = udp_checksum(&packet[12..20], &packet[20..26], &packet[28..]);
        let written = u16::from_be_bytes([packet[26], packet[27]]);
        assert_eq!((right ^ written).count_ones(), 1);
        assert_ne!(written, 0);
    }
}
