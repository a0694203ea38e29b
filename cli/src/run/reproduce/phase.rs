//! Lazy or active? What becomes of students that start at other scales.

use super::engine::{TRAIN, in_parallel, points};
use crate::{
    Number,
    error::Result,
    plot::{BLUE, Curve, ORANGE, Plot, UPPER_RIGHT},
    run::{Context, thread_pool},
};
use gibbsite::{
    Rows, monitor,
    teacher::Teacher,
    train::{TrainOptions, Training},
};
use serde::Serialize;

const TEACHER: &str = "j1w10";
const DIM: usize = 15;
const N: usize = 1000;
const VARIANCES: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Points at which the tangent kernel is watched.
const WATCHED: usize = 100;

/// A student by maximum likelihood in the active regime; NaN if training diverged.
#[derive(Clone, Debug, Serialize)]
pub struct Student {
    pub initial_variance: f64,
    pub kl: f64,
    /// From the first iterate to the chosen one.
    pub ntk_drift: f64,
    pub max_cosine: f64,
    pub f1_norm: f64,
    pub best_iteration: usize,
}

/// One student for each variance.
pub fn students<T: Number>(
    iterations: usize,
    held_out: usize,
    context: Context,
) -> Result<Vec<Student>> {
    let seed = context.seed;
    let teacher = Teacher::<T>::named(TEACHER, DIM, seed)?;
    let (data, validation) = (teacher.sample(N, seed, TRAIN)?, teacher.sample(held_out, seed, 0)?);
    let (train, validation) = (points(&data, DIM)?, points(&validation, DIM)?);
    let pools = (0..context.threads).map(|_| thread_pool(1)).collect::<Result<Vec<_>>>()?;
    let work = |&initial_variance: &f64| {
        let options = TrainOptions {
            iterations,
            initial_variance,
            seed,
            isa: context.isa,
            backend: context.backend,
            ..TrainOptions::default()
        };
        student(&teacher, train, validation, &options)
    };
    let mut students = Vec::new();
    in_parallel(&pools, &VARIANCES, work, |_, student| {
        students.push(student);
        Ok(())
    })?;
    students.sort_by(|a, b| a.initial_variance.total_cmp(&b.initial_variance));
    Ok(students)
}

fn student<T: Number>(
    teacher: &Teacher<T>,
    train: Rows<'_, T>,
    validation: Rows<'_, T>,
    options: &TrainOptions,
) -> Result<Student> {
    let mut training = Training::new(train, validation, options)?;
    let first = training.initial_model()?;
    let outcome = loop {
        match training.next_evaluation() {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let mut student = Student {
        initial_variance: options.initial_variance,
        kl: f64::NAN,
        ntk_drift: f64::NAN,
        max_cosine: f64::NAN,
        f1_norm: f64::NAN,
        best_iteration: 0,
    };
    match (outcome, training.best()) {
        (Ok(()), Some((best, model))) => {
            student.kl = teacher.kl_to(model, super::engine::KL_POINTS, options.seed)?;
            student.ntk_drift = monitor::ntk_drift(&first, model, train.range(0, WATCHED))?;
            student.max_cosine = teacher.max_cosine(model)?;
            student.f1_norm = best.f1_norm;
            student.best_iteration = best.iteration;
        }
        (Err(error), _) if !error.is_divergence() => return Err(error.into()),
        _ => {}
    }
    Ok(student)
}

/// KL and drift against the initial variance.
pub fn plot(students: &[Student]) -> Plot {
    let curve = |label: &str, color, value: fn(&Student) -> f64| Curve {
        label: label.to_owned(),
        color,
        points: students.iter().map(|s| (s.initial_variance, value(s))).collect(),
        bars: Vec::new(),
    };
    Plot {
        title: format!("From active to lazy: teacher {TEACHER}, mle, f1, n = {N}"),
        x_label: "variance of the initial parameters",
        y_label: "nats; relative change",
        curves: vec![
            curve("KL(teacher | model)", BLUE, |student| student.kl),
            curve("drift of the tangent kernel", ORANGE, |student| student.ntk_drift),
        ],
        level: None,
        mark: None,
        log: true,
        log_x: true,
        legend: UPPER_RIGHT,
    }
}
