//! Which backend is the fastest for which shape: the measurement behind the plan.

use super::Context;
use crate::{
    Number,
    error::{Error, Result},
    from_f64,
};
use gibbsite::{Backend, ParamGrad, ReluEnergy, Rows, RowsMut, random::Stream};
use serde::Serialize;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// Numbers of samples, coordinates and neurons, and how large their product may be.
const SAMPLES: [usize; 4] = [1, 32, 1024, 8192];
const COORDINATES: [usize; 5] = [2, 15, 64, 256, 784];
const NEURONS: [usize; 4] = [10, 100, 500, 2000];
const MOST_WORK: usize = 1 << 29;

/// The least time of so many counts, each of as many calls as take that long.
const ROUNDS: usize = 7;
const LEAST: Duration = Duration::from_micros(500);

/// The plan is off if it takes longer than the best by more than this.
const NOISE: f64 = 0.1;

const BACKENDS: &[Backend] = &[
    Backend::Fused,
    Backend::Faer,
    #[cfg(feature = "blas")]
    Backend::Blas,
];

#[derive(Serialize)]
struct Sweep {
    dtype: &'static str,
    isa: &'static str,
    threads: usize,
    blas: Option<String>,
    rows: Vec<Row>,
}

/// A task at a shape.
#[derive(Serialize)]
struct Row {
    task: Task,
    n: usize,
    d: usize,
    m: usize,
    /// Seconds of a call by each backend.
    seconds: Vec<(String, f64)>,
    /// What the backend `auto` takes.
    plan: String,
    best: String,
    /// Time of the plan over that of the best.
    ratio: f64,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Task {
    Energy,
    Score,
    Gradients,
}

struct Outputs<T> {
    energy: Vec<T>,
    score: Vec<T>,
    grad: ParamGrad<T>,
}

/// Times all backends at all shapes, and tells where the plan does not take the fastest.
pub fn sweep<T: Number>(context: Context) -> Result<()> {
    let mut rows = Vec::new();
    for d in COORDINATES {
        for m in NEURONS {
            for n in SAMPLES.into_iter().filter(|n| n * d * m <= MOST_WORK) {
                context.voice.message(format_args!("d = {d}, m = {m}, n = {n}"));
                rows.extend(at_shape::<T>(context, (n, d, m)).map_err(Error::Library)?);
            }
        }
    }
    let sweep = Sweep {
        dtype: context.dtype,
        isa: context.isa.name(),
        threads: context.threads,
        blas: super::blas(),
        rows,
    };
    context.voice.result(&sweep, &sweep)
}

fn at_shape<T: Number>(
    context: Context,
    (n, d, m): (usize, usize, usize),
) -> gibbsite::Result<Vec<Row>> {
    let normals = |len, stream| {
        let mut values = vec![from_f64::<T>(0.0); len];
        Stream::new(context.seed, stream).fill_normal(&mut values);
        values
    };
    let (theta, w, x) = (normals(m * d, 0), normals(m, 1), normals(n * d, 2));
    let x = Rows::new(&x, n, d)?;
    let auto = ReluEnergy::new(Rows::new(&theta, m, d)?, &w)?.with_isa(context.isa);
    let models: Vec<_> =
        BACKENDS.iter().map(|&backend| auto.clone().with_backend(backend)).collect();
    let mut outputs =
        Outputs { energy: normals(n, 3), score: normals(n * d, 3), grad: auto.zero_grad() };
    let mut rows = Vec::new();
    for task in [Task::Energy, Task::Score, Task::Gradients] {
        let mut least = vec![Duration::MAX; models.len()];
        let mut calls = vec![1; models.len()];
        for round in 0..=ROUNDS {
            // In turn, so that a change of the clock's frequency hits all of them.
            for (k, model) in models.iter().enumerate() {
                let start = Instant::now();
                for _ in 0..calls[k] {
                    task.run(model, x, &mut outputs)?;
                }
                let elapsed = start.elapsed();
                match round {
                    // Warms up, and tells how many calls are enough.
                    0 => calls[k] = (LEAST.as_nanos() / elapsed.as_nanos().max(1)) as u32 + 1,
                    _ => least[k] = least[k].min(elapsed / calls[k]),
                }
            }
        }
        let seconds: Vec<_> =
            BACKENDS.iter().zip(least.iter().map(Duration::as_secs_f64)).collect();
        let (best, shortest) = *seconds.iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("some");
        let plan = auto.path();
        let planned = seconds.iter().find(|(backend, _)| **backend == plan).expect("built in");
        rows.push(Row {
            task,
            n,
            d,
            m,
            plan: plan.to_string(),
            best: best.to_string(),
            ratio: planned.1 / shortest,
            seconds: seconds
                .into_iter()
                .map(|(backend, time)| (backend.to_string(), time))
                .collect(),
        });
    }
    Ok(rows)
}

impl Task {
    fn run<T: Number>(
        self,
        model: &ReluEnergy<T>,
        x: Rows<'_, T>,
        outputs: &mut Outputs<T>,
    ) -> gibbsite::Result<()> {
        match self {
            Task::Energy => model.energy(x, &mut outputs.energy),
            Task::Score => model.score(x, RowsMut::new(&mut outputs.score, x.rows(), x.cols())?),
            Task::Gradients => model.param_grad(x, None, &mut outputs.grad),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Task::Energy => "energy",
            Task::Score => "score",
            Task::Gradients => "gradients",
        })
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dtype, isa, threads, blas, rows } = self;
        let blas = blas.as_deref().unwrap_or("none");
        writeln!(
            f,
            "{dtype}, fused on {isa}, {threads} threads, BLAS: {blas}; microseconds a call"
        )?;
        write!(f, "{:9} {:>5} {:>4} {:>5}", "task", "n", "d", "m")?;
        for backend in BACKENDS {
            write!(f, " {:>10}", backend.to_string())?;
        }
        writeln!(f, "  {:6} {:6} plan/best", "plan", "best")?;
        for Row { task, n, d, m, seconds, plan, best, ratio } in rows {
            write!(f, "{task:9} {n:5} {d:4} {m:5}")?;
            for (_, seconds) in seconds {
                write!(f, " {:10.2}", seconds * 1e6)?;
            }
            let mark = if *ratio > 1.0 + NOISE { "  <" } else { "" };
            writeln!(f, "  {plan:6} {best:6} {ratio:9.2}{mark}")?;
        }
        let off = rows.iter().filter(|row| row.ratio > 1.0 + NOISE).count();
        write!(
            f,
            "The plan is slower than the best by more than {:.0} % in {off} of {} rows.",
            100.0 * NOISE,
            rows.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Voice;
    use gibbsite::Isa;

    #[test]
    fn the_best_is_the_fastest_and_the_plan_is_compared_with_it() {
        let context = Context {
            seed: 0,
            threads: 1,
            dtype: "f32",
            dtype_given: true,
            isa: Isa::best(),
            backend: Backend::Auto,
            voice: Voice { quiet: true, json: false },
        };
        let rows = at_shape::<f32>(context, (3, 2, 5)).unwrap();
        assert_eq!(rows.len(), 3);
        for row in &rows {
            let time = |name: &str| row.seconds.iter().find(|time| time.0 == name).unwrap().1;
            assert_eq!(row.seconds.len(), BACKENDS.len());
            let shortest = time(&row.best);
            assert!(row.seconds.iter().all(|time| time.1 >= shortest) && shortest > 0.0);
            assert_eq!(row.plan, "fused");
            assert_eq!(row.ratio, time(&row.plan) / shortest);
        }
    }
}
