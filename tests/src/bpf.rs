//! Which BPF programs and maps exist, and which of them belong to one process.
//!
//! Ids, not numbers of objects: another BPF user on the host does not disturb a scenario.

use std::{collections::BTreeSet, error::Error, fs, io, time::Duration};

use anyhow::{Context, Result};
use aya::programs::ProgramInfo;

use crate::wait;

/// Ids of programs and maps. The kernel counts them up and does not use one again soon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
}

impl Objects {
    /// Everything loaded into this kernel.
    pub fn loaded() -> Result<Self> {
        let mut objects = Self::default();
        for program in programs() {
            objects.programs.insert(program?.id());
        }
        for map in aya::maps::loaded_maps().filter(still_there) {
            objects.maps.insert(map.context("cannot list maps")?.id());
        }
        Ok(objects)
    }

    /// What process `pid` holds: by its descriptors (programs, maps, and links' programs), and the maps that its
    /// programs use without a descriptor.
    pub fn of_process(pid: u32) -> Result<Self> {
        let mut objects = Self::default();
        let path = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&path).with_context(|| format!("cannot list {path}"))? {
            // A descriptor may be closed between listing and reading.
            let Ok(info) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            objects.programs.extend(field(&info, "prog_id:"));
            objects.maps.extend(field(&info, "map_id:"));
        }
        for program in programs() {
            let program = program?;
            if objects.programs.contains(&program.id())
                && let Ok(Some(maps)) = program.map_ids()
            {
                objects.maps.extend(maps);
            }
        }
        Ok(objects)
    }

    /// Waits until the kernel has freed all of them: it does so after a grace period, from a work queue.
    ///
    /// Fails after two seconds.
    pub fn wait_until_freed(&self) -> Result<()> {
        let mut remaining = self.clone();
        wait::until("freed", Duration::from_secs(2), || {
            remaining = self.intersection(&Self::loaded()?);
            Ok(remaining.is_empty().then_some(()))
        })
        .with_context(|| format!("{remaining:?} remain"))
    }

    /// Those of `self` that `other` has, too.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            programs: self
                .programs
                .intersection(&other.programs)
                .copied()
                .collect(),
            maps: self.maps.intersection(&other.maps).copied().collect(),
        }
    }

    /// Adds the objects of `other`.
    pub fn extend(&mut self, other: Self) {
        self.programs.extend(other.programs);
        self.maps.extend(other.maps);
    }

    /// Neither program nor map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty()
    }
}

/// All programs of this kernel.
pub fn programs() -> impl Iterator<Item = Result<ProgramInfo>> {
    aya::programs::loaded_programs()
        .filter(still_there)
        .map(|program| program.context("cannot list programs"))
}

/// Whether this is not the error of an object that went away between being listed and being looked at, as those do
/// that a starting tracer only asks the kernel's abilities with.
fn still_there<T, E: Error + 'static>(result: &Result<T, E>) -> bool {
    let Err(error) = result else { return true };
    let mut error: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = error {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.kind() != io::ErrorKind::NotFound;
        }
        error = cause.source();
    }
    true
}

fn field(info: &str, name: &str) -> Option<u32> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
