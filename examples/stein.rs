//! Fits a model by the kernel Stein discrepancy, which needs no samples of it, then draws samples and tests them.
//!
//! `cargo run --release --example stein`

use gibbsite::{
    Rows,
    sampler::Sampler,
    stein::{Gram, Statistic, SteinKernel, WildBootstrap},
    teacher::Teacher,
    train::{Estimator, TrainOptions, fit},
};

fn main() -> gibbsite::Result<()> {
    // Stand-ins for data of your own: n×d, row-major, every row of norm 1.
    let (n, d) = (1000, 8);
    let source = Teacher::<f64>::named("j1w10", d, 1)?;
    let (train, validation) = (source.sample(n, 1, 0)?, source.sample(n, 1, 1)?);

    let options = TrainOptions {
        estimator: Estimator::Ksd { bandwidth: None, statistic: Statistic::V },
        neurons: 200,
        iterations: 300,
        patience: Some(100),
        ..TrainOptions::default()
    };
    let (train, validation) = (Rows::new(&train, n, d)?, Rows::new(&validation, n, d)?);
    let trained = fit(train, validation, &options, |record, _model| {
        if record.iteration % 50 == 0 {
            println!(
                "{:4}  KSD² on validation data {:.4}",
                record.iteration, record.validation_loss
            );
        }
        Ok(())
    })?;

    // Draws of the model, tuned Metropolis-adjusted Langevin steps.
    let mut chains = Sampler::mala(0.1).chains(500).seed(2).build(&trained.model)?;
    chains.warm_up(&trained.model, 300)?;
    chains.run(&trained.model, 300)?;

    // Are they draws of the model? And is the data?
    let kernel = SteinKernel::imq(1.0, -0.5)?.on_sphere();
    for (name, points) in [("draws", chains.states()), ("validation data", validation)] {
        let gram = Gram::of_energy(&kernel, &trained.model, points)?;
        let bootstrap = WildBootstrap::new(1000).seed(3);
        let test = gram.test(Statistic::U, &bootstrap, &mut |_| {})?;
        println!("{name}: KSD² {:.5}, p-value {:.3}", test.squared, test.p_value);
    }
    Ok(())
}
