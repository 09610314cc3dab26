//! Building tracer's eBPF object, for tracer's build script and for `cargo xtask build-ebpf`.

pub mod build_ebpf;
