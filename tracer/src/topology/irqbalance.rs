//! The irqbalance daemon: whether it runs, and what it was told to leave alone.

use std::path::Path;

use crate::{
    model::topology::Irqbalance,
    proc::{
        cpus::{number, parse_list, parse_mask},
        error::read_fact,
    },
};

/// The running irqbalance with the lowest pid; `None` too if it is in a pid namespace that is not seen from here.
#[must_use]
pub fn read(proc: &Path) -> Option<Irqbalance> {
    let mut found: Vec<Irqbalance> = std::fs::read_dir(proc)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = number(entry.file_name().to_str()?)?;
            let process = entry.path();
            let comm = read_fact(&process.join("comm"))?;
            if comm != "irqbalance" {
                return None;
            }
            let arguments = strings(&std::fs::read(process.join("cmdline")).ok()?);
            let environment = std::fs::read(process.join("environ")).unwrap_or_default();
            // A zombie has no arguments, not even its name.
            let (_, arguments) = arguments.split_first()?;
            Some(parse(pid, arguments, &strings(&environment)))
        })
        .collect();
    found.sort_by_key(|irqbalance| irqbalance.pid);
    found.into_iter().next()
}

fn strings(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let parts = bytes.split(|&byte| byte == 0);
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

fn parse(pid: u32, arguments: &[String], environment: &[String]) -> Irqbalance {
    let mut banned_irqs: Vec<u32> = banned(arguments).filter_map(number).collect();
    banned_irqs.sort_unstable();
    banned_irqs.dedup();
    Irqbalance {
        pid,
        args: arguments.to_vec(),
        banned_irqs,
        banned_cpus: banned_cpus(environment),
    }
}

/// `IRQBALANCE_BANNED_CPULIST`, else the older mask `IRQBALANCE_BANNED_CPUS`; `-` stands for none.
fn banned_cpus(environment: &[String]) -> Vec<u32> {
    let value = |name: &str| {
        let mut values = environment
            .iter()
            .filter_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
        values.find(|value| !value.is_empty())
    };
    let list = value("IRQBALANCE_BANNED_CPULIST").map(parse_list);
    let mask = || value("IRQBALANCE_BANNED_CPUS").map(parse_mask);
    list.or_else(mask).and_then(Result::ok).unwrap_or_default()
}

/// irqbalance's short options without a value; all others have one.
const FLAGS: &str = "odfjVh";

/// Values of `--banirq` and `-i`, in every form that `getopt_long` takes.
fn banned(arguments: &[String]) -> impl Iterator<Item = &str> {
    let mut arguments = arguments.iter().map(String::as_str);
    std::iter::from_fn(move || {
        loop {
            let argument = arguments.next()?;
            if argument == "--" {
                return None;
            }
            if let Some(long) = argument.strip_prefix("--") {
                let (name, value) = long
                    .split_once('=')
                    .map_or((long, None), |(name, value)| (name, Some(value)));
                // A beginning that no other option has will do.
                if name.len() > "ban".len() && "banirq".starts_with(name) {
                    return value.or_else(|| arguments.next());
                }
            } else if let Some(short) = argument.strip_prefix('-') {
                let Some(at) = short.find(|option| !FLAGS.contains(option)) else {
                    continue;
                };
                let mut rest = short.get(at..).unwrap_or_default().chars();
                let option = rest.next();
                let value = Some(rest.as_str()).filter(|value| !value.is_empty());
                let value = value.or_else(|| arguments.next());
                if option == Some('i') {
                    return value;
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn banned_by(line: &str) -> Vec<u32> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(1, &arguments, &[]).banned_irqs
    }

    #[test]
    fn every_form_of_a_ban_is_known() {
        for (line, irqs) in [
            ("--foreground", &[][..]),
            ("--banirq=38 --banirq 39", &[38, 39]),
            ("--bani=38", &[38]),
            ("-i 38 -i39 -fi 40", &[38, 39, 40]),
            ("-p 5 -t 38", &[]),
            ("-p -i 38", &[]),
            ("-fp5 -i 38 -i 38", &[38]),
            ("--bandriver=38 --banmod=39", &[]),
            ("--banirq=x -i -38", &[]),
            ("-- -i 38", &[]),
            ("-i", &[]),
        ] {
            assert_eq!(banned_by(line), irqs, "{line}");
        }
    }

    #[test]
    fn banned_cpus_come_from_the_environment() {
        let of = |environment: &[&str]| {
            let environment: Vec<_> = environment.iter().map(|&text| text.to_owned()).collect();
            banned_cpus(&environment)
        };
        assert_eq!(
            of(&["IRQBALANCE_BANNED_CPUS=00000001,0000000c"]),
            [2, 3, 32]
        );
        let both = ["IRQBALANCE_BANNED_CPUS=f", "IRQBALANCE_BANNED_CPULIST=8-9"];
        assert_eq!(of(&both), [8, 9]);
        assert!(of(&["IRQBALANCE_BANNED_CPULIST=", "PATH=/"]).is_empty());
    }

    #[test]
    fn the_running_daemon_is_found_and_a_dead_one_is_not() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, comm, cmdline) in [
            ("5", "irqbalance", ""),
            (
                "70",
                "irqbalance",
                "/usr/sbin/irqbalance\0--foreground\0--banirq=38\0",
            ),
            ("800", "redis-server", "irqbalance\0"),
            ("self", "irqbalance", "irqbalance\0"),
        ] {
            let directory = proc.path().join(pid);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(directory.join("cmdline"), cmdline).unwrap();
        }
        let found = read(proc.path()).unwrap();
        assert_eq!((found.pid, found.banned_irqs), (70, vec![38]));
        assert_eq!(found.args, ["--foreground", "--banirq=38"]);
        fs::remove_dir_all(proc.path().join("70")).unwrap();
        assert_eq!(read(proc.path()), None);
    }

    proptest! {
        #[test]
        fn no_arguments_make_the_parser_panic(
            arguments in proptest::collection::vec("(-|--|i|banirq|=|[0-9]|é|.){0,6}", 0..6),
            environment in proptest::collection::vec("(IRQBALANCE_BANNED_CPU(S|LIST)=)?.{0,6}", 0..3),
        ) {
            let _ = parse(1, &arguments, &environment);
        }
    }
}
