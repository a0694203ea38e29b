//! Trains a model on points of the sphere and draws from it.
//!
//! `cargo run --release --example train`

use gibbsite::{
    Rows, normaliser,
    teacher::Teacher,
    train::{TrainOptions, cross_entropy, fit},
};

fn main() -> gibbsite::Result<()> {
    // Stand-ins for data of your own: n×d, row-major, every row of norm 1.
    let (n, d) = (1000, 8);
    let source = Teacher::<f64>::named("j1w10", d, 1)?;
    let (train, validation, test) =
        (source.sample(n, 1, 0)?, source.sample(n, 1, 1)?, source.sample(n, 1, 2)?);

    let options = TrainOptions { neurons: 200, iterations: 200, ..TrainOptions::default() };
    let trained = fit(
        Rows::new(&train, n, d)?,
        Rows::new(&validation, n, d)?,
        &options,
        |record, _model| {
            if record.iteration % 50 == 0 {
                println!(
                    "{:4}  validation cross-entropy {:.4} nats",
                    record.iteration, record.validation_cross_entropy
                );
            }
            Ok(())
        },
    )?;

    let log_z = normaliser::log_z(&trained.model, 1)?;
    println!(
        "kept iterate {}; log Z = {:.4} ± {:.4}, test cross-entropy {:.4} nats",
        trained.best.iteration,
        log_z.value,
        log_z.std_error,
        cross_entropy(&trained.model, Rows::new(&test, n, d)?, &log_z)?,
    );
    println!("a draw from the model: {:.3?}", log_z.resample(1, 7)?);
    Ok(())
}
