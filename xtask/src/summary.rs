//! Counting what tests say of themselves.

use std::{fmt, iter::Sum, ops::Add};

/// Tests, or whole steps, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Succeeded.
    pub passed: u64,
    /// Did not.
    pub failed: u64,
    /// Not run: ignored, or something they need is missing.
    pub skipped: u64,
}

impl Totals {
    /// One success.
    pub const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    /// One failure.
    pub const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    /// One left out.
    pub const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    /// Reads a summary line of libtest or libtest-mimic,
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; …`; `None` for any other line.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.split_once("test result: ")?.1.split_once(". ")?;
        let mut totals = Self::default();
        for count in counts.split("; ") {
            let Some((number, outcome)) = count.split_once(' ') else {
                continue;
            };
            let field = match outcome.trim_end() {
                "passed" => &mut totals.passed,
                "failed" => &mut totals.failed,
                "ignored" => &mut totals.skipped,
                _ => continue,
            };
            *field = number.parse().ok()?;
        }
        Some(totals)
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed.saturating_add(other.passed),
            failed: self.failed.saturating_add(other.failed),
            skipped: self.skipped.saturating_add(other.skipped),
        }
    }
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
        totals.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_line_of_libtest_is_counted_with_ignored_as_skipped() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s";
        assert_eq!(
            Totals::parse(line),
            Some(Totals {
                passed: 12,
                failed: 0,
                skipped: 1
            })
        );
    }

    #[test]
    fn a_failed_summary_is_counted_with_or_without_colour() {
        let plain = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        let coloured =
            "test result: \u{1b}[31mFAILED\u{1b}[0m. 3 passed; 2 failed; 0 ignored; 0 measured";
        for line in [plain, coloured] {
            assert_eq!(
                Totals::parse(line),
                Some(Totals {
                    passed: 3,
                    failed: 2,
                    skipped: 0
                })
            );
        }
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "",
            "test a_result ... ok",
            "test result: ",
            "test result: ok. x passed",
            "running 3 tests",
        ] {
            assert_eq!(Totals::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn totals_add_up_and_read_as_the_last_line() {
        let sum: Totals = [Totals::PASSED, Totals::PASSED, Totals::SKIPPED]
            .into_iter()
            .sum();
        assert_eq!(sum.to_string(), "2 passed, 0 failed, 1 skipped");
    }
}
