//! A training run as the program sees it: its evaluations with what the library does not record, its checkpoints, its bar.

use super::{
    KL_POINTS, NTK_POINTS, about, describe, ntk_drift,
    problem::Problem,
    summary::{Point, ToTeacher},
    to_teacher,
};
use crate::{
    Number,
    args::TrainArgs,
    error::{Error, Result},
    io::checkpoint::write_checkpoint,
    progress::Progress,
    run::rows,
};
use gibbsite::{
    ReluEnergy, Rows, monitor,
    train::{Checkpoint, TrainOptions, Training},
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

pub struct Course<'a, T: Number> {
    pub training: Training<T>,
    pub history: Vec<Point>,
    problem: &'a Problem<T>,
    watched: Rows<'a, T>,
    options: &'a TrainOptions,
    /// What the tangent kernel is compared with.
    first: ReluEnergy<T>,
    start: Instant,
    /// Spent before an interruption.
    before: f64,
}

/// Where checkpoints go, and how often.
pub struct Keep {
    pub path: PathBuf,
    pub every: Duration,
}

impl<'a, T: Number> Course<'a, T> {
    pub fn new(
        args: &TrainArgs,
        problem: &'a Problem<T>,
        options: &'a TrainOptions,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self> {
        let (train, validation) = (rows(&problem.train)?, rows(&problem.validation)?);
        let training = match checkpoint {
            None => Training::new(train, validation, options),
            Some(checkpoint) => Training::resume(train, validation, options, checkpoint),
        };
        let training = training.map_err(|error| match error {
            // Parameters: the data were looked at when they were read.
            gibbsite::Error::NonFinite { .. } => Error::about("--initial-variance", error),
            _ => about(args, &problem.name, error),
        })?;
        if let Some(last) = training.history().last()
            && last.iteration > options.iterations
        {
            let (wanted, reached) = (options.iterations, last.iteration);
            return Err(Error::Usage(format!(
                "--iterations {wanted}: the checkpoint is at iteration {reached} already"
            )));
        }
        let history = checkpoint.map_or(Ok(Vec::new()), |kept| points(&training, kept, problem))?;
        Ok(Self {
            first: training.initial_model().map_err(|error| about(args, &problem.name, error))?,
            training,
            before: history.last().map_or(0.0, |point: &Point| point.seconds),
            history,
            problem,
            watched: train.range(0, NTK_POINTS.min(train.rows())),
            options,
            start: Instant::now(),
        })
    }

    /// Seconds of training, those before an interruption included.
    pub fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    /// Trains to the end.
    pub fn run(&mut self, seed: u64, keep: &Keep, progress: &mut Progress) -> Result<()> {
        let mut kept = Instant::now();
        while let Some((record, model)) = self.training.next_evaluation()? {
            let teacher = self.problem.teacher.as_ref();
            let teacher = teacher.map(|teacher| to_teacher(teacher, &model, KL_POINTS, seed));
            let point = Point {
                record,
                seconds: self.seconds(),
                teacher: teacher.transpose()?,
                f2_norm: monitor::f2_norm(&model),
                ntk_drift: ntk_drift(&self.first, &model, self.watched, self.options.regime)?,
            };
            progress.show(point.record.iteration, || describe(&point));
            self.history.push(point);
            if kept.elapsed() >= keep.every {
                self.keep(keep)?;
                kept = Instant::now();
            }
        }
        self.keep(keep)
    }

    fn keep(&self, keep: &Keep) -> Result<()> {
        let mut checkpoint = self.training.checkpoint();
        for (name, of) in COLUMNS {
            checkpoint.reals.insert(name.to_owned(), self.history.iter().map(of).collect());
        }
        Ok(write_checkpoint(&keep.path, &checkpoint)?)
    }
}

type Column = (&'static str, fn(&Point) -> f64);

/// What a checkpoint holds beyond the library's records; NaN where a quantity does not apply.
const COLUMNS: [Column; 5] = [
    ("cli:seconds", |point| point.seconds),
    ("cli:kl", |point| point.teacher.map_or(f64::NAN, |teacher| teacher.kl)),
    ("cli:max_cosine", |point| point.teacher.map_or(f64::NAN, |teacher| teacher.max_cosine)),
    ("cli:f2_norm", |point| point.f2_norm),
    ("cli:ntk_drift", |point| point.ntk_drift.unwrap_or(f64::NAN)),
];

fn points<T: Number>(
    training: &Training<T>,
    checkpoint: &Checkpoint,
    problem: &Problem<T>,
) -> Result<Vec<Point>> {
    let records = training.history();
    let column = |(name, _): &Column| match checkpoint.reals.get(*name) {
        Some(values) if values.len() == records.len() => Ok(values),
        _ => Err(Error::Usage(format!("checkpoint.safetensors: `{name}` does not fit the run"))),
    };
    let columns = COLUMNS.iter().map(column).collect::<Result<Vec<_>>>()?;
    let point = |(k, record): (usize, &gibbsite::train::Record)| {
        let [seconds, kl, max_cosine, f2_norm, ntk_drift] =
            std::array::from_fn(|column| columns[column][k]);
        Point {
            record: record.clone(),
            seconds,
            teacher: problem.teacher.is_some().then_some(ToTeacher { kl, max_cosine }),
            f2_norm,
            ntk_drift: (!ntk_drift.is_nan()).then_some(ntk_drift),
        }
    };
    Ok(records.iter().enumerate().map(point).collect())
}
