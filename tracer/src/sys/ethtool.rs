//! `SIOCETHTOOL`: names and values of a driver's own statistics (`ethtool_get_strings`, `ethtool_get_stats` in
//! net/ethtool/ioctl.c). Netlink has only the standard groups, none of the drivers' names.
#![expect(
    unsafe_code,
    reason = "ioctl writes through a pointer; nothing safe exists for it"
)]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETH_SS_STATS: u32 = 1;
const ETH_GSTRING_LEN: usize = 32;
/// `struct ethtool_gstrings` without its data.
const GSTRINGS_HEADER: usize = 12;
/// `struct ethtool_stats` without its data.
const GSTATS_HEADER: usize = 8;
/// Most statistics that a device may have to be read. Drivers have up to some ten thousand.
const MOST: usize = 1 << 16;
/// Statistics that every buffer has room for: before 6.19 the kernel writes as many as the driver has at that moment,
/// whatever was asked for, and their number changes with the device's queues.
const ROOM: usize = 2 * MOST;

/// Names and values of the statistics of `device` in the network namespace of `socket`. The error is `EOPNOTSUPP` for
/// a device without, and `EAGAIN` if their number changed meanwhile.
pub fn driver_stats(socket: BorrowedFd<'_>, device: &str) -> io::Result<Vec<(String, u64)>> {
    let count = count(socket, device)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let names = names(socket, device)?;
    let values = values(socket, device, count)?;
    if names.len() != count || values.len() != count {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(names.into_iter().zip(values).collect())
}

fn count(socket: BorrowedFd<'_>, device: &str) -> io::Result<usize> {
    // struct ethtool_sset_info: cmd, reserved, mask of wanted sets, a number for each bit of it.
    let mut buffer = Buffer::new(ETHTOOL_GSSET_INFO, 0, 0);
    buffer.0[8..16].copy_from_slice(&(1u64 << ETH_SS_STATS).to_ne_bytes());
    call(socket, device, &mut buffer)?;
    if buffer.0[8..16].iter().all(|byte| *byte == 0) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let count = buffer.word(16);
    if count > MOST {
        return Err(io::Error::other(format!("{count} statistics")));
    }
    Ok(count)
}

fn names(socket: BorrowedFd<'_>, device: &str) -> io::Result<Vec<String>> {
    let mut buffer = Buffer::new(ETHTOOL_GSTRINGS, ETH_SS_STATS, ETH_GSTRING_LEN);
    call(socket, device, &mut buffer)?;
    let names = buffer.0[GSTRINGS_HEADER..].chunks_exact(ETH_GSTRING_LEN);
    let name = |bytes: &[u8]| {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    Ok(names.take(buffer.word(8)).map(name).collect())
}

fn values(socket: BorrowedFd<'_>, device: &str, count: usize) -> io::Result<Vec<u64>> {
    // From 6.19 on the kernel compares the number with its own.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut buffer = Buffer::new(ETHTOOL_GSTATS, count, size_of::<u64>());
    call(socket, device, &mut buffer)?;
    let (values, _) = buffer.0[GSTATS_HEADER..].as_chunks();
    let values = values.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    Ok(values.take(buffer.word(4)).collect())
}

/// What a command reads and the kernel writes; at least [`ROOM`] entries after any header. Pages that are not touched
/// cost nothing.
struct Buffer(Vec<u8>);

impl Buffer {
    fn new(command: u32, argument: u32, entry: usize) -> Self {
        let mut bytes = vec![0; 64 + entry * ROOM];
        bytes[..4].copy_from_slice(&command.to_ne_bytes());
        bytes[4..8].copy_from_slice(&argument.to_ne_bytes());
        Self(bytes)
    }

    /// The u32 at `at`.
    fn word(&self, at: usize) -> usize {
        let bytes = self.0[at..].first_chunk().copied().unwrap_or_default();
        u32::from_ne_bytes(bytes) as usize
    }
}

fn call(socket: BorrowedFd<'_>, device: &str, buffer: &mut Buffer) -> io::Result<()> {
    let mut name = [0; libc::IF_NAMESIZE];
    if device.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: buffer.0.as_mut_ptr().cast(),
        },
    };
    // SAFETY: `request` is a whole ifreq with a name that ends in NUL, and lives through the call. The kernel reads
    // and writes at `ifru_data` the header of one of the three commands above and an entry for each statistic of the
    // device; its buffer is borrowed mutably and has room for twice the `MOST` that `count` lets pass.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn socket() -> std::net::UdpSocket {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_device_without_statistics_has_none() {
        let error = driver_stats(socket().as_fd(), "lo").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
    }

    #[test]
    fn a_device_that_does_not_exist_is_an_error() {
        let socket = socket();
        assert!(driver_stats(socket.as_fd(), "no-such-device").is_err());
        assert!(driver_stats(socket.as_fd(), &"x".repeat(16)).is_err());
        assert!(driver_stats(socket.as_fd(), "").is_err());
    }

    #[test]
    fn this_hosts_statistics_have_names() {
        let socket = socket();
        for device in std::fs::read_dir("/sys/class/net").unwrap().flatten() {
            let device = device.file_name().into_string().unwrap();
            if let Ok(stats) = driver_stats(socket.as_fd(), &device) {
                assert!(stats.iter().all(|(name, _)| !name.is_empty()), "{stats:?}");
            }
        }
    }
}
