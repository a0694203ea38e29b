//! Elementary functions made of IEEE 754 operations alone: the same bits on every instruction set,
//! errors below one unit in the last place.
//!
//! * `ln x`: `x = 2^e m` with m in [√½, √2); with f = m - 1 and s = f / (2 + f), ln m = 2 artanh s =
//!   f - (f²/2 - s (f²/2 + s² P(s²))), an arrangement in which f, which is exact, carries the
//!   leading digits.
//! * `sin πx` and `cos πx`: reduced exactly to a quarter turn, then `t (π/2 + t² S(t²))` and
//!   `1 + t² C(t²)` for t in [-½, ½].
//! * `exp x`: `x = k ln 2 + r` with |r| ≤ ½ ln 2, the result 2^k (1 + r + r² E(r)). The power of two is
//!   multiplied in halves, so that a subnormal result is rounded just once more.
//! * `atan2(a, b)` for a, b ≥ 0: with t = min / max, or (max - min) / (max + min) if the first is above
//!   tan π/8, the angle is 0, π/4 or π/2 plus or minus arctan t = `t + t³ A(t²)`. The rounding error
//!   of t comes from the remainder of the division, with just one reciprocal.
//!
//! The polynomials are minimax fits (Sollya's `fpminimax`) with errors below 2^-57 (`f64`) and
//! 2^-28 (`f32`) of the result.

use crate::{Isa, Real};

pub mod reference;
pub(crate) mod simd;

/// Layout of a type and coefficients of its polynomials.
pub trait Constants: Sized + 'static {
    /// Bits of the type.
    const WIDTH: u32;
    /// Stored bits of the significand.
    const SIGNIFICAND: u32;
    /// Exponent bias.
    const BIAS: u32;
    /// Bits of √½, rounded down.
    const SQRT_HALF: u64;
    /// ln 2 in two parts; the product of the first with any exponent is exact.
    const LN2: [Self; 2];
    /// P, lowest power first.
    const LN: &'static [Self];
    /// π/2 in two parts.
    const HALF_PI: [Self; 2];
    /// S, lowest power first.
    const SIN: &'static [Self];
    /// C, lowest power first.
    const COS: &'static [Self];
    /// 1 / ln 2.
    const LOG2_E: Self;
    /// Beyond ± this, all results of the exponential function are ∞ or 0.
    const EXP_BOUND: Self;
    /// E, lowest power first.
    const EXP: &'static [Self];
    /// tan π/8.
    const TAN_EIGHTH: Self;
    /// A, lowest power first.
    const ATAN: &'static [Self];
}

impl Constants for f32 {
    const WIDTH: u32 = 32;
    const SIGNIFICAND: u32 = 23;
    const BIAS: u32 = 127;
    const SQRT_HALF: u64 = 0x3f35_04f3;
    const LN2: [f32; 2] = [0.69314575, 1.4286068e-06];
    const LN: &'static [f32] = &[0.6666667, 0.39999554, 0.28589356, 0.22583348];
    const HALF_PI: [f32; 2] = [1.5707964, -4.371139e-08];
    const SIN: &'static [f32] = &[-0.6459641, 0.07969225, -0.004678602, 0.00015209736];
    const COS: &'static [f32] = &[-1.2337005, 0.25366828, -0.020852493, 0.00088611676];
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const EXP_BOUND: f32 = 120.0;
    const EXP: &'static [f32] = &[0.4999999, 0.16666521, 0.041668963, 0.008368672, 0.0013782486];
    const TAN_EIGHTH: f32 = 0.41421357;
    const ATAN: &'static [f32] = &[-0.33333316, 0.1999853, -0.14244428, 0.10599466, -0.060908165];
}

impl Constants for f64 {
    const WIDTH: u32 = 64;
    const SIGNIFICAND: u32 = 52;
    const BIAS: u32 = 1023;
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcc;
    const LN2: [f64; 2] = [0.6931471805598903, 5.497923018708371e-14];
    const LN: &'static [f64] = &[
        0.666666666666667,
        0.3999999999989941,
        0.28571428626137174,
        0.22222211103336678,
        0.18182891493218478,
        0.15331643830958921,
        0.14617382950339797,
    ];
    const HALF_PI: [f64; 2] = [std::f64::consts::FRAC_PI_2, 6.123233995736766e-17];
    const SIN: &'static [f64] = &[
        -0.6459640975062462,
        0.07969262624614394,
        -0.004681754134247061,
        0.0001604411665438536,
        -3.5987026492024584e-06,
        5.6421783300152975e-08,
    ];
    const COS: &'static [f64] = &[
        -1.2337005501361697,
        0.2536695079010391,
        -0.02086348076306128,
        0.000919260270713496,
        -2.5202013474381855e-05,
        4.7098608248831427e-07,
        -6.2287930890835876e-09,
    ];
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const EXP_BOUND: f64 = 800.0;
    const EXP: &'static [f64] = &[
        0.5000000000000011,
        0.16666666666666424,
        0.04166666666652701,
        0.008333333333487045,
        0.0013888888944328967,
        0.00019841269522513457,
        2.4801492462047133e-5,
        2.755757220957578e-6,
        2.763045330955493e-7,
        2.5004530562298984e-8,
    ];
    const TAN_EIGHTH: f64 = 0.41421356237309503;
    const ATAN: &'static [f64] = &[
        -0.333333333333332,
        0.19999999999953685,
        -0.1428571428020122,
        0.1111111078358091,
        -0.0909089776000951,
        0.07692060252393734,
        -0.06663104544370749,
        0.0584789378743769,
        -0.05039329757736895,
        0.03806533335688502,
        -0.01790821166785061,
    ];
}

/// `y[i] = ln x[i]`, within 1 ULP; -∞ at ±0, NaN below.
///
/// # Panics
/// If the lengths differ.
pub fn ln<T: Real>(isa: Isa, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "length of y against x");
    T::elementary(isa, simd::Map::Ln { x, y });
}

/// `sin[i] = sin πx[i]` and `cos[i] = cos πx[i]`, within 1 ULP; NaN at ±∞. Zeros are those of IEEE 754's `sinPi` and
/// `cosPi`: `sin πn` has the sign of n, `cos π(n + ½)` is +0.
///
/// # Panics
/// If the lengths differ.
pub fn sin_cos_pi<T: Real>(isa: Isa, x: &[T], sin: &mut [T], cos: &mut [T]) {
    assert_eq!(x.len(), sin.len(), "length of sin against x");
    assert_eq!(x.len(), cos.len(), "length of cos against x");
    T::elementary(isa, simd::Map::SinCosPi { x, sin, cos });
}

/// `y[i] = e^x[i]`, within 1 ULP; underflow is gradual.
///
/// # Panics
/// If the lengths differ.
pub fn exp<T: Real>(isa: Isa, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "length of y against x");
    T::elementary(isa, simd::Map::Exp { x, y });
}

/// `angle[i] = atan2(opposite[i], adjacent[i])` where both are at least 0, within 1 ULP: from 0 to π/2,
/// and 0 if both are 0. NaN if one of them is negative or both are ∞.
///
/// # Panics
/// If the lengths differ.
pub fn angle<T: Real>(isa: Isa, opposite: &[T], adjacent: &[T], angle: &mut [T]) {
    assert_eq!(opposite.len(), adjacent.len(), "length of adjacent against opposite");
    assert_eq!(opposite.len(), angle.len(), "length of angle against opposite");
    T::elementary(isa, simd::Map::Angle { opposite, adjacent, angle });
}
