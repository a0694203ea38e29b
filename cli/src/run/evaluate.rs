//! `gibbsite energy`, `score` and `grad`.

use super::{Context, check_dimension, check_out, load_model, read_points, rows};
use crate::{
    Number,
    args::{EvaluateArgs, GradArgs, Input},
    error::{Error, Result},
    io::{self, Matrix},
    report::shown,
    sphere,
};
use gibbsite::{Domain, ReluEnergy, RowsMut};
use serde::Serialize;
use std::{path::Path, time::Instant};

pub fn energy<T: Number>(args: &EvaluateArgs, context: Context) -> Result<()> {
    let (model, data, mut warnings) = load::<T>(&args.input, &args.out, "npy", context)?;
    warn_off_sphere(&model, &data, &args.input, context, &mut warnings);
    let start = Instant::now();
    let mut energy = vec![T::ZERO; data.rows];
    model.energy(rows(&data)?, &mut energy)?;
    let seconds = start.elapsed().as_secs_f64();
    io::write_npy(&args.out, &[data.rows], &energy)?;
    report("energy", &data, &args.out, seconds, warnings, context)
}

pub fn score<T: Number>(args: &EvaluateArgs, context: Context) -> Result<()> {
    let (model, data, warnings) = load::<T>(&args.input, &args.out, "npy", context)?;
    let start = Instant::now();
    let mut score = vec![T::ZERO; data.data.len()];
    let out = RowsMut::new(&mut score, data.rows, data.cols).map_err(gibbsite::Error::from)?;
    model.score(rows(&data)?, out).map_err(|error| Error::about(shown(&args.input.data), error))?;
    let seconds = start.elapsed().as_secs_f64();
    io::write_npy(&args.out, &[data.rows, data.cols], &score)?;
    report("score", &data, &args.out, seconds, warnings, context)
}

pub fn grad<T: Number>(args: &GradArgs, context: Context) -> Result<()> {
    let (model, data, mut warnings) = load::<T>(&args.input, &args.out, "safetensors", context)?;
    let weights: Option<Vec<T>> = args.weights.as_deref().map(io::read_vector).transpose()?;
    if let (Some(path), Some(weights)) = (&args.weights, &weights)
        && weights.len() != data.rows
    {
        return Err(Error::Usage(format!(
            "{}: {} weights for the {} rows of {}",
            shown(path),
            weights.len(),
            data.rows,
            shown(&args.input.data)
        )));
    }
    warn_off_sphere(&model, &data, &args.input, context, &mut warnings);
    let nan = |x: &T| (*x).into().is_nan();
    let in_data = data.data.iter().position(nan).map(|i| (&args.input.data, i / data.cols));
    let in_weights = weights.as_deref().and_then(|weights| weights.iter().position(nan));
    let in_weights = args.weights.as_ref().zip(in_weights);
    for (file, row) in in_data.into_iter().chain(in_weights) {
        let file = shown(file);
        let text =
            format!("{file}: NaN in row {row}, and so in every gradient, which is a sum over rows");
        context.voice.warn(&mut warnings, text);
    }
    let start = Instant::now();
    let mut grad = model.zero_grad();
    model.param_grad(rows(&data)?, weights.as_deref(), &mut grad)?;
    let seconds = start.elapsed().as_secs_f64();
    let theta = Matrix { data: grad.theta.into(), rows: model.neurons(), cols: model.dim() };
    io::model::write_gradient(&args.out, &grad.w, &theta, grad.bias.as_deref())?;
    report("grad", &data, &args.out, seconds, warnings, context)
}

/// Energies hold for points that a model on the sphere was not made for, but may not be what is meant.
fn warn_off_sphere<T: Number>(
    model: &ReluEnergy<T>,
    data: &Matrix<T>,
    input: &Input,
    context: Context,
    warnings: &mut Vec<String>,
) {
    if model.domain() == Domain::Sphere
        && let Some((row, norm)) = sphere::first_off(data)
    {
        let file = shown(&input.data);
        let text =
            format!("{file}: row {row} has norm {norm}, but the model lives on the unit sphere");
        context.voice.warn(warnings, text);
    }
}

/// Checks the name of the output, then reads the model and the points, perhaps with warnings.
fn load<T: Number>(
    input: &Input,
    out: &Path,
    extension: &str,
    context: Context,
) -> Result<(ReluEnergy<T>, Matrix<T>, Vec<String>)> {
    check_out(out, extension, &[&input.model, &input.data])?;
    let model = load_model(&input.model, context)?;
    let mut warnings = Vec::new();
    let data = read_points(&input.data, context.voice, &mut warnings)?;
    check_dimension((&data, &input.data), (&model, &input.model))?;
    Ok((model, data, warnings))
}

#[derive(Serialize)]
struct Report {
    n: usize,
    d: usize,
    seconds: f64,
    dtype: &'static str,
    isa: &'static str,
    out: String,
    warnings: Vec<String>,
}

fn report<T: Number>(
    what: &str,
    data: &Matrix<T>,
    out: &Path,
    seconds: f64,
    warnings: Vec<String>,
    context: Context,
) -> Result<()> {
    let (n, d, out) = (data.rows, data.cols, shown(out));
    let text = format!("{what} of {n} points in {d} dimensions: {out} ({seconds:.3} s)");
    let (dtype, isa) = (context.dtype, context.isa.name());
    context.voice.result(&Report { n, d, seconds, dtype, isa, out, warnings }, text)
}
