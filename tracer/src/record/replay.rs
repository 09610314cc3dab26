//! The recorded source: a recording's frames to the snapshots and facts that the live run had.

use std::io::Read;

use super::{
    delta::{Delta as _, Misfit, counted_twice},
    frame::Broken,
    reader::{Line, Moment, NoRecording, Reader, When},
    state::{Header, State},
};
use crate::{
    analyze::summary::{Facts, summarize},
    model::{event::Event, report::Report, snapshot::Snapshot, window::Window},
};

/// A recording being replayed.
#[derive(Debug)]
pub struct Replay<R> {
    reader: Reader<R>,
    moments: Option<Moments>,
    /// Lines of the frame that is being replayed, the next one last.
    lines: Vec<Line>,
    state: State,
    ended: bool,
}

/// Snapshots so far.
#[derive(Debug)]
struct Moments {
    first: Snapshot,
    before: Snapshot,
    last: Snapshot,
}

/// What comes next in a recording.
#[derive(Debug)]
pub enum Step {
    /// A single event.
    Event(Box<Event>),
    /// An interval is over: [`Replay::interval`] tells of it.
    Interval,
}

/// Why a recording has no more to tell.
#[derive(Debug)]
pub enum End {
    /// The run ended in order.
    Whole,
    /// The file ends behind a whole frame, without the run's end.
    Early,
    /// It ends within a frame or is damaged from here on.
    Broken(Broken),
}

impl<R: Read> Replay<R> {
    /// Reads up to the first snapshot.
    pub fn open(file: R) -> Result<Self, NoRecording> {
        Ok(Self {
            reader: Reader::open(file)?,
            moments: None,
            lines: Vec::new(),
            state: State::default(),
            ended: false,
        })
    }

    /// Of the whole recording.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.reader.header
    }

    /// Goes on to what comes next. After an [`End`] there is nothing more, and what was before it is whole.
    pub fn step(&mut self) -> Result<Step, End> {
        loop {
            if self.ended {
                return Err(End::Whole);
            }
            match self.lines.pop() {
                Some(Line::Event(event)) => return Ok(Step::Event(Box::new(event))),
                Some(Line::Moment(moment)) => {
                    let when = moment.when;
                    self.take(*moment)
                        .map_err(|misfit| End::Broken(misfit.into()))?;
                    match when {
                        When::Start => {}
                        When::Interval => return Ok(Step::Interval),
                        When::End => self.ended = true,
                    }
                }
                None => {
                    let frame = self.reader.frame().map_err(End::Broken)?;
                    self.lines = frame.ok_or(End::Early)?;
                    self.lines.reverse();
                }
            }
        }
    }

    /// Goes on to the end, past all events and intervals.
    pub fn finish(&mut self) -> End {
        loop {
            if let Err(end) = self.step() {
                return end;
            }
        }
    }

    /// Whether the file goes on behind the end of the run: not by what recorded it.
    pub fn has_more(&mut self) -> bool {
        self.ended && (!self.lines.is_empty() || self.reader.has_more())
    }

    /// Nothing is changed by a moment that does not fit.
    fn take(&mut self, moment: Moment) -> Result<(), Misfit> {
        let mut state = self.state.clone();
        if let Some(change) = moment.state {
            state.apply(change)?;
        }
        let before = self.moments.as_ref().map(|moments| &moments.last);
        let mut now = before.cloned().unwrap_or_default();
        if let Some(change) = moment.counters {
            if self.reader.header.version == 1 {
                now.apply(change)?;
            } else {
                counted_twice::apart(&mut now);
                now.apply(change)?;
                counted_twice::together(&mut now);
            }
        }
        self.state = state;
        match &mut self.moments {
            Some(moments) => moments.before = std::mem::replace(&mut moments.last, now),
            none => {
                *none = Some(Moments {
                    first: now.clone(),
                    before: now.clone(),
                    last: now,
                });
            }
        }
        Ok(())
    }

    /// The facts as they are now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.reader.header.facts(&self.state)
    }

    /// The report on the last interval; `None` before the first.
    #[must_use]
    pub fn interval(&self) -> Option<Report> {
        let moments = self.moments.as_ref()?;
        let window = Window::between(&moments.before, &moments.last);
        Some(summarize(&window, &self.facts(), None))
    }

    /// From the first snapshot to the last; `None` before any time has passed.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        let moments = self.moments.as_ref()?;
        let passed = self.ended || moments.last.monotonic_ns > moments.first.monotonic_ns;
        passed.then(|| Window::between(&moments.first, &moments.last))
    }

    /// The report on [`Self::window`].
    #[must_use]
    pub fn summary(&self, window: &Window) -> Report {
        summarize(window, &self.facts(), Some(&self.state.kept))
    }
}
