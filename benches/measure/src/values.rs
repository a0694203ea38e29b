//! Data that are the same in every run.

use gibbsite_kernels::Real;

/// `len` values of mean 0 and variance about 1, the same in every run.
pub fn values<T: Real>(len: usize, mut seed: u64) -> Vec<T> {
    let mut uniform = move || {
        seed = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        (seed >> 32) as f64 / 2.0_f64.powi(31) - 1.0
    };
    (0..len).map(|_| T::from_f64(uniform() + uniform() + uniform())).collect()
}
