//! Who is measured: tracer, the floor, and what a user would start instead. Each is a process that is started before a
//! round and ended after it, as a user would; also who attaches nothing, so that what this alone changes is seen.

use std::{
    env, fs, io,
    os::unix::process::ExitStatusExt as _,
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
tracepoint:skb:kfree_skb { @drops[args->location, args->reason] = count(); }
interval:s:120 { exit(); }";
const EVENTS: &str = "irq:irq_handler_entry,irq:irq_handler_exit,irq:softirq_raise,irq:softirq_entry,irq:softirq_exit,\
                      napi:napi_poll,skb:kfree_skb";
/// What tracer says when it is, and we too.
const ATTACHED: &str = "attached";
const PERF_DATA: &str = "perf.data";
/// A peer does not say that it has attached: it has when, for so long, it opens nothing and takes next to no CPU.
const IDLE: Duration = Duration::from_millis(300);
const NEXT_TO_NO_CPU: Duration = Duration::from_millis(5);
/// Until a Ctrl-C is repeated.
const AGAIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A process that attaches nothing: what it adds is an error of the benchmark.
    Nothing,
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
    pub const ALL: [Self; 9] = [
        Self::Nothing,
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
            Self::Nothing => "nothing",
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
            Self::Nothing => "a process that attaches nothing: the control",
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

    /// Starts it and waits until it counts, and has settled.
    pub fn start(self, paths: &Paths) -> Result<Running> {
        let mut command = self.command(paths)?;
        // Those of ours end with the benchmark, for then their stdin does; the others after two minutes, but for perf.
        command.stdin(if self.is_ours() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(Stdio::null());
        let stderr = paths.directory.join(format!("{}.stderr", self.name()));
        command.stderr(fs::File::create(&stderr)?);
        let begin = Instant::now();
        let mut process = with_tracefs(|| Process::spawn(None, command))??;
        if self.says_so() {
            wait::until("attached", PATIENCE, || {
                let said = fs::read_to_string(&stderr)?;
                let over = said.contains(ATTACHED) || process.ended()?.is_some();
                Ok(over.then_some(()))
            })?;
        }
        let started = begin.elapsed();
        until_idle(&mut process)?;
        let running = Running {
            contender: self,
            process,
            started,
            stderr,
        };
        running.still_runs()
    }

    /// Whether the benchmark is none without it.
    #[must_use]
    pub const fn has_to_run(self) -> bool {
        self.says_so()
    }

    const fn is_ours(self) -> bool {
        matches!(self, Self::Nothing | Self::Floor | Self::Times)
    }

    /// Whether it says when it is attached.
    const fn says_so(self) -> bool {
        self.is_ours() || matches!(self, Self::Counting | Self::Details)
    }

    /// What the process of one of ours does: attaches, says so, and waits for its end.
    pub fn be(self, floor: &Path) -> Result<()> {
        let _attached = match self {
            Self::Nothing => None,
            Self::Floor => Some(Floor::empty(floor)?),
            Self::Times => Some(Floor::times(floor)?),
            _ => bail!("{} is a program of its own", self.name()),
        };
        eprintln!("{ATTACHED}");
        io::copy(&mut io::stdin(), &mut io::sink())?;
        Ok(())
    }

    fn command(self, paths: &Paths) -> Result<Command> {
        let words = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args);
            command
        };
        Ok(match self {
            Self::Nothing | Self::Floor | Self::Times => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["--attach", self.name(), "--tracer"]);
                command.arg(&paths.tracer);
                command.arg("--floor").arg(&paths.floor);
                command
            }
            Self::Counting | Self::Details => {
                let mut command = Command::new(&paths.tracer);
                command.args(["run", "--format", "json", "--duration", "120s"]);
                if self == Self::Counting {
                    command.args(["--detail-rate", "0"]);
                }
                command
            }
            Self::Bpftrace => words("bpftrace", &["-e", SCRIPT]),
            Self::Perf => {
                let data = paths.directory.join(PERF_DATA);
                let mut command = words("perf", &["record", "-q", "-a", "-e", EVENTS, "-o"]);
                command.arg(data);
                command
            }
            Self::Hardirqs => words(&libbpf_tool("hardirqs")?, &["-d", "120", "1"]),
            Self::Softirqs => words(&libbpf_tool("softirqs")?, &["-d", "120", "1"]),
        })
    }
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
        let Ok(descriptors) = process.descriptors() else {
            return Ok(None);
        };
        let idle = seen.is_some_and(|(time, count)| {
            // Less than before: a thread has ended.
            (time..time + NEXT_TO_NO_CPU).contains(&cpu_time) && count == descriptors
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
pub struct Running {
    contender: Contender,
    /// It.
    pub process: Process,
    /// How long it took until it said that it was attached, if it says so.
    pub started: Duration,
    stderr: PathBuf,
}

impl Running {
    fn still_runs(mut self) -> Result<Self> {
        if let Some(status) = self.process.ended()? {
            let said = fs::read_to_string(&self.stderr).unwrap_or_default();
            let why = said.lines().rfind(|line| !line.trim().is_empty());
            bail!(
                "{} does not run here ({status}): {}",
                self.contender.name(),
                why.unwrap_or("it said nothing").trim()
            );
        }
        Ok(self)
    }

    /// Ends it as Ctrl-C would, and returns how long that took. Fails if it had ended by itself.
    pub fn stop(self) -> Result<Duration> {
        let mut running = self.still_runs()?;
        let begin = Instant::now();
        let status = running.interrupt()?;
        let by_signal = status.signal() == Some(Signal::SIGINT as i32);
        ensure!(
            status.success() || by_signal,
            "{} ended with {status}",
            running.contender.name()
        );
        let ended = begin.elapsed();
        if running.contender == Contender::Perf {
            fs::remove_file(running.stderr.with_file_name(PERF_DATA))?;
        }
        Ok(ended)
    }

    /// Ctrl-C; again where it can come too early: libbpf-tools only note it, and may then begin to sleep.
    fn interrupt(&mut self) -> Result<ExitStatus> {
        let again = matches!(self.contender, Contender::Hardirqs | Contender::Softirqs);
        self.process.signal(Signal::SIGINT)?;
        let mut next = Instant::now() + AGAIN;
        wait::until("the end of a contender", PATIENCE, || {
            let ended = self.process.ended()?;
            if ended.is_none() && again && Instant::now() >= next {
                self.process.signal(Signal::SIGINT)?;
                next = Instant::now() + AGAIN;
            }
            Ok(ended)
        })
    }
}
