//! Rule 7: irqbalance runs and will move what is pinned.

use super::{
    case::Case,
    found::{Found, NOTHING, Verdict, With as _, step},
};
use crate::{
    model::{
        finding::{Advice, Severity},
        topology::Irqbalance,
    },
    report::number::{of, ranges},
};

pub(super) const ID: &str = "irqbalance";

pub(super) fn judge(case: Case<'_>) -> Verdict {
    if case.host.cpus.is_empty() {
        return Err("whether irqbalance runs: the host's set-up was not read".to_owned());
    }
    let Some(daemon) = &case.host.irqbalance else {
        return NOTHING;
    };
    let is_free = |irq: &u32| !daemon.banned_irqs.contains(irq);
    let active = case
        .devices()
        .into_iter()
        .filter(|device| case.received(device) > 0);
    let vectors = active.flat_map(|device| case.vectors(device));
    let mut free: Vec<u32> = vectors.map(|(irq, _)| irq).filter(is_free).collect();
    free.sort_unstable();
    free.dedup();
    if free.is_empty() {
        return NOTHING;
    }
    let summary = format!(
        "irqbalance (pid {}) runs and may move {} of network devices: affinities set by hand will not last",
        daemon.pid,
        of(free.len() as u64, "vector")
    );
    let cpus = case
        .report
        .irqs
        .iter()
        .filter(|irq| free.binary_search(&irq.irq).is_ok());
    Found::new(ID, Severity::Info, summary)
        .on(cpus.flat_map(|irq| irq.per_cpu.keys().copied()))
        .evidence(
            "irqbalance",
            format!("pid {}", daemon.pid),
            format!("/proc/{}/cmdline", daemon.pid),
        )
        .evidence(
            "vectors that it does not leave alone",
            format!("IRQ {}", ranges(free.iter().copied())),
            "--banirq",
        )
        .advice([ban(daemon, &free)])
        .useless(
            "only stopping it: it comes back with the next boot, and other devices lose its care",
        )
        .alone()
}

/// Arguments as `$IRQBALANCE_ARGS` of the unit can carry them: words without quotes; `None` if one is none.
/// `--foreground` stays: given twice it means the same.
fn carried(daemon: &Irqbalance) -> Option<&[String]> {
    let is_plain = |arg: &String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:".contains(c);
        !arg.is_empty() && arg.chars().all(is_plain)
    };
    daemon.args.iter().all(is_plain).then_some(&daemon.args)
}

fn ban(daemon: &Irqbalance, irqs: &[u32]) -> Advice {
    let bans: Vec<String> = irqs.iter().map(|irq| format!("--banirq={irq}")).collect();
    let advice = step(
        "Make irqbalance leave these vectors alone, before pinning them",
        "it looks again every ten seconds and at each hotplug, and does what it thinks best",
    );
    let Some(args) = carried(daemon) else {
        return advice.risk(format!(
            "no command here, its present arguments need quotes: add {} to them by hand",
            bans.join(" ")
        ));
    };
    let args: Vec<&str> = args.iter().chain(&bans).map(String::as_str).collect();
    // Debian's unit reads the first whether there is an /etc/sysconfig or not.
    let file = "f=/etc/default/irqbalance; [ -f /etc/sysconfig/irqbalance ] && f=/etc/sysconfig/irqbalance";
    let restart = "systemctl restart irqbalance";
    advice
        .command(format!(
            "{file}; printf '#tracer\\nIRQBALANCE_ARGS=\"%s\"\\n' \"{}\" >> $f; {restart}",
            args.join(" ")
        ))
        .undo(format!("{file}; sed -i '/^#tracer$/,+1d' $f; {restart}"))
        .risk(
            "the restart moves other interrupts once; the file is that of Debian, Fedora and their kin",
        )
}
