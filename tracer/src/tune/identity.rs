//! Which host a plan is for.

use std::{fs, os::unix::fs::MetadataExt as _};

use rustix::time::ClockId;
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

    /// Of the host that `report` is about, as far as it can be known on `own`.
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
        let ns = |clock| {
            let now = rustix::time::clock_gettime(clock);
            let part = |n: i64| u64::try_from(n).unwrap_or(0);
            part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
        };
        let booted = ns(ClockId::Realtime).saturating_sub(ns(ClockId::Boottime));
        Self {
            boot_id: own
                .boot_id
                .clone()
                .filter(|_| report.start_unix_ns >= booted),
            ..own.clone()
        }
    }

    /// What of `own`, the host here, is not as it was for this plan.
    #[must_use]
    pub fn differences(&self, own: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, plan: Option<&String>, here: Option<&String>| {
            if plan.is_some() && plan != here {
                let text = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
                found.push(format!(
                    "{what} is {}, the plan's {}",
                    text(here),
                    text(plan)
                ));
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
