//! Training that goes on from a checkpoint gives what it would have given in one go.

use gibbsite::{
    Domain, Error, Isa, Real, Rows,
    random::Stream,
    stein::Statistic,
    train::{
        Checkpoint, Critic, Estimator, NegativePhase, Optimiser, Regime, TrainOptions, Training,
    },
};

const D: usize = 4;

fn data<T: Real>(n: usize, domain: Domain, stream: u64) -> Vec<T> {
    let mut stream = Stream::new(3, stream);
    let mut x = vec![T::ZERO; n * D];
    for x in x.chunks_exact_mut(D) {
        match domain {
            Domain::Sphere => stream.fill_sphere(x),
            _ => stream.fill_normal(x),
        }
        // Not the base.
        x[0] = if x[0] < T::ZERO { -x[0] } else { x[0] };
    }
    x
}

/// Everything that tells runs apart.
fn outcome<T: Real>(mut run: Training<T>) -> (Checkpoint, String) {
    while run.next_evaluation().unwrap().is_some() {}
    let (checkpoint, history) = (run.checkpoint(), format!("{:?}", run.history()));
    let trained = run.finish().unwrap();
    (
        checkpoint,
        format!("{history} {:?} {:?} {:?}", trained.best, trained.model.theta(), trained.model.w()),
    )
}

/// Stops at an evaluation, goes on from the checkpoint, stops again, and so on. NaN is equal to itself here. Returns what the
/// run ends with.
fn check<T: Real>(options: &TrainOptions) -> Checkpoint {
    let (train, validation) = (data::<T>(60, options.domain, 0), data(40, options.domain, 1));
    let train = Rows::new(&train, 60, D).unwrap();
    let validation = Rows::new(&validation, 40, D).unwrap();
    let whole = outcome(Training::new(train, validation, options).unwrap());
    let mut checkpoint = Training::new(train, validation, options).unwrap().checkpoint();
    for _ in 0..5 {
        let mut run = Training::resume(train, validation, options, &checkpoint).unwrap();
        run.next_evaluation().unwrap().unwrap();
        assert_eq!(run.best().unwrap().1.neurons(), options.neurons);
        checkpoint = run.checkpoint();
    }
    let parts = outcome(Training::resume(train, validation, options, &checkpoint).unwrap());
    let named = format!("{:?} {:?} {}", options.estimator, options.optimiser, options.regime);
    let same = |a: &Checkpoint, b: &Checkpoint| {
        let bits = |c: &Checkpoint| -> Vec<(String, Vec<u64>)> {
            c.reals
                .iter()
                .map(|(name, x)| (name.clone(), x.iter().map(|x| x.to_bits()).collect()))
                .collect()
        };
        bits(a) == bits(b) && a.counts == b.counts
    };
    assert!(same(&whole.0, &parts.0), "{named}: other state at the end");
    assert_eq!(whole.1, parts.1, "{named}");
    // A run that ended goes on with more iterations.
    let more = TrainOptions { iterations: options.iterations + 10, ..options.clone() };
    let longer = outcome(Training::resume(train, validation, &more, &whole.0).unwrap());
    let straight = outcome(Training::new(train, validation, &more).unwrap());
    assert!(same(&longer.0, &straight.0), "{named}: prolonged");
    whole.0
}

fn options(estimator: Estimator, domain: Domain) -> TrainOptions {
    TrainOptions {
        estimator,
        domain,
        neurons: 8,
        iterations: 30,
        evaluate_every: 5,
        seed: 11,
        ..Default::default()
    }
}

#[test]
fn every_negative_phase() {
    let (chains, steps) = (20, 3);
    for negative in [
        NegativePhase::Auto,
        NegativePhase::Bank { size: 50 },
        NegativePhase::Independence { chains, steps },
        NegativePhase::Persistent { chains, steps, restart: 0.2 },
        NegativePhase::Contrastive { chains, steps },
        NegativePhase::Jarzynski { chains },
    ] {
        for domain in [Domain::Sphere, Domain::Euclidean] {
            if matches!(negative, NegativePhase::Jarzynski { .. }) && domain == Domain::Sphere {
                continue;
            }
            let estimator = Estimator::MaximumLikelihood { negative };
            check::<f64>(&TrainOptions { bias: true, ..options(estimator, domain) });
            check::<f32>(&options(estimator, domain));
        }
    }
}

#[test]
fn a_bank_that_was_left_for_chains() {
    // Data near one point, which takes the model far from the uniform law.
    let options = TrainOptions {
        neurons: 30,
        iterations: 200,
        ..options(Estimator::default(), Domain::Sphere)
    };
    let mut x = data::<f64>(60, Domain::Euclidean, 0);
    for x in x.chunks_exact_mut(D) {
        x.iter_mut().for_each(|x| *x *= 0.05);
        x[0] += 1.0;
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
    }
    let x = Rows::new(&x, 60, D).unwrap();
    let run = || Training::new(x, x, &options).unwrap();
    let whole = outcome(run());
    let mut part = run();
    while !part.checkpoint().reals.contains_key("chains.x") {
        part.next_evaluation().unwrap().expect("chains take over from the bank");
    }
    assert!(part.history().len() < whole.0.counts["history.iteration"].len());
    let checkpoint = part.checkpoint();
    let parts = outcome(Training::resume(x, x, &options, &checkpoint).unwrap());
    assert_eq!(whole.1, parts.1);
}

#[test]
fn every_estimator_and_optimiser() {
    let ksd = Estimator::Ksd { bandwidth: None, statistic: Statistic::V };
    for (estimator, domain) in [
        (Estimator::default(), Domain::Sphere),
        (ksd, Domain::Sphere),
        (ksd, Domain::Euclidean),
        (Estimator::Denoising { noise: None }, Domain::Euclidean),
        (Estimator::F1Sd { critic: Critic::Neurons }, Domain::Sphere),
        (Estimator::F1Sd { critic: Critic::Network { units: 5, steps: 2 } }, Domain::Sphere),
    ] {
        for regime in [Regime::F1, Regime::F2] {
            for optimiser in [
                Optimiser::GradientDescent,
                Optimiser::Adam,
                Optimiser::Lbfgs,
                Optimiser::Transport,
            ] {
                if optimiser == Optimiser::Transport && regime == Regime::F2 {
                    continue;
                }
                let smooth = regime == Regime::F2 && !matches!(estimator, Estimator::F1Sd { .. });
                if optimiser == Optimiser::Lbfgs && !smooth {
                    continue;
                }
                check::<f64>(&TrainOptions { regime, optimiser, ..options(estimator, domain) });
            }
        }
    }
}

#[test]
fn patience_ends_a_run_wherever_it_was_interrupted() {
    let options = TrainOptions {
        patience: Some(10),
        learning_rate: Some(0.5),
        iterations: 10_000,
        ..options(Estimator::default(), Domain::Sphere)
    };
    let done = check::<f64>(&options).counts["iteration"][0];
    assert!(done < 10_000, "the run ended by itself");
}

#[test]
fn weighted_chains_are_resampled_where_weights_are_uneven_in_parts_too() {
    const CHAINS: usize = 100;
    let negative = NegativePhase::Jarzynski { chains: CHAINS };
    let options = TrainOptions {
        iterations: 240,
        evaluate_every: 40,
        decay: Some(0.0),
        learning_rate: Some(0.07),
        ..options(Estimator::MaximumLikelihood { negative }, Domain::Euclidean)
    };
    let resampled = |checkpoint: &Checkpoint| checkpoint.counts["jarzynski.resampled"][0];
    let expected = resampled(&check::<f64>(&options));
    // Effective sample sizes never stay below half of the chains, and weights are equal after a resampling alone.
    let x = data::<f64>(60, Domain::Euclidean, 0);
    let x = Rows::new(&x, 60, D).unwrap();
    let mut run =
        Training::new(x, x, &TrainOptions { evaluate_every: 1, ..options.clone() }).unwrap();
    let mut times = 0;
    while run.next_evaluation().unwrap().is_some() {
        let checkpoint = run.checkpoint();
        let weights: Vec<f64> =
            checkpoint.reals["jarzynski.log_weights"].iter().map(|a| a.exp()).collect();
        let (sum, squares) =
            (weights.iter().sum::<f64>(), weights.iter().map(|w| w * w).sum::<f64>());
        let ess = sum * sum / squares;
        assert!(ess >= 0.5 * CHAINS as f64, "{ess}");
        let even = weights.iter().all(|&w| w == weights[0]);
        let before = std::mem::replace(&mut times, resampled(&checkpoint));
        assert_eq!(times - before, u64::from(even), "ESS {ess}");
    }
    assert!(times > 1 && times == expected, "{times}, {expected}");
}

#[test]
fn checkpoints_of_other_runs_and_damaged_ones_are_refused() {
    let estimator = Estimator::MaximumLikelihood {
        negative: NegativePhase::Persistent { chains: 5, steps: 1, restart: 0.0 },
    };
    let options = TrainOptions { optimiser: Optimiser::Adam, ..options(estimator, Domain::Sphere) };
    let (x, other) = (data::<f64>(60, Domain::Sphere, 0), data::<f64>(60, Domain::Sphere, 2));
    let (x, other) = (Rows::new(&x, 60, D).unwrap(), Rows::new(&other, 60, D).unwrap());
    let mut run = Training::new(x, x, &options).unwrap();
    run.next_evaluation().unwrap();
    run.next_evaluation().unwrap();
    let checkpoint = run.checkpoint();
    let refused = |x, validation, options: &TrainOptions, checkpoint: &Checkpoint, part: &str| {
        match Training::resume(x, validation, options, checkpoint) {
            Err(error) => assert!(error.to_string().contains(part), "{error}"),
            Ok(_) => panic!("not refused: {part}"),
        }
    };
    refused(other, x, &options, &checkpoint, "differs in: training data");
    refused(x, other, &options, &checkpoint, "differs in: validation data");
    for (changed, what) in [
        (TrainOptions { seed: 12, ..options.clone() }, "seed"),
        (TrainOptions { neurons: 9, ..options.clone() }, "number of neurons"),
        (TrainOptions { weight_decay: 1e-9, ..options.clone() }, "weight decay"),
        (TrainOptions { evaluate_every: 6, ..options.clone() }, "interval of evaluations"),
        (
            TrainOptions { bias: true, decay: Some(0.5), ..options.clone() },
            "decay, choice of biases",
        ),
    ] {
        refused(x, x, &changed, &checkpoint, &format!("its run differs in: {what}"));
    }
    let free = TrainOptions { isa: Isa::Scalar, patience: Some(100), ..options.clone() };
    Training::resume(x, x, &free, &checkpoint).unwrap();
    refused(x, x, &options, &Checkpoint::default(), "there is no `run`");

    // Each array missing, or one number short; and numbers that make no sense.
    for name in checkpoint.reals.keys().chain(checkpoint.counts.keys()) {
        let mut damaged = checkpoint.clone();
        damaged.reals.remove(name);
        damaged.counts.remove(name);
        refused(x, x, &options, &damaged, "checkpoint");
        let mut damaged = checkpoint.clone();
        let empty = match (damaged.reals.get_mut(name), damaged.counts.get_mut(name)) {
            (Some(values), _) => values.pop().is_none(),
            (_, Some(values)) => values.pop().is_none(),
            _ => true,
        };
        if !empty {
            refused(x, x, &options, &damaged, "checkpoint");
        }
    }
    let damaged = |change: &dyn Fn(&mut Checkpoint)| {
        let mut damaged = checkpoint.clone();
        change(&mut damaged);
        damaged
    };
    let set = |name: &'static str, value: f64| {
        damaged(&|c: &mut Checkpoint| c.reals.get_mut(name).unwrap()[0] = value)
    };
    for name in ["model.w", "chains.x"] {
        refused(x, x, &options, &set(name, f64::NAN), name);
    }
    // Squares that overflow are a state to go on from.
    Training::resume(x, x, &options, &set("adam.second", f64::INFINITY)).unwrap();
    refused(x, x, &options, &set("chains.x", 3.0), "unit sphere");
    refused(x, x, &options, &set("chains.step", -1.0), "positive");
    let order = damaged(&|c: &mut Checkpoint| {
        let iterations = c.counts.get_mut("history.iteration").unwrap();
        *iterations = vec![9, *iterations.last().unwrap()];
    });
    refused(x, x, &options, &order, "its history");
    let counts = damaged(&|c: &mut Checkpoint| {
        c.counts.get_mut("negative.iteration").unwrap().fill(u64::MAX);
        c.counts.get_mut("chains.restarts").unwrap().fill(u64::MAX);
    });
    let mut run = Training::resume(x, x, &options, &counts).unwrap();
    run.next_evaluation().unwrap();
    let zeros = damaged(&|c: &mut Checkpoint| c.counts.get_mut("chains.streams").unwrap().fill(0));
    refused(x, x, &options, &zeros, "all zeros");
    let error = Training::resume(x, x, &options, &Checkpoint::default()).err().unwrap();
    assert!(matches!(error, Error::Checkpoint(_)));
}
