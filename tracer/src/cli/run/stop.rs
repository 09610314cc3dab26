//! Ctrl-C and SIGTERM.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context as _, Result};
use signal_hook::{SigId, flag, low_level::unregister};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status after a second Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// SIGINT and SIGTERM. The first ends the run in order; the second ends the process where it stands, even
/// if it waits for somebody to read stdout: the kernel then unloads what was attached. Once this is dropped, neither
/// ends the process any more.
pub(in crate::cli) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    _actions: Actions,
}

/// What was registered; no longer when dropped.
#[derive(Default)]
struct Actions(Vec<SigId>);

impl Drop for Actions {
    fn drop(&mut self) {
        for action in self.0.drain(..) {
            unregister(action);
        }
    }
}

impl Stop {
    /// Asks once; a second signal ends the process.
    pub(in crate::cli) fn new() -> Result<Self> {
        Self::of(true)
    }

    /// Asks only: there is something to take back before the end.
    pub(in crate::cli) fn patient() -> Result<Self> {
        Self::of(false)
    }

    fn of(may_end: bool) -> Result<Self> {
        let again = Arc::new(AtomicBool::new(false));
        let mut actions = Actions::default();
        let mut on = |kind: SignalKind| {
            let number = kind.as_raw_value();
            let mut register = || {
                if may_end {
                    let end = flag::register_conditional_shutdown;
                    actions.0.push(end(number, INTERRUPTED, again.clone())?);
                    actions.0.push(flag::register(number, again.clone())?);
                }
                signal(kind)
            };
            register().context("cannot install a signal handler")
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            _actions: actions,
        })
    }

    pub(in crate::cli) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::low_level::raise;

    use super::*;

    /// Were it not patient, the second would end this process.
    #[tokio::test]
    async fn a_patient_one_lets_no_signal_end_the_process() {
        let mut stop = Stop::patient().unwrap();
        for _ in 0..2 {
            raise(SignalKind::interrupt().as_raw_value()).unwrap();
        }
        stop.wait().await;
    }

    /// Were it still registered, the second would end this process.
    #[tokio::test]
    async fn once_dropped_no_signal_ends_the_process() {
        let mut stop = Stop::new().unwrap();
        raise(SignalKind::terminate().as_raw_value()).unwrap();
        stop.wait().await;
        drop(stop);
        for _ in 0..2 {
            raise(SignalKind::terminate().as_raw_value()).unwrap();
        }
    }
}
