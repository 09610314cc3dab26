//! What devices and their drivers lost, apart: before any `sk_buff` exists there is nothing to trace.

use super::{super::devices::devices, Facts, untraced};
use crate::model::{
    report::{Device, Reconciliation},
    window::Window,
};

const MISSED: &str = "the NIC had no room; before any sk_buff exists nothing can be traced, the kernel's count is all there is";
const ERRORS: &str = "frames with errors, thrown away by the NIC or its driver before any sk_buff exists; not to be traced";
const TUNNEL_ERRORS: &str = "a device without hardware counts packets here that it could not make sense of; where \
                             they were freed is among the drop sites";
const DRIVER: &str = "a counter of the driver's own, lost before any sk_buff exists or at a limit; not to be traced. \
                      It may be in the device's other counters too: not to be added to them";
/// Drivers' names for what has a row or column already.
const STANDARD: &[&str] = &[
    "rx_dropped",
    "rx_errors",
    "rx_missed_errors",
    "rx_nohandler",
];

pub(super) fn rows(window: &Window, facts: &Facts) -> Vec<Reconciliation> {
    devices(window, facts).iter().flat_map(of_device).collect()
}

fn of_device(device: &Device) -> Vec<Reconciliation> {
    let name = &device.name;
    let errors = if device.driver.is_some() {
        ERRORS
    } else {
        TUNNEL_ERRORS
    };
    let standard = [
        ("rx_missed", device.rx_missed, MISSED),
        ("rx_errors", device.rx_errors, errors),
    ];
    let standard = standard
        .into_iter()
        .map(|(counter, n, why)| (format!("{name} {counter}"), n, why));
    let own = device
        .driver_stats
        .iter()
        .filter(|(counter, _)| !STANDARD.contains(&counter.as_str()) && !sends(counter))
        .map(|(counter, n)| (format!("{name} driver {counter}"), *n, DRIVER));
    standard
        .chain(own)
        .filter(|(_, n, _)| *n != 0)
        .map(|(counter, n, why)| untraced(counter, n, why))
        .collect()
}

/// Whether a driver's counter is one of what the host sent.
fn sends(counter: &str) -> bool {
    let is_tx = |word: &str| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        word.eq_ignore_ascii_case("tx")
    };
    counter.split(['_', '.', ' ']).any(is_tx) || counter == "bw_out_allowance_exceeded"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_nic_lost_stands_apart_and_was_not_traced() {
        let device = Device {
            name: "eth0".to_owned(),
            driver: Some("igb".to_owned()),
            rx_missed: 7,
            rx_errors: 2,
            rx_dropped: 9,
            driver_stats: [
                ("rx_missed_errors".to_owned(), 7),
                ("rx_no_buffer_count".to_owned(), 5),
                ("tx0_drops".to_owned(), 1),
            ]
            .into(),
            ..Device::default()
        };
        let rows = of_device(&device);
        let seen: Vec<_> = rows.iter().map(|r| (r.counter.as_str(), r.delta)).collect();
        assert_eq!(
            seen,
            [
                ("eth0 rx_missed", 7),
                ("eth0 rx_errors", 2),
                ("eth0 driver rx_no_buffer_count", 5)
            ]
        );
        assert!(
            rows.iter()
                .all(|r| r.traced.is_none() && r.explanation.is_some())
        );
    }

    #[test]
    fn a_device_that_lost_nothing_has_no_row() {
        assert!(of_device(&Device::default()).is_empty());
    }

    #[test]
    fn a_device_without_hardware_has_another_explanation() {
        let device = Device {
            rx_errors: 1,
            ..Device::default()
        };
        assert_eq!(
            of_device(&device)[0].explanation.as_deref(),
            Some(TUNNEL_ERRORS)
        );
    }

    #[test]
    fn a_counter_of_sending_is_told_by_its_words() {
        for (counter, expected) in [
            ("tx0_drops", true),
            ("tx_dropped", true),
            ("bw_out_allowance_exceeded", true),
            ("rx_out_of_buffer", false),
            ("rx0_drops", false),
            ("bw_in_allowance_exceeded", false),
        ] {
            assert_eq!(sends(counter), expected, "{counter}");
        }
    }
}
