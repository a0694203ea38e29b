//! The kernels alone, without threads or allocation: energies and scores of a batch, then Langevin steps in place.
//!
//! `cargo run --release -p gibbsite-kernels --example kernels`

use gibbsite_kernels::{
    Isa, Rows, RowsMut, Scratch, ShapeError,
    chain::{self, Chains, ReluTarget, Rule, Space},
    noise::{self, Streams},
    relu::{self, Panel},
};

fn main() -> Result<(), ShapeError> {
    // f(x) = (1/m) Σ_j w_j max(θ_j·x, 0) of m = 64 random neurons in d = 8 dimensions.
    let (n, m, d) = (1000, 64, 8);
    let isa = Isa::best();
    let mut theta = vec![0.0_f64; m * d];
    noise::normals(isa, &mut Streams::range(1, 0, m), RowsMut::new(&mut theta, m, d)?);
    let w: Vec<f64> = (0..m).map(|j| if j % 2 == 0 { 2.0 } else { -1.0 }).collect();
    // Packed once; everything after works in memory of yours.
    let panel = Panel::neurons(isa, Rows::new(&theta, m, d)?, None, &w)?;
    let mut scratch = Scratch::default();

    let mut streams = Streams::range(1, 1 << 32, n);
    let (mut x, mut score) = (vec![0.0; n * d], vec![0.0; n * d]);
    let (mut energy, mut potential) = (vec![0.0; n], vec![0.0; n]);
    let (mut velocity, mut log_ratio, mut accepted) =
        (vec![0.0; n * d], vec![0.0; n], vec![0.0; n]);
    noise::normals(isa, &mut streams, RowsMut::new(&mut x, n, d)?);
    relu::energy(&panel, Rows::new(&x, n, d)?, &mut energy, &mut scratch);
    println!("{isa}: mean energy of draws of the base {:.4}", mean(&energy));

    // With a Gaussian base of scale 1, U(x) = f(x) + |x|²/2 and s(x) = -∇f(x) - x.
    let target = ReluTarget { panel: &panel, beta: 1.0, precision: Some(1.0), space: Space::Flat };
    let out = Some(RowsMut::new(&mut score, n, d)?);
    chain::relu_target(target, Rows::new(&x, n, d)?, Some(&mut potential), out, &mut scratch);
    let rule = Rule::Unadjusted { step: (2.0_f64 * 0.05).sqrt(), noise: 1.0, bounds: None };
    let chains = Chains {
        x: RowsMut::new(&mut x, n, d)?,
        score: RowsMut::new(&mut score, n, d)?,
        velocity: RowsMut::new(&mut velocity, n, d)?,
        potential: &mut potential,
        log_ratio: &mut log_ratio,
        accepted: &mut accepted,
        streams: &mut streams,
    };
    chain::relu_steps(target, rule, &vec![1.0; d], 500, chains, &mut scratch);
    relu::energy(&panel, Rows::new(&x, n, d)?, &mut energy, &mut scratch);
    println!("mean energy after 500 Langevin steps {:.4}", mean(&energy));
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
