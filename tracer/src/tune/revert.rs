//! Taking back what was applied: the first original of every entry, but not over what somebody else has set since.

use super::{
    apply::{ApplyError, KEPT, is_here, load_on, mark},
    fault::{Fault, Interrupted},
    host::{Host, SettingError},
    identity::Identity,
    journal::{Entry, Journal, Line},
    state::State,
    write::{set, settle},
};
use crate::{model::setting::Setting, proc::cpus::format_list};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverted {
    /// Setting, value found, original.
    pub restored: Vec<(Setting, String, String)>,
    /// Settings that had their original value already.
    pub already: Vec<Setting>,
    /// Settings of a device or process that is gone, or of a device of another network namespace.
    pub gone: Vec<Setting>,
    /// Left as they are, by force: setting, CPUs of its original value, none of which is online.
    pub given_up: Vec<(Setting, String)>,
    /// Changed by somebody else since: setting, its value, the one that tracer had left.
    pub foreign: Vec<(Setting, String, String)>,
    /// Could not be restored, and why.
    pub failed: Vec<String>,
    /// Why the journal still has some that were restored.
    pub unmarked: Option<String>,
    /// The host was rebooted since: the changes are gone, and so is the journal.
    pub rebooted: bool,
}

impl Reverted {
    /// Whether nothing of tracer's is left.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.foreign.is_empty() && self.failed.is_empty()
    }

    /// What is `left` was put back and did not stay.
    pub(super) fn without(&mut self, left: &[(Setting, SettingError)]) {
        for (setting, error) in left {
            self.restored.retain(|(restored, ..)| restored != setting);
            self.already.retain(|already| already != setting);
            self.failed.push(error.to_string());
        }
    }

    /// Whether the setting was found to be as it originally was, or made so.
    fn has_original(&self, setting: &Setting) -> bool {
        let mut restored = self.restored.iter().map(|(restored, ..)| restored);
        restored.any(|restored| restored == setting) || self.already.contains(setting)
    }
}

/// Restores what the journal has; `None` if nothing is applied. `force`: also over what somebody else has set since, and
/// without the devices of another network namespace, which are then taken for gone.
pub fn revert(
    host: &mut impl Host,
    state: &State,
    own: &Identity,
    force: bool,
    now_unix_ns: u64,
    fault: &mut Fault,
) -> Result<Option<Reverted>, ApplyError> {
    let Some(journal) = load_on(state, own)? else {
        return Ok(None);
    };
    let mut reverted = Reverted::default();
    if journal.is_of_another_boot(own) {
        reverted.rebooted = true;
    } else {
        if !force {
            is_here(&journal, own)?;
        }
        let mut run = Run {
            state,
            journal: &journal,
            elsewhere: journal.elsewhere(own).is_some(),
            force,
            keeps_bans: false,
            now_unix_ns,
        };
        run.begin(host, &mut reverted);
        let (bans, others): (Vec<&Entry>, Vec<&Entry>) = journal
            .entries
            .iter()
            .partition(|entry| entry.setting.is_bans());
        let done = run.restore(host, &others, &mut reverted, fault)?;
        // Once the bans are lifted, irqbalance moves the vectors: these have to be out of the journal by then.
        if !bans.is_empty() || !reverted.is_complete() {
            let is_marked = run.mark(&done, &mut reverted, fault)?;
            let mut vectors = others.iter().filter(|e| e.setting.irq().is_some());
            run.keeps_bans = vectors.any(|vector| !is_marked || !done.contains(vector));
        }
        let done = run.restore(host, &bans, &mut reverted, fault)?;
        if !done.is_empty() && !reverted.is_complete() {
            run.mark(&done, &mut reverted, fault)?;
        }
    }
    if reverted.is_complete() {
        state.remove().map_err(|error| ApplyError::Journal {
            path: state.journal().display().to_string(),
            why: format!("all is restored, but the journal cannot be removed: {error}"),
        })?;
    }
    Ok(Some(reverted))
}

/// Restoring what a journal of this boot has.
struct Run<'a> {
    state: &'a State,
    journal: &'a Journal,
    /// Its devices are those of another network namespace.
    elsewhere: bool,
    force: bool,
    /// A vector is still in the journal.
    keeps_bans: bool,
    now_unix_ns: u64,
}

impl Run<'_> {
    /// Notes what the restoring of a ring or channels may disturb, so that a revert after this one was killed does not
    /// take it for somebody else's change.
    fn begin(&self, host: &mut impl Host, reverted: &mut Reverted) {
        let online = host.online();
        let is_ours = |entry: &&Entry| {
            let now = host.read(&entry.setting);
            now.is_ok_and(|now| {
                self.force
                    || entry.is_ours(&now, online.as_ref())
                    || self.journal.is_disturbed(&entry.setting)
            })
        };
        let entries = self.journal.entries.iter();
        let settings = entries.clone().map(|entry| &entry.setting);
        if !settings.clone().any(Setting::resets_others) {
            return;
        }
        let disturbed = entries.filter(|entry| {
            let is_elsewhere = self.elsewhere && entry.setting.device().is_some();
            entry.setting.is_reset_with_its_device() && !is_elsewhere
        });
        let ours = disturbed.filter(is_ours);
        let settings: Vec<Setting> = ours.map(|entry| entry.setting.clone()).collect();
        if settings.iter().any(Setting::resets_others) && settings != self.journal.reverting {
            self.write(&[Line::Reverting { settings }], reverted);
        }
    }

    /// Restores the entries, the newest first: what was set last may hide what was set before. Gives those that are done
    /// with.
    fn restore<'a>(
        &self,
        host: &mut impl Host,
        entries: &[&'a Entry],
        reverted: &mut Reverted,
        fault: &mut Fault,
    ) -> Result<Vec<&'a Entry>, Interrupted> {
        let mut done = Vec::new();
        for entry in entries.iter().rev() {
            if self.elsewhere && entry.setting.device().is_some() {
                // A device of that name here is another one.
                reverted.gone.push(entry.setting.clone());
                done.push(*entry);
            } else if self.restore_one(host, entry, reverted, fault)? {
                done.push(*entry);
            }
        }
        let back = done
            .iter()
            .map(|entry| (&entry.setting, entry.original.as_str()));
        let back: Vec<_> = back
            .filter(|(setting, _)| reverted.has_original(setting))
            .collect();
        let left = settle(host, &back);
        reverted.without(&left);
        done.retain(|entry| left.iter().all(|(setting, _)| *setting != entry.setting));
        Ok(done)
    }

    /// Notes that these are done with, and that nothing is disturbed any more. Whether there was room for it.
    fn mark(
        &self,
        done: &[&Entry],
        reverted: &mut Reverted,
        fault: &mut Fault,
    ) -> Result<bool, Interrupted> {
        let lines = done.iter().map(|entry| Line::Restored {
            setting: entry.setting.clone(),
            time_unix_ns: self.now_unix_ns,
        });
        let mut lines: Vec<Line> = lines.collect();
        lines.push(Line::Reverting {
            settings: Vec::new(),
        });
        let is_marked = self.write(&lines, reverted);
        fault.pass().map(|()| is_marked)
    }

    /// A full disk keeps nothing but bans from being restored; the next revert finds it as it was.
    fn write(&self, lines: &[Line], reverted: &mut Reverted) -> bool {
        let marked = mark(self.state, lines);
        if let Err(error) = &marked {
            let path = self.state.journal();
            reverted.unmarked = Some(format!("{}: {error}", path.display()));
        }
        marked.is_ok()
    }

    /// True if the entry is done with.
    fn restore_one(
        &self,
        host: &mut impl Host,
        entry: &Entry,
        reverted: &mut Reverted,
        fault: &mut Fault,
    ) -> Result<bool, Interrupted> {
        let setting = &entry.setting;
        let now = match host.read(setting) {
            Ok(now) => now,
            Err(error) if error.is_gone() => {
                reverted.gone.push(setting.clone());
                return Ok(true);
            }
            Err(error) => {
                reverted.failed.push(error.to_string());
                return Ok(false);
            }
        };
        let online = host.online();
        let online = online.as_ref();
        // Where it could also be the new value, the original one is written: it counts again when those CPUs come back.
        let is_original = setting.same(&entry.original, &now)
            || setting.same_online(&entry.original, &now, online)
                && !setting.same(entry.wanted(), &now);
        if is_original {
            reverted.already.push(setting.clone());
            return Ok(true);
        }
        let is_ours = entry.is_ours(&now, online) || self.journal.is_disturbed(setting);
        if !is_ours && !self.force {
            let foreign = (setting.clone(), now, entry.wanted().to_owned());
            reverted.foreign.push(foreign);
            return Ok(false);
        }
        if let Some(cpus) = setting.offline(&entry.original, &now, online) {
            let cpus = format_list(&cpus);
            if self.force {
                reverted.given_up.push((setting.clone(), cpus));
            } else {
                reverted.failed.push(format!(
                "{setting}: CPU {cpus}, where it was, is offline: bring it online first; --force forgets it"
            ));
            }
            return Ok(self.force);
        }
        if self.keeps_bans && setting.is_bans() {
            reverted.failed.push(format!("{setting}: {KEPT}"));
            return Ok(false);
        }
        fault.pass()?;
        if let Err(error) = set(host, setting, &entry.original) {
            reverted.failed.push(error.to_string());
            return Ok(false);
        }
        fault.pass()?;
        let done = (setting.clone(), now, entry.original.clone());
        reverted.restored.push(done);
        Ok(true)
    }
}
