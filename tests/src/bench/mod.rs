//! What tracer costs, in one run with the floor (empty programs on the same hooks) and with what a user would take instead.
//!
//! Absolute times of a busy machine with few CPUs say nothing: see [`speed`] and [`rounds`]. Given is the median of what the
//! rounds of a contender add, with a bootstrap interval of 95 %, and ratios of medians.

pub mod contender;
pub mod floor;
pub mod rounds;
pub mod speed;
pub mod stats;
pub mod storm;

mod growth;
mod result;
mod truth;
mod user_space;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;

use self::{
    contender::{Contender, Paths},
    result::Results,
};
use crate::undo::{self, Pending};

/// Arguments of `tracer-bench`.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// tracer's binary.
    #[arg(long)]
    tracer: PathBuf,
    /// The object with the empty programs.
    #[arg(long)]
    floor: PathBuf,
    /// Few and short rounds.
    #[arg(long)]
    quick: bool,
    /// This contender only; repeatable.
    #[arg(long)]
    contender: Vec<String>,
    /// text or json.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// A file for the results as JSON, whatever is printed.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Rounds of each contender that count.
    #[arg(long)]
    rounds: Option<usize>,
    /// Only this made-up host, for the table of growth: CPUs, idle interrupts, drop sites.
    #[arg(long, hide = true)]
    growth: Option<String>,
    /// Be this contender.
    #[arg(long, hide = true)]
    attach: Option<String>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

const ROUNDS: usize = 31;
const QUICK_ROUNDS: usize = 3;
/// No round begins later than this, whatever is missing.
const LONGEST: Duration = Duration::from_mins(7);
const QUICK_LONGEST: Duration = Duration::from_secs(22);

/// Measures, prints; false if counts do not add up.
pub fn run(options: &Options) -> Result<bool> {
    if let Some(host) = &options.growth {
        println!("{}", growth::one(host, options.rounds.unwrap_or(1))?);
        return Ok(true);
    }
    if let Some(name) = &options.attach {
        named(name)?.be(&options.floor)?;
        return Ok(true);
    }
    undo::on_signals()?;
    let wanted = wanted(&options.contender)?;
    let directory = tempfile::tempdir().context("no directory for temporary files")?;
    let directory = directory.keep();
    let leftover = directory.clone();
    let _removed = Pending::new(move || Ok(fs::remove_dir_all(leftover)?));
    let paths = Paths {
        tracer: options.tracer.clone(),
        floor: options.floor.clone(),
        directory,
    };
    let quick = options.quick;
    let rounds = options
        .rounds
        .unwrap_or(if quick { QUICK_ROUNDS } else { ROUNDS });
    let longest = if quick { QUICK_LONGEST } else { LONGEST };
    let mut results = Results::new(quick);
    results.rounds = rounds::measure(&wanted, &paths, rounds, longest)?;
    if options.contender.is_empty() {
        results.truth = truth::measure(&paths, quick)?;
        results.user_space = user_space::measure(&paths, quick)?;
        results.growth = growth::measure(quick)?;
    }
    let saved = options.save.as_ref().map_or(Ok(()), |path| {
        fs::write(path, format!("{:#}\n", results.json()))
            .with_context(|| format!("cannot write {}", path.display()))
    });
    match options.format {
        Format::Text => print!("{}", results.text()),
        Format::Json => println!("{}", results.json()),
    }
    saved?;
    Ok(results.adds_up())
}

fn wanted(names: &[String]) -> Result<Vec<Contender>> {
    if names.is_empty() {
        return Ok(Contender::ALL.to_vec());
    }
    let wanted: Vec<_> = names
        .iter()
        .map(|name| named(name))
        .collect::<Result<_>>()?;
    let all = Contender::ALL.into_iter();
    Ok(all.filter(|one| wanted.contains(one)).collect())
}

fn named(name: &str) -> Result<Contender> {
    let known = Contender::ALL;
    let found = known.into_iter().find(|one| one.name() == name);
    let names = known.map(Contender::name).join(", ");
    found.with_context(|| format!("no contender '{name}'; there are: {names}"))
}

/// Does `work` on a thread that may run on every CPU.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    use nix::{
        sched::{CpuSet, sched_setaffinity},
        unistd::Pid,
    };
    std::thread::scope(|scope| {
        let all = || {
            let mut set = CpuSet::new();
            for cpu in 0..CpuSet::count() {
                set.set(cpu)?;
            }
            sched_setaffinity(Pid::from_raw(0), &set)?;
            Ok(work())
        };
        scope
            .spawn(all)
            .join()
            .unwrap_or_else(|_| anyhow::bail!("a panic"))
    })
}
