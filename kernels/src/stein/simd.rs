//! [`reference`](super::reference) in lanes: columns of the Gram matrix in lanes, a few rows at a time.

use super::{
    Base, Block, Kernel as SteinKernel, Layout, Points, Quantity, Radial, Signs, TILE, group,
    reference,
};
use crate::{
    Isa, Real, Rows, RowsMut, Scratch,
    chain::Space,
    elementary::simd::{angle, exp, ln},
    lanes::{Kernel, Lanes, Levels},
};
use std::{f64::consts::FRAC_1_PI, ops::Range};

/// What is to be done with a block.
pub struct Work<'a, T> {
    /// One, but for sums with signs [`AT_ONCE`] at most.
    pub kernels: &'a [SteinKernel<T>],
    pub block: Block<'a, T>,
    pub what: What<'a, T>,
    pub scratch: &'a mut Scratch,
}

pub enum What<'a, T> {
    Write(RowsMut<'a, T>),
    Sums {
        row_sums: &'a mut [f64],
        col_sums: &'a mut [f64],
    },
    Product {
        v: Rows<'a, T>,
        out: RowsMut<'a, T>,
    },
    SignedSums {
        signs: &'a Signs,
        out: &'a mut [f64],
    },
    /// Rows with columns of the same number.
    Pairs(&'a mut [T]),
}

/// The family's entry point for one element type.
pub trait Dispatch: Sized {
    fn stein(isa: Isa, work: Work<'_, Self>);
}

macro_rules! dispatch {
    ($($t:ty)*) => {$(
        impl Dispatch for $t {
            fn stein(isa: Isa, work: Work<'_, Self>) {
                <Self as Levels>::dispatch(isa, work);
            }
        }
    )*};
}
dispatch!(f32 f64);

const DISTANCES: u8 = Layout::Distances as u8;
const PRODUCTS: u8 = Layout::Products as u8;
const METRIC: u8 = Layout::Metric as u8;
const ANGLES: u8 = Layout::Angles as u8;

impl<T: Real> Kernel<T> for Work<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<T>>(self, simd: L) {
        let layout = self.kernels[0].layout(self.block.rows.0.kind).expect("checked before");
        // As many rows as leave registers for the coordinates, and divide a group.
        match (layout, L::REGISTERS) {
            (Layout::Distances, 32..) => self.with::<L, DISTANCES, 2, 8>(simd),
            (Layout::Distances, 16..) => self.with::<L, DISTANCES, 2, 2>(simd),
            (Layout::Distances, _) => self.with::<L, DISTANCES, 2, 1>(simd),
            (Layout::Products, 32..) => self.with::<L, PRODUCTS, 2, 4>(simd),
            (Layout::Products, 16..) => self.with::<L, PRODUCTS, 2, 2>(simd),
            (Layout::Products, _) => self.with::<L, PRODUCTS, 2, 1>(simd),
            (Layout::Metric, 32..) => self.with::<L, METRIC, 4, 4>(simd),
            (Layout::Metric, 16..) => self.with::<L, METRIC, 4, 2>(simd),
            (Layout::Metric, _) => self.with::<L, METRIC, 4, 1>(simd),
            (Layout::Angles, 32..) => self.with::<L, ANGLES, 2, 4>(simd),
            (Layout::Angles, 16..) => self.with::<L, ANGLES, 2, 2>(simd),
            (Layout::Angles, _) => self.with::<L, ANGLES, 2, 1>(simd),
        }
    }
}

impl<T: Real> Work<'_, T> {
    #[inline(always)]
    fn with<L: Lanes<T>, const F: u8, const A: usize, const R: usize>(self, simd: L) {
        let Self { kernels, block, mut what, scratch } = self;
        let trace = block.rows.0.trace;
        let first = profile(simd, kernels[0], trace);
        let mut others = [first; AT_ONCE - 1];
        for (other, &kernel) in others.iter_mut().zip(&kernels[1..]) {
            *other = profile(simd, kernel, trace);
        }
        let others = &others[..kernels.len() - 1];
        let (rows, cols) = (block.rows.0, block.cols.0);
        let pairs = Pairs { profile: first, others, rows, cols };
        if let What::Pairs(out) = what {
            return pairs.each::<L, F, A>(simd, out);
        }
        let [tile, factor, products] = scratch.buffers::<L::Vector, 3>([
            kernels.len() * TILE * TILE / L::LANES,
            TILE * CHUNK / size_of::<L::Vector>(),
            TILE * CHUNK / size_of::<L::Vector>(),
        ]);
        let (rows, cols) = (block.rows.1.clone(), block.cols.1.clone());
        // One place that computes tiles for all uses: it is most of the code.
        for (i, j) in reference::tiles(rows.len(), cols.len()) {
            let (row, col) = (rows.start + i, cols.start + j);
            let size = (TILE.min(rows.end - row), TILE.min(cols.end - col));
            let out = bytemuck::cast_slice_mut(tile);
            match others.is_empty() {
                true => pairs.tile::<L, F, A, R, false>(simd, (row, col), size, out),
                false => pairs.tile::<L, F, A, R, true>(simd, (row, col), size, out),
            }
            match &mut what {
                What::Write(out) => {
                    let tile: &[T] = bytemuck::cast_slice(tile);
                    for (r, tile) in tile.chunks_exact(TILE).take(size.0).enumerate() {
                        out.row_mut(i + r)[j..][..size.1].copy_from_slice(&tile[..size.1]);
                    }
                }
                What::Sums { row_sums, col_sums } => {
                    let row_sums = &mut row_sums[i..][..size.0];
                    sums(simd, tile, factor, row_sums, &mut col_sums[j..][..size.1]);
                }
                What::Product { v, out } => {
                    let v = v.range(j, size.1);
                    product(simd, tile, size.0, &v, (factor, products), out, i);
                }
                What::SignedSums { signs, out } => {
                    let numbers: &mut [T] = bytemuck::cast_slice_mut(tile);
                    for tile in numbers.chunks_exact_mut(TILE * TILE) {
                        // Pairs of the same number; zeros change no sum.
                        for i in 0..size.0 {
                            if let Some(j) = (row + i).checked_sub(col).filter(|&j| j < size.1) {
                                tile[i * TILE + j] = T::ZERO;
                            }
                        }
                    }
                    let tiles = tile.chunks_exact(TILE * TILE / L::LANES);
                    for (tile, out) in tiles.zip(out.chunks_exact_mut(signs.draws().max(1))) {
                        signed_sums(simd, tile, (row, col), size, signs, (factor, products), out);
                    }
                }
                What::Pairs(_) => unreachable!("done above"),
            }
        }
    }
}

/// Kernels whose constants are held at a time.
pub const AT_ONCE: usize = 16;

/// Bytes of a row of the matrices that tiles are multiplied with, at a time: two cache lines.
const CHUNK: usize = 128;
/// Registers of such a row at most.
const MAX_CHUNK: usize = CHUNK / 4;

/// Signs of points as numbers, those of the draws from `first` on.
#[inline(always)]
fn expand<T: Real>(signs: &Signs, points: Range<usize>, first: usize, out: &mut [T]) {
    for (point, out) in points.zip(out.chunks_exact_mut(CHUNK / size_of::<T>())) {
        // Chunks do not cross words.
        let word = signs.words(point)[first / 64] >> (first % 64);
        for (b, out) in out.iter_mut().enumerate() {
            *out = if word >> b & 1 == 0 { T::ONE } else { -T::ONE };
        }
    }
}

/// Constants of a kernel.
#[derive(Clone, Copy)]
struct Profile<V> {
    space: Space,
    radial: Option<Shape<V>>,
    linear: bool,
    arc_cosine: bool,
    quantity: Quantity,
    trace: V,
}

#[derive(Clone, Copy)]
enum Shape<V> {
    /// -1 / 2h² and 1/h².
    Rbf { rate: V, precision: V },
    /// c₀², b if it is not -½, -2b and 2(1 - b).
    Imq { offset: V, exponent: Option<V>, first: V, second: V },
}

/// Numbers as constants.
#[inline(always)]
fn number<T: Real, L: Lanes<T>>(simd: L, value: f64) -> L::Vector {
    simd.splat(T::from_f64(value))
}

#[inline(always)]
fn negated<T: Real, L: Lanes<T>>(simd: L, a: L::Vector) -> L::Vector {
    // Exact, and of the same sign of zero as a negation.
    simd.mul(simd.splat(-T::ONE), a)
}

#[inline(always)]
fn profile<T: Real, L: Lanes<T>>(simd: L, kernel: SteinKernel<T>, trace: T) -> Profile<L::Vector> {
    let (radial, linear) = match kernel.base {
        Base::Radial(radial) => (Some(radial), false),
        Base::Linear => (None, true),
        Base::RadialLinear(radial) => (Some(radial), true),
        Base::ArcCosine => (None, false),
    };
    let two = T::from_f64(2.0);
    let radial = match radial {
        None => None,
        Some(Radial::Rbf { precision }) => Some(Shape::Rbf {
            rate: simd.splat(T::from_f64(-0.5) * precision),
            precision: simd.splat(precision),
        }),
        Some(Radial::Imq { offset, exponent }) => Some(Shape::Imq {
            offset: simd.splat(offset),
            exponent: (exponent != T::from_f64(-0.5)).then(|| simd.splat(exponent)),
            first: simd.splat(-two * exponent),
            second: simd.splat(two * (T::ONE - exponent)),
        }),
    };
    Profile {
        space: kernel.space,
        radial,
        linear,
        arc_cosine: kernel.base == Base::ArcCosine,
        quantity: kernel.quantity,
        trace: simd.splat(trace),
    }
}

/// φ, -2φ' and -2φ''/φ', derivatives by t.
#[inline(always)]
fn radial<T: Real, L: Lanes<T>>(simd: L, shape: Shape<L::Vector>, t: L::Vector) -> [L::Vector; 3] {
    let (phi, first, second) = match shape {
        Shape::Rbf { rate, precision } => (exp(simd, simd.mul(rate, t)), precision, precision),
        Shape::Imq { offset, exponent, first, second } => {
            let q = simd.add(offset, t);
            let inverse = simd.div(simd.splat(T::ONE), q);
            let phi = match exponent {
                None => simd.sqrt(inverse),
                Some(exponent) => exp(simd, simd.mul(exponent, ln(simd, q))),
            };
            (phi, simd.mul(first, inverse), simd.mul(second, inverse))
        }
    };
    [phi, simd.mul(phi, first), second]
}

/// Sums over coordinates of one pair per lane, as [`Layout`] has them.
#[derive(Clone, Copy)]
struct Sums<V> {
    t: V,
    cross: V,
    scores: V,
    fourth: V,
}

/// Adds the terms of one coordinate; arrays as [`Points`] has them.
#[inline(always)]
fn add<T: Real, L: Lanes<T>, const F: u8, const A: usize>(
    simd: L,
    sums: &mut Sums<L::Vector>,
    a: [L::Vector; A],
    b: [L::Vector; A],
) {
    let r = simd.sub(a[0], b[0]);
    sums.t = simd.mul_add(r, r, sums.t);
    if F == ANGLES {
        sums.cross = simd.mul_add(a[1], b[0], sums.cross);
        sums.fourth = simd.mul_add(a[0], b[1], sums.fourth);
    } else {
        let difference = simd.sub(a[1], b[1]);
        sums.cross = simd.mul_add(difference, r, sums.cross);
    }
    let score = if F == METRIC { 2 } else { 1 };
    sums.scores = simd.mul_add(a[score], b[score], sums.scores);
    if F == PRODUCTS {
        sums.fourth = simd.mul_add(a[0], b[0], sums.fourth);
    }
    if F == METRIC {
        let precise = simd.sub(a[3], b[3]);
        sums.fourth = simd.mul_add(precise, precise, sums.fourth);
    }
}

/// sin α and π - α for unit vectors at an angle α and a squared distance t.
#[inline(always)]
fn angles<T: Real, L: Lanes<T>>(simd: L, t: L::Vector) -> [L::Vector; 2] {
    let zero = simd.splat(T::ZERO);
    let rest = simd.sub(number(simd, 4.0), t);
    let rest = simd.select_less(rest, zero, zero, rest);
    let (opposite, adjacent) = (simd.sqrt(t), simd.sqrt(rest));
    let sin = simd.mul(number(simd, 0.5), simd.mul(opposite, adjacent));
    [sin, simd.mul(number(simd, 2.0), angle(simd, adjacent, opposite))]
}

/// The Stein kernel, from sums, and from s·x and |x| of both points.
#[inline(always)]
fn value<T: Real, L: Lanes<T>, const F: u8>(
    simd: L,
    profile: &Profile<L::Vector>,
    sums: &Sums<L::Vector>,
    [x, y]: [[L::Vector; 2]; 2],
) -> L::Vector {
    let Sums { t, cross, scores, fourth } = *sums;
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    if F == ANGLES {
        let c = simd.mul_add(number(simd, -0.5), t, one);
        let [sin, rest] = angles(simd, t);
        let across = simd.add(simd.mul(x[1], cross), simd.mul(y[1], fourth));
        let own = simd.add(simd.add(x[0], y[0]), profile.trace);
        let k = simd.mul(simd.mul(x[1], y[1]), simd.mul_add(rest, c, sin));
        let tail = simd.mul_add(sin, across, simd.mul(rest, own));
        return simd.mul(number(simd, 0.5 * FRAC_1_PI), simd.mul_add(k, scores, tail));
    }
    let [phi, first, second] = match profile.radial {
        Some(shape) => radial(simd, shape, t),
        None => [zero; 3],
    };
    match profile.space {
        Space::Flat if profile.quantity == Quantity::Value => phi,
        Space::Flat if profile.quantity == Quantity::Slope => first,
        Space::Flat => {
            let mut u = zero;
            if profile.radial.is_some() {
                let precise = if F == METRIC { fourth } else { t };
                let last = negated(simd, simd.mul(second, simd.mul(first, precise)));
                let rest = simd.mul_add(first, simd.add(profile.trace, cross), last);
                u = simd.mul_add(phi, scores, rest);
            }
            if F == PRODUCTS {
                let own = simd.add(simd.add(x[0], y[0]), profile.trace);
                u = simd.add(u, simd.mul_add(simd.add(one, fourth), scores, own));
            }
            u
        }
        Space::Sphere => {
            let c = simd.mul_add(number(simd, -0.5), t, one);
            let w = simd.mul(t, simd.mul_add(number(simd, -0.25), t, one));
            let bend = simd.mul(second, simd.mul(first, simd.mul(c, w)));
            let (phi, first, bend) = if profile.arc_cosine {
                let [sin, rest] = angles(simd, t);
                let scale = simd.div(number(simd, 0.5 * FRAC_1_PI), profile.trace);
                let phi = simd.mul(scale, simd.mul_add(rest, c, sin));
                (phi, simd.mul(scale, rest), simd.mul(scale, simd.mul(c, sin)))
            } else if profile.linear {
                (simd.add(phi, simd.add(one, c)), simd.add(first, one), bend)
            } else {
                (phi, first, bend)
            };
            match profile.quantity {
                Quantity::Stein => {}
                Quantity::Value => return phi,
                Quantity::Slope => return first,
                Quantity::SlopeCosine => return simd.mul(first, c),
            }
            let curvature = simd.sub(profile.trace, one);
            let inner = simd.mul_add(curvature, simd.mul_add(curvature, c, cross), scores);
            let rest = simd.sub(profile.trace, number(simd, 2.0));
            let rest = negated(simd, simd.mul_add(c, simd.add(c, cross), rest));
            let slope = simd.mul_add(simd.mul(number(simd, 2.0), curvature), w, rest);
            let tail = negated(simd, simd.mul_add(first, slope, bend));
            simd.mul_add(phi, inner, tail)
        }
    }
}

/// Pairs of points under kernels.
struct Pairs<'a, T, V> {
    profile: Profile<V>,
    /// More kernels; loops that know of one alone are quicker.
    others: &'a [Profile<V>],
    rows: &'a Points<T>,
    cols: &'a Points<T>,
}

impl<T: Real, V: bytemuck::Pod> Pairs<'_, T, V> {
    /// The tile of `rows` by `cols` pairs that starts at pair `(row, col)`, in rows of [`TILE`], one for each kernel; zeros fill
    /// the last register of a row.
    #[inline(always)]
    fn tile<
        L: Lanes<T, Vector = V>,
        const F: u8,
        const A: usize,
        const R: usize,
        const MANY: bool,
    >(
        &self,
        simd: L,
        (row, col): (usize, usize),
        (rows, cols): (usize, usize),
        out: &mut [T],
    ) {
        let group = group::<T>();
        for j in (0..cols).step_by(L::LANES) {
            let place = (col + j) / group * self.cols.stride() + (col + j) % group;
            let columns = &self.cols.data.as_slice::<T>()[place..];
            // Rows do not cross groups, where the next ones lie elsewhere.
            let mut i = 0;
            while i < rows {
                let left = (group - (row + i) % group).min(rows - i);
                let out = &mut out[i * TILE + j..];
                if left >= R {
                    self.strip::<L, F, A, R, MANY>(simd, row + i, columns, cols - j, out);
                    i += R;
                } else {
                    self.strip::<L, F, A, 1, MANY>(simd, row + i, columns, cols - j, out);
                    i += 1;
                }
            }
        }
    }

    /// `R` rows of the points from number `row` on with a register of columns.
    #[inline(always)]
    fn strip<
        L: Lanes<T, Vector = V>,
        const F: u8,
        const A: usize,
        const R: usize,
        const MANY: bool,
    >(
        &self,
        simd: L,
        row: usize,
        columns: &[T],
        width: usize,
        out: &mut [T],
    ) {
        let group = group::<T>();
        let len = self.rows.dim * A * group;
        let place = row / group * self.rows.stride() + row % group;
        let rows = &self.rows.data.as_slice::<T>()[place..];
        let zero = simd.splat(T::ZERO);
        let mut sums = [Sums { t: zero, cross: zero, scores: zero, fourth: zero }; R];
        let coordinates = rows[..len].chunks_exact(A * group);
        for (row, column) in coordinates.zip(columns[..len].chunks_exact(A * group)) {
            let mut b = [zero; A];
            for a in 0..A {
                b[a] = register(&column[a * group..]);
            }
            for r in 0..R {
                let mut x = [zero; A];
                for a in 0..A {
                    x[a] = simd.splat(row[a * group + r]);
                }
                add::<T, L, F, A>(simd, &mut sums[r], x, b);
            }
        }
        let y = [register(&columns[len..]), register(&columns[len + group..])];
        for r in 0..R {
            let x = [simd.splat(rows[len + r]), simd.splat(rows[len + group + r])];
            let mut put = |k: usize, u: L::Vector| {
                let mut u = [u];
                let u: &mut [T] = bytemuck::cast_slice_mut(&mut u);
                if width < L::LANES {
                    u[width..].fill(T::ZERO);
                }
                out[(k * TILE + r) * TILE..][..L::LANES].copy_from_slice(u);
            };
            put(0, value::<T, L, F>(simd, &self.profile, &sums[r], [x, y]));
            if MANY {
                for (k, profile) in self.others.iter().enumerate() {
                    put(k + 1, value::<T, L, F>(simd, profile, &sums[r], [x, y]));
                }
            }
        }
    }

    /// Each row with the column of the same number.
    #[inline(always)]
    fn each<L: Lanes<T, Vector = V>, const F: u8, const A: usize>(&self, simd: L, out: &mut [T]) {
        let group = group::<T>();
        let (stride, len) = (self.rows.stride(), self.rows.dim * A * group);
        let zero = simd.splat(T::ZERO);
        for (n, out) in out.chunks_mut(L::LANES).enumerate() {
            let point = n * L::LANES;
            let place = point / group * stride + point % group;
            let rows = &self.rows.data.as_slice::<T>()[place..];
            let cols = &self.cols.data.as_slice::<T>()[place..];
            let mut sums = Sums { t: zero, cross: zero, scores: zero, fourth: zero };
            let coordinates = rows[..len].chunks_exact(A * group);
            for (row, col) in coordinates.zip(cols[..len].chunks_exact(A * group)) {
                let (mut x, mut y) = ([zero; A], [zero; A]);
                for a in 0..A {
                    x[a] = register(&row[a * group..]);
                    y[a] = register(&col[a * group..]);
                }
                add::<T, L, F, A>(simd, &mut sums, x, y);
            }
            let x = [register(&rows[len..]), register(&rows[len + group..])];
            let y = [register(&cols[len..]), register(&cols[len + group..])];
            let u = [value::<T, L, F>(simd, &self.profile, &sums, [x, y])];
            out.copy_from_slice(&bytemuck::cast_slice(&u)[..out.len()]);
        }
    }
}

#[inline(always)]
fn register<T: Real, V: bytemuck::Pod>(values: &[T]) -> V {
    bytemuck::cast_slice(&values[..size_of::<V>() / size_of::<T>()])[0]
}

/// Adds the sums of a tile's rows and columns.
#[inline(always)]
fn sums<T: Real, L: Lanes<T>>(
    simd: L,
    tile: &[L::Vector],
    buffer: &mut [L::Vector],
    row_sums: &mut [f64],
    col_sums: &mut [f64],
) {
    let registers = group::<T>() / L::LANES;
    let zero = simd.splat(T::ZERO);
    let used = col_sums.len().div_ceil(L::LANES);
    let (totals, parts) = buffer[..TILE / L::LANES + registers].split_at_mut(TILE / L::LANES);
    totals.fill(zero);
    for (row, sum) in tile.chunks_exact(TILE / L::LANES).zip(row_sums) {
        parts.fill(zero);
        // Zeros behind the columns change no sum: all begin with +0.
        for (group, totals) in row[..used].chunks(registers).zip(totals.chunks_mut(registers)) {
            for ((part, total), &u) in parts.iter_mut().zip(totals).zip(group) {
                *part = simd.add(*part, u);
                *total = simd.add(*total, u);
            }
        }
        *sum += reference::halves(bytemuck::cast_slice_mut::<_, T>(parts)).to_f64();
    }
    let totals: &[T] = bytemuck::cast_slice(totals);
    for (sum, total) in col_sums.iter_mut().zip(totals) {
        *sum += total.to_f64();
    }
}

/// Adds the product of a tile of `rows` rows with a matrix to the rows `start..` of `out`.
#[inline(always)]
fn product<T: Real, L: Lanes<T>>(
    simd: L,
    tile: &[L::Vector],
    rows: usize,
    v: &Rows<'_, T>,
    (factor, products): (&mut [L::Vector], &mut [L::Vector]),
    out: &mut RowsMut<'_, T>,
    start: usize,
) {
    let chunk = CHUNK / size_of::<T>();
    for first in (0..v.cols()).step_by(chunk) {
        let width = chunk.min(v.cols() - first);
        let packed: &mut [T] = bytemuck::cast_slice_mut(factor);
        for (packed, v) in packed.chunks_exact_mut(chunk).zip(v.iter()) {
            packed[..width].copy_from_slice(&v[first..][..width]);
            packed[width..].fill(T::ZERO);
        }
        multiply(simd, tile, (rows, v.rows()), factor, products, width);
        let products: &[T] = bytemuck::cast_slice(products);
        for (r, products) in products.chunks_exact(chunk).take(rows).enumerate() {
            let out = &mut out.row_mut(start + r)[first..][..width];
            for (out, &product) in out.iter_mut().zip(products) {
                *out = *out + product;
            }
        }
    }
}

/// Adds the sums of a tile with signs on both sides; its first pair is `(row, col)`.
#[inline(always)]
fn signed_sums<T: Real, L: Lanes<T>>(
    simd: L,
    tile: &[L::Vector],
    (row, col): (usize, usize),
    (rows, cols): (usize, usize),
    signs: &Signs,
    (factor, products): (&mut [L::Vector], &mut [L::Vector]),
    out: &mut [f64],
) {
    let chunk = CHUNK / size_of::<T>();
    let registers = chunk / L::LANES;
    for (number, out) in out.chunks_mut(chunk).enumerate() {
        let first = number * chunk;
        expand::<T>(signs, col..col + cols, first, bytemuck::cast_slice_mut(factor));
        multiply(simd, tile, (rows, cols), factor, products, out.len());
        expand::<T>(signs, row..row + rows, first, bytemuck::cast_slice_mut(factor));
        let mut totals = [simd.splat(T::ZERO); MAX_CHUNK];
        let lines = factor.chunks_exact(registers).zip(products.chunks_exact(registers));
        for (signs, products) in lines.take(rows) {
            for ((total, &sign), &product) in totals.iter_mut().zip(signs).zip(products) {
                *total = simd.mul_add(sign, product, *total);
            }
        }
        let totals: &[T] = bytemuck::cast_slice(&totals[..registers]);
        for (out, total) in out.iter_mut().zip(totals) {
            *out += total.to_f64();
        }
    }
}

/// The product of a tile with a matrix whose rows, and those of the result, are [`CHUNK`] bytes long; `width` values of them
/// are wanted.
#[inline(always)]
fn multiply<T: Real, L: Lanes<T>>(
    simd: L,
    tile: &[L::Vector],
    (rows, cols): (usize, usize),
    factor: &[L::Vector],
    out: &mut [L::Vector],
    width: usize,
) {
    let tile: &[T] = bytemuck::cast_slice(tile);
    // Registers of a row, and how many of them are taken at a time with how many rows.
    match L::REGISTERS {
        32.. => multiply_by::<T, L, 2, 8>(simd, tile, (rows, cols), factor, out, width),
        16.. => multiply_by::<T, L, 2, 4>(simd, tile, (rows, cols), factor, out, width),
        _ => multiply_by::<T, L, 4, 1>(simd, tile, (rows, cols), factor, out, width),
    }
}

#[inline(always)]
fn multiply_by<T: Real, L: Lanes<T>, const C: usize, const R: usize>(
    simd: L,
    tile: &[T],
    (rows, cols): (usize, usize),
    factor: &[L::Vector],
    out: &mut [L::Vector],
    width: usize,
) {
    let registers = CHUNK / size_of::<L::Vector>();
    let wanted = width.div_ceil(L::LANES);
    let whole = rows - rows % R;
    for first in (0..wanted).step_by(C) {
        for i in (0..whole).step_by(R) {
            let sums = dot_rows::<T, L, C, R>(simd, &tile[i * TILE..], cols, &factor[first..]);
            for r in 0..R {
                out[(i + r) * registers + first..][..C].copy_from_slice(&sums[r]);
            }
        }
        for i in whole..rows {
            let sums = dot_rows::<T, L, C, 1>(simd, &tile[i * TILE..], cols, &factor[first..]);
            out[i * registers + first..][..C].copy_from_slice(&sums[0]);
        }
    }
}

#[inline(always)]
fn dot_rows<T: Real, L: Lanes<T>, const C: usize, const R: usize>(
    simd: L,
    tile: &[T],
    cols: usize,
    factor: &[L::Vector],
) -> [[L::Vector; C]; R] {
    let registers = CHUNK / size_of::<L::Vector>();
    let mut sums = [[simd.splat(T::ZERO); C]; R];
    let mut rows = [&tile[..cols]; R];
    for r in 0..R {
        rows[r] = &tile[r * TILE..][..cols];
    }
    for k in 0..cols {
        let factor = &factor[k * registers..][..C];
        for r in 0..R {
            let u = simd.splat(rows[r][k]);
            for c in 0..C {
                sums[r][c] = simd.mul_add(u, factor[c], sums[r][c]);
            }
        }
    }
    sums
}
