//! Rule 1: the backlog of a CPU refused packets. Charged to the target CPU, whichever executed the drop.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    case::{Case, doubled, is_full_backlog, share},
    command::{in_netns, is_netns_name, mask, rx_queues, sysctl},
    found::{Found, NOTHING, Verdict, With as _, step},
    plan::{cores, placed, plan, widen},
    threshold::Key,
};
use crate::{
    analyze::{answer::named, names::is_index},
    model::{
        finding::Advice,
        report::{Cpu, Drop},
        setting::Setting,
    },
    report::number::{self, count, of, percent, ranges},
};

pub(super) const ID: &str = "backlog-overflow";

const BACKLOG: &str = "net.core.netdev_max_backlog";
/// What kernels begin with; less is seldom meant.
const DEFAULT_BACKLOG: u64 = 1_000;
/// CPUs that have an evidence line of their own.
const LISTED: usize = 8;

pub(super) fn judge(case: Case<'_>) -> Verdict {
    let is_traced = case.report.drop_totals.packets.is_some();
    if !is_traced && case.report.cpus.iter().all(|cpu| cpu.softnet.is_none()) {
        return Err(
            "refused packets: no row of /proc/net/softnet_stat, and kfree_skb is not hooked"
                .to_owned(),
        );
    }
    let refused = case.refused();
    if refused.is_empty() {
        return NOTHING;
    }
    let all = refused.values().copied().fold(0, u64::saturating_add);
    let (_, drops) = case.lost(is_full_backlog);
    let limited = case
        .report
        .cpus
        .iter()
        .filter_map(|cpu| cpu.softnet?.flow_limit);
    let limited = limited.fold(0, u64::saturating_add).min(all);
    let path = Path::of(case, &drops, &refused);
    let load = Load::of(case, &refused);

    let mut found = Found::new(ID, case.loss(all), summary(case, &refused, all, &path))
        .on(refused.keys().copied());
    for (cpu, packets) in refused.iter().take(LISTED) {
        let processed = case
            .cpu(*cpu)
            .and_then(|cpu| cpu.softnet)
            .map(|row| row.processed);
        let of_all = processed
            .map(|n| format!(" of {}", count(n.saturating_add(*packets))))
            .unwrap_or_default();
        found = found.evidence(
            format!("refused by the backlog of CPU {cpu}"),
            format!("{}{of_all} packets", count(*packets)),
            "/proc/net/softnet_stat, columns 1 and 2",
        );
    }
    if let Some(drop) = drops.first() {
        found = found.evidence(
            "dropped at, for the reason",
            format!(
                "{} ({})",
                drop.site,
                drop.reason.as_deref().unwrap_or("none given")
            ),
            "kfree_skb, enqueue_to_backlog",
        );
    }
    if limited > 0 {
        found = found.evidence(
            "refused by the RPS flow limit",
            format!("{} of {}", count(limited), of(all, "packet")),
            "/proc/net/softnet_stat, column 11",
        );
    }
    found = load.testify(found);

    let by_size = share(all - limited, all) >= 50;
    if limited > 0 {
        found = found.advice(flow_limit(case)).useless(format!(
            "a larger netdev_max_backlog for the {} of the flow limit: it only moves the half of the backlog from which \
             the limit acts",
            of(limited, "packet")
        ));
    }
    if by_size && load != Load::Bursts {
        found = found.advice(path.advise(case, &refused));
    }
    if by_size {
        found = found.advice(larger(case, load));
    }
    match load {
        Load::Sustained { .. } => found.useless(format!(
            "a larger netdev_max_backlog alone: {}; it would hold packets longer and refuse as many",
            load.words()
        )),
        Load::Bursts | Load::Unknown => found,
    }
    .useless("netdev_budget: it limits how long NET_RX runs, not how many packets wait")
    .alone()
}

fn summary(case: Case<'_>, refused: &BTreeMap<u32, u64>, all: u64, path: &Path<'_>) -> String {
    let cpus = refused.keys().copied();
    let or_down = if case.may_be_down() {
        " (or a device went down, which this kernel counts there)"
    } else {
        ""
    };
    let whose = match refused.len() {
        1 => format!(
            "the backlog of target CPU {} overflowed{or_down}: it",
            ranges(cpus)
        ),
        _ => format!(
            "the backlogs of target CPUs {} overflowed{or_down}: they",
            ranges(cpus)
        ),
    };
    let rows = refused.keys().filter_map(|cpu| case.cpu(*cpu)?.softnet);
    let processed = rows.map(|row| row.processed).fold(0, u64::saturating_add);
    let offered = processed.saturating_add(all);
    let of_all = if processed > 0 {
        format!(" ({} of those that came there)", percent(all, offered))
    } else {
        String::new()
    };
    format!(
        "{whose} refused {}{of_all}{}",
        of(all, "packet"),
        path.words()
    )
}

/// How packets got to the backlog.
struct Path<'a> {
    /// Those with most packets first.
    sources: Vec<Source<'a>>,
}

/// A device whose packets came to the backlog.
struct Source<'a> {
    device: &'a str,
    netns: Option<&'a str>,
    /// RPS steers them: a mask says so, or the drops were executed on other CPUs. `None`: neither is known.
    rps: Option<bool>,
}

impl Source<'_> {
    /// An index says nothing without its namespace.
    fn name(&self) -> String {
        let netns = self.netns.filter(|_| is_index(self.device));
        named(self.device, netns)
    }
}

impl<'a> Path<'a> {
    fn of(case: Case<'a>, drops: &[&'a Drop], refused: &BTreeMap<u32, u64>) -> Self {
        let mut devices: Vec<(&str, Option<&str>)> = Vec::new();
        for drop in drops {
            if let Some(name) = drop.device.as_deref() {
                let device = (name, drop.netns.as_deref());
                if !devices.contains(&device) {
                    devices.push(device);
                }
            }
        }
        if devices.is_empty() {
            let here = case.host.devices.keys().map(String::as_str);
            let here = here.filter(|name| {
                case.received(name) > 0 && points_there(case, name, refused) == Some(true)
            });
            devices = here.map(|name| (name, None)).collect();
        }
        let source = |(device, netns): (&'a str, Option<&'a str>)| Source {
            device,
            netns,
            rps: is_steered(case, device, netns, drops, refused),
        };
        Self {
            sources: devices.into_iter().map(source).collect(),
        }
    }

    fn words(&self) -> String {
        let those = |rps: Option<bool>| {
            let mut those = self.sources.iter().filter(move |source| source.rps == rps);
            let first = those.next()?;
            let more = match those.count() {
                0 => String::new(),
                n => format!(" and {}", of(n as u64, "other device")),
            };
            Some(format!("{}{more}", first.name()))
        };
        let begin = [
            those(Some(true)).map(|names| format!("steered there by RPS of {names}")),
            those(Some(false)).map(|names| format!("put there by {names} without RPS")),
        ];
        let mut words: Vec<String> = begin.into_iter().flatten().collect();
        if let Some(names) = those(None) {
            words.push(if words.is_empty() {
                format!("of {names}")
            } else {
                format!("some of them of {names}")
            });
        }
        if words.is_empty() {
            return String::new();
        }
        format!(", {}", words.join(", "))
    }

    /// Other CPUs take a part.
    fn advise(&self, case: Case<'_>, refused: &BTreeMap<u32, u64>) -> Vec<Advice> {
        let full: Vec<u32> = refused.keys().copied().collect();
        let Some(Source { device, netns, rps }) = self.sources.first() else {
            return vec![step(
                "Find the device whose packets fill the backlog, and set its RPS mask",
                "kfree_skb did not tell, and no RPS mask here names this CPU",
            )];
        };
        // A device of another namespace is not the one of that name here.
        let is_here = netns.is_none();
        let is_nameless = is_index(device) && !(is_here && case.host.devices.contains_key(*device));
        let own = (is_here && !is_nameless).then_some(*device);
        if let Some(plan) = own.and_then(|device| plan(case, device)) {
            let mut steps = Vec::from_iter(plan.spread());
            steps.extend(plan.steer(case));
            return steps;
        }
        let targets = targets(case, own, &full);
        if targets.is_empty() {
            return Vec::new();
        }
        let why = match rps {
            Some(true) if own.is_some_and(|device| sends_all(case, device, &full)) => {
                format!(
                    "its RPS masks send everything to CPU {}, which is full",
                    ranges(full)
                )
            }
            Some(true) => format!(
                "RPS steers packets of it to {}, whose backlog is full",
                number::cpus(full)
            ),
            Some(false) if own.is_none() => format!(
                "the packets of {device} stay on {} unless RPS steers them",
                number::cpus(full)
            ),
            Some(false) => format!(
                "{device} has no interrupts of its own: its packets stay on the CPU that sent them unless RPS steers them"
            ),
            None => format!("{} is full; others can take a part", number::cpus(full)),
        };
        if own.is_some() {
            return widen(case, device, &targets, &why);
        }
        let why = if is_nameless {
            format!("{why}; its name is not known, only its index")
        } else {
            why
        };
        // Which vectors are its own is not known from here; the masks belong to the namespace.
        let (command, _) = rx_queues(foreign(case), device, "rps_cpus", &mask(&targets), |_| None);
        let to = number::cpus(targets.iter().copied());
        let advice = step(format!("Steer {device} to {to} (RPS)"), why).risk(
            "each steered packet costs an interrupt between CPUs; note the masks of now to undo it",
        );
        // Nor can a device be found by its index.
        let is_reachable = !is_nameless && netns.is_some_and(is_netns_name);
        vec![if is_reachable {
            advice.command(in_netns(*netns, command))
        } else {
            advice
        }]
    }
}

/// Whether an RPS mask of `device`, one of tracer's namespace, names a CPU that refused packets.
fn points_there(case: Case<'_>, device: &str, refused: &BTreeMap<u32, u64>) -> Option<bool> {
    let nic = case.host.devices.get(device)?;
    let mut queues = nic.rx_queues.values();
    Some(queues.any(|queue| queue.rps_cpus.iter().any(|cpu| refused.contains_key(cpu))))
}

/// Whether the RPS masks of `device`, one of tracer's namespace, name none but `full`.
fn sends_all(case: Case<'_>, device: &str, full: &[u32]) -> bool {
    let queues = case.host.devices.get(device).map(|nic| &nic.rx_queues);
    queues.is_some_and(|queues| {
        let mut masks = queues.values().map(|queue| &queue.rps_cpus);
        // Without a mask, packets stay where they are.
        masks.all(|mask| !mask.is_empty() && mask.iter().all(|cpu| full.contains(cpu)))
    })
}

/// Whether RPS of `device` steered packets to the CPUs that refused them.
fn is_steered(
    case: Case<'_>,
    device: &str,
    netns: Option<&str>,
    drops: &[&Drop],
    refused: &BTreeMap<u32, u64>,
) -> Option<bool> {
    let is_its_own =
        |drop: &&&Drop| drop.device.as_deref() == Some(device) && drop.netns.as_deref() == netns;
    let ours: Vec<&Drop> = drops.iter().filter(is_its_own).copied().collect();
    let mut executed = ours.iter().flat_map(|drop| &drop.per_cpu);
    let crossed = executed.any(|(cpu, n)| *n > 0 && !refused.contains_key(cpu))
        || ours.iter().any(|drop| {
            let mut targets = drop.per_target_cpu.iter().flatten();
            targets.any(|(cpu, n)| *n > 0 && !drop.per_cpu.contains_key(cpu))
        });
    let masked = netns.is_none().then(|| points_there(case, device, refused));
    let masked = masked.flatten();
    if crossed || masked == Some(true) {
        return Some(true);
    }
    let traced = !ours.is_empty() && ours.iter().all(|drop| drop.per_target_cpu.is_some());
    (masked.is_some() || traced).then_some(false)
}

/// The same case without devices: those of another namespace are not in it, whatever their names.
fn foreign(case: Case<'_>) -> Case<'_> {
    static EMPTY: std::sync::LazyLock<crate::model::topology::Topology> =
        std::sync::LazyLock::new(Default::default);
    Case {
        host: &EMPTY,
        ..case
    }
}

/// CPUs that RPS of `device` (`None`: one of another namespace) can steer to: of its node, without those that are `full`,
/// serve interrupts, or are siblings of these. Less strict where that leaves none, or one, for all would move there: then
/// the full ones have their part.
pub(super) fn targets(case: Case<'_>, device: Option<&str>, full: &[u32]) -> Vec<u32> {
    let nic = device.and_then(|device| case.host.devices.get(device));
    let node = nic.and_then(|nic| nic.node);
    let node = node.or_else(|| full.first().and_then(|cpu| case.node_of(*cpu)));
    let cores = cores(case, node);
    let free = |taken: &BTreeSet<u32>| -> Vec<u32> {
        let cores = cores
            .iter()
            .filter(|core| !core.iter().any(|cpu| taken.contains(cpu)));
        let mut cpus: Vec<u32> = cores.flatten().copied().collect();
        cpus.sort_unstable();
        cpus
    };
    let full: BTreeSet<u32> = full.iter().copied().collect();
    let busy = case.report.irqs.iter().filter(|irq| irq.count > 0);
    let vectors = busy.filter_map(|irq| case.host.irqs.get(&irq.irq));
    let interrupted = vectors.flat_map(placed).copied();
    let strict = free(&full.iter().copied().chain(interrupted).collect());
    let without_full = free(&full);
    let near = free(&BTreeSet::new());
    let everywhere = super::plan::cores(case, None).concat();
    let all = [strict, without_full, near, everywhere];
    // One that is full takes no more, and neither do several.
    let is_relief = |cpus: &&Vec<u32>| cpus.iter().any(|cpu| !full.contains(cpu));
    let mut relief = all.iter().filter(is_relief);
    let several = relief.clone().find(|cpus| cpus.len() > 1);
    let mut cpus = several
        .or_else(|| relief.next())
        .cloned()
        .unwrap_or_default();
    cpus.sort_unstable();
    cpus
}

/// Whether the refusing CPUs could have taken the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// On average there was room: a queue that holds the burst is enough.
    Bursts,
    /// There was none.
    Sustained {
        cpu: u32,
        would_be: u64,
        idle: Option<u64>,
    },
    Unknown,
}

impl Load {
    /// The CPU with least room decides.
    fn of(case: Case<'_>, refused: &BTreeMap<u32, u64>) -> Self {
        let mut load = Self::Unknown;
        for (id, packets) in refused {
            let Some(cpu) = case.cpu(*id) else { continue };
            let Some(would_be) = would_be(case, cpu, *packets) else {
                continue;
            };
            let idle = case.idle(cpu);
            let full = would_be >= case.limit(Key::SoftirqBusy)
                || case.competes(cpu, case.ksoftirqd_share(cpu));
            if full {
                return Self::Sustained {
                    cpu: *id,
                    would_be,
                    idle,
                };
            }
            load = Self::Bursts;
        }
        load
    }

    fn words(self) -> String {
        match self {
            Self::Sustained {
                cpu,
                would_be,
                idle,
            } => {
                let idle = idle
                    .map(|idle| format!(", and it was {idle} % idle"))
                    .unwrap_or_default();
                format!(
                    "the load is sustained: with the refused packets, softirqs would take {would_be} % of CPU {cpu}'s time{idle}"
                )
            }
            Self::Bursts => "the load comes in bursts: on average the CPU had room".to_owned(),
            Self::Unknown => "how busy the CPU was is not known".to_owned(),
        }
    }

    fn testify(self, found: Found) -> Found {
        found.evidence(
            "sustained load or bursts",
            self.words(),
            "softirq_entry/exit, /proc/stat",
        )
    }
}

/// Percent of its time that softirqs would need, had none of the packets been refused.
fn would_be(case: Case<'_>, cpu: &Cpu, refused: u64) -> Option<u64> {
    let busy = case.softirq_busy(cpu)?;
    let processed = cpu.softnet?.processed;
    if processed == 0 {
        return Some(busy);
    }
    let scaled =
        u128::from(busy) * u128::from(processed.saturating_add(refused)) / u128::from(processed);
    u64::try_from(scaled).ok()
}

fn larger(case: Case<'_>, load: Load) -> Option<Advice> {
    let now = case.sysctl(BACKLOG)?;
    let then = doubled(now)?.max(DEFAULT_BACKLOG);
    let (queue, longer) = if then == now.saturating_mul(2) {
        ("twice the queue", "twice as long")
    } else {
        ("the kernel's own length", "longer")
    };
    let why = match load {
        Load::Bursts => format!("{}; {queue} holds the burst", load.words()),
        Load::Sustained { .. } => {
            "only after the load is spread: room for what still comes at once".to_owned()
        }
        Load::Unknown => format!(
            "enough for bursts, useless for a sustained load; {}",
            load.words()
        ),
    };
    let advice = step(
        format!(
            "Raise netdev_max_backlog from {} to {}",
            count(now),
            count(then)
        ),
        why,
    );
    Some(
        advice
            .command(sysctl(case, BACKLOG, &then.to_string()))
            .sets([(Setting::sysctl(BACKLOG), then.to_string())])
            .undo(sysctl(case, BACKLOG, &now.to_string()))
            .risk(format!("packets may wait {longer} in a full backlog")),
    )
}

fn flow_limit(case: Case<'_>) -> Option<Advice> {
    const BITMAP: &str = "net.core.flow_limit_cpu_bitmap";
    let now = case.host.sysctls.get(BITMAP)?.trim();
    let is_mask = !now.is_empty() && now.chars().all(|c| c.is_ascii_hexdigit() || c == ',');
    let advice = step(
        "Switch the RPS flow limit off, if the large flow must not lose packets",
        "it refuses packets of the flow that fills more than half of a backlog, to keep room for the others: that is its \
         purpose, not a shortage",
    );
    is_mask.then(|| {
        advice
            .command(sysctl(case, BITMAP, "0"))
            .undo(sysctl(case, BITMAP, now))
            .risk("one flow may then fill the backlog and starve the others")
    })
}
