//! Problems of the registry, with data.

use super::values::values;
use gibbsite_kernels::{
    Isa, Real, Scratch,
    registry::{Call, Entry, Shape},
};

/// Few coordinates and many samples; in between; many coordinates.
pub const SHAPES: [(usize, usize, usize); 3] =
    [(30_000, 15, 500), (8_192, 64, 1_024), (4_096, 784, 2_048)];

/// A shape without options.
pub fn shape((n, d, m): (usize, usize, usize)) -> Shape {
    Shape { n, d, m, ..Shape::default() }
}

/// How results name a shape.
pub fn shape_name(Shape { n, d, m, .. }: Shape) -> String {
    format!("n={n},d={d},m={m}")
}

/// A kernel with its arrays.
pub struct Problem<T> {
    entry: Entry<T>,
    shape: Shape,
    /// In the order of the registry.
    pub inputs: Vec<Vec<T>>,
    /// In the order of the registry.
    pub outputs: Vec<Vec<T>>,
    scratch: Scratch,
}

impl<T: Real> Problem<T> {
    pub fn new(entry: Entry<T>, shape: Shape) -> Self {
        let inputs = (entry.inputs)(shape);
        let outputs = (entry.outputs)(shape);
        let input = |(k, len)| values(len, k as u64);
        Self {
            entry,
            shape,
            inputs: inputs.iter().map(|array| array.len()).enumerate().map(input).collect(),
            outputs: outputs.iter().map(|array| vec![T::ZERO; array.len()]).collect(),
            scratch: Scratch::default(),
        }
    }

    pub fn run(&mut self, isa: Isa) {
        let inputs: Vec<_> = self.inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<_> = self.outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let call = Call { shape: self.shape, inputs: &inputs, outputs: &mut outputs };
        (self.entry.run)(isa, call, &mut self.scratch);
    }
}
