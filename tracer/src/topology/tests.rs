//! Hosts of all kinds, made up.

use std::fmt::Write as _;

use super::{tree::Tree, *};
use crate::model::topology::{Coalesce, NapiInstance, Place, Range, RxQueue};
use crate::proc::{
    cpus::format_list,
    interrupts::{self, Interrupts},
};

/// CPUs of a host with `nodes` nodes of `cores` cores. With `threads` 2, the second threads have ids after all first
/// ones. Offline CPUs have no `topology`, and are in no node's list.
fn cpus(tree: &Tree, nodes: u32, cores: u32, threads: u32, offline: &[u32]) {
    let firsts = nodes * cores;
    let all: Vec<u32> = (0..firsts * threads).collect();
    let online: Vec<u32> = all
        .iter()
        .copied()
        .filter(|cpu| !offline.contains(cpu))
        .collect();
    let system = "sys/devices/system";
    tree.file(&format!("{system}/cpu/online"), &format_list(&online));
    tree.file(&format!("{system}/cpu/possible"), &format_list(&all));
    tree.file(&format!("{system}/cpu/present"), &format_list(&all));
    for &cpu in &all {
        let first = cpu % firsts;
        tree.directory(&format!("{system}/cpu/cpu{cpu}/node{}", first / cores));
        if offline.contains(&cpu) {
            continue;
        }
        let siblings: Vec<u32> = (0..threads)
            .map(|thread| first + thread * firsts)
            .filter(|sibling| !offline.contains(sibling))
            .collect();
        for (name, value) in [
            ("physical_package_id", (first / cores / 4).to_string()),
            ("core_id", (first % cores * 2).to_string()),
            ("thread_siblings_list", format_list(&siblings)),
        ] {
            tree.file(&format!("{system}/cpu/cpu{cpu}/topology/{name}"), &value);
        }
    }
    for node in 0..nodes {
        let of_node: Vec<u32> = online
            .iter()
            .copied()
            .filter(|cpu| cpu % firsts / cores == node)
            .collect();
        let list = format!("{system}/node/node{node}/cpulist");
        tree.file(&list, &format_list(&of_node));
    }
}

/// A PCI device on `node` with `queues` receive queues, each with a vector from `first_irq` on.
fn pci_nic(
    tree: &Tree,
    name: &str,
    ifindex: u32,
    bus: &str,
    node: i32,
    queues: u32,
    first_irq: u32,
) {
    let pci = format!("sys/devices/pci0000:00/{bus}");
    tree.file(&format!("{pci}/numa_node"), &node.to_string())
        .directory("sys/bus/pci/drivers/ice")
        .link(&format!("{pci}/driver"), "sys/bus/pci/drivers/ice")
        .link(&format!("{pci}/net/{name}/device"), &pci)
        .link(
            &format!("sys/class/net/{name}"),
            &format!("{pci}/net/{name}"),
        )
        .file(&format!("{pci}/net/{name}/ifindex"), &ifindex.to_string())
        .file(&format!("{pci}/net/{name}/speed"), "40000")
        .file(&format!("{pci}/net/{name}/threaded"), "0");
    for queue in 0..queues {
        let directory = format!("{pci}/net/{name}/queues/rx-{queue}");
        tree.file(
            &format!("{directory}/rps_cpus"),
            "00000000,00000000,00000000,00000000",
        )
        .file(&format!("{directory}/rps_flow_cnt"), "0")
        .file(&format!("{pci}/msi_irqs/{}", first_irq + queue), "msix");
    }
}

/// Interrupts by number with the name of the handler; each may run on CPU `irq % 128`.
fn interrupts(tree: &Tree, rows: &[(u32, String)]) -> Interrupts {
    let mut text = "CPU0\n".to_owned();
    for (irq, name) in rows {
        writeln!(text, "{irq}: 0 PCI-MSIX-0000:00:03.0 1-edge {name}").unwrap();
        // Of other things than network devices only the row is looked at.
        if name.starts_with("nvme") {
            continue;
        }
        let directory = format!("proc/irq/{irq}");
        tree.file(&format!("{directory}/smp_affinity_list"), "0-127")
            .file(
                &format!("{directory}/effective_affinity_list"),
                &(irq % 128).to_string(),
            )
            .file(&format!("{directory}/node"), "0");
    }
    interrupts::parse(&text).unwrap()
}

fn devices(names: &[(u32, &str)]) -> BTreeMap<u32, NetDevice> {
    let device = |&(ifindex, name): &(u32, &str)| NetDevice {
        name: name.to_owned(),
        ifindex,
        ..NetDevice::default()
    };
    let devices = names.iter().map(device);
    devices.map(|device| (device.ifindex, device)).collect()
}

fn topology(
    tree: &Tree,
    devices: &[(u32, &str)],
    interrupts: &Interrupts,
    asked: &Asked,
) -> Topology {
    let devices = self::devices(devices);
    let facts = nic::facts(tree.sys(), &devices, true);
    let known = Known {
        devices: &devices,
        facts: &facts,
        irqs: &irq::read(&tree.roots, interrupts),
    };
    gather(&tree.roots, known, asked)
}

fn none() -> Interrupts {
    interrupts::parse("CPU0\n").unwrap()
}

#[test]
fn a_wide_host_is_gathered_whole() {
    let tree = Tree::new();
    // Ids 0-63 are first threads, 64-127 second ones.
    cpus(&tree, 8, 8, 2, &[3, 64, 127]);
    tree.file("sys/devices/system/cpu/isolated", "8-9");
    pci_nic(&tree, "eth0", 2, "0000:41:00.0", 2, 64, 1000);
    pci_nic(&tree, "eth1", 5, "0000:c1:00.0", -1, 64, 5000);
    let sparse = |i: u32| match i {
        0..64 => (1000 + i, format!("ice-eth0-TxRx-{i}")),
        64..128 => (5000 + i - 64, format!("ice-eth1-TxRx-{}", i - 64)),
        i => (10_000 + i * 3, format!("nvme{}q{}", i / 128, i % 128)),
    };
    let rows: Vec<_> = (0..2000).map(sparse).collect();
    let interrupts = interrupts(&tree, &rows);
    let got = topology(
        &tree,
        &[(2, "eth0"), (5, "eth1")],
        &interrupts,
        &Asked::default(),
    );

    assert_eq!(got.cpus.len(), 128);
    assert_eq!(
        got.cpus[&65],
        Place {
            online: true,
            node: Some(0),
            package: Some(0),
            core: Some(2),
            siblings: vec![1, 65],
            isolated: false,
        }
    );
    // Node 6 of 8: in the second package.
    assert_eq!(
        (got.cpus[&55].node, got.cpus[&55].package),
        (Some(6), Some(1))
    );
    assert_eq!(got.cpus[&0].siblings, [0]);
    let offline = Place {
        node: Some(7),
        ..Place::default()
    };
    assert_eq!(got.cpus[&127], offline);
    let isolated: Vec<_> = got
        .cpus
        .iter()
        .filter(|(_, place)| place.isolated)
        .collect();
    assert_eq!(isolated.len(), 2);

    assert_eq!(got.irqs.len(), 128);
    let vector = &got.irqs[&1063];
    assert_eq!(vector.device.as_deref(), Some("eth0"));
    assert_eq!(
        (vector.queue, &vector.effective[..]),
        (Some(63), &[1063 % 128][..])
    );
    assert_eq!(vector.affinity.len(), 128);
    let eth0 = &got.devices["eth0"];
    assert_eq!(
        (eth0.driver.as_deref(), eth0.bus.as_deref()),
        (Some("ice"), Some("0000:41:00.0"))
    );
    assert_eq!(
        (eth0.node, eth0.speed, eth0.threaded),
        (Some(2), Some(40_000), Some(false))
    );
    assert_eq!(eth0.rx_queues.len(), 64);
    assert_eq!(eth0.rx_queues[&63].irq, Some(1063));
    assert_eq!(got.devices["eth1"].node, None);
    assert_eq!(got.devices["eth1"].rx_queues[&0].irq, Some(5000));
}

#[test]
fn without_smt_each_cpu_of_a_wide_host_is_its_own_sibling() {
    let tree = Tree::new();
    cpus(&tree, 8, 16, 1, &[5, 64]);
    let places = cpu::read(tree.sys());
    assert_eq!(places.len(), 128);
    assert_eq!(places[&127].node, Some(7));
    let online = || places.values().filter(|place| place.online);
    assert_eq!(online().count(), 126);
    assert!(
        places
            .iter()
            .filter(|(_, place)| place.online)
            .all(|(cpu, place)| place.siblings == [*cpu])
    );
    assert!(places.values().all(|place| !place.isolated));
}

#[test]
fn a_node_that_cannot_be_read_leaves_the_cpus() {
    let tree = Tree::new();
    cpus(&tree, 2, 2, 1, &[]);
    tree.file("sys/devices/system/node/node1/cpulist", "nonsense");
    let nodes: Vec<_> = cpu::read(tree.sys()).values().map(|p| p.node).collect();
    assert_eq!(nodes, [Some(0), Some(0), Some(1), Some(1)]);
}

#[test]
fn an_empty_host_has_an_empty_topology() {
    let tree = Tree::new();
    let got = topology(&tree, &[(1, "lo")], &none(), &Asked::default());
    let nothing = Nic {
        ifindex: 1,
        ..Nic::default()
    };
    assert_eq!(got.devices["lo"], nothing);
    let expected = Topology {
        devices: [("lo".to_owned(), nothing)].into(),
        ..Topology::default()
    };
    assert_eq!(got, expected);
}

/// A virtual device with one receive queue.
fn veth(tree: &Tree, name: &str, ifindex: u32) -> String {
    let directory = format!("sys/devices/virtual/net/{name}");
    tree.file(&format!("{directory}/ifindex"), &ifindex.to_string())
        .file(
            &format!("{directory}/queues/rx-0/rps_cpus"),
            "80000000,00000003",
        )
        .file(&format!("{directory}/queues/rx-0/rps_flow_cnt"), "4096")
        .file(
            &format!("{directory}/queues/tx-0/xps_cpus"),
            "00000000,00000001",
        )
        .directory(&format!("{directory}/queues/tx-1"))
        .link(&format!("sys/class/net/{name}"), &directory);
    directory
}

#[test]
fn a_virtual_device_has_queues_and_no_bus() {
    let tree = Tree::new();
    let directory = veth(&tree, "veth0", 7);
    tree.file(&format!("{directory}/speed"), "-1");
    tree.file(&format!("{directory}/threaded"), "1");
    let got = topology(&tree, &[(7, "veth0")], &none(), &Asked::default());
    let expected = Nic {
        ifindex: 7,
        rx_queues: [(
            0,
            RxQueue {
                rps_cpus: vec![0, 1, 63],
                rps_flow_cnt: Some(4096),
                ..RxQueue::default()
            },
        )]
        .into(),
        threaded: Some(true),
        ..Nic::default()
    };
    assert_eq!(got.devices["veth0"], expected);
}

/// Settings and queues of interface 9.
fn asked() -> Asked {
    let settings = DeviceSettings {
        ring: Some(Range {
            now: 256,
            max: Some(4096),
        }),
        channels: None,
        coalesce: Some(Coalesce {
            rx_usecs: Some(3),
            ..Coalesce::default()
        }),
    };
    let rx = [
        ((8, 1), None),
        ((9, 0), Some(8193)),
        ((9, 2), Some(1)),
        ((10, 0), None),
    ];
    Asked {
        settings: [(9, settings)].into(),
        queues: Queues {
            rx: rx.into(),
            napi: [((9, 8193), INSTANCE), ((10, 8200), INSTANCE)].into(),
        },
    }
}

const INSTANCE: NapiInstance = NapiInstance {
    irq: Some(33),
    pid: Some(4242),
    allowed: Vec::new(),
};

#[test]
fn netlink_tells_the_instance_thread_and_interrupt_of_a_queue() {
    let tree = Tree::new();
    veth(&tree, "eth0", 9);
    let got = topology(&tree, &[(9, "eth0")], &none(), &asked());
    let eth0 = &got.devices["eth0"];
    assert_eq!(eth0.napi, [(8193, INSTANCE)].into());
    let queue = &eth0.rx_queues[&0];
    assert_eq!(
        (queue.napi_id, queue.irq, queue.napi_pid),
        (Some(8193), Some(33), Some(4242))
    );
    // Nobody knows the RPS mask of a queue that sysfs does not have.
    assert_eq!(eth0.rx_queues.len(), 1);
}

#[test]
fn the_thread_of_an_instance_may_run_somewhere() {
    let tree = Tree::new();
    veth(&tree, "eth0", 9);
    let status = "Cpus_allowed_list:\t0,2-3\n";
    tree.file("proc/4242/status", status);
    tree.file("proc/4242/comm", "sshd\n");
    let allowed = || {
        let got = topology(&tree, &[(9, "eth0")], &none(), &asked());
        got.devices["eth0"].napi[&8193].allowed.clone()
    };
    // Of another pid namespace: not the thread that is meant.
    assert!(allowed().is_empty());
    tree.file("proc/4242/comm", "napi/eth0-8193\n");
    assert_eq!(allowed(), [0, 2, 3]);
}

#[test]
fn sysfs_of_another_namespace_is_not_believed_but_netlink_is() {
    let tree = Tree::new();
    pci_nic(&tree, "eth0", 9, "0000:01:00.0", 1, 1, 40);
    veth(&tree, "docker0", 10);
    let irqs = interrupts(&tree, &[(40, "eth0-TxRx-0".to_owned())]);
    let got = topology(&tree, &[(9, "eth0")], &irqs, &asked());
    let expected = Nic {
        ifindex: 9,
        napi: [(8193, INSTANCE)].into(),
        ring: Some(Range {
            now: 256,
            max: Some(4096),
        }),
        coalesce: asked().settings[&9].coalesce,
        ..Nic::default()
    };
    assert_eq!(got.devices["eth0"], expected);
    assert_eq!(
        (&got.irqs[&40].device, got.irqs[&40].queue),
        (&None, Some(0))
    );
}

#[test]
fn a_device_is_not_told_as_the_one_of_its_name_in_another_namespace() {
    let tree = Tree::new();
    pci_nic(&tree, "eth0", 9, "0000:01:00.0", 1, 1, 40);
    veth(&tree, "docker0", 10);
    let all = irq::read(
        &tree.roots,
        &interrupts(&tree, &[(40, "eth0-TxRx-0".to_owned())]),
    );
    let told = |names: &[(u32, &str)]| {
        let devices = devices(names);
        let shown = nic::sysfs_shows(tree.sys(), &devices);
        let mut facts = nic::facts(tree.sys(), &devices, shown);
        let irq = irq::shown(&all, shown).remove(&40).unwrap();
        (facts.remove("eth0").unwrap(), irq)
    };
    let (eth0, irq) = told(&[(9, "eth0"), (10, "docker0")]);
    assert_eq!(eth0.driver.as_deref(), Some("ice"));
    assert_eq!((irq.device.as_deref(), irq.queue), (Some("eth0"), Some(0)));
    let (eth0, irq) = told(&[(9, "eth0")]);
    assert_eq!(eth0, DeviceFacts::default());
    assert_eq!((irq.device, irq.queue), (None, None));
    assert_eq!(irq.name, "eth0-TxRx-0");
    assert!(irq.affinity.is_some());
}

#[test]
fn a_queue_takes_the_vector_that_receives() {
    let tree = Tree::new();
    pci_nic(&tree, "eth0", 2, "0000:01:00.0", 0, 3, 40);
    let rows = [
        (40, "eth0-rx-0".to_owned()),
        (41, "eth0-tx-0".to_owned()),
        (42, "eth0-TxRx-1".to_owned()),
        (43, "eth0-rx-2".to_owned()),
        (44, "eth0-rx-2".to_owned()),
    ];
    let got = topology(
        &tree,
        &[(2, "eth0")],
        &interrupts(&tree, &rows),
        &Asked::default(),
    );
    let irqs: Vec<_> = got.devices["eth0"]
        .rx_queues
        .values()
        .map(|q| q.irq)
        .collect();
    assert_eq!(irqs, [Some(40), Some(42), None]);
}

#[test]
fn a_mangled_mask_is_not_taken_for_none() {
    let tree = Tree::new();
    let directory = veth(&tree, "veth0", 7);
    tree.file(&format!("{directory}/queues/rx-0/rps_cpus"), "zz");
    tree.file(&format!("{directory}/queues/rx-1/rps_flow_cnt"), "0");
    let got = topology(&tree, &[(7, "veth0")], &none(), &Asked::default());
    let nic = &got.devices["veth0"];
    assert!(!nic.rx_queues.contains_key(&0));
    assert!(nic.rx_queues[&1].rps_cpus.is_empty(), "no CONFIG_RPS");
}

#[test]
fn a_topology_is_the_same_after_a_recording() {
    let tree = Tree::new();
    cpus(&tree, 2, 2, 2, &[]);
    pci_nic(&tree, "eth0", 2, "0000:01:00.0", 1, 2, 40);
    let rows = [(40, "eth0-TxRx-0".to_owned())];
    let got = topology(
        &tree,
        &[(2, "eth0")],
        &interrupts(&tree, &rows),
        &Asked::default(),
    );
    let text = serde_json::to_string(&got).unwrap();
    assert_eq!(serde_json::from_str::<Topology>(&text).unwrap(), got);
}

#[test]
fn this_host_has_a_loopback_and_cpus() {
    let roots = Roots::default();
    let devices = crate::proc::netdev::NetDevices::open()
        .unwrap()
        .read()
        .unwrap();
    let indices: Vec<u32> = devices.keys().copied().collect();
    let known = Known {
        devices: &devices,
        facts: &BTreeMap::new(),
        irqs: &BTreeMap::new(),
    };
    let got = gather(&roots, known, &Asked::read(&indices));
    assert_eq!(got.devices["lo"].ifindex, 1);
    assert!(got.cpus.values().any(|place| place.online));
    assert!(got.sysctls.contains_key("net.core.somaxconn"));
}
