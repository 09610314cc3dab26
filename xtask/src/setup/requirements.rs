//! The one table of what the tasks need besides Rust, and why.

use clap::ValueEnum;

/// What the machine is set up for. A later one includes what [`Purpose::Run`] needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// Build and run tracer.
    Run,
    /// Run all tests.
    Test,
    /// Build the distributable binary.
    Dist,
    /// Measure what tracer costs.
    Bench,
}

/// When a requirement counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// To compile anything.
    Always,
    /// While there is no usable compiler for the eBPF target.
    NoCompiler,
    /// While there is no usable bpf-linker: what it is built from.
    NoLinker,
    /// For the tests.
    Test,
    /// For the benchmark, which is one of the tests too.
    Bench,
}

/// How a requirement is installed, and so how it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Debian package.
    Apt,
    /// A crate with a binary of the same name, in exactly this version, with these further arguments of `cargo install`.
    Cargo {
        /// Version.
        version: &'static str,
        /// Further arguments.
        args: &'static [&'static str],
    },
    /// A component of the Rust toolchain in use.
    Component {
        /// Its program in the toolchain's `bin`.
        program: &'static str,
    },
}

/// Something that has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Name of the package, crate or component.
    pub name: &'static str,
    /// Where it comes from.
    pub kind: Kind,
    /// When it is needed.
    pub when: When,
    /// What for.
    pub why: &'static str,
}

const fn apt(name: &'static str, when: When, why: &'static str) -> Requirement {
    Requirement {
        name,
        kind: Kind::Apt,
        when,
        why,
    }
}

/// Where Debian puts the LLVM that bpf-linker is built with: not older than that of rustc-web.
pub const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// By this variable llvm-sys, the binding that bpf-linker uses, finds it.
pub const LLVM_PREFIX_VARIABLE: &str = "LLVM_SYS_221_PREFIX";

/// Everything.
pub const REQUIREMENTS: [Requirement; 21] = [
    apt("gcc", When::Always, "links what rustc compiles"),
    apt(
        "libc6-dev",
        When::Always,
        "the C library that it links, for `dist` the static one",
    ),
    apt(
        "rustc-web",
        When::NoCompiler,
        "Rust >= 1.96 from Debian's security suite, for the eBPF programs",
    ),
    apt(
        "libstd-rust-web-dev-bpf",
        When::NoCompiler,
        "`core` for the bpf target, which rustup's stable lacks",
    ),
    apt("g++", When::NoLinker, "the C++ library that LLVM links"),
    apt(
        "llvm-22-dev",
        When::NoLinker,
        "LLVM, which bpf-linker is built on; not older than rustc-web's",
    ),
    apt("libpolly-22-dev", When::NoLinker, "part of that LLVM"),
    apt("zlib1g-dev", When::NoLinker, "needed by that LLVM"),
    apt("libzstd-dev", When::NoLinker, "needed by that LLVM"),
    apt("pkg-config", When::NoLinker, "finds the libraries above"),
    Requirement {
        name: "bpf-linker",
        // The default features want LLVM 23.
        kind: Kind::Cargo {
            version: "0.13.0",
            args: &["--no-default-features", "--features", "llvm-22"],
        },
        when: When::NoLinker,
        why: "links the eBPF object and writes its BTF",
    },
    apt(
        "iproute2",
        When::Bench,
        "network namespaces, veth pairs and filters of the live tests",
    ),
    apt(
        "nftables",
        When::Test,
        "the netfilter drop of the live tests",
    ),
    apt(
        "iptables",
        When::Test,
        "the same, where the kernel has no nf_tables",
    ),
    apt(
        "bpftrace",
        When::Bench,
        "the second opinion on the counts, and what tracer's cost is compared with",
    ),
    apt("linux-perf", When::Bench, "the same"),
    apt(
        "libbpf-tools",
        When::Bench,
        "hardirqs and softirqs, what tracer's cost is compared with",
    ),
    apt(
        "debian-archive-keyring",
        When::Test,
        "checks the signatures of the kernels and of QEMU, which are unpacked only",
    ),
    Requirement {
        name: "cargo-deny",
        kind: Kind::Cargo {
            version: "0.20.2",
            args: &[],
        },
        when: When::Test,
        why: "licences, sources and advisories of the dependencies",
    },
    Requirement {
        name: "rustfmt",
        kind: Kind::Component {
            program: "cargo-fmt",
        },
        when: When::Test,
        why: "the format step",
    },
    Requirement {
        name: "clippy",
        kind: Kind::Component {
            program: "cargo-clippy",
        },
        when: When::Test,
        why: "the clippy steps",
    },
];

/// What of the eBPF toolchain is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// A compiler for the eBPF target, Debian's or nightly.
    pub compiler: bool,
    /// A bpf-linker that can read what it emits.
    pub linker: bool,
}

/// What `purpose` needs on a machine that has `have`.
pub fn needed(purpose: Purpose, have: Have) -> impl Iterator<Item = &'static Requirement> {
    REQUIREMENTS
        .iter()
        .filter(move |requirement| match requirement.when {
            When::Always => true,
            When::NoCompiler => !have.compiler,
            When::NoLinker => !have.linker,
            When::Test => purpose == Purpose::Test,
            When::Bench => matches!(purpose, Purpose::Test | Purpose::Bench),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Have = Have {
        compiler: true,
        linker: true,
    };

    fn names(purpose: Purpose, have: Have) -> Vec<&'static str> {
        needed(purpose, have)
            .map(|requirement| requirement.name)
            .collect()
    }

    #[test]
    fn the_table_names_each_thing_once_with_a_reason() {
        let mut names: Vec<_> = REQUIREMENTS
            .iter()
            .map(|requirement| requirement.name)
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), REQUIREMENTS.len());
        assert!(
            REQUIREMENTS
                .iter()
                .all(|requirement| !requirement.why.is_empty())
        );
    }

    #[test]
    fn with_an_ebpf_toolchain_running_needs_only_what_links() {
        assert_eq!(names(Purpose::Run, ALL), ["gcc", "libc6-dev"]);
    }

    #[test]
    fn the_packages_that_bpf_linker_is_built_from_are_needed_only_while_it_is_missing() {
        let without = names(
            Purpose::Run,
            Have {
                linker: false,
                ..ALL
            },
        );
        assert!(without.contains(&"llvm-22-dev") && without.contains(&"bpf-linker"));
        assert!(!without.contains(&"rustc-web"));
        assert!(!names(Purpose::Test, ALL).contains(&"llvm-22-dev"));
    }

    #[test]
    fn only_testing_needs_the_tools_of_the_tests() {
        assert!(names(Purpose::Test, ALL).contains(&"bpftrace"));
        assert!(!names(Purpose::Dist, ALL).contains(&"bpftrace"));
    }
}
