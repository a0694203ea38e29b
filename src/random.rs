//! Random streams.
//!
//! Every draw of the library is a function of (seed, stream, position in the stream), never of
//! threads, batch sizes or instruction sets: each chain and each row of a bank owns a stream.

use crate::{Isa, Real, Result, RowsMut, data::streams};
use gibbsite_kernels::{
    ShapeError,
    noise::{
        self,
        reference::{self, Normal},
    },
};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// One xoshiro256++ stream, identified by a seed and a stream number.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: Xoshiro256PlusPlus,
    /// The second normal of the last pair.
    spare: Option<f64>,
}

impl Stream {
    /// The stream of this number under this seed: the stream that the kernels run in lanes
    /// ([`gibbsite_kernels::noise`]). The library's own are from 2^32 to 2^51, and u64::MAX: numbers below 2^32 give draws that are independent
    /// of all that it makes with the same seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(reference::key(seed, stream));
        Self { rng, spare: None }
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

    /// Standard normal; normals are made in pairs ([`gibbsite_kernels::noise`]).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let [first, second] = f64::pair(f64::integers(|| self.rng.next_u64()));
        self.spare = Some(second);
        first
    }

    /// Fills a slice with independent standard normals of its type. The second half of a last odd pair is dropped, so that a
    /// fill always consumes the same number of bits.
    pub fn fill_normal<T: Real>(&mut self, out: &mut [T]) {
        self.spare = None;
        reference::normals(|| self.rng.next_u64(), out);
    }

    /// A uniform point of the unit sphere; of none in no dimensions.
    pub fn fill_sphere<T: Real>(&mut self, out: &mut [T]) {
        loop {
            self.fill_normal(out);
            let norm = gibbsite_kernels::Real::sqrt(crate::data::dot(out, out));
            if norm > T::ZERO || out.is_empty() {
                return out.iter_mut().for_each(|x| *x /= norm);
            }
        }
    }
}

/// Many streams that are read side by side, in lanes.
#[derive(Clone, Debug)]
pub struct Streams<T> {
    groups: Vec<noise::Streams<T>>,
    count: usize,
    isa: Isa,
}

impl<T: Real> Streams<T> {
    /// Streams `first..first + count` of a seed, which give what [`Stream`]s of these numbers give.
    ///
    /// # Errors
    /// If memory cannot hold their states.
    pub fn new(seed: u64, first: u64, count: usize, isa: Isa) -> Result<Self> {
        Ok(Self { groups: streams("number of streams", seed, first, count)?, count, isa })
    }

    /// Next words: `out[k * count + c]` is the k-th of stream c. What does not make a whole step stays as it is,
    /// without streams all of it.
    pub fn words(&mut self, out: &mut [u64]) {
        let whole = out.len() / self.count.max(1) * self.count;
        noise::words(self.isa, &mut self.groups, self.count, &mut out[..whole]);
    }

    /// Next normals: row c of `out`, which has as many rows as there are streams, gets those of stream c. The second half of a last
    /// odd pair is dropped.
    ///
    /// # Errors
    /// If the number of rows is not that of streams.
    pub fn normals(&mut self, out: RowsMut<'_, T>) -> Result<()> {
        if out.rows() != self.count {
            return Err(ShapeError::new("rows for streams", self.count, out.rows()).into());
        }
        noise::normals(self.isa, &mut self.groups, out);
        Ok(())
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
    fn words_come_in_whole_steps() {
        for (count, len, taken) in [(3, 8, 6), (3, 2, 0), (0, 4, 0), (1, 4, 4)] {
            let mut words = vec![0; len];
            Streams::<f64>::new(1, 2, count, Isa::Scalar).unwrap().words(&mut words);
            let expected = (0..len).map(|k| if k < taken { words_of(1, 2, count, k) } else { 0 });
            assert!(expected.eq(words), "{len} of {count} streams");
        }
    }

    fn words_of(seed: u64, first: u64, count: usize, k: usize) -> u64 {
        let mut stream = Stream::new(seed, first + (k % count) as u64);
        (0..=k / count).map(|_| stream.bits()).last().expect("one at least")
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
