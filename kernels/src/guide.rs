//! The mathematics of the kernels, one page for each family.

#[doc = include_str!("../docs/energies.md")]
pub mod energies {}

#[doc = include_str!("../docs/chains.md")]
pub mod chains {}

#[doc = include_str!("../docs/stein_kernels.md")]
pub mod stein_kernels {}
