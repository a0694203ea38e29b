//! Random streams and normals.
//!
//! A stream is xoshiro256++ (Blackman and Vigna 2021), its state filled by SplitMix64 from a seed and
//! a stream number: the generator `Xoshiro256PlusPlus` of the crate `rand_xoshiro`, started at
//! [`reference::start`]. Sixteen streams make a [`Streams`]; lanes hold streams, so what a stream
//! gives depends on (seed, number, position) alone.
//!
//! Normals come in pairs from Box and Muller's transform of two random integers a and b: from two words of
//! the stream for `f64`, from the low and the high half of one word for `f32`.
//!
//! ```text
//! u = (a | 1) 2^-W,  r = √(-2 ln u)                         W = 64 or 32
//! t = (b >> W-S) 2^-S - 1/2                                 S = 52 or 23 bits, t in [-½, ½)
//! (x, y) = (± r cos (π/2)t, ± r sin (π/2)t), exchanged      signs and exchange from bits 0 to 2 of b
//! ```
//!
//! u is never 0 and reaches 2^-W, so the tails go to 9.42 (`f64`) and 6.66 (`f32`) standard deviations;
//! the law is exactly symmetric.

use crate::{Isa, Real, RowsMut, elementary::Constants};
use std::marker::PhantomData;

pub mod reference;
pub(crate) mod simd;

/// Streams per [`Streams`].
pub const STREAMS: usize = 16;

/// Sixteen consecutive streams, laid out for lanes of `T`.
///
/// Kernels move whole registers of streams. Those that no row, chain or word was asked of, behind the last that one was, may
/// advance with the others or not, by the level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams<T> {
    /// The four words of state of every stream.
    state: [[u64; STREAMS]; 4],
    element: PhantomData<T>,
}

impl<T: Real> Streams<T> {
    /// Streams `first..first + 16` under a seed; numbers wrap.
    pub fn new(seed: u64, first: u64) -> Self {
        let mut streams = Self { state: [[0; STREAMS]; 4], element: PhantomData };
        for i in 0..STREAMS {
            let state = reference::start(seed, first.wrapping_add(i as u64));
            for (words, word) in streams.state.iter_mut().zip(state) {
                words[slot::<T>(i)] = word;
            }
        }
        streams
    }

    /// At least `count` streams from `first` on.
    pub fn range(seed: u64, first: u64, count: usize) -> Vec<Self> {
        let firsts = (0..count).step_by(STREAMS);
        firsts.map(|i| Self::new(seed, first.wrapping_add(i as u64))).collect()
    }

    /// State of stream `i`.
    ///
    /// # Panics
    /// If `i` is not below [`STREAMS`].
    pub fn state(&self, i: usize) -> [u64; 4] {
        self.state.map(|words| words[slot::<T>(i)])
    }

    /// Puts stream `i` where `state` was read. All zeros are no state of the generator: it never leaves them.
    ///
    /// # Panics
    /// If `i` is not below [`STREAMS`] or all words are 0.
    pub fn set_state(&mut self, i: usize, state: [u64; 4]) {
        assert!(state != [0; 4], "all words of a state are 0");
        for (words, word) in self.state.iter_mut().zip(state) {
            words[slot::<T>(i)] = word;
        }
    }
}

/// Where the state of stream `i` is. Lanes of `f32` take the words of even streams from one register and
/// those of odd streams from another.
fn slot<T: Constants>(i: usize) -> usize {
    match T::WIDTH {
        64 => i,
        _ => i % 2 * (STREAMS / 2) + i / 2,
    }
}

/// The next words of the first streams, step after step: `out[k * count + c]` is the k-th word of stream `c`.
///
/// # Panics
/// If there are fewer than `count` streams, or `out` does not hold whole steps.
pub fn words<T: Real>(isa: Isa, streams: &mut [Streams<T>], count: usize, out: &mut [u64]) {
    check(streams.len(), count);
    assert!(out.len().is_multiple_of(count), "{} words for {count} streams", out.len());
    T::noise(isa, simd::Noise::Words { streams, count, out });
}

/// Standard normals: row `c` of `out` gets the next ones of stream `c`. A row of d takes ⌈d/2⌉ pairs from its
/// stream; the second of the last pair is dropped where d is odd.
///
/// # Panics
/// If there are fewer streams than rows.
pub fn normals<T: Real>(isa: Isa, streams: &mut [Streams<T>], out: RowsMut<'_, T>) {
    check(streams.len(), out.rows());
    T::noise(isa, simd::Noise::Normals { streams, out });
}

pub(crate) fn check(groups: usize, count: usize) {
    assert!(count.div_ceil(STREAMS) <= groups, "{groups} x {STREAMS} streams for {count}");
}
