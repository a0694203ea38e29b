//! Chains: the same bits on every path, and laws that are known.

mod common;

use gibbsite::{
    Domain, Energy, Error, Real, ReluEnergy, Result, Rows, RowsMut,
    random::Stream,
    sampler::{Chains, IndependenceMetropolis, Sampler, Start},
};

/// A ReLU energy that does not say so: samplers move it the way of any other energy.
struct Plain<'a, T: Real>(&'a ReluEnergy<T>);

impl<T: Real> Energy<T> for Plain<'_, T> {
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn domain(&self) -> Domain {
        self.0.domain()
    }
    fn potential_score(
        &self,
        x: Rows<'_, T>,
        potential: Option<&mut [T]>,
        score: Option<RowsMut<'_, T>>,
    ) -> Result<()> {
        self.0.potential_score(x, potential, score)
    }
}

fn model<T: Real>(d: usize, m: usize, bias: bool, domain: Domain) -> ReluEnergy<T> {
    let mut values = vec![T::ZERO; m * d + 2 * m];
    Stream::new(11, d as u64).fill_normal(&mut values);
    let (theta, rest) = values.split_at(m * d);
    let (w, b) = rest.split_at(m);
    let w: Vec<T> = w.iter().map(|&w| T::from_f64(4.0) * w).collect();
    let model = ReluEnergy::new(Rows::new(theta, m, d).unwrap(), &w).unwrap();
    let model = if bias { model.with_bias(b).unwrap() } else { model };
    match domain {
        Domain::Sphere => model.with_domain(Domain::Sphere).unwrap(),
        _ => model.with_base_scale(T::from_f64(1.25)).unwrap(),
    }
}

/// Every sampler, with its options.
fn samplers<T: Real>(domain: Domain, diagonal: &[T]) -> Vec<Sampler<'_, T>> {
    let mut samplers =
        vec![Sampler::ula(0.02).noise(0.5), Sampler::mala(0.1), Sampler::hmc(0.2, 3)];
    if domain == Domain::Euclidean {
        samplers.extend([
            Sampler::ula(0.05).bounds(-1.0, 0.75),
            Sampler::mala(0.1).preconditioner(diagonal),
            Sampler::baoab(0.2, 1.5),
            Sampler::baoab(0.1, 0.5).preconditioner(diagonal),
        ]);
    }
    samplers.into_iter().map(|sampler| sampler.chains(53).seed(3)).collect()
}

fn bits<T: Real>(chains: &Chains<T>) -> Vec<u64> {
    chains.states().iter().flatten().map(|x| x.to_f64().to_bits()).collect()
}

fn for_all<T: Real>(check: impl Fn(&ReluEnergy<T>, Sampler<'_, T>)) {
    for domain in [Domain::Euclidean, Domain::Sphere] {
        for (d, m, bias) in [(2, 5, true), (7, 100, false), (18, 33, true)] {
            let model = model(d, m, bias, domain);
            let diagonal: Vec<T> = (0..d).map(|k| T::from_f64(0.5 + k as f64 / 8.0)).collect();
            samplers(domain, &diagonal).into_iter().for_each(|sampler| check(&model, sampler));
        }
    }
}

fn fused_is_any<T: Real>() {
    for_all(|model: &ReluEnergy<T>, sampler| {
        let mut fused = sampler.clone().build(model).unwrap();
        let mut any = sampler.clone().build(&Plain(model)).unwrap();
        // Without a base, starts differ.
        let start = fused.states().as_slice().to_vec();
        let start = Rows::new(&start, 53, model.dim()).unwrap();
        any = sampler.start(Start::Points(start)).build(&Plain(model)).unwrap_or(any);
        let reports = (fused.run(model, 6).unwrap(), any.run(&Plain(model), 6).unwrap());
        assert_eq!(reports.0, reports.1);
        assert_eq!(bits(&fused), bits(&any));
    });
}

#[test]
fn the_fused_path_gives_the_bits_of_the_general_one() {
    fused_is_any::<f32>();
    fused_is_any::<f64>();
}

#[test]
fn bits_do_not_depend_on_threads_levels_calls_or_other_chains() {
    for_all(|model: &ReluEnergy<f64>, sampler| {
        let mut whole = sampler.clone().build(model).unwrap();
        whole.run(model, 8).unwrap();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut parts = sampler.clone().build(model).unwrap();
            pool.install(|| {
                parts.run(model, 3).unwrap();
                parts.run(model, 5).unwrap();
            });
            assert_eq!(bits(&whole), bits(&parts), "{threads} threads");
        }
        for isa in gibbsite::Isa::available() {
            let model = model.clone().with_isa(isa);
            let mut chains = sampler.clone().build(&model).unwrap();
            chains.run(&model, 8).unwrap();
            assert_eq!(bits(&whole), bits(&chains), "{isa}");
        }
        for few in [1, 17] {
            let mut chains = sampler.clone().chains(few).build(model).unwrap();
            chains.run(model, 8).unwrap();
            assert_eq!(bits(&whole)[..few * model.dim()], bits(&chains), "{few} chains");
        }
    });
}

#[test]
fn bad_options_are_errors() {
    let flat = model::<f64>(2, 3, false, Domain::Euclidean);
    let sphere = model::<f64>(3, 3, false, Domain::Sphere);
    let refused = |sampler: Sampler<'_, f64>, model: &ReluEnergy<f64>| {
        assert!(sampler.clone().build(model).is_err(), "{sampler:?}");
    };
    for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(Sampler::ula(step), &flat);
        refused(Sampler::hmc(step, 1), &sphere);
    }
    refused(Sampler::hmc(0.1, 0), &flat);
    refused(Sampler::mala(0.1).chains(0), &flat);
    refused(Sampler::ula(0.1).noise(-1.0), &flat);
    refused(Sampler::ula(0.1).bounds(1.0, 1.0), &flat);
    refused(Sampler::ula(0.1).bounds(0.0, 1.0), &sphere);
    refused(Sampler::mala(0.1).noise(0.5), &flat);
    refused(Sampler::baoab(0.1, 1.0).bounds(0.0, 1.0), &flat);
    assert!(Sampler::hmc(0.1, 2).build(&flat).unwrap().set_noise(0.5).is_err());
    refused(Sampler::baoab(0.1, -1.0), &flat);
    // Velocities that are kept whole are never drawn.
    refused(Sampler::baoab(0.1, 0.0), &flat);
    refused(Sampler::baoab(1e-9, 1e-9), &flat);
    let mut chains = Sampler::baoab(0.1, 1.0).build(&flat).unwrap();
    assert!(chains.set_step(1e-18).is_err() && chains.set_step(1e-12).is_ok());
    let single = model::<f32>(2, 3, false, Domain::Euclidean);
    assert!(Sampler::baoab(1e-8, 1.0).build(&single).is_err());
    assert!(Sampler::baoab(1e-6, 1.0).build(&single).is_ok());
    refused(Sampler::baoab(0.1, 1.0), &sphere);
    refused(Sampler::mala(0.1).start(Start::Gaussian(1.0)), &sphere);
    refused(Sampler::mala(0.1).start(Start::Gaussian(0.0)), &flat);
    refused(Sampler::mala(0.1), &model(1, 3, false, Domain::Sphere));
    let points = [1.0, 2.0, f64::NAN, 0.0];
    refused(Sampler::mala(0.1).start(Start::Points(Rows::new(&points, 2, 2).unwrap())), &flat);
    refused(Sampler::mala(0.1).start(Start::Points(Rows::new(&points, 1, 4).unwrap())), &flat);
    refused(Sampler::mala(0.1).start(Start::Points(Rows::new(&points[..0], 0, 2).unwrap())), &flat);
    for diagonal in [&[1.0][..], &[1.0, 0.0], &[f64::NAN, 1.0]] {
        refused(Sampler::mala(0.1).preconditioner(diagonal), &flat);
    }
    refused(Sampler::mala(0.1).preconditioner(&[1.0; 3]), &sphere);
    let mut chains = Sampler::mala(0.1).build(&flat).unwrap();
    assert!(matches!(chains.run(&sphere, 1), Err(Error::Shape(_))));
    assert!(chains.set_step(0.0).is_err());
    let mut chains = Sampler::ula(1e200).chains(3).build(&flat).unwrap();
    assert!(matches!(chains.run(&flat, 50), Err(Error::ChainDiverged { .. })));
}

/// An energy that says the same everywhere.
struct Saying {
    domain: Domain,
    potential: f64,
    score: [f64; 2],
}

impl Energy<f64> for Saying {
    fn dim(&self) -> usize {
        2
    }

    fn domain(&self) -> Domain {
        self.domain
    }

    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        potential: Option<&mut [f64]>,
        score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        if let Some(potential) = potential {
            potential.fill(self.potential);
        }
        if let Some(mut score) = score {
            (0..x.rows()).for_each(|i| score.row_mut(i).copy_from_slice(&self.score));
        }
        Ok(())
    }
}

/// Which would freeze without a word: no proposal is better than a NaN.
#[test]
fn chains_do_not_start_where_nothing_can_be_told() {
    let flat =
        |potential, slope| Saying { domain: Domain::Euclidean, potential, score: [slope, 0.0] };
    for sampler in [Sampler::mala(0.1), Sampler::hmc(0.1, 3)] {
        let run = |energy: Saying| {
            let mut chains = sampler.clone().chains(3).build(&energy).unwrap();
            chains.warm_up(&energy, 3).and_then(|_| chains.run(&energy, 3))
        };
        for potential in [f64::NAN, f64::NEG_INFINITY] {
            let error = run(flat(potential, 0.0)).unwrap_err();
            assert!(error.to_string().contains("potentials"), "{error}");
        }
        for slope in [f64::NAN, f64::INFINITY] {
            let error = run(flat(0.0, slope)).unwrap_err();
            assert!(error.to_string().contains("scores"), "{error}");
        }
        // Outside the support.
        assert!(run(flat(f64::INFINITY, 0.0)).is_ok());
    }
    // The potential is infinity less infinity.
    let theta = [1.7e308, 1.7e308];
    let model = ReluEnergy::new(Rows::new(&theta, 2, 1).unwrap(), &[1.0, -1.0]).unwrap();
    let model = model.with_base_scale(1.0).unwrap();
    let mut chains = IndependenceMetropolis::new(&model, 20, 0).unwrap();
    assert!(chains.run(&model, 1).unwrap_err().to_string().contains("potentials"));
}

#[test]
fn scores_on_the_sphere_have_to_be_tangential() {
    let energy = Saying { domain: Domain::Sphere, potential: 0.0, score: [1.0, 0.0] };
    for sampler in [Sampler::ula(0.1), Sampler::mala(0.1), Sampler::hmc(0.1, 2)] {
        let mut chains = sampler.clone().chains(4).build(&energy).unwrap();
        let error = chains.run(&energy, 1).unwrap_err();
        assert!(matches!(error, Error::NotTangential { .. }), "{error}");
        // Nor does a large potential excuse a gradient as it is.
        let steep = Saying { potential: 1e9, score: [1e9, 0.0], ..energy };
        let mut chains = sampler.chains(4).build(&steep).unwrap();
        let error = chains.run(&steep, 1).unwrap_err();
        assert!(matches!(error, Error::NotTangential { .. }), "{error}");
    }
    let still = Saying { score: [0.0; 2], ..energy };
    assert!(Sampler::mala(0.1).build(&still).unwrap().run(&still, 1).is_ok());
}

/// At the peak of a steep energy a projection cuts off nearly everything: the rest is of rounding, and as radial as not.
#[test]
fn what_rounding_leaves_of_a_projected_score_is_no_radial_part() {
    fn check<T: Real>(steepness: f64) {
        let number = T::from_f64;
        let peak = [0.36, 0.48, 0.8].map(number);
        let theta = Rows::new(&peak, 1, 3).unwrap();
        let model = ReluEnergy::new(theta, &[number(-steepness)]).unwrap();
        let model = model.with_domain(Domain::Sphere).unwrap();
        let energy = Plain(&model);
        // The peak in this precision, and as well as another program may have normalised it.
        for stretch in [1.0, 1.0 + 4e-7, 1.0 - 4e-7] {
            let x = [0.36, 0.48, 0.8].map(|x| number(x * stretch));
            let start = Rows::new(&x, 1, 3).unwrap();
            for sampler in [Sampler::ula(1e-9), Sampler::mala(1e-9), Sampler::hmc(1e-9, 2)] {
                let mut chains = sampler.start(Start::Points(start)).build(&energy).unwrap();
                chains.run(&energy, 1).unwrap();
            }
        }
    }
    [1e6, 1e9, 1e20].into_iter().for_each(check::<f32>);
    [1e9, 1e15, 1e20, 1e60].into_iter().for_each(check::<f64>);
}

#[test]
fn tuning_on_a_flat_energy_keeps_chains_moving() {
    // Everything is accepted: nothing but the limits keeps the step from growing for ever.
    fn check<T: Real>(domain: Domain) {
        let theta = [T::ONE; 5];
        let model = ReluEnergy::new(Rows::new(&theta, 1, 5).unwrap(), &[T::ZERO]).unwrap();
        let model = model.with_domain(domain).unwrap();
        for sampler in [Sampler::mala(0.1), Sampler::hmc(0.1, 4), Sampler::hmc(1e-6, 4)] {
            let mut chains = sampler.chains(400).seed(2).build(&model).unwrap();
            chains.warm_up(&model, 1_000).unwrap();
            for _ in 0..100 {
                chains.run_adapting(&model, 1).unwrap();
            }
            if domain == Domain::Euclidean {
                continue;
            }
            // Ten moves on, next to nothing of a state is left in it: neither itself nor its square.
            let before: Vec<f64> = chains.states().iter().map(|x| x[0].to_f64()).collect();
            chains.run(&model, 10).unwrap();
            let after = chains.states().iter().map(|x| x[0].to_f64());
            let pairs: Vec<_> = before.into_iter().zip(after).collect();
            for power in [1, 2] {
                let moments = pairs.iter().map(|(a, b)| (a.powi(power), b.powi(power)));
                let [mut a, mut b, mut aa, mut bb, mut ab] = [0.0; 5];
                for (x, y) in moments {
                    (a, b) = (a + x / 400.0, b + y / 400.0);
                    (aa, bb, ab) = (aa + x * x / 400.0, bb + y * y / 400.0, ab + x * y / 400.0);
                }
                let correlation = (ab - a * b) / ((aa - a * a) * (bb - b * b)).sqrt();
                assert!(correlation.abs() < 0.2, "step {}: {correlation}", chains.step());
            }
        }
    }
    check::<f32>(Domain::Sphere);
    check::<f64>(Domain::Sphere);
    check::<f32>(Domain::Euclidean);
    check::<f64>(Domain::Euclidean);
}

#[test]
fn restarts_take_the_share_asked_for() {
    let model = model::<f64>(3, 5, false, Domain::Euclidean);
    let points: Vec<f64> = (0..12).map(|k| 100.0 + k as f64).collect();
    let from = Rows::new(&points, 4, 3).unwrap();
    let chains = Sampler::baoab(0.1, 1.0).chains(4_000).build(&model).unwrap();
    for share in [0.0, 0.05, 0.5, 1.0] {
        let mut chains = chains.clone();
        chains.run(&model, 3).unwrap();
        let before = chains.clone();
        let restarted = chains.restart(share, from).unwrap();
        let expected = share * 4_000.0;
        assert!((restarted as f64 - expected).abs() <= 5.0 * (expected * (1.0 - share)).sqrt());
        let mut fresh = 0;
        for (old, new) in before.states().iter().zip(chains.states().iter()) {
            if old != new {
                assert_eq!(new, from.row(fresh % 4), "rows are taken in turn");
                fresh += 1;
            }
        }
        assert_eq!(fresh, restarted);
        // Others in the next call, and again the share.
        let again = chains.clone().restart(share, from).unwrap();
        assert_eq!(again == restarted, [0.0, 1.0].contains(&share));
    }
    let mut chains = chains;
    let sphere = self::model::<f64>(3, 5, false, Domain::Sphere);
    for (rows, points) in [(2, vec![1.0, f64::NAN, 0.0, 1.0, 2.0, 3.0]), (0, vec![])] {
        assert!(chains.restart(0.5, Rows::new(&points, rows, 3).unwrap()).is_err());
    }
    assert!(chains.restart(1.5, from).is_err());
    let mut chains = Sampler::mala(0.1).build(&sphere).unwrap();
    assert!(matches!(chains.restart(1.0, from), Err(Error::OffSphere { .. })));
    assert!(chains.run(&model, 1).is_err(), "another domain");
}

/// An energy on the line that says it is a model of the plane.
struct Impostor(ReluEnergy<f64>);

impl Energy<f64> for Impostor {
    fn dim(&self) -> usize {
        1
    }

    fn as_relu(&self) -> Option<&ReluEnergy<f64>> {
        Some(&self.0)
    }

    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        potential: Option<&mut [f64]>,
        score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        if let Some(potential) = potential {
            potential.iter_mut().zip(x.iter()).for_each(|(u, x)| *u = 0.5 * x[0] * x[0]);
        }
        if let Some(mut score) = score {
            (0..x.rows()).for_each(|i| score.row_mut(i)[0] = -x.row(i)[0]);
        }
        Ok(())
    }
}

#[test]
fn a_model_of_another_dimension_than_its_energy_is_refused() {
    let energy = Impostor(model(2, 3, false, Domain::Euclidean));
    let error = Sampler::mala(0.1).build(&energy).unwrap().run(&energy, 1).unwrap_err();
    assert!(error.to_string().contains("as_relu"), "{error}");
}

/// A density in units that are far from 1: what tunes steps knows of no other.
#[test]
fn steps_are_tuned_in_any_unit() {
    let in_unit = |unit: f64| {
        let model = ReluEnergy::new(Rows::new(&[0.0, 0.0], 1, 2).unwrap(), &[1.0]).unwrap();
        let model = model.with_base_scale(unit).unwrap();
        let sampler = Sampler::mala(0.5 * unit * unit).chains(100).seed(3);
        let mut chains = sampler.build(&model).unwrap();
        chains.warm_up(&model, 100).unwrap();
        let acceptance = chains.run(&model, 20).unwrap().acceptance.unwrap();
        (chains.step() / unit / unit, acceptance)
    };
    let usual = in_unit(1.0);
    assert!((usual.1 - 0.574).abs() < 0.05, "{usual:?}");
    for power in [-300, -80, 80, 300] {
        let (step, acceptance) = in_unit(2f64.powi(power));
        // Powers of 2 change no digits but of some roots.
        assert!((step / usual.0 - 1.0).abs() < 1e-9, "2^{power}: {step} against {usual:?}");
        assert!((acceptance - usual.1).abs() < 1e-2, "2^{power}: {acceptance} against {usual:?}");
    }
}
