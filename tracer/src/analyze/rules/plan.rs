//! Where the interrupts of a device should go, and which CPUs are left for others: one vector a physical core, on the
//! device's node, online CPUs only; the siblings of interrupt cores stay free.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    case::{Case, share},
    command::{affinity, list, mask, quote, rx_queues, sysctl},
    found::{With as _, step},
    shared_cpu,
    threshold::Key,
};
use crate::{
    model::{
        finding::Advice,
        setting::{FLOW_ENTRIES, Setting},
        topology::{ChannelKind, Nic, Vector},
    },
    report::number::{self, of},
};

/// Hardware threads a queue up to which interrupts go to every core (seastar's perftune).
const THREADS_PER_QUEUE: usize = 4;
/// Cores for each that is given to interrupts alone (seastar's perftune).
const CORES_PER_IRQ_CORE: usize = 16;
/// A device with less than this share of the busiest one's packets gets no cores of its own, %.
const MINOR_PERCENT: u64 = 1;
/// Entries of the flow table of RFS (kernel scaling.rst).
const FLOWS: u64 = 32_768;

/// The plan for one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub device: String,
    /// The device's node, where it is known.
    pub node: Option<u32>,
    /// Queues with vectors.
    pub queues: usize,
    /// One a core.
    pub irq_cpus: Vec<u32>,
    /// For RPS; none if the queues are enough.
    pub rps_cpus: Vec<u32>,
    /// For processes: not on interrupt cores.
    pub rest: Vec<u32>,
    /// `rest` is on another node, for want of cores on this one.
    pub rest_is_remote: bool,
    /// Vector, where it is now, where it should be; those that can be moved and have to be.
    pub moves: Vec<(u32, String, u32)>,
    /// The kernel refuses to move the vectors.
    pub managed: bool,
    /// It may refuse: whether it manages one of `moves` is not known.
    pub may_be_managed: bool,
    /// Channels now and as many as there are cores for, where only more of them spread the load.
    pub channels: Option<(u32, u32)>,
    /// What `ethtool -L` calls them.
    pub channel_word: &'static str,
}

/// Online CPUs by core, on `node` if it has any; cores set aside for other purposes left out.
pub(super) fn cores(case: Case<'_>, node: Option<u32>) -> Vec<Vec<u32>> {
    let online = case.online();
    let on_node = |cpu: &u32| node.is_none() || case.host.cpus[cpu].node == node;
    let mut cpus: BTreeSet<u32> = online.iter().copied().filter(on_node).collect();
    if cpus.is_empty() {
        cpus = online;
    }
    if cpus.iter().any(|cpu| !case.host.cpus[cpu].isolated) {
        cpus.retain(|cpu| !case.host.cpus[cpu].isolated);
    }
    let mut cores: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for cpu in cpus {
        let siblings = &case.host.cpus[&cpu].siblings;
        let first = siblings.iter().copied().min().unwrap_or(cpu);
        cores.entry(first.min(cpu)).or_default().push(cpu);
    }
    cores.into_values().collect()
}

/// The plan for `device`; `None` if it has no vectors or the host's CPUs are not known.
pub(super) fn plan(case: Case<'_>, device: &str) -> Option<Plan> {
    let vectors = case.vectors(device);
    let nic = case.host.devices.get(device);
    let node = nic
        .and_then(|nic| nic.node)
        .or_else(|| vectors.iter().find_map(|(_, vector)| vector.node));
    let cores = cores(case, node);
    if vectors.is_empty() || cores.is_empty() {
        return None;
    }
    let queues = rank(&vectors);
    let count = queues.values().collect::<BTreeSet<_>>().len();
    let victims = !case.apps.is_empty() || !shared_cpu::victims(case).is_empty();
    let mut shares = shares(case, device, node, &cores, victims);
    let mut ours = shares.remove(device)?;
    let mut irq_cpus: Vec<u32> = cores[ours.clone()].iter().map(|core| core[0]).collect();
    if count == 1
        && let Some((at, cpu)) = stays(&vectors, &cores)
        && !shares.values().any(|share| share.contains(&at))
        && !is_before(case, shares.keys().copied(), device, &cores[at])
    {
        ours = at..at + 1;
        irq_cpus = vec![cpu];
    }
    shares.insert(device, ours.clone());
    let is_given = |at: &usize| shares.values().any(|share| share.contains(at));
    let without = |is_taken: &dyn Fn(&usize) -> bool| -> Vec<Vec<u32>> {
        let cores = cores.iter().enumerate().filter(|(at, _)| !is_taken(at));
        cores.map(|(_, core)| core.clone()).collect()
    };
    let mut spare = without(&is_given);
    if spare.is_empty() {
        spare = without(&|at| ours.contains(at));
    }
    let rest_is_remote = victims && spare.is_empty();
    if rest_is_remote {
        let here: BTreeSet<u32> = cores.iter().flatten().copied().collect();
        spare = self::cores(case, None);
        spare.retain(|core| !core.iter().any(|cpu| here.contains(cpu)));
    }
    let (rps, rest) = match (victims, count) {
        (false, _) => (spare.clone(), spare),
        // One queue cannot be spread but by RPS; the process still needs CPUs of its own.
        (true, 1) if spare.len() > 1 && !rest_is_remote => {
            let (rps, rest) = spare.split_at(spare.len() / 2);
            (rps.to_vec(), rest.to_vec())
        }
        (true, _) => (Vec::new(), spare),
    };
    let mut moves = Vec::new();
    let mut may_be_managed = false;
    for (irq, vector) in &vectors {
        let to = irq_cpus[queues[irq] % irq_cpus.len()];
        if vector.managed != Some(true) && placed(vector) != [to] {
            moves.push((*irq, list(&vector.affinity), to));
            may_be_managed |= vector.managed.is_none();
        }
    }
    let flat = |cores: Vec<Vec<u32>>| {
        let mut cpus = cores.concat();
        cpus.sort_unstable();
        cpus
    };
    let mut rps = flat(rps);
    // All that one CPU did would move to another one.
    if rps.len() == 1 {
        rps.extend(&irq_cpus);
        rps.sort_unstable();
        rps.dedup();
    }
    let managed = vectors
        .iter()
        .all(|(_, vector)| vector.managed == Some(true));
    // The kernel spreads managed vectors over every CPU, not over those of a node.
    let most = u32::try_from(self::cores(case, None).len()).unwrap_or(u32::MAX);
    let channels = nic.and_then(|nic| nic.channels).filter(|_| managed);
    let channels = channels.map(|range| (range.now, range.max.unwrap_or(range.now).min(most)));
    Some(Plan {
        device: device.to_owned(),
        node,
        queues: count,
        irq_cpus,
        rps_cpus: rps,
        rest: flat(rest),
        rest_is_remote,
        moves,
        managed,
        may_be_managed,
        channels: channels.filter(|(now, then)| then > now),
        channel_word: nic.map_or(ChannelKind::Combined.word(), Nic::channel_word),
    })
}

/// Where the only queue of a device may stay: the core, and the CPU of it. Another one would be as alone with it.
fn stays(vectors: &[(u32, &Vector)], cores: &[Vec<u32>]) -> Option<(usize, u32)> {
    let (_, first) = vectors.first()?;
    let [cpu] = *placed(first) else { return None };
    let at = cores.iter().position(|core| core.contains(&cpu))?;
    let is_there = |(_, vector): &(u32, &Vector)| placed(vector) == [cpu];
    vectors.iter().all(is_there).then_some((at, cpu))
}

/// Whether a device of `devices` before `device`, by name, has a vector on `core`: it may stay there, too.
fn is_before<'a>(
    case: Case<'_>,
    devices: impl Iterator<Item = &'a str>,
    device: &str,
    core: &[u32],
) -> bool {
    let mut before = devices.filter(|name| *name < device);
    before.any(|name| {
        let vectors = case.vectors(name);
        let mut cpus = vectors.iter().flat_map(|(_, vector)| placed(vector));
        cpus.any(|cpu| core.contains(cpu))
    })
}

/// Where an interrupt is delivered, as far as the kernel tells.
pub(crate) fn placed(vector: &Vector) -> &[u32] {
    if vector.effective.is_empty() {
        &vector.affinity
    } else {
        &vector.effective
    }
}

/// Vectors of one queue, receive and transmit, have one rank.
pub(super) fn rank(vectors: &[(u32, &Vector)]) -> BTreeMap<u32, usize> {
    let queues: BTreeSet<u32> = vectors.iter().filter_map(|(_, v)| v.queue).collect();
    let of_queue = |queue: u32| queues.iter().position(|other| *other == queue);
    let ranks = vectors.iter().enumerate();
    ranks
        .map(|(at, (irq, vector))| (*irq, vector.queue.and_then(of_queue).unwrap_or(at)))
        .collect()
}

/// Which of `cores` the interrupts of each device of `node` with traffic get, and those of `device`: each behind those
/// given out before, by name, or from the first again where they do not suffice.
fn shares<'a>(
    case: Case<'a>,
    device: &'a str,
    node: Option<u32>,
    cores: &[Vec<u32>],
    victims: bool,
) -> BTreeMap<&'a str, Range<usize>> {
    // A core stays for the process.
    let end = (cores.len() - usize::from(victims)).max(1);
    let all = case.devices().into_iter().map(|name| case.received(name));
    let most = all.max().unwrap_or(0);
    let mut shares = BTreeMap::new();
    let mut at = 0;
    for name in case.devices() {
        let vectors = case.vectors(name);
        let nic = case.host.devices.get(name).and_then(|nic| nic.node);
        let of_vectors = || vectors.iter().find_map(|(_, vector)| vector.node);
        let is_near = nic.or_else(of_vectors) == node;
        let is_active = share(case.received(name), most) >= MINOR_PERCENT;
        if name != device && (vectors.is_empty() || !is_near || !is_active) {
            continue;
        }
        let count = rank(&vectors).values().collect::<BTreeSet<_>>().len();
        let k = irq_cores(case, cores, count.max(1), victims);
        let first = if at + k <= end { at } else { 0 };
        at = first + k;
        shares.insert(name, first..at);
    }
    shares
}

/// How many cores interrupts get.
fn irq_cores(case: Case<'_>, cores: &[Vec<u32>], queues: usize, victims: bool) -> usize {
    let most = queues.min(cores.len()).max(1);
    if !victims {
        return most;
    }
    let threads: usize = cores.iter().map(Vec::len).sum();
    let dedicated = if threads > THREADS_PER_QUEUE * queues {
        cores.len().div_ceil(CORES_PER_IRQ_CORE)
    } else {
        cores.len() / 2
    };
    // A core stays for the process.
    let most = most.min(cores.len().saturating_sub(1)).max(1);
    dedicated.max(needed(case)).clamp(1, most)
}

/// Cores that the whole host's `NET_RX` and hard interrupts would load as much as is planned for.
fn needed(case: Case<'_>) -> usize {
    let time = case.report.cpus.iter().map(|cpu| {
        let hard = cpu.hardirq_ns.unwrap_or(0);
        cpu.net_rx_ns.unwrap_or(0).saturating_add(hard)
    });
    let time = u128::from(time.fold(0, u64::saturating_add)) * 100;
    let load = u128::from(case.limit(Key::IrqCoreLoad).max(1));
    let core = u128::from(case.report.duration_ns.max(1)) * load;
    usize::try_from(time.div_ceil(core)).unwrap_or(usize::MAX)
}

impl Plan {
    fn node_words(&self) -> String {
        self.node
            .map(|node| format!(" of its node {node}"))
            .unwrap_or_default()
    }

    /// Moves the vectors.
    pub(super) fn spread(&self) -> Option<Advice> {
        if self.managed {
            let advice = step(
                format!("Change the number of queues of {}", self.device),
                "the kernel manages the affinity of these vectors and refuses writes (EPERM); it spreads them itself when \
                 the queues are made",
            );
            let device = quote(&self.device);
            let kind = self.channel_word;
            if let Some((now, then)) = self.channels {
                let channels = Setting::Channels {
                    device: self.device.clone(),
                };
                return Some(
                    advice
                        .command(format!("ethtool -L {device} {kind} {then}"))
                        .undo(format!("ethtool -L {device} {kind} {now}"))
                        .risk("resets the device: a moment without packets")
                        .sets([(channels, then.to_string())]),
                );
            }
            let command = format!("ethtool -l {device}");
            return Some(
                advice
                    .command(command)
                    .risk("changing it with -L resets the device"),
            );
        }
        if self.moves.is_empty() {
            return None;
        }
        let new: Vec<_> = self
            .moves
            .iter()
            .map(|(irq, _, to)| (*irq, to.to_string()))
            .collect();
        let old: Vec<_> = self
            .moves
            .iter()
            .map(|(irq, now, _)| (*irq, now.clone()))
            .collect();
        let cores = of(self.irq_cpus.len() as u64, "core");
        let advice = step(
            format!(
                "Put the vectors of {} on {}",
                self.device,
                number::cpus(self.irq_cpus.iter().copied())
            ),
            if self.queues == 1 {
                format!(
                    "its one queue is served by one CPU, here a core{}: only RPS or more queues spread it",
                    self.node_words()
                )
            } else if self.irq_cpus.len() == 1 {
                format!(
                    "the one core{} that is left for them: NET_RX stays on one CPU",
                    self.node_words()
                )
            } else {
                format!(
                    "its queues spread evenly over {cores}{}, one thread of each",
                    self.node_words()
                )
            },
        );
        let refused = if self.may_be_managed {
            format!(
                "; the kernel may refuse (EPERM) because it manages these vectors, which is not known here: change the number \
                 of queues then, ethtool -L {} {} N",
                quote(&self.device),
                self.channel_word
            )
        } else {
            String::new()
        };
        let advice = advice.command(affinity(&new)).risk(format!(
            "a queue under load moves only when its NAPI has drained; processes on these CPUs lose time{refused}"
        ));
        let advice = advice.sets(
            new.into_iter()
                .map(|(irq, to)| (Setting::IrqAffinity { irq }, to)),
        );
        let known = old.iter().all(|(_, now)| !now.is_empty());
        Some(if known {
            advice.undo(affinity(&old))
        } else {
            advice
        })
    }

    /// Makes RPS masks fit: cleared where the queues are enough, else the CPUs beside the interrupts'.
    pub(super) fn steer(&self, case: Case<'_>) -> Vec<Advice> {
        let set = case.host.devices.get(&self.device).is_some_and(|nic| {
            nic.rx_queues
                .values()
                .any(|queue| !queue.rps_cpus.is_empty())
        });
        match (self.rps_cpus.as_slice(), set) {
            ([], false) => Vec::new(),
            ([], true) => {
                let advice = step(
                    format!("Clear the RPS masks of {}", self.device),
                    "the vectors decide where packets are handled; steering them once more costs an interrupt between CPUs \
                     and ends in a backlog that can overflow",
                );
                vec![rps(case, advice, &self.device, &[])]
            }
            (cpus, _) => {
                let near = self.node.map_or_else(
                    || "CPUs of the same memory".to_owned(),
                    |node| format!("CPUs of node {node}"),
                );
                let why = if cpus.iter().any(|cpu| self.irq_cpus.contains(cpu)) {
                    format!(
                        "{near}, an interrupt core among them: beside it there is one CPU, which would have all packets \
                         alone"
                    )
                } else {
                    format!("{near}, beside the interrupt cores and their siblings")
                };
                widen(case, &self.device, cpus, &why)
            }
        }
    }
}

/// RPS of `device` over `cpus`, where it is not so already, and RFS behind it.
pub(super) fn widen(case: Case<'_>, device: &str, cpus: &[u32], why: &str) -> Vec<Advice> {
    let mut steps = Vec::new();
    if !is_steered_to(case, device, cpus) {
        steps.push(steer(case, device, cpus, why));
    }
    steps.extend(rfs(case, device));
    steps
}

/// Whether every RPS mask of `device` is `cpus`.
fn is_steered_to(case: Case<'_>, device: &str, cpus: &[u32]) -> bool {
    let cpus: BTreeSet<u32> = cpus.iter().copied().collect();
    let queues = case.host.devices.get(device).map(|nic| &nic.rx_queues);
    queues.is_some_and(|queues| {
        let mut masks = queues.values().map(|queue| &queue.rps_cpus);
        !queues.is_empty()
            && masks.all(|mask| mask.iter().copied().collect::<BTreeSet<_>>() == cpus)
    })
}

fn steer(case: Case<'_>, device: &str, cpus: &[u32], why: &str) -> Advice {
    let to = number::cpus(cpus.iter().copied());
    let why = match cpus {
        [_] => format!("{why}; no other CPU is online and not isolated"),
        _ => why.to_owned(),
    };
    let advice = step(format!("Steer {device} to {to} (RPS)"), why);
    let risk = "each steered packet costs an interrupt between CPUs; tasks on these CPUs lose time";
    rps(case, advice, device, cpus).risk(risk)
}

fn rps(case: Case<'_>, advice: Advice, device: &str, cpus: &[u32]) -> Advice {
    let now = |queue: &crate::model::topology::RxQueue| Some(mask(&queue.rps_cpus));
    let (command, revert) = rx_queues(case, device, "rps_cpus", &mask(cpus), now);
    let queues = case
        .host
        .devices
        .get(device)
        .map(|nic| nic.rx_queues.keys());
    let set = |queue: &u32| {
        let device = device.to_owned();
        let queue = *queue;
        (Setting::RpsCpus { device, queue }, mask(cpus))
    };
    Advice {
        revert,
        ..advice
            .command(command)
            .sets(queues.into_iter().flatten().map(set))
    }
}

/// Flows to the CPU of their reader; only where nothing is set up yet and all of it can be undone.
fn rfs(case: Case<'_>, device: &str) -> Option<Advice> {
    let now = case.sysctl(FLOW_ENTRIES)?;
    let queues = &case.host.devices.get(device)?.rx_queues;
    let is_off = queues.values().all(|queue| queue.rps_flow_cnt == Some(0));
    // What is set is not made smaller.
    if now > 0 && !is_off || queues.is_empty() {
        return None;
    }
    let entries = now.max(FLOWS);
    // The kernel would round it up.
    let each = (entries / queues.len() as u64).max(1);
    let each = each.checked_next_power_of_two()?.to_string();
    let count = |queue: &crate::model::topology::RxQueue| Some(queue.rps_flow_cnt?.to_string());
    let (flows, back) = rx_queues(case, device, "rps_flow_cnt", &each, count);
    let set = |queue: &u32| {
        let device = device.to_owned();
        let queue = *queue;
        (Setting::RpsFlowCount { device, queue }, each.clone())
    };
    let changes = [(Setting::sysctl(FLOW_ENTRIES), entries.to_string())]
        .into_iter()
        .chain(queues.keys().map(set));
    let advice = step(
        "Let RFS pick the CPU where the flow is read",
        "RPS alone may process a packet on one CPU and read it on another",
    );
    Some(
        advice
            .command(format!(
                "{}; {flows}",
                sysctl(case, FLOW_ENTRIES, &entries.to_string())
            ))
            .undo(format!(
                "{}; {}",
                sysctl(case, FLOW_ENTRIES, &now.to_string()),
                back?
            ))
            .sets(changes),
    )
}
