//! Where the journal is: /var/lib/tracer, or `TRACER_STATE_DIR`; for root only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The directory.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

const DIRECTORY: &str = "/var/lib/tracer";
const JOURNAL: &str = "tune.journal";
const NEW: &str = "tune.journal.new";
const LOCK: &str = "tune.lock";

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
            .create(&self.0)
    }

    /// The journal's text; `None` if there is none.
    pub(super) fn load(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.journal()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some),
        }
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

    /// Appends whole lines.
    pub(super) fn append(&self, lines: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.journal())?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()
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
