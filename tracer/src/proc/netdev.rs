//! Network devices of the namespace tracer runs in and their `rtnl_link_stats64`.
//!
//! Counters come from one `RTM_GETLINK` dump a read; what changes rarely (driver, node, queues, RPS)
//! from sysfs, once a device. /proc/net/dev is no substitute: it adds `rx_missed_errors` to `rx_dropped`.

use std::{collections::BTreeMap, io, path::Path};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NlasIterator};
use serde::{Deserialize, Serialize};

use super::{
    error::read_fact,
    netlink::{Message, NetlinkError, Socket},
};

/// One device; counters cumulative since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetDevice {
    /// Name; may change while the index stays.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// `IFLA_STATS64` `rx_packets`.
    pub rx_packets: u64,
    /// `rx_bytes`.
    pub rx_bytes: u64,
    /// `rx_dropped`: refused by the stack. Does not contain `rx_missed_errors`.
    pub rx_dropped: u64,
    /// `rx_missed_errors`: the NIC had no room.
    pub rx_missed_errors: u64,
    /// `rx_errors`.
    pub rx_errors: u64,
    /// `rx_nohandler`: arrived on a device that only serves another (an inactive slave of a bond).
    pub rx_nohandler: u64,
}

/// What rarely changes about a device; `None` where it has no such thing. From `/sys/class/net/<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// Driver: last part of the link `device/driver`. `None` for a device without a bus.
    pub driver: Option<String>,
    /// NUMA node of the bus device or of the nearest parent that has one; `None` for −1.
    pub numa_node: Option<u32>,
    /// Number of receive queues (`queues/rx-*`); `None` if sysfs does not say.
    pub rx_queues: Option<u32>,
    /// `rps_cpus` of each receive queue, as the kernel prints the mask; empty without `CONFIG_RPS`.
    pub rps_cpus: Vec<String>,
}

/// Why the devices could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NetDeviceError {
    /// The kernel refused a socket, the request, or the dump.
    #[error("cannot list network devices by netlink ({step}): {source}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The answer is of another form.
    #[error("netlink answer to RTM_GETLINK: {0}")]
    Malformed(String),
}

impl From<NetlinkError> for NetDeviceError {
    fn from(error: NetlinkError) -> Self {
        match error {
            NetlinkError::Kernel { step, source } => Self::Kernel { step, source },
            NetlinkError::Malformed(what) => Self::Malformed(what),
        }
    }
}

/// A route netlink socket. It belongs to the network namespace that it was opened in.
#[derive(Debug)]
pub struct NetDevices(Socket);

/// Dumps until one was not disturbed by a change of devices; the last is taken as it is.
const ATTEMPTS: u32 = 3;
/// `struct ifinfomsg`.
const IFINFOMSG_BYTES: usize = 16;

impl NetDevices {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetDeviceError> {
        Ok(Self(Socket::open(None)?))
    }

    /// All devices with their counters, by interface index.
    pub fn read(&mut self) -> Result<BTreeMap<u32, NetDevice>, NetDeviceError> {
        let mut dump = Dump::default();
        for _ in 0..ATTEMPTS {
            dump = Dump::default();
            let all = [0; IFINFOMSG_BYTES];
            self.0.ask(libc::RTM_GETLINK, NLM_F_DUMP, &all, |message| {
                dump.add(message)
            })?;
            if !dump.interrupted {
                break;
            }
        }
        Ok(dump.devices)
    }
}

/// A dump as far as it was received.
#[derive(Debug, Default)]
struct Dump {
    devices: BTreeMap<u32, NetDevice>,
    interrupted: bool,
}

impl Dump {
    fn add(&mut self, message: Message) -> Result<(), NetDeviceError> {
        self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        if message.kind == libc::RTM_NEWLINK {
            let device = parse_link(message.payload)?;
            self.devices.insert(device.ifindex, device);
        }
        Ok(())
    }
}

fn malformed(error: impl std::fmt::Display) -> NetDeviceError {
    NetDeviceError::Malformed(error.to_string())
}

/// One `RTM_NEWLINK`: `struct ifinfomsg`, then attributes. Attributes other than name and statistics
/// are not looked into, so that what a later kernel adds or lengthens cannot matter.
fn parse_link(payload: &[u8]) -> Result<NetDevice, NetDeviceError> {
    let too_short = || NetDeviceError::Malformed("RTM_NEWLINK is too short".into());
    let (head, attributes) = payload
        .split_at_checked(IFINFOMSG_BYTES)
        .ok_or_else(too_short)?;
    let ifindex = head
        .get(4..8)
        .and_then(|bytes| bytes.first_chunk())
        .map(|bytes| u32::from_ne_bytes(*bytes))
        .ok_or_else(too_short)?;
    let mut name = None;
    let mut device = None;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(malformed)?;
        match attribute.kind() {
            libc::IFLA_IFNAME => {
                let value = attribute.value();
                let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
                name = value
                    .get(..end)
                    .map(|name| String::from_utf8_lossy(name).into_owned());
            }
            libc::IFLA_STATS64 => device = Some(parse_stats(attribute.value())?),
            _ => {}
        }
    }
    match (name, device) {
        (Some(name), Some(device)) => Ok(NetDevice {
            name,
            ifindex,
            ..device
        }),
        _ => Err(NetDeviceError::Malformed(format!(
            "interface {ifindex} has no name or no IFLA_STATS64"
        ))),
    }
}

/// `struct rtnl_link_stats64`; later kernels append to it.
fn parse_stats(bytes: &[u8]) -> Result<NetDevice, NetDeviceError> {
    let (fields, _) = bytes.as_chunks::<8>();
    let field = |index: usize| {
        fields
            .get(index)
            .map(|bytes| u64::from_ne_bytes(*bytes))
            .ok_or_else(|| NetDeviceError::Malformed("IFLA_STATS64 is too short".into()))
    };
    Ok(NetDevice {
        rx_packets: field(0)?,
        rx_bytes: field(2)?,
        rx_errors: field(4)?,
        rx_dropped: field(6)?,
        rx_missed_errors: field(15)?,
        rx_nohandler: field(23)?,
        ..NetDevice::default()
    })
}

impl DeviceFacts {
    /// Reads the facts of device `name` from `<sys>/class/net/<name>`. What is absent is `None`.
    #[must_use]
    pub fn read(sys: &Path, name: &str) -> Self {
        let device = sys.join("class/net").join(name);
        let bus = device.join("device");
        let mut queues: Vec<(u32, String)> = std::fs::read_dir(device.join("queues"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let queue = entry.file_name().to_str()?.strip_prefix("rx-")?.parse();
                let mask = read_fact(&entry.path().join("rps_cpus")).unwrap_or_default();
                Some((queue.ok()?, mask))
            })
            .collect();
        queues.sort_unstable();
        Self {
            driver: std::fs::read_link(bus.join("driver"))
                .ok()
                .and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
            numa_node: numa_node(sys, &bus),
            rx_queues: u32::try_from(queues.len()).ok().filter(|&count| count > 0),
            rps_cpus: queues
                .into_iter()
                .map(|(_, mask)| mask)
                .filter(|mask| !mask.is_empty())
                .collect(),
        }
    }
}

/// A virtio device has no `numa_node` of its own: the PCI function above it has.
fn numa_node(sys: &Path, bus: &Path) -> Option<u32> {
    let top = std::fs::canonicalize(sys).ok()?;
    let bus = std::fs::canonicalize(bus).ok()?;
    bus.ancestors()
        .take_while(|path| path.starts_with(&top))
        .find_map(|path| read_fact(&path.join("numa_node")))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use proptest::prelude::*;

    use super::{
        super::netlink::{NLMSG_DONE, NLMSG_ERROR, Progress, take},
        *,
    };

    /// What one datagram adds to a dump that is request number `sequence`.
    fn dump(datagram: &[u8], sequence: u32) -> Result<(Dump, Progress), NetDeviceError> {
        let mut dump = Dump::default();
        let progress = take(datagram, sequence, &mut |message| dump.add(message))?;
        Ok((dump, progress))
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len() + 16).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        bytes
    }

    fn link(ifindex: u32, name: &str) -> Vec<u8> {
        let mut payload = vec![0; 4];
        payload.extend(ifindex.to_ne_bytes());
        payload.extend([0; 8]);
        payload.extend(attribute(99, b"?"));
        payload.extend(attribute(libc::IFLA_IFNAME, format!("{name}\0").as_bytes()));
        let stats: Vec<u8> = (100u64..125).flat_map(u64::to_ne_bytes).collect();
        payload.extend(attribute(libc::IFLA_STATS64, &stats));
        payload
    }

    fn dump_of_two() -> Vec<u8> {
        let mut datagram = message(libc::RTM_NEWLINK, 2, 7, &link(1, "lo"));
        datagram.extend(message(libc::RTM_NEWLINK, 2, 7, &link(4, "eth0")));
        datagram.extend(message(NLMSG_DONE, 2, 7, &0i32.to_ne_bytes()));
        datagram
    }

    #[test]
    fn rx_dropped_and_rx_missed_errors_are_told_apart() {
        let (dump, progress) = dump(&dump_of_two(), 7).unwrap();
        assert!(progress == Progress::Done && !dump.interrupted);
        assert_eq!(dump.devices.len(), 2);
        assert_eq!(
            dump.devices[&4],
            NetDevice {
                name: "eth0".into(),
                ifindex: 4,
                rx_packets: 100,
                rx_bytes: 102,
                rx_errors: 104,
                rx_dropped: 106,
                rx_missed_errors: 115,
                rx_nohandler: 123,
            }
        );
    }

    #[test]
    fn answers_to_another_request_are_left_alone() {
        let (dump, progress) = dump(&dump_of_two(), 8).unwrap();
        assert!(progress == Progress::More && dump.devices.is_empty());
    }

    #[test]
    fn an_interrupted_dump_is_noticed() {
        let datagram = message(libc::RTM_NEWLINK, NLM_F_DUMP_INTR, 7, &link(1, "lo"));
        assert!(dump(&datagram, 7).unwrap().0.interrupted);
    }

    #[test]
    fn the_kernels_refusal_is_an_error() {
        let datagram = message(NLMSG_ERROR, 0, 7, &(-libc::EPERM).to_ne_bytes());
        let error = dump(&datagram, 7).unwrap_err();
        assert!(error.to_string().contains("not permitted"), "{error}");
    }

    #[test]
    fn the_kernels_list_agrees_with_sysfs() {
        let mut devices = NetDevices::open().unwrap();
        devices.read().unwrap();
        let devices = devices.read().unwrap();
        let mut names: Vec<_> = devices.values().map(|device| device.name.clone()).collect();
        names.sort_unstable();
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
        for device in devices.values() {
            let path = format!("/sys/class/net/{}/ifindex", device.name);
            if let Some(index) = read_fact(Path::new(&path)) {
                assert_eq!(index, device.ifindex.to_string());
            }
        }
    }

    #[test]
    fn facts_come_from_the_bus_device_and_its_parents() {
        let sys = tempfile::tempdir().unwrap();
        let root = sys.path();
        let virtio = root.join("devices/pci0000:00/0000:00:03.0/virtio2");
        let device = virtio.join("net/eth0");
        for queue in ["rx-10", "rx-2", "tx-0"] {
            let queue = device.join("queues").join(queue);
            fs::create_dir_all(&queue).unwrap();
            fs::write(queue.join("rps_cpus"), format!("{}\n", queue.display())).unwrap();
        }
        fs::write(virtio.parent().unwrap().join("numa_node"), "1\n").unwrap();
        fs::create_dir_all(root.join("bus/virtio/drivers/virtio_net")).unwrap();
        symlink(
            root.join("bus/virtio/drivers/virtio_net"),
            virtio.join("driver"),
        )
        .unwrap();
        symlink(&virtio, device.join("device")).unwrap();
        fs::create_dir_all(root.join("class/net")).unwrap();
        symlink(&device, root.join("class/net/eth0")).unwrap();
        let facts = DeviceFacts::read(root, "eth0");
        assert_eq!(facts.driver.as_deref(), Some("virtio_net"));
        assert_eq!(facts.numa_node, Some(1));
        assert_eq!(facts.rx_queues, Some(2));
        assert!(facts.rps_cpus[0].ends_with("rx-2"), "{facts:?}");
        fs::write(virtio.parent().unwrap().join("numa_node"), "-1\n").unwrap();
        assert_eq!(DeviceFacts::read(root, "eth0").numa_node, None);
        assert_eq!(DeviceFacts::read(root, "gone"), DeviceFacts::default());
    }

    #[test]
    fn the_loopback_device_has_a_queue_and_no_driver() {
        let facts = DeviceFacts::read(Path::new("/sys"), "lo");
        assert_eq!(facts.driver, None);
        assert_eq!(facts.numa_node, None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = dump(&bytes, 0);
            let _ = parse_link(&bytes);
        }

        #[test]
        fn a_mangled_dump_does_not_panic(at in 0..dump_of_two().len(), with in any::<u8>(), cut in 0..dump_of_two().len()) {
            let mut bytes = dump_of_two();
            bytes[at] = with;
            let _ = dump(&bytes, 7);
            let _ = dump(&bytes[..cut], 7);
        }
    }
}
