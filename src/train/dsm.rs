//! Denoising score matching (Vincent 2011): the model's scores at noisy data against those of the noise.
//!
//! Score matching itself asks for the Laplacian of f, which for ReLU energies lives on the creases alone: formulas that look at
//! points miss it and are minimised by scores of 0. Here derivatives fall on the noise.

use super::{Checkpoint, ksd::scores};
use crate::{ParamGrad, Real, ReluEnergy, Result, Rows, random::Stream};

/// `½ E|σ s(x + σξ) + ξ|²` over the data and Gaussian ξ, one for each point and iteration.
pub(super) struct Dsm<T> {
    x: Vec<T>,
    noise: f64,
    seed: u64,
    /// The same noise at every iteration.
    fixed: bool,
    iteration: u64,
    grad: ParamGrad<T>,
}

/// Noise of iterations; that of evaluations comes before.
const NOISE_STREAMS: u64 = 1 << 46;

impl<T: Real> Dsm<T> {
    pub(super) fn new(
        model: &ReluEnergy<T>,
        x: Rows<'_, T>,
        noise: f64,
        seed: u64,
        fixed: bool,
    ) -> Self {
        let x = x.iter().flatten().copied().collect();
        Self { x, noise, seed, fixed, iteration: 0, grad: model.zero_grad() }
    }

    pub(super) fn gradient(&mut self, model: &ReluEnergy<T>) -> Result<&ParamGrad<T>> {
        self.iteration = self.iteration.wrapping_add(u64::from(!self.fixed));
        let d = model.dim();
        let x = Rows::new(&self.x, self.x.len() / d, d)?;
        let (noisy, mut residual) = self.residual(model, x, self.iteration)?;
        let scale = T::from_f64(self.noise / x.rows() as f64);
        residual.iter_mut().for_each(|r| *r *= scale);
        let residual = Rows::new(&residual, x.rows(), d)?;
        model.score_vjp(Rows::new(&noisy, x.rows(), d)?, residual, &mut self.grad)?;
        Ok(&self.grad)
    }

    pub(super) fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.put_counts("noise.iteration", [self.iteration]);
    }

    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.iteration = checkpoint.counts("noise.iteration", 1)?[0];
        Ok(())
    }

    pub(super) fn loss(&self, model: &ReluEnergy<T>, x: Rows<'_, T>) -> Result<f64> {
        let (_, residual) = self.residual(model, x, 0)?;
        let squares = residual.iter().map(|r| r.to_f64() * r.to_f64()).sum::<f64>();
        Ok(0.5 * squares / x.rows() as f64)
    }

    /// Noisy points, and σ s + ξ there.
    fn residual(
        &self,
        model: &ReluEnergy<T>,
        x: Rows<'_, T>,
        iteration: u64,
    ) -> Result<(Vec<T>, Vec<T>)> {
        let mut xi = vec![T::ZERO; x.rows() * x.cols()];
        Stream::new(self.seed, NOISE_STREAMS.wrapping_add(iteration)).fill_normal(&mut xi);
        let sigma = T::from_f64(self.noise);
        let noisy: Vec<T> =
            x.iter().flatten().zip(&xi).map(|(&x, &xi)| sigma.mul_add(xi, x)).collect();
        let mut residual = scores(model, Rows::new(&noisy, x.rows(), x.cols())?)?;
        residual.iter_mut().zip(xi).for_each(|(r, xi)| *r = sigma.mul_add(*r, xi));
        Ok((noisy, residual))
    }
}
