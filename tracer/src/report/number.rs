//! Numbers as a person reads them.

use std::fmt::Write as _;

/// With thousand separators: `460,112`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With a sign, for differences: `+3`, `-29,115`, `0`.
#[must_use]
pub fn signed(n: i64) -> String {
    match n {
        0 => "0".to_owned(),
        1.. => format!("+{}", count(n.unsigned_abs())),
        _ => format!("-{}", count(n.unsigned_abs())),
    }
}

/// `once`, `12 times`.
#[must_use]
pub fn times(n: u64) -> String {
    if n == 1 {
        "once".to_owned()
    } else {
        format!("{} times", count(n))
    }
}

/// A number and its noun: `1 packet`, `2 packets`. Only for nouns with a plain plural.
#[must_use]
pub fn of(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Nanoseconds with the unit that leaves one to three digits before the point: `870 ns`, `1.2 ms`, `43 s`.
/// `unicode` chooses `µs` over `us`.
#[must_use]
pub fn duration(ns: u64, unicode: bool) -> String {
    let micro = if unicode { "µs" } else { "us" };
    let units = [
        (1, "ns"),
        (1_000, micro),
        (1_000_000, "ms"),
        (1_000_000_000, "s"),
    ];
    scaled(ns, &units)
}

/// A length of time in a sentence: `10 s`, `1.5 s`, `250 ms`. Rounded so that an interval that ends a little early
/// or late reads as it was asked for.
#[must_use]
pub fn span(ns: u64) -> String {
    if ns >= 100_000_000_000 {
        return format!(
            "{} s",
            count(ns.saturating_add(500_000_000) / 1_000_000_000)
        );
    }
    if ns >= 995_000_000 {
        let tenths = ns.saturating_add(50_000_000) / 100_000_000;
        return match tenths % 10 {
            0 => format!("{} s", tenths / 10),
            tenth => format!("{}.{tenth} s", tenths / 10),
        };
    }
    if ns >= 100_000_000 {
        return format!("{} ms", (ns + 5_000_000) / 10_000_000 * 10);
    }
    duration(ns, true)
}

/// Bytes in powers of 1,000: `60 B`, `1.7 MB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    let units = [
        (1, "B"),
        (1_000, "kB"),
        (1_000_000, "MB"),
        (1_000_000_000, "GB"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000_000_000, "PB"),
    ];
    scaled(n, &units)
}

/// Share of `part` in `whole`: `97 %`. Never rounded to 0 or 100 when it is neither: `<1 %`,
/// `>99 %`. `?` if `whole` is 0.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "?".to_owned();
    }
    let rounded = (u128::from(part) * 200 + u128::from(whole)) / (u128::from(whole) * 2);
    match rounded {
        0 if part > 0 => "<1 %".to_owned(),
        100 if part < whole => ">99 %".to_owned(),
        _ => format!("{rounded} %"),
    }
}

/// `part / whole` with one decimal below 100: `4.6`, `212`. `?` if `whole` is 0.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "?".to_owned();
    }
    let tenths = (u128::from(part) * 20 + u128::from(whole)) / (u128::from(whole) * 2);
    if tenths < 1_000 {
        return format!("{}.{}", tenths / 10, tenths % 10);
    }
    count(u64::try_from(tenths / 10).unwrap_or(u64::MAX))
}

/// `CPU 2`, `CPUs 0-2,4`.
#[must_use]
pub fn cpus(ids: impl IntoIterator<Item = u32>) -> String {
    let list = ranges(ids);
    let several = list.contains(['-', ',']);
    format!("CPU{} {list}", if several { "s" } else { "" })
}

/// Ids as ranges: `0-3,8`.
#[must_use]
pub fn ranges(ids: impl IntoIterator<Item = u32>) -> String {
    let mut ids: Vec<u32> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut out = String::new();
    let mut rest = ids.as_slice();
    while let [first, ..] = rest {
        let run = rest
            .iter()
            .zip(u64::from(*first)..)
            .take_while(|(id, next)| u64::from(**id) == *next)
            .count()
            .max(1);
        let comma = if out.is_empty() { "" } else { "," };
        let last = rest[run - 1];
        let _ = match run {
            1 => write!(out, "{comma}{first}"),
            _ => write!(out, "{comma}{first}-{last}"),
        };
        rest = &rest[run..];
    }
    out
}

/// A moment of `CLOCK_REALTIME` in UTC: `2026-01-31 03:12:07 UTC`.
#[must_use]
pub fn utc(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Gregorian date of a day since 1970-01-01, counted in years that begin in March so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Two significant digits below 10 of a unit, else whole.
fn scaled(n: u64, units: &[(u64, &str)]) -> String {
    let mut chosen = (1, "");
    for (size, name) in units {
        // 999.5 of a unit and more is rounded to 1,000 of it, which is 1.0 of the next.
        if *size == 1 || n >= size - size / 2_000 {
            chosen = (*size, name);
        }
    }
    let (size, name) = chosen;
    let tenths = (u128::from(n) * 20 + u128::from(size)) / (u128::from(size) * 2);
    if size == 1 || tenths >= 100 {
        let whole = (u128::from(n) * 2 + u128::from(size)) / (u128::from(size) * 2);
        return format!("{} {name}", count(u64::try_from(whole).unwrap_or(u64::MAX)));
    }
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_have_thousand_separators() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(460_112), "460,112");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(signed(-29_115), "-29,115");
        assert_eq!(signed(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn durations_keep_two_digits_and_change_unit_before_they_round_to_a_thousand() {
        for (ns, text) in [
            (0, "0 ns"),
            (870, "870 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (1_240_000, "1.2 ms"),
            (9_960_000, "10 ms"),
            (999_499, "999 µs"),
            (999_500, "1.0 ms"),
            (43_000_000_000, "43 s"),
        ] {
            assert_eq!(duration(ns, true), text, "{ns}");
        }
        assert_eq!(duration(1_000, false), "1.0 us");
    }

    #[test]
    fn a_share_is_only_called_all_or_nothing_when_it_is() {
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(1, 1_000), "<1 %");
        assert_eq!(percent(999, 1_000), ">99 %");
        assert_eq!(percent(10, 10), "100 %");
        assert_eq!(percent(97, 100), "97 %");
        assert_eq!(percent(1, 0), "?");
    }

    #[test]
    fn neighbouring_ids_are_one_range() {
        assert_eq!(ranges([3, 0, 1, 2, 8]), "0-3,8");
        assert_eq!(ranges([u32::MAX]), u32::MAX.to_string());
        assert_eq!(ranges([]), "");
    }

    #[test]
    fn a_moment_is_shown_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_735_689_599_000_000_000), "2024-12-31 23:59:59 UTC");
    }

    #[test]
    fn spans_read_as_they_were_asked_for() {
        assert_eq!(span(10_000_000_000), "10 s");
        assert_eq!(span(10_003_000_000), "10 s");
        assert_eq!(span(1_500_000_000), "1.5 s");
        assert_eq!(span(250_000_000), "250 ms");
        for ns in [999_000_000, 999_999_999, 1_000_000_000, 1_003_000_000] {
            assert_eq!(span(ns), "1 s", "{ns}");
        }
        assert_eq!(span(501_000_000), "500 ms");
        assert_eq!(span(99_000_000), "99 ms");
    }

    proptest! {
        #[test]
        fn any_number_can_be_shown(n: u64, m: u64, ids: Vec<u32>) {
            let _ = (count(n), duration(n, true), span(n), bytes(n), percent(n, m), ratio(n, m), utc(n), ranges(ids));
        }

        #[test]
        fn a_duration_is_at_most_six_characters_below_a_thousand_seconds(ns in 0u64..999_000_000_000) {
            prop_assert!(duration(ns, true).chars().count() <= 6);
        }
    }
}
