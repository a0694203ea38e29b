//! Every kernel of the registry against its reference: the same bits on every instruction-set
//! level, whatever the shape and the bits of the inputs.
//!
//! An input starts with n, d, m, flags (1: f64, 2: bias, 4: weights, 8: gaps between rows), the
//! kernel's number and the arrays' offset, a byte each. What follows are the bits of the values,
//! repeated as often as necessary.
#![no_main]

use gibbsite_kernels::{
    Isa, Real, Scratch,
    registry::{Array, Call, Shape, entries},
};
use libfuzzer_sys::fuzz_target;

/// Multiplications per call, so that thousands of calls run in a second.
const PRODUCTS: usize = 30_000;

trait Float: Real {
    fn from_bits(bits: u64) -> Self;
    /// All NaNs are one.
    fn canonical_bits(self) -> u64;
}

impl Float for f32 {
    fn from_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
    fn canonical_bits(self) -> u64 {
        if self.is_nan() { u64::MAX } else { self.to_bits().into() }
    }
}

impl Float for f64 {
    fn from_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn canonical_bits(self) -> u64 {
        if self.is_nan() { u64::MAX } else { self.to_bits() }
    }
}

fn check<T: Float>(shape: Shape, kernel: usize, offset: usize, bits: &[u8]) {
    let entries = entries::<T>();
    let entry = entries[kernel % entries.len()];
    let mut bits = bits.iter().copied().cycle();
    let mut value = || {
        let mut bytes = [0; 8];
        bytes[..size_of::<T>()].fill_with(|| bits.next().unwrap_or(0));
        T::from_bits(u64::from_le_bytes(bytes))
    };
    // Arrays end where their allocations end, for the address sanitizer.
    let arrays = (entry.inputs)(shape);
    let inputs: Vec<Vec<T>> =
        arrays.iter().map(|array| (0..offset + array.len()).map(|_| value()).collect()).collect();
    let inputs: Vec<&[T]> = inputs.iter().map(|input| &input[offset..]).collect();

    let poison = T::from_f64(-7.25e-3);
    let arrays = (entry.outputs)(shape);
    let outputs = |arrays: &[Array]| -> Vec<Vec<T>> {
        arrays.iter().map(|array| vec![poison; offset + array.len()]).collect()
    };
    let mut want = outputs(&arrays);
    let mut slices: Vec<_> = want.iter_mut().map(|output| &mut output[offset..]).collect();
    (entry.reference)(Call { shape, inputs: &inputs, outputs: &mut slices });
    for isa in Isa::available() {
        let mut got = outputs(&arrays);
        let mut slices: Vec<_> = got.iter_mut().map(|output| &mut output[offset..]).collect();
        let call = Call { shape, inputs: &inputs, outputs: &mut slices };
        (entry.run)(isa, call, &mut Scratch::default());
        for ((got, want), array) in got.iter().zip(&want).zip(&arrays) {
            for (at, (got, want)) in got.iter().zip(want).enumerate() {
                assert_eq!(
                    got.canonical_bits(),
                    want.canonical_bits(),
                    "{} {} on {isa}, {shape:?}: {got} instead of {want} in {} at {at} - {offset}",
                    entry.name,
                    T::NAME,
                    array.name
                );
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[n, d, m, flags, kernel, offset], bits)) = data.split_first_chunk() else { return };
    let (d, m) = (usize::from(d % 41), usize::from(m % 211));
    let n = usize::from(n % 41).min(PRODUCTS / (d * m).max(1));
    let (bias, weighted) = (flags & 2 != 0, flags & 4 != 0);
    let pad = if flags & 8 != 0 { 3 } else { 0 };
    let shape = Shape { n, d, m, bias, weighted, pad };
    let (kernel, offset) = (kernel.into(), (offset % 16).into());
    match flags & 1 {
        0 => check::<f32>(shape, kernel, offset, bits),
        _ => check::<f64>(shape, kernel, offset, bits),
    }
});
