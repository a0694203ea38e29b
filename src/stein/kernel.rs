//! Stein kernels and their bandwidths.

use crate::{Domain, Error, Real, Result, Rows, data::check_finite, error::number};
use faer::{MatRef, Side, linalg::solvers::Llt};
use gibbsite_kernels::{
    ShapeError,
    chain::Space,
    stein::{Base, Kernel, Points, Quantity, Radial},
};

/// What a Stein kernel is made of: a kernel, the domain, and a metric. See [`gibbsite_kernels::stein`] for the formulas.
#[derive(Clone, Debug, PartialEq)]
pub struct SteinKernel {
    base: Base<f64>,
    domain: Domain,
    /// Λ, row-major d×d.
    metric: Option<Vec<f64>>,
}

impl SteinKernel {
    fn new(base: Base<f64>) -> Self {
        Self { base, domain: Domain::Euclidean, metric: None }
    }

    /// Inverse multiquadric (c² + |x - y|²)^b. With -1 < b < 0, convergence of the KSD to 0 is convergence in law
    /// (Gorham and Mackey 2017).
    ///
    /// # Errors
    /// If `c` is not positive, `exponent` not negative, either not finite, or c² no positive finite number.
    pub fn imq(c: f64, exponent: f64) -> Result<Self> {
        if !(exponent < 0.0 && exponent.is_finite()) {
            return Err(Error::parameter("exponent", "negative and finite", exponent));
        }
        Ok(Self::new(Base::Radial(Radial::Imq { offset: bandwidth(c)?, exponent })))
    }

    /// Gaussian exp(-|x - y|² / 2h²).
    ///
    /// # Errors
    /// If `h` is not positive, or h² no positive finite number.
    pub fn rbf(h: f64) -> Result<Self> {
        Ok(Self::new(Base::Radial(Radial::Rbf { precision: 1.0 / bandwidth(h)? })))
    }

    /// Linear 1 + x·y: compares means and second moments.
    pub fn linear() -> Self {
        Self::new(Base::Linear)
    }

    /// Arc-cosine of degree 1, the kernel of random ReLU neurons (Cho and Saul 2009): the space F2 of the paper. In R^d no
    /// point may be 0.
    pub fn arc_cosine() -> Self {
        Self::new(Base::ArcCosine)
    }

    /// The sum with the linear kernel, which sees the moments that radial kernels miss in the tails.
    ///
    /// # Errors
    /// Of kernels that are not radial.
    pub fn plus_linear(self) -> Result<Self> {
        let base = match self.base {
            Base::Radial(radial) => Base::RadialLinear(radial),
            other => {
                return Err(Error::parameter(
                    "kernel",
                    "rbf or imq for a sum",
                    format!("{other:?}"),
                ));
            }
        };
        Ok(Self { base, ..self })
    }

    /// On the unit sphere instead of R^d: with its Stein operator, for tangential scores. |x - y|² is 2 - 2 x·y.
    pub fn on_sphere(self) -> Self {
        Self { domain: Domain::Sphere, ..self }
    }

    /// In R^d with rᵀΛr for |r|², by a symmetric positive definite Λ (d×d): the inverse covariance of the points, say. Λ is factored
    /// by faer, so last digits depend on the CPU.
    ///
    /// # Errors
    /// If Λ is not square, symmetric and finite, for kernels that are no functions of the distance alone, and on the sphere. That Λ is
    /// positive definite, and points not too far apart in it for their type, is checked by [`Gram::new`](crate::stein::Gram::new).
    pub fn with_metric(self, precision: Rows<'_, f64>) -> Result<Self> {
        if precision.rows() != precision.cols() {
            return Err(ShapeError::new(
                "columns of the metric",
                precision.rows(),
                precision.cols(),
            )
            .into());
        }
        check_finite("the metric", precision)?;
        let largest = precision.iter().flatten().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        for (i, row) in precision.iter().enumerate() {
            for (j, &value) in row.iter().enumerate() {
                // Rounding may well have been different on both sides.
                if (value - precision.row(j)[i]).abs() > 1e-10 * largest {
                    let [value, other] = [value, precision.row(j)[i]].map(number);
                    let got = format!("{value} and {other} at ({i}, {j})");
                    return Err(Error::parameter("metric", "symmetric", got));
                }
            }
        }
        let kernel = Self { metric: Some(precision.iter().flatten().copied().collect()), ..self };
        kernel.check_metric()?;
        Ok(kernel)
    }

    fn check_metric(&self) -> Result<()> {
        let radial = matches!(self.base, Base::Radial(_));
        match self.metric.is_none() || radial && self.domain == Domain::Euclidean {
            true => Ok(()),
            false => Err(Error::parameter("metric", "absent but for radial kernels in R^d", "one")),
        }
    }

    pub(super) fn has_metric(&self) -> bool {
        self.metric.is_some()
    }

    /// Where points live.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// Whether points laid out for one serve the other, which then differs in its constants alone.
    pub(super) fn shares_points(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.base) == std::mem::discriminant(&other.base)
            && self.domain == other.domain
            && self.metric == other.metric
    }

    /// h or c of a part that is a function of the distance, else 1.
    pub(super) fn bandwidth(&self) -> f64 {
        match self.base {
            Base::Radial(part) | Base::RadialLinear(part) => match part {
                Radial::Rbf { precision } => precision.sqrt().recip(),
                Radial::Imq { offset, .. } => offset.sqrt(),
            },
            Base::Linear | Base::ArcCosine => 1.0,
        }
    }

    /// The kernel in the points' type.
    pub(super) fn of_type<T: Real>(&self) -> Result<Kernel<T>> {
        // Errors tell what the user gave, of which the value may be a power.
        let number = |what, value: f64, given: f64| {
            let rounded = T::from_f64(value);
            let usable = rounded.to_f64() != 0.0 && gibbsite_kernels::Real::is_finite(rounded);
            let expected = "within the type's range, squared as well";
            usable.then_some(rounded).ok_or_else(|| Error::parameter(what, expected, given))
        };
        let radial = |radial: Radial<f64>| -> Result<_> {
            Ok(match radial {
                Radial::Rbf { precision } => {
                    Radial::Rbf { precision: number("bandwidth", precision, self.bandwidth())? }
                }
                Radial::Imq { offset, exponent } => Radial::Imq {
                    offset: number("bandwidth", offset, self.bandwidth())?,
                    exponent: number("exponent", exponent, exponent)?,
                },
            })
        };
        let base = match self.base {
            Base::Radial(part) => Base::Radial(radial(part)?),
            Base::Linear => Base::Linear,
            Base::RadialLinear(part) => Base::RadialLinear(radial(part)?),
            Base::ArcCosine => Base::ArcCosine,
        };
        let space = match self.domain {
            Domain::Euclidean => Space::Flat,
            Domain::Sphere => Space::Sphere,
        };
        Ok(Kernel { base, space, quantity: Quantity::Stein })
    }

    /// Lays out points and scores.
    pub(super) fn points<T: Real>(&self, x: Rows<'_, T>, score: Rows<'_, T>) -> Result<Points<T>> {
        self.check_metric()?;
        let Some(metric) = &self.metric else {
            if (self.base, self.domain) != (Base::ArcCosine, Domain::Euclidean) {
                return Ok(Points::new(x, score)?);
            }
            let square = |x: &[T]| crate::data::dot(x, x).to_f64();
            // Squares of subnormal precision give no direction.
            let least = T::MIN_POSITIVE.to_f64() / <T as gibbsite_kernels::Real>::EPSILON.to_f64();
            let lost = |x: &[T]| !(square(x) >= least && square(x).is_finite());
            if let Some(row) = x.iter().position(lost) {
                let got = format!("{:e} in row {row}", square(x.row(row)));
                let what = "squared norm of points for the arc-cosine kernel";
                return Err(Error::parameter(what, "within the range of normal numbers", got));
            }
            return Ok(Points::with_directions(x, score)?);
        };
        let (n, d) = (x.rows(), x.cols());
        if metric.len() != d * d {
            let expected = format!("{d} x {d}");
            return Err(
                ShapeError::new("metric", expected, format!("{} values", metric.len())).into()
            );
        }
        let factor = Llt::new(MatRef::from_row_major_slice(metric, d, d), Side::Lower)
            .map_err(|_| Error::parameter("metric", "positive definite", "another matrix"))?;
        let lower = factor.L();
        // Λ = L Lᵀ: r goes to Lᵀ r. Points are centred, so that nothing cancels if they are far from the origin.
        let white: Vec<f64> = (0..d * d).map(|i| lower[(i % d, i / d)]).collect();
        let mut mean = vec![0.0; d];
        for x in x.iter() {
            mean.iter_mut().zip(x).for_each(|(mean, &x)| *mean += x.to_f64() / n as f64);
        }
        let zero = vec![0.0; d];
        let map = |matrix: &[f64], rows: Rows<'_, T>, origin: &[f64]| -> Vec<T> {
            let apply = |row: &[T]| -> Vec<T> {
                let centred: Vec<f64> =
                    row.iter().zip(origin).map(|(&x, origin)| x.to_f64() - origin).collect();
                let line = |line: &[f64]| line.iter().zip(&centred).map(|(a, x)| a * x).sum();
                matrix.chunks_exact(d).map(|row| T::from_f64(line(row))).collect()
            };
            rows.iter().flat_map(apply).collect()
        };
        let parts = [map(&white, x, &mean), map(&white, score, &zero), map(metric, x, &mean)];
        let [white, white_score, precise] = &parts;
        let furthest = white
            .chunks_exact(d)
            .map(|x| x.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt() / self.bandwidth())
            .fold(0.0, f64::max);
        if !(furthest * <T as gibbsite_kernels::Real>::EPSILON.to_f64() <= COARSEST) {
            let what = "distance of a point from the mean in the metric, in bandwidths";
            let expected = "at most 8192 in f32, 4.3e12 in f64, for want of digits";
            return Err(Error::parameter(what, expected, furthest));
        }
        let rows = |data| Rows::new(data, n, d);
        let trace = T::from_f64((0..d).map(|k| metric[k * d + k]).sum());
        Ok(Points::with_metric(rows(white)?, rows(white_score)?, score, rows(precise)?, trace)?)
    }
}

/// The square of a bandwidth.
fn bandwidth(h: f64) -> Result<f64> {
    let square = h * h;
    match h > 0.0 && square.is_normal() && square.recip().is_normal() {
        true => Ok(square),
        false => Err(Error::parameter(
            "bandwidth",
            "a number whose square is within the range of numbers",
            h,
        )),
    }
}

/// Bandwidths by which rounding may move points in a metric: what is summed of three roundings of each would else no longer be a
/// positive kernel.
const COARSEST: f64 = 1.0 / 1024.0;

/// Rows that [`median_distance`] looks at, at most.
const SUBSAMPLE: usize = 1000;

/// Median of the pairwise distances of the rows, the usual bandwidth; of more than 1000 rows, 1000 at equal steps
/// through the data are looked at. The mean of the two middle distances if their number is even.
///
/// # Errors
/// If there are fewer than two rows, a value is not finite, or the median is 0 (most points are equal).
pub fn median_distance<T: Real>(x: Rows<'_, T>) -> Result<f64> {
    check_finite("the points", x)?;
    if x.rows() < 2 {
        return Err(Error::parameter(
            "number of points",
            "at least 2 for a median distance",
            x.rows(),
        ));
    }
    let count = x.rows().min(SUBSAMPLE);
    let row = |i: usize| x.row((i as u128 * x.rows() as u128 / count as u128) as usize);
    let mut distances = Vec::with_capacity(count * (count - 1) / 2);
    for i in 0..count {
        for j in 0..i {
            let square =
                row(i).iter().zip(row(j)).map(|(&a, &b)| (a.to_f64() - b.to_f64()).powi(2));
            distances.push(square.sum::<f64>().sqrt());
        }
    }
    let middle = distances.len() / 2;
    let (below, &mut upper, _) = distances.select_nth_unstable_by(middle, f64::total_cmp);
    let median = match below.iter().copied().reduce(f64::max) {
        Some(lower) if (count * (count - 1) / 2).is_multiple_of(2) => 0.5 * (lower + upper),
        _ => upper,
    };
    match median > 0.0 && median.is_finite() {
        true => Ok(median),
        false => {
            let expected = "positive and finite";
            Err(Error::parameter("median distance of the points", expected, median))
        }
    }
}
