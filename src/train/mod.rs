//! Training: the loop that estimators share, with its schedule, history and choice of the iterate.

mod mle;

pub use mle::NegativePhase;

use crate::{
    Backend, Domain, Error, Isa, Real, ReluEnergy, Result, Rows,
    data::{check_finite, check_on_sphere, dot},
    monitor,
    normaliser::{self, LogZ},
    random::Stream,
};

/// Which parameters are trained (Domingo-Enrich et al. 2021, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Regime {
    /// Active: neurons and outer weights, the ball of F1. Starts from small Gaussian parameters.
    #[default]
    F1,
    /// Lazy: outer weights only, over random neurons, the ball of F2. Starts from f = 0.
    F2,
}

impl std::fmt::Display for Regime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Regime::F1 => "f1",
            Regime::F2 => "f2",
        })
    }
}

/// Options of a training run.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Active or lazy.
    pub regime: Regime,
    /// Domain of the data and the model.
    pub domain: Domain,
    /// Number of neurons m.
    pub neurons: usize,
    /// Gradient steps.
    pub iterations: usize,
    /// Step size l of the outer weights at the start; it decays as l / (1 + t/200). 0.05 (F1) or 0.5 (F2) if absent. The
    /// neurons' step is 100 times larger. Both are scaled by m, so that they do not depend on it.
    pub learning_rate: Option<f64>,
    /// Weight decay of all trained parameters.
    pub weight_decay: f64,
    /// Variance of the initial parameters in the active regime (0.1 in the paper's experiments): small values let neurons
    /// condense on few directions, large ones keep them near where they started.
    pub initial_variance: f64,
    /// Whether neurons have biases.
    pub bias: bool,
    /// Scale s of the Gaussian base measure in R^d; the root mean square of the training data if absent.
    pub base_scale: Option<f64>,
    /// How the model's side of the gradient is estimated.
    pub negative: NegativePhase,
    /// Iterations between evaluations.
    pub evaluate_every: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Instruction-set level.
    pub isa: Isa,
    /// Backend of the energies.
    pub backend: Backend,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            regime: Regime::F1,
            domain: Domain::Sphere,
            neurons: 500,
            iterations: 600,
            learning_rate: None,
            weight_decay: 0.0,
            initial_variance: 0.1,
            bias: false,
            base_scale: None,
            negative: NegativePhase::Auto,
            evaluate_every: 10,
            seed: 0,
            isa: Isa::best(),
            backend: Backend::Auto,
        }
    }
}

/// One evaluation during training. Cross-entropies are in nats, relative to the base probability (see [`normaliser`]): 0 is
/// the base itself, smaller is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Steps taken so far.
    pub iteration: usize,
    /// Mean of β f + log Z over the training data.
    pub train_cross_entropy: f64,
    /// The same over the validation data: what the iterate is chosen by.
    pub validation_cross_entropy: f64,
    /// Estimate of log Z.
    pub log_z: f64,
    /// Its standard error.
    pub log_z_se: f64,
    /// Effective sample size behind it.
    pub ess: f64,
    /// (1/m) Σ_j |w_j| |(θ_j, b_j)|.
    pub f1_norm: f64,
    /// Acceptance rate of the negative phase's chains since the last record, where there are chains that accept.
    pub acceptance: Option<f64>,
}

/// A trained model.
#[derive(Clone, Debug)]
pub struct Trained<T: Real> {
    /// The iterate with the smallest validation cross-entropy.
    pub model: ReluEnergy<T>,
    /// Its record.
    pub best: Record,
    /// All records in order.
    pub history: Vec<Record>,
}

/// Trains by maximum likelihood: gradient descent on `E_data[f] + log Z`, whose gradient is
/// `E_data[∂f] - E_model[∂f]`; the second expectation is the negative phase's to estimate.
///
/// `train` and `validation` are n×d and n'×d. On the sphere their rows must have norm 1. `observe` receives every record and the
/// model it is about, as they come.
///
/// The same options and data give the same bits for any number of threads (backend `fused` or `auto`).
///
/// # Errors
/// For data that are empty, not finite or off the sphere, options out of range, and [`Error::Diverged`] when parameters or the
/// cross-entropy blow up.
pub fn maximum_likelihood<T: Real>(
    train: Rows<'_, T>,
    validation: Rows<'_, T>,
    options: &TrainOptions,
    mut observe: impl FnMut(&Record, &ReluEnergy<T>) -> Result<()>,
) -> Result<Trained<T>> {
    check_options(options)?;
    for (what, x) in [("training data", train), ("validation data", validation)] {
        check_data(what, x, train.cols(), options.domain)?;
    }
    // In R^d we train in units in which draws of the base have a norm of about 1, as on the sphere, so
    // that the same step sizes serve both, and convert at the border.
    let unit = match options.domain {
        Domain::Sphere => T::ONE,
        Domain::Euclidean => {
            T::from_f64(base_scale(train, options)? * (train.cols() as f64).sqrt())
        }
    };
    let scaled = |x: Rows<'_, T>| -> Vec<T> { x.iter().flatten().map(|&x| x / unit).collect() };
    let (train_data, validation_data) = (scaled(train), scaled(validation));
    let validation = Rows::new(&validation_data, validation.rows(), validation.cols())?;
    let d = train.cols();
    let mut model = initial_model(d, options)?;
    let mut gradient = mle::Gradient::new(&model, &train_data, options)?;
    let train = Rows::new(&train_data, train.rows(), d)?;

    let base_rate = options.learning_rate.unwrap_or(match options.regime {
        Regime::F1 => 0.05,
        Regime::F2 => 0.5,
    });
    let mut evaluation = Evaluation::new(options.seed);
    let mut history: Vec<Record> = Vec::new();
    let mut best: Option<(Record, ReluEnergy<T>)> = None;
    for iteration in 0..=options.iterations {
        let due = iteration % options.evaluate_every == 0 || iteration == options.iterations;
        if due {
            let log_z = evaluation.log_z(&model)?;
            let record = Record {
                iteration,
                train_cross_entropy: cross_entropy(&model, train, &log_z)?,
                validation_cross_entropy: cross_entropy(&model, validation, &log_z)?,
                log_z: log_z.value,
                log_z_se: log_z.std_error,
                ess: log_z.ess,
                f1_norm: monitor::f1_norm(&in_units_of(&model, unit)?),
                acceptance: gradient.take_acceptance(),
            };
            guard(&record, d)?;
            let rescaled = in_units_of(&model, unit)?;
            observe(&record, &rescaled)?;
            let better = best.as_ref().is_none_or(|(best, _)| {
                record.validation_cross_entropy < best.validation_cross_entropy
            });
            if better {
                best = Some((record.clone(), rescaled));
            }
            history.push(record);
        }
        if iteration < options.iterations {
            let rate = base_rate / (1.0 + 0.005 * iteration as f64);
            let grad = gradient.at(&model)?;
            step(&mut model, grad, rate, options).map_err(|error| match error {
                Error::NonFinite { what, .. } => {
                    Error::Diverged { iteration, what: format!("{what} is no longer finite") }
                }
                error => error,
            })?;
        }
    }
    let (best, model) = best.expect("the first iterate is evaluated");
    Ok(Trained { model, best, history })
}

/// One gradient step, weight decay included.
fn step<T: Real>(
    model: &mut ReluEnergy<T>,
    grad: &crate::ParamGrad<T>,
    rate: f64,
    options: &TrainOptions,
) -> Result<()> {
    /// How much larger the neurons' step is than the outer weights', as in the paper's experiments.
    const NEURON_RATE: f64 = 100.0;
    let rate = rate * model.neurons() as f64;
    let decay = T::from_f64(options.weight_decay);
    let descend = |parameters: &mut [T], grad: &[T], rate: f64| {
        for (parameter, &grad) in parameters.iter_mut().zip(grad) {
            *parameter = *parameter - T::from_f64(rate) * (grad + decay * *parameter);
        }
    };
    model.update_parameters(|w, theta, bias| {
        descend(w, &grad.w, rate);
        if options.regime == Regime::F1 {
            descend(theta, &grad.theta, NEURON_RATE * rate);
            if let (Some(bias), Some(grad)) = (bias, &grad.bias) {
                descend(bias, grad, NEURON_RATE * rate);
            }
        }
    })
}

/// Streams of the initial parameters.
const INITIAL_STREAM: u64 = 1 << 34;

fn initial_model<T: Real>(d: usize, options: &TrainOptions) -> Result<ReluEnergy<T>> {
    let m = options.neurons;
    let mut stream = Stream::new(options.seed, INITIAL_STREAM);
    let mut draw = |len: usize, scale: f64| {
        let mut values = vec![T::ZERO; len];
        stream.fill_normal(&mut values);
        values.iter_mut().for_each(|value| *value = T::from_f64(scale) * *value);
        values
    };
    let (neuron_scale, weight_scale) = match options.regime {
        Regime::F1 => (options.initial_variance.sqrt(), options.initial_variance.sqrt()),
        Regime::F2 => (1.0, 0.0),
    };
    let len = m
        .checked_mul(d)
        .ok_or_else(|| Error::parameter("neurons", "few enough for the address space", m))?;
    let theta = draw(len, neuron_scale);
    let w = draw(m, weight_scale);
    let mut model = ReluEnergy::new(Rows::new(&theta, m, d)?, &w)?
        .with_domain(options.domain)?
        .with_isa(options.isa)
        .with_backend(options.backend);
    if options.bias {
        model = model.with_bias(&draw(m, neuron_scale))?;
    }
    match options.domain {
        Domain::Sphere => Ok(model),
        Domain::Euclidean => model.with_base_scale(T::from_f64((d as f64).sqrt().recip())),
    }
}

/// The same model when x is measured in units that are `unit` times smaller.
fn in_units_of<T: Real>(model: &ReluEnergy<T>, unit: T) -> Result<ReluEnergy<T>> {
    let mut model = model.clone();
    if let Some(scale) = model.base_scale() {
        model = model.with_base_scale(scale * unit)?;
    }
    model.update_parameters(|_, theta, _| theta.iter_mut().for_each(|theta| *theta /= unit))?;
    Ok(model)
}

/// Mean of β f(x_i) + log Z over the rows of `x`: the cross-entropy relative to the base probability, in nats.
///
/// # Errors
/// If the shapes do not fit or there are no rows.
pub fn cross_entropy<T: Real>(
    model: &ReluEnergy<T>,
    x: Rows<'_, T>,
    log_z: &LogZ<T>,
) -> Result<f64> {
    if x.rows() == 0 {
        return Err(Error::Zero { what: "the number of rows" });
    }
    let mut energy = vec![T::ZERO; x.rows()];
    model.energy(x, &mut energy)?;
    let mean = energy.iter().map(|f| f.to_f64()).sum::<f64>() / x.rows() as f64;
    Ok(model.beta().to_f64() * mean + log_z.value)
}

/// Estimates log Z of one iterate after the other with the same random numbers, so that iterates are compared
/// with little noise.
struct Evaluation<T> {
    bank: Vec<T>,
    seed: u64,
}

/// Streams of the evaluation bank.
const EVALUATION_STREAMS: u64 = 1 << 35;

impl<T: Real> Evaluation<T> {
    const BANK: usize = 50_000;
    /// Effective sample size below which the bank is no longer trusted.
    const LEAST_ESS: f64 = 500.0;

    fn new(seed: u64) -> Self {
        Self { bank: Vec::new(), seed }
    }

    fn log_z(&mut self, model: &ReluEnergy<T>) -> Result<LogZ<T>> {
        if self.bank.is_empty() {
            let base = normaliser::Base::of(model)?;
            let d = model.dim();
            self.bank =
                normaliser::base_samples(base, Self::BANK, d, self.seed, EVALUATION_STREAMS);
        }
        let direct = normaliser::from_base_samples(model, self.bank.clone())?;
        if direct.ess >= Self::LEAST_ESS {
            return Ok(direct);
        }
        normaliser::annealed(model, 500, 300, self.seed, EVALUATION_STREAMS)
    }
}

/// Cross-entropies beyond this many nats per dimension, either way, count as divergence: a model whose chains
/// are left behind reports ever better ones.
const DIVERGED: f64 = 1e3;

/// Acceptance below which chains no longer follow the model.
const STUCK: f64 = 0.005;

fn guard(record: &Record, d: usize) -> Result<()> {
    let diverged = |what| Err(Error::Diverged { iteration: record.iteration, what });
    let value = record.train_cross_entropy;
    if !(value.abs() < DIVERGED * d as f64) {
        return diverged(format!("the training cross-entropy is {value:.3e} nats"));
    }
    match record.acceptance {
        Some(acceptance) if acceptance < STUCK => diverged(format!(
            "the chains of the negative phase no longer move (acceptance {acceptance:.1e})"
        )),
        _ => Ok(()),
    }
}

fn base_scale<T: Real>(train: Rows<'_, T>, options: &TrainOptions) -> Result<f64> {
    let scale = options.base_scale.unwrap_or_else(|| {
        let squares: f64 = train.iter().map(|x| dot(x, x).to_f64()).sum();
        (squares / (train.rows() * train.cols()) as f64).sqrt()
    });
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(Error::parameter("base scale", "positive and finite", scale));
    }
    Ok(scale)
}

fn check_options(options: &TrainOptions) -> Result<()> {
    if options.neurons == 0 {
        return Err(Error::Zero { what: "the number of neurons" });
    }
    if options.evaluate_every == 0 {
        return Err(Error::Zero { what: "the number of iterations between evaluations" });
    }
    if let Some(rate) = options.learning_rate
        && !(rate > 0.0 && rate.is_finite())
    {
        return Err(Error::parameter("learning rate", "positive and finite", rate));
    }
    if !(options.weight_decay >= 0.0 && options.weight_decay.is_finite()) {
        let got = options.weight_decay;
        return Err(Error::parameter("weight decay", "finite and not negative", got));
    }
    if !(options.initial_variance > 0.0 && options.initial_variance.is_finite()) {
        let got = options.initial_variance;
        return Err(Error::parameter("initial variance", "positive and finite", got));
    }
    if options.domain == Domain::Sphere
        && let Some(scale) = options.base_scale
    {
        return Err(Error::parameter("base scale", "absent on the sphere", scale));
    }
    Ok(())
}

fn check_data<T: Real>(
    what: &'static str,
    x: Rows<'_, T>,
    cols: usize,
    domain: Domain,
) -> Result<()> {
    if x.rows() == 0 || x.cols() == 0 {
        return Err(Error::Zero { what: "the number of rows and columns of the data" });
    }
    if x.cols() != cols {
        return Err(crate::ShapeError::new("columns of the data", cols, x.cols()).into());
    }
    check_finite(what, x)?;
    match domain {
        Domain::Sphere => check_on_sphere(what, x),
        Domain::Euclidean => Ok(()),
    }
}
