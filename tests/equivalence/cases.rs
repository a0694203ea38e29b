//! What is run: shapes, placements in memory, classes of values, and how many of each.

use super::support::{Effort, Float, Rng, by_effort, effort, run_seed};
use gibbsite_kernels::{
    registry::{Array, Entry, Shape},
    relu::TILE,
};
use std::fmt;

/// Values that arithmetic never returns.
pub trait Signal: Float {
    /// A signalling NaN, recognised wherever it stays.
    fn signal(payload: u64) -> Self {
        let exponent = (1_u64 << (Self::WIDTH - 1 - Self::SIGNIFICAND)) - 1;
        Self::from_bits((exponent << Self::SIGNIFICAND) | payload)
    }

    /// Found in an output that was not written.
    fn poison() -> Self {
        Self::signal(0x0bad)
    }

    /// Found where nothing must be read or written: around arrays and between rows of inputs.
    fn canary() -> Self {
        Self::signal(0x0c0a)
    }
}

impl<T: Float> Signal for T {}

/// What the inputs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Mean 0 and variance 1. Of 25 bits, so that in `f64` no product rounds.
    Normal,
    /// Magnitudes from 1/16 to below 16 with digits down to the last: every operation rounds.
    Full,
    /// Many zeros of both signs, so that whole preactivations are ±0.
    SignedZeros,
    Subnormal,
    /// Up to the largest finite value: sums overflow, and some become inf - inf.
    Huge,
    /// Preactivations are sums of pairs that cancel all but a few bits.
    Cancelling,
    /// A few infinities.
    Infinite,
    /// One NaN in about half of the arrays.
    Nan,
    /// -3 to 3: sums are exact and often 0.
    Integers,
    /// Multiples of 1/4 up to 3 in magnitude.
    Dyadic,
}

impl Class {
    /// The classes of the comparison bit by bit.
    pub const BITS: [Class; 9] = [
        Class::Normal,
        Class::Full,
        Class::SignedZeros,
        Class::Subnormal,
        Class::Huge,
        Class::Cancelling,
        Class::Infinite,
        Class::Nan,
        Class::Integers,
    ];

    fn value<T: Float>(self, rng: &mut Rng) -> T {
        let value = match self {
            Class::Normal | Class::Infinite | Class::Nan => rng.normal(),
            Class::Full => {
                let bits = rng.next();
                let exponent = 1019 + (bits >> 52) % 8;
                f64::from_bits(bits >> 63 << 63 | exponent << 52 | bits << 12 >> 12)
            }
            Class::SignedZeros => match rng.below(5) {
                0 | 1 => 0.0,
                2 | 3 => -0.0,
                _ => rng.pick(&[-1.0, 1.0, 0.5]),
            },
            Class::Subnormal => {
                if rng.coin() {
                    let sign = u64::from(rng.coin()) * T::sign_bit();
                    return T::from_bits(sign | (rng.next() >> (64 - T::SIGNIFICAND)));
                }
                rng.normal()
            }
            Class::Huge => match rng.below(4) {
                0 | 1 => T::MAX.to_f64() * rng.uniform(),
                2 => T::MAX.to_f64().sqrt() * rng.normal(),
                _ => rng.normal(),
            },
            Class::Cancelling => rng.normal() * 2.0_f64.powi(rng.below(41) as i32 - 20),
            Class::Integers => rng.below(7) as f64 - 3.0,
            Class::Dyadic => (rng.below(25) as f64 - 12.0) / 4.0,
        };
        T::from_f64(value)
    }

    /// Values in the rows of the `index`-th input, canaries between them.
    pub fn fill<T: Float>(self, rng: &mut Rng, index: usize, array: &Array, data: &mut [T]) {
        data.fill(T::canary());
        for i in 0..array.rows {
            let row = &mut data[i * array.stride..][..array.cols];
            row.fill_with(|| self.value(rng));
            if self == Class::Cancelling {
                // The same sign in the first array and opposite signs in the second: whatever
                // the two are, the products of a pair cancel but for a relative 2^-(4..36).
                let sign = if index == 0 { 1.0 } else { -1.0 };
                for pair in row.chunks_exact_mut(2) {
                    let off = 1.0 + rng.uniform() * 0.5_f64.powi(4 + rng.below(33) as i32);
                    pair[1] = T::from_f64(pair[0].to_f64() * sign * off);
                }
            }
        }
        let specials: &[f64] = match self {
            Class::Infinite => &[f64::INFINITY, f64::NEG_INFINITY],
            Class::Nan => &[f64::NAN],
            _ => return,
        };
        if array.rows * array.cols > 0 && rng.coin() {
            let at = rng.below(array.rows) * array.stride + rng.below(array.cols);
            data[at] = T::from_f64(rng.pick(specials));
        }
    }
}

/// Where arrays lie between the pages that fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This many elements behind the page in front.
    Left(usize),
    /// Ends this many elements before the page behind.
    Right(usize),
}

impl Place {
    /// The place of the `index`-th array of a call: offsets differ between arrays, except that 0
    /// puts all of them next to the page.
    pub fn of_array<T>(self, index: usize) -> Self {
        let shift = |offset| match offset {
            0 => 0,
            offset => (offset + index) % offsets::<T>(),
        };
        match self {
            Place::Left(offset) => Place::Left(shift(offset)),
            Place::Right(offset) => Place::Right(shift(offset)),
        }
    }
}

/// How many element offsets there are within a cache line.
pub fn offsets<T>() -> usize {
    64 / size_of::<T>()
}

/// One comparison of a kernel with its reference.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub shape: Shape,
    pub class: Class,
    pub place: Place,
    /// Of the values.
    pub seed: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { n, d, m, bias, weighted, pad } = self.shape;
        write!(
            f,
            "n={n} d={d} m={m} bias={bias} weighted={weighted} pad={pad}, {:?}, {:?} values of \
             seed {:#x} (GIBBSITE_TEST_SEED={} GIBBSITE_TEST_EFFORT={})",
            self.place,
            self.class,
            self.seed,
            run_seed(),
            format!("{:?}", effort()).to_lowercase(),
        )
    }
}

impl Case {
    /// The same case, a little smaller, in several ways.
    pub fn smaller(self) -> impl Iterator<Item = Case> {
        let Case { shape, .. } = self;
        [
            Shape { n: shape.n / 2, ..shape },
            Shape { d: shape.d / 2, ..shape },
            Shape { m: shape.m / 2, ..shape },
            Shape { n: shape.n.saturating_sub(1), ..shape },
            Shape { d: shape.d.saturating_sub(1), ..shape },
            Shape { m: shape.m.saturating_sub(1), ..shape },
            Shape { pad: 0, ..shape },
            Shape { bias: false, ..shape },
            Shape { weighted: false, ..shape },
        ]
        .into_iter()
        .filter(move |&smaller| smaller != shape)
        // Exact cases divide by a power of two.
        .filter(move |smaller| self.class != Class::Dyadic || smaller.m.is_power_of_two())
        .map(move |shape| Case { shape, ..self })
    }
}

/// All of 0, 1, 2, … around which lanes, registers, neuron groups and tiles begin and end: up to
/// three registers of sixteen lanes and a little more, then around multiples of the tile.
fn lengths() -> impl Iterator<Item = usize> {
    let up_to = |tile: usize| tile - 2..=tile + 2;
    (0..=50).chain(63..=65).chain(up_to(TILE)).chain(127..=129).chain(up_to(2 * TILE))
}

/// Shapes in which one dimension takes every length while the others are at a few values, and
/// some that are large.
pub fn edges() -> Vec<Shape> {
    let shape = |n, d, m| Shape { n, d, m, ..Shape::default() };
    let mut shapes = Vec::new();
    for len in lengths() {
        for (d, other) in [(0, 3), (1, 1), (2, 5), (7, 13), (3, TILE + 1)] {
            shapes.push(shape(len, d, other));
            shapes.push(shape(other, d, len));
        }
    }
    for d in (0..=34).chain(47..=49).chain(63..=65) {
        for (n, m) in [(1, 1), (3, 5), (17, 9), (9, 26), (5, TILE + 4)] {
            shapes.push(shape(n, d, m));
        }
    }
    // More than one block of sub-tiles, in either role.
    for (d, other) in [(1, 2), (9, 3)] {
        for len in [383, 384, 385, 801] {
            shapes.push(shape(len, d, other));
            shapes.push(shape(other, d, len));
        }
    }
    shapes
}

/// Shapes too large to be repeated often.
pub fn large() -> [Shape; 5] {
    [(300, 37, 210), (100, 130, 97), (5, 784, 100), (33, 300, 8), (210, 16, 300)]
        .map(|(n, d, m)| Shape { n, d, m, ..Shape::default() })
}

/// A shape of at most `products` multiplications.
pub fn random_shape(rng: &mut Rng, products: usize) -> Shape {
    loop {
        let mut length = || {
            let end = rng.pick(&[5, 20, 50, 50, 110, 210]);
            rng.below(end)
        };
        let (mut n, d, mut m) = (length(), length(), length());
        match rng.below(16) {
            0 => n = n * 5 + 1,
            1 => m = m * 5 + 1,
            _ => {}
        }
        if n * m * d <= products {
            return random_options(rng, Shape { n, d, m, ..Shape::default() });
        }
    }
}

/// The shape with options drawn at random.
pub fn random_options(rng: &mut Rng, shape: Shape) -> Shape {
    Shape { bias: rng.coin(), weighted: rng.coin(), pad: rng.pick(&[0, 3]), ..shape }
}

/// The shape with every combination of options that the kernel tells apart.
pub fn all_options<T>(entry: &Entry<T>, shape: Shape) -> Vec<Shape> {
    // Where options choose spaces, bases and bounds, arrays do not show it.
    let in_arrays = !["chain.", "stein."].iter().any(|family| entry.name.starts_with(family));
    let mut shapes: Vec<Shape> = Vec::new();
    for pad in [0, 3] {
        for bias in [false, true] {
            for weighted in [false, true] {
                let shape = Shape { bias, weighted, pad, ..shape };
                let same_as = |&other: &Shape| {
                    (entry.inputs)(other) == (entry.inputs)(shape)
                        && (entry.outputs)(other) == (entry.outputs)(shape)
                };
                if !(in_arrays && shapes.iter().any(same_as)) {
                    shapes.push(shape);
                }
            }
        }
    }
    shapes
}

/// Any place.
pub fn random_place<T>(rng: &mut Rng) -> Place {
    let offset = rng.below(offsets::<T>());
    if rng.coin() { Place::Left(offset) } else { Place::Right(offset) }
}

/// The cases of the comparison bit by bit.
pub fn for_bits<T: Float>(entry: &Entry<T>, rng: &mut Rng) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut push = |rng: &mut Rng, shape, class, place| {
        cases.push(Case { shape, class, place, seed: rng.next() });
    };
    // A few shapes with everything else in all combinations.
    for (n, d, m) in by_effort(
        &[(5, 3, 7)][..],
        &[(5, 3, 7), (26, 9, 13), (17, 7, 97)],
        &[(5, 3, 7), (26, 9, 13), (17, 7, 97), (98, 4, 9), (49, 17, 31)],
    )
    .iter()
    .copied()
    {
        for shape in all_options(entry, Shape { n, d, m, ..Shape::default() }) {
            for class in Class::BITS {
                for offset in 0..offsets::<T>() {
                    push(rng, shape, class, Place::Left(offset));
                }
                push(rng, shape, class, Place::Right(0));
            }
        }
    }
    // Every shape at an edge with every class, the rest at random.
    for shape in edges().into_iter().step_by(by_effort(5, 1, 1)) {
        let classes = by_effort(1, Class::BITS.len(), Class::BITS.len());
        let first = rng.below(Class::BITS.len());
        for &class in Class::BITS.iter().cycle().skip(first).take(classes) {
            for _ in 0..by_effort(1, 1, 4) {
                let (shape, place) = (random_options(rng, shape), random_place::<T>(rng));
                push(rng, shape, class, place);
            }
        }
    }
    for (k, shape) in large().into_iter().take(by_effort(1, 5, 5)).enumerate() {
        // Others for each shape, so that none is left out.
        let step = by_effort(8, 3, 1);
        for shape in all_options(entry, shape).into_iter().skip(k % step).step_by(step) {
            let (class, place) = (rng.pick(&Class::BITS), random_place::<T>(rng));
            push(rng, shape, class, place);
        }
    }
    for _ in 0..by_effort(100, 20_000, 150_000) {
        let shape = random_shape(rng, by_effort(3_000, 30_000, 30_000));
        let (class, place) = (rng.pick(&Class::BITS), random_place::<T>(rng));
        push(rng, shape, class, place);
    }
    // Kernels of these families share most of their code, and chains take several steps a call: some of the cases each.
    let share = match entry.name.split('.').next() {
        Some("chain") => 3,
        Some("stein") => 5,
        _ => 1,
    };
    cases.into_iter().step_by(share).collect()
}

/// Cases whose arrays touch the pages that fault, over a grid of small shapes.
pub fn for_memory<T: Float>(rng: &mut Rng) -> Vec<Case> {
    let grid = |end: usize, step: usize| {
        let side = move || (0..end).step_by(step);
        side().flat_map(move |n| side().flat_map(move |d| side().map(move |m| (n, d, m))))
    };
    let mut sizes: Vec<_> = by_effort(grid(18, 4), grid(18, 1), grid(34, 1)).collect();
    for lanes in [8, 16, 24, 32, 48, TILE] {
        for len in [lanes - 1, lanes, lanes + 1] {
            sizes.extend([(len, 3, 5), (len, len, 5), (5, len, 3), (5, 3, len), (len, 2, len)]);
        }
    }
    let mut cases = Vec::new();
    let mut push = |rng: &mut Rng, (n, d, m), place| {
        let shape = random_options(rng, Shape { n, d, m, ..Shape::default() });
        cases.push(Case { shape, class: Class::Normal, place, seed: rng.next() });
    };
    for size in sizes {
        for place in [Place::Left(0), Place::Right(0)] {
            push(rng, size, place);
        }
    }
    // Every length in every role: next to the pages, and at one of the other offsets or at all.
    for len in (0..=257).step_by(by_effort(9, 1, 1)) {
        for size in [(len, 2, 3), (3, len, 2), (2, 3, len)] {
            let one = 1 + rng.below(offsets::<T>() - 1);
            for offset in 0..offsets::<T>() {
                if offset == 0 || offset == one || effort() == Effort::Large {
                    push(rng, size, Place::Left(offset));
                    push(rng, size, Place::Right(offset));
                }
            }
        }
    }
    cases
}

/// Cases in which the error bound means something: nothing overflows or underflows.
pub fn for_bound<T: Float>(rng: &mut Rng) -> Vec<Case> {
    let shapes: Vec<Shape> = edges()
        .into_iter()
        .step_by(by_effort(37, 3, 1))
        .chain(large().into_iter().take(by_effort(1, 5, 5)))
        .collect();
    let random = by_effort(20, 3_000, 30_000);
    let products = by_effort(2_000, 10_000, 10_000);
    let mut cases = Vec::new();
    for shape in shapes {
        for class in [Class::Normal, Class::Full, Class::Cancelling] {
            let (shape, place) = (random_options(rng, shape), random_place::<T>(rng));
            cases.push(Case { shape, class, place, seed: rng.next() });
        }
    }
    for _ in 0..random {
        let shape = random_shape(rng, products);
        let class = rng.pick(&[Class::Normal, Class::Full, Class::Cancelling]);
        cases.push(Case { shape, class, place: random_place::<T>(rng), seed: rng.next() });
    }
    cases
}

/// Cases in which no operation rounds, if the kernel adds and multiplies what it should:
/// multiples of 1/4, few enough of them for `f32`, and a power of two of neurons to divide by.
pub fn for_integers<T: Float>(rng: &mut Rng) -> Vec<Case> {
    let mut cases = Vec::new();
    for _ in 0..by_effort(100, 20_000, 100_000) {
        let shape = loop {
            let shape = random_shape(rng, by_effort(2_000, 10_000, 10_000));
            let m = shape.m.next_power_of_two();
            // Products of three values are multiples of 2^-6 below 27: 2^11 units.
            if (shape.d + 1) * shape.n.max(m) < (1 << (24 - 11)) {
                break Shape { m, ..shape };
            }
        };
        let place = random_place::<T>(rng);
        cases.push(Case { shape, class: Class::Dyadic, place, seed: rng.next() });
    }
    cases
}
