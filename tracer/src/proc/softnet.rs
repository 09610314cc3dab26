//! `/proc/net/softnet_stat`: `softnet_seq_show` in net/core/net-procfs.c.

use std::{collections::BTreeMap, path::Path};

use super::error::{ParseError, ProcError, read};

const FILE: &str = "/proc/net/softnet_stat";

/// One row, cumulative since boot. u32 in the kernel: wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftnetRow {
    /// Packets that entered the stack on this CPU. Column 1.
    pub processed: u32,
    /// Packets this CPU's backlog refused. Column 2.
    pub dropped: u32,
    /// `NET_RX` runs that ended with work left. Column 3.
    pub time_squeeze: u32,
    /// IPIs received for packets that RPS steered here. Column 10.
    pub received_rps: Option<u32>,
    /// Packets refused by the flow limit. Column 11.
    pub flow_limit: Option<u32>,
    /// Packets waiting in the backlog; a level. Column 12.
    pub backlog_len: Option<u32>,
}

/// Reads the rows by CPU id. `online`: see [`parse`].
pub fn read_rows(proc: &Path, online: &[u32]) -> Result<BTreeMap<u32, SoftnetRow>, ProcError> {
    Ok(parse(&read(&proc.join("net/softnet_stat"))?, online)?)
}

/// Parses the rows by CPU id. What a column means is decided by how many there are, not by the
/// kernel's version; columns beyond those known are left alone.
///
/// The CPU id is column 13. A row without one belongs to the CPU at its place in `online`, because
/// the kernel prints online CPUs in order; then the number of rows must be that of `online`
/// (a CPU may have come or gone between the two reads: read both again).
pub fn parse(text: &str, online: &[u32]) -> Result<BTreeMap<u32, SoftnetRow>, ParseError> {
    let mut rows = BTreeMap::new();
    let mut without_id = 0;
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        let fail = |what: String| ParseError::new(FILE, index + 1, what);
        let columns: Vec<u32> = line
            .split_ascii_whitespace()
            .map(|word| hex(word).ok_or_else(|| fail(format!("`{word}` is no 32-bit hex number"))))
            .collect::<Result<_, _>>()?;
        let &[processed, dropped, time_squeeze, ..] = columns.as_slice() else {
            return Err(fail(format!(
                "{} columns, at least 3 expected",
                columns.len()
            )));
        };
        let cpu = if let Some(&cpu) = columns.get(12) {
            cpu
        } else {
            without_id += 1;
            *online
                .get(index)
                .ok_or_else(|| fail(format!("more rows than the {} online CPUs", online.len())))?
        };
        let row = SoftnetRow {
            processed,
            dropped,
            time_squeeze,
            received_rps: columns.get(9).copied(),
            flow_limit: columns.get(10).copied(),
            backlog_len: columns.get(11).copied(),
        };
        if rows.insert(cpu, row).is_some() {
            return Err(fail(format!("a second row for CPU {cpu}")));
        }
    }
    if rows.is_empty() {
        return Err(ParseError::new(FILE, 1, "empty"));
    }
    if without_id > 0 && rows.len() != online.len() {
        return Err(ParseError::new(
            FILE,
            last,
            format!("{} rows for {} online CPUs", rows.len(), online.len()),
        ));
    }
    Ok(rows)
}

/// `%08x`: hex digits only, `from_str_radix` also takes a sign.
fn hex(word: &str) -> Option<u32> {
    word.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| u32::from_str_radix(word, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS_15: &str = include_str!("../../tests/fixtures/softnet_stat/6.18-15-columns");
    const COLUMNS_13: &str =
        include_str!("../../tests/fixtures/softnet_stat/13-columns-cpu2-offline");
    const COLUMNS_11: &str = include_str!("../../tests/fixtures/softnet_stat/11-columns");
    const COLUMNS_9: &str = include_str!("../../tests/fixtures/softnet_stat/9-columns");

    #[test]
    fn fifteen_columns_carry_the_cpu_id() {
        let rows = parse(COLUMNS_15, &[]).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[&0].processed, 0x0f);
        assert_eq!(rows[&1].processed, 0x2b4f);
        assert_eq!(rows[&1].backlog_len, Some(0));
    }

    #[test]
    fn a_row_belongs_to_its_cpu_id_and_not_to_its_place() {
        let rows = parse(COLUMNS_13, &[]).unwrap();
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
        let row = rows[&3];
        assert_eq!(
            (row.processed, row.dropped, row.time_squeeze),
            (0xffff_fff0, 100_319, 3)
        );
        assert_eq!(row.received_rps, Some(0x11));
        assert_eq!(row.flow_limit, Some(0x12));
        assert_eq!(row.backlog_len, Some(8));
    }

    #[test]
    fn rows_without_cpu_id_follow_the_online_list() {
        let rows = parse(COLUMNS_11, &[0, 5]).unwrap();
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [0, 5]);
        assert_eq!(rows[&5].flow_limit, Some(2));
        assert_eq!(rows[&5].backlog_len, None);
    }

    #[test]
    fn columns_that_a_kernel_lacks_are_none() {
        let rows = parse(COLUMNS_9, &[0]).unwrap();
        assert_eq!(rows[&0].received_rps, None);
        assert_eq!(rows[&0].dropped, 1);
    }

    #[test]
    fn rows_without_cpu_id_that_do_not_match_the_online_list_are_an_error() {
        assert!(parse(COLUMNS_11, &[0]).is_err());
        assert!(parse(COLUMNS_11, &[0, 1, 2]).is_err());
    }

    #[test]
    fn malformed_rows_are_errors_with_their_line() {
        let first = COLUMNS_15.lines().next().unwrap();
        for second in [
            "00000001 00000002",
            "1 2 x",
            "1 2 100000000",
            "1 2 +3",
            first,
        ] {
            let error = parse(&format!("{first}\n{second}\n"), &[0, 1]).unwrap_err();
            assert_eq!(error.line, 2, "{second}: {error}");
        }
        assert!(parse("", &[]).is_err());
    }

    #[test]
    fn this_hosts_file_is_parsed() {
        let online = crate::proc::cpus::read_list(Path::new("/sys/devices/system/cpu/online"));
        let online = online.unwrap();
        let rows = read_rows(Path::new("/proc"), &online).unwrap();
        assert_eq!(rows.into_keys().collect::<Vec<_>>(), online);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(
            text in "(?s).*",
            close in "([0-9a-fA-F]{1,9}[ \n]){0,60}",
            online in proptest::collection::vec(any::<u32>(), 0..4),
        ) {
            let _ = parse(&text, &online);
            let _ = parse(&close, &online);
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..COLUMNS_13.len(), with in any::<char>()) {
            let mut text: Vec<char> = COLUMNS_13.chars().collect();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>(), &[0, 1, 3]);
        }
    }
}
