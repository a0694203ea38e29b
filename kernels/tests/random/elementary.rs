//! ln, exp, sin πx, cos πx and angles against CORE-MATH's correctly rounded functions, on every level.

use crate::{
    parallel::{Merge, parallel},
    support::{Effort, Float, Rng, by_effort, effort, levels, mix},
};
use gibbsite_kernels::{Isa, Real, elementary};
use std::{f64::consts, ops};

/// A sum of two numbers, the second below half a unit in the last place of the first.
#[derive(Clone, Copy)]
struct Double(f64, f64);

impl Double {
    const LN_2: Self = Self(consts::LN_2, 2.319046813846299e-17);
    const HALF_PI: Self = Self(consts::FRAC_PI_2, 6.123233995736766e-17);

    fn sum(a: f64, b: f64) -> Self {
        let sum = a + b;
        let shadow = sum - a;
        Self(sum, (a - (sum - shadow)) + (b - shadow))
    }
}

impl From<f64> for Double {
    fn from(x: f64) -> Self {
        Self(x, 0.0)
    }
}

impl ops::Add for Double {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        let (high, low) = (Self::sum(self.0, b.0), Self::sum(self.1, b.1));
        let sum = Self::sum(high.0, high.1 + low.0);
        Self::sum(sum.0, sum.1 + low.1)
    }
}

impl ops::Mul for Double {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        let product = self.0 * b.0;
        let rest = self.0.mul_add(b.0, -product);
        Self::sum(product, rest + (self.0 * b.1 + self.1 * b.0))
    }
}

impl ops::Div for Double {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let first = Self::from(self.0 / b.0);
        let rest = self + b * Self::from(-first.0);
        first + Self::from(rest.0 / b.0)
    }
}

/// A value in more digits than the type under test has, times a power of two that keeps it away
/// from underflow.
struct Exact {
    value: Double,
    scale: f64,
}

impl From<f64> for Exact {
    fn from(value: f64) -> Self {
        Self { value: value.into(), scale: 1.0 }
    }
}

impl From<Double> for Exact {
    fn from(value: Double) -> Self {
        Self { value, scale: 1.0 }
    }
}

impl Exact {
    /// The distance of `y`, in units of the last place that `T` has at the exact value.
    fn error<T: Real>(&self, y: T) -> f64 {
        let Double(high, low) = self.value;
        let exponent = |x: f64| (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
        // Below a power of two, units are half as large.
        let toward_zero = low != 0.0 && high.is_sign_negative() != low.is_sign_negative();
        let below = f64::from_bits(high.to_bits() - u64::from(toward_zero));
        let smallest = 1 - T::BIAS as i32 + exponent(self.scale);
        let unit = exponent(below).max(smallest) - T::SIGNIFICAND as i32;
        let difference = (y.to_f64() * self.scale - high) - low;
        difference.abs() * 2.0_f64.powi(-unit)
    }
}

/// ln by the series of the inverse hyperbolic tangent.
fn exact_ln(x: f64) -> Exact {
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * 2.0_f64.powi(54), 54) } else { (x, 0) };
    let mut e = (x.to_bits() >> 52) as i32 - 1023;
    let mut m = x * 2.0_f64.powi(-e / 2) * 2.0_f64.powi(-(e - e / 2));
    if m > consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let f = m - 1.0;
    let s = Double::from(f) / Double::sum(2.0, f);
    let z = s * s;
    let term = |k: i32| Double::from(1.0) / Double::from(f64::from(2 * k + 1));
    let series = (0..22).rev().fold(term(22), |sum, k| sum * z + term(k));
    let e = Double::from(f64::from(e - shift));
    (e * Double::LN_2 + Double::from(2.0) * s * series).into()
}

/// sin (π/2)t and cos (π/2)t by their Taylor series, for |t| up to ½.
fn exact_quarter(t: f64) -> [Double; 2] {
    let angle = Double::HALF_PI * Double::from(t);
    let z = angle * angle;
    let one = Double::from(1.0);
    let series = |odd: i32| {
        (1..=15).rev().fold(one, |sum, k| {
            let n = 2 * k + odd;
            one + sum * z / Double::from(f64::from(-n * (n - 1)))
        })
    };
    [angle * series(1), series(0)]
}

/// sin πx and cos πx.
fn exact_sin_cos_pi(x: f64) -> [Exact; 2] {
    if x.abs() < 2.0_f64.powi(-500) {
        let scale = 2.0_f64.powi(600);
        let sin = Double::HALF_PI * Double::from(2.0 * x * scale);
        return [Exact { value: sin, scale }, 1.0.into()];
    }
    let quarters = 2.0 * (x % 2.0);
    let n = quarters.round_ties_even();
    let [sin, cos] = exact_quarter(quarters - n);
    let negative = |a: Double| Double(-a.0, -a.1);
    match n.rem_euclid(4.0) {
        0.0 => [sin.into(), cos.into()],
        1.0 => [cos.into(), negative(sin).into()],
        2.0 => [negative(sin).into(), negative(cos).into()],
        _ => [negative(cos).into(), sin.into()],
    }
}

/// exp by its Taylor series.
fn exact_exp(x: f64) -> Exact {
    let k = (x * consts::LOG2_E).round_ties_even();
    let r = Double::from(x) + Double::from(-k) * Double::LN_2;
    let one = Double::from(1.0);
    let series = (1..=24).rev().fold(one, |sum, n| one + sum * r / Double::from(f64::from(n)));
    // All that powers of two allow: what is left is far from underflow.
    let shift = k.clamp(-1000.0, 1000.0) as i32;
    let rest = 2.0_f64.powi(k as i32 - shift);
    Exact { value: Double(series.0 * rest, series.1 * rest), scale: 2.0_f64.powi(-shift) }
}

/// atan2 of two positive numbers, by one step of Newton's method from a multiple of π/2.
fn exact_angle(opposite: f64, adjacent: f64) -> Exact {
    let (min, max) = (opposite.min(adjacent), opposite.max(adjacent));
    let up = if max < 1.0 { 2.0_f64.powi(200) } else { 1.0 };
    let (min, max) = (min * up, max * up);
    let e = (max.to_bits() >> 52) as i32 - 1023;
    let times = |x: f64, power: i32| x * 2.0_f64.powi(power / 2) * 2.0_f64.powi(power - power / 2);
    let max_scaled = times(max, -e);
    if min / max < 2.0_f64.powi(-300) {
        if adjacent < opposite {
            return Double::HALF_PI.into();
        }
        let quotient = Double::from(times(min, 600 - e)) / Double::from(max_scaled);
        return Exact { value: quotient, scale: 2.0_f64.powi(600) };
    }
    let (min, max) = (Double::from(times(min, -e)), Double::from(max_scaled));
    let negative = |a: Double| Double(-a.0, -a.1);
    let t = core_math::atan(min.0 / max.0) * consts::FRAC_2_PI;
    let [sin, cos] = exact_quarter(t);
    let step = (min * cos + negative(max * sin)) / (max * cos + min * sin);
    let angle = Double::HALF_PI * Double::from(t) + step;
    if adjacent < opposite { Double::HALF_PI + negative(angle) } else { angle }.into()
}

/// The other side of an angle: any value, or one of similar size.
fn adjacent<T: Float>(opposite: T) -> T {
    let bits = mix(opposite.bits());
    let unit = (bits >> 11) as f64 * 2.0_f64.powi(-53);
    let ratio = match bits % 4 {
        0 => return T::from_bits(bits >> (64 - T::WIDTH)).abs(),
        1 => 2.0 * unit,
        2 => 1.0 / (unit + 2.0_f64.powi(-60)),
        _ => (1.0 + unit) * 2.0_f64.powi((bits >> 2) as i32 % 32),
    };
    opposite.abs() * T::from_f64(ratio)
}

/// The correctly rounded angle of a point: that of two infinities is left open.
fn rounded_angle<T: Float>(opposite: T, atan2: fn(T, T) -> T) -> T {
    let (opposite, adjacent) = (opposite.abs(), adjacent(opposite));
    let open = opposite == T::INFINITY && adjacent == T::INFINITY;
    if open { T::NAN } else { atan2(opposite, adjacent) }
}

/// One function and its true values.
struct Output<T> {
    name: &'static str,
    /// Correctly rounded.
    rounded: fn(T) -> T,
    /// In more digits, for arguments with finite results other than 0.
    exact: fn(T) -> Exact,
}

/// A kernel, which computes one or two functions.
struct Subject<T: 'static> {
    outputs: &'static [Output<T>],
    run: fn(Isa, &[T], &mut [Vec<T>; 2]),
    reference: fn(T) -> [T; 2],
    /// Panics where a law that holds between values does not.
    laws: fn(&[T], &[Vec<T>; 2]),
}

fn ln<T: Float>(outputs: &'static [Output<T>]) -> Subject<T> {
    Subject {
        outputs,
        run: |isa, x, [y, _]| elementary::ln(isa, x, y),
        reference: |x| [T::ln(x), T::ZERO],
        laws: |x, [y, _]| {
            let increasing = |x: [T; 2], y: [T; 2]| {
                if T::ZERO <= x[0] && x[0] <= x[1] {
                    assert!(
                        y[0] <= y[1],
                        "ln falls from {} at {} to {} at {}",
                        y[0],
                        x[0],
                        y[1],
                        x[1]
                    );
                }
            };
            for (x, y) in x.windows(2).zip(y.windows(2)) {
                increasing([x[0], x[1]], [y[0], y[1]]);
            }
            if T::ZERO < x[0] {
                let before = T::from_bits(x[0].bits() - 1);
                increasing([before, x[0]], [T::ln(before), y[0]]);
            }
        },
    }
}

/// At x and at -x.
fn exp<T: Float>(outputs: &'static [Output<T>]) -> Subject<T> {
    Subject {
        outputs,
        run: |isa, x, [y, z]| {
            let mirrored: Vec<_> = x.iter().map(|&x| -x).collect();
            elementary::exp(isa, x, y);
            elementary::exp(isa, &mirrored, z);
        },
        reference: |x| [T::exp(x), T::exp(-x)],
        laws: |x, [y, z]| {
            for (x, (y, z)) in x.windows(2).zip(y.windows(2).zip(z.windows(2))) {
                if x[0] <= x[1] {
                    assert!(y[0] <= y[1], "exp falls from {} to {}", x[0], x[1]);
                    assert!(z[1] <= z[0], "exp falls from {} to {}", -x[1], -x[0]);
                }
            }
        },
    }
}

/// As functions of the opposite side.
fn angle<T: Float>(outputs: &'static [Output<T>]) -> Subject<T> {
    Subject {
        outputs,
        run: |isa, x, [y, _]| {
            let (opposite, adjacent): (Vec<_>, Vec<_>) =
                x.iter().map(|&x| (x.abs(), adjacent(x))).unzip();
            elementary::angle(isa, &opposite, &adjacent, y);
        },
        reference: |x| [T::angle(x.abs(), adjacent(x)), T::ZERO],
        laws: |_, [y, _]| {
            let right = T::from_f64(consts::FRAC_PI_2);
            assert!(y.iter().all(|&y| !(y < T::ZERO || right < y)), "beyond the first quadrant");
        },
    }
}

fn sin_cos_pi<T: Float>(outputs: &'static [Output<T>]) -> Subject<T> {
    Subject {
        outputs,
        run: |isa, x, [sin, cos]| elementary::sin_cos_pi(isa, x, sin, cos),
        reference: |x| T::sin_cos_pi(x).into(),
        laws: |x, y| {
            let mirrored: Vec<_> =
                x.iter().map(|x| T::from_bits(x.bits() ^ T::sign_bit())).collect();
            let mut other = y.clone();
            let [sin, cos] = &mut other;
            elementary::sin_cos_pi(Isa::best(), &mirrored, sin, cos);
            for i in 0..x.len() {
                let (even, odd) = (cos[i], T::from_bits(sin[i].bits() ^ T::sign_bit()));
                assert_eq!(even.canonical(), y[1][i].canonical(), "cos π({}) and -", x[i]);
                assert_eq!(odd.canonical(), y[0][i].canonical(), "sin π({}) and -", x[i]);
            }
        },
    }
}

const LN_F32: &[Output<f32>] = &[Output {
    name: "f32 ln x",
    rounded: core_math::logf,
    exact: |x| core_math::log(x.into()).into(),
}];
const LN_F64: &[Output<f64>] =
    &[Output { name: "f64 ln x", rounded: core_math::log, exact: exact_ln }];
const SIN_COS_PI_F32: &[Output<f32>] = &[
    Output {
        name: "f32 sin πx",
        rounded: core_math::sinpif,
        exact: |x| core_math::sinpi(x.into()).into(),
    },
    Output {
        name: "f32 cos πx",
        rounded: core_math::cospif,
        exact: |x| core_math::cospi(x.into()).into(),
    },
];
const SIN_COS_PI_F64: &[Output<f64>] = &[
    Output {
        name: "f64 sin πx",
        rounded: core_math::sinpi,
        exact: |x| {
            let [sin, _] = exact_sin_cos_pi(x);
            sin
        },
    },
    Output {
        name: "f64 cos πx",
        rounded: core_math::cospi,
        exact: |x| {
            let [_, cos] = exact_sin_cos_pi(x);
            cos
        },
    },
];

const EXP_F32: &[Output<f32>] = &[
    Output {
        name: "f32 exp x",
        rounded: core_math::expf,
        exact: |x| core_math::exp(x.into()).into(),
    },
    Output {
        name: "f32 exp -x",
        rounded: |x| core_math::expf(-x),
        exact: |x| core_math::exp((-x).into()).into(),
    },
];
const EXP_F64: &[Output<f64>] = &[
    Output { name: "f64 exp x", rounded: core_math::exp, exact: exact_exp },
    Output { name: "f64 exp -x", rounded: |x| core_math::exp(-x), exact: |x| exact_exp(-x) },
];
const ANGLE_F32: &[Output<f32>] = &[Output {
    name: "f32 angle",
    rounded: |x| rounded_angle(x, core_math::atan2f),
    exact: |x| core_math::atan2(x.abs().into(), adjacent(x).into()).into(),
}];
const ANGLE_F64: &[Output<f64>] = &[Output {
    name: "f64 angle",
    rounded: |x| rounded_angle(x, core_math::atan2),
    exact: |x| exact_angle(x.abs(), adjacent(x)),
}];

/// Arguments that are looked at together.
#[derive(Clone, Copy)]
enum Piece {
    /// By their bits, `step` apart.
    Walk {
        start: u64,
        step: u64,
        count: usize,
    },
    Random {
        seed: u64,
        count: usize,
    },
}

/// Arguments per piece: levels are compared and laws are checked within cache.
const PIECE: usize = 1 << 12;

impl Piece {
    fn arguments<T: Float>(self) -> Vec<T> {
        match self {
            Piece::Walk { start, step, count } => {
                (0..count as u64).map(|i| T::from_bits(start + i * step)).collect()
            }
            Piece::Random { seed, count } => {
                let mut rng = Rng::new(seed);
                let argument = |i: usize| {
                    let bits = rng.next();
                    let unit = (bits >> 11) as f64 * 2.0_f64.powi(-53);
                    match i % 3 {
                        0 => T::from_bits(bits >> (64 - T::WIDTH)),
                        1 => T::from_f64(unit),
                        _ => T::from_f64((1.0 + unit) * 2.0_f64.powi((bits % 20) as i32 - 10)),
                    }
                };
                (0..count).map(argument).collect()
            }
        }
    }
}

/// `count` arguments from `start` on, cut into pieces.
fn walk(start: u64, step: u64, count: u64) -> impl Iterator<Item = Piece> {
    (0..count).step_by(PIECE).map(move |i| Piece::Walk {
        start: start + i * step,
        step,
        count: PIECE.min((count - i) as usize),
    })
}

/// Neighbourhoods, of `width` values on each side, of where branches, exponents and results change.
fn neighbourhoods<T: Float>(width: u64) -> Vec<Piece> {
    let powers = (0..=2 * u64::from(T::BIAS) + 1).map(|exponent| exponent << T::SIGNIFICAND);
    let subnormals = (0..T::SIGNIFICAND).map(|bit| 1 << bit);
    let quarters = (1..=64).map(|k| T::from_f64(f64::from(k) * 0.25).bits());
    // Beyond these there are no halves, and no odd numbers.
    let coarse =
        [1u64 << T::SIGNIFICAND, 2 << T::SIGNIFICAND].map(|x| T::from_f64(x as f64).bits());
    let roots = [consts::FRAC_1_SQRT_2, consts::SQRT_2].map(|x| T::from_f64(x).bits());
    let centres = powers.chain(subnormals).chain(quarters).chain(coarse).chain(roots);
    let magnitudes = T::sign_bit() - 1;
    centres
        .flat_map(|centre| {
            let start = centre.saturating_sub(width);
            let end = (centre + width).min(magnitudes);
            [0, T::sign_bit()]
                .into_iter()
                .flat_map(move |sign| walk(sign | start, 1, end - start + 1))
        })
        .collect()
}

/// What was found for the functions of a kernel.
#[derive(Default)]
struct Found {
    count: u64,
    /// Results that are not correctly rounded.
    misrounded: [u64; 2],
    /// The largest error of those, in units of the last place, and the argument.
    worst: [(f64, f64); 2],
    hash: u64,
}

impl Merge for Found {
    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.hash = self.hash.wrapping_add(other.hash);
        for i in 0..2 {
            self.misrounded[i] += other.misrounded[i];
            if other.worst[i].0 > self.worst[i].0 {
                self.worst[i] = other.worst[i];
            }
        }
    }
}

impl<T: Float> Subject<T> {
    /// All levels and the reference give the same bits; returned for accuracy.
    fn values(&self, x: &[T]) -> [Vec<T>; 2] {
        let buffer = || [vec![T::ZERO; x.len()], vec![T::ZERO; x.len()]];
        let mut y = buffer();
        for (i, &x) in x.iter().enumerate() {
            [y[0][i], y[1][i]] = (self.reference)(x);
        }
        for isa in levels() {
            let mut other = buffer();
            (self.run)(isa, x, &mut other);
            for (k, output) in self.outputs.iter().enumerate() {
                for i in 0..x.len() {
                    let (y, other) = (y[k][i], other[k][i]);
                    let same = y.canonical() == other.canonical();
                    assert!(
                        same,
                        "{} at {}: {other} on {isa}, {y} by reference",
                        output.name, x[i]
                    );
                }
            }
        }
        y
    }

    fn examine(&self, found: &mut Found, piece: Piece) {
        let x = piece.arguments::<T>();
        let y = self.values(&x);
        (self.laws)(&x, &y);
        let mut hash = match piece {
            Piece::Walk { start, step, .. } => mix(start) ^ step,
            Piece::Random { seed, .. } => seed,
        };
        for (k, output) in self.outputs.iter().enumerate() {
            for (&x, &y) in x.iter().zip(&y[k]) {
                hash = (hash ^ y.canonical()).wrapping_mul(0x100_0000_01b3);
                let rounded = (output.rounded)(x);
                if y.canonical() == rounded.canonical() {
                    continue;
                }
                let ordinary = y.is_finite() && rounded.is_finite() && rounded != T::ZERO;
                assert!(ordinary, "{} is {y} at {x}, expected {rounded}", output.name);
                let exact = (output.exact)(x);
                let best = exact.error(rounded);
                assert!(best <= 0.5 + 1e-6, "{} at {x}: the references disagree", output.name);
                found.misrounded[k] += 1;
                let error = exact.error(y);
                if error > found.worst[k].0 {
                    found.worst[k] = (error, x.to_f64());
                }
            }
        }
        found.count += x.len() as u64;
        found.hash = found.hash.wrapping_add(mix(hash));
    }

    /// Errors stay within a unit in the last place, and the bits are those of the `golden` hash.
    fn check(&self, pieces: &(impl Fn(u64) -> Piece + Sync), count: u64, golden: u64) {
        let found: Found = parallel(count, |found, i| self.examine(found, pieces(i)));
        for (k, output) in self.outputs.iter().enumerate() {
            let (error, x) = found.worst[k];
            println!(
                "{}: {} of {} not correctly rounded, at most {error:.6} ULP off (at {x:e})",
                output.name, found.misrounded[k], found.count
            );
            assert!(error <= 1.0, "{} at {x:e}: {error} ULP", output.name);
        }
        assert_eq!(found.hash, golden, "hash {:#018x}, expected {golden:#018x}", found.hash);
    }

    /// All `f32`, or an odd stride of them and neighbourhoods.
    fn sweep(&self, golden: u64) {
        if effort() == Effort::Large {
            let piece = |i| Piece::Walk { start: i * PIECE as u64, step: 1, count: PIECE };
            return self.check(&piece, (1 << 32) / PIECE as u64, golden);
        }
        let stride = by_effort(32_749, 251, 1);
        let mut pieces = neighbourhoods::<T>(by_effort(8, 256, 0));
        pieces.extend(walk(0, stride, (1 << 32) / stride + 1));
        self.check(&|i| pieces[i as usize], pieces.len() as u64, golden);
    }

    /// Random arguments and neighbourhoods.
    fn sample(&self, golden: u64) {
        let around = neighbourhoods::<T>(by_effort(1, 64, 64));
        let fixed = around.len() as u64;
        let random = by_effort(1 << 14, 1 << 21, 1 << 30) / PIECE as u64;
        let piece = |i: u64| match around.get(i as usize) {
            Some(&piece) => piece,
            None => Piece::Random { seed: mix(i - fixed), count: PIECE },
        };
        self.check(&piece, fixed + random, golden);
    }
}

// Hashes for small, normal and large effort. Other bits are a breaking change.

#[test]
fn ln_f32() {
    ln(LN_F32).sweep(by_effort(
        0x2c50_6455_6405_1711,
        0xf647_aa6c_0af0_fc6e,
        0xebdf_7f50_cb86_1fad,
    ));
}

#[test]
fn ln_f64() {
    ln(LN_F64).sample(by_effort(
        0xfa53_a67d_608f_2655,
        0xa2c9_8fab_b860_1fc8,
        0x6344_59c7_c2ba_8548,
    ));
}

#[test]
fn sin_cos_pi_f32() {
    sin_cos_pi(SIN_COS_PI_F32).sweep(by_effort(
        0xe929_471b_c5c4_2160,
        0xa028_2e0a_cbf3_c1a1,
        0x0c1f_8f08_a9fa_113b,
    ));
}

#[test]
fn sin_cos_pi_f64() {
    sin_cos_pi(SIN_COS_PI_F64).sample(by_effort(
        0x7216_c55b_c1dd_8885,
        0x57d9_829b_7f73_ee92,
        0x0c0b_ce35_c5ed_1e6b,
    ));
}

#[test]
fn exp_f32() {
    exp(EXP_F32).sweep(by_effort(
        0x8d0d_c0e8_6979_bfbc,
        0x3c40_af0d_1654_d947,
        0x00cf_5559_1181_e889,
    ));
}

#[test]
fn exp_f64() {
    exp(EXP_F64).sample(by_effort(
        0x9a07_8f77_f4e4_f9f0,
        0x77a3_1abf_6467_c144,
        0x2ae1_48e6_db87_8316,
    ));
}

#[test]
fn angle_f32() {
    angle(ANGLE_F32).sweep(by_effort(
        0x493a_5f1d_f96e_97d2,
        0xab4b_d6d1_4f06_5443,
        0xeb53_013f_704f_747f,
    ));
}

#[test]
fn angle_f64() {
    angle(ANGLE_F64).sample(by_effort(
        0x6f3f_7020_67fc_e025,
        0xacb5_77ff_96b8_9919,
        0xea66_7d6c_d86b_e285,
    ));
}

/// Zeros, infinities and NaNs as IEEE 754 has them, on every level.
fn specials<T: Float>() {
    let infinity = T::INFINITY;
    let [one, half] = [T::ONE, T::from_f64(0.5)];
    let same = |what: &str, isa: Isa, x: T, y: T, expected: T| {
        assert_eq!(y.canonical(), expected.canonical(), "{what} {x} on {isa}: {y}, not {expected}");
    };
    let (exponent, digits) = (f64::from(T::BIAS), f64::from(T::SIGNIFICAND));
    let log = |k: f64| T::from_f64(k * consts::LN_2);
    for isa in levels() {
        for (x, expected) in [
            (T::ZERO, -infinity),
            (-T::ZERO, -infinity),
            (-T::from_bits(1), T::NAN),
            (-one, T::NAN),
            (-infinity, T::NAN),
            (infinity, infinity),
            (T::NAN, T::NAN),
            (one, T::ZERO),
        ] {
            let mut y = [T::ONE];
            elementary::ln(isa, &[x], &mut y);
            same("ln", isa, x, y[0], expected);
        }
        for (x, expected) in [
            (T::ZERO, one),
            (-T::ZERO, one),
            (infinity, infinity),
            (-infinity, T::ZERO),
            (T::from_bits(infinity.bits() - 1), infinity),
            (-T::from_bits(infinity.bits() - 1), T::ZERO),
            // Just above the largest number, just below half of the smallest subnormal, and that
            // subnormal.
            (log(exponent + 1.0 + 1e-5), infinity),
            (log(-exponent - digits - 1e-5), T::ZERO),
            (log(1.0 - exponent - digits), T::from_bits(1)),
            (T::from_bits(1), one),
            (T::NAN, T::NAN),
        ] {
            let mut y = [T::ONE];
            elementary::exp(isa, &[x], &mut y);
            same("exp", isa, x, y[0], expected);
        }
        let right = T::from_f64(consts::FRAC_PI_2);
        let (tiny, huge) = (T::from_bits(1), T::from_bits(infinity.bits() - 1));
        for (opposite, adjacent, expected) in [
            (T::ZERO, T::ZERO, T::ZERO),
            (T::ZERO, one, T::ZERO),
            (T::ZERO, tiny, T::ZERO),
            (T::ZERO, huge, T::ZERO),
            (one, T::ZERO, right),
            (tiny, T::ZERO, right),
            (huge, T::ZERO, right),
            (one, one, right * half),
            (tiny, tiny, right * half),
            (huge, huge, right * half),
            (tiny, one, tiny),
            (tiny, huge, T::ZERO),
            (huge, tiny, right),
            (T::MIN_POSITIVE, one, T::MIN_POSITIVE),
            (one, infinity, T::ZERO),
            (T::ZERO, infinity, T::ZERO),
            (huge, infinity, T::ZERO),
            (infinity, one, right),
            (infinity, huge, right),
            (infinity, T::ZERO, right),
            (infinity, infinity, T::NAN),
            (-one, one, T::NAN),
            (one, -one, T::NAN),
            (T::ZERO, -one, T::NAN),
            (-infinity, infinity, T::NAN),
        ] {
            let mut y = [T::INFINITY];
            elementary::angle(isa, &[opposite], &[adjacent], &mut y);
            same("angle of", isa, opposite, y[0], expected);
        }
        for x in [T::ZERO, one, huge, infinity, -one, T::NAN] {
            for (opposite, adjacent) in [(x, T::NAN), (T::NAN, x)] {
                let mut y = [T::ZERO];
                elementary::angle(isa, &[opposite], &[adjacent], &mut y);
                same("angle of", isa, opposite, y[0], T::NAN);
            }
        }
        let even = T::from_f64(1e30);
        for (x, sin, cos) in [
            (T::ZERO, T::ZERO, one),
            (half, one, T::ZERO),
            (one, T::ZERO, -one),
            (one + half, -one, T::ZERO),
            (one + one, T::ZERO, one),
            (one + one + half, one, T::ZERO),
            (one + one + one, T::ZERO, -one),
            (even, T::ZERO, one),
            (infinity, T::NAN, T::NAN),
            (T::NAN, T::NAN, T::NAN),
        ] {
            for (x, expected) in [(x, sin), (-x, -sin)] {
                let (mut y, mut z) = ([T::INFINITY], [T::INFINITY]);
                elementary::sin_cos_pi(isa, &[x], &mut y, &mut z);
                same("sin π", isa, x, y[0], expected);
                same("cos π", isa, x, z[0], cos);
            }
        }
    }
}

#[test]
fn special_values() {
    specials::<f32>();
    specials::<f64>();
}
