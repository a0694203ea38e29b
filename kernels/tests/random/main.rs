//! Elementary functions, random streams and normals against what they claim to be: accuracy in
//! units of the last place, the published generator, the laws they should have.
//!
//! Environment: `GIBBSITE_TEST_EFFORT` is `small` (emulators), `normal` or `large` (every `f32`,
//! samples of up to 2^34 normals); `GIBBSITE_ISA` caps the levels; `GIBBSITE_TEST_SEED` sets the
//! seed of the samples. `-- --nocapture` shows the figures that were found.

mod elementary;
mod laws;
mod parallel;
mod statistics;
mod streams;
#[path = "../support/mod.rs"]
mod support;

#[test]
fn the_default_modes_of_the_processor_are_in_order() {
    assert!(gibbsite_kernels::fp_env_ok());
}
