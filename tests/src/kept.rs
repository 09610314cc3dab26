//! Files of a scenario that outlive its machine: `cargo xtask vm-test` has them in its directory of runs.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use tracer::model::report::{Record, Report, Samples};
use xtask::guest::{KEPT, TASK_FILE};

/// Drop sites and rows that are kept of a report.
const ROWS: usize = 24;

/// Whether this is a machine of `cargo xtask vm-test`, where nothing else runs.
#[must_use]
pub fn is_vm() -> bool {
    Path::new(TASK_FILE).exists()
}

/// Hands a file to who started this VM; elsewhere there is nobody to have it.
pub fn keep(name: &str, text: &str) -> Result<()> {
    if !is_vm() {
        return Ok(());
    }
    fs::create_dir_all(KEPT)?;
    fs::write(format!("{KEPT}/{name}"), text).with_context(|| format!("cannot keep {name}"))
}

/// Keeps the summary as `NAME.json`, without what no rule looks at. It can be a fixture of tracer's own tests.
pub fn keep_report(name: &str, report: &Report) -> Result<()> {
    let line = serde_json::to_string(&Record::Summary(trimmed(report)))?;
    keep(&format!("{name}.json"), &(line + "\n"))
}

fn trimmed(report: &Report) -> Report {
    let mut report = report.clone();
    "vm".clone_into(&mut report.host.name);
    report.samples = Samples::default();
    report.arch_irqs.clear();
    report.details.clear();
    report.notes.clear();
    report.findings.clear();
    report.abstained.clear();
    report.irqs.retain(|irq| irq.device.is_some());
    for cpu in &mut report.cpus {
        cpu.softirqs.retain(|vector, _| vector == "NET_RX");
    }
    report
        .reconciliation
        .retain(|row| row.residual != Some(0) || row.unexplained != Some(0));
    report.reconciliation.truncate(ROWS);
    report.drops.truncate(ROWS);
    if let Some(topology) = &mut report.topology {
        topology.irqs.retain(|_, vector| vector.device.is_some());
        for nic in topology.devices.values_mut() {
            nic.napi.clear();
        }
    }
    report
}
