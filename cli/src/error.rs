//! What ends a command early, and the exit status that goes with it.

use crate::io;
use std::process::ExitCode;

/// An error of a command; each message is a single line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad usage or bad input; the message names the flag, file or variable.
    #[error("{0}")]
    Usage(String),
    /// A file that could not be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// Training or evaluation failed.
    #[error(transparent)]
    Library(#[from] gibbsite::Error),
    /// Training diverged, and what it had reached before was written.
    #[error("{error}; {kept}")]
    Diverged {
        /// What happened.
        error: gibbsite::Error,
        /// What was written.
        kept: String,
    },
    /// The system refused something.
    #[error("{0}")]
    System(String),
}

/// Result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A library error about the flag or file called `culprit`.
    pub fn about(culprit: impl std::fmt::Display, error: gibbsite::Error) -> Self {
        match error.is_divergence() {
            true => Self::Library(error),
            false => Self::Usage(format!("{culprit}: {error}")),
        }
    }

    /// 2 for bad usage and bad input, 1 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        let bad_input = match self {
            Error::Usage(_) => true,
            Error::File(error) => error.is_bad_input(),
            Error::Library(error) => !error.is_divergence(),
            Error::Diverged { .. } | Error::System(_) => false,
        };
        ExitCode::from(if bad_input { 2 } else { 1 })
    }
}
