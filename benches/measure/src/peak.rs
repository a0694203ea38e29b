//! Fused multiply-adds in registers: the peak that speed is measured against.

use faer::traits::RealField;
use gibbsite_kernels::{Isa, Real};
use pulp::NullaryFnOnce;
use std::hint::black_box;

/// Element types whose speed can be measured.
pub trait Element: Real + RealField {
    /// `steps` steps of independent chains of multiply-adds, enough of them to hide the latency
    /// and few enough to stay in registers. Gives the number of floating-point operations.
    fn multiply_add(isa: Isa, steps: u64) -> u64;
}

/// What an instruction-set token does, with operations of the target's baseline: on x86-64 a
/// fused multiply-add is a library call.
#[derive(Clone, Copy)]
struct Scalar;

impl Scalar {
    fn try_new() -> Option<Self> {
        Some(Self)
    }
    fn vectorize<F: NullaryFnOnce>(self, f: F) -> F::Output {
        f.call()
    }
    #[inline(always)]
    fn splat<T>(self, value: T) -> T {
        value
    }
    #[inline(always)]
    fn mul_add<T: Real>(self, a: T, b: T, c: T) -> T {
        a.mul_add(b, c)
    }
}

macro_rules! chains {
    ($steps:ident, $t:ident, $token:ty: $count:literal of $lanes:literal, $splat:ident, $mul_add:ident) => {{
        // A struct, because closures do not reliably inherit the token's features.
        struct Chains($token, u64);

        impl NullaryFnOnce for Chains {
            type Output = u64;

            #[inline(always)]
            fn call(self) -> u64 {
                let Self(simd, steps) = self;
                let [factor, term]: [$t; 2] = black_box([0.5, 1.0]);
                let (factor, term) = (simd.$splat(factor), simd.$splat(term));
                let mut chains = [term; $count];
                for _ in 0..steps {
                    for chain in &mut chains {
                        *chain = simd.$mul_add(*chain, factor, term);
                    }
                }
                black_box(chains);
                2 * $lanes * $count * steps
            }
        }

        let simd = <$token>::try_new().expect("a level that is available");
        simd.vectorize(Chains(simd, $steps))
    }};
}

impl Element for f32 {
    fn multiply_add(isa: Isa, steps: u64) -> u64 {
        match isa.or_lower() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                chains!(steps, f32, pulp::x86::V4: 24 of 16, splat_f32x16, mul_add_f32x16)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => chains!(steps, f32, pulp::x86::V3: 12 of 8, splat_f32x8, mul_add_f32x8),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                chains!(steps, f32, pulp::aarch64::Neon: 24 of 4, splat_f32x4, mul_add_f32x4)
            }
            _ => chains!(steps, f32, Scalar: 8 of 1, splat, mul_add),
        }
    }
}

impl Element for f64 {
    fn multiply_add(isa: Isa, steps: u64) -> u64 {
        match isa.or_lower() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                chains!(steps, f64, pulp::x86::V4: 24 of 8, splat_f64x8, mul_add_f64x8)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => chains!(steps, f64, pulp::x86::V3: 12 of 4, splat_f64x4, mul_add_f64x4),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                chains!(steps, f64, pulp::aarch64::Neon: 24 of 2, splat_f64x2, mul_add_f64x2)
            }
            _ => chains!(steps, f64, Scalar: 8 of 1, splat, mul_add),
        }
    }
}
