//! Reads every table of this kernel with the parsers that tracer reads it with, after packets have passed and with a CPU
//! offline, and keeps the files: they are the fixtures under tracer/tests/fixtures.
//!
//! Asserts that each is understood to its last line, and that CPUs and counters are where the kernel has them.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tracer::proc::{interrupts, pid, snmp, softirqs, softnet, stat};
use xtask::guest::KEPT;

use super::{Scenario, need_nic};
use crate::{
    flood::Flood,
    guest::nic::Wire,
    scenario::{Need, note},
    setting::Setting,
    wait,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "every_table_of_this_kernel_is_understood",
    needs: &[Need::Root, Need::Cpus(4), Need::Program("ip")],
    run: tables,
}];

const PORT: u16 = 7115;
const PACKETS: u64 = 100;
const OFFLINE: &str = "/sys/devices/system/cpu/cpu2/online";
const ONLINE: [u32; 3] = [0, 1, 3];

fn tables() -> Result<()> {
    need_nic()?;
    let wire = Wire::new()?;
    let offline = Setting::change(OFFLINE, "0")?;
    let sent = Flood::new(Wire::RECEIVER, PORT, PACKETS).run(&wire.sender)?;
    ensure!(sent == PACKETS, "sent {sent}");
    // Sent is not yet taken in.
    wait::until("the datagrams arrive", Duration::from_secs(10), || {
        let table = fs::read_to_string("/proc/net/softnet_stat")?;
        let rows = softnet::parse(&table, &ONLINE)?;
        let processed: u64 = rows.values().map(|row| u64::from(row.processed)).sum();
        Ok((processed >= PACKETS).then_some(()))
    })?;
    let text = |file: &str| {
        fs::read_to_string(Path::new("/proc").join(file)).with_context(|| file.to_owned())
    };

    let file = keep("interrupts", text("interrupts")?)?;
    let table = interrupts::parse(&file)?;
    let rows = file.lines().count() - 1;
    let counters = table.device.len() + table.arch.len();
    // ERR and MIS are single numbers, no rows of CPUs.
    ensure!(
        counters <= rows && counters + 3 >= rows,
        "{rows} rows, understood {counters}"
    );
    let on_wire = table.device.values().filter(|row| row.name.contains("nic"));
    ensure!(on_wire.count() > 0, "no vector of a card: {file}");

    let file = keep("softirqs", text("softirqs")?)?;
    let runs = softirqs::parse(&file)?.runs;
    ensure!(runs.len() == 10 && runs["NET_RX"].len() >= 3, "{runs:?}");

    let file = keep("softnet_stat", text("net/softnet_stat")?)?;
    let rows = softnet::parse(&file, &ONLINE)?;
    ensure!(rows.keys().eq(&ONLINE), "CPU 2 is offline: {rows:?}");
    let processed: u64 = rows.values().map(|row| u64::from(row.processed)).sum();
    ensure!(processed >= PACKETS, "{rows:?}");

    let file = keep("stat", text("stat")?)?;
    let cpus = stat::parse(&file)?;
    ensure!(cpus.keys().eq(&ONLINE), "CPU 2 is offline: {cpus:?}");

    let mut protocols = snmp::Protocols::default();
    for (name, path) in [
        ("snmp", "net/snmp"),
        ("netstat", "net/netstat"),
        ("snmp6", "net/snmp6"),
    ] {
        // Inside, where the datagrams met a closed port.
        let path = Path::new("/proc/thread-self").join(path);
        let file = wire.receiver.run(|| fs::read_to_string(&path))??;
        let file = keep(name, file)?;
        if name == "snmp6" {
            snmp::parse_snmp6(&file, &mut protocols)?;
        } else {
            snmp::parse(name, &file, &mut protocols)?;
        }
    }
    ensure!(
        protocols.get("Udp.NoPorts") == Some(&PACKETS),
        "{protocols:?}"
    );

    let file = keep("pid_stat", text("self/stat")?)?;
    let own = pid::stat::parse(&file)?;
    ensure!(ONLINE.contains(&own.cpu), "{own:?}");
    let file = keep("pid_status", text("self/status")?)?;
    let allowed = pid::status::parse(&file)?;
    // The mask as set: CPUs that are offline are still in it.
    ensure!(allowed == [0, 1, 2, 3], "{allowed:?}");
    offline.restore()?;
    note(format_args!(
        "{counters} interrupts, {} protocol counters",
        protocols.len()
    ));
    Ok(())
}

/// Leaves a copy that is handed out of the machine.
fn keep(name: &str, text: String) -> Result<String> {
    fs::create_dir_all(KEPT)?;
    fs::write(Path::new(KEPT).join(format!("proc-{name}")), &text)?;
    Ok(text)
}
