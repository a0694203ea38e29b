//! NumPy arrays (`.npy`, format versions 1 to 3).
//!
//! The header is a Python dictionary. General parsers of Python literals are no match for hostile
//! ones (each further level of brackets doubles the time that `npyz` 0.9 takes), so the parser here
//! knows the three keys of the format, never recurses and allocates nothing but error messages.

use super::{
    Data, Element, Error, Matrix, Stored,
    error::clip_bytes,
    number::{self, Kind},
};
use filebuffer::FileBuffer;
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// NumPy itself refuses headers above 10,000 bytes unless told otherwise.
const MAX_HEADER: u64 = 64 << 10;
const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a 2-D array from `input`, which holds the `len` bytes of a file called `path`: an array of shape `[n, d]`, `[n, 1, d]` or
/// `[1, n, d]`.
pub fn parse_matrix<T: Element>(
    path: &Path,
    mut input: impl Read,
    len: u64,
) -> Result<Matrix<T>, Error> {
    let header = read_header(path, &mut input, len)?;
    let [rows, cols] = header.matrix(path)?;
    Ok(Matrix { data: header.read_data(path, &mut input)?.into(), rows, cols })
}

/// Reads a 2-D array from a file of `len` bytes, or maps it if its numbers lie there as in memory.
pub fn read_matrix<T: Element>(path: &Path, mut file: File, len: u64) -> Result<Matrix<T>, Error> {
    let header = read_header(path, &mut file, len)?;
    let [rows, cols] = header.matrix(path)?;
    if header.kind == T::KIND && !header.big_endian && !header.fortran_order {
        let map =
            FileBuffer::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
        // As checked with the header, the numbers are the last of the file.
        let start = len as usize - header.count * size_of::<T>();
        if map.len() as u64 == len
            && let Some(data) = Data::mapped(map, start)
        {
            return Ok(Matrix { data, rows, cols });
        }
    }
    Ok(Matrix { data: header.read_data(path, &mut file)?.into(), rows, cols })
}

/// Reads a vector from `input`, which holds the `len` bytes of a file called `path`: an array of
/// shape `[n]`, `[n, 1]` or `[1, n]`.
pub fn parse_vector<T: Element>(
    path: &Path,
    mut input: impl Read,
    len: u64,
) -> Result<Vec<T>, Error> {
    let header = read_header(path, &mut input, len)?;
    match (header.ndim, header.shape) {
        (1, _) | (2, [_, 1] | [1, _]) => header.read_data(path, &mut input),
        _ => Err(header.wrong_shape(path, "a vector (one dimension, one row or one column)")),
    }
}

/// Writes an array of any number of dimensions, in C order.
///
/// # Panics
///
/// If `shape` does not multiply out to the length of `data`.
pub fn encode<T: Stored>(out: &mut dyn Write, shape: &[usize], data: &[T]) -> io::Result<()> {
    assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?}");
    encode_header::<T>(out, shape)?;
    encode_numbers(out, data)
}

/// Writes what comes before the numbers.
pub fn encode_header<T: Stored>(out: &mut dyn Write, shape: &[usize]) -> io::Result<()> {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    // A Python tuple of one element needs its comma.
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut header = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        T::NPY,
        dims.join(", ")
    );
    // The data begin at a multiple of 64 bytes; ten bytes precede this text.
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let len = u16::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(header.as_bytes())
}

/// Writes some of the numbers.
pub fn encode_numbers<T: Stored>(out: &mut dyn Write, data: &[T]) -> io::Result<()> {
    number::encode(out, data)
}

/// What the header says, checked against the length of the file.
struct Header {
    kind: Kind,
    big_endian: bool,
    fortran_order: bool,
    /// Of three dimensions that a leading one of 1 makes two, 2.
    ndim: usize,
    /// The first two dimensions, 1 where there are fewer.
    shape: [usize; 2],
    /// Numbers in the file, at least one.
    count: usize,
}

impl Header {
    /// Rows and columns.
    fn matrix(&self, path: &Path) -> Result<[usize; 2], Error> {
        match self.ndim {
            2 => Ok(self.shape),
            _ => Err(self.wrong_shape(path, "a 2-D array")),
        }
    }

    fn wrong_shape(&self, path: &Path, expected: &'static str) -> Error {
        let found = match (self.ndim, self.shape) {
            (1, [n, _]) => format!("shape ({n},)"),
            (2, [rows, cols]) => format!("shape ({rows}, {cols})"),
            (ndim, _) => format!("{ndim} dimensions"),
        };
        Error::Shape { path: path.into(), expected, found }
    }

    fn read_data<T: Element>(&self, path: &Path, mut input: impl Read) -> Result<Vec<T>, Error> {
        let [rows, cols] = self.shape;
        // Row and column of the number at position k of the file.
        let place =
            |k| if self.fortran_order { [k % rows, k / rows] } else { [k / cols, k % cols] };
        let index = |k| {
            let [i, j] = place(k);
            i * cols + j
        };
        let (kind, big_endian, count) = (self.kind, self.big_endian, self.count);
        // Dividing once per number would cost more than decoding it.
        if self.fortran_order {
            number::decode(&mut input, kind, big_endian, count, index)
        } else {
            number::decode(&mut input, kind, big_endian, count, |k| k)
        }
        .map_err(|failure| {
            failure.at::<T>(path, count, |k| match (self.ndim, place(k)) {
                (1, _) => format!("[{k}]"),
                (_, [i, j]) => format!("[{i}, {j}]"),
            })
        })
    }
}

/// Reads up to the first number, and checks that exactly the announced numbers follow.
fn read_header(path: &Path, mut input: impl Read, len: u64) -> Result<Header, Error> {
    let failed = |source| Error::Read { path: path.into(), source };

    let mut start = [0; 12];
    if len < 12 {
        return Err(malformed(path, format!("{len} bytes are too few for a header")));
    }
    input.read_exact(&mut start[..8]).map_err(failed)?;
    if !start.starts_with(MAGIC) {
        return Err(malformed(path, "it does not begin with \\x93NUMPY".into()));
    }
    let begin = match (start[6], start[7]) {
        (1, 0) => 10,
        (2 | 3, 0) => 12,
        (major, minor) => {
            return Err(malformed(path, format!("unknown version {major}.{minor}")));
        }
    };
    // The upper half of the length stays zero in version 1.
    input.read_exact(&mut start[8..begin]).map_err(failed)?;
    let size = u64::from(u32::from_le_bytes([start[8], start[9], start[10], start[11]]));
    let Some(data_len) = (len - begin as u64).checked_sub(size) else {
        let problem = format!("a header of {size} bytes in a file of {len} bytes");
        return Err(malformed(path, problem));
    };
    if size > MAX_HEADER {
        let problem = format!("a header of {size} bytes, expected at most {MAX_HEADER}");
        return Err(malformed(path, problem));
    }
    let mut text = vec![0; size as usize];
    input.read_exact(&mut text).map_err(failed)?;
    parse_header(path, &text, data_len)
}

fn malformed(path: &Path, problem: String) -> Error {
    Error::Malformed { path: path.into(), format: "NumPy", problem }
}

/// Parses a dictionary such as `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse_header(path: &Path, text: &[u8], data_len: u64) -> Result<Header, Error> {
    let mut rest = Cursor(text);
    let bad = |rest: &Cursor<'_>, expected: &str| {
        let found = clip_bytes(rest.0, 40);
        malformed(path, format!("expected {expected} in the header, found `{found}`"))
    };
    let (mut dtype, mut fortran_order, mut shape) = (None, None, None);

    let mut open = rest.eat(b"{");
    if !open {
        return Err(bad(&rest, "`{`"));
    }
    while open && !rest.eat(b"}") {
        let before = rest.0;
        let key = rest.string().ok_or_else(|| bad(&rest, "a key"))?;
        if !rest.eat(b":") {
            return Err(bad(&rest, "`:`"));
        }
        let repeated = match key {
            b"descr" => {
                rest.skip_space();
                let value = rest.0;
                let found = rest.string().unwrap_or(value);
                let known = parse_dtype(found).ok_or_else(|| Error::Dtype {
                    path: path.into(),
                    found: clip_bytes(found, 40),
                });
                dtype.replace(known?).is_some()
            }
            b"fortran_order" => {
                let value = rest.flag().ok_or_else(|| bad(&rest, "True or False"))?;
                fortran_order.replace(value).is_some()
            }
            b"shape" => {
                let value = rest.shape().map_err(|expected| bad(&rest, expected))?;
                shape.replace(value).is_some()
            }
            _ => return Err(bad(&Cursor(before), "descr, fortran_order or shape")),
        };
        if repeated {
            return Err(bad(&Cursor(before), "each key once"));
        }
        open = rest.eat(b",");
        if !open && !rest.eat(b"}") {
            return Err(bad(&rest, "`,` or `}`"));
        }
    }
    rest.skip_space();
    if !rest.0.is_empty() {
        return Err(bad(&rest, "nothing after `}`"));
    }

    let missing = |key| malformed(path, format!("no `{key}` in the header"));
    let (big_endian, kind) = dtype.ok_or_else(|| missing("descr"))?;
    let fortran_order = fortran_order.ok_or_else(|| missing("fortran_order"))?;
    let Shape { ndim, first, count } = shape.ok_or_else(|| missing("shape"))?;

    if count == 0 {
        return Err(Error::NoData { path: path.into() });
    }
    let size = kind.size();
    if count.checked_mul(size) != Some(data_len) {
        let problem = format!("expected {count} numbers of {size} bytes, found {data_len} bytes");
        return Err(malformed(path, problem));
    }
    // Dimensions are no larger than their product.
    if usize::try_from(count).is_err() {
        return Err(Error::Memory { path: path.into(), count: usize::MAX });
    }
    let first = first.map(|n| n as usize);
    // A trajectory of one chain, or one draw of many chains.
    let (ndim, shape) = match (ndim, first) {
        (3, [1, rows, cols] | [rows, 1, cols]) => (2, [rows, cols]),
        (ndim, [rows, cols, _]) => (ndim, [rows, cols]),
    };
    Ok(Header { kind, big_endian, fortran_order, ndim, shape, count: count as usize })
}

/// Byte order (whether big-endian) and element type.
fn parse_dtype(descr: &[u8]) -> Option<(bool, Kind)> {
    let kind = match descr.get(1..)? {
        b"i1" => Kind::I8,
        b"i2" => Kind::I16,
        b"i4" => Kind::I32,
        b"i8" => Kind::I64,
        b"u1" => Kind::U8,
        b"u2" => Kind::U16,
        b"u4" => Kind::U32,
        b"u8" => Kind::U64,
        b"f4" => Kind::F32,
        b"f8" => Kind::F64,
        _ => return None,
    };
    match descr[0] {
        b'<' => Some((false, kind)),
        b'>' => Some((true, kind)),
        b'|' if kind.size() == 1 => Some((false, kind)),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Shape {
    ndim: usize,
    first: [u64; 3],
    count: u64,
}

/// The part of the header that is still to be parsed.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Whether `token` comes next; if so, steps over it.
    fn eat(&mut self, token: &[u8]) -> bool {
        self.skip_space();
        self.0.strip_prefix(token).map(|rest| self.0 = rest).is_some()
    }

    /// A quoted string without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let (quote @ (b'\'' | b'"'), rest) = self.0.split_first()? else { return None };
        let end = rest.iter().position(|c| c == quote)?;
        let (text, rest) = (&rest[..end], &rest[end + 1..]);
        self.0 = rest;
        (!text.contains(&b'\\')).then_some(text)
    }

    fn flag(&mut self) -> Option<bool> {
        if self.eat(b"True") { Some(true) } else { self.eat(b"False").then_some(false) }
    }

    /// A tuple of dimensions; the error says what was expected.
    fn shape(&mut self) -> Result<Shape, &'static str> {
        if !self.eat(b"(") {
            return Err("a tuple");
        }
        let mut shape = Shape { ndim: 0, first: [1; 3], count: 1 };
        let mut comma = true;
        while !self.eat(b")") {
            if !comma {
                return Err("`,` or `)`");
            }
            let digits = self.0.iter().take_while(|c| c.is_ascii_digit()).count();
            let (number, rest) = self.0.split_at(digits);
            let n = str::from_utf8(number)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or("a dimension below 2^64")?;
            self.0 = rest;
            // Python 2 marks long integers.
            self.eat(b"L");
            if let Some(place) = shape.first.get_mut(shape.ndim) {
                *place = n;
            }
            shape.ndim += 1;
            shape.count = shape.count.checked_mul(n).ok_or("at most 2^64 numbers before")?;
            comma = self.eat(b",");
        }
        if shape.ndim == 1 && !comma {
            Err("a tuple, which `(n)` is not, before")
        } else {
            Ok(shape)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut out = [MAGIC, &[version, 0]].concat();
        let len = (header.len() as u32).to_le_bytes();
        out.extend(&len[..if version == 1 { 2 } else { 4 }]);
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    fn header(descr: &str, fortran_order: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}, }}\n")
    }

    fn matrix<T: Element>(bytes: &[u8]) -> Result<Matrix<T>, Error> {
        parse_matrix(Path::new("t.npy"), bytes, bytes.len() as u64)
    }

    fn vector(bytes: &[u8]) -> Result<Vec<f64>, Error> {
        parse_vector(Path::new("t.npy"), bytes, bytes.len() as u64)
    }

    fn message(header: &str, data: &[u8]) -> String {
        matrix::<f64>(&file(1, header, data)).unwrap_err().to_string()
    }

    /// What NumPy 2.4 wrote: up to the end of the dictionary, the spaces after it, the data.
    fn numpy(dictionary: &[u8], spaces: usize, data: &[u8]) -> Vec<u8> {
        [dictionary, " ".repeat(spaces).as_bytes(), b"\n", data].concat()
    }

    #[test]
    fn files_of_numpy() {
        let bytes = numpy(
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
            58,
            b"\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00\x80\
              \x00\x00\x00\x00\x00\x00\xf8\x7f\x00\x00\x00\x00\x00\x00\xf0\x7f\
              \x01\x00\x00\x00\x00\x00\x00\x00\x9a\x99\x99\x99\x99\x99\xb9?",
        );
        let got = matrix::<f64>(&bytes).unwrap();
        let want = [1.0, -0.0, f64::NAN, f64::INFINITY, 5e-324, 0.1];
        assert!(got.data.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!((got.rows, got.cols), (2, 3));
        let mut again = Vec::new();
        encode(&mut again, &[2, 3], &got.data).unwrap();
        assert_eq!(again, bytes);

        let bytes = numpy(
            b"\x93NUMPY\x01\x00v\x00{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }",
            59,
            b"?\x80\x00\x00@\x80\x00\x00@\x00\x00\x00@\xa0\x00\x00@@\x00\x00@\xd0\x00\x00",
        );
        let got = matrix::<f32>(&bytes).unwrap();
        assert_eq!(
            got,
            Matrix { data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.5].into(), rows: 2, cols: 3 }
        );

        let bytes = numpy(
            b"\x93NUMPY\x02\x00t\x00\x00\x00\
              {'descr': '<i2', 'fortran_order': False, 'shape': (2, 2), }",
            56,
            b"\x00\x80\x01\x00\x02\x00\xff\x7f",
        );
        assert_eq!(matrix::<f64>(&bytes).unwrap().data, [-32768.0, 1.0, 2.0, 32767.0]);

        let bytes = numpy(
            b"\x93NUMPY\x03\x00t\x00\x00\x00\
              {'descr': '|u1', 'fortran_order': True, 'shape': (2, 2), }",
            57,
            b"\x00\x02\x01\xff",
        );
        assert_eq!(matrix::<f64>(&bytes).unwrap().data, [0.0, 1.0, 2.0, 255.0]);

        let bytes = numpy(
            b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }",
            60,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x00\x00\x00\
              \x03\x00\x00\x00\x00\x00\x00\x00",
        );
        assert_eq!(vector(&bytes).unwrap(), [-1.0, 2.0, 3.0]);
    }

    #[test]
    fn every_type_in_both_byte_orders() {
        macro_rules! check {
            ($($ty:ident $name:literal),*) => {$(
                for (order, bytes) in [
                    ("<", [$ty::MAX.to_le_bytes(), $ty::MIN.to_le_bytes()]),
                    (">", [$ty::MAX.to_be_bytes(), $ty::MIN.to_be_bytes()]),
                ] {
                    for (fortran_order, shape) in [("False", "(2, 1)"), ("True", "(1, 2)")] {
                        let header = header(&format!("{order}{}", $name), fortran_order, shape);
                        let bytes = file(1, &header, bytes.as_flattened());
                        let wide = matrix::<f64>(&bytes).unwrap();
                        assert_eq!(wide.data, [$ty::MAX as f64, $ty::MIN as f64]);
                        if $name != "f8" {
                            let narrow = matrix::<f32>(&bytes).unwrap();
                            assert_eq!(narrow.data, [$ty::MAX as f32, $ty::MIN as f32]);
                        }
                    }
                }
            )*};
        }
        check!(i8 "i1", i16 "i2", i32 "i4", i64 "i8", u8 "u1", u16 "u2", u32 "u4", u64 "u8");
        check!(f32 "f4", f64 "f8");
    }

    #[test]
    fn odd_headers_that_python_accepts() {
        for header in [
            "{'shape':(1,2),'fortran_order':False,'descr':'|i1'}",
            "  {\t\"shape\" : ( 1L , 2L , ) , \"fortran_order\":True,\"descr\":\"<i1\" , }  \n\n",
        ] {
            for version in 1..=3 {
                let got = matrix::<f64>(&file(version, header, &[7, 255])).unwrap();
                assert_eq!(got, Matrix { data: vec![7.0, -1.0].into(), rows: 1, cols: 2 });
            }
        }
        // NumPy's own limit is lower.
        let long = header("|i1", "False", "(1, 1)") + &" ".repeat(65_000 - 60);
        assert_eq!(matrix::<f64>(&file(1, &long, &[3])).unwrap().data, [3.0]);
    }

    #[test]
    fn one_chain_or_one_draw_is_a_matrix() {
        for (order, want) in
            [("False", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), ("True", [1.0, 4.0, 2.0, 5.0, 3.0, 6.0])]
        {
            for shape in ["(3, 1, 2)", "(1, 3, 2)", "(3, 2)"] {
                let bytes = file(1, &header("|i1", order, shape), &[1, 2, 3, 4, 5, 6]);
                let got = matrix::<f64>(&bytes).unwrap();
                assert_eq!((got.rows, got.cols), (3, 2));
                assert_eq!(got.data[..], want);
            }
        }
        for shape in ["(3, 2, 1)", "(1, 3, 2, 1)"] {
            let bytes = file(1, &header("|i1", "False", shape), &[1, 2, 3, 4, 5, 6]);
            assert!(matrix::<f64>(&bytes).is_err(), "{shape}");
        }
    }

    #[test]
    fn vectors() {
        let bytes = |shape| file(1, &header("|i1", "True", shape), &[1, 2, 3]);
        for shape in ["(3,)", "(3, 1)", "(1, 3)"] {
            assert_eq!(vector(&bytes(shape)).unwrap(), [1.0, 2.0, 3.0]);
        }
        assert_eq!(
            vector(&bytes("(1, 1, 3, 1)")).unwrap_err().to_string(),
            "t.npy: expected a vector (one dimension, one row or one column), found 4 dimensions"
        );
        assert_eq!(
            matrix::<f64>(&bytes("(3,)")).unwrap_err().to_string(),
            "t.npy: expected a 2-D array, found shape (3,)"
        );
        let bytes = file(1, &header("|i1", "False", "()"), &[1]);
        assert!(vector(&bytes).unwrap_err().to_string().ends_with("found 0 dimensions"));
    }

    #[test]
    fn overflow_is_located() {
        let data: Vec<u8> = [1.0, 2.0, f64::INFINITY, f64::NAN, -1e300, f64::MIN_POSITIVE]
            .iter()
            .flat_map(|x: &f64| x.to_le_bytes())
            .collect();
        for (order, place) in [("False", "[1, 1]"), ("True", "[0, 2]")] {
            let bytes = file(1, &header("<f8", order, "(2, 3)"), &data);
            assert_eq!(
                matrix::<f32>(&bytes).unwrap_err().to_string(),
                format!("t.npy: -1e300 at {place} is too large for f32")
            );
        }
        let bytes = file(1, &header("<f8", "False", "(6,)"), &data);
        let error = parse_vector::<f32>(Path::new("t.npy"), &bytes[..], bytes.len() as u64);
        assert!(error.unwrap_err().to_string().contains("at [4] is"));
    }

    #[test]
    fn unsupported_dtypes_are_named() {
        for descr in
            ["<f2", "<c16", "|O", "|b1", "<U3", "|S1", "<M8[ns]", "|V8", "=f8", "|f8", "", "é"]
        {
            assert_eq!(
                message(&header(descr, "False", "(1, 1)"), &[0; 8]),
                format!("t.npy: unsupported dtype {descr}, expected f4, f8, i1 to i8 or u1 to u8")
            );
        }
        let text = message("{'descr': [('a', '<f4'), ('b', '<i2')], 'shape': (1, 1)}", &[]);
        assert!(
            text.starts_with("t.npy: unsupported dtype [('a', '<f4'), ('b', '<i2')]"),
            "{text}"
        );
    }

    #[test]
    fn problems_are_named() {
        let f8 = |shape| header("<f8", "False", shape);
        for (header, want) in [
            (f8("(2, 3)"), "expected 6 numbers of 8 bytes, found 8 bytes"),
            (f8("(-1, 3)"), "expected a dimension below 2^64 in the header, found `-1, 3), }\\n`"),
            (f8("[1, 1]"), "expected a tuple in the header"),
            (f8("(1)"), "expected a tuple, which `(n)` is not, before in the header"),
            (f8("(18446744073709551616, 1)"), "expected a dimension below 2^64"),
            (f8("(4294967296, 4294967296)"), "expected at most 2^64 numbers before"),
            (f8("(2305843009213693952, 1)"), "expected 2305843009213693952 numbers of 8 bytes"),
            ("{}".into(), "no `descr` in the header"),
            ("".into(), "expected `{` in the header, found ``"),
            ("{'descr': '<f8', 'descr': '<f8'}".into(), "expected each key once"),
            ("{'order': 'C'}".into(), "expected descr, fortran_order or shape"),
            (
                "{'descr': '<f8' 'shape'".into(),
                "expected `,` or `}` in the header, found `'shape'`",
            ),
            (f8("(1, 1)") + "x", "expected nothing after `}` in the header, found `x`"),
        ] {
            let text = message(&header, &[0; 8]);
            assert!(text.starts_with(&format!("t.npy: invalid NumPy file: {want}")), "{text}");
        }
        assert_eq!(message(&f8("(0, 3)"), &[]), "t.npy: holds no data");
        assert_eq!(message(&f8("(3, 0)"), &[]), "t.npy: holds no data");
    }

    #[test]
    fn written_headers() {
        for shape in [&[][..], &[1], &[1, 1], &[1, 1, 1]] {
            let mut out = Vec::new();
            encode(&mut out, shape, &[7i64]).unwrap();
            assert_eq!(out.len(), 128 + 8);
            assert!(out[..128].ends_with(b" \n"));
        }
        let mut out = Vec::new();
        encode::<f32>(&mut out, &[0, 3], &[]).unwrap();
        assert_eq!(matrix::<f32>(&out).unwrap_err().to_string(), "t.npy: holds no data");
    }
}
