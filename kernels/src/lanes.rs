//! The operations that kernels are written in: one trait, implemented for each instruction-set
//! token and element type.
//!
//! pulp's own `Simd` trait is generic over the token but not over the element type, and leaves
//! NaN and signed zeros open in `min`/`max`. This one holds just what our kernels use, with
//! every result pinned down to the bit.

#[cfg(feature = "blas")]
use crate::blas;
use crate::{Isa, chain, elementary, noise, relu, rowwise, stein};
use bytemuck::Pod;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use pulp::Simd;
use std::{
    fmt::{Debug, Display},
    marker::PhantomData,
    ops::{Add, Div, Mul, Neg, Sub},
};

/// A token that stands for registers of 64-bit words, which random streams run in.
pub trait Level: Copy {
    /// One register.
    type Words: Pod;

    /// Wrapping.
    fn add_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn and_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn or_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn xor_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn splat_words(self, value: u64) -> Self::Words;
    /// By fewer than 64 bits.
    fn shl_words(self, a: Self::Words, amount: u32) -> Self::Words;
    fn shr_words(self, a: Self::Words, amount: u32) -> Self::Words;
}

/// A token that stands for registers of `T`s.
///
/// All methods are element-wise and exactly rounded, so lane `i` of a result is what the same
/// scalar operation gives.
pub trait Lanes<T>: Level {
    /// One register. Its alignment is that of `T`, so that slices can be cast freely.
    type Vector: Pod;
    /// The same register as unsigned integers of the width of `T`.
    type Bits: Pod;
    /// How many `T`s a register holds.
    const LANES: usize;
    /// How many vector registers the instruction set names.
    const REGISTERS: usize;

    fn splat(self, value: T) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sqrt(self, a: Self::Vector) -> Self::Vector;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `if z < 0 { 0 } else { z }`: keeps NaN and the sign of zero.
    fn relu(self, z: Self::Vector) -> Self::Vector;
    /// `if x < y { a } else { b }`.
    fn select_less(
        self,
        x: Self::Vector,
        y: Self::Vector,
        a: Self::Vector,
        b: Self::Vector,
    ) -> Self::Vector;
    /// `if z > 0 { a } else { b }`.
    #[inline(always)]
    fn select_positive(self, z: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector
    where
        T: Real,
    {
        self.select_less(self.splat(T::ZERO), z, a, b)
    }

    /// The lanes of both in turn, first lanes first: `(a0 b0 a1 b1 ..)` and the rest.
    fn zip(self, a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector);

    /// The low bits of `value` in every lane.
    fn splat_bits(self, value: u64) -> Self::Bits;
    /// Wrapping.
    fn add_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn and_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn or_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn xor_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// By fewer bits than `T` has.
    fn shl_bits(self, a: Self::Bits, amount: u32) -> Self::Bits;
    fn shr_bits(self, a: Self::Bits, amount: u32) -> Self::Bits;

    /// Two integers per lane from two registers of words. `f64` has a word for each; `f32` has the low and the high
    /// half of one word: of a word of the first register in even lanes, of the second in odd ones.
    fn integers(self, words: [Self::Words; 2]) -> [Self::Bits; 2];
}

/// A kernel body, written once and compiled for every level.
pub trait Kernel<T>: Sized {
    type Output;
    /// Runs with the features of `simd` enabled. Implementations must be `#[inline(always)]`,
    /// like everything they call: code that is not inlined loses the features.
    fn run<L: Lanes<T>>(self, simd: L) -> Self::Output;
}

/// An element type for which every level has registers.
pub trait Levels: Sized {
    /// Runs a kernel on the given level, or on the next lower one that the CPU offers.
    fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output;
}

/// The element types of all kernels: `f32` and `f64`. Sealed.
pub trait Real:
    Pod
    + Debug
    + Display
    + PartialOrd
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + chain::simd::Dispatch
    + elementary::Constants
    + elementary::reference::Elementary
    + elementary::simd::Dispatch
    + noise::reference::Normal
    + noise::simd::Dispatch
    + relu::simd::Dispatch
    + rowwise::simd::Dispatch
    + stein::simd::Dispatch
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Distance from 1 to the next larger value: 2^-23 or 2^-52.
    const EPSILON: Self;
    /// Smallest positive normal value.
    const MIN_POSITIVE: Self;
    /// ∞.
    const INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// The name of the type: `"f32"` or `"f64"`.
    const NAME: &'static str;
    /// The routine of CBLAS for this type.
    #[cfg(feature = "blas")]
    #[doc(hidden)]
    const GEMM: blas::Gemm<Self>;

    /// `self * a + b`, rounded once on every platform.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
}

/// A kernel on its way through `vectorize`. A struct, because closures do not reliably inherit
/// the caller's features.
struct Run<K, L, T>(K, L, PhantomData<T>);

impl<T, K: Kernel<T>, L: Lanes<T>> pulp::NullaryFnOnce for Run<K, L, T> {
    type Output = K::Output;

    #[inline(always)]
    fn call(self) -> K::Output {
        self.0.run(self.1)
    }
}

/// One lane, no instruction set beyond the target's baseline.
#[derive(Clone, Copy)]
struct Scalar;

macro_rules! real {
    ($t:ident, $bits:ident, $gemm:ident, |$a:ident, $b:ident| $integers:expr) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const EPSILON: Self = $t::EPSILON;
            const MIN_POSITIVE: Self = $t::MIN_POSITIVE;
            const INFINITY: Self = $t::INFINITY;
            const NAN: Self = $t::NAN;
            const NAME: &'static str = stringify!($t);
            #[cfg(feature = "blas")]
            const GEMM: blas::Gemm<Self> = blas::$gemm;

            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $t::mul_add(self, a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
        }

        impl Levels for $t {
            #[inline]
            fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output {
                #[cfg(target_arch = "x86_64")]
                {
                    if isa >= Isa::Avx512
                        && let Some(token) = pulp::x86::V4::try_new()
                    {
                        return token.vectorize(Run(kernel, token, PhantomData));
                    }
                    if isa >= Isa::Avx2
                        && let Some(token) = pulp::x86::V3::try_new()
                    {
                        return token.vectorize(Run(kernel, token, PhantomData));
                    }
                }
                #[cfg(target_arch = "aarch64")]
                if isa >= Isa::Neon
                    && let Some(token) = pulp::aarch64::Neon::try_new()
                {
                    return token.vectorize(Run(kernel, token, PhantomData));
                }
                let _ = isa;
                kernel.run(Scalar)
            }
        }

        impl Lanes<$t> for Scalar {
            type Vector = $t;
            type Bits = $bits;
            const LANES: usize = 1;
            const REGISTERS: usize = 1;

            #[inline(always)]
            fn splat(self, value: $t) -> $t {
                value
            }
            #[inline(always)]
            fn add(self, a: $t, b: $t) -> $t {
                a + b
            }
            #[inline(always)]
            fn sub(self, a: $t, b: $t) -> $t {
                a - b
            }
            #[inline(always)]
            fn mul(self, a: $t, b: $t) -> $t {
                a * b
            }
            #[inline(always)]
            fn div(self, a: $t, b: $t) -> $t {
                a / b
            }
            #[inline(always)]
            fn sqrt(self, a: $t) -> $t {
                a.sqrt()
            }
            #[inline(always)]
            fn round(self, a: $t) -> $t {
                a.round_ties_even()
            }
            #[inline(always)]
            fn mul_add(self, a: $t, b: $t, c: $t) -> $t {
                a.mul_add(b, c)
            }
            #[inline(always)]
            fn relu(self, z: $t) -> $t {
                if z < 0.0 { 0.0 } else { z }
            }
            #[inline(always)]
            fn select_less(self, x: $t, y: $t, a: $t, b: $t) -> $t {
                if x < y { a } else { b }
            }
            #[inline(always)]
            fn zip(self, a: $t, b: $t) -> ($t, $t) {
                (a, b)
            }
            #[inline(always)]
            fn splat_bits(self, value: u64) -> $bits {
                value as $bits
            }
            #[inline(always)]
            fn add_bits(self, a: $bits, b: $bits) -> $bits {
                a.wrapping_add(b)
            }
            #[inline(always)]
            fn and_bits(self, a: $bits, b: $bits) -> $bits {
                a & b
            }
            #[inline(always)]
            fn or_bits(self, a: $bits, b: $bits) -> $bits {
                a | b
            }
            #[inline(always)]
            fn xor_bits(self, a: $bits, b: $bits) -> $bits {
                a ^ b
            }
            #[inline(always)]
            fn shl_bits(self, a: $bits, amount: u32) -> $bits {
                a << amount
            }
            #[inline(always)]
            fn shr_bits(self, a: $bits, amount: u32) -> $bits {
                a >> amount
            }
            #[inline(always)]
            fn integers(self, [$a, $b]: [u64; 2]) -> [$bits; 2] {
                $integers
            }
        }
    };
}

real!(f32, u32, cblas_sgemm, |a, _b| [a as u32, (a >> 32) as u32]);
real!(f64, u64, cblas_dgemm, |a, b| [a, b]);

impl Level for Scalar {
    type Words = u64;

    #[inline(always)]
    fn add_words(self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn and_words(self, a: u64, b: u64) -> u64 {
        a & b
    }
    #[inline(always)]
    fn or_words(self, a: u64, b: u64) -> u64 {
        a | b
    }
    #[inline(always)]
    fn xor_words(self, a: u64, b: u64) -> u64 {
        a ^ b
    }
    #[inline(always)]
    fn splat_words(self, value: u64) -> u64 {
        value
    }
    #[inline(always)]
    fn shl_words(self, a: u64, amount: u32) -> u64 {
        a << amount
    }
    #[inline(always)]
    fn shr_words(self, a: u64, amount: u32) -> u64 {
        a >> amount
    }
}

macro_rules! level {
    (
        $token:ty, $words:ident:
        shl = |$l_simd:ident, $l:ident, $left:ident| $shl:expr,
        shr = |$r_simd:ident, $r:ident, $right:ident| $shr:expr
    ) => {
        impl Level for $token {
            type Words = pulp::$words;

            #[inline(always)]
            fn add_words(self, a: Self::Words, b: Self::Words) -> Self::Words {
                self.add_u64s(a, b)
            }
            #[inline(always)]
            fn and_words(self, a: Self::Words, b: Self::Words) -> Self::Words {
                self.and_u64s(a, b)
            }
            #[inline(always)]
            fn or_words(self, a: Self::Words, b: Self::Words) -> Self::Words {
                self.or_u64s(a, b)
            }
            #[inline(always)]
            fn xor_words(self, a: Self::Words, b: Self::Words) -> Self::Words {
                self.xor_u64s(a, b)
            }
            #[inline(always)]
            fn splat_words(self, value: u64) -> Self::Words {
                self.splat_u64s(value)
            }
            #[inline(always)]
            fn shl_words(self, a: Self::Words, amount: u32) -> Self::Words {
                let ($l_simd, $l, $left) = (self, a, amount);
                $shl
            }
            #[inline(always)]
            fn shr_words(self, a: Self::Words, amount: u32) -> Self::Words {
                let ($r_simd, $r, $right) = (self, a, amount);
                $shr
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
level! {
    pulp::x86::V4, u64x8:
    shl = |simd, a, amount| simd.shl_dyn_u64x8(a, simd.splat_u64x8(amount.into())),
    shr = |simd, a, amount| simd.shr_dyn_u64x8(a, simd.splat_u64x8(amount.into()))
}
#[cfg(target_arch = "x86_64")]
level! {
    pulp::x86::V3, u64x4:
    shl = |simd, a, amount| simd.shl_dyn_u64x4(a, simd.splat_u64x4(amount.into())),
    shr = |simd, a, amount| simd.shr_dyn_u64x4(a, simd.splat_u64x4(amount.into()))
}
#[cfg(target_arch = "aarch64")]
level! {
    pulp::aarch64::Neon, u64x2:
    shl = |simd, a, amount| simd.shl_dyn_u64x2(a, simd.splat_i64x2(amount.into())),
    shr = |simd, a, amount| simd.shl_dyn_u64x2(a, simd.splat_i64x2(-i64::from(amount)))
}

macro_rules! lanes {
    (
        $token:ty, $vector:ident of $lanes:literal $t:ident, $bits:ident, $registers:literal registers:
        $add:ident $sub:ident $mul:ident $div:ident $sqrt:ident $mul_add:ident $splat:ident
        $less:ident $select:ident
        $splat_bits:ident $add_bits:ident $and_bits:ident $or_bits:ident $xor_bits:ident
        shl = |$l_simd:ident, $l:ident, $left:ident| $shl:expr,
        shr = |$r_simd:ident, $r:ident, $right:ident| $shr:expr,
        round = |$round_simd:ident, $unrounded:ident| $round:expr,
        zip = |$z_simd:ident, $first:ident, $second:ident| $zip:expr,
        relu = |$simd:ident, $zero:ident, $z:ident| $relu:expr,
        integers = |$word_simd:pat, $words:ident| $integers:expr
    ) => {
        impl Lanes<$t> for $token {
            type Vector = pulp::$vector;
            type Bits = pulp::$bits;
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;

            #[inline(always)]
            fn splat(self, value: $t) -> Self::Vector {
                self.$splat(value)
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.$add(a, b)
            }
            #[inline(always)]
            fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.$sub(a, b)
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.$mul(a, b)
            }
            #[inline(always)]
            fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.$div(a, b)
            }
            #[inline(always)]
            fn sqrt(self, a: Self::Vector) -> Self::Vector {
                self.$sqrt(a)
            }
            #[inline(always)]
            fn round(self, a: Self::Vector) -> Self::Vector {
                let ($round_simd, $unrounded) = (self, a);
                $round
            }
            #[inline(always)]
            fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                self.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn relu(self, z: Self::Vector) -> Self::Vector {
                let ($simd, $zero, $z) = (self, self.$splat(0.0), z);
                $relu
            }
            #[inline(always)]
            fn select_less(
                self,
                x: Self::Vector,
                y: Self::Vector,
                a: Self::Vector,
                b: Self::Vector,
            ) -> Self::Vector {
                self.$select(self.$less(x, y), a, b)
            }
            #[inline(always)]
            fn zip(self, a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector) {
                let ($z_simd, $first, $second) = (self, bytemuck::cast(a), bytemuck::cast(b));
                let (low, high) = $zip;
                (bytemuck::cast(low), bytemuck::cast(high))
            }
            #[inline(always)]
            fn splat_bits(self, value: u64) -> Self::Bits {
                self.$splat_bits(value as _)
            }
            #[inline(always)]
            fn add_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
                self.$add_bits(a, b)
            }
            #[inline(always)]
            fn and_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
                self.$and_bits(a, b)
            }
            #[inline(always)]
            fn or_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
                self.$or_bits(a, b)
            }
            #[inline(always)]
            fn xor_bits(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
                self.$xor_bits(a, b)
            }
            #[inline(always)]
            fn shl_bits(self, a: Self::Bits, amount: u32) -> Self::Bits {
                let ($l_simd, $l, $left) = (self, a, amount);
                $shl
            }
            #[inline(always)]
            fn shr_bits(self, a: Self::Bits, amount: u32) -> Self::Bits {
                let ($r_simd, $r, $right) = (self, a, amount);
                $shr
            }
            #[inline(always)]
            fn integers(self, words: [Self::Words; 2]) -> [Self::Bits; 2] {
                let ($word_simd, $words) = (self, words);
                $integers
            }
        }
    };
}

/// Low and high halves of words, those of the second register in odd lanes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn halves<L: Level>(simd: L, [even, odd]: [L::Words; 2]) -> [L::Words; 2] {
    let low = simd.splat_words(u64::from(u32::MAX));
    let high = simd.splat_words(!u64::from(u32::MAX));
    [
        simd.or_words(simd.and_words(even, low), simd.shl_words(odd, 32)),
        simd.or_words(simd.shr_words(even, 32), simd.and_words(odd, high)),
    ]
}

// x86's `max(a, b)` is `if a > b { a } else { b }`, so `max(0, z)` is the ReLU to the bit.
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V4, f64x8 of 8 f64, u64x8, 32 registers:
    add_f64s sub_f64s mul_f64s div_f64s sqrt_f64s mul_add_f64s splat_f64s
    less_than_f64s select_f64s
    splat_u64s add_u64s and_u64s or_u64s xor_u64s
    shl = |simd, a, amount| simd.shl_dyn_u64x8(a, simd.splat_u64x8(amount.into())),
    shr = |simd, a, amount| simd.shr_dyn_u64x8(a, simd.splat_u64x8(amount.into())),
    round = |simd, a| simd.round_f64x8(a),
    zip = |simd, a, b| {
        let low = bytemuck::cast([0_i64, 8, 1, 9, 2, 10, 3, 11]);
        let high = bytemuck::cast([4_i64, 12, 5, 13, 6, 14, 7, 15]);
        (simd.avx512f._mm512_permutex2var_pd(a, low, b), simd.avx512f._mm512_permutex2var_pd(a, high, b))
    },
    relu = |simd, zero, z| simd.max_f64x8(zero, z),
    integers = |_simd, words| words
}
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V4, f32x16 of 16 f32, u32x16, 32 registers:
    add_f32s sub_f32s mul_f32s div_f32s sqrt_f32s mul_add_f32s splat_f32s
    less_than_f32s select_f32s
    splat_u32s add_u32s and_u32s or_u32s xor_u32s
    shl = |simd, a, amount| simd.shl_dyn_u32x16(a, simd.splat_u32x16(amount)),
    shr = |simd, a, amount| simd.shr_dyn_u32x16(a, simd.splat_u32x16(amount)),
    // pulp 0.22.3 rounds the register as if it held `f64`s.
    round = |simd, a| bytemuck::cast(
        simd.avx512f._mm512_roundscale_ps::<{ std::arch::x86_64::_MM_FROUND_TO_NEAREST_INT }>(bytemuck::cast(a))
    ),
    zip = |simd, a, b| {
        let low = bytemuck::cast([0_i32, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23]);
        let high = bytemuck::cast([8_i32, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31]);
        (simd.avx512f._mm512_permutex2var_ps(a, low, b), simd.avx512f._mm512_permutex2var_ps(a, high, b))
    },
    relu = |simd, zero, z| simd.max_f32x16(zero, z),
    integers = |simd, words| {
        let [low, high] = halves(simd, words);
        [bytemuck::cast(low), bytemuck::cast(high)]
    }
}
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V3, f64x4 of 4 f64, u64x4, 16 registers:
    add_f64s sub_f64s mul_f64s div_f64s sqrt_f64s mul_add_f64s splat_f64s
    less_than_f64s select_f64s
    splat_u64s add_u64s and_u64s or_u64s xor_u64s
    shl = |simd, a, amount| simd.shl_dyn_u64x4(a, simd.splat_u64x4(amount.into())),
    shr = |simd, a, amount| simd.shr_dyn_u64x4(a, simd.splat_u64x4(amount.into())),
    round = |simd, a| simd.round_f64x4(a),
    zip = |simd, a, b| {
        let (low, high) = (simd.avx._mm256_unpacklo_pd(a, b), simd.avx._mm256_unpackhi_pd(a, b));
        (
            simd.avx._mm256_permute2f128_pd::<0x20>(low, high),
            simd.avx._mm256_permute2f128_pd::<0x31>(low, high),
        )
    },
    relu = |simd, zero, z| simd.max_f64x4(zero, z),
    integers = |_simd, words| words
}
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V3, f32x8 of 8 f32, u32x8, 16 registers:
    add_f32s sub_f32s mul_f32s div_f32s sqrt_f32s mul_add_f32s splat_f32s
    less_than_f32s select_f32s
    splat_u32s add_u32s and_u32s or_u32s xor_u32s
    shl = |simd, a, amount| simd.shl_dyn_u32x8(a, simd.splat_u32x8(amount)),
    shr = |simd, a, amount| simd.shr_dyn_u32x8(a, simd.splat_u32x8(amount)),
    round = |simd, a| simd.round_f32x8(a),
    zip = |simd, a, b| {
        let (low, high) = (simd.avx._mm256_unpacklo_ps(a, b), simd.avx._mm256_unpackhi_ps(a, b));
        (
            simd.avx._mm256_permute2f128_ps::<0x20>(low, high),
            simd.avx._mm256_permute2f128_ps::<0x31>(low, high),
        )
    },
    relu = |simd, zero, z| simd.max_f32x8(zero, z),
    integers = |simd, words| {
        let [low, high] = halves(simd, words);
        [bytemuck::cast(low), bytemuck::cast(high)]
    }
}

// NEON's maximum propagates NaN and orders the zeros, so the comparison is spelled out.
#[cfg(target_arch = "aarch64")]
lanes! {
    pulp::aarch64::Neon, f64x2 of 2 f64, u64x2, 32 registers:
    add_f64s sub_f64s mul_f64s div_f64s sqrt_f64s mul_add_f64s splat_f64s
    less_than_f64s select_f64s
    splat_u64s add_u64s and_u64s or_u64s xor_u64s
    shl = |simd, a, amount| simd.shl_dyn_u64x2(a, simd.splat_i64x2(amount as i64)),
    shr = |simd, a, amount| simd.shl_dyn_u64x2(a, simd.splat_i64x2(-(amount as i64))),
    round = |simd, a| bytemuck::cast(simd.neon.vrndnq_f64(bytemuck::cast(a))),
    zip = |simd, a, b| (simd.neon.vzip1q_f64(a, b), simd.neon.vzip2q_f64(a, b)),
    relu = |simd, zero, z| simd.select_f64x2(simd.cmp_lt_f64x2(z, zero), zero, z),
    integers = |_simd, words| words
}
#[cfg(target_arch = "aarch64")]
lanes! {
    pulp::aarch64::Neon, f32x4 of 4 f32, u32x4, 32 registers:
    add_f32s sub_f32s mul_f32s div_f32s sqrt_f32s mul_add_f32s splat_f32s
    less_than_f32s select_f32s
    splat_u32s add_u32s and_u32s or_u32s xor_u32s
    shl = |simd, a, amount| simd.shl_dyn_u32x4(a, simd.splat_i32x4(amount as i32)),
    shr = |simd, a, amount| simd.shl_dyn_u32x4(a, simd.splat_i32x4(-(amount as i32))),
    round = |simd, a| bytemuck::cast(simd.neon.vrndnq_f32(bytemuck::cast(a))),
    zip = |simd, a, b| (simd.neon.vzip1q_f32(a, b), simd.neon.vzip2q_f32(a, b)),
    relu = |simd, zero, z| simd.select_f32x4(simd.cmp_lt_f32x4(z, zero), zero, z),
    integers = |simd, words| {
        let [low, high] = halves(simd, words);
        [bytemuck::cast(low), bytemuck::cast(high)]
    }
}
