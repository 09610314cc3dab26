//! The difference of two snapshots.
