//! Moves of Markov chains: Langevin and Hamiltonian steps in R^d and on the unit sphere.
//!
//! A chain has a state x, a score s = -∇U(x) and a velocity v, one row each; lanes hold chains, so a chain's
//! path depends on its own stream alone. Per-coordinate scales g (the root of a diagonal preconditioner) turn steps of
//! size ε into
//!
//! ```text
//! refresh   v = ξ, on the sphere ξ - (ξ·x) x
//! kick      v = v + ε g s
//! drift     x = x + ε g v, on the sphere along the great circle with velocity v, which is carried along
//! ```
//!
//! On the sphere, states have norm 1, scores are tangential and all scales 1. None of this is checked: other scales change kicks
//! and not drifts, and no law is invariant.
//!
//! A Hamiltonian trajectory is refresh, half a kick, drifts with kicks between them, half a kick; accepted
//! with probability min(1, exp(U - U' + ½|v|² - ½|v'|²)), the model's density is invariant, on the sphere as well
//! (both the kick and the geodesic flow preserve volume, and the trajectory is reversible). One drift of size
//! ε = √(2h) is the Metropolis-adjusted Langevin algorithm (MALA) with step h; without the Metropolis test it
//! is the unadjusted one (ULA).
//!
//! On the great circle through x with velocity v, after a time ε with a = ε|v|:
//! x' = cos a x + sin a v/|v| and v' = cos a v - |v| sin a x; x' is scaled to norm 1.

use crate::{
    Isa, Real, Rows, RowsMut, Scratch,
    noise::Streams,
    relu,
    relu::{Finish, Panel},
};

pub mod reference;
pub(crate) mod simd;

/// Where chains live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// R^d.
    Flat,
    /// The unit sphere of R^d; scores are tangential.
    Sphere,
}

/// One step of a chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule<T> {
    /// ULA: refresh, half a kick, a drift of size `step` = √(2h). The noise is scaled by `noise` (1 for the
    /// Langevin diffusion) and states are clamped to `bounds`, which is for R^d only.
    Unadjusted {
        /// √(2h).
        step: T,
        /// Factor of the noise.
        noise: T,
        /// Lower and upper end of every coordinate, in this order.
        bounds: Option<(T, T)>,
    },
    /// A Hamiltonian trajectory with a Metropolis test; MALA with a single drift.
    Hamiltonian {
        /// ε.
        step: T,
        /// Number of drifts, at least 1.
        drifts: usize,
    },
    /// Underdamped Langevin by the splitting BAOAB (Leimkuhler and Matthews 2013), R^d only: half a kick, half a
    /// drift, v = `keep` v + √(1 - `keep`²) ξ, half a drift, half a kick.
    Baoab {
        /// Time step.
        step: T,
        /// What a step leaves of the velocity: exp(-friction · step), from 0 to 1.
        keep: T,
    },
}

/// A model with a ReLU energy f: U = β f, plus |x|²/(2s²) with a Gaussian base of scale s.
#[derive(Clone, Copy, Debug)]
pub struct ReluTarget<'a, T> {
    /// The neurons.
    pub panel: &'a Panel<T>,
    /// β.
    pub beta: T,
    /// 1/s², if there is a base.
    pub precision: Option<T>,
    /// Where the model lives.
    pub space: Space,
}

/// Chains, one row or entry each. What [`relu_steps`] reads and writes depends on the rule:
///
/// | | [`Rule::Unadjusted`] | [`Rule::Hamiltonian`] | [`Rule::Baoab`] |
/// |---|---|---|---|
/// | `x`, `score`, `streams` | both | both | both |
/// | `velocity` | neither | neither | both |
/// | `potential` | neither | both | neither |
/// | `log_ratio` | neither | written | neither |
/// | `accepted` | neither | added to | neither |
#[derive(Debug)]
pub struct Chains<'a, T> {
    /// States.
    pub x: RowsMut<'a, T>,
    /// Scores at the states, as [`relu_target`] gives them.
    pub score: RowsMut<'a, T>,
    /// Velocities.
    pub velocity: RowsMut<'a, T>,
    /// Potentials U at the states, as [`relu_target`] gives them: not the energies f.
    pub potential: &'a mut [T],
    /// Logarithm of the last Metropolis ratio.
    pub log_ratio: &'a mut [T],
    /// Number of accepted steps. In `f32` it stays at 2^24 once it is there, so it has to be read and set to 0 before.
    pub accepted: &'a mut [T],
    /// One stream per chain; see [`Streams`] for those behind the last chain.
    pub streams: &'a mut [Streams<T>],
}

impl<T: Real> Chains<'_, T> {
    fn check(&self, scale: &[T]) {
        let (n, d) = (self.x.rows(), self.x.cols());
        for (what, rows) in [("score", &self.score), ("velocity", &self.velocity)] {
            assert_eq!((rows.rows(), rows.cols()), (n, d), "shape of {what} against x");
        }
        for (what, entries) in [
            ("potential", &self.potential),
            ("log_ratio", &self.log_ratio),
            ("accepted", &self.accepted),
        ] {
            assert_eq!(entries.len(), n, "length of {what} against the rows of x");
        }
        assert_eq!(scale.len(), d, "length of scale against the columns of x");
        crate::noise::check(self.streams.len(), n);
    }
}

/// Moves chains of a ReLU model by `steps` steps. Nothing but the chains and the neurons is touched from one step to
/// the next.
///
/// Costs n·m·(4d + 3) flops per drift.
///
/// # Panics
/// If the panel does not hold neurons, shapes do not fit, or the rule is not one for the space: bounds and [`Rule::Baoab`]
/// are for R^d only, and a trajectory has at least one drift.
pub fn relu_steps<T: Real>(
    target: ReluTarget<'_, T>,
    rule: Rule<T>,
    scale: &[T],
    steps: usize,
    chains: Chains<'_, T>,
    scratch: &mut Scratch,
) {
    chains.check(scale);
    target.panel.check_neurons();
    assert_eq!(target.panel.dim(), chains.x.cols(), "the panel's dimension against x");
    check_rule(rule, target.space);
    let run = simd::ReluSteps { target, rule, scale, steps, chains, scratch };
    T::chain(run.target.panel.isa(), simd::Move::Relu(run));
}

fn check_rule<T: Real>(rule: Rule<T>, space: Space) {
    let allowed = match rule {
        Rule::Unadjusted { bounds, .. } => bounds.is_none() || space == Space::Flat,
        Rule::Hamiltonian { drifts, .. } => drifts > 0,
        Rule::Baoab { .. } => space == Space::Flat,
    };
    assert!(allowed, "{rule:?} in {space:?} space");
}

/// Potentials and scores of a ReLU model: `potential[i] = U(x_i)`, `score[i] = -∇U(x_i)`, on the sphere projected to the tangent
/// space at `x_i`.
///
/// `x` and `score` are n×d, `potential` has length n. Costs n·m·(4d + 3) flops, without scores n·m·(2d + 2).
///
/// # Panics
/// If the panel does not hold neurons, or the shapes do not fit it.
pub fn relu_target<T: Real>(
    target: ReluTarget<'_, T>,
    x: Rows<'_, T>,
    potential: Option<&mut [T]>,
    score: Option<RowsMut<'_, T>>,
    scratch: &mut Scratch,
) {
    relu::neuron_sums(target.panel, x, potential, score, Finish::Target(target), scratch);
}

/// The end of [`relu_target`] for sums over neurons that others have made: `potential[i]` holds `Σ_j w_j max(z_ij, 0)` and `score[i]`
/// `Σ_j w_j 1{z_ij > 0} θ_j` before, and what [`relu_target`] gives afterwards.
///
/// # Panics
/// As [`relu_target`].
pub fn finish<T: Real>(
    target: ReluTarget<'_, T>,
    x: Rows<'_, T>,
    potential: Option<&mut [T]>,
    score: Option<RowsMut<'_, T>>,
    scratch: &mut Scratch,
) {
    target.panel.check_neurons();
    assert_eq!(target.panel.dim(), x.cols(), "the panel's dimension against x");
    if let Some(potential) = &potential {
        assert_eq!(potential.len(), x.rows(), "length of potential against the rows of x");
    }
    if let Some(score) = &score {
        assert_eq!((score.rows(), score.cols()), (x.rows(), x.cols()), "shape of score against x");
    }
    T::chain(target.panel.isa(), simd::Move::Finish { target, x, potential, score, scratch });
}

/// The part of a step up to the evaluation number `drift` of the score, for energies of any kind:
///
/// | rule | `drift` = 0 | `drift` > 0 |
/// |---|---|---|
/// | [`Rule::Unadjusted`] | the whole step | |
/// | [`Rule::Hamiltonian`] | refresh, half a kick, drift | kick, drift |
/// | [`Rule::Baoab`] | BAOA | |
///
/// Rules without an entry ignore `drift`. `energy[c]` becomes the kinetic energy ½|v|² of chain c after a refresh, by
/// [`Rule::Hamiltonian`] at `drift` = 0, and is left alone otherwise. [`Rule::Unadjusted`] neither reads nor writes velocities.
///
/// # Panics
/// If shapes do not fit, or the rule is not one for the space, as with [`relu_steps`].
pub fn advance<T: Real>(
    isa: Isa,
    rule: Rule<T>,
    space: Space,
    scale: &[T],
    drift: usize,
    chains: &mut Moving<'_, T>,
    scratch: &mut Scratch,
) {
    chains.check(scale);
    check_rule(rule, space);
    T::chain(isa, simd::Move::Advance { rule, space, scale, drift, chains, scratch });
}

/// The part of a step behind the last evaluation of the score:
///
/// | rule | |
/// |---|---|
/// | [`Rule::Unadjusted`] | nothing |
/// | [`Rule::Hamiltonian`] | half a kick, and what the Metropolis test needs: `energy[c]` becomes ½\|v\|² and `ln_uniform[c]` the logarithm of the uniform number to compare with |
/// | [`Rule::Baoab`] | half a kick; `energy` and `ln_uniform` are left alone |
///
/// # Panics
/// As [`advance`].
pub fn settle<T: Real>(
    isa: Isa,
    rule: Rule<T>,
    space: Space,
    scale: &[T],
    ln_uniform: &mut [T],
    chains: &mut Moving<'_, T>,
    scratch: &mut Scratch,
) {
    chains.check(scale);
    check_rule(rule, space);
    assert_eq!(ln_uniform.len(), chains.x.rows(), "length of ln_uniform against the rows of x");
    T::chain(isa, simd::Move::Settle { rule, scale, ln_uniform, chains, scratch });
}

/// Chains within a step of [`advance`] and [`settle`], which say what they write.
#[derive(Debug)]
pub struct Moving<'a, T> {
    /// States.
    pub x: RowsMut<'a, T>,
    /// Scores at the states.
    pub score: Rows<'a, T>,
    /// Velocities.
    pub velocity: RowsMut<'a, T>,
    /// Kinetic energies.
    pub energy: &'a mut [T],
    /// One stream per chain; see [`Streams`] for those behind the last chain.
    pub streams: &'a mut [Streams<T>],
}

impl<T: Real> Moving<'_, T> {
    fn check(&self, scale: &[T]) {
        let (n, d) = (self.x.rows(), self.x.cols());
        assert_eq!((self.score.rows(), self.score.cols()), (n, d), "shape of score against x");
        let velocity = (self.velocity.rows(), self.velocity.cols());
        assert_eq!(velocity, (n, d), "shape of velocity against x");
        assert_eq!(self.energy.len(), n, "length of energy against the rows of x");
        assert_eq!(scale.len(), d, "length of scale against the columns of x");
        crate::noise::check(self.streams.len(), n);
    }
}
