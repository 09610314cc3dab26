//! /proc/PID: one file of it a module. A process may be gone at any moment; that is no error, but `None`.

pub mod cgroup;
pub mod socket;
pub mod stat;
pub mod status;

use std::path::Path;

/// Ids of all processes, or of the threads of one (`<proc>/PID/task`), that `dir` shows; in no order.
pub fn ids(dir: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| super::cpus::number(entry.file_name().to_str()?))
}
