//! Training: the loop that estimators share, with its schedule, history and choice of the iterate.

mod dsm;
mod f1sd;
mod ksd;
mod mle;
mod optimiser;

pub use mle::NegativePhase;
pub use optimiser::Optimiser;

use crate::{
    Backend, Domain, Error, Isa, Real, ReluEnergy, Result, Rows,
    data::{check_finite, check_on_sphere, dot},
    monitor,
    normaliser::{self, LogZ},
    random::Stream,
    stein::Statistic,
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

/// What is made small (Domingo-Enrich et al. 2021, section 3).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Estimator {
    /// The cross-entropy `E_data[f] + log Z`, whose gradient is `E_data[∂f] - E_model[∂f]`.
    MaximumLikelihood {
        /// How the second expectation is estimated.
        negative: NegativePhase,
    },
    /// KSD² between the data and the model, which needs neither log Z nor samples: of the Gaussian kernel on the sphere, of the inverse
    /// multiquadric with exponent -½ in R^d. Costs about 10 n² d flops and memory of the order of n·d.
    Ksd {
        /// Bandwidth in units of the data; 1 on the sphere, as in the paper, and the base scale times √d in R^d, if
        /// absent.
        bandwidth: Option<f64>,
        /// V-statistics by default. U-statistics are unbiased, but a model can make that of its training data as negative as it likes:
        /// choose the iterate by validation, and decay weights.
        statistic: Statistic,
    },
    /// Denoising score matching in R^d (Vincent 2011): half the mean square of σ s(x + σξ) + ξ at noisy data. It fits the law of
    /// noisy data, needs neither log Z nor samples, and costs no more than the scores. Other forms of score matching are not offered: a
    /// ReLU energy's second derivatives are on its creases, where no point ever is, and without them the best scores are 0.
    Denoising {
        /// σ, in units of the data; 0.3 base scales if absent.
        noise: Option<f64>,
    },
    /// The squared F1 Stein discrepancy, on the sphere: the suprema are over single neurons, found by a search in a bank of directions.
    F1Sd,
}

impl Default for Estimator {
    fn default() -> Self {
        Estimator::MaximumLikelihood { negative: NegativePhase::Auto }
    }
}

impl std::fmt::Display for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Estimator::MaximumLikelihood { .. } => "mle",
            Estimator::Ksd { .. } => "ksd",
            Estimator::Denoising { .. } => "dsm",
            Estimator::F1Sd => "f1sd",
        })
    }
}

/// Options of a training run.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// What is made small.
    pub estimator: Estimator,
    /// Active or lazy.
    pub regime: Regime,
    /// Domain of the data and the model.
    pub domain: Domain,
    /// Number of neurons m.
    pub neurons: usize,
    /// How parameters are moved.
    pub optimiser: Optimiser,
    /// Gradient steps.
    pub iterations: usize,
    /// Iterations without a better validation cross-entropy after which training ends; never, if absent.
    pub patience: Option<usize>,
    /// Step size l of the outer weights at the start; it decays as l / (1 + t/200), or l / (1 + t/100) for the F1 Stein discrepancy.
    /// If absent, 0.05 (F1) or 0.5 (F2), for denoising 0.1 or 1, for the F1 Stein discrepancy 1 or 2.5. The neurons' step is 100 times larger, 25
    /// times for the F1 Stein discrepancy. Both are scaled by m, so that they do not depend on it. Adam's is 0.02 if absent, with the
    /// same decay; L-BFGS finds its own.
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
            estimator: Estimator::default(),
            regime: Regime::F1,
            domain: Domain::Sphere,
            neurons: 500,
            optimiser: Optimiser::default(),
            iterations: 600,
            patience: None,
            learning_rate: None,
            weight_decay: 0.0,
            initial_variance: 0.1,
            bias: false,
            base_scale: None,
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
    /// The same over the validation data: what the iterate is chosen by, whatever the estimator.
    pub validation_cross_entropy: f64,
    /// What the estimator makes small, on the training data: the cross-entropy, or a squared discrepancy, in R^d in units in which
    /// the norm of draws of the base is about 1. KSD² of at most 5000 points, F1-SD² of at most 2000.
    pub train_loss: f64,
    /// The same on the validation data.
    pub validation_loss: f64,
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

/// Fits a model to data by gradient descent on the estimator's loss.
///
/// `train` and `validation` are n×d and n'×d. On the sphere their rows must have norm 1. `observe` receives every record and the
/// model it is about, as they come.
///
/// The same options and data give the same bits for any number of threads (backend `fused` or `auto`).
///
/// # Errors
/// For data that are empty, not finite or off the sphere, options out of range, and [`Error::Diverged`] when parameters or the
/// cross-entropy blow up.
pub fn fit<T: Real>(
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
    let train = Rows::new(&train_data, train.rows(), d)?;
    let mut objective = Objective::new(&model, train, unit.to_f64(), options)?;
    let mut optimiser = optimiser::State::new(options)?;
    let mut evaluation = Evaluation::new(options.seed);
    let mut history: Vec<Record> = Vec::new();
    let mut best: Option<(Record, ReluEnergy<T>)> = None;
    for iteration in 0..=options.iterations {
        let due = iteration % options.evaluate_every == 0 || iteration == options.iterations;
        if due {
            let log_z = evaluation.log_z(&model)?;
            let cross_entropies = [train, validation].map(|x| cross_entropy(&model, x, &log_z));
            let [train_cross_entropy, validation_cross_entropy] = cross_entropies;
            let (train_cross_entropy, validation_cross_entropy) =
                (train_cross_entropy?, validation_cross_entropy?);
            let acceptance = objective.take_acceptance();
            // First, since a discrepancy of a model that has diverged may overflow.
            guard(iteration, train_cross_entropy, acceptance, d)?;
            let record = Record {
                iteration,
                train_cross_entropy,
                validation_cross_entropy,
                train_loss: objective.loss(&model, train)?.unwrap_or(train_cross_entropy),
                validation_loss: objective
                    .loss(&model, validation)?
                    .unwrap_or(validation_cross_entropy),
                log_z: log_z.value,
                log_z_se: log_z.std_error,
                ess: log_z.ess,
                f1_norm: monitor::f1_norm(&in_units_of(&model, unit)?),
                acceptance,
            };
            let rescaled = in_units_of(&model, unit)?;
            observe(&record, &rescaled)?;
            let better = best.as_ref().is_none_or(|(best, _)| {
                record.validation_cross_entropy < best.validation_cross_entropy
            });
            if better {
                best = Some((record.clone(), rescaled));
            }
            history.push(record);
            let stale = best.as_ref().map_or(0, |(best, _)| iteration - best.iteration);
            if options.patience.is_some_and(|patience| stale >= patience) {
                break;
            }
        }
        if iteration < options.iterations {
            let gradient = |model: &ReluEnergy<T>| objective.gradient(model).cloned();
            let moved = optimiser.step(&mut model, iteration, options, gradient);
            moved.map_err(|error| match error {
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

/// What an estimator has to offer.
enum Objective<T> {
    MaximumLikelihood(mle::Gradient<T>),
    Ksd(ksd::Ksd<T>),
    Denoising(dsm::Dsm<T>),
    F1Sd(f1sd::F1Sd<T>),
}

impl<T: Real> Objective<T> {
    /// For training data in units of `unit`.
    fn new(
        model: &ReluEnergy<T>,
        train: Rows<'_, T>,
        unit: f64,
        options: &TrainOptions,
    ) -> Result<Self> {
        Ok(match (options.estimator, options.domain) {
            (Estimator::MaximumLikelihood { negative }, _) => {
                let gradient = mle::Gradient::new(model, train.as_slice(), negative, options)?;
                Objective::MaximumLikelihood(gradient)
            }
            (Estimator::Ksd { bandwidth, statistic }, _) => {
                let bandwidth = bandwidth.map_or(1.0, |bandwidth| bandwidth / unit);
                Objective::Ksd(ksd::Ksd::new(model, train, bandwidth, statistic, options)?)
            }
            (Estimator::Denoising { noise }, Domain::Euclidean) => {
                let noise = noise.map_or(0.3 / (train.cols() as f64).sqrt(), |noise| noise / unit);
                if !(noise > 0.0 && noise.is_finite()) {
                    return Err(Error::parameter("noise", "positive and finite", noise));
                }
                let fixed = options.optimiser == Optimiser::Lbfgs;
                Objective::Denoising(dsm::Dsm::new(model, train, noise, options.seed, fixed))
            }
            (Estimator::Denoising { .. }, domain) => {
                let expected = "euclidean for denoising score matching";
                return Err(Error::parameter("domain", expected, domain));
            }
            (Estimator::F1Sd, Domain::Sphere) => {
                Objective::F1Sd(f1sd::F1Sd::new(model, train, options.seed))
            }
            (Estimator::F1Sd, domain) => {
                let expected = "sphere for the F1 Stein discrepancy";
                return Err(Error::parameter("domain", expected, domain));
            }
        })
    }

    fn gradient(&mut self, model: &ReluEnergy<T>) -> Result<&crate::ParamGrad<T>> {
        match self {
            Objective::MaximumLikelihood(gradient) => gradient.at(model),
            Objective::Ksd(ksd) => ksd.gradient(model),
            Objective::Denoising(dsm) => dsm.gradient(model),
            Objective::F1Sd(f1sd) => f1sd.gradient(model),
        }
    }

    /// The loss at points; `None` if it is the cross-entropy.
    fn loss(&self, model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<Option<f64>> {
        match self {
            Objective::MaximumLikelihood(_) => Ok(None),
            Objective::Ksd(ksd) => ksd.loss(model, x).map(Some),
            Objective::Denoising(dsm) => dsm.loss(model, x).map(Some),
            Objective::F1Sd(f1sd) => f1sd.loss(model, x).map(Some),
        }
    }

    /// Mean acceptance of chains since the last call.
    fn take_acceptance(&mut self) -> Option<f64> {
        match self {
            Objective::MaximumLikelihood(gradient) => gradient.take_acceptance(),
            _ => None,
        }
    }
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

fn guard(iteration: usize, cross_entropy: f64, acceptance: Option<f64>, d: usize) -> Result<()> {
    let diverged = |what| Err(Error::Diverged { iteration, what });
    if !(cross_entropy.abs() < DIVERGED * d as f64) {
        return diverged(format!("the training cross-entropy is {cross_entropy:.3e} nats"));
    }
    match acceptance {
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
