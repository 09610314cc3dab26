//! From where on something is a finding: one table, each value with its reason and who says so. `--threshold NAME=VALUE`
//! overrides one.

use std::{collections::BTreeMap, str::FromStr};

/// Which threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table says what each is")]
pub enum Key {
    NetRxShare,
    SoftirqBusy,
    IrqCoreLoad,
    WaitP99,
    WaitRuns,
    WaitMax,
    KsoftirqdShare,
    BudgetUsecsCap,
    RemoteShare,
    RemoteRate,
    VictimCpu,
    VictimShare,
    CpuIdle,
    PollingBusy,
    IrqRate,
    PacketsPerPoll,
    HardIrqTime,
    MainLoss,
    Conntrack,
    Steal,
    Residual,
    ResidualFloor,
    RefusedRate,
    RefusedFloor,
    NearlyIdle,
}

/// One threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Which.
    pub key: Key,
    /// As `--threshold` spells it.
    pub name: &'static str,
    /// Default.
    pub value: u64,
    /// Unit of the value.
    pub unit: &'static str,
    /// Why this much.
    pub reason: &'static str,
    /// Who says so; `own` where nobody else does.
    pub source: &'static str,
}

const fn entry(
    key: Key,
    name: &'static str,
    value: u64,
    unit: &'static str,
    reason: &'static str,
    source: &'static str,
) -> Threshold {
    Threshold {
        key,
        name,
        value,
        unit,
        reason,
        source,
    }
}

/// Every threshold, in the order of [`Key`].
pub const TABLE: [Threshold; 25] = [
    entry(
        Key::NetRxShare,
        "net-rx-share",
        60,
        "%",
        "of two or more CPUs one that has more than this does nearly all the work",
        "own",
    ),
    entry(
        Key::SoftirqBusy,
        "softirq-busy",
        85,
        "%",
        "above this a queue in front of the CPU grows with every burst",
        "own",
    ),
    entry(
        Key::IrqCoreLoad,
        "irq-core-load",
        50,
        "%",
        "interrupt cores are planned for twice the load that was seen",
        "own",
    ),
    entry(
        Key::WaitP99,
        "wait-p99",
        1_000,
        "µs",
        "a softirq normally starts within microseconds; a millisecond is a scheduler's slice",
        "own; kernel/softirq.c",
    ),
    entry(
        Key::WaitRuns,
        "wait-runs",
        100,
        "runs",
        "a percentile of fewer runs is chance",
        "own",
    ),
    entry(
        Key::WaitMax,
        "wait-max",
        10,
        "% of the run",
        "one wait this long is no chance: where NET_RX hardly gets the CPU there are few runs",
        "own",
    ),
    entry(
        Key::KsoftirqdShare,
        "ksoftirqd-share",
        50,
        "%",
        "then the softirq competes with tasks more often than not",
        "own; kernel/softirq.c",
    ),
    entry(
        Key::BudgetUsecsCap,
        "budget-usecs-cap",
        8_000,
        "µs",
        "a longer softirq starves the tasks of its CPU",
        "own; bpftune issue 178",
    ),
    entry(
        Key::RemoteShare,
        "remote-share",
        50,
        "%",
        "most of the device's interrupts cross the nodes",
        "own",
    ),
    entry(
        Key::RemoteRate,
        "remote-rate",
        1_000,
        "packets/s",
        "below this nobody feels the distance",
        "own",
    ),
    entry(
        Key::VictimCpu,
        "victim-cpu",
        2,
        "% of a CPU",
        "a process starved by interrupts uses little, an idle one nearly nothing",
        "own",
    ),
    entry(
        Key::VictimShare,
        "victim-share",
        20,
        "% of its time",
        "a process that is on the interrupt CPU now and then only is no victim",
        "own",
    ),
    entry(
        Key::CpuIdle,
        "cpu-idle",
        15,
        "%",
        "a CPU with less idle time is full",
        "own",
    ),
    entry(
        Key::PollingBusy,
        "polling-busy",
        30,
        "%",
        "less NET_RX time without interrupts needs no explanation",
        "own",
    ),
    entry(
        Key::IrqRate,
        "irq-rate",
        20_000,
        "interrupts/s",
        "one vector; adaptive moderation of common drivers stays below",
        "own; driver documentation",
    ),
    entry(
        Key::PacketsPerPoll,
        "packets-per-poll",
        4,
        "packets",
        "fewer packets a poll mean that interrupts are not moderated",
        "own",
    ),
    entry(
        Key::HardIrqTime,
        "hard-irq-time",
        30,
        "%",
        "this much of a CPU in handlers alone is waste",
        "own",
    ),
    entry(
        Key::MainLoss,
        "main-loss",
        10,
        "%",
        "a cause of less than a tenth of the losses is not the one to begin with",
        "own",
    ),
    entry(
        Key::Conntrack,
        "conntrack",
        90,
        "%",
        "the rest is gone within a burst of new connections",
        "own",
    ),
    entry(
        Key::Steal,
        "steal",
        10,
        "%",
        "a CPU that is away for a tenth of the time cannot keep a ring empty",
        "own",
    ),
    entry(
        Key::Residual,
        "residual",
        1,
        "%",
        "reads at two moments differ by less",
        "own; dropwatch issue 90",
    ),
    entry(
        Key::ResidualFloor,
        "residual-floor",
        10,
        "events",
        "a few events more or less are no gap",
        "own",
    ),
    entry(
        Key::RefusedRate,
        "refused-rate",
        1_000,
        "per million packets",
        "a CPU with time left that refuses fewer had a burst, which a longer backlog holds",
        "own",
    ),
    entry(
        Key::RefusedFloor,
        "refused-floor",
        100,
        "packets",
        "a share of a handful of packets is chance",
        "own",
    ),
    entry(
        Key::NearlyIdle,
        "nearly-idle",
        10,
        "%",
        "a CPU with less softirq time is no bottleneck unless it refuses ten times as many",
        "own",
    ),
];

/// The thresholds of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds([u64; TABLE.len()]);

impl Default for Thresholds {
    fn default() -> Self {
        Self(TABLE.map(|threshold| threshold.value))
    }
}

impl Thresholds {
    /// The value in force.
    #[must_use]
    pub fn get(&self, key: Key) -> u64 {
        self.0[key as usize]
    }

    /// All, by name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        TABLE
            .iter()
            .map(|threshold| (threshold.name.to_owned(), self.get(threshold.key)))
            .collect()
    }

    /// Those that are not the table's, by name.
    #[must_use]
    pub fn changed(&self) -> BTreeMap<String, u64> {
        let all = TABLE.iter().map(|one| (one, self.get(one.key)));
        all.filter(|(one, value)| one.value != *value)
            .map(|(one, value)| (one.name.to_owned(), value))
            .collect()
    }

    /// The table's but for these, by name; names that it does not have are passed over.
    #[must_use]
    pub fn changed_to(values: &BTreeMap<String, u64>) -> Self {
        let of = |one: &Threshold| values.get(one.name).copied().unwrap_or(one.value);
        Self(TABLE.map(|one| of(&one)))
    }

    /// Overrides one.
    pub fn set(&mut self, Override { key, value }: Override) {
        self.0[key as usize] = value;
    }
}

/// `NAME=VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    key: Key,
    value: u64,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("write NAME=VALUE, such as softirq-busy=90")?;
        let known = TABLE.iter().find(|threshold| threshold.name == name);
        let Threshold { key, unit, .. } = known.ok_or_else(|| {
            let names = TABLE.map(|threshold| threshold.name);
            format!("unknown threshold '{name}'; known: {}", names.join(", "))
        })?;
        let value = value
            .parse()
            .map_err(|_| format!("{name} is a whole number of {unit}, not '{value}'"))?;
        if unit.starts_with('%') && value > 100 {
            return Err(format!("{name} is a share, 0 to 100 {unit}, not {value}"));
        }
        Ok(Self { key: *key, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_keys_and_names_are_unique() {
        for (at, threshold) in TABLE.iter().enumerate() {
            assert_eq!(threshold.key as usize, at, "{}", threshold.name);
            assert!(!threshold.reason.is_empty() && !threshold.source.is_empty());
            let same = TABLE.iter().filter(|t| t.name == threshold.name);
            assert_eq!(same.count(), 1, "{}", threshold.name);
        }
    }

    #[test]
    fn a_threshold_is_overridden_by_name() {
        let mut thresholds = Thresholds::default();
        thresholds.set("softirq-busy=90".parse().unwrap());
        assert_eq!(thresholds.get(Key::SoftirqBusy), 90);
        assert_eq!(thresholds.get(Key::NetRxShare), 60);
        let changed = thresholds.changed();
        assert_eq!(changed, [("softirq-busy".to_owned(), 90)].into());
        assert_eq!(Thresholds::changed_to(&changed), thresholds);
    }

    #[test]
    fn an_unknown_name_or_a_bad_value_says_what_is_possible() {
        let error = |text: &str| text.parse::<Override>().unwrap_err();
        assert!(error("speed=3").contains("known: net-rx-share, softirq-busy"));
        assert!(error("softirq-busy=900").contains("0 to 100 %, not 900"));
        assert!("wait-p99=9000".parse::<Override>().is_ok());
        assert!(error("steal=much").contains("whole number of %"));
        assert!(error("steal").contains("NAME=VALUE"));
        assert!(error("steal=-1").contains("whole number"));
    }
}
