//! What `cargo xtask vm-test` and the first process of its VM tell each other.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where the guest finds its [`Task`], as JSON.
pub const TASK_FILE: &str = "/etc/vm-test.json";

/// Where the guest writes its [`Record`]s, one JSON object a line: the second serial port, which QEMU writes to a
/// file. Its driver is built into every kernel, unlike that of a virtio port.
pub const RESULTS_DEVICE: &str = "/dev/ttyS1";

/// Directory of the guest: what a scenario leaves there is handed out as [`Record::File`].
pub const KEPT: &str = "/tmp/kept";

/// How often the guest says that it lives, seconds.
pub const ALIVE_EVERY_SECONDS: u64 = 2;

/// Scenarios that want a machine of their own, booted with further kernel arguments: how their names begin, and the
/// arguments.
const BOOTS: &[(&str, &str)] = &[
    ("under_lockdown_", "lockdown=confidentiality"),
    // On four CPUs, Redis on one of the two near the card leaves one for its interrupts: nothing could be spread.
    ("the_cure_", "tracer.cpus=8"),
    ("the_incident_", "tracer.cpus=8"),
];

/// Scenarios that one kernel can answer for all: parts of their names.
pub const ON_ONE_KERNEL: &[&str] = &[
    // What happens in user space only.
    "a_duration_of_nothing",
    "a_full_disk_ends",
    "a_killed_run_is_reported",
    "a_reader_that_goes_away",
    "a_recording_is_reported",
    "a_ring_size_that_cannot_be",
    "a_run_opens_no_descriptors",
    "a_second_ctrl_c",
    "an_unknown_interface",
    "compare_sees",
    "ctrl_c_during_the_start",
    "nothing_remains_after_many_runs",
    "run_plan_apply_and_revert",
    "sigterm_ends",
    "the_second_tune",
    "tune_reverts_the_rest_when_a_device_is_gone",
    "tune_applies_nothing_without_room",
    "tune_killed_at_any_step",
    "tune_takes_back_by_itself",
    "tune_takes_back_what_came_before",
    "what_tune_applies_it_reverts",
    // What a diagnosis makes of numbers that other scenarios compare on every kernel.
    "a_backlog_that_a_virtual_device_fills",
    "a_counter_that_no_drop_explains",
    "a_cpu_that_net_rx_fills",
    "a_full_accept_queue",
    "a_full_connection_table",
    "a_healthy_busy_host",
    "a_real_time_task",
    "the_cure_",
    "the_incident_",
    "tune_tells_irqbalance",
    // What a virtual device shows, and another scenario with a card, or with the same hooks, on every kernel.
    "a_busy_process_with_a_socket",
    "a_device_made_in_the_place",
    "a_device_that_moves",
    "a_drop_from_tcps_out_of_order_queue",
    "a_forced_net_rx_action",
    "a_full_drop_table",
    "a_full_ring",
    "a_namespace_that_disappears_in_a_run",
    "a_renamed_device",
    "a_user_without_capabilities",
    "drops_at_a_full_backlog",
    "drops_outside_the_interface",
    "hidden_names",
    "net_rx_runs_per_cpu",
    "the_budget_that_ends",
    "the_detail_rate_limits",
    "the_time_limit_that_ends",
    "the_topology_of_a_namespace",
    "two_tracers_at_once",
    "udp_counters_of_the_namespace",
    "without_the_end_of_softirqs",
];

/// Whether the scenario `name` says little about the kernel that it runs on.
#[must_use]
pub fn is_on_one_kernel(name: &str) -> bool {
    ON_ONE_KERNEL.iter().any(|part| name.contains(part))
}

/// CPUs of a machine booted with these arguments: the kernel ignores `tracer.cpus=N`, which is for QEMU.
#[must_use]
pub fn cpus(kernel_arguments: &str) -> u32 {
    let mut words = kernel_arguments.split_whitespace();
    let wanted = words.find_map(|word| word.strip_prefix("tracer.cpus=")?.parse().ok());
    wanted.unwrap_or(4)
}

/// Kernel arguments of the machine that the scenario `name` runs in; empty for most.
#[must_use]
pub fn kernel_arguments(name: &str) -> &'static str {
    let boot = BOOTS.iter().find(|(begin, _)| name.starts_with(begin));
    boot.map_or("", |(_, arguments)| arguments)
}

/// What the guest has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Names of scenarios, or parts of names; empty: all.
    pub scenarios: Vec<String>,
    /// Modules to load before the first scenario.
    pub modules: Vec<String>,
    /// The scenarios print what they saw.
    pub verbose: bool,
    /// What the machine was booted with, of [`kernel_arguments`]: other scenarios are another machine's.
    pub kernel_arguments: String,
    /// Without those of which another kernel of the matrix answers: [`is_on_one_kernel`].
    pub every_kernel_only: bool,
}

impl Task {
    /// Whether the scenario `name` is asked for.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.kernel_arguments == kernel_arguments(name)
            && !(self.every_kernel_only && is_on_one_kernel(name))
            && (self.scenarios.is_empty()
                || self.scenarios.iter().any(|wanted| name.contains(wanted)))
    }

    /// Reads [`TASK_FILE`].
    pub fn read(path: impl AsRef<Path>) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        serde_json::from_str(&text).map_err(std::io::Error::other)
    }
}

/// How a scenario ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should.
    Pass,
    /// Not as it should.
    Fail,
    /// This kernel or machine lacks what it is about.
    Skip,
}

/// One line of the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// The guest is up.
    Boot {
        /// As `uname -r` says.
        kernel: String,
        /// Since the kernel began.
        seconds: f64,
        /// Things that did not work, but need not matter.
        warnings: Vec<String>,
        /// Names of the scenarios that it is going to run.
        scenarios: Vec<String>,
    },
    /// A scenario begins.
    Start {
        /// Its name.
        scenario: String,
    },
    /// The guest lives, every [`ALIVE_EVERY_SECONDS`].
    Alive,
    /// A scenario has ended.
    Result {
        /// Its name.
        scenario: String,
        /// How.
        outcome: Outcome,
        /// Why it failed or was skipped.
        reason: Option<String>,
        /// How long it ran.
        seconds: f64,
        /// The end of what it printed.
        log: String,
    },
    /// A file that a scenario left in [`KEPT`].
    File {
        /// Its name there.
        name: String,
        /// What it contains.
        text: String,
    },
    /// All scenarios have ended; power goes off.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record::Result {
            scenario: "a".to_owned(),
            outcome: Outcome::Skip,
            reason: Some("no igb".to_owned()),
            seconds: 0.5,
            log: String::new(),
        };
        let line = serde_json::to_string(&record).unwrap();
        assert!(line.contains(r#""kind":"result""#) && line.contains(r#""outcome":"skip""#));
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }

    #[test]
    fn a_task_without_names_wants_all_and_one_with_a_part_of_a_name_those() {
        assert!(Task::default().wants("a_drop"));
        let task = Task {
            scenarios: vec!["drop".to_owned()],
            ..Task::default()
        };
        assert!(task.wants("a_drop") && !task.wants("an_irq"));
    }

    #[test]
    fn a_scenario_that_needs_kernel_arguments_runs_in_a_machine_booted_with_them_only() {
        let name = "under_lockdown_it_works";
        let booted = Task {
            kernel_arguments: kernel_arguments(name).to_owned(),
            ..Task::default()
        };
        assert!(booted.wants(name) && !booted.wants("a_drop"));
        assert!(!Task::default().wants(name));
    }
}
