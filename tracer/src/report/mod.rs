//! The report as a person or a program reads it. Pure: data in, text out.
//!
//! Text is at most [`Style::width`] columns wide: names are shortened in their middle, sentences are
//! wrapped at words, and columns that do not fit are left out and named in the last line.

pub mod block;
pub mod doctor;
pub mod json;
pub mod live;
pub mod number;
pub mod text;

mod bar;
mod page;
mod section;
mod table;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use page::Style;
