//! Arguments of `tracer run`.

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;
use tracer_common::event::Kind;

use crate::{
    analyze::rules::threshold::{Override, Thresholds},
    bpf::{Choice, HOOKS},
    cli::{Format, Global},
    live::Options,
};

const EXAMPLES: &str = "\
Examples:
  sudo tracer run --duration 10s                        ten seconds, then the report
  sudo tracer run --record before.trec --duration 1m    keep it for tracer report and compare
  sudo tracer run --record all.trec --events drop       with every single drop that streams by";

/// Arguments of `tracer run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// Stop after this time (10s, 2m, 500ms); without it, run until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "What to watch")]
    pub(super) duration: Option<Duration>,

    /// Only this network device; repeat for several. CPU numbers are always of the whole host.
    #[arg(long, value_name = "NAME", help_heading = "What to watch")]
    interface: Vec<String>,

    /// Time between two reports while running.
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s", help_heading = "Output")]
    pub(super) interval: Duration,

    /// text: for people; json: a window a line, details if --events is given, then the summary.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    pub(super) format: Format,

    /// Record the run to this new file, an interval at a time; `tracer report FILE` gives the same report again.
    /// With --events, every single event is recorded too.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) record: Option<PathBuf>,

    /// Let --record replace a file.
    #[arg(long, requires = "record", help_heading = "Output")]
    pub(super) force: bool,

    /// Kinds of single events to stream from the kernel: irq, net_rx, drop [default: all].
    /// With --format json they are printed.
    #[arg(
        long,
        value_name = "KINDS",
        value_delimiter = ',',
        help_heading = "Details"
    )]
    pub(super) events: Vec<EventKind>,

    /// Single events a second, kind and CPU; 'unlimited' for all. Counts are exact whatever this is.
    #[arg(long, value_name = "N", value_parser = detail_rate, default_value = "100", help_heading = "Details")]
    detail_rate: DetailRate,

    /// Size of the ring that single events pass through; a power of two, at least a page.
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value = "1MiB", help_heading = "Details")]
    pub(super) ring_size: u32,

    /// Different drops (site, reason, device, protocol) that can be told apart; more are counted together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576), default_value = "4096", help_heading = "Kernel")]
    drop_sites: u32,

    /// Attach hook NAME by one mechanism or not at all: auto, tp_btf, raw_tp, fentry, kprobe, off.
    /// `tracer doctor` lists the hooks.
    #[arg(long, value_name = "NAME=HOW", value_parser = hook_choice, help_heading = "Kernel")]
    hook: Vec<(usize, Choice)>,

    /// Judge by VALUE instead of the default: softirq-busy=90; repeat for several. `tracer explain thresholds` lists
    /// them.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Findings")]
    threshold: Vec<Override>,
}

/// As `--events` spells [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum EventKind {
    Irq,
    NetRx,
    Drop,
}

/// `--detail-rate`.
#[derive(Clone, Copy, Debug)]
pub(super) struct DetailRate(Option<u32>);

/// Longest `--duration` and `--interval`.
const LONGEST: Duration = Duration::from_hours(366 * 24);

pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|e| format!("{e}; write a number and a unit, such as 10s, 2m or 500ms"))?;
    if time.is_zero() {
        return Err("must be longer than 0".to_owned());
    }
    if time > LONGEST {
        return Err("must be at most a year".to_owned());
    }
    Ok(time)
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_millis(10) {
        return Err("must be at least 10ms".to_owned());
    }
    Ok(time)
}

fn detail_rate(text: &str) -> Result<DetailRate, String> {
    if text == "unlimited" {
        return Ok(DetailRate(None));
    }
    let rate = text
        .parse()
        .map_err(|_| "must be a whole number or 'unlimited'".to_owned())?;
    Ok(DetailRate(Some(rate)))
}

fn ring_size(text: &str) -> Result<u32, String> {
    let bytes = text.parse::<bytesize::ByteSize>()?.as_u64();
    let page = rustix::param::page_size() as u64;
    let possible = bytes.is_power_of_two() && bytes >= page && bytes <= 1 << 30;
    u32::try_from(bytes)
        .ok()
        .filter(|_| possible)
        .ok_or_else(|| {
            format!(
                "{bytes} bytes: must be a power of two from {page} to 1GiB, such as 256KiB or 4MiB"
            )
        })
}

fn hook_choice(text: &str) -> Result<(usize, Choice), String> {
    let (name, how) = text
        .split_once('=')
        .ok_or("write NAME=HOW, such as kfree_skb=raw_tp")?;
    let index = HOOKS.iter().position(|h| h.name == name).ok_or_else(|| {
        let known: Vec<_> = HOOKS.iter().map(|h| h.name).collect();
        format!("unknown hook '{name}'; known: {}", known.join(", "))
    })?;
    let choice = how.parse()?;
    if let Choice::Only(mechanism) = choice
        && !HOOKS[index].mechanisms.contains(&mechanism)
    {
        let possible: Vec<_> = HOOKS[index].mechanisms.iter().map(|m| m.name()).collect();
        return Err(format!(
            "{name} cannot be hooked by {mechanism}; possible: auto, {}, off",
            possible.join(", ")
        ));
    }
    Ok((index, choice))
}

impl Args {
    pub(super) fn options(&self, global: Global) -> Options {
        let mut choices = vec![Choice::Auto; HOOKS.len()];
        for (index, choice) in &self.hook {
            choices[*index] = *choice;
        }
        let mut thresholds = Thresholds::default();
        for change in &self.threshold {
            thresholds.set(*change);
        }
        let kinds = if self.events.is_empty() {
            Kind::ALL.to_vec()
        } else {
            let asked = |kind: &Kind| self.events.iter().any(|e| e.kind() == *kind);
            Kind::ALL.into_iter().filter(asked).collect()
        };
        Options {
            interfaces: self.interface.clone(),
            kinds,
            detail_rate: self.detail_rate.0,
            ring_bytes: self.ring_size,
            drop_sites: self.drop_sites,
            choices,
            thresholds,
            log: global.verbose >= 2,
        }
    }
}

impl EventKind {
    fn kind(self) -> Kind {
        match self {
            Self::Irq => Kind::Irq,
            Self::NetRx => Kind::NetRx,
            Self::Drop => Kind::Drop,
        }
    }
}
