//! Traced counts beside the kernel's own, the difference, and what can explain it.
//!
//! The two are never read at the same moment, a program can be skipped, and a run can be under way
//! at a read. Each of these bounds how far the counts may differ; what is left is unexplained, and said so.

use std::collections::BTreeMap;

use super::stage::normalise;
use crate::model::report::{PerCpu, Reconciliation};
use crate::report::number;

/// Something that makes a kernel counter and the traced count differ, and by how much at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What it is, a clause of a sentence.
    pub words: String,
    /// How many the kernel may have counted that were not traced.
    pub kernel_more: u64,
    /// How many may have been traced that the kernel did not count.
    pub traced_more: u64,
}

impl Cause {
    /// The two counters were read `gap_ns` apart, and so many events can have fallen between.
    #[must_use]
    pub fn skew(gap_ns: u64, skew: Skew) -> Self {
        Self {
            words: format!(
                "counters were read {} apart; up to {} could fall between",
                number::duration(gap_ns, true),
                number::count(skew.kernel_more.max(skew.traced_more))
            ),
            kernel_more: skew.kernel_more,
            traced_more: skew.traced_more,
        }
    }

    /// The kernel skipped the program `missed` times because it was already running on that CPU.
    #[must_use]
    pub fn recursion(missed: u64) -> Self {
        Self {
            words: format!(
                "the program was skipped {} by recursion",
                number::times(missed)
            ),
            kernel_more: missed,
            traced_more: 0,
        }
    }

    /// The kernel counts at the begin, tracer at the end; at most `runs` were under way at a read.
    #[must_use]
    pub fn under_way(runs: u64) -> Self {
        Self {
            words: format!("up to {} under way at a read", number::count(runs)),
            kernel_more: runs,
            traced_more: runs,
        }
    }
}

/// Events that can have fallen between the reads of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// At most so many in the kernel's count only.
    pub kernel_more: u64,
    /// At most so many in the traced count only.
    pub traced_more: u64,
}

impl Skew {
    /// As many on either side.
    #[must_use]
    pub fn both(up_to: u64) -> Self {
        Self {
            kernel_more: up_to,
            traced_more: up_to,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            kernel_more: self.kernel_more.saturating_add(other.kernel_more),
            traced_more: self.traced_more.saturating_add(other.traced_more),
        }
    }
}

/// How what fell between the reads is spread over the rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread<K> {
    /// Known for each row; absent: none.
    Counted(BTreeMap<K, Skew>),
    /// Known for the table; all of it may belong to one row.
    Anywhere(Skew),
}

impl<K: Ord> Spread<K> {
    fn row(&self, key: &K) -> Skew {
        match self {
            Self::Counted(counted) => counted.get(key).copied().unwrap_or_default(),
            Self::Anywhere(skew) => *skew,
        }
    }

    fn total(&self) -> Skew {
        match self {
            Self::Counted(counted) => {
                let skews = counted.values().copied();
                skews.fold(Skew::default(), Skew::plus)
            }
            Self::Anywhere(skew) => *skew,
        }
    }
}

/// What is known about the way both sides of a table were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence<K> {
    /// Time between the two reads, the larger of begin and end of the window, ns.
    pub gap_ns: u64,
    /// Events that can have fallen between the reads.
    pub between: Spread<K>,
    /// Runs that the kernel skipped, all CPUs together; `None` if it does not tell.
    pub missed: Option<u64>,
    /// 1 if the kernel counts at the begin of an event and tracer at its end, 0 if at the same place.
    pub under_way: u64,
}

/// One row. `causes` are asked in this order, and only for as much as is still open.
#[must_use]
pub fn row(counter: String, delta: u64, traced: Option<u64>, causes: &[Cause]) -> Reconciliation {
    let residual = traced.map(|traced| difference(delta, traced));
    let (explanation, unexplained) = match residual {
        Some(residual) => explain(residual, causes),
        None => (Some(UNTRACED.to_owned()), None),
    };
    Reconciliation {
        counter,
        delta,
        traced,
        residual,
        unexplained,
        explanation,
    }
}

/// A total can be off by what each of its rows can be off by, but what is unexplained in a row stays
/// unexplained in the total.
fn inherit(total: &mut Reconciliation, rows: &[Reconciliation]) {
    let Some(residual) = total.residual else {
        return;
    };
    let of_rows = rows
        .iter()
        .filter(|row| {
            row.residual
                .is_some_and(|r| r.signum() == residual.signum())
        })
        .filter_map(|row| row.unexplained)
        .fold(0, u64::saturating_add)
        .min(residual.unsigned_abs());
    if of_rows > total.unexplained.unwrap_or(0) {
        total.unexplained = Some(of_rows);
        total.explanation = Some(format!(
            "{} unexplained, in the rows above",
            number::count(of_rows)
        ));
    }
}

/// Why a row has no traced count.
const UNTRACED: &str = "the hook that would count this is not attached, or names are hidden";
/// The same where only the target CPU is not known.
const NO_TARGET: &str =
    "enqueue_to_backlog is not hooked, so the target CPU is not known; see the total";

/// Backlog drops: `softnet_stat dropped cpuN` for every CPU that has any, and the total.
///
/// `delta` is the kernel's count by CPU, `by_target` the traced one by target CPU (`None` if
/// `enqueue_to_backlog` is not hooked), `total` all traced drops that [`counts_in_softnet`].
#[must_use]
pub fn softnet_dropped(
    delta: &PerCpu,
    by_target: Option<&PerCpu>,
    total: Option<u64>,
    evidence: &Evidence<u32>,
) -> Vec<Reconciliation> {
    let mut rows = per_cpu("softnet_stat dropped", delta, by_target, total, evidence);
    if by_target.is_none() && total.is_some() {
        for row in rows.iter_mut().filter(|row| row.traced.is_none()) {
            row.explanation = Some(NO_TARGET.to_owned());
        }
    }
    rows
}

/// `NET_RX` runs: `softirqs NET_RX cpuN` for every CPU that has any, and the total.
#[must_use]
pub fn net_rx_runs(
    delta: &PerCpu,
    traced: Option<&PerCpu>,
    evidence: &Evidence<u32>,
) -> Vec<Reconciliation> {
    let total = traced.map(|traced| sum(traced.values()));
    per_cpu("softirqs NET_RX", delta, traced, total, evidence)
}

/// Device drops by name: `NAME rx_dropped` for every device that has any, and the total.
///
/// `traced` are the drops that [`counts_in_rx_dropped`]; `None` without `kfree_skb`. The kernel's
/// counter also holds what a driver threw away before there was an `sk_buff`.
#[must_use]
pub fn rx_dropped(
    delta: &BTreeMap<String, u64>,
    traced: Option<&BTreeMap<String, u64>>,
    evidence: &Evidence<String>,
) -> Vec<Reconciliation> {
    table(
        delta,
        traced,
        evidence,
        |name| format!("{name} rx_dropped"),
        "all devices rx_dropped",
        |row| {
            if row.residual.is_some_and(|residual| residual > 0)
                && row
                    .explanation
                    .as_deref()
                    .is_none_or(|words| words.contains("unexplained"))
            {
                row.explanation =
                    Some("unexplained; a driver may drop before there is an sk_buff".to_owned());
            }
        },
    )
}

/// Hard IRQs: `interrupts N` for every IRQ that occurred, and the total.
#[must_use]
pub fn hard_irqs(
    delta: &BTreeMap<u32, u64>,
    traced: Option<&BTreeMap<u32, u64>>,
    evidence: &Evidence<u32>,
) -> Vec<Reconciliation> {
    table(
        delta,
        traced,
        evidence,
        |irq| format!("interrupts {irq}"),
        "interrupts total",
        |_| {},
    )
}

/// Whether softnet `dropped` counts a drop in `function` for `reason`: `enqueue_to_backlog` with
/// the backlog full or over the flow limit; before 6.12 also when the device was not running
/// (no reason in 5.10, `NOT_SPECIFIED` in 6.1), since 6.12 not (`DEV_READY`).
#[must_use]
pub fn counts_in_softnet(function: &str, reason: Option<&str>) -> bool {
    normalise(function) == "enqueue_to_backlog" && reason != Some("DEV_READY")
}

/// Whether the device's `rx_dropped` counts a drop in `function` for `reason`: every drop of
/// `enqueue_to_backlog`, and what `__netif_receive_skb_core` found no handler for.
#[must_use]
pub fn counts_in_rx_dropped(function: &str, reason: Option<&str>) -> bool {
    match normalise(function) {
        "enqueue_to_backlog" => true,
        "netif_receive_skb_core" => {
            matches!(
                reason,
                None | Some("NOT_SPECIFIED" | "UNHANDLED_PROTO" | "PFMEMALLOC")
            )
        }
        _ => false,
    }
}

fn per_cpu(
    name: &str,
    delta: &PerCpu,
    traced: Option<&PerCpu>,
    total: Option<u64>,
    evidence: &Evidence<u32>,
) -> Vec<Reconciliation> {
    let mut rows = table(
        delta,
        traced,
        evidence,
        |cpu| format!("{name} cpu{cpu}"),
        "",
        |_| {},
    );
    rows.pop();
    let kernel = sum(delta.values());
    let cpus = u64::try_from(delta.len()).unwrap_or(u64::MAX);
    let mut total = row(
        format!("{name} total"),
        kernel,
        total,
        &causes(evidence, evidence.between.total(), cpus),
    );
    inherit(&mut total, &rows);
    rows.push(total);
    rows
}

/// A row for each key that counted anything on either side, then the total.
fn table<K: Ord + Clone>(
    delta: &BTreeMap<K, u64>,
    traced: Option<&BTreeMap<K, u64>>,
    evidence: &Evidence<K>,
    name: impl Fn(&K) -> String,
    total_name: &str,
    refine: impl Fn(&mut Reconciliation),
) -> Vec<Reconciliation> {
    let none = BTreeMap::new();
    let kernel_total = sum(delta.values());
    let traced_total = traced.map(|traced| sum(traced.values()));
    let mut all: BTreeMap<&K, (u64, u64)> = delta.iter().map(|(key, n)| (key, (*n, 0))).collect();
    for (key, n) in traced.unwrap_or(&none) {
        all.entry(key).or_default().1 = *n;
    }
    let mut rows = Vec::new();
    for (key, (kernel, seen)) in &all {
        if *kernel == 0 && *seen == 0 {
            continue;
        }
        let skew = evidence.between.row(*key);
        let mut one = row(
            name(key),
            *kernel,
            traced.map(|_| *seen),
            &causes(evidence, skew, 1),
        );
        refine(&mut one);
        rows.push(one);
    }
    let keys = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let mut total = row(
        total_name.to_owned(),
        kernel_total,
        traced_total,
        &causes(evidence, evidence.between.total(), keys),
    );
    refine(&mut total);
    inherit(&mut total, &rows);
    rows.push(total);
    rows
}

fn causes<K>(evidence: &Evidence<K>, skew: Skew, rows: u64) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(missed) = evidence.missed.filter(|missed| *missed > 0) {
        causes.push(Cause::recursion(missed));
    }
    if evidence.under_way > 0 {
        causes.push(Cause::under_way(evidence.under_way.saturating_mul(rows)));
    }
    if skew != Skew::default() {
        causes.push(Cause::skew(evidence.gap_ns, skew));
    }
    causes
}

/// In words, and how much of `residual` is left without a cause.
fn explain(residual: i64, causes: &[Cause]) -> (Option<String>, Option<u64>) {
    let mut open = residual.unsigned_abs();
    if open == 0 {
        return (None, Some(0));
    }
    let mut words = Vec::new();
    for cause in causes {
        let part = if residual > 0 {
            cause.kernel_more
        } else {
            cause.traced_more
        };
        if open == 0 {
            break;
        }
        if part > 0 {
            words.push(cause.words.clone());
            open = open.saturating_sub(part);
        }
    }
    if words.is_empty() {
        return (Some("unexplained".to_owned()), Some(open));
    }
    if open > 0 {
        words.push(format!("{} unexplained", number::count(open)));
    }
    (Some(words.join("; ")), Some(open))
}

fn difference(delta: u64, traced: u64) -> i64 {
    let wide = i128::from(delta) - i128::from(traced);
    i64::try_from(wide).unwrap_or(if wide > 0 { i64::MAX } else { i64::MIN })
}

fn sum<'a>(values: impl Iterator<Item = &'a u64>) -> u64 {
    values.fold(0, |sum: u64, n| sum.saturating_add(*n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn no_slack<K>() -> Evidence<K> {
        Evidence {
            gap_ns: 0,
            between: Spread::Anywhere(Skew::default()),
            missed: Some(0),
            under_way: 0,
        }
    }

    fn per_cpu_counts(counts: &[(u32, u64)]) -> PerCpu {
        counts.iter().copied().collect()
    }

    #[test]
    fn equal_counts_leave_no_residual_and_need_no_words() {
        let rows = softnet_dropped(
            &per_cpu_counts(&[(0, 0), (1, 29_115)]),
            Some(&per_cpu_counts(&[(1, 29_115)])),
            Some(29_115),
            &no_slack(),
        );
        assert_eq!(rows.len(), 2, "an idle CPU has no row: {rows:?}");
        assert_eq!(rows[0].counter, "softnet_stat dropped cpu1");
        assert_eq!(rows[1].counter, "softnet_stat dropped total");
        assert!(
            rows.iter()
                .all(|row| row.residual == Some(0) && row.explanation.is_none())
        );
    }

    #[test]
    fn without_the_target_only_the_total_can_be_compared() {
        let rows = softnet_dropped(&per_cpu_counts(&[(1, 10)]), None, Some(10), &no_slack());
        assert_eq!((rows[0].traced, rows[0].residual), (None, None));
        assert_eq!(rows[1].residual, Some(0));
    }

    #[test]
    fn a_difference_that_nothing_explains_is_called_unexplained() {
        let row = row("x".into(), 10, Some(7), &[]);
        assert_eq!(row.residual, Some(3));
        assert_eq!(row.explanation.as_deref(), Some("unexplained"));
    }

    #[test]
    fn recursion_cannot_explain_that_more_was_traced() {
        let row = row("x".into(), 7, Some(10), &[Cause::recursion(50)]);
        assert_eq!(row.explanation.as_deref(), Some("unexplained"));
    }

    #[test]
    fn what_the_known_causes_leave_open_is_named() {
        let row = row(
            "x".into(),
            100,
            Some(50),
            &[Cause::recursion(10), Cause::skew(120_000, Skew::both(5))],
        );
        assert_eq!(
            row.explanation.as_deref(),
            Some(
                "the program was skipped 10 times by recursion; counters were read 120 µs apart; up to 5 could fall \
                 between; 35 unexplained"
            )
        );
    }

    #[test]
    fn causes_that_are_not_needed_are_not_mentioned() {
        let row = row(
            "x".into(),
            12,
            Some(10),
            &[Cause::recursion(2), Cause::skew(120_000, Skew::both(5))],
        );
        assert_eq!(
            row.explanation.as_deref(),
            Some("the program was skipped 2 times by recursion")
        );
    }

    #[test]
    fn every_hard_irq_that_occurred_has_a_row_with_its_residual() {
        let delta: BTreeMap<u32, u64> = [(24, 100), (25, 50), (26, 0)].into();
        let traced: BTreeMap<u32, u64> = [(24, 100), (25, 49)].into();
        let rows = hard_irqs(&delta, Some(&traced), &no_slack());
        let names: Vec<_> = rows.iter().map(|row| row.counter.as_str()).collect();
        assert_eq!(
            names,
            ["interrupts 24", "interrupts 25", "interrupts total"]
        );
        let residuals: Vec<_> = rows.iter().map(|row| row.residual).collect();
        assert_eq!(residuals, [Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn what_is_unexplained_in_a_row_stays_so_in_the_total() {
        let delta: BTreeMap<u32, u64> = [(24, 100), (25, 50)].into();
        let traced: BTreeMap<u32, u64> = [(24, 95), (25, 50)].into();
        let evidence = Evidence {
            under_way: 3,
            ..no_slack()
        };
        let rows = hard_irqs(&delta, Some(&traced), &evidence);
        let unexplained: Vec<_> = rows.iter().map(|row| row.unexplained).collect();
        assert_eq!(unexplained, [Some(2), Some(0), Some(2)]);
    }

    #[test]
    fn a_driver_that_drops_before_an_sk_buff_exists_is_suspected_of_a_device_residual() {
        let delta: BTreeMap<String, u64> = [("eth0".to_owned(), 9)].into();
        let rows = rx_dropped(&delta, Some(&BTreeMap::new()), &no_slack());
        assert_eq!(rows[0].counter, "eth0 rx_dropped");
        assert!(
            rows[0]
                .explanation
                .as_deref()
                .is_some_and(|words| words.contains("sk_buff"))
        );
    }

    #[test]
    fn what_was_counted_between_the_reads_explains_its_own_row_and_one_side_only() {
        let skew = Skew {
            kernel_more: 0,
            traced_more: 2,
        };
        let evidence = Evidence {
            gap_ns: 1_000,
            between: Spread::Counted([(1, skew)].into()),
            ..no_slack()
        };
        let unexplained = |delta: &[(u32, u64)], traced: &[(u32, u64)]| {
            let traced = per_cpu_counts(traced);
            net_rx_runs(&per_cpu_counts(delta), Some(&traced), &evidence)[0].unexplained
        };
        assert_eq!(unexplained(&[(1, 15)], &[(1, 17)]), Some(0));
        assert_eq!(unexplained(&[(1, 15)], &[(1, 18)]), Some(1));
        assert_eq!(unexplained(&[(1, 17)], &[(1, 15)]), Some(2));
        assert_eq!(unexplained(&[(0, 15)], &[(0, 17)]), Some(2));
    }

    #[test]
    fn only_backlog_refusals_are_expected_in_softnet() {
        assert!(counts_in_softnet(
            "enqueue_to_backlog.cold",
            Some("CPU_BACKLOG")
        ));
        assert!(counts_in_softnet("enqueue_to_backlog", None));
        assert!(!counts_in_softnet("enqueue_to_backlog", Some("DEV_READY")));
        assert!(!counts_in_softnet("ip_rcv_core", None));
        assert!(counts_in_rx_dropped(
            "enqueue_to_backlog",
            Some("DEV_READY")
        ));
        assert!(counts_in_rx_dropped(
            "__netif_receive_skb_core",
            Some("UNHANDLED_PROTO")
        ));
        assert!(!counts_in_rx_dropped(
            "__netif_receive_skb_core",
            Some("TC_INGRESS")
        ));
    }

    proptest! {
        #[test]
        fn a_row_has_words_exactly_when_the_counts_differ(delta: u64, traced: u64, missed: u64, skew: u64) {
            let one = row("x".into(), delta, Some(traced), &[Cause::recursion(missed), Cause::skew(7, Skew::both(skew))]);
            prop_assert_eq!(one.explanation.is_some(), delta != traced);
        }
    }
}
