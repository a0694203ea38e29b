//! The Gram matrix of a Stein kernel, tile by tile.

use super::SteinKernel;
use crate::{
    Domain, Energy, Error, Isa, Real, Result, Rows, RowsMut,
    data::{check_finite, check_on_sphere, check_shape, check_sphere, check_tangential, try_zeros},
    parallel,
};
use gibbsite_kernels::{
    ShapeError,
    stein::{self, Base, Block, Kernel, Points, Signs, TILE},
};
use std::ops::Range;

/// Is told from time to time how much of the work is done, as a share of 1.
pub type Progress<'a> = &'a mut dyn FnMut(f64);

/// Columns of a work item.
const STRIP: usize = 8 * TILE;
/// Work items whose results are held at a time.
const AT_ONCE: usize = 256;

/// Bytes that the results of work items may take which hold many sums each.
const SUMS_BYTES: usize = 64 << 20;

/// How many work items with this number of sums are held at a time.
fn at_once(sums: usize) -> usize {
    (SUMS_BYTES / size_of::<f64>() / sums.max(1)).clamp(1, AT_ONCE)
}

/// The Gram matrix `u(x_i, x_j)` of a Stein kernel at n points; it is computed when asked for, tile by tile and by all
/// threads.
#[derive(Clone, Debug)]
pub struct Gram<T> {
    kernel: Kernel<T>,
    points: Points<T>,
    /// Of the points and scores that it was made of, where they may be asked for again.
    fingerprint: Option<u64>,
    isa: Isa,
}

/// Tells points and scores from others.
fn fingerprint<T: Real>(x: Rows<'_, T>, score: Rows<'_, T>) -> u64 {
    x.iter().chain(score.iter()).flatten().fold(0, |hash: u64, value| {
        (hash ^ value.to_f64().to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

/// Sums of the rows of a Gram matrix, in parts.
#[derive(Clone, Debug, Default)]
pub(super) struct RowSums {
    /// Left of the diagonal.
    pub below: Vec<f64>,
    pub diagonal: Vec<f64>,
    /// Right of the diagonal.
    pub above: Vec<f64>,
}

impl RowSums {
    pub fn of_row(&self, i: usize) -> f64 {
        self.below[i] + self.diagonal[i] + self.above[i]
    }
}

/// Part of the upper half of the matrix: a row of tiles, some of its columns.
#[derive(Clone, Debug)]
struct Item {
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<T: Real> Gram<T> {
    /// The matrix at points x (n×d) with scores (n×d).
    ///
    /// # Errors
    /// If shapes differ, there are no points or dimensions, or a value is not finite; for a kernel on the sphere, if there are fewer than two
    /// dimensions, a point is off the sphere or a score not tangential; if the kernel's constants leave the range of the type; if its metric is
    /// of another size, not positive definite, or so large that rounding moves points by more than 1/1024 of the bandwidth; for the
    /// arc-cosine kernel in R^d, if the square of a point's norm underflows or overflows; for kernels with a
    /// part that is a function of the distance, if all values would have lost digits to underflow.
    pub fn new(kernel: &SteinKernel, x: Rows<'_, T>, score: Rows<'_, T>) -> Result<Self> {
        let gram = Self::of_scores(kernel, x, score)?;
        if kernel.domain() == Domain::Sphere {
            check_tangential(x, score)?;
        }
        Ok(gram)
    }

    /// With scores that are tangential as well as the points' rounding lets a model's be.
    fn of_scores(kernel: &SteinKernel, x: Rows<'_, T>, score: Rows<'_, T>) -> Result<Self> {
        check_shape("scores", (x.rows(), x.cols()), (score.rows(), score.cols()))?;
        if x.rows() == 0 || x.cols() == 0 {
            return Err(Error::Zero { what: "the number of points and their dimension" });
        }
        check_finite("the points", x)?;
        check_finite("the scores", score)?;
        if kernel.domain() == Domain::Sphere {
            check_sphere(x.cols())?;
            check_on_sphere("the points", x)?;
        }
        let (points, kernel) = (kernel.points(x, score)?, kernel.of_type()?);
        let fingerprint = Some(fingerprint(x, score));
        let gram = Self { kernel, points, fingerprint, isa: Isa::best() };
        gram.check_digits(kernel)?;
        Ok(gram)
    }

    /// Whether the largest values of a kernel at these points have all their digits, and those a good deal smaller: bandwidths of
    /// large points may have powers below all numbers.
    pub(super) fn check_digits(&self, kernel: Kernel<T>) -> Result<()> {
        let radial = matches!(kernel.base, Base::Radial(_) | Base::RadialLinear(_));
        let epsilon = <T as gibbsite_kernels::Real>::EPSILON.to_f64();
        let least = T::MIN_POSITIVE.to_f64() / epsilon.sqrt();
        let largest = |values: &[T]| values.iter().fold(0.0, |most: f64, u| most.max(u.to_f64()));
        let diagonal = self.diagonal_of(kernel);
        // A NaN shows in what is made of the values.
        if radial && diagonal.iter().all(|u| u.to_f64().abs() < least) {
            let expected = "large enough for its digits (scale points and scores, or take a smaller bandwidth)";
            return Err(Error::parameter("Stein kernel", expected, largest(&diagonal)));
        }
        Ok(())
    }

    /// On another instruction set; the results are the same.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// The matrix of some of the points, in this order.
    pub(super) fn select(&self, numbers: &[usize]) -> Self {
        Self::from_kernel(self.kernel, self.points.select(numbers), self.isa)
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// Dimension of the points.
    pub fn dim(&self) -> usize {
        self.points.dim()
    }

    /// The matrix at points x (n×d) for the density of an energy.
    ///
    /// # Errors
    /// As [`new`](Self::new); if the energy's domain is not the kernel's, or whatever the energy returns.
    pub fn of_energy<E: Energy<T> + ?Sized>(
        kernel: &SteinKernel,
        energy: &E,
        x: Rows<'_, T>,
    ) -> Result<Self> {
        if kernel.domain() != energy.domain() {
            let expected = "that of the energy";
            return Err(Error::parameter("domain of the kernel", expected, kernel.domain()));
        }
        let (n, d) = (x.rows(), x.cols());
        let mut score = vec![T::ZERO; n * d];
        energy.potential_score(x, None, Some(RowsMut::new(&mut score, n, d)?))?;
        let score = Rows::new(&score, n, d)?;
        match energy.as_relu() {
            Some(_) => Self::of_scores(kernel, x, score),
            None => Self::new(kernel, x, score),
        }
    }

    pub(super) fn from_kernel(kernel: Kernel<T>, points: Points<T>, isa: Isa) -> Self {
        Self { kernel, points, fingerprint: None, isa }
    }

    pub(super) fn fingerprint(&self) -> Option<u64> {
        self.fingerprint
    }

    /// Whether these are what the matrix was made of.
    pub(super) fn is_of(&self, x: Rows<'_, T>, score: Rows<'_, T>) -> bool {
        self.fingerprint.is_none_or(|known| known == fingerprint(x, score))
    }

    pub(super) fn kernel(&self) -> Kernel<T> {
        self.kernel
    }

    pub(super) fn laid_out(&self) -> &Points<T> {
        &self.points
    }

    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    fn block(&self, rows: Range<usize>, cols: Range<usize>) -> Block<'_, T> {
        Block { rows: (&self.points, rows), cols: (&self.points, cols) }
    }

    /// Writes rows `first..` of the matrix, as many as `out` (r×n) has.
    ///
    /// # Errors
    /// If `out` does not have n columns, `first` is not a multiple of [`TILE`](gibbsite_kernels::stein::TILE), or rows reach
    /// beyond the matrix.
    pub fn write(&self, first: usize, out: RowsMut<'_, T>) -> Result<()> {
        let n = self.points.len();
        if out.cols() != n {
            return Err(ShapeError::new("columns of the Gram matrix", n, out.cols()).into());
        }
        if !first.is_multiple_of(TILE) || first > n || out.rows() > n - first {
            let got = format!("{} from {first} on", out.rows());
            let expected = format!("part of {n}, from a multiple of {TILE} on");
            return Err(ShapeError::new("rows of the Gram matrix", expected, got).into());
        }
        let items = out.into_blocks(TILE).enumerate().collect();
        parallel::for_each(items, |(i, out): (usize, RowsMut<'_, T>), scratch| {
            let start = first + i * TILE;
            let block = self.block(start..start + out.rows(), 0..n);
            stein::write(self.isa, self.kernel, block, out, scratch);
        });
        Ok(())
    }

    /// The whole matrix, row-major.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn matrix(&self) -> Result<Vec<T>> {
        let n = self.points.len();
        let mut out = try_zeros("number of points", n, n)?;
        self.write(0, RowsMut::new(&mut out, n, n)?)?;
        Ok(out)
    }

    /// u(x_i, x_i).
    pub fn diagonal(&self) -> Vec<T> {
        self.diagonal_of(self.kernel)
    }

    /// That of another kernel at these points.
    pub(super) fn diagonal_of(&self, kernel: Kernel<T>) -> Vec<T> {
        let mut diagonal = vec![T::ZERO; self.points.len()];
        stein::pairs(self.isa, kernel, &self.points, &self.points, &mut diagonal);
        diagonal
    }

    /// Row `i`: u(x_i, x_j) for all j.
    pub(super) fn row(&self, i: usize, out: &mut [T]) {
        let point = self.points.select(&[i]);
        let block = parallel::rows_per_item(out.len(), 1024, TILE);
        let items = out.chunks_mut(block).enumerate().collect();
        parallel::for_each(items, |(b, out): (usize, &mut [T]), scratch| {
            let len = out.len();
            let cols = (&self.points, b * block..b * block + len);
            let block = Block { rows: (&point, 0..1), cols };
            let out = RowsMut::new(out, 1, len).expect("one row");
            stein::write(self.isa, self.kernel, block, out, scratch);
        });
    }

    /// Sums of all rows.
    pub fn row_sums(&self, progress: Progress<'_>) -> Vec<f64> {
        let sums = self.partial_row_sums(progress);
        (0..self.points.len()).map(|i| sums.of_row(i)).collect()
    }

    /// Computes each pair once.
    pub(super) fn partial_row_sums(&self, progress: Progress<'_>) -> RowSums {
        struct Sums {
            rows: Vec<f64>,
            cols: Vec<f64>,
        }
        let n = self.points.len();
        let diagonal = self.diagonal().into_iter().map(|u| u.to_f64()).collect();
        let (mut below, mut above) = (vec![0.0; n], vec![0.0; n]);
        let work = |item: &Item, scratch: &mut _| {
            let mut sums =
                Sums { rows: vec![0.0; item.rows.len()], cols: vec![0.0; item.cols.len()] };
            let mut cols = item.cols.clone();
            if item.rows.start == cols.start {
                // Half of a tile on the diagonal, pair by pair.
                let size = item.rows.len();
                let mut tile = vec![T::ZERO; size * size];
                let out = RowsMut::new(&mut tile, size, size).expect("sized above");
                let block = self.block(item.rows.clone(), item.rows.clone());
                stein::write(self.isa, self.kernel, block, out, scratch);
                for i in 0..size {
                    for j in 0..i {
                        let u = tile[i * size + j].to_f64();
                        sums.rows[j] += u;
                        sums.cols[i] += u;
                    }
                }
                cols.start += size;
            }
            let done = item.cols.len() - cols.len();
            let block = self.block(item.rows.clone(), cols);
            if !block.cols.1.is_empty() {
                stein::sums(
                    self.isa,
                    self.kernel,
                    block,
                    &mut sums.rows,
                    &mut sums.cols[done..],
                    scratch,
                );
            }
            sums
        };
        let add = |to: &mut [f64], from: &[f64]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from)
        };
        self.upper_half(AT_ONCE, work, progress, |item, sums: Sums| {
            add(&mut above[item.rows.clone()], &sums.rows);
            add(&mut below[item.cols.clone()], &sums.cols);
        });
        RowSums { below, diagonal, above }
    }

    /// Sums over pairs of a point of this matrix with one of another of the same kernel: for each point here, and for each there.
    pub(super) fn cross_sums(&self, other: &Self, progress: Progress<'_>) -> [Vec<f64>; 2] {
        let (n, m) = (self.points.len(), other.points.len());
        let mut totals = [vec![0.0; n], vec![0.0; m]];
        let starts: Vec<usize> = (0..n).step_by(TILE).collect();
        // Each item at work has sums for all the points there.
        let at_once = at_once(m);
        for (done, starts) in starts.chunks(at_once).enumerate() {
            let mut items: Vec<(Range<usize>, [Vec<f64>; 2])> = starts
                .iter()
                .map(|&start| start..(start + TILE).min(n))
                .map(|rows| (rows.clone(), [vec![0.0; rows.len()], vec![0.0; m]]))
                .collect();
            parallel::for_each(
                items.iter_mut().collect(),
                |(rows, [of_rows, of_cols]), scratch| {
                    let block =
                        Block { rows: (&self.points, rows.clone()), cols: (&other.points, 0..m) };
                    stein::sums(self.isa, self.kernel, block, of_rows, of_cols, scratch);
                },
            );
            for (rows, [of_rows, of_cols]) in items {
                totals[0][rows].copy_from_slice(&of_rows);
                totals[1].iter_mut().zip(of_cols).for_each(|(total, sum)| *total += sum);
            }
            progress((((done + 1) * at_once * TILE) as f64 / n as f64).min(1.0));
        }
        totals
    }

    /// `Σ_(i≠j) W_bi W_bj u(x_i, x_j)` for each draw b of the signs W; for one kernel after the other, at these points.
    pub(super) fn signed_sums(
        &self,
        kernels: &[Kernel<T>],
        signs: &Signs,
        progress: Progress<'_>,
    ) -> Result<Vec<f64>> {
        let too_many = |_| Error::Memory {
            what: "number of bootstrap draws",
            // Without the statistic itself.
            got: signs.draws() - 1,
        };
        let mut totals = try_zeros("", signs.draws(), kernels.len()).map_err(too_many)?;
        let len = totals.len();
        let work = |item: &Item, scratch: &mut _| {
            let mut sums = vec![0.0; len];
            let mut cols = item.cols.clone();
            if item.rows.start == cols.start {
                let block = self.block(item.rows.clone(), item.rows.clone());
                stein::signed_sums(self.isa, kernels, block, signs, &mut sums, scratch);
                // What is right of the diagonal counts twice.
                sums.iter_mut().for_each(|sum| *sum *= 0.5);
                cols.start += item.rows.len();
            }
            let block = self.block(item.rows.clone(), cols);
            if !block.cols.1.is_empty() {
                stein::signed_sums(self.isa, kernels, block, signs, &mut sums, scratch);
            }
            sums
        };
        self.upper_half(at_once(len), work, progress, |_, sums: Vec<f64>| {
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += 2.0 * sum);
        });
        Ok(totals)
    }

    /// The product with a matrix: `out_i = Σ_j u(x_i, x_j) v_j`; both n×r.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn product(&self, v: Rows<'_, T>, mut out: RowsMut<'_, T>) -> Result<()> {
        let n = self.points.len();
        if v.rows() != n || (out.rows(), out.cols()) != (n, v.cols()) {
            let expected = format!("{n} x r in and out");
            let got = format!("{} x {} and {} x {}", v.rows(), v.cols(), out.rows(), out.cols());
            return Err(ShapeError::new("factor and product", expected, got).into());
        }
        (0..n).for_each(|i| out.row_mut(i).fill(T::ZERO));
        let items = out.into_blocks(TILE).enumerate().collect();
        parallel::for_each(items, |(i, out): (usize, RowsMut<'_, T>), scratch| {
            let rows = i * TILE..i * TILE + out.rows();
            stein::product(self.isa, self.kernel, self.block(rows, 0..n), v, out, scratch);
        });
        Ok(())
    }

    /// Calls `work` for all parts of the upper half of the matrix, some at once, and `combine` with the results, in order.
    fn upper_half<R: Send>(
        &self,
        at_once: usize,
        work: impl Fn(&Item, &mut gibbsite_kernels::Scratch) -> R + Sync,
        progress: Progress<'_>,
        mut combine: impl FnMut(&Item, R),
    ) {
        let n = self.points.len();
        let tile = |start: usize| start..(start + TILE).min(n);
        let mut items = (0..n).step_by(TILE).flat_map(|i| {
            (i..n).step_by(STRIP).map(move |j| Item { rows: tile(i), cols: j..(j + STRIP).min(n) })
        });
        let area = |item: &Item| item.rows.len() as f64 * item.cols.len() as f64;
        let (mut done, whole) = (0.0, 0.5 * n as f64 * (n + TILE) as f64);
        loop {
            let mut batch: Vec<(Item, Option<R>)> =
                items.by_ref().take(at_once).map(|item| (item, None)).collect();
            if batch.is_empty() {
                return progress(1.0);
            }
            parallel::for_each(batch.iter_mut().collect(), |(item, result), scratch| {
                *result = Some(work(item, scratch));
            });
            for (item, result) in batch {
                done += area(&item);
                combine(&item, result.expect("computed above"));
            }
            progress((done / whole).min(1.0));
        }
    }
}
