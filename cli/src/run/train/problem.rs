//! What is learned: a built-in teacher's samples or the user's data.

use crate::{
    Number,
    args::{BuiltIn, MAX_COUNT, TrainArgs},
    error::{Error, Result},
    io::Matrix,
    report::{Voice, shown},
    run::read_points,
    sphere,
};
use gibbsite::{Domain, random::Stream, teacher::Teacher};
use std::path::Path;

/// Training, validation and test points, and the teacher that they come from, if there is one.
pub struct Problem<T: Number> {
    pub name: String,
    pub train: Matrix<T>,
    pub validation: Matrix<T>,
    pub test: Matrix<T>,
    pub teacher: Option<Teacher<T>>,
    pub warnings: Vec<String>,
}

/// Validation and test points drawn from a teacher.
const HELD_OUT: usize = 10_000;

/// The stream that shuffles, away from those of the library.
const SHUFFLE_STREAM: u64 = 1 << 56;

impl<T: Number> Problem<T> {
    pub fn new(args: &TrainArgs, seed: u64, voice: Voice) -> Result<Self> {
        match &args.data {
            Some(path) => Self::from_file(path, args, seed, voice),
            None => Self::from_teacher(args, seed),
        }
    }

    fn from_teacher(args: &TrainArgs, seed: u64) -> Result<Self> {
        if args.domain != Domain::Sphere {
            return Err(Error::Usage(format!(
                "--domain {}: the built-in problem lives on the sphere, other domains need --data",
                args.domain
            )));
        }
        let BuiltIn { teacher: name, n, dim } = &args.built_in;
        check_size("--n", *n, *dim)?;
        let teacher =
            Teacher::named(name, *dim, seed).map_err(|error| Error::about("--dim", error))?;
        let draw = |flag, n, set| -> Result<_> {
            let data = teacher.sample(n, seed, set).map_err(|error| Error::about(flag, error))?;
            Ok(Matrix { data: data.into(), rows: n, cols: *dim })
        };
        Ok(Self {
            name: format!("teacher {name}"),
            train: draw("--n", *n, 0)?,
            validation: draw("--dim", HELD_OUT, 1)?,
            test: draw("--dim", HELD_OUT, 2)?,
            teacher: Some(teacher),
            warnings: Vec::new(),
        })
    }

    fn from_file(path: &Path, args: &TrainArgs, seed: u64, voice: Voice) -> Result<Self> {
        let mut warnings = Vec::new();
        let mut data: Matrix<T> = read_points(path, voice, &mut warnings)?;
        let bad = |problem: String| Error::Usage(format!("{}: {problem}", shown(path)));
        let not_finite = |&x: &T| !x.into().is_finite();
        if let Some(i) = data.data.iter().position(not_finite) {
            let (value, row, col) = (data.data[i], i / data.cols, i % data.cols);
            return Err(bad(format!("{value} at row {row}, column {col} cannot be learned from")));
        }
        if args.domain == Domain::Sphere && sphere::first_off(&data).is_some() {
            sphere::normalise(&mut data).map_err(|row| {
                bad(format!(
                    "row {row} is zero and cannot be scaled to the unit sphere \
                     (--domain euclidean takes it)"
                ))
            })?;
            voice.message(format_args!("{}: rows are scaled to norm 1", shown(path)));
        }
        let share = |fraction: f64| ((fraction * data.rows as f64).round() as usize).max(1);
        let (validation, test) = (share(args.own.validation), share(args.own.test));
        let Some(train @ 1..) = data.rows.checked_sub(validation + test) else {
            return Err(bad(format!(
                "nothing left to train on: {validation} of {} rows are for --validation, \
                 {test} for --test",
                data.rows
            )));
        };
        let order = shuffled(data.rows, seed);
        let pick = |rows: &[usize]| Matrix {
            data: rows
                .iter()
                .flat_map(|&row| &data.data[row * data.cols..][..data.cols])
                .copied()
                .collect::<Vec<_>>()
                .into(),
            rows: rows.len(),
            cols: data.cols,
        };
        Ok(Self {
            name: shown(path),
            train: pick(&order[..train]),
            validation: pick(&order[train..train + validation]),
            test: pick(&order[train + validation..]),
            teacher: None,
            warnings,
        })
    }
}

/// Refuses sizes that no machine can hold.
pub fn check_size(flag: &str, rows: usize, cols: usize) -> Result<()> {
    match rows.checked_mul(cols) {
        Some(..=MAX_COUNT) => Ok(()),
        _ => Err(Error::Usage(format!(
            "{flag}: {rows} rows of {cols} numbers are more than the {MAX_COUNT} numbers supported"
        ))),
    }
}

/// 0..n in random order (Fisher and Yates).
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut stream = Stream::new(seed, SHUFFLE_STREAM);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let pick = (u128::from(stream.bits()) * (i as u128 + 1)) >> 64;
        order.swap(i, pick as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_are_permutations_and_depend_on_the_seed() {
        let mut order = shuffled(100, 1);
        assert_ne!(order, shuffled(100, 2));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..100));
        assert_eq!(shuffled(1, 0), [0]);
    }
}
