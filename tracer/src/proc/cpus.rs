//! CPU lists (`0-3,8`) and which CPUs there are, on which NUMA node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use super::error::{ParseError, ProcError, read};

/// CPU ids at or above this are refused: no kernel is built for so many (`NR_CPUS` is at most 8192).
pub const MAX_CPUS: u32 = 1 << 16;

/// Which CPUs there are. From /sys/devices/system/cpu and /sys/devices/system/node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Running now.
    pub online: Vec<u32>,
    /// Could ever be there without a restart; per-CPU maps have an entry for each.
    pub possible: Vec<u32>,
    /// Plugged in.
    pub present: Vec<u32>,
    /// NUMA node by CPU id; empty where the kernel does not say.
    pub node_of: BTreeMap<u32, u32>,
    /// NUMA nodes, those without a CPU included; 1 where the kernel does not say.
    pub nodes: u32,
}

impl Cpus {
    /// Reads `<sys>/devices/system/{cpu,node}`. A kernel without NUMA has no `node`: that is no error.
    pub fn read(sys: &Path) -> Result<Self, ProcError> {
        let system = sys.join("devices/system");
        let list = |name: &str| read_list(&system.join("cpu").join(name));
        let mut cpus = Self {
            online: list("online")?,
            possible: list("possible")?,
            present: list("present")?,
            ..Self::default()
        };
        for entry in std::fs::read_dir(system.join("node")).into_iter().flatten() {
            let Ok(entry) = entry else { continue };
            let Some(node) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix("node"))
                .and_then(|number| number.parse().ok())
            else {
                continue;
            };
            cpus.nodes += 1;
            for cpu in read_list(&entry.path().join("cpulist"))? {
                cpus.node_of.insert(cpu, node);
            }
        }
        cpus.nodes = cpus.nodes.max(1);
        Ok(cpus)
    }
}

/// Which CPUs were online whenever somebody looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attendance {
    ever: BTreeSet<u32>,
    always: Option<BTreeSet<u32>>,
}

impl Attendance {
    /// These are online now.
    pub fn see(&mut self, online: &[u32]) {
        self.ever.extend(online);
        match &mut self.always {
            Some(always) => always.retain(|cpu| online.contains(cpu)),
            None => self.always = Some(online.iter().copied().collect()),
        }
    }

    /// CPUs that were online at one time and offline at another.
    #[must_use]
    pub fn changed(&self) -> BTreeSet<u32> {
        let always = self.always.clone().unwrap_or_default();
        self.ever.difference(&always).copied().collect()
    }
}

/// Reads a file that holds one CPU list.
pub fn read_list(path: &Path) -> Result<Vec<u32>, ProcError> {
    parse_list(&read(path)?).map_err(|mut error| {
        error.file = path.display().to_string().into();
        error.into()
    })
}

/// Parses a CPU list as the kernel prints it (`%*pbl`): ascending ids and ranges, empty for no CPU.
pub fn parse_list(text: &str) -> Result<Vec<u32>, ParseError> {
    let fail = |what: String| ParseError::new("CPU list", 1, what);
    let mut cpus = Vec::new();
    let text = text.trim();
    if text.is_empty() {
        return Ok(cpus);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let id = |text: &str| {
            number(text)
                .filter(|&id| id < MAX_CPUS)
                .ok_or_else(|| fail(format!("`{part}` is no CPU id or range")))
        };
        let (first, last) = (id(first)?, id(last)?);
        if last < first || cpus.last().is_some_and(|&previous| first <= previous) {
            return Err(fail(format!("`{part}` is not in ascending order")));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// Parses a CPU mask as the kernel prints it (`%*pb`): hexadecimal words of 32 CPUs, the highest first, with commas
/// between them (`3,00000001`: CPUs 0, 32 and 33).
pub fn parse_mask(text: &str) -> Result<Vec<u32>, ParseError> {
    let fail = |what: String| ParseError::new("CPU mask", 1, what);
    let words: Vec<&str> = text.trim().split(',').collect();
    let mut cpus = Vec::new();
    for (base, (index, word)) in (0..MAX_CPUS)
        .step_by(32)
        .zip(words.iter().enumerate().rev())
    {
        // Only the highest word may be short: it ends with the last possible CPU.
        let is_word = match index {
            0 => (1..=8).contains(&word.len()),
            _ => word.len() == 8,
        } && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u32::from_str_radix(word, 16)
            .ok()
            .filter(|_| is_word)
            .ok_or_else(|| fail(format!("`{word}` is no word of a mask")))?;
        cpus.extend(
            (0..32)
                .filter(|bit| bits & 1 << bit != 0)
                .map(|bit| base + bit),
        );
    }
    if words.len() > MAX_CPUS as usize / 32 {
        return Err(fail(format!("{} words are too many", words.len())));
    }
    Ok(cpus)
}

/// The list of `cpus` as the kernel prints it. Ids must ascend.
#[must_use]
pub fn format_list(cpus: &[u32]) -> String {
    let mut text = String::new();
    for range in cpus.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let (Some(first), Some(last)) = (range.first(), range.last()) else {
            continue;
        };
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = if first == last {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first}-{last}")
        };
    }
    text
}

/// A decimal number of digits only: `u32::from_str` also takes a sign.
pub(crate) fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// CPU ids of a table's first line: `CPU0 CPU2`.
pub(crate) fn parse_header(file: &'static str, line: Option<&str>) -> Result<Vec<u32>, ParseError> {
    let Some(line) = line else {
        return Err(ParseError::new(file, 1, "empty"));
    };
    let cpus: Vec<u32> = line
        .split_whitespace()
        .map(|word| {
            word.strip_prefix("CPU")
                .and_then(number)
                .ok_or_else(|| ParseError::new(file, 1, format!("`{word}` is no CPU column")))
        })
        .collect::<Result<_, _>>()?;
    if cpus.is_empty() {
        return Err(ParseError::new(file, 1, "no CPU columns"));
    }
    if !cpus.is_sorted_by(|a, b| a < b) {
        return Err(ParseError::new(file, 1, "CPU columns do not ascend"));
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cpu_that_was_away_for_a_while_has_changed() {
        let mut seen = Attendance::default();
        assert!(seen.changed().is_empty());
        seen.see(&[0, 1, 2]);
        assert!(seen.changed().is_empty());
        seen.see(&[0, 1]);
        seen.see(&[0, 1, 2, 5]);
        assert!(seen.changed().iter().eq(&[2, 5]));
    }

    use std::{collections::BTreeSet, fs};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_of_ranges_and_single_ids_is_parsed() {
        assert_eq!(
            parse_list("0-3,8,10-11\n").unwrap(),
            [0, 1, 2, 3, 8, 10, 11]
        );
    }

    #[test]
    fn an_empty_list_has_no_cpus() {
        assert!(parse_list("\n").unwrap().is_empty());
    }

    #[test]
    fn a_mask_of_several_words_is_parsed() {
        assert_eq!(parse_mask("3\n").unwrap(), [0, 1]);
        assert_eq!(parse_mask("00\n").unwrap(), [0u32; 0]);
        assert_eq!(
            parse_mask("80000000,00000000,00000000,00010001").unwrap(),
            [0, 16, 127]
        );
        for text in [
            "",
            "0x3",
            "3,1",
            "123456789",
            "+1",
            "f,,00000000",
            "g",
            "1,000000000",
        ] {
            assert!(parse_mask(text).is_err(), "{text}");
        }
        assert!(parse_mask(&"00000000,".repeat(3000)).is_err());
    }

    proptest! {
        #[test]
        fn a_mask_parses_to_the_cpus_it_was_made_of(
            cpus in proptest::collection::btree_set(0u32..2048, 0..80),
            spare in 0usize..3,
        ) {
            let words = cpus.last().map_or(0, |last| *last as usize / 32) + 1 + spare;
            let mut mask = vec![0u32; words];
            for cpu in &cpus {
                mask[*cpu as usize / 32] |= 1 << (cpu % 32);
            }
            let text: Vec<_> = mask.iter().rev().map(|word| format!("{word:08x}")).collect();
            let parsed = parse_mask(&text.join(",")).unwrap();
            prop_assert_eq!(parsed, cpus.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_text_makes_the_mask_parser_panic(text in ".*", close in "[,0-9a-f]{0,60}") {
            let _ = parse_mask(&text);
            if let Ok(cpus) = parse_mask(&close) {
                prop_assert!(cpus.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn malformed_lists_are_errors() {
        for text in [
            "3-1",
            "1,1",
            "2,1",
            "a",
            "0-",
            "-1",
            "0,,1",
            "+1",
            "0-4294967295",
            "99999",
            "0x1",
        ] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_and_their_nodes_are_read_from_sysfs() {
        let sys = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = sys.path().join("devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("cpu/online", "0-2\n");
        write("cpu/possible", "0-7\n");
        write("cpu/present", "0-3\n");
        write("node/node0/cpulist", "0-1\n");
        write("node/node1/cpulist", "2-3\n");
        write("node/node2/cpulist", "\n");
        write("node/possible", "0-2\n");
        let cpus = Cpus::read(sys.path()).unwrap();
        assert_eq!(cpus.online, [0, 1, 2]);
        assert_eq!(cpus.possible.len(), 8);
        assert_eq!(cpus.present, [0, 1, 2, 3]);
        assert_eq!(cpus.nodes, 3);
        assert_eq!(cpus.node_of, [(0, 0), (1, 0), (2, 1), (3, 1)].into());
    }

    #[test]
    fn a_kernel_without_numa_has_one_node_and_no_cpu_on_it() {
        let sys = tempfile::tempdir().unwrap();
        let dir = sys.path().join("devices/system/cpu");
        fs::create_dir_all(&dir).unwrap();
        for name in ["online", "possible", "present"] {
            fs::write(dir.join(name), "0\n").unwrap();
        }
        let cpus = Cpus::read(sys.path()).unwrap();
        assert_eq!((cpus.nodes, cpus.node_of.len()), (1, 0));
    }

    #[test]
    fn an_error_in_a_list_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("online");
        fs::write(&path, "x").unwrap();
        let error = read_list(&path).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }

    #[test]
    fn this_host_has_an_online_cpu() {
        let cpus = Cpus::read(Path::new("/sys")).unwrap();
        assert!(!cpus.online.is_empty());
        assert!(cpus.nodes >= 1);
    }

    proptest! {
        #[test]
        fn a_formatted_list_parses_to_the_same_cpus(
            cpus in proptest::collection::btree_set(0..MAX_CPUS, 0..50),
            dense in proptest::collection::btree_set(0u32..64, 0..64),
        ) {
            let cpus: Vec<u32> = cpus.union(&dense).copied().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(parse_list(&format_list(&cpus)).unwrap(), cpus);
        }

        #[test]
        fn no_text_makes_the_list_parser_panic(text in ".*", close in "[-,0-9]{0,40}") {
            let _ = parse_list(&text);
            if let Ok(cpus) = parse_list(&close) {
                prop_assert!(cpus.is_sorted_by(|a, b| a < b));
            }
        }

        #[test]
        fn formatting_never_panics(cpus in proptest::collection::vec(any::<u32>(), 0..20)) {
            let _ = format_list(&cpus);
        }
    }
}
