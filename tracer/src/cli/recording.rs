//! Opening recordings, and what to say when one ends before its run.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    model::{report::Report, window::Window},
    record::{
        frame::Broken,
        replay::{End, Replay},
    },
};

/// A recording from wherever it is.
pub(super) type Recording = Replay<Box<dyn Read>>;

/// How a recording is called in messages.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Opens the file, or stdin for `-`.
pub(super) fn open(path: &Path) -> Result<Recording> {
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path)
            .with_context(|| format!("cannot open the recording {}", path.display()))?;
        Box::new(BufReader::new(file))
    };
    Replay::open(file).map_err(|error| anyhow!("{} {error}", name(path)))
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
    pub(super) fn of(recording: &Recording, end: End, path: &Path) -> Result<Self> {
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

    /// Fails if there was damage; for when all is printed.
    pub(super) fn end(self) -> Result<()> {
        self.damage.map_or(Ok(()), Err)
    }
}

fn warn(words: &str) {
    let _ = writeln!(io::stderr(), "tracer: {words}");
}
