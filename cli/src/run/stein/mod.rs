//! `gibbsite gram`, `ksd` and `thin`.

mod gram;
mod ksd;
mod thin;

pub use gram::gram;
pub use ksd::ksd;
pub use thin::thin;

use super::{
    Context, check_dimension, check_file, in_directory, load_model, read_points, remove, rows,
};
use crate::{
    Number,
    args::{Bandwidth, KernelArgs, KernelName, SteinInput},
    error::{Error, Result},
    io::{self, Matrix},
    plot::{BLUE, Curve, Plot, UPPER_RIGHT},
    progress::Progress,
    report::{Voice, shown},
};
use gibbsite::{
    Domain, ReluEnergy, Rows,
    stein::{Gram, SteinKernel, median_distance},
};
use serde::Serialize;
use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

/// Points of a curve or a cloud in a plot, at most.
const PLOTTED: usize = 2_000;

/// Points with scores and a kernel, checked.
struct Problem<T: Number> {
    data: Matrix<T>,
    gram: Gram<T>,
    kernel: Kernel,
    names: Names,
    warnings: Vec<String>,
}

/// What is known of the density.
enum Density<T: Number> {
    Scores(Matrix<T>),
    Model(ReluEnergy<T>),
}

/// What was said about the kernel.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    name: KernelName,
    bandwidth: Option<f64>,
    median: bool,
    exponent: Option<f64>,
    domain: Domain,
}

/// What all three commands report.
#[derive(Serialize)]
struct Common {
    n: usize,
    d: usize,
    kernel: &'static str,
    bandwidth: Option<f64>,
    exponent: Option<f64>,
    domain: String,
    seconds: f64,
    threads: usize,
    dtype: &'static str,
    isa: &'static str,
    warnings: Vec<String>,
}

/// Names for errors.
struct Names {
    data: String,
    scores: String,
}

impl<T: Number> Problem<T> {
    fn new(input: &SteinInput, args: &KernelArgs, context: Context) -> Result<Self> {
        check_flags(args)?;
        let mut warnings = Vec::new();
        let (data, density, domain) = load::<T>(input, args.domain, context, &mut warnings)?;
        let names = Names { data: shown(&input.data), scores: shown(source(input)) };
        let x = rows(&data)?;
        let (kernel, stein) = to_kernel(args, x, domain, &names)?;
        let gram = match &density {
            Density::Scores(scores) => Gram::new(&stein, x, rows(scores)?),
            Density::Model(model) => Gram::of_energy(&stein, model, x),
        };
        let gram = gram.map_err(|error| names.about(error))?.with_isa(context.isa);
        Ok(Self { data, gram, kernel, names, warnings })
    }

    fn common(&self, context: Context, start: Instant) -> Common {
        let Self { gram, kernel, .. } = self;
        Common {
            n: gram.points(),
            d: gram.dim(),
            kernel: kernel.name.name(),
            bandwidth: kernel.bandwidth,
            exponent: kernel.exponent,
            domain: kernel.domain.to_string(),
            seconds: start.elapsed().as_secs_f64(),
            threads: context.threads,
            dtype: context.dtype,
            isa: context.isa.name(),
            warnings: self.warnings.clone(),
        }
    }

    fn size(&self) -> String {
        format!("{} in {} dimensions", self.data.rows, self.data.cols)
    }
}

impl Names {
    /// An error of the library, put down to what the user can change.
    fn about(&self, error: gibbsite::Error) -> Error {
        let Self { data, scores } = self;
        match &error {
            gibbsite::Error::Parameter { what: "bandwidth", .. } => {
                Error::about("--bandwidth", error)
            }
            gibbsite::Error::Parameter { what: "exponent", .. } => {
                Error::about("--exponent", error)
            }
            gibbsite::Error::Parameter { what: "bootstrap draws", .. }
            | gibbsite::Error::Memory { what: "number of bootstrap draws", .. } => {
                Error::about("--bootstrap", error)
            }
            gibbsite::Error::Parameter { what: "number of points", .. } => {
                Error::about("--statistic u", error)
            }
            gibbsite::Error::NonFinite { what: "the points", .. }
            | gibbsite::Error::OffSphere { .. } => Error::about(data, error),
            gibbsite::Error::NonFinite { what: "the scores", .. }
            | gibbsite::Error::NotTangential { .. } => Error::about(scores, error),
            _ => Error::about(format_args!("{data} and {scores}"), error),
        }
    }
}

/// The file that scores come from.
fn source(input: &SteinInput) -> &Path {
    let density = &input.density;
    density.scores.as_deref().or(density.model.as_deref()).expect("required by the command line")
}

fn check_flags(args: &KernelArgs) -> Result<()> {
    let name = args.kernel.name();
    // Saying the default does no harm.
    let has_bandwidth = !matches!(args.kernel, KernelName::Linear | KernelName::Arccos);
    if matches!(args.bandwidth, Some(Bandwidth::Number(_))) && !has_bandwidth {
        return Err(Error::Usage(format!("--bandwidth: --kernel {name} has none")));
    }
    let has_exponent = matches!(args.kernel, KernelName::Imq | KernelName::ImqLinear);
    if args.exponent.is_some_and(|exponent| exponent != EXPONENT) && !has_exponent {
        return Err(Error::Usage(format!(
            "--exponent: --kernel {name} has none (imq and imq+linear have)"
        )));
    }
    Ok(())
}

/// That of imq, if none is given.
const EXPONENT: f64 = -0.5;

/// Reads points, their density and where they live; shapes fit.
fn load<T: Number>(
    input: &SteinInput,
    asked: Option<Domain>,
    context: Context,
    warnings: &mut Vec<String>,
) -> Result<(Matrix<T>, Density<T>, Domain)> {
    let mut read = |path: &Path| read_points::<T>(path, context.voice, warnings);
    if let Some(path) = &input.density.scores {
        let data = read(&input.data)?;
        let scores = read(path)?;
        if (scores.rows, scores.cols) != (data.rows, data.cols) {
            return Err(Error::Usage(format!(
                "{}: scores of shape {} x {} for points of shape {} x {} in {}",
                shown(path),
                scores.rows,
                scores.cols,
                data.rows,
                data.cols,
                shown(&input.data)
            )));
        }
        return Ok((data, Density::Scores(scores), asked.unwrap_or(Domain::Euclidean)));
    }
    let path = source(input);
    let model = load_model::<T>(path, context)?;
    let domain = model.domain();
    if let Some(asked) = asked
        && asked != domain
    {
        return Err(Error::Usage(format!(
            "--domain {asked}: the domain of the model in {} is {domain}",
            shown(path)
        )));
    }
    let data = read(&input.data)?;
    check_dimension((&data, &input.data), (&model, path))?;
    Ok((data, Density::Model(model), domain))
}

fn to_kernel<T: Number>(
    args: &KernelArgs,
    x: Rows<'_, T>,
    domain: Domain,
    names: &Names,
) -> Result<(Kernel, SteinKernel)> {
    let mut kernel =
        Kernel { name: args.kernel, bandwidth: None, median: false, exponent: None, domain };
    let mut bandwidth = || {
        let bandwidth = match args.bandwidth.unwrap_or(Bandwidth::Median) {
            Bandwidth::Number(bandwidth) => bandwidth,
            Bandwidth::Median => {
                kernel.median = true;
                median_distance(x).map_err(|error| match error {
                    gibbsite::Error::NonFinite { .. } => names.about(error),
                    error => Error::about("--bandwidth median", error),
                })?
            }
        };
        kernel.bandwidth = Some(bandwidth);
        Ok::<_, Error>(bandwidth)
    };
    let exponent = args.exponent.unwrap_or(EXPONENT);
    let about = |error| names.about(error);
    let stein = match args.kernel {
        KernelName::Linear => SteinKernel::linear(),
        KernelName::Rbf => SteinKernel::rbf(bandwidth()?).map_err(about)?,
        KernelName::Imq => SteinKernel::imq(bandwidth()?, exponent).map_err(about)?,
        KernelName::ImqLinear => {
            let imq = SteinKernel::imq(bandwidth()?, exponent);
            imq.and_then(SteinKernel::plus_linear).map_err(about)?
        }
        KernelName::Arccos => SteinKernel::arc_cosine(),
    };
    if matches!(args.kernel, KernelName::Imq | KernelName::ImqLinear) {
        kernel.exponent = Some(exponent);
    }
    let stein = if domain == Domain::Sphere { stein.on_sphere() } else { stein };
    Ok((kernel, stein))
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.name())?;
        if let Some(bandwidth) = self.bandwidth {
            let median = if self.median { " (median distance)" } else { "" };
            write!(f, ", bandwidth {bandwidth:.4}{median}")?;
        }
        if let Some(exponent) = self.exponent {
            write!(f, ", exponent {exponent}")?;
        }
        if self.domain == Domain::Sphere {
            write!(f, ", on the sphere")?;
        }
        Ok(())
    }
}

/// Calls `work` with a function to tell the share that is done, which is shown if it takes long.
fn with_progress<R>(voice: Voice, what: &str, work: impl FnOnce(&mut dyn FnMut(f64)) -> R) -> R {
    const SOON: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let mut progress: Option<Progress> = None;
    work(&mut |share| {
        if progress.is_some() || (start.elapsed() > SOON && share < 1.0) {
            let progress = progress.get_or_insert_with(|| Progress::new(100, voice));
            progress.show((100.0 * share) as usize, || format!("% of {what}"));
        }
    })
}

/// KSD of first points against their number.
fn trace_plot(title: String, label: &str, trace: &[f64]) -> Plot {
    Plot {
        title,
        x_label: "number of points",
        y_label: "KSD",
        curves: vec![Curve {
            label: label.to_owned(),
            color: BLUE,
            points: thinned_out(trace.len()).map(|i| ((i + 1) as f64, trace[i])).collect(),
            bars: Vec::new(),
        }],
        level: None,
        mark: None,
        log: true,
        log_x: true,
        legend: UPPER_RIGHT,
    }
}

/// Places to draw on a logarithmic axis.
fn thinned_out(len: usize) -> impl Iterator<Item = usize> {
    let ratio = (len as f64).ln() / PLOTTED as f64;
    let mut next = 0;
    (0..len).filter(move |&i| {
        let drawn = i == next || i + 1 == len;
        if drawn {
            next = (i + 1).max(((i + 1) as f64 * ratio.exp()).ceil() as usize - 1);
        }
        drawn
    })
}

/// Calls `work` with the directory of `--plots`, which is made if it is missing, and takes plots of these names.
fn with_plots<R>(
    directory: Option<&Path>,
    names: &[&str],
    work: impl FnOnce(Option<&Path>) -> Result<R>,
) -> Result<R> {
    match directory {
        None => work(None),
        Some(path) => in_directory("--plots", path, || {
            names.iter().try_for_each(|name| check_file("--plots", &path.join(name), "svg"))?;
            work(directory)
        }),
    }
}

/// Writes plots to a directory, and removes those that the command can write but did not draw this
/// time; the files' names as they are shown.
fn write_plots(
    directory: &Path,
    plots: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for (name, svg) in plots {
        let path = directory.join(name);
        match svg {
            Some(svg) => {
                io::write_atomic(&path, |out| out.write_all(svg.as_bytes()))?;
                files.push(shown(&path));
            }
            None => remove(&path)?,
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_thinned_out_for_plots() {
        assert!(thinned_out(50).eq(0..50));
        assert!(thinned_out(1).eq(0..1));
        let places: Vec<usize> = thinned_out(1_000_000).collect();
        assert!(places.len() <= 2 * PLOTTED && places.len() > PLOTTED / 2, "{}", places.len());
        assert_eq!((places[0], *places.last().unwrap()), (0, 999_999));
        assert!(places.is_sorted_by(|a, b| a < b));
    }
}
