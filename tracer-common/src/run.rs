//! Which `NET_RX` run is measured, where they may nest. Only the kernel side uses it; it is here to be tested.
//!
//! Softirqs do not nest, but under `PREEMPT_RT` they run in tasks: without the per-CPU lock of bottom halves, which 6.18 made
//! optional, a task preempts another's run and begins its own, and either may end first. The task tells whose an end or a
//! poll is.

use crate::counter::CpuCounters;

/// Value of [`CpuCounters::run_polled_jiffies`] before the first poll: jiffies never are 0, they begin five minutes below
/// 2^32.
pub const NOT_POLLED: u64 = 0;

/// Jiffies after which a run that another task began is taken for one whose end was missed.
const FORGOTTEN_JIFFIES: u64 = 1000;

#[expect(
    clippy::inline_always,
    reason = "a call between BPF functions forgets what the verifier knew about the pointers"
)]
impl CpuCounters {
    /// `NET_RX` begins in `task`: whether this run is measured. It is not if it began inside another, which goes on.
    #[inline(always)]
    pub fn enter_net_rx(&mut self, task: u64, jiffies: u64, preempt_rt: bool) -> bool {
        if self.in_net_rx != 0 {
            self.net_rx_nested += 1;
            if preempt_rt {
                // A task has one run at a time.
                if task != self.known_task
                    && jiffies.wrapping_sub(self.run_began_jiffies) < FORGOTTEN_JIFFIES
                {
                    self.nested_runs += 1;
                    return false;
                }
                self.nested_runs = 0;
            }
        }
        self.in_net_rx = 1;
        true
    }

    /// `NET_RX` ends: whether it is the measured run. `task`: the current one, under `PREEMPT_RT` only.
    #[inline(always)]
    pub fn leave_net_rx(&mut self, task: Option<u64>) -> bool {
        if let Some(task) = task
            && (self.in_net_rx == 0 || task != self.known_task)
        {
            self.nested_runs = self.nested_runs.saturating_sub(1);
            return false;
        }
        core::mem::take(&mut self.in_net_rx) != 0
    }

    /// A poll returned `packets`. `task`: as of [`Self::leave_net_rx`].
    #[inline(always)]
    pub fn polled(&mut self, packets: u64, jiffies: u64, task: Option<u64>) {
        if self.in_net_rx != 0 && task.is_none_or(|task| task == self.known_task) {
            self.run_packets += packets;
            self.run_polled_jiffies = jiffies;
        } else if task.is_some() && self.nested_runs != 0 {
            self.packets += packets;
        } else {
            self.polls_outside += 1;
            self.packets_outside += packets;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KSOFTIRQD: u64 = 0xffff_8880_0000_1000;
    const IRQ_THREAD: u64 = 0xffff_8880_0000_2000;

    /// What the kernel side does with them.
    struct Cpu {
        counters: CpuCounters,
        preempt_rt: bool,
    }

    impl Cpu {
        fn new(preempt_rt: bool) -> Self {
            let counters = CpuCounters::ZERO;
            Self {
                counters,
                preempt_rt,
            }
        }

        fn begin(&mut self, task: u64, jiffies: u64) {
            let c = &mut self.counters;
            if c.enter_net_rx(task, jiffies, self.preempt_rt) {
                c.run_began_ns = jiffies * 100;
                c.run_began_jiffies = jiffies;
                c.run_packets = 0;
                c.known_task = task;
            }
        }

        fn poll(&mut self, task: u64, packets: u64, jiffies: u64) {
            let task = self.preempt_rt.then_some(task);
            self.counters.polled(packets, jiffies, task);
        }

        /// Duration and packets, if it was measured.
        fn end(&mut self, task: u64, jiffies: u64) -> Option<(u64, u64)> {
            let c = &mut self.counters;
            c.leave_net_rx(self.preempt_rt.then_some(task)).then(|| {
                c.packets += c.run_packets;
                (jiffies * 100 - c.run_began_ns, c.run_packets)
            })
        }
    }

    #[test]
    fn a_run_that_is_preempted_by_another_is_measured_and_the_other_is_counted_as_nested() {
        let mut cpu = Cpu::new(true);
        cpu.begin(KSOFTIRQD, 10);
        cpu.poll(KSOFTIRQD, 3, 10);
        cpu.begin(IRQ_THREAD, 11);
        cpu.poll(IRQ_THREAD, 64, 11);
        assert_eq!(cpu.end(IRQ_THREAD, 12), None);
        cpu.poll(KSOFTIRQD, 5, 13);
        assert_eq!(cpu.end(KSOFTIRQD, 14), Some((400, 8)));
        let c = &cpu.counters;
        assert_eq!((c.net_rx_nested, c.packets, c.polls_outside), (1, 72, 0));
        assert_eq!((c.in_net_rx, c.nested_runs), (0, 0));
    }

    #[test]
    fn the_outer_run_may_end_before_the_nested_one() {
        let mut cpu = Cpu::new(true);
        cpu.begin(KSOFTIRQD, 10);
        cpu.begin(IRQ_THREAD, 11);
        assert_eq!(cpu.end(KSOFTIRQD, 12), Some((200, 0)));
        cpu.poll(IRQ_THREAD, 64, 13);
        assert_eq!(cpu.end(IRQ_THREAD, 14), None);
        let c = &cpu.counters;
        assert_eq!((c.packets, c.polls_outside, c.nested_runs), (64, 0, 0));
        // A busy poll after them.
        cpu.poll(IRQ_THREAD, 2, 15);
        assert_eq!(cpu.counters.packets_outside, 2);
    }

    #[test]
    fn a_threaded_poll_that_preempts_a_run_is_none_of_its_polls() {
        let mut cpu = Cpu::new(true);
        cpu.begin(KSOFTIRQD, 10);
        cpu.poll(IRQ_THREAD, 64, 11);
        assert_eq!(cpu.end(KSOFTIRQD, 12), Some((200, 0)));
        assert_eq!(cpu.counters.packets_outside, 64);
    }

    #[test]
    fn after_a_missed_end_the_next_run_is_measured() {
        for (preempt_rt, task, later) in [
            (false, KSOFTIRQD, 1),
            (false, IRQ_THREAD, 1),
            (true, KSOFTIRQD, 1),
            (true, IRQ_THREAD, FORGOTTEN_JIFFIES),
        ] {
            let mut cpu = Cpu::new(preempt_rt);
            cpu.begin(KSOFTIRQD, 10);
            cpu.poll(KSOFTIRQD, 7, 10);
            cpu.begin(task, 10 + later);
            assert_eq!(cpu.end(task, 11 + later), Some((100, 0)), "{preempt_rt}");
            assert_eq!(cpu.counters.net_rx_nested, 1);
            assert_eq!(cpu.counters.in_net_rx, 0);
        }
    }

    #[test]
    fn an_end_without_a_begin_is_no_run() {
        for preempt_rt in [false, true] {
            assert_eq!(Cpu::new(preempt_rt).end(KSOFTIRQD, 5), None);
        }
    }

    proptest! {
        /// Whatever order tasks begin and end in, a measured run is one task's own, from its begin to its end.
        #[test]
        fn no_run_is_measured_with_what_belongs_to_another(steps in proptest::collection::vec((0u64..4, 0u64..9), 0..60)) {
            let mut cpu = Cpu::new(true);
            let mut open = [None::<(u64, u64)>; 4];
            let (mut begun, mut measured) = (0, 0);
            for (jiffies, (task, packets)) in (1..).zip(steps) {
                let of_task = &mut open[usize::try_from(task).unwrap()];
                match of_task {
                    None => {
                        cpu.begin(task + 1, jiffies);
                        *of_task = Some((jiffies, 0));
                        begun += 1;
                    }
                    Some((_, polled)) if packets > 2 => {
                        cpu.poll(task + 1, packets, jiffies);
                        *polled += packets;
                    }
                    Some((since, polled)) => {
                        if let Some(run) = cpu.end(task + 1, jiffies) {
                            prop_assert_eq!(run, ((jiffies - *since) * 100, *polled));
                            measured += 1;
                        }
                        *of_task = None;
                    }
                }
            }
            let under_way = u64::from(cpu.counters.in_net_rx);
            prop_assert_eq!(measured + cpu.counters.net_rx_nested + under_way, begun);
            prop_assert_eq!(cpu.counters.polls_outside, 0);
        }
    }
}
