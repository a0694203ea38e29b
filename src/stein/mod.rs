//! Stein kernels: how far points are from a density of which only the score is known.
//!
//! The kernel Stein discrepancy (KSD) between a sample x_1..x_n and a density p is the root of the mean of a Stein kernel
//! u over pairs; u is made of a kernel k and the score s = ∇ log p, and its mean over p is 0, so neither draws from p nor
//! its normalising constant are needed (Liu, Lee and Jordan 2016; Chwialkowski, Strathmann and Gretton 2016).
//!
//! | to | use |
//! |---|---|
//! | choose a kernel | [`SteinKernel`], [`median_distance`] |
//! | get the Gram matrix, its sums, its products with matrices | [`Gram`] |
//! | estimate KSD² with a standard error | [`ksd`]; from few of the pairs [`ksd_blocks`]; of points that are on disk [`ksd_in_parts`] |
//! | measure by functions of F1 norm 1 in place of a kernel | [`F1Discrepancy`] |
//! | test whether points are draws from p | [`ksd_test`], [`ksd_aggregated_test`]; of very many [`Gram::fssd_test`] |
//! | see how the KSD falls with the number of points | [`Gram::ksd_trace`] |
//! | pick few points that stand for many | [`stein_thin`] |
//! | weigh points, or means of functions at them | [`Gram::stein_weights`], [`Gram::control_functional`] |
//! | see where a sample and a density differ | [`Gram::witness`] |
//! | fit a model, or move points | [`Gram::score_gradient`], [`Svgd`] |
//!
//! Scores come from any [`Energy`](crate::Energy) ([`Gram::of_energy`]), or from elsewhere as an array. The Gram matrix is computed tile by
//! tile, in memory of the order of n·d; only [`Gram::matrix`], [`Gram::stein_weights`] and [`Gram::control_functional`] hold it. Results are the same for any number of threads and on any
//! instruction set, but for what factors a matrix.
//!
//! ```
//! use gibbsite::{Rows, random::Stream, stein::{SteinKernel, Statistic, WildBootstrap, ksd, ksd_test}};
//!
//! // A sample of N(0, I) in the plane, and the scores of two densities at its points.
//! let mut x = [0.0; 400];
//! Stream::new(1, 0).fill_normal(&mut x);
//! let right: Vec<f64> = x.iter().map(|x| -x).collect();
//! let wrong: Vec<f64> = x.iter().map(|x| 0.7 - x).collect();
//! let [x, right, wrong] = [&x[..], &right, &wrong].map(|data| Rows::new(data, 200, 2).unwrap());
//!
//! let kernel = SteinKernel::imq(1.0, -0.5)?;
//! assert!(ksd(&kernel, x, wrong, Statistic::V)?.squared > 10.0 * ksd(&kernel, x, right, Statistic::V)?.squared);
//! let bootstrap = WildBootstrap::new(500).seed(3);
//! assert!(ksd_test(&kernel, x, right, Statistic::V, &bootstrap)?.p_value > 0.05);
//! assert!(ksd_test(&kernel, x, wrong, Statistic::V, &bootstrap)?.p_value < 0.01);
//! # Ok::<(), gibbsite::Error>(())
//! ```

mod f1;
mod fssd;
mod gram;
mod kernel;
mod statistics;
mod thinning;
mod weights;
mod witness;

pub use f1::F1Discrepancy;
pub use fssd::FssdTest;
pub use gibbsite_kernels::stein::TILE;
pub use gram::{Gram, Progress};
pub use kernel::{SteinKernel, median_distance};
pub use statistics::{
    AggregatedTest, BlockKsd, Ksd, KsdTest, Statistic, WildBootstrap, ksd, ksd_aggregated_test,
    ksd_blocks, ksd_in_parts, ksd_test,
};
pub use thinning::{Regularisation, Thinned, stein_thin};
pub use weights::SteinWeights;
pub(crate) use witness::ScoreGradient;
pub use witness::Svgd;
