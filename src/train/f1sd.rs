//! The F1 Stein discrepancy between the data and the model on the sphere, and its gradient (Domingo-Enrich et al. 2021,
//! section 3.3).
//!
//! With b = s - (d-1) x, the discrepancy is the norm of v, where for every coordinate i
//!
//! ```text
//! v_i = sup |E[b_i h(x) + (P_x ∇h(x))_i]|      over h in the unit ball of F1
//! ```
//!
//! The expectation is linear in h, and the ball is the closed hull of single neurons ± max(θ·x, 0) with |θ| = 1, so the supremum is
//! that over θ of |A_i(θ)|, A(θ) = E[(b - x) max(θ·x, 0)] + θ P(θ·x > 0). One bank of directions serves all coordinates; the
//! best are then refined by draws around them, since A jumps where a point crosses from one side of θ to the other.

use super::ksd::scores;
use crate::{ParamGrad, Real, ReluEnergy, Result, Rows, energy::carried_sums, random::Stream};
use gibbsite_kernels::relu::Gate;

/// Directions that are tried at large.
const BANK: usize = 1024;
/// Rounds of refinement, draws for each coordinate in a round, and the angle of the first, which is halved from round to round.
const ROUNDS: usize = 6;
const DRAWS: usize = 16;
const ANGLE: f64 = 0.4;
/// Points at which the discrepancy is evaluated for the records, at most.
const EVALUATED: usize = 2000;

/// Streams of the directions.
const BANK_STREAM: u64 = 1 << 45;
const REFINEMENT_STREAM: u64 = BANK_STREAM + 1;

/// The neuron at which a coordinate's supremum is taken.
struct Critic<T> {
    theta: Vec<T>,
    /// A_i(θ).
    response: f64,
}

/// Half of the squared discrepancy, as in the paper: its gradient is Σ_i v_i ∂v_i.
pub(super) struct F1Sd<T> {
    x: Vec<T>,
    bank: Vec<T>,
    seed: u64,
    grad: ParamGrad<T>,
}

impl<T: Real> F1Sd<T> {
    pub(super) fn new(model: &ReluEnergy<T>, x: Rows<'_, T>, seed: u64) -> Self {
        let d = x.cols();
        let mut bank = vec![T::ZERO; BANK * d];
        let mut stream = Stream::new(seed, BANK_STREAM);
        bank.chunks_exact_mut(d).for_each(|theta| stream.fill_sphere(theta));
        let x = x.iter().flatten().copied().collect();
        Self { x, bank, seed, grad: model.zero_grad() }
    }

    pub(super) fn gradient(&mut self, model: &ReluEnergy<T>) -> Result<&ParamGrad<T>> {
        let d = model.dim();
        let x = Rows::new(&self.x, self.x.len() / d, d)?;
        let critics = self.critics_at(model, x)?;
        // dv_i / ds_i(x_j) = ± max(θ_i·x_j, 0) / n.
        let scale = 1.0 / x.rows() as f64;
        let mut by_score = Vec::with_capacity(self.x.len());
        for x in x.iter() {
            for critic in &critics {
                let z = crate::data::dot(&critic.theta, x).to_f64();
                by_score.push(T::from_f64(scale * critic.response * z.max(0.0)));
            }
        }
        model.score_vjp(x, Rows::new(&by_score, x.rows(), d)?, &mut self.grad)?;
        Ok(&self.grad)
    }

    /// The squared discrepancy between points and the model.
    pub(super) fn loss(&self, model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<f64> {
        let critics = self.critics_at(model, x.range(0, x.rows().min(EVALUATED)))?;
        Ok(critics.iter().map(|critic| critic.response * critic.response).sum())
    }

    /// The best neuron for every coordinate.
    fn critics_at(&self, model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<Vec<Critic<T>>> {
        let d = x.cols();
        let score = scores(model, x)?;
        let curvature = T::from_f64(d as f64);
        // b - x.
        let moved: Vec<T> = score
            .iter()
            .zip(x.iter().flatten())
            .map(|(&score, &x)| score - curvature * x)
            .collect();
        let moved = Rows::new(&moved, x.rows(), d)?;
        let at_large = responses(model, x, moved, &self.bank)?;
        let mut critics: Vec<Critic<T>> =
            (0..d).map(|i| best(i, d, &self.bank, &at_large, 0..BANK)).collect();
        let mut directions = Vec::new();
        let mut stream = Stream::new(self.seed, REFINEMENT_STREAM);
        let mut angle = ANGLE;
        for _ in 0..ROUNDS {
            directions.clear();
            for critic in &critics {
                // The present one is a candidate too.
                directions.extend_from_slice(&critic.theta);
                for _ in 1..DRAWS {
                    let start = directions.len();
                    directions.extend(critic.theta.iter().map(|&theta| {
                        let spread = angle * stream.normal() / (d as f64).sqrt();
                        theta + T::from_f64(spread)
                    }));
                    let theta = &mut directions[start..];
                    let norm = gibbsite_kernels::Real::sqrt(crate::data::dot(theta, theta));
                    theta.iter_mut().for_each(|theta| *theta /= norm);
                }
            }
            let responses = responses(model, x, moved, &directions)?;
            critics = (0..d)
                .map(|i| best(i, d, &directions, &responses, i * DRAWS..(i + 1) * DRAWS))
                .collect();
            angle *= 0.5;
        }
        Ok(critics)
    }
}

/// The candidate of the largest |A_i|, the first of equals.
fn best<T: Real>(
    i: usize,
    d: usize,
    directions: &[T],
    responses: &[f64],
    candidates: std::ops::Range<usize>,
) -> Critic<T> {
    let response = |k: usize| responses[k * d + i];
    let first = candidates.start;
    let k = candidates.fold(
        first,
        |best, k| {
            if response(k).abs() > response(best).abs() { k } else { best }
        },
    );
    Critic { theta: directions[k * d..][..d].to_vec(), response: response(k) }
}

/// A(θ) for every direction, from b - x at the points.
fn responses<T: Real>(
    model: &ReluEnergy<T>,
    x: Rows<'_, T>,
    moved: Rows<'_, T>,
    directions: &[T],
) -> Result<Vec<f64>> {
    let (n, d) = (x.rows(), x.cols());
    let theta = Rows::new(directions, directions.len() / d, d)?;
    let mut responses: Vec<f64> = carried_sums(model.isa(), theta, None, x, moved, Gate::Relu)?
        .iter()
        .map(|sum| sum.to_f64() / n as f64)
        .collect();
    // A one in the first coordinate counts the points on the neuron's side.
    let mut ones = vec![T::ZERO; n * d];
    ones.iter_mut().step_by(d).for_each(|one| *one = T::ONE);
    let counts = carried_sums(model.isa(), theta, None, x, Rows::new(&ones, n, d)?, Gate::Step)?;
    let sums = counts.chunks_exact(d).zip(responses.chunks_exact_mut(d));
    for (theta, (count, response)) in theta.iter().zip(sums) {
        let share = count[0].to_f64() / n as f64;
        response.iter_mut().zip(theta).for_each(|(a, theta)| *a += share * theta.to_f64());
    }
    Ok(responses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Domain,
        train::{dsm, ksd},
    };

    fn problem() -> (ReluEnergy<f64>, Vec<f64>) {
        let (n, m, d) = (40, 6, 3);
        let mut stream = Stream::new(3, 0);
        let mut draw = |len: usize| (0..len).map(|_| stream.normal()).collect::<Vec<f64>>();
        let (theta, w) = (draw(m * d), draw(m));
        let mut x = vec![0.0; n * d];
        x.chunks_exact_mut(d).for_each(|x| stream.fill_sphere(x));
        let model = ReluEnergy::new(Rows::new(&theta, m, d).unwrap(), &w).unwrap();
        (model.with_domain(Domain::Sphere).unwrap(), x)
    }

    /// Derivatives along a direction in the space of parameters: ours, and that of `loss`.
    fn slopes(
        model: &ReluEnergy<f64>,
        grad: &ParamGrad<f64>,
        loss: impl Fn(&ReluEnergy<f64>) -> f64,
    ) -> [f64; 2] {
        let mut stream = Stream::new(4, 0);
        let along: Vec<f64> =
            (0..grad.w.len() + grad.theta.len()).map(|_| stream.normal()).collect();
        let (by_w, by_theta) = along.split_at(grad.w.len());
        let moved = |step: f64| {
            let mut model = model.clone();
            model
                .update_parameters(|w, theta, _| {
                    w.iter_mut().zip(by_w).for_each(|(w, by)| *w += step * by);
                    theta.iter_mut().zip(by_theta).for_each(|(theta, by)| *theta += step * by);
                })
                .unwrap();
            loss(&model)
        };
        let step = 1e-6;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let ours = dot(&grad.w, by_w) + dot(&grad.theta, by_theta);
        [ours, (moved(step) - moved(-step)) / (2.0 * step)]
    }

    #[test]
    fn the_gradient_is_that_of_half_the_loss_at_the_critics() {
        let (model, x) = problem();
        let x = Rows::new(&x, x.len() / 3, 3).unwrap();
        let mut f1sd = F1Sd::new(&model, x, 1);
        let grad = f1sd.gradient(&model).unwrap().clone();
        // By the envelope theorem critics count as fixed.
        let critics: Vec<f64> =
            f1sd.critics_at(&model, x).unwrap().into_iter().flat_map(|c| c.theta).collect();
        let half = |model: &ReluEnergy<f64>| {
            let score = scores(model, x).unwrap();
            let mut sum = 0.0;
            for i in 0..3 {
                let theta = &critics[3 * i..][..3];
                // E[(s_i - (d-1) x_i) h + (P ∇h)_i] as it is written.
                let term = |(x, s): (&[f64], &[f64])| {
                    let z = crate::data::dot(theta, x);
                    if z > 0.0 { (s[i] - 2.0 * x[i]) * z + theta[i] - z * x[i] } else { 0.0 }
                };
                let mean = x.iter().zip(score.chunks(3)).map(term).sum::<f64>() / x.rows() as f64;
                sum += 0.5 * mean * mean;
            }
            sum
        };
        let [ours, expected] = slopes(&model, &grad, half);
        assert!((ours - expected).abs() < 1e-7 * expected.abs(), "{ours}, {expected}");
        // The loss takes these critics at least.
        let loss = f1sd.loss(&model, x).unwrap();
        assert!(loss >= 2.0 * half(&model) * (1.0 - 1e-12), "{loss}, {}", 2.0 * half(&model));
    }

    #[test]
    fn no_neuron_of_a_fine_grid_responds_much_more_than_the_critics() {
        let (model, x) = problem();
        let x = Rows::new(&x, x.len() / 3, 3).unwrap();
        let f1sd = F1Sd::new(&model, x, 1);
        let critics = f1sd.critics_at(&model, x).unwrap();
        let score = scores(&model, x).unwrap();
        let moved: Vec<f64> =
            score.iter().zip(x.iter().flatten()).map(|(s, x)| s - 3.0 * x).collect();
        let mut grid = vec![0.0; 3 * 200_000];
        let mut stream = Stream::new(9, 0);
        grid.chunks_exact_mut(3).for_each(|theta| stream.fill_sphere(theta));
        let moved = Rows::new(&moved, x.rows(), 3).unwrap();
        let responses = responses(&model, x, moved, &grid).unwrap();
        for (i, critic) in critics.iter().enumerate() {
            let best = responses.chunks(3).fold(0.0_f64, |best, a| best.max(a[i].abs()));
            let found = critic.response.abs();
            let norm = crate::data::dot(&critic.theta, &critic.theta);
            assert!((norm - 1.0).abs() < 1e-12, "a critic outside the ball: {norm}");
            assert!(found > 0.9 * best, "{i}: {found} of {best}");
        }
    }

    #[test]
    fn the_gradient_of_denoising_is_that_of_its_loss() {
        let (model, x) = problem();
        let x = Rows::new(&x, x.len() / 3, 3).unwrap();
        let model = model.with_domain(Domain::Euclidean).unwrap().with_base_scale(0.7).unwrap();
        // The noise of evaluations.
        let mut dsm = dsm::Dsm::new(&model, x, 0.4, 2, true);
        let grad = dsm.gradient(&model).unwrap().clone();
        let [ours, expected] = slopes(&model, &grad, |model| dsm.loss(model, x).unwrap());
        assert!((ours - expected).abs() < 1e-6 * expected.abs(), "{ours}, {expected}");
        // What is fitted is the law of noisy points: for N(0, a² I), the scores of variance a² + σ².
        let (n, sigma) = (200_000, 0.5);
        let mut points = vec![0.0; 3 * n];
        Stream::new(8, 0).fill_normal(&mut points);
        let flat = ReluEnergy::new(Rows::new(&[1.0, 0.0, 0.0], 1, 3).unwrap(), &[0.0]).unwrap();
        let loss = |scale: f64| {
            let model = flat.clone().with_base_scale(scale).unwrap();
            let points = Rows::new(&points, n, 3).unwrap();
            dsm::Dsm::new(&model, points, sigma, 2, true).loss(&model, points).unwrap()
        };
        let best = 1.25_f64.sqrt();
        assert!(loss(best) < loss(0.97 * best) && loss(best) < loss(1.03 * best));
    }

    #[test]
    fn the_gradient_of_the_kernel_discrepancy_is_that_of_its_loss() {
        for statistic in [crate::stein::Statistic::V, crate::stein::Statistic::U] {
            let (model, x) = problem();
            let x = Rows::new(&x, x.len() / 3, 3).unwrap();
            for domain in [Domain::Sphere, Domain::Euclidean] {
                let model = match domain {
                    Domain::Sphere => model.clone(),
                    Domain::Euclidean => {
                        let model = model.clone().with_domain(domain).unwrap();
                        let model = model.with_base_scale(0.7).unwrap().with_beta(1.7).unwrap();
                        model.with_bias(&[0.1, -0.2, 0.3, 0.0, 0.2, -0.1]).unwrap()
                    }
                };
                let options = super::super::TrainOptions { domain, ..Default::default() };
                let mut ksd = ksd::Ksd::new(&model, x, 0.8, statistic, &options).unwrap();
                let grad = ksd.gradient(&model).unwrap().clone();
                let [ours, expected] = slopes(&model, &grad, |model| ksd.loss(model, x).unwrap());
                let close = (ours - expected).abs() < 1e-6 * expected.abs();
                assert!(close, "{domain} {statistic:?}: {ours}, {expected}");
            }
        }
    }
}
