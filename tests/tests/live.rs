//! Runs the scenarios one after the other: they change settings of the whole host. For the same reason two such runs
//! wait for each other.
//!
//! Takes libtest's arguments. What the host lacks is looked up first; such a scenario is listed as ignored, with
//! `skipped: …`, and never counts as passed.

use std::{
    env,
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
/// Set by `cargo xtask test`: other things run on a build host, as its agents.
const RETRY: &str = "TRACER_TESTS_RETRY";

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

/// Runs it, once more if it failed and [`RETRY`] is set: what passes then is named as flaky, with why it failed.
fn run(scenario: Scenario) -> Result<Completion, Failed> {
    let first = once(scenario);
    let Err(failed) = &first else { return first };
    if env::var_os(RETRY).is_none() {
        return first;
    }
    let why = failed.message().unwrap_or("no reason").to_owned();
    println!("once more: {}: {why}", scenario.name);
    let second = once(scenario);
    if second.is_ok() {
        println!("FLAKY {}: {why}", scenario.name);
    }
    second
}

fn once(scenario: Scenario) -> Result<Completion, Failed> {
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
