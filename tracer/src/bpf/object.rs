//! The embedded object: sized for this host, its `LAYOUT` filled in, parsed by aya.

use anyhow::{Context as _, Result};
use aya::{Ebpf, EbpfLoader};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracer_common::{
    counter::{DropCounters, DropKey},
    layout::{Layout, Settings},
};

/// Copies the object so that its ELF headers are aligned for the parser.
macro_rules! embedded {
    ($name:literal) => {
        aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

static OBJECT: &[u8] = embedded!("tracer-ebpf");
/// The same with log lines; loaded for `-vv` only.
static OBJECT_WITH_LOG: &[u8] = embedded!("tracer-ebpf-log");

/// Marks a type of tracer-common as plain data for aya.
macro_rules! pod {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy)]
        pub(super) struct $name(pub(super) $inner);
        // SAFETY: the inner type is `repr(C)`, holds integers only and has no padding.
        unsafe impl aya::Pod for $name {}
    };
}

pod!(/// [`Layout`] for aya.
    PodLayout(Layout));
pod!(/// [`Settings`] for aya.
    PodSettings(Settings));
pod!(/// [`DropKey`] for aya.
    PodDropKey(DropKey));
pod!(/// [`DropCounters`] for aya.
    PodDropCounters(DropCounters));

/// Whether programs may read kernel memory by address: the kernel refuses the helper under
/// lockdown=confidentiality. /sys/kernel/security tells, too, but is not mounted everywhere: not in `ip netns exec`.
#[must_use]
pub fn may_read_kernel_memory() -> bool {
    aya::features().bpf_probe_read_kernel()
}

/// A loader that sizes the maps for this host.
pub(super) fn loader<'a>(layout: &Layout, ring_bytes: u32, drop_sites: u32) -> EbpfLoader<'a> {
    let mut loader = loader_without_btf();
    loader
        .map_max_entries("CPUS", layout.cpus)
        .map_max_entries("IRQS", layout.cpus * layout.irqs)
        .map_max_entries("DROPS", drop_sites)
        .map_max_entries("EVENTS", ring_bytes);
    loader
}

/// aya's loader begins with parsing the kernel's whole BTF, for relocations: a third of all that a start costs, and the
/// object has none. It does without if it cannot open the file, and nothing but the limit of open files keeps it from that.
/// No other thread is there yet that would miss a file.
fn loader_without_btf<'a>() -> EbpfLoader<'a> {
    // aya looks at these once, and remembers what it could not open.
    aya::features();
    let lowered = NoFiles::begin();
    let mut loader = EbpfLoader::new();
    drop(lowered);
    loader.btf(None);
    loader
}

/// No file can be opened while it lives.
struct NoFiles(Rlimit);

impl NoFiles {
    /// `None` if the limit cannot be lowered: then files can be opened.
    fn begin() -> Option<Self> {
        let limit = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(0),
            ..limit
        };
        setrlimit(Resource::Nofile, none).ok().map(|()| Self(limit))
    }
}

impl Drop for NoFiles {
    fn drop(&mut self) {
        // It is raised to what it was, within the hard limit: that is always allowed.
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

/// Creates the maps and prepares the programs; nothing is attached.
pub(super) fn load<'a>(
    loader: &mut EbpfLoader<'a>,
    layout: &'a PodLayout,
    log: bool,
) -> Result<Ebpf> {
    loader
        .override_global("LAYOUT", layout, true)
        .load(if log { OBJECT_WITH_LOG } else { OBJECT })
        .context("cannot load the eBPF object")
}
