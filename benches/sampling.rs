//! Noise, Langevin updates and whole chains against scalar code of `rand_distr` and `rand_xoshiro`, chains also with
//! unfused scores by faer.
//!
//! `cargo bench --bench sampling [FILTER]`; see `shared/tasks.rs` for how.
//!
//! Counted are: for noise and updates values per second, and for updates the share of the bandwidth of a copy (an
//! update reads two arrays and writes one, a copy reads and writes one); for chains steps of one chain, and 4md flops for each,
//! as a share of the measured peak.

#[path = "shared/tasks.rs"]
mod tasks;

use gibbsite_kernels::{
    Rows, RowsMut, Scratch,
    chain::{self, Chains, Moving, ReluTarget, Rule, Space},
    noise::{self, Streams},
    registry::Shape,
    relu::Panel,
};
use gibbsite_measure::{Element, Unfused, peak, values};
use rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use tasks::{Peak, Task, levels};

/// `(chains, dimension)` of noise and updates: within a cache, and far beyond.
const SIZES: [(usize, usize); 2] = [(1_000, 100), (10_000, 1_000)];

/// `(dimension, neurons)` of chains.
const MODELS: [(usize, usize); 2] = [(15, 500), (64, 1_024)];
const CHAINS: usize = 1_024;
const STEPS: usize = 100;

/// ε = √(2h).
const STEP: f64 = 0.1;

/// An element type of which `rand_distr` draws normals.
trait Normal: Element {
    fn normal(rng: &mut Xoshiro256PlusPlus) -> Self;
}

impl Normal for f32 {
    fn normal(rng: &mut Xoshiro256PlusPlus) -> f32 {
        StandardNormal.sample(rng)
    }
}

impl Normal for f64 {
    fn normal(rng: &mut Xoshiro256PlusPlus) -> f64 {
        StandardNormal.sample(rng)
    }
}

fn normals<T: Normal>((n, d): (usize, usize)) -> Task {
    let mut ways: Vec<(String, Box<dyn FnMut()>)> = Vec::new();
    for isa in levels() {
        let (mut streams, mut out) = (Streams::<T>::range(1, 0, n), vec![T::ZERO; n * d]);
        let run = move || {
            noise::normals(isa, &mut streams, RowsMut::new(&mut out, n, d).expect("n x d"));
        };
        ways.push((isa.to_string(), Box::new(run)));
    }
    let (mut rng, mut out) = (Xoshiro256PlusPlus::seed_from_u64(1), vec![T::ZERO; n * d]);
    let plain = move || out.iter_mut().for_each(|out| *out = T::normal(&mut rng));
    ways.push(("rand_distr".to_owned(), Box::new(plain)));
    let name = format!("normals/{}/n={}", T::NAME, n * d);
    Task { name, elements: (n * d) as u64, ways, flops: None }
}

fn update<T: Normal>((n, d): (usize, usize)) -> Task {
    let rule = Rule::Unadjusted { step: T::from_f64(STEP), noise: T::ONE, bounds: None };
    let mut ways: Vec<(String, Box<dyn FnMut()>)> = Vec::new();
    for isa in levels() {
        let (mut x, score) = (values::<T>(n * d, 1), values::<T>(n * d, 2));
        // ULA leaves them alone.
        let (mut velocity, mut energy) = (vec![T::ZERO; n * d], vec![T::ZERO; n]);
        let (mut streams, mut scratch) = (Streams::<T>::range(1, 0, n), Scratch::default());
        let scale = vec![T::ONE; d];
        let run = move || {
            let rows = |data| RowsMut::new(data, n, d).expect("n x d");
            let mut moving = Moving {
                x: rows(&mut x),
                score: Rows::new(&score, n, d).expect("n x d"),
                velocity: rows(&mut velocity),
                energy: &mut energy,
                streams: &mut streams,
            };
            chain::advance(isa, rule, Space::Flat, &scale, 0, &mut moving, &mut scratch);
        };
        ways.push((isa.to_string(), Box::new(run)));
    }
    let (from, mut to) = (values::<T>(n * d, 1), vec![T::ZERO; n * d]);
    let copy = move || std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
    ways.push(("copy".to_owned(), Box::new(copy)));
    let (mut x, score) = (values::<T>(n * d, 1), values::<T>(n * d, 2));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let plain = move || langevin(&mut x, &score, &mut rng);
    ways.push(("rand_distr".to_owned(), Box::new(plain)));
    let name = format!("update/{}/n={}", T::NAME, n * d);
    Task { name, elements: (n * d) as u64, ways, flops: None }
}

/// x ← x + h s + √(2h) ξ.
fn langevin<T: Normal>(x: &mut [T], score: &[T], rng: &mut Xoshiro256PlusPlus) {
    let (h, root) = (T::from_f64(STEP * STEP / 2.0), T::from_f64(STEP));
    for (x, &score) in x.iter_mut().zip(score) {
        *x = *x + h * score + root * T::normal(rng);
    }
}

fn whole_chains<T: Normal>((d, m): (usize, usize), n: usize, steps: usize) -> Task {
    let (theta, w) = (values::<T>(m * d, 1), values::<T>(m, 2));
    let rule = Rule::Unadjusted { step: T::from_f64(STEP), noise: T::ONE, bounds: None };
    let mut ways: Vec<(String, Box<dyn FnMut()>)> = Vec::new();
    for isa in levels() {
        let neurons = Rows::new(&theta, m, d).expect("m x d");
        let panel = Panel::neurons(isa, neurons, None, &w).expect("m weights");
        let mut arrays = [(); 3].map(|()| values::<T>(n * d, 3));
        let mut entries = [(); 3].map(|()| vec![T::ZERO; n]);
        let (mut streams, mut scratch) = (Streams::<T>::range(1, 0, n), Scratch::default());
        let scale = vec![T::ONE; d];
        let run = move || {
            let [x, score, velocity] = &mut arrays;
            let [potential, log_ratio, accepted] = &mut entries;
            let rows = |data| RowsMut::new(data, n, d).expect("n x d");
            let chains = Chains {
                x: rows(x),
                score: rows(score),
                velocity: rows(velocity),
                potential,
                log_ratio,
                accepted,
                streams: &mut streams,
            };
            let target =
                ReluTarget { panel: &panel, beta: T::ONE, precision: None, space: Space::Flat };
            chain::relu_steps(target, rule, &scale, steps, chains, &mut scratch);
        };
        ways.push((isa.to_string(), Box::new(run)));
    }
    let shape = Shape { n, d, m, ..Shape::default() };
    let mut unfused = Unfused::of("relu.score", shape).expect("one that is listed");
    let (mut inputs, mut score) = ([values::<T>(n * d, 3), theta, w], [values::<T>(n * d, 3)]);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let plain = move || {
        for _ in 0..steps {
            langevin(&mut inputs[0], &score[0], &mut rng);
            unfused.run(&inputs, &mut score);
        }
    };
    ways.push(("faer and rand_distr".to_owned(), Box::new(plain)));
    let name = format!("chains/{}/d={d},m={m}", T::NAME);
    let flops = Some(((4 * n * m * d * steps) as u64, peak::<T> as Peak));
    Task { name, elements: (n * steps) as u64, ways, flops }
}

fn all_tasks<T: Normal>(small: bool) -> Vec<Task> {
    if small {
        return vec![
            normals::<T>((20, 9)),
            update::<T>((20, 9)),
            whole_chains::<T>((7, 100), 50, 2),
        ];
    }
    let mut tasks: Vec<Task> = SIZES.into_iter().map(normals::<T>).collect();
    tasks.extend(SIZES.into_iter().map(update::<T>));
    tasks.extend(MODELS.into_iter().map(|model| whole_chains::<T>(model, CHAINS, STEPS)));
    tasks
}

fn main() {
    tasks::run(|small| {
        let mut all = all_tasks::<f32>(small);
        all.extend(all_tasks::<f64>(small));
        all
    });
}
