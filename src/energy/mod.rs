//! Energies: what samplers and Stein tools know of a model.

mod gemm;
mod relu;

pub(crate) use relu::carried_sums;
pub use relu::{Backend, ParamGrad, ReluEnergy};

use crate::{Error, Real, Result, Rows, RowsMut};

/// Where a model lives, and the measure its density refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Domain {
    /// R^d with Lebesgue measure.
    #[default]
    Euclidean,
    /// The unit sphere S^(d-1) with its uniform probability. Rows are taken to be on it if their norms are within 1e-6 (`f64`) or
    /// 1.2e-3 (`f32`) of 1.
    Sphere,
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Domain::Euclidean => "euclidean",
            Domain::Sphere => "sphere",
        })
    }
}

impl std::str::FromStr for Domain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "euclidean" => Ok(Domain::Euclidean),
            "sphere" => Ok(Domain::Sphere),
            _ => Err(Error::parameter("domain", "sphere or euclidean", text)),
        }
    }
}

/// An unnormalised density p ∝ exp(-U) with respect to the measure of its [`Domain`], given by
/// its potential U and its score s = ∇ log p = -∇U, a batch of points at a time.
///
/// Anything that implements this can be sampled and tested; [`ReluEnergy`] does.
///
/// ```
/// use gibbsite::{Energy, Result, Rows, RowsMut};
///
/// /// A standard Gaussian.
/// struct Gaussian(usize);
///
/// impl Energy<f64> for Gaussian {
///     fn dim(&self) -> usize {
///         self.0
///     }
///     fn potential_score(
///         &self,
///         x: Rows<'_, f64>,
///         mut potential: Option<&mut [f64]>,
///         mut score: Option<RowsMut<'_, f64>>,
///     ) -> Result<()> {
///         for (i, x) in x.iter().enumerate() {
///             if let Some(potential) = &mut potential {
///                 potential[i] = 0.5 * x.iter().map(|x| x * x).sum::<f64>();
///             }
///             if let Some(score) = &mut score {
///                 score.row_mut(i).iter_mut().zip(x).for_each(|(s, x)| *s = -x);
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let mut score = [0.0; 2];
/// Gaussian(2).potential_score(
///     Rows::new(&[3.0, -1.0], 1, 2)?,
///     None,
///     Some(RowsMut::new(&mut score, 1, 2)?),
/// )?;
/// assert_eq!(score, [-3.0, 1.0]);
/// # Ok::<(), gibbsite::Error>(())
/// ```
pub trait Energy<T: Real>: Sync {
    /// Dimension of the space that contains the domain.
    fn dim(&self) -> usize;

    /// The domain; R^d unless said otherwise.
    fn domain(&self) -> Domain {
        Domain::Euclidean
    }

    /// This energy as a ReLU energy, if it is one and no other, with the same potential and score everywhere: samplers then move many steps
    /// without coming back to it. A wrapper that changes anything must not pass on what it wraps.
    fn as_relu(&self) -> Option<&ReluEnergy<T>> {
        None
    }

    /// U(x_i) and s(x_i) for every row of `x` (n×d); `potential` has length n and `score` is n×d. Either may be
    /// left out. On the sphere the score is tangential.
    ///
    /// # Errors
    /// If shapes do not fit, or for points outside the domain.
    fn potential_score(
        &self,
        x: Rows<'_, T>,
        potential: Option<&mut [T]>,
        score: Option<RowsMut<'_, T>>,
    ) -> Result<()>;
}
