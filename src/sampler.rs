//! Markov chains on any [`Energy`].

use crate::{
    Domain, Energy, Error, Real, ReluEnergy, Result, Rows, RowsMut,
    data::dot,
    normaliser::{Base, base_samples},
    random::Stream,
};

/// A population of Langevin chains, one row each, that move in step.
///
/// In R^d a move is `y = x + h s(x) + √(2h) ξ`. On the sphere it follows the geodesic from `x` with the tangential
/// initial velocity `v = h s(x) + √(2h) P_x ξ`. With `metropolis` the move is accepted or rejected so that the
/// model's density is exactly invariant (MALA); without, it always happens (ULA), with a bias of order `h`.
///
/// On the sphere the proposal's density is the Gaussian of `v` in the tangent space times the volume factor
/// (r / sin r)^(d-2), r = |v|, which is the same both ways and cancels.
///
/// Chain `c` draws from its own stream of the seed: its path depends on (seed, chain) alone.
#[derive(Clone, Debug)]
pub struct Langevin<T> {
    x: Vec<T>,
    dim: usize,
    streams: Vec<Stream>,
    /// Step size h.
    pub step: f64,
    /// Whether moves are accepted or rejected (MALA) or always made (ULA).
    pub metropolis: bool,
}

/// Where the chains' streams are in the space of streams, away from those of data and banks.
const CHAIN_STREAMS: u64 = 1 << 40;

impl<T: Real> Langevin<T> {
    /// Chains that start at the rows of `x`.
    ///
    /// # Errors
    /// If the step is not positive and finite, or there are no chains.
    pub fn new(x: Rows<'_, T>, step: f64, metropolis: bool, seed: u64) -> Result<Self> {
        if !(step > 0.0 && step.is_finite()) {
            return Err(Error::parameter("step", "positive and finite", step));
        }
        if x.rows() == 0 || x.cols() == 0 {
            return Err(Error::Zero { what: "the number of chains and their dimension" });
        }
        Ok(Self {
            x: x.iter().flatten().copied().collect(),
            dim: x.cols(),
            streams: (0..x.rows() as u64).map(|c| Stream::new(seed, CHAIN_STREAMS + c)).collect(),
            step,
            metropolis,
        })
    }

    /// The current states, one row a chain.
    pub fn states(&self) -> Rows<'_, T> {
        Rows::new(&self.x, self.streams.len(), self.dim).expect("sized when made")
    }

    /// Nudges the step size towards the acceptance that suits MALA, 0.574 (Roberts and Rosenthal 1998).
    pub(crate) fn adapt(&mut self, acceptance: f64, rate: f64) {
        if self.metropolis {
            self.step *= libm::exp(rate * (acceptance - 0.574));
        }
    }

    /// Moves every chain `steps` times; returns the mean acceptance (1 for ULA).
    ///
    /// # Errors
    /// Whatever the energy returns.
    pub fn run(&mut self, energy: &dyn Energy<T>, steps: usize) -> Result<f64> {
        let (n, d) = (self.streams.len(), self.dim);
        let mut now = Point::at(energy, &self.x, n, d)?;
        let mut accepted = 0.0;
        let mut moved = vec![false; n];
        let mut velocity = vec![T::ZERO; n * d];
        let mut y = vec![T::ZERO; n * d];
        for _ in 0..steps {
            let (h, scale) = (T::from_f64(self.step), T::from_f64((2.0 * self.step).sqrt()));
            let domain = energy.domain();
            let block = crate::parallel::rows_per_item(n, 16, 1);
            let items = self
                .streams
                .chunks_mut(block)
                .zip(self.x.chunks(block * d).zip(now.score.chunks(block * d)))
                .zip(velocity.chunks_mut(block * d).zip(y.chunks_mut(block * d)))
                .collect();
            crate::parallel::for_each(items, |((streams, (x, score)), (velocity, y)), _| {
                let points = x.chunks_exact(d).zip(score.chunks_exact(d));
                let moves = velocity.chunks_exact_mut(d).zip(y.chunks_exact_mut(d));
                for ((stream, (x, score)), (v, y)) in streams.iter_mut().zip(points).zip(moves) {
                    stream.fill_normal(v);
                    if domain == Domain::Sphere {
                        crate::energy::project_to_tangent(v, x);
                    }
                    for (v, &score) in v.iter_mut().zip(score) {
                        *v = h * score + scale * *v;
                    }
                    follow(domain, x, v, y);
                }
            });
            if !self.metropolis {
                std::mem::swap(&mut self.x, &mut y);
                now = Point::at(energy, &self.x, n, d)?;
                accepted += 1.0;
                continue;
            }
            let next = Point::at(energy, &y, n, d)?;
            for c in 0..n {
                let row = c * d..(c + 1) * d;
                let log_ratio = log_ratio(
                    energy.domain(),
                    self.step,
                    (now.potential[c], &now.score[row.clone()], &self.x[row.clone()]),
                    (next.potential[c], &next.score[row.clone()], &y[row.clone()]),
                    &velocity[row],
                );
                // Drawn whether needed or not: a step always takes the same share of the stream.
                let uniform = libm::log(self.streams[c].uniform());
                moved[c] = uniform < log_ratio;
                accepted += f64::from(moved[c]) / n as f64;
            }
            for c in (0..n).filter(|&c| moved[c]) {
                let row = c * d..(c + 1) * d;
                self.x[row.clone()].copy_from_slice(&y[row.clone()]);
                now.score[row.clone()].copy_from_slice(&next.score[row]);
                now.potential[c] = next.potential[c];
            }
        }
        Ok(accepted / steps.max(1) as f64)
    }
}

/// Potential and score at every chain's state.
struct Point<T> {
    potential: Vec<T>,
    score: Vec<T>,
}

impl<T: Real> Point<T> {
    fn at(energy: &dyn Energy<T>, x: &[T], n: usize, d: usize) -> Result<Self> {
        let mut point = Self { potential: vec![T::ZERO; n], score: vec![T::ZERO; n * d] };
        energy.potential_score(
            Rows::new(x, n, d)?,
            Some(&mut point.potential),
            Some(RowsMut::new(&mut point.score, n, d)?),
        )?;
        Ok(point)
    }
}

/// Where the velocity leads from `x` in unit time.
fn follow<T: Real>(domain: Domain, x: &[T], v: &[T], y: &mut [T]) {
    match domain {
        Domain::Euclidean => {
            for k in 0..x.len() {
                y[k] = x[k] + v[k];
            }
        }
        Domain::Sphere => {
            let r = dot(v, v).to_f64().sqrt();
            let (sin, cos) = libm::sincos(r);
            let along = T::from_f64(if r > 0.0 { sin / r } else { 1.0 });
            for k in 0..x.len() {
                y[k] = T::from_f64(cos) * x[k] + along * v[k];
            }
            // Rounding would slowly carry the chain off the sphere.
            let norm = gibbsite_kernels::Real::sqrt(dot(y, y));
            y.iter_mut().for_each(|y| *y /= norm);
        }
    }
}

/// Logarithm of the Metropolis ratio of a Langevin proposal from `x` to `y` with velocity `v`; each end is (potential, score, point).
fn log_ratio<T: Real>(
    domain: Domain,
    h: f64,
    (ux, sx, x): (T, &[T], &[T]),
    (uy, sy, _): (T, &[T], &[T]),
    v: &[T],
) -> f64 {
    // The velocity that leads back, -transported v.
    let r = dot(v, v).to_f64().sqrt();
    if domain == Domain::Sphere && r >= std::f64::consts::PI {
        return f64::NEG_INFINITY;
    }
    let (sin, cos) = libm::sincos(r);
    let (mut forward, mut backward) = (0.0, 0.0);
    for k in 0..v.len() {
        let (v, sx, sy, x) = (v[k].to_f64(), sx[k].to_f64(), sy[k].to_f64(), x[k].to_f64());
        let back = match domain {
            Domain::Euclidean => -v,
            Domain::Sphere => r * sin * x - cos * v,
        };
        forward += (v - h * sx) * (v - h * sx);
        backward += (back - h * sy) * (back - h * sy);
    }
    ux.to_f64() - uy.to_f64() + (forward - backward) / (4.0 * h)
}

/// Independence Metropolis chains: every proposal is a fresh draw from the model's base probability,
/// accepted with probability min(1, exp(β f(x) - β f(y))).
///
/// Exact, and quick where the model is close to its base; chains get stuck where it is not.
#[derive(Clone, Debug)]
pub struct IndependenceMetropolis<T> {
    x: Vec<T>,
    chains: usize,
    base: Base<T>,
    seed: u64,
    /// Proposals so far; each has streams of its own.
    proposals: u64,
}

/// Where proposals' streams are in the space of streams.
const PROPOSAL_STREAMS: u64 = 1 << 41;

impl<T: Real> IndependenceMetropolis<T> {
    /// Chains that start at draws from the base probability of `model`.
    ///
    /// # Errors
    /// If the model has no base probability or there are no chains.
    pub fn new(model: &ReluEnergy<T>, chains: usize, seed: u64) -> Result<Self> {
        if chains == 0 {
            return Err(Error::Zero { what: "the number of chains" });
        }
        let base = Base::of(model)?;
        let x = base_samples(base, chains, model.dim(), seed, PROPOSAL_STREAMS);
        Ok(Self { x, chains, base, seed, proposals: 1 })
    }

    /// The current states, one row a chain.
    pub fn states(&self) -> Rows<'_, T> {
        Rows::new(&self.x, self.chains, self.x.len() / self.chains).expect("sized when made")
    }

    /// Makes `steps` proposals to every chain; returns the mean acceptance.
    ///
    /// # Errors
    /// If the model's dimension is not the chains'.
    pub fn run(&mut self, model: &ReluEnergy<T>, steps: usize) -> Result<f64> {
        let (n, d) = (self.chains, self.states().cols());
        let mut now = vec![T::ZERO; n];
        let mut next = vec![T::ZERO; n];
        model.energy(self.states(), &mut now)?;
        let mut accepted = 0;
        for _ in 0..steps {
            // Blocks of proposals, then one stream for the decisions.
            let first = PROPOSAL_STREAMS + (self.proposals << 20);
            self.proposals += 1;
            let y = base_samples(self.base, n, d, self.seed, first);
            model.energy(Rows::new(&y, n, d)?, &mut next)?;
            let mut decisions = Stream::new(self.seed, first + (1 << 20) - 1);
            for c in 0..n {
                let log_ratio = model.beta().to_f64() * (now[c] - next[c]).to_f64();
                if libm::log(decisions.uniform()) < log_ratio {
                    self.x[c * d..][..d].copy_from_slice(&y[c * d..][..d]);
                    now[c] = next[c];
                    accepted += 1;
                }
            }
        }
        Ok(accepted as f64 / (n * steps.max(1)) as f64)
    }
}
