//! The gradient of the likelihood: data on one side, the model's own samples on the other.

use super::TrainOptions;
use crate::{
    Domain, ParamGrad, Real, ReluEnergy, Result, Rows,
    normaliser::{self, Base},
    sampler::{Chains, IndependenceMetropolis, Sampler, Start},
};

/// How the expectation under the model is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum NegativePhase {
    /// [`Bank`](Self::Bank) of 3000 on the sphere for as long as its effective sample size is at least 100, then
    /// [`Persistent`](Self::Persistent) chains; persistent chains from the start in R^d.
    #[default]
    Auto,
    /// Fresh draws from the base probability at every iteration, reweighted by exp(-β f).
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
    },
}

const DEFAULT_BANK: usize = 3000;
const DEFAULT_PERSISTENT: (usize, usize) = (1000, 10);

/// Effective sample size at which `Auto` leaves the bank for chains.
const LEAST_ESS: f64 = 100.0;

/// ULA's step in units of the base variance, which is 1/d.
const ULA_STEP: f64 = 0.01;

/// Streams of the banks: one range per iteration.
const BANK_STREAMS: u64 = 1 << 36;
const CHAIN_START_STREAMS: u64 = 1 << 37;

enum Negative<T> {
    Bank { size: usize, auto: bool },
    Independence { chains: IndependenceMetropolis<T>, steps: usize },
    Persistent { chains: Chains<T>, steps: usize },
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
    acceptance: (f64, usize),
}

impl<T: Real> Gradient<T> {
    pub(super) fn new(model: &ReluEnergy<T>, train: &[T], options: &TrainOptions) -> Result<Self> {
        let data = train.len() / model.dim();
        let seed = options.seed;
        let persistent = |(chains, steps)| -> Result<_> {
            let base = Base::of(model)?;
            let d = model.dim();
            let start = normaliser::base_samples(base, chains, d, seed, CHAIN_START_STREAMS);
            persistent(model, Rows::new(&start, chains, d)?, steps, seed)
        };
        let negative = match (options.negative, options.domain) {
            (NegativePhase::Auto, Domain::Sphere) => {
                Negative::Bank { size: DEFAULT_BANK, auto: true }
            }
            (NegativePhase::Auto, Domain::Euclidean) => persistent(DEFAULT_PERSISTENT)?,
            (NegativePhase::Bank { size }, _) => Negative::Bank { size, auto: false },
            (NegativePhase::Independence { chains, steps }, _) => Negative::Independence {
                chains: IndependenceMetropolis::new(model, chains, seed)?,
                steps,
            },
            (NegativePhase::Persistent { chains, steps }, _) => persistent((chains, steps))?,
        };
        Ok(Self {
            x: train.to_vec(),
            weights: vec![T::from_f64(1.0 / data as f64); data],
            data,
            negative,
            grad: model.zero_grad(),
            seed,
            iteration: 0,
            acceptance: (0.0, 0),
        })
    }

    /// The gradient at the model's parameters.
    pub(super) fn at(&mut self, model: &ReluEnergy<T>) -> Result<&ParamGrad<T>> {
        let d = model.dim();
        self.x.truncate(self.data * d);
        self.weights.truncate(self.data);
        self.iteration += 1;
        match &mut self.negative {
            &mut Negative::Bank { size, auto } => {
                let bank = BANK_STREAMS + self.iteration;
                let log_z = normaliser::importance_sampling(model, size, self.seed, bank)?;
                if auto && log_z.ess < LEAST_ESS {
                    let (chains, steps) = DEFAULT_PERSISTENT;
                    let start = log_z.resample(chains, self.seed);
                    let start = Rows::new(&start, chains, d)?;
                    self.negative = persistent(model, start, steps, self.seed)?;
                    return self.at(model);
                }
                self.x.extend_from_slice(&log_z.points);
                self.weights.extend(log_z.weights.iter().map(|&weight| T::from_f64(-weight)));
            }
            Negative::Independence { chains, steps } => {
                let acceptance = chains.run(model, *steps)?;
                self.acceptance.0 += acceptance;
                self.acceptance.1 += 1;
                extend(&mut self.x, &mut self.weights, chains.states());
            }
            Negative::Persistent { chains, steps } => {
                if let Some(acceptance) = chains.run_adapting(model, *steps)?.acceptance {
                    self.acceptance.0 += acceptance;
                    self.acceptance.1 += 1;
                }
                extend(&mut self.x, &mut self.weights, chains.states());
            }
        }
        let x = Rows::new(&self.x, self.weights.len(), d)?;
        model.param_grad(x, Some(&self.weights), &mut self.grad)?;
        Ok(&self.grad)
    }

    /// Mean acceptance since the last call.
    pub(super) fn take_acceptance(&mut self) -> Option<f64> {
        let (sum, count) = std::mem::take(&mut self.acceptance);
        (count > 0).then(|| sum / count as f64)
    }
}

fn persistent<T: Real>(
    model: &ReluEnergy<T>,
    start: Rows<'_, T>,
    steps: usize,
    seed: u64,
) -> Result<Negative<T>> {
    let d = start.cols() as f64;
    let sampler = match model.domain() {
        Domain::Sphere => Sampler::mala(0.5 / d),
        Domain::Euclidean => Sampler::ula(ULA_STEP / d),
    };
    let chains =
        sampler.chains(start.rows()).seed(seed).start(Start::Points(start)).build(model)?;
    Ok(Negative::Persistent { chains, steps })
}

/// Appends the chains' states with the weight -1/chains each.
fn extend<T: Real>(x: &mut Vec<T>, weights: &mut Vec<T>, states: Rows<'_, T>) {
    let weight = T::from_f64(-1.0 / states.rows() as f64);
    x.extend(states.iter().flatten());
    weights.extend((0..states.rows()).map(|_| weight));
}
