//! What tracer costs; see [`tracer_tests::bench`]. Started by `cargo xtask bench`.

use std::process::ExitCode;

use clap::Parser as _;
use tracer_tests::bench;

fn main() -> ExitCode {
    match bench::run(&bench::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tracer-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
