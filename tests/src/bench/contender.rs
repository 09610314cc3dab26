//! Who is measured: tracer, the floor, and what a user would start instead. Each is a process that is started before a
//! round and ended after it, as a user would.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::floor::Floor;
use crate::{netns::with_tracefs, process::Process, wait};

/// What the peers count as tracer does: hard IRQs by CPU and number, runs and waits of NET_RX, packets polled, drops by
/// place and reason.
const SCRIPT: &str = "
tracepoint:irq:irq_handler_entry { @irqs[cpu, args->irq] = count(); }
tracepoint:irq:softirq_raise /args->vec == 3/ { if (@raised[cpu] == 0) { @raised[cpu] = nsecs; } }
tracepoint:irq:softirq_entry /args->vec == 3/ {
    if (@raised[cpu] != 0) { @wait[cpu] = hist(nsecs - @raised[cpu]); @raised[cpu] = 0; }
    @began[cpu] = nsecs;
}
tracepoint:irq:softirq_exit /args->vec == 3/ { @run[cpu] = hist(nsecs - @began[cpu]); }
tracepoint:napi:napi_poll { @polls[cpu] = count(); @packets[cpu] = sum(args->work); }
tracepoint:skb:kfree_skb { @drops[args->location, args->reason] = count(); }";
const EVENTS: &str = "irq:irq_handler_entry,irq:irq_handler_exit,irq:softirq_raise,irq:softirq_entry,irq:softirq_exit,\
                      napi:napi_poll,skb:kfree_skb";
/// A peer does not say that it has attached: it has when, for so long, it opens nothing and takes next to no CPU.
const IDLE: Duration = Duration::from_millis(300);
const NEXT_TO_NO_CPU: Duration = Duration::from_millis(5);
/// Until a Ctrl-C is repeated.
const AGAIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Empty programs on tracer's hooks.
    Floor,
    /// The same, but for the clock readings that the times of NET_RX take.
    Times,
    /// `tracer run --detail-rate 0`.
    Counting,
    /// `tracer run` as it is.
    Details,
    /// bpftrace with an equivalent script.
    Bpftrace,
    /// `perf record` of the same tracepoints.
    Perf,
    /// libbpf-tools: time in hard IRQs only.
    Hardirqs,
    /// libbpf-tools: time in softirqs only.
    Softirqs,
}

impl Contender {
    /// All, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Floor,
        Self::Times,
        Self::Counting,
        Self::Details,
        Self::Bpftrace,
        Self::Perf,
        Self::Hardirqs,
        Self::Softirqs,
    ];

    /// As `--contender` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Times => "times",
            Self::Counting => "counting",
            Self::Details => "details",
            Self::Bpftrace => "bpftrace",
            Self::Perf => "perf",
            Self::Hardirqs => "hardirqs",
            Self::Softirqs => "softirqs",
        }
    }

    /// What it is and does, and what of tracer's work it does not do.
    #[must_use]
    pub const fn work(self) -> &'static str {
        match self {
            Self::Floor => "empty programs on the same hooks",
            Self::Times => "empty, but for the three clock readings of a NET_RX run",
            Self::Counting => "tracer run --detail-rate 0",
            Self::Details => "tracer run: counting, and single events at the default rate",
            Self::Bpftrace => {
                "bpftrace: no target CPU, device or namespace of drops, no time of hard IRQs"
            }
            Self::Perf => "perf record: writes every event, counts none",
            Self::Hardirqs => "libbpf-tools hardirqs -d: unequal work, hard IRQs only",
            Self::Softirqs => {
                "libbpf-tools softirqs -d: unequal work, softirqs of all CPUs together only"
            }
        }
    }

    /// Starts it and waits until it counts.
    pub fn start(self, paths: &Paths) -> Result<Running> {
        match self {
            Self::Floor => return Ok(Running::Floor(Floor::empty(&paths.floor)?)),
            Self::Times => return Ok(Running::Floor(Floor::times(&paths.floor)?)),
            _ => {}
        }
        let mut command = self.command(paths)?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let stderr = paths.directory.join(format!("{}.stderr", self.name()));
        command.stderr(std::fs::File::create(&stderr)?);
        let begin = Instant::now();
        let mut process = with_tracefs(|| Process::spawn(None, command))??;
        if matches!(self, Self::Counting | Self::Details) {
            wait::until("attached", PATIENCE, || {
                let said = std::fs::read_to_string(&stderr)?;
                Ok(said.contains("attached").then_some(()))
            })?;
        } else {
            until_idle(&mut process)?;
        }
        let started = begin.elapsed();
        if let Some(status) = process.ended()? {
            let said = std::fs::read_to_string(&stderr).unwrap_or_default();
            let why = said
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or("it said nothing");
            bail!(
                "{} does not run here ({status}): {}",
                self.name(),
                why.trim()
            );
        }
        Ok(Running::Process { process, started })
    }

    fn command(self, paths: &Paths) -> Result<Command> {
        let words = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args);
            command
        };
        Ok(match self {
            Self::Floor | Self::Times => bail!("{} is no process", self.name()),
            Self::Counting | Self::Details => {
                let mut command = Command::new(&paths.tracer);
                command.args(["run", "--format", "json"]);
                if self == Self::Counting {
                    command.args(["--detail-rate", "0"]);
                }
                command
            }
            Self::Bpftrace => words("bpftrace", &["-e", SCRIPT]),
            Self::Perf => {
                let data = paths.directory.join("perf.data");
                let mut command = words("perf", &["record", "-q", "-a", "-e", EVENTS, "-o"]);
                command.arg(data);
                command
            }
            Self::Hardirqs => words(&libbpf_tool("hardirqs")?, &["-d", "3600", "1"]),
            Self::Softirqs => words(&libbpf_tool("softirqs")?, &["-d", "3600", "1"]),
        })
    }
}

/// Ctrl-C, again where it came too early: libbpf-tools only note it, and may then begin to sleep.
fn interrupt(process: &mut Process) -> Result<ExitStatus> {
    let mut next = Instant::now();
    wait::until("the end of a contender", PATIENCE, || {
        let ended = process.ended()?;
        if ended.is_none() && Instant::now() >= next {
            process.signal(Signal::SIGINT)?;
            next = Instant::now() + AGAIN;
        }
        Ok(ended)
    })
}

/// Returns as well when it has ended.
fn until_idle(process: &mut Process) -> Result<()> {
    let mut since = Instant::now();
    let mut seen = None;
    wait::until("a peer that has attached", PATIENCE, || {
        if process.ended()?.is_some() {
            return Ok(Some(()));
        }
        // A thread may end between being listed and being read.
        let Ok(cpu_time) = process.cpu_time() else {
            return Ok(None);
        };
        let descriptors = process.descriptors()?;
        let idle = seen.is_some_and(|(time, count)| {
            cpu_time.saturating_sub(time) < NEXT_TO_NO_CPU && count == descriptors
        });
        if !idle {
            since = Instant::now();
            seen = Some((cpu_time, descriptors));
        }
        Ok((since.elapsed() >= IDLE).then_some(()))
    })
}

/// Debian installs them outside of PATH.
fn libbpf_tool(name: &str) -> Result<String> {
    let candidates = ["/usr/sbin", "/usr/share/libbpf-tools", "/usr/bin"];
    let found = candidates.iter().flat_map(|directory| {
        [
            format!("{directory}/{name}"),
            format!("{directory}/{name}-libbpf"),
        ]
    });
    let mut found = found.filter(|path| Path::new(path).exists());
    found
        .next()
        .with_context(|| format!("no {name} of libbpf-tools"))
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Paths {
    /// tracer.
    pub tracer: PathBuf,
    /// The object with the empty programs.
    pub floor: PathBuf,
    /// For what they write.
    pub directory: PathBuf,
}

/// One that has started.
pub enum Running {
    /// Programs of this process.
    Floor(Floor),
    /// A process, and how long it took until it counted.
    Process {
        /// It.
        process: Process,
        /// That time.
        started: Duration,
    },
}

impl Running {
    /// Ends it as Ctrl-C would, and returns how long that took.
    pub fn stop(self) -> Result<Duration> {
        let begin = Instant::now();
        match self {
            Self::Floor(floor) => drop(floor),
            Self::Process { mut process, .. } => {
                let status = interrupt(&mut process)?;
                ensure!(status.code() != Some(1), "ended with {status}");
            }
        }
        Ok(begin.elapsed())
    }
}
