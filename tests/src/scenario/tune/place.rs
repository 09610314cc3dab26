//! Where `tracer tune` runs, what it may change there, and how that was before.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tracer::{model::setting::Setting as Tuned, tune::plan::Plan};

use crate::{
    backlog::MAX_BACKLOG,
    netns::{Netns, Pair},
    plan,
    process::Process,
    setting::{self, Setting},
    tracer::{binary, command, complete},
    wait,
};

pub(super) const DEVICE: &str = Pair::RECEIVER_DEVICE;
pub(super) const LIMIT: Duration = Duration::from_secs(30);
const FLOW_ENTRIES: &str = "/proc/sys/net/core/rps_sock_flow_entries";

/// Files with their bytes.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A namespace, a process that can be moved, and every file as it was.
pub(super) struct Place<'a> {
    pub(super) netns: &'a Netns,
    pub(super) before: Files,
    cpus: String,
    process: Process,
    directory: TempDir,
    // All of it is put back if the scenario ends early.
    _kept: [Setting; 2],
}

impl<'a> Place<'a> {
    pub(super) fn new(netns: &'a Netns) -> Result<Self> {
        let keep = |path: &str| Setting::change(path, &setting::read(path)?);
        let kept = [keep(MAX_BACKLOG)?, keep(FLOW_ENTRIES)?];
        let process = sleeper()?;
        Ok(Self {
            netns,
            before: files(netns)?,
            cpus: allowed(&process)?,
            process,
            directory: TempDir::new()?,
            _kept: kept,
        })
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// A plan of each kind of file that a namespace has, and of the process; and its file.
    pub(super) fn plan(&self) -> Result<(Plan, String)> {
        let device = || DEVICE.to_owned();
        let queue = |file: &str| {
            let path = format!("/sys/class/net/{DEVICE}/queues/rx-0/{file}");
            self.netns.run(|| setting::read(path))?
        };
        let rps = Tuned::RpsCpus {
            device: device(),
            queue: 0,
        };
        let flows = Tuned::RpsFlowCount {
            device: device(),
            queue: 0,
        };
        let sleeper = Tuned::Process {
            pid: self.process.pid(),
            name: setting::read(comm(&self.process))?,
            start: None,
        };
        let sysctl = |name: &str, file: &str, to: &str| -> Result<_> {
            Ok(plan::change(
                Tuned::sysctl(name),
                Some(setting::read(file)?),
                to,
            ))
        };
        let plan = plan::of(vec![
            sysctl("net.core.netdev_max_backlog", MAX_BACKLOG, "3000")?,
            plan::change(rps, Some(queue("rps_cpus")?), "1"),
            sysctl("net.core.rps_sock_flow_entries", FLOW_ENTRIES, "32768")?,
            plan::change(flows, Some(queue("rps_flow_cnt")?), "4096"),
            plan::change(sleeper, None, "1"),
        ])?;
        let file = self.file("plan.json", &serde_json::to_string(&plan)?)?;
        Ok((plan, file))
    }

    pub(super) fn command(&self, args: &[&str], fault: &str) -> Result<Command> {
        let mut command = command(&[&["tune"], args].concat())?;
        command
            .env("TRACER_STATE_DIR", self.state())
            .env("TRACER_TUNE_FAULT", fault)
            .env("COLUMNS", "100");
        Ok(command)
    }

    pub(super) fn tune(&self, args: &[&str], fault: &str) -> Result<(ExitStatus, String, String)> {
        complete(Some(self.netns), self.command(args, fault)?, LIMIT)
    }

    /// The same, which has to succeed; gives stdout.
    pub(super) fn tuned(&self, args: &[&str]) -> Result<String> {
        let (status, out, err) = self.tune(args, "")?;
        ensure!(
            status.success(),
            "tracer tune {}: {status}: {out} {err}",
            args.join(" ")
        );
        Ok(out)
    }

    /// Starts to apply the plan in `file` and returns when it has stopped at a checkpoint.
    pub(super) fn applying(&self, file: &str, checkpoint: u32) -> Result<Process> {
        let fault = format!("apply:{checkpoint}:stop");
        let tracer = self.command(&["apply", file, "--yes"], &fault)?;
        let tracer = Process::spawn(Some(self.netns), tracer)?;
        let stat = format!("/proc/{}/stat", tracer.pid());
        wait::until("tracer stops", LIMIT, || {
            Ok(fs::read_to_string(&stat)?.contains(") T ").then_some(()))
        })?;
        Ok(tracer)
    }

    pub(super) fn is_untouched(&self, when: &str) -> Result<()> {
        self.is_untouched_but(|_| false, when)
    }

    /// The same of all files but these, whose device is gone.
    pub(super) fn is_untouched_but(&self, gone: fn(&Path) -> bool, when: &str) -> Result<()> {
        let now = files(self.netns)?;
        for (path, bytes) in &self.before {
            ensure!(
                gone(path) || now.get(path) == Some(bytes),
                "{when}: {} is {:?}, was {:?}",
                path.display(),
                now.get(path).map(|bytes| String::from_utf8_lossy(bytes)),
                String::from_utf8_lossy(bytes)
            );
        }
        let cpus = allowed(&self.process)?;
        ensure!(cpus == self.cpus, "{when}: {cpus}, was {}", self.cpus);
        let journal = self.state().join("tune.journal");
        ensure!(!journal.exists(), "{when}: the journal is still there");
        Ok(())
    }
}

/// Waits for the end of a tracer; its status and stderr.
pub(super) fn ended(mut tracer: Process) -> Result<(ExitStatus, String)> {
    let mut stderr = tracer.stderr()?;
    let status = tracer.wait(LIMIT)?;
    let mut said = String::new();
    io::Read::read_to_string(&mut stderr, &mut said)?;
    Ok((status, said))
}

/// Every file that a plan of these scenarios could touch, as it is.
fn files(netns: &Netns) -> Result<Files> {
    let mut files = Files::new();
    let mut keep = |path: PathBuf| {
        // Some can only be written.
        if let Ok(bytes) = fs::read(&path) {
            files.insert(path, bytes);
        }
    };
    for entry in fs::read_dir("/proc/sys/net/core")? {
        keep(entry?.path());
    }
    for entry in fs::read_dir("/proc/irq")? {
        keep(entry?.path().join("smp_affinity_list"));
    }
    let queues = netns.run(|| {
        let mut files = Vec::new();
        let queues = format!("/sys/class/net/{DEVICE}/queues");
        // Its device may be gone.
        for entry in fs::read_dir(queues).into_iter().flatten() {
            for file in ["rps_cpus", "rps_flow_cnt"] {
                let path = entry.as_ref().map(|e| e.path().join(file));
                let Ok(path) = path else { continue };
                if let Ok(bytes) = fs::read(&path) {
                    files.push((path, bytes));
                }
            }
        }
        files
    })?;
    files.extend(queues);
    Ok(files)
}

fn sleeper() -> Result<Process> {
    // One that waits for input: a VM has few programs.
    let mut command = command(&["tune", "plan", "--from", "-"])?;
    command.stdin(Stdio::piped());
    let process = Process::spawn(None, command)?;
    // For a moment it still has the name of this test.
    let program = binary()?;
    let program = program.file_name().unwrap_or_default().to_string_lossy();
    wait::until("the name of a new process", LIMIT, || {
        let name = setting::read(comm(&process))?;
        Ok(program.starts_with(&name).then_some(()))
    })?;
    Ok(process)
}

fn comm(process: &Process) -> String {
    format!("/proc/{}/comm", process.pid())
}

fn allowed(process: &Process) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = text
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list:"));
    Ok(line.unwrap_or_default().to_owned())
}
