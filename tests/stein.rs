//! Stein kernels: formulas against differences of the kernels behind them, statistics against plain sums, tests
//! against their level.

use gibbsite::{
    Domain, Energy, Error, Isa, Real, ReluEnergy, Result, Rows, RowsMut,
    random::Stream,
    stein::{
        F1Discrepancy, Gram, KsdTest, Regularisation, Statistic, SteinKernel, Svgd, WildBootstrap,
        ksd, ksd_aggregated_test, ksd_blocks, ksd_in_parts, ksd_test, median_distance, stein_thin,
    },
};
use std::f64::consts::PI;

fn rows<T>(data: &[T], d: usize) -> Rows<'_, T> {
    Rows::new(data, data.len() / d, d).unwrap()
}

fn normals<T: Real>(n: usize, seed: u64, stream: u64) -> Vec<T> {
    let mut x = vec![T::ZERO; n];
    Stream::new(seed, stream).fill_normal(&mut x);
    x
}

fn normalised(x: &mut [f64], d: usize) {
    for x in x.chunks_exact_mut(d) {
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Tangential scores of any size.
fn tangential(x: &[f64], d: usize, seed: u64) -> Vec<f64> {
    let mut s: Vec<f64> = normals(x.len(), seed, 9);
    for (s, x) in s.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
        let normal = dot(s, x);
        s.iter_mut().zip(x).for_each(|(s, x)| *s -= normal * x);
    }
    s
}

/// The kernel behind a Stein kernel.
type Plain = Box<dyn Fn(&[f64], &[f64]) -> f64>;

/// Stein kernels in R^d, each with the plain kernel it comes from.
fn kernels(d: usize) -> Vec<(&'static str, SteinKernel, Plain)> {
    let square =
        |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum() };
    // Positive definite, with all its entries different.
    let metric: Vec<f64> = (0..d * d)
        .map(|i| {
            if i % d == i / d { 1.0 + i as f64 / 9.0 } else { 0.2 / (1.0 + (i % d + i / d) as f64) }
        })
        .collect();
    let imq = || SteinKernel::imq(1.3, -0.5).unwrap();
    let phi = |t: f64| (1.69 + t).powf(-0.5);
    let by = metric.clone();
    let in_metric = move |x: &[f64], y: &[f64]| {
        let r: Vec<f64> = x.iter().zip(y).map(|(x, y)| x - y).collect();
        phi(by.chunks(r.len()).zip(&r).map(|(row, r_i)| r_i * dot(row, &r)).sum())
    };
    vec![
        ("imq", imq(), Box::new(move |x, y| phi(square(x, y)))),
        (
            "imq^-0.3",
            SteinKernel::imq(0.8, -0.3).unwrap(),
            Box::new(move |x, y| (0.64 + square(x, y)).powf(-0.3)),
        ),
        (
            "rbf",
            SteinKernel::rbf(1.7).unwrap(),
            Box::new(move |x, y| (-square(x, y) / (2.0 * 1.7 * 1.7)).exp()),
        ),
        ("linear", SteinKernel::linear(), Box::new(|x, y| 1.0 + dot(x, y))),
        (
            "imq+linear",
            imq().plus_linear().unwrap(),
            Box::new(move |x, y| phi(square(x, y)) + 1.0 + dot(x, y)),
        ),
        (
            "arc-cosine",
            SteinKernel::arc_cosine(),
            Box::new(|x, y| {
                let norms = (dot(x, x) * dot(y, y)).sqrt();
                norms * arc_cosine((dot(x, y) / norms).clamp(-1.0, 1.0)) / (2.0 * PI)
            }),
        ),
        ("metric", imq().with_metric(rows(&metric, d)).unwrap(), Box::new(in_metric)),
    ]
}

/// sin α + (π - α) cos α, by the cosine of α.
fn arc_cosine(c: f64) -> f64 {
    (1.0 - c * c).max(0.0).sqrt() + (PI - c.acos()) * c
}

/// u by central differences of k. `derive` is applied to functions of one point at a time.
fn by_differences(k: &Plain, [x, sx]: [&[f64]; 2], [y, sy]: [&[f64]; 2]) -> f64 {
    const STEP: f64 = 1e-4;
    let moved = |x: &[f64], i: usize, by: f64| {
        let mut x = x.to_vec();
        x[i] += by;
        x
    };
    let mut u = dot(sx, sy) * k(x, y);
    for i in 0..x.len() {
        let [x_up, x_down] = [STEP, -STEP].map(|by| moved(x, i, by));
        let [y_up, y_down] = [STEP, -STEP].map(|by| moved(y, i, by));
        u += sx[i] * (k(x, &y_up) - k(x, &y_down)) / (2.0 * STEP);
        u += sy[i] * (k(&x_up, y) - k(&x_down, y)) / (2.0 * STEP);
        let mixed = k(&x_up, &y_up) - k(&x_up, &y_down) - k(&x_down, &y_up) + k(&x_down, &y_down);
        u += mixed / (4.0 * STEP * STEP);
    }
    u
}

#[test]
fn values_are_those_of_the_operator() {
    for d in [1, 2, 5] {
        let (x, s) = (normals(7 * d, 1, 0), normals(7 * d, 1, 1));
        for (name, kernel, plain) in kernels(d) {
            let gram = Gram::new(&kernel, rows(&x, d), rows(&s, d)).unwrap().matrix().unwrap();
            for (i, (xi, si)) in x.chunks(d).zip(s.chunks(d)).enumerate() {
                for (j, (xj, sj)) in x.chunks(d).zip(s.chunks(d)).enumerate() {
                    // Twice differentiable, but third derivatives jump where angles are 0 or π.
                    if name == "arc-cosine" && (d == 1 || i == j) {
                        continue;
                    }
                    let (u, expected) =
                        (gram[i * 7 + j], by_differences(&plain, [xi, si], [xj, sj]));
                    let close = (u - expected).abs() < 1e-6 * (1.0 + expected.abs());
                    assert!(close, "{name}, d = {d}, ({i}, {j}): {u} against {expected}");
                    assert_eq!(u.to_bits(), gram[j * 7 + i].to_bits(), "{name}: symmetry");
                }
            }
        }
    }
}

/// The operator of the sphere on both sides, applied to a kernel of all of R^d by way of points moved along the sphere:
/// Σ_i e_i e_iᵀ over tangential directions, and the term -(d-1) x of the divergence.
fn by_differences_on_the_sphere(k: &Plain, [x, sx]: [&[f64]; 2], [y, sy]: [&[f64]; 2]) -> f64 {
    const STEP: f64 = 1e-4;
    let d = x.len();
    // Functions of one point: A h = Σ_c [(s - (d-1) x)_c h_c + (P_x ∇ h_c)_c].
    let gradient = |f: &dyn Fn(&[f64]) -> f64, x: &[f64]| -> Vec<f64> {
        let extended = |x: &[f64]| {
            let norm = dot(x, x).sqrt();
            f(&x.iter().map(|x| x / norm).collect::<Vec<_>>())
        };
        (0..d)
            .map(|i| {
                let moved = |by: f64| {
                    let mut x = x.to_vec();
                    x[i] += by;
                    extended(&x)
                };
                (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
            })
            .collect()
    };
    let drift = |s: &[f64], x: &[f64], c: usize| s[c] - (d as f64 - 1.0) * x[c];
    let mut u = 0.0;
    for c in 0..d {
        // A_y of k(x, ·) e_c, as a function of x, then A_x.
        let inner = |x: &[f64]| {
            let along = gradient(&|y: &[f64]| k(x, y), y)[c];
            drift(sy, y, c) * k(x, y) + along
        };
        u += drift(sx, x, c) * inner(x) + gradient(&inner, x)[c];
    }
    u
}

fn kernels_on_the_sphere() -> Vec<(&'static str, SteinKernel, Plain)> {
    let square = |x: &[f64], y: &[f64]| 2.0 - 2.0 * dot(x, y);
    vec![
        (
            "arc-cosine",
            SteinKernel::arc_cosine().on_sphere(),
            Box::new(|x, y| arc_cosine(dot(x, y).clamp(-1.0, 1.0)) / (2.0 * PI * x.len() as f64)),
        ),
        (
            "imq",
            SteinKernel::imq(0.7, -0.5).unwrap().on_sphere(),
            Box::new(move |x, y| (0.49 + square(x, y)).powf(-0.5)),
        ),
        (
            "imq^-0.8",
            SteinKernel::imq(0.7, -0.8).unwrap().on_sphere(),
            Box::new(move |x, y| (0.49 + square(x, y)).powf(-0.8)),
        ),
        (
            "rbf",
            SteinKernel::rbf(0.9).unwrap().on_sphere(),
            Box::new(|x, y| ((dot(x, y) - 1.0) / 0.81).exp()),
        ),
        ("linear", SteinKernel::linear().on_sphere(), Box::new(|x, y| 1.0 + dot(x, y))),
        (
            "imq+linear",
            SteinKernel::imq(0.7, -0.5).unwrap().plus_linear().unwrap().on_sphere(),
            Box::new(move |x, y| (0.49 + square(x, y)).powf(-0.5) + 1.0 + dot(x, y)),
        ),
    ]
}

#[test]
fn values_on_the_sphere_are_those_of_its_operator() {
    for d in [2, 3, 6] {
        let mut x = normals(6 * d, 2, 0);
        normalised(&mut x, d);
        let s = tangential(&x, d, 2);
        for (name, kernel, plain) in kernels_on_the_sphere() {
            let gram = Gram::new(&kernel, rows(&x, d), rows(&s, d)).unwrap().matrix().unwrap();
            for (i, (xi, si)) in x.chunks(d).zip(s.chunks(d)).enumerate() {
                for (j, (xj, sj)) in x.chunks(d).zip(s.chunks(d)).enumerate() {
                    // Twice differentiable, but third derivatives jump where angles are 0 or π.
                    if name == "arc-cosine" && (d == 1 || i == j) {
                        continue;
                    }
                    let u = gram[i * 6 + j];
                    let expected = by_differences_on_the_sphere(&plain, [xi, si], [xj, sj]);
                    let close = (u - expected).abs() < 3e-6 * (1.0 + expected.abs());
                    assert!(close, "{name}, d = {d}, ({i}, {j}): {u} against {expected}");
                }
            }
        }
    }
}

#[test]
fn the_mean_over_the_density_is_zero() {
    // N(0, I) and, on the sphere, the uniform law, at fixed points on the other side.
    let (n, d) = (20_000, 3);
    let mut x: Vec<f64> = normals(n * d, 3, 0);
    let check = |name: &str, kernel: &SteinKernel, x: &[f64], s: &[f64]| {
        let gram = Gram::new(kernel, rows(x, d), rows(s, d)).unwrap();
        let mut block = vec![0.0; 3 * n];
        gram.write(0, RowsMut::new(&mut block, 3, n).unwrap()).unwrap();
        for (i, row) in block.chunks(n).enumerate() {
            let others = || row.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, u)| u);
            let mean = others().sum::<f64>() / (n - 1) as f64;
            let square = others().map(|u| (u - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
            let error = (square / n as f64).sqrt();
            assert!(mean.abs() < 5.0 * error, "{name}, point {i}: {mean} +- {error}");
        }
    };
    let s: Vec<f64> = x.iter().map(|x| -x).collect();
    for (name, kernel, _) in kernels(d) {
        check(name, &kernel, &x, &s);
    }
    normalised(&mut x, d);
    for (name, kernel, _) in kernels_on_the_sphere() {
        check(name, &kernel, &x, &vec![0.0; n * d]);
    }
}

#[test]
fn statistics_are_sums_over_the_matrix() {
    // One tile, more than one, more than one work item of several tiles.
    for n in [1, 2, 3, 127, 128, 129, 300, 1_300] {
        let (x, s) = (normals::<f64>(2 * n, 4, 0), normals(2 * n, 4, 1));
        let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
        let (x, s) = (rows(&x, 2), rows(&s, 2));
        let gram = Gram::new(&kernel, x, s).unwrap();
        let matrix = gram.matrix().unwrap();
        let at = |i: usize, j: usize| matrix[i * n + j];
        let close = |a: f64, b: f64| (a - b).abs() < 1e-10 * (1.0 + b.abs()) * n as f64;
        for (i, (sum, own)) in gram.row_sums(&mut |_| {}).iter().zip(gram.diagonal()).enumerate() {
            assert!(close(*sum, (0..n).map(|j| at(i, j)).sum()), "row {i} of {n}");
            assert_eq!(own.to_bits(), at(i, i).to_bits());
        }
        let total: f64 = matrix.iter().sum();
        let diagonal: f64 = (0..n).map(|i| at(i, i)).sum();
        let v = ksd(&kernel, x, s, Statistic::V).unwrap();
        assert!(close(v.squared, total / (n * n) as f64));
        match ksd(&kernel, x, s, Statistic::U) {
            Ok(u) => assert!(close(u.squared, (total - diagonal) / (n * (n - 1)) as f64)),
            Err(error) => assert_eq!((n, error.to_string().contains("at least 2")), (1, true)),
        }
        // Signed sums: the first draw is the statistic itself, and p-values count those that reach it.
        if n > 1 {
            for statistic in [Statistic::V, Statistic::U] {
                let squared = ksd(&kernel, x, s, statistic).unwrap().squared;
                let test = ksd_test(&kernel, x, s, statistic, &WildBootstrap::new(19)).unwrap();
                assert!(close(test.squared, squared), "{} of {squared}", test.squared);
                let reached = test.draws.iter().filter(|&&draw| draw >= test.squared).count();
                assert_eq!(test.p_value, (1 + reached) as f64 / 20.0);
            }
        }
        // The trace ends with the V-statistic and begins with the first point.
        let trace = gram.ksd_trace(&mut |_| {}).unwrap();
        assert!(close(trace[n - 1].powi(2), v.squared) && close(trace[0].powi(2), at(0, 0)));
        let k = n / 2;
        let part: f64 =
            (0..k).flat_map(|i| (0..k).map(move |j| (i, j))).map(|(i, j)| at(i, j)).sum();
        assert!(k == 0 || close(trace[k - 1].powi(2), part / (k * k) as f64));
        // The jackknife, by leaving points out.
        if let (3..300, Some(found)) = (n, v.std_error) {
            let left: Vec<f64> = (0..n)
                .map(|o| {
                    let rest = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
                    let rest = rest.filter(|&(i, j)| i != o && j != o).map(|(i, j)| at(i, j));
                    rest.sum::<f64>() / ((n - 1) * (n - 1)) as f64
                })
                .collect();
            let mean = left.iter().sum::<f64>() / n as f64;
            let square: f64 = left.iter().map(|l| (l - mean).powi(2)).sum();
            assert!(
                close(found, (square * (n - 1) as f64 / n as f64).sqrt()),
                "jackknife, n = {n}"
            );
        }
        assert_eq!(v.std_error.is_some(), n > 2);
        // Products.
        let v: Vec<f64> = normals(n * 3, 4, 2);
        let mut out = vec![f64::NAN; n * 3];
        gram.product(rows(&v, 3), RowsMut::new(&mut out, n, 3).unwrap()).unwrap();
        for (i, out) in out.chunks(3).enumerate() {
            for b in 0..3 {
                assert!(close(out[b], (0..n).map(|j| at(i, j) * v[j * 3 + b]).sum()));
            }
        }
    }
}

#[test]
fn draws_of_the_bootstrap_are_sums_with_signs() {
    // More than one work item of points, more than one word of draws.
    let (n, draws, seed) = (1_200, 150, 5);
    let (x, s) = (normals::<f64>(2 * n, 14, 0), normals(2 * n, 14, 1));
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let gram = Gram::new(&kernel, rows(&x, 2), rows(&s, 2)).unwrap();
    let bootstrap = WildBootstrap::new(draws).seed(seed);
    let test = gram.test(Statistic::V, &bootstrap, &mut |_| {}).unwrap();
    // The first sign of all is that of the statistic.
    let len = (1 + draws).div_ceil(64);
    let mut bits = Stream::new(seed, 1 << 44);
    let words: Vec<u64> = (0..n * len).map(|_| bits.bits()).collect();
    let matrix = gram.matrix().unwrap();
    let scale = (n * n) as f64;
    for (b, draw) in test.draws.iter().enumerate() {
        let place = b + 1;
        let sign = |i: usize| match words[i * len + place / 64] >> (place % 64) & 1 {
            0 => 1.0,
            _ => -1.0,
        };
        let signs: Vec<f64> = (0..n).map(sign).collect();
        let terms = matrix.chunks_exact(n).zip(&signs).map(|(row, sign)| sign * dot(row, &signs));
        let expected = terms.sum::<f64>() / scale;
        assert!((draw - expected).abs() < 1e-12 * test.squared, "{b}: {draw}, not {expected}");
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_levels() {
    fn check<T: Real>() {
        let (n, d) = (1_200, 5);
        let (x, s) = (normals::<T>(n * d, 5, 0), normals::<T>(n * d, 5, 1));
        let kernel = SteinKernel::imq(1.0, -0.5).unwrap().plus_linear().unwrap();
        let gram = Gram::new(&kernel, rows(&x, d), rows(&s, d)).unwrap();
        let bootstrap = WildBootstrap::new(70).seed(1);
        let all = |gram: &Gram<T>| {
            let thinned = gram.thin(20, None, &mut |_| {}).unwrap();
            (
                gram.row_sums(&mut |_| {}),
                gram.test(Statistic::U, &bootstrap, &mut |_| {}).unwrap(),
                thinned,
            )
        };
        let expected = all(&gram);
        for isa in Isa::available() {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let gram = gram.clone().with_isa(isa);
                assert_eq!(pool.install(|| all(&gram)), expected, "{isa}, {threads} threads");
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

/// p-value of the Kolmogorov-Smirnov test for the uniform law.
fn kolmogorov_smirnov(mut p: Vec<f64>) -> f64 {
    assert!(p.iter().all(|p| (0.0..=1.0).contains(p)), "{p:?}");
    p.sort_by(f64::total_cmp);
    let n = p.len() as f64;
    let distance = p.iter().enumerate().fold(0.0_f64, |distance, (i, p)| {
        distance.max((p - i as f64 / n).abs()).max(((i + 1) as f64 / n - p).abs())
    });
    let lambda = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance;
    let terms = (1..100).map(|k| f64::from(k).powi(2) * -2.0 * lambda * lambda).enumerate();
    2.0 * terms.map(|(k, e)| if k % 2 == 0 { e.exp() } else { -e.exp() }).sum::<f64>()
}

/// Data sets of N(mean, scale²) in d dimensions, tested for N(0, I).
fn p_values(sets: u64, n: usize, d: usize, (mean, scale): (f64, f64)) -> Vec<f64> {
    let kernel = SteinKernel::imq((2.0 * d as f64).sqrt(), -0.5).unwrap();
    let bootstrap = WildBootstrap::new(199);
    (0..sets)
        .map(|set| {
            let x: Vec<f64> = normals(n * d, set, 0);
            let x: Vec<f64> = x.iter().map(|x| mean + scale * x).collect();
            let s: Vec<f64> = x.iter().map(|x| -x).collect();
            let test =
                ksd_test(&kernel, rows(&x, d), rows(&s, d), Statistic::U, &bootstrap.seed(set));
            test.unwrap().p_value
        })
        .collect()
}

#[test]
fn u_statistics_have_mean_zero_for_draws_of_the_density() {
    let (sets, n, d) = (5_000, 20, 2);
    let kernel = SteinKernel::imq(1.5, -0.5).unwrap();
    let values: Vec<f64> = (0..sets)
        .map(|set| {
            let x: Vec<f64> = normals(n * d, set, 5);
            let s: Vec<f64> = x.iter().map(|x| -x).collect();
            ksd(&kernel, rows(&x, d), rows(&s, d), Statistic::U).unwrap().squared
        })
        .collect();
    let mean = values.iter().sum::<f64>() / sets as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / sets as f64;
    let z = mean / (variance / sets as f64).sqrt();
    assert!(z.abs() < 5.0, "{z}");
}

#[test]
fn gram_matrices_are_positive_but_for_rounding() {
    let (n, d) = (200, 2);
    let (mut x, mut s) = (normals::<f64>(n * d, 13, 0), normals::<f64>(n * d, 13, 1));
    // Many near duplicates: eigenvalues down to nothing.
    for i in n * d / 2..n * d {
        x[i] = x[i - n * d / 2] * (1.0 + 1e-9);
        s[i] = s[i - n * d / 2];
    }
    for (name, kernel, _) in kernels(d) {
        let matrix = Gram::new(&kernel, rows(&x, d), rows(&s, d)).unwrap().matrix().unwrap();
        let matrix = faer::MatRef::from_row_major_slice(&matrix, n, n);
        let values = matrix.self_adjoint_eigenvalues(faer::Side::Lower).unwrap();
        let (least, largest) = (values[0], values[n - 1]);
        assert!(least >= -(n as f64) * f64::EPSILON * largest, "{name}: {least}, {largest}");
    }
}

fn share_below(p: &[f64], level: f64) -> f64 {
    p.iter().filter(|&&p| p <= level).count() as f64 / p.len() as f64
}

#[test]
fn p_values_are_uniform_for_draws_of_the_density() {
    let p = p_values(1_000, 100, 2, (0.0, 1.0));
    println!("share below 0.05: {}", share_below(&p, 0.05));
    // The bootstrap takes the place of the limit law, so a little is off at any n.
    assert!((share_below(&p, 0.05) - 0.05).abs() < 0.03);
    let p = kolmogorov_smirnov(p);
    println!("Kolmogorov-Smirnov: {p}");
    assert!(p > 1e-3, "{p}");
}

#[test]
fn tests_see_shifts_and_scales() {
    for (law, least) in [((0.3, 1.0), 0.85), ((0.0, 1.5), 0.8)] {
        let power = share_below(&p_values(100, 100, 2, law), 0.05);
        println!("N{law:?}: power {power}");
        assert!(power > least, "N{law:?}: power {power}");
    }
}

#[test]
fn chains_want_signs_that_stay() {
    // An autoregression with law N(0, 1) and correlation 0.8 from one draw to the next.
    let (n, sets) = (400, 300);
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let share = |bootstrap: WildBootstrap| {
        let p: Vec<f64> = (0..sets)
            .map(|set| {
                let mut x: Vec<f64> = normals(n, set, 7);
                for i in 1..n {
                    x[i] = 0.8 * x[i - 1] + 0.6 * x[i];
                }
                let s: Vec<f64> = x.iter().map(|x| -x).collect();
                let bootstrap = bootstrap.seed(set);
                ksd_test(&kernel, rows(&x, 1), rows(&s, 1), Statistic::V, &bootstrap)
                    .unwrap()
                    .p_value
            })
            .collect();
        share_below(&p, 0.05)
    };
    let (naive, markov) =
        (share(WildBootstrap::new(199)), share(WildBootstrap::new(199).correlated(0.02)));
    println!("rejected: {naive} with independent signs, {markov} with signs that stay");
    assert!(naive > 0.25 && markov < 0.12, "{naive}, {markov}");
}

#[test]
fn the_aggregated_test_holds_its_level_and_finds_the_bandwidth() {
    let (n, d) = (100, 2);
    let kernels: Vec<SteinKernel> =
        [0.1, 0.3, 1.0, 3.0, 10.0].map(|c| SteinKernel::imq(c, -0.5).unwrap()).into();
    let rejected = |sets: u64, mean: f64| {
        let rejections = (0..sets).filter(|&set| {
            let x: Vec<f64> = normals::<f64>(n * d, set, 3).iter().map(|x| mean + x).collect();
            let s: Vec<f64> = x.iter().map(|x| -x).collect();
            let bootstrap = WildBootstrap::new(400).seed(set);
            let test = ksd_aggregated_test(&kernels, rows(&x, d), rows(&s, d), 0.05, &bootstrap);
            test.unwrap().rejected
        });
        rejections.count() as f64 / sets as f64
    };
    let (level, power) = (rejected(300, 0.0), rejected(60, 0.35));
    println!("level {level}, power {power}");
    assert!(level < 0.09, "{level}");
    assert!(power > 0.8, "{power}");
}

#[test]
fn the_aggregated_test_takes_the_largest_share_that_keeps_its_level() {
    let (n, d, draws, level) = (60, 2, 399, 0.1);
    let kernels = [0.1, 1.0, 10.0].map(|c| SteinKernel::imq(c, -0.5).unwrap());
    for (seed, mean) in [(1, 0.0), (2, 0.0), (3, 0.4)] {
        let x: Vec<f64> = normals::<f64>(n * d, seed, 3).iter().map(|x| mean + x).collect();
        let s: Vec<f64> = x.iter().map(|x| -x).collect();
        let bootstrap = WildBootstrap::new(draws).seed(seed);
        let found =
            ksd_aggregated_test(&kernels, rows(&x, d), rows(&s, d), level, &bootstrap).unwrap();
        let half = draws / 2 + 1;
        // The least of the first draws and the statistic that a share of 1 - u/K of them do not exceed.
        let thresholds = |u: f64| -> Vec<f64> {
            let of_test = |test: &KsdTest| {
                let mut first = test.draws[..half].to_vec();
                first.push(test.squared);
                let enough = (half + 1) as f64 * (1.0 - u / kernels.len() as f64);
                let below = |v: f64| first.iter().filter(|&&w| w <= v).count() as f64;
                first.iter().copied().filter(|&v| below(v) >= enough).fold(f64::INFINITY, f64::min)
            };
            found.tests.iter().map(of_test).collect()
        };
        let rejections = |u: f64| {
            let thresholds = thresholds(u);
            let exceeds =
                |b: usize| found.tests.iter().zip(&thresholds).any(|(test, t)| test.draws[b] > *t);
            (half..draws).filter(|&b| exceeds(b)).count() as f64 / (draws - half) as f64
        };
        assert_eq!(thresholds(found.u), found.thresholds);
        assert!(rejections(found.u) <= level && rejections(found.u + 1e-9) > level, "{found:?}");
        let mut above = found.tests.iter().zip(&found.thresholds);
        assert_eq!(found.rejected, above.any(|(test, &threshold)| test.squared > threshold));
        assert_eq!(found.rejected, mean > 0.0);
    }
}

#[test]
fn the_aggregated_test_is_made_of_the_tests_of_its_kernels() {
    let (n, d) = (150, 3);
    let (x, s) = (normals::<f64>(n * d, 4, 0), normals::<f64>(n * d, 4, 1));
    let (x, s) = (rows(&x, d), rows(&s, d));
    let narrow = SteinKernel::imq(0.5, -0.5).unwrap();
    let kernels = [
        narrow.clone(),
        SteinKernel::rbf(1.0).unwrap(),
        SteinKernel::imq(2.0, -0.3).unwrap(),
        SteinKernel::linear(),
        narrow.clone().plus_linear().unwrap(),
        narrow,
    ];
    let bootstrap = WildBootstrap::new(70).seed(2);
    let test = ksd_aggregated_test(&kernels, x, s, 0.05, &bootstrap).unwrap();
    let single = |kernel| ksd_test(kernel, x, s, Statistic::U, &bootstrap).unwrap();
    assert_eq!(test.tests, kernels.iter().map(single).collect::<Vec<_>>());
}

#[test]
fn thinning_is_greedy() {
    let (n, d) = (260, 2);
    let (mut x, mut s) = (normals::<f64>(n * d, 6, 0), normals::<f64>(n * d, 6, 1));
    // Equal points: the first of them is taken.
    x.copy_within(0..40, 100);
    s.copy_within(0..40, 100);
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let (x, s) = (rows(&x, d), rows(&s, d));
    let gram = Gram::new(&kernel, x, s).unwrap();
    let matrix = gram.matrix().unwrap();
    let log_density: Vec<f64> = normals(n, 6, 2);
    let laplacian: Vec<f64> = normals::<f64>(n, 6, 3).iter().map(|x| x.abs()).collect();
    let regularisation =
        Regularisation { log_density: &log_density, positive_laplacian: &laplacian, weight: None };
    for regularised in [false, true] {
        let thinned = match regularised {
            false => stein_thin(&kernel, x, s, 30).unwrap(),
            true => gram.thin(30, Some(regularisation), &mut |_| {}).unwrap(),
        };
        let mut picked: Vec<usize> = Vec::new();
        for step in 1..=30 {
            let objective = |i: usize| {
                let own = matrix[i * n + i]
                    + 2.0 * picked.iter().map(|&q| matrix[i * n + q]).sum::<f64>();
                let extra = laplacian[i] - step as f64 / 30.0 * log_density[i];
                if regularised { own + extra } else { own }
            };
            let best =
                (0..n).fold(0, |b, i| if objective(i) < objective(b) - 1e-12 { i } else { b });
            picked.push(best);
            let sum: f64 = picked
                .iter()
                .flat_map(|&i| picked.iter().map(move |&j| (i, j)))
                .map(|(i, j)| matrix[i * n + j])
                .sum();
            assert!((thinned.ksd[step - 1] - sum.sqrt() / step as f64).abs() < 1e-12 * sum);
        }
        assert_eq!(thinned.indices, picked);
    }
}

#[test]
fn precision_is_kept_far_from_the_origin_and_between_neighbours() {
    // The same configuration at 0 and at 2^13, in numbers that move without rounding.
    let (n, d) = (40, 5);
    let grid = |seed| -> Vec<f64> {
        normals::<f64>(n * d, seed, 0).iter().map(|x| (x * 1024.0).round() / 1024.0).collect()
    };
    let mut x = grid(1);
    // Neighbours, 2^-30 apart.
    for k in 0..d {
        x[d + k] = x[k] + 0.5_f64.powi(30);
    }
    let s = grid(2);
    let far: Vec<f64> = x.iter().map(|x| x + 8192.0).collect();
    for (name, kernel, _) in
        kernels(d).into_iter().filter(|(name, ..)| !name.contains("lin") && *name != "arc-cosine")
    {
        let [near, far] = [&x, &far]
            .map(|x| Gram::new(&kernel, rows(x, d), rows(&s, d)).unwrap().matrix().unwrap());
        for (near, far) in near.iter().zip(&far) {
            assert!((near - far).abs() <= 1e-13 * (1.0 + near.abs()), "{name}: {near} and {far}");
        }
    }
}

#[test]
fn the_finite_set_discrepancy_is_the_mean_square_of_the_witness_between_points() {
    let (n, d) = (7, 3);
    let mut x: Vec<f64> = normals(n * d, 9, 0);
    let mut y: Vec<f64> = normals(4 * d, 9, 1);
    let s: Vec<f64> = normals(n * d, 9, 2);
    let check = |name: &str, kernel: &SteinKernel, x: &[f64], s: &[f64], y: &[f64]| {
        let gram = Gram::new(kernel, rows(x, d), rows(s, d)).unwrap();
        let test = gram.fssd_test(rows(x, d), rows(s, d), rows(y, d), 10, 0).unwrap();
        // The witness of each point alone.
        let features: Vec<Vec<f64>> = x
            .chunks(d)
            .zip(s.chunks(d))
            .map(|(x, s)| {
                let one = Gram::new(kernel, rows(x, d), rows(s, d)).unwrap();
                one.witness(rows(x, d), rows(s, d), rows(y, d)).unwrap()
            })
            .collect();
        let mut sum = 0.0;
        for i in 0..n {
            for j in (0..n).filter(|&j| j != i) {
                sum += dot(&features[i], &features[j]);
            }
        }
        let expected = sum / (n * (n - 1) * y.len()) as f64;
        let found = test.squared;
        assert!(
            (found - expected).abs() < 1e-12 * (1.0 + expected.abs()),
            "{name}: {found}, {expected}"
        );
    };
    for (name, kernel, _) in kernels(d) {
        match name {
            "metric" | "arc-cosine" => {
                let gram = Gram::new(&kernel, rows(&x, d), rows(&s, d)).unwrap();
                assert!(gram.fssd_test(rows(&x, d), rows(&s, d), rows(&y, d), 10, 0).is_err());
            }
            _ => check(name, &kernel, &x, &s, &y),
        }
    }
    normalised(&mut x, d);
    normalised(&mut y, d);
    let s = tangential(&x, d, 9);
    for (name, kernel, _) in kernels_on_the_sphere() {
        check(name, &kernel, &x, &s, &y);
    }
}

#[test]
fn the_finite_set_test_holds_its_level_and_has_power() {
    let (n, d, sets) = (400, 2, 400);
    let kernel = SteinKernel::rbf(1.5).unwrap();
    let y: Vec<f64> = normals(5 * d, 0, 4);
    let p_values = |mean: f64| -> Vec<f64> {
        (0..sets)
            .map(|set| {
                let x: Vec<f64> = normals::<f64>(n * d, set, 5).iter().map(|x| mean + x).collect();
                let s: Vec<f64> = x.iter().map(|x| -x).collect();
                let gram = Gram::new(&kernel, rows(&x, d), rows(&s, d)).unwrap();
                let test = gram.fssd_test(rows(&x, d), rows(&s, d), rows(&y, d), 299, set);
                test.unwrap().p_value
            })
            .collect()
    };
    let null = p_values(0.0);
    let (level, power) = (share_below(&null, 0.05), share_below(&p_values(0.15), 0.05));
    let uniform = kolmogorov_smirnov(null);
    println!("level {level}, power {power}, Kolmogorov-Smirnov {uniform}");
    assert!((level - 0.05).abs() < 0.03 && uniform > 1e-3, "{level}, {uniform}");
    assert!(power > 0.8, "{power}");
}

#[test]
fn points_in_parts_have_the_discrepancy_of_all() {
    let (n, d) = (700, 3);
    let mut x: Vec<f64> = normals(n * d, 11, 0);
    let starts = [0, 1, 140, 396, 700];
    let check = |kernel: &SteinKernel, x: &[f64], s: &[f64]| {
        for statistic in [Statistic::V, Statistic::U] {
            let part = |k: usize| {
                let range = starts[k] * d..starts[k + 1] * d;
                Ok((x[range.clone()].to_vec(), s[range].to_vec()))
            };
            let mut shares = Vec::new();
            let found =
                ksd_in_parts(kernel, 4, part, d, statistic, &mut |share| shares.push(share));
            let (found, whole) =
                (found.unwrap(), ksd(kernel, rows(x, d), rows(s, d), statistic).unwrap());
            let close = |a: f64, b: f64| (a - b).abs() < 1e-12 * (1.0 + b.abs());
            assert!(close(found.squared, whole.squared), "{found:?}, {whole:?}");
            assert!(close(found.std_error.unwrap(), whole.std_error.unwrap()));
            assert!(shares.is_sorted() && shares.last() == Some(&1.0), "{shares:?}");
        }
    };
    let s: Vec<f64> = normals(n * d, 11, 1);
    check(&SteinKernel::imq(1.0, -0.5).unwrap().plus_linear().unwrap(), &x, &s);
    normalised(&mut x, d);
    check(&SteinKernel::rbf(1.0).unwrap().on_sphere(), &x, &tangential(&x, d, 11));
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let nothing = |kernel: &SteinKernel, parts| {
        let load = |_| Ok((vec![1.0, 2.0], vec![0.0; 2]));
        ksd_in_parts::<f64>(kernel, parts, load, 2, Statistic::U, &mut |_| {})
    };
    assert!(nothing(&kernel, 0).is_err() && nothing(&kernel, 1).is_err());
    let metric = kernel.clone().with_metric(rows(&[1.0, 0.0, 0.0, 1.0], 2)).unwrap();
    assert!(nothing(&metric, 2).is_err());
    let uneven = ksd_in_parts::<f64>(
        &kernel,
        2,
        |k| Ok((vec![1.0; 2 + k], vec![0.0; 2 + k])),
        2,
        Statistic::V,
        &mut |_| {},
    );
    assert!(uneven.is_err());
    // A file that is written to in between: the first part is another, or longer, when it is asked for again.
    for (value, len) in [(3.0, 4), (1.0, 6)] {
        let mut asked = 0;
        let changing = |k: usize| {
            asked += usize::from(k == 0);
            let changed = k == 0 && asked > 1;
            let (value, len) = if changed { (value, len) } else { (1.0, 4) };
            Ok((vec![value; len], vec![0.0; len]))
        };
        let found =
            ksd_in_parts::<f64>(&kernel, 2, changing, 2, Statistic::V, &mut |_| {}).unwrap_err();
        assert!(found.to_string().contains("another part 0"), "{found}");
    }
}

/// Where the values are so large or so small that their squares are no numbers.
#[test]
fn spreads_are_told_at_any_scale() {
    let (n, d) = (60, 2);
    let x: Vec<f64> = normals(n * d, 12, 0);
    let kernel = SteinKernel::rbf(1e120).unwrap();
    let found = |scale: f64| {
        let s: Vec<f64> = x.iter().map(|x| scale * (0.4 - x)).collect();
        let blocks = ksd_blocks(&kernel, rows(&x, d), rows(&s, d), 6).unwrap();
        let all = ksd(&kernel, rows(&x, d), rows(&s, d), Statistic::U).unwrap();
        let relative = all.std_error.unwrap() / all.squared;
        [blocks.p_value, blocks.std_error / blocks.squared, relative]
    };
    let usual = found(1.0);
    assert!(usual[0] > 1e-4 && usual[0] < 0.5, "{usual:?}");
    for scale in [1e-100, 1e100] {
        for (found, usual) in found(scale).into_iter().zip(usual) {
            assert!((found / usual - 1.0).abs() < 1e-9, "{scale}: {found} against {usual}");
        }
    }
}

/// Pairs of different points are far below the values of points with themselves, and decide.
#[test]
fn the_diagonal_hides_no_test() {
    let bootstrap = WildBootstrap::new(999).seed(1);
    let kernel = SteinKernel::rbf(1.0).unwrap();
    for spacing in [1.0f32, 6.0] {
        let x: Vec<f32> = (0..40).map(|i| spacing * i as f32).collect();
        let (x, s) = (rows(&x, 1), [20.0f32; 40]);
        let s = rows(&s, 1);
        for statistic in [Statistic::U, Statistic::V] {
            let test = ksd_test(&kernel, x, s, statistic, &bootstrap).unwrap();
            // No draw has all neighbours on one side.
            assert_eq!(test.p_value, 0.001, "{spacing}: {test:?}");
            let ksd = ksd(&kernel, x, s, statistic).unwrap().squared;
            assert!((test.squared / ksd - 1.0).abs() < 1e-5, "{} {ksd}", test.squared);
        }
        let level = 0.05;
        let kernels = std::slice::from_ref(&kernel);
        assert!(ksd_aggregated_test(kernels, x, s, level, &bootstrap).unwrap().rejected);
    }
}

/// Data in units that are far from theirs: values are right to the last digits, or refused.
#[test]
fn derivatives_of_kernels_do_not_underflow() {
    let (n, d) = (60, 2);
    let points: Vec<f64> = normals(n * d, 1, 2);
    let (mut told, mut refused) = (0, 0);
    for power in (-120..=120).step_by(6) {
        let unit = 2f64.powi(power);
        for exponent in [None, Some(-0.5), Some(-1.5), Some(-2.5)] {
            let kernel = |h| match exponent {
                None => SteinKernel::rbf(h),
                Some(exponent) => SteinKernel::imq(h, exponent),
            };
            let expected = {
                let s: Vec<f64> = points.iter().map(|x| -1.5 * x).collect();
                ksd(&kernel(1.5).unwrap(), rows(&points, d), rows(&s, d), Statistic::V).unwrap()
            };
            let x: Vec<f32> = points.iter().map(|x| (unit * x) as f32).collect();
            let s: Vec<f32> = points.iter().map(|x| (-1.5 * x / unit) as f32).collect();
            let Ok(kernel) = kernel(1.5 * unit) else { continue };
            match ksd(&kernel, rows(&x, d), rows(&s, d), Statistic::V) {
                Ok(got) => {
                    // Values of imq have the unit of h to twice its exponent, and u that of scores twice.
                    let of_kernel = exponent.map_or(0.0, |exponent| 2.0 * exponent);
                    let got = got.squared * unit.powf(2.0 - of_kernel);
                    assert!(
                        (got / expected.squared - 1.0).abs() < 1e-4,
                        "{power} {exponent:?}: {got}"
                    );
                    told += 1;
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("bandwidth") || error.contains("too large"), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(told > 40 && refused > 40, "{told} {refused}");
}

/// Points of f32 in a metric in which rounding moves them by more than a bandwidth: kernels of them would not be positive.
#[test]
fn a_metric_beyond_the_digits_of_points_is_refused() {
    // Pairs that differ across the direction in which the metric is large.
    let x: Vec<f32> = (0..60).flat_map(|k| [(k / 2) as f32 * 0.1, (k % 2) as f32 * 0.5]).collect();
    let s: Vec<f32> = x.iter().map(|x| -x).collect();
    let ksd_of = |large: f64| {
        // The factor of the metric is [1 0; 0.7 1/large]ᵀ, large times over.
        let metric = [large * large, 0.7 * large, 0.7 * large, 1.49];
        let kernel = SteinKernel::rbf(1.0).unwrap().with_metric(rows(&metric, 2)).unwrap();
        ksd(&kernel, rows(&x, 2), rows(&s, 2), Statistic::V).map(|ksd| ksd.squared)
    };
    assert!(ksd_of(1e3).unwrap() > 0.0);
    for large in [1e4, 1e6, 1e8] {
        let error = ksd_of(large).unwrap_err().to_string();
        assert!(error.contains("metric") && error.contains("digits"), "{error}");
    }
    let wide = |x: &[f32]| x.iter().map(|&x| x.into()).collect::<Vec<f64>>();
    let metric = SteinKernel::rbf(1.0).unwrap().with_metric(rows(&[1e12, 0.0, 0.0, 1.0], 2));
    assert!(ksd(&metric.unwrap(), rows(&wide(&x), 2), rows(&wide(&s), 2), Statistic::V).is_ok());
}

/// Of points that were normalised in single precision, where gradients are all but radial.
#[test]
fn a_models_own_scores_are_not_doubted() {
    let theta = [1000.0, 0.0];
    let model = ReluEnergy::new(rows(&theta, 2), &[1.0]).unwrap();
    let model = model.with_domain(Domain::Sphere).unwrap();
    let mut x: Vec<f64> = Vec::new();
    for k in 1..40 {
        let angle = 1e-4 * f64::from(k);
        x.extend([angle.cos(), angle.sin()].map(|x| f64::from(x as f32)));
    }
    let (x, kernel) = (rows(&x, 2), SteinKernel::rbf(1.0).unwrap().on_sphere());
    let mut score = vec![0.0; 78];
    model.score(x, RowsMut::new(&mut score, 39, 2).unwrap()).unwrap();
    let given = Gram::new(&kernel, x, rows(&score, 2)).map(drop);
    assert!(matches!(given, Err(Error::NotTangential { .. })), "{given:?}");
    let own = Gram::of_energy(&kernel, &model, x).unwrap();
    assert!(own.ksd(Statistic::V, &mut |_| {}).unwrap().squared > 0.0);
}

#[test]
fn bad_input_is_an_error() {
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let (x, s) = (vec![1.0, 2.0, 3.0, 4.0], vec![0.0; 4]);
    let refused = |x: &[f64], s: &[f64], d: usize| {
        ksd(&kernel, rows(x, d), rows(s, d), Statistic::V).unwrap_err().to_string()
    };
    assert!(refused(&x, &s[..2], 2).contains("2 x 2"));
    assert!(refused(&[], &[], 2).contains("zero"));
    assert!(refused(&[f64::NAN, 0.0], &s[..2], 2).contains("points"));
    assert!(refused(&x[..2], &[0.0, f64::INFINITY], 2).contains("scores"));
    assert!(refused(&[1e200, 0.0, -1e200, 0.0], &s, 2).contains("too large"));
    for (c, b) in
        [(0.0, -0.5), (-1.0, -0.5), (f64::NAN, -0.5), (1.0, 0.0), (1.0, f64::NAN), (1e-300, -0.5)]
    {
        assert!(SteinKernel::imq(c, b).is_err(), "{c}, {b}");
    }
    assert!(SteinKernel::rbf(0.0).is_err() && SteinKernel::rbf(f64::INFINITY).is_err());
    // What fits f64 need not fit f32.
    let small = SteinKernel::imq(1e-30, -0.5).unwrap();
    let points = [1.0_f32, 2.0];
    assert!(ksd(&small, rows(&points, 1), rows(&points, 1), Statistic::V).is_err());
    let on_sphere = kernel.clone().on_sphere();
    let error = ksd(&on_sphere, rows(&x, 2), rows(&s, 2), Statistic::V).unwrap_err();
    assert!(matches!(error, Error::OffSphere { .. }), "{error}");
    assert_eq!(on_sphere.domain(), Domain::Sphere);
    let (at, along) = ([1.0, 0.0], [0.1, 1.0]);
    let error = ksd(&on_sphere, rows(&at, 2), rows(&along, 2), Statistic::V).unwrap_err();
    assert!(matches!(error, Error::NotTangential { row: 0, .. }), "{error}");
    // Relative to the score.
    for (radial, accepted) in [(10.0, true), (1e4, false)] {
        let long = [radial, 1e9];
        let value = ksd(&on_sphere, rows(&at, 2), rows(&long, 2), Statistic::V);
        assert_eq!(value.is_ok(), accepted, "{value:?}");
    }
    for metric in [[1.0, 0.0, 0.0, -1.0], [f64::NAN, 0.0, 0.0, 1.0], [1.0, 0.5, 0.0, 1.0]] {
        let kernel = kernel.clone().with_metric(rows(&metric, 2));
        let failed = kernel.and_then(|kernel| ksd(&kernel, rows(&x, 2), rows(&s, 2), Statistic::V));
        assert!(failed.is_err(), "{metric:?}");
    }
    let identity = [1.0, 0.0, 0.0, 1.0];
    assert!(kernel.clone().with_metric(rows(&identity[..2], 2)).is_err());
    assert!(kernel.clone().on_sphere().with_metric(rows(&identity, 2)).is_err());
    // In whichever order it is said.
    let metric = kernel.clone().with_metric(rows(&identity, 2)).unwrap();
    let (at, along) = ([1.0, 0.0], [0.0, 1.0]);
    for kernel in [metric.clone().on_sphere(), metric.plus_linear().unwrap()] {
        assert!(ksd(&kernel, rows(&at, 2), rows(&along, 2), Statistic::V).is_err());
    }
    let few = ksd_aggregated_test(
        std::slice::from_ref(&kernel),
        rows(&x, 2),
        rows(&s, 2),
        0.05,
        &WildBootstrap::new(1),
    );
    assert!(few.is_err());
    for bootstrap in [
        WildBootstrap::new(usize::MAX),
        WildBootstrap::new(0),
        WildBootstrap::new(9).correlated(0.0),
        WildBootstrap::new(9).correlated(0.6),
    ] {
        assert!(ksd_test(&kernel, rows(&x, 2), rows(&s, 2), Statistic::V, &bootstrap).is_err());
    }
    assert!(stein_thin(&kernel, rows(&x, 2), rows(&s, 2), 0).is_err());
    let gram = Gram::new(&kernel, rows(&x, 2), rows(&s, 2)).unwrap();
    let log_density = &[0.0, 0.0];
    for (positive_laplacian, weight) in [
        (&[0.0, -1.0], None),
        (&[0.0, 1.0], Some(-0.5)),
        (&[0.0, 1.0], Some(f64::NAN)),
        (&[0.0, 1.0], Some(f64::INFINITY)),
    ] {
        let by = Regularisation { log_density, positive_laplacian, weight };
        assert!(gram.thin(1, Some(by), &mut |_| {}).is_err(), "{by:?}");
    }
    assert!(
        ksd_aggregated_test::<f64>(&[], rows(&x, 2), rows(&s, 2), 0.05, &WildBootstrap::new(9))
            .is_err()
    );
    // Bandwidths.
    assert_eq!(median_distance(rows(&[0.0, 1.0, 3.0], 1)).unwrap(), 2.0);
    assert_eq!(median_distance(rows(&[0.0, 1.0, 3.0, 7.0], 1)).unwrap(), 3.5);
    assert!(median_distance(rows(&[1.0, 1.0, 1.0], 1)).unwrap_err().to_string().contains("median"));
    assert!(median_distance(rows(&[1.0], 1)).is_err());
    // Of nothing there may be as many as there are numbers.
    assert!(median_distance(Rows::<f64>::new(&[], usize::MAX, 0).unwrap()).is_err());
    let bootstrap = WildBootstrap::new(9);
    assert!(
        ksd_test(&kernel, rows(&x[..2], 2), rows(&s[..2], 2), Statistic::V, &bootstrap).is_err()
    );
    // One point.
    let one = ksd(&kernel, rows(&x[..2], 2), rows(&s[..2], 2), Statistic::V).unwrap();
    assert_eq!((one.squared, one.std_error), (2.0, None));
    assert_eq!(
        stein_thin(&kernel, rows(&x[..2], 2), rows(&s[..2], 2), 3).unwrap().indices,
        [0, 0, 0]
    );
}

/// Found by fuzzing: (c²)^b is beyond any number here, and the witness function was NaN.
#[test]
fn a_witness_that_overflows_is_an_error() {
    let zeros = [0.0; 4];
    let x = rows(&zeros, 2);
    let gram = Gram::new(&SteinKernel::imq(1e-100, -8.0).unwrap(), x, x).unwrap();
    for result in [gram.witness(x, x, x), gram.score_gradient(x, x, Statistic::V)] {
        assert!(result.unwrap_err().to_string().starts_with("witness function must be finite"));
    }
}

#[test]
fn the_witness_is_the_gradient_by_scores() {
    let (n, d) = (23, 3);
    let x: Vec<f64> = normals(n * d, 8, 0);
    let check = |name: &str, kernel: &SteinKernel, x: &[f64], s: &[f64]| {
        for statistic in [Statistic::V, Statistic::U] {
            let squared =
                |s: &[f64]| ksd(kernel, rows(x, d), rows(s, d), statistic).unwrap().squared;
            let gram = Gram::new(kernel, rows(x, d), rows(s, d)).unwrap();
            let gradient = gram.score_gradient(rows(x, d), rows(s, d), statistic).unwrap();
            for j in 0..n {
                // Along a direction that stays tangential.
                let mut along: Vec<f64> = normals(d, 8, 100 + j as u64);
                if kernel.domain() == Domain::Sphere {
                    let normal = dot(&along, &x[j * d..][..d]);
                    along.iter_mut().zip(&x[j * d..]).for_each(|(a, x)| *a -= normal * x);
                }
                let moved = |by: f64| {
                    let mut s = s.to_vec();
                    s[j * d..][..d].iter_mut().zip(&along).for_each(|(s, a)| *s += by * a);
                    squared(&s)
                };
                // KSD² is quadratic in the scores, so differences are exact.
                let expected = 0.5 * (moved(1.0) - moved(-1.0));
                let found = dot(&gradient[j * d..][..d], &along);
                assert!(
                    (found - expected).abs() < 1e-10 * (1.0 + expected.abs()),
                    "{name}, {j}: {found}, {expected}"
                );
            }
        }
    };
    // Far from the origin as well.
    let s: Vec<f64> = normals(n * d, 8, 1);
    let far: Vec<f64> = x.iter().map(|x| x + 1e3).collect();
    for (name, kernel, _) in kernels(d) {
        if name == "metric" || name == "arc-cosine" {
            let gram = Gram::new(&kernel, rows(&x, d), rows(&s, d)).unwrap();
            assert!(gram.witness(rows(&x, d), rows(&s, d), rows(&x, d)).is_err(), "{name}");
            continue;
        }
        check(name, &kernel, &x, &s);
        if !name.contains("linear") {
            check(name, &kernel, &far, &s);
        }
    }
    let mut x = x;
    normalised(&mut x, d);
    let s = tangential(&x, d, 8);
    for (name, kernel, _) in kernels_on_the_sphere() {
        check(name, &kernel, &x, &s);
    }
}

/// N(1, 4 I).
struct Wide(usize);

impl Energy<f64> for Wide {
    fn dim(&self) -> usize {
        self.0
    }
    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        _: Option<&mut [f64]>,
        score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        if let Some(mut score) = score {
            for (i, x) in x.iter().enumerate() {
                score.row_mut(i).iter_mut().zip(x).for_each(|(s, x)| *s = (1.0 - x) / 4.0);
            }
        }
        Ok(())
    }
}

#[test]
fn svgd_moves_points_to_the_density() {
    let (n, d) = (150, 2);
    let mut x: Vec<f64> = normals::<f64>(n * d, 9, 0).iter().map(|x| 0.1 * x - 3.0).collect();
    Svgd::new(0.1).run(&Wide(d), RowsMut::new(&mut x, n, d).unwrap(), 600).unwrap();
    for k in 0..d {
        let column = || x.iter().skip(k).step_by(d);
        let mean = column().sum::<f64>() / n as f64;
        let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        println!("mean {mean}, variance {variance}");
        assert!((mean - 1.0).abs() < 0.1 && (variance - 4.0).abs() < 0.6, "{mean}, {variance}");
    }
    // The same scores by way of the energy.
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let gram = Gram::of_energy(&kernel, &Wide(d), rows(&x, d)).unwrap();
    let s: Vec<f64> = x.iter().map(|x| (1.0 - x) / 4.0).collect();
    let squared = ksd(&kernel, rows(&x, d), rows(&s, d), Statistic::V).unwrap().squared;
    assert_eq!(gram.ksd(Statistic::V, &mut |_| {}).unwrap().squared, squared);
    assert!(Gram::of_energy(&kernel.on_sphere(), &Wide(d), rows(&x, d)).is_err());
    // Without neighbours, a step goes along the score.
    let (x, s) = ([0.0, 0.0, 1e3, 0.0], [1.0, 2.0, 3.0, 4.0]);
    let direction = Svgd::new(1.0).bandwidth(1.0).direction(rows(&x, 2), rows(&s, 2)).unwrap();
    assert_eq!(direction, [0.5, 1.0, 1.5, 2.0]);
    let mut sphere = [1.0, 0.0];
    assert!(Svgd::new(0.0).run(&Wide(2), RowsMut::new(&mut sphere, 1, 2).unwrap(), 1).is_err());
    assert!(Svgd::new(0.1).run(&Wide(3), RowsMut::new(&mut sphere, 1, 2).unwrap(), 1).is_err());
}

#[test]
fn weights_and_control_functionals_mend_a_sample() {
    // A sample of N(0.5, 1) weighed for N(0, 1).
    let n = 120;
    let x: Vec<f64> = normals::<f64>(n, 10, 0).iter().map(|x| x + 0.5).collect();
    let s: Vec<f64> = x.iter().map(|x| -x).collect();
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let gram = Gram::new(&kernel, rows(&x, 1), rows(&s, 1)).unwrap();
    let plain = ksd(&kernel, rows(&x, 1), rows(&s, 1), Statistic::V).unwrap().squared.sqrt();
    let found = gram.stein_weights(1e-4).unwrap();
    let matrix = gram.matrix().unwrap();
    let weighted: f64 =
        (0..n * n).map(|i| found.weights[i / n] * found.weights[i % n] * matrix[i]).sum();
    assert!((found.ksd - weighted.sqrt()).abs() < 1e-12);
    assert!(found.weights.iter().all(|&w| w >= 0.0));
    assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(found.gap <= 1e-4 * plain * plain && found.ksd < 0.2 * plain, "{found:?}");
    // No exchange of weight between two points gains anything worth having.
    let slope = |i: usize| (0..n).map(|j| matrix[i * n + j] * found.weights[j]).sum::<f64>();
    let least = (0..n).map(slope).fold(f64::INFINITY, f64::min);
    for i in (0..n).filter(|&i| found.weights[i] > 1e-3) {
        assert!(slope(i) - least < 1e-2 * plain * plain, "{i}");
    }
    let mean =
        |f: &dyn Fn(f64) -> f64| x.iter().zip(&found.weights).map(|(&x, w)| w * f(x)).sum::<f64>();
    let first = mean(&|x| x);
    assert!(first.abs() < 0.05, "{first}");
    for (f, expected) in
        [((|x| x) as fn(f64) -> f64, 0.0), (|x| x * x, 1.0), (|x| x.cos(), 0.606_53)]
    {
        let values: Vec<f64> = x.iter().map(|&x| f(x)).collect();
        let mean = gram.control_functional(&values, 1e-10).unwrap();
        assert!((mean - expected).abs() < 0.02, "{mean} for {expected}");
    }
    assert!(gram.control_functional(&x[1..], 0.0).is_err());
    assert!(gram.stein_weights(0.0).is_err());
    // Equal points have no unique weights, and no inverse without jitter.
    let gram = Gram::new(&kernel, rows(&[1.0, 1.0], 1), rows(&[-1.0, -1.0], 1)).unwrap();
    assert_eq!(gram.stein_weights(1e-6).unwrap().weights, [0.5, 0.5]);
    assert!(gram.control_functional(&[1.0, 2.0], 0.0).is_err());
}

#[test]
fn thinning_picks_what_the_reference_implementation_picks() {
    // Indices by the Python package stein_thinning 0.2.0 (standardize=False), whose kernel is (1 + rᵀΛr)^-½; some points come
    // twice, so that the first of equals has to be taken.
    let n = 80;
    let grid = |x: f64| (x * 1024.0).round() / 1024.0;
    let mut x: Vec<f64> = (0..n)
        .flat_map(|i| {
            let i = f64::from(i);
            let second = 2.0 * (0.9 * i).cos() + (5.3 * i).sin();
            [3.0 * (1.7 * i).sin() + 0.1 * (31.0 * i).cos(), second].map(grid)
        })
        .collect();
    x.copy_within(6..16, 120);
    let s: Vec<f64> = x
        .chunks(2)
        .flat_map(|x| [-(x[0] - 0.5) / 2.0, -x[1] * 1.25 + 0.5 * x[0]].map(grid))
        .collect();
    let (x, s) = (rows(&x, 2), rows(&s, 2));
    let median = median_distance(x).unwrap();
    assert!((1.0 / (median * median) - 0.090_174_391_171_784_58).abs() < 1e-14);
    let scaled = median / f64::from(n).ln().sqrt();
    let covariance: [f64; 3] =
        [4.501_055_004_626_892, 0.085_101_707_675_789_09, 2.390_560_946_283_461];
    let determinant = covariance[0] * covariance[2] - covariance[1] * covariance[1];
    let precision =
        [covariance[2], -covariance[1], -covariance[1], covariance[0]].map(|c| c / determinant);
    let imq = |c| SteinKernel::imq(c, -0.5).unwrap();
    for (kernel, expected) in [
        (
            imq(1.0),
            [
                15, 37, 11, 57, 26, 22, 30, 17, 75, 44, 37, 4, 35, 41, 2, 15, 13, 24, 78, 42, 37,
                32, 26, 41, 44,
            ],
        ),
        (
            imq(median),
            [
                15, 37, 11, 41, 37, 11, 57, 78, 44, 26, 57, 17, 75, 13, 9, 13, 24, 41, 37, 11, 41,
                37, 78, 44, 41,
            ],
        ),
        (
            imq(scaled),
            [
                15, 37, 11, 57, 78, 44, 26, 13, 75, 33, 37, 41, 26, 35, 11, 15, 37, 4, 22, 41, 18,
                42, 19, 11, 37,
            ],
        ),
        (
            imq(1.0).with_metric(rows(&precision, 2)).unwrap(),
            [
                15, 11, 13, 78, 57, 11, 37, 26, 44, 41, 75, 37, 65, 35, 4, 37, 15, 44, 26, 42, 15,
                17, 41, 19, 13,
            ],
        ),
    ] {
        assert_eq!(stein_thin(&kernel, x, s, 25).unwrap().indices, expected);
    }
}

#[test]
fn blocks_give_the_mean_of_their_statistics() {
    let (n, d) = (1_001, 2);
    let kernel = SteinKernel::imq(1.0, -0.5).unwrap();
    let x: Vec<f64> = normals(n * d, 11, 0);
    for size in [2, 10, 150] {
        for (shift, least, largest) in [(0.0, 1e-4, 1.0), (0.6, 0.0, 0.05)] {
            let s: Vec<f64> = x.iter().map(|x| shift - x).collect();
            let found = ksd_blocks(&kernel, rows(&x, d), rows(&s, d), size).unwrap();
            assert_eq!(found.blocks, n / size);
            let values: Vec<f64> = x
                .chunks_exact(size * d)
                .zip(s.chunks_exact(size * d))
                .map(|(x, s)| ksd(&kernel, rows(x, d), rows(s, d), Statistic::U).unwrap().squared)
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            assert!((found.squared - mean).abs() < 1e-12, "{found:?}, {mean}");
            assert!(found.p_value > least && found.p_value < largest, "{size}, {shift}: {found:?}");
        }
    }
    let s = x.clone();
    assert!(ksd_blocks(&kernel, rows(&x, d), rows(&s, d), 1).is_err());
    assert!(ksd_blocks(&kernel, rows(&x, d), rows(&s, d), 600).is_err());
}

#[test]
fn what_overflows_on_the_way_is_an_error() {
    // Squares of distances are beyond the type, and products with them none.
    let x = [0.0, 3e19_f32, -3e19];
    let gram = Gram::new(&SteinKernel::imq(1.0, -0.5).unwrap(), rows(&x, 1), rows(&x, 1)).unwrap();
    assert!(gram.ksd_trace(&mut |_| {}).is_err());
    assert!(gram.ksd(Statistic::V, &mut |_| {}).is_err());
    let (x, s) = ([0.6, 0.8_f32, -0.8, 0.6], [2e38, -1.5e38, 3e38, 4e38]);
    let s: [f32; 4] = s.map(|s: f64| s as f32);
    assert!(F1Discrepancy::new(0).squared(rows(&x, 2), rows(&s, 2)).is_err());
}

/// Found by fuzzing: draws were infinite, and p-values made of them.
#[test]
fn draws_of_the_finite_set_test_are_finite_or_none() {
    let (x, mut s): (Vec<f64>, Vec<f64>) = (normals(20, 1, 0), normals(20, 1, 1));
    let test = |s: &[f64]| {
        let gram = Gram::new(&SteinKernel::rbf(1.0).unwrap(), rows(&x, 1), rows(s, 1)).unwrap();
        gram.fssd_test(rows(&x, 1), rows(s, 1), rows(&x[..1], 1), 50, 0)
    };
    assert!(test(&s).is_ok());
    // Its square is a number, few multiples of it are.
    s[0] = 1.2e154;
    assert!(test(&s).is_err());
}

#[test]
fn a_direction_of_subnormal_precision_is_an_error() {
    let kernel = SteinKernel::arc_cosine();
    let matrix = |x: &[f32]| Gram::new(&kernel, rows(x, 1), rows(x, 1)).map(drop);
    assert!(matrix(&[1.0, 1e-15]).is_ok());
    assert!(matrix(&[1.0, 3e-23]).is_err() && matrix(&[1.0, 1e-21]).is_err());
}

#[test]
fn two_points_are_no_sphere() {
    let (x, s) = ([1.0, -1.0], [0.0, 0.0]);
    let kernel = SteinKernel::rbf(1.0).unwrap().on_sphere();
    assert!(Gram::new(&kernel, rows(&x, 1), rows(&s, 1)).is_err());
    assert!(F1Discrepancy::new(0).squared(rows(&x, 1), rows(&s, 1)).is_err());
}

#[test]
fn a_witness_wants_the_points_of_the_matrix() {
    let (x, s): (Vec<f64>, Vec<f64>) = (normals(20, 1, 0), normals(20, 1, 1));
    let gram = Gram::new(&SteinKernel::imq(1.0, -0.5).unwrap(), rows(&x, 2), rows(&s, 2)).unwrap();
    assert!(gram.witness(rows(&x, 2), rows(&s, 2), rows(&x, 2)).is_ok());
    let mut other = x.clone();
    other.swap(0, 2);
    for (x, s) in [(&other, &s), (&x, &other), (&s, &x)] {
        let (x, s) = (rows(x, 2), rows(s, 2));
        assert!(gram.witness(x, s, x).is_err());
        assert!(gram.score_gradient(x, s, Statistic::V).is_err());
        assert!(gram.fssd_test(x, s, x, 10, 0).is_err());
    }
}

/// With one place and a linear kernel in one dimension, the features are s_i (1 + x_i y) + y, and the estimate
/// has the variance 2σ⁴/(n (n-1)), σ² theirs.
#[test]
fn draws_of_the_finite_set_test_have_the_variance_of_its_estimate() {
    let (n, y) = (5, 0.7);
    let (x, s): (Vec<f64>, Vec<f64>) = (normals(n, 2, 0), normals(n, 2, 1));
    let gram = Gram::new(&SteinKernel::linear(), rows(&x, 1), rows(&s, 1)).unwrap();
    let test = gram.fssd_test(rows(&x, 1), rows(&s, 1), rows(&[y], 1), 20_000, 0).unwrap();
    let features: Vec<f64> = x.iter().zip(&s).map(|(x, s)| s * (1.0 + x * y) + y).collect();
    let variance = |values: &[f64]| {
        let (sum, count) = (values.iter().sum::<f64>(), values.len() as f64);
        values.iter().map(|v| (v - sum / count).powi(2)).sum::<f64>() / (count - 1.0)
    };
    let want = 2.0 * variance(&features).powi(2) / (n * (n - 1)) as f64;
    let share = variance(&test.draws) / want;
    assert!((share - 1.0).abs() < 0.15, "{share}");
}

#[test]
fn a_bandwidth_out_of_range_is_named_as_it_was_given() {
    let kernel = SteinKernel::imq(1e-30, -0.5).unwrap();
    let error = Gram::new(&kernel, rows(&[1.0_f32], 1), rows(&[1.0], 1)).unwrap_err().to_string();
    assert!(error.contains("1e-30"), "{error}");
}
