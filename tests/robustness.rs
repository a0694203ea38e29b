//! What callers may do to the library: panic in energies and callbacks of theirs, nest thread pools, ask for more than
//! memory holds, and set up the floating-point unit in another way.

mod common;

use common::{bits, model, normals};
use gibbsite::{
    Backend, Energy, Error, Isa, Result, Rows, RowsMut,
    normaliser::{bracket, importance_sampling},
    random::Streams,
    sampler::{IndependenceMetropolis, Sampler},
    stein::{Gram, Statistic, SteinKernel, WildBootstrap, ksd_in_parts},
    teacher::Teacher,
    train::{Critic, Estimator, TrainOptions, Training},
};
use rayon::prelude::*;
use std::{
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    sync::atomic::{AtomicUsize, Ordering},
};

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// A Gaussian that uses all threads, and panics or fails in a certain call.
struct Fragile {
    calls: AtomicUsize,
    panic_at: usize,
    fail_at: usize,
    precision: f64,
}

impl Fragile {
    fn sound() -> Self {
        let calls = AtomicUsize::new(0);
        Self { calls, panic_at: usize::MAX, fail_at: usize::MAX, precision: 1.0 }
    }
}

impl Energy<f64> for Fragile {
    fn dim(&self) -> usize {
        3
    }

    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        mut potential: Option<&mut [f64]>,
        mut score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call == self.fail_at {
            return Err(Error::Zero { what: "this" });
        }
        let squares: Vec<f64> = (0..x.rows())
            .into_par_iter()
            .map(|i| {
                if call == self.panic_at && i == x.rows() / 2 {
                    panic_any(PLANTED[0]);
                }
                x.row(i).iter().map(|x| x * x).sum()
            })
            .collect();
        for (i, square) in squares.into_iter().enumerate() {
            if let Some(potential) = &mut potential {
                potential[i] = 0.5 * self.precision * square;
            }
            if let Some(score) = &mut score {
                let row = score.row_mut(i).iter_mut().zip(x.row(i));
                row.for_each(|(s, x)| *s = -self.precision * x);
            }
        }
        Ok(())
    }
}

fn samplers() -> [Sampler<'static, f64>; 4] {
    [Sampler::ula(0.1), Sampler::mala(0.3), Sampler::hmc(0.3, 3), Sampler::baoab(0.3, 1.0)]
}

/// Messages of panics on purpose.
const PLANTED: [&str; 3] =
    ["an energy's own panic", "an observer's own panic", "a progress bar's own panic"];

/// The message of a panic.
fn caught<R>(f: impl FnOnce() -> R) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).err().expect("a panic");
    panic
        .downcast_ref::<String>()
        .cloned()
        .or(panic.downcast_ref::<&str>().map(|s| s.to_string()))
        .unwrap()
}

#[test]
fn panics_of_energies_and_callbacks_reach_the_caller_and_harm_nothing() {
    // Those that are planted here need no message; all others do.
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<&str>();
        if !message.is_some_and(|message| PLANTED.contains(message)) {
            others(panic);
        }
    }));
    let model = model::<f64>(100, 3, false, Backend::Fused);
    let x = normals::<f64>(3 * 2_000, 1);
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let points = Rows::new(&x, 2_000, 3).unwrap();
    let gram = Gram::of_energy(&kernel, &Fragile::sound(), points).unwrap();
    let work = || {
        let mut energy = vec![0.0; 2_000];
        model.energy(points, &mut energy).unwrap();
        bits(&energy)
    };
    let expected = work();
    for threads in [1, 2, 5] {
        let pool = pool(threads);
        pool.install(|| {
            let mut panics = 0;
            for sampler in samplers() {
                for panic_at in 0..30 {
                    let energy = Fragile { panic_at, ..Fragile::sound() };
                    let message = caught(|| {
                        let mut chains = sampler.clone().chains(200).build(&energy).unwrap();
                        chains.run(&energy, 40).unwrap();
                    });
                    assert_eq!(message, PLANTED[0]);
                    panics += 1;
                }
                let energy = Fragile::sound();
                let mut chains = sampler.clone().chains(200).build(&energy).unwrap();
                let message = caught(|| {
                    chains.sample(&energy, 9, 1, |draw| {
                        if draw.index == 5 {
                            panic_any(PLANTED[1]);
                        }
                        Ok(())
                    })
                });
                assert_eq!(message, PLANTED[1]);
            }
            let message = caught(|| gram.ksd(Statistic::V, &mut |_| panic_any(PLANTED[2])));
            assert_eq!(message, PLANTED[2]);
            assert_eq!(panics, 120);
            assert!(work() == expected, "{threads} threads after {panics} panics");
        });
    }
}

#[test]
fn chains_go_on_after_an_error_of_their_energy() {
    for sampler in samplers() {
        let mut chains = sampler.chains(50).build(&Fragile::sound()).unwrap();
        chains.run(&Fragile::sound(), 10).unwrap();
        let mut untouched = chains.clone();
        // The first call of a run, before anything moves.
        let energy = Fragile { fail_at: 0, ..Fragile::sound() };
        assert_eq!(chains.run(&energy, 5), Err(Error::Zero { what: "this" }));
        chains.run(&Fragile::sound(), 5).unwrap();
        untouched.run(&Fragile::sound(), 5).unwrap();
        assert_eq!(bits(chains.states().as_slice()), bits(untouched.states().as_slice()));
    }
}

/// Nobody has accepted what was proposed when the energy failed.
#[test]
fn proposals_that_were_never_judged_are_not_kept() {
    for sampler in [Sampler::mala(0.3), Sampler::hmc(0.3, 3)] {
        let mut chains = sampler.chains(20).build(&Fragile::sound()).unwrap();
        let before = bits(chains.states().as_slice());
        // The first call evaluates where the chains are, the second what is proposed.
        let energy = Fragile { fail_at: 1, ..Fragile::sound() };
        assert_eq!(chains.run(&energy, 5), Err(Error::Zero { what: "this" }));
        assert_eq!(bits(chains.states().as_slice()), before);
    }
}

/// With hardly any friction and no forces, only velocities that were kept move anything.
#[test]
fn velocities_outlive_an_error_in_the_middle_of_a_step() {
    let sampler = Sampler::baoab(0.1, 1e-9).chains(5);
    let mut chains = sampler.build(&Fragile::sound()).unwrap();
    chains.run(&Fragile::sound(), 10).unwrap();
    let free = || Fragile { precision: 0.0, ..Fragile::sound() };
    let energy = Fragile { fail_at: 1, ..free() };
    assert_eq!(chains.run(&energy, 1), Err(Error::Zero { what: "this" }));
    let before = chains.states().as_slice().to_vec();
    chains.run(&free(), 1).unwrap();
    for (x, before) in chains.states().as_slice().iter().zip(&before) {
        assert!((x - before).abs() > 1e-6, "{before} to {x}");
    }
}

#[test]
fn nested_pools_and_many_callers_give_the_same_bits() {
    let model = model::<f64>(150, 4, true, Backend::Fused);
    let x = normals::<f64>(4 * 3_000, 2);
    let points = Rows::new(&x, 3_000, 4).unwrap();
    let kernel = SteinKernel::rbf(1.5).unwrap();
    let work = || {
        let (mut energy, mut grad) = (vec![0.0; 3_000], model.zero_grad());
        model.energy(points, &mut energy).unwrap();
        model.param_grad(points, None, &mut grad).unwrap();
        let mut chains = Sampler::mala(0.01).chains(100).build(&model).unwrap();
        chains.run(&model, 3).unwrap();
        let gram = Gram::of_energy(&kernel, &model, points.range(0, 300)).unwrap();
        let mut values = [energy, grad.w, grad.theta].concat();
        values.extend(chains.states().as_slice());
        values.push(gram.ksd(Statistic::V, &mut |_| {}).unwrap().squared);
        bits(&values)
    };
    let expected = pool(1).install(work);
    // A pool within a pool, of one thread and of more.
    for (outer, inner) in [(1, 1), (1, 4), (4, 1), (3, 3)] {
        let inner = pool(inner);
        assert!(pool(outer).install(|| inner.install(work)) == expected);
        // Calls from tasks of a pool that is busy with calls.
        let all: Vec<_> = pool(outer).install(|| (0..8).into_par_iter().map(|_| work()).collect());
        assert!(all.iter().all(|bits| *bits == expected), "tasks on {outer} threads");
    }
    // Threads of no pool, all at once.
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..64).map(|_| scope.spawn(work)).collect();
        for caller in callers {
            assert!(caller.join().unwrap() == expected);
        }
    });
}

fn too_much<R>(result: Result<R>) {
    let message = result.err().expect("more than any memory").to_string();
    assert!(message.contains("memory") && !message.contains('\n'), "{message}");
}

#[test]
fn sizes_beyond_memory_are_errors() {
    let model = model::<f64>(4, 2, false, Backend::Auto).with_base_scale(1.0).unwrap();
    let x = normals::<f64>(20, 3);
    let points = Rows::new(&x, 10, 2).unwrap();
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let mut score = [0.0; 20];
    model.score(points, RowsMut::new(&mut score, 10, 2).unwrap()).unwrap();
    let score = Rows::new(&score, 10, 2).unwrap();
    let gram = Gram::new(&kernel, points, score).unwrap();
    let log_z = importance_sampling(&model, 10, 0, 0).unwrap();
    let teacher = Teacher::<f64>::named("j1w2", 3, 0).unwrap();
    let data = teacher.sample(10, 0, 0).unwrap();
    let data = Rows::new(&data, 10, 3).unwrap();
    let train = |options: TrainOptions| Training::new(data, data, &options);
    for size in [usize::MAX, usize::MAX / 2, usize::MAX / 16, 1 << 50] {
        for sampler in samplers() {
            too_much(sampler.chains(size).build(&Fragile::sound()));
        }
        too_much(importance_sampling(&model, size, 0, 0));
        too_much(bracket(&model, size, 2, 0, 0));
        too_much(IndependenceMetropolis::new(&model, size, 0));
        too_much(gram.test(Statistic::V, &WildBootstrap::new(size), &mut |_| {}));
        too_much(gram.fssd_test(points, score, points, size, 0));
        too_much(log_z.resample(size, 0));
        too_much(Streams::<f64>::new(0, 0, size, Isa::best()));
        too_much(teacher.sample(size, 0, 0));
        too_much(Teacher::<f64>::named("j1w2", size, 0));
        too_much(train(TrainOptions { neurons: size, ..TrainOptions::default() }));
        let critic = Critic::Network { units: size, steps: 1 };
        let estimator = Estimator::F1Sd { critic };
        too_much(train(TrainOptions { estimator, neurons: 5, ..TrainOptions::default() }));
        let load = |_| panic!("asked for a part");
        too_much(ksd_in_parts::<f64>(&kernel, size, load, 2, Statistic::V, &mut |_| {}));
    }
}

/// Another program in the process may have set other rounding modes or flush subnormals to zero: results then have other
/// last bits, but nothing faults, hangs or panics.
#[cfg(target_arch = "x86_64")]
mod environment {
    use super::*;
    use gibbsite::{Real, train::fit};
    use gibbsite_kernels::{
        Scratch, fp_env_ok,
        registry::{Call, Shape, entries},
    };
    use std::{
        env,
        process::{Command, Stdio},
        time::Duration,
    };

    /// A child process with this variable works under the modes it says.
    const MODES: &str = "GIBBSITE_TEST_MODES";

    /// Sets the modes of this thread, and of all that it starts.
    fn set_modes(modes: u32) {
        // All exceptions stay masked, as they are by default.
        let control = 0x1f80 | modes;
        // SAFETY: the processor is x86-64, which has this register, and reads four bytes of a live variable. Rust leaves open what
        // its own arithmetic does afterwards, which is what is looked at.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &control) };
    }

    /// For each value that a kernel gives on a level whether it is NaN.
    fn kernels<T: Real>() -> Vec<(&'static str, Isa, bool)> {
        let mut nans = Vec::new();
        for entry in entries::<T>() {
            for (n, d, m) in [(5, 3, 7), (26, 9, 13), (130, 2, 5)] {
                let shape = Shape { n, d, m, bias: true, weighted: n == 5, pad: 1 };
                let values = |stream: u64, len: usize| -> Vec<T> {
                    let tiny = T::from_f64(if T::NAME == "f32" { 1e-40 } else { 1e-310 });
                    let mut values = normals::<T>(len, stream);
                    values.iter_mut().step_by(5).for_each(|x| *x *= tiny);
                    values
                };
                let arrays = (entry.inputs)(shape);
                let inputs: Vec<Vec<T>> =
                    arrays.iter().zip(0..).map(|(array, k)| values(k, array.len())).collect();
                let inputs: Vec<&[T]> = inputs.iter().map(Vec::as_slice).collect();
                for isa in Isa::available() {
                    let arrays = (entry.outputs)(shape);
                    let mut outputs: Vec<Vec<T>> =
                        arrays.iter().map(|array| values(9, array.len())).collect();
                    let mut slices: Vec<&mut [T]> =
                        outputs.iter_mut().map(Vec::as_mut_slice).collect();
                    let call = Call { shape, inputs: &inputs, outputs: &mut slices };
                    (entry.run)(isa, call, &mut Scratch::default());
                    let values = outputs.iter().flatten();
                    nans.extend(values.map(|value| (entry.name, isa, value.to_f64().is_nan())));
                }
            }
        }
        nans
    }

    fn everything() {
        for sampler in samplers() {
            let mut chains = sampler.chains(60).build(&Fragile::sound()).unwrap();
            chains.warm_up(&Fragile::sound(), 20).unwrap();
        }
        let teacher = Teacher::<f64>::named("j1w10", 4, 0).unwrap();
        let data = teacher.sample(200, 0, 0).unwrap();
        let x = Rows::new(&data, 200, 4).unwrap();
        let options = TrainOptions { neurons: 20, iterations: 20, ..TrainOptions::default() };
        let trained = fit(x, x, &options, |_, _| Ok(())).unwrap();
        let kernel = SteinKernel::imq(1.0, -0.5).unwrap().on_sphere();
        let gram = Gram::of_energy(&kernel, &trained.model, x).unwrap();
        gram.test(Statistic::U, &WildBootstrap::new(70), &mut |_| {}).unwrap();
        gram.thin(10, None, &mut |_| {}).unwrap();
        gram.stein_weights(0.01).unwrap();
    }

    #[test]
    fn foreign_modes_of_the_floating_point_unit_do_no_harm() {
        if let Ok(modes) = env::var(MODES) {
            let modes = modes.parse().unwrap();
            let sound = [kernels::<f32>(), kernels::<f64>()];
            set_modes(modes);
            assert_eq!(fp_env_ok(), modes == 0, "MXCSR modes {modes:#x}");
            let foreign = [kernels::<f32>(), kernels::<f64>()];
            for (before, (name, isa, nan)) in sound.iter().flatten().zip(foreign.iter().flatten()) {
                assert!(before.2 || !nan, "{name} on {isa} gives NaN under MXCSR modes {modes:#x}");
            }
            return everything();
        }
        let name = "environment::foreign_modes_of_the_floating_point_unit_do_no_harm";
        let (to_zero, from_zero) = (1 << 15, 1 << 6);
        let flush_to_zero = to_zero | from_zero;
        let [down, up, towards_zero] = [1, 2, 3].map(|mode| mode << 13);
        for modes in [
            0,
            to_zero,
            from_zero,
            flush_to_zero,
            down,
            up,
            towards_zero,
            flush_to_zero | towards_zero,
        ] {
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["--exact", name, "--quiet"])
                .env(MODES, modes.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut waited = 0;
            while child.try_wait().unwrap().is_none() {
                assert!(waited < 6_000, "MXCSR modes {modes:#x}: hangs");
                waited += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            // A name that no test has is no failure.
            let ran = output.status.success() && text.contains("1 passed");
            assert!(ran, "MXCSR modes {modes:#x}: {}: {text}", output.status);
        }
    }
}
