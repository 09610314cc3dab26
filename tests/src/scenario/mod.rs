//! The scenarios. A file opens with what it provokes and what it asserts.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;
use nix::unistd::geteuid;

pub mod backlog;
pub mod bad_input;
pub mod cleanup;
pub mod details;
pub mod hard_irqs;
pub mod ip_sites;
pub mod loss;
pub mod peer;
pub mod sites;
pub mod soak;

/// Whether scenarios say what they saw; off, a scenario that passes is silent.
static NOTES: AtomicBool = AtomicBool::new(false);

/// Makes [`note`] print.
pub fn show_notes() {
    NOTES.store(true, Ordering::Relaxed);
}

/// Says on stderr what a scenario saw, if that is wanted (`--nocapture`).
pub(crate) fn note(text: impl fmt::Display) {
    if NOTES.load(Ordering::Relaxed) {
        eprintln!("  {text}");
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A sentence about behaviour, words joined by `_`.
    pub name: &'static str,
    /// Without these it is skipped, never passed.
    pub needs: &'static [Need],
    /// Runs it. The error is a [`Skip`] if the host turned out to lack something.
    pub run: fn() -> Result<()>,
}

impl Scenario {
    /// What this host lacks for it.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| need.missing())
    }
}

/// What a scenario needs from the host.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Effective user id 0.
    Root,
    /// CPUs this process may use.
    Cpus(usize),
    /// A program on PATH.
    Program(&'static str),
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!geteuid().is_root()).then(|| "needs root".to_owned()),
            Self::Cpus(wanted) => {
                let cpus = thread::available_parallelism().map_or(1, usize::from);
                (cpus < wanted).then(|| format!("needs {wanted} CPUs, has {cpus}"))
            }
            Self::Program(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found =
                    std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
                (!found).then(|| format!("needs program {name}"))
            }
        }
    }
}

/// Error of a scenario that cannot tell anything on this host.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// All scenarios, quick ones first.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        bad_input::SCENARIOS,
        backlog::SCENARIOS,
        sites::SCENARIOS,
        ip_sites::SCENARIOS,
        details::SCENARIOS,
        hard_irqs::SCENARIOS,
        peer::SCENARIOS,
        loss::SCENARIOS,
        cleanup::SCENARIOS,
        soak::SCENARIOS,
    ]
    .concat()
}
