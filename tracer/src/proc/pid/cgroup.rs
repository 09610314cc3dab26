//! `/proc/PID/cgroup`: `proc_cgroup_show` in kernel/cgroup/cgroup.c.

use std::path::Path;

/// Where a process is in the trees of control groups; paths from the root that tracer sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// In the tree of version 2; `None` without one.
    pub unified: Option<String>,
    /// In the version 1 tree that has the controller `cpuset`.
    pub cpuset: Option<String>,
}

/// Reads `<dir>/cgroup`; of a process that is gone, nothing.
#[must_use]
pub fn read(dir: &Path) -> Cgroup {
    let text = std::fs::read(dir.join("cgroup")).unwrap_or_default();
    parse(&String::from_utf8_lossy(&text))
}

/// Parses lines `id:controllers:path`. Others are passed over, and paths that leave tracer's own tree (`/../x`).
#[must_use]
pub fn parse(text: &str) -> Cgroup {
    let mut cgroup = Cgroup::default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            continue;
        }
        if id == "0" && controllers.is_empty() {
            cgroup.unified = Some(path.to_owned());
        } else if controllers.split(',').any(|name| name == "cpuset") {
            cgroup.cpuset = Some(path.to_owned());
        }
    }
    cgroup
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_versions_are_told_apart() {
        let hybrid =
            "12:cpu,cpuacct:/a\n4:cpuset:/docker/b:c\n1:name=systemd:/d\n0::/system.slice/e\n";
        let expected = Cgroup {
            unified: Some("/system.slice/e".to_owned()),
            cpuset: Some("/docker/b:c".to_owned()),
        };
        assert_eq!(parse(hybrid), expected);
        assert_eq!(parse("0::/\n").unified.as_deref(), Some("/"));
    }

    #[test]
    fn what_is_outside_the_own_tree_has_no_path() {
        assert_eq!(parse("0::/../x\n3:cpuset:/a/../b\nx\n"), Cgroup::default());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).*", close in "([0-9:,/.a]{0,9}\n){0,5}") {
            let _ = parse(&text);
            let _ = parse(&close);
        }
    }
}
