//! The command line as types.

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use gibbsite::{
    Domain,
    stein::Statistic,
    train::{Regime, TrainOptions},
};
use serde::{Deserialize, Serialize};
use std::{fmt, ops::RangeInclusive, path::PathBuf, str::FromStr};

/// Train, sample and test energy-based models with shallow ReLU energies
///
/// A model is p(x) ∝ exp(-β f(x)) with f(x) = (1/m) Σ_j w_j max(θ_j·x + b_j, 0), on the unit
/// sphere or, with a Gaussian base measure, in R^d.
#[derive(Debug, Parser)]
#[command(
    name = "gibbsite",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = false,
    after_help = "\
Examples:
  gibbsite train                                      built-in problem, results in out/
  gibbsite train --data data/digits.npy --image 8x8   own data, with a sheet of samples
  gibbsite energy --model out/model.safetensors --data x.npy --out energy.npy
  gibbsite sample --model out/model.safetensors --chains 1000 --steps 2000 --out samples.npy
  gibbsite ksd --model out/model.safetensors --data samples.npy --bootstrap 1000
  gibbsite thin --model out/model.safetensors --data samples.npy --points 50 --out chosen.npy
  gibbsite reproduce --quick --out paper              tables and figures of the paper's experiments
  gibbsite bench relu.score                           speed of kernels against the machine's limits
  gibbsite info

Tables are .npy (2-D, or 3-D with one chain or one draw; integers, or reals of 32 or 64 bits) or
.csv (a first line of words is a header; one of numbers is a point, with a warning if it counts
0, 1, 2, ...), models .safetensors: tensors theta [m,d], w [m] and, with biases, b [m]; metadata
format (gibbsite-1), domain (sphere or euclidean), base_scale (a number or none), beta (1 if
missing). Files appear whole or not at all, but for runs.csv of reproduce, which grows with the
runs; a run that is killed may leave .NAME.XXXXXX.part beside NAME.
Exit status: 0 done, 2 bad usage or bad input, 1 any other failure."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Seed of everything random
    #[arg(long, global = true, value_name = "N", allow_hyphen_values = true)]
    #[arg(default_value_t = 0)]
    pub seed: u64,
    /// Number of threads [default: all]
    #[arg(long, global = true, value_name = "N", allow_hyphen_values = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Precision of all arithmetic and of the files written [default: f64; bench: both, but for --sweep]
    #[arg(long, global = true, value_enum, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// Instruction set; the environment variable GIBBSITE_ISA sets an upper limit
    #[arg(long, global = true, value_name = "LEVEL", default_value = "auto")]
    #[arg(value_parser = PossibleValuesParser::new(["auto", "avx512", "avx2", "neon", "scalar"]))]
    pub isa: String,
    /// Backend of energies, scores and parameter gradients (Stein kernels have one alone): auto is fused, which
    /// gives the same bits on every machine; faer and blas are matrix products of these libraries, blas only if
    /// built with --features blas
    #[arg(long, global = true, value_enum, value_name = "NAME", default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Print nothing but errors (and the JSON of --json)
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Print exactly one JSON object on stdout, or array for bench
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Dtype {
    F32,
    #[default]
    F64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Backend {
    Auto,
    Fused,
    Faer,
    Blas,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Train(TrainArgs),
    /// Write the energies f(x_i) of points
    #[command(after_help = "\
Writes a vector of length n. A row with NaN or infinity affects its own result only.

Example:
  gibbsite energy --model out/model.safetensors --data x.npy --out energy.npy")]
    Energy(EvaluateArgs),
    /// Write the scores ∇ log p(x_i) of points
    #[command(after_help = "\
Writes an n×d array. For a model on the sphere the rows of the data must have norm 1, and scores
are tangential.

Example:
  gibbsite score --model out/model.safetensors --data x.csv --out score.npy --dtype f32")]
    Score(EvaluateArgs),
    Grad(GradArgs),
    Sample(SampleArgs),
    Gram(GramArgs),
    Ksd(KsdArgs),
    Thin(ThinArgs),
    Reproduce(ReproduceArgs),
    Random(RandomArgs),
    Bench(BenchArgs),
    /// Show the version, the instruction sets and the backends
    Info,
}

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub input: Input,
    /// Result, .npy in the chosen --dtype
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Write parameter gradients of Σ_i r_i f(x_i)
#[derive(Debug, Args)]
#[command(after_help = "\
Writes the tensors w [m], theta [m,d] and, for models with biases, b [m].

Example:
  gibbsite grad --model out/model.safetensors --data x.npy --weights r.npy --out grad.safetensors")]
pub struct GradArgs {
    #[command(flatten)]
    pub input: Input,
    /// The weights r_i, .npy or .csv with one number per point [default: all 1]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Result, .safetensors in the chosen --dtype
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// A model and the points where it is evaluated.
#[derive(Debug, Args)]
pub struct Input {
    /// Model, .safetensors
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Points, one per row, .npy or .csv
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
}

/// Draw from a model by Markov chains
///
/// All chains start at independent draws from the base measure, in R^d without one from the standard normal
/// law, or at the rows of --init. The step size of mala and hmc is tuned during the warm-up, by all chains
/// together, unless it is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes the final states [chains, d], or with --trajectory all draws [draws, chains, d], and beside
them, with other endings, .trace.svg (potential of some chains), .acf.svg (its autocorrelation).

Exact samplers are mala, hmc and uniform-mh; ula has a bias of the order of the step, baoab of its
square. Believe the draws if R-hat is below 1.01 and the effective sample size (ESS) is large; both
are about the worst coordinate of the first 1024 chains, the ESS is scaled to all of them. There is
a warning if R-hat, or that of the potential, is larger, or the run too short for its ESS.

Examples:
  gibbsite sample --model out/model.safetensors --chains 1000 --steps 2000 --out s.npy
  gibbsite sample --model m.safetensors --chains 64 --steps 10000 --thin 10 --trajectory --out t.npy
  gibbsite sample --model m.safetensors --sampler hmc --leapfrog 20 --chains 100 --out s.npy")]
pub struct SampleArgs {
    /// Model, .safetensors
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Number of chains [default: 1000, or the rows of --init]
    #[arg(long, value_name = "C", allow_hyphen_values = true, value_parser = count)]
    pub chains: Option<usize>,
    /// Moves of every chain after the warm-up
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = count)]
    #[arg(default_value_t = 1000)]
    pub steps: usize,
    /// Sampler
    #[arg(long, value_name = "NAME", value_enum, default_value_t = SamplerName::Mala)]
    pub sampler: SamplerName,
    /// Step size: H of x + H s(x) + √(2H) ξ (ula, mala), of a leapfrog step (hmc), in time (baoab) [default: tuned
    /// (mala, hmc), or a cautious one (ula, baoab)]
    #[arg(long, value_name = "H", allow_hyphen_values = true, value_parser = positive)]
    pub step: Option<f64>,
    /// Moves before the first draw [default: as many as --steps, at most 1000]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count_or_zero)]
    pub warm_up: Option<usize>,
    /// Steps of a trajectory of hmc [default: 10]
    #[arg(long, value_name = "L", allow_hyphen_values = true, value_parser = count)]
    pub leapfrog: Option<usize>,
    /// Friction of baoab [default: 1]
    #[arg(long, value_name = "G", allow_hyphen_values = true, value_parser = positive)]
    pub friction: Option<f64>,
    /// First states, one per row, .npy or .csv
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Moves from one draw to the next
    #[arg(long, value_name = "K", allow_hyphen_values = true, value_parser = count)]
    #[arg(default_value_t = 1)]
    pub thin: usize,
    /// Write all draws instead of the final states
    #[arg(long)]
    pub trajectory: bool,
    /// Result, .npy in the chosen --dtype
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Draw no plots; those of an earlier run with the same --out are removed
    #[arg(long)]
    pub no_plots: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerName {
    Ula,
    Mala,
    Hmc,
    Baoab,
    UniformMh,
}

impl SamplerName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ula => "ula",
            Self::Mala => "mala",
            Self::Hmc => "hmc",
            Self::Baoab => "baoab",
            Self::UniformMh => "uniform-mh",
        }
    }
}

/// Write the Gram matrix of a Stein kernel
///
/// Its mean is KSD², the V-statistic of `gibbsite ksd`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes u(x_i, x_j), n×n. The matrix is never held: rows are written as they are computed.

Examples:
  gibbsite gram --model out/model.safetensors --data x.npy --out gram.npy
  gibbsite gram --data x.npy --scores s.npy --kernel rbf --bandwidth 0.5 --out gram.npy --dtype f32")]
pub struct GramArgs {
    #[command(flatten)]
    pub input: SteinInput,
    /// Result, .npy in the chosen --dtype
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// Test whether points are draws from a density of which the score is known
///
/// Estimates the square of the kernel Stein discrepancy (KSD) between points and density, and with
/// --bootstrap the p-value of the hypothesis that it is 0.
#[derive(Debug, Args)]
#[command(after_help = "\
The p-value is (1 + number of draws that reach the statistic) / (1 + number of draws), by a wild
bootstrap. The standard error is a jackknife's and means something if the density is another one.

Plots: trace.svg (KSD of the first points against their number) and, with --bootstrap, null.svg
(histogram of the draws).

Examples:
  gibbsite ksd --model out/model.safetensors --data samples.npy --bootstrap 1000
  gibbsite ksd --data chain.csv --scores scores.csv --bootstrap 1000 --correlated 0.02 --plots out")]
pub struct KsdArgs {
    #[command(flatten)]
    pub input: SteinInput,
    /// Estimate: v, the mean over all pairs, or u, over pairs of different points, which is unbiased
    #[arg(long, value_name = "NAME", value_enum, default_value_t = StatisticName::V)]
    pub statistic: StatisticName,
    /// Number of bootstrap draws; seeded by --seed [default: no test]
    #[arg(long, value_name = "B", allow_hyphen_values = true, value_parser = count)]
    pub bootstrap: Option<usize>,
    /// Points are a Markov chain in its order: probability of a change of sign from one to the next, 0.1
    /// over the lag at which correlations have died out, say [default: 0.5, for independent points]
    #[arg(long, value_name = "P", allow_hyphen_values = true, value_parser = half)]
    #[arg(requires = "bootstrap")]
    pub correlated: Option<f64>,
    /// Directory of plots, made if missing: trace.svg, and with --bootstrap null.svg, which is removed without
    /// [default: no plots]
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    #[command(flatten)]
    pub kernel: KernelArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatisticName {
    U,
    V,
}

impl From<StatisticName> for Statistic {
    fn from(name: StatisticName) -> Self {
        match name {
            StatisticName::U => Statistic::U,
            StatisticName::V => Statistic::V,
        }
    }
}

/// Pick few points that stand for many (Stein thinning)
///
/// Every point is picked so that the kernel Stein discrepancy (KSD) of those picked so far is as small as
/// it can be. This also removes the bias of a sampler.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes the numbers of the rows, counted from 0, in the order in which they are picked; a row may
come more than once. The table of --csv has the columns step, index, ksd: KSD of the points picked
up to this step.

Plots: thinning.svg (that table) and, in two dimensions, points.svg (all points and those picked).

Examples:
  gibbsite thin --model out/model.safetensors --data samples.npy --points 50 --out chosen.npy
  gibbsite thin --data chain.csv --scores scores.csv --points 20 --out chosen.npy --csv trace.csv")]
pub struct ThinArgs {
    #[command(flatten)]
    pub input: SteinInput,
    /// How many points to pick
    #[arg(long, value_name = "K", allow_hyphen_values = true, value_parser = count)]
    pub points: usize,
    /// Result, .npy of 64-bit integers
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Table of the picked points, .csv
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Directory of plots, made if missing: thinning.svg, and in two dimensions points.svg, which is removed in
    /// others [default: no plots]
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// Points and the score of a density at them.
#[derive(Debug, Args)]
pub struct SteinInput {
    /// Points, one per row, .npy or .csv
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    #[command(flatten)]
    pub density: Density,
}

/// Where scores come from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Density {
    /// Scores ∇ log p of the density at the points, .npy or .csv of the shape of the data
    #[arg(long, value_name = "FILE")]
    pub scores: Option<PathBuf>,
    /// The density is that of a model, .safetensors
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

/// Flags of the Stein kernel.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kernel")]
pub struct KernelArgs {
    /// rbf, exp(-|x-y|²/2H²); imq, (H² + |x-y|²)^B; linear, 1 + x·y; a sum; or arccos, the mean of
    /// max(θ·x, 0) max(θ·y, 0) over random θ, for which in R^d no point may be 0
    #[arg(long, value_name = "NAME", value_enum, default_value_t = KernelName::Imq)]
    pub kernel: KernelName,
    /// H: a number, or `median` of the distances between points [default: median]
    #[arg(long, value_name = "H", allow_hyphen_values = true)]
    pub bandwidth: Option<Bandwidth>,
    /// B, negative [default: -0.5]
    #[arg(long, value_name = "B", allow_hyphen_values = true, value_parser = negative)]
    pub exponent: Option<f64>,
    /// Where points live; on the sphere, rows of norm 1 and tangential scores [default: that of the
    /// model, euclidean for scores]
    #[arg(long, value_name = "NAME", value_parser = domain())]
    pub domain: Option<Domain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelName {
    Rbf,
    Imq,
    Linear,
    #[value(name = "imq+linear")]
    ImqLinear,
    Arccos,
}

impl KernelName {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rbf => "rbf",
            Self::Imq => "imq",
            Self::Linear => "linear",
            Self::ImqLinear => "imq+linear",
            Self::Arccos => "arccos",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bandwidth {
    Median,
    Number(f64),
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "median" => Ok(Self::Median),
            text => number(text, |x| x > 0.0, "`median` or a positive number").map(Self::Number),
        }
    }
}

/// Repeat the paper's experiments: students of known teachers, in both regimes
///
/// For every teacher, estimator and number n of training points, models are trained on several data sets
/// with all parameters (f1) and with outer weights alone (f2). Step size and weight decay are chosen by the
/// validation cross-entropy on the first data set. The full grid takes some 30 hours of one core, --quick some minutes.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes to the directory of --out:
  runs.csv               every training; the same command goes on after an interruption
  settings.json          what the runs have in common
  results.csv, table.md  means and standard deviations over data sets
  NAME_ESTIMATOR_kl.svg, NAME_ESTIMATOR_cross_entropy.svg
                         KL(teacher | model) and test cross-entropy against n
  NAME_ESTIMATOR_discrepancy.svg
                         Stein discrepancy of test points against n, for ksd and f1sd
  NAME_cosine.svg, NAME_norm.svg
                         cosine of the best neuron with the teacher's, and F1 norm, against n
  phase.csv, phase.svg   KL and drift of the tangent kernel against the scale of initial parameters
  sphere.svg             densities and neurons of a teacher and its student in three dimensions
  sphere_kl.svg          how that student and two others approach the teacher

Examples:
  gibbsite reproduce --quick --out paper
  gibbsite reproduce j1w10 j4w7.5 --estimator mle,ksd --out paper-full")]
pub struct ReproduceArgs {
    /// Teachers: number of neurons and their outer weight [default: all]
    #[arg(value_name = "NAME", value_parser = teacher())]
    pub experiments: Vec<String>,
    /// Estimators, repeated or separated by commas [default: all]
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    pub estimator: Vec<PaperEstimator>,
    /// Few sizes and data sets, one setting for each estimator and regime, fewer iterations
    #[arg(long)]
    pub quick: bool,
    /// Directory of the results, made if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Write random numbers to stdout without end, for statistical testers
///
/// Little-endian binary: streams 0 to K-1 of the seed take turns, a number each.
#[derive(Debug, Args)]
#[command(after_help = "\
Kinds: u64, the raw words; uniform on [0, 1) and normal in the chosen --dtype.

Examples:
  gibbsite random --kind u64 --streams 8 | RNG_test stdin64 -tlmax 64GB
  gibbsite random --kind normal --dtype f32 --streams 1024 | head -c 1G > normals.bin")]
pub struct RandomArgs {
    /// What to write
    #[arg(long, value_name = "NAME", value_enum, default_value_t = RandomKind::U64)]
    pub kind: RandomKind,
    /// Number of streams
    #[arg(long, value_name = "K", allow_hyphen_values = true, value_parser = streams)]
    #[arg(default_value_t = 1)]
    pub streams: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RandomKind {
    U64,
    Uniform,
    Normal,
}

/// Measure the speed of every kernel and what the machine can do
///
/// On one thread: fused multiply-adds in registers and copies of memory, which are the limits, and in turn with them every
/// kernel for every element type and instruction set, up to that of --isa.
#[derive(Debug, Args)]
#[command(after_help = "\
Names are kernel/type/level/shape, as in relu.score/f64/avx2/n=30000,d=15,m=500.

A call's shortest processor time counts; it includes the packing of parameters and points
and the seeding of streams. Columns:
  GFLOP/s or GB/s  floating-point operations of the formula or bytes read and written, whichever
                   is nearer its limit
  % limit          share of what the machine does of them, in multiply-adds in registers or in a
                   copy of memory; above 100 where arrays are updated in place, which costs less
                   than a copy, and for the level scalar where a multiply-add is a function of
                   software, which sums and comparisons do not call
  ns/value         time of a value, or of each of the n·d in rows, where operations are not what
                   is asked for
  faer             time of the same by matrix products of faer and an n×m array between them,
                   over ours
  scalar           time of the same by the level scalar (with fewer samples, in proportion), over
                   ours

The picture of --svg has the operations per second of the highest level against operations per
byte, below the roof that both limits make.

Examples:
  gibbsite bench
  gibbsite bench relu.score/f64 --json
  gibbsite bench --quick --svg roofline.svg
  gibbsite bench --sweep --threads 1 --dtype f32")]
pub struct BenchArgs {
    /// Kernels whose name contains this [default: all]
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// Fewer samples and rounds: a first look, in seconds
    #[arg(long)]
    pub quick: bool,
    /// Picture, .svg
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Instead of kernels, the backends that are built in, over shapes, where the one that --backend auto takes is
    /// slower than the best by more than 10 %
    #[arg(long, conflicts_with_all = ["filter", "svg"])]
    pub sweep: bool,
}

/// Train a model, by maximum likelihood, a Stein discrepancy or denoising score matching
///
/// Without --data, a student learns from samples of a built-in teacher on the sphere, and its
/// distance to the teacher is reported. The iterate with the smallest validation cross-entropy is
/// kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes to the directory of --out:
  model.safetensors       the chosen iterate
  history.csv             every evaluation during training
  summary.json            the object that --json prints
  checkpoint.safetensors  what --resume goes on from
  learning_curve.svg      cross-entropy against iteration
  discrepancy.svg         what the other estimators make small
  kl.svg                  KL(teacher | model) against iteration, without --data
  samples.png             data on the left, samples of the model on the right, with --image

Cross-entropies are in nats relative to the base measure, which has 0: the uniform law on the
sphere, a Gaussian in R^d.

Examples:
  gibbsite train
  gibbsite train --regime f2 --out out-f2
  gibbsite train --estimator ksd --patience 100 --out out-ksd
  gibbsite train --regime f2 --optimiser lbfgs --iterations 40 --evaluate-every 1
  gibbsite train --data data/digits.npy --image 8x8
  gibbsite train --data data/digits.npy --image 8x8 --domain euclidean --bias
  gibbsite train --iterations 2000 --resume")]
pub struct TrainArgs {
    /// Training data, one point per row, .npy or .csv [default: samples of a built-in teacher]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Where points live; on the sphere rows are scaled to norm 1
    #[arg(long, value_name = "NAME", default_value = "sphere", value_parser = domain())]
    pub domain: Domain,
    /// What is made small: the cross-entropy (mle), the kernel Stein discrepancy (ksd), the F1 Stein
    /// discrepancy (f1sd, on the sphere) or the error of denoised scores (dsm, in R^d)
    #[arg(long, value_name = "NAME", value_enum, default_value_t = EstimatorName::Mle)]
    pub estimator: EstimatorName,
    /// What is trained: neurons and outer weights (f1), or outer weights over fixed random
    /// neurons (f2)
    #[arg(long, value_name = "NAME", default_value = "f1", value_parser = regime())]
    pub regime: Regime,
    /// Number of neurons
    #[arg(long, value_name = "M", allow_hyphen_values = true, value_parser = count)]
    #[arg(default_value_t = TrainOptions::default().neurons)]
    pub neurons: usize,
    /// Gradient steps
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    #[arg(default_value_t = TrainOptions::default().iterations)]
    pub iterations: usize,
    /// Give neurons biases
    #[arg(long)]
    pub bias: bool,
    /// Directory of the results, made if missing
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
    /// Data are images of this size: draw a sheet of model samples beside data
    #[arg(long, value_name = "HxW")]
    pub image: Option<ImageSize>,
    #[command(flatten)]
    pub built_in: BuiltIn,
    #[command(flatten)]
    pub own: OwnData,
    #[command(flatten)]
    pub optimisation: Optimisation,
    #[command(flatten)]
    pub interruption: Interruption,
}

/// Flags of training on samples of a teacher.
#[derive(Debug, Args)]
#[command(next_help_heading = "Built-in problem")]
pub struct BuiltIn {
    /// The teacher: number of neurons and their outer weight
    #[arg(long, value_name = "NAME", conflicts_with = "data", default_value = "j1w10")]
    #[arg(value_parser = teacher())]
    pub teacher: String,
    /// Number of training points drawn from the teacher
    #[arg(long, value_name = "N", conflicts_with = "data", default_value_t = 1000)]
    #[arg(allow_hyphen_values = true, value_parser = count)]
    pub n: usize,
    /// Dimension
    #[arg(long, value_name = "D", conflicts_with = "data", default_value_t = 15)]
    #[arg(allow_hyphen_values = true, value_parser = count)]
    pub dim: usize,
}

/// Flags of training on a file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Own data")]
pub struct OwnData {
    /// Share of the data that chooses the iterate
    #[arg(long, value_name = "FRACTION", requires = "data", default_value_t = 0.1)]
    #[arg(allow_hyphen_values = true, value_parser = fraction)]
    pub validation: f64,
    /// Share of the data that is kept for the final test
    #[arg(long, value_name = "FRACTION", requires = "data", default_value_t = 0.1)]
    #[arg(allow_hyphen_values = true, value_parser = fraction)]
    pub test: f64,
    /// Standard deviation of the Gaussian base measure in R^d [default: root mean square of the
    /// training data]
    #[arg(long, value_name = "S", requires = "data")]
    #[arg(allow_hyphen_values = true, value_parser = positive)]
    pub base_scale: Option<f64>,
}

/// Flags of runs that are interrupted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Interruption")]
pub struct Interruption {
    /// Go on from checkpoint.safetensors in --out, which a run with the same data and flags left there; --iterations
    /// and --patience may differ. The result has the bits of a run in one go, if every part but the last ended at a
    /// multiple of --evaluate-every
    #[arg(long)]
    pub resume: bool,
    /// Seconds between checkpoints, which are taken at evaluations; there is one at the end in any case
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = not_negative)]
    #[arg(default_value_t = 30.0)]
    pub checkpoint_every: f64,
}

/// Flags of the training algorithm.
#[derive(Debug, Args)]
#[command(next_help_heading = "Optimisation")]
pub struct Optimisation {
    /// Gradient descent (gd), Adam, transport of neurons of norm 1 with birth and death, or, for --regime f2,
    /// L-BFGS, which finds the minimum in some tens of iterations
    #[arg(long, value_name = "NAME", value_enum, default_value_t = OptimiserName::Gd)]
    pub optimiser: OptimiserName,
    /// End after this many iterations without a better validation cross-entropy [default: never]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count)]
    pub patience: Option<usize>,
    /// First step size of the outer weights [default: depends on estimator, regime and optimiser]
    #[arg(long, value_name = "RATE", allow_hyphen_values = true, value_parser = positive)]
    pub learning_rate: Option<f64>,
    /// C of the schedule RATE / (1 + C t) of step sizes at iteration t; 0 keeps them [default: 0.005, for f1sd
    /// 0.01, for transport 0]
    #[arg(long, value_name = "C", allow_hyphen_values = true, value_parser = not_negative)]
    pub decay: Option<f64>,
    /// Weight decay of all trained parameters; where layers are balanced, this times the F1 norm is added to
    /// the loss
    #[arg(long, value_name = "RATE", allow_hyphen_values = true, value_parser = not_negative)]
    #[arg(default_value_t = TrainOptions::default().weight_decay)]
    pub weight_decay: f64,
    /// Variance of the initial parameters in the regime f1, but for transport [default: 0.1]
    #[arg(long, value_name = "V", allow_hyphen_values = true, value_parser = positive)]
    pub initial_variance: Option<f64>,
    /// Iterations between evaluations
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count)]
    #[arg(default_value_t = TrainOptions::default().evaluate_every)]
    pub evaluate_every: usize,
    /// Where samples of the model come from: a reweighted bank, Metropolis chains with independent
    /// proposals, persistent Langevin chains, Langevin chains from the data (CD-k), or, in R^d,
    /// persistent chains with Jarzynski's weights
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Negative::Auto)]
    pub negative: Negative,
    /// Number of chains [default: 1000]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count)]
    pub chains: Option<usize>,
    /// Moves of every chain per iteration [default: 10]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count)]
    pub steps: Option<usize>,
    /// Share of the persistent chains that start afresh at every iteration [default: 0]
    #[arg(long, value_name = "FRACTION", allow_hyphen_values = true, value_parser = share)]
    pub restart: Option<f64>,
    /// Points in the bank, drawn afresh at every iteration [default: 3000]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count)]
    pub bank_size: Option<usize>,
    /// Bandwidth of the kernel of ksd, in units of the data [default: 1 on the sphere, √d base scales
    /// in R^d]
    #[arg(long, value_name = "H", allow_hyphen_values = true, value_parser = positive)]
    pub bandwidth: Option<f64>,
    /// Who attains the suprema of f1sd: single neurons, found by a search, or networks of 500 neurons that take 25
    /// steps of ascent for each of the model's, as in the paper, which is slower
    #[arg(long, value_name = "NAME", value_enum, default_value_t = CriticName::Neurons)]
    pub critic: CriticName,
    /// Standard deviation of the noise of dsm, in units of the data [default: 0.3 base scales]
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = positive)]
    pub noise: Option<f64>,
    /// Estimate that ksd makes small: v, or u, which is unbiased but has no lower bound [default: v]
    #[arg(long, value_name = "NAME", value_enum)]
    pub statistic: Option<StatisticName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EstimatorName {
    Mle,
    Ksd,
    F1sd,
    Dsm,
    /// Refused, with the reason.
    #[value(hide = true)]
    Hyvarinen,
    #[value(hide = true)]
    Sliced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimiserName {
    Gd,
    Adam,
    Lbfgs,
    Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CriticName {
    Neurons,
    Network,
}

/// The estimators of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaperEstimator {
    Mle,
    Ksd,
    F1sd,
}

impl PaperEstimator {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mle => "mle",
            Self::Ksd => "ksd",
            Self::F1sd => "f1sd",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Negative {
    Auto,
    Bank,
    Independence,
    Persistent,
    Contrastive,
    Jarzynski,
}

/// Height and width in pixels.
#[derive(Clone, Copy, Debug)]
pub struct ImageSize {
    pub height: usize,
    pub width: usize,
}

impl FromStr for ImageSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size = |text: &str| text.parse().ok().filter(|size| (1..=MAX_SIDE).contains(size));
        text.split_once('x')
            .and_then(|(height, width)| Some(Self { height: size(height)?, width: size(width)? }))
            .ok_or("expected HEIGHTxWIDTH in pixels, such as 8x8")
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

/// Longest side of an image.
const MAX_SIDE: usize = 4096;

/// Most numbers that an array of a size chosen by flags may hold.
pub const MAX_COUNT: usize = 1_000_000_000;

fn domain() -> impl TypedValueParser<Value = Domain> {
    PossibleValuesParser::new(["sphere", "euclidean"])
        .map(|name| name.parse().expect("one of the two"))
}

fn teacher() -> PossibleValuesParser {
    PossibleValuesParser::new(gibbsite::teacher::NAMES.map(|(name, _)| name))
}

fn regime() -> impl TypedValueParser<Value = Regime> {
    PossibleValuesParser::new(["f1", "f2"]).map(|name| match name.as_str() {
        "f1" => Regime::F1,
        _ => Regime::F2,
    })
}

fn whole(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number
        .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

fn count(text: &str) -> Result<usize, String> {
    whole(text, 1..=MAX_COUNT)
}

fn count_or_zero(text: &str) -> Result<usize, String> {
    whole(text, 0..=MAX_COUNT)
}

/// Their states alone take 32 bytes each.
fn streams(text: &str) -> Result<usize, String> {
    whole(text, 1..=1 << 24)
}

fn number(text: &str, accepts: fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&x: &f64| x.is_finite() && accepts(x));
    number.ok_or_else(|| format!("expected {expected}"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0, "a positive number")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |x| x >= 0.0, "a number that is not negative")
}

fn negative(text: &str) -> Result<f64, String> {
    number(text, |x| x < 0.0, "a negative number")
}

fn half(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0 && x <= 0.5, "a number above 0 and at most 0.5")
}

fn fraction(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0 && x < 1.0, "a number between 0 and 1")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn image_sizes() {
        let size = ImageSize::from_str("8x16").unwrap();
        assert_eq!((size.height, size.width), (8, 16));
        for text in ["", "8", "8x", "x8", "0x8", "8x-8", "8x8x8", "99999x1"] {
            assert!(ImageSize::from_str(text).is_err(), "{text:?}");
        }
    }
}
