//! `gibbsite thin`.

use super::{Common, PLOTTED, Problem, source, trace_plot, with_plots, with_progress, write_plots};
use crate::{
    Number,
    args::ThinArgs,
    error::Result,
    io,
    plot::Scatter,
    report::{Facts, shown},
    run::{Context, check_file, check_out, check_spared, reserve},
};
use gibbsite::stein::Thinned;
use serde::Serialize;
use std::{collections::HashSet, fmt, path::Path, time::Instant};

/// What may be in the directory of `--plots`.
const PLOTS: [&str; 2] = ["thinning.svg", "points.svg"];

pub fn thin<T: Number>(args: &ThinArgs, context: Context) -> Result<()> {
    let start = Instant::now();
    let inputs = [&args.input.data, source(&args.input)];
    check_out(&args.out, "npy", &inputs)?;
    if let Some(path) = &args.csv {
        check_file("--csv", path, "csv")?;
        check_spared("--csv", path, &inputs)?;
    }
    let problem = Problem::<T>::new(&args.input, &args.kernel, context)?;
    let report = with_plots(args.plots.as_deref(), &PLOTS, |plots| {
        pick(args, &problem, context, start, plots)
    })?;
    let text = Text { report: &report, size: problem.size(), kernel: problem.kernel.to_string() };
    context.voice.result(&report, text)
}

fn pick<T: Number>(
    args: &ThinArgs,
    problem: &Problem<T>,
    context: Context,
    start: Instant,
    plots: Option<&Path>,
) -> Result<Report> {
    let Problem { gram, kernel, names, .. } = problem;
    // Before the work, which would be lost if memory is refused.
    let mut indices = reserve::<i64>("--points", args.points)?;
    let thinned = with_progress(context.voice, "the points to pick", |progress| {
        gram.thin(args.points, None, progress)
    });
    let thinned = thinned.map_err(|error| names.about(error))?;
    indices.extend(thinned.indices.iter().map(|&i| i as i64));
    io::write_npy(&args.out, &[indices.len()], &indices)?;
    let mut files = vec![shown(&args.out)];
    if let Some(path) = &args.csv {
        let picked = thinned.indices.iter().zip(&thinned.ksd).enumerate();
        let rows = picked.map(|(step, (&index, &ksd))| [(step + 1) as f64, index as f64, ksd]);
        io::write_csv(path, &["step", "index", "ksd"], rows)?;
        files.push(shown(path));
    }
    if let Some(directory) = plots {
        let title = format!("KSD of the points picked first, {} kernel", kernel.name.name());
        let trace = trace_plot(title, "picked points", &thinned.ksd);
        let points = (problem.data.cols == 2).then(|| points_plot(problem, &thinned).svg());
        let svgs = [Some(trace.svg()), points];
        files.extend(write_plots(directory, PLOTS.into_iter().zip(svgs))?);
    }
    Ok(Report {
        points: indices.len(),
        distinct: indices.iter().collect::<HashSet<_>>().len(),
        ksd_trace_last: thinned.ksd[thinned.ksd.len() - 1],
        common: problem.common(context, start),
        files,
    })
}

fn points_plot<T: Number>(problem: &Problem<T>, thinned: &Thinned) -> Scatter {
    let data = &problem.data;
    let point = |i: usize| (data.data[2 * i].into(), data.data[2 * i + 1].into());
    let shown = data.rows.min(PLOTTED);
    let place = |k: usize| (k as u128 * data.rows as u128 / shown as u128) as usize;
    let all = if shown < data.rows { format!(", {shown} of them shown") } else { String::new() };
    Scatter {
        title: format!("Stein thinning, {} kernel", problem.kernel.name.name()),
        points: (0..shown).map(|k| point(place(k))).collect(),
        label: format!("{} points{all}", data.rows),
        picked: thinned.indices.iter().map(|&i| point(i)).collect(),
        picked_label: format!("{} picked", thinned.indices.len()),
    }
}

#[derive(Serialize)]
struct Report {
    points: usize,
    distinct: usize,
    ksd_trace_last: f64,
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
        let mut facts = Facts::default();
        facts.add("points", size);
        facts.add("kernel", kernel);
        facts.add("picked", format_args!("{}, {} distinct", report.points, report.distinct));
        facts.add("KSD of those", format_args!("{:.6e}", report.ksd_trace_last));
        facts.add("seconds", format_args!("{:.3}", report.common.seconds));
        facts.add("files", report.files.join(", "));
        write!(f, "{facts}")
    }
}
