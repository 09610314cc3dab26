//! Disk interrupts on demand: a file that is read past the page cache.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::OFlag;
use tempfile::TempDir;

use crate::kernel::{self, gained};

const BLOCK: usize = 4096;

/// A file of [`Blocks::COUNT`] blocks in the directory for temporary files.
#[derive(Debug)]
pub struct Blocks {
    path: PathBuf,
    _directory: TempDir,
}

impl Blocks {
    /// Requests that one [`Blocks::read`] makes.
    pub const COUNT: usize = 400;
    /// Interrupts that they raise at least: a device may answer several at once.
    pub const INTERRUPTS: u64 = 100;

    /// Writes the file.
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("blocks");
        let mut file = File::create(&path)?;
        file.write_all(&vec![0x77; Self::COUNT * BLOCK])?;
        file.sync_all()?;
        Ok(Self {
            path,
            _directory: directory,
        })
    }

    /// Reads it, each block by a request of its own.
    pub fn read(&self) -> Result<()> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(&self.path)
            .with_context(|| format!("cannot open {} uncached", self.path.display()))?;
        let mut buffer = vec![0; 2 * BLOCK];
        let start = buffer.as_ptr().align_offset(BLOCK);
        let block = buffer
            .get_mut(start..start + BLOCK)
            .context("the buffer cannot be aligned")?;
        let mut blocks = 0;
        while file.read(block).context("uncached read")? > 0 {
            blocks += 1;
        }
        ensure!(
            blocks == Self::COUNT,
            "read {blocks} of {} blocks",
            Self::COUNT
        );
        Ok(())
    }

    /// The IRQ that reading raises; `None` if the directory is not on a disk with interrupts.
    pub fn irq(&self) -> Result<Option<u32>> {
        let before = kernel::interrupts()?;
        // A file system in memory refuses to bypass the cache, or never asks a device.
        if self.read().is_err() {
            return Ok(None);
        }
        let mut by_irq = BTreeMap::new();
        for ((irq, _), count) in gained(&before, &kernel::interrupts()?) {
            *by_irq.entry(irq).or_insert(0) += count;
        }
        let busiest = by_irq.into_iter().max_by_key(|(_, count)| *count);
        Ok(busiest.and_then(|(irq, count)| (count >= Self::INTERRUPTS).then_some(irq)))
    }
}
