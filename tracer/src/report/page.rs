//! Lines of limited width, coloured for emphasis only.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Below this nothing can be told; a narrower terminal is treated as this wide.
pub(super) const MIN_WIDTH: usize = 40;

/// Explains the `?`.
pub(super) const UNKNOWN: &str = "? = not known";

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns; taken as 40 if less.
    pub width: usize,
    /// Emphasis by ANSI escapes: red for harm, dim for the ordinary.
    pub color: bool,
    /// Characters beyond ASCII (`µ`, `…`, bars).
    pub unicode: bool,
}

impl Default for Style {
    /// 80 columns, no colour, Unicode.
    fn default() -> Self {
        Self {
            width: 80,
            color: false,
            unicode: true,
        }
    }
}

impl Style {
    /// Usable columns.
    pub(super) fn columns(&self) -> usize {
        self.width.max(MIN_WIDTH)
    }

    /// Whether there is room for more than the essential.
    pub(super) fn is_wide(&self) -> bool {
        self.width >= 110
    }

    /// `text` with nothing in it that could move the cursor or hide: device and namespace names come
    /// from whoever made them.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\n' | '\t' => out.push(' '),
                _ if c.is_ascii() && !c.is_ascii_control() => out.push(c),
                _ if self.unicode && c.width().is_some_and(|width| width > 0) => out.push(c),
                'µ' => out.push('u'),
                '…' => out.push_str(".."),
                '→' => out.push_str("->"),
                '─' => out.push('-'),
                '█' | '▉' | '▊' | '▋' | '▌' => out.push('#'),
                '▍' | '▎' | '▏' => out.push(' '),
                _ => out.push('?'),
            }
        }
        out
    }

    /// `text` in `width` columns, its middle left out if it is longer. `text` has to be clean.
    pub(super) fn fit(&self, text: &str, width: usize) -> String {
        if columns(text) <= width {
            return text.to_owned();
        }
        let mark = if self.unicode { "…" } else { ".." };
        let Some(room) = width.checked_sub(columns(mark)) else {
            return ".".repeat(width);
        };
        let tail = take(text.chars().rev(), room / 2);
        let head = take(text.chars(), room - columns(&tail));
        format!("{head}{mark}{}", tail.chars().rev().collect::<String>())
    }
}

/// Columns that `text` takes, at most: the sum over its characters.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As many characters as fit into `width` columns.
fn take(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= width
        })
        .collect()
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Neither of the others.
    #[default]
    Plain,
    /// Stands out: the answer, headings.
    Strong,
    /// Ordinary, or about the report itself.
    Dim,
    /// Harm: packets or details lost.
    Alarm,
}

impl Tone {
    /// Alarm if `n` is not 0.
    pub(super) fn alarm_if(alarm: bool) -> Self {
        if alarm { Self::Alarm } else { Self::Plain }
    }

    fn ansi(self) -> anstyle::Style {
        let style = anstyle::Style::new();
        match self {
            Self::Plain => style,
            Self::Strong => style.bold(),
            Self::Dim => style.dimmed(),
            Self::Alarm => style.bold().fg_color(Some(anstyle::AnsiColor::Red.into())),
        }
    }
}

/// Text of one tone.
#[derive(Clone, Debug, Default)]
pub(super) struct Span {
    pub text: String,
    pub tone: Tone,
}

/// A piece of `text`.
pub(super) fn span(text: impl Into<String>, tone: Tone) -> Span {
    Span {
        text: text.into(),
        tone,
    }
}

/// Lines under construction.
pub(super) struct Page {
    pub style: Style,
    lines: Vec<String>,
    /// Columns left out, as `table (column, column)`.
    omitted: Vec<String>,
    /// Whether a `?` was printed.
    unknown: bool,
}

impl Page {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            lines: Vec::new(),
            omitted: Vec::new(),
            unknown: false,
        }
    }

    /// One line. What does not fit is cut off at its end, with a mark.
    pub(super) fn line(&mut self, spans: &[Span]) {
        let mut texts: Vec<String> = spans
            .iter()
            .map(|span| self.style.clean(&span.text))
            .collect();
        if let Some(last) = texts.last_mut() {
            last.truncate(last.trim_end().len());
        }
        let all: usize = texts.iter().map(|text| columns(text)).sum();
        let is_cut = all > self.style.columns();
        let mark = if self.style.unicode { "…" } else { ".." };
        let mut room = if is_cut {
            self.style.columns() - columns(mark)
        } else {
            all
        };
        let mut out = String::new();
        for (text, span) in texts.iter().zip(spans) {
            let shown = take(text.chars(), room);
            room -= columns(&shown);
            self.paint(&mut out, &shown, span.tone);
            if shown.len() < text.len() {
                break;
            }
        }
        if is_cut {
            out.push_str(mark);
        }
        self.lines.push(out);
    }

    /// Usable columns.
    pub(super) fn columns(&self) -> usize {
        self.style.columns()
    }

    /// One line of one tone.
    pub(super) fn plain(&mut self, text: impl Into<String>, tone: Tone) {
        self.line(&[span(text, tone)]);
    }

    /// An empty line, but not two in a row and not as the first.
    pub(super) fn blank(&mut self) {
        if self.lines.last().is_some_and(|line| !line.is_empty()) {
            self.lines.push(String::new());
        }
    }

    /// A sentence, broken at words; all lines but the first begin with `indent` spaces.
    pub(super) fn prose(&mut self, text: &str, tone: Tone, indent: usize) {
        self.item("", text, tone, indent);
    }

    /// A sentence behind a label that is kept as it is, broken at words; all lines but the first
    /// begin with `indent` spaces.
    pub(super) fn item(&mut self, label: &str, text: &str, tone: Tone, indent: usize) {
        let room = self.style.columns();
        let text = self.style.clean(text);
        let mut line = self.style.fit(&self.style.clean(label), room / 2);
        let mut empty = true;
        for word in words(&text) {
            if !empty && columns(&line) + 1 + columns(&word) > room {
                self.plain(std::mem::take(&mut line), tone);
                line = " ".repeat(indent.min(room / 2));
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            let left = room - columns(&line);
            line.push_str(&self.style.fit(&word, left));
            empty = false;
        }
        if !line.trim().is_empty() {
            self.plain(line, tone);
        }
    }

    /// A shell command behind a label. Where it is broken, a backslash keeps it one command when it is pasted.
    pub(super) fn command(&mut self, label: &str, command: &str, tone: Tone) {
        let room = self.style.columns();
        let command = self.style.clean(command);
        let label = self.style.fit(&self.style.clean(label), room / 2);
        let indent = " ".repeat(columns(&label).min(room / 4));
        let mut line = label;
        let mut empty = true;
        let mut words = command
            .split(' ')
            .filter(|word| !word.is_empty())
            .peekable();
        while let Some(word) = words.next() {
            // Unless this is the last word, a backslash may have to follow.
            let reserve = if words.peek().is_some() { 2 } else { 0 };
            if !empty && columns(&line) + 1 + columns(word) + reserve > room {
                line.push_str(" \\");
                self.plain(std::mem::replace(&mut line, indent.clone()), tone);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            let mut word = word;
            // In the middle of a word the next line has to begin at the margin.
            while columns(&line) + columns(word) + reserve > room {
                let part = take(word.chars(), room - 1 - columns(&line));
                word = word.get(part.len()..).unwrap_or_default();
                self.plain(format!("{line}{part}\\"), tone);
                line.clear();
            }
            line.push_str(word);
            empty = false;
        }
        if !line.trim().is_empty() {
            self.plain(line, tone);
        }
    }

    /// `label` and as many items as fit on one line; the rest as a number.
    pub(super) fn list(&mut self, label: &str, items: &[Span]) {
        let room = self.style.columns();
        let mut spans = vec![span(label, Tone::Plain)];
        let mut used = columns(&self.style.clean(label));
        for (at, item) in items.iter().enumerate() {
            let separator = if at == 0 { " " } else { ", " };
            let left = items.len() - at - 1;
            let rest = if left == 0 { 0 } else { columns(&more(left)) };
            let width = columns(&self.style.clean(&item.text)) + separator.len();
            if used + width + rest > room && at > 0 {
                spans.push(span(more(left + 1), Tone::Dim));
                break;
            }
            used += width;
            spans.push(span(separator, Tone::Plain));
            spans.push(item.clone());
        }
        self.line(&spans);
    }

    /// Keeps in mind that `columns` of `table` were left out.
    pub(super) fn omit(&mut self, table: &str, columns: &[&str]) {
        if !columns.is_empty() {
            self.omitted
                .push(format!("{table} ({})", columns.join(", ")));
        }
    }

    /// Keeps in mind that a `?` was printed.
    pub(super) fn has_unknown(&mut self) {
        self.unknown = true;
    }

    /// Whether a `?` was printed.
    pub(super) fn shows_unknown(&self) -> bool {
        self.unknown
    }

    /// What the reader has to know about the page itself.
    pub(super) fn legend(&mut self) {
        if self.unknown {
            self.plain(UNKNOWN, Tone::Dim);
        }
        if !self.omitted.is_empty() {
            let text = format!(
                "No room in {} columns for: {}",
                self.style.columns(),
                self.omitted.join(", ")
            );
            self.prose(&text, Tone::Dim, 2);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Drops lines from the end until `lines` are left.
    pub(super) fn truncate(&mut self, lines: usize) {
        self.lines.truncate(lines);
    }

    /// All lines, each ended.
    pub(super) fn finish(mut self) -> String {
        while self.lines.last().is_some_and(String::is_empty) {
            self.lines.pop();
        }
        let mut out = self.lines.join("\n");
        out.push('\n');
        out
    }

    fn paint(&self, out: &mut String, text: &str, tone: Tone) {
        if self.style.color && tone != Tone::Plain && !text.trim().is_empty() {
            let ansi = tone.ansi();
            let _ = write!(out, "{ansi}{text}{ansi:#}");
        } else {
            out.push_str(text);
        }
    }
}

/// Words of a sentence; a number stays with its unit, and `CPU` with its number.
fn words(text: &str) -> Vec<String> {
    const UNITS: [&str; 12] = [
        "%", "ns", "us", "µs", "ms", "s", "B", "kB", "MB", "GB", "packets", "times",
    ];
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let bare = word.trim_end_matches([',', ';', ')', ':']);
        match words.last_mut() {
            Some(last) if UNITS.contains(&bare) && last.ends_with(|c: char| c.is_ascii_digit()) => {
                last.push(' ');
                last.push_str(word);
            }
            Some(last)
                if last.ends_with("CPU") && word.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

fn more(n: usize) -> String {
    format!(", +{n} more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(width: usize) -> Style {
        Style {
            width,
            color: false,
            unicode: false,
        }
    }

    #[test]
    fn a_long_name_loses_its_middle() {
        assert_eq!(
            Style::default().fit("virtio3-input.0-and-more", 11),
            "virti…-more"
        );
        assert_eq!(ascii(80).fit("virtio3-input.0-and-more", 11), "virti..more");
        assert_eq!(Style::default().fit("short", 11), "short");
        assert_eq!(Style::default().fit("long", 0), "");
    }

    #[test]
    fn a_name_cannot_smuggle_escapes_into_the_terminal() {
        assert_eq!(
            Style::default().clean("eth\u{1b}[31m0\u{202e}"),
            "eth?[31m0?"
        );
        assert_eq!(ascii(80).clean("12 µs → é"), "12 us -> ?");
    }

    #[test]
    fn a_sentence_is_broken_at_words() {
        let mut page = Page::new(ascii(40));
        page.prose(
            "one two three four five six seven eight nine ten",
            Tone::Plain,
            2,
        );
        assert_eq!(
            page.finish(),
            "one two three four five six seven eight\n  nine ten\n"
        );
    }

    #[test]
    fn a_broken_command_is_still_one_command() {
        let mut page = Page::new(ascii(40));
        page.command(
            "  ",
            "for v in 24:0 25:1 26:2 27:3 28:4; do echo $v; done",
            Tone::Plain,
        );
        page.command(
            "  ",
            "cat /sys/class/net/enp129s0f0np0/queues/rx-0/rps_cpus",
            Tone::Plain,
        );
        let text = page.finish();
        assert_eq!(
            text,
            "  for v in 24:0 25:1 26:2 27:3 28:4; \\\n  do echo $v; done\n  cat \\\n  \
             /sys/class/net/enp129s0f0np0/queues/r\\\nx-0/rps_cpus\n"
        );
        let pasted = text.replace("\\\n", "");
        assert!(pasted.contains("28:4;   do echo"), "{pasted}");
        assert!(
            pasted.contains("enp129s0f0np0/queues/rx-0/rps_cpus"),
            "{pasted}"
        );
    }

    #[test]
    fn a_list_says_how_many_items_found_no_room() {
        let mut page = Page::new(ascii(40));
        let items: Vec<_> = (0..9)
            .map(|n| span(format!("item number {n}"), Tone::Plain))
            .collect();
        page.list("found:", &items);
        assert_eq!(page.finish(), "found: item number 0, +8 more\n");
    }

    #[test]
    fn colour_only_adds_escapes() {
        let mut page = Page::new(Style {
            color: true,
            ..Style::default()
        });
        page.plain("harm", Tone::Alarm);
        page.plain("plain", Tone::Plain);
        let text = page.finish();
        assert!(text.starts_with("\u{1b}["), "{text:?}");
        assert!(
            text.contains("harm") && text.ends_with("\nplain\n"),
            "{text:?}"
        );
    }
}
