//! CPUs that the threads of a process may run on: /proc/PID/task/TID/status and `sched_setaffinity`.

use std::{collections::BTreeSet, fmt::Write as _, io, path::Path};

use rustix::thread::{CpuSet, Pid, sched_setaffinity};

use crate::{
    model::setting::threads,
    proc::{
        cpus::format_list,
        pid::{ids, stat, status},
    },
};

/// Times that new threads are looked for: one that is made meanwhile inherits from a thread not yet moved.
const PASSES: usize = 16;

/// `LIST` for a single thread, else `LIST TID=LIST …`. `None` if there is no such process any more.
pub(super) fn read(proc: &Path, pid: u32, name: &str, start: Option<u64>) -> Option<String> {
    let dir = proc.join(pid.to_string());
    check(&dir, name, start)?;
    let mut text = format_list(&status::allowed(&dir)?);
    let task = dir.join("task");
    let tids: BTreeSet<u32> = ids(&task).collect();
    if tids.len() > 1 {
        for tid in tids {
            if let Some(cpus) = status::allowed(&task.join(tid.to_string())) {
                let _ = write!(text, " {tid}={}", format_list(&cpus));
            }
        }
    }
    Some(text)
}

/// When the process started, ticks since boot; `None` if another one has its id by now.
pub(super) fn start(proc: &Path, pid: u32, name: &str) -> Option<u64> {
    let stat = stat::read(&proc.join(pid.to_string()))?;
    (stat.comm == name).then_some(stat.start)
}

/// It may change its name; without a start there is only that to know it by.
fn check(dir: &Path, name: &str, start: Option<u64>) -> Option<()> {
    let now = stat::read(dir)?;
    let is_it = start.map_or(now.comm == name, |start| now.start == start);
    is_it.then_some(())
}

/// Moves every thread; those that end meanwhile are passed over.
pub(super) fn write(
    proc: &Path,
    pid: u32,
    name: &str,
    start: Option<u64>,
    value: &str,
) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let dir = proc.join(pid.to_string());
    check(&dir, name, start).ok_or_else(gone)?;
    let wanted = threads(value).ok_or(io::ErrorKind::InvalidInput)?;
    let mut moved = BTreeSet::new();
    for _ in 0..PASSES {
        let tids: Vec<u32> = ids(&dir.join("task")).collect();
        let new: Vec<u32> = tids
            .into_iter()
            .filter(|tid| !moved.contains(tid))
            .collect();
        if new.is_empty() {
            break;
        }
        for tid in new {
            if let Some(cpus) = wanted.get(&Some(tid)).or_else(|| wanted.get(&None)) {
                set(tid, cpus)?;
            }
            moved.insert(tid);
        }
    }
    if moved.is_empty() {
        return Err(gone());
    }
    Ok(())
}

fn set(tid: u32, cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        let cpu = usize::try_from(*cpu).unwrap_or(usize::MAX);
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::Error::other(format!("CPU {cpu} is beyond 1,023")));
        }
        set.set(cpu);
    }
    let tid = i32::try_from(tid).ok().and_then(Pid::from_raw);
    match sched_setaffinity(Some(tid.ok_or(io::ErrorKind::InvalidInput)?), &set) {
        Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_with_its_id_is_not_it() {
        let (proc, pid) = (Path::new("/proc"), std::process::id());
        let name = stat::read(&proc.join(pid.to_string())).unwrap().comm;
        let start = start(proc, pid, &name);
        assert!(start.is_some() && super::start(proc, pid, "redis-server").is_none());
        assert!(read(proc, pid, &name, start).is_some());
        assert!(read(proc, pid, "redis-server", None).is_none());
        assert!(read(proc, pid, &name, start.map(|ticks| ticks + 1)).is_none());
        let moved = write(proc, pid, "redis-server", None, "0");
        assert_eq!(moved.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
