//! CPU kernels for energy-based models with shallow ReLU energies.
//!
//! This crate is the bottom layer of [`gibbsite`](https://docs.rs/gibbsite): plain slices in,
//! plain slices out. It starts no threads, does no input or output, and holds no `unsafe`
//! code of its own: registers are reached through [`pulp`]'s checked instruction-set tokens. Only with
//! the feature `blas`, off by default, the module of that name calls the CBLAS functions of a library of the system.
//!
//! # What is where
//!
//! | module | contents |
//! |---|---|
//! | [`relu`] | value, gradient and parameter gradient of shallow ReLU energies |
//! | [`chain`] | Langevin and Hamiltonian steps of Markov chains |
//! | [`stein`] | blocks of the Gram matrix of Stein kernels, their sums and products |
//! | [`noise`] | random streams and normals |
//! | [`rowwise`] | products of rows |
//! | [`elementary`] | ln, exp, sin πx, cos πx, angles |
//! | [`Isa`] | instruction-set levels, detected once, ordered, forced per call |
//! | [`Rows`], [`RowsMut`] | borrowed row-major matrices, checked when they are made |
//! | [`Scratch`] | memory that kernels work in, kept from call to call |
//! | [`Real`] | `f32` and `f64` |
//! | [`fp_env_ok`] | whether a thread rounds as all this supposes |
//! | `blas` | with this feature, matrix products of a library of the system |
//! | [`guide`] | the mathematics, a page for each family |
//! | [`registry`] | every kernel with its shapes, cost and error bound: what tests, benches and fuzzing iterate over |
//!
//! # Same bits everywhere
//!
//! Every kernel performs one fixed sequence of IEEE 754 operations per output, fused
//! multiply-adds included. Lanes hold independent outputs, or as many parts of a sum on every level, so neither the width of a register nor
//! the place of a row in the batch changes a result: all levels of [`Isa`], all batch splits
//! and all alignments agree bit for bit (a NaN is compared as a NaN). The sequence is spelled
//! out as plain loops in each family's `reference` module.
//!
//! # Example
//!
//! ```
//! use gibbsite_kernels::{Isa, Rows, RowsMut, relu};
//!
//! // f(x) = (1/2) (3 max(x_0, 0) - max(x_0 + x_1, 0))
//! let theta = [1.0, 0.0, 1.0, 1.0];
//! let panel = relu::Panel::neurons(Isa::best(), Rows::new(&theta, 2, 2)?, None, &[3.0, -1.0])?;
//! let x = [2.0, 5.0];
//! let (mut energy, mut score) = ([0.0], [0.0; 2]);
//! relu::energy_score(
//!     &panel,
//!     Rows::new(&x, 1, 2)?,
//!     &mut energy,
//!     &mut RowsMut::new(&mut score, 1, 2)?,
//!     &mut Default::default(),
//! );
//! assert_eq!(energy, [-0.5]);
//! assert_eq!(score, [-1.0, 0.5]);
//! # Ok::<(), gibbsite_kernels::ShapeError>(())
//! ```

// Foreign functions are called in `blas` alone.
#![cfg_attr(not(feature = "blas"), forbid(unsafe_code))]
#![cfg_attr(feature = "blas", deny(unsafe_code))]

mod environment;
mod isa;
mod lanes;
mod rows;
mod scratch;
mod transpose;

#[cfg(feature = "blas")]
pub mod blas;
pub mod chain;
pub mod elementary;
pub mod guide;
pub mod noise;
pub mod registry;
pub mod relu;
pub mod rowwise;
pub mod stein;

pub use environment::fp_env_ok;
pub use isa::{Isa, ParseIsaError};
pub use lanes::Real;
pub use rows::{Rows, RowsMut, ShapeError};
pub use scratch::Scratch;
