//! What is applied, by which plan, and what has drifted since.

use serde::Serialize;

use super::{
    apply::{ApplyError, load_on},
    host::Host,
    identity::Identity,
    journal::Begun,
    state::State,
};
use crate::model::setting::Setting;

/// What the journal says, compared with the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Always `tune_status`.
    pub kind: &'static str,
    /// Plans that were applied and not reverted.
    pub plans: Vec<Begun>,
    /// The host was rebooted since: nothing of this is in force any more.
    pub rebooted: bool,
    /// Inode number of the network namespace that it was applied in, if its devices are there and not in the present one.
    pub netns: Option<u64>,
    /// Setting by setting, in the order of their first change.
    pub settings: Vec<Entry>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What.
    pub setting: Setting,
    /// Before tracer changed it.
    pub original: String,
    /// As tracer left it.
    pub applied: String,
    /// Now; `null` if it cannot be read.
    pub now: Option<String>,
    /// How these compare.
    pub state: Standing,
}

/// How a setting compares with what was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As tracer left it.
    Applied,
    /// As it was before.
    Original,
    /// Somebody else has changed it since.
    Drifted,
    /// Its device or process is gone, or it cannot be read.
    Gone,
    /// Its device is in the network namespace that it was applied in, which is not the present one.
    Hidden,
}

/// Reads both; `None` if nothing is applied.
pub fn status(
    host: &mut impl Host,
    state: &State,
    own: &Identity,
) -> Result<Option<Status>, ApplyError> {
    let Some(journal) = load_on(state, own)? else {
        return Ok(None);
    };
    let rebooted = journal.is_of_another_boot(own);
    // After a boot nothing of it is anywhere, and the namespaces have other numbers.
    let elsewhere = journal.elsewhere(own);
    let elsewhere = elsewhere.filter(|_| !rebooted && journal.names_devices());
    let online = host.online();
    let entries = journal.entries.iter().map(|entry| {
        // A device of that name here is another one.
        let is_hidden = elsewhere.is_some() && entry.setting.device().is_some();
        let now = if is_hidden {
            None
        } else {
            host.read(&entry.setting).ok()
        };
        let same = |value: &str| {
            let is_so = |now: &String| entry.setting.same_online(value, now, online.as_ref());
            now.as_ref().is_some_and(is_so)
        };
        let state = if is_hidden {
            Standing::Hidden
        } else if now.is_none() {
            Standing::Gone
        } else if same(entry.wanted()) {
            Standing::Applied
        } else if same(&entry.original) {
            Standing::Original
        } else {
            Standing::Drifted
        };
        let brief = |value: &str| entry.setting.brief(value);
        Entry {
            setting: entry.setting.clone(),
            original: brief(&entry.original),
            applied: brief(entry.wanted()),
            now: now.as_deref().map(brief),
            state,
        }
    });
    let settings = entries.collect();
    Ok(Some(Status {
        kind: "tune_status",
        plans: journal.plans,
        rebooted,
        netns: elsewhere.map(|(of, _)| of),
        settings,
    }))
}
