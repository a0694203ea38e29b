//! What is trained: sizes, settings and repetitions of the experiments.

use crate::args::PaperEstimator;
use gibbsite::train::Regime;

/// All trainings of a run.
pub struct Plan {
    pub cells: Vec<Cell>,
    pub iterations: usize,
    pub neurons: usize,
    /// Validation points, and as many test points.
    pub held_out: usize,
}

/// A row of the table: both regimes on the same data sets.
#[derive(Debug, PartialEq)]
pub struct Cell {
    pub experiment: String,
    pub estimator: PaperEstimator,
    pub n: usize,
    /// Data sets.
    pub repetitions: usize,
    /// Settings to choose from by validation.
    pub f2: Vec<Setting>,
    pub f1: Vec<Setting>,
}

/// What is chosen by validation, besides the iterate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    pub learning_rate: f64,
    pub weight_decay: f64,
}

/// One training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Task<'a> {
    pub cell: &'a Cell,
    pub regime: Regime,
    pub setting: Setting,
    /// Number of the data set.
    pub repetition: usize,
}

const NEURONS: usize = 500;

pub const REGIMES: [Regime; 2] = [Regime::F2, Regime::F1];

impl Plan {
    /// The paper's grids, with the step sizes that work here.
    pub fn full(experiments: &[String], estimators: &[PaperEstimator]) -> Self {
        let cells = each(experiments, estimators, |experiment, estimator| {
            let sizes: &[usize] = match estimator {
                PaperEstimator::Mle => &[10, 30, 100, 300, 1000, 3000, 10_000, 30_000],
                PaperEstimator::Ksd => &[10, 30, 100, 300, 1000, 3000, 10_000],
                PaperEstimator::F1sd => &[10, 30, 100, 300, 1000, 3000],
            };
            let (f2, f1, decays): (&[f64], &[f64], [f64; 3]) = match estimator {
                PaperEstimator::Mle => {
                    (&[0.005, 0.05, 0.5], &[0.005, 0.05, 0.5], [0.0, 1e-8, 1e-5])
                }
                PaperEstimator::Ksd => (&[0.2, 0.5], &[0.02, 0.05, 0.15], [0.0, 1e-9, 1e-7]),
                PaperEstimator::F1sd => (&[1.0, 2.5], &[0.5, 1.0, 2.5], [1e-10, 1e-8, 1e-6]),
            };
            // The paper's, where decay grows with the number of neurons.
            let decays = decays.map(|decay| NEURONS as f64 * decay);
            let (f2, f1) = (grid(f2, &decays), grid(f1, &decays));
            let cell = |&n: &usize| Cell {
                experiment: experiment.to_owned(),
                estimator,
                n,
                repetitions: 10,
                f2: f2.clone(),
                f1: f1.clone(),
            };
            let mut cells: Vec<Cell> = sizes.iter().map(cell).collect();
            if estimator == PaperEstimator::Ksd {
                // Beyond the paper, whose code needs n² d numbers: one setting, since n² pairs take their time.
                let (f2, f1) = (grid(&[0.5], &[0.0]), grid(&[0.15], &[0.0]));
                cells.push(Cell { n: 30_000, repetitions: 2, f2, f1, ..cell(&0) });
            }
            cells
        });
        Self { cells, iterations: 1000, neurons: NEURONS, held_out: 5000 }
    }

    /// Fewer sizes and data sets, and one setting.
    pub fn quick(experiments: &[String], estimators: &[PaperEstimator]) -> Self {
        let cells = each(experiments, estimators, |experiment, estimator| {
            let largest = match (estimator, experiment) {
                (PaperEstimator::Mle, "j1w10" | "j4w7.5") => 5000,
                _ => 3000,
            };
            let (repetitions, f2, f1) = match estimator {
                PaperEstimator::Mle => (3, 0.5, 0.05),
                PaperEstimator::Ksd => (2, 0.5, 0.15),
                PaperEstimator::F1sd => (2, 2.5, 1.0),
            };
            [100, 300, 1000, largest]
                .map(|n| Cell {
                    experiment: experiment.to_owned(),
                    estimator,
                    n,
                    repetitions,
                    f2: grid(&[f2], &[0.0]),
                    f1: grid(&[f1], &[0.0]),
                })
                .into()
        });
        Self { cells, iterations: 600, neurons: NEURONS, held_out: 3000 }
    }
}

fn each(
    experiments: &[String],
    estimators: &[PaperEstimator],
    cells: impl Fn(&str, PaperEstimator) -> Vec<Cell>,
) -> Vec<Cell> {
    let pairs = experiments.iter().flat_map(|x| estimators.iter().map(move |&e| (x, e)));
    pairs.flat_map(|(experiment, estimator)| cells(experiment, estimator)).collect()
}

fn grid(rates: &[f64], decays: &[f64]) -> Vec<Setting> {
    let decays = |&learning_rate| {
        decays.iter().map(move |&weight_decay| Setting { learning_rate, weight_decay })
    };
    rates.iter().flat_map(decays).collect()
}

impl Cell {
    /// That of the teacher: smaller for the F1 Stein discrepancy, as in the paper.
    pub fn dim(&self) -> usize {
        match self.estimator {
            PaperEstimator::F1sd => 10,
            _ => 15,
        }
    }

    pub fn settings(&self, regime: Regime) -> &[Setting] {
        match regime {
            Regime::F2 => &self.f2,
            Regime::F1 => &self.f1,
        }
    }
}

impl<'a> Task<'a> {
    /// Trainings that settings are chosen by: all settings on the first data set.
    pub fn search(cells: &'a [Cell]) -> Vec<Self> {
        let tasks = |(cell, regime): (&'a Cell, Regime)| {
            let settings = cell.settings(regime).iter();
            settings.map(move |&setting| Task { cell, regime, setting, repetition: 0 })
        };
        halves(cells).flat_map(tasks).collect()
    }

    /// Trainings on the other data sets.
    pub fn repetitions(
        cell: &'a Cell,
        regime: Regime,
        setting: Setting,
    ) -> impl Iterator<Item = Self> {
        (1..cell.repetitions).map(move |repetition| Task { cell, regime, setting, repetition })
    }
}

/// Both regimes of all cells.
pub fn halves(cells: &[Cell]) -> impl Iterator<Item = (&Cell, Regime)> {
    cells.iter().flat_map(|cell| REGIMES.map(|regime| (cell, regime)))
}

/// Iterations of the trainings that [`work`] speaks of.
pub const WORK_ITERATIONS: f64 = 600.0;

/// Rough seconds of a training in one thread, up to a factor of the machine's and the estimator's.
pub fn work(estimator: PaperEstimator, n: usize) -> f64 {
    let n = n as f64 / 1000.0;
    match estimator {
        PaperEstimator::Mle => 2.0 + 0.2 * n,
        PaperEstimator::Ksd => 2.5 + 1.6 * n * n,
        PaperEstimator::F1sd => 1.0 + 2.0 * n,
    }
}
