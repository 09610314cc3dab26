//! The scenarios of the kernel matrix: those of the live kernel, and those that only a VM can make. A new one is a
//! file here and its line in [`all`]. Left to the live kernel are those about speed, which that of an emulated CPU says
//! nothing about, and those that compare with another tool.

mod backlog_faces;
mod backlog_virtual;
mod card_changes;
mod closed_port;
mod cure;
mod doctor;
mod full_cpu;
mod healthy;
mod hotplug;
mod incident;
mod late;
mod limits;
mod mechanisms;
mod net_rx;
mod nic_irqs;
mod paste;
mod residual;
mod restrictions;
mod ring_overrun;
mod tables;
mod target_cpu;
mod threaded_napi;
mod tune_card;
mod two_tracers;

use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::Result;

use super::nic;
pub use crate::scenario::Scenario;
use crate::scenario::{self, Skip};

/// Exit status of a scenario that was skipped; the last line says why.
pub(super) const SKIPPED: u8 = 77;

/// Set in the environment: scenarios say what they saw.
pub(super) const VERBOSE: &str = "TRACER_GUEST_VERBOSE";

/// All scenarios, quick ones first.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = [
        doctor::SCENARIOS,
        tables::SCENARIOS,
        mechanisms::SCENARIOS,
        nic_irqs::SCENARIOS,
        target_cpu::SCENARIOS,
        hotplug::SCENARIOS,
        card_changes::SCENARIOS,
        restrictions::SCENARIOS,
        two_tracers::SCENARIOS,
        backlog_faces::SCENARIOS,
        backlog_virtual::SCENARIOS,
        limits::SCENARIOS,
        residual::SCENARIOS,
        late::SCENARIOS,
        full_cpu::SCENARIOS,
        healthy::SCENARIOS,
        ring_overrun::SCENARIOS,
        net_rx::SCENARIOS,
        threaded_napi::SCENARIOS,
        tune_card::SCENARIOS,
        incident::SCENARIOS,
        cure::SCENARIOS,
    ]
    .concat();
    let elsewhere = [scenario::soak::SCENARIOS, scenario::peer::SCENARIOS].concat();
    let elsewhere =
        |name| name == DISK_IRQS || elsewhere.iter().any(|scenario| scenario.name == name);
    all.extend(
        scenario::all()
            .into_iter()
            .filter(|scenario| !elsewhere(scenario.name)),
    );
    all
}

/// Needs a disk; here the vectors of a network card are compared.
const DISK_IRQS: &str = "hard_irqs_per_irq_and_cpu_equal_proc_interrupts";

/// How long a scenario may take here, where a CPU is an emulated one.
pub(super) fn limit(name: &str) -> Duration {
    let long = name.contains("many_runs") || name.starts_with("the_incident");
    // On many emulated CPUs, or started many times.
    let longer = name.starts_with("the_cure") || name.contains("killed_at_any_step");
    Duration::from_secs(match (long, longer) {
        (_, true) => 420,
        (true, false) => 150,
        _ => 60,
    })
}

/// Skips a scenario that needs the machine's network cards.
fn need_nic() -> Result<String> {
    nic::driver().ok_or_else(|| Skip("needs a network card".to_owned()).into())
}

/// Skips a scenario that needs this driver's card.
fn need_card(driver: &str) -> Result<()> {
    let has = need_nic()?;
    if has == driver {
        return Ok(());
    }
    Err(Skip(format!("needs a card of {driver}, has {has}")).into())
}

/// Skips a scenario whose hook (`NAME=MECHANISM`) this kernel has nothing to attach to: no kprobes, or a function
/// that was inlined away.
fn need_hook(hook: &str) -> Result<()> {
    let (function, mechanism) = hook.split_once('=').unwrap_or((hook, ""));
    if matches!(mechanism, "fentry" | "kprobe") {
        let symbols = fs::read_to_string("/proc/kallsyms")?;
        let name = format!(" {function}");
        if !symbols.lines().any(|line| line.ends_with(&name)) {
            return Err(Skip(format!("this kernel has no function {function}")).into());
        }
    }
    if mechanism == "kprobe" && !Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        return Err(Skip("this kernel has no kprobes".to_owned()).into());
    }
    Ok(())
}

/// Runs one scenario in this process. The last line on stderr says why it failed or was skipped.
#[must_use]
pub fn run(name: &str) -> ExitCode {
    let Some(scenario) = all().into_iter().find(|scenario| scenario.name == name) else {
        eprintln!("no scenario {name}");
        return ExitCode::from(2);
    };
    if std::env::var_os(VERBOSE).is_some() {
        scenario::show_notes();
    }
    if let Some(missing) = scenario.missing() {
        eprintln!("{missing}");
        return ExitCode::from(SKIPPED);
    }
    match (scenario.run)() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Skip(reason)) = error.downcast_ref::<Skip>() {
                eprintln!("{reason}");
                return ExitCode::from(SKIPPED);
            }
            let text = format!("{error:#}");
            // On one line, and not longer than a person reads.
            eprintln!("{text}");
            if text.contains('\n') {
                let short: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
                eprintln!("{}", short.chars().take(600).collect::<String>());
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use xtask::guest::ON_ONE_KERNEL;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all.len());
        for part in ON_ONE_KERNEL {
            assert!(names.iter().any(|name| name.contains(part)), "{part}");
        }
    }
}
