//! Truth under load: two CPUs flood each other's backlogs, which hold four packets, at full rate; what is not refused is
//! dropped at a full socket. So every datagram sent calls `kfree_skb` once, and the kernel's own counters say how often.
//!
//! A control, a program that only counts these calls, is attached all the while: some hosts do not run programs for a
//! moment now and then, and what the control has not seen either is no loss of who is measured.

use std::{
    net::UdpSocket,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt},
};

use super::{contender::Paths, floor::Floor};
use crate::{
    backlog::MAX_BACKLOG,
    flood::Flood,
    kernel::{snmp, softnet},
    netns::{Pair, with_tracefs},
    process::Process,
    setting::{self, Setting},
    tracer::Tracer,
    wait::quiet,
};

const PORT: u16 = 7001;
const TIME: Duration = Duration::from_secs(30);
const QUICK_TIME: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs what counts around a flood: what it counted, and what it counted as lost.
type Count = fn(&dyn Fn() -> Result<()>) -> Result<(u64, u64)>;

/// What one of them counted in a flood of its own.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Who.
    pub name: &'static str,
    /// Packets dropped, by the kernel's counters.
    pub triggers: u64,
    /// Of these counted; `None`: does not run here.
    pub counted: Option<u64>,
    /// Of these counted as lost.
    pub lost: u64,
    /// What the control saw.
    pub control: u64,
    /// Why not.
    pub reason: Option<String>,
}

impl Truth {
    /// Missing although the control saw it: neither counted nor counted as lost.
    #[must_use]
    pub fn unexplained(&self) -> Option<u64> {
        let known = self.counted?.saturating_add(self.lost);
        Some(self.triggers.min(self.control).saturating_sub(known))
    }
}

/// tracer and those peers that can count drops, one after the other.
pub fn measure(paths: &Paths, quick: bool) -> Result<Vec<Truth>> {
    let time = if quick { QUICK_TIME } else { TIME };
    let mut rows = Vec::new();
    for (name, count) in [
        ("tracer", tracer as Count),
        ("bpftrace", bpftrace),
        ("perf stat", perf),
    ] {
        eprintln!("truth under load: {name}, {} s", time.as_secs());
        rows.push(row(name, count, paths, time)?);
    }
    Ok(rows)
}

fn row(name: &'static str, count: Count, paths: &Paths, time: Duration) -> Result<Truth> {
    let pairs = [Flooded::new(0, 1)?, Flooded::new(1, 0)?];
    let small = Setting::change(MAX_BACKLOG, "4")?;
    let control = Floor::control(&paths.floor)?;
    let dropped = || -> Result<u64> {
        let refused = softnet()?
            .values()
            .map(|row| u64::from(row.dropped))
            .sum::<u64>();
        let full = pairs
            .iter()
            .map(|pair| snmp(&pair.pair.receiver, "Udp", "RcvbufErrors"));
        Ok(refused + full.sum::<Result<u64>>()?)
    };
    let seen = std::cell::Cell::new((0, 0));
    let counted = count(&|| {
        let before = (dropped()?, control.drops()?);
        thread::scope(|scope| {
            for pair in &pairs {
                scope.spawn(|| pair.flood(time));
            }
        });
        quiet();
        seen.set((dropped()? - before.0, control.drops()? - before.1));
        Ok(())
    });
    small.restore()?;
    let (triggers, control) = seen.get();
    Ok(match counted {
        Ok((counted, lost)) => Truth {
            name,
            triggers,
            counted: Some(counted),
            lost,
            control,
            reason: None,
        },
        // tracer has to run.
        Err(error) if name == "tracer" => return Err(error),
        Err(error) => Truth {
            name,
            triggers,
            counted: None,
            lost: 0,
            control,
            reason: Some(format!("{error:#}")),
        },
    })
}

/// Namespaces with a receiver that steers to another CPU's backlog and never reads.
struct Flooded {
    pair: Pair,
    _socket: UdpSocket,
    from: usize,
}

impl Flooded {
    fn new(from: usize, to: u32) -> Result<Self> {
        let pair = Pair::new()?;
        let rps = format!(
            "/sys/class/net/{}/queues/rx-0/rps_cpus",
            Pair::RECEIVER_DEVICE
        );
        pair.receiver
            .run(|| setting::write(&rps, &format!("{:x}", 1 << to)))??;
        let socket = pair
            .receiver
            .run(|| UdpSocket::bind((Pair::RECEIVER, PORT)))??;
        setsockopt(&socket, sockopt::RcvBuf, &0)?;
        let flooded = Self {
            pair,
            _socket: socket,
            from,
        };
        // What its buffer takes is not dropped.
        Flood::new(Pair::RECEIVER, PORT, 64).run(&flooded.pair.sender)?;
        quiet();
        Ok(flooded)
    }

    fn flood(&self, time: Duration) -> Result<u64> {
        Flood {
            limit: time,
            cpu: Some(self.from),
            ..Flood::new(Pair::RECEIVER, PORT, u64::MAX)
        }
        .run(&self.pair.sender)
    }
}

fn tracer(flood: &dyn Fn() -> Result<()>) -> Result<(u64, u64)> {
    let tracer = Tracer::start(None, &["--detail-rate", "0"])?;
    quiet();
    flood()?;
    let report = tracer.stop()?.summary;
    let ours = report.drops.iter().filter(|drop| {
        drop.site == "enqueue_to_backlog" || drop.reason.as_deref() == Some("SOCKET_RCVBUFF")
    });
    let missed = report.hooks.iter().find(|hook| hook.name == "kfree_skb");
    let missed = missed.and_then(|hook| hook.missed).unwrap_or(0);
    let lost = report.losses.drop_table_full + missed;
    Ok((ours.map(|drop| drop.packets).sum(), lost))
}

fn bpftrace(flood: &dyn Fn() -> Result<()>) -> Result<(u64, u64)> {
    let script = "tracepoint:skb:kfree_skb { @drops[args->location, args->reason] = count(); }";
    let mut command = Command::new("bpftrace");
    command.args(["-e", script]);
    let said = observed(command, flood)?;
    let rows = said.lines().filter(|line| line.starts_with("@drops["));
    let counts = rows.filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok());
    Ok((counts.sum(), 0))
}

fn perf(flood: &dyn Fn() -> Result<()>) -> Result<(u64, u64)> {
    let mut command = Command::new("perf");
    command.args([
        "stat",
        "-a",
        "-x",
        ",",
        "-e",
        "skb:kfree_skb",
        "--log-fd",
        "1",
    ]);
    let said = observed(command, flood)?;
    let count = said
        .lines()
        .find_map(|line| line.split(',').next()?.parse::<u64>().ok());
    Ok((count.with_context(|| format!("perf stat: {said}"))?, 0))
}

/// What a command prints that is ended after the flood.
fn observed(mut command: Command, flood: &dyn Fn() -> Result<()>) -> Result<String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = with_tracefs(|| Process::spawn(None, command))??;
    thread::sleep(SETTLE);
    anyhow::ensure!(process.ended()?.is_none(), "does not run here");
    let pipe = process.stdout()?;
    flood()?;
    process.signal(Signal::SIGINT)?;
    let said = std::io::read_to_string(pipe)?;
    process.wait(PATIENCE)?;
    Ok(said)
}
