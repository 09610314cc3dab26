//! What the single events add: coverage, the slowest runs, a few drops.

use std::fmt::Write as _;

use super::text;
use crate::model::event::{Event, Flow, What};
use crate::model::report::{Irq, Report};
use crate::report::number::{count, duration, percent};
use crate::report::page::{Page, Span, Tone};

/// Events of each sort that are shown.
const SHOWN: usize = 3;

/// Coverage in one line, then the samples.
pub fn lines(page: &mut Page, report: &Report) {
    let kinds: Vec<Span> = report
        .details
        .iter()
        .filter(|kind| kind.seen > 0)
        .map(|kind| {
            let share = percent(kind.sent, kind.seen);
            text(format!(
                "{} {} of {} ({share})",
                kind.kind,
                count(kind.sent),
                count(kind.seen)
            ))
        })
        .collect();
    if !kinds.is_empty() {
        page.list("Single events:", &kinds);
    }
    let samples = &report.samples;
    part(page, "slowest NET_RX", &samples.slowest_net_rx, report);
    part(page, "slowest IRQ", &samples.slowest_irqs, report);
    part(page, "dropped", &samples.drops, report);
}

fn part(page: &mut Page, label: &str, events: &[Event], report: &Report) {
    for (at, event) in events.iter().take(SHOWN).enumerate() {
        let label = if at == 0 { label } else { "" };
        page.item(
            &format!("  {label:<14}  "),
            &words(event, report),
            Tone::Plain,
            18,
        );
    }
}

fn words(event: &Event, report: &Report) -> String {
    let cpu = event.cpu;
    match &event.what {
        What::Irq { irq, handler_ns } => {
            let name = report
                .irqs
                .iter()
                .find(|one: &&Irq| one.irq == *irq)
                .map_or("", |irq| irq.name.as_str());
            format!(
                "{} on CPU {cpu}, IRQ {irq} {name}",
                duration(*handler_ns, true)
            )
        }
        What::NetRx {
            wait_ns,
            run_ns,
            packets,
            ksoftirqd,
            budget_exhausted,
            time_exhausted,
        } => {
            let wait = wait_ns.map_or_else(|| "?".to_owned(), |ns| duration(ns, true));
            let mut words = format!(
                "{} on CPU {cpu}, waited {wait}, {} packets",
                duration(*run_ns, true),
                count(u64::from(*packets))
            );
            let notes = [
                (*ksoftirqd, "in ksoftirqd"),
                (*budget_exhausted, "budget used up"),
                (*time_exhausted, "out of time"),
            ];
            for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
                words += ", ";
                words += note;
            }
            words
        }
        What::Drop {
            site,
            reason,
            device,
            protocol,
            len,
            target_cpu,
            flow,
            ..
        } => {
            let what = flow.as_ref().map_or_else(|| protocol.clone(), flow_words);
            let mut words = format!("{what}, {len} B");
            if let Some(device) = device {
                let _ = write!(words, ", {device}");
            }
            let _ = write!(words, ", CPU {cpu}");
            if let Some(target) = target_cpu {
                let _ = write!(words, " → backlog of CPU {target}");
            }
            let reason = reason
                .as_ref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            format!("{words}: {site}{reason}")
        }
    }
}

fn flow_words(flow: &Flow) -> String {
    let protocol = match flow.protocol {
        1 | 58 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        other => format!("IP protocol {other}"),
    };
    let end = |address: std::net::IpAddr, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    format!(
        "{protocol} {} → {}",
        end(flow.source, flow.source_port),
        end(flow.destination, flow.destination_port)
    )
}
