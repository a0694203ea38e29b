//! Energies, scores and parameter gradients the plain way: one matrix product by faer into an n×m array of
//! preactivations, a loop over it, and a second matrix product. All of it on the best instruction set, as faer chooses it.

use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::matmul::matmul,
    traits::{RealField, math_utils::from_f64},
};
use gibbsite_kernels::{Real, registry::Shape};

/// The unfused way, with its memory.
pub struct Unfused<T> {
    task: Task,
    shape: Shape,
    /// Preactivations and then gates, those of one sample next to each other.
    z: Vec<T>,
}

#[derive(Clone, Copy)]
enum Task {
    Energy,
    Score,
    ParamSums,
}

impl<T: Real + RealField> Unfused<T> {
    /// That of a kernel of the registry, if it has one.
    pub fn of(kernel: &str, shape: Shape) -> Option<Self> {
        let task = match kernel {
            "relu.energy" => Task::Energy,
            "relu.score" => Task::Score,
            "relu.param_sums" => Task::ParamSums,
            _ => return None,
        };
        Some(Self { task, shape, z: vec![T::ZERO; shape.n * shape.m] })
    }

    /// With the arrays of the registry.
    pub fn run(&mut self, inputs: &[Vec<T>], outputs: &mut [Vec<T>]) {
        match (self.task, inputs, outputs) {
            (Task::Energy, [x, theta, w], [energy]) => self.energy(x, theta, w, energy),
            (Task::Score, [x, theta, w], [score]) => self.score(x, theta, w, score),
            (Task::ParamSums, [x, theta], [value, gradient]) => {
                self.param_sums(x, theta, value, gradient);
            }
            _ => panic!("arrays of another kernel"),
        }
    }

    /// `Z = Θ Xᵀ`
    fn preactivations(&mut self, x: &[T], theta: &[T]) {
        let Shape { n, d, m, .. } = self.shape;
        let x = MatRef::from_row_major_slice(x, n, d);
        let theta = MatRef::from_row_major_slice(theta, m, d);
        let z = MatMut::from_column_major_slice_mut(&mut self.z, m, n);
        matmul(z, Accum::Replace, theta, x.transpose(), T::ONE, Par::Seq);
    }

    fn energy(&mut self, x: &[T], theta: &[T], w: &[T], energy: &mut [T]) {
        self.preactivations(x, theta);
        let m = T::from_f64(self.shape.m as f64);
        wide(|| {
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
        });
    }

    fn score(&mut self, x: &[T], theta: &[T], w: &[T], score: &mut [T]) {
        self.preactivations(x, theta);
        let Shape { n, d, m, .. } = self.shape;
        wide(|| {
            for z in self.z.chunks_exact_mut(m) {
                for (z, &w) in z.iter_mut().zip(w) {
                    *z = if *z > T::ZERO { w } else { T::ZERO };
                }
            }
        });
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
        wide(|| {
            for z in self.z.chunks_exact_mut(m) {
                for (z, value) in z.iter_mut().zip(value.iter_mut()) {
                    *value += positive(*z);
                    *z = if *z > T::ZERO { T::ONE } else { T::ZERO };
                }
            }
        });
        let x = MatRef::from_row_major_slice(x, n, d);
        let gates = MatRef::from_column_major_slice(&self.z, m, n);
        let gradient = MatMut::from_column_major_slice_mut(gradient, d, m);
        matmul(gradient, Accum::Replace, x.transpose(), gates.transpose(), T::ONE, Par::Seq);
    }
}

/// With the instructions that the CPU has, like the products.
fn wide(work: impl FnOnce()) {
    pulp::Arch::new().dispatch(work);
}

#[inline(always)]
fn positive<T: Real>(z: T) -> T {
    if z > T::ZERO { z } else { T::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Problem;
    use gibbsite_kernels::{Isa, registry::entries};

    fn computes_the_same<T: Real + RealField>() {
        let mut compared = 0;
        for (n, d, m) in [(50, 7, 100), (1, 1, 1), (131, 64, 37)] {
            let shape = Shape { n, d, m, ..Shape::default() };
            for entry in entries::<T>() {
                let Some(mut unfused) = Unfused::of(entry.name, shape) else { continue };
                let mut problem = Problem::new(entry, shape);
                problem.run(Isa::best());
                let mut outputs = problem.outputs.clone();
                outputs.iter_mut().for_each(|output| output.fill(T::from_f64(7.0)));
                unfused.run(&problem.inputs, &mut outputs);
                for (fused, unfused) in problem.outputs.iter().zip(&outputs) {
                    assert_close(entry.name, fused, unfused);
                }
                compared += 1;
            }
        }
        assert_eq!(compared, 9);
    }

    fn assert_close<T: Real>(kernel: &str, fused: &[T], unfused: &[T]) {
        let (mut size, mut distance) = (0.0, 0.0);
        for (a, b) in fused.iter().zip(unfused) {
            size += a.to_f64().powi(2);
            distance += (a.to_f64() - b.to_f64()).powi(2);
        }
        // No preactivation of these data is so near 0 that rounding opens a gate.
        let tolerance = 1e2 * T::EPSILON.to_f64();
        assert!(distance.sqrt() <= tolerance * size.sqrt(), "{kernel}: {distance} of {size}");
    }

    #[test]
    fn both_ways_compute_the_same() {
        computes_the_same::<f32>();
        computes_the_same::<f64>();
    }
}
