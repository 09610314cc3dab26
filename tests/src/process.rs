//! A child process that does not outlive its scenario.

use std::{
    fs,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{netns::Netns, undo::Pending, wait};

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    killed: Pending,
}

impl Process {
    /// Starts a command inside `netns`, or here.
    pub fn spawn(netns: Option<&Netns>, mut command: Command) -> Result<Self> {
        let child = match netns {
            Some(netns) => netns.run(|| command.spawn())?,
            None => command.spawn(),
        };
        let child =
            child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let pid = pid_of(&child)?;
        Ok(Self {
            child,
            killed: Pending::new(move || Ok(kill(pid, Signal::SIGKILL)?)),
        })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The reading end of its stdout, once.
    pub fn stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().context("no stdout")
    }

    /// The reading end of its stderr, once.
    pub fn stderr(&mut self) -> Result<ChildStderr> {
        self.child.stderr.take().context("no stderr")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(pid_of(&self.child)?, signal)?)
    }

    /// CPU time of its threads, of those that have not ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut ns = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_ascii_whitespace().next().context("schedstat")?;
            ns += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(ns))
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            // The id may be another process's from now on.
            self.killed.forget();
        }
        Ok(status)
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait::until("the end of the process", limit, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.killed.forget();
        // Both fail once the child has ended and was waited for, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}
