//! Time of every kernel of the registry: `relu.score/f64/avx2/n=30000,d=15,m=500`. Elements are
//! floating-point operations, so that the throughput compares with that of the bench `peak`.

#[path = "shared/problem.rs"]
mod problem;
#[path = "shared/values.rs"]
mod values;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use gibbsite_kernels::{Isa, Real, registry::entries};
use problem::{Problem, SHAPES, shape, shape_name};
use std::time::Duration;

fn kernels<T: Real>(criterion: &mut Criterion, test: bool) {
    for entry in entries::<T>() {
        for isa in Isa::available().filter(|&isa| isa <= Isa::best()) {
            let mut group = criterion.benchmark_group(format!("{}/{}/{isa}", entry.name, T::NAME));
            group
                .sampling_mode(SamplingMode::Flat)
                .sample_size(10)
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_secs(1));
            for (n, d, m) in SHAPES {
                // A library call per multiply-add takes a hundred times as long; a test has no time to lose.
                let n = if isa == Isa::Scalar || test { n / 256 } else { n };
                let shape = shape((n, d, m));
                let id = BenchmarkId::from_parameter(shape_name(shape));
                group.throughput(Throughput::Elements((entry.flops)(shape)));
                group.bench_with_input(id, &shape, |bencher, &shape| {
                    let mut problem = Problem::new(entry, shape);
                    bencher.iter(|| problem.run(isa));
                });
            }
            group.finish();
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let test = std::env::args().any(|argument| argument == "--test");
    kernels::<f32>(&mut criterion, test);
    kernels::<f64>(&mut criterion, test);
    criterion.final_summary();
}
