//! A plan as a script for who would rather paste it: POSIX sh, each change with the value of now beside it.

use std::{fmt::Write as _, fs, os::unix::fs::MetadataExt as _};

use super::plan::{Plan, Planned};
use crate::{
    analyze::rules::quote,
    model::{setting::Setting, topology::Topology},
    proc::{Roots, netns},
};

/// A network namespace that is not the host's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    /// Its inode number; `None`: of another boot or host, where it has another one.
    pub inode: Option<u64>,
    /// As `ip netns` knows it.
    pub name: Option<String>,
}

impl Netns {
    /// That of the plan's devices, which the run saw in `topology`; `None`: the host's own, or not known.
    #[must_use]
    pub fn of(plan: &Plan, topology: Option<&Topology>, roots: &Roots) -> Option<Self> {
        let Some(inode) = plan.host.netns else {
            return topology.and_then(Self::of_run);
        };
        let names = netns::names(roots).unwrap_or_default();
        let name = u32::try_from(inode).ok().and_then(|n| names.get(&n));
        let init = fs::metadata(roots.proc.join("1/ns/net")).ok();
        // Who may not see that of process 1 knows those with names.
        let is_init = init.map_or(name.is_none(), |init| init.ino() == inode);
        (!is_init).then(|| Self {
            inode: Some(inode),
            name: name.cloned(),
        })
    }

    /// What is known of it in another boot or on another host.
    fn of_run(topology: &Topology) -> Option<Self> {
        let is_name = |name: &&String| !matches!(name.as_str(), "" | "." | "..");
        let name = topology.netns.as_ref().filter(is_name);
        let name = name.filter(|name| !name.contains(['/', '\0'])).cloned();
        // Only another one than the host's own lacks some of its settings.
        let is_other = name.is_some() || !topology.host_sysctls.is_empty();
        is_other.then_some(Self { inode: None, name })
    }
}

/// The script; `netns` is where its devices are. Undoing it is the second half, commented out.
#[must_use]
pub fn script(plan: &Plan, netns: Option<&Netns>) -> String {
    let mut out = String::from("#!/bin/sh\n");
    let _ = writeln!(
        out,
        "# For {}, kernel {}. Unlike tracer tune apply, this keeps no journal.",
        comment(&plan.host.hostname),
        comment(&plan.host.kernel)
    );
    if plan.steps.is_empty() {
        for note in &plan.notes {
            let _ = writeln!(out, "# {}", comment(note));
        }
    }
    out.push_str("set -e\n");
    if netns.is_some() {
        guard(&mut out, plan);
    }
    let has_devices = plan.changes().any(|c| c.setting.device().is_some());
    let netns = netns.filter(|_| has_devices);
    if let Some(netns) = netns {
        enter(&mut out, netns);
    }
    let command = |change: &Planned, value: &str| {
        let command = command(change, value);
        match netns {
            Some(_) if change.setting.device().is_some() => format!("in_netns {}", quote(&command)),
            _ => command,
        }
    };
    for step in &plan.steps {
        let _ = writeln!(
            out,
            "\n# {}\n# {}",
            comment(&step.title),
            comment(&step.why)
        );
        for change in &step.changes {
            let _ = writeln!(out, "{}", command(change, &change.to));
        }
    }
    for step in &plan.by_hand {
        let _ = writeln!(
            out,
            "\n# by hand: {}: {}",
            comment(&step.step),
            comment(&step.why)
        );
        if let Some(command) = &step.command {
            let _ = writeln!(out, "#   {}", comment(command));
        }
    }
    let back: Vec<&Planned> = plan.changes().filter(|c| c.from.is_some()).collect();
    if !back.is_empty() {
        let with = netns.map_or("", |_| ", with the lines on in_netns above");
        let _ = writeln!(out, "\n# To undo{with}:");
    }
    for change in back.into_iter().rev() {
        let from = change.from.as_deref().unwrap_or_default();
        let _ = writeln!(out, "# {}", command(change, from));
    }
    out
}

/// What it takes to run commands in the namespace, whose /sys alone has its devices; and a look whether it is that one.
fn enter(out: &mut String, netns: &Netns) {
    let inode = netns.inode.map(|inode| format!(" {inode}"));
    let which = inode.as_deref().unwrap_or(" of the run");
    let _ = match &netns.name {
        Some(name) => writeln!(out, "netns={}", quote(&format!("/run/netns/{name}"))),
        None => writeln!(
            out,
            "netns=${{1:?give the path of network namespace{which}, such as /proc/PID/ns/net}}"
        ),
    };
    let _ = match netns.inode {
        Some(inode) => write!(
            out,
            r#"if [ "$(stat -L -c %i "$netns")" != {inode} ]; then
  echo "$netns is not network namespace {inode}, that this plan is for: measure and plan again there" >&2
  exit 1
fi
"#
        ),
        None => write!(
            out,
            r#"if [ ! -e "$netns" ]; then
  echo "there is no $netns, the network namespace that this plan is for" >&2
  exit 1
fi
echo "cannot check whether $netns is the network namespace of the run, which was of another boot or host" >&2
"#
        ),
    };
    out.push_str(
        r#"in_netns() {
  nsenter --net="$netns" unshare --mount sh -c 'mount -t sysfs none /sys && eval "$1"' sh "$1"
}
"#,
    );
}

/// A look whether the settings of the whole host are there, which other network namespaces do not have.
fn guard(out: &mut String, plan: &Plan) {
    let sysctl = plan.changes().find_map(|change| match &change.setting {
        file @ Setting::Sysctl { .. } => Some(file.to_string()),
        _ => None,
    });
    if let Some(file) = sysctl {
        let _ = write!(
            out,
            r#"if [ ! -e {file} ]; then
  echo "no {file} here: run this in the host's own network namespace" >&2
  exit 1
fi
"#
        );
    }
}

/// One line, whatever is in it.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn command(change: &Planned, value: &str) -> String {
    let value = quote(value);
    match &change.setting {
        Setting::Ring { device } => format!("ethtool -G {} rx {value}", quote(device)),
        Setting::Channels { device } => format!("ethtool -L {} combined {value}", quote(device)),
        Setting::Process { pid, .. } => format!("taskset -acp {value} {pid}"),
        Setting::IrqbalanceBans { pid } => {
            format!("# irqbalance (pid {pid}): ban IRQs {value}, by irqbalance-ui or --banirq")
        }
        file => format!("echo {value} > {}", quote(&file.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::plan::{Part, Step};

    fn plan() -> Plan {
        let change = |setting, from: &str, to: &str| Planned {
            setting,
            from: Some(from.to_owned()),
            to: to.to_owned(),
        };
        let rps = Setting::RpsCpus {
            device: "eth0".into(),
            queue: 0,
        };
        Plan {
            steps: vec![Step {
                part: Part::Rps,
                title: "Steer".into(),
                why: "one CPU".into(),
                finding: String::new(),
                effect: String::new(),
                risk: None,
                changes: vec![
                    change(
                        Setting::sysctl("net.core.netdev_max_backlog"),
                        "1000",
                        "2000",
                    ),
                    change(rps, "0", "f"),
                ],
            }],
            ..Plan::default()
        }
    }

    #[test]
    fn devices_of_another_namespace_are_written_to_in_it() {
        let rps = "/sys/class/net/eth0/queues/rx-0/rps_cpus";
        let here = script(&plan(), None);
        assert!(here.contains(&format!("\necho f > {rps}\n")), "{here}");
        let blue = Netns {
            inode: Some(4_026_532_281),
            name: Some("blue".into()),
        };
        let there = script(&plan(), Some(&blue));
        assert!(there.contains("netns=/run/netns/blue\n"), "{there}");
        assert!(there.contains("!= 4026532281 ]"), "{there}");
        assert!(
            there.contains(&format!("\nin_netns 'echo f > {rps}'\n")),
            "{there}"
        );
        let sysctl = "/proc/sys/net/core/netdev_max_backlog";
        assert!(
            there.contains(&format!("\necho 2000 > {sysctl}\n")),
            "{there}"
        );
        assert!(there.contains(&format!("if [ ! -e {sysctl} ]")), "{there}");
        let of_another_boot = Netns {
            inode: None,
            ..blue.clone()
        };
        let there = script(&plan(), Some(&of_another_boot));
        assert!(there.contains("netns=/run/netns/blue\n"), "{there}");
        assert!(there.contains("if [ ! -e \"$netns\" ]"), "{there}");
        assert!(there.contains("cannot check whether"), "{there}");
        let unnamed = Netns { name: None, ..blue };
        assert!(script(&plan(), Some(&unnamed)).contains("${1:?give the path"));
    }
}
