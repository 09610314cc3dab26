//! System calls that no maintained crate wraps safely: one file each, the `unsafe` in it one call.

pub mod ethtool;
