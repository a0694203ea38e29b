//! `gibbsite ksd`.

use super::{Common, Problem, trace_plot, with_plots, with_progress, write_plots};
use crate::{
    Number,
    args::KsdArgs,
    error::{Error, Result},
    plot::Histogram,
    report::Facts,
    run::Context,
};
use gibbsite::stein::{KsdTest, Statistic, WildBootstrap};
use serde::Serialize;
use std::{fmt, path::Path, time::Instant};

/// Draws below which a p-value is coarse.
const FEW_DRAWS: usize = 100;

/// What may be in the directory of `--plots`.
const PLOTS: [&str; 2] = ["trace.svg", "null.svg"];

pub fn ksd<T: Number>(args: &KsdArgs, context: Context) -> Result<()> {
    let start = Instant::now();
    let problem = Problem::<T>::new(&args.input, &args.kernel, context)?;
    if args.bootstrap.is_some() && problem.gram.points() == 1 {
        return Err(Error::Usage(format!(
            "--bootstrap: needs at least 2 points, {} has 1",
            problem.names.data
        )));
    }
    let mut report = with_plots(args.plots.as_deref(), &PLOTS, |plots| {
        estimate(args, &problem, context, start, plots)
    })?;
    if let Some(draws @ ..FEW_DRAWS) = args.bootstrap {
        let text = format!(
            "{draws} draws make a coarse p-value, no smaller than {:.2}: take more --bootstrap",
            1.0 / (1 + draws) as f64
        );
        context.voice.warn(&mut report.common.warnings, text);
    }
    let text = Text { report: &report, size: problem.size(), kernel: problem.kernel.to_string() };
    context.voice.result(&report, text)
}

fn estimate<T: Number>(
    args: &KsdArgs,
    problem: &Problem<T>,
    context: Context,
    start: Instant,
    plots: Option<&Path>,
) -> Result<Report> {
    let Problem { gram, kernel, names, .. } = problem;
    let statistic = Statistic::from(args.statistic);
    let (voice, about) = (context.voice, |error| names.about(error));
    let ksd = with_progress(voice, "the pairs", |progress| gram.ksd(statistic, progress));
    let ksd = ksd.map_err(about)?;
    let mut test = None;
    if let Some(draws) = args.bootstrap {
        let mut bootstrap = WildBootstrap::new(draws).seed(context.seed);
        if let Some(flip) = args.correlated {
            bootstrap = bootstrap.correlated(flip);
        }
        test = Some(
            with_progress(voice, "the pairs, with signs", |progress| {
                gram.test(statistic, &bootstrap, progress)
            })
            .map_err(about)?,
        );
    }
    let kind = match statistic {
        Statistic::U => "u",
        Statistic::V => "v",
    };
    let mut files = Vec::new();
    if let Some(directory) = plots {
        let trace =
            with_progress(voice, "the pairs, for the plot", |progress| gram.ksd_trace(progress));
        let title = format!("KSD of the first points, {} kernel", kernel.name.name());
        let trace = trace_plot(title, "first points", &trace.map_err(about)?);
        let null = test.as_ref().map(|test| null_plot(test, kind).svg());
        files = write_plots(directory, PLOTS.into_iter().zip([Some(trace.svg()), null]))?;
    }
    Ok(Report {
        statistic: ksd.squared,
        kind,
        std_error: ksd.std_error,
        p_value: test.as_ref().map(|test| test.p_value),
        bootstrap: args.bootstrap,
        correlated: args.correlated,
        seed: context.seed,
        common: problem.common(context, start),
        files,
    })
}

fn null_plot(test: &KsdTest, kind: &str) -> Histogram {
    Histogram {
        title: format!("KSD² and its draws under the null hypothesis, p = {:.4}", test.p_value),
        x_label: "KSD²",
        values: test.draws.clone(),
        label: format!("{} bootstrap draws", test.draws.len()),
        mark: (test.squared, format!("{}-statistic of the points", kind.to_uppercase())),
    }
}

#[derive(Serialize)]
struct Report {
    statistic: f64,
    kind: &'static str,
    std_error: Option<f64>,
    p_value: Option<f64>,
    bootstrap: Option<usize>,
    correlated: Option<f64>,
    seed: u64,
    #[serde(flatten)]
    common: Common,
    files: Vec<String>,
}

struct Text<'a> {
    report: &'a Report,
    size: String,
    kernel: String,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, size, kernel } = self;
        let error = report.std_error.map_or(String::new(), |error| format!(" ± {error:.1e}"));
        let mut facts = Facts::default();
        facts.add("points", size);
        facts.add("kernel", kernel);
        let kind = report.kind.to_uppercase();
        facts.add("KSD²", format_args!("{:.6e}{error}, {kind}-statistic", report.statistic));
        if let (Some(p), Some(draws)) = (report.p_value, report.bootstrap) {
            let chain = report.correlated.map_or(String::new(), |flip| {
                format!(", signs that change with probability {flip}")
            });
            facts.add("p-value", format_args!("{p:.4}, {draws} draws{chain}"));
        }
        facts.add("seconds", format_args!("{:.3}", report.common.seconds));
        if !report.files.is_empty() {
            facts.add("files", report.files.join(", "));
        }
        write!(f, "{facts}")
    }
}
