//! Which compiler and linker can build for [`TARGET`], and the choice between them.

use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use super::{TARGET, environment};

/// Oldest Debian rustc that is used: the first whose `core` for the bpf target is packaged.
pub const MIN_RUSTC: (u32, u32) = (1, 96);
/// Debian's rustc by its full path: rustup's comes first on PATH.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const REMEDY: &str = "run `cargo xtask setup`";

/// How `core` for [`TARGET`] is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Debian's packages rustc-web and libstd-rust-web-dev-bpf bring it ready built.
    Debian,
    /// rustup's nightly builds it from component rust-src (`-Z build-std=core`).
    Nightly,
}

/// A compiler that can build for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// How it has `core`.
    pub way: Way,
    /// rustc itself, or rustup for [`Way::Nightly`].
    pub path: PathBuf,
    /// Name and version, for example `rustc 1.96.0`.
    pub version: String,
    /// Major version of its LLVM, if it tells.
    pub llvm: Option<u32>,
}

/// bpf-linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    /// Full path.
    pub path: PathBuf,
    /// Major version of the shared LLVM that it was linked with; `None` if linked statically.
    pub llvm: Option<u32>,
}

/// What this machine has for [`TARGET`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Usable compilers, the preferred first.
    pub compilers: Vec<Compiler>,
    /// bpf-linker, if found and able to start.
    pub linker: Option<Linker>,
}

/// A compiler and a linker that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Compiler.
    pub compiler: Compiler,
    /// Linker.
    pub linker: Linker,
}

impl Facts {
    /// Looks at this machine. Debian's compiler comes first: its LLVM is the one bpf-linker is built with
    /// here, while nightly's moves on.
    #[must_use]
    pub fn gather() -> Self {
        Self {
            compilers: [debian(), nightly()].into_iter().flatten().collect(),
            linker: linker(),
        }
    }

    /// The first compiler whose bitcode the linker can read; the error is one line with the remedy.
    pub fn choose(self) -> Result<Toolchain> {
        let Self { compilers, linker } = self;
        let Some(newest) = compilers.first().cloned() else {
            bail!(
                "cannot build the eBPF programs: no Rust compiler with `core` for {TARGET} \
                 (neither {DEBIAN_RUSTC} >= {}.{} with libstd-rust-web-dev-bpf, nor rustup's nightly with rust-src); {REMEDY}",
                MIN_RUSTC.0,
                MIN_RUSTC.1,
            );
        };
        let Some(linker) = linker else {
            bail!(
                "cannot build the eBPF programs: no bpf-linker on PATH or in ~/.cargo/bin, or it does not start; {REMEDY}"
            );
        };
        match compilers
            .into_iter()
            .find(|compiler| reads(&linker, compiler))
        {
            Some(compiler) => Ok(Toolchain { compiler, linker }),
            None => bail!(
                "cannot build the eBPF programs: {} was built with LLVM {}, older than LLVM {} of {}; {REMEDY}",
                linker.path.display(),
                linker.llvm.unwrap_or_default(),
                newest.llvm.unwrap_or_default(),
                newest.version,
            ),
        }
    }
}

/// LLVM reads bitcode of its own and older versions. Where a version is not known, the link decides.
fn reads(linker: &Linker, compiler: &Compiler) -> bool {
    linker
        .llvm
        .zip(compiler.llvm)
        .is_none_or(|(linker, compiler)| linker >= compiler)
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.compiler.way {
            Way::Debian => "Debian's compiler and `core`",
            Way::Nightly => "rustup's nightly, `core` from rust-src",
        };
        write!(
            f,
            "{} ({way}) and {}",
            self.compiler.version,
            self.linker.path.display()
        )
    }
}

fn debian() -> Option<Compiler> {
    let mut rustc = Command::new(DEBIAN_RUSTC);
    let verbose = output(rustc.args(["--version", "--verbose"]))?;
    if version(&verbose)? < MIN_RUSTC {
        return None;
    }
    let mut rustc = Command::new(DEBIAN_RUSTC);
    let libraries = output(rustc.args(["--print", "target-libdir", "--target", TARGET]))?;
    let has_core = fs::read_dir(libraries.trim())
        .ok()?
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"));
    has_core.then(|| compiler(Way::Debian, DEBIAN_RUSTC.into(), &verbose))
}

fn nightly() -> Option<Compiler> {
    let rustup = environment::find_program("rustup")?;
    let run = |args: &[&str]| {
        output(
            Command::new(&rustup)
                .args(["run", "nightly", "rustc"])
                .args(args)
                // To look must not download.
                .env("RUSTUP_AUTO_INSTALL", "0"),
        )
    };
    let sysroot = run(&["--print", "sysroot"])?;
    if !Path::new(sysroot.trim())
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .exists()
    {
        return None;
    }
    let verbose = run(&["--version", "--verbose"])?;
    Some(compiler(Way::Nightly, rustup.clone(), &verbose))
}

fn compiler(way: Way, path: PathBuf, verbose: &str) -> Compiler {
    Compiler {
        way,
        path,
        version: short(verbose),
        llvm: llvm(verbose),
    }
}

fn linker() -> Option<Linker> {
    let path = environment::find_program("bpf-linker")?;
    // It fails to start when the LLVM that it was linked with is gone.
    output(Command::new(&path).arg("--version"))?;
    // The name of a shared library that a program needs stands near its beginning.
    let mut head = Vec::new();
    fs::File::open(&path)
        .ok()?
        .take(1 << 20)
        .read_to_end(&mut head)
        .ok()?;
    let llvm = shared_llvm(&head);
    Some(Linker { path, llvm })
}

/// Standard output, if the program is there and succeeds.
fn output(command: &mut Command) -> Option<String> {
    environment::clean(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Major and minor of `release: 1.96.0-nightly`.
fn version(verbose: &str) -> Option<(u32, u32)> {
    let mut parts = field(verbose, "release: ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The first two words of `rustc 1.96.0 (ac68faa20 2026-05-25)`.
fn short(verbose: &str) -> String {
    verbose
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Major of `LLVM version: 22.1.8`.
fn llvm(verbose: &str) -> Option<u32> {
    field(verbose, "LLVM version: ")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

fn field<'a>(verbose: &'a str, name: &str) -> Option<&'a str> {
    verbose.lines().find_map(|line| line.strip_prefix(name))
}

/// Major version in `libLLVM.so.22.1` or `libLLVM-19.so.1`.
fn shared_llvm(program: &[u8]) -> Option<u32> {
    ["libLLVM.so.", "libLLVM-"].iter().find_map(|prefix| {
        let begin = program
            .windows(prefix.len())
            .position(|window| window == prefix.as_bytes())?
            + prefix.len();
        let digits = program[begin..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        str::from_utf8(&program[begin..begin + digits])
            .ok()?
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                           host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    fn compiler_with(way: Way, llvm: u32) -> Compiler {
        Compiler {
            way,
            path: "/x/rustc".into(),
            version: format!("rustc with {llvm}"),
            llvm: Some(llvm),
        }
    }

    fn linker_with(llvm: Option<u32>) -> Linker {
        Linker {
            path: "/x/bpf-linker".into(),
            llvm,
        }
    }

    #[test]
    fn the_version_of_a_compiler_and_its_llvm_are_read_from_its_own_words() {
        assert_eq!(version(VERBOSE), Some((1, 96)));
        assert_eq!(llvm(VERBOSE), Some(22));
        assert_eq!(short(VERBOSE), "rustc 1.96.0");
        assert_eq!(version("release: 1.97.0-nightly"), Some((1, 97)));
        assert_eq!(version("rustc 1.63.0"), None);
    }

    #[test]
    fn the_llvm_of_a_linker_is_read_from_the_library_it_needs() {
        assert_eq!(shared_llvm(b"\0libc.so.6\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(shared_llvm(b"\0libLLVM-19.so.1\0"), Some(19));
        assert_eq!(shared_llvm(b"\0libc.so.6\0libLLVM.so."), None);
    }

    #[test]
    fn debian_is_preferred_to_nightly() {
        let facts = Facts {
            compilers: vec![
                compiler_with(Way::Debian, 22),
                compiler_with(Way::Nightly, 22),
            ],
            linker: Some(linker_with(Some(22))),
        };
        assert_eq!(facts.choose().unwrap().compiler.way, Way::Debian);
    }

    #[test]
    fn a_compiler_with_a_newer_llvm_than_the_linker_is_passed_over() {
        let facts = Facts {
            compilers: vec![
                compiler_with(Way::Debian, 23),
                compiler_with(Way::Nightly, 22),
            ],
            linker: Some(linker_with(Some(22))),
        };
        assert_eq!(facts.choose().unwrap().compiler.way, Way::Nightly);
    }

    #[test]
    fn a_linker_that_does_not_tell_its_llvm_is_tried() {
        let facts = Facts {
            compilers: vec![compiler_with(Way::Debian, 22)],
            linker: Some(linker_with(None)),
        };
        assert!(facts.choose().is_ok());
    }

    #[test]
    fn whatever_is_missing_the_error_is_one_line_that_names_the_remedy() {
        let compilers = vec![compiler_with(Way::Debian, 22)];
        for facts in [
            Facts::default(),
            Facts {
                compilers: compilers.clone(),
                linker: None,
            },
            Facts {
                compilers,
                linker: Some(linker_with(Some(19))),
            },
        ] {
            let error = format!("{:#}", facts.choose().unwrap_err());
            assert!(error.ends_with("run `cargo xtask setup`"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
