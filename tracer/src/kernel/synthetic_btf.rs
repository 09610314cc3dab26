//! Writes BTF for tests.

use super::btf::kind;

/// Collects types and strings. Ids are given from 1 in the order of the calls.
#[derive(Clone, Default)]
pub struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    next: u32,
    /// Length of the strings that these continue.
    base_strings: usize,
}

impl Writer {
    /// For the BTF of a module: its strings continue those of `vmlinux`.
    pub fn continuing(vmlinux: &Self) -> Self {
        Self {
            base_strings: vmlinux.strings.len(),
            ..Self::default()
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() && self.base_strings == 0 {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let offset = self.base_strings + self.strings.len();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        u32::try_from(offset).unwrap()
    }

    /// A type as it is.
    pub fn raw(&mut self, kind: u32, name: &str, vlen: u32, third: u32, elements: &[u8]) -> u32 {
        let name = self.string(name);
        for word in [name, kind << 24 | vlen, third] {
            self.types.extend(word.to_ne_bytes());
        }
        self.types.extend(elements);
        self.next += 1;
        self.next
    }

    /// A pointer, typedef, qualifier or function.
    pub fn refer(&mut self, kind: u8, name: &str, to: u32) -> u32 {
        self.raw(kind.into(), name, 0, to, &[])
    }

    /// An integer of four bytes.
    pub fn int(&mut self) -> u32 {
        self.raw(1, "int", 0, 4, &[0; 4])
    }

    /// Members are (name, type, offset in bits); `flag`: the offset's upper byte is a bit field's width.
    pub fn structure(
        &mut self,
        kind: u8,
        name: &str,
        members: &[(&str, u32, u32)],
        flag: bool,
    ) -> u32 {
        let mut elements = Vec::new();
        for (name, id, bits) in members {
            for word in [self.string(name), *id, *bits] {
                elements.extend(word.to_ne_bytes());
            }
        }
        let vlen = u32::try_from(members.len()).unwrap();
        let kind = u32::from(kind) | if flag { 0x80 } else { 0 };
        self.raw(kind, name, vlen, 64, &elements)
    }

    /// An enumeration of 32-bit values.
    pub fn enumeration<S: AsRef<str>>(&mut self, name: &str, values: &[(S, u32)]) -> u32 {
        let mut elements = Vec::new();
        for (name, value) in values {
            for word in [self.string(name.as_ref()), *value] {
                elements.extend(word.to_ne_bytes());
            }
        }
        let vlen = u32::try_from(values.len()).unwrap();
        self.raw(kind::ENUM.into(), name, vlen, 4, &elements)
    }

    /// A function prototype with so many parameters.
    pub fn prototype(&mut self, parameters: u32) -> u32 {
        let elements = vec![0; 8 * parameters as usize];
        self.raw(kind::FUNC_PROTO.into(), "", parameters, 0, &elements)
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        self.write(24, &[])
    }

    /// The file with the layout section of later kernels.
    pub fn finish_with_layout(self, layout: &[u8]) -> Vec<u8> {
        self.write(32, layout)
    }

    fn write(self, header_len: u32, layout: &[u8]) -> Vec<u8> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let (types, strings) = (len(&self.types), len(&self.strings));
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [header_len, 0, types, types, strings] {
            bytes.extend(word.to_ne_bytes());
        }
        if header_len == 32 {
            for word in [types + strings, len(layout)] {
                bytes.extend(word.to_ne_bytes());
            }
        }
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes.extend(layout);
        bytes
    }
}

/// A vmlinux in small: the structures, tracepoint, functions and reasons of a 6.13 kernel, at other offsets.
pub fn kernel_like() -> Vec<u8> {
    kernel_like_writer().finish()
}

/// [`kernel_like`] before it is written.
pub fn kernel_like_writer() -> Writer {
    let mut w = Writer::default();
    let int = w.int();
    let pointer = w.refer(kind::PTR, "", int);
    // sk_buff: members in a union in a structure in a union, and the `headers` group.
    let list = w.structure(
        kind::STRUCT,
        "",
        &[
            ("next", pointer, 0),
            ("prev", pointer, 64),
            ("dev", pointer, 128),
        ],
        false,
    );
    let node = w.structure(kind::UNION, "", &[("rbnode", int, 0), ("", list, 0)], false);
    let group = w.structure(
        kind::STRUCT,
        "",
        &[
            ("protocol", int, 0),
            ("network_header", int, 16),
            ("skb_iif", int, 32),
            ("cloned", int, 0x0100_0041),
        ],
        true,
    );
    let headers = w.structure(
        kind::UNION,
        "",
        &[("", group, 0), ("headers", group, 0)],
        false,
    );
    w.structure(
        kind::STRUCT,
        "sk_buff",
        &[
            ("", node, 0),
            ("", headers, 24 * 8),
            ("len", int, 40 * 8),
            ("head", pointer, 48 * 8),
            ("data", pointer, 64 * 8),
            ("sk", pointer, 56 * 8),
        ],
        false,
    );
    let net_pointer = w.structure(kind::STRUCT, "", &[("net", pointer, 0)], false);
    let possible_net = w.refer(kind::TYPEDEF, "possible_net_t", net_pointer);
    w.structure(
        kind::STRUCT,
        "net_device",
        &[
            ("name", int, 8),
            ("ifindex", int, 64),
            ("nd_net", possible_net, 128),
            ("_tx", int, 192),
        ],
        false,
    );
    w.structure(kind::STRUCT, "netdev_queue", &[("dev", int, 0)], false);
    let ns = w.structure(kind::STRUCT, "ns_common", &[("inum", int, 32)], false);
    w.structure(kind::STRUCT, "net", &[("ns", ns, 64)], false);
    let common = w.structure(
        kind::STRUCT,
        "sock_common",
        &[("skc_net", possible_net, 48 * 8)],
        false,
    );
    let common = w.refer(kind::CONST, "", common);
    let common = w.refer(kind::TYPEDEF, "common_t", common);
    w.structure(kind::STRUCT, "sock", &[("__sk_common", common, 64)], false);
    w.structure(kind::STRUCT, "napi_struct", &[("dev", pointer, 256)], false);
    w.structure(kind::STRUCT, "irqaction", &[("next", pointer, 192)], false);
    let prototype = w.prototype(5);
    let pointer = w.refer(kind::PTR, "", prototype);
    w.refer(kind::TYPEDEF, "btf_trace_kfree_skb", pointer);
    w.refer(kind::FUNC, "net_rx_action", prototype);
    w.enumeration(
        "skb_drop_reason",
        &[
            ("SKB_NOT_DROPPED_YET", 0),
            ("SKB_CONSUMED", 1),
            ("SKB_DROP_REASON_NOT_SPECIFIED", 2),
            ("SKB_DROP_REASON_NO_SOCKET", 3),
            ("SKB_DROP_REASON_MAX", 4),
            ("SKB_DROP_REASON_SUBSYS_MASK", 0xffff_0000),
        ],
    );
    w.enumeration(
        "skb_drop_reason_subsys",
        &[
            ("SKB_DROP_REASON_SUBSYS_CORE", 0),
            ("SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE", 1),
            ("SKB_DROP_REASON_SUBSYS_OPENVSWITCH", 3),
            ("SKB_DROP_REASON_SUBSYS_NUM", 4),
        ],
    );
    w.enumeration("unrelated", &[("SOMETHING", 0x1_0000)]);
    w
}
