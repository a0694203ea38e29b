//! What to watch while a model trains: norms, slopes, curvature, and how far the regime is from the lazy one.
//!
//! Everything is computed in double precision, of f alone where β is not mentioned.

use crate::{
    Error, Real, ReluEnergy, Result, Rows,
    data::{check_finite, check_finite_slice, dot, finite, try_zeros},
    energy::carried_sums,
    random::Stream,
};
use faer::{Mat, MatRef, Side};
use gibbsite_kernels::{ShapeError, relu::Gate};

/// (1/m) Σ_j |w_j| |(θ_j, b_j)|: the F1 or path norm.
pub fn f1_norm<T: Real>(model: &ReluEnergy<T>) -> f64 {
    let of_neuron = |(w, mut theta, b): (f64, Vec<f64>, f64)| {
        theta.push(b);
        w.abs() * norm(&theta)
    };
    neurons(model).map(of_neuron).sum::<f64>() / model.neurons() as f64
}

/// √((1/m) Σ_j w_j²): the norm in F2, where neurons are fixed.
pub fn f2_norm<T: Real>(model: &ReluEnergy<T>) -> f64 {
    let w: Vec<f64> = neurons(model).map(|(w, ..)| w).collect();
    norm(&w) / (model.neurons() as f64).sqrt()
}

/// (1/m) Σ_j |w_j| |θ_j|: a Lipschitz constant of f on the whole space.
pub fn lipschitz<T: Real>(model: &ReluEnergy<T>) -> f64 {
    let slope = |(w, theta, _): (f64, Vec<f64>, f64)| w.abs() * norm(&theta);
    neurons(model).map(slope).sum::<f64>() / model.neurons() as f64
}

/// A Lipschitz constant of f on the ball of this radius around `centre`, never above [`lipschitz`]. There, neurons are always on,
/// always off, or unstable, with a derivative within 0 to 1:
///
/// ```text
/// (1/m) (|g_on + g_unstable/2| + Σ_unstable |w_j| |θ_j| / 2),    g = Σ w_j θ_j
/// ```
///
/// Costs some m·8d flops.
///
/// # Errors
/// If the length of `centre` is not d or a value of it not finite, or if the radius is negative or not finite.
pub fn local_lipschitz<T: Real>(model: &ReluEnergy<T>, centre: &[T], radius: f64) -> Result<f64> {
    if centre.len() != model.dim() {
        return Err(ShapeError::new("centre of the ball", model.dim(), centre.len()).into());
    }
    check_finite_slice("the centre of the ball", centre)?;
    if !(radius >= 0.0 && radius.is_finite()) {
        return Err(Error::parameter("radius", "finite and not negative", radius));
    }
    let centre = wide(centre);
    let (mut middle, mut spread) = (vec![0.0; model.dim()], 0.0);
    for (w, theta, b) in neurons(model) {
        let (z, norm) = (dot(&theta, &centre) + b, norm(&theta));
        let derivative = if z >= radius * norm {
            1.0
        } else if z <= -radius * norm {
            0.0
        } else {
            spread += 0.5 * w.abs() * norm;
            0.5
        };
        middle.iter_mut().zip(&theta).for_each(|(g, theta)| *g += derivative * w * theta);
    }
    let local = (norm(&middle) + spread) / model.neurons() as f64;
    // Not if sums overflow, nor by rounding.
    let everywhere = lipschitz(model);
    Ok(if local < everywhere { local } else { everywhere })
}

/// w_j² - |θ_j|² - b_j² of every neuron. Gradient flow of any loss of f conserves it if all parameters have one rate, and gradient
/// descent up to the order of its step (Du, Hu and Lee 2018, theorem 2.1); weight decay draws it to 0.
pub fn imbalance<T: Real>(model: &ReluEnergy<T>) -> Vec<f64> {
    let of_neuron = |(w, mut theta, b): (f64, Vec<f64>, f64)| {
        theta.push(b);
        let norm = norm(&theta);
        // Squares may overflow where their difference does not.
        (w.abs() - norm) * (w.abs() + norm)
    };
    neurons(model).map(of_neuron).collect()
}

/// Found by [`curvature`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Curvature {
    /// The sum of all eigenvalues.
    pub trace: f64,
    /// The largest eigenvalue.
    pub largest: f64,
}

/// Curvature of the negative log-likelihood in all parameters: that of β² Cov(∂f) under the model, the Fisher information.
///
/// `points` (n×d) and `weights` (length n, of any sum) stand for the model, like those of a [`LogZ`](crate::normaliser::LogZ). This
/// is the Hessian where no point is at a kink, but for the coupling of w_j with (θ_j, b_j) by E_data[∂²f] - E_model[∂²f]. That
/// does not contribute to the trace, and vanishes where the gradient by θ_j does and w_j is not 0.
///
/// Descent at one rate for all parameters is stable while `largest` is below 2 / rate, and often settles there (Cohen et al.
/// 2021). With several rates, as in [`train`](crate::train) (m l and 100 m l), below 2 / the largest one is enough.
///
/// `largest` comes from below by Lanczos' method from a fixed start, without a matrix: it stops when the residual is 1e-6 of the
/// value, at the latest after 100 products with the covariance, which cost n·m·8d flops each. Holds n·d + m·d values a few times
/// over. Last digits depend on the CPU. `trace` is a difference of means of squares: its error is some epsilons of the mean square
/// of the gradient, which hides curvatures smaller than that, such as those of points far from the origin and close to each other.
///
/// # Errors
/// If shapes differ, there are no points, one is not finite, a weight is negative or not finite, their sum is 0 or not finite, or
/// the curvature is too large for a number.
pub fn curvature<T: Real>(
    model: &ReluEnergy<T>,
    points: Rows<'_, T>,
    weights: &[f64],
) -> Result<Curvature> {
    check_points(model, points)?;
    if weights.len() != points.rows() {
        return Err(ShapeError::new("weights of the points", points.rows(), weights.len()).into());
    }
    let expected = "finite and not negative";
    if let Some(weight) = weights.iter().find(|weight| !(**weight >= 0.0 && weight.is_finite())) {
        return Err(Error::parameter("weight of a point", expected, weight));
    }
    let sum = weights.iter().sum::<f64>();
    if !(sum > 0.0 && sum.is_finite()) {
        return Err(Error::parameter("sum of the weights", "positive and finite", sum));
    }
    let covariance = Covariance {
        model: homogeneous(model)?,
        x: lifted(points, |_| model.bias().map(|_| 1.0)),
        weights: weights.iter().map(|weight| weight / sum).collect(),
    };
    // Not its square, which may underflow.
    let beta = model.beta().to_f64();
    let trace = beta * (beta * covariance.trace()?);
    if !trace.is_finite() {
        let expected = "finite (points or parameters are too large)";
        return Err(Error::parameter("curvature", expected, trace));
    }
    Ok(Curvature { trace, largest: beta * (beta * covariance.largest()?) })
}

/// The neural tangent kernel of f at the rows of `x` (n×d), n×n row-major, all parameters at one rate (Jacot, Gabriel and Hongler
/// 2018); z_j = θ_j·x + b_j, and the 1 is there if there are biases:
///
/// ```text
/// ∂f(x)·∂f(x') = (1/m²) Σ_j [z_j⁺ z_j'⁺ + w_j² 1{z_j > 0} 1{z_j' > 0} (x·x' + 1)]
/// ```
///
/// Costs n (2n + d)·2m flops, and holds n (n + m + d) values a few times over. Last digits depend on the CPU.
///
/// # Errors
/// If shapes differ, there are no points or one is not finite, memory cannot hold the kernel, or a value overflows.
pub fn ntk<T: Real>(model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<Vec<f64>> {
    check_points(model, x)?;
    let (n, m) = (x.rows(), model.neurons());
    let mut kernel = try_zeros("number of points", n, n)?;
    let (model, x) = (homogeneous(model)?, lifted(x, |_| model.bias().map(|_| 1.0)));
    let x = MatRef::from_row_major_slice(&x, n, model.dim());
    let z = x * MatRef::from_row_major_slice(model.theta().as_slice(), m, model.dim()).transpose();
    let relu = Mat::from_fn(n, m, |i, j| z[(i, j)].max(0.0));
    let gate = Mat::from_fn(n, m, |i, j| if z[(i, j)] > 0.0 { model.w()[j] } else { 0.0 });
    let [relu, gate] = [relu, gate].map(|factor| &factor * factor.transpose());
    let (gram, square) = (x * x.transpose(), (m * m) as f64);
    let entry = |i, j| (relu[(i, j)] + gate[(i, j)] * gram[(i, j)]) / square;
    kernel.iter_mut().enumerate().for_each(|(at, value)| *value = entry(at / n, at % n));
    let expected = "finite (points or parameters are too large)";
    kernel.iter().try_for_each(|&value| finite("tangent kernel", expected, value).map(drop))?;
    Ok(kernel)
}

/// |K_now - K_start| / |K_start| of the [`ntk`]s of two models, in Frobenius' norm: near 0 in the lazy regime, where a model is
/// linear in its parameters (Chizat, Oyallon and Bach 2019).
///
/// # Errors
/// As [`ntk`]; if K_start is 0, which it is if no neuron of `start` is active at a point.
pub fn ntk_drift<T: Real>(
    start: &ReluEnergy<T>,
    now: &ReluEnergy<T>,
    x: Rows<'_, T>,
) -> Result<f64> {
    let (start, mut difference) = (ntk(start, x)?, ntk(now, x)?);
    let scale = norm(&start);
    if scale == 0.0 {
        return Err(Error::Zero { what: "the tangent kernel at the start" });
    }
    difference.iter_mut().zip(&start).for_each(|(now, start)| *now -= start);
    Ok(norm(&difference) / scale)
}

/// Cov(∂f) over weighted points of a model without biases; parameters in the order w, θ.
struct Covariance {
    model: ReluEnergy<f64>,
    x: Vec<f64>,
    weights: Vec<f64>,
}

impl Covariance {
    /// E|∂f|² - |E ∂f|².
    fn trace(&self) -> Result<f64> {
        let (d, m) = (self.model.dim(), self.model.neurons());
        let relus = self.sums(self.model.theta().as_slice(), Gate::Relu)?;
        let mut squares = vec![0.0; m * d];
        squares.iter_mut().step_by(d).zip(self.model.w()).for_each(|(square, w)| *square = w * w);
        let gates = self.sums(&squares, Gate::Step)?;
        let mut second = 0.0;
        for (i, x) in self.x.chunks_exact(d).enumerate() {
            let of_point = dot(x, &relus[i * d..][..d]) + dot(x, x) * gates[i * d];
            second += self.weights[i] * of_point / (m * m) as f64;
        }
        let mean = self.gradient(&self.weights)?;
        Ok(second - dot(&mean, &mean))
    }

    /// The largest eigenvalue, by Lanczos' method.
    fn largest(&self) -> Result<f64> {
        const TOLERANCE: f64 = 1e-6;
        const PRODUCTS: usize = 100;
        let mut direction = vec![0.0; self.model.neurons() * (1 + self.model.dim())];
        Stream::new(0, LANCZOS_STREAM).fill_sphere(&mut direction);
        let mut before = vec![0.0; direction.len()];
        let (mut diagonal, mut off): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        loop {
            let mut next = self.times(&direction)?;
            let along = dot(&direction, &next);
            let back = off.last().copied().unwrap_or(0.0);
            for ((next, direction), before) in next.iter_mut().zip(&direction).zip(&before) {
                *next -= along * direction + back * before;
            }
            let length = norm(&next);
            diagonal.push(along);
            // Directions are not made orthogonal again: that repeats eigenvalues, and leaves the largest as it is.
            let (value, last) = largest_pair(&diagonal, &off)?;
            if length * last.abs() <= TOLERANCE * value.abs() || diagonal.len() == PRODUCTS {
                return Ok(value);
            }
            off.push(length);
            next.iter_mut().for_each(|next| *next /= length);
            before = std::mem::replace(&mut direction, next);
        }
    }

    /// The product with a vector: E[(∂f - E ∂f) (∂f·v)].
    fn times(&self, v: &[f64]) -> Result<Vec<f64>> {
        let (d, m) = (self.model.dim(), self.model.neurons());
        // ∂f(x)·v = (1/m) x·Σ_j 1{θ_j·x > 0} (v_j θ_j + w_j u_j), v = (v_1 .. v_m, u_1 .. u_m).
        let (of_w, of_theta) = v.split_at(m);
        let mut carried = Vec::with_capacity(m * d);
        for (j, theta) in self.model.theta().iter().enumerate() {
            let (w, v, u) = (self.model.w()[j], of_w[j], &of_theta[j * d..][..d]);
            carried.extend(theta.iter().zip(u).map(|(theta, u)| v * theta + w * u));
        }
        let sums = self.sums(&carried, Gate::Step)?;
        let points = self.x.chunks_exact(d).zip(sums.chunks_exact(d));
        let mut slopes: Vec<f64> = points.map(|(x, sum)| dot(x, sum) / m as f64).collect();
        let mean = dot(&slopes, &self.weights);
        slopes.iter_mut().zip(&self.weights).for_each(|(slope, p)| *slope = p * (*slope - mean));
        self.gradient(&slopes)
    }

    /// Σ_i r_i ∂f(x_i).
    fn gradient(&self, r: &[f64]) -> Result<Vec<f64>> {
        let mut grad = self.model.zero_grad();
        let x = Rows::new(&self.x, self.weights.len(), self.model.dim())?;
        self.model.param_grad(x, Some(r), &mut grad)?;
        Ok([grad.w, grad.theta].concat())
    }

    /// Σ_j g(θ_j·x_i) v_j at every point; v is m×d.
    fn sums(&self, v: &[f64], gate: Gate) -> Result<Vec<f64>> {
        let (n, d, m) = (self.weights.len(), self.model.dim(), self.model.neurons());
        let (x, v) = (Rows::new(&self.x, n, d)?, Rows::new(v, m, d)?);
        carried_sums(self.model.isa(), x, None, self.model.theta(), v, gate)
    }
}

/// Where Lanczos' method starts.
const LANCZOS_STREAM: u64 = 1 << 50;

/// The largest eigenvalue of a symmetric tridiagonal matrix, and the last entry of its eigenvector.
fn largest_pair(diagonal: &[f64], off: &[f64]) -> Result<(f64, f64)> {
    let k = diagonal.len();
    let mut matrix = Mat::zeros(k, k);
    for (i, &value) in diagonal.iter().enumerate() {
        matrix[(i, i)] = value;
    }
    for (i, &value) in off.iter().enumerate() {
        matrix[(i + 1, i)] = value;
    }
    let eigen = matrix.self_adjoint_eigen(Side::Lower).map_err(|_| {
        Error::parameter("covariance of the gradients", "one with eigenvalues", "another")
    })?;
    Ok((eigen.S()[k - 1], eigen.U()[(k - 1, k - 1)]))
}

/// The model with (θ, b) for neurons, which has no biases: f(x) is its energy at (x, 1).
fn homogeneous<T: Real>(model: &ReluEnergy<T>) -> Result<ReluEnergy<f64>> {
    let m = model.neurons();
    let theta = lifted(model.theta(), |j| model.bias().map(|bias| bias[j].to_f64()));
    let homogeneous = ReluEnergy::new(Rows::new(&theta, m, theta.len() / m)?, &wide(model.w()))?;
    Ok(homogeneous.with_isa(model.isa()).with_backend(model.backend()))
}

/// Rows with one more value at the end, if there is one.
fn lifted<T: Real>(rows: Rows<'_, T>, last: impl Fn(usize) -> Option<f64>) -> Vec<f64> {
    let row = |(i, row)| wide(row).into_iter().chain(last(i));
    rows.iter().enumerate().flat_map(row).collect()
}

/// w_j, θ_j and b_j of every neuron.
fn neurons<T: Real>(model: &ReluEnergy<T>) -> impl Iterator<Item = (f64, Vec<f64>, f64)> {
    model.theta().iter().zip(model.w()).enumerate().map(|(j, (theta, w))| {
        (w.to_f64(), wide(theta), model.bias().map_or(0.0, |bias| bias[j].to_f64()))
    })
}

fn wide<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

fn norm(v: &[f64]) -> f64 {
    let norm = dot(v, v).sqrt();
    if (1e-140..1e150).contains(&norm) {
        return norm;
    }
    // Squares overflow or lose digits before the norm does.
    let largest = v.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    if largest == 0.0 || v.iter().any(|x| x.is_nan()) {
        return norm;
    }
    let scaled: Vec<f64> = v.iter().map(|x| x / largest).collect();
    largest * dot(&scaled, &scaled).sqrt()
}

fn check_points<T: Real>(model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<()> {
    if x.rows() == 0 {
        return Err(Error::Zero { what: "the number of points" });
    }
    if x.cols() != model.dim() {
        return Err(ShapeError::new("columns of the points", model.dim(), x.cols()).into());
    }
    check_finite("the points", x)
}
