//! `cargo xtask`: everything about this repository that plain cargo does not do.

mod bench;
mod command;
mod dist;
mod run;
mod setup;
mod summary;
mod test;
mod vm;

use std::{fmt, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::build_ebpf;

/// Set up this machine, build, run and test tracer.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing; say what, first
    Setup {
        /// Only look and name what is missing; fail if anything is
        #[arg(long)]
        offline: bool,
        /// What to be ready for
        #[arg(long = "for", value_name = "TASK", value_enum, default_value = "test")]
        purpose: setup::Purpose,
    },
    /// Build the eBPF object for inspection, into target/bpf; tracer's build script does the same for itself
    BuildEbpf {
        /// Accepted for habit's sake: the object is always optimised, the verifier takes no other
        #[arg(long)]
        release: bool,
    },
    /// Set up, build, and run `tracer run ARGS`, through sudo where needed
    Run {
        /// Install nothing: name what is missing
        #[arg(long)]
        offline: bool,
        /// Arguments of `tracer run`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Set up, and run all checks and tests; the last line is the totals
    Test {
        /// Install and download nothing: name what is missing
        #[arg(long)]
        offline: bool,
        /// Run this step and what it depends on; repeatable
        #[arg(long, value_name = "STEP", value_enum)]
        only: Vec<test::Step>,
    },
    /// Boot kernels in QEMU and run tracer and the scenarios there
    VmTest(vm::Options),
    /// Measure what tracer costs, against empty programs on the same hooks, bpftrace, perf and libbpf-tools
    Bench(bench::Options),
    /// Build one static binary, target/dist/tracer
    Dist {
        /// Install and download nothing: name what is missing
        #[arg(long)]
        offline: bool,
    },
}

/// Everything about this failure has been printed already.
#[derive(Debug)]
struct Reported;

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Reported {}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Reported>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Setup { offline, purpose } => {
            if setup::setup(purpose, offline)? == 0 {
                eprintln!("nothing is missing");
            }
            Ok(())
        }
        Task::BuildEbpf { release: _ } => {
            let out = command::target_dir().join("bpf");
            let toolchain = build_ebpf::Facts::gather().choose()?;
            build_ebpf::build(
                &toolchain,
                &build_ebpf::Variant::ALL,
                &command::workspace(),
                &out,
                &out,
                std::env::consts::ARCH,
            )?;
            for variant in build_ebpf::Variant::ALL {
                println!("{}", out.join(variant.file_name()).display());
            }
            Ok(())
        }
        Task::Run { offline, args } => run::run(offline, &args),
        Task::Test { offline, only } => test::test(offline, &only),
        Task::VmTest(options) => vm::vm_test(&options),
        Task::Bench(options) => bench::bench(&options),
        Task::Dist { offline } => dist::dist(offline),
    }
}
