//! QEMU's command line, and a running QEMU that is ended with us.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use xtask::guest::cpus;

use super::{kernels::Kernel, tools::Tools};

/// MAC addresses of the cards, as the guest knows them (`tests/src/guest/nic.rs`).
const SENDER_MAC: &str = "02:77:00:00:01:01";
const RECEIVER_MAC: &str = "02:77:00:00:01:02";
const SMALL_MAC: &str = "02:77:00:00:01:03";

/// The kernel ends the machine on anything that should not happen, and says so on the console. Its clock is the TSC, which
/// is one for all CPUs here: before 6.12 it takes that of several nodes for unstable, and each look at the HPET leaves the
/// machine.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic softlockup_panic=1 tsc=reliable \
     mitigations=off random.trust_cpu=on cryptomgr.notests rcupdate.rcu_expedited=1 net.ifnames=0";

/// Memory of each of the two NUMA nodes, MiB.
const NODE_MIB: u32 = 640;

/// Until a kernel under KVM has said its first word, and until it misses its root: many times what each takes.
const KVM_SPEAKS: Duration = Duration::from_secs(4);
const KVM_BOOTS: Duration = Duration::from_secs(10);

/// How the guest's CPUs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the machine's own.
    Kvm,
    /// Translated, each by a thread of its own.
    Tcg,
}

impl Accelerator {
    /// KVM if a machine boots with it within a few seconds: that it can be opened says little.
    pub fn probe(tools: &Tools, kernel: &Kernel, directory: &Path) -> (Self, String) {
        match Self::probe_kvm(tools, kernel, directory) {
            Ok(()) => (Self::Kvm, "KVM".to_owned()),
            Err(error) => (
                Self::Tcg,
                format!("TCG, since KVM does not work: {error:#}"),
            ),
        }
    }

    /// Boots the kernel without any file system: it works if it gets as far as to complain about that.
    fn probe_kvm(tools: &Tools, kernel: &Kernel, directory: &Path) -> Result<()> {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .context("/dev/kvm")?;
        let console = directory.join("kvm-probe.log");
        let mut command = qemu(tools, Self::Kvm);
        command
            .args(["-smp", "2", "-m", "256", "-serial"])
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-append")
            // It speaks from the beginning.
            .arg(format!("{KERNEL_ARGUMENTS} loglevel=7"));
        let mut running = Running::start(command, &directory.join("kvm-probe.err"))?;
        let begin = Instant::now();
        while begin.elapsed() < KVM_BOOTS {
            let text = fs::read(&console).unwrap_or_default();
            if String::from_utf8_lossy(&text).contains("VFS: Unable to mount root") {
                return Ok(());
            }
            anyhow::ensure!(
                !text.is_empty() || begin.elapsed() < KVM_SPEAKS,
                "a stock kernel says nothing within {} s",
                KVM_SPEAKS.as_secs()
            );
            if running.ended()?.is_some() {
                let said = running.stderr();
                anyhow::bail!("{}", said.lines().next().unwrap_or("QEMU ended"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!(
            "a stock kernel does not boot within {} s",
            KVM_BOOTS.as_secs()
        )
    }

    const fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Told that a CPU is quick at it, the kernel clears and copies memory byte by byte: one is emulated at a time.
            Self::Tcg => [
                "-accel",
                "tcg,thread=multi,tb-size=256",
                "-cpu",
                "max,erms=off,fsrm=off",
            ],
        }
    }
}

/// The network cards of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cards {
    /// Two `igb` with four queues each.
    Igb,
    /// Two `virtio-net`, for kernels without the driver `igb`.
    Virtio,
}

/// One machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// QEMU.
    pub tools: &'a Tools,
    /// What runs its CPUs.
    pub accelerator: Accelerator,
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// Its network cards.
    pub cards: Cards,
    /// Further arguments of the kernel.
    pub kernel_arguments: &'a str,
    /// Its file system.
    pub initramfs: &'a Path,
    /// Where its console is written.
    pub console: &'a Path,
    /// Where the guest's records are written.
    pub results: &'a Path,
}

impl Machine<'_> {
    /// Starts it: 4 CPUs unless the arguments say else, 2 NUMA nodes, two cards and a small one on one hub, the receiving one on node 1.
    pub fn start(&self) -> Result<Running> {
        // What was there was another run's.
        for path in [self.console, self.results] {
            fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))?;
        }
        Running::start(self.command(), &self.console.with_extension("qemu"))
    }

    fn command(&self) -> Command {
        let mut command = qemu(self.tools, self.accelerator);
        let memory = format!("{}", 2 * NODE_MIB);
        let cpus = cpus(self.kernel_arguments);
        command.args(["-smp", &cpus.to_string(), "-m", &memory]);
        let half = cpus / 2;
        for node in 0..2 {
            command.args([
                "-object",
                &format!("memory-backend-ram,id=m{node},size={NODE_MIB}M"),
                "-numa",
                &format!(
                    "node,nodeid={node},memdev=m{node},cpus={}-{}",
                    half * node,
                    half * node + half - 1
                ),
            ]);
        }
        command.args([
            "-device",
            "pxb-pcie,id=pxb1,bus_nr=128,bus=pcie.0,numa_node=1",
            "-device",
            "pcie-root-port,id=rp0,bus=pcie.0,chassis=1,slot=1",
            "-device",
            "pcie-root-port,id=rp1,bus=pxb1,chassis=2,slot=2",
        ]);
        for (index, mac) in [SENDER_MAC, RECEIVER_MAC].iter().enumerate() {
            let model = match self.cards {
                Cards::Igb => "igb",
                Cards::Virtio => "virtio-net-pci",
            };
            command.args([
                "-netdev",
                &format!("hubport,hubid=0,id=h{index}"),
                "-device",
                &format!("{model},bus=rp{index},netdev=h{index},mac={mac},romfile="),
            ]);
        }
        // Unlike the others it takes what its ring has no room for, and counts that as missed.
        command.args([
            "-netdev",
            "hubport,hubid=0,id=h2",
            "-device",
            &format!("rtl8139,bus=pcie.0,netdev=h2,mac={SMALL_MAC},romfile="),
        ]);
        command
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .arg("-serial")
            .arg(format!("file:{}", self.results.display()))
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(format!("{KERNEL_ARGUMENTS} {}", self.kernel_arguments));
        command
    }
}

fn qemu(tools: &Tools, accelerator: Accelerator) -> Command {
    let program = tools.program("usr/bin/qemu-system-x86_64");
    // It ends with the thread that starts it, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program.get_program())
        .args(program.get_args())
        .args(["-L"])
        .arg(tools.path("usr/share/qemu"))
        .arg("-L")
        .arg(tools.path("usr/share/seabios"))
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-monitor", "none", "-machine", "q35"])
        .args(accelerator.arguments());
    command
}

/// A QEMU; killed when dropped, and by the kernel when the thread that started it ends.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    fn start(mut command: Command, stderr: &Path) -> Result<Self> {
        let file = fs::File::create(stderr)
            .with_context(|| format!("cannot create {}", stderr.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        Ok(Self {
            child: child.spawn().context("cannot start QEMU")?,
            stderr: stderr.to_owned(),
        })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for QEMU")
    }

    /// What it complained about.
    pub fn stderr(&self) -> String {
        let text = fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail once it has ended and was waited for, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
