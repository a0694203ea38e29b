//! Random streams.
//!
//! Every draw of the library is a function of (seed, stream, position in the stream), never of
//! threads, batch sizes or instruction sets: each chain and each block of a bank owns a stream.

use crate::Real;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// One xoshiro256++ stream, identified by a seed and a stream number.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: Xoshiro256PlusPlus,
    /// The second normal of the last pair.
    spare: Option<f64>,
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection of 64-bit words.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64's increment, 2^64 over the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Stream {
    /// The stream of this number under this seed. The seed is scrambled before the number enters, so that
    /// (seed, stream + 1) and (seed + 1, stream) are unrelated.
    pub fn new(seed: u64, stream: u64) -> Self {
        let start =
            mix(mix(seed.wrapping_add(GAMMA)) ^ mix(stream.wrapping_add(GAMMA).rotate_left(32)));
        // `seed_from_u64` of this generator fills the state by SplitMix64.
        Self { rng: Xoshiro256PlusPlus::seed_from_u64(start), spare: None }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Uniform on (0, 1]: a multiple of 2^-53, never 0, so its logarithm is finite.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal, by Box and Muller's transform with elementary functions that give the same bits
    /// on every platform.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * libm::log(self.uniform())).sqrt();
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * self.uniform());
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Fills a slice with independent standard normals. The second half of a last odd pair is dropped, so that a
    /// fill always consumes the same number of bits.
    pub fn fill_normal<T: Real>(&mut self, out: &mut [T]) {
        self.spare = None;
        for out in out {
            *out = T::from_f64(self.normal());
        }
        self.spare = None;
    }

    /// A uniform point of the unit sphere.
    pub fn fill_sphere<T: Real>(&mut self, out: &mut [T]) {
        loop {
            self.fill_normal(out);
            let norm = gibbsite_kernels::Real::sqrt(crate::data::dot(out, out));
            if norm > T::ZERO {
                return out.iter_mut().for_each(|x| *x /= norm);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_streams_do_not_collide() {
        let mut first: Vec<u64> = (0..100)
            .flat_map(|seed| (0..100).map(move |stream| Stream::new(seed, stream).bits()))
            .collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 10_000);
    }

    #[test]
    fn normals_have_the_right_moments() {
        let mut stream = Stream::new(1, 2);
        let n = 1_000_000;
        let mut moments = [0.0; 4];
        for _ in 0..n {
            let z = stream.normal();
            for (k, moment) in moments.iter_mut().enumerate() {
                *moment += z.powi(k as i32 + 1) / f64::from(n);
            }
        }
        // Five standard errors of the first four moments.
        for (moment, (mean, variance)) in
            moments.iter().zip([(0.0, 1.0), (1.0, 2.0), (0.0, 15.0), (3.0, 96.0f64)])
        {
            let bound = 5.0 * (variance / f64::from(n)).sqrt();
            assert!((moment - mean).abs() < bound, "{moment} against {mean}");
        }
    }

    #[test]
    fn uniforms_are_never_zero_and_reach_one_only_at_the_top() {
        assert_eq!((u64::MAX >> 11) as f64 * (1.0 / (1u64 << 53) as f64), 1.0 - f64::EPSILON / 2.0);
        let mut stream = Stream::new(0, 0);
        assert!((0..100_000).map(|_| stream.uniform()).all(|u| u > 0.0 && u <= 1.0));
    }
}
