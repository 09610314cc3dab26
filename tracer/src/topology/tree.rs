//! A made-up /proc and /sys.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::proc::Roots;

/// A temporary directory that stands for the root of a host.
pub(super) struct Tree {
    root: tempfile::TempDir,
    pub(super) roots: Roots,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let under = |name: &str| root.path().join(name);
        let roots = Roots {
            proc: under("proc"),
            sys: under("sys"),
            run: under("run"),
        };
        Self { root, roots }
    }

    /// Writes a file with its directories; a line end is added.
    pub(super) fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
        self
    }

    pub(super) fn directory(&self, path: &str) -> &Self {
        fs::create_dir_all(self.root.path().join(path)).unwrap();
        self
    }

    /// A symbolic link at `path` to `target`, both below the root.
    pub(super) fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.root.path().join(target), path).unwrap();
        self
    }

    pub(super) fn sys(&self) -> &Path {
        &self.roots.sys
    }
}
