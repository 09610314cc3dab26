//! Plans applied to a made-up host, interrupted anywhere, and reverted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use proptest::prelude::*;

use super::{
    apply::{ApplyError, apply, load, withdraw},
    fault::Fault,
    host::{Host, SettingError},
    identity::Identity,
    plan::{Part, Plan, Planned, Step},
    revert::{Reverted, revert},
    state::State,
    status::{Standing, status},
};
use crate::{analyze::rules::mask, model::setting::Setting, proc::cpus::format_list};

/// Settings in memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Made {
    values: BTreeMap<Setting, String>,
    /// Written without an error and without an effect, as some drivers do.
    deaf: Option<Setting>,
    read_only: Option<Setting>,
    /// To write the first sets the second to this.
    resets: Option<(Setting, Setting, String)>,
    /// Is deaf after so many writes.
    tires: Option<(Setting, u32)>,
    /// Removed by every write: the journal.
    removes: Option<std::path::PathBuf>,
    /// CPUs that run; `None`: all.
    online: Option<BTreeSet<u32>>,
    /// A signal comes when this is written.
    signalled: Option<(Setting, Signal)>,
}

#[derive(Clone, Debug, Default)]
struct Signal(Arc<AtomicBool>);

impl PartialEq for Signal {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Host for Made {
    fn read(&mut self, setting: &Setting) -> Result<String, SettingError> {
        let value = self.values.get(setting).cloned();
        value.ok_or_else(|| SettingError::gone(setting))
    }

    fn write(&mut self, setting: &Setting, value: &str) -> Result<(), SettingError> {
        if self.read_only.as_ref() == Some(setting) {
            let error = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(SettingError::of(setting, "write", error));
        }
        if self.deaf.as_ref() == Some(setting) {
            return Ok(());
        }
        if let Some((of, signal)) = &self.signalled
            && of == setting
        {
            signal.0.store(true, Ordering::Relaxed);
        }
        let known = self.values.get_mut(setting);
        let known = known.ok_or_else(|| SettingError::gone(setting))?;
        if let Some(path) = &self.removes {
            let _ = std::fs::remove_file(path);
        }
        if let Some((of, left)) = &mut self.tires
            && of == setting
        {
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
        }
        let cpus = setting.cpus(value).unwrap_or_default();
        let left: Vec<u32> = match &self.online {
            Some(online) => cpus
                .iter()
                .copied()
                .filter(|cpu| online.contains(cpu))
                .collect(),
            None => cpus.clone(),
        };
        *known = match setting {
            // As the kernel does it, and prints it.
            Setting::RpsCpus { .. } => format!("{:0>8}", mask(&left)),
            Setting::Process { .. } if left.is_empty() => {
                let error = std::io::Error::from_raw_os_error(libc::EINVAL);
                return Err(SettingError::of(setting, "write", error));
            }
            Setting::Process { .. } if left != cpus => format_list(&left),
            Setting::RpsFlowCount { .. } => match value.parse::<u32>().unwrap() {
                0 => value.to_owned(),
                entries => entries.next_power_of_two().to_string(),
            },
            _ => value.to_owned(),
        };
        if let Some((of, other, to)) = &self.resets
            && of == setting
        {
            self.values.insert(other.clone(), to.clone());
        }
        Ok(())
    }

    fn online(&mut self) -> Option<BTreeSet<u32>> {
        self.online.clone()
    }
}

fn backlog() -> Setting {
    Setting::sysctl("net.core.netdev_max_backlog")
}

fn irq(irq: u32) -> Setting {
    Setting::IrqAffinity { irq }
}

fn rps() -> Setting {
    Setting::RpsCpus {
        device: "eth0".into(),
        queue: 0,
    }
}

fn redis() -> Setting {
    Setting::Process {
        pid: 812,
        name: "redis-server".into(),
        start: None,
    }
}

fn made() -> Made {
    let values = [
        (backlog(), "8"),
        (irq(24), "0-3"),
        (irq(25), "0"),
        (rps(), "00000001"),
        (redis(), "0-3 812=0-3 813=1"),
    ];
    Made {
        values: values
            .map(|(setting, value)| (setting, value.to_owned()))
            .into(),
        ..Made::default()
    }
}

fn own() -> Identity {
    Identity {
        hostname: "db7".into(),
        kernel: "6.12".into(),
        boot_id: Some("this".into()),
        ..Identity::default()
    }
}

/// A plan of these changes, from what `host` has.
fn plan_of(host: &Made, changes: &[(Setting, &str)]) -> Plan {
    let change = |(setting, to): &(Setting, &str)| Planned {
        setting: setting.clone(),
        from: host.values.get(setting).cloned(),
        to: (*to).to_owned(),
    };
    let step = Step {
        part: Part::Backlog,
        title: String::new(),
        why: String::new(),
        finding: String::new(),
        effect: String::new(),
        risk: None,
        changes: changes.iter().map(change).collect(),
    };
    Plan {
        kind: "plan".into(),
        schema: 1,
        id: "7".into(),
        host: own(),
        steps: vec![step],
        ..Plan::default()
    }
}

fn usual(host: &Made) -> Plan {
    plan_of(
        host,
        &[
            (backlog(), "1000"),
            (irq(24), "2"),
            (irq(25), "3"),
            (rps(), "0"),
            (redis(), "1"),
        ],
    )
}

fn apply_it(
    host: &mut Made,
    state: &State,
    plan: &Plan,
) -> Result<super::apply::Applied, ApplyError> {
    apply(
        host,
        state,
        plan,
        &own(),
        1,
        &AtomicBool::new(false),
        &mut Fault::default(),
    )
}

fn revert_it(host: &mut Made, state: &State, force: bool) -> Option<Reverted> {
    revert(host, state, &own(), force, 2, &mut Fault::default()).unwrap()
}

fn directory() -> (tempfile::TempDir, State) {
    let directory = tempfile::tempdir().unwrap();
    let state = State::at(directory.path().join("state"));
    (directory, state)
}

#[test]
fn revert_brings_every_value_back_and_removes_the_journal() {
    let (_directory, state) = directory();
    let (before, mut host) = (made(), made());
    let applied = apply_it(&mut host, &state, &usual(&before)).unwrap();
    assert_eq!(applied.changed.len(), 5);
    assert_eq!(host.values[&irq(24)], "2");
    let told = status(&mut host, &state, &own()).unwrap().unwrap();
    assert!(told.settings.iter().all(|s| s.state == Standing::Applied));
    assert!(told.plans[0].done);
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert_eq!(reverted.restored.len(), 5);
    assert_eq!(host, before);
    assert_eq!(revert_it(&mut host, &state, false), None);
    assert_eq!(status(&mut host, &state, &own()).unwrap(), None);
}

#[test]
fn a_flow_table_that_the_kernel_rounds_up_is_no_failure() {
    let (_directory, state) = directory();
    let flows = Setting::RpsFlowCount {
        device: "eth0".into(),
        queue: 0,
    };
    let mut host = made();
    host.values.insert(flows.clone(), "0".into());
    let before = host.clone();
    let plan = plan_of(&host, &[(flows.clone(), "10922")]);
    let applied = apply_it(&mut host, &state, &plan).unwrap();
    assert_eq!(applied.changed.len(), 1);
    assert_eq!(host.values[&flows], "16384");
    let told = status(&mut host, &state, &own()).unwrap().unwrap();
    assert_eq!(told.settings[0].state, Standing::Applied);
    assert!(revert_it(&mut host, &state, false).unwrap().is_complete());
    assert_eq!(host, before);
}

#[test]
fn the_journal_is_for_root_only() {
    use std::os::unix::fs::MetadataExt as _;
    let (_directory, state) = directory();
    let mut host = made();
    apply_it(&mut host.clone(), &state, &usual(&host)).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&state.journal()), 0o600);
    assert_eq!(mode(state.journal().parent().unwrap()), 0o700);
    revert_it(&mut host, &state, false);
}

#[test]
fn the_first_original_outlives_a_second_apply() {
    let (_directory, state) = directory();
    let (before, mut host) = (made(), made());
    apply_it(&mut host, &state, &usual(&before)).unwrap();
    let second = plan_of(&host, &[(backlog(), "2000"), (irq(24), "1")]);
    apply_it(&mut host, &state, &second).unwrap();
    assert_eq!(host.values[&backlog()], "2000");
    // The same again has nothing left to do.
    let again = apply_it(&mut host, &state, &second).unwrap();
    assert!(again.changed.is_empty() && again.already.len() == 2);
    revert_it(&mut host, &state, false);
    assert_eq!(host, before);
}

#[test]
fn a_second_plan_keeps_the_bans_of_the_first() {
    let (_directory, state) = directory();
    let mut host = made();
    let bans = Setting::IrqbalanceBans { pid: 600 };
    host.values.insert(bans.clone(), "9".into());
    let before = host.clone();
    let banned = |irqs| {
        let mut plan = plan_of(&before, &[(bans.clone(), irqs)]);
        plan.steps[0].changes[0].from = None;
        plan
    };
    apply_it(&mut host, &state, &banned("24 25")).unwrap();
    assert_eq!(host.values[&bans], "9 24 25");
    let second = apply_it(&mut host, &state, &banned("26")).unwrap();
    assert_eq!(host.values[&bans], "9 24 25 26");
    let again = apply_it(&mut host, &state, &banned("24 26")).unwrap();
    assert_eq!(again.already, std::slice::from_ref(&bans));
    assert!(withdraw(&mut host, &state, &second).unwrap().is_complete());
    assert_eq!(host.values[&bans], "9 24 25");
    assert!(revert_it(&mut host, &state, false).unwrap().is_complete());
    assert_eq!(host, before);
}

#[test]
fn a_plan_that_is_withdrawn_leaves_the_one_before_it() {
    let (_directory, state) = directory();
    let (before, mut host) = (made(), made());
    apply_it(&mut host, &state, &usual(&before)).unwrap();
    let first = host.clone();
    let second = plan_of(&host, &[(backlog(), "2000"), (irq(24), "1")]);
    let applied = apply_it(&mut host, &state, &second).unwrap();
    assert!(withdraw(&mut host, &state, &applied).unwrap().is_complete());
    assert_eq!(host, first);
    revert_it(&mut host, &state, false);
    assert_eq!(host, before);
}

#[test]
fn a_failure_in_the_middle_is_named_and_everything_is_taken_back() {
    let cases: [fn(&mut Made); 3] = [
        |host| host.read_only = Some(irq(25)),
        |host| host.deaf = Some(irq(25)),
        |host| host.read_only = Some(backlog()),
    ];
    for spoil in cases {
        let (_directory, state) = directory();
        let mut host = made();
        spoil(&mut host);
        let before = host.clone();
        let error = apply_it(&mut host, &state, &usual(&before)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ApplyError::Failed { .. }), "{text}");
        assert!(text.contains("/proc/"), "{text}");
        assert!(text.contains("the host is as it was"), "{text}");
        assert_eq!(host, before);
        assert_eq!(load(&state).unwrap(), None);
    }
}

/// A ring whose driver gives the vectors other CPUs when it changes.
fn with_ring() -> (Made, Setting) {
    let ring = Setting::Ring {
        device: "eth0".into(),
    };
    let mut host = made();
    host.values.insert(ring.clone(), "512".into());
    host.resets = Some((ring.clone(), irq(24), "1".into()));
    (host, ring)
}

#[test]
fn what_a_new_ring_undoes_is_restored_once_more() {
    let (before, ring) = with_ring();
    let plan = plan_of(&before, &[(ring.clone(), "1024"), (irq(24), "2")]);
    for withdrawn in [true, false] {
        let (_directory, state) = directory();
        let mut host = before.clone();
        let applied = apply_it(&mut host, &state, &plan).unwrap();
        assert_eq!(host.values[&irq(24)], "2");
        let reverted = if withdrawn {
            withdraw(&mut host, &state, &applied).unwrap()
        } else {
            revert_it(&mut host, &state, false).unwrap()
        };
        assert!(
            reverted.is_complete() && reverted.restored.len() == 2,
            "{reverted:?}"
        );
        assert_eq!(host, before);
        assert_eq!(load(&state).unwrap(), None);
    }
    let (_directory, state) = directory();
    let mut host = before.clone();
    host.read_only = Some(backlog());
    let plan = plan_of(&before, &[(ring, "1024"), (irq(24), "2"), (backlog(), "9")]);
    let error = apply_it(&mut host, &state, &plan).unwrap_err().to_string();
    assert!(
        error.contains("2 changes before it taken back, the host"),
        "{error}"
    );
    assert_eq!(host.values, before.values);
    assert_eq!(load(&state).unwrap(), None);
}

#[test]
fn what_a_ring_undid_behind_the_failure_is_restored_too() {
    let (before, ring) = with_ring();
    let changes = [(ring, "1024"), (irq(25), "3"), (irq(24), "2")];
    let plan = plan_of(&before, &changes);
    let (_directory, state) = directory();
    let mut host = before.clone();
    host.read_only = Some(irq(25));
    apply_it(&mut host, &state, &plan).unwrap_err();
    assert_eq!(host.values, before.values);
    assert_eq!(load(&state).unwrap(), None);
}

#[test]
fn what_does_not_stay_restored_is_named_and_kept_in_the_journal() {
    let (before, ring) = with_ring();
    let plan = plan_of(&before, &[(ring, "1024"), (irq(24), "2")]);
    for withdrawn in [true, false] {
        let (_directory, state) = directory();
        let mut host = before.clone();
        host.tires = Some((irq(24), 2));
        let applied = apply_it(&mut host, &state, &plan).unwrap();
        let reverted = if withdrawn {
            withdraw(&mut host, &state, &applied).unwrap()
        } else {
            revert_it(&mut host, &state, false).unwrap()
        };
        let why = reverted.failed.join("\n");
        assert!(
            why.contains("irq/24/smp_affinity_list: 0-3 does not stay"),
            "{why}"
        );
        assert_eq!(reverted.restored.len(), 1);
        let journal = load(&state).unwrap().unwrap();
        assert_eq!(journal.entries.len(), 1);
        assert_eq!(journal.original(&irq(24)), Some("0-3"));
    }
}

fn bans() -> Setting {
    Setting::IrqbalanceBans { pid: 600 }
}

#[test]
fn bans_are_kept_until_the_vectors_are_back() {
    let mut before = made();
    before.values.insert(bans(), String::new());
    let plan = plan_of(&before, &[(bans(), "24"), (irq(24), "2")]);
    for withdrawn in [true, false] {
        let (_directory, state) = directory();
        let mut host = before.clone();
        let applied = apply_it(&mut host, &state, &plan).unwrap();
        host.read_only = Some(irq(24));
        let reverted = if withdrawn {
            withdraw(&mut host, &state, &applied).unwrap()
        } else {
            revert_it(&mut host, &state, false).unwrap()
        };
        assert_eq!(host.values[&bans()], "24", "{reverted:?}");
        let why = reverted.failed.join("\n");
        assert!(why.contains("kept until the vectors are back"), "{why}");
        assert_eq!(load(&state).unwrap().unwrap().entries.len(), 2);

        host.read_only = None;
        assert!(revert_it(&mut host, &state, false).unwrap().is_complete());
        assert_eq!(host, before);
        assert_eq!(load(&state).unwrap(), None);
    }
}

#[test]
fn a_revert_that_is_killed_anywhere_is_finished_by_the_next() {
    // A ring that undoes a vector, and an irqbalance that moves one as soon as it may.
    let (with_ring, ring) = with_ring();
    let plan_with_ring = plan_of(&with_ring, &[(ring, "1024"), (irq(24), "2")]);
    let mut with_bans = made();
    with_bans.values.insert(bans(), String::new());
    let changes = [
        (backlog(), "9"),
        (bans(), "24 25"),
        (irq(24), "2"),
        (irq(25), "3"),
    ];
    let plan_with_bans = plan_of(&with_bans, &changes);
    for (before, plan) in [(with_ring, plan_with_ring), (with_bans, plan_with_bans)] {
        for at in 0..12 {
            let (_directory, state) = directory();
            let mut host = before.clone();
            apply_it(&mut host, &state, &plan).unwrap();
            if before.resets.is_none() {
                host.resets = Some((bans(), irq(24), "1".into()));
            }
            let killed = revert(&mut host, &state, &own(), false, 2, &mut Fault::gentle(at));
            if killed.is_err() {
                let reverted = revert_it(&mut host, &state, false);
                let foreign = reverted.map(|reverted| reverted.foreign);
                assert_eq!(foreign.unwrap_or_default(), [], "killed at {at}");
            }
            // What irqbalance does without bans is its own affair.
            if before.resets.is_none() {
                host.values.insert(irq(24), "0-3".into());
            }
            assert_eq!(host.values, before.values, "killed at {at}");
            assert_eq!(load(&state).unwrap(), None);
        }
    }
}

#[test]
fn an_apply_that_was_killed_behind_a_ring_is_reverted() {
    let (before, ring) = with_ring();
    let plan = plan_of(&before, &[(ring, "1024"), (irq(24), "2")]);
    let (_directory, state) = directory();
    let mut host = before.clone();
    let (stop, mut fault) = (AtomicBool::new(false), Fault::gentle(1));
    apply(&mut host, &state, &plan, &own(), 1, &stop, &mut fault).unwrap_err();
    assert_eq!(host.values[&irq(24)], "1");
    assert!(revert_it(&mut host, &state, false).unwrap().is_complete());
    assert_eq!(host.values, before.values);
}

#[test]
fn vectors_that_irqbalance_moves_after_its_bans_are_no_failure() {
    let (_directory, state) = directory();
    let mut host = made();
    host.values.insert(bans(), String::new());
    let plan = plan_of(&host, &[(bans(), "24"), (irq(24), "2")]);
    let applied = apply_it(&mut host, &state, &plan).unwrap();
    host.resets = Some((bans(), irq(24), "1".into()));
    let reverted = withdraw(&mut host, &state, &applied).unwrap();
    assert!(
        reverted.is_complete() && reverted.restored.len() == 2,
        "{reverted:?}"
    );
    assert_eq!(load(&state).unwrap(), None);
}

#[test]
fn what_was_put_back_is_looked_at_again_only_where_a_ring_was() {
    let (_directory, state) = directory();
    let before = made();
    let mut host = before.clone();
    apply_it(&mut host, &state, &usual(&before)).unwrap();
    // The process moves a thread itself, just after it was put back.
    host.resets = Some((backlog(), redis(), "3".into()));
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert!(reverted.is_complete(), "{reverted:?}");
    assert_eq!(host.values[&redis()], "3");
}

#[test]
fn cpus_that_go_offline_are_no_drift_and_keep_nothing_from_being_withdrawn() {
    let (_directory, state) = directory();
    let mut host = made();
    host.values.insert(rps(), "0000000f".into());
    let plan = plan_of(&host, &[(rps(), "e")]);
    let applied = apply_it(&mut host, &state, &plan).unwrap();
    host.online = Some([0, 1].into());
    host.values.insert(rps(), "00000002".into());
    let told = status(&mut host, &state, &own()).unwrap().unwrap();
    assert_eq!(told.settings[0].state, Standing::Applied);
    assert!(withdraw(&mut host, &state, &applied).unwrap().is_complete());
    assert_eq!(host.values[&rps()], "00000003");
}

#[test]
fn an_offline_cpu_of_a_thread_that_ended_keeps_nothing_from_being_restored() {
    let (_directory, state) = directory();
    let mut host = made();
    host.values.insert(redis(), "0-3 812=0-3 813=2".into());
    let plan = plan_of(&host, &[(redis(), "1")]);
    apply_it(&mut host, &state, &plan).unwrap();
    host.values.insert(redis(), "1 812=1".into());
    host.online = Some([0, 1].into());
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert!(reverted.is_complete(), "{reverted:?}");
    assert_eq!(reverted.restored.len(), 1);
}

#[test]
fn a_signal_in_the_middle_takes_everything_back() {
    let (_directory, state) = directory();
    let mut host = made();
    let signal = Signal::default();
    host.signalled = Some((irq(24), signal.clone()));
    let before = host.clone();
    let (plan, mut fault) = (usual(&before), Fault::default());
    let done = apply(&mut host, &state, &plan, &own(), 1, &signal.0, &mut fault);
    let text = done.unwrap_err().to_string();
    assert!(text.starts_with("stopped by a signal; 2 changes"), "{text}");
    assert_eq!(host, before);
    assert_eq!(load(&state).unwrap(), None);
}

#[test]
fn devices_are_not_taken_for_gone_in_another_network_namespace() {
    let (_directory, state) = directory();
    let (before, mut host) = (made(), made());
    // What is of no device says nothing about where those of the next plan are.
    let elsewhere = Identity {
        netns: Some(6),
        ..own()
    };
    let mut first = plan_of(&before, &[(backlog(), "9")]);
    first.host = elsewhere.clone();
    let (stop, mut fault) = (AtomicBool::new(false), Fault::default());
    apply(&mut host, &state, &first, &elsewhere, 1, &stop, &mut fault).unwrap();
    let there = Identity {
        netns: Some(7),
        ..own()
    };
    let mut plan = usual(&host);
    plan.host = there.clone();
    apply(&mut host, &state, &plan, &there, 1, &stop, &mut fault).unwrap();
    let here = Identity {
        netns: Some(8),
        ..own()
    };
    let mut without = host.clone();
    without.values.remove(&rps());
    let mut fault = Fault::default();
    let refused = revert(&mut without, &state, &here, false, 2, &mut fault).unwrap_err();
    assert!(refused.to_string().contains("ip netns exec"), "{refused}");
    let told = status(&mut without, &state, &here).unwrap().unwrap();
    assert_eq!(told.netns, Some(7));
    let hidden = told.settings.iter();
    let hidden: Vec<_> = hidden
        .filter(|entry| entry.state == Standing::Hidden)
        .map(|entry| entry.setting.clone())
        .collect();
    assert_eq!(hidden, [rps()]);
    assert_eq!(told.settings[0].state, Standing::Applied);
    let again = plan_of(&before, &[(backlog(), "7")]);
    let again = apply(
        &mut before.clone(),
        &state,
        &again,
        &here,
        3,
        &stop,
        &mut fault,
    );
    assert!(matches!(again, Err(ApplyError::OtherNetns { .. })));
    revert(&mut host, &state, &there, false, 2, &mut fault).unwrap();
    assert_eq!(host, before);
}

#[test]
fn devices_of_another_network_namespace_are_not_written_to_by_force() {
    let (_directory, state) = directory();
    let (before, mut there) = (made(), made());
    let of = |netns| Identity {
        netns: Some(netns),
        ..own()
    };
    let mut plan = usual(&before);
    plan.host = of(7);
    let (stop, mut fault) = (AtomicBool::new(false), Fault::default());
    apply(&mut there, &state, &plan, &of(7), 1, &stop, &mut fault).unwrap();
    // The same host, but for a device that has the name here.
    let mut here = there.clone();
    here.values.insert(rps(), "0000000f".into());
    let reverted = revert(&mut here, &state, &of(8), true, 2, &mut fault);
    let reverted = reverted.unwrap().unwrap();
    assert_eq!(reverted.gone, [rps()]);
    assert_eq!(
        (here.values[&rps()].as_str(), reverted.restored.len()),
        ("0000000f", 4)
    );
    assert_eq!(load(&state).unwrap(), None);
}

#[test]
fn a_failed_second_plan_leaves_the_first_in_force() {
    let (_directory, state) = directory();
    let (before, mut host) = (made(), made());
    apply_it(&mut host, &state, &plan_of(&before, &[(backlog(), "1000")])).unwrap();
    let first = host.values.clone();
    host.read_only = Some(irq(24));
    let second = plan_of(&host, &[(backlog(), "2000"), (irq(24), "1")]);
    apply_it(&mut host, &state, &second).unwrap_err();
    assert_eq!(host.values, first);
    host.read_only = None;
    revert_it(&mut host, &state, false);
    assert_eq!(host, before);
}

#[test]
fn a_host_that_changed_since_the_plan_is_left_alone() {
    let (_directory, state) = directory();
    let mut host = made();
    let plan = usual(&host);
    host.write(&irq(24), "1").unwrap();
    let before = host.clone();
    let error = apply_it(&mut host, &state, &plan).unwrap_err().to_string();
    assert!(error.contains("smp_affinity_list is 1, was 0-3"), "{error}");
    assert_eq!(host, before);
    host.values.remove(&rps());
    let error = apply_it(&mut host, &state, &plan).unwrap_err().to_string();
    assert!(error.contains("rps_cpus: it is gone"), "{error}");
    let other = Identity {
        hostname: "db8".into(),
        ..own()
    };
    let stop = AtomicBool::new(false);
    let error = apply(
        &mut host,
        &state,
        &plan,
        &other,
        1,
        &stop,
        &mut Fault::default(),
    );
    assert!(matches!(error, Err(ApplyError::OtherHost(_))));
    assert_eq!(load(&state).unwrap(), None);
}

#[test]
fn interrupts_are_left_alone_unless_the_plan_is_of_this_boot() {
    let (_directory, state) = directory();
    let mut host = made();
    let bans = Setting::IrqbalanceBans { pid: 600 };
    host.values.insert(bans.clone(), String::new());
    let before = host.clone();
    for (setting, to) in [(irq(24), "2"), (bans, "24")] {
        let mut plan = plan_of(&host, &[(backlog(), "9"), (setting.clone(), to)]);
        plan.host.boot_id = None;
        let error = apply_it(&mut host, &state, &plan).unwrap_err();
        assert!(matches!(error, ApplyError::OtherBoot(_)), "{error}");
        assert!(error.to_string().contains(&setting.to_string()), "{error}");
        plan.host.boot_id = Some("last".into());
        let error = apply_it(&mut host, &state, &plan).unwrap_err();
        assert!(matches!(error, ApplyError::OtherHost(_)), "{error}");
    }
    assert_eq!(host, before);
    let mut plan = plan_of(&host, &[(backlog(), "9"), (rps(), "0")]);
    plan.host.boot_id = None;
    assert_eq!(apply_it(&mut host, &state, &plan).unwrap().changed.len(), 2);
}

#[test]
fn what_somebody_else_changed_is_left_and_named_unless_forced() {
    let (_directory, state) = directory();
    let (before, mut host) = (made(), made());
    apply_it(&mut host, &state, &usual(&before)).unwrap();
    host.write(&backlog(), "5000").unwrap();
    let told = status(&mut host, &state, &own()).unwrap().unwrap();
    assert_eq!(told.settings[0].state, Standing::Drifted);
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert_eq!(reverted.foreign.len(), 1);
    assert_eq!(host.values[&backlog()], "5000");
    assert_eq!(host.values[&irq(24)], "0-3");
    let forced = revert_it(&mut host, &state, true).unwrap();
    assert_eq!(forced.restored.len(), 1);
    assert_eq!(host, before);
    assert_eq!(load(&state).unwrap(), None);
}

#[test]
fn an_original_that_names_an_offline_cpu_is_restored_without_it() {
    let (_directory, state) = directory();
    let mut host = made();
    host.values.insert(rps(), "0000000e".into());
    host.values.insert(redis(), "0-3".into());
    let plan = plan_of(&host, &[(rps(), "1"), (redis(), "1")]);
    apply_it(&mut host, &state, &plan).unwrap();
    host.online = Some([0, 1].into());
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert!(reverted.is_complete(), "{reverted:?}");
    assert_eq!(
        (&host.values[&rps()][..], &host.values[&redis()][..]),
        ("00000002", "0-1")
    );
    assert_eq!(load(&state).unwrap(), None);
    // What an earlier tracer took for somebody else's.
    host.online = None;
    host.values.insert(redis(), "0-3".into());
    let plan = plan_of(&host, &[(redis(), "1")]);
    apply_it(&mut host, &state, &plan).unwrap();
    host.online = Some([0, 1].into());
    host.write(&redis(), "0-3").unwrap();
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert_eq!(reverted.already, [redis()]);
}

#[test]
fn an_original_without_an_online_cpu_is_named_and_forgotten_by_force() {
    let (_directory, state) = directory();
    let mut host = made();
    host.values.insert(rps(), "0000000c".into());
    host.values.insert(redis(), "0-3 812=0-3 813=2".into());
    let plan = plan_of(&host, &[(rps(), "1"), (redis(), "1")]);
    apply_it(&mut host, &state, &plan).unwrap();
    host.values.insert(redis(), "1 812=1 813=1".into());
    let applied = host.values.clone();
    host.online = Some([0, 1].into());
    let reverted = revert_it(&mut host, &state, false).unwrap();
    let why = reverted.failed.join("\n");
    assert!(why.contains("CPU 2-3, where it was, is offline"), "{why}");
    assert!(
        reverted.failed.len() == 2 && reverted.foreign.is_empty(),
        "{why}"
    );
    assert_eq!(load(&state).unwrap().unwrap().entries.len(), 2);
    let forced = revert_it(&mut host, &state, true).unwrap();
    assert_eq!(forced.given_up.len(), 2);
    assert_eq!((load(&state).unwrap(), &host.values), (None, &applied));
}

#[test]
fn what_is_gone_needs_no_restoring() {
    let (_directory, state) = directory();
    let mut host = made();
    apply_it(&mut host, &state, &usual(&made())).unwrap();
    host.values.remove(&redis());
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert_eq!(reverted.gone, [redis()]);
    assert!(reverted.is_complete());
}

#[test]
fn after_a_reboot_the_journal_is_forgotten_and_nothing_written() {
    let (_directory, state) = directory();
    let mut host = made();
    apply_it(&mut host, &state, &usual(&made())).unwrap();
    let rebooted = after_a_boot();
    let there = host.clone();
    let told = status(&mut host, &state, &rebooted).unwrap().unwrap();
    assert!(told.rebooted);
    assert!(forgets(&mut host, &state, &rebooted));
    assert_eq!(host, there);
    assert_eq!(load(&state).unwrap(), None);
}

fn after_a_boot() -> Identity {
    Identity {
        boot_id: Some("next".into()),
        ..own()
    }
}

/// Whether a revert says that the host was rebooted.
fn forgets(host: &mut Made, state: &State, own: &Identity) -> bool {
    let reverted = revert(host, state, own, false, 2, &mut Fault::default());
    reverted.unwrap().unwrap().rebooted
}

#[test]
fn a_damaged_journal_of_another_boot_blocks_nothing() {
    let (_directory, state) = directory();
    let rebooted = after_a_boot();
    let damage = |state: &State| {
        apply_it(&mut made(), state, &usual(&made())).unwrap();
        state.append("\0\0\n").unwrap();
    };
    damage(&state);
    let mut host = made();
    let error = revert(&mut host, &state, &own(), false, 2, &mut Fault::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("then remove it"), "{error}");
    assert!(
        status(&mut host, &state, &rebooted)
            .unwrap()
            .unwrap()
            .rebooted
    );
    assert!(forgets(&mut host, &state, &rebooted));
    assert_eq!((load(&state).unwrap(), &host), (None, &made()));
    damage(&state);
    let mut plan = usual(&host);
    plan.host = rebooted.clone();
    let stop = AtomicBool::new(false);
    let applied = apply(
        &mut host,
        &state,
        &plan,
        &rebooted,
        3,
        &stop,
        &mut Fault::default(),
    );
    assert!(applied.unwrap().forgot);
    assert_eq!(load(&state).unwrap().unwrap().entries.len(), 5);
}

#[test]
fn that_the_journal_cannot_be_marked_is_told() {
    let (_directory, state) = directory();
    let mut host = made();
    apply_it(&mut host, &state, &usual(&made())).unwrap();
    host.write(&backlog(), "5000").unwrap();
    host.removes = Some(state.journal());
    let reverted = revert_it(&mut host, &state, false).unwrap();
    assert!(reverted.unmarked.unwrap().contains("tune.journal"));
    assert_eq!((reverted.restored.len(), reverted.foreign.len()), (4, 1));
}

#[test]
fn a_boot_that_cannot_be_told_is_no_reboot() {
    let (_directory, state) = directory();
    let mut host = made();
    apply_it(&mut host, &state, &usual(&made())).unwrap();
    let unknown = Identity {
        boot_id: None,
        ..own()
    };
    let reverted = revert(&mut host, &state, &unknown, false, 2, &mut Fault::default());
    assert!(!reverted.unwrap().unwrap().rebooted);
    assert_eq!(host, made());
}

#[test]
fn without_room_for_the_journal_nothing_is_applied() {
    let (_directory, state) = directory();
    let mut host = made();
    // Not a directory: as unwritable for root as a full disk.
    std::fs::create_dir_all(state.journal().parent().unwrap().parent().unwrap()).unwrap();
    std::fs::write(state.journal().parent().unwrap(), "").unwrap();
    let error = apply_it(&mut host, &state, &usual(&made())).unwrap_err();
    assert!(matches!(error, ApplyError::Journal { .. }), "{error}");
    assert_eq!(host, made());
}

fn value_of(setting: &Setting) -> BoxedStrategy<String> {
    match setting {
        Setting::Sysctl { .. } => (1_u32..10_000).prop_map(|n| n.to_string()).boxed(),
        Setting::RpsCpus { .. } => (0_u32..256).prop_map(|n| format!("{n:x}")).boxed(),
        _ => (0_u32..64).prop_map(|n| n.to_string()).boxed(),
    }
}

/// Any changes of the made-up host.
fn any_changes() -> impl Strategy<Value = Vec<(Setting, String)>> {
    let settings: Vec<Setting> = made().values.into_keys().collect();
    let some = proptest::sample::subsequence(settings, 1..=5).prop_shuffle();
    some.prop_flat_map(|settings| {
        let each: Vec<_> = settings
            .into_iter()
            .map(|setting| value_of(&setting).prop_map(move |to| (setting.clone(), to)))
            .collect();
        each
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two plans, the second killed anywhere, then reverts killed anywhere until one comes through.
    #[test]
    fn however_it_is_interrupted_revert_brings_the_host_back(
        first in any_changes(), second in any_changes(), kill_apply in 0_u32..12, kills in prop::collection::vec(0_u32..12, 0..3),
    ) {
        let (_directory, state) = directory();
        let (before, mut host) = (made(), made());
        let borrow = |changes: &[(Setting, String)]| -> Vec<(Setting, String)> { changes.to_vec() };
        for (changes, fault) in [(borrow(&first), None), (borrow(&second), Some(kill_apply))] {
            let changes: Vec<(Setting, &str)> =
                changes.iter().map(|(setting, to)| (setting.clone(), to.as_str())).collect();
            let plan = plan_of(&host, &changes);
            let mut fault = fault.map_or_else(Fault::default, Fault::gentle);
            let stop = AtomicBool::new(false);
            let done = apply(&mut host, &state, &plan, &own(), 1, &stop, &mut fault);
            prop_assert!(matches!(done, Ok(_) | Err(ApplyError::Interrupted(_))), "{done:?}");
        }
        for at in kills {
            let _ = revert(&mut host, &state, &own(), false, 2, &mut Fault::gentle(at));
        }
        let last = revert_it(&mut host, &state, false);
        prop_assert!(last.is_none_or(|reverted| reverted.is_complete()));
        prop_assert_eq!(&host, &before);
        prop_assert_eq!(load(&state).unwrap(), None);
    }
}
