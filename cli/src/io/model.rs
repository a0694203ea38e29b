//! Models and gradients as safetensors files.
//!
//! A model is `theta` of shape `[m, d]`, `w` of shape `[m]` and, with biases, `b` of shape `[m]`,
//! all F32 or F64, and the metadata
//!
//! | key | value |
//! |---|---|
//! | `format` | `gibbsite-1` |
//! | `domain` | `sphere` or `euclidean` |
//! | `base_scale` | standard deviation of the Gaussian base, or `none` |
//! | `beta` | inverse temperature, `1` if missing |
//!
//! The header is parsed here rather than by the `safetensors` crate, which reads up to 100 MB of
//! JSON into maps, lets a repeated key override the first, and writes metadata in random order.

use super::{
    Element, Error, Matrix,
    error::clip,
    number::{self, Kind},
    open, write_atomic,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, Error as _, MapAccess, Visitor},
};
use std::{
    fmt,
    io::{self, Read, Write},
    path::Path,
};

/// Parsed JSON takes up to 20 times its length: this keeps it below 64 KiB. The header of a model
/// has some 350 bytes.
const MAX_HEADER: u64 = 2 << 10;
const FORMAT: &str = "gibbsite-1";

/// A shallow ReLU energy as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile<T: Element> {
    /// Directions of the neurons, one per row.
    pub theta: Matrix<T>,
    /// Weights of the neurons.
    pub w: Vec<T>,
    /// Biases of the neurons.
    pub b: Option<Vec<T>>,
    /// Where the data live.
    pub domain: Domain,
    /// Standard deviation of the Gaussian base measure, if there is one.
    pub base_scale: Option<f64>,
    /// Inverse temperature.
    pub beta: f64,
}

/// Where the data of a model live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The unit sphere.
    Sphere,
    /// All of space.
    Euclidean,
}

/// Reads a model, converting its numbers to `T`.
pub fn read_model<T: Element>(path: &Path) -> Result<ModelFile<T>, Error> {
    let (file, len) = open(path)?;
    parse(path, file, len)
}

/// Writes a model. The same model gives the same bytes.
///
/// Refuses what [`read_model`] would refuse: parameters that are not finite, and a scale or a
/// temperature that is not positive.
///
/// # Panics
///
/// If the shapes do not match.
pub fn write_model<T: Element>(path: &Path, model: &ModelFile<T>) -> Result<(), Error> {
    write_atomic(path, |out| encode(out, model))
}

/// Writes the gradient of an energy with respect to `w`, `theta` and `b` as tensors of these
/// names. Numbers need not be finite.
///
/// # Panics
///
/// If the shapes do not match.
pub fn write_gradient<T: Element>(
    path: &Path,
    w: &[T],
    theta: &Matrix<T>,
    b: Option<&[T]>,
) -> Result<(), Error> {
    write_atomic(path, |out| encode_tensors(out, "", theta, w, b))
}

/// Reads a model from `input`, which holds the `len` bytes of a file called `path`.
pub fn parse<T: Element>(
    path: &Path,
    mut input: impl Read,
    len: u64,
) -> Result<ModelFile<T>, Error> {
    let (Entries { metadata, mut tensors }, data_len) = read_header(path, &mut input, len)?;
    let (domain, base_scale, beta) = check_metadata(path, &metadata)?;
    let [m, d] = check_shapes(path, &tensors)?;
    check_offsets(path, &mut tensors, data_len)?;

    let (mut theta, mut w, mut b) = (Vec::new(), Vec::new(), None);
    for (name, info) in &tensors {
        let place = |k| match name.as_str() {
            "theta" => format!("[{}, {}]", k / d, k % d),
            _ => format!("[{k}]"),
        };
        let kind = info.kind(path, name)?;
        // Too many numbers for a usize are too many for the memory.
        let count = info.count().unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX);
        let values =
            number::decode::<T>(&mut input, kind, false, count, |k| k).map_err(|failure| {
                failure.at::<T>(path, count, |k| format!("`{name}` {}", place(k)))
            })?;
        if let Some(k) = not_finite(&values) {
            let problem = format!("{} at {}", values[k].into(), place(k));
            return Err(tensor_error(path, name, problem));
        }
        match name.as_str() {
            "theta" => theta = values,
            "w" => w = values,
            _ => b = Some(values),
        }
    }
    let theta = Matrix { data: theta.into(), rows: m, cols: d };
    Ok(ModelFile { theta, w, b, domain, base_scale, beta })
}

/// Writes a model; see [`write_model`].
///
/// # Panics
///
/// If the shapes do not match.
pub fn encode<T: Element>(out: &mut dyn Write, model: &ModelFile<T>) -> io::Result<()> {
    let ModelFile { theta, w, b, domain, base_scale, beta } = model;
    let refuse = |problem| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    for (name, values) in
        [("theta", &theta.data[..]), ("w", w), ("b", b.as_deref().unwrap_or_default())]
    {
        if let Some(k) = not_finite(values) {
            return refuse(format!("tensor `{name}`: {} at [{k}]", values[k].into()));
        }
    }
    let scale = base_scale.map_or("none".to_owned(), number::text);
    let beta = number::text(*beta);
    if base_scale.is_some() && positive(&scale).is_none() {
        return refuse(format!("metadata `base_scale`: {scale} is not positive"));
    }
    if positive(&beta).is_none() {
        return refuse(format!("metadata `beta`: {beta} is not positive"));
    }
    let domain = match domain {
        Domain::Sphere => "sphere",
        Domain::Euclidean => "euclidean",
    };
    let metadata = format!(
        r#""__metadata__":{{"base_scale":"{scale}","beta":"{beta}","domain":"{domain}","format":"{FORMAT}"}},"#
    );
    encode_tensors(out, &metadata, theta, w, b.as_deref())
}

/// Writes the tensors in the order that the format prescribes for one dtype: by name.
fn encode_tensors<T: Element>(
    out: &mut dyn Write,
    metadata: &str,
    theta: &Matrix<T>,
    w: &[T],
    b: Option<&[T]>,
) -> io::Result<()> {
    let (m, d) = (theta.rows, theta.cols);
    assert_eq!(theta.data.len(), m * d, "theta is not {m} by {d}");
    assert_eq!(w.len(), m, "one weight per row of theta");
    assert!(b.is_none_or(|b| b.len() == m), "one bias per row of theta");

    let tensors = [
        b.map(|b| ("b", vec![m], b)),
        Some(("theta", vec![m, d], &theta.data[..])),
        Some(("w", vec![m], w)),
    ];
    let mut entries = Vec::new();
    let mut begin = 0;
    for (name, shape, values) in tensors.iter().flatten() {
        let end = begin + size_of_val(*values);
        entries.push(format!(
            r#""{name}":{{"dtype":"{}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#,
            T::SAFETENSORS
        ));
        begin = end;
    }
    let mut header = format!("{{{metadata}{}}}", entries.join(","));
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    tensors.iter().flatten().try_for_each(|(_, _, values)| number::encode(out, values))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Info {
    fn kind(&self, path: &Path, name: &str) -> Result<Kind, Error> {
        match self.dtype.as_str() {
            "F32" => Ok(Kind::F32),
            "F64" => Ok(Kind::F64),
            other => {
                let problem = format!("dtype {}, expected F32 or F64", clip(other, 40));
                Err(tensor_error(path, name, problem))
            }
        }
    }

    fn count(&self) -> Option<u64> {
        self.shape.iter().try_fold(1, |count: u64, n| count.checked_mul(*n))
    }

    fn shown_shape(&self) -> String {
        clip(&format!("{:?}", self.shape), 60)
    }
}

/// Reads up to the first tensor, and tells how many bytes follow.
fn read_header(path: &Path, input: &mut impl Read, len: u64) -> Result<(Entries, u64), Error> {
    let failed = |source| Error::Read { path: path.into(), source };
    let malformed =
        |problem| Error::Malformed { path: path.into(), format: "safetensors", problem };

    let Some(rest) = len.checked_sub(8) else {
        return Err(malformed(format!("{len} bytes are too few for a header")));
    };
    let mut size = [0; 8];
    input.read_exact(&mut size).map_err(failed)?;
    let size = u64::from_le_bytes(size);
    let Some(data_len) = rest.checked_sub(size) else {
        return Err(malformed(format!("a header of {size} bytes in a file of {len} bytes")));
    };
    if size > MAX_HEADER {
        let reason = format!("a header of {size} bytes, expected at most {MAX_HEADER}");
        return Err(Error::NotAModel { path: path.into(), reason });
    }
    let mut text = vec![0; size as usize];
    input.read_exact(&mut text).map_err(failed)?;
    let entries =
        serde_json::from_slice(&text).map_err(|e| malformed(clip(&e.to_string(), 200)))?;
    Ok((entries, data_len))
}

fn check_metadata(
    path: &Path,
    metadata: &[(String, String)],
) -> Result<(Domain, Option<f64>, f64), Error> {
    let get =
        |key: &str| metadata.iter().find(|entry| entry.0 == key).map(|entry| entry.1.as_str());
    let bad = |key: &str, expected: &str| {
        let problem = match get(key) {
            Some(found) => format!("expected {expected}, found `{}`", clip(found, 40)),
            None => format!("missing, expected {expected}"),
        };
        Error::Metadata { path: path.into(), key: key.into(), problem }
    };
    match get("format") {
        Some(FORMAT) => {}
        Some(other) => {
            let reason = format!("metadata `format` is `{}`, not `{FORMAT}`", clip(other, 40));
            return Err(Error::NotAModel { path: path.into(), reason });
        }
        None => {
            let reason = "no metadata `format`".into();
            return Err(Error::NotAModel { path: path.into(), reason });
        }
    }
    let known = ["format", "domain", "base_scale", "beta"];
    if let Some((key, _)) = metadata.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        let (key, problem) = (clip(key, 40), "unknown key".into());
        return Err(Error::Metadata { path: path.into(), key, problem });
    }
    let domain = match get("domain") {
        Some("sphere") => Domain::Sphere,
        Some("euclidean") => Domain::Euclidean,
        _ => return Err(bad("domain", "sphere or euclidean")),
    };
    let base_scale = match get("base_scale") {
        Some("none") => None,
        other => {
            let scale = other.and_then(positive);
            Some(scale.ok_or_else(|| bad("base_scale", "a positive number or none"))?)
        }
    };
    let beta = positive(get("beta").unwrap_or("1"));
    Ok((domain, base_scale, beta.ok_or_else(|| bad("beta", "a positive number"))?))
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0)
}

fn not_finite<T: Element>(values: &[T]) -> Option<usize> {
    values.iter().position(|x| !(*x).into().is_finite())
}

fn tensor_error(path: &Path, name: &str, problem: String) -> Error {
    Error::Tensor { path: path.into(), tensor: clip(name, 40), problem }
}

/// Checks which tensors there are and that their shapes match, and returns that of `theta`.
fn check_shapes(path: &Path, tensors: &[(String, Info)]) -> Result<[usize; 2], Error> {
    let get = |name| tensors.iter().find(|tensor| tensor.0 == name).map(|tensor| &tensor.1);
    let missing = |name| tensor_error(path, name, "missing".into());
    for (name, _) in tensors {
        if !["theta", "w", "b"].contains(&name.as_str()) {
            let problem = "unknown, a model has theta, w and perhaps b".into();
            return Err(tensor_error(path, name, problem));
        }
    }
    let theta = get("theta").ok_or_else(|| missing("theta"))?;
    let [m, d] = theta.shape[..] else {
        let problem = format!("shape {}, expected two dimensions", theta.shown_shape());
        return Err(tensor_error(path, "theta", problem));
    };
    if m == 0 || d == 0 {
        let problem = format!("shape {} holds no data", theta.shown_shape());
        return Err(tensor_error(path, "theta", problem));
    }
    let w = get("w").ok_or_else(|| missing("w"))?;
    for (name, info) in [("w", Some(w)), ("b", get("b"))] {
        if let Some(info) = info.filter(|info| info.shape != [m]) {
            let problem = format!("shape {}, expected [{m}] as theta has rows", info.shown_shape());
            return Err(tensor_error(path, name, problem));
        }
    }
    Ok([m, d].map(|n| n.try_into().unwrap_or(usize::MAX)))
}

/// Sorts the tensors as their data lie in the file, and checks that these cover it exactly.
fn check_offsets(path: &Path, tensors: &mut [(String, Info)], data_len: u64) -> Result<(), Error> {
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut position = 0;
    for (name, info) in tensors {
        let (begin, end) = info.data_offsets;
        if begin != position {
            let problem = format!("data from byte {begin}, expected from {position}");
            return Err(tensor_error(path, name, problem));
        }
        let size = info.kind(path, name)?.size();
        let expected = info.count().and_then(|count| count.checked_mul(size));
        if expected.is_none() || end.checked_sub(begin) != expected || end > data_len {
            let shape = info.shown_shape();
            let problem = format!(
                "shape {shape} of {} does not fit bytes {begin} to {end} of {data_len}",
                info.dtype
            );
            return Err(tensor_error(path, name, problem));
        }
        position = end;
    }
    if position != data_len {
        let problem = format!("expected {position} bytes of data, found {data_len}");
        return Err(Error::Malformed { path: path.into(), format: "safetensors", problem });
    }
    Ok(())
}

/// The JSON of a header, with every key once.
struct Entries {
    metadata: Vec<(String, String)>,
    tensors: Vec<(String, Info)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut metadata = None;
                let mut tensors = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key != "__metadata__" {
                        let info = map.next_value().map_err(|e| {
                            A::Error::custom(format!("tensor `{}`: {e}", clip(&key, 40)))
                        })?;
                        insert(&mut tensors, key, info)?;
                    } else if metadata.replace(map.next_value::<Strings>()?.0).is_some() {
                        return Err(A::Error::custom("repeated key `__metadata__`"));
                    }
                }
                Ok(Entries { metadata: metadata.unwrap_or_default(), tensors })
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A JSON object of strings, with every key once.
struct Strings(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strings, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry()? {
                    insert(&mut entries, key, value)?;
                }
                Ok(Strings(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

fn insert<V, E: de::Error>(entries: &mut Vec<(String, V)>, key: String, value: V) -> Result<(), E> {
    if entries.iter().any(|entry| entry.0 == key) {
        return Err(E::custom(format!("repeated key `{}`", clip(&key, 40))));
    }
    entries.push((key, value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str =
        r#""__metadata__":{"format":"gibbsite-1","domain":"sphere","base_scale":"none"}"#;
    const THETA: &str = r#""theta":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}"#;
    const W: &str = r#""w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#;
    const B: &str = r#""b":{"dtype":"F64","shape":[1],"data_offsets":[12,20]}"#;

    fn file(entries: &[&str], data: &[u8]) -> Vec<u8> {
        let header = format!("{{{}}}", entries.join(","));
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn read<T: Element>(bytes: &[u8]) -> Result<ModelFile<T>, Error> {
        parse(Path::new("t"), bytes, bytes.len() as u64)
    }

    fn message(entries: &[&str], data: &[u8]) -> String {
        read::<f32>(&file(entries, data)).unwrap_err().to_string()
    }

    fn example() -> ModelFile<f64> {
        ModelFile {
            theta: Matrix {
                data: vec![0.1, -0.0, 1e-300, 1.0 / 3.0, f64::MAX, 2.0].into(),
                rows: 2,
                cols: 3,
            },
            w: vec![1.0, -2.0],
            b: Some(vec![0.5, 5e-324]),
            domain: Domain::Euclidean,
            base_scale: Some(0.1 + 0.2),
            beta: 1e-300,
        }
    }

    #[test]
    fn round_trips() {
        let sphere = ModelFile { b: None, base_scale: None, domain: Domain::Sphere, ..example() };
        for model in [example(), sphere] {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            encode(&mut first, &model).unwrap();
            let got = read::<f64>(&first).unwrap();
            assert_eq!(got, model);
            assert!(got.theta.data[1].is_sign_negative());
            encode(&mut second, &got).unwrap();
            assert_eq!(first, second);
        }
    }

    #[test]
    fn dtypes_are_converted_and_offsets_need_no_alignment() {
        let mut data = Vec::new();
        [1.5f32, -2.0, 3.0].iter().for_each(|x| data.extend(x.to_le_bytes()));
        data.extend(0.1f64.to_le_bytes());
        // With both header lengths b begins 4 bytes or 1 byte off its alignment.
        for space in ["", "   "] {
            let bytes = file(&[&format!("{space}{METADATA}"), B, THETA, W], &data);
            let got = read::<f32>(&bytes).unwrap();
            assert_eq!(got.theta, Matrix { data: vec![1.5, -2.0].into(), rows: 1, cols: 2 });
            assert_eq!((got.w, got.b), (vec![3.0], Some(vec![0.1])));
            assert_eq!((got.domain, got.base_scale, got.beta), (Domain::Sphere, None, 1.0));
        }
    }

    #[test]
    fn metadata_is_checked() {
        let with = |metadata: &str| {
            let metadata = format!(r#""__metadata__":{{{metadata}}}"#);
            message(&[&metadata, THETA, W], &[0; 12])
        };
        let good = r#""format":"gibbsite-1","domain":"sphere","base_scale":"none""#;
        for (metadata, want) in [
            (r#""domain":"sphere""#, "t: not a gibbsite model: no metadata `format`"),
            (
                r#""format":"pt""#,
                "t: not a gibbsite model: metadata `format` is `pt`, not `gibbsite-1`",
            ),
            (
                r#""format":"gibbsite-1""#,
                "t: metadata `domain`: missing, expected sphere or euclidean",
            ),
            (
                r#""format":"gibbsite-1","domain":"torus\n""#,
                "t: metadata `domain`: expected sphere or euclidean, found `torus\\n`",
            ),
            (
                r#""format":"gibbsite-1","domain":"sphere""#,
                "t: metadata `base_scale`: missing, expected a positive number or none",
            ),
        ] {
            assert_eq!(with(metadata), want);
        }
        for bad in ["0", "-1", "inf", "nan", "", "1e999", "1e-999", "none"] {
            let text = with(&format!(r#"{good},"beta":"{bad}""#));
            let want = format!("t: metadata `beta`: expected a positive number, found `{bad}`");
            assert_eq!(text, want);
        }
        let text = with(&format!(r#"{good},"extra":"""#));
        assert_eq!(text, "t: metadata `extra`: unknown key");
        let text = with(&format!(r#"{good},"domain":"sphere""#));
        assert!(text.contains("repeated key `domain`"), "{text}");
        let text = with(r#""format":1"#);
        assert!(text.contains("invalid type: integer `1`, expected a string"), "{text}");
        let text = message(&[METADATA, METADATA, THETA, W], &[0; 12]);
        assert!(text.contains("repeated key `__metadata__`"), "{text}");
        assert_eq!(message(&[THETA, W], &[0; 12]), "t: not a gibbsite model: no metadata `format`");
    }

    #[test]
    fn tensors_are_checked() {
        let theta = |shape: &str, begin: u64, end: u64| {
            format!(r#""theta":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
        };
        let with = |theta: &str| message(&[METADATA, theta, W], &[0; 12]);
        for (entry, want) in [
            (theta("[2]", 0, 8), "t: tensor `theta`: shape [2], expected two dimensions"),
            (theta("[0,2]", 0, 0), "t: tensor `theta`: shape [0, 2] holds no data"),
            (theta("[1,0]", 0, 0), "t: tensor `theta`: shape [1, 0] holds no data"),
            (theta("[2,1]", 0, 8), "t: tensor `w`: shape [1], expected [2] as theta has rows"),
            (theta("[1,2]", 4, 12), "t: tensor `theta`: data from byte 4, expected from 0"),
            (
                theta("[1,2]", 0, 12),
                "t: tensor `theta`: shape [1, 2] of F32 does not fit bytes 0 to 12 of 12",
            ),
            (
                theta("[1,4611686018427387904]", 0, 0),
                "t: tensor `theta`: shape [1, 4611686018427387904] of F32 does not fit bytes 0 to 0 of 12",
            ),
            (
                theta("[1,4]", 0, 16),
                "t: tensor `theta`: shape [1, 4] of F32 does not fit bytes 0 to 16 of 12",
            ),
            (theta("[1,1]", 0, 4), "t: tensor `w`: data from byte 8, expected from 4"),
            (THETA.replace("F32", "BF16"), "t: tensor `theta`: dtype BF16, expected F32 or F64"),
        ] {
            assert_eq!(with(&entry), want);
        }
        for (entry, want) in [
            (theta("[-1,2]", 0, 8), "tensor `theta`: invalid value: integer `-1`, expected u64"),
            (theta("{}", 0, 8), "tensor `theta`: invalid type: map, expected a sequence"),
            (r#""theta":7"#.into(), "tensor `theta`: invalid type: integer `7`"),
            (format!("{THETA},{THETA}"), "repeated key `theta`"),
            (THETA.replace("shape", "form"), "tensor `theta`: unknown field `form`"),
            (THETA.replace(r#""dtype":"F32","#, ""), "tensor `theta`: missing field `dtype`"),
            (
                THETA.replace(r#""dtype":"F32""#, r#""dtype":"F32","dtype":"F32""#),
                "duplicate field",
            ),
        ] {
            let text = with(&entry);
            assert!(text.starts_with("t: invalid safetensors file: "), "{text}");
            assert!(text.contains(want), "{text}");
        }
        assert_eq!(message(&[METADATA, THETA], &[0; 8]), "t: tensor `w`: missing");
        assert_eq!(message(&[METADATA, W], &[0; 12]), "t: tensor `theta`: missing");
        assert_eq!(
            message(&[METADATA, THETA, W, &B.replacen('b', "c", 1)], &[0; 20]),
            "t: tensor `c`: unknown, a model has theta, w and perhaps b"
        );
        assert_eq!(
            message(&[METADATA, THETA, W], &[0; 13]),
            "t: invalid safetensors file: expected 12 bytes of data, found 13"
        );
    }

    #[test]
    fn parameters_are_finite() {
        let mut data = [0; 20];
        data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(message(&[METADATA, THETA, W], &data[..12]), "t: tensor `theta`: NaN at [0, 1]");
        data[4..8].fill(0);
        data[12..].copy_from_slice(&1e39f64.to_le_bytes());
        let text = message(&[METADATA, THETA, W, B], &data);
        assert_eq!(text, "t: 1e39 at `b` [0] is too large for f32");
        assert_eq!(
            read::<f64>(&file(&[METADATA, THETA, W, B], &data)).unwrap().b,
            Some(vec![1e39])
        );

        let refused =
            |model: ModelFile<f64>| encode(&mut Vec::new(), &model).unwrap_err().to_string();
        assert_eq!(
            refused(ModelFile { w: vec![1.0, f64::NAN], ..example() }),
            "tensor `w`: NaN at [1]"
        );
        assert!(refused(ModelFile { beta: 0.0, ..example() }).contains("`beta`"));
        assert!(
            refused(ModelFile { base_scale: Some(f64::NAN), ..example() }).contains("`base_scale`")
        );
    }
}
