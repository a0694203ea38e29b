//! What the machine can do: fused multiply-adds in registers, and copying memory.

#[path = "shared/chains.rs"]
mod chains;

use chains::MultiplyAdd;
use criterion::{Criterion, Throughput};
use gibbsite_kernels::Isa;
use std::{hint::black_box, time::Duration};

/// Elements are floating-point operations.
fn multiply_add<T: MultiplyAdd>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("multiply_add/{}", T::NAME));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for isa in Isa::available().filter(|&isa| isa <= Isa::best()) {
        let steps = 1_000;
        group.throughput(Throughput::Elements(T::multiply_add(isa, steps)));
        group.bench_function(isa.name(), |bencher| {
            bencher.iter(|| T::multiply_add(isa, black_box(steps)));
        });
    }
    group.finish();
}

/// Bytes are those read and those written.
fn copy(criterion: &mut Criterion) {
    let len = 10_000_000;
    let from = vec![1.0_f64; len];
    let mut to = vec![0.0_f64; len];
    let mut group = criterion.benchmark_group("copy");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes(2 * 8 * len as u64));
    group.bench_function(format!("f64/n={len}"), |bencher| {
        bencher.iter(|| {
            to.copy_from_slice(black_box(&from));
            black_box(&mut to);
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    multiply_add::<f32>(&mut criterion);
    multiply_add::<f64>(&mut criterion);
    copy(&mut criterion);
    criterion.final_summary();
}
