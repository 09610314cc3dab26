//! The settings of this host.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    host::{Host, SettingError},
    irqbalance, process,
};
use crate::{
    model::setting::{Setting, share_a_handler},
    proc::{
        Roots,
        cpus::{number, read_list},
        ethtool::{self, DeviceSettings},
        genetlink::GenericNetlink,
        interrupts::Interrupts,
        netdev::NetDevices,
        netlink::NetlinkError,
        netns,
    },
    topology::nic::sysfs_shows,
};

/// Looks until /sys and netlink have to agree.
const TRIES: u32 = 5;
/// A driver that resets its device answers this late at most.
const RESET: Duration = Duration::from_secs(15);

/// This host, seen from the network namespace of the process.
#[derive(Clone, Debug, Default)]
pub struct RealHost {
    roots: Roots,
}

impl RealHost {
    /// Where the kernel's file systems are usually mounted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The file of a queue, if /sys shows the devices of this namespace: one of another may have the same name.
    fn queue_file(&self, setting: &Setting) -> Result<PathBuf, SettingError> {
        let shows = || {
            let devices = NetDevices::open().and_then(|mut netlink| netlink.read());
            let devices =
                devices.map_err(|error| SettingError::other(setting, error.to_string()))?;
            Ok(sysfs_shows(&self.roots.sys, &devices))
        };
        // A device that comes or goes just now looks the same for a moment.
        let mut tries = 1;
        while !shows()? {
            if tries == TRIES {
                return Err(SettingError::other(
                    setting,
                    "/sys is not that of this network namespace (nsenter): enter with ip netns exec",
                ));
            }
            tries += 1;
            thread::sleep(Duration::from_millis(20));
        }
        let path = setting.to_string();
        let below = path.strip_prefix("/sys/").unwrap_or(&path);
        Ok(self.roots.sys.join(below))
    }

    /// Reads or writes a file of /proc/sys in this namespace or, if only that has it, in the host's own.
    fn sysctl<T: Send>(
        &self,
        name: &str,
        does: impl Fn(&Path) -> io::Result<T> + Sync,
    ) -> io::Result<T> {
        let path = |roots: &Roots| roots.proc.join("sys").join(name.replace('.', "/"));
        match does(&path(&self.roots)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let there = netns::in_init_netns(&self.roots, |roots| {
                    let done = does(&path(roots));
                    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
                    (!done.as_ref().is_err_and(missing)).then_some(done)
                });
                there.unwrap_or(Err(error))
            }
            done => done,
        }
    }
}

impl RealHost {
    /// Names of the handlers of an interrupt; `None` if it has none.
    fn action(&self, irq: u32) -> Result<Option<String>, String> {
        let interrupts = Interrupts::read(&self.roots.proc).map_err(|error| error.to_string())?;
        let row = interrupts.device.get(&irq);
        Ok(row
            .map(|row| row.name.clone())
            .filter(|name| !name.is_empty()))
    }

    /// The file of an interrupt, if it still is the one that the setting means.
    fn affinity_file(&self, setting: &Setting, irq: u32) -> Result<PathBuf, SettingError> {
        if let Setting::VectorAffinity { action, .. } = setting {
            let now = self.action(irq);
            let now = now.map_err(|error| SettingError::other(setting, error))?;
            // A device that is down has no handler, and its vectors come back as they were.
            if now.is_some_and(|now| !share_a_handler(&now, action)) {
                return Err(SettingError::gone(setting));
            }
        }
        Ok(self.roots.proc.join(format!("irq/{irq}/smp_affinity_list")))
    }
}

impl Host for RealHost {
    fn read(&mut self, setting: &Setting) -> Result<String, SettingError> {
        let fail = |error| SettingError::of(setting, "read", error);
        match setting {
            Setting::Sysctl { name } => self.sysctl(name, read).map_err(fail),
            Setting::IrqAffinity { irq } | Setting::VectorAffinity { irq, .. } => {
                read(&self.affinity_file(setting, *irq)?).map_err(fail)
            }
            Setting::RpsCpus { .. } | Setting::RpsFlowCount { .. } => {
                read(&self.queue_file(setting)?).map_err(fail)
            }
            Setting::Ring { device } => {
                let range = settings_of(setting, device)?.0.ring;
                let range = range.ok_or_else(|| SettingError::other(setting, "not told"))?;
                Ok(range.now.to_string())
            }
            Setting::Channels { device } => {
                let range = settings_of(setting, device)?.0.channels;
                let range = range.ok_or_else(|| SettingError::other(setting, "not told"))?;
                Ok(range.1.now.to_string())
            }
            Setting::Process { pid, name, start } => {
                process::read(&self.roots.proc, *pid, name, *start)
                    .ok_or_else(|| SettingError::gone(setting))
            }
            Setting::IrqbalanceBans { pid } => {
                irqbalance::read(&self.roots.run, *pid).map_err(|error| daemon(setting, error))
            }
        }
    }

    fn write(&mut self, setting: &Setting, value: &str) -> Result<(), SettingError> {
        let fail = |error| SettingError::of(setting, format!("write {value}"), error);
        match setting {
            Setting::Sysctl { name } => self.sysctl(name, |path| write(path, value)).map_err(fail),
            Setting::IrqAffinity { irq } | Setting::VectorAffinity { irq, .. } => {
                let written = write(&self.affinity_file(setting, *irq)?, value);
                written.map_err(|error| match error.raw_os_error() {
                    Some(libc::EPERM | libc::EIO) => {
                        let why = format!(
                            "cannot write {value}: {error}: it is managed by its driver, or cannot be moved"
                        );
                        SettingError::other(setting, why)
                    }
                    _ => fail(error),
                })
            }
            Setting::RpsCpus { .. } | Setting::RpsFlowCount { .. } => {
                write(&self.queue_file(setting)?, value).map_err(fail)
            }
            Setting::Ring { device } => ask(setting, device, value, ethtool::set_ring, |now| {
                now.ring.map(|ring| ring.now)
            }),
            Setting::Channels { device } => {
                ask(setting, device, value, ethtool::set_channels, |now| {
                    now.channels.map(|channels| channels.1.now)
                })
            }
            Setting::Process { pid, name, start } => {
                process::write(&self.roots.proc, *pid, name, *start, value).map_err(fail)
            }
            Setting::IrqbalanceBans { pid } => irqbalance::write(&self.roots.run, *pid, value)
                .map_err(|error| daemon(setting, error)),
        }
    }

    fn online(&mut self) -> Option<BTreeSet<u32>> {
        let online = read_list(&self.roots.sys.join("devices/system/cpu/online"));
        Some(online.ok()?.into_iter().collect())
    }

    fn identify(&mut self, setting: &Setting) -> Setting {
        match setting {
            Setting::Process { pid, name, .. } => Setting::Process {
                pid: *pid,
                name: name.clone(),
                start: process::start(&self.roots.proc, *pid, name),
            },
            Setting::IrqAffinity { irq } => match self.action(*irq) {
                Ok(Some(action)) => Setting::VectorAffinity { irq: *irq, action },
                _ => setting.clone(),
            },
            other => other.clone(),
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// In one piece, as these files want it, and without making a file where there is none.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}

/// It went, and took its bans with it.
fn daemon(setting: &Setting, error: io::Error) -> SettingError {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return SettingError::gone(setting);
    }
    SettingError::of(setting, "talk to it", error)
}

fn index_of(setting: &Setting, device: &str) -> Result<u32, SettingError> {
    let devices = NetDevices::open().and_then(|mut netlink| netlink.read());
    let devices = devices.map_err(|error| SettingError::other(setting, error.to_string()))?;
    let mut devices = devices.values();
    devices
        .find(|known| known.name == device)
        .map(|known| known.ifindex)
        .ok_or_else(|| SettingError::gone(setting))
}

fn settings_of(
    setting: &Setting,
    device: &str,
) -> Result<(DeviceSettings, u32, GenericNetlink), SettingError> {
    let index = index_of(setting, device)?;
    let fail = |error: NetlinkError| SettingError::other(setting, error.to_string());
    let mut netlink = GenericNetlink::open().map_err(fail)?;
    let mut all = ethtool::read(&mut netlink, &[index]).map_err(fail)?;
    let known = all
        .remove(&index)
        .ok_or_else(|| SettingError::other(setting, "the driver does not tell"))?;
    Ok((known, index, netlink))
}

fn ask(
    setting: &Setting,
    device: &str,
    value: &str,
    set: fn(&mut GenericNetlink, u32, u32) -> Result<(), NetlinkError>,
    now: fn(&DeviceSettings) -> Option<u32>,
) -> Result<(), SettingError> {
    let wanted = number(value)
        .ok_or_else(|| SettingError::other(setting, format!("{value} is no number")))?;
    let (_, index, mut netlink) = settings_of(setting, device)?;
    match set(&mut netlink, index, wanted) {
        // The driver takes its time.
        Err(error) if error.is_silence() => {
            let begin = Instant::now();
            while begin.elapsed() < RESET {
                thread::sleep(Duration::from_millis(200));
                let (known, ..) = settings_of(setting, device)?;
                if now(&known) == Some(wanted) {
                    return Ok(());
                }
            }
            Err(SettingError::other(setting, error.to_string()))
        }
        done => done
            .map_err(|error| SettingError::other(setting, format!("cannot set {value}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_interrupt_with_its_number_is_not_it() {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path();
        let file = proc.join("irq/24/smp_affinity_list");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "0-3\n").unwrap();
        let handled_by = |name: &str| {
            let text = format!("      CPU0\n 24:  7  PCI-MSI 1-edge  {name}\n");
            fs::write(proc.join("interrupts"), text).unwrap();
        };
        let mut host = RealHost::new();
        host.roots.proc = proc.to_owned();
        handled_by("eth0-TxRx-0");
        let number = Setting::IrqAffinity { irq: 24 };
        let vector = host.identify(&number);
        let action = "eth0-TxRx-0".to_owned();
        assert_eq!(vector, Setting::VectorAffinity { irq: 24, action });
        assert_eq!(host.read(&vector).unwrap(), "0-3");
        host.write(&vector, "2").unwrap();
        handled_by("");
        assert!(host.read(&vector).is_ok(), "its device is down");
        handled_by("ehci_hcd:usb1, eth0-TxRx-0");
        assert!(host.read(&vector).is_ok(), "a shared line");
        handled_by("nvme0q1");
        assert!(host.read(&vector).unwrap_err().is_gone());
        assert!(host.write(&vector, "1").unwrap_err().is_gone());
        // Of an old journal, that has only the number.
        assert!(host.read(&number).unwrap().starts_with('2'));
        fs::remove_file(proc.join("interrupts")).unwrap();
        assert!(!host.read(&vector).unwrap_err().is_gone());
    }
}
