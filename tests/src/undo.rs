//! What has to be undone however a scenario ends: by return, by panic, or because somebody pressed Ctrl-C.

use std::{
    collections::BTreeMap,
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

type Undo = Box<dyn FnOnce() -> Result<()> + Send>;

/// By serial number: undone backwards.
static PENDING: Mutex<BTreeMap<u64, Undo>> = Mutex::new(BTreeMap::new());

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Something to undo; done when this is dropped.
#[derive(Debug)]
pub struct Pending(u64);

impl Pending {
    /// Remembers how to undo what was just done.
    pub fn new(undo: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        // Never one that was used: who forgets it twice must not forget another's.
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        pending.insert(serial, Box::new(undo));
        Self(serial)
    }

    /// Undoes it now.
    pub fn undo(self) -> Result<()> {
        self.take().map_or(Ok(()), |undo| undo())
    }

    /// Forgets it: there is nothing left to undo.
    pub fn forget(&self) {
        self.take();
    }

    fn take(&self) -> Option<Undo> {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(&self.0)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(undo) = self.take() {
            report(undo());
        }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP undo everything before they end the process.
pub fn on_signals() -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen to signals")?;
    thread::spawn(move || {
        let Some(signal) = signals.forever().next() else {
            return;
        };
        eprintln!("signal {signal}: undoing what is under way");
        // Held to the end: whoever else wants to undo something waits for the exit.
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, undo)) = pending.pop_last() {
            report(undo());
        }
        process::exit(128 + signal);
    });
    Ok(())
}

fn report(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("cannot undo: {error:#}");
    }
}
