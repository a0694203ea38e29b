//! What the library makes of its kernels: how batches are cut and partial sums added, which stream gives which draw, and
//! functions of single numbers. Left out is what goes through faer, whose last digits depend on the CPU.

use super::{
    Hash,
    common::{bits, model, normals},
};
use gibbsite::{
    Backend, Domain, Real, ReluEnergy, Rows, RowsMut,
    monitor::{curvature, ntk},
    normaliser::{Base, annealed, base_samples, bracket, importance_sampling},
    sampler::{IndependenceMetropolis, Sampler},
    stein::{
        F1Discrepancy, Gram, Statistic, SteinKernel, Svgd, WildBootstrap, ksd_aggregated_test,
        ksd_blocks, ksd_in_parts, median_distance,
    },
    teacher::Teacher,
    train::{Critic, Estimator, NegativePhase, Optimiser, Regime, TrainOptions, Training},
};
use std::fmt::Write;

/// Lines `result dtype hash`.
pub struct Results(pub String);

impl Results {
    fn add<T: Real>(&mut self, name: &str, values: impl IntoIterator<Item = u64>) {
        let mut hash = Hash::new();
        values.into_iter().for_each(|bits| hash.add(bits));
        println!("{name:40} {:5} {:032x}", T::NAME, hash.0);
        writeln!(self.0, "{name} {} {:032x}", T::NAME, hash.0)
            .expect("strings take all that fits into memory");
    }

    pub fn add_all<T: Real>(&mut self) {
        self.energies::<T>();
        self.samplers::<T>();
        self.normalisers::<T>();
        self.discrepancies::<T>();
        self.training::<T>();
    }

    /// What goes through faer.
    pub fn add_unrecorded<T: Real>(&mut self) {
        const N: usize = 300;
        let model = flat::<T>(40);
        let x = points(&model, N);
        let x = Rows::new(&x, N, D).unwrap();
        let libraries = model.clone().with_backend(Backend::Faer);
        let (mut energy, mut score) = (vec![T::ZERO; N], vec![T::ZERO; N * D]);
        libraries.energy(x, &mut energy).unwrap();
        libraries.score(x, RowsMut::new(&mut score, N, D).unwrap()).unwrap();
        let mut grad = libraries.zero_grad();
        libraries.param_grad(x, None, &mut grad).unwrap();
        let all = [energy.clone(), score.clone(), grad.w, grad.theta].concat();
        self.add::<T>("faer", bits(&all));

        let score = Rows::new(&score, N, D).unwrap();
        let imq = SteinKernel::imq(1.0, -0.5).unwrap();
        let metric: Vec<f64> =
            (0..D * D).map(|i| if i % (D + 1) == 0 { 1.5 } else { 0.25 }).collect();
        let metric = imq.clone().with_metric(Rows::new(&metric, D, D).unwrap()).unwrap();
        let gram = Gram::new(&metric, x, score).unwrap();
        self.add::<T>("metric", bits(&gram.matrix().unwrap()));
        let gram = Gram::new(&imq, x, score).unwrap();
        let fssd = gram.fssd_test(x, score, x.range(0, 7), 20, 2).unwrap();
        self.add::<T>(
            "fssd_test",
            bits(&[&fssd.draws[..], &[fssd.squared, fssd.p_value]].concat()),
        );
        self.add::<T>(
            "control_functional",
            bits(&[gram.control_functional(&energy, 1e-3).unwrap()]),
        );
        let weights = gram.stein_weights(1e-2).unwrap();
        self.add::<T>("stein_weights", bits(&weights.weights));

        let found = curvature(&model, x, &weights.weights).unwrap();
        self.add::<T>("curvature", bits(&[found.trace, found.largest]));
        self.add::<T>("ntk", bits(&ntk(&model, x).unwrap()));
    }

    /// Of more samples and neurons than a partial sum takes; fewer samples where they are wide.
    fn energies<T: Real>(&mut self) {
        for (name, n, model) in [
            ("flat", 5000, flat::<T>(10)),
            ("sphere", 300, sphere(10)),
            ("many", 60, flat(400)),
            ("wide", 1500, based(model(2, 784, false, Backend::Auto))),
        ] {
            let d = model.dim();
            let x = points(&model, n);
            let x = Rows::new(&x, n, d).unwrap();
            let (mut energy, mut score) = (vec![T::ZERO; n], vec![T::ZERO; n * d]);
            model.energy(x, &mut energy).unwrap();
            model.score(x, RowsMut::new(&mut score, n, d).unwrap()).unwrap();
            let mut grad = model.zero_grad();
            model.param_grad(x, Some(&normals(n, 5)), &mut grad).unwrap();
            self.add::<T>(&format!("energy.{name}"), bits(&energy));
            self.add::<T>(&format!("score.{name}"), bits(&score));
            let bias = grad.bias.iter().flat_map(|b| bits(b));
            let grad = bits(&grad.w).into_iter().chain(bits(&grad.theta)).chain(bias);
            self.add::<T>(&format!("param_grad.{name}"), grad);
        }
    }

    fn samplers<T: Real>(&mut self) {
        let diagonal = [0.5, 1.0, 2.0, 1.5].map(T::from_f64);
        let (flat, sphere) = (flat::<T>(12), sphere::<T>(12));
        for (name, sampler, model) in [
            ("ula", Sampler::ula(0.05), &flat),
            ("ula.bounds", Sampler::ula(0.05).noise(0.5).bounds(-1.0, 0.75), &flat),
            ("mala", Sampler::mala(0.1).preconditioner(&diagonal), &flat),
            ("hmc", Sampler::hmc(0.2, 3), &flat),
            ("baoab", Sampler::baoab(0.2, 1.5), &flat),
            ("ula.sphere", Sampler::ula(0.05), &sphere),
            ("mala.sphere", Sampler::mala(0.1), &sphere),
            ("hmc.sphere", Sampler::hmc(0.2, 3), &sphere),
        ] {
            let mut chains = sampler.chains(21).seed(5).build(model).unwrap();
            chains.warm_up(model, 20).unwrap();
            chains.run(model, 20).unwrap();
            let mut draws = bits(chains.states().as_slice());
            draws.push(chains.step().to_bits());
            self.add::<T>(&format!("sampler.{name}"), draws);
        }
        for (name, model) in [("flat", &flat), ("sphere", &sphere)] {
            let mut chains = IndependenceMetropolis::new(model, 21, 5).unwrap();
            chains.run(model, 20).unwrap();
            let draws = bits(chains.states().as_slice());
            self.add::<T>(&format!("sampler.independence.{name}"), draws);
        }
    }

    fn normalisers<T: Real>(&mut self) {
        for (name, base) in [("flat", Base::Gaussian(T::from_f64(1.25))), ("sphere", Base::Sphere)]
        {
            let draws = base_samples(base, 700, D, 3, 1).unwrap();
            self.add::<T>(&format!("base_samples.{name}"), bits(&draws));
        }
        for (name, model) in [("flat", flat::<T>(12)), ("sphere", sphere(12))] {
            let estimate = importance_sampling(&model, 700, 3, 0).unwrap();
            let numbers = [estimate.value, estimate.std_error, estimate.ess];
            let draws = estimate.resample(50, 7).unwrap();
            let all = bits(&numbers).into_iter().chain(bits(&estimate.weights)).chain(bits(&draws));
            self.add::<T>(&format!("importance_sampling.{name}"), all);
            let estimate = annealed(&model, 40, 10, 3, 0).unwrap();
            self.add::<T>(&format!("annealed.{name}"), bits(&estimate.weights));
            let bracket = bracket(&model, 40, 10, 3, 0).unwrap();
            let numbers = [bracket.lower.value, bracket.upper, bracket.upper_std_error];
            self.add::<T>(&format!("bracket.{name}"), bits(&numbers));
        }
        let teacher = Teacher::<T>::named("j1w10", D, 3).unwrap();
        self.add::<T>("teacher.sample", bits(&teacher.sample(300, 3, 1).unwrap()));
        let student = sphere(12);
        let numbers =
            [teacher.kl_to(&student, 500, 1).unwrap(), teacher.max_cosine(&student).unwrap()];
        self.add::<T>("teacher.kl_to", bits(&numbers));
    }

    fn discrepancies<T: Real>(&mut self) {
        // More points than a tile takes, and more than a strip of tiles.
        const FEW: usize = 150;
        const MANY: usize = 1100;
        let imq = SteinKernel::imq(1.0, -0.5).unwrap();
        let general = SteinKernel::imq(0.75, -0.25).unwrap();
        let rbf = SteinKernel::rbf(1.25).unwrap();
        let arc_cosine = SteinKernel::arc_cosine();
        let (flat, sphere) = (flat::<T>(12), sphere::<T>(12));
        for (name, kernel, model) in [
            ("imq", imq.clone(), &flat),
            ("imq_power", general.clone(), &flat),
            ("rbf", rbf.clone(), &flat),
            ("linear", SteinKernel::linear(), &flat),
            ("imq+linear", imq.clone().plus_linear().unwrap(), &flat),
            ("arc_cosine", arc_cosine.clone(), &flat),
            ("imq.sphere", imq.clone().on_sphere(), &sphere),
            ("rbf.sphere", rbf.clone().on_sphere(), &sphere),
            ("arc_cosine.sphere", arc_cosine.on_sphere(), &sphere),
        ] {
            let n = if name == "linear" { MANY } else { FEW };
            let x = points(model, n);
            let x = Rows::new(&x, n, D).unwrap();
            let gram = Gram::of_energy(&kernel, model, x).unwrap();
            let mut numbers = Vec::new();
            for statistic in [Statistic::U, Statistic::V] {
                let ksd = gram.ksd(statistic, &mut |_| {}).unwrap();
                numbers.extend([ksd.squared, ksd.std_error.unwrap()]);
            }
            numbers.extend(gram.row_sums(&mut |_| {}));
            self.add::<T>(&format!("ksd.{name}"), bits(&numbers));
        }
        let (x, score) = (points(&flat, MANY), normals::<T>(MANY * D, 6));
        let [x, score] = [&x, &score].map(|rows| Rows::new(rows, MANY, D).unwrap());
        let (few, few_scores) = (x.range(0, FEW), score.range(0, FEW));
        let gram = Gram::new(&SteinKernel::linear(), x, score).unwrap();
        let few_gram = Gram::new(&imq, few, few_scores).unwrap();
        for (name, gram, bootstrap) in [
            ("ksd_test", &gram, WildBootstrap::new(10).seed(2)),
            ("ksd_test.correlated", &few_gram, WildBootstrap::new(70).correlated(0.1)),
        ] {
            let test = gram.test(Statistic::U, &bootstrap, &mut |_| {}).unwrap();
            self.add::<T>(name, bits(&test.draws).into_iter().chain([test.p_value.to_bits()]));
        }
        self.add::<T>("ksd_trace", bits(&gram.ksd_trace(&mut |_| {}).unwrap()));
        let thinned = gram.thin(40, None, &mut |_| {}).unwrap();
        let indices = thinned.indices.iter().map(|&i| i as u64);
        self.add::<T>("stein_thin", indices.chain(bits(&thinned.ksd)));
        let blocks = ksd_blocks(&imq, x, score, 50).unwrap();
        let numbers = [blocks.squared, blocks.std_error, blocks.p_value];
        self.add::<T>("ksd_blocks", bits(&numbers));
        let load = |part: usize| {
            let [x, score] = [x, score].map(|rows| rows.range(part * 500, 300));
            Ok((x.as_slice().to_vec(), score.as_slice().to_vec()))
        };
        let parts = ksd_in_parts(&imq, 2, load, D, Statistic::U, &mut |_| {}).unwrap();
        self.add::<T>("ksd_in_parts", [parts.squared.to_bits()]);
        let mut product = vec![T::ZERO; FEW * D];
        few_gram.product(few_scores, RowsMut::new(&mut product, FEW, D).unwrap()).unwrap();
        self.add::<T>("gram.product", bits(&product));
        let bootstrap = WildBootstrap::new(100).seed(2);
        let aggregated = [imq.clone(), general, rbf];
        let aggregated =
            ksd_aggregated_test(&aggregated, few, few_scores, 0.2, &bootstrap).unwrap();
        let numbers = aggregated.thresholds.iter().chain([&aggregated.u]);
        self.add::<T>("ksd_aggregated_test", numbers.map(|number| number.to_bits()));
        self.add::<T>("median_distance", [median_distance(x).unwrap().to_bits()]);
        let witness = few_gram.witness(few, few_scores, x.range(150, 150)).unwrap();
        self.add::<T>("witness", bits(&witness));
        let gradient = few_gram.score_gradient(few, few_scores, Statistic::U).unwrap();
        self.add::<T>("score_gradient", bits(&gradient));
        self.add::<T>("svgd", bits(&Svgd::new(0.1).direction(few, few_scores).unwrap()));
        let x = points(&sphere, 300);
        let (x, mut score) = (Rows::new(&x, 300, D).unwrap(), vec![T::ZERO; 300 * D]);
        sphere.score(x, RowsMut::new(&mut score, 300, D).unwrap()).unwrap();
        let squared = F1Discrepancy::new(7).squared(x, Rows::new(&score, 300, D).unwrap());
        self.add::<T>("f1_discrepancy", [squared.unwrap().to_bits()]);
    }

    fn training<T: Real>(&mut self) {
        let (chains, steps) = (20, 3);
        for (name, negative, domain) in [
            ("auto", NegativePhase::Auto, Domain::Euclidean),
            ("bank", NegativePhase::Bank { size: 50 }, Domain::Sphere),
            ("independence", NegativePhase::Independence { chains, steps }, Domain::Sphere),
            (
                "persistent",
                NegativePhase::Persistent { chains, steps, restart: 0.2 },
                Domain::Sphere,
            ),
            ("contrastive", NegativePhase::Contrastive { chains, steps }, Domain::Euclidean),
            ("jarzynski", NegativePhase::Jarzynski { chains }, Domain::Euclidean),
        ] {
            let estimator = Estimator::MaximumLikelihood { negative };
            self.trained::<T>(&format!("mle.{name}"), &options(estimator, domain));
        }
        let ksd = Estimator::Ksd { bandwidth: None, statistic: Statistic::V };
        let network = Estimator::F1Sd { critic: Critic::Network { units: 5, steps: 2 } };
        for (name, estimator, domain) in [
            ("ksd", ksd, Domain::Sphere),
            ("ksd.flat", ksd, Domain::Euclidean),
            ("dsm", Estimator::Denoising { noise: None }, Domain::Euclidean),
            ("f1sd", Estimator::F1Sd { critic: Critic::Neurons }, Domain::Sphere),
            ("f1sd.network", network, Domain::Sphere),
        ] {
            self.trained::<T>(name, &options(estimator, domain));
        }
        let on_sphere = || options(ksd, Domain::Sphere);
        for (name, optimiser, regime) in [
            ("ksd.adam", Optimiser::Adam, Regime::F1),
            ("ksd.transport", Optimiser::Transport, Regime::F1),
            ("ksd.f2", Optimiser::GradientDescent, Regime::F2),
            ("ksd.f2.lbfgs", Optimiser::Lbfgs, Regime::F2),
        ] {
            self.trained::<T>(name, &TrainOptions { optimiser, regime, ..on_sphere() });
        }
    }

    fn trained<T: Real>(&mut self, name: &str, options: &TrainOptions) {
        let data = |n: usize, stream: u64| {
            let mut x = match options.domain {
                Domain::Sphere => base_samples(Base::Sphere, n, D, 3, stream).unwrap(),
                _ => normals::<T>(n * D, stream),
            };
            // Not the base.
            x.chunks_exact_mut(D).filter(|x| x[0] < T::ZERO).for_each(|x| x[0] = -x[0]);
            x
        };
        let (train, validation) = (data(60, 20), data(40, 21));
        let (train, validation) = (Rows::new(&train, 60, D), Rows::new(&validation, 40, D));
        let mut run = Training::new(train.unwrap(), validation.unwrap(), options).unwrap();
        while run.next_evaluation().unwrap().is_some() {}
        let history = format!("{:?}", run.history());
        let model = run.finish().unwrap().model;
        let all = bits(model.w()).into_iter().chain(bits(model.theta().as_slice()));
        self.add::<T>(&format!("train.{name}"), all.chain(history.bytes().map(u64::from)));
    }
}

const D: usize = 4;

fn flat<T: Real>(m: usize) -> ReluEnergy<T> {
    based(model(m, D, true, Backend::Auto)).with_beta(T::from_f64(0.75)).unwrap()
}

fn based<T: Real>(model: ReluEnergy<T>) -> ReluEnergy<T> {
    model.with_base_scale(T::from_f64(1.25)).unwrap()
}

fn sphere<T: Real>(m: usize) -> ReluEnergy<T> {
    model(m, D, false, Backend::Auto).with_domain(Domain::Sphere).unwrap()
}

fn points<T: Real>(model: &ReluEnergy<T>, n: usize) -> Vec<T> {
    base_samples(Base::of(model).unwrap(), n, model.dim(), 4, 2).unwrap()
}

fn options(estimator: Estimator, domain: Domain) -> TrainOptions {
    TrainOptions {
        estimator,
        domain,
        neurons: 8,
        iterations: 8,
        evaluate_every: 8,
        bias: domain == Domain::Euclidean,
        seed: 11,
        ..Default::default()
    }
}
