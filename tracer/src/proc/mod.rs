//! The kernel's own counters: one file of /proc or one netlink dump a module. Parsers take text and
//! return data or an error that names the file and the line; they never panic and never guess.

pub mod interrupts;
pub mod netdev;
pub mod softirqs;
pub mod softnet;
