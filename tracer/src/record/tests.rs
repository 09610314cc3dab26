//! Recordings from the first line to the last.

use std::{fmt::Write as _, time::Instant};

use super::{
    FORMAT, VERSION,
    delta::Delta as _,
    frame::{self, Broken},
    reader::NoRecording,
    replay::{End, Replay, Step},
    state::{Header, State},
    writer::{CannotRecord, Recorder, check},
};
use crate::{
    analyze::{
        details::Kept,
        summary::{Facts, summarize},
    },
    model::{
        event::{Event, What},
        snapshot::Snapshot,
        window::Window,
    },
    synthetic::{self, Dice, Shape},
};
use proptest::prelude::*;

fn kept(dice: &mut Dice) -> Kept {
    let event = |dice: &mut Dice| Event {
        time_ns: 1 << 50,
        cpu: 3,
        what: What::Irq {
            irq: 70,
            handler_ns: dice.below(90_000),
        },
    };
    let mut kept = Kept::default();
    kept.samples.slowest_irqs = (0..5).map(|_| event(dice)).collect();
    for irq in 64..128 {
        let times = kept.handlers.entry(irq).or_default();
        times.count = dice.below(9_000_000);
        times.p50 = dice.below(3000);
        times.p99 = dice.below(9000);
    }
    kept
}

/// A recorded run of so many seconds, and what was recorded.
fn record(cpus: u32, seconds: usize) -> (Vec<u8>, Vec<Snapshot>, Facts, Kept) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    let dice = &mut Dice(1);
    let shape = Shape::of(cpus);
    let facts = synthetic::facts(shape);
    let mut snapshots = vec![synthetic::busy(shape, dice)];
    let header = Header::new(&facts, 1_000_000_000, true);
    let mut recorder = Recorder::start(&path, false, &header, &snapshots[0], &facts).unwrap();
    let mut details = Kept::default();
    for n in 1..=seconds {
        let mut now = snapshots[n - 1].clone();
        synthetic::second(&mut now, shape, dice);
        // The slowest so far are soon found.
        if n < 10 {
            details = kept(dice);
        }
        if n == seconds {
            recorder.end(&now, &facts, details.clone());
        } else {
            let window = Window::between(&snapshots[n - 1], &now);
            let _ = summarize(&window, &facts, None);
            recorder.interval(&now, &facts, details.clone());
        }
        snapshots.push(now);
    }
    recorder.close();
    assert_eq!(recorder.failed(), None);
    (std::fs::read(&path).unwrap(), snapshots, facts, details)
}

/// Intervals and reports of a recording, and its end.
fn replay(file: &[u8]) -> Result<(usize, Option<String>, End), NoRecording> {
    let mut replay = Replay::open(file)?;
    let mut intervals = 0;
    let end = loop {
        match replay.step() {
            Ok(Step::Interval) => intervals += 1,
            Ok(Step::Event(_)) => {}
            Err(end) => break end,
        }
    };
    let summary = replay.window().map(|window| {
        let report = replay.summary(&window);
        serde_json::to_string(&report).unwrap()
    });
    Ok((intervals, summary, end))
}

#[test]
fn a_minute_of_a_busy_host_with_64_cpus_takes_less_than_a_mebibyte() {
    let (file, snapshots, facts, _) = record(64, 60);
    println!("{} bytes a minute", file.len());
    assert!(file.len() <= 1 << 20, "{} bytes", file.len());
    // What the run's own thread does an interval, and what the recorder's does.
    let timed = |what: &str, work: &dyn Fn() -> usize| {
        let began = Instant::now();
        let size = work();
        println!("{what}: {:?}, {size}", began.elapsed());
    };
    timed("facts", &|| {
        State::of(&facts, Kept::default()).functions.len()
    });
    let text = || serde_json::to_vec(&snapshots[60].since(&snapshots[59])).unwrap();
    timed("difference", &|| text().len());
    let text = text();
    timed("compressed", &|| frame::encode(&text).unwrap().len());
}

#[test]
fn a_recording_gives_the_report_of_the_run() {
    let (file, snapshots, facts, kept) = record(3, 6);
    let (intervals, summary, end) = replay(&file).unwrap();
    assert!(matches!(end, End::Whole), "{end:?}");
    assert_eq!(intervals, 5);
    let window = Window::between(&snapshots[0], &snapshots[6]);
    let live = summarize(&window, &facts, Some(&kept));
    assert_eq!(summary, Some(serde_json::to_string(&live).unwrap()));
}

#[test]
fn what_follows_the_end_of_the_run_is_noticed() {
    let (mut file, ..) = record(2, 2);
    for (garbage, is_more) in [(&b""[..], false), (b"garbage", true)] {
        file.extend(garbage);
        let mut replay = Replay::open(&file[..]).unwrap();
        assert!(matches!(replay.finish(), End::Whole));
        assert_eq!(replay.has_more(), is_more);
    }
}

#[test]
fn a_recording_cut_anywhere_gives_what_is_whole_before() {
    let (file, ..) = record(1, 3);
    let mut most = 0;
    let mut ends = vec![];
    let mut rest = &file[..];
    while let Ok(Some(_)) = frame::decode(&mut rest) {
        ends.push(file.len() - rest.len());
    }
    // Every place would take minutes; those within a frame are alike.
    for at in 0..file.len() {
        let near = |end: &usize| end.abs_diff(at) < 3;
        if at % 211 != 0 && !ends.iter().any(near) {
            continue;
        }
        match replay(&file[..at]) {
            Ok((intervals, summary, end)) => {
                assert!(intervals >= most, "at {at}");
                most = intervals;
                assert_eq!(summary.is_some(), intervals > 0, "at {at}");
                assert!(
                    matches!(end, End::Early | End::Broken(Broken::Truncated)),
                    "at {at}: {end:?}"
                );
            }
            Err(error) => {
                assert_eq!(most, 0, "at {at}");
                let early = matches!(
                    error,
                    NoRecording::Empty | NoRecording::Broken(Broken::Truncated)
                );
                assert!(early, "at {at}: {error}");
            }
        }
    }
    assert_eq!(most, 2);
}

#[test]
fn what_is_no_recording_is_said_so() {
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, b"something else\n").unwrap();
        encoder.finish().unwrap()
    };
    let other = frame::encode(b"{\"kind\":\"header\",\"format\":\"other\"}\n").unwrap();
    for file in [
        b"{\"kind\":\"window\"}\n".to_vec(),
        gzip,
        other,
        vec![0x1f],
        b"x".to_vec(),
    ] {
        let error = replay(&file).unwrap_err();
        let early = file == [0x1f];
        assert!(
            early || matches!(error, NoRecording::Foreign),
            "{file:?}: {error}"
        );
    }
}

#[test]
fn a_newer_format_names_the_version_that_is_needed() {
    let header = format!(
        "{{\"kind\":\"header\",\"format\":\"{FORMAT}\",\"version\":{},\"tracer\":\"9.1.0\",\"host\":17}}\n",
        VERSION + 1
    );
    let error = replay(&frame::encode(header.as_bytes()).unwrap()).unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("version 3") && words.contains("take tracer 9.1.0 or later"),
        "{words}"
    );
}

#[test]
fn lines_of_unknown_kind_are_passed_over() {
    let (file, ..) = record(1, 2);
    let mut rest = &file[..];
    let first = frame::decode(&mut rest).unwrap().unwrap();
    let unknown = frame::encode(b"{\"kind\":\"weather\",\"sun\":true}\n").unwrap();
    let more = [frame::encode(&first).unwrap(), unknown, rest.to_vec()].concat();
    assert_eq!(replay(&more).unwrap().1, replay(&file).unwrap().1);
}

#[test]
fn an_existing_file_is_replaced_by_force_only_and_a_directory_never() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("there");
    assert!(check(&file, false).is_ok());
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(check(&file, false), Err(CannotRecord::Exists(_))));
    assert!(check(&file, true).is_ok());
    assert!(matches!(
        check(directory.path(), true),
        Err(CannotRecord::Directory(_))
    ));
    let why = check(directory.path(), false).unwrap_err().to_string();
    assert!(why.contains("name a file in it"), "{why}");
    let nowhere = directory.path().join("no/such");
    assert!(matches!(
        check(&nowhere, false),
        Err(CannotRecord::Io { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_is_found_and_loses_nothing_before_it(at: prop::sample::Index, by in 1u8..) {
        let (mut file, ..) = record(1, 3);
        let frames = {
            let mut ends = vec![0];
            let mut rest = &file[..];
            while let Ok(Some(_)) = frame::decode(&mut rest) {
                ends.push(file.len() - rest.len());
            }
            ends
        };
        let at = at.index(file.len());
        file[at] ^= by;
        let whole = frames.iter().filter(|end| **end <= at).count() - 1;
        match replay(&file) {
            Err(_) => prop_assert_eq!(whole, 0),
            Ok((intervals, _, end)) => {
                // The first frame has the start in it; some bits of deflate are padding.
                let harmless = matches!(end, End::Whole);
                prop_assert!(harmless || intervals == whole - 1, "{} of {}", intervals, whole);
                prop_assert!(harmless || matches!(end, End::Broken(_)), "{:?}", end);
            }
        }
    }

    #[test]
    fn any_lines_are_read_without_panic(lines: Vec<String>) {
        let (file, ..) = record(1, 1);
        let mut rest = &file[..];
        let first = frame::decode(&mut rest).unwrap().unwrap();
        let kinds = ["interval", "event", "end", "start"];
        let mut text = String::new();
        for (line, kind) in lines.iter().zip(kinds.iter().cycle()) {
            let _ = write!(text, "{{\"kind\":\"{kind}\",\"counters\":{line:?}}}\n{line}\n");
        }
        let file = [frame::encode(&first).unwrap(), frame::encode(text.as_bytes()).unwrap()].concat();
        let _ = replay(&file);
    }
}
