//! `gibbsite bench`.

use super::{Context, check_file, usable_isas};
use crate::{
    args::BenchArgs,
    error::{Error, Result},
    io,
    plot::Roofline,
    progress::Progress,
    report::shown,
};
use gibbsite::{BuildInfo, Isa};
use gibbsite_kernels::{
    Real,
    registry::{Entry, Shape},
};
use gibbsite_measure::{
    Copy, Effort, Element, Limit, Row, Size, cases, name, peak, rows, shape_of_level,
};
use serde::Serialize;
use std::fmt;

/// How often the limits are measured before the kernels.
const ROUNDS: usize = 5;

pub fn run(args: &BenchArgs, context: Context) -> Result<()> {
    if let Some(path) = &args.svg {
        check_file("--svg", path, "svg")?;
    }
    let (size, effort, len) = match args.quick {
        true => (Size::Quick, Effort::QUICK, 1_000_000),
        false => (Size::Full, Effort::FULL, 10_000_000),
    };
    let filter = args.filter.as_deref().unwrap_or("");
    let mut plan = Vec::new();
    if !context.dtype_given || context.dtype == f32::NAME {
        plan.extend(jobs::<f32>(size, effort, filter, context));
    }
    if !context.dtype_given || context.dtype == f64::NAME {
        plan.extend(jobs::<f64>(size, effort, filter, context));
    }
    if plan.is_empty() {
        return Err(Error::Usage(format!(
            "{filter}: no kernel/type/level/shape has this in its name"
        )));
    }
    if BuildInfo::CURRENT.profile != "release" {
        context.voice.warning("measuring a debug build; cargo run --release has the speed");
    }
    let mut machine = Machine::new(len, context);
    let mut measured = Vec::new();
    let mut progress = Progress::uneven(plan.len(), context.voice);
    for (done, job) in plan.iter().enumerate() {
        progress.show(done, || &job.name);
        measured.extend((job.rows)(&mut machine));
    }
    progress.show(plan.len(), || "done");
    drop(progress);
    if let Some(path) = &args.svg {
        let svg = picture(&measured).svg();
        io::write_atomic(path, |out| out.write_all(svg.as_bytes()))?;
        context.voice.message(format_args!("wrote {}", shown(path)));
    }
    let table: Vec<_> = measured.iter().map(Line::new).collect();
    context.voice.result(&table, Text { machine: &machine, lines: &table })
}

/// The levels that are measured, highest first.
fn levels(context: Context) -> impl Iterator<Item = Isa> {
    usable_isas().filter(move |&isa| isa <= context.isa)
}

/// What the machine can do.
struct Machine {
    copy: Copy,
    bandwidth: f64,
    /// Level, `f32` and `f64`.
    peaks: Vec<(Isa, [f64; 2])>,
}

impl Machine {
    fn new(len: usize, context: Context) -> Self {
        let mut copy = Copy::new(len);
        let most =
            |measure: &mut dyn FnMut() -> f64| (0..ROUNDS).map(|_| measure()).fold(0.0, f64::max);
        let bandwidth = most(&mut || copy.bandwidth());
        let peaks = levels(context)
            .map(|isa| (isa, [most(&mut || peak::<f32>(isa)), most(&mut || peak::<f64>(isa))]))
            .collect();
        Self { copy, bandwidth, peaks }
    }
}

/// A kernel on a shape, on the levels that the filter picks.
struct Job {
    name: String,
    rows: Box<Measurement>,
}

type Measurement = dyn Fn(&mut Machine) -> Vec<Row>;

fn jobs<T: Element>(size: Size, effort: Effort, filter: &str, context: Context) -> Vec<Job> {
    let job = |(entry, shape): (Entry<T>, Shape)| {
        let name = |isa: &Isa| name(&entry, *isa, shape_of_level(shape, *isa));
        let levels: Vec<_> = levels(context).filter(|isa| name(isa).contains(filter)).collect();
        let name = name(levels.first()?);
        let rows = move |machine: &mut Machine| {
            let limits = (&mut machine.copy, machine.bandwidth);
            rows(entry, shape, &levels, effort, limits)
        };
        Some(Job { name, rows: Box::new(rows) })
    };
    cases::<T>(size).into_iter().filter_map(job).collect()
}

/// A row of the table.
#[derive(Serialize)]
struct Line {
    kernel: &'static str,
    dtype: &'static str,
    isa: &'static str,
    shape: String,
    n: usize,
    d: usize,
    m: usize,
    seconds: f64,
    gflops: f64,
    gbs: f64,
    /// `flops` or `bytes`.
    limit: &'static str,
    peak_gflops: f64,
    copy_gbs: f64,
    share: f64,
    ns_per_value: Option<f64>,
    faer_ratio: Option<f64>,
    scalar_ratio: f64,
}

impl Line {
    fn new(row: &Row) -> Self {
        let Shape { n, d, m, .. } = row.shape;
        Self {
            kernel: row.kernel,
            dtype: row.dtype,
            isa: row.isa.name(),
            shape: format!("n={n},d={d},m={m}"),
            n,
            d,
            m,
            seconds: row.seconds,
            gflops: row.flop_rate() / 1e9,
            gbs: row.byte_rate() / 1e9,
            limit: match row.limit() {
                Limit::Flops => "flops",
                Limit::Bytes => "bytes",
            },
            peak_gflops: row.peak / 1e9,
            copy_gbs: row.bandwidth / 1e9,
            share: row.share(),
            ns_per_value: row.values.map(|values| 1e9 * row.seconds / values as f64),
            faer_ratio: row.faer_ratio,
            scalar_ratio: row.scalar_ratio,
        }
    }
}

struct Text<'a> {
    machine: &'a Machine,
    lines: &'a [Line],
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BuildInfo { version, rustc, target, profile, .. } = BuildInfo::CURRENT;
        writeln!(f, "  gibbsite {version}, {profile} build by {rustc} for {target}")?;
        let Machine { copy, bandwidth, peaks } = self.machine;
        let megabytes = copy.bytes() as f64 / 1e6;
        writeln!(f, "  copy of {megabytes:<7.0} MB {:8.1} GB/s", bandwidth / 1e9)?;
        for (isa, peaks) in peaks {
            let [f32, f64] = peaks.map(|peak| peak / 1e9);
            writeln!(f, "  peak of {isa:10} {f32:8.1} GFLOP/s in f32, {f64:.1} in f64")?;
        }
        write!(
            f,
            "\n{:22} {:4} {:6} {:22} {:>9} {:>15} {:>8} {:>8} {:>7} {:>7}",
            "kernel",
            "type",
            "level",
            "shape",
            "ms",
            "speed",
            "% limit",
            "ns/value",
            "faer",
            "scalar"
        )?;
        let optional = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.2}"));
        for line in self.lines {
            let speed = match line.limit {
                "flops" => format!("{:.1} GFLOP/s", line.gflops),
                _ => format!("{:.1} GB/s   ", line.gbs),
            };
            write!(
                f,
                "\n{:22} {:4} {:6} {:22} {:9.3} {speed:>15} {:8.1} {:>8} {:>7} {:7.1}",
                line.kernel,
                line.dtype,
                line.isa,
                line.shape,
                1e3 * line.seconds,
                100.0 * line.share,
                optional(line.ns_per_value),
                optional(line.faer_ratio),
                line.scalar_ratio,
            )?;
        }
        Ok(())
    }
}

/// Families of kernels with a colour each.
const FAMILIES: [(&str, &[&str]); 4] = [
    ("ReLU energies", &["relu"]),
    ("chains", &["chain"]),
    ("Stein kernels", &["stein"]),
    ("noise, elementary functions", &["noise", "elementary"]),
];

/// The rows of the highest level.
fn picture(rows: &[Row]) -> Roofline {
    let best = rows.iter().map(|row| row.isa).max().unwrap_or(Isa::Scalar);
    let rows = || rows.iter().filter(move |row| row.isa == best);
    let roof = |dtype: &str| {
        let of_type = || rows().filter(|row| row.dtype == dtype);
        of_type().next()?;
        let most = |value: fn(&Row) -> f64| of_type().map(value).fold(0.0, f64::max);
        let (bandwidth, peak) = (most(|row| row.bandwidth), most(|row| row.peak));
        let label = format!("{dtype}: {:.0} GFLOP/s, {:.0} GB/s", peak / 1e9, bandwidth / 1e9);
        Some((label, bandwidth / 1e9, peak / 1e9))
    };
    let group = |(label, families): (&str, &[&str])| {
        let is_of = |row: &&Row| {
            row.kernel.split_once('.').is_some_and(|(family, _)| families.contains(&family))
        };
        let dot = |row: &Row| {
            let place = (row.flops as f64 / row.bytes as f64, row.flop_rate() / 1e9);
            (place, row.dtype == "f64")
        };
        (label.to_owned(), rows().filter(is_of).map(dot).collect::<Vec<_>>())
    };
    Roofline {
        title: format!("Kernels on {best}, one thread; dots filled for f64, hollow for f32"),
        x_label: "floating-point operations per byte",
        y_label: "GFLOP/s",
        roofs: ["f32", "f64"].into_iter().filter_map(roof).collect(),
        groups: FAMILIES.into_iter().map(group).filter(|(_, dots)| !dots.is_empty()).collect(),
    }
}
