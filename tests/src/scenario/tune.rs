//! `tracer tune` on the running kernel: a receiver with RPS and a backlog that is far too small, in namespaces.
//!
//! Asserts that a plan made of a run's report changes what the report complained about, that `revert` leaves every file
//! byte for byte as it was, also after SIGKILL at any step of `apply` and of `revert`; that a file that cannot be
//! written, or vanishes, in the middle is named and everything before it taken back; that without room for the journal
//! nothing is applied, and that the second of two at once is told who is the first.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use tempfile::TempDir;
use tracer::{
    model::{report::Record, setting::Setting as Tuned},
    report::json,
    tune::plan::{Part, Plan, Planned, Step},
};

use super::{Need, Scenario, note};
use crate::{
    backlog::{MAX_BACKLOG, Steered},
    netns::{Netns, Pair},
    process::Process,
    setting::{self, Setting},
    tracer::{Tracer, command, complete},
    undo::Pending,
    wait::{self, quiet},
};

const NEEDS: &[Need] = &[Need::Root, Need::Cpus(2), Need::Program("ip")];

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "what_tune_applies_it_reverts_byte_for_byte",
        needs: NEEDS,
        run: there_and_back,
    },
    Scenario {
        name: "tune_killed_at_any_step_is_reverted",
        needs: NEEDS,
        run: killed_at_any_step,
    },
    Scenario {
        name: "tune_takes_back_what_came_before_a_failure",
        needs: NEEDS,
        run: failures,
    },
    Scenario {
        name: "tune_applies_nothing_without_room_for_its_journal",
        needs: NEEDS,
        run: full_disk,
    },
    Scenario {
        name: "tune_takes_back_by_itself_what_made_it_worse",
        needs: NEEDS,
        run: watched,
    },
    Scenario {
        name: "the_second_tune_is_told_who_is_the_first",
        needs: NEEDS,
        run: two_at_once,
    },
];

const DEVICE: &str = Pair::RECEIVER_DEVICE;
const LIMIT: Duration = Duration::from_secs(30);
/// More steps than any plan here has.
const STEPS: u32 = 40;

/// Where `tracer tune` runs, and what it must leave as it found it.
struct Place<'a> {
    netns: &'a Netns,
    directory: TempDir,
}

impl<'a> Place<'a> {
    fn new(netns: &'a Netns) -> Result<Self> {
        let directory = TempDir::new()?;
        Ok(Self { netns, directory })
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn command(&self, args: &[&str], fault: &str) -> Result<Command> {
        let mut all = vec!["tune"];
        all.extend(args);
        let mut command = command(&all)?;
        command
            .env("TRACER_STATE_DIR", self.state())
            .env("TRACER_TUNE_FAULT", fault)
            .env("COLUMNS", "100");
        Ok(command)
    }

    fn tune(&self, args: &[&str], fault: &str) -> Result<(ExitStatus, String, String)> {
        complete(Some(self.netns), self.command(args, fault)?, LIMIT)
    }

    /// The same, which has to succeed; gives stdout.
    fn tuned(&self, args: &[&str]) -> Result<String> {
        let (status, out, err) = self.tune(args, "")?;
        ensure!(
            status.success(),
            "tracer tune {}: {status}: {out} {err}",
            args.join(" ")
        );
        Ok(out)
    }

    /// Every file that a plan of these scenarios could touch, as it is.
    fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut files = BTreeMap::new();
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
        let queues = self.netns.run(|| {
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

    fn is_untouched(&self, before: &BTreeMap<PathBuf, Vec<u8>>, when: &str) -> Result<()> {
        let now = self.files()?;
        for (path, bytes) in before {
            ensure!(
                now.get(path) == Some(bytes),
                "{when}: {} is {:?}, was {:?}",
                path.display(),
                now.get(path).map(|bytes| String::from_utf8_lossy(bytes)),
                String::from_utf8_lossy(bytes)
            );
        }
        let journal = self.state().join("tune.journal");
        ensure!(!journal.exists(), "{when}: the journal is still there");
        Ok(())
    }
}

fn there_and_back() -> Result<()> {
    let steered = Steered::new()?;
    let place = Place::new(&steered.pair.receiver)?;
    let small = Setting::change(MAX_BACKLOG, "4")?;
    let before = place.files()?;
    let tracer = Tracer::start(Some(place.netns), &[])?;
    quiet();
    steered.flood(200_000)?;
    quiet();
    let outcome = tracer.stop()?;
    let report = json::line(&Record::Summary(outcome.summary))?;
    let report = place.file("report.json", &report)?;
    let from = ["plan", "--from", &report];
    note(place.tuned(&from)?);
    let script = place.tuned(&[&from[..], &["--format", "sh"]].concat())?;
    ensure!(
        script.contains("> /proc/sys/net/core/netdev_max_backlog"),
        "{script}"
    );
    let text = place.tuned(&[&from[..], &["--format", "json"]].concat())?;
    let plan: Plan = serde_json::from_str(&text)?;
    let backlog = Tuned::sysctl("net.core.netdev_max_backlog");
    let change = plan.changes().find(|change| change.setting == backlog);
    let change = change.with_context(|| format!("no backlog in {text}"))?;
    ensure!(
        change.from.as_deref() == Some("4") && change.to == "1000",
        "{change:?}"
    );
    let file = place.file("plan.json", &text)?;

    let (status, _, err) = place.tune(&["apply", &file], "")?;
    ensure!(
        status.code() == Some(2) && err.contains("--yes"),
        "without --yes and a terminal: {status}: {err}"
    );
    place.is_untouched(&before, "nobody agreed")?;
    note(place.tuned(&["apply", &file, "--yes"])?);
    ensure!(setting::read(MAX_BACKLOG)? == "1000", "not applied");
    note(place.tuned(&["status"])?);
    let told: serde_json::Value =
        serde_json::from_str(&place.tuned(&["status", "--format", "json"])?)?;
    let settings = told["settings"].as_array().context("no settings")?;
    ensure!(
        settings.len() == plan.changes().count()
            && settings.iter().all(|entry| entry["state"] == "applied"),
        "{told}"
    );
    // Again: it is so already.
    let again = place.tuned(&["apply", &file, "--yes"])?;
    ensure!(again.contains("applied 0 changes"), "{again}");

    // Somebody else is at it, too.
    setting::write(MAX_BACKLOG, "77")?;
    let (status, out, _) = place.tune(&["revert"], "")?;
    ensure!(
        status.code() == Some(1) && out.contains("netdev_max_backlog is 77"),
        "{status}: {out}"
    );
    note(place.tuned(&["revert", "--force"])?);
    place.is_untouched(&before, "after revert --force")?;
    ensure!(place.tuned(&["revert"])?.contains("nothing is applied"));
    small.restore()
}

/// A plan of each kind of file that a namespace has, and a process.
fn plan_for(netns: &Netns, process: &Process) -> Result<Plan> {
    let queue = |file: &str| {
        let path = format!("/sys/class/net/{DEVICE}/queues/rx-0/{file}");
        netns.run(|| setting::read(path))?
    };
    let device = || DEVICE.to_owned();
    let sleeper = Tuned::Process {
        pid: process.pid(),
        name: setting::read(format!("/proc/{}/comm", process.pid()))?,
        start: None,
    };
    let backlog = "net.core.netdev_max_backlog";
    let entries = "net.core.rps_sock_flow_entries";
    let sysctl = |name: &str| setting::read(format!("/proc/sys/{}", name.replace('.', "/")));
    let changes = [
        (Tuned::sysctl(backlog), Some(sysctl(backlog)?), "3000"),
        (
            Tuned::RpsCpus {
                device: device(),
                queue: 0,
            },
            Some(queue("rps_cpus")?),
            "1",
        ),
        (Tuned::sysctl(entries), Some(sysctl(entries)?), "32768"),
        (
            Tuned::RpsFlowCount {
                device: device(),
                queue: 0,
            },
            Some(queue("rps_flow_cnt")?),
            "4096",
        ),
        (sleeper, None, "1"),
    ];
    let change = |(setting, from, to): (Tuned, Option<String>, &str)| Planned {
        setting,
        from,
        to: to.to_owned(),
    };
    let step = Step {
        part: Part::Backlog,
        title: "Everything".to_owned(),
        why: "a test".to_owned(),
        finding: "none".to_owned(),
        effect: "none".to_owned(),
        risk: None,
        changes: changes.into_iter().map(change).collect(),
    };
    let uname = nix::sys::utsname::uname()?;
    let mut plan = Plan {
        kind: "plan".to_owned(),
        schema: 1,
        id: "1".to_owned(),
        steps: vec![step],
        ..Plan::default()
    };
    plan.host.hostname = uname.nodename().to_string_lossy().into_owned();
    plan.host.kernel = uname.release().to_string_lossy().into_owned();
    Ok(plan)
}

fn sleeper() -> Result<Process> {
    // One that waits for input: a VM has few programs.
    let mut command = command(&["tune", "plan", "--from", "-"])?;
    command.stdin(Stdio::piped());
    Process::spawn(None, command)
}

fn allowed(process: &Process) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = text
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list:"));
    Ok(line.unwrap_or_default().to_owned())
}

fn killed_at_any_step() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let process = sleeper()?;
    // All of it is put back if this scenario ends early.
    let _backlog = Setting::change(MAX_BACKLOG, &setting::read(MAX_BACKLOG)?)?;
    let entries = "/proc/sys/net/core/rps_sock_flow_entries";
    let _entries = Setting::change(entries, &setting::read(entries)?)?;
    let plan = plan_for(place.netns, &process)?;
    let file = place.file("plan.json", &serde_json::to_string(&plan)?)?;
    let (before, cpus) = (place.files()?, allowed(&process)?);
    let untouched = |when: &str| {
        place.is_untouched(&before, when)?;
        let now = allowed(&process)?;
        ensure!(now == cpus, "{when}: {now}, was {cpus}");
        Ok(())
    };
    let killed = |status: ExitStatus| status.signal() == Some(Signal::SIGKILL as i32);
    let mut deaths = [0, 0];
    for at in 0..STEPS {
        let (status, out, err) = place.tune(&["apply", &file, "--yes"], &format!("apply:{at}"))?;
        ensure!(
            killed(status) || status.success(),
            "apply:{at}: {status}: {out} {err}"
        );
        place.tuned(&["revert"])?;
        untouched(&format!("apply killed at {at}"))?;
        if !killed(status) {
            break;
        }
        deaths[0] += 1;
    }
    for at in 0..STEPS {
        place.tuned(&["apply", &file, "--yes"])?;
        let (status, out, err) = place.tune(&["revert"], &format!("revert:{at}"))?;
        ensure!(
            killed(status) || status.success(),
            "revert:{at}: {status}: {out} {err}"
        );
        place.tuned(&["revert"])?;
        untouched(&format!("revert killed at {at}"))?;
        if !killed(status) {
            break;
        }
        deaths[1] += 1;
    }
    note(format_args!(
        "killed at {} steps of apply and {} of revert",
        deaths[0], deaths[1]
    ));
    // Two for each of five writes, and a mark in the journal each.
    ensure!(deaths == [10, 15], "killed {deaths:?} times");
    Ok(())
}

fn failures() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let process = sleeper()?;
    let _backlog = Setting::change(MAX_BACKLOG, &setting::read(MAX_BACKLOG)?)?;
    let entries = "/proc/sys/net/core/rps_sock_flow_entries";
    let _entries = Setting::change(entries, &setting::read(entries)?)?;
    let plan = plan_for(place.netns, &process)?;
    let file = place.file("plan.json", &serde_json::to_string(&plan)?)?;
    let before = place.files()?;

    // Read-only for this tracer alone: its mounts are its own.
    let queue = format!("/sys/class/net/{DEVICE}/queues/rx-0/rps_flow_cnt");
    let apply = place.command(&["apply", &file, "--yes"], "")?;
    let (status, out, err) = place.netns.run(|| {
        read_only(&queue)?;
        complete(None, apply, LIMIT)
    })??;
    ensure!(
        status.code() == Some(1)
            && err.contains("rps_flow_cnt")
            && err.contains("the host is as it was"),
        "read-only: {status}: {out} {err}"
    );
    note(&err);
    place.is_untouched(&before, "a read-only file")?;

    // Its device vanishes between two writes.
    let stopped = place.command(&["apply", &file, "--yes"], "apply:1:stop")?;
    let mut tracer = Process::spawn(Some(place.netns), stopped)?;
    let mut stderr = tracer.stderr()?;
    is_stopped(&tracer)?;
    place.netns.ip(&["link", "del", DEVICE])?;
    tracer.signal(Signal::SIGCONT)?;
    let status = tracer.wait(LIMIT)?;
    let mut err = String::new();
    io::Read::read_to_string(&mut stderr, &mut err)?;
    ensure!(
        status.code() == Some(1)
            && err.contains("rps_cpus: it is gone")
            && err.contains("the host is as it was"),
        "vanished: {status}: {err}"
    );
    note(&err);
    let sysctls: BTreeMap<_, _> = before
        .into_iter()
        .filter(|(path, _)| path.starts_with("/proc"))
        .collect();
    place.is_untouched(&sysctls, "a device that vanished")?;

    // And before the first.
    let (status, _, err) = place.tune(&["apply", &file, "--yes"], "")?;
    ensure!(
        status.code() == Some(1) && err.contains("plan again"),
        "{status}: {err}"
    );
    place.is_untouched(&sysctls, "a device that is gone")
}

fn read_only(file: &str) -> Result<()> {
    let bind = MsFlags::MS_BIND;
    mount(Some(file), file, None::<&str>, bind, None::<&str>).context("cannot bind")?;
    let again = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(Some(file), file, None::<&str>, again, None::<&str>).context("cannot remount")
}

fn is_stopped(process: &Process) -> Result<()> {
    let stat = format!("/proc/{}/stat", process.pid());
    wait::until("tracer stops", LIMIT, || {
        Ok(fs::read_to_string(&stat)?.contains(") T ").then_some(()))
    })
}

fn full_disk() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let process = sleeper()?;
    let plan = plan_for(place.netns, &process)?;
    let file = place.file("plan.json", &serde_json::to_string(&plan)?)?;
    let before = place.files()?;
    let state = place.state();
    fs::create_dir(&state)?;
    mount(
        Some("tmpfs"),
        &state,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=16k"),
    )?;
    let mounted = state.clone();
    let mounted = Pending::new(move || Ok(umount2(&mounted, MntFlags::MNT_DETACH)?));
    fill(&state)?;
    let (status, out, err) = place.tune(&["apply", &file, "--yes"], "")?;
    ensure!(
        status.code() == Some(1) && err.contains("nothing was changed"),
        "{status}: {out} {err}"
    );
    note(err);
    place.is_untouched(&before, "no room for the journal")?;
    mounted.undo()
}

fn fill(directory: &Path) -> Result<()> {
    let full = fs::write(directory.join("fill"), vec![0; 64 << 10]);
    let error = full.err().context("a tmpfs of 16 KiB took 64 KiB")?;
    ensure!(error.raw_os_error() == Some(nix::libc::ENOSPC), "{error}");
    Ok(())
}

/// A plan that makes the backlog far too small, watched.
fn watched() -> Result<()> {
    let steered = Steered::new()?;
    let place = Place::new(&steered.pair.receiver)?;
    let process = sleeper()?;
    let _backlog = Setting::change(MAX_BACKLOG, &setting::read(MAX_BACKLOG)?)?;
    let mut plan = plan_for(place.netns, &process)?;
    plan.steps[0].changes.truncate(1);
    "4".clone_into(&mut plan.steps[0].changes[0].to);
    plan.baseline.packets = 100_000;
    let file = place.file("plan.json", &serde_json::to_string(&plan)?)?;
    let before = place.files()?;
    let watch = ["apply", &file, "--yes", "--watch", "4s"];
    for enough in [true, false] {
        let mut tracer = Process::spawn(Some(place.netns), place.command(&watch, "")?)?;
        let mut stderr = tracer.stderr()?;
        wait::until("the backlog is small", LIMIT, || {
            Ok((setting::read(MAX_BACKLOG)? == "4").then_some(()))
        })?;
        while tracer.ended()?.is_none() {
            if enough {
                steered.flood(20_000)?;
            } else {
                quiet();
            }
        }
        let status = tracer.wait(LIMIT)?;
        let mut err = String::new();
        io::Read::read_to_string(&mut stderr, &mut err)?;
        note(&err);
        if enough {
            ensure!(
                status.code() == Some(1) && err.contains("taking 1 change back"),
                "{status}: {err}"
            );
        } else {
            // Nobody can tell without traffic.
            ensure!(
                status.success() && err.contains("the changes stay"),
                "{status}: {err}"
            );
            place.tuned(&["revert"])?;
        }
        place.is_untouched(&before, "watched")?;
    }
    Ok(())
}

fn two_at_once() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let process = sleeper()?;
    let _backlog = Setting::change(MAX_BACKLOG, &setting::read(MAX_BACKLOG)?)?;
    let entries = "/proc/sys/net/core/rps_sock_flow_entries";
    let _entries = Setting::change(entries, &setting::read(entries)?)?;
    let plan = plan_for(place.netns, &process)?;
    let file = place.file("plan.json", &serde_json::to_string(&plan)?)?;
    let before = place.files()?;
    let stopped = place.command(&["apply", &file, "--yes"], "apply:3:stop")?;
    let mut first = Process::spawn(Some(place.netns), stopped)?;
    is_stopped(&first)?;
    let (status, _, err) = place.tune(&["revert"], "")?;
    let pid = format!("pid {}", first.pid());
    ensure!(
        status.code() == Some(1) && err.contains(&pid),
        "{status}: {err}, the first is {pid}"
    );
    note(err);
    first.signal(Signal::SIGCONT)?;
    let status = first.wait(LIMIT)?;
    ensure!(status.success(), "the first: {status}");
    place.tuned(&["revert"])?;
    place.is_untouched(&before, "after both")
}
