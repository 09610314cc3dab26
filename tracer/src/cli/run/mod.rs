//! `tracer run`.

mod args;
mod session;
mod stop;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result};

pub(super) use args::{Args, duration};
use session::Session;
pub(super) use stop::Stop;

use super::Global;
use crate::{host::Capabilities, live::Live, record::writer};

/// Runs the command.
pub(super) fn run(args: Args, global: Global) -> Result<ExitCode> {
    if let Some(path) = &args.record {
        writer::check(path, args.force)?;
    }
    Capabilities::check()?;
    env_logger::Builder::new()
        .filter_level(match global.verbose {
            0 => log::LevelFilter::Warn,
            1 => log::LevelFilter::Info,
            _ => log::LevelFilter::Debug,
        })
        .filter_module("aya", log::LevelFilter::Warn)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(watch(args, global))
}

async fn watch(args: Args, global: Global) -> Result<ExitCode> {
    // From here on Ctrl-C ends the run in order, also while programs are being attached.
    let mut stop = Stop::new()?;
    let began = Instant::now();
    let (live, details) = Live::start(&args.options(global))?;
    let mut session = Session::new(args, global, live, details)?;
    let (attached, hooks) = session.live.attached();
    // Nobody may be reading stderr; that is no reason to stop.
    let _ = writeln!(
        io::stderr(),
        "attached {attached} of {hooks} hooks in {} ms; stop with Ctrl-C",
        began.elapsed().as_millis()
    );
    if global.verbose >= 1 {
        for hook in &session.first.traced.hooks {
            let via = hook.via.as_deref().unwrap_or("nothing");
            let why = hook.reason.as_deref().unwrap_or("attached");
            log::info!("{}: {via} ({why})", hook.name);
        }
    }
    let mut log = None;
    if global.verbose >= 2 {
        let lines = session.live.log()?;
        log = Some(tokio::spawn(lines));
    }
    let result = session.watch(&mut stop).await;
    if let Some(log) = log {
        log.abort();
    }
    result?;
    session.finish()
}
