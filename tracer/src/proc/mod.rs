//! The kernel's own counters: one file of /proc or one netlink dump a module. Parsers take text and
//! return data or an error that names the file and the line; they never panic and never guess.

pub mod cpus;
pub mod driver_stats;
pub mod error;
pub mod ethtool;
pub mod genetlink;
pub mod interrupts;
pub mod netdev;
pub mod netlink;
pub mod netns;
pub mod pid;
pub mod queues;
pub mod roots;
pub mod snmp;
pub mod softirqs;
pub mod softnet;
pub mod stat;
pub mod sysctl;

pub use error::{ParseError, ProcError};
pub use roots::Roots;
