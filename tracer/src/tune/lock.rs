//! One at a time: `tune apply` and `tune revert` of the same state directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    thread,
    time::{Duration, Instant},
};

use super::state::State;

/// Held until dropped, however the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it for longer than we wait.
    #[error("another tracer tune (pid {0}) is changing this host; wait for its end")]
    Held(String),
    /// The file system refuses.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The lock file.
        path: String,
        /// Its answer.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock, waiting at most `patience` for another to give it back.
    pub fn take(state: &State, patience: Duration) -> Result<Self, LockError> {
        let path = state.lock();
        let fail = |source| LockError::Io {
            path: path.display().to_string(),
            source,
        };
        state.make().map_err(fail)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(fail(error)),
                Err(TryLockError::WouldBlock) if begin.elapsed() >= patience => {
                    let mut pid = String::new();
                    let _ = file.read_to_string(&mut pid);
                    return Err(LockError::Held(pid.trim().to_owned()));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
            }
        }
        // Only for who waits: a full disk is no reason to go without the lock.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path());
        let first = Lock::take(&state, Duration::ZERO).unwrap();
        let error = Lock::take(&state, Duration::from_millis(60)).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(error.to_string().contains(&pid), "{error}");
        drop(first);
        Lock::take(&state, Duration::ZERO).unwrap();
    }
}
