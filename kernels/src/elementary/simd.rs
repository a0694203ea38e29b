//! [`reference`](super::reference) in lanes.

use crate::{
    Isa, Real,
    lanes::{Kernel, Lanes, Levels},
};

/// An element-wise kernel.
pub enum Map<'a, T> {
    Ln { x: &'a [T], y: &'a mut [T] },
    SinCosPi { x: &'a [T], sin: &'a mut [T], cos: &'a mut [T] },
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

impl<T: Real> Kernel<T> for Map<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<T>>(self, simd: L) {
        match self {
            Map::Ln { x, y } => {
                let lanes = L::LANES;
                let body = x.len() - x.len() % lanes;
                let (registers, tail) = x.split_at(body);
                let (out, tail_out) = y.split_at_mut(body);
                let out: &mut [L::Vector] = bytemuck::cast_slice_mut(out);
                for (&x, y) in bytemuck::cast_slice(registers).iter().zip(out) {
                    *y = ln(simd, x);
                }
                let y = [ln(simd, padded(simd, tail))];
                tail_out.copy_from_slice(&bytemuck::cast_slice(&y)[..tail.len()]);
            }
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
