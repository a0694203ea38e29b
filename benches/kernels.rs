//! Time of every kernel of the registry: `relu.score/f64/avx2/n=30000,d=15,m=500`. Elements are
//! floating-point operations; `gibbsite bench` tells which share of the peak they are.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use gibbsite_kernels::Real;
use gibbsite_measure::{Problem, Size, cases, levels, name, shape_of_level};
use std::time::Duration;

fn kernels<T: Real>(criterion: &mut Criterion, size: Size) {
    for (entry, shape) in cases::<T>(size) {
        for isa in levels() {
            let shape = shape_of_level(shape, isa);
            let name = name(&entry, isa, shape);
            let (group, parameter) = name.rsplit_once('/').expect("a shape at the end");
            let mut group = criterion.benchmark_group(group);
            group
                .sampling_mode(SamplingMode::Flat)
                .sample_size(10)
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_secs(1))
                .throughput(Throughput::Elements((entry.flops)(shape)));
            group.bench_function(BenchmarkId::from_parameter(parameter), |bencher| {
                let mut problem = Problem::new(entry, shape);
                bencher.iter(|| problem.run(isa));
            });
            group.finish();
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // As Criterion: without `--bench`, which `cargo bench` adds, everything is done once.
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let size = if has("--bench") && !has("--test") { Size::Full } else { Size::Tiny };
    kernels::<f32>(&mut criterion, size);
    kernels::<f64>(&mut criterion, size);
    criterion.final_summary();
}
