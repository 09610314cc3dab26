//! For tests only: dying in the middle. `TRACER_TUNE_FAULT=apply:N` (or `revert:N`) kills the process with SIGKILL when it
//! passes its checkpoint number N; there is one before and one after each write, and in a revert one after each time
//! that the journal is marked. `apply:N:stop` stops it there instead (SIGSTOP), and SIGCONT lets it go on.

use signal_hook::{
    consts::{SIGKILL, SIGSTOP},
    low_level::raise,
};

/// Where to die.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    left: Option<u32>,
    stop: bool,
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
            .map(|(_, at)| {
                at.strip_suffix(":stop")
                    .map_or((at, false), |at| (at, true))
            });
        Self {
            left: at.and_then(|(at, _)| at.parse().ok()),
            stop: at.is_some_and(|(_, stop)| stop),
            gently: false,
        }
    }

    /// An error at checkpoint `at`.
    #[must_use]
    pub fn gentle(at: u32) -> Self {
        Self {
            left: Some(at),
            gently: true,
            ..Self::default()
        }
    }

    /// A checkpoint.
    pub fn pass(&mut self) -> Result<(), Interrupted> {
        match &mut self.left {
            Some(0) if self.gently => Err(Interrupted),
            Some(0) if self.stop => {
                let _ = raise(SIGSTOP);
                self.left = None;
                Ok(())
            }
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
