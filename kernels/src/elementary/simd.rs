//! [`reference`](super::reference) in lanes.

use crate::{
    Isa, Real,
    lanes::{Kernel, Lanes, Levels},
};

/// An element-wise kernel.
pub enum Map<'a, T> {
    Ln { x: &'a [T], y: &'a mut [T] },
    SinCosPi { x: &'a [T], sin: &'a mut [T], cos: &'a mut [T] },
    Exp { x: &'a [T], y: &'a mut [T] },
    Angle { opposite: &'a [T], adjacent: &'a [T], angle: &'a mut [T] },
}

/// The family's entry point for one element type.
pub trait Dispatch: Sized {
    fn elementary(isa: Isa, map: Map<'_, Self>);
}

macro_rules! dispatch {
    ($($t:ty)*) => {$(
        impl Dispatch for $t {
            fn elementary(isa: Isa, map: Map<'_, Self>) {
                <Self as Levels>::dispatch(isa, map);
            }
        }
    )*};
}
dispatch!(f32 f64);

/// `y[i] = f(x[i])`. A macro, because functions that are arguments do not reliably inherit the features.
macro_rules! each {
    ($f:ident, $lanes:ident, $simd:ident, $x:ident, $y:ident) => {{
        let body = $x.len() - $x.len() % $lanes::LANES;
        let (registers, tail) = $x.split_at(body);
        let (out, tail_out) = $y.split_at_mut(body);
        let out: &mut [$lanes::Vector] = bytemuck::cast_slice_mut(out);
        for (&x, y) in bytemuck::cast_slice(registers).iter().zip(out) {
            *y = $f($simd, x);
        }
        let y = [$f($simd, padded($simd, tail))];
        tail_out.copy_from_slice(&bytemuck::cast_slice(&y)[..tail.len()]);
    }};
}

impl<T: Real> Kernel<T> for Map<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<T>>(self, simd: L) {
        match self {
            Map::Ln { x, y } => each!(ln, L, simd, x, y),
            Map::SinCosPi { x, sin, cos } => {
                let lanes = L::LANES;
                let body = x.len() - x.len() % lanes;
                let (registers, tail) = x.split_at(body);
                let (sin, sin_tail) = sin.split_at_mut(body);
                let (cos, cos_tail) = cos.split_at_mut(body);
                let sin: &mut [L::Vector] = bytemuck::cast_slice_mut(sin);
                let cos: &mut [L::Vector] = bytemuck::cast_slice_mut(cos);
                for ((&x, sin), cos) in bytemuck::cast_slice(registers).iter().zip(sin).zip(cos) {
                    (*sin, *cos) = sin_cos_pi(simd, x);
                }
                let (sin, cos) = sin_cos_pi(simd, padded(simd, tail));
                sin_tail.copy_from_slice(&bytemuck::cast_slice(&[sin])[..tail.len()]);
                cos_tail.copy_from_slice(&bytemuck::cast_slice(&[cos])[..tail.len()]);
            }
            Map::Exp { x, y } => each!(exp, L, simd, x, y),
            Map::Angle { opposite, adjacent, angle: out } => {
                let lanes = L::LANES;
                let body = out.len() - out.len() % lanes;
                let (opposite, opposite_tail) = opposite.split_at(body);
                let (adjacent, adjacent_tail) = adjacent.split_at(body);
                let (out, tail_out) = out.split_at_mut(body);
                let opposite: &[L::Vector] = bytemuck::cast_slice(opposite);
                let adjacent: &[L::Vector] = bytemuck::cast_slice(adjacent);
                let out: &mut [L::Vector] = bytemuck::cast_slice_mut(out);
                for ((&opposite, &adjacent), out) in opposite.iter().zip(adjacent).zip(out) {
                    *out = angle(simd, opposite, adjacent);
                }
                let (opposite, adjacent) =
                    (padded(simd, opposite_tail), padded(simd, adjacent_tail));
                let y = [angle(simd, opposite, adjacent)];
                tail_out.copy_from_slice(&bytemuck::cast_slice(&y)[..tail_out.len()]);
            }
        }
    }
}

/// Fewer values than lanes, ones behind them.
#[inline(always)]
fn padded<T: Real, L: Lanes<T>>(simd: L, tail: &[T]) -> L::Vector {
    let mut register = [simd.splat(T::ONE)];
    bytemuck::cast_slice_mut(&mut register)[..tail.len()].copy_from_slice(tail);
    register[0]
}

/// The bits of `value` in every lane.
#[inline(always)]
pub(crate) fn bits_of<T: Real, L: Lanes<T>>(simd: L, value: T) -> L::Bits {
    bytemuck::cast(simd.splat(value))
}

#[inline(always)]
pub(crate) fn abs<T: Real, L: Lanes<T>>(simd: L, x: L::Vector) -> L::Vector {
    let magnitude = simd.splat_bits(u64::MAX >> (65 - T::WIDTH));
    bytemuck::cast(simd.and_bits(bytemuck::cast(x), magnitude))
}

/// `x` with its sign flipped where that of `sign` is set; all other bits of `sign` are 0.
#[inline(always)]
pub(crate) fn flip<T: Real, L: Lanes<T>>(simd: L, x: L::Vector, sign: L::Bits) -> L::Vector {
    bytemuck::cast(simd.xor_bits(bytemuck::cast(x), sign))
}

#[inline(always)]
fn polynomial<T: Real, L: Lanes<T>>(simd: L, z: L::Vector, coefficients: &[T]) -> L::Vector {
    let (&last, rest) = coefficients.split_last().expect("at least one coefficient");
    let mut sum = simd.splat(last);
    for &coefficient in rest.iter().rev() {
        sum = simd.mul_add(sum, z, simd.splat(coefficient));
    }
    sum
}

/// An integer below 2^[`Constants::SIGNIFICAND`] as a number, less `offset`.
#[inline(always)]
fn to_number<T: Real, L: Lanes<T>>(simd: L, integer: L::Bits, offset: f64) -> L::Vector {
    let base = (1u64 << T::SIGNIFICAND) as f64;
    let number = simd.or_bits(integer, bits_of(simd, T::from_f64(base)));
    simd.sub(bytemuck::cast(number), simd.splat(T::from_f64(base + offset)))
}

/// `ln(x 2^-scale)` for positive normal x.
#[inline(always)]
pub(crate) fn ln_scaled<T: Real, L: Lanes<T>>(simd: L, x: L::Vector, scale: u32) -> L::Vector {
    let one: u64 = u64::from(T::BIAS) << T::SIGNIFICAND;
    let shift = simd.splat_bits(one - T::SQRT_HALF);
    let shifted = simd.add_bits(bytemuck::cast(x), shift);
    let mantissa = simd.and_bits(shifted, simd.splat_bits((1 << T::SIGNIFICAND) - 1));
    let exponent = simd.shr_bits(shifted, T::SIGNIFICAND);
    let e = to_number(simd, exponent, f64::from(T::BIAS + scale));
    let m = bytemuck::cast(simd.add_bits(mantissa, simd.splat_bits(T::SQRT_HALF)));
    let f = simd.sub(m, simd.splat(T::ONE));
    let s = simd.div(f, simd.add(simd.splat(T::from_f64(2.0)), f));
    let z = simd.mul(s, s);
    let half_square = simd.mul(simd.mul(simd.splat(T::from_f64(0.5)), f), f);
    let series = simd.mul_add(z, polynomial(simd, z, T::LN), half_square);
    let tail = simd.mul_add(s, series, simd.mul(e, simd.splat(T::LN2[1])));
    simd.mul_add(e, simd.splat(T::LN2[0]), simd.sub(f, simd.sub(half_square, tail)))
}

/// For all x.
#[inline(always)]
pub(crate) fn ln<T: Real, L: Lanes<T>>(simd: L, x: L::Vector) -> L::Vector {
    let scale = T::SIGNIFICAND + 2;
    let zero = simd.splat(T::ZERO);
    let normal = simd.splat(T::MIN_POSITIVE);
    let scaled = simd.mul(x, simd.splat(T::from_f64((1u64 << scale) as f64)));
    let y = simd.select_less(x, normal, ln_scaled(simd, scaled, scale), ln_scaled(simd, x, 0));
    // Infinity and NaN are their own logarithms; below 0 there is none.
    let y = simd.select_less(x, simd.splat(T::INFINITY), y, x);
    let y = simd.select_less(x, zero, simd.splat(T::NAN), y);
    let at_zero = simd.add(x, simd.splat(-T::INFINITY));
    simd.select_less(zero, abs(simd, x), y, at_zero)
}

/// `(sin (π/2)t, cos (π/2)t)` for t in [-½, ½].
#[inline(always)]
pub(crate) fn sin_cos_quarter<T: Real, L: Lanes<T>>(
    simd: L,
    t: L::Vector,
) -> (L::Vector, L::Vector) {
    let z = simd.mul(t, t);
    let [high, low] = T::HALF_PI;
    let (high, low) = (simd.splat(high), simd.splat(low));
    let correction = simd.mul(t, simd.mul_add(z, polynomial(simd, z, T::SIN), low));
    let cos = simd.mul_add(z, polynomial(simd, z, T::COS), simd.splat(T::ONE));
    (simd.mul_add(t, high, correction), cos)
}

/// `(sin πx, cos πx)` for all x.
#[inline(always)]
pub(crate) fn sin_cos_pi<T: Real, L: Lanes<T>>(simd: L, x: L::Vector) -> (L::Vector, L::Vector) {
    let zero = simd.splat(T::ZERO);
    let magnitude = abs(simd, x);
    let turns = simd.round(simd.mul(simd.splat(T::from_f64(0.5)), magnitude));
    let r = simd.mul_add(simd.splat(T::from_f64(-2.0)), turns, magnitude);
    let quarters = simd.mul(simd.splat(T::from_f64(2.0)), r);
    let n = simd.round(quarters);
    let (s, c) = sin_cos_quarter(simd, simd.sub(quarters, n));
    let distance = abs(simd, n);
    let from_one = abs(simd, simd.sub(distance, simd.splat(T::ONE)));
    let half = simd.splat(T::from_f64(0.5));
    let far = simd.splat(T::from_f64(1.5));
    let sin = simd.select_less(far, distance, simd.sub(zero, s), s);
    let cos = simd.select_less(far, distance, simd.sub(zero, c), c);
    let sin = simd.select_less(from_one, half, simd.mul(n, c), sin);
    let cos = simd.select_less(from_one, half, simd.sub(zero, simd.mul(n, s)), cos);
    let sign = simd.and_bits(bytemuck::cast(x), simd.splat_bits(1 << (T::WIDTH - 1)));
    (flip(simd, sin, sign), cos)
}

/// `2^k` for an integer k with the exponent of a normal number.
#[inline(always)]
fn power<T: Real, L: Lanes<T>>(simd: L, k: L::Vector) -> L::Vector {
    let offset = (1u64 << T::SIGNIFICAND) as f64 + f64::from(T::BIAS);
    let number = simd.add(k, simd.splat(T::from_f64(offset)));
    bytemuck::cast(simd.shl_bits(bytemuck::cast(number), T::SIGNIFICAND))
}

/// For all x.
#[inline(always)]
pub(crate) fn exp<T: Real, L: Lanes<T>>(simd: L, x: L::Vector) -> L::Vector {
    let (lowest, highest) = (simd.splat(-T::EXP_BOUND), simd.splat(T::EXP_BOUND));
    let x = simd.select_less(x, lowest, lowest, x);
    let x = simd.select_less(highest, x, highest, x);
    let k = simd.round(simd.mul(x, simd.splat(T::LOG2_E)));
    let high = simd.mul_add(k, simd.splat(-T::LN2[0]), x);
    let low = simd.mul(k, simd.splat(-T::LN2[1]));
    let r = simd.add(high, low);
    let tail = simd.mul_add(simd.mul(r, r), polynomial(simd, r, T::EXP), low);
    let y = simd.add(simd.splat(T::ONE), simd.add(high, tail));
    let half = simd.round(simd.mul(simd.splat(T::from_f64(0.5)), k));
    simd.mul(simd.mul(y, power(simd, half)), power(simd, simd.sub(k, half)))
}

/// `atan2(opposite, adjacent)` where neither is negative.
#[inline(always)]
pub(crate) fn angle<T: Real, L: Lanes<T>>(
    simd: L,
    opposite: L::Vector,
    adjacent: L::Vector,
) -> L::Vector {
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let sign = simd.splat_bits(1 << (T::WIDTH - 1));
    let min = simd.select_less(opposite, adjacent, opposite, adjacent);
    let max = simd.select_less(opposite, adjacent, adjacent, opposite);
    let threshold = u64::from(T::BIAS + T::WIDTH) << T::SIGNIFICAND;
    let up = u64::from(2 * T::BIAS - T::WIDTH - 5) << T::SIGNIFICAND;
    let threshold = bytemuck::cast(simd.splat_bits(threshold));
    let up = bytemuck::cast(simd.splat_bits(up));
    let scale = simd.select_less(max, threshold, up, simd.splat(T::from_f64(0.0625)));
    let (min, max) = (simd.mul(scale, min), simd.mul(scale, max));
    let (sum, difference) = (simd.add(max, min), simd.sub(max, min));
    let bound = simd.mul(max, simd.splat(T::TAN_EIGHTH));
    let numerator = simd.select_less(bound, min, difference, min);
    let denominator = simd.select_less(bound, min, sum, max);
    let numerator_error =
        simd.select_less(bound, min, simd.sub(simd.sub(max, difference), min), zero);
    let denominator_error = simd.select_less(bound, min, simd.add(simd.sub(max, sum), min), zero);
    let reciprocal = simd.div(one, denominator);
    let t = simd.mul(numerator, reciprocal);
    let minus_t = flip(simd, t, sign);
    let remainder = simd.add(simd.mul_add(minus_t, denominator, numerator), numerator_error);
    let remainder = simd.mul_add(minus_t, denominator_error, remainder);
    let error = simd.mul(remainder, reciprocal);
    let z = simd.mul(t, t);
    let tail = simd.mul_add(flip(simd, z, sign), error, error);
    let series = simd.mul_add(simd.mul(t, z), polynomial(simd, z, T::ATAN), tail);
    let minus_one = simd.splat(-T::ONE);
    let direct = simd.select_less(adjacent, opposite, minus_one, one);
    let turned = simd.select_less(adjacent, opposite, one, zero);
    let direction = simd.select_less(bound, min, flip(simd, direct, sign), direct);
    let turns = simd.select_less(bound, min, simd.splat(T::from_f64(0.5)), turned);
    let [high, low] = T::HALF_PI;
    let base = simd.mul(turns, simd.splat(high));
    let leading = simd.mul_add(direction, t, base);
    let rest = simd.mul_add(direction, t, simd.sub(base, leading));
    let rest = simd.mul_add(turns, simd.splat(low), rest);
    let angle = simd.add(leading, simd.mul_add(direction, series, rest));
    let angle = simd.select_less(max, simd.splat(T::INFINITY), angle, leading);
    // Both zero, or NaN.
    let angle = simd.select_less(zero, max, angle, sum);
    simd.select_less(min, zero, simd.splat(T::NAN), angle)
}
