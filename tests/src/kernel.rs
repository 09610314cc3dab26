//! The kernel's own counters, read by a few lines of parsing that tracer has no part in: a witness must not
//! make the same mistake as the one it testifies about.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, anyhow};

use crate::netns::Netns;

/// One row of `/proc/net/softnet_stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softnet {
    /// Column 2: packets this CPU's backlog refused.
    pub dropped: u32,
    /// Column 3: `NET_RX` runs that ended at `netdev_budget` or `netdev_budget_usecs`.
    pub time_squeeze: u32,
    /// Column 11: packets the RPS flow limit refused.
    pub flow_limit: u32,
}

/// `/proc/net/softnet_stat` by CPU id.
pub fn softnet() -> Result<BTreeMap<u32, Softnet>> {
    let mut rows = BTreeMap::new();
    for (line, text) in (0..).zip(read("/proc/net/softnet_stat")?.lines()) {
        let columns: Vec<u32> = text
            .split_ascii_whitespace()
            .map(|column| u32::from_str_radix(column, 16))
            .collect::<Result<_, _>>()
            .with_context(|| format!("softnet_stat: {text}"))?;
        let column = |number: usize| columns.get(number - 1).copied();
        let row = Softnet {
            dropped: column(2).unwrap_or(0),
            time_squeeze: column(3).unwrap_or(0),
            flow_limit: column(11).unwrap_or(0),
        };
        rows.insert(column(13).unwrap_or(line), row);
    }
    Ok(rows)
}

/// /proc/interrupts, the numbered rows, by IRQ number and CPU id.
pub fn interrupts() -> Result<BTreeMap<(u32, u32), u64>> {
    let text = read("/proc/interrupts")?;
    let mut lines = text.lines();
    let cpus = cpu_columns(lines.next().unwrap_or_default())?;
    let mut counts = BTreeMap::new();
    for line in lines {
        let Some((Ok(irq), rest)) = line
            .split_once(':')
            .map(|(name, rest)| (name.trim().parse(), rest))
        else {
            continue;
        };
        for (cpu, count) in cpus.iter().zip(rest.split_ascii_whitespace()) {
            counts.insert(
                (irq, *cpu),
                count
                    .parse()
                    .with_context(|| format!("interrupts: {line}"))?,
            );
        }
    }
    Ok(counts)
}

/// One vector of /proc/softirqs by CPU id.
pub fn softirqs(vector: &str) -> Result<BTreeMap<u32, u64>> {
    let text = read("/proc/softirqs")?;
    let cpus = cpu_columns(text.lines().next().unwrap_or_default())?;
    let row = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(vector)?.strip_prefix(':'))
        .ok_or_else(|| anyhow!("softirqs: no {vector}"))?;
    let counts = row
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(cpus.into_iter().zip(counts).collect())
}

fn cpu_columns(header: &str) -> Result<Vec<u32>> {
    header
        .split_ascii_whitespace()
        .map(|name| {
            name.strip_prefix("CPU")
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| anyhow!("no CPU: {name}"))
        })
        .collect()
}

/// What each counter of `after` gained since `before`; u32 counters may have wrapped once.
#[must_use]
pub fn gained<K: Ord + Copy>(
    before: &BTreeMap<K, u64>,
    after: &BTreeMap<K, u64>,
) -> BTreeMap<K, u64> {
    let wrap = 1 << 32;
    after
        .iter()
        .map(|(key, now)| {
            let was = before.get(key).copied().unwrap_or(0);
            (
                *key,
                if *now >= was {
                    now - was
                } else {
                    now + wrap - was
                },
            )
        })
        .collect()
}

/// A counter of /proc/net/snmp in a namespace, for example `Udp`, `RcvbufErrors`.
pub fn snmp(netns: &Netns, protocol: &str, counter: &str) -> Result<u64> {
    named_counter(netns, "snmp", protocol, counter)
}

/// A counter of /proc/net/netstat in a namespace, for example `TcpExt`, `TCPOFOMerge`.
pub fn netstat(netns: &Netns, protocol: &str, counter: &str) -> Result<u64> {
    named_counter(netns, "netstat", protocol, counter)
}

/// A row of names, then a row of values, both beginning with the protocol.
fn named_counter(netns: &Netns, file: &str, protocol: &str, counter: &str) -> Result<u64> {
    let text = netns.run(|| read(&format!("/proc/thread-self/net/{file}")))??;
    let mut rows = text
        .lines()
        .filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'));
    let (names, values) = (
        rows.next().unwrap_or_default(),
        rows.next().unwrap_or_default(),
    );
    let value = names
        .split_ascii_whitespace()
        .zip(values.split_ascii_whitespace())
        .find(|(name, _)| *name == counter);
    let (_, value) = value.ok_or_else(|| anyhow!("{file}: no {protocol} {counter}"))?;
    Ok(value.parse()?)
}

/// `reason`, if this kernel has a drop reason of that name (`enum skb_drop_reason`, 5.17); `None` if a drop has only a
/// site here.
pub fn drop_reason(reason: &str) -> Result<Option<&str>> {
    let path = "/sys/kernel/btf/vmlinux";
    let names = fs::read(path).with_context(|| format!("cannot read {path}"))?;
    let name = format!("SKB_DROP_REASON_{reason}");
    let mut names = names.split(|byte| *byte == 0);
    Ok(names
        .any(|known| known == name.as_bytes())
        .then_some(reason))
}

/// A file of /sys/class/net/DEVICE/statistics in a namespace, for example `rx_dropped`.
pub fn device_statistic(netns: &Netns, device: &str, name: &str) -> Result<u64> {
    let text = netns.run(|| read(&format!("/sys/class/net/{device}/statistics/{name}")))??;
    Ok(text.trim().parse()?)
}

/// Resident memory of a process, KiB; `VmRSS` of /proc/PID/status.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .ok_or_else(|| anyhow!("no VmRSS"))?;
    Ok(value.parse()?)
}

/// User and system time of a process since it began, clock ticks; fields 14 and 15 of /proc/PID/stat.
pub fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat
        .rsplit_once(')')
        .ok_or_else(|| anyhow!("stat: {stat}"))?;
    let mut fields = fields
        .split_ascii_whitespace()
        .skip(11)
        .map(str::parse::<u64>);
    let mut next = || fields.next().ok_or_else(|| anyhow!("stat: {stat}"));
    Ok(next()?? + next()??)
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path)
        .with_context(|| format!("cannot list {path}"))?
        .count())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
