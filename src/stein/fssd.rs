//! The finite-set Stein discrepancy: the witness function at a few places, in time linear in the number of points.

use super::Gram;
use crate::{
    Error, Real, Result, Rows, RowsMut,
    data::{self, dot, try_zeros},
    random::Stream,
};
use faer::{Accum, MatMut, MatRef, Par, Side, linalg::matmul::matmul};
use gibbsite_kernels::{
    chain::Space,
    stein::{self, Block, Kernel, Points, Quantity},
};

/// Outcome of [`Gram::fssd_test`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FssdTest {
    /// The unbiased estimate of the mean square of the witness function's coordinates over the places.
    pub squared: f64,
    /// (1 + number of draws that reach the estimate) / (1 + number of draws).
    pub p_value: f64,
    /// Draws of the estimate's limit law under the null hypothesis.
    pub draws: Vec<f64>,
}

/// Where normals of the limit law are in the space of streams.
const LIMIT_STREAM: u64 = (1 << 44) + 1;

impl<T: Real> Gram<T> {
    /// Goodness-of-fit test by the finite-set Stein discrepancy (Jitkrittum et al. 2017) at `places` (J×d), which must not have
    /// been chosen by a look at x. `x` and `score` are what the matrix was made of.
    ///
    /// The law of the draws is that of large n: of ten points, a level of 0.05 rejects the truth with a probability of 0.056, say.
    ///
    /// Costs of the order of n (dJ)² flops, and holds n·d·J values. Last digits of draws depend on the CPU.
    ///
    /// # Errors
    /// As [`witness`](Self::witness); if there are no places or no draws, more of them than memory holds, or fewer than two points.
    pub fn fssd_test(
        &self,
        x: Rows<'_, T>,
        score: Rows<'_, T>,
        places: Rows<'_, T>,
        draws: usize,
        seed: u64,
    ) -> Result<FssdTest> {
        let n = self.points();
        if n < 2 {
            return Err(Error::parameter("number of points", "at least 2 for a test", n));
        }
        if draws == 0 || places.rows() == 0 {
            return Err(Error::Zero { what: "the number of draws or of places" });
        }
        let features = self.features(x, score, places)?;
        let width = places.rows() * self.dim();
        let mut mean = vec![0.0; width];
        let mut squares = 0.0;
        for feature in features.chunks_exact(width) {
            mean.iter_mut().zip(feature).for_each(|(mean, f)| *mean += f / n as f64);
            squares += feature.iter().map(|f| f * f).sum::<f64>();
        }
        let count = n as f64;
        let of_mean = mean.iter().map(|mean| mean * mean).sum::<f64>();
        let squared = (count * of_mean - squares / count) / (count - 1.0);
        let finite = |value| {
            let expected = "finite (points or scores are too large)";
            data::finite("finite-set discrepancy", expected, value)
        };
        finite(squared)?;
        // Under the null hypothesis n times the estimate tends to Σ λ (z² - 1), λ the eigenvalues of the features' covariance.
        let centred: Vec<f64> = features
            .chunks_exact(width)
            .flat_map(|feature| feature.iter().zip(&mean).map(|(f, mean)| f - mean))
            .collect();
        let centred = MatRef::from_row_major_slice(&centred, n, width);
        let mut covariance = try_zeros("number of places", width, width)?;
        let mut covariance = MatMut::from_row_major_slice_mut(&mut covariance, width, width);
        let (replace, alone) = (Accum::Replace, Par::Seq);
        matmul(&mut covariance, replace, centred.transpose(), centred, 1.0, alone);
        let eigenvalues = covariance.self_adjoint_eigenvalues(Side::Lower).map_err(|_| {
            Error::parameter("covariance of the features", "one with eigenvalues", "another")
        })?;
        // Scaled so that draws have the estimate's variance for any n.
        let spread = (count - 1.0) * (count * (count - 1.0)).sqrt();
        let mut normals = Stream::new(seed, LIMIT_STREAM);
        let mut limits: Vec<f64> = try_zeros("number of draws", draws, 1)?;
        for limit in &mut limits {
            let term = |value: &f64| {
                let z = normals.normal();
                value * (z * z - 1.0)
            };
            *limit = finite(eigenvalues.iter().map(term).sum::<f64>() / spread)?;
        }
        let reached = limits.iter().filter(|&&draw| draw >= squared).count();
        let p_value = (1 + reached) as f64 / (1 + draws) as f64;
        Ok(FssdTest { squared, p_value, draws: limits })
    }

    /// What each point adds to the witness function at y (m×d), divided by √(md): a row of m·d values for each point.
    fn features(&self, x: Rows<'_, T>, score: Rows<'_, T>, y: Rows<'_, T>) -> Result<Vec<f64>> {
        let (n, d, m) = (self.points(), self.dim(), y.rows());
        let (radial, linear) = self.check_witness(x, score, y)?;
        let zeros = vec![T::ZERO; m * d];
        let others = Points::new(y, Rows::new(&zeros, m, d)?)?;
        let mut scratch = Default::default();
        let mut of_pairs = |quantity| -> Result<Vec<T>> {
            let mut out = try_zeros("number of places", m, n)?;
            if radial {
                let kernel = Kernel { quantity, ..self.kernel() };
                let block = Block { rows: (&others, 0..m), cols: (self.laid_out(), 0..n) };
                let out = RowsMut::new(&mut out, m, n)?;
                stein::write(self.isa(), kernel, block, out, &mut scratch);
            }
            Ok(out)
        };
        let (value, slope) = (of_pairs(Quantity::Value)?, of_pairs(Quantity::Slope)?);
        let drift = self.drift(x, score);
        let sphere = self.kernel().space == Space::Sphere;
        let scale = ((m * d) as f64).sqrt().recip();
        let mut features = try_zeros("number of points", n, m * d)?;
        let mut places = features.iter_mut();
        for (i, (x, a)) in x.iter().zip(drift.chunks_exact(d)).enumerate() {
            for (j, y) in y.iter().enumerate() {
                let (mut value, slope) = (value[j * n + i], slope[j * n + i]);
                let product = dot(x, y);
                let (cosine, own) = match (sphere, linear) {
                    (true, _) => (product, T::ZERO),
                    (false, false) => (T::ONE, T::ZERO),
                    (false, true) => (T::ONE, T::ONE),
                };
                if linear {
                    value += T::ONE + product;
                }
                for k in 0..d {
                    let feature = a[k] * value + slope * (y[k] - cosine * x[k]) + own * y[k];
                    *places.next().expect("one for each") = scale * feature.to_f64();
                }
            }
        }
        Ok(features)
    }
}
