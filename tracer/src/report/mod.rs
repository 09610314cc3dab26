//! The report as a person or a program reads it. Pure: data in, text out.
//!
//! Text is at most [`Style::width`] columns wide: names are shortened in their middle, sentences are
//! wrapped at words, and columns that do not fit are left out and named in the last line.

pub mod block;
pub mod compare;
pub mod doctor;
pub mod explain;
pub mod json;
pub mod live;
pub mod number;
pub mod text;
pub mod tune;

mod bar;
mod page;
mod section;
mod table;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
pub(crate) mod tests;

pub use page::Style;

/// The line that every report ends with.
#[cfg(test)]
pub(crate) fn lost(losses: &crate::model::report::Losses) -> String {
    section::losses::summary(losses)
}

/// Columns that any table of the report can have.
#[cfg(test)]
pub(crate) fn titles_of_all_tables() -> std::collections::BTreeSet<&'static str> {
    for report in [
        fixture::incident(),
        fixture::benign_only(),
        fixture::lossy(),
    ] {
        for width in [80, 200] {
            let style = Style {
                width,
                ..Style::default()
            };
            let _ = text::render(&report, &style);
            let _ = live::screen(&report, None, &style, 60);
        }
    }
    table::titles_seen()
}
