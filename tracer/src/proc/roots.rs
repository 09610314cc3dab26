//! Where the kernel's file systems are mounted.

use std::path::PathBuf;

/// Mount points that the readers start from; a test puts a made-up tree there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// procfs.
    pub proc: PathBuf,
    /// sysfs.
    pub sys: PathBuf,
    /// Run-time state; `ip netns` keeps its names in `netns` there.
    pub run: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            run: "/run".into(),
        }
    }
}
