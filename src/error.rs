//! The library's error type.

use gibbsite_kernels::ShapeError;

/// What can go wrong in the safe API. Every message is a single readable line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Arrays whose lengths or shapes do not fit together.
    #[error(transparent)]
    Shape(#[from] ShapeError),

    /// A size that must not be zero is.
    #[error("{what} must not be zero")]
    Zero {
        /// Which size.
        what: &'static str,
    },

    /// A NaN or an infinity where only finite values make sense.
    #[error("{value} in {what} at row {row}, column {col}")]
    NonFinite {
        /// Which array.
        what: &'static str,
        /// Row, counted from 0.
        row: usize,
        /// Column, counted from 0.
        col: usize,
        /// The offending value.
        value: f64,
    },

    /// An option outside its range.
    #[error("{what} must be {expected}, got {got}")]
    Parameter {
        /// Which option.
        what: &'static str,
        /// Its range.
        expected: &'static str,
        /// What was given.
        got: String,
    },

    /// A size that memory cannot hold.
    #[error("{what} must be few enough for memory, got {got}")]
    Memory {
        /// Which size.
        what: &'static str,
        /// What was given.
        got: usize,
    },

    /// A point that should lie on the unit sphere and does not.
    #[error(
        "row {row} of {what} has norm {}, not 1 as on the unit sphere: normalise the rows first",
        number(norm)
    )]
    OffSphere {
        /// Which array.
        what: &'static str,
        /// Row, counted from 0.
        row: usize,
        /// Its Euclidean norm.
        norm: f64,
    },

    /// A score that should be tangential to the unit sphere and is not.
    #[error(
        "the score s of row {row} is not tangential to the unit sphere at its point x, s·x is {radial:.3e}: subtract (s·x) x first"
    )]
    NotTangential {
        /// Row, counted from 0.
        row: usize,
        /// s·x.
        radial: f64,
    },

    /// A Markov chain ran away.
    #[error(
        "chain {chain} is no longer finite after steps of size {}: try a smaller step",
        number(step)
    )]
    ChainDiverged {
        /// The chain, counted from 0.
        chain: usize,
        /// The step size.
        step: f64,
    },

    /// Draws that cannot be judged.
    #[error(transparent)]
    Diagnostics(#[from] crate::diagnostics::DiagnosticsError),

    /// A checkpoint that a training run cannot go on from.
    #[error("the checkpoint does not fit: {0}")]
    Checkpoint(String),

    /// Training left the region where it makes sense.
    #[error(
        "training diverged at iteration {iteration}: {what}; try a smaller learning rate or, by maximum likelihood, another negative phase"
    )]
    Diverged {
        /// The iteration, counted from 0.
        iteration: usize,
        /// What blew up, with its value.
        what: String,
    },
}

/// Result of the library's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether training or a chain ran away, as opposed to bad input.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::ChainDiverged { .. })
    }

    pub(crate) fn parameter(
        what: &'static str,
        expected: &'static str,
        got: impl ToString,
    ) -> Self {
        Self::Parameter { what, expected, got: number(got) }
    }
}

/// Numbers are written out in full, unless that takes up to hundreds of zeros. Other text may be anybody's: it comes on one line, cut
/// where it is long.
pub(crate) fn number(value: impl ToString) -> String {
    const LONGEST: usize = 100;
    let text = value.to_string();
    match (text.len(), text.parse::<f64>()) {
        (25.., Ok(value)) => format!("{value:e}"),
        _ => {
            let line =
                |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
            text.chars().take(LONGEST).map(line).collect()
        }
    }
}
