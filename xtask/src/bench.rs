//! `cargo xtask bench`: sets up the peers, builds tracer and the empty programs, and becomes `tracer-bench`.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use clap::Args;
use xtask::build_ebpf::{self, Facts, Variant};

use crate::{
    command,
    dist::build_static,
    setup::{Purpose, setup},
    summary::Totals,
};

/// What to measure and how to print it.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Few and short rounds, within 90 s: shows that all works; the figures say little
    #[arg(long)]
    quick: bool,
    /// Measure this contender only; repeatable: nothing, floor, times, counting, details, bpftrace, perf, hardirqs,
    /// softirqs
    #[arg(long, value_name = "NAME")]
    contender: Vec<String>,
    /// How to print the results: text or json
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    format: String,
    /// Write the results as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Install and download nothing: name what is missing
    #[arg(long)]
    offline: bool,
}

/// Measures and prints. Fails if tracer or what it is compared with of ours does not run, or counts do not add up; a peer
/// that does not run is named, a target that is missed or not decided is printed as that.
pub fn bench(options: &Options) -> Result<()> {
    setup(Purpose::Bench, options.offline)?;
    let mut command = prepared(options)?;
    // A signal to this process has to reach who undoes what is under way.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", command::words(&command)))
}

/// As a step of `cargo xtask test`: that the harness works, at any speed.
pub fn smoke(offline: bool) -> Result<Totals> {
    let options = Options {
        quick: true,
        contender: Vec::new(),
        format: "text".to_owned(),
        save: None,
        offline,
    };
    if !command::is_root() {
        println!("bench: skipped: needs root");
        return Ok(Totals::SKIPPED);
    }
    command::run(&mut prepared(&options)?)?;
    Ok(Totals::PASSED)
}

fn prepared(options: &Options) -> Result<Command> {
    let packages = ["--package", "tracer", "--package", "tracer-tests", "--bins"];
    let directory = build_static(&packages, options.offline)?;
    let out = command::target_dir().join("bpf");
    build_ebpf::build(
        &Facts::gather().choose()?,
        &[Variant::Floor],
        &command::workspace(),
        &out,
        &out,
        std::env::consts::ARCH,
    )?;
    let mut command = command::as_root(directory.join("tracer-bench"))?;
    command
        .arg("--tracer")
        .arg(directory.join("tracer"))
        .arg("--floor")
        .arg(out.join(Variant::Floor.file_name()))
        .args(options.quick.then_some("--quick"))
        .args(["--format", &options.format]);
    if let Some(path) = &options.save {
        command.arg("--save").arg(path);
    }
    for name in &options.contender {
        command.args(["--contender", name]);
    }
    Ok(command)
}
