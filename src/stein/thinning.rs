//! Stein thinning.

use super::{Gram, SteinKernel};
use crate::{Error, Real, Result, Rows};
use gibbsite_kernels::ShapeError;

/// Points picked by [`stein_thin`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Thinned {
    /// Numbers of the points in the order in which they were picked; a point may come more than once.
    pub indices: Vec<usize>,
    /// KSD of the first k picked points, for k = 1..=number of points.
    pub ksd: Vec<f64>,
}

/// Picks `count` of the points one after the other so that the KSD of those picked is as small as it can be at every step
/// (Riabiz et al. 2022, algorithm 1); the first of equals is taken.
///
/// Costs about 8 n d `count` flops.
///
/// # Errors
/// As [`Gram::new`], if `count` is 0, or if values overflow.
pub fn stein_thin<T: Real>(
    kernel: &SteinKernel,
    x: Rows<'_, T>,
    score: Rows<'_, T>,
    count: usize,
) -> Result<Thinned> {
    Gram::new(kernel, x, score)?.thin(count, None, &mut |_| {})
}

/// Keeps thinning away from where the density is low and from its saddles, at which scores are small as well (Bénard, Staber and
/// Da Veiga 2023), by what is known of the density at the points, one value each.
#[derive(Clone, Copy, Debug)]
pub struct Regularisation<'a, T> {
    /// log p up to a constant, that is -U.
    pub log_density: &'a [T],
    /// Sum of the positive parts of the second derivatives of log p by the coordinates.
    pub positive_laplacian: &'a [T],
    /// Weight of log p; 1 over the number of points to pick, if not given.
    pub weight: Option<f64>,
}

impl<T: Real> Gram<T> {
    /// See [`stein_thin`]; with regularisation, its terms are added to what is made small.
    ///
    /// # Errors
    /// If `count` is 0 or more than memory holds, lengths do not fit, values are not finite or overflow, or a Laplacian or the weight is negative.
    pub fn thin(
        &self,
        count: usize,
        regularisation: Option<Regularisation<'_, T>>,
        progress: super::Progress<'_>,
    ) -> Result<Thinned> {
        let n = self.points();
        if count == 0 {
            return Err(Error::Zero { what: "the number of points to pick" });
        }
        let diagonal = self.diagonal();
        // u_ii + 2 Σ_q u(x_i, x_q) over those picked, and what regularisation adds once and at every step.
        let mut objective: Vec<f64> = diagonal.iter().map(|u| u.to_f64()).collect();
        let mut slope = Vec::new();
        if let Some(Regularisation { log_density, positive_laplacian, weight }) = regularisation {
            for (what, values) in
                [("log densities", log_density), ("Laplacians", positive_laplacian)]
            {
                if values.len() != n {
                    return Err(ShapeError::new(what, n, values.len()).into());
                }
                crate::data::check_finite_slice(what, values)?;
            }
            if let Some(&value) = positive_laplacian.iter().find(|&&value| value < T::ZERO) {
                return Err(Error::parameter("positive Laplacian", "not negative", value));
            }
            let weight = weight.unwrap_or(1.0 / count as f64);
            if !(weight >= 0.0 && weight.is_finite()) {
                let expected = "finite and not negative";
                return Err(Error::parameter("weight of log p", expected, weight));
            }
            slope = log_density.iter().map(|log_p| weight * log_p.to_f64()).collect();
            objective.iter_mut().zip(positive_laplacian).for_each(|(o, l)| *o += l.to_f64());
        }
        let mut row = vec![T::ZERO; n];
        let mut thinned = Thinned { indices: Vec::new(), ksd: Vec::new() };
        let too_many = |_| Error::Memory { what: "number of points to pick", got: count };
        thinned.indices.try_reserve_exact(count).map_err(too_many)?;
        thinned.ksd.try_reserve_exact(count).map_err(too_many)?;
        // Σ of the picked block of the matrix, and for each point its sum with those picked.
        let (mut total, mut with_picked) = (0.0, vec![0.0; n]);
        for step in 1..=count {
            for (objective, slope) in objective.iter_mut().zip(&slope) {
                *objective -= slope;
            }
            let best =
                (0..n).reduce(|best, i| if objective[i] < objective[best] { i } else { best });
            let best = best.expect("at least one point");
            total += diagonal[best].to_f64() + 2.0 * with_picked[best];
            if !objective[best].is_finite() || !total.is_finite() {
                let expected = "finite (points or scores are too large)";
                return Err(Error::parameter("Stein kernel", expected, total));
            }
            thinned.indices.push(best);
            thinned.ksd.push(total.max(0.0).sqrt() / step as f64);
            self.row(best, &mut row);
            for ((objective, with_picked), u) in
                objective.iter_mut().zip(&mut with_picked).zip(&row)
            {
                *objective += 2.0 * u.to_f64();
                *with_picked += u.to_f64();
            }
            progress(step as f64 / count as f64);
        }
        Ok(thinned)
    }
}
