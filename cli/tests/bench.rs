//! `gibbsite bench`: what is in the table. Times are only asked to be numbers.

#[allow(dead_code, reason = "there are no arrays to make here")]
mod common;

use common::{isas, listing, refuse, succeed, text};
use gibbsite_kernels::registry::entries;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// Fields that are numbers in every row.
const NUMBERS: [&str; 10] =
    ["n", "d", "m", "seconds", "gflops", "gbs", "peak_gflops", "copy_gbs", "share", "scalar_ratio"];

/// The rows of a run, all of stdout.
fn rows(dir: &Path, args: &[&str]) -> Vec<Value> {
    let output = succeed(dir, &[&["bench", "--quick", "--json"], args].concat());
    let rows: Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
    rows.as_array().expect("an array").clone()
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}"))
}

fn name(row: &Value) -> String {
    ["kernel", "dtype", "isa", "shape"].map(|name| field(row, name)).join("/")
}

#[test]
fn every_kernel_type_and_level_has_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(dir.path(), &["--svg", "roofline.svg"]);
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for row in &rows {
        assert!(names.insert(name(row)), "{row} comes twice");
        seen.insert(["kernel", "dtype", "isa"].map(|name| field(row, name).to_owned()));
        for number in NUMBERS {
            let value = row[number].as_f64().unwrap_or_else(|| panic!("{number} of {row}"));
            assert!(value.is_finite() && value > 0.0, "{number} of {row}");
        }
        assert!(["flops", "bytes"].contains(&field(row, "limit")), "{row}");
        let unfused = ["relu.energy", "relu.score", "relu.param_sums"];
        assert_eq!(row["faer_ratio"].is_f64(), unfused.contains(&field(row, "kernel")), "{row}");
        assert!(row["ns_per_value"].is_f64() || row["ns_per_value"].is_null(), "{row}");
    }
    let normals = rows.iter().find(|row| row["kernel"] == "noise.normals").expect("normals");
    assert!(normals["ns_per_value"].is_f64());
    let mut expected = BTreeSet::new();
    for entry in entries::<f64>() {
        for dtype in ["f32", "f64"] {
            for isa in isas(dir.path()) {
                expected.insert([entry.name, dtype, &isa].map(str::to_owned));
            }
        }
    }
    assert_eq!(seen, expected);

    assert_eq!(listing(dir.path()), ["roofline.svg"]);
    let svg = fs::read_to_string(dir.path().join("roofline.svg")).unwrap();
    assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
    for label in ["chains", "Stein kernels", "ReLU energies", "f32: ", "f64: "] {
        assert!(svg.contains(label), "{label}");
    }
}

#[test]
fn rows_are_picked_by_name_type_and_level() {
    let dir = tempfile::tempdir().unwrap();
    let levels = isas(dir.path());
    let names = |args: &[&str]| -> Vec<_> { rows(dir.path(), args).iter().map(name).collect() };
    let shapes = names(&[&format!("relu.score/f32/{}/", levels[0])]);
    assert_eq!(shapes.len(), 3, "{shapes:?}");
    assert_eq!(names(&[&shapes[1]]), shapes[1..2]);
    let all = names(&["elementary.ln"]);
    assert_eq!(all.len(), 2 * levels.len(), "{all:?}");
    let of_type = names(&["elementary.ln", "--dtype", "f64"]);
    assert_eq!(of_type.len(), levels.len(), "{of_type:?}");
    assert!(of_type.iter().all(|name| name.starts_with("elementary.ln/f64/")), "{of_type:?}");
    let up_to = names(&["elementary.ln/f32", "--isa", "scalar"]);
    assert_eq!(up_to.len(), 1, "{up_to:?}");
    assert!(up_to[0].starts_with("elementary.ln/f32/scalar/"), "{up_to:?}");
}

#[test]
fn people_get_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let output = succeed(dir.path(), &["bench", "--quick", "relu.energy/f64"]);
    let table = text(&output.stdout);
    let lines: Vec<_> = table.lines().filter(|line| line.starts_with("relu.energy")).collect();
    let levels = isas(dir.path());
    assert_eq!(lines.len(), 3 * levels.len(), "{table}");
    assert!(lines.iter().all(|line| line.contains("GFLOP/s")), "{table}");
    for isa in levels {
        assert!(table.contains(&format!("peak of {isa}")), "{table}");
    }
    assert!(table.contains("copy of 8 "), "{table}");
    assert!(table.contains(concat!("gibbsite ", env!("CARGO_PKG_VERSION"), ", ")), "{table}");
}

#[test]
fn bad_usage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    refuse(dir.path(), &["bench", "relu.nothing"], "relu.nothing");
    refuse(dir.path(), &["bench", "--svg", "picture.png"], "picture.png");
    refuse(dir.path(), &["bench", "--svg", "missing/picture.svg"], "missing");
    refuse(dir.path(), &["bench", "relu.energy", "relu.score"], "relu.score");
}

#[test]
fn a_sweep_has_a_row_for_each_task_and_shape() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let rows = rows(dir, &["--sweep"]);
    let mut seen = BTreeSet::new();
    for row in &rows {
        let shape = ["n", "d", "m"].map(|name| row[name].as_u64().unwrap());
        assert!(seen.insert((field(row, "task"), shape)), "{row} comes twice");
        let seconds = row["seconds"].as_object().unwrap();
        assert!(seconds.contains_key("fused") && seconds.contains_key("faer"), "{row}");
        assert!(row["ratio"].as_f64().unwrap() >= 1.0);
        assert_eq!((field(row, "plan"), field(row, "dtype")), ("fused", "f64"));
    }
    assert!(seen.len() >= 12 && seen.len() % 3 == 0);
    let table = succeed(dir, &["bench", "--quick", "--sweep", "--dtype", "f32"]);
    assert!(text(&table.stdout).contains(&format!("of {} rows", rows.len())));
    refuse(dir, &["bench", "relu", "--sweep"], "--sweep");
}
