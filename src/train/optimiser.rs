//! Steps of the parameters by their gradients.

use super::{Checkpoint, Estimator, Regime, TrainOptions};
use crate::{Error, ParamGrad, Real, ReluEnergy, Result};
use std::collections::VecDeque;

/// How parameters are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Optimiser {
    /// Gradient descent with the paper's step sizes.
    #[default]
    GradientDescent,
    /// Adam (Kingma and Ba 2015) with β₁ = 0.9, β₂ = 0.999 and one step size for all parameters.
    Adam,
    /// L-BFGS with a search along its directions for where the slope is a tenth of what it was: for outer weights alone
    /// ([`Regime::F2`]), where the loss is convex, and losses that are smooth functions of them: KSD², denoising score matching or the
    /// cross-entropy, with one bank or noise for all iterations. Finds the minimum in some tens of iterations.
    Lbfgs,
}

/// An optimiser with what it remembers.
pub(super) enum State {
    GradientDescent(Schedule),
    Adam { schedule: Schedule, moments: Option<[Vec<f64>; 2]>, steps: i32 },
    Lbfgs(Lbfgs),
}

impl State {
    pub(super) fn new(options: &TrainOptions) -> Result<Self> {
        let refused = |expected| Err(Error::parameter("optimiser", expected, "lbfgs"));
        Ok(match options.optimiser {
            Optimiser::GradientDescent => State::GradientDescent(Schedule::of(options)),
            Optimiser::Adam => {
                let start = options.learning_rate.unwrap_or(ADAM_RATE);
                let schedule = Schedule { start, neurons: 1.0, ..Schedule::of(options) };
                State::Adam { schedule, moments: None, steps: 0 }
            }
            Optimiser::Lbfgs if options.regime != Regime::F2 => {
                return refused("another one in the active regime, which is not convex");
            }
            Optimiser::Lbfgs if options.estimator == Estimator::F1Sd => {
                return refused("another one for the F1 Stein discrepancy, which is not smooth");
            }
            Optimiser::Lbfgs => State::Lbfgs(Lbfgs::default()),
        })
    }

    pub(super) fn save(&self, checkpoint: &mut Checkpoint) {
        match self {
            State::GradientDescent(_) => {}
            State::Adam { moments, steps, .. } => {
                checkpoint.put_counts("adam.steps", [u64::from(steps.unsigned_abs())]);
                let [first, second] = moments.clone().unwrap_or_default();
                checkpoint.put_reals("adam.first", first);
                checkpoint.put_reals("adam.second", second);
            }
            State::Lbfgs(lbfgs) => lbfgs.save(checkpoint),
        }
    }

    /// For a model with this number of trained parameters.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint, parameters: usize) -> Result<()> {
        match self {
            State::GradientDescent(_) => {}
            State::Adam { moments, steps, .. } => {
                *steps = checkpoint.size("adam.steps")?.try_into().unwrap_or(i32::MAX);
                if *steps > 0 {
                    let moment = |name| checkpoint.reals(name, parameters);
                    *moments = Some([moment("adam.first")?, moment("adam.second")?]);
                }
            }
            State::Lbfgs(lbfgs) => lbfgs.restore(checkpoint, parameters)?,
        }
        Ok(())
    }

    /// Moves the model's parameters once; `gradient` is the loss's.
    pub(super) fn step<T: Real>(
        &mut self,
        model: &mut ReluEnergy<T>,
        iteration: usize,
        options: &TrainOptions,
        mut gradient: impl FnMut(&ReluEnergy<T>) -> Result<ParamGrad<T>>,
    ) -> Result<()> {
        let decay = options.weight_decay;
        let rates = match self {
            State::Lbfgs(lbfgs) => {
                return lbfgs.step(model, |model| {
                    let pairs = gradient(model)?.w.into_iter().zip(model.w());
                    Ok(pairs.map(|(g, &w)| g.to_f64() + decay * w.to_f64()).collect())
                });
            }
            State::GradientDescent(schedule) | State::Adam { schedule, .. } => {
                schedule.rates(iteration)
            }
        };
        let mut grad = gradient(model)?;
        let m = model.neurons() as f64;
        let active = options.regime == Regime::F1;
        model.update_parameters(|w, theta, bias| {
            // Outer weights, neurons and biases with their gradients and step sizes.
            let mut groups = vec![(w, &mut grad.w, rates[0])];
            if active {
                groups.push((theta, &mut grad.theta, rates[1]));
                if let (Some(bias), Some(grad)) = (bias, &mut grad.bias) {
                    groups.push((bias, grad, rates[1]));
                }
            }
            for (parameters, grad, _) in &mut groups {
                for (grad, &parameter) in grad.iter_mut().zip(&**parameters) {
                    *grad += T::from_f64(decay) * parameter;
                }
            }
            match self {
                State::Adam { moments, steps, .. } => {
                    let len = groups.iter().map(|(parameters, ..)| parameters.len()).sum();
                    let [first, second] =
                        moments.get_or_insert_with(|| [vec![0.0; len], vec![0.0; len]]);
                    *steps = steps.saturating_add(1);
                    let corrections = [0.9_f64, 0.999].map(|beta| 1.0 - beta.powi(*steps));
                    let mut moments = first.iter_mut().zip(second);
                    for (parameters, grad, rate) in groups {
                        let entries = parameters.iter_mut().zip(grad).zip(&mut moments);
                        for ((parameter, grad), (first, second)) in entries {
                            let g = grad.to_f64();
                            *first += 0.1 * (g - *first);
                            *second += 0.001 * (g * g - *second);
                            let scale = (*second / corrections[1]).sqrt() + 1e-12;
                            let move_by = rate * (*first / corrections[0]) / scale;
                            *parameter = T::from_f64(parameter.to_f64() - move_by);
                        }
                    }
                }
                _ => {
                    for (parameters, grad, rate) in groups {
                        let rate = T::from_f64(rate * m);
                        for (parameter, &mut grad) in parameters.iter_mut().zip(grad) {
                            *parameter -= rate * grad;
                        }
                    }
                }
            }
        })
    }
}

const ADAM_RATE: f64 = 0.02;

/// Step sizes over time, as in the paper's experiments.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    start: f64,
    decay: f64,
    /// How much larger the neurons' step is than the outer weights'.
    neurons: f64,
}

impl Schedule {
    fn of(options: &TrainOptions) -> Self {
        let start = options.learning_rate.unwrap_or(match (options.estimator, options.regime) {
            (Estimator::F1Sd, Regime::F1) => 1.0,
            (Estimator::F1Sd, Regime::F2) => 2.5,
            (Estimator::Denoising { .. }, Regime::F1) => 0.1,
            (Estimator::Denoising { .. }, Regime::F2) => 1.0,
            (_, Regime::F1) => 0.05,
            (_, Regime::F2) => 0.5,
        });
        let (decay, neurons) = match options.estimator {
            Estimator::F1Sd => (0.01, 25.0),
            _ => (0.005, 100.0),
        };
        Self { start, decay, neurons }
    }

    /// Of the outer weights and of the neurons.
    fn rates(&self, iteration: usize) -> [f64; 2] {
        let rate = self.start / (1.0 + self.decay * iteration as f64);
        [rate, self.neurons * rate]
    }
}

/// Limited-memory BFGS (Nocedal and Wright 2006, algorithm 7.4).
#[derive(Default)]
pub(super) struct Lbfgs {
    /// Steps and changes of the gradient, the newest last.
    pairs: VecDeque<[Vec<f64>; 2]>,
    /// At the present point.
    gradient: Option<Vec<f64>>,
}

impl Lbfgs {
    const MEMORY: usize = 20;
    const TRIALS: usize = 30;
    /// Share of the slope at the start that ends a search.
    const SLOPE: f64 = 0.1;

    fn save(&self, checkpoint: &mut Checkpoint) {
        let joined = |k: usize| self.pairs.iter().flat_map(move |pair| pair[k].iter().copied());
        checkpoint.put_reals("lbfgs.steps", joined(0));
        checkpoint.put_reals("lbfgs.changes", joined(1));
        checkpoint.put_reals("lbfgs.gradient", self.gradient.iter().flatten().copied());
    }

    fn restore(&mut self, checkpoint: &Checkpoint, parameters: usize) -> Result<()> {
        let len = |name| checkpoint.reals.get(name).map_or(0, Vec::len);
        let pairs = len("lbfgs.steps") / parameters;
        let [steps, changes] = ["lbfgs.steps", "lbfgs.changes"]
            .map(|name| checkpoint.reals::<f64>(name, pairs * parameters));
        let (steps, changes) = (steps?, changes?);
        let pairs = steps.chunks(parameters).zip(changes.chunks(parameters));
        self.pairs = pairs.map(|(step, change)| [step.to_vec(), change.to_vec()]).collect();
        self.gradient = match len("lbfgs.gradient") {
            0 => None,
            _ => Some(checkpoint.reals("lbfgs.gradient", parameters)?),
        };
        Ok(())
    }

    fn step<T: Real>(
        &mut self,
        model: &mut ReluEnergy<T>,
        mut gradient: impl FnMut(&ReluEnergy<T>) -> Result<Vec<f64>>,
    ) -> Result<()> {
        let start: Vec<f64> = model.w().iter().map(|w| w.to_f64()).collect();
        let before = match self.gradient.take() {
            Some(gradient) => gradient,
            None => gradient(model)?,
        };
        let direction = self.direction(&before);
        let slope_at_start = dot(&before, &direction);
        if slope_at_start == 0.0 {
            self.gradient = Some(before);
            return Ok(());
        }
        // Slopes grow along the line, since the loss is convex: what is sought is between `low` and `high`.
        let (mut low, mut high) = ((0.0, slope_at_start), None::<(f64, f64)>);
        let mut length = if self.pairs.is_empty() { 1.0 / norm(&before).max(1.0) } else { 1.0 };
        let mut after = before.clone();
        for _ in 0..Self::TRIALS {
            model.update_parameters(|w, _, _| {
                for (w, (start, direction)) in w.iter_mut().zip(start.iter().zip(&direction)) {
                    *w = T::from_f64(start + length * direction);
                }
            })?;
            after = gradient(model)?;
            let slope = dot(&after, &direction);
            if slope.abs() <= Self::SLOPE * slope_at_start.abs() {
                break;
            }
            match slope < 0.0 {
                true => low = (length, slope),
                false => high = Some((length, slope)),
            }
            length = match high {
                // The secant, kept away from both ends.
                Some(high) => {
                    let share = (low.1 / (low.1 - high.1)).clamp(0.05, 0.95);
                    low.0 + share * (high.0 - low.0)
                }
                None => {
                    let steeper = (slope_at_start - slope).min(-1e-300);
                    (length * slope_at_start / steeper).clamp(1.5 * length, 10.0 * length)
                }
            };
        }
        let moved: Vec<f64> =
            model.w().iter().zip(&start).map(|(w, start)| w.to_f64() - start).collect();
        let change: Vec<f64> = after.iter().zip(&before).map(|(after, b)| after - b).collect();
        if dot(&moved, &change) > 0.0 {
            if self.pairs.len() == Self::MEMORY {
                self.pairs.pop_front();
            }
            self.pairs.push_back([moved, change]);
        }
        self.gradient = Some(after);
        Ok(())
    }

    /// Minus the approximate inverse Hessian times the gradient.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut shares = Vec::with_capacity(self.pairs.len());
        for [step, change] in self.pairs.iter().rev() {
            let share = dot(step, &q) / dot(step, change);
            q.iter_mut().zip(change).for_each(|(q, change)| *q -= share * change);
            shares.push(share);
        }
        if let Some([step, change]) = self.pairs.back() {
            let scale = dot(step, change) / dot(change, change);
            q.iter_mut().for_each(|q| *q *= scale);
        }
        for ([step, change], share) in self.pairs.iter().zip(shares.iter().rev()) {
            let back = dot(change, &q) / dot(step, change);
            q.iter_mut().zip(step).for_each(|(q, step)| *q += (share - back) * step);
        }
        q
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Domain, Rows,
        random::Stream,
        stein::Statistic,
        train::{NegativePhase, Objective, initial_model},
    };

    #[test]
    fn lbfgs_ends_where_a_long_gradient_run_does() {
        let (n, d) = (80, 3);
        let mut stream = Stream::new(7, 0);
        let mut x = vec![0.0; n * d];
        x.chunks_exact_mut(d).for_each(|x| {
            stream.fill_sphere(x);
            // Not uniform.
            x[0] = f64::abs(x[0]);
        });
        let x = Rows::new(&x, n, d).unwrap();
        let negative = NegativePhase::Bank { size: 500 };
        let ksd = Estimator::Ksd { bandwidth: None, statistic: Statistic::V };
        for (estimator, domain) in [
            (Estimator::MaximumLikelihood { negative }, Domain::Sphere),
            (Estimator::MaximumLikelihood { negative }, Domain::Euclidean),
            (ksd, Domain::Sphere),
            (ksd, Domain::Euclidean),
            (Estimator::Denoising { noise: Some(1.0) }, Domain::Euclidean),
        ] {
            let options = TrainOptions {
                estimator,
                domain,
                regime: Regime::F2,
                neurons: 12,
                weight_decay: 1e-3,
                optimiser: Optimiser::Lbfgs,
                ..Default::default()
            };
            let start = initial_model::<f64>(d, &options).unwrap();
            let mut objective = Objective::new(&start, x, 1.0, &options).unwrap();
            let mut gradient = |model: &ReluEnergy<f64>| objective.gradient(model).cloned();
            let mut state = State::new(&options).unwrap();
            let mut exact = start.clone();
            for iteration in 0..60 {
                state.step(&mut exact, iteration, &options, &mut gradient).unwrap();
            }
            let decayed = |g: &[f64], w: &[f64]| -> Vec<f64> {
                g.iter().zip(w).map(|(g, w)| g + options.weight_decay * w).collect()
            };
            let residual = norm(&decayed(&gradient(&exact).unwrap().w, exact.w()));
            let first = norm(&gradient(&start).unwrap().w);
            assert!(residual < 1e-9 * first, "{estimator} {domain}: {residual} of {first}");

            let mut long = start;
            for _ in 0..20_000 {
                let step = decayed(&gradient(&long).unwrap().w, long.w());
                let rate = 10.0;
                long.update_parameters(|w, _, _| {
                    w.iter_mut().zip(step).for_each(|(w, g)| *w -= rate * g);
                })
                .unwrap();
            }
            let off: Vec<f64> = long.w().iter().zip(exact.w()).map(|(a, b)| a - b).collect();
            let (off, size) = (norm(&off), norm(exact.w()));
            assert!(off < 1e-6 * size, "{estimator} {domain}: {off} of {size}");
        }
    }

    #[test]
    fn adam_takes_steps_of_its_rate_against_the_signs_of_the_gradient() {
        let options = TrainOptions {
            optimiser: Optimiser::Adam,
            neurons: 4,
            learning_rate: Some(0.25),
            ..Default::default()
        };
        let start = initial_model::<f64>(2, &options).unwrap();
        let mut model = start.clone();
        let mut grad = model.zero_grad();
        grad.w.copy_from_slice(&[1.0, -3.0, 0.0, 1e-6]);
        grad.theta.fill(-2.0);
        let mut state = State::new(&options).unwrap();
        for (iteration, taken) in [(0, 0.25), (1, 0.25 + 0.25 / 1.005)] {
            state.step(&mut model, iteration, &options, |_| Ok(grad.clone())).unwrap();
            for (k, sign) in [(0, -1.0), (1, 1.0), (2, 0.0), (3, -1.0)] {
                let moved = model.w()[k] - start.w()[k];
                assert!((moved - sign * taken).abs() < 1e-5, "{iteration}, {k}: {moved}");
            }
            let moved = model.theta().row(1)[1] - start.theta().row(1)[1];
            assert!((moved - taken).abs() < 1e-9, "{moved}");
        }
    }
}
