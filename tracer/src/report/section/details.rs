//! What the single events add: coverage, the slowest runs, a few drops.

use std::fmt::Write as _;

use super::text;
use crate::analyze::answer::named;
use crate::model::event::{Event, Flow, What};
use crate::model::report::{Cpu, Irq, Report};
use crate::report::number::{count, duration, of, percent};
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
    let longest = net_rx_longest(report);
    slowest(
        page,
        report,
        "net_rx",
        "NET_RX",
        longest,
        &samples.slowest_net_rx,
    );
    let longest = irq_longest(report);
    let irqs = of_selected_devices(&samples.slowest_irqs, report);
    slowest(page, report, "irq", "IRQ", longest, &irqs);
    if !samples.drops.is_empty() {
        page.plain("  dropped, for example:", Tone::Plain);
        list(page, &samples.drops, report);
    }
}

/// With `--interface`, interrupts of other devices have no row that would say what they are.
fn of_selected_devices(events: &[Event], report: &Report) -> Vec<Event> {
    let is_shown = |event: &&Event| match event.what {
        What::Irq { irq, .. } => report.irqs.iter().any(|one| one.irq == irq),
        What::NetRx { .. } | What::Drop { .. } => true,
    };
    let all = report.interfaces.is_empty();
    let shown = events.iter().filter(|event| all || is_shown(event));
    shown.cloned().collect()
}

/// The longest of all, which the counters know, then the slowest of those that were streamed.
fn slowest(
    page: &mut Page,
    report: &Report,
    kind: &str,
    name: &str,
    longest: Option<String>,
    events: &[Event],
) {
    let sent = report
        .details
        .iter()
        .find(|one| one.kind == kind)
        .map_or(0, |one| one.sent);
    let streamed = if report.interfaces.is_empty() || kind != "irq" {
        format!("slowest of the {} streamed:", count(sent))
    } else {
        "slow ones among those streamed:".to_owned()
    };
    let words = match (longest, events) {
        (None, []) => return,
        (Some(longest), []) => format!("longest {longest}"),
        (Some(longest), _) => format!("longest {longest}; {streamed}"),
        (None, _) => streamed,
    };
    page.item("  ", &format!("{name}: {words}"), Tone::Plain, 4);
    list(page, events, report);
}

/// `297 µs on CPU 1`: of all runs, streamed or not.
fn net_rx_longest(report: &Report) -> Option<String> {
    let longest = |cpu: &Cpu| Some((cpu.net_rx_run_ns?.max, cpu.cpu));
    let (ns, cpu) = report.cpus.iter().filter_map(longest).max()?;
    Some(format!("{} on CPU {cpu}", duration(ns, true)))
}

/// `31 µs, IRQ 36 virtio1-req.0`: of all, streamed or not; `None` if it is not known for one of them.
fn irq_longest(report: &Report) -> Option<String> {
    let mut longest: Option<(u64, &Irq)> = None;
    for irq in &report.irqs {
        let ns = irq.handler_ns?.max?;
        if longest.is_none_or(|(most, _)| ns > most) {
            longest = Some((ns, irq));
        }
    }
    let (ns, irq) = longest?;
    Some(format!(
        "{}, IRQ {} {}",
        duration(ns, true),
        irq.irq,
        irq.name
    ))
}

fn list(page: &mut Page, events: &[Event], report: &Report) {
    for event in events.iter().take(SHOWN) {
        page.item("    ", &words(event, report), Tone::Plain, 6);
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
                "{} on CPU {cpu}, waited {wait}, {}",
                duration(*run_ns, true),
                of(u64::from(*packets), "packet")
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
            netns,
            protocol,
            len,
            target_cpu,
            flow,
            ..
        } => {
            let what = flow.as_ref().map_or_else(|| protocol.clone(), flow_words);
            let mut words = format!("{what}, {len} B");
            if let Some(device) = device {
                let _ = write!(words, ", {}", named(device, netns.as_deref()));
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
