//! Processes that compete with interrupts: which used CPU time in a run and own sockets, where they ran and where they
//! may.
//!
//! `/proc/PID/stat` of every process is read at the begin and at the end (17 µs each on 6.18: 35 ms for 2,000 processes),
//! and of the busiest at the end their threads, file descriptors and control group. All of it is bounded; a process that
//! is gone is passed over, and so are sockets of another network namespace than its first thread's.

mod busy;
mod cpuset;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::time::ClockId;

use crate::{
    model::topology::Process,
    proc::{
        Roots,
        cpus::{format_list, read_list},
        pid::{
            cgroup, ids,
            socket::{self, Socket},
            stat::{self, Stat},
            status,
        },
    },
};

/// Processes that are reported.
const KEPT: usize = 32;
/// Processes that are looked at for sockets, the busiest first.
const LOOKED_AT: usize = 128;
/// File descriptors that are looked at, all processes together. Sockets that listen have low numbers.
const DESCRIPTORS: usize = 1 << 16;
/// Threads that are read at the end, all processes together.
const THREADS: usize = 2048;
/// Threads that are read at the begin, when nobody knows yet which process will be busy: those of the processes that
/// have used most CPU time so far.
const THREADS_AT_BEGIN: usize = 1024;
/// Ports of one process.
const PORTS: usize = 64;

/// What every process had used at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Ticks since boot.
    at: u64,
    /// ns of a tick.
    tick_ns: u64,
    /// By id; no kernel threads.
    processes: BTreeMap<u32, Stat>,
    /// Threads of some, by process and thread id.
    threads: BTreeMap<u32, BTreeMap<u32, Stat>>,
}

impl Sample {
    /// Reads `/proc/PID/stat` of all processes but `own`.
    #[must_use]
    pub fn take(roots: &Roots, own: u32) -> Self {
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let proc = &roots.proc;
        let processes = ids(proc)
            .filter(|pid| *pid != own)
            .filter_map(|pid| Some((pid, stat::read(&proc.join(pid.to_string()))?)))
            .filter(|(_, stat)| !stat.kernel_thread)
            .collect();
        Self {
            at: ticks_since_boot(tick_ns),
            tick_ns,
            processes,
            threads: BTreeMap::new(),
        }
    }

    /// Adds the threads of the processes that have used most CPU time so far.
    #[must_use]
    pub fn with_threads(mut self, roots: &Roots) -> Self {
        let mut several: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, stat)| stat.threads > 1)
            .map(|(pid, stat)| (std::cmp::Reverse(stat.ticks), *pid))
            .collect();
        several.sort_unstable();
        let mut left = THREADS_AT_BEGIN;
        for (_, pid) in several {
            if left == 0 {
                break;
            }
            let threads = threads(&roots.proc.join(pid.to_string()), left);
            left = left.saturating_sub(threads.len());
            self.threads.insert(pid, threads);
        }
        self
    }
}

fn ticks_since_boot(tick_ns: u64) -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    let ns = part(now.tv_sec).saturating_mul(1_000_000_000) + part(now.tv_nsec);
    ns / tick_ns.max(1)
}

fn threads(dir: &Path, most: usize) -> BTreeMap<u32, Stat> {
    let task = dir.join("task");
    ids(&task)
        .take(most)
        .filter_map(|tid| Some((tid, stat::read(&task.join(tid.to_string()))?)))
        .collect()
}

/// Processes that used CPU time between `begin` and `end` and own sockets, the busiest first. What `end` does not
/// tell is read now.
#[must_use]
pub fn processes(roots: &Roots, begin: &Sample, end: &Sample) -> Vec<Process> {
    let mut reader = Reader {
        online: read_list(&roots.sys.join("devices/system/cpu/online")).unwrap_or_default(),
        roots,
        namespaces: BTreeMap::new(),
        descriptors: DESCRIPTORS,
        threads: THREADS,
    };
    let busiest = busy::busiest(begin, end).into_iter().take(LOOKED_AT);
    let found = busiest.filter_map(|(pid, ticks)| reader.process(pid, ticks, begin, end));
    found.take(KEPT).collect()
}

struct Reader<'a> {
    roots: &'a Roots,
    online: Vec<u32>,
    /// Sockets by inode number, by that of the network namespace.
    namespaces: BTreeMap<u64, BTreeMap<u64, Socket>>,
    descriptors: usize,
    threads: usize,
}

impl Reader<'_> {
    fn process(&mut self, pid: u32, ticks: u64, begin: &Sample, end: &Sample) -> Option<Process> {
        let stat = end.processes.get(&pid)?;
        let dir = self.roots.proc.join(pid.to_string());
        let sockets = self.sockets(&dir)?;
        let threads = self.threads(&dir, pid, stat);
        // The id was given out again while this was read.
        if stat::read(&dir)?.start != stat.start {
            return None;
        }
        let cpu_ns = ticks.saturating_mul(end.tick_ns);
        let allowed = status::allowed(&dir).unwrap_or_default();
        let of_threads = threads_allowed(&dir, &threads);
        let confined = cpuset::confining(
            &self.roots.sys.join("fs/cgroup"),
            &cgroup::read(&dir),
            &format_list(&self.online),
        );
        let (cpuset, confined_by) = confined.unzip();
        Some(Process {
            pid,
            name: stat.comm.clone(),
            cpu_ns,
            ran_on: busy::ran_on(pid, &threads, begin, cpu_ns, end.tick_ns),
            threads_allowed: union(&of_threads)
                .filter(|union| *union != allowed)
                .unwrap_or_default(),
            threads_differ: of_threads.iter().any(|one| *one != allowed),
            allowed,
            cpuset,
            confined_by,
            netns_inode: network(&dir),
            netns: None,
            ports: ports(&sockets),
            realtime: threads.values().any(|thread| thread.realtime),
        })
    }

    /// Sockets of the process that network traffic comes to; `None` if there are none.
    fn sockets(&mut self, dir: &Path) -> Option<BTreeSet<Socket>> {
        let (inodes, seen) = socket::inodes(dir, self.descriptors);
        self.descriptors -= seen;
        if inodes.is_empty() {
            return None;
        }
        let namespace = network(dir)?;
        let known = self
            .namespaces
            .entry(namespace)
            .or_insert_with(|| socket::of_namespace(dir));
        let sockets: BTreeSet<_> = inodes
            .iter()
            .filter_map(|i| known.get(i).copied())
            .collect();
        (!sockets.is_empty()).then_some(sockets)
    }

    fn threads(&mut self, dir: &Path, pid: u32, stat: &Stat) -> BTreeMap<u32, Stat> {
        if stat.threads <= 1 || self.threads == 0 {
            return BTreeMap::from([(pid, stat.clone())]);
        }
        let threads = threads(dir, self.threads);
        self.threads -= threads.len();
        threads
    }
}

/// Inode number of the network namespace of the process whose directory `dir` is.
fn network(dir: &Path) -> Option<u64> {
    Some(std::fs::metadata(dir.join("ns/net")).ok()?.ino())
}

/// CPUs that each thread may run on; empty for a process of one.
fn threads_allowed(dir: &Path, threads: &BTreeMap<u32, Stat>) -> BTreeSet<Vec<u32>> {
    if threads.len() <= 1 {
        return BTreeSet::new();
    }
    let task = dir.join("task");
    let of_threads = threads
        .keys()
        .filter_map(|tid| status::allowed(&task.join(tid.to_string())));
    of_threads.collect()
}

/// All CPUs in `sets`; `None` if there are no sets.
fn union(sets: &BTreeSet<Vec<u32>>) -> Option<Vec<u32>> {
    let all: BTreeSet<u32> = sets.iter().flatten().copied().collect();
    (!sets.is_empty()).then(|| all.into_iter().collect())
}

fn ports(sockets: &BTreeSet<Socket>) -> Vec<String> {
    let ports = sockets.iter().filter_map(|socket| socket.port());
    ports.take(PORTS).collect()
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Instant};

    use super::*;

    #[test]
    fn this_process_is_found_with_its_port_and_cpus() {
        let roots = Roots::default();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let begin = Sample::take(&roots, 0).with_threads(&roots);
        let now = Instant::now();
        // Some ticks.
        while now.elapsed().as_millis() < 300 {}
        let end = Sample::take(&roots, 0);
        let found = processes(&roots, &begin, &end);
        let own = std::process::id();
        let own = found.iter().find(|process| process.pid == own).unwrap();
        assert!(own.cpu_ns >= 50_000_000, "{own:?}");
        assert!(!own.ran_on.is_empty() && !own.allowed.is_empty(), "{own:?}");
        assert!(own.ports.contains(&format!("udp/{port}")), "{own:?}");
        assert!(!own.realtime);
        assert_eq!(own.netns_inode, network(&roots.proc.join("self")));
        assert!(own.netns_inode.is_some());
    }

    #[test]
    fn the_process_that_asks_can_be_left_out() {
        let own = std::process::id();
        let sample = Sample::take(&Roots::default(), own);
        assert!(!sample.processes.contains_key(&own));
        assert!(!sample.processes.contains_key(&2), "a kernel thread");
    }

    #[test]
    fn a_thread_with_fewer_cpus_than_the_others_is_seen() {
        let sets = BTreeSet::from([vec![0, 1], vec![1]]);
        assert_eq!(union(&sets), Some(vec![0, 1]));
        assert_eq!(union(&BTreeSet::new()), None);
    }

    #[test]
    fn ports_are_named_once_and_connections_not_at_all() {
        let sockets = [
            Socket::Other,
            Socket::Datagram(53),
            Socket::Listening(53),
            Socket::Listening(6379),
        ];
        assert_eq!(ports(&sockets.into()), ["tcp/53", "tcp/6379", "udp/53"]);
    }
}
