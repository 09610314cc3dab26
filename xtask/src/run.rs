//! `cargo xtask run`: set up, build, and become `tracer run`.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{
    command,
    setup::{Purpose, setup},
};

/// Replaces this process by `tracer run ARGS`, through sudo if we are not root: Ctrl-C reaches tracer, its exit
/// status is ours. Returns only an error.
pub fn run(offline: bool, args: &[String]) -> Result<()> {
    setup(Purpose::Run, offline)?;
    command::run(command::cargo_command().args(["build", "--release", "--package", "tracer"]))?;
    let tracer = command::target_dir().join("release/tracer");
    let error = command::as_root(&tracer)?.arg("run").args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", tracer.display()))
}
