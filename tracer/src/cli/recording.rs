//! Opening recordings, and what to say when one ends before its run.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    model::{report::Report, window::Window},
    record::{
        frame::Broken,
        reader::NoRecording,
        replay::{End, Replay},
        seems::Seems,
    },
};

/// A recording from wherever it is.
pub(super) type Recording = Replay<Box<dyn BufRead>>;

/// How a recording is called in messages.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// The bytes of the file, or stdin's for `-`.
pub(super) fn source(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

/// Begins to read the recording that `source` holds.
pub(super) fn read(mut source: Box<dyn BufRead>, path: &Path) -> Result<Recording> {
    let name = name(path);
    let head = source
        .fill_buf()
        .with_context(|| format!("cannot read {name}"))?;
    let seems = Seems::of(head);
    Replay::open(source).map_err(|error| match error {
        NoRecording::Foreign => {
            anyhow!(
                "{name} is no recording of tracer but {seems}; 'tracer run --record FILE' makes one"
            )
        }
        error => anyhow!("{name} {error}"),
    })
}

/// Opens the recording in the file, or in stdin for `-`.
pub(super) fn open(path: &Path) -> Result<Recording> {
    read(source(path)?, path)
}

/// What a recording holds, and how it ended.
pub(super) struct Whole {
    pub(super) window: Window,
    pub(super) report: Report,
    /// Damage behind what it holds.
    damage: Option<anyhow::Error>,
}

impl Whole {
    /// The report on all that `recording` holds up to `end`. Says on stderr if that is not the whole run.
    pub(super) fn of(recording: &mut Recording, end: End, path: &Path) -> Result<Self> {
        let name = name(path);
        let Some(window) = recording.window() else {
            return Err(match end {
                End::Broken(broken @ (Broken::Damaged(_) | Broken::NoFrame | Broken::Io(_))) => {
                    anyhow!("{name} holds no whole interval: {broken}; copy or record it again")
                }
                _ => anyhow!("{name} ends before its first interval: there is nothing to report"),
            });
        };
        let report = recording.summary(&window);
        let mut damage = None;
        let seconds = window.duration_ns as f64 / 1e9;
        match end {
            End::Whole if recording.has_more() => warn(&format!(
                "{name} has something else behind the end of its run, which is passed over; of recordings in one file \
                 the first counts"
            )),
            End::Whole => {}
            End::Early => warn(&format!(
                "{name} does not have the end of its run: this is what it holds, {seconds:.1} s"
            )),
            End::Broken(Broken::Truncated) => warn(&format!(
                "{name} is cut off: this is the report up to its last whole frame, {seconds:.1} s"
            )),
            End::Broken(broken) => {
                damage = Some(anyhow!(
                    "{name} is damaged after {seconds:.1} s, the report ends there: {broken}; copy it again from \
                     where it was recorded"
                ));
            }
        }
        Ok(Self {
            window,
            report,
            damage,
        })
    }

    /// The report, if nothing behind it is damaged.
    pub(super) fn undamaged(self) -> Result<Report> {
        self.damage.map_or(Ok(self.report), Err)
    }

    /// Fails if there was damage; for when all is printed.
    pub(super) fn end(self) -> Result<()> {
        self.damage.map_or(Ok(()), Err)
    }
}

fn warn(words: &str) {
    let _ = writeln!(io::stderr(), "tracer: {words}");
}
