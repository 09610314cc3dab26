//! Sends through cards whose NAPI polls in threads of its own (5.12), not in the softirq.
//!
//! Asserts that no `NET_RX` run polled a packet, that the report says why, and that `napi_poll` still counts: what was
//! polled outside of `NET_RX` is what the cards received. The vectors may run on every CPU: the report says that each
//! is delivered to one.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::{Scenario, need_nic};
use crate::{
    findings,
    flood::Flood,
    guest::{
        bracket::{Bracket, Counter},
        nic::Wire,
    },
    kept,
    kernel::{device_statistic, snmp},
    netns::Netns,
    scenario::{Need, Skip, note},
    setting,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "threaded_napi_leaves_net_rx_empty_and_the_report_says_why",
    needs: &[Need::Root, Need::Program("ip")],
    run: threaded,
}];

const PORT: u16 = 7106;
/// What is delivered to one CPU all the same.
const EVERYWHERE: &str = "0-3";
/// Slow enough that rings seldom overrun.
const PACKETS: u64 = 600;
const RATE: u32 = 2000;
/// Of these at least so many have to arrive: threads that get no CPU in time leave the ring to overrun.
const ENOUGH: u64 = 100;

/// Cards that poll in threads, until this is dropped: the setting would go with them into the next scenario.
struct Threaded<'a>(&'a Wire);

impl<'a> Threaded<'a> {
    fn on(wire: &'a Wire) -> Result<Self> {
        let on = Self(wire);
        on.set("1")?;
        Ok(on)
    }

    fn set(&self, value: &str) -> Result<()> {
        for (netns, device) in cards(self.0) {
            netns.run(|| {
                let path = PathBuf::from(format!("/sys/class/net/{device}/threaded"));
                if !path.exists() {
                    return Err(Skip("this kernel has no threaded NAPI".to_owned()).into());
                }
                setting::write(&path, value)?;
                let now = setting::read(&path)?;
                ensure!(now == value, "{}: {now}", path.display());
                Ok(())
            })??;
        }
        Ok(())
    }
}

impl Drop for Threaded<'_> {
    fn drop(&mut self) {
        // Without the file there is nothing to put back.
        let _ = self.set("0");
    }
}

fn cards(wire: &Wire) -> [(&Netns, &'static str); 2] {
    [
        (&wire.sender, Wire::SENDER_DEVICE),
        (&wire.receiver, Wire::RECEIVER_DEVICE),
    ]
}

fn threaded() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let _on = Threaded::on(&wire)?;
    wire.allow(EVERYWHERE)?;
    let arrived = || -> Result<u64> {
        let mut all = 0;
        for (netns, device) in cards(&wire) {
            all += device_statistic(netns, device, "rx_packets")?;
        }
        Ok(all)
    };
    let before = arrived()?;
    let seen = Bracket::around(&wire.receiver, &[], || {
        let flood = Flood::new(Wire::RECEIVER, PORT, PACKETS);
        let rate = Some(RATE);
        let sent = Flood { rate, ..flood }.run(&wire.sender)?;
        ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
        Ok(())
    })?;
    let arrived = arrived()? - before;
    let no_ports = snmp(&wire.receiver, "Udp", "NoPorts")?;
    ensure!(
        no_ports >= ENOUGH && arrived >= no_ports,
        "sent {PACKETS}, NoPorts {no_ports}, the cards received {arrived}"
    );
    seen.check()?;

    let report = &seen.outcome.summary;
    let missed = seen.outcome.missed();
    let runs: u64 = report.cpus.iter().filter_map(|cpu| cpu.net_rx_runs).sum();
    let inside: u64 = report.cpus.iter().filter_map(|cpu| cpu.packets).sum();
    // Some kernels have a few runs that poll nothing; they are counted as the kernel does (seen.check).
    ensure!(
        inside == 0 && (runs == 0 || seen.inner(Counter::NetRx) > 0),
        "NET_RX ran: kernel {}, traced {runs} with {inside} packets: {:#?}",
        seen.inner(Counter::NetRx),
        report.napi
    );
    let outside: u64 = report
        .cpus
        .iter()
        .filter_map(|cpu| cpu.packets_outside_net_rx)
        .sum();
    let polled: u64 = report.napi.iter().map(|napi| napi.packets).sum();
    ensure!(
        outside <= arrived && outside + missed >= arrived && polled == outside,
        "the cards received {arrived}, outside NET_RX {outside}, polled {polled} (missed {missed}): {:#?}",
        report.napi
    );
    let why = report
        .notes
        .iter()
        .find(|note| note.starts_with("NET_RX is empty"));
    ensure!(
        why.is_some_and(|why| why.contains("threaded NAPI") && why.contains(Wire::RECEIVER_DEVICE)),
        "not said why NET_RX is empty: {:?}",
        report.notes
    );
    let found = findings::has(report, "threaded-napi")?;
    findings::says(
        found,
        &[
            &format!("threaded NAPI of {}", Wire::RECEIVER_DEVICE),
            "do not show that work",
        ],
    )?;
    let found = findings::has(report, "effective-affinity")?;
    findings::says(
        found,
        &[
            &format!("mask {EVERYWHERE}"),
            "does not spread one interrupt",
        ],
    )?;
    kept::keep_report("threaded", report)?;
    note(format_args!(
        "{arrived} packets, outside NET_RX {outside}; {why:?}"
    ));
    Ok(())
}
