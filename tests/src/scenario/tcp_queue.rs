//! Provokes drops from TCP's out-of-order queue: segments beyond a gap wait there, larger ones swallow them, and closing
//! the connection throws away the rest. While it waits there, a packet has a link of the queue's tree where its
//! device was.
//!
//! Asserts as many drops as the kernel's own count, each on `lo` or on no device and in tracer's own namespace, with
//! and without `--interface lo`, in the sites and in the events.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tracer::model::{event::What, report::Stage};

use super::{Need, Scenario, Skip, fewer, note, repeat};
use crate::{
    kernel::{drop_reason, netstat},
    netns::Netns,
    tcp::Connection,
    tracer::{Outcome, Tracer},
    wait::{self, quiet},
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_drop_from_tcps_out_of_order_queue_names_the_device_and_no_garbage",
    needs: &[Need::Root, Need::Program("ip")],
    run: || repeat(out_of_order),
}];

const PORT: u16 = 7010;
const REASON: &str = "TCP_OFOMERGE";
const CONNECTIONS: u64 = 40;
/// Segments that wait behind the gap, of [`SHORT`] bytes, [`STEP`] apart.
const WAITING: u32 = 60;
const SHORT: u16 = 10;
const STEP: u32 = 20;
/// First byte of the first of them.
const BEGIN: u32 = 1000;
/// Each of these swallows [`SWALLOWED`] whole ones and touches no other, so that none can be joined to it.
const LONG: u16 = 196;
const SWALLOWED: u32 = 10;

fn out_of_order() -> Result<()> {
    if drop_reason(REASON)?.is_none() {
        return Err(Skip(format!("this kernel has no drop reason {REASON}")).into());
    }
    for args in [&[][..], &["--interface", "lo"]] {
        let netns = Netns::new("tcp")?;
        let details = ["--events", "drop", "--detail-rate", "unlimited"];
        let tracer = Tracer::start(Some(&netns), &[&details, args].concat())?;
        for turn in 0..CONNECTIONS {
            merge(&netns, turn)?;
        }
        quiet();
        let outcome = tracer.stop()?;
        check(&outcome, CONNECTIONS * u64::from(WAITING)).with_context(|| format!("{args:?}"))?;
    }
    Ok(())
}

/// Lets [`WAITING`] segments be swallowed, and the connection end with what swallowed them still in the queue.
fn merge(netns: &Netns, turn: u64) -> Result<()> {
    let merged = || netstat(netns, "TcpExt", "TCPOFOMerge");
    let before = merged()?;
    let connection = Connection::open(netns, PORT)?;
    for place in 0..WAITING {
        // In no order, another one each time: the shape of the tree decides what stands where the device was.
        let place = (u64::from(place) * 37 + turn * 7) % u64::from(WAITING);
        connection.send(BEGIN + STEP * u32::try_from(place)?, SHORT)?;
    }
    for group in (0..WAITING / SWALLOWED).rev() {
        connection.send(BEGIN + STEP * SWALLOWED * group - 5, LONG)?;
    }
    let wanted = before + u64::from(WAITING);
    wait::until("merged", Duration::from_secs(2), || {
        Ok((merged()? >= wanted).then_some(()))
    })?;
    ensure!(
        merged()? == wanted,
        "merged {}, expected {wanted}",
        merged()?
    );
    Ok(())
}

fn check(outcome: &Outcome, merged: u64) -> Result<()> {
    let (report, totals) = (&outcome.summary, outcome.summary.drop_totals);
    let missed = outcome.missed_at("kfree_skb");
    let traced: u64 = outcome.drops_for(REASON).map(|drop| drop.packets).sum();
    ensure!(
        traced <= merged,
        "{merged} merged, traced {traced}: {:#?}",
        report.drops
    );
    fewer("drops from the queue", traced + missed, merged)?;
    let tcp = report
        .drops
        .iter()
        .filter(|drop| drop.stage == Stage::Tcp || drop.reason.as_deref() == Some(REASON));
    for drop in tcp {
        ensure!(
            matches!(drop.device.as_deref(), None | Some("lo")) && drop.netns.is_none(),
            "neither lo nor without a device: {drop:?}"
        );
    }
    // Whatever else the host dropped meanwhile was in a namespace that exists.
    let namespaces = namespaces()?;
    for drop in &report.drops {
        let number = drop.netns.as_deref().map(str::parse::<u64>);
        ensure!(
            !number.is_some_and(|number| number.is_ok_and(|number| !namespaces.contains(&number))),
            "no namespace has this number: {drop:?}"
        );
    }
    if !report.interfaces.is_empty() {
        ensure!(
            totals.other_devices == Some(0),
            "on lo, and yet elsewhere: {totals:?}"
        );
    }
    let mut events = 0;
    for event in &outcome.events {
        let What::Drop {
            reason,
            device,
            netns,
            flow,
            ..
        } = &event.what
        else {
            continue;
        };
        let ours = |port: Option<u16>| port == Some(PORT);
        if flow
            .as_ref()
            .is_some_and(|flow| ours(flow.source_port) || ours(flow.destination_port))
        {
            events += u64::from(reason.as_deref() == Some(REASON));
            ensure!(
                matches!(device.as_deref(), None | Some("lo")) && netns.is_none(),
                "neither lo nor without a device: {event:?}"
            );
        }
    }
    let lost = report.losses.ring_full;
    ensure!(
        events <= traced && events + lost >= traced,
        "{traced} drops, {events} events, {lost} lost"
    );
    let rows: Vec<_> = report
        .drops
        .iter()
        .map(|drop| (&drop.site, &drop.reason, &drop.device, drop.packets))
        .collect();
    note(format_args!("{merged} merged, {events} events; {rows:?}"));
    Ok(())
}

/// Inode numbers of all network namespaces that a process is in or that have a name.
fn namespaces() -> Result<BTreeSet<u64>> {
    use std::os::unix::fs::MetadataExt as _;
    let named = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let of_processes = fs::read_dir("/proc")?
        .flatten()
        .map(|entry| entry.path().join("ns/net"));
    Ok(named
        .chain(of_processes)
        .filter_map(|path| Some(fs::metadata(path).ok()?.ino()))
        .collect())
}
