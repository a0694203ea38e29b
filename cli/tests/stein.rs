//! The commands about Stein kernels: `gram`, `ksd` and `thin`.

mod common;

use common::{command, isas, json, listing, numbers, refuse, run, succeed, text};
use gibbsite::{
    Rows,
    random::Stream,
    stein::{Gram, Statistic, SteinKernel, TILE, median_distance},
};
use gibbsite_cli::io::{
    self, Matrix,
    model::{Domain, ModelFile, write_model},
};
use std::{fs, path::Path};
use tempfile::TempDir;

/// Three points in the plane, with scores.
const X: [f64; 6] = [0.0, 0.0, 1.0, 0.5, -0.3, 2.0];
const S: [f64; 6] = [0.1, -0.2, -1.0, -0.5, 0.3, -1.7];

/// Points of more than one tile, and not a whole number of them.
const N: usize = 2 * TILE + 37;
const D: usize = 3;

fn path(dir: &TempDir, name: &str) -> std::path::PathBuf {
    dir.path().join(name)
}

/// `x`, `s`: the three points; `draws`: of the normal law in R³, with its scores `right` and others, `wrong`; `ball`: on the
/// sphere, with tangential scores `tangent`; the models `plain` and `sphere`.
fn inputs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, shape: [usize; 2], data: &[f64]| {
        io::write_npy(&path(&dir, name), &shape, data).unwrap();
    };
    write("x.npy", [3, 2], &X);
    write("s.npy", [3, 2], &S);
    let mut draws = vec![0.0; N * D];
    Stream::new(1, 0).fill_normal(&mut draws);
    write("draws.npy", [N, D], &draws);
    write("right.npy", [N, D], &draws.iter().map(|x| -x).collect::<Vec<_>>());
    write("wrong.npy", [N, D], &draws.iter().map(|x| 0.5 - x).collect::<Vec<_>>());
    let (mut ball, mut tangent) = (draws, numbers(N * D, 1.0));
    for (x, s) in ball.chunks_mut(D).zip(tangent.chunks_mut(D)) {
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        let radial: f64 = x.iter().zip(&*s).map(|(x, s)| x * s).sum();
        s.iter_mut().zip(x).for_each(|(s, x)| *s -= radial * *x);
    }
    write("ball.npy", [N, D], &ball);
    write("tangent.npy", [N, D], &tangent);
    for (name, domain) in
        [("plain.safetensors", Domain::Euclidean), ("sphere.safetensors", Domain::Sphere)]
    {
        let model = ModelFile {
            theta: Matrix { data: numbers(7 * D, 2.0).into(), rows: 7, cols: D },
            w: numbers(7, 3.0),
            b: None,
            domain,
            base_scale: (domain == Domain::Euclidean).then_some(1.0),
            beta: 1.0,
        };
        write_model(&path(&dir, name), &model).unwrap();
    }
    dir
}

fn matrix(dir: &TempDir, name: &str) -> Matrix<f64> {
    io::read_matrix(&path(dir, name)).unwrap()
}

fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * (1.0 + want.abs()), "{got} is not {want}");
}

/// A kernel of t = |x - y|².
#[derive(Clone, Copy)]
enum Radial {
    /// (c² + t)^b.
    Imq(f64, f64),
    /// exp(-t / 2h²).
    Rbf(f64),
}

/// The matrix by the definition, with a kernel of the distance if there is one and with 1 + x·y if `linear`.
fn definition(radial: Option<Radial>, linear: bool) -> Vec<f64> {
    let (d, rows) = (2, |data: &[f64; 6], i: usize| [data[2 * i], data[2 * i + 1]]);
    let dot = |a: [f64; 2], b: [f64; 2]| a[0] * b[0] + a[1] * b[1];
    let minus = |a: [f64; 2], b: [f64; 2]| [a[0] - b[0], a[1] - b[1]];
    let pair = |i: usize, j: usize| {
        let (x, y, s, z) = (rows(&X, i), rows(&X, j), rows(&S, i), rows(&S, j));
        let (r, difference) = (minus(x, y), minus(s, z));
        let t = dot(r, r);
        let mut u = 0.0;
        if let Some(radial) = radial {
            // The kernel and its first two derivatives by t.
            let [phi, first, second] = match radial {
                Radial::Imq(c, b) => {
                    let power = |by: f64| (c * c + t).powf(b - by);
                    [power(0.0), b * power(1.0), b * (b - 1.0) * power(2.0)]
                }
                Radial::Rbf(h) => {
                    let (phi, rate) = ((-t / (2.0 * h * h)).exp(), -0.5 / (h * h));
                    [phi, rate * phi, rate * rate * phi]
                }
            };
            u += phi * dot(s, z) - 2.0 * first * (d as f64 + dot(difference, r)) - 4.0 * second * t;
        }
        if linear {
            u += (1.0 + dot(x, y)) * dot(s, z) + dot(s, x) + dot(z, y) + d as f64;
        }
        u
    };
    (0..9).map(|k| pair(k / 3, k % 3)).collect()
}

#[test]
fn values_follow_the_definition() {
    let dir = inputs();
    for (flags, want) in [
        (
            vec!["--bandwidth", "1", "--exponent", "-0.5"],
            definition(Some(Radial::Imq(1.0, -0.5)), false),
        ),
        (
            vec!["--bandwidth", "1", "--domain", "euclidean"],
            definition(Some(Radial::Imq(1.0, -0.5)), false),
        ),
        (vec!["--kernel", "linear"], definition(None, true)),
        // The defaults said.
        (
            vec!["--kernel", "linear", "--bandwidth", "median", "--exponent", "-0.5"],
            definition(None, true),
        ),
        (
            vec!["--kernel", "imq+linear", "--bandwidth", "0.7"],
            definition(Some(Radial::Imq(0.7, -0.5)), true),
        ),
        (
            vec!["--bandwidth", "1.5", "--exponent", "-0.3"],
            definition(Some(Radial::Imq(1.5, -0.3)), false),
        ),
        (vec!["--kernel", "rbf", "--bandwidth", "0.7"], definition(Some(Radial::Rbf(0.7)), false)),
    ] {
        for (dtype, tolerance) in [("f64", 1e-14), ("f32", 1e-6)] {
            let input = ["--data", "x.npy", "--scores", "s.npy", "--dtype", dtype];
            let input = [&input[..], &flags].concat();
            let report = json(dir.path(), &[&["gram", "--out", "h.npy"], &input[..]].concat());
            assert_eq!((&report["n"], &report["d"]), (&3.into(), &2.into()));
            assert!(report["seconds"].as_f64().unwrap() >= 0.0);
            let bytes = fs::read(path(&dir, "h.npy")).unwrap();
            let descr = if dtype == "f64" { "'<f8'" } else { "'<f4'" };
            assert!(String::from_utf8_lossy(&bytes[..128]).contains(descr));
            let got = matrix(&dir, "h.npy");
            assert_eq!((got.rows, got.cols), (3, 3));
            got.data.iter().zip(&want).for_each(|(&got, &want)| close(got, want, tolerance));

            let sum: f64 = want.iter().sum();
            let diagonal = want[0] + want[4] + want[8];
            for (kind, want) in [("v", sum / 9.0), ("u", (sum - diagonal) / 6.0)] {
                let ksd = [&["ksd", "--statistic", kind], &input[..]].concat();
                let report = json(dir.path(), &ksd);
                close(report["statistic"].as_f64().unwrap(), want, tolerance);
                assert_eq!((&report["kind"], &report["p_value"]), (&kind.into(), &().into()));
                assert_eq!((&report["n"], &report["d"]), (&3.into(), &2.into()));
                assert_eq!(report["bandwidth"].is_null(), flags.contains(&"linear"));
            }
        }
    }
}

#[test]
fn the_matrix_is_symmetric_and_its_mean_is_the_statistic() {
    let dir = inputs();
    for flags in [
        &["--data", "draws.npy", "--scores", "wrong.npy"][..],
        &["--data", "ball.npy", "--scores", "tangent.npy", "--domain", "sphere"],
        &["--data", "ball.npy", "--model", "sphere.safetensors"],
        &["--data", "draws.npy", "--model", "plain.safetensors", "--kernel", "linear"],
    ] {
        succeed(dir.path(), &[&["gram", "--out", "h.npy", "--quiet"], flags].concat());
        let got = matrix(&dir, "h.npy");
        assert_eq!((got.rows, got.cols), (N, N));
        for i in 0..N {
            for j in 0..i {
                assert_eq!(got.data[i * N + j].to_bits(), got.data[j * N + i].to_bits());
            }
        }
        let mean = got.data.iter().sum::<f64>() / (N * N) as f64;
        let report = json(dir.path(), &[&["ksd"], flags].concat());
        let ksd = report["statistic"].as_f64().unwrap();
        assert!((mean - ksd).abs() < 1e-12 * ksd.abs().max(1e-3), "{mean} is not {ksd}");
    }
}

#[test]
fn results_are_those_of_the_library() {
    let dir = inputs();
    for (data, scores, domain) in
        [("draws.npy", "wrong.npy", "euclidean"), ("ball.npy", "tangent.npy", "sphere")]
    {
        let (x, s) = (matrix(&dir, data), matrix(&dir, scores));
        let (x, s) = (Rows::new(&x.data, N, D).unwrap(), Rows::new(&s.data, N, D).unwrap());
        let bandwidth = median_distance(x).unwrap();
        let kernel = SteinKernel::imq(bandwidth, -0.5).unwrap();
        let kernel = if domain == "sphere" { kernel.on_sphere() } else { kernel };
        let gram = Gram::new(&kernel, x, s).unwrap();
        let input = ["--data", data, "--scores", scores, "--domain", domain];
        succeed(dir.path(), &[&["gram", "--out", "h.npy"], &input[..]].concat());
        assert_eq!(matrix(&dir, "h.npy").data.to_vec(), gram.matrix().unwrap());
        let report = json(
            dir.path(),
            &[&["thin", "--points", "9", "--out", "i.npy", "--csv", "t.csv"], &input[..]].concat(),
        );
        let thinned = gram.thin(9, None, &mut |_| {}).unwrap();
        close(report["ksd_trace_last"].as_f64().unwrap(), thinned.ksd[8], 0.0);
        close(report["bandwidth"].as_f64().unwrap(), bandwidth, 0.0);
        assert_eq!((&report["points"], &report["n"]), (&9.into(), &N.into()));
        let bytes = fs::read(path(&dir, "i.npy")).unwrap();
        let header = String::from_utf8_lossy(&bytes[..128]).into_owned();
        assert!(header.contains("'<i8'") && header.contains("(9,)"), "{header}");
        let indices: Vec<f64> = io::read_vector(&path(&dir, "i.npy")).unwrap();
        assert!(indices.iter().zip(&thinned.indices).all(|(&a, &b)| a == b as f64));
        let table = fs::read_to_string(path(&dir, "t.csv")).unwrap();
        assert!(table.starts_with("step,index,ksd\n1,"), "{table}");
        let table = matrix(&dir, "t.csv");
        assert_eq!((table.rows, table.cols), (9, 3));
        for (step, row) in table.data.chunks(3).enumerate() {
            assert_eq!(row, [(step + 1) as f64, indices[step], thinned.ksd[step]]);
        }
    }
}

#[test]
fn every_kernel_is_that_of_the_library() {
    let dir = inputs();
    let imq = |c, b| SteinKernel::imq(c, b).unwrap();
    let kernels = [
        ("--kernel rbf --bandwidth 0.7", SteinKernel::rbf(0.7).unwrap()),
        ("--kernel imq --bandwidth 0.7", imq(0.7, -0.5)),
        ("--bandwidth 0.7 --exponent -0.3", imq(0.7, -0.3)),
        ("--kernel linear", SteinKernel::linear()),
        ("--kernel imq+linear --bandwidth 0.7", imq(0.7, -0.5).plus_linear().unwrap()),
        ("--kernel arccos", SteinKernel::arc_cosine()),
    ];
    let mut seen = Vec::new();
    for (data, scores, domain) in
        [("draws.npy", "wrong.npy", "euclidean"), ("ball.npy", "tangent.npy", "sphere")]
    {
        let (x, s) = (matrix(&dir, data), matrix(&dir, scores));
        let (x, s) = (Rows::new(&x.data, N, D).unwrap(), Rows::new(&s.data, N, D).unwrap());
        for (flags, kernel) in &kernels {
            let kernel =
                if domain == "sphere" { kernel.clone().on_sphere() } else { kernel.clone() };
            let gram = Gram::new(&kernel, x, s).unwrap();
            let input = ["--data", data, "--scores", scores, "--domain", domain];
            let input: Vec<&str> = input.into_iter().chain(flags.split(' ')).collect();
            succeed(dir.path(), &[&["gram", "--out", "h.npy"], &input[..]].concat());
            let values = matrix(&dir, "h.npy").data.to_vec();
            assert_eq!(values, gram.matrix().unwrap(), "{domain} {flags}");
            assert!(values.iter().all(|u| u.is_finite()) && !seen.contains(&values), "{flags}");
            seen.push(values);
            let ksd = json(dir.path(), &[&["ksd"], &input[..]].concat());
            let expected = gram.ksd(Statistic::V, &mut |_| {}).unwrap().squared;
            close(ksd["statistic"].as_f64().unwrap(), expected, 1e-15);
            let thin = ["thin", "--points", "4", "--out", "i.npy"];
            let thinned = json(dir.path(), &[&thin, &input[..]].concat());
            let expected = gram.thin(4, None, &mut |_| {}).unwrap().ksd[3];
            close(thinned["ksd_trace_last"].as_f64().unwrap(), expected, 1e-15);
        }
    }
}

#[test]
fn scores_of_a_model_are_those_it_writes() {
    let dir = inputs();
    for (model, data, domain) in [
        ("plain.safetensors", "draws.npy", "euclidean"),
        ("sphere.safetensors", "ball.npy", "sphere"),
    ] {
        let run = |args: &[&str]| succeed(dir.path(), args);
        run(&["score", "--model", model, "--data", data, "--out", "score.npy"]);
        run(&["gram", "--model", model, "--data", data, "--out", "a.npy"]);
        let own = ["gram", "--scores", "score.npy", "--data", data, "--domain", domain];
        run(&[&own[..], &["--out", "b.npy"]].concat());
        assert!(fs::read(path(&dir, "a.npy")).unwrap() == fs::read(path(&dir, "b.npy")).unwrap());
        run(&["gram", "--model", model, "--domain", domain, "--data", data, "--out", "a.npy"]);
    }
}

#[test]
fn outputs_do_not_depend_on_threads_or_instruction_set() {
    let dir = inputs();
    let isas = isas(dir.path());
    let input = ["--data", "draws.npy", "--scores", "wrong.npy"];
    for dtype in ["f32", "f64"] {
        let mut first = None;
        for isa in &isas {
            for threads in ["1", "2", "3"] {
                let flags = ["--dtype", dtype, "--isa", isa, "--threads", threads];
                let with = |args: &[&str]| json(dir.path(), &[args, &input, &flags].concat());
                with(&["gram", "--out", "h.npy"]);
                with(&["thin", "--points", "30", "--out", "i.npy", "--csv", "t.csv"]);
                let ksd = with(&["ksd", "--bootstrap", "150", "--statistic", "u"]);
                let chain = with(&["ksd", "--bootstrap", "150", "--correlated", "0.1"]);
                let files =
                    ["h.npy", "i.npy", "t.csv"].map(|name| fs::read(path(&dir, name)).unwrap());
                let numbers = [&ksd, &chain].map(|report| {
                    ["statistic", "std_error", "p_value"].map(|field| report[field].to_string())
                });
                let got = (files, numbers);
                let first = first.get_or_insert_with(|| got.clone());
                assert!(*first == got, "{dtype} {isa} {threads}");
            }
        }
    }
}

#[test]
fn tests_tell_wrong_scores_from_right_ones() {
    let dir = inputs();
    for (flags, tolerance) in [
        (vec![], 0.05),
        (vec!["--statistic", "u"], 0.05),
        (vec!["--kernel", "linear"], 0.05),
        (vec!["--correlated", "0.2"], 0.05),
    ] {
        let p = |scores: &str, seed: &str| {
            let input = ["ksd", "--data", "draws.npy", "--scores", scores, "--seed", seed];
            let report = json(dir.path(), &[&input[..], &["--bootstrap", "400"], &flags].concat());
            assert!(report["warnings"].as_array().unwrap().is_empty());
            report["p_value"].as_f64().unwrap()
        };
        let (right, wrong) = (p("right.npy", "0"), p("wrong.npy", "0"));
        assert!(right > tolerance && wrong < 0.01, "{flags:?}: {right}, {wrong}");
        assert_eq!(right, p("right.npy", "0"));
        assert_ne!(right, p("right.npy", "1"));
    }
}

#[test]
fn few_draws_make_a_warning() {
    let dir = inputs();
    let args = ["ksd", "--data", "x.npy", "--scores", "s.npy", "--bootstrap", "9"];
    let output = succeed(dir.path(), &args);
    assert_eq!(
        text(&output.stderr),
        "warning: 9 draws make a coarse p-value, no smaller than 0.10: take more --bootstrap\n"
    );
    for word in ["points", "imq, bandwidth", "KSD²", "V-statistic", "p-value", "9 draws"] {
        assert!(text(&output.stdout).contains(word), "{word}");
    }
    assert_eq!(json(dir.path(), &args)["warnings"].as_array().unwrap().len(), 1);
    let output = succeed(dir.path(), &[&args[..], &["--quiet"]].concat());
    assert!(output.stderr.is_empty() && output.stdout.is_empty());
}

#[test]
fn thinning_begins_where_the_kernel_is_least_and_repeats_points() {
    let dir = inputs();
    let input = ["--data", "draws.npy", "--scores", "wrong.npy"];
    succeed(dir.path(), &[&["gram", "--out", "h.npy"], &input[..]].concat());
    let gram = matrix(&dir, "h.npy");
    let diagonal = |i: usize| gram.data[i * N + i];
    let least = (0..N).min_by(|&a, &b| diagonal(a).total_cmp(&diagonal(b))).unwrap();
    let thin = |points: &str| {
        let flags = ["thin", "--points", points, "--out", "i.npy"];
        json(dir.path(), &[&flags, &input[..]].concat());
        io::read_vector::<f64>(&path(&dir, "i.npy")).unwrap()
    };
    let picked = thin("5");
    assert_eq!(picked[0], least as f64);
    assert_eq!(picked, thin("5"));
    // More than there are.
    let input = ["--data", "x.npy", "--scores", "s.npy"];
    let flags = ["thin", "--points", "10", "--out", "i.npy"];
    let report = json(dir.path(), &[&flags, &input[..]].concat());
    assert_eq!((&report["points"], &report["n"]), (&10.into(), &3.into()));
    assert!(report["distinct"].as_u64().unwrap() <= 3);
}

#[test]
fn plots_are_drawn() {
    let dir = inputs();
    let input = ["--data", "draws.npy", "--scores", "right.npy"];
    let ksd = [&["ksd", "--plots", "a/b"], &input[..]].concat();
    json(dir.path(), &ksd);
    assert_eq!(listing(&path(&dir, "a/b")), ["trace.svg"]);
    let report = json(dir.path(), &[&ksd[..], &["--bootstrap", "200"]].concat());
    assert_eq!(listing(&path(&dir, "a/b")), ["null.svg", "trace.svg"]);
    assert_eq!(report["files"], serde_json::json!(["a/b/trace.svg", "a/b/null.svg"]));
    for (name, words) in [
        ("a/b/null.svg", ["200 bootstrap draws", "V-statistic of the points"]),
        ("a/b/trace.svg", ["number of points", "KSD of the first points"]),
    ] {
        let svg = fs::read_to_string(path(&dir, name)).unwrap();
        assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"), "{name}");
        words.iter().for_each(|word| assert!(svg.contains(word), "{name}: {word}"));
    }
    let thin = ["thin", "--points", "4", "--out", "i.npy", "--plots", "c"];
    json(dir.path(), &[&thin, &input[..]].concat());
    assert_eq!(listing(&path(&dir, "c")), ["thinning.svg"]);
    let report = json(dir.path(), &[&thin[..], &["--data", "x.npy", "--scores", "s.npy"]].concat());
    assert_eq!(listing(&path(&dir, "c")), ["points.svg", "thinning.svg"]);
    assert_eq!(report["files"], serde_json::json!(["i.npy", "c/thinning.svg", "c/points.svg"]));
    let svg = fs::read_to_string(path(&dir, "c/points.svg")).unwrap();
    assert!(svg.contains("3 points") && svg.contains("4 picked"));
    // What is not drawn does not stay from an earlier run, but for what others put there.
    fs::write(path(&dir, "c/other.svg"), "").unwrap();
    json(dir.path(), &[&thin, &input[..]].concat());
    assert_eq!(listing(&path(&dir, "c")), ["other.svg", "thinning.svg"]);
    json(dir.path(), &ksd);
    assert_eq!(listing(&path(&dir, "a/b")), ["trace.svg"]);
}

/// The one line on stderr of a run that is refused.
fn message(dir: &Path, args: &[&str]) -> String {
    refuse(dir, args, "");
    let output = run(dir, args);
    let line = text(&output.stderr).strip_prefix("error: ").unwrap();
    line.trim_end().to_owned()
}

#[test]
fn bad_input_is_refused() {
    let dir = inputs();
    let write = |name: &str, shape: [usize; 2], data: &[f64]| {
        io::write_npy(&path(&dir, name), &shape, data).unwrap();
    };
    write("one.npy", [1, 2], &[1.0, 2.0]);
    write("equal.npy", [3, 2], &[1.0; 6]);
    write("nan.npy", [3, 2], &[0.0, 1.0, 2.0, f64::NAN, 3.0, 4.0]);
    write("inf.npy", [3, 2], &[0.0, 1.0, 2.0, 3.0, f64::INFINITY, 4.0]);
    write("huge.npy", [3, 2], &[1e300; 6]);
    write("long.npy", [4, 2], &[1.0; 8]);
    let tangent = matrix(&dir, "tangent.npy");
    let mut slanted = tangent.data.clone();
    let ball = matrix(&dir, "ball.npy").data;
    (0..D).for_each(|k| slanted[5 * D + k] += 0.5 * ball[5 * D + k]);
    write("slanted.npy", [N, D], &slanted);
    let all = ["gram --out o.npy", "ksd", "thin --points 2 --out o.npy"];
    fs::create_dir_all(dir.path().join("taken/points.svg")).unwrap();
    for (input, want) in [
        (
            "--data one.npy --scores one.npy",
            "--bandwidth median: number of points must be at least 2 for a median distance, got 1",
        ),
        (
            "--data equal.npy --scores s.npy",
            "--bandwidth median: median distance of the points must be positive and finite, got 0",
        ),
        ("--data nan.npy --scores s.npy", "nan.npy: NaN in the points at row 1, column 1"),
        (
            "--data nan.npy --scores s.npy --kernel linear",
            "nan.npy: NaN in the points at row 1, column 1",
        ),
        ("--data x.npy --scores nan.npy", "nan.npy: NaN in the scores at row 1, column 1"),
        ("--data x.npy --scores inf.npy", "inf.npy: inf in the scores at row 2, column 0"),
        (
            "--data x.npy --scores long.npy",
            "long.npy: scores of shape 4 x 2 for points of shape 3 x 2 in x.npy",
        ),
        (
            "--data x.npy --scores ball.npy",
            "ball.npy: scores of shape 293 x 3 for points of shape 3 x 2 in x.npy",
        ),
        (
            "--data x.npy --scores none.npy",
            "none.npy: cannot read: No such file or directory (os error 2)",
        ),
        (
            "--data x.npy --model plain.safetensors",
            "x.npy: rows of 2 numbers, but the model in plain.safetensors has dimension 3",
        ),
        (
            "--data ball.npy --model sphere.safetensors --domain euclidean",
            "--domain euclidean: the domain of the model in sphere.safetensors is sphere",
        ),
        (
            "--data ball.npy --model plain.safetensors --domain sphere",
            "--domain sphere: the domain of the model in plain.safetensors is euclidean",
        ),
        (
            "--data x.npy",
            "the following required arguments were not provided: <--scores <FILE>|--model <FILE>> (see --help)",
        ),
        (
            "--data x.npy --scores s.npy --model plain.safetensors",
            "the argument '--scores <FILE>' cannot be used with '--model <FILE>' (see --help)",
        ),
        (
            "--data x.npy --scores s.npy --kernel arccos --bandwidth 1",
            "--bandwidth: --kernel arccos has none",
        ),
        (
            "--data x.npy --scores s.npy --kernel linear --bandwidth 1",
            "--bandwidth: --kernel linear has none",
        ),
        (
            "--data x.npy --scores s.npy --kernel rbf --exponent -0.4",
            "--exponent: --kernel rbf has none (imq and imq+linear have)",
        ),
        (
            "--data x.npy --scores s.npy --kernel linear --exponent -0.4",
            "--exponent: --kernel linear has none (imq and imq+linear have)",
        ),
        (
            "--data x.npy --scores s.npy --exponent 0.5",
            "invalid value '0.5' for '--exponent <B>': expected a negative number (see --help)",
        ),
        (
            "--data x.npy --scores s.npy --exponent --json",
            "invalid value '--json' for '--exponent <B>': expected a negative number (see --help)",
        ),
        (
            "--data x.npy --scores s.npy --bandwidth -inf",
            "invalid value '-inf' for '--bandwidth <H>': expected `median` or a positive number (see --help)",
        ),
        (
            "--data x.npy --scores s.npy --bandwidth 0",
            "invalid value '0' for '--bandwidth <H>': expected `median` or a positive number (see --help)",
        ),
        (
            "--data x.npy --scores s.npy --bandwidth -1",
            "invalid value '-1' for '--bandwidth <H>': expected `median` or a positive number (see --help)",
        ),
        (
            "--data x.npy --scores s.npy --bandwidth 1e200",
            "--bandwidth: bandwidth must be a number whose square is within the range of numbers, got 1e200",
        ),
        (
            "--data ball.npy --scores slanted.npy --domain sphere",
            "slanted.npy: the score s of row 5 is not tangential to the unit sphere at its point x, s·x is 5.000e-1: subtract (s·x) x first",
        ),
        (
            "--data draws.npy --scores tangent.npy --domain sphere",
            "draws.npy: row 0 of the points has norm ",
        ),
    ] {
        for command in all {
            let args: Vec<&str> = command.split(' ').chain(input.split(' ')).collect();
            let got = message(dir.path(), &args);
            let whole = !want.ends_with("norm ");
            assert!(if whole { got == want } else { got.starts_with(want) }, "{args:?}: {got}");
        }
    }
    for (command, want) in [
        (
            "ksd --bootstrap 0",
            "invalid value '0' for '--bootstrap <B>': expected a whole number from 1 to 1000000000 (see --help)",
        ),
        (
            "ksd --correlated 0.1",
            "the following required arguments were not provided: --bootstrap <B> (see --help)",
        ),
        (
            "ksd --bootstrap 9 --correlated 0",
            "invalid value '0' for '--correlated <P>': expected a number above 0 and at most 0.5 (see --help)",
        ),
        (
            "ksd --bootstrap 9 --correlated 0.6",
            "invalid value '0.6' for '--correlated <P>': expected a number above 0 and at most 0.5 (see --help)",
        ),
        (
            "ksd --statistic w",
            "invalid value 'w' for '--statistic <NAME>' [possible values: u, v] (see --help)",
        ),
        (
            "thin --points 2 --out o.npy --plots taken",
            "--plots taken/points.svg: there is a directory of this name",
        ),
        (
            "ksd --plots x.npy",
            "--plots x.npy: cannot make the directory: File exists (os error 17)",
        ),
        (
            "thin --points 0 --out o.npy",
            "invalid value '0' for '--points <K>': expected a whole number from 1 to 1000000000 (see --help)",
        ),
        (
            "thin --out o.npy",
            "the following required arguments were not provided: --points <K> (see --help)",
        ),
        (
            "thin --points 1 --out o.csv",
            "--out o.csv: expected the name of a file that ends in .npy",
        ),
        (
            "thin --points 1 --out o.npy --csv o.npy",
            "--csv o.npy: expected the name of a file that ends in .csv",
        ),
        ("gram --out none/o.npy", "--out: cannot write to none: no such directory"),
        (
            "ksd --statistic u --data one.npy --scores one.npy --bandwidth 1",
            "--statistic u: number of points must be at least 2 for a U-statistic, got 1",
        ),
        (
            "ksd --bootstrap 9 --data one.npy --scores one.npy --bandwidth 1",
            "--bootstrap: needs at least 2 points, one.npy has 1",
        ),
        (
            "ksd --dtype f32 --bandwidth 1e-30",
            "--bandwidth: bandwidth must be within the type's range, squared as well, got ",
        ),
        (
            "ksd --scores huge.npy",
            "x.npy and huge.npy: KSD must be finite (points or scores are too large, or a bandwidth too small), got ",
        ),
        (
            "ksd --scores huge.npy --plots new",
            "x.npy and huge.npy: KSD must be finite (points or scores are too large, or a bandwidth too small), got ",
        ),
        (
            "thin --points 2 --scores huge.npy --out o.npy",
            "x.npy and huge.npy: Stein kernel must be finite (points or scores are too large), got ",
        ),
        (
            "gram --scores huge.npy --out o.npy",
            "x.npy and huge.npy: the Stein kernel of rows 0 and 0 is inf: points or scores are too large",
        ),
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        for (flag, file) in [("--data", "x.npy"), ("--scores", "s.npy")] {
            if !args.contains(&flag) {
                args.extend([flag, file]);
            }
        }
        let got = message(dir.path(), &args);
        assert!(
            if want.ends_with("got ") { got.starts_with(want) } else { got == want },
            "{args:?}: {got}"
        );
    }
}

#[test]
fn exponents_are_read_in_any_notation() {
    let dir = inputs();
    let ksd = |exponent| {
        let input = ["--data", "x.npy", "--scores", "s.npy"];
        json(dir.path(), &[&["ksd", "--exponent", exponent][..], &input].concat())
    };
    assert_eq!(ksd("-5e-1")["statistic"], ksd("-0.5")["statistic"]);
    assert_eq!(ksd("-1e-5")["exponent"], -1e-5);
}

#[test]
fn a_matrix_that_cannot_be_written_leaves_the_old_one() {
    let dir = inputs();
    fs::write(path(&dir, "h.npy"), "old").unwrap();
    let before = listing(dir.path());
    io::write_npy(&path(&dir, "s.npy"), &[3, 2], &[1e300; 6]).unwrap();
    let args = ["gram", "--data", "x.npy", "--scores", "s.npy", "--out", "h.npy"];
    let output = command(dir.path(), &args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(path(&dir, "h.npy")).unwrap(), b"old");
    assert_eq!(listing(dir.path()), before);
}

#[test]
fn help_tells_the_flags() {
    let dir = tempfile::tempdir().unwrap();
    for (command, words) in [
        ("gram", vec!["n×n", "--out"]),
        ("ksd", vec!["--statistic", "--bootstrap", "--correlated", "--plots", "[default: v]"]),
        ("thin", vec!["--points", "--csv", "--plots", "counted from 0"]),
    ] {
        let output = succeed(dir.path(), &[command, "--help"]);
        let help = text(&output.stdout);
        let kernel = ["--data", "--scores", "--model", "--kernel", "--bandwidth", "--exponent"];
        let values =
            ["rbf, imq, linear, imq+linear", "[default: imq]", "[default: median]", "--domain"];
        for word in words.iter().chain(&kernel).chain(&values) {
            assert!(help.contains(word), "{command}: {word}");
        }
        assert!(help.contains(&format!("gibbsite {command} --model")), "{command}: no example");
    }
}
