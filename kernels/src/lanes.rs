//! The operations that kernels are written in: one trait, implemented for each instruction-set
//! token and element type.
//!
//! pulp's own `Simd` trait is generic over the token but not over the element type, and leaves
//! NaN and signed zeros open in `min`/`max`. This one holds just what our kernels use, with
//! every result pinned down to the bit.

use crate::{Isa, relu};
use bytemuck::Pod;
use std::{
    fmt::{Debug, Display},
    marker::PhantomData,
    ops::{Add, Div, Mul, Neg, Sub},
};

/// A token that stands for registers of `T`s.
///
/// All methods are element-wise and exactly rounded, so lane `i` of a result is what the same
/// scalar operation gives.
pub trait Lanes<T>: Copy {
    /// One register. Its alignment is that of `T`, so that slices can be cast freely.
    type Vector: Pod;
    /// How many `T`s a register holds.
    const LANES: usize;
    /// How many vector registers the instruction set names.
    const REGISTERS: usize;

    fn splat(self, value: T) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `if z < 0 { 0 } else { z }`: keeps NaN and the sign of zero.
    fn relu(self, z: Self::Vector) -> Self::Vector;
    /// `if z > 0 { a } else { b }`.
    fn select_positive(self, z: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
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
    + relu::simd::Dispatch
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Distance from 1 to the next larger value: 2^-23 or 2^-52.
    const EPSILON: Self;
    /// The name of the type: `"f32"` or `"f64"`.
    const NAME: &'static str;

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
    ($t:ident) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const EPSILON: Self = $t::EPSILON;
            const NAME: &'static str = stringify!($t);

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
            fn div(self, a: $t, b: $t) -> $t {
                a / b
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
            fn select_positive(self, z: $t, a: $t, b: $t) -> $t {
                if z > 0.0 { a } else { b }
            }
        }
    };
}

real!(f32);
real!(f64);

macro_rules! lanes {
    (
        $token:ty, $t:ident, $vector:ident, $lanes:literal of $registers:literal:
        $splat:ident $add:ident $div:ident $mul_add:ident $cmp_lt:ident $select:ident
        relu = |$simd:ident, $zero:ident, $z:ident| $relu:expr
    ) => {
        impl Lanes<$t> for $token {
            type Vector = pulp::$vector;
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
            fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                self.$div(a, b)
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
            fn select_positive(
                self,
                z: Self::Vector,
                a: Self::Vector,
                b: Self::Vector,
            ) -> Self::Vector {
                self.$select(self.$cmp_lt(self.$splat(0.0), z), a, b)
            }
        }
    };
}

// x86's `max(a, b)` is `if a > b { a } else { b }`, so `max(0, z)` is the ReLU to the bit.
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V4, f64, f64x8, 8 of 32:
    splat_f64x8 add_f64x8 div_f64x8 mul_add_f64x8 cmp_lt_f64x8 select_f64x8
    relu = |simd, zero, z| simd.max_f64x8(zero, z)
}
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V4, f32, f32x16, 16 of 32:
    splat_f32x16 add_f32x16 div_f32x16 mul_add_f32x16 cmp_lt_f32x16 select_f32x16
    relu = |simd, zero, z| simd.max_f32x16(zero, z)
}
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V3, f64, f64x4, 4 of 16:
    splat_f64x4 add_f64x4 div_f64x4 mul_add_f64x4 cmp_lt_f64x4 select_f64x4
    relu = |simd, zero, z| simd.max_f64x4(zero, z)
}
#[cfg(target_arch = "x86_64")]
lanes! {
    pulp::x86::V3, f32, f32x8, 8 of 16:
    splat_f32x8 add_f32x8 div_f32x8 mul_add_f32x8 cmp_lt_f32x8 select_f32x8
    relu = |simd, zero, z| simd.max_f32x8(zero, z)
}

// NEON's maximum propagates NaN and orders the zeros, so the comparison is spelled out.
#[cfg(target_arch = "aarch64")]
lanes! {
    pulp::aarch64::Neon, f64, f64x2, 2 of 32:
    splat_f64x2 add_f64x2 div_f64x2 mul_add_f64x2 cmp_lt_f64x2 select_f64x2
    relu = |simd, zero, z| simd.select_f64x2(simd.cmp_lt_f64x2(z, zero), zero, z)
}
#[cfg(target_arch = "aarch64")]
lanes! {
    pulp::aarch64::Neon, f32, f32x4, 4 of 32:
    splat_f32x4 add_f32x4 div_f32x4 mul_add_f32x4 cmp_lt_f32x4 select_f32x4
    relu = |simd, zero, z| simd.select_f32x4(simd.cmp_lt_f32x4(z, zero), zero, z)
}
