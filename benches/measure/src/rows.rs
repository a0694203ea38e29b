//! One kernel on one shape: every level, and other ways to compute the same, in turn.

use crate::{Copy, Element, Problem, Unfused, name, peak, shape_of_level, time};
use gibbsite_kernels::{
    Isa,
    registry::{Entry, Shape, Work},
};
use std::time::{Duration, Instant};

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds, however long they take.
    pub least: usize,
    /// Rounds, however short they are.
    pub most: usize,
    /// After which no more than the least number of rounds are begun.
    pub enough: Duration,
    /// Processor time of what is timed at once: calls are repeated until they take that long.
    pub stretch: Duration,
}

impl Effort {
    /// For figures that are quoted.
    pub const FULL: Self = Self {
        least: 3,
        most: 9,
        enough: Duration::from_millis(800),
        stretch: Duration::from_millis(2),
    };

    /// For a first look.
    pub const QUICK: Self = Self {
        least: 2,
        most: 3,
        enough: Duration::from_millis(20),
        stretch: Duration::from_micros(200),
    };
}

/// What bounds the speed of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Fused multiply-adds.
    Flops,
    /// Reading and writing memory.
    Bytes,
}

/// A kernel, an element type, a shape and a level.
#[derive(Clone, Debug)]
pub struct Row {
    /// `relu.score/f64/avx2/n=30000,d=15,m=500`
    pub name: String,
    /// The kernel.
    pub kernel: &'static str,
    /// The element type.
    pub dtype: &'static str,
    /// The level.
    pub isa: Isa,
    /// Size; fewer samples than on the other levels if the level is [`Isa::Scalar`].
    pub shape: Shape,
    /// Shortest processor time of a call.
    pub seconds: f64,
    /// Floating-point operations of a call.
    pub flops: u64,
    /// Bytes that a call has to read and write.
    pub bytes: u64,
    /// Values of a call that its work grows with, where these are not products.
    pub values: Option<u64>,
    /// Flops per second of multiply-adds on this level and element type, measured in turn with the kernel.
    pub peak: f64,
    /// Bytes per second of a copy, measured in turn with the kernels that are near this limit.
    pub bandwidth: f64,
    /// Time of the unfused path for the same over ours, where there is one.
    pub faer_ratio: Option<f64>,
    /// Time of the plain code for the same over ours.
    pub scalar_ratio: f64,
}

impl Row {
    /// Flops per second.
    pub fn flop_rate(&self) -> f64 {
        self.flops as f64 / self.seconds
    }

    /// Bytes per second.
    pub fn byte_rate(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    /// The limit that is met first.
    pub fn limit(&self) -> Limit {
        match self.flops as f64 / self.peak >= self.bytes as f64 / self.bandwidth {
            true => Limit::Flops,
            false => Limit::Bytes,
        }
    }

    /// Speed as a share of that limit.
    pub fn share(&self) -> f64 {
        match self.limit() {
            Limit::Flops => self.flop_rate() / self.peak,
            Limit::Bytes => self.byte_rate() / self.bandwidth,
        }
    }
}

/// A level while it is measured.
struct Run {
    isa: Isa,
    calls: u32,
    seconds: f64,
    peak: f64,
}

/// Measures a kernel on some levels, and on plain code for the ratio to it. `copy` has the bandwidth seen before.
pub fn rows<T: Element>(
    entry: Entry<T>,
    shape: Shape,
    levels: &[Isa],
    effort: Effort,
    (copy, mut bandwidth): (&mut Copy, f64),
) -> Vec<Row> {
    let slow_shape = shape_of_level(shape, Isa::Scalar);
    let mut problems = [shape, slow_shape].map(|shape| Problem::new(entry, shape));
    let mut unfused = Unfused::of(entry.name, shape);
    let mut unfused_outputs = unfused.as_ref().map_or(Vec::new(), |_| problems[0].outputs.clone());
    let mut unfused_seconds = f64::INFINITY;
    let mut isas = levels.to_vec();
    if !isas.contains(&Isa::Scalar) {
        isas.push(Isa::Scalar);
    }
    let mut runs: Vec<Run> = isas
        .into_iter()
        .map(|isa| {
            let calls = calls(effort.stretch, || problem(&mut problems, isa).run(isa));
            Run { isa, calls, seconds: f64::INFINITY, peak: 0.0 }
        })
        .collect();
    let mut unfused_calls = 1;
    if let Some(unfused) = &mut unfused {
        let run = || unfused.run(&problems[0].inputs, &mut unfused_outputs);
        unfused_calls = calls(effort.stretch, run);
    }
    let start = Instant::now();
    for round in 0..effort.most {
        if round >= effort.least && start.elapsed() > effort.enough {
            break;
        }
        for Run { isa, calls, seconds, peak: best } in &mut runs {
            *best = best.max(peak::<T>(*isa));
            let problem = problem(&mut problems, *isa);
            let elapsed = time(|| (0..*calls).for_each(|_| problem.run(*isa)));
            *seconds = seconds.min(elapsed.as_secs_f64() / f64::from(*calls));
        }
        if let Some(unfused) = &mut unfused {
            let mut run = || unfused.run(&problems[0].inputs, &mut unfused_outputs);
            let elapsed = time(|| (0..unfused_calls).for_each(|_| run()));
            unfused_seconds = unfused_seconds.min(elapsed.as_secs_f64() / f64::from(unfused_calls));
        }
        if entry.work() != Work::Products {
            bandwidth = bandwidth.max(copy.bandwidth());
        }
    }
    let scalar = runs.iter().find(|run| run.isa == Isa::Scalar).expect("added above").seconds;
    let flops = |shape| (entry.flops)(shape) as f64;
    let row = |run: Run| {
        let own_shape = shape_of_level(shape, run.isa);
        let values = match entry.work() {
            Work::Products => None,
            Work::Rows => Some((own_shape.n * own_shape.d) as u64),
            Work::Values => Some(own_shape.n as u64),
        };
        // Of the same work, in proportion.
        let ratio = |seconds, other| seconds / flops(other) / (run.seconds / flops(own_shape));
        Row {
            name: name(&entry, run.isa, own_shape),
            kernel: entry.name,
            dtype: T::NAME,
            isa: run.isa,
            shape: own_shape,
            seconds: run.seconds,
            flops: (entry.flops)(own_shape),
            bytes: (entry.bytes)(own_shape),
            values,
            peak: run.peak,
            bandwidth,
            faer_ratio: unfused.as_ref().map(|_| ratio(unfused_seconds, shape)),
            scalar_ratio: ratio(scalar, slow_shape),
        }
    };
    runs.into_iter().filter(|run| levels.contains(&run.isa)).map(row).collect()
}

fn problem<T>(problems: &mut [Problem<T>; 2], isa: Isa) -> &mut Problem<T> {
    &mut problems[usize::from(isa == Isa::Scalar)]
}

/// How many calls take long enough to be timed; warms up as well.
fn calls(stretch: Duration, mut call: impl FnMut()) -> u32 {
    let mut calls = 1;
    while time(|| (0..calls).for_each(|_| call())) < stretch && calls < 1 << 20 {
        calls *= 2;
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Size, cases, levels};
    use std::collections::BTreeSet;

    /// Nothing is asked of the times but that they are numbers.
    fn all_rows<T: Element>() {
        let levels: Vec<_> = levels().collect();
        let mut copy = Copy::new(1_000);
        let mut seen = BTreeSet::new();
        for (entry, shape) in cases::<T>(Size::Tiny) {
            let bandwidth = copy.bandwidth();
            let rows = rows(entry, shape, &levels, Effort::QUICK, (&mut copy, bandwidth));
            assert_eq!(rows.iter().map(|row| row.isa).collect::<Vec<_>>(), levels);
            for row in rows {
                let mut numbers = vec![row.seconds, row.peak, row.bandwidth, row.scalar_ratio];
                numbers.extend([row.flop_rate(), row.byte_rate(), row.share()]);
                numbers.extend(row.faer_ratio);
                assert!(numbers.iter().all(|x| x.is_finite() && *x > 0.0), "{row:?}");
                let has_unfused =
                    ["relu.energy", "relu.score", "relu.param_sums"].contains(&row.kernel);
                assert_eq!(row.faer_ratio.is_some(), has_unfused, "{row:?}");
                assert_eq!(row.values.is_some(), entry.work() != Work::Products, "{row:?}");
                assert!(row.isa != Isa::Scalar || row.scalar_ratio == 1.0, "{row:?}");
                assert!(seen.insert(row.name), "twice");
            }
        }
    }

    #[test]
    fn every_level_has_a_row() {
        all_rows::<f32>();
        all_rows::<f64>();
    }

    #[test]
    fn the_nearer_limit_counts() {
        let row = |flops, bytes| Row {
            name: String::new(),
            kernel: "",
            dtype: "f64",
            isa: Isa::Scalar,
            shape: Shape::default(),
            seconds: 2.0,
            flops,
            bytes,
            values: None,
            peak: 100.0,
            bandwidth: 10.0,
            faer_ratio: None,
            scalar_ratio: 1.0,
        };
        let (products, values) = (row(100, 5), row(100, 15));
        assert_eq!((products.limit(), products.share()), (Limit::Flops, 0.5));
        assert_eq!((values.limit(), values.share()), (Limit::Bytes, 0.75));
        assert_eq!((values.flop_rate(), values.byte_rate()), (50.0, 7.5));
    }
}
