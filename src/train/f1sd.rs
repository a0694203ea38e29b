//! The F1 Stein discrepancy between the data and the model on the sphere, and its gradient (Domingo-Enrich et al. 2021);
//! [`crate::stein::F1Discrepancy`] says how its suprema are found.

use super::{Checkpoint, ksd::scores, network::Network};
use crate::{ParamGrad, Real, ReluEnergy, Result, Rows, stein::F1Discrepancy};

/// Points at which the discrepancy is evaluated for the records, at most.
const EVALUATED: usize = 2000;

/// Who attains the suprema over the unit ball of F1, one for every coordinate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Critic {
    /// Single neurons, found by a search: exact but for the search, and stateless.
    #[default]
    Neurons,
    /// A two-layer network for each coordinate, moved by gradient ascent between the model's steps, as in the paper's experiments (500
    /// units, 25 steps). Slower, and its discrepancies are smaller than the suprema; for comparison.
    Network {
        /// Neurons of each network.
        units: usize,
        /// Steps of ascent for each of the model's.
        steps: usize,
    },
}

/// Half of the squared discrepancy, as in the paper: its gradient is Σ_i v_i ∂v_i.
pub(super) struct F1Sd<T: Real> {
    x: Vec<T>,
    search: F1Discrepancy,
    networks: Option<(Vec<Network<T>>, usize)>,
    grad: ParamGrad<T>,
}

impl<T: Real> F1Sd<T> {
    pub(super) fn new(
        model: &ReluEnergy<T>,
        x: Rows<'_, T>,
        critic: Critic,
        seed: u64,
    ) -> Result<Self> {
        let network = |i, units| Network::new(i, x.cols(), units, seed, model.isa());
        let networks = match critic {
            Critic::Neurons => None,
            Critic::Network { units, steps } => {
                let networks = (0..x.cols()).map(|i| network(i, units));
                Some((networks.collect::<Result<_>>()?, steps))
            }
        };
        Ok(Self {
            x: x.iter().flatten().copied().collect(),
            search: F1Discrepancy::new(seed).with_isa(model.isa()),
            networks,
            grad: model.zero_grad(),
        })
    }

    pub(super) fn gradient(&mut self, model: &ReluEnergy<T>) -> Result<&ParamGrad<T>> {
        let d = model.dim();
        let x = Rows::new(&self.x, self.x.len() / d, d)?;
        let score = scores(model, x)?;
        let score = Rows::new(&score, x.rows(), d)?;
        // dv_i / ds_i(x_j) = h_i(x_j) / n at the critic h_i with the sign that makes v_i positive.
        let scale = 1.0 / x.rows() as f64;
        let mut by_score = vec![T::ZERO; self.x.len()];
        match &mut self.networks {
            None => {
                let critics = self.search.critics(x, score)?;
                for (x, by_score) in x.iter().zip(by_score.chunks_exact_mut(d)) {
                    for (critic, by_score) in critics.iter().zip(by_score) {
                        let z = crate::data::dot(&critic.theta, x).to_f64();
                        *by_score = T::from_f64(scale * critic.response * z.max(0.0));
                    }
                }
            }
            Some((networks, steps)) => {
                for (i, network) in networks.iter_mut().enumerate() {
                    let response = network.ascend(x, score, *steps)?;
                    let values = network.values(x)?;
                    for (by_score, value) in by_score.chunks_exact_mut(d).zip(values) {
                        by_score[i] = T::from_f64(scale * response * value);
                    }
                }
            }
        }
        model.score_vjp(x, Rows::new(&by_score, x.rows(), d)?, &mut self.grad)?;
        Ok(&self.grad)
    }

    /// The squared discrepancy between points and the model, by single neurons.
    pub(super) fn loss(&self, model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<f64> {
        let x = x.range(0, x.rows().min(EVALUATED));
        let score = scores(model, x)?;
        self.search.squared_of_model(x, Rows::new(&score, x.rows(), x.cols())?)
    }

    pub(super) fn save(&self, checkpoint: &mut Checkpoint) {
        let Some((networks, _)) = &self.networks else { return };
        // All critics in one array of each kind, since files name every array.
        let energies = || networks.iter().map(|network| &network.energy);
        checkpoint.put_reals("critics.w", energies().flat_map(|e| e.w()).map(|x| x.to_f64()));
        let theta = energies().flat_map(|e| e.theta().as_slice());
        checkpoint.put_reals("critics.theta", theta.map(|x| x.to_f64()));
        let bias = energies().flat_map(|e| e.bias().unwrap_or_default());
        checkpoint.put_reals("critics.bias", bias.map(|x| x.to_f64()));
    }

    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let Some((networks, _)) = &mut self.networks else { return Ok(()) };
        let (count, d) = (networks.len(), networks[0].energy.dim());
        let units = networks[0].energy.neurons();
        let [w, bias] =
            ["critics.w", "critics.bias"].map(|name| checkpoint.reals::<T>(name, count * units));
        let (w, bias) = (w?, bias?);
        let theta = checkpoint.reals::<T>("critics.theta", count * units * d)?;
        for (i, network) in networks.iter_mut().enumerate() {
            network.energy.update_parameters(|to_w, to_theta, to_bias| {
                to_w.copy_from_slice(&w[i * units..][..units]);
                to_theta.copy_from_slice(&theta[i * units * d..][..units * d]);
                if let Some(to_bias) = to_bias {
                    to_bias.copy_from_slice(&bias[i * units..][..units]);
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Domain,
        random::Stream,
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
        let mut f1sd = F1Sd::new(&model, x, Critic::Neurons, 1).unwrap();
        let grad = f1sd.gradient(&model).unwrap().clone();
        // By the envelope theorem critics count as fixed.
        let score = scores(&model, x).unwrap();
        let critics = f1sd.search.critics(x, Rows::new(&score, x.rows(), 3).unwrap()).unwrap();
        let critics: Vec<f64> = critics.into_iter().flat_map(|critic| critic.theta).collect();
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
