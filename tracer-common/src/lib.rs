//! What the kernel side and the user side of tracer share. No I/O, no allocation, no dependency.
//!
//! Every type here is `repr(C)` without padding that matters: the kernel side writes it into a map
//! or a ring frame, the user side reads the same bytes.
#![no_std]

pub mod counter;
pub mod event;
pub mod hist;
pub mod layout;
pub mod run;
