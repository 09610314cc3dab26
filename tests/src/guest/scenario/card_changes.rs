//! Renames the receiving card, unplugs it, and deletes a network namespace with its device, each in the middle of a
//! run.
//!
//! Asserts that the counts of before stay exact and keep their names, that those of other devices are exact
//! throughout, that the run ends with its report, that no difference is left unexplained and that notes tell what
//! happened.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tracer::model::report::Report;

use super::{Scenario, closed_port, need_nic};
use crate::{
    findings,
    flood::Flood,
    guest::nic::{self, Wire},
    kernel::{self, device_statistic, gained},
    netns::Pair,
    scenario::{Need, note},
    setting,
    tracer::Tracer,
    undo::Pending,
    wait::{self, quiet},
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_card_that_is_renamed_keeps_its_counts",
        needs: NEEDS,
        run: renamed,
    },
    Scenario {
        name: "a_card_that_is_unplugged_leaves_its_counts_and_names",
        needs: NEEDS,
        run: unplugged,
    },
    Scenario {
        name: "a_namespace_that_disappears_leaves_its_counts_and_name",
        needs: NEEDS,
        run: namespace,
    },
];

const PORT: u16 = 7112;
const PACKETS: u64 = 300;
const NEW_NAME: &str = "wan0";
/// Long enough for tracer to look at least once.
const PAUSE: Duration = Duration::from_millis(700);
const INTERVAL: [&str; 2] = ["--interval", "200ms"];
const RESCAN: &str = "/sys/bus/pci/rescan";

fn renamed() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let old = Wire::RECEIVER_DEVICE;
    let send = || {
        let flood = Flood::new(Wire::RECEIVER, PORT, PACKETS);
        closed_port::send(flood, &wire.sender, &wire.receiver)
    };
    let rename = |from: &str, to: &str| {
        wire.receiver.ip(&["link", "set", from, "down"])?;
        wire.receiver.ip(&["link", "set", from, "name", to])?;
        wire.receiver.ip(&["link", "set", to, "up"])
    };
    let irqs_before = kernel::interrupts()?;
    let received_before = device_statistic(&wire.receiver, old, "rx_packets")?;
    let mut args = INTERVAL.to_vec();
    args.extend(["--interface", old]);
    let tracer = Tracer::start(Some(&wire.receiver), &args)?;
    quiet();
    let irqs_inner = kernel::interrupts()?;
    send()?;
    let irqs_inner = gained(&irqs_inner, &kernel::interrupts()?);
    rename(old, NEW_NAME)?;
    let name = wire.receiver.name().to_owned();
    // Later scenarios know it by its old name.
    let back = Pending::new(move || {
        for args in [
            ["link", "set", NEW_NAME, "down"].as_slice(),
            &["link", "set", NEW_NAME, "name", Wire::RECEIVER_DEVICE],
        ] {
            let status = Command::new("ip").args(["-n", &name]).args(args).status()?;
            ensure!(status.success(), "ip {}: {status}", args.join(" "));
        }
        Ok(())
    });
    wait::until("carrier", Duration::from_secs(15), || {
        let state = format!("/sys/class/net/{NEW_NAME}/operstate");
        let state = wire.receiver.run(|| setting::read(&state))??;
        Ok((state == "up").then_some(()))
    })?;
    thread::sleep(PAUSE);
    send()?;
    let received = device_statistic(&wire.receiver, NEW_NAME, "rx_packets")? - received_before;
    let outcome = tracer.stop()?;
    let irqs_outer = gained(&irqs_before, &kernel::interrupts()?);
    back.undo()?;

    let report = &outcome.summary;
    closed_port::check(&outcome, NEW_NAME, 2 * PACKETS)?;
    check_polled(report, NEW_NAME, received)?;
    let rows: Vec<_> = report
        .irqs
        .iter()
        .filter(|row| row.device.as_deref() == Some(NEW_NAME))
        .collect();
    ensure!(!rows.is_empty(), "no interrupts of {NEW_NAME}: {report:#?}");
    for row in rows {
        let of = |counts: &BTreeMap<(u32, u32), u64>| -> u64 {
            let of_irq = counts.iter().filter(|((irq, _), _)| *irq == row.irq);
            of_irq.map(|(_, count)| count).sum()
        };
        ensure!(
            of(&irqs_inner) <= row.count && row.count <= of(&irqs_outer),
            "the kernel {} to {}: {row:?}",
            of(&irqs_inner),
            of(&irqs_outer)
        );
    }
    ensure!(
        report.devices.iter().any(|row| row.name == NEW_NAME),
        "no row of {NEW_NAME}: {:#?}",
        report.devices
    );
    findings::explained(report)?;
    closed_port::check_note(&report.notes, "device nic1 is now called wan0")?;
    note(format_args!("received {received}: {:?}", report.notes));
    Ok(())
}

fn unplugged() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let device = Wire::RECEIVER_DEVICE;
    let slot = wire.receiver.run(|| slot(device))??;
    // Interrupts and packets flow before the run, too: what the kernel forgets is not only the run's.
    let send = || {
        let flood = Flood::new(Wire::RECEIVER, PORT, PACKETS);
        closed_port::send(flood, &wire.sender, &wire.receiver)
    };
    send()?;
    let other = Pair::new()?;
    let before = kernel::interrupts()?;
    let received_before = device_statistic(&wire.receiver, device, "rx_packets")?;
    let tracer = Tracer::start(Some(&wire.receiver), &INTERVAL)?;
    quiet();
    let inner = kernel::interrupts()?;
    send()?;
    let received = device_statistic(&wire.receiver, device, "rx_packets")? - received_before;
    let after = kernel::interrupts()?;
    let (inner, outer) = (gained(&inner, &after), gained(&before, &after));
    let names = fs::read_to_string("/proc/interrupts")?;

    let plugged_in = Pending::new(|| {
        setting::write(RESCAN, "1")?;
        wait::until("the card is back", Duration::from_secs(30), || {
            nic::prepare()?;
            let back = format!("/sys/class/net/{}", Wire::RECEIVER_DEVICE);
            Ok(fs::exists(back)?.then_some(()))
        })
    });
    setting::write(slot.join("remove"), "1")?;
    thread::sleep(PAUSE);
    // Another device, meanwhile.
    let flood = Flood::new(Pair::RECEIVER, PORT, PACKETS);
    closed_port::send(flood, &other.sender, &other.receiver)?;
    let outcome = tracer.stop()?;
    drop(wire);
    plugged_in.undo()?;

    let report = &outcome.summary;
    closed_port::check(&outcome, device, PACKETS)?;
    closed_port::check(&outcome, Pair::RECEIVER_DEVICE, PACKETS)?;
    check_polled(report, device, received)?;
    let rows: Vec<_> = report
        .irqs
        .iter()
        .filter(|row| row.device.as_deref() == Some(device))
        .collect();
    ensure!(
        rows.iter().any(|row| row.queue.is_some()),
        "interrupts of {device} with their queues: {:#?}",
        report.irqs
    );
    for row in rows {
        ensure!(
            !row.name.is_empty() && names.contains(&row.name),
            "the name is that of before: {row:?}"
        );
        for (cpu, traced) in &row.per_cpu {
            let of = |counts: &BTreeMap<_, u64>| counts.get(&(row.irq, *cpu)).copied().unwrap_or(0);
            // Unplugging a card may interrupt once more.
            ensure!(
                of(&inner) <= *traced && *traced <= of(&outer) + WATCHDOG,
                "interrupt {} on CPU {cpu}: the kernel {} to {}, traced {traced}",
                row.irq,
                of(&inner),
                of(&outer)
            );
        }
    }
    findings::explained(report)?;
    closed_port::check_note(&report.notes, "device nic1 went away")?;
    closed_port::check_note(&report.notes, "freed")?;
    note(format_args!("received {received}: {:?}", report.notes));
    Ok(())
}

/// Interrupts of the driver's watchdog that may fall between a reading and the card's end.
const WATCHDOG: u64 = 1;

fn namespace() -> Result<()> {
    let Pair { sender, receiver } = Pair::new()?;
    let other = Pair::new()?;
    let tracer = Tracer::start(None, &INTERVAL)?;
    quiet();
    let flood = Flood::new(Pair::RECEIVER, PORT, PACKETS);
    closed_port::send(flood, &sender, &receiver)?;
    let name = receiver.name().to_owned();
    drop(receiver);
    // With its namespace goes the device, and with that the other end.
    let peer = format!("/sys/class/net/{}", Pair::SENDER_DEVICE);
    wait::until("the device is gone", Duration::from_secs(10), || {
        Ok((!sender.run(|| fs::exists(&peer))??).then_some(()))
    })?;
    thread::sleep(PAUSE);
    closed_port::send(flood, &other.sender, &other.receiver)?;
    let outcome = tracer.stop()?;

    let report = &outcome.summary;
    for netns in [name.as_str(), other.receiver.name()] {
        let dropped: u64 = closed_port::drops(report, Pair::RECEIVER_DEVICE)?
            .filter(|drop| drop.netns.as_deref() == Some(netns))
            .map(|drop| drop.packets)
            .sum();
        ensure!(
            dropped == PACKETS,
            "{netns}: NoPorts {PACKETS}, traced {dropped}: {:#?}",
            report.drops
        );
    }
    findings::explained(report)?;
    closed_port::check_note(&report.notes, &format!("namespace {name} went away"))?;
    note(format_args!("{:?}", report.notes));
    Ok(())
}

fn check_polled(report: &Report, device: &str, received: u64) -> Result<()> {
    let rows = report.napi.iter().filter(|napi| napi.device == device);
    let polled: u64 = rows.map(|napi| napi.packets).sum();
    ensure!(
        received >= PACKETS && polled == received,
        "{device} received {received}, polled {polled}: {:#?}",
        report.napi
    );
    Ok(())
}

/// The card's PCI device; a virtio card is a child of that.
fn slot(device: &str) -> Result<PathBuf> {
    let path = fs::canonicalize(format!("/sys/class/net/{device}/device"))?;
    path.ancestors()
        .find(|path| path.join("remove").exists())
        .map(PathBuf::from)
        .with_context(|| format!("{} cannot be removed", path.display()))
}
