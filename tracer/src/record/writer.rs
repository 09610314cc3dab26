//! Writing a recording beside a run. The run itself never waits for the disk: a thread compresses and writes, a frame
//! an interval, and asks the disk to keep it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use serde::Serialize;

use super::{
    delta::{Delta as _, counted_twice},
    frame,
    reader::{Moment, When},
    state::{Header, State},
};
use crate::{
    analyze::{details::Kept, summary::Facts},
    model::{event::Event, snapshot::Snapshot},
};

/// Events that wait for the end of the interval are written before when they are more than this, bytes.
const EVENTS: usize = 1 << 20;
/// Text that may wait for the disk, bytes.
const WAITING: usize = 64 << 20;

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum CannotRecord {
    /// Something has this name.
    #[error("{} exists already: --force replaces it", .0.display())]
    Exists(PathBuf),
    /// It is a directory.
    #[error("{path} is a directory: name a file in it, such as {path}/before.trec", path = .0.display())]
    Directory(PathBuf),
    /// It is not a file.
    #[error("{} is no ordinary file and is not replaced: name another one", .0.display())]
    NoFile(PathBuf),
    /// It could not be made.
    #[error("cannot make the recording {}: {source}", path.display())]
    Io {
        /// Its name.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Whether a recording can be made at `path`, as far as its name tells; for before anything is attached.
pub fn check(path: &Path, force: bool) -> Result<(), CannotRecord> {
    let io = |source| CannotRecord::Io {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        return Err(CannotRecord::Directory(path.to_owned()));
    }
    match path.symlink_metadata() {
        Ok(_) if !force => Err(CannotRecord::Exists(path.to_owned())),
        Ok(there) if !there.is_file() => Err(CannotRecord::NoFile(path.to_owned())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            directory(path).metadata().map_err(io)?;
            Ok(())
        }
        Err(error) => Err(io(error)),
    }
}

/// A new file, readable by its owner only: it has addresses of peers and of the kernel in it.
fn create(path: &Path, force: bool) -> Result<File, CannotRecord> {
    check(path, force)?;
    let io = |source| CannotRecord::Io {
        path: path.to_owned(),
        source,
    };
    if force {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CannotRecord::Exists(path.to_owned()),
        _ => io(error),
    })?;
    // Its name, too, shall outlast a power failure; some file systems cannot say so.
    let _ = File::open(directory(path)).and_then(|directory| directory.sync_all());
    Ok(file)
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent();
    let named = parent.filter(|parent| !parent.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// A recording being made.
pub struct Recorder {
    /// Interrupts before the run, by number.
    first_irqs: BTreeMap<u32, u64>,
    /// [Apart](counted_twice::apart).
    last: Snapshot,
    state: State,
    text: Vec<u8>,
    /// `None` once all was sent.
    to_disk: Option<Sender<Vec<u8>>>,
    disk: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// Between the run and the thread that writes.
#[derive(Default)]
struct Shared {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Why nothing more is written.
    failed: OnceLock<String>,
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    of: &'a T,
}

impl Recorder {
    /// Makes the file and writes the begin of the run to it.
    pub fn start(
        path: &Path,
        force: bool,
        header: &Header,
        first: &Snapshot,
        facts: &Facts,
    ) -> Result<Self, CannotRecord> {
        let file = create(path, force)?;
        let io = |source| CannotRecord::Io {
            path: path.to_owned(),
            source,
        };
        let shared = Arc::new(Shared::default());
        let (to_disk, texts) = channel();
        let writing = Arc::clone(&shared);
        let disk = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || write(file, &texts, &writing))
            .map_err(io)?;
        let irqs = first.traced.irqs.keys();
        let mut recorder = Self {
            first_irqs: irqs.map(|irq| (*irq, irq_count(first, *irq))).collect(),
            last: Snapshot::default(),
            state: State::default(),
            text: Vec::new(),
            to_disk: Some(to_disk),
            disk: Some(disk),
            shared,
        };
        recorder.line(&Tagged {
            kind: "header",
            of: header,
        });
        recorder.moment(When::Start, first, facts, Kept::default());
        Ok(recorder)
    }

    /// Takes down a single event.
    pub fn event(&mut self, event: &Event) {
        self.line(&Tagged {
            kind: "event",
            of: event,
        });
        if self.text.len() > EVENTS {
            self.send();
        }
    }

    /// Takes down what is known at the end of an interval.
    pub fn interval(&mut self, now: &Snapshot, facts: &Facts, kept: Kept) {
        self.moment(When::Interval, now, facts, kept);
    }

    fn moment(&mut self, when: When, now: &Snapshot, facts: &Facts, mut kept: Kept) {
        // No report shows times of a part of the interrupts.
        kept.handlers.retain(|irq, times| {
            let before = self.first_irqs.get(irq).copied().unwrap_or(0);
            times.count == irq_count(now, *irq).wrapping_sub(before)
        });
        let state = State::of(facts, kept);
        let mut now = now.clone();
        counted_twice::apart(&mut now);
        let moment = Moment {
            when,
            state: state.since(&self.state),
            counters: now.since(&self.last),
        };
        self.line(&moment);
        self.state = state;
        self.last = now;
        self.send();
    }

    fn line(&mut self, line: &impl Serialize) {
        let before = self.text.len();
        match serde_json::to_writer(&mut self.text, line) {
            Ok(()) => self.text.push(b'\n'),
            Err(error) => {
                self.text.truncate(before);
                self.shared
                    .fail(format!("a line cannot be written: {error}"));
            }
        }
    }

    fn send(&mut self) {
        let text = std::mem::take(&mut self.text);
        if self.failed().is_some() {
            return;
        }
        let bytes = text.len();
        let waiting = self.shared.waiting.fetch_add(bytes, Ordering::Relaxed);
        if waiting > WAITING {
            self.shared.fail("the disk is too slow".to_owned());
            return;
        }
        // The thread only ends before when it has told why.
        let _ = self.to_disk.as_ref().map(|disk| disk.send(text));
    }

    /// Why the recording ended before the run; `None` while it goes on.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.shared.failed.get().map(String::as_str)
    }

    /// Takes down the end of the run.
    pub fn end(&mut self, end: &Snapshot, facts: &Facts, kept: Kept) {
        self.moment(When::End, end, facts, kept);
    }

    /// Waits until all is written; afterwards [`Self::failed`] tells whether it is.
    pub fn close(&mut self) {
        self.to_disk = None;
        if self.disk.take().is_some_and(|disk| disk.join().is_err()) {
            self.shared.fail("its thread ended".to_owned());
        }
    }
}

impl Drop for Recorder {
    /// A run that fails leaves what it has recorded.
    fn drop(&mut self) {
        self.close();
    }
}

/// Interrupts of this number on all CPUs.
fn irq_count(snapshot: &Snapshot, irq: u32) -> u64 {
    let per_cpu = snapshot.traced.irqs.get(&irq);
    per_cpu.into_iter().flatten().map(|(_, n)| n.count).sum()
}

impl Shared {
    /// The first reason is the one that counts.
    fn fail(&self, why: String) {
        let _ = self.failed.set(why);
    }
}

/// Writes until there is no more to come, or no room.
fn write(mut file: File, texts: &Receiver<Vec<u8>>, shared: &Shared) {
    let mut whole = 0;
    while let Ok(text) = texts.recv() {
        if shared.failed.get().is_some() {
            return;
        }
        if let Err(error) = append(&mut file, &text, &mut whole) {
            shared.fail(error.to_string());
            // What is left of a frame is of no use to anybody.
            let _ = file.set_len(whole);
            return;
        }
        shared.waiting.fetch_sub(text.len(), Ordering::Relaxed);
    }
}

fn append(file: &mut File, text: &[u8], whole: &mut u64) -> io::Result<()> {
    let frame = frame::encode(text)?;
    file.write_all(&frame)?;
    file.sync_data()?;
    *whole += frame.len() as u64;
    Ok(())
}
