//! The formulas of this family as plain loops: the specification that every fast version must
//! reproduce bit for bit.
//!
//! The order of operations is part of the contract. Sums over neurons are taken in tiles of
//! [`TILE`]: each tile is accumulated from zero by fused multiply-adds in index order, and the
//! tile sums are added in order. That bounds the rounding error by γ over
//! `TILE + count / TILE` operations instead of `count`, and lets a fast version keep a tile's
//! state in registers.

use super::{Gate, TILE};
use crate::{Real, Rows, RowsMut};

/// `z < 0 ? 0 : z`; NaN stays NaN.
pub fn relu<T: Real>(z: T) -> T {
    if z < T::ZERO { T::ZERO } else { z }
}

/// The weight of a neuron's direction in the gradient: `v` where the neuron is active (z > 0), 0
/// where it is not (z = ±0 included), NaN where `z` is NaN.
pub fn gate<T: Real>(z: T, v: T) -> T {
    if z > T::ZERO { v } else { relu(z) }
}

/// The sums behind every kernel of the family, for one point `p` against neurons `q_j` with
/// outer weights `v_j`:
///
/// ```text
/// z_j      = bias_j + Σ_k q_jk p_k
/// value    = Σ_j v_j max(z_j, 0)
/// gradient = Σ_j v_j 1{z_j > 0} q_j        (and Σ_j v_j 1{z_j > 0} for the bias)
/// ```
fn sums<T: Real>(
    p: &[T],
    q: Rows<'_, T>,
    bias: impl Fn(usize) -> Option<T>,
    v: impl Fn(usize) -> T,
    gradient: &mut [T],
) -> (T, T) {
    let (mut value, mut bias_gradient) = (T::ZERO, T::ZERO);
    gradient.fill(T::ZERO);
    let mut part = vec![T::ZERO; p.len()];
    for tile in (0..q.rows()).step_by(TILE) {
        let (mut value_part, mut bias_part) = (T::ZERO, T::ZERO);
        part.fill(T::ZERO);
        for j in tile..q.rows().min(tile + TILE) {
            let mut z = T::ZERO;
            if let Some(bias) = bias(j) {
                z = bias.mul_add(T::ONE, z);
            }
            for (&q, &p) in q.row(j).iter().zip(p) {
                z = q.mul_add(p, z);
            }
            value_part = v(j).mul_add(relu(z), value_part);
            let gate = gate(z, v(j));
            bias_part = gate.mul_add(T::ONE, bias_part);
            for (part, &q) in part.iter_mut().zip(q.row(j)) {
                *part = q.mul_add(gate, *part);
            }
        }
        value = value + value_part;
        bias_gradient = bias_gradient + bias_part;
        for (gradient, &part) in gradient.iter_mut().zip(&part) {
            *gradient = *gradient + part;
        }
    }
    (value, bias_gradient)
}

/// Energy and score of every row of `x`, either of which may be left out:
/// `energy_i = value_i / m` and `score_i = gradient_i / -m`. With no neurons both are 0.
pub fn energy_score<T: Real>(
    theta: Rows<'_, T>,
    bias: Option<&[T]>,
    w: &[T],
    x: Rows<'_, T>,
    mut energy: Option<&mut [T]>,
    mut score: Option<RowsMut<'_, T>>,
) {
    let m = T::from_f64(theta.rows().max(1) as f64);
    let mut gradient = vec![T::ZERO; x.cols()];
    for i in 0..x.rows() {
        let (value, _) = sums(x.row(i), theta, |j| bias.map(|b| b[j]), |j| w[j], &mut gradient);
        if let Some(energy) = &mut energy {
            energy[i] = value / m;
        }
        if let Some(score) = &mut score {
            for (score, &gradient) in score.row_mut(i).iter_mut().zip(&gradient) {
                *score = gradient / -m;
            }
        }
    }
}

/// The sums of [`param_sums`](super::param_sums): the same sums with samples and neurons in
/// exchanged roles.
pub fn param_sums<T: Real>(
    theta: Rows<'_, T>,
    bias: Option<&[T]>,
    x: Rows<'_, T>,
    r: Option<&[T]>,
    value: &mut [T],
    mut gradient: RowsMut<'_, T>,
    mut bias_gradient: Option<&mut [T]>,
) {
    for j in 0..theta.rows() {
        let (sum, bias_sum) = sums(
            theta.row(j),
            x,
            |_| bias.map(|b| b[j]),
            |i| r.map_or(T::ONE, |r| r[i]),
            gradient.row_mut(j),
        );
        value[j] = sum;
        if let Some(bias_gradient) = &mut bias_gradient {
            bias_gradient[j] = bias_sum;
        }
    }
}

/// [`carried_sums`](super::carried_sums) of samples `x` that carry `v`.
pub fn carried_sums<T: Real>(
    theta: Rows<'_, T>,
    bias: Option<&[T]>,
    x: Rows<'_, T>,
    v: Rows<'_, T>,
    by: Gate,
    mut sum: RowsMut<'_, T>,
) {
    for j in 0..theta.rows() {
        let sum = sum.row_mut(j);
        sum.fill(T::ZERO);
        for tile in (0..x.rows()).step_by(TILE) {
            let mut part = vec![T::ZERO; sum.len()];
            for i in tile..x.rows().min(tile + TILE) {
                let mut z = bias.map_or(T::ZERO, |b| b[j].mul_add(T::ONE, T::ZERO));
                for (&x, &theta) in x.row(i).iter().zip(theta.row(j)) {
                    z = x.mul_add(theta, z);
                }
                let gate = match by {
                    Gate::Step => gate(z, T::ONE),
                    Gate::Relu => relu(z),
                };
                for (part, &v) in part.iter_mut().zip(v.row(i)) {
                    *part = v.mul_add(gate, *part);
                }
            }
            for (sum, part) in sum.iter_mut().zip(part) {
                *sum = *sum + part;
            }
        }
    }
}

/// [`gate_column`](super::gate_column).
pub fn gate_column<T: Real>(weight: T, z: &mut [T], value: &mut [T], gate_sum: &mut [T]) {
    for ((z, value), sum) in z.iter_mut().zip(value).zip(gate_sum) {
        *value = weight.mul_add(relu(*z), *value);
        *z = gate(*z, weight);
        *sum = *sum + *z;
    }
}
