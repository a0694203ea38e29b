//! The safe API: models, both backends, domains, an energy of our own, and errors as values.

use gibbsite::{Backend, Domain, Energy, Error, Isa, Real, ReluEnergy, Result, Rows, RowsMut};

// The model and points of `kernels.rs`; β = 2 and s = 2 keep every number exact.
const THETA: [f64; 4] = [1.0, 0.0, 1.0, 1.0];
const WEIGHTS: [f64; 2] = [3.0, -1.0];
const BIAS: [f64; 2] = [-1.0, 2.0];
const X: [f64; 8] = [2.0, 5.0, -1.0, 4.0, -3.0, -4.0, 0.0, 1.0];

pub fn run() -> Result<()> {
    for backend in [Backend::Auto, Backend::Fused, Backend::Faer] {
        for isa in Isa::available() {
            check::<f32>(isa, backend)?;
            check::<f64>(isa, backend)?;
        }
        println!("models by {backend}: energy, score and parameter gradients agree");
    }
    on_the_sphere()?;
    energies_are_open()?;
    errors();
    println!("sphere, own energies and errors behave");
    Ok(())
}

fn check<T: Real>(isa: Isa, backend: Backend) -> Result<()> {
    let [theta, w, b, x] = [&THETA[..], &WEIGHTS, &BIAS, &X].map(cast::<T>);
    let x = Rows::new(&x, 4, 2)?;
    let model = ReluEnergy::new(Rows::new(&theta, 2, 2)?, &w)?
        .with_isa(isa)
        .with_backend(backend)
        .with_bias(&b)?;
    assert_eq!((model.neurons(), model.dim(), model.isa()), (2, 2, isa));

    let (mut energy, mut score) = (vec![T::ONE; 4], vec![T::ONE; 8]);
    model.energy(x, &mut energy)?;
    model.score(x, RowsMut::new(&mut score, 4, 2)?)?;
    assert_eq!(energy, cast(&[-3.0, -2.5, 0.0, -1.5]));
    assert_eq!(score, cast(&[-1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]));

    let r: Vec<T> = cast(&[1.0, -2.0, 3.0, 4.0]);
    let mut grad = model.zero_grad();
    model.param_grad(x, Some(&r), &mut grad)?;
    assert_eq!(grad.w, cast(&[0.5, 5.5]));
    assert_eq!(grad.theta, cast(&[3.0, 7.5, -2.0, -0.5]));
    assert_eq!(grad.bias, Some(cast(&[1.5, -1.5])));

    // U(x) = β f(x) + |x|²/(2s²)
    let model = model.with_beta(T::from_f64(2.0))?.with_base_scale(T::from_f64(2.0))?;
    model.potential_score(x, Some(&mut energy), Some(RowsMut::new(&mut score, 4, 2)?))?;
    assert_eq!(energy, cast(&[-2.375, -2.875, 3.125, -2.875]));
    assert_eq!(score, cast(&[-2.5, -0.25, 1.25, 0.0, 0.75, 1.0, 1.0, 0.75]));

    // A NaN stays in its row.
    let mut spoilt = cast::<T>(&X);
    spoilt[3] = T::from_f64(f64::NAN);
    model.energy(Rows::new(&spoilt, 4, 2)?, &mut energy)?;
    assert!(energy[1].to_f64().is_nan());
    assert_eq!([energy[0], energy[2], energy[3]].to_vec(), cast(&[-3.0, 0.0, -1.5]));
    Ok(())
}

/// On the sphere the score is tangential, and points off it are refused.
fn on_the_sphere() -> Result<()> {
    let model = ReluEnergy::new(Rows::new(&THETA, 2, 2)?, &WEIGHTS)?.with_domain(Domain::Sphere)?;
    let mut score = [9.0; 4];
    let x = [1.0, 0.0, 0.0, -1.0];
    model.score(Rows::new(&x, 2, 2)?, RowsMut::new(&mut score, 2, 2)?)?;
    assert_eq!(score, [0.0, 0.5, 0.0, 0.0]);

    let refused = model.score(Rows::new(&[3.0, 4.0], 1, 2)?, RowsMut::new(&mut [0.0; 2], 1, 2)?);
    assert!(matches!(refused, Err(Error::OffSphere { row: 0, .. })), "{refused:?}");
    Ok(())
}

/// U(x) = Σ_k |x_k|, which is no ReLU energy of this library's.
struct Laplace(usize);

impl<T: Real> Energy<T> for Laplace {
    fn dim(&self) -> usize {
        self.0
    }

    fn potential_score(
        &self,
        x: Rows<'_, T>,
        mut potential: Option<&mut [T]>,
        mut score: Option<RowsMut<'_, T>>,
    ) -> Result<()> {
        for (i, x) in x.iter().enumerate() {
            if let Some(potential) = &mut potential {
                potential[i] =
                    x.iter().fold(T::ZERO, |sum, &x| sum + if x < T::ZERO { -x } else { x });
            }
            if let Some(score) = &mut score {
                for (score, &x) in score.row_mut(i).iter_mut().zip(x) {
                    *score = if x < T::ZERO { T::ONE } else { -T::ONE };
                }
            }
        }
        Ok(())
    }
}

/// The trait is open, and made for trait objects.
fn energies_are_open() -> Result<()> {
    let relu = ReluEnergy::new(Rows::new(&THETA, 2, 2)?, &WEIGHTS)?;
    let energies: [(&dyn Energy<f64>, _); 2] =
        [(&Laplace(2), [7.0, 5.0, 7.0, 1.0]), (&relu, [-0.5, -1.5, 0.0, -0.5])];
    for (energy, expected) in energies {
        assert_eq!((energy.dim(), energy.domain()), (2, Domain::Euclidean));
        let mut potential = [0.0; 4];
        energy.potential_score(Rows::new(&X, 4, 2)?, Some(&mut potential), None)?;
        assert_eq!(potential, expected);
    }
    Ok(())
}

/// Bad input is an error of one readable line, never a panic.
fn errors() {
    let theta = Rows::new(&THETA, 2, 2).unwrap();
    let model = ReluEnergy::new(theta, &WEIGHTS).unwrap();
    let wrong = [
        ReluEnergy::new(theta, &WEIGHTS[..1]).map(drop),
        ReluEnergy::new(theta, &[1.0, f64::NAN]).map(drop),
        ReluEnergy::new(Rows::<f64>::new(&[], 0, 2).unwrap(), &[]).map(drop),
        model.clone().with_bias(&[1.0]).map(drop),
        model.clone().with_base_scale(0.0).map(drop),
        model.clone().with_beta(f64::INFINITY).map(drop),
        model.energy(Rows::new(&X, 4, 2).unwrap(), &mut [0.0; 3]),
        model.energy(Rows::new(&X, 2, 4).unwrap(), &mut [0.0; 2]),
        Rows::new(&X, 3, 3).map(drop).map_err(Error::from),
        Rows::with_stride(&X, usize::MAX, 2, usize::MAX).map(drop).map_err(Error::from),
    ];
    for (i, result) in wrong.into_iter().enumerate() {
        let error: Box<dyn std::error::Error + Send + Sync> = result.expect_err("refused").into();
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "case {i}: {text:?}");
    }
}

fn cast<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}
