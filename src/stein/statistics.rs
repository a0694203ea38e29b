//! Estimates of KSD², and tests.

use super::{Gram, Progress, SteinKernel, gram::RowSums};
use crate::{Error, Real, Result, Rows, data, random::Stream};
use gibbsite_kernels::stein::{Kernel, Signs};

/// How KSD² is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Statistic {
    /// The mean over all pairs, n^-2 Σ_ij u_ij: negative by rounding alone, biased upwards by the diagonal.
    #[default]
    V,
    /// The mean over pairs of different points, (n(n-1))^-1 Σ_(i≠j) u_ij: unbiased, may be negative.
    U,
}

/// An estimate of KSD².
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ksd {
    /// The estimate of KSD².
    pub squared: f64,
    /// Its standard error by the jackknife; means something where the points are not from the density, since the limit law
    /// under it is not normal. `None` for fewer than three points.
    pub std_error: Option<f64>,
    /// Which estimate.
    pub statistic: Statistic,
}

/// KSD² between points x (n×d) and the density that has the scores (n×d) there.
///
/// Costs about 4 n² d flops.
///
/// # Errors
/// As [`Gram::new`]; if a U-statistic is asked of a single point, or values are so large that the result overflows.
pub fn ksd<T: Real>(
    kernel: &SteinKernel,
    x: Rows<'_, T>,
    score: Rows<'_, T>,
    statistic: Statistic,
) -> Result<Ksd> {
    Gram::new(kernel, x, score)?.ksd(statistic, &mut |_| {})
}

impl<T: Real> Gram<T> {
    /// KSD²; see [`ksd`].
    ///
    /// # Errors
    /// As [`ksd`].
    pub fn ksd(&self, statistic: Statistic, progress: Progress<'_>) -> Result<Ksd> {
        check_count(statistic, self.points())?;
        estimate(&self.partial_row_sums(progress), statistic)
    }
}

fn estimate(sums: &RowSums, statistic: Statistic) -> Result<Ksd> {
    let n = sums.diagonal.len();
    let of_row = |i: usize| match statistic {
        Statistic::V => sums.of_row(i),
        Statistic::U => sums.below[i] + sums.above[i],
    };
    let total: f64 = (0..n).map(of_row).sum();
    let squared = finite(total / pairs(statistic, n))?;
    // The estimates without one point.
    let std_error = (n > 2).then(|| {
        let left: Vec<f64> = (0..n)
            .map(|i| {
                let diagonal = if statistic == Statistic::V { sums.diagonal[i] } else { 0.0 };
                (total - 2.0 * of_row(i) + diagonal) / pairs(statistic, n - 1)
            })
            .collect();
        let mean = left.iter().sum::<f64>() / n as f64;
        finite(root_of_squares(&left, mean, |squares| squares * (n - 1) as f64 / n as f64))
    });
    Ok(Ksd { squared, std_error: std_error.transpose()?, statistic })
}

/// The root of a multiple of Σ (value - mean)², also where squares would be beyond the range of numbers.
fn root_of_squares(values: &[f64], mean: f64, multiple: impl Fn(f64) -> f64) -> f64 {
    let largest = values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
    // A power of two leaves the digits as they are.
    let (_, exponent) = libm::frexp(largest);
    let scaled = |value: &f64| libm::scalbn(value - mean, -exponent).powi(2);
    libm::scalbn(multiple(values.iter().map(scaled).sum()).sqrt(), exponent)
}

/// [`ksd`] of points that are too many for memory: `load` gives one of `parts` parts of them after the other, x and scores (of d
/// columns), from a file say, and is asked for part b again with every part after it. Holds two parts and four numbers for each
/// point.
///
/// # Errors
/// As [`ksd`], whatever `load` returns, if there are no parts, for a kernel with a metric, if parts differ in dimension, or if one is
/// not what it was when it was asked for before.
pub fn ksd_in_parts<T: Real>(
    kernel: &SteinKernel,
    parts: usize,
    mut load: impl FnMut(usize) -> Result<(Vec<T>, Vec<T>)>,
    d: usize,
    statistic: Statistic,
    progress: Progress<'_>,
) -> Result<Ksd> {
    if parts == 0 || d == 0 {
        return Err(Error::Zero { what: "the number of parts, or the dimension" });
    }
    if u32::try_from(parts).is_err() {
        return Err(Error::Memory { what: "number of parts", got: parts });
    }
    if kernel.has_metric() {
        // Points are centred by the mean of all, which no part knows.
        return Err(Error::parameter("metric", "absent for points in parts", "one"));
    }
    let mut gram = |part: usize| -> Result<Gram<T>> {
        let (x, score) = load(part)?;
        let rows = |data| Ok::<_, Error>(Rows::new(data, <[T]>::len(data) / d, d)?);
        Gram::new(kernel, rows(&x)?, rows(&score)?)
    };
    let whole = parts as f64 * parts as f64;
    let mut sums = RowSums::default();
    let mut earlier = Vec::new();
    for a in 0..parts {
        let later = gram(a)?;
        let own = later.partial_row_sums(&mut |share| progress(((a * a) as f64 + share) / whole));
        let start = sums.diagonal.len();
        sums.below.extend(own.below);
        sums.diagonal.extend(own.diagonal);
        sums.above.extend(own.above);
        for (b, &(first, fingerprint)) in earlier.iter().enumerate() {
            let mut progress =
                |share: f64| progress(((a * a + 1 + 2 * b) as f64 + 2.0 * share) / whole);
            let again = gram(b)?;
            if again.fingerprint() != fingerprint {
                let got = format!("another part {b}");
                return Err(Error::parameter("parts", "the same whenever asked for", got));
            }
            let [of_rows, of_cols] = again.cross_sums(&later, &mut progress);
            sums.above[first..].iter_mut().zip(of_rows).for_each(|(sum, part)| *sum += part);
            sums.below[start..].iter_mut().zip(of_cols).for_each(|(sum, part)| *sum += part);
        }
        earlier.push((start, later.fingerprint()));
    }
    check_count(statistic, sums.diagonal.len())?;
    progress(1.0);
    estimate(&sums, statistic)
}

pub(super) fn check_count(statistic: Statistic, n: usize) -> Result<()> {
    match (statistic, n) {
        (Statistic::U, 1) => {
            Err(Error::parameter("number of points", "at least 2 for a U-statistic", n))
        }
        _ => Ok(()),
    }
}

fn finite(value: f64) -> Result<f64> {
    let expected = "finite (points or scores are too large, or a bandwidth too small)";
    data::finite("KSD", expected, value)
}

/// Number of terms of a mean over pairs.
fn pairs(statistic: Statistic, n: usize) -> f64 {
    let n = n as f64;
    match statistic {
        Statistic::V => n * n,
        Statistic::U => n * (n - 1.0),
    }
}

/// KSD² from blocks of points, with a normal limit law; see [`ksd_blocks`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BlockKsd {
    /// The mean of the blocks' U-statistics.
    pub squared: f64,
    /// Its standard error.
    pub std_error: f64,
    /// One-sided p-value of the hypothesis that KSD² is 0, by Student's law: as if the values of blocks were normal.
    pub p_value: f64,
    /// Number of blocks.
    pub blocks: usize,
}

/// KSD² as the mean of U-statistics of disjoint blocks of `size` points, in order; points of a last block that is not full are
/// left out. Costs size/n of what all pairs cost: with 2 it is the linear-time estimate of Liu, Lee and Jordan (2016), and the fewer
/// pairs, the less a test sees.
///
/// # Errors
/// As [`Gram::new`], if `size` is below 2, there are fewer than two blocks, or values overflow.
pub fn ksd_blocks<T: Real>(
    kernel: &SteinKernel,
    x: Rows<'_, T>,
    score: Rows<'_, T>,
    size: usize,
) -> Result<BlockKsd> {
    if size < 2 {
        return Err(Error::parameter("size of a block", "at least 2", size));
    }
    let gram = Gram::new(kernel, x, score)?;
    let blocks = gram.points() / size;
    if blocks < 2 {
        return Err(Error::parameter("number of blocks", "at least 2", blocks));
    }
    let mut values = Vec::with_capacity(blocks);
    for b in 0..blocks {
        let numbers: Vec<usize> = (b * size..(b + 1) * size).collect();
        values.push(gram.select(&numbers).ksd(Statistic::U, &mut |_| {})?.squared);
    }
    let count = blocks as f64;
    let squared = finite(values.iter().sum::<f64>() / count)?;
    let variance = |squares| squares / (count - 1.0) / count;
    let std_error = finite(root_of_squares(&values, squared, variance))?;
    let p_value = match std_error > 0.0 {
        true => student_tail(squared / std_error, blocks - 1),
        // Equal values, of equal points say, leave nothing to chance.
        false if squared > 0.0 => 0.0,
        false => 1.0,
    };
    Ok(BlockKsd { squared, std_error, p_value, blocks })
}

/// The probability that Student's t of these degrees of freedom is above t.
fn student_tail(t: f64, freedom: usize) -> f64 {
    let (half, square) = (0.5 * freedom as f64, t * t / freedom as f64);
    let beyond = 0.5 * incomplete_beta(half, 0.5, 1.0 / (1.0 + square), square / (1.0 + square));
    if t > 0.0 { beyond } else { 1.0 - beyond }
}

/// The regularised incomplete beta function at x = 1 - `rest`, by its continued fraction (Abramowitz and Stegun 1964, 26.5.8),
/// where this converges fast, with small values precise to their own size.
fn incomplete_beta(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    match x > (a + 1.0) / (a + b + 2.0) {
        true => 1.0 - beta_fraction(b, a, rest, x),
        false => beta_fraction(a, b, x, rest),
    }
}

fn beta_fraction(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    if x == 0.0 {
        return 0.0;
    }
    let log_beta = libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b);
    let front = libm::exp(a * libm::log(x) + b * libm::log(rest) - log_beta) / a;
    // One more than the fraction, from the top down (Lentz's method).
    let (mut c, mut d, mut value) = (1.0, 0.0, 1.0);
    for k in 0..10_000 {
        let m = f64::from(k / 2);
        let numerator = match k {
            0 => 1.0,
            _ if k % 2 == 0 => m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            _ => -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        };
        d = 1.0 / (1.0 + numerator * d);
        c = 1.0 + numerator / c;
        value *= c * d;
        if (c * d - 1.0_f64).abs() < 1e-15 {
            break;
        }
    }
    front * (value - 1.0)
}

impl<T: Real> Gram<T> {
    /// KSD of the first k points, V-statistics, for k = 1..=n.
    ///
    /// # Errors
    /// If values overflow.
    pub fn ksd_trace(&self, progress: Progress<'_>) -> Result<Vec<f64>> {
        let sums = self.partial_row_sums(progress);
        let mut total = 0.0;
        let steps = sums.below.iter().zip(&sums.diagonal).enumerate();
        steps
            .map(|(i, (below, diagonal))| {
                total += 2.0 * below + diagonal;
                // Before a NaN is taken for less than 0.
                Ok(finite(total)?.max(0.0).sqrt() / (i + 1) as f64)
            })
            .collect()
    }
}

/// The wild bootstrap: signs in place of draws from the null law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WildBootstrap {
    draws: usize,
    seed: u64,
    flip: f64,
}

/// Where signs are in the space of streams.
const SIGN_STREAM: u64 = 1 << 44;

impl WildBootstrap {
    /// This many draws, for independent points.
    pub fn new(draws: usize) -> Self {
        Self { draws, seed: 0, flip: 0.5 }
    }

    /// Seed of the signs; 0 if not said.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// For points of a Markov chain, in its order: a sign differs from the one before with this probability (Leucht and
    /// Neumann 2013; Chwialkowski, Strathmann and Gretton 2016). ½ is for independent points; 0.1 over the lag at which
    /// correlations have died out suits chains.
    pub fn correlated(self, flip: f64) -> Self {
        Self { flip, ..self }
    }

    /// Signs for n points, all positive in draw 0, which gives the statistic itself.
    fn signs(&self, n: usize) -> Result<Signs> {
        if self.draws == 0 {
            return Err(Error::Zero { what: "the number of bootstrap draws" });
        }
        if !(self.flip > 0.0 && self.flip <= 0.5) {
            let expected = "above 0 and at most 0.5";
            return Err(Error::parameter("probability of a change of sign", expected, self.flip));
        }
        let signs = self.draws.checked_add(1).and_then(|draws| Signs::try_positive(n, draws));
        let too_many = || Error::Memory { what: "number of bootstrap draws", got: self.draws };
        let mut signs = signs.ok_or_else(too_many)?;
        let mut bits = Stream::new(self.seed, SIGN_STREAM);
        for i in 0..n {
            let before: Vec<u64> = if i == 0 { Vec::new() } else { signs.words(i - 1).to_vec() };
            for (k, word) in signs.words_mut(i).iter_mut().enumerate() {
                *word = match before.get(k) {
                    Some(before) if self.flip < 0.5 => {
                        let flips = (0..64).map(|b| u64::from(bits.uniform() <= self.flip) << b);
                        before ^ flips.sum::<u64>()
                    }
                    _ => bits.bits(),
                };
            }
            signs.words_mut(i)[0] &= !1;
        }
        Ok(signs)
    }
}

/// A test of whether points are draws from a density.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KsdTest {
    /// The estimate of KSD².
    pub squared: f64,
    /// Which estimate.
    pub statistic: Statistic,
    /// (1 + number of draws that reach the statistic) / (1 + number of draws): under the null hypothesis, at most α with
    /// probability about α.
    pub p_value: f64,
    /// The bootstrap draws, of the same statistic.
    pub draws: Vec<f64>,
}

/// Goodness-of-fit test by a wild bootstrap of the KSD.
///
/// `n (n-1) U = n² V - Σ_i u_ii` holds for the statistic and for each of its draws, so that V and U have the same p-value.
///
/// Costs n² (4d + draws) flops and n·draws bits.
///
/// # Errors
/// As [`ksd`], for fewer than two points, if the bootstrap's options are out of range, or memory cannot hold its draws.
pub fn ksd_test<T: Real>(
    kernel: &SteinKernel,
    x: Rows<'_, T>,
    score: Rows<'_, T>,
    statistic: Statistic,
    bootstrap: &WildBootstrap,
) -> Result<KsdTest> {
    Gram::new(kernel, x, score)?.test(statistic, bootstrap, &mut |_| {})
}

impl<T: Real> Gram<T> {
    /// See [`ksd_test`].
    ///
    /// # Errors
    /// As [`ksd_test`].
    pub fn test(
        &self,
        statistic: Statistic,
        bootstrap: &WildBootstrap,
        progress: Progress<'_>,
    ) -> Result<KsdTest> {
        let mut tests = self.tests(&[self.kernel()], statistic, bootstrap, progress)?;
        Ok(tests.remove(0))
    }

    /// Tests by several kernels at these points, all with the same signs.
    fn tests(
        &self,
        kernels: &[Kernel<T>],
        statistic: Statistic,
        bootstrap: &WildBootstrap,
        progress: Progress<'_>,
    ) -> Result<Vec<KsdTest>> {
        let n = self.points();
        if n < 2 {
            return Err(Error::parameter("number of points", "at least 2 for a test", n));
        }
        let signs = bootstrap.signs(n)?;
        let sums = self.signed_sums(kernels, &signs, progress)?;
        let test = |(&kernel, sums): (&Kernel<T>, &[f64])| {
            let diagonal: f64 = match statistic {
                Statistic::V => self.diagonal_of(kernel).iter().map(|u| u.to_f64()).sum(),
                Statistic::U => 0.0,
            };
            let of_sum = |sum: &f64| finite((sum + diagonal) / pairs(statistic, n));
            let mut draws = sums.iter().map(of_sum).collect::<Result<Vec<f64>>>()?;
            let squared = draws.remove(0);
            // The diagonal, the same for all, may hide how they differ.
            let reached = sums[1..].iter().filter(|&&draw| draw >= sums[0]).count();
            let p_value = (1 + reached) as f64 / (1 + draws.len()) as f64;
            Ok(KsdTest { squared, statistic, p_value, draws })
        };
        kernels.iter().zip(sums.chunks_exact(signs.draws())).map(test).collect()
    }
}

/// Outcome of [`ksd_aggregated_test`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AggregatedTest {
    /// Whether the points are held not to be draws from the density.
    pub rejected: bool,
    /// The test of each kernel.
    pub tests: Vec<KsdTest>,
    /// The share of the level at which each kernel is compared: the 1 - u/K quantile of its draws, K the number of kernels.
    pub u: f64,
    /// The quantiles.
    pub thresholds: Vec<f64>,
}

/// The aggregated test of Schrab, Guedj and Gretton (KSDAgg, 2022): rejects if the U-statistic of any kernel is above its
/// threshold, with thresholds such that together they reject a true density with probability `level`. With kernels of several
/// bandwidths, none has to be chosen.
///
/// Half of the draws find thresholds, the other half the share of the level; with too few draws for the number of kernels, even their
/// largest are exceeded too often, and the test never rejects (`u` is 0): some hundreds are needed. Neighbours in the list that differ in their bandwidth
/// alone share one pass over the coordinates of all pairs.
///
/// # Errors
/// As [`ksd_test`], or if there are no kernels, fewer than 2 draws, or `level` is not within 0 to 1.
pub fn ksd_aggregated_test<T: Real>(
    kernels: &[SteinKernel],
    x: Rows<'_, T>,
    score: Rows<'_, T>,
    level: f64,
    bootstrap: &WildBootstrap,
) -> Result<AggregatedTest> {
    /// Steps of the bisection: more than digits of a number.
    const BISECTIONS: usize = 60;
    if kernels.is_empty() {
        return Err(Error::Zero { what: "the number of kernels" });
    }
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::parameter("level", "between 0 and 1", level));
    }
    if bootstrap.draws < 2 {
        let expected = "at least 2, for thresholds and for the share of the level";
        return Err(Error::parameter("bootstrap draws", expected, bootstrap.draws));
    }
    let half = bootstrap.draws.div_ceil(2);
    let mut tests = Vec::with_capacity(kernels.len());
    // The same signs for all kernels: their draws belong together.
    for kernels in kernels.chunk_by(SteinKernel::shares_points) {
        // Points that do for the smallest bandwidth do for all.
        let smallest = kernels.iter().min_by(|a, b| a.bandwidth().total_cmp(&b.bandwidth()));
        let gram = Gram::new(smallest.expect("no chunk is empty"), x, score)?;
        let kernels: Vec<Kernel<T>> =
            kernels.iter().map(SteinKernel::of_type).collect::<Result<_>>()?;
        kernels.iter().try_for_each(|&kernel| gram.check_digits(kernel))?;
        tests.extend(gram.tests(&kernels, Statistic::U, bootstrap, &mut |_| {})?);
    }
    // The statistic itself is one of the draws under the null hypothesis.
    let sorted: Vec<Vec<f64>> = tests
        .iter()
        .map(|test| {
            let mut draws = test.draws[..half].to_vec();
            draws.push(test.squared);
            draws.sort_by(f64::total_cmp);
            draws
        })
        .collect();
    let share = |u: f64| u / kernels.len() as f64;
    let quantile = |draws: &[f64], u: f64| {
        let place = (draws.len() as f64 * (1.0 - share(u))).ceil() as usize;
        draws[place.clamp(1, draws.len()) - 1]
    };
    let others = bootstrap.draws - half;
    let rejections = |u: f64| {
        let exceeds = |b: usize| {
            tests
                .iter()
                .zip(&sorted)
                .any(|(test, sorted)| test.draws[half + b] > quantile(sorted, u))
        };
        (0..others).filter(|&b| exceeds(b)).count() as f64 / others as f64
    };
    // The largest share that keeps the level.
    let (mut low, mut high) = (0.0, kernels.len() as f64);
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        match rejections(middle) <= level {
            true => low = middle,
            false => high = middle,
        }
    }
    let thresholds: Vec<f64> = sorted.iter().map(|draws| quantile(draws, low)).collect();
    let rejected = tests.iter().zip(&thresholds).any(|(test, &threshold)| test.squared > threshold);
    Ok(AggregatedTest { rejected, tests, u: low, thresholds })
}

#[cfg(test)]
mod tests {
    use super::student_tail;

    /// Against tables and, far out and for large ones, against exact values and the normal law.
    #[test]
    fn tails_are_those_of_student() {
        for (t, freedom, tail) in [
            (6.314, 1, 0.05),
            (31.821, 1, 0.01),
            (2.920, 2, 0.05),
            (-2.353, 3, 0.95),
            (2.228, 10, 0.025),
            (3.169, 10, 0.005),
            (2.581, 150, 0.005405),
            (0.0, 7, 0.5),
            // Where both sides are beyond their switch by rounding.
            (1.6431676725154984, 18, 0.058855),
            (1e8, 1, 1e-8 / std::f64::consts::PI),
            (1e8, 2, 0.5e-16),
            (13.0, 99, 1.9539e-23),
            (2.0, 1_000_000, 0.0227503),
        ] {
            let ours = student_tail(t, freedom);
            assert!((ours / tail - 1.0).abs() < 2e-3, "{t} {freedom}: {ours} against {tail}");
        }
    }
}
