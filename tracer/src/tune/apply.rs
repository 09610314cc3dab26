//! Making the changes of a plan: journal first, then one after the other, each read back; all or none.

use std::{
    collections::BTreeSet,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    fault::{Fault, Interrupted},
    host::{Host, SettingError},
    identity::Identity,
    journal::{Journal, JournalError, Line, text},
    plan::Plan,
    revert::Reverted,
    state::State,
    write::{set, settle},
};
use crate::model::setting::{Setting, irqs};

/// Setting, value before, new value.
pub type Change = (Setting, String, String);

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What was changed.
    pub changed: Vec<Change>,
    /// Settings that had their new value already.
    pub already: Vec<Setting>,
    /// The journal was of another boot, whose changes are gone.
    pub forgot: bool,
}

/// Why nothing is changed, or nothing any more.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The plan is for another host.
    #[error("this plan is not for this host as it is now: {}", .0.join("; "))]
    OtherHost(Vec<String>),
    /// It names what has another number in every boot, and is not known to be of this one.
    #[error(
        "this plan is not known to be of this boot, and numbers of interrupts and processes are given anew in each; \
         measure and plan again: {}", .0.join("; ")
    )]
    OtherBoot(Vec<String>),
    /// The host was changed since.
    #[error("the host is not as the plan saw it, plan again: {}", .0.join("; "))]
    Changed(Vec<String>),
    /// The journal cannot be written, read or understood.
    #[error("{path}: {why}")]
    Journal {
        /// Its path.
        path: String,
        /// Why.
        why: String,
    },
    /// The journal's devices are not those of this network namespace.
    #[error(
        "what is applied was applied in another network namespace ({of}, this is {here}): enter it with ip netns exec; if \
         it is gone, tracer tune revert --force restores what is not of it"
    )]
    OtherNetns {
        /// Inode number of the journal's.
        of: u64,
        /// Of the present one.
        here: u64,
    },
    /// A change failed, and those before it were taken back.
    #[error("{failed}; {}", taken_back(*.undone, .left))]
    Failed {
        /// What failed.
        failed: String,
        /// How many changes were undone.
        undone: usize,
        /// Those that could not be undone, with the reason.
        left: Vec<String>,
    },
    /// A test wanted it.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn taken_back(undone: usize, left: &[String]) -> String {
    let undone = crate::report::number::of(undone as u64, "change");
    if left.is_empty() {
        return format!("{undone} before it taken back, the host is as it was");
    }
    format!(
        "{undone} before it taken back, but not: {}; they are in the journal, try tracer tune revert",
        left.join("; ")
    )
}

/// Why bans are not lifted: irqbalance would move the vectors, and who reads the journal take that for somebody else's
/// doing.
pub(super) const KEPT: &str = "kept until the vectors are back and out of the journal";

/// A change that is about to be made.
struct Next {
    setting: Setting,
    before: String,
    to: String,
}

/// Applies `plan`. `now_unix_ns` goes into the journal. Takes everything back if `stop` is set meanwhile.
pub fn apply(
    host: &mut impl Host,
    state: &State,
    plan: &Plan,
    own: &Identity,
    now_unix_ns: u64,
    stop: &AtomicBool,
    fault: &mut Fault,
) -> Result<Applied, ApplyError> {
    let different = plan.host.differences(own);
    if !different.is_empty() {
        return Err(ApplyError::OtherHost(different));
    }
    let of_its_boot = plan
        .changes()
        .filter(|change| change.setting.is_of_one_boot());
    let of_its_boot: Vec<String> = of_its_boot
        .map(|change| change.setting.to_string())
        .collect();
    // That of another boot is another host.
    if plan.host.boot_id.is_none() && !of_its_boot.is_empty() {
        return Err(ApplyError::OtherBoot(of_its_boot));
    }
    let mut applied = Applied::default();
    let next = look(host, plan, &mut applied)?;
    let mut journal = load_on(state, own)?.unwrap_or_default();
    if journal.is_of_another_boot(own) {
        applied.forgot = true;
        journal = Journal::default();
    }
    if next.is_empty() {
        return Ok(applied);
    }
    is_here(&journal, own)?;
    if own.boot_id.is_some() {
        journal.boot_id.clone_from(&own.boot_id);
    }
    if !journal.names_devices() {
        journal.netns = own.netns;
    }
    journal.take(Line::Plan {
        id: plan.id.clone(),
        time_unix_ns: now_unix_ns,
        baseline: plan.baseline,
    });
    for change in &next {
        let first = journal.original(&change.setting).map(str::to_owned);
        journal.take(Line::Change {
            setting: change.setting.clone(),
            original: first.unwrap_or_else(|| change.before.clone()),
            before: change.before.clone(),
            to: change.to.clone(),
        });
    }
    let fail = |why: String| ApplyError::Journal {
        path: state.journal().display().to_string(),
        why,
    };
    let lines = text(&journal.lines()).map_err(|error| fail(error.to_string()))?;
    let saved = state.make().and_then(|()| state.replace(&lines));
    saved.map_err(|error| {
        fail(format!(
            "cannot write the journal, so nothing was changed: {error}"
        ))
    })?;

    for at in 0..next.len() {
        fault.pass()?;
        let change = &next[at];
        let failed = if stop.load(Ordering::Relaxed) {
            Some("stopped by a signal".to_owned())
        } else {
            let set = set(host, &change.setting, &change.to);
            set.err().map(|error| error.to_string())
        };
        if let Some(failed) = failed {
            return Err(undo(host, state, &mut journal, &next, at, &failed));
        }
        fault.pass()?;
    }
    let done = Line::Done {
        time_unix_ns: now_unix_ns,
    };
    // Without it, status says that apply was interrupted, and behind a ring or channels a revert takes what somebody else
    // sets a vector or queue to for their doing.
    let _ = mark(state, &[done]);
    let changed = next.into_iter().map(|n| (n.setting, n.before, n.to));
    applied.changed = changed.collect();
    Ok(applied)
}

/// The value to write. Bans are added to those of `now`: irqbalance is told all of them at once, and the plan does not
/// know what an earlier one or somebody else had it leave alone.
fn target(setting: &Setting, planned: &str, now: &str) -> String {
    match (setting, irqs(planned), irqs(now)) {
        (Setting::IrqbalanceBans { .. }, Some(planned), Some(now)) => {
            let all: BTreeSet<u32> = planned.into_iter().chain(now).collect();
            let all: Vec<String> = all.iter().map(u32::to_string).collect();
            all.join(" ")
        }
        _ => planned.to_owned(),
    }
}

/// What is there now, compared with what the plan saw.
fn look(host: &mut impl Host, plan: &Plan, applied: &mut Applied) -> Result<Vec<Next>, ApplyError> {
    let mut next = Vec::new();
    let mut changed = Vec::new();
    for change in plan.changes() {
        let setting = host.identify(&change.setting);
        let now = match host.read(&setting) {
            Ok(now) => now,
            Err(error) => {
                changed.push(error.to_string());
                continue;
            }
        };
        let to = target(&setting, &change.to, &now);
        if setting.same(&to, &now) {
            applied.already.push(setting);
            continue;
        }
        if let Err(why) = setting.check(&now) {
            changed.push(format!("{why}, and could not be put back"));
            continue;
        }
        match &change.from {
            Some(from) if !setting.same(from, &now) => changed.push(format!(
                "{setting} is {}, was {}",
                setting.brief(&now),
                setting.brief(from)
            )),
            _ => next.push(Next {
                setting,
                before: now,
                to,
            }),
        }
    }
    if changed.is_empty() {
        Ok(next)
    } else {
        Err(ApplyError::Changed(changed))
    }
}

/// Takes back the changes up to number `failed_at`, the newest first.
fn undo(
    host: &mut impl Host,
    state: &State,
    journal: &mut Journal,
    next: &[Next],
    failed_at: usize,
    failed: &str,
) -> ApplyError {
    let mut left = Vec::new();
    let mut undone = 0;
    let (mut unsaved, mut keeps_bans) = (Vec::new(), false);
    let (bans, others): (Vec<_>, Vec<_>) = next
        .iter()
        .enumerate()
        .partition(|(_, change)| change.setting.is_bans());
    // Once the bans are lifted, irqbalance moves the vectors: these have to be out of the journal by then.
    for changes in [others, bans] {
        let still = undo_some(host, &changes, failed_at, keeps_bans);
        let is_left = |change: &Next| still.iter().any(|(setting, _)| *setting == change.setting);
        for (at, change) in &changes {
            if !is_left(change) {
                undone += usize::from(*at < failed_at);
                let setting = change.setting.clone();
                journal.take(Line::Undone { setting });
                unsaved.push(change.setting.clone());
            }
        }
        // If that fails, what is in it too much is found to be as it was.
        let saved = save_rest(state, journal, &mut unsaved);
        let mut vectors = changes.iter().map(|(_, change)| *change);
        keeps_bans = vectors
            .any(|change| change.setting.irq().is_some() && (saved.is_err() || is_left(change)));
        left.extend(still);
    }
    if left.is_empty() {
        journal.plans.pop();
        let _ = save_rest(state, journal, &mut unsaved);
    }
    ApplyError::Failed {
        failed: failed.to_owned(),
        undone,
        left: left.iter().map(|(_, error)| error.to_string()).collect(),
    }
}

/// Gives those that could not be undone. What is behind the failure was not written, but a ring or channels before it have
/// reset it.
fn undo_some(
    host: &mut impl Host,
    changes: &[(usize, &Next)],
    failed_at: usize,
    keeps_bans: bool,
) -> Vec<(Setting, SettingError)> {
    let mut left = Vec::new();
    let mut back = Vec::new();
    let mut written = changes.iter().filter(|(at, _)| *at <= failed_at);
    let is_reset = written.any(|(_, change)| change.setting.resets_others());
    for (at, change) in changes.iter().rev() {
        let done = match host.read(&change.setting) {
            _ if *at > failed_at && !is_reset => continue,
            _ if *at > failed_at => Ok(()),
            Ok(now) if change.setting.same(&change.before, &now) => Ok(()),
            // There is nothing left that could be put back.
            Err(error) if error.is_gone() => continue,
            _ if keeps_bans => Err(SettingError::other(&change.setting, KEPT)),
            _ => set(host, &change.setting, &change.before),
        };
        match done {
            Ok(()) => back.push((&change.setting, change.before.as_str())),
            Err(error) => left.push((change.setting.clone(), error)),
        }
    }
    left.extend(settle(host, &back));
    left
}

/// Takes the changes that were just `applied` back, those of earlier plans not; what somebody else has changed since is
/// left. That there is no room for the journal is told with what was done.
pub fn withdraw(
    host: &mut impl Host,
    state: &State,
    applied: &Applied,
) -> Result<Reverted, ApplyError> {
    let mut reverted = Reverted::default();
    let mut journal = load(state)?.unwrap_or_default();
    let settings = || applied.changed.iter().map(|(setting, ..)| setting);
    if settings().any(Setting::resets_others) {
        let settings = settings().filter(|setting| setting.is_reset_with_its_device());
        let settings = settings.cloned().collect();
        // Without it, a revert after a kill here takes what is disturbed for somebody else's.
        let _ = mark(state, &[Line::Reverting { settings }]);
    }
    let (bans, others): (Vec<&Change>, Vec<&Change>) = applied
        .changed
        .iter()
        .partition(|(setting, ..)| setting.is_bans());
    // Once the bans are lifted, irqbalance moves the vectors: these have to be out of the journal by then.
    let mut unsaved = take_back(host, &others, false, &mut journal, &mut reverted);
    if !bans.is_empty() {
        let mut vectors = others.iter().filter(|(of, ..)| of.irq().is_some());
        let has_vectors = vectors.clone().next().is_some();
        let is_one_left = vectors.any(|(of, ..)| !unsaved.contains(of));
        let saved = save_rest(state, &journal, &mut unsaved);
        let keeps_bans = is_one_left || has_vectors && saved.is_err();
        let undone = take_back(host, &bans, keeps_bans, &mut journal, &mut reverted);
        unsaved.extend(undone);
    }
    if reverted.is_complete() {
        journal.plans.pop();
    }
    if let Err(error) = save_rest(state, &journal, &mut unsaved) {
        reverted.unmarked = Some(format!("{}: {error}", state.journal().display()));
    }
    Ok(reverted)
}

/// Writes the values from before these changes, the newest first. Gives those that are undone.
fn take_back(
    host: &mut impl Host,
    changes: &[&Change],
    keeps_bans: bool,
    journal: &mut Journal,
    reverted: &mut Reverted,
) -> Vec<Setting> {
    let online = host.online();
    let mut back = Vec::new();
    for (setting, before, to) in changes.iter().rev() {
        let is = |value: &str, now: &str| setting.same_online(value, now, online.as_ref());
        let done = match host.read(setting) {
            Ok(now) if is(to, &now) && keeps_bans => Err(SettingError::other(setting, KEPT)),
            Ok(now) if is(to, &now) => set(host, setting, before).map(|()| {
                let done = (setting.clone(), now, before.clone());
                reverted.restored.push(done);
            }),
            Ok(now) if is(before, &now) => {
                reverted.already.push(setting.clone());
                Ok(())
            }
            Ok(now) => {
                let foreign = (setting.clone(), now, to.clone());
                reverted.foreign.push(foreign);
                continue;
            }
            Err(error) if error.is_gone() => {
                reverted.gone.push(setting.clone());
                Ok(())
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => back.push((setting, before.as_str())),
            Err(error) => reverted.failed.push(error.to_string()),
        }
    }
    let left = settle(host, &back);
    reverted.without(&left);
    let undone = back.into_iter().map(|(setting, _)| setting.clone());
    let undone = undone.filter(|setting| left.iter().all(|(of, _)| of != setting));
    let undone: Vec<Setting> = undone.collect();
    for setting in &undone {
        let setting = setting.clone();
        journal.take(Line::Undone { setting });
    }
    undone
}

/// Writes what is left; a plan without any change left is none. Without room for a second journal the `undone` are added to
/// the first; they are taken once they are in it.
fn save_rest(state: &State, journal: &Journal, undone: &mut Vec<Setting>) -> io::Result<()> {
    let saved = if journal.entries.is_empty() {
        state.remove()
    } else {
        let lines = text(&journal.lines()).map_err(io::Error::other);
        lines.and_then(|lines| state.replace(&lines))
    };
    saved.or_else(|error| {
        let lines = undone.iter().cloned();
        let mut lines: Vec<Line> = lines.map(|setting| Line::Undone { setting }).collect();
        lines.push(Line::Reverting {
            settings: Vec::new(),
        });
        mark(state, &lines).map_err(|_| error)
    })?;
    undone.clear();
    Ok(())
}

/// Refuses a journal whose devices would be looked for in the wrong namespace, and taken for gone.
pub(super) fn is_here(journal: &Journal, own: &Identity) -> Result<(), ApplyError> {
    match journal.elsewhere(own) {
        Some((of, here)) if journal.names_devices() => Err(ApplyError::OtherNetns { of, here }),
        _ => Ok(()),
    }
}

/// The journal in `state`, if it is of this boot or can be understood.
pub(super) fn load_on(state: &State, own: &Identity) -> Result<Option<Journal>, ApplyError> {
    read(state, |text| Journal::parse_on(text, own))
}

/// The journal in `state`.
pub(super) fn load(state: &State) -> Result<Option<Journal>, ApplyError> {
    read(state, Journal::parse)
}

fn read(
    state: &State,
    parse: impl Fn(&str) -> Result<Journal, JournalError>,
) -> Result<Option<Journal>, ApplyError> {
    let fail = |why: String| ApplyError::Journal {
        path: state.journal().display().to_string(),
        why,
    };
    let text = state
        .load()
        .map_err(|error| fail(format!("cannot read the journal: {error}")))?;
    let journal = text.map(|text| parse(&text)).transpose();
    journal.map_err(|error| {
        fail(format!(
            "{error}; put back by hand what it tells, then remove it"
        ))
    })
}

pub(super) fn mark(state: &State, lines: &[Line]) -> io::Result<()> {
    let lines = text(lines).map_err(io::Error::other)?;
    state.append(&lines)
}
