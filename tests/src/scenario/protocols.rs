//! Provokes three ends of a datagram in one run: a full socket, a port nobody listens on, a wrong checksum.
//!
//! Asserts that the protocol counters of the namespace, read by a parser of these tests' own, stand in the report and
//! in its reconciliation, each beside as many traced drops: one drop in one row.

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tracer::model::report::Reconciliation;

use super::{
    Need, Scenario, fewer, note, repeat,
    sites::{PACKETS, listen, observe, send, send_with_wrong_checksum},
};
use crate::{
    flood::Flood,
    kernel::{drop_reason, snmp},
    netns::Pair,
    tracer::Outcome,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "udp_counters_of_the_namespace_stand_beside_the_drops_that_raised_them",
    needs: &[Need::Root, Need::Program("ip")],
    run: || repeat(udp),
}];

const CLOSED_PORT: u16 = 7012;
const NAMES: [&str; 3] = ["RcvbufErrors", "NoPorts", "InCsumErrors"];

fn udp() -> Result<()> {
    let pair = Pair::new()?;
    let listener = listen(&pair.receiver)?;
    setsockopt(&listener, sockopt::RcvBuf, &4096)?;
    let (outcome, ()) = observe(&pair, || {
        send(&pair)?;
        let sent = Flood::new(Pair::RECEIVER, CLOSED_PORT, PACKETS).run(&pair.sender)?;
        ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
        pair.sender.run(send_with_wrong_checksum)?
    })?;
    let report = &outcome.summary;
    let mut counted = 0;
    for name in NAMES {
        let expected = snmp(&pair.receiver, "Udp", name)?;
        ensure!(expected != 0, "no {name}");
        let key = format!("Udp.{name}");
        ensure!(
            report.protocols.get(&key) == Some(&expected),
            "{key} {expected}: {:?}",
            report.protocols
        );
        counted += expected;
        if drop_reason("NO_SOCKET")?.is_some() {
            reconciled(&outcome, &key, expected)?;
        }
    }
    if drop_reason("NO_SOCKET")?.is_none() {
        reconciled(&outcome, "Udp.InErrors + Udp.NoPorts", counted)?;
    }
    Ok(())
}

/// The row of `counter` has `expected` on both sides.
pub(super) fn reconciled(outcome: &Outcome, counter: &str, expected: u64) -> Result<()> {
    let missed = outcome.missed_at("kfree_skb");
    let rows = &outcome.summary.reconciliation;
    let row = rows.iter().find(|row| row.counter == counter);
    let row: &Reconciliation = row.with_context(|| format!("no {counter}: {rows:#?}"))?;
    let traced = row.traced.with_context(|| format!("not traced: {row:?}"))?;
    ensure!(
        row.delta == expected && traced <= expected,
        "{expected} counted: {row:?}"
    );
    fewer("drops of a protocol", traced + missed, expected)?;
    ensure!(row.unexplained == Some(0), "unexplained: {row:?}");
    note(format_args!(
        "{counter}: {expected} counted, {traced} traced"
    ));
    Ok(())
}
