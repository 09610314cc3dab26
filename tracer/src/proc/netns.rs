//! Network namespaces: their inode numbers (`net.ns.inum`), which drops and NAPI instances carry,
//! and the names that `ip netns` gave them.

use std::{
    collections::BTreeMap,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

use super::{error::ProcError, roots::Roots};

/// Inode number of the network namespace tracer runs in: `<proc>/self/ns/net`.
pub fn own_inode(roots: &Roots) -> Result<u32, ProcError> {
    Ok(inode(own(roots)?.ino()))
}

/// Names under `<run>/netns` by namespace inode number. Where two names are bound to one namespace,
/// the first in the alphabet is kept; names whose mount is gone are left out. Empty without `ip netns`.
pub fn names(roots: &Roots) -> Result<BTreeMap<u32, String>, ProcError> {
    let nsfs = own(roots)?.dev();
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    for entry in std::fs::read_dir(roots.run.join("netns"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(metadata) = std::fs::metadata(entry.path()) else {
            continue;
        };
        // A leftover plain file has an inode number of another file system.
        if metadata.dev() != nsfs {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        names
            .entry(inode(metadata.ino()))
            .and_modify(|known| {
                if name < *known {
                    known.clone_from(&name);
                }
            })
            .or_insert(name);
    }
    Ok(names)
}

/// Runs `read` in the host's own network namespace, where alone its `net.core` settings are shown, on a
/// thread of its own: in that of process 1 or, where that is hidden, of the kernel thread 2. `None`
/// without `CAP_SYS_ADMIN`, or if neither gives a value (in a container both are somebody else).
pub fn in_init_netns<T: Send>(
    roots: &Roots,
    read: impl Fn(&Roots) -> Option<T> + Sync,
) -> Option<T> {
    ["1", "2"].iter().find_map(|pid| {
        let namespace = std::fs::File::open(roots.proc.join(pid).join("ns/net")).ok()?;
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                rustix::thread::move_into_link_name_space(
                    namespace.as_fd(),
                    Some(rustix::thread::LinkNameSpaceType::Network),
                )
                .ok()?;
                read(roots)
            });
            reader.join().ok()?
        })
    })
}

fn own(roots: &Roots) -> Result<std::fs::Metadata, ProcError> {
    let path = roots.proc.join("self/ns/net");
    std::fs::metadata(&path).map_err(|source| ProcError::Read { path, source })
}

/// nsfs gives out 32-bit inode numbers (`ns_common.inum` is unsigned int).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel's number has 32 bits"
)]
fn inode(number: u64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn this_process_has_a_network_namespace() {
        let number = own_inode(&Roots::default()).unwrap();
        let link = fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(link.to_str().unwrap(), format!("net:[{number}]"));
    }

    #[test]
    fn names_are_by_inode_and_leftover_files_are_no_namespace() {
        let run = tempfile::tempdir().unwrap();
        let netns = run.path().join("netns");
        fs::create_dir(&netns).unwrap();
        for name in ["zeta", "alpha"] {
            symlink("/proc/self/ns/net", netns.join(name)).unwrap();
        }
        symlink("/nonexistent", netns.join("broken")).unwrap();
        fs::write(netns.join("leftover"), "").unwrap();
        let roots = Roots {
            run: run.path().into(),
            ..Roots::default()
        };
        let own = own_inode(&roots).unwrap();
        assert_eq!(names(&roots).unwrap(), [(own, "alpha".to_owned())].into());
    }

    #[test]
    fn a_host_that_never_used_ip_netns_has_no_names() {
        let run = tempfile::tempdir().unwrap();
        let roots = Roots {
            run: run.path().into(),
            ..Roots::default()
        };
        assert!(names(&roots).unwrap().is_empty());
    }
}
