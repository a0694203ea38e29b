//! Rows on the unit sphere.

use crate::{Number, from_f64, io::Matrix};

/// The first row that is off the unit sphere, with its norm. Rows with a NaN pass, as everywhere.
pub fn first_off<T: Number>(x: &Matrix<T>) -> Option<(usize, f64)> {
    let mut norms = x.data.chunks_exact(x.cols).map(norm).enumerate();
    norms.find(|(_, norm)| (norm - 1.0).abs() > T::SPHERE_TOLERANCE)
}

/// Scales every row to norm 1. Fails with the index of the first row that is zero.
pub fn normalise<T: Number>(x: &mut Matrix<T>) -> Result<(), usize> {
    for (i, row) in x.data.chunks_exact_mut(x.cols).enumerate() {
        let unit = unit(row);
        let norm = norm_in(row, unit);
        if norm == 0.0 {
            return Err(i);
        }
        for x in row {
            *x = from_f64((*x).into() / unit / norm);
        }
    }
    Ok(())
}

fn norm<T: Number>(row: &[T]) -> f64 {
    let unit = unit(row);
    unit * norm_in(row, unit)
}

/// Euclidean norm in multiples of a unit.
fn norm_in<T: Number>(row: &[T], unit: f64) -> f64 {
    let square = |&x: &T| (x.into() / unit) * (x.into() / unit);
    row.iter().map(square).sum::<f64>().sqrt()
}

/// A unit in which no square of importance overflows or vanishes: 1 unless numbers are extreme.
fn unit<T: Number>(row: &[T]) -> f64 {
    let max = row.iter().map(|&x| x.into().abs()).fold(0.0, f64::max);
    let extreme = max > 0.0 && max.is_finite() && !(1e-100..1e100).contains(&max);
    if extreme { max } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_unit_vectors_at_any_scale() {
        let mut x =
            Matrix { data: vec![0.0, 1e200, 5e-324, 0.0, 3.0, -4.0].into(), rows: 3, cols: 2 };
        assert_eq!(first_off(&x), Some((0, 1e200)));
        normalise(&mut x).unwrap();
        assert_eq!(first_off(&x), None);
        assert_eq!(x.data, [0.0, 1.0, 1.0, 0.0, 0.6, -0.8]);
        let mut x = Matrix { data: vec![1.0f32, 0.0, 0.0, -0.0].into(), rows: 2, cols: 2 };
        assert_eq!(normalise(&mut x), Err(1));
    }

    #[test]
    fn rows_with_nan_pass() {
        assert_eq!(first_off(&Matrix { data: vec![f64::NAN, 2.0].into(), rows: 1, cols: 2 }), None);
        assert_eq!(norm(&[3.0f32, -4.0]), 5.0);
        let infinite = Matrix { data: vec![f64::INFINITY, 2.0].into(), rows: 1, cols: 2 };
        assert_eq!(first_off(&infinite), Some((0, f64::INFINITY)));
    }
}
