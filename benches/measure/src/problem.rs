//! Problems of the registry, with data.

use crate::values;
use gibbsite_kernels::{
    Isa, Real, Scratch,
    registry::{Call, Entry, Shape, Work, entries},
};

/// Few coordinates and many samples; in between; many coordinates.
const PRODUCTS: [(usize, usize, usize); 3] =
    [(30_000, 15, 500), (8_192, 64, 1_024), (4_096, 784, 2_048)];

/// A shape is left to the cheaper kernels if one call takes more operations than this.
const MOST_FLOPS: u64 = 30_000_000_000;

/// Values beyond any cache.
const VALUES: usize = 10_000_000;
/// In each row of them.
const ROW: usize = 1_000;

/// Plain code makes a library call of every multiply-add where the target's baseline has no instruction, and
/// takes a hundred times as long.
const LESS_FOR_SCALAR: usize = 256;

/// How large problems are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As in the documentation.
    Full,
    /// A sixteenth of the samples.
    Quick,
    /// A few samples: for tests.
    Tiny,
}

impl Size {
    fn reduced(self, n: usize) -> usize {
        let by = match self {
            Self::Full => 1,
            Self::Quick => 16,
            Self::Tiny => 1 << 13,
        };
        (n / by).max(1)
    }
}

/// Every kernel of the registry with each of its shapes.
pub fn cases<T: Real>(size: Size) -> Vec<(Entry<T>, Shape)> {
    let shape = |(n, d, m)| Shape { n, d, m, ..Shape::default() };
    let of = |entry: Entry<T>| -> Vec<_> {
        let shapes: Vec<_> = match entry.work() {
            Work::Products => PRODUCTS.map(shape).to_vec(),
            Work::Rows => vec![shape((VALUES / ROW, ROW, 1))],
            Work::Values => vec![shape((VALUES, 1, 1))],
        };
        let shapes = shapes.into_iter().filter(|&shape| (entry.flops)(shape) <= MOST_FLOPS);
        shapes.map(|shape| (entry, Shape { n: size.reduced(shape.n), ..shape })).collect()
    };
    entries().into_iter().flat_map(of).collect()
}

/// The levels that are compared, highest first.
pub fn levels() -> impl Iterator<Item = Isa> {
    Isa::available().filter(|&isa| isa <= Isa::best())
}

/// The shape with as many samples as a level can do in about the same time.
pub fn shape_of_level(shape: Shape, isa: Isa) -> Shape {
    match isa {
        Isa::Scalar => Shape { n: (shape.n / LESS_FOR_SCALAR).max(1), ..shape },
        _ => shape,
    }
}

/// `relu.score/f64/avx2/n=30000,d=15,m=500`
pub fn name<T: Real>(entry: &Entry<T>, isa: Isa, Shape { n, d, m, .. }: Shape) -> String {
    format!("{}/{}/{isa}/n={n},d={d},m={m}", entry.name, T::NAME)
}

/// A kernel with its arrays.
pub struct Problem<T> {
    entry: Entry<T>,
    shape: Shape,
    /// In the order of the registry; empty for what is updated in place.
    pub inputs: Vec<Vec<T>>,
    /// In the order of the registry.
    pub outputs: Vec<Vec<T>>,
    scratch: Scratch,
}

impl<T: Real> Problem<T> {
    /// The same in every run.
    pub fn new(entry: Entry<T>, shape: Shape) -> Self {
        let mut inputs: Vec<_> = (entry.inputs)(shape)
            .iter()
            .enumerate()
            .map(|(k, array)| (array.name, values(array.len(), k as u64)))
            .collect();
        let outputs = (entry.outputs)(shape);
        let output = outputs.iter().map(|array| {
            match inputs.iter_mut().find(|(name, _)| *name == array.name) {
                Some((_, input)) => std::mem::take(input),
                None => vec![T::ZERO; array.len()],
            }
        });
        let outputs = output.collect();
        let inputs = inputs.into_iter().map(|(_, data)| data).collect();
        Self { entry, shape, inputs, outputs, scratch: Scratch::default() }
    }

    /// One call of the kernel.
    pub fn run(&mut self, isa: Isa) {
        let inputs: Vec<_> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<_> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let call = Call { shape: self.shape, inputs: &inputs, outputs: &mut outputs };
        (self.entry.run)(isa, call, &mut self.scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all_kernels_have_cases<T: Real>() {
        for size in [Size::Full, Size::Quick, Size::Tiny] {
            let with: BTreeSet<_> = cases::<T>(size).iter().map(|(entry, _)| entry.name).collect();
            let all: BTreeSet<_> = entries::<T>().iter().map(|entry| entry.name).collect();
            assert_eq!(with, all, "{size:?}");
        }
    }

    /// Benches and `gibbsite bench` go through the cases.
    #[test]
    fn no_kernel_is_left_out() {
        all_kernels_have_cases::<f32>();
        all_kernels_have_cases::<f64>();
    }

    #[test]
    fn costs_grow_with_what_is_said() {
        for entry in entries::<f64>() {
            let expected = match entry.name.split_once('.').expect("family and kernel") {
                (_, "gate_column") | ("elementary", _) => Work::Values,
                ("noise" | "rowwise", _) | (_, "update" | "finish" | "pairs") => Work::Rows,
                ("chain", kernel) if kernel.starts_with("moves") => Work::Rows,
                _ => Work::Products,
            };
            assert_eq!(entry.work(), expected, "{}", entry.name);
        }
    }

    /// What is in place at the start gives the same as what is copied there.
    #[test]
    fn updates_in_place_start_from_the_inputs() {
        let shape = Shape { n: 37, d: 5, m: 9, ..Shape::default() };
        let mut in_place = Vec::new();
        for entry in entries::<f64>() {
            let mut problem = Problem::new(entry, shape);
            if problem.inputs.iter().any(Vec::is_empty) {
                in_place.push(entry.name);
            }
            problem.run(Isa::Scalar);
            let arrays = (entry.inputs)(shape);
            let inputs = arrays.iter().enumerate().map(|(k, array)| values(array.len(), k as u64));
            let inputs: Vec<Vec<f64>> = inputs.collect();
            let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
            let outputs = (entry.outputs)(shape);
            let mut outputs: Vec<_> = outputs.iter().map(|array| vec![0.0; array.len()]).collect();
            let mut slices: Vec<_> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
            (entry.reference)(Call { shape, inputs: &inputs, outputs: &mut slices });
            let bits = |all: &[Vec<f64>]| -> Vec<u64> {
                all.iter().flatten().map(|x| if x.is_nan() { 0 } else { x.to_bits() }).collect()
            };
            assert_eq!(bits(&problem.outputs), bits(&outputs), "{}", entry.name);
        }
        assert_eq!(in_place.len(), 12, "{in_place:?}");
    }
}
