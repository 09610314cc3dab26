//! Takes CPU 3 offline in the middle of a run, while it is the one that RPS steers to, or that a card interrupts;
//! once it comes back, once it stays away until the run has ended.
//!
//! Asserts that drops are exact and on the CPUs that executed them, that hard IRQs and `NET_RX` runs of every CPU are
//! those of the kernel, that no difference is left unexplained and that notes tell where the CPU was.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Result, ensure};

use super::{Scenario, closed_port, need_nic};
use crate::{
    findings,
    flood::Flood,
    guest::{bracket::Bracket, nic::Wire},
    kernel::{self, device_statistic, gained},
    netns::Pair,
    scenario::{Need, note},
    setting::{self, Setting},
    tracer::Tracer,
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Cpus(4), Need::Program("ip")];

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_cpu_that_goes_offline_and_comes_back_keeps_counts_exact",
        needs: NEEDS,
        run: comes_back,
    },
    Scenario {
        name: "a_cpu_that_goes_offline_for_good_keeps_counts_exact",
        needs: NEEDS,
        run: stays_away,
    },
];

const PORT: u16 = 7111;
const PACKETS: u64 = 300;
const CPU: u32 = 3;
const SENDING_CPU: u32 = 1;
const ONLINE: &str = "/sys/devices/system/cpu/cpu3/online";
/// Long enough for tracer to look at least once.
const AWAY: Duration = Duration::from_millis(700);
const ARGS: &[&str] = &["--interval", "200ms"];

fn comes_back() -> Result<()> {
    let pair = Pair::new()?;
    let rps = format!(
        "/sys/class/net/{}/queues/rx-0/rps_cpus",
        Pair::RECEIVER_DEVICE
    );
    let mask = format!("{:x}", 1 << CPU);
    pair.receiver.run(|| setting::write(&rps, &mask))??;
    let send = || {
        let flood = Flood {
            cpu: Some(SENDING_CPU as usize),
            ..Flood::new(Pair::RECEIVER, PORT, PACKETS)
        };
        closed_port::send(flood, &pair.sender, &pair.receiver)
    };
    let seen = Bracket::around(&pair.receiver, ARGS, || {
        send()?;
        let offline = Setting::change(ONLINE, "0")?;
        thread::sleep(AWAY);
        send()?;
        offline.restore()?;
        thread::sleep(AWAY);
        send()
    })?;
    seen.check()?;
    let report = &seen.outcome.summary;
    closed_port::check(&seen.outcome, Pair::RECEIVER_DEVICE, 3 * PACKETS)?;
    // While the target is away, the CPU that sends processes its packets itself.
    let mut executed = BTreeMap::new();
    for drop in closed_port::drops(report, Pair::RECEIVER_DEVICE)? {
        for (cpu, packets) in &drop.per_cpu {
            *executed.entry(*cpu).or_insert(0) += packets;
        }
    }
    ensure!(
        executed == [(SENDING_CPU, PACKETS), (CPU, 2 * PACKETS)].into(),
        "executed on {executed:?}"
    );
    findings::explained(report)?;
    closed_port::check_note(&report.notes, "CPU 3 was offline")?;
    let windows = seen.outcome.windows.iter();
    let windows: Vec<_> = windows.flat_map(|window| window.notes.clone()).collect();
    closed_port::check_note(&windows, "CPU 3 went offline")?;
    closed_port::check_note(&windows, "CPU 3 came online")?;
    for window in &seen.outcome.windows {
        findings::explained(window)?;
    }
    note(format_args!("executed on {executed:?}: {:?}", report.notes));
    Ok(())
}

fn stays_away() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let send = || {
        let flood = Flood::new(Wire::RECEIVER, PORT, PACKETS);
        closed_port::send(flood, &wire.sender, &wire.receiver)
    };
    let vectors = wire.pin(|_| CPU, send)?;
    let received = || device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, "rx_packets");

    let before = kernel::interrupts()?;
    let tracer = Tracer::start(Some(&wire.receiver), ARGS)?;
    quiet();
    let (inner, packets) = (kernel::interrupts()?, received()?);
    send()?;
    let inner = gained(&inner, &kernel::interrupts()?);
    let offline = Setting::change(ONLINE, "0")?;
    thread::sleep(AWAY);
    send()?;
    quiet();
    let packets = received()? - packets;
    let outcome = tracer.stop()?;
    offline.restore()?;
    let outer = gained(&before, &kernel::interrupts()?);

    let report = &outcome.summary;
    closed_port::check(&outcome, Wire::RECEIVER_DEVICE, 2 * PACKETS)?;
    let polled: u64 = report
        .napi
        .iter()
        .filter(|napi| napi.device == Wire::RECEIVER_DEVICE)
        .map(|napi| napi.packets)
        .sum();
    ensure!(
        packets >= 2 * PACKETS && polled == packets,
        "the card received {packets}, polled {polled}"
    );
    let mut on_cpu = 0;
    for irq in vectors.iter().map(|vector| vector.irq) {
        let row = report.irqs.iter().find(|row| row.irq == irq);
        for cpu in 0..4 {
            let counted = row.and_then(|row| row.per_cpu.get(&cpu)).copied();
            let counted = counted.unwrap_or(0);
            let of = |counts: &BTreeMap<_, u64>| counts.get(&(irq, cpu)).copied().unwrap_or(0);
            ensure!(
                of(&inner) <= counted && counted <= of(&outer),
                "interrupt {irq} on CPU {cpu}: the kernel {} to {}, traced {counted}",
                of(&inner),
                of(&outer)
            );
            on_cpu += if cpu == CPU { counted } else { 0 };
        }
    }
    ensure!(on_cpu > 0, "no interrupt on CPU {CPU}: {:#?}", report.irqs);
    let row = report.cpus.iter().find(|row| row.cpu == CPU);
    ensure!(
        row.is_some_and(|row| !row.online && row.hardirqs >= Some(on_cpu)),
        "CPU {CPU} is offline and has {on_cpu} interrupts: {row:?}"
    );
    findings::explained(report)?;
    closed_port::check_note(&report.notes, "CPU 3 went offline")?;
    ensure!(
        fs::read_to_string(ONLINE)?.trim() == "1",
        "CPU {CPU} is back"
    );
    note(format_args!(
        "{on_cpu} interrupts on CPU {CPU}, {polled} packets polled: {:?}",
        report.notes
    ));
    Ok(())
}
