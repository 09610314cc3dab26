//! Plans for hosts made by hand.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{App, Ask, plan};
use crate::{
    analyze::rules::tests::synthetic::{
        incident, nic, redis, refuse, traffic, two_nodes, well_spread,
    },
    model::{
        report::Report,
        setting::Setting,
        topology::{Cpuset, Irqbalance, Place, Process, Range, Topology},
    },
    report::{Style, tune as render},
    tune::{
        identity::Identity,
        plan::{Part, Plan},
    },
};

fn planned(report: &Report, host: &Topology) -> Plan {
    plan(report, host, &ask()).unwrap()
}

fn ask() -> Ask {
    let host = Identity {
        hostname: "db7".into(),
        ..Identity::default()
    };
    Ask {
        host,
        ..Ask::default()
    }
}

fn planned_for(report: &Report, host: &Topology, app: &str) -> Plan {
    let ask = Ask {
        app: Some(App::Name(app.into())),
        ..ask()
    };
    plan(report, host, &ask).unwrap()
}

fn to(plan: &Plan, setting: &Setting) -> Option<String> {
    let mut changes = plan.changes();
    let change = changes.find(|change| change.setting == *setting)?;
    Some(change.to.clone())
}

fn parts(plan: &Plan) -> Vec<Part> {
    let mut parts: Vec<Part> = plan.steps.iter().map(|step| step.part).collect();
    parts.dedup();
    parts
}

fn vectors(plan: &Plan) -> Vec<(u32, String)> {
    let moved = plan.changes();
    moved
        .filter_map(|change| Some((change.setting.irq()?, change.to.clone())))
        .collect()
}

fn application(plan: &Plan) -> Option<Vec<u32>> {
    let mut changes = plan.changes();
    let change = changes.find(|change| matches!(change.setting, Setting::Process { .. }))?;
    change.setting.cpus(&change.to)
}

/// No CPU that is not running, and some for the application.
fn check(plan: &Plan, host: &Topology) {
    for change in plan.changes() {
        change.setting.check(&change.to).unwrap();
        for cpu in change.setting.cpus(&change.to).unwrap_or_default() {
            assert!(
                host.cpus.get(&cpu).is_some_and(|place| place.online),
                "{change:?}"
            );
        }
        if let Setting::Process { .. } = change.setting {
            assert_ne!(change.setting.cpus(&change.to), Some(Vec::new()));
        }
    }
    let order: Vec<Part> = plan.steps.iter().map(|step| step.part).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn the_incident_is_cured_in_the_order_of_the_write_up() {
    let (report, host) = incident();
    let plan = planned_for(&report, &host, "redis-server");
    check(&plan, &host);
    assert_eq!(
        parts(&plan),
        [Part::Backlog, Part::Vectors, Part::Rps, Part::Application]
    );
    let node: BTreeSet<u32> = [4, 5, 6, 7, 12, 13, 14, 15].into();
    let irqs: BTreeSet<u32> = vectors(&plan)
        .iter()
        .map(|(_, cpu)| cpu.parse().unwrap())
        .collect();
    assert!(irqs.len() > 1 && irqs.is_subset(&node), "{irqs:?}");
    let rest = application(&plan).unwrap();
    assert!(!rest.is_empty() && rest.iter().all(|cpu| node.contains(cpu)));
    assert!(rest.iter().all(|cpu| !irqs.contains(cpu)));
    let style = Style {
        width: 100,
        ..Style::default()
    };
    insta::assert_snapshot!(render::plan(&plan, &style));
}

#[test]
fn a_vector_is_planned_for_with_its_handler() {
    let (report, mut host) = incident();
    for (irq, vector) in &mut host.irqs {
        vector.name = format!("eth0-TxRx-{irq}");
    }
    let plan = planned(&report, &host);
    let vectors: Vec<&Setting> = plan
        .changes()
        .map(|change| &change.setting)
        .filter(|setting| setting.irq().is_some())
        .collect();
    let is_named = |setting: &&Setting| match setting {
        Setting::VectorAffinity { irq, action } => *action == format!("eth0-TxRx-{irq}"),
        _ => false,
    };
    assert!(
        !vectors.is_empty() && vectors.iter().all(is_named),
        "{vectors:?}"
    );
    let moved = plan
        .cpus
        .iter()
        .filter(|cell| cell.before.contains('I') != cell.after.contains('I'));
    assert!(moved.count() > 0, "the map shows where they go");
}

#[test]
fn advice_and_plan_agree() {
    let (report, host) = incident();
    let text = crate::tune::shell::script(&planned(&report, &host), None);
    assert!(
        text.contains("echo 2000 > /proc/sys/net/core/netdev_max_backlog"),
        "{text}"
    );
    assert!(text.contains("taskset -acp"), "{text}");
    assert!(text.contains("# To undo:"), "{text}");
}

#[test]
fn a_healthy_host_needs_nothing_and_is_told_why() {
    let (report, host) = well_spread();
    let plan = planned_for(&report, &host, "redis-server");
    assert!(plan.steps.is_empty(), "{:#?}", plan.steps);
    assert_eq!(plan.notes, ["no finding asks for a change"]);
    assert!(render::plan(&plan, &Style::default()).starts_with("Nothing to do"));
}

#[test]
fn an_application_that_is_not_there_is_an_error_that_names_those_that_are() {
    let (report, host) = incident();
    let ask = Ask {
        app: Some(App::Name("nginx".into())),
        ..Ask::default()
    };
    let error = plan(&report, &host, &ask).unwrap_err().to_string();
    assert!(error.contains("redis-server (812)"), "{error}");
}

#[test]
fn on_one_node_the_application_gets_the_other_half() {
    let (report, mut host) = incident();
    for place in host.cpus.values_mut() {
        place.node = Some(0);
    }
    for vector in host.irqs.values_mut() {
        vector.node = Some(0);
    }
    host.devices.get_mut("eth0").unwrap().node = Some(0);
    let plan = planned_for(&report, &host, "redis-server");
    check(&plan, &host);
    assert!(vectors(&plan).len() >= 2);
    assert!(application(&plan).is_some_and(|cpus| cpus.len() >= 8));
}

#[test]
fn one_queue_is_spread_by_rps_and_the_application_keeps_cpus() {
    let (mut report, mut host) = incident();
    host.irqs.clear();
    nic(&mut host, "eth0", 1, 24, &[4], &[]);
    host.processes = vec![redis(4)];
    report.cpus[0] = traffic("eth0", 24, &[]).cpus[0].clone();
    report.cpus[4] = traffic("eth0", 24, &[(4, 4_000_000, 94)]).cpus[4].clone();
    refuse(&mut report, "eth0", 4, 4, 1_000);
    let plan = planned_for(&report, &host, "redis-server");
    check(&plan, &host);
    let rps = Setting::RpsCpus {
        device: "eth0".into(),
        queue: 0,
    };
    let mask = to(&plan, &rps).expect("RPS is set");
    let steered = rps.cpus(&mask).unwrap();
    let rest = application(&plan).unwrap();
    assert!(!steered.is_empty() && rest.iter().all(|cpu| !steered.contains(cpu)));
    assert!(parts(&plan).contains(&Part::Rfs));
}

#[test]
fn more_queues_than_cores_share_them_evenly() {
    let (report, mut host) = incident();
    nic(&mut host, "eth0", 1, 24, &[0; 16], &[0]);
    let plan = planned(&report, &host);
    check(&plan, &host);
    let cpus: BTreeSet<String> = vectors(&plan).into_iter().map(|(_, cpu)| cpu).collect();
    assert_eq!(vectors(&plan).len(), 16);
    assert!((2..=4).contains(&cpus.len()), "{cpus:?}");
}

#[test]
fn managed_vectors_are_left_and_channels_changed_instead() {
    let (report, mut host) = incident();
    for vector in host.irqs.values_mut() {
        vector.managed = Some(true);
    }
    let by_hand = planned(&report, &host);
    check(&by_hand, &host);
    assert!(vectors(&by_hand).is_empty());
    assert!(
        by_hand
            .by_hand
            .iter()
            .any(|step| step.command.as_deref() == Some("ethtool -l eth0"))
    );
    host.devices.get_mut("eth0").unwrap().channels = Some(Range {
        now: 4,
        max: Some(63),
    });
    let plan = planned(&report, &host);
    check(&plan, &host);
    let channels = Setting::Channels {
        device: "eth0".into(),
    };
    assert_eq!(to(&plan, &channels).as_deref(), Some("8"));
    assert!(!parts(&plan).contains(&Part::Rps), "{:?}", parts(&plan));
    assert!(plan.notes.iter().any(|note| note.contains("plan again")));
}

#[test]
fn offline_cpus_are_never_named() {
    let (report, mut host) = incident();
    for cpu in [4, 5, 12, 13] {
        host.cpus.get_mut(&cpu).unwrap().online = false;
    }
    let plan = planned_for(&report, &host, "redis-server");
    check(&plan, &host);
    assert!(!vectors(&plan).is_empty() && application(&plan).is_some());
}

#[test]
fn a_device_of_no_node_uses_the_whole_host() {
    let (report, mut host) = incident();
    host.devices.get_mut("eth0").unwrap().node = None;
    for vector in host.irqs.values_mut() {
        vector.node = None;
    }
    let plan = planned_for(&report, &host, "redis-server");
    check(&plan, &host);
    assert!(!vectors(&plan).is_empty() && application(&plan).is_some());
}

#[test]
fn a_host_of_128_cpus_dedicates_a_few_cores() {
    let (report, mut host) = incident();
    host.cpus = (0..128)
        .map(|cpu| {
            let place = Place {
                online: true,
                node: Some(cpu % 64 / 32),
                siblings: vec![cpu % 64, cpu % 64 + 64],
                ..Place::default()
            };
            (cpu, place)
        })
        .collect();
    host.processes[0].allowed = (0..128).collect();
    let plan = planned_for(&report, &host, "redis-server");
    check(&plan, &host);
    let irqs: BTreeSet<String> = vectors(&plan).into_iter().map(|(_, cpu)| cpu).collect();
    assert!((2..=4).contains(&irqs.len()), "{irqs:?}");
    assert!(application(&plan).is_some_and(|cpus| cpus.len() >= 56));
    insta::assert_snapshot!(render::plan(&plan, &Style::default()));
}

#[test]
fn a_ring_is_enlarged_only_where_it_is_the_cause() {
    let (mut report, host) = well_spread();
    report.devices[0].rx_missed = 5_000;
    let plan = planned(&report, &host);
    check(&plan, &host);
    assert_eq!(parts(&plan), [Part::Ring]);
    let ring = Setting::Ring {
        device: "eth0".into(),
    };
    assert_eq!(to(&plan, &ring).as_deref(), Some("1024"));
}

#[test]
fn irqbalance_is_told_or_the_plan_says_what_to_do() {
    let (report, mut host) = incident();
    host.irqbalance = Some(Irqbalance {
        pid: 600,
        banned_irqs: vec![9],
        ..Irqbalance::default()
    });
    let told = Ask {
        irqbalance_listens: true,
        ..Ask::default()
    };
    let told = plan(&report, &host, &told).unwrap();
    let bans = Setting::IrqbalanceBans { pid: 600 };
    let moved: Vec<String> = vectors(&told)
        .iter()
        .map(|(irq, _)| irq.to_string())
        .collect();
    assert_eq!(to(&told, &bans), Some(format!("9 {}", moved.join(" "))));
    let at = |part| parts(&told).iter().position(|p| *p == part);
    assert!(at(Part::Irqbalance) < at(Part::Vectors));
    let by_hand = planned(&report, &host);
    assert_eq!(to(&by_hand, &bans), None);
    assert!(
        by_hand
            .by_hand
            .iter()
            .any(|step| step.step.contains("--banirq=24"))
    );
}

#[test]
fn a_cpuset_is_not_overruled() {
    let (report, mut host) = incident();
    host.processes[0].allowed = vec![0, 1];
    host.processes[0].cpuset = Some("/system.slice/redis.service".into());
    let by_hand = |host: &Topology| {
        let plan = planned_for(&report, host, "redis-server");
        check(&plan, host);
        assert_eq!(application(&plan), None);
        plan
    };
    let of_an_ancestor = by_hand(&host);
    assert!(of_an_ancestor.by_hand.iter().any(|step| {
        step.step
            .contains("the control group /system.slice/redis.service keeps it off")
    }));
    host.processes[0].confined_by = Some(Cpuset {
        dir: "/sys/fs/cgroup/system.slice/redis.service".into(),
        version: 2,
        own: true,
        cpus: "0-1".into(),
    });
    let plan = by_hand(&host);
    assert!(plan.by_hand.iter().any(|step| {
        step.command
            .as_deref()
            .is_some_and(|command| command.contains("AllowedCPUs="))
    }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_plan_names_an_offline_cpu_or_leaves_the_application_without_one(
        offline in prop::collection::btree_set(0_u32..16, 0..14),
        queues in 1_usize..12,
        node in prop::option::of(0_u32..2),
        steered in prop::bool::ANY,
        managed in prop::bool::ANY,
        named in prop::bool::ANY,
        busy in prop::collection::vec(0_u32..16, 0..4),
    ) {
        let (mut report, mut host) = incident();
        host.cpus = two_nodes();
        host.irqs.clear();
        let rps: &[u32] = if steered { &[0] } else { &[] };
        nic(&mut host, "eth0", 1, 24, &vec![0; queues], rps);
        host.devices.get_mut("eth0").unwrap().node = node;
        for vector in host.irqs.values_mut() {
            vector.node = node;
            vector.managed = Some(managed);
        }
        for cpu in &offline {
            host.cpus.get_mut(cpu).unwrap().online = false;
            report.cpus[*cpu as usize].online = false;
        }
        let others = busy.into_iter().zip(900..).map(|(cpu, pid)| Process { pid, ..redis(cpu) });
        host.processes.extend(others);
        let plan = if named { planned_for(&report, &host, "redis-server") } else { planned(&report, &host) };
        check(&plan, &host);
    }
}
