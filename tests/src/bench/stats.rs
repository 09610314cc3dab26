//! Statistics of few noisy numbers.

use std::ops::RangeInclusive;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;
/// Their share that an interval leaves out at each end: 95 % are in it.
const OUTSIDE: f64 = 0.025;

/// Of fewer values resampling tells nothing: with 6 the median is outside of all of them once in 32 times.
const FEWEST: usize = 6;

/// A value with the interval that it is in with 95 % confidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// The interval; `None` where there are too few values.
    pub within: Option<RangeInclusive<f64>>,
}

/// The value that a `share` of the others, from 0 to 1, is below; `None` of nothing.
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index: 0 to the length"
    )]
    let at = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
    sorted.get(at).copied()
}

/// Mean of the middle two, or the middle one.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(half - 1)?, upper))
}

/// The median of what sweeps gave, with a bootstrap interval.
#[must_use]
pub fn median_within(values: &[Option<f64>]) -> Option<Estimate> {
    let enough = values.iter().flatten().count() >= FEWEST;
    within(values.len(), enough, |sweeps| median_of(values, sweeps))
}

/// Ratio of two medians. Whole sweeps are resampled: what they had in common, both share.
#[must_use]
pub fn ratio_within(above: &[Option<f64>], below: &[Option<f64>]) -> Option<Estimate> {
    let enough = [above, below].map(|values| values.iter().flatten().count() >= FEWEST);
    let sweeps = above.len().max(below.len());
    within(sweeps, enough == [true; 2], |sweeps| {
        Some(median_of(above, sweeps)? / median_of(below, sweeps)?)
    })
}

fn median_of(values: &[Option<f64>], sweeps: &[usize]) -> Option<f64> {
    let values = sweeps
        .iter()
        .filter_map(|&sweep| values.get(sweep).copied()?);
    median(&values.collect::<Vec<_>>())
}

/// What `of` makes of all sweeps, and, if these are `enough`, of resampled ones.
fn within(sweeps: usize, enough: bool, of: impl Fn(&[usize]) -> Option<f64>) -> Option<Estimate> {
    let mut random = fastrand::Rng::with_seed(1);
    let all: Vec<_> = (0..sweeps).collect();
    let value = of(&all)?;
    let resampled = (0..if enough { RESAMPLES } else { 0 }).filter_map(|_| {
        let some: Vec<_> = all.iter().map(|_| random.usize(0..sweeps)).collect();
        of(&some)
    });
    let resampled: Vec<_> = resampled.collect();
    let low = percentile(&resampled, OUTSIDE);
    let high = percentile(&resampled, 1.0 - OUTSIDE);
    Some(Estimate {
        value,
        within: low.zip(high).map(|(low, high)| low..=high),
    })
}

/// Exponent of a power law through points of two positive numbers, by least squares of their logarithms: 1 is linear, 0
/// is constant.
#[must_use]
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<_> = points
        .iter()
        .filter(|(x, y)| *x > 0.0 && *y > 0.0)
        .map(|(x, y)| (x.ln(), y.ln()))
        .collect();
    if logs.len() < 2 {
        return None;
    }
    let n = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let covariance: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let variance: f64 = logs.iter().map(|p| (p.0 - x).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_percentiles_are_values_of_the_middle_and_the_edge() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.01), Some(1.0));
        assert_eq!(percentile(&values, 1.0), Some(100.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn an_interval_holds_its_value_and_is_narrow_for_equal_ones() {
        let found = median_within(&[Some(2.0); 30]).unwrap();
        assert_eq!((found.value, found.within), (2.0, Some(2.0..=2.0)));
        let values: Vec<_> = (0..40).map(|n| Some(100.0 + f64::from(n % 7))).collect();
        let found = median_within(&values).unwrap();
        let within = found.within.unwrap();
        assert!(within.contains(&found.value));
        assert!(*within.start() >= 100.0 && *within.end() <= 106.0);
        let few = median_within(&[Some(1.0), None, Some(3.0), None, None, None]).unwrap();
        assert_eq!((few.value, few.within), (2.0, None));
        assert_eq!(median_within(&[None; 3]), None);
        assert_eq!(median_within(&[]), None);
    }

    #[test]
    fn what_a_sweep_did_to_both_is_not_in_their_ratio() {
        let values: Vec<_> = (0..40)
            .map(|n| Some(100.0 + f64::from(n * 7 % 40)))
            .collect();
        let twice: Vec<_> = values.iter().map(|value| value.map(|v| v * 2.0)).collect();
        let ratio = ratio_within(&twice, &values).unwrap();
        assert_eq!((ratio.value, ratio.within), (2.0, Some(2.0..=2.0)));
        let missing: Vec<_> = values.iter().take(20).copied().collect();
        assert!(ratio_within(&missing, &values).unwrap().within.is_some());
        assert_eq!(ratio_within(&missing[..5], &values).unwrap().within, None);
        assert_eq!(ratio_within(&[None; 40], &values), None);
    }

    #[test]
    fn the_exponent_tells_linear_from_constant_and_square() {
        let of = |f: fn(f64) -> f64| {
            let points: Vec<_> = [2.0, 8.0, 64.0, 128.0].iter().map(|&x| (x, f(x))).collect();
            exponent(&points).unwrap()
        };
        assert!((of(|x| 3.0 * x) - 1.0).abs() < 1e-9);
        assert!(of(|_| 5.0).abs() < 1e-9);
        assert!((of(|x| x * x) - 2.0).abs() < 1e-9);
        assert_eq!(exponent(&[(1.0, 1.0)]), None);
    }
}
