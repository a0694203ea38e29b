//! The functions as plain code, one value at a time: the specification that every fast version must
//! reproduce bit for bit.

use super::Constants;

/// The family's functions for one type.
pub trait Elementary: Sized {
    /// `ln(x 2^-scale)` for a positive normal x.
    fn ln_scaled(x: Self, scale: u32) -> Self;
    /// Natural logarithm.
    fn ln(x: Self) -> Self;
    /// `(sin πx, cos πx)`.
    fn sin_cos_pi(x: Self) -> (Self, Self);
    /// `(sin (π/2)t, cos (π/2)t)` for t in [-½, ½].
    fn sin_cos_quarter(t: Self) -> (Self, Self);
    /// Exponential function.
    fn exp(x: Self) -> Self;
    /// `atan2(opposite, adjacent)` where neither is negative.
    fn angle(opposite: Self, adjacent: Self) -> Self;
}

macro_rules! elementary {
    ($t:ident, $bits:ident) => {
        impl Elementary for $t {
            fn ln_scaled(x: $t, scale: u32) -> $t {
                const ONE: $bits = (1.0 as $t).to_bits();
                const SQRT_HALF: $bits = <$t as Constants>::SQRT_HALF as $bits;
                let shifted = x.to_bits() + (ONE - SQRT_HALF);
                let mantissa = shifted & ((1 << $t::SIGNIFICAND) - 1);
                let e = (shifted >> $t::SIGNIFICAND) as $t - ($t::BIAS + scale) as $t;
                let f = $t::from_bits(mantissa + SQRT_HALF) - 1.0;
                let s = f / (2.0 + f);
                let z = s * s;
                let half_square = 0.5 * f * f;
                let tail = s.mul_add(z.mul_add(polynomial(z, $t::LN), half_square), e * $t::LN2[1]);
                e.mul_add($t::LN2[0], f - (half_square - tail))
            }

            fn ln(x: $t) -> $t {
                /// Takes subnormals to normals.
                const SCALE: u32 = $t::SIGNIFICAND + 2;
                if x.is_nan() || x == $t::INFINITY {
                    x
                } else if x == 0.0 {
                    $t::NEG_INFINITY
                } else if x < 0.0 {
                    $t::NAN
                } else if x < $t::MIN_POSITIVE {
                    Self::ln_scaled(x * (1u64 << SCALE) as $t, SCALE)
                } else {
                    Self::ln_scaled(x, 0)
                }
            }

            fn sin_cos_pi(x: $t) -> ($t, $t) {
                // To a turn of [-1, 1], then to a quarter with its number n in -2..=2; both exactly.
                let r = (-2.0 as $t).mul_add((0.5 * x.abs()).round_ties_even(), x.abs());
                let quarters = 2.0 * r;
                let n = quarters.round_ties_even();
                let (s, c) = Self::sin_cos_quarter(quarters - n);
                let (sin, cos) = if (n.abs() - 1.0).abs() < 0.5 {
                    (n * c, 0.0 - n * s)
                } else if n.abs() > 1.5 {
                    (0.0 - s, 0.0 - c)
                } else {
                    (s, c)
                };
                // From the sign bit, so that -0 has its own.
                (if x.is_sign_negative() { -sin } else { sin }, cos)
            }

            fn sin_cos_quarter(t: $t) -> ($t, $t) {
                let z = t * t;
                let [high, low] = $t::HALF_PI;
                let correction = t * z.mul_add(polynomial(z, $t::SIN), low);
                (t.mul_add(high, correction), z.mul_add(polynomial(z, $t::COS), 1.0))
            }

            fn exp(x: $t) -> $t {
                // Exponents stay within what two factors reach. NaN passes.
                let x = if x < -$t::EXP_BOUND { -$t::EXP_BOUND } else { x };
                let x = if $t::EXP_BOUND < x { $t::EXP_BOUND } else { x };
                let k = (x * $t::LOG2_E).round_ties_even();
                // Exact, so it enters the sum without the rounding error of r.
                let high = (-k).mul_add($t::LN2[0], x);
                let low = k * $t::LN2[1];
                let r = high - low;
                let tail = (r * r).mul_add(polynomial(r, $t::EXP), -low);
                let y = 1.0 + (high + tail);
                let power = |k: $t| {
                    // Its lowest bits are the biased exponent.
                    let number = k + ((1u64 << $t::SIGNIFICAND) as $t + $t::BIAS as $t);
                    $t::from_bits(number.to_bits() << $t::SIGNIFICAND)
                };
                let half = (0.5 * k).round_ties_even();
                y * power(half) * power(k - half)
            }

            fn angle(opposite: $t, adjacent: $t) -> $t {
                let (min, max) =
                    if opposite < adjacent { (opposite, adjacent) } else { (adjacent, opposite) };
                // The reciprocal of max and the remainder of the division need room in the exponent.
                let threshold = $t::from_bits((($t::BIAS + $t::WIDTH) as $bits) << $t::SIGNIFICAND);
                let up =
                    $t::from_bits(((2 * $t::BIAS - $t::WIDTH - 5) as $bits) << $t::SIGNIFICAND);
                let scale = if max < threshold { up } else { 0.0625 };
                let (min, max) = (scale * min, scale * max);
                let (sum, difference) = (max + min, max - min);
                let reduced = max * $t::TAN_EIGHTH < min;
                // Exact: difference + numerator_error = max - min, and likewise the sum.
                let (numerator, numerator_error, denominator, denominator_error) = if reduced {
                    (difference, (max - difference) - min, sum, (max - sum) + min)
                } else {
                    (min, 0.0, max, 0.0)
                };
                let reciprocal = 1.0 / denominator;
                let t = numerator * reciprocal;
                let remainder = (-t).mul_add(denominator, numerator) + numerator_error;
                let error = (-t).mul_add(denominator_error, remainder) * reciprocal;
                let z = t * t;
                let series = (t * z).mul_add(polynomial(z, $t::ATAN), (-z).mul_add(error, error));
                // turns π/2 + direction (t + series), the error of the leading sum carried along.
                let (direct, turned) = if adjacent < opposite { (-1.0, 1.0) } else { (1.0, 0.0) };
                let (direction, turns): ($t, $t) =
                    if reduced { (-direct, 0.5) } else { (direct, turned) };
                let [high, low] = $t::HALF_PI;
                let base = turns * high;
                let leading = direction.mul_add(t, base);
                let rest = turns.mul_add(low, direction.mul_add(t, base - leading));
                let angle = leading + direction.mul_add(series, rest);
                if min < 0.0 {
                    $t::NAN
                } else if !(0.0 < max) {
                    // Both zero, or NaN.
                    sum
                } else if max < $t::INFINITY {
                    angle
                } else {
                    leading
                }
            }
        }
    };
}

elementary!(f32, u32);
elementary!(f64, u64);

/// By Horner's rule, lowest power first.
fn polynomial<T: crate::Real>(z: T, coefficients: &[T]) -> T {
    let (&last, rest) = coefficients.split_last().expect("at least one coefficient");
    rest.iter().rev().fold(last, |sum, &c| sum.mul_add(z, c))
}
