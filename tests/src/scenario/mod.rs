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
mod bracket;
pub mod budget;
pub mod cleanup;
pub mod details;
pub mod devices;
pub mod hard_irqs;
pub mod hidden_names;
pub mod ip_sites;
pub mod loss;
pub mod napi_devices;
pub mod peer;
pub mod protocols;
pub mod recordings;
pub mod sites;
pub mod soak;
pub mod tcp_queue;
pub mod topology;
pub mod tune;
pub mod two_tracers;
pub mod unpaired;
pub mod victim;

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

/// Measurements before a count that is too small counts as wrong.
const ATTEMPTS: usize = 5;

/// Error of a measurement in which tracer counted fewer than the kernel, and the kernel names no miss.
///
/// A virtual machine's agent can keep a CPU's programs from running for some milliseconds, those of every tracer
/// alike. That passes; what tracer itself does wrong remains. The machines of the kernel matrix have no agent: there
/// it is an error at once.
#[derive(Debug)]
struct Fewer {
    what: &'static str,
    traced: u64,
    counted: u64,
}

impl fmt::Display for Fewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            traced,
            counted,
        } = self;
        write!(f, "{what}: the kernel counted {counted}, tracer {traced}")
    }
}

impl std::error::Error for Fewer {}

/// Fails with [`Fewer`] if `traced` is less than `counted`.
fn fewer(what: &'static str, traced: u64, counted: u64) -> Result<()> {
    if traced < counted {
        return Err(Fewer {
            what,
            traced,
            counted,
        }
        .into());
    }
    Ok(())
}

/// Whether this is a machine of the kernel matrix, whose CPUs are emulated.
fn in_machine() -> bool {
    std::path::Path::new(xtask::guest::TASK_FILE).exists()
}

/// Packets of a flood that is meant to last: an emulated CPU takes as long for a tenth of them.
pub(crate) fn flood_of(packets: u64) -> u64 {
    if in_machine() { packets / 10 } else { packets }
}

/// Measures until the error is not [`Fewer`], at most [`ATTEMPTS`] times, or twice on emulated CPUs, which take long. A count that is too large is never repeated.
fn repeat(measure: impl Fn() -> Result<()>) -> Result<()> {
    let attempts = if in_machine() { 2 } else { ATTEMPTS };
    for attempt in 1..attempts {
        match measure() {
            // Also below a context.
            Err(error) if error.downcast_ref::<Fewer>().is_some() => {
                eprintln!("  attempt {attempt} is repeated: {error:#}");
            }
            result => return result,
        }
    }
    measure()
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
        tcp_queue::SCENARIOS,
        protocols::SCENARIOS,
        recordings::SCENARIOS,
        victim::SCENARIOS,
        devices::SCENARIOS,
        napi_devices::SCENARIOS,
        unpaired::SCENARIOS,
        topology::SCENARIOS,
        tune::SCENARIOS,
        hidden_names::SCENARIOS,
        budget::SCENARIOS,
        hard_irqs::SCENARIOS,
        peer::SCENARIOS,
        two_tracers::SCENARIOS,
        loss::SCENARIOS,
        cleanup::SCENARIOS,
        soak::SCENARIOS,
    ]
    .concat()
}
