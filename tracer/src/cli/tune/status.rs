//! `tracer tune status`.

use std::process::ExitCode;

use anyhow::Result;

use super::{lines, need_root, print};
use crate::{
    cli::{Format, Global},
    proc::Roots,
    report::tune as render,
    tune::{self, identity::Identity, real::RealHost, state::State},
};

/// Arguments of `tracer tune status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// text: for people; json: one object, or null if nothing is applied.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

/// Runs the command.
pub(super) fn status(args: &Args, global: Global) -> Result<ExitCode> {
    need_root("tune status")?;
    let own = Identity::own(&Roots::default());
    let status = tune::status::status(&mut RealHost::new(), &State::from_env(), &own)?;
    match (args.format, &status) {
        (Format::Json, status) => print(&format!("{}\n", serde_json::to_string(status)?))?,
        (Format::Text, None) => print("nothing is applied\n")?,
        (Format::Text, Some(status)) => print(&render::status(status, &lines(global)))?,
    }
    Ok(ExitCode::SUCCESS)
}
