//! The gradient of the likelihood: data on one side, the model's own samples on the other.

use super::{Checkpoint, Optimiser, TrainOptions};
use crate::{
    Domain, Energy, Error, ParamGrad, Real, ReluEnergy, Result, Rows, RowsMut,
    data::{try_changed, try_zeros},
    normaliser::{self, Base, LogZ, Method},
    sampler::{Chains, IndependenceMetropolis, Sampler, Start},
};
use gibbsite_kernels::noise::reference::key;

/// How the expectation under the model is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum NegativePhase {
    /// [`Bank`](Self::Bank) of 3000 on the sphere for as long as its effective sample size is at least 100, then
    /// [`Persistent`](Self::Persistent) chains; persistent chains from the start in R^d. With [`Optimiser::Lbfgs`] one bank of 20,000.
    #[default]
    Auto,
    /// Fresh draws from the base probability at every iteration, reweighted by exp(-β f); with [`Optimiser::Lbfgs`] the same ones.
    Bank {
        /// Number of draws.
        size: usize,
    },
    /// Independence Metropolis chains, kept from one iteration to the next.
    Independence {
        /// Number of chains.
        chains: usize,
        /// Proposals per iteration.
        steps: usize,
    },
    /// Langevin chains, kept from one iteration to the next: unadjusted in R^d, Metropolis-adjusted on the
    /// sphere with their step tuned on the way.
    Persistent {
        /// Number of chains.
        chains: usize,
        /// Moves per iteration.
        steps: usize,
        /// Share of the chains that start afresh from the base at every iteration, the replay buffer of Du and Mordatch
        /// (2019), who take 0.05.
        restart: f64,
    },
    /// The same chains, but started at data points at every iteration: contrastive divergence, CD-k with k = `steps`
    /// (Hinton 2002). Quick and biased.
    Contrastive {
        /// Number of chains.
        chains: usize,
        /// Moves per iteration.
        steps: usize,
    },
    /// Persistent unadjusted chains with Jarzynski's weights, which account for the change of the model at every iteration and
    /// for the bias of the moves: expectations are consistent for any step size as chains grow in number (Carbone, Hua, Coste and
    /// Vanden-Eijnden 2023). One move per iteration, resampled when the effective sample size falls below half of the chains; R^d only.
    Jarzynski {
        /// Number of chains.
        chains: usize,
    },
}

const DEFAULT_BANK: usize = 3000;
/// Draws of a bank that has to do for all iterations.
const FIXED_BANK: usize = 20_000;
const DEFAULT_CHAINS: usize = 1000;
const DEFAULT_STEPS: usize = 10;

/// Effective sample size at which `Auto` leaves the bank for chains.
const LEAST_ESS: f64 = 100.0;

/// ULA's step in units of the base variance, which is 1/d.
const ULA_STEP: f64 = 0.01;

/// Streams of the banks: one range per iteration.
const BANK_STREAMS: u64 = 1 << 36;
const CHAIN_START_STREAMS: u64 = 1 << 37;
/// Which of weighted chains go on, and how often.
const RESAMPLING_STREAMS: u64 = 1 << 39;
/// Banks that chains restart from.
const RESTART_STREAMS: u64 = 1 << 38;

enum Negative<T> {
    /// `fixed` is the same draws at every iteration.
    Bank {
        size: usize,
        auto: bool,
        fixed: bool,
    },
    Independence {
        chains: IndependenceMetropolis<T>,
        steps: usize,
    },
    Chains {
        chains: Chains<T>,
        steps: usize,
        refresh: Refresh,
    },
    Jarzynski(Jarzynski<T>),
}

/// Which chains start afresh before they move.
enum Refresh {
    /// This share, from the base.
    Base(f64),
    /// All, from the data.
    Data,
}

/// Estimates `E_data[∂f] - E_model[∂f]`.
pub(super) struct Gradient<T> {
    /// Data first, the model's samples behind: one parameter gradient serves both.
    x: Vec<T>,
    weights: Vec<T>,
    data: usize,
    negative: Negative<T>,
    grad: ParamGrad<T>,
    seed: u64,
    iteration: u64,
    /// Of the iterations since the last evaluation.
    acceptance: Vec<f64>,
}

impl<T: Real> Gradient<T> {
    pub(super) fn new(
        model: &ReluEnergy<T>,
        train: &[T],
        negative: NegativePhase,
        options: &TrainOptions,
    ) -> Result<Self> {
        let data = train.len() / model.dim();
        let seed = options.seed;
        let d = model.dim();
        let from_base = |chains, steps, refresh| -> Result<_> {
            let start =
                normaliser::base_samples(Base::of(model)?, chains, d, seed, CHAIN_START_STREAMS)?;
            let start = Rows::new(&start, chains, d)?;
            Ok(Negative::Chains { chains: chains_from(model, start, seed)?, steps, refresh })
        };
        let counts = match negative {
            NegativePhase::Auto => [1, 1],
            NegativePhase::Bank { size } => [size, 1],
            NegativePhase::Independence { chains, steps }
            | NegativePhase::Persistent { chains, steps, .. }
            | NegativePhase::Contrastive { chains, steps } => [chains, steps],
            NegativePhase::Jarzynski { chains } => [chains, 1],
        };
        if counts.contains(&0) {
            return Err(Error::Zero { what: "the number of points, chains or steps" });
        }
        let fixed = options.optimiser == Optimiser::Lbfgs;
        if fixed && !matches!(negative, NegativePhase::Auto | NegativePhase::Bank { .. }) {
            let expected = "a bank for an optimiser that wants one function";
            return Err(Error::parameter("negative phase", expected, "chains"));
        }
        let negative = match (negative, options.domain) {
            (NegativePhase::Auto, _) if fixed => {
                Negative::Bank { size: FIXED_BANK, auto: false, fixed }
            }
            (NegativePhase::Auto, Domain::Sphere) => {
                Negative::Bank { size: DEFAULT_BANK, auto: true, fixed }
            }
            (NegativePhase::Auto, Domain::Euclidean) => {
                from_base(DEFAULT_CHAINS, DEFAULT_STEPS, Refresh::Base(0.0))?
            }
            (NegativePhase::Bank { size }, _) => Negative::Bank { size, auto: false, fixed },
            (NegativePhase::Independence { chains, steps }, _) => Negative::Independence {
                chains: IndependenceMetropolis::new(model, chains, seed)?,
                steps,
            },
            (NegativePhase::Persistent { chains, steps, restart }, _) => {
                if !(0.0..=1.0).contains(&restart) {
                    return Err(Error::parameter("share of restarts", "within 0 to 1", restart));
                }
                from_base(chains, steps, Refresh::Base(restart))?
            }
            (NegativePhase::Contrastive { chains, steps }, _) => {
                from_base(chains, steps, Refresh::Data)?
            }
            (NegativePhase::Jarzynski { chains }, Domain::Euclidean) => {
                let start = normaliser::base_samples(
                    Base::of(model)?,
                    chains,
                    d,
                    seed,
                    CHAIN_START_STREAMS,
                )?;
                Negative::Jarzynski(Jarzynski::new(model, Rows::new(&start, chains, d)?, seed)?)
            }
            (NegativePhase::Jarzynski { .. }, Domain::Sphere) => {
                let expected = "another one on the sphere";
                return Err(Error::parameter("negative phase", expected, "jarzynski"));
            }
        };
        let mut weights = try_zeros("number of points", data, 1)?;
        weights.fill(T::from_f64(1.0 / data as f64));
        Ok(Self {
            x: try_changed("number of points", Rows::new(train, data, d)?, |x| x)?,
            weights,
            data,
            negative,
            grad: model.zero_grad(),
            seed,
            iteration: 0,
            acceptance: Vec::new(),
        })
    }

    /// The gradient at the model's parameters.
    pub(super) fn at(&mut self, model: &ReluEnergy<T>) -> Result<&ParamGrad<T>> {
        let d = model.dim();
        self.x.truncate(self.data * d);
        self.weights.truncate(self.data);
        self.iteration = self.iteration.wrapping_add(1);
        match &mut self.negative {
            &mut Negative::Bank { size, auto, fixed } => {
                let bank = BANK_STREAMS.wrapping_add(if fixed { 0 } else { self.iteration });
                let log_z = normaliser::importance_sampling(model, size, self.seed, bank)?;
                if auto && log_z.ess < LEAST_ESS {
                    let start = log_z.resample(DEFAULT_CHAINS, self.seed)?;
                    self.leave_bank(model, &start)?;
                    return self.at(model);
                }
                self.x.extend_from_slice(&log_z.points);
                self.weights.extend(log_z.weights.iter().map(|&weight| T::from_f64(-weight)));
            }
            Negative::Independence { chains, steps } => {
                self.acceptance.extend(chains.run(model, *steps)?.acceptance);
                extend(&mut self.x, &mut self.weights, chains.states());
            }
            Negative::Chains { chains, steps, refresh } => {
                let n = chains.states().rows();
                match *refresh {
                    Refresh::Base(0.0) => {}
                    Refresh::Base(share) => {
                        let bank = RESTART_STREAMS.wrapping_add(self.iteration);
                        let base = Base::of(model)?;
                        let fresh = normaliser::base_samples(base, n, d, self.seed, bank)?;
                        chains.restart(share, Rows::new(&fresh, n, d)?)?;
                    }
                    Refresh::Data => {
                        // Other data points in every iteration, all of them in turn.
                        let first = (self.iteration as usize).wrapping_mul(n) % self.data;
                        let data = Rows::new(&self.x, self.data, d)?;
                        let start: Vec<T> = (0..n)
                            .flat_map(|c| data.row((first + c) % self.data))
                            .copied()
                            .collect();
                        chains.restart(1.0, Rows::new(&start, n, d)?)?;
                    }
                }
                self.acceptance.extend(chains.run_adapting(model, *steps)?.acceptance);
                extend(&mut self.x, &mut self.weights, chains.states());
            }
            Negative::Jarzynski(walkers) => {
                walkers.follow(model)?;
                self.x.extend_from_slice(walkers.chains.states().as_slice());
                let weights = walkers.estimate()?.weights;
                self.weights.extend(weights.iter().map(|&weight| T::from_f64(-weight)));
                walkers.advance(model)?;
            }
        }
        let x = Rows::new(&self.x, self.weights.len(), d)?;
        model.param_grad(x, Some(&self.weights), &mut self.grad)?;
        Ok(&self.grad)
    }

    /// Checkpoints are made behind evaluations, which take the acceptance along.
    pub(super) fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.put_counts("negative.iteration", [self.iteration]);
        match &self.negative {
            Negative::Bank { .. } => {}
            Negative::Independence { chains, .. } => chains.save(checkpoint),
            Negative::Chains { chains, .. } => chains.save(checkpoint),
            Negative::Jarzynski(walkers) => walkers.save(checkpoint),
        }
    }

    pub(super) fn restore(&mut self, model: &ReluEnergy<T>, checkpoint: &Checkpoint) -> Result<()> {
        self.iteration = checkpoint.counts("negative.iteration", 1)?[0];
        if let Negative::Bank { auto: true, .. } = self.negative
            && checkpoint.reals.contains_key("chains.x")
        {
            // The run had left the bank.
            let start = normaliser::base_samples(
                Base::of(model)?,
                DEFAULT_CHAINS,
                model.dim(),
                self.seed,
                CHAIN_START_STREAMS,
            )?;
            self.leave_bank(model, &start)?;
        }
        match &mut self.negative {
            Negative::Bank { .. } => Ok(()),
            Negative::Independence { chains, .. } => chains.restore(checkpoint),
            Negative::Chains { chains, .. } => chains.restore(checkpoint),
            Negative::Jarzynski(walkers) => walkers.restore(checkpoint),
        }
    }

    /// Goes on with chains that start at these points.
    fn leave_bank(&mut self, model: &ReluEnergy<T>, start: &[T]) -> Result<()> {
        let chains = chains_from(model, Rows::new(start, DEFAULT_CHAINS, model.dim())?, self.seed)?;
        let (steps, refresh) = (DEFAULT_STEPS, Refresh::Base(0.0));
        self.negative = Negative::Chains { chains, steps, refresh };
        Ok(())
    }

    /// Mean acceptance since the last call.
    pub(super) fn take_acceptance(&mut self) -> Option<f64> {
        let shares = std::mem::take(&mut self.acceptance);
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }
}

fn chains_from<T: Real>(model: &ReluEnergy<T>, start: Rows<'_, T>, seed: u64) -> Result<Chains<T>> {
    let d = start.cols() as f64;
    let sampler = match model.domain() {
        Domain::Sphere => Sampler::mala(0.5 / d),
        Domain::Euclidean => Sampler::ula(ULA_STEP / d),
    };
    sampler.chains(start.rows()).seed(seed).start(Start::Points(start)).build(model)
}

/// Unadjusted chains whose weights e^A follow the model.
///
/// A move from x to y under the model k, followed by the change to the model k+1, adds α_k(x, y) - α_(k+1)(y, x) to A, with
/// α_k(x, y) = U_k(x) + ½ (y - x)·∇U_k(x) + ¼ h |∇U_k(x)|²: the logarithm of the ratio of the way back to the way there.
struct Jarzynski<T> {
    chains: Chains<T>,
    log_weights: Vec<f64>,
    /// Where the last move came from, and its α; empty before the first.
    before: Vec<T>,
    alpha: Vec<f64>,
    seed: u64,
    resampled: u64,
}

impl<T: Real> Jarzynski<T> {
    fn new(model: &ReluEnergy<T>, start: Rows<'_, T>, seed: u64) -> Result<Self> {
        let chains = chains_from(model, start, seed)?;
        // The base is the model without its energy: what the first model adds is weighed here.
        let mut energy = vec![T::ZERO; start.rows()];
        model.energy(start, &mut energy)?;
        let log_weights = energy.iter().map(|f| -(model.beta() * *f).to_f64()).collect();
        let (before, alpha) = (Vec::new(), Vec::new());
        Ok(Self { chains, log_weights, before, alpha, seed, resampled: 0 })
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.chains.save(checkpoint);
        checkpoint.put_reals("jarzynski.log_weights", self.log_weights.iter().copied());
        checkpoint.put_reals("jarzynski.before", self.before.iter().map(|x| x.to_f64()));
        checkpoint.put_reals("jarzynski.alpha", self.alpha.iter().copied());
        checkpoint.put_counts("jarzynski.resampled", [self.resampled]);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.chains.restore(checkpoint)?;
        let n = self.log_weights.len();
        self.log_weights = checkpoint.reals_of_any_kind("jarzynski.log_weights", n)?;
        // Before the first move there is nothing to weigh.
        let moved = checkpoint.reals.get("jarzynski.alpha").is_some_and(|alpha| !alpha.is_empty());
        let d = self.chains.states().cols();
        self.before =
            checkpoint.reals_of_any_kind("jarzynski.before", if moved { n * d } else { 0 })?;
        self.alpha = checkpoint.reals_of_any_kind("jarzynski.alpha", if moved { n } else { 0 })?;
        self.resampled = checkpoint.counts("jarzynski.resampled", 1)?[0];
        Ok(())
    }

    /// α(x, y) under a model.
    fn alpha(&self, model: &ReluEnergy<T>, x: &[T], y: &[T]) -> Result<Vec<f64>> {
        let (n, d) = (self.log_weights.len(), self.chains.states().cols());
        let mut potential = vec![T::ZERO; n];
        let mut score = vec![T::ZERO; n * d];
        let scores = RowsMut::new(&mut score, n, d)?;
        model.potential_score(Rows::new(x, n, d)?, Some(&mut potential), Some(scores))?;
        let step = self.chains.step();
        let rows = x.chunks_exact(d).zip(y.chunks_exact(d)).zip(score.chunks_exact(d));
        Ok(rows
            .zip(&potential)
            .map(|(((x, y), score), potential)| {
                let (mut along, mut square) = (0.0, 0.0);
                for k in 0..d {
                    let s = score[k].to_f64();
                    along -= (y[k].to_f64() - x[k].to_f64()) * s;
                    square += s * s;
                }
                potential.to_f64() + 0.5 * along + 0.25 * step * square
            })
            .collect())
    }

    /// Weighs the last move and the change to `model` since.
    fn follow(&mut self, model: &ReluEnergy<T>) -> Result<()> {
        if self.before.is_empty() {
            return Ok(());
        }
        let back = self.alpha(model, self.chains.states().as_slice(), &self.before)?;
        for ((log_weight, there), back) in self.log_weights.iter_mut().zip(&self.alpha).zip(back) {
            *log_weight += there - back;
        }
        let estimate = self.estimate()?;
        let n = self.log_weights.len();
        if estimate.ess < 0.5 * n as f64 {
            // Equal weights with the same mean, so that log Z goes on.
            let start = estimate
                .resample(n, key(self.seed, RESAMPLING_STREAMS.wrapping_add(self.resampled)))?;
            self.resampled = self.resampled.wrapping_add(1);
            let d = self.chains.states().cols();
            self.chains.restart(1.0, Rows::new(&start, n, d)?)?;
            self.log_weights.fill(estimate.value);
        }
        Ok(())
    }

    /// Moves under `model`.
    fn advance(&mut self, model: &ReluEnergy<T>) -> Result<()> {
        self.before = self.chains.states().as_slice().to_vec();
        self.chains.run(model, 1)?;
        self.alpha = self.alpha(model, &self.before, self.chains.states().as_slice())?;
        Ok(())
    }

    /// log Z with the chains as weighted points.
    fn estimate(&self) -> Result<LogZ<T>> {
        let points = self.chains.states().as_slice().to_vec();
        normaliser::weigh(self.log_weights.clone(), points, Method::Annealed)
    }
}

/// Appends the chains' states with the weight -1/chains each.
fn extend<T: Real>(x: &mut Vec<T>, weights: &mut Vec<T>, states: Rows<'_, T>) {
    let weight = T::from_f64(-1.0 / states.rows() as f64);
    x.extend(states.iter().flatten());
    weights.extend((0..states.rows()).map(|_| weight));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ.
    fn normal_cdf(x: f64) -> f64 {
        0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
    }

    #[test]
    fn jarzynski_weights_carry_log_z_along() {
        // One neuron of norm 1 and N(0, I) as base: Z = ½ + e^(w²/2) Φ(-w). The steps are so large that unweighted chains
        // are off, and the weights have to be evened out on the way.
        let (n, d) = (20_000, 3);
        let theta = [0.6, 0.0, -0.8];
        let neuron = |w| {
            let model = ReluEnergy::new(Rows::new(&theta, 1, d).unwrap(), &[w]).unwrap();
            model.with_base_scale(1.0).unwrap()
        };
        let log_z = |w: f64| (0.5 + (0.5 * w * w).exp() * normal_cdf(-w)).ln();
        for (end, step) in [(-2.5, 0.3), (3.0, 0.1)] {
            let start =
                normaliser::base_samples(Base::of(&neuron(0.0)).unwrap(), n, d, 5, 1).unwrap();
            let start = Rows::new(&start, n, d).unwrap();
            let mut walkers = Jarzynski::new(&neuron(0.0), start, 5).unwrap();
            walkers.chains.set_step(step).unwrap();
            for k in 1..=40 {
                walkers.advance(&neuron(end * (k - 1) as f64 / 40.0)).unwrap();
                walkers.follow(&neuron(end * k as f64 / 40.0)).unwrap();
            }
            let (found, expected) = (walkers.estimate().unwrap().value, log_z(end));
            println!("w = {end}: {found:.4} of {expected:.4}, resampled {}", walkers.resampled);
            assert!((found - expected).abs() < 0.03, "w = {end}: {found} against {expected}");
        }
    }
}
