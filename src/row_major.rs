//! Matrices of other crates.

use crate::Rows;
use std::borrow::Cow;

/// An n×d matrix of another crate (faer 0.24, ndarray 0.17, nalgebra 0.35), one point a row, in row-major order: a
/// [`faer::MatRef`], with the feature `ndarray` an
/// `ndarray::ArrayView2`, and with the feature `nalgebra` any `nalgebra::Matrix`.
///
/// Arrays of `ndarray` in standard layout are borrowed. What is stored in another order is copied, as matrices of `faer` and `nalgebra` are; where
/// their columns are the points and nothing lies between them, [`Rows::new`] takes their values as they are.
///
/// ```
/// use gibbsite::{ReluEnergy, RowMajor, Rows};
///
/// let x = faer::mat![[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]];
/// let x = RowMajor::from(x.as_ref());
/// assert_eq!(x.rows().row(0), [0.6, 0.8]);
///
/// let model = ReluEnergy::new(Rows::new(&[1.0, 2.0], 1, 2)?, &[-3.0])?;
/// let mut energy = [0.0; 3];
/// model.energy(x.rows(), &mut energy)?;
/// # Ok::<(), gibbsite::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RowMajor<'a, T: Clone> {
    data: Cow<'a, [T]>,
    n: usize,
    d: usize,
}

impl<T: Clone> RowMajor<'_, T> {
    /// The matrix.
    pub fn rows(&self) -> Rows<'_, T> {
        Rows::new(&self.data, self.n, self.d).expect("sized when made")
    }
}

impl<T: Clone> From<faer::MatRef<'_, T>> for RowMajor<'_, T> {
    fn from(x: faer::MatRef<'_, T>) -> Self {
        let (n, d) = (x.nrows(), x.ncols());
        let entries = (0..n).flat_map(|i| (0..d).map(move |k| x[(i, k)].clone()));
        Self { data: entries.collect(), n, d }
    }
}

#[cfg(feature = "ndarray")]
impl<'a, T: Clone> From<ndarray::ArrayView2<'a, T>> for RowMajor<'a, T> {
    fn from(x: ndarray::ArrayView2<'a, T>) -> Self {
        let (n, d) = x.dim();
        let data = match x.to_slice() {
            Some(data) => Cow::Borrowed(data),
            None => x.iter().cloned().collect(),
        };
        Self { data, n, d }
    }
}

#[cfg(feature = "nalgebra")]
impl<T, R, C, S> From<&nalgebra::Matrix<T, R, C, S>> for RowMajor<'_, T>
where
    T: nalgebra::Scalar,
    R: nalgebra::Dim,
    C: nalgebra::Dim,
    S: nalgebra::RawStorage<T, R, C>,
{
    fn from(x: &nalgebra::Matrix<T, R, C, S>) -> Self {
        let (n, d) = x.shape();
        let entries = (0..n).flat_map(|i| (0..d).map(move |k| x[(i, k)].clone()));
        Self { data: entries.collect(), n, d }
    }
}
