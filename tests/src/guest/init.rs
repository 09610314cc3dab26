//! The first process: makes the machine usable, runs the scenarios one after the other as processes of their own,
//! reports each, powers off.

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use xtask::guest::{ALIVE_EVERY_SECONDS, KEPT, Outcome, Record, TASK_FILE, Task};

use super::{
    nic,
    results::Results,
    scenario::{self, SKIPPED},
};
use crate::scenario::cleanup;

/// File systems: type, where, options.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("tmpfs", "/run", ""),
    ("tmpfs", "/tmp", ""),
    ("securityfs", "/sys/kernel/security", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("debugfs", "/sys/kernel/debug", ""),
    ("bpf", "/sys/fs/bpf", ""),
    ("cgroup2", "/sys/fs/cgroup", ""),
];

/// Environment of everything that is started here.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("TRACER_BIN", "/usr/bin/tracer"),
    ("HOME", "/tmp"),
    ("RUST_BACKTRACE", "1"),
    (cleanup::RUNS_VARIABLE, "10"),
];

/// Open files: enough for a scenario with many sockets.
const OPEN_FILES: u64 = 1 << 16;

/// What SIGKILL does not end within that time hangs in the kernel.
const STUCK_AFTER: Duration = Duration::from_secs(20);
/// Bytes of a scenario's output that go into its record.
const LOG_TAIL: usize = 16 << 10;

/// Does everything; returns only if it may not, being the first process.
#[must_use]
pub fn run() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "this is the first process of a VM, or with a scenario's name that scenario; there are:"
        );
        for scenario in scenario::all() {
            eprintln!("  {}", scenario.name);
        }
        return ExitCode::from(2);
    }
    if let Err(error) = work() {
        eprintln!("tracer-guest: {error:#}");
    }
    let _ = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

fn work() -> Result<()> {
    let mut warnings = Vec::new();
    let mut warn = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            warnings.push(format!("{what}: {error:#}"));
        }
    };
    for (kind, at, options) in MOUNTS {
        warn(at, mount_at(kind, at, options));
    }
    let results = Arc::new(Results::open()?);
    let alive = Arc::clone(&results);
    thread::spawn(move || {
        loop {
            alive.write(&Record::Alive);
            thread::sleep(Duration::from_secs(ALIVE_EVERY_SECONDS));
        }
    });
    let task = Task::read(TASK_FILE).with_context(|| format!("cannot read {TASK_FILE}"))?;
    warn(
        "open files",
        setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).map_err(Into::into),
    );
    for module in &task.modules {
        warn(module, run_to_end("modprobe", &["-q", module]));
    }
    warn("lo", run_to_end("ip", &["link", "set", "lo", "up"]));
    warn("network devices", nic::prepare());

    let wanted: Vec<_> = scenario::all()
        .into_iter()
        .filter(|scenario| task.wants(scenario.name))
        .collect();
    results.write(&Record::Boot {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        seconds: since_boot()?,
        warnings,
        scenarios: wanted
            .iter()
            .map(|scenario| scenario.name.to_owned())
            .collect(),
    });
    for scenario in wanted {
        results.write(&Record::Start {
            scenario: scenario.name.to_owned(),
        });
        let (result, stuck) = perform(scenario.name, scenario::limit(scenario.name), &task);
        results.write(&result);
        // What it holds is not free for the others.
        anyhow::ensure!(!stuck, "{} hangs in the kernel", scenario.name);
    }
    for entry in fs::read_dir(KEPT).into_iter().flatten().flatten() {
        results.write(&Record::File {
            name: entry.file_name().to_string_lossy().into_owned(),
            text: fs::read_to_string(entry.path())?,
        });
    }
    results.write(&Record::End);
    Ok(())
}

fn mount_at(kind: &str, at: &str, options: &str) -> Result<()> {
    if !Path::new(at).is_dir() {
        fs::create_dir_all(at)?;
    }
    let options = (!options.is_empty()).then_some(options);
    match mount(Some(kind), at, Some(kind), MsFlags::empty(), options) {
        // The kernel has mounted it before us.
        Ok(()) | Err(nix::Error::EBUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn since_boot() -> Result<f64> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_ascii_whitespace().next().unwrap_or_default();
    Ok(seconds.parse()?)
}

/// Runs a program of the guest.
fn run_to_end(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command
        .args(args)
        .envs(ENVIRONMENT.iter().copied())
        .stdin(Stdio::null());
    let Ended::Alone(status) = wait_for(&mut command, Duration::from_secs(30))? else {
        anyhow::bail!("{program} hung");
    };
    anyhow::ensure!(status.success(), "{program} {}: {status}", args.join(" "));
    Ok(())
}

/// The scenario's result, and whether it could not be ended.
fn perform(name: &str, limit: Duration, task: &Task) -> (Record, bool) {
    let mut stuck = false;
    let began = Instant::now();
    let log = Path::new("/tmp/scenario.log");
    let status = fs::File::create(log)
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(anyhow::Error::from)
        .and_then(|(stdout, stderr)| {
            let mut command = Command::new("/proc/self/exe");
            command
                .arg(name)
                .envs(ENVIRONMENT.iter().copied())
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(stderr)
                // What it leaves behind can be ended with it.
                .process_group(0);
            if task.verbose {
                command.env(scenario::VERBOSE, "1");
            }
            wait_for(&mut command, limit)
        });
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(
        log.get(log.len().saturating_sub(LOG_TAIL)..)
            .unwrap_or(&log),
    )
    .into_owned();
    let (outcome, reason) = match status {
        Ok(Ended::Alone(status)) if status.success() => (Outcome::Pass, None),
        Ok(Ended::Alone(status)) if status.code() == Some(i32::from(SKIPPED)) => {
            (Outcome::Skip, Some(last_line(&log)))
        }
        Ok(Ended::Alone(status)) if status.code().is_some() => {
            (Outcome::Fail, Some(last_line(&log)))
        }
        Ok(Ended::Alone(status)) => (
            Outcome::Fail,
            Some(format!("{status}; {}", last_line(&log))),
        ),
        Ok(Ended::Killed) => (
            Outcome::Fail,
            Some(format!("did not end within {} s", limit.as_secs())),
        ),
        Ok(Ended::Stuck) => {
            stuck = true;
            (
                Outcome::Fail,
                Some("hangs in the kernel: SIGKILL does not end it".to_owned()),
            )
        }
        Err(error) => (Outcome::Fail, Some(format!("{error:#}"))),
    };
    let result = Record::Result {
        scenario: name.to_owned(),
        outcome,
        reason,
        seconds: began.elapsed().as_secs_f64(),
        log,
    };
    (result, stuck)
}

fn last_line(log: &str) -> String {
    log.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// How a command ended.
enum Ended {
    /// By itself.
    Alone(ExitStatus),
    /// Not in time: it was killed with its process group.
    Killed,
    /// It did not end when it was killed, either: it hangs in the kernel.
    Stuck,
}

/// Waits for the command's end, and meanwhile for that of every orphan, as the first process has to.
fn wait_for(command: &mut Command, limit: Duration) -> Result<Ended> {
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let deadline = Instant::now() + limit;
    let mut killed = false;
    let how = |killed, status| {
        if killed {
            Ended::Killed
        } else {
            Ended::Alone(ExitStatus::from_raw(status))
        }
    };
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => {
                return Ok(how(killed, code << 8));
            }
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                return Ok(how(killed, signal as i32));
            }
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(10)),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if !killed && Instant::now() >= deadline {
            killed = true;
            let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL);
            let _ = kill(pid, Signal::SIGKILL);
        }
        if Instant::now() >= deadline + STUCK_AFTER {
            return Ok(Ended::Stuck);
        }
    }
}
