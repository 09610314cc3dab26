//! `tracer report`.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;

use super::{
    Format, Global,
    recording::{self, Whole},
    terminal,
};
use crate::{
    model::report::Record,
    record::replay::Step,
    report::{Style, block, json, text},
};

const EXAMPLES: &str = "\
Examples:
  sudo tracer run --record before.trec --duration 1m   record
  tracer report before.trec                            the report of that run, again
  tracer report before.trec --intervals                and what was printed while it ran
  tracer report before.trec --format json | jq .       all of it for a program
  ssh host cat before.trec | tracer report -           from elsewhere

Exit status: 0 done (a file that is cut off is reported up to its last whole frame, with a warning), 1 no recording, or
damaged: what comes before the damage is reported.";

/// Arguments of `tracer report`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What `tracer run --record FILE` wrote; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// text: for people; json: a window a line, events if they were asked for, then the summary.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// With text: also a block for every interval, as `tracer run` prints it.
    #[arg(long)]
    intervals: bool,
}

/// Runs the command; no privileges needed.
pub(super) fn report(args: &Args, global: Global) -> Result<ExitCode> {
    let mut recording = recording::open(&args.file)?;
    let style = Style {
        width: terminal::width(),
        color: terminal::color(global.color),
        unicode: terminal::unicode(),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let end = loop {
        match (recording.step(), args.format) {
            (Err(end), _) => break end,
            (Ok(Step::Event(event)), Format::Json) => line(&mut out, &Record::Event(*event))?,
            (Ok(Step::Interval), Format::Json) => {
                if let Some(report) = recording.interval() {
                    line(&mut out, &Record::Window(report))?;
                }
            }
            (Ok(Step::Interval), Format::Text) if args.intervals => {
                if let Some(report) = recording.interval() {
                    writeln!(out, "{}", block::render_block(&report, &style))?;
                }
            }
            (Ok(_), Format::Text) => {}
        }
    };
    out.flush()?;
    let whole = Whole::of(&mut recording, end, &args.file)?;
    match args.format {
        Format::Json => line(&mut out, &Record::Summary(whole.report.clone()))?,
        Format::Text if global.verbose > 0 => {
            write!(out, "{}", text::render_verbose(&whole.report, &style))?;
        }
        Format::Text => write!(out, "{}", text::render(&whole.report, &style))?,
    }
    out.flush()?;
    whole.end()?;
    Ok(ExitCode::SUCCESS)
}

fn line(out: &mut impl Write, record: &Record) -> Result<()> {
    writeln!(out, "{}", json::line(record)?)?;
    Ok(())
}
