//! Which host a plan is for.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

use crate::{
    model::report,
    proc::{Roots, error::read_fact},
};

/// A host and its present boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Node name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// /etc/machine-id; `null`: it has none, or the plan was made elsewhere.
    pub machine_id: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`; `null`: not of a boot that is known.
    pub boot_id: Option<String>,
    /// Inode number of the network namespace that the devices are in; `null`: the plan was made elsewhere.
    pub netns: Option<u64>,
}

impl Identity {
    /// Of this host.
    #[must_use]
    pub fn own(roots: &Roots) -> Self {
        let uname = rustix::system::uname();
        let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
        Self {
            hostname: text(uname.nodename()),
            kernel: text(uname.release()),
            machine_id: read_fact("/etc/machine-id".as_ref()),
            boot_id: read_fact(&roots.proc.join("sys/kernel/random/boot_id")),
            netns: fs::metadata(roots.proc.join("self/ns/net"))
                .ok()
                .map(|metadata| metadata.ino()),
        }
    }

    /// Of the host that `report` is about, as far as it can be known on `own`. Of another boot only what outlives a boot.
    #[must_use]
    pub fn of_report(report: &report::Report, own: &Self) -> Self {
        let host = &report.host;
        if host.name != own.hostname || host.kernel != own.kernel {
            return Self {
                hostname: host.name.clone(),
                kernel: host.kernel.clone(),
                ..Self::default()
            };
        }
        let is_this_boot = host.boot_id.is_some() && host.boot_id == own.boot_id;
        Self {
            boot_id: own.boot_id.clone().filter(|_| is_this_boot),
            netns: host.netns.filter(|_| is_this_boot),
            ..own.clone()
        }
    }

    /// Why what `report` found may not be so on `own`. Of the `wanted` devices none may be missing `here`.
    #[must_use]
    pub fn doubts(
        report: &report::Report,
        own: &Self,
        wanted: &BTreeSet<&str>,
        here: Option<&BTreeSet<String>>,
    ) -> Vec<String> {
        let host = &report.host;
        let then = Self {
            hostname: host.name.clone(),
            kernel: host.kernel.clone(),
            boot_id: host.boot_id.clone(),
            netns: host.netns.filter(|_| host.boot_id == own.boot_id),
            machine_id: None,
        };
        let mut found = then.compared(own, "the run's");
        if !found.is_empty() {
            return found;
        }
        if host.boot_id.is_none() {
            found.push("the run does not tell its boot, an earlier tracer recorded it".to_owned());
        }
        let Some(here) = here else {
            return found;
        };
        let missing = wanted.iter().filter(|name| !here.contains(**name));
        found.extend(missing.map(|name| format!("there is no device {name} any more")));
        found
    }

    /// What of `own`, the host here, is not as it was for this plan.
    #[must_use]
    pub fn differences(&self, own: &Self) -> Vec<String> {
        self.compared(own, "the plan's")
    }

    fn compared(&self, own: &Self, whose: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, plan: Option<&String>, here: Option<&String>| {
            if plan.is_some() && plan != here {
                let text = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
                found.push(format!("{what} is {}, {whose} {}", text(here), text(plan)));
            }
        };
        compare("host name", Some(&self.hostname), Some(&own.hostname));
        compare("kernel", Some(&self.kernel), Some(&own.kernel));
        compare(
            "machine-id",
            self.machine_id.as_ref(),
            own.machine_id.as_ref(),
        );
        compare("boot id", self.boot_id.as_ref(), own.boot_id.as_ref());
        let netns = |id: &Self| id.netns.map(|inode| inode.to_string());
        compare(
            "network namespace",
            netns(self).as_ref(),
            netns(own).as_ref(),
        );
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::Report;

    fn own() -> Identity {
        Identity {
            hostname: "db7".into(),
            kernel: "6.12".into(),
            machine_id: Some("m".into()),
            boot_id: Some("now".into()),
            netns: Some(7),
        }
    }

    fn report(boot_id: Option<&str>, netns: u64) -> Report {
        Report {
            host: report::Host {
                name: "db7".into(),
                kernel: "6.12".into(),
                boot_id: boot_id.map(str::to_owned),
                netns: Some(netns),
                ..report::Host::default()
            },
            ..Report::default()
        }
    }

    #[test]
    fn a_run_is_of_this_boot_if_it_says_so() {
        let of = |report: &Report| Identity::of_report(report, &own());
        assert_eq!(of(&report(Some("now"), 7)), own());
        assert_eq!(of(&report(Some("now"), 8)).netns, Some(8));
        for boot in [None, Some("last")] {
            let then = of(&report(boot, 7));
            assert_eq!((then.boot_id, then.netns), (None, None));
        }
        let mut other = report(Some("now"), 7);
        other.host.name = "db8".into();
        assert_eq!(of(&other).machine_id, None);
    }

    #[test]
    fn what_differs_from_the_run_is_told() {
        let here: BTreeSet<String> = ["eth0".to_owned()].into();
        let wanted = ["eth0"].into();
        let told =
            |report: &Report, devices| Identity::doubts(report, &own(), &wanted, Some(devices));
        assert!(told(&report(Some("now"), 7), &here).is_empty());
        let no_devices = BTreeSet::new();
        let gone = told(&report(Some("now"), 7), &no_devices).join("; ");
        assert!(gone.contains("no device eth0"), "{gone}");
        let boot = told(&report(Some("last"), 8), &here).join("; ");
        assert_eq!(boot, "boot id is now, the run's last");
        let netns = told(&report(Some("now"), 8), &here).join("; ");
        assert_eq!(netns, "network namespace is 7, the run's 8");
        assert_eq!(told(&report(None, 7), &here).len(), 1);
    }
}
