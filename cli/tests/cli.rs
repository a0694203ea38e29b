//! The program as a user meets it: exit status, output streams and files.

mod common;

use common::{command, isas, json, listing, numbers, refuse, run, succeed, text};
use gibbsite_cli::io::{
    self, Matrix,
    model::{Domain, ModelFile, write_model},
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What takes this long hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// Waits for the end of the program, which is killed if it does not come.
fn wait(mut child: Child) -> ExitStatus {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    panic!("the program hangs");
}

const N: usize = 131;
const M: usize = 37;
const D: usize = 5;

fn model(domain: Domain, base_scale: Option<f64>, bias: bool) -> ModelFile<f64> {
    ModelFile {
        theta: Matrix { data: numbers(M * D, 1.0).into(), rows: M, cols: D },
        w: numbers(M, 2.0),
        b: bias.then(|| numbers(M, 3.0)),
        domain,
        base_scale,
        beta: 0.5,
    }
}

/// A directory with models `plain` and `bias` on R^d and `sphere`, points and weights.
fn inputs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, model) in [
        ("plain.safetensors", model(Domain::Euclidean, Some(2.0), false)),
        ("bias.safetensors", model(Domain::Euclidean, None, true)),
        ("sphere.safetensors", model(Domain::Sphere, None, false)),
    ] {
        write_model(&path(name), &model).unwrap();
    }
    io::write_npy(&path("x.npy"), &[N, D], &numbers(N * D, 4.0)).unwrap();
    io::write_npy(&path("r.npy"), &[N], &numbers(N, 5.0)).unwrap();
    dir
}

/// The value of -β f at a point and its gradient, by the definition.
fn reference(model: &ModelFile<f64>, x: &[f64]) -> (f64, Vec<f64>) {
    let (mut energy, mut gradient) = (0.0, vec![0.0; D]);
    for (j, theta) in model.theta.data.chunks(D).enumerate() {
        let z: f64 = theta.iter().zip(x).map(|(theta, x)| theta * x).sum();
        let z = z + model.b.as_ref().map_or(0.0, |b| b[j]);
        if z > 0.0 {
            energy += model.w[j] * z / M as f64;
            gradient
                .iter_mut()
                .zip(theta)
                .for_each(|(g, theta)| *g += model.w[j] * theta / M as f64);
        }
    }
    (energy, gradient)
}

fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "{got} is not {want}");
    }
}

#[test]
fn energy_and_score_follow_the_definition() {
    let dir = inputs();
    let dir = dir.path();
    let x = numbers(N * D, 4.0);
    for (name, base_scale, bias) in [("plain", Some(2.0), false), ("bias", None, true)] {
        let model = model(Domain::Euclidean, base_scale, bias);
        let file = format!("{name}.safetensors");
        let (energies, gradients): (Vec<f64>, Vec<Vec<f64>>) =
            x.chunks(D).map(|x| reference(&model, x)).unzip();
        let prior = base_scale.map_or(0.0, |s: f64| 1.0 / (s * s));
        let scores: Vec<f64> = gradients
            .iter()
            .flatten()
            .zip(&x)
            .map(|(gradient, x)| -model.beta * gradient - prior * x)
            .collect();
        for (dtype, tolerance) in [("f64", 1e-13), ("f32", 1e-5)] {
            for (what, want, shape) in
                [("energy", &energies, vec![N]), ("score", &scores, vec![N, D])]
            {
                let report = json(
                    dir,
                    &[
                        what, "--model", &file, "--data", "x.npy", "--out", "o.npy", "--dtype",
                        dtype,
                    ],
                );
                assert_eq!(report["n"], N);
                assert_eq!(report["d"], D);
                assert!(report["seconds"].as_f64().unwrap() >= 0.0);
                let bytes = fs::read(dir.join("o.npy")).unwrap();
                let header = String::from_utf8_lossy(&bytes[..128]).into_owned();
                let descr = if dtype == "f64" { "'<f8'" } else { "'<f4'" };
                assert!(header.contains(descr), "{header}");
                let got = match shape[..] {
                    [n] => {
                        let got: Vec<f64> = io::read_vector(&dir.join("o.npy")).unwrap();
                        assert_eq!(got.len(), n);
                        got
                    }
                    _ => {
                        let got: Matrix<f64> = io::read_matrix(&dir.join("o.npy")).unwrap();
                        assert_eq!(vec![got.rows, got.cols], shape);
                        got.data.to_vec()
                    }
                };
                close(&got, want, tolerance);
            }
        }
    }
}

#[test]
fn grad_follows_the_definition() {
    let dir = inputs();
    let dir = dir.path();
    let model = model(Domain::Euclidean, None, true);
    let (x, r) = (numbers(N * D, 4.0), numbers(N, 5.0));
    let args = ["grad", "--model", "bias.safetensors", "--data", "x.npy", "--out", "g.safetensors"];
    for weighted in [false, true] {
        let weights: &[&str] = if weighted { &["--weights", "r.npy"] } else { &[] };
        let report = json(dir, &[&args, weights].concat());
        assert_eq!((&report["n"], &report["d"]), (&N.into(), &D.into()));
        let mut want = [vec![0.0; M], vec![0.0; M * D], vec![0.0; M]];
        for (x, r) in x.chunks(D).zip(&r) {
            let r = if weighted { *r } else { 1.0 } / M as f64;
            for j in 0..M {
                let theta = &model.theta.data[j * D..][..D];
                let z: f64 = theta.iter().zip(x).map(|(theta, x)| theta * x).sum();
                let z = z + model.b.as_ref().unwrap()[j];
                if z > 0.0 {
                    want[0][j] += r * z;
                    (0..D).for_each(|k| want[1][j * D + k] += r * model.w[j] * x[k]);
                    want[2][j] += r * model.w[j];
                }
            }
        }
        let bytes = fs::read(dir.join("g.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names = tensors.names();
        names.sort();
        assert_eq!(names, ["b", "theta", "w"]);
        for (name, want) in ["w", "theta", "b"].iter().zip(&want) {
            let data = tensors.tensor(name).unwrap();
            let data = data.data().chunks(8).map(|x| f64::from_le_bytes(x.try_into().unwrap()));
            close(&data.collect::<Vec<_>>(), want, 1e-12);
        }
    }
}

#[test]
fn outputs_have_the_same_bytes_for_all_threads_and_instruction_sets() {
    let dir = inputs();
    let dir = dir.path();
    let isas = isas(dir);
    for (model, what, out) in [
        ("plain", "energy", "o.npy"),
        ("bias", "energy", "o.npy"),
        ("plain", "score", "o.npy"),
        ("bias", "score", "o.npy"),
        ("plain", "grad", "o.safetensors"),
        ("bias", "grad", "o.safetensors"),
    ] {
        let model = format!("{model}.safetensors");
        for dtype in ["f32", "f64"] {
            let mut first: Option<Vec<u8>> = None;
            for isa in &isas {
                for threads in ["1", "2"] {
                    let files = [what, "--model", &model, "--data", "x.npy", "--out", out];
                    let flags = ["--dtype", dtype, "--isa", isa, "--threads", threads];
                    succeed(dir, &[&files[..], &flags, &["--backend", "fused"]].concat());
                    let bytes = fs::read(dir.join(out)).unwrap();
                    let first = first.get_or_insert_with(|| bytes.clone());
                    assert!(*first == bytes, "{what} {model} {dtype} {isa} {threads}");
                }
            }
        }
    }
}

/// Where the host refuses further threads (here for want of address space for their stacks).
#[test]
#[cfg(unix)]
fn without_threads_the_program_goes_on_alone() {
    let dir = inputs();
    let dir = dir.path();
    let args = ["energy", "--model", "plain.safetensors", "--data", "x.npy", "--out", "o.npy"];
    let args = [&args[..], &["--threads", "6"]].concat();
    succeed(dir, &args);
    let bytes = fs::read(dir.join("o.npy")).unwrap();
    let stack = (usize::MAX / 4).to_string();
    let output = command(dir, &args).env("RUST_MIN_STACK", stack).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let warning = "warning: cannot start 6 threads: going on with 1";
    assert!(text(&output.stderr).contains(warning), "{}", text(&output.stderr));
    assert!(fs::read(dir.join("o.npy")).unwrap() == bytes);
}

#[test]
fn a_row_with_nan_changes_its_own_result_only() {
    let dir = inputs();
    let dir = dir.path();
    let mut x = numbers(N * D, 4.0);
    let row = 57;
    x[row * D + 2] = f64::NAN;
    io::write_npy(&dir.join("nan.npy"), &[N, D], &x).unwrap();
    for what in ["energy", "score"] {
        let width = if what == "score" { D } else { 1 };
        let read = |data: &str| -> Vec<u64> {
            succeed(dir, &[what, "--model", "bias.safetensors", "--data", data, "--out", "o.npy"]);
            let bytes = fs::read(dir.join("o.npy")).unwrap();
            let bytes = &bytes[bytes.len() - N * width * 8..];
            bytes.chunks(8).map(|x| u64::from_le_bytes(x.try_into().unwrap())).collect()
        };
        let (clean, dirty) = (read("x.npy"), read("nan.npy"));
        for (i, (clean, dirty)) in clean.iter().zip(&dirty).enumerate() {
            if i / width == row {
                assert!(f64::from_bits(*dirty).is_nan());
            } else {
                assert_eq!(clean, dirty, "{what} of row {}", i / width);
            }
        }
    }
    // A sum over rows has no rows of its own.
    let grad = ["grad", "--model", "bias.safetensors", "--data", "nan.npy"];
    let report = json(dir, &[&grad[..], &["--out", "g.safetensors"]].concat());
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("nan.npy: NaN in row 57"), "{warning}");
}

#[test]
fn points_off_the_sphere_get_energies_with_a_warning_but_no_scores() {
    let dir = inputs();
    let dir = dir.path();
    let args = |what| [what, "--model", "sphere.safetensors", "--data", "x.npy", "--out", "o.npy"];
    refuse(dir, &args("score"), "x.npy: row 0");
    let output = succeed(dir, &args("energy"));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("warning: x.npy: row 0 has norm"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
    let report = json(dir, &args("energy"));
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
    let output = succeed(dir, &[&args("energy")[..], &["--quiet"]].concat());
    assert!(output.stderr.is_empty() && output.stdout.is_empty());
    let grad = ["grad", "--model", "sphere.safetensors", "--data", "x.npy"];
    let report = json(dir, &[&grad[..], &["--out", "g.safetensors"]].concat());
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn lines_and_columns_that_count_are_taken_for_numbers_with_a_warning() {
    let dir = inputs();
    let dir = dir.path();
    fs::write(dir.join("counted.csv"), "0,1,2,3,4\n1,2,3,4,6\n3,3,4,5,7\n2,1,4,1,5\n").unwrap();
    fs::write(dir.join("plain.csv"), "0,1,2,3,5\n1,2,3,4,6\n").unwrap();
    let model = ["--model", "plain.safetensors"];
    let warned = |args: &[&str], count| {
        let report = json(dir, args);
        let warnings = report["warnings"].as_array().unwrap();
        let counted = |text: &&Value| text.as_str().unwrap().starts_with("counted.csv: the first");
        assert_eq!(warnings.iter().filter(counted).count(), count, "{args:?}: {report}");
        report
    };
    let data = |name| ["--data", name];
    let out = ["--out", "o.npy"];
    let report = warned(&[&["energy"][..], &model, &data("counted.csv"), &out].concat(), 1);
    assert_eq!(report["n"], 4);
    warned(&[&["energy"][..], &model, &data("plain.csv"), &out].concat(), 0);
    warned(&[&["score"][..], &model, &data("counted.csv"), &out].concat(), 1);
    warned(&[&["ksd"][..], &data("counted.csv"), &["--scores", "counted.csv"]].concat(), 2);
    let draw = ["sample", "--steps", "10", "--no-plots", "--init", "counted.csv"];
    warned(&[&draw[..], &model, &out].concat(), 1);
    warned(&tiny(&data("counted.csv")), 1);
    // As pandas and R number rows.
    for (first, header) in [(0, ",a,b,c,d\n"), (1, "\"\",a,b,c,d\n")] {
        let lines: String = (first..first + 3).map(|k| format!("{k},0.5,0,{k},0\n")).collect();
        fs::write(dir.join("counted.csv"), format!("{header}{lines}")).unwrap();
        let report = warned(&[&["energy"][..], &model, &data("counted.csv"), &out].concat(), 1);
        let warning = report["warnings"][0].as_str().unwrap();
        assert!(warning.contains("first column, which numbers the rows"), "{warning}");
    }
}

#[test]
fn the_program_and_the_library_agree_on_what_lies_on_the_sphere() {
    let dir = inputs();
    let dir = dir.path();
    let model = ["--model", "sphere.safetensors", "--data", "near.npy", "--out", "o.npy"];
    for (dtype, limit) in [("f64", 1e-6), ("f32", 1e4 * f64::from(f32::EPSILON))] {
        for (share, on) in [(0.9, true), (1.1, false)] {
            let x = [1.0 + share * limit, 0.0, 0.0, 0.0, 0.0];
            io::write_npy(&dir.join("near.npy"), &[1, D], &x).unwrap();
            let args = |what| [&[what][..], &model, &["--dtype", dtype]].concat();
            let warnings = &json(dir, &args("energy"))["warnings"];
            assert_eq!(warnings.as_array().unwrap().is_empty(), on, "{dtype}, {share}");
            match on {
                true => drop(succeed(dir, &args("score"))),
                false => refuse(dir, &args("score"), "near.npy"),
            }
        }
    }
}

#[test]
fn samples_in_single_precision_are_taken_in_double_precision() {
    let dir = inputs();
    let dir = dir.path();
    let model = ["--model", "sphere.safetensors"];
    let draw = ["sample", "--chains", "200", "--steps", "20", "--out", "s.npy", "--no-plots"];
    succeed(dir, &[&draw[..], &model, &["--dtype", "f32"]].concat());
    let with = |rest: &[&str]| drop(succeed(dir, &[rest, &model, &["--data", "s.npy"]].concat()));
    with(&["score", "--out", "o.npy"]);
    with(&["gram", "--out", "h.npy"]);
    with(&["ksd"]);
}

#[test]
fn evaluation_refuses_bad_input() {
    let dir = inputs();
    let dir = dir.path();
    fs::write(dir.join("empty.npy"), "").unwrap();
    fs::write(dir.join("empty.csv"), "a,b,c,d,e\n").unwrap();
    fs::write(dir.join("words.csv"), "1,2,3,4,5\n1,2,three,4,5\n").unwrap();
    fs::write(dir.join("wide.csv"), "1,2,3,4,5,6\n").unwrap();
    fs::write(dir.join("short.csv"), "1\n2\n").unwrap();
    fs::write(dir.join("table.txt"), "1,2,3,4,5\n").unwrap();
    fs::write(dir.join("cut.npy"), &fs::read(dir.join("x.npy")).unwrap()[..200]).unwrap();
    let model = fs::read(dir.join("plain.safetensors")).unwrap();
    fs::write(dir.join("cut.safetensors"), &model[..model.len() - 1]).unwrap();
    fs::write(dir.join("hostile.safetensors"), [0xff; 64]).unwrap();
    let evaluate = |model, data, out, culprit| {
        for what in ["energy", "score"] {
            refuse(dir, &[what, "--model", model, "--data", data, "--out", out], culprit);
        }
    };
    for data in [
        "missing.npy",
        "empty.npy",
        "empty.csv",
        "words.csv",
        "wide.csv",
        "table.txt",
        "cut.npy",
        ".",
    ] {
        evaluate("plain.safetensors", data, "o.npy", data);
    }
    for model in ["missing.safetensors", "cut.safetensors", "hostile.safetensors", "x.npy", "."] {
        evaluate(model, "x.npy", "o.npy", model);
    }
    for out in ["o.csv", "o", "o.safetensors", ".", "missing/o.npy", "x.npy/o.npy"] {
        evaluate("plain.safetensors", "x.npy", out, "--out");
    }
    let grad = ["grad", "--model", "plain.safetensors", "--data", "x.npy"];
    let grad = |rest: &[&'static str], culprit| refuse(dir, &[&grad[..], rest].concat(), culprit);
    grad(&["--out", "g.npy"], "--out");
    grad(&["--out", "g.safetensors", "--weights", "short.csv"], "short.csv");
    grad(&["--out", "g.safetensors", "--weights", "x.npy"], "x.npy");
    grad(&["--out", "g.safetensors", "--weights", "missing.npy"], "missing.npy");
}

/// A model of neurons along the axes, so that coordinates are independent, as `axes.safetensors`; means and variances of its law,
/// and the mean potential, by sums over a grid.
fn write_axes(dir: &Path) -> (Vec<[f64; 2]>, f64) {
    let mut model = ModelFile {
        w: numbers(M, 2.0).iter().map(|w| w.abs()).collect(),
        beta: 1.5,
        ..model(Domain::Euclidean, Some(2.0), true)
    };
    let mut theta = vec![0.0; M * D];
    (0..M).for_each(|j| theta[j * D + j % D] = 1.5 + model.theta.data[j * D]);
    model.theta.data = theta.into();
    write_model(&dir.join("axes.safetensors"), &model).unwrap();
    let mut mean_potential = 0.0;
    let of_axis = |k: usize| {
        let [mut mass, mut first, mut second, mut potentials] = [0.0; 4];
        for t in (-40_000..=40_000).map(|i| 5e-4 * f64::from(i)) {
            let mut x = vec![0.0; D];
            x[k] = t;
            // Neurons of other axes are constants.
            let potential = model.beta * (reference(&model, &x).0) + t * t / 8.0;
            let weight = (-potential).exp();
            mass += weight;
            first += weight * t;
            second += weight * t * t;
            potentials += weight * potential;
        }
        let mean = first / mass;
        ([mean, second / mass - mean * mean], potentials / mass)
    };
    let axes: Vec<_> = (0..D).map(of_axis).collect();
    let constant = model.beta * reference(&model, &[0.0; D]).0;
    axes.iter().for_each(|(_, potential)| mean_potential += potential - constant);
    (axes.into_iter().map(|(moments, _)| moments).collect(), mean_potential + constant)
}

#[test]
fn every_sampler_draws_from_the_model() {
    const CHAINS: usize = 2000;
    let dir = inputs();
    let dir = dir.path();
    let (axes, mean_potential) = write_axes(dir);
    // Far from those of the base measure, means of 0 and variances of 4.
    let far = |[mean, variance]: &[f64; 2]| *mean < -0.7 && *variance < 2.2;
    assert!(axes.iter().all(far), "{axes:?}");
    for (sampler, rest) in [
        ("ula", &["--step", "0.1"][..]),
        ("mala", &[]),
        ("hmc", &["--leapfrog", "3"]),
        ("baoab", &["--friction", "0.5"]),
        ("uniform-mh", &["--warm-up", "0"]),
    ] {
        let args = [
            &["sample", "--model", "axes.safetensors", "--sampler", sampler, "--out", "s.npy"][..],
            &["--chains", "2000", "--steps", "200"],
            rest,
        ]
        .concat();
        let report = json(dir, &args);
        let s = io::read_matrix::<f64>(&dir.join("s.npy")).unwrap();
        assert_eq!((s.rows, s.cols), (CHAINS, D));
        for (k, [mean, variance]) in axes.iter().enumerate() {
            let x: Vec<f64> = s.data.chunks(D).map(|x| x[k]).collect();
            let found = x.iter().sum::<f64>() / CHAINS as f64;
            let spread = x.iter().map(|x| (x - found).powi(2)).sum::<f64>() / CHAINS as f64;
            // Standard errors are 0.04 at most and about 3 %; ULA's bias is smaller.
            let close = (found - mean).abs() < 0.2 && (spread / variance - 1.0).abs() < 0.16;
            assert!(close, "{sampler}, {k}: {found}, {spread} for {mean}, {variance}");
        }
        let exact = !["ula", "baoab"].contains(&sampler);
        assert_eq!(report["acceptance"].is_f64(), exact, "{sampler}");
        assert!(report["rhat_max"].as_f64().unwrap() < 1.5, "{sampler}");
        assert!(report["ess_min"].as_f64().unwrap() > 1000.0, "{sampler}");
        assert_eq!(report["step"].is_f64(), sampler != "uniform-mh");
        let potential = report["energy_mean"].as_f64().unwrap();
        assert!((potential - mean_potential).abs() < 0.2, "{sampler}: mean potential {potential}");
        assert!(report["seconds"].is_f64());
        for plot in ["s.trace.svg", "s.acf.svg"] {
            let svg = fs::read_to_string(dir.join(plot)).unwrap();
            assert!(svg.contains("</svg>") && !svg.contains("NaN"), "{sampler}: {plot}");
            fs::remove_file(dir.join(plot)).unwrap();
        }
    }
}

/// f = 0 under N(0, 2²) as `zero.safetensors`.
fn write_zero(dir: &Path) {
    let zero = ModelFile { w: vec![0.0; M], ..model(Domain::Euclidean, Some(2.0), false) };
    write_model(&dir.join("zero.safetensors"), &zero).unwrap();
}

#[test]
fn draws_that_are_not_to_be_believed_make_warnings() {
    let dir = inputs();
    let dir = dir.path();
    write_zero(dir);
    let draw = ["sample", "--no-plots", "--out", "s.npy", "--model", "zero.safetensors"];
    let warnings = |rest: &[&str], want: &[&str]| {
        let report = json(dir, &[&draw[..], rest].concat());
        let got = report["warnings"].as_array().unwrap();
        assert_eq!(got.len(), want.len(), "{rest:?}: {report}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.as_str().unwrap().contains(want), "{rest:?}: {got} is not {want}");
        }
    };
    // Independent draws, of which batches of few are enough; the potential of some chains is too short for its R-hat.
    warnings(&["--sampler", "uniform-mh", "--steps", "200"], &[]);
    warnings(&["--sampler", "uniform-mh", "--steps", "20"], &["R-hat of the potential is "]);
    warnings(&["--steps", "2"], &["2 draws are too few"]);
    // Trajectories of almost half a period take x to -x, which averages coordinates quickly, but not |x|².
    let flip = ["--sampler", "hmc", "--step", "0.29", "--leapfrog", "20", "--steps", "200"];
    warnings(&flip, &["R-hat of the potential is "]);
    let slow = ["--sampler", "ula", "--step", "0.001", "--chains", "100", "--steps", "200"];
    warnings(&slow, &["R-hat is ", "R-hat of the potential is ", "the ESS is too large"]);
    // Each step takes x to -2x.
    for steps in ["60", "500"] {
        let away = ["--sampler", "ula", "--step", "12", "--warm-up", "0", "--steps", steps];
        let report = json(dir, &[&draw[..], &away].concat());
        let warning = report["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("the chains run away"), "{warning}");
    }

    // Where no proposal is accepted, another step would not help: there is none.
    let steep = ModelFile { beta: 1e9, ..model(Domain::Sphere, None, false) };
    write_model(&dir.join("steep.safetensors"), &steep).unwrap();
    let stuck = ["--chains", "2", "--steps", "10", "--warm-up", "2000", "--model"];
    let draw = ["sample", "--no-plots", "--out", "s.npy", "--sampler", "uniform-mh"];
    let report = json(dir, &[&draw[..], &stuck, &["steep.safetensors"]].concat());
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.ends_with("take another --sampler"), "{warning}");
    refuse(dir, &[&draw[..], &["--warm-up", "-1"]].concat(), "a whole number from 0 to");
}

#[test]
fn a_density_that_may_have_no_constant_makes_a_warning() {
    let dir = inputs();
    let dir = dir.path();
    for (model, warned) in [("bias", true), ("plain", false), ("sphere", false)] {
        let file = format!("{model}.safetensors");
        let draw = ["sample", "--no-plots", "--steps", "20", "--out", "s.npy", "--model", &file];
        let report = json(dir, &draw);
        let warnings = report["warnings"].as_array().unwrap();
        let named = |text: &Value| text.as_str().unwrap().contains("no normalising constant");
        assert_eq!(warnings.iter().any(named), warned, "{report}");
    }
    let help = succeed(dir, &["sample", "--help"]);
    let words: Vec<_> = text(&help.stdout).split_whitespace().collect();
    assert!(words.join(" ").contains("without one from the standard normal law"));
}

#[test]
fn plots_of_an_earlier_run_do_not_stay() {
    let dir = inputs();
    let dir = dir.path();
    fs::write(dir.join("other.acf.svg"), "another run's").unwrap();
    let others = listing(dir);
    let files = |rest: &[&str]| {
        let model = ["--model", "sphere.safetensors", "--out", "s.npy", "--chains", "10"];
        succeed(dir, &[&["sample"][..], &model, rest].concat());
        let mut new = listing(dir);
        new.retain(|name| !others.contains(name));
        new
    };
    let all = ["s.acf.svg", "s.npy", "s.trace.svg"];
    assert_eq!(files(&["--steps", "20"]), all);
    // Too few draws for an autocorrelation.
    assert_eq!(files(&["--steps", "2"]), all[1..]);
    assert_eq!(files(&["--steps", "20"]), all);
    assert_eq!(files(&["--steps", "20", "--no-plots"]), all[1..2]);
    assert!(dir.join("other.acf.svg").exists());
}

#[test]
fn what_is_read_is_not_replaced() {
    let dir = inputs();
    let dir = dir.path();
    let read = fs::read(dir.join("x.npy")).unwrap();
    let input = ["--model", "plain.safetensors", "--data", "x.npy", "--out", "./x.npy"];
    for command in ["energy", "score", "gram", "thin"] {
        let points = if command == "thin" { &["--points", "2"][..] } else { &[] };
        refuse(dir, &[&[command], &input[..], points].concat(), "--out ./x.npy: would replace");
    }
    fs::copy(dir.join("plain.safetensors"), dir.join("m.safetensors")).unwrap();
    let input = ["--model", "m.safetensors", "--data", "x.npy", "--out", "m.safetensors"];
    refuse(dir, &[&["grad"], &input[..]].concat(), "--out m.safetensors: would replace");
    assert!(fs::read(dir.join("x.npy")).unwrap() == read);
    // What comes beside the result.
    fs::write(dir.join("history.csv"), "1,2\n3,5\n4,1\n").unwrap();
    let read = fs::read(dir.join("history.csv")).unwrap();
    let input = ["--data", "history.csv", "--scores", "history.csv", "--kernel", "linear"];
    let thin = ["thin", "--points", "2", "--out", "i.npy", "--csv", "history.csv"];
    refuse(dir, &[&thin[..], &input].concat(), "--csv history.csv: would replace");
    let train = ["train", "--data", "history.csv", "--out", ".", "--iterations", "1"];
    refuse(dir, &train, "--out ./history.csv: would replace");
    assert!(fs::read(dir.join("history.csv")).unwrap() == read);
    assert!(!dir.join("i.npy").exists() && !dir.join("model.safetensors").exists());
    // Chains that go on where they were are another matter.
    let draw = ["sample", "--model", "plain.safetensors", "--steps", "2", "--no-plots"];
    succeed(dir, &[&draw[..], &["--init", "x.npy", "--out", "x.npy"]].concat());
}

#[test]
fn places_that_take_no_files_are_refused_before_the_work() {
    let dir = inputs();
    let dir = dir.path();
    fs::create_dir_all(dir.join("out/model.safetensors")).unwrap();
    let train = ["train", "--iterations", "1000000000", "--out", "out"];
    refuse(dir, &train, "model.safetensors");
    let out = format!("{}.npy", "a".repeat(248));
    let draw = ["sample", "--steps", "5", "--model", "sphere.safetensors", "--out", &out];
    refuse(dir, &draw, ".trace.svg");
    succeed(dir, &[&draw[..], &["--no-plots"]].concat());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("none/s.npy", dir.join("link.npy")).unwrap();
        // Without end, if it is not refused at once.
        let draw = ["sample", "--steps", "1000000000", "--no-plots", "--out", "link.npy"];
        refuse(dir, &[&draw[..], &["--model", "sphere.safetensors"]].concat(), "--out link.npy");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn flags_that_ask_for_too_much_memory_are_named() {
    let dir = inputs();
    let dir = dir.path();
    let program = env!("CARGO_BIN_EXE_gibbsite");
    let limited = |args: &str, culprit: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", r#"ulimit -v 3000000; exec "$0" "$@""#, program]);
        let output = shell.current_dir(dir).args(args.split(' ')).arg("--quiet").output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}: {stderr}");
        assert!(stderr.starts_with(&format!("error: {culprit}: ")), "{args}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args}: {stderr}");
    };
    let sample = "sample --model plain.safetensors --out s.npy";
    limited(&format!("{sample} --chains 200000000"), "--chains");
    limited(&format!("{sample} --chains 200000000 --sampler uniform-mh"), "--chains");
    limited(&format!("{sample} --chains 1 --steps 200000000 --trajectory"), "--trajectory");
    let thin = "thin --model plain.safetensors --data x.npy --out i.npy";
    limited(&format!("{thin} --points 1000000000"), "--points");
    limited("train --dim 2 --n 500000000", "--n");
    limited("train --dim 2 --neurons 500000000", "--neurons");
    limited("train --dim 2 --negative bank --bank-size 500000000", "--bank-size");
    limited("train --dim 2 --negative persistent --chains 500000000", "--chains");
}

#[test]
fn samples_depend_on_the_seed_alone() {
    let dir = inputs();
    let dir = dir.path();
    let base = ["sample", "--chains", "50", "--steps", "20", "--no-plots", "--out", "s.npy"];
    for model in ["sphere.safetensors", "plain.safetensors"] {
        for sampler in ["ula", "mala", "hmc", "uniform-mh"] {
            let draw = |rest: &[&str]| {
                let model = ["--model", model, "--sampler", sampler];
                succeed(dir, &[&base[..], &model, rest].concat());
                fs::read(dir.join("s.npy")).unwrap()
            };
            let first = draw(&["--threads", "1"]);
            assert_ne!(first, draw(&["--seed", "1"]), "{sampler}");
            for isa in isas(dir) {
                for threads in ["1", "2"] {
                    let again = draw(&["--isa", &isa, "--threads", threads]);
                    assert!(first == again, "{sampler}, {model}, {isa}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn trajectories_end_in_the_final_states() {
    let dir = inputs();
    let dir = dir.path();
    let args = ["sample", "--model", "plain.safetensors", "--chains", "3", "--steps", "12"];
    let args = [&args[..], &["--thin", "4", "--no-plots", "--dtype", "f32"]].concat();
    succeed(dir, &[&args[..], &["--out", "end.npy"]].concat());
    let report = json(dir, &[&args[..], &["--trajectory", "--out", "all.npy"]].concat());
    assert_eq!(report["draws"], 3);
    let header = fs::read(dir.join("all.npy")).unwrap();
    assert!(text(&header[10..118]).contains("(3, 3, 5)"), "{}", text(&header[10..118]));
    let end = io::read_matrix::<f32>(&dir.join("end.npy")).unwrap().data;
    let end: Vec<u8> = end.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(header.ends_with(&end));
    // Chains start at given points, over again if there are fewer.
    io::write_npy(&dir.join("init.npy"), &[2, D], &[0.5; 2 * D]).unwrap();
    let args = ["sample", "--model", "plain.safetensors", "--init", "init.npy", "--steps", "1"];
    let still = ["--warm-up", "0", "--step", "1e-12", "--no-plots", "--out", "s.npy"];
    let report = json(dir, &[&args[..], &still].concat());
    assert_eq!(report["chains"], 2);
    close(&io::read_matrix::<f64>(&dir.join("s.npy")).unwrap().data, &[0.5; 2 * D], 1e-4);
}

#[test]
fn sampling_refuses_bad_input() {
    let dir = inputs();
    let dir = dir.path();
    io::write_npy(&dir.join("wide.npy"), &[2, D + 1], &[0.5; 2 * (D + 1)]).unwrap();
    io::write_npy(&dir.join("nan.npy"), &[1, D], &[f64::NAN; D]).unwrap();
    let base = ["sample", "--steps", "5", "--chains", "4", "--out", "s.npy", "--model"];
    let refuse = |model: &str, rest: &[&str], culprit: &str| {
        refuse(dir, &[&base[..], &[model], rest].concat(), culprit);
    };
    let plain = "plain.safetensors";
    for model in ["missing.safetensors", "x.npy", "."] {
        refuse(model, &[], model);
    }
    for step in ["0", "-1", "nan", "inf", "x"] {
        refuse(plain, &["--step", step], "--step");
    }
    refuse(plain, &["--sampler", "gibbs"], "gibbs");
    refuse(plain, &["--sampler", "ula", "--step", "1e200"], "--step");
    refuse(plain, &["--dtype", "f32", "--step", "1e-60"], "--step");
    refuse(plain, &["--dtype", "f32", "--step", "1e-60", "--init", "x.npy"], "--step");
    refuse(plain, &["--init", "wide.npy"], "wide.npy");
    refuse(plain, &["--init", "nan.npy"], "nan.npy");
    refuse(plain, &["--init", "missing.npy"], "missing.npy");
    refuse(plain, &["--leapfrog", "3"], "--leapfrog");
    refuse(plain, &["--friction", "3"], "--friction");
    refuse(plain, &["--thin", "0"], "--thin");
    refuse(plain, &["--thin", "6"], "--thin");
    refuse(plain, &["--sampler", "uniform-mh", "--step", "1"], "--step");
    refuse("sphere.safetensors", &["--init", "x.npy"], "x.npy");
    refuse("sphere.safetensors", &["--sampler", "baoab"], "baoab");
    refuse("bias.safetensors", &["--sampler", "uniform-mh"], "uniform-mh");
    let huge = ["sample", "--model", plain, "--chains", "1000000000", "--out", "s.npy"];
    self::refuse(dir, &huge, "--chains");
    let out = ["sample", "--model", plain, "--out", "s.csv"];
    self::refuse(dir, &out, "--out");
    // Places of plots are looked at before any work, which would take long here.
    fs::create_dir(dir.join("s.acf.svg")).unwrap();
    let long = ["sample", "--model", plain, "--steps", "1000000000", "--out", "s.npy"];
    self::refuse(dir, &long, "s.acf.svg");
}

#[test]
fn random_numbers_are_those_of_the_streams() {
    use std::{io::Read, process::Stdio};
    let dir = tempfile::tempdir().unwrap();
    let read = |rest: &[&str]| {
        let args = [&["random", "--seed", "5", "--streams", "3"], rest].concat();
        let mut child = command(dir.path(), &args).stdout(Stdio::piped()).spawn().unwrap();
        let mut bytes = vec![0; 24 << 16];
        child.stdout.take().unwrap().read_exact(&mut bytes).unwrap();
        // Nobody reads any more, which is no error.
        assert!(wait(child).success());
        bytes
    };
    let words = read(&["--kind", "u64"]);
    let words: Vec<u64> =
        words.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
    let uniforms = read(&["--kind", "uniform"]);
    let normals = read(&["--kind", "normal"]);
    let mut streams: Vec<_> = (0..3).map(|c| gibbsite::random::Stream::new(5, c)).collect();
    let number =
        |bytes: &[u8], i: usize| f64::from_le_bytes(bytes[8 * i..][..8].try_into().unwrap());
    for (i, &word) in words.iter().enumerate() {
        assert_eq!(word, streams[i % 3].bits());
        assert_eq!(number(&uniforms, i), (word >> 11) as f64 / (1_u64 << 53) as f64);
    }
    let mut streams: Vec<_> = (0..3).map(|c| gibbsite::random::Stream::new(5, c)).collect();
    for i in 0..words.len() {
        assert_eq!(number(&normals, i), streams[i % 3].normal());
    }
    // Single precision has numbers of its own from the same words.
    let single = |kind| -> Vec<f32> {
        let bytes = read(&["--kind", kind, "--dtype", "f32"]);
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    for (uniform, word) in single("uniform").iter().zip(&words) {
        assert_eq!(*uniform, (word >> 40) as f32 / (1 << 24) as f32);
    }
    let normals = single("normal");
    for c in 0..3 {
        let mut expected = vec![0.0_f32; normals.len() / 3];
        gibbsite::random::Stream::new(5, c as u64).fill_normal(&mut expected);
        let got = normals.iter().skip(c).step_by(3);
        assert!(got.zip(&expected).all(|(got, expected)| got == expected), "stream {c}");
    }
    refuse(dir.path(), &["random", "--streams", "0"], "--streams");
    refuse(dir.path(), &["random", "--kind", "cauchy"], "cauchy");
    refuse(dir.path(), &["random", "--json"], "--json: random writes binary");
}

#[test]
fn bad_usage_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    refuse(dir, &[], "subcommand");
    refuse(dir, &["resample"], "resample");
    refuse(dir, &["info", "extra"], "extra");
    refuse(dir, &["info", "--frobnicate"], "--frobnicate");
    refuse(dir, &["energy"], "--model");
    for (flag, value) in [
        ("--threads", "0"),
        ("--threads", "-1"),
        ("--threads", "1025"),
        ("--threads", "many"),
        ("--seed", "x"),
        ("--seed", "-1"),
        ("--dtype", "f16"),
        ("--isa", "sse9"),
        ("--backend", "cuda"),
    ] {
        refuse(dir, &["info", flag, value], flag);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bad_usage_has_its_status_where_stderr_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = command(dir.path(), &["resample"]).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn negative_numbers_in_any_notation_are_values() {
    let dir = inputs();
    let dir = dir.path();
    let sample = ["sample", "--model", "plain.safetensors", "--out", "s.npy"];
    for number in ["-1", "-1e-5", "-5e-1", "-inf", "-nan", "-.5", "--json"] {
        for flag in ["--step", "--friction", "--chains", "--steps", "--warm-up"] {
            let culprit = format!("invalid value '{number}' for '{flag} ");
            refuse(dir, &[&sample[..], &[flag, number]].concat(), &culprit);
        }
        for flag in ["--learning-rate", "--decay", "--base-scale", "--test", "--noise"] {
            let culprit = format!("invalid value '{number}' for '{flag} ");
            refuse(dir, &["train", "--data", "x.npy", flag, number], &culprit);
        }
    }
}

#[test]
fn blas_is_named_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let output = run(dir, &["info", "--backend", "blas"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let info = json(dir, &["info"]);
    if cfg!(feature = "blas") {
        let name = info["blas"].as_str().unwrap();
        assert!(stdout.contains(name) && stderr.starts_with(&format!("backend blas: {name}")));
        assert_eq!(info["backends"][2], "blas");
        assert!(info["blas_version"].is_string() || name == "accelerate");
    } else {
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            stderr,
            "error: --backend blas: built without BLAS: build with --features blas\n"
        );
        assert!(info["blas"].is_null() && info["blas_version"].is_null());
    }
}

#[test]
fn instruction_sets_are_capped_by_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let with_cap = |cap: &str, args: &[&str]| {
        command(dir, args).env("GIBBSITE_ISA", cap).output().expect("the program starts")
    };
    let output = with_cap("scalar", &["info", "--json"]);
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&info["isa"], &info["isa_cap"]), (&"scalar".into(), &"scalar".into()));
    for isa in ["avx512", "avx2", "neon"] {
        let output = with_cap("scalar", &["info", "--isa", isa]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stderr.lines().count(), 1);
        assert!(stderr.contains("--isa") && stderr.contains("available: scalar"), "{stderr}");
    }
    let output = with_cap("avx9", &["info"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("GIBBSITE_ISA"));
    assert_eq!(text(&output.stderr).lines().count(), 1);
}

#[test]
fn info_tells_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let info = json(dir.path(), &["info", "--threads", "2"]);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["threads"], 2);
    assert_eq!(info["isa"], info["isa_usable"][0]);
    for field in ["isa_found", "backends"] {
        assert!(!info[field].as_array().unwrap().is_empty());
    }
    for isa in isas(dir.path()) {
        assert_eq!(json(dir.path(), &["info", "--isa", &isa])["isa"], isa);
    }
    let output = succeed(dir.path(), &["info"]);
    assert!(text(&output.stdout).contains("instruction set used"));
    assert!(text(&succeed(dir.path(), &["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")));
    let help = succeed(dir.path(), &["--help"]);
    for command in
        ["train", "energy", "score", "grad", "sample", "gram", "ksd", "thin", "random", "info"]
    {
        assert!(text(&help.stdout).contains(command));
        assert!(text(&succeed(dir.path(), &[command, "--help"]).stdout).contains("--threads"));
    }
}

/// A training run that takes no time.
const TINY: [&str; 7] = ["train", "--neurons", "12", "--iterations", "4", "--evaluate-every", "2"];
const TEACHER: [&str; 4] = ["--n", "80", "--dim", "4"];

fn tiny<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&TINY[..], rest].concat()
}

/// The fields of the summary that are part of the contract.
const FIELDS: [&str; 15] = [
    "estimator",
    "regime",
    "n",
    "d",
    "neurons",
    "iterations",
    "seconds",
    "test_cross_entropy",
    "log_z",
    "log_z_se",
    "kl_to_teacher",
    "max_cosine",
    "f1_norm",
    "f2_norm",
    "ntk_drift",
];

#[test]
fn training_on_a_teacher_writes_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (estimator, regime) in
        [("ksd", "f1"), ("f1sd", "f1"), ("f1sd", "f2"), ("ksd", "f2"), ("mle", "f1"), ("mle", "f2")]
    {
        let flags = ["--estimator", estimator, "--regime", regime];
        let summary = json(dir, &tiny(&[&TEACHER[..], &flags].concat()));
        for field in FIELDS {
            let applies = field != "ntk_drift" || regime == "f1";
            assert_eq!(!summary[field].is_null(), applies, "{field}");
        }
        assert_eq!(summary["estimator"], estimator);
        assert_eq!(summary["regime"], regime);
        assert_eq!((&summary["n"], &summary["d"]), (&80.into(), &4.into()));
        assert_eq!((&summary["neurons"], &summary["iterations"]), (&12.into(), &4.into()));
        let names = [
            "checkpoint.safetensors",
            "discrepancy.svg",
            "history.csv",
            "kl.svg",
            "learning_curve.svg",
            "model.safetensors",
            "summary.json",
        ];
        let names = names.into_iter().filter(|name| estimator != "mle" || !name.starts_with('d'));
        assert!(listing(&dir.join("out")).into_iter().eq(names), "{estimator}");
        fs::remove_file(dir.join("out/discrepancy.svg")).ok();
        let stored = fs::read(dir.join("out/summary.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), summary);
        let history: Matrix<f64> = io::read_matrix(&dir.join("out/history.csv")).unwrap();
        assert_eq!((history.rows, history.cols), (3, 15));
        let header = fs::read_to_string(dir.join("out/history.csv")).unwrap();
        let columns = "iteration,seconds,train_cross_entropy,validation_cross_entropy,log_z,\
                       log_z_se,ess,f1_norm,acceptance,kl_to_teacher,max_cosine,train_loss,\
                       validation_loss,f2_norm,ntk_drift\n";
        assert!(header.starts_with(columns), "{header}");
        let drift = [0, 1, 2].map(|row| history.data[15 * row + 14]);
        match regime {
            "f1" => assert!(drift[0] == 0.0 && drift[1] > 0.0 && drift[2] > drift[1], "{drift:?}"),
            _ => assert!(drift.iter().all(|drift| drift.is_nan()), "{drift:?}"),
        }
        let best = summary["best_iteration"].as_u64().unwrap() as usize / 2;
        assert_eq!(summary["f2_norm"], history.data[15 * best + 13]);
        if regime == "f1" {
            assert_eq!(summary["ntk_drift"], history.data[15 * best + 14]);
        }
        let model: ModelFile<f64> =
            io::model::read_model(&dir.join("out/model.safetensors")).unwrap();
        assert_eq!((model.theta.rows, model.theta.cols), (12, 4));
        assert_eq!((model.domain, model.base_scale, model.beta), (Domain::Sphere, None, 1.0));
    }
}

#[test]
fn training_does_not_depend_on_threads_or_instruction_set() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut first: Option<Vec<u8>> = None;
    for isa in isas(dir) {
        for threads in ["1", "2"] {
            let flags = ["--isa", &isa, "--threads", threads, "--backend", "fused"];
            let mut model = Vec::new();
            for more in [
                &["--bias", "--estimator", "mle"][..],
                &["--bias", "--estimator", "ksd"],
                &["--bias", "--estimator", "f1sd"],
                &["--estimator", "f1sd", "--critic", "network"],
                &["--optimiser", "transport"],
            ] {
                succeed(dir, &tiny(&[&TEACHER[..], &flags, more].concat()));
                model.extend(fs::read(dir.join("out/model.safetensors")).unwrap());
            }
            assert!(
                *first.get_or_insert_with(|| model.clone()) == model,
                "{isa}, {threads} threads"
            );
        }
    }
    succeed(dir, &tiny(&[&TEACHER[..], &["--seed", "1"]].concat()));
    assert!(!first.unwrap().starts_with(&fs::read(dir.join("out/model.safetensors")).unwrap()));
}

/// The files of a run but for what counts seconds, which is column 1 of the history.
fn results(out: &Path) -> (Vec<u8>, Vec<f64>, Value) {
    let mut summary: Value =
        serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    for field in ["seconds", "training_seconds", "resumed_from"] {
        summary.as_object_mut().unwrap().remove(field).expect(field);
    }
    let history: Matrix<f64> = io::read_matrix(&out.join("history.csv")).unwrap();
    let (history, columns) = (history.data.iter().enumerate(), history.cols);
    // NaN stands for what does not apply.
    let history =
        history.filter(|(k, _)| k % columns != 1).map(|(_, &x)| if x.is_nan() { -99.0 } else { x });
    (fs::read(out.join("model.safetensors")).unwrap(), history.collect(), summary)
}

/// Every coordinate has a critic of its own, but no name in the header of the checkpoint.
#[test]
fn runs_in_many_dimensions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    for (iterations, more) in [("1", &[][..]), ("2", &["--resume"])] {
        let run = ["train", "--estimator", "f1sd", "--critic", "network", "--dim", "100"];
        let size = ["--n", "20", "--neurons", "3", "--iterations", iterations];
        succeed(dir.path(), &[&run[..], &size, more].concat());
    }
}

#[test]
fn a_run_that_was_interrupted_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = |iterations, more: &[&'static str]| -> Vec<&str> {
        let flags =
            ["train", "--neurons", "12", "--evaluate-every", "2", "--iterations", iterations];
        [&flags[..], &TEACHER, &["--optimiser", "adam"], more].concat()
    };
    // One that ended goes on, as often as one likes.
    for iterations in ["4", "6", "20"] {
        // Seconds beyond what a clock counts are never.
        let more: &[&str] =
            if iterations == "4" { &["--checkpoint-every", "1e300"] } else { &["--resume"] };
        succeed(dir, &flags(iterations, more));
    }
    let parts = results(&dir.join("out"));
    let report = json(dir, &flags("20", &["--resume"]));
    assert_eq!(report["resumed_from"], 20);
    let straight = json(dir, &flags("20", &[]));
    assert!(straight["resumed_from"].is_null());
    assert_eq!(results(&dir.join("out")), parts);

    // One that was killed.
    let endless = flags("1000000", &["--checkpoint-every", "0", "--quiet"]);
    fs::remove_dir_all(dir.join("out")).unwrap();
    let mut child = command(dir, &endless).spawn().unwrap();
    let file = dir.join("out/checkpoint.safetensors");
    let (mut ended, begin) = (None, Instant::now());
    while !file.exists() && ended.is_none() && begin.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(5));
        ended = child.try_wait().unwrap();
    }
    assert_eq!(ended, None, "the run ended");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(file.exists(), "no checkpoint after {LIMIT:?}");
    let reached = io::checkpoint::read_checkpoint(&file).unwrap().counts["iteration"][0];
    let iterations = (reached + 6).to_string();
    let with = |more: &[&'static str]| {
        let mut flags = flags("1", more);
        let place = flags.iter().position(|&flag| flag == "1").unwrap();
        flags[place] = &iterations;
        json(dir, &flags)
    };
    assert_eq!(with(&["--resume"])["resumed_from"], reached);
    let parts = results(&dir.join("out"));
    with(&[]);
    assert_eq!(results(&dir.join("out")), parts);

    refuse(
        dir,
        &flags("20", &["--resume", "--seed", "1"]),
        "differs in: training data, validation data, seed",
    );
    refuse(dir, &flags("1", &["--resume"]), "--iterations 1: the checkpoint is at iteration");
    refuse(dir, &flags("20", &["--resume", "--out", "elsewhere"]), "elsewhere/checkpoint");
    for bytes in [&b"12"[..], &fs::read(dir.join("out/model.safetensors")).unwrap()] {
        fs::write(&file, bytes).unwrap();
        refuse(dir, &flags("20", &["--resume"]), "checkpoint.safetensors");
    }
}

/// Forty "images" of 2×3 pixels.
fn images(dir: &Path) {
    let pixels = numbers(240, 1.0).iter().map(|x| x.abs().round()).collect::<Vec<_>>();
    io::write_npy(&dir.join("images.npy"), &[40, 6], &pixels).unwrap();
}

#[test]
fn training_on_own_data_works_in_both_domains() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    images(dir);
    for (domain, dtype, more) in [
        ("sphere", "f64", vec!["--negative", "independence", "--chains", "20", "--steps", "2"]),
        ("sphere", "f32", vec!["--negative", "bank", "--bank-size", "50", "--bias"]),
        ("euclidean", "f64", vec!["--bias", "--base-scale", "2"]),
        ("euclidean", "f32", vec!["--negative", "persistent", "--chains", "20"]),
    ] {
        let flags =
            ["--data", "images.npy", "--domain", domain, "--dtype", dtype, "--image", "2x3"];
        let summary = json(dir, &tiny(&[&flags[..], &more].concat()));
        for field in FIELDS {
            let applies = !["kl_to_teacher", "max_cosine"].contains(&field);
            assert_eq!(!summary[field].is_null(), applies, "{field}");
        }
        assert_eq!(
            (&summary["n"], &summary["n_validation"], &summary["n_test"]),
            (&32.into(), &4.into(), &4.into())
        );
        assert_eq!((&summary["d"], &summary["domain"]), (&6.into(), &domain.into()));
        let names = [
            "checkpoint.safetensors",
            "history.csv",
            "learning_curve.svg",
            "model.safetensors",
            "samples.png",
            "summary.json",
        ];
        assert_eq!(listing(&dir.join("out")), names);
        let sheet = fs::File::open(dir.join("out/samples.png")).unwrap();
        let decoder = png::Decoder::new(std::io::BufReader::new(sheet)).read_info().unwrap();
        let info = decoder.info();
        assert_eq!(info.color_type, png::ColorType::Grayscale);
        assert!(info.width > 2 * 8 * 60 && info.height > 8 * 40);
        succeed(
            dir,
            &[
                "energy",
                "--model",
                "out/model.safetensors",
                "--data",
                "images.npy",
                "--out",
                "e.npy",
            ],
        );
        fs::remove_dir_all(dir.join("out")).unwrap();
    }
}

/// On samples of a teacher.
const ON_THE_SPHERE: [&str; 27] = [
    "",
    "--seed 1",
    "--teacher j2w-5",
    "--dtype f32",
    "--bias",
    "--learning-rate 0.1",
    "--decay 0.5",
    "--weight-decay 0.1",
    "--initial-variance 0.3",
    "--optimiser adam",
    "--optimiser transport",
    "--regime f2",
    "--regime f2 --optimiser lbfgs",
    "--negative bank --bank-size 100",
    "--negative independence --chains 20 --steps 2",
    "--negative independence --chains 30 --steps 2",
    "--negative independence --chains 30 --steps 3",
    "--negative persistent --chains 20 --steps 2",
    "--negative persistent --chains 20 --steps 2 --restart 0.5",
    "--negative contrastive --chains 20 --steps 2",
    "--estimator ksd",
    "--estimator ksd --bandwidth 0.5",
    "--estimator ksd --statistic u",
    "--estimator ksd --regime f2 --optimiser lbfgs",
    "--estimator ksd --optimiser adam",
    "--estimator f1sd",
    "--estimator f1sd --critic network",
];

/// On data of our own.
const IN_SPACE: [&str; 18] = [
    "",
    "--base-scale 2",
    "--bias",
    "--validation 0.3",
    "--test 0.3",
    "--optimiser transport",
    "--regime f2 --optimiser lbfgs",
    "--negative bank --bank-size 100",
    "--negative independence --chains 20 --steps 2",
    "--negative contrastive --chains 20 --steps 2",
    "--negative jarzynski --chains 20",
    "--estimator ksd",
    "--estimator ksd --bandwidth 2",
    "--estimator ksd --statistic u",
    "--estimator dsm",
    "--estimator dsm --noise 0.5",
    "--estimator dsm --regime f2 --optimiser lbfgs",
    "--estimator dsm --optimiser adam",
];

#[test]
fn every_option_of_training_has_an_effect_and_finite_results() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    images(dir);
    let run = ["train", "--neurons", "12", "--iterations", "2", "--evaluate-every", "1"];
    let own = ["--data", "images.npy", "--domain", "euclidean"];
    let mut seen: Vec<Vec<f64>> = Vec::new();
    for (d, data, options) in [(4, TEACHER, &ON_THE_SPHERE[..]), (6, own, &IN_SPACE)] {
        for options in options {
            let summary = json(dir, &[&run[..], &data, &flags(options)].concat());
            for field in ["test_cross_entropy", "log_z", "log_z_se", "f1_norm", "f2_norm"] {
                // What is not finite is null.
                assert!(summary[field].is_f64(), "{options}: {field} of {summary}");
            }
            let model: ModelFile<f64> =
                io::model::read_model(&dir.join("out/model.safetensors")).unwrap();
            assert_eq!((model.theta.rows, model.theta.cols), (12, d), "{options}");
            assert_eq!(model.b.is_some(), options.contains("--bias"), "{options}");
            // The last line tells of parameters that have moved.
            let (_, history, _) = results(&dir.join("out"));
            let columns = if data == own { 12 } else { 14 };
            assert_eq!(history.len(), 3 * columns, "{options}");
            assert!(!seen.contains(&history), "{options} changes nothing");
            seen.push(history);
        }
    }
}

fn flags(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn a_matrix_library_gives_what_the_kernel_gives_but_for_last_digits() {
    let dir = inputs();
    let dir = dir.path();
    let mut differ = false;
    for command in [
        "energy --model plain.safetensors --data x.npy --out o.npy",
        "score --model bias.safetensors --data x.npy --out o.npy",
        "grad --model bias.safetensors --data x.npy --out o.safetensors",
        "sample --model plain.safetensors --chains 40 --steps 5 --warm-up 0 --step 0.1 --no-plots --out o.npy",
        "train --data x.npy --domain euclidean --neurons 70 --iterations 2 --out .",
    ] {
        let file = match command.split(' ').next_back() {
            Some(".") => "model.safetensors",
            Some(name) => name,
            None => unreachable!("commands have words"),
        };
        let [fused, faer] = ["fused", "faer"].map(|backend| {
            succeed(dir, &[&flags(command)[..], &["--backend", backend]].concat());
            let bytes = fs::read(dir.join(file)).unwrap();
            let numbers = match file.ends_with(".npy") {
                true => bytes[128..].to_vec(),
                false => {
                    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                    let mut names = tensors.names();
                    names.sort();
                    names
                        .iter()
                        .flat_map(|name| tensors.tensor(name).unwrap().data())
                        .copied()
                        .collect()
                }
            };
            let number = |x: &[u8]| f64::from_le_bytes(x.try_into().unwrap());
            numbers.chunks_exact(8).map(number).collect::<Vec<f64>>()
        });
        close(&faer, &fused, 1e-9);
        differ |= faer != fused;
    }
    assert!(differ, "the library was not asked");
}

#[test]
fn training_refuses_bad_input() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    images(dir);
    fs::write(dir.join("zero.csv"), "1,2\n0,0\n3,4\n5,6\n").unwrap();
    fs::write(dir.join("nan.csv"), "1,2\n1,nan\n3,4\n5,6\n").unwrap();
    fs::write(dir.join("tiny.csv"), "1,2\n3,4\n").unwrap();
    for (name, x) in [("zeros.npy", 0.0), ("small.npy", 1e-170), ("large.npy", 1e160)] {
        io::write_npy(&dir.join(name), &[40, 2], &[x; 80]).unwrap();
    }
    for (flags, culprit) in [
        (vec!["--estimator", "f1sd", "--domain", "euclidean"], "--estimator f1sd"),
        (vec!["--estimator", "ksd", "--negative", "bank"], "--negative"),
        (vec!["--estimator", "ksd", "--chains", "9"], "--chains"),
        (vec!["--bandwidth", "2"], "--bandwidth"),
        (vec!["--estimator", "f1sd", "--statistic", "u"], "--statistic"),
        (vec!["--estimator", "ksd", "--bandwidth", "0"], "--bandwidth"),
        (vec!["--estimator", "ksd", "--bandwidth", "1e308", "--out", "a/b/c"], "--bandwidth: "),
        (vec!["--estimator", "ksd", "--bandwidth", "1e60", "--dtype", "f32"], "--bandwidth: "),
        (vec!["--dtype", "f32", "--initial-variance", "1e300"], "--initial-variance: "),
        (
            vec![
                "--data",
                "images.npy",
                "--domain=euclidean",
                "--dtype=f32",
                "--base-scale=1e-300",
            ],
            "--base-scale: ",
        ),
        (vec!["--data", "images.npy", "--negative", "jarzynski"], "--negative jarzynski: needs"),
        (vec!["--estimator", "dsm"], "--domain euclidean"),
        (vec!["--estimator", "sliced"], "second derivatives"),
        (vec!["--noise", "0.1"], "--noise"),
        (vec!["--regime", "f2", "--initial-variance", "0.2"], "--initial-variance: needs"),
        (vec!["--optimiser", "transport", "--initial-variance", "0.2"], "--initial-variance: "),
        (
            vec!["--regime", "f2", "--optimiser", "lbfgs", "--learning-rate", "0.2"],
            "--learning-rate: --optimiser lbfgs",
        ),
        (
            vec!["--regime", "f2", "--optimiser", "lbfgs", "--decay", "0.2"],
            "--decay: --optimiser lbfgs",
        ),
        (vec!["--optimiser", "lbfgs"], "--regime f2"),
        (vec!["--optimiser", "lbfgs", "--regime", "f2", "--estimator", "f1sd"], "--optimiser"),
        (vec!["--optimiser", "lbfgs", "--regime", "f2", "--negative", "persistent"], "--optimiser"),
        (vec!["--optimiser", "transport", "--regime", "f2"], "--regime f1"),
        (vec!["--optimiser", "transport", "--bias"], "--bias"),
        (vec!["--critic", "network"], "--estimator f1sd"),
        (vec!["--decay", "-1"], "--decay"),
        (vec!["--resume"], "checkpoint.safetensors"),
        (vec!["--checkpoint-every", "-1"], "--checkpoint-every"),
        (vec!["--patience", "0"], "--patience"),
        (vec!["--estimator", "gan"], "--estimator"),
        (vec!["--regime", "f3"], "--regime"),
        (vec!["--domain", "torus"], "--domain"),
        (vec!["--domain", "euclidean"], "--domain"),
        (vec!["--teacher", "j9"], "--teacher"),
        (vec!["--dim", "1"], "--dim"),
        (vec!["--dim", "0"], "--dim"),
        (vec!["--n", "0"], "--n"),
        (vec!["--n", "1000000000"], "--n"),
        (vec!["--neurons", "0"], "--neurons"),
        (vec!["--neurons", "1000000000"], "--neurons"),
        (vec!["--iterations", "-1"], "--iterations"),
        (vec!["--n", "-5"], "--n"),
        (vec!["--evaluate-every", "0"], "--evaluate-every"),
        (vec!["--learning-rate", "0"], "--learning-rate"),
        (vec!["--learning-rate", "-1"], "--learning-rate"),
        (vec!["--weight-decay", "nan"], "--weight-decay"),
        (vec!["--initial-variance", "inf"], "--initial-variance"),
        (vec!["--image", "4x4"], "--image"),
        (vec!["--image", "4"], "--image"),
        (vec!["--chains", "10"], "--chains"),
        (vec!["--negative", "bank", "--steps", "10"], "--steps"),
        (vec!["--negative", "persistent", "--bank-size", "10"], "--bank-size"),
        (vec!["--validation", "0.1"], "--data"),
        (vec!["--out", "images.npy"], "--out"),
        (vec!["--out", "images.npy/out"], "--out"),
        (vec!["--data", "missing.npy"], "missing.npy"),
        (vec!["--data", "images.npy", "--teacher", "j1w2"], "--teacher"),
        (vec!["--data", "images.npy", "--n", "10"], "--n"),
        (vec!["--data", "images.npy", "--image", "3x3"], "--image 3x3"),
        (vec!["--data", "images.npy", "--test", "1.5"], "--test"),
        (vec!["--data", "images.npy", "--test", "0.95"], "--test"),
        (vec!["--data", "images.npy", "--base-scale", "1"], "--base-scale"),
        (vec!["--data", "zero.csv"], "zero.csv: row 1"),
        (vec!["--data", "nan.csv"], "nan.csv: NaN at row 1, column 1"),
        (vec!["--data", "tiny.csv"], "tiny.csv"),
        (vec!["--data", "zeros.npy", "--domain", "euclidean"], "error: zeros.npy: "),
        (vec!["--data", "small.npy", "--domain", "euclidean"], "error: small.npy: "),
        (vec!["--data", "large.npy", "--domain", "euclidean"], "error: large.npy: "),
    ] {
        let quiet = if flags.contains(&"--data") { &["--quiet"][..] } else { &[] };
        refuse(dir, &[&tiny(&flags), quiet].concat(), culprit);
    }
}

#[test]
fn a_run_that_patience_ends_reports_the_iterations_done() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flags = ["--learning-rate", "0.5", "--patience", "3", "--iterations", "100"];
    let flags = [&["train", "--neurons", "12", "--evaluate-every", "2"], &TEACHER[..], &flags];
    let summary = json(dir, &flags.concat());
    let history: Matrix<f64> = io::read_matrix(&dir.join("out/history.csv")).unwrap();
    let done = history.data[(history.rows - 1) * history.cols];
    assert!(done < 100.0, "{done}");
    assert_eq!(
        (&summary["iterations"], &summary["stopped_early"]),
        (&(done as u64).into(), &true.into())
    );
    let best = &summary["best_iteration"];
    let table = succeed(dir, &flags.concat());
    let line = format!("{best} of {done}, chosen by validation; --patience ended the run");
    assert!(text(&table.stdout).contains(&line), "{}", text(&table.stdout));
    assert_eq!(json(dir, &tiny(&TEACHER))["stopped_early"], false);
}

#[test]
fn divergence_is_an_error_that_keeps_what_was_reached() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    succeed(dir, &tiny(&TEACHER));
    assert!(dir.join("out/checkpoint.safetensors").exists());
    // Parameters that are finite still, but whose discrepancy overflows.
    let flags = ["--estimator", "ksd", "--regime", "f2", "--learning-rate", "1e160", "--quiet"];
    let output = run(dir, &tiny(&[&TEACHER[..], &flags].concat()));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let flags = ["--learning-rate", "1e300", "--quiet"];
    let output = run(dir, &tiny(&[&TEACHER[..], &flags].concat()));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("diverged") && stderr.contains("out"), "{stderr}");
    // No summary, not even that of the run before.
    let names = ["history.csv", "kl.svg", "learning_curve.svg", "model.safetensors"];
    assert_eq!(listing(&dir.join("out")), names);
    let history: Matrix<f64> = io::read_matrix(&dir.join("out/history.csv")).unwrap();
    assert_eq!(history.rows, 1);
    io::model::read_model::<f64>(&dir.join("out/model.safetensors")).unwrap();
}

#[test]
fn messages_go_to_stderr_and_quiet_silences_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let output = succeed(dir, &tiny(&TEACHER));
    let lines = text(&output.stderr).lines().count();
    assert!((1..=10).contains(&lines), "{lines} lines of progress");
    for word in ["test cross-entropy", "KL(teacher | model)", "out/model.safetensors"] {
        assert!(text(&output.stdout).contains(word), "{word}");
    }
    let output = succeed(dir, &tiny(&[&TEACHER[..], &["--quiet"]].concat()));
    assert!(output.stderr.is_empty() && output.stdout.is_empty());
    let output = succeed(dir, &tiny(&[&TEACHER[..], &["--quiet", "--json"]].concat()));
    assert!(output.stderr.is_empty());
    assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap().is_object());
}

#[test]
fn reproduce_refuses_bad_usage() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let reproduce = |args: &[&str], culprit| {
        refuse(dir, &[&["reproduce", "--quick"], args].concat(), culprit);
    };
    reproduce(&[], "--out");
    reproduce(&["j3w1", "--out", "o"], "j4w7.5");
    reproduce(&["--estimator", "mle,mmd", "--out", "o"], "f1sd");
    fs::write(dir.join("file"), "").unwrap();
    reproduce(&["--out", "file"], "file");
    fs::create_dir(dir.join("o")).unwrap();
    fs::write(dir.join("o/runs.csv"), "").unwrap();
    reproduce(&["--out", "o"], "settings.json");
}

#[test]
fn the_help_of_reproduce_names_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let help = succeed(dir.path(), &["reproduce", "--help"]);
    for word in ["runs.csv", "results.csv", "table.md", "sphere.svg", "--quick"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
}
