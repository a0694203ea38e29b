//! Command line of gibbsite: files, progress, plots and reports on top of the library.
//!
//! The library part of this crate exists so that the readers of foreign files can be tested and
//! fuzzed; Rust programs link `gibbsite` instead.

#![forbid(unsafe_code)]

pub mod io;
