//! Stein kernels: blocks of Gram matrices and their sums against a plain loop over pairs.
//!
//! `cargo bench --bench stein [FILTER]`; see `shared/tasks.rs` for how. Times are per pair, each pair of different points
//! counted once for the KSD and twice for the matrix. Of a coordinate's five operations - two differences, three fused multiply-adds -
//! each counts as two flops in the share of the peak: it is the share of the multiply-adds that could have been
//! issued, and may be above 100 % where differences have units of their own.

#[path = "shared/tasks.rs"]
mod tasks;

use gibbsite::{
    Isa, Real, Rows, RowsMut,
    stein::{Gram, Statistic, SteinKernel, WildBootstrap},
};
use gibbsite_measure::{Element, peak, values};
use std::hint::black_box;
use tasks::{Peak, Task, levels};

/// Points and dimension.
const SHAPES: [(usize, usize); 3] = [(3_000, 15), (10_000, 15), (5_000, 64)];
const C: f64 = 5.0;
/// Draws of the bootstrap.
const DRAWS: usize = 1_000;

fn rows<T>(data: &[T], d: usize) -> Rows<'_, T> {
    Rows::new(data, data.len() / d, d).expect("whole rows")
}

/// One thread, as the plain loop has.
fn on_one_thread<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().use_current_thread().num_threads(1).build();
    pool.expect("a pool of one thread").install(run)
}

/// The formula as it is written, with the inverse multiquadric or the Gaussian.
fn plain<T: Real>(x: &[T], s: &[T], d: usize, imq: bool, (i, j): (usize, usize)) -> T {
    let (mut t, mut cross, mut scores) = (T::ZERO, T::ZERO, T::ZERO);
    for k in 0..d {
        let (r, difference) = (x[i * d + k] - x[j * d + k], s[i * d + k] - s[j * d + k]);
        t += r * r;
        cross += difference * r;
        scores += s[i * d + k] * s[j * d + k];
    }
    let (number, trace) = (T::from_f64, T::from_f64(d as f64));
    if imq {
        let q = T::ONE / (number(C * C) + t);
        let phi = gibbsite_kernels::Real::sqrt(q);
        phi * (scores + q * (trace + cross) - number(3.0) * q * q * t)
    } else {
        let precision = number(1.0 / (C * C));
        let phi = T::from_f64((-0.5 * (precision * t).to_f64()).exp());
        phi * (scores + precision * (trace + cross) - precision * precision * t)
    }
}

fn tasks_of<T: Real + Element>((n, d): (usize, usize), imq: bool, draws: usize) -> Vec<Task> {
    let (x, s) = (values::<T>(n * d, 1), values::<T>(n * d, 2));
    let kernel = match imq {
        true => SteinKernel::imq(C, -0.5),
        false => SteinKernel::rbf(C),
    };
    let kernel = kernel.expect("a bandwidth");
    let gram = |isa: Isa| {
        Gram::new(&kernel, rows(&x, d), rows(&s, d)).expect("finite points").with_isa(isa)
    };
    let name = |what: &str| {
        let kernel = if imq { "imq" } else { "rbf" };
        format!("{what}/{kernel}/{}/n={n},d={d}", T::NAME)
    };
    let flops = |pairs: usize| Some(((10 * d * pairs) as u64, peak::<T> as Peak));
    let ways = |way: fn(&Gram<T>, usize)| -> Vec<(String, Box<dyn FnMut()>)> {
        levels()
            .map(|isa| {
                let gram = gram(isa);
                (isa.to_string(), Box::new(move || way(&gram, draws)) as Box<dyn FnMut()>)
            })
            .collect()
    };

    let half = n * (n - 1) / 2;
    let mut ksd = ways(|gram, _| {
        black_box(gram.ksd(Statistic::V, &mut |_| {}).expect("finite"));
    });
    let (plain_x, plain_s) = (x.clone(), s.clone());
    ksd.push((
        "plain".to_owned(),
        Box::new(move || {
            let mut sum = 0.0;
            for i in 0..n {
                for j in 0..i {
                    sum += plain(&plain_x, &plain_s, d, imq, (i, j)).to_f64();
                }
            }
            black_box(sum);
        }),
    ));
    let mut tasks =
        vec![Task { name: name("ksd"), elements: half as u64, ways: ksd, flops: flops(half) }];

    // Rows of the matrix, a strip at a time, as a file would get them.
    let mut matrix = ways(|gram, _| {
        let n = gram.points();
        let mut strip = vec![T::ZERO; 128 * n];
        for first in (0..n).step_by(128) {
            let height = 128.min(n - first);
            let out = RowsMut::new(&mut strip[..height * n], height, n).expect("a strip");
            gram.write(first, out).expect("rows of the matrix");
            black_box(&mut strip);
        }
    });
    let (plain_x, plain_s) = (x.clone(), s.clone());
    matrix.push((
        "plain".to_owned(),
        Box::new(move || {
            let mut row = vec![T::ZERO; n];
            for i in 0..n {
                for j in 0..n {
                    row[j] = plain(&plain_x, &plain_s, d, imq, (i, j));
                }
                black_box(&mut row);
            }
        }),
    ));
    let (elements, flops_of_all) = ((n * n) as u64, flops(n * n));
    tasks.push(Task { name: name("gram"), elements, ways: matrix, flops: flops_of_all });
    if imq && n <= 3_000 {
        let ways = ways(|gram, draws| {
            let bootstrap = WildBootstrap::new(draws);
            black_box(gram.test(Statistic::V, &bootstrap, &mut |_| {}).expect("finite"));
        });
        // With products with the signs of all draws.
        let flops = ((10 * d + 2 * draws) * half) as u64;
        let flops = Some((flops, peak::<T> as Peak));
        tasks.push(Task { name: name("test"), elements: half as u64, ways, flops });
    }
    tasks
}

fn main() {
    on_one_thread(|| {
        tasks::run(|small| {
            let (shapes, draws) = match small {
                true => (vec![(150, 4)], 10),
                false => (SHAPES.to_vec(), DRAWS),
            };
            let mut all = Vec::new();
            for shape in shapes {
                for imq in [true, false] {
                    all.extend(tasks_of::<f32>(shape, imq, draws));
                    all.extend(tasks_of::<f64>(shape, imq, draws));
                }
            }
            all
        });
    });
}
