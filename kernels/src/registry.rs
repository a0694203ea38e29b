//! The list of all kernels, in a form that tests, benches and fuzz targets can iterate over: a
//! kernel that is listed here is compared with its reference on every instruction set, timed
//! and fuzzed; a kernel that is not listed should not exist.
//!
//! This is test surface. It carries no promise of stability.

use crate::{Isa, Real, Rows, RowsMut, Scratch, relu};

/// Size and options of one problem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Samples.
    pub n: usize,
    /// Dimension.
    pub d: usize,
    /// Neurons.
    pub m: usize,
    /// Neurons have biases.
    pub bias: bool,
    /// Samples have weights (kernels that sum over samples).
    pub weighted: bool,
    /// Unused values between consecutive rows of every matrix.
    pub pad: usize,
}

/// An input or output array of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// The argument's name.
    pub name: &'static str,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Distance between the starts of consecutive rows.
    pub stride: usize,
}

impl Array {
    /// Number of values from the start of the first row to the end of the last.
    pub fn len(&self) -> usize {
        match self.rows {
            0 => 0,
            rows => (rows - 1) * self.stride + self.cols,
        }
    }

    /// Whether the array holds no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rows<'a, T>(&self, data: &'a [T]) -> Rows<'a, T> {
        Rows::with_stride(data, self.rows, self.cols, self.stride).expect("array of this shape")
    }

    fn rows_mut<'a, T>(&self, data: &'a mut [T]) -> RowsMut<'a, T> {
        RowsMut::with_stride(data, self.rows, self.cols, self.stride).expect("array of this shape")
    }
}

/// Arguments of a kernel call, in the order of [`Entry::inputs`] and [`Entry::outputs`].
#[derive(Debug)]
pub struct Call<'a, 'b, T> {
    /// Size and options.
    pub shape: Shape,
    /// Input arrays.
    pub inputs: &'a [&'b [T]],
    /// Output arrays; every value inside the rows is overwritten, nothing between them.
    pub outputs: &'a mut [&'b mut [T]],
}

/// One kernel.
#[derive(Clone, Copy, Debug)]
pub struct Entry<T> {
    /// `family.kernel`.
    pub name: &'static str,
    /// The arrays it reads.
    pub inputs: fn(Shape) -> Vec<Array>,
    /// The arrays it writes.
    pub outputs: fn(Shape) -> Vec<Array>,
    /// The fast version on an instruction-set level, preparation included.
    pub run: fn(Isa, Call<'_, '_, T>, &mut Scratch),
    /// The specification. [`run`](Self::run) gives the same bits.
    pub reference: fn(Call<'_, '_, T>),
    /// For each output, the number k of roundings for which the error is at most γ_k times
    /// the sum of the absolute values of the terms, gates given.
    pub roundings: fn(Shape) -> Vec<usize>,
    /// Floating-point operations that the formula needs, as counted in shares of peak.
    pub flops: fn(Shape) -> u64,
    /// Bytes that have to be read and written at least once.
    pub bytes: fn(Shape) -> u64,
}

/// All kernels.
pub fn entries<T: Real>() -> Vec<Entry<T>> {
    vec![
        Entry {
            name: "relu.energy",
            inputs: neurons_and_samples,
            outputs: |shape| vec![vector("energy", shape.n)],
            run: |isa, call, scratch| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [energy] = call.outputs else { unreachable!("one output") };
                relu::energy(&neurons(isa, theta, bias, w), x, energy, scratch);
            },
            reference: |call| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [energy] = call.outputs else { unreachable!("one output") };
                relu::reference::energy_score(theta, bias, w, x, Some(energy), None);
            },
            roundings: |shape| vec![value_roundings(shape, shape.m) + 1],
            flops: |shape| 2 * product(shape),
            bytes: |shape| bytes::<T>(neurons_and_samples(shape), vec![vector("", shape.n)]),
        },
        Entry {
            name: "relu.score",
            inputs: neurons_and_samples,
            outputs: |shape| vec![matrix("score", shape.n, shape)],
            run: |isa, call, scratch| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [score] = call.outputs else { unreachable!("one output") };
                let mut score = matrix("", call.shape.n, call.shape).rows_mut(score);
                relu::score(&neurons(isa, theta, bias, w), x, &mut score, scratch);
            },
            reference: |call| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [score] = call.outputs else { unreachable!("one output") };
                let score = matrix("", call.shape.n, call.shape).rows_mut(score);
                relu::reference::energy_score(theta, bias, w, x, None, Some(score));
            },
            roundings: |shape| vec![sum_roundings(shape.m) + 1],
            flops: |shape| 4 * product(shape),
            bytes: |shape| bytes::<T>(neurons_and_samples(shape), vec![matrix("", shape.n, shape)]),
        },
        Entry {
            name: "relu.energy_score",
            inputs: neurons_and_samples,
            outputs: |shape| vec![vector("energy", shape.n), matrix("score", shape.n, shape)],
            run: |isa, call, scratch| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [energy, score] = call.outputs else { unreachable!("two outputs") };
                let mut score = matrix("", call.shape.n, call.shape).rows_mut(score);
                relu::energy_score(&neurons(isa, theta, bias, w), x, energy, &mut score, scratch);
            },
            reference: |call| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [energy, score] = call.outputs else { unreachable!("two outputs") };
                let score = matrix("", call.shape.n, call.shape).rows_mut(score);
                relu::reference::energy_score(theta, bias, w, x, Some(energy), Some(score));
            },
            roundings: |shape| {
                vec![value_roundings(shape, shape.m) + 1, sum_roundings(shape.m) + 1]
            },
            flops: |shape| 4 * product(shape),
            bytes: |shape| {
                let outputs = vec![vector("", shape.n), matrix("", shape.n, shape)];
                bytes::<T>(neurons_and_samples(shape), outputs)
            },
        },
        Entry {
            name: "relu.param_sums",
            inputs: param_inputs,
            outputs: param_outputs,
            run: |isa, call, scratch| {
                let (theta, bias, x, r) = params_of(call.shape, call.inputs);
                let (value, mut gradient, bias_gradient) = param_sums_of(call.shape, call.outputs);
                let panel =
                    relu::Panel::samples(isa, x, r, bias.is_some()).expect("shapes that fit");
                let gradient = &mut gradient;
                relu::param_sums(&panel, theta, bias, value, gradient, bias_gradient, scratch);
            },
            reference: |call| {
                let (theta, bias, x, r) = params_of(call.shape, call.inputs);
                let (value, gradient, bias_gradient) = param_sums_of(call.shape, call.outputs);
                relu::reference::param_sums(theta, bias, x, r, value, gradient, bias_gradient);
            },
            roundings: |shape| {
                let mut roundings = vec![value_roundings(shape, shape.n), sum_roundings(shape.n)];
                if shape.bias {
                    roundings.push(sum_roundings(shape.n));
                }
                roundings
            },
            flops: |shape| 4 * product(shape),
            bytes: |shape| bytes::<T>(param_inputs(shape), param_outputs(shape)),
        },
        Entry {
            name: "relu.gate_column",
            inputs: gate_inputs,
            outputs: gate_outputs,
            run: |isa, call, _| {
                let (weight, [z, value, gate_sum]) = gate_arguments(call);
                relu::gate_column(isa, weight, z, value, gate_sum);
            },
            reference: |call| {
                let (weight, [z, value, gate_sum]) = gate_arguments(call);
                relu::reference::gate_column(weight, z, value, gate_sum);
            },
            roundings: |_| vec![0, 1, 1],
            flops: |shape| 3 * shape.n as u64,
            bytes: |shape| bytes::<T>(gate_inputs(shape), gate_outputs(shape)),
        },
    ]
}

fn gate_inputs(shape: Shape) -> Vec<Array> {
    vec![
        vector("weight", 1),
        vector("z", shape.n),
        vector("value", shape.n),
        vector("gate_sum", shape.n),
    ]
}

fn gate_outputs(shape: Shape) -> Vec<Array> {
    gate_inputs(shape).split_off(1)
}

/// The kernel works in place, so the inputs are copied to the outputs first.
fn gate_arguments<'a, T: Real>(call: Call<'a, '_, T>) -> (T, [&'a mut [T]; 3]) {
    for (output, input) in call.outputs.iter_mut().zip(&call.inputs[1..]) {
        output.copy_from_slice(input);
    }
    let [z, value, gate_sum] = call.outputs else { unreachable!("three outputs") };
    (call.inputs[0][0], [&mut **z, &mut **value, &mut **gate_sum])
}

fn vector(name: &'static str, len: usize) -> Array {
    Array { name, rows: 1, cols: len, stride: len }
}

fn matrix(name: &'static str, rows: usize, shape: Shape) -> Array {
    Array { name, rows, cols: shape.d, stride: shape.d + shape.pad }
}

fn neurons_and_samples(shape: Shape) -> Vec<Array> {
    let mut arrays =
        vec![matrix("x", shape.n, shape), matrix("theta", shape.m, shape), vector("w", shape.m)];
    if shape.bias {
        arrays.push(vector("b", shape.m));
    }
    arrays
}

fn param_inputs(shape: Shape) -> Vec<Array> {
    let mut arrays = vec![matrix("x", shape.n, shape), matrix("theta", shape.m, shape)];
    if shape.weighted {
        arrays.push(vector("r", shape.n));
    }
    if shape.bias {
        arrays.push(vector("b", shape.m));
    }
    arrays
}

fn param_outputs(shape: Shape) -> Vec<Array> {
    let mut arrays = vec![vector("value", shape.m), matrix("gradient", shape.m, shape)];
    if shape.bias {
        arrays.push(vector("bias_gradient", shape.m));
    }
    arrays
}

struct Neurons<'a, T> {
    theta: Rows<'a, T>,
    bias: Option<&'a [T]>,
    w: &'a [T],
    x: Rows<'a, T>,
}

impl<'a, T> Neurons<'a, T> {
    fn of(shape: Shape, inputs: &[&'a [T]]) -> Self {
        Self {
            x: matrix("x", shape.n, shape).rows(inputs[0]),
            theta: matrix("theta", shape.m, shape).rows(inputs[1]),
            w: inputs[2],
            bias: shape.bias.then(|| inputs[3]),
        }
    }
}

fn neurons<T: Real>(isa: Isa, theta: Rows<'_, T>, bias: Option<&[T]>, w: &[T]) -> relu::Panel<T> {
    relu::Panel::neurons(isa, theta, bias, w).expect("shapes that fit")
}

type Params<'a, T> = (Rows<'a, T>, Option<&'a [T]>, Rows<'a, T>, Option<&'a [T]>);

fn params_of<'a, T>(shape: Shape, inputs: &[&'a [T]]) -> Params<'a, T> {
    let mut rest = inputs[2..].iter().copied();
    let r = if shape.weighted { rest.next() } else { None };
    let bias = if shape.bias { rest.next() } else { None };
    let x = matrix("x", shape.n, shape).rows(inputs[0]);
    (matrix("theta", shape.m, shape).rows(inputs[1]), bias, x, r)
}

type ParamSums<'a, T> = (&'a mut [T], RowsMut<'a, T>, Option<&'a mut [T]>);

fn param_sums_of<'a, T>(shape: Shape, outputs: &'a mut [&mut [T]]) -> ParamSums<'a, T> {
    let [value, gradient, bias_gradient @ ..] = outputs else { unreachable!("two or three") };
    let gradient = matrix("", shape.m, shape).rows_mut(gradient);
    (value, gradient, bias_gradient.first_mut().map(|out| &mut **out))
}

/// Roundings behind a sum of `count` terms that are exact themselves: within a tile, then over tiles.
fn sum_roundings(count: usize) -> usize {
    count.min(relu::TILE) + count.div_ceil(relu::TILE)
}

/// Roundings behind a sum over `count` ReLUs, their preactivations included.
fn value_roundings(shape: Shape, count: usize) -> usize {
    shape.d + usize::from(shape.bias) + sum_roundings(count)
}

fn product(shape: Shape) -> u64 {
    (shape.n * shape.m * shape.d) as u64
}

fn bytes<T>(inputs: Vec<Array>, outputs: Vec<Array>) -> u64 {
    let values: usize = inputs.iter().chain(&outputs).map(|array| array.rows * array.cols).sum();
    (values * size_of::<T>()) as u64
}
