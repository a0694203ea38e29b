//! CPU kernels for energy-based models with shallow ReLU energies,
//!
//! ```text
//! f(x) = (1/m) Σ_j w_j max(θ_j·x + b_j, 0),        p(x) ∝ exp(-β f(x)),
//! ```
//!
//! on the unit sphere or, with a Gaussian base measure, in R^d (Domingo-Enrich, Bietti, Vanden-Eijnden
//! and Bruna, "On Energy-Based Models with Overparametrized Shallow Neural Networks", ICML 2021).
//!
//! | to | use |
//! |---|---|
//! | evaluate energies, scores and parameter gradients | [`ReluEnergy`] |
//! | bring an energy of your own | the [`Energy`] trait |
//! | draw from a model | [`sampler`] |
//! | judge the draws | [`diagnostics`] |
//! | estimate its normalising constant | [`normaliser`] |
//! | train one | [`train`] |
//! | watch norms, curvature and the regime of training | [`monitor`] |
//! | test whether points are draws from it | [`stein`] |
//! | compare with a known truth | [`teacher`] |
//! | see all of it at work | [`tour`] |
//! | read the mathematics | [`gibbsite_kernels::guide`] |
//!
//! Points are borrowed row-major matrices, [`Rows`] and [`RowsMut`]; [`RowMajor`] makes them of matrices of `faer`, `ndarray` and
//! `nalgebra`. Everything is generic over `f32` and `f64`
//! ([`Real`]), runs in the caller's rayon pool and returns [`Error`]s with the shapes in the message.
//!
//! Random draws are functions of (seed, stream) alone and sums have a fixed order, so with the backends
//! [`Backend::Auto`] and [`Backend::Fused`] the same call gives the same bits for any number of threads and on any
//! instruction set; see [`gibbsite_kernels`] for how. What factors or multiplies matrices by faer (metrics of Stein kernels,
//! control functionals, the finite-set test, the tangent kernel and its drift, the largest curvature) says so: its last digits depend on the CPU.
//!
//! # Training a model
//!
//! ```
//! use gibbsite::{Rows, normaliser, teacher::Teacher, train::{TrainOptions, cross_entropy, fit}};
//!
//! let teacher = Teacher::<f64>::named("j1w10", 5, 0)?;
//! let [train, validation, test] = [0, 1, 2].map(|set| teacher.sample(300, 0, set));
//! let (train, validation, test) = (train?, validation?, test?);
//! let rows = |x| Rows::new(x, 300, 5);
//!
//! let options = TrainOptions { neurons: 50, iterations: 50, ..TrainOptions::default() };
//! let trained = fit(rows(&train)?, rows(&validation)?, &options, |_, _| Ok(()))?;
//!
//! let log_z = normaliser::log_z(&trained.model, 1)?;
//! let loss = cross_entropy(&trained.model, rows(&test)?, &log_z)?;
//! assert!(loss < 0.0, "better than the uniform law");
//! # Ok::<(), gibbsite::Error>(())
//! ```

#![forbid(unsafe_code)]

mod checkpoint;
mod data;
pub mod diagnostics;
mod energy;
mod error;
pub mod monitor;
pub mod normaliser;
mod parallel;
pub mod random;
mod row_major;
pub mod sampler;
pub mod stein;
pub mod teacher;
pub mod train;

pub use energy::{Backend, Domain, Energy, ParamGrad, ReluEnergy};
pub use error::{Error, Result};
pub use gibbsite_kernels::{Isa, ParseIsaError, Rows, RowsMut, ShapeError};
pub use row_major::RowMajor;

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
    /// The BLAS library that is linked, if the backend `blas` is built in: `openblas`, `blis`, `mkl` or `accelerate`.
    pub blas: Option<&'static str>,
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
        backends: if cfg!(feature = "blas") {
            &["fused", "faer", "blas"]
        } else {
            &["fused", "faer"]
        },
        #[cfg(feature = "blas")]
        blas: Some(gibbsite_kernels::blas::LIBRARY),
        #[cfg(not(feature = "blas"))]
        blas: None,
        threads: cfg!(feature = "rayon"),
    };

    /// What the BLAS library that runs calls itself: version and configuration, if there is one and it tells.
    pub fn blas_version(&self) -> Option<String> {
        cfg_if::cfg_if! {
            if #[cfg(feature = "blas")] {
                gibbsite_kernels::blas::version()
            } else {
                None
            }
        }
    }
}

#[doc = include_str!("tour.md")]
pub mod tour {}

/// The examples of the README, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
