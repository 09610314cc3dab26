//! Network namespaces with a veth pair between them.
//!
//! Names carry the process id, addresses are from 10.77.0.0/24 and exist inside the namespaces only. IPv6 is
//! off and the neighbours are entered by hand, so that no packet flows but those a scenario sends.

use std::{
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::{setting, undo::Pending};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A network namespace, deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    deleted: Pending,
}

impl Netns {
    /// Makes an empty namespace with `lo` up.
    pub fn new(role: &str) -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracer-{}-{serial}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let own = name.clone();
        let netns = Self {
            name,
            deleted: Pending::new(move || ip(&["netns", "del", &own])),
        };
        netns.run(|| {
            setting::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
            setting::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
        })??;
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Its name under /run/netns.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its inode number, which is what the kernel calls it.
    pub fn inode(&self) -> Result<u64> {
        let path = format!("/run/netns/{}", self.name);
        let metadata = fs::metadata(&path).with_context(|| format!("cannot look at {path}"))?;
        Ok(metadata.ino())
    }

    /// Deletes it now; it lives on while a process is inside.
    pub fn delete(self) -> Result<()> {
        self.deleted.undo()
    }

    /// Runs one `ip` inside for several command lines: under emulation a process is dear.
    pub fn ip_batch(&self, lines: &[String]) -> Result<()> {
        ip_batch(&["-n", &self.name], lines)
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let mut all = vec!["-n", &self.name];
        all.extend(args);
        ip(&all)
    }

    /// Runs `work` on a thread inside the namespace, with a /sys of its own that shows its devices.
    ///
    /// Processes that `work` starts and sockets that it opens belong to the namespace; the thread's /proc files
    /// are under /proc/thread-self.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        on_thread(|| {
            setns(&file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {path}"))?;
            private_mounts()?;
            mount(
                Some("sysfs"),
                "/sys",
                Some("sysfs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .context("cannot mount sysfs")?;
            Ok(work())
        })
    }
}

/// Runs `work` on a thread that has tracefs at /sys/kernel/tracing, which only it and its children see.
pub fn with_tracefs<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        private_mounts()?;
        let mounted = mount(
            Some("tracefs"),
            "/sys/kernel/tracing",
            Some("tracefs"),
            MsFlags::empty(),
            None::<&str>,
        );
        match mounted {
            // EBUSY: it is there already.
            Ok(()) | Err(Errno::EBUSY) => Ok(work()),
            Err(error) => Err(error).context("cannot mount tracefs"),
        }
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .map_err(|_| anyhow!("panicked inside a namespace"))?
    })
}

fn private_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        None::<&str>,
    )
    .context("cannot detach the mounts")
}

/// A sender and a receiver, joined by a veth pair.
#[derive(Debug)]
pub struct Pair {
    /// Has [`Pair::SENDER_DEVICE`] with [`Pair::SENDER`].
    pub sender: Netns,
    /// Has [`Pair::RECEIVER_DEVICE`] with [`Pair::RECEIVER`].
    pub receiver: Netns,
}

impl Pair {
    /// Address of the sender.
    pub const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// Address of the receiver.
    pub const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    /// The sender's end.
    pub const SENDER_DEVICE: &str = "tx0";
    /// The receiver's end.
    pub const RECEIVER_DEVICE: &str = "rx0";

    /// Makes both.
    pub fn new() -> Result<Self> {
        let pair = Self {
            sender: Netns::new("send")?,
            receiver: Netns::new("recv")?,
        };
        ip(&[
            "link",
            "add",
            Self::SENDER_DEVICE,
            "netns",
            pair.sender.name(),
            "address",
            "02:77:00:00:00:01",
            "type",
            "veth",
            "peer",
            "name",
            Self::RECEIVER_DEVICE,
            "netns",
            pair.receiver.name(),
            "address",
            "02:77:00:00:00:02",
        ])?;
        let ends = [
            (
                &pair.sender,
                Self::SENDER_DEVICE,
                Self::SENDER,
                Self::RECEIVER,
                "02:77:00:00:00:02",
            ),
            (
                &pair.receiver,
                Self::RECEIVER_DEVICE,
                Self::RECEIVER,
                Self::SENDER,
                "02:77:00:00:00:01",
            ),
        ];
        for (netns, device, own, peer, peer_mac) in ends {
            netns.ip_batch(&[
                format!("address add {own}/24 dev {device}"),
                format!("link set {device} up"),
                knows(device, peer, peer_mac),
            ])?;
        }
        Ok(pair)
    }
}

/// Command line of `ip` that tells a namespace the MAC address behind `address`, so that nothing has to ask for it.
#[must_use]
pub fn knows(device: &str, address: Ipv4Addr, mac: &str) -> String {
    format!("neighbour replace {address} lladdr {mac} dev {device} nud permanent")
}

/// Runs `ip`.
pub fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args), &args.join(" "), "")
}

/// Runs one `ip` with `args` for several command lines, up to the first that fails.
pub fn ip_batch(args: &[&str], lines: &[String]) -> Result<()> {
    let text = lines.join("\n");
    let mut command = Command::new("ip");
    command.args(args).args(["-batch", "-"]);
    run(&mut command, &text, &text)
}

fn run(command: &mut Command, what: &str, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `ip` (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended before it read all: its status tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {what}`: {}", said.trim());
    Ok(())
}
