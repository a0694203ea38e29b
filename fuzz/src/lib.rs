//! What the targets share: options and numbers made from the bytes of an input.

use gibbsite::{Energy, Error, Real, ReluEnergy, Result, Rows, RowsMut};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    iter::{Copied, Cycle},
    slice::Iter,
};

/// Allocations that no memory can hold fail under the address sanitizer, as they do elsewhere, instead of ending the process.
// SAFETY: the sanitizer declares this function for programs to define, and reads the string that it returns.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const std::ffi::c_char {
    c"allocator_may_return_null=1".as_ptr()
}

/// An element type with access to its bits.
pub trait Float: Real {
    fn from_bits(bits: u64) -> Self;
    /// All NaNs are one.
    fn canonical_bits(self) -> u64;
}

macro_rules! float {
    ($t:ident, $bits:ident) => {
        impl Float for $t {
            fn from_bits(bits: u64) -> Self {
                $t::from_bits(bits as $bits)
            }
            fn canonical_bits(self) -> u64 {
                if self.is_nan() { u64::MAX } else { self.to_bits().into() }
            }
        }
    };
}
float!(f32, u32);
float!(f64, u64);

pub fn same<T: Float>(a: &[T], b: &[T]) -> bool {
    a.iter().map(|x| x.canonical_bits()).eq(b.iter().map(|x| x.canonical_bits()))
}

pub fn finite<T: Real>(values: &[T]) -> bool {
    values.iter().all(|x| x.to_f64().is_finite())
}

/// A number for an option: one that makes sense, or any.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Amount {
    Sixteenths(u8),
    Any(f64),
}

impl Amount {
    pub fn value(self) -> f64 {
        match self {
            Amount::Sixteenths(count) => f64::from(count) / 16.0,
            Amount::Any(value) => value,
        }
    }
}

/// A size: a small one, one near where products overflow, or any.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Size {
    Small(u8),
    Near { bits: u8, off: i8 },
    Any(usize),
}

impl Size {
    pub fn value(self) -> usize {
        match self {
            Size::Small(size) => size.into(),
            Size::Near { bits, off } => {
                (1_usize << (bits % usize::BITS as u8)).wrapping_add_signed(off.into())
            }
            Size::Any(size) => size,
        }
    }
}

/// What an array is made of.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Multiples of 1/32 from -4 to below 4: many are equal, and sums of products are exact.
    Tame,
    /// Magnitudes from 1/16 to below 16 with digits down to the last: every operation rounds.
    Full,
    /// Tame, but for one value of any bits.
    One,
    /// Any bits.
    Bits,
}

/// The last bytes of an input, as numbers. As small inputs say little, and most are small, more bytes follow: the same again, if the first byte
/// is odd, or random ones.
pub enum Numbers<'a> {
    Again(Cycle<Copied<Iter<'a, u8>>>),
    Random { bytes: Copied<Iter<'a, u8>>, state: u64 },
}

impl<'a> Numbers<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        match bytes.split_first() {
            Some((first, rest)) if first % 2 == 1 && !rest.is_empty() => {
                Self::Again(rest.iter().copied().cycle())
            }
            _ => {
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                Self::Random { bytes: bytes.iter().copied(), state: hasher.finish() }
            }
        }
    }

    pub fn byte(&mut self) -> u8 {
        match self {
            Self::Again(bytes) => bytes.next().expect("there is one"),
            Self::Random { bytes, state } => bytes.next().unwrap_or_else(|| {
                // Knuth's generator, whose highest bits are the best.
                *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (*state >> 56) as u8
            }),
        }
    }

    pub fn any<T: Float>(&mut self) -> T {
        let mut bytes = [0; 8];
        bytes[..size_of::<T>()].fill_with(|| self.byte());
        T::from_bits(u64::from_le_bytes(bytes))
    }

    pub fn tame<T: Float>(&mut self) -> T {
        T::from_f64(f64::from(self.byte() as i8) / 32.0)
    }

    fn full<T: Float>(&mut self) -> T {
        let bits = u64::from_le_bytes(std::array::from_fn(|_| self.byte()));
        let (sign, exponent, digits) =
            (bits >> 63 << 63, 1019 + (bits >> 52) % 8, bits << 12 >> 12);
        T::from_f64(f64::from_bits(sign | exponent << 52 | digits))
    }

    pub fn array<T: Float>(&mut self, class: Class, len: usize) -> Vec<T> {
        let mut array: Vec<T> = (0..len)
            .map(|_| match class {
                Class::Tame | Class::One => self.tame(),
                Class::Full => self.full(),
                Class::Bits => self.any(),
            })
            .collect();
        if class == Class::One && len > 0 {
            let at = usize::from(self.byte()) % len;
            array[at] = self.any();
        }
        array
    }
}

/// Puts rows on the unit sphere, where they can be.
pub fn normalise<T: Float>(x: &mut [T], d: usize) {
    for x in x.chunks_exact_mut(d.max(1)) {
        let norm = x.iter().map(|x| x.to_f64() * x.to_f64()).sum::<f64>().sqrt();
        if norm > 0.0 {
            x.iter_mut().for_each(|x| *x = T::from_f64(x.to_f64() / norm));
        } else {
            x[0] = T::from_f64(1.0);
        }
    }
}

/// Keeps a result, or checks that the complaint is one readable line.
pub fn accepted<R>(result: Result<R, Error>) -> Option<R> {
    let message = match result {
        Ok(value) => return Some(value),
        Err(error) => error.to_string(),
    };
    assert!(!message.is_empty() && message.len() < 400, "{message:?}");
    assert!(!message.contains(char::is_control), "{message:?}");
    None
}

/// A ReLU energy as any other: samplers do not know what it is.
pub struct Opaque<'a, T: Real>(pub &'a ReluEnergy<T>);

impl<T: Real> Energy<T> for Opaque<'_, T> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn domain(&self) -> gibbsite::Domain {
        self.0.domain()
    }

    fn potential_score(
        &self,
        x: Rows<'_, T>,
        potential: Option<&mut [T]>,
        score: Option<RowsMut<'_, T>>,
    ) -> Result<()> {
        self.0.potential_score(x, potential, score)
    }
}
