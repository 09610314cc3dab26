//! /proc/softirqs: `show_softirqs` in fs/proc/softirqs.c.

use std::collections::BTreeMap;

/// Raised and run softirqs by vector name (`NET_RX`), then CPU id; possible CPUs. u32 in the kernel: wraps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Softirqs {
    /// Runs by vector name, then CPU id.
    pub runs: BTreeMap<String, BTreeMap<u32, u32>>,
}
