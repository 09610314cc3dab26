//! Provokes disk interrupts (uncached reads of a file) and `NET_RX` runs (a UDP burst over `lo` of a namespace).
//!
//! Asserts that tracer's counts per IRQ and CPU, and of `NET_RX` runs per CPU, equal the change of /proc/interrupts
//! and /proc/softirqs. Two pairs of readings bracket them: one inside tracer's window, which no exact count may be
//! below, one outside tracer's life, which none may be above. Where both pairs show the same change, nothing else
//! happened and the traced count has to be that number; the traffic is repeated until this is so for it.

use std::{collections::BTreeMap, net::UdpSocket};

use anyhow::{Result, ensure};
use nix::unistd::sync;
use tracer::model::report::Report;

use super::{Need, Scenario, Skip, bracket::Bracket, note};
use crate::{disk::Blocks, flood::Flood, kernel, netns::Netns};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hard_irqs_per_irq_and_cpu_equal_proc_interrupts",
        needs: &[Need::Root],
        run: disk_interrupts,
    },
    Scenario {
        name: "net_rx_runs_per_cpu_equal_proc_softirqs",
        needs: &[Need::Root, Need::Program("ip")],
        run: net_rx_runs,
    },
];

const ATTEMPTS: usize = 5;
const PACKETS: u64 = 800;
const PORT: u16 = 7003;

/// tracer's own reconciliation has such rows, none with a residual. Only for a run that nothing else disturbed: an
/// event between its two readings is no error of tracer's.
fn reconciled(report: &Report, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let rows = &report.reconciliation;
    let mut rows_of = rows.iter().filter(|row| wanted(&row.counter));
    ensure!(
        rows_of.clone().next().is_some(),
        "no such row in the reconciliation: {rows:#?}"
    );
    let off = rows_of.find(|row| row.residual != Some(0));
    ensure!(off.is_none(), "residual: {off:?}");
    Ok(())
}

fn disk_interrupts() -> Result<()> {
    let blocks = Blocks::new()?;
    let Some(irq) = blocks.irq()? else {
        let directory = std::env::temp_dir();
        let reason = format!("{} is on no disk with interrupts", directory.display());
        return Err(Skip(reason).into());
    };
    for attempt in 1..=ATTEMPTS {
        sync();
        let seen = Bracket::around(kernel::interrupts, None, 1, || blocks.read())?;
        let report = &seen.reports[0];
        let mut traced = BTreeMap::new();
        for row in &report.irqs {
            ensure!(
                row.per_cpu.values().sum::<u64>() == row.count,
                "per_cpu does not add up: {row:?}"
            );
            traced.extend(
                row.per_cpu
                    .iter()
                    .map(|(cpu, count)| ((row.irq, *cpu), *count)),
            );
        }
        seen.check(&traced)?;
        let ours = |key: &(u32, u32)| key.0 == irq;
        let flowed: u64 = seen
            .inner
            .iter()
            .filter(|(key, _)| ours(key))
            .map(|(_, count)| count)
            .sum();
        ensure!(
            flowed >= Blocks::INTERRUPTS,
            "{} reads made only {flowed} interrupts {irq}",
            Blocks::COUNT
        );
        if let Some(count) = seen.undisturbed(ours) {
            let row = format!("interrupts {irq}");
            reconciled(report, |counter| counter == row)?;
            note(format_args!(
                "IRQ {irq}: {count} interrupts for {} reads, all traced, per CPU (attempt {attempt})",
                Blocks::COUNT
            ));
            return Ok(());
        }
        note(format_args!(
            "attempt {attempt}: something else used IRQ {irq}; the count was inside its bracket"
        ));
    }
    note(format_args!(
        "never undisturbed: IRQ {irq} was inside its bracket in {ATTEMPTS} attempts"
    ));
    Ok(())
}

fn net_rx_runs() -> Result<()> {
    let netns = Netns::new("lo")?;
    let address = std::net::Ipv4Addr::LOCALHOST;
    let socket = netns.run(|| UdpSocket::bind((address, PORT)))??;
    socket.set_nonblocking(true)?;
    for attempt in 1..=ATTEMPTS {
        let read = || kernel::softirqs("NET_RX");
        let seen = Bracket::around(read, Some(&netns), 1, || {
            let sent = Flood::new(address, PORT, PACKETS).run(&netns)?;
            ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
            Ok(())
        })?;
        let report = &seen.reports[0];
        while socket.recv(&mut [0; 64]).is_ok() {}
        let cpus = &report.cpus;
        let traced = cpus
            .iter()
            .filter_map(|cpu| Some((cpu.cpu, cpu.net_rx_runs?)))
            .collect();
        seen.check(&traced)?;
        let softirqs = cpus
            .iter()
            .filter_map(|cpu| Some((cpu.cpu, cpu.softirqs.get("NET_RX")?.runs)))
            .collect();
        seen.check(&softirqs)?;
        let packets: u64 = cpus.iter().filter_map(|cpu| cpu.packets).sum();
        ensure!(
            packets >= PACKETS,
            "{PACKETS} datagrams over lo, {packets} packets polled"
        );
        if let Some(count) = seen.undisturbed(|_| true) {
            reconciled(report, |counter| counter.starts_with("softirqs NET_RX cpu"))?;
            note(format_args!(
                "NET_RX: {count} runs, {packets} packets, all traced, per CPU (attempt {attempt})"
            ));
            return Ok(());
        }
        note(format_args!(
            "attempt {attempt}: other packets arrived; the counts were inside their bracket"
        ));
    }
    note(format_args!(
        "never undisturbed: NET_RX was inside its bracket in {ATTEMPTS} attempts"
    ));
    Ok(())
}
