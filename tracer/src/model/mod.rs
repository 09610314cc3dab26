//! The data that flows from the sources to the sinks; no logic beyond what keeps it consistent.

pub mod event;
pub mod report;
pub mod snapshot;
pub mod window;
