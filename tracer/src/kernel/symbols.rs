//! Names of kernel addresses: /proc/kallsyms, text symbols only (`kallsyms_show` in kernel/kallsyms.c).
//!
//! The file is read as a stream (here 122,105 lines, 5.4 MB); what stays is one string of names and 12
//! bytes a function: 64,079 functions, 2.2 MB, read in 47 ms of which the kernel takes 39 to print the file.

use std::{
    fmt,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use crate::proc::{ParseError, ProcError};

const FILE: &str = "kallsyms";
/// Longest distance from a symbol at which an address still belongs to it. Sizes are not in the file, and
/// behind the last function of the kernel or of a module may be anything.
const MAX_FUNCTION_BYTES: u64 = 1 << 20;

/// Kernel symbols, or the fact that the kernel hides them.
#[derive(Debug)]
pub enum Symbols {
    /// Functions by address.
    Table(Table),
    /// Every address reads as zero: `kernel.kptr_restrict` is 2, or 1 without `CAP_SYSLOG`.
    Hidden,
}

/// Functions by address.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    segments: Vec<Segment>,
    names: String,
    modules: Vec<Box<str>>,
}

/// A function; its address is that of its segment and `offset`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u32,
    name: u32,
    name_len: u16,
    /// 0: the kernel itself; else 1 + index into the modules.
    module: u16,
}

/// Functions within 4 GiB; the kernel and its modules usually are one.
#[derive(Clone, Copy, Debug)]
struct Segment {
    base: u64,
    /// Index of its first entry.
    first: usize,
}

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Function as in the source: suffixes that a compiler added (`.cold`, `.isra.0`, …) are cut off.
    pub name: &'a str,
    /// Symbol as in the file.
    pub raw_name: &'a str,
    /// Module; `None` for the kernel itself, `bpf` for a program.
    pub module: Option<&'a str>,
    /// Distance from the begin of `raw_name`, bytes. A `.cold` part is a symbol of its own.
    pub offset: u64,
}

impl fmt::Display for Symbol<'_> {
    /// `kfree_skb_list`, or `e1000_clean [e1000]` in a module; without the offset.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.module {
            Some(module) => write!(f, "{} [{module}]", self.name),
            None => f.write_str(self.name),
        }
    }
}

/// Whether the kernel hides all addresses from this process, judged by the first function and so
/// without reading the rest. False if `path` cannot be read.
#[must_use]
pub fn are_hidden(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    // Before the functions some kernels list per-CPU data, whose addresses begin at 0.
    BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            let (address, rest) = line.split_once(' ')?;
            rest.starts_with(['t', 'T', 'w', 'W'])
                .then(|| address.bytes().all(|digit| digit == b'0'))
        })
        .unwrap_or(false)
}

impl Symbols {
    /// Reads `path` (/proc/kallsyms).
    pub fn load(path: &Path) -> Result<Self, ProcError> {
        let read_error = |source| ProcError::Read {
            path: path.to_owned(),
            source,
        };
        let mut reader = BufReader::with_capacity(64 * 1024, File::open(path).map_err(read_error)?);
        let mut builder = Builder::default();
        let mut line = Vec::with_capacity(512);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(read_error)? == 0 {
                break;
            }
            builder.add(&line)?;
        }
        Ok(builder.finish())
    }

    /// Parses the text of the file.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut builder = Builder::default();
        for line in text.lines() {
            builder.add(line.as_bytes())?;
        }
        Ok(builder.finish())
    }

    /// The function that `address` is in. `None` where symbols are hidden, before the first function, and
    /// more than 1 MiB behind the begin of the nearest one.
    ///
    /// The padding before a function (`__pfx_…`, never executed) counts for the function before it.
    #[must_use]
    pub fn resolve(&self, address: u64) -> Option<Symbol<'_>> {
        match self {
            Self::Table(table) => table.resolve(address),
            Self::Hidden => None,
        }
    }

    /// The function that a call returning to `address` was made from. A call that never returns may be the
    /// last instruction of its function: then `address` itself is the begin of the next. The offset is that
    /// of `address`.
    #[must_use]
    pub fn resolve_return_address(&self, address: u64) -> Option<Symbol<'_>> {
        let symbol = self.resolve(address.checked_sub(1)?)?;
        Some(Symbol {
            offset: symbol.offset + 1,
            ..symbol
        })
    }

    /// True if the kernel hides its addresses.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        matches!(self, Self::Hidden)
    }
}

impl Table {
    fn resolve(&self, address: u64) -> Option<Symbol<'_>> {
        let after = self
            .segments
            .partition_point(|segment| segment.base <= address);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let end = self
            .segments
            .get(after)
            .map_or(self.entries.len(), |next| next.first);
        let entries = self.entries.get(segment.first..end)?;
        let distance = address - segment.base;
        let after = entries.partition_point(|entry| u64::from(entry.offset) <= distance);
        let entry = entries.get(after.checked_sub(1)?)?;
        let offset = distance - u64::from(entry.offset);
        if offset >= MAX_FUNCTION_BYTES {
            return None;
        }
        let start = entry.name as usize;
        let raw_name = self.names.get(start..start + usize::from(entry.name_len))?;
        let module = usize::from(entry.module)
            .checked_sub(1)
            .and_then(|index| self.modules.get(index));
        Some(Symbol {
            name: fold_suffixes(raw_name),
            raw_name,
            module: module.map(AsRef::as_ref),
            offset,
        })
    }

    /// Number of functions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any function.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory that the table keeps, bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.names.capacity()
            + self
                .modules
                .iter()
                .map(|name| name.len() + 16)
                .sum::<usize>()
    }
}

/// Cuts off what a compiler appended to a function's name, as often as it did:
/// `foo.isra.0.cold` is `foo`. Other suffixes are part of the name.
#[must_use]
pub fn fold_suffixes(raw_name: &str) -> &str {
    let mut name = raw_name;
    loop {
        let without_number = match name.rsplit_once('.') {
            Some((rest, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
            _ => name,
        };
        match without_number.rsplit_once('.') {
            Some((
                rest,
                "cold" | "constprop" | "isra" | "part" | "llvm" | "lto_priv" | "localalias",
            )) if !rest.is_empty() => name = rest,
            _ => return name,
        }
    }
}

/// A function as it was read.
#[derive(Clone, Copy, Debug)]
struct Found {
    address: u64,
    name: u32,
    name_len: u16,
    module: u16,
    preference: (Binding, u8),
}

/// Which of several names of one address is shown: the first, then the one with fewer underscores before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Global,
    Weak,
    Local,
}

/// Collects lines.
#[derive(Default)]
struct Builder {
    lines: usize,
    found: Vec<Found>,
    names: String,
    modules: Vec<Box<str>>,
}

impl Builder {
    fn add(&mut self, line: &[u8]) -> Result<(), ParseError> {
        self.lines += 1;
        let line_number = self.lines;
        let fail = |what: &str| ParseError::new(FILE, line_number, what);
        let line = std::str::from_utf8(line).map_err(|_| fail("not UTF-8"))?;
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            return Err(fail("no address, type and name"));
        };
        let address =
            u64::from_str_radix(address, 16).map_err(|_| fail("address is no hex number"))?;
        let binding = match kind {
            "T" => Binding::Global,
            "W" => Binding::Weak,
            "t" | "w" => Binding::Local,
            _ => return Ok(()),
        };
        // A hidden address, padding before a function, a mapping symbol (arm64).
        if address == 0
            || name.starts_with("__pfx_")
            || name.starts_with("__cfi_")
            || name.starts_with('$')
        {
            return Ok(());
        }
        let module = match words.next() {
            Some(module) => self.module(module.trim_matches(['[', ']'])),
            None => Some(0),
        }
        .ok_or_else(|| fail("more modules than 65,535"))?;
        let underscores = name.bytes().take_while(|&byte| byte == b'_').count();
        let preference = (binding, u8::try_from(underscores).unwrap_or(u8::MAX));
        // Aliases follow each other; the name of the one that is not shown is not kept.
        if let Some(last) = self.found.last()
            && (last.address, last.module) == (address, module)
        {
            if last.preference <= preference {
                return Ok(());
            }
            self.names.truncate(last.name as usize);
            self.found.pop();
        }
        let start =
            u32::try_from(self.names.len()).map_err(|_| fail("more than 4 GiB of names"))?;
        let name_len = u16::try_from(name.len()).map_err(|_| fail("name of more than 64 KiB"))?;
        self.names.push_str(name);
        self.found.push(Found {
            address,
            name: start,
            name_len,
            module,
            preference,
        });
        Ok(())
    }

    /// 1 + index of the module; the file lists a module's symbols together.
    fn module(&mut self, name: &str) -> Option<u16> {
        if self.modules.last().is_none_or(|last| **last != *name) {
            match self.modules.iter().position(|known| **known == *name) {
                Some(known) => return u16::try_from(known + 1).ok(),
                None => self.modules.push(name.into()),
            }
        }
        u16::try_from(self.modules.len()).ok()
    }

    fn finish(mut self) -> Symbols {
        if self.found.is_empty() {
            return Symbols::Hidden;
        }
        self.found
            .sort_by_key(|found| (found.address, found.preference));
        self.found.dedup_by_key(|found| found.address);
        self.names.shrink_to_fit();
        let mut table = Table {
            entries: Vec::with_capacity(self.found.len()),
            names: self.names,
            modules: self.modules,
            ..Table::default()
        };
        for found in self.found {
            let base = table.segments.last().map(|segment| segment.base);
            let offset = base.and_then(|base| u32::try_from(found.address - base).ok());
            if offset.is_none() {
                table.segments.push(Segment {
                    base: found.address,
                    first: table.entries.len(),
                });
            }
            table.entries.push(Entry {
                offset: offset.unwrap_or(0),
                name: found.name,
                name_len: found.name_len,
                module: found.module,
            });
        }
        Symbols::Table(table)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXCERPT: &str = include_str!("../../tests/fixtures/kallsyms/excerpt");
    const RESTRICTED: &str = include_str!("../../tests/fixtures/kallsyms/kptr-restricted");

    fn excerpt() -> Symbols {
        Symbols::parse(EXCERPT).unwrap()
    }

    #[test]
    fn an_address_belongs_to_the_function_that_begins_before_it() {
        let symbols = excerpt();
        let symbol = symbols.resolve(0xffff_ffff_81a0_0110).unwrap();
        assert_eq!((symbol.name, symbol.offset), ("enqueue_to_backlog", 0x10));
        assert_eq!(symbol.module, None);
        assert_eq!(symbol.to_string(), "enqueue_to_backlog");
    }

    #[test]
    fn a_cold_part_is_its_function() {
        let symbols = excerpt();
        let symbol = symbols.resolve(0xffff_ffff_8100_0205).unwrap();
        assert_eq!(symbol.name, "enqueue_to_backlog");
        assert_eq!(symbol.raw_name, "enqueue_to_backlog.cold");
        assert_eq!(symbol.offset, 5);
    }

    #[test]
    fn suffixes_of_a_compiler_are_folded_and_others_kept() {
        for (raw_name, name) in [
            ("foo.cold", "foo"),
            ("foo.cold.12", "foo"),
            ("foo.constprop.0", "foo"),
            ("foo.isra.0", "foo"),
            ("foo.part.3", "foo"),
            ("foo.llvm.1234567890123", "foo"),
            ("foo.isra.0.cold", "foo"),
            ("foo.constprop.0.isra.1.part.2", "foo"),
            ("foo", "foo"),
            ("foo.0", "foo.0"),
            ("foo.bar", "foo.bar"),
            ("foo.bar.cold", "foo.bar"),
            ("foo.partial", "foo.partial"),
            (".cold", ".cold"),
            (".", "."),
            ("", ""),
        ] {
            assert_eq!(fold_suffixes(raw_name), name, "{raw_name}");
        }
    }

    #[test]
    fn a_modules_function_names_its_module() {
        let symbols = excerpt();
        let symbol = symbols.resolve(0xffff_ffff_c040_1050).unwrap();
        assert_eq!(symbol.to_string(), "e1000_clean [e1000]");
        let symbol = symbols.resolve(0xffff_ffff_c050_0001).unwrap();
        assert_eq!(symbol.module, Some("veth"));
    }

    #[test]
    fn the_global_name_without_underscores_is_preferred_among_aliases() {
        let symbols = excerpt();
        let name = |address| symbols.resolve(address).unwrap().raw_name;
        assert_eq!(name(0xffff_ffff_8100_0000), "startup_64");
        assert_eq!(name(0xffff_ffff_81a0_0300), "memcpy");
        assert_eq!(name(0xffff_ffff_81a0_0400), "global_alias");
    }

    #[test]
    fn data_and_padding_are_no_functions() {
        let symbols = excerpt();
        let symbol = symbols.resolve(0xffff_ffff_81a0_00f8).unwrap();
        assert_eq!(
            symbol.name, "net_rx_action",
            "the padding before enqueue_to_backlog"
        );
        assert!(symbols.resolve(0xffff_ffff_8200_0010).is_none(), "data");
    }

    #[test]
    fn addresses_outside_of_all_functions_have_no_name() {
        let symbols = excerpt();
        for address in [
            0,
            0x1000,
            0xffff_ffff_80ff_ffff,
            0xffff_ffff_a000_0000,
            u64::MAX,
        ] {
            assert_eq!(symbols.resolve(address), None, "{address:#x}");
        }
    }

    #[test]
    fn functions_farther_apart_than_4_gib_are_resolved() {
        let symbols = excerpt();
        let symbol = symbols.resolve(0xffff_8000_0012_3040).unwrap();
        assert_eq!(symbol.to_string(), "bpf_prog_6deef7357e7b4530_far [bpf]");
        assert!(symbols.resolve(0xffff_8000_0112_3040).is_none());
    }

    #[test]
    fn a_return_address_belongs_to_the_function_of_the_call() {
        let symbols = excerpt();
        let symbol = symbols
            .resolve_return_address(0xffff_ffff_81a0_0200)
            .unwrap();
        assert_eq!((symbol.name, symbol.offset), ("enqueue_to_backlog", 0x100));
        assert_eq!(symbols.resolve_return_address(0), None);
    }

    #[test]
    fn addresses_that_are_all_zero_are_hidden_symbols() {
        let symbols = Symbols::parse(RESTRICTED).unwrap();
        assert!(symbols.is_hidden());
        assert_eq!(symbols.resolve(0xffff_ffff_81a0_0110), None);
        assert!(!excerpt().is_hidden());
    }

    #[test]
    fn malformed_lines_are_errors_with_their_number() {
        let first = EXCERPT.lines().next().unwrap();
        for line in [
            "",
            "ffffffff81000000",
            "ffffffff81000000 T",
            "x T name",
            "1ffffffff81000000 T n",
        ] {
            let error = Symbols::parse(&format!("{first}\n{line}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
        }
        assert!(Builder::default().add(b"1 T \xff").is_err());
    }

    #[test]
    fn this_hosts_symbols_fit_in_6_mib_and_are_found_by_address() {
        let symbols = Symbols::load(Path::new("/proc/kallsyms")).unwrap();
        let Symbols::Table(table) = &symbols else {
            eprintln!("skipped: symbols are hidden");
            return;
        };
        assert!(
            table.heap_bytes() < 6 << 20,
            "{} functions, {} bytes",
            table.len(),
            table.heap_bytes()
        );
        for line in std::fs::read_to_string("/proc/kallsyms").unwrap().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if "tTwW".contains(words[1]) && !words[2].starts_with("__pfx_") {
                let address = u64::from_str_radix(words[0], 16).unwrap();
                // Programs may come and go between the two reads.
                let found = symbols.resolve(address);
                assert!(
                    found.is_some_and(|symbol| symbol.offset == 0) || line.ends_with("[bpf]"),
                    "{line}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(
            text in "(?s).*",
            lines in "([0-9a-f]{1,16} [tTwWdD] [_$.a-z0-9]{1,8}(\t\\[[a-z]{0,3}\\])?\n){0,12}",
            addresses in proptest::collection::vec(any::<u64>(), 8),
        ) {
            let _ = Symbols::parse(&text);
            let symbols = Symbols::parse(&lines).unwrap();
            for address in addresses {
                let _ = symbols.resolve(address);
                let _ = symbols.resolve_return_address(address);
            }
        }

        #[test]
        fn every_function_resolves_to_itself(addresses in proptest::collection::btree_set(1u64.., 1..20)) {
            let text: String = addresses
                .iter()
                .rev()
                .flat_map(|address| [format!("{address:016x}"), format!(" t f{address:x}\n")])
                .collect();
            let symbols = Symbols::parse(&text).unwrap();
            for address in addresses {
                let symbol = symbols.resolve(address).unwrap();
                prop_assert_eq!(symbol.raw_name, format!("f{address:x}"));
                prop_assert_eq!(symbol.offset, 0);
            }
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..EXCERPT.len(), with in any::<u8>()) {
            let mut bytes = EXCERPT.as_bytes().to_vec();
            bytes[at] = with;
            let mut builder = Builder::default();
            for line in bytes.split(|&byte| byte == b'\n') {
                let _ = builder.add(line);
            }
            let _ = builder.finish();
        }

        #[test]
        fn folding_never_panics_and_only_cuts(name in "[a.0]{0,12}(\\.(cold|isra|part)){0,3}.*") {
            prop_assert!(name.starts_with(fold_suffixes(&name)));
        }
    }
}
