//! Moves a tunnel's end to another namespace, and removes it and makes another in its place, in the middle of a run with
//! traffic. A tunnel's NAPI instances have no id of their own, stay where they are when it moves, and their memory becomes
//! the next tunnel's.
//!
//! Asserts that each device's polls are its own, exactly as many packets as it received, in the run and in each window.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use tracer::model::report::Report;

use super::{Need, Scenario, Skip, fewer, note, repeat};
use crate::{
    flood::Flood,
    kernel::device_statistic,
    netns::{Netns, Pair, knows},
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_device_that_moves_to_another_namespace_is_polled_there",
        needs: &[Need::Root, Need::Program("ip")],
        run: || repeat(moved),
    },
    Scenario {
        name: "a_device_made_in_the_place_of_a_removed_one_has_its_own_polls",
        needs: &[Need::Root, Need::Program("ip")],
        run: || repeat(replaced),
    },
];

const PORT: u16 = 7014;
const RATE: u32 = 5_000;
const CPU: usize = 0;
const BEFORE: u64 = 300;
const AFTER: u64 = 200;
const SENDING: End = End {
    device: "vtx0",
    address: Ipv4Addr::new(10, 78, 0, 1),
    mac: "02:78:00:00:00:01",
    peer: (Ipv4Addr::new(10, 78, 0, 2), "02:78:00:00:00:02"),
    below: (Pair::SENDER, Pair::RECEIVER, Pair::SENDER_DEVICE),
};
const RECEIVING: End = End {
    device: "vrx0",
    address: SENDING.peer.0,
    mac: SENDING.peer.1,
    peer: (SENDING.address, SENDING.mac),
    below: (Pair::RECEIVER, Pair::SENDER, Pair::RECEIVER_DEVICE),
};

/// One end of a VXLAN tunnel over a pair.
#[derive(Clone, Copy)]
struct End {
    device: &'static str,
    address: Ipv4Addr,
    mac: &'static str,
    peer: (Ipv4Addr, &'static str),
    /// Addresses and device that carry it.
    below: (Ipv4Addr, Ipv4Addr, &'static str),
}

impl End {
    fn make(&self, netns: &Netns) -> Result<()> {
        let [local, remote] = [self.below.0, self.below.1].map(|address| address.to_string());
        let made = netns.ip(&[
            "link",
            "add",
            self.device,
            "address",
            self.mac,
            "type",
            "vxlan",
            "id",
            "78",
            "dstport",
            "4789",
            "local",
            &local,
            "remote",
            &remote,
            "dev",
            self.below.2,
        ]);
        made.map_err(|error| Skip(format!("this kernel makes no VXLAN tunnel: {error:#}")))?;
        self.set_up(netns)
    }

    fn set_up(&self, netns: &Netns) -> Result<()> {
        let (device, (peer, mac)) = (self.device, self.peer);
        netns.ip_batch(&[
            format!("address add {}/24 dev {device}", self.address),
            format!("link set {device} up"),
            knows(device, peer, mac),
        ])
    }
}

/// A pair with a tunnel over it.
fn tunnel() -> Result<Pair> {
    let pair = Pair::new()?;
    SENDING.make(&pair.sender)?;
    RECEIVING.make(&pair.receiver)?;
    Ok(pair)
}

/// Sends through the tunnel, and returns what its end received so far.
fn send(pair: &Pair, packets: u64, netns: &Netns, device: &str) -> Result<u64> {
    let flood = Flood {
        rate: Some(RATE),
        // Each CPU has its own instance, and slots.
        cpu: Some(CPU),
        ..Flood::new(RECEIVING.address, PORT, packets)
    };
    let sent = flood.run(&pair.sender)?;
    ensure!(sent == packets, "sent {sent} of {packets}");
    quiet();
    device_statistic(netns, device, "rx_packets")
}

fn moved() -> Result<()> {
    let pair = tunnel()?;
    let other = Netns::new("other")?;
    let device = RECEIVING.device;
    let tracer = Tracer::start(None, &["--interval", "200ms"])?;
    quiet();
    let before = send(&pair, BEFORE, &pair.receiver, device)?;
    pair.receiver
        .ip(&["link", "set", device, "netns", other.name()])?;
    RECEIVING.set_up(&other)?;
    quiet();
    let after = send(&pair, AFTER, &other, device)? - before;
    let outcome = tracer.stop()?;

    let (old, new) = ((&pair.receiver, device), (&other, device));
    check(
        &outcome.windows,
        &outcome.summary,
        [(old, before), (new, after)],
        outcome.missed_at("napi_poll"),
    )
}

fn replaced() -> Result<()> {
    let pair = tunnel()?;
    let old = RECEIVING.device;
    let end = End {
        device: "vrx1",
        ..RECEIVING
    };
    let tracer = Tracer::start(None, &["--interval", "200ms"])?;
    quiet();
    let before = send(&pair, BEFORE, &pair.receiver, old)?;
    pair.receiver.ip(&["link", "delete", old])?;
    end.make(&pair.receiver)?;
    quiet();
    let after = send(&pair, AFTER, &pair.receiver, end.device)?;
    let outcome = tracer.stop()?;

    let (old, new) = ((&pair.receiver, old), (&pair.receiver, end.device));
    check(
        &outcome.windows,
        &outcome.summary,
        [(old, before), (new, after)],
        outcome.missed_at("napi_poll"),
    )
}

/// Each of the two devices was polled for what it received.
fn check(
    windows: &[Report],
    summary: &Report,
    expected: [((&Netns, &str), u64); 2],
    missed: u64,
) -> Result<()> {
    for ((netns, device), received) in expected {
        ensure!(received > 0, "{device} received nothing");
        let polled = |report: &Report| -> u64 {
            let rows = report
                .napi
                .iter()
                .filter(|row| row.device == device && row.netns.as_deref() == Some(netns.name()));
            rows.map(|row| row.packets).sum()
        };
        let of_run = polled(summary);
        let in_windows: u64 = windows.iter().map(polled).sum();
        note(format_args!(
            "{device} in {}: received {received}, polled {of_run}, in windows {in_windows}",
            netns.name()
        ));
        ensure!(
            of_run <= received && in_windows <= of_run,
            "{device} in {} received {received}, polled {of_run}, in windows {in_windows}: {:#?}",
            netns.name(),
            summary.napi
        );
        fewer("packets of a device", of_run + missed, received)?;
        fewer(
            "packets of a device in windows",
            in_windows + missed,
            received,
        )?;
    }
    Ok(())
}
