//! Provokes a handful of drops at a closed port, with the details asked for, or with another device asked for.
//!
//! Asserts one `event` record a drop, with the addresses and ports that were sent, and none of another kind; and that
//! drops outside `--interface` are in the totals, counted apart, and not among the sites.

use anyhow::{Context as _, Result, ensure};
use tracer::model::event::{Event, What};

use super::{Need, Scenario, note};
use crate::{
    flood::Flood,
    kernel::{drop_reason, snmp},
    netns::Pair,
    tracer::{Outcome, Tracer},
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "each_drop_is_an_event_with_its_flow_when_asked_for",
        needs: NEEDS,
        run: events,
    },
    Scenario {
        name: "drops_outside_the_interface_are_counted_apart",
        needs: NEEDS,
        run: another_interface,
    },
];

const PORT: u16 = 7009;
const PACKETS: u64 = 50;
const UDP: u8 = 17;

fn dropped(args: &[&str]) -> Result<Outcome> {
    let pair = Pair::new()?;
    let tracer = Tracer::start(Some(&pair.receiver), args)?;
    let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&pair.sender)?;
    quiet();
    let outcome = tracer.stop()?;
    let refused = snmp(&pair.receiver, "Udp", "NoPorts")?;
    ensure!(
        sent == PACKETS && refused == PACKETS,
        "sent {sent}, NoPorts {refused}"
    );
    Ok(outcome)
}

fn events() -> Result<()> {
    let outcome = dropped(&["--events", "drop", "--detail-rate", "unlimited"])?;
    let reason = drop_reason("NO_SOCKET")?;
    let ours: Vec<_> = outcome
        .events
        .iter()
        .filter(|event| is_ours(event, reason))
        .collect();
    ensure!(
        ours.len() as u64 == PACKETS,
        "{PACKETS} dropped, {} events: {:#?}",
        ours.len(),
        outcome.events.first()
    );
    let others = outcome
        .events
        .iter()
        .find(|event| !matches!(event.what, What::Drop { .. }));
    ensure!(others.is_none(), "not asked for: {others:?}");
    for kind in &outcome.summary.details {
        ensure!(
            kind.kind == "drop" || kind.sent == 0,
            "details that nobody asked for: {kind:?}"
        );
    }
    note(format_args!("{:?}", ours[0]));
    Ok(())
}

fn is_ours(event: &Event, expected: Option<&str>) -> bool {
    let What::Drop {
        reason,
        device,
        netns,
        protocol,
        flow: Some(flow),
        ..
    } = &event.what
    else {
        return false;
    };
    reason.as_deref() == expected
        && device.as_deref() == Some(Pair::RECEIVER_DEVICE)
        && netns.is_none()
        && protocol == "ipv4"
        && flow.protocol == UDP
        && flow.source == Pair::SENDER
        && flow.destination == Pair::RECEIVER
        && flow.destination_port == Some(PORT)
        && flow.source_port.is_some_and(|port| port > 0)
}

fn another_interface() -> Result<()> {
    let outcome = dropped(&["--interface", "lo"])?;
    let (report, totals) = (&outcome.summary, outcome.summary.drop_totals);
    ensure!(
        report.interfaces == ["lo"],
        "interfaces {:?}",
        report.interfaces
    );
    let listed = report
        .drops
        .iter()
        .find(|drop| drop.device.as_deref() != Some("lo"));
    ensure!(listed.is_none(), "outside --interface: {listed:?}");
    let apart = totals.other_devices.context("other_devices is null")?;
    ensure!(
        apart >= PACKETS,
        "{PACKETS} dropped elsewhere, totals {totals:?}"
    );
    let listed: u64 = report.drops.iter().map(|drop| drop.packets).sum();
    let unattributed = totals.unattributed.unwrap_or(0);
    ensure!(
        totals.packets == Some(listed + apart + unattributed),
        "listed {listed}, totals {totals:?}"
    );
    Ok(())
}
