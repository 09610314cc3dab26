//! For tests only: dying in the middle. `TRACER_TUNE_FAULT=apply:N` (or `revert:N`) kills the process with SIGKILL when it
//! passes its checkpoint number N; there is one before and one after each write, and in a revert one after each mark
//! in the journal.

use signal_hook::{consts::SIGKILL, low_level::raise};

/// Where to die.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    left: Option<u32>,
    /// Give an error back instead: the test goes on in the same process.
    gently: bool,
}

/// The process would be dead now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by a test")]
pub struct Interrupted;

impl Fault {
    /// As the environment wants it for `phase`; without the variable, never.
    #[must_use]
    pub fn from_env(phase: &str) -> Self {
        let wanted = std::env::var("TRACER_TUNE_FAULT").unwrap_or_default();
        let at = wanted
            .split_once(':')
            .filter(|(name, _)| *name == phase)
            .and_then(|(_, at)| at.parse().ok());
        Self {
            left: at,
            gently: false,
        }
    }

    /// An error at checkpoint `at`.
    #[must_use]
    pub fn gentle(at: u32) -> Self {
        Self {
            left: Some(at),
            gently: true,
        }
    }

    /// A checkpoint.
    pub fn pass(&mut self) -> Result<(), Interrupted> {
        match &mut self.left {
            Some(0) if self.gently => Err(Interrupted),
            Some(0) => {
                let _ = raise(SIGKILL);
                Err(Interrupted)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}
