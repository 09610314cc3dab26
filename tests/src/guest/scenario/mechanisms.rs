//! Sends the same bounded traffic through a card to a closed port, with every hook forced to one mechanism: all
//! tracepoints by `tp_btf`, all by `raw_tp`; `net_rx_action` by fentry, by kprobe.
//!
//! Asserts each time that the forced mechanism is the one in use, and the same counts: drops are the namespace's
//! `NoPorts`, packets polled those that the card received, hard IRQs and `NET_RX` runs per CPU those of the kernel.

use anyhow::{Context as _, Result, ensure};

use super::{Scenario, need_hook, need_nic};
use crate::{
    flood::Flood,
    guest::{
        bracket::{Bracket, Counter},
        nic::Wire,
    },
    kernel::{device_statistic, snmp},
    scenario::{Need, note},
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "all_tracepoints_by_tp_btf_count_what_the_kernel_counts",
        needs: NEEDS,
        run: || tracepoints("tp_btf"),
    },
    Scenario {
        name: "all_tracepoints_by_raw_tp_count_what_the_kernel_counts",
        needs: NEEDS,
        run: || tracepoints("raw_tp"),
    },
    Scenario {
        name: "net_rx_action_by_fentry_counts_what_the_kernel_counts",
        needs: NEEDS,
        run: || net_rx_action("fentry"),
    },
    Scenario {
        name: "net_rx_action_by_kprobe_counts_what_the_kernel_counts",
        needs: NEEDS,
        run: || net_rx_action("kprobe"),
    },
];

const TRACEPOINTS: [&str; 7] = [
    "irq_handler_entry",
    "irq_handler_exit",
    "softirq_raise",
    "softirq_entry",
    "softirq_exit",
    "napi_poll",
    "kfree_skb",
];

const PORT: u16 = 7103;
/// Slow enough that no ring overruns.
const PACKETS: u64 = 600;
const RATE: u32 = 2000;

fn tracepoints(mechanism: &str) -> Result<()> {
    let hooks: Vec<_> = TRACEPOINTS
        .iter()
        .map(|name| format!("{name}={mechanism}"))
        .collect();
    same_counts(&hooks)
}

fn net_rx_action(mechanism: &str) -> Result<()> {
    same_counts(&[format!("net_rx_action={mechanism}")])
}

fn same_counts(hooks: &[String]) -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let mut args = Vec::new();
    for hook in hooks {
        need_hook(hook)?;
        args.extend(["--hook", hook.as_str()]);
    }
    let arrived = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_packets");
    let before = arrived()?;
    let seen = Bracket::around(&wire.receiver, &args, || {
        let flood = Flood::new(Wire::RECEIVER, PORT, PACKETS);
        let rate = Some(RATE);
        let sent = Flood { rate, ..flood }.run(&wire.sender)?;
        ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
        Ok(())
    })?;
    let arrived = arrived()? - before;
    let report = &seen.outcome.summary;
    for hook in hooks {
        let (name, via) = hook.split_once('=').context("NAME=MECHANISM")?;
        let row = report.hooks.iter().find(|row| row.name == name);
        ensure!(
            row.is_some_and(|row| row.via.as_deref() == Some(via)),
            "{hook}: {row:?}"
        );
    }
    let exact = seen.check()?;
    let runs = seen.inner(Counter::NetRx);
    ensure!(runs > 0, "no NET_RX run for {PACKETS} datagrams");
    let irqs: u64 = report
        .irqs
        .iter()
        .filter(|irq| irq.device.as_deref() == Some(Wire::RECEIVER_DEVICE))
        .map(|irq| irq.count)
        .sum();
    ensure!(irqs > 0, "no interrupt of the card: {:#?}", report.irqs);

    let missed = seen.outcome.missed();
    let no_ports = snmp(&wire.receiver, "Udp", "NoPorts")?;
    // An emulated card may overrun; what it did not take is nobody's to count.
    ensure!(
        arrived > PACKETS / 2 && no_ports == arrived,
        "sent {PACKETS}, arrived {arrived}, NoPorts {no_ports}"
    );
    let dropped: u64 = report
        .drops
        .iter()
        .filter(|drop| {
            drop.device.as_deref() == Some(Wire::RECEIVER_DEVICE) && drop.site.contains("udp")
        })
        .map(|drop| drop.packets)
        .sum();
    ensure!(
        dropped <= no_ports && dropped + missed >= no_ports,
        "NoPorts {no_ports}, traced {dropped} (missed {missed}): {:#?}",
        report.drops
    );
    let polled: u64 = report
        .napi
        .iter()
        .filter(|napi| napi.device == Wire::RECEIVER_DEVICE)
        .map(|napi| napi.packets)
        .sum();
    ensure!(
        polled <= arrived && polled + missed >= arrived,
        "the card received {arrived}, polled {polled} (missed {missed}): {:?}",
        report.napi
    );
    note(format_args!(
        "{hooks:?}: {dropped} drops, {polled} polled, {irqs} interrupts of the card, {runs} NET_RX runs; undisturbed {}",
        exact.len()
    ));
    Ok(())
}
