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

use chains::MultiplyAdd;
use cpu_time::ThreadTime;
use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::matmul::matmul,
    traits::{RealField, math_utils::from_f64},
};
use gibbsite_kernels::{
    Isa, Real,
    registry::{Entry, Shape, entries},
};
use problem::{Problem, SHAPES, shape, shape_name};
use std::{env, time::Duration};

const ROUNDS: usize = 7;

/// The unfused way, with its memory.
struct Unfused<T> {
    shape: Shape,
    /// Preactivations and then gates, those of one sample next to each other.
    z: Vec<T>,
}

impl<T: Real + RealField> Unfused<T> {
    fn new(shape: Shape) -> Self {
        Self { shape, z: vec![T::ZERO; shape.n * shape.m] }
    }

    /// `Z = Θ Xᵀ`
    fn preactivations(&mut self, x: &[T], theta: &[T]) {
        let Shape { n, d, m, .. } = self.shape;
        let x = MatRef::from_row_major_slice(x, n, d);
        let theta = MatRef::from_row_major_slice(theta, m, d);
        let z = MatMut::from_column_major_slice_mut(&mut self.z, m, n);
        matmul(z, Accum::Replace, theta, x.transpose(), T::ONE, Par::Seq);
    }

    fn run(&mut self, name: &str, inputs: &[Vec<T>], outputs: &mut [Vec<T>]) {
        match (name, inputs, outputs) {
            ("relu.energy", [x, theta, w], [energy]) => self.energy(x, theta, w, energy),
            ("relu.score", [x, theta, w], [score]) => self.score(x, theta, w, score),
            ("relu.param_sums", [x, theta], [value, gradient]) => {
                self.param_sums(x, theta, value, gradient);
            }
            _ => unreachable!("{name} is not in the table"),
        }
    }

    fn energy(&mut self, x: &[T], theta: &[T], w: &[T], energy: &mut [T]) {
        self.preactivations(x, theta);
        let m = T::from_f64(self.shape.m as f64);
        for (energy, z) in energy.iter_mut().zip(self.z.chunks_exact(self.shape.m)) {
            // Several sums at a time, which the compiler puts into lanes.
            let mut sums = [T::ZERO; 16];
            let (z, z_rest) = z.as_chunks::<16>();
            let (w, w_rest) = w.as_chunks::<16>();
            for (z, w) in z.iter().zip(w) {
                for lane in 0..16 {
                    sums[lane] += w[lane] * positive(z[lane]);
                }
            }
            for ((sum, &z), &w) in sums.iter_mut().zip(z_rest).zip(w_rest) {
                *sum += w * positive(z);
            }
            *energy = sums.into_iter().fold(T::ZERO, |total, sum| total + sum) / m;
        }
    }

    fn score(&mut self, x: &[T], theta: &[T], w: &[T], score: &mut [T]) {
        self.preactivations(x, theta);
        let Shape { n, d, m, .. } = self.shape;
        for z in self.z.chunks_exact_mut(m) {
            for (z, &w) in z.iter_mut().zip(w) {
                *z = if *z > T::ZERO { w } else { T::ZERO };
            }
        }
        let theta = MatRef::from_row_major_slice(theta, m, d);
        let gates = MatRef::from_column_major_slice(&self.z, m, n);
        let score = MatMut::from_column_major_slice_mut(score, d, n);
        let factor = from_f64::<T>(-1.0 / m as f64);
        matmul(score, Accum::Replace, theta.transpose(), gates, factor, Par::Seq);
    }

    fn param_sums(&mut self, x: &[T], theta: &[T], value: &mut [T], gradient: &mut [T]) {
        self.preactivations(x, theta);
        let Shape { n, d, m, .. } = self.shape;
        value.fill(T::ZERO);
        for z in self.z.chunks_exact_mut(m) {
            for (z, value) in z.iter_mut().zip(value.iter_mut()) {
                *value += positive(*z);
                *z = if *z > T::ZERO { T::ONE } else { T::ZERO };
            }
        }
        let x = MatRef::from_row_major_slice(x, n, d);
        let gates = MatRef::from_column_major_slice(&self.z, m, n);
        let gradient = MatMut::from_column_major_slice_mut(gradient, d, m);
        matmul(gradient, Accum::Replace, x.transpose(), gates.transpose(), T::ONE, Par::Seq);
    }
}

fn positive<T: Real>(z: T) -> T {
    if z > T::ZERO { z } else { T::ZERO }
}

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
