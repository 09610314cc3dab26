//! A kernel setting that is put back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Writes `value` to a file under /proc/sys or /sys and writes the old value back when dropped, on panic too.
#[derive(Debug)]
pub struct Setting {
    path: PathBuf,
    old: String,
}

impl Setting {
    /// Changes the setting.
    pub fn change(path: impl AsRef<Path>, value: &str) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let old = read(&path)?;
        write(&path, value)?;
        Ok(Self { path, old })
    }

    /// The value before the change.
    #[must_use]
    pub fn old(&self) -> &str {
        &self.old
    }

    /// Puts the value back now and checks that the kernel took it.
    pub fn restore(self) -> Result<()> {
        write(&self.path, &self.old)?;
        let now = read(&self.path)?;
        anyhow::ensure!(
            now == self.old,
            "{}: is {now:?}, was {:?}",
            self.path.display(),
            self.old
        );
        Ok(())
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = write(&self.path, &self.old) {
            eprintln!("cannot put a setting back: {error:#}");
        }
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
