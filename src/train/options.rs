//! What is trained, and how.

use super::{Critic, NegativePhase, Optimiser};
use crate::{Backend, Domain, Error, Isa, Result, stein::Statistic};

/// Which parameters are trained (Domingo-Enrich et al. 2021).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Regime {
    /// Active: neurons and outer weights, the ball of F1. Starts from small Gaussian parameters.
    #[default]
    F1,
    /// Lazy: outer weights only, over random neurons, the ball of F2. Starts from f = 0.
    F2,
}

impl std::fmt::Display for Regime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Regime::F1 => "f1",
            Regime::F2 => "f2",
        })
    }
}

/// What is made small (Domingo-Enrich et al. 2021).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Estimator {
    /// The cross-entropy `E_data[f] + log Z`, whose gradient is `E_data[∂f] - E_model[∂f]`.
    MaximumLikelihood {
        /// How the second expectation is estimated.
        negative: NegativePhase,
    },
    /// KSD² between the data and the model, which needs neither log Z nor samples: of the Gaussian kernel on the sphere, of the inverse
    /// multiquadric with exponent -½ in R^d. Costs about 10 n² d flops and memory of the order of n·d.
    Ksd {
        /// Bandwidth in units of the data; 1 on the sphere, as in the paper, and the base scale times √d in R^d, if
        /// absent.
        bandwidth: Option<f64>,
        /// V-statistics by default. U-statistics are unbiased, but a model can make that of its training data as negative as it likes:
        /// choose the iterate by validation, and decay weights.
        statistic: Statistic,
    },
    /// Denoising score matching in R^d (Vincent 2011): half the mean square of σ s(x + σξ) + ξ at noisy data. It fits the law of
    /// noisy data, needs neither log Z nor samples, and costs no more than the scores. Other forms of score matching are not offered: a
    /// ReLU energy's second derivatives are on its creases, where no point ever is, and without them the best scores are 0.
    Denoising {
        /// σ, in units of the data; 0.3 base scales if absent.
        noise: Option<f64>,
    },
    /// Half of the squared F1 Stein discrepancy, on the sphere; records have the whole of it.
    F1Sd {
        /// Who attains its suprema.
        critic: Critic,
    },
}

impl Default for Estimator {
    fn default() -> Self {
        Estimator::MaximumLikelihood { negative: NegativePhase::Auto }
    }
}

impl std::fmt::Display for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Estimator::MaximumLikelihood { .. } => "mle",
            Estimator::Ksd { .. } => "ksd",
            Estimator::Denoising { .. } => "dsm",
            Estimator::F1Sd { .. } => "f1sd",
        })
    }
}

/// Options of a training run.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// What is made small.
    pub estimator: Estimator,
    /// Active or lazy.
    pub regime: Regime,
    /// Domain of the data and the model.
    pub domain: Domain,
    /// Number of neurons m.
    pub neurons: usize,
    /// How parameters are moved.
    pub optimiser: Optimiser,
    /// Gradient steps.
    pub iterations: usize,
    /// Iterations without a better validation cross-entropy after which training ends; never, if absent.
    pub patience: Option<usize>,
    /// Step size l of the outer weights at the start. If absent, 0.05 (F1) or 0.5 (F2), for denoising 0.1 or 1, for the F1 Stein discrepancy 1 or
    /// 2.5. The neurons' step is 100 times larger, 25 times for the F1 Stein discrepancy. Both are scaled by m, so that they do not
    /// depend on it. Adam's is 0.02 if absent, transport's 1; L-BFGS finds its own.
    ///
    /// In R^d this, the weight decay and the initial variance refer to parameters of data divided by s√d, with s the base scale: draws
    /// of the base then have a norm of about 1, as points of the sphere.
    pub learning_rate: Option<f64>,
    /// c of the schedule l / (1 + c t) of the step sizes at iteration t; 0 keeps them as they are. If absent, 0.005, for the F1 Stein
    /// discrepancy 0.01 (the paper's), and 0 for transport.
    pub decay: Option<f64>,
    /// Weight decay λ of all trained parameters, which adds (λ/2m) Σ_j (w_j² + |(θ_j, b_j)|²) to the loss: where both layers are balanced, λ
    /// times the F1 norm, for any number of neurons. Transport decays amplitudes alone.
    pub weight_decay: f64,
    /// Variance of the initial parameters in the active regime (0.1 in the paper's experiments): small values let neurons
    /// condense on few directions, large ones keep them near where they started. The lazy regime and transport start from
    /// f = 0 and have no use for it.
    pub initial_variance: f64,
    /// Whether neurons have biases. Estimators that go by scores do not move them: a score depends on a bias only by which side of the
    /// crease a point is.
    pub bias: bool,
    /// Scale s of the Gaussian base measure in R^d; the root mean square of the training data if absent.
    pub base_scale: Option<f64>,
    /// Iterations between evaluations.
    pub evaluate_every: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Instruction-set level.
    pub isa: Isa,
    /// Backend of the energies.
    pub backend: Backend,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            estimator: Estimator::default(),
            regime: Regime::F1,
            domain: Domain::Sphere,
            neurons: 500,
            optimiser: Optimiser::default(),
            iterations: 600,
            patience: None,
            learning_rate: None,
            decay: None,
            weight_decay: 0.0,
            initial_variance: 0.1,
            bias: false,
            base_scale: None,
            evaluate_every: 10,
            seed: 0,
            isa: Isa::best(),
            backend: Backend::Auto,
        }
    }
}

pub(super) fn check_options(options: &TrainOptions) -> Result<()> {
    if options.neurons == 0 {
        return Err(Error::Zero { what: "the number of neurons" });
    }
    if options.patience == Some(0) {
        return Err(Error::Zero { what: "the patience" });
    }
    if options.evaluate_every == 0 {
        return Err(Error::Zero { what: "the number of iterations between evaluations" });
    }
    if let Some(rate) = options.learning_rate
        && !(rate > 0.0 && rate.is_finite())
    {
        return Err(Error::parameter("learning rate", "positive and finite", rate));
    }
    if let Some(decay) = options.decay
        && !(decay >= 0.0 && decay.is_finite())
    {
        return Err(Error::parameter("decay", "finite and not negative", decay));
    }
    if !(options.weight_decay >= 0.0 && options.weight_decay.is_finite()) {
        let got = options.weight_decay;
        return Err(Error::parameter("weight decay", "finite and not negative", got));
    }
    if !(options.initial_variance > 0.0 && options.initial_variance.is_finite()) {
        let got = options.initial_variance;
        return Err(Error::parameter("initial variance", "positive and finite", got));
    }
    if options.domain == Domain::Sphere
        && let Some(scale) = options.base_scale
    {
        return Err(Error::parameter("base scale", "absent on the sphere", scale));
    }
    Ok(())
}
