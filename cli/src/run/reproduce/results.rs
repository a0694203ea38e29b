//! Tables of the results.

use super::{
    engine::Problem,
    ledger::{Ledger, Run},
    phase::Student,
    plan::{Cell, REGIMES},
};
use crate::{Number, args::PaperEstimator};
use serde::Serialize;
use std::fmt;

/// Means over data sets and their standard deviations; divergent runs are left out.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub experiment: String,
    pub estimator: PaperEstimator,
    pub n: usize,
    pub f2_kl: f64,
    pub f1_kl: f64,
    pub f2_kl_sd: f64,
    pub f1_kl_sd: f64,
    pub ratio: f64,
    pub uniform_kl: f64,
    pub f2_test_cross_entropy: f64,
    pub f1_test_cross_entropy: f64,
    pub f2_test_cross_entropy_sd: f64,
    pub f1_test_cross_entropy_sd: f64,
    pub teacher_test_cross_entropy: f64,
    pub f2_test_ksd: f64,
    pub f1_test_ksd: f64,
    pub f2_test_ksd_sd: f64,
    pub f1_test_ksd_sd: f64,
    pub teacher_test_ksd: f64,
    pub f2_test_f1_sd: f64,
    pub f1_test_f1_sd: f64,
    pub f2_test_f1_sd_sd: f64,
    pub f1_test_f1_sd_sd: f64,
    pub teacher_test_f1_sd: f64,
    pub f2_max_cosine: f64,
    pub f1_max_cosine: f64,
    pub f1_max_cosine_sd: f64,
    pub f2_f1_norm: f64,
    pub f1_f1_norm: f64,
    pub f1_f1_norm_sd: f64,
    pub teacher_f1_norm: f64,
    pub f2_best_iteration: f64,
    pub f1_best_iteration: f64,
    pub f2_learning_rate: f64,
    pub f1_learning_rate: f64,
    pub f2_weight_decay: f64,
    pub f1_weight_decay: f64,
    pub f2_diverged: usize,
    pub f1_diverged: usize,
    pub repetitions: usize,
}

impl Row {
    pub fn new<T: Number>(cell: &Cell, ledger: &Ledger, problems: &[Problem<T>]) -> Self {
        let problem = problems.iter().find(|problem| problem.is_of(cell));
        let problem = problem.expect("a problem for every cell");
        let runs = REGIMES.map(|regime| ledger.chosen_runs(cell, regime));
        let both = |value: fn(&Run) -> f64| {
            let of = |runs: &[&Run]| {
                moments(runs.iter().filter(|run| !run.diverged).map(|run| value(run)))
            };
            [of(&runs[0]), of(&runs[1])]
        };
        let [f2_kl, f1_kl] = both(|run| run.kl);
        let [f2_test, f1_test] = both(|run| run.test_cross_entropy);
        let [f2_ksd, f1_ksd] = both(|run| run.test_ksd);
        let [f2_f1_sd, f1_f1_sd] = both(|run| run.test_f1_sd);
        let [f2_cosine, f1_cosine] = both(|run| run.max_cosine);
        let [f2_norm, f1_norm] = both(|run| run.f1_norm);
        let [f2_iteration, f1_iteration] = both(|run| run.best_iteration as f64);
        let [f2_setting, f1_setting] = REGIMES.map(|regime| ledger.chosen(cell, regime));
        let [f2_diverged, f1_diverged] =
            [0, 1].map(|i: usize| runs[i].iter().filter(|run| run.diverged).count());
        Self {
            experiment: cell.experiment.clone(),
            estimator: cell.estimator,
            n: cell.n,
            f2_kl: f2_kl.0,
            f1_kl: f1_kl.0,
            f2_kl_sd: f2_kl.1,
            f1_kl_sd: f1_kl.1,
            ratio: f2_kl.0 / f1_kl.0,
            uniform_kl: problem.uniform_kl,
            f2_test_cross_entropy: f2_test.0,
            f1_test_cross_entropy: f1_test.0,
            f2_test_cross_entropy_sd: f2_test.1,
            f1_test_cross_entropy_sd: f1_test.1,
            teacher_test_cross_entropy: problem.test_cross_entropy,
            f2_test_ksd: f2_ksd.0,
            f1_test_ksd: f1_ksd.0,
            f2_test_ksd_sd: f2_ksd.1,
            f1_test_ksd_sd: f1_ksd.1,
            teacher_test_ksd: problem.test_ksd,
            f2_test_f1_sd: f2_f1_sd.0,
            f1_test_f1_sd: f1_f1_sd.0,
            f2_test_f1_sd_sd: f2_f1_sd.1,
            f1_test_f1_sd_sd: f1_f1_sd.1,
            teacher_test_f1_sd: problem.test_f1_sd,
            f2_max_cosine: f2_cosine.0,
            f1_max_cosine: f1_cosine.0,
            f1_max_cosine_sd: f1_cosine.1,
            f2_f1_norm: f2_norm.0,
            f1_f1_norm: f1_norm.0,
            f1_f1_norm_sd: f1_norm.1,
            teacher_f1_norm: problem.f1_norm,
            f2_best_iteration: f2_iteration.0,
            f1_best_iteration: f1_iteration.0,
            f2_learning_rate: f2_setting.learning_rate,
            f1_learning_rate: f1_setting.learning_rate,
            f2_weight_decay: f2_setting.weight_decay,
            f1_weight_decay: f1_setting.weight_decay,
            f2_diverged,
            f1_diverged,
            repetitions: cell.repetitions,
        }
    }
}

/// Mean and standard deviation, NaN where there are too few values.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let squares = values.map(|value| (value - mean) * (value - mean)).sum::<f64>();
    (mean, if n > 1.0 { (squares / (n - 1.0)).sqrt() } else { f64::NAN })
}

/// A table with all columns.
pub fn csv(rows: &[impl Serialize]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().for_each(|row| writer.serialize(row).expect("plain data"));
    String::from_utf8(writer.into_inner().expect("memory takes all")).expect("numbers and names")
}

/// The table that people read.
pub fn markdown(rows: &[Row]) -> String {
    let mut table = vec![
        ["experiment", "estimator", "n", "F2 KL", "F1 KL", "ratio", "F1 cosine", "F1 norm"]
            .map(str::to_owned),
    ];
    table.extend(rows.iter().map(|row| {
        [
            row.experiment.clone(),
            row.estimator.name().to_owned(),
            row.n.to_string(),
            format!("{:.4} ± {:.4}", row.f2_kl, row.f2_kl_sd),
            format!("{:.4} ± {:.4}", row.f1_kl, row.f1_kl_sd),
            format!("{:.2}", row.ratio),
            format!("{:.3}", row.f1_max_cosine),
            format!("{:.2}", row.f1_f1_norm),
        ]
    }));
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 8] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let rule = widths.map(|width| "-".repeat(width));
    table.insert(1, rule);
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The object of `--json`.
#[derive(Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub phase: Vec<Student>,
    pub seconds: f64,
    pub files: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "KL(teacher | model) in nats, mean ± standard deviation over data sets\n")?;
        writeln!(f, "{}\n\n{:.0} s. Written", markdown(&self.rows), self.seconds)?;
        write!(f, "  {}", self.files.join("\n  "))
    }
}
