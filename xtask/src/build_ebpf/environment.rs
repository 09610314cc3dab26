//! What a nested cargo inherits, and where programs are looked for.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Names that reach the nested cargo although they begin like those that do not: where crates come
/// from, how progress is shown, and how many jobs may run.
const KEPT: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// Beginnings of names that tell a cargo or rustc how to build something else.
const DROPPED: [&str; 10] = [
    "CARGO",
    "CLIPPY_",
    // Set by rustup and cargo for the compiler around us; another rustc may load the wrong libraries.
    "LD_LIBRARY_PATH",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

/// Removes from `command` the variables by which the cargo around us (build script, clippy,
/// rust-analyzer, `cargo run`) would change what a nested cargo builds.
pub fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if !name.to_str().is_some_and(is_inherited) {
            command.env_remove(name);
        }
    }
}

fn is_inherited(name: &str) -> bool {
    let begins = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
    begins(&KEPT) || !begins(&DROPPED)
}

/// Full path of `name` on PATH, or where `cargo install` puts it.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_home().map(|home| home.join("bin")))
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_outer_build_sets_does_not_reach_the_nested_cargo() {
        for name in [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_CFG_TARGET_ARCH",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_BPF_DEBUG",
            "CARGO_TARGET_DIR",
            "CLIPPY_ARGS",
            "LD_LIBRARY_PATH",
            "RUSTC",
            "RUSTC_LINKER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "TARGET",
        ] {
            assert!(!is_inherited(name), "{name}");
        }
    }

    #[test]
    fn registries_proxies_and_job_limits_reach_the_nested_cargo() {
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_MAKEFLAGS",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "HOME",
            "PATH",
            "RUSTUP_HOME",
            "SSL_CERT_FILE",
            "https_proxy",
        ] {
            assert!(is_inherited(name), "{name}");
        }
    }
}
