//! The kernels of the matrix, and those of the user's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    apt::{self, Release},
    tools::Tools,
};
use crate::command;

/// A kernel that can be fetched from Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What `--kernel` calls it.
    pub name: &'static str,
    /// Debian release.
    suite: &'static str,
    /// Depends on the current image of the release.
    meta: &'static str,
    /// Part of `--kernel all`.
    pub in_all: bool,
}

const fn known(name: &'static str, suite: &'static str, meta: &'static str, in_all: bool) -> Known {
    Known {
        name,
        suite,
        meta,
        in_all,
    }
}

/// All, oldest first. The full flavours have the `igb` driver, the small `-cloud` ones only virtio.
pub const KNOWN: [Known; 9] = [
    known("5.10", "bullseye", "linux-image-amd64", true),
    known("6.1", "bookworm", "linux-image-amd64", true),
    known("6.12", "trixie", "linux-image-amd64", true),
    known("7.2", "sid", "linux-image-amd64", true),
    known("5.10-cloud", "bullseye", "linux-image-cloud-amd64", false),
    known("6.1-cloud", "bookworm", "linux-image-cloud-amd64", false),
    known("6.12-cloud", "trixie", "linux-image-cloud-amd64", false),
    known("7.2-cloud", "sid", "linux-image-cloud-amd64", false),
    known("6.12-rt", "trixie", "linux-image-rt-amd64", false),
];

/// A kernel to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What the report calls it.
    pub name: String,
    /// As `uname -r` will say.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Has `lib/modules/RELEASE`, with what depmod writes.
    pub root: PathBuf,
}

impl Kernel {
    /// The kernel's modules.
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

impl Known {
    /// Downloads and unpacks the kernel below `directory`, unless that has been done before.
    pub fn prepare(&self, tools: &Tools, directory: &Path, offline: bool) -> Result<Kernel> {
        let home = directory.join(self.name);
        let (root, complete) = (home.join("root"), home.join("complete"));
        if !complete.exists() {
            super::needs_network(offline, self.name)?;
            eprintln!("fetching kernel {} from Debian {}", self.name, self.suite);
            apt::recreate(&root)?;
            let release = Release::fetch(self.suite, &home.join("apt"))?;
            let packages = self.packages(&release)?;
            release.unpack(&packages, &root)?;
            release.clear()?;
            index_modules(tools, &root)?;
            fs::write(&complete, packages.join("\n"))?;
        }
        find(self.name, &root)
    }

    /// The packages with the image and the modules: their names change with every point release.
    fn packages(&self, release: &Release) -> Result<Vec<String>> {
        let mut packages = Vec::new();
        let mut pending = vec![self.meta.to_owned()];
        while let Some(package) = pending.pop() {
            for name in release.depends(&package)? {
                if is_part_of_kernel(&name) && !packages.contains(&name) {
                    packages.push(name.clone());
                    pending.push(name);
                }
            }
        }
        ensure!(
            !packages.is_empty(),
            "{} of Debian {} depends on no image",
            self.meta,
            self.suite
        );
        Ok(packages)
    }
}

/// Since 7.0 the package of the image only depends on one with the image, one with the modules and one with the
/// list of what is built in.
fn is_part_of_kernel(package: &str) -> bool {
    [
        "linux-image-",
        "linux-binary-",
        "linux-modules-",
        "linux-base-",
    ]
    .iter()
    .any(|prefix| package.starts_with(prefix))
}

/// The kernel in packages of the user's own.
pub fn from_debs(tools: &Tools, debs: &[PathBuf], directory: &Path) -> Result<Kernel> {
    let root = directory.join("deb/root");
    apt::recreate(&root)?;
    for deb in debs {
        apt::unpack(deb, &root)?;
    }
    index_modules(tools, &root)?;
    let mut kernel = find("", &root)?;
    kernel.name.clone_from(&kernel.release);
    Ok(kernel)
}

/// An image of the user's own, with a directory `lib/modules/RELEASE`, or one that contains it.
pub fn from_files(tools: &Tools, image: &Path, modules: &Path, directory: &Path) -> Result<Kernel> {
    let modules = if modules.join("lib/modules").is_dir() {
        only_entry(&modules.join("lib/modules"))?
    } else {
        modules.to_owned()
    };
    ensure!(
        modules.join("kernel").is_dir(),
        "{} has no directory `kernel`: it is no lib/modules/RELEASE",
        modules.display()
    );
    let release = file_name(&modules)?;
    let root = directory.join("vmlinuz/root");
    apt::recreate(&root.join("lib/modules"))?;
    let link = root.join("lib/modules").join(&release);
    fs::create_dir_all(&link)?;
    // depmod writes beside the modules, which are not ours.
    for entry in fs::read_dir(&modules)? {
        let path = entry?.path();
        let name = file_name(&path)?;
        let generated = name.starts_with("modules.")
            && ![
                "modules.order",
                "modules.builtin",
                "modules.builtin.modinfo",
            ]
            .contains(&name.as_str());
        if !generated && name != "build" && name != "source" {
            std::os::unix::fs::symlink(fs::canonicalize(&path)?, link.join(name))?;
        }
    }
    index(tools, &root, &release)?;
    Ok(Kernel {
        name: release.clone(),
        release,
        image: image.to_owned(),
        root,
    })
}

/// Writes the modules' dependencies and aliases: the packages leave that to their installation.
fn index_modules(tools: &Tools, root: &Path) -> Result<()> {
    // Newer releases have everything below /usr.
    if !root.join("lib/modules").exists() && root.join("usr/lib/modules").is_dir() {
        fs::create_dir_all(root.join("lib"))?;
        std::os::unix::fs::symlink("../usr/lib/modules", root.join("lib/modules"))?;
    }
    index(tools, root, &release(root)?)
}

fn index(tools: &Tools, root: &Path, release: &str) -> Result<()> {
    let root = fs::canonicalize(root)?;
    command::run(
        tools
            .program("usr/sbin/depmod")
            .arg("-b")
            .arg(&root)
            .arg(release),
    )
    .with_context(|| format!("cannot index the modules of {release}"))
}

fn release(root: &Path) -> Result<String> {
    file_name(&only_entry(&root.join("lib/modules"))?)
}

fn find(name: &str, root: &Path) -> Result<Kernel> {
    let release = release(root)?;
    let image = [
        root.join(format!("boot/vmlinuz-{release}")),
        root.join(format!("lib/modules/{release}/vmlinuz")),
    ]
    .into_iter()
    .find(|path| path.exists())
    .with_context(|| format!("no image of {release} in {}", root.display()))?;
    Ok(Kernel {
        name: name.to_owned(),
        release,
        image,
        root: root.to_owned(),
    })
}

fn only_entry(directory: &Path) -> Result<PathBuf> {
    let entries: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?
        .collect::<Result<_, _>>()?;
    match entries.as_slice() {
        [entry] => Ok(entry.path()),
        _ => bail!(
            "{} has {} entries, not the one of one kernel",
            directory.display(),
            entries.len()
        ),
    }
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name
        .with_context(|| format!("{} has no name", path.display()))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_of_a_kernel_are_told_from_what_else_it_depends_on() {
        for name in [
            "linux-image-6.1.0-50-amd64",
            "linux-binary-7.2",
            "linux-modules-7.2",
        ] {
            assert!(is_part_of_kernel(name), "{name}");
        }
        for name in ["linux-base", "kmod", "initramfs-tools"] {
            assert!(!is_part_of_kernel(name), "{name}");
        }
    }

    #[test]
    fn each_kernel_has_a_name_of_its_own_and_all_are_the_four_of_the_matrix() {
        let mut names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KNOWN.len());
        let all = KNOWN.iter().filter(|known| known.in_all);
        assert_eq!(
            all.map(|known| known.name).collect::<Vec<_>>(),
            ["5.10", "6.1", "6.12", "7.2"]
        );
    }

    #[test]
    fn an_image_is_found_in_boot_and_beside_the_modules() {
        let root = std::env::temp_dir().join(format!("xtask-kernels-{}", std::process::id()));
        let modules = root.join("lib/modules/7.2-x");
        fs::create_dir_all(&modules).unwrap();
        assert!(find("k", &root).is_err());
        fs::write(modules.join("vmlinuz"), "").unwrap();
        let kernel = find("k", &root).unwrap();
        assert_eq!(kernel.release, "7.2-x");
        assert_eq!(kernel.image, modules.join("vmlinuz"));
        fs::remove_dir_all(root).unwrap();
    }
}
