use super::{
    engine::{self, Problem},
    ledger::Ledger,
    plan::{Cell, Plan, Setting},
    results::{self, Row},
};
use crate::{args::PaperEstimator, report::Voice, run::Context};
use gibbsite::{Backend, Isa};
use std::{fs, path::Path};

const FIRST: Setting = Setting { learning_rate: 0.5, weight_decay: 0.0 };
const SECOND: Setting = Setting { learning_rate: 0.05, weight_decay: 1e-8 };

fn tiny() -> Plan {
    let cell = |estimator, n| Cell {
        experiment: "j1w10".to_owned(),
        estimator,
        n,
        repetitions: 2,
        f2: vec![FIRST, SECOND],
        f1: vec![SECOND],
    };
    let cells = [(PaperEstimator::Mle, 20), (PaperEstimator::Mle, 40), (PaperEstimator::Ksd, 20)];
    Plan {
        cells: cells.map(|(estimator, n)| cell(estimator, n)).into(),
        iterations: 20,
        neurons: 10,
        held_out: 50,
    }
}

fn context(threads: usize) -> Context {
    Context {
        seed: 3,
        threads,
        dtype: "f64",
        dtype_given: true,
        isa: Isa::best(),
        backend: Backend::Auto,
        voice: Voice { quiet: true, json: false },
    }
}

/// Table and number of runs.
fn carry_out(plan: &Plan, directory: &Path, threads: usize) -> (String, usize) {
    let context = context(threads);
    let mut ledger = Ledger::open(directory, true, context).unwrap();
    let problems = Problem::<f64>::all(plan, context).unwrap();
    engine::train_all(plan, &problems, &mut ledger, context).unwrap();
    let rows = plan.cells.iter().map(|cell| Row::new(cell, &ledger, &problems));
    (results::csv(&rows.collect::<Vec<_>>()), ledger.runs().len())
}

/// 3 settings on the first data set and the chosen one of each regime on the second.
const RUNS: usize = 3 * (3 + 2);

#[test]
fn an_interrupted_run_goes_on_and_threads_change_nothing() {
    let (whole, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (table, runs) = carry_out(&tiny(), whole.path(), 1);
    assert_eq!(runs, RUNS);
    assert!(!table.contains("NaN"), "{table}");
    // Cut in the middle of a line.
    let path = other.path().join("runs.csv");
    let text = fs::read_to_string(whole.path().join("runs.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + RUNS);
    let kept = lines[..6].join("\n") + "\n";
    fs::copy(whole.path().join("settings.json"), other.path().join("settings.json")).unwrap();
    fs::write(&path, format!("{kept}{}", &lines[6][..20])).unwrap();
    assert_eq!(carry_out(&tiny(), other.path(), 2), (table.clone(), RUNS));
    let resumed = fs::read_to_string(&path).unwrap();
    assert!(resumed.starts_with(&kept));
    assert_eq!(resumed.lines().count(), 1 + RUNS);
    // Nothing is left to do.
    assert_eq!(carry_out(&tiny(), other.path(), 2), (table, RUNS));
    assert_eq!(fs::read_to_string(&path).unwrap(), resumed);
}

#[test]
fn divergence_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = tiny();
    plan.cells.truncate(1);
    let wild = Setting { learning_rate: 1e9, weight_decay: 0.0 };
    plan.cells[0].f2 = vec![wild, FIRST];
    plan.cells[0].f1 = vec![wild];
    let context = context(1);
    let mut ledger = Ledger::open(directory.path(), true, context).unwrap();
    let problems = Problem::<f64>::all(&plan, context).unwrap();
    engine::train_all(&plan, &problems, &mut ledger, context).unwrap();
    let row = Row::new(&plan.cells[0], &ledger, &problems);
    assert_eq!((row.f2_diverged, row.f1_diverged), (0, 2));
    assert_eq!(row.f2_learning_rate, FIRST.learning_rate);
    assert!(row.f2_kl.is_finite() && row.f1_kl.is_nan());
    // The figures leave them out.
    for (name, svg) in super::figures::all(&[row]) {
        assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"), "{name}");
    }
}

#[test]
fn runs_of_other_settings_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let refuse = |quick, context, culprit: &str| {
        let error = Ledger::open(path, quick, context).err().expect("an error").to_string();
        assert!(error.contains(culprit) && error.contains("another --out"), "{error}");
    };
    let ledger = Ledger::open(path, true, context(1)).unwrap();
    refuse(true, context(1), "another run");
    drop(ledger);
    refuse(false, context(1), "--quick");
    refuse(true, Context { seed: 4, ..context(1) }, "--seed 3");
    refuse(true, Context { dtype: "f32", ..context(1) }, "--dtype f64");
    fs::write(path.join("runs.csv"), "something,else\n1,2\n").unwrap();
    refuse(true, context(1), "runs.csv");
    fs::write(path.join("settings.json"), "{}").unwrap();
    refuse(true, context(1), "settings.json");
    fs::remove_file(path.join("settings.json")).unwrap();
    refuse(true, context(1), "missing");
}

#[test]
fn the_plans_cover_what_is_asked_for() {
    let all = [PaperEstimator::Mle, PaperEstimator::Ksd, PaperEstimator::F1sd];
    let names = ["j1w10".to_owned(), "j4w7.5".to_owned()];
    let full = Plan::full(&names, &all);
    assert_eq!(full.cells.len(), 2 * (8 + 8 + 6));
    let largest = full.cells.iter().filter(|cell| cell.n == 30_000);
    assert_eq!(largest.count(), 2 * 2);
    let quick = Plan::quick(&names[..1], &all[..1]);
    let sizes: Vec<_> = quick.cells.iter().map(|cell| cell.n).collect();
    assert_eq!(sizes, [100, 300, 1000, 5000]);
    for cell in full.cells.iter().chain(&quick.cells) {
        assert!(!cell.f2.is_empty() && !cell.f1.is_empty() && cell.repetitions > 1);
    }
}
