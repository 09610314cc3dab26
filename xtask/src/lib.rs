//! Building tracer's eBPF object, for tracer's build script and for `cargo xtask build-ebpf`; and what the tests in
//! VMs and `cargo xtask vm-test` share.

pub mod build_ebpf;
#[cfg(feature = "guest")]
pub mod guest;
