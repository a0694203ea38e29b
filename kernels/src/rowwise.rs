//! Products of the rows of two matrices.

use crate::{Isa, Real, Rows, Scratch};

/// The specification, as plain loops.
pub mod reference {
    use crate::Real;

    /// x·y by one chain of fused multiply-adds.
    pub fn dot<T: Real>(x: &[T], y: &[T]) -> T {
        x.iter().zip(y).fold(T::ZERO, |sum, (&x, &y)| x.mul_add(y, sum))
    }
}

/// `out[i] = x_i·y_i`.
///
/// `x` and `y` are n×d, `out` has length n. Costs 2nd flops, or rather the time to turn rows into lanes.
///
/// # Panics
/// If the shapes differ.
pub fn dot<T: Real>(
    isa: Isa,
    x: Rows<'_, T>,
    y: Rows<'_, T>,
    out: &mut [T],
    scratch: &mut Scratch,
) {
    assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()), "shapes of x and y");
    assert_eq!(out.len(), x.rows(), "length of out against the rows of x");
    T::rowwise(isa, simd::Dot { x, y, out, scratch });
}

pub(crate) mod simd {
    //! One row in each lane.

    use crate::{
        Isa, Real, Rows, Scratch,
        lanes::{Kernel, Lanes, Levels},
        transpose,
    };

    /// See [`dot`](super::dot).
    pub struct Dot<'a, T> {
        pub x: Rows<'a, T>,
        pub y: Rows<'a, T>,
        pub out: &'a mut [T],
        pub scratch: &'a mut Scratch,
    }

    /// The family's entry point for one element type.
    pub trait Dispatch: Sized {
        fn rowwise(isa: Isa, kernel: Dot<'_, Self>);
    }

    macro_rules! dispatch {
        ($($t:ty)*) => {$(
            impl Dispatch for $t {
                fn rowwise(isa: Isa, kernel: Dot<'_, Self>) {
                    <Self as Levels>::dispatch(isa, kernel);
                }
            }
        )*};
    }
    dispatch!(f32 f64);

    /// Columns that are turned at a time: both tiles stay in L1.
    const COLUMNS: usize = 64;

    /// Rows `start..` and columns `col..`, `count` and `cols` of them, as lanes.
    #[inline(always)]
    fn turn<L: Lanes<T>, T: Real>(
        simd: L,
        rows: Rows<'_, T>,
        (start, count): (usize, usize),
        (col, cols): (usize, usize),
        tile: &mut [L::Vector],
    ) {
        let tile = bytemuck::cast_slice_mut(&mut tile[..cols]);
        transpose::gather::<T, L>(
            simd,
            tile,
            L::LANES,
            rows.range(start, count).columns(col, cols),
        );
    }

    impl<T: Real> Kernel<T> for Dot<'_, T> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes<T>>(self, simd: L) {
            let (n, d) = (self.x.rows(), self.x.cols());
            let place = |rows: Rows<'_, T>| (rows.as_slice().as_ptr(), rows.stride());
            let squares = place(self.x) == place(self.y);
            let [x, y] = self.scratch.buffers::<L::Vector, 2>([COLUMNS.min(d); 2]);
            for start in (0..n).step_by(L::LANES) {
                let count = L::LANES.min(n - start);
                let mut sum = simd.splat(T::ZERO);
                for col in (0..d).step_by(COLUMNS) {
                    let cols = COLUMNS.min(d - col);
                    turn::<L, T>(simd, self.x, (start, count), (col, cols), x);
                    if !squares {
                        turn::<L, T>(simd, self.y, (start, count), (col, cols), y);
                    }
                    let other = if squares { &*x } else { &*y };
                    for (&x, &y) in x[..cols].iter().zip(other) {
                        sum = simd.mul_add(x, y, sum);
                    }
                }
                self.out[start..start + count]
                    .copy_from_slice(&bytemuck::cast_slice(&[sum])[..count]);
            }
        }
    }
}
