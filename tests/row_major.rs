//! Points in matrices of other crates.

use gibbsite::RowMajor;

/// Row i, column k, of a matrix with three columns.
fn entry(i: usize, k: usize) -> f64 {
    (10 * i + k) as f64
}

fn check(x: &RowMajor<'_, f64>, rows: &[usize], columns: &[usize]) {
    let got = x.rows();
    assert_eq!((got.rows(), got.cols()), (rows.len(), columns.len()));
    for (got, &i) in got.iter().zip(rows) {
        let want: Vec<f64> = columns.iter().map(|&k| entry(i, k)).collect();
        assert_eq!(got, want);
    }
}

#[test]
fn faer() {
    let x = faer::Mat::from_fn(4, 3, entry);
    check(&x.as_ref().into(), &[0, 1, 2, 3], &[0, 1, 2]);
    check(&x.submatrix(1, 1, 2, 2).into(), &[1, 2], &[1, 2]);
    check(&x.reverse_rows().into(), &[3, 2, 1, 0], &[0, 1, 2]);
    let columns = faer::Mat::from_fn(3, 4, |k, i| entry(i, k));
    check(&columns.transpose().into(), &[0, 1, 2, 3], &[0, 1, 2]);
    check(&x.subrows(0, 0).into(), &[], &[0, 1, 2]);
    check(&x.subcols(0, 0).into(), &[0, 1, 2, 3], &[]);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray() {
    use ndarray::{Array2, ShapeBuilder, s};

    let x = Array2::from_shape_fn((4, 3), |(i, k)| entry(i, k));
    let view = RowMajor::from(x.view());
    check(&view, &[0, 1, 2, 3], &[0, 1, 2]);
    assert_eq!(view.rows().as_slice().as_ptr(), x.as_ptr(), "borrowed");
    let some = RowMajor::from(x.slice(s![1..3, ..]));
    check(&some, &[1, 2], &[0, 1, 2]);
    assert_eq!(some.rows().as_slice().as_ptr(), x.row(1).as_ptr(), "borrowed");
    check(&x.slice(s![.., 1..]).into(), &[0, 1, 2, 3], &[1, 2]);
    check(&x.slice(s![..;-2, ..]).into(), &[3, 1], &[0, 1, 2]);
    let fortran = Array2::from_shape_fn((4, 3).f(), |(i, k)| entry(i, k));
    check(&fortran.view().into(), &[0, 1, 2, 3], &[0, 1, 2]);
    check(&x.slice(s![..0, ..]).into(), &[], &[0, 1, 2]);
    check(&x.slice(s![.., ..0]).into(), &[0, 1, 2, 3], &[]);
}

#[cfg(feature = "nalgebra")]
#[test]
fn nalgebra() {
    use nalgebra::{DMatrix, SMatrix};

    let x = DMatrix::from_fn(4, 3, entry);
    check(&(&x).into(), &[0, 1, 2, 3], &[0, 1, 2]);
    check(&(&x.view((1, 1), (2, 2))).into(), &[1, 2], &[1, 2]);
    check(&(&SMatrix::<f64, 2, 3>::from_fn(entry)).into(), &[0, 1], &[0, 1, 2]);
    check(&(&x.rows(0, 0)).into(), &[], &[0, 1, 2]);
    // Columns as points need no copy.
    let columns = DMatrix::from_fn(3, 4, |k, i| entry(i, k));
    let rows = gibbsite::Rows::new(columns.as_slice(), columns.ncols(), columns.nrows());
    assert_eq!(rows.unwrap().row(2), [20.0, 21.0, 22.0]);
}
