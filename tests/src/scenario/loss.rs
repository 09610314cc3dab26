//! Provokes loss: a ring of one page with unlimited details under a flood; a drop table of one entry with two sites.
//!
//! Asserts that counts stay exact, that every detail is either sent or counted under the name of its loss, and that
//! drops without a table entry are in the totals and counted as such.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Need, Scenario, flood_of, note};
use crate::{
    flood::Flood,
    kernel::{device_statistic, drop_reason, snmp},
    netns::Pair,
    tracer::Tracer,
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_full_ring_loses_details_and_counts_them_but_no_drop",
        needs: NEEDS,
        run: full_ring,
    },
    Scenario {
        name: "the_detail_rate_limits_details_and_counts_them_but_no_drop",
        needs: NEEDS,
        run: limited_details,
    },
    Scenario {
        name: "a_full_drop_table_loses_sites_but_no_drop",
        needs: NEEDS,
        run: full_drop_table,
    },
];

const CLOSED: u16 = 7005;
const UNREAD: u16 = 7006;
const FLOOD: u64 = 60_000;
/// Below `netdev_max_backlog`.
const FEW: u64 = 800;

/// A flood to a closed port: every packet is dropped, there or before the backlog.
fn flooded(args: &[&str]) -> Result<crate::tracer::Outcome> {
    let pair = Pair::new()?;
    let tracer = Tracer::start(Some(&pair.receiver), args)?;
    let flood = flood_of(FLOOD);
    let sent = Flood::new(Pair::RECEIVER, CLOSED, flood).run(&pair.sender)?;
    quiet();
    let outcome = tracer.stop()?;
    ensure!(sent >= flood / 2, "sent only {sent}");
    let no_port = snmp(&pair.receiver, "Udp", "NoPorts")?;
    let refused = device_statistic(&pair.receiver, Pair::RECEIVER_DEVICE, "rx_dropped")?;
    ensure!(
        no_port + refused == sent,
        "sent {sent}, NoPorts {no_port}, rx_dropped {refused}"
    );
    let ours = outcome
        .summary
        .drops
        .iter()
        .filter(|drop| drop.device.as_deref() == Some(Pair::RECEIVER_DEVICE));
    let counted: u64 = ours.map(|drop| drop.packets).sum();
    let missed = outcome.missed_at("kfree_skb");
    ensure!(
        counted <= sent && counted + missed >= sent,
        "{sent} dropped, traced {counted} (missed {missed}): {:#?}",
        outcome.summary.drops
    );
    for kind in &outcome.summary.details {
        ensure!(
            kind.sent + kind.ring_full + kind.limited == kind.seen,
            "sent + ring_full + limited is not seen: {kind:?}"
        );
    }
    let losses = &outcome.summary.losses;
    let ring_full: u64 = outcome
        .summary
        .details
        .iter()
        .map(|kind| kind.ring_full)
        .sum();
    ensure!(
        ring_full == losses.ring_full,
        "ring_full: kinds {ring_full}, losses {losses:?}"
    );
    let limited: u64 = outcome
        .summary
        .details
        .iter()
        .map(|kind| kind.limited)
        .sum();
    ensure!(
        limited == losses.detail_limited,
        "limited: kinds {limited}, losses {losses:?}"
    );
    ensure!(losses.undecodable == 0, "undecodable: {losses:?}");
    let drops = outcome
        .summary
        .details
        .iter()
        .find(|kind| kind.kind == "drop")
        .context("no details of drops")?;
    ensure!(
        drops.seen >= counted,
        "{counted} drops, details saw {}",
        drops.seen
    );
    note(format_args!("{sent} sent, {counted} traced; {drops:?}"));
    Ok(outcome)
}

fn full_ring() -> Result<()> {
    let outcome = flooded(&["--ring-size", "4096", "--detail-rate", "unlimited"])?;
    let losses = &outcome.summary.losses;
    ensure!(
        losses.ring_full > 0,
        "a ring of one page took every detail: {losses:?}"
    );
    ensure!(
        losses.detail_limited == 0,
        "limited without a limit: {losses:?}"
    );
    ensure!(
        outcome.summary.details.iter().any(|kind| kind.sent > 0),
        "no detail at all: {:?}",
        outcome.summary.details
    );
    Ok(())
}

fn limited_details() -> Result<()> {
    let outcome = flooded(&["--detail-rate", "100"])?;
    let losses = &outcome.summary.losses;
    ensure!(losses.detail_limited > 0, "nothing was limited: {losses:?}");
    ensure!(
        losses.ring_full == 0,
        "the ring was full in spite of the limit: {losses:?}"
    );
    Ok(())
}

fn full_drop_table() -> Result<()> {
    let pair = Pair::new()?;
    let unread = pair
        .receiver
        .run(|| UdpSocket::bind((Pair::RECEIVER, UNREAD)))??;
    setsockopt(&unread, sockopt::RcvBuf, &4096)?;
    let tracer = Tracer::start(Some(&pair.receiver), &["--drop-sites", "1"])?;
    for port in [CLOSED, UNREAD] {
        let sent = Flood::new(Pair::RECEIVER, port, FEW).run(&pair.sender)?;
        ensure!(sent == FEW, "sent {sent} of {FEW}");
    }
    quiet();
    let outcome = tracer.stop()?;
    let closed = snmp(&pair.receiver, "Udp", "NoPorts")?;
    let unread = snmp(&pair.receiver, "Udp", "RcvbufErrors")?;
    ensure!(
        closed == FEW && unread > 0,
        "NoPorts {closed}, RcvbufErrors {unread}"
    );
    let (report, totals) = (&outcome.summary, outcome.summary.drop_totals);
    let missed = outcome.missed_at("kfree_skb");
    ensure!(missed == 0, "tracer missed {missed} drops");
    let packets = totals.packets.context("drop_totals.packets is null")?;
    let unattributed = totals
        .unattributed
        .context("drop_totals.unattributed is null")?;
    let listed: u64 = report.drops.iter().map(|drop| drop.packets).sum();
    ensure!(
        report.drops.len() <= 1,
        "a table of one entry holds {:#?}",
        report.drops
    );
    ensure!(
        packets >= closed + unread,
        "{closed} + {unread} dropped, totals {totals:?}"
    );
    ensure!(
        packets == listed + unattributed,
        "listed {listed}, totals {totals:?}"
    );
    ensure!(
        unattributed >= unread,
        "{unread} came after the table was full, totals {totals:?}"
    );
    ensure!(
        report.losses.drop_table_full == unattributed,
        "totals {totals:?}, losses {:?}",
        report.losses
    );
    ensure!(
        report.losses.map_full >= unattributed,
        "losses {:?}",
        report.losses
    );
    // A drop elsewhere on the host may have taken the only entry.
    if let Some(first) = report
        .drops
        .iter()
        .find(|drop| drop.device.as_deref() == Some(Pair::RECEIVER_DEVICE))
    {
        ensure!(
            first.packets == closed && first.reason.as_deref() == drop_reason("NO_SOCKET")?,
            "first site: {first:?}"
        );
    }
    note(format_args!("{closed} + {unread} dropped; {totals:?}"));
    Ok(())
}
