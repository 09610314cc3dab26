//! The guest's file system: an uncompressed cpio archive that the kernel unpacks into memory.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cpio::newc;
use xtask::guest::{TASK_FILE, Task};

use super::{kernels::Kernel, modules, tools::Tools};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// Programs of the guest that come from Debian; scenarios and the kernel start them by these names.
const PROGRAMS: &[&str] = &[
    "usr/bin/bash",
    "usr/bin/cat",
    "usr/bin/chrt",
    "usr/bin/dash",
    "usr/bin/head",
    "usr/bin/ip",
    "usr/bin/mawk",
    "usr/bin/nsenter",
    "usr/bin/ps",
    "usr/bin/redis-benchmark",
    "usr/bin/redis-cli",
    "usr/bin/redis-server",
    "usr/bin/setpriv",
    "usr/bin/taskset",
    "usr/sbin/irqbalance",
    "usr/sbin/modprobe",
    "usr/sbin/nft",
    "usr/sbin/sysctl",
    "usr/sbin/tc",
];
/// What those load by themselves: modprobe, when it meets a compressed module.
const LOADED_LATER: &[&str] = &["usr/lib/x86_64-linux-gnu/liblzma.so.5"];
/// Names of protocols, which nft wants to know.
const FILES: &[&str] = &["etc/protocols", "etc/services"];

/// The project's own programs, statically linked.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The first process, and the scenarios.
    pub guest: PathBuf,
    /// `tracer`.
    pub tracer: PathBuf,
}

/// Writes the archive for `kernel` to `path`.
pub fn write(
    path: &Path,
    kernel: &Kernel,
    tools: &Tools,
    binaries: &Binaries,
    task: &Task,
) -> Result<()> {
    let file =
        fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut archive = Archive::new(std::io::BufWriter::with_capacity(1 << 20, file));
    for directory in ["dev", "etc", "proc", "run", "sys", "tmp", "root"] {
        archive.directory(directory)?;
    }
    // Output before the first process has mounted anything goes here.
    archive.device("dev/console", 5, 1)?;
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("usr/bin/awk", "mawk"),
        ("usr/bin/sh", "dash"),
    ] {
        archive.link(link, target)?;
    }
    archive.copy("init", &binaries.guest, PROGRAM)?;
    archive.copy("usr/bin/tracer", &binaries.tracer, PROGRAM)?;
    archive.file(
        TASK_FILE.trim_start_matches('/'),
        &serde_json::to_vec(task)?,
        FILE,
    )?;

    let mut libraries: BTreeSet<String> =
        LOADED_LATER.iter().map(|&path| path.to_owned()).collect();
    for program in PROGRAMS {
        libraries.extend(tools.libraries(program)?);
        archive.copy(program, &tools.path(program), PROGRAM)?;
    }
    for library in &libraries {
        archive.copy(library, &tools.path(library), PROGRAM)?;
    }
    for file in FILES {
        archive.copy(file, &tools.path(file), FILE)?;
    }

    let from = kernel.modules();
    let to = format!("usr/lib/modules/{}", kernel.release);
    let dependencies = from.join("modules.dep");
    let dependencies = fs::read_to_string(&dependencies)
        .with_context(|| format!("cannot read {}", dependencies.display()))?;
    for module in modules::select(&dependencies) {
        archive.copy(&format!("{to}/{module}"), &from.join(&module), FILE)?;
    }
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("modules.") {
            archive.copy(&format!("{to}/{name}"), &entry.path(), FILE)?;
        }
    }
    archive.finish()
}

/// A cpio archive in the format `newc`, with every directory before what is in it.
struct Archive<W: Write> {
    to: W,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            inode: 0,
            directories: BTreeSet::new(),
        }
    }

    fn copy(&mut self, name: &str, from: &Path, mode: u32) -> Result<()> {
        let data = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(name, &data, mode)
    }

    fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.file(name, target.as_bytes(), LINK)
    }

    fn file(&mut self, name: &str, data: &[u8], mode: u32) -> Result<()> {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.directory(parent)?;
        }
        let entry = self.entry(name, mode);
        self.append(entry, data)
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        let entry = self
            .entry(name, CONSOLE)
            .rdev_major(major)
            .rdev_minor(minor);
        self.append(entry, &[])
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        if self.directories.contains(name) {
            return Ok(());
        }
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.directory(parent)?;
        }
        self.directories.insert(name.to_owned());
        let entry = self.entry(name, DIRECTORY);
        self.append(entry, &[])
    }

    fn entry(&mut self, name: &str, mode: u32) -> newc::Builder {
        self.inode += 1;
        newc::Builder::new(name).ino(self.inode).nlink(1).mode(mode)
    }

    fn append(&mut self, entry: newc::Builder, data: &[u8]) -> Result<()> {
        let size = u32::try_from(data.len()).context("a file of 4 GiB or more")?;
        let mut writer = entry.write(&mut self.to, size);
        writer.write_all(data)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        newc::trailer(&mut self.to)?;
        self.to.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_comes_once_and_before_what_is_in_it() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("usr/bin/a", b"a", PROGRAM).unwrap();
        archive.file("usr/bin/b", b"bb", FILE).unwrap();
        archive.link("bin", "usr/bin").unwrap();
        archive.finish().unwrap();
        let mut names = Vec::new();
        let mut rest = bytes.as_slice();
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("usr", DIRECTORY),
            ("usr/bin", DIRECTORY),
            ("usr/bin/a", PROGRAM),
            ("usr/bin/b", FILE),
            ("bin", LINK),
        ];
        let expected: Vec<_> = expected.map(|(name, mode)| (name.to_owned(), mode)).into();
        assert_eq!(names, expected);
    }
}
