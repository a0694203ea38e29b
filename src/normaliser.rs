//! The normalising constant Z of a model, and weighted samples of it.
//!
//! Z is relative to the model's base probability: the uniform law on the sphere, the Gaussian base
//! measure N(0, s² I) in R^d. So `log Z = log E_base exp(-β f)`, and the density with respect to the
//! base is `exp(-β f - log Z)`.

use crate::{
    Domain, Error, Isa, Real, ReluEnergy, Result, Rows, RowsMut,
    data::{dot, try_zeros},
    parallel,
    random::Stream,
    sampler::{Chains, Sampler, Start},
};
use gibbsite_kernels::noise::{self, STREAMS, Streams, reference::key};

/// An estimate of log Z with the weighted points behind it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogZ<T> {
    /// The estimate of log Z.
    pub value: f64,
    /// Its standard error by the delta method: the standard deviation of the weights over their mean,
    /// over √(N - 1). An underestimate where `ess` is small; NaN for one point.
    pub std_error: f64,
    /// Effective sample size (Σ p)² / Σ p² of the weights p.
    pub ess: f64,
    /// How the points were drawn.
    pub method: Method,
    /// The points, row-major.
    pub points: Vec<T>,
    /// Their self-normalised weights.
    pub weights: Vec<f64>,
}

/// How the points behind a [`LogZ`] were drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// Independent draws from the base, weighted by exp(-β f).
    ImportanceSampling,
    /// Annealed importance sampling (Neal 2001) from the base, Metropolis-adjusted Langevin moves in between.
    Annealed,
}

/// `n` independent draws from a base probability: uniform on the sphere, N(0, s² I) in R^d.
///
/// A bank is identified by (seed, bank); row i comes from a stream of its own in it, so it does not depend on `n` or the number of
/// threads.
///
/// # Errors
/// If memory cannot hold them, `d` is 0, or the scale is not positive and finite.
pub fn base_samples<T: Real>(
    base: Base<T>,
    n: usize,
    d: usize,
    seed: u64,
    bank: u64,
) -> Result<Vec<T>> {
    if let Base::Gaussian(scale) = base
        // No normal is beyond 10.
        && !(scale > T::ZERO && gibbsite_kernels::Real::is_finite(T::from_f64(10.0) * scale))
    {
        return Err(Error::parameter("base scale", "positive, and finite ten times over", scale));
    }
    if d == 0 {
        return Err(Error::Zero { what: "the dimension" });
    }
    let mut x = match n >= d {
        true => try_zeros("number of draws", n, d)?,
        false => try_zeros("dimension of draws", d, n)?,
    };
    let block = parallel::rows_per_item(n, 256, STREAMS);
    let items = x.chunks_mut(block * d).enumerate().collect();
    parallel::for_each(items, |(b, x): (usize, &mut [T]), _| {
        let rows = x.len() / d;
        let mut streams = Streams::range(key(seed, bank), (b * block) as u64, rows);
        noise::normals(Isa::best(), &mut streams, RowsMut::new(x, rows, d).expect("whole rows"));
        for x in x.chunks_exact_mut(d) {
            match base {
                Base::Sphere => {
                    // All normals of a row are 0 for one in 2^50 or fewer; any point will do.
                    let norm = gibbsite_kernels::Real::sqrt(dot(x, x));
                    match norm > T::ZERO {
                        true => x.iter_mut().for_each(|x| *x /= norm),
                        false => x[0] = T::ONE,
                    }
                }
                Base::Gaussian(scale) => x.iter_mut().for_each(|x| *x = scale * *x),
            }
        }
    });
    Ok(x)
}

/// A base probability that can be sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base<T> {
    /// Uniform on the unit sphere.
    Sphere,
    /// N(0, s² I), by its scale s.
    Gaussian(T),
}

impl<T: Real> Base<T> {
    /// The base probability of a model.
    ///
    /// # Errors
    /// For a model in R^d without a Gaussian base measure, which has none.
    pub fn of(model: &ReluEnergy<T>) -> Result<Self> {
        match (model.domain(), model.base_scale()) {
            (Domain::Sphere, _) => Ok(Base::Sphere),
            (Domain::Euclidean, Some(scale)) => Ok(Base::Gaussian(scale)),
            (Domain::Euclidean, None) => Err(Error::parameter(
                "base scale",
                "set for a model in R^d whose normalising constant is wanted",
                "none",
            )),
        }
    }

    /// Where its draws are.
    pub(crate) fn domain(&self) -> Domain {
        match self {
            Base::Sphere => Domain::Sphere,
            Base::Gaussian(_) => Domain::Euclidean,
        }
    }
}

/// log Z from `n` independent draws of the base.
///
/// # Errors
/// If the model has no base probability, `n` is 0 or beyond memory, or energies overflow.
pub fn importance_sampling<T: Real>(
    model: &ReluEnergy<T>,
    n: usize,
    seed: u64,
    bank: u64,
) -> Result<LogZ<T>> {
    let points = base_samples(Base::of(model)?, n, model.dim(), seed, bank)?;
    from_base_samples(model, points)
}

/// log Z from points drawn from the base beforehand.
///
/// # Errors
/// If there are no points, or energies overflow.
pub(crate) fn from_base_samples<T: Real>(model: &ReluEnergy<T>, points: Vec<T>) -> Result<LogZ<T>> {
    let n = points.len() / model.dim();
    let mut energy = vec![T::ZERO; n];
    model.energy(Rows::new(&points, n, model.dim())?, &mut energy)?;
    let beta = model.beta().to_f64();
    let log_weights = energy.iter().map(|f| -beta * f.to_f64()).collect();
    weigh(log_weights, points, Method::ImportanceSampling)
}

/// log Z by annealed importance sampling: `chains` chains walk from the base to the model through `temperatures` equal steps of the
/// inverse temperature, one Metropolis-adjusted Langevin move after each.
///
/// With steps of one size, exp of the estimate would be unbiased for Z, and the estimate a lower bound in expectation. The step
/// size is tuned on the way by the acceptance rate of all chains together, which costs a bias of the order of one over their number.
///
/// # Errors
/// If the model has no base probability, a count is 0 or beyond memory, or energies overflow.
pub fn annealed<T: Real>(
    model: &ReluEnergy<T>,
    chains: usize,
    temperatures: usize,
    seed: u64,
    bank: u64,
) -> Result<LogZ<T>> {
    forward(model, chains, temperatures, seed, bank).map(|(estimate, _)| estimate)
}

/// Bounds of log Z that hold in expectation, up to what tuning the step size costs ([`annealed`]).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bracket<T> {
    /// Annealed from the base to the model: not above log Z in expectation.
    pub lower: LogZ<T>,
    /// Annealed from the model to the base: not below log Z in expectation, if the chains it starts from have the model's law.
    pub upper: f64,
    /// Standard error of `upper`.
    pub upper_std_error: f64,
}

/// log Z between two bounds, by annealed importance sampling both ways (Grosse, Ghahramani and Adams 2015). The way
/// back starts where the way forth ended, after as many moves under the model itself.
///
/// # Errors
/// As [`annealed`].
pub fn bracket<T: Real>(
    model: &ReluEnergy<T>,
    chains: usize,
    temperatures: usize,
    seed: u64,
    bank: u64,
) -> Result<Bracket<T>> {
    let (lower, mut walkers) = forward(model, chains, temperatures, seed, bank)?;
    walkers.run(model, temperatures)?;
    let steps = (0..temperatures).rev();
    let log_weights = anneal(model, &mut walkers, steps, -1.0 / temperatures as f64)?;
    // These weights average to 1/Z.
    let back = weigh(log_weights, Vec::<T>::new(), Method::Annealed)?;
    Ok(Bracket { lower, upper: -back.value, upper_std_error: back.std_error })
}

/// The way from the base to the model, and the chains at its end.
fn forward<T: Real>(
    model: &ReluEnergy<T>,
    chains: usize,
    temperatures: usize,
    seed: u64,
    bank: u64,
) -> Result<(LogZ<T>, Chains<T>)> {
    if chains == 0 || temperatures == 0 {
        return Err(Error::Zero { what: "the number of chains and of temperatures" });
    }
    let (d, base) = (model.dim(), Base::of(model)?);
    let start = base_samples(base, chains, d, seed, bank)?;
    let scale = match base {
        Base::Sphere => 1.0 / d as f64,
        Base::Gaussian(scale) => scale.to_f64() * scale.to_f64(),
    };
    let mut walkers = Sampler::mala(0.5 * scale)
        .chains(chains)
        .seed(key(seed, bank))
        .start(Start::Points(Rows::new(&start, chains, d)?))
        .build(model)?;
    let steps = 1..=temperatures;
    let log_weights = anneal(model, &mut walkers, steps, 1.0 / temperatures as f64)?;
    let points = walkers.states().as_slice().to_vec();
    Ok((weigh(log_weights, points, Method::Annealed)?, walkers))
}

/// Takes chains to the inverse temperatures t |difference| β in turn, each `difference` β after the one before; returns the
/// logarithms of their weights.
fn anneal<T: Real>(
    model: &ReluEnergy<T>,
    walkers: &mut Chains<T>,
    steps: impl Iterator<Item = usize>,
    difference: f64,
) -> Result<Vec<f64>> {
    let chains = walkers.states().rows();
    let mut log_weights = vec![0.0; chains];
    let mut energy = vec![T::ZERO; chains];
    let difference = model.beta().to_f64() * difference;
    let mut tempered = model.clone();
    for t in steps {
        model.energy(walkers.states(), &mut energy)?;
        for (log_weight, f) in log_weights.iter_mut().zip(&energy) {
            *log_weight -= difference * f.to_f64();
        }
        // Nothing is weighed after the last move to the base.
        if t > 0 {
            tempered = tempered.with_beta(T::from_f64(difference.abs() * t as f64))?;
            walkers.run_adapting(&tempered, 1)?;
        }
    }
    Ok(log_weights)
}

/// [`importance_sampling`] with 100,000 points where that is enough (an effective sample size of 1,000), otherwise
/// [`annealed`].
///
/// # Errors
/// If the model has no base probability, or energies overflow.
pub fn log_z<T: Real>(model: &ReluEnergy<T>, seed: u64) -> Result<LogZ<T>> {
    let direct = importance_sampling(model, 100_000, seed, NORMALISER_STREAMS)?;
    if direct.ess >= 1_000.0 {
        return Ok(direct);
    }
    annealed(model, 1_000, 1_000, seed, NORMALISER_STREAMS)
}

/// Where [`log_z`]'s streams are, away from those of training.
const NORMALISER_STREAMS: u64 = 1 << 48;

/// An estimate from points and the logarithms of their weights, whose mean estimates Z.
pub(crate) fn weigh<T>(log_weights: Vec<f64>, points: Vec<T>, method: Method) -> Result<LogZ<T>> {
    let n = log_weights.len() as f64;
    if log_weights.is_empty() {
        return Err(Error::Zero { what: "the number of points behind log Z" });
    }
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Infinite energies are points of no weight, unless all are.
    let lost = log_weights.iter().find(|weight| weight.is_nan());
    if let Some(&weight) = lost.or(Some(&max).filter(|max| !max.is_finite())) {
        let expected = "numbers (parameters are too large)";
        return Err(Error::parameter("energies behind log Z", expected, -weight));
    }
    let mut weights: Vec<f64> = log_weights.iter().map(|&w| libm::exp(w - max)).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    let ess = 1.0 / weights.iter().map(|weight| weight * weight).sum::<f64>();
    // With p = n weights, of mean 1: Σ (p - 1)² = n (n Σ weights² - 1) = n (n / ess - 1), over n - 1 for the variance.
    let std_error = ((n / ess - 1.0).max(0.0) / (n - 1.0)).sqrt();
    Ok(LogZ { value: max + libm::log(sum / n), std_error, ess, method, points, weights })
}

impl<T: Real> LogZ<T> {
    /// `n` points drawn from the weighted ones by systematic resampling, row-major.
    ///
    /// # Errors
    /// If there are no weights, points are not whole rows for them, or memory cannot hold the draws.
    pub fn resample(&self, n: usize, seed: u64) -> Result<Vec<T>> {
        let Some(&first) = self.weights.first() else {
            return Err(Error::Zero { what: "the number of weights" });
        };
        let d = self.points.len() / self.weights.len();
        Rows::new(&self.points, self.weights.len(), d)?;
        let offset = Stream::new(seed, u64::MAX).uniform();
        let mut picked = try_zeros("number of draws", n, d)?;
        let (mut j, mut cumulated) = (0, first);
        for (i, picked) in picked.chunks_exact_mut(d.max(1)).enumerate() {
            let target = (i as f64 + offset) / n as f64;
            while cumulated < target && j + 1 < self.weights.len() {
                j += 1;
                cumulated += self.weights[j];
            }
            picked.copy_from_slice(&self.points[j * d..][..d]);
        }
        Ok(picked)
    }
}
