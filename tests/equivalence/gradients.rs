//! Scores and parameter gradients against differences of the reference's energy.
//!
//! The energy is piecewise linear in the samples and in each parameter, so a central difference
//! that crosses no kink is exact up to the rounding of the two energies. Steps that could cross
//! one, for which some |z| is not clearly larger than its change, are left out and counted.

use super::{
    cases::Class,
    compare::{evaluate, random_inputs},
    oracle::gamma,
    support::{Rng, by_effort, levels},
};
use gibbsite_kernels::{
    Isa,
    registry::{Call, Entry, Shape, entries},
};

const STEP: f64 = 1.0 / 4096.0;

fn entry(name: &str) -> Entry<f64> {
    entries().into_iter().find(|entry| entry.name == name).expect("an entry of the registry")
}

/// A problem whose parameters can be moved.
struct Problem {
    shape: Shape,
    x: Vec<f64>,
    theta: Vec<f64>,
    w: Vec<f64>,
    b: Vec<f64>,
    r: Vec<f64>,
}

impl Problem {
    fn new(rng: &mut Rng) -> Self {
        let shape = Shape {
            n: 1 + rng.below(6),
            d: 1 + rng.below(9),
            m: 1 + rng.below(12),
            bias: true,
            weighted: true,
            pad: 0,
        };
        let mut inputs = random_inputs(&entry("relu.energy"), shape, Class::Normal, rng);
        let r = (0..shape.n).map(|_| rng.normal()).collect();
        let [x, theta, w, b] = [0, 1, 2, 3].map(|k| std::mem::take(&mut inputs[k]));
        Self { shape, x, theta, w, b, r }
    }

    /// Energies of all samples by the reference.
    fn energies(&self) -> Vec<f64> {
        let mut energy = vec![0.0; self.shape.n];
        (entry("relu.energy").reference)(Call {
            shape: self.shape,
            inputs: &[&self.x, &self.theta, &self.w, &self.b],
            outputs: &mut [&mut energy],
        });
        energy
    }

    fn z(&self, i: usize, j: usize) -> f64 {
        let d = self.shape.d;
        let products = (0..d).map(|k| self.theta[j * d + k] * self.x[i * d + k]);
        self.b[j] + products.sum::<f64>()
    }

    /// The largest absolute sum of products that enters an energy, times that many samples.
    fn size(&self) -> f64 {
        let max = |values: &[f64]| values.iter().fold(1.0, |max: f64, value| max.max(value.abs()));
        let z = (self.shape.d + 1) as f64 * max(&self.x) * max(&self.theta).max(max(&self.b));
        self.shape.n as f64 * max(&self.r) * max(&self.w) * z
    }

    /// `(∂F/∂parameter, bound of its error)` for F the sum of `r_i f(x_i)` over `samples`.
    fn difference(
        &mut self,
        parameter: impl Fn(&mut Self) -> &mut f64,
        samples: std::ops::Range<usize>,
        r: impl Fn(usize) -> f64,
    ) -> (f64, f64) {
        let mut at = |step: f64| {
            *parameter(self) += step;
            let sum: f64 = self.energies()[samples.clone()]
                .iter()
                .zip(samples.clone())
                .map(|(energy, i)| r(i) * energy)
                .sum();
            *parameter(self) -= step;
            sum
        };
        // Values are multiples of 2^-23 and the step is one: moving there and back is exact.
        let derivative = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        (derivative, gamma::<f64>(64) * self.size() / STEP)
    }
}

struct Checked {
    compared: usize,
    left_out: usize,
}

impl Checked {
    fn compare(&mut self, what: &str, got: f64, (want, bound): (f64, f64)) -> Result<(), String> {
        self.compared += 1;
        if (got - want).abs() <= bound {
            return Ok(());
        }
        Err(format!("{what} is {got}, the difference quotient {want} (bound {bound:e})"))
    }

    fn finish(self) -> Result<(), String> {
        let Self { compared, left_out } = self;
        if compared > 3 * left_out {
            return Ok(());
        }
        Err(format!("only {compared} comparisons, {left_out} left out near kinks"))
    }
}

/// The score is minus the derivative of the energy.
pub fn score() -> Result<(), String> {
    let mut rng = Rng::of("gradients/score");
    let mut checked = Checked { compared: 0, left_out: 0 };
    for _ in 0..by_effort(5, 200, 2_000) {
        let mut problem = Problem::new(&mut rng);
        let Shape { n, d, m, .. } = problem.shape;
        let Problem { x, theta, w, b, .. } = &problem;
        let inputs = [x, theta, w, b].map(Vec::clone);
        let score =
            |isa: Isa| evaluate(&entry("relu.score"), isa, problem.shape, &inputs).remove(0);
        let scores: Vec<_> = levels().into_iter().map(score).collect();
        for i in 0..n {
            for k in 0..d {
                let crosses =
                    |j: usize| problem.z(i, j).abs() < 2.0 * STEP * problem.theta[j * d + k].abs();
                if (0..m).any(crosses) {
                    checked.left_out += 1;
                    continue;
                }
                let want = problem.difference(|p| &mut p.x[i * d + k], i..i + 1, |_| -1.0);
                for score in &scores {
                    checked.compare("a score", score[i * d + k], want)?;
                }
            }
        }
    }
    checked.finish()
}

/// Parameter gradients, put together from their sums as documented.
pub fn parameters() -> Result<(), String> {
    let mut rng = Rng::of("gradients/parameters");
    let mut checked = Checked { compared: 0, left_out: 0 };
    for _ in 0..by_effort(5, 200, 2_000) {
        let mut problem = Problem::new(&mut rng);
        let Shape { n, d, m, .. } = problem.shape;
        let Problem { x, theta, b, r, .. } = &problem;
        let inputs = [x, theta, r, b].map(Vec::clone);
        let sums = |isa: Isa| evaluate(&entry("relu.param_sums"), isa, problem.shape, &inputs);
        let sums: Vec<_> = levels().into_iter().map(sums).collect();
        let r = problem.r.clone();
        for j in 0..m {
            let w = problem.w[j];
            let mean = |sum: f64| sum / m as f64;
            let want = problem.difference(|p| &mut p.w[j], 0..n, |i| r[i]);
            for sums in &sums {
                checked.compare("a derivative in w", mean(sums[0][j]), want)?;
            }
            let near_kink = |problem: &Problem, change: &dyn Fn(usize) -> f64| {
                (0..n).any(|i| problem.z(i, j).abs() < 2.0 * STEP * change(i).abs())
            };
            for k in 0..d {
                if near_kink(&problem, &|i| problem.x[i * d + k]) {
                    checked.left_out += 1;
                    continue;
                }
                let want = problem.difference(|p| &mut p.theta[j * d + k], 0..n, |i| r[i]);
                for sums in &sums {
                    let got = mean(w * sums[1][j * d + k]);
                    checked.compare("a derivative in theta", got, want)?;
                }
            }
            if near_kink(&problem, &|_| 1.0) {
                checked.left_out += 1;
                continue;
            }
            let want = problem.difference(|p| &mut p.b[j], 0..n, |i| r[i]);
            for sums in &sums {
                checked.compare("a derivative in b", mean(w * sums[2][j]), want)?;
            }
        }
    }
    checked.finish()
}
