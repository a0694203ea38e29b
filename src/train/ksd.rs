//! The kernel Stein discrepancy between the data and the model, and its gradient.

use super::TrainOptions;
use crate::{
    Domain, Energy, ParamGrad, Real, ReluEnergy, Result, Rows, RowsMut,
    stein::{Gram, ScoreGradient, Statistic, SteinKernel},
};

/// Points at which the discrepancy is evaluated for the records, at most.
const EVALUATED: usize = 5000;

/// KSD² of the data, whose gradient goes by the model's scores there.
pub(super) struct Ksd<T> {
    x: Vec<T>,
    by_score: ScoreGradient<T>,
    kernel: SteinKernel,
    statistic: Statistic,
    grad: ParamGrad<T>,
}

impl<T: Real> Ksd<T> {
    pub(super) fn new(
        model: &ReluEnergy<T>,
        x: Rows<'_, T>,
        bandwidth: f64,
        statistic: Statistic,
        options: &TrainOptions,
    ) -> Result<Self> {
        let kernel = match options.domain {
            Domain::Sphere => SteinKernel::rbf(bandwidth)?.on_sphere(),
            Domain::Euclidean => SteinKernel::imq(bandwidth, -0.5)?,
        };
        // The gradient asks the kernel alone, so any scores will do.
        let zeros = vec![T::ZERO; x.rows() * x.cols()];
        let gram = Gram::new(&kernel, x, Rows::new(&zeros, x.rows(), x.cols())?)?;
        Ok(Self {
            x: x.iter().flatten().copied().collect(),
            by_score: ScoreGradient::new(gram.with_isa(options.isa), x, statistic)?,
            kernel,
            statistic,
            grad: model.zero_grad(),
        })
    }

    pub(super) fn gradient(&mut self, model: &ReluEnergy<T>) -> Result<&ParamGrad<T>> {
        let d = model.dim();
        let x = Rows::new(&self.x, self.x.len() / d, d)?;
        let score = scores(model, x)?;
        let by_score = self.by_score.at(Rows::new(&score, x.rows(), d)?)?;
        model.score_vjp(x, Rows::new(&by_score, x.rows(), d)?, &mut self.grad)?;
        Ok(&self.grad)
    }

    /// KSD² between points and the model.
    pub(super) fn loss(&self, model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<f64> {
        let x = x.range(0, x.rows().min(EVALUATED));
        let gram = Gram::of_energy(&self.kernel, model, x)?;
        Ok(gram.with_isa(model.isa()).ksd(self.statistic, &mut |_| {})?.squared)
    }
}

/// The model's scores at the rows of x.
pub(super) fn scores<T: Real>(model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<Vec<T>> {
    let mut score = vec![T::ZERO; x.rows() * x.cols()];
    model.potential_score(x, None, Some(RowsMut::new(&mut score, x.rows(), x.cols())?))?;
    Ok(score)
}
