//! A recording's frames to its lines.

use std::io::Read;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    FORMAT, VERSION,
    delta::{Misfit, SnapshotDelta, StateDelta},
    frame::{self, Broken},
    state::Header,
};
use crate::model::event::Event;

/// Why a file cannot be read as a recording at all.
#[derive(Debug, thiserror::Error)]
pub enum NoRecording {
    /// Of another kind.
    #[error("is no recording of tracer; 'tracer run --record FILE' makes one")]
    Foreign,
    /// Nothing in it.
    #[error("is empty: the run ended before its first interval was written")]
    Empty,
    /// Not even its first frame is whole.
    #[error("holds no whole frame: {0}; copy or record it again")]
    Broken(Broken),
    /// Written by a later tracer.
    #[error(
        "has format version {version}, written by tracer {tracer}; this tracer ({own}) reads up to {VERSION}: \
         take tracer {tracer} or later",
        own = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// Its version.
        version: u32,
        /// The tracer that wrote it.
        tracer: String,
    },
}

/// When the counters of a [`Moment`] were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// First.
    Start,
    /// After an interval.
    Interval,
    /// Last.
    End,
}

/// What a run knew at one moment, as the difference to the moment before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Moment {
    /// Which.
    #[serde(rename = "kind")]
    pub when: When,
    /// Names, facts and samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateDelta>,
    /// Counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<SnapshotDelta>,
}

/// One line.
#[derive(Debug)]
pub enum Line {
    /// A single event.
    Event(Event),
    /// Counters and what else was known.
    Moment(Box<Moment>),
}

/// The first line's first words.
#[derive(Deserialize)]
struct Title {
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: u32,
    #[serde(default)]
    tracer: String,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// A recording being read.
#[derive(Debug)]
pub struct Reader<R> {
    file: R,
    /// Its header.
    pub header: Header,
    /// Lines of the first frame after the header.
    first: Option<Vec<Line>>,
}

impl<R: Read> Reader<R> {
    /// Reads the first frame.
    pub fn open(mut file: R) -> Result<Self, NoRecording> {
        let text = match frame::decode(&mut file) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(NoRecording::Empty),
            Err(Broken::NoFrame) => return Err(NoRecording::Foreign),
            Err(broken) => return Err(NoRecording::Broken(broken)),
        };
        let (title, rest) = match text.iter().position(|&byte| byte == b'\n') {
            Some(end) => (&text[..end], &text[end + 1..]),
            None => (&text[..], &[][..]),
        };
        let header = header(title)?;
        let first = lines(rest).map_err(NoRecording::Broken)?;
        Ok(Self {
            file,
            header,
            first: Some(first),
        })
    }

    /// Lines of the next frame; `None` at the end of the file.
    pub fn frame(&mut self) -> Result<Option<Vec<Line>>, Broken> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let text = frame::decode(&mut self.file)?;
        text.map(|text| lines(&text)).transpose()
    }
}

impl<R: Read> Reader<R> {
    /// Whether there is anything behind the last frame that was read.
    pub fn has_more(&mut self) -> bool {
        self.first.is_some() || matches!(self.file.read(&mut [0]), Ok(1..))
    }
}

fn header(line: &[u8]) -> Result<Header, NoRecording> {
    let title: Title = serde_json::from_slice(line).map_err(|_| NoRecording::Foreign)?;
    if title.format != FORMAT {
        return Err(NoRecording::Foreign);
    }
    if title.version > VERSION {
        return Err(NoRecording::Newer {
            version: title.version,
            tracer: title.tracer,
        });
    }
    parse(line).map_err(NoRecording::Broken)
}

fn lines(text: &[u8]) -> Result<Vec<Line>, Broken> {
    let lines = text.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let known = lines.map(|line| match parse::<Kind>(line)?.kind.as_str() {
        "event" => Ok(Some(Line::Event(parse(line)?))),
        "start" | "interval" | "end" => Ok(Some(Line::Moment(parse(line)?))),
        // Of a later tracer that still writes this version.
        _ => Ok(None),
    });
    known.filter_map(Result::transpose).collect()
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, Broken> {
    serde_json::from_slice(line)
        .map_err(|error| Broken::Damaged(format!("a line is wrong: {error}")))
}

impl From<Misfit> for Broken {
    fn from(misfit: Misfit) -> Self {
        Self::Damaged(format!("a line does not fit to those before: {misfit}"))
    }
}
