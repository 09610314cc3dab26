//! The scenarios of the kernel matrix: those of the live kernel, and those that only a VM can make. A new one is a
//! file here and its line in [`all`].

mod doctor;

use std::{process::ExitCode, time::Duration};

pub use crate::scenario::Scenario;
use crate::scenario::{self, Skip};

/// Exit status of a scenario that was skipped; the last line says why.
pub(super) const SKIPPED: u8 = 77;

/// Set in the environment: scenarios say what they saw.
pub(super) const VERBOSE: &str = "TRACER_GUEST_VERBOSE";

/// All scenarios, quick ones first.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = [doctor::SCENARIOS].concat();
    all.extend(scenario::all());
    all
}

/// How long a scenario may take here, where a CPU is an emulated one.
pub(super) fn limit(name: &str) -> Duration {
    let soak = name.starts_with("under_a_flood");
    Duration::from_secs(if soak { 120 } else { 60 })
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
