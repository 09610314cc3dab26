//! Sends to an `ifb` device that nothing is redirected to: its driver throws each packet away with `consume_skb` and
//! counts it in `rx_dropped`, so that no hook on drops can see it.
//!
//! Asserts that the report says that not everything was seen, which counter says so, and by how much.

use anyhow::{Result, ensure};

use super::Scenario;
use crate::{
    findings,
    flood::Flood,
    kept,
    kernel::device_statistic,
    netns::{Netns, knows},
    scenario::{Need, note},
    tracer::Tracer,
    wait::quiet,
};

/// This file's scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a_counter_that_no_drop_explains_is_told_as_not_seen",
    needs: &[Need::Root, Need::Program("ip")],
    run: unseen,
}];

const DEVICE: &str = "ifb7";
const PORT: u16 = 7121;
const PACKETS: u64 = 500;

fn unseen() -> Result<()> {
    let netns = Netns::new("ifb")?;
    let to = [10, 77, 2, 2].into();
    netns.ip_batch(&[
        format!("link add {DEVICE} type ifb"),
        format!("address add 10.77.2.1/24 dev {DEVICE}"),
        format!("link set {DEVICE} up"),
        knows(DEVICE, to, "02:77:00:00:02:02"),
    ])?;
    let dropped = || device_statistic(&netns, DEVICE, "rx_dropped");
    let before = dropped()?;
    let tracer = Tracer::start(Some(&netns), &[])?;
    quiet();
    let sent = Flood::new(to, PORT, PACKETS).run(&netns)?;
    quiet();
    let dropped = dropped()? - before;
    let report = tracer.stop()?.summary;
    ensure!(
        sent == PACKETS && dropped >= sent,
        "sent {sent}, rx_dropped {dropped}"
    );
    let found = findings::has(&report, "residual")?;
    let counter = format!("{DEVICE} rx_dropped");
    findings::says(
        found,
        &[
            &counter,
            &format!("kernel {dropped}, traced 0"),
            "lower bounds",
        ],
    )?;
    kept::keep_report("residual", &report)?;
    note(&found.summary);
    Ok(())
}
