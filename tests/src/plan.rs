//! Plans made by hand, and what becomes of them.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tracer::{
    model::setting::Setting,
    tune::plan::{Part, Plan, Planned, Step},
};

use crate::scenario::note;

/// A change from what is there now, if that is to be checked.
#[must_use]
pub fn change(setting: Setting, from: Option<String>, to: &str) -> Planned {
    Planned {
        setting,
        from,
        to: to.to_owned(),
    }
}

/// A plan of these changes for this host.
pub fn of(changes: Vec<Planned>) -> Result<Plan> {
    let uname = nix::sys::utsname::uname()?;
    let step = Step {
        part: Part::Backlog,
        title: "Everything".to_owned(),
        why: "a test".to_owned(),
        finding: "none".to_owned(),
        effect: "none".to_owned(),
        risk: None,
        changes,
    };
    let mut plan = Plan {
        kind: "plan".to_owned(),
        schema: 1,
        id: "1".to_owned(),
        steps: vec![step],
        ..Plan::default()
    };
    plan.host.hostname = uname.nodename().to_string_lossy().into_owned();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    plan.host.boot_id = Some(boot.trim().to_owned());
    plan.host.kernel = uname.release().to_string_lossy().into_owned();
    Ok(plan)
}

/// Applies the plan in `file`, of so many changes, and reverts it, each killed at every step; then reverts once more, and
/// looks whether all is as before. `tune` runs `tracer tune` with arguments and a fault.
pub fn kill_at_each_step(
    file: &str,
    changes: usize,
    tune: impl Fn(&[&str], &str) -> Result<(ExitStatus, String, String)>,
    is_untouched: impl Fn(&str) -> Result<()>,
) -> Result<()> {
    let apply = ["apply", file, "--yes"];
    let killed = |args: &[&str], fault: &str| -> Result<bool> {
        let (status, out, err) = tune(args, fault)?;
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        ensure!(
            killed || status.success(),
            "{args:?} {fault}: {status}: {out} {err}"
        );
        Ok(killed)
    };
    let mut deaths = [0; 2];
    for (deaths, victim) in deaths.iter_mut().zip(["apply", "revert"]) {
        loop {
            let fault = format!("{victim}:{deaths}");
            let died = if victim == "apply" {
                killed(&apply, &fault)?
            } else {
                killed(&apply, "")?;
                killed(&["revert"], &fault)?
            };
            killed(&["revert"], "")?;
            is_untouched(&format!("{victim} killed at {deaths}"))?;
            if !died {
                break;
            }
            *deaths += 1;
        }
    }
    note(format_args!("killed at {deaths:?} steps"));
    // Before and after each write, and once behind the marks in the journal, before the bans of irqbalance are lifted.
    let writes = 2 * changes;
    ensure!(
        deaths[0] == writes && (writes..=writes + 1).contains(&deaths[1]),
        "killed {deaths:?} times"
    );
    Ok(())
}
