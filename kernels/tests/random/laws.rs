//! The map from integers to pairs of normals, by enumeration: the law of the radius, the law of the
//! angle, the symmetries and the extremes.
//!
//! This is the reference's map; that the kernels give the same bits is tested with the streams.

use crate::{
    parallel::{Merge, parallel},
    support::{Float, Rng, by_effort},
};
use gibbsite_kernels::noise::reference::Normal;

/// Second integers for which t is 0: all of the radius goes to one coordinate.
const STRAIGHT: u64 = 1 << 31;

/// The radius that the first integers 2k and 2k + 1 give.
fn radius(k: u64) -> f32 {
    let [r, zero] = f32::pair([2 * k + 1, STRAIGHT]);
    assert_eq!(zero, 0.0);
    r
}

/// The largest of distances.
#[derive(Default)]
struct Distance(f64);

impl Distance {
    fn add(&mut self, distance: f64) {
        // The larger of a number and NaN is the number.
        assert!(!distance.is_nan());
        self.0 = self.0.max(distance);
    }
}

impl Merge for Distance {
    fn merge(&mut self, other: Self) {
        self.add(other.0);
    }
}

/// The radius falls with k, so the first and the last k of each radius give its probabilities,
/// which are compared with those of the Rayleigh law.
#[test]
fn radius_has_the_rayleigh_law_f32() {
    const ALL: u64 = 1 << 31;
    let block = by_effort(1 << 9, 1 << 10, 1 << 16);
    // In a large run, blocks join up; otherwise they are spread evenly, the last at the end.
    let blocks = by_effort(1 << 6, 1 << 12, ALL / block);
    let Distance(distance) = parallel(blocks, |worst: &mut Distance, i| {
        let start = (ALL - block) / (blocks - 1) * i;
        let end = if i + 1 == blocks { ALL } else { start + block };
        // The radius that is under way when the block starts belongs to the block before.
        let mut first = start;
        let mut r = radius(start);
        let mut whole = start == 0 || radius(start - 1) != r;
        for k in start + 1.. {
            let next = if k < ALL { radius(k) } else { f32::NEG_INFINITY };
            assert!(next <= r && (next.is_finite() || k == ALL), "radius {next} after {r} at {k}");
            if next == r {
                continue;
            }
            if whole {
                let exact = (-0.5 * f64::from(r).powi(2)).exp();
                let [more, least] = [first, k].map(|count| count as f64 / ALL as f64);
                worst.add((more - exact).abs());
                worst.add((least - exact).abs());
            }
            if k >= end {
                break;
            }
            (first, r, whole) = (k, next, true);
        }
    });
    println!(
        "f32 radius: Kolmogorov distance {distance:e} = 2^{:.3} over {} integers",
        distance.log2(),
        2 * (blocks * block).min(ALL)
    );
    assert!(distance <= 2.0_f64.powi(-23), "{distance:e}");
}

/// The same at single points: u is what the Rayleigh law says of the radius.
#[test]
fn radius_has_the_rayleigh_law_f64() {
    let count = by_effort(1 << 12, 1 << 20, 1 << 28) / 64;
    let Distance(distance) = parallel(count, |worst: &mut Distance, i| {
        let mut rng = Rng::new(i << 32);
        for shift in 0..64 {
            let a = rng.next() >> shift;
            let [r, zero] = f64::pair([a, 1 << 63]);
            assert_eq!(zero, 0.0);
            let u = (a | 1) as f64 * 2.0_f64.powi(-64);
            worst.add((core_math::exp(-0.5 * r * r) - u).abs());
        }
    });
    println!(
        "f64 radius: distance {distance:e} = 2^{:.3} at {} points",
        distance.log2(),
        64 * count
    );
    assert!(distance <= 2.0_f64.powi(-52), "{distance:e}");
}

/// The direction is uniform on each quarter turn to within its grid.
#[test]
fn angle_is_uniform_f32() {
    const ALL: u64 = 1 << 23;
    let step = by_effort(1 << 11, 1, 1);
    let integer = |k: u64| k << 9;
    let Distance(distance) = parallel(ALL / step, |worst: &mut Distance, i| {
        let k = i * step;
        let [x, y] = f32::pair([0, integer(k)]).map(f64::from);
        let [_, before] = f32::pair([0, integer(k.saturating_sub(1))]).map(f64::from);
        assert!(before < y || k == 0, "directions {} and {k}", k - 1);
        let exact = 0.5 + core_math::atan2(y, x) / std::f64::consts::FRAC_PI_2;
        for count in [k, k + 1] {
            worst.add((exact - count as f64 / ALL as f64).abs());
        }
    });
    // A quarter of this is left on the whole circle.
    println!(
        "f32 angle: Kolmogorov distance {distance:e} on a quarter turn, 2^{:.3} on the circle",
        (distance / 4.0).log2()
    );
    assert!(distance / 4.0 <= 2.0_f64.powi(-23), "{distance:e}");
}

/// All combinations of signs and order come once from the low bits; the bits between them and the
/// angle, and the lowest one of the first integer, have no effect.
fn symmetric<T: Float>() {
    let low = [0, 1, 2, 3, 4, 5, 6, 7];
    let first_of_angle = T::WIDTH - T::SIGNIFICAND;
    let all = u64::MAX >> (64 - T::WIDTH);
    let idle = (1 << first_of_angle) - 8;
    let count = by_effort(1 << 8, 1 << 13, 1 << 20);
    parallel(count, |(), i| {
        let mut rng = Rng::new(i << 32);
        for shift in 0..T::WIDTH {
            let (a, b) = ((rng.next() & all) >> shift, rng.next() & all);
            let b = if i == 0 { u64::from(shift) << first_of_angle } else { b };
            let pairs = low.map(|low| T::pair([a, b & !7 | low]).map(T::bits));
            let [x, y] = pairs[0];
            let magnitude = T::sign_bit() - 1;
            let mut expected = Vec::new();
            for sign_x in [0, T::sign_bit()] {
                for sign_y in [0, T::sign_bit()] {
                    let (x, y) = (x & magnitude | sign_x, y & magnitude | sign_y);
                    expected.extend([[x, y], [y, x]]);
                }
            }
            let mut found = pairs.to_vec();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{} from {a:#x} and {b:#x}", T::NAME);
            for (low, pair) in low.into_iter().zip(pairs) {
                let other = T::pair([a ^ 1, (b ^ rng.next() & idle) & !7 | low]).map(T::bits);
                assert_eq!(pair, other, "{} from {a:#x} and {b:#x}, idle bits", T::NAME);
            }
        }
    });
    println!("{}: {} cases symmetric", T::NAME, count * u64::from(T::WIDTH));
}

#[test]
fn signs_and_order_are_symmetric() {
    symmetric::<f32>();
    symmetric::<f64>();
}

/// The tails end where the smallest u puts them.
fn extremes<T: Float>(least: f64) {
    let all = u64::MAX >> (64 - T::WIDTH);
    let straight = 1 << (T::WIDTH - 1);
    let mut largest = 0.0_f64;
    for a in [0, 1, 2, 3, all / 2, all / 2 + 1, all - 2, all - 1, all] {
        for b in [0, 7, straight, straight | 7, straight + 512, straight - 512, all - 7, all] {
            for z in T::pair([a, b]) {
                assert!(z.is_finite(), "{z} from {a:#x} and {b:#x}");
                largest = largest.max(z.to_f64());
            }
        }
    }
    let mut sides = Vec::new();
    for low in 0..8 {
        sides.extend(T::pair([0, straight | low]).map(T::to_f64));
    }
    for side in [-largest, largest] {
        assert_eq!(sides.iter().filter(|&&z| z == side).count(), 4, "{sides:?}");
    }
    println!("{}: largest |z| {largest}", T::NAME);
    assert!(largest >= least, "{}: largest |z| {largest} below {least}", T::NAME);
}

#[test]
fn extremes_are_far_and_finite() {
    extremes::<f32>(6.66);
    extremes::<f64>(9.41);
}

/// Every first integer gives finite normals, the same for those that differ in the lowest bit.
#[test]
fn every_integer_is_finite_f32() {
    let step = by_effort(65_537, 1021, 1);
    let count = (1 << 31) / step;
    let block = 1 << 12;
    parallel(count / block + 1, |(), i| {
        for k in i * block..((i + 1) * block).min(count) {
            let a = 2 * k * step;
            let pairs = [a, a + 1].map(|a| f32::pair([a, STRAIGHT]));
            assert!(pairs.as_flattened().iter().all(|z| z.is_finite()), "{pairs:?} from {a:#x}");
            assert_eq!(pairs[0], pairs[1], "from {a:#x} and {:#x}", a + 1);
        }
    });
    println!("f32: {} first integers give finite normals", 2 * count);
}
