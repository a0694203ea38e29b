//! [`reference`](super::reference) in lanes, one stream in each.

use super::{STREAMS, Streams};
use crate::{
    Isa, Real, RowsMut,
    elementary::simd::{bits_of, flip, ln_scaled, sin_cos_quarter},
    lanes::{Kernel, Lanes, Level, Levels},
    transpose,
};
use bytemuck::Pod;
use std::marker::PhantomData;

/// What is wanted from streams.
pub enum Noise<'a, T> {
    Words { streams: &'a mut [Streams<T>], count: usize, out: &'a mut [u64] },
    Normals { streams: &'a mut [Streams<T>], out: RowsMut<'a, T> },
}

/// The family's entry point for one element type.
pub trait Dispatch: Sized {
    fn noise(isa: Isa, noise: Noise<'_, Self>);
}

macro_rules! dispatch {
    ($($t:ty)*) => {$(
        impl Dispatch for $t {
            fn noise(isa: Isa, noise: Noise<'_, Self>) {
                <Self as Levels>::dispatch(isa, noise);
            }
        }
    )*};
}
dispatch!(f32 f64);

/// Normals of a stream that go to its row at a time: a tile stays in L1.
const COLUMNS: usize = 64;

impl<T: Real> Kernel<T> for Noise<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<T>>(self, simd: L) {
        match self {
            Noise::Words { streams, count, out } => {
                for block in 0..count.div_ceil(L::LANES) {
                    let mut states = States::<L, T>::load(streams, block);
                    let first = block * L::LANES;
                    let width = L::LANES.min(count - first);
                    for out in out.chunks_exact_mut(count) {
                        let mut words = [0; STREAMS];
                        states.words(simd, &mut words);
                        out[first..first + width].copy_from_slice(&words[..width]);
                    }
                    states.store(streams, block);
                }
            }
            Noise::Normals { streams, mut out } => {
                let (rows, cols) = (out.rows(), out.cols());
                let mut tile = [simd.splat(T::ZERO); COLUMNS];
                for block in 0..rows.div_ceil(L::LANES) {
                    let mut states = States::<L, T>::load(streams, block);
                    for col in (0..cols).step_by(COLUMNS) {
                        let tile = &mut tile[..COLUMNS.min(cols - col)];
                        states.normals(simd, tile);
                        let tile = bytemuck::cast_slice(tile);
                        let first = block * L::LANES;
                        transpose::scatter::<T, L>(simd, tile, L::LANES, &mut out, first, col);
                    }
                    states.store(streams, block);
                }
            }
        }
    }
}

/// One stream per lane of `T`: one register of words for `f64`, one of even and one of odd streams for `f32` (which are the
/// same where there is a single lane).
#[derive(Clone, Copy)]
pub(crate) struct States<L: Lanes<T>, T>([[L::Words; 4]; 2], PhantomData<T>);

impl<T: Real, L: Lanes<T>> States<L, T> {
    /// Words per register.
    const WORDS: usize = size_of::<L::Words>() / size_of::<u64>();
    /// Registers per word of the state.
    const HALVES: usize = L::LANES / Self::WORDS;

    /// Where the words of block number `block` start, in which group of streams.
    #[inline(always)]
    fn place(block: usize, half: usize) -> (usize, usize) {
        let first = block * L::LANES;
        let slot = super::slot::<T>(first % STREAMS);
        (first / STREAMS, slot + half * (STREAMS / 2))
    }

    /// The streams of block number `block`, where a block has one stream per lane.
    #[inline(always)]
    pub(crate) fn load(streams: &[Streams<T>], block: usize) -> Self {
        let even = Self::load_half(streams, block, 0);
        let odd = if Self::HALVES == 2 { Self::load_half(streams, block, 1) } else { even };
        Self([even, odd], PhantomData)
    }

    #[inline(always)]
    fn load_half(streams: &[Streams<T>], block: usize, half: usize) -> [L::Words; 4] {
        let (group, slot) = Self::place(block, half);
        let [a, b, c, d] = &streams[group].state;
        [load_words(a, slot), load_words(b, slot), load_words(c, slot), load_words(d, slot)]
    }

    #[inline(always)]
    pub(crate) fn store(self, streams: &mut [Streams<T>], block: usize) {
        for (half, state) in self.0.iter().enumerate().take(Self::HALVES) {
            let (group, slot) = Self::place(block, half);
            for (words, state) in streams[group].state.iter_mut().zip(state) {
                let words = &mut words[slot..slot + Self::WORDS];
                bytemuck::cast_slice_mut::<u64, L::Words>(words)[0] = *state;
            }
        }
    }

    /// One word of every stream, in the order of streams.
    #[inline(always)]
    fn words(&mut self, simd: L, out: &mut [u64; STREAMS]) {
        for half in 0..Self::HALVES {
            let words = [next(simd, &mut self.0[half])];
            let words: &[u64] = bytemuck::cast_slice(&words);
            for (out, &word) in out[half..].iter_mut().step_by(Self::HALVES).zip(words) {
                *out = word;
            }
        }
    }

    /// The integers behind a pair of normals.
    #[inline(always)]
    pub(crate) fn integers(&mut self, simd: L) -> [L::Bits; 2] {
        let first = next(simd, &mut self.0[0]);
        let second = match (T::WIDTH, Self::HALVES) {
            (64, _) => next(simd, &mut self.0[0]),
            (_, 2) => next(simd, &mut self.0[1]),
            _ => first,
        };
        simd.integers([first, second])
    }

    /// A pair of standard normals.
    #[inline(always)]
    pub(crate) fn pair(&mut self, simd: L) -> [L::Vector; 2] {
        let [a, b] = self.integers(simd);
        pair(simd, a, b)
    }

    /// Standard normals, a pair at a time; the second of the last is dropped if there is no place for it.
    #[inline(always)]
    pub(crate) fn normals(&mut self, simd: L, out: &mut [L::Vector]) {
        let (pairs, last) = out.as_chunks_mut::<2>();
        for out in pairs {
            *out = self.pair(simd);
        }
        if let [last] = last {
            [*last, _] = self.pair(simd);
        }
    }
}

#[inline(always)]
fn load_words<W: Pod>(words: &[u64; STREAMS], slot: usize) -> W {
    bytemuck::cast_slice(&words[slot..slot + size_of::<W>() / size_of::<u64>()])[0]
}

#[inline(always)]
fn rotate_left<L: Level>(simd: L, a: L::Words, amount: u32) -> L::Words {
    simd.or_words(simd.shl_words(a, amount), simd.shr_words(a, 64 - amount))
}

/// xoshiro256++.
#[inline(always)]
fn next<L: Level>(simd: L, s: &mut [L::Words; 4]) -> L::Words {
    let sum = simd.add_words(s[0], s[3]);
    let output = simd.add_words(rotate_left(simd, sum, 23), s[0]);
    let shifted = simd.shl_words(s[1], 17);
    s[2] = simd.xor_words(s[2], s[0]);
    s[3] = simd.xor_words(s[3], s[1]);
    s[1] = simd.xor_words(s[1], s[2]);
    s[0] = simd.xor_words(s[0], s[3]);
    s[2] = simd.xor_words(s[2], shifted);
    s[3] = rotate_left(simd, s[3], 45);
    output
}

/// An integer as the nearest number.
#[inline(always)]
fn to_number<T: Real, L: Lanes<T>>(simd: L, a: L::Bits) -> L::Vector {
    let half = T::WIDTH / 2;
    // With the halves in the significands of 2^S and 2^(S + W/2), subtracting those is exact, and
    // only the last addition rounds.
    let base = (1u64 << T::SIGNIFICAND) as f64;
    let top = base * (1u64 << half) as f64;
    let low = simd.and_bits(a, simd.splat_bits((1 << half) - 1));
    let low = simd.or_bits(low, bits_of(simd, T::from_f64(base)));
    let high = simd.or_bits(simd.shr_bits(a, half), bits_of(simd, T::from_f64(top)));
    let high = simd.sub(bytemuck::cast(high), simd.splat(T::from_f64(top + base)));
    simd.add(high, bytemuck::cast(low))
}

/// `ln u` for `u = (a | 1) 2^-W`.
#[inline(always)]
pub(crate) fn ln_uniform<T: Real, L: Lanes<T>>(simd: L, a: L::Bits) -> L::Vector {
    let odd = simd.or_bits(a, simd.splat_bits(1));
    ln_scaled(simd, to_number(simd, odd), T::WIDTH)
}

/// Box and Muller's transform of two integers.
#[inline(always)]
fn pair<T: Real, L: Lanes<T>>(simd: L, a: L::Bits, b: L::Bits) -> [L::Vector; 2] {
    let r = simd.sqrt(simd.mul(simd.splat(T::from_f64(-2.0)), ln_uniform(simd, a)));
    let fraction = simd.shr_bits(b, T::WIDTH - T::SIGNIFICAND);
    let t = bytemuck::cast(simd.or_bits(fraction, bits_of(simd, T::ONE)));
    let (sin, cos) = sin_cos_quarter(simd, simd.sub(t, simd.splat(T::from_f64(1.5))));
    let x = flip(simd, simd.mul(r, cos), sign(simd, b, 0));
    let y = flip(simd, simd.mul(r, sin), sign(simd, b, 1));
    // ±1 by the bit that tells which comes first.
    let order = bytemuck::cast(simd.or_bits(sign(simd, b, 2), bits_of(simd, T::ONE)));
    let zero = simd.splat(T::ZERO);
    [simd.select_less(order, zero, y, x), simd.select_less(order, zero, x, y)]
}

/// A bit of `b` in the place of the sign.
#[inline(always)]
fn sign<T: Real, L: Lanes<T>>(simd: L, b: L::Bits, bit: u32) -> L::Bits {
    let top = simd.splat_bits(1 << (T::WIDTH - 1));
    simd.and_bits(simd.shl_bits(b, T::WIDTH - 1 - bit), top)
}
