//! Figures against the number of training points.

use super::results::Row;
use crate::{
    args::PaperEstimator,
    plot::{BLUE, Curve, GREEN, ORANGE, PURPLE, Plot, UPPER_RIGHT},
};
use plotters::{chart::SeriesLabelPosition, style::RGBColor};

/// Names and documents of all figures.
pub fn all(rows: &[Row]) -> Vec<(String, String)> {
    let mut figures = Vec::new();
    let mut add = |name: String, plot: Plot| figures.push((name, plot.svg()));
    for rows in rows.chunk_by(|a, b| a.experiment == b.experiment) {
        let experiment = &rows[0].experiment;
        let curves: Vec<&[Row]> = rows.chunk_by(|a, b| a.estimator == b.estimator).collect();
        for rows in &curves {
            let name = format!("{experiment}_{}", rows[0].estimator.name());
            add(format!("{name}_kl.svg"), kl(rows));
            add(format!("{name}_cross_entropy.svg"), cross_entropy(rows));
            if let Some(plot) = discrepancy(rows) {
                add(format!("{name}_discrepancy.svg"), plot);
            }
        }
        add(format!("{experiment}_cosine.svg"), cosine(&curves));
        add(format!("{experiment}_norm.svg"), norm(&curves));
    }
    figures
}

fn kl(rows: &[Row]) -> Plot {
    Plot {
        curves: vec![
            curve("f2: outer weights only", ORANGE, rows, |row| (row.f2_kl, row.f2_kl_sd)),
            curve("f1: all parameters", BLUE, rows, |row| (row.f1_kl, row.f1_kl_sd)),
        ],
        level: Some((rows[0].uniform_kl, "uniform law".to_owned())),
        log: true,
        legend: SeriesLabelPosition::LowerLeft,
        ..plot(&title("Distance to the teacher", rows), "KL(teacher | model) in nats")
    }
}

fn cross_entropy(rows: &[Row]) -> Plot {
    Plot {
        curves: vec![
            curve("f2: outer weights only", ORANGE, rows, |row| {
                (row.f2_test_cross_entropy, row.f2_test_cross_entropy_sd)
            }),
            curve("f1: all parameters", BLUE, rows, |row| {
                (row.f1_test_cross_entropy, row.f1_test_cross_entropy_sd)
            }),
        ],
        level: Some((rows[0].teacher_test_cross_entropy, "teacher".to_owned())),
        ..plot(&title("Test cross-entropy", rows), "nats relative to the uniform law")
    }
}

/// What the estimator makes small, if it is not the cross-entropy.
fn discrepancy(rows: &[Row]) -> Option<Plot> {
    type Value = fn(&Row) -> (f64, f64);
    let (y_label, f2, f1, teacher): (_, Value, Value, _) = match rows[0].estimator {
        PaperEstimator::Mle => return None,
        PaperEstimator::Ksd => (
            "kernel Stein discrepancy of test points",
            |row| (row.f2_test_ksd, row.f2_test_ksd_sd),
            |row| (row.f1_test_ksd, row.f1_test_ksd_sd),
            rows[0].teacher_test_ksd,
        ),
        PaperEstimator::F1sd => (
            "F1 Stein discrepancy of test points",
            |row| (row.f2_test_f1_sd, row.f2_test_f1_sd_sd),
            |row| (row.f1_test_f1_sd, row.f1_test_f1_sd_sd),
            rows[0].teacher_test_f1_sd,
        ),
    };
    Some(Plot {
        curves: vec![
            curve("f2: outer weights only", ORANGE, rows, f2),
            curve("f1: all parameters", BLUE, rows, f1),
        ],
        level: Some((teacher, "teacher".to_owned())),
        ..plot(&title("Stein discrepancy", rows), y_label)
    })
}

fn cosine(curves: &[&[Row]]) -> Plot {
    let value = |row: &Row| (row.f1_max_cosine, row.f1_max_cosine_sd);
    let title = format!("Neurons of f1: teacher {}", curves[0][0].experiment);
    Plot {
        curves: by_estimator(curves, value),
        level: Some((1.0, "same direction".to_owned())),
        legend: SeriesLabelPosition::LowerRight,
        ..plot(&title, "largest |cosine| with a neuron of the teacher's")
    }
}

fn norm(curves: &[&[Row]]) -> Plot {
    let value = |row: &Row| (row.f1_f1_norm, row.f1_f1_norm_sd);
    let title = format!("F1 norm of f1: teacher {}", curves[0][0].experiment);
    Plot {
        curves: by_estimator(curves, value),
        level: Some((curves[0][0].teacher_f1_norm, "teacher".to_owned())),
        legend: SeriesLabelPosition::LowerRight,
        ..plot(&title, "F1 norm")
    }
}

fn plot(title: &str, y_label: &'static str) -> Plot {
    Plot {
        title: title.to_owned(),
        x_label: "number of training points",
        y_label,
        curves: Vec::new(),
        level: None,
        mark: None,
        log: false,
        log_x: true,
        legend: UPPER_RIGHT,
    }
}

fn title(what: &str, rows: &[Row]) -> String {
    format!("{what}: teacher {}, {}", rows[0].experiment, rows[0].estimator.name())
}

fn by_estimator(curves: &[&[Row]], value: fn(&Row) -> (f64, f64)) -> Vec<Curve> {
    let color = |estimator| match estimator {
        PaperEstimator::Mle => BLUE,
        PaperEstimator::Ksd => GREEN,
        PaperEstimator::F1sd => PURPLE,
    };
    let estimator = |rows: &[Row]| rows[0].estimator;
    curves
        .iter()
        .map(|rows| curve(estimator(rows).name(), color(estimator(rows)), rows, value))
        .collect()
}

/// A value with its standard deviation as bars.
fn curve(label: &str, color: RGBColor, rows: &[Row], value: impl Fn(&Row) -> (f64, f64)) -> Curve {
    Curve {
        label: label.to_owned(),
        color,
        points: rows.iter().map(|row| (row.n as f64, value(row).0)).collect(),
        bars: rows.iter().map(|row| value(row).1).collect(),
    }
}
