//! `gibbsite reproduce`.

mod engine;
mod figures;
mod ledger;
mod phase;
mod plan;
mod results;
mod spheres;
#[cfg(test)]
mod tests;

use super::{Context, in_directory};
use crate::{
    Number,
    args::{PaperEstimator, ReproduceArgs},
    error::Result,
    io,
    report::shown,
};
use clap::ValueEnum;
use engine::Problem;
use gibbsite::teacher;
use ledger::Ledger;
use phase::Student;
use plan::Plan;
use results::{Report, Row, markdown};
use std::{path::Path, time::Instant};

pub fn run<T: Number>(args: &ReproduceArgs, context: Context) -> Result<()> {
    let start = Instant::now();
    let experiments = chosen(&args.experiments, &teacher::NAMES.map(|(name, _)| name.to_owned()));
    let estimators = chosen(&args.estimator, PaperEstimator::value_variants());
    let make = if args.quick { Plan::quick } else { Plan::full };
    let plan = make(&experiments, &estimators);
    let (rows, phase, files) =
        in_directory("--out", &args.out, || reproduce::<T>(&plan, &args.out, args.quick, context))?;
    let report = Report { rows, phase, seconds: start.elapsed().as_secs_f64(), files };
    context.voice.result(&report, &report)
}

/// Those of all that are wanted, each once; all if none is named.
fn chosen<N: Clone + PartialEq>(wanted: &[N], all: &[N]) -> Vec<N> {
    let is_wanted = |name: &&N| wanted.is_empty() || wanted.contains(name);
    all.iter().filter(is_wanted).cloned().collect()
}

/// Trains what is missing and writes tables and figures; returns the tables and the names of the files.
fn reproduce<T: Number>(
    plan: &Plan,
    directory: &Path,
    quick: bool,
    context: Context,
) -> Result<(Vec<Row>, Vec<Student>, Vec<String>)> {
    let mut ledger = Ledger::open(directory, quick, context)?;
    let problems = Problem::<T>::all(plan, context)?;
    engine::train_all(plan, &problems, &mut ledger, context)?;
    let rows: Vec<Row> = plan.cells.iter().map(|cell| Row::new(cell, &ledger, &problems)).collect();
    let diverged = rows.iter().map(|row| row.f2_diverged + row.f1_diverged).sum::<usize>();
    if diverged > 0 {
        let warning =
            format!("{diverged} runs of chosen settings diverged and are left out of means");
        context.voice.warning(warning);
    }
    let mut files =
        vec![shown(&directory.join("runs.csv")), shown(&directory.join("settings.json"))];
    let mut write = |name: &str, text: String| -> Result<()> {
        let path = directory.join(name);
        io::write_atomic(&path, |out| out.write_all(text.as_bytes()))?;
        files.push(shown(&path));
        Ok(())
    };
    // What took long first, whatever becomes of the rest.
    write("results.csv", results::csv(&rows))?;
    write("table.md", format!("{}\n", markdown(&rows)))?;
    for (name, svg) in figures::all(&rows) {
        write(&name, svg)?;
    }
    let students = phase::students::<T>(plan.iterations, plan.held_out, context)?;
    write("phase.csv", results::csv(&students))?;
    write("phase.svg", phase::plot(&students).svg())?;
    let sphere = spheres::Sphere::<T>::new(context)?;
    write("sphere.svg", sphere.svg()?)?;
    write("sphere_kl.svg", sphere.kl().svg())?;
    Ok((rows, students, files))
}
