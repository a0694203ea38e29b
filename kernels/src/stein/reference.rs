//! Stein kernels of one pair at a time, as plain loops: the specification that every fast version must
//! reproduce bit for bit.

use super::{Base, Kernel, Quantity, Radial, Signs, TILE, group};
use crate::{Real, Rows, RowsMut, chain::Space, rowwise::reference::dot};
use std::f64::consts::FRAC_1_PI;

/// A point with what kernels ask of it.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a, T> {
    /// x, or A x with a metric Λ = AᵀA.
    pub x: &'a [T],
    /// s, or A s.
    pub white_score: &'a [T],
    /// s.
    pub score: &'a [T],
    /// Λ x, with a metric.
    pub precise: Option<&'a [T]>,
}

/// Σ (a - b)(c - d).
fn dot_of_differences<T: Real>([a, b]: [&[T]; 2], [c, d]: [&[T]; 2]) -> T {
    let terms = a.iter().zip(b).zip(c.iter().zip(d));
    terms.fold(T::ZERO, |sum, ((&a, &b), (&c, &d))| (a - b).mul_add(c - d, sum))
}

fn number<T: Real>(x: f64) -> T {
    T::from_f64(x)
}

/// φ, -2φ' and -2φ''/φ', derivatives by t: φ'' itself may be below all numbers where what it is multiplied with is large.
fn radial<T: Real>(radial: Radial<T>, t: T) -> [T; 3] {
    let (phi, first, second) = match radial {
        Radial::Rbf { precision } => {
            (T::exp(number::<T>(-0.5) * precision * t), precision, precision)
        }
        Radial::Imq { offset, exponent } => {
            let q = offset + t;
            let inverse = T::ONE / q;
            let phi = match exponent == number(-0.5) {
                true => Real::sqrt(inverse),
                false => T::exp(exponent * T::ln(q)),
            };
            let first = number::<T>(-2.0) * exponent;
            let second = number::<T>(2.0) * (T::ONE - exponent);
            (phi, first * inverse, second * inverse)
        }
    };
    [phi, phi * first, second]
}

/// u(x, y), or another quantity; `trace` is tr Λ, which is d without a metric.
pub fn value<T: Real>(kernel: Kernel<T>, trace: T, x: Point<'_, T>, y: Point<'_, T>) -> T {
    if let (Base::ArcCosine, Space::Flat) = (kernel.base, kernel.space) {
        return arc_cosine(x, y);
    }
    let t = dot_of_differences([x.x, y.x], [x.x, y.x]);
    let cross = dot_of_differences([x.white_score, y.white_score], [x.x, y.x]);
    let scores = dot(x.score, y.score);
    let precise = match (x.precise, y.precise) {
        (Some(a), Some(b)) => dot_of_differences([a, b], [a, b]),
        _ => t,
    };
    let (part, linear) = match kernel.base {
        Base::Radial(part) => (Some(part), false),
        Base::Linear => (None, true),
        Base::RadialLinear(part) => (Some(part), true),
        Base::ArcCosine => (None, false),
    };
    let [phi, first, second] = part.map_or([T::ZERO; 3], |part| radial(part, t));
    match kernel.space {
        Space::Flat if kernel.quantity == Quantity::Value => phi,
        Space::Flat if kernel.quantity == Quantity::Slope => first,
        Space::Flat => {
            let mut u = T::ZERO;
            if part.is_some() {
                u = phi
                    .mul_add(scores, first.mul_add(trace + cross, -(second * (first * precise))));
            }
            if linear {
                let own = dot(x.white_score, x.x) + dot(y.white_score, y.x);
                let k = T::ONE + dot(x.x, y.x);
                u = u + k.mul_add(scores, own + trace);
            }
            u
        }
        Space::Sphere => {
            let c = number::<T>(-0.5).mul_add(t, T::ONE);
            let w = t * number::<T>(-0.25).mul_add(t, T::ONE);
            let (phi, first, bend) = match kernel.base {
                Base::ArcCosine => {
                    let [sin, rest] = angle(t);
                    let scale = number::<T>(0.5 * FRAC_1_PI) / trace;
                    (scale * rest.mul_add(c, sin), scale * rest, scale * (c * sin))
                }
                _ if linear => (phi + (T::ONE + c), first + T::ONE, second * (first * (c * w))),
                _ => (phi, first, second * (first * (c * w))),
            };
            match kernel.quantity {
                Quantity::Stein => {}
                Quantity::Value => return phi,
                Quantity::Slope => return first,
                Quantity::SlopeCosine => return first * c,
            }
            let curvature = trace - T::ONE;
            let inner = curvature.mul_add(curvature.mul_add(c, cross), scores);
            let slope = (number::<T>(2.0) * curvature)
                .mul_add(w, -c.mul_add(c + cross, trace - number(2.0)));
            phi.mul_add(inner, -first.mul_add(slope, bend))
        }
    }
}

/// sin α and π - α for unit vectors at an angle α and a squared distance t.
fn angle<T: Real>(t: T) -> [T; 2] {
    // Beyond 4 by rounding alone.
    let rest = number::<T>(4.0) - t;
    let rest = if rest < T::ZERO { T::ZERO } else { rest };
    let (opposite, adjacent) = (Real::sqrt(t), Real::sqrt(rest));
    let half = number::<T>(0.5);
    [half * (opposite * adjacent), number::<T>(2.0) * T::angle(adjacent, opposite)]
}

fn arc_cosine<T: Real>(x: Point<'_, T>, y: Point<'_, T>) -> T {
    let direction = |x: &[T]| -> (T, Vec<T>) {
        let norm = Real::sqrt(dot(x, x));
        (norm, x.iter().map(|&x| x / norm).collect())
    };
    let ((x_norm, x_unit), (y_norm, y_unit)) = (direction(x.x), direction(y.x));
    let t = dot_of_differences([&x_unit, &y_unit], [&x_unit, &y_unit]);
    let c = number::<T>(-0.5).mul_add(t, T::ONE);
    let [sin, rest] = angle(t);
    let scores = dot(x.score, y.score);
    let across = x_norm * dot(x.score, &y_unit) + y_norm * dot(&x_unit, y.score);
    let own = dot(x.score, x.x) + dot(y.score, y.x) + number::<T>(x.x.len() as f64);
    let k = x_norm * y_norm * rest.mul_add(c, sin);
    number::<T>(0.5 * FRAC_1_PI) * k.mul_add(scores, sin.mul_add(across, rest * own))
}

/// Adds the sums of a tile's rows, in as many interleaved parts as a group has points, and of its columns.
pub fn sums<T: Real>(tile: Rows<'_, T>, row_sums: &mut [f64], col_sums: &mut [f64]) {
    let lanes = group::<T>();
    for (row, total) in tile.iter().zip(row_sums) {
        let mut parts = vec![T::ZERO; lanes];
        for (j, &u) in row.iter().enumerate() {
            parts[j % lanes] = parts[j % lanes] + u;
        }
        *total += halves(&mut parts).to_f64();
    }
    for (j, total) in col_sums.iter_mut().enumerate() {
        *total += tile.iter().fold(T::ZERO, |sum, row| sum + row[j]).to_f64();
    }
}

/// The sum of all parts, the second half added to the first until one is left.
pub(super) fn halves<T: Real>(parts: &mut [T]) -> T {
    let mut len = parts.len();
    while len > 1 {
        len /= 2;
        for i in 0..len {
            parts[i] = parts[i] + parts[i + len];
        }
    }
    parts[0]
}

/// Adds a tile's product with a matrix.
pub fn product<T: Real>(tile: Rows<'_, T>, v: Rows<'_, T>, mut out: RowsMut<'_, T>) {
    for (i, row) in tile.iter().enumerate() {
        for (b, out) in out.row_mut(i).iter_mut().enumerate() {
            let column = row.iter().zip(v.iter());
            *out = *out + column.fold(T::ZERO, |sum, (&u, v)| u.mul_add(v[b], sum));
        }
    }
}

/// Adds a tile's sums with signs, without pairs of the same number; its first row and column are points number `rows` and `cols`.
pub fn signed_sums<T: Real>(
    tile: Rows<'_, T>,
    (rows, cols): (usize, usize),
    signs: &Signs,
    out: &mut [f64],
) {
    let sign = |point: usize, b: usize| match signs.words(point)[b / 64] >> (b % 64) & 1 {
        0 => T::ONE,
        _ => -T::ONE,
    };
    for (b, out) in out.iter_mut().enumerate() {
        let mut total = T::ZERO;
        for (i, row) in tile.iter().enumerate() {
            let terms = row.iter().enumerate().filter(|(j, _)| cols + j != rows + i);
            let sum = terms.fold(T::ZERO, |sum, (j, &u)| u.mul_add(sign(cols + j, b), sum));
            total = sign(rows + i, b).mul_add(sum, total);
        }
        *out += total.to_f64();
    }
}

/// Starts of the tiles of a block with `rows` rows and `cols` columns, in the order in which they are added up.
pub fn tiles(rows: usize, cols: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(TILE).flat_map(move |i| (0..cols).step_by(TILE).map(move |j| (i, j)))
}
