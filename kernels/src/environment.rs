//! The modes of the floating-point unit.

use std::hint::black_box;

/// Whether the calling thread's floating-point unit rounds to nearest and keeps subnormals, which is what every promise about bits
/// and error bounds assumes. The library never changes these modes; a host may have, on purpose or by loading a library that was
/// built for fast mathematics. Threads may differ: ask on those that compute, of a pool on each.
///
/// Rust itself leaves results open in other modes. Kernels then still end and stay within their arrays, but how accurate they are
/// is not promised: without instructions that round to nearest whatever the mode, as on the scalar level, exponentials and sines
/// are taken outside of the range that their polynomials fit.
pub fn fp_env_ok() -> bool {
    let (one, least) = (black_box(1.0_f64), black_box(f64::from_bits(1)));
    // Less than half of the distance to either neighbour of 1, so directed rounding alone moves.
    let little = black_box(f64::EPSILON / 8.0);
    let nearest = black_box(one + little) == 1.0 && black_box(one - little) == 1.0;
    let reads_subnormals = black_box(least * black_box(2.0_f64.powi(1000))) > 0.0;
    let writes_subnormals = black_box(black_box(f64::MIN_POSITIVE) * 0.5) > 0.0;
    nearest && reads_subnormals && writes_subnormals
}
