//! The command line: arguments to options, errors to exit statuses.
#![expect(
    clippy::doc_markdown,
    reason = "clap prints these comments as help, where backticks would show"
)]

mod compare;
mod doctor;
mod explain;
mod recording;
mod report;
mod run;
mod terminal;
mod tune;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{host::CannotRun, live::UnknownInterface, record::writer::CannotRecord};

/// Tells on which CPU, in which kernel function and why this host drops packets.
///
/// Attaches eBPF programs to the kernel's receive path (hard IRQ, NET_RX softirq, NAPI, kfree_skb), counts exactly,
/// compares with the kernel's own counters and says what it found. Nothing is changed on the host and nothing is left
/// behind, however it ends; only `tracer tune apply` changes something, and `tracer tune revert` takes it back.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Say more on stderr, and which rules could not judge; twice: log lines from inside the eBPF programs too.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Colours in text output. NO_COLOR is honoured.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sudo tracer run                                  watch until Ctrl-C, then report
  sudo tracer run --duration 10s                   ten seconds, then report
  sudo tracer run --interface eth0 --interval 5s   one device, every five seconds
  sudo tracer run --format json --duration 1m      one JSON object a line
  sudo tracer run --record before.trec             keep it; tracer report before.trec tells it again
  sudo tracer doctor                               what works on this host
  tracer explain CPU_BACKLOG                       what a drop reason, rule, column or hook means
  sudo tracer tune plan --app redis-server         what to change about it

Exit status: 0 done, 1 failed, 2 wrong usage,
3 this host cannot do it (the message names what is missing),
10 more is lost than before (compare --fail-on-worse).

Text that is piped or redirected is as wide as COLUMNS says, else 80 columns;
tune apply, status and revert then print a line a setting, however long.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Attach, show what happens, report at the end.
    Run(run::Args),
    /// Say what this host supports: every hook, by which mechanism or why not.
    Doctor(doctor::Args),
    /// Tell again what a recorded run told; no privileges needed.
    Report(report::Args),
    /// Tell whether a change helped: two recordings, by their traffic; no privileges needed.
    Compare(compare::Args),
    /// Say what a rule, a drop reason, a column, a stage or a hook means, and what usually causes it.
    Explain(explain::Args),
    /// Plan what to change, apply it, take it back.
    Tune(tune::Args),
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What all commands share.
#[derive(Clone, Copy, Debug)]
struct Global {
    verbose: u8,
    color: Color,
}

/// Exit status: the host cannot do it.
const CANNOT: u8 = 3;
/// Exit status: wrong usage.
const USAGE: u8 = 2;

/// Runs the command line and gives the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let global = Global {
        verbose: cli.verbose,
        color: cli.color,
    };
    let result = match cli.command {
        Command::Run(args) => run::run(args, global),
        Command::Doctor(args) => doctor::doctor(&args, global),
        Command::Compare(args) => compare::compare(&args, global),
        Command::Report(args) => report::report(&args, global),
        Command::Explain(args) => explain::explain(&args, global),
        Command::Tune(args) => tune::tune(args, global),
    };
    match result {
        Ok(status) => status,
        // The reader has seen enough; that is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tracer: {error:#}");
            ExitCode::from(status(&error))
        }
    }
}

fn status(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<CannotRun>().is_some() {
        CANNOT
    } else if error.downcast_ref::<UnknownInterface>().is_some()
        || error.downcast_ref::<explain::UnknownTopic>().is_some()
        || error.downcast_ref::<compare::BothFromStdin>().is_some()
        || matches!(
            error.downcast_ref(),
            Some(CannotRecord::Exists(_) | CannotRecord::Directory(_) | CannotRecord::NoFile(_))
        )
        || error.downcast_ref::<tune::Refused>().is_some()
    {
        USAGE
    } else {
        1
    }
}

/// On stdout, for commands whose status tells more than that their words were read: that nobody reads them is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(unread(printed)?)
}

/// What was `printed`, or not because the reader went away.
fn unread(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Whether writing failed because the reader of stdout went away.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_help_tells_what_has_no_width() {
        let help = Cli::command().render_help().to_string();
        let (_, width) = help.split_once("as wide as COLUMNS says").unwrap();
        assert!(width.contains("tune apply, status and revert"), "{help}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        let failed = |kind: io::ErrorKind| unread(Err(kind.into()));
        assert!(failed(io::ErrorKind::BrokenPipe).is_ok());
        assert!(failed(io::ErrorKind::StorageFull).is_err());
    }
}
