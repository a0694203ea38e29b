//! Every kernel of the registry against its reference: the same bits on every instruction-set
//! level, whatever the shape, the options, the alignment and the values of the inputs.
#![no_main]

use gibbsite_fuzz::{Class, Float, Numbers};
use gibbsite_kernels::{
    Isa, Scratch,
    registry::{Array, Call, Entry, Shape, Work, entries},
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

/// Multiplications per call, so that hundreds of calls run in a second.
const PRODUCTS: usize = 30_000;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    double: bool,
    kernel: u8,
    n: u16,
    d: u8,
    m: u16,
    bias: bool,
    weighted: bool,
    pad: u8,
    offset: u8,
    class: Class,
    values: &'a [u8],
}

impl Input<'_> {
    /// Up to more than two tiles of points or neurons, though not of both.
    fn shape<T>(&self, entry: &Entry<T>) -> Shape {
        let (d, m) = (usize::from(self.d % 41), usize::from(self.m % 301));
        let products = match entry.work() {
            Work::Products => (d + 1) * m.max(1),
            Work::Rows => d + 1,
            Work::Values => 1,
        };
        let n = usize::from(self.n % 301).min(PRODUCTS / products);
        let pad = usize::from(self.pad % 20);
        Shape { n, d, m, bias: self.bias, weighted: self.weighted, pad }
    }
}

/// Where the `index`-th array of a call starts in its allocation: any place in a cache line.
fn offset<T>(input: &Input<'_>, index: usize) -> usize {
    (usize::from(input.offset) + index * usize::from(input.offset / 16)) % (64 / size_of::<T>())
}

fn check<T: Float>(input: &Input<'_>) {
    let entries = entries::<T>();
    let entry = entries[usize::from(input.kernel) % entries.len()];
    let shape = input.shape(&entry);
    let mut numbers = Numbers::new(input.values);
    // Arrays end where their allocations end, for the address sanitizer.
    let arrays = (entry.inputs)(shape);
    let mut inputs: Vec<Vec<T>> = Vec::new();
    for (k, array) in arrays.iter().enumerate() {
        inputs.push(numbers.array(input.class, offset::<T>(input, k) + array.len()));
    }
    let inputs: Vec<&[T]> =
        inputs.iter().enumerate().map(|(k, data)| &data[offset::<T>(input, k)..]).collect();

    let poison = T::from_f64(-7.25e-3);
    let start = |k: usize| offset::<T>(input, arrays.len() + k);
    let arrays = (entry.outputs)(shape);
    let outputs = |arrays: &[Array]| -> Vec<Vec<T>> {
        arrays.iter().enumerate().map(|(k, array)| vec![poison; start(k) + array.len()]).collect()
    };
    let run = |call: &mut dyn FnMut(Call<'_, '_, T>)| {
        let mut outputs = outputs(&arrays);
        let mut slices: Vec<_> =
            outputs.iter_mut().enumerate().map(|(k, data)| &mut data[start(k)..]).collect();
        call(Call { shape, inputs: &inputs, outputs: &mut slices });
        outputs
    };
    let want = run(&mut |call| (entry.reference)(call));
    // Scratch space is clean at first, and not when the first level comes again.
    let mut scratch = Scratch::default();
    for isa in Isa::available().chain([Isa::best()]) {
        let got = run(&mut |call| (entry.run)(isa, call, &mut scratch));
        for (k, array) in arrays.iter().enumerate() {
            for (at, (got, want)) in got[k].iter().zip(&want[k]).enumerate() {
                assert_eq!(
                    got.canonical_bits(),
                    want.canonical_bits(),
                    "{} {} on {isa}, {shape:?}: {got} instead of {want} in {} at {at} - {}",
                    entry.name,
                    T::NAME,
                    array.name,
                    start(k)
                );
            }
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    match input.double {
        false => check::<f32>(&input),
        true => check::<f64>(&input),
    }
});
