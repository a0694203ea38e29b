//! Chains with any options under any energy: no panic; what is returned without an error is finite
//! and in the domain; a ReLU energy's own path gives what the path of all energies gives.
#![no_main]

use gibbsite::{
    Domain, Energy, Error, ReluEnergy, Result, Rows, RowsMut,
    normaliser::{bracket, importance_sampling},
    sampler::{Chains, IndependenceMetropolis, Sampler, Start},
    train::cross_entropy,
};
use gibbsite_fuzz::{
    Amount, Class, Float, Numbers, Opaque, Size, accepted, finite, normalise, same,
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use std::sync::Mutex;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Method {
    Ula { noise: Option<Amount>, bounds: Option<(Amount, Amount)> },
    Mala,
    Hmc { leapfrog: u8 },
    Baoab { friction: Amount },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Origin {
    Random,
    Gaussian(Amount),
    Points { count: u8, class: Class },
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    double: bool,
    method: Method,
    step: Amount,
    later_step: Option<Amount>,
    chains: Option<Size>,
    origin: Origin,
    preconditioner: Option<Class>,
    warm_up: u8,
    steps: u8,
    draws: u8,
    thin: u8,
    restart: Option<Amount>,
    seed: u64,
    d: u8,
    m: u8,
    sphere: bool,
    base_scale: Option<Amount>,
    beta: Option<Amount>,
    parameters: Class,
    /// Values and scores of any bits instead of a model.
    wild: bool,
    numbers: &'a [u8],
}

/// Returns what the bytes say, or an error at times.
struct Wild<'a>(usize, Domain, Mutex<Numbers<'a>>);

impl<T: Float> Energy<T> for Wild<'_> {
    fn dim(&self) -> usize {
        self.0
    }

    fn domain(&self) -> Domain {
        self.1
    }

    fn potential_score(
        &self,
        x: Rows<'_, T>,
        potential: Option<&mut [T]>,
        score: Option<RowsMut<'_, T>>,
    ) -> Result<()> {
        let mut numbers = self.2.lock().unwrap();
        if numbers.byte() == 0x7f {
            return Err(Error::Zero { what: "the patience of this energy" });
        }
        let class =
            [Class::Tame, Class::Full, Class::One, Class::Bits][usize::from(numbers.byte() % 4)];
        if let Some(potential) = potential {
            potential.copy_from_slice(&numbers.array(class, x.rows()));
        }
        if let Some(mut score) = score {
            (0..x.rows()).for_each(|i| {
                score.row_mut(i).copy_from_slice(&numbers.array(class, x.cols()));
            });
        }
        Ok(())
    }
}

fn assert_in_domain<T: Float>(domain: Domain, x: Rows<'_, T>) {
    assert!(x.iter().all(finite), "{x:?}");
    if domain == Domain::Sphere {
        let tolerance = if T::NAME == "f32" { 1.2e-3 } else { 1e-6 };
        for x in x.iter() {
            let norm = x.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt();
            assert!((norm - 1.0).abs() <= tolerance, "{x:?}");
        }
    }
}

/// Chains that were made, moved in all ways; `None` after an error.
fn walk<T: Float, E: Energy<T>>(
    input: &Input<'_>,
    mut chains: Chains<T>,
    energy: &E,
) -> Option<Chains<T>> {
    let bounds = match input.method {
        Method::Ula { bounds: Some((low, high)), .. } => {
            Some([low, high].map(|bound| T::from_f64(bound.value())))
        }
        _ => None,
    };
    // Bounds hold from the first move on.
    let in_domain = |chains: &Chains<T>, moves: u8| {
        assert_in_domain(energy.domain(), chains.states());
        if let (Some([low, high]), 1..) = (bounds, moves) {
            assert!(chains.states().as_slice().iter().all(|x| low <= *x && *x <= high));
        }
        assert!(chains.step() > 0.0 && chains.step().is_finite());
    };
    let share = |acceptance: Option<f64>| {
        assert!(acceptance.is_none_or(|share| (0.0..=1.0).contains(&share)), "{acceptance:?}");
    };
    let mut moves = input.warm_up % 8;
    share(accepted(chains.warm_up(energy, moves.into()))?.acceptance);
    in_domain(&chains, moves);
    if let Some(step) = input.later_step {
        accepted(chains.set_step(step.value()));
        accepted(chains.set_noise(step.value()));
    }
    share(accepted(chains.run_adapting(energy, usize::from(input.steps % 8)))?.acceptance);
    moves += input.steps % 8;
    in_domain(&chains, moves);
    if let Some(fraction) = input.restart {
        let start = chains.clone();
        let restarted = accepted(chains.restart(fraction.value(), start.states()));
        assert!(restarted.is_none_or(|count| count <= chains.states().rows()));
    }
    let (draws, thin) = (usize::from(input.draws % 5), usize::from(input.thin % 4));
    let mut seen = 0;
    let report = chains.sample(energy, draws, thin, |draw| {
        assert!(draw.states.iter().all(finite) && draw.index == seen);
        seen += 1;
        Ok(())
    });
    share(accepted(report)?.acceptance);
    assert_eq!(seen, draws);
    in_domain(&chains, moves);
    Some(chains)
}

fn check<T: Float>(input: &Input<'_>) {
    let mut numbers = Numbers::new(input.numbers);
    let (d, m) = (usize::from(input.d % 9) + 1, usize::from(input.m % 20) + 1);
    let domain = if input.sphere { Domain::Sphere } else { Domain::Euclidean };
    let step = input.step.value();
    let mut sampler = match input.method {
        Method::Ula { .. } => Sampler::ula(step),
        Method::Mala => Sampler::mala(step),
        Method::Hmc { leapfrog } => Sampler::hmc(step, (leapfrog % 5).into()),
        Method::Baoab { friction } => Sampler::baoab(step, friction.value()),
    };
    if let Method::Ula { noise, bounds } = input.method {
        if let Some(noise) = noise {
            sampler = sampler.noise(noise.value());
        }
        if let Some((low, high)) = bounds {
            sampler = sampler.bounds(low.value(), high.value());
        }
    }
    let chains = input.chains.map(Size::value);
    if let Some(chains) = chains {
        // Nothing between what is quick and what no memory holds.
        let size = if chains < usize::MAX >> 16 { chains % 100 } else { chains };
        sampler = sampler.chains(size);
    }
    let points: Vec<T> = match input.origin {
        Origin::Points { count, class } => {
            let mut points = numbers.array(class, usize::from(count % 60) * d);
            if input.sphere {
                normalise(&mut points, d);
            }
            points
        }
        _ => Vec::new(),
    };
    sampler = sampler.seed(input.seed).start(match input.origin {
        Origin::Random => Start::Random,
        Origin::Gaussian(scale) => Start::Gaussian(T::from_f64(scale.value())),
        Origin::Points { .. } => Start::Points(Rows::new(&points, points.len() / d, d).unwrap()),
    });
    let diagonal = input.preconditioner.map(|class| numbers.array::<T>(class, d));
    if let Some(diagonal) = &diagonal {
        sampler = sampler.preconditioner(diagonal);
    }

    if input.wild {
        let energy = Wild(d, domain, Mutex::new(numbers));
        if let Some(chains) = accepted(sampler.build::<Wild<'_>>(&energy)) {
            walk(input, chains, &energy);
        }
        return;
    }
    let mut array = |len: usize| numbers.array::<T>(input.parameters, len);
    let (theta, w) = (array(m * d), array(m));
    let model = ReluEnergy::new(Rows::new(&theta, m, d).expect("sized for it"), &w);
    let Some(mut model) = accepted(model) else { return };
    if let Some(scale) = input.base_scale {
        let Some(based) = accepted(model.with_base_scale(T::from_f64(scale.value()))) else {
            return;
        };
        model = based;
    }
    if let Some(beta) = input.beta {
        let Some(cold) = accepted(model.with_beta(T::from_f64(beta.value()))) else { return };
        model = cold;
    }
    let Some(model) = accepted(model.with_domain(domain)) else { return };
    if let Some(chains) = accepted(sampler.build(&model)) {
        let opaque = walk(input, chains.clone(), &Opaque(&model));
        let fused = walk(input, chains, &model);
        assert_eq!(fused.is_some(), opaque.is_some());
        if let (Some(a), Some(b)) = (fused, opaque) {
            assert!(same(a.states().as_slice(), b.states().as_slice()), "{:?}", input.method);
        }
    }
    independent(input, &model);
}

/// Independence chains and normalising constants.
fn independent<T: Float>(input: &Input<'_>, model: &ReluEnergy<T>) {
    let (count, seed) = (usize::from(input.draws), input.seed);
    if let Some(mut chains) = accepted(IndependenceMetropolis::new(model, count, seed)) {
        let steps = usize::from(input.steps % 4);
        if let Some(report) = accepted(chains.run(model, steps)) {
            assert_eq!(report.acceptance.is_some(), steps > 0);
            assert!(report.acceptance.is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
        assert_in_domain(model.domain(), chains.states());
    }
    let temperatures = usize::from(input.steps % 6);
    let log_z = accepted(importance_sampling(model, count, seed, 0));
    let between = accepted(bracket(model, count % 9, temperatures, seed, 1));
    for log_z in log_z.into_iter().chain(between.map(|between| between.lower)) {
        let sum: f64 = log_z.weights.iter().sum();
        assert!(log_z.value.is_finite() && (sum - 1.0).abs() < 1e-9, "{} {sum}", log_z.value);
        let one = log_z.weights.len() == 1;
        assert!(log_z.std_error >= 0.0 || one, "{}", log_z.std_error);
        assert!(log_z.ess >= 0.999, "{}", log_z.ess);
        let points = log_z.resample(3, seed).unwrap();
        let points = Rows::new(&points, 3, model.dim()).expect("three points");
        let nats = accepted(cross_entropy(model, points, &log_z));
        assert!(nats.is_none_or(f64::is_finite), "{nats:?}");
    }
}

fuzz_target!(|input: Input<'_>| {
    match input.double {
        false => check::<f32>(&input),
        true => check::<f64>(&input),
    }
});
