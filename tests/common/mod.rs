//! What several test programs need.
#![allow(dead_code, reason = "no program uses everything")]

use gibbsite::{Backend, Real, ReluEnergy, Rows, random::Stream};

/// All backends of this build.
pub const BACKENDS: &[Backend] = &[
    Backend::Auto,
    Backend::Fused,
    Backend::Faer,
    #[cfg(feature = "blas")]
    Backend::Blas,
];

/// Standard normals of one stream.
pub fn normals<T: Real>(len: usize, stream: u64) -> Vec<T> {
    let mut values = vec![T::from_f64(0.0); len];
    Stream::new(0x5eed, stream).fill_normal(&mut values);
    values
}

/// A model with Gaussian parameters.
pub fn model<T: Real>(m: usize, d: usize, bias: bool, backend: Backend) -> ReluEnergy<T> {
    let theta = normals::<T>(m * d, 1);
    let model = ReluEnergy::new(Rows::new(&theta, m, d).unwrap(), &normals::<T>(m, 2)).unwrap();
    let model = if bias { model.with_bias(&normals::<T>(m, 3)).unwrap() } else { model };
    model.with_backend(backend)
}

/// The bits of a slice, all NaNs alike.
pub fn bits<T: Real>(values: &[T]) -> Vec<u64> {
    let canonical = |value: f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
    values.iter().map(|value| canonical(value.to_f64())).collect()
}
