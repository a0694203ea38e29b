//! Training with any options on any data: no panic; what is refused is refused for a reason; a run
//! that was interrupted ends with the bits of one run; a damaged checkpoint is an error, or a run
//! that can go on.
#![no_main]

use gibbsite::{
    Backend, Domain, Isa, Rows,
    stein::Statistic,
    train::{
        Checkpoint, Critic, Estimator, NegativePhase, Optimiser, Regime, TrainOptions, Training,
    },
};
use gibbsite_fuzz::{Amount, Class, Float, Numbers, Size, accepted, finite, normalise};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Loss {
    Auto,
    Bank(Size),
    Independence(Size, u8),
    Persistent(Size, u8, Amount),
    Contrastive(Size, u8),
    Jarzynski(Size),
    Ksd { bandwidth: Option<Amount>, unbiased: bool },
    Denoising(Option<Amount>),
    Neurons,
    Network(Size, u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Mover {
    GradientDescent,
    Adam,
    Lbfgs,
    Transport,
}

/// What is done to an array of a checkpoint.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Damage {
    Remove,
    Resize(u8),
    Set { at: u8, bits: u64 },
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    double: bool,
    loss: Loss,
    lazy: bool,
    sphere: bool,
    neurons: Size,
    mover: Mover,
    iterations: u8,
    patience: Option<u8>,
    learning_rate: Option<Amount>,
    decay: Option<Amount>,
    weight_decay: Option<Amount>,
    initial_variance: Option<Amount>,
    bias: bool,
    base_scale: Option<Amount>,
    evaluate_every: u8,
    seed: u64,
    isa: u8,
    n: [u8; 2],
    d: u8,
    data: Class,
    damage: [(u8, Damage); 2],
    numbers: &'a [u8],
}

/// Nothing between what is quick and what no memory holds.
fn size(size: Size, most: usize) -> usize {
    let size = size.value();
    if size < usize::MAX >> 16 { size % most } else { size }
}

fn options(input: &Input<'_>) -> TrainOptions {
    let steps = |steps: u8| usize::from(steps % 4);
    let mle = |negative| Estimator::MaximumLikelihood { negative };
    let defaults = TrainOptions::default();
    TrainOptions {
        estimator: match input.loss {
            Loss::Auto => mle(NegativePhase::Auto),
            Loss::Bank(count) => mle(NegativePhase::Bank { size: size(count, 200) }),
            Loss::Independence(chains, moves) => {
                mle(NegativePhase::Independence { chains: size(chains, 100), steps: steps(moves) })
            }
            Loss::Persistent(chains, moves, restart) => mle(NegativePhase::Persistent {
                chains: size(chains, 100),
                steps: steps(moves),
                restart: restart.value(),
            }),
            Loss::Contrastive(chains, moves) => {
                mle(NegativePhase::Contrastive { chains: size(chains, 100), steps: steps(moves) })
            }
            Loss::Jarzynski(chains) => mle(NegativePhase::Jarzynski { chains: size(chains, 100) }),
            Loss::Ksd { bandwidth, unbiased } => Estimator::Ksd {
                bandwidth: bandwidth.map(Amount::value),
                statistic: if unbiased { Statistic::U } else { Statistic::V },
            },
            Loss::Denoising(noise) => Estimator::Denoising { noise: noise.map(Amount::value) },
            Loss::Neurons => Estimator::F1Sd { critic: Critic::Neurons },
            Loss::Network(units, moves) => Estimator::F1Sd {
                critic: Critic::Network { units: size(units, 12), steps: steps(moves) },
            },
        },
        regime: if input.lazy { Regime::F2 } else { Regime::F1 },
        domain: if input.sphere { Domain::Sphere } else { Domain::Euclidean },
        neurons: size(input.neurons, 12),
        optimiser: match input.mover {
            Mover::GradientDescent => Optimiser::GradientDescent,
            Mover::Adam => Optimiser::Adam,
            Mover::Lbfgs => Optimiser::Lbfgs,
            Mover::Transport => Optimiser::Transport,
        },
        iterations: (input.iterations % 6).into(),
        patience: input.patience.map(usize::from),
        learning_rate: input.learning_rate.map(Amount::value),
        decay: input.decay.map(Amount::value),
        weight_decay: input.weight_decay.map_or(defaults.weight_decay, Amount::value),
        initial_variance: input.initial_variance.map_or(defaults.initial_variance, Amount::value),
        bias: input.bias,
        base_scale: input.base_scale.map(Amount::value),
        evaluate_every: (input.evaluate_every % 4).into(),
        seed: input.seed,
        isa: Isa::best(),
        backend: Backend::Fused,
    }
}

/// What a run says until its end or an error; whatever it is, it is the same if it is the same run.
fn run<T: Float>(training: &mut Training<T>) -> String {
    let mut end = "end".to_owned();
    loop {
        match training.next_evaluation() {
            Ok(Some((record, model))) => {
                assert!(record.train_cross_entropy.is_finite(), "{record:?}");
                assert!(record.acceptance.is_none_or(|share| (0.0..=1.0).contains(&share)));
                assert!(finite(model.w()) && finite(model.theta().as_slice()));
            }
            Ok(None) => break,
            Err(error) => {
                end = error.to_string();
                accepted::<()>(Err(error));
                break;
            }
        }
    }
    let best = training.best().map(|(record, model)| (record, model.w(), model.theta().as_slice()));
    format!("{:?} {best:?} {end}", training.history())
}

fn damage(checkpoint: &mut Checkpoint, (which, damage): (u8, Damage)) {
    let reals = checkpoint.reals.len();
    let which = usize::from(which) % (reals + checkpoint.counts.len());
    let names = checkpoint.reals.keys().chain(checkpoint.counts.keys());
    let name = names.cloned().nth(which).expect("a name");
    if which < reals {
        change(&mut checkpoint.reals, &name, damage, f64::from_bits);
    } else {
        change(&mut checkpoint.counts, &name, damage, |bits| bits);
    }
}

fn change<V: Copy>(
    arrays: &mut std::collections::BTreeMap<String, Vec<V>>,
    name: &str,
    damage: Damage,
    value: impl Fn(u64) -> V,
) {
    let Some(array) = arrays.get_mut(name) else { return };
    match damage {
        Damage::Remove => drop(arrays.remove(name)),
        Damage::Resize(len) => array.resize(len.into(), value(0)),
        Damage::Set { at, bits } => {
            let at = usize::from(at) % array.len().max(1);
            array.iter_mut().skip(at).take(1).for_each(|x| *x = value(bits));
        }
    }
}

fn check<T: Float>(input: &Input<'_>) {
    let mut numbers = Numbers::new(input.numbers);
    let d = usize::from(input.d % 6);
    let mut data = |n: u8| {
        let n = usize::from(n % 40);
        let mut x = numbers.array::<T>(input.data, n * d);
        if input.sphere {
            normalise(&mut x, d);
        }
        (x, n)
    };
    let [train, validation] = input.n.map(&mut data);
    let rows = |n, x| Rows::new(x, n, d).expect("sized for it");
    let (train, validation) = (rows(train.1, &train.0), rows(validation.1, &validation.0));
    let options = options(input);
    let Some(mut training) = accepted(Training::new(train, validation, &options)) else { return };
    accepted(training.initial_model()).expect("for options that were taken");

    // An evaluation more than at the start, if there is one.
    for _ in 0..2 {
        if training.next_evaluation().is_err() {
            return;
        }
    }
    let mut checkpoint = training.checkpoint();
    let isa = Isa::ALL[usize::from(input.isa) % Isa::ALL.len()];
    let options = TrainOptions { isa, ..options };
    let resume =
        |checkpoint: &Checkpoint| Training::resume(train, validation, &options, checkpoint);
    let mut again = resume(&checkpoint).expect("its own checkpoint");
    let (want, got) = (run(&mut training), run(&mut again));
    assert!(want == got, "{want}\n{got}");

    input.damage.iter().for_each(|&how| damage(&mut checkpoint, how));
    if let Some(mut hurt) = accepted(resume(&checkpoint)) {
        run(&mut hurt);
    }
}

fuzz_target!(|input: Input<'_>| {
    match input.double {
        false => check::<f32>(&input),
        true => check::<f64>(&input),
    }
});
