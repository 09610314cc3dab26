//! A share as a bar of block characters.

/// `part` of `whole` in `width` characters, to an eighth of one; padded with spaces. A share that is not 0 shows at least an eighth.
pub(super) fn bar(part: u64, whole: u64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    if whole == 0 {
        return " ".repeat(width);
    }
    let steps = u128::try_from(width * 8).unwrap_or(0);
    let filled = (u128::from(part.min(whole)) * steps).div_ceil(u128::from(whole));
    let filled = usize::try_from(filled).unwrap_or(0);
    let mut out = "█".repeat(filled / 8);
    if filled % 8 > 0 {
        out.push(EIGHTHS[filled % 8]);
    }
    let padding = width.saturating_sub(out.chars().count());
    out.extend(std::iter::repeat_n(' ', padding));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(1, 2, 4), "██  ");
        assert_eq!(bar(1, 1, 4), "████");
        assert_eq!(bar(0, 1, 4), "    ");
        assert_eq!(bar(0, 0, 4), "    ");
    }

    #[test]
    fn a_small_share_is_not_invisible() {
        assert_eq!(bar(1, 1_000_000, 4), "▏   ");
    }

    proptest! {
        #[test]
        fn a_bar_has_its_width(part: u64, whole: u64, width in 0usize..40) {
            prop_assert_eq!(bar(part, whole, width).chars().count(), width);
        }
    }
}
