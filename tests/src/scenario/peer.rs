//! Provokes drops at a closed port and disk interrupts while another tool, written by others, counts the same events:
//! `perf stat` and `bpftrace` start tracer as their child, so that their window contains tracer's.
//!
//! Asserts for the drops with this reason, for `NET_RX` runs and for hard IRQs that tracer saw at least what happened
//! in the middle of its window and no more than the peer did; bpftrace's own misses, which the kernel tells, count
//! for it. Where this kernel left out runs of a program, it is measured again. tracer runs outside the namespace of the
//! drops and has to name it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{Need, Scenario, Skip, fewer, note, repeat};
use crate::{
    disk::Blocks,
    flood::Flood,
    kernel::{self, gained, snmp},
    netns::{Pair, with_tracefs},
    tracer::{Outcome, Tracer, binary},
    wait::quiet,
};

/// This file's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "perf_counts_the_same_drops_runs_and_interrupts",
        needs: &[Need::Root, Need::Program("ip"), Need::Program("perf")],
        run: || repeat(perf),
    },
    Scenario {
        name: "bpftrace_counts_the_same_but_for_its_own_misses",
        needs: &[Need::Root, Need::Program("ip"), Need::Program("bpftrace")],
        run: || repeat(bpftrace),
    },
];

const PORT: u16 = 7004;
const PACKETS: u64 = 800;
const REASON: &str = "NO_SOCKET";
const TRACER_ARGS: &[&str] = &["run", "--format", "json", "--duration", "3s"];

/// By CPU id.
type PerCpu = BTreeMap<u32, u64>;

/// What a peer counted.
#[derive(Debug, Default)]
struct Counts {
    drops: PerCpu,
    net_rx: PerCpu,
    hard_irqs: PerCpu,
    /// Events that the peer's programs were skipped for.
    missed: u64,
}

fn perf() -> Result<()> {
    let output = tempfile::NamedTempFile::new()?;
    let observed = observe(|reason| {
        let mut command = Command::new("perf");
        command
            .args(["stat", "-a", "-A", "-x", ",", "-o"])
            .arg(output.path());
        command.args([
            "-e",
            "skb:kfree_skb",
            "--filter",
            &format!("reason == {reason}"),
        ]);
        command.args([
            "-e",
            "irq:softirq_entry",
            "--filter",
            "vec == 3",
            "-e",
            "irq:irq_handler_entry",
            "--",
        ]);
        command.arg(binary()?).args(TRACER_ARGS);
        Ok(command)
    })?;
    let peer = perf_counts(output.path())?;
    observed.compare(&peer)
}

fn bpftrace() -> Result<()> {
    let output = tempfile::NamedTempFile::new()?;
    let observed = observe(|reason| {
        let program = format!(
            "tracepoint:skb:kfree_skb /args->reason == {reason}/ {{ @drops[cpu] = count(); }}
             tracepoint:irq:softirq_entry /args->vec == 3/ {{ @net_rx[cpu] = count(); }}
             tracepoint:irq:irq_handler_entry {{ @hard_irqs[cpu] = count(); }}"
        );
        let mut command = Command::new("bpftrace");
        command
            .arg("-o")
            .arg(output.path())
            .args(["-e", &program, "-c"]);
        command.arg(format!("{} {}", binary()?.display(), TRACER_ARGS.join(" ")));
        Ok(command)
    })?;
    let mut peer = bpftrace_counts(output.path())?;
    peer.missed = observed.peer_missed;
    observed.compare(&peer)
}

/// One run of tracer under a peer.
struct Observed {
    outcome: Outcome,
    namespace: String,
    /// Changes of /proc/softirqs and /proc/interrupts in the middle of tracer's window.
    net_rx: PerCpu,
    hard_irqs: PerCpu,
    peer_missed: u64,
}

fn observe(peer: impl FnOnce(u32) -> Result<Command> + Send) -> Result<Observed> {
    let pair = Pair::new()?;
    let blocks = Blocks::new()?;
    let disk_irq = blocks.irq()?;
    let tracer = with_tracefs(|| {
        let mut command = peer(reason_number()?)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Tracer::start_under(command)
    })??;
    quiet();
    let before = (kernel::softirqs("NET_RX")?, interrupts_by_cpu()?);
    let sent = Flood::new(Pair::RECEIVER, PORT, PACKETS).run(&pair.sender)?;
    if disk_irq.is_some() {
        blocks.read()?;
    }
    let after = (kernel::softirqs("NET_RX")?, interrupts_by_cpu()?);
    ensure!(sent == PACKETS, "sent {sent} of {PACKETS}");
    let refused = snmp(&pair.receiver, "Udp", "NoPorts")?;
    ensure!(refused == PACKETS, "NoPorts {refused}, sent {PACKETS}");
    let peer_missed = programs_missed(tracer.pid())?;
    let outcome = tracer.finish()?;
    Ok(Observed {
        outcome,
        namespace: pair.receiver.name().to_owned(),
        net_rx: gained(&before.0, &after.0),
        hard_irqs: gained(&before.1, &after.1),
        peer_missed,
    })
}

impl Observed {
    fn compare(&self, peer: &Counts) -> Result<()> {
        let report = &self.outcome.summary;
        let missed = self.outcome.missed();
        let mut drops = PerCpu::new();
        let mut ours = 0;
        for drop in self.outcome.drops_for(REASON) {
            for (cpu, packets) in &drop.per_cpu {
                *drops.entry(*cpu).or_insert(0) += packets;
            }
            if drop.device.as_deref() == Some(Pair::RECEIVER_DEVICE)
                && drop.netns.as_deref() == Some(self.namespace.as_str())
            {
                ours += drop.packets;
            }
        }
        ensure!(
            ours <= PACKETS,
            "{PACKETS} drops in {}, traced {ours}: {:#?}",
            self.namespace,
            report.drops
        );
        let runs = report
            .cpus
            .iter()
            .filter_map(|cpu| Some((cpu.cpu, cpu.net_rx_runs?)))
            .collect();
        let interrupts = report
            .cpus
            .iter()
            .filter_map(|cpu| Some((cpu.cpu, cpu.hardirqs?)))
            .collect();
        within("NET_RX", &self.net_rx, &runs, &peer.net_rx, peer.missed)?;
        within(
            "hard IRQs",
            &self.hard_irqs,
            &interrupts,
            &peer.hard_irqs,
            peer.missed,
        )?;
        within("drops", &PerCpu::new(), &drops, &peer.drops, peer.missed)?;
        at_least("NET_RX", &runs, &self.net_rx)?;
        at_least("hard IRQs", &interrupts, &self.hard_irqs)?;
        fewer("drops", ours, PACKETS)?;
        fewer("runs of programs", 0, missed)?;
        note(format_args!("peer {peer:?}"));
        note(format_args!(
            "tracer: drops {drops:?}, NET_RX {runs:?}, hard IRQs {interrupts:?}"
        ));
        Ok(())
    }
}

/// `inner <= traced <= peer + missed` on every CPU.
fn within(
    what: &'static str,
    inner: &PerCpu,
    traced: &PerCpu,
    peer: &PerCpu,
    missed: u64,
) -> Result<()> {
    for cpu in inner.keys().chain(traced.keys()).chain(peer.keys()) {
        let of = |counts: &PerCpu| counts.get(cpu).copied().unwrap_or(0);
        ensure!(
            of(traced) <= of(peer) + missed,
            "{what} on CPU {cpu}: the kernel at least {}, tracer {}, the peer {} (missed {missed})",
            of(inner),
            of(traced),
            of(peer)
        );
    }
    Ok(())
}

/// What happened in the middle was traced.
fn at_least(what: &'static str, traced: &PerCpu, inner: &PerCpu) -> Result<()> {
    for (cpu, counted) in inner {
        fewer(what, traced.get(cpu).copied().unwrap_or(0), *counted)?;
    }
    Ok(())
}

fn interrupts_by_cpu() -> Result<PerCpu> {
    let mut by_cpu = PerCpu::new();
    for ((_, cpu), count) in kernel::interrupts()? {
        *by_cpu.entry(cpu).or_insert(0) += count;
    }
    Ok(by_cpu)
}

/// The running kernel's number of [`REASON`], from the tracepoint's own format.
fn reason_number() -> Result<u32> {
    let path = "/sys/kernel/tracing/events/skb/kfree_skb/format";
    let format = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let number = format.split('{').find_map(|entry| {
        let (number, name) = entry.split_once(',')?;
        name.trim()
            .starts_with(&format!("\"{REASON}\""))
            .then(|| number.trim().parse().ok())?
    });
    number.ok_or_else(|| Skip(format!("this kernel's kfree_skb does not tell {REASON}")).into())
}

/// `CPU0,800,,skb:kfree_skb,…` a line.
fn perf_counts(path: &Path) -> Result<Counts> {
    let text = fs::read_to_string(path)?;
    let mut counts = Counts::default();
    for line in text.lines() {
        let columns: Vec<_> = line.split(',').collect();
        let [cpu, count, _, event, ..] = columns[..] else {
            continue;
        };
        let Some(Ok(cpu)) = cpu.strip_prefix("CPU").map(str::parse) else {
            continue;
        };
        let of_event = match event {
            "skb:kfree_skb" => &mut counts.drops,
            "irq:softirq_entry" => &mut counts.net_rx,
            "irq:irq_handler_entry" => &mut counts.hard_irqs,
            _ => continue,
        };
        of_event.insert(cpu, count.parse().with_context(|| format!("perf: {line}"))?);
    }
    ensure!(!counts.drops.is_empty(), "perf counted nothing: {text}");
    Ok(counts)
}

/// `@drops[0]: 800` a line.
fn bpftrace_counts(path: &Path) -> Result<Counts> {
    let text = fs::read_to_string(path)?;
    let mut counts = Counts::default();
    for line in text.lines() {
        let Some((map, rest)) = line.strip_prefix('@').and_then(|line| line.split_once('[')) else {
            continue;
        };
        let Some((cpu, count)) = rest.split_once("]:") else {
            continue;
        };
        let of_map = match map {
            "drops" => &mut counts.drops,
            "net_rx" => &mut counts.net_rx,
            _ => &mut counts.hard_irqs,
        };
        of_map.insert(cpu.parse()?, count.trim().parse()?);
    }
    ensure!(!counts.drops.is_empty(), "bpftrace counted nothing: {text}");
    Ok(counts)
}

/// Sum of `recursion_misses` over the programs that a process holds.
fn programs_missed(pid: u32) -> Result<u64> {
    let mut missed = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(info) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = info
            .lines()
            .find_map(|line| line.strip_prefix("recursion_misses:"));
        missed += field.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
    }
    Ok(missed)
}
