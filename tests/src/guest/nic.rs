//! The VM's network cards: two and a small one, wired to each other, known by their MAC addresses.

use std::{fs, net::Ipv4Addr, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    kernel::{self, gained},
    netns::{Netns, ip, ip_batch, knows},
    setting, wait,
};

/// MAC address of the card that sends; on NUMA node 0.
pub const SENDER_MAC: &str = "02:77:00:00:01:01";
/// MAC address of the card that receives; on NUMA node 1.
pub const RECEIVER_MAC: &str = "02:77:00:00:01:02";
/// MAC address of the card with a small ring (`8139cp`).
pub const SMALL_MAC: &str = "02:77:00:00:01:03";
/// NUMA node of the receiving card.
pub const RECEIVER_NODE: u32 = 1;

/// Address of host number `index` (0 to 15) that the sending card pretends to be. They differ in many bits: with some
/// keys, cards hash neighbours to one queue.
#[must_use]
pub const fn source(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, 17 + 13 * index)
}

/// Until some versions of igb have raised every vector once.
const WATCHDOG: Duration = Duration::from_millis(2500);

/// Longest time until every vector that fires has fired on its new CPU.
const SETTLED: Duration = Duration::from_secs(15);

/// Names of the cards, by MAC address: the kernel numbers them by bus.
const CARDS: [(&str, &str); 3] = [
    (SENDER_MAC, Wire::SENDER_DEVICE),
    (RECEIVER_MAC, Wire::RECEIVER_DEVICE),
    (SMALL_MAC, SMALL_DEVICE),
];

/// The card with a small ring.
pub const SMALL_DEVICE: &str = "nic2";

/// Gives the cards their names and remembers the receiving one's driver. There need not be any.
pub(super) fn prepare() -> Result<()> {
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let mac = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        let Some((_, name)) = CARDS.iter().find(|(card, _)| *card == mac.trim()) else {
            continue;
        };
        if *name == Wire::RECEIVER_DEVICE {
            let driver = fs::read_link(entry.path().join("device/driver"))?;
            let driver = driver.file_name().and_then(|driver| driver.to_str());
            fs::write(DRIVER_FILE, driver.context("a card without a driver")?)?;
        }
        let old = entry.file_name();
        let old = old.to_str().context("a device's name is no UTF-8")?;
        if old != *name {
            ip(&["link", "set", old, "name", name])?;
        }
    }
    Ok(())
}

/// Where [`prepare`] leaves the name of the cards' driver: the cards themselves may be in some namespace.
const DRIVER_FILE: &str = "/run/nic-driver";

/// Driver of the receiving card, `None` if there is no such card.
#[must_use]
pub fn driver() -> Option<String> {
    fs::read_to_string(DRIVER_FILE).ok()
}

/// The two cards, each in a namespace of its own, with addresses.
#[derive(Debug)]
pub struct Wire {
    /// Has [`Wire::SENDER_DEVICE`] with [`Wire::SENDER`].
    pub sender: Netns,
    /// Has [`Wire::RECEIVER_DEVICE`] with [`Wire::RECEIVER`].
    pub receiver: Netns,
}

impl Wire {
    /// Address of the sender.
    pub const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
    /// Address of the receiver.
    pub const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
    /// The card that sends.
    pub const SENDER_DEVICE: &str = "nic0";
    /// The card that receives.
    pub const RECEIVER_DEVICE: &str = "nic1";

    /// Moves the cards into two new namespaces; when these are dropped, the kernel moves them back.
    pub fn new() -> Result<Self> {
        let wire = Self {
            sender: Netns::new("send")?,
            receiver: Netns::new("recv")?,
        };
        let ends = [
            (&wire.sender, Self::SENDER_DEVICE, Self::SENDER),
            (&wire.receiver, Self::RECEIVER_DEVICE, Self::RECEIVER),
        ];
        take(ends.map(|(netns, device, _)| (netns, device)))?;
        let addresses = ends.map(|(_, device, own)| format!("address add {own}/24 dev {device}"));
        wire.up_after(addresses)?;
        // A card keeps what an earlier scenario set.
        wire.steer(0)?;
        for (netns, device, _) in ends {
            let threaded = format!("/sys/class/net/{device}/threaded");
            netns.run(|| {
                if !fs::exists(&threaded)? {
                    return Ok(());
                }
                setting::write(&threaded, "0")
            })??;
        }
        Ok(wire)
    }

    /// Brings both cards up, whatever they are, and waits until they hear each other.
    pub fn up(&self) -> Result<()> {
        self.up_after([const { String::new() }; 2])
    }

    /// The same after a command line of `ip` in the namespace of each.
    fn up_after(&self, first: [String; 2]) -> Result<()> {
        let ends = [
            (
                &self.sender,
                Self::SENDER_DEVICE,
                Self::RECEIVER,
                RECEIVER_MAC,
            ),
            (
                &self.receiver,
                Self::RECEIVER_DEVICE,
                Self::SENDER,
                SENDER_MAC,
            ),
        ];
        for ((netns, device, peer, peer_mac), first) in ends.into_iter().zip(first) {
            // Going down, a device forgets its neighbours.
            let known = knows(device, peer, peer_mac);
            netns.ip_batch(&[first, format!("link set {device} up"), known])?;
        }
        for (netns, device, ..) in ends {
            carrier(netns, device)?;
        }
        Ok(())
    }

    /// Gives the sender the addresses of further hosts.
    pub fn be_many(&self, hosts: impl Iterator<Item = Ipv4Addr>) -> Result<()> {
        let device = Self::SENDER_DEVICE;
        let lines: Vec<_> = hosts
            .map(|host| format!("address add {host}/24 dev {device}"))
            .collect();
        self.sender.ip_batch(&lines)
    }

    /// Steers the packets of every receiving queue to the CPUs of `mask` (RPS).
    pub fn steer(&self, mask: u32) -> Result<()> {
        let queues = format!("/sys/class/net/{}/queues", Self::RECEIVER_DEVICE);
        self.receiver.run(|| {
            for entry in fs::read_dir(&queues)? {
                let path = entry?.path();
                if path.join("rps_cpus").exists() {
                    setting::write(path.join("rps_cpus"), &format!("{mask:x}"))?;
                }
            }
            anyhow::Ok(())
        })?
    }

    /// Binds the vectors of the receiving card to CPUs, and waits until those that `traffic` raises are there: a
    /// vector moves with its next interrupt, and a NAPI that never rests stays where it is.
    pub fn pin(
        &self,
        cpu_of: impl Fn(&Vector) -> u32,
        traffic: impl Fn() -> Result<()>,
    ) -> Result<Vec<Vector>> {
        let vectors = self.vectors()?;
        for vector in &vectors {
            setting::write(
                format!("/proc/irq/{}/smp_affinity_list", vector.irq),
                &cpu_of(vector).to_string(),
            )?;
        }
        let before = kernel::interrupts()?;
        thread::sleep(WATCHDOG);
        wait::until("the vectors have moved", SETTLED, || {
            traffic()?;
            let now = gained(&before, &kernel::interrupts()?);
            let moved = |vector: &Vector| {
                let mut fired = now
                    .iter()
                    .filter(|((irq, _), count)| *irq == vector.irq && **count > 0)
                    .map(|((_, cpu), _)| *cpu)
                    .peekable();
                fired.peek().is_none() || fired.any(|cpu| cpu == cpu_of(vector))
            };
            Ok(vectors.iter().all(moved).then_some(()))
        })?;
        Ok(vectors)
    }

    /// Lets every vector of the receiving card run on the CPUs of a list.
    pub fn allow(&self, cpus: &str) -> Result<()> {
        for vector in self.vectors()? {
            setting::write(format!("/proc/irq/{}/smp_affinity_list", vector.irq), cpus)?;
        }
        Ok(())
    }

    /// The vectors of the receiving card's queues.
    pub fn vectors(&self) -> Result<Vec<Vector>> {
        let device = format!("/sys/class/net/{}/device", Self::RECEIVER_DEVICE);
        let ours = self.receiver.run(|| {
            // A virtio device has its vectors one level up.
            let entries = fs::read_dir(format!("{device}/msi_irqs"))
                .or_else(|_| fs::read_dir(format!("{device}/../msi_irqs")))?;
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?))
                .collect::<Result<Vec<u32>>>()
        })??;
        let text = fs::read_to_string("/proc/interrupts")?;
        let vectors: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let (irq, rest) = line.split_once(':')?;
                let irq = irq.trim().parse().ok()?;
                let name = rest.split_ascii_whitespace().last()?.to_owned();
                // The card's own vector, for changes of its link, has no queue.
                let queue = name.rsplit(['-', '.']).next()?.parse().ok()?;
                ours.contains(&irq).then_some(Vector { irq, name, queue })
            })
            .collect();
        ensure!(
            !vectors.is_empty(),
            "no vectors of {ours:?} in /proc/interrupts:\n{text}"
        );
        Ok(vectors)
    }
}

/// Moves cards into namespaces; those that they were in before may still be on their way out.
pub fn take<const N: usize>(cards: [(&Netns, &str); N]) -> Result<()> {
    let path = |device| PathBuf::from(format!("/sys/class/net/{device}"));
    wait::until("the network card is here", Duration::from_secs(30), || {
        let here = cards.iter().all(|(_, device)| path(device).exists());
        Ok(here.then_some(()))
    })?;
    let lines = cards.map(|(netns, device)| format!("link set {device} netns {}", netns.name()));
    ip_batch(&[], &lines)
}

/// Waits until a card hears another.
pub fn carrier(netns: &Netns, device: &str) -> Result<()> {
    wait::until("carrier", Duration::from_secs(15), || {
        let state =
            netns.run(|| fs::read_to_string(format!("/sys/class/net/{device}/operstate")))??;
        Ok((state.trim() == "up").then_some(()))
    })
    .with_context(|| format!("{device} has no carrier"))
}

/// An interrupt vector of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// Its IRQ number.
    pub irq: u32,
    /// As /proc/interrupts names it: `nic1-rx-0`, `virtio1-input.0`.
    pub name: String,
    /// The queue.
    pub queue: u32,
}
