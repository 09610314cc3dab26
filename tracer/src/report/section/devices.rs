//! Devices that received or lost anything.

use super::{harm, number, text};
use crate::model::report::{Device, Report};
use crate::report::number::bytes;
use crate::report::page::{Page, Tone};
use crate::report::table::{Column, ESSENTIAL, Table};

/// At most `rows` devices, those that lost most first.
pub fn table(page: &mut Page, report: &Report, rows: usize) {
    let mut devices: Vec<&Device> = report
        .devices
        .iter()
        .filter(|device| device.rx_packets > 0 || lost(device) > 0)
        .collect();
    if devices.is_empty() {
        return;
    }
    devices.sort_by_key(|device| std::cmp::Reverse((lost(device), device.rx_packets)));
    let shown = if devices.len() > rows + 1 {
        rows
    } else {
        devices.len()
    };
    let mut table = Table::new([
        Column::name("device", ESSENTIAL, 10),
        Column::name("driver", 3, 8).if_given(),
        Column::number("node", 6).if_given(),
        Column::number("rx packets", ESSENTIAL),
        Column::number("rx bytes", 1),
        Column::number("dropped", ESSENTIAL),
        Column::number("missed", ESSENTIAL),
        Column::number("errors", 2),
        Column::number("queues", 4),
        Column::name("RPS", 2, 6),
        Column::number("ring", 5),
    ]);
    for device in devices.iter().take(shown) {
        let id = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.row([
            text(&device.name),
            text(device.driver.clone().unwrap_or_default()),
            text(
                device
                    .node
                    .filter(|_| report.host.nodes > 1)
                    .map(|node| node.to_string())
                    .unwrap_or_default(),
            ),
            number(Some(device.rx_packets)),
            text(bytes(device.rx_bytes)),
            harm(Some(device.rx_dropped)),
            harm(Some(device.rx_missed)),
            harm(Some(device.rx_errors)),
            text(id(device.queues)),
            text(
                device
                    .rps
                    .as_deref()
                    .map_or("-", |mask| if is_clear(mask) { "off" } else { mask }),
            ),
            text(id(device.ring)),
        ]);
    }
    table.write(page, "devices");
    if devices.len() > shown {
        page.prose(
            &format!("and {} more devices", devices.len() - shown),
            Tone::Dim,
            2,
        );
    }
}

fn lost(device: &Device) -> u64 {
    device
        .rx_dropped
        .saturating_add(device.rx_missed)
        .saturating_add(device.rx_errors)
}

/// A mask without a CPU: `0`, `00000000,00000000`.
fn is_clear(mask: &str) -> bool {
    mask.chars().all(|c| matches!(c, '0' | ','))
}
