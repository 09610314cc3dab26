//! Gives a network card's vectors, ring and channels other values by `tracer tune apply`, and takes them back.
//!
//! Asserts that every vector, and the ring, is as the plan says and, after `revert`, as it was; that a card whose driver
//! refuses is left as it was, and named.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    model::setting::Setting as Tuned,
    tune::{
        host::Host as _,
        plan::{Part, Plan, Planned, Step},
        real::RealHost,
    },
};

use super::{Scenario, need_nic};
use crate::{
    guest::nic::Wire,
    scenario::{Need, Skip, note},
    tracer::{command, complete},
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
    let changes = irqs.iter().map(|irq| Planned {
        setting: Tuned::IrqAffinity { irq: *irq },
        from: Some(before[irq].trim().to_owned()),
        to: target(irq).to_owned(),
    });
    let plan = plan(changes.collect())?;
    note(tune(&wire, &["apply", &plan, "--yes"])?);
    for irq in &irqs {
        let now = fs::read_to_string(file(*irq))?;
        ensure!(now.trim() == target(irq), "IRQ {irq}: {now}");
    }
    let told = tune(&wire, &["status"])?;
    ensure!(!told.contains("drifted"), "{told}");
    tune(&wire, &["revert"])?;
    ensure!(all()? == before, "{:?}, was {before:?}", all()?);
    Ok(())
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
        let change = Planned {
            setting: setting.clone(),
            from: Some(before.clone()),
            to: to.to_string(),
        };
        let plan = plan(vec![change])?;
        let mut command = command(&["tune", "apply", &plan, "--yes"])?;
        command.env("TRACER_STATE_DIR", "/tmp/tracer-state");
        let (status, out, err) = complete(Some(&wire.receiver), command, LIMIT)?;
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

fn plan(changes: Vec<Planned>) -> Result<String> {
    let uname = nix::sys::utsname::uname()?;
    let step = Step {
        part: Part::Vectors,
        title: "Another place".to_owned(),
        why: "a test".to_owned(),
        finding: "none".to_owned(),
        effect: "none".to_owned(),
        risk: None,
        changes,
    };
    let mut plan = Plan {
        kind: "plan".to_owned(),
        schema: 1,
        id: "1".to_owned(),
        steps: vec![step],
        ..Plan::default()
    };
    plan.host.hostname = uname.nodename().to_string_lossy().into_owned();
    plan.host.kernel = uname.release().to_string_lossy().into_owned();
    let path = "/tmp/card-plan.json";
    fs::write(path, serde_json::to_string(&plan)?)?;
    Ok(path.to_owned())
}

fn tune(wire: &Wire, args: &[&str]) -> Result<String> {
    let mut all = vec!["tune"];
    all.extend(args);
    let mut command = command(&all)?;
    command.env("TRACER_STATE_DIR", "/tmp/tracer-state");
    let (status, out, err) = complete(Some(&wire.receiver), command, LIMIT)?;
    ensure!(
        status.success(),
        "tracer tune {}: {status}: {out} {err}",
        args.join(" ")
    );
    Ok(out)
}
