//! Training: the loop that estimators share, with its schedule, history and choice of the iterate.

mod dsm;
mod f1sd;
mod history;
mod ksd;
mod mle;
mod network;
mod optimiser;
mod options;

pub use crate::checkpoint::Checkpoint;
pub use f1sd::Critic;
pub use history::Record;
pub use mle::NegativePhase;
pub use optimiser::Optimiser;
pub use options::{Estimator, Regime, TrainOptions};

use crate::{
    Domain, Error, Real, ReluEnergy, Result, Rows,
    data::{check_finite, check_on_sphere, check_sphere, dot, finite, try_changed, try_zeros},
    monitor,
    normaliser::{self, LogZ},
    random::Stream,
};
use options::check_options;

/// A trained model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Trained<T: Real> {
    /// The iterate with the smallest validation cross-entropy.
    pub model: ReluEnergy<T>,
    /// Its record.
    pub best: Record,
    /// All records in order.
    pub history: Vec<Record>,
}

/// Fits a model to data: the loss of `options.estimator` is made small by `options.optimiser`, and the iterate with the smallest
/// validation cross-entropy is kept.
///
/// `train` and `validation` are n×d and n'×d. On the sphere their rows must have norm 1. `observe` receives every record and the
/// model it is about, as they come.
///
/// The same options and data give the same bits for any number of threads (backend `fused` or `auto`).
///
/// # Errors
/// For data that are empty, not finite, off the sphere or on one in a single dimension, validation data with other columns,
/// options out of range, more neurons or chains than memory holds,
/// [`Error::Diverged`] when parameters or the cross-entropy blow up, and whatever `observe` returns.
pub fn fit<T: Real>(
    train: Rows<'_, T>,
    validation: Rows<'_, T>,
    options: &TrainOptions,
    mut observe: impl FnMut(&Record, &ReluEnergy<T>) -> Result<()>,
) -> Result<Trained<T>> {
    let mut training = Training::new(train, validation, options)?;
    while let Some((record, model)) = training.next_evaluation()? {
        observe(&record, &model)?;
    }
    Ok(training.finish().expect("the first iterate is evaluated"))
}

/// A training run, from one evaluation to the next: what [`fit`] does, for callers who want to stop in between, keep a
/// [`Checkpoint`], or look at the best iterate before the end.
///
/// ```
/// use gibbsite::{Rows, teacher::Teacher, train::{Training, TrainOptions}};
///
/// let teacher = Teacher::<f64>::named("j1w10", 5, 0)?;
/// let (train, validation) = (teacher.sample(300, 0, 0)?, teacher.sample(300, 0, 1)?);
/// let (train, validation) = (Rows::new(&train, 300, 5)?, Rows::new(&validation, 300, 5)?);
/// let options = TrainOptions { neurons: 50, iterations: 30, ..TrainOptions::default() };
///
/// let mut training = Training::new(train, validation, &options)?;
/// training.next_evaluation()?;
/// training.next_evaluation()?;
/// let checkpoint = training.checkpoint();
///
/// let mut later = Training::resume(train, validation, &options, &checkpoint)?;
/// while training.next_evaluation()?.is_some() {}
/// while later.next_evaluation()?.is_some() {}
/// assert_eq!(training.history(), later.history());
/// # Ok::<(), gibbsite::Error>(())
/// ```
pub struct Training<T: Real> {
    options: TrainOptions,
    /// In R^d we train in units in which draws of the base have a norm of about 1, as on the sphere, so that the same step
    /// sizes serve both, and convert at the border.
    unit: T,
    train: Vec<T>,
    validation: Vec<T>,
    model: ReluEnergy<T>,
    objective: Objective<T>,
    optimiser: optimiser::State,
    evaluation: Evaluation<T>,
    /// Steps taken.
    iteration: usize,
    history: Vec<Record>,
    best: Option<(Record, ReluEnergy<T>)>,
}

impl<T: Real> std::fmt::Debug for Training<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { options, iteration, history, .. } = self;
        f.debug_struct("Training")
            .field("options", options)
            .field("iteration", iteration)
            .field("history", history)
            .finish_non_exhaustive()
    }
}

impl<T: Real> Training<T> {
    /// A run at its start; arguments are those of [`fit`].
    ///
    /// # Errors
    /// Those of [`fit`] but for what shows in the course of the run.
    pub fn new(
        train: Rows<'_, T>,
        validation: Rows<'_, T>,
        options: &TrainOptions,
    ) -> Result<Self> {
        check_options(options)?;
        for (what, x) in [("training data", train), ("validation data", validation)] {
            check_data(what, x, train.cols(), options.domain)?;
        }
        let d = train.cols();
        let unit = match options.domain {
            Domain::Sphere => T::ONE,
            Domain::Euclidean => T::from_f64(base_scale(train, options)? * (d as f64).sqrt()),
        };
        let scaled = |x| try_changed("number of points", x, |x| x / unit);
        let (train, validation) = (scaled(train)?, scaled(validation)?);
        let model = initial_model(d, options)?;
        let points = Rows::new(&train, train.len() / d, d)?;
        // Units in which data and parameters can be told.
        let usable = in_units_of(&model, unit)
            .and_then(|_| check_finite("training data", points))
            .and_then(|_| {
                check_finite("validation data", Rows::new(&validation, validation.len() / d, d)?)
            });
        if usable.is_err() {
            let expected = "neither too small nor too large for data and parameters";
            return Err(Error::parameter("base scale", expected, unit));
        }
        Ok(Self {
            objective: Objective::new(&model, points, unit.to_f64(), options)?,
            optimiser: optimiser::State::new(options)?,
            evaluation: Evaluation::new(options.seed),
            options: options.clone(),
            unit,
            train,
            validation,
            model,
            iteration: 0,
            history: Vec::new(),
            best: None,
        })
    }

    /// A run that goes on from a checkpoint of one with the same data and options. Only the numbers of iterations and of those to wait for a better
    /// one, the instruction set and the backend may differ: a run that ended can be prolonged. A last evaluation that is no multiple of
    /// `evaluate_every` stays in the history, where a run in one go has none.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Checkpoint`] if it is of another run or damaged.
    pub fn resume(
        train: Rows<'_, T>,
        validation: Rows<'_, T>,
        options: &TrainOptions,
        checkpoint: &Checkpoint,
    ) -> Result<Self> {
        let mut run = Self::new(train, validation, options)?;
        let identity = run.identity();
        let saved = checkpoint.counts("run", identity.len())?;
        let differ = identity.iter().zip(saved).filter(|((_, now), then)| now != *then);
        let names: Vec<_> = differ.map(|((name, _), _)| *name).collect();
        if !names.is_empty() {
            return Err(Error::Checkpoint(format!("its run differs in: {}", names.join(", "))));
        }
        run.iteration = checkpoint.size("iteration")?;
        run.history = checkpoint.history()?;
        if run.history.is_empty() && run.iteration == 0 {
            // A run at its start.
            return Ok(run);
        }
        if !run.history.is_sorted_by(|a, b| a.iteration < b.iteration)
            || run.history.last().is_none_or(|last| last.iteration != run.iteration)
        {
            return Err(Error::Checkpoint("its history is another".to_owned()));
        }
        let mut best = in_units_of(&run.model, run.unit)?;
        checkpoint.model("model", &mut run.model)?;
        checkpoint.model("best", &mut best)?;
        run.best = run.history.iter().fold(None, better).map(|record| (record.clone(), best));
        run.objective.restore(&run.model, checkpoint)?;
        let parameters = match options.regime {
            Regime::F1 => run.model.w().len() * (train.cols() + 1 + usize::from(options.bias)),
            Regime::F2 => run.model.w().len(),
        };
        run.optimiser.restore(checkpoint, parameters)?;
        Ok(run)
    }

    /// What [`resume`](Self::resume) goes on from: a run at its start or behind an evaluation. Behind an error there is nothing to go on from.
    /// It is for the version of the library that it was made with.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        checkpoint.put_counts("run", self.identity().into_iter().map(|(_, hash)| hash));
        checkpoint.put_counts("iteration", [self.iteration as u64]);
        checkpoint.put_history(&self.history);
        checkpoint.put_model("model", &self.model);
        if let Some((_, best)) = &self.best {
            checkpoint.put_model("best", best);
        }
        self.objective.save(&mut checkpoint);
        self.optimiser.save(&mut checkpoint);
        checkpoint
    }

    /// What must be the same for a run to go on, each as a hash (FNV-1a).
    fn identity(&self) -> Vec<(&'static str, u64)> {
        fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
            bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        }
        let data = |x: &[T]| hash(x.iter().flat_map(|x| x.to_f64().to_bits().to_le_bytes()));
        let option = |option: &dyn std::fmt::Debug| hash(format!("{option:?}").into_bytes());
        let TrainOptions {
            estimator,
            regime,
            domain,
            neurons,
            optimiser,
            learning_rate,
            decay,
            weight_decay,
            initial_variance,
            bias,
            base_scale,
            evaluate_every,
            seed,
            // Free to change.
            iterations: _,
            patience: _,
            isa: _,
            backend: _,
        } = &self.options;
        vec![
            ("element type", hash(std::any::type_name::<T>().bytes())),
            ("training data", data(&self.train)),
            ("validation data", data(&self.validation)),
            ("estimator", option(estimator)),
            ("regime", option(regime)),
            ("domain", option(domain)),
            ("number of neurons", option(neurons)),
            ("optimiser", option(optimiser)),
            ("learning rate", option(learning_rate)),
            ("decay", option(decay)),
            ("weight decay", option(weight_decay)),
            ("initial variance", option(initial_variance)),
            ("choice of biases", option(bias)),
            ("base scale", option(base_scale)),
            ("interval of evaluations", option(evaluate_every)),
            ("seed", option(seed)),
        ]
    }

    /// Trains up to the next evaluation, the first of which is of the initial model; nothing when the run has ended.
    ///
    /// # Errors
    /// [`Error::Diverged`] when parameters or the cross-entropy blow up; what was found before stays.
    pub fn next_evaluation(&mut self) -> Result<Option<(Record, ReluEnergy<T>)>> {
        if let Some(last) = self.history.last() {
            let best = self.best.as_ref().map_or(0, |(best, _)| best.iteration);
            let patience = self.options.patience.unwrap_or(usize::MAX);
            if self.iteration >= self.options.iterations || last.iteration - best >= patience {
                return Ok(None);
            }
            let every = self.options.evaluate_every;
            let next = (self.iteration / every + 1).saturating_mul(every);
            while self.iteration < next.min(self.options.iterations) {
                self.step()?;
            }
        }
        let (record, model) = self.evaluate()?;
        if better(self.best.as_ref().map(|(best, _)| best), &record) == Some(&record) {
            self.best = Some((record.clone(), model.clone()));
        }
        self.history.push(record.clone());
        Ok(Some((record, model)))
    }

    fn step(&mut self) -> Result<()> {
        let Self { model, objective, optimiser, iteration, options, .. } = self;
        let gradient = |model: &ReluEnergy<T>| objective.gradient(model).cloned();
        optimiser.step(model, *iteration, options, gradient).map_err(|error| match error {
            Error::NonFinite { what, .. } => {
                let what = format!("{what} is no longer finite");
                Error::Diverged { iteration: *iteration, what }
            }
            Error::ChainDiverged { .. } => {
                let what = "a chain of the negative phase is no longer finite".to_owned();
                Error::Diverged { iteration: *iteration, what }
            }
            // Options have been in use by now: this is about numbers that blew up.
            error @ Error::Parameter { .. } if *iteration > 0 => {
                Error::Diverged { iteration: *iteration, what: error.to_string() }
            }
            error => error,
        })?;
        self.iteration += 1;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<(Record, ReluEnergy<T>)> {
        let Self { model, objective, iteration, .. } = self;
        let d = model.dim();
        let log_z = self.evaluation.log_z(model).map_err(|error| match error {
            error @ (Error::Parameter { .. } | Error::NonFinite { .. }) => {
                Error::Diverged { iteration: *iteration, what: error.to_string() }
            }
            error => error,
        })?;
        let [train, validation] =
            [&self.train, &self.validation].map(|x| Rows::new(x, x.len() / d, d));
        let (train, validation) = (train?, validation?);
        let train_cross_entropy = cross_entropy(model, train, &log_z)?;
        let validation_cross_entropy = cross_entropy(model, validation, &log_z)?;
        let acceptance = objective.take_acceptance();
        // First, since a discrepancy of a model that has diverged may overflow.
        guard(*iteration, train_cross_entropy, acceptance, d)?;
        let rescaled = in_units_of(model, self.unit)?;
        let record = Record {
            iteration: *iteration,
            train_cross_entropy,
            validation_cross_entropy,
            train_loss: objective.loss(model, train)?.unwrap_or(train_cross_entropy),
            validation_loss: objective.loss(model, validation)?.unwrap_or(validation_cross_entropy),
            log_z: log_z.value,
            log_z_se: log_z.std_error,
            ess: log_z.ess,
            f1_norm: monitor::f1_norm(&rescaled),
            acceptance,
        };
        Ok((record, rescaled))
    }

    /// All records so far, in order.
    pub fn history(&self) -> &[Record] {
        &self.history
    }

    /// The best iterate so far.
    pub fn best(&self) -> Option<(&Record, &ReluEnergy<T>)> {
        self.best.as_ref().map(|(record, model)| (record, model))
    }

    /// The model that training starts from.
    ///
    /// # Errors
    /// None for options that [`new`](Self::new) took.
    pub fn initial_model(&self) -> Result<ReluEnergy<T>> {
        in_units_of(&initial_model(self.model.dim(), &self.options)?, self.unit)
    }

    /// The best iterate with the history; nothing before the first evaluation.
    pub fn finish(self) -> Option<Trained<T>> {
        let history = self.history;
        self.best.map(|(best, model)| Trained { model, best, history })
    }
}

/// The record that is chosen of two, the first of equals.
fn better<'a>(best: Option<&'a Record>, next: &'a Record) -> Option<&'a Record> {
    let loss = |record: &Record| record.validation_cross_entropy;
    best.filter(|best| loss(best) <= loss(next) || loss(next).is_nan()).or(Some(next))
}

/// What an estimator has to offer.
enum Objective<T: Real> {
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
            (Estimator::F1Sd { critic }, Domain::Sphere) => {
                Objective::F1Sd(f1sd::F1Sd::new(model, train, critic, options.seed)?)
            }
            (Estimator::F1Sd { .. }, domain) => {
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

    fn save(&self, checkpoint: &mut Checkpoint) {
        match self {
            Objective::MaximumLikelihood(gradient) => gradient.save(checkpoint),
            Objective::Denoising(dsm) => dsm.save(checkpoint),
            Objective::F1Sd(f1sd) => f1sd.save(checkpoint),
            Objective::Ksd(_) => {}
        }
    }

    fn restore(&mut self, model: &ReluEnergy<T>, checkpoint: &Checkpoint) -> Result<()> {
        match self {
            Objective::MaximumLikelihood(gradient) => gradient.restore(model, checkpoint),
            Objective::Denoising(dsm) => dsm.restore(checkpoint),
            Objective::F1Sd(f1sd) => f1sd.restore(checkpoint),
            Objective::Ksd(_) => Ok(()),
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
    let mut draw = |cols: usize, scale: f64| -> Result<Vec<T>> {
        let mut values = try_zeros("number of neurons", m, cols)?;
        stream.fill_normal(&mut values);
        values.iter_mut().for_each(|value| *value = T::from_f64(scale) * *value);
        Ok(values)
    };
    let (neuron_scale, weight_scale) = match options.regime {
        Regime::F1 => (options.initial_variance.sqrt(), options.initial_variance.sqrt()),
        Regime::F2 => (1.0, 0.0),
    };
    let mut theta = draw(d, neuron_scale)?;
    let mut w = draw(1, weight_scale)?;
    if options.optimiser == Optimiser::Transport {
        theta.chunks_exact_mut(d).for_each(optimiser::normalise);
        w.fill(T::ZERO);
    }
    let mut model = ReluEnergy::new(Rows::new(&theta, m, d)?, &w)?
        .with_domain(options.domain)?
        .with_isa(options.isa)
        .with_backend(options.backend);
    if options.bias {
        model = model.with_bias(&draw(1, neuron_scale)?)?;
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

/// Mean of β f(x_i) + log Z over the rows of `x`: the cross-entropy relative to the base probability, in nats. An estimate of
/// log Z that is too small, as annealing's are on average, makes it too small as well.
///
/// # Errors
/// If the shapes do not fit, there are no rows, one is not finite or not in the model's domain, or energies overflow.
pub fn cross_entropy<T: Real>(
    model: &ReluEnergy<T>,
    x: Rows<'_, T>,
    log_z: &LogZ<T>,
) -> Result<f64> {
    check_data("x", x, model.dim(), model.domain())?;
    let mut energy = vec![T::ZERO; x.rows()];
    model.energy(x, &mut energy)?;
    let mean = energy.iter().map(|f| f.to_f64()).sum::<f64>() / x.rows() as f64;
    let expected = "finite (points or parameters are too large)";
    finite("cross-entropy", expected, model.beta().to_f64() * mean + log_z.value)
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
                normaliser::base_samples(base, Self::BANK, d, self.seed, EVALUATION_STREAMS)?;
        }
        let mut direct = normaliser::from_base_samples(model, std::mem::take(&mut self.bank))?;
        // For the next iterate; of this one only the numbers are wanted.
        self.bank = std::mem::take(&mut direct.points);
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
        Domain::Sphere => check_sphere(cols).and_then(|()| check_on_sphere(what, x)),
        Domain::Euclidean => Ok(()),
    }
}
