//! Hooks: tracepoint `kfree_skb` (`tp_btf`, `raw_tp`; 2.6.30, reason since 5.17, receiving socket
//! since 6.11).
//! Output: `PerCpu::lines` and `DROPS` by site, reason, device, protocol and target CPU; details [`Kind::Drop`].

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::{
    counter::{
        CpuCounters, DROP_LINES, DropCounters, DropKey, DropLine, NO_CPU, NO_REASON, PerCpu,
    },
    event::{DropBody, Kind},
    layout::ABSENT,
};

use crate::{
    emit::{jiffies, now, send, wanted},
    log_line,
    maps::{DROPS, layout, this_cpu},
    read::{self, Direct, Helper, Read, add_atomically, address, arg, at},
};

const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

#[inline(always)]
fn drop_packet<R: Read>(ctx: &impl EbpfContext) -> Option<()> {
    let skb = arg(ctx.as_ptr(), 0) as *const u8;
    let location = arg(ctx.as_ptr(), 1);
    let reason = if layout!(kfree_skb_args) >= 3 {
        arg(ctx.as_ptr(), 2) as u32
    } else {
        NO_REASON
    };
    let (cpu, per_cpu) = this_cpu()?;
    let PerCpu {
        counters, lines, ..
    } = per_cpu;
    let len = R::field::<u32>(skb, layout!(skb_len)).unwrap_or(0);
    let protocol = R::field::<u16>(skb, layout!(skb_protocol)).unwrap_or(0);
    let seen = Seen {
        location,
        reason,
        protocol: u32::from(u16::from_be(protocol)),
        target_cpu: target(skb, reason, counters),
        len,
    };
    let dev = R::field::<*const u8>(skb, layout!(skb_dev)).unwrap_or(core::ptr::null());
    let line = line_of(counters, lines, &seen, dev)?;
    if is_of(line, &seen, dev) {
        add(&mut line.counters, len);
        if wanted(counters, Kind::Drop) {
            detail::<R>(cpu, counters, skb, dev, line.key, len);
        }
        return Some(());
    }
    drop_unknown::<R>(ctx, cpu, counters, lines, skb, dev, &seen)
}

/// Namespace of the socket that the packet was for or from; 0 without one. It is looked up before it is known whether the
/// device tells: on fewer paths, at each of which the verifier searches all types of the kernel for each pointer (see
/// `napi_poll`).
///
/// The receiving socket is null for most drops. The verifier of kernels that do not say so (6.11 to 6.13.4,
/// CVE-2025-21852) takes it for a socket, removes every comparison of it with null, and lets it be loaded from without a
/// guard: such a load stops the machine. So null is looked for in a number, which the verifier knows nothing about.
#[inline(always)]
fn socket_netns<R: Read>(ctx: &impl EbpfContext, skb: *const u8, scratch: &mut u64) -> u32 {
    let null = core::ptr::null();
    let mut sk = null;
    if layout!(kfree_skb_args) >= 4 {
        let receiving = arg(ctx.as_ptr(), 3) as *const u8;
        if address(receiving, scratch) != 0 {
            sk = receiving;
        }
    }
    if sk.is_null() {
        sk = R::field(skb, layout!(skb_sk)).unwrap_or(null);
    }
    let net = R::field::<*const u8>(sk, layout!(sock_net)).unwrap_or(null);
    R::field(net, layout!(net_inum)).unwrap_or(0)
}

/// What a drop tells without a look at its device.
struct Seen {
    location: u64,
    reason: u32,
    protocol: u32,
    target_cpu: u32,
    len: u32,
}

/// A drop whose device has to be looked at: the first of its key in this jiffy, one without a device, or one of a key
/// that has no line.
#[inline(always)]
fn drop_unknown<R: Read>(
    ctx: &impl EbpfContext,
    cpu: u32,
    counters: &mut CpuCounters,
    lines: &mut [DropLine; DROP_LINES],
    skb: *const u8,
    dev: *const u8,
    seen: &Seen,
) -> Option<()> {
    let socket_netns = socket_netns::<R>(ctx, skb, &mut counters.device_address);
    let dev = device::<R>(dev);
    let (ifindex, netns) = if dev.is_null() {
        let ifindex = R::field(skb, layout!(skb_iif)).unwrap_or(0);
        (ifindex, socket_netns)
    } else {
        let net = R::field::<*const u8>(dev, layout!(dev_net)).unwrap_or(core::ptr::null());
        (
            R::field(dev, layout!(dev_ifindex)).unwrap_or(0),
            R::field(net, layout!(net_inum)).unwrap_or(0),
        )
    };
    let key = DropKey {
        location: seen.location,
        reason: seen.reason,
        ifindex,
        netns,
        target_cpu: seen.target_cpu,
        protocol: seen.protocol,
        reserved: 0,
    };
    let line = line_of(counters, lines, seen, dev)?;
    if has_key(line, &key) {
        confirm(line, dev);
        add(&mut line.counters, seen.len);
    } else if let Some(drops) = entry(counters, line, &key) {
        add(drops, seen.len);
    } else {
        add_atomically(&mut counters.drop_table_full, 1);
        log_line!(ctx, "cpu {}: drop table full", cpu);
    }
    if wanted(counters, Kind::Drop) {
        detail::<R>(cpu, counters, skb, dev, key, seen.len);
    }
    Some(())
}

/// One packet more. Since 6.1 a program is not run where it interrupts itself; before, a packet can be freed in process
/// context and in the softirq that interrupts it.
#[inline(always)]
fn add(drops: &mut DropCounters, len: u32) {
    if layout!(guarded) != 0 {
        drops.packets += 1;
        drops.bytes += u64::from(len);
    } else {
        add_atomically(&mut drops.packets, 1);
        add_atomically(&mut drops.bytes, u64::from(len));
    }
}

/// The line that a drop of what was `seen` at `dev` may have.
#[inline(always)]
fn line_of<'a>(
    counters: &mut CpuCounters,
    lines: &'a mut [DropLine; DROP_LINES],
    seen: &Seen,
    dev: *const u8,
) -> Option<&'a mut DropLine> {
    let dev = address(dev, &mut counters.device_address);
    let hash = seen.location
        ^ dev
        ^ u64::from(seen.target_cpu) << 32
        ^ u64::from(seen.protocol) << 20
        ^ u64::from(seen.reason) << 4;
    at(lines, hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60)
}

/// Whether `line` counts what was `seen`, as far as can be told without a look at the device: that this address is the
/// device's was seen in this jiffy. Of a device that moves to another namespace, or whose memory becomes another's, within
/// one jiffy, what is left of that jiffy's drops counts for where it was.
#[inline(always)]
fn is_of(line: &DropLine, seen: &Seen, dev: *const u8) -> bool {
    // SAFETY: a valid reference; volatile, for another program may interrupt this one and write.
    let device = unsafe { core::ptr::read_volatile(&raw const line.device) };
    !dev.is_null()
        && dev as u64 == device
        && line.key.location == seen.location
        && line.key.reason == seen.reason
        && line.key.protocol == seen.protocol
        && line.key.target_cpu == seen.target_cpu
        && line.confirmed_jiffies == jiffies()
}

/// Notes that the device of `line` is at `dev`, or that it has none.
#[inline(always)]
fn confirm(line: &mut DropLine, dev: *const u8) {
    // SAFETY: valid references; volatile keeps the order: an interrupting program finds both or no device.
    unsafe {
        core::ptr::write_volatile(&raw mut line.device, 0);
        core::ptr::write_volatile(&raw mut line.confirmed_jiffies, jiffies());
        core::ptr::write_volatile(&raw mut line.device, dev as u64);
    }
}

/// Whether `line` is that of `key`.
#[inline(always)]
fn has_key(line: &DropLine, key: &DropKey) -> bool {
    // SAFETY: a key is 32 bytes without padding, aligned to 8. Volatile, or the compiler compares smaller pieces.
    let words = |key: *const DropKey| unsafe { core::ptr::read_volatile(key.cast::<[u64; 4]>()) };
    key.location != 0 && words(&raw const line.key) == words(key)
}

/// Makes a free line that of `key`, for the drops to come. A program that interrupts this one, before 6.1, sees that a
/// line is being claimed, or has claimed it before this one looked: it ends before this one goes on.
#[inline(always)]
fn claim(counters: &mut CpuCounters, line: &mut DropLine, key: &DropKey) {
    let (location, claiming) = (&raw mut line.key.location, &raw mut counters.claiming);
    // SAFETY: valid references; volatile keeps the order, which an interrupting program and the reader rely on.
    unsafe {
        if core::ptr::read_volatile(location) != 0 || core::ptr::read_volatile(claiming) != 0 {
            return;
        }
        core::ptr::write_volatile(claiming, 1);
        if core::ptr::read_volatile(location) == 0 {
            core::ptr::write_volatile(&raw mut line.key.reason, key.reason);
            core::ptr::write_volatile(&raw mut line.key.ifindex, key.ifindex);
            core::ptr::write_volatile(&raw mut line.key.netns, key.netns);
            core::ptr::write_volatile(&raw mut line.key.target_cpu, key.target_cpu);
            core::ptr::write_volatile(&raw mut line.key.protocol, key.protocol);
            core::ptr::write_volatile(location, key.location);
        }
        core::ptr::write_volatile(claiming, 0);
    }
}

/// The table's entry for `key`, made if need be; `None` if the table is full. Only what the table has gets a line.
#[inline(always)]
fn entry(
    counters: &mut CpuCounters,
    line: &mut DropLine,
    key: &DropKey,
) -> Option<&'static mut DropCounters> {
    let found = DROPS.get_ptr_mut(key).or_else(|| {
        // Another CPU may have been faster: then this fails and the entry is there.
        let _ = DROPS.insert(key, DropCounters::ZERO, u64::from(BPF_NOEXIST));
        DROPS.get_ptr_mut(key)
    })?;
    claim(counters, line, key);
    // SAFETY: entries are never removed; this CPU's value is written by this CPU only, atomically
    // where the program can interrupt itself.
    unsafe { found.as_mut() }
}

/// `dev`, which was found in `skb->dev`, or null. Other things share its place: UDP's notes while a packet waits in a
/// socket (`udp_skb_scratch`), a link of the tree while it waits in TCP's out-of-order queue (`rbnode`). So
/// the device has to prove that it is one: its first transmit queue points back at it.
#[inline(always)]
fn device<R: Read>(dev: *const u8) -> *const u8 {
    let null = core::ptr::null();
    let queue = R::field::<*const u8>(dev, layout!(dev_tx)).unwrap_or(null);
    let back = R::field::<*const u8>(queue, layout!(txq_dev)).unwrap_or(null);
    if back == dev { dev } else { null }
}

/// CPU whose backlog refused this packet, if it was just seen on its way there.
#[inline(always)]
fn target(skb: *const u8, reason: u32, counters: &mut CpuCounters) -> u32 {
    if layout!(backlog_hooked) == 0 {
        return NO_CPU;
    }
    // A packet that was queued may be dropped later for another reason, at the same address.
    if layout!(backlog_reason) != ABSENT && reason != layout!(backlog_reason) {
        return NO_CPU;
    }
    if skb as u64 != counters.backlog_skb {
        return NO_CPU;
    }
    counters.backlog_skb = 0;
    counters.backlog_target as u32
}

#[inline(always)]
fn detail<R: Read>(
    cpu: u32,
    counters: &mut CpuCounters,
    skb: *const u8,
    dev: *const u8,
    key: DropKey,
    len: u32,
) {
    let mut body = DropBody {
        key,
        len,
        ip_version: 0,
        l4_protocol: 0,
        has_ports: 0,
        reserved: 0,
        source_port: [0; 2],
        destination_port: [0; 2],
        reserved2: 0,
        source: [0; 16],
        destination: [0; 16],
        device: [0; 16],
    };
    let name = layout!(dev_name);
    if let (Some(low), Some(high)) = (
        R::field::<u64>(dev, name),
        R::field::<u64>(dev, name.wrapping_add(8)),
    ) {
        body.device[..8].copy_from_slice(&low.to_ne_bytes());
        body.device[8..].copy_from_slice(&high.to_ne_bytes());
    }
    if layout!(headers) != 0
        && (key.protocol == ETH_P_IP || key.protocol == ETH_P_IPV6)
        && headers::<R>(skb, key.protocol, &mut body).is_none()
    {
        add_atomically(&mut counters.unreadable, 1);
    }
    send(counters, Kind::Drop, cpu, now(), body);
}

/// Fills in addresses and ports. `None` if no header of the protocol is where it should be.
#[inline(always)]
fn headers<R: Read>(skb: *const u8, protocol: u32, body: &mut DropBody) -> Option<()> {
    let head = R::field::<u64>(skb, layout!(skb_head))?;
    let data = R::field::<u64>(skb, layout!(skb_data))?;
    let network = head + u64::from(R::field::<u16>(skb, layout!(skb_network_header))?);
    // Before the stack has set the network header, the data begin with it.
    header(network, protocol, body).or_else(|| header(data, protocol, body))
}

#[inline(always)]
fn header(at: u64, protocol: u32, body: &mut DropBody) -> Option<()> {
    let l4 = if protocol == ETH_P_IP {
        let mut ip = [0u8; 20];
        if !read::bytes(at, &mut ip) || ip[0] >> 4 != 4 || ip[0] & 15 < 5 {
            return None;
        }
        body.ip_version = 4;
        body.l4_protocol = ip[9];
        body.source[..4].copy_from_slice(&ip[12..16]);
        body.destination[..4].copy_from_slice(&ip[16..20]);
        // Only the first fragment has ports.
        if (ip[6] & 0x1f) | ip[7] != 0 {
            return Some(());
        }
        at + u64::from(ip[0] & 15) * 4
    } else {
        let mut ip = [0u8; 40];
        if !read::bytes(at, &mut ip) || ip[0] >> 4 != 6 {
            return None;
        }
        body.ip_version = 6;
        body.l4_protocol = ip[6];
        body.source.copy_from_slice(&ip[8..24]);
        body.destination.copy_from_slice(&ip[24..40]);
        at + 40
    };
    if body.l4_protocol != IPPROTO_TCP && body.l4_protocol != IPPROTO_UDP {
        return Some(());
    }
    let mut ports = [0u8; 4];
    if read::bytes(l4, &mut ports) {
        body.source_port = [ports[0], ports[1]];
        body.destination_port = [ports[2], ports[3]];
        body.has_ports = 1;
    }
    Some(())
}

#[btf_tracepoint(function = "kfree_skb")]
fn kfree_skb_tp_btf(ctx: BtfTracePointContext) -> i32 {
    drop_packet::<Direct>(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "kfree_skb")]
fn kfree_skb_raw_tp(ctx: RawTracePointContext) -> i32 {
    drop_packet::<Helper>(&ctx);
    0
}
