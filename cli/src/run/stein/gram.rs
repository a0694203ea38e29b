//! `gibbsite gram`.

use super::{Common, Problem, source, with_progress};
use crate::{
    Number,
    args::GramArgs,
    error::{Error, Result},
    io,
    report::{Facts, shown},
    run::{Context, check_out, reserve},
};
use gibbsite::{RowsMut, stein::TILE};
use serde::Serialize;
use std::{fmt, time::Instant};

/// Bytes of the rows that are computed before they are written.
const AT_ONCE: usize = 256 << 20;
/// Tiles of rows per thread.
const TILES: usize = 4;

pub fn gram<T: Number>(args: &GramArgs, context: Context) -> Result<()> {
    let start = Instant::now();
    check_out(&args.out, "npy", &[&args.input.data, source(&args.input)])?;
    let problem = Problem::<T>::new(&args.input, &args.kernel, context)?;
    let n = problem.gram.points();
    let bytes =
        n.checked_mul(n).and_then(|count| count.checked_mul(size_of::<T>())).ok_or_else(|| {
            Error::Usage(format!(
                "{}: the Gram matrix of {n} points is too large for a file",
                problem.names.data
            ))
        })?;
    let tiles = (AT_ONCE / (n * TILE * size_of::<T>())).clamp(1, TILES * context.threads);
    let height = (tiles * TILE).min(n);
    let mut block = reserve(&problem.names.data, height * n)?;
    block.resize(height * n, T::ZERO);
    let mut failure = None;
    let written = with_progress(context.voice, "the rows", |progress| {
        io::write_npy_parts(&args.out, &[n, n], |write| {
            for first in (0..n).step_by(height) {
                let height = height.min(n - first);
                let block = &mut block[..height * n];
                compute(&problem, first, height, block).map_err(|error| {
                    failure = Some(error);
                    std::io::Error::other("not computed")
                })?;
                write(block)?;
                progress((first + height) as f64 / n as f64);
            }
            Ok(())
        })
    });
    match (failure, written) {
        (Some(error), _) => return Err(error),
        (None, Err(io::Error::Write { source, .. }))
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            return Err(Error::System(format!(
                "{}: no space for the {bytes} bytes of the Gram matrix of {n} points",
                shown(&args.out)
            )));
        }
        (None, written) => written?,
    }
    let report = Report { common: problem.common(context, start), out: shown(&args.out) };
    context.voice.result(&report, Text { report: &report, problem: &problem, bytes })
}

/// Rows of the matrix, all finite.
fn compute<T: Number>(
    problem: &Problem<T>,
    first: usize,
    height: usize,
    block: &mut [T],
) -> Result<()> {
    let n = problem.gram.points();
    let out = RowsMut::new(block, height, n).map_err(gibbsite::Error::from)?;
    problem.gram.write(first, out)?;
    match block.iter().position(|&u| !u.into().is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::Usage(format!(
            "{} and {}: the Stein kernel of rows {} and {} is {}: points or scores are too large",
            problem.names.data,
            problem.names.scores,
            first + i / n,
            i % n,
            block[i]
        ))),
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    common: Common,
    out: String,
}

struct Text<'a, T: Number> {
    report: &'a Report,
    problem: &'a Problem<T>,
    bytes: usize,
}

impl<T: Number> fmt::Display for Text<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = Facts::default();
        facts.add("points", self.problem.size());
        facts.add("kernel", self.problem.kernel);
        facts.add("bytes", self.bytes);
        facts.add("seconds", format_args!("{:.3}", self.report.common.seconds));
        facts.add("files", &self.report.out);
        write!(f, "{facts}")
    }
}
