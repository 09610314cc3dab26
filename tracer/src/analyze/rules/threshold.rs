//! From where on something is a finding: one table, each value with its reason.

/// The thresholds of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds {}
