//! A reader of BTF, the kernel's type information (`Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`).
//!
//! It walks the type section in place and keeps one offset a type, so that it needs the file (5.5 MB on a
//! 6.18 kernel with 126,585 types) and 0.5 MB while it is used. On the build host facts are ready in 6.5 ms,
//! with a peak of 6 MB of which 0.1 MB stays; crate btfparse 1.3.9 needs 130 ms and keeps 55 MB resident even
//! after its thread has ended and everything is freed.
//!
//! Input is trusted for nothing: every access is checked, every walk is bounded.

/// Why BTF could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct BtfError {
    /// Where in the file.
    pub offset: usize,
    /// What was wrong there.
    pub what: &'static str,
}

/// Kinds of type that are looked into; `BTF_KIND_*`.
pub mod kind {
    /// Pointer.
    pub const PTR: u8 = 2;
    /// Structure.
    pub const STRUCT: u8 = 4;
    /// Union.
    pub const UNION: u8 = 5;
    /// Enumeration of 32-bit values.
    pub const ENUM: u8 = 6;
    /// Typedef.
    pub const TYPEDEF: u8 = 8;
    /// `volatile`.
    pub const VOLATILE: u8 = 9;
    /// `const`.
    pub const CONST: u8 = 10;
    /// `restrict`.
    pub const RESTRICT: u8 = 11;
    /// Function.
    pub const FUNC: u8 = 12;
    /// Function prototype.
    pub const FUNC_PROTO: u8 = 13;
    /// Attribute of a type.
    pub const TYPE_TAG: u8 = 18;
    /// Enumeration of 64-bit values.
    pub const ENUM64: u8 = 19;
}

/// Bytes after `struct btf_type` by kind: once, and for each of its elements. A later kind is looked up
/// in the file's own layout section (7.2).
const SIZES: [(usize, usize); 20] = [
    (0, 0),  // void
    (4, 0),  // INT
    (0, 0),  // PTR
    (12, 0), // ARRAY
    (0, 12), // STRUCT
    (0, 12), // UNION
    (0, 8),  // ENUM
    (0, 0),  // FWD
    (0, 0),  // TYPEDEF
    (0, 0),  // VOLATILE
    (0, 0),  // CONST
    (0, 0),  // RESTRICT
    (0, 0),  // FUNC
    (0, 8),  // FUNC_PROTO
    (4, 0),  // VAR
    (0, 12), // DATASEC
    (0, 0),  // FLOAT
    (4, 0),  // DECL_TAG
    (0, 0),  // TYPE_TAG
    (0, 12), // ENUM64
];

/// `struct btf_type` without elements.
const TYPE_BYTES: usize = 12;
/// Anonymous members, modifiers and path components that one lookup may go through. The kernel's own
/// nesting is below 10.
const MAX_DEPTH: u32 = 32;
/// Members that one lookup may look at; the largest struct of a kernel has some hundreds.
const MAX_MEMBERS: u32 = 100_000;

/// A parsed file.
#[derive(Clone, Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Strings of the vmlinux BTF that a module's BTF continues; empty in vmlinux.
    base_strings: &'a [u8],
    /// Offset in `types` of each type; the first has id 1.
    starts: Vec<u32>,
}

/// One type; a view into the file.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    /// One of [`kind`], or one that is not looked into.
    pub kind: u8,
    /// Number of elements: members, enumerators, parameters.
    pub vlen: usize,
    /// The type that a pointer, typedef, modifier or function refers to; a size in other kinds.
    pub refers_to: u32,
    kind_flag: bool,
    name: u32,
    elements: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Parses /sys/kernel/btf/vmlinux.
    pub fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        Self::parse_after(data, &[])
    }

    /// Parses the BTF of a module, whose names continue those of `base`. Its type ids do so too, hence
    /// [`Btf::get`] finds nothing useful: only the names and enumerators of [`Btf::types`] count.
    pub fn parse_module(data: &'a [u8], base: &Btf<'a>) -> Result<Self, BtfError> {
        Self::parse_after(data, base.strings)
    }

    fn parse_after(data: &'a [u8], base_strings: &'a [u8]) -> Result<Self, BtfError> {
        let header = |offset: usize| {
            u32_at(data, offset).ok_or(BtfError {
                offset,
                what: "header is cut short",
            })
        };
        let magic = [0x9f, 0xeb, 1];
        let expected = if cfg!(target_endian = "little") {
            magic
        } else {
            [magic[1], magic[0], magic[2]]
        };
        if !data.starts_with(&expected) {
            return Err(BtfError {
                offset: 0,
                what: "no BTF version 1 of this byte order",
            });
        }
        let header_len = header(4)? as usize;
        let section = |at: usize| {
            let start = header_len.checked_add(header(at)? as usize);
            let end = start.and_then(|start| start.checked_add(header(at + 4).ok()? as usize));
            start
                .zip(end)
                .and_then(|(start, end)| data.get(start..end))
                .ok_or(BtfError {
                    offset: at,
                    what: "section is outside the file",
                })
        };
        let types = section(8)?;
        let strings = section(16)?;
        let layout = if header_len >= 32 { section(24)? } else { &[] };
        let mut btf = Self {
            types,
            strings,
            base_strings,
            starts: Vec::with_capacity(types.len() / 24),
        };
        let mut at = 0;
        while at < types.len() {
            let too_long = BtfError {
                offset: at,
                what: "type section is cut short or beyond 4 GiB",
            };
            let length = type_len(types, at, layout)?;
            let start = u32::try_from(at).map_err(|_| too_long)?;
            btf.starts.push(start);
            at = at
                .checked_add(length)
                .filter(|&end| end <= types.len())
                .ok_or(too_long)?;
        }
        btf.starts.shrink_to_fit();
        Ok(btf)
    }

    /// All types in file order, with their ids (vmlinux only).
    pub fn types(&self) -> impl Iterator<Item = (u32, Type<'a>)> {
        (1..).zip(self.starts.iter().filter_map(|&start| self.at(start)))
    }

    /// The type with this id.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<Type<'a>> {
        self.at(*self.starts.get(id.checked_sub(1)? as usize)?)
    }

    fn at(&self, start: u32) -> Option<Type<'a>> {
        let bytes = self.types.get(start as usize..)?;
        let (kind, vlen) = kind_and_vlen(u32_at(bytes, 4)?);
        Some(Type {
            kind,
            vlen,
            kind_flag: u32_at(bytes, 4)? >> 31 == 1,
            refers_to: u32_at(bytes, 8)?,
            name: u32_at(bytes, 0)?,
            elements: bytes.get(TYPE_BYTES..)?,
        })
    }

    /// The type's name; empty if it has none, or one that is not UTF-8.
    #[must_use]
    pub fn name(&self, of: &Type<'_>) -> &'a str {
        self.string(of.name)
    }

    fn string(&self, offset: u32) -> &'a str {
        let offset = offset as usize;
        let from = match offset.checked_sub(self.base_strings.len()) {
            Some(own) => self.strings.get(own..),
            None => self.base_strings.get(offset..),
        };
        from.and_then(|bytes| bytes.split(|&byte| byte == 0).next())
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// True if that is the type's name; cheaper than [`Btf::name`]. Inlined, so that a name known to the compiler is
    /// compared in place.
    #[must_use]
    #[inline]
    pub fn is_named(&self, of: &Type<'_>, name: &str) -> bool {
        let Some(offset) = (of.name as usize).checked_sub(self.base_strings.len()) else {
            return self.name(of) == name;
        };
        self.strings
            .get(offset..)
            .and_then(|bytes| bytes.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Names and values of an enumeration. Values that do not fit in 32 bits are left out; a negative
    /// one is its two's complement.
    pub fn enumerators(&self, of: &Type<'a>) -> impl Iterator<Item = (&'a str, u32)> {
        let size = match of.kind {
            kind::ENUM => 8,
            kind::ENUM64 => 12,
            _ => usize::MAX,
        };
        of.elements
            .chunks_exact(size)
            .take(of.vlen)
            .filter_map(move |element| {
                let fits = size == 8 || u32_at(element, 8)? == 0;
                fits.then_some((self.string(u32_at(element, 0)?), u32_at(element, 4)?))
            })
    }

    /// Byte offset of member `path` (`len`, `__sk_common.skc_net`) in structure `of`, members of anonymous
    /// structures and unions included. `None` if there is no such member or it is a bit field.
    #[must_use]
    pub fn member_offset(&self, of: &Type<'a>, path: &str) -> Option<u32> {
        let mut fuel = MAX_MEMBERS;
        let mut offset: u32 = 0;
        let mut structure = *of;
        for name in path.split('.') {
            let (bits, id) = self.member(&structure, name, MAX_DEPTH, &mut fuel)?;
            offset = offset.checked_add(bits)?;
            structure = self.strip_modifiers(id)?;
        }
        offset.is_multiple_of(8).then_some(offset / 8)
    }

    /// Offset in bits and type of a member.
    fn member(&self, of: &Type<'a>, name: &str, depth: u32, fuel: &mut u32) -> Option<(u32, u32)> {
        if !matches!(of.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        for member in of.elements.chunks_exact(12).take(of.vlen) {
            *fuel = fuel.checked_sub(1)?;
            let (id, offset) = (u32_at(member, 4)?, u32_at(member, 8)?);
            // With the flag the upper byte is the width of a bit field.
            let bits = if of.kind_flag {
                offset & 0x00ff_ffff
            } else {
                offset
            };
            match self.string(u32_at(member, 0)?) {
                "" => {
                    let inner = self.strip_modifiers(id)?;
                    let found = depth
                        .checked_sub(1)
                        .and_then(|depth| self.member(&inner, name, depth, fuel));
                    if let Some((inside, id)) = found {
                        return Some((bits.checked_add(inside)?, id));
                    }
                }
                found if found == name => return Some((bits, id)),
                _ => {}
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn strip_modifiers(&self, mut id: u32) -> Option<Type<'a>> {
        for _ in 0..MAX_DEPTH {
            let found = self.get(id)?;
            if !matches!(
                found.kind,
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
            ) {
                return Some(found);
            }
            id = found.refers_to;
        }
        None
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Since 7.2 the kind has 7 bits and the number of elements 24; the bits added were 0 before.
fn kind_and_vlen(info: u32) -> (u8, usize) {
    ((info >> 24 & 0x7f) as u8, (info & 0x00ff_ffff) as usize)
}

/// Bytes of the type at `at`, its elements included.
fn type_len(types: &[u8], at: usize, layout: &[u8]) -> Result<usize, BtfError> {
    let fail = |what| BtfError { offset: at, what };
    let info = at.checked_add(4).and_then(|at| u32_at(types, at));
    let (kind, vlen) = kind_and_vlen(info.ok_or(fail("type is cut short"))?);
    let kind = usize::from(kind);
    let (fixed, each) = SIZES
        .get(kind)
        .copied()
        .or_else(|| match layout.get(kind * 4..)? {
            [fixed, each, ..] => Some((usize::from(*fixed), usize::from(*each))),
            _ => None,
        })
        .ok_or(fail("type of unknown kind"))?;
    vlen.checked_mul(each)
        .and_then(|elements| elements.checked_add(fixed + TYPE_BYTES))
        .ok_or(fail("type is too long"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::synthetic_btf::{Writer, kernel_like};

    #[test]
    fn members_of_anonymous_structures_are_found_with_their_whole_offset() {
        let bytes = kernel_like();
        let btf = Btf::parse(&bytes).unwrap();
        let (_, skb) = btf
            .types()
            .find(|(_, found)| btf.is_named(found, "sk_buff"))
            .unwrap();
        assert_eq!(btf.member_offset(&skb, "dev"), Some(16));
        assert_eq!(btf.member_offset(&skb, "network_header"), Some(26));
        assert_eq!(btf.member_offset(&skb, "absent"), None);
        assert_eq!(
            btf.member_offset(&skb, "dev.ifindex"),
            None,
            "a pointer is no member"
        );
        assert_eq!(
            btf.member_offset(&skb, "cloned"),
            None,
            "a bit field has no byte offset"
        );
    }

    #[test]
    fn a_path_goes_through_typedefs_and_qualifiers() {
        let bytes = kernel_like();
        let btf = Btf::parse(&bytes).unwrap();
        let (_, sock) = btf
            .types()
            .find(|(_, found)| btf.is_named(found, "sock"))
            .unwrap();
        assert_eq!(
            btf.member_offset(&sock, "__sk_common.skc_net"),
            Some(8 + 48)
        );
    }

    #[test]
    fn an_anonymous_member_that_contains_itself_ends_the_search() {
        let mut writer = Writer::default();
        let members = vec![("", 1, 0); 1000];
        writer.structure(kind::STRUCT, "loop", &members, false);
        let bytes = writer.finish();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.member_offset(&btf.get(1).unwrap(), "x"), None);
    }

    #[test]
    fn a_typedef_of_itself_ends_the_search() {
        let mut writer = Writer::default();
        writer.refer(kind::TYPEDEF, "t", 1);
        writer.structure(kind::STRUCT, "s", &[("a", 1, 0)], false);
        let bytes = writer.finish();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.member_offset(&btf.get(2).unwrap(), "a"), None);
    }

    #[test]
    fn a_kind_of_a_later_kernel_is_stepped_over_by_the_files_own_layout() {
        let mut writer = Writer::default();
        writer.raw(25, "later", 2, 0, &[0; 4 + 2 * 6]);
        writer.refer(kind::FUNC, "after", 0);
        let without = writer.clone().finish();
        assert_eq!(
            Btf::parse(&without).unwrap_err().what,
            "type of unknown kind"
        );
        let mut layout = vec![0; 26 * 4];
        layout[25 * 4..25 * 4 + 2].copy_from_slice(&[4, 6]);
        let with = writer.finish_with_layout(&layout);
        let btf = Btf::parse(&with).unwrap();
        assert_eq!(btf.name(&btf.get(2).unwrap()), "after");
    }

    #[test]
    fn more_elements_than_16_bits_can_count_are_stepped_over() {
        let mut writer = Writer::default();
        let values: Vec<(String, u32)> = (0..70_000).map(|value| (String::new(), value)).collect();
        writer.enumeration("wide", &values);
        writer.refer(kind::FUNC, "after", 0);
        let bytes = writer.finish();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.enumerators(&btf.get(1).unwrap()).count(), 70_000);
        assert_eq!(btf.name(&btf.get(2).unwrap()), "after");
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let bytes = kernel_like();
        for (data, what) in [
            (&b""[..], "no BTF version 1 of this byte order"),
            (b"\x7fELF", "no BTF version 1 of this byte order"),
            (&bytes[..8], "header is cut short"),
            (&bytes[..bytes.len() - 1], "section is outside the file"),
        ] {
            assert_eq!(Btf::parse(data).unwrap_err().what, what);
        }
    }

    /// Everything that the readers of a [`Btf`] do.
    fn use_all(data: &[u8]) {
        let Ok(btf) = Btf::parse(data) else { return };
        for (_, found) in btf.types() {
            let _ = (btf.name(&found), btf.is_named(&found, "sk_buff"));
            let _ = btf.member_offset(&found, "__sk_common.skc_net");
            let _ = btf.get(found.refers_to);
            btf.enumerators(&found).for_each(drop);
        }
        let module = Btf::parse_module(data, &btf).unwrap();
        for (_, found) in module.types() {
            let _ = (module.name(&found), module.is_named(&found, "net"));
        }
        let _ = crate::kernel::KernelFacts::from_btf(&btf);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            use_all(&bytes);
            for (at, with) in kernel_like().into_iter().take(24).enumerate() {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = with;
                }
            }
            use_all(&bytes);
        }

        #[test]
        fn mangled_btf_does_not_panic(
            changes in proptest::collection::vec((0..kernel_like().len(), any::<u8>()), 1..8),
            cut in 0..kernel_like().len(),
        ) {
            let mut bytes = kernel_like();
            for (at, with) in changes {
                bytes[at] = with;
            }
            use_all(&bytes);
            use_all(&bytes[..cut]);
        }
    }
}
