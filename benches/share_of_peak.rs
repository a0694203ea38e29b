//! How fast the fused kernels are, as a share of the measured peak and against the unfused path:
//! one matrix product by faer into an n×m array of preactivations, a loop over it, and a second
//! matrix product.
//!
//! One process, one thread; peak, fused and unfused take turns, and each keeps its shortest time
//! on the processor, which other processes disturb less than time on the clock. faer picks its
//! instruction set itself: its time is the same in the rows of all levels.
//!
//! `cargo bench --bench share_of_peak [FILTER]` runs the rows whose name, as in
//! `relu.score/f64/avx2/n=30000,d=15,m=500`, contains the filter; `--test` runs all of them once,
//! and small.

#[path = "shared/chains.rs"]
mod chains;
#[path = "shared/problem.rs"]
mod problem;
#[path = "shared/unfused.rs"]
mod unfused;
#[path = "shared/values.rs"]
mod values;

use chains::MultiplyAdd;
use cpu_time::ThreadTime;
use faer::traits::RealField;
use gibbsite_kernels::{
    Isa, Real,
    registry::{Entry, Shape, entries},
};
use problem::{Problem, SHAPES, shape, shape_name};
use std::{env, time::Duration};
use unfused::Unfused;

const ROUNDS: usize = 7;

/// One row of the table.
struct Row {
    isa: Isa,
    peak: f64,
    fused: Duration,
}

/// The rows of one kernel, element type and shape, one for each level.
fn rows<T: MultiplyAdd + RealField>(entry: Entry<T>, shape: Shape, selection: &Selection) {
    let name = |isa: Isa| format!("{}/{}/{isa}/{}", entry.name, T::NAME, shape_name(shape));
    let mut rows: Vec<Row> = Isa::available()
        .filter(|&isa| isa <= Isa::best() && isa != Isa::Scalar)
        .filter(|&isa| selection.filters.iter().all(|filter| name(isa).contains(filter)))
        .map(|isa| Row { isa, peak: 0.0, fused: Duration::MAX })
        .collect();
    if rows.is_empty() {
        return;
    }
    let mut problem = Problem::new(entry, shape);
    let mut unfused = Unfused::new(shape);
    let mut unfused_outputs = problem.outputs.clone();
    let mut unfused_time = Duration::MAX;
    for _ in 0..selection.rounds {
        for row in &mut rows {
            row.peak = row.peak.max(peak::<T>(row.isa));
            row.fused = row.fused.min(time(|| problem.run(row.isa)));
        }
        let run = || unfused.run(entry.name, &problem.inputs, &mut unfused_outputs);
        unfused_time = unfused_time.min(time(run));
    }
    assert_close(&problem.outputs, &unfused_outputs);
    for Row { isa, peak, fused } in rows {
        let flops = (entry.flops)(shape) as f64;
        println!(
            "{:16} {:5} {isa:7} {:22} {:9.2} {:9.1} {:7.1} {:9.2} {:7.2}",
            entry.name,
            T::NAME,
            shape_name(shape),
            fused.as_secs_f64() * 1e3,
            flops / fused.as_secs_f64() / 1e9,
            100.0 * flops / fused.as_secs_f64() / peak,
            unfused_time.as_secs_f64() * 1e3,
            unfused_time.as_secs_f64() / fused.as_secs_f64(),
        );
    }
}

/// Processor time of one call.
fn time(f: impl FnOnce()) -> Duration {
    let start = ThreadTime::now();
    f();
    start.elapsed()
}

/// Floating-point operations per second in a run of a millisecond or two.
fn peak<T: MultiplyAdd>(isa: Isa) -> f64 {
    let mut flops = 0;
    let elapsed = time(|| flops = T::multiply_add(isa, 300_000));
    flops as f64 / elapsed.as_secs_f64()
}

/// Both ways have computed the same.
fn assert_close<T: Real>(fused: &[Vec<T>], unfused: &[Vec<T>]) {
    for (fused, unfused) in fused.iter().zip(unfused) {
        let (mut size, mut distance) = (0.0, 0.0);
        for (a, b) in fused.iter().zip(unfused) {
            size += a.to_f64().powi(2);
            distance += (a.to_f64() - b.to_f64()).powi(2);
        }
        // A gate may differ where a preactivation is 0 but for rounding.
        let tolerance = 1e3 * T::EPSILON.to_f64();
        assert!(distance.sqrt() <= tolerance.sqrt() * size.sqrt(), "{distance} of {size}");
    }
}

/// Which rows are run, and how.
struct Selection {
    filters: Vec<String>,
    rounds: usize,
    shapes: Vec<Shape>,
}

fn table<T: MultiplyAdd + RealField>(selection: &Selection) {
    for &shape in &selection.shapes {
        for entry in entries::<T>() {
            if ["relu.energy", "relu.score", "relu.param_sums"].contains(&entry.name) {
                rows(entry, shape, selection);
            }
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let selection = Selection {
        filters: arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect(),
        rounds: if test { 1 } else { ROUNDS },
        shapes: match test {
            true => vec![shape((50, 7, 100))],
            false => SHAPES.into_iter().map(shape).collect(),
        },
    };
    println!(
        "{:16} {:5} {:7} {:22} {:>9} {:>9} {:>7} {:>9} {:>7}",
        "kernel", "dtype", "level", "shape", "ms", "GFLOP/s", "% peak", "faer ms", "ratio"
    );
    table::<f32>(&selection);
    table::<f64>(&selection);
}
