//! `runs.csv`: every finished training, so that an interrupted run goes on where it was.

use super::plan::{Cell, Setting, Task};
use crate::{
    args::PaperEstimator,
    error::{Error, Result},
    io,
    report::{Voice, shown},
    run::Context,
};
use gibbsite::train::Regime;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::Path,
};

/// A line of the file. Results of a run that diverged are NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub experiment: String,
    pub estimator: PaperEstimator,
    pub n: usize,
    pub regime: String,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub repetition: usize,
    pub diverged: bool,
    pub best_iteration: usize,
    pub validation_cross_entropy: f64,
    pub test_cross_entropy: f64,
    pub test_ksd: f64,
    pub test_f1_sd: f64,
    pub kl: f64,
    pub f1_norm: f64,
    pub max_cosine: f64,
    pub seconds: f64,
}

impl Run {
    fn is_of(&self, task: &Task<'_>) -> bool {
        let Task { cell, setting, .. } = task;
        (self.experiment.as_str(), self.estimator, self.n, self.repetition)
            == (cell.experiment.as_str(), cell.estimator, cell.n, task.repetition)
            && self.regime == task.regime.to_string()
            && (self.learning_rate, self.weight_decay)
                == (setting.learning_rate, setting.weight_decay)
    }
}

/// What the runs of a directory have in common.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    version: String,
    quick: bool,
    seed: u64,
    dtype: String,
    backend: String,
}

/// The file, open for more lines, and the runs in it.
pub struct Ledger {
    writer: csv::Writer<File>,
    runs: Vec<Run>,
}

impl Ledger {
    /// Opens the files of a directory, or makes them.
    pub fn open(directory: &Path, quick: bool, context: Context) -> Result<Self> {
        let path = directory.join("runs.csv");
        let settings = Settings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            quick,
            seed: context.seed,
            dtype: context.dtype.to_owned(),
            backend: context.backend.to_string(),
        };
        check_settings(&directory.join("settings.json"), &settings, path.exists())?;
        let failed = |source| io::Error::Write { path: path.clone(), source };
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
        // Where files cannot be locked, nobody is kept out.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::Usage(format!(
                "{}: another run is writing to it; use another --out",
                shown(&path)
            )));
        }
        let bytes =
            fs::read(&path).map_err(|source| io::Error::Read { path: path.clone(), source })?;
        let whole = whole_lines(&bytes);
        if whole.len() < bytes.len() {
            file.set_len(whole.len() as u64).map_err(failed)?;
            drop_notice(&path, context.voice);
        }
        let runs = csv::Reader::from_reader(whole).deserialize().collect::<Result<_, _>>();
        let runs = runs.map_err(|error| {
            Error::Usage(format!("{}: {error}; use another --out", shown(&path)))
        })?;
        let writer = csv::WriterBuilder::new().has_headers(whole.is_empty()).from_writer(file);
        Ok(Self { writer, runs })
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn find(&self, task: &Task<'_>) -> Option<&Run> {
        self.runs.iter().find(|run| run.is_of(task))
    }

    /// The setting with the smallest validation cross-entropy on the first data set, the first if all diverged.
    pub fn chosen(&self, cell: &Cell, regime: Regime) -> Setting {
        let score = |setting| {
            let task = Task { cell, regime, setting, repetition: 0 };
            let score = self.find(&task).map_or(f64::NAN, |run| run.validation_cross_entropy);
            if score.is_nan() { f64::INFINITY } else { score }
        };
        let settings = cell.settings(regime).iter().copied();
        settings.min_by(|&a, &b| score(a).total_cmp(&score(b))).expect("at least one setting")
    }

    /// Runs of the chosen setting, one for every data set.
    pub fn chosen_runs(&self, cell: &Cell, regime: Regime) -> Vec<&Run> {
        let setting = self.chosen(cell, regime);
        (0..cell.repetitions)
            .filter_map(|repetition| self.find(&Task { cell, regime, setting, repetition }))
            .collect()
    }

    /// Appends a line.
    pub fn add(&mut self, run: Run) -> Result<()> {
        let written = self.writer.serialize(&run).and_then(|()| Ok(self.writer.flush()?));
        written.map_err(|error| Error::System(format!("cannot write to runs.csv: {error}")))?;
        self.runs.push(run);
        Ok(())
    }
}

/// All but a last line that was interrupted.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    &bytes[..end]
}

fn drop_notice(path: &Path, voice: Voice) {
    voice.message(format_args!("{}: dropped the last line, which was cut short", shown(path)));
}

/// Compares settings with those that made the runs of a directory, or writes them.
fn check_settings(path: &Path, settings: &Settings, runs_exist: bool) -> Result<()> {
    let refuse =
        |what: String| Err(Error::Usage(format!("{}: {what}; use another --out", shown(path))));
    if path.exists() {
        let text =
            fs::read(path).map_err(|source| io::Error::Read { path: path.into(), source })?;
        return match serde_json::from_slice::<Settings>(&text) {
            Ok(found) if found == *settings => Ok(()),
            Ok(found) => refuse(format!("its runs were made with {found}, not {settings}")),
            Err(error) => refuse(format!("not the settings of runs: {error}")),
        };
    }
    if runs_exist {
        return refuse("missing, but there are runs".to_owned());
    }
    let mut json = serde_json::to_vec_pretty(settings).expect("plain data");
    json.push(b'\n');
    Ok(io::write_atomic(path, |out| out.write_all(&json))?)
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, quick, seed, dtype, backend } = self;
        let quick = if *quick { " --quick" } else { "" };
        write!(f, "version {version}{quick} --seed {seed} --dtype {dtype} --backend {backend}")
    }
}
