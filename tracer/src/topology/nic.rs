//! Network devices: what sysfs and netlink know of them and of their queues.

use std::{collections::BTreeMap, path::Path};

use super::irq::net_bus_device;
use crate::{
    model::topology::{Nic, RxQueue, Vector},
    proc::{
        cpus::{number, parse_mask},
        error::{ProcError, read as read_text, read_fact},
        ethtool::DeviceSettings,
        netdev::{DeviceFacts, NetDevice},
        pid::status,
        queues::Queues,
    },
};

/// Whether `<sys>/class/net` has exactly these devices. If not, it is that of another network namespace, which may have
/// a device of the same name and index (`nsenter` and `setns` keep the mounts), or a device came or went just now.
#[must_use]
pub fn sysfs_shows(sys: &Path, devices: &BTreeMap<u32, NetDevice>) -> bool {
    let shown = std::fs::read_dir(sys.join("class/net"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let ifindex = read_fact(&entry.path().join("ifindex"))?;
            Some((number(&ifindex)?, entry.file_name().into_string().ok()?))
        });
    let shown: BTreeMap<u32, String> = shown.collect();
    let devices = devices.values().map(|d| (d.ifindex, d.name.as_str()));
    devices.eq(shown.iter().map(|(&index, name)| (index, name.as_str())))
}

/// What sysfs says of `devices`, by name: nothing if what is `shown` there is another network namespace.
#[must_use]
pub fn facts(
    sys: &Path,
    devices: &BTreeMap<u32, NetDevice>,
    shown: bool,
) -> BTreeMap<String, DeviceFacts> {
    let read = |name: &str| {
        if shown {
            DeviceFacts::read(sys, name)
        } else {
            DeviceFacts::default()
        }
    };
    let names = devices.values().map(|device| &device.name);
    names.map(|name| (name.clone(), read(name))).collect()
}

/// A device's part of sysfs. `facts` are what is known of it already.
#[must_use]
pub fn read(sys: &Path, device: &NetDevice, facts: Option<&DeviceFacts>) -> Nic {
    let directory = sys.join("class/net").join(&device.name);
    let mut nic = Nic {
        ifindex: device.ifindex,
        driver: facts.and_then(|facts| facts.driver.clone()),
        node: facts.and_then(|facts| facts.numa_node),
        bus: net_bus_device(&directory).and_then(|mut device| device.bus_names.pop()),
        ..Nic::default()
    };
    nic.threaded = read_fact(&directory.join("threaded")).map(|mode| mode != "0");
    // The kernel takes its RTNL lock for these two, and hosts have many virtual devices.
    let has_hardware = nic.bus.is_some();
    if has_hardware {
        // −1 where nobody knows, EINVAL while the link is down.
        nic.speed = read_fact(&directory.join("speed"))
            .and_then(|speed| number(&speed))
            .filter(|&speed| speed != u32::MAX);
    }
    for entry in std::fs::read_dir(directory.join("queues"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let queue = entry.path();
        let name = entry.file_name();
        let Some((direction, Some(index))) = name
            .to_str()
            .and_then(|name| name.split_once('-'))
            .map(|(direction, index)| (direction, number(index)))
        else {
            continue;
        };
        if direction == "rx" {
            nic.rx_queues
                .extend(rx_queue(&queue).map(|queue| (index, queue)));
        } else if direction == "tx"
            && has_hardware
            && let Some(mask) = read_fact(&queue.join("xps_cpus"))
        {
            nic.xps_cpus.insert(index, mask);
        }
    }
    nic
}

/// `queues/rx-N`; `None` if it is not known whether RPS is on there. Without `CONFIG_RPS` it is off.
fn rx_queue(queue: &Path) -> Option<RxQueue> {
    let mask = queue.join("rps_cpus");
    let rps_cpus = match read_text(&mask) {
        Ok(text) => parse_mask(&text).map_err(ProcError::from),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let rps_cpus = rps_cpus
        .inspect_err(|error| log::info!("{}: {error}", mask.display()))
        .ok()?;
    Some(RxQueue {
        rps_cpus,
        rps_flow_cnt: read_fact(&queue.join("rps_flow_cnt")).and_then(|flows| flows.parse().ok()),
        ..RxQueue::default()
    })
}

/// Adds what netlink knows: settings, NAPI instances, and which of them serves which queue.
pub fn add_netlink(nic: &mut Nic, settings: Option<&DeviceSettings>, queues: &Queues) {
    if let Some(settings) = settings {
        nic.ring = settings.ring;
        (nic.channel_kind, nic.channels) = settings.channels.unzip();
        nic.coalesce = settings.coalesce;
    }
    let of_device = (nic.ifindex, 0)..=(nic.ifindex, u32::MAX);
    let instances = queues.napi.range(of_device.clone());
    nic.napi = instances
        .map(|(&(_, id), napi)| (id, napi.clone()))
        .collect();
    for (&(_, index), &napi_id) in queues.rx.range(of_device) {
        let Some(queue) = nic.rx_queues.get_mut(&index) else {
            continue;
        };
        let napi = napi_id.and_then(|id| nic.napi.get(&id));
        queue.napi_id = napi_id;
        queue.irq = napi.and_then(|napi| napi.irq);
        queue.napi_pid = napi.and_then(|napi| napi.pid);
    }
}

/// Looks where the threads of NAPI instances may run. A thread of another name is not one of them: its id is of another
/// pid namespace.
pub fn add_threads(nic: &mut Nic, proc: &Path) {
    for napi in nic.napi.values_mut() {
        let Some(pid) = napi.pid else { continue };
        let dir = proc.join(pid.to_string());
        let is_napi = read_fact(&dir.join("comm")).is_some_and(|name| name.starts_with("napi/"));
        if is_napi {
            napi.allowed = status::allowed(&dir).unwrap_or_default();
        }
    }
}

/// Gives the queues of `name` that have no interrupt yet the one whose handler's name says so; none if two do.
pub fn add_irqs_by_name(nic: &mut Nic, name: &str, vectors: &BTreeMap<u32, Vector>) {
    let mut by_queue: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (&irq, vector) in vectors {
        let Some(queue) = vector
            .queue
            .filter(|_| vector.device.as_deref() == Some(name))
        else {
            continue;
        };
        if !only_transmits(&vector.name) {
            by_queue.entry(queue).or_default().push(irq);
        }
    }
    for (index, queue) in &mut nic.rx_queues {
        if let (None, Some([irq])) = (queue.irq, by_queue.get(index).map(Vec::as_slice)) {
            queue.irq = Some(*irq);
        }
    }
}

/// A handler's name that speaks of transmitting and not of receiving: `eth0-tx-2`, `virtio2-output.0`.
fn only_transmits(handler: &str) -> bool {
    let handler = handler.to_ascii_lowercase();
    let mut words = handler.split(|c: char| !c.is_ascii_alphabetic());
    let (mut transmits, mut receives) = (false, false);
    words.by_ref().for_each(|word| match word {
        "tx" | "output" => transmits = true,
        "rx" | "input" | "txrx" | "rxtx" | "trx" => receives = true,
        _ => {}
    });
    transmits && !receives
}
