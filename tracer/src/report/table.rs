//! Tables that make themselves fit: first the least important columns go, then long names lose their middle.

use super::page::{Page, Span, Tone, columns, span};

/// Always shown.
pub(super) const ESSENTIAL: u8 = 0;

/// When a column has nothing to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    Never,
    /// Every cell is empty.
    Empty,
    /// Every cell is empty or a 0.
    Zero,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    right: bool,
    /// [`ESSENTIAL`], or the higher the sooner it goes.
    rank: u8,
    /// Columns that a long text can be shortened to; 0 if it must not be.
    shrinks_to: usize,
    /// When it is left out without a word.
    idle: Idle,
    /// Spaces before it.
    gap: usize,
}

impl Column {
    /// A number.
    pub(super) const fn number(title: &'static str, rank: u8) -> Self {
        Self {
            title,
            right: true,
            rank,
            shrinks_to: 0,
            idle: Idle::Never,
            gap: 2,
        }
    }

    /// A name that may be shortened to `shrinks_to` columns.
    pub(super) const fn name(title: &'static str, rank: u8, shrinks_to: usize) -> Self {
        Self {
            title,
            right: false,
            rank,
            shrinks_to,
            idle: Idle::Never,
            gap: 2,
        }
    }

    /// A bar right behind the number it belongs to; goes with it.
    pub(super) const fn bar(rank: u8) -> Self {
        Self {
            title: "",
            right: false,
            rank,
            shrinks_to: 0,
            idle: Idle::Empty,
            gap: 1,
        }
    }

    /// Not worth a column as long as all its counts are 0.
    pub(super) const fn if_any(mut self) -> Self {
        self.idle = Idle::Zero;
        self
    }

    /// Not worth a column as long as all its cells are empty.
    pub(super) const fn if_given(mut self) -> Self {
        self.idle = Idle::Empty;
        self
    }
}

#[cfg(test)]
thread_local! {
    /// Titles of the tables made on this thread.
    static SEEN: std::cell::RefCell<std::collections::BTreeSet<&'static str>> = const {
        std::cell::RefCell::new(std::collections::BTreeSet::new())
    };
}

/// Titles of the tables made on this thread, without the empty ones of bars.
#[cfg(test)]
pub(super) fn titles_seen() -> std::collections::BTreeSet<&'static str> {
    let mut titles = SEEN.with_borrow(Clone::clone);
    titles.remove("");
    titles
}

/// Rows of cells; every row has one for each column.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Span>>,
    /// A sentence under a row, by the row's place.
    notes: Vec<(usize, String)>,
}

impl Table {
    pub(super) fn new(columns: impl Into<Vec<Column>>) -> Self {
        let columns = columns.into();
        #[cfg(test)]
        SEEN.with_borrow_mut(|seen| seen.extend(columns.iter().map(|column| column.title)));
        Self {
            columns,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: impl Into<Vec<Span>>) {
        self.rows.push(cells.into());
    }

    /// A sentence under the row last added.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push((self.rows.len(), note.into()));
    }

    /// Writes heading and rows, returns the columns left out for want of room; `name` is how the note about columns left out calls the table.
    pub(super) fn write(mut self, page: &mut Page, name: &str) -> Vec<&'static str> {
        for cell in self.rows.iter_mut().flatten() {
            cell.text = page.style.clean(&cell.text);
        }
        let natural: Vec<usize> = (0..self.columns.len()).map(|at| self.natural(at)).collect();
        let mut shown: Vec<usize> = (0..self.columns.len())
            .filter(|at| !self.is_idle(*at))
            .collect();
        let mut omitted = Vec::new();
        let room = page.style.columns();
        while self.least(&shown, &natural) > room {
            // Of equal ranks the rightmost goes first.
            let Some(at) = (0..shown.len()).max_by_key(|at| self.columns[shown[*at]].rank) else {
                break;
            };
            let column = self.columns[shown[at]];
            if column.rank == ESSENTIAL {
                break;
            }
            if !column.title.is_empty() {
                omitted.insert(0, column.title);
            }
            shown.remove(at);
        }
        page.omit(name, &omitted);
        let is_unknown = |at: &usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(*at));
            cells.any(|cell| cell.text == "?")
        };
        if shown.iter().any(is_unknown) {
            page.has_unknown();
        }
        let widths = self.widths(&shown, &natural, room);
        let heading: Vec<Span> = self
            .columns
            .iter()
            .map(|column| span(column.title, Tone::Strong))
            .collect();
        self.put(page, &shown, &widths, &heading);
        for (at, row) in self.rows.iter().enumerate() {
            self.put(page, &shown, &widths, row);
            for (_, note) in self.notes.iter().filter(|(under, _)| *under == at + 1) {
                page.item("    ", note, Tone::Plain, 4);
            }
        }
        omitted
    }

    fn natural(&self, at: usize) -> usize {
        let cells = self
            .rows
            .iter()
            .filter_map(|row| row.get(at))
            .map(|cell| columns(&cell.text));
        cells
            .max()
            .unwrap_or(0)
            .max(columns(self.columns[at].title))
    }

    fn is_idle(&self, at: usize) -> bool {
        if self.columns[at].idle == Idle::Never {
            return false;
        }
        let says_nothing = |cell: &Span| match self.columns[at].idle {
            Idle::Never => false,
            Idle::Empty => cell.text.trim().is_empty(),
            Idle::Zero => matches!(cell.text.trim(), "" | "0" | "0 %"),
        };
        self.rows
            .iter()
            .filter_map(|row| row.get(at))
            .all(says_nothing)
    }

    /// Width with every name as short as it may be.
    fn least(&self, shown: &[usize], natural: &[usize]) -> usize {
        let gaps = self.gaps(shown);
        shown
            .iter()
            .map(|at| self.shortest(*at, natural))
            .sum::<usize>()
            + gaps
    }

    fn shortest(&self, at: usize, natural: &[usize]) -> usize {
        match self.columns[at].shrinks_to {
            0 => natural[at],
            least => natural[at].min(least.max(columns(self.columns[at].title))),
        }
    }

    fn gaps(&self, shown: &[usize]) -> usize {
        shown.iter().skip(1).map(|at| self.columns[*at].gap).sum()
    }

    fn widths(&self, shown: &[usize], natural: &[usize], room: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = shown.iter().map(|at| self.shortest(*at, natural)).collect();
        let mut left = room.saturating_sub(widths.iter().sum::<usize>() + self.gaps(shown));
        for (width, at) in widths.iter_mut().zip(shown) {
            let grow = (natural[*at] - *width).min(left);
            *width += grow;
            left -= grow;
        }
        widths
    }

    fn put(&self, page: &mut Page, shown: &[usize], widths: &[usize], row: &[Span]) {
        let mut spans = Vec::new();
        for (place, (at, width)) in shown.iter().zip(widths).enumerate() {
            let column = self.columns[*at];
            let Some(cell) = row.get(*at) else { continue };
            let text = page.style.fit(&cell.text, *width);
            let padding = width - columns(&text).min(*width);
            let gap = if place == 0 { 0 } else { column.gap };
            let (before, after) = if column.right {
                (gap + padding, 0)
            } else {
                (gap, padding)
            };
            if before > 0 {
                spans.push(span(" ".repeat(before), Tone::Plain));
            }
            spans.push(span(text, cell.tone));
            if after > 0 && place + 1 < shown.len() {
                spans.push(span(" ".repeat(after), Tone::Plain));
            }
        }
        while spans.last().is_some_and(|last| last.text.trim().is_empty()) {
            spans.pop();
        }
        page.line(&spans);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;

    fn table(width: usize) -> String {
        let mut table = Table::new([
            Column::number("CPU", ESSENTIAL),
            Column::name("name", ESSENTIAL, 8),
            Column::number("second", 2),
            Column::number("first to go", 3),
            Column::number("never", ESSENTIAL).if_any(),
        ]);
        for n in 0..2 {
            let cells = [
                n.to_string(),
                "a name of some length".into(),
                "222".into(),
                "333".into(),
                "0".into(),
            ];
            table.row(cells.map(|text| span(text, Tone::Plain)));
        }
        let mut page = Page::new(Style {
            width,
            ..Style::default()
        });
        table.write(&mut page, "T");
        page.legend();
        page.finish()
    }

    #[test]
    fn with_room_for_all_nothing_is_shortened() {
        assert_eq!(
            table(80),
            "CPU  name                   second  first to go\n  0  a name of some length     222          333\n  \
             1  a name of some length     222          333\n"
        );
    }

    #[test]
    fn names_are_shortened_before_a_column_is_left_out() {
        assert_eq!(
            table(40).lines().nth(1),
            Some("  0  a name …length     222          333")
        );
    }

    #[test]
    fn a_column_without_anything_to_tell_is_left_out_without_a_word() {
        assert!(!table(80).contains("never"));
    }

    #[test]
    fn a_question_mark_is_only_explained_where_it_is_shown() {
        let explained = |width| {
            let mut table = Table::new([Column::name("a", ESSENTIAL, 0), Column::number("b", 1)]);
            table.row(["x".repeat(39), "?".to_owned()].map(|text| span(text, Tone::Plain)));
            let mut page = Page::new(Style {
                width,
                ..Style::default()
            });
            table.write(&mut page, "T");
            page.shows_unknown()
        };
        assert!(explained(80));
        assert!(!explained(40));
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let mut table = Table::new([
            Column::number("a", ESSENTIAL),
            Column::number("b", 1),
            Column::number("c", 2),
        ]);
        table.row(["1", "2", "3"].map(|n| span(n.repeat(18), Tone::Plain)));
        let mut page = Page::new(Style {
            width: 40,
            ..Style::default()
        });
        table.write(&mut page, "T");
        page.legend();
        assert_eq!(
            page.finish().lines().last(),
            Some("No room in 40 columns for: T (c)")
        );
    }
}
