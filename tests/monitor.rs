//! Monitors of training against their definitions: finite differences, dense matrices, slopes that are met.

mod common;

use common::{BACKENDS, model, normals};
use faer::{Mat, Side};
use gibbsite::{
    Backend, Error, ReluEnergy, Rows,
    monitor::{
        Curvature, curvature, f1_norm, f2_norm, imbalance, lipschitz, local_lipschitz, ntk,
        ntk_drift,
    },
    normaliser,
    stein::{Gram, Statistic, SteinKernel},
    teacher::Teacher,
};

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1e-300), "{a} against {b}");
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// ∂f(x) by all parameters in the order w, θ, b, by central differences, which are exact up to rounding away from kinks.
fn gradient(model: &ReluEnergy<f64>, x: &[f64]) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let (m, d) = (model.neurons(), model.dim());
    let energy_with = |k: usize, step: f64| {
        let mut moved = model.clone();
        moved
            .update_parameters(|w, theta, bias| match k {
                k if k < m => w[k] += step,
                k if k < m + m * d => theta[k - m] += step,
                k => bias.unwrap()[k - m - m * d] += step,
            })
            .unwrap();
        let mut energy = [0.0];
        moved.energy(Rows::new(x, 1, d).unwrap(), &mut energy).unwrap();
        energy[0]
    };
    let count = m + m * d + if model.bias().is_some() { m } else { 0 };
    (0..count).map(|k| (energy_with(k, STEP) - energy_with(k, -STEP)) / (2.0 * STEP)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The same model in single precision, and that one in double precision again.
fn rounded(model: &ReluEnergy<f64>) -> (ReluEnergy<f32>, ReluEnergy<f64>) {
    let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let double = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let (m, d) = (model.neurons(), model.dim());
    let (theta, w) = (single(model.theta().as_slice()), single(model.w()));
    let mut narrow = ReluEnergy::new(Rows::new(&theta, m, d).unwrap(), &w).unwrap();
    let (theta, w) = (double(&theta), double(&w));
    let mut wide = ReluEnergy::new(Rows::new(&theta, m, d).unwrap(), &w).unwrap();
    if let Some(bias) = model.bias() {
        let bias = single(bias);
        wide = wide.with_bias(&double(&bias)).unwrap();
        narrow = narrow.with_bias(&bias).unwrap();
    }
    (narrow, wide)
}

#[test]
fn norms_follow_their_definitions() {
    let theta = [3.0, 4.0, 0.0, -2.0];
    let plain = ReluEnergy::new(Rows::new(&theta, 2, 2).unwrap(), &[2.0, -3.0]).unwrap();
    let biased = plain.clone().with_bias(&[12.0, 0.0]).unwrap();
    assert_eq!((f1_norm(&plain), f1_norm(&biased)), (8.0, 16.0));
    assert_eq!((lipschitz(&plain), lipschitz(&biased)), (8.0, 8.0));
    close(f2_norm(&biased), 6.5f64.sqrt(), 1e-15);
    assert_eq!(imbalance(&plain), [4.0 - 25.0, 9.0 - 4.0]);
    assert_eq!(imbalance(&biased), [4.0 - 169.0, 9.0 - 4.0]);
}

#[test]
fn single_precision_gives_what_double_precision_gives() {
    let (n, d) = (20, 3);
    for bias in [false, true] {
        let (narrow, wide) = rounded(&model::<f64>(7, d, bias, Backend::Auto));
        let x = normals::<f32>(n * d, 5);
        let x_wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (x, x_wide) = (Rows::new(&x, n, d).unwrap(), Rows::new(&x_wide, n, d).unwrap());
        assert_eq!(f1_norm(&narrow), f1_norm(&wide));
        assert_eq!(f2_norm(&narrow), f2_norm(&wide));
        assert_eq!(lipschitz(&narrow), lipschitz(&wide));
        assert_eq!(imbalance(&narrow), imbalance(&wide));
        assert_eq!(
            local_lipschitz(&narrow, x.row(0), 0.5).unwrap(),
            local_lipschitz(&wide, x_wide.row(0), 0.5).unwrap()
        );
        assert_eq!(ntk(&narrow, x).unwrap(), ntk(&wide, x_wide).unwrap());
        let p = vec![1.0; n];
        assert_eq!(curvature(&narrow, x, &p).unwrap(), curvature(&wide, x_wide, &p).unwrap());
    }
}

#[test]
fn local_bounds_hold_on_the_ball_and_stay_below_the_global_one() {
    let d = 4;
    for bias in [false, true] {
        let model = model::<f64>(12, d, bias, Backend::Auto);
        let centre = normals::<f64>(d, 5);
        let global = lipschitz(&model);
        let mut last = 0.0;
        for radius in [0.0, 0.01, 0.1, 0.5, 2.0, 100.0] {
            let bound = local_lipschitz(&model, &centre, radius).unwrap();
            assert!(bound >= last - 1e-12 && bound <= global, "{last}, {bound}, {global}");
            last = bound;
            let mut met = 0.0f64;
            for stream in 0..200 {
                // Points of the ball, half of them on its border.
                let ends = [10, 11].map(|set| {
                    let mut x = normals::<f64>(d, 1000 * set + stream);
                    let share = if stream % 2 == 0 { 1.0 } else { 0.01 * stream as f64 / 2.0 };
                    let scale = radius * share / norm(&x);
                    x.iter_mut().zip(&centre).for_each(|(x, centre)| *x = centre + scale * *x);
                    x
                });
                let mut energy = [0.0; 2];
                model.energy(Rows::new(&ends.concat(), 2, d).unwrap(), &mut energy).unwrap();
                let way: Vec<f64> = ends[0].iter().zip(&ends[1]).map(|(a, b)| a - b).collect();
                if radius > 0.0 {
                    let slope = (energy[0] - energy[1]).abs() / norm(&way);
                    assert!(slope.is_finite(), "{energy:?}");
                    met = met.max(slope);
                }
            }
            assert!(met <= bound * (1.0 + 1e-9) + 1e-12, "{met} above {bound}");
        }
    }
}

#[test]
fn local_bounds_are_exact_where_the_slope_is_known() {
    let d = 4;
    // On a ball without kinks the bound is the norm of the gradient.
    let free = model::<f64>(12, d, true, Backend::Auto);
    let centre = normals::<f64>(d, 5);
    let mut score = vec![0.0; d];
    let rows = Rows::new(&centre, 1, d).unwrap();
    free.score(rows, gibbsite::RowsMut::new(&mut score, 1, d).unwrap()).unwrap();
    close(local_lipschitz(&free, &centre, 0.0).unwrap(), norm(&score), 1e-12);
    close(local_lipschitz(&free, &centre, 1e-9).unwrap(), norm(&score), 1e-12);

    // All unstable with one direction of w θ: nothing is gained.
    let theta = [1.0, 2.0, 3.0, 6.0, -0.5, -1.0];
    let aligned = ReluEnergy::new(Rows::new(&theta, 3, 2).unwrap(), &[1.0, 2.0, -3.0]).unwrap();
    close(local_lipschitz(&aligned, &[0.0, 0.0], 1.0).unwrap(), lipschitz(&aligned), 1e-14);

    // |x| with unstable neurons of opposite directions: |g_unstable| = 0, all is spread.
    let wedge = ReluEnergy::new(Rows::new(&[1.0, -1.0], 2, 1).unwrap(), &[2.0, 2.0]).unwrap();
    assert_eq!(local_lipschitz(&wedge, &[0.5], 1.0).unwrap(), 1.0);
    assert_eq!(lipschitz(&wedge), 2.0);
    // Biases move kinks: max(x + 5, 0) is on, max(-x - 5, 0) off near 0.
    let shifted = wedge.with_bias(&[5.0, -5.0]).unwrap();
    assert_eq!(local_lipschitz(&shifted, &[0.0], 4.9).unwrap(), 1.0);
    // A neuron whose kink touches the ball is on or off; the other is unstable.
    let axes = Rows::new(&[1.0, 0.0, 0.0, 1.0], 2, 2).unwrap();
    let touching = |b| ReluEnergy::new(axes, &[2.0, 2.0]).unwrap().with_bias(&[b, 0.0]).unwrap();
    let bound = |b| local_lipschitz(&touching(b), &[0.0, 0.0], 1.0).unwrap();
    close(bound(1.0), (5.0f64.sqrt() + 1.0) / 2.0, 1e-14);
    close(bound(-1.0), 1.0, 1e-14);
}

#[test]
fn tangent_kernels_are_gram_matrices_of_gradients() {
    let (n, d, m) = (9, 3, 6);
    let x = normals::<f64>(n * d, 5);
    let rows = Rows::new(&x, n, d).unwrap();
    for bias in [false, true] {
        let model = model::<f64>(m, d, bias, Backend::Auto);
        let gradients: Vec<_> = rows.iter().map(|x| gradient(&model, x)).collect();
        let kernel = ntk(&model, rows).unwrap();
        for i in 0..n {
            for j in 0..n {
                let expected = dot(&gradients[i], &gradients[j]);
                assert!((kernel[i * n + j] - expected).abs() < 1e-9, "{i}, {j}, bias {bias}");
            }
        }

        let mut moved = model.clone();
        moved.update_parameters(|w, theta, _| (w[0], theta[1]) = (3.0, -1.0)).unwrap();
        let other = ntk(&moved, rows).unwrap();
        let difference: Vec<f64> = other.iter().zip(&kernel).map(|(a, b)| a - b).collect();
        let expected = norm(&difference) / norm(&kernel);
        close(ntk_drift(&model, &moved, rows).unwrap(), expected, 1e-12);
        assert_eq!(ntk_drift(&model, &model, rows).unwrap(), 0.0);
        // Of degree 2 in the parameters, were it not for the 1.
        if !bias {
            let double = |values: &mut [f64]| values.iter_mut().for_each(|v| *v *= 2.0);
            let mut doubled = model.clone();
            doubled.update_parameters(|w, theta, _| (double(w), double(theta)).0).unwrap();
            close(ntk_drift(&model, &doubled, rows).unwrap(), 3.0, 1e-12);
        }
    }
}

/// Cov(∂f) of normalised weights, dense.
fn dense(model: &ReluEnergy<f64>, x: Rows<'_, f64>, weights: &[f64]) -> Mat<f64> {
    let gradients: Vec<_> = x.iter().map(|x| gradient(model, x)).collect();
    let sum: f64 = weights.iter().sum();
    let count = gradients[0].len();
    let mean = |of: &dyn Fn(&[f64]) -> f64| {
        gradients.iter().zip(weights).map(|(g, p)| p / sum * of(g)).sum::<f64>()
    };
    Mat::from_fn(count, count, |a, b| mean(&|g| g[a] * g[b]) - mean(&|g| g[a]) * mean(&|g| g[b]))
}

#[test]
fn curvature_is_that_of_the_dense_covariance() {
    for (n, d, m, bias, beta) in [
        (40, 3, 6, false, 1.0),
        (40, 3, 6, true, 0.7),
        (7, 5, 9, true, 3.0),
        (300, 1, 4, true, 1.0),
    ] {
        let model = model::<f64>(m, d, bias, Backend::Auto).with_beta(beta).unwrap();
        let x = normals::<f64>(n * d, 5);
        let x = Rows::new(&x, n, d).unwrap();
        let weights: Vec<f64> = normals::<f64>(n, 6).iter().map(|w| w * w).collect();
        let Curvature { trace, largest, .. } = curvature(&model, x, &weights).unwrap();
        let dense = dense(&model, x, &weights);
        let eigenvalues = dense.self_adjoint_eigenvalues(Side::Lower).unwrap();
        close(trace, beta * beta * eigenvalues.iter().sum::<f64>(), 1e-8);
        close(largest, beta * beta * eigenvalues.last().unwrap(), 1e-8);
        for &backend in BACKENDS {
            let model = model.clone().with_backend(backend);
            close(curvature(&model, x, &weights).unwrap().largest, largest, 1e-10);
        }
    }
}

#[test]
fn curvature_without_spread_is_zero() {
    let model = model::<f64>(5, 3, true, Backend::Auto);
    let x = normals::<f64>(6, 5);
    let one = curvature(&model, Rows::new(&x[..3], 1, 3).unwrap(), &[2.0]).unwrap();
    assert!(one.trace.abs() < 1e-15 && one.largest.abs() < 1e-15, "{one:?}");
    // A point without weight is none.
    let same = curvature(&model, Rows::new(&x, 2, 3).unwrap(), &[2.0, 0.0]).unwrap();
    assert!(same.trace.abs() < 1e-15 && same.largest.abs() < 1e-15, "{same:?}");
}

#[test]
fn the_trace_is_that_of_the_hessian_of_the_likelihood() {
    // By w, log Z is smooth: its second derivatives are differences of its values on fixed points. By θ they are sums by hand.
    let teacher = Teacher::<f64>::named("j4w7.5", 4, 0).unwrap();
    let teacher = teacher.model().clone().with_beta(0.8).unwrap();
    let n = 3000;
    let base = normaliser::base_samples(normaliser::Base::Sphere, n, 4, 0, 0).unwrap();
    let x = Rows::new(&base, n, 4).unwrap();
    let energy = |model: &ReluEnergy<f64>| {
        let mut energy = vec![0.0; n];
        model.energy(x, &mut energy).unwrap();
        energy
    };
    let log_z = |k: usize, step: f64| {
        let mut moved = teacher.clone();
        moved.update_parameters(|w, _, _| w[k] += step).unwrap();
        energy(&moved).iter().map(|f| (-0.8 * f).exp()).sum::<f64>().ln()
    };
    let second = |k| (log_z(k, 1e-3) - 2.0 * log_z(k, 0.0) + log_z(k, -1e-3)) / 1e-6;
    let weights: Vec<f64> = energy(&teacher).iter().map(|f| (-0.8 * f).exp()).collect();
    let of_w = (0..4).map(second).sum::<f64>();
    let whole = curvature(&teacher, x, &weights).unwrap();
    let sum: f64 = weights.iter().sum();
    let of_theta: f64 = teacher
        .theta()
        .iter()
        .zip(teacher.w())
        .map(|(theta, w)| {
            let active = |x: &[f64]| dot(theta, x) > 0.0;
            let moments = x.iter().zip(&weights).filter(|(x, _)| active(x));
            let (mut share, mut mean) = (0.0, [0.0; 4]);
            for (x, p) in moments {
                share += p / sum * dot(x, x);
                mean.iter_mut().zip(x).for_each(|(mean, x)| *mean += p / sum * x);
            }
            0.64 * w * w * (share - dot(&mean, &mean)) / 16.0
        })
        .sum();
    close(whole.trace, of_w + of_theta, 1e-5);
    assert!(whole.largest < whole.trace);
}

/// By how much the imbalance drifts in descent of a loss for a fixed time in steps of this size, and by how much w² changes.
fn drift(
    start: &ReluEnergy<f64>,
    step: f64,
    time: f64,
    gradient: impl Fn(&ReluEnergy<f64>) -> gibbsite::ParamGrad<f64>,
) -> (f64, f64) {
    let mut model = start.clone();
    for _ in 0..(time / step).round() as usize {
        let grad = gradient(&model);
        let descend = |parameters: &mut [f64], grad: &[f64]| {
            parameters.iter_mut().zip(grad).for_each(|(p, grad)| *p -= step * grad);
        };
        model
            .update_parameters(|w, theta, bias| {
                descend(w, &grad.w);
                descend(theta, &grad.theta);
                if let (Some(bias), Some(grad)) = (bias, &grad.bias) {
                    descend(bias, grad);
                }
            })
            .unwrap();
    }
    let pairs = imbalance(start).into_iter().zip(imbalance(&model));
    let drift: Vec<f64> = pairs.map(|(start, now)| now - start).collect();
    let pairs = start.w().iter().zip(model.w());
    let change: Vec<f64> = pairs.map(|(start, now)| now * now - start * start).collect();
    (norm(&drift), norm(&change))
}

fn drift_is_of_first_order((coarse, change): (f64, f64), (fine, _): (f64, f64)) {
    assert!(coarse < 0.02 * change, "{coarse} is not small against {change}");
    let ratio = coarse / fine;
    assert!((ratio - 2.0).abs() < 0.4, "{coarse} to {fine}: a ratio of {ratio}");
}

#[test]
fn gradient_flow_of_the_likelihood_conserves_the_imbalance() {
    let (d, m, data, bank) = (4, 20, 200, 500);
    let teacher = Teacher::<f64>::named("j1w10", d, 0).unwrap();
    let mut x = teacher.sample(data, 0, 0).unwrap();
    x.extend(normaliser::base_samples::<f64>(normaliser::Base::Sphere, bank, d, 0, 0).unwrap());
    let n = data + bank;
    let x = Rows::new(&x, n, d).unwrap();
    for bias in [false, true] {
        let start = model::<f64>(m, d, bias, Backend::Auto);
        let gradient = |model: &ReluEnergy<f64>| {
            let mut energy = vec![0.0; n];
            model.energy(x, &mut energy).unwrap();
            let mut r: Vec<f64> = energy.iter().map(|f| -(-f).exp()).collect();
            let sum: f64 = r[data..].iter().sum();
            r[data..].iter_mut().for_each(|r| *r /= -sum);
            r[..data].fill(1.0 / data as f64);
            let mut grad = model.zero_grad();
            model.param_grad(x, Some(&r), &mut grad).unwrap();
            grad
        };
        let run = |step| drift(&start, step, 100.0, gradient);
        drift_is_of_first_order(run(0.4), run(0.2));
    }
}

#[test]
fn gradient_flow_of_the_stein_discrepancy_conserves_the_imbalance() {
    let (n, d, m) = (60, 3, 20);
    let x = normals::<f64>(n * d, 5);
    let x = Rows::new(&x, n, d).unwrap();
    let kernel = SteinKernel::rbf(1.0).unwrap();
    let start = model::<f64>(m, d, true, Backend::Auto).with_base_scale(2.0).unwrap();
    let gradient = |model: &ReluEnergy<f64>| {
        let mut score = vec![0.0; n * d];
        model.score(x, gibbsite::RowsMut::new(&mut score, n, d).unwrap()).unwrap();
        let score = Rows::new(&score, n, d).unwrap();
        let gram = Gram::new(&kernel, x, score).unwrap();
        let v = gram.score_gradient(x, score, Statistic::V).unwrap();
        let mut grad = model.zero_grad();
        grad.bias.as_mut().unwrap().fill(7.0); // as one that was used before
        model.score_vjp(x, Rows::new(&v, n, d).unwrap(), &mut grad).unwrap();
        assert!(grad.bias.as_ref().unwrap().iter().all(|&bias| bias == 0.0));
        grad
    };
    let run = |step| drift(&start, step, 20.0, gradient);
    drift_is_of_first_order(run(0.1), run(0.05));
}

/// Found by fuzzing: a weight of 0 times a norm whose square overflows was NaN.
#[test]
fn norms_overflow_no_earlier_than_they_must() {
    // Nor do they vanish: the slope is 1.
    let steep = ReluEnergy::new(Rows::new(&[1e-170], 1, 1).unwrap(), &[1e170]).unwrap();
    close(lipschitz(&steep), 1.0, 1e-12);
    let theta = [3e200, 4e200, 1.0, 0.0];
    let model = ReluEnergy::new(Rows::new(&theta, 2, 2).unwrap(), &[0.0, 2.0]).unwrap();
    assert_eq!((f1_norm(&model), lipschitz(&model)), (1.0, 1.0));
    let model = ReluEnergy::new(Rows::new(&theta, 2, 2).unwrap(), &[2.0, 0.0]).unwrap();
    close(f1_norm(&model) / 5e200, 1.0, 1e-15);
    for w in [1e200, 1e-200] {
        let model = ReluEnergy::new(Rows::new(&[w], 1, 1).unwrap(), &[w]).unwrap();
        close(f2_norm(&model) / w, 1.0, 1e-15);
        assert_eq!(imbalance(&model), [0.0]);
    }
    let cold = ReluEnergy::new(Rows::new(&[1e150], 1, 1).unwrap(), &[1.0]).unwrap();
    let cold = cold.with_beta(1e-170).unwrap();
    let points = [1.0, 2.0];
    let found = curvature(&cold, Rows::new(&points, 2, 1).unwrap(), &[1.0, 1.0]).unwrap();
    // β² Var(θ x) by the outer weight.
    close(found.trace / 2.5e-41, 1.0, 1e-9);
    let large = ReluEnergy::new(Rows::new(&[1e200, 1e200], 2, 1).unwrap(), &[1e200, -1e200]);
    let large = large.unwrap();
    assert_eq!(local_lipschitz(&large, &[1.0], 0.1).unwrap(), lipschitz(&large));
    let error = ntk(&large, Rows::new(&points, 2, 1).unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("tangent kernel must be finite"), "{error}");
}

#[test]
fn bad_input_is_refused() {
    let model = model::<f64>(5, 3, true, Backend::Auto);
    let x = normals::<f64>(12, 1);
    let (x3, x4) = (Rows::new(&x, 4, 3).unwrap(), Rows::new(&x, 3, 4).unwrap());
    let nan = [0.0, f64::NAN, 0.0];
    let nan3 = Rows::new(&nan, 1, 3).unwrap();
    let none = Rows::new(&[], 0, 3).unwrap();
    let message = |error: Error| error.to_string();

    let local =
        |centre: &[f64], radius| message(local_lipschitz(&model, centre, radius).unwrap_err());
    assert_eq!(local(&x[..4], 1.0), "centre of the ball: expected 3, got 4");
    assert_eq!(local(&nan, 1.0), "NaN in the centre of the ball at row 1, column 0");
    for radius in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(local(&x[..3], radius).starts_with("radius must be finite and not negative"));
    }

    let bad = |x, weights: &[f64]| message(curvature(&model, x, weights).unwrap_err());
    assert_eq!(bad(x4, &[1.0; 3]), "columns of the points: expected 3, got 4");
    assert_eq!(bad(x3, &[1.0; 3]), "weights of the points: expected 4, got 3");
    assert_eq!(bad(none, &[]), "the number of points must not be zero");
    assert_eq!(bad(nan3, &[1.0]), "NaN in the points at row 0, column 1");
    for weight in [-1.0, f64::NAN, f64::INFINITY] {
        let text = bad(x3, &[1.0, 1.0, weight, 1.0]);
        assert!(text.starts_with("weight of a point must be finite and not negative"), "{text}");
    }
    for weight in [0.0, 1e308] {
        let text = bad(x3, &[weight; 4]);
        assert!(text.starts_with("sum of the weights must be positive and finite"), "{text}");
    }
    let huge = x.iter().map(|x| 1e200 * x).collect::<Vec<_>>();
    let text = bad(Rows::new(&huge, 4, 3).unwrap(), &[1.0; 4]);
    assert!(text.starts_with("curvature must be finite"), "{text}");

    for (rows, text) in [
        (x4, "columns of the points: expected 3, got 4"),
        (none, "the number of points must not be zero"),
        (nan3, "NaN in the points at row 0, column 1"),
    ] {
        assert_eq!(message(ntk(&model, rows).unwrap_err()), text);
        assert_eq!(message(ntk_drift(&model, &model, rows).unwrap_err()), text);
    }
    let other = common::model::<f64>(5, 4, false, Backend::Auto);
    assert!(matches!(ntk_drift(&model, &other, x3), Err(Error::Shape(_))));
    let off = ReluEnergy::new(Rows::new(&[1.0, 0.0, 0.0], 1, 3).unwrap(), &[1.0]).unwrap();
    let left = Rows::new(&[-1.0, 0.0, 0.0], 1, 3).unwrap();
    assert_eq!(
        message(ntk_drift(&off, &model, left).unwrap_err()),
        "the tangent kernel at the start must not be zero"
    );
}
