//! Borrowed row-major matrices.

use std::fmt;

/// The lengths of some arrays do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError {
    what: &'static str,
    expected: String,
    got: String,
}

impl ShapeError {
    /// An error about `what`, with the expected and the actual shape or length.
    pub fn new(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self { what, expected: expected.to_string(), got: got.to_string() }
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.what, self.expected, self.got)
    }
}

impl std::error::Error for ShapeError {}

/// Checks that `rows` rows of `cols`, `stride` apart, fit into a slice of length `len`.
fn check(len: usize, rows: usize, cols: usize, stride: usize) -> Result<(), ShapeError> {
    if stride < cols {
        return Err(ShapeError::new(
            "row stride",
            format!("at least {cols} (the columns)"),
            stride,
        ));
    }
    let needed = match rows {
        0 => Some(0),
        _ => (rows - 1).checked_mul(stride).and_then(|offset| offset.checked_add(cols)),
    };
    match needed {
        Some(needed) if needed <= len => Ok(()),
        _ => Err(ShapeError::new(
            "row-major matrix",
            format!("room for {rows} rows of {cols} with stride {stride}"),
            format!("a slice of length {len}"),
        )),
    }
}

/// A borrowed row-major matrix: `rows` rows of `cols` values, consecutive rows `stride` apart.
///
/// ```
/// use gibbsite_kernels::Rows;
/// let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let x = Rows::new(&data, 2, 3)?;
/// assert_eq!(x.row(1), [4.0, 5.0, 6.0]);
/// assert!(Rows::new(&data, 4, 2).is_err());
/// # Ok::<(), gibbsite_kernels::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// A matrix that fills `data` exactly.
    ///
    /// # Errors
    /// If `data` does not hold `rows * cols` values.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self, ShapeError> {
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(ShapeError::new(
                "row-major matrix",
                format!("{rows} x {cols} values"),
                data.len(),
            ));
        }
        Ok(Self { data, rows, cols, stride: cols })
    }

    /// A matrix whose rows start `stride` values apart; whatever lies between them is not read.
    ///
    /// # Errors
    /// If `stride < cols`, or if the last row would reach beyond `data`.
    pub fn with_stride(
        data: &'a [T],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, ShapeError> {
        check(data.len(), rows, cols, stride)?;
        Ok(Self { data, rows, cols, stride })
    }

    /// Number of rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of consecutive rows.
    #[inline]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The underlying values, from the start of the first row.
    #[inline]
    pub fn as_slice(&self) -> &'a [T] {
        self.data
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below the number of rows.
    #[inline]
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.data[i * self.stride..][..self.cols]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [T]> + use<'a, T> {
        let this = Self { ..*self };
        (0..self.rows).map(move |i| this.row(i))
    }

    /// Rows `start..start + count`.
    ///
    /// # Panics
    /// If the range reaches beyond the rows.
    pub fn range(&self, start: usize, count: usize) -> Self {
        assert!(
            start <= self.rows && count <= self.rows - start,
            "rows {start}..{start}+{count} of {}",
            self.rows
        );
        let data = if count == 0 { &[] } else { &self.data[start * self.stride..] };
        Self { data, rows: count, ..*self }
    }

    /// Columns `start..start + count`.
    ///
    /// # Panics
    /// If the range reaches beyond the columns.
    pub fn columns(&self, start: usize, count: usize) -> Self {
        assert!(
            start <= self.cols && count <= self.cols - start,
            "columns {start}..{start}+{count} of {}",
            self.cols
        );
        let data = if self.rows == 0 { &[] } else { &self.data[start..] };
        Self { data, cols: count, ..*self }
    }
}

/// [`Rows`] that can be written.
#[derive(Debug)]
pub struct RowsMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> RowsMut<'a, T> {
    /// A matrix that fills `data` exactly.
    ///
    /// # Errors
    /// If `data` does not hold `rows * cols` values.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self, ShapeError> {
        let Rows { rows, cols, stride, .. } = Rows::new(&*data, rows, cols)?;
        Ok(Self { data, rows, cols, stride })
    }

    /// A matrix whose rows start `stride` values apart; whatever lies between them is left alone.
    ///
    /// # Errors
    /// If `stride < cols`, or if the last row would reach beyond `data`.
    pub fn with_stride(
        data: &'a mut [T],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, ShapeError> {
        check(data.len(), rows, cols, stride)?;
        Ok(Self { data, rows, cols, stride })
    }

    /// Number of rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of consecutive rows.
    #[inline]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below the number of rows.
    #[inline]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &mut self.data[i * self.stride..][..self.cols]
    }

    /// Rows `start..start + N`, at least one: other `N` do not compile.
    ///
    /// # Panics
    /// If the range reaches beyond the rows.
    #[inline]
    pub fn rows_mut<const N: usize>(&mut self, start: usize) -> [&mut [T]; N] {
        const { assert!(N > 0, "at least one row") };
        assert!(start <= self.rows && N <= self.rows - start, "{N} rows from row {start}");
        let mut rest = &mut self.data[start * self.stride..];
        std::array::from_fn(|r| {
            // The last row of all may end before a whole stride does.
            let next = if r + 1 == N { rest.len() } else { self.stride };
            let (row, tail) = std::mem::take(&mut rest).split_at_mut(next);
            rest = tail;
            &mut row[..self.cols]
        })
    }

    /// Values from the start of row `start` on, and the distance between rows.
    #[inline]
    pub(crate) fn data_mut(&mut self, start: usize) -> (&mut [T], usize) {
        (&mut self.data[start * self.stride..], self.stride)
    }

    /// The same matrix, to be read.
    #[inline]
    pub fn as_rows(&self) -> Rows<'_, T> {
        Rows { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// The same matrix for a shorter time.
    #[inline]
    pub fn reborrow(&mut self) -> RowsMut<'_, T> {
        RowsMut { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// Splits into the first `count` rows and the rest.
    ///
    /// # Panics
    /// If there are fewer than `count` rows.
    pub fn split_at_row(self, count: usize) -> (Self, Self) {
        assert!(count <= self.rows, "split at row {count} of {}", self.rows);
        let Self { data, rows, cols, stride } = self;
        // The last row may end before a whole stride does.
        let middle = if count == rows { data.len() } else { count * stride };
        let (head, tail) = data.split_at_mut(middle);
        (
            Self { data: head, rows: count, cols, stride },
            Self { data: tail, rows: rows - count, cols, stride },
        )
    }

    /// Splits into blocks of `count` rows; the last may be shorter.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn into_blocks(self, count: usize) -> impl Iterator<Item = RowsMut<'a, T>> {
        assert!(count > 0, "blocks of 0 rows");
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let rows = rest.take()?;
            if rows.rows == 0 {
                return None;
            }
            let (head, tail) = {
                let count = count.min(rows.rows);
                rows.split_at_row(count)
            };
            rest = Some(tail);
            Some(head)
        })
    }
}
