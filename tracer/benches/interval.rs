//! What one interval costs in user space: two snapshots to a window, and that to a report with its findings.

use criterion::{Criterion, criterion_group, criterion_main};
use tracer::{
    analyze::summary::summarize,
    model::{snapshot::Snapshot, window::Window},
    synthetic::{Dice, Shape, busy, facts, second},
};

/// 128 CPUs on 8 nodes, 2,000 interrupts.
const WIDE: Shape = Shape {
    cpus: 128,
    nodes: 8,
    idle_irqs: 2000 - 4 * 128,
    sites: 100,
};

fn snapshots(shape: Shape) -> (Snapshot, Snapshot) {
    let dice = &mut Dice(1);
    let before = busy(shape, dice);
    let mut now = before.clone();
    second(&mut now, shape, dice);
    (before, now)
}

fn interval(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("interval");
    group.sample_size(20);
    for (name, shape) in [("64 CPUs", Shape::of(64)), ("wide host", WIDE)] {
        let (before, now) = snapshots(shape);
        let facts = facts(shape);
        let window = Window::between(&before, &now);
        group.bench_function(format!("window, {name}"), |bench| {
            bench.iter(|| Window::between(&before, &now));
        });
        group.bench_function(format!("report with findings, {name}"), |bench| {
            bench.iter(|| summarize(&window, &facts, None));
        });
    }
    group.finish();
}

criterion_group!(benches, interval);
criterion_main!(benches);
