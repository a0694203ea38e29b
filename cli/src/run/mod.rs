//! The commands.

mod bench;
mod evaluate;
mod info;
mod random;
mod reproduce;
mod sample;
mod stein;
mod sweep;
mod train;

use crate::{
    Number,
    args::{self, Cli, Command, Dtype, Global},
    error::{Error, Result},
    from_f64,
    io::{self, Matrix, model::ModelFile},
    report::{Voice, shown},
};
use clap::{Parser, error::ErrorKind};
use gibbsite::{Backend, BuildInfo, Domain, Isa, ReluEnergy, Rows};
use std::{
    env, fs, io::Write as _, iter, num::NonZeroUsize, panic, path::Path, process::ExitCode, thread,
};

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    // A panic is a bug; it too must end with the documented status.
    panic::catch_unwind(|| match parse().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The status must not depend on whether stderr takes the line.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            error.exit_code()
        }
    })
    .unwrap_or(ExitCode::FAILURE)
}

/// The arguments. Help and version go straight to stdout.
fn parse() -> Result<Cli> {
    let error = match Cli::try_parse() {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.exit();
    }
    // The first paragraph says what is wrong; usage and tips are a --help away.
    let text = error.render().to_string();
    let words = text.lines().take_while(|line| !line.is_empty()).flat_map(str::split_whitespace);
    let line = words.collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    Err(Error::Usage(format!("{line} (see --help)")))
}

/// What the global flags say.
#[derive(Clone, Copy, Debug)]
struct Context {
    seed: u64,
    threads: usize,
    dtype: &'static str,
    dtype_given: bool,
    isa: Isa,
    backend: Backend,
    voice: Voice,
}

impl Context {
    fn new(global: &Global) -> Result<Self> {
        let threads = global.threads.map_or_else(
            || thread::available_parallelism().map_or(1, NonZeroUsize::get),
            usize::from,
        );
        Ok(Self {
            seed: global.seed,
            threads,
            dtype: match global.dtype.unwrap_or_default() {
                Dtype::F32 => "f32",
                Dtype::F64 => "f64",
            },
            dtype_given: global.dtype.is_some(),
            isa: choose_isa(&global.isa)?,
            backend: match global.backend {
                args::Backend::Auto => Backend::Auto,
                args::Backend::Fused => Backend::Fused,
                args::Backend::Faer => Backend::Faer,
                #[cfg(feature = "blas")]
                args::Backend::Blas => Backend::Blas,
                #[cfg(not(feature = "blas"))]
                args::Backend::Blas => {
                    return Err(Error::Usage(
                        "--backend blas: built without BLAS: build with --features blas".into(),
                    ));
                }
            },
            voice: Voice { quiet: global.quiet, json: global.json },
        })
    }
}

/// The BLAS library that is linked: its name, and what it calls itself if it tells.
fn blas() -> Option<String> {
    let build = BuildInfo::CURRENT;
    let name = build.blas?;
    Some(build.blas_version().map_or(name.to_owned(), |version| format!("{name} ({version})")))
}

/// The environment variable that caps instruction sets.
const ISA_CAP: &str = "GIBBSITE_ISA";

/// Its value, if it is set to something.
fn isa_cap() -> Result<Option<Isa>> {
    let Some(name) = env::var_os(ISA_CAP).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let name = name.to_string_lossy();
    name.parse().map(Some).map_err(|error| Error::Usage(format!("{ISA_CAP}: {error}")))
}

/// The levels that `--isa` may name here, highest first.
fn usable_isas() -> impl Iterator<Item = Isa> {
    Isa::available().filter(|&isa| isa <= Isa::best())
}

fn choose_isa(name: &str) -> Result<Isa> {
    let cap = isa_cap()?;
    if name == "auto" {
        return Ok(Isa::best());
    }
    usable_isas().find(|isa| isa.name() == name).ok_or_else(|| {
        let usable: Vec<_> = usable_isas().map(Isa::name).collect();
        let cap = cap.map_or(String::new(), |cap| format!(" under {ISA_CAP}={cap}"));
        Error::Usage(format!(
            "--isa {name}: not available here{cap} (available: {})",
            usable.join(", ")
        ))
    })
}

fn run(cli: Cli) -> Result<()> {
    let mut context = Context::new(&cli.global)?;
    if let (args::Backend::Blas, Some(blas)) = (cli.global.backend, blas()) {
        context.voice.message(format_args!("backend blas: {blas}"));
    }
    let pool = as_many_threads_as_start(context)?;
    context.threads = pool.current_num_threads();
    pool.install(|| match cli.global.dtype.unwrap_or_default() {
        Dtype::F32 => command::<f32>(&cli.command, context),
        Dtype::F64 => command::<f64>(&cli.command, context),
    })
}

fn thread_pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::System(format!("cannot start {threads} threads: {error}")))
}

/// Threads for the command, fewer with a warning where the host does not allow so many: results do not
/// depend on how many there are.
fn as_many_threads_as_start(context: Context) -> Result<rayon::ThreadPool> {
    let Context { threads, voice, .. } = context;
    let halves = iter::successors(Some(threads), |threads| Some(threads / 2));
    let pool = match halves.take_while(|&n| n > 1).find_map(|n| thread_pool(n).ok()) {
        Some(pool) => pool,
        // Which starts none.
        None => {
            rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().map_err(
                |error| Error::System(format!("cannot start a pool of threads: {error}")),
            )?
        }
    };
    let started = pool.current_num_threads();
    if started < threads {
        voice.warning(format_args!("cannot start {threads} threads: going on with {started}"));
    }
    Ok(pool)
}

fn command<T: Number>(command: &Command, context: Context) -> Result<()> {
    match command {
        Command::Train(args) => train::run::<T>(args, context),
        Command::Energy(args) => evaluate::energy::<T>(args, context),
        Command::Score(args) => evaluate::score::<T>(args, context),
        Command::Grad(args) => evaluate::grad::<T>(args, context),
        Command::Sample(args) => sample::run::<T>(args, context),
        Command::Gram(args) => stein::gram::<T>(args, context),
        Command::Ksd(args) => stein::ksd::<T>(args, context),
        Command::Thin(args) => stein::thin::<T>(args, context),
        Command::Reproduce(args) => reproduce::run::<T>(args, context),
        Command::Random(args) => random::run::<T>(args, context),
        Command::Bench(args) if args.sweep => sweep::sweep::<T>(args.quick, context),
        Command::Bench(args) => bench::run(args, context),
        Command::Info => info::run(context),
    }
}

/// Makes sure that files can be made in a directory before work starts whose results go there.
fn check_directory(flag: &str, directory: &Path) -> Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    tempfile::tempfile_in(directory).map(drop).map_err(|error| {
        let reason = match directory.is_dir() {
            true => error.to_string(),
            false => "no such directory".to_owned(),
        };
        Error::Usage(format!("{flag}: cannot write to {}: {reason}", shown(directory)))
    })
}

/// Does what writes to a directory, which is made if it is missing. If the work fails, directories
/// that were made for it are removed.
fn in_directory<R>(flag: &str, directory: &Path, work: impl FnOnce() -> Result<R>) -> Result<R> {
    let made: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
    let make = fs::create_dir_all(directory).map_err(|error| {
        Error::Usage(format!("{flag} {}: cannot make the directory: {error}", shown(directory)))
    });
    let outcome = make.and_then(|()| check_directory(flag, directory)).and_then(|()| work());
    if outcome.is_err() {
        for directory in made {
            // Only if it is empty, and it is no loss if that fails.
            let _ = fs::remove_dir(directory);
        }
    }
    outcome
}

/// Checks the name of the file of `--out`, which must not be one that is read: a slip would cost data.
fn check_out(out: &Path, extension: &str, inputs: &[&Path]) -> Result<()> {
    check_file("--out", out, extension)?;
    check_spared("--out", out, inputs)
}

/// Checks that a file that is written is none of those that are read.
fn check_spared(flag: &str, out: &Path, inputs: &[&Path]) -> Result<()> {
    if let Ok(file) = fs::canonicalize(out)
        && inputs.iter().any(|input| fs::canonicalize(input).is_ok_and(|input| input == file))
    {
        let out = shown(out);
        return Err(Error::Usage(format!("{flag} {out}: would replace what is read from there")));
    }
    Ok(())
}

/// Checks the name of a file to be written.
fn check_file(flag: &str, out: &Path, extension: &str) -> Result<()> {
    if out.is_dir() {
        return Err(Error::Usage(format!(
            "{flag} {}: there is a directory of this name",
            shown(out)
        )));
    }
    if out.extension().is_none_or(|found| found != extension) {
        return Err(Error::Usage(format!(
            "{flag} {}: expected the name of a file that ends in .{extension}",
            shown(out)
        )));
    }
    io::check_writable(out).or_else(|error| {
        check_directory(flag, out.parent().unwrap_or(Path::new("")))?;
        Err(Error::Usage(format!("{flag} {error}")))
    })
}

/// Removes a file that an earlier run with the same output may have left, if it is there.
fn remove(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    fs::remove_file(path)
        .map_err(|error| Error::System(format!("{}: cannot be removed: {error}", shown(path))))
}

/// Room for as many numbers as flags ask for.
fn reserve<T>(flag: &str, count: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    match room.try_reserve_exact(count) {
        Ok(()) => Ok(room),
        Err(_) => Err(Error::Usage(format!("{flag}: not enough memory for {count} numbers"))),
    }
}

/// Reads points. What looks like a header that numbers the columns or a column that numbers the rows, as some
/// programs write without being asked, is taken for numbers, with a warning.
fn read_points<T: Number>(
    path: &Path,
    voice: Voice,
    warnings: &mut Vec<String>,
) -> Result<Matrix<T>> {
    let points: Matrix<T> = io::read_matrix(path)?;
    let csv = path.extension().is_some_and(|found| found.eq_ignore_ascii_case("csv"));
    if !csv || points.cols == 1 {
        return Ok(points);
    }
    let (file, last) = (shown(path), points.cols - 1);
    if counts(0, points.data.iter().take(points.cols)) {
        let text = format!(
            "{file}: the first line, 0 to {last}, is taken as a point; remove it if it is a header"
        );
        voice.warn(warnings, text);
    }
    let column = || points.data.iter().step_by(points.cols);
    if points.rows > 2 && (counts(0, column()) || counts(1, column())) {
        let text = format!(
            "{file}: the first column, which numbers the rows, is taken as a coordinate; remove it if it is none"
        );
        voice.warn(warnings, text);
    }
    Ok(points)
}

/// Whether values are `from` and the numbers after it.
fn counts<'a, T: Number>(from: usize, mut values: impl Iterator<Item = &'a T>) -> bool {
    (from..).zip(values.by_ref()).all(|(k, &x)| x.into() == k as f64)
}

/// A matrix as the library sees it.
fn rows<T: Number>(x: &Matrix<T>) -> Result<Rows<'_, T>> {
    Ok(Rows::new(&x.data, x.rows, x.cols).map_err(gibbsite::Error::from)?)
}

/// Checks that points fit a model.
fn check_dimension<T: Number>(
    (data, data_path): (&Matrix<T>, &Path),
    (model, model_path): (&ReluEnergy<T>, &Path),
) -> Result<()> {
    if data.cols != model.dim() {
        return Err(Error::Usage(format!(
            "{}: rows of {} numbers, but the model in {} has dimension {}",
            shown(data_path),
            data.cols,
            shown(model_path),
            model.dim()
        )));
    }
    Ok(())
}

fn load_model<T: Number>(path: &Path, context: Context) -> Result<ReluEnergy<T>> {
    to_model(io::model::read_model(path)?, context)
        .map_err(|error| Error::about(shown(path), error))
}

fn to_model<T: Number>(file: ModelFile<T>, context: Context) -> gibbsite::Result<ReluEnergy<T>> {
    let ModelFile { theta, w, b, domain, base_scale, beta } = file;
    let domain = match domain {
        io::model::Domain::Sphere => Domain::Sphere,
        io::model::Domain::Euclidean => Domain::Euclidean,
    };
    let mut model = ReluEnergy::new(Rows::new(&theta.data, theta.rows, theta.cols)?, &w)?
        .with_beta(from_f64(beta))?
        .with_isa(context.isa)
        .with_backend(context.backend);
    if let Some(b) = b {
        model = model.with_bias(&b)?;
    }
    if let Some(scale) = base_scale {
        model = model.with_base_scale(from_f64(scale))?;
    }
    model.with_domain(domain)
}
