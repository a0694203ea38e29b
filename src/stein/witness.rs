//! The witness function of the KSD, and what follows from it: gradients by scores, Stein variational gradient descent.

use super::{Gram, Statistic, SteinKernel, median_distance};
use crate::{
    Domain, Energy, Error, Real, Result, Rows, RowsMut,
    data::{check_finite, check_on_sphere, check_shape, dot, try_zeros},
    parallel,
};
use gibbsite_kernels::{
    ShapeError,
    chain::Space,
    stein::{self, Base, Block, Kernel, Points, Quantity, TILE},
};

impl<T: Real> Gram<T> {
    /// The witness function at points y (m×d), where the sample and the density differ most as seen by the kernel: with
    /// a = s in R^d and a = s - (d-1) x on the sphere, and ∇ along the sphere there,
    ///
    /// ```text
    /// g(y) = (1/n) Σ_j [a_j k(x_j, y) + ∇_(x_j) k(x_j, y)]
    /// ```
    ///
    /// KSD² is the squared norm of g in the space of k, d times over. `x` and `score` are what the matrix was made of.
    ///
    /// # Errors
    /// If x and scores are not what the matrix was made of, y has other columns, is not finite or not on the sphere, values overflow, or for a metric or the
    /// arc-cosine kernel in R^d.
    pub fn witness(&self, x: Rows<'_, T>, score: Rows<'_, T>, y: Rows<'_, T>) -> Result<Vec<T>> {
        let (d, m) = (self.dim(), y.rows());
        let parts = self.check_witness(x, score, y)?;
        let zeros = vec![T::ZERO; m * d];
        let others = Points::new(y, Rows::new(&zeros, m, d)?)?;
        let mut out = self.values_at(parts, x, &self.drift(x, score), &others, y)?;
        let scale = T::from_f64(1.0 / self.points() as f64);
        for (out, slope) in out.iter_mut().zip(self.slopes_at(parts, x, &others, y)?) {
            *out = scale * (*out + slope);
        }
        finite(out)
    }

    /// `Σ_j a_j k(x_j, y_i)`; `parts` as [`parts`](Self::parts) has them.
    fn values_at(
        &self,
        (radial, linear): (bool, bool),
        x: Rows<'_, T>,
        drift: &[T],
        others: &Points<T>,
        y: Rows<'_, T>,
    ) -> Result<Vec<T>> {
        let (n, d, m) = (self.points(), self.dim(), y.rows());
        let drift = Rows::new(drift, n, d)?;
        let mut out = match radial {
            true => self.product_with(Quantity::Value, others, drift)?,
            false => vec![T::ZERO; m * d],
        };
        if linear {
            // Σ_j a_j (1 + x_j·y).
            let mut sum = vec![T::ZERO; d];
            let mut outer = try_zeros("dimension", d, d)?;
            for (a, x) in drift.iter().zip(x.iter()) {
                for k in 0..d {
                    sum[k] += a[k];
                    outer[k * d..][..d]
                        .iter_mut()
                        .zip(x)
                        .for_each(|(outer, &x)| *outer += a[k] * x);
                }
            }
            for (out, y) in out.chunks_exact_mut(d).zip(y.iter()) {
                for k in 0..d {
                    out[k] += sum[k] + dot(&outer[k * d..][..d], y);
                }
            }
        }
        Ok(out)
    }

    /// `Σ_j ∇_(x_j) k(x_j, y_i)`, which does not depend on scores.
    fn slopes_at(
        &self,
        (radial, linear): (bool, bool),
        x: Rows<'_, T>,
        others: &Points<T>,
        y: Rows<'_, T>,
    ) -> Result<Vec<T>> {
        let (n, d, m) = (self.points(), self.dim(), y.rows());
        let sphere = self.kernel().space == Space::Sphere;
        let mut out = vec![T::ZERO; m * d];
        if radial {
            // Sums of products with x lose least when x is centred.
            let mut mean = vec![T::ZERO; d];
            if !sphere {
                mean = (0..d)
                    .map(|k| T::from_f64(x.iter().map(|x| x[k].to_f64()).sum::<f64>() / n as f64))
                    .collect();
            }
            // x with a column of ones.
            let mut places = Vec::with_capacity(n * (d + 1));
            for x in x.iter() {
                places.extend(x.iter().zip(&mean).map(|(&x, &mean)| x - mean));
                places.push(T::ONE);
            }
            let places = Rows::new(&places, n, d + 1)?;
            let by_slope = self.product_with(Quantity::Slope, others, places)?;
            let by_cosine = match sphere {
                true => self.product_with(Quantity::SlopeCosine, others, places)?,
                false => by_slope.clone(),
            };
            for (i, out) in out.chunks_exact_mut(d).enumerate() {
                let (slope, cosine) = (&by_slope[i * (d + 1)..], &by_cosine[i * (d + 1)..]);
                for k in 0..d {
                    out[k] = slope[d] * (y.row(i)[k] - mean[k]) - cosine[k];
                }
            }
        }
        if linear {
            let count = T::from_f64(n as f64);
            for (out, &y) in out.iter_mut().zip(y.iter().flatten()) {
                *out += count * y;
            }
        }
        Ok(out)
    }

    /// The gradient of KSD² by the scores (n×d): 2 g(x_j) / n for the V-statistic; tangential on the sphere.
    ///
    /// # Errors
    /// As [`witness`](Self::witness); if a U-statistic is asked of a single point.
    pub fn score_gradient(
        &self,
        x: Rows<'_, T>,
        score: Rows<'_, T>,
        statistic: Statistic,
    ) -> Result<Vec<T>> {
        self.check_witness(x, score, x)?;
        finite(ScoreGradient::new(self.clone(), x, statistic)?.at(score)?)
    }

    /// Checks what a witness function is asked about, and returns the kernel's parts.
    pub(super) fn check_witness(
        &self,
        x: Rows<'_, T>,
        score: Rows<'_, T>,
        y: Rows<'_, T>,
    ) -> Result<(bool, bool)> {
        let (n, d) = (self.points(), self.dim());
        for (what, rows, got) in [("x", n, x), ("scores", n, score), ("y", y.rows(), y)] {
            check_shape(what, (rows, d), (got.rows(), got.cols()))?;
        }
        if !self.is_of(x, score) {
            let expected = "those that the matrix was made of";
            return Err(Error::parameter("points and scores", expected, "others"));
        }
        check_finite("the points of the witness", y)?;
        if self.kernel().space == Space::Sphere {
            check_on_sphere("the points of the witness", y)?;
        }
        self.parts()
    }

    /// Whether the kernel has a part that is a function of the distance (on the sphere, it is one) and a linear one in R^d.
    fn parts(&self) -> Result<(bool, bool)> {
        let parts = match (self.kernel().base, self.kernel().space) {
            (Base::Radial(_), _) | (_, Space::Sphere) => (true, false),
            (Base::Linear, Space::Flat) => (false, true),
            (Base::RadialLinear(_), Space::Flat) => (true, true),
            (Base::ArcCosine, Space::Flat) => (false, false),
        };
        if parts == (false, false) || !self.laid_out().is_plain() {
            let expected = "one of the others in R^d, without a metric";
            return Err(Error::parameter("kernel of a witness", expected, "this one"));
        }
        Ok(parts)
    }

    /// a, which is s in R^d and s - (d-1) x on the sphere.
    pub(super) fn drift(&self, x: Rows<'_, T>, score: Rows<'_, T>) -> Vec<T> {
        let curvature = match self.kernel().space {
            Space::Flat => T::ZERO,
            Space::Sphere => T::from_f64(self.dim() as f64 - 1.0),
        };
        let pairs = x.iter().flatten().zip(score.iter().flatten());
        pairs.map(|(&x, &score)| score - curvature * x).collect()
    }

    /// What points add to the witness at themselves: a k(x, x) / n, and x / n with a linear part. All other gradients are 0 there.
    fn own_part(&self, x: Rows<'_, T>, score: Rows<'_, T>) -> Result<Vec<T>> {
        let (n, d) = (self.points(), self.dim());
        let (radial, linear) = self.parts()?;
        let mut value = vec![T::ZERO; n];
        if radial {
            let kernel = Kernel { quantity: Quantity::Value, ..self.kernel() };
            stein::pairs(self.isa(), kernel, self.laid_out(), self.laid_out(), &mut value);
        }
        let mut own = self.drift(x, score);
        let scale = T::from_f64(1.0 / n as f64);
        for ((own, x), mut value) in own.chunks_exact_mut(d).zip(x.iter()).zip(value) {
            if linear {
                value += T::ONE + dot(x, x);
            }
            for (own, &x) in own.iter_mut().zip(x) {
                *own = scale * (value * *own + if linear { x } else { T::ZERO });
            }
        }
        Ok(own)
    }

    /// `Σ_j q(x_j, y_i) v_j` for another quantity q than u.
    fn product_with(
        &self,
        quantity: Quantity,
        others: &Points<T>,
        v: Rows<'_, T>,
    ) -> Result<Vec<T>> {
        let (n, m, r) = (self.points(), others.len(), v.cols());
        let kernel = Kernel { quantity, ..self.kernel() };
        let mut out = vec![T::ZERO; m * r];
        let items = RowsMut::new(&mut out, m, r)?.into_blocks(TILE).enumerate().collect();
        parallel::for_each(items, |(i, out): (usize, RowsMut<'_, T>), scratch| {
            let block = Block {
                rows: (others, i * TILE..i * TILE + out.rows()),
                cols: (self.laid_out(), 0..n),
            };
            stein::product(self.isa(), kernel, block, v, out, scratch);
        });
        Ok(out)
    }
}

fn finite<T: Real>(values: Vec<T>) -> Result<Vec<T>> {
    match values.iter().find(|value| !value.to_f64().is_finite()) {
        None => Ok(values),
        Some(value) => {
            let expected = "finite (points, scores or constants of the kernel are too large)";
            Err(Error::parameter("witness function", expected, value))
        }
    }
}

/// The gradient of KSD² by the scores at fixed points: what does not depend on scores is computed once.
pub(crate) struct ScoreGradient<T> {
    gram: Gram<T>,
    parts: (bool, bool),
    statistic: Statistic,
    x: Vec<T>,
    slopes: Vec<T>,
}

impl<T: Real> ScoreGradient<T> {
    /// For the matrix's points x (n×d).
    pub(crate) fn new(gram: Gram<T>, x: Rows<'_, T>, statistic: Statistic) -> Result<Self> {
        super::statistics::check_count(statistic, gram.points())?;
        let parts = gram.parts()?;
        let slopes = gram.slopes_at(parts, x, gram.laid_out(), x)?;
        Ok(Self { gram, parts, statistic, x: x.iter().flatten().copied().collect(), slopes })
    }

    /// At scores (n×d).
    pub(crate) fn at(&self, score: Rows<'_, T>) -> Result<Vec<T>> {
        let Self { gram, slopes, .. } = self;
        let (n, d) = (gram.points(), gram.dim());
        let x = Rows::new(&self.x, n, d)?;
        let drift = gram.drift(x, score);
        let mut gradient = gram.values_at(self.parts, x, &drift, gram.laid_out(), x)?;
        let scale = T::from_f64(1.0 / n as f64);
        gradient.iter_mut().zip(slopes).for_each(|(g, &slope)| *g = scale * (*g + slope));
        let (factor, own) = match self.statistic {
            Statistic::V => (2.0 / n as f64, None),
            Statistic::U => (2.0 / (n as f64 - 1.0), Some(gram.own_part(x, score)?)),
        };
        let factor = T::from_f64(factor);
        let sphere = gram.kernel().space == Space::Sphere;
        for (j, gradient) in gradient.chunks_exact_mut(d).enumerate() {
            if let Some(own) = &own {
                gradient.iter_mut().zip(&own[j * d..]).for_each(|(g, &own)| *g -= own);
            }
            gradient.iter_mut().for_each(|g| *g *= factor);
            if sphere {
                let normal = dot(gradient, x.row(j));
                gradient.iter_mut().zip(x.row(j)).for_each(|(g, &x)| *g -= normal * x);
            }
        }
        Ok(gradient)
    }
}

/// Stein variational gradient descent (Liu and Wang 2016): moves points until they stand for a density, by steps along the
/// witness function of a Gaussian kernel. R^d only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Svgd {
    step: f64,
    bandwidth: Option<f64>,
}

impl Svgd {
    /// With steps of this size in each coordinate, in units of the root of a running mean (factor 0.9) of the squared direction
    /// plus 1e-6, as in RMSProp.
    pub fn new(step: f64) -> Self {
        Self { step, bandwidth: None }
    }

    /// With exp(-|x - y|²/2h²) at all times. If not said, h² is the squared median distance of the points at every step over
    /// 2 log(n + 1), where the paper has log n; a single point has no distances and wants a bandwidth.
    pub fn bandwidth(self, h: f64) -> Self {
        Self { bandwidth: Some(h), ..self }
    }

    /// The direction at points x (n×d): the mean over j of k(x_j, x_i) s_j + ∇_(x_j) k(x_j, x_i).
    ///
    /// # Errors
    /// If shapes differ, values are not finite or too large, or the median distance is 0.
    pub fn direction<T: Real>(&self, x: Rows<'_, T>, score: Rows<'_, T>) -> Result<Vec<T>> {
        let h = match self.bandwidth {
            Some(h) => h,
            None => median_distance(x)? / (2.0 * libm::log(x.rows() as f64 + 1.0)).sqrt(),
        };
        Gram::new(&SteinKernel::rbf(h)?, x, score)?.witness(x, score, x)
    }

    /// Moves x (n×d) `steps` times.
    ///
    /// # Errors
    /// As [`direction`](Self::direction); if the step is not positive, the energy is not one in R^d of dimension d, or
    /// whatever the energy returns.
    pub fn run<T: Real, E: Energy<T> + ?Sized>(
        &self,
        energy: &E,
        mut x: RowsMut<'_, T>,
        steps: usize,
    ) -> Result<()> {
        /// What a step keeps of the running mean of squares.
        const KEEP: f64 = 0.9;
        if !(self.step > 0.0 && self.step.is_finite()) {
            return Err(Error::parameter("step", "positive and finite", self.step));
        }
        if energy.domain() != Domain::Euclidean {
            return Err(Error::parameter("domain", "R^d for SVGD", energy.domain()));
        }
        let (n, d) = (x.rows(), x.cols());
        if energy.dim() != d {
            return Err(ShapeError::new("columns of x", energy.dim(), d).into());
        }
        let mut score = vec![T::ZERO; n * d];
        let mut squares: Vec<f64> = Vec::new();
        for _ in 0..steps {
            energy.potential_score(x.as_rows(), None, Some(RowsMut::new(&mut score, n, d)?))?;
            let direction = self.direction(x.as_rows(), Rows::new(&score, n, d)?)?;
            let fresh = direction.iter().map(|g| g.to_f64() * g.to_f64());
            if squares.is_empty() {
                squares = fresh.collect();
            } else {
                squares.iter_mut().zip(fresh).for_each(|(s, g)| *s = KEEP * *s + (1.0 - KEEP) * g);
            }
            if let Some(square) = squares.iter().find(|square| !square.is_finite()) {
                let expected = "finite (scores are too large)";
                return Err(Error::parameter("squared direction", expected, square));
            }
            for i in 0..n {
                let direction = direction[i * d..].iter().zip(&squares[i * d..]);
                for (x, (g, square)) in x.row_mut(i).iter_mut().zip(direction) {
                    *x += T::from_f64(self.step * g.to_f64() / (1e-6 + square.sqrt()));
                }
            }
            check_finite("the points", x.as_rows())?;
        }
        Ok(())
    }
}
