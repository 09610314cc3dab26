//! How the work of one interval grows with the host: on made-up hosts of 2 to 128 CPUs, 16 to 4,096 interrupts, 1 to 10,000
//! places that drop. Each is measured in a process of its own, so that its memory is its own.
//!
//! An interval is: read the mapped counters, subtract the snapshots, make the report with its findings. Not in it are the
//! system calls for /proc and for the table of drops.

use std::{fs, hint::black_box, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tracer::{
    analyze::summary::summarize,
    bpf::{Arrays, counter_map_bytes},
    model::window::Window,
    synthetic::{Dice, Shape, busy, facts, second},
};

use super::stats::{exponent, median};

/// Rows of the table of drops where `--drop-sites` is not given.
const DROP_SITES: u32 = 4096;
/// Repetitions, of which the median is given.
const TURNS: usize = 9;
const QUICK_TURNS: usize = 3;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Cpus,
    Irqs,
    Sites,
}

impl Axis {
    const ALL: [Self; 3] = [Self::Cpus, Self::Irqs, Self::Sites];

    const fn name(self) -> &'static str {
        match self {
            Self::Cpus => "CPUs, 4 interrupts each",
            Self::Irqs => "interrupts, 4 CPUs",
            Self::Sites => "drop sites, 8 CPUs",
        }
    }

    const fn points(self) -> &'static [u32] {
        match self {
            Self::Cpus => &[2, 8, 32, 128],
            Self::Irqs => &[16, 64, 512, 4096],
            Self::Sites => &[1, 10, 100, 1_000, 10_000],
        }
    }

    fn shape(self, point: u32) -> Shape {
        let usual = |cpus| Shape {
            sites: 10,
            ..Shape::of(cpus)
        };
        match self {
            Self::Cpus => usual(point),
            Self::Irqs => Shape {
                idle_irqs: point - 16,
                ..usual(4)
            },
            Self::Sites => Shape {
                sites: point,
                ..usual(8)
            },
        }
    }
}

/// One made-up host.
#[derive(Clone, Debug)]
pub struct Point {
    axis: &'static str,
    at: u32,
    /// One interval, ms.
    interval_ms: f64,
    /// Maps in the kernel, bytes.
    map_bytes: u64,
    /// What the process has resident with all of it, bytes.
    resident_bytes: u64,
}

/// Measures every point in a process of its own, which `tracer-bench --growth …` is.
pub fn measure(quick: bool) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for axis in Axis::ALL {
        for &at in axis.points() {
            eprintln!("growth: {at} {}", axis.name());
            let shape = axis.shape(at);
            let turns = if quick { QUICK_TURNS } else { TURNS };
            let numbers = [shape.cpus, shape.idle_irqs, shape.sites].map(|n| n.to_string());
            let output = Command::new("/proc/self/exe")
                .args(["--growth", &numbers.join(","), "--rounds"])
                .arg(turns.to_string())
                .args(["--tracer", "-", "--floor", "-"])
                .output()
                .context("cannot start itself")?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "growth: {}: {said}", output.status);
            let told: Value = serde_json::from_slice(&output.stdout)?;
            let number = |name: &str| told[name].as_f64().context("no number");
            points.push(Point {
                axis: axis.name(),
                at,
                interval_ms: number("interval_ms")?,
                map_bytes: told["map_bytes"].as_u64().context("no number")?,
                resident_bytes: told["resident_bytes"].as_u64().context("no number")?,
            });
        }
    }
    Ok(points)
}

/// One point: `CPUS,IDLE_IRQS,SITES`.
pub fn one(numbers: &str, turns: usize) -> Result<Value> {
    let numbers: Vec<u32> = numbers
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let &[cpus, idle_irqs, sites] = numbers.as_slice() else {
        anyhow::bail!("CPUS,IDLE_IRQS,SITES expected");
    };
    let shape = Shape {
        idle_irqs,
        sites,
        ..Shape::of(cpus)
    };
    let dice = &mut Dice(1);
    let before = busy(shape, dice);
    let mut now = before.clone();
    second(&mut now, shape, dice);
    let irqs = 64 + 4 * cpus + idle_irqs;
    let arrays = Arrays::anonymous(cpus, irqs)?;
    let facts = facts(shape);
    let mut times = Vec::new();
    for _ in 0..turns {
        let begin = Instant::now();
        let mut traced = arrays.read();
        arrays.read_irqs(64..irqs, &mut traced);
        let window = Window::between(&before, &now);
        let report = summarize(&window, &facts, None);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        black_box((traced, report));
    }
    Ok(json!({
        "interval_ms": median(&times),
        "map_bytes": counter_map_bytes(cpus, irqs, DROP_SITES.max(sites)),
        "resident_bytes": resident()?,
    }))
}

fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}

/// The exponent of growth along each axis, of the interval's time, of the maps and of the process: 1 is linear.
fn slopes(points: &[Point]) -> Vec<(&'static str, [Option<f64>; 3])> {
    let of = |axis: Axis| {
        let of_axis = || points.iter().filter(move |point| point.axis == axis.name());
        let fit = |value: fn(&Point) -> f64| {
            let pairs: Vec<_> = of_axis().map(|p| (f64::from(p.at), value(p))).collect();
            exponent(&pairs)
        };
        let slopes = [
            fit(|p| p.interval_ms),
            fit(|p| p.map_bytes as f64),
            fit(|p| p.resident_bytes as f64),
        ];
        (axis.name(), slopes)
    };
    Axis::ALL.map(of).to_vec()
}

/// For a person.
pub fn text(points: &[Point]) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "\nGrowth: one interval on made-up hosts; maps with {DROP_SITES} rows of drops or one for each site\n\
         {:<26} {:>6} {:>12} {:>9} {:>13}\n",
        "", "", "ms", "maps MiB", "resident MiB"
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (axis, slopes) in slopes(points) {
        for point in points.iter().filter(|point| point.axis == axis) {
            let _ = writeln!(
                text,
                "{axis:<26} {:>6} {:>12.3} {:>9.2} {:>13.1}",
                point.at,
                point.interval_ms,
                mib(point.map_bytes),
                mib(point.resident_bytes)
            );
        }
        let [time, maps, resident] = slopes
            .map(|slope| slope.map_or_else(|| "-".to_owned(), |slope| format!("n^{slope:.2}")));
        let _ = writeln!(
            text,
            "{:<26} {:>6} {time:>12} {maps:>9} {resident:>13}",
            "  grows as", ""
        );
    }
    text
}

/// For a program.
pub fn json(points: &[Point]) -> Value {
    let rows: Vec<_> = points
        .iter()
        .map(|point| {
            json!({
                "axis": point.axis,
                "at": point.at,
                "interval_ms": point.interval_ms,
                "map_bytes": point.map_bytes,
                "resident_bytes": point.resident_bytes,
            })
        })
        .collect();
    let slopes: Vec<_> = slopes(points)
        .into_iter()
        .map(|(axis, [time, maps, resident])| {
            json!({"axis": axis, "interval": time, "maps": maps, "resident": resident})
        })
        .collect();
    json!({"points": rows, "exponents": slopes})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_its_axis() {
        let points: Vec<_> = Axis::Cpus
            .points()
            .iter()
            .map(|&at| Point {
                axis: Axis::Cpus.name(),
                at,
                interval_ms: 0.1 * f64::from(at),
                map_bytes: 1000 * u64::from(at) * u64::from(at),
                resident_bytes: 1 << 20,
            })
            .collect();
        let text = text(&points);
        assert!(text.contains("n^1.00") && text.contains("n^2.00") && text.contains("n^0.00"));
        assert_eq!(json(&points)["exponents"][1]["interval"], Value::Null);
    }
}
