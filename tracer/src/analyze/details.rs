//! What the report keeps of the details that stream by: the slowest, a few samples, and handler
//! times by interrupt. Memory is bounded whatever the rate.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use tracer_common::event::{
    BUDGET_EXHAUSTED, DropBody, IN_KSOFTIRQD, IrqBody, NetRxBody, TIME_EXHAUSTED, UNKNOWN_NS,
};

use super::names::{Names, protocol};
use crate::{
    bpf::{Body, Detail},
    model::{
        event::{Event, Flow, What},
        report::Samples,
    },
};

/// Slowest handlers and runs shown.
const SLOWEST: usize = 5;
/// Interrupts whose handler times are kept: a histogram takes some 30 KiB.
const IRQS: usize = 64;
/// Sample drops shown, and sites they are kept for.
const SAMPLE_DROPS: usize = 8;

/// Collects details of a whole run.
#[derive(Default)]
pub struct Collected {
    irqs: Vec<(u64, Event)>,
    net_rx: Vec<(u64, Event)>,
    drops: BTreeMap<(u64, u32), Event>,
    handlers: BTreeMap<u32, Histogram<u64>>,
}

impl Collected {
    /// Takes one in; `event` is the same, named.
    pub fn add(&mut self, detail: &Detail, event: &Event) {
        match &detail.body {
            Body::Irq(irq) => {
                keep_slowest(&mut self.irqs, irq.handler_ns, event);
                self.handler(irq);
            }
            Body::NetRx(run) => keep_slowest(&mut self.net_rx, run.run_ns, event),
            Body::Drop(drop) => {
                let site = (drop.key.location, drop.key.reason);
                if self.drops.len() < SAMPLE_DROPS {
                    self.drops.entry(site).or_insert_with(|| event.clone());
                }
            }
        }
    }

    fn handler(&mut self, irq: &IrqBody) {
        let tracked = self.handlers.len();
        let histogram = match self.handlers.entry(irq.irq) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(_) if tracked >= IRQS => return,
            std::collections::btree_map::Entry::Vacant(entry) => {
                // Two digits, up to a minute; the arguments are constants that it accepts.
                let Ok(histogram) = Histogram::new_with_bounds(1, 60_000_000_000, 2) else {
                    return;
                };
                entry.insert(histogram)
            }
        };
        histogram.saturating_record(irq.handler_ns);
    }

    /// What the report needs of them.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept {
            samples: self.samples(),
            handlers: self
                .handlers
                .iter()
                .map(|(irq, histogram)| {
                    let times = HandlerTimes {
                        count: histogram.len(),
                        p50: histogram.value_at_quantile(0.5),
                        p99: histogram.value_at_quantile(0.99),
                    };
                    (*irq, times)
                })
                .collect(),
        }
    }

    fn samples(&self) -> Samples {
        let events = |kept: &[(u64, Event)]| kept.iter().map(|(_, event)| event.clone()).collect();
        Samples {
            slowest_irqs: events(&self.irqs),
            slowest_net_rx: events(&self.net_rx),
            drops: self.drops.values().cloned().collect(),
        }
    }
}

/// What is left of the details of a run so far; a recording has it in every frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// For the report.
    pub samples: Samples,
    /// By interrupt.
    pub handlers: BTreeMap<u32, HandlerTimes>,
}

impl Kept {
    /// Median and 99th percentile of the handlers of `irq`, ns, if details covered all `count` of them.
    #[must_use]
    pub fn handler_percentiles(&self, irq: u32, count: u64) -> Option<(u64, u64)> {
        let times = self.handlers.get(&irq).filter(|h| h.count == count)?;
        Some((times.p50, times.p99))
    }
}

/// Times of one interrupt's handlers that streamed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandlerTimes {
    /// How many.
    pub count: u64,
    /// Median, ns.
    pub p50: u64,
    /// 99th percentile, ns.
    pub p99: u64,
}

fn keep_slowest(kept: &mut Vec<(u64, Event)>, ns: u64, event: &Event) {
    if kept.len() == SLOWEST && kept.last().is_some_and(|(last, _)| *last >= ns) {
        return;
    }
    let at = kept.partition_point(|(other, _)| *other >= ns);
    kept.insert(at, (ns, event.clone()));
    kept.truncate(SLOWEST);
}

/// The detail as the report and `--format json` show it.
#[must_use]
pub fn event(detail: &Detail, names: &Names) -> Event {
    let what = match &detail.body {
        Body::Irq(irq) => What::Irq {
            irq: irq.irq,
            handler_ns: irq.handler_ns,
        },
        Body::NetRx(run) => net_rx(run),
        Body::Drop(drop) => drop_event(drop, names),
    };
    Event {
        time_ns: detail.time_ns,
        cpu: detail.cpu,
        what,
    }
}

fn net_rx(run: &NetRxBody) -> What {
    What::NetRx {
        wait_ns: (run.wait_ns != UNKNOWN_NS).then_some(run.wait_ns),
        run_ns: run.run_ns,
        packets: run.packets,
        ksoftirqd: run.flags & IN_KSOFTIRQD != 0,
        budget_exhausted: run.flags & BUDGET_EXHAUSTED != 0,
        time_exhausted: run.flags & TIME_EXHAUSTED != 0,
    }
}

fn drop_event(drop: &DropBody, names: &Names) -> What {
    let site = names.site(&drop.key);
    let to_backlog = site.function == "enqueue_to_backlog";
    What::Drop {
        device: names.device(drop.key.netns, drop.key.ifindex),
        netns: names.netns(drop.key.netns),
        protocol: protocol(drop.key.protocol),
        len: drop.len,
        target_cpu: (to_backlog && drop.key.target_cpu != tracer_common::counter::NO_CPU)
            .then_some(drop.key.target_cpu),
        flow: flow(drop),
        site: site.site,
        offset: site.offset,
        reason: site.reason,
    }
}

fn flow(drop: &DropBody) -> Option<Flow> {
    let address = |bytes: [u8; 16]| match drop.ip_version {
        4 => {
            let [a, b, c, d, ..] = bytes;
            Some([a, b, c, d].into())
        }
        6 => Some(bytes.into()),
        _ => None,
    };
    let port = |bytes| (drop.has_ports == 1).then(|| u16::from_be_bytes(bytes));
    Some(Flow {
        protocol: drop.l4_protocol,
        source: address(drop.source)?,
        source_port: port(drop.source_port),
        destination: address(drop.destination)?,
        destination_port: port(drop.destination_port),
    })
}
