//! Which control group keeps a process off some CPUs.

use std::path::Path;

use crate::{
    model::topology::Cpuset,
    proc::{error::read_fact, pid::cgroup::Cgroup},
};

/// Path of the control group whose cpuset lets a process run on other CPUs than those `online` (a list as the kernel
/// prints it), and the group; `None` if none does. `mount` is `/sys/fs/cgroup`.
pub(super) fn confining(mount: &Path, cgroup: &Cgroup, online: &str) -> Option<(String, Cpuset)> {
    let unified = ["", "unified"].map(|dir| mount.join(dir));
    let unified = unified
        .iter()
        .find(|dir| dir.join("cgroup.controllers").exists());
    let in_unified = || {
        // A group has the file only if its parent hands the controller down; what is not set is inherited.
        nearest(2, unified?, cgroup.unified.as_deref()?, |dir| {
            let set = read_fact(&dir.join("cpuset.cpus"));
            set.and_then(|_| read_fact(&dir.join("cpuset.cpus.effective")))
        })
    };
    let in_version_1 = || {
        let path = cgroup.cpuset.as_deref()?;
        nearest(1, &mount.join("cpuset"), path, |dir| {
            let files = ["cpuset.effective_cpus", "cpuset.cpus"];
            files.iter().find_map(|file| read_fact(&dir.join(file)))
        })
    };
    let (path, cpus, group) = in_version_1().or_else(in_unified)?;
    (cpus != online).then_some((path, group))
}

/// The nearest group, from `path` up to but not the root, for which `cpus` are set, and these.
fn nearest(
    version: u8,
    root: &Path,
    path: &str,
    cpus: impl Fn(&Path) -> Option<String>,
) -> Option<(String, String, Cpuset)> {
    let groups = Path::new(path).ancestors();
    groups
        .filter_map(|group| group.strip_prefix("/").ok())
        .filter(|group| !group.as_os_str().is_empty())
        .find_map(|group| {
            let dir = root.join(group);
            let effective = cpus(&dir)?;
            let found = format!("/{}", group.display());
            let group = Cpuset {
                version,
                own: found == path,
                cpus: read_fact(&dir.join("cpuset.cpus")).unwrap_or_default(),
                dir: dir.display().to_string(),
            };
            Some((found, effective, group))
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(mount: &Path, path: &str, text: &str) {
        let path = mount.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_group_that_sets_the_cpus_is_named_and_not_one_that_inherits_them() {
        let mount = tempfile::tempdir().unwrap();
        write(mount.path(), "cgroup.controllers", "cpuset\n");
        write(mount.path(), "db/cpuset.cpus", "2-3\n");
        write(mount.path(), "db/cpuset.cpus.effective", "2-3\n");
        write(mount.path(), "db/redis/cpuset.cpus", "\n");
        write(mount.path(), "db/redis/cpuset.cpus.effective", "2-3\n");
        let cgroup = Cgroup {
            unified: Some("/db/redis/main".to_owned()),
            cpuset: None,
        };
        let found = confining(mount.path(), &cgroup, "0-3");
        let (path, group) = found.unwrap();
        assert_eq!(path, "/db");
        assert!(group.version == 2 && !group.own, "{group:?}");
        assert_eq!(group.cpus, "2-3");
        let own = Cgroup {
            unified: Some("/db".to_owned()),
            cpuset: None,
        };
        assert!(confining(mount.path(), &own, "0-3").unwrap().1.own);
        assert_eq!(confining(mount.path(), &cgroup, "2-3"), None);
    }

    #[test]
    fn a_group_without_a_cpuset_confines_nobody() {
        let mount = tempfile::tempdir().unwrap();
        write(mount.path(), "unified/cgroup.controllers", "\n");
        let at = |path: &str| Cgroup {
            unified: Some(path.to_owned()),
            cpuset: Some(path.to_owned()),
        };
        assert_eq!(confining(mount.path(), &at("/"), "0-3"), None);
        assert_eq!(confining(mount.path(), &at("/a/b"), "0-3"), None);
        assert_eq!(confining(mount.path(), &Cgroup::default(), "0-3"), None);
    }

    #[test]
    fn version_1_has_a_tree_of_its_own() {
        let mount = tempfile::tempdir().unwrap();
        write(mount.path(), "cpuset/docker/x/cpuset.cpus", "1\n");
        write(mount.path(), "cpuset/docker/x/cpuset.effective_cpus", "1\n");
        let cgroup = Cgroup {
            unified: None,
            cpuset: Some("/docker/x".to_owned()),
        };
        let found = confining(mount.path(), &cgroup, "0-3");
        let (path, group) = found.unwrap();
        assert_eq!(path, "/docker/x");
        let dir = mount.path().join("cpuset/docker/x");
        let expected = Cpuset {
            dir: dir.display().to_string(),
            version: 1,
            own: true,
            cpus: "1".to_owned(),
        };
        assert_eq!(group, expected);
    }
}
