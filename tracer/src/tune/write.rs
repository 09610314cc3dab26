//! Writing values and looking whether they are there, and stay.

use super::host::{Host, SettingError};
use crate::model::setting::Setting;

/// Writes a value and looks whether the kernel took it, but for CPUs that are offline.
pub(super) fn set(
    host: &mut impl Host,
    setting: &Setting,
    value: &str,
) -> Result<(), SettingError> {
    host.write(setting, value)?;
    let now = host.read(setting)?;
    if setting.same_online(value, &now, host.online().as_ref()) {
        return Ok(());
    }
    Err(SettingError::other(
        setting,
        format!(
            "the kernel did not take {}, it is {}",
            setting.brief(value),
            setting.brief(&now)
        ),
    ))
}

/// Where a ring or channels were put back, looks again at these and at what they undo, the vectors and queues that were
/// written before, and writes once more what is no longer so. Gives what still is not so then, and why.
pub(super) fn settle(
    host: &mut impl Host,
    values: &[(&Setting, &str)],
) -> Vec<(Setting, SettingError)> {
    if !values.iter().any(|(setting, _)| setting.resets_others()) {
        return Vec::new();
    }
    let values = values.iter();
    let values: Vec<_> = values
        .filter(|(setting, _)| setting.is_reset_with_its_device())
        .collect();
    let mut all_so = true;
    for (setting, value) in &values {
        match is_so(host, setting, value) {
            Ok(true) => continue,
            // Whether it helps is seen below.
            Ok(false) => drop(host.write(setting, value)),
            Err(_) => {}
        }
        all_so = false;
    }
    if all_so {
        return Vec::new();
    }
    let left = values.iter().filter_map(|(setting, value)| {
        let error = match is_so(host, setting, value) {
            Ok(true) => return None,
            Ok(false) => SettingError::other(
                setting,
                format!(
                    "{} does not stay, other changes undo it",
                    setting.brief(value)
                ),
            ),
            Err(error) => error,
        };
        Some(((*setting).clone(), error))
    });
    left.collect()
}

/// Whether the value is there; of what is gone, nothing else can be.
fn is_so(host: &mut impl Host, setting: &Setting, value: &str) -> Result<bool, SettingError> {
    match host.read(setting) {
        Ok(now) => Ok(setting.same_online(value, &now, host.online().as_ref())),
        Err(error) if error.is_gone() => Ok(true),
        Err(error) => Err(error),
    }
}
