//! The parsers on the tables of each kernel of the matrix, as a VM with 4 CPUs left them, CPU 2 offline (the scenario
//! `every_table_of_this_kernel_is_understood`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use tracer::proc::{interrupts, pid, snmp, softirqs, softnet, stat};

const ONLINE: [u32; 3] = [0, 1, 3];

fn kernels() -> Vec<PathBuf> {
    let all = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernels");
    let mut kernels: Vec<_> = fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    kernels.sort();
    assert_eq!(kernels.len(), 4, "{kernels:?}");
    kernels
}

fn each(name: &'static str, check: impl Fn(&str)) {
    for kernel in kernels() {
        println!("{}", kernel.display());
        check(&fs::read_to_string(kernel.join(name)).unwrap());
    }
}

#[test]
fn interrupts_have_columns_of_online_cpus_and_the_cards_names() {
    each("interrupts", |text| {
        let table = interrupts::parse(text).unwrap();
        let names: BTreeSet<&str> = table.device.values().map(|row| row.name.as_str()).collect();
        for name in ["nic0-rx-0", "nic1-rx-3"] {
            assert!(names.iter().any(|own| own.contains(name)), "{names:?}");
        }
        assert!(
            table
                .device
                .values()
                .all(|row| row.counts.keys().eq(&ONLINE))
        );
        assert!(table.arch["LOC"].counts.values().all(|count| *count > 0));
    });
}

#[test]
fn softirqs_have_ten_vectors() {
    each("softirqs", |text| {
        let runs = softirqs::parse(text).unwrap().runs;
        assert_eq!(runs.len(), 10, "{runs:?}");
        assert!(runs["NET_RX"].values().any(|count| *count > 0));
    });
}

#[test]
fn softnet_rows_belong_to_online_cpus() {
    each("softnet_stat", |text| {
        let rows = softnet::parse(text, &ONLINE).unwrap();
        assert!(rows.keys().eq(&ONLINE), "{rows:?}");
        assert!(rows.values().any(|row| row.processed >= 100), "{rows:?}");
        assert!(rows.values().all(|row| row.flow_limit.is_some()));
    });
}

#[test]
fn cpu_times_are_those_of_online_cpus() {
    each("stat", |text| {
        assert!(stat::parse(text).unwrap().keys().eq(&ONLINE));
    });
}

#[test]
fn protocol_counters_have_their_names() {
    for (name, counter) in [
        ("snmp", "Udp.NoPorts"),
        ("netstat", "TcpExt.ListenOverflows"),
        ("netstat", "IpExt.InOctets"),
    ] {
        each(name, |text| {
            let mut counters = snmp::Protocols::default();
            snmp::parse(name, text, &mut counters).unwrap();
            assert!(counters.contains_key(counter), "{counters:?}");
        });
    }
    each("snmp6", |text| {
        let mut counters = snmp::Protocols::default();
        snmp::parse_snmp6(text, &mut counters).unwrap();
        assert!(counters.contains_key("Udp6.NoPorts"), "{counters:?}");
    });
}

#[test]
fn a_process_has_its_cpu_and_affinity() {
    each("pid_stat", |text| {
        let stat = pid::stat::parse(text).unwrap();
        assert!(
            ONLINE.contains(&stat.cpu) && !stat.kernel_thread,
            "{stat:?}"
        );
    });
    each("pid_status", |text| {
        assert_eq!(pid::status::parse(text).unwrap(), [0, 1, 2, 3]);
    });
}
