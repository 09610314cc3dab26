//! A kernel setting that is put back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::undo::Pending;

/// A changed setting; its old value is written back when this is dropped.
#[derive(Debug)]
pub struct Setting {
    path: PathBuf,
    old: String,
    pending: Pending,
}

impl Setting {
    /// Writes `value` to a file under /proc/sys or /sys.
    pub fn change(path: impl AsRef<Path>, value: &str) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let old = read(&path)?;
        let (file, text) = (path.clone(), old.clone());
        let pending = Pending::new(move || write(file, &text));
        write(&path, value)?;
        Ok(Self { path, old, pending })
    }

    /// Puts the value back now and checks that the kernel took it.
    pub fn restore(self) -> Result<()> {
        self.pending.undo()?;
        let now = read(&self.path)?;
        ensure!(
            now == self.old,
            "{}: is {now:?}, was {:?}",
            self.path.display(),
            self.old
        );
        Ok(())
    }
}

/// A setting's value without the newline.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a setting for good; for files that vanish with their namespace.
pub fn write(path: impl AsRef<Path>, value: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, value).with_context(|| format!("cannot write {value:?} to {}", path.display()))
}
