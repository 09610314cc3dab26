//! `tracer run`.

use std::{
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use signal_hook::flag;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval_at, sleep_until},
};
use tracer_common::event::Kind;

use super::{Format, Global, terminal};
use crate::{
    analyze::{
        details::{Collected, event},
        summary::summarize,
    },
    bpf::{Choice, Details, HOOKS},
    host::Capabilities,
    live::{Live, Options},
    model::{
        report::{Record, Report},
        snapshot::Snapshot,
        window::Window,
    },
    report::{Style, block, json, live, text},
};

/// Exit status after a second Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// Arguments of `tracer run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stop after this time (10s, 2m, 500ms); without it, run until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "What to watch")]
    duration: Option<Duration>,

    /// Only this network device; repeat for several. CPU numbers are always of the whole host.
    #[arg(long, value_name = "NAME", help_heading = "What to watch")]
    interface: Vec<String>,

    /// Time between two reports while running.
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s", help_heading = "Output")]
    interval: Duration,

    /// text: for people; json: a window a line, details if --events is given, then the summary.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    format: Format,

    /// Kinds of single events to stream from the kernel: irq, net_rx, drop [default: all].
    /// With --format json they are printed.
    #[arg(
        long,
        value_name = "KINDS",
        value_delimiter = ',',
        help_heading = "Details"
    )]
    events: Vec<EventKind>,

    /// Single events a second, kind and CPU; 'unlimited' for all. Counts are exact whatever this is.
    #[arg(long, value_name = "N", value_parser = detail_rate, default_value = "100", help_heading = "Details")]
    detail_rate: DetailRate,

    /// Size of the ring that single events pass through; a power of two, at least a page.
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value = "1MiB", help_heading = "Details")]
    ring_size: u32,

    /// Different drops (site, reason, device, protocol) that can be told apart; more are counted together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576), default_value = "4096", help_heading = "Kernel")]
    drop_sites: u32,

    /// Attach hook NAME by one mechanism or not at all: auto, tp_btf, raw_tp, fentry, kprobe, off.
    /// `tracer doctor` lists the hooks.
    #[arg(long, value_name = "NAME=HOW", value_parser = hook_choice, help_heading = "Kernel")]
    hook: Vec<(usize, Choice)>,
}

/// As `--events` spells [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum EventKind {
    Irq,
    NetRx,
    Drop,
}

/// `--detail-rate`.
#[derive(Clone, Copy, Debug)]
struct DetailRate(Option<u32>);

/// Longest `--duration` and `--interval`.
const LONGEST: Duration = Duration::from_hours(366 * 24);
/// Bytes that one call of `drain` takes out of a full ring at the least.
const SMALLEST_BATCH: u32 = 512 * 1024;
/// The ring is read at least this often: the kernel side only wakes the reader while more arrives.
const DRAIN: Duration = Duration::from_millis(100);

fn duration(text: &str) -> Result<Duration, String> {
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
    fn options(&self, global: Global) -> Options {
        let mut choices = vec![Choice::Auto; HOOKS.len()];
        for (index, choice) in &self.hook {
            choices[*index] = *choice;
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

/// Runs the command.
pub(super) fn run(args: Args, global: Global) -> Result<ExitCode> {
    Capabilities::check()?;
    env_logger::Builder::new()
        .filter_level(match global.verbose {
            0 => log::LevelFilter::Warn,
            1 => log::LevelFilter::Info,
            _ => log::LevelFilter::Debug,
        })
        .filter_module("aya", log::LevelFilter::Warn)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(watch(args, global))
}

async fn watch(args: Args, global: Global) -> Result<ExitCode> {
    // From here on Ctrl-C ends the run in order, also while programs are being attached.
    let mut stop = Stop::new()?;
    let began = Instant::now();
    let (live, details) = Live::start(&args.options(global))?;
    let mut session = Session::new(args, global, live, details)?;
    let (attached, hooks) = session.live.attached();
    // Nobody may be reading stderr; that is no reason to stop.
    let _ = writeln!(
        io::stderr(),
        "attached {attached} of {hooks} hooks in {} ms; stop with Ctrl-C",
        began.elapsed().as_millis()
    );
    if global.verbose >= 1 {
        for hook in &session.first.traced.hooks {
            let via = hook.via.as_deref().unwrap_or("nothing");
            let why = hook.reason.as_deref().unwrap_or("attached");
            log::info!("{}: {via} ({why})", hook.name);
        }
    }
    let mut log = None;
    if global.verbose >= 2 {
        let lines = session.live.log()?;
        log = Some(tokio::spawn(lines));
    }
    let result = session.watch(&mut stop).await;
    if let Some(log) = log {
        log.abort();
    }
    result?;
    session.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// SIGINT and SIGTERM. The first ends the run in order; the second ends the process where it stands, even
/// if it waits for somebody to read stdout: the kernel then unloads what was attached.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let again = Arc::new(AtomicBool::new(false));
        let on = |kind: SignalKind| {
            flag::register_conditional_shutdown(kind.as_raw_value(), INTERRUPTED, again.clone())
                .and_then(|_| flag::register(kind.as_raw_value(), again.clone()))
                .and_then(|_| signal(kind))
                .context("cannot install a signal handler")
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A run from the first snapshot to the report.
struct Session {
    args: Args,
    global: Global,
    live: Live,
    details: Details,
    collected: Collected,
    first: Snapshot,
    last: Snapshot,
    screen: Option<terminal::Screen>,
}

impl Session {
    fn new(args: Args, global: Global, mut live: Live, details: Details) -> Result<Self> {
        let first = live.snapshot()?;
        // Log lines and a screen do not go together.
        let screen =
            (args.format == Format::Text && global.verbose == 0 && terminal::size().is_some())
                .then(terminal::Screen::enter)
                .transpose()?;
        Ok(Self {
            args,
            global,
            live,
            details,
            collected: Collected::default(),
            last: first.clone(),
            first,
            screen,
        })
    }

    async fn watch(&mut self, stop: &mut Stop) -> Result<()> {
        let start = tokio::time::Instant::now();
        let end = self.args.duration.map(|d| start + d);
        let every = self.args.interval;
        let mut ticks = interval_at(start + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut drains = interval_at(start + DRAIN, DRAIN);
        drains.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut more = false;
        let mut over = pin!(async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                biased;
                () = stop.wait() => return Ok(()),
                () = &mut over => return Ok(()),
                _ = ticks.tick() => self.interval()?,
                filling = self.details.filling() => {
                    filling?;
                    more = self.drain(None)?;
                }
                _ = drains.tick() => {
                    more = self.drain(None)?;
                    // A CPU that comes or goes right now is seen the next time.
                    let _ = self.live.see_cpus();
                }
                () = std::future::ready(()), if more => {
                    tokio::task::yield_now().await;
                    more = self.drain(None)?;
                }
            }
        }
    }

    /// Takes in details that wait; true if there are more. Those of before the first snapshot and, if
    /// given, after `end_ns` belong to no count and are passed over.
    fn drain(&mut self, end_ns: Option<u64>) -> Result<bool> {
        let counted = self.first.monotonic_ns..=end_ns.unwrap_or(u64::MAX);
        let names = &mut self.live.facts.names;
        let collected = &mut self.collected;
        let print = self.args.format == Format::Json && !self.args.events.is_empty();
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut written = Ok(());
        let more = self.details.drain(|detail| {
            if !counted.contains(&detail.time_ns) {
                return;
            }
            if let crate::bpf::Body::Drop(drop) = &detail.body {
                names.learn(drop.key.netns, drop.key.ifindex, &drop.device);
            }
            let event = event(&detail, names);
            collected.add(&detail, &event);
            if print && written.is_ok() {
                written = line(&mut out, &Record::Event(event));
            }
        });
        written?;
        out.flush()?;
        Ok(more)
    }

    /// A snapshot and the report since the last.
    fn interval(&mut self) -> Result<()> {
        self.drain(None)?;
        let mut now = match self.live.snapshot() {
            Ok(now) => now,
            // The counters go on; the next snapshot covers both intervals.
            Err(error) => {
                log::warn!("this interval is skipped: {error:#}");
                return Ok(());
            }
        };
        now.traced.undecodable = self.details.undecodable();
        let window = Window::between(&self.last, &now);
        let report = summarize(&window, &self.live.facts, None);
        self.last = now;
        self.show(report)
    }

    fn show(&self, report: Report) -> Result<()> {
        let style = self.style();
        let mut out = io::stdout().lock();
        match (&self.screen, self.args.format) {
            (Some(screen), _) => {
                let (width, height) = terminal::size().unwrap_or((style.width, 24));
                drop(out);
                screen.show(&live::screen(&report, &Style { width, ..style }, height))?;
            }
            (None, Format::Json) => line(&mut out, &Record::Window(report))?,
            (None, Format::Text) => writeln!(out, "{}", block::render_block(&report, &style))?,
        }
        io::stdout().flush()?;
        Ok(())
    }

    fn style(&self) -> Style {
        Style {
            width: terminal::width(),
            color: terminal::color(self.global.color),
            unicode: terminal::unicode(),
        }
    }

    /// The report on the whole run.
    fn finish(&mut self) -> Result<()> {
        self.screen = None;
        // The last counters first: draining takes time in which more would be counted.
        let mut end = match self.live.snapshot() {
            Ok(end) => end,
            Err(error) => {
                log::warn!("the report ends with the last interval: {error:#}");
                self.last.clone()
            }
        };
        // As much as the ring can hold, not as long as somebody fills it.
        for _ in 0..=self.args.ring_size / SMALLEST_BATCH {
            if !self.drain(Some(end.monotonic_ns))? {
                break;
            }
        }
        end.traced.undecodable = self.details.undecodable();
        if let Err(error) = self.live.refresh_topology() {
            log::warn!("topology as it was at the start: {error:#}");
        }
        self.live.note_absent_cpus(&self.first, &end);
        let window = Window::between(&self.first, &end);
        let report = summarize(&window, &self.live.facts, Some(&self.collected));
        let mut out = io::stdout().lock();
        match self.args.format {
            Format::Json => line(&mut out, &Record::Summary(report))?,
            Format::Text => write!(out, "{}", text::render(&report, &self.style()))?,
        }
        out.flush()?;
        Ok(())
    }
}

fn line(out: &mut impl io::Write, record: &Record) -> Result<()> {
    writeln!(out, "{}", json::line(record)?)?;
    Ok(())
}
