//! Round trips of any snapshot.

use proptest::prelude::*;
use tracer_common::{
    counter::{CpuCounters, DropCounters, DropKey, IrqCounters, NO_CPU, NO_REASON, NapiCounters},
    hist::BUCKETS,
};

use super::{
    drops::{read, write},
    *,
};
use crate::{
    model::{
        report::{Hook, HookStatus},
        snapshot::{Between, Gaps, Snapshot},
    },
    proc::{interrupts::Row, netdev::NetDevice, softnet::SoftnetRow, stat::CpuTicks},
    synthetic::Dice,
};

impl Dice {
    /// Any number, often a small or an extreme one.
    fn any(&mut self) -> u64 {
        let n = self.roll();
        match n % 5 {
            0 => 0,
            1 => u64::MAX - (n >> 60),
            2 => n,
            _ => n >> 40,
        }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.any() & u64::from(u32::MAX)).unwrap()
    }

    fn map<K: Ord, V>(
        &mut self,
        key: impl Fn(&mut Self) -> K,
        value: impl Fn(&mut Self) -> V,
    ) -> BTreeMap<K, V> {
        let entries = self.below(4);
        (0..entries).map(|_| (key(self), value(self))).collect()
    }

    fn id(&mut self) -> u32 {
        u32::try_from(self.below(6)).unwrap()
    }

    fn name(&mut self) -> String {
        ["eth0", "lo", "", "größe \"x\"\n"][usize::try_from(self.below(4)).unwrap()].to_owned()
    }

    fn maybe(&mut self) -> Option<u32> {
        (self.below(2) == 0).then(|| self.small())
    }

    fn row(&mut self) -> Row {
        Row {
            name: self.name(),
            counts: self.map(Self::id, Self::small),
        }
    }

    fn cpu(&mut self) -> Box<CpuCounters> {
        let mut cpu = CpuCounters::ZERO;
        cpu.hardirqs = self.any();
        cpu.hardirq_max_ns = self.any();
        cpu.packets = self.any();
        for softirq in &mut cpu.softirqs {
            softirq.ns = self.any();
        }
        for detail in &mut cpu.details {
            detail.sent = self.any();
        }
        cpu.unreadable = self.any();
        for _ in 0..self.below(9) {
            let bucket = usize::try_from(self.below(BUCKETS as u64)).unwrap();
            cpu.hardirq_hist[bucket] = self.any();
            cpu.net_rx_run_hist[bucket] = self.any();
        }
        Box::new(cpu)
    }

    fn napi(&mut self) -> NapiCounters {
        let mut device = [0; 16];
        for byte in device
            .iter_mut()
            .take(usize::try_from(self.below(17)).unwrap())
        {
            *byte = self.any().to_le_bytes()[0];
        }
        NapiCounters {
            napi: self.any(),
            napi_id: self.small(),
            netns: self.small(),
            polls: self.any(),
            device,
            ..NapiCounters::default()
        }
    }

    fn drop_key(&mut self) -> DropKey {
        DropKey {
            location: self.any(),
            reason: self.maybe().unwrap_or(NO_REASON),
            ifindex: self.id(),
            netns: self.id(),
            target_cpu: self.maybe().unwrap_or(NO_CPU),
            protocol: self.small(),
            reserved: 0,
        }
    }

    /// Any snapshot, but for what only the kernel side uses.
    pub(in crate::record) fn snapshot(&mut self) -> Snapshot {
        let mut s = Snapshot {
            monotonic_ns: self.any(),
            unix_ns: self.any(),
            gaps: Gaps {
                softnet: self.any(),
                ..Gaps::default()
            },
            between: Between {
                net_rx: self.map(Self::id, Self::any),
                softnet_dropped: self.map(Self::id, Self::any),
                hardirqs: self.any(),
                new_hardirqs: self.any(),
                processed: self.any(),
                squeezed: self.any(),
                packets: self.any(),
                protocols: self.map(Self::name, Self::any),
            },
            ..Snapshot::default()
        };
        let t = &mut s.traced;
        t.cpus = self.map(Self::id, Self::cpu);
        t.irqs = self.map(Self::id, |d| {
            d.map(Self::id, |d| IrqCounters {
                count: d.any(),
                max_ns: d.any(),
                ..IrqCounters::default()
            })
        });
        t.napi = self.map(Self::id, |d| {
            let slots = d.below(4);
            (0..slots).map(|_| d.napi()).collect()
        });
        t.drops = self.map(Self::drop_key, |d| {
            d.map(Self::id, |d| DropCounters {
                packets: d.any(),
                bytes: d.any(),
            })
        });
        t.hooks = vec![Hook {
            name: self.name(),
            via: Some(self.name()).filter(|name| !name.is_empty()),
            status: HookStatus::Failed,
            missed: self.maybe().map(u64::from),
            ..Hook::default()
        }];
        t.undecodable = self.any();
        let k = &mut s.kernel;
        k.softnet = self.map(Self::id, |d| SoftnetRow {
            processed: d.small(),
            flow_limit: d.maybe(),
            backlog_len: d.maybe(),
            ..SoftnetRow::default()
        });
        k.interrupts.device = self.map(Self::id, Self::row);
        k.interrupts.arch = self.map(Self::name, Self::row);
        k.softirqs.runs = self.map(Self::name, |d| d.map(Self::id, Self::small));
        k.devices = self.map(Self::id, |d| NetDevice {
            name: d.name(),
            ifindex: d.id(),
            rx_packets: d.any(),
            ..NetDevice::default()
        });
        k.driver_stats = self.map(Self::id, |d| d.map(Self::name, Self::any));
        k.protocols = self.map(Self::name, Self::any);
        k.time = self.map(Self::id, |d| CpuTicks {
            user: d.any(),
            idle: d.any(),
            ..CpuTicks::default()
        });
        k.tick_ns = self.any();
        k.online = (0..self.id()).collect();
        s
    }
}

/// Through text, as a recording does it.
fn applied<T: Delta>(mut before: T, after: &T) -> T {
    if let Some(change) = after.since(&before) {
        let text = serde_json::to_string(&change).unwrap();
        before.apply(serde_json::from_str(&text).unwrap()).unwrap();
    }
    before
}

proptest! {
    #[test]
    fn a_snapshot_and_the_difference_to_another_make_the_other(seed: u64) {
        let mut dice = Dice(seed);
        let (before, after) = (dice.snapshot(), dice.snapshot());
        prop_assert_eq!(&applied(Snapshot::default(), &after), &after);
        prop_assert_eq!(applied(before, &after), after);
    }

    #[test]
    fn what_is_counted_twice_is_taken_off_and_added_again(seed: u64) {
        let snapshot = Dice(seed).snapshot();
        let mut shifted = snapshot.clone();
        counted_twice::apart(&mut shifted);
        counted_twice::together(&mut shifted);
        prop_assert_eq!(shifted, snapshot);
    }

    #[test]
    fn a_drop_key_comes_back_from_its_text(seed: u64) {
        let key = Dice(seed).drop_key();
        prop_assert_eq!(read(&write(&key)), Ok(key));
    }

    #[test]
    fn any_text_is_a_drop_key_or_none(text: String) {
        let _ = read(&text);
    }
}

#[test]
fn equal_snapshots_have_no_difference() {
    let snapshot = Dice(7).snapshot();
    assert!(snapshot.since(&snapshot).is_none());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let apply = |text: &str| Snapshot::default().apply(serde_json::from_str(text).unwrap());
    for text in [
        r#"{"traced":{"cpus":{"new":[0],"of":{"hardirq_hist":{"0":[303,1,1]}}}}}"#,
        r#"{"traced":{"cpus":{"new":[0],"of":{"softirqs":{"NET_LX":{"runs":[[0,1]]}}}}}}"#,
        r#"{"traced":{"napi":{"new":[0],"of":{"0":{"4000000000":{"polls":1}}}}}}"#,
        r#"{"traced":{"napi":{"new":[0],"of":{"0":{"0":{"device":"a name of more than 16 bytes"}}}}}}"#,
        r#"{"traced":{"cpus":{"of":{"packets":[[0,1]]}}}}"#,
        r#"{"kernel":{"softnet":{"new":[0],"of":{"dropped":[[0,4294967296]]}}}}"#,
        r#"{"kernel":{"softnet":{"new":[0],"of":{"dropped":[[]]}}}}"#,
        r#"{"traced":{"drops":{"somewhere":{"new":[0]}}}}"#,
    ] {
        assert!(apply(text).is_err(), "{text}");
    }
}
