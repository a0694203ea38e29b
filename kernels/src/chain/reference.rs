//! One chain at a time, as plain loops: the specification that every fast version must reproduce bit
//! for bit.

use super::{Rule, Space};
use crate::{
    Real, Rows, RowsMut, elementary::reference::Elementary, noise, relu, rowwise::reference::dot,
};

/// A chain with its stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain<T> {
    /// State.
    pub x: Vec<T>,
    /// Score at the state.
    pub score: Vec<T>,
    /// Velocity.
    pub velocity: Vec<T>,
    /// Potential at the state.
    pub potential: T,
    /// Logarithm of the last Metropolis ratio.
    pub log_ratio: T,
    /// Number of accepted steps.
    pub accepted: T,
    /// State of the stream.
    pub stream: [u64; 4],
}

fn number<T: Real>(x: f64) -> T {
    T::from_f64(x)
}

fn kinetic<T: Real>(v: &[T]) -> T {
    number::<T>(0.5) * dot(v, v)
}

/// v ← v - (v·x) x.
fn project<T: Real>(v: &mut [T], x: &[T]) {
    let normal = dot(v, x);
    for (v, &x) in v.iter_mut().zip(x) {
        *v = (-normal).mul_add(x, *v);
    }
}

impl<T: Real> Chain<T> {
    fn refresh(&mut self, space: Space, noise: T) {
        let stream = &mut self.stream;
        noise::reference::normals(|| noise::reference::next(stream), &mut self.velocity);
        self.velocity.iter_mut().for_each(|v| *v = noise * *v);
        if space == Space::Sphere {
            project(&mut self.velocity, &self.x);
        }
    }

    fn kick(&mut self, time: T, scale: &[T]) {
        for ((v, &score), &scale) in self.velocity.iter_mut().zip(&self.score).zip(scale) {
            *v = (time * scale).mul_add(score, *v);
        }
    }

    fn drift(&mut self, space: Space, time: T, scale: &[T]) {
        let Self { x, velocity, .. } = self;
        if space == Space::Flat {
            for ((x, &v), &scale) in x.iter_mut().zip(&*velocity).zip(scale) {
                *x = (time * scale).mul_add(v, *x);
            }
            return;
        }
        let speed = dot(velocity, velocity).sqrt();
        let half_turns = time * speed * number(std::f64::consts::FRAC_1_PI);
        let (sin, cos) = <T as Elementary>::sin_cos_pi(half_turns);
        let along = if T::ZERO < speed { sin / speed } else { T::ZERO };
        let back = speed * sin;
        for (x, v) in x.iter_mut().zip(velocity) {
            let (old_x, old_v) = (*x, *v);
            *x = along.mul_add(old_v, cos * old_x);
            *v = (-back).mul_add(old_x, cos * old_v);
        }
        let norm = dot(x, x).sqrt();
        x.iter_mut().for_each(|x| *x = *x / norm);
    }

    /// See [`advance`](super::advance); returns the kinetic energy after a refresh.
    pub fn advance(&mut self, rule: Rule<T>, space: Space, scale: &[T], drift: usize) -> T {
        let half = number::<T>(0.5);
        match rule {
            Rule::Unadjusted { step, noise, bounds } => {
                self.refresh(space, noise);
                self.kick(half * step, scale);
                self.drift(space, step, scale);
                if let Some((low, high)) = bounds {
                    for x in &mut self.x {
                        let at_least = if *x < low { low } else { *x };
                        *x = if high < at_least { high } else { at_least };
                    }
                }
                T::ZERO
            }
            Rule::Hamiltonian { step, .. } => {
                let mut energy = T::ZERO;
                if drift == 0 {
                    self.refresh(space, T::ONE);
                    energy = kinetic(&self.velocity);
                    self.kick(half * step, scale);
                } else {
                    self.kick(step, scale);
                }
                self.drift(space, step, scale);
                energy
            }
            Rule::Baoab { step, keep } => {
                let fresh = (-keep).mul_add(keep, T::ONE).sqrt();
                self.kick(half * step, scale);
                self.drift(space, half * step, scale);
                let mut noise = vec![T::ZERO; self.x.len()];
                let stream = &mut self.stream;
                noise::reference::normals(|| noise::reference::next(stream), &mut noise);
                for (v, noise) in self.velocity.iter_mut().zip(noise) {
                    *v = fresh.mul_add(noise, keep * *v);
                }
                self.drift(space, half * step, scale);
                T::ZERO
            }
        }
    }

    /// See [`settle`](super::settle); returns the kinetic energy and the logarithm of a uniform number.
    pub fn settle(&mut self, rule: Rule<T>, scale: &[T]) -> (T, T) {
        let half = number::<T>(0.5);
        match rule {
            Rule::Unadjusted { .. } => (T::ZERO, T::ZERO),
            Rule::Hamiltonian { step, .. } => {
                self.kick(half * step, scale);
                let [a, _] = T::integers(|| noise::reference::next(&mut self.stream));
                (kinetic(&self.velocity), T::ln_uniform(a))
            }
            Rule::Baoab { step, .. } => {
                self.kick(half * step, scale);
                (T::ZERO, T::ZERO)
            }
        }
    }

    /// A whole step; `evaluate` gives the potential and the score at a point.
    pub fn step(
        &mut self,
        rule: Rule<T>,
        space: Space,
        scale: &[T],
        mut evaluate: impl FnMut(&[T], &mut [T]) -> T,
    ) {
        let before = self.clone();
        let drifts = if let Rule::Hamiltonian { drifts, .. } = rule { drifts } else { 1 };
        let (mut kinetic, mut potential) = (T::ZERO, T::ZERO);
        for drift in 0..drifts {
            let energy = self.advance(rule, space, scale, drift);
            if drift == 0 {
                kinetic = energy;
            }
            potential = evaluate(&self.x, &mut self.score);
        }
        let (energy, ln_uniform) = self.settle(rule, scale);
        if let Rule::Hamiltonian { .. } = rule {
            self.log_ratio = (before.potential - potential) + (kinetic - energy);
            if ln_uniform < self.log_ratio {
                self.potential = potential;
                self.accepted = self.accepted + T::ONE;
            } else {
                (self.x, self.score) = (before.x, before.score);
            }
        }
    }
}

/// Potential and score of a ReLU model: see [`ReluTarget`](super::ReluTarget).
pub fn relu_target<T: Real>(
    (theta, bias, w): (Rows<'_, T>, Option<&[T]>, &[T]),
    density: (T, Option<T>, Space),
    x: &[T],
    score: &mut [T],
) -> T {
    let row = Rows::new(x, 1, x.len()).expect("one row");
    let mut energy = [T::ZERO];
    let gradient = RowsMut::new(score, 1, x.len()).expect("one row");
    relu::reference::energy_score(theta, bias, w, row, Some(&mut energy), Some(gradient));
    finish(density, x, energy[0], score)
}

/// The potential for an energy f(x); turns -∇f(x) into the score.
pub fn finish<T: Real>(
    (beta, precision, space): (T, Option<T>, Space),
    x: &[T],
    energy: T,
    score: &mut [T],
) -> T {
    let mut potential = beta * energy;
    for (score, &x) in score.iter_mut().zip(x) {
        *score = match precision {
            Some(precision) => beta * *score - precision * x,
            None => beta * *score,
        };
    }
    if space == Space::Sphere {
        project(score, x);
    }
    if let Some(precision) = precision {
        potential = potential + number::<T>(0.5) * precision * dot(x, x);
    }
    potential
}
