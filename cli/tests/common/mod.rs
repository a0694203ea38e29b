//! The program as tests run it.

use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// Runs the program in a directory.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gibbsite"));
    command.current_dir(dir).args(args);
    command
}

pub fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().expect("the program starts")
}

pub fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("UTF-8")
}

/// Runs the program, which must succeed.
pub fn succeed(dir: &Path, args: &[&str]) -> Output {
    let output = run(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    output
}

/// Runs the program, which must succeed, with `--json`; all of stdout must be one object.
pub fn json(dir: &Path, args: &[&str]) -> Value {
    let output = succeed(dir, &[args, &["--json"]].concat());
    let value: Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
    assert!(value.is_object());
    value
}

/// Runs the program, which must refuse with one line on stderr that names the culprit.
pub fn refuse(dir: &Path, args: &[&str], culprit: &str) {
    let before = listing(dir);
    let output = run(dir, args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
    assert!(stderr.contains(culprit), "{args:?}: {stderr:?} does not name {culprit:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert_eq!(listing(dir), before, "{args:?} left files behind");
}

pub fn listing(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// The instruction sets that `--isa` may name here.
pub fn isas(dir: &Path) -> Vec<String> {
    let info = json(dir, &["info"]);
    let names = info["isa_usable"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Numbers of both signs with full mantissas, the same in every run.
pub fn numbers(n: usize, start: f64) -> Vec<f64> {
    (0..n).map(|i| 3.0 * (start + 0.7 * i as f64).sin()).collect()
}
