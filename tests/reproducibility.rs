//! The same bits for any number of threads and any split of the batch.

mod common;

use common::{bits, model, normals};
use gibbsite::{
    Backend, Domain, Isa, Real, ReluEnergy, Rows, RowsMut,
    normaliser::{Base, base_samples},
    teacher::Teacher,
    train::{Estimator, NegativePhase, TrainOptions, fit},
};

fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// Energy, score and parameter gradient of a batch, as bits.
fn everything<T: Real>(model: &ReluEnergy<T>, x: &[T], r: Option<&[T]>) -> [Vec<u64>; 3] {
    let d = model.dim();
    let n = x.len() / d;
    let x = Rows::new(x, n, d).unwrap();
    let zero = T::from_f64(0.0);
    let (mut energy, mut score) = (vec![zero; n], vec![zero; n * d]);
    model.energy(x, &mut energy).unwrap();
    model.score(x, RowsMut::new(&mut score, n, d).unwrap()).unwrap();
    let mut grad = model.zero_grad();
    model.param_grad(x, r, &mut grad).unwrap();
    let mut all = bits(&grad.w);
    all.extend(bits(&grad.theta));
    all.extend(grad.bias.iter().flat_map(|bias| bits(bias)));
    [bits(&energy), bits(&score), all]
}

fn threads_and_levels<T: Real>() {
    // Large enough for several work items and several chunks of a parameter gradient.
    for (n, d, m, bias) in [(9000, 5, 230, true), (10_000, 15, 40, false), (700, 130, 401, true)] {
        let x = normals::<T>(n * d, 10);
        let r = normals::<T>(n, 11);
        let model = model::<T>(m, d, bias, Backend::Fused);
        let expected = everything(&model, &x, Some(&r));
        for threads in [1, 2, 3, 4, 7, 8, 16] {
            for isa in Isa::available().filter(|&isa| isa <= Isa::best()) {
                // The scalar level is slow: once is enough.
                if isa == Isa::Scalar && threads != 2 {
                    continue;
                }
                let got =
                    on_threads(threads, || everything(&model.clone().with_isa(isa), &x, Some(&r)));
                assert!(got == expected, "{} {isa} {threads} threads {:?}", T::NAME, (n, d, m));
            }
        }
    }
}

#[test]
fn thread_counts_and_levels_do_not_change_bits() {
    threads_and_levels::<f32>();
    threads_and_levels::<f64>();
}

#[test]
fn splitting_the_batch_does_not_change_bits() {
    let (n, d, m) = (1000, 7, 150);
    let x = normals::<f64>(n * d, 20);
    let model = model::<f64>(m, d, true, Backend::Fused);
    let [energy, score, _] = everything(&model, &x, None);
    for rows in [1, 2, 5, 24, 25, 333, 999] {
        let (mut energies, mut scores) = (Vec::new(), Vec::new());
        for x in x.chunks(rows * d) {
            let [energy, score, _] = everything(&model, x, None);
            energies.extend(energy);
            scores.extend(score);
        }
        assert!(energies == energy && scores == score, "{rows} rows at a time");
    }
}

#[test]
fn row_strides_do_not_change_bits() {
    let (n, d, m) = (100, 9, 33);
    let x = normals::<f64>(n * d, 21);
    let model = model::<f64>(m, d, false, Backend::Fused);
    let [_, score, _] = everything(&model, &x, None);
    let stride = d + 4;
    let mut wide = vec![f64::NAN; n * stride];
    wide.chunks_mut(stride).zip(x.chunks(d)).for_each(|(wide, x)| wide[..d].copy_from_slice(x));
    let mut out = vec![-7.0; n * stride];
    let rows = Rows::with_stride(&wide, n, d, stride).unwrap();
    model.score(rows, RowsMut::with_stride(&mut out, n, d, stride).unwrap()).unwrap();
    let inside: Vec<f64> = out.chunks(stride).flat_map(|row| &row[..d]).copied().collect();
    assert!(bits(&inside) == score);
    assert!(out.chunks(stride).all(|row| row[d..].iter().all(|&x| x == -7.0)));
}

#[test]
fn training_does_not_depend_on_threads() {
    let d = 6;
    let teacher = Teacher::<f64>::named("j1w10", d, 3).unwrap();
    let train = teacher.sample(400, 3, 0).unwrap();
    let validation = teacher.sample(400, 3, 1).unwrap();
    let phases = [
        (Domain::Sphere, NegativePhase::Bank { size: 500 }),
        (Domain::Sphere, NegativePhase::Independence { chains: 200, steps: 3 }),
        (Domain::Sphere, NegativePhase::Persistent { chains: 200, steps: 2, restart: 0.05 }),
        (Domain::Euclidean, NegativePhase::Auto),
    ];
    for (domain, negative) in phases {
        let options = TrainOptions {
            domain,
            estimator: Estimator::MaximumLikelihood { negative },
            neurons: 60,
            iterations: 12,
            evaluate_every: 4,
            bias: domain == Domain::Euclidean,
            ..TrainOptions::default()
        };
        let run = |threads| {
            on_threads(threads, || {
                let x = |x| Rows::new(x, 400, d).unwrap();
                let trained = fit(x(&train), x(&validation), &options, |_, _| Ok(())).unwrap();
                (trained.history, bits(trained.model.w()), bits(trained.model.theta().as_slice()))
            })
        };
        let expected = run(1);
        assert!(run(2) == expected && run(5) == expected, "{domain} {negative:?}");
    }
}

#[test]
fn base_samples_do_not_depend_on_threads_or_on_how_many_follow() {
    let draw = |threads, n| {
        on_threads(threads, || base_samples::<f32>(Base::Gaussian(2.0), n, 3, 5, 100).unwrap())
    };
    let expected = draw(1, 5000);
    assert_eq!(draw(4, 5000), expected);
    assert_eq!(draw(2, 1500), expected[..1500 * 3]);
}
