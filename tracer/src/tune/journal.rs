//! What was changed and what it was before: JSON lines, written and synced before the first change.
//!
//! The first line tells the boot, `plan` begins a plan, `change` is one setting of it, `done` says that all of them were
//! made. `undone` takes the newest change of a setting back, `restored` all of them; `reverting` tells what a revert is
//! about to restore that its own writes may disturb meanwhile. A last line that was cut off is passed over.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{baseline::Baseline, identity::Identity};
use crate::model::setting::{Setting, share_a_handler};

/// Version of the meaning of the lines.
const SCHEMA: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Journal {
        /// Version.
        schema: u32,
        /// With another boot, the changes are gone.
        boot_id: Option<String>,
        /// Inode number of the network namespace that the devices are in.
        #[serde(default)]
        netns: Option<u64>,
    },
    /// A plan begins.
    Plan {
        /// [`Plan::id`](super::plan::Plan::id).
        id: String,
        /// When, ns since the Unix epoch.
        time_unix_ns: u64,
        /// What was lost before it.
        baseline: Baseline,
    },
    /// A setting that the plan changes.
    Change {
        /// What.
        setting: Setting,
        /// Before the first plan that changed it.
        original: String,
        /// Before this plan.
        before: String,
        /// New value.
        to: String,
    },
    /// Every change of the last plan was made.
    Done {
        /// When, ns since the Unix epoch.
        time_unix_ns: u64,
    },
    /// The newest change of this setting was taken back.
    Undone {
        /// What.
        setting: Setting,
    },
    /// A revert begins that restores a ring or channels, which undo some of these: whatever they are, it is its doing.
    Reverting {
        /// What.
        settings: Vec<Setting>,
    },
    /// The setting has its original value again.
    Restored {
        /// What.
        setting: Setting,
        /// When, ns since the Unix epoch.
        time_unix_ns: u64,
    },
}

/// A setting that is not as it originally was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What.
    pub setting: Setting,
    /// Before the first change.
    pub original: String,
    /// Each change: value before and after, the newest last.
    pub values: Vec<(String, String)>,
}

impl Entry {
    /// The value that it should have now.
    #[must_use]
    pub fn wanted(&self) -> &str {
        self.values
            .last()
            .map_or(self.original.as_str(), |(_, to)| to)
    }

    /// Whether `now` is a value that tracer found or left there, or what CPUs going offline have made of it.
    #[must_use]
    pub fn is_ours(&self, now: &str, online: Option<&BTreeSet<u32>>) -> bool {
        let values = self.values.iter().flat_map(|(before, to)| [before, to]);
        let mut known: Vec<&str> = values.map(String::as_str).collect();
        known.push(&self.original);
        let is_left = |value: &&str| self.setting.same_online(value, now, online);
        self.setting.is_one_of(&known, now) || known.iter().any(is_left)
    }
}

/// A plan in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Begun {
    /// Its name.
    pub id: String,
    /// When, ns since the Unix epoch.
    pub time_unix_ns: u64,
    /// What was lost before it.
    pub baseline: Baseline,
    /// All of its changes were made.
    pub done: bool,
}

/// The journal, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The boot that the changes were made in.
    pub boot_id: Option<String>,
    /// The network namespace that they were made in.
    pub netns: Option<u64>,
    /// In the order in which they were applied.
    pub plans: Vec<Begun>,
    /// In the order of their first change.
    pub entries: Vec<Entry>,
    /// Those that a revert began to restore, and was killed perhaps.
    pub reverting: Vec<Setting>,
}

/// The journal cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct JournalError {
    line: usize,
    why: String,
}

impl Journal {
    /// Parses the lines.
    pub fn parse(text: &str) -> Result<Self, JournalError> {
        let mut journal = Self::default();
        // What follows the last end of a line was cut off.
        let whole = text.rfind('\n').and_then(|end| text.get(..end));
        for (at, line) in whole.unwrap_or_default().lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|error| JournalError {
                line: at + 1,
                why: error.to_string(),
            })?;
            check(&line).map_err(|why| JournalError { line: at + 1, why })?;
            journal.take(line);
        }
        Ok(journal)
    }

    /// Parses the lines. A journal of another boot than `own` is one without entries if it cannot be understood: nothing
    /// of it is in force any more.
    pub fn parse_on(text: &str, own: &Identity) -> Result<Self, JournalError> {
        Self::parse(text).or_else(|error| {
            let first = Self::first(text);
            first
                .filter(|journal| journal.is_of_another_boot(own))
                .ok_or(error)
        })
    }

    /// What the first line alone tells, of whatever version.
    fn first(text: &str) -> Option<Self> {
        let line = text.split_once('\n')?.0;
        let line = serde_json::from_str(line).ok()?;
        let mut journal = Self::default();
        journal.take(line);
        Some(journal)
    }

    /// What the line means.
    pub fn take(&mut self, line: Line) {
        match line {
            Line::Journal { boot_id, netns, .. } => {
                self.boot_id = boot_id;
                self.netns = netns;
            }
            Line::Plan {
                id,
                time_unix_ns,
                baseline,
            } => {
                // What is changed from here on is not the doing of a revert before it.
                self.reverting.clear();
                self.plans.push(Begun {
                    id,
                    time_unix_ns,
                    baseline,
                    done: false,
                });
            }
            Line::Change {
                setting,
                original,
                before,
                to,
            } => {
                let known = self.entries.iter_mut().find(|e| e.setting == setting);
                match known {
                    Some(entry) => entry.values.push((before, to)),
                    None => self.entries.push(Entry {
                        setting,
                        original,
                        values: vec![(before, to)],
                    }),
                }
            }
            Line::Done { .. } => {
                if let Some(plan) = self.plans.last_mut() {
                    plan.done = true;
                }
            }
            Line::Undone { setting } => {
                for entry in self.entries.iter_mut().filter(|e| e.setting == setting) {
                    entry.values.pop();
                }
                self.entries.retain(|entry| !entry.values.is_empty());
            }
            Line::Reverting { settings } => self.reverting = settings,
            Line::Restored { setting, .. } => self.entries.retain(|e| e.setting != setting),
        }
    }

    /// Every line that it takes to say the same again.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = vec![Line::Journal {
            schema: SCHEMA,
            boot_id: self.boot_id.clone(),
            netns: self.netns,
        }];
        for plan in &self.plans {
            lines.push(Line::Plan {
                id: plan.id.clone(),
                time_unix_ns: plan.time_unix_ns,
                baseline: plan.baseline,
            });
            if plan.done {
                lines.push(Line::Done {
                    time_unix_ns: plan.time_unix_ns,
                });
            }
        }
        for entry in &self.entries {
            for (before, to) in &entry.values {
                lines.push(Line::Change {
                    setting: entry.setting.clone(),
                    original: entry.original.clone(),
                    before: before.clone(),
                    to: to.clone(),
                });
            }
        }
        if !self.reverting.is_empty() {
            let settings = self.reverting.clone();
            lines.push(Line::Reverting { settings });
        }
        lines
    }

    /// Whether its changes are gone with another boot. A boot that cannot be told counts as the same: what was there
    /// before must not be forgotten.
    #[must_use]
    pub fn is_of_another_boot(&self, own: &Identity) -> bool {
        let boots = self.boot_id.as_ref().zip(own.boot_id.as_ref());
        boots.is_some_and(|(then, now)| then != now)
    }

    /// Inode numbers of its network namespace and of the present one, if these are known to differ: devices of the same
    /// name are others then.
    #[must_use]
    pub fn elsewhere(&self, own: &Identity) -> Option<(u64, u64)> {
        let both = self.netns.zip(own.netns);
        both.filter(|(of, here)| of != here)
    }

    /// Whether the value of `setting` may be the doing of a ring or channels: apply or a revert wrote these and was killed
    /// before it wrote the setting.
    #[must_use]
    pub fn is_disturbed(&self, setting: &Setting) -> bool {
        if self.reverting.contains(setting) {
            return true;
        }
        // A later plan that was made wholly does not write what an earlier one has left so.
        let is_cut_off = self.plans.iter().any(|plan| !plan.done);
        let mut entries = self.entries.iter();
        is_cut_off
            && setting.is_reset_with_its_device()
            && entries.any(|entry| entry.setting.resets_others())
    }

    /// Whether there are settings of devices in it, whose names mean something in one network namespace only.
    #[must_use]
    pub fn names_devices(&self) -> bool {
        self.entries.iter().any(|e| e.setting.device().is_some())
    }

    /// The first value of `setting`, if it was changed before; an earlier tracer knew an interrupt by its number alone.
    #[must_use]
    pub fn original(&self, setting: &Setting) -> Option<&str> {
        let of = |setting: &Setting| self.entries.iter().find(|entry| entry.setting == *setting);
        let of_irq = || {
            let irq = setting.irq()?;
            let is_it = |known: &&Entry| match (&known.setting, setting) {
                (
                    Setting::VectorAffinity { action, .. },
                    Setting::VectorAffinity { action: now, .. },
                ) => share_a_handler(action, now),
                _ => true,
            };
            let mut entries = self.entries.iter();
            entries.find(|known| known.setting.irq() == Some(irq) && is_it(known))
        };
        let entry = of(setting).or_else(of_irq)?;
        Some(&entry.original)
    }
}

/// Refuses what is no line of this tracer's: it would be written to the kernel.
fn check(line: &Line) -> Result<(), String> {
    match line {
        Line::Journal { schema, .. } if *schema > SCHEMA => Err(format!(
            "schema {schema} is newer than this tracer's {SCHEMA}"
        )),
        Line::Change {
            setting,
            original,
            before,
            to,
        } => [original, before, to]
            .into_iter()
            .try_for_each(|value| setting.check(value)),
        _ => Ok(()),
    }
}

/// The lines as the file has them.
pub(super) fn text(lines: &[Line]) -> serde_json::Result<String> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(original: &str, before: &str, to: &str) -> Line {
        Line::Change {
            setting: Setting::sysctl("net.core.netdev_budget"),
            original: original.into(),
            before: before.into(),
            to: to.into(),
        }
    }

    #[test]
    fn what_a_revert_disturbed_is_forgotten_with_the_next_plan_and_a_cut_off_plan_is_not() {
        let irq = Setting::IrqAffinity { irq: 24 };
        let ring = Setting::Ring {
            device: "eth0".into(),
        };
        let plan = |id: &str| Line::Plan {
            id: id.into(),
            time_unix_ns: 1,
            baseline: Baseline::default(),
        };
        let mut journal = Journal::default();
        let settings = vec![irq.clone()];
        journal.take(Line::Reverting { settings });
        assert!(journal.is_disturbed(&irq));
        journal.take(plan("a"));
        assert!(!journal.is_disturbed(&irq));
        journal.take(Line::Change {
            setting: ring,
            original: "256".into(),
            before: "256".into(),
            to: "512".into(),
        });
        journal.take(plan("b"));
        journal.take(Line::Done { time_unix_ns: 2 });
        assert!(journal.is_disturbed(&irq), "a was killed behind its ring");
    }

    #[test]
    fn the_first_original_is_kept_and_a_cut_line_passed_over() {
        let lines = [
            Line::Journal {
                schema: 1,
                boot_id: Some("a".into()),
                netns: None,
            },
            change("300", "300", "600"),
            change("300", "600", "1200"),
        ];
        let whole = text(&lines).unwrap();
        let journal = Journal::parse(&whole).unwrap();
        assert_eq!(journal.entries.len(), 1);
        assert_eq!(journal.entries[0].original, "300");
        assert_eq!(journal.entries[0].wanted(), "1200");
        let is_ours = |now| journal.entries[0].is_ours(now, None);
        assert!(is_ours("600") && !is_ours("900"));
        assert_eq!(
            Journal::parse(&text(&journal.lines()).unwrap()).unwrap(),
            journal
        );
        let cut = whole.trim_end();
        let cut = Journal::parse(&cut[..cut.len() - 4]).unwrap();
        assert_eq!(cut.entries[0].wanted(), "600");
        assert!(Journal::parse("{}\n").is_err());
    }

    #[test]
    fn a_damaged_journal_matters_in_its_own_boot_only() {
        let first = text(&[Line::Journal {
            schema: SCHEMA + 1,
            boot_id: Some("a".into()),
            netns: None,
        }])
        .unwrap();
        let here = |boot: &str| Identity {
            boot_id: Some(boot.into()),
            ..Identity::default()
        };
        for damaged in [format!("{first}\0\0\n"), first] {
            assert!(Journal::parse_on(&damaged, &here("a")).is_err());
            let stale = Journal::parse_on(&damaged, &here("b")).unwrap();
            assert!(stale.is_of_another_boot(&here("b")) && stale.entries.is_empty());
        }
        assert!(Journal::parse_on("{}\n", &here("b")).is_err());
    }

    #[test]
    fn the_original_of_an_interrupt_known_by_number_is_that_of_its_vector() {
        let mut journal = Journal::default();
        journal.take(Line::Change {
            setting: Setting::IrqAffinity { irq: 24 },
            original: "0-3".into(),
            before: "0-3".into(),
            to: "2".into(),
        });
        let line = r#"{"kind":"irq_affinity","irq":24}"#;
        assert_eq!(
            serde_json::to_string(&journal.entries[0].setting).unwrap(),
            line
        );
        let vector = |irq| Setting::VectorAffinity {
            irq,
            action: "eth0-rx-0".into(),
        };
        assert_eq!(journal.original(&vector(24)), Some("0-3"));
        assert_eq!(journal.original(&vector(25)), None);
    }

    #[test]
    fn a_line_that_tracer_would_not_write_is_refused() {
        let line = Line::Change {
            setting: Setting::sysctl("kernel.core_pattern"),
            original: "|/bin/sh".into(),
            before: "core".into(),
            to: "core".into(),
        };
        let error = Journal::parse(&text(&[line]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
        assert!(Journal::parse(&text(&[change("300", "many", "600")]).unwrap()).is_err());
    }
}
