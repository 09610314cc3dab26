//! Runs the scenarios one after the other: they change settings of the whole host. For the same reason two such runs
//! wait for each other.
//!
//! Takes libtest's arguments. What the host lacks is looked up first; such a scenario is listed as ignored, with
//! `skipped: …`, and never counts as passed.

use std::{
    fs::{File, TryLockError},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tracer_tests::{
    scenario::{self, Scenario, Skip},
    undo,
};

/// Locked as long as scenarios run on this host.
const LOCK: &str = "/run/tracer-live-tests.lock";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let _alone = (!arguments.list).then(alone);
    if let Err(error) = undo::on_signals() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    arguments.test_threads = Some(1);
    if arguments.nocapture {
        scenario::show_notes();
    }
    let trials = scenario::all()
        .into_iter()
        .map(|scenario| trial(scenario, arguments.list))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Waits for another run to end. `None` without root, when nothing is changed either.
fn alone() -> Option<File> {
    let file = File::create(LOCK).ok()?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        println!("another run changes this host's settings ({LOCK}): waiting for its end");
        file.lock().ok()?;
    }
    Some(file)
}

fn trial(scenario: Scenario, listing: bool) -> Trial {
    let missing = scenario.missing();
    if let (Some(reason), false) = (&missing, listing) {
        println!("skipped: {reason}: {}", scenario.name);
    }
    let ignored = missing.is_some();
    Trial::ignorable_test(scenario.name, move || match missing {
        Some(reason) => Ok(skipped(&reason)),
        None => run(scenario),
    })
    .with_ignored_flag(ignored)
}

fn run(scenario: Scenario) -> Result<Completion, Failed> {
    match (scenario.run)() {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(Skip(reason)) => Ok(skipped(reason)),
            None => Err(format!("{error:#}").into()),
        },
    }
}

fn skipped(reason: &str) -> Completion {
    Completion::ignored_with(format!("skipped: {reason}"))
}
