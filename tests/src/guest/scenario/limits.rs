//! Limits above the interrupt path: the accept queue of a listening socket, and the table of tracked connections.
//!
//! Asserts that each is told as what it is, with the number of the kernel's own counter, and that interrupts are said
//! to have no part in it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, listen, socket,
    },
};

use super::{Scenario, paste};
use crate::{
    findings, kept,
    kernel::netstat,
    netns::{Netns, Pair},
    scenario::{Need, Skip, note},
    setting::Setting,
    tracer::Tracer,
    wait::{self, quiet},
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_full_accept_queue_is_told",
        needs: &[Need::Root, Need::Program("ip")],
        run: accept_queue,
    },
    Scenario {
        name: "a_full_connection_table_is_told",
        needs: &[Need::Root, Need::Program("nft"), Need::Program("sh")],
        run: connections,
    },
];

const PORT: u16 = 7126;
const CLIENTS: usize = 30;
const TABLE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// Connections that the table takes, and datagrams from as many ports again.
const TABLE_SIZE: u16 = 40;
const IRQS: &str = "interrupt affinity, RPS";

fn accept_queue() -> Result<()> {
    let netns = Netns::new("listen")?;
    let address = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT));
    let stream = |flags| socket(AddressFamily::Inet, SockType::Stream, flags, None);
    let overflows = || netstat(&netns, "TcpExt", "ListenOverflows");
    let before = overflows()?;
    let tracer = Tracer::start(Some(&netns), &[])?;
    let _sockets = netns.run(|| {
        let listener = stream(SockFlag::SOCK_CLOEXEC)?;
        bind(listener.as_raw_fd(), &address)?;
        listen(&listener, Backlog::new(1)?)?;
        let mut sockets = vec![listener];
        for _ in 0..CLIENTS {
            let client = stream(SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)?;
            match connect(client.as_raw_fd(), &address) {
                Ok(()) | Err(Errno::EINPROGRESS) => sockets.push(client),
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::Ok(sockets)
    })??;
    wait::until("an overflow", Duration::from_secs(5), || {
        Ok((overflows()? - before >= 10).then_some(()))
    })?;
    quiet();
    // Clients whose handshake was refused try again until the end.
    let at_least = overflows()? - before;
    let report = tracer.stop()?.summary;
    let at_most = overflows()? - before;
    let told = report.protocols.get("TcpExt.ListenOverflows");
    ensure!(
        told.is_some_and(|told| (at_least..=at_most).contains(told)),
        "the kernel counted {at_least} to {at_most}, the report has {told:?}"
    );
    let found = findings::has(&report, "listen-overflow")?;
    findings::says(found, &["ListenOverflows", "ss -ltn", IRQS])?;
    findings::explained(&report)?;
    kept::keep_report("listen-overflow", &report)?;
    note(&found.summary);
    Ok(())
}

fn connections() -> Result<()> {
    let pair = Pair::new()?;
    let rules = "add table ip t; add chain ip t in { type filter hook input priority 0; }; \
                 add rule ip t in ct state new accept";
    paste::run(&pair.receiver, &format!("nft '{rules}'"))?;
    if !fs::exists(TABLE)? {
        return Err(Skip("this kernel has no connection tracking".to_owned()).into());
    }
    let _small = Setting::change(TABLE, &TABLE_SIZE.to_string())?;
    let _socket = pair
        .receiver
        .run(|| UdpSocket::bind((Pair::RECEIVER, PORT)))??;
    // The set-up is read when a run begins: the table is full before.
    send(&pair)?;
    let tracer = Tracer::start(Some(&pair.receiver), &[])?;
    send(&pair)?;
    quiet();
    let report = tracer.stop()?.summary;
    let came: u64 = report.devices.iter().map(|device| device.rx_packets).sum();
    ensure!(
        came >= u64::from(2 * TABLE_SIZE),
        "only {came} packets came: {:#?}",
        report.devices
    );
    let found = findings::has(&report, "conntrack-full")?;
    ensure!(
        found.summary.contains(&format!("of {TABLE_SIZE}")),
        "{found:#?}"
    );
    findings::says(found, &["NOTRACK", IRQS])?;
    paste::all(&pair.receiver, std::slice::from_ref(found))?;
    let raised = fs::read_to_string(TABLE).context(TABLE)?;
    ensure!(
        raised.trim() == (2 * TABLE_SIZE).to_string(),
        "{TABLE} is {raised}: {found:#?}"
    );
    kept::keep_report("conntrack", &report)?;
    note(&found.summary);
    Ok(())
}

/// A datagram from each of twice as many ports as there is room for.
fn send(pair: &Pair) -> Result<()> {
    pair.sender.run(|| {
        for port in 0..2 * TABLE_SIZE {
            let socket = UdpSocket::bind((Pair::SENDER, 20_000 + port))?;
            socket.send_to(&[0x77; 18], (Pair::RECEIVER, PORT))?;
        }
        anyhow::Ok(())
    })?
}
