//! `/proc/net/snmp`, `/proc/net/netstat` (`snmp_seq_show`, `netstat_seq_show` in net/ipv4/proc.c) and
//! `/proc/net/snmp6` (`snmp6_seq_show` in net/ipv6/proc.c): what a network namespace's protocols counted.

use std::{collections::BTreeMap, path::Path};

use super::error::{ParseError, ProcError, read};

const SNMP: &str = "/proc/net/snmp";
const NETSTAT: &str = "/proc/net/netstat";
const SNMP6: &str = "/proc/net/snmp6";

/// Counters of one namespace since it was made, by group and name: `Udp.RcvbufErrors`, `TcpExt.ListenOverflows`,
/// `Udp6.NoPorts`. `unsigned long` in the kernel; settings and levels are left out.
pub type Protocols = BTreeMap<String, u64>;

/// Settings and levels that stand between the counters; they say nothing about a window.
const NO_COUNTERS: &[&str] = &[
    "Ip.Forwarding",
    "Ip.DefaultTTL",
    "Tcp.RtoAlgorithm",
    "Tcp.RtoMin",
    "Tcp.RtoMax",
    "Tcp.MaxConn",
    "Tcp.CurrEstab",
    "MPTcpExt.MPCurrEstab",
];

/// Reads the three files of tracer's own network namespace. A kernel without IPv6 has no `snmp6`. The kernel adds up each
/// counter over all possible CPUs: 0.15 ms with 2 CPUs on 6.18, a third of it here.
pub fn read_protocols(proc: &Path) -> Result<Protocols, ProcError> {
    let net = proc.join("net");
    let mut counters = Protocols::new();
    parse(SNMP, &read(&net.join("snmp"))?, &mut counters)?;
    parse(NETSTAT, &read(&net.join("netstat"))?, &mut counters)?;
    match read(&net.join("snmp6")) {
        Ok(text) => parse_snmp6(&text, &mut counters)?,
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(counters)
}

/// Adds the counters of pairs of lines: `Group: Name …`, then `Group: value …`. Which names there are differs
/// between kernels, and in `IcmpMsg` with what was received.
pub fn parse(file: &'static str, text: &str, counters: &mut Protocols) -> Result<(), ParseError> {
    let mut lines = text.lines().enumerate();
    while let Some((index, names)) = lines.next() {
        let fail = |line: usize, what: String| ParseError::new(file, line + 1, what);
        let (group, names) = names
            .split_once(':')
            .ok_or_else(|| fail(index, "no `:` after the group".into()))?;
        let (at, values) = lines
            .next()
            .ok_or_else(|| fail(index, format!("no values for `{group}`")))?;
        let values = values
            .strip_prefix(group)
            .and_then(|rest| rest.strip_prefix(':'))
            .ok_or_else(|| fail(at, format!("no values of `{group}`")))?;
        let mut values = values.split_ascii_whitespace();
        for name in names.split_ascii_whitespace() {
            let value = values
                .next()
                .ok_or_else(|| fail(at, format!("no value for `{name}`")))?;
            let key = format!("{group}.{name}");
            if NO_COUNTERS.contains(&key.as_str()) {
                continue;
            }
            let value = number(value).ok_or_else(|| fail(at, format!("`{value}` is no count")))?;
            if counters.insert(key, value).is_some() {
                return Err(fail(index, format!("a second `{group}.{name}`")));
            }
        }
        if values.next().is_some() {
            return Err(fail(at, format!("more values than names of `{group}`")));
        }
    }
    Ok(())
}

/// Adds the counters of lines `Ip6InReceives 7`: the group ends with its 6.
pub fn parse_snmp6(text: &str, counters: &mut Protocols) -> Result<(), ParseError> {
    for (index, line) in text.lines().enumerate() {
        let fail = |what: String| ParseError::new(SNMP6, index + 1, what);
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(value), None) = (words.next(), words.next(), words.next()) else {
            return Err(fail("a name and a count expected".into()));
        };
        let (group, name) = name
            .split_once('6')
            .filter(|(_, name)| !name.is_empty())
            .ok_or_else(|| fail(format!("`{name}` has no group")))?;
        let value = number(value).ok_or_else(|| fail(format!("`{value}` is no count")))?;
        if counters.insert(format!("{group}6.{name}"), value).is_some() {
            return Err(fail(format!("a second `{group}6.{name}`")));
        }
    }
    Ok(())
}

/// A decimal number of digits only.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SNMP_6_18: &str = include_str!("../../tests/fixtures/snmp/6.18");
    const NETSTAT_6_18: &str = include_str!("../../tests/fixtures/netstat/6.18");
    const SNMP6_6_18: &str = include_str!("../../tests/fixtures/snmp6/6.18");

    fn parsed(file: &'static str, text: &str) -> Result<Protocols, ParseError> {
        let mut counters = Protocols::new();
        parse(file, text, &mut counters).map(|()| counters)
    }

    #[test]
    fn a_counter_has_the_name_of_its_group() {
        let counters = parsed(SNMP, SNMP_6_18).unwrap();
        for name in [
            "Udp.RcvbufErrors",
            "Ip.InDiscards",
            "Tcp.InErrs",
            "UdpLite.NoPorts",
        ] {
            assert!(counters.contains_key(name), "{name}: {counters:?}");
        }
        assert!(counters["Ip.InReceives"] > 0);
        let counters = parsed(NETSTAT, NETSTAT_6_18).unwrap();
        for name in [
            "TcpExt.ListenOverflows",
            "TcpExt.TCPBacklogDrop",
            "IpExt.InNoRoutes",
        ] {
            assert!(counters.contains_key(name), "{name}: {counters:?}");
        }
    }

    #[test]
    fn an_ipv6_counter_has_its_group_too() {
        let mut counters = Protocols::new();
        parse_snmp6(SNMP6_6_18, &mut counters).unwrap();
        for name in [
            "Ip6.InReceives",
            "Udp6.RcvbufErrors",
            "Icmp6.InMsgs",
            "UdpLite6.NoPorts",
        ] {
            assert!(counters.contains_key(name), "{name}: {counters:?}");
        }
    }

    #[test]
    fn settings_and_levels_are_no_counters() {
        let counters = parsed(SNMP, SNMP_6_18).unwrap();
        assert!(NO_COUNTERS.iter().all(|name| !counters.contains_key(*name)));
    }

    #[test]
    fn names_of_another_kernel_are_taken_as_they_are() {
        let counters =
            parsed(SNMP, "Ip: DefaultTTL New\nIp: 64 7\nIcmpMsg: \nIcmpMsg: \n").unwrap();
        assert_eq!(counters, [("Ip.New".to_owned(), 7)].into());
    }

    #[test]
    fn malformed_rows_are_errors_with_their_line() {
        for (text, line) in [
            ("Ip", 1),
            ("Ip: A", 1),
            ("Ip: A\nUdp: 1", 2),
            ("Ip: A\nIp: 1 2", 2),
            ("Ip: A B\nIp: 1", 2),
            ("Ip: A\nIp: -1", 2),
            ("Ip: A\nIp: 1\nIp: A\nIp: 1", 3),
        ] {
            assert_eq!(parsed(SNMP, text).unwrap_err().line, line, "{text}");
        }
        for text in ["Ip6A", "Ip6A x", "Ip6A 1 2", "IpA 1", "Ip6 1", ""] {
            let mut counters = Protocols::new();
            let failed = parse_snmp6(text, &mut counters).is_err();
            assert_eq!(failed, !text.is_empty(), "{text}");
        }
    }

    #[test]
    fn this_hosts_files_are_parsed() {
        let counters = read_protocols(Path::new("/proc")).unwrap();
        assert!(counters.contains_key("Udp.NoPorts"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(?s).*", close in "([IU]p:?( [A-C0-9]{0,3}){0,4}\n){0,6}") {
            for text in [text, close] {
                let mut counters = Protocols::new();
                let _ = parse(SNMP, &text, &mut counters);
                let _ = parse_snmp6(&text, &mut counters);
            }
        }

        #[test]
        fn a_mangled_file_does_not_panic(at in 0..SNMP_6_18.len(), with in any::<char>()) {
            let mut text: Vec<char> = SNMP_6_18.chars().collect();
            text[at] = with;
            let _ = parsed(SNMP, &text.into_iter().collect::<String>());
        }

        #[test]
        fn a_mangled_ipv6_file_does_not_panic(at in 0..SNMP6_6_18.len(), with in any::<char>()) {
            let mut text: Vec<char> = SNMP6_6_18.chars().collect();
            text[at] = with;
            let _ = parse_snmp6(&text.into_iter().collect::<String>(), &mut Protocols::new());
        }
    }
}
