//! Stein discrepancies, tests, thinning and weights with any kernel, options and points: no panic;
//! matrices are symmetric, V-statistics not negative, p-values and weights what they should be.
#![no_main]

use gibbsite::{
    ReluEnergy, Rows, RowsMut,
    stein::{
        F1Discrepancy, Gram, Regularisation, Statistic, SteinKernel, Svgd, WildBootstrap,
        ksd_aggregated_test, ksd_blocks, ksd_in_parts, median_distance,
    },
};
use gibbsite_fuzz::{Amount, Class, Float, Numbers, Size, accepted, finite, normalise, same};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Base {
    Imq(Amount, Amount),
    Rbf(Amount),
    Linear,
    ArcCosine,
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    double: bool,
    base: Base,
    plus_linear: bool,
    sphere: bool,
    metric: Option<Class>,
    n: u8,
    d: u8,
    points: Class,
    scores: Class,
    unbiased: bool,
    draws: Size,
    seed: u64,
    flip: Option<Amount>,
    level: Amount,
    count: u8,
    regularised: Option<(Class, Option<Amount>)>,
    tolerance: Amount,
    jitter: Amount,
    block: u8,
    first: Size,
    numbers: &'a [u8],
}

fn kernel(input: &Input<'_>, numbers: &mut Numbers<'_>, d: usize) -> Option<SteinKernel> {
    let mut kernel = match input.base {
        Base::Imq(c, exponent) => accepted(SteinKernel::imq(c.value(), -exponent.value()))?,
        Base::Rbf(h) => accepted(SteinKernel::rbf(h.value()))?,
        Base::Linear => SteinKernel::linear(),
        Base::ArcCosine => SteinKernel::arc_cosine(),
    };
    if input.plus_linear {
        kernel = accepted(kernel.plus_linear())?;
    }
    if input.sphere {
        kernel = kernel.on_sphere();
    }
    if let Some(class) = input.metric {
        // A Aᵀ + I, if the numbers allow.
        let a = numbers.array::<f64>(class, d * d);
        let entry = |k: usize| {
            let (i, j) = (k / d, k % d);
            let sum: f64 = (0..d).map(|l| a[i * d + l] * a[j * d + l]).sum();
            sum + if i == j { 1.0 } else { 0.0 }
        };
        let metric: Vec<f64> = (0..d * d).map(entry).collect();
        kernel = accepted(kernel.with_metric(Rows::new(&metric, d, d).expect("square")))?;
    }
    Some(kernel)
}

fn check<T: Float>(input: &Input<'_>) {
    let mut numbers = Numbers::new(input.numbers);
    let d = usize::from(input.d % 7) + 1;
    let n = usize::from(input.n % 150);
    let mut x = numbers.array::<T>(input.points, n * d);
    let mut score = numbers.array::<T>(input.scores, n * d);
    if input.sphere {
        normalise(&mut x, d);
        // Tangential to first order, and once more for what was large.
        for _ in 0..2 {
            for (s, x) in score.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                let radial: f64 = s.iter().zip(x).map(|(s, x)| s.to_f64() * x.to_f64()).sum();
                s.iter_mut().zip(x).for_each(|(s, x)| {
                    *s = T::from_f64(s.to_f64() - radial * x.to_f64());
                });
            }
        }
    }
    let rows = |data| Rows::new(data, n, d).expect("sized for it");
    let (x, score) = (rows(&x), rows(&score));
    let median = accepted(median_distance(x));
    assert!(median.is_none_or(|median| median > 0.0 && median.is_finite()));
    if n < 24 {
        let f1 = accepted(F1Discrepancy::new(input.seed).squared(x, score));
        assert!(f1.is_none_or(|squared| squared >= 0.0 && squared.is_finite()), "{f1:?}");
    }
    let Some(kernel) = kernel(input, &mut numbers, d) else { return };
    let Some(gram) = accepted(Gram::new(&kernel, x, score)) else { return };

    let matrix = accepted(gram.matrix()).expect("memory for a small matrix");
    let transposed: Vec<T> = (0..n * n).map(|k| matrix[k % n * n + k / n]).collect();
    assert!(same(&matrix, &transposed), "not symmetric");
    let diagonal: Vec<T> = (0..n).map(|i| matrix[i * n + i]).collect();
    assert!(same(&diagonal, &gram.diagonal()));
    let tame_points = input.points == Class::Tame && input.scores == Class::Tame;
    // In a metric of any numbers, rounding moves points.
    let tame = tame_points && input.metric.is_none_or(|class| class == Class::Tame);
    // What rounding may take away from sums over a matrix that is positive.
    let largest = diagonal.iter().fold(0.0, |largest: f64, u| largest.max(u.to_f64()));
    let epsilon = if T::NAME == "f32" { f32::EPSILON.into() } else { f64::EPSILON };
    let slack = 1e3 * epsilon * largest.max(f64::MIN_POSITIVE);
    if tame_points && let Some(v) = accepted(gram.ksd(Statistic::V, &mut |_| {})) {
        assert!(v.squared >= -0.02 * largest, "{v:?}, largest {largest}");
    }

    let first = input.first.value();
    let mut part = vec![T::from_f64(0.0); n];
    if accepted(gram.write(first, RowsMut::new(&mut part, 1, n).expect("a row"))).is_some() {
        assert!(same(&part, &matrix[first * n..][..n]));
    }
    products(&mut numbers, &gram, &matrix, (tame, slack));
    statistics(input, &gram, (&kernel, x, score), (tame, slack));
    picks(input, &mut numbers, &gram);
    fields(input, &mut numbers, &gram, (x, score));
}

/// Products of the matrix with others, and its sums.
fn products<T: Float>(
    numbers: &mut Numbers<'_>,
    gram: &Gram<T>,
    matrix: &[T],
    (tame, slack): (bool, f64),
) {
    let n = gram.points();
    let cols = usize::from(numbers.byte() % 3);
    let v = numbers.array::<T>(Class::Tame, n * cols);
    let mut product = vec![T::from_f64(f64::NAN); n * cols];
    let v = Rows::new(&v, n, cols).expect("sized for it");
    let short = RowsMut::new(&mut product[..(n - 1) * cols], n - 1, cols).expect("sized for it");
    assert!(gram.product(v, short).is_err());
    accepted(gram.product(v, RowsMut::new(&mut product, n, cols).expect("sized for it")));
    let sums = gram.row_sums(&mut |_| {});
    // A bandwidth may be far from any point's distances.
    if !tame || !finite(matrix) {
        return;
    }
    for (row, sum) in matrix.chunks_exact(n).zip(&sums) {
        let expected: f64 = row.iter().map(|u| u.to_f64()).sum();
        let difference = (sum - expected).abs();
        assert!(difference <= n as f64 * slack, "{difference} over {n} times {slack}");
    }
    for (k, product) in product.iter().enumerate() {
        let (i, col) = (k / cols, k % cols);
        let terms = matrix[i * n..][..n].iter().zip(v.iter());
        let expected: f64 = terms.map(|(u, v)| u.to_f64() * v[col].to_f64()).sum();
        let difference = (product.to_f64() - expected).abs();
        // Four times for the values of v, and once for every term.
        assert!(difference <= 4.0 * n as f64 * slack, "{difference} over {slack}");
    }
}

type Problem<'a, T> = (&'a SteinKernel, Rows<'a, T>, Rows<'a, T>);

fn statistics<T: Float>(
    input: &Input<'_>,
    gram: &Gram<T>,
    (kernel, x, score): Problem<'_, T>,
    (tame, slack): (bool, f64),
) {
    let (n, d) = (gram.points(), gram.dim());
    let statistic = if input.unbiased { Statistic::U } else { Statistic::V };
    let v = accepted(gram.ksd(Statistic::V, &mut |_| {}));
    let ksd = accepted(gram.ksd(statistic, &mut |_| {}));
    if let Some(v) = v {
        assert!(v.squared.is_finite() && (!tame || v.squared >= -slack), "{v:?}, slack {slack}");
        let start = n / 2;
        let load = |part: usize| {
            let range = if part == 0 { 0..start } else { start..n };
            let copy = |rows: Rows<'_, T>| rows.as_slice()[range.start * d..range.end * d].to_vec();
            Ok((copy(x), copy(score)))
        };
        if let Some(parts) = accepted(ksd_in_parts(kernel, 2, load, d, Statistic::V, &mut |_| {})) {
            let difference = (parts.squared - v.squared).abs();
            assert!(!tame || difference <= slack, "{difference} over {slack}");
        }
    }
    accepted(ksd_blocks(kernel, x, score, input.block.into()));
    if let Some(trace) = accepted(gram.ksd_trace(&mut |_| {})) {
        assert!(trace.len() == n && trace.iter().all(|ksd| *ksd >= 0.0 && ksd.is_finite()));
    }

    let draws = input.draws.value();
    // Nothing between what is quick and what no memory holds.
    let draws = if draws < usize::MAX >> 16 { draws % 150 } else { draws };
    let mut bootstrap = WildBootstrap::new(draws).seed(input.seed);
    if let Some(flip) = input.flip {
        bootstrap = bootstrap.correlated(flip.value());
    }
    if let Some(test) = accepted(gram.test(statistic, &bootstrap, &mut |_| {})) {
        assert!(test.p_value > 0.0 && test.p_value <= 1.0 && test.draws.len() == draws);
        // Not if only its standard error overflows.
        let squared = ksd.map_or(test.squared, |ksd| ksd.squared);
        assert!(!tame || (test.squared - squared).abs() <= slack, "{} {squared}", test.squared);
    }
    let wider = accepted(SteinKernel::rbf(2.0)).expect("a kernel");
    let kernels = [kernel.clone(), kernel.clone(), wider];
    let kernels = &kernels[..usize::from(input.count % 4)];
    let level = input.level.value();
    if let Some(test) = accepted(ksd_aggregated_test(kernels, x, score, level, &bootstrap)) {
        assert_eq!(test.tests.len(), kernels.len());
        assert!(test.u >= 0.0 && finite(&test.thresholds), "{test:?}");
    }
    let places = x.range(0, n.min(usize::from(input.count % 4)));
    if let Some(test) = accepted(gram.fssd_test(x, score, places, draws, input.seed)) {
        assert!(test.p_value > 0.0 && test.p_value <= 1.0 && test.draws.len() == draws);
        assert!(test.squared.is_finite() && finite(&test.draws), "{test:?}");
    }
}

/// Thinning and weights.
fn picks<T: Float>(input: &Input<'_>, numbers: &mut Numbers<'_>, gram: &Gram<T>) {
    let n = gram.points();
    let class = input.regularised.map_or(Class::Tame, |(class, _)| class);
    let (log_density, positive_laplacian) = (numbers.array(class, n), numbers.array(class, n));
    let regularisation = input.regularised.map(|(_, weight)| Regularisation {
        log_density: &log_density,
        positive_laplacian: &positive_laplacian,
        weight: weight.map(Amount::value),
    });
    let count = usize::from(input.count % 32);
    if let Some(thinned) = accepted(gram.thin(count, regularisation, &mut |_| {})) {
        assert!(thinned.indices.len() == count && thinned.indices.iter().all(|&i| i < n));
        assert!(thinned.ksd.iter().all(|ksd| *ksd >= 0.0 && ksd.is_finite()), "{thinned:?}");
    }
    if n > 30 {
        return; // Thousands of products with the matrix.
    }
    if let Some(found) = accepted(gram.stein_weights(input.tolerance.value())) {
        let sum: f64 = found.weights.iter().sum();
        assert!(found.weights.iter().all(|w| *w >= 0.0) && (sum - 1.0).abs() < 1e-9, "{found:?}");
        assert!(found.ksd >= 0.0 && found.ksd.is_finite(), "{found:?}");
    }
    let mean = accepted(gram.control_functional(&log_density, input.jitter.value()));
    assert!(mean.is_none_or(f64::is_finite));
}

/// Witness functions, gradients and what moves points along them.
fn fields<T: Float>(
    input: &Input<'_>,
    numbers: &mut Numbers<'_>,
    gram: &Gram<T>,
    (x, score): (Rows<'_, T>, Rows<'_, T>),
) {
    let d = gram.dim();
    let mut y = numbers.array::<T>(input.points, usize::from(input.count % 5) * d);
    if input.sphere {
        normalise(&mut y, d);
    }
    let y = Rows::new(&y, y.len() / d, d).expect("whole rows");
    let witness = accepted(gram.witness(x, score, y));
    let statistic = if input.unbiased { Statistic::U } else { Statistic::V };
    let gradient = accepted(gram.score_gradient(x, score, statistic));
    let direction = accepted(Svgd::new(0.1).bandwidth(input.level.value()).direction(x, score));
    for field in [witness, gradient, direction].into_iter().flatten() {
        assert!(finite(&field));
    }
    // Points that follow the direction, of a model's density.
    let (m, n) = (3, x.rows().min(20));
    let (theta, w) = (numbers.array::<T>(Class::Tame, m * d), numbers.array::<T>(Class::Tame, m));
    let model = ReluEnergy::new(Rows::new(&theta, m, d).expect("sized for it"), &w);
    let model = accepted(model).expect("tame parameters");
    let model = accepted(model.with_base_scale(T::from_f64(1.0))).expect("tame parameters");
    let mut points = x.as_slice()[..n * d].to_vec();
    let svgd = Svgd::new(input.tolerance.value());
    let rows = RowsMut::new(&mut points, n, d).expect("sized for it");
    if accepted(svgd.run(&model, rows, usize::from(input.count % 4))).is_some() {
        assert!(finite(&points));
    }
}

fuzz_target!(|input: Input<'_>| {
    match input.double {
        false => check::<f32>(&input),
        true => check::<f64>(&input),
    }
});
