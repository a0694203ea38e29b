//! Picks forty of the states of a chain that stand for its target better than forty in regular distances do.
//!
//! `cargo run --release --example thin`

use gibbsite::{
    Energy, Result, Rows, RowsMut,
    sampler::{Sampler, Start},
    stein::{Gram, Statistic, SteinKernel, median_distance},
};

/// A long and narrow Gaussian: U(x) = (x_0 + x_1)²/2 + 10 (x_0 - x_1)².
struct Ridge;

impl Energy<f64> for Ridge {
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
            let (along, across) = (x[0] + x[1], x[0] - x[1]);
            if let Some(potential) = &mut potential {
                potential[i] = 0.5 * along * along + 10.0 * across * across;
            }
            if let Some(score) = &mut score {
                score.row_mut(i).copy_from_slice(&[-along - 20.0 * across, -along + 20.0 * across]);
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    // One chain with a step that is too large to be exact, its transient included: what thinning has to cope with.
    let start = [3.0, 3.0];
    let mut chain =
        Sampler::ula(0.03).seed(1).start(Start::Points(Rows::new(&start, 1, 2)?)).build(&Ridge)?;
    let mut states = Vec::new();
    for _ in 0..4000 {
        chain.run(&Ridge, 1)?;
        states.extend_from_slice(chain.states().as_slice());
    }
    let states = Rows::new(&states, 4000, 2)?;
    let kernel = SteinKernel::imq(median_distance(states)?, -0.5)?;
    let gram = Gram::of_energy(&kernel, &Ridge, states)?;
    let chosen = gram.thin(40, None, &mut |_| {})?.indices;
    let regular: Vec<usize> = (0..40).map(|k| 100 * k + 99).collect();
    for (name, picked) in [("Stein thinning", &chosen), ("every hundredth", &regular)] {
        let points: Vec<f64> = picked.iter().flat_map(|&i| states.row(i)).copied().collect();
        let points = Rows::new(&points, picked.len(), 2)?;
        let ksd = Gram::of_energy(&kernel, &Ridge, points)?.ksd(Statistic::V, &mut |_| {})?;
        println!("{name}: KSD {:.4}", ksd.squared.sqrt());
    }
    Ok(())
}
