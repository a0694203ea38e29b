//! The F1 Stein discrepancy on the unit sphere (Domingo-Enrich et al. 2021).
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

use crate::{
    Error, Isa, Real, Result, Rows,
    data::{self, check_finite, check_on_sphere, check_shape, check_sphere, check_tangential},
    energy::carried_sums,
    random::Stream,
};
use gibbsite_kernels::relu::Gate;

/// Directions that are tried at large.
const BANK: usize = 1024;
/// Rounds of refinement, draws for each coordinate in a round, and the angle of the first, which is halved from round to round.
const ROUNDS: usize = 6;
const DRAWS: usize = 16;
const ANGLE: f64 = 0.4;

/// Streams of the directions.
const BANK_STREAM: u64 = 1 << 45;
const REFINEMENT_STREAM: u64 = BANK_STREAM + 1;

/// The neuron at which a coordinate's supremum is taken.
pub(crate) struct Critic<T> {
    pub(crate) theta: Vec<T>,
    /// A_i(θ).
    pub(crate) response: f64,
}

/// The F1 Stein discrepancy between points of the unit sphere and a density, of which the score is known: the norm of the suprema,
/// one for every coordinate, of Stein's operator over functions of F1 norm 1 (Domingo-Enrich et al. 2021). The suprema
/// are over single neurons, where they are attained, and found by a search in a bank of directions: what is returned is a
/// lower bound, the same for the same seed.
///
/// ```
/// use gibbsite::{Rows, random::Stream, stein::F1Discrepancy};
///
/// // Uniform points, as their score 0 says; and half of a sphere, as it does not.
/// let (n, d) = (2000, 3);
/// let mut x = vec![0.0_f64; n * d];
/// let mut stream = Stream::new(1, 0);
/// x.chunks_exact_mut(d).for_each(|x| stream.fill_sphere(x));
/// let half: Vec<f64> = x.chunks(d).flat_map(|x| [x[0].abs(), x[1], x[2]]).collect();
/// let score = vec![0.0; n * d];
/// let [x, half, score] = [&x[..], &half, &score].map(|data| Rows::new(data, n, d).unwrap());
///
/// let discrepancy = F1Discrepancy::new(7);
/// assert!(discrepancy.squared(x, score)? < 0.1 * discrepancy.squared(half, score)?);
/// # Ok::<(), gibbsite::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct F1Discrepancy {
    seed: u64,
    isa: Isa,
}

impl F1Discrepancy {
    /// With the directions of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, isa: Isa::best() }
    }

    /// On another instruction-set level than the best; results are the same.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// The squared discrepancy between the rows of `x` and the density whose scores there are the rows of `score`, both n×d.
    ///
    /// # Errors
    /// If shapes differ, there are no points or fewer than two dimensions, points are off the sphere, scores not tangential, anything is not finite, or the
    /// result overflows.
    pub fn squared<T: Real>(&self, x: Rows<'_, T>, score: Rows<'_, T>) -> Result<f64> {
        check_shape("scores", (x.rows(), x.cols()), (score.rows(), score.cols()))?;
        if x.rows() == 0 || x.cols() == 0 {
            return Err(Error::Zero { what: "the number of points and their dimension" });
        }
        check_finite("points", x)?;
        check_on_sphere("points", x)?;
        check_finite("scores", score)?;
        check_tangential(x, score)?;
        self.squared_of_model(x, score)
    }

    /// The same without checks, for a model's scores, which are tangential as well as the points' rounding lets them be.
    pub(crate) fn squared_of_model<T: Real>(
        &self,
        x: Rows<'_, T>,
        score: Rows<'_, T>,
    ) -> Result<f64> {
        let critics = self.critics(x, score)?;
        finite(critics.iter().map(|critic| critic.response * critic.response).sum())
    }

    /// The best neuron for every coordinate.
    pub(crate) fn critics<T: Real>(
        &self,
        x: Rows<'_, T>,
        score: Rows<'_, T>,
    ) -> Result<Vec<Critic<T>>> {
        let d = x.cols();
        check_sphere(d)?;
        let mut bank = vec![T::ZERO; BANK * d];
        let mut stream = Stream::new(self.seed, BANK_STREAM);
        bank.chunks_exact_mut(d).for_each(|theta| stream.fill_sphere(theta));
        let curvature = T::from_f64(d as f64);
        // b - x.
        let moved: Vec<T> = score
            .iter()
            .flatten()
            .zip(x.iter().flatten())
            .map(|(&score, &x)| score - curvature * x)
            .collect();
        let moved = Rows::new(&moved, x.rows(), d)?;
        let at_large = responses(self.isa, x, moved, &bank)?;
        let mut critics: Vec<Critic<T>> =
            (0..d).map(|i| best(i, d, &bank, &at_large, 0..BANK)).collect();
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
            let responses = responses(self.isa, x, moved, &directions)?;
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
    isa: Isa,
    x: Rows<'_, T>,
    moved: Rows<'_, T>,
    directions: &[T],
) -> Result<Vec<f64>> {
    let (n, d) = (x.rows(), x.cols());
    let theta = Rows::new(directions, directions.len() / d, d)?;
    let mut responses: Vec<f64> = carried_sums(isa, theta, None, x, moved, Gate::Relu)?
        .iter()
        .map(|sum| sum.to_f64() / n as f64)
        .collect();
    // A one in the first coordinate counts the points on the neuron's side.
    let mut ones = vec![T::ZERO; n * d];
    ones.iter_mut().step_by(d).for_each(|one| *one = T::ONE);
    let counts = carried_sums(isa, theta, None, x, Rows::new(&ones, n, d)?, Gate::Step)?;
    let sums = counts.chunks_exact(d).zip(responses.chunks_exact_mut(d));
    for (theta, (count, response)) in theta.iter().zip(sums) {
        let share = count[0].to_f64() / n as f64;
        response.iter_mut().zip(theta).for_each(|(a, theta)| *a += share * theta.to_f64());
    }
    responses.iter().try_for_each(|&response| finite(response).map(|_| ()))?;
    Ok(responses)
}

fn finite(value: f64) -> Result<f64> {
    data::finite("F1 Stein discrepancy", "finite (scores are too large)", value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_neuron_of_a_fine_grid_responds_much_more_than_the_critics() {
        let (n, d) = (40, 3);
        let mut stream = Stream::new(3, 0);
        let (mut x, mut score) = (vec![0.0_f64; n * d], vec![0.0_f64; n * d]);
        x.chunks_exact_mut(d).for_each(|x| stream.fill_sphere(x));
        stream.fill_normal(&mut score);
        for (score, x) in score.chunks_exact_mut(d).zip(x.chunks(d)) {
            let radial = crate::data::dot(score, x);
            score.iter_mut().zip(x).for_each(|(s, x)| *s -= radial * x);
        }
        let f1 = F1Discrepancy::new(1);
        let points = Rows::new(&x, n, d).unwrap();
        let critics = f1.critics(points, Rows::new(&score, n, d).unwrap()).unwrap();
        // The operator on a neuron, as it is written.
        let response = |theta: &[f64]| {
            let mut sum = [0.0; 3];
            for (x, s) in x.chunks(d).zip(score.chunks(d)) {
                let z: f64 = theta.iter().zip(x).map(|(theta, x)| theta * x).sum();
                if z > 0.0 {
                    for i in 0..d {
                        let b = s[i] - (d - 1) as f64 * x[i];
                        sum[i] += (b * z + theta[i] - z * x[i]) / n as f64;
                    }
                }
            }
            sum
        };
        let mut best = [0.0_f64; 3];
        for _ in 0..200_000 {
            let mut theta = [0.0; 3];
            stream.fill_sphere(&mut theta);
            let response = response(&theta);
            best.iter_mut().zip(response).for_each(|(best, a)| *best = best.max(a.abs()));
        }
        for (i, critic) in critics.iter().enumerate() {
            let norm = crate::data::dot(&critic.theta, &critic.theta);
            assert!((norm - 1.0).abs() < 1e-12, "a critic outside the ball: {norm}");
            let (found, again) = (critic.response, response(&critic.theta)[i]);
            assert!((found - again).abs() < 1e-12, "{found}, {again}");
            assert!(found.abs() > 0.9 * best[i], "{i}: {found} of {}", best[i]);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let f1 = F1Discrepancy::new(0);
        let rows = |data: &'static [f64], n, d| Rows::new(data, n, d).unwrap();
        let (x, s) = (rows(&[0.6, 0.8], 1, 2), rows(&[0.8, -0.6], 1, 2));
        assert!(f1.squared(x, s).unwrap() > 0.0);
        let steep = f1.squared(x, rows(&[8e199, -6e199], 1, 2)).unwrap_err().to_string();
        assert!(steep.contains("scores are too large"), "{steep}");
        for (x, s, part) in [
            (rows(&[], 0, 2), rows(&[], 0, 2), "zero"),
            (rows(&[], 1, 0), rows(&[], 1, 0), "zero"),
            (x, rows(&[1.0], 1, 1), "scores: expected 1 x 2, got 1 x 1"),
            (x, rows(&[0.0; 4], 2, 2), "scores: expected 1 x 2, got 2 x 2"),
            (rows(&[0.5, 0.5], 1, 2), s, "norm"),
            (rows(&[0.6, f64::NAN], 1, 2), s, "NaN"),
            (x, rows(&[f64::INFINITY, 0.0], 1, 2), "inf"),
            (x, rows(&[0.6, 0.8], 1, 2), "tangential"),
        ] {
            let error = f1.squared(x, s).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
