//! Samples of the streams' normals against the standard normal law and against independence, and
//! proof that the same checks find planted faults.

use crate::{
    parallel::{Merge, parallel},
    support::{Effort, Float, by_effort, effort, run_seed},
};
use gibbsite_kernels::{
    Isa, Real, RowsMut,
    noise::{self, STREAMS, Streams, reference},
};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Normals per stream: a block of sixteen streams stays in the L2 cache.
const COLS: usize = 1 << 12;
/// Base 2 logarithm of the normals of a block.
const BLOCK: u32 = 16;
const _: () = assert!(STREAMS * COLS == 1 << BLOCK);

/// The normals of sixteen neighbouring streams, a row for each.
struct Block<T>(Vec<T>);

impl<T: Real> Block<T> {
    fn new(index: u64) -> Self {
        let mut values = vec![T::ZERO; STREAMS * COLS];
        let out = RowsMut::new(&mut values, STREAMS, COLS).expect("a matrix");
        noise::normals(Isa::best(), &mut [Streams::new(run_seed(), first(index))], out);
        Self(values)
    }

    fn rows(&self) -> impl Iterator<Item = &[T]> {
        self.0.chunks_exact(COLS)
    }
}

/// The first stream of a block.
fn first(index: u64) -> u64 {
    index * STREAMS as u64
}

/// What is done to a block before it is looked at.
type Fault<T> = fn(&mut Block<T>, u64);

/// A check's finding.
struct Verdict {
    what: String,
    figure: String,
    holds: bool,
}

impl Verdict {
    /// A deviation in standard errors.
    fn errors(what: impl Into<String>, errors: f64) -> Self {
        let figure = format!("{errors:+.2} standard errors");
        Self { what: what.into(), figure, holds: errors.abs() < 5.0 }
    }

    /// Probabilities of values that are as small or smaller, and as large or larger.
    fn tails(what: impl Into<String>, [lower, upper]: [f64; 2]) -> Self {
        let figure = format!("p = {upper:.3e}");
        Self { what: what.into(), figure, holds: lower.min(upper) >= 1e-6 }
    }
}

/// What is summed over blocks, and what that says.
trait Statistic<T>: Merge {
    fn add(&mut self, block: &Block<T>);
    fn verdicts(&self) -> Vec<Verdict>;
}

/// Verdicts on a sample of 2^`size` normals.
fn verdicts<T: Float, S: Statistic<T>>(size: u32, fault: Fault<T>) -> Vec<Verdict> {
    let found: S = parallel(1 << (size - BLOCK), |found: &mut S, i| {
        let mut block = Block::new(i);
        fault(&mut block, i);
        found.add(&block);
    });
    found.verdicts()
}

/// Everything holds for the streams as they are.
fn holds<T: Float, S: Statistic<T>>(size: u32) {
    let verdicts = verdicts::<T, S>(size, |_, _| ());
    for Verdict { what, figure, .. } in &verdicts {
        println!("{}, 2^{size}: {what}: {figure}", T::NAME);
    }
    let failed = verdicts.iter().find(|verdict| !verdict.holds);
    let failed = failed.map(|verdict| format!("{}: {}", verdict.what, verdict.figure));
    assert_eq!(failed, None, "{}, GIBBSITE_TEST_SEED={}", T::NAME, run_seed());
}

/// The check `by` does not hold for faulty streams.
fn catches<T: Float, S: Statistic<T>>(by: &str, size: u32, fault: Fault<T>) {
    if effort() == Effort::Small {
        println!("{}: the sample is too small for this fault", T::NAME);
        return;
    }
    let verdicts = verdicts::<T, S>(size, fault);
    let verdict = verdicts.iter().find(|verdict| verdict.what == by).expect("a check of that name");
    println!("{}, 2^{size}, faulty: {by}: {}", T::NAME, verdict.figure);
    assert!(!verdict.holds, "{}: {by} did not find the fault: {}", T::NAME, verdict.figure);
}

/// The law's probability of values above x.
fn above(x: f64) -> f64 {
    0.5 * core_math::erfc(x * FRAC_1_SQRT_2)
}

/// Lower and upper tail of the chi-square law, by Wilson and Hilferty's approximation.
fn chi_square_tails(x: f64, freedom: f64) -> [f64; 2] {
    let variance = 2.0 / (9.0 * freedom);
    let z = ((x / freedom).cbrt() - (1.0 - variance)) / variance.sqrt();
    [above(-z), above(z)]
}

/// Lower and upper tail of Kolmogorov's law.
fn kolmogorov_tails(x: f64) -> [f64; 2] {
    let terms = (1..=20).map(f64::from);
    if x < 1.0 {
        let term = |k: f64| (-((2.0 * k - 1.0) * PI / x).powi(2) / 8.0).exp();
        let lower = (2.0 * PI).sqrt() / x * terms.map(term).sum::<f64>();
        [lower, 1.0 - lower]
    } else {
        let term = |k: f64| -2.0 * (k * PI).cos() * (-2.0 * (k * x).powi(2)).exp();
        let upper: f64 = terms.map(term).sum();
        [1.0 - upper, upper]
    }
}

/// Lower and upper tail of a count of events of probability `p` in `n` trials.
fn count_tails(count: u64, n: f64, p: f64) -> [f64; 2] {
    let mean = n * p;
    if mean > 1e4 {
        let z = (count as f64 - mean) / (mean * (1.0 - p)).sqrt();
        return [above(-z), above(z)];
    }
    // Poisson's law; from 10^4 on it is normal to the digits that matter.
    let (mut below, mut term) = (0.0, (-mean).exp());
    let mut log = -mean;
    for k in 0..count {
        below += term;
        log += (mean / (k + 1) as f64).ln();
        term = log.exp();
    }
    [below + term, 1.0 - below]
}

#[test]
fn tails_are_those_of_tables() {
    let close = |[lower, upper]: [f64; 2], expected: f64| {
        assert!((upper / expected - 1.0).abs() < 2e-2, "{upper} against {expected}");
        assert!((lower + upper - 1.0).abs() < 0.2, "{lower} and {upper}");
    };
    close([above(-3.0), above(3.0)], 1.3499e-3);
    close(chi_square_tails(4095.0, 4095.0), 0.4971);
    close(chi_square_tails(149.449, 100.0), 1e-3);
    close(kolmogorov_tails(1.3581), 0.05);
    close(kolmogorov_tails(0.8276), 0.5);
    close(kolmogorov_tails(1.9495), 1e-3);
    close(count_tails(5, 1e9, 1e-9), 3.660e-3);
    close(count_tails(1_003_000, 1e9, 1e-3), 1.3433e-3);
}

/// Counts beyond each half of a standard deviation, and where a radius from 24 bits ends.
#[derive(Default)]
struct Tails {
    total: u64,
    /// Between one edge and the next, below 0 and above.
    counts: [[u64; EDGES.len()]; 2],
}

const EDGES: [f64; 15] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 5.77, 6.0, 6.5];
/// The edge at 3.
const FAR: usize = 6;

impl Merge for Tails {
    fn merge(&mut self, other: Self) {
        self.total += other.total;
        let counts = self.counts.as_flattened_mut().iter_mut();
        for (count, other) in counts.zip(other.counts.as_flattened()) {
            *count += other;
        }
    }
}

impl Tails {
    fn count(&mut self, z: f64) {
        let edge = EDGES.partition_point(|&edge| edge <= z.abs());
        self.counts[usize::from(z.is_sign_positive())][edge - 1] += 1;
    }

    /// On edges from number `from` on.
    fn verdicts(&self, from: usize) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (i, edge) in EDGES.into_iter().enumerate().skip(from) {
            let n = self.total as f64;
            let [below, above_zero] = self.counts.map(|counts| counts[i..].iter().sum::<u64>());
            for (what, count, p) in [
                (format!("z < -{edge}"), below, above(edge)),
                (format!("z > {edge}"), above_zero, above(edge)),
                (format!("|z| > {edge}"), below + above_zero, 2.0 * above(edge)),
            ] {
                if p < 1.0 {
                    let mut verdict = Verdict::tails(what, count_tails(count, n, p));
                    verdict.figure += &format!(", {count} where {:.1} are expected", n * p);
                    verdicts.push(verdict);
                }
            }
        }
        verdicts
    }
}

/// Tails of samples so large that only values far out are looked at.
#[derive(Default)]
struct FarTails(Tails);

impl Merge for FarTails {
    fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

impl<T: Float> Statistic<T> for FarTails {
    fn add(&mut self, block: &Block<T>) {
        let far = T::from_f64(EDGES[FAR]);
        self.0.total += block.0.len() as u64;
        for chunk in block.0.chunks_exact(16) {
            if chunk.iter().fold(false, |any, z| any | (z.abs() >= far)) {
                let values = chunk.iter().filter(|z| z.abs() >= far);
                values.for_each(|z| self.0.count(z.to_f64()));
            }
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        self.0.verdicts(FAR)
    }
}

/// Cells of equal probability.
const CELLS: usize = 1 << 12;
/// Of these, the points at which distribution functions are compared.
const POINTS: usize = 1 << 20;

/// The distribution of single values.
struct Law {
    points: Vec<u64>,
    tails: Tails,
}

impl Default for Law {
    fn default() -> Self {
        Self { points: vec![0; POINTS], tails: Tails::default() }
    }
}

impl Merge for Law {
    fn merge(&mut self, other: Self) {
        self.tails.merge(other.tails);
        for (count, other) in self.points.iter_mut().zip(other.points) {
            *count += other;
        }
    }
}

impl<T: Float> Statistic<T> for Law {
    fn add(&mut self, block: &Block<T>) {
        self.tails.total += block.0.len() as u64;
        for z in &block.0 {
            let z = z.to_f64();
            let point = (above(-z) * POINTS as f64) as usize;
            self.points[point.min(POINTS - 1)] += 1;
            self.tails.count(z);
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let n = self.tails.total as f64;
        let expected = n / CELLS as f64;
        let cells = self.points.chunks_exact(POINTS / CELLS).map(|cell| cell.iter().sum::<u64>());
        let chi_square = cells.map(|count| (count as f64 - expected).powi(2) / expected).sum();

        let (mut sum, mut distance) = (0, 0.0_f64);
        for (k, count) in self.points.iter().enumerate() {
            sum += count;
            distance = distance.max((sum as f64 / n - (k + 1) as f64 / POINTS as f64).abs());
        }
        let mut verdicts = vec![
            Verdict::tails("chi-square", chi_square_tails(chi_square, (CELLS - 1) as f64)),
            Verdict::tails("Kolmogorov-Smirnov", kolmogorov_tails(distance * n.sqrt())),
        ];
        verdicts.extend(self.tails.verdicts(0));
        verdicts
    }
}

/// Sums of powers 1 to 8.
#[derive(Default)]
struct Moments {
    total: u64,
    sums: [f64; 8],
}

impl Merge for Moments {
    fn merge(&mut self, other: Self) {
        self.total += other.total;
        for (sum, other) in self.sums.iter_mut().zip(other.sums) {
            *sum += other;
        }
    }
}

impl<T: Float> Statistic<T> for Moments {
    fn add(&mut self, block: &Block<T>) {
        self.total += block.0.len() as u64;
        // In lanes, for speed.
        let mut sums = [[0.0; 8]; 8];
        for z in block.0.as_chunks::<8>().0 {
            let z = z.map(T::to_f64);
            let mut power = z;
            for sums in &mut sums {
                for i in 0..8 {
                    sums[i] += power[i];
                    power[i] *= z[i];
                }
            }
        }
        for (sum, lanes) in self.sums.iter_mut().zip(sums) {
            *sum += lanes.iter().sum::<f64>();
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        // The law's moments: 0, 1, 0, 3, 0, 15, ..
        let moment = |k: usize| match k % 2 {
            1 => 0.0,
            _ => (1..k).step_by(2).map(|i| i as f64).product::<f64>(),
        };
        let n = self.total as f64;
        let verdict = |k: usize| {
            let error = ((moment(2 * k) - moment(k).powi(2)) / n).sqrt();
            Verdict::errors(format!("moment {k}"), (self.sums[k - 1] / n - moment(k)) / error)
        };
        (1..=8).map(verdict).collect()
    }
}

/// Lags within a stream.
const LAGS: usize = 64;

/// A sum of products of independent values, and how many.
#[derive(Clone, Copy, Default)]
struct Products {
    sum: f64,
    count: usize,
}

impl Products {
    /// Of values of variance 1 and mean 0.
    fn of(a: &[f64], b: &[f64]) -> Self {
        // In lanes, for speed.
        let mut lanes = [0.0; 8];
        let ((a_lanes, a_rest), (b_lanes, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
        for (a, b) in a_lanes.iter().zip(b_lanes) {
            for i in 0..8 {
                lanes[i] += a[i] * b[i];
            }
        }
        let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
        Self { sum: lanes.iter().sum::<f64>() + rest.sum::<f64>(), count: a.len() }
    }

    fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    /// The correlation in standard errors.
    fn errors(self) -> f64 {
        self.sum / (self.count as f64).sqrt()
    }
}

/// Correlations within pairs, within streams and between neighbouring streams.
struct Correlations {
    pairs: Products,
    squares: Products,
    lags: [Products; LAGS],
    neighbours: Products,
    /// The largest correlation of two streams, and how many there were.
    worst: f64,
    streams: u64,
}

impl Default for Correlations {
    fn default() -> Self {
        let none = Products::default();
        let lags = [none; LAGS];
        Self { pairs: none, squares: none, lags, neighbours: none, worst: 0.0, streams: 0 }
    }
}

impl Merge for Correlations {
    fn merge(&mut self, other: Self) {
        self.pairs.add(other.pairs);
        self.squares.add(other.squares);
        self.neighbours.add(other.neighbours);
        self.lags.iter_mut().zip(other.lags).for_each(|(lag, other)| lag.add(other));
        self.worst = self.worst.max(other.worst);
        self.streams += other.streams;
    }
}

impl<T: Float> Statistic<T> for Correlations {
    fn add(&mut self, block: &Block<T>) {
        let mut previous: Option<Vec<f64>> = None;
        for row in block.rows() {
            let row: Vec<_> = row.iter().map(|z| z.to_f64()).collect();
            for (k, lag) in self.lags.iter_mut().enumerate() {
                lag.add(Products::of(&row[..COLS - k - 1], &row[k + 1..]));
            }
            let [x, y] = [0, 1].map(|i| row[i..].iter().copied().step_by(2).collect::<Vec<_>>());
            self.pairs.add(Products::of(&x, &y));
            // z² has the mean 1 and the variance 2.
            let [x, y] = [x, y].map(|z| -> Vec<_> {
                z.into_iter().map(|z| (z * z - 1.0) * FRAC_1_SQRT_2).collect()
            });
            self.squares.add(Products::of(&x, &y));
            if let Some(previous) = previous {
                let products = Products::of(&previous, &row);
                self.neighbours.add(products);
                self.worst = self.worst.max(products.errors().abs());
                self.streams += 1;
            }
            previous = Some(row);
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let lags = self.lags.iter().map(|lag| lag.errors());
        let largest = lags.reduce(|a, b| if b.abs() > a.abs() { b } else { a });
        let worst = 2.0 * above(self.worst) * self.streams as f64;
        vec![
            Verdict::errors("correlation of pairs", self.pairs.errors()),
            Verdict::errors("correlation of squares of pairs", self.squares.errors()),
            Verdict::errors("lags 1 to 64", largest.expect("lags")),
            Verdict::errors("neighbouring streams", self.neighbours.errors()),
            Verdict::tails("most similar streams", [1.0, worst.min(1.0)]),
        ]
    }
}

#[test]
fn law_of_values() {
    holds::<f32, Law>(by_effort(18, 24, 32));
    holds::<f64, Law>(by_effort(18, 24, 32));
}

#[test]
fn moments() {
    holds::<f32, Moments>(by_effort(18, 28, 32));
    holds::<f64, Moments>(by_effort(18, 28, 32));
}

#[test]
fn correlations() {
    holds::<f32, Correlations>(by_effort(18, 24, 32));
    holds::<f64, Correlations>(by_effort(18, 24, 32));
}

#[test]
fn tails() {
    holds::<f32, FarTails>(by_effort(18, 31, 34));
    holds::<f64, FarTails>(by_effort(18, 28, 33));
}

#[test]
fn finds_scaled_noise() {
    fn fault<T: Real>(block: &mut Block<T>, _: u64) {
        let scale = T::from_f64(1.0005);
        block.0.iter_mut().for_each(|z| *z = scale * *z);
    }
    catches::<f32, Moments>("moment 2", 28, fault);
    catches::<f64, Moments>("moment 2", 28, fault);
}

#[test]
fn finds_a_shifted_mean() {
    fn fault<T: Real>(block: &mut Block<T>, _: u64) {
        let shift = T::from_f64(1e-3);
        block.0.iter_mut().for_each(|z| *z = *z + shift);
    }
    catches::<f32, Moments>("moment 1", 28, fault);
    catches::<f64, Moments>("moment 1", 28, fault);
}

/// Where a radius from 24 random bits ends them.
#[test]
fn finds_cut_tails() {
    fn fault(block: &mut Block<f32>, _: u64) {
        block.0.iter_mut().for_each(|z| *z = z.clamp(-5.768, 5.768));
    }
    catches::<f32, FarTails>("|z| > 5.77", 31, fault);
}

#[test]
fn finds_reused_noise() {
    fn fault<T: Real>(block: &mut Block<T>, _: u64) {
        for row in block.0.chunks_exact_mut(COLS) {
            (LAGS..COLS).step_by(LAGS).for_each(|i| row[i] = row[i - LAGS]);
        }
    }
    catches::<f32, Correlations>("lags 1 to 64", 24, fault);
    catches::<f64, Correlations>("lags 1 to 64", 24, fault);
}

#[test]
fn finds_a_stuck_sign() {
    fn fault<T: Real>(block: &mut Block<T>, _: u64) {
        block.0.iter_mut().step_by(2).for_each(|z| *z = z.abs());
    }
    catches::<f32, Law>("chi-square", 24, fault);
    catches::<f64, Law>("chi-square", 24, fault);
    catches::<f32, Law>("Kolmogorov-Smirnov", 24, fault);
    catches::<f32, Moments>("moment 1", 24, fault);
}

/// One integer gives radius and angle.
#[test]
fn finds_a_radius_reused_as_angle() {
    fn fault<T: Real>(block: &mut Block<T>, index: u64) {
        let numbers = first(index)..;
        for (row, number) in block.0.chunks_exact_mut(COLS).zip(numbers) {
            let mut state = reference::start(run_seed(), number);
            for pair in row.as_chunks_mut::<2>().0 {
                let word = reference::next(&mut state);
                let half = word >> (64 - T::WIDTH);
                *pair = T::pair([half; 2]);
            }
        }
    }
    catches::<f32, Law>("chi-square", 20, fault);
    catches::<f64, Law>("chi-square", 20, fault);
    catches::<f32, Correlations>("correlation of squares of pairs", 20, fault);
}

/// Among a thousand.
#[test]
fn finds_two_streams_that_are_the_same() {
    fn fault<T: Real>(block: &mut Block<T>, index: u64) {
        if index == 1 {
            block.0.copy_within(3 * COLS..4 * COLS, 4 * COLS);
        }
    }
    catches::<f32, Correlations>("most similar streams", 24, fault);
    catches::<f64, Correlations>("most similar streams", 24, fault);
}
