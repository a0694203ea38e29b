//! Stein kernels: what a kernel k and the score s of a density p make of a pair of points, so that the mean over p is 0 in
//! either of them.
//!
//! In R^d, with the Langevin operator and r = x - y, D = s(x) - s(y) (Liu, Lee and Jordan 2016; Chwialkowski,
//! Strathmann and Gretton 2016):
//!
//! ```text
//! u(x, y) = k s(x)·s(y) + s(x)·∇_y k + s(y)·∇_x k + tr ∇_x∇_yᵀ k
//! radial, k = φ(t), t = rᵀΛr     u = φ s(x)·s(y) - 2φ' (tr Λ + DᵀΛr) - 4φ'' rᵀΛ²r
//! linear, k = 1 + x·y            u = k s(x)·s(y) + s(x)·x + s(y)·y + d
//! ```
//!
//! On the unit sphere with tangential scores, for kernels of c = x·y = 1 - t/2, t = |r|², with w = 1 - c² = t (1 - t/4),
//! derivatives by c, and s(x)·y + s(y)·x = -D·r:
//!
//! ```text
//! u = φ [s(x)·s(y) + (d-1) D·r + (d-1)² c] - φ' [2(d-1) w - c D·r - (d-2+c²)] - φ'' c w
//! ```
//!
//! | kernel | φ |
//! |---|---|
//! | [`Radial::Rbf`] | exp(-t / 2h²) |
//! | [`Radial::Imq`] | (c₀² + t)^b |
//!
//! The arc-cosine kernel of degree 1 (Cho and Saul 2009) is the mean of max(θ·x, 0) max(θ·y, 0) over random neurons: over θ
//! from N(0, I) in R^d, with α the angle between x and y,
//!
//! ```text
//! k = |x||y| (sin α + (π-α) cos α) / 2π
//! u = [|x||y| (sin α + (π-α) cos α) s(x)·s(y) + sin α (|x| s(x)·y/|y| + |y| s(y)·x/|x|)
//!      + (π-α) (s(x)·x + s(y)·y + d)] / 2π
//! ```
//!
//! and over θ from the sphere, on the sphere, φ = (√w + (π-α) c) / 2πd, φ' = (π-α) / 2πd, φ'' w = √w / 2πd.
//!
//! Everything is a sum over coordinates of products of differences, so nothing cancels between points that are close to
//! each other or far from the origin, and `u(x, y)` and `u(y, x)` have the same bits. The same sums by matrix products (|x|² +
//! |y|² - 2 x·y and so on) would cancel there, and are hardly cheaper: at d = 784 in f64, on one core of an AMD Zen 5 with AVX-512, a pair takes 46 ns,
//! as three products per pair and coordinate would at eight tenths of its peak.
//!
//! [`Points`] are laid out for registers once; a block of the Gram matrix is then written, summed, or
//! multiplied tile by tile, and no more than a tile of it exists at a time.

use crate::{
    Isa, Real, Rows, RowsMut, Scratch, ShapeError,
    chain::Space,
    rowwise,
    scratch::{AlignedBuf, addressable},
    transpose::interleave,
};
use std::{fmt, ops::Range};

pub mod reference;
pub(crate) mod simd;

/// A radial kernel, as a function of the squared distance t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Radial<T> {
    /// exp(-t / 2h²).
    Rbf {
        /// 1/h², positive.
        precision: T,
    },
    /// Inverse multiquadric, (c₀² + t)^b with b < 0.
    Imq {
        /// c₀², positive.
        offset: T,
        /// b, negative; -½ is the quickest.
        exponent: T,
    },
}

/// The kernel behind a Stein kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base<T> {
    /// A function of the distance.
    Radial(Radial<T>),
    /// 1 + x·y.
    Linear,
    /// The sum of both.
    RadialLinear(Radial<T>),
    /// The arc-cosine kernel of degree 1.
    ArcCosine,
}

/// A Stein kernel, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel<T> {
    /// k.
    pub base: Base<T>,
    /// The operator: Langevin's in R^d, or that of the unit sphere.
    pub space: Space,
    /// What is computed.
    pub quantity: Quantity,
}

/// What is computed for a pair of points: u, or what gradients of k are made of. For radial kernels and, on the sphere, all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantity {
    /// u.
    #[default]
    Stein,
    /// k; for [`Base::RadialLinear`] in R^d its radial part.
    Value,
    /// The slope g by which ∇_x k = g (y - x) in R^d, the radial part again, and P_x ∇_x k = g (y - c x) on the sphere.
    Slope,
    /// g c, on the sphere.
    SlopeCosine,
}

impl<T> Kernel<T> {
    /// Whether the kernel can be computed at these points; functions that take both panic otherwise.
    ///
    /// | points | kernels |
    /// |---|---|
    /// | [`Points::new`] | in R^d those without [`Base::ArcCosine`], on the sphere all |
    /// | [`Points::with_metric`] | [`Base::Radial`] in R^d |
    /// | [`Points::with_directions`] | [`Base::ArcCosine`] in R^d |
    ///
    /// Quantities other than u are for points of the first kind, and for radial kernels in R^d (linear part or not, but no
    /// [`Quantity::SlopeCosine`]) or any on the sphere.
    pub fn fits(&self, points: &Points<T>) -> bool {
        self.layout(points.kind).is_some()
    }

    /// What has to be summed for the kernel at points of this kind; `None` if it does not go with them.
    fn layout(&self, kind: Kind) -> Option<Layout> {
        let gradients = self.space == Space::Sphere
            || self.quantity != Quantity::SlopeCosine
                && matches!(self.base, Base::Radial(_) | Base::RadialLinear(_));
        if self.quantity != Quantity::Stein && (!gradients || kind != Kind::Plain) {
            return None;
        }
        Some(match (&self.base, self.space, kind) {
            (Base::Radial(_), Space::Flat, Kind::Metric) => Layout::Metric,
            (Base::ArcCosine, Space::Flat, Kind::Directions) => Layout::Angles,
            (Base::ArcCosine, Space::Flat, _) | (_, _, Kind::Metric | Kind::Directions) => {
                return None;
            }
            // On the sphere, distances tell products.
            (Base::Linear | Base::RadialLinear(_), Space::Flat, _) => Layout::Products,
            _ => Layout::Distances,
        })
    }
}

/// What is summed over coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// |r|², D·r, s·s'.
    Distances,
    /// x·y as well.
    Products,
    /// rᵀΛr, DᵀΛr, s·s', rᵀΛ²r.
    Metric,
    /// |x/|x| - y/|y||², s(x)·y/|y|, s·s', s(y)·x/|x|.
    Angles,
}

/// The arrays of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// x, s.
    Plain,
    /// A x, A s, s, Λ x.
    Metric,
    /// x/|x|, s.
    Directions,
}

impl Kind {
    const fn arrays(self) -> usize {
        match self {
            Kind::Plain | Kind::Directions => 2,
            Kind::Metric => 4,
        }
    }
}

/// Rows and columns of a tile of the Gram matrix, which fits into L2 with its points. Sums are taken within tiles first.
pub const TILE: usize = 128;

/// Points of a group, whose coordinates lie next to each other: a cache line.
const fn group<T>() -> usize {
    64 / size_of::<T>()
}

/// Values of points with these arrays, up to the last that is read; `None` if no memory holds them.
fn room<T>(kind: Kind, points: usize, dim: usize) -> Option<usize> {
    let stride = dim.checked_mul(kind.arrays())?.checked_add(2)?.checked_mul(group::<T>())?;
    // Rows are read from their first lane on to as far behind the end.
    let len = stride.checked_mul(points.div_ceil(group::<T>()))?.checked_add(group::<T>())?;
    addressable::<T>(len).then_some(len)
}

/// Points with their scores, laid out for registers: `[group][coordinate][array][point]`, with s·x and |x| of every point behind
/// the coordinates.
///
/// Made on [`Isa::best`]; the bits are those of every level, so kernels on any may take them.
#[derive(Clone)]
pub struct Points<T> {
    data: AlignedBuf,
    len: usize,
    dim: usize,
    kind: Kind,
    /// tr Λ.
    trace: T,
    element: std::marker::PhantomData<T>,
}

impl<T: Real> Points<T> {
    /// Points x (n×d) with scores (n×d) for Λ = I. On the sphere, points have to have norm 1 and scores to be tangential, which
    /// is not checked.
    ///
    /// # Errors
    /// If the shapes differ, or memory cannot hold the rows.
    pub fn new(x: Rows<'_, T>, score: Rows<'_, T>) -> Result<Self, ShapeError> {
        Self::pack(Kind::Plain, [x, score], T::from_f64(x.cols() as f64))
    }

    /// Points x (n×d) with scores (n×d) for [`Base::ArcCosine`] in R^d. Each is divided by its norm, which is the root of a sum
    /// of squares in `T`: values of the kernel are NaN at points of norm 0, and wrong where that sum overflows or is subnormal.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_directions(x: Rows<'_, T>, score: Rows<'_, T>) -> Result<Self, ShapeError> {
        Self::pack(Kind::Directions, [x, score], T::from_f64(x.cols() as f64))
    }

    /// Points for another Λ = AᵀA: `white` is A x, `white_score` A s, `precise` Λ x; all n×d. `trace` is tr Λ. That they go with
    /// each other, and with the same Λ for rows and columns, is not checked but for the trace.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_metric(
        white: Rows<'_, T>,
        white_score: Rows<'_, T>,
        score: Rows<'_, T>,
        precise: Rows<'_, T>,
        trace: T,
    ) -> Result<Self, ShapeError> {
        Self::pack(Kind::Metric, [white, white_score, score, precise], trace)
    }

    fn pack<const A: usize>(
        kind: Kind,
        arrays: [Rows<'_, T>; A],
        trace: T,
    ) -> Result<Self, ShapeError> {
        let (n, d) = (arrays[0].rows(), arrays[0].cols());
        for rows in arrays {
            if (rows.rows(), rows.cols()) != (n, d) {
                let (expected, got) = (format!("{n} x {d}"), (rows.rows(), rows.cols()));
                return Err(ShapeError::new("scores", expected, format!("{} x {}", got.0, got.1)));
            }
        }
        let Some(room) = room::<T>(kind, n, d) else {
            return Err(ShapeError::new(
                "points",
                "rows that memory can hold",
                format!("{n} x {d}"),
            ));
        };
        let group = group::<T>();
        let mut points = Self {
            data: AlignedBuf::default(),
            len: n,
            dim: d,
            kind,
            trace,
            element: std::marker::PhantomData,
        };
        let stride = points.stride();
        points.data.reserve::<T>(room);
        let data = points.data.as_mut_slice::<T>();
        let [mut along, mut norms] = [vec![T::ZERO; n], vec![T::ZERO; n]];
        let (isa, scratch) = (Isa::best(), &mut Scratch::default());
        rowwise::dot(isa, arrays[1], arrays[0], &mut along, scratch);
        rowwise::dot(isa, arrays[0], arrays[0], &mut norms, scratch);
        norms.iter_mut().for_each(|norm| *norm = Real::sqrt(*norm));
        for (g, block) in data.chunks_exact_mut(stride).take(n.div_ceil(group)).enumerate() {
            let range = g * group..n.min((g + 1) * group);
            let (coordinates, ends) = block.split_at_mut(d * A * group);
            for (a, array) in arrays.iter().enumerate().filter(|_| d > 0) {
                let rows = array.range(range.start, range.len());
                interleave(rows, &mut coordinates[a * group..], group, A * group);
            }
            if kind == Kind::Directions {
                for slots in coordinates.chunks_exact_mut(A * group) {
                    for (slot, &norm) in slots.iter_mut().zip(&norms[range.clone()]) {
                        *slot = *slot / norm;
                    }
                }
            }
            ends[..range.len()].copy_from_slice(&along[range.clone()]);
            ends[group..][..range.len()].copy_from_slice(&norms[range]);
        }
        Ok(points)
    }

    /// Some of the points, in this order.
    ///
    /// # Panics
    /// If there is no point of one of these numbers.
    pub fn select(&self, numbers: &[usize]) -> Self {
        let (group, stride) = (group::<T>(), self.stride());
        let mut data = AlignedBuf::default();
        let room = room::<T>(self.kind, numbers.len(), self.dim);
        data.reserve::<T>(room.expect("points larger than the address space"));
        let (from, to) = (self.data.as_slice::<T>(), data.as_mut_slice::<T>());
        for (i, &number) in numbers.iter().enumerate() {
            assert!(number < self.len, "point {number} of {}", self.len);
            let from = &from[number / group * stride + number % group..];
            let to = &mut to[i / group * stride + i % group..];
            for k in (0..stride).step_by(group) {
                to[k] = from[k];
            }
        }
        Self { data, len: numbers.len(), ..*self }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Dimension.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether they are neither in a metric nor directions.
    pub fn is_plain(&self) -> bool {
        self.kind == Kind::Plain
    }

    /// Values of a group.
    fn stride(&self) -> usize {
        (self.dim * self.kind.arrays() + 2) * group::<T>()
    }
}

impl<T> fmt::Debug for Points<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Points({:?}, {} x {})", self.kind, self.len, self.dim)
    }
}

/// A block of the Gram matrix: some of the points of one set as rows, some of another, or of the same, as columns.
///
/// Ranges start at multiples of [`TILE`].
#[derive(Clone, Debug)]
pub struct Block<'a, T> {
    /// Points of the rows.
    pub rows: (&'a Points<T>, Range<usize>),
    /// Points of the columns.
    pub cols: (&'a Points<T>, Range<usize>),
}

impl<T: Real> Block<'_, T> {
    fn check(&self, kernels: &[Kernel<T>]) {
        let ((rows, r), (cols, c)) = (&self.rows, &self.cols);
        assert_eq!((rows.dim, rows.kind), (cols.dim, cols.kind), "points of one kind");
        // NaN has to pass: it goes on to the values.
        let traces = [rows.trace, cols.trace].map(Real::to_f64);
        assert!(
            traces[0] == traces[1] || traces.iter().all(|trace| trace.is_nan()),
            "points of one metric: traces {traces:?}"
        );
        for (points, range) in [(rows, r), (cols, c)] {
            assert!(range.start <= range.end && range.end <= points.len, "{range:?} of the points");
            assert!(range.start.is_multiple_of(TILE), "{range:?} starts within a tile");
        }
        let layout = |kernel: &Kernel<T>| kernel.layout(rows.kind);
        assert!(!kernels.is_empty(), "at least one kernel");
        for kernel in kernels {
            assert!(kernel.fits(rows), "{kernel:?} at points for another: {:?}", rows.kind);
            assert_eq!(layout(kernel), layout(&kernels[0]), "kernels with the same sums");
        }
    }
}

/// Writes the block: `out[i][j] = u(x_i, y_j)`.
///
/// Costs 8 flops per pair and coordinate; with a linear part in R^d 10, with a metric 11, of arc-cosines in R^d 9.
///
/// # Panics
/// If points of rows and columns are not of one kind, dimension and metric, the kernel is not one for them
/// ([`Kernel::fits`]), a range does not start at a multiple of [`TILE`] or ends beyond the points, or the output has another
/// shape.
pub fn write<T: Real>(
    isa: Isa,
    kernel: Kernel<T>,
    block: Block<'_, T>,
    out: RowsMut<'_, T>,
    scratch: &mut Scratch,
) {
    block.check(&[kernel]);
    let shape = (block.rows.1.len(), block.cols.1.len());
    assert_eq!((out.rows(), out.cols()), shape, "shape of the output");
    T::stein(isa, simd::Work { kernels: &[kernel], block, what: simd::What::Write(out), scratch });
}

/// Sums of the block's rows and columns are added to what is there.
///
/// # Panics
/// As [`write()`]; there is a sum for each row and each column.
pub fn sums<T: Real>(
    isa: Isa,
    kernel: Kernel<T>,
    block: Block<'_, T>,
    row_sums: &mut [f64],
    col_sums: &mut [f64],
    scratch: &mut Scratch,
) {
    block.check(&[kernel]);
    assert_eq!(row_sums.len(), block.rows.1.len(), "length of row_sums");
    assert_eq!(col_sums.len(), block.cols.1.len(), "length of col_sums");
    T::stein(
        isa,
        simd::Work {
            kernels: &[kernel],
            block,
            what: simd::What::Sums { row_sums, col_sums },
            scratch,
        },
    );
}

/// Adds the product of the block with a matrix: `out[i] += Σ_j u(x_i, y_j) v_j`. `v` has a row for each column of the block.
///
/// # Panics
/// As [`write()`]; the output has the columns of `v`.
pub fn product<T: Real>(
    isa: Isa,
    kernel: Kernel<T>,
    block: Block<'_, T>,
    v: Rows<'_, T>,
    out: RowsMut<'_, T>,
    scratch: &mut Scratch,
) {
    block.check(&[kernel]);
    assert_eq!(v.rows(), block.cols.1.len(), "rows of v against the columns of the block");
    let shape = (block.rows.1.len(), v.cols());
    assert_eq!((out.rows(), out.cols()), shape, "shape of the output");
    T::stein(
        isa,
        simd::Work { kernels: &[kernel], block, what: simd::What::Product { v, out }, scratch },
    );
}

/// One sign for each point and draw, in bits: bit b of a point's words is set where the sign of draw b is negative.
#[derive(Clone)]
pub struct Signs {
    words: Vec<u64>,
    points: usize,
    draws: usize,
}

impl Signs {
    /// All positive; `None` if there is no memory for them.
    pub fn try_positive(points: usize, draws: usize) -> Option<Self> {
        let len = points.checked_mul(draws.div_ceil(64))?;
        let mut words = Vec::new();
        words.try_reserve_exact(len).ok()?;
        words.resize(len, 0);
        Some(Self { words, points, draws })
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Number of draws.
    pub fn draws(&self) -> usize {
        self.draws
    }

    /// The words of a point.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn words(&self, point: usize) -> &[u64] {
        &self.words[self.place(point)]
    }

    /// The words of a point.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn words_mut(&mut self, point: usize) -> &mut [u64] {
        let place = self.place(point);
        &mut self.words[place]
    }

    #[inline]
    fn place(&self, point: usize) -> Range<usize> {
        assert!(point < self.points, "point {point} of {}", self.points);
        let len = self.draws.div_ceil(64);
        point * len..(point + 1) * len
    }
}

impl fmt::Debug for Signs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signs({} x {})", self.points, self.draws)
    }
}

/// Sums with signs: `out[b] += Σ_(i≠j) W_bi W_bj u(x_i, y_j)`, where rows and columns take their signs by their numbers among
/// their points; for one kernel after the other, from the same sums over coordinates. Pairs of the same number, which no sign
/// changes, are left out: they can be larger than all others by more digits than there are.
///
/// # Panics
/// As [`write()`], or if there is no kernel, kernels do not have their sums in common (in R^d those with a linear part and those
/// without), or there are not as many signs as points up to the end of both ranges.
pub fn signed_sums<T: Real>(
    isa: Isa,
    kernels: &[Kernel<T>],
    block: Block<'_, T>,
    signs: &Signs,
    out: &mut [f64],
    scratch: &mut Scratch,
) {
    block.check(kernels);
    let sums = kernels.len().checked_mul(signs.draws);
    assert_eq!(Some(out.len()), sums, "length of the output against kernels and draws");
    let points = block.rows.1.end.max(block.cols.1.end);
    assert!(points <= signs.points, "signs for {points} points");
    let outs = out.chunks_mut(signs.draws.max(1).saturating_mul(simd::AT_ONCE));
    for (kernels, out) in kernels.chunks(simd::AT_ONCE).zip(outs) {
        let (block, what) = (block.clone(), simd::What::SignedSums { signs, out });
        T::stein(isa, simd::Work { kernels, block, what, scratch });
    }
}

/// Values of pairs: `out[i] = u(x_i, y_i)`; the diagonal, if both are the same.
///
/// # Panics
/// As [`write()`]; there are as many y as x, and a value for each.
pub fn pairs<T: Real>(isa: Isa, kernel: Kernel<T>, x: &Points<T>, y: &Points<T>, out: &mut [T]) {
    let (rows, cols) = ((x, 0..x.len), (y, 0..y.len));
    let block = Block { rows, cols };
    block.check(&[kernel]);
    assert_eq!((x.len, out.len()), (y.len, y.len), "pairs and their values");
    T::stein(
        isa,
        simd::Work {
            kernels: &[kernel],
            block,
            what: simd::What::Pairs(out),
            scratch: &mut Scratch::default(),
        },
    );
}
