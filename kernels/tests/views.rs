//! Borrowed matrices of any claimed shape: accepted exactly where a model in integers that do not overflow accepts them, with
//! rows where the model has them.

mod support;

use gibbsite_kernels::{Rows, RowsMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use support::{Rng, by_effort};

/// Rows, columns and distance of rows over a slice of some length.
#[derive(Clone, Copy, Debug)]
struct Claim {
    rows: usize,
    cols: usize,
    stride: usize,
    len: usize,
}

impl Claim {
    /// The index behind the last value.
    fn end(self) -> u128 {
        match self.rows {
            0 => 0,
            rows => (rows as u128 - 1) * self.stride as u128 + self.cols as u128,
        }
    }

    fn fits(self) -> bool {
        self.stride >= self.cols && self.end() <= self.len as u128
    }

    fn fills(self) -> bool {
        self.rows as u128 * self.cols as u128 == self.len as u128
    }
}

/// Small, around where products of two overflow, or anything.
fn size(rng: &mut Rng) -> usize {
    let value = match rng.below(6) {
        0 | 1 => return rng.below(70),
        2 => return rng.next() as usize >> rng.below(64),
        3 => 1 << rng.below(64),
        4 => rng.pick(&[isize::MAX as usize, usize::MAX]) / rng.pick(&[1, 2, 4, 8]),
        _ => usize::MAX / (1 + rng.below(70)),
    };
    value.wrapping_add(rng.below(5)).wrapping_sub(2)
}

fn claim(rng: &mut Rng) -> Claim {
    let (rows, cols, len) = (size(rng), size(rng), size(rng));
    let stride = if rng.coin() { cols.wrapping_add(rng.below(3)) } else { size(rng) };
    let mut claim = Claim { rows, cols, stride, len };
    // At the edge of what is accepted.
    if rng.coin() {
        let edge = if rng.coin() { claim.end() } else { rows as u128 * cols as u128 };
        claim.len = usize::try_from(edge).unwrap_or(len).wrapping_add(rng.below(3)).wrapping_sub(1);
    }
    claim
}

fn check(claim: Claim) {
    let Claim { rows, cols, stride, len } = claim;
    // Slices of nothing can be as long as any, so that large shapes are accepted as well.
    let data = &mut [(); usize::MAX][..len];
    let strided = Rows::with_stride(data, rows, cols, stride);
    assert_eq!(strided.is_ok(), claim.fits(), "{claim:?}");
    let filling = Rows::new(data, rows, cols);
    assert_eq!(filling.is_ok(), claim.fills(), "{claim:?}");
    for view in strided.into_iter().chain(filling) {
        assert_eq!((view.rows(), view.cols()), (rows, cols));
        if rows > 0 {
            assert_eq!(view.row(rows - 1).len(), cols, "{claim:?}");
            assert_eq!(
                view.range(rows - 1, 1).columns(cols / 2, cols - cols / 2).row(0).len(),
                cols - cols / 2
            );
        }
        assert_eq!(view.range(rows, 0).rows(), 0);
    }
    let strided = RowsMut::with_stride(data, rows, cols, stride);
    assert_eq!(strided.is_ok(), claim.fits(), "{claim:?}");
    if let Ok(mut view) = strided {
        assert_eq!((view.rows(), view.cols(), view.stride()), (rows, cols, stride));
        if rows > 0 {
            assert_eq!(view.row_mut(rows - 1).len(), cols, "{claim:?}");
            let [last] = view.rows_mut::<1>(rows - 1);
            assert_eq!(last.len(), cols, "{claim:?}");
        }
        let (head, tail) = view.split_at_row(rows / 2);
        assert_eq!((head.rows(), tail.rows()), (rows / 2, rows - rows / 2), "{claim:?}");
        assert!(head.as_rows().as_slice().len() + tail.as_rows().as_slice().len() == len);
    }
    assert_eq!(RowsMut::new(data, rows, cols).is_ok(), claim.fills(), "{claim:?}");
}

#[test]
fn shapes_are_accepted_as_the_model_has_it() {
    let mut rng = Rng::of("views");
    let (mut fits, mut fills) = (0, 0);
    let count = by_effort(10_000, 1_000_000, 100_000_000);
    for _ in 0..count {
        let claim = claim(&mut rng);
        check(claim);
        fits += usize::from(claim.fits());
        fills += usize::from(claim.fills());
    }
    // Both answers are common.
    assert!(fits > count / 20 && fits < count - count / 20, "{fits} of {count}");
    assert!(fills > count / 50, "{fills} of {count}");
}

#[test]
fn rows_are_where_the_model_has_them() {
    let mut rng = Rng::of("places");
    for _ in 0..by_effort(1_000, 20_000, 1_000_000) {
        let (rows, cols) = (rng.below(9), rng.below(9));
        let stride = cols + rng.below(4);
        let len = Claim { rows, cols, stride, len: 0 }.end() as usize + rng.below(3);
        let mut data: Vec<usize> = (0..len).collect();
        let want: Vec<Vec<usize>> =
            (0..rows).map(|i| (i * stride..i * stride + cols).collect()).collect();
        let view = Rows::with_stride(&data, rows, cols, stride).unwrap();
        assert!(view.iter().eq(want.iter()));
        let (start, left) = (rng.below(rows + 1), rng.below(cols + 1));
        let (count, width) = (rng.below(rows - start + 1), rng.below(cols - left + 1));
        let part = view.range(start, count).columns(left, width);
        let want_part = want[start..][..count].iter().map(|row| &row[left..][..width]);
        assert!(part.iter().eq(want_part));
        // Every value is given out once at most.
        let blocks = 1 + rng.below(4);
        let view = RowsMut::with_stride(&mut data, rows, cols, stride).unwrap();
        for mut block in view.into_blocks(blocks) {
            for i in 0..block.rows() {
                block.row_mut(i).iter_mut().for_each(|value| *value += len);
            }
        }
        for (at, &value) in data.iter().enumerate() {
            let inside = rows > 0 && stride > 0 && at % stride < cols && at / stride < rows;
            assert_eq!(value, if inside { at + len } else { at });
        }
    }
}

#[test]
fn what_is_outside_is_a_panic() {
    let data = [0; 12];
    let view = Rows::with_stride(&data, 3, 2, 4).unwrap();
    assert_eq!(view.stride(), 4);
    let refused = |f: &dyn Fn() -> usize| catch_unwind(AssertUnwindSafe(f)).is_err();
    assert!(refused(&|| view.row(3).len()));
    for (start, count) in [(2, 2), (4, 0), (usize::MAX, 2), (2, usize::MAX)] {
        assert!(refused(&|| view.range(start, count).rows()), "rows {start}, {count}");
    }
    for (start, count) in [(1, 2), (3, 0), (usize::MAX, 2), (1, usize::MAX)] {
        assert!(refused(&|| view.columns(start, count).cols()), "columns {start}, {count}");
    }
    let refused = |f: fn(RowsMut<'_, i32>) -> usize| {
        refused(&|| f(RowsMut::with_stride(&mut [0; 12], 3, 2, 4).unwrap()))
    };
    assert!(refused(|mut view| view.row_mut(3).len()));
    assert!(refused(|mut view| view.rows_mut::<2>(2)[0].len()));
    assert!(refused(|view| view.split_at_row(4).0.rows()));
    assert!(refused(|view| view.into_blocks(0).count()));
}

#[test]
fn complaints_have_what_was_expected_and_what_came() {
    let message = |rows, cols, stride| {
        Rows::with_stride(&[0; 12], rows, cols, stride).unwrap_err().to_string()
    };
    assert_eq!(message(3, 5, 4), "row stride: expected at least 5 (the columns), got 4");
    assert_eq!(
        message(3, 2, 6),
        "row-major matrix: expected room for 3 rows of 2 with stride 6, got a slice of length 12"
    );
    assert_eq!(
        Rows::new(&[0; 12], 5, 2).unwrap_err().to_string(),
        "row-major matrix: expected 5 x 2 values, got 12"
    );
}
