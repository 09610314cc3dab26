//! Where the journal is: /var/lib/tracer, or `TRACER_STATE_DIR`; for root only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

/// The directory.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

const DIRECTORY: &str = "/var/lib/tracer";
const JOURNAL: &str = "tune.journal";
const NEW: &str = "tune.journal.new";
const LOCK: &str = "tune.lock";
const WRITABLE_BY_OTHERS: u32 = 0o022;

impl State {
    /// As the environment has it.
    #[must_use]
    pub fn from_env() -> Self {
        let other = std::env::var_os("TRACER_STATE_DIR").filter(|path| !path.is_empty());
        Self(other.map_or_else(|| DIRECTORY.into(), PathBuf::from))
    }

    /// Elsewhere.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// The journal's path.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.0.join(JOURNAL)
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.0.join(LOCK)
    }

    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        self.check()
    }

    /// The journal's text; `None` if there is none.
    pub(super) fn load(&self) -> io::Result<Option<String>> {
        let text = self
            .check()
            .and_then(|()| fs::read_to_string(self.journal()));
        match text {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some),
        }
    }

    /// What is in it is written to the kernel by root: nobody else may have a hand in it.
    fn check(&self) -> io::Result<()> {
        let there = fs::symlink_metadata(&self.0)?;
        let fault = if !there.is_dir() {
            "is no directory"
        } else if there.uid() != geteuid().as_raw() {
            "belongs to another user"
        } else if there.mode() & WRITABLE_BY_OTHERS != 0 {
            "can be written by others"
        } else {
            return Ok(());
        };
        Err(io::Error::other(format!(
            "{} {fault}: take another TRACER_STATE_DIR",
            self.0.display()
        )))
    }

    /// Replaces the journal: after a crash there is the old one or the new one, whole.
    pub(super) fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.0.join(NEW);
        let written = write(&new, text).and_then(|()| fs::rename(&new, self.journal()));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        self.sync()
    }

    /// Appends whole lines, behind the last whole line: a full disk may have cut off the one after it.
    pub(super) fn append(&self, lines: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.journal())?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1) as u64;
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        let written = file
            .write_all(lines.as_bytes())
            .and_then(|()| file.sync_all());
        if written.is_err() {
            // Who tries it again must not have some of them twice.
            let _ = file.set_len(whole);
        }
        written
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.journal()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn lines_are_appended_behind_the_last_whole_one() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("state"));
        state.make().unwrap();
        state.replace("one\ntw").unwrap();
        state.append("three\n").unwrap();
        assert_eq!(state.load().unwrap().as_deref(), Some("one\nthree\n"));
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let state = State::at(&path);
        let said = |error: io::Error| error.to_string();
        assert!(said(state.make().unwrap_err()).contains("written by others"));
        assert!(said(state.load().unwrap_err()).contains("written by others"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(state.load().unwrap().is_none());
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(said(State::at(link).make().unwrap_err()).contains("no directory"));
    }
}
