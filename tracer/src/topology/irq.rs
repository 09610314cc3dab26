//! Interrupts of network devices: /proc/irq, /sys/class/net and the names that drivers give their handlers.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::proc::{Roots, error::read_fact, interrupts::Interrupts};

/// What is known about one interrupt besides its counts. `None`: the kernel does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IrqFacts {
    /// Handler names as in /proc/interrupts; empty if no handler is installed.
    pub name: String,
    /// Network device.
    pub device: Option<String>,
    /// Queue of that device. Of a transmit queue too, where that has an interrupt of its own.
    pub queue: Option<u32>,
    /// NUMA node of the interrupt's descriptor, /proc/irq/N/node; `None` for −1.
    pub node: Option<u32>,
    /// CPUs that it may run on: /proc/irq/N/`smp_affinity_list`.
    pub affinity: Option<String>,
    /// CPUs that it was given to: /proc/irq/N/`effective_affinity_list` (4.15).
    pub effective_affinity: Option<String>,
}

/// A network device on a bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetBusDevice {
    /// Name of the network device.
    pub name: String,
    /// Names of its bus device and, for virtio, of the device below that: `virtio2`, `0000:00:03.0`.
    pub bus_names: Vec<String>,
    /// Its message-signalled interrupts. Those of a line are not here: they are shared.
    pub irqs: Vec<u32>,
}

/// Owner of an interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Network device.
    pub device: &'a str,
    /// Its queue; `None` if the name does not tell or it serves no queue (link changes, configuration).
    pub queue: Option<u32>,
}

/// Facts about every numbered interrupt of `interrupts`.
#[must_use]
pub fn read(roots: &Roots, interrupts: &Interrupts) -> BTreeMap<u32, IrqFacts> {
    let devices = net_bus_devices(&roots.sys);
    interrupts
        .device
        .iter()
        .map(|(&irq, row)| (irq, read_one(&roots.proc, irq, &row.name, &devices)))
        .collect()
}

/// The same without devices if what is `shown` by sysfs is another network namespace: there may be one of that name here.
#[must_use]
pub fn shown(irqs: &BTreeMap<u32, IrqFacts>, shown: bool) -> BTreeMap<u32, IrqFacts> {
    let mut irqs = irqs.clone();
    if !shown {
        for facts in irqs.values_mut() {
            (facts.device, facts.queue) = (None, None);
        }
    }
    irqs
}

fn read_one(proc: &Path, irq: u32, name: &str, devices: &[NetBusDevice]) -> IrqFacts {
    let directory = proc.join("irq").join(irq.to_string());
    let owner = owner(irq, name, devices);
    IrqFacts {
        name: name.to_owned(),
        device: owner.as_ref().map(|owner| owner.device.to_owned()),
        queue: owner.and_then(|owner| owner.queue),
        node: read_fact(&directory.join("node")).and_then(|node| node.parse().ok()),
        affinity: read_fact(&directory.join("smp_affinity_list")),
        effective_affinity: read_fact(&directory.join("effective_affinity_list")),
    }
}

/// The devices of /sys/class/net that are on a bus: those of the network namespace that mounted sysfs.
#[must_use]
pub fn net_bus_devices(sys: &Path) -> Vec<NetBusDevice> {
    let mut devices: Vec<_> = std::fs::read_dir(sys.join("class/net"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| net_bus_device(&entry.path()))
        .collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

pub(super) fn net_bus_device(class: &Path) -> Option<NetBusDevice> {
    let mut bus = std::fs::canonicalize(class.join("device")).ok()?;
    let mut device = NetBusDevice {
        name: utf8(class.file_name())?,
        bus_names: vec![utf8(bus.file_name())?],
        irqs: Vec::new(),
    };
    // The vectors of a virtio device are those of the PCI function that carries it alone.
    let is_virtio = std::fs::read_link(bus.join("subsystem"))
        .is_ok_and(|link| link.file_name() == Some(OsStr::new("virtio")));
    if is_virtio && let Some(parent) = bus.parent().map(PathBuf::from) {
        device.bus_names.extend(utf8(parent.file_name()));
        bus = parent;
    }
    device.irqs = std::fs::read_dir(bus.join("msi_irqs"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    device.irqs.sort_unstable();
    Some(device)
}

fn utf8(name: Option<&OsStr>) -> Option<String> {
    name?.to_str().map(str::to_owned)
}

/// The network device that interrupt `irq` belongs to, and its queue. `handlers` are the names in
/// /proc/interrupts.
///
/// sysfs decides where one device alone has the vector: a driver's name for its handler is as old as the
/// vector, the device may have been renamed since. Else a handler name decides that has the device's name
/// or that of its bus device in it.
#[must_use]
pub fn owner<'a>(irq: u32, handlers: &str, devices: &'a [NetBusDevice]) -> Option<Owner<'a>> {
    let holders: Vec<_> = devices
        .iter()
        .filter(|device| device.irqs.contains(&irq))
        .collect();
    if let [only] = holders.as_slice() {
        let queue = handlers
            .split(", ")
            .find_map(|handler| queue(handler, &only.name));
        return Some(Owner {
            device: &only.name,
            queue,
        });
    }
    handlers.split(", ").find_map(|handler| {
        let by_name = |device: &&NetBusDevice| find_word(handler, &device.name).is_some();
        let by_bus = |device: &&NetBusDevice| {
            let mut names = device.bus_names.iter();
            names.any(|name| find_word(handler, name).is_some())
        };
        let device = devices
            .iter()
            .filter(by_name)
            .max_by_key(|device| device.name.len())
            .or_else(|| only(devices.iter().filter(by_bus)))?;
        Some(Owner {
            device: &device.name,
            queue: queue(handler, &device.name),
        })
    })
}

/// The item, if it is the only one: two ports may share a PCI function.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// Where `word` is in `text` with no letter or digit beside it: `eth1` is not in `eth10-rx-0`.
fn find_word(text: &str, word: &str) -> Option<usize> {
    if word.is_empty() {
        return None;
    }
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// What drivers call a queue's vector, in lower case.
const QUEUE_WORDS: [&str; 11] = [
    "rx", "tx", "txrx", "rxtx", "trx", "fp", "q", "queue", "comp", "input", "output",
];

/// The queue in a handler name: the number in or after a word for a queue (`eth0-TxRx-3`, `eth0-Tx-Rx-3`,
/// `mlx5_comp3@pci:…`, `virtio2-input.0`, `eth0-q3-rx`), or nothing but a number after the device (`eth0-3`).
fn queue(handler: &str, device: &str) -> Option<u32> {
    let name = handler.split('@').next()?.trim();
    let name = match find_word(name, device) {
        Some(at) => name.get(at + device.len()..)?,
        None => name,
    };
    let tail_of_device = name.len() < handler.len() && !handler.contains('@');
    let name = name.to_ascii_lowercase();
    let mut words = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .peekable();
    if tail_of_device
        && let Some(number) = only(words.clone())
        && is_number(number)
    {
        return number.parse().ok();
    }
    while let Some(word) = words.next() {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        if !QUEUE_WORDS.contains(&letters) {
            continue;
        }
        let number = word.get(letters.len()..).unwrap_or_default();
        if is_number(number) {
            return number.parse().ok();
        }
        if let Some(number) = words.peek().filter(|word| is_number(word)) {
            return number.parse().ok();
        }
    }
    None
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use proptest::prelude::*;

    use super::*;

    fn device(name: &str, bus_names: &[&str], irqs: &[u32]) -> NetBusDevice {
        NetBusDevice {
            name: name.into(),
            bus_names: bus_names.iter().map(|&name| name.into()).collect(),
            irqs: irqs.into(),
        }
    }

    fn of_name(handlers: &str) -> Option<(String, Option<u32>)> {
        let devices = [
            device("eth0", &["virtio2", "0000:00:03.0"], &[]),
            device("eth1", &["0000:01:00.0"], &[]),
            device("eth10", &["0000:02:00.0"], &[]),
            device("enp3s0f0np0", &["0000:03:00.0"], &[]),
            device("port-a", &["0000:04:00.0"], &[]),
            device("port-b", &["0000:04:00.0"], &[]),
        ];
        owner(1, handlers, &devices).map(|owner| (owner.device.to_owned(), owner.queue))
    }

    #[test]
    fn the_names_that_drivers_use_tell_device_and_queue() {
        for (handlers, device, queue) in [
            ("eth0-rx-3", "eth0", Some(3)),
            ("eth0-tx-2", "eth0", Some(2)),
            ("eth0-TxRx-3", "eth0", Some(3)),
            ("eth0-Tx-Rx-7", "eth0", Some(7)),
            ("eth10-TxRx-12", "eth10", Some(12)),
            ("i40e-eth0-TxRx-0", "eth0", Some(0)),
            ("ice-enp3s0f0np0-TxRx-63", "enp3s0f0np0", Some(63)),
            ("i40e-0000:01:00.0:misc", "eth1", None),
            ("virtio2-input.0", "eth0", Some(0)),
            ("virtio2-output.1", "eth0", Some(1)),
            ("virtio2-config", "eth0", None),
            ("mlx5_comp3@pci:0000:01:00.0", "eth1", Some(3)),
            ("mlx5_async0@pci:0000:01:00.0", "eth1", None),
            ("ena-mgmnt@pci:0000:01:00.0", "eth1", None),
            ("mana_q5@pci:0000:01:00.0", "eth1", Some(5)),
            ("hns3-0000:02:00.0-TxRx-4", "eth10", Some(4)),
            ("eth1-q3-rx", "eth1", Some(3)),
            ("eth1-rxtx-1", "eth1", Some(1)),
            ("eth1-fp-1", "eth1", Some(1)),
            ("eth1-Rx9", "eth1", Some(9)),
            ("eth1:rx-2", "eth1", Some(2)),
            ("eth1 (queue 3)", "eth1", Some(3)),
            ("eth1-3", "eth1", Some(3)),
            ("eth1-event-2", "eth1", None),
            ("eth1", "eth1", None),
            ("port-a-rx-1", "port-a", Some(1)),
            ("ehci_hcd:usb1, eth0", "eth0", None),
        ] {
            assert_eq!(
                of_name(handlers),
                Some((device.into(), queue)),
                "{handlers}"
            );
        }
    }

    #[test]
    fn names_of_other_devices_tell_nothing() {
        for handlers in [
            "",
            "virtio1-req.0",
            "virtio20-input.0",
            "eth2-rx-0",
            "xeth0-rx-0",
            "ACPI:Ged",
            "nvme0q1",
            "mlx5_comp0@pci:0000:04:00.0",
        ] {
            assert_eq!(of_name(handlers), None, "{handlers}");
        }
    }

    #[test]
    fn sysfs_knows_a_renamed_device() {
        let devices = [device("ens1f0", &["0000:01:00.0"], &[40, 41])];
        let found = owner(41, "i40e-eth0-TxRx-1", &devices).unwrap();
        assert_eq!((found.device, found.queue), ("ens1f0", Some(1)));
        assert_eq!(owner(42, "i40e-eth0-TxRx-2", &devices), None);
    }

    #[test]
    fn ports_that_share_a_function_are_told_apart_by_name_only() {
        let devices = [
            device("eth2", &["0000:01:00.0"], &[40]),
            device("eth3", &["0000:01:00.0"], &[40]),
        ];
        assert_eq!(owner(40, "eth3-rx-0", &devices).unwrap().device, "eth3");
        assert_eq!(owner(40, "mlx4-1@0000:01:00.0", &devices), None);
    }

    #[test]
    fn facts_are_read_from_proc_and_sysfs() {
        let root = tempfile::tempdir().unwrap();
        let roots = Roots {
            proc: root.path().join("proc"),
            sys: root.path().join("sys"),
            ..Roots::default()
        };
        let function = roots.sys.join("devices/pci0000:00/0000:00:03.0");
        let virtio = function.join("virtio2");
        for directory in [
            roots.proc.join("irq/38"),
            function.join("msi_irqs"),
            virtio.join("net/eth0"),
            roots.sys.join("class/net"),
            roots.sys.join("bus/virtio"),
            roots.sys.join("devices/virtual/net/lo"),
        ] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(function.join("msi_irqs/38"), "msix\n").unwrap();
        symlink(roots.sys.join("bus/virtio"), virtio.join("subsystem")).unwrap();
        symlink(&virtio, virtio.join("net/eth0/device")).unwrap();
        symlink(virtio.join("net/eth0"), roots.sys.join("class/net/eth0")).unwrap();
        symlink(
            roots.sys.join("devices/virtual/net/lo"),
            roots.sys.join("class/net/lo"),
        )
        .unwrap();
        let irq = roots.proc.join("irq/38");
        fs::write(irq.join("smp_affinity_list"), "0-1\n").unwrap();
        fs::write(irq.join("effective_affinity_list"), "1\n").unwrap();
        fs::write(irq.join("node"), "-1\n").unwrap();
        let interrupts = crate::proc::interrupts::parse(
            "CPU0 CPU1\n38: 0 1 PCI-MSIX-0000:00:03.0 1-edge virtio2-input.0\n39: 0 0 IO-APIC 5-edge\n",
        )
        .unwrap();
        let facts = read(&roots, &interrupts);
        assert_eq!(
            facts[&38],
            IrqFacts {
                name: "virtio2-input.0".into(),
                device: Some("eth0".into()),
                queue: Some(0),
                node: None,
                affinity: Some("0-1".into()),
                effective_affinity: Some("1".into()),
            }
        );
        assert_eq!(facts[&39], IrqFacts::default());
        assert_eq!(
            net_bus_devices(&roots.sys),
            [device("eth0", &["virtio2", "0000:00:03.0"], &[38])]
        );
    }

    #[test]
    fn every_interrupt_of_this_host_has_facts() {
        let roots = Roots::default();
        let interrupts = Interrupts::read(&roots.proc).unwrap();
        let facts = read(&roots, &interrupts);
        assert_eq!(facts.len(), interrupts.device.len());
    }

    proptest! {
        #[test]
        fn no_name_makes_the_attribution_panic(
            handlers in ".*",
            close in "(eth0|é|rx|q|-|@|, |[0-9]{1,12}){0,12}",
            name in ".{0,4}",
            irq in 0u32..3,
        ) {
            let devices = [device("eth0", &["virtio0"], &[1]), device(&name, &[&name], &[2])];
            let _ = owner(irq, &handlers, &devices);
            let _ = owner(irq, &close, &devices);
        }
    }
}
