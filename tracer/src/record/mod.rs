//! Recordings: what a live run knew, interval by interval, so that the same report can be made again. The format is
//! described in `docs/recording.md`.

pub mod delta;
pub mod frame;
pub mod reader;
pub mod replay;
pub mod seems;
pub mod state;
#[cfg(test)]
mod tests;
pub mod writer;

/// What the first line calls the format.
pub const FORMAT: &str = "tracer-recording";
/// Version of the format that this tracer writes, and the newest that it reads.
pub const VERSION: u32 = 2;
