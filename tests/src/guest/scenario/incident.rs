//! Provokes the incident that tracer was written for: Redis on CPU 0, behind a card whose vectors are all on CPU 0, RPS
//! to CPU 0 only, a backlog that is far too small, and beside the clients of Redis a flood of datagrams at a steady
//! rate. Then pastes the commands that the report advises, in the order of reading, and makes the same load again.
//!
//! Asserts that the first report names CPU 0 in its first line, gives it nine tenths of the `NET_RX` time, and charges
//! it with exactly the drops of its softnet row and of the card's `rx_dropped`; that its findings are, in this order,
//! the one CPU, the backlog, Redis on that CPU, the other node; that every command succeeds and changes what it says;
//! that then several CPUs share the `NET_RX` time and drops per million packets have fallen a hundredfold; and that the commands to undo them, the last first, leave
//! every file as it was. Both reports are kept.
//!
//! The sending card stands for other machines: it is polled by threads, so that its work is no `NET_RX` of this one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ::tracer::{model::finding::Severity, proc::cpus};
use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        signal::Signal,
        socket::{setsockopt, sockopt},
    },
    unistd::Pid,
};

use super::{Scenario, need_card, paste, target_cpu::while_read_on};
use crate::{
    findings,
    guest::nic::{RECEIVER_NODE, Wire},
    kept::{keep, keep_report},
    kernel::{device_statistic, softnet},
    process::Process,
    scenario::{Need, Skip, note},
    setting::{self, Setting},
    tracer::{self, Outcome, PATIENCE, Tracer, complete},
    wait::{self, quiet},
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "the_incident_is_pinned_on_its_cpu_and_over_when_its_advice_is_pasted",
    needs: &[
        Need::Root,
        Need::Cpus(8),
        Need::Program("ip"),
        Need::Program("redis-server"),
        Need::Program("redis-benchmark"),
        Need::Program("sh"),
        Need::Program("sysctl"),
        Need::Program("taskset"),
    ],
    run: incident,
}];

const THE_CPU: u32 = 0;
/// Sends, and reads the datagrams: neither the CPU of the incident, nor near the card.
const OTHER_CPU: usize = 1;
const MAX_BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";
const SYSCTLS: [&str; 4] = [
    MAX_BACKLOG,
    "/proc/sys/net/core/netdev_budget",
    "/proc/sys/net/core/netdev_budget_usecs",
    "/proc/sys/net/core/rps_sock_flow_entries",
];
const SMALL_BACKLOG: &str = "8";
const DEFAULT_BACKLOG: &str = "1000";
const PORT: u16 = 7112;
const REDIS_PORT: u16 = 6379;
/// Hosts that the sender pretends to be.
const SOURCES: u8 = 16;
/// As many as the machine makes of it.
const FLOOD: Pace = Pace {
    datagrams: 60_000,
    burst: 16,
    every: Duration::from_millis(1),
    clients: Clients::Benchmark,
};
/// Makes the vectors move.
const WARM_UP: Pace = Pace {
    datagrams: 400,
    ..FLOOD
};
/// The flood ends after this time, however few it could send.
const FLOOD_LIMIT: Duration = Duration::from_secs(12);
/// A sender's buffer: all of them together are less than the queue of its card takes.
const SEND_BUFFER: usize = 16 << 10;
const CLIENTS: usize = 20;
/// More than there is time for.
const REQUESTS: &str = "100000000";

/// Everything on CPU 0, until it is dropped.
#[derive(Debug)]
pub(super) struct Incident {
    // Put back in this order.
    backlog: Setting,
    _name: Setting,
    socket: UdpSocket,
    redis: Process,
    pub(super) wire: Wire,
    _qdisc: Setting,
}

impl Incident {
    /// Makes the mistakes; the load comes with [`Load::make`].
    pub(super) fn provoke() -> Result<Self> {
        need_card("igb")?;
        // The sender's queue has to drop nothing, however long the host of this VM lets it wait.
        let qdisc = Setting::change("/proc/sys/net/core/default_qdisc", "pfifo_fast")?;
        let wire = Wire::new()?;
        poll_sender_by_threads(&wire)?;
        wire.be_many((0..SOURCES).map(source))?;
        let redis = redis(&wire)?;
        let socket = wire
            .receiver
            .run(|| UdpSocket::bind((Wire::RECEIVER, PORT)))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20))?;
        let name = Setting::change("/proc/sys/kernel/hostname", "redis-vm")?;
        wire.pin(|_| THE_CPU, || warm_up(&wire))?;
        wire.steer(1 << THE_CPU)?;
        Ok(Self {
            backlog: Setting::change(MAX_BACKLOG, SMALL_BACKLOG)?,
            _name: name,
            socket,
            redis,
            wire,
            _qdisc: qdisc,
        })
    }

    /// A few datagrams: a vector moves with its next interrupt.
    pub(super) fn warm_up(&self) -> Result<()> {
        warm_up(&self.wire)
    }

    /// Ends it, and checks that the backlog is as it was before.
    pub(super) fn end(self) -> Result<()> {
        self.backlog.restore()
    }
}

fn warm_up(wire: &Wire) -> Result<()> {
    flood(wire, WARM_UP).map(|_| ())
}

fn incident() -> Result<()> {
    let incident = Incident::provoke()?;
    let netns = &incident.wire.receiver;
    let at_first = State::read(&incident)?;
    let before = Act::observe(&incident)?;
    keep("incident-before.txt", &before.text)?;
    keep_report("incident-before", &before.outcome.summary)?;
    let advised = &before.outcome.summary.findings;
    concluded(&before)?;
    let pasted = paste::all(netns, advised)?;
    let changed = State::read(&incident)?;
    changed.as_announced(&at_first)?;
    incident.warm_up()?;
    let after = Act::observe(&incident)?;
    keep("incident-after.txt", &after.text)?;
    keep_report("incident-after", &after.outcome.summary)?;
    let undone = paste::revert_all(netns, advised)?;
    let at_last = State::read(&incident)?;
    ensure!(
        at_last == at_first && undone == pasted,
        "{pasted} commands, {undone} undone: was {at_first:?}, is {at_last:?}"
    );
    incident.end()?;
    note(format_args!("before: {before}\n  after: {after}"));

    before.load.flowed()?;
    after.load.flowed()?;
    check_before(&before)?;
    check_after(&before, &after)
}

fn check_before(act: &Act) -> Result<()> {
    let first = act.text.lines().next().unwrap_or_default();
    ensure!(
        first.starts_with(&format!("CPU {THE_CPU} refused ")),
        "the first line does not name CPU {THE_CPU}: {first}"
    );
    let share = act.share(THE_CPU);
    ensure!(
        share >= 0.9,
        "CPU {THE_CPU} has {share:.3} of the NET_RX time: {:?}",
        act.shares()
    );
    ensure!(
        act.load.rx_dropped > 0
            && act.load.softnet == BTreeMap::from([(THE_CPU, act.load.rx_dropped)]),
        "rx_dropped {}, softnet {:?}",
        act.load.rx_dropped,
        act.load.softnet
    );
    let sites = || {
        let drops = &act.outcome.summary.drops;
        drops
            .iter()
            .filter(|drop| drop.site == "enqueue_to_backlog")
    };
    let traced: u64 = sites().map(|drop| drop.packets).sum();
    let missed = act.outcome.missed_at("kfree_skb");
    ensure!(
        traced <= act.load.rx_dropped && traced + missed >= act.load.rx_dropped,
        "rx_dropped {}, traced {traced} (missed {missed}): {:#?}",
        act.load.rx_dropped,
        act.outcome.summary.drops
    );
    let targets = sites()
        .filter_map(|drop| drop.per_target_cpu.as_ref())
        .flatten()
        .fold(BTreeMap::new(), |mut sums, (cpu, packets)| {
            *sums.entry(*cpu).or_insert(0) += packets;
            sums
        });
    let unseen = act.outcome.missed_at("enqueue_to_backlog");
    let charged = targets.get(&THE_CPU).copied().unwrap_or(0);
    ensure!(
        targets.keys().eq([&THE_CPU]) && charged <= traced && charged + unseen >= traced,
        "{traced} drops, by target CPU {targets:?} (missed {unseen})"
    );
    Ok(())
}

fn check_after(before: &Act, after: &Act) -> Result<()> {
    ensure!(
        after.share(THE_CPU) <= 0.2,
        "CPU {THE_CPU} still has the NET_RX time: {:?}",
        after.shares()
    );
    let shares = after.shares();
    ensure!(
        shares.values().filter(|share| **share >= 0.1).count() >= 2
            && shares.values().all(|share| *share < 0.9),
        "the NET_RX time is not spread: {shares:?}"
    );
    let (was, is) = (before.load.per_million(), after.load.per_million());
    ensure!(
        after.load.commands > before.load.commands,
        "Redis served {} commands before, {} after",
        before.load.commands,
        after.load.commands
    );
    ensure!(
        is * 100.0 <= was,
        "drops per million packets: {was:.0} before, {is:.0} after"
    );
    let softnet: u64 = after.load.softnet.values().sum();
    ensure!(
        softnet == after.load.rx_dropped,
        "rx_dropped {}, softnet {:?}",
        after.load.rx_dropped,
        after.load.softnet
    );
    for rule in ["backlog-overflow", "shared-cpu", "remote-node"] {
        findings::has_not(&after.outcome.summary, rule)?;
    }
    Ok(())
}

/// What the report concludes of the incident, in the order of reading.
fn concluded(act: &Act) -> Result<()> {
    let report = &act.outcome.summary;
    let mut all = findings::all(report);
    // Under PREEMPT_RT, where a softirq is a task's work, it also waits long: true, and as grave as some of these.
    all.retain(|finding| finding.rule != "softirq-wait");
    let told: Vec<_> = all.iter().map(|finding| finding.rule.as_str()).collect();
    let expected = [
        "single-cpu",
        "backlog-overflow",
        "shared-cpu",
        "remote-node",
    ];
    ensure!(
        told.starts_with(&expected),
        "{expected:?} expected: {}",
        findings::told(report)
    );
    let device = Wire::RECEIVER_DEVICE;
    let words: [&[&str]; 4] = [
        &[
            &format!("CPU {THE_CPU} took"),
            &format!("8 of 8 vectors of {device} and 8 of 8 RPS masks point to it"),
        ],
        &[
            &format!("target CPU {THE_CPU} overflowed"),
            &format!("steered there by RPS of {device}"),
        ],
        &[
            "redis-server (pid ",
            "tcp/6379",
            &format!("shares CPU {THE_CPU} with 8 vectors of {device}"),
        ],
        &[
            &format!("which is on node {RECEIVER_NODE}"),
            &format!("are handled on node 0 (CPU {THE_CPU})"),
        ],
    ];
    for (finding, words) in all.iter().zip(words) {
        findings::says(finding, words)?;
    }
    ensure!(
        report.findings[0].severity == Severity::Critical && report.findings[0].rule == expected[0],
        "not critical, or not the first: {}",
        findings::told(report)
    );
    Ok(())
}

/// Every setting that advice or plan may change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    /// `smp_affinity_list` by IRQ number.
    affinity: BTreeMap<u32, String>,
    /// `rps_cpus` and `rps_flow_cnt` by queue and file.
    queues: BTreeMap<String, String>,
    /// By path.
    sysctls: BTreeMap<&'static str, String>,
    /// CPUs of each thread of Redis.
    redis: Vec<String>,
}

impl State {
    pub(super) fn read(incident: &Incident) -> Result<Self> {
        let (wire, redis) = (&incident.wire, &incident.redis);
        let mut affinity = BTreeMap::new();
        for vector in wire.vectors()? {
            let path = format!("/proc/irq/{}/smp_affinity_list", vector.irq);
            affinity.insert(vector.irq, fs::read_to_string(path)?);
        }
        let queues = format!("/sys/class/net/{}/queues", Wire::RECEIVER_DEVICE);
        let queues = wire.receiver.run(|| {
            let mut files = BTreeMap::new();
            for entry in fs::read_dir(&queues)? {
                let entry = entry?;
                for file in ["rps_cpus", "rps_flow_cnt"] {
                    let path = entry.path().join(file);
                    if path.exists() {
                        files.insert(path.display().to_string(), fs::read_to_string(&path)?);
                    }
                }
            }
            anyhow::Ok(files)
        })??;
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", redis.pid()))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            threads.push(line.context("no Cpus_allowed_list")?.trim().to_owned());
        }
        Ok(Self {
            affinity,
            queues,
            sysctls: SYSCTLS
                .into_iter()
                .map(|path| Ok((path, fs::read_to_string(path)?)))
                .collect::<Result<_>>()?,
            redis: threads,
        })
    }

    /// The vectors on the card's node, Redis there too but on no CPU of theirs, RPS off, the kernel's own backlog.
    fn as_announced(&self, before: &Self) -> Result<()> {
        let near = format!("/sys/devices/system/node/node{RECEIVER_NODE}");
        let is_near = |cpu: &u32| fs::exists(format!("{near}/cpu{cpu}")).unwrap_or(false);
        let vectors = cpus_of(self.affinity.values())?;
        ensure!(
            vectors.len() > 1 && vectors.iter().all(is_near),
            "vectors: {self:?}"
        );
        let redis = cpus_of(&self.redis)?;
        ensure!(
            !redis.is_empty() && redis.iter().all(is_near) && redis.is_disjoint(&vectors),
            "Redis: {self:?}"
        );
        let masks = self
            .queues
            .iter()
            .filter(|(path, _)| path.ends_with("rps_cpus"));
        ensure!(
            masks.clone().count() > 0
                && masks
                    .clone()
                    .all(|(_, mask)| mask.trim().trim_matches(['0', ',']).is_empty()),
            "RPS: {self:?}"
        );
        let backlog = |state: &Self| state.sysctls[MAX_BACKLOG].trim().to_owned();
        ensure!(
            backlog(self) == DEFAULT_BACKLOG && backlog(before) == SMALL_BACKLOG,
            "{MAX_BACKLOG}: {self:?}"
        );
        Ok(())
    }
}

/// The CPUs of all these lists.
fn cpus_of<'a>(lists: impl IntoIterator<Item = &'a String>) -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for list in lists {
        all.extend(cpus::parse_list(list.trim())?);
    }
    Ok(all)
}

/// A host that the sender pretends to be.
const fn source(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, 100 + index)
}

/// Who asks Redis.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clients {
    /// redis-benchmark: as much as the machine makes of it.
    Benchmark,
    /// Clients that wait this long before they ask again: the same load on a busy machine.
    Thinking(Duration),
}

/// How datagrams come: at most so many at once, this often; and who asks Redis meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) datagrams: u64,
    pub(super) burst: u64,
    pub(super) every: Duration,
    pub(super) clients: Clients,
}

/// The load, and what the kernel counted of it.
#[derive(Debug)]
pub(super) struct Load {
    pace: Pace,
    /// Datagrams sent.
    sent: u64,
    /// Commands that Redis served.
    commands: u64,
    /// softnet `dropped` of the CPUs where it rose.
    softnet: BTreeMap<u32, u64>,
    rx_packets: u64,
    rx_dropped: u64,
    rx_missed: u64,
}

impl Load {
    /// Floods the card while clients ask Redis.
    pub(super) fn make(incident: &Incident, pace: Pace) -> Result<Self> {
        let wire = &incident.wire;
        let commands_before = commands(wire)?;
        quiet();
        let dropped_before = softnet()?;
        let of_card = || -> Result<[u64; 3]> {
            let of = |name: &str| device_statistic(&wire.receiver, Wire::RECEIVER_DEVICE, name);
            Ok([
                of("rx_packets")?,
                of("rx_dropped")?,
                of("rx_missed_errors")?,
            ])
        };
        let before = of_card()?;
        let sent = while_read_on(Some(OTHER_CPU), &incident.socket, || match pace.clients {
            Clients::Benchmark => {
                let _clients = benchmark(wire)?;
                flood(wire, pace)
            }
            Clients::Thinking(pause) => while_asked(wire, pause, || flood(wire, pace)),
        })?;
        quiet();
        let dropped = softnet()?;
        let after = of_card()?;
        Ok(Self {
            pace,
            sent,
            commands: commands(wire)? - commands_before,
            softnet: dropped
                .iter()
                .map(|(cpu, row)| {
                    let was = dropped_before[cpu].dropped;
                    (*cpu, u64::from(row.dropped.wrapping_sub(was)))
                })
                .filter(|(_, dropped)| *dropped > 0)
                .collect(),
            rx_packets: after[0] - before[0],
            rx_dropped: after[1] - before[1],
            rx_missed: after[2] - before[2],
        })
    }

    /// Whether all datagrams were sent before [`FLOOD_LIMIT`]: the machine kept pace.
    pub(super) fn is_whole(&self) -> bool {
        self.sent == self.pace.datagrams
    }

    /// Both kinds of traffic were there.
    pub(super) fn flowed(&self) -> Result<()> {
        ensure!(
            self.sent >= self.pace.datagrams / 8
                && self.rx_packets >= self.sent / 2
                && self.commands >= 40,
            "too little traffic: {self}"
        );
        Ok(())
    }

    /// Packets that a backlog refused, of a million that the card received.
    fn per_million(&self) -> f64 {
        self.rx_dropped as f64 * 1e6 / self.rx_packets.max(1) as f64
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "sent {}, rx_packets {}, rx_dropped {}, rx_missed {}, softnet {:?}, {:.0} per million, {} commands",
            self.sent,
            self.rx_packets,
            self.rx_dropped,
            self.rx_missed,
            self.softnet,
            self.per_million(),
            self.commands,
        )
    }
}

/// One run of the load under two tracers, one for each form of the report.
#[derive(Debug)]
struct Act {
    text: String,
    outcome: Outcome,
    load: Load,
}

impl Act {
    fn observe(incident: &Incident) -> Result<Self> {
        let report = TextReport::start(&incident.wire, &[])?;
        let tracer = Tracer::start(Some(&incident.wire.receiver), &[])?;
        let load = Load::make(incident, FLOOD)?;
        let outcome = tracer.stop()?;
        let text = report.stop()?;
        Ok(Self {
            text,
            outcome,
            load,
        })
    }

    /// Shares of the `NET_RX` time, by CPU.
    fn shares(&self) -> BTreeMap<u32, f64> {
        let cpus = &self.outcome.summary.cpus;
        let times = || cpus.iter().map(|cpu| (cpu.cpu, cpu.net_rx_ns.unwrap_or(0)));
        let all: u64 = times().map(|(_, time)| time).sum();
        times()
            .map(|(cpu, time)| (cpu, time as f64 / all.max(1) as f64))
            .collect()
    }

    fn share(&self, cpu: u32) -> f64 {
        self.shares().get(&cpu).copied().unwrap_or(0.0)
    }
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, shares {:.3?}", self.load, self.shares())
    }
}

/// A running tracer that prints the report for people.
#[derive(Debug)]
pub(super) struct TextReport(Process);

impl TextReport {
    const STDOUT: &str = "/tmp/incident.out";
    const STDERR: &str = "/tmp/incident.err";

    /// Returns once it has attached.
    pub(super) fn start(wire: &Wire, more: &[&str]) -> Result<Self> {
        // No report of an interval comes before that of the whole.
        let args = ["run", "--color", "never", "--interval", "1h"];
        let mut command = tracer::command(&[&args, more].concat())?;
        command
            .env("COLUMNS", "100")
            .env("LC_ALL", "C.UTF-8")
            .stdout(File::create(Self::STDOUT)?)
            .stderr(File::create(Self::STDERR)?);
        let process = Process::spawn(Some(&wire.receiver), command)?;
        wait::until("the tracer for people is attached", PATIENCE, || {
            let said = fs::read_to_string(Self::STDERR)?;
            Ok(said.contains("attached").then_some(()))
        })?;
        Ok(Self(process))
    }

    /// Ends it; gives what it printed.
    pub(super) fn stop(mut self) -> Result<String> {
        self.0.signal(Signal::SIGINT)?;
        let status = self.0.wait(PATIENCE)?;
        ensure!(status.success(), "tracer: {status}");
        Ok(fs::read_to_string(Self::STDOUT)?)
    }
}

pub(super) fn poll_sender_by_threads(wire: &Wire) -> Result<()> {
    let threaded = format!("/sys/class/net/{}/threaded", Wire::SENDER_DEVICE);
    wire.sender.run(|| {
        if !fs::exists(&threaded)? {
            return Err(Skip("this kernel has no threaded NAPI (5.12)".to_owned()).into());
        }
        setting::write(&threaded, "1")
    })?
}

fn silent(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Redis in the receiving namespace and on the CPU of the incident, without anything on disk.
fn redis(wire: &Wire) -> Result<Process> {
    let address = Wire::RECEIVER.to_string();
    let command = silent(
        "taskset",
        &[
            "-c",
            &THE_CPU.to_string(),
            "redis-server",
            "--bind",
            &address,
            "--protected-mode",
            "no",
            "--save",
            "",
            "--appendonly",
            "no",
        ],
    );
    let process = Process::spawn(Some(&wire.receiver), command)?;
    wait::until("Redis answers", PATIENCE, || Ok(commands(wire).ok()))?;
    Ok(process)
}

/// redis-benchmark, from the sending namespace, until dropped.
fn benchmark(wire: &Wire) -> Result<Process> {
    let (address, clients) = (Wire::RECEIVER.to_string(), CLIENTS.to_string());
    let command = silent(
        "redis-benchmark",
        &[
            "-h", &address, "-c", &clients, "-n", REQUESTS, "-t", "get", "-q",
        ],
    );
    Process::spawn(Some(&wire.sender), command)
}

/// Lets clients in the sending namespace ask Redis while `work` goes on.
fn while_asked<T>(wire: &Wire, thinking: Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            wire.sender.run(|| {
                thread::scope(|clients| {
                    for _ in 0..CLIENTS {
                        clients.spawn(|| ask(thinking, &done));
                    }
                });
            })
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// A client of Redis that thinks between answer and question. What is lost of both, TCP sends again.
fn ask(thinking: Duration, done: &AtomicBool) -> io::Result<()> {
    let redis = (Wire::RECEIVER, REDIS_PORT).into();
    let mut stream = TcpStream::connect_timeout(&redis, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut answer = [0; 64];
    while !done.load(Ordering::Relaxed) {
        stream.write_all(b"GET key\r\n")?;
        while !done.load(Ordering::Relaxed) {
            match stream.read(&mut answer) {
                Ok(0) => return Ok(()),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        thread::sleep(thinking);
    }
    Ok(())
}

/// Commands that Redis has served.
fn commands(wire: &Wire) -> Result<u64> {
    let mut command = Command::new("redis-cli");
    command
        .args(["-h", &Wire::RECEIVER.to_string(), "info", "stats"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (_, stdout, stderr) = complete(Some(&wire.sender), command, PATIENCE)?;
    let count = stdout
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"))
        .with_context(|| format!("redis-cli: {stdout} {stderr}"))?;
    Ok(count.trim().parse()?)
}

/// Datagrams from all sources in turn at a steady rate; returns how many were sent.
fn flood(wire: &Wire, pace: Pace) -> Result<u64> {
    wire.sender.run(|| {
        let mut affinity = CpuSet::new();
        affinity.set(OTHER_CPU)?;
        sched_setaffinity(Pid::from_raw(0), &affinity)?;
        let sockets = (0..SOURCES)
            .map(|index| {
                let socket = UdpSocket::bind((source(index), 0))?;
                setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
                Ok(socket)
            })
            .collect::<Result<Vec<_>>>()?;
        let begin = Instant::now();
        let (mut due, mut sent) = (begin, 0);
        for (turn, socket) in (0..pace.datagrams).zip(sockets.iter().cycle()) {
            if turn % pace.burst == 0 {
                // What was late is not caught up: a burst would overrun the card's ring.
                due = Instant::now().max(due + pace.every);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if begin.elapsed() >= FLOOD_LIMIT {
                    break;
                }
            }
            socket.send_to(&[0x77; 18], (Wire::RECEIVER, PORT))?;
            sent += 1;
        }
        anyhow::Ok(sent)
    })?
}
