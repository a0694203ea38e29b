//! Steps of the parameters by their gradients.

use super::{Checkpoint, Estimator, Regime, TrainOptions};
use crate::{Error, ParamGrad, Real, ReluEnergy, Result};
use std::collections::VecDeque;

/// How parameters are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Optimiser {
    /// Gradient descent with the schedule of [`TrainOptions::learning_rate`] and [`TrainOptions::decay`], whose defaults for maximum
    /// likelihood are near those of the paper's experiments.
    #[default]
    GradientDescent,
    /// Adam (Kingma and Ba 2015) with β₁ = 0.9, β₂ = 0.999 and one step size for all parameters.
    Adam,
    /// L-BFGS with a search along its directions for where the slope is a tenth of what it was: for outer weights alone
    /// ([`Regime::F2`]), where the loss is convex, and losses that are smooth functions of them: KSD², denoising score matching or the
    /// cross-entropy, with one bank or noise for all iterations. Finds the minimum in some tens of iterations.
    Lbfgs,
    /// Unbalanced transport of neurons of norm 1 with amplitudes c and masses ω, f(x) = (1/m) Σ_j ω_j c_j max(θ_j·x, 0): amplitudes decay and
    /// follow their gradients, neurons move on the sphere, and masses grow where that makes the loss smaller and shrink elsewhere,
    /// their mean 1 (birth and death; the algorithm of the three-dimensional demonstration that comes with the paper's experiments). For
    /// [`Regime::F1`] without biases; starts from uniform neurons and f = 0.
    Transport,
}

/// An optimiser with what it remembers.
pub(super) enum State {
    GradientDescent(Schedule),
    Adam { schedule: Schedule, moments: Option<[Vec<f64>; 2]>, steps: i32 },
    Lbfgs(Lbfgs),
    Transport(Transport),
}

impl State {
    pub(super) fn new(options: &TrainOptions) -> Result<Self> {
        let refused = |expected| {
            let got = format!("{:?}", options.optimiser).to_lowercase();
            Err(Error::parameter("optimiser", expected, got))
        };
        Ok(match options.optimiser {
            Optimiser::GradientDescent => State::GradientDescent(Schedule::of(options)),
            Optimiser::Adam => {
                let start = options.learning_rate.unwrap_or(ADAM_RATE);
                let schedule = Schedule { start, neurons: 1.0, ..Schedule::of(options) };
                State::Adam { schedule, moments: None, steps: 0 }
            }
            Optimiser::Transport if options.regime != Regime::F1 || options.bias => {
                return refused("another one for fixed neurons or biases");
            }
            Optimiser::Transport => {
                let m = options.neurons;
                let (start, decay) =
                    (options.learning_rate.unwrap_or(1.0), options.decay.unwrap_or(0.0));
                let schedule = Schedule { start, decay, neurons: 1.0 };
                let (amplitudes, masses) = (vec![0.0; m], vec![1.0; m]);
                State::Transport(Transport { schedule, amplitudes, masses })
            }
            Optimiser::Lbfgs if options.regime != Regime::F2 => {
                return refused("another one in the active regime, which is not convex");
            }
            Optimiser::Lbfgs if matches!(options.estimator, Estimator::F1Sd { .. }) => {
                return refused("another one for the F1 Stein discrepancy, which is not smooth");
            }
            Optimiser::Lbfgs
                if matches!(
                    options.estimator,
                    Estimator::Ksd { statistic: crate::stein::Statistic::U, .. }
                ) =>
            {
                return refused("another one for the U-statistic, which is not convex");
            }
            Optimiser::Lbfgs => {
                let given = [("learning rate", options.learning_rate), ("decay", options.decay)];
                if let Some((what, value)) =
                    given.into_iter().find_map(|(what, value)| Some((what, value?)))
                {
                    let expected = "absent for L-BFGS, which finds its own step sizes";
                    return Err(Error::parameter(what, expected, value));
                }
                State::Lbfgs(Lbfgs::default())
            }
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
            State::Transport(transport) => {
                checkpoint.put_reals("transport.amplitudes", transport.amplitudes.clone());
                checkpoint.put_reals("transport.masses", transport.masses.clone());
            }
        }
    }

    /// For a model with this number of trained parameters.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint, parameters: usize) -> Result<()> {
        match self {
            State::GradientDescent(_) => {}
            State::Adam { moments, steps, .. } => {
                *steps = checkpoint.size("adam.steps")?.try_into().unwrap_or(i32::MAX);
                if *steps > 0 {
                    // Squares of gradients may overflow.
                    let moment = |name| checkpoint.reals_of_any_kind(name, parameters);
                    *moments = Some([moment("adam.first")?, moment("adam.second")?]);
                }
            }
            State::Lbfgs(lbfgs) => lbfgs.restore(checkpoint, parameters)?,
            State::Transport(transport) => {
                let m = transport.masses.len();
                transport.amplitudes = checkpoint.reals_of_any_kind("transport.amplitudes", m)?;
                transport.masses = checkpoint.reals_of_any_kind("transport.masses", m)?;
            }
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
        // Of (λ/2m) Σ (w² + |θ|²), as small as the F1 norm lets it be λ times this norm.
        let decay = options.weight_decay / model.neurons() as f64;
        let rates = match self {
            State::Lbfgs(lbfgs) => {
                return lbfgs.step(model, |model| {
                    let pairs = gradient(model)?.w.into_iter().zip(model.w());
                    Ok(pairs.map(|(g, &w)| g.to_f64() + decay * w.to_f64()).collect())
                });
            }
            State::Transport(transport) => {
                return transport.step(model, iteration, options.weight_decay, &gradient(model)?);
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
                    let count = f64::from(*steps);
                    let corrections = [0.9, 0.999].map(|beta| 1.0 - libm::pow(beta, count));
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

/// Step sizes over time.
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
            (Estimator::F1Sd { .. }, Regime::F1) => 1.0,
            (Estimator::F1Sd { .. }, Regime::F2) => 2.5,
            (Estimator::Denoising { .. }, Regime::F1) => 0.1,
            (Estimator::Denoising { .. }, Regime::F2) => 1.0,
            (_, Regime::F1) => 0.05,
            (_, Regime::F2) => 0.5,
        });
        let (decay, neurons) = match options.estimator {
            Estimator::F1Sd { .. } => (0.01, 25.0),
            _ => (0.005, 100.0),
        };
        Self { start, decay: options.decay.unwrap_or(decay), neurons }
    }

    /// Of the outer weights and of the neurons.
    fn rates(&self, iteration: usize) -> [f64; 2] {
        let rate = self.start / (1.0 + self.decay * iteration as f64);
        [rate, self.neurons * rate]
    }
}

/// Amplitudes and masses of neurons of norm 1.
pub(super) struct Transport {
    schedule: Schedule,
    amplitudes: Vec<f64>,
    masses: Vec<f64>,
}

impl Transport {
    /// With h the step size and λ the decay, and with the loss's gradients dc_j by ω_j c_j and dz_j by θ_j, both times m:
    ///
    /// ```text
    /// c ← c e^(-λh) - dc (1 - e^(-λh))/λ     θ ← normalise(θ - h P_θ dz / max(|ω c|, 1))     ω ← ω e^(-h c dc), its mean 1
    /// ```
    fn step<T: Real>(
        &mut self,
        model: &mut ReluEnergy<T>,
        iteration: usize,
        decay: f64,
        grad: &ParamGrad<T>,
    ) -> Result<()> {
        let [step, _] = self.schedule.rates(iteration);
        let (m, d) = (model.neurons(), model.dim());
        let kept = libm::exp(-decay * step);
        let moved = if decay * step > 0.0 { -libm::expm1(-decay * step) / decay } else { step };
        let outer: Vec<f64> = model.w().iter().map(|w| w.to_f64()).collect();
        for (j, (c, mass)) in self.amplitudes.iter_mut().zip(&mut self.masses).enumerate() {
            let slope = m as f64 * grad.w[j].to_f64();
            *mass *= libm::exp(-step * *c * slope);
            *c = kept * *c - moved * slope;
        }
        let total = self.masses.iter().sum::<f64>() / m as f64;
        self.masses.iter_mut().for_each(|mass| *mass /= total);
        model.update_parameters(|w, theta, _| {
            for (j, (theta, grad)) in
                theta.chunks_exact_mut(d).zip(grad.theta.chunks_exact(d)).enumerate()
            {
                let along = crate::data::dot(theta, grad);
                let rate = T::from_f64(step * m as f64 / outer[j].abs().max(1.0));
                for (theta, &grad) in theta.iter_mut().zip(grad) {
                    *theta -= rate * (grad - along * *theta);
                }
                normalise(theta);
                w[j] = T::from_f64(self.masses[j] * self.amplitudes[j]);
            }
        })
    }
}

/// Scales to norm 1.
pub(super) fn normalise<T: Real>(theta: &mut [T]) {
    let norm = gibbsite_kernels::Real::sqrt(crate::data::dot(theta, theta));
    theta.iter_mut().for_each(|theta| *theta /= norm);
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
            .map(|name| checkpoint.reals_of_any_kind::<f64>(name, pairs * parameters));
        let (steps, changes) = (steps?, changes?);
        let pairs = steps.chunks(parameters).zip(changes.chunks(parameters));
        self.pairs = pairs.map(|(step, change)| [step.to_vec(), change.to_vec()]).collect();
        self.gradient = match len("lbfgs.gradient") {
            0 => None,
            _ => Some(checkpoint.reals_of_any_kind("lbfgs.gradient", parameters)?),
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
                weight_decay: 1.2e-2,
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
            let decay = options.weight_decay / 12.0;
            let decayed = |g: &[f64], w: &[f64]| -> Vec<f64> {
                g.iter().zip(w).map(|(g, w)| g + decay * w).collect()
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
    fn weight_decay_does_not_depend_on_the_number_of_neurons() {
        for neurons in [1, 7, 500] {
            let options = TrainOptions {
                neurons,
                learning_rate: Some(0.25),
                weight_decay: 0.1,
                ..Default::default()
            };
            let start = initial_model::<f64>(3, &options).unwrap();
            let mut model = start.clone();
            let grad = model.zero_grad();
            let mut state = State::new(&options).unwrap();
            state.step(&mut model, 0, &options, |_| Ok(grad.clone())).unwrap();
            for (after, before) in model.w().iter().zip(start.w()) {
                assert!((after - (1.0 - 0.25 * 0.1) * before).abs() < 1e-14, "{after}, {before}");
            }
            // Neurons have a hundred times the step.
            let theta = model.theta().as_slice().iter().zip(start.theta().as_slice());
            for (after, before) in theta {
                assert!((after - (1.0 - 25.0 * 0.1) * before).abs() < 1e-13, "{after}, {before}");
            }
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

    #[test]
    fn transport_moves_amplitudes_masses_and_neurons_as_written() {
        let (m, d, step) = (3, 2, 0.3);
        for decay in [0.0, 0.7] {
            let options = TrainOptions {
                optimiser: Optimiser::Transport,
                neurons: m,
                learning_rate: Some(step),
                weight_decay: decay,
                ..Default::default()
            };
            let mut model = initial_model::<f64>(d, &options).unwrap();
            for theta in model.theta().iter() {
                assert!((crate::data::dot(theta, theta) - 1.0).abs() < 1e-15);
            }
            assert_eq!(model.w(), [0.0; 3]);
            let mut state = State::new(&options).unwrap();
            // From f = 0 amplitudes alone can move, then all.
            let (mut c, mut mass) = ([0.0; 3], [1.0; 3]);
            let mut angle: Vec<f64> = model.theta().iter().map(|t| t[1].atan2(t[0])).collect();
            for round in 0..4 {
                let mut grad = model.zero_grad();
                let dc = [4.0, -2.0, 0.5];
                let turn = [1.0, 2.0, -1.0];
                let w = model.w().to_vec();
                for j in 0..m {
                    grad.w[j] = dc[j] / m as f64;
                    // Part of it along the neuron, where it cannot go; gradients by neurons have the factor w_j.
                    let (sin, cos) = angle[j].sin_cos();
                    grad.theta[2 * j] = w[j] * (-turn[j] * sin + 5.0 * cos) / m as f64;
                    grad.theta[2 * j + 1] = w[j] * (turn[j] * cos + 5.0 * sin) / m as f64;
                }
                state.step(&mut model, round, &options, |_| Ok(grad.clone())).unwrap();
                for j in 0..m {
                    let pull = w[j].signum() * w[j].abs().min(1.0);
                    angle[j] -= if w[j] == 0.0 { 0.0 } else { (step * pull * turn[j]).atan() };
                    mass[j] *= f64::exp(-step * c[j] * dc[j]);
                    c[j] = match decay > 0.0 {
                        // The solution of c' = -λ c - dc after the time h.
                        true => (c[j] + dc[j] / decay) * f64::exp(-decay * step) - dc[j] / decay,
                        false => c[j] - step * dc[j],
                    };
                }
                let mean = mass.iter().sum::<f64>() / 3.0;
                mass.iter_mut().for_each(|mass| *mass /= mean);
                for j in 0..m {
                    let expected = [mass[j] * c[j], angle[j].cos(), angle[j].sin()];
                    let theta = model.theta().row(j);
                    for (found, expected) in [model.w()[j], theta[0], theta[1]].iter().zip(expected)
                    {
                        assert!(
                            (found - expected).abs() < 1e-12,
                            "{round}, {j}: {found}, {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn transport_refuses_what_it_cannot_move() {
        let options = TrainOptions { optimiser: Optimiser::Transport, ..Default::default() };
        for options in [
            TrainOptions { regime: Regime::F2, ..options.clone() },
            TrainOptions { bias: true, ..options.clone() },
        ] {
            let error = State::new(&options).err().unwrap().to_string();
            assert!(error.contains("transport"), "{error}");
        }
    }
}
