//! Ctrl-C and SIGTERM.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context as _, Result};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status after a second Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// SIGINT and SIGTERM. The first ends the run in order; the second ends the process where it stands, even
/// if it waits for somebody to read stdout: the kernel then unloads what was attached.
pub(in crate::cli) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(in crate::cli) fn new() -> Result<Self> {
        let again = Arc::new(AtomicBool::new(false));
        let on = |kind: SignalKind| {
            flag::register_conditional_shutdown(kind.as_raw_value(), INTERRUPTED, again.clone())
                .and_then(|_| flag::register(kind.as_raw_value(), again.clone()))
                .and_then(|_| signal(kind))
                .context("cannot install a signal handler")
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    pub(in crate::cli) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
