//! Wrong input gives a typed, readable error: never a panic, never a silent number.

mod common;

use common::{BACKENDS, model, normals};
use gibbsite::{
    Backend, Domain, Energy, Error, ReluEnergy, Rows, RowsMut,
    normaliser::{self, Base},
    random::Stream,
    sampler::{IndependenceMetropolis, Sampler, Start},
    stein::{Gram, Statistic, SteinKernel},
    teacher::Teacher,
    train::{Estimator, NegativePhase, Optimiser, Regime, TrainOptions, cross_entropy, fit},
};

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

#[test]
fn models_reject_bad_parameters() {
    let rows = |data: &'static [f64], m, d| Rows::new(data, m, d).unwrap();
    let ok = rows(&[1.0, 2.0, 3.0, 4.0], 2, 2);
    assert_eq!(
        message(ReluEnergy::new(rows(&[], 0, 2), &[])),
        "the number of neurons must not be zero"
    );
    assert_eq!(
        message(ReluEnergy::new(rows(&[], 2, 0), &[1.0, 2.0])),
        "the dimension must not be zero"
    );
    assert_eq!(message(ReluEnergy::new(ok, &[1.0])), "outer weights: expected 2, got 1");
    assert_eq!(
        message(ReluEnergy::new(rows(&[1.0, f64::NAN], 1, 2), &[1.0])),
        "NaN in theta at row 0, column 1"
    );
    assert_eq!(message(ReluEnergy::new(ok, &[1.0, f64::INFINITY])), "inf in w at row 1, column 0");
    let model = ReluEnergy::new(ok, &[1.0, 2.0]).unwrap();
    assert_eq!(message(model.clone().with_bias(&[0.0; 3])), "biases: expected 2, got 3");
    assert!(matches!(model.clone().with_beta(0.0), Err(Error::Parameter { .. })));
    assert!(matches!(model.clone().with_beta(f64::NAN), Err(Error::Parameter { .. })));
    assert!(matches!(model.clone().with_base_scale(-1.0), Err(Error::Parameter { .. })));
    let based = model.clone().with_base_scale(1.0).unwrap();
    assert!(matches!(based.with_domain(Domain::Sphere), Err(Error::Parameter { .. })));
}

#[test]
fn a_failed_update_leaves_the_model_as_it_was() {
    let mut model = model::<f64>(5, 3, true, Backend::Auto);
    let before = (model.w().to_vec(), model.theta().as_slice().to_vec());
    let error = model.update_parameters(|w, theta, _| {
        w[0] = 1.0;
        theta[7] = f64::NAN;
    });
    assert_eq!(error.unwrap_err().to_string(), "NaN in theta at row 2, column 1");
    assert_eq!((model.w().to_vec(), model.theta().as_slice().to_vec()), before);
}

#[test]
fn shapes_are_checked() {
    let model = model::<f64>(5, 3, false, Backend::Auto);
    let x = normals::<f64>(12, 1);
    let x3 = Rows::new(&x, 4, 3).unwrap();
    let x4 = Rows::new(&x, 3, 4).unwrap();
    let mut four = [0.0; 4];
    assert_eq!(
        message(model.energy(x4, &mut four)),
        "columns of x (the model's dimension): expected 3, got 4"
    );
    assert_eq!(message(model.energy(x3, &mut four[..3])), "energies: expected 4, got 3");
    let mut score = [0.0; 12];
    let transposed = RowsMut::new(&mut score, 3, 4).unwrap();
    assert_eq!(message(model.score(x3, transposed)), "scores: expected 4 x 3, got 3 x 4");
    let mut grad = model.zero_grad();
    assert_eq!(
        message(model.param_grad(x3, Some(&[1.0; 5]), &mut grad)),
        "sample weights: expected 4, got 5"
    );
    assert_eq!(message(model.score_vjp(x3, x4, &mut grad)), "v: expected 4 x 3, got 3 x 4");
    grad.theta.pop();
    assert!(message(model.param_grad(x3, None, &mut grad)).starts_with("parameter gradient"));
    // No rows are no error.
    model.energy(Rows::new(&[], 0, 3).unwrap(), &mut []).unwrap();
    model.param_grad(Rows::new(&[], 0, 3).unwrap(), None, &mut model.zero_grad()).unwrap();
}

#[test]
fn views_are_checked_without_overflow() {
    let data = [0.0; 10];
    assert!(Rows::new(&data, 5, 2).is_ok());
    assert!(Rows::new(&data, usize::MAX, 2).is_err());
    assert!(Rows::new(&data, usize::MAX / 2 + 1, 4).is_err());
    assert!(Rows::with_stride(&data, 3, 2, 4).is_ok());
    assert!(Rows::with_stride(&data, 3, 3, 4).is_err());
    assert!(Rows::with_stride(&data, 2, 3, 2).is_err());
    assert!(Rows::with_stride(&data, usize::MAX, 1, usize::MAX).is_err());
    assert!(Rows::with_stride(&data, 2, 1, usize::MAX).is_err());
}

#[test]
fn a_nan_stays_in_its_row() {
    for &backend in BACKENDS {
        let (n, d) = (60, 5);
        let model = model::<f64>(130, d, true, backend);
        let mut x = normals::<f64>(n * d, 4);
        let evaluate = |x: &[f64]| {
            let (mut energy, mut score) = (vec![0.0; n], vec![0.0; n * d]);
            let score_rows = RowsMut::new(&mut score, n, d).unwrap();
            let x = Rows::new(x, n, d).unwrap();
            model.potential_score(x, Some(&mut energy), Some(score_rows)).unwrap();
            (energy, score)
        };
        let (energy, score) = evaluate(&x);
        x[17 * d + 2] = f64::NAN;
        let (with_nan, score_with_nan) = evaluate(&x);
        for i in 0..n {
            let score_rows = (&score[i * d..][..d], &score_with_nan[i * d..][..d]);
            if i == 17 {
                assert!(with_nan[i].is_nan() && score_rows.1.iter().all(|s| s.is_nan()));
            } else {
                assert_eq!((with_nan[i], score_rows.1), (energy[i], score_rows.0), "row {i}");
            }
        }
    }
}

#[test]
fn points_off_the_sphere_are_reported() {
    let model = model::<f64>(4, 2, false, Backend::Auto).with_domain(Domain::Sphere).unwrap();
    let x = [1.0, 0.0, 0.6, 0.9];
    let mut score = [0.0; 4];
    let error =
        message(model.score(Rows::new(&x, 2, 2).unwrap(), RowsMut::new(&mut score, 2, 2).unwrap()));
    assert!(error.starts_with("row 1 of x has norm 1.08"), "{error}");
    let x = Rows::new(&x, 2, 2).unwrap();
    assert_eq!(message(model.score_vjp(x, x, &mut model.zero_grad())), error);
}

/// Found by fuzzing: numbers were written out in full, with hundreds of digits.
#[test]
fn messages_are_short() {
    let flat = model::<f64>(4, 2, false, Backend::Auto);
    let based = flat.clone().with_base_scale(1.0).unwrap();
    let sphere = flat.clone().with_domain(Domain::Sphere).unwrap();
    let far = [1e150, 0.0];
    let far = Rows::new(&far, 1, 2).unwrap();
    let sampler = Sampler::<f64>::ula(1e300);
    let asymmetric = [1.0, 1e-300, -1e300, 1.0];
    let asymmetric = Rows::new(&asymmetric, 2, 2).unwrap();
    for message in [
        message(sampler.clone().build(&based).unwrap().run(&based, 9)),
        message(sampler.bounds(1e300, -1e300).build(&flat)),
        message(sphere.potential_score(far, Some(&mut [0.0]), None)),
        message(SteinKernel::imq(1.0, -0.5).unwrap().with_metric(asymmetric)),
        message(flat.clone().with_beta(-1e300)),
    ] {
        assert!(message.len() < 150, "{message}");
    }
    // A text that was given is shown by its beginning, on one line.
    let message = message("a\nb".repeat(1000).parse::<Domain>());
    assert!(message.len() < 250 && !message.contains('\n'), "{message}");
}

#[test]
fn teachers_keep_to_their_streams_and_see_far_students() {
    let teacher = Teacher::<f64>::named("j1w2", 4, 0).unwrap();
    assert!(message(teacher.sample(3, 0, 512)).contains("below 512"));
    assert_eq!(teacher.sample(3, 0, 511).unwrap().len(), 12);
    // Weights below any number.
    let student = ReluEnergy::new(teacher.model().theta(), &[1e5]).unwrap();
    let student = student.with_domain(Domain::Sphere).unwrap();
    let kl = teacher.kl_to(&student, 1000, 0).unwrap();
    assert!(kl > 1e4 && kl < 1e5, "{kl}");
    // And weights whose logarithms differ by more than a number.
    let theta = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0];
    let student = ReluEnergy::new(Rows::new(&theta, 2, 4).unwrap(), &[1.7e308, -1.7e308]).unwrap();
    let student = student.with_domain(Domain::Sphere).unwrap().with_beta(2.0).unwrap();
    assert!(message(teacher.kl_to(&student, 1000, 0)).contains("too large"));
}

#[test]
fn energies_that_overflow_have_no_normaliser() {
    let theta = [1e30, -1e30_f32];
    let model = ReluEnergy::new(Rows::new(&theta, 2, 1).unwrap(), &[1e30, -1e30]).unwrap();
    let model = model.with_base_scale(1.0).unwrap();
    let error = message(normaliser::importance_sampling(&model, 50, 0, 0));
    assert!(error.contains("log Z"), "{error}");
    // Infinity less infinity.
    let theta = [3e38, 3e38_f32];
    let model = ReluEnergy::new(Rows::new(&theta, 2, 1).unwrap(), &[1.0, -1.0]).unwrap();
    let model = model.with_base_scale(1.0).unwrap();
    let error = message(normaliser::importance_sampling(&model, 50, 0, 0));
    assert!(error.contains("log Z") && error.contains("NaN"), "{error}");
    // Found by fuzzing: nor a cross-entropy.
    let model = ReluEnergy::new(Rows::new(&[1.0], 1, 1).unwrap(), &[1.0]).unwrap();
    let model = model.with_base_scale(1.0).unwrap();
    let log_z = normaliser::importance_sampling(&model, 50, 0, 0).unwrap();
    let error = message(cross_entropy(&model, Rows::new(&[1.7e308; 2], 2, 1).unwrap(), &log_z));
    assert!(error.starts_with("cross-entropy must be finite"), "{error}");
}

#[test]
fn what_belongs_to_another_model_is_refused() {
    let teacher = Teacher::<f64>::named("j1w2", 4, 0).unwrap();
    let flat = model::<f64>(4, 2, false, Backend::Auto);
    let [narrow, wide] = [1.0, 3.0].map(|s| flat.clone().with_base_scale(s).unwrap());
    let sphere = flat.clone().with_domain(Domain::Sphere).unwrap();
    // Twice as many rows of half the length would fit.
    assert!(message(teacher.kl_to(&sphere, 1000, 0)).contains("dimension"));
    let other = model::<f64>(4, 4, false, Backend::Auto).with_base_scale(1.0).unwrap();
    assert!(message(teacher.kl_to(&other, 1000, 0)).contains("sphere"));
    let mut chains = IndependenceMetropolis::new(&narrow, 5, 0).unwrap();
    assert!(message(chains.run(&wide, 1)).contains("base probability"));
    assert!(message(chains.run(&sphere, 1)).contains("base probability"));
    let log_z = normaliser::importance_sampling(&sphere, 100, 0, 0).unwrap();
    for x in [[3.0, 4.0], [f64::NAN, 0.0]] {
        let x = Rows::new(&x, 1, 2).unwrap();
        message(cross_entropy(&sphere, x, &log_z));
    }
    let (mut empty, mut torn) = (log_z.clone(), log_z);
    empty.weights.clear();
    assert!(message(empty.resample(3, 0)).contains("must not be zero"));
    torn.points.remove(0);
    message(torn.resample(3, 0));
}

#[test]
fn neurons_of_any_length_have_a_direction() {
    let teacher = Teacher::<f32>::named("j1w2", 4, 0).unwrap();
    let direction = teacher.model().theta().as_slice();
    for scale in [1e-30_f32, 1e-18, 1.0, 1e30] {
        let theta: Vec<f32> = direction.iter().map(|x| scale * x).collect();
        let student = ReluEnergy::new(Rows::new(&theta, 1, 4).unwrap(), &[1.0]).unwrap();
        let cosine = teacher.max_cosine(&student).unwrap();
        assert!((0.999999..=1.0).contains(&cosine), "{scale}: {cosine}");
    }
    let nothing = ReluEnergy::new(Rows::new(&[0.0_f32; 4], 1, 4).unwrap(), &[1.0]).unwrap();
    assert_eq!(teacher.max_cosine(&nothing).unwrap(), 0.0);
}

#[test]
fn scales_whose_squares_are_no_numbers_are_refused() {
    let flat = model::<f64>(4, 2, false, Backend::Auto);
    for scale in [1e-200, 1e-160, 1e200, f64::NAN, -1.0] {
        assert!(message(flat.clone().with_base_scale(scale)).contains("base scale"));
        if !(scale > 0.0) {
            message(normaliser::base_samples(Base::Gaussian(scale), 3, 2, 0, 0));
        }
    }
    let x = [1e-200, 0.0];
    let x = Rows::new(&x, 1, 2).unwrap();
    assert!(message(Gram::new(&SteinKernel::arc_cosine(), x, x)).contains("squared norm"));
}

#[test]
fn nothing_done_is_nothing_reported() {
    let based = model::<f64>(4, 2, false, Backend::Auto).with_base_scale(1.0).unwrap();
    let mut chains = Sampler::mala(0.1).chains(5).build(&based).unwrap();
    for report in [
        chains.run(&based, 0).unwrap(),
        chains.warm_up(&based, 0).unwrap(),
        chains.run_adapting(&based, 0).unwrap(),
        IndependenceMetropolis::new(&based, 5, 0).unwrap().run(&based, 0).unwrap(),
    ] {
        assert_eq!(report.acceptance, None);
    }
    assert_eq!(chains.step(), 0.1);
    let one = normaliser::importance_sampling(&based, 1, 0, 0).unwrap();
    assert!(one.std_error.is_nan(), "the spread of one weight: {}", one.std_error);
    Stream::new(0, 0).fill_sphere::<f64>(&mut []);
    let nowhere = normaliser::base_samples(Base::<f64>::Sphere, usize::MAX, 0, 0, 0);
    assert!(message(nowhere).contains("must not be zero"));
}

#[test]
fn a_start_has_a_finite_scale() {
    let model = model::<f64>(4, 2, false, Backend::Auto);
    for scale in [f64::NAN, f64::INFINITY, -1.0] {
        let sampler = Sampler::mala(0.1).start(Start::Gaussian(scale));
        assert!(message(sampler.build(&model)).starts_with("scale of the start must be"));
    }
}

#[test]
fn training_rejects_bad_data_and_options() {
    let teacher = Teacher::<f64>::named("j1w2", 4, 0).unwrap();
    let data = teacher.sample(20, 0, 0).unwrap();
    let x = Rows::new(&data, 20, 4).unwrap();
    let train =
        |x: Rows<'_, f64>, options: TrainOptions| message(fit(x, x, &options, |_, _| Ok(())));
    let options = || TrainOptions { neurons: 5, iterations: 1, ..TrainOptions::default() };
    assert!(train(x, TrainOptions { neurons: 0, ..options() }).contains("neurons"));
    assert!(train(x, TrainOptions { evaluate_every: 0, ..options() }).contains("evaluations"));
    assert!(train(x, TrainOptions { patience: Some(0), ..options() }).contains("patience"));
    // Which L-BFGS would not look at.
    let lbfgs = || TrainOptions {
        optimiser: Optimiser::Lbfgs,
        regime: Regime::F2,
        estimator: Estimator::Ksd { bandwidth: None, statistic: Statistic::V },
        ..options()
    };
    let given = TrainOptions { learning_rate: Some(0.1), ..lbfgs() };
    assert!(train(x, given).contains("learning rate must be absent"));
    let given = TrainOptions { decay: Some(0.1), ..lbfgs() };
    assert!(train(x, given).contains("decay must be absent"));
    let rate = TrainOptions { learning_rate: Some(-1.0), ..options() };
    assert!(train(x, rate).contains("learning rate"));
    let scale = TrainOptions { base_scale: Some(1.0), ..options() };
    assert!(train(x, scale).contains("base scale"));
    assert!(train(Rows::new(&[], 0, 4).unwrap(), options()).contains("must not be zero"));
    let off = [0.5; 80];
    assert_eq!(
        train(Rows::new(&off, 40, 2).unwrap(), options()),
        "row 0 of training data has norm 0.7071067811865476, not 1 as on the unit sphere: \
         normalise the rows first"
    );
    let mut bad = data.clone();
    bad[9] = f64::INFINITY;
    assert!(
        train(Rows::new(&bad, 20, 4).unwrap(), options()).contains("inf in training data at row 2")
    );
    assert!(message(Teacher::<f64>::named("j9", 4, 0)).contains("j1w10"));
    // In R^d a constant zero has no scale.
    let zero = [0.0; 8];
    for negative in [
        NegativePhase::Bank { size: 0 },
        NegativePhase::Persistent { chains: 3, steps: 0, restart: 0.1 },
        NegativePhase::Contrastive { chains: 0, steps: 3 },
        NegativePhase::Independence { chains: 3, steps: 0 },
        NegativePhase::Jarzynski { chains: 0 },
    ] {
        let estimator = Estimator::MaximumLikelihood { negative };
        assert!(train(x, TrainOptions { estimator, ..options() }).contains("must not be zero"));
    }
    // An option, although it is first used after the start.
    let negative = NegativePhase::Bank { size: usize::MAX };
    let estimator = Estimator::MaximumLikelihood { negative };
    let error = fit(x, x, &TrainOptions { estimator, ..options() }, |_, _| Ok(())).unwrap_err();
    assert!(!error.is_divergence() && error.to_string().contains("memory"), "{error}");
    let not_convex = TrainOptions {
        estimator: Estimator::Ksd { bandwidth: None, statistic: Statistic::U },
        regime: Regime::F2,
        optimiser: Optimiser::Lbfgs,
        ..options()
    };
    assert!(train(x, not_convex).contains("not convex"));
    let euclidean = TrainOptions { domain: Domain::Euclidean, ..options() };
    // Found by fuzzing: units so small that parameters in them overflow.
    for scale in [1e-310, 1e200] {
        let options = TrainOptions { base_scale: Some(scale), ..euclidean.clone() };
        assert!(train(x, options).contains("base scale"));
    }
    assert!(train(Rows::new(&zero, 4, 2).unwrap(), euclidean).contains("base scale"));
}

#[test]
fn divergence_is_an_error_that_says_what_blew_up() {
    let teacher = Teacher::<f64>::named("j1w10", 5, 0).unwrap();
    let data = teacher.sample(100, 0, 0).unwrap();
    let x = Rows::new(&data, 100, 5).unwrap();
    let options = TrainOptions {
        neurons: 20,
        iterations: 200,
        learning_rate: Some(1e3),
        ..TrainOptions::default()
    };
    let error = fit(x, x, &options, |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    assert!(error.to_string().contains("cross-entropy is"), "{error}");
    // Chains that are lost are the fault of the model's steps, not of theirs.
    let points: Vec<f64> = normals(200, 0);
    let x = Rows::new(&points, 100, 2).unwrap();
    let options = TrainOptions { domain: Domain::Euclidean, learning_rate: Some(1e300), ..options };
    let error = fit(x, x, &options, |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
}

#[test]
fn a_model_without_base_has_no_normaliser() {
    let model = model::<f64>(4, 2, false, Backend::Auto);
    let error = message(normaliser::log_z(&model, 0));
    assert!(error.contains("base scale"), "{error}");
}

#[test]
fn patience_ends_training() {
    let teacher = gibbsite::teacher::Teacher::<f64>::named("j1w2", 4, 0).unwrap();
    let (train, validation) =
        (teacher.sample(30, 0, 0).unwrap(), teacher.sample(500, 0, 1).unwrap());
    let rows = |x| Rows::new(x, <[f64]>::len(x) / 4, 4).unwrap();
    let options = TrainOptions {
        neurons: 20,
        iterations: 2_000,
        patience: Some(40),
        ..TrainOptions::default()
    };
    // Few points, so the model soon fits their noise.
    let trained = fit(rows(&train), rows(&validation), &options, |_, _| Ok(())).unwrap();
    let last = trained.history.last().unwrap();
    assert_eq!(last.iteration, trained.best.iteration + 40);
    assert!(last.iteration < 2_000);
}

#[test]
fn the_model_that_is_kept_is_the_iterate_that_was_chosen() {
    let teacher = gibbsite::teacher::Teacher::<f64>::named("j1w10", 4, 0).unwrap();
    let (train, validation) =
        (teacher.sample(40, 0, 0).unwrap(), teacher.sample(500, 0, 1).unwrap());
    let rows = |x| Rows::new(x, <[f64]>::len(x) / 4, 4).unwrap();
    let options = TrainOptions { neurons: 20, iterations: 300, ..TrainOptions::default() };
    let mut seen = Vec::new();
    let trained = fit(rows(&train), rows(&validation), &options, |record, model| {
        seen.push((record.clone(), model.theta().as_slice().to_vec()));
        Ok(())
    })
    .unwrap();
    // Snapshots are copies: no two of them are the same, and the best is neither the first nor the last.
    let best = seen.iter().position(|(record, _)| *record == trained.best).unwrap();
    assert!(best > 0 && best + 1 < seen.len(), "{best}");
    assert_eq!(seen[best].1, trained.model.theta().as_slice());
    for pair in seen.windows(2) {
        assert_ne!(pair[0].1, pair[1].1);
    }
    for (record, _) in &seen {
        assert!(record.validation_cross_entropy >= trained.best.validation_cross_entropy);
    }
}
