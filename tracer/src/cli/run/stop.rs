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
    pub(in crate::cli) fn new() -> Result<Self> {
        let again = Arc::new(AtomicBool::new(false));
        let mut actions = Actions::default();
        let mut on = |kind: SignalKind| {
            let number = kind.as_raw_value();
            let end = flag::register_conditional_shutdown(number, INTERRUPTED, again.clone());
            end.map(|id| actions.0.push(id))
                .and_then(|()| flag::register(number, again.clone()))
                .map(|id| actions.0.push(id))
                .and_then(|()| signal(kind))
                .context("cannot install a signal handler")
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
