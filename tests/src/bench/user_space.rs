//! What tracer costs in user space: its process's CPU time and memory by the rate of drops, times to start and to end, the
//! size of its binary, and what its programs were for the verifier.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    contender::{Contender, Paths},
    elsewhere,
    storm::{self, Storm},
};
use crate::bpf::{self, Objects};

const RATES: [u32; 3] = [10_000, 100_000, 500_000];
const TIME: Duration = Duration::from_secs(8);
const QUICK_TIME: Duration = Duration::from_secs(1);
const STARTS: usize = 7;

/// tracer's process under one rate of drops.
#[derive(Clone, Debug)]
pub struct Load {
    /// Drops a second that were asked for; 0: idle.
    pub asked: u32,
    /// Drops.
    pub drops: u64,
    /// Seconds.
    pub seconds: f64,
    /// Its CPU time, seconds.
    pub cpu_seconds: f64,
    /// Resident, bytes.
    pub resident: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct UserSpace {
    /// Idle, then by rate.
    pub loads: Vec<Load>,
    /// From start to attached, ms, of each start.
    pub start_ms: Vec<f64>,
    /// From the signal to the end of the process, ms.
    pub stop_ms: Vec<f64>,
    /// Size of the binary, bytes.
    pub binary: u64,
    /// Instructions that the verifier looked at, by program.
    pub verified: Vec<(String, u32)>,
}

/// Measures with the default options of `tracer run`.
pub fn measure(paths: &Paths, quick: bool) -> Result<UserSpace> {
    let time = if quick { QUICK_TIME } else { TIME };
    let binary = fs::metadata(&paths.tracer).context("no tracer")?.len();
    let mut found = UserSpace {
        binary,
        ..UserSpace::default()
    };
    for _ in 0..if quick { 2 } else { STARTS } {
        let running = Contender::Details.start(paths)?;
        found.start_ms.push(running.started.as_secs_f64() * 1e3);
        if found.verified.is_empty() {
            found.verified = verified(running.process.pid())?;
        }
        let ended = running.stop()?;
        found.stop_ms.push(ended.as_secs_f64() * 1e3);
    }
    let storm = Storm::new()?;
    storm.check()?;
    for asked in [0].into_iter().chain(RATES) {
        eprintln!("user space: {asked} drops a second, {} s", time.as_secs());
        found.loads.push(load(&storm, paths, asked, time)?);
    }
    Ok(found)
}

fn load(storm: &Storm, paths: &Paths, asked: u32, time: Duration) -> Result<Load> {
    // Settled: what starting costs is not the rate's.
    let running = Contender::Details.start(paths)?;
    let process = &running.process;
    let (begin, before) = (Instant::now(), process.cpu_time()?.as_secs_f64());
    let drops = if asked == 0 {
        thread::sleep(time);
        0
    } else {
        elsewhere(|| {
            let cpu = storm::cpus()?.into_iter().next().context("no CPU")?;
            storm::pin(cpu)?;
            storm.send(Some(asked), time)
        })??
    };
    let cpu_seconds = process.cpu_time()?.as_secs_f64() - before;
    let seconds = begin.elapsed().as_secs_f64();
    let resident = resident(process.pid())?;
    running.stop()?;
    Ok(Load {
        asked,
        drops,
        seconds,
        cpu_seconds,
        resident,
    })
}

fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}

fn verified(pid: u32) -> Result<Vec<(String, u32)>> {
    let own = Objects::of_process(pid)?;
    let mut found = Vec::new();
    for program in bpf::programs() {
        let program = program?;
        if own.programs.contains(&program.id())
            && let Some(count) = program.verified_instruction_count()
        {
            let name = program.name_as_str().unwrap_or("?").to_owned();
            found.push((name, count));
        }
    }
    Ok(found)
}
