//! Trains what is missing, one training per thread.

use super::{
    ledger::{Ledger, Run},
    plan::{self, Cell, Plan, Task, halves},
};
use crate::{
    Number,
    args::PaperEstimator,
    error::Result,
    progress::Progress,
    run::{Context, thread_pool},
};
use gibbsite::{
    Domain, ReluEnergy, Rows, RowsMut, monitor, normaliser,
    random::Stream,
    stein::{F1Discrepancy, Gram, Statistic, SteinKernel},
    teacher::Teacher,
    train::{self, Critic, Estimator, NegativePhase, TrainOptions, Trained},
};
use rayon::ThreadPool;
use std::{
    iter,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

/// Points behind a KL divergence.
pub const KL_POINTS: usize = 150_000;

/// Data sets of a teacher; those to learn from are the ones from `TRAIN` on.
const VALIDATION: u64 = 0;
const TEST: u64 = 1;
pub const TRAIN: u64 = 2;

/// Streams that seed the trainings of a repetition, away from those of the library.
const SEED_STREAMS: u64 = 1 << 57;

/// A teacher and what its students are measured by.
pub struct Problem<T: Number> {
    experiment: String,
    dim: usize,
    teacher: Teacher<T>,
    validation: Vec<T>,
    test: Vec<T>,
    pub f1_norm: f64,
    pub test_cross_entropy: f64,
    /// Of the teacher, on the test points.
    pub test_ksd: f64,
    pub test_f1_sd: f64,
    /// KL(teacher | uniform).
    pub uniform_kl: f64,
}

impl<T: Number> Problem<T> {
    /// The problems of a plan, each once.
    pub fn all(plan: &Plan, context: Context) -> Result<Vec<Self>> {
        let mut problems: Vec<Self> = Vec::new();
        for cell in &plan.cells {
            if !problems.iter().any(|problem| problem.is_of(cell)) {
                problems.push(Self::new(cell, plan.held_out, context)?);
            }
        }
        Ok(problems)
    }

    fn new(cell: &Cell, held_out: usize, Context { seed, .. }: Context) -> Result<Self> {
        let dim = cell.dim();
        let teacher = Teacher::<T>::named(&cell.experiment, dim, seed)?;
        let model = teacher.model();
        let nothing = vec![T::ZERO; model.neurons()];
        let uniform = ReluEnergy::new(model.theta(), &nothing)?.with_domain(Domain::Sphere)?;
        let test = teacher.sample(held_out, seed, TEST)?;
        let log_z = normaliser::log_z(model, seed)?;
        Ok(Self {
            experiment: cell.experiment.clone(),
            dim,
            validation: teacher.sample(held_out, seed, VALIDATION)?,
            f1_norm: monitor::f1_norm(model),
            test_cross_entropy: train::cross_entropy(model, points(&test, dim)?, &log_z)?,
            uniform_kl: teacher.kl_to(&uniform, KL_POINTS, seed)?,
            test_ksd: ksd(model, points(&test, dim)?)?,
            test_f1_sd: f1_sd(model, points(&test, dim)?, seed)?,
            test,
            teacher,
        })
    }

    pub fn is_of(&self, cell: &Cell) -> bool {
        self.experiment == cell.experiment && self.dim == cell.dim()
    }

    fn train(&self, task: &Task<'_>, plan: &Plan, context: Context) -> Result<Run> {
        let start = Instant::now();
        let &Task { cell, regime, setting, repetition } = task;
        let (dim, seed) = (self.dim, context.seed);
        let data = self.teacher.sample(cell.n, seed, TRAIN + repetition as u64)?;
        let options = TrainOptions {
            estimator: estimator(cell.estimator),
            regime,
            neurons: plan.neurons,
            iterations: plan.iterations,
            learning_rate: Some(setting.learning_rate),
            weight_decay: setting.weight_decay,
            seed: Stream::new(seed, SEED_STREAMS + repetition as u64).bits(),
            isa: context.isa,
            backend: context.backend,
            ..TrainOptions::default()
        };
        let validation = points(&self.validation, dim)?;
        let mut run = Run {
            experiment: cell.experiment.clone(),
            estimator: cell.estimator,
            n: cell.n,
            regime: regime.to_string(),
            learning_rate: setting.learning_rate,
            weight_decay: setting.weight_decay,
            repetition,
            diverged: true,
            best_iteration: 0,
            validation_cross_entropy: f64::NAN,
            test_cross_entropy: f64::NAN,
            test_ksd: f64::NAN,
            test_f1_sd: f64::NAN,
            kl: f64::NAN,
            f1_norm: f64::NAN,
            max_cosine: f64::NAN,
            seconds: 0.0,
        };
        match train::fit(points(&data, dim)?, validation, &options, |_, _| Ok(())) {
            Ok(Trained { model, best, .. }) => {
                let log_z = normaliser::log_z(&model, seed)?;
                run.diverged = false;
                run.best_iteration = best.iteration;
                run.validation_cross_entropy = best.validation_cross_entropy;
                let test = points(&self.test, dim)?;
                run.test_cross_entropy = train::cross_entropy(&model, test, &log_z)?;
                run.test_ksd = ksd(&model, test)?;
                run.test_f1_sd = f1_sd(&model, test, seed)?;
                run.kl = self.teacher.kl_to(&model, KL_POINTS, seed)?;
                run.f1_norm = best.f1_norm;
                run.max_cosine = self.teacher.max_cosine(&model)?;
            }
            Err(error) if error.is_divergence() => {}
            Err(error) => return Err(error.into()),
        }
        run.seconds = start.elapsed().as_secs_f64();
        Ok(run)
    }
}

pub fn points<T: Number>(x: &[T], d: usize) -> Result<Rows<'_, T>> {
    Ok(Rows::new(x, x.len() / d, d).map_err(gibbsite::Error::from)?)
}

fn estimator(name: PaperEstimator) -> Estimator {
    match name {
        PaperEstimator::Mle => Estimator::MaximumLikelihood { negative: NegativePhase::Auto },
        PaperEstimator::Ksd => Estimator::Ksd { bandwidth: None, statistic: Statistic::V },
        PaperEstimator::F1sd => Estimator::F1Sd { critic: Critic::Neurons },
    }
}

/// The kernel Stein discrepancy of points, by the kernel that models are trained with.
fn ksd<T: Number>(model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<f64> {
    let kernel = SteinKernel::rbf(1.0)?.on_sphere();
    let gram = Gram::of_energy(&kernel, model, x)?.with_isa(model.isa());
    Ok(gram.ksd(Statistic::V, &mut |_| {})?.squared.sqrt())
}

/// The F1 Stein discrepancy of points.
fn f1_sd<T: Number>(model: &ReluEnergy<T>, x: Rows<'_, T>, seed: u64) -> Result<f64> {
    let mut score = vec![T::ZERO; x.rows() * x.cols()];
    model.score(x, RowsMut::new(&mut score, x.rows(), x.cols()).map_err(gibbsite::Error::from)?)?;
    let search = F1Discrepancy::new(seed).with_isa(model.isa());
    Ok(search.squared(x, points(&score, x.cols())?)?.sqrt())
}

/// Trains everything that is not in the ledger yet: first what settings are chosen by, then the chosen
/// ones on the other data sets.
pub fn train_all<T: Number>(
    plan: &Plan,
    problems: &[Problem<T>],
    ledger: &mut Ledger,
    context: Context,
) -> Result<()> {
    let pools = (0..context.threads).map(|_| thread_pool(1)).collect::<Result<Vec<_>>>()?;
    let search = Task::search(&plan.cells);
    let later = halves(&plan.cells)
        .flat_map(|(cell, _)| iter::repeat_n(cell, cell.repetitions - 1))
        .collect::<Vec<_>>();
    let total = search.len() + later.len();
    let mut progress = Progress::uneven(total, context.voice);
    let mut perform = |ledger: &mut Ledger, tasks: Vec<Task<'_>>, later: &[&Cell]| {
        let mut missing: Vec<_> =
            tasks.into_iter().filter(|task| ledger.find(task).is_none()).collect();
        let soon = missing.iter().map(|task| task.cell).chain(later.to_vec()).collect::<Vec<_>>();
        if !soon.is_empty() && !later.is_empty() {
            let seconds = seconds_left(&soon, ledger.runs(), plan) / pools.len() as f64;
            context.voice.message(format_args!(
                "{} trainings, roughly {} on {} threads; goes on after an interruption",
                soon.len(),
                duration(seconds),
                pools.len()
            ));
        }
        // Long ones first, so that threads end at about the same time.
        missing.sort_by(|a, b| work(b.cell).total_cmp(&work(a.cell)));
        let mut left: Vec<_> = missing.iter().map(|task| task.cell).chain(later.to_vec()).collect();
        let train = |task: &Task<'_>| {
            let problem = problems.iter().find(|problem| problem.is_of(task.cell));
            problem.expect("a problem for every cell").train(task, plan, context)
        };
        in_parallel(&pools, &missing, train, |task, run| {
            let text = describe(&run);
            ledger.add(run)?;
            let at = left.iter().position(|&cell| cell == task.cell);
            left.swap_remove(at.expect("as many cells as tasks"));
            progress.show(total - left.len(), || {
                let seconds = seconds_left(&left, ledger.runs(), plan) / pools.len() as f64;
                if left.is_empty() {
                    text
                } else {
                    format!("{text} · about {} left", duration(seconds))
                }
            });
            Ok(())
        })
    };
    perform(ledger, search, &later)?;
    let repetitions = halves(&plan.cells)
        .flat_map(|(cell, regime)| Task::repetitions(cell, regime, ledger.chosen(cell, regime)))
        .collect();
    perform(ledger, repetitions, &[])
}

/// Works on items in a given order, each within one thread, and hands over results as they come. After an
/// error no further item is begun.
pub fn in_parallel<I: Sync, R: Send>(
    pools: &[ThreadPool],
    items: &[I],
    work: impl Fn(&I) -> Result<R> + Sync,
    mut done: impl FnMut(&I, R) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for pool in pools {
            let (next, work, sender) = (&next, &work, sender.clone());
            // The thread only waits: a worker of another pool would take up more work meanwhile.
            scope.spawn(move || {
                pool.install(|| {
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if sender.send((item, work(item))).is_err() {
                            break;
                        }
                    }
                });
            });
        }
        drop(sender);
        receiver.into_iter().try_for_each(|(item, result)| done(item, result?))
    })
}

/// Of one thread, by the time that runs of the same estimator took.
fn seconds_left(left: &[&Cell], runs: &[Run], plan: &Plan) -> f64 {
    let rate = |fits: &dyn Fn(&Run) -> bool| {
        let runs = || runs.iter().filter(|run| fits(run));
        let work: f64 = runs().map(|run| plan::work(run.estimator, run.n)).sum();
        (work > 0.0).then(|| runs().map(|run| run.seconds).sum::<f64>() / work)
    };
    [PaperEstimator::Mle, PaperEstimator::Ksd, PaperEstimator::F1sd]
        .into_iter()
        .map(|estimator| {
            let cells = left.iter().filter(|cell| cell.estimator == estimator);
            let rate = rate(&|run| run.estimator == estimator).or_else(|| rate(&|_| true));
            cells.map(|cell| work(cell)).sum::<f64>()
                * rate.unwrap_or(plan.iterations as f64 / plan::WORK_ITERATIONS)
        })
        .sum()
}

fn work(cell: &Cell) -> f64 {
    plan::work(cell.estimator, cell.n)
}

fn describe(run: &Run) -> String {
    let Run { experiment, estimator, n, regime, kl, .. } = run;
    let estimator = estimator.name();
    let outcome = if run.diverged { "diverged".to_owned() } else { format!("KL {kl:.4}") };
    format!("{experiment} {estimator} n = {n} {regime}: {outcome}")
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
