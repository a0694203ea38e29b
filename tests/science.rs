//! The numbers are right: gradients against differences, samplers and normalisers against exact
//! targets, training against the known result.

mod common;

use common::{model, normals};
use gibbsite::{
    Backend, Domain, Energy, ReluEnergy, Result, Rows, RowsMut,
    normaliser::{self, Base, base_samples},
    sampler::{IndependenceMetropolis, Sampler, Start},
    teacher::{self, Teacher},
    train::{
        Checkpoint, Critic, Estimator, NegativePhase, Regime, TrainOptions, Training,
        cross_entropy, fit,
    },
};

#[test]
fn a_base_adds_half_the_squared_distance_in_its_units() {
    let theta = [1.0, -1.0];
    let model = ReluEnergy::new(Rows::new(&theta, 1, 2).unwrap(), &[0.0]).unwrap();
    let model = model.with_base_scale(2.0).unwrap();
    let (mut potential, mut score) = ([0.0], [0.0; 2]);
    let (x, out) = (Rows::new(&[3.0, -1.0], 1, 2), RowsMut::new(&mut score, 1, 2));
    model.potential_score(x.unwrap(), Some(&mut potential), Some(out.unwrap())).unwrap();
    assert_eq!((potential, score), ([10.0 / 8.0], [-3.0 / 4.0, 1.0 / 4.0]));
}

#[test]
fn score_is_the_gradient_of_minus_the_potential() {
    let d = 6;
    let euclidean = model::<f64>(40, d, true, Backend::Auto)
        .with_base_scale(1.7)
        .unwrap()
        .with_beta(0.6)
        .unwrap();
    let sphere = model::<f64>(40, d, true, Backend::Auto).with_domain(Domain::Sphere).unwrap();
    for model in [euclidean, sphere] {
        let mut x = normals::<f64>(d, 7);
        if model.domain() == Domain::Sphere {
            let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
            x.iter_mut().for_each(|x| *x /= norm);
        }
        let mut score = vec![0.0; d];
        let rows = Rows::new(&x, 1, d).unwrap();
        model.score(rows, RowsMut::new(&mut score, 1, d).unwrap()).unwrap();
        // Along a curve in the domain, by a central difference.
        let mut direction = normals::<f64>(d, 8);
        if model.domain() == Domain::Sphere {
            let normal: f64 = direction.iter().zip(&x).map(|(v, x)| v * x).sum();
            direction.iter_mut().zip(&x).for_each(|(v, x)| *v -= normal * x);
        }
        let along = |t: f64| {
            let mut y: Vec<f64> = x.iter().zip(&direction).map(|(x, v)| x + t * v).collect();
            if model.domain() == Domain::Sphere {
                let norm = y.iter().map(|y| y * y).sum::<f64>().sqrt();
                y.iter_mut().for_each(|y| *y /= norm);
            }
            let mut potential = [0.0];
            model
                .potential_score(Rows::new(&y, 1, d).unwrap(), Some(&mut potential), None)
                .unwrap();
            potential[0]
        };
        let h = 1e-6;
        let difference = (along(h) - along(-h)) / (2.0 * h);
        let inner: f64 = score.iter().zip(&direction).map(|(s, v)| s * v).sum();
        assert!((inner + difference).abs() < 1e-7, "{inner} against {}", -difference);
    }
}

/// p ∝ exp(κ x_d) on the sphere: von Mises and Fisher's law.
struct VonMisesFisher {
    kappa: f64,
    dim: usize,
}

impl Energy<f64> for VonMisesFisher {
    fn dim(&self) -> usize {
        self.dim
    }
    fn domain(&self) -> Domain {
        Domain::Sphere
    }
    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        mut potential: Option<&mut [f64]>,
        mut score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        for (i, x) in x.iter().enumerate() {
            let top = x[self.dim - 1];
            if let Some(potential) = &mut potential {
                potential[i] = -self.kappa * top;
            }
            if let Some(score) = &mut score {
                let score = score.row_mut(i);
                score.iter_mut().zip(x).for_each(|(s, x)| *s = -self.kappa * top * x);
                score[self.dim - 1] += self.kappa;
            }
        }
        Ok(())
    }
}

#[test]
fn geodesic_mala_is_exact_on_the_sphere() {
    // E[x_d] = I_{5/2}(4) / I_{3/2}(4) for kappa = 4, d = 5, from the closed forms of half-integer Bessel functions.
    let (sinh, cosh) = (4f64.sinh(), 4f64.cosh());
    let i_three_halves = cosh - sinh / 4.0;
    let i_five_halves = sinh * (1.0 + 3.0 / 16.0) - 3.0 * cosh / 4.0;
    let exact = i_five_halves / i_three_halves;
    assert!((exact - 0.582).abs() < 1e-3);
    let energy = VonMisesFisher { kappa: 4.0, dim: 5 };
    // Many chains from the uniform law: the spread of their time averages gives the standard error.
    let chains = 2000;
    let start = base_samples(Base::Sphere, chains, 5, 1, 0).unwrap();
    let start = Rows::new(&start, chains, 5).unwrap();
    for step in [0.05, 0.15, 0.4] {
        let sampler = Sampler::mala(step).seed(9).start(Start::Points(start));
        let mut sampler = sampler.build(&energy).unwrap();
        sampler.run(&energy, 200).unwrap();
        let mut means = vec![0.0; chains];
        let rounds = 100;
        for _ in 0..rounds {
            sampler.run(&energy, 2).unwrap();
            for (mean, x) in means.iter_mut().zip(sampler.states().iter()) {
                *mean += x[4] / f64::from(rounds);
            }
        }
        let mean = means.iter().sum::<f64>() / chains as f64;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / chains as f64;
        let error = (variance / chains as f64).sqrt();
        assert!((mean - exact).abs() < 4.0 * error, "{mean} ± {error} against {exact}");
        assert!(error < 2e-3);
    }
}

/// A standard Gaussian.
struct Gaussian;

impl Energy<f64> for Gaussian {
    fn dim(&self) -> usize {
        1
    }
    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        mut potential: Option<&mut [f64]>,
        mut score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        for (i, x) in x.iter().enumerate() {
            if let Some(potential) = &mut potential {
                potential[i] = 0.5 * x[0] * x[0];
            }
            if let Some(score) = &mut score {
                score.row_mut(i)[0] = -x[0];
            }
        }
        Ok(())
    }
}

#[test]
fn langevin_has_its_known_stationary_variance() {
    // ULA on N(0, 1) has variance 1 / (1 - h/2); MALA has 1.
    let chains = 20_000;
    for (h, metropolis) in [(0.1, false), (0.5, false), (1.0, false), (0.5, true), (1.0, true)] {
        let start = normals::<f64>(chains, 30);
        let start = Rows::new(&start, chains, 1).unwrap();
        let sampler = if metropolis { Sampler::mala(h) } else { Sampler::ula(h) };
        let mut sampler = sampler.seed(4).start(Start::Points(start)).build(&Gaussian).unwrap();
        sampler.run(&Gaussian, 60).unwrap();
        let mut variance = 0.0;
        let rounds = 20;
        for _ in 0..rounds {
            sampler.run(&Gaussian, 10).unwrap();
            let squares = sampler.states().iter().map(|x| x[0] * x[0]);
            variance += squares.sum::<f64>() / (chains * rounds) as f64;
        }
        let exact = if metropolis { 1.0 } else { 1.0 / (1.0 - h / 2.0) };
        // 4e5 draws, correlated by less than a factor of 4.
        let bound = 5.0 * exact * (2.0 * 4.0 / 4e5f64).sqrt();
        assert!((variance - exact).abs() < bound, "h = {h}: {variance} against {exact}");
    }
}

#[test]
fn normaliser_of_one_neuron_is_known() {
    // f(x) = w max(θ x, 0) under N(0, s²): Z = 1/2 + exp(a²/2) Φ(-a), a = w θ s.
    let (w, theta, s) = (1.5, 0.8, 1.3);
    let model = ReluEnergy::new(Rows::new(&[theta], 1, 1).unwrap(), &[w])
        .unwrap()
        .with_base_scale(s)
        .unwrap();
    let a = w * theta * s;
    let phi = 0.5 * libm::erfc(a / std::f64::consts::SQRT_2);
    let exact = (0.5 + (0.5 * a * a).exp() * phi).ln();
    let direct = normaliser::importance_sampling(&model, 100_000, 1, 0).unwrap();
    assert!((direct.value - exact).abs() < 5.0 * direct.std_error, "{direct:?}");
    assert!(direct.std_error < 3e-3);
    let annealed = normaliser::annealed(&model, 2000, 50, 1, 0).unwrap();
    assert!((annealed.value - exact).abs() < 5.0 * annealed.std_error);
    assert!(annealed.std_error < 0.01);
    // The weighted points are samples of the model: their mean energy is -d log Z / dβ.
    let mean = |points: &[f64]| {
        points.iter().map(|x| w * (theta * x).max(0.0)).sum::<f64>() / points.len() as f64
    };
    let h = 1e-4;
    let log_z = |beta: f64| {
        let a = a * beta;
        (0.5 + (0.5 * a * a).exp() * 0.5 * libm::erfc(a / std::f64::consts::SQRT_2)).ln()
    };
    let expected = -(log_z(1.0 + h) - log_z(1.0 - h)) / (2.0 * h);
    for estimate in [direct, annealed] {
        let got = mean(&estimate.resample(20_000, 3).unwrap());
        assert!((got - expected).abs() < 0.03, "{got} against {expected}");
    }
}

#[test]
fn teachers_and_independence_chains_draw_from_the_model() {
    for (name, _) in teacher::NAMES {
        let d = 6;
        let teacher = Teacher::<f64>::named(name, d, 12).unwrap();
        let mean_energy = |points: &[f64]| {
            let n = points.len() / d;
            let mut energy = vec![0.0; n];
            teacher.model().energy(Rows::new(points, n, d).unwrap(), &mut energy).unwrap();
            energy.iter().sum::<f64>() / n as f64
        };
        let weighted = normaliser::importance_sampling(teacher.model(), 200_000, 2, 0).unwrap();
        let expected = mean_energy(&weighted.resample(100_000, 2).unwrap());
        let rejection = mean_energy(&teacher.sample(20_000, 1, 0).unwrap());
        let mut chains = IndependenceMetropolis::new(teacher.model(), 5000, 3).unwrap();
        let acceptance = chains.run(teacher.model(), 100).unwrap().acceptance.unwrap();
        assert!(acceptance > 0.05 && acceptance < 1.0);
        let independence = mean_energy(chains.states().as_slice());
        // Energies have standard deviations below 1.2 under all five teachers.
        assert!((rejection - expected).abs() < 5.0 * 1.2 / 141.0, "{name}: {rejection}");
        assert!((independence - expected).abs() < 5.0 * 1.2 / 70.0, "{name}: {independence}");
    }
}

#[test]
fn kl_to_the_teacher_itself_is_zero_and_to_the_uniform_law_known() {
    let teacher = Teacher::<f64>::named("j1w10", 15, 0).unwrap();
    assert_eq!(teacher.kl_to(teacher.model(), 20_000, 1).unwrap(), 0.0);
    assert_eq!(teacher.max_cosine(teacher.model()).unwrap(), 1.0);
    let nothing = ReluEnergy::new(teacher.model().theta(), &[0.0]).unwrap();
    let nothing = nothing.with_domain(Domain::Sphere).unwrap();
    // 0.281 for this teacher in d = 15.
    let kl = teacher.kl_to(&nothing, 200_000, 1).unwrap();
    assert!((kl - 0.281).abs() < 0.01, "{kl}");
}

/// The first step of training must go along the gradient of a loss, whose slopes in random directions come from differences.
/// `neurons` is how much larger the rate of neurons is.
fn first_step_follows(
    options: &TrainOptions,
    neurons: f64,
    x: Rows<'_, f64>,
    tolerance: f64,
    loss: impl Fn(&ReluEnergy<f64>, &Checkpoint) -> f64,
) {
    let (d, rate) = (x.cols(), 1e-3);
    let options = TrainOptions {
        neurons: 6,
        iterations: 1,
        evaluate_every: 1,
        learning_rate: Some(rate),
        // Far from f = 0, where the law is the base.
        initial_variance: 1.5,
        // Parameters are then in the units in which they are trained.
        base_scale: (options.domain == Domain::Euclidean).then_some((d as f64).sqrt().recip()),
        ..options.clone()
    };
    let mut run = Training::new(x, x, &options).unwrap();
    let (_, before) = run.next_evaluation().unwrap().unwrap();
    let (_, after) = run.next_evaluation().unwrap().unwrap();
    let checkpoint = run.checkpoint();
    let parameters = |model: &ReluEnergy<f64>| {
        [model.w(), model.theta().as_slice(), model.bias().unwrap_or_default()].concat()
    };
    let m = before.neurons();
    let steps = parameters(&before).into_iter().zip(parameters(&after)).enumerate();
    let gradient: Vec<f64> = steps
        .map(|(k, (before, after))| {
            (before - after) / (rate * m as f64 * if k < m { 1.0 } else { neurons })
        })
        .collect();
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    for stream in 30..34 {
        let along = normals::<f64>(gradient.len(), stream);
        let at = |t: f64| {
            let mut model = before.clone();
            model
                .update_parameters(|w, theta, bias| {
                    let all = w.iter_mut().chain(theta).chain(bias.unwrap_or_default());
                    all.zip(&along).for_each(|(parameter, by)| *parameter += t * by);
                })
                .unwrap();
            loss(&model, &checkpoint)
        };
        let h = 1e-6;
        let slope = (at(h) - at(-h)) / (2.0 * h);
        let found: f64 = gradient.iter().zip(&along).map(|(g, by)| g * by).sum();
        println!("{:?}: {found:.6} for {slope:.6} of {norm:.6}", options.estimator);
        assert!((found - slope).abs() < tolerance * norm, "{options:?}: {found} for {slope}");
    }
}

/// Points of one half of the domain, which are no draws of the base.
fn one_sided(domain: Domain, n: usize, d: usize) -> Vec<f64> {
    let base = if domain == Domain::Sphere { Base::Sphere } else { Base::Gaussian(0.5) };
    let mut x: Vec<f64> = base_samples(base, n, d, 21, 0).unwrap();
    x.chunks_exact_mut(d).for_each(|x| x[0] = x[0].abs());
    x
}

#[test]
fn training_by_the_likelihood_goes_along_its_gradient() {
    const MANY: usize = 200_000;
    let (n, d) = (50, 3);
    let chains = NegativePhase::Independence { chains: MANY / 10, steps: 50 };
    for (domain, negative) in [
        (Domain::Sphere, NegativePhase::Bank { size: MANY }),
        (Domain::Euclidean, NegativePhase::Bank { size: MANY }),
        (Domain::Sphere, chains),
        (Domain::Euclidean, chains),
        (Domain::Euclidean, NegativePhase::Jarzynski { chains: MANY }),
    ] {
        let x = one_sided(domain, n, d);
        let x = Rows::new(&x, n, d).unwrap();
        let options = TrainOptions {
            domain,
            estimator: Estimator::MaximumLikelihood { negative },
            bias: true,
            ..TrainOptions::default()
        };
        // Draws of the base that are others than those of training.
        let loss = |model: &ReluEnergy<f64>, _: &Checkpoint| {
            let log_z = normaliser::importance_sampling(model, MANY, 77, 0).unwrap();
            cross_entropy(model, x, &log_z).unwrap()
        };
        first_step_follows(&options, 100.0, x, 0.04, loss);
    }
}

#[test]
fn training_with_networks_as_critics_goes_along_the_gradient_of_half_the_loss() {
    let (n, d, units) = (60, 3, 5);
    let x = one_sided(Domain::Sphere, n, d);
    let x = Rows::new(&x, n, d).unwrap();
    let critic = Critic::Network { units, steps: 2 };
    let options = TrainOptions { estimator: Estimator::F1Sd { critic }, ..TrainOptions::default() };
    // The critics that the first step had, which count as fixed, and E[(s_i - (d-1) x_i) h + (P ∇h)_i] as it is written.
    let loss = |model: &ReluEnergy<f64>, checkpoint: &Checkpoint| {
        let (w, theta) = (&checkpoint.reals["critics.w"], &checkpoint.reals["critics.theta"]);
        let mut score = vec![0.0; n * d];
        model.score(x, RowsMut::new(&mut score, n, d).unwrap()).unwrap();
        let mut half = 0.0;
        for i in 0..d {
            let mut mean = 0.0;
            for (x, s) in x.iter().zip(score.chunks(d)) {
                for l in i * units..(i + 1) * units {
                    let theta = &theta[l * d..][..d];
                    let z: f64 = x.iter().zip(theta).map(|(x, theta)| x * theta).sum();
                    if z > 0.0 {
                        let curvature = (d - 1) as f64 * x[i];
                        mean += w[l] * ((s[i] - curvature) * z + theta[i] - z * x[i]) / n as f64;
                    }
                }
            }
            half += 0.5 * mean * mean;
        }
        half
    };
    first_step_follows(&options, 25.0, x, 1e-6, loss);
}

#[test]
fn active_training_beats_lazy_training_as_published() {
    let d = 15;
    let kl = |regime, seed| {
        let teacher = Teacher::<f64>::named("j1w10", d, seed).unwrap();
        let train = teacher.sample(1000, seed, 0).unwrap();
        let validation = teacher.sample(10_000, seed, 1).unwrap();
        let options = TrainOptions { regime, seed, ..TrainOptions::default() };
        let trained = fit(
            Rows::new(&train, 1000, d).unwrap(),
            Rows::new(&validation, 10_000, d).unwrap(),
            &options,
            |_, _| Ok(()),
        )
        .unwrap();
        let best = &trained.best;
        let least = trained.history.iter().map(|r| r.validation_cross_entropy);
        assert_eq!(best.validation_cross_entropy, least.fold(f64::INFINITY, f64::min));
        teacher.kl_to(&trained.model, 150_000, 1).unwrap()
    };
    // Three data sets, because KLs of single ones differ by half.
    let (mut active, mut lazy) = (0.0, 0.0);
    for seed in 0..3 {
        let (f1, f2) = (kl(Regime::F1, seed), kl(Regime::F2, seed));
        assert!(f1 <= 0.03, "F1, seed {seed}: {f1}");
        assert!((0.09..=0.16).contains(&f2), "F2, seed {seed}: {f2}");
        active += f1 / 3.0;
        lazy += f2 / 3.0;
    }
    assert!(lazy / active >= 5.0, "F1 {active}, F2 {lazy}");
}

#[test]
fn euclidean_training_finds_a_shifted_gaussian() {
    // Data N(μ, 1) against a base N(0, s²), s² = 1 + |μ|²/d. The best model of this class comes close to the truth, whose
    // cross-entropy relative to the base is known in closed form.
    let (n, d) = (2000, 2);
    let shift = [2.0, -1.0];
    let draw = |stream| {
        let mut x = normals::<f64>(n * d, stream);
        x.iter_mut().enumerate().for_each(|(i, x)| *x += shift[i % d]);
        x
    };
    let (train, validation) = (draw(40), draw(41));
    let x = |x| Rows::new(x, n, d).unwrap();
    for (negative, share) in [
        (NegativePhase::Auto, 0.9),
        (NegativePhase::Persistent { chains: 1000, steps: 10, restart: 0.05 }, 0.9),
        (NegativePhase::Jarzynski { chains: 1000 }, 0.9),
        // Biased: its chains are close to the data.
        (NegativePhase::Contrastive { chains: 1000, steps: 10 }, 0.5),
    ] {
        let options = TrainOptions {
            domain: Domain::Euclidean,
            bias: true,
            neurons: 100,
            iterations: 600,
            estimator: Estimator::MaximumLikelihood { negative },
            ..TrainOptions::default()
        };
        let trained = fit(x(&train), x(&validation), &options, |_, _| Ok(())).unwrap();
        let s2 = trained.model.base_scale().unwrap().powi(2);
        assert!((s2 - 3.5).abs() < 0.2, "{s2}");
        // KL(N(μ, I) | N(0, s² I)) = (d/s² + |μ|²/s² - d + d log s²) / 2 is what the truth gains over the base.
        let gain = 0.5 * (2.0 / s2 + 5.0 / s2 - 2.0 + 2.0 * s2.ln());
        let got = -trained.best.validation_cross_entropy;
        println!("{negative:?}: {got:.4} of {gain:.4}");
        assert!(got > share * gain && got < gain + 0.05, "{negative:?}: {got} of {gain}");
    }
}

#[test]
fn annealing_both_ways_brackets_log_z() {
    let teacher = Teacher::<f64>::named("j4w7.5", 6, 3).unwrap();
    let exact = normaliser::importance_sampling(teacher.model(), 1_000_000, 5, 0).unwrap();
    let bracket = normaliser::bracket(teacher.model(), 4000, 30, 1, 0).unwrap();
    let (lower, upper) = (bracket.lower.value, bracket.upper);
    println!("{lower:.4} to {upper:.4}, by importance sampling {:.4}", exact.value);
    assert!(lower - 4.0 * bracket.lower.std_error < exact.value);
    assert!(upper + 4.0 * bracket.upper_std_error > exact.value);
    assert!((upper - lower).abs() < 0.1);
}

#[test]
fn data_sets_of_a_teacher_are_as_large_as_asked_and_share_no_point() {
    // The teacher whose rejection sampler accepts least, about 7 % in d = 15.
    let d = 15;
    let teacher = Teacher::<f64>::named("j2w-5", d, 12).unwrap();
    let sets: Vec<Vec<f64>> = (0..3).map(|set| teacher.sample(2000, 1, set).unwrap()).collect();
    let mut first: Vec<u64> = Vec::new();
    for set in &sets {
        assert_eq!(set.len(), 2000 * d);
        first.extend(set.chunks(d).map(|x| x[0].to_bits()));
    }
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), 3 * 2000, "points that are there twice");
}

#[test]
fn energies_far_beyond_the_exponential_have_a_log_z() {
    // One neuron of weight ±10^5: exp of it is not finite.
    let theta = [0.6, 0.0, 0.8];
    for w in [1e5, -1e5] {
        let model = ReluEnergy::new(Rows::new(&theta, 1, 3).unwrap(), &[w]).unwrap();
        let model = model.with_domain(Domain::Sphere).unwrap();
        let found = normaliser::importance_sampling(&model, 20_000, 1, 0).unwrap();
        // On the sphere in three dimensions z = θ·x is uniform: Z = ½ + (1 - e^-w)/(2w).
        // Few points come near the top of e^(10^5 z), hence 50 of 10^5.
        let (exact, tolerance) = match w > 0.0 {
            true => (f64::ln(0.5 + 0.5 / w), 0.05),
            false => (-w - f64::ln(-2.0 * w), 50.0),
        };
        let off = (found.value - exact).abs();
        assert!(off < tolerance, "{w}: {} of {exact}", found.value);
    }
}
