//! CPU kernels for energy-based models with shallow ReLU energies.
#![forbid(unsafe_code)]

mod data;
mod energy;
mod error;
pub mod normaliser;
mod parallel;
pub mod random;
pub mod sampler;
pub mod teacher;
pub mod train;

pub use energy::{Backend, Domain, Energy, ParamGrad, ReluEnergy};
pub use error::{Error, Result};
pub use gibbsite_kernels::{Isa, ParseIsaError, Rows, RowsMut, ShapeError};

/// The element types: `f32` and `f64`. Sealed.
pub trait Real: gibbsite_kernels::Real + faer::traits::ComplexField {}

impl Real for f32 {}
impl Real for f64 {}

/// Facts about this build, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildInfo {
    /// Version of this crate.
    pub version: &'static str,
    /// Version of the compiler.
    pub rustc: &'static str,
    /// Target triple.
    pub target: &'static str,
    /// `release` or `debug`.
    pub profile: &'static str,
    /// Backends that are built in, by name.
    pub backends: &'static [&'static str],
    /// Whether work is spread over threads.
    pub threads: bool,
}

impl BuildInfo {
    /// This build.
    pub const CURRENT: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        rustc: env!("GIBBSITE_RUSTC"),
        target: env!("GIBBSITE_TARGET"),
        profile: env!("GIBBSITE_PROFILE"),
        backends: &["fused", "faer"],
        threads: cfg!(feature = "rayon"),
    };
}
