//! `tracer doctor`.
use std::process::ExitCode;

use anyhow::Result;

use super::{Format, Global};

/// Arguments of `tracer doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// text: for people; json: one object.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

/// Runs the command.
pub(super) fn doctor(_: &Args, _: Global) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
