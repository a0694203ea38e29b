//! Kernels allocate nothing after set-up, chains under a ReLU energy nothing per step, and training by a Stein kernel nothing of its Gram
//! matrix's size. In a program of its own, since the allocator is the
//! program's; it counts for each thread.

use allocation_counter::measure;
use gibbsite::{
    Isa, Real, ReluEnergy, Rows, RowsMut,
    random::Stream,
    sampler::Sampler,
    stein::Statistic,
    train::{Estimator, TrainOptions, fit},
};
use gibbsite_kernels::{
    Scratch,
    chain::{self, ReluTarget, Rule, Space},
    elementary, noise,
    relu::{self, Gate, Panel},
    rowwise,
    stein::{self, Base, Block, Kernel, Points, Quantity, Radial, Signs},
};

/// Asserts that every call after the first allocates nothing.
fn frugal(name: &str, mut call: impl FnMut(&mut Scratch)) {
    let mut scratch = Scratch::default();
    call(&mut scratch);
    let calls = measure(|| (0..3).for_each(|_| call(&mut scratch))).count_total;
    assert_eq!(calls, 0, "{name} allocates");
}

fn normals<T: Real>(len: usize, stream: u64) -> Vec<T> {
    let mut values = vec![T::from_f64(0.0); len];
    Stream::new(7, stream).fill_normal(&mut values);
    values
}

fn kernels<T: Real>(isa: Isa) {
    let (n, d, m) = (300, 7, 150);
    let [x, v] = [0, 1].map(|stream| normals::<T>(n * d, stream));
    let [x, v] = [&x, &v].map(|data| Rows::new(data, n, d).unwrap());
    let (theta, w) = (normals::<T>(m * d, 2), normals::<T>(m, 3));
    let (theta, one) = (Rows::new(&theta, m, d).unwrap(), T::from_f64(1.0));

    let panel = Panel::neurons(isa, theta, None, &w).unwrap();
    let (mut energy, mut score) = (normals::<T>(n, 4), normals::<T>(n * d, 5));
    let mut score = RowsMut::new(&mut score, n, d).unwrap();
    frugal("energy", |scratch| relu::energy(&panel, x, &mut energy, scratch));
    frugal("score", |scratch| relu::score(&panel, x, &mut score, scratch));
    frugal("energy_score", |scratch| {
        relu::energy_score(&panel, x, &mut energy, &mut score, scratch);
    });
    let target = ReluTarget { panel: &panel, beta: one, precision: None, space: Space::Sphere };
    frugal("relu_target", |scratch| {
        chain::relu_target(target, x, Some(&mut energy), Some(score.reborrow()), scratch);
    });
    frugal("finish", |scratch| {
        chain::finish(target, x, Some(&mut energy), Some(score.reborrow()), scratch);
    });
    frugal("dot", |scratch| rowwise::dot(isa, x, v, &mut energy, scratch));
    let samples = Panel::samples(isa, x, None, false).unwrap();
    let carriers = Panel::carriers(isa, x, v, Gate::Step, false).unwrap();
    let (mut value, mut sums) = (normals::<T>(m, 6), normals::<T>(m * d, 7));
    let mut sums = RowsMut::new(&mut sums, m, d).unwrap();
    frugal("param_sums", |scratch| {
        relu::param_sums(&samples, theta, None, &mut value, &mut sums, None, scratch);
    });
    frugal("carried_sums", |scratch| {
        relu::carried_sums(&carriers, theta, None, &mut sums, scratch);
    });

    let (from, mut to, mut more) = (normals::<T>(n, 8), normals::<T>(n, 9), normals::<T>(n, 9));
    frugal("ln", |_| elementary::ln(isa, &from, &mut to));
    frugal("exp", |_| elementary::exp(isa, &from, &mut to));
    frugal("sin_cos_pi", |_| elementary::sin_cos_pi(isa, &from, &mut to, &mut more));
    frugal("angle", |_| elementary::angle(isa, &from, &to, &mut more));
    frugal("gate_column", |_| {
        relu::gate_column(isa, one, &mut to, &mut more, &mut energy);
    });
    let mut streams = noise::Streams::<T>::range(0, 0, n);
    let mut words = vec![0; 5 * n];
    frugal("words", |_| noise::words(isa, &mut streams, n, &mut words));
    frugal("normals", |_| noise::normals(isa, &mut streams, score.reborrow()));

    let mut velocity = normals::<T>(n * d, 10);
    let mut moving = chain::Moving {
        x: score.reborrow(),
        score: v,
        velocity: RowsMut::new(&mut velocity, n, d).unwrap(),
        energy: &mut to,
        streams: &mut streams,
    };
    let (step, scale) = (T::from_f64(0.1), vec![one; d]);
    for (rule, space) in [
        (Rule::Unadjusted { step, noise: one, bounds: Some((-one, one)) }, Space::Flat),
        (Rule::Hamiltonian { step, drifts: 1 }, Space::Sphere),
        (Rule::Baoab { step, keep: step }, Space::Flat),
    ] {
        frugal("advance", |scratch| {
            chain::advance(isa, rule, space, &scale, 0, &mut moving, scratch);
        });
        frugal("settle", |scratch| {
            chain::settle(isa, rule, space, &scale, &mut more, &mut moving, scratch);
        });
    }

    let points = Points::new(x, v).unwrap();
    let base = Base::Radial(Radial::Imq { offset: one, exponent: T::from_f64(-0.5) });
    let kernel = Kernel { base, space: Space::Flat, quantity: Quantity::Stein };
    let block = || Block { rows: (&points, 0..n), cols: (&points, 0..n) };
    let (mut rows, mut cols) = (vec![0.0; n], vec![0.0; n]);
    frugal("sums", |scratch| {
        stein::sums(isa, kernel, block(), &mut rows, &mut cols, scratch);
    });
    let signs = Signs::try_positive(n, 70).unwrap();
    let mut draws = vec![0.0; 2 * 70];
    frugal("signed_sums", |scratch| {
        stein::signed_sums(isa, &[kernel; 2], block(), &signs, &mut draws, scratch);
    });
    frugal("product", |scratch| {
        stein::product(isa, kernel, block(), v, score.reborrow(), scratch);
    });
    let mut matrix = vec![one; n * n];
    let mut matrix = RowsMut::new(&mut matrix, n, n).unwrap();
    frugal("write", |scratch| stein::write(isa, kernel, block(), matrix.reborrow(), scratch));
    frugal("pairs", |_| stein::pairs(isa, kernel, &points, &points, &mut energy));
}

/// How often a run of chains under a ReLU energy allocates does not grow with its steps.
fn chains<T: Real>() {
    let (d, m) = (5, 60);
    let theta = normals::<T>(m * d, 0);
    let model = ReluEnergy::new(Rows::new(&theta, m, d).unwrap(), &normals::<T>(m, 1)).unwrap();
    let model = model.with_base_scale(T::from_f64(1.0)).unwrap();
    for sampler in [Sampler::ula(0.01), Sampler::mala(0.1), Sampler::hmc(0.1, 3)] {
        let mut chains = sampler.chains(100).build(&model).unwrap();
        let mut run = |steps| {
            let allocated = measure(|| {
                chains.run(&model, steps).unwrap();
            });
            allocated.count_total
        };
        run(1);
        let (few, many) = (run(2), run(50));
        assert_eq!(few, many, "allocations in 2 and in 50 steps");
    }
}

/// Training by the kernel Stein discrepancy holds no array of the size of the Gram matrix.
fn training() {
    let (n, d) = (3000, 4);
    let mut x = vec![0.0; n * d];
    let mut stream = Stream::new(1, 0);
    x.chunks_exact_mut(d).for_each(|x| stream.fill_sphere(x));
    let x = Rows::new(&x, n, d).unwrap();
    let options = TrainOptions {
        estimator: Estimator::Ksd { bandwidth: None, statistic: Statistic::V },
        neurons: 20,
        iterations: 1,
        ..TrainOptions::default()
    };
    let bytes = measure(|| drop(fit(x, x, &options, |_, _| Ok(())).unwrap())).bytes_max as usize;
    // 50,000 draws of the base stand behind log Z.
    let (log_z, gram) = (50_000 * (2 * d + 6) * size_of::<f64>(), n * n * size_of::<f64>());
    assert!(bytes < log_z + 40 * n * d * size_of::<f64>() && bytes < gram / 4, "{bytes} bytes");
}

fn main() {
    for isa in Isa::available() {
        kernels::<f32>(isa);
        kernels::<f64>(isa);
    }
    // In this thread alone.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    pool.install(|| {
        chains::<f32>();
        chains::<f64>();
        training();
    });
    println!("nothing allocated on {} levels", Isa::available().count());
}
