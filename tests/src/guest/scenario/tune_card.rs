//! Gives a network card's vectors, ring and channels other values by `tracer tune apply`, and takes them back; and makes
//! irqbalance leave the vectors alone.
//!
//! Asserts that every vector, and the ring, is as the plan says and, after `revert`, as it was, also after SIGKILL at any
//! step of either; that a card whose driver
//! refuses is left as it was, and named; that irqbalance knows the bans by its own account, moves none of the vectors, and
//! has its old bans back after `revert`.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    model::setting::Setting as Tuned,
    tune::{host::Host as _, plan::Planned, real::RealHost},
};

use super::{Scenario, need_nic};
use crate::{
    guest::nic::Wire,
    plan,
    process::Process,
    scenario::{Need, Skip, note},
    tracer::{command, complete},
    wait,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tune_moves_the_vectors_of_a_card_and_takes_them_back",
        needs: &[Need::Root, Need::Cpus(2), Need::Program("ip")],
        run: vectors,
    },
    Scenario {
        name: "tune_changes_ring_and_channels_and_takes_them_back",
        needs: &[Need::Root, Need::Cpus(2), Need::Program("ip")],
        run: ring_and_channels,
    },
    Scenario {
        name: "tune_tells_irqbalance_to_leave_the_vectors_alone_and_takes_it_back",
        needs: &[
            Need::Root,
            Need::Cpus(2),
            Need::Program("ip"),
            Need::Program("irqbalance"),
        ],
        run: irqbalance,
    },
];

const LIMIT: Duration = Duration::from_secs(40);
const DEVICE: &str = Wire::RECEIVER_DEVICE;

fn vectors() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let text = fs::read_to_string("/proc/interrupts")?;
    let name = wire.receiver.run(|| {
        let device = fs::read_dir(format!("/sys/class/net/{DEVICE}/device/msi_irqs"))
            .or_else(|_| fs::read_dir(format!("/sys/class/net/{DEVICE}/device/../msi_irqs")));
        let irqs = device?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        irqs.collect::<std::io::Result<Vec<String>>>()
    })??;
    let is_requested = |irq: &&String| {
        let mut lines = text.lines();
        lines.any(|line| line.trim().starts_with(&format!("{irq}:")))
    };
    let irqs: Vec<u32> = name
        .iter()
        .filter(is_requested)
        .map(|irq| Ok(irq.parse()?))
        .collect::<Result<_>>()?;
    ensure!(!irqs.is_empty(), "no vectors");
    let file = |irq: u32| format!("/proc/irq/{irq}/smp_affinity_list");
    let all = || -> Result<BTreeMap<u32, String>> {
        irqs.iter()
            .map(|irq| Ok((*irq, fs::read_to_string(file(*irq))?)))
            .collect()
    };
    let before = all()?;
    note(format_args!("{before:?}"));
    let target = |irq: &u32| if before[irq].trim() == "1" { "0" } else { "1" };
    let changes = irqs.iter().map(|irq| {
        let from = before[irq].trim().to_owned();
        plan::change(Tuned::IrqAffinity { irq: *irq }, Some(from), target(irq))
    });
    let plan = write_plan(changes.collect())?;
    note(tune(&wire, &["apply", &plan, "--yes"])?);
    for irq in &irqs {
        let now = fs::read_to_string(file(*irq))?;
        ensure!(now.trim() == target(irq), "IRQ {irq}: {now}");
    }
    let told = tune(&wire, &["status"])?;
    ensure!(!told.contains("drifted"), "{told}");
    tune(&wire, &["revert"])?;
    let is_untouched = |when: &str| {
        let now = all()?;
        ensure!(now == before, "{when}: {now:?}, was {before:?}");
        Ok(())
    };
    is_untouched("after the revert")?;
    plan::kill_at_each_step(
        &plan,
        irqs.len(),
        |args, fault| run(&wire, args, fault),
        is_untouched,
    )
}

fn ring_and_channels() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let device = || DEVICE.to_owned();
    let settings = [
        Tuned::Ring { device: device() },
        Tuned::Channels { device: device() },
    ];
    let mut changed = 0;
    for setting in settings {
        let read = || wire.receiver.run(|| RealHost::new().read(&setting));
        let before = match read()? {
            Ok(before) => before,
            Err(error) => {
                note(format_args!("left out: {error}"));
                continue;
            }
        };
        let value: u32 = before.parse()?;
        // A ring of twice the size, half as many channels.
        let to = match setting {
            Tuned::Ring { .. } => value * 2,
            _ => (value / 2).max(1),
        };
        let change = plan::change(setting.clone(), Some(before.clone()), &to.to_string());
        let plan = write_plan(vec![change])?;
        let (status, out, err) = run(&wire, &["apply", &plan, "--yes"], "")?;
        if !status.success() {
            ensure!(
                err.contains(&setting.to_string()) && err.contains("the host is as it was"),
                "{setting}: {status}: {out} {err}"
            );
            note(format_args!("refused: {err}"));
            let now = read()?.context("after the refusal")?;
            ensure!(now == before, "{setting}: {now}, was {before}");
            continue;
        }
        note(out);
        let now = read()?.context("after apply")?;
        ensure!(now == to.to_string(), "{setting}: {now}, not {to}");
        tune(&wire, &["revert"])?;
        let now = read()?.context("after revert")?;
        ensure!(now == before, "{setting}: {now}, was {before}");
        changed += 1;
    }
    if changed == 0 {
        return Err(Skip("this card's driver changes neither ring nor channels".to_owned()).into());
    }
    Ok(())
}

/// Debian's own, which looks at the interrupts every second.
fn irqbalance() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    fs::create_dir_all("/run/irqbalance")?;
    let mut daemon = Command::new("irqbalance");
    daemon
        .args(["--foreground", "--interval", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let daemon = Process::spawn(None, daemon)?;
    let bans = Tuned::IrqbalanceBans { pid: daemon.pid() };
    let told = || RealHost::new().read(&bans);
    wait::until("irqbalance listens", LIMIT, || Ok(told().ok()))?;
    let before = told()?;
    let vectors = wire.vectors()?;
    let irqs: Vec<String> = vectors
        .iter()
        .map(|vector| vector.irq.to_string())
        .collect();
    let mut changes = vec![plan::change(bans.clone(), None, &irqs.join(" "))];
    changes.extend(vectors.iter().map(|vector| {
        let setting = Tuned::IrqAffinity { irq: vector.irq };
        plan::change(setting, None, "1")
    }));
    let plan = write_plan(changes)?;
    note(tune(&wire, &["apply", &plan, "--yes"])?);
    ensure!(bans.same(&irqs.join(" "), &told()?), "bans: {:?}", told()?);
    // It looks some times.
    thread::sleep(Duration::from_secs(5));
    for vector in &vectors {
        let now = fs::read_to_string(format!("/proc/irq/{}/smp_affinity_list", vector.irq))?;
        ensure!(now.trim() == "1", "irqbalance moved {vector:?} to {now}");
    }
    note(tune(&wire, &["revert"])?);
    ensure!(
        bans.same(&before, &told()?),
        "bans: {:?}, was {before}",
        told()?
    );

    // It goes, and takes its bans with it.
    tune(&wire, &["apply", &plan, "--yes"])?;
    drop(daemon);
    let reverted = tune(&wire, &["revert"])?;
    ensure!(reverted.contains("gone"), "{reverted}");
    Ok(())
}

fn write_plan(changes: Vec<Planned>) -> Result<String> {
    let path = "/tmp/card-plan.json";
    fs::write(path, serde_json::to_string(&plan::of(changes)?)?)?;
    Ok(path.to_owned())
}

fn run(wire: &Wire, args: &[&str], fault: &str) -> Result<(ExitStatus, String, String)> {
    let mut command = command(&[&["tune"], args].concat())?;
    command
        .env("TRACER_STATE_DIR", "/tmp/tracer-state")
        .env("TRACER_TUNE_FAULT", fault);
    complete(Some(&wire.receiver), command, LIMIT)
}

/// The same, which has to succeed; gives stdout.
fn tune(wire: &Wire, args: &[&str]) -> Result<String> {
    let (status, out, err) = run(wire, args, "")?;
    ensure!(
        status.success(),
        "tracer tune {}: {status}: {out} {err}",
        args.join(" ")
    );
    Ok(out)
}
