//! Samplers have the laws they claim: large populations of chains against exact laws.
//!
//! A sampler that leaves a law invariant keeps chains that start with it there. So populations
//! start with exact draws, and what they are after some steps is compared with the exact law and,
//! which is sharper, with the start. The checks are put to the test in turn: small samplers with a
//! bug planted in them must not pass.
//!
//! `GIBBSITE_TEST_EFFORT` chooses the size: `small`, `normal` or `large`. Large runs take a fresh
//! seed, or that of `GIBBSITE_TEST_SEED`.

use gibbsite::{
    Domain, Energy, Isa, Real, ReluEnergy, Result, Rows, RowsMut,
    normaliser::{Base, base_samples},
    random::Stream,
    sampler::{IndependenceMetropolis, Sampler, Start},
    teacher::Teacher,
};
use gibbsite_kernels::{
    Scratch,
    chain::{self, Moving, Rule, Space},
    noise::Streams,
};
use std::f64::consts::{FRAC_PI_2, PI, SQRT_2, TAU};

#[path = "../kernels/tests/support/mod.rs"]
mod support;

use support::{by_effort, run_seed};

/// Seed number `k` of this run.
fn seed(k: u64) -> u64 {
    (run_seed() << 16) + k
}

// -------------------------------------------------------------------------------------------------
// Statistics
// -------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Figure {
    /// Standard normal if all is well.
    Z(f64),
    /// Uniform if all is well.
    P(f64),
}

impl Figure {
    /// False for NaN.
    fn is_fine(self) -> bool {
        match self {
            Figure::Z(z) => z.abs() < 5.0,
            Figure::P(p) => (1e-6..=1.0 - 1e-6).contains(&p),
        }
    }
}

/// What a set of checks found.
#[derive(Default)]
struct Figures(Vec<(String, Figure)>);

impl Figures {
    fn push(&mut self, what: impl Into<String>, figure: Figure) {
        self.0.push((what.into(), figure));
    }

    /// A mean against its expectation, in standard errors.
    fn mean(&mut self, what: impl Into<String>, found: Moments, expected: f64) {
        // Nothing has moved if differences are all 0.
        let off = found.mean() - expected;
        self.push(what, Figure::Z(if off == 0.0 { 0.0 } else { off / found.error() }));
    }

    fn wrong(&self) -> Vec<&(String, Figure)> {
        self.0.iter().filter(|(_, figure)| !figure.is_fine()).collect()
    }

    /// The extremes, for the record.
    fn summary(&self) -> String {
        let (mut z, mut low, mut high) = (0.0_f64, 1.0_f64, 0.0_f64);
        for (_, figure) in &self.0 {
            match *figure {
                Figure::Z(value) => z = if value.abs() > z.abs() { value } else { z },
                Figure::P(p) => (low, high) = (low.min(p), high.max(p)),
            }
        }
        let p = if low <= high { format!(", p {low:.2e} to {high:.4}") } else { String::new() };
        format!("{} figures, largest z {z:.2}{p}", self.0.len())
    }

    #[track_caller]
    fn assert_fine(&self, what: &str) {
        println!("{what}: {}", self.summary());
        let wrong = self.wrong();
        assert!(wrong.is_empty(), "{what}, run seed {}: {wrong:?}", run_seed());
    }

    /// A planted bug must show, and not by a hair: another seed must show it too.
    #[track_caller]
    fn assert_caught(&self, what: &str) {
        println!("{what}: {} wrong of {}", self.wrong().len(), self.summary());
        let clearly = self.0.iter().any(|(_, figure)| match *figure {
            Figure::Z(z) => !(z.abs() < 10.0),
            Figure::P(p) => !(p > 1e-20),
        });
        assert!(clearly, "{what} is not caught: {}", self.summary());
    }
}

/// Sums over independent values.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn push(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(self) -> f64 {
        self.sum / self.count
    }

    /// The standard error of the mean.
    fn error(self) -> f64 {
        let variance = self.squares / self.count - self.mean() * self.mean();
        (variance / self.count).sqrt()
    }
}

impl FromIterator<f64> for Moments {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut moments = Self::default();
        values.into_iter().for_each(|value| moments.push(value));
        moments
    }
}

/// The normal distribution function.
fn phi(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// p-value of Kolmogorov and Smirnov's test that numbers are uniform on [0, 1].
fn kolmogorov_smirnov(uniform: &[f64]) -> f64 {
    // The largest distance would pass over it.
    if uniform.iter().any(|u| u.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = uniform.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance = sorted.iter().enumerate().fold(0.0_f64, |distance, (i, &u)| {
        distance.max((i + 1) as f64 / n - u).max(u - i as f64 / n)
    });
    kolmogorov(distance * (n.sqrt() + 0.12 + 0.11 / n.sqrt()))
}

/// Probability that Kolmogorov's variable exceeds `x`: one of its two series, whichever converges
/// quickly.
fn kolmogorov(x: f64) -> f64 {
    if x < 1.0 {
        let term = |k: f64| (-(2.0 * k - 1.0).powi(2) * PI * PI / (8.0 * x * x)).exp();
        return 1.0 - TAU.sqrt() / x * (1..5).map(|k| term(f64::from(k))).sum::<f64>();
    }
    let term = |k: i32| f64::from(1 - 2 * (k % 2)) * (-2.0 * f64::from(k * k) * x * x).exp();
    (-2.0 * (1..8).map(term).sum::<f64>()).abs()
}

/// p-value of Pearson's test that counts come from equally probable classes, by the approximation
/// of Wilson and Hilferty (1931), which is good to more than is needed for the 50 or more classes
/// here.
fn chi_square(counts: &[usize]) -> f64 {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let squares = counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected);
    let freedom = (counts.len() - 1) as f64;
    let shrink = 2.0 / (9.0 * freedom);
    phi(-((squares.sum::<f64>() / freedom).cbrt() - (1.0 - shrink)) / shrink.sqrt())
}

/// Numbers on [0, 1] are uniform.
fn check_uniform(figures: &mut Figures, what: &str, uniform: &[f64]) {
    figures.push(format!("{what}, KS"), Figure::P(kolmogorov_smirnov(uniform)));
    const CLASSES: usize = 64;
    let mut counts = [0; CLASSES];
    for u in uniform {
        counts[((u * CLASSES as f64) as usize).min(CLASSES - 1)] += 1;
    }
    figures.push(format!("{what}, chi-square"), Figure::P(chi_square(&counts)));
}

/// Waves on [0, 1], of mean 0 under the uniform law.
const WAVES: usize = 4;

fn waves(u: f64) -> [f64; WAVES] {
    let first = (PI * u).cos();
    let mut waves = [first, 2.0 * first * first - 1.0, 0.0, 0.0];
    for k in 2..WAVES {
        waves[k] = 2.0 * first * waves[k - 1] - waves[k - 2];
    }
    waves
}

/// Uniform numbers stay uniform from `before` to `after`. Differences of the same chain tell more
/// than two populations do, most of all where steps are small; and pairs of a reversible chain are
/// as probable backwards.
fn check_kept(figures: &mut Figures, what: &str, before: &[f64], after: &[f64]) {
    check_uniform(figures, what, after);
    let mut changes = [Moments::default(); WAVES];
    let mut asymmetry = [Moments::default(); WAVES];
    for (&before, &after) in before.iter().zip(after) {
        let (before, after) = (waves(before), waves(after));
        for k in 0..WAVES {
            changes[k].push(after[k] - before[k]);
            asymmetry[k].push(before[0] * after[k] - after[0] * before[k]);
        }
    }
    for k in 0..WAVES {
        let what = format!("{what}, wave {}", k + 1);
        figures.mean(format!("{what}, change"), changes[k], 0.0);
        if k > 0 {
            figures.mean(format!("{what} and wave 1, reversed"), asymmetry[k], 0.0);
        }
    }
}

// -------------------------------------------------------------------------------------------------
// Laws
// -------------------------------------------------------------------------------------------------

/// A law in plain formulas.
trait Law: Sync {
    fn dim(&self) -> usize;
    fn domain(&self) -> Domain {
        Domain::Euclidean
    }
    /// U(x); the score goes to `score`, tangential on the sphere.
    fn at(&self, x: &[f64], score: &mut [f64]) -> f64;
}

/// The energy of a law, which samplers know nothing special about.
struct Plain<'a>(&'a dyn Law);

impl Energy<f64> for Plain<'_> {
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn domain(&self) -> Domain {
        self.0.domain()
    }
    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        mut potential: Option<&mut [f64]>,
        mut score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        let mut unused = vec![0.0; self.0.dim()];
        for (i, x) in x.iter().enumerate() {
            let score = score.as_mut().map_or(&mut unused[..], |score| score.row_mut(i));
            let value = self.0.at(x, score);
            if let Some(potential) = &mut potential {
                potential[i] = value;
            }
        }
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// v - (v·x) x.
fn project(v: &mut [f64], x: &[f64]) {
    let normal = dot(v, x);
    v.iter_mut().zip(x).for_each(|(v, x)| *v -= normal * x);
}

/// N(0, diag(variances)).
struct Gaussian(Vec<f64>);

impl Law for Gaussian {
    fn dim(&self) -> usize {
        self.0.len()
    }
    fn at(&self, x: &[f64], score: &mut [f64]) -> f64 {
        let mut potential = 0.0;
        for ((x, variance), score) in x.iter().zip(&self.0).zip(score) {
            potential += 0.5 * x * x / variance;
            *score = -x / variance;
        }
        potential
    }
}

/// Independent draws of N(0, diag(variances)).
fn gaussian(variances: &[f64], n: usize, seed: u64) -> Vec<f64> {
    let mut x = base_samples(Base::Gaussian(1.0), n, variances.len(), seed, 0).unwrap();
    for x in x.chunks_exact_mut(variances.len()) {
        x.iter_mut().zip(variances).for_each(|(x, variance)| *x *= variance.sqrt());
    }
    x
}

/// p ∝ exp(κ x_d) on the sphere: von Mises and Fisher's law.
struct VonMisesFisher {
    kappa: f64,
    dim: usize,
}

impl Law for VonMisesFisher {
    fn dim(&self) -> usize {
        self.dim
    }
    fn domain(&self) -> Domain {
        Domain::Sphere
    }
    fn at(&self, x: &[f64], score: &mut [f64]) -> f64 {
        score.fill(0.0);
        score[self.dim - 1] = self.kappa;
        project(score, x);
        -self.kappa * x[self.dim - 1]
    }
}

/// Independent draws of von Mises and Fisher's law in d = 5, where heights t have density (1 - t²)
/// exp(κ t): those of an exponential law, kept with probability 1 - t².
fn von_mises_fisher(kappa: f64, n: usize, seed: u64) -> Vec<f64> {
    let mut stream = Stream::new(seed, 0);
    let mut x = vec![0.0; n * 5];
    for x in x.chunks_exact_mut(5) {
        let height = loop {
            let u = stream.uniform();
            let height = 1.0 + (u + (1.0 - u) * (-2.0 * kappa).exp()).ln() / kappa;
            if stream.uniform() < 1.0 - height * height {
                break height;
            }
        };
        stream.fill_sphere(&mut x[..4]);
        x.iter_mut().for_each(|x| *x *= (1.0 - height * height).sqrt());
        x[4] = height;
    }
    x
}

/// A shallow ReLU model: on the sphere, or in R^d with a Gaussian base.
struct Relu {
    dim: usize,
    theta: Vec<f64>,
    bias: Vec<f64>,
    w: Vec<f64>,
    base_scale: Option<f64>,
}

impl Relu {
    /// The library's version.
    fn energy<T: Real>(&self) -> ReluEnergy<T> {
        let cast = |values: &[f64]| values.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
        let (theta, w) = (cast(&self.theta), cast(&self.w));
        let theta = Rows::new(&theta, w.len(), self.dim).unwrap();
        let model = ReluEnergy::new(theta, &w).unwrap().with_bias(&cast(&self.bias)).unwrap();
        match self.base_scale {
            Some(scale) => model.with_base_scale(T::from_f64(scale)),
            None => model.with_domain(Domain::Sphere),
        }
        .unwrap()
    }

    fn of_teacher(teacher: &Teacher<f64>) -> Self {
        let model = teacher.model();
        let (theta, w) = (model.theta().as_slice().to_vec(), model.w().to_vec());
        Self { dim: model.dim(), theta, bias: vec![0.0; w.len()], w, base_scale: None }
    }
}

impl Law for Relu {
    fn dim(&self) -> usize {
        self.dim
    }
    fn domain(&self) -> Domain {
        if self.base_scale.is_some() { Domain::Euclidean } else { Domain::Sphere }
    }
    fn at(&self, x: &[f64], score: &mut [f64]) -> f64 {
        let mut potential = 0.0;
        score.fill(0.0);
        for ((theta, bias), w) in self.theta.chunks(self.dim).zip(&self.bias).zip(&self.w) {
            let (w, preactivation) = (w / self.w.len() as f64, dot(theta, x) + bias);
            if preactivation > 0.0 {
                potential += w * preactivation;
                score.iter_mut().zip(theta).for_each(|(s, theta)| *s -= w * theta);
            }
        }
        match self.base_scale {
            None => project(score, x),
            Some(scale) => {
                potential += 0.5 * dot(x, x) / (scale * scale);
                score.iter_mut().zip(x).for_each(|(s, x)| *s -= x / (scale * scale));
            }
        }
        potential
    }
}

/// A function of the state that is uniform on [0, 1] under a law, with a name.
type Transform = (&'static str, Box<dyn Fn(&[f64]) -> f64 + Sync>);

/// A law with exact draws.
struct Case {
    name: String,
    law: Relu,
    start: Vec<f64>,
    transforms: Vec<Transform>,
    /// The transforms of the start.
    before: Vec<Vec<f64>>,
}

impl Case {
    fn new(name: String, law: Relu, start: Vec<f64>, transforms: Vec<Transform>) -> Self {
        let mut case = Self { name, law, start, transforms, before: Vec::new() };
        case.before = case.transformed(&case.start);
        let mut figures = Figures::default();
        for (uniform, (what, _)) in case.before.iter().zip(&case.transforms) {
            check_uniform(&mut figures, what, uniform);
        }
        figures.assert_fine(&format!("{}, exact draws", case.name));
        case
    }

    fn transformed(&self, x: &[f64]) -> Vec<Vec<f64>> {
        let apply = |(_, transform): &Transform| x.chunks(self.law.dim).map(transform).collect();
        self.transforms.iter().map(apply).collect()
    }

    /// Chains that start with the law have it after each of so many steps in all.
    fn keeps(&self, times: &[usize], mut walk: impl FnMut(usize) -> Vec<f64>) -> Figures {
        let mut figures = Figures::default();
        let mut done = 0;
        for &time in times {
            let after = self.transformed(&walk(time - done));
            done = time;
            for ((before, after), (what, _)) in self.before.iter().zip(&after).zip(&self.transforms)
            {
                let what = format!("{what} after {time}");
                check_kept(&mut figures, &what, before, after);
            }
        }
        figures
    }
}

/// In R^1: knots on both sides, slopes up and down, a Gaussian base. The density is Gaussian
/// between knots.
fn line(n: usize, seed: u64) -> Case {
    const SCALE: f64 = 1.25;
    let law = Relu {
        dim: 1,
        theta: vec![1.0, 2.0, -1.0],
        bias: vec![0.5, -0.8, -0.3],
        w: vec![6.0, -2.25, 4.0],
        base_scale: Some(SCALE),
    };
    // f is not negative: the slopes are -4/3, 2/3, 2 and 1/2. So exp(-f) is a probability to keep a
    // draw of the base.
    let mut start = Vec::with_capacity(n);
    let mut stream = Stream::new(seed, 0);
    while start.len() < n {
        let x = SCALE * stream.normal();
        let f = law.at(&[x], &mut [0.0]) - 0.5 * (x / SCALE).powi(2);
        if stream.uniform() < (-f).exp() {
            start.push(x);
        }
    }
    // Between knots U = x²/(2s²) + a x + c, a piece of N(-a s², s²).
    let mut ends: Vec<f64> = law.bias.iter().zip(&law.theta).map(|(b, theta)| -b / theta).collect();
    ends.extend([f64::NEG_INFINITY, f64::INFINITY]);
    ends.sort_by(f64::total_cmp);
    let mut pieces = Vec::new();
    let mut below = 0.0;
    for ends in ends.windows(2) {
        let inside = ends[0].max(-10.0).midpoint(ends[1].min(10.0));
        let mut score = [0.0];
        let potential = law.at(&[inside], &mut score);
        let a = -score[0] - inside / (SCALE * SCALE);
        let c = potential - 0.5 * (inside / SCALE).powi(2) - a * inside;
        let shift = a * SCALE * SCALE;
        let mass = (0.5 * a * shift - c).exp();
        let from = phi((ends[0] + shift) / SCALE);
        pieces.push((ends[1], shift, mass, from, below));
        below += mass * (phi((ends[1] + shift) / SCALE) - from);
    }
    let total = below;
    let cdf = move |x: &[f64]| {
        let piece = pieces.iter().find(|piece| x[0] <= piece.0).expect("the last end is infinite");
        let (_, shift, mass, from, below) = *piece;
        (below + mass * (phi((x[0] + shift) / SCALE) - from)) / total
    };
    Case::new("line".into(), law, start, vec![("x", Box::new(cdf))])
}

/// The distribution function of a density on an interval that need not be normalised, by Simpson's
/// rule on a fine grid.
fn distribution(low: f64, high: f64, density: impl Fn(f64) -> f64) -> impl Fn(f64) -> f64 {
    const CELLS: usize = 4096;
    let width = (high - low) / CELLS as f64;
    let mut sums = vec![0.0];
    for cell in 0..CELLS {
        let left = low + cell as f64 * width;
        let [a, b, c] = [0.0, 0.5, 1.0].map(|part| density(left + part * width));
        sums.push(sums[cell] + a + 4.0 * b + c);
    }
    move |x| {
        let position = ((x - low) / width).clamp(0.0, CELLS as f64);
        let cell = (position as usize).min(CELLS - 1);
        let part = position - cell as f64;
        (sums[cell] + part * (sums[cell + 1] - sums[cell])) / sums[CELLS]
    }
}

/// A teacher of one or two neurons on the sphere.
fn sphere(name: &str, dim: usize, n: usize, seed: u64) -> Case {
    let teacher = Teacher::<f64>::named(name, dim, 5).unwrap();
    let start = teacher.sample(n, seed, 0).unwrap();
    let law = Relu::of_teacher(&teacher);
    let w = law.w.clone();
    // The plane of the neurons, or a plane through the one.
    let first = law.theta[..dim].to_vec();
    let mut second = match w.len() {
        1 => [&first[1..], &first[..1]].concat(),
        _ => law.theta[dim..].to_vec(),
    };
    project(&mut second, &first);
    let norm = dot(&second, &second).sqrt();
    second.iter_mut().for_each(|x| *x /= norm);
    let inside: Vec<[f64; 2]> =
        law.theta.chunks(dim).map(|theta| [dot(theta, &first), dot(theta, &second)]).collect();
    let slopes = w.clone();
    // With r = sin a the distance from the axis, r (1 - r²)^((d - 4)/2) dr is sin a cos^(d - 3) a
    // da; on the circle r = 1.
    let of_angle = move |angle: f64| {
        let (sin, cos) = angle.sin_cos();
        let slope = inside.iter().zip(&slopes);
        let slope: f64 = slope.map(|([x, y], w)| w * (x * cos + y * sin).max(0.0)).sum();
        let slope = slope / slopes.len() as f64;
        if dim == 2 {
            return (-slope).exp();
        }
        const CELLS: usize = 64;
        let radial = |i: usize| {
            let (sin, cos) = (i as f64 * FRAC_PI_2 / (2 * CELLS) as f64).sin_cos();
            sin * cos.powi(dim as i32 - 3) * (-slope * sin).exp()
        };
        (0..CELLS).map(|i| radial(2 * i) + 4.0 * radial(2 * i + 1) + radial(2 * i + 2)).sum()
    };
    let cdf = distribution(-PI, PI, of_angle);
    let (e1, e2) = (first.clone(), second);
    let angle = move |x: &[f64]| cdf(dot(x, &e2).atan2(dot(x, &e1)));
    let mut transforms: Vec<Transform> = vec![("angle", Box::new(angle))];
    if let [w] = w[..] {
        let of_height = move |a: f64| a.sin().powi(dim as i32 - 2) * (-w * a.cos().max(0.0)).exp();
        let cdf = distribution(0.0, PI, of_height);
        let height = move |x: &[f64]| cdf(dot(x, &first).clamp(-1.0, 1.0).acos());
        transforms.push(("height", Box::new(height)));
    }
    Case::new(format!("{name} in d = {dim}"), law, start, transforms)
}

/// Moves the library's chains from given points; returns where they are.
fn walk<'a, T: Real, E: Energy<T> + ?Sized>(
    sampler: Sampler<'_, T>,
    energy: &'a E,
    start: &[f64],
) -> impl FnMut(usize) -> Vec<f64> + use<'a, T, E> {
    let start: Vec<T> = start.iter().map(|&x| T::from_f64(x)).collect();
    let d = energy.dim();
    let rows = Rows::new(&start, start.len() / d, d).unwrap();
    let mut chains = sampler.start(Start::Points(rows)).build(energy).unwrap();
    move |steps| {
        let report = chains.run(energy, steps).unwrap();
        if let Some(acceptance) = report.acceptance {
            println!("acceptance over {steps} steps: {acceptance:.4}");
        }
        chains.states().as_slice().iter().map(|x| x.to_f64()).collect()
    }
}

// -------------------------------------------------------------------------------------------------
// ULA and BAOAB: biased by a known amount
// -------------------------------------------------------------------------------------------------

/// Stationary variances of chains, by time averages of every chain, which are independent.
fn check_variances(
    figures: &mut Figures,
    what: &str,
    rounds: usize,
    exact: &[f64],
    mut walk: impl FnMut(usize) -> Vec<f64>,
) {
    let d = exact.len();
    let mut means = Vec::new();
    let mut squares = Vec::new();
    for _ in 0..rounds {
        let x = walk(1);
        means.resize(x.len(), 0.0);
        squares.resize(x.len(), 0.0);
        for ((mean, square), x) in means.iter_mut().zip(&mut squares).zip(&x) {
            *mean += x / rounds as f64;
            *square += x * x / rounds as f64;
        }
    }
    for (k, &exact) in exact.iter().enumerate() {
        let column = |values: &[f64]| values.chunks(d).map(|row| row[k]).collect::<Moments>();
        let (mean, square) = (column(&means), column(&squares));
        let (found, error) = (square.mean(), square.error());
        println!("{what}, variance {k}: {found:.5} ± {error:.5} against {exact:.5}");
        figures.mean(format!("{what}, mean {k}"), mean, 0.0);
        figures.mean(format!("{what}, variance {k}"), square, exact);
    }
}

/// Of the stationary law of ULA on N(0, s²): 2hpc² / (1 - (1 - hp/s²)²), with noise factor c and
/// preconditioner p.
fn ula_variance(h: f64, variance: f64, noise: f64, preconditioner: f64) -> f64 {
    noise * noise * variance / (1.0 - h * preconditioner / (2.0 * variance))
}

const ULA_STEPS: [f64; 5] = [0.05, 0.2, 0.5, 1.0, 1.5];

#[test]
fn ula_has_its_exact_stationary_variance() {
    let (chains, rounds) = by_effort((10_000, 50), (100_000, 100), (500_000, 250));
    let law = Gaussian(vec![1.0]);
    let energy = Plain(&law);
    let mut figures = Figures::default();
    for (k, h) in ULA_STEPS.into_iter().enumerate() {
        for noise in if h < 1.0 { &[1.0, 0.3][..] } else { &[1.0][..] } {
            let exact = [ula_variance(h, 1.0, *noise, 1.0)];
            let start = gaussian(&exact, chains, seed(k as u64));
            let sampler = Sampler::ula(h).noise(*noise).seed(seed(10 + k as u64));
            let what = format!("ula({h}), noise {noise}");
            let walk = walk(sampler, &energy, &start);
            check_variances(&mut figures, &what, rounds, &exact, walk);
        }
    }
    figures.assert_fine("ULA on N(0, 1)");
}

#[test]
fn preconditioned_ula_has_its_exact_stationary_variances() {
    let (chains, rounds) = by_effort((5_000, 50), (50_000, 100), (250_000, 200));
    let variances = [0.01, 1.0, 25.0];
    let law = Gaussian(variances.to_vec());
    let energy = Plain(&law);
    let mut figures = Figures::default();
    // The variances themselves, and something else.
    for (k, diagonal) in [variances, [0.004, 1.3, 30.0]].into_iter().enumerate() {
        for (h, noise) in [(0.1, 1.0), (0.8, 1.0), (0.4, 0.5)] {
            let exact: [f64; 3] =
                std::array::from_fn(|i| ula_variance(h, variances[i], noise, diagonal[i]));
            let start = gaussian(&exact, chains, seed(20 + k as u64));
            let sampler = Sampler::ula(h).noise(noise).preconditioner(&diagonal);
            let walk = walk(sampler.seed(seed(30 + k as u64)), &energy, &start);
            let what = format!("ula({h}), noise {noise}, preconditioner {diagonal:?}");
            check_variances(&mut figures, &what, rounds, &exact, walk);
        }
    }
    figures.assert_fine("ULA with a preconditioner");
}

/// Time steps and frictions.
const BAOAB: [(f64, f64); 6] =
    [(0.1, 0.5), (0.5, 0.5), (0.5, 2.0), (1.0, 1.0), (1.5, 5.0), (1.8, 0.5)];

/// Steps until velocities that start from rest have forgotten it: the slowest rate of variances is
/// above 0.4.
fn baoab_burn_in(step: f64) -> usize {
    (40.0 / step) as usize
}

#[test]
fn baoab_samples_positions_of_gaussians_exactly() {
    let (chains, rounds) = by_effort((3_000, 20), (30_000, 40), (200_000, 100));
    let mut figures = Figures::default();
    let anisotropic = [0.01, 1.0, 25.0];
    for (k, (step, friction)) in BAOAB.into_iter().enumerate() {
        for variances in [&[1.0][..], &anisotropic] {
            let law = Gaussian(variances.to_vec());
            let chains = chains / variances.len();
            let start = gaussian(variances, chains, seed(40 + k as u64));
            let sampler = Sampler::baoab(step, friction).preconditioner(variances);
            let energy = Plain(&law);
            let mut walk = walk(sampler.seed(seed(50 + k as u64)), &energy, &start);
            walk(baoab_burn_in(step));
            let what = format!("baoab({step}, {friction}) in d = {}", variances.len());
            check_variances(&mut figures, &what, rounds, variances, walk);
        }
    }
    figures.assert_fine("BAOAB");
}

// -------------------------------------------------------------------------------------------------
// MALA, HMC, independence Metropolis: exact
// -------------------------------------------------------------------------------------------------

/// MALA and HMC with steps too small, about right and too large.
fn metropolis<T: Real>(mala: [f64; 3], hmc: [f64; 3]) -> Vec<(String, Sampler<'static, T>)> {
    let mala = mala.map(|h| (format!("mala({h})"), Sampler::mala(h)));
    let hmc = hmc.map(|step| (format!("hmc({step}, 5)"), Sampler::hmc(step, 5)));
    mala.into_iter().chain(hmc).collect()
}

const MALA_ON_LINE: [f64; 3] = [0.02, 0.8, 3.0];
const HMC_ON_LINE: [f64; 3] = [0.05, 0.45, 1.1];

#[test]
fn mala_and_hmc_keep_a_piecewise_gaussian_law() {
    let n = by_effort(20_000, 1_000_000, 8_000_000);
    let case = line(n, seed(60));
    let (fused, plain) = (case.law.energy::<f64>(), Plain(&case.law));
    for (k, (name, sampler)) in metropolis(MALA_ON_LINE, HMC_ON_LINE).into_iter().enumerate() {
        let sampler = sampler.seed(seed(70 + k as u64));
        let walked = walk(sampler.clone(), &fused, &case.start);
        case.keeps(&[1, 10, 100], walked).assert_fine(&format!("line, {name}, fused"));
        // Another seed: with the same, it would be nearly the same numbers. Fewer chains: this path
        // is slower.
        let walked = walk(sampler.seed(seed(80 + k as u64)), &plain, &case.start[..n / 4]);
        case.keeps(&[1, 10], walked).assert_fine(&format!("line, {name}, plain"));
    }
    let fused = case.law.energy::<f32>();
    for (name, sampler) in metropolis(MALA_ON_LINE, HMC_ON_LINE) {
        let walked = walk(sampler.seed(seed(90)), &fused, &case.start[..n / 4]);
        case.keeps(&[10], walked).assert_fine(&format!("line, {name}, f32"));
    }
}

fn mala_and_hmc_keep_laws_on_the_sphere(dim: usize) {
    let n = by_effort(5_000, 100_000, 1_000_000);
    for (k, name) in ["j1w10", "j2w-5"].into_iter().enumerate() {
        let k = 1000 * dim as u64 + 100 * k as u64;
        let case = sphere(name, dim, n, seed(k));
        let (fused, plain) = (case.law.energy::<f64>(), Plain(&case.law));
        let samplers = metropolis([0.03, 0.4, 2.0], [0.05, 0.4, 1.3]);
        for (i, (name, sampler)) in samplers.into_iter().enumerate() {
            let sampler = sampler.seed(seed(k + 10 + i as u64));
            let walked = walk(sampler.clone(), &fused, &case.start);
            let what = format!("{}, {name}, fused", case.name);
            case.keeps(&[1, 10, 40], walked).assert_fine(&what);
            let walked = walk(sampler.seed(seed(k + 20 + i as u64)), &plain, &case.start);
            let what = format!("{}, {name}, plain", case.name);
            case.keeps(&[5], walked).assert_fine(&what);
        }
        let fused = case.law.energy::<f32>();
        let walked = walk(Sampler::mala(0.25).seed(seed(k + 30)), &fused, &single(&case));
        case.keeps(&[10], walked).assert_fine(&format!("{}, f32", case.name));
    }
}

/// The start of a case as points that are on the sphere in `f32`.
fn single(case: &Case) -> Vec<f64> {
    case.start.iter().map(|&x| f64::from(x as f32)).collect()
}

#[test]
fn mala_and_hmc_keep_laws_on_the_circle() {
    mala_and_hmc_keep_laws_on_the_sphere(2);
}

#[test]
fn mala_and_hmc_keep_laws_on_the_sphere_in_d_3() {
    mala_and_hmc_keep_laws_on_the_sphere(3);
}

#[test]
fn mala_and_hmc_keep_laws_on_the_sphere_in_d_5() {
    mala_and_hmc_keep_laws_on_the_sphere(5);
}

#[test]
fn independence_metropolis_reaches_its_law_and_keeps_it() {
    let n = by_effort(20_000, 200_000, 2_000_000);
    for case in
        [line(n, seed(100)), sphere("j1w2", 2, n, seed(101)), sphere("j1w2", 5, n, seed(102))]
    {
        let energy = case.law.energy::<f64>();
        let mut chains = IndependenceMetropolis::new(&energy, n, seed(103)).unwrap();
        // These chains start with the base. What is left of it after t steps is at most (1 - c)^t,
        // where c is the least base density in terms of the model's: Z / exp(-min f), more than 1/4
        // here.
        let acceptance = chains.run(&energy, 60).unwrap().acceptance.unwrap();
        println!("acceptance {acceptance:.4}");
        let start = chains.states().as_slice().to_vec();
        let case = Case::new(case.name, case.law, start, case.transforms);
        let walk = |steps| {
            chains.run(&energy, steps).unwrap();
            chains.states().as_slice().to_vec()
        };
        case.keeps(&[1, 10], walk).assert_fine(&format!("{}, independence", case.name));
    }
}

#[test]
fn chains_of_mala_average_to_the_mean_of_von_mises_and_fisher() {
    const DIM: usize = 5;
    const KAPPA: f64 = 4.0;
    // E[x_d] = I_{5/2}(4) / I_{3/2}(4), from the closed forms of half-integer Bessel functions.
    let (sinh, cosh) = (KAPPA.sinh(), KAPPA.cosh());
    let exact = (sinh * (1.0 + 3.0 / 16.0) - 0.75 * cosh) / (cosh - 0.25 * sinh);
    // The seed is the same for every run: three standard errors are exceeded by one good sampler in
    // 370.
    let (batches, n) = by_effort((1, 50_000), (1, 1_000_000), (10, 1_000_000));
    let law = VonMisesFisher { kappa: KAPPA, dim: DIM };
    let energy = Plain(&law);
    for (name, sampler) in [("mala", Sampler::mala(0.3)), ("hmc", Sampler::hmc(0.4, 5))] {
        let mut found = Moments::default();
        for batch in 0..batches {
            let start = von_mises_fisher(KAPPA, n, batch);
            let mut walk = walk(sampler.clone().seed(100 + batch), &energy, &start);
            walk(5).chunks(DIM).for_each(|x| found.push(x[DIM - 1]));
        }
        let (mean, error) = (found.mean(), found.error());
        println!("{name}: E[x_d] = {mean:.6} ± {error:.6} against {exact:.6}");
        assert!((mean - exact).abs() < 3.0 * error, "{name}: {mean} ± {error} against {exact}");
        // The standard deviation of x_d is 0.281.
        assert!(error < 0.29 / found.count.sqrt(), "{name}: {error}");
    }
}

// -------------------------------------------------------------------------------------------------
// Step sizes
// -------------------------------------------------------------------------------------------------

/// Exact laws do not tell how far chains go in a step. Without a potential every proposal is
/// accepted, and a step is a Gaussian displacement or a geodesic of Gaussian velocity.
#[test]
fn free_chains_go_as_far_as_the_step_says() {
    let n = by_effort(10_000, 100_000, 1_000_000);
    let mut figures = Figures::default();
    // With the standard deviations of displacements.
    let samplers = || {
        [
            ("ula", Sampler::ula(0.3), f64::sqrt(0.6)),
            ("ula, noise 0.5", Sampler::ula(0.3).noise(0.5), 0.5 * f64::sqrt(0.6)),
            ("mala", Sampler::mala(0.3), f64::sqrt(0.6)),
            ("hmc", Sampler::hmc(0.15, 5), 0.75),
        ]
    };
    let flat = Gaussian(vec![f64::INFINITY; 3]);
    let diagonal = [0.25, 1.0, 9.0];
    let start = gaussian(&[1.0; 3], n, seed(105));
    for (name, sampler, length) in samplers() {
        let sampler = sampler.preconditioner(&diagonal).seed(seed(106));
        let after = walk(sampler, &Plain(&flat), &start)(1);
        for (k, scale) in diagonal.into_iter().enumerate() {
            let squares = start.chunks(3).zip(after.chunks(3)).map(|(x, y)| (y[k] - x[k]).powi(2));
            let expected = length * length * scale;
            figures.mean(format!("{name}, coordinate {k}"), squares.collect(), expected);
        }
    }
    // BAOAB's velocities forget by e^(-friction step) from one step to the next, and how far chains get in four steps from rest
    // tells by how much: x₄ - x₀ = Σ_t ½ h (v_t + v_(t+1)).
    let (step, friction) = (0.4, 1.5);
    let keep = f64::exp(-friction * step);
    let sampler = Sampler::baoab(step, friction).preconditioner(&diagonal).seed(seed(109));
    let after = walk(sampler, &Plain(&flat), &start)(4);
    // How much of the refresh in step t is in the sum: all of v_(t+1), keep v_(t+1) in v_(t+2), and so on.
    let part = |s: i32, t: i32| if s > t { keep.powi(s - t - 1) } else { 0.0 };
    let weight = |t: i32| (0..4).map(|u| 0.5 * step * (part(u, t) + part(u + 1, t))).sum::<f64>();
    let squares: f64 = (0..4).map(|t| weight(t).powi(2)).sum();
    for (k, scale) in diagonal.into_iter().enumerate() {
        let moved = start.chunks(3).zip(after.chunks(3)).map(|(x, y)| (y[k] - x[k]).powi(2));
        let expected = scale * (1.0 - keep * keep) * squares;
        figures.mean(format!("baoab, coordinate {k}"), moved.collect(), expected);
    }
    for dim in [2, 3, 5] {
        let sphere = VonMisesFisher { kappa: 0.0, dim };
        let start = base_samples(Base::Sphere, n, dim, seed(107), 0).unwrap();
        for (name, sampler, length) in samplers() {
            let after = walk(sampler.seed(seed(108)), &Plain(&sphere), &start)(1);
            let cosines = start.chunks(dim).zip(after.chunks(dim)).map(|(x, y)| dot(x, y));
            // The speed is the norm of a Gaussian in the tangent space: one of d - 1 dimensions.
            let speed = |r: f64| r.powi(dim as i32 - 2) * (-0.5 * r * r).exp();
            let grid = || (0..10_000).map(|i| (f64::from(i) + 0.5) * 1e-3);
            let total: f64 = grid().map(speed).sum();
            let expected = grid().map(|r| speed(r) * (length * r).cos()).sum::<f64>() / total;
            figures.mean(format!("{name} in d = {dim}, cosine"), cosines.collect(), expected);
        }
    }
    figures.assert_fine("free chains");
}

// -------------------------------------------------------------------------------------------------
// Detailed balance
// -------------------------------------------------------------------------------------------------

/// Gaussian ReLU model with some neurons.
fn random_relu(dim: usize, sphere: bool) -> Relu {
    let mut stream = Stream::new(77, dim as u64);
    let mut draw = |len: usize| (0..len).map(|_| stream.normal()).collect::<Vec<_>>();
    let (theta, bias, w) = (draw(6 * dim), draw(6), draw(6));
    Relu { dim, theta, bias, w, base_scale: (!sphere).then_some(1.25) }
}

/// The initial velocity of the geodesic that goes from `x` to `y` in unit time.
fn logarithm(x: &[f64], y: &[f64], sphere: bool) -> Vec<f64> {
    let mut v: Vec<f64> = y.iter().zip(x).map(|(y, x)| y - x).collect();
    if !sphere {
        return v;
    }
    // The part of y - x that is tangential at x; |y - x|² / 2 = 1 - cos.
    let cos = 1.0 - 0.5 * dot(&v, &v);
    project(&mut v, x);
    let sin = dot(&v, &v).sqrt();
    let angle = sin.atan2(cos);
    v.iter_mut().for_each(|v| *v *= angle / sin);
    v
}

/// log q(y | x) of MALA's proposal up to a constant that is symmetric in x and y. The proposal is
/// the end of the geodesic from x with velocity h s(x) + √(2h) ξ, with ξ standard Gaussian in the
/// tangent space; in terms of volume on the sphere its density has another factor, which depends on
/// the length alone.
fn log_proposal(x: &[f64], score: &[f64], y: &[f64], h: f64, sphere: bool) -> f64 {
    let velocity = logarithm(x, y, sphere);
    let squares = velocity.iter().zip(score).map(|(v, s)| (v - h * s).powi(2));
    -squares.sum::<f64>() / (4.0 * h)
}

#[test]
fn hamiltonian_ratio_is_that_of_mala() {
    let n = by_effort(1_000, 100_000, 1_000_000) / 6;
    for (dim, sphere) in [(1, false), (3, false), (8, false), (2, true), (3, true), (5, true)] {
        let law = random_relu(dim, sphere);
        let (space, base) = match sphere {
            true => (Space::Sphere, Base::Sphere),
            false => (Space::Flat, Base::Gaussian(1.5)),
        };
        let evaluate = |x: &[f64]| {
            let mut score = vec![0.0; x.len()];
            let rows = x.chunks(dim).zip(score.chunks_mut(dim));
            let potential: Vec<f64> = rows.map(|(x, score)| law.at(x, score)).collect();
            (potential, score)
        };
        let (mut largest, mut compared) = (0.0_f64, 0);
        for h in [0.05, 0.3] {
            let step = f64::sqrt(2.0 * h);
            let rule = Rule::Hamiltonian { step, drifts: 1 };
            let x = base_samples(base, n, dim, seed(110), dim as u64).unwrap();
            let (potential, score) = evaluate(&x);
            let (mut y, mut velocity) = (x.clone(), vec![0.0; n * dim]);
            let (mut start, mut end, mut ln_uniform) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
            let mut streams = Streams::range(seed(111), dim as u64, n);
            let mut scratch = Scratch::default();
            let (isa, scale) = (Isa::best(), vec![1.0; dim]);
            let mut moving = Moving {
                x: RowsMut::new(&mut y, n, dim).unwrap(),
                score: Rows::new(&score, n, dim).unwrap(),
                velocity: RowsMut::new(&mut velocity, n, dim).unwrap(),
                energy: &mut start,
                streams: &mut streams,
            };
            chain::advance(isa, rule, space, &scale, 0, &mut moving, &mut scratch);
            let speeds: Vec<f64> = velocity.chunks(dim).map(|v| dot(v, v).sqrt()).collect();
            let (new_potential, new_score) = evaluate(&y);
            let mut moving = Moving {
                x: RowsMut::new(&mut y, n, dim).unwrap(),
                score: Rows::new(&new_score, n, dim).unwrap(),
                velocity: RowsMut::new(&mut velocity, n, dim).unwrap(),
                energy: &mut end,
                streams: &mut streams,
            };
            let uniforms = &mut ln_uniform;
            chain::settle(isa, rule, space, &scale, uniforms, &mut moving, &mut scratch);
            for c in 0..n {
                let row = c * dim..(c + 1) * dim;
                let (x, y) = (&x[row.clone()], &y[row.clone()]);
                // From the antipode on, the geodesic back is another one; near it, rounding
                // decides.
                if sphere && step * speeds[c] > 3.0 {
                    continue;
                }
                let (s, new_s) = (&score[row.clone()], &new_score[row.clone()]);
                let forward = log_proposal(x, s, y, h, sphere);
                let backward = log_proposal(y, new_s, x, h, sphere);
                // The other way round the ratio is that of the reverse move.
                let mala = (-new_potential[c] + backward) - (-potential[c] + forward);
                let hamiltonian = potential[c] - new_potential[c] + (start[c] - end[c]);
                let size = 1.0 + potential[c].abs() + new_potential[c].abs() + start[c] + end[c];
                let difference = (mala - hamiltonian).abs() / size;
                assert!(difference.is_finite(), "{mala} and {hamiltonian}");
                largest = largest.max(difference);
                compared += 1;
            }
        }
        println!("d = {dim}, {space:?}: {compared} pairs, largest difference {largest:.1e}");
        assert!(compared > n);
        assert!(largest < 1e-12, "d = {dim}, {space:?}: {largest}");
    }
}

// -------------------------------------------------------------------------------------------------
// Simulation-based calibration
// -------------------------------------------------------------------------------------------------

/// Posteriors of a mean: θ ~ N(0, 1) and a few observations of N(θ, `NOISE`²), others for every
/// chain, whose number is that of its row.
struct Posteriors {
    /// Means of the observations.
    means: Vec<f64>,
}

const OBSERVATIONS: f64 = 3.0;
const NOISE: f64 = 0.8;

impl Energy<f64> for Posteriors {
    fn dim(&self) -> usize {
        1
    }
    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        mut potential: Option<&mut [f64]>,
        mut score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        let precision = OBSERVATIONS / (NOISE * NOISE);
        for (i, x) in x.iter().enumerate() {
            let off = x[0] - self.means[i];
            if let Some(potential) = &mut potential {
                potential[i] = 0.5 * x[0] * x[0] + 0.5 * precision * off * off;
            }
            if let Some(score) = &mut score {
                score.row_mut(i)[0] = -x[0] - precision * off;
            }
        }
        Ok(())
    }
}

/// Parameters from the prior, data from the parameters: then the parameter is a draw of its
/// posterior, and so is what a reversible chain makes of it, forwards or backwards. At a random
/// place in such a chain (Besag and Clifford 1989) all its ranks among the other states are equally
/// probable, however slowly the chain moves.
#[test]
fn ranks_among_draws_of_the_posterior_are_uniform() {
    const DRAWS: usize = 100;
    let n = by_effort(2_000, 30_000, 300_000);
    for (k, (name, sampler)) in
        metropolis([0.02, 0.15, 0.4], [0.1, 0.3, 0.75]).into_iter().enumerate()
    {
        let k = 120 + 10 * k as u64;
        let theta = gaussian(&[1.0], n, seed(k));
        let errors = gaussian(&[NOISE * NOISE / OBSERVATIONS], n, seed(k + 1));
        let means = theta.iter().zip(&errors).map(|(theta, error)| theta + error).collect();
        let posteriors = Posteriors { means };
        let mut stream = Stream::new(seed(k + 2), 0);
        let behind: Vec<usize> =
            (0..n).map(|_| (stream.bits() % (DRAWS as u64 + 1)) as usize).collect();
        let mut ranks = vec![0; n];
        for (direction, forwards) in [true, false].into_iter().enumerate() {
            let sampler = sampler.clone().seed(seed(k + 3 + direction as u64));
            let start = Rows::new(&theta, n, 1).unwrap();
            let mut chains = sampler.start(Start::Points(start)).build(&posteriors).unwrap();
            for draw in 1..=DRAWS {
                chains.run(&posteriors, 1).unwrap();
                let states = chains.states().as_slice();
                for ((rank, &behind), (x, theta)) in
                    ranks.iter_mut().zip(&behind).zip(states.iter().zip(&theta))
                {
                    let length = if forwards { DRAWS - behind } else { behind };
                    // A rejected step leaves a tie, which is broken by order: as good as any.
                    let below = x < theta || (x == theta && !forwards);
                    *rank += usize::from(draw <= length && below);
                }
            }
        }
        let mut counts = [0; DRAWS + 1];
        ranks.iter().for_each(|&rank| counts[rank] += 1);
        let mut figures = Figures::default();
        figures.push("ranks, chi-square", Figure::P(chi_square(&counts)));
        let centred = ranks.iter().map(|&rank| rank as f64 - 0.5 * DRAWS as f64);
        figures.mean("mean rank", centred.clone().collect(), 0.0);
        // Uniform on 0..=100: (101² - 1) / 12.
        figures.mean("variance of ranks", centred.map(|rank| rank * rank).collect(), 850.0);
        figures.assert_fine(&format!("calibration of {name}"));
    }
}

// -------------------------------------------------------------------------------------------------
// Warm-up
// -------------------------------------------------------------------------------------------------

#[test]
fn warm_up_finds_the_step_of_the_acceptance_aimed_at() {
    const DIM: usize = 15;
    let (chains, steps) = by_effort((300, 150), (1_000, 250), (10_000, 500));
    let variances: Vec<f64> = (0..DIM).map(|k| 0.5 + k as f64 / 8.0).collect();
    let law = Gaussian(variances.clone());
    let energy = Plain(&law);
    let start = gaussian(&variances, chains, seed(200));
    for factor in [0.02, 1.0, 20.0] {
        for (name, sampler, target, tolerance) in [
            ("mala", Sampler::mala(0.3 * factor), 0.574, 0.03),
            ("hmc", Sampler::hmc(0.4 * factor, 5), 0.8, 0.05),
        ] {
            let sampler = sampler
                .seed(seed(201))
                .start(Start::Points(Rows::new(&start, chains, DIM).unwrap()));
            let mut warm = sampler.build(&energy).unwrap();
            let first = warm.step();
            warm.warm_up(&energy, steps).unwrap();
            let step = warm.step();
            // From here on the step is what it is.
            let mut by_ones = warm.clone();
            let acceptance = warm.run(&energy, 200).unwrap().acceptance.unwrap();
            println!("{name}: step {first:.4} to {step:.4}, acceptance {acceptance:.4}");
            assert!((acceptance - target).abs() < tolerance, "{name} from {first}: {acceptance}");
            assert_eq!(warm.step(), step);
            let mut mean = 0.0;
            for _ in 0..200 {
                mean += by_ones.run(&energy, 1).unwrap().acceptance.unwrap() / 200.0;
                assert_eq!(by_ones.step(), step);
            }
            assert_eq!(warm.states().as_slice(), by_ones.states().as_slice());
            assert!((mean - acceptance).abs() < 1e-9);
        }
    }
}

#[test]
fn warm_up_changes_nothing_but_the_step() {
    let law = Gaussian(vec![1.0, 2.0]);
    let energy = Plain(&law);
    // The first step of a warm-up has the step size given. What follows is as if the new one had
    // been set.
    for sampler in [Sampler::mala(0.7), Sampler::hmc(0.6, 4)] {
        let mut warm = sampler.clone().chains(40).seed(3).build(&energy).unwrap();
        let mut set = warm.clone();
        warm.warm_up(&energy, 0).unwrap();
        assert_eq!(warm.step(), set.step());
        let (reported, expected) = (warm.warm_up(&energy, 1), set.run(&energy, 1));
        assert_eq!(reported.unwrap(), expected.unwrap());
        assert_ne!(warm.step(), set.step());
        set.set_step(warm.step()).unwrap();
        assert_eq!(warm.run(&energy, 30).unwrap(), set.run(&energy, 30).unwrap());
        assert_eq!(warm.states().as_slice(), set.states().as_slice());
    }
    // Without a Metropolis test it is a run.
    for sampler in [Sampler::ula(0.1), Sampler::baoab(0.3, 1.0)] {
        let mut warm = sampler.clone().chains(40).seed(3).build(&energy).unwrap();
        let mut run = warm.clone();
        assert_eq!(warm.warm_up(&energy, 20).unwrap(), run.run(&energy, 20).unwrap());
        assert_eq!(warm.states().as_slice(), run.states().as_slice());
        assert_eq!(warm.step(), run.step());
    }
    // Chains that have been warmed up keep the law: it is only while the step changes that they
    // need not.
    let n = by_effort(20_000, 200_000, 2_000_000);
    let case = line(n, seed(210));
    let energy = case.law.energy::<f64>();
    for sampler in [Sampler::mala(0.1), Sampler::hmc(0.1, 5)] {
        let few = Rows::new(&case.start[..100], 100, 1).unwrap();
        let mut warm = sampler.clone().start(Start::Points(few)).build(&energy).unwrap();
        warm.warm_up(&energy, 300).unwrap();
        // The tuned step does not know these draws, so it is as good as fixed.
        let start = Rows::new(&case.start, n, 1).unwrap();
        let mut chains =
            sampler.seed(seed(211)).start(Start::Points(start)).build(&energy).unwrap();
        chains.set_step(warm.step()).unwrap();
        let walk = |steps| {
            chains.run(&energy, steps).unwrap();
            chains.states().as_slice().to_vec()
        };
        case.keeps(&[1, 10], walk).assert_fine(&format!("tuned step {:.4}", warm.step()));
    }
}

// -------------------------------------------------------------------------------------------------
// The checks notice bugs
// -------------------------------------------------------------------------------------------------

/// What is wrong with a [`Local`] sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    /// √h for √(2h).
    NoiseTooSmall,
    /// log q(x | y) is missing from the ratio.
    NoBackwardDensity,
    /// Both proposal densities are.
    NoProposalDensities,
    AlwaysAccepts,
    /// Accepts where the ratio is against it.
    AcceptsOnTheWrongSign,
    /// (x + h s + √(2h) ξ), scaled to norm 1, with the densities it would have in the plane.
    FlatProposalOnTheCircle,
    NoiseOffTheTangentSpace,
    /// Every other step has the noise of the one before.
    NoiseUsedTwice,
    /// The Metropolis test has a uniform number that the noise was made of.
    UniformFromTheNoise,
    NoLastHalfKick,
    /// The velocity is damped twice for one helping of noise.
    FrictionTwice,
}

#[derive(Clone, Copy)]
enum Method {
    Ula(f64),
    Mala(f64),
    Hmc(f64, usize),
    Baoab(f64, f64),
}

/// A sampler one chain at a time in plain formulas, with a bug.
struct Local<'a, const D: usize> {
    law: &'a dyn Law,
    method: Method,
    bug: Bug,
    x: Vec<[f64; D]>,
    velocity: Vec<[f64; D]>,
    /// The last noise of every chain, with the uniform number behind its first normal.
    noise: Vec<([f64; D], f64)>,
    steps: usize,
    stream: Stream,
}

impl<'a, const D: usize> Local<'a, D> {
    fn new(law: &'a dyn Law, method: Method, bug: Bug, start: &[f64], seed: u64) -> Self {
        let x: Vec<[f64; D]> = start.chunks(D).map(|x| std::array::from_fn(|k| x[k])).collect();
        let (velocity, noise) = (vec![[0.0; D]; x.len()], vec![([0.0; D], 1.0); x.len()]);
        Self { law, method, bug, x, velocity, noise, steps: 0, stream: Stream::new(seed, 0) }
    }

    /// What the checks take.
    fn walk(mut self) -> impl FnMut(usize) -> Vec<f64> + use<'a, D> {
        move |steps| {
            for _ in 0..steps {
                for c in 0..self.x.len() {
                    match self.method {
                        Method::Ula(h) => self.hamiltonian(c, (2.0 * h).sqrt(), 1, false),
                        Method::Mala(h) if self.bug == Bug::FlatProposalOnTheCircle => {
                            self.flat_mala(c, h);
                        }
                        Method::Mala(h) => self.hamiltonian(c, (2.0 * h).sqrt(), 1, true),
                        Method::Hmc(step, leapfrog) => self.hamiltonian(c, step, leapfrog, true),
                        Method::Baoab(step, friction) => self.baoab(c, step, friction),
                    }
                }
                self.steps += 1;
            }
            self.x.concat()
        }
    }

    /// Box and Muller's normals, one of each pair.
    fn refresh(&mut self, c: usize) -> [f64; D] {
        if self.bug == Bug::NoiseUsedTwice && self.steps % 2 == 1 {
            return self.noise[c].0;
        }
        for k in (0..D).rev() {
            let (u, turn) = (self.stream.uniform(), self.stream.uniform());
            self.noise[c].0[k] = (-2.0 * u.ln()).sqrt() * (TAU * turn).cos();
            self.noise[c].1 = u;
        }
        self.noise[c].0
    }

    fn accepts(&mut self, c: usize, ratio: f64) -> bool {
        let uniform = match self.bug {
            Bug::UniformFromTheNoise => self.noise[c].1,
            _ => self.stream.uniform(),
        };
        match self.bug {
            Bug::AlwaysAccepts => true,
            Bug::AcceptsOnTheWrongSign => uniform.ln() < -ratio,
            _ => uniform.ln() < ratio,
        }
    }

    fn kick(v: &mut [f64; D], score: &[f64; D], time: f64) {
        v.iter_mut().zip(score).for_each(|(v, s)| *v += time * s);
    }

    fn drift(&self, x: &mut [f64; D], v: &mut [f64; D], time: f64) {
        let speed = dot(v, v).sqrt();
        if self.law.domain() == Domain::Euclidean {
            x.iter_mut().zip(v).for_each(|(x, v)| *x += time * *v);
        } else if speed > 0.0 {
            let (sin, cos) = (time * speed).sin_cos();
            for (x, v) in x.iter_mut().zip(v) {
                (*x, *v) = (cos * *x + sin / speed * *v, cos * *v - sin * speed * *x);
            }
            let norm = dot(x, x).sqrt();
            x.iter_mut().for_each(|x| *x /= norm);
        }
    }

    fn hamiltonian(&mut self, c: usize, step: f64, leapfrog: usize, metropolis: bool) {
        let (mut x, mut score) = (self.x[c], [0.0; D]);
        let potential = self.law.at(&x, &mut score);
        let mut v = self.refresh(c);
        if self.law.domain() == Domain::Sphere && self.bug != Bug::NoiseOffTheTangentSpace {
            project(&mut v, &x);
        }
        if self.bug == Bug::NoiseTooSmall {
            v.iter_mut().for_each(|v| *v /= SQRT_2);
        }
        let start = 0.5 * dot(&v, &v);
        Self::kick(&mut v, &score, 0.5 * step);
        let mut new_potential = potential;
        for drift in 0..leapfrog {
            if drift > 0 {
                Self::kick(&mut v, &score, step);
            }
            self.drift(&mut x, &mut v, step);
            new_potential = self.law.at(&x, &mut score);
        }
        if self.bug != Bug::NoLastHalfKick {
            Self::kick(&mut v, &score, 0.5 * step);
        }
        let end = 0.5 * dot(&v, &v);
        let kinetic = match self.bug {
            Bug::NoBackwardDensity => start,
            Bug::NoProposalDensities => 0.0,
            _ => start - end,
        };
        if !metropolis || self.accepts(c, potential - new_potential + kinetic) {
            self.x[c] = x;
        }
    }

    fn flat_mala(&mut self, c: usize, h: f64) {
        let (x, mut score, mut new_score) = (self.x[c], [0.0; D], [0.0; D]);
        let potential = self.law.at(&x, &mut score);
        let noise = self.refresh(c);
        let mut y: [f64; D] =
            std::array::from_fn(|k| x[k] + h * score[k] + (2.0 * h).sqrt() * noise[k]);
        let norm = dot(&y, &y).sqrt();
        y.iter_mut().for_each(|y| *y /= norm);
        let new_potential = self.law.at(&y, &mut new_score);
        let log_density = |x: &[f64; D], score: &[f64; D], y: &[f64; D]| {
            let squares = (0..D).map(|k| (y[k] - x[k] - h * score[k]).powi(2));
            -squares.sum::<f64>() / (4.0 * h)
        };
        let ratio = potential - new_potential + log_density(&y, &new_score, &x)
            - log_density(&x, &score, &y);
        if self.accepts(c, ratio) {
            self.x[c] = y;
        }
    }

    fn baoab(&mut self, c: usize, step: f64, friction: f64) {
        let (mut x, mut v, mut score) = (self.x[c], self.velocity[c], [0.0; D]);
        self.law.at(&x, &mut score);
        Self::kick(&mut v, &score, 0.5 * step);
        self.drift(&mut x, &mut v, 0.5 * step);
        let keep = (-friction * step).exp();
        let damping = if self.bug == Bug::FrictionTwice { keep * keep } else { keep };
        let noise = self.refresh(c);
        for (v, noise) in v.iter_mut().zip(noise) {
            *v = damping * *v + (1.0 - keep * keep).sqrt() * noise;
        }
        self.drift(&mut x, &mut v, 0.5 * step);
        self.law.at(&x, &mut score);
        Self::kick(&mut v, &score, 0.5 * step);
        (self.x[c], self.velocity[c]) = (x, v);
    }
}

/// The check that a case is kept, of a local sampler.
fn local_keeps<const D: usize>(case: &Case, method: Method, bug: Bug) -> Figures {
    let local = Local::<D>::new(&case.law, method, bug, &case.start, seed(300));
    case.keeps(&[1, 10], local.walk())
}

#[test]
fn bugs_in_mala_and_hmc_in_r1_are_caught() {
    let case = line(by_effort(30_000, 100_000, 1_000_000), seed(301));
    let (mala, hmc) = (Method::Mala(MALA_ON_LINE[1]), Method::Hmc(HMC_ON_LINE[1], 5));
    for (name, method) in [("mala", mala), ("hmc", hmc)] {
        local_keeps::<1>(&case, method, Bug::None).assert_fine(&format!("correct {name}"));
        for bug in [
            Bug::NoBackwardDensity,
            Bug::NoProposalDensities,
            Bug::AlwaysAccepts,
            Bug::AcceptsOnTheWrongSign,
            Bug::NoiseUsedTwice,
            Bug::UniformFromTheNoise,
            Bug::NoLastHalfKick,
        ] {
            let what = format!("{name} in R^1, {bug:?}");
            local_keeps::<1>(&case, method, bug).assert_caught(&what);
        }
    }
}

#[test]
fn bugs_in_mala_and_hmc_on_the_circle_are_caught() {
    let case = sphere("j2w-5", 2, by_effort(60_000, 100_000, 1_000_000), seed(302));
    let (mala, hmc) = (Method::Mala(0.5), Method::Hmc(0.35, 5));
    for (name, method) in [("mala", mala), ("hmc", hmc)] {
        local_keeps::<2>(&case, method, Bug::None).assert_fine(&format!("correct {name}"));
        for bug in [
            Bug::NoBackwardDensity,
            Bug::NoProposalDensities,
            Bug::AlwaysAccepts,
            Bug::AcceptsOnTheWrongSign,
            Bug::NoiseOffTheTangentSpace,
            Bug::NoiseUsedTwice,
            Bug::UniformFromTheNoise,
            Bug::NoLastHalfKick,
        ] {
            let what = format!("{name} on the circle, {bug:?}");
            local_keeps::<2>(&case, method, bug).assert_caught(&what);
        }
    }
    let bug = Bug::FlatProposalOnTheCircle;
    local_keeps::<2>(&case, mala, bug).assert_caught(&format!("mala on the circle, {bug:?}"));
}

#[test]
fn bugs_in_ula_are_caught() {
    let (chains, rounds) = by_effort((10_000, 50), (20_000, 60), (100_000, 100));
    let law = Gaussian(vec![1.0]);
    for h in [0.05, 0.5, 1.5] {
        let exact = [ula_variance(h, 1.0, 1.0, 1.0)];
        let start = gaussian(&exact, chains, seed(303));
        let run = |bug| {
            let local = Local::<1>::new(&law, Method::Ula(h), bug, &start, seed(304));
            let mut figures = Figures::default();
            check_variances(&mut figures, &format!("{bug:?}"), rounds, &exact, local.walk());
            figures
        };
        run(Bug::None).assert_fine("correct ULA");
        run(Bug::NoiseTooSmall).assert_caught(&format!("ula({h}), noise too small"));
        run(Bug::NoiseUsedTwice).assert_caught(&format!("ula({h}), noise used twice"));
    }
}

#[test]
fn bugs_in_baoab_are_caught() {
    let (chains, rounds) = by_effort((3_000, 20), (10_000, 30), (50_000, 50));
    let law = Gaussian(vec![1.0]);
    // Where a step damps so much that nothing is left of the velocity, how often it does cannot be
    // seen.
    for (step, friction) in BAOAB.into_iter().filter(|(step, friction)| step * friction <= 1.0) {
        let start = gaussian(&[1.0], chains, seed(305));
        let run = |bug| {
            let method = Method::Baoab(step, friction);
            let mut walk = Local::<1>::new(&law, method, bug, &start, seed(306)).walk();
            walk(baoab_burn_in(step));
            let mut figures = Figures::default();
            check_variances(&mut figures, &format!("{bug:?}"), rounds, &[1.0], walk);
            figures
        };
        let what = format!("baoab({step}, {friction})");
        run(Bug::None).assert_fine(&format!("correct {what}"));
        run(Bug::FrictionTwice).assert_caught(&format!("{what}, friction twice"));
        run(Bug::NoiseUsedTwice).assert_caught(&format!("{what}, noise used twice"));
    }
}
