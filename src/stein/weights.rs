//! Weighted points and means: small dense problems with the Gram matrix.

use super::Gram;
use crate::{
    Error, Real, Result,
    data::{self, check_finite_slice},
};
use faer::{
    Mat, Side,
    linalg::solvers::{Llt, Solve},
};
use gibbsite_kernels::ShapeError;

/// Weights found by [`Gram::stein_weights`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SteinWeights {
    /// One weight for each point; none is negative, and their sum is 1.
    pub weights: Vec<f64>,
    /// KSD of the weighted points.
    pub ksd: f64,
    /// By how much KSD² may be above the least one.
    pub gap: f64,
}

impl<T: Real> Gram<T> {
    /// The weights w ≥ 0 with Σ w = 1 that minimise KSD² = wᵀUw (black-box importance sampling, Liu and Lee 2017): points
    /// from anywhere stand for the density as well as they can.
    ///
    /// Holds the matrix. Accelerated projected gradients, until the gap is below `tolerance` times KSD² of equal weights, or for
    /// 10,000 steps.
    ///
    /// # Errors
    /// If the tolerance is not positive, there is no memory for the matrix or it is not finite.
    pub fn stein_weights(&self, tolerance: f64) -> Result<SteinWeights> {
        const STEPS: usize = 10_000;
        if !(tolerance > 0.0) {
            return Err(Error::parameter("tolerance", "positive", tolerance));
        }
        let n = self.points();
        let matrix = self.matrix()?;
        check_finite_slice("the Gram matrix", &matrix)?;
        let times = |w: &[f64]| -> Vec<f64> {
            let line = |row: &[T]| row.iter().zip(w).map(|(u, w)| u.to_f64() * w).sum();
            matrix.chunks_exact(n).map(line).collect()
        };
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // No eigenvalue is above the largest sum of absolute values of a row.
        let row_sum = |row: &[T]| row.iter().map(|u| u.to_f64().abs()).sum::<f64>();
        let bound = matrix.chunks_exact(n).map(row_sum).fold(0.0, f64::max);
        let mut w = vec![1.0 / n as f64; n];
        let mut of_w = times(&w);
        let target = tolerance * product(&w, &of_w);
        let (mut ahead, mut of_ahead, mut momentum) = (w.clone(), of_w.clone(), 1.0_f64);
        // wᵀUw - min over the simplex of the tangent: what is left to gain is at most twice that.
        let gap = |w: &[f64], of_w: &[f64]| {
            2.0 * (product(w, of_w) - of_w.iter().copied().fold(f64::INFINITY, f64::min))
        };
        for _ in 0..STEPS {
            if gap(&w, &of_w) <= target || bound == 0.0 {
                break;
            }
            let step: Vec<f64> = ahead.iter().zip(&of_ahead).map(|(w, g)| w - g / bound).collect();
            let next = onto_simplex(&step);
            let of_next = times(&next);
            // Momentum is dropped where it leads uphill.
            let uphill = product(&next, &of_next) > product(&w, &of_w);
            let faster =
                if uphill { 1.0 } else { 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) };
            let share = if uphill { 0.0 } else { (momentum - 1.0) / faster };
            if !uphill {
                ahead = next.iter().zip(&w).map(|(next, w)| next + share * (next - w)).collect();
                of_ahead =
                    of_next.iter().zip(&of_w).map(|(next, w)| next + share * (next - w)).collect();
                (w, of_w) = (next, of_next);
            } else {
                (ahead, of_ahead) = (w.clone(), of_w.clone());
            }
            momentum = faster;
        }
        let (ksd, gap) = (product(&w, &of_w).max(0.0).sqrt(), gap(&w, &of_w));
        let expected = "finite (points or scores are too large)";
        let gap = data::finite("gap of the weights", expected, gap)?;
        Ok(SteinWeights { weights: w, ksd, gap })
    }

    /// The mean of a function over the density from its values at the points, by a control functional (Oates, Girolami and
    /// Chopin 2017): (1ᵀU⁻¹f) / (1ᵀU⁻¹1). `jitter` is added to the diagonal as a share of its mean; 1e-10 is a good first guess.
    ///
    /// Holds the matrix and factors it, so last digits depend on the CPU.
    ///
    /// # Errors
    /// If the length differs, values are not finite, the jitter is negative or not finite, there is no memory, or the matrix is singular but for rounding: add
    /// jitter.
    pub fn control_functional(&self, values: &[T], jitter: f64) -> Result<f64> {
        let n = self.points();
        if values.len() != n {
            return Err(ShapeError::new("values at the points", n, values.len()).into());
        }
        check_finite_slice("the values", values)?;
        if !(jitter >= 0.0 && jitter.is_finite()) {
            return Err(Error::parameter("jitter", "not negative and finite", jitter));
        }
        let matrix = self.matrix()?;
        check_finite_slice("the Gram matrix", &matrix)?;
        let diagonal = (0..n).map(|i| matrix[i * n + i].to_f64()).sum::<f64>() / n as f64;
        let at = |i: usize, j: usize| {
            let jitter = if i == j { jitter * diagonal } else { 0.0 };
            matrix[i * n + j].to_f64() + jitter
        };
        let singular =
            || Error::parameter("Gram matrix", "far from singular (add jitter)", "another");
        let factor =
            Llt::new(Mat::from_fn(n, n, at).as_ref(), Side::Lower).map_err(|_| singular())?;
        let pivots = (0..n).map(|i| factor.L()[(i, i)].powi(2));
        let (least, largest) =
            pivots.fold((f64::INFINITY, 0.0_f64), |(a, b), pivot| (a.min(pivot), b.max(pivot)));
        if least <= n as f64 * f64::EPSILON * largest {
            return Err(singular());
        }
        let solved: Mat<f64> = factor.solve(&Mat::from_fn(n, 1, |_, _| 1.0));
        let (mut above, mut below) = (0.0_f64, 0.0);
        for (i, value) in values.iter().enumerate() {
            above += solved[(i, 0)] * value.to_f64();
            below += solved[(i, 0)];
        }
        match above / below {
            mean if mean.is_finite() => Ok(mean),
            mean => {
                Err(Error::parameter("mean by a control functional", "finite (add jitter)", mean))
            }
        }
    }
}

/// The nearest point with non-negative coordinates of sum 1.
fn onto_simplex(x: &[f64]) -> Vec<f64> {
    let mut sorted = x.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut shift) = (0.0, 0.0);
    for (k, &x) in sorted.iter().enumerate() {
        sum += x;
        let candidate = (sum - 1.0) / (k + 1) as f64;
        if x > candidate {
            shift = candidate;
        }
    }
    x.iter().map(|x| (x - shift).max(0.0)).collect()
}
