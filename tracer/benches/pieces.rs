//! The pieces that run for each interval and for each event: map read and merge, histograms, /proc, ring frames, JSON.
#![expect(
    clippy::expect_used,
    reason = "a benchmark of something that fails is none"
)]

use std::{fmt::Write as _, hint::black_box, mem::size_of};

use bytes::BufMut as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracer::{
    analyze::{percentiles::percentiles, summary::summarize},
    bpf::{Arrays, decode},
    model::{report::Record, window::Window},
    proc::{interrupts, softnet},
    record::frame,
    report::json,
    synthetic::{Dice, Shape, busy, facts, second},
};
use tracer_common::{
    event::{DropBody, Kind},
    hist::BUCKETS,
};

const CPUS: u32 = 64;
const IRQS: u32 = 512;

fn maps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("maps");
    let arrays = Arrays::anonymous(CPUS, IRQS).expect("memory");
    group.bench_function("read the CPUs' counters, 64 CPUs", |bench| {
        bench.iter(|| arrays.read());
    });
    group.bench_function("read the interrupts' counters, 64 CPUs × 512", |bench| {
        let mut traced = arrays.read();
        bench.iter(|| arrays.read_irqs(0..IRQS, &mut traced));
    });
    let shape = Shape::of(CPUS);
    let traced = busy(shape, &mut Dice(1)).traced;
    group.bench_function("merge the histograms of 64 CPUs to percentiles", |bench| {
        bench.iter(|| {
            let mut sum = [0; BUCKETS];
            for cpu in traced.cpus.values() {
                for (sum, n) in sum.iter_mut().zip(&cpu.net_rx_run_hist) {
                    *sum += n;
                }
            }
            percentiles(&sum, 1 << 30, true)
        });
    });
    group.finish();
}

fn proc_files(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proc");
    let mut text = String::from("    ");
    for cpu in 0..CPUS {
        let _ = write!(text, "       CPU{cpu}");
    }
    text.push('\n');
    for irq in 0..IRQS {
        let _ = write!(text, "{irq:>4}:");
        for cpu in 0..CPUS {
            let _ = write!(
                text,
                " {:>10}",
                if irq % CPUS == cpu { 1_234_567 } else { 0 }
            );
        }
        let _ = writeln!(
            text,
            "  PCI-MSIX-0000:41:00.0   {irq}-edge      eth0-TxRx-{irq}"
        );
    }
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse interrupts, 64 CPUs × 512", |bench| {
        bench.iter(|| interrupts::parse(&text).expect("a table"));
    });
    let mut text = String::new();
    for cpu in 0..CPUS {
        let _ = writeln!(
            text,
            "0063ab12 00000000 00000017 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 {cpu:08x} 00000000 00000000"
        );
    }
    let online: Vec<u32> = (0..CPUS).collect();
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse softnet_stat, 64 CPUs", |bench| {
        bench.iter(|| softnet::parse(&text, &online).expect("a table"));
    });
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event");
    let mut bytes = Vec::new();
    bytes.put_u32_ne(Kind::Drop as u32);
    bytes.put_u32_ne(3);
    bytes.put_u64_ne(1 << 50);
    bytes.resize(16 + size_of::<DropBody>(), 7);
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode a drop from the ring", |bench| {
        bench.iter(|| decode(black_box(&bytes)).expect("a frame"));
    });
    group.finish();
}

fn output(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("output");
    group.sample_size(20);
    let (shape, dice) = (Shape::of(CPUS), &mut Dice(1));
    let before = busy(shape, dice);
    let mut now = before.clone();
    second(&mut now, shape, dice);
    let report = summarize(&Window::between(&before, &now), &facts(shape), None);
    let record = Record::Window(report);
    let line = json::line(&record).expect("JSON");
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("a report of 64 CPUs to JSON", |bench| {
        bench.iter(|| json::line(&record));
    });
    group.bench_function("compress that for a recording", |bench| {
        bench.iter(|| frame::encode(line.as_bytes()));
    });
    group.finish();
}

criterion_group!(benches, maps, proc_files, events, output);
criterion_main!(benches);
