//! Where and why a Linux host drops packets: probes, the kernel's own counters, and what follows from both.

pub mod analyze;
pub mod bpf;
pub mod cli;
pub mod doctor;
pub mod explain;
pub mod host;
pub mod kernel;
pub mod live;
pub mod model;
pub mod proc;
pub mod record;
pub mod report;
#[cfg(any(test, feature = "synthetic"))]
pub mod synthetic;
pub mod sys;
pub mod topology;
pub mod tune;
