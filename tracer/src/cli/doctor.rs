//! `tracer doctor`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;

use super::{CANNOT, Format, Global, terminal};
use crate::{
    doctor,
    report::{Style, doctor as render},
};

/// Arguments of `tracer doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// text: for people; json: one object.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

/// Runs the command: status 3 when `tracer run` could not work.
pub(super) fn doctor(args: &Args, global: Global) -> Result<ExitCode> {
    let report = doctor::examine();
    let mut out = io::stdout().lock();
    match args.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        Format::Text => {
            let style = Style {
                width: terminal::width(),
                color: terminal::color(global.color),
                unicode: terminal::unicode(),
            };
            write!(out, "{}", render::render(&report, &style))?;
        }
    }
    out.flush()?;
    Ok(if report.can_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CANNOT)
    })
}
