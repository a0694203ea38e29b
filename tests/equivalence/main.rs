//! Every kernel of the registry on every instruction-set level against its specification.
//!
//! | tests | compare | on |
//! |---|---|---|
//! | `bits` | every level with the reference, bit for bit | shapes around lanes, registers and tiles; options, alignments, classes of values |
//! | `memory` | the same | arrays that touch pages that fault |
//! | `bound` | the error with the proven bound | double-double |
//! | `integers` | the result with the exact one | fixed-point integers |
//! | `laws` | calls with each other | selection, scaling, locality of NaN |
//! | `gradients` | scores and gradients with differences of energies | points away from kinks |
//! | `dispatch` | levels with what the CPU has | order, fallback, cap |
//!
//! A kernel that is added to the registry takes part in `bits` and `memory`; one that sums over neurons or
//! samples in all of them, with an oracle in `oracle.rs`.
//!
//! Environment: `GIBBSITE_ISA` caps the levels; `GIBBSITE_REQUIRE_ISA=avx512,avx2` fails where
//! one of them is missing; `GIBBSITE_TEST_EFFORT` is `small` (emulators), `normal` or `large`;
//! `GIBBSITE_TEST_SEED` repeats a run whose failure printed it, with the effort that it printed.

mod cases;
mod compare;
mod dispatch;
mod gradients;
mod guard;
mod laws;
mod oracle;
#[path = "../../kernels/tests/support/mod.rs"]
mod support;

use compare::{Count, Rig, TALLY};
use gibbsite_kernels::{
    Isa,
    registry::{Entry, Shape, entries},
};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{env, process::ExitCode};
use support::{Float, Rng, levels};

fn main() -> ExitCode {
    if env::var_os(dispatch::PRINT_BEST).is_some() {
        print!("{}", Isa::best());
        return ExitCode::SUCCESS;
    }
    guard::install();
    let arguments = Arguments::from_args();
    if !arguments.list {
        let names: Vec<_> = levels().iter().map(|isa| isa.name()).collect();
        let (seed, effort) = (support::run_seed(), support::effort());
        println!("levels {}; {effort:?} effort; GIBBSITE_TEST_SEED={seed}", names.join(", "));
    }

    let mut trials = vec![
        test("gradients/score", gradients::score),
        test("gradients/parameters", gradients::parameters),
        asserting("dispatch/order", dispatch::order),
        asserting("dispatch/detection", dispatch::detection),
        asserting("dispatch/fallback", dispatch::fallback),
        asserting("dispatch/names", dispatch::names),
        asserting("dispatch/cap", dispatch::cap),
        test("dispatch/required", dispatch::required),
    ];
    entries::<f32>().into_iter().for_each(|entry| trials.extend(of_kernel(entry)));
    entries::<f64>().into_iter().for_each(|entry| trials.extend(of_kernel(entry)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let idle = print_tally();
    // A filter may well leave a kernel out.
    let complete = arguments.filter.is_none() && arguments.skip.is_empty();
    if complete && !idle.is_empty() {
        eprintln!("no case ran for {}", idle.join(", "));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn test(name: &str, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(Failed::from))
}

/// A test that panics when it fails.
fn asserting(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

/// The tests that every kernel of the registry goes through.
fn of_kernel<T: Float>(entry: Entry<T>) -> Vec<Trial> {
    let name = |kind: &str| format!("{kind}/{}/{}", entry.name, T::NAME);
    let rng = move |kind: &str| Rng::of(&format!("{kind}/{}/{}", entry.name, T::NAME));
    let mut trials = vec![
        test(&name("bits"), move || {
            let cases = cases::for_bits(&entry, &mut rng("bits"));
            Rig::new(entry).check_all(cases, |_, _| Ok(()))
        }),
        test(&name("memory"), move || {
            let cases = cases::for_memory::<T>(&mut rng("memory"));
            Rig::new(entry).check_all(cases, |_, _| Ok(()))
        }),
    ];
    let sums = !(entry.roundings)(Shape::default()).is_empty();
    if sums {
        trials.extend([
            test(&name("bound"), move || {
                let cases = cases::for_bound::<T>(&mut rng("bound"));
                Rig::new(entry).check_all(cases, oracle::within_bound)
            }),
            test(&name("integers"), move || {
                let cases = cases::for_integers::<T>(&mut rng("integers"));
                Rig::new(entry).check_all(cases, oracle::exactly)
            }),
        ]);
    }
    // The rest is about neurons and samples.
    if entry.name.starts_with("relu.") {
        trials.extend([
            test(&name("laws/selection"), move || laws::selection(entry)),
            test(&name("laws/scaling"), move || laws::scaling(entry)),
            test(&name("laws/locality"), move || laws::locality(entry)),
        ]);
    }
    trials
}

/// Prints how often each kernel ran; gives those that did not run on a level under test.
fn print_tally() -> Vec<String> {
    let tally = TALLY.lock().unwrap_or_else(|error| error.into_inner());
    let mut kernels: Vec<(&str, &str)> = Vec::new();
    kernels.extend(entries::<f32>().iter().map(|entry| (entry.name, "f32")));
    kernels.extend(entries::<f64>().iter().map(|entry| (entry.name, "f64")));
    kernels.sort();
    let mut idle = Vec::new();
    println!("{:24} {:6} {:8} {:>10} {:>10}", "kernel", "dtype", "level", "cases", "mismatches");
    for (kernel, dtype) in kernels {
        for isa in levels() {
            let count = tally.get(&(kernel, dtype, isa)).copied().unwrap_or_default();
            let Count { cases, mismatches } = count;
            println!("{kernel:24} {dtype:6} {isa:8} {cases:10} {mismatches:10}");
            if cases == 0 {
                idle.push(format!("{kernel} {dtype} on {isa}"));
            }
        }
    }
    idle
}
