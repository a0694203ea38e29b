//! Backends that multiply by a library against the fused kernel, which has its own tests bit by bit.

mod common;

use common::{BACKENDS, model, normals};
use gibbsite::{Backend, Domain, Energy, Isa, Real, ReluEnergy, Rows, RowsMut, sampler::Sampler};
use std::collections::BTreeSet;

/// What a model computes at some points, as f64.
struct Outputs {
    energy: Vec<f64>,
    score: Vec<f64>,
    w: Vec<f64>,
    theta: Vec<f64>,
    bias: Vec<f64>,
}

fn evaluate<T: Real>(model: &ReluEnergy<T>, x: Rows<'_, T>, r: &[T]) -> Outputs {
    let (n, d) = (x.rows(), x.cols());
    // The score is written between values that stay.
    let stride = d + 3;
    let mut energy = vec![T::from_f64(7.0); n];
    let mut score = vec![T::from_f64(7.0); n * stride];
    model.energy(x, &mut energy).unwrap();
    model.score(x, RowsMut::with_stride(&mut score, n, d, stride).unwrap()).unwrap();
    let mut both = vec![T::ZERO; n];
    model.potential_score(x, Some(&mut both), None).unwrap();
    assert_eq!(both, energy);
    let mut grad = model.zero_grad();
    model.param_grad(x, Some(r), &mut grad).unwrap();
    let (gaps, score): (Vec<_>, Vec<_>) =
        score.into_iter().enumerate().partition(|(i, _)| i % stride >= d);
    assert!(gaps.iter().all(|&(_, value)| value == T::from_f64(7.0)), "a gap was written");
    let wide = |values: Vec<T>| values.into_iter().map(T::to_f64).collect();
    Outputs {
        energy: wide(energy),
        score: wide(score.into_iter().map(|(_, value)| value).collect()),
        w: wide(grad.w),
        theta: wide(grad.theta),
        bias: wide(grad.bias.unwrap_or_default()),
    }
}

/// The error bounds of all outputs: γ times the sum of the absolute values of the terms, with γ for the number of
/// roundings that any order of the sums can take; and terms whose gate may come out either way.
fn bounds<T: Real>(model: &ReluEnergy<T>, x: Rows<'_, T>, r: &[T]) -> Outputs {
    let (n, m, d) = (x.rows(), model.neurons(), model.dim());
    let gamma = |roundings: usize| {
        let ku = roundings as f64 * T::EPSILON.to_f64() / 2.0;
        ku / (1.0 - ku)
    };
    let of_z = gamma(d + 1);
    let [over_neurons, over_samples] = [m, n].map(|terms| gamma(d + terms + 4));
    let mut sums = Outputs {
        energy: vec![0.0; n],
        score: vec![0.0; n * d],
        w: vec![0.0; m],
        theta: vec![0.0; m * d],
        bias: vec![0.0; m],
    };
    for (i, x) in x.iter().enumerate() {
        let r = r[i].to_f64().abs();
        for (j, theta) in model.theta().iter().enumerate() {
            let (mut z, mut terms) = (0.0, 0.0);
            let b = model.bias().map_or(0.0, |b| b[j].to_f64());
            let products = x.iter().zip(theta).map(|(x, theta)| x.to_f64() * theta.to_f64());
            for product in products.chain([b]) {
                z += product;
                terms += product.abs();
            }
            let w = model.w()[j].to_f64().abs();
            let w = w / m as f64;
            sums.energy[i] += over_neurons * w * terms;
            sums.w[j] += over_samples * r * terms / m as f64;
            let doubtful = if z.abs() <= of_z * terms { 1.0 } else { 0.0 };
            let [gate_i, gate_j] = [over_neurons, over_samples].map(|gamma| gamma + doubtful);
            for k in 0..d {
                sums.score[i * d + k] += gate_i * w * theta[k].to_f64().abs();
                sums.theta[j * d + k] += gate_j * w * r * x[k].to_f64().abs();
            }
            sums.bias[j] += gate_j * w * r;
        }
    }
    sums
}

fn libraries_are_within_the_bound<T: Real>() {
    let mut others = BTreeSet::new();
    // Around the tiles of 256 points by 192 vectors, and the chunks of at most 4096 samples.
    for (case, (n, d, m)) in [
        (1, 1, 1),
        (1, 7, 500),
        (2, 130, 3),
        (255, 15, 191),
        (256, 16, 192),
        (257, 40, 193),
        (300, 7, 500),
        (513, 33, 17),
        (5000, 3, 17),
        (40, 784, 100),
    ]
    .into_iter()
    .enumerate()
    {
        let bias = case % 2 == 0;
        let stride = d + [0, 1, 5][case % 3];
        let x = normals::<T>(n * stride, 5);
        let x = Rows::with_stride(&x, n, d, stride).unwrap();
        let r = normals::<T>(n, 6);
        let reference = model::<T>(m, d, bias, Backend::Fused);
        let fused = evaluate(&reference, x, &r);
        let bounds = bounds(&reference, x, &r);
        for &backend in BACKENDS {
            let got = evaluate(&reference.clone().with_backend(backend), x, &r);
            for (what, got, want, bound) in [
                ("energy", got.energy, &fused.energy, &bounds.energy),
                ("score", got.score, &fused.score, &bounds.score),
                ("w", got.w, &fused.w, &bounds.w),
                ("theta", got.theta, &fused.theta, &bounds.theta),
                ("bias", got.bias, &fused.bias, &bounds.bias),
            ] {
                assert_eq!(got.len(), want.len());
                if got != *want {
                    others.insert(format!("{backend} {what}"));
                }
                for (i, (got, want)) in got.iter().zip(want).enumerate() {
                    let dtype = T::NAME;
                    // Both are off by a bound at most.
                    assert!(
                        (got - want).abs() <= 2.0 * bound[i],
                        "{backend} {dtype} ({n}, {d}, {m}): {what}[{i}] is {got}, fused {want}, bound {}",
                        bound[i]
                    );
                }
            }
        }
    }
    // A library that has the bits of the fused kernel everywhere was not asked.
    let libraries = BACKENDS.iter().filter(|b| !matches!(b, Backend::Auto | Backend::Fused));
    let expected = libraries
        .flat_map(|b| ["energy", "score", "w", "theta", "bias"].map(|what| format!("{b} {what}")));
    assert_eq!(others, expected.collect());
}

#[test]
fn libraries_are_within_the_bound_f32() {
    libraries_are_within_the_bound::<f32>();
}

#[test]
fn libraries_are_within_the_bound_f64() {
    libraries_are_within_the_bound::<f64>();
}

#[test]
fn one_row_may_have_any_stride() {
    let x = normals::<f64>(3, 5);
    let x = Rows::with_stride(&x, 1, 3, usize::MAX).unwrap();
    for &backend in BACKENDS {
        let outputs = evaluate(&model::<f64>(5, 3, true, backend), x, &[1.0]);
        assert!(outputs.energy[0].is_finite());
    }
}

#[test]
fn chains_agree() {
    // Chains of different arithmetic drift apart, so they are short.
    let states = |backend| {
        let model = model::<f64>(50, 4, true, backend).with_base_scale(1.0).unwrap();
        assert_eq!(model.domain(), Domain::Euclidean);
        let mut chains = Sampler::ula(0.01).chains(70).seed(3).build(&model).unwrap();
        chains.run(&model, 5).unwrap();
        chains.states().as_slice().to_vec()
    };
    let fused = states(Backend::Fused);
    for &backend in BACKENDS {
        for (got, want) in states(backend).iter().zip(&fused) {
            assert!((got - want).abs() < 1e-12, "{backend}: {got} against {want}");
        }
    }
}

/// However samples are cut into chunks, every one counts once.
#[test]
fn gradients_of_many_samples_are_sums_of_those_of_few() {
    const FEW: usize = 50;
    let flat = |outputs: Outputs| [outputs.w, outputs.theta, outputs.bias].concat();
    for (n, d, m) in [(9000, 3, 17), (2500, 784, 3)] {
        let (x, r) = (normals::<f64>(n * d, 8), normals::<f64>(n, 9));
        let x = Rows::new(&x, n, d).unwrap();
        for &backend in BACKENDS {
            let model = model::<f64>(m, d, true, backend);
            let whole = flat(evaluate(&model, x, &r));
            let mut sums = vec![0.0; whole.len()];
            for start in (0..n).step_by(FEW) {
                let part = evaluate(&model, x.range(start, FEW), &r[start..start + FEW]);
                sums.iter_mut().zip(flat(part)).for_each(|(sum, part)| *sum += part);
            }
            for (whole, sum) in whole.iter().zip(&sums) {
                // A sample left out, or counted twice, changes some by far more.
                assert!((whole - sum).abs() < 1e-9, "{backend} ({n}, {d}, {m}): {whole}, {sum}");
            }
        }
    }
}

#[test]
fn models_tell_how_they_were_made() {
    for (backend, name, path) in [
        (Backend::Auto, "auto", Backend::Fused),
        (Backend::Fused, "fused", Backend::Fused),
        (Backend::Faer, "faer", Backend::Faer),
    ] {
        let model = model::<f64>(4, 2, false, backend);
        assert_eq!((model.backend(), model.path()), (backend, path));
        assert_eq!(backend.to_string(), name);
    }
    let model = model::<f32>(4, 2, true, Backend::Auto);
    assert_eq!(model.clone().with_isa(Isa::Scalar).isa(), Isa::Scalar);
    assert_eq!((model.isa(), model.neurons(), model.dim()), (Isa::best(), 4, 2));
    let model = model.with_beta(0.5).unwrap().with_base_scale(2.0).unwrap();
    assert_eq!((model.beta(), model.base_scale()), (0.5, Some(2.0)));
    assert_eq!((model.domain(), model.bias().map(<[f32]>::len)), (Domain::Euclidean, Some(4)));
}
