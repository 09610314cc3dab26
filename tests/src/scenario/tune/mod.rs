//! `tracer tune` on the running kernel, in a namespace with one end of a veth pair.
//!
//! Asserts that recording, planning, applying, comparing and reverting go together and leave every file byte for byte as it
//! was ([`flow`]); that so does SIGKILL at any step of `apply` and of `revert`, a signal, a file that cannot be written, a
//! device that vanishes, a full disk, and another tracer at the same time ([`failure`]).

mod failure;
mod flow;
mod place;

use super::{Need, Scenario};

const NEEDS: &[Need] = &[Need::Root, Need::Cpus(2), Need::Program("ip")];

/// This directory's scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "what_tune_applies_it_reverts_byte_for_byte",
        needs: NEEDS,
        run: flow::there_and_back,
    },
    Scenario {
        name: "run_plan_apply_and_revert_leave_no_file_changed",
        needs: NEEDS,
        run: flow::in_one_go,
    },
    Scenario {
        name: "tune_takes_back_by_itself_what_made_it_worse",
        needs: NEEDS,
        run: flow::watched,
    },
    Scenario {
        name: "tune_killed_at_any_step_is_reverted",
        needs: NEEDS,
        run: failure::killed_at_any_step,
    },
    Scenario {
        name: "tune_takes_back_what_came_before_a_signal",
        needs: NEEDS,
        run: failure::signalled,
    },
    Scenario {
        name: "tune_takes_back_what_came_before_a_file_that_is_read_only",
        needs: NEEDS,
        run: failure::read_only,
    },
    Scenario {
        name: "tune_takes_back_what_came_before_a_device_that_vanishes",
        needs: NEEDS,
        run: failure::vanished,
    },
    Scenario {
        name: "tune_reverts_the_rest_when_a_device_is_gone",
        needs: NEEDS,
        run: failure::gone_before_revert,
    },
    Scenario {
        name: "tune_applies_nothing_without_room_for_its_journal",
        needs: NEEDS,
        run: failure::full_disk,
    },
    Scenario {
        name: "the_second_tune_is_told_who_is_the_first",
        needs: NEEDS,
        run: failure::two_at_once,
    },
];
