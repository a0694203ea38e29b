//! The same work done in several ways: with criterion; or, with `-- --table`, in turn on one thread, each way with its
//! shortest processor time, so that ratios are of one run. `--test` runs everything once, and small.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use gibbsite_kernels::Isa;
use gibbsite_measure::time;
use std::{env, time::Duration};

/// Rounds of a table.
const ROUNDS: usize = 9;

/// Flops per second that an instruction set can do.
pub type Peak = fn(Isa) -> f64;

/// Some work.
pub struct Task {
    pub name: String,
    /// What times are given per.
    pub elements: u64,
    /// Name and what it does, the levels first; the last one behind them, if there is any, is the plain way.
    pub ways: Vec<(String, Box<dyn FnMut()>)>,
    /// Flops in all, for work that is bound by them.
    pub flops: Option<(u64, Peak)>,
}

/// The levels that are compared.
pub fn levels() -> impl Iterator<Item = Isa> {
    gibbsite_measure::levels().filter(|&isa| isa != Isa::Scalar)
}

/// A program's `main`; `tasks` makes the work, small or not.
pub fn run(tasks: impl FnOnce(bool) -> Vec<Task>) {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let small = has("--test") || !has("--bench");
    let tasks = tasks(small);
    if has("--table") || small {
        let filters: Vec<String> =
            arguments.iter().filter(|argument| !argument.starts_with('-')).cloned().collect();
        return table(tasks, &filters, if small { 1 } else { ROUNDS });
    }
    let mut criterion = Criterion::default().configure_from_args();
    for task in tasks {
        let mut group = criterion.benchmark_group(&task.name);
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1))
            .throughput(Throughput::Elements(task.elements));
        for (way, mut run) in task.ways {
            group.bench_function(BenchmarkId::from_parameter(way), |bencher| {
                bencher.iter(&mut run);
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

fn table(tasks: Vec<Task>, filters: &[String], rounds: usize) {
    println!(
        "{:28} {:20} {:>10} {:>10} {:>9} {:>9} {:>7}",
        "task", "way", "ms", "ns each", "% copy", "% peak", "ratio"
    );
    for mut task in tasks {
        if !filters.iter().all(|filter| task.name.contains(filter)) {
            continue;
        }
        let mut best = vec![f64::INFINITY; task.ways.len()];
        let mut peaks = vec![0.0_f64; task.ways.len()];
        for _ in 0..rounds {
            for (k, (_, run)) in task.ways.iter_mut().enumerate() {
                if let (Some((_, peak)), Some(isa)) = (task.flops, levels().nth(k)) {
                    peaks[k] = peaks[k].max(peak(isa));
                }
                best[k] = best[k].min(time(run).as_secs_f64());
            }
        }
        let copy = task.ways.iter().position(|(way, _)| way == "copy").map(|k| best[k]);
        let plain = best.iter().skip(levels().count()).last();
        for (k, (way, _)) in task.ways.iter().enumerate() {
            let share = |share: Option<f64>| match share {
                Some(share) if k < levels().count() => format!("{:.1}", 100.0 * share),
                _ => "–".to_owned(),
            };
            println!(
                "{:28} {way:20} {:10.3} {:10.3} {:>9} {:>9} {:>7}",
                task.name,
                1e3 * best[k],
                1e9 * best[k] / task.elements as f64,
                share(copy.map(|copy| 1.5 * copy / best[k])),
                share(task.flops.map(|(flops, _)| flops as f64 / best[k] / peaks[k])),
                plain.map_or("–".to_owned(), |plain| format!("{:.2}", plain / best[k])),
            );
        }
    }
}
