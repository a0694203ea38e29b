//! The shallow ReLU model.

use super::{
    Domain, Energy,
    gemm::{Multiplier, Product},
};
use crate::{
    Error, Real, Result, Rows, RowsMut,
    data::{check_finite, check_finite_slice, check_on_sphere, check_shape, dot},
    parallel,
};
use gibbsite_kernels::{
    Isa, Scratch, ShapeError,
    chain::{self, ReluTarget, Space},
    relu::{self, Gate},
};
use std::ops::Range;

/// How the sums over neurons and samples are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// What [`ReluEnergy::path`] tells: [`Backend::Fused`] for every shape, so the same bits as that.
    #[default]
    Auto,
    /// Our register-tiled kernel: the same bits on every machine, for any number of threads and
    /// any split of the batch.
    Fused,
    /// faer's matrix product with our epilogue. Its sums may be taken in any order, so results are not bit-stable. Their error
    /// is at most γ_(d + c + 4) times the sum of the absolute values of all products that enter, for c neurons in energies and
    /// scores and c samples in parameter gradients; γ and the exception of gates as in [`gibbsite_kernels::relu`].
    Faer,
    /// The same with the product of the BLAS library that is linked. Threads are those of the rayon pool, as for the
    /// other backends: the library is held to one while it is at work, and has its own back afterwards. Only with the
    /// feature `blas`; the module `blas` of `gibbsite_kernels` tells how the library is found.
    #[cfg(feature = "blas")]
    Blas,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Backend::Auto => "auto",
            Backend::Fused => "fused",
            Backend::Faer => "faer",
            #[cfg(feature = "blas")]
            Backend::Blas => "blas",
        })
    }
}

/// Shallow ReLU energy with `m` neurons on R^d, or on the sphere in it:
///
/// ```text
/// f(x) = (1/m) Σ_j w_j max(θ_j·x + b_j, 0)
/// ```
///
/// and the model it stands for, with density p ∝ exp(-U), `U(x) = β f(x) + |x|²/(2s²)`. The inverse temperature β is 1
/// unless set; the second term is there if a Gaussian base measure N(0, s² I) is set, which makes the density
/// normalisable in R^d whatever the parameters.
///
/// ```
/// use gibbsite::{ReluEnergy, Rows, RowsMut};
///
/// let theta = [1.0, 0.0, 1.0, 1.0]; // two neurons in the plane
/// let model = ReluEnergy::new(Rows::new(&theta, 2, 2)?, &[3.0, -1.0])?;
///
/// let x = [2.0, 5.0, -1.0, 0.5]; // two points
/// let x = Rows::new(&x, 2, 2)?;
/// let mut energy = [0.0; 2];
/// model.energy(x, &mut energy)?;
/// assert_eq!(energy, [-0.5, 0.0]);
///
/// let mut score = [0.0; 4];
/// model.score(x, RowsMut::new(&mut score, 2, 2)?)?;
/// assert_eq!(score[..2], [-1.0, 0.5]);
///
/// let mut grad = model.zero_grad();
/// model.param_grad(x, None, &mut grad)?;
/// assert_eq!(grad.w, [1.0, 3.5]);
/// # Ok::<(), gibbsite::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReluEnergy<T: Real> {
    theta: Vec<T>,
    w: Vec<T>,
    bias: Option<Vec<T>>,
    dim: usize,
    domain: Domain,
    base_scale: Option<T>,
    beta: T,
    isa: Isa,
    backend: Backend,
    panel: relu::Panel<T>,
}

/// Gradients of Σ_i r_i f(x_i) with respect to the parameters of a [`ReluEnergy`].
#[derive(Clone, Debug, PartialEq)]
pub struct ParamGrad<T> {
    /// With respect to the outer weights, length m.
    pub w: Vec<T>,
    /// With respect to the neurons, m×d row-major.
    pub theta: Vec<T>,
    /// With respect to the biases, length m, if there are any.
    pub bias: Option<Vec<T>>,
}

/// Samples per partial sum of a parameter gradient, at most, and bytes of them, unless the sums have more: what is packed
/// should still be in cache when it is used, and adding sums cost little. Part of the numerical contract: each chunk is
/// summed from zero and the chunks are added in order.
const CHUNK: usize = 4096;
const CHUNK_BYTES: usize = 4 << 20;

/// Neurons per work item of a parameter gradient; a multiple of every register tile.
const NEURONS_PER_ITEM: usize = 192;

/// Samples per work item are a multiple of this, the widest register tile.
const TILE_ROWS: usize = 48;

/// Bytes that partial parameter gradients may take.
const PARTIAL_BYTES: usize = 64 << 20;

impl<T: Real> ReluEnergy<T> {
    /// A model on R^d without bias or base measure: `theta` is m×d, `w` has length m. The arrays are copied.
    ///
    /// # Errors
    /// If `m` or `d` is 0, if the lengths differ, or if a parameter is not finite.
    pub fn new(theta: Rows<'_, T>, w: &[T]) -> Result<Self> {
        if theta.rows() == 0 {
            return Err(Error::Zero { what: "the number of neurons" });
        }
        if theta.cols() == 0 {
            return Err(Error::Zero { what: "the dimension" });
        }
        if w.len() != theta.rows() {
            return Err(ShapeError::new("outer weights", theta.rows(), w.len()).into());
        }
        let isa = Isa::best();
        let model = Self {
            theta: theta.iter().flatten().copied().collect(),
            w: w.to_vec(),
            bias: None,
            dim: theta.cols(),
            domain: Domain::Euclidean,
            base_scale: None,
            beta: T::ONE,
            isa,
            backend: Backend::Auto,
            panel: relu::Panel::neurons(isa, theta, None, w)?,
        };
        model.check_parameters()?;
        Ok(model)
    }

    /// Adds a bias to every neuron.
    ///
    /// # Errors
    /// If there are not `m` biases or one is not finite.
    pub fn with_bias(mut self, bias: &[T]) -> Result<Self> {
        if bias.len() != self.w.len() {
            return Err(ShapeError::new("biases", self.w.len(), bias.len()).into());
        }
        self.bias = Some(bias.to_vec());
        self.check_parameters()?;
        self.pack();
        Ok(self)
    }

    /// Sets the domain.
    ///
    /// # Errors
    /// If a model with a Gaussian base measure is put on the sphere.
    pub fn with_domain(mut self, domain: Domain) -> Result<Self> {
        self.domain = domain;
        self.check_domain()
    }

    /// Sets the Gaussian base measure N(0, s² I).
    ///
    /// # Errors
    /// If `s` is not positive and finite, or 1/s² is not, or on the sphere.
    pub fn with_base_scale(mut self, s: T) -> Result<Self> {
        let precision = T::ONE / (s * s);
        if !(s > T::ZERO && precision > T::ZERO && precision.is_finite()) {
            let expected = "positive and finite, and 1 over its square as well";
            return Err(Error::parameter("base scale", expected, s));
        }
        self.base_scale = Some(s);
        self.check_domain()
    }

    /// Sets the inverse temperature.
    ///
    /// # Errors
    /// If `beta` is not positive and finite.
    pub fn with_beta(mut self, beta: T) -> Result<Self> {
        if !(beta > T::ZERO && beta.is_finite()) {
            return Err(Error::parameter("beta", "positive and finite", beta));
        }
        self.beta = beta;
        Ok(self)
    }

    /// Forces an instruction-set level, or the next lower one that the CPU offers.
    pub fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = isa.or_lower();
        self.pack();
        self
    }

    /// Forces a backend.
    pub fn with_backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// The backend.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The plan: what computes, the backend that was forced or the one that [`Backend::Auto`] stands for. That is the fused
    /// kernel for every shape: it is the fastest where the work is, and the others do not keep the bits.
    ///
    /// Time by the faster library over time by the fused kernel, median over energies, scores and parameter gradients:
    ///
    /// | n | m | d | AVX-512: f32 | f64 | AVX2: f32 | f64 |
    /// |---|---|---|---|---|---|---|
    /// | 32 to 8192 | 100 to 2000 | 2, 15 | 3.1 | 2.4 | 2.4 | 2.2 |
    /// | | | 64 | 1.4 | 1.3 | 1.2 | 1.2 |
    /// | | | 256, 784 | 1.2 | 1.1 | 1.1 | 1.1 |
    /// | 32 to 8192 | 10 | 2, 15 | 2.3 | 1.7 | 2.0 | 1.6 |
    /// | | | 64 | 1.1 | 0.8 | 1.3 | 1.1 |
    /// | | | 256, 784 | 0.7 | 0.7 | 1.3 | 1.0 |
    /// | 1 | 10 to 2000 | 2, 15 | 4.4 | 4.1 | 4.0 | 4.2 |
    /// | | | 64 | 1.3 | 1.3 | 1.6 | 2.3 |
    /// | | | 256, 784 | 0.6 | 0.7 | 1.2 | 1.5 |
    ///
    /// (One thread of an AMD EPYC "Turin", 2026-11-22, the least of some runs; faer 0.24.4 and OpenBLAS 0.3.21 with its kernels
    /// for AVX-512, and these for AVX2 alone, since faer cannot be held to it.) So single points and models of some ten
    /// neurons in hundreds of dimensions are those that may gain on AVX-512 by forcing another, if their bits do not matter.
    pub fn path(&self) -> Backend {
        match self.backend {
            Backend::Auto => Backend::Fused,
            forced => forced,
        }
    }

    /// What the kernel for chains needs to know; nothing if a library computes the products.
    pub(crate) fn chain_target(&self) -> Option<ReluTarget<'_, T>> {
        self.multiplier().is_none().then(|| self.target())
    }

    fn target(&self) -> ReluTarget<'_, T> {
        ReluTarget {
            panel: &self.panel,
            beta: self.beta,
            precision: self.base_scale.map(|s| T::ONE / (s * s)),
            space: match self.domain {
                Domain::Euclidean => Space::Flat,
                Domain::Sphere => Space::Sphere,
            },
        }
    }

    /// Number of neurons m.
    pub fn neurons(&self) -> usize {
        self.w.len()
    }

    /// Dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The neurons θ, m×d.
    pub fn theta(&self) -> Rows<'_, T> {
        Rows::new(&self.theta, self.w.len(), self.dim).expect("checked when the model was made")
    }

    /// The outer weights, length m.
    pub fn w(&self) -> &[T] {
        &self.w
    }

    /// The biases, length m, if there are any.
    pub fn bias(&self) -> Option<&[T]> {
        self.bias.as_deref()
    }

    /// The domain.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// Scale s of the Gaussian base measure, if there is one.
    pub fn base_scale(&self) -> Option<T> {
        self.base_scale
    }

    /// The inverse temperature β.
    pub fn beta(&self) -> T {
        self.beta
    }

    /// The instruction-set level in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Changes the parameters in place: `update` receives w, θ (m×d, row-major) and the biases.
    ///
    /// # Errors
    /// If a parameter is not finite afterwards; the model then keeps what it had before.
    pub fn update_parameters(
        &mut self,
        update: impl FnOnce(&mut [T], &mut [T], Option<&mut [T]>),
    ) -> Result<()> {
        let before = (self.w.clone(), self.theta.clone(), self.bias.clone());
        update(&mut self.w, &mut self.theta, self.bias.as_deref_mut());
        if let Err(error) = self.check_parameters() {
            (self.w, self.theta, self.bias) = before;
            return Err(error);
        }
        self.pack();
        Ok(())
    }

    /// `energy[i] = f(x_i)`, without β and base measure. `x` is n×d, `energy` has length n.
    ///
    /// A NaN or an infinity in a row of `x` affects that row's energy only. Costs n·m·2d flops.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn energy(&self, x: Rows<'_, T>, energy: &mut [T]) -> Result<()> {
        self.sums(x, Some(energy), None, None)
    }

    /// `score[i] = ∇ log p(x_i) = -β ∇f(x_i) - x_i/s²`, on the sphere projected to the tangent space at `x_i`. Both arrays are n×d.
    ///
    /// Costs n·m·4d flops.
    ///
    /// # Errors
    /// If the shapes do not fit, or for rows off the unit sphere in a model on the sphere.
    pub fn score(&self, x: Rows<'_, T>, score: RowsMut<'_, T>) -> Result<()> {
        self.potential_score(x, None, Some(score))
    }

    /// Gradients of `Σ_i r_i f(x_i)` with respect to all parameters, written to `grad`. `x` is n×d, `r` has
    /// length n and is 1 if absent.
    ///
    /// Costs n·m·4d flops.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn param_grad(
        &self,
        x: Rows<'_, T>,
        r: Option<&[T]>,
        grad: &mut ParamGrad<T>,
    ) -> Result<()> {
        let (n, m, d) = (x.rows(), self.w.len(), self.dim);
        self.check_cols(x)?;
        if let Some(r) = r
            && r.len() != n
        {
            return Err(ShapeError::new("sample weights", n, r.len()).into());
        }
        self.check_grad(grad)?;
        let (with_bias, multiplier) = (self.bias.is_some(), self.multiplier());
        let part = |range: Range<usize>| (x.range(range.start, range.len()), r.map(|r| &r[range]));
        let pack = |panel: &mut relu::Panel<T>, range| {
            let (x, r) = part(range);
            if multiplier.is_none() {
                panel.set_samples(x, r, with_bias).expect("shapes are checked");
            }
        };
        // One partial gradient has w, θ and b side by side for each neuron.
        let width = d + 1 + usize::from(with_bias);
        let sum = |panel: &relu::Panel<T>,
                   samples: Range<usize>,
                   neurons: Range<usize>,
                   partial: &mut [T],
                   scratch: &mut Scratch| {
            let (first, count) = (neurons.start, neurons.len());
            let theta = self.theta().range(first, count);
            let bias = self.bias().map(|b| &b[neurons]);
            let (value, rest) = partial.split_at_mut(count);
            let (gradient, bias_gradient) = rest.split_at_mut(count * d);
            let mut gradient = RowsMut::new(gradient, count, d).expect("sized above");
            let bias_gradient = with_bias.then_some(bias_gradient);
            match multiplier {
                None => relu::param_sums(
                    panel,
                    theta,
                    bias,
                    value,
                    &mut gradient,
                    bias_gradient,
                    scratch,
                ),
                Some(multiplier) => {
                    let (x, r) = part(samples);
                    Product {
                        multiplier,
                        isa: self.isa,
                        points: theta,
                        point_bias: bias,
                        panel: x,
                        panel_bias: None,
                        weights: &|i| r.map_or(T::ONE, |r| r[i]),
                    }
                    .run(Some(value), Some(gradient), bias_gradient);
                }
            }
        };
        let total = over_samples(self.isa, (n, m, width), pack, sum);
        let neurons = T::from_f64(m as f64);
        for (b, sums) in total.chunks(NEURONS_PER_ITEM * width).enumerate() {
            let (first, count) = (b * NEURONS_PER_ITEM, sums.len() / width);
            let (value, rest) = sums.split_at(count);
            let (gradient, bias_gradient) = rest.split_at(count * d);
            for j in 0..count {
                let w = self.w[first + j];
                grad.w[first + j] = value[j] / neurons;
                let sums = &gradient[j * d..][..d];
                let theta = &mut grad.theta[(first + j) * d..][..d];
                theta.iter_mut().zip(sums).for_each(|(g, &sum)| *g = w * sum / neurons);
                if let Some(bias) = &mut grad.bias {
                    bias[first + j] = w * bias_gradient[j] / neurons;
                }
            }
        }
        Ok(())
    }

    /// Gradients of `Σ_i v_i·s(x_i)` with respect to all parameters, written to `grad`: the product of a vector with the Jacobian of the
    /// scores. `x` and `v` are n×d. Those of biases are 0, since the score depends on them by its jumps alone.
    ///
    /// Costs n·m·4d flops, by the fused kernel for every backend.
    ///
    /// # Errors
    /// If the shapes do not fit, or for rows off the unit sphere in a model on the sphere.
    pub fn score_vjp(&self, x: Rows<'_, T>, v: Rows<'_, T>, grad: &mut ParamGrad<T>) -> Result<()> {
        self.check_cols(x)?;
        check_shape("v", (x.rows(), self.dim), (v.rows(), v.cols()))?;
        self.check_grad(grad)?;
        let (m, d) = (self.w.len(), self.dim);
        let mut tangential = Vec::new();
        let v = match self.domain {
            Domain::Euclidean => v,
            // s = -β P ∇f, and P is symmetric.
            Domain::Sphere => {
                check_on_sphere("x", x)?;
                for (v, x) in v.iter().zip(x.iter()) {
                    let start = tangential.len();
                    tangential.extend_from_slice(v);
                    project_to_tangent(&mut tangential[start..], x);
                }
                Rows::new(&tangential, v.rows(), v.cols())?
            }
        };
        grad.theta = carried_sums(self.isa, self.theta(), self.bias(), x, v, Gate::Step)?;
        let scale = -self.beta / T::from_f64(m as f64);
        for (j, &w) in self.w.iter().enumerate() {
            let (sum, theta) = (&mut grad.theta[j * d..][..d], &self.theta[j * d..][..d]);
            grad.w[j] = scale * dot(theta, sum);
            sum.iter_mut().for_each(|sum| *sum = scale * w * *sum);
        }
        if let Some(bias) = &mut grad.bias {
            bias.fill(T::ZERO);
        }
        Ok(())
    }

    /// A gradient of this model's shape, all zero.
    pub fn zero_grad(&self) -> ParamGrad<T> {
        ParamGrad {
            w: vec![T::ZERO; self.w.len()],
            theta: vec![T::ZERO; self.theta.len()],
            bias: self.bias.as_ref().map(|bias| vec![T::ZERO; bias.len()]),
        }
    }

    /// f and -∇f or, with a target, its potential and score, over blocks of rows.
    fn sums(
        &self,
        x: Rows<'_, T>,
        energy: Option<&mut [T]>,
        score: Option<RowsMut<'_, T>>,
        target: Option<ReluTarget<'_, T>>,
    ) -> Result<()> {
        let n = x.rows();
        self.check_cols(x)?;
        if let Some(energy) = &energy
            && energy.len() != n
        {
            return Err(ShapeError::new("energies", n, energy.len()).into());
        }
        if let Some(score) = &score {
            check_shape("scores", (n, self.dim), (score.rows(), score.cols()))?;
        }
        // An item below some 10^5 multiply-adds is not worth a thread's attention.
        let least = 100_000 / (self.w.len() * self.dim).max(1);
        let count = parallel::rows_per_item(n, least, TILE_ROWS);
        let mut energies = energy.map(|energy| energy.chunks_mut(count));
        let mut scores = score.map(|score| score.into_blocks(count));
        let items = (0..n)
            .step_by(count)
            .map(|start| {
                (
                    x.range(start, count.min(n - start)),
                    energies.as_mut().and_then(|energies| energies.next()),
                    scores.as_mut().and_then(|scores| scores.next()),
                )
            })
            .collect();
        parallel::for_each(items, |(x, energy, score), scratch| {
            self.block(x, energy, score, target, scratch);
        });
        Ok(())
    }

    fn block(
        &self,
        x: Rows<'_, T>,
        mut energy: Option<&mut [T]>,
        mut score: Option<RowsMut<'_, T>>,
        target: Option<ReluTarget<'_, T>>,
        scratch: &mut Scratch,
    ) {
        let Some(multiplier) = self.multiplier() else {
            return match (target, energy) {
                (Some(target), energy) => chain::relu_target(target, x, energy, score, scratch),
                (None, Some(energy)) => relu::energy(&self.panel, x, energy, scratch),
                (None, None) => {}
            };
        };
        Product {
            multiplier,
            isa: self.isa,
            points: x,
            point_bias: None,
            panel: self.theta(),
            panel_bias: self.bias(),
            weights: &|j| self.w[j],
        }
        .run(energy.as_deref_mut(), score.as_mut().map(RowsMut::reborrow), None);
        match target {
            Some(target) => chain::finish(target, x, energy, score, scratch),
            None => {
                let m = T::from_f64(self.w.len() as f64);
                energy.into_iter().flatten().for_each(|energy| *energy /= m);
            }
        }
    }

    /// Whose matrix products compute the sums; none's if the fused kernel does.
    fn multiplier(&self) -> Option<Multiplier> {
        match self.path() {
            Backend::Auto | Backend::Fused => None,
            Backend::Faer => Some(Multiplier::Faer),
            #[cfg(feature = "blas")]
            Backend::Blas => Some(Multiplier::Blas),
        }
    }

    fn pack(&mut self) {
        self.panel = relu::Panel::neurons(self.isa, self.theta(), self.bias(), &self.w)
            .expect("checked when the parameters were set");
    }

    fn check_cols(&self, x: Rows<'_, T>) -> Result<()> {
        match x.cols() == self.dim {
            true => Ok(()),
            false => {
                Err(ShapeError::new("columns of x (the model's dimension)", self.dim, x.cols())
                    .into())
            }
        }
    }

    fn check_grad(&self, grad: &ParamGrad<T>) -> Result<()> {
        let expected = (self.w.len(), self.theta.len(), self.bias.as_ref().map(Vec::len));
        let got = grad.lens();
        if got != expected {
            let [expected, got] =
                [expected, got].map(|lens| format!("lengths {lens:?} of w, theta, b"));
            return Err(ShapeError::new("parameter gradient", expected, got).into());
        }
        Ok(())
    }

    fn check_parameters(&self) -> Result<()> {
        check_finite("theta", self.theta())?;
        check_finite_slice("w", &self.w)?;
        match &self.bias {
            Some(bias) => check_finite_slice("b", bias),
            None => Ok(()),
        }
    }

    fn check_domain(self) -> Result<Self> {
        match (self.domain, self.base_scale) {
            (Domain::Sphere, Some(s)) => {
                Err(Error::parameter("base scale", "absent on the sphere", s))
            }
            _ => Ok(self),
        }
    }
}

impl<T: Real> Energy<T> for ReluEnergy<T> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn domain(&self) -> Domain {
        self.domain
    }

    fn as_relu(&self) -> Option<&ReluEnergy<T>> {
        Some(self)
    }

    fn potential_score(
        &self,
        x: Rows<'_, T>,
        potential: Option<&mut [T]>,
        score: Option<RowsMut<'_, T>>,
    ) -> Result<()> {
        self.check_cols(x)?;
        if self.domain == Domain::Sphere {
            check_on_sphere("x", x)?;
        }
        self.sums(x, potential, score, Some(self.target()))
    }
}

/// `Σ_i g(θ_j·x_i + b_j) v_i` for each row of `theta` (m×d), by the fused kernel; `x` and `v` are n×d.
///
/// # Errors
/// If the shapes do not fit.
pub(crate) fn carried_sums<T: Real>(
    isa: Isa,
    theta: Rows<'_, T>,
    bias: Option<&[T]>,
    x: Rows<'_, T>,
    v: Rows<'_, T>,
    gate: Gate,
) -> Result<Vec<T>> {
    let (n, m, d) = (x.rows(), theta.rows(), theta.cols());
    check_shape("x", (n, d), (x.rows(), x.cols()))?;
    check_shape("v", (n, d), (v.rows(), v.cols()))?;
    let pack = |panel: &mut relu::Panel<T>, range: Range<usize>| {
        let [x, v] = [x, v].map(|rows| rows.range(range.start, range.len()));
        panel.set_carriers(x, v, gate, bias.is_some()).expect("shapes are checked");
    };
    let sum = |panel: &relu::Panel<T>,
               _,
               neurons: Range<usize>,
               partial: &mut [T],
               scratch: &mut Scratch| {
        let theta = theta.range(neurons.start, neurons.len());
        let bias = bias.map(|b| &b[neurons.clone()]);
        let mut partial = RowsMut::new(partial, neurons.len(), d).expect("sized for it");
        relu::carried_sums(panel, theta, bias, &mut partial, scratch);
    };
    Ok(over_samples(isa, (n, m, d), pack, sum))
}

/// Sums over n samples for each of m neurons, `width` values each, block after block of neurons: samples are taken in chunks
/// and neurons in blocks by all threads.
fn over_samples<T: Real>(
    isa: Isa,
    (n, m, width): (usize, usize, usize),
    pack: impl Fn(&mut relu::Panel<T>, Range<usize>) + Sync,
    sum: impl Fn(&relu::Panel<T>, Range<usize>, Range<usize>, &mut [T], &mut Scratch) + Sync,
) -> Vec<T> {
    let mut total = vec![T::ZERO; m * width];
    if total.is_empty() || n == 0 {
        return total;
    }
    let block = NEURONS_PER_ITEM * width;
    let neurons = |at: usize, len: usize| at / width..(at + len) / width;
    let rows = (CHUNK_BYTES / (width * size_of::<T>())).max(m).clamp(relu::TILE, CHUNK);
    let rows = n.div_ceil(n.div_ceil(rows)).next_multiple_of(relu::TILE);
    let chunks: Vec<Range<usize>> =
        (0..n).step_by(rows).map(|start| start..(start + rows).min(n)).collect();
    let at_once =
        (PARTIAL_BYTES / size_of_val(&total[..])).clamp(1, parallel::threads()).min(chunks.len());
    let mut panels = vec![relu::Panel::new(isa); at_once];
    let mut partials = vec![T::ZERO; at_once * m * width];
    for chunks in chunks.chunks(at_once) {
        let items = panels.iter_mut().zip(chunks).collect();
        parallel::for_each(items, |(panel, chunk): (&mut _, &Range<usize>), _| {
            pack(panel, chunk.clone());
        });
        let parts = partials.chunks_exact_mut(m * width).zip(chunks).zip(&panels);
        let items = parts
            .flat_map(|((partial, chunk), panel)| {
                let blocks = partial.chunks_mut(block).enumerate();
                blocks.map(move |(b, partial)| (chunk, panel, b, partial))
            })
            .collect();
        parallel::for_each(items, |(chunk, panel, b, partial): (&Range<_>, _, _, _), scratch| {
            sum(panel, chunk.clone(), neurons(b * block, partial.len()), partial, scratch);
        });
        let items = total.chunks_mut(block).enumerate().collect();
        parallel::for_each(items, |(b, total): (usize, &mut [T]), _| {
            for partial in partials.chunks_exact(m * width).take(chunks.len()) {
                add(total, &partial[b * block..]);
            }
        });
    }
    total
}

/// v ← v - (v·x) x.
fn project_to_tangent<T: Real>(v: &mut [T], x: &[T]) {
    let normal = dot(v, x);
    for (v, &x) in v.iter_mut().zip(x) {
        *v = (-normal).mul_add(x, *v);
    }
}

fn add<T: Real>(sum: &mut [T], part: &[T]) {
    for (sum, &part) in sum.iter_mut().zip(part) {
        *sum += part;
    }
}

impl<T: Real> ParamGrad<T> {
    fn lens(&self) -> (usize, usize, Option<usize>) {
        (self.w.len(), self.theta.len(), self.bias.as_ref().map(Vec::len))
    }
}
