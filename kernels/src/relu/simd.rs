//! The fast version of [`reference`](super::reference), written once for all levels.
//!
//! Lanes hold points, so every lane walks through the reference's sequence of operations on its
//! own. The work is tiled twice, after FlashAttention's fashion, so that no array of
//! preactivations ever exists:
//!
//! * a *sub-tile* is `R` registers of points, transposed to `[coordinate][R]`;
//! * a *tile* is [`TILE`] neurons, packed in groups of `G` as `[group][coordinate][G]`.
//!
//! For one sub-tile and one tile, phase 1 forms `G × R` preactivations at a time in registers
//! and leaves the gates in L1; phase 2 takes the gates against the same packed neurons and
//! accumulates `K × R` gradient coordinates at a time in registers. Both phases are matrix
//! products whose inner loop is fused multiply-adds with one broadcast and `R` register operands.

use super::{Gate, Panel, TILE};
use crate::{
    Isa, Real, Rows, RowsMut, Scratch,
    chain::{ReluTarget, simd::evaluate},
    lanes::{Kernel, Lanes, Levels},
    transpose,
};
use std::ops::Range;

/// Working set of the sub-tiles that share one pass over a tile of neurons: within every L2.
const SUBTILE_BYTES: usize = 128 * 1024;

/// Neurons that stay in every L2 beside a sub-tile.
const PANEL_BYTES: usize = 128 * 1024;

/// A sub-tile's share of the coordinates in one pass of phase 1: within every L1, with room for the neurons.
const PASS_BYTES: usize = 24 * 1024;

/// What phase 1 leaves behind: preactivations, or one of the [`Gate`]s.
const NONE: u8 = 0;
const STEP: u8 = 1;
const RELU: u8 = 2;

/// Number of neurons in a packed group: how many preactivations per point phase 1 keeps in
/// registers. Depends on how many registers there are, never changes results.
pub(super) const fn group_len(registers: usize) -> usize {
    match registers {
        32.. => 8,
        16.. => 6,
        _ => 4,
    }
}

/// The family's entry points for one element type.
///
/// Methods of concrete impls rather than generic functions, so that kernels are compiled once, in this
/// crate, and not again in every crate that calls them.
pub trait Dispatch: Sized {
    fn sums(isa: Isa, kernel: Sums<'_, Self>);
    fn gate_column(isa: Isa, kernel: GateColumn<'_, Self>);
}

macro_rules! dispatch {
    ($($t:ty)*) => {$(
        impl Dispatch for $t {
            fn sums(isa: Isa, kernel: Sums<'_, Self>) {
                <Self as Levels>::dispatch(isa, kernel);
            }
            fn gate_column(isa: Isa, kernel: GateColumn<'_, Self>) {
                <Self as Levels>::dispatch(isa, kernel);
            }
        }
    )*};
}
dispatch!(f32 f64);

/// What is to be computed for every point; see [`reference`](super::reference) for the formulas.
pub struct Sums<'a, T> {
    pub(super) panel: &'a Panel<T>,
    pub(super) points: Rows<'a, T>,
    /// Leading coordinate of each point; all ones if the panel's leading coordinate is the bias.
    pub(super) lead: Option<&'a [T]>,
    pub(super) value: Option<&'a mut [T]>,
    /// Without the leading coordinate.
    pub(super) gradient: Option<RowsMut<'a, T>>,
    /// Receives the gradient with respect to the leading coordinate.
    pub(super) lead_gradient: Option<&'a mut [T]>,
    pub(super) finish: Finish<'a, T>,
    pub(super) scratch: &'a mut Scratch,
}

/// What is made of values and gradients before they are written.
#[derive(Clone, Copy)]
pub(crate) enum Finish<'a, T> {
    /// They are divided by these.
    Divide { value: T, gradient: T },
    /// Potentials and scores of a model.
    Target(ReluTarget<'a, T>),
}

impl<T: Real> Kernel<T> for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<T>>(mut self, simd: L) {
        match L::REGISTERS {
            32.. => self.points::<L, 3, 8, 8>(simd),
            16.. => self.points::<L, 2, 6, 6>(simd),
            _ => self.points::<L, 1, 4, 4>(simd),
        }
    }
}

impl<T: Real> Sums<'_, T> {
    /// Walks over the points: full sub-tiles first, then single registers for what is left.
    #[inline(always)]
    fn points<L: Lanes<T>, const R: usize, const G: usize, const K: usize>(&mut self, simd: L) {
        assert_eq!(self.panel.group, G, "panel packed for another instruction set");
        let n = self.points.rows();
        let rest = n % (R * L::LANES);
        let full = if rest > (R - 1) * L::LANES { n } else { n - rest };
        self.blocks::<L, R, G, K>(simd, 0, full);
        self.blocks::<L, 1, G, K>(simd, full, n);
    }

    /// Points `start..end` in sub-tiles of `R` registers, several sub-tiles at a time.
    #[inline(always)]
    fn blocks<L: Lanes<T>, const R: usize, const G: usize, const K: usize>(
        &mut self,
        simd: L,
        start: usize,
        end: usize,
    ) {
        let block =
            R * L::LANES * subtiles_per_block::<L, T, R>(self.panel, self.gradient.is_some());
        for start in (start..end).step_by(block) {
            self.block::<L, R, G, K>(simd, start, block.min(end - start));
        }
    }

    #[inline(always)]
    fn block<L: Lanes<T>, const R: usize, const G: usize, const K: usize>(
        &mut self,
        simd: L,
        start: usize,
        count: usize,
    ) {
        let Panel { coords, .. } = *self.panel;
        let panel = self.panel;
        let per_subtile = R * L::LANES;
        let subtiles = count.div_ceil(per_subtile);
        // The leading coordinate needs no gradient when it is the bias of the panel's neurons.
        let first = match self.lead_gradient {
            Some(_) => 0,
            None => usize::from(panel.lead),
        };
        let wanted = (self.value.is_some(), self.gradient.is_some());
        let [points, gradient, values, gates] = self.scratch.buffers::<[L::Vector; R], 4>([
            subtiles * coords,
            if wanted.1 { subtiles * coords } else { 0 },
            subtiles,
            gates_len::<L, T, R>(coords, subtiles),
        ]);
        for (s, points) in points.chunks_exact_mut(coords.max(1)).enumerate() {
            let start = start + s * per_subtile;
            let count = per_subtile.min(self.points.rows() - start);
            let mut tile: &mut [T] = bytemuck::cast_slice_mut(points);
            if panel.lead {
                let (row, rest) = tile.split_at_mut(per_subtile);
                match self.lead {
                    Some(lead) => row[..count].copy_from_slice(&lead[start..start + count]),
                    None => row[..count].fill(T::ONE),
                }
                row[count..].fill(T::ZERO);
                tile = rest;
            }
            transpose::gather::<T, L>(simd, tile, per_subtile, self.points.range(start, count));
        }
        sums::<L, T, R, G, K>(simd, panel, wanted, first, points, values, gradient, gates);

        match self.finish {
            Finish::Divide { value, gradient: divisor } => {
                let (value, divisor) = (simd.splat(value), simd.splat(divisor));
                for sum in values.as_flattened_mut() {
                    *sum = simd.div(*sum, value);
                }
                if wanted.1 {
                    for sum in gradient.as_flattened_mut() {
                        *sum = simd.div(*sum, divisor);
                    }
                }
            }
            Finish::Target(target) => {
                for (s, value) in values.iter_mut().enumerate() {
                    let tile = s * coords + usize::from(panel.lead)..(s + 1) * coords;
                    let score =
                        if wanted.1 { &mut gradient[tile.clone()] } else { Default::default() };
                    evaluate(simd, &target, &points[tile], score, value, wanted.0);
                }
            }
        }
        if let Some(out) = &mut self.value {
            out[start..start + count].copy_from_slice(&bytemuck::cast_slice(values)[..count]);
        }
        if let Some(out) = &mut self.gradient {
            for (s, gradient) in gradient.chunks_exact(coords.max(1)).enumerate() {
                let gradient: &[T] = bytemuck::cast_slice(gradient);
                let start = start + s * per_subtile;
                let (lead, rest) = gradient.split_at(usize::from(panel.lead) * per_subtile);
                transpose::scatter::<T, L>(simd, rest, per_subtile, out, start, 0);
                if let Some(out) = &mut self.lead_gradient {
                    let count = per_subtile.min(out.len() - start);
                    out[start..start + count].copy_from_slice(&lead[..count]);
                }
            }
        }
    }
}

/// Sub-tiles of points that share a tile of neurons.
#[inline(always)]
pub(crate) fn subtiles_per_block<L: Lanes<T>, T: Real, const R: usize>(
    panel: &Panel<T>,
    with_gradient: bool,
) -> usize {
    let coords = panel.coords.max(1);
    // Neurons that are too many for the cache come from memory, and sub-tiles share the cost of fetching them; gradients
    // take the place of half of the sub-tiles in the cache.
    let least = match panel.len() * coords * size_of::<T>() <= PANEL_BYTES {
        true => 1,
        false if with_gradient => 8,
        false => 16,
    };
    (SUBTILE_BYTES / 2 / size_of::<[L::Vector; R]>() / coords).clamp(least, 16)
}

/// Gates that [`sums`] needs room for.
#[inline(always)]
pub(crate) fn gates_len<L: Lanes<T>, T, const R: usize>(coords: usize, subtiles: usize) -> usize {
    TILE * if coords > pass_depth::<L, T, R>() { subtiles } else { 1 }
}

/// Coordinates that one pass of phase 1 takes.
#[inline(always)]
fn pass_depth<L: Lanes<T>, T, const R: usize>() -> usize {
    PASS_BYTES / size_of::<[L::Vector; R]>()
}

/// Values and gradients at sub-tiles of points, one after the other in `points` and `gradient`; gradients of the coordinates
/// `first..`. `wanted` says which of the two are wanted; there is no gradient if it is not.
#[inline(always)]
pub(crate) fn sums<L: Lanes<T>, T: Real, const R: usize, const G: usize, const K: usize>(
    simd: L,
    panel: &Panel<T>,
    wanted: (bool, bool),
    first: usize,
    points: &[[L::Vector; R]],
    values: &mut [[L::Vector; R]],
    gradient: &mut [[L::Vector; R]],
    gates: &mut [[L::Vector; R]],
) {
    let (coords, subtiles) = (panel.coords, values.len());
    // Coordinates are taken in passes that keep a sub-tile's share of them in L1; between passes the
    // preactivations wait where the gates will be.
    let depth = pass_depth::<L, T, R>();
    let passes = coords.div_ceil(depth).max(1);
    gradient.fill([simd.splat(T::ZERO); R]);
    values.fill([simd.splat(T::ZERO); R]);
    for (tile, carried, weights) in panel.tiles() {
        for pass in 0..passes - 1 {
            let pass = pass * depth..(pass + 1) * depth;
            for s in 0..subtiles {
                let points = &points[s * coords..][..coords];
                let (value, z) = (&mut values[s], &mut gates[s * TILE..][..TILE]);
                let pass = pass.clone();
                phase1::<L, T, R, G, false, NONE>(simd, tile, weights, points, pass, value, z);
            }
        }
        let pass = (passes - 1) * depth..coords;
        for s in 0..subtiles {
            let points = &points[s * coords..][..coords];
            let set = if passes > 1 { s } else { 0 };
            let (value, gates) = (&mut values[s], &mut gates[set * TILE..][..TILE]);
            let pass = pass.clone();
            match (wanted, panel.gate()) {
                ((true, true), _) => phase1::<L, T, R, G, true, STEP>(
                    simd, tile, weights, points, pass, value, gates,
                ),
                ((true, false), _) => phase1::<L, T, R, G, true, NONE>(
                    simd, tile, weights, points, pass, value, gates,
                ),
                ((false, _), Gate::Step) => phase1::<L, T, R, G, false, STEP>(
                    simd, tile, weights, points, pass, value, gates,
                ),
                ((false, _), Gate::Relu) => phase1::<L, T, R, G, false, RELU>(
                    simd, tile, weights, points, pass, value, gates,
                ),
            }
            if wanted.1 {
                let gradient = &mut gradient[s * coords..][..coords];
                let gates = &gates[..weights.len()];
                phase2::<L, T, R, G, K>(simd, carried, coords, gates, first, gradient);
            }
        }
    }
}

/// Adds the coordinates `pass` to the preactivations of one tile of neurons at one sub-tile of points.
///
/// Preactivations are left in `gates` unless the pass is the last, which adds the tile's part of the value
/// (`VALUE`) or turns them into gates (`GATES`, unless it is [`NONE`]).
#[inline(always)]
fn phase1<
    L: Lanes<T>,
    T: Real,
    const R: usize,
    const G: usize,
    const VALUE: bool,
    const GATES: u8,
>(
    simd: L,
    tile: &[T],
    weights: &[T],
    points: &[[L::Vector; R]],
    pass: Range<usize>,
    value: &mut [L::Vector; R],
    gates: &mut [[L::Vector; R]],
) {
    let zero = simd.splat(T::ZERO);
    let mut part = [zero; R];
    const { assert!(TILE.is_multiple_of(G), "whole groups fill a tile") };
    let coords = points.len();
    let points = &points[pass.clone()];
    for (g, (weights, gates)) in weights.chunks(G).zip(gates.as_chunks_mut::<G>().0).enumerate() {
        let group = &tile[g * coords * G..][..coords * G];
        let mut z = if pass.start == 0 { [[zero; R]; G] } else { *gates };
        for (q, point) in group.as_chunks::<G>().0[pass.clone()].iter().zip(points) {
            for j in 0..G {
                let q = simd.splat(q[j]);
                for r in 0..R {
                    z[j][r] = simd.mul_add(q, point[r], z[j][r]);
                }
            }
        }
        if !VALUE && GATES == NONE {
            *gates = z;
        } else if let Ok(weights) = <&[T; G]>::try_from(weights) {
            for j in 0..G {
                finish::<L, T, R, VALUE, GATES>(simd, &z[j], weights[j], &mut part, &mut gates[j]);
            }
        } else {
            for ((&weight, gate), z) in weights.iter().zip(gates).zip(z) {
                finish::<L, T, R, VALUE, GATES>(simd, &z, weight, &mut part, gate);
            }
        }
    }
    if VALUE {
        for r in 0..R {
            value[r] = simd.add(value[r], part[r]);
        }
    }
}

/// Turns one neuron's preactivations into its share of the value and its gate.
#[inline(always)]
fn finish<L: Lanes<T>, T: Real, const R: usize, const VALUE: bool, const GATES: u8>(
    simd: L,
    z: &[L::Vector; R],
    weight: T,
    value: &mut [L::Vector; R],
    gate: &mut [L::Vector; R],
) {
    let weight = simd.splat(weight);
    for r in 0..R {
        let relu = simd.relu(z[r]);
        if VALUE {
            value[r] = simd.mul_add(weight, relu, value[r]);
        }
        if GATES == STEP {
            gate[r] = simd.select_positive(z[r], weight, relu);
        }
        if GATES == RELU {
            gate[r] = simd.mul(weight, relu);
        }
    }
}

/// Adds one tile's part of the gradient, coordinates `first..`.
#[inline(always)]
fn phase2<L: Lanes<T>, T: Real, const R: usize, const G: usize, const K: usize>(
    simd: L,
    tile: &[T],
    coords: usize,
    gates: &[[L::Vector; R]],
    first: usize,
    gradient: &mut [[L::Vector; R]],
) {
    let coordinates = coords - first;
    let blocks = coordinates.div_ceil(K).max(1);
    let mut k = first;
    // Blocks of nearly equal width keep the registers filled to the end.
    for b in 0..blocks {
        let width = (coordinates - (k - first)).div_ceil(blocks - b);
        macro_rules! width {
            ($($width:literal)*) => {
                match width {
                    $($width if $width <= K => {
                        phase2_block::<L, T, R, G, $width>(simd, tile, coords, gates, k, gradient)
                    })*
                    _ => {}
                }
            };
        }
        width!(1 2 3 4 5 6 7 8);
        k += width;
    }
}

/// `W` coordinates from `k` on.
#[inline(always)]
fn phase2_block<L: Lanes<T>, T: Real, const R: usize, const G: usize, const W: usize>(
    simd: L,
    tile: &[T],
    coords: usize,
    gates: &[[L::Vector; R]],
    k: usize,
    gradient: &mut [[L::Vector; R]],
) {
    let mut part = [[simd.splat(T::ZERO); R]; W];
    for (group, gates) in tile.chunks_exact(coords * G).zip(gates.chunks(G)) {
        let Some(rows) = group.as_chunks::<G>().0[k..].first_chunk::<W>() else { return };
        if let Ok(gates) = <&[[L::Vector; R]; G]>::try_from(gates) {
            for j in 0..G {
                accumulate::<L, T, R, G, W>(simd, rows, j, &gates[j], &mut part);
            }
        } else {
            for (j, gate) in gates.iter().enumerate() {
                accumulate::<L, T, R, G, W>(simd, rows, j, gate, &mut part);
            }
        }
    }
    for (sum, part) in gradient[k..].iter_mut().zip(part) {
        for r in 0..R {
            sum[r] = simd.add(sum[r], part[r]);
        }
    }
}

/// Adds the vector in slot `j` of a group, weighted by its gates.
#[inline(always)]
fn accumulate<L: Lanes<T>, T: Real, const R: usize, const G: usize, const W: usize>(
    simd: L,
    rows: &[[T; G]; W],
    j: usize,
    gate: &[L::Vector; R],
    part: &mut [[L::Vector; R]; W],
) {
    for w in 0..W {
        let q = simd.splat(rows[w][j]);
        for r in 0..R {
            part[w][r] = simd.mul_add(q, gate[r], part[w][r]);
        }
    }
}

/// See [`gate_column`](super::gate_column).
pub struct GateColumn<'a, T> {
    pub(super) weight: T,
    pub(super) z: &'a mut [T],
    pub(super) value: &'a mut [T],
    pub(super) gate_sum: &'a mut [T],
}

impl<T: Real> Kernel<T> for GateColumn<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<T>>(self, simd: L) {
        let lanes = L::LANES;
        let body = self.z.len() - self.z.len() % lanes;
        let (z, z_tail) = self.z.split_at_mut(body);
        let (value, value_tail) = self.value.split_at_mut(body);
        let (sum, sum_tail) = self.gate_sum.split_at_mut(body);
        gate_registers(
            simd,
            self.weight,
            bytemuck::cast_slice_mut(z),
            bytemuck::cast_slice_mut(value),
            bytemuck::cast_slice_mut(sum),
        );
        // The rest goes through one padded register.
        let mut padded = [[simd.splat(T::ZERO)]; 3];
        let tails = [z_tail, value_tail, sum_tail];
        for (padded, tail) in padded.iter_mut().zip(&tails) {
            bytemuck::cast_slice_mut(padded)[..tail.len()].copy_from_slice(tail);
        }
        let [z, value, sum] = &mut padded;
        gate_registers(simd, self.weight, z, value, sum);
        for (padded, tail) in padded.iter().zip(tails) {
            tail.copy_from_slice(&bytemuck::cast_slice(padded)[..tail.len()]);
        }
    }
}

#[inline(always)]
fn gate_registers<L: Lanes<T>, T: Real>(
    simd: L,
    weight: T,
    z: &mut [L::Vector],
    value: &mut [L::Vector],
    sum: &mut [L::Vector],
) {
    for ((z, value), sum) in z.iter_mut().zip(value).zip(sum) {
        let (mut part, mut gate) = ([*value], [*z]);
        finish::<L, T, 1, true, STEP>(simd, &[*z], weight, &mut part, &mut gate);
        [*value] = part;
        [*z] = gate;
        *sum = simd.add(*sum, *z);
    }
}
