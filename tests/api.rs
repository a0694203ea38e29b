//! Wrong input gives a typed, readable error: never a panic, never a silent number.

mod common;

use common::{BACKENDS, model, normals};
use gibbsite::{
    Backend, Domain, Energy, Error, ReluEnergy, Rows, RowsMut, normaliser,
    teacher::Teacher,
    train::{TrainOptions, fit},
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
    let euclidean = TrainOptions { domain: Domain::Euclidean, ..options() };
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
