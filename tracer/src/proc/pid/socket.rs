//! Sockets: those of a process (`/proc/PID/fd`), and those of its network namespace (`/proc/PID/net/tcp`, `udp`, …:
//! `tcp4_seq_show`, `udp4_seq_show`, `packet_seq_show`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read as _,
    path::Path,
};

/// Bytes of a table that are read, some 7,000 rows. Sockets that listen come first in `tcp`; of a host with more
/// connections than that, those beyond are not looked up.
const TABLE_BYTES: u64 = 1 << 20;
/// `TCP_LISTEN`.
const LISTEN: &str = "0A";

/// A socket that network traffic comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// TCP, listening on this port.
    Listening(u16),
    /// UDP, bound to this port.
    Datagram(u16),
    /// Any other: a connection, a packet socket.
    Other,
}

impl Socket {
    /// `tcp/6379`; `None` without a port of its own.
    #[must_use]
    pub fn port(self) -> Option<String> {
        match self {
            Self::Listening(port) => Some(format!("tcp/{port}")),
            Self::Datagram(port) => Some(format!("udp/{port}")),
            Self::Other => None,
        }
    }
}

/// Inode numbers of the sockets among the first `most` file descriptors of the process whose directory `dir` is, and
/// how many descriptors were looked at.
#[must_use]
pub fn inodes(dir: &Path, most: usize) -> (BTreeSet<u64>, usize) {
    let mut inodes = BTreeSet::new();
    let mut seen = 0;
    let entries = std::fs::read_dir(dir.join("fd"));
    for entry in entries.into_iter().flatten().flatten().take(most) {
        seen += 1;
        if let Ok(target) = std::fs::read_link(entry.path()) {
            inodes.extend(target.to_str().and_then(inode));
        }
    }
    (inodes, seen)
}

/// The number in `socket:[123]`.
fn inode(target: &str) -> Option<u64> {
    let number = target.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// Sockets by inode number of the network namespace of the process whose directory `dir` is. What cannot be read is
/// left out.
#[must_use]
pub fn of_namespace(dir: &Path) -> BTreeMap<u64, Socket> {
    let net = dir.join("net");
    let mut sockets = BTreeMap::new();
    for (file, kind) in [
        ("tcp", Kind::Tcp),
        ("tcp6", Kind::Tcp),
        ("udp", Kind::Udp),
        ("udp6", Kind::Udp),
        ("packet", Kind::Packet),
    ] {
        let mut text = String::new();
        let read =
            File::open(net.join(file)).map(|file| file.take(TABLE_BYTES).read_to_string(&mut text));
        if read.is_ok() {
            parse(kind, &text, &mut sockets);
        }
    }
    sockets
}

/// Which table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `tcp`, `tcp6`.
    Tcp,
    /// `udp`, `udp6`.
    Udp,
    /// `packet`.
    Packet,
}

/// Adds the rows of a table; those that are cut off or of another form are passed over.
pub fn parse(kind: Kind, text: &str, sockets: &mut BTreeMap<u64, Socket>) {
    // The last line is whole only if it ends.
    let whole = text.rfind('\n').and_then(|end| text.get(..end));
    for line in whole.unwrap_or_default().lines().skip(1) {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let inode = columns.get(if kind == Kind::Packet { 8 } else { 9 });
        let Some(inode) = inode.and_then(|word| word.parse().ok()) else {
            continue;
        };
        // A connection that only waits for its end has none.
        if inode == 0 {
            continue;
        }
        let port = || {
            let (_, port) = columns.get(1)?.rsplit_once(':')?;
            u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)
        };
        let socket = match kind {
            Kind::Tcp if columns.get(3) == Some(&LISTEN) => port().map(Socket::Listening),
            Kind::Udp => port().map(Socket::Datagram),
            Kind::Tcp | Kind::Packet => None,
        };
        sockets.insert(inode, socket.unwrap_or(Socket::Other));
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use proptest::prelude::*;

    use super::*;

    const TCP: &str = include_str!("../../../tests/fixtures/tcp/6.18");
    const UDP: &str = include_str!("../../../tests/fixtures/udp/6.18");

    fn parsed(kind: Kind, text: &str) -> BTreeMap<u64, Socket> {
        let mut sockets = BTreeMap::new();
        parse(kind, text, &mut sockets);
        sockets
    }

    #[test]
    fn a_socket_that_listens_is_told_from_its_connections() {
        let sockets = parsed(Kind::Tcp, TCP);
        let listening: BTreeSet<_> = sockets.values().filter_map(|s| s.port()).collect();
        assert!(listening.contains("tcp/7043"), "{sockets:?}");
        assert!(sockets.values().any(|s| *s == Socket::Other), "{sockets:?}");
    }

    #[test]
    fn a_datagram_socket_has_its_port() {
        let sockets = parsed(Kind::Udp, UDP);
        assert!(
            sockets.values().any(|s| *s == Socket::Datagram(7044)),
            "{sockets:?}"
        );
    }

    #[test]
    fn a_row_that_is_cut_off_is_passed_over() {
        let cut = &TCP[..TCP.len() - 1];
        assert_eq!(
            parsed(Kind::Tcp, cut).len() + 1,
            parsed(Kind::Tcp, TCP).len()
        );
        assert!(parsed(Kind::Tcp, "").is_empty());
    }

    #[test]
    fn a_packet_socket_has_no_port() {
        let text = "sk RefCnt Type Proto  Iface R Rmem   User   Inode\n00 3 3 0003 2 1 0 0 771\n";
        assert_eq!(parsed(Kind::Packet, text), [(771, Socket::Other)].into());
    }

    #[test]
    fn this_processs_own_sockets_are_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let proc = Path::new("/proc/self");
        let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let own = inode(std::fs::read_link(link).unwrap().to_str().unwrap()).unwrap();
        let (inodes, seen) = inodes(proc, usize::MAX);
        assert!(inodes.contains(&own) && seen >= inodes.len());
        assert_eq!(of_namespace(proc)[&own], Socket::Datagram(port));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s).*", close in "\n([0-9A-F: ]{0,40}\n){0,5}") {
            for kind in [Kind::Tcp, Kind::Udp, Kind::Packet] {
                parse(kind, &text, &mut BTreeMap::new());
                parse(kind, &close, &mut BTreeMap::new());
            }
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..TCP.len(), with in any::<char>()) {
            let mut text: Vec<char> = TCP.chars().collect();
            text[at] = with;
            parse(Kind::Tcp, &text.into_iter().collect::<String>(), &mut BTreeMap::new());
        }
    }
}
