//! Samples an energy of your own: a double well in the plane, by Metropolis-adjusted Langevin chains.
//!
//! `cargo run --release --example own_energy`

use gibbsite::{Energy, Result, Rows, RowsMut, sampler::Sampler};

/// U(x) = 2 (x_0² - 1)² + x_1²/2.
struct DoubleWell;

impl Energy<f64> for DoubleWell {
    fn dim(&self) -> usize {
        2
    }

    fn potential_score(
        &self,
        x: Rows<'_, f64>,
        mut potential: Option<&mut [f64]>,
        mut score: Option<RowsMut<'_, f64>>,
    ) -> Result<()> {
        for (i, x) in x.iter().enumerate() {
            let well = x[0] * x[0] - 1.0;
            if let Some(potential) = &mut potential {
                potential[i] = 2.0 * well * well + 0.5 * x[1] * x[1];
            }
            if let Some(score) = &mut score {
                score.row_mut(i).copy_from_slice(&[-8.0 * well * x[0], -x[1]]);
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut chains = Sampler::mala(0.1).chains(2000).seed(42).build(&DoubleWell)?;
    chains.warm_up(&DoubleWell, 200)?;
    let report = chains.run(&DoubleWell, 500)?;
    let right = chains.states().iter().filter(|x| x[0] > 0.0).count();
    let acceptance = report.acceptance.unwrap_or_default();
    println!("step {:.3}, acceptance {acceptance:.3}", chains.step());
    println!("{right} of 2000 chains ended in the right well");
    Ok(())
}
