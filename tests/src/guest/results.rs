//! Writing records to the port that QEMU writes to a file.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use xtask::guest::{RESULTS_DEVICE, Record};

/// Where records go.
#[derive(Debug)]
pub(super) struct Results(Mutex<File>);

impl Results {
    /// Opens [`RESULTS_DEVICE`] as a plain byte pipe.
    pub(super) fn open() -> Result<Self> {
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            .open(RESULTS_DEVICE)
            .with_context(|| format!("cannot open {RESULTS_DEVICE}"))?;
        let mut settings = tcgetattr(&port)?;
        cfmakeraw(&mut settings);
        tcsetattr(&port, SetArg::TCSANOW, &settings)?;
        Ok(Self(Mutex::new(port)))
    }

    /// Writes one line. What cannot be written is noticed by who waits for it.
    pub(super) fn write(&self, record: &Record) {
        let Ok(mut line) = serde_json::to_vec(record) else {
            return;
        };
        line.push(b'\n');
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = port.write_all(&line);
        let _ = nix::sys::termios::tcdrain(&*port);
    }
}
