//! What a reader would take for a gap in the numbers, in sentences.

use crate::{
    model::report::{Cpu, Drop, Report},
    report::number::{count, of},
};

/// Notes that follow from the report's own numbers. `names_full_backlog`: this kernel has a drop reason for a full
/// backlog, so that a backlog's other drops are not one.
#[must_use]
pub fn notes(report: &Report, names_full_backlog: bool) -> Vec<String> {
    [
        net_rx_bypassed(report),
        refused_without_reason(report, names_full_backlog),
        refused_device_down(report, names_full_backlog),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Packets were polled, but never by `NET_RX`: CPUs that look idle are not.
fn net_rx_bypassed(report: &Report) -> Option<String> {
    let sum = |of: fn(&Cpu) -> Option<u64>| {
        let known = report.cpus.iter().filter_map(of);
        known.reduce(u64::saturating_add)
    };
    // Runs without a packet say nothing: some kernels have a few of them with threaded NAPI too.
    if sum(|cpu| cpu.packets)? > 0 || sum(|cpu| cpu.polls_outside_net_rx)? == 0 {
        return None;
    }
    let mut devices: Vec<&str> = report
        .napi
        .iter()
        .filter(|napi| napi.polls > 0)
        .map(|napi| napi.device.as_str())
        .collect();
    devices.sort_unstable();
    devices.dedup();
    let whose = match devices.as_slice() {
        [] => String::new(),
        names => format!(" of {}", names.join(", ")),
    };
    Some(format!(
        "NET_RX is empty because {}{whose} were polled outside of it, by threaded NAPI (/sys/class/net/*/threaded) or \
         busy polling: their CPU time is that of threads",
        of(sum(|cpu| cpu.packets_outside_net_rx)?, "packet")
    ))
}

/// The kernel gives full backlog, flow limit and device down one reason or none. The flow limit has a counter.
fn refused_without_reason(report: &Report, names_full_backlog: bool) -> Option<String> {
    let packets = refused(report, |reason| match reason {
        None => true,
        Some(reason) => reason == UNSPECIFIED && !names_full_backlog,
    })?;
    let limited = report
        .cpus
        .iter()
        .filter_map(|cpu| cpu.softnet?.flow_limit)
        .fold(0, u64::saturating_add);
    Some(format!(
        "a full backlog and a device that is down cannot be told apart on this kernel: it gives no reason for {} at \
         enqueue_to_backlog; the RPS flow limit refused {} (softnet_stat)",
        of(packets, "drop"),
        count(limited)
    ))
}

/// 5.18 to 6.10: the one drop there without a reason of its own.
fn refused_device_down(report: &Report, names_full_backlog: bool) -> Option<String> {
    let packets = refused(report, |reason| {
        reason == Some(UNSPECIFIED) && names_full_backlog
    })?;
    Some(format!(
        "{} at enqueue_to_backlog without a specified reason: the device was down (a full backlog is CPU_BACKLOG)",
        of(packets, "drop")
    ))
}

const UNSPECIFIED: &str = "NOT_SPECIFIED";

/// Packets that `enqueue_to_backlog` dropped for such a reason; `None` if none.
fn refused(report: &Report, has: impl Fn(Option<&str>) -> bool) -> Option<u64> {
    let ours = |drop: &&Drop| drop.site == "enqueue_to_backlog" && has(drop.reason.as_deref());
    let drops = report.drops.iter().filter(ours);
    let packets = drops.fold(0, |sum: u64, drop| sum.saturating_add(drop.packets));
    (packets > 0).then_some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::{Napi, Softnet};

    fn polled(packets: Option<u64>, outside: u64) -> Report {
        let cpu = Cpu {
            packets,
            polls_outside_net_rx: packets.map(|_| outside),
            packets_outside_net_rx: packets.map(|_| outside * 3),
            ..Cpu::default()
        };
        let napi = |device: &str, polls| Napi {
            device: device.to_owned(),
            polls,
            ..Napi::default()
        };
        Report {
            cpus: vec![cpu.clone(), cpu],
            napi: vec![napi("eth1", 4), napi("eth0", 2), napi("eth1", 1)],
            ..Report::default()
        }
    }

    fn refused_for(reason: Option<&str>) -> Report {
        Report {
            drops: vec![Drop {
                site: "enqueue_to_backlog".to_owned(),
                reason: reason.map(str::to_owned),
                packets: 1_200,
                ..Drop::default()
            }],
            cpus: vec![Cpu {
                softnet: Some(Softnet {
                    flow_limit: Some(7),
                    ..Softnet::default()
                }),
                ..Cpu::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn an_empty_net_rx_is_explained_by_polls_outside_of_it() {
        let notes = notes(&polled(Some(0), 5), true);
        assert_eq!(
            notes,
            [
                "NET_RX is empty because 30 packets of eth0, eth1 were polled outside of it, by threaded NAPI \
                 (/sys/class/net/*/threaded) or busy polling: their CPU time is that of threads"
            ]
        );
    }

    #[test]
    fn nothing_is_explained_while_net_rx_polls_packets_or_is_not_hooked_or_nothing_is_polled() {
        for report in [
            polled(Some(1), 5),
            polled(None, 5),
            polled(Some(0), 0),
            Report::default(),
        ] {
            assert!(notes(&report, true).is_empty(), "{report:?}");
        }
    }

    #[test]
    fn refusals_without_a_reason_are_said_to_be_indistinguishable() {
        for (reason, names_full_backlog) in [(None, false), (Some(UNSPECIFIED), false)] {
            let notes = notes(&refused_for(reason), names_full_backlog);
            assert_eq!(
                notes,
                [
                    "a full backlog and a device that is down cannot be told apart on this kernel: it gives no \
                     reason for 1,200 drops at enqueue_to_backlog; the RPS flow limit refused 7 (softnet_stat)"
                ]
            );
        }
    }

    #[test]
    fn where_a_full_backlog_has_a_reason_a_refusal_without_one_is_a_device_that_is_down() {
        let notes = notes(&refused_for(Some(UNSPECIFIED)), true);
        assert!(
            notes.len() == 1 && notes[0].contains("the device was down"),
            "{notes:?}"
        );
    }

    #[test]
    fn refusals_with_a_reason_need_no_note() {
        for reason in ["CPU_BACKLOG", "DEV_READY"] {
            assert!(notes(&refused_for(Some(reason)), true).is_empty());
        }
    }
}
