//! What holds for any report and any host.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::report::tests::arbitrary::report;

const CPUS: u32 = 40;
const IRQS: u32 = 20;
const DEVICES: [&str; 3] = ["a", "b", "$(reboot)"];

fn cpus() -> impl Strategy<Value = Vec<u32>> {
    vec(0..CPUS, 0..5)
}

fn device() -> impl Strategy<Value = String> {
    prop::sample::select(&DEVICES[..]).prop_map(str::to_owned)
}

fn place() -> impl Strategy<Value = Place> {
    (any::<[bool; 2]>(), option::of(0..3u32), cpus()).prop_map(
        |([online, isolated], node, siblings)| Place {
            online,
            node,
            siblings,
            isolated,
            ..Place::default()
        },
    )
}

fn vector() -> impl Strategy<Value = Vector> {
    (
        option::of(device()),
        option::of(0..4u32),
        option::of(0..3u32),
        cpus(),
        cpus(),
        option::of(any::<bool>()),
    )
        .prop_map(
            |(device, queue, node, affinity, effective, managed)| Vector {
                name: String::new(),
                device,
                queue,
                node,
                affinity,
                effective,
                managed,
            },
        )
}

fn nic() -> impl Strategy<Value = Nic> {
    let queue = (cpus(), option::of(any::<u64>()), option::of(any::<u32>())).prop_map(
        |(rps_cpus, flows, pid)| RxQueue {
            rps_cpus,
            rps_flow_cnt: flows,
            napi_pid: pid,
            ..RxQueue::default()
        },
    );
    let range = || {
        option::of(
            (any::<u32>(), option::of(any::<u32>())).prop_map(|(now, max)| Range { now, max }),
        )
    };
    (
        vec(queue, 0..4),
        range(),
        range(),
        option::of(0..3u32),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |(queues, ring, channels, node, [virtio, threaded, adaptive])| Nic {
                driver: virtio.then(|| "virtio_net".to_owned()),
                node,
                rx_queues: (0..).zip(queues).collect(),
                threaded: Some(threaded),
                ring,
                channels,
                coalesce: Some(Coalesce {
                    adaptive_rx: Some(adaptive),
                    rx_usecs: Some(u32::MAX),
                    rx_frames: None,
                }),
                ..Nic::default()
            },
        )
}

fn process() -> impl Strategy<Value = Process> {
    (
        any::<[u64; 2]>(),
        cpus(),
        cpus(),
        option::of(".{0,20}"),
        any::<bool>(),
    )
        .prop_map(|([cpu_ns, ns], on, allowed, cpuset, realtime)| Process {
            pid: 812,
            name: "any".into(),
            cpu_ns,
            ran_on: on.into_iter().map(|cpu| (cpu, ns)).collect(),
            allowed,
            cpuset,
            realtime,
            ..Process::default()
        })
}

prop_compose! {
    fn any_host()(
        places in vec(place(), 0..CPUS as usize),
        vectors in vec(vector(), 0..IRQS as usize),
        nics in vec(nic(), 0..DEVICES.len()),
        processes in vec(process(), 0..3),
        sysctls in any::<[u64; 9]>(),
    ) -> Topology {
        let template = host();
        let names = template.sysctls.keys().cloned();
        Topology {
            cpus: (0..).zip(places).collect(),
            irqs: (0..).zip(vectors).collect(),
            devices: DEVICES.map(str::to_owned).into_iter().zip(nics).collect(),
            processes,
            sysctls: names.zip(sysctls.map(|n| n.to_string())).collect(),
            irqbalance: Some(Irqbalance::default()),
            ..Topology::default()
        }
    }
}

/// Makes the parts of a report and of a host meet.
fn meet(report: &mut Report, host: &mut Topology, seconds: u64) {
    let name = |at: usize| DEVICES[at % DEVICES.len()].to_owned();
    report.duration_ns = seconds * SECOND;
    for cpu in &mut report.cpus {
        cpu.cpu %= CPUS;
        cpu.net_rx_ns = cpu.net_rx_ns.map(|ns| ns % SECOND / 8);
    }
    // One is full, if there is any.
    if let Some(cpu) = report.cpus.first_mut() {
        cpu.net_rx_ns = Some(report.duration_ns);
        let funnelled = host.irqs.values_mut().filter(|_| seconds.is_multiple_of(2));
        funnelled.for_each(|vector| vector.effective = vec![cpu.cpu]);
    }
    for (at, irq) in report.irqs.iter_mut().enumerate() {
        irq.irq %= IRQS;
        irq.device = Some(name(at));
        irq.per_cpu = irq
            .per_cpu
            .iter()
            .map(|(cpu, n)| (cpu % CPUS, *n))
            .collect();
    }
    for (at, napi) in report.napi.iter_mut().enumerate() {
        napi.device = name(at);
        napi.per_cpu = napi
            .per_cpu
            .iter()
            .map(|(cpu, n)| (cpu % CPUS, *n))
            .collect();
    }
    for (at, device) in report.devices.iter_mut().enumerate() {
        device.name = name(at);
    }
    for (at, drop) in report.drops.iter_mut().enumerate() {
        drop.reason = Some("CPU_BACKLOG".into());
        drop.device = Some(name(at));
        drop.benign = false;
        if at % 2 == 0 {
            drop.netns = None;
        }
        let targets = drop.per_target_cpu.take();
        drop.per_target_cpu = targets.map(|t| t.iter().map(|(cpu, n)| (cpu % CPUS, *n)).collect());
    }
}

fn parse_list(list: &str) -> Vec<u32> {
    let ranges = list.split(',').filter(|range| !range.is_empty());
    let ends = ranges.map(|range| range.split_once('-').unwrap_or((range, range)));
    ends.flat_map(|(first, last)| first.parse().unwrap()..=last.parse().unwrap())
        .collect()
}

fn parse_mask(mask: &str) -> Vec<u32> {
    let words = mask
        .split(',')
        .rev()
        .map(|word| u32::from_str_radix(word, 16).unwrap());
    let bits = (0..).zip(words);
    bits.flat_map(|(at, word)| {
        (0..32)
            .filter(move |bit| word >> bit & 1 == 1)
            .map(move |bit| at * 32 + bit)
    })
    .collect()
}

/// Every CPU that a command names.
fn named(command: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    let words: Vec<&str> = command
        .split([' ', ';', '\''])
        .filter(|word| !word.is_empty())
        .collect();
    for pair in words.windows(4) {
        match pair {
            ["echo", list, ">", file]
                if file.ends_with("smp_affinity_list") && !list.starts_with('$') =>
            {
                cpus.extend(parse_list(list));
            }
            ["echo", list, ">", file] if file.ends_with("cpuset.cpus") => {
                cpus.extend(parse_list(list));
            }
            ["echo", mask, ">", file] if file.ends_with("/rps_cpus") => {
                cpus.extend(parse_mask(mask));
            }
            _ => {}
        }
    }
    for pair in words.windows(2) {
        if let ["-acp" | "-cp", list] = pair {
            cpus.extend(parse_list(list));
        }
    }
    if command.contains("smp_affinity_list") {
        let pairs = words.iter().filter_map(|word| word.split_once(':'));
        let lists = pairs
            .filter(|(irq, _)| irq.parse::<u32>().is_ok())
            .map(|(_, list)| list);
        cpus.extend(lists.flat_map(parse_list));
    }
    let allowed = words
        .iter()
        .filter_map(|word| word.strip_prefix("AllowedCPUs="));
    cpus.extend(allowed.flat_map(parse_list));
    cpus
}

#[test]
fn the_cpus_of_a_command_are_found() {
    for (command, cpus) in [
        (
            "for v in 24:4 25:5-6; do echo ${v#*:} > /proc/irq/${v%%:*}/smp_affinity_list; done",
            vec![4, 5, 6],
        ),
        ("echo 7 > /proc/irq/3/smp_affinity_list", vec![7]),
        ("taskset -acp 6-7,14 812", vec![6, 7, 14]),
        (
            "for q in /sys/class/net/a/queues/rx-*; do echo 1,00000003 > $q/rps_cpus; done",
            vec![0, 1, 32],
        ),
        (
            "systemctl set-property --runtime x.service AllowedCPUs=3",
            vec![3],
        ),
    ] {
        assert_eq!(named(command), cpus, "{command}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn no_command_names_an_offline_cpu(mut report in report(), mut host in any_host(), seconds in 0..20u64) {
        meet(&mut report, &mut host, seconds);
        let gone: BTreeSet<u32> = report.cpus.iter().filter(|cpu| !cpu.online).map(|cpu| cpu.cpu).collect();
        let is_online = |cpu: &u32| host.cpus.get(cpu).is_some_and(|p| p.online) && !gone.contains(cpu);
        for finding in flat(&findings(&report, &host)) {
            for command in commands(finding) {
                let offline: Vec<u32> = named(command).into_iter().filter(|cpu| !is_online(cpu)).collect();
                prop_assert!(offline.is_empty(), "{offline:?} in {command}");
                // Only ever quoted, at either level.
                prop_assert!(!command.replace("'$(reboot)'", "").replace("'\\''$(reboot)'\\''", "").contains("$(reboot)"), "{command}");
            }
        }
    }

    #[test]
    fn any_report_is_judged_without_a_host(report in report()) {
        let _ = findings(&report, &Topology::default());
    }
}
