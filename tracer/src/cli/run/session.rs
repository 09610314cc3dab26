//! A run: windows as they pass, details as they stream by, the report at the end.

use std::{
    io::{self, Write as _},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::{args::Args, stop::Stop};
use crate::{
    analyze::{
        details::{Collected, event},
        summary::summarize,
    },
    bpf::{Body, Details},
    cli::{Format, Global, is_broken_pipe, terminal},
    live::Live,
    model::{
        report::{Record, Report},
        snapshot::Snapshot,
        window::Window,
    },
    record::{state::Header, writer::Recorder},
    report::{Style, block, json, live, text},
};

/// Bytes that one call of `drain` takes out of a full ring at the least.
const SMALLEST_BATCH: u32 = 512 * 1024;
/// The ring is read at least this often: the kernel side only wakes the reader while more arrives. So long a single event
/// may be late, and so short a time may a CPU be offline unnoticed. At 100 ms the wake-ups were half of what an idle run
/// costs.
const DRAIN: Duration = Duration::from_millis(250);
/// And so soon after the kernel side woke the reader: it does so once a jiffy at most, and not from a ring that is full.
const DRAIN_AGAIN: Duration = Duration::from_millis(10);

/// A run from the first snapshot to the report.
pub(super) struct Session {
    args: Args,
    global: Global,
    pub(super) live: Live,
    details: Details,
    collected: Collected,
    pub(super) first: Snapshot,
    last: Snapshot,
    screen: Option<terminal::Screen>,
    recorder: Option<Recorder>,
    /// Somebody was told why the recording ended before the run.
    told: bool,
    /// Nobody reads stdout any more, and the run goes on for its recording.
    unread: bool,
}

/// Waits until then, or for ever.
async fn at(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

impl Session {
    pub(super) fn new(
        args: Args,
        global: Global,
        mut live: Live,
        details: Details,
    ) -> Result<Self> {
        let mut first = live.snapshot()?;
        live.add_driver_stats(&mut first);
        live.begin_processes();
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
            recorder: None,
            told: false,
            unread: false,
        })
    }

    pub(super) async fn watch(&mut self, stop: &mut Stop) -> Result<()> {
        let start = tokio::time::Instant::now();
        let end = self.args.duration.map(|d| start + d);
        let every = self.args.interval;
        // Not before attaching is done and said: only the report at the end wants it.
        if let Err(error) = self.live.refresh_topology() {
            log::warn!("topology is not known yet: {error:#}");
        }
        self.start_recording()?;
        let mut ticks = interval_at(start + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut drains = interval_at(start + DRAIN, DRAIN);
        drains.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut more = false;
        let mut again = None;
        let mut over = pin!(at(end));
        loop {
            tokio::select! {
                biased;
                () = stop.wait() => return Ok(()),
                () = &mut over => return Ok(()),
                _ = ticks.tick() => self.interval()?,
                filling = self.details.filling() => {
                    filling?;
                    again = Some(tokio::time::Instant::now() + DRAIN_AGAIN);
                    more = self.drain(None)?;
                }
                () = at(again) => {
                    again = None;
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

    fn start_recording(&mut self) -> Result<()> {
        let Some(path) = &self.args.record else {
            return Ok(());
        };
        let every = u64::try_from(self.args.interval.as_nanos()).unwrap_or(u64::MAX);
        let header = Header::new(&self.live.facts, every, !self.args.events.is_empty());
        let (force, facts) = (self.args.force, &self.live.facts);
        self.recorder = Some(Recorder::start(path, force, &header, &self.first, facts)?);
        Ok(())
    }

    /// Says once that the recording ended before the run; on a screen nobody would see it.
    fn tell_failed_recording(&mut self) {
        let why = self.recorder.as_ref().and_then(Recorder::failed);
        if let (Some(why), Some(path), None, false) =
            (why, &self.args.record, &self.screen, self.told)
        {
            let path = path.display();
            log::warn!("the recording {path} ends here, the run goes on: {why}");
            self.told = true;
        }
    }

    /// Takes in details that wait; true if there are more. Those of before the first snapshot and, if
    /// given, after `end_ns` belong to no count and are passed over.
    fn drain(&mut self, end_ns: Option<u64>) -> Result<bool> {
        let counted = self.first.monotonic_ns..=end_ns.unwrap_or(u64::MAX);
        let facts = &mut self.live.facts;
        let collected = &mut self.collected;
        let asked_for = !self.args.events.is_empty();
        let print = self.args.format == Format::Json && asked_for && !self.unread;
        let mut recorder = self.recorder.as_mut().filter(|_| asked_for);
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut written = Ok(());
        let more = self.details.drain(|detail| {
            if !counted.contains(&detail.time_ns) {
                return;
            }
            if let Body::Drop(drop) = &detail.body {
                let (netns, ifindex) = (drop.key.netns, drop.key.ifindex);
                facts.names.learn(netns, ifindex, &drop.device);
                if !facts.shows(netns, ifindex) {
                    return;
                }
            }
            let event = event(&detail, &facts.names);
            collected.add(&detail, &event);
            if let Some(recorder) = &mut recorder {
                recorder.event(&event);
            }
            if print && written.is_ok() {
                written = line(&mut out, &Record::Event(event));
            }
        });
        let written = written.and_then(|()| Ok(out.flush()?));
        // What is left in it after a failed write is not tried again.
        drop(out.into_parts());
        self.may_go_unread(written)?;
        Ok(more)
    }

    /// A reader of stdout that goes away ends a run, but not its recording.
    fn may_go_unread(&mut self, written: Result<()>) -> Result<()> {
        match (written, &self.args.record) {
            (Err(error), Some(path)) if is_broken_pipe(&error) => {
                if !self.unread {
                    self.unread = true;
                    let path = path.display();
                    log::warn!("nobody reads stdout any more; the recording {path} goes on");
                }
                Ok(())
            }
            (written, _) => written,
        }
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
        let since = |snapshot| {
            let window = Window::between(snapshot, &now);
            summarize(&window, &self.live.facts, None)
        };
        let report = since(&self.last);
        let since_start = self.screen.is_some().then(|| since(&self.first));
        if let Some(recorder) = &mut self.recorder {
            recorder.interval(&now, &self.live.facts, self.collected.kept());
        }
        self.tell_failed_recording();
        self.last = now;
        if !self.unread {
            let shown = self.show(report, since_start.as_ref());
            self.may_go_unread(shown)?;
        }
        if let Err(error) = self.live.refresh_changed_topology() {
            log::info!("topology as it was before the change: {error:#}");
        }
        Ok(())
    }

    /// Shows an interval; a screen also tells what happened `since_start`.
    fn show(&self, report: Report, since_start: Option<&Report>) -> Result<()> {
        let style = self.style();
        let mut out = io::stdout().lock();
        match (&self.screen, self.args.format) {
            (Some(screen), _) => {
                let (width, height) = terminal::size().unwrap_or((style.width, 24));
                drop(out);
                let style = Style { width, ..style };
                screen.show(&live::screen(&report, since_start, &style, height))?;
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

    /// The report on the whole run, and the end of its recording; the status tells whether that is whole.
    pub(super) fn finish(&mut self) -> Result<ExitCode> {
        self.screen = None;
        // The last counters first: draining takes time in which more would be counted.
        let mut end = match self.live.snapshot() {
            Ok(end) => end,
            Err(error) => {
                log::warn!("the report ends with the last interval: {error:#}");
                self.last.clone()
            }
        };
        // These belong to the same window as the counters; who used the CPUs is no matter of milliseconds.
        self.live.add_driver_stats(&mut end);
        self.live.end_processes();
        // As much as the ring can hold, not as long as somebody fills it.
        for _ in 0..=self.args.ring_size / SMALLEST_BATCH {
            if !self.drain(Some(end.monotonic_ns))? {
                break;
            }
        }
        end.traced.undecodable = self.details.undecodable();
        if let Err(error) = self.live.refresh_topology() {
            log::warn!("topology as it was read before: {error:#}");
        }
        self.live.note_absent_cpus(&self.first, &end);
        let window = Window::between(&self.first, &end);
        let kept = self.collected.kept();
        let report = summarize(&window, &self.live.facts, Some(&kept));
        if let Some(recorder) = &mut self.recorder {
            recorder.end(&end, &self.live.facts, kept);
        }
        // Before the recording is closed: a disk may take its time.
        if !self.unread {
            let printed = self.print(report);
            self.may_go_unread(printed)?;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.close();
        }
        self.tell_failed_recording();
        let failed = |recorder: &Recorder| recorder.failed().is_some();
        Ok(if self.recorder.as_ref().is_some_and(failed) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    /// Prints the report on the whole run.
    fn print(&self, report: Report) -> Result<()> {
        let mut out = io::stdout().lock();
        match self.args.format {
            Format::Json => line(&mut out, &Record::Summary(report))?,
            Format::Text if self.global.verbose > 0 => {
                write!(out, "{}", text::render_verbose(&report, &self.style()))?;
            }
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
