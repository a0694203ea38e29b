//! What Stein kernels take and what they refuse.

use gibbsite_kernels::{
    Isa, Rows, RowsMut, Scratch,
    chain::Space,
    stein::{self, Base, Block, Kernel, Points, Quantity, Radial, Signs, TILE},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

const N: usize = 5;
const D: usize = 2;

const IMQ: Radial<f64> = Radial::Imq { offset: 1.0, exponent: -0.5 };
const BASES: [Base<f64>; 4] =
    [Base::Radial(IMQ), Base::Linear, Base::RadialLinear(IMQ), Base::ArcCosine];
const QUANTITIES: [Quantity; 4] =
    [Quantity::Stein, Quantity::Value, Quantity::Slope, Quantity::SlopeCosine];

/// Points of the three kinds.
fn points() -> [Points<f64>; 3] {
    let data: Vec<f64> = (0..N * D).map(|i| (i * 7 % 11) as f64 / 4.0 - 1.0).collect();
    let rows = Rows::new(&data, N, D).unwrap();
    [
        Points::new(rows, rows).unwrap(),
        Points::with_metric(rows, rows, rows, rows, 2.0).unwrap(),
        Points::with_directions(rows, rows).unwrap(),
    ]
}

/// The block of some rows with some columns, if it is not refused.
fn block(
    kernel: Kernel<f64>,
    rows: (&Points<f64>, std::ops::Range<usize>),
    cols: (&Points<f64>, std::ops::Range<usize>),
) -> Option<Vec<f64>> {
    let (n, m) = (rows.1.len(), cols.1.len());
    let mut out = vec![0.0; n * m];
    let write = || {
        let out = RowsMut::new(&mut out, n, m).unwrap();
        let scratch = &mut Scratch::default();
        stein::write(Isa::best(), kernel, Block { rows, cols }, out, scratch);
    };
    catch_unwind(AssertUnwindSafe(write)).ok().map(|()| out)
}

const PLAIN: Kernel<f64> =
    Kernel { base: Base::Radial(IMQ), space: Space::Flat, quantity: Quantity::Stein };

#[test]
fn kernels_that_do_not_fit_are_refused() {
    let points = points();
    let mut fitting = [0; 3];
    for (base, space) in
        BASES.into_iter().flat_map(|base| [(base, Space::Flat), (base, Space::Sphere)])
    {
        for quantity in QUANTITIES {
            let kernel = Kernel { base, space, quantity };
            for (k, points) in points.iter().enumerate() {
                let written = block(kernel, (points, 0..N), (points, 0..N));
                assert_eq!(written.is_some(), kernel.fits(points), "{kernel:?} at {points:?}");
                fitting[k] += usize::from(kernel.fits(points));
            }
        }
    }
    // All four bases with all four quantities on the sphere; in R^d three of them, and k and slopes of two.
    assert_eq!(fitting, [16 + 3 + 4, 1, 1]);
}

#[test]
fn points_of_two_kinds_and_ranges_between_tiles_are_refused() {
    let [plain, metric, _] = points();
    assert!(block(PLAIN, (&plain, 0..N), (&plain, 0..3)).is_some());
    assert!(block(PLAIN, (&plain, 0..N), (&metric, 0..N)).is_none());
    assert!(block(PLAIN, (&plain, 1..N), (&plain, 0..N)).is_none());
    assert!(block(PLAIN, (&plain, 0..N + 1), (&plain, 0..N)).is_none());
    assert!(block(PLAIN, (&plain, TILE..TILE), (&plain, 0..N)).is_none());
}

#[test]
fn a_trace_that_is_nan_goes_on_to_the_values() {
    let data = [1.0; N * D];
    let rows = Rows::new(&data, N, D).unwrap();
    let points = |trace| Points::with_metric(rows, rows, rows, rows, trace).unwrap();
    let (lost, one, two) = (points(f64::NAN), points(1.0), points(2.0));
    let values = block(PLAIN, (&lost, 0..N), (&lost, 0..N)).unwrap();
    assert!(values.iter().all(|value| value.is_nan()));
    assert!(block(PLAIN, (&one, 0..N), (&two, 0..N)).is_none());
    assert!(block(PLAIN, (&lost, 0..N), (&two, 0..N)).is_none());
}

#[test]
fn points_that_are_not_there_can_be_of_any_dimension() {
    for (dim, accepted) in [(1 << 40, true), (usize::MAX / 8, false), (usize::MAX, false)] {
        let none = Rows::<f64>::with_stride(&[], 0, dim, dim).unwrap();
        let plain = Points::new(none, none);
        assert_eq!(plain.is_ok(), accepted, "{dim}");
        assert_eq!(Points::with_directions(none, none).is_ok(), accepted, "{dim}");
        assert_eq!(Points::with_metric(none, none, none, none, 1.0).is_ok(), accepted, "{dim}");
        let Ok(points) = plain else { continue };
        assert_eq!(block(PLAIN, (&points, 0..0), (&points, 0..0)), Some(Vec::new()));
        assert!(points.select(&[]).is_empty());
    }
}

#[test]
fn points_of_no_dimension_are_as_many_as_memory_holds() {
    for count in [usize::MAX, usize::MAX / 2, usize::MAX / 32] {
        let many = Rows::<f64>::new(&[], count, 0).unwrap();
        assert!(Points::new(many, many).is_err(), "{count}");
        assert!(Points::with_directions(many, many).is_err(), "{count}");
        assert!(Points::with_metric(many, many, many, many, 1.0).is_err(), "{count}");
    }
}

#[test]
fn signs_are_those_of_points_that_are_there() {
    let signs = Signs::try_positive(3, 65).unwrap();
    assert_eq!(signs.words(2), [0, 0]);
    let refused = |signs: &Signs, point| catch_unwind(|| signs.words(point).len()).is_err();
    assert!(refused(&signs, 3) && refused(&signs, 1 << 63));
    // Words of no draws are nowhere.
    assert!(refused(&Signs::try_positive(3, 0).unwrap(), 3));
    assert!(Signs::try_positive(usize::MAX, 65).is_none());
}

#[test]
fn debug_output_is_short() {
    let debug = points().map(|points| format!("{points:?}"));
    assert_eq!(
        debug,
        ["Points(Plain, 5 x 2)", "Points(Metric, 5 x 2)", "Points(Directions, 5 x 2)"]
    );
    assert_eq!(format!("{:?}", Signs::try_positive(1000, 70).unwrap()), "Signs(1000 x 70)");
}

#[test]
fn many_kernels_together_have_the_sums_of_each_alone() {
    // More than twice as many as are taken at a time.
    let (n, d, draws, many) = (100, 3, 5, 33);
    let [x, s]: [Vec<f32>; 2] = [7, 11]
        .map(|factor: usize| (0..n * d).map(|i| (i * factor % 23) as f32 / 8.0 - 1.25).collect());
    let rows = |data| Rows::new(data, n, d).unwrap();
    let points = Points::new(rows(&x), rows(&s)).unwrap();
    let kernels: Vec<_> = (0..many)
        .map(|k| Radial::Rbf { precision: 0.1 + k as f32 })
        .map(|radial| Kernel {
            base: Base::Radial(radial),
            space: Space::Flat,
            quantity: Quantity::Stein,
        })
        .collect();
    let signs = Signs::try_positive(n, draws).unwrap();
    for isa in Isa::available() {
        let sums = |kernels: &[Kernel<f32>]| {
            let block = Block { rows: (&points, 0..n), cols: (&points, 0..n) };
            let mut out = vec![0.0; kernels.len() * draws];
            let scratch = &mut Scratch::default();
            stein::signed_sums(isa, kernels, block, &signs, &mut out, scratch);
            out
        };
        let alone: Vec<f64> = kernels.iter().flat_map(|&kernel| sums(&[kernel])).collect();
        assert_eq!(sums(&kernels), alone);
    }
}
