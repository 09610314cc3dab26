//! What several scenarios have in common: datagrams to a port nobody listens on, and what the report says of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tracer::model::report::{Drop as DropSite, Report};

use crate::{
    flood::Flood,
    kernel::{drop_reason, snmp},
    netns::Netns,
    tracer::Outcome,
    wait,
};

/// Datagrams a second: no queue on the way may overflow.
const RATE: u32 = 2000;
/// Longest time until the last has arrived.
const ARRIVED: Duration = Duration::from_secs(10);

/// Sends `flood` at a modest rate; all of it has to leave, and to be refused by `receiver` for want of a socket.
pub(super) fn send(flood: Flood, sender: &Netns, receiver: &Netns) -> Result<()> {
    let before = snmp(receiver, "Udp", "NoPorts")?;
    let rate = Some(RATE);
    let sent = Flood { rate, ..flood }.run(sender)?;
    ensure!(sent == flood.packets, "sent {sent} of {}", flood.packets);
    // An interrupt that is lost while its vector moves is made up for by the card's watchdog, after two seconds.
    let mut refused = 0;
    let arrived = wait::until("all are refused", ARRIVED, || {
        refused = snmp(receiver, "Udp", "NoPorts")? - before;
        Ok((refused >= sent).then_some(()))
    });
    arrived.with_context(|| format!("sent {sent}, NoPorts {refused}"))?;
    wait::quiet();
    ensure!(refused == sent, "sent {sent}, NoPorts {refused}");
    Ok(())
}

/// Drops of datagrams that found no socket, on this device.
pub(super) fn drops<'a>(
    report: &'a Report,
    device: &'a str,
) -> Result<impl Iterator<Item = &'a DropSite>> {
    let reason = drop_reason("NO_SOCKET")?;
    Ok(report.drops.iter().filter(move |drop| {
        // Without reasons: the site, which is an address where names are hidden.
        let refused = match reason {
            Some(_) => drop.reason.as_deref() == reason,
            None => drop.site.contains("udp") || drop.site.starts_with("0x"),
        };
        refused && drop.device.as_deref() == Some(device)
    }))
}

/// Fails unless exactly `packets` were traced as dropped for want of a socket, on this device.
pub(super) fn check(outcome: &Outcome, device: &str, packets: u64) -> Result<()> {
    let report = &outcome.summary;
    let traced: u64 = drops(report, device)?.map(|drop| drop.packets).sum();
    ensure!(
        traced == packets,
        "{device}: NoPorts {packets}, traced {traced}: {:#?}",
        report.drops
    );
    Ok(())
}

/// Fails unless one of the notes contains `words`.
pub(super) fn check_note(notes: &[String], words: &str) -> Result<()> {
    ensure!(
        notes.iter().any(|note| note.contains(words)),
        "no note says {words:?}: {notes:#?}"
    );
    Ok(())
}
