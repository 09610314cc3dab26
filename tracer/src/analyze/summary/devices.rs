//! By device: the kernel's counters and what rarely changes.

use super::Facts;
use crate::model::{report::Device, window::Window};

pub(super) fn devices(window: &Window, facts: &Facts) -> Vec<Device> {
    window
        .devices
        .iter()
        .filter(|d| facts.interfaces.is_empty() || facts.interfaces.contains_key(&d.ifindex))
        .map(|d| {
            let known = facts.devices.get(&d.name);
            let nic = facts.topology.as_ref().and_then(|t| t.devices.get(&d.name));
            Device {
                name: d.name.clone(),
                ifindex: d.ifindex,
                driver: known.and_then(|k| k.driver.clone()),
                node: known.and_then(|k| k.numa_node),
                rx_packets: d.rx_packets,
                rx_bytes: d.rx_bytes,
                rx_dropped: d.rx_dropped,
                rx_missed: d.rx_missed_errors,
                rx_errors: d.rx_errors,
                rx_nohandler: d.rx_nohandler,
                queues: known.and_then(|k| k.rx_queues),
                rps: known.and_then(|k| k.rps_cpus.first().cloned()),
                ring: nic.and_then(|nic| nic.ring).map(|ring| ring.now),
                driver_stats: window
                    .driver_stats
                    .get(&d.ifindex)
                    .cloned()
                    .unwrap_or_default(),
            }
        })
        .collect()
}
