//! Shallow (two-layer) ReLU energies: value, score and parameter gradients.
//!
//! With `m` neurons `θ_j ∈ R^d`, outer weights `w_j` and optional biases `b_j`,
//!
//! ```text
//! f(x)        = (1/m) Σ_j w_j max(z_j, 0),      z_j = θ_j·x + b_j
//! score(x)    = -∇f(x) = -(1/m) Σ_j w_j 1{z_j > 0} θ_j
//! ∂f/∂w_j     = max(z_j, 0) / m
//! ∂f/∂θ_j     = w_j 1{z_j > 0} x / m
//! ∂f/∂b_j     = w_j 1{z_j > 0} / m
//! ```
//!
//! (Domingo-Enrich, Bietti, Vanden-Eijnden and Bruna, "On Energy-Based Models with
//! Overparametrized Shallow Neural Networks", ICML 2021.) The derivative of the
//! ReLU is 0 at ±0. A NaN preactivation makes the value and the gradients it enters NaN, never
//! silently 0.
//!
//! # One kernel
//!
//! Sums over neurons at many samples (energy, score) and sums over samples for many neurons
//! (parameter gradients) are the same computation with the roles exchanged, since `z` is
//! symmetric in `θ` and `x`:
//!
//! | | points (in lanes) | panel (broadcast) | weights |
//! |---|---|---|---|
//! | [`energy`], [`score`], [`energy_score`] | samples | neurons | w |
//! | [`param_sums`], [`carried_sums`] | neurons | samples | r |
//!
//! A bias is one more coordinate in front, equal to 1 on the other side. The side that is
//! broadcast is packed once into a [`Panel`].
//!
//! # Accuracy
//!
//! A preactivation is one chain of `d` (`d + 1` with bias) fused multiply-adds; a sum over
//! `c` terms is taken in tiles of [`TILE`]. With γ_k = k·u/(1 - k·u) and u half of
//! [`Real::EPSILON`], the error of a value is at most γ_(d+1 + TILE + ⌈c/TILE⌉ + 1) times the sum
//! of the absolute values of all products that enter it; that of a gradient, given the gates, γ_(TILE +
//! ⌈c/TILE⌉ + 1) times the sum of its absolute terms. A gate can only differ from the exact one where
//! the preactivation is within its own error of 0.

use crate::{
    Isa, Real, Rows, RowsMut, Scratch, ShapeError,
    scratch::{AlignedBuf, addressable},
    transpose::interleave,
};
use std::fmt;

pub mod reference;
pub(crate) mod simd;

pub(crate) use simd::Finish;

/// Terms per tile of a sum; part of the numerical contract.
pub const TILE: usize = 96;

/// Vectors with weights, packed for one instruction-set level: the side of the product that is
/// broadcast.
#[derive(Clone)]
pub struct Panel<T> {
    kind: Kind,
    /// `[group][coordinate][group]` values, zero-padded to whole groups; then nothing.
    packed: AlignedBuf,
    /// What is summed in place of the packed vectors, packed in the same way, if they are carriers.
    carried: AlignedBuf,
    weights: Vec<T>,
    isa: Isa,
    /// Vectors per group.
    pub(crate) group: usize,
    /// Coordinates including the leading one.
    pub(crate) coords: usize,
    /// Whether a coordinate stands in front: the bias for neurons, 1 for samples.
    pub(crate) lead: bool,
}

/// What is packed, and so which kernels a panel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nothing,
    Neurons,
    Samples,
    Carriers(Gate),
}

/// What a preactivation z makes of the vector that it weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// 1{z > 0}, the derivative of the ReLU.
    #[default]
    Step,
    /// max(z, 0).
    Relu,
}

impl<T: Real> Panel<T> {
    /// Packs `m` neurons for [`energy`], [`score`] and [`energy_score`]: `theta` is m×d, `bias` and `weights`
    /// have length m. `isa` falls to the next lower level that the CPU offers.
    ///
    /// # Errors
    /// If the lengths differ, or memory cannot hold the rows.
    pub fn neurons(
        isa: Isa,
        theta: Rows<'_, T>,
        bias: Option<&[T]>,
        weights: &[T],
    ) -> Result<Self, ShapeError> {
        let mut panel = Self::new(isa);
        let m = theta.rows();
        check_len("outer weights", m, weights.len())?;
        if let Some(bias) = bias {
            check_len("biases", m, bias.len())?;
        }
        panel.fill(theta, bias.is_some(), |j| bias.map_or(T::ONE, |b| b[j]), |j| weights[j])?;
        panel.kind = Kind::Neurons;
        Ok(panel)
    }

    /// Packs `n` samples for [`param_sums`]: `x` is n×d and `weights` (the r_i, 1 if absent) has length n;
    /// `with_bias` says whether the neurons will have biases.
    ///
    /// # Errors
    /// If the lengths differ, or memory cannot hold the rows.
    pub fn samples(
        isa: Isa,
        x: Rows<'_, T>,
        weights: Option<&[T]>,
        with_bias: bool,
    ) -> Result<Self, ShapeError> {
        let mut panel = Self::new(isa);
        panel.set_samples(x, weights, with_bias)?;
        Ok(panel)
    }

    /// Packs `n` samples that carry a vector each for [`carried_sums`]; `x` and `carried` are n×d.
    ///
    /// # Errors
    /// If the shapes differ, or memory cannot hold the rows.
    pub fn carriers(
        isa: Isa,
        x: Rows<'_, T>,
        carried: Rows<'_, T>,
        gate: Gate,
        with_bias: bool,
    ) -> Result<Self, ShapeError> {
        let mut panel = Self::new(isa);
        panel.set_carriers(x, carried, gate, with_bias)?;
        Ok(panel)
    }

    /// Replaces what is packed by samples, keeping the memory.
    ///
    /// # Errors
    /// As [`samples`](Self::samples); the panel is as before then.
    pub fn set_samples(
        &mut self,
        x: Rows<'_, T>,
        weights: Option<&[T]>,
        with_bias: bool,
    ) -> Result<(), ShapeError> {
        if let Some(weights) = weights {
            check_len("sample weights", x.rows(), weights.len())?;
        }
        self.fill(x, with_bias, |_| T::ONE, |i| weights.map_or(T::ONE, |r| r[i]))?;
        self.kind = Kind::Samples;
        Ok(())
    }

    /// Replaces what is packed by samples that carry vectors, keeping the memory.
    ///
    /// # Errors
    /// As [`carriers`](Self::carriers); the panel is as before then.
    pub fn set_carriers(
        &mut self,
        x: Rows<'_, T>,
        carried: Rows<'_, T>,
        gate: Gate,
        with_bias: bool,
    ) -> Result<(), ShapeError> {
        if (carried.rows(), carried.cols()) != (x.rows(), x.cols()) {
            let expected = format!("{} x {}", x.rows(), x.cols());
            let got = format!("{} x {}", carried.rows(), carried.cols());
            return Err(ShapeError::new("carried vectors", expected, got));
        }
        self.fill(carried, with_bias, |_| T::ZERO, |_| T::ONE)?;
        std::mem::swap(&mut self.carried, &mut self.packed);
        self.fill(x, with_bias, |_| T::ONE, |_| T::ONE)?;
        self.kind = Kind::Carriers(gate);
        Ok(())
    }

    /// A panel of nothing, to be filled; no kernel takes it before.
    pub fn new(isa: Isa) -> Self {
        let isa = isa.or_lower();
        let registers = match isa {
            Isa::Avx512 | Isa::Neon => 32,
            Isa::Avx2 => 16,
            Isa::Scalar => 1,
        };
        Self {
            kind: Kind::Nothing,
            packed: AlignedBuf::default(),
            carried: AlignedBuf::default(),
            weights: Vec::new(),
            isa,
            group: simd::group_len(registers),
            coords: 0,
            lead: false,
        }
    }

    fn fill(
        &mut self,
        rows: Rows<'_, T>,
        with_lead: bool,
        lead: impl Fn(usize) -> T,
        weight: impl Fn(usize) -> T,
    ) -> Result<(), ShapeError> {
        let group = self.group;
        let groups = rows.rows().div_ceil(group);
        // Rows that are not there can be of any length.
        let coords = rows.cols().checked_add(usize::from(with_lead));
        let stride = coords.and_then(|coords| coords.checked_mul(group));
        let len = stride.and_then(|stride| stride.checked_mul(groups));
        // Rows without coordinates have weights.
        let len = len.filter(|&len| addressable::<T>(len.max(rows.rows())));
        let (Some(coords), Some(stride), Some(len)) = (coords, stride, len) else {
            let got = format!("{} x {}", rows.rows(), rows.cols());
            return Err(ShapeError::new("panel", "rows that memory can hold", got));
        };
        self.lead = with_lead;
        self.coords = coords;
        self.weights.clear();
        self.weights.extend((0..rows.rows()).map(weight));
        self.packed.reserve::<T>(len);
        let packed = &mut self.packed.as_mut_slice::<T>()[..len];
        for (g, packed) in packed.chunks_exact_mut(stride.max(1)).enumerate() {
            let first = g * group;
            let rows = rows.range(first, group.min(rows.rows() - first));
            let mut coordinates = packed;
            if with_lead {
                let (slots, rest) = coordinates.split_at_mut(group);
                slots.fill(T::ZERO);
                slots
                    .iter_mut()
                    .zip(first..first + rows.rows())
                    .for_each(|(slot, i)| *slot = lead(i));
                coordinates = rest;
            }
            interleave(rows, coordinates, group, group);
        }
        Ok(())
    }

    /// The level that calls with this panel run on.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Number of packed vectors.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether no vector is packed.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Coordinates of a packed vector, the bias not counted.
    pub fn dim(&self) -> usize {
        self.coords - usize::from(self.lead)
    }

    /// Panics unless neurons are packed.
    pub(crate) fn check_neurons(&self) {
        assert_eq!(self.kind, Kind::Neurons, "what the panel holds against what the kernel takes");
    }

    /// What preactivations are made into.
    #[inline(always)]
    fn gate(&self) -> Gate {
        match self.kind {
            Kind::Carriers(gate) => gate,
            _ => Gate::Step,
        }
    }

    /// Tiles of packed groups, what they carry, and their weights.
    #[inline(always)]
    fn tiles(&self) -> impl Iterator<Item = (&[T], &[T], &[T])> {
        let packed = self.packed.as_slice::<T>();
        let carried = match self.kind {
            Kind::Carriers(_) => self.carried.as_slice::<T>(),
            _ => packed,
        };
        self.weights.chunks(TILE).enumerate().map(move |(t, weights)| {
            let groups = weights.len().div_ceil(self.group);
            let range = t * TILE * self.coords..;
            let len = groups * self.group * self.coords;
            (&packed[range.clone()][..len], &carried[range][..len], weights)
        })
    }
}

impl<T> fmt::Debug for Panel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, weights, coords, lead, isa, .. } = self;
        let dim = coords - usize::from(*lead);
        write!(f, "Panel({kind:?}, {} x {dim}, with_bias: {lead}, {isa})", weights.len())
    }
}

fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), ShapeError> {
    if expected == got { Ok(()) } else { Err(ShapeError::new(what, expected, got)) }
}

/// `energy[i] = f(x_i)`.
///
/// `x` is n×d, `energy` has length n. Costs n·m·(2d + 2) flops. A panel without neurons gives 0.
///
/// # Panics
/// If the panel does not hold neurons, or the shapes do not fit it.
pub fn energy<T: Real>(panel: &Panel<T>, x: Rows<'_, T>, energy: &mut [T], scratch: &mut Scratch) {
    neuron_sums(panel, x, Some(energy), None, mean(panel), scratch);
}

/// `score[i] = -∇f(x_i)`.
///
/// `x` and `score` are n×d. Costs n·m·(4d + 1) flops. A panel without neurons gives (negative) 0.
///
/// # Panics
/// As [`energy`].
pub fn score<T: Real>(
    panel: &Panel<T>,
    x: Rows<'_, T>,
    score: &mut RowsMut<'_, T>,
    scratch: &mut Scratch,
) {
    neuron_sums(panel, x, None, Some(score.reborrow()), mean(panel), scratch);
}

/// [`energy`] and [`score`] in one pass, with the same bits as each of them.
///
/// # Panics
/// As [`energy`].
pub fn energy_score<T: Real>(
    panel: &Panel<T>,
    x: Rows<'_, T>,
    energy: &mut [T],
    score: &mut RowsMut<'_, T>,
    scratch: &mut Scratch,
) {
    neuron_sums(panel, x, Some(energy), Some(score.reborrow()), mean(panel), scratch);
}

/// Means over neurons, and their negative gradients.
fn mean<'a, T: Real>(panel: &Panel<T>) -> Finish<'a, T> {
    let m = T::from_f64(panel.len().max(1) as f64);
    Finish::Divide { value: m, gradient: -m }
}

/// Sums over neurons of the value and its gradient, and what is made of them.
pub(crate) fn neuron_sums<'a, T: Real>(
    panel: &'a Panel<T>,
    x: Rows<'a, T>,
    energy: Option<&'a mut [T]>,
    score: Option<RowsMut<'a, T>>,
    finish: Finish<'a, T>,
    scratch: &'a mut Scratch,
) {
    panel.check_neurons();
    assert_eq!(x.cols(), panel.dim(), "columns of x against the panel's dimension");
    if let Some(energy) = &energy {
        assert_eq!(energy.len(), x.rows(), "length of energy against the rows of x");
    }
    if let Some(score) = &score {
        assert_eq!((score.rows(), score.cols()), (x.rows(), x.cols()), "shape of score");
    }
    T::sums(
        panel.isa,
        simd::Sums {
            panel,
            points: x,
            lead: None,
            value: energy,
            gradient: score,
            lead_gradient: None,
            finish,
            scratch,
        },
    );
}

/// The sums over samples that parameter gradients are made of, for each neuron of `theta` (m×d):
///
/// ```text
/// value[j]         = Σ_i r_i max(z_ij, 0)         ∂/∂w_j Σ_i r_i f(x_i) = value[j] / m
/// gradient[j]      = Σ_i r_i 1{z_ij > 0} x_i      ∂/∂θ_j Σ_i r_i f(x_i) = w_j gradient[j] / m
/// bias_gradient[j] = Σ_i r_i 1{z_ij > 0}          ∂/∂b_j Σ_i r_i f(x_i) = w_j bias_gradient[j] / m
/// ```
///
/// The samples `x_i` and their weights `r_i` are in the panel ([`Panel::samples`]). Neurons are independent of
/// each other, so they may be spread over threads; sums over several panels are the caller's to
/// add, in a fixed order. Costs n·m·(4d + 3) flops.
///
/// # Panics
/// If the panel does not hold samples ([`Panel::samples`]), the shapes do not fit it, or only one of `bias`, `bias_gradient` and
/// the panel's `with_bias` is given.
pub fn param_sums<T: Real>(
    panel: &Panel<T>,
    theta: Rows<'_, T>,
    bias: Option<&[T]>,
    value: &mut [T],
    gradient: &mut RowsMut<'_, T>,
    bias_gradient: Option<&mut [T]>,
    scratch: &mut Scratch,
) {
    let m = theta.rows();
    assert_eq!(panel.kind, Kind::Samples, "what the panel holds against what the kernel takes");
    assert_eq!(theta.cols(), panel.dim(), "columns of theta against the panel's dimension");
    assert_eq!(value.len(), m, "length of value against the rows of theta");
    assert_eq!((gradient.rows(), gradient.cols()), (m, theta.cols()), "shape of gradient");
    assert_eq!(bias.map(<[T]>::len), panel.lead.then_some(m), "biases");
    assert_eq!(bias_gradient.as_deref().map(<[T]>::len), bias.map(<[T]>::len), "bias gradient");
    T::sums(
        panel.isa,
        simd::Sums {
            panel,
            points: theta,
            lead: bias,
            value: Some(value),
            gradient: Some(gradient.reborrow()),
            lead_gradient: bias_gradient,
            finish: Finish::Divide { value: T::ONE, gradient: T::ONE },
            scratch,
        },
    );
}

/// Sums over samples of the vectors v_i that they carry, for each neuron of `theta` (m×d), with the panel's [`Gate`] g:
///
/// ```text
/// sum[j] = Σ_i g(z_ij) v_i
/// ```
///
/// With steps, the gradients of a function of scores: `∂/∂θ_j Σ_i v_i·∇f(x_i) = w_j sum[j] / m`, and `∂/∂w_j` of it is
/// `θ_j·sum[j] / m`. Samples are in the panel ([`Panel::carriers`]). Costs n·m·4d flops.
///
/// # Panics
/// If the panel does not hold carriers ([`Panel::carriers`]), the shapes do not fit it, or `bias` is given without the panel's
/// `with_bias`, or the other way round.
pub fn carried_sums<T: Real>(
    panel: &Panel<T>,
    theta: Rows<'_, T>,
    bias: Option<&[T]>,
    sum: &mut RowsMut<'_, T>,
    scratch: &mut Scratch,
) {
    let m = theta.rows();
    assert!(
        matches!(panel.kind, Kind::Carriers(_)),
        "a panel of {:?}, not of carriers",
        panel.kind
    );
    assert_eq!(theta.cols(), panel.dim(), "columns of theta against the panel's dimension");
    assert_eq!((sum.rows(), sum.cols()), (m, theta.cols()), "shape of the sums");
    assert_eq!(bias.map(<[T]>::len), panel.lead.then_some(m), "biases");
    T::sums(
        panel.isa,
        simd::Sums {
            panel,
            points: theta,
            lead: bias,
            value: None,
            gradient: Some(sum.reborrow()),
            lead_gradient: None,
            finish: Finish::Divide { value: T::ONE, gradient: T::ONE },
            scratch,
        },
    );
}

/// The epilogue of a matrix product: turns one column of preactivations into gates, in place, and
/// adds its share to the sums. For every point i, with `weight` the column's outer weight:
///
/// ```text
/// value[i]    += weight max(z[i], 0)
/// z[i]         = weight 1{z[i] > 0}
/// gate_sum[i] += weight 1{z[i] > 0}
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn gate_column<T: Real>(isa: Isa, weight: T, z: &mut [T], value: &mut [T], gate_sum: &mut [T]) {
    assert_eq!(value.len(), z.len(), "length of value against z");
    assert_eq!(gate_sum.len(), z.len(), "length of gate_sum against z");
    T::gate_column(isa, simd::GateColumn { weight, z, value, gate_sum });
}
