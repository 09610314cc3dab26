//! Every output a person reads, at fixed widths; and what must hold for any report.

use super::{Style, block, doctor, fixture, json, live, text};
use crate::model::report::{Hook, HookStatus, Record, Report};

fn style(width: usize) -> Style {
    Style {
        width,
        ..Style::default()
    }
}

macro_rules! snapshots {
    ($($name:ident),*) => { $(
        #[test]
        fn $name() {
            let report = fixture::$name();
            insta::assert_snapshot!(concat!(stringify!($name), "_80"), text::render(&report, &style(80)));
            insta::assert_snapshot!(concat!(stringify!($name), "_120"), text::render(&report, &style(120)));
        }
    )* };
}

snapshots!(
    healthy,
    incident,
    no_kfree_skb,
    many_cpus,
    benign_only,
    lossy,
    hidden_names,
    full_socket
);

#[test]
fn a_block_is_eight_lines_at_most_and_ends_with_the_losses() {
    let blocks = [
        fixture::healthy(),
        fixture::incident(),
        fixture::no_kfree_skb(),
        fixture::benign_only(),
    ]
    .map(|report| block::render_block(&report, &style(80)));
    for block in &blocks {
        assert!(block.lines().count() <= block::LINES);
        assert!(
            block
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("lost:"))
        );
    }
    insta::assert_snapshot!("blocks_80", blocks.join("\n"));
}

#[test]
fn a_screen_fits_its_height_and_tells_the_losses() {
    for height in 3..60 {
        let report = fixture::lossy();
        let screen = live::screen(&report, Some(&report), &style(80), height);
        assert!(screen.lines().count() <= height, "{height}:\n{screen}");
        assert!(
            screen.contains("lost:") || height < 5,
            "{height}:\n{screen}"
        );
    }
    insta::assert_snapshot!(
        "screen_80x24",
        live::screen(
            &fixture::incident(),
            Some(&fixture::incident()),
            &style(80),
            24
        )
    );
    insta::assert_snapshot!(
        "screen_unknown_80x24",
        live::screen(
            &fixture::no_kfree_skb(),
            Some(&fixture::no_kfree_skb()),
            &style(80),
            24
        )
    );
    insta::assert_snapshot!(
        "screen_120x40",
        live::screen(&fixture::many_cpus(), None, &style(120), 40)
    );
}

#[test]
fn without_unicode_everything_is_ascii() {
    let plain = Style {
        unicode: false,
        ..style(80)
    };
    for report in [fixture::incident(), fixture::many_cpus(), fixture::lossy()] {
        assert!(text::render(&report, &plain).is_ascii());
    }
    insta::assert_snapshot!("incident_ascii", text::render(&fixture::incident(), &plain));
}

#[test]
fn colour_changes_nothing_but_escapes() {
    let report = fixture::incident();
    let coloured = text::render(
        &report,
        &Style {
            color: true,
            ..style(80)
        },
    );
    assert!(coloured.contains("\u{1b}["));
    assert_eq!(strip(&coloured), text::render(&report, &style(80)));
}

#[test]
fn rules_that_could_not_judge_are_told_only_when_asked() {
    let report = fixture::incident();
    let words = "Could not be judged, for want of:";
    assert!(!text::render(&report, &style(80)).contains(words));
    let verbose = text::render_verbose(&report, &style(80));
    assert!(verbose.contains(words), "{verbose}");
    assert!(
        verbose.contains("  steal: CPU time: no row of /proc/stat"),
        "{verbose}"
    );
}

#[test]
fn a_summary_survives_json() {
    let record = Record::Summary(fixture::incident());
    let line = json::line(&record).unwrap();
    assert!(
        !line.contains('\n') && line.starts_with(r#"{"kind":"summary","#),
        "{line}"
    );
    assert_eq!(json::parse(&line).unwrap(), record);
    let event = Record::Event(fixture::incident().samples.drops.remove(0));
    let line = json::line(&event).unwrap();
    assert!(line.starts_with(r#"{"kind":"event","#), "{line}");
    assert_eq!(json::parse(&line).unwrap(), event);
    assert!(json::parse(r#"{"kind":"else"}"#).is_err());
}

#[test]
fn the_doctor_answers_first() {
    insta::assert_snapshot!(
        "doctor_80",
        doctor::render(&doctor_report(true), &style(80))
    );
    insta::assert_snapshot!(
        "doctor_cannot_80",
        doctor::render(&doctor_report(false), &style(80))
    );
}

fn doctor_report(can_run: bool) -> doctor::DoctorReport {
    let check = |name: &str, status, detail: &str, remedy: Option<&str>| doctor::Check {
        name: name.into(),
        status,
        detail: detail.into(),
        remedy: remedy.map(Into::into),
    };
    let privilege = if can_run {
        check("privileges", doctor::CheckStatus::Ok, "root", None)
    } else {
        check(
            "privileges",
            doctor::CheckStatus::Missing,
            "CAP_BPF and CAP_PERFMON are not in the effective set",
            Some("run as root, or grant CAP_BPF, CAP_PERFMON and CAP_SYSLOG"),
        )
    };
    let mut hooks = fixture::no_kfree_skb().hooks;
    if can_run {
        hooks[7] = Hook {
            name: "kfree_skb".into(),
            via: Some("raw_tp".into()),
            status: HookStatus::Attached,
            ..Hook::default()
        };
    } else {
        for hook in &mut hooks {
            *hook = Hook {
                status: HookStatus::Failed,
                via: None,
                reason: Some("Operation not permitted (os error 1)".into()),
                name: hook.name.clone(),
                ..Hook::default()
            };
        }
    }
    doctor::DoctorReport {
        checks: vec![
            privilege,
            check(
                "BTF",
                doctor::CheckStatus::Ok,
                "/sys/kernel/btf/vmlinux, 5.2 MB",
                None,
            ),
            check(
                "kallsyms",
                doctor::CheckStatus::Warn,
                "kernel.kptr_restrict is 2: drop sites are shown as addresses",
                Some("sysctl kernel.kptr_restrict=1"),
            ),
        ],
        hooks,
        can_run,
    }
}

fn strip(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// Any report: the shape comes from the types, the values from anywhere.
pub(crate) mod arbitrary {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::model::finding::{Abstained, Advice, Evidence, Finding};
    use crate::model::report::{
        Cpu, Device, Drop, Irq, Losses, Napi, PerCpu, Percentiles, Reconciliation, Softnet, Stage,
    };

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![".{0,60}", "[a-z_]{1,80}", "\\PC{0,30}"]
    }

    fn counts() -> impl Strategy<Value = PerCpu> {
        prop::collection::btree_map(any::<u32>(), any::<u64>(), 0..4)
    }

    fn n() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![Just(None), Just(Some(0)), any::<u64>().prop_map(Some)]
    }

    fn cpu() -> impl Strategy<Value = Cpu> {
        (
            any::<u32>(),
            any::<bool>(),
            prop::array::uniform10(n()),
            any::<u64>(),
            prop::option::of(any::<[u64; 3]>()),
        )
            .prop_map(
                |(cpu, online, [a, b, c, d, e, f, g, h, i, j], p, softnet)| Cpu {
                    cpu,
                    node: None,
                    online,
                    hardirqs: a,
                    hardirq_ns: b,
                    net_rx_runs: c,
                    net_rx_ns: d,
                    net_rx_wait_ns: e.map(|_| Percentiles {
                        p99: p,
                        ..Percentiles::default()
                    }),
                    ksoftirqd_runs: e,
                    packets: f,
                    budget_exhausted: g,
                    time_exhausted: h,
                    polls_outside_net_rx: i,
                    drops: j,
                    softnet: softnet.map(|[processed, dropped, time_squeeze]| Softnet {
                        processed,
                        dropped,
                        time_squeeze,
                        flow_limit: i,
                        received_rps: j,
                        ..Softnet::default()
                    }),
                    ..Cpu::default()
                },
            )
    }

    fn drop() -> impl Strategy<Value = Drop> {
        let names = (
            name(),
            prop::option::of(name()),
            prop::option::of(name()),
            prop::option::of(name()),
            name(),
        );
        (
            names,
            any::<[u64; 2]>(),
            n(),
            counts(),
            prop::option::of(counts()),
            any::<[bool; 2]>(),
        )
            .prop_map(
                |(
                    (site, reason, device, netns, protocol),
                    [packets, bytes],
                    offset,
                    per_cpu,
                    targets,
                    [benign, backlog],
                )| {
                    Drop {
                        site,
                        offset,
                        reason,
                        device,
                        protocol,
                        netns,
                        packets,
                        bytes,
                        per_cpu,
                        per_target_cpu: targets,
                        stage: if backlog {
                            Stage::Backlog
                        } else {
                            Stage::Other
                        },
                        benign,
                    }
                },
            )
    }

    /// A finding of these words, with others folded under it.
    fn nested(words: &[String], depth: u32) -> Finding {
        Finding {
            summary: words[0].clone(),
            evidence: vec![Evidence {
                what: words[1].clone(),
                value: words[2].clone(),
                source: words[3].clone(),
            }],
            advice: vec![Advice {
                step: words[4].clone(),
                why: words[5].clone(),
                command: Some(words.join(" ")),
                revert: Some(words.concat()),
                risk: Some(words[0].clone()),
                ..Advice::default()
            }],
            will_not_help: vec![words[1].clone()],
            follows: (0..depth.min(1))
                .map(|_| nested(words, depth - 1))
                .collect(),
            ..Finding::default()
        }
    }

    prop_compose! {
        pub(crate) fn report()(
            words in prop::collection::vec(name(), 6),
            cpus in prop::collection::vec(cpu(), 0..20),
            drops in prop::collection::vec(drop(), 0..6),
            others in prop::collection::vec((name(), counts(), any::<[u64; 4]>(), any::<u32>()), 0..6),
            totals in prop::array::uniform6(n()),
            losses in any::<[u64; 5]>(),
            long in any::<u64>(),
        ) -> Report {
            let mut report = fixture::lossy();
            report.answer = if words[0].len() % 2 == 0 { String::new() } else { words[0].clone() };
            report.host.name = words[1].clone();
            report.host.kernel = words[2].clone();
            report.interfaces = vec![words[3].clone()];
            report.notes = words[4..].to_vec();
            report.findings = vec![nested(&words, 6)];
            report.abstained = vec![Abstained { rule: words[0].clone(), why: words[1].clone() }];
            report.duration_ns = long;
            report.start_unix_ns = long;
            report.cpus = cpus;
            report.drops = drops;
            let [packets, bytes, harmful, benign, other_devices, unattributed] = totals;
            report.drop_totals =
                crate::model::report::DropTotals { packets, bytes, harmful, benign, other_devices, unattributed };
            report.irqs = others
                .iter()
                .map(|(name, per_cpu, [count, ..], irq)| Irq {
                    irq: *irq,
                    name: name.clone(),
                    affinity: Some(name.clone()),
                    count: *count,
                    per_cpu: per_cpu.clone(),
                    ..Irq::default()
                })
                .collect();
            report.napi = others
                .iter()
                .map(|(name, per_cpu, [polls, packets, full_budget, _], id)| Napi {
                    device: name.clone(),
                    napi_id: Some(*id),
                    netns: None,
                    polls: *polls,
                    packets: *packets,
                    full_budget: *full_budget,
                    per_cpu: per_cpu.clone(),
                })
                .collect();
            report.devices = others
                .iter()
                .map(|(name, _, [rx_packets, rx_bytes, rx_dropped, rx_missed], ifindex)| Device {
                    name: name.clone(),
                    ifindex: *ifindex,
                    rx_packets: *rx_packets,
                    rx_bytes: *rx_bytes,
                    rx_dropped: *rx_dropped,
                    rx_missed: *rx_missed,
                    rps: Some(name.clone()),
                    ..Device::default()
                })
                .collect();
            report.reconciliation = others
                .iter()
                .map(|(name, _, [delta, traced, ..], _)| Reconciliation {
                    unexplained: None,
                    counter: name.clone(),
                    delta: *delta,
                    traced: Some(*traced),
                    residual: Some(traced.cast_signed()),
                    explanation: Some(name.clone()),
                })
                .collect();
            let [ring_full, map_full, drop_table_full, unreadable, undecodable] = losses;
            report.losses = Losses { ring_full, map_full, drop_table_full, unreadable, undecodable, ..Losses::default() };
            report
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn no_line_of_any_report_is_wider_than_asked(report in report(), width in 40usize..140, unicode: bool) {
            let style = Style { width, color: false, unicode };
            for text in [
                text::render_verbose(&report, &style),
                block::render_block(&report, &style),
                live::screen(&report, Some(&report), &style, 30),
            ] {
                for line in text.lines() {
                    prop_assert!(line.width() <= width, "{} > {width}: {line:?}", line.width());
                    prop_assert!(!line.chars().any(char::is_control), "{line:?}");
                }
            }
        }
    }
}
