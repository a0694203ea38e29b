//! The same sums as the fused kernel, through matrix products of a library.
//!
//! A tile of preactivations is formed by one product, turned into gates in place by a fused
//! epilogue, and multiplied again while it is still in cache. As in the fused kernel, samples
//! and neurons exchange roles between energies and parameter gradients.

use crate::{Real, Rows, RowsMut};
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
#[cfg(feature = "blas")]
use gibbsite_kernels::blas;
use gibbsite_kernels::{Isa, relu};

/// Points and panel vectors of one tile: z fills half of a usual L2 cache.
const POINTS: usize = 256;
const PANEL: usize = 192;

/// Whose matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multiplier {
    Faer,
    #[cfg(feature = "blas")]
    Blas,
}

/// Products of row-major matrices on the calling thread, added to `c`, which they fill.
trait Multiply<T> {
    /// `c += a bᵀ`
    fn add_a_bt(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut [T]);
    /// `c += aᵀ b`
    fn add_at_b(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut [T]);
}

/// Points against weighted vectors: `value_i = Σ_j v_j max(z_ij, 0)`, `gradient_i = Σ_j v_j 1{z_ij > 0} q_j`,
/// `gate_sum_i = Σ_j v_j 1{z_ij > 0}`, with `z_ij = p_i·q_j + point_bias_i + panel_bias_j`.
pub(super) struct Product<'a, T> {
    pub(super) multiplier: Multiplier,
    pub(super) isa: Isa,
    pub(super) points: Rows<'a, T>,
    pub(super) point_bias: Option<&'a [T]>,
    pub(super) panel: Rows<'a, T>,
    pub(super) panel_bias: Option<&'a [T]>,
    pub(super) weights: &'a dyn Fn(usize) -> T,
}

impl<T: Real> Product<'_, T> {
    /// Overwrites the outputs that are given.
    pub(super) fn run(
        &self,
        value: Option<&mut [T]>,
        gradient: Option<RowsMut<'_, T>>,
        gate_sum: Option<&mut [T]>,
    ) {
        match self.multiplier {
            // faer takes what is too long for BLAS's integers.
            #[cfg(feature = "blas")]
            Multiplier::Blas if blas::fits(self.points) && blas::fits(self.panel) => {
                self.tiles(&blas::OneThread::enter(), value, gradient, gate_sum);
            }
            _ => self.tiles(&Faer, value, gradient, gate_sum),
        }
    }

    fn tiles(
        &self,
        products: &impl Multiply<T>,
        mut value: Option<&mut [T]>,
        mut gradient: Option<RowsMut<'_, T>>,
        mut gate_sum: Option<&mut [T]>,
    ) {
        let d = self.points.cols();
        let most = POINTS.min(self.points.rows());
        let mut z = vec![T::ZERO; most * PANEL.min(self.panel.rows())];
        let mut no_value = vec![T::ZERO; most];
        let mut no_sum = vec![T::ZERO; most];
        let mut transposed = vec![T::ZERO; most * d];
        for start in (0..self.points.rows()).step_by(POINTS) {
            let count = POINTS.min(self.points.rows() - start);
            let points = self.points.range(start, count);
            let value = match &mut value {
                Some(value) => &mut value[start..start + count],
                None => &mut no_value[..count],
            };
            let gate_sum = match &mut gate_sum {
                Some(gate_sum) => &mut gate_sum[start..start + count],
                None => &mut no_sum[..count],
            };
            value.fill(T::ZERO);
            gate_sum.fill(T::ZERO);
            let sums = &mut transposed[..count * d];
            sums.fill(T::ZERO);
            for first in (0..self.panel.rows()).step_by(PANEL) {
                let width = PANEL.min(self.panel.rows() - first);
                let panel = self.panel.range(first, width);
                let z = &mut z[..count * width];
                for (j, z) in z.chunks_exact_mut(count).enumerate() {
                    match (self.point_bias, self.panel_bias) {
                        (Some(bias), _) => z.copy_from_slice(&bias[start..start + count]),
                        (None, Some(bias)) => z.fill(bias[first + j]),
                        (None, None) => z.fill(T::ZERO),
                    }
                }
                products.add_a_bt(panel, points, z);
                for (j, z) in z.chunks_exact_mut(count).enumerate() {
                    relu::gate_column(self.isa, (self.weights)(first + j), z, value, gate_sum);
                }
                if gradient.is_some() {
                    let gates = Rows::new(z, width, count).expect("sized above");
                    products.add_at_b(panel, gates, sums);
                }
            }
            if let Some(gradient) = &mut gradient {
                for i in 0..count {
                    for (k, out) in gradient.row_mut(start + i).iter_mut().enumerate() {
                        *out = transposed[k * count + i];
                    }
                }
            }
        }
    }
}

struct Faer;

/// In terms of column-major matrices, the transposes of ours.
impl<T: Real> Multiply<T> for Faer {
    fn add_a_bt(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut [T]) {
        let c = MatMut::from_column_major_slice_mut(c, b.rows(), a.rows());
        matmul(c, Accum::Add, row_major(b), row_major(a).transpose(), T::ONE, Par::Seq);
    }

    fn add_at_b(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut [T]) {
        let c = MatMut::from_column_major_slice_mut(c, b.cols(), a.cols());
        matmul(c, Accum::Add, row_major(b).transpose(), row_major(a), T::ONE, Par::Seq);
    }
}

#[cfg(feature = "blas")]
impl<T: Real> Multiply<T> for blas::OneThread {
    fn add_a_bt(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut [T]) {
        let mut c = RowsMut::new(c, a.rows(), b.rows()).expect("sized for the product");
        Self::add_a_bt(self, a, b, &mut c);
    }

    fn add_at_b(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut [T]) {
        let mut c = RowsMut::new(c, a.cols(), b.cols()).expect("sized for the product");
        Self::add_at_b(self, a, b, &mut c);
    }
}

fn row_major<'a, T: Real>(rows: Rows<'a, T>) -> MatRef<'a, T> {
    // faer wants the slice to end with the last row.
    let len = match rows.rows() {
        0 => 0,
        n => (n - 1) * rows.stride() + rows.cols(),
    };
    MatRef::from_row_major_slice_with_stride(
        &rows.as_slice()[..len],
        rows.rows(),
        rows.cols(),
        rows.stride(),
    )
}
