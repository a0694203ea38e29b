//! `gibbsite sample`.

use super::{Context, check_file, check_out, load_model, read_points, remove, reserve, rows};
use crate::{
    Number,
    args::{MAX_COUNT, SampleArgs, SamplerName},
    error::{Error, Result},
    io::{self, Matrix},
    plot::{BLUE, Curve, GREEN, ORANGE, PURPLE, Plot, UPPER_RIGHT},
    progress::Progress,
    report::{Facts, shown},
};
use gibbsite::{
    Domain, Energy, ReluEnergy, Rows,
    diagnostics::{Draws, RunningDiagnostics},
    sampler::{Chains, IndependenceMetropolis, Sampler, Start},
};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Instant,
};

/// Chains that diagnostics look at: their memory grows with the number of chains.
const DIAGNOSED: usize = 1024;
/// Chains whose potential is kept for the plots, and how many of its values at most.
const TRACED: usize = 64;
const TRACE_LENGTH: usize = 5_000;
/// Chains in the plot of traces, by colour.
const COLORS: [plotters::style::RGBColor; 4] = [BLUE, ORANGE, GREEN, PURPLE];
/// Endings of the plots beside the draws.
const TRACE: &str = "trace.svg";
const AUTOCORRELATION: &str = "acf.svg";
/// R-hat above which chains have not mixed (Vehtari et al. 2021).
const LARGEST_R_HAT: f64 = 1.01;
/// Autocorrelation time less its inverse, in batches of the ESS, above which the ESS is not to be relied on: of
/// a chain whose correlations die out at one rate, batch means miss half this share.
const LONGEST_TIME: f64 = 0.25;

pub fn run<T: Number>(args: &SampleArgs, context: Context) -> Result<()> {
    let start = Instant::now();
    check_flags(args)?;
    // The states that a run starts from may well become those that it ends with.
    check_out(&args.out, "npy", &[])?;
    if !args.no_plots {
        for ending in [TRACE, AUTOCORRELATION] {
            check_file("--out: plot", &beside(&args.out, ending), "svg")?;
        }
    }
    let model = load_model::<T>(&args.model, context)?;
    let mut warnings = Vec::new();
    let init =
        args.init.as_deref().map(|path| read_points::<T>(path, context.voice, &mut warnings));
    let init = init.transpose()?;
    let chains = match (args.chains, &init) {
        (Some(chains), _) => chains,
        (None, Some(init)) => init.rows,
        (None, None) => 1000,
    };
    let d = model.dim();
    let draws = args.steps / args.thin;
    let kept = if args.trajectory { draws } else { 1 };
    check_size(chains, d, kept)?;

    // Before the work, which would be lost if memory is refused.
    let all = if args.trajectory { kept * chains * d } else { 0 };
    let mut trajectory = reserve("--trajectory", all)?;
    let mut walk = Walk::new(args, &model, chains, init.as_ref(), context.seed)?;
    if model.domain() == Domain::Euclidean && model.base_scale().is_none() {
        let text = format!(
            "{}: no base measure in R^d: the density may have no normalising constant, and then \
             there is nothing to draw from",
            shown(&args.model)
        );
        context.voice.warn(&mut warnings, text);
    }
    let warm_up = args.warm_up.unwrap_or(args.steps.min(1000));
    let mut progress = Progress::new(draws, context.voice);
    progress.hint(format_args!("warming up: {warm_up} moves of {chains} chains"));
    let failed = |error| about(args, error);
    walk.warm_up(&model, warm_up, args.step.is_none()).map_err(failed)?;

    let mut monitor = Monitor::new(chains, d, draws)?;
    walk.sample(&model, draws, args.thin, |draw| {
        monitor.add(&draw)?;
        if args.trajectory {
            trajectory.extend_from_slice(draw.states.as_slice());
        }
        progress.show(draw.index + 1, || describe(&draw, &monitor));
        Ok(())
    })
    .map_err(failed)?;
    // What does not make a whole draw is moved all the same.
    walk.run(&model, args.steps % args.thin).map_err(failed)?;
    drop(progress);

    let seconds = start.elapsed().as_secs_f64();
    let plots = if args.no_plots { Vec::new() } else { monitor.plots(args) };
    let mut shape = vec![chains, d];
    let data = if args.trajectory {
        shape.insert(0, draws);
        &trajectory[..]
    } else {
        walk.states().as_slice()
    };
    let mut files = vec![shown(&args.out)];
    io::write_npy(&args.out, &shape, data)?;
    // What this run may not draw must not stay from an earlier one.
    for ending in [TRACE, AUTOCORRELATION] {
        remove(&beside(&args.out, ending))?;
    }
    for (path, svg) in plots {
        io::write_atomic(&path, |out| out.write_all(svg.as_bytes()))?;
        files.push(shown(&path));
    }
    let mut summary = Summary {
        sampler: args.sampler.name(),
        chains,
        steps: args.steps,
        warm_up,
        thin: args.thin,
        draws,
        d,
        acceptance: monitor.acceptance,
        step: walk.step(),
        ess_min: monitor.ess_min(),
        rhat_max: monitor.r_hat_max(),
        energy_mean: monitor.energy_mean(),
        energy_rhat: None,
        energy_ess: None,
        seconds,
        seed: context.seed,
        threads: context.threads,
        dtype: context.dtype,
        isa: context.isa.name(),
        warnings,
        files,
    };
    if let Ok(draws) = Draws::new(&monitor.trace) {
        let of_all = chains as f64 / monitor.trace.len() as f64;
        let (r_hat, ess) = (draws.r_hat(), draws.ess_bulk() * of_all);
        summary.energy_rhat = r_hat.is_finite().then_some(r_hat);
        summary.energy_ess = ess.is_finite().then_some(ess);
    }
    for text in doubts(&summary, monitor.run_away(), monitor.running.batch_length()) {
        context.voice.warn(&mut summary.warnings, text);
    }
    context.voice.result(&summary, &summary)
}

/// Why the draws are not to be believed as they are.
fn doubts(summary: &Summary, run_away: bool, batch_length: u64) -> Vec<String> {
    let mut doubts = Vec::new();
    if run_away {
        doubts.push(
            "the chains run away: --step is too large, or the density has no normalising constant"
                .to_owned(),
        );
    } else if summary.rhat_max.is_none() {
        let draws = summary.draws;
        doubts.push(if draws < 8 {
            format!("{draws} draws are too few to judge them")
        } else {
            // uniform-mh has no step.
            let other = if summary.step.is_some() { "--step" } else { "--sampler" };
            format!("the chains stay where they are, so there is no R-hat: take another {other}")
        });
    }
    for (of, r_hat) in [("", summary.rhat_max), (" of the potential", summary.energy_rhat)] {
        if let Some(r_hat) = r_hat
            && r_hat > LARGEST_R_HAT
        {
            doubts.push(format!(
                "R-hat{of} is {r_hat:.3}, above {LARGEST_R_HAT}: the chains have not mixed; take more --steps"
            ));
        }
    }
    if let Some(ess) = summary.ess_min {
        let time = (summary.draws * summary.chains) as f64 / ess;
        if time - 1.0 / time > LONGEST_TIME * batch_length as f64 {
            doubts.push(format!(
                "the ESS is too large an estimate: an autocorrelation time of {time:.1} draws or more is \
                 not small against batches of {batch_length}; take more --steps"
            ));
        }
    }
    doubts
}

fn check_flags(args: &SampleArgs) -> Result<()> {
    let sampler = args.sampler;
    for (flag, given, fits, needs) in [
        ("--leapfrog", args.leapfrog.is_some(), sampler == SamplerName::Hmc, "hmc"),
        ("--friction", args.friction.is_some(), sampler == SamplerName::Baoab, "baoab"),
    ] {
        if given && !fits {
            return Err(Error::Usage(format!("{flag}: needs --sampler {needs}")));
        }
    }
    if sampler == SamplerName::UniformMh {
        for (flag, given) in [("--step", args.step.is_some()), ("--init", args.init.is_some())] {
            if given {
                return Err(Error::Usage(format!("{flag}: --sampler uniform-mh has none")));
            }
        }
    }
    if args.thin > args.steps {
        let (thin, steps) = (args.thin, args.steps);
        return Err(Error::Usage(format!("--thin {thin}: more than the {steps} --steps")));
    }
    Ok(())
}

fn check_size(chains: usize, d: usize, kept: usize) -> Result<()> {
    let count = chains.checked_mul(d).and_then(|count| count.checked_mul(kept));
    if count.is_none_or(|count| count > MAX_COUNT) {
        let draws = if kept > 1 { format!(" {kept} draws of") } else { String::new() };
        return Err(Error::Usage(format!(
            "--chains {chains}:{draws} {chains} states of {d} numbers are more than {MAX_COUNT}"
        )));
    }
    Ok(())
}

/// An error of the library, put down to what the user can change.
fn about(args: &SampleArgs, error: gibbsite::Error) -> Error {
    match error {
        gibbsite::Error::ChainDiverged { .. } if args.step.is_some() => {
            Error::Usage(format!("--step: {error}"))
        }
        gibbsite::Error::Parameter { what: "step", .. } => Error::about("--step", error),
        gibbsite::Error::Parameter { what: "friction times step", .. } => {
            let flag = if args.step.is_some() { "--step" } else { "--friction" };
            Error::about(flag, error)
        }
        gibbsite::Error::Memory { .. } => Error::about("--chains", error),
        gibbsite::Error::Parameter { what: "dimension", .. } => Error::about("--model", error),
        error => Error::Library(error),
    }
}

/// The chains, of either kind.
enum Walk<T: Number> {
    Moves(Chains<T>),
    Independence(IndependenceMetropolis<T>),
}

/// One draw of all chains.
struct Draw<'a, T> {
    index: usize,
    states: Rows<'a, T>,
    potential: &'a [T],
    acceptance: Option<f64>,
}

impl<T: Number> Walk<T> {
    fn new(
        args: &SampleArgs,
        model: &ReluEnergy<T>,
        chains: usize,
        init: Option<&Matrix<T>>,
        seed: u64,
    ) -> Result<Self> {
        if args.sampler == SamplerName::UniformMh {
            let chains =
                IndependenceMetropolis::new(model, chains, seed).map_err(|error| match error {
                    gibbsite::Error::Memory { .. } => about(args, error),
                    _ => Error::about("--sampler uniform-mh", error),
                })?;
            return Ok(Self::Independence(chains));
        }
        let sphere = model.domain() == Domain::Sphere;
        if sphere && args.sampler == SamplerName::Baoab {
            return Err(Error::Usage(
                "--sampler baoab: not for a model on the sphere (use ula, mala, hmc or uniform-mh)"
                    .to_owned(),
            ));
        }
        let d = model.dim() as f64;
        // Length scale of a coordinate under the base measure.
        let scale: f64 = match model.base_scale() {
            _ if sphere => 1.0 / d.sqrt(),
            Some(scale) => scale.into(),
            None => 1.0,
        };
        let square = scale * scale;
        let step = |default| args.step.unwrap_or(default);
        let sampler = match args.sampler {
            SamplerName::Ula => Sampler::ula(step(0.05 * square)),
            SamplerName::Mala | SamplerName::UniformMh => Sampler::mala(step(0.5 * square)),
            SamplerName::Hmc => Sampler::hmc(step(0.2 * scale), args.leapfrog.unwrap_or(10)),
            SamplerName::Baoab => Sampler::baoab(step(0.1 * scale), args.friction.unwrap_or(1.0)),
        };
        let mut sampler = sampler.chains(chains).seed(seed);
        if let Some(init) = init {
            sampler = sampler.start(Start::Points(rows(init)?));
        }
        let chains = sampler.build(model).map_err(|error| match (&args.init, &error) {
            (None, _) | (_, gibbsite::Error::Parameter { .. } | gibbsite::Error::Memory { .. }) => {
                about(args, error)
            }
            (Some(path), _) => Error::about(shown(path), error),
        });
        Ok(Self::Moves(chains?))
    }

    fn states(&self) -> Rows<'_, T> {
        match self {
            Self::Moves(chains) => chains.states(),
            Self::Independence(chains) => chains.states(),
        }
    }

    fn step(&self) -> Option<f64> {
        match self {
            Self::Moves(chains) => Some(chains.step()),
            Self::Independence(_) => None,
        }
    }

    fn warm_up(&mut self, model: &ReluEnergy<T>, moves: usize, tune: bool) -> gibbsite::Result<()> {
        match self {
            Self::Moves(chains) if tune => chains.warm_up(model, moves).map(drop),
            _ => self.run(model, moves),
        }
    }

    fn run(&mut self, model: &ReluEnergy<T>, moves: usize) -> gibbsite::Result<()> {
        match self {
            Self::Moves(chains) => chains.run(model, moves).map(drop),
            Self::Independence(chains) => chains.run(model, moves).map(drop),
        }
    }

    fn sample(
        &mut self,
        model: &ReluEnergy<T>,
        draws: usize,
        thin: usize,
        mut observe: impl FnMut(Draw<'_, T>) -> gibbsite::Result<()>,
    ) -> gibbsite::Result<()> {
        match self {
            Self::Moves(chains) => chains
                .sample(model, draws, thin, |draw| {
                    let gibbsite::sampler::Draw { index, states, potential, acceptance, .. } = draw;
                    observe(Draw { index, states, potential, acceptance })
                })
                .map(drop),
            Self::Independence(chains) => {
                let mut potential = vec![T::ZERO; chains.states().rows()];
                let mut accepted = 0.0;
                for index in 0..draws {
                    let report = chains.run(model, thin)?;
                    accepted += report.acceptance.unwrap_or_default();
                    let states = chains.states();
                    model.potential_score(states, Some(&mut potential), None)?;
                    let acceptance = Some(accepted / (index + 1) as f64);
                    observe(Draw { index, states, potential: &potential, acceptance })?;
                }
                Ok(())
            }
        }
    }
}

/// Diagnostics while the chains run.
struct Monitor {
    running: RunningDiagnostics,
    chains: usize,
    diagnosed: usize,
    /// Draws between two values of the trace.
    stride: usize,
    /// Potentials of the first chains.
    trace: Vec<Vec<f64>>,
    energy: (f64, usize),
    /// Mean potential of all chains at the first draw and at the last.
    ends: Option<(f64, f64)>,
    acceptance: Option<f64>,
}

impl Monitor {
    fn new(chains: usize, d: usize, draws: usize) -> Result<Self> {
        let diagnosed = chains.min(DIAGNOSED);
        let running = RunningDiagnostics::new(diagnosed, d).map_err(gibbsite::Error::from)?;
        let stride = draws.div_ceil(TRACE_LENGTH).max(1);
        let trace = vec![Vec::new(); chains.min(TRACED)];
        let (energy, ends, acceptance) = ((0.0, 0), None, None);
        Ok(Self { running, chains, diagnosed, stride, trace, energy, ends, acceptance })
    }

    fn add<T: Number>(&mut self, draw: &Draw<'_, T>) -> gibbsite::Result<()> {
        let d = draw.states.cols();
        self.running.update(&draw.states.as_slice()[..self.diagnosed * d])?;
        let mean = draw.potential.iter().map(|&u| u.into()).sum::<f64>() / self.chains as f64;
        self.energy = (self.energy.0 + mean, self.energy.1 + 1);
        self.ends = Some((self.ends.map_or(mean, |(first, _)| first), mean));
        if draw.index.is_multiple_of(self.stride) {
            for (trace, &potential) in self.trace.iter_mut().zip(draw.potential) {
                trace.push(potential.into());
            }
        }
        self.acceptance = draw.acceptance;
        Ok(())
    }

    /// Whether potentials have grown beyond what any model's draws do: those of chains that only ever move away from it.
    fn run_away(&self) -> bool {
        /// Potentials of draws differ by the order of the dimension, and by as much again for every nat of a model's energy.
        const BEYOND: f64 = 1e6;
        self.ends.is_some_and(|(first, last)| !(last - first <= BEYOND * first.abs().max(1.0)))
    }

    fn r_hat_max(&self) -> Option<f64> {
        self.running.worst_r_hat().map(|(_, r_hat)| r_hat).filter(|r_hat| r_hat.is_finite())
    }

    fn ess_min(&self) -> Option<f64> {
        let of_all = self.chains as f64 / self.diagnosed as f64;
        let ess = self.running.worst_ess().map(|(_, ess)| ess * of_all);
        ess.filter(|ess| ess.is_finite())
    }

    fn energy_mean(&self) -> Option<f64> {
        (self.energy.1 > 0).then(|| self.energy.0 / self.energy.1 as f64)
    }

    /// Plots with their paths.
    fn plots(&self, args: &SampleArgs) -> Vec<(PathBuf, String)> {
        let moves = (self.stride * args.thin) as f64;
        let curves = self.trace.iter().zip(COLORS).enumerate().map(|(c, (trace, color))| Curve {
            label: format!("chain {c}"),
            color,
            points: trace.iter().enumerate().map(|(t, &u)| (t as f64 * moves, u)).collect(),
            bars: Vec::new(),
        });
        let trace = Plot {
            title: format!("Potential along {} chains", args.sampler.name()),
            x_label: "move",
            y_label: "potential U",
            curves: curves.collect(),
            level: self.energy_mean().map(|mean| (mean, "mean of all chains".to_owned())),
            mark: None,
            log: false,
            log_x: false,
            legend: UPPER_RIGHT,
        };
        let mut plots = vec![(beside(&args.out, TRACE), trace.svg())];
        if let Ok(draws) = Draws::new(&self.trace) {
            let lags = (self.trace[0].len() / 4).min(200);
            let points = draws.autocorrelation(lags).into_iter().enumerate();
            let autocorrelation = Plot {
                title: "Autocorrelation of the potential".to_owned(),
                x_label: "lag in moves",
                y_label: "autocorrelation",
                curves: vec![Curve {
                    label: format!("{} chains", self.trace.len()),
                    color: BLUE,
                    points: points.map(|(lag, rho)| (lag as f64 * moves, rho)).collect(),
                    bars: Vec::new(),
                }],
                level: Some((0.0, "none".to_owned())),
                mark: None,
                log: false,
                log_x: false,
                legend: UPPER_RIGHT,
            };
            plots.push((beside(&args.out, AUTOCORRELATION), autocorrelation.svg()));
        }
        plots
    }
}

fn beside(out: &Path, ending: &str) -> PathBuf {
    out.with_extension(ending)
}

fn describe<T>(draw: &Draw<'_, T>, monitor: &Monitor) -> String {
    let mut text = match monitor.energy_mean() {
        Some(mean) => format!("mean potential {mean:.3}"),
        None => String::new(),
    };
    if let Some(acceptance) = draw.acceptance {
        text += &format!(" · accepted {:.0} %", 100.0 * acceptance);
    }
    if let Some(r_hat) = monitor.r_hat_max() {
        text += &format!(" · R-hat {r_hat:.3}");
    }
    if let Some(ess) = monitor.ess_min() {
        text += &format!(" · least ESS {ess:.0}");
    }
    text
}

#[derive(Serialize)]
struct Summary {
    sampler: &'static str,
    chains: usize,
    steps: usize,
    warm_up: usize,
    thin: usize,
    draws: usize,
    d: usize,
    acceptance: Option<f64>,
    ess_min: Option<f64>,
    rhat_max: Option<f64>,
    seconds: f64,
    step: Option<f64>,
    energy_mean: Option<f64>,
    energy_rhat: Option<f64>,
    energy_ess: Option<f64>,
    seed: u64,
    threads: usize,
    dtype: &'static str,
    isa: &'static str,
    warnings: Vec<String>,
    files: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |x: Option<f64>, digits: usize| match x {
            Some(x) if x.abs() >= 1e12 => format!("{x:.4e}"),
            Some(x) => format!("{x:.digits$}"),
            None => "–".to_owned(),
        };
        let mut facts = Facts::default();
        let Self { sampler, chains, steps, warm_up, d, .. } = self;
        facts.add("sampler", format_args!("{sampler}, {chains} chains in {d} dimensions"));
        facts.add("moves", format_args!("{warm_up} to warm up, {steps} more"));
        facts.add("step", self.step.map_or("–".to_owned(), |step| format!("{step:.4e}")));
        facts.add("acceptance", number(self.acceptance, 3));
        facts.add("largest R-hat", number(self.rhat_max, 4));
        facts.add("least ESS", number(self.ess_min, 0));
        facts.add("mean potential", number(self.energy_mean, 4));
        facts.add("seconds", format_args!("{:.2}", self.seconds));
        facts.add("files", self.files.join(", "));
        write!(f, "{facts}")
    }
}
