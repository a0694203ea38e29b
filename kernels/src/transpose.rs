//! Between rows and lanes: a tile is `[coordinate][lane]`, one point per lane.

use crate::{Real, Rows, RowsMut, lanes::Lanes};

/// Lanes of the widest register.
const MAX_LANES: usize = 16;

/// Transposes as many registers as one has lanes.
#[inline(always)]
fn square<T, L: Lanes<T>>(simd: L, rows: &mut [L::Vector; MAX_LANES]) {
    let half = L::LANES / 2;
    // Each round of perfect shuffles takes one bit of the column's number to the row's.
    for _ in 0..L::LANES.ilog2() {
        let before = *rows;
        for i in 0..half {
            (rows[2 * i], rows[2 * i + 1]) = simd.zip(before[i], before[i + half]);
        }
    }
}

/// Where squares start that cover `len` columns; the last overlaps the one before if it must.
#[inline(always)]
fn starts(len: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..len.div_ceil(lanes)).map(move |i| (i * lanes).min(len.saturating_sub(lanes)))
}

/// Whether rows too short for a register may be moved by way of their successors' beginnings: in one piece, and not so short
/// that most of the work were for nothing. `len` values are there from the start of the first of `rows` rows.
#[inline(always)]
fn overlap(cols: usize, stride: usize, rows: usize, len: usize, lanes: usize) -> bool {
    stride == cols && 2 * cols >= lanes && rows.saturating_sub(1) * stride + lanes <= len
}

#[inline(always)]
fn register<T: Real, V: bytemuck::Pod>(values: &[T]) -> V {
    bytemuck::cast_slice(&values[..size_of::<V>() / size_of::<T>()])[0]
}

#[inline(always)]
fn set_register<T: Real, V: bytemuck::Pod>(values: &mut [T], register: V) {
    bytemuck::cast_slice_mut(&mut values[..size_of::<V>() / size_of::<T>()])[0] = register;
}

/// Lays up to `lanes` points out at distances of `stride`: value k of point j at `k * stride + j`, zeros in the place of points that
/// are missing. For packing once, on any level.
pub(crate) fn interleave<T: Real>(points: Rows<'_, T>, out: &mut [T], lanes: usize, stride: usize) {
    match lanes {
        16 => interleave_lanes::<T, 16>(points, out, stride),
        8 => interleave_lanes::<T, 8>(points, out, stride),
        6 => interleave_lanes::<T, 6>(points, out, stride),
        4 => interleave_lanes::<T, 4>(points, out, stride),
        _ => unreachable!("nothing is packed by {lanes}"),
    }
}

/// Coordinate by coordinate, so that cache lines are written in order.
fn interleave_lanes<T: Real, const N: usize>(points: Rows<'_, T>, out: &mut [T], stride: usize) {
    let count = points.rows();
    let rows: [&[T]; N] = std::array::from_fn(|j| points.row(j.min(count - 1)));
    for (k, slots) in (0..points.cols()).zip(out.chunks_mut(stride)) {
        let slots: &mut [T; N] = slots.first_chunk_mut().expect("as many as lanes");
        for (slot, row) in slots.iter_mut().zip(&rows) {
            *slot = row[k];
        }
        slots[count..].fill(T::ZERO);
    }
}

/// Lays points out as a tile of `lanes`; lanes beyond the points are zero.
#[inline(always)]
pub(crate) fn gather<T: Real, L: Lanes<T>>(
    simd: L,
    tile: &mut [T],
    lanes: usize,
    points: Rows<'_, T>,
) {
    let cols = points.cols();
    let (data, stride) = (points.as_slice(), points.stride());
    let fits = cols >= L::LANES || overlap(cols, stride, lanes, data.len(), L::LANES);
    if L::LANES == 1 || points.rows() < lanes || !fits {
        return gather_slowly(tile, lanes, points);
    }
    let mut rows = [simd.splat(T::ZERO); MAX_LANES];
    for lane in (0..lanes).step_by(L::LANES) {
        for k in starts(cols, L::LANES) {
            for i in 0..L::LANES {
                rows[i] = register(&data[(lane + i) * stride + k..]);
            }
            square(simd, &mut rows);
            for i in 0..L::LANES.min(cols) {
                set_register(&mut tile[(k + i) * lanes + lane..], rows[i]);
            }
        }
    }
}

/// The way back: writes the first lanes of a tile to the rows `start..` of `out`, from column `col` on.
#[inline(always)]
pub(crate) fn scatter<T: Real, L: Lanes<T>>(
    simd: L,
    tile: &[T],
    lanes: usize,
    out: &mut RowsMut<'_, T>,
    start: usize,
    col: usize,
) {
    let cols = tile.len() / lanes;
    let whole = cols == out.cols();
    let (data, stride) = out.data_mut(start);
    // Rows are written in order, so what spills over into the next one does not last; the last one is copied.
    let fits = cols >= L::LANES || whole && overlap(cols, stride, lanes - 1, data.len(), L::LANES);
    if L::LANES == 1 || out.rows() - start < lanes || !fits {
        return scatter_slowly(tile, lanes, out, start, col);
    }
    let (data, stride) = out.data_mut(start);
    let mut rows = [simd.splat(T::ZERO); MAX_LANES];
    for lane in (0..lanes).step_by(L::LANES) {
        for k in starts(cols, L::LANES) {
            for i in 0..L::LANES.min(cols) {
                rows[i] = register(&tile[(k + i) * lanes + lane..]);
            }
            square(simd, &mut rows);
            for i in 0..L::LANES {
                let row = &mut data[(lane + i) * stride + col + k..];
                if cols < L::LANES && lane + i + 1 == lanes {
                    row[..cols].copy_from_slice(&bytemuck::cast_slice(&rows[i..=i])[..cols]);
                } else {
                    set_register(row, rows[i]);
                }
            }
        }
    }
}

/// Rows that are moved at a time without registers.
const STRIP: usize = 4;

/// Not inlined, so that it is compiled without the wide instruction sets: with them, LLVM turns the
/// strided accesses into gathers and scatters, which are slower and reach beyond sanitizers' sight.
#[inline(never)]
fn gather_slowly<T: Real>(tile: &mut [T], lanes: usize, points: Rows<'_, T>) {
    let count = points.rows();
    if count < lanes {
        tile.fill(T::ZERO);
    }
    let cols = points.cols();
    let strips = count - count % STRIP;
    for lane in (0..strips).step_by(STRIP) {
        let strip: [&[T]; STRIP] = std::array::from_fn(|r| &points.row(lane + r)[..cols]);
        for (k, row) in tile.chunks_exact_mut(lanes).enumerate() {
            let row: &mut [T] = &mut row[lane..lane + STRIP];
            for r in 0..STRIP {
                row[r] = strip[r][k];
            }
        }
    }
    for lane in strips..count {
        for (row, &x) in tile.chunks_exact_mut(lanes).zip(points.row(lane)) {
            row[lane] = x;
        }
    }
}

/// Not inlined for the same reason.
#[inline(never)]
fn scatter_slowly<T: Real>(
    tile: &[T],
    lanes: usize,
    out: &mut RowsMut<'_, T>,
    start: usize,
    col: usize,
) {
    let cols = tile.len() / lanes;
    let count = lanes.min(out.rows() - start);
    let strips = count - count % STRIP;
    for lane in (0..strips).step_by(STRIP) {
        let strip: [&mut [T]; STRIP] =
            out.rows_mut(start + lane).map(|row| &mut row[col..][..cols]);
        for (k, row) in tile.chunks_exact(lanes).enumerate() {
            let row = &row[lane..lane + STRIP];
            for r in 0..STRIP {
                strip[r][k] = row[r];
            }
        }
    }
    for lane in strips..count {
        let row = &mut out.row_mut(start + lane)[col..];
        for (out, row) in row.iter_mut().zip(tile.chunks_exact(lanes)) {
            *out = row[lane];
        }
    }
}
