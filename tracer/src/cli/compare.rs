//! `tracer compare`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;

use super::{
    Format, Global, print,
    recording::{self, Whole},
    terminal,
};
use crate::{
    analyze::compare::{Side, Verdict, compare as judge},
    report::{Style, compare as render},
};

/// Exit status: more is lost than before.
const WORSE: u8 = 10;

const EXAMPLES: &str = "\
Examples:
  sudo tracer run --record before.trec --duration 1m   as it is
  sudo sysctl net.core.netdev_max_backlog=10000        a change
  sudo tracer run --record after.trec --duration 1m    the same traffic again
  tracer compare before.trec after.trec                did it help?
  tracer compare before.trec after.trec --fail-on-worse && echo keep it

Exit status: 0 compared; 1 failed, or not comparable (another host or kernel, traffic that differs by more than a factor
of 2); 10 with --fail-on-worse when more is lost per packet, by a tenth and by more than chance explains.";

/// Arguments of `tracer compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Recording of the earlier run.
    #[arg(value_name = "BEFORE")]
    before: PathBuf,

    /// Recording of the later run; one of the two may be -, standard input.
    #[arg(value_name = "AFTER")]
    after: PathBuf,

    /// text: for people; json: one object.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// End with status 10 if more is lost per packet than before.
    #[arg(long)]
    fail_on_worse: bool,
}

/// `-` given twice.
#[derive(Debug, thiserror::Error)]
#[error("standard input can be one of the two recordings only")]
pub(super) struct BothFromStdin;

fn load(path: &Path) -> Result<Whole> {
    let mut recording = recording::open(path)?;
    let end = recording.finish();
    Whole::of(&mut recording, end, path)
}

fn side(whole: &Whole) -> Side<'_> {
    Side {
        report: &whole.report,
        window: &whole.window,
    }
}

/// Runs the command; no privileges needed.
pub(super) fn compare(args: &Args, global: Global) -> Result<ExitCode> {
    if args.before == args.after && args.before.as_os_str() == "-" {
        return Err(BothFromStdin.into());
    }
    let (before, after) = (load(&args.before)?, load(&args.after)?);
    let comparison = judge(side(&before), side(&after));
    let text = match args.format {
        Format::Json => format!("{}\n", serde_json::to_string(&comparison)?),
        Format::Text => {
            let style = Style {
                width: terminal::width(),
                color: terminal::color(global.color),
                unicode: terminal::unicode(),
            };
            render::render(&comparison, &style)
        }
    };
    print(&text)?;
    before.end()?;
    after.end()?;
    Ok(match comparison.verdict {
        Verdict::NotComparable | Verdict::Unknown => ExitCode::FAILURE,
        Verdict::Worse if args.fail_on_worse => ExitCode::from(WORSE),
        _ => ExitCode::SUCCESS,
    })
}
