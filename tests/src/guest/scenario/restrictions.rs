//! Runs tracer where it is given less than it would like: kernel addresses hidden, kernel memory locked down,
//! capabilities instead of root, no tracefs.
//!
//! Asserts that drops are exact all the same, that what cannot be had (names, raw tracepoints) is said, and that
//! a run that cannot be is refused with what is missing.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sched::{CloneFlags, unshare},
};
use tracer::model::report::{HookStatus, Report};

use super::{Scenario, closed_port, need_hook};
use crate::{
    findings,
    flood::Flood,
    kernel::drop_reason,
    netns::Pair,
    scenario::{Need, Skip, note},
    setting::{self, Setting},
    tracer::{Outcome, Tracer, binary, complete},
    wait::quiet,
};

const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "with_kptr_restrict_2_drops_are_exact_and_their_sites_are_addresses",
        needs: NEEDS,
        run: kptr_restrict,
    },
    Scenario {
        name: "without_tracefs_every_hook_attaches_and_drops_are_exact",
        needs: NEEDS,
        run: no_tracefs,
    },
    Scenario {
        name: "without_root_these_capabilities_suffice_and_fewer_are_refused",
        needs: &[Need::Root, Need::Program("ip"), Need::Program("setpriv")],
        run: capabilities,
    },
    Scenario {
        name: "under_lockdown_drops_are_exact_and_what_is_refused_is_said",
        needs: NEEDS,
        run: lockdown,
    },
];

const PORT: u16 = 7113;
const PACKETS: u64 = 300;
const KPTR_RESTRICT: &str = "/proc/sys/kernel/kptr_restrict";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Hooks that every kernel of the matrix attaches without being asked.
const HOOKS: &[&str] = &[
    "enqueue_to_backlog",
    "irq_handler_entry",
    "irq_handler_exit",
    "softirq_raise",
    "softirq_entry",
    "softirq_exit",
    "napi_poll",
    "kfree_skb",
];

/// What a tracer with these arguments, in the receiver's namespace, says of datagrams to a closed port.
fn observe(args: &[&str]) -> Result<Outcome> {
    let pair = Pair::new()?;
    let tracer = Tracer::start(Some(&pair.receiver), args)?;
    quiet();
    let flood = Flood::new(Pair::RECEIVER, PORT, PACKETS);
    closed_port::send(flood, &pair.sender, &pair.receiver)?;
    let outcome = tracer.stop()?;
    findings::explained(&outcome.summary)?;
    Ok(outcome)
}

fn check_attached(report: &Report) -> Result<()> {
    for name in HOOKS {
        let row = report.hooks.iter().find(|row| row.name == *name);
        ensure!(
            row.is_some_and(|row| row.status == HookStatus::Attached),
            "{name}: {row:?}"
        );
    }
    Ok(())
}

/// Fails unless these drops are all shown as addresses, or all by name, and the notes fit.
fn check_names(report: &Report, hidden: bool) -> Result<()> {
    for drop in closed_port::drops(report, Pair::RECEIVER_DEVICE)? {
        ensure!(
            drop.site.starts_with("0x") == hidden && drop.site.contains("udp") != hidden,
            "names are hidden: {hidden}: {drop:?}"
        );
    }
    let says = report
        .notes
        .iter()
        .any(|note| note.contains("kallsyms shows no addresses"));
    ensure!(says == hidden, "notes: {:?}", report.notes);
    Ok(())
}

fn kptr_restrict() -> Result<()> {
    let hidden = Setting::change(KPTR_RESTRICT, "2")?;
    let outcome = observe(&[])?;
    hidden.restore()?;
    check_attached(&outcome.summary)?;
    closed_port::check(&outcome, Pair::RECEIVER_DEVICE, PACKETS)?;
    check_names(&outcome.summary, true)?;
    note(format_args!("{:#?}", outcome.summary.notes));
    Ok(())
}

fn no_tracefs() -> Result<()> {
    // In a mount namespace of this thread's and of what it starts.
    unshare(CloneFlags::CLONE_NEWNS)?;
    for at in [
        "/sys/kernel/debug/tracing",
        "/sys/kernel/debug",
        "/sys/kernel/tracing",
    ] {
        match umount2(at, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for at in ["/sys/kernel/debug/tracing", "/sys/kernel/tracing"] {
        let events = Path::new(at).join("events");
        ensure!(!events.exists(), "{} is still there", events.display());
    }
    let outcome = observe(&[])?;
    check_attached(&outcome.summary)?;
    closed_port::check(&outcome, Pair::RECEIVER_DEVICE, PACKETS)?;
    check_names(&outcome.summary, false)?;
    // A kprobe is what tracefs is commonly used for.
    let kprobe = "enqueue_to_backlog=kprobe";
    need_hook(kprobe)?;
    let outcome = observe(&["--hook", kprobe])?;
    check_attached(&outcome.summary)?;
    closed_port::check(&outcome, Pair::RECEIVER_DEVICE, PACKETS)?;
    note("enqueue_to_backlog by fentry and by kprobe");
    Ok(())
}

/// Runs tracer as nobody, with no capabilities but these.
fn as_nobody(capabilities: &[&str], args: &[&str]) -> Result<Command> {
    let only = format!("-all,+{}", capabilities.join(",+"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([set, &only]);
    }
    command.arg(binary()?).args(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("NO_COLOR", "1");
    Ok(command)
}

const BPF: &str = "bpf";
const PERFMON: &str = "perfmon";
const SYSLOG: &str = "syslog";
const SYS_RESOURCE: &str = "sys_resource";
/// Status of a host that cannot be traced.
const CANNOT: i32 = 3;

/// Before 5.11 maps are charged to `RLIMIT_MEMLOCK`, whose default holds none of tracer's.
fn charges_memlock() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let mut next = || numbers.next().context("a release is two numbers");
    Ok((next()??, next()??) < (5, 11))
}

fn capabilities() -> Result<()> {
    let run = &["run", "--format", "json", "--duration", "3s"];
    let mut needed = vec![BPF, PERFMON];
    if charges_memlock()? {
        needed.push(SYS_RESOURCE);
    }
    for lacking in &needed {
        let few: Vec<_> = needed
            .iter()
            .filter(|one| *one != lacking)
            .copied()
            .collect();
        let command = as_nobody(&[few, vec![SYSLOG]].concat(), run)?;
        let (status, _, stderr) = complete(None, command, Duration::from_secs(10))?;
        ensure!(
            status.code() == Some(CANNOT)
                && stderr.contains(&format!("CAP_{}", lacking.to_uppercase())),
            "without {lacking}: {status}: {stderr}"
        );
    }
    for (capabilities, hidden) in [
        (needed.clone(), true),
        ([needed, vec![SYSLOG]].concat(), false),
    ] {
        let pair = Pair::new()?;
        let tracer = Tracer::start_under(as_nobody(&capabilities, run)?)?;
        quiet();
        let flood = Flood::new(Pair::RECEIVER, PORT, PACKETS);
        closed_port::send(flood, &pair.sender, &pair.receiver)?;
        let outcome = tracer.finish()?;
        closed_port::check(&outcome, Pair::RECEIVER_DEVICE, PACKETS)?;
        findings::explained(&outcome.summary)?;
        check_attached(&outcome.summary)?;
        check_names(&outcome.summary, hidden)?;
        note(format_args!(
            "{capabilities:?} suffice; names hidden: {hidden}"
        ));
    }
    Ok(())
}

fn lockdown() -> Result<()> {
    let level =
        fs::read_to_string(LOCKDOWN).map_err(|_| Skip("this kernel has no lockdown".to_owned()))?;
    ensure!(level.contains("[confidentiality]"), "{LOCKDOWN}: {level}");
    let outcome = observe(&[])?;
    let report = &outcome.summary;
    check_attached(report)?;
    closed_port::check(&outcome, Pair::RECEIVER_DEVICE, PACKETS)?;
    check_names(report, false)?;
    closed_port::check_note(&report.notes, "lockdown=confidentiality")?;
    // Whatever reads kernel memory by address is refused, and that is said.
    let outcome = observe(&["--hook", "kfree_skb=raw_tp"])?;
    let row = outcome
        .summary
        .hooks
        .iter()
        .find(|row| row.name == "kfree_skb");
    ensure!(
        row.is_some_and(|row| row.status == HookStatus::Failed && row.reason.is_some())
            && outcome.summary.answer.contains("drops unknown"),
        "{row:?}: {}",
        outcome.summary.answer
    );
    note(format_args!(
        "{:?}; {row:?}; reasons: {:?}; {}",
        report.notes,
        drop_reason("NO_SOCKET")?,
        setting::read(LOCKDOWN)?
    ));
    Ok(())
}
