//! `cargo xtask vm-test`: boots real kernels in QEMU and runs tracer and the scenarios there.

mod apt;
mod initramfs;
mod kernels;
mod modules;
mod qemu;
mod table;
mod tools;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use xtask::guest::{Outcome, Task, kernel_arguments};

use self::{
    initramfs::Binaries,
    kernels::{KNOWN, Kernel},
    qemu::{Accelerator, Cards, Machine},
    tools::Tools,
    watch::{Aborted, MachineResult},
};
use crate::{
    command,
    dist::build_static,
    setup::{Purpose, setup},
    summary::Totals,
};

/// Machines at a time.
const AT_A_TIME: usize = 2;
/// How often a machine is started that aborts, falls silent, or stalls while booting: it does about once in ten boots.
const ATTEMPTS: u32 = 4;
/// Of a matrix, the kernel that scenarios run on that need only one.
const ONE_KERNEL: &str = "6.12";

/// How the results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

/// What to boot and what to run there.
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Kernel of Debian: 5.10, 6.1, 6.12, 7.2 (bullseye, bookworm, trixie, sid), each also as NAME-cloud, 6.12-rt,
    /// or all, which is those four; repeatable
    #[arg(long, value_name = "NAME", value_parser = kernel_names(), default_value = "all")]
    kernel: Vec<String>,
    /// Scenarios whose name contains this; repeatable
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// List kernels and scenarios, run nothing
    #[arg(long)]
    list: bool,
    /// Debian packages with a kernel of your own and its modules
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["kernel", "vmlinuz"])]
    deb: Vec<PathBuf>,
    /// A kernel of your own
    #[arg(
        long,
        value_name = "FILE",
        requires = "modules",
        conflicts_with = "kernel"
    )]
    vmlinuz: Option<PathBuf>,
    /// Its lib/modules/RELEASE, or a directory that contains that
    #[arg(long, value_name = "DIR", requires = "vmlinuz")]
    modules: Option<PathBuf>,
    /// Further arguments of the kernel
    #[arg(long, value_name = "ARGUMENTS", default_value = "")]
    append: String,
    /// Machines at a time
    #[arg(long, value_name = "N", default_value_t = AT_A_TIME)]
    jobs: usize,
    /// Run what failed once more in a new machine; a scenario that passes then is reported as flaky, with why it failed
    #[arg(long)]
    retry: bool,
    /// How to print the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print what each scenario saw
    #[arg(long)]
    verbose: bool,
    /// Install and download nothing: name what is missing
    #[arg(long)]
    offline: bool,
}

fn kernel_names() -> Vec<&'static str> {
    let known = KNOWN.iter().map(|known| known.name);
    known.chain(["all"]).collect()
}

/// Prints the matrix; fails if anything in it did.
pub fn vm_test(options: &Options) -> Result<()> {
    setup(Purpose::Test, options.offline)?;
    let binaries = build(options.offline)?;
    if options.list {
        return list(&binaries);
    }
    let machines = run_all(options, &binaries)?;
    match options.format {
        Format::Text => {
            print!("{}", table::text(&machines));
            if options.verbose {
                print_logs(&machines);
            }
            println!("{}", table::totals(&machines));
        }
        Format::Json => println!("{}", table::json(&machines)),
    }
    if table::totals(&machines).failed > 0 {
        bail!(crate::Reported);
    }
    Ok(())
}

/// The matrix as a step of `cargo xtask test`: all kernels, all scenarios.
pub fn matrix(offline: bool) -> Result<Totals> {
    let options = Options {
        kernel: vec!["all".to_owned()],
        scenario: Vec::new(),
        list: false,
        deb: Vec::new(),
        vmlinuz: None,
        modules: None,
        append: String::new(),
        jobs: AT_A_TIME,
        retry: true,
        format: Format::Text,
        verbose: false,
        offline,
    };
    let machines = run_all(&options, &build(offline)?)?;
    print!("{}", table::text(&machines));
    Ok(table::totals(&machines))
}

/// tracer and the guest, static.
pub fn build(offline: bool) -> Result<Binaries> {
    let packages = ["--package", "tracer", "--package", "tracer-tests", "--bins"];
    let directory = build_static(&packages, offline)?;
    Ok(Binaries {
        guest: directory.join("tracer-guest"),
        tracer: directory.join("tracer"),
    })
}

fn list(binaries: &Binaries) -> Result<()> {
    println!("kernels:");
    for known in KNOWN {
        let all = if known.in_all { "  (all)" } else { "" };
        println!("  {}{all}", known.name);
    }
    println!("scenarios:");
    for name in scenarios(binaries)? {
        println!("  {name}");
    }
    Ok(())
}

/// The guest itself knows its scenarios.
fn scenarios(binaries: &Binaries) -> Result<Vec<String>> {
    let output = Command::new(&binaries.guest)
        .output()
        .context("cannot ask the guest for its scenarios")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let names = text.lines().skip(1).map(|line| line.trim().to_owned());
    Ok(names.collect())
}

/// The machines that a kernel is booted in: one for each set of kernel arguments that a wanted scenario needs.
fn tasks(options: &Options, names: &[String]) -> Result<Vec<Task>> {
    for wanted in &options.scenario {
        if !names.iter().any(|name| name.contains(wanted)) {
            bail!(
                "no scenario has '{wanted}' in its name; `cargo xtask vm-test --list` tells what there is"
            );
        }
    }
    let arguments: BTreeSet<_> = names.iter().map(|name| kernel_arguments(name)).collect();
    let tasks = arguments.into_iter().map(|arguments| Task {
        scenarios: options.scenario.clone(),
        modules: modules::LOADED
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        verbose: options.verbose,
        kernel_arguments: arguments.to_owned(),
        every_kernel_only: false,
    });
    Ok(tasks
        .filter(|task| names.iter().any(|name| task.wants(name)))
        .collect())
}

fn print_logs(machines: &[(String, MachineResult)]) {
    for (kernel, machine) in machines {
        for one in machine.scenarios.iter().filter(|one| !one.log.is_empty()) {
            println!("--- {kernel}: {}", one.scenario);
            println!("{}", one.log.trim_end());
        }
    }
}

fn run_all(options: &Options, binaries: &Binaries) -> Result<Vec<(String, MachineResult)>> {
    apt::check_machine()?;
    let directory = command::target_dir().join("vm");
    let runs = directory.join("runs");
    fs::create_dir_all(&runs).with_context(|| format!("cannot create {}", runs.display()))?;
    let tools = Tools::prepare(&directory, options.offline)?;
    let kernels = kernels(options, &tools, &directory)?;
    let first = kernels.first().context("no kernel asked for")?;
    let (accelerator, words) = Accelerator::probe(&tools, first, &runs);
    eprintln!("accelerator: {words}");
    let names = scenarios(binaries)?;
    let tasks = tasks(options, &names)?;
    let machines = machines(&kernels, &tasks, &names);
    let jobs = options.jobs.clamp(1, machines.len().max(1));
    let pending = Mutex::new(machines.into_iter());
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = pending
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .next();
                    let Some(Booted {
                        kernel,
                        index,
                        task,
                    }) = next
                    else {
                        return;
                    };
                    let job = Job {
                        // The console of each is kept.
                        files: runs.join(match index {
                            0 => kernels[kernel].name.clone(),
                            _ => format!("{}-{index}", kernels[kernel].name),
                        }),
                        kernel: &kernels[kernel],
                        tools: &tools,
                        binaries,
                        task,
                        accelerator,
                        append: &options.append,
                    };
                    let result = job.run_with_retry(options.retry);
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert((kernel, index), result);
                }
            });
        }
    });
    let mut of_kernels: Vec<_> = kernels
        .iter()
        .map(|kernel| (kernel.name.clone(), None))
        .collect();
    for ((kernel, _), result) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let sum: &mut Option<MachineResult> = &mut of_kernels[kernel].1;
        *sum = Some(match sum.take() {
            Some(before) => before.and(result),
            None => result,
        });
    }
    Ok(of_kernels
        .into_iter()
        .map(|(name, result)| (name, result.unwrap_or_default()))
        .collect())
}

/// One boot of a kernel.
struct Booted {
    /// Place in the list of kernels.
    kernel: usize,
    /// Place in the list of tasks.
    index: usize,
    task: Task,
}

/// Every kernel with each task that has a scenario for it. The longest ones come first, so that they end together: those
/// of the kernel with the most scenarios, then those that have most of the scenarios.
fn machines(kernels: &[Kernel], tasks: &[Task], names: &[String]) -> Vec<Booted> {
    let matrix = kernels.iter().any(|kernel| kernel.name == ONE_KERNEL) && kernels.len() > 1;
    let mut machines = Vec::new();
    for (kernel, of) in kernels.iter().enumerate() {
        for (index, task) in tasks.iter().enumerate() {
            let task = Task {
                every_kernel_only: matrix && of.name != ONE_KERNEL,
                ..task.clone()
            };
            if names.iter().any(|name| task.wants(name)) {
                machines.push(Booted {
                    kernel,
                    index,
                    task,
                });
            }
        }
    }
    machines.sort_by_key(|machine| {
        let of_all = kernels[machine.kernel].name == ONE_KERNEL;
        (!of_all, machine.index, machine.kernel)
    });
    machines
}

fn kernels(options: &Options, tools: &Tools, directory: &Path) -> Result<Vec<Kernel>> {
    if !options.deb.is_empty() {
        return Ok(vec![kernels::from_debs(tools, &options.deb, directory)?]);
    }
    if let (Some(image), Some(modules)) = (&options.vmlinuz, &options.modules) {
        return Ok(vec![kernels::from_files(tools, image, modules, directory)?]);
    }
    let wanted = |name: &str, in_all| {
        options
            .kernel
            .iter()
            .any(|one| one == name || (one == "all" && in_all))
    };
    KNOWN
        .iter()
        .filter(|known| wanted(known.name, known.in_all))
        .map(|known| known.prepare(tools, directory, options.offline))
        .collect()
}

/// One machine to boot.
struct Job<'a> {
    /// Path of its files, without an extension.
    files: PathBuf,
    kernel: &'a Kernel,
    tools: &'a Tools,
    binaries: &'a Binaries,
    task: Task,
    accelerator: Accelerator,
    /// Further arguments of the kernel.
    append: &'a str,
}

impl Job<'_> {
    /// Runs it, and what failed once more in a new machine if `retry` says so.
    fn run_with_retry(&self, retry: bool) -> MachineResult {
        let result = self.run();
        let failed = result.failed_scenarios();
        if !retry || failed.is_empty() {
            return result;
        }
        eprintln!("{}: once more: {}", self.kernel.name, failed.join(", "));
        let again = Job {
            files: PathBuf::from(format!("{}-again", self.files.display())),
            task: Task {
                scenarios: failed,
                ..self.task.clone()
            },
            ..*self
        };
        result.retried(again.run())
    }

    /// Runs it. A QEMU that aborts says nothing about the scenarios that have no result yet: they run in a new machine.
    fn run(&self) -> MachineResult {
        let mut sum = MachineResult::default();
        let mut task = self.task.clone();
        for attempt in 0..ATTEMPTS {
            let failed = |error: anyhow::Error| {
                let failure = MachineResult {
                    failure: Some(format!("{error:#}")),
                    ..MachineResult::default()
                };
                (failure, None)
            };
            let (result, aborted) = self.boot(&task, attempt).unwrap_or_else(failed);
            sum = sum.and(result);
            let Some(Aborted { why, left }) = aborted else {
                return sum;
            };
            if left.as_ref().is_some_and(Vec::is_empty) {
                return sum;
            }
            task.scenarios = left.unwrap_or(task.scenarios);
            eprintln!(
                "{}: the machine is of no more use ({why}); the rest in a new one",
                self.kernel.name
            );
        }
        sum.failure = Some(format!(
            "QEMU ended, stalled or fell silent {ATTEMPTS} times"
        ));
        sum
    }

    /// The files of a machine stay when another takes its place.
    fn boot(&self, task: &Task, attempt: u32) -> Result<(MachineResult, Option<Aborted>)> {
        let &Self {
            kernel,
            tools,
            accelerator,
            ..
        } = self;
        let attempt = match attempt {
            0 => String::new(),
            n => format!("-boot{}", n + 1),
        };
        let at = |extension: &str| {
            PathBuf::from(format!("{}{attempt}.{extension}", self.files.display()))
        };
        let (initramfs, console, results) = (at("cpio"), at("console"), at("results"));
        initramfs::write(&initramfs, kernel, tools, self.binaries, task)?;
        let igb = kernel
            .modules()
            .join("kernel/drivers/net/ethernet/intel/igb");
        let machine = Machine {
            tools,
            accelerator,
            kernel,
            cards: if igb.exists() {
                Cards::Igb
            } else {
                Cards::Virtio
            },
            kernel_arguments: &format!("{} {}", self.task.kernel_arguments, self.append),
            initramfs: &initramfs,
            console: &console,
            results: &results,
        };
        let (result, aborted) = watch::run(&machine, &|line| eprintln!("{}: {line}", kernel.name))?;
        fs::remove_file(&initramfs)?;
        for (name, text) in &result.files {
            let path = at(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("{}: kept {}", kernel.name, path.display());
        }
        let failed = result.failure.is_some()
            || result
                .scenarios
                .iter()
                .any(|one| one.outcome == Outcome::Fail);
        if failed {
            eprintln!("{}: console kept in {}", kernel.name, console.display());
        }
        Ok((result, aborted))
    }
}

/// Fails with what is missing if nothing may be downloaded.
fn needs_network(offline: bool, what: &str) -> Result<()> {
    if offline {
        bail!(
            "{what} is not here (--offline: nothing downloaded); run `cargo xtask vm-test` with a network"
        );
    }
    Ok(())
}
