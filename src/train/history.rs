//! What is recorded of a run.

use super::Checkpoint;
use crate::Result;

/// One evaluation during training. Cross-entropies are in nats, relative to the base probability (see [`normaliser`](crate::normaliser)): 0 is
/// the base itself, smaller is better.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// Steps taken so far.
    pub iteration: usize,
    /// Mean of β f + log Z over the training data.
    pub train_cross_entropy: f64,
    /// The same over the validation data: what the iterate is chosen by, whatever the estimator. Where log Z is from annealing (below an
    /// effective sample size of 500 of direct draws), it is too small on average, the more so the worse the chains mix.
    pub validation_cross_entropy: f64,
    /// What the estimator makes small, on the training data: the cross-entropy, the loss of denoising, or a squared discrepancy, in R^d in
    /// units in which the norm of draws of the base is about 1. KSD² of at most 5000 points, F1-SD² of at most 2000.
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

impl Checkpoint {
    pub(super) fn put_history(&mut self, history: &[Record]) {
        let iterations = history.iter().map(|record| record.iteration as u64);
        self.put_counts("history.iteration", iterations);
        for (k, name) in COLUMNS.iter().enumerate() {
            self.put_reals(name, history.iter().map(|record| columns(record)[k]));
        }
    }

    pub(super) fn history(&self) -> Result<Vec<Record>> {
        let len = self.counts.get("history.iteration").map_or(0, Vec::len);
        let iterations = self.counts("history.iteration", len)?;
        let mut rows = vec![[0.0; COLUMNS.len()]; len];
        for (k, name) in COLUMNS.iter().enumerate() {
            let column = self.reals_of_any_kind::<f64>(name, len)?;
            rows.iter_mut().zip(column).for_each(|(row, value)| row[k] = value);
        }
        Ok(iterations.iter().zip(rows).map(|(&i, row)| record(i as usize, row)).collect())
    }
}

const COLUMNS: [&str; 9] = [
    "history.train_cross_entropy",
    "history.validation_cross_entropy",
    "history.train_loss",
    "history.validation_loss",
    "history.log_z",
    "history.log_z_se",
    "history.ess",
    "history.f1_norm",
    "history.acceptance",
];

fn columns(record: &Record) -> [f64; COLUMNS.len()] {
    [
        record.train_cross_entropy,
        record.validation_cross_entropy,
        record.train_loss,
        record.validation_loss,
        record.log_z,
        record.log_z_se,
        record.ess,
        record.f1_norm,
        record.acceptance.unwrap_or(f64::NAN),
    ]
}

fn record(iteration: usize, columns: [f64; COLUMNS.len()]) -> Record {
    let [
        train_cross_entropy,
        validation_cross_entropy,
        train_loss,
        validation_loss,
        log_z,
        log_z_se,
        ess,
        f1_norm,
        acceptance,
    ] = columns;
    Record {
        iteration,
        train_cross_entropy,
        validation_cross_entropy,
        train_loss,
        validation_loss,
        log_z,
        log_z_se,
        ess,
        f1_norm,
        acceptance: (!acceptance.is_nan()).then_some(acceptance),
    }
}
