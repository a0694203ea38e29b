//! Numbers in files: the types that can be read and written, and the decoding of raw bytes.

use super::Error;
use std::{
    collections::TryReserveError,
    io::{self, Read, Write},
    path::Path,
};

/// Bytes converted at a time.
const BLOCK: usize = 16 << 10;

/// Element types that can be written: `f32`, `f64` and `i64`.
pub trait Stored: sealed::Stored {}
impl Stored for f32 {}
impl Stored for f64 {}
impl Stored for i64 {}

/// Element types that can be read: `f32` and `f64`.
pub trait Element: Stored + sealed::Real {}
impl Element for f32 {}
impl Element for f64 {}

pub(super) mod sealed {
    use super::Kind;
    use std::{fmt, str::FromStr};

    pub trait Stored: Copy {
        /// As NumPy names it.
        const NPY: &'static str;
        fn put(self, out: &mut Vec<u8>);
    }

    pub trait Real:
        Stored + bytemuck::Pod + Default + fmt::Debug + Into<f64> + FromStr + PartialEq
    {
        const NAME: &'static str;
        const KIND: Kind;
        /// As safetensors names it.
        const SAFETENSORS: &'static str;
        fn from_i64(x: i64) -> Self;
        fn from_u64(x: u64) -> Self;
        fn from_f32(x: f32) -> Self;
        /// May round a finite number to infinity.
        fn from_f64(x: f64) -> Self;
    }

    macro_rules! stored {
        ($($ty:ty: $npy:literal),*) => {$(
            impl Stored for $ty {
                const NPY: &'static str = $npy;
                fn put(self, out: &mut Vec<u8>) {
                    out.extend_from_slice(&self.to_le_bytes());
                }
            }
        )*};
    }
    stored!(f32: "<f4", f64: "<f8", i64: "<i8");

    macro_rules! real {
        ($($ty:ident: $kind:ident, $safetensors:literal);*) => {$(
            impl Real for $ty {
                const NAME: &'static str = stringify!($ty);
                const KIND: Kind = Kind::$kind;
                const SAFETENSORS: &'static str = $safetensors;
                fn from_i64(x: i64) -> Self {
                    x as $ty
                }
                fn from_u64(x: u64) -> Self {
                    x as $ty
                }
                fn from_f32(x: f32) -> Self {
                    x as $ty
                }
                fn from_f64(x: f64) -> Self {
                    x as $ty
                }
            }
        )*};
    }
    real!(f32: F32, "F32"; f64: F64, "F64");
}

/// Element types of the file formats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

impl Kind {
    pub(super) fn size(self) -> u64 {
        match self {
            Kind::I8 | Kind::U8 => 1,
            Kind::I16 | Kind::U16 => 2,
            Kind::I32 | Kind::U32 | Kind::F32 => 4,
            Kind::I64 | Kind::U64 | Kind::F64 => 8,
        }
    }
}

/// Why [`decode`] stopped.
pub(super) enum Failure {
    Read(io::Error),
    Memory,
    /// A finite number, at this position in the file, that is infinite in the type asked for.
    Overflow(usize, f64),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Read(error)
    }
}

impl From<TryReserveError> for Failure {
    fn from(_: TryReserveError) -> Self {
        Failure::Memory
    }
}

impl Failure {
    /// Adds the file, and what the caller calls the number at a position.
    pub(super) fn at<T: Element>(
        self,
        path: &Path,
        count: usize,
        place: impl Fn(usize) -> String,
    ) -> Error {
        let path = path.to_path_buf();
        match self {
            Failure::Read(source) => Error::Read { path, source },
            Failure::Memory => Error::Memory { path, count },
            Failure::Overflow(k, value) => {
                let (place, value) = (place(k), text(value));
                Error::Overflow { path, place, value, wanted: T::NAME }
            }
        }
    }
}

/// Reads `count` numbers and puts the one at position `k` of the file at `index(k)`.
///
/// The caller has checked that the file is long enough for `count`, so the result is never more
/// than eight times the size of the data.
pub(super) fn decode<T: Element>(
    input: &mut impl Read,
    kind: Kind,
    big_endian: bool,
    count: usize,
    index: impl Fn(usize) -> usize,
) -> Result<Vec<T>, Failure> {
    let mut out = Vec::new();
    out.try_reserve_exact(count)?;
    out.resize(count, T::default());
    macro_rules! read {
        ($ty:ident, $convert:expr) => {
            fill(input, &mut out, index, |raw| {
                $convert(if big_endian { $ty::from_be_bytes(raw) } else { $ty::from_le_bytes(raw) })
            })
        };
    }
    match kind {
        Kind::I8 => read!(i8, |x: i8| Ok(T::from_i64(x.into()))),
        Kind::I16 => read!(i16, |x: i16| Ok(T::from_i64(x.into()))),
        Kind::I32 => read!(i32, |x: i32| Ok(T::from_i64(x.into()))),
        Kind::I64 => read!(i64, |x| Ok(T::from_i64(x))),
        Kind::U8 => read!(u8, |x: u8| Ok(T::from_u64(x.into()))),
        Kind::U16 => read!(u16, |x: u16| Ok(T::from_u64(x.into()))),
        Kind::U32 => read!(u32, |x: u32| Ok(T::from_u64(x.into()))),
        Kind::U64 => read!(u64, |x| Ok(T::from_u64(x))),
        Kind::F32 => read!(f32, |x| Ok(T::from_f32(x))),
        Kind::F64 => read!(f64, |x: f64| {
            let y = T::from_f64(x);
            if x.is_finite() && !y.into().is_finite() { Err(x) } else { Ok(y) }
        }),
    }?;
    Ok(out)
}

/// Converts `out.len()` numbers of `B` bytes, in blocks.
fn fill<T: Element, const B: usize>(
    input: &mut impl Read,
    out: &mut [T],
    index: impl Fn(usize) -> usize,
    convert: impl Fn([u8; B]) -> Result<T, f64>,
) -> Result<(), Failure> {
    let mut block = [0; BLOCK];
    let mut done = 0;
    while done < out.len() {
        let count = (out.len() - done).min(BLOCK / B);
        let bytes = &mut block[..count * B];
        input.read_exact(bytes)?;
        for raw in bytes.as_chunks().0 {
            out[index(done)] = convert(*raw).map_err(|x| Failure::Overflow(done, x))?;
            done += 1;
        }
    }
    Ok(())
}

/// Writes numbers as little-endian bytes.
pub(super) fn encode<T: Stored>(out: &mut dyn Write, data: &[T]) -> io::Result<()> {
    let mut block = Vec::with_capacity(BLOCK);
    for numbers in data.chunks(BLOCK / 8) {
        block.clear();
        numbers.iter().for_each(|x| x.put(&mut block));
        out.write_all(&block)?;
    }
    Ok(())
}

/// Shortest text that reads back as the same number, without a fraction where it is whole.
pub(super) fn text(x: f64) -> String {
    let text = format!("{x:?}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back() {
        for (x, want) in [(1.0, "1"), (-0.0, "-0"), (0.1, "0.1"), (1e16, "1e16"), (1e-7, "1e-7")] {
            assert_eq!(text(x), want);
        }
        for x in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 1.0 / 3.0, 123456789.0, f64::INFINITY] {
            assert_eq!(text(x).parse(), Ok(x));
        }
        assert!(text(f64::NAN).parse::<f64>().unwrap().is_nan());
    }

    #[test]
    fn blocks_join() {
        // More than one block, and not a whole number of them.
        let data: Vec<f64> = (0..2 * BLOCK / 8 + 3).map(|k| k as f64).collect();
        let mut bytes = Vec::new();
        encode(&mut bytes, &data).unwrap();
        assert_eq!(bytes.len(), 8 * data.len());
        let got = decode::<f64>(&mut &bytes[..], Kind::F64, false, data.len(), |k| k);
        assert!(got.is_ok_and(|got| got == data));
        let short = &mut &bytes[..bytes.len() - 1];
        let got = decode::<f64>(short, Kind::F64, false, data.len(), |k| k);
        assert!(matches!(got, Err(Failure::Read(_))));
    }
}
