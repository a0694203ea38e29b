//! What a run leaves behind: tables, plots and the closing report.

use super::{CHECKPOINT, problem::Problem};
use crate::{
    Number,
    args::ImageSize,
    error::Result,
    io::{self, Matrix, model::ModelFile},
    plot::{BLUE, Curve, ORANGE, Plot, UPPER_RIGHT},
    report::Facts,
    run::remove,
    sheet,
};
use gibbsite::{
    Domain, ReluEnergy,
    train::{Estimator, Record, Regime},
};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One evaluation during training.
pub struct Point {
    pub record: Record,
    /// Since the start of training.
    pub seconds: f64,
    pub teacher: Option<ToTeacher>,
    pub f2_norm: f64,
    /// Since the first iterate, in the active regime.
    pub ntk_drift: Option<f64>,
}

/// Where a model stands with respect to its teacher.
#[derive(Clone, Copy)]
pub struct ToTeacher {
    pub kl: f64,
    pub max_cosine: f64,
}

/// The object of `--json` and of `summary.json`.
#[derive(Serialize)]
pub struct Summary {
    pub estimator: String,
    pub regime: String,
    pub problem: String,
    pub domain: String,
    pub n: usize,
    pub n_validation: usize,
    pub n_test: usize,
    pub d: usize,
    pub neurons: usize,
    pub bias: bool,
    pub base_scale: Option<f64>,
    /// Those done.
    pub iterations: usize,
    /// Whether patience ended the run before `--iterations`.
    pub stopped_early: bool,
    /// Where a run that was interrupted went on.
    pub resumed_from: Option<usize>,
    pub best_iteration: usize,
    pub seconds: f64,
    pub training_seconds: f64,
    pub train_cross_entropy: f64,
    pub validation_cross_entropy: f64,
    pub test_cross_entropy: f64,
    pub test_cross_entropy_se: Option<f64>,
    pub teacher_test_cross_entropy: Option<f64>,
    pub log_z: f64,
    pub log_z_se: f64,
    pub log_z_method: &'static str,
    pub ess: f64,
    pub kl_to_teacher: Option<f64>,
    pub max_cosine: Option<f64>,
    pub f1_norm: f64,
    pub f2_norm: f64,
    pub ntk_drift: Option<f64>,
    pub seed: u64,
    pub threads: usize,
    pub dtype: &'static str,
    pub isa: &'static str,
    pub backend: String,
    pub warnings: Vec<String>,
    pub files: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = Facts::default();
        facts.add(
            "problem",
            format_args!(
                "{}: {} training, {} validation and {} test points, d = {}, {}",
                self.problem, self.n, self.n_validation, self.n_test, self.d, self.domain
            ),
        );
        let bias = if self.bias { " with biases" } else { "" };
        facts.add("model", format_args!("{}, {} neurons{bias}", self.regime, self.neurons));
        if let Some(scale) = self.base_scale {
            facts.add("base measure", format_args!("Gaussian of scale {scale:.4}"));
        }
        let improving = 20 * self.best_iteration >= 19 * self.iterations;
        let hint = match self.stopped_early {
            true => "; --patience ended the run",
            false if improving => "; still improving, try more --iterations",
            false => "",
        };
        facts.add(
            "iterate",
            format_args!(
                "{} of {}, chosen by validation{hint}",
                self.best_iteration, self.iterations
            ),
        );
        if let Some(iteration) = self.resumed_from {
            facts.add("resumed", format_args!("from iteration {iteration}"));
        }
        facts.add(
            "time",
            format_args!(
                "{:.1} s, {:.1} s training ({} threads, {}, {})",
                self.seconds, self.training_seconds, self.threads, self.isa, self.dtype
            ),
        );
        let by = match self.estimator.as_str() {
            "ksd" => "the kernel Stein discrepancy",
            "f1sd" => "the F1 Stein discrepancy",
            "dsm" => "denoising score matching",
            _ => "maximum likelihood",
        };
        writeln!(f, "\nTrained by {by}\n{facts}\n")?;

        let mut facts = Facts::default();
        let (test, se) = (self.test_cross_entropy, self.test_cross_entropy_se);
        let se = se.map_or(String::new(), |se| format!(" ± {se:.4}"));
        facts.add("test cross-entropy", format_args!("{test:.4}{se} nats (base measure: 0)"));
        if let Some(teacher) = self.teacher_test_cross_entropy {
            facts.add("  of the teacher", format_args!("{teacher:.4}"));
        }
        facts.add("  on validation data", format_args!("{:.4}", self.validation_cross_entropy));
        facts.add("  on training data", format_args!("{:.4}", self.train_cross_entropy));
        facts.add(
            "log Z",
            format_args!(
                "{:.4} ± {:.4} ({}, effective sample size {:.0})",
                self.log_z, self.log_z_se, self.log_z_method, self.ess
            ),
        );
        if let Some(kl) = self.kl_to_teacher {
            facts.add("KL(teacher | model)", format_args!("{kl:.4} nats"));
        }
        if let Some(cosine) = self.max_cosine {
            facts.add("max cosine", format_args!("{cosine:.4} of a neuron with the teacher's"));
        }
        facts.add("F1 norm", format_args!("{:.4}", self.f1_norm));
        writeln!(f, "{facts}\n\nWritten")?;
        for (i, file) in self.files.iter().enumerate() {
            write!(f, "{}  {file}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl Summary {
    pub fn write(&self, directory: &Path) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(self).expect("plain data");
        json.push(b'\n');
        write_bytes(&directory.join("summary.json"), &json)
    }
}

/// All that a run may write.
pub const FILES: [&str; 8] = [
    "model.safetensors",
    "history.csv",
    "summary.json",
    CHECKPOINT,
    "learning_curve.svg",
    DISCREPANCY_PLOT,
    KL_PLOT,
    SAMPLES,
];
const DISCREPANCY_PLOT: &str = "discrepancy.svg";
const KL_PLOT: &str = "kl.svg";
const SAMPLES: &str = "samples.png";

/// Everything that files are made of, besides the summary.
pub struct Results<'a, T: Number> {
    pub problem: &'a Problem<T>,
    pub model: &'a ReluEnergy<T>,
    pub history: &'a [Point],
    pub best: &'a Record,
    pub teacher_validation: Option<f64>,
    pub estimator: Estimator,
    pub regime: Regime,
    /// Samples of the model, if they are images.
    pub images: Option<(ImageSize, Vec<T>)>,
}

impl<T: Number> Results<'_, T> {
    /// The files that [`write`](Self::write) writes, and the summary's.
    pub fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let written = |name: &&str| match *name {
            DISCREPANCY_PLOT => self.discrepancy_curve().is_some(),
            KL_PLOT => self.problem.teacher.is_some(),
            SAMPLES => self.images.is_some(),
            _ => true,
        };
        FILES.into_iter().filter(written).map(|name| directory.join(name)).collect()
    }

    /// All but the summary.
    pub fn write(&self, directory: &Path) -> Result<()> {
        // What this run may not write must not stay from an earlier one.
        for name in ["summary.json", DISCREPANCY_PLOT, KL_PLOT, SAMPLES] {
            remove(&directory.join(name))?;
        }
        io::model::write_model(&directory.join("model.safetensors"), &to_file(self.model))?;
        self.write_history(&directory.join("history.csv"))?;
        let curve = self.learning_curve().svg();
        write_bytes(&directory.join("learning_curve.svg"), curve.as_bytes())?;
        for (name, plot) in
            [(DISCREPANCY_PLOT, self.discrepancy_curve()), (KL_PLOT, self.kl_curve())]
        {
            if let Some(plot) = plot {
                write_bytes(&directory.join(name), plot.svg().as_bytes())?;
            }
        }
        if let Some((size, samples)) = &self.images {
            let data = to_f64(&self.problem.train.data);
            sheet::write(&directory.join(SAMPLES), *size, &data, &to_f64(samples))?;
        }
        Ok(())
    }

    /// One line per evaluation; NaN where a quantity does not apply.
    fn write_history(&self, path: &Path) -> Result<()> {
        let mut header = vec![
            "iteration",
            "seconds",
            "train_cross_entropy",
            "validation_cross_entropy",
            "log_z",
            "log_z_se",
            "ess",
            "f1_norm",
            "acceptance",
        ];
        if self.problem.teacher.is_some() {
            header.extend(["kl_to_teacher", "max_cosine"]);
        }
        header.extend(["train_loss", "validation_loss", "f2_norm", "ntk_drift"]);
        let rows = self.history.iter().map(|point| {
            let record = &point.record;
            let mut row = vec![
                record.iteration as f64,
                point.seconds,
                record.train_cross_entropy,
                record.validation_cross_entropy,
                record.log_z,
                record.log_z_se,
                record.ess,
                record.f1_norm,
                record.acceptance.unwrap_or(f64::NAN),
            ];
            row.extend(point.teacher.iter().flat_map(|teacher| [teacher.kl, teacher.max_cosine]));
            row.extend([record.train_loss, record.validation_loss]);
            row.extend([point.f2_norm, point.ntk_drift.unwrap_or(f64::NAN)]);
            row
        });
        Ok(io::write_csv(path, &header, rows)?)
    }

    fn learning_curve(&self) -> Plot {
        let best = self.best;
        Plot {
            title: self.title("Cross-entropy"),
            x_label: "iteration",
            y_label: "nats relative to the base measure",
            curves: vec![
                self.curve("training data", BLUE, |point| point.record.train_cross_entropy),
                self.curve("validation data", ORANGE, |point| {
                    point.record.validation_cross_entropy
                }),
            ],
            level: self.teacher_validation.map(|y| (y, "teacher, validation data".to_owned())),
            mark: Some((
                (best.iteration as f64, best.validation_cross_entropy),
                format!("chosen: iteration {}", best.iteration),
            )),
            log: false,
            log_x: false,
            legend: UPPER_RIGHT,
        }
    }

    /// The loss, where it is not the cross-entropy.
    fn discrepancy_curve(&self) -> Option<Plot> {
        let y_label = match self.estimator {
            Estimator::Ksd { .. } => "squared kernel Stein discrepancy",
            Estimator::F1Sd { .. } => "squared F1 Stein discrepancy",
            Estimator::Denoising { .. } => "denoising score matching",
            _ => return None,
        };
        let best = self.best;
        let positive = self
            .history
            .iter()
            .all(|point| point.record.train_loss > 0.0 && point.record.validation_loss > 0.0);
        Some(Plot {
            title: self.title("Loss"),
            x_label: "iteration",
            y_label,
            curves: vec![
                self.curve("training data", BLUE, |point| point.record.train_loss),
                self.curve("validation data", ORANGE, |point| point.record.validation_loss),
            ],
            level: None,
            mark: Some((
                (best.iteration as f64, best.validation_loss),
                format!("chosen by cross-entropy: iteration {}", best.iteration),
            )),
            log: positive,
            log_x: false,
            legend: UPPER_RIGHT,
        })
    }

    fn kl_curve(&self) -> Option<Plot> {
        let kl = |point: &Point| point.teacher.map_or(f64::NAN, |teacher| teacher.kl);
        let chosen = self.history.iter().find(|point| point.record == *self.best)?;
        self.problem.teacher.as_ref().map(|_| Plot {
            title: self.title("Distance to the teacher"),
            x_label: "iteration",
            y_label: "KL(teacher | model) in nats",
            curves: vec![self.curve("model", BLUE, kl)],
            level: None,
            mark: Some((
                (self.best.iteration as f64, kl(chosen)),
                format!("chosen by validation: iteration {}", self.best.iteration),
            )),
            log: true,
            log_x: false,
            legend: UPPER_RIGHT,
        })
    }

    fn title(&self, what: &str) -> String {
        format!("{what}: {}, {} neurons, {}", self.problem.name, self.model.neurons(), self.regime)
    }

    fn curve(
        &self,
        label: &str,
        color: plotters::style::RGBColor,
        y: impl Fn(&Point) -> f64,
    ) -> Curve {
        let points = self.history.iter().map(|p| (p.record.iteration as f64, y(p))).collect();
        Curve { label: label.to_owned(), color, points, bars: Vec::new() }
    }
}

fn to_file<T: Number>(model: &ReluEnergy<T>) -> ModelFile<T> {
    ModelFile {
        theta: Matrix {
            data: model.theta().as_slice().to_vec().into(),
            rows: model.neurons(),
            cols: model.dim(),
        },
        w: model.w().to_vec(),
        b: model.bias().map(<[T]>::to_vec),
        domain: match model.domain() {
            Domain::Sphere => io::model::Domain::Sphere,
            _ => io::model::Domain::Euclidean,
        },
        base_scale: model.base_scale().map(Into::into),
        beta: model.beta().into(),
    }
}

fn to_f64<T: Number>(x: &[T]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(io::write_atomic(path, |out| out.write_all(bytes))?)
}
