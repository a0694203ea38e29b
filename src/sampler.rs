//! Markov chains on any [`Energy`].
//!
//! | sampler | in R^d | on the sphere | leaves the model's law invariant |
//! |---|---|---|---|
//! | [`Sampler::ula`] | yes | yes, along great circles | up to a bias of the order of the step |
//! | [`Sampler::mala`] | yes | yes | yes |
//! | [`Sampler::hmc`] | yes | yes | yes |
//! | [`Sampler::baoab`] | yes | no | up to a bias of the order of the step squared |
//! | [`IndependenceMetropolis`] | with a Gaussian base | yes | yes |
//!
//! Chain `c` draws from its own stream of the seed: with a given step its path depends on (seed, c) alone, not on the other chains, the
//! number of threads or the instruction set. Warm-up tunes one step for all chains from all of them. A [`ReluEnergy`] on the fused
//! backend is moved by one kernel for many steps. Any other energy is called with the states of all chains, once where a run starts and
//! then at every step, by HMC at every leapfrog step.
//!
//! ```
//! use gibbsite::{ReluEnergy, Rows, sampler::Sampler};
//!
//! let theta = [1.0, 0.0, 1.0, 1.0];
//! let model = ReluEnergy::new(Rows::new(&theta, 2, 2)?, &[3.0, -1.0])?.with_base_scale(1.0)?;
//! let mut chains = Sampler::mala(0.1).chains(64).seed(7).build(&model)?;
//! chains.warm_up(&model, 200)?;
//! let report = chains.run(&model, 1_000)?;
//! assert!(report.acceptance.is_some_and(|rate| rate > 0.3));
//! assert_eq!(chains.states().rows(), 64);
//! # Ok::<(), gibbsite::Error>(())
//! ```

use crate::{
    Domain, Energy, Error, Real, ReluEnergy, Result, Rows, RowsMut,
    checkpoint::Checkpoint,
    data::{check_finite, check_on_sphere, check_projected, check_sphere, streams, try_zeros},
    error::number,
    normaliser::{Base, base_samples},
    parallel,
    random::Stream,
};
use gibbsite_kernels::{
    ShapeError,
    chain::{self, Moving, ReluTarget, Rule, Space},
    noise::{STREAMS, Streams},
};

/// Chains per work item: whole register tiles of every instruction set, whole groups of streams.
const CHAINS_PER_TILE: usize = 48;

/// Where the chains' streams are in the space of streams, away from those of data and banks.
const CHAIN_STREAMS: u64 = 1 << 40;
/// Where starting points are drawn from.
const START_STREAMS: u64 = 1 << 42;
/// Decisions about which chains start afresh.
const RESTART_STREAMS: u64 = 1 << 43;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Method {
    Ula { noise: f64, bounds: Option<(f64, f64)> },
    Hamiltonian { leapfrog: usize, langevin: bool },
    Baoab { friction: f64 },
}

/// What chains do, how many there are and where they start; see the [module](self).
#[derive(Clone, Debug)]
pub struct Sampler<'a, T> {
    method: Method,
    step: f64,
    chains: Option<usize>,
    seed: u64,
    start: Start<'a, T>,
    preconditioner: Option<&'a [T]>,
    noise: Option<f64>,
    bounds: Option<(f64, f64)>,
}

/// Where chains start.
#[derive(Clone, Copy, Debug, Default)]
pub enum Start<'a, T> {
    /// Independent draws: uniform on the sphere; in R^d from the Gaussian base of a ReLU energy that has one, otherwise
    /// from N(0, I).
    #[default]
    Random,
    /// N(0, s² I), by its scale s; in R^d only.
    Gaussian(T),
    /// Chain c at row c modulo the number of rows.
    Points(Rows<'a, T>),
}

impl<'a, T: Real> Sampler<'a, T> {
    fn new(method: Method, step: f64) -> Self {
        Self {
            method,
            step,
            chains: None,
            seed: 0,
            start: Start::Random,
            preconditioner: None,
            noise: None,
            bounds: None,
        }
    }

    /// The unadjusted Langevin algorithm, `x + h s(x) + √(2h) ξ` in R^d and the like along great circles on the sphere.
    pub fn ula(step: f64) -> Self {
        Self::new(Method::Ula { noise: 1.0, bounds: None }, step)
    }

    /// The Metropolis-adjusted Langevin algorithm: the same proposal, accepted or rejected so that the model's law is invariant.
    pub fn mala(step: f64) -> Self {
        Self::new(Method::Hamiltonian { leapfrog: 1, langevin: true }, step)
    }

    /// Hamiltonian Monte Carlo: trajectories of `leapfrog` steps of size `step`, along great circles on the sphere.
    pub fn hmc(step: f64, leapfrog: usize) -> Self {
        Self::new(Method::Hamiltonian { leapfrog, langevin: false }, step)
    }

    /// Underdamped Langevin dynamics by the splitting BAOAB (Leimkuhler and Matthews 2013) with time steps of `step`: velocities
    /// start from rest and keep e^(-friction step) of themselves from one step to the next; R^d only.
    pub fn baoab(step: f64, friction: f64) -> Self {
        Self::new(Method::Baoab { friction }, step)
    }

    /// Number of chains; 1 if not said, or as many as starting points.
    pub fn chains(self, chains: usize) -> Self {
        Self { chains: Some(chains), ..self }
    }

    /// Seed of the chains' streams and starting points; 0 if not said.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Where the chains start.
    pub fn start(self, start: Start<'a, T>) -> Self {
        Self { start, ..self }
    }

    /// ULA's noise is multiplied by this (1 is the Langevin diffusion; √T samples at temperature T; small values are what deep
    /// energy-based models are trained with). For ULA alone.
    pub fn noise(self, factor: f64) -> Self {
        Self { noise: Some(factor), ..self }
    }

    /// Clamps every coordinate to `low..=high` after each step. For ULA in R^d alone.
    pub fn bounds(self, low: f64, high: f64) -> Self {
        Self { bounds: Some((low, high)), ..self }
    }

    /// Diagonal preconditioner, length d: coordinates are moved as if they were measured in units of the roots of these, so that the step
    /// h of ULA and MALA is multiplied by them in each coordinate, those of trajectories by their roots. The variances of the target are a good choice. R^d only.
    pub fn preconditioner(self, diagonal: &'a [T]) -> Self {
        Self { preconditioner: Some(diagonal), ..self }
    }

    /// Makes the chains.
    ///
    /// # Errors
    /// If options are out of range or do not suit the energy's domain, starting points or the preconditioner are of another dimension, starting
    /// points are not finite or not in the domain, or there are no chains, no starting points, or more chains than memory holds.
    pub fn build<E: Energy<T> + ?Sized>(self, energy: &E) -> Result<Chains<T>> {
        let (d, domain) = (energy.dim(), energy.domain());
        let sphere = domain == Domain::Sphere;
        check_step::<T>(self.step)?;
        let mut method = self.method;
        match &mut method {
            Method::Ula { noise, bounds } => {
                *noise = self.noise.unwrap_or(*noise);
                *bounds = self.bounds;
                check_noise::<T>(*noise)?;
                if bounds.is_some() && sphere {
                    return Err(Error::parameter("bounds", "absent on the sphere", "bounds"));
                }
                if let Some((low, high)) = bounds
                    && !(T::from_f64(*low) < T::from_f64(*high))
                {
                    let got = format!("{} and {}", number(*low), number(*high));
                    return Err(Error::parameter(
                        "bounds",
                        "a lower and a higher number of the chains' type",
                        got,
                    ));
                }
            }
            _ if self.noise.is_some() => return Err(only_ula("noise")),
            _ if self.bounds.is_some() => return Err(only_ula("bounds")),
            Method::Hamiltonian { leapfrog, .. } => {
                if *leapfrog == 0 {
                    return Err(Error::Zero { what: "the number of leapfrog steps" });
                }
            }
            Method::Baoab { friction } => {
                check_friction::<T>(*friction, self.step)?;
                if sphere {
                    return Err(Error::parameter(
                        "sampler",
                        "ula, mala or hmc on the sphere",
                        "baoab",
                    ));
                }
            }
        }
        let points = match self.start {
            Start::Points(points) => points.rows(),
            _ => 1,
        };
        let chains = self.chains.unwrap_or(points);
        if chains == 0 || d == 0 || points == 0 {
            return Err(Error::Zero { what: "the number of chains and their dimension" });
        }
        if sphere {
            check_sphere(d)?;
        }
        let x = match (self.start, domain) {
            (Start::Random, Domain::Sphere) => {
                base_samples(Base::Sphere, chains, d, self.seed, START_STREAMS)?
            }
            (Start::Random, Domain::Euclidean) => {
                let scale = energy.as_relu().and_then(ReluEnergy::base_scale).unwrap_or(T::ONE);
                base_samples(Base::Gaussian(scale), chains, d, self.seed, START_STREAMS)?
            }
            (Start::Gaussian(scale), Domain::Euclidean) => {
                if !(scale > T::ZERO && scale.to_f64().is_finite()) {
                    let expected = "positive and finite";
                    return Err(Error::parameter("scale of the start", expected, scale));
                }
                base_samples(Base::Gaussian(scale), chains, d, self.seed, START_STREAMS)?
            }
            (Start::Gaussian(_), Domain::Sphere) => {
                return Err(Error::parameter("start", "on the sphere", "a Gaussian"));
            }
            (Start::Points(points), _) => {
                if points.cols() != d {
                    return Err(ShapeError::new("columns of the start", d, points.cols()).into());
                }
                check_points("the start", points, domain)?;
                let mut x = try_zeros("number of chains", chains, d)?;
                for (c, x) in x.chunks_exact_mut(d).enumerate() {
                    x.copy_from_slice(points.row(c % points.rows()));
                }
                x
            }
        };
        let scale = match self.preconditioner {
            None => vec![T::ONE; d],
            Some(_) if sphere => {
                return Err(Error::parameter("preconditioner", "absent on the sphere", "one"));
            }
            Some(diagonal) => {
                if diagonal.len() != d {
                    return Err(ShapeError::new("preconditioner", d, diagonal.len()).into());
                }
                if let Some(&p) =
                    diagonal.iter().find(|p| !(**p > T::ZERO && p.to_f64().is_finite()))
                {
                    return Err(Error::parameter("preconditioner", "positive and finite", p));
                }
                diagonal.iter().map(|&p| gibbsite_kernels::Real::sqrt(p)).collect()
            }
        };
        let keeps_velocity = matches!(method, Method::Baoab { .. });
        Ok(Chains {
            velocity: vec![T::ZERO; if keeps_velocity { x.len() } else { 0 }],
            x,
            dim: d,
            streams: streams("number of chains", self.seed, CHAIN_STREAMS, chains)?,
            chains,
            method,
            step: self.step,
            scale,
            seed: self.seed,
            restarts: 0,
            domain,
        })
    }
}

fn check_step<T: Real>(step: f64) -> Result<()> {
    let rounded = T::from_f64(step);
    match rounded > T::ZERO && rounded.to_f64().is_finite() {
        true => Ok(()),
        false => Err(Error::parameter("step", "positive and finite", step)),
    }
}

/// Of velocities that keep all of themselves, none is ever drawn.
fn check_friction<T: Real>(friction: f64, step: f64) -> Result<()> {
    if !(friction > 0.0 && friction.is_finite()) {
        return Err(Error::parameter("friction", "positive and finite", friction));
    }
    match T::from_f64(kept(friction, step)) < T::ONE {
        true => Ok(()),
        false => {
            let expected = "large enough to take something of a velocity in the chains' precision";
            Err(Error::parameter("friction times step", expected, friction * step))
        }
    }
}

/// What BAOAB leaves of a velocity at each step.
fn kept(friction: f64, step: f64) -> f64 {
    libm::exp(-friction * step)
}

fn check_points<T: Real>(what: &'static str, points: Rows<'_, T>, domain: Domain) -> Result<()> {
    check_finite(what, points)?;
    match domain {
        Domain::Euclidean => Ok(()),
        Domain::Sphere => check_on_sphere(what, points),
    }
}

/// Whether a Metropolis test has something to go by.
fn check_potentials<T: Real>(potential: &[T]) -> Result<()> {
    match potential.iter().position(|u| !(u.to_f64() > f64::NEG_INFINITY)) {
        Some(row) => {
            let value = potential[row].to_f64();
            Err(Error::NonFinite { what: "the potentials", row, col: 0, value })
        }
        None => Ok(()),
    }
}

fn only_ula(what: &'static str) -> Error {
    Error::parameter(what, "absent but for ULA", "one")
}

fn check_noise<T: Real>(noise: f64) -> Result<()> {
    let rounded = T::from_f64(noise).to_f64();
    match noise == 0.0 || rounded > 0.0 && rounded.is_finite() {
        true => Ok(()),
        false => {
            Err(Error::parameter("noise", "0, or positive and finite in the chains' type", noise))
        }
    }
}

/// A population of chains, one row each, that move in step. Made by [`Sampler::build`].
///
/// The energy is given with every call, so it may change in between, as it does in training.
#[derive(Clone, Debug)]
pub struct Chains<T> {
    x: Vec<T>,
    /// Empty unless the sampler keeps velocities from step to step.
    velocity: Vec<T>,
    dim: usize,
    streams: Vec<Streams<T>>,
    chains: usize,
    method: Method,
    step: f64,
    scale: Vec<T>,
    seed: u64,
    restarts: u64,
    domain: Domain,
}

/// What happened in a [`Chains::run`] or [`IndependenceMetropolis::run`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Share of proposals that were accepted; `None` without proposals, and for samplers without a Metropolis test.
    pub acceptance: Option<f64>,
}

/// The chains at one moment of [`Chains::sample`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Draw<'a, T> {
    /// Number of the draw, from 0.
    pub index: usize,
    /// The states, one row a chain.
    pub states: Rows<'a, T>,
    /// The potentials U at the states.
    pub potential: &'a [T],
    /// Share of proposals accepted since the first draw, where there is a Metropolis test.
    pub acceptance: Option<f64>,
}

impl<T: Real> Chains<T> {
    /// The current states, one row a chain.
    pub fn states(&self) -> Rows<'_, T> {
        Rows::new(&self.x, self.chains, self.dim).expect("sized when made")
    }

    pub(crate) fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.put_reals("chains.x", self.x.iter().map(|x| x.to_f64()));
        checkpoint.put_reals("chains.velocity", self.velocity.iter().map(|v| v.to_f64()));
        checkpoint.put_reals("chains.step", [self.step]);
        checkpoint.put_counts("chains.restarts", [self.restarts]);
        let state = |c: usize| self.streams[c / STREAMS].state(c % STREAMS);
        checkpoint.put_counts("chains.streams", (0..self.chains).flat_map(state));
    }

    /// Goes on where chains of the same options were saved.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let x = checkpoint.reals("chains.x", self.x.len())?;
        check_points(
            "the chains of the checkpoint",
            Rows::new(&x, self.chains, self.dim)?,
            self.domain,
        )?;
        self.x = x;
        self.velocity = checkpoint.reals("chains.velocity", self.velocity.len())?;
        self.set_step(checkpoint.reals("chains.step", 1)?[0])?;
        self.restarts = checkpoint.counts("chains.restarts", 1)?[0];
        let states = checkpoint.counts("chains.streams", 4 * self.chains)?;
        for (stream, state) in states.as_chunks().0.iter().enumerate() {
            if *state == [0; 4] {
                return Err(Error::Checkpoint(format!(
                    "stream {stream} of the chains is all zeros"
                )));
            }
            self.streams[stream / STREAMS].set_state(stream % STREAMS, *state);
        }
        Ok(())
    }

    /// The step size.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// Changes the step size, as a schedule does.
    ///
    /// # Errors
    /// If it is not positive and finite, or too small for the friction of BAOAB to be felt.
    pub fn set_step(&mut self, step: f64) -> Result<()> {
        check_step::<T>(step)?;
        if let Method::Baoab { friction } = self.method {
            check_friction::<T>(friction, step)?;
        }
        self.step = step;
        Ok(())
    }

    /// Changes the factor of ULA's noise, as a schedule does.
    ///
    /// # Errors
    /// If it is negative or not finite, or for other samplers.
    pub fn set_noise(&mut self, factor: f64) -> Result<()> {
        check_noise::<T>(factor)?;
        let Method::Ula { noise, .. } = &mut self.method else { return Err(only_ula("noise")) };
        *noise = factor;
        Ok(())
    }

    /// Moves every chain `steps` times.
    ///
    /// # Errors
    /// If the energy's dimension or domain is not the chains', whatever the energy returns, for MALA and HMC
    /// if where a chain stands the potential is NaN or -∞ or the score not finite (a potential of +∞ is left at the first finite one that is proposed), if scores on the
    /// sphere are not tangential, and [`Error::ChainDiverged`] if a state is no longer finite. After an error of the energy, chains without a Metropolis test
    /// may stand at the point where it was asked; those that have diverged want a [`restart`](Self::restart).
    pub fn run<E: Energy<T> + ?Sized>(&mut self, energy: &E, steps: usize) -> Result<Report> {
        self.moved(energy, steps).map(|moved| moved.0)
    }

    /// Moves every chain `steps` times while tuning the step size by dual averaging (Hoffman and Gelman 2014,
    /// section 3.2) towards the acceptance that suits the sampler: 0.574 for MALA (Roberts and Rosenthal 1998), 0.8
    /// for HMC. All chains share one step. Without a Metropolis test the step stays as it is. On the sphere, where a
    /// flat energy would accept any step, trajectories are about a quarter of a great circle at most.
    ///
    /// Draws of the warm-up are to be dropped: while the step depends on the past, the law is not invariant.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn warm_up<E: Energy<T> + ?Sized>(&mut self, energy: &E, steps: usize) -> Result<Report> {
        let Some(target) = self.target_acceptance() else {
            return self.run(energy, steps);
        };
        let mut averaging = DualAveraging::new(self.step, self.tuned_steps(), target);
        let mut accepted = 0.0;
        let mut moves = self.evaluate(energy)?;
        for _ in 0..steps {
            let (report, probability) = self.advance(energy, &mut moves, 1)?;
            accepted += report.acceptance.unwrap_or(0.0);
            self.step = averaging.update(probability);
        }
        if steps > 0 {
            self.step = averaging.average();
        }
        Ok(Report { acceptance: (steps > 0).then(|| accepted / steps as f64) })
    }

    /// [`run`](Self::run) with a nudge of the step size after it, by e^(0.1 (acceptance - target)): for targets that
    /// change all the time, as in training and annealing, where the law of the chains is approximate anyway.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_adapting<E: Energy<T> + ?Sized>(
        &mut self,
        energy: &E,
        steps: usize,
    ) -> Result<Report> {
        let report = self.run(energy, steps)?;
        if let (Some(target), Some(acceptance)) = (self.target_acceptance(), report.acceptance) {
            let (least, largest) = self.tuned_steps();
            let step = self.step * libm::exp(0.1 * (acceptance - target));
            self.step = step.min(largest).max(least);
        }
        Ok(report)
    }

    /// Least and largest step size that tuning may arrive at from the present one.
    fn tuned_steps(&self) -> (f64, f64) {
        // Far more than a bad first guess needs, and far from what overflows.
        const FACTOR: f64 = 1e8;
        // Velocities are about √d long. A quarter of a great circle leads to where nothing of x is left; half would lead to -x.
        let quarter = std::f64::consts::FRAC_PI_2 / (self.dim as f64).sqrt();
        let longest = match (self.domain, self.method) {
            (Domain::Euclidean, _) => f64::INFINITY,
            (Domain::Sphere, Method::Hamiltonian { langevin: false, leapfrog }) => {
                quarter / leapfrog as f64
            }
            (Domain::Sphere, _) => 0.5 * quarter * quarter,
        };
        let normal = T::MIN_POSITIVE.to_f64();
        let least = normal.max(self.step.min(longest) / FACTOR);
        (least, longest.min(self.step * FACTOR).min(normal.recip()))
    }

    /// The acceptance that suits the sampler, if it has a Metropolis test.
    fn target_acceptance(&self) -> Option<f64> {
        match self.method {
            Method::Hamiltonian { langevin: true, .. } => Some(0.574),
            Method::Hamiltonian { langevin: false, .. } => Some(0.8),
            _ => None,
        }
    }

    /// Restarts each chain with probability `fraction` at a row of `from`, taken in turn: the replay buffer of
    /// persistent training, with `from` fresh draws or data. Returns how many were restarted.
    ///
    /// # Errors
    /// If `fraction` is not within 0 to 1, or `from` has the wrong number of columns, no rows, or points that are not finite
    /// or not in the domain.
    pub fn restart(&mut self, fraction: f64, from: Rows<'_, T>) -> Result<usize> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::parameter(
                "fraction of restarted chains",
                "within 0 to 1",
                fraction,
            ));
        }
        if from.cols() != self.dim {
            return Err(ShapeError::new("columns of the restart", self.dim, from.cols()).into());
        }
        if from.rows() == 0 {
            return Err(Error::Zero { what: "the number of points to restart from" });
        }
        check_points("the points to restart from", from, self.domain)?;
        let mut decisions = Stream::new(self.seed, RESTART_STREAMS.wrapping_add(self.restarts));
        self.restarts = self.restarts.wrapping_add(1);
        let mut restarted = 0;
        for c in 0..self.chains {
            if decisions.uniform() <= fraction {
                let row = c * self.dim..(c + 1) * self.dim;
                self.x[row.clone()].copy_from_slice(from.row(restarted % from.rows()));
                if let Some(velocity) = self.velocity.get_mut(row) {
                    velocity.fill(T::ZERO);
                }
                restarted += 1;
            }
        }
        Ok(restarted)
    }

    fn rule(&self) -> Rule<T> {
        let number = T::from_f64;
        match self.method {
            Method::Ula { noise, bounds } => Rule::Unadjusted {
                step: number((2.0 * self.step).sqrt()),
                noise: number(noise),
                bounds: bounds.map(|(low, high)| (number(low), number(high))),
            },
            Method::Hamiltonian { leapfrog, langevin } => Rule::Hamiltonian {
                step: number(if langevin { (2.0 * self.step).sqrt() } else { self.step }),
                drifts: leapfrog,
            },
            Method::Baoab { friction } => {
                Rule::Baoab { step: number(self.step), keep: number(kept(friction, self.step)) }
            }
        }
    }

    /// Takes `draws` draws, `thin` steps apart, and shows each to `observe`.
    ///
    /// # Errors
    /// As [`run`](Self::run), if `thin` is 0, and whatever `observe` returns.
    pub fn sample<E: Energy<T> + ?Sized>(
        &mut self,
        energy: &E,
        draws: usize,
        thin: usize,
        mut observe: impl FnMut(Draw<'_, T>) -> Result<()>,
    ) -> Result<Report> {
        if thin == 0 {
            return Err(Error::Zero { what: "the number of steps between draws" });
        }
        let mut moves = self.evaluate(energy)?;
        let mut accepted = 0.0;
        let mut report = Report { acceptance: None };
        for index in 0..draws {
            let (last, _) = self.advance(energy, &mut moves, thin)?;
            if let Some(acceptance) = last.acceptance {
                accepted += acceptance;
                report.acceptance = Some(accepted / (index + 1) as f64);
            } else {
                // Rules without a Metropolis test do not keep it up.
                energy.potential_score(self.states(), Some(&mut moves.potential), None)?;
            }
            let (states, potential) = (self.states(), &moves.potential[..]);
            observe(Draw { index, states, potential, acceptance: report.acceptance })?;
        }
        Ok(report)
    }

    /// Moves and reports; the second value is the mean acceptance probability of the last step.
    fn moved<E: Energy<T> + ?Sized>(&mut self, energy: &E, steps: usize) -> Result<(Report, f64)> {
        let mut moves = self.evaluate(energy)?;
        self.advance(energy, &mut moves, steps)
    }

    /// Potentials and scores where the chains are.
    fn evaluate<E: Energy<T> + ?Sized>(&self, energy: &E) -> Result<Moves<T>> {
        if energy.dim() != self.dim {
            let what = "dimension of the energy (the chains')";
            return Err(ShapeError::new(what, self.dim, energy.dim()).into());
        }
        if energy.domain() != self.domain {
            return Err(Error::parameter("domain", "that of the chains", energy.domain()));
        }
        if let Some(model) = energy.as_relu()
            && (model.dim(), model.domain()) != (self.dim, self.domain)
        {
            let expected = "a model of the energy's dimension and domain";
            let got = format!("one of {} dimensions, {}", model.dim(), model.domain());
            return Err(Error::parameter("the energy's `as_relu`", expected, got));
        }
        let n = self.chains;
        let mut score = vec![T::ZERO; n * self.dim];
        let mut potential = vec![T::ZERO; n];
        energy.potential_score(
            self.states(),
            Some(&mut potential),
            Some(RowsMut::new(&mut score, n, self.dim)?),
        )?;
        let scores = Rows::new(&score, n, self.dim)?;
        if matches!(self.method, Method::Hamiltonian { .. }) {
            // Chains that start from there would reject whatever is proposed, for ever.
            check_potentials(&potential)?;
            check_finite("the scores", scores)?;
        }
        if self.domain == Domain::Sphere && energy.as_relu().is_none() {
            // What is radial is cut off by some moves and not by others. Scores of finite ones: others show as chains that diverge.
            check_projected(self.states(), &potential, scores)?;
        }
        let velocity = vec![T::ZERO; if self.velocity.is_empty() { self.x.len() } else { 0 }];
        let (log_ratio, accepted) = (vec![T::ZERO; n], vec![T::ZERO; n]);
        Ok(Moves { score, velocity, potential, log_ratio, accepted })
    }

    fn advance<E: Energy<T> + ?Sized>(
        &mut self,
        energy: &E,
        moves: &mut Moves<T>,
        steps: usize,
    ) -> Result<(Report, f64)> {
        // Accepted steps are counted in `T`, where f32 stops at 2^24.
        const AT_ONCE: usize = 1 << 20;
        let n = self.chains;
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n as f64;
        let mut accepted = 0.0;
        for done in (0..steps).step_by(AT_ONCE) {
            let steps = AT_ONCE.min(steps - done);
            moves.accepted.fill(T::ZERO);
            match energy.as_relu().and_then(ReluEnergy::chain_target) {
                Some(target) => self.steps_of_relu(target, moves, steps),
                None => self.steps_of_any(energy, moves, steps)?,
            }
            let lost = |x: &[T]| x.iter().any(|x| !x.to_f64().is_finite());
            if let Some(chain) = self.states().iter().position(lost) {
                return Err(Error::ChainDiverged { chain, step: self.step });
            }
            accepted += mean(&mut moves.accepted.iter().map(|count| count.to_f64()));
        }
        let metropolis = matches!(self.method, Method::Hamiltonian { .. });
        let probability = mean(&mut moves.log_ratio.iter().map(|ratio| {
            let ratio = ratio.to_f64();
            // A NaN is a rejection.
            if ratio.is_nan() { 0.0 } else { libm::exp(ratio.min(0.0)) }
        }));
        let acceptance = (metropolis && steps > 0).then(|| accepted / steps as f64);
        Ok((Report { acceptance }, probability))
    }

    fn steps_of_relu(&mut self, target: ReluTarget<'_, T>, moves: &mut Moves<T>, steps: usize) {
        let (d, rule) = (self.dim, self.rule());
        let block = parallel::rows_per_item(self.chains, CHAINS_PER_TILE, CHAINS_PER_TILE);
        let velocity =
            if moves.velocity.is_empty() { &mut self.velocity } else { &mut moves.velocity };
        let items: Vec<_> = self
            .x
            .chunks_mut(block * d)
            .zip(moves.score.chunks_mut(block * d))
            .zip(velocity.chunks_mut(block * d))
            .zip(self.streams.chunks_mut(block / STREAMS))
            .zip(moves.potential.chunks_mut(block))
            .zip(moves.log_ratio.chunks_mut(block).zip(moves.accepted.chunks_mut(block)))
            .collect();
        let scale = &self.scale;
        parallel::for_each(items, |item, scratch| {
            let (((((x, score), velocity), streams), potential), (log_ratio, accepted)) = item;
            let n = potential.len();
            let rows = |data| RowsMut::new(data, n, d).expect("whole rows");
            let (x, score, velocity) = (rows(x), rows(score), rows(velocity));
            let chains =
                chain::Chains { x, score, velocity, potential, log_ratio, accepted, streams };
            chain::relu_steps(target, rule, scale, steps, chains, scratch);
        });
    }

    /// The same with kernels for the moves and the energy called in between; the same bits if the energy's are.
    fn steps_of_any<E: Energy<T> + ?Sized>(
        &mut self,
        energy: &E,
        moves: &mut Moves<T>,
        steps: usize,
    ) -> Result<()> {
        let (n, d, rule) = (self.chains, self.dim, self.rule());
        let space = match energy.domain() {
            Domain::Euclidean => Space::Flat,
            Domain::Sphere => Space::Sphere,
        };
        let isa = gibbsite_kernels::Isa::best();
        let (metropolis, drifts) = match rule {
            Rule::Hamiltonian { drifts, .. } => (true, drifts),
            _ => (false, 1),
        };
        let velocity =
            if moves.velocity.is_empty() { &mut self.velocity } else { &mut moves.velocity };
        let (mut start, mut end) = (vec![T::ZERO; n], vec![T::ZERO; n]);
        let mut ln_uniform = vec![T::ZERO; n];
        let mut potential = vec![T::ZERO; n];
        let (mut old_x, mut old_score) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            if metropolis {
                old_x.clone_from(&self.x);
                old_score.clone_from(&moves.score);
            }
            for drift in 0..drifts {
                let kinetic = if drift == 0 { &mut start } else { &mut end };
                let scale = &self.scale;
                let items = blocks(
                    &mut self.x,
                    &moves.score,
                    velocity,
                    kinetic,
                    &mut ln_uniform,
                    &mut self.streams,
                    d,
                );
                parallel::for_each(items, |(mut moving, _), scratch| {
                    chain::advance(isa, rule, space, scale, drift, &mut moving, scratch);
                });
                let last = metropolis && drift + 1 == drifts;
                let result = energy.potential_score(
                    Rows::new(&self.x, n, d)?,
                    last.then_some(&mut potential[..]),
                    Some(RowsMut::new(&mut moves.score, n, d)?),
                );
                if metropolis && result.is_err() {
                    // Chains stay where they were: nobody has accepted what is proposed.
                    self.x.clone_from(&old_x);
                }
                result?;
            }
            let scale = &self.scale;
            let items = blocks(
                &mut self.x,
                &moves.score,
                velocity,
                &mut end,
                &mut ln_uniform,
                &mut self.streams,
                d,
            );
            parallel::for_each(items, |(mut moving, ln_uniform), scratch| {
                chain::settle(isa, rule, space, scale, ln_uniform, &mut moving, scratch);
            });
            if !metropolis {
                continue;
            }
            for c in 0..n {
                let ratio = (moves.potential[c] - potential[c]) + (start[c] - end[c]);
                moves.log_ratio[c] = ratio;
                if ln_uniform[c] < ratio {
                    moves.potential[c] = potential[c];
                    moves.accepted[c] += T::ONE;
                } else {
                    let row = c * d..(c + 1) * d;
                    self.x[row.clone()].copy_from_slice(&old_x[row.clone()]);
                    moves.score[row.clone()].copy_from_slice(&old_score[row]);
                }
            }
        }
        Ok(())
    }
}

/// What goes with the states of chains while they move.
struct Moves<T> {
    score: Vec<T>,
    /// For rules that keep none from step to step, but want a place for one.
    velocity: Vec<T>,
    potential: Vec<T>,
    log_ratio: Vec<T>,
    accepted: Vec<T>,
}

/// Work items of the kernels for chains under any energy.
fn blocks<'a, T: Real>(
    x: &'a mut [T],
    score: &'a [T],
    velocity: &'a mut [T],
    energy: &'a mut [T],
    ln_uniform: &'a mut [T],
    streams: &'a mut [Streams<T>],
    d: usize,
) -> Vec<(Moving<'a, T>, &'a mut [T])> {
    let block = parallel::rows_per_item(energy.len(), CHAINS_PER_TILE, CHAINS_PER_TILE);
    x.chunks_mut(block * d)
        .zip(score.chunks(block * d))
        .zip(velocity.chunks_mut(block * d))
        .zip(energy.chunks_mut(block))
        .zip(ln_uniform.chunks_mut(block))
        .zip(streams.chunks_mut(block / STREAMS))
        .map(|(((((x, score), velocity), energy), ln_uniform), streams)| {
            let n = energy.len();
            let moving = Moving {
                x: RowsMut::new(x, n, d).expect("whole rows"),
                score: Rows::new(score, n, d).expect("whole rows"),
                velocity: RowsMut::new(velocity, n, d).expect("whole rows"),
                energy,
                streams,
            };
            (moving, ln_uniform)
        })
        .collect()
}

/// Dual averaging of the logarithm of a step size (Hoffman and Gelman 2014, equation 6), with their constants.
struct DualAveraging {
    target: f64,
    /// Logarithms of the least and the largest step.
    range: (f64, f64),
    /// What the logarithm shrinks towards: ten times the first step.
    centre: f64,
    count: f64,
    error: f64,
    log_average: f64,
}

impl DualAveraging {
    fn new(step: f64, (least, largest): (f64, f64), target: f64) -> Self {
        let (centre, log_average) = (libm::log(10.0 * step), libm::log(step));
        let range = (libm::log(least), libm::log(largest));
        Self { target, range, centre, count: 0.0, error: 0.0, log_average }
    }

    /// The next step size, after a step with this mean acceptance probability.
    fn update(&mut self, probability: f64) -> f64 {
        const SHRINKAGE: f64 = 0.05;
        const DELAY: f64 = 10.0;
        const FORGETTING: f64 = 0.75;
        self.count += 1.0;
        let weight = 1.0 / (self.count + DELAY);
        self.error += weight * (self.target - probability - self.error);
        let log_step = self.centre - self.count.sqrt() / SHRINKAGE * self.error;
        let log_step = log_step.min(self.range.1).max(self.range.0);
        let weight = libm::pow(self.count, -FORGETTING);
        self.log_average += weight * (log_step - self.log_average);
        libm::exp(log_step)
    }

    fn average(&self) -> f64 {
        libm::exp(self.log_average)
    }
}

/// Independence Metropolis chains: every proposal is a fresh draw from the model's base probability,
/// accepted with probability min(1, exp(β f(x) - β f(y))).
///
/// Exact, and quick where the model is close to its base; chains get stuck where it is not.
#[derive(Clone, Debug)]
pub struct IndependenceMetropolis<T> {
    x: Vec<T>,
    chains: usize,
    base: Base<T>,
    seed: u64,
    /// Proposals so far; each has a bank of its own.
    proposals: u64,
}

/// Where proposals' banks and decisions are in the space of streams.
const PROPOSAL_STREAMS: u64 = 1 << 41;

impl<T: Real> IndependenceMetropolis<T> {
    /// Chains that start at draws from the base probability of `model`.
    ///
    /// # Errors
    /// If the model has no base probability, or there are no chains or more than memory holds.
    pub fn new(model: &ReluEnergy<T>, chains: usize, seed: u64) -> Result<Self> {
        if chains == 0 {
            return Err(Error::Zero { what: "the number of chains" });
        }
        let base = Base::of(model)?;
        let x = base_samples(base, chains, model.dim(), seed, PROPOSAL_STREAMS)?;
        Ok(Self { x, chains, base, seed, proposals: 1 })
    }

    /// The current states, one row a chain.
    pub fn states(&self) -> Rows<'_, T> {
        Rows::new(&self.x, self.chains, self.x.len() / self.chains).expect("sized when made")
    }

    pub(crate) fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.put_reals("chains.x", self.x.iter().map(|x| x.to_f64()));
        checkpoint.put_counts("chains.proposals", [self.proposals]);
    }

    /// Goes on where chains of the same options were saved.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let x = checkpoint.reals("chains.x", self.x.len())?;
        let points = Rows::new(&x, self.chains, self.x.len() / self.chains)?;
        check_points("the chains of the checkpoint", points, self.base.domain())?;
        self.x = x;
        self.proposals = checkpoint.counts("chains.proposals", 1)?[0];
        Ok(())
    }

    /// Makes `steps` proposals to every chain.
    ///
    /// # Errors
    /// If the model's dimension or base probability is not the chains', or its energy is NaN or -∞ where one stands.
    pub fn run(&mut self, model: &ReluEnergy<T>, steps: usize) -> Result<Report> {
        if Base::of(model)? != self.base {
            let got = "another: its proposals come from there";
            return Err(Error::parameter("base probability", "that of the chains", got));
        }
        let (n, d) = (self.chains, self.states().cols());
        let mut now = vec![T::ZERO; n];
        let mut next = vec![T::ZERO; n];
        model.energy(self.states(), &mut now)?;
        check_potentials(&now)?;
        let mut accepted: u64 = 0;
        for _ in 0..steps {
            let number = PROPOSAL_STREAMS.wrapping_add(self.proposals);
            self.proposals = self.proposals.wrapping_add(1);
            let y = base_samples(self.base, n, d, self.seed, number)?;
            model.energy(Rows::new(&y, n, d)?, &mut next)?;
            let mut decisions = Stream::new(self.seed, number);
            for c in 0..n {
                let log_ratio = model.beta().to_f64() * (now[c] - next[c]).to_f64();
                if libm::log(decisions.uniform()) < log_ratio {
                    self.x[c * d..][..d].copy_from_slice(&y[c * d..][..d]);
                    now[c] = next[c];
                    accepted += 1;
                }
            }
        }
        let proposals = n as f64 * steps as f64;
        Ok(Report { acceptance: (steps > 0).then(|| accepted as f64 / proposals) })
    }
}
