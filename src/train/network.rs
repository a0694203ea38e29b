//! Networks as critics of the F1 Stein discrepancy, one for each coordinate.

use crate::{
    Error, Isa, Real, ReluEnergy, Result, Rows, data::try_zeros, monitor::f1_norm, random::Stream,
};

/// Where networks start, one stream for each.
const NETWORK_STREAMS: u64 = 1 << 47;

/// `h(x) = Σ_l w_l max(θ_l·x, 0)` of F1 norm `Σ_l |w_l| |θ_l| = 1`, which is moved towards larger values of
/// `V = E[b_i h(x) + (P_x ∇h(x))_i]`, b = s - (d-1) x.
pub(super) struct Network<T: Real> {
    /// f is h over the number of units.
    pub(super) energy: ReluEnergy<T>,
    coordinate: usize,
}

impl<T: Real> Network<T> {
    pub(super) fn new(
        coordinate: usize,
        d: usize,
        units: usize,
        seed: u64,
        isa: Isa,
    ) -> Result<Self> {
        if units == 0 {
            return Err(Error::Zero { what: "the number of units of a critic" });
        }
        let mut stream = Stream::new(seed, NETWORK_STREAMS + coordinate as u64);
        let mut theta = try_zeros("number of units", units, d)?;
        let mut w = try_zeros("number of units", units, 1)?;
        stream.fill_normal(&mut w);
        stream.fill_normal(&mut theta);
        let energy = ReluEnergy::new(Rows::new(&theta, units, d)?, &w)?;
        let energy = energy.with_bias(&try_zeros("number of units", units, 1)?)?.with_isa(isa);
        let mut network = Self { energy, coordinate };
        network.normalise()?;
        Ok(network)
    }

    /// h at points.
    pub(super) fn values(&self, x: Rows<'_, T>) -> Result<Vec<f64>> {
        let mut values = vec![T::ZERO; x.rows()];
        self.energy.energy(x, &mut values)?;
        let units = self.energy.neurons() as f64;
        Ok(values.iter().map(|value| units * value.to_f64()).collect())
    }

    /// Takes steps of ascent, which shrink as 1/(1 + 0.05 t) over the steps of one call, and returns V. Parameters are scaled to F1
    /// norm 1 after each.
    pub(super) fn ascend(
        &mut self,
        x: Rows<'_, T>,
        score: Rows<'_, T>,
        steps: usize,
    ) -> Result<f64> {
        let (n, i) = (x.rows() as f64, self.coordinate);
        let units = self.energy.neurons() as f64;
        let curvature = T::from_f64(x.cols() as f64);
        // b_i - x_i.
        let moved: Vec<T> =
            x.iter().zip(score.iter()).map(|(x, s)| s[i] - curvature * x[i]).collect();
        let scale = T::from_f64(units / n);
        let (mut along, mut counts) = (self.energy.zero_grad(), self.energy.zero_grad());
        let ones = vec![T::ONE; self.energy.neurons()];
        for step in 0..=steps {
            // dV/dw_l = E[(b_i - x_i) max(θ_l·x, 0)] + θ_li P(θ_l·x > 0), and V is linear in w.
            self.energy.param_grad(x, Some(&moved), &mut along)?;
            // With outer weights 1, gradients by biases count the points on a neuron's side.
            let mut gates = self.energy.clone();
            gates.update_parameters(|w, _, _| w.copy_from_slice(&ones))?;
            gates.param_grad(x, None, &mut counts)?;
            let shares = counts.bias.as_ref().expect("a network with biases");
            let d = x.cols();
            let by_w: Vec<T> = (0..ones.len())
                .map(|l| scale * (along.w[l] + self.energy.theta().row(l)[i] * shares[l]))
                .collect();
            if step == steps {
                let value = self.energy.w().iter().zip(&by_w).map(|(w, g)| w.to_f64() * g.to_f64());
                return Ok(value.sum());
            }
            let rate = T::from_f64(1.0 / (1.0 + 0.05 * step as f64));
            self.energy.update_parameters(|w, theta, _| {
                for l in 0..w.len() {
                    let theta = &mut theta[l * d..(l + 1) * d];
                    for (k, theta) in theta.iter_mut().enumerate() {
                        let count = if k == i { w[l] * shares[l] } else { T::ZERO };
                        *theta += rate * scale * (along.theta[l * d + k] + count);
                    }
                }
                w.iter_mut().zip(&by_w).for_each(|(w, g)| *w += rate * *g);
            })?;
            self.normalise()?;
        }
        unreachable!("the last round returns")
    }

    /// Both layers share what brings the F1 norm to 1.
    fn normalise(&mut self) -> Result<()> {
        let norm = self.energy.neurons() as f64 * f1_norm(&self.energy);
        let share = T::from_f64(norm.sqrt().recip());
        self.energy.update_parameters(|w, theta, _| {
            w.iter_mut().chain(theta).for_each(|parameter| *parameter *= share);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stein::F1Discrepancy;

    fn problem() -> (usize, Vec<f64>, Vec<f64>) {
        let (n, d) = (60, 3);
        let mut stream = Stream::new(8, 0);
        let (mut x, mut score) = (vec![0.0; n * d], vec![0.0; n * d]);
        x.chunks_exact_mut(d).for_each(|x| stream.fill_sphere(x));
        // Of the density ∝ exp(2 x_0), which uniform points are no draws of.
        for (score, x) in score.chunks_exact_mut(d).zip(x.chunks(d)) {
            score.iter_mut().zip(x).for_each(|(s, x_k)| *s = -2.0 * x[0] * x_k);
            score[0] += 2.0;
        }
        (n, x, score)
    }

    #[test]
    fn ascent_stays_in_the_ball_and_comes_near_the_supremum_from_below() {
        let (n, x, score) = problem();
        let (x, score) = (Rows::new(&x, n, 3).unwrap(), Rows::new(&score, n, 3).unwrap());
        let critics = F1Discrepancy::new(1).critics(x, score).unwrap();
        for (i, critic) in critics.iter().enumerate() {
            let mut network = Network::<f64>::new(i, 3, 100, 5, Isa::best()).unwrap();
            let first = network.ascend(x, score, 0).unwrap();
            let last = network.ascend(x, score, 1000).unwrap();
            let norm = 100.0 * f1_norm(&network.energy);
            assert!((norm - 1.0).abs() < 1e-12, "F1 norm {norm}");
            let supremum = critic.response.abs();
            println!("{i}: {first} to {last}, supremum {supremum}");
            assert!(first < 0.5 * last && last > 0.8 * supremum && last < 1.02 * supremum);
        }
    }

    /// Moves outer weights or neurons by a step.
    type Change<'a> = &'a dyn Fn(&mut [f64], &mut [f64], f64);

    #[test]
    fn the_value_is_the_operator_on_the_network_and_steps_go_along_its_gradient() {
        let (n, x, score) = problem();
        let (x, score) = (Rows::new(&x, n, 3).unwrap(), Rows::new(&score, n, 3).unwrap());
        // E[b_i h + (P ∇h)_i] as it is written.
        let operator = |w: &[f64], theta: &[f64], i: usize| {
            let mut sum = 0.0;
            for (x, s) in x.iter().zip(score.iter()) {
                for (w, theta) in w.iter().zip(theta.chunks(3)) {
                    let z = crate::data::dot(theta, x);
                    if z > 0.0 {
                        sum += w * ((s[i] - 2.0 * x[i]) * z + theta[i] - z * x[i]);
                    }
                }
            }
            sum / n as f64
        };
        for i in 0..3 {
            let mut network = Network::<f64>::new(i, 3, 4, 2, Isa::best()).unwrap();
            let (w, theta) =
                (network.energy.w().to_vec(), network.energy.theta().as_slice().to_vec());
            let value = network.ascend(x, score, 0).unwrap();
            assert!((value - operator(&w, &theta, i)).abs() < 1e-12);
            network.ascend(x, score, 1).unwrap();
            // One step of size 1 along differences, and back into the ball.
            let (mut to_w, mut to_theta) = (w.clone(), theta.clone());
            let h = 1e-6;
            let slope = |change: Change<'_>| {
                let at = |step: f64| {
                    let (mut w, mut theta) = (w.clone(), theta.clone());
                    change(&mut w, &mut theta, step);
                    operator(&w, &theta, i)
                };
                (at(h) - at(-h)) / (2.0 * h)
            };
            (0..4).for_each(|l| to_w[l] += slope(&|w, _, step| w[l] += step));
            (0..12).for_each(|k| to_theta[k] += slope(&|_, theta, step| theta[k] += step));
            let norm: f64 = to_w
                .iter()
                .zip(to_theta.chunks(3))
                .map(|(w, theta)| w.abs() * crate::data::dot(theta, theta).sqrt())
                .sum();
            let found = network.energy.w().iter().chain(network.energy.theta().as_slice());
            for (found, expected) in found.zip(to_w.iter().chain(&to_theta)) {
                let expected = expected / norm.sqrt();
                assert!((found - expected).abs() < 1e-7, "{found}, {expected}");
            }
        }
    }
}
