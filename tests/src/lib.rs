//! Live scenarios.
