//! Where each CPU is: /sys/devices/system/cpu and /sys/devices/system/node.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::{
    model::topology::Place,
    proc::{
        cpus::{Cpus, number, read_list},
        error::read_fact,
    },
};

/// Every present CPU. An offline one has no `topology` directory, so its core is not known; its node is, by the link
/// that was made when it was plugged in. Empty, and said so in the log, without /sys/devices/system/cpu.
#[must_use]
pub fn read(sys: &Path) -> BTreeMap<u32, Place> {
    let cpus = Cpus::read(sys).unwrap_or_else(|error| {
        log::info!("{error}: nodes of CPUs from the CPUs' own links");
        let list = |name| read_list(&sys.join("devices/system/cpu").join(name)).unwrap_or_default();
        Cpus {
            online: list("online"),
            present: list("present"),
            ..Cpus::default()
        }
    });
    let directory = sys.join("devices/system/cpu");
    let isolated = read_list(&directory.join("isolated")).unwrap_or_default();
    let online: BTreeSet<u32> = cpus.online.iter().copied().collect();
    let present: BTreeSet<u32> = online.iter().chain(&cpus.present).copied().collect();
    let place = |cpu: u32| {
        let cpu_directory = directory.join(format!("cpu{cpu}"));
        let node = cpus.node_of.get(&cpu).copied();
        Place {
            online: online.contains(&cpu),
            node: node.or_else(|| node_link(&cpu_directory)),
            isolated: isolated.contains(&cpu),
            ..core(&cpu_directory.join("topology"))
        }
    };
    present.into_iter().map(|cpu| (cpu, place(cpu))).collect()
}

fn core(topology: &Path) -> Place {
    // −1: the kernel does not know; `parse` takes no sign.
    let id = |name| read_fact(&topology.join(name)).and_then(|id| id.parse().ok());
    Place {
        package: id("physical_package_id"),
        core: id("core_id"),
        siblings: read_list(&topology.join("thread_siblings_list")).unwrap_or_default(),
        ..Place::default()
    }
}

/// `cpuN/nodeM`.
fn node_link(cpu: &Path) -> Option<u32> {
    let mut entries = std::fs::read_dir(cpu).ok()?.flatten();
    entries.find_map(|entry| number(entry.file_name().to_str()?.strip_prefix("node")?))
}
