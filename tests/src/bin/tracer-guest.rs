//! The first process of a VM of `cargo xtask vm-test`; with a scenario's name as argument, that scenario.

use std::{env, process::ExitCode};

use tracer_tests::guest;

fn main() -> ExitCode {
    match env::args().nth(1) {
        Some(scenario) if std::process::id() != 1 => guest::scenario::run(&scenario),
        _ => guest::init::run(),
    }
}
