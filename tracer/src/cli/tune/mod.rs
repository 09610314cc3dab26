//! `tracer tune`.

mod apply;
mod measure;
mod plan;
mod status;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Subcommand;

use super::{Global, print, terminal};
use crate::{host::CannotRun, report::Style};

pub(super) use plan::Refused;

/// Arguments of `tracer tune`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Columns that no line has.
const UNBROKEN: usize = 1 << 16;

const EXAMPLES: &str = "\
Examples:
  sudo tracer tune plan --app redis-server                   measure 10 s, say what to change
  sudo tracer run --record before.trec --duration 1m
  sudo tracer tune plan --from before.trec --format json > plan.json
  sudo tracer tune apply plan.json --watch 30s               apply; take back if more is lost
  sudo tracer tune status                                    what is applied, what has drifted
  sudo tracer tune revert                                    as it was before the first apply";

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what to change, from what to what, why, and what to expect. Changes nothing.
    Plan(plan::Args),
    /// Make the changes of a plan; their original values are kept.
    Apply(apply::ApplyArgs),
    /// Say what is applied and what somebody else has changed since.
    Status(status::Args),
    /// Put back what was there before the first apply.
    Revert(apply::RevertArgs),
}

/// Runs the command.
pub(super) fn tune(args: Args, global: Global) -> Result<ExitCode> {
    match args.command {
        Command::Plan(args) => plan::plan(&args, global),
        Command::Apply(args) => apply::apply(&args, global),
        Command::Status(args) => status::status(&args, global),
        Command::Revert(args) => apply::revert(&args, global),
    }
}

fn style(global: Global) -> Style {
    Style {
        width: terminal::width(),
        color: terminal::color(global.color),
        unicode: terminal::unicode(),
    }
}

/// For a setting a line: where nobody looks at it on a terminal, paths are whole and nothing is broken.
fn lines(global: Global) -> Style {
    let width = terminal::size().map_or(UNBROKEN, |(width, _)| width);
    Style {
        width,
        ..style(global)
    }
}

/// On stderr; that nobody reads it is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn need_root(what: &str) -> Result<(), CannotRun> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(CannotRun(format!("{what} needs root (sudo)")))
}

fn now_unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
