//! The report as a person or a program reads it. Pure: data in, text out.

pub mod number;
