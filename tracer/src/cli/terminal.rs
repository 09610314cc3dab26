//! What stdout is, and putting the terminal back as it was.

use std::io::{self, IsTerminal as _, Write as _};

use super::Color;

/// Columns when stdout is no terminal.
const WIDTH: usize = 80;

/// Columns and lines of the terminal behind stdout; `None` if it is none.
pub(super) fn size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let (width, height) = terminal_size::terminal_size()?;
    Some((width.0.into(), height.0.into()))
}

/// Columns to render for: those of the terminal, or `COLUMNS`, or 80.
pub(super) fn width() -> usize {
    size()
        .map(|(width, _)| width)
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok())
        .unwrap_or(WIDTH)
}

/// Whether to colour stdout.
pub(super) fn color(choice: Color) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            io::stdout().is_terminal()
                && !set("NO_COLOR")
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// Whether the locale takes characters beyond ASCII: the first of `LC_ALL`, `LC_CTYPE`, `LANG` that is set.
pub(super) fn unicode() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .is_some_and(|value| {
            let value = value.to_string_lossy().to_ascii_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        })
}

/// The alternate screen; left again when dropped, also on a panic.
pub(super) struct Screen(());

impl Screen {
    /// Switches to it.
    pub(super) fn enter() -> io::Result<Self> {
        let mut out = io::stdout();
        out.write_all(b"\x1b[?1049h\x1b[?25l")?;
        out.flush()?;
        Ok(Self(()))
    }

    /// Shows `text` from the top left corner on.
    #[expect(clippy::unused_self, reason = "only while the screen is entered")]
    pub(super) fn show(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[H")?;
        for line in text.lines() {
            out.write_all(line.as_bytes())?;
            out.write_all(b"\x1b[K\r\n")?;
        }
        out.write_all(b"\x1b[J")?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = out.write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = out.flush();
    }
}
