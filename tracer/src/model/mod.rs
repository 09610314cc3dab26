//! The data that flows from the sources to the sinks; no logic beyond what keeps it consistent.

pub mod event;
pub mod finding;
pub mod report;
pub mod setting;
pub mod snapshot;
pub mod topology;
pub mod window;
