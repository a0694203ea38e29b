//! Convergence diagnostics for Markov chain Monte Carlo.
//!
//! [`Draws`] works on stored draws of one scalar quantity: rank-normalised split R-hat, effective
//! sample sizes (ESS), the Monte Carlo standard error (MCSE) of the mean and autocorrelations.
//! [`RunningDiagnostics`] watches every coordinate of a set of chains while they run and stores no
//! draws.
//!
//! Throughout, `M` is the number of chains, `N` the number of draws in each and `S = M N`. Equation
//! and section numbers refer to A. Vehtari, A. Gelman, D. Simpson, B. Carpenter and P.-C. Bürkner,
//! "Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of
//! MCMC", Bayesian Analysis 16(2), 2021, pp. 667-718, doi:10.1214/20-BA1221.
//!
//! All sums run in a fixed order and all transcendental functions come from `libm`, so a result
//! depends on the draws alone, not on the platform or on the number of threads that made them.
//!
//! A quantity that never changes has no R-hat, ESS or MCSE; these are then NaN. For stored draws,
//! the mean ESS and the MCSE are also NaN if squares of the draws overflow or those of their spread
//! underflow; the diagnostics by ranks are not affected.

use std::error::Error;
use std::f64::consts::PI;
use std::fmt;

/// Why a set of draws or a batch of states was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiagnosticsError {
    /// There is no chain, or a state has no coordinate.
    NoChains,
    /// The chains have different lengths.
    UnequalLengths,
    /// The chains have fewer than four draws, so that a half has no variance.
    TooFewDraws,
    /// The number of values is not the number of chains times their length or dimension.
    WrongLength,
    /// A value is NaN or infinite. `index` is the draw within the chain for [`Draws`] and the
    /// coordinate for [`RunningDiagnostics`].
    NotFinite {
        /// The chain, counted from 0.
        chain: usize,
        /// The draw or the coordinate, counted from 0.
        index: usize,
    },
}

impl fmt::Display for DiagnosticsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChains => write!(f, "no chain or no coordinate"),
            Self::UnequalLengths => write!(f, "the chains have different lengths"),
            Self::TooFewDraws => write!(f, "fewer than four draws in each chain"),
            Self::WrongLength => write!(f, "the number of values does not fit the chains"),
            Self::NotFinite { chain, index } => {
                write!(f, "value {index} of chain {chain} is not finite")
            }
        }
    }
}

impl Error for DiagnosticsError {}

/// Borrowed draws of one scalar quantity: `M >= 1` chains of `N >= 4` finite draws each.
///
/// Every diagnostic but the mean and the standard deviation works on split chains: the first and
/// the last `N / 2` draws of each chain count as chains of their own, so that a drift within a
/// chain shows as a difference between chains (Section 3.1). If `N` is odd the middle draw is left
/// out.
#[derive(Clone, Debug)]
pub struct Draws<'a> {
    chains: Vec<&'a [f64]>,
}

/// All scalar diagnostics of one quantity; see the methods of [`Draws`] with the same names.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Mean of all draws.
    pub mean: f64,
    /// Standard deviation of all draws.
    pub sd: f64,
    /// Monte Carlo standard error of the mean.
    pub mcse_mean: f64,
    /// Rank-normalised split R-hat.
    pub r_hat: f64,
    /// Effective sample size in the bulk.
    pub ess_bulk: f64,
    /// Effective sample size in the tails.
    pub ess_tail: f64,
    /// Effective sample size for the mean.
    pub ess_mean: f64,
}

impl<'a> Draws<'a> {
    /// Takes one slice of draws, in the order of sampling, for each chain.
    ///
    /// # Errors
    /// If there are no chains, their lengths differ or are below 4, or a draw is not finite.
    pub fn new<C: AsRef<[f64]>>(chains: &'a [C]) -> Result<Self, DiagnosticsError> {
        Self::from_slices(chains.iter().map(AsRef::as_ref).collect())
    }

    /// Takes a chain-major array of shape (`chains`, `N`): draw `n` of chain `m` is
    /// `draws[m * N + n]`.
    ///
    /// # Errors
    /// As [`new`](Self::new), or if there are not equally many draws for each chain.
    pub fn from_flat(draws: &'a [f64], chains: usize) -> Result<Self, DiagnosticsError> {
        if chains == 0 {
            return Err(DiagnosticsError::NoChains);
        }
        if !draws.len().is_multiple_of(chains) {
            return Err(DiagnosticsError::WrongLength);
        }
        // `chunks_exact` needs a positive length; no draws at all are refused below.
        let length = (draws.len() / chains).max(1);
        let slices: Vec<&[f64]> = draws.chunks_exact(length).collect();
        if slices.is_empty() {
            return Err(DiagnosticsError::TooFewDraws);
        }
        Self::from_slices(slices)
    }

    fn from_slices(chains: Vec<&'a [f64]>) -> Result<Self, DiagnosticsError> {
        let length = chains.first().ok_or(DiagnosticsError::NoChains)?.len();
        if chains.iter().any(|chain| chain.len() != length) {
            return Err(DiagnosticsError::UnequalLengths);
        }
        if length < 4 {
            return Err(DiagnosticsError::TooFewDraws);
        }
        for (chain, draws) in chains.iter().enumerate() {
            if let Some(index) = draws.iter().position(|x| !x.is_finite()) {
                return Err(DiagnosticsError::NotFinite { chain, index });
            }
        }
        Ok(Self { chains })
    }

    /// Mean of all draws.
    pub fn mean(&self) -> f64 {
        mean_and_variance(self.values()).0
    }

    /// Standard deviation of all draws about their common mean, with divisor `S - 1`.
    pub fn sd(&self) -> f64 {
        libm::sqrt(mean_and_variance(self.values()).1)
    }

    /// Monte Carlo standard error of the mean: standard deviation / sqrt(mean ESS), from (5) with
    /// the number of draws replaced by the ESS.
    pub fn mcse_mean(&self) -> f64 {
        self.sd() / libm::sqrt(self.ess_mean())
    }

    /// Rank-normalised split R-hat: the larger of bulk and folded R-hat (Sections 4.1 and 4.2).
    ///
    /// Bulk R-hat sees chains with different locations. Folded R-hat, of the absolute deviations
    /// from the median (15), sees chains with different scales; the median is that of the split
    /// chains. If all deviations are equal, as for a balanced ±1 variable, only the bulk counts.
    /// The result is infinite if every half of a chain is constant but not all are equal. One
    /// chain is enough, but comparing its halves says little.
    pub fn r_hat(&self) -> f64 {
        self.r_hat_from(&rank_normalise(&self.split_values()))
    }

    /// ESS of the rank-normalised draws (Section 4.1): the efficiency in the bulk of the
    /// distribution, also if it has no mean or variance.
    pub fn ess_bulk(&self) -> f64 {
        effective_sample_size(&self.halves_of(&rank_normalise(&self.split_values())))
    }

    /// The smaller of the ESS of the indicators `x <= q` for the 5% and the 95% quantile `q` of all
    /// draws (Section 4.3).
    ///
    /// The quantiles interpolate the order statistics linearly, at position `p (S - 1)` counted
    /// from zero. The indicator of a discrete quantity may be the same for all draws, and then
    /// counts with the number of split draws.
    pub fn ess_tail(&self) -> f64 {
        let mut sorted: Vec<f64> = self.values().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        if sorted.first() == sorted.last() {
            return f64::NAN;
        }
        let split = self.split_values();
        let ess_of_indicator = |twentieths: usize| {
            let quantile = quantile(&sorted, twentieths);
            let below: Vec<f64> =
                split.iter().map(|&x| if x <= quantile { 1.0 } else { 0.0 }).collect();
            if below.iter().all(|&x| x == below[0]) {
                return below.len() as f64;
            }
            effective_sample_size(&self.halves_of(&below))
        };
        ess_of_indicator(1).min(ess_of_indicator(19))
    }

    /// ESS of the draws themselves (Section 3.2), which measures the error of their mean.
    pub fn ess_mean(&self) -> f64 {
        effective_sample_size(&self.halves())
    }

    /// Combined autocorrelations (10) of the split chains at lags 0 up to `max_lag`, or up to
    /// `N / 2 - 1` if that is smaller. [`Self::ess_mean`] sums these. They do not fall to zero if
    /// the chains disagree.
    pub fn autocorrelation(&self, max_lag: usize) -> Vec<f64> {
        let mut rho = combined_autocorrelation(&self.halves());
        rho.truncate(max_lag.saturating_add(1));
        rho
    }

    /// All scalar diagnostics.
    pub fn summary(&self) -> Summary {
        let (mean, variance) = mean_and_variance(self.values());
        let sd = libm::sqrt(variance);
        let scores = rank_normalise(&self.split_values());
        let ess_mean = self.ess_mean();
        Summary {
            mean,
            sd,
            mcse_mean: sd / libm::sqrt(ess_mean),
            r_hat: self.r_hat_from(&scores),
            ess_bulk: effective_sample_size(&self.halves_of(&scores)),
            ess_tail: self.ess_tail(),
            ess_mean,
        }
    }

    /// R-hat, given the normal scores of the split chains.
    fn r_hat_from(&self, scores: &[f64]) -> f64 {
        let mut folded = self.split_values();
        let mut sorted = folded.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        // The number of split draws is even.
        let median = sorted[sorted.len() / 2 - 1].midpoint(sorted[sorted.len() / 2]);
        for x in &mut folded {
            *x = (*x - median).abs();
        }
        let bulk = split_r_hat(&self.halves_of(scores));
        // `max` passes over the NaN of constant deviations.
        bulk.max(split_r_hat(&self.halves_of(&rank_normalise(&folded))))
    }

    fn values(&self) -> impl Iterator<Item = f64> + Clone {
        self.chains.iter().flat_map(|chain| chain.iter().copied())
    }

    fn half_length(&self) -> usize {
        self.chains[0].len() / 2
    }

    /// First and second half of chain 0, of chain 1, and so on.
    fn halves(&self) -> Vec<&'a [f64]> {
        let half = self.half_length();
        self.chains
            .iter()
            .flat_map(|chain| [&chain[..half], &chain[chain.len() - half..]])
            .collect()
    }

    /// The halves one after another, for transformations of all draws together.
    fn split_values(&self) -> Vec<f64> {
        self.halves().concat()
    }

    /// Views transformed [`Self::split_values`] as halves again.
    fn halves_of<'b>(&self, values: &'b [f64]) -> Vec<&'b [f64]> {
        values.chunks_exact(self.half_length()).collect()
    }
}

/// Mean and variance with divisor `n - 1`. Differences from the first value keep the mean, and with
/// it the zero variance, of equal values exact.
fn mean_and_variance(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let first = values.clone().next().unwrap_or(f64::NAN);
    let (mut count, mut sum) = (0.0, 0.0);
    for x in values.clone() {
        count += 1.0;
        sum += x - first;
    }
    let mean = first + sum / count;
    let squares: f64 = values.map(|x| (x - mean) * (x - mean)).sum();
    (mean, squares / (count - 1.0))
}

/// What the ratio F of two variances, of `k` and `l` degrees of freedom, exceeds with a probability of 0.001 (E. Paulson, "An approximate
/// normalization of the analysis of variance distribution", Annals of Mathematical Statistics 13(2), 1942, pp. 233-235).
fn chance(k: f64, l: f64) -> f64 {
    const DEVIATES: f64 = 3.09;
    // Cube roots of chi-squares are about normal, with these variances and means of 1 less them.
    let [above, below] = [k, l].map(|freedom| 2.0 / (9.0 * freedom));
    let (mean, rest) = (1.0 - below, (1.0 - below).powi(2) - DEVIATES * DEVIATES * below);
    if !(rest > 0.0) {
        return f64::INFINITY;
    }
    let spread = above * rest + below * (1.0 - above).powi(2);
    let root = (mean * (1.0 - above) + DEVIATES * spread.sqrt()) / rest;
    root * root * root
}

/// Quantile at probability `twentieths / 20` of sorted values, interpolated linearly. The position
/// in integers and the interpolation from below are exact at order statistics and between ties, so
/// that `x <= quantile` does not hang on rounding.
fn quantile(sorted: &[f64], twentieths: usize) -> f64 {
    let position = (sorted.len() - 1) * twentieths;
    let below = sorted[position / 20];
    match position % 20 {
        0 => below,
        rest => below + (sorted[position / 20 + 1] - below) * (rest as f64 / 20.0),
    }
}

/// Normal scores (14): `Phi^-1((r - 3/8) / (S + 1/4))` for the rank `r`, from 1, of each of the `S`
/// values. Equal values share their average rank.
fn rank_normalise(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut scores = vec![0.0; values.len()];
    let mut ranked = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = ranked as f64 + (ties.len() as f64 + 1.0) / 2.0;
        let score = inverse_normal_cdf((rank - 0.375) / (values.len() as f64 + 0.25));
        for &index in ties {
            scores[index] = score;
        }
        ranked += ties.len();
    }
    scores
}

/// Quantile function of the standard normal distribution for `0 < p < 1`, with a relative error of
/// about 1e-16: M. J. Wichura, "Algorithm AS 241: the percentage points of the normal
/// distribution", Applied Statistics 37(3), 1988, pp. 477-484, routine PPND16.
fn inverse_normal_cdf(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(&CENTRE.0, r) / polynomial(&CENTRE.1, r);
    }
    let r = libm::sqrt(-libm::log(p.min(1.0 - p)));
    let x = if r <= 5.0 {
        polynomial(&TAIL.0, r - 1.6) / polynomial(&TAIL.1, r - 1.6)
    } else {
        polynomial(&FAR_TAIL.0, r - 5.0) / polynomial(&FAR_TAIL.1, r - 5.0)
    };
    if q < 0.0 { -x } else { x }
}

/// Value at `x` of the polynomial with the given coefficients, the constant first.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Numerator and denominator of a rational approximation; in each, the constant comes first.
type Rational = ([f64; 8], [f64; 8]);

#[allow(clippy::excessive_precision)] // The digits as published.
const CENTRE: Rational = (
    [
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ],
    [
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ],
);

#[allow(clippy::excessive_precision)] // The digits as published.
const TAIL: Rational = (
    [
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ],
    [
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ],
);

#[allow(clippy::excessive_precision)] // The digits as published.
const FAR_TAIL: Rational = (
    [
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ],
    [
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ],
);

/// Variance of the chain means, `B / N` in (1), and mean of the chain variances, `W` in (2).
fn between_and_within(chains: &[&[f64]]) -> (f64, f64) {
    let moments: Vec<(f64, f64)> =
        chains.iter().map(|chain| mean_and_variance(chain.iter().copied())).collect();
    let between = mean_and_variance(moments.iter().map(|&(mean, _)| mean)).1;
    let within = moments.iter().map(|&(_, variance)| variance).sum::<f64>() / chains.len() as f64;
    (between, within)
}

/// R-hat (4) of at least two chains: `sqrt(((N - 1) / N W + B / N) / W)`.
fn split_r_hat(chains: &[&[f64]]) -> f64 {
    let n = chains[0].len() as f64;
    let (between, within) = between_and_within(chains);
    libm::sqrt((n - 1.0) / n + between / within)
}

/// ESS (12) with the integrated autocorrelation time (13) by Geyer's initial monotone sequence.
///
/// The autocorrelations are summed in pairs of an even and the next odd lag, and each pair counts
/// at most as much as the one before. The sum ends before the first pair that is not positive or
/// that reaches lag `N - 3`. Half of the even lag of this pair still counts, unless both lag and
/// pair are negative: this averages the sums up to the odd and to the even lag. The ESS is bounded
/// by `S log10(S)`. Both steady the estimate for antithetic chains (Section 3.2).
fn effective_sample_size(chains: &[&[f64]]) -> f64 {
    let n = chains[0].len();
    let total = (n * chains.len()) as f64;
    let rho = combined_autocorrelation(chains);
    if rho.iter().any(|x| !x.is_finite()) {
        return f64::NAN;
    }
    let mut tau = -1.0;
    let mut smallest = f64::INFINITY;
    for (k, pair) in rho.chunks_exact(2).enumerate() {
        let sum = pair[0] + pair[1];
        if sum <= 0.0 || 2 * k + 4 >= n {
            tau += if sum > 0.0 { pair[0] } else { pair[0].max(0.0) };
            break;
        }
        smallest = sum.min(smallest);
        tau += 2.0 * smallest;
    }
    total / tau.max(1.0 / libm::log10(total))
}

/// Combined autocorrelations (10) at lags `0..N`: `1 - (W - a_t) / var+`, where `a_t` is the mean
/// autocovariance of the chains with divisor `N` and `var+ = (N - 1) / N W + B / N` (3). Lag 0 is 1
/// by definition. All are NaN if `var+` is zero.
///
/// Read literally, (10) gives `a_t` a factor `N / (N - 1)`; it is left out here as in the
/// implementation of the paper's authors.
fn combined_autocorrelation(chains: &[&[f64]]) -> Vec<f64> {
    let n = chains[0].len() as f64;
    let (between, within) = between_and_within(chains);
    let total = (n - 1.0) / n * within + between;
    let mut rho = mean_autocovariance(chains);
    for x in &mut rho {
        *x = 1.0 - (within - *x) / total;
    }
    if rho[0].is_finite() {
        rho[0] = 1.0;
    }
    rho
}

/// Autocovariances at lags `0..N` with divisor `N`, each chain centred at its own mean, averaged
/// over an even number of chains.
///
/// Computed by the fast Fourier transform, because the sum over lags is long just when the chains
/// mix badly. Two chains are transformed together as the real and the imaginary part of one
/// sequence: the real part of its autocovariance is the sum of theirs.
fn mean_autocovariance(chains: &[&[f64]]) -> Vec<f64> {
    let n = chains[0].len();
    // Padding by at least `n` zeros keeps the end of a chain from wrapping around to its start.
    let size = (2 * n).next_power_of_two();
    let angles = (0..size / 2).map(|k| -2.0 * PI * k as f64 / size as f64);
    let roots: Vec<(f64, f64)> = angles.map(|x| (libm::cos(x), libm::sin(x))).collect();
    let mut power = vec![(0.0, 0.0); size];
    for pair in chains.chunks_exact(2) {
        let mean = [0, 1].map(|i| mean_and_variance(pair[i].iter().copied()).0);
        let mut sequence = vec![(0.0, 0.0); size];
        for (z, (x, y)) in sequence.iter_mut().zip(pair[0].iter().zip(pair[1])) {
            *z = (x - mean[0], y - mean[1]);
        }
        fourier_transform(&mut sequence, &roots);
        for (p, (re, im)) in power.iter_mut().zip(&sequence) {
            p.0 += re * re + im * im;
        }
    }
    // The power is real, so the forward transform has the same real part as the inverse one.
    fourier_transform(&mut power, &roots);
    let divisor = (size * n * chains.len()) as f64;
    power[..n].iter().map(|&(re, _)| re / divisor).collect()
}

/// Discrete Fourier transform in place of `(re, im)` pairs, whose number `L` is a power of two, by
/// decimation in time; `roots[k] = exp(-2 pi i k / L)` for `k < L / 2`.
fn fourier_transform(data: &mut [(f64, f64)], roots: &[(f64, f64)]) {
    let size = data.len();
    let shift = usize::BITS - size.trailing_zeros();
    for i in 0..size {
        let j = i.reverse_bits() >> shift;
        if i < j {
            data.swap(i, j);
        }
    }
    let mut half = 1;
    while half < size {
        for block in data.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            let block_roots = roots.iter().step_by(size / (2 * half));
            for ((a, b), w) in low.iter_mut().zip(high).zip(block_roots) {
                let t = (b.0 * w.0 - b.1 * w.1, b.0 * w.1 + b.1 * w.0);
                *b = (a.0 - t.0, a.1 - t.1);
                *a = (a.0 + t.0, a.1 + t.1);
            }
        }
        half *= 2;
    }
}

/// Mean, variance, split R-hat and ESS of every coordinate of `M` chains in `d` dimensions, from
/// one pass over the states and without knowing the length of the run.
///
/// The run is cut into blocks of equal length, each with its mean for every chain and coordinate.
/// When all blocks are full, neighbours are merged and the length doubles, so that between half and
/// all of the `K` blocks are in use. `K` is 8 for 16 chains or more, and 64 at most for fewer, so
/// that `M K / 2 >= 64` batch means are at hand except for one chain, which has 32. The memory is
/// `K d (M + 1)` numbers.
///
/// A coordinate that never changes has no R-hat and no ESS and is never the worst one.
#[derive(Clone, Debug)]
pub struct RunningDiagnostics {
    chains: usize,
    dimension: usize,
    max_blocks: usize,
    /// Draws of each chain in a full block; only the last block may have fewer.
    block_length: u64,
    blocks: Vec<Block>,
}

/// A stretch of the run.
#[derive(Clone, Debug)]
struct Block {
    draws: u64,
    /// Means of shape (chains, dimension).
    means: Vec<f64>,
    /// For each coordinate, the sum over the chains of the squared deviations from their means.
    squares: Vec<f64>,
}

/// Diagnostics of one coordinate; see [`RunningDiagnostics::coordinate`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CoordinateDiagnostics {
    /// Mean of all draws.
    pub mean: f64,
    /// Variance of all draws.
    pub variance: f64,
    /// Split R-hat.
    pub r_hat: f64,
    /// Effective sample size for the mean, from batch means.
    pub ess: f64,
}

impl RunningDiagnostics {
    /// Diagnostics of `chains >= 1` chains with states of `dimension >= 1` coordinates.
    ///
    /// # Errors
    /// If one of them is 0.
    pub fn new(chains: usize, dimension: usize) -> Result<Self, DiagnosticsError> {
        if chains == 0 || dimension == 0 {
            return Err(DiagnosticsError::NoChains);
        }
        let max_blocks = 128_usize.div_ceil(chains).next_power_of_two().clamp(8, 64);
        Ok(Self { chains, dimension, max_blocks, block_length: 1, blocks: Vec::new() })
    }

    /// Takes the next state of every chain, of shape (chains, dimension) with the coordinates of
    /// one chain side by side. A batch that is refused leaves the diagnostics unchanged.
    ///
    /// # Errors
    /// If the length is another, or a value is not finite.
    pub fn update<T: Copy + Into<f64>>(&mut self, states: &[T]) -> Result<(), DiagnosticsError> {
        if states.len() != self.chains.saturating_mul(self.dimension) {
            return Err(DiagnosticsError::WrongLength);
        }
        if let Some(i) = states.iter().position(|&x| !x.into().is_finite()) {
            let (chain, index) = (i / self.dimension, i % self.dimension);
            return Err(DiagnosticsError::NotFinite { chain, index });
        }
        if self.blocks.last().is_none_or(|block| block.draws == self.block_length) {
            if self.blocks.len() == self.max_blocks {
                self.merge_blocks();
            }
            self.blocks.push(Block {
                draws: 0,
                means: vec![0.0; states.len()],
                squares: vec![0.0; self.dimension],
            });
        }
        if let Some(block) = self.blocks.last_mut() {
            block.add(states);
        }
        Ok(())
    }

    fn merge_blocks(&mut self) {
        let mut old = std::mem::take(&mut self.blocks).into_iter();
        while let (Some(mut block), Some(next)) = (old.next(), old.next()) {
            block.merge(&next);
            self.blocks.push(block);
        }
        self.block_length *= 2;
    }

    /// Number of states taken from each chain.
    pub fn draws(&self) -> u64 {
        self.blocks.iter().map(|block| block.draws).sum()
    }

    /// Number of draws of one chain in each batch mean behind the ESS.
    pub fn batch_length(&self) -> u64 {
        self.block_length
    }

    /// Diagnostics of coordinate `index`, if there is one.
    ///
    /// - `mean` and `variance`, with divisor `S - 1`, are those of all draws of all chains.
    /// - `r_hat` is (4) without rank normalisation for the first against the second half of every
    ///   chain, cut at the block end nearest to the middle. Halves of different lengths enter with
    ///   their mean length as `N` and their pooled variance as `W`.
    /// - `ess` is `S variance / (b v)`, where `v` is the variance of the batch means of all chains over
    ///   the full blocks, of length `b`; it is bounded by `S log10(S)` as for [`Draws`]. See
    ///   J. M. Flegal and G. L. Jones, "Batch means and spectral variance estimators in Markov
    ///   chain Monte Carlo", Annals of Statistics 38(2), 2010, pp. 1034-1070. Its relative standard
    ///   error is about `sqrt(2 / batches)`: at most 20%, or 30% for one chain. Batch means of a
    ///   chain that is stuck would pass for independent ones: where the variance `u` of the means of
    ///   chains is larger than those of batches within chains explain, with a probability of chance
    ///   of 0.001, `ess` is `S variance / (N u)`, which counts stuck chains once each. `ess` is too large
    ///   unless the autocorrelation time `S / ess` is small against [`Self::batch_length`], and in
    ///   particular if R-hat is not close to 1.
    ///
    /// `r_hat` and `ess` are NaN for fewer than four draws or if the coordinate never changed; they
    /// are infinite and zero if the variance overflowed.
    pub fn coordinate(&self, index: usize) -> Option<CoordinateDiagnostics> {
        if index >= self.dimension {
            return None;
        }
        let draws = self.draws();
        let total = draws as f64 * self.chains as f64;
        let within: f64 = self.blocks.iter().map(|block| block.squares[index]).sum();
        let means = (0..self.chains).flat_map(|chain| self.block_means(&self.blocks, chain, index));
        let (mean, between) = weighted_mean(means);
        let variance = (within + between) / (total - 1.0);
        let (r_hat, ess) = if draws < 4 || variance == 0.0 {
            (f64::NAN, f64::NAN)
        } else if !variance.is_finite() {
            (f64::INFINITY, 0.0)
        } else {
            let ess = total * variance / self.asymptotic_variance(index);
            (self.r_hat(index, within), ess.min(total * libm::log10(total)))
        };
        Some(CoordinateDiagnostics { mean, variance, r_hat, ess })
    }

    /// Coordinate with the largest R-hat and that R-hat. None while no coordinate has one.
    pub fn worst_r_hat(&self) -> Option<(usize, f64)> {
        self.worst(|diagnostics| diagnostics.r_hat, |a, b| a > b)
    }

    /// Coordinate with the smallest ESS and that ESS. None while no coordinate has one.
    pub fn worst_ess(&self) -> Option<(usize, f64)> {
        self.worst(|diagnostics| diagnostics.ess, |a, b| a < b)
    }

    /// First coordinate with the worst value.
    fn worst(
        &self,
        value: impl Fn(CoordinateDiagnostics) -> f64,
        is_worse: impl Fn(f64, f64) -> bool,
    ) -> Option<(usize, f64)> {
        (0..self.dimension)
            .filter_map(|index| Some((index, value(self.coordinate(index)?))))
            .filter(|(_, x)| !x.is_nan())
            .reduce(|worst, next| if is_worse(next.1, worst.1) { next } else { worst })
    }

    /// Split R-hat, given the sum of squares within the blocks.
    fn r_hat(&self, index: usize, mut within: f64) -> f64 {
        let draws = self.draws();
        let (mut cut, mut before) = (0, 0);
        // Move the cut on while the next block lies more than half before the middle.
        while 2 * before + self.blocks[cut].draws < draws {
            before += self.blocks[cut].draws;
            cut += 1;
        }
        let (first, second) = self.blocks.split_at(cut);
        let mut half_means = Vec::with_capacity(2 * self.chains);
        for chain in 0..self.chains {
            for half in [first, second] {
                let (mean, squares) = weighted_mean(self.block_means(half, chain, index));
                half_means.push(mean);
                within += squares;
            }
        }
        let between = mean_and_variance(half_means.iter().copied()).1;
        let within = within / ((draws - 2) as f64 * self.chains as f64);
        let n = draws as f64 / 2.0;
        libm::sqrt((n - 1.0) / n + between / within)
    }

    /// Estimate of `N var(mean of N draws of one chain)` for large `N`: from batch means or, if these differ more from chain to chain
    /// than chance allows, from the means of the chains.
    fn asymptotic_variance(&self, index: usize) -> f64 {
        let full = |block: &&Block| block.draws == self.block_length;
        let full = &self.blocks[..self.blocks.iter().take_while(full).count()];
        let (mut means, mut squares) = (Vec::with_capacity(self.chains), 0.0);
        for chain in 0..self.chains {
            let (mean, around) = weighted_mean(self.block_means(full, chain, index));
            means.push(mean);
            squares += around;
        }
        let (chains, batches) = (self.chains as f64, full.len() as f64);
        if self.chains == 1 {
            return squares / (batches - 1.0);
        }
        let variance = mean_and_variance(means.iter().copied()).1;
        let between = batches * self.block_length as f64 * variance;
        let within = squares / (chains * (batches - 1.0));
        match between > within * chance(chains - 1.0, chains * (batches - 1.0)) {
            true => self.draws() as f64 * variance,
            false => (squares + (chains - 1.0) * between) / (chains * batches - 1.0),
        }
    }

    /// Lengths and means of the given blocks for one chain and coordinate.
    fn block_means<'b>(
        &self,
        blocks: &'b [Block],
        chain: usize,
        index: usize,
    ) -> impl Iterator<Item = (f64, f64)> + Clone + use<'b> {
        let position = chain * self.dimension + index;
        blocks.iter().map(move |block| (block.draws as f64, block.means[position]))
    }
}

impl Block {
    /// Adds one state of every chain by Welford's recurrence.
    fn add<T: Copy + Into<f64>>(&mut self, states: &[T]) {
        self.draws += 1;
        let n = self.draws as f64;
        let dimension = self.squares.len();
        for (state, means) in
            states.chunks_exact(dimension).zip(self.means.chunks_exact_mut(dimension))
        {
            for ((&x, mean), squares) in state.iter().zip(means).zip(&mut self.squares) {
                let x = x.into();
                let difference = x - *mean;
                *mean += difference / n;
                *squares += difference * (x - *mean);
            }
        }
    }

    /// Appends a block of the same length.
    fn merge(&mut self, next: &Block) {
        let half_length = self.draws as f64 / 2.0;
        let dimension = self.squares.len();
        for (means, next_means) in
            self.means.chunks_exact_mut(dimension).zip(next.means.chunks_exact(dimension))
        {
            for ((mean, next_mean), squares) in
                means.iter_mut().zip(next_means).zip(&mut self.squares)
            {
                let difference = next_mean - *mean;
                *mean += difference / 2.0;
                *squares += difference * difference * half_length;
            }
        }
        for (squares, next_squares) in self.squares.iter_mut().zip(&next.squares) {
            *squares += next_squares;
        }
        self.draws += next.draws;
    }
}

/// Mean of `(weight, value)` pairs and weighted sum of squared deviations from it; exact for equal
/// values like [`mean_and_variance`].
fn weighted_mean(values: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64) {
    let first = values.clone().next().map_or(f64::NAN, |(_, x)| x);
    let (mut weights, mut sum) = (0.0, 0.0);
    for (weight, x) in values.clone() {
        weights += weight;
        sum += weight * (x - first);
    }
    let mean = first + sum / weights;
    (mean, values.map(|(weight, x)| weight * (x - mean) * (x - mean)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S. Vigna's SplitMix64. With only exactly rounded operations on its integers, any language
    /// makes the same draws bit for bit.
    struct SplitMix64(u64);

    impl SplitMix64 {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn uniform(&mut self) -> f64 {
            ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
        }

        /// Sum of four uniforms, centred: variance 1/3.
        fn noise(&mut self) -> f64 {
            self.uniform() + self.uniform() + self.uniform() + self.uniform() - 2.0
        }
    }

    /// Chains `x <- phi x + noise`, each started at a noise value.
    fn ar1(seed: u64, phi: f64, chains: usize, draws: usize) -> Vec<Vec<f64>> {
        let mut rng = SplitMix64(seed);
        let chain = |_| {
            let mut x = rng.noise();
            let next = |_| {
                x = phi * x + rng.noise();
                x
            };
            (0..draws).map(next).collect()
        };
        (0..chains).map(chain).collect()
    }

    /// Applies `f(x, chain, draw)`.
    fn map(mut chains: Vec<Vec<f64>>, f: impl Fn(f64, f64, f64) -> f64) -> Vec<Vec<f64>> {
        for (m, chain) in chains.iter_mut().enumerate() {
            for (n, x) in chain.iter_mut().enumerate() {
                *x = f(*x, m as f64, n as f64);
            }
        }
        chains
    }

    /// Independent draws with the tails of a Cauchy distribution.
    fn heavy(seed: u64, chains: usize, draws: usize) -> Vec<Vec<f64>> {
        let mut rng = SplitMix64(seed);
        let draw = |_| {
            let s = 2.0 * rng.uniform() - 1.0;
            s / (1.0 - s.abs())
        };
        let values: Vec<f64> = (0..chains * draws).map(draw).collect();
        values.chunks_exact(draws).map(<[f64]>::to_vec).collect()
    }

    fn case(name: &str) -> Vec<Vec<f64>> {
        match name {
            "independent" => ar1(1, 0.0, 4, 500),
            "ar 0.5" => ar1(2, 0.5, 4, 1000),
            "ar 0.9" => ar1(3, 0.9, 4, 1000),
            "ar 0.98" => ar1(4, 0.98, 4, 1000),
            "antithetic" => ar1(5, -0.2, 4, 1000),
            "bounded" => ar1(18, -0.8, 4, 1000),
            "shifted" => map(ar1(6, 0.3, 4, 500), |x, m, _| x + 0.5 * m),
            "scaled" => map(ar1(7, 0.3, 4, 500), |x, m, _| x * (1.0 + m)),
            "drift" => map(ar1(8, 0.5, 4, 400), |x, _, n| x + 0.005 * n),
            "heavy tails" => heavy(9, 4, 500),
            "heavy slow" => map(ar1(10, 0.9, 4, 800), |x, _, _| x * x * x),
            "integers" => map(ar1(11, 0.7, 4, 500), |x, _, _| libm::floor(2.0 * x)),
            "binary" => map(ar1(12, 0.5, 4, 500), |x, _, _| if x > 0.0 { 1.0 } else { -1.0 }),
            "rare" => map(ar1(19, 0.5, 4, 500), |x, _, _| if x < -1.4 { 0.0 } else { 1.0 }),
            "odd length" => ar1(13, 0.6, 3, 251),
            "offset" => map(ar1(14, 0.8, 4, 500), |x, _, _| 1048576.0 + x),
            "long" => ar1(15, 0.95, 2, 5000),
            "short" => ar1(16, 0.3, 3, 25),
            "ten draws" => ar1(55, 0.3, 4, 10),
            "one chain" => ar1(17, 0.6, 1, 1000),
            _ => Vec::new(),
        }
    }

    /// R-hat, bulk ESS, tail ESS, mean ESS and MCSE of the mean by ArviZ 0.23.4.
    const REFERENCE: [(&str, [f64; 5]); 20] = [
        (
            "independent",
            [
                1.000603384966903,
                2195.3998515598323,
                1868.3131539482324,
                2188.998779174641,
                0.012545713747715887,
            ],
        ),
        (
            "ar 0.5",
            [
                1.0018978329193498,
                1217.3309693903568,
                2275.6991867311335,
                1215.5579221986918,
                0.018871285995815983,
            ],
        ),
        (
            "ar 0.9",
            [
                1.0034158551087167,
                190.9143482694242,
                329.93179818777236,
                188.45446111249336,
                0.09614912172743598,
            ],
        ),
        (
            "ar 0.98",
            [
                1.1266462195261175,
                26.578975789735477,
                27.06042463846989,
                24.713436525443793,
                0.5796545773741747,
            ],
        ),
        (
            "antithetic",
            [
                0.9992894754117608,
                6348.901145379972,
                4091.954415068136,
                6322.210152315395,
                0.007377301028437418,
            ],
        ),
        (
            "bounded",
            [
                1.0010857470286068,
                14408.23996531185,
                2038.6347225903378,
                14408.23996531185,
                0.008127804567166184,
            ],
        ),
        (
            "shifted",
            [
                1.4167757822235574,
                8.593732542735777,
                60.39730875590268,
                8.434228855764918,
                0.2890151611665063,
            ],
        ),
        (
            "scaled",
            [
                1.1425278087010802,
                1216.9401095848964,
                173.5030283485976,
                1207.339707584937,
                0.046577853045595564,
            ],
        ),
        (
            "drift",
            [
                1.237682457848257,
                12.178266301590355,
                107.78402439344767,
                11.893834400341387,
                0.2593645940755078,
            ],
        ),
        (
            "heavy tails",
            [
                1.0001961295975559,
                1914.5617590644729,
                1933.7808563078484,
                2013.047589415444,
                3.3946602103806227,
            ],
        ),
        (
            "heavy slow",
            [
                1.0399635880202072,
                168.4224459279828,
                342.55651213298484,
                232.53051174917013,
                0.6886189629237043,
            ],
        ),
        (
            "integers",
            [
                1.0061759158623147,
                367.2595655575762,
                622.5966263776296,
                367.9226276109345,
                0.08465646539046284,
            ],
        ),
        (
            "binary",
            [
                1.0051632407891196,
                790.234196696,
                790.2341966960007,
                790.2341966959999,
                0.03556999874530884,
            ],
        ),
        (
            "rare",
            [
                1.0015170572902916,
                1086.3914151152776,
                2000.0,
                1086.3914151152774,
                0.003748773036609121,
            ],
        ),
        (
            "odd length",
            [
                1.013121864329102,
                210.81447327703913,
                321.53323978315956,
                207.8210964258645,
                0.05013530376945863,
            ],
        ),
        (
            "offset",
            [
                1.0141969656853913,
                218.5320489061416,
                247.10118538998782,
                217.25571242551575,
                0.06859880862064364,
            ],
        ),
        (
            "long",
            [
                1.0111360634048352,
                279.55319264311845,
                578.9981855720386,
                280.7589009351545,
                0.1052394677937445,
            ],
        ),
        (
            "short",
            [
                0.9925792226304279,
                121.48588770159544,
                81.41263506278598,
                122.44732693469263,
                0.048739680132324124,
            ],
        ),
        (
            "ten draws",
            [
                1.0915901866610558,
                35.33832583125539,
                30.0751879699248,
                37.996558662614866,
                0.08359005438983061,
            ],
        ),
        (
            "one chain",
            [
                1.0025682260921664,
                295.3308447379903,
                674.7313073985742,
                294.443747318266,
                0.03894811779069638,
            ],
        ),
    ];

    fn assert_close(actual: f64, expected: f64, tolerance: f64, what: &str) {
        let error = (actual / expected - 1.0).abs();
        assert!(error <= tolerance, "{what}: {actual} is not {expected} (error {error:e})");
    }

    #[test]
    fn stored_diagnostics_match_the_reference() {
        for (name, expected) in REFERENCE {
            let chains = case(name);
            let draws = Draws::new(&chains).unwrap();
            let all = draws.summary();
            let single = [
                draws.r_hat(),
                draws.ess_bulk(),
                draws.ess_tail(),
                draws.ess_mean(),
                draws.mcse_mean(),
            ];
            let together = [all.r_hat, all.ess_bulk, all.ess_tail, all.ess_mean, all.mcse_mean];
            assert_eq!(single, together, "{name}");
            for (i, what) in ["R-hat", "bulk", "tail", "mean", "MCSE"].iter().enumerate() {
                assert_close(single[i], expected[i], 1e-10, &format!("{name}, {what}"));
            }
            let flat = chains.concat();
            assert_eq!(Draws::from_flat(&flat, chains.len()).unwrap().summary(), all, "{name}");
        }
    }

    #[test]
    fn inverse_normal_cdf_inverts_the_normal_cdf() {
        let reference = [
            (1e-300, -37.0470962993612),
            (1e-20, -9.262340089798409),
            (1e-10, -6.361340902404056),
            (1e-5, -4.264890793922825),
            (0.01, -2.3263478740408408),
            (0.075, -1.4395314709384563),
            (0.3, -0.5244005127080409),
            (0.6, 0.2533471031357997),
            (0.95, 1.6448536269514722),
            (0.999, 3.090232306167813),
        ];
        for (p, x) in reference {
            assert_close(inverse_normal_cdf(p), x, 4e-15, &format!("quantile at {p}"));
        }
        assert_eq!(inverse_normal_cdf(0.5), 0.0);
        for i in 1..4000 {
            let p = i as f64 / 4000.0;
            let cdf = 0.5 * libm::erfc(-inverse_normal_cdf(p) * std::f64::consts::FRAC_1_SQRT_2);
            assert_close(cdf, p, 1e-14, "distribution function of the quantile");
        }
    }

    #[test]
    fn ties_share_their_average_rank() {
        let scores = rank_normalise(&[7.0, -1.0, 7.0, 9.0, 0.0, -0.0]);
        let expected =
            [4.5, 1.0, 4.5, 6.0, 2.5, 2.5].map(|r| inverse_normal_cdf((r - 0.375) / 6.25));
        assert_eq!(scores, expected);
    }

    #[test]
    fn quantiles_are_exact_at_order_statistics_and_ties() {
        let sorted: Vec<f64> = (0..41).map(|i| 0.1 * i as f64).collect();
        assert_eq!([1, 10, 19].map(|t| quantile(&sorted, t)), [sorted[2], sorted[20], sorted[38]]);
        assert_eq!(quantile(&[0.1, 0.1, 0.3, 0.3], 10), 0.1 + (0.3 - 0.1) * 0.5);
        assert_eq!(quantile(&[0.1; 7], 19), 0.1);
    }

    #[test]
    fn autocorrelations_are_those_of_the_direct_sums() {
        for name in ["ar 0.9", "shifted", "odd length", "one chain"] {
            let chains = case(name);
            let draws = Draws::new(&chains).unwrap();
            let halves = draws.halves();
            let n = halves[0].len();
            let (between, within) = between_and_within(&halves);
            let total = (n as f64 - 1.0) / n as f64 * within + between;
            let rho = draws.autocorrelation(usize::MAX);
            assert_eq!(rho.len(), n);
            assert_eq!(draws.autocorrelation(7), rho[..8]);
            assert_eq!(rho[0], 1.0);
            for (lag, rho) in rho.iter().enumerate().skip(1) {
                let mut sum = 0.0;
                for half in &halves {
                    let mean = half.iter().sum::<f64>() / n as f64;
                    for i in lag..n {
                        sum += (half[i] - mean) * (half[i - lag] - mean);
                    }
                }
                let direct = 1.0 - (within - sum / (n * halves.len()) as f64) / total;
                assert!((rho - direct).abs() < 1e-13, "{name}, lag {lag}: {rho} is not {direct}");
            }
        }
    }

    #[test]
    fn unusable_draws_are_refused() {
        use DiagnosticsError::*;
        let none: [Vec<f64>; 0] = [];
        assert_eq!(Draws::new(&none).unwrap_err(), NoChains);
        assert_eq!(Draws::new(&[vec![0.0; 5], vec![0.0; 6]]).unwrap_err(), UnequalLengths);
        assert_eq!(Draws::new(&[[1.0, 2.0, 3.0]]).unwrap_err(), TooFewDraws);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Draws::new(&[[0.0; 4], [0.0, 0.0, bad, 0.0]]).unwrap_err();
            assert_eq!(error, NotFinite { chain: 1, index: 2 });
        }
        assert_eq!(Draws::from_flat(&[0.0; 8], 0).unwrap_err(), NoChains);
        assert_eq!(Draws::from_flat(&[0.0; 9], 2).unwrap_err(), WrongLength);
        assert_eq!(Draws::from_flat(&[], 2).unwrap_err(), TooFewDraws);
        assert!(Draws::from_flat(&[0.0; 8], 2).is_ok());
    }

    #[test]
    fn constant_draws_have_no_diagnostics() {
        let chains = vec![vec![0.1; 11]; 3];
        let all = Draws::new(&chains).unwrap().summary();
        assert_eq!((all.mean, all.sd), (0.1, 0.0));
        let rest = [all.mcse_mean, all.r_hat, all.ess_bulk, all.ess_tail, all.ess_mean];
        assert!(rest.iter().all(|x| x.is_nan()), "{all:?}");
    }

    #[test]
    fn chains_stuck_at_different_values_have_infinite_r_hat() {
        let chains = [vec![0.1; 300], vec![0.7; 300], vec![0.3; 300]];
        let all = Draws::new(&chains).unwrap().summary();
        assert_eq!(all.r_hat, f64::INFINITY);
        assert!(all.ess_mean < 10.0 && all.ess_bulk < 10.0 && all.ess_tail < 10.0, "{all:?}");
    }

    #[test]
    fn extreme_draws_do_not_panic() {
        let mut few = SplitMix64(3);
        for draws in 4..12 {
            for scale in [1e-300, 1.0, 1e300] {
                let chains = vec![(0..draws).map(|_| scale * few.noise()).collect::<Vec<_>>(); 2];
                let all = Draws::new(&chains).unwrap().summary();
                assert!(all.r_hat.is_finite() && all.ess_bulk.is_finite(), "{all:?}");
                assert_eq!(all.ess_mean.is_nan(), scale != 1.0);
            }
        }
        let all = Draws::new(&[[f64::MAX, f64::MIN, 0.0, f64::MAX]]).unwrap().summary();
        assert!(all.ess_mean.is_nan());
    }

    /// Feeds chains of one coordinate.
    fn run(chains: &[Vec<f64>]) -> RunningDiagnostics {
        let mut running = RunningDiagnostics::new(chains.len(), 1).unwrap();
        for n in 0..chains[0].len() {
            let states: Vec<f64> = chains.iter().map(|chain| chain[n]).collect();
            running.update(&states).unwrap();
        }
        running
    }

    #[test]
    fn running_moments_are_those_of_the_stored_draws() {
        for name in ["ar 0.9", "shifted", "odd length", "offset", "short", "one chain"] {
            let chains = case(name);
            let draws = Draws::new(&chains).unwrap();
            let running = run(&chains);
            let coordinate = running.coordinate(0).unwrap();
            assert_eq!(running.draws(), chains[0].len() as u64);
            assert!((coordinate.mean - draws.mean()).abs() <= 1e-14 * (1.0 + draws.mean().abs()));
            assert_close(libm::sqrt(coordinate.variance), draws.sd(), 1e-9, name);
        }
    }

    /// Split R-hat of chains cut at `cut`, straight from the documented formula.
    fn r_hat_cut_at(chains: &[Vec<f64>], cut: usize) -> f64 {
        let (mut means, mut squares) = (Vec::new(), 0.0);
        for chain in chains {
            for half in [&chain[..cut], &chain[cut..]] {
                let (mean, variance) = mean_and_variance(half.iter().copied());
                means.push(mean);
                squares += variance * (half.len() as f64 - 1.0);
            }
        }
        let draws = chains[0].len() as f64;
        let within = squares / (chains.len() as f64 * (draws - 2.0));
        let between = mean_and_variance(means.iter().copied()).1;
        libm::sqrt(1.0 - 2.0 / draws + between / within)
    }

    #[test]
    fn running_r_hat_compares_the_halves() {
        for (seed, chains, draws, cut) in [
            (1, 4, 1024, 512),
            (2, 1, 64, 32),
            (3, 2, 65, 32),
            (4, 16, 4, 2),
            (5, 16, 4096, 2048),
            // Eight blocks of 128; 897 draws fill seven and start the last one.
            (6, 20, 897, 512),
            // Four blocks of 256 and one of 100 draws.
            (7, 20, 1124, 512),
            // Five blocks of 256 and one of 255 draws.
            (8, 20, 1535, 768),
        ] {
            let chains =
                map(ar1(seed, 0.5, chains, draws), |x, m, n| x + 0.1 * m + n / draws as f64);
            let coordinate = run(&chains).coordinate(0).unwrap();
            assert_close(coordinate.r_hat, r_hat_cut_at(&chains, cut), 1e-11, &format!("{draws}"));
            if draws == 2 * cut {
                let halves = Draws::new(&chains).unwrap().halves().concat();
                let halves: Vec<&[f64]> = halves.chunks_exact(cut).collect();
                assert_close(coordinate.r_hat, split_r_hat(&halves), 1e-11, &format!("{draws}"));
            }
        }
    }

    /// The ESS of an AR(1) process is `S (1 - phi) / (1 + phi)`. With 256 chains there are 1024 to
    /// 2048 batches, so the standard error is 3% to 4.5%; four of these and a bias of up to 4%,
    /// about `2 phi / ((1 - phi^2) b)`, make 20%.
    #[test]
    fn running_ess_of_many_chains_is_that_of_ar1() {
        for (phi, draws) in
            [(0.0, 4096), (0.5, 4096), (0.9, 4096), (0.9, 3000), (0.95, 8192), (-0.5, 5000)]
        {
            let chains = ar1(21, phi, 256, draws);
            let ess = run(&chains).coordinate(0).unwrap().ess;
            let exact = (256 * draws) as f64 * (1.0 - phi) / (1.0 + phi);
            assert_close(ess, exact, 0.2, &format!("phi {phi}, {draws} draws"));
        }
    }

    /// The mean over 64 coordinates of one chain with 39 batches: the standard error is 26% of each
    /// and 3% of the mean, and the mean of a reciprocal variance is 5% too large.
    #[test]
    fn running_ess_of_one_chain_is_that_of_ar1() {
        let (phi, draws) = (0.8, 20_000);
        let chains = ar1(22, phi, 64, draws);
        let mut running = RunningDiagnostics::new(1, 64).unwrap();
        for n in 0..draws {
            let state: Vec<f64> = chains.iter().map(|chain| chain[n]).collect();
            running.update(&state).unwrap();
        }
        let exact = draws as f64 * (1.0 - phi) / (1.0 + phi);
        let ess: Vec<f64> = (0..64).map(|i| running.coordinate(i).unwrap().ess).collect();
        assert_close(ess.iter().sum::<f64>() / 64.0, exact, 0.2, "mean ESS");
        for x in ess {
            assert!(x > exact / 2.5 && x < exact * 2.5, "{x} is far from {exact}");
        }
    }

    #[test]
    fn running_ess_counts_stuck_chains_once() {
        for (chains, scale) in [(5, 0.0), (5, 0.01), (200, 0.01)] {
            // Each about another value.
            let stuck = map(ar1(23, 0.5, chains, 1000), |x, m, _| scale * x + m);
            let ess = run(&stuck).coordinate(0).unwrap().ess;
            assert!(ess < chains as f64 && ess > 0.9 * (chains - 1) as f64, "{chains}: {ess}");
        }
    }

    /// Means over 64 coordinates of few chains.
    #[test]
    fn running_ess_of_few_chains_is_that_of_their_batches() {
        let (phi, draws) = (0.5, 4096);
        for chains in [2, 4, 16] {
            let mut running = RunningDiagnostics::new(chains, 64).unwrap();
            let all = ar1(24, phi, chains * 64, draws);
            for n in 0..draws {
                let states: Vec<f64> = all.iter().map(|chain| chain[n]).collect();
                running.update(&states).unwrap();
            }
            let exact = (chains * draws) as f64 * (1.0 - phi) / (1.0 + phi);
            let ess: f64 = (0..64).map(|i| running.coordinate(i).unwrap().ess).sum();
            let share = ess / (64.0 * exact);
            assert!((share - 1.0).abs() < 0.1, "{chains} chains: {share}");
        }
    }

    /// Against the tabulated quantiles.
    #[test]
    fn chance_is_a_quantile_of_f() {
        for (k, l, quantile) in [
            (1.0, 6.0, 35.507),
            (1.0, 12.0, 18.643),
            (3.0, 12.0, 10.804),
            (3.0, 20.0, 8.098),
            (7.0, 24.0, 5.235),
            (1.0, f64::INFINITY, 10.828),
            (15.0, f64::INFINITY, 2.513),
        ] {
            let ours = chance(k, l);
            assert!((ours / quantile - 1.0).abs() < 0.1, "{ours} against {quantile}");
        }
    }

    #[test]
    fn running_ess_is_bounded() {
        let chains = [[0.0, 1.0].repeat(512), [1.0, 0.0].repeat(512)];
        let coordinate = run(&chains).coordinate(0).unwrap();
        assert_close(coordinate.ess, 2048.0 * libm::log10(2048.0), 1e-14, "bound");
    }

    #[test]
    fn an_overflowing_coordinate_is_the_worst() {
        let mut running = RunningDiagnostics::new(2, 2).unwrap();
        for n in 0..10_000 {
            let outlier = if n == 5000 { 1e155 } else { 1.0 };
            running.update(&[n as f64, outlier, 2.0, 1.0]).unwrap();
        }
        assert_eq!(running.worst_r_hat(), Some((1, f64::INFINITY)));
        assert_eq!(running.worst_ess(), Some((1, 0.0)));
    }

    #[test]
    fn worst_coordinates_are_found() {
        let mut rng = SplitMix64(31);
        let mut running = RunningDiagnostics::new(3, 4).unwrap();
        assert_eq!((running.worst_r_hat(), running.worst_ess()), (None, None));
        let mut slow = [0.0; 3];
        for _ in 0..2000 {
            let mut states = Vec::new();
            for (m, slow) in slow.iter_mut().enumerate() {
                *slow = 0.9 * *slow + rng.noise();
                // Constant; slow; shifted between chains; independent.
                states.extend([0.1, *slow, rng.noise() + m as f64, rng.noise()]);
            }
            // Narrow states are as good as wide ones.
            let narrow: Vec<f32> = states.iter().map(|&x| x as f32).collect();
            running.update(&narrow).unwrap();
        }
        let constant = running.coordinate(0).unwrap();
        assert_eq!((constant.mean, constant.variance), (f64::from(0.1_f32), 0.0));
        assert!(constant.r_hat.is_nan() && constant.ess.is_nan());
        let (index, r_hat) = running.worst_r_hat().unwrap();
        assert!(index == 2 && r_hat > 1.5 && r_hat == running.coordinate(2).unwrap().r_hat);
        assert_eq!(running.worst_ess().unwrap().0, 2);
        assert!(running.coordinate(1).unwrap().r_hat < 1.05);
        assert!(running.coordinate(3).unwrap().r_hat < 1.01);
        assert!(running.coordinate(4).is_none());
    }

    #[test]
    fn unusable_states_are_refused() {
        assert!(RunningDiagnostics::new(0, 3).is_err() && RunningDiagnostics::new(3, 0).is_err());
        let mut running = RunningDiagnostics::new(2, 3).unwrap();
        assert_eq!(running.update(&[0.0; 5]), Err(DiagnosticsError::WrongLength));
        let mut states = [0.0_f32; 6];
        states[4] = f32::NAN;
        let error = DiagnosticsError::NotFinite { chain: 1, index: 1 };
        assert_eq!(running.update(&states), Err(error));
        assert_eq!(error.to_string(), "value 1 of chain 1 is not finite");
        assert_eq!(running.draws(), 0);
        for n in 0..3 {
            running.update(&[n as f32; 6]).unwrap();
            let coordinate = running.coordinate(2).unwrap();
            assert!(coordinate.r_hat.is_nan() && coordinate.ess.is_nan());
        }
        assert_eq!(running.coordinate(2).unwrap().mean, 1.0);
    }

    #[test]
    fn block_numbers_stay_between_their_bounds() {
        for (chains, max_blocks) in [(1, 64), (2, 64), (4, 32), (15, 16), (16, 8), (1000, 8)] {
            let mut running = RunningDiagnostics::new(chains, 1).unwrap();
            for n in 0..400_usize {
                running.update(&vec![n as f64; chains]).unwrap();
                let full = running.draws() / running.batch_length();
                assert!(running.blocks.len() <= max_blocks);
                assert!(n < max_blocks || full >= max_blocks as u64 / 2);
            }
        }
    }
}
