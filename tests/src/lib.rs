//! Harness and scenarios that need a live kernel and root: each scenario makes traffic whose outcome is
//! known, inside network namespaces of its own, runs `tracer` beside it, and compares what tracer says
//! with the kernel's own counters.
//!
//! The witness is [`kernel`], which shares no code with tracer. The same scenarios run on the build host
//! (`cargo test -p tracer-tests --test live`) and inside VMs.

pub mod backlog;
pub mod bench;
pub mod bpf;
pub mod disk;
pub mod findings;
pub mod flood;
pub mod guest;
pub mod kept;
pub mod kernel;
pub mod netns;
pub mod plan;
pub mod process;
pub mod scenario;
pub mod setting;
pub mod tcp;
pub mod tracer;
pub mod undo;
pub mod wait;
