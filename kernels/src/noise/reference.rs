//! One stream at a time, as plain code: the specification that every fast version must reproduce
//! bit for bit.

use crate::elementary::{Constants, reference::Elementary};

/// SplitMix64's increment, 2^64 over the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea and Flood 2014), a bijection of 64-bit words.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where SplitMix64 starts for a stream: `Xoshiro256PlusPlus::seed_from_u64(key(seed, stream))` is that stream.
///
/// Seed and number are scrambled on their own before they meet, so that (seed, stream + 1) and (seed + 1,
/// stream) are unrelated.
pub fn key(seed: u64, stream: u64) -> u64 {
    mix(mix(seed.wrapping_add(GAMMA)) ^ mix(stream.wrapping_add(GAMMA).rotate_left(32)))
}

/// The first state of a stream.
pub fn start(seed: u64, stream: u64) -> [u64; 4] {
    let mut state = key(seed, stream);
    std::array::from_fn(|_| {
        state = state.wrapping_add(GAMMA);
        mix(state)
    })
}

/// xoshiro256++: advances a state and returns its output.
pub fn next(s: &mut [u64; 4]) -> u64 {
    let output = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
    let shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = s[3].rotate_left(45);
    output
}

/// What normals of one type are made of.
pub trait Normal: Sized {
    /// The integers that a pair of normals takes from a stream, given by its next words.
    fn integers(word: impl FnMut() -> u64) -> [u64; 2];
    /// `ln u` for `u = (a | 1) 2^-W`.
    fn ln_uniform(a: u64) -> Self;
    /// The pair that two integers make.
    fn pair(integers: [u64; 2]) -> [Self; 2];
}

macro_rules! normal {
    ($t:ident, $bits:ident, |$word:ident| $integers:expr) => {
        impl Normal for $t {
            fn integers(mut $word: impl FnMut() -> u64) -> [u64; 2] {
                $integers
            }

            fn ln_uniform(a: u64) -> $t {
                // Rounded once, to nearest.
                Self::ln_scaled((a as $bits | 1) as $t, $bits::BITS)
            }

            fn pair([a, b]: [u64; 2]) -> [$t; 2] {
                let r = (-2.0 * Self::ln_uniform(a)).sqrt();
                let fraction = b as $bits >> ($t::WIDTH - $t::SIGNIFICAND);
                let t = $t::from_bits((1.0 as $t).to_bits() | fraction) - 1.5;
                let (sin, cos) = Self::sin_cos_quarter(t);
                let sign = |bit: u32| if b >> bit & 1 == 1 { -1.0 } else { 1.0 };
                let (x, y) = (r * cos * sign(0), r * sin * sign(1));
                if b >> 2 & 1 == 1 { [y, x] } else { [x, y] }
            }
        }
    };
}

normal!(f32, u32, |word| {
    let word = word();
    [word & u64::from(u32::MAX), word >> 32]
});
normal!(f64, u64, |word| [word(), word()]);

/// Standard normals from the words of a stream, ⌈d/2⌉ pairs of them.
pub fn normals<T: Normal>(mut word: impl FnMut() -> u64, out: &mut [T]) {
    for out in out.chunks_mut(2) {
        for (out, normal) in out.iter_mut().zip(T::pair(T::integers(&mut word))) {
            *out = normal;
        }
    }
}
