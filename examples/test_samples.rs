//! Tests draws of somebody else's sampler: only the points and the score of the density are needed.
//!
//! `cargo run --release --example test_samples`

use gibbsite::{
    Rows,
    random::Stream,
    stein::{Statistic, SteinKernel, WildBootstrap, ksd_test, median_distance},
};

/// A random-walk Metropolis sampler of p(x) ∝ exp(-x_0²/2 - (x_1 - x_0²)²/2), one chain. Forgetting half of the second term in the test is
/// the kind of mistake that a plot does not show.
fn metropolis(n: usize, mistaken: bool) -> Vec<f64> {
    let factor = if mistaken { 0.25 } else { 0.5 };
    let log_p = |x: [f64; 2]| -0.5 * x[0] * x[0] - factor * (x[1] - x[0] * x[0]).powi(2);
    let mut stream = Stream::new(5, 0);
    let (mut x, mut draws) = ([0.0; 2], Vec::new());
    // Every hundredth state: neighbours are nearly independent.
    for step in 0..100 * n {
        let y = x.map(|x| x + 1.2 * stream.normal());
        if stream.uniform().ln() < log_p(y) - log_p(x) {
            x = y;
        }
        if step % 100 == 99 {
            draws.extend(x);
        }
    }
    draws
}

fn score(x: &[f64]) -> [f64; 2] {
    let off = x[1] - x[0] * x[0];
    [-x[0] + 2.0 * x[0] * off, -off]
}

fn main() -> gibbsite::Result<()> {
    let n = 1000;
    for mistaken in [false, true] {
        let x = metropolis(n, mistaken);
        let s: Vec<f64> = x.chunks(2).flat_map(score).collect();
        let (x, s) = (Rows::new(&x, n, 2)?, Rows::new(&s, n, 2)?);
        let kernel = SteinKernel::imq(median_distance(x)?, -0.5)?;
        // What correlation is left, the bootstrap takes into account: signs flip with this probability from draw to draw.
        let bootstrap = WildBootstrap::new(1000).seed(1).correlated(0.3);
        let test = ksd_test(&kernel, x, s, Statistic::V, &bootstrap)?;
        let name = if mistaken { "with a mistake" } else { "right" };
        println!("sampler {name}: KSD² {:.5}, p-value {:.3}", test.squared, test.p_value);
    }
    Ok(())
}
