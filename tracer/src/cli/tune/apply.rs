//! `tracer tune apply` and `tracer tune revert`.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use super::{
    lines, measure::measure, need_root, now_unix_ns, plan::Refused, plan::What, print, say, style,
};
use crate::{
    analyze::rules::threshold::Thresholds,
    cli::{
        Global,
        run::{Stop, duration},
    },
    host::Capabilities,
    proc::Roots,
    report::{number::of, tune as render},
    tune::{
        self,
        apply::Applied,
        baseline::Baseline,
        fault::Fault,
        identity::Identity,
        load,
        lock::Lock,
        plan::Plan,
        real::RealHost,
        state::State,
        watch::{self, Judgement},
    },
};

/// How long to wait for another apply or revert.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a question looks whether a signal came instead of an answer.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Arguments of `tracer tune apply`.
#[derive(Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// A plan, JSON as 'tracer tune plan --format json' prints it; - is stdin. Without it, measure and plan now.
    #[arg(value_name = "PLAN", conflicts_with_all = ["app", "duration", "threshold"])]
    plan: Option<PathBuf>,

    /// Do not ask.
    #[arg(short, long)]
    yes: bool,

    /// Measure for this time afterwards, and take everything back if more of a million packets are lost than before, if
    /// hardly any come any more, or if that cannot be measured.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    watch: Option<Duration>,

    #[command(flatten)]
    what: What,
}

/// Arguments of `tracer tune revert`.
#[derive(Debug, clap::Args)]
pub(super) struct RevertArgs {
    /// Also where somebody else has changed the value since; what cannot be restored here (devices of another network
    /// namespace, places on CPUs that are offline) is forgotten.
    #[arg(long)]
    force: bool,
}

/// `tracer tune apply`.
pub(super) fn apply(args: &ApplyArgs, global: Global) -> Result<ExitCode> {
    need_root("tune apply")?;
    if args.watch.is_some() {
        // Before anything is changed that could not be watched then.
        Capabilities::check()?;
    }
    let state = State::from_env();
    let asks = !args.yes;
    let from_stdin = args
        .plan
        .as_ref()
        .is_some_and(|path| path.as_os_str() == "-");
    if asks && (from_stdin || !io::stdin().is_terminal()) {
        return Err(Refused("no terminal to ask on: give --yes".to_owned()).into());
    }
    // A plan may come from a pipe, and to wait for it can be interrupted; from then on a signal ends this in order.
    let given = args
        .plan
        .as_ref()
        .map(|path| load::plan(path))
        .transpose()?;
    let stop = signals()?;
    let plan = match given {
        Some(plan) => plan,
        None => args.what.plan(&args.what.measured()?)?,
    };
    if args.watch.is_some() && plan.baseline.scope.is_some_and(|scope| scope.restricted) {
        return Err(Refused(
            "--watch measures all devices, and this plan rests on a run with --interface: measure without it, or apply \
             without --watch"
                .to_owned(),
        )
        .into());
    }
    let traced = plan.baseline.scope.is_none_or(|scope| scope.traced);
    if args.watch.is_some() && !traced {
        say(
            "the run that this plan rests on did not trace drops (kfree_skb): --watch judges by what the backlogs refused and \
             the cards missed",
        );
    }
    if asks || args.plan.is_none() {
        print(&render::plan(&plan, &style(global)))?;
    }
    if plan.steps.is_empty() {
        say("nothing to apply");
        return Ok(ExitCode::SUCCESS);
    }
    if asks && !agreed(&plan, &stop)? {
        say("nothing was changed");
        return Ok(ExitCode::from(1));
    }
    let _lock = Lock::take(&state, PATIENCE)?;
    let own = Identity::own(&Roots::default());
    let mut host = RealHost::new();
    let mut fault = Fault::from_env("apply");
    let now = now_unix_ns();
    let applied = tune::apply::apply(&mut host, &state, &plan, &own, now, &stop, &mut fault)?;
    // That nobody reads it is no reason not to watch.
    let printed = print(&render::applied(&applied, &lines(global)));
    let status = match args.watch {
        Some(time) if !applied.changed.is_empty() => {
            let after = if stop.load(Ordering::Relaxed) {
                Err(anyhow!("stopped by a signal"))
            } else {
                measure(time, &Thresholds::default(), Stop::patient)
                    .map(|report| Baseline::like(&plan.baseline, &report))
            };
            watched(&plan, &applied, &state, after, global)
        }
        _ => Ok(ExitCode::SUCCESS),
    };
    printed.and(status)
}

/// Set by the signals that would end this process in the middle of its changes.
fn signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn agreed(plan: &Plan, stop: &AtomicBool) -> Result<bool> {
    let changes = of(plan.changes().count() as u64, "change");
    let mut err = io::stderr().lock();
    let asked = write!(err, "Make {changes} now? [y/N] ").and_then(|()| err.flush());
    if asked.is_err() {
        // Who does not see the question has not agreed.
        return Ok(false);
    }
    let mut stdin = io::stdin().lock();
    let mut answer = String::new();
    if has_answer(stdin.as_fd(), stop) {
        stdin.read_line(&mut answer)?;
    } else {
        let _ = writeln!(err);
    }
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Waits until there is something to read; false if a signal comes first.
fn has_answer(input: BorrowedFd<'_>, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let mut input = [PollFd::new(&input, PollFlags::IN)];
        match poll(&mut input, Some(&LOOK)) {
            // Without a line to wait for, reading tells.
            Ok(1..) => return !stop.load(Ordering::Relaxed),
            Err(error) if error != rustix::io::Errno::INTR => return true,
            _ => {}
        }
    }
    false
}

/// Takes this plan's changes back if it got worse since, or if that cannot be told.
fn watched(
    plan: &Plan,
    applied: &Applied,
    state: &State,
    after: Result<Baseline>,
    global: Global,
) -> Result<ExitCode> {
    if let Ok(after) = &after {
        say(&format!("before: {}", render::losses(&plan.baseline)));
        say(&format!("after: {}", render::losses(after)));
    }
    let known = after.as_ref().map_err(|error| format!("{error:#}"));
    let why = match watch::judge(&plan.baseline, known) {
        Judgement::Stay => return Ok(ExitCode::SUCCESS),
        Judgement::Unknown(why) => {
            say(&format!("{why}: the changes stay"));
            return Ok(ExitCode::SUCCESS);
        }
        Judgement::Back(why) => why,
    };
    let n = applied.changed.len() as u64;
    say(&format!("{why}: taking {} back", of(n, "change")));
    let reverted = tune::apply::withdraw(&mut RealHost::new(), state, applied)?;
    say_unmarked(reverted.unmarked.as_deref());
    print(&render::reverted(&reverted, &lines(global)))?;
    after.map(|_| ExitCode::from(1))
}

/// `tracer tune revert`.
pub(super) fn revert(args: &RevertArgs, global: Global) -> Result<ExitCode> {
    need_root("tune revert")?;
    let state = State::from_env();
    let _lock = Lock::take(&state, PATIENCE)?;
    let own = Identity::own(&Roots::default());
    revert_now(&state, &own, args.force, global)
}

fn revert_now(state: &State, own: &Identity, force: bool, global: Global) -> Result<ExitCode> {
    let mut host = RealHost::new();
    let mut fault = Fault::from_env("revert");
    // Half a revert is of no use to anybody: it goes on to its end.
    let _ignored = signals()?;
    let reverted = tune::revert::revert(&mut host, state, own, force, now_unix_ns(), &mut fault)?;
    let Some(reverted) = reverted else {
        print("nothing is applied\n")?;
        return Ok(ExitCode::SUCCESS);
    };
    let unmarked = reverted.unmarked.as_deref();
    say_unmarked(unmarked.filter(|_| !reverted.is_complete()));
    print(&render::reverted(&reverted, &lines(global)))?;
    Ok(if reverted.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn say_unmarked(why: Option<&str>) {
    if let Some(why) = why {
        say(&format!(
            "cannot mark in the journal what is restored: {why}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_signal_is_no_answer() {
        let (reader, mut writer) = io::pipe().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let asked = scope.spawn(|| has_answer(reader.as_fd(), &stop));
            // That nobody answers in the meantime is no answer either.
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            assert!(!asked.join().unwrap());
        });
        writer.write_all(b"y\n").unwrap();
        assert!(!has_answer(reader.as_fd(), &stop));
        assert!(has_answer(reader.as_fd(), &AtomicBool::new(false)));
    }
}
