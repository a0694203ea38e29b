//! Files as the program meets them: round trips, other implementations of the formats, and
//! hostile files under an allocator that counts.

use gibbsite_cli::io::{
    self, Error, Matrix,
    model::{self, Domain, ModelFile},
};
use peak_alloc::PeakAlloc;
use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Most bytes that were allocated at once during `f`.
fn peak<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = f();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}

const SLACK: usize = 64 << 10;

static ALONE: Mutex<()> = Mutex::new(());

/// Lets one test run at a time, because the allocator counts for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder for a test that is alone.
struct Folder(tempfile::TempDir, #[expect(dead_code)] MutexGuard<'static, ()>);

impl Folder {
    fn new() -> Self {
        let alone = alone();
        Folder(tempfile::tempdir().unwrap(), alone)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Reads a file of any kind.
fn read(path: &Path) -> Result<(), Error> {
    if path.extension().is_some_and(|e| e == "safetensors") {
        model::read_model::<f64>(path).map(drop)
    } else {
        io::read_matrix::<f64>(path).map(drop)
    }
}

fn assert_clear(error: &Error, name: &str) {
    let message = error.to_string();
    assert!(message.contains(name), "{message}");
    assert!(!message.contains(char::is_control) && message.len() < 600, "{message:?}");
    assert!(error.is_bad_input(), "{message}");
}

/// Asserts that reading `bytes` fails clearly, at the cost of the file's own size plus 64 KiB.
fn assert_refused(folder: &Folder, name: &str, bytes: &[u8]) {
    let path = folder.file(name, bytes);
    let (result, peak) = peak(|| read(&path));
    let start = bytes[..bytes.len().min(200)].escape_ascii().to_string();
    assert_clear(&result.expect_err(&start), name);
    assert!(peak <= bytes.len() + SLACK, "{peak} bytes for a file of {}: {start}", bytes.len());
}

fn npy(version: u8, header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    let len = (header.len() as u32).to_le_bytes();
    let len = &len[..if version == 1 { 2 } else { 4 }];
    [b"\x93NUMPY", &[version, 0][..], len, header, data].concat()
}

fn safetensors(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

fn example() -> ModelFile<f32> {
    ModelFile {
        theta: Matrix { data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0].into(), rows: 3, cols: 2 },
        w: vec![0.5, -0.5, 0.25],
        b: Some(vec![-1.0, 0.0, 1.0]),
        domain: Domain::Sphere,
        base_scale: None,
        beta: 2.5,
    }
}

#[test]
fn hostile_arrays() {
    let folder = Folder::new();
    let dict =
        |shape: &str| format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let one = dict("1, 1");
    assert!(read(&folder.file("good.npy", &npy(1, &one, &[0; 8]))).is_ok());

    let mut files = vec![
        vec![],
        b"\x93".to_vec(),
        b"\x93NUMPY\x01\x00\xff\xff{'de".to_vec(),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'".to_vec(),
        b"\x93NUMPY\x03\x00\x00\x00\x00\x40{'".to_vec(),
        b"\x93NUMPY\x04\x00\x02\x00\x00\x00{}".to_vec(),
        b"PK\x03\x04 an .npz archive".to_vec(),
        npy(1, "", &[]),
        npy(1, "{}", &[]),
        npy(1, &one, &[0; 7]),
        npy(1, &one, &[0; 9]),
        npy(1, one.replace("False", "0"), &[0; 8]),
        npy(1, one.replace("'<f8'", "8"), &[0; 8]),
        npy(1, one.replace("'<f8'", "'<f\\x38'"), &[0; 8]),
        npy(1, one.replace("<f8", &"<".repeat(60_000)), &[0; 8]),
        npy(1, one.replace("<f8", "|O"), b"\x80\x04K\x01."),
        npy(1, one.replace("'<f8'", "[('x', '<f8')]"), &[0; 8]),
        npy(1, one.replace("descr", "\n\r\u{1b}[2J"), &[0; 8]),
        npy(1, one.replace('}', "'x': 1}"), &[0; 8]),
        npy(1, one.replace('}', "'shape': (1, 1)}"), &[0; 8]),
        npy(2, one.clone() + &" ".repeat(70_000), &[0; 8]),
        npy(3, b"\xff\xfe{", &[]),
    ];
    for shape in [
        "4611686018427387904, 4",
        "4294967296, 4294967296",
        "2305843009213693952, 1",
        "2305843009213693953, 1",
        "1000000000, 1",
        "0, 18446744073709551615",
        "-1, 8",
        "-1, -1",
        "1.0, 1",
        "0x1, 1",
        "1e0, 1",
        "1 1",
        "1,, 1",
        ", 1",
        "(1), 1",
        &"9".repeat(60_000),
        &"1, ".repeat(20_000),
    ] {
        files.push(npy(1, dict(shape), &[0; 8]));
    }
    for open in ["(", "[", "{", "{'shape': (", "{'descr': [", "'", "\""] {
        files.push(npy(2, open.repeat(60_000 / open.len()), &[]));
    }
    for bytes in files {
        assert_refused(&folder, "hostile.npy", &bytes);
    }
}

const METADATA: &str =
    r#""__metadata__":{"format":"gibbsite-1","domain":"sphere","base_scale":"none"}"#;

#[test]
fn hostile_models() {
    let folder = Folder::new();
    let tensor = |name: &str, shape: &str, begin: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"F64","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let model = |theta: &str, w: &str, len| {
        safetensors(format!("{{{METADATA},{theta},{w}}}"), &vec![0; len])
    };
    let (theta, w) = (&tensor("theta", "[2,1]", 0, 16), &tensor("w", "[2]", 16, 32));
    assert!(read(&folder.file("good.safetensors", &model(theta, w, 32))).is_ok());

    let files = [
        vec![],
        vec![0; 7],
        vec![0; 8],
        vec![0xff; 8],
        vec![0xff; 14],
        b"\x00\x00\x00\x40\x00\x00\x00\x00{\"a\":{".to_vec(),
        b"\x00\xe1\xf5\x05\x00\x00\x00\x00{}".to_vec(),
        b"\xf8\xff\xff\xff\xff\xff\xff\xff{}".to_vec(),
        safetensors("{}", &[]),
        safetensors("[]", &[]),
        safetensors("", &[]),
        safetensors("{}{}", &[]),
        safetensors(b"{\"\xff\":1}", &[]),
        safetensors(format!("{{{METADATA}}}"), &[]),
        safetensors(format!("{{{theta},{w}}}"), &[0; 32]),
        safetensors(format!("{{{METADATA},{METADATA},{theta},{w}}}"), &[0; 32]),
        safetensors(format!("{{{METADATA},{theta},{w}}}{}", " ".repeat(4096)), &[0; 32]),
        // Overlapping, with holes, too far, not far enough, reversed, wrapping.
        model(theta, &tensor("w", "[2]", 0, 16), 16),
        model(theta, &tensor("w", "[2]", 8, 24), 24),
        model(theta, &tensor("w", "[2]", 24, 40), 40),
        model(&tensor("theta", "[2,1]", 8, 24), &tensor("w", "[2]", 24, 40), 40),
        model(theta, w, 31),
        model(theta, w, 33),
        model(theta, &tensor("w", "[2]", 16, 0), 32),
        model(theta, &tensor("w", "[2]", 16, u64::MAX), 32),
        model(&tensor("theta", "[2,1]", u64::MAX - 15, 0), w, 32),
        // Shapes that wrap, are huge, are no shapes.
        model(&tensor("theta", "[4611686018427387904,4]", 0, 0), w, 32),
        model(&tensor("theta", "[2,1152921504606846976]", 0, 16), w, 32),
        model(&tensor("theta", "[2,18446744073709551616]", 0, 16), w, 32),
        model(&tensor("theta", "[2,-1]", 0, 16), w, 32),
        model(&tensor("theta", "[2,1.0]", 0, 16), w, 32),
        model(&tensor("theta", "[2,1,1]", 0, 16), w, 32),
        model(&tensor("theta", "2", 0, 16), w, 32),
        model(theta, theta, 16),
        model(theta, &format!("{w},{}", tensor("x", "[0]", 32, 32)), 32),
        model(theta, &format!("{w},{w}"), 32),
        model(&theta.replace("F64", "F16"), w, 32),
        model(&theta.replace("F64", "U64"), w, 32),
        model(&theta.replace("F64", "\\n"), w, 32),
    ];
    for bytes in files {
        assert_refused(&folder, "hostile.safetensors", &bytes);
    }
}

/// Headers of the largest size accepted that make the parser allocate as much as they can.
#[test]
fn greedy_models() {
    const LIMIT: usize = 2048;
    let folder = Folder::new();
    // Different keys of one and two letters.
    let letters = ('0'..='9').chain('a'..='z').chain('A'..='Z');
    let pairs = letters.clone().flat_map(|a| letters.clone().map(move |b| format!("{a}{b}")));
    let keys: Vec<String> = letters.clone().map(String::from).chain(pairs).collect();
    let object = |before: &str, value: &str, after: &str| {
        let mut text = before.to_owned();
        for key in &keys {
            let entry = format!("\"{key}\":{value},");
            if text.len() + entry.len() + after.len() > LIMIT {
                break;
            }
            text += &entry;
        }
        text.pop();
        text + after
    };
    let fill = |before: &str, unit: &str, after: &str| {
        let count = (LIMIT - before.len() - after.len()) / unit.len();
        format!("{before}{}{after}", unit.repeat(count))
    };
    let info = r#"{"dtype":"","shape":[],"data_offsets":[0,0]}"#;
    let theta = r#""theta":{"dtype":"F64","data_offsets":[0,0],"shape":["#;
    for header in [
        object("{", info, "}"),
        object("{", info, ""),
        object("{\"__metadata__\":{", "\"\"", "}}"),
        object("{\"__metadata__\":{", "\"\"", ""),
        object("{\"__metadata__\":{\"format\":\"gibbsite-1\",", "\"\"", "}}"),
        object("{\"__metadata__\":{", "1", "}}"),
        fill(&format!("{{{METADATA},{theta}"), "0,", "0]}}"),
        fill(&format!("{{{METADATA},{theta}"), "0,", "0"),
        fill(&format!("{{{METADATA},{theta}"), "9,", "9]}}"),
        fill("{\"", "\\n", "\":1}"),
        fill("{\"__metadata__\":{\"format\":\"", "\\u0000", "\"}}"),
        fill("{\"theta\":{\"", "\\u2028", "\":1}}"),
        fill("", "[", ""),
        fill("", "{\"a\":", ""),
        fill("", "{\"__metadata__\":", ""),
        fill("{\"theta\":{\"shape\":", "[", ""),
        fill("{\"theta\":", "[", ""),
    ] {
        // No data, so the file is hardly larger than its header.
        assert_refused(&folder, "greedy.safetensors", &safetensors(header, &[]));
    }
}

/// What the crate that parses headers of checkpoints may take beyond the file's size.
const CHECKPOINT_SLACK: usize = 256 << 10;

#[test]
fn hostile_checkpoints() {
    let folder = Folder::new();
    let refuse = |bytes: &[u8]| {
        let path = folder.file("hostile.safetensors", bytes);
        let (result, peak) = peak(|| io::checkpoint::read_checkpoint(&path).map(drop));
        assert_clear(&result.expect_err("an error"), "hostile.safetensors");
        assert!(peak <= bytes.len() + CHECKPOINT_SLACK, "{peak} bytes for {}", bytes.len());
    };
    for bytes in [&[][..], &[0; 7], &[0; 8], &[0xff; 64], &safetensors("{}", &[])] {
        refuse(bytes);
    }
    type Entry = fn(usize) -> String;
    let empty: Entry =
        |k| format!(r#","{k:x}":{{"dtype":"F64","shape":[0],"data_offsets":[0,0]}}"#);
    let other: Entry = |k| format!(r#","{k:x}":{{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}"#);
    let deep: Entry = |k| {
        format!(
            r#","{k:x}":{{"dtype":"F64","shape":[0{}],"data_offsets":[0,0]}}"#,
            ",0".repeat(3000)
        )
    };
    let string: Entry = |k| format!(r#","{k:x}":"""#);
    for limit in [8 << 10, 4 << 20] {
        for (between, entry, end) in [
            ("}", empty, "}"),
            ("}", other, "}"),
            ("}", deep, "}"),
            ("", string, "}}"),
            ("", string, ""),
        ] {
            let mut header =
                format!(r#"{{"__metadata__":{{"format":"gibbsite-checkpoint-1"{between}"#);
            for entry in (0..).map(entry) {
                if header.len() + entry.len() + end.len() > limit {
                    break;
                }
                header += &entry;
            }
            // A byte too many, should the header be good.
            refuse(&safetensors(header + end, &[0]));
        }
    }
}

#[test]
fn hostile_tables_cost_no_more_than_sixteen_times_their_size() {
    let folder = Folder::new();
    for unit in [
        ",", "1,", "1\n", "\n", "\"", "\"\"\"\"", "1,1\n1\n", "x,", "\r", " ", "\u{feff}", "-",
        "\0",
    ] {
        let text = unit.repeat((1 << 20) / unit.len() + 1);
        for text in [&text, &format!("1\n{text}"), &format!("{text}x")] {
            let path = folder.file("hostile.csv", text.as_bytes());
            let (result, peak) = peak(|| read(&path));
            assert!(peak <= 16 * text.len() + SLACK, "{unit:?}: {} per byte", peak / text.len());
            if let Err(error) = result {
                assert_clear(&error, "hostile.csv");
            }
        }
    }
}

fn valid_files() -> [Vec<u8>; 2] {
    let (mut array, mut file) = (Vec::new(), Vec::new());
    io::npy::encode(&mut array, &[3, 2], &[1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    model::encode(&mut file, &example()).unwrap();
    [array, file]
}

#[test]
fn truncation_at_every_byte() {
    let folder = Folder::new();
    for (bytes, name) in valid_files().iter().zip(["cut.npy", "cut.safetensors"]) {
        for len in 0..bytes.len() {
            assert_refused(&folder, name, &bytes[..len]);
        }
        assert_refused(&folder, name, &[bytes, &b"\0"[..]].concat());
    }
}

#[test]
fn every_byte_changed() {
    let _alone = alone();
    let path = Path::new("changed");
    for mut bytes in valid_files() {
        for i in 0..bytes.len() {
            let old = bytes[i];
            for new in *b"\0 \"'(),09:]}\xff" {
                bytes[i] = new;
                let len = bytes.len() as u64;
                let (_, peak) = peak(|| {
                    (
                        io::npy::parse_matrix::<f64>(path, &bytes[..], len).is_ok(),
                        model::parse::<f32>(path, &bytes[..], len).is_ok(),
                    )
                });
                assert!(peak <= 2 * bytes.len() + SLACK);
            }
            bytes[i] = old;
        }
    }
}

#[test]
fn a_large_array_is_mapped_or_takes_its_own_size() {
    let folder = Folder::new();
    let data: Vec<f64> = (0..100_000).map(f64::from).collect();
    let want = Matrix { data: data.clone().into(), rows: 1000, cols: 100 };
    let path = folder.path("large.npy");
    io::write_npy(&path, &[1000, 100], &data).unwrap();
    let (got, taken) = peak(|| io::read_matrix::<f64>(&path).unwrap());
    assert_eq!(got, want);
    assert!(taken <= SLACK, "{taken}");
    // A copy is made to change it; the file stays as it is.
    let mut changed = got.clone();
    changed.data[7] = -1.0;
    assert_eq!((got.data[7], changed.data[7]), (7.0, -1.0));
    assert_eq!(io::read_matrix::<f64>(&path).unwrap(), want);

    let numbers: Vec<u8> = data.iter().flat_map(|x| x.to_be_bytes()).collect();
    let header = "{'descr': '>f8', 'fortran_order': False, 'shape': (1000, 100), }";
    let swapped = folder.file("swapped.npy", &npy(1, header, &numbers));
    let numbers: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000, 100), }";
    let odd = (0..8).map(|spaces| {
        let header = format!("{header}{}", " ".repeat(spaces));
        folder.file(&format!("odd{spaces}.npy"), &npy(1, header, &numbers))
    });
    for path in odd.chain([swapped]) {
        let (got, taken) = peak(|| io::read_matrix::<f64>(&path).unwrap());
        assert_eq!(got, want);
        assert!(taken <= 800_000 + SLACK, "{taken}");
    }
    let (got, taken) = peak(|| io::read_matrix::<f32>(&path).unwrap());
    assert!(got.data.iter().zip(&data).all(|(&a, &b)| f64::from(a) == b));
    assert!(taken <= 400_000 + SLACK, "{taken}");
}

#[test]
fn arrays_written_in_parts_are_those_written_at_once() {
    let folder = Folder::new();
    let data: Vec<f64> = (0..35).map(f64::from).collect();
    let (whole, parts) = (folder.path("whole.npy"), folder.path("parts.npy"));
    io::write_npy(&whole, &[5, 7], &data).unwrap();
    io::write_npy_parts(&parts, &[5, 7], |write| data.chunks(14).try_for_each(write)).unwrap();
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&parts).unwrap());
    let error = io::write_npy_parts(&parts, &[5, 7], |write| {
        write(&data[..14])?;
        Err(std::io::Error::other("stopped"))
    });
    assert!(matches!(error, Err(Error::Write { .. })));
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&parts).unwrap());
    let short = || io::write_npy_parts(&parts, &[5, 7], |write| write(&data[..34]));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(short)).is_err());
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&parts).unwrap());
}

#[test]
fn tables_round_trip_in_both_formats() {
    let folder = Folder::new();
    let rows = [[1.0, -0.0, 0.1], [f64::INFINITY, 5e-324, f64::MAX], [f64::NAN, 1e-7, 1e21]];
    let data = rows.as_flattened();
    let (npy, csv) = (folder.path("t.NPY"), folder.path("t.Csv"));
    io::write_npy(&npy, &[3, 3], data).unwrap();
    io::write_csv(&csv, &["a", "b", "c"], rows).unwrap();
    for path in [npy, csv] {
        let got = io::read_matrix::<f64>(&path).unwrap();
        assert_eq!((got.rows, got.cols), (3, 3));
        assert!(got.data.iter().zip(data).all(|(a, b)| a.to_bits() == b.to_bits()));
        let error = io::read_vector::<f64>(&path).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }));
    }
    let path = folder.path("v.npy");
    io::write_npy(&path, &[3], &[1i64, -2, 3]).unwrap();
    assert_eq!(io::read_vector::<f32>(&path).unwrap(), [1.0, -2.0, 3.0]);
    let path = folder.path("v.csv");
    io::write_csv(&path, &[], [[1.0], [2.0]]).unwrap();
    assert_eq!(io::read_vector::<f32>(&path).unwrap(), [1.0, 2.0]);
    assert_eq!(fs::read_to_string(path).unwrap(), "1\n2\n");
}

#[test]
fn npyz_agrees() {
    let _alone = alone();
    use npyz::WriterBuilder;
    let data = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let mut bytes = Vec::new();
    io::npy::encode(&mut bytes, &[2, 3], &data).unwrap();
    let theirs = npyz::NpyFile::new(&bytes[..]).unwrap();
    assert_eq!((theirs.shape(), theirs.order()), (&[2, 3][..], npyz::Order::C));
    assert_eq!(theirs.into_vec::<f32>().unwrap(), data);

    for (order, want) in [
        (npyz::Order::C, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        (npyz::Order::Fortran, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]),
    ] {
        for dtype in ["<i2", ">i2"] {
            let mut bytes = Vec::new();
            let mut writer = npyz::WriteOptions::new()
                .dtype(npyz::DType::Plain(dtype.parse().unwrap()))
                .shape(&[2, 3])
                .order(order)
                .writer(&mut bytes)
                .begin_nd()
                .unwrap();
            writer.extend([1i16, 2, 3, 4, 5, 6]).unwrap();
            writer.finish().unwrap();
            let len = bytes.len() as u64;
            let ours = io::npy::parse_matrix::<f64>(Path::new("t"), &bytes[..], len).unwrap();
            assert_eq!(ours.data, want);
        }
    }
}

#[test]
fn safetensors_agrees() {
    let folder = Folder::new();
    use safetensors::{Dtype, SafeTensors, tensor::TensorView};
    let model = example();
    let mut bytes = Vec::new();
    model::encode(&mut bytes, &model).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let want =
        [("format", "gibbsite-1"), ("domain", "sphere"), ("base_scale", "none"), ("beta", "2.5")];
    assert_eq!(metadata, want.map(|(key, value)| (key.into(), value.into())).into());
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 3);
    for (name, shape, values) in [
        ("theta", &[3, 2][..], &model.theta.data.to_vec()),
        ("w", &[3], &model.w),
        ("b", &[3], model.b.as_ref().unwrap()),
    ] {
        let tensor = theirs.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, shape));
        assert!(values.iter().flat_map(|x| x.to_le_bytes()).eq(tensor.data().iter().copied()));
    }

    let data: Vec<u8> = [3.0f64, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors = [
        ("theta", TensorView::new(Dtype::F64, vec![2, 1], &data).unwrap()),
        ("w", TensorView::new(Dtype::F64, vec![2], &data).unwrap()),
    ];
    let metadata: HashMap<_, _> = metadata.into_iter().filter(|(key, _)| key != "beta").collect();
    let bytes = safetensors::serialize(tensors, Some(metadata)).unwrap();
    let ours = model::parse::<f64>(Path::new("t"), &bytes[..], bytes.len() as u64).unwrap();
    assert_eq!((ours.theta.data.to_vec(), ours.w), (vec![3.0, 4.0], vec![3.0, 4.0]));
    assert_eq!((ours.b, ours.beta), (None, 1.0));

    let path = folder.path("g.safetensors");
    let theta = Matrix { data: vec![f64::NAN, 1.0].into(), rows: 1, cols: 2 };
    for (b, count) in [(None, 2), (Some(&[7.0][..]), 3)] {
        model::write_gradient(&path, &[2.0], &theta, b).unwrap();
        let bytes = fs::read(&path).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), count);
        assert_eq!(theirs.tensor("theta").unwrap().shape(), [1, 2]);
        assert_eq!(theirs.tensor("w").unwrap().data(), 2.0f64.to_le_bytes());
    }
}

#[test]
fn models_round_trip_through_files() {
    let folder = Folder::new();
    let path = folder.path("model.safetensors");
    model::write_model(&path, &example()).unwrap();
    assert_eq!(model::read_model::<f32>(&path).unwrap(), example());
    let wide = model::read_model::<f64>(&path).unwrap();
    assert_eq!(wide.theta.data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    let bad = ModelFile { w: vec![f32::NAN; 3], ..example() };
    let error = model::write_model(&path, &bad).unwrap_err();
    assert!(error.to_string().contains("tensor `w`: NaN at [0]"), "{error}");
    assert!(!error.is_bad_input());
    assert_eq!(model::read_model::<f32>(&path).unwrap(), example());
    assert_eq!(folder.names(), ["model.safetensors"]);
}

#[test]
fn unusable_paths() {
    let folder = Folder::new();
    fs::create_dir(folder.path("dir.npy")).unwrap();
    for (path, want) in [
        (folder.path("none.npy"), "none.npy: cannot read: No such file"),
        (folder.path("none.csv"), "none.csv: cannot read: No such file"),
        (folder.path("dir.npy"), "dir.npy: not a regular file"),
        (folder.path("x.txt"), "x.txt: unsupported file type, expected a name ending in .npy or"),
        (folder.path("npy"), "npy: unsupported file type"),
        ("".into(), ": unsupported file type"),
    ] {
        for error in
            [io::read_matrix::<f32>(&path).unwrap_err(), io::read_vector::<f64>(&path).unwrap_err()]
        {
            assert_clear(&error, want);
        }
    }
    let file = folder.file("x.npy", b"");
    for path in [folder.path("no/x.npy"), folder.path("dir.npy"), file.join("y.npy"), "".into()] {
        let error = io::write_npy(&path, &[1], &[1i64]).unwrap_err();
        assert_clear(&error, path.to_str().unwrap());
    }
    #[cfg(unix)]
    {
        let device = Path::new("/dev/null");
        let error = io::write_npy(device, &[1], &[1i64]).unwrap_err();
        assert!(matches!(error, Error::NotAFile { .. }));
        assert!(!fs::metadata(device).unwrap().is_file());
    }
}

#[test]
fn files_appear_whole_or_not_at_all() {
    let folder = Folder::new();
    let path = folder.file("x", b"old");
    let error = io::write_atomic(&path, |out| {
        out.write_all(&[0; 1 << 20])?;
        // Tells whose it is, should the process be killed.
        let part = |name: &String| name.starts_with(".x.") && name.ends_with(".part");
        assert_eq!(folder.names().iter().filter(|name| part(name)).count(), 1);
        Err(ErrorKind::StorageFull.into())
    })
    .unwrap_err();
    assert!(error.to_string().ends_with("x: cannot write: no storage space"), "{error}");
    assert!(!error.is_bad_input());
    let panicked = std::panic::catch_unwind(|| io::write_atomic(&path, |_| panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(folder.names(), ["x"]);
    io::write_atomic(&path, |out| out.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(folder.names(), ["x"]);
    let long = folder.path(&"ö".repeat(127));
    io::write_atomic(&long, |out| out.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&long).unwrap(), b"new");
}

#[cfg(unix)]
#[test]
fn permissions_and_links_are_those_of_any_file() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new();
    let plain = folder.file("plain", b"");
    let ours = folder.path("ours");
    io::write_atomic(&ours, |_| Ok(())).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));

    let link = folder.path("link");
    symlink(&plain, &link).unwrap();
    io::write_atomic(&link, |out| out.write_all(b"through")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&plain).unwrap(), b"through");

    fs::set_permissions(&plain, fs::Permissions::from_mode(0o600)).unwrap();
    io::write_atomic(&link, |out| out.write_all(b"again")).unwrap();
    assert_eq!(mode(&plain) & 0o777, 0o600);
    assert_eq!(fs::read(&plain).unwrap(), b"again");

    // Links whose end is not there yet, relative to where they are.
    fs::create_dir(folder.path("sub")).unwrap();
    symlink("sub/first", folder.path("far")).unwrap();
    symlink("second", folder.path("sub/first")).unwrap();
    io::write_atomic(&folder.path("far"), |out| out.write_all(b"new")).unwrap();
    assert!(fs::symlink_metadata(folder.path("far")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(folder.path("sub/first")).unwrap().is_symlink());
    assert_eq!(fs::read(folder.path("sub/second")).unwrap(), b"new");
    symlink("round", folder.path("round")).unwrap();
    let error = io::write_atomic(&folder.path("round"), |_| Ok(())).unwrap_err();
    assert!(error.to_string().ends_with("round: cannot write: too many symbolic links"), "{error}");
    assert!(fs::symlink_metadata(folder.path("round")).unwrap().is_symlink());
}
