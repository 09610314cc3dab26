//! Why a file of the kernel could not be used.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

/// Text that does not have the form its parser knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct ParseError {
    /// The file whose form was expected.
    pub file: Cow<'static, str>,
    /// Line, from 1; 1 for a value that is not part of a table.
    pub line: usize,
    /// What was wrong.
    pub what: String,
}

impl ParseError {
    /// An error in `line` (from 1) of `file`.
    pub fn new(file: impl Into<Cow<'static, str>>, line: usize, what: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            what: what.into(),
        }
    }
}

/// A file that could not be read or was not understood.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// The kernel refused, or has no such file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The content is of another form.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

impl ProcError {
    /// True if the file does not exist: the kernel was built without what it shows.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The text of `path`.
pub(crate) fn read(path: &Path) -> Result<String, ProcError> {
    std::fs::read_to_string(path).map_err(|source| ProcError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The text of `path` without white space around it; `None` if it cannot be read or is empty. For
/// facts that a report can do without.
pub(crate) fn read_fact(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_error_names_file_line_and_fault() {
        let error = ParseError::new("/proc/softirqs", 3, "no `:`");
        assert_eq!(error.to_string(), "/proc/softirqs, line 3: no `:`");
    }

    #[test]
    fn a_read_error_names_the_path_and_tells_absence_from_refusal() {
        let error = read(Path::new("/nonexistent/file")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/file"), "{error}");
        assert!(error.is_not_found());
    }
}
