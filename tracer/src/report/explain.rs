//! What `tracer explain` prints.

use super::page::{Page, Style, Tone};
use crate::explain::{Kind, Topic, thresholds as table, topics};

/// Topics of one name.
#[must_use]
pub fn render(found: &[&Topic], style: &Style) -> String {
    let mut page = Page::new(*style);
    for topic in found {
        page.blank();
        page.prose(
            &format!("{} ({})", topic.name, singular(topic.kind)),
            Tone::Strong,
            2,
        );
        page.item("  ", topic.text, Tone::Plain, 2);
    }
    page.finish()
}

/// All that can be asked for.
#[must_use]
pub fn list(style: &Style) -> String {
    let mut page = Page::new(*style);
    let kinds = [
        (Kind::Rule, "Rules"),
        (Kind::Column, "Columns"),
        (Kind::Stage, "Stages"),
        (Kind::Hook, "Hooks"),
        (Kind::Word, "Other words"),
        (Kind::Reason, "Drop reasons"),
    ];
    for (kind, title) in kinds {
        page.blank();
        page.plain(title, Tone::Strong);
        let names: Vec<_> = topics()
            .filter(|topic| topic.kind == kind)
            .map(|topic| topic.name)
            .collect();
        page.item("  ", &names.join(", "), Tone::Plain, 2);
    }
    page.blank();
    page.prose(
        "tracer explain NAME tells more; tracer explain thresholds lists --threshold's",
        Tone::Dim,
        2,
    );
    page.finish()
}

/// The thresholds, one an item.
#[must_use]
pub fn thresholds(style: &Style) -> String {
    let mut page = Page::new(*style);
    for line in table() {
        page.item("", &line, Tone::Plain, 4);
    }
    page.finish()
}

fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::Rule => "rule",
        Kind::Reason => "drop reason",
        Kind::Column => "column",
        Kind::Stage => "stage",
        Kind::Hook => "hook",
        Kind::Word => "word of the report",
    }
}
