//! `gibbsite train`.

mod course;
mod problem;
mod summary;

use super::{Context, check_spared, in_directory, remove, rows};
use crate::{
    Number,
    args::{CriticName, EstimatorName, Negative, Optimisation, OptimiserName, TrainArgs},
    error::{Error, Result},
    io::{self, Matrix, checkpoint::read_checkpoint},
    progress::Progress,
    report::shown,
    sheet,
};
use course::{Course, Keep};
use gibbsite::{
    ReluEnergy, Rows, monitor,
    normaliser::{self, LogZ, Method},
    sampler::{Sampler, Start},
    stein::Statistic,
    teacher::Teacher,
    train::{
        Checkpoint, Critic, Estimator, NegativePhase, Optimiser, Record, Regime, TrainOptions,
    },
};
use problem::{Problem, check_size};
use std::time::{Duration, Instant};
use summary::{Point, Results, Summary, ToTeacher};

/// The file that an interrupted run goes on from.
const CHECKPOINT: &str = "checkpoint.safetensors";

/// Points behind a KL divergence during training, and behind the final one.
const KL_POINTS: usize = 20_000;
const FINAL_KL_POINTS: usize = 150_000;

/// Training points at which the tangent kernel is watched.
const NTK_POINTS: usize = 100;

/// Effective sample size behind log Z below which it is not to be relied on.
const LEAST_ESS: f64 = 100.0;

pub fn run<T: Number>(args: &TrainArgs, context: Context) -> Result<()> {
    let start = Instant::now();
    let voice = context.voice;
    let options = options(args, context)?;
    if let Some(data) = &args.data {
        let spared = |name| check_spared("--out", &args.out.join(name), &[data]);
        summary::FILES.into_iter().try_for_each(spared)?;
    }
    let problem = Problem::<T>::new(args, context.seed, voice)?;
    check_sizes(args, problem.train.cols)?;
    let checkpoint = match args.interruption.resume {
        true => Some(read_checkpoint(&args.out.join(CHECKPOINT))?),
        false => None,
    };
    let summary = in_directory("--out", &args.out, || {
        // Before the work, which would be lost.
        for name in summary::FILES {
            let path = args.out.join(name);
            io::check_writable(&path).map_err(|error| Error::Usage(format!("--out {error}")))?;
        }
        train_and_write(args, context, &options, &problem, checkpoint.as_ref(), start)
    })?;
    voice.result(&summary, &summary)
}

fn train_and_write<T: Number>(
    args: &TrainArgs,
    context: Context,
    options: &TrainOptions,
    problem: &Problem<T>,
    checkpoint: Option<&Checkpoint>,
    start: Instant,
) -> Result<Summary> {
    let Context { seed, voice, .. } = context;
    let teacher = problem.teacher.as_ref();
    let mut progress = Progress::new(options.iterations, voice);
    let mut course = Course::new(args, problem, options, checkpoint)?;
    let resumed_from = course.history.last().map(|point| point.record.iteration);
    let keep = Keep {
        path: args.out.join(CHECKPOINT),
        // What no clock will reach is never.
        every: Duration::try_from_secs_f64(args.interruption.checkpoint_every)
            .unwrap_or(Duration::MAX),
    };
    let outcome = course.run(seed, &keep, &mut progress);
    let training_seconds = course.seconds();
    let Course { training, history, .. } = course;
    let results = |model, best, teacher_validation, images| Results {
        problem,
        model,
        history: &history,
        best,
        teacher_validation,
        estimator: options.estimator,
        regime: options.regime,
        images,
    };
    let (best, model) = match (outcome, training.best()) {
        (Ok(()), best) => best.expect("the first iterate is evaluated"),
        (Err(Error::Library(error)), Some((best, model))) if error.is_divergence() => {
            // The same run would diverge again.
            remove(&keep.path)?;
            results(model, best, None, None).write(&args.out)?;
            let (iteration, out) = (best.iteration, shown(&args.out));
            let kept =
                format!("the best iterate before, {iteration}, and the history are in {out}");
            return Err(Error::Diverged { error, kept });
        }
        (Err(Error::Library(error)), _) => return Err(about(args, &problem.name, error)),
        (Err(error), _) => return Err(error),
    };
    progress.note(format_args!("evaluating the chosen iterate, {}", best.iteration));

    let log_z = normaliser::log_z(model, seed)?;
    let test = cross_entropy(model, &problem.test, &log_z)?;
    let kl =
        teacher.map(|teacher| to_teacher(teacher, model, FINAL_KL_POINTS, seed)).transpose()?;
    let teacher_log_z =
        teacher.map(|teacher| normaliser::log_z(teacher.model(), seed)).transpose()?;
    let of_teacher = |x| -> Result<Option<f64>> {
        teacher
            .zip(teacher_log_z.as_ref())
            .map(|(teacher, log_z)| Ok(cross_entropy(teacher.model(), x, log_z)?.0))
            .transpose()
    };
    let images = args.image.map(|size| Ok::<_, Error>((size, samples(model, &log_z, seed)?)));
    let images = images.transpose()?;
    drop(progress);
    let mut warnings = problem.warnings.clone();
    for (ess, what) in [
        (log_z.ess, "log Z, the cross-entropies and samples are"),
        (best.ess, "the choice of the iterate by validation is"),
    ] {
        if ess < LEAST_ESS {
            let text = format!("an effective sample size of only {ess:.0}: {what} unreliable");
            voice.warn(&mut warnings, text);
        }
    }
    if best.iteration == 0 && options.iterations > 0 {
        let text = "no iterate is better on the validation data than the first, which is kept: \
                    try a smaller --learning-rate";
        voice.warn(&mut warnings, text.to_owned());
    }
    let chosen = history.iter().find(|point| point.record == *best);
    let iterations = history.last().map_or(0, |point| point.record.iteration);
    let results = results(model, best, of_teacher(&problem.validation)?, images);
    let files = results.files(&args.out).iter().map(|path| shown(path)).collect();
    let summary = Summary {
        estimator: options.estimator.to_string(),
        regime: options.regime.to_string(),
        problem: problem.name.clone(),
        domain: options.domain.to_string(),
        n: problem.train.rows,
        n_validation: problem.validation.rows,
        n_test: problem.test.rows,
        d: problem.train.cols,
        neurons: model.neurons(),
        bias: model.bias().is_some(),
        base_scale: model.base_scale().map(Into::into),
        iterations,
        stopped_early: iterations < options.iterations,
        resumed_from,
        best_iteration: best.iteration,
        seconds: start.elapsed().as_secs_f64(),
        training_seconds,
        train_cross_entropy: cross_entropy(model, &problem.train, &log_z)?.0,
        validation_cross_entropy: cross_entropy(model, &problem.validation, &log_z)?.0,
        test_cross_entropy: test.0,
        // One point has no spread.
        test_cross_entropy_se: (problem.test.rows > 1).then_some(test.1),
        teacher_test_cross_entropy: of_teacher(&problem.test)?,
        log_z: log_z.value,
        log_z_se: log_z.std_error,
        log_z_method: match log_z.method {
            Method::ImportanceSampling => "importance sampling",
            _ => "annealed importance sampling",
        },
        ess: log_z.ess,
        kl_to_teacher: kl.map(|teacher| teacher.kl),
        max_cosine: kl.map(|teacher| teacher.max_cosine),
        f1_norm: monitor::f1_norm(model),
        f2_norm: monitor::f2_norm(model),
        ntk_drift: chosen.and_then(|point| point.ntk_drift),
        seed,
        threads: context.threads,
        dtype: context.dtype,
        isa: context.isa.name(),
        backend: context.backend.to_string(),
        warnings,
        files,
    };
    results.write(&args.out)?;
    summary.write(&args.out)?;
    Ok(summary)
}

/// An error of the library, put down to what the user can change.
fn about(args: &TrainArgs, data: &str, error: gibbsite::Error) -> Error {
    let flags = &args.optimisation;
    let culprit = match &error {
        gibbsite::Error::Checkpoint(_) => "--resume",
        gibbsite::Error::Parameter { what: "bandwidth", .. } => "--bandwidth",
        gibbsite::Error::Parameter { what: "noise", .. } => "--noise",
        gibbsite::Error::Parameter { what: "base scale", .. } if args.own.base_scale.is_some() => {
            "--base-scale"
        }
        gibbsite::Error::Parameter { what: "base scale", .. } => {
            return Error::Usage(format!(
                "{data}: the root mean square of the training data is no base scale \
                 (scale the data, or give --base-scale): {error}"
            ));
        }
        gibbsite::Error::Parameter { what: "number of points", .. } => "--statistic u",
        gibbsite::Error::Memory { what: "number of neurons", .. } => "--neurons",
        gibbsite::Error::Memory { what: "number of points", .. } if args.data.is_none() => "--n",
        gibbsite::Error::Memory { what: "number of points", .. } => data,
        // Only one of the two goes with --negative.
        gibbsite::Error::Memory { .. } if flags.bank_size.is_some() => "--bank-size",
        gibbsite::Error::Memory { .. } if flags.chains.is_some() => "--chains",
        _ => data,
    };
    Error::about(culprit, error)
}

fn options(args: &TrainArgs, context: Context) -> Result<TrainOptions> {
    if args.own.base_scale.is_some() && args.domain == gibbsite::Domain::Sphere {
        return Err(Error::Usage("--base-scale: needs --domain euclidean".to_owned()));
    }
    Ok(TrainOptions {
        estimator: estimator(args)?,
        regime: args.regime,
        domain: args.domain,
        neurons: args.neurons,
        optimiser: match args.optimisation.optimiser {
            OptimiserName::Gd => Optimiser::GradientDescent,
            OptimiserName::Adam => Optimiser::Adam,
            OptimiserName::Lbfgs => Optimiser::Lbfgs,
            OptimiserName::Transport => Optimiser::Transport,
        },
        iterations: args.iterations,
        patience: args.optimisation.patience,
        learning_rate: args.optimisation.learning_rate,
        decay: args.optimisation.decay,
        weight_decay: args.optimisation.weight_decay,
        initial_variance: args
            .optimisation
            .initial_variance
            .unwrap_or(TrainOptions::default().initial_variance),
        bias: args.bias,
        base_scale: args.own.base_scale,
        evaluate_every: args.optimisation.evaluate_every,
        seed: context.seed,
        isa: context.isa,
        backend: context.backend,
    })
}

fn estimator(args: &TrainArgs) -> Result<Estimator> {
    let flags = &args.optimisation;
    let mle = args.estimator == EstimatorName::Mle;
    let ksd = args.estimator == EstimatorName::Ksd;
    for (flag, given, fits, needs) in [
        ("--negative", flags.negative != Negative::Auto, mle, "mle"),
        ("--bandwidth", flags.bandwidth.is_some(), ksd, "ksd"),
        ("--statistic", flags.statistic.is_some(), ksd, "ksd"),
        (
            "--critic",
            flags.critic != CriticName::Neurons,
            args.estimator == EstimatorName::F1sd,
            "f1sd",
        ),
        ("--noise", flags.noise.is_some(), args.estimator == EstimatorName::Dsm, "dsm"),
    ] {
        if given && !fits {
            return Err(Error::Usage(format!("{flag}: needs --estimator {needs}")));
        }
    }
    let sphere = args.domain == gibbsite::Domain::Sphere;
    if sphere && flags.negative == Negative::Jarzynski {
        return Err(Error::Usage("--negative jarzynski: needs --domain euclidean".to_owned()));
    }
    match args.estimator {
        EstimatorName::F1sd if !sphere => {
            return Err(Error::Usage("--estimator f1sd: needs --domain sphere".to_owned()));
        }
        EstimatorName::Dsm if sphere => {
            return Err(Error::Usage("--estimator dsm: needs --domain euclidean".to_owned()));
        }
        _ => {}
    }
    let negative = negative_phase(flags)?;
    let transport = flags.optimiser == OptimiserName::Transport;
    if flags.initial_variance.is_some() && (args.regime != Regime::F1 || transport) {
        let needs =
            "--regime f1 and another --optimiser than transport: the others start from f = 0";
        return Err(Error::Usage(format!("--initial-variance: needs {needs}")));
    }
    if transport && (args.regime != Regime::F1 || args.bias) {
        let needs = "--regime f1 and no --bias: it moves neurons of norm 1";
        return Err(Error::Usage(format!("--optimiser transport: needs {needs}")));
    }
    if flags.optimiser == OptimiserName::Lbfgs {
        for (flag, given) in [("--learning-rate", flags.learning_rate), ("--decay", flags.decay)] {
            if given.is_some() {
                let why = "--optimiser lbfgs finds its own step sizes";
                return Err(Error::Usage(format!("{flag}: {why}")));
            }
        }
        let banked = matches!(flags.negative, Negative::Auto | Negative::Bank);
        for (fits, needs) in [
            (args.regime == Regime::F2, "--regime f2, where the loss is convex"),
            (
                args.estimator != EstimatorName::F1sd,
                "--estimator mle, ksd or dsm, which are smooth",
            ),
            (banked, "--negative bank"),
        ] {
            if !fits {
                return Err(Error::Usage(format!("--optimiser lbfgs: needs {needs}")));
            }
        }
    }
    Ok(match args.estimator {
        EstimatorName::Mle => Estimator::MaximumLikelihood { negative },
        EstimatorName::Ksd => Estimator::Ksd {
            bandwidth: flags.bandwidth,
            statistic: flags.statistic.map_or(Statistic::V, Into::into),
        },
        EstimatorName::Dsm => Estimator::Denoising { noise: flags.noise },
        EstimatorName::F1sd => Estimator::F1Sd {
            critic: match flags.critic {
                CriticName::Neurons => Critic::Neurons,
                CriticName::Network => Critic::Network { units: 500, steps: 25 },
            },
        },
        EstimatorName::Hyvarinen | EstimatorName::Sliced => {
            return Err(Error::Usage(
                "--estimator: score matching by second derivatives is minimised by a constant \
                 ReLU energy, whose second derivatives no point sees; use dsm, ksd or f1sd"
                    .to_owned(),
            ));
        }
    })
}

fn negative_phase(flags: &Optimisation) -> Result<NegativePhase> {
    let &Optimisation { negative, chains, steps, restart, bank_size, .. } = flags;
    let has_chains = !matches!(negative, Negative::Auto | Negative::Bank);
    let has_steps = has_chains && negative != Negative::Jarzynski;
    let persistent = negative == Negative::Persistent;
    for (flag, given, fits, needs) in [
        (
            "--chains",
            chains.is_some(),
            has_chains,
            "independence, persistent, contrastive or jarzynski",
        ),
        ("--steps", steps.is_some(), has_steps, "independence, persistent or contrastive"),
        ("--restart", restart.is_some(), persistent, "persistent"),
        ("--bank-size", bank_size.is_some(), negative == Negative::Bank, "bank"),
    ] {
        if given && !fits {
            return Err(Error::Usage(format!("{flag}: needs --negative {needs}")));
        }
    }
    let (chains, steps) = (chains.unwrap_or(CHAINS), steps.unwrap_or(STEPS));
    Ok(match negative {
        Negative::Auto => NegativePhase::Auto,
        Negative::Bank => NegativePhase::Bank { size: bank_size.unwrap_or(BANK) },
        Negative::Independence => NegativePhase::Independence { chains, steps },
        Negative::Persistent => {
            NegativePhase::Persistent { chains, steps, restart: restart.unwrap_or(0.0) }
        }
        Negative::Contrastive => NegativePhase::Contrastive { chains, steps },
        Negative::Jarzynski => NegativePhase::Jarzynski { chains },
    })
}

/// Defaults of the sizes that go with `--negative`.
const CHAINS: usize = 1000;
const STEPS: usize = 10;
const BANK: usize = 3000;

fn check_sizes(args: &TrainArgs, d: usize) -> Result<()> {
    check_size("--neurons", args.neurons, d)?;
    check_size("--chains", args.optimisation.chains.unwrap_or(CHAINS), d)?;
    check_size("--bank-size", args.optimisation.bank_size.unwrap_or(BANK), d)?;
    if let Some(size) = args.image
        && size.height * size.width != d
    {
        return Err(Error::Usage(format!(
            "--image {size}: images of {} pixels, but points have {d} numbers",
            size.height * size.width
        )));
    }
    Ok(())
}

fn to_teacher<T: Number>(
    teacher: &Teacher<T>,
    model: &ReluEnergy<T>,
    points: usize,
    seed: u64,
) -> gibbsite::Result<ToTeacher> {
    let kl = teacher.kl_to(model, points, seed)?;
    Ok(ToTeacher { kl, max_cosine: teacher.max_cosine(model)? })
}

/// `None` where it says nothing: in the lazy regime the kernel of what is trained is fixed, and a kernel that was 0 has no scale.
fn ntk_drift<T: Number>(
    first: &ReluEnergy<T>,
    model: &ReluEnergy<T>,
    x: Rows<'_, T>,
    regime: Regime,
) -> gibbsite::Result<Option<f64>> {
    match (regime, monitor::ntk_drift(first, model, x)) {
        (Regime::F2, _) | (_, Err(gibbsite::Error::Zero { .. })) => Ok(None),
        (Regime::F1, drift) => drift.map(Some),
    }
}

/// Mean of β f + log Z over points, and its standard error: that of the mean and that of log Z.
fn cross_entropy<T: Number>(
    model: &ReluEnergy<T>,
    x: &Matrix<T>,
    log_z: &LogZ<T>,
) -> Result<(f64, f64)> {
    let mut energy = vec![T::ZERO; x.rows];
    model.energy(rows(x)?, &mut energy)?;
    let (n, beta): (_, f64) = (x.rows as f64, model.beta().into());
    let energy = || energy.iter().map(|&f| beta * f.into());
    let mean = energy().sum::<f64>() / n;
    let variance = energy().map(|f| (f - mean) * (f - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    Ok((mean + log_z.value, (variance / n + log_z.std_error * log_z.std_error).sqrt()))
}

/// Samples for a sheet: some of the points behind log Z, after moves that leave the model's law as
/// it is.
fn samples<T: Number>(model: &ReluEnergy<T>, log_z: &LogZ<T>, seed: u64) -> Result<Vec<T>> {
    const WARM_UP: usize = 500;
    const MOVES: usize = 1500;
    let (n, d) = (sheet::IMAGES, model.dim());
    let data = if log_z.ess < LEAST_ESS {
        // Resampling would repeat the few points that carry weight.
        log_z.points[..n * d].to_vec()
    } else {
        log_z.resample(n, seed)?
    };
    let start = Matrix { data: data.into(), rows: n, cols: d };
    let scale: f64 = model.base_scale().map_or(1.0, Into::into);
    let step = scale * scale / d as f64;
    let sampler = Sampler::mala(step).seed(seed ^ SAMPLE_SEED);
    let mut chains = sampler.start(Start::Points(rows(&start)?)).build(model)?;
    chains.warm_up(model, WARM_UP)?;
    chains.run(model, MOVES)?;
    Ok(chains.states().as_slice().to_vec())
}

/// Sets the noise of the sheet's chains apart from that of training.
const SAMPLE_SEED: u64 = 1 << 63;

/// Short enough for a terminal of 80 columns, the most important first.
fn describe(point: &Point) -> String {
    let Record { validation_cross_entropy, log_z, log_z_se, ess, f1_norm, .. } = point.record;
    let mut text = format!("validation {validation_cross_entropy:.4}");
    if let Some(teacher) = &point.teacher {
        text += &format!(" · KL {:.4}", teacher.kl);
    }
    text += &format!(" · log Z {log_z:.4}±{log_z_se:.4} · ESS {ess:.0} · F1 norm {f1_norm:.2}");
    if let Some(acceptance) = point.record.acceptance {
        text += &format!(" · accepted {:.0} %", 100.0 * acceptance);
    }
    text
}
