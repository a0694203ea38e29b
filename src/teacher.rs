//! Teachers: small known models on the sphere whose samples a student learns from, as in the
//! experiments of Domingo-Enrich et al. (2021).

use crate::{
    Domain, Error, Real, ReluEnergy, Result, Rows, ShapeError,
    data::{finite, try_zeros},
    normaliser::{self, Base},
    random::Stream,
};

/// A teacher with energy f*(x) = (1/J) Σ_i w_i max(θ_i·x, 0), |θ_i| = 1, on the unit sphere.
#[derive(Clone, Debug)]
pub struct Teacher<T: Real> {
    model: ReluEnergy<T>,
}

/// The names that [`Teacher::named`] knows, with the outer weights they stand for.
pub const NAMES: [(&str, &[f64]); 5] = [
    ("j1w2", &[2.0]),
    ("j1w10", &[10.0]),
    ("j2w-2.5", &[-2.5, -2.5]),
    ("j2w-5", &[-5.0, -5.0]),
    ("j4w7.5", &[7.5, 7.5, -7.5, -7.5]),
];

/// Streams of teachers: directions, then data.
const DIRECTION_STREAMS: u64 = 1 << 32;
const DATA_STREAMS: u64 = 1 << 33;

impl<T: Real> Teacher<T> {
    /// One of the paper's teachers: `j1w2`, `j1w10`, `j2w-2.5`, `j2w-5`, `j4w7.5` (two of four weights negative). The seed
    /// chooses the directions.
    ///
    /// # Errors
    /// For an unknown name, a dimension below 2, or one that memory cannot hold.
    pub fn named(name: &str, dim: usize, seed: u64) -> Result<Self> {
        let Some((_, weights)) = NAMES.iter().find(|(known, _)| *known == name) else {
            return Err(Error::parameter(
                "teacher",
                "one of j1w2, j1w10, j2w-2.5, j2w-5, j4w7.5",
                name,
            ));
        };
        if dim < 2 {
            return Err(Error::parameter("dimension of a teacher", "at least 2", dim));
        }
        let mut theta = try_zeros("dimension of a teacher", dim, weights.len())?;
        for (j, theta) in theta.chunks_exact_mut(dim).enumerate() {
            Stream::new(seed, DIRECTION_STREAMS + j as u64).fill_sphere(theta);
        }
        let w: Vec<T> = weights.iter().map(|&w| T::from_f64(w)).collect();
        let model = ReluEnergy::new(Rows::new(&theta, w.len(), dim)?, &w)?;
        Ok(Self { model: model.with_domain(Domain::Sphere)? })
    }

    /// The teacher's energy.
    pub fn model(&self) -> &ReluEnergy<T> {
        &self.model
    }

    /// `n` independent exact samples, n×d row-major, by rejection from the uniform law. Distinct values of `set`, below 512, give
    /// independent sets.
    ///
    /// Since |θ_i| = 1, f* ≥ (1/J) Σ min(w_i, 0), which serves as the envelope.
    ///
    /// # Errors
    /// If memory cannot hold them, or there is no such set.
    pub fn sample(&self, n: usize, seed: u64, set: u64) -> Result<Vec<T>> {
        const BATCH: usize = 4096;
        // All streams are below those of training.
        const SETS: u64 = DATA_STREAMS >> SET_BITS;
        const SET_BITS: u32 = 24;
        if set >= SETS {
            return Err(Error::parameter("set of samples", "below 512", set));
        }
        let (d, w) = (self.model.dim(), self.model.w());
        let least = w.iter().map(|w| w.to_f64().min(0.0)).sum::<f64>() / w.len() as f64;
        let mut samples = try_zeros("number of samples", n, d)?;
        let mut missing = samples.chunks_exact_mut(d);
        let mut energy = vec![T::ZERO; BATCH];
        let streams = DATA_STREAMS + (set << SET_BITS);
        for batch in 0.. {
            if missing.len() == 0 {
                break;
            }
            let x = normaliser::base_samples(Base::Sphere, BATCH, d, seed, streams + batch)?;
            self.model.energy(Rows::new(&x, BATCH, d)?, &mut energy)?;
            let mut stream = Stream::new(seed, streams + batch);
            for (x, f) in x.chunks_exact(d).zip(&energy) {
                if libm::log(stream.uniform()) < least - f.to_f64()
                    && let Some(sample) = missing.next()
                {
                    sample.copy_from_slice(x);
                }
            }
        }
        Ok(samples)
    }

    /// KL(teacher | student) of a student on the sphere, on `n` uniform points: the KL divergence
    /// of the weights that both give these points, each normalised, which is never negative.
    ///
    /// # Errors
    /// If the dimensions differ, the student is not on the sphere, there are no points, memory cannot hold them, or energies overflow.
    pub fn kl_to(&self, student: &ReluEnergy<T>, n: usize, seed: u64) -> Result<f64> {
        let d = self.check_dim(student)?.model.dim();
        if student.domain() != Domain::Sphere {
            return Err(Error::parameter("domain of the student", "the sphere", student.domain()));
        }
        let points = normaliser::base_samples(Base::Sphere, n, d, seed, KL_STREAMS)?;
        if n == 0 {
            return Err(Error::Zero { what: "the number of points" });
        }
        // The logarithms of the points' normalised weights, which may be below any number themselves.
        let log_weights = |model: &ReluEnergy<T>| -> Result<Vec<f64>> {
            let mut energy = vec![T::ZERO; n];
            model.energy(Rows::new(&points, n, d)?, &mut energy)?;
            let beta = model.beta().to_f64();
            let logs: Vec<f64> = energy.iter().map(|f| -beta * f.to_f64()).collect();
            if let Some(&log) = logs.iter().find(|log| !log.is_finite()) {
                return Err(Error::parameter("energy of a model", "finite", -log));
            }
            let largest = logs.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let mass: f64 = logs.iter().map(|log| libm::exp(log - largest)).sum();
            let log_mass = largest + libm::log(mass);
            Ok(logs.iter().map(|log| log - log_mass).collect())
        };
        // KL = E_p[log p - log q] over the points, p and q their normalised weights.
        let (p, q) = (log_weights(&self.model)?, log_weights(student)?);
        let kl = p.iter().zip(&q).map(|(p, q)| libm::exp(*p) * (p - q));
        Ok(finite("KL", "finite (parameters are too large)", kl.sum())?.max(0.0))
    }

    /// The largest |cosine| between a student's neuron and a teacher's.
    ///
    /// # Errors
    /// If the dimensions differ.
    pub fn max_cosine(&self, student: &ReluEnergy<T>) -> Result<f64> {
        self.check_dim(student)?;
        // In units of the largest coordinate, where no square is beyond the range of numbers.
        let scaled = |a: &[T]| -> Vec<f64> {
            let largest = a.iter().map(|a| a.to_f64().abs()).fold(0.0, f64::max);
            a.iter().map(|a| a.to_f64() / largest).collect()
        };
        let cosine = |a: &[T], b: &[T]| {
            let (a, b) = (scaled(a), scaled(b));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            (dot(&a, &b).abs() / (dot(&a, &a) * dot(&b, &b)).sqrt()).clamp(0.0, 1.0)
        };
        let pairs = student.theta().iter().flat_map(|student| {
            self.model.theta().iter().map(move |teacher| cosine(student, teacher))
        });
        // Neurons of 0 have no direction: their cosines are NaN, which no maximum is.
        Ok(pairs.fold(0.0, f64::max))
    }

    fn check_dim(&self, student: &ReluEnergy<T>) -> Result<&Self> {
        match student.dim() == self.model.dim() {
            true => Ok(self),
            false => Err(ShapeError::new("dimension", self.model.dim(), student.dim()).into()),
        }
    }
}

const KL_STREAMS: u64 = 1 << 49;
