//! Command line of gibbsite: files, progress, plots and reports on top of the library.
//!
//! The library part of this crate exists so that the readers of foreign files can be tested and
//! fuzzed; Rust programs link `gibbsite` instead.

#![forbid(unsafe_code)]

mod args;
mod error;
pub mod io;
mod plot;
mod progress;
mod report;
mod run;
mod sheet;
mod sphere;

pub use run::main;

/// The element types of the command line.
trait Number: gibbsite::Real + io::Element {
    /// How far from 1 the norm of a row "on the sphere" may be; the library's tolerance, with
    /// room for single precision.
    const SPHERE_TOLERANCE: f64;
}

impl Number for f32 {
    const SPHERE_TOLERANCE: f64 = 1e4 * f32::EPSILON as f64;
}

impl Number for f64 {
    const SPHERE_TOLERANCE: f64 = 1e-6;
}

/// The nearest `T`.
fn from_f64<T: gibbsite::Real>(x: f64) -> T {
    T::from_f64(x)
}
