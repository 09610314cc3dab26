//! `tracer run` as a child process.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use tracer::model::{
    event::Event,
    report::{Drop as DropSite, Report},
};

use crate::{netns::Netns, process::Process, wait};

/// Longest time to wait for tracer to attach, and to end after a signal.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The program under test: `TRACER_BIN`, or the one that cargo built beside this test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRACER_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "TRACER_BIN is {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .flat_map(|directory| {
            ["tracer", "release/tracer", "debug/tracer"].map(|name| directory.join(name))
        })
        .find(|path| path.is_file())
        .ok_or_else(|| {
            anyhow!(
                "no tracer beside {}: build it, or set TRACER_BIN",
                own.display()
            )
        })
}

/// A command line of tracer, to run on this host or inside `netns`.
pub fn command(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("NO_COLOR", "1");
    Ok(command)
}

/// Lines of a pipe, collected by a thread so that the child never waits for us.
#[derive(Debug)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Lines {
    fn collect(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        Self { lines, reader }
    }

    fn so_far(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn all(self) -> Vec<String> {
        let _ = self.reader.join();
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running tracer; killed when dropped.
#[derive(Debug)]
pub struct Tracer {
    process: Process,
    stdout: Lines,
    stderr: Lines,
    /// Somebody else writes to its stdout, too: what is no JSON object is not its.
    shares_stdout: bool,
}

impl Tracer {
    /// Runs `tracer run --format json ARGS` inside `netns` (or here) and returns once it has attached.
    pub fn start(netns: Option<&Netns>, args: &[&str]) -> Result<Self> {
        let tracer = Self::launch(netns, args)?;
        tracer.wait_attached()?;
        Ok(tracer)
    }

    /// The same without waiting.
    pub fn launch(netns: Option<&Netns>, args: &[&str]) -> Result<Self> {
        let mut all = vec!["run", "--format", "json"];
        all.extend(args);
        Self::adopt(Process::spawn(netns, command(&all)?)?)
    }

    /// Starts `command`, which runs tracer as its child with `--format json` and a `--duration`, and returns once
    /// tracer has attached. Pid and signals are those of `command`.
    pub fn start_under(command: Command) -> Result<Self> {
        let mut tracer = Self::adopt(Process::spawn(None, command)?)?;
        tracer.shares_stdout = true;
        tracer.wait_attached()?;
        Ok(tracer)
    }

    fn adopt(mut process: Process) -> Result<Self> {
        let stdout = Lines::collect(process.stdout()?);
        let stderr = Lines::collect(process.stderr()?);
        Ok(Self {
            process,
            stdout,
            stderr,
            shares_stdout: false,
        })
    }

    fn wait_attached(&self) -> Result<()> {
        let said = || self.stderr.so_far();
        let attached = wait::until("attached", PATIENCE, || {
            if said().iter().any(|line| line.starts_with("attached")) {
                return Ok(Some(()));
            }
            // Gone, or a zombie: whatever it had to say is on stderr.
            let state =
                std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
            ensure!(
                !state.contains(") Z ") && !state.is_empty(),
                "tracer ended before it attached"
            );
            Ok(None)
        });
        attached.map_err(|error| error.context(format!("stderr: {}", said().join(" | "))))
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for two more windows: the second began after this call.
    pub fn later_windows(&self) -> Result<()> {
        let so_far = || {
            let lines = self.stdout.so_far().into_iter();
            lines
                .filter(|line| line.contains(r#""kind":"window""#))
                .count()
        };
        let before = so_far();
        wait::until("two windows", PATIENCE, || {
            Ok((so_far() >= before + 2).then_some(()))
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Ends it with SIGINT and returns what it reported.
    pub fn stop(self) -> Result<Outcome> {
        self.signal(Signal::SIGINT)?;
        self.finish()
    }

    /// Waits until it ends by itself, at most [`PATIENCE`], and returns what it reported.
    pub fn finish(mut self) -> Result<Outcome> {
        let status = self.process.wait(PATIENCE)?;
        let mut stdout = self.stdout.all();
        if self.shares_stdout {
            stdout.retain(|line| line.starts_with('{'));
        }
        Outcome::parse(status, &stdout, self.stderr.all())
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.process.wait(PATIENCE)?;
        Ok(())
    }
}

/// Runs a command to its end, at most `limit`, and returns status, stdout and stderr.
pub fn complete(
    netns: Option<&Netns>,
    command: Command,
    limit: Duration,
) -> Result<(ExitStatus, String, String)> {
    let mut process = Process::spawn(netns, command)?;
    let stdout = Lines::collect(process.stdout()?);
    let stderr = Lines::collect(process.stderr()?);
    let status = process.wait(limit)?;
    Ok((status, stdout.all().join("\n"), stderr.all().join("\n")))
}

/// What a tracer that ended had to say.
#[derive(Debug)]
pub struct Outcome {
    /// `window` records.
    pub windows: Vec<Report>,
    /// `event` records.
    pub events: Vec<Event>,
    /// The `summary` record.
    pub summary: Report,
    /// Lines of stderr.
    pub stderr: Vec<String>,
}

impl Outcome {
    fn parse(status: ExitStatus, stdout: &[String], stderr: Vec<String>) -> Result<Self> {
        ensure!(
            status.success(),
            "tracer: {status}; stderr: {}",
            stderr.join(" | ")
        );
        let mut windows = Vec::new();
        let mut summary = None;
        let mut events = Vec::new();
        for line in stdout {
            // Through `Value`: serde reads no integer keys out of an internally tagged enum.
            let value: serde_json::Value =
                serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
            ensure!(summary.is_none(), "a line after the summary: {line}");
            match value.get("kind").and_then(serde_json::Value::as_str) {
                Some("window") => windows.push(serde_json::from_value(value)?),
                Some("summary") => summary = Some(serde_json::from_value(value)?),
                Some("event") => events.push(serde_json::from_value(value)?),
                kind => bail!("unknown kind {kind:?}: {line}"),
            }
        }
        let summary =
            summary.with_context(|| format!("no summary; stderr: {}", stderr.join(" | ")))?;
        Ok(Self {
            windows,
            events,
            summary,
            stderr,
        })
    }

    /// Drop sites with this reason.
    pub fn drops_for<'a>(&'a self, reason: &'a str) -> impl Iterator<Item = &'a DropSite> {
        self.summary
            .drops
            .iter()
            .filter(move |drop| drop.reason.as_deref() == Some(reason))
    }

    /// What the kernel's guard against recursion hid from the programs.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.summary.losses.recursion_missed.unwrap_or(0)
    }

    /// Misses of the programs on one hook.
    #[must_use]
    pub fn missed_at(&self, hook: &str) -> u64 {
        self.summary
            .hooks
            .iter()
            .filter(|row| row.name == hook)
            .filter_map(|row| row.missed)
            .sum()
    }
}
