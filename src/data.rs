//! Checks and small operations on rows, shared by models, samplers and estimators.

use crate::{Error, Real, Result, Rows};
use gibbsite_kernels::{Isa, Scratch, ShapeError, noise::Streams, rowwise};

pub(crate) use rowwise::reference::dot;

/// How far from 1 the norm of a point "on the sphere" may be, and how large the radial part of a
/// score, relative to it: generous enough for rows normalised in another program, and in double
/// precision for what was single precision once.
fn sphere_tolerance<T: Real>() -> f64 {
    (1e4 * <T as gibbsite_kernels::Real>::EPSILON.to_f64()).max(1e-6)
}

/// Whether a matrix has this many rows and columns.
pub(crate) fn check_shape(
    what: &'static str,
    expected: (usize, usize),
    got: (usize, usize),
) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let [expected, got] = [expected, got].map(|(rows, cols)| format!("{rows} x {cols}"));
    Err(ShapeError::new(what, expected, got).into())
}

pub(crate) fn check_finite<T: Real>(what: &'static str, x: Rows<'_, T>) -> Result<()> {
    if x.cols() == 0 {
        // Of rows without columns there may be as many as there are numbers.
        return Ok(());
    }
    for (row, x) in x.iter().enumerate() {
        if let Some(col) = x.iter().position(|&x| !gibbsite_kernels::Real::is_finite(x)) {
            return Err(Error::NonFinite { what, row, col, value: x[col].to_f64() });
        }
    }
    Ok(())
}

/// A result that did not overflow on the way; `expected` says what to do if it did.
pub(crate) fn finite(what: &'static str, expected: &'static str, value: f64) -> Result<f64> {
    match value.is_finite() {
        true => Ok(value),
        false => Err(Error::parameter(what, expected, value)),
    }
}

pub(crate) fn check_finite_slice<T: Real>(what: &'static str, x: &[T]) -> Result<()> {
    match x.iter().position(|&x| !gibbsite_kernels::Real::is_finite(x)) {
        Some(row) => Err(Error::NonFinite { what, row, col: 0, value: x[row].to_f64() }),
        None => Ok(()),
    }
}

/// Nothing can move on the two points of a sphere in one dimension, and all scores and discrepancies there are 0.
pub(crate) fn check_sphere(d: usize) -> Result<()> {
    match d >= 2 {
        true => Ok(()),
        false => Err(Error::parameter("dimension", "at least 2 on the sphere", d)),
    }
}

/// NaN rows pass: a NaN shows in the results of its row.
pub(crate) fn check_on_sphere<T: Real>(what: &'static str, x: Rows<'_, T>) -> Result<()> {
    let tolerance = sphere_tolerance::<T>();
    let (mut squares, scratch) = ([T::ZERO; 256], &mut Scratch::default());
    for start in (0..x.rows()).step_by(squares.len()) {
        let x = x.range(start, squares.len().min(x.rows() - start));
        let squares = &mut squares[..x.rows()];
        rowwise::dot(Isa::best(), x, x, squares, scratch);
        for (row, square) in squares.iter().enumerate() {
            let norm = square.to_f64().sqrt();
            if (norm - 1.0).abs() > tolerance {
                return Err(Error::OffSphere { what, row: start + row, norm });
            }
        }
    }
    Ok(())
}

pub(crate) fn check_tangential<T: Real>(x: Rows<'_, T>, score: Rows<'_, T>) -> Result<()> {
    for (row, (x, score)) in x.iter().zip(score.iter()).enumerate() {
        let (radial, norm) = radial_part(x, score);
        if radial.abs() > sphere_tolerance::<T>() * norm.max(1.0) {
            return Err(Error::NotTangential { row, radial });
        }
    }
    Ok(())
}

/// Whether scores of an energy were projected at all: those that were not are refused, what rounding leaves of those that were is
/// not. NaN rows pass.
pub(crate) fn check_projected<T: Real>(
    x: Rows<'_, T>,
    potential: &[T],
    score: Rows<'_, T>,
) -> Result<()> {
    let epsilon = <T as gibbsite_kernels::Real>::EPSILON.to_f64();
    for (row, ((x, score), potential)) in x.iter().zip(score.iter()).zip(potential).enumerate() {
        let (radial, norm) = radial_part(x, score);
        // Of the radial part that was cut off, for a homogeneous energy the potential, this share stays: where little else was
        // there, it may be all that is left.
        let share = 2.0 * (dot(x, x).to_f64() - 1.0).abs() + 100.0 * epsilon;
        let rounding = share * potential.to_f64().abs();
        if radial.abs() > 0.01 * norm.max(1.0) + rounding {
            return Err(Error::NotTangential { row, radial });
        }
    }
    Ok(())
}

/// s·x and |s|.
fn radial_part<T: Real>(x: &[T], score: &[T]) -> (f64, f64) {
    (dot(x, score).to_f64(), dot(score, score).to_f64().sqrt())
}

/// Streams `first..first + count` of a seed.
///
/// # Errors
/// If memory cannot hold their states; `what` names them.
pub(crate) fn streams<T: Real>(
    what: &'static str,
    seed: u64,
    first: u64,
    count: usize,
) -> Result<Vec<Streams<T>>> {
    // What the states take; those of a group are made together, without a chance to fail.
    drop(try_zeros::<f64>(what, count, size_of::<[u64; 4]>() / size_of::<f64>())?);
    Ok(Streams::range(seed, first, count))
}

/// All values of rows, each as `change` makes it.
///
/// # Errors
/// If memory cannot hold them; `what` names the rows.
pub(crate) fn try_changed<T: Real>(
    what: &'static str,
    x: Rows<'_, T>,
    change: impl Fn(T) -> T,
) -> Result<Vec<T>> {
    let mut values = try_zeros(what, x.rows(), x.cols())?;
    values.iter_mut().zip(x.iter().flatten()).for_each(|(to, &x)| *to = change(x));
    Ok(values)
}

/// `rows`·`cols` zeros.
///
/// # Errors
/// If memory cannot hold them; `what` names the rows.
pub(crate) fn try_zeros<T: Real>(what: &'static str, rows: usize, cols: usize) -> Result<Vec<T>> {
    let too_many = || Error::Memory { what, got: rows };
    let len = rows.checked_mul(cols).ok_or_else(too_many)?;
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(len).map_err(|_| too_many())?;
    zeros.resize(len, T::ZERO);
    Ok(zeros)
}
