//! What the host is made of: which interrupt belongs to which queue of which network device, on which node and CPUs,
//! how all that is set, and which processes compete with it.

pub mod cpu;
pub mod hypervisor;
pub mod irq;
pub mod irqbalance;
pub mod nic;
pub mod process;
pub mod seen;
pub mod settings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree;
pub mod vector;

use std::collections::BTreeMap;

use crate::{
    model::topology::{Nic, Topology},
    proc::{
        Roots,
        ethtool::{self, DeviceSettings},
        genetlink::GenericNetlink,
        netdev::{DeviceFacts, NetDevice},
        netlink::NetlinkError,
        queues::{self, Queues},
    },
};
use irq::IrqFacts;

/// What is read for other purposes too, and not read twice.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Devices of tracer's network namespace by interface index.
    pub devices: &'a BTreeMap<u32, NetDevice>,
    /// What sysfs says of them, by name.
    pub facts: &'a BTreeMap<String, DeviceFacts>,
    /// Interrupts by number.
    pub irqs: &'a BTreeMap<u32, IrqFacts>,
}

/// What generic netlink says of the devices of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Rings, channels, coalescing by interface index.
    pub settings: BTreeMap<u32, DeviceSettings>,
    /// Receive queues and NAPI instances.
    pub queues: Queues,
}

impl Asked {
    /// Asks about `devices` (interface indices) in the network namespace of this thread. What the kernel does not
    /// answer is absent, and said so in the log.
    #[must_use]
    pub fn read(devices: &[u32]) -> Self {
        let mut netlink = match GenericNetlink::open() {
            Ok(netlink) => netlink,
            Err(error) => {
                log::info!("{error}: queues and rings are known from sysfs only");
                return Self::default();
            }
        };
        let settings = ethtool::read(&mut netlink, devices);
        let queues = queues::read(&mut netlink);
        Self {
            settings: known("ethtool", settings),
            queues: known("netdev", queues),
        }
    }
}

fn known<T: Default>(family: &str, answer: Result<T, NetlinkError>) -> T {
    answer.unwrap_or_else(|error| {
        log::info!("netlink family `{family}`: {error}");
        T::default()
    })
}

/// The whole topology but for processes and the tick. No part that cannot be read hides another.
#[must_use]
pub fn gather(roots: &Roots, known: Known, asked: &Asked) -> Topology {
    let shown = nic::sysfs_shows(&roots.sys, known.devices);
    let mut irqs = vector::read(&roots.sys, known.irqs);
    if !shown {
        log::info!(
            "{} is not that of this network namespace: no queues and drivers from there",
            roots.sys.display()
        );
        for vector in irqs.values_mut() {
            vector.device = None;
        }
    }
    let nic = |device: &NetDevice| -> Nic {
        let mut nic = if shown {
            nic::read(&roots.sys, device, known.facts.get(&device.name))
        } else {
            Nic {
                ifindex: device.ifindex,
                ..Nic::default()
            }
        };
        nic::add_netlink(&mut nic, asked.settings.get(&device.ifindex), &asked.queues);
        nic::add_threads(&mut nic, &roots.proc);
        nic::add_irqs_by_name(&mut nic, &device.name, &irqs);
        nic
    };
    let devices = known.devices.values();
    let settings = settings::read(roots);
    Topology {
        cpus: cpu::read(&roots.sys),
        devices: devices.map(|d| (d.name.clone(), nic(d))).collect(),
        irqs,
        sysctls: settings.values,
        host_sysctls: settings.of_host,
        netns: None,
        irqbalance: irqbalance::read(&roots.proc),
        tick_ns: None,
        hypervisor: hypervisor::read(roots),
        processes: Vec::new(),
    }
}
