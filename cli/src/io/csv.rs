//! Tables of numbers as comma-separated values.

use super::{Element, Error, Matrix, error::clip_bytes, number};
use ::csv::Writer;
use csv_core::{ReadFieldResult, Reader};
use std::{
    io::{self, Write},
    path::Path,
};

/// Reads the `bytes` of a file called `path`.
///
/// The first line is skipped if it is a header, that is if some of its fields are words and none is a
/// number. Blank lines and white space around fields mean nothing; fields may be quoted. `nan` and
/// `inf` are numbers in any case of letters.
pub fn parse_matrix<T: Element>(path: &Path, bytes: &[u8]) -> Result<Matrix<T>, Error> {
    let mut fields = Fields { reader: Reader::new(), rest: bytes, text: vec![0; 64] };
    let (mut data, mut cols) = (Vec::new(), None);
    // Of the line: where it starts, its fields so far, whether there are words, what is wrong.
    let (mut start, mut field, mut words, mut bad) = (0, 0, false, None);
    while let Some((text, ends_line)) = fields.next() {
        field += 1;
        words |= !text.trim_ascii().is_empty();
        let found = || clip_bytes(text.trim_ascii(), 40);
        let line = || line_of(bytes, start);
        let path = || path.to_path_buf();
        match number::<T>(text) {
            None => {
                bad.get_or_insert_with(|| {
                    let (path, line, found) = (path(), line(), found());
                    Error::Field { path, line, field, expected: "a number", found }
                });
            }
            Some(x) => {
                // Infinity spelled in digits.
                if x.into().is_infinite() && text.iter().any(u8::is_ascii_digit) {
                    bad.get_or_insert_with(|| {
                        let place = format!("line {}, field {field}", line());
                        let (path, value, wanted) = (path(), found(), T::NAME);
                        Error::Overflow { path, place, value, wanted }
                    });
                }
                data.push(x);
            }
        }
        if !ends_line {
            continue;
        }
        let header = cols.is_none() && data.is_empty() && words;
        let expected = *cols.get_or_insert(field);
        if field != expected {
            return Err(Error::Ragged { path: path(), line: line(), expected, found: field });
        }
        if let Some(error) = bad.filter(|_| !header) {
            return Err(error);
        }
        (start, field, words, bad) = (bytes.len() - fields.rest.len(), 0, false, None);
    }
    match cols {
        Some(cols) if !data.is_empty() => {
            Ok(Matrix { rows: data.len() / cols, cols, data: data.into() })
        }
        _ => Err(Error::NoData { path: path.into() }),
    }
}

/// The fields of a file. Only one is held at a time, so that a line of commas costs nothing.
struct Fields<'a> {
    reader: Reader,
    rest: &'a [u8],
    text: Vec<u8>,
}

impl Fields<'_> {
    /// The next field, and whether it is the last of its line.
    fn next(&mut self) -> Option<(&[u8], bool)> {
        let mut len = 0;
        loop {
            let (outcome, read, written) = self.reader.read_field(self.rest, &mut self.text[len..]);
            self.rest = &self.rest[read..];
            len += written;
            match outcome {
                // Asked again with nothing left, the reader ends the field.
                ReadFieldResult::InputEmpty => {}
                ReadFieldResult::OutputFull => self.text.resize(2 * self.text.len(), 0),
                ReadFieldResult::Field { record_end } => {
                    return Some((&self.text[..len], record_end));
                }
                ReadFieldResult::End => return None,
            }
        }
    }
}

/// Reads one column or one row of numbers.
pub fn parse_vector<T: Element>(path: &Path, bytes: &[u8]) -> Result<Vec<T>, Error> {
    let Matrix { data, rows, cols } = parse_matrix(path, bytes)?;
    if rows == 1 || cols == 1 {
        return Ok(data.to_vec());
    }
    let found = format!("{rows} rows of {cols} fields");
    Err(Error::Shape { path: path.into(), expected: "one column or one row", found })
}

/// Writes a header, unless it is empty, and rows of numbers in the shortest form that reads back
/// as the same number.
///
/// Fails if the rows and the header are not all of the same length.
pub fn encode<R: AsRef<[f64]>>(
    out: &mut dyn Write,
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    if !header.is_empty() {
        writer.write_record(header)?;
    }
    for row in rows {
        writer.write_record(row.as_ref().iter().map(|x| number::text(*x)))?;
    }
    writer.flush()
}

fn number<T: Element>(field: &[u8]) -> Option<T> {
    str::from_utf8(field.trim_ascii()).ok()?.parse().ok()
}

/// Line of the record that begins at or after the blank lines at `start`.
fn line_of(bytes: &[u8], start: usize) -> usize {
    let blank = bytes[start..].iter().take_while(|c| matches!(c, b'\r' | b'\n')).count();
    let before = &bytes[..start + blank];
    let ends_line = |i: &usize| match before[*i] {
        b'\n' => true,
        b'\r' => before.get(i + 1) != Some(&b'\n'),
        _ => false,
    };
    1 + (0..before.len()).filter(ends_line).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Matrix<f64>, Error> {
        parse_matrix(Path::new("t.csv"), text.as_bytes())
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn header_is_optional() {
        let want = Matrix { data: vec![1.0, 2.0, 3.0, 4.0].into(), rows: 2, cols: 2 };
        for text in [
            "1,2\n3,4\n",
            "x,y\n1,2\n3,4",
            "\u{feff}1,2\r\n3,4\r\n",
            "\u{feff}x,y\r1,2\r3,4",
            "\n\n 1 ,\t2\n\n\"3\",4e0\n\n",
            "\"a,\nb\",c\n1.0,+2\n.3e1,4.",
        ] {
            assert_eq!(parse(text).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn special_values() {
        let got = parse("nan,NaN,inf,-Inf,INFINITY,-0,5e-324\n").unwrap();
        assert!(got.data[0].is_nan() && got.data[1].is_nan());
        assert_eq!(got.data[2..5], [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY]);
        assert_eq!(got.data[5].to_bits(), (-0.0f64).to_bits());
        assert_eq!(got.data[6], 5e-324);
        assert_eq!((got.rows, got.cols), (1, 7));
    }

    #[test]
    fn bad_fields_are_located() {
        let field = |line: usize, field: usize, found: &str| {
            format!("t.csv: line {line}, field {field}: expected a number, found `{found}`")
        };
        assert_eq!(message("1,x\n"), field(1, 2, "x"));
        assert_eq!(message("a,b\n1,2\n3,\n"), field(3, 2, ""));
        assert_eq!(message("1,2\r\n\r\n\r\n 3 , z\t \r\n"), field(4, 2, "z"));
        assert_eq!(message("1\r2\r\rq"), field(4, 1, "q"));
        assert_eq!(message("\u{feff}1\n\nq"), field(3, 1, "q"));
        assert_eq!(message("1\n\"2\nb\"\n"), field(2, 1, "2\\nb"));
        assert_eq!(message("\"a\nb\"\n1\nc"), field(4, 1, "c"));
        assert_eq!(
            message(&("1\n".to_owned() + &"y".repeat(99))),
            field(2, 1, &("y".repeat(40) + "…"))
        );
        assert_eq!(message("1\n1_000"), field(2, 1, "1_000"));
        assert_eq!(message("1\n0x10"), field(2, 1, "0x10"));
        let error = parse_matrix::<f64>(Path::new("t.csv"), b"1\n\xff\n").unwrap_err();
        assert_eq!(error.to_string(), field(2, 1, "\u{fffd}"));
    }

    #[test]
    fn ragged_lines_are_located() {
        let text = |line, expected, found| {
            format!("t.csv: line {line}: expected {expected} fields, found {found}")
        };
        assert_eq!(message("1,2\n3\n"), text(2, 2, 1));
        assert_eq!(message("x,y\n1,2,3\n"), text(2, 2, 3));
        assert_eq!(message("1\n\n1,2\n"), text(3, 1, 2));
    }

    #[test]
    fn empty_tables_hold_no_data() {
        for text in ["", "\n\n", "\u{feff}", "x,y\n", ",y\n"] {
            assert_eq!(message(text), "t.csv: holds no data", "{text:?}");
        }
        // Points that are missing, not names of columns.
        for text in ["\"\"", ",", " ,\t\n1,2\n"] {
            let problem = "t.csv: line 1, field 1: expected a number, found ``";
            assert_eq!(message(text), problem, "{text:?}");
        }
    }

    #[test]
    fn digits_never_become_infinity() {
        assert_eq!(message("1\n-1e999\n"), "t.csv: -1e999 at line 2, field 1 is too large for f64");
        let error = parse_matrix::<f32>(Path::new("t.csv"), b"1e39").unwrap_err();
        assert_eq!(error.to_string(), "t.csv: 1e39 at line 1, field 1 is too large for f32");
        // Correctly rounded to f32, not through f64.
        let halfway = b"1.00000005960464477540";
        let got = parse_matrix::<f32>(Path::new("t.csv"), halfway).unwrap();
        assert_eq!(got.data[0], 1.0 + f32::EPSILON);
    }

    #[test]
    fn vectors() {
        let parse = |text: &str| parse_vector::<f32>(Path::new("t.csv"), text.as_bytes());
        assert_eq!(parse("1\n2\n3").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(parse("a,b,c\n1,2,3").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(
            parse("1,2\n3,4").unwrap_err().to_string(),
            "t.csv: expected one column or one row, found 2 rows of 2 fields"
        );
    }

    #[test]
    fn written_tables() {
        let mut out = Vec::new();
        let rows = [[1.0, 0.1, -0.0], [1e300, f64::NAN, f64::NEG_INFINITY], [1e-9, 1e15, 5e-324]];
        encode(&mut out, &["a", "b, c", "d"], rows).unwrap();
        let text = "a,\"b, c\",d\n1,0.1,-0\n1e300,NaN,-inf\n1e-9,1000000000000000,5e-324\n";
        assert_eq!(str::from_utf8(&out).unwrap(), text);
        let got = parse(text).unwrap();
        let bits = |x: &f64| if x.is_nan() { 0 } else { x.to_bits() };
        assert!(got.data.iter().map(bits).eq(rows.as_flattened().iter().map(bits)));
        assert!(encode(&mut Vec::new(), &["a"], [[1.0, 2.0]]).is_err());
    }
}
