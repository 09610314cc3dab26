//! Reading and writing settings, of this host or of a made-up one.

use std::{collections::BTreeSet, io};

use crate::model::setting::Setting;

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// What it belongs to is no longer there: the device, the interrupt, the process.
    #[error("{setting}: it is gone")]
    Gone {
        /// The setting.
        setting: String,
    },
    /// The kernel refused.
    #[error("{setting}: cannot {what}: {source}")]
    Refused {
        /// The setting.
        setting: String,
        /// `read`, `write 2-3`.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// Something else.
    #[error("{setting}: {why}")]
    Other {
        /// The setting.
        setting: String,
        /// Why.
        why: String,
    },
}

impl SettingError {
    pub(super) fn gone(setting: &Setting) -> Self {
        Self::Gone {
            setting: setting.to_string(),
        }
    }

    pub(super) fn other(setting: &Setting, why: impl Into<String>) -> Self {
        Self::Other {
            setting: setting.to_string(),
            why: why.into(),
        }
    }

    /// From an error of the kernel; what does not exist is [`Gone`](Self::Gone).
    pub(super) fn of(setting: &Setting, what: impl Into<String>, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound
            || matches!(source.raw_os_error(), Some(libc::ENODEV | libc::ESRCH))
        {
            return Self::gone(setting);
        }
        Self::Refused {
            setting: setting.to_string(),
            what: what.into(),
            source,
        }
    }

    /// Whether what the setting belongs to is no longer there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// A host whose settings can be read and written.
pub trait Host {
    /// The value, as the kernel prints it, without the end of the line.
    fn read(&mut self, setting: &Setting) -> Result<String, SettingError>;

    /// Writes it; whether the kernel took it is for who reads it back.
    fn write(&mut self, setting: &Setting, value: &str) -> Result<(), SettingError>;

    /// CPUs that are running; `None`: not known.
    fn online(&mut self) -> Option<BTreeSet<u32>> {
        None
    }

    /// The setting with what tells a process or an interrupt from a later one of the same number.
    fn identify(&mut self, setting: &Setting) -> Setting {
        setting.clone()
    }
}
