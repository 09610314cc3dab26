//! The kernel side's log-linear histograms to percentiles.

use hdrhistogram::Histogram;
use tracer_common::hist::{BUCKETS, bounds};

use crate::model::report::Percentiles;

/// Percentiles of `buckets`; `None` if nothing was counted. A bucket counts as its middle, so a
/// percentile is within 6.25 % of the true value. `max_ns` is the largest value so far: exact for
/// the window if `exact`, else only a bound.
#[must_use]
pub fn percentiles(buckets: &[u64; BUCKETS], max_ns: u64, exact: bool) -> Option<Percentiles> {
    let highest = buckets.iter().rposition(|&n| n != 0)?;
    let max = if exact {
        max_ns
    } else {
        max_ns.min(bounds(highest).1)
    };
    // Three digits, up to the last bucket: the arguments are constants that it accepts.
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 41, 3).ok()?;
    for (bucket, &count) in buckets.iter().enumerate().filter(|(_, n)| **n != 0) {
        let (low, high) = bounds(bucket);
        histogram.saturating_record_n(low.midpoint(high).min(max), count);
    }
    let at = |quantile| histogram.value_at_quantile(quantile).min(max);
    Some(Percentiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_common::hist::bucket;

    use super::*;

    fn of(values: &[u64]) -> [u64; BUCKETS] {
        let mut buckets = [0; BUCKETS];
        for &v in values {
            buckets[bucket(v)] += 1;
        }
        buckets
    }

    #[test]
    fn nothing_counted_is_unknown_not_zero() {
        assert_eq!(percentiles(&[0; BUCKETS], 0, true), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_a_sixteenth_of_the_true_value(mut values in proptest::collection::vec(64u64..1 << 38, 1..200)) {
            let p = percentiles(&of(&values), *values.iter().max().unwrap(), true).unwrap();
            values.sort_unstable();
            let rank = |q: f64| {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
                let at = (q * values.len() as f64).ceil() as usize;
                values[at.max(1) - 1] as f64
            };
            for (got, q) in [(p.p50, 0.5), (p.p90, 0.9), (p.p99, 0.99)] {
                let want = rank(q);
                prop_assert!((got as f64 - want).abs() <= want * 0.0635, "{got} for {want} at {q}");
            }
            prop_assert_eq!(p.max, *values.last().unwrap());
        }
    }
}
