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

use anyhow::{Result, ensure};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sched::{CloneFlags, unshare},
};
use tracer::model::report::{HookStatus, Report};

use super::{Scenario, closed_port, need_hook};
use crate::{
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
    closed_port::check_explained(&outcome.summary)?;
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

/// Whether all these drops are shown as addresses, or all by name.
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
    let list = |prefix: &str| {
        let names = capabilities.iter().map(|name| format!("{prefix}{name}"));
        names.collect::<Vec<_>>().join(",")
    };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    if capabilities.is_empty() {
        command.args(["--inh-caps", "-all", "--bounding-set", "-all"]);
    } else {
        command.args(["--inh-caps", &format!("-all,{}", list("+"))]);
        command.args(["--ambient-caps", &format!("-all,{}", list("+"))]);
        command.args(["--bounding-set", &format!("-all,{}", list("+"))]);
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

fn capabilities() -> Result<()> {
    let run = &["run", "--format", "json", "--duration", "3s"];
    for few in [&[][..], &[BPF], &[PERFMON], &[SYSLOG]] {
        let limit = Duration::from_secs(10);
        let (status, _, stderr) = complete(None, as_nobody(few, run)?, limit)?;
        ensure!(
            status.code() == Some(CANNOT) && stderr.contains("CAP_"),
            "with {few:?}: {status}: {stderr}"
        );
    }
    for (enough, names) in [
        (&[BPF, PERFMON][..], false),
        (&[BPF, PERFMON, SYSLOG], true),
        (&[BPF, PERFMON, SYSLOG, SYS_RESOURCE], true),
    ] {
        let pair = Pair::new()?;
        match Tracer::start_under(as_nobody(enough, run)?) {
            Ok(tracer) => {
                quiet();
                let flood = Flood::new(Pair::RECEIVER, PORT, PACKETS);
                closed_port::send(flood, &pair.sender, &pair.receiver)?;
                let outcome = tracer.finish()?;
                closed_port::check(&outcome, Pair::RECEIVER_DEVICE, PACKETS)?;
                closed_port::check_explained(&outcome.summary)?;
                note(format_args!(
                    "{enough:?}: names {names}: {:?} {:?} {:?}",
                    check_names(&outcome.summary, !names),
                    check_attached(&outcome.summary),
                    outcome.summary.notes
                ));
            }
            Err(error) => note(format_args!("{enough:?}: {error:#}")),
        }
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
