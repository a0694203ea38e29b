//! The list of all kernels, in a form that tests, benches and fuzz targets can iterate over: a
//! kernel that is listed here is compared with its reference on every instruction set, timed
//! and fuzzed; a kernel that is not listed should not exist.
//!
//! This is test surface. It carries no promise of stability.

use crate::{
    Isa, Real, Rows, RowsMut, Scratch, chain,
    chain::{Rule, Space},
    elementary, noise, relu,
    relu::Gate,
    rowwise, stein,
    stein::{Base, Block, Points, Quantity, Radial, Signs},
};
use std::ops::Range;

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
    /// Input arrays. One that has the name of an output is updated in place: [`Entry::run`] copies
    /// it there first or, if its slice is empty, takes it to be there already.
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
    /// the sum of the absolute values of the terms, gates given. Empty for kernels that are not sums.
    pub roundings: fn(Shape) -> Vec<usize>,
    /// Floating-point operations that the formula needs, as counted in shares of peak.
    pub flops: fn(Shape) -> u64,
    /// Bytes that have to be read and written at least once.
    pub bytes: fn(Shape) -> u64,
}

/// What the cost of a kernel grows with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// n·d·m: products of matrices, and what is fused with them.
    Products,
    /// n·d: values in rows.
    Rows,
    /// n: single values.
    Values,
}

impl<T> Entry<T> {
    /// What the number of floating-point operations grows with.
    pub fn work(&self) -> Work {
        let flops = |d, m| (self.flops)(Shape { n: 1, d, m, ..Shape::default() });
        match (flops(2, 1) > flops(1, 1), flops(1, 2) > flops(1, 1)) {
            (_, true) => Work::Products,
            (true, false) => Work::Rows,
            (false, false) => Work::Values,
        }
    }
}

/// Whole chains of one kind.
macro_rules! chain_entry {
    ($name:literal, $kind:expr) => {
        Entry {
            name: $name,
            inputs: chain_inputs,
            outputs: chain_outputs,
            run: |isa, call, scratch| run_chains($kind, isa, call, scratch),
            reference: |call| reference_chains($kind, call),
            roundings: |_| Vec::new(),
            flops: |shape| {
                let drifts = match rule_of::<T>($kind, shape).0 {
                    Rule::Hamiltonian { drifts, .. } => drifts,
                    _ => 1,
                };
                4 * product(shape) * (STEPS * drifts) as u64
            },
            bytes: |shape| bytes::<T>(chain_inputs(shape), chain_outputs(shape)),
        }
    };
}

/// The parts of a step that are around the energy: up to its first evaluation, between two, behind the last.
macro_rules! moves_entry {
    ($name:literal, $kind:expr, $matrices:literal) => {
        Entry {
            name: $name,
            inputs: |shape| {
                ["x", "score", "velocity"].map(|name| matrix(name, shape.n, shape)).into()
            },
            outputs: |shape| {
                let entries =
                    ["refreshed", "energy", "ln_uniform"].map(|name| vector(name, shape.n));
                let mut outputs =
                    ["x", "velocity"].map(|name| matrix(name, shape.n, shape)).to_vec();
                outputs.extend(entries);
                outputs
            },
            run: |isa, call, scratch| run_moves($kind, isa, call, scratch),
            reference: |call| reference_moves($kind, call),
            roundings: |_| Vec::new(),
            flops: |shape| 60 * (shape.n * shape.d) as u64,
            // Where velocities are not read, or not written either, they are left out.
            bytes: |shape| {
                let matrices = vec![matrix("", shape.n, shape); $matrices];
                bytes::<T>(matrices, vec![vector("", shape.n); 3])
            },
        }
    };
}

/// Sums of what samples carry.
macro_rules! carried_entry {
    ($name:literal, $output:literal, $gate:expr, $roundings:expr) => {
        Entry {
            name: $name,
            inputs: carried_inputs,
            outputs: |shape| vec![matrix($output, shape.m, shape)],
            run: |isa, call, scratch| {
                let (theta, bias, x, v) = carried_of(call.shape, call.inputs);
                let mut sum = matrix("", call.shape.m, call.shape).rows_mut(call.outputs[0]);
                let panel = relu::Panel::carriers(isa, x, v, $gate, bias.is_some());
                let panel = panel.expect("shapes that fit");
                relu::carried_sums(&panel, theta, bias, &mut sum, scratch);
            },
            reference: |call| {
                let (theta, bias, x, v) = carried_of(call.shape, call.inputs);
                let sum = matrix("", call.shape.m, call.shape).rows_mut(call.outputs[0]);
                relu::reference::carried_sums(theta, bias, x, v, $gate, sum);
            },
            roundings: $roundings,
            flops: |shape| 4 * product(shape),
            bytes: |shape| bytes::<T>(carried_inputs(shape), vec![matrix("", shape.m, shape)]),
        }
    };
}

/// A block of a Gram matrix.
macro_rules! stein_entry {
    ($name:literal, $base:expr, $inputs:ident, $flops:literal) => {
        stein_entry!($name, $base, $inputs, $flops, Quantity::Stein)
    };
    // `$flops` for each pair and coordinate.
    ($name:literal, $base:expr, $inputs:ident, $flops:literal, $quantity:expr) => {
        Entry {
            name: $name,
            inputs: $inputs,
            outputs: |shape| vec![stein_output(shape)],
            run: |isa, call, scratch| {
                let shape = plain_if_metric(call.shape, call.inputs);
                let (x, y) = stein_points($base, shape, call.inputs);
                let out = stein_output(shape).rows_mut(call.outputs[0]);
                let kernel = of_quantity($quantity, stein_kernel($base, shape));
                stein::write(isa, kernel, whole(&x, &y), out, scratch);
            },
            reference: |call| {
                let shape = plain_if_metric(call.shape, call.inputs);
                let kernel = of_quantity($quantity, stein_kernel($base, shape));
                write_stein_reference(kernel, Call { shape, ..call });
            },
            roundings: |_| Vec::new(),
            flops: |shape| $flops * product(shape),
            bytes: |shape| bytes::<T>($inputs(shape), vec![stein_output(shape)]),
        }
    };
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
        carried_entry!("relu.step_sums", "step_sum", Gate::Step, |shape| vec![sum_roundings(
            shape.n
        )]),
        carried_entry!("relu.relu_sums", "relu_sum", Gate::Relu, |shape| vec![value_roundings(
            shape, shape.n
        )]),
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
        Entry {
            name: "elementary.ln",
            inputs: |shape| vec![vector("x", shape.n)],
            outputs: |shape| vec![vector("y", shape.n)],
            run: |isa, call, _| elementary::ln(isa, call.inputs[0], call.outputs[0]),
            reference: |call| {
                for (y, &x) in call.outputs[0].iter_mut().zip(call.inputs[0]) {
                    *y = T::ln(x);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 40 * shape.n as u64,
            bytes: |shape| 2 * (shape.n * size_of::<T>()) as u64,
        },
        Entry {
            name: "elementary.sin_cos_pi",
            inputs: |shape| vec![vector("x", shape.n)],
            outputs: |shape| vec![vector("sin", shape.n), vector("cos", shape.n)],
            run: |isa, call, _| {
                let [sin, cos] = call.outputs else { unreachable!("two outputs") };
                elementary::sin_cos_pi(isa, call.inputs[0], sin, cos);
            },
            reference: |call| {
                let [sin, cos] = call.outputs else { unreachable!("two outputs") };
                for ((sin, cos), &x) in sin.iter_mut().zip(cos.iter_mut()).zip(call.inputs[0]) {
                    (*sin, *cos) = T::sin_cos_pi(x);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 50 * shape.n as u64,
            bytes: |shape| 3 * (shape.n * size_of::<T>()) as u64,
        },
        Entry {
            name: "elementary.exp",
            inputs: |shape| vec![vector("x", shape.n)],
            outputs: |shape| vec![vector("y", shape.n)],
            run: |isa, call, _| elementary::exp(isa, call.inputs[0], call.outputs[0]),
            reference: |call| {
                for (y, &x) in call.outputs[0].iter_mut().zip(call.inputs[0]) {
                    *y = T::exp(x);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 35 * shape.n as u64,
            bytes: |shape| 2 * (shape.n * size_of::<T>()) as u64,
        },
        Entry {
            name: "elementary.angle",
            inputs: |shape| vec![vector("opposite", shape.n), vector("adjacent", shape.n)],
            outputs: |shape| vec![vector("angle", shape.n)],
            run: |isa, call, _| {
                let (x, y) = (call.inputs[0], call.inputs[1]);
                elementary::angle(isa, x, y, call.outputs[0]);
            },
            reference: |call| {
                let points = call.inputs[0].iter().zip(call.inputs[1]);
                for (angle, (&opposite, &adjacent)) in call.outputs[0].iter_mut().zip(points) {
                    *angle = T::angle(opposite, adjacent);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 55 * shape.n as u64,
            bytes: |shape| 3 * (shape.n * size_of::<T>()) as u64,
        },
        Entry {
            name: "noise.words",
            inputs: |_| Vec::new(),
            outputs: |shape| vec![vector("digests", PARTS * shape.n)],
            run: |isa, call, _| {
                // Few at a time, so that they stay in cache.
                const STEPS: usize = 16;
                let Shape { n, d, m, .. } = call.shape;
                let mut streams = noise::Streams::<T>::range(SEED, m as u64, n);
                let mut words = vec![0; n * d.min(STEPS)];
                let mut digests = vec![0; n];
                for start in (0..d).step_by(STEPS) {
                    let words = &mut words[..n * STEPS.min(d - start)];
                    noise::words(isa, &mut streams, n, words);
                    for words in words.chunks_exact(n.max(1)) {
                        digests.iter_mut().zip(words).for_each(|(all, &word)| digest(all, word));
                    }
                }
                copy_words(&digests, call.outputs[0]);
            },
            reference: |call| {
                let Shape { n, d, m, .. } = call.shape;
                let digest_of = |c: usize| {
                    let mut stream = noise::reference::start(SEED, (m + c) as u64);
                    let mut all = 0;
                    (0..d).for_each(|_| digest(&mut all, noise::reference::next(&mut stream)));
                    all
                };
                copy_words(&(0..n).map(digest_of).collect::<Vec<_>>(), call.outputs[0]);
            },
            roundings: |_| Vec::new(),
            // Shifts, rotates, additions and exclusive ors, none of floating-point numbers.
            flops: |shape| 10 * (shape.n * shape.d) as u64,
            // Words do not leave the cache.
            bytes: |shape| bytes::<T>(Vec::new(), vec![vector("", PARTS * shape.n)]),
        },
        Entry {
            name: "noise.normals",
            inputs: |_| Vec::new(),
            outputs: |shape| vec![matrix("normals", shape.n, shape)],
            run: |isa, call, _| {
                let Shape { n, m, .. } = call.shape;
                let mut streams = noise::Streams::range(SEED, m as u64, n);
                let out = matrix("", n, call.shape).rows_mut(call.outputs[0]);
                noise::normals(isa, &mut streams, out);
            },
            reference: |call| {
                let Shape { n, m, .. } = call.shape;
                let mut out = matrix("", n, call.shape).rows_mut(call.outputs[0]);
                for c in 0..n {
                    let mut stream = noise::reference::start(SEED, (m + c) as u64);
                    let word = || noise::reference::next(&mut stream);
                    noise::reference::normals(word, out.row_mut(c));
                }
            },
            roundings: |_| Vec::new(),
            // Two logarithms, sines and square roots make two normals.
            flops: |shape| 45 * (shape.n * shape.d) as u64,
            bytes: |shape| (shape.n * shape.d * size_of::<T>()) as u64,
        },
        Entry {
            name: "chain.update",
            inputs: |shape| vec![matrix("x", shape.n, shape), matrix("score", shape.n, shape)],
            outputs: |shape| vec![matrix("x", shape.n, shape)],
            run: |isa, call, scratch| {
                let (shape, [x, score]) = (call.shape, call.inputs) else {
                    unreachable!("two inputs")
                };
                let Shape { n, d, .. } = shape;
                let array = matrix("", n, shape);
                copy_rows(array, x, call.outputs[0]);
                let (rule, _) = rule_of(Kind::Ula, shape);
                let mut unused = vec![T::ZERO; n * d];
                let mut moving = chain::Moving {
                    x: array.rows_mut(call.outputs[0]),
                    score: array.rows(score),
                    velocity: RowsMut::new(&mut unused, n, d).expect("sized above"),
                    energy: &mut vec![T::ZERO; n],
                    streams: &mut noise::Streams::range(SEED, 0, n),
                };
                let scale = scales(d);
                chain::advance(isa, rule, Space::Flat, &scale, 0, &mut moving, scratch);
            },
            reference: |call| {
                let (shape, [x, score]) = (call.shape, call.inputs) else {
                    unreachable!("two inputs")
                };
                let array = matrix("", shape.n, shape);
                let (x, score) = (array.rows(x), array.rows(score));
                let mut out = array.rows_mut(call.outputs[0]);
                let (rule, _) = rule_of(Kind::Ula, shape);
                for c in 0..shape.n {
                    let mut chain = chain_of(c, x.row(c), score.row(c), &[], T::ZERO);
                    chain.advance(rule, Space::Flat, &scales(shape.d), 0);
                    out.row_mut(c).copy_from_slice(&chain.x);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 49 * (shape.n * shape.d) as u64,
            bytes: |shape| 3 * (shape.n * shape.d * size_of::<T>()) as u64,
        },
        moves_entry!("chain.moves_ula_sphere", Kind::UlaSphere, 3),
        moves_entry!("chain.moves_hmc", Kind::Hmc, 4),
        moves_entry!("chain.moves_hmc_sphere", Kind::HmcSphere, 4),
        moves_entry!("chain.moves_baoab", Kind::Baoab, 5),
        Entry {
            name: "chain.target",
            inputs: neurons_and_samples,
            outputs: |shape| vec![vector("potential", shape.n), matrix("score", shape.n, shape)],
            run: |isa, call, scratch| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [potential, score] = call.outputs else { unreachable!("two outputs") };
                let score = matrix("", call.shape.n, call.shape).rows_mut(score);
                let panel = neurons(isa, theta, bias, w);
                let target = target_of(&panel, call.shape);
                chain::relu_target(target, x, Some(potential), Some(score), scratch);
            },
            reference: |call| {
                let Neurons { theta, bias, w, x } = Neurons::of(call.shape, call.inputs);
                let [potential, score] = call.outputs else { unreachable!("two outputs") };
                let mut score = matrix("", call.shape.n, call.shape).rows_mut(score);
                let (beta, precision) = density(call.shape);
                let density = (beta, precision, space_of(call.shape));
                for (i, potential) in potential.iter_mut().enumerate() {
                    let (x, score) = (x.row(i), score.row_mut(i));
                    *potential = chain::reference::relu_target((theta, bias, w), density, x, score);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 4 * product(shape),
            bytes: |shape| {
                let outputs = vec![vector("", shape.n), matrix("", shape.n, shape)];
                bytes::<T>(neurons_and_samples(shape), outputs)
            },
        },
        Entry {
            name: "chain.finish",
            inputs: |shape| {
                vec![
                    matrix("x", shape.n, shape),
                    vector("potential", shape.n),
                    matrix("score", shape.n, shape),
                ]
            },
            outputs: |shape| vec![vector("potential", shape.n), matrix("score", shape.n, shape)],
            run: |isa, mut call, scratch| {
                let shape = call.shape;
                let (x, potential, score) = finish_arguments(&mut call);
                let panel = some_neurons(isa, shape);
                let target = target_of(&panel, shape);
                chain::finish(target, x, Some(potential), Some(score), scratch);
            },
            reference: |mut call| {
                let shape = call.shape;
                let (x, potential, mut score) = finish_arguments(&mut call);
                let m = T::from_f64(SOME_NEURONS as f64);
                let (beta, precision) = density(shape);
                let density = (beta, precision, space_of(shape));
                for (i, potential) in potential.iter_mut().enumerate() {
                    let score = score.row_mut(i);
                    score.iter_mut().for_each(|score| *score = *score / -m);
                    *potential = chain::reference::finish(density, x.row(i), *potential / m, score);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 8 * (shape.n * shape.d) as u64,
            bytes: |shape| {
                bytes::<T>(vec![matrix("", shape.n, shape); 3], vec![vector("", shape.n); 2])
            },
        },
        Entry {
            name: "rowwise.dot",
            inputs: |shape| vec![matrix("x", shape.n, shape), matrix("y", shape.n, shape)],
            outputs: |shape| vec![vector("dot", shape.n)],
            run: |isa, call, scratch| {
                let [x, y] =
                    [0, 1].map(|k| matrix("", call.shape.n, call.shape).rows(call.inputs[k]));
                rowwise::dot(isa, x, y, call.outputs[0], scratch);
            },
            reference: |call| {
                let [x, y] =
                    [0, 1].map(|k| matrix("", call.shape.n, call.shape).rows(call.inputs[k]));
                for (i, dot) in call.outputs[0].iter_mut().enumerate() {
                    *dot = rowwise::reference::dot(x.row(i), y.row(i));
                }
            },
            roundings: |shape| vec![shape.d],
            flops: |shape| 2 * (shape.n * shape.d) as u64,
            bytes: |shape| {
                bytes::<T>(vec![matrix("", shape.n, shape); 2], vec![vector("", shape.n)])
            },
        },
        chain_entry!("chain.ula", Kind::Ula),
        chain_entry!("chain.ula_sphere", Kind::UlaSphere),
        chain_entry!("chain.hmc", Kind::Hmc),
        chain_entry!("chain.hmc_sphere", Kind::HmcSphere),
        chain_entry!("chain.baoab", Kind::Baoab),
        stein_entry!("stein.imq", imq(-0.5), stein_inputs, 8),
        stein_entry!("stein.imq_power", imq(-0.3), stein_inputs, 8),
        stein_entry!(
            "stein.rbf",
            Base::Radial(Radial::Rbf { precision: T::from_f64(0.75) }),
            stein_inputs,
            8
        ),
        stein_entry!("stein.linear", Base::Linear, stein_inputs, 4),
        stein_entry!("stein.arc_cosine", Base::ArcCosine, stein_inputs, 9),
        stein_entry!("stein.metric", imq(-0.5), metric_inputs, 11),
        stein_entry!("stein.value", imq(-0.5), stein_inputs, 3, Quantity::Value),
        stein_entry!("stein.slope", imq(-0.5), stein_inputs, 3, Quantity::Slope),
        stein_entry!("stein.slope_cosine", imq(-0.5), stein_inputs, 3, Quantity::SlopeCosine),
        Entry {
            name: "stein.sums",
            inputs: stein_inputs,
            outputs: sums_outputs::<T>,
            run: |isa, call, scratch| {
                let (x, y) = stein_points(imq(-0.5), call.shape, call.inputs);
                let kernel = stein_kernel(imq(-0.5), call.shape);
                let block = whole(&x, &y);
                let (mut rows, mut cols) = (vec![0.0; call.shape.n], vec![0.0; call.shape.m]);
                stein::sums(isa, kernel, block, &mut rows, &mut cols, scratch);
                copy_numbers(&rows, call.outputs[0]);
                copy_numbers(&cols, call.outputs[1]);
            },
            reference: |call| {
                let (mut rows, mut cols) = (vec![0.0; call.shape.n], vec![0.0; call.shape.m]);
                for_stein_tiles(imq(-0.5), &call, |(i, j), tile| {
                    let (row, col) = (&mut rows[i..], &mut cols[j..]);
                    let (row, col) = (&mut row[..tile.rows()], &mut col[..tile.cols()]);
                    stein::reference::sums(tile, row, col);
                });
                copy_numbers(&rows, call.outputs[0]);
                copy_numbers(&cols, call.outputs[1]);
            },
            roundings: |_| Vec::new(),
            flops: |shape| 8 * product(shape),
            bytes: |shape| bytes::<T>(stein_inputs(shape), sums_outputs::<T>(shape)),
        },
        Entry {
            name: "stein.product",
            inputs: product_inputs,
            outputs: product_outputs,
            run: |isa, call, scratch| {
                let (x, y) = stein_points(imq(-0.5), call.shape, call.inputs);
                let kernel = stein_kernel(imq(-0.5), call.shape);
                let block = whole(&x, &y);
                let v = factor(call.shape);
                let mut out = Array { rows: call.shape.n, ..v }.rows_mut(call.outputs[0]);
                (0..call.shape.n).for_each(|i| out.row_mut(i).fill(T::ZERO));
                stein::product(isa, kernel, block, v.rows(call.inputs[4]), out, scratch);
            },
            reference: |call| {
                let v = factor(call.shape);
                let n = call.shape.n;
                let mut sums = vec![T::ZERO; n * v.cols];
                for_stein_tiles(imq(-0.5), &call, |(i, j), tile| {
                    let out = &mut sums[i * v.cols..][..tile.rows() * v.cols];
                    let out = RowsMut::new(out, tile.rows(), v.cols).expect("whole rows");
                    let v = v.rows(call.inputs[4]).range(j, tile.cols());
                    stein::reference::product(tile, v, out);
                });
                let sums = Array { rows: n, stride: v.cols, ..v }.rows(&sums);
                let mut out = Array { rows: n, ..v }.rows_mut(call.outputs[0]);
                (0..n).for_each(|i| out.row_mut(i).copy_from_slice(sums.row(i)));
            },
            roundings: |_| Vec::new(),
            flops: |shape| 2 * (shape.n * shape.m * factor(shape).cols) as u64 + 8 * product(shape),
            bytes: |shape| bytes::<T>(product_inputs(shape), product_outputs(shape)),
        },
        Entry {
            name: "stein.signed_sums",
            inputs: stein_inputs,
            outputs: signed_outputs::<T>,
            run: |isa, call, scratch| {
                let (x, y) = stein_points(imq(-0.5), call.shape, call.inputs);
                let kernels = bases().map(|base| stein_kernel(base, call.shape));
                let signs = signs(call.shape);
                let mut sums = vec![0.0; bases::<f64>().len() * signs.draws()];
                for block in cut(&x, &y) {
                    stein::signed_sums(isa, &kernels, block, &signs, &mut sums, scratch);
                }
                copy_numbers(&sums, call.outputs[0]);
            },
            reference: |call| {
                let signs = signs(call.shape);
                let mut sums = vec![0.0; bases::<f64>().len() * signs.draws()];
                for (base, sums) in bases().into_iter().zip(sums.chunks_exact_mut(signs.draws())) {
                    for_stein_tiles(base, &call, |start, tile| {
                        stein::reference::signed_sums(tile, start, &signs, sums);
                    });
                }
                copy_numbers(&sums, call.outputs[0]);
            },
            roundings: |_| Vec::new(),
            flops: |shape| 4 * (shape.n * shape.m * draws(shape)) as u64 + 8 * product(shape),
            bytes: |shape| bytes::<T>(stein_inputs(shape), signed_outputs::<T>(shape)),
        },
        Entry {
            name: "stein.pairs",
            inputs: pairs_inputs,
            outputs: |shape| vec![vector("values", shape.n)],
            run: |isa, call, _| {
                let (x, y) =
                    stein_points(imq(-0.5), Shape { m: call.shape.n, ..call.shape }, call.inputs);
                let kernel = stein_kernel(imq(-0.5), call.shape);
                stein::pairs(isa, kernel, &x, &y, call.outputs[0]);
            },
            reference: |call| {
                let shape = Shape { m: call.shape.n, ..call.shape };
                let kernel = stein_kernel(imq(-0.5), shape);
                for (i, out) in call.outputs[0].iter_mut().enumerate() {
                    *out = stein_value(kernel, shape, call.inputs, i, i);
                }
            },
            roundings: |_| Vec::new(),
            flops: |shape| 8 * (shape.n * shape.d) as u64,
            bytes: |shape| bytes::<T>(pairs_inputs(shape), vec![vector("", shape.n)]),
        },
    ]
}

fn imq<T: Real>(exponent: f64) -> Base<T> {
    Base::Radial(Radial::Imq { offset: T::from_f64(1.25), exponent: T::from_f64(exponent) })
}

/// With `bias`, the linear kernel is added; `weighted` stands for the sphere.
fn stein_kernel<T: Real>(base: Base<T>, shape: Shape) -> stein::Kernel<T> {
    let base = match base {
        Base::Radial(radial) if shape.bias => Base::RadialLinear(radial),
        base => base,
    };
    let space = if shape.weighted { Space::Sphere } else { Space::Flat };
    stein::Kernel { base, space, quantity: Quantity::Stein }
}

/// One of the quantities is for the sphere only.
fn of_quantity<T: Real>(quantity: Quantity, kernel: stein::Kernel<T>) -> stein::Kernel<T> {
    let space = match quantity {
        Quantity::SlopeCosine => Space::Sphere,
        _ => kernel.space,
    };
    stein::Kernel { quantity, space, ..kernel }
}

fn stein_inputs(shape: Shape) -> Vec<Array> {
    vec![
        matrix("x", shape.n, shape),
        matrix("score of x", shape.n, shape),
        matrix("y", shape.m, shape),
        matrix("score of y", shape.m, shape),
    ]
}

/// There is a y for each x.
fn pairs_inputs(shape: Shape) -> Vec<Array> {
    stein_inputs(Shape { m: shape.n, ..shape })
}

fn sums_outputs<T: Real>(shape: Shape) -> Vec<Array> {
    vec![numbers::<T>("row_sums", shape.n), numbers::<T>("col_sums", shape.m)]
}

fn signed_outputs<T: Real>(shape: Shape) -> Vec<Array> {
    vec![numbers::<T>("sums", bases::<f64>().len() * draws(shape))]
}

fn product_inputs(shape: Shape) -> Vec<Array> {
    let mut arrays = stein_inputs(shape);
    arrays.push(factor(shape));
    arrays
}

fn product_outputs(shape: Shape) -> Vec<Array> {
    vec![Array { name: "product", rows: shape.n, ..factor(shape) }]
}

fn metric_inputs(shape: Shape) -> Vec<Array> {
    let mut arrays = stein_inputs(shape);
    for name in ["white score", "precise"] {
        arrays.extend([matrix(name, shape.n, shape), matrix(name, shape.m, shape)]);
    }
    arrays
}

/// tr Λ.
const TRACE: f64 = 2.75;

/// A metric allows neither of the options.
fn plain_if_metric<T>(shape: Shape, inputs: &[&[T]]) -> Shape {
    let plain = inputs.len() < 8;
    Shape { bias: shape.bias && plain, weighted: shape.weighted && plain, ..shape }
}

fn stein_points<T: Real>(base: Base<T>, shape: Shape, inputs: &[&[T]]) -> (Points<T>, Points<T>) {
    let (x, y) = (matrix("", shape.n, shape), matrix("", shape.m, shape));
    let points = |array: Array, [point, score, white, precise]: [usize; 4]| {
        let rows = |k: usize| array.rows(inputs[k]);
        let points = match inputs.len() {
            8 => {
                let trace = T::from_f64(TRACE);
                Points::with_metric(rows(point), rows(white), rows(score), rows(precise), trace)
            }
            _ if base == Base::ArcCosine && !shape.weighted => {
                Points::with_directions(rows(point), rows(score))
            }
            _ => Points::new(rows(point), rows(score)),
        };
        points.expect("arrays of one shape")
    };
    (points(x, [0, 1, 4, 6]), points(y, [2, 3, 5, 7]))
}

/// All rows and columns.
fn whole<'a, T: Real>(x: &'a Points<T>, y: &'a Points<T>) -> Block<'a, T> {
    Block { rows: (x, 0..x.len()), cols: (y, 0..y.len()) }
}

/// All rows and columns, in blocks of which the later ones do not start at the first points; for half of the shapes, in one.
fn cut<'a, T: Real>(x: &'a Points<T>, y: &'a Points<T>) -> Vec<Block<'a, T>> {
    if x.dim().is_multiple_of(2) {
        return vec![whole(x, y)];
    }
    let parts = |len: usize, size: usize| {
        (0..len).step_by(size).map(move |start| start..len.min(start + size))
    };
    // In the order of the tiles of one block.
    let block = |rows: &Range<usize>, cols| Block { rows: (x, rows.clone()), cols: (y, cols) };
    parts(x.len(), stein::TILE)
        .flat_map(|rows| parts(y.len(), 2 * stein::TILE).map(move |cols| block(&rows, cols)))
        .collect()
}

/// Kernels that are computed together.
fn bases<T: Real>() -> [Base<T>; 2] {
    [imq(-0.5), Base::Radial(Radial::Rbf { precision: T::from_f64(0.4) })]
}

fn stein_value<T: Real>(
    kernel: stein::Kernel<T>,
    shape: Shape,
    inputs: &[&[T]],
    i: usize,
    j: usize,
) -> T {
    let metric = inputs.len() == 8;
    let (x, y) = (matrix("", shape.n, shape), matrix("", shape.m, shape));
    let point = |array: Array, [point, score, white, precise]: [usize; 4], i: usize| {
        let row = |k: usize| array.rows(inputs[k]).row(i);
        stein::reference::Point {
            x: row(point),
            score: row(score),
            white_score: row(if metric { white } else { score }),
            precise: metric.then(|| row(precise)),
        }
    };
    let trace = T::from_f64(if metric { TRACE } else { shape.d as f64 });
    let (x, y) = (point(x, [0, 1, 4, 6], i), point(y, [2, 3, 5, 7], j));
    stein::reference::value(kernel, trace, x, y)
}

fn write_stein_reference<T: Real>(kernel: stein::Kernel<T>, call: Call<'_, '_, T>) {
    let shape = call.shape;
    let mut out = stein_output(shape).rows_mut(call.outputs[0]);
    for i in 0..shape.n {
        for j in 0..shape.m {
            out.row_mut(i)[j] = stein_value(kernel, shape, call.inputs, i, j);
        }
    }
}

fn stein_output(shape: Shape) -> Array {
    Array { name: "block", rows: shape.n, cols: shape.m, stride: shape.m + shape.pad }
}

/// Calls `f` with the start and the values of every tile.
fn for_stein_tiles<T: Real>(
    base: Base<T>,
    call: &Call<'_, '_, T>,
    mut f: impl FnMut((usize, usize), Rows<'_, T>),
) {
    let shape = call.shape;
    let kernel = stein_kernel(base, shape);
    for (i, j) in stein::reference::tiles(shape.n, shape.m) {
        let (rows, cols) = (stein::TILE.min(shape.n - i), stein::TILE.min(shape.m - j));
        let value = |k: usize| stein_value(kernel, shape, call.inputs, i + k / cols, j + k % cols);
        let tile: Vec<T> = (0..rows * cols).map(value).collect();
        f((i, j), Rows::new(&tile, rows, cols).expect("a tile"));
    }
}

/// A few columns, around the registers of a row.
fn factor(shape: Shape) -> Array {
    let cols = 1 + (shape.n + 3 * shape.m + shape.d) % 40;
    Array { name: "factor", rows: shape.m, cols, stride: cols + shape.pad }
}

/// Around the numbers that fill a register, a chunk of signs or a word of them.
fn draws(shape: Shape) -> usize {
    [1, 5, 16, 31, 33, 63, 64, 65, 130][(shape.n + 3 * shape.m + shape.d) % 9]
}

fn signs(shape: Shape) -> Signs {
    let points = shape.n.max(shape.m);
    let mut signs = Signs::try_positive(points, draws(shape)).expect("a few points");
    let mut stream = noise::reference::start(SEED, shape.d as u64);
    for i in 0..points {
        signs.words_mut(i).fill_with(|| noise::reference::next(&mut stream));
    }
    signs
}

/// Room for `f64` numbers: for narrower types a second row holds what the first rounds off.
fn numbers<T: Real>(name: &'static str, len: usize) -> Array {
    Array { rows: 64 / T::WIDTH as usize, ..vector(name, len) }
}

fn copy_numbers<T: Real>(from: &[f64], to: &mut [T]) {
    let (high, low) = to.split_at_mut(from.len());
    for (high, &from) in high.iter_mut().zip(from) {
        *high = T::from_f64(from);
    }
    for ((low, high), &from) in low.iter_mut().zip(high).zip(from) {
        *low = T::from_f64(from - high.to_f64());
    }
}

/// Parts of a word, each a number that every type holds.
const PARTS: usize = 4;

/// Words have more bits than numbers: what goes out is one word for all of a stream's.
fn digest(all: &mut u64, word: u64) {
    *all = all.rotate_left(5) ^ word;
}

fn copy_words<T: Real>(from: &[u64], to: &mut [T]) {
    let part = |k: usize| from[k / PARTS] >> (16 * (k % PARTS)) & 0xffff;
    to.iter_mut().enumerate().for_each(|(k, to)| *to = T::from_f64(part(k) as f64));
}

/// Seed of the streams of all calls.
const SEED: u64 = 7;

/// Steps of a chain in a call.
const STEPS: usize = 3;

/// The moves of chains that are listed.
#[derive(Clone, Copy)]
enum Kind {
    Ula,
    UlaSphere,
    Hmc,
    HmcSphere,
    Baoab,
}

/// `weighted` stands for bounds.
fn rule_of<T: Real>(kind: Kind, shape: Shape) -> (Rule<T>, Space) {
    let step = T::from_f64(0.25);
    let noise = T::from_f64(0.75);
    match kind {
        Kind::Ula => {
            let bounds = shape.weighted.then_some((-T::ONE, T::ONE));
            (Rule::Unadjusted { step, noise, bounds }, Space::Flat)
        }
        Kind::UlaSphere => (Rule::Unadjusted { step, noise, bounds: None }, Space::Sphere),
        Kind::Hmc => (Rule::Hamiltonian { step, drifts: 2 }, Space::Flat),
        Kind::HmcSphere => (Rule::Hamiltonian { step, drifts: 2 }, Space::Sphere),
        Kind::Baoab => (Rule::Baoab { step, keep: noise }, Space::Flat),
    }
}

/// Scales of coordinates, no two alike.
fn scales<T: Real>(d: usize) -> Vec<T> {
    (0..d).map(|k| T::from_f64(1.0 + k as f64 / 64.0)).collect()
}

/// What a kernel updates in place.
fn copy_rows<T: Copy>(array: Array, from: &[T], to: &mut [T]) {
    if from.is_empty() {
        return;
    }
    let mut to = array.rows_mut(to);
    for (i, row) in array.rows(from).iter().enumerate() {
        to.row_mut(i).copy_from_slice(row);
    }
}

fn chain_of<T: Real>(
    c: usize,
    x: &[T],
    score: &[T],
    velocity: &[T],
    potential: T,
) -> chain::reference::Chain<T> {
    let mut start = velocity.to_vec();
    start.resize(x.len(), T::ZERO);
    chain::reference::Chain {
        x: x.to_vec(),
        score: score.to_vec(),
        velocity: start,
        potential,
        log_ratio: T::ZERO,
        accepted: T::ZERO,
        stream: noise::reference::start(SEED, c as u64),
    }
}

fn chain_inputs(shape: Shape) -> Vec<Array> {
    let mut arrays = neurons_and_samples(shape);
    arrays.extend([
        matrix("score", shape.n, shape),
        matrix("velocity", shape.n, shape),
        vector("potential", shape.n),
    ]);
    arrays
}

fn chain_outputs(shape: Shape) -> Vec<Array> {
    let rows = |name| matrix(name, shape.n, shape);
    let entries = |name| vector(name, shape.n);
    vec![
        rows("x"),
        rows("score"),
        rows("velocity"),
        entries("potential"),
        entries("log_ratio"),
        entries("accepted"),
    ]
}

/// β, and 1/s² for half of the shapes.
fn density<T: Real>(shape: Shape) -> (T, Option<T>) {
    (T::from_f64(1.5), (shape.m % 2 == 1).then(|| T::from_f64(0.5)))
}

fn run_chains<T: Real>(kind: Kind, isa: Isa, call: Call<'_, '_, T>, scratch: &mut Scratch) {
    let shape = call.shape;
    let theta = matrix("", shape.m, shape).rows(call.inputs[1]);
    let panel = neurons(isa, theta, shape.bias.then(|| call.inputs[3]), call.inputs[2]);
    let state = &call.inputs[call.inputs.len() - 3..];
    let array = matrix("", shape.n, shape);
    copy_rows(array, call.inputs[0], call.outputs[0]);
    copy_rows(array, state[0], call.outputs[1]);
    copy_rows(array, state[1], call.outputs[2]);
    let [x, score, velocity, potential, log_ratio, accepted] = call.outputs else {
        unreachable!("six outputs")
    };
    copy_rows(vector("", shape.n), state[2], potential);
    log_ratio.fill(T::ZERO);
    accepted.fill(T::ZERO);
    let (rule, space) = rule_of(kind, shape);
    let (beta, precision) = density(shape);
    let chains = chain::Chains {
        x: array.rows_mut(x),
        score: array.rows_mut(score),
        velocity: array.rows_mut(velocity),
        potential,
        log_ratio,
        accepted,
        streams: &mut noise::Streams::range(SEED, 0, shape.n),
    };
    let target = chain::ReluTarget { panel: &panel, beta, precision, space };
    chain::relu_steps(target, rule, &scales(shape.d), STEPS, chains, scratch);
}

fn reference_chains<T: Real>(kind: Kind, call: Call<'_, '_, T>) {
    let shape = call.shape;
    let Neurons { theta, bias, w, x } = Neurons::of(shape, call.inputs);
    let state = &call.inputs[call.inputs.len() - 3..];
    let array = matrix("", shape.n, shape);
    let (score, velocity) = (array.rows(state[0]), array.rows(state[1]));
    let (rule, space) = rule_of(kind, shape);
    let (beta, precision) = density(shape);
    let scale = scales(shape.d);
    for c in 0..shape.n {
        let mut chain = chain_of(c, x.row(c), score.row(c), velocity.row(c), state[2][c]);
        for _ in 0..STEPS {
            chain.step(rule, space, &scale, |x, score| {
                let density = (beta, precision, space);
                chain::reference::relu_target((theta, bias, w), density, x, score)
            });
        }
        if !matches!(rule, Rule::Baoab { .. }) {
            chain.velocity.copy_from_slice(velocity.row(c));
        }
        for (k, row) in [&chain.x, &chain.score, &chain.velocity].into_iter().enumerate() {
            array.rows_mut(call.outputs[k]).row_mut(c).copy_from_slice(row);
        }
        for (k, entry) in [chain.potential, chain.log_ratio, chain.accepted].into_iter().enumerate()
        {
            call.outputs[3 + k][c] = entry;
        }
    }
}

fn run_moves<T: Real>(kind: Kind, isa: Isa, call: Call<'_, '_, T>, scratch: &mut Scratch) {
    let shape = call.shape;
    let array = matrix("", shape.n, shape);
    copy_rows(array, call.inputs[0], call.outputs[0]);
    copy_rows(array, call.inputs[2], call.outputs[1]);
    let [x, velocity, refreshed, energy, ln_uniform] = call.outputs else {
        unreachable!("five outputs")
    };
    energy.fill(T::ZERO);
    ln_uniform.fill(T::ZERO);
    let (rule, space) = rule_of(kind, shape);
    let scale = scales(shape.d);
    let mut moving = chain::Moving {
        x: array.rows_mut(x),
        score: array.rows(call.inputs[1]),
        velocity: array.rows_mut(velocity),
        energy,
        streams: &mut noise::Streams::range(SEED, 0, shape.n),
    };
    chain::advance(isa, rule, space, &scale, 0, &mut moving, scratch);
    refreshed.copy_from_slice(moving.energy);
    if let Rule::Hamiltonian { .. } = rule {
        chain::advance(isa, rule, space, &scale, 1, &mut moving, scratch);
    }
    chain::settle(isa, rule, space, &scale, ln_uniform, &mut moving, scratch);
}

fn reference_moves<T: Real>(kind: Kind, call: Call<'_, '_, T>) {
    let shape = call.shape;
    let array = matrix("", shape.n, shape);
    let [x, score, velocity] = [0, 1, 2].map(|k| array.rows(call.inputs[k]));
    let (rule, space) = rule_of(kind, shape);
    let scale = scales(shape.d);
    for c in 0..shape.n {
        let mut chain = chain_of(c, x.row(c), score.row(c), velocity.row(c), T::ZERO);
        call.outputs[2][c] = chain.advance(rule, space, &scale, 0);
        if let Rule::Hamiltonian { .. } = rule {
            chain.advance(rule, space, &scale, 1);
        }
        (call.outputs[3][c], call.outputs[4][c]) = chain.settle(rule, &scale);
        if let Rule::Unadjusted { .. } = rule {
            chain.velocity.copy_from_slice(velocity.row(c));
        }
        array.rows_mut(call.outputs[0]).row_mut(c).copy_from_slice(&chain.x);
        array.rows_mut(call.outputs[1]).row_mut(c).copy_from_slice(&chain.velocity);
    }
}

fn space_of(shape: Shape) -> Space {
    if shape.n.is_multiple_of(2) { Space::Flat } else { Space::Sphere }
}

fn target_of<T: Real>(panel: &relu::Panel<T>, shape: Shape) -> chain::ReluTarget<'_, T> {
    let (beta, precision) = density(shape);
    chain::ReluTarget { panel, beta, precision, space: space_of(shape) }
}

/// How many neurons the sums of `chain.finish` are from; nothing else about neurons matters there.
const SOME_NEURONS: usize = 3;

fn some_neurons<T: Real>(isa: Isa, shape: Shape) -> relu::Panel<T> {
    let theta = vec![T::ZERO; SOME_NEURONS * shape.d];
    let theta = Rows::new(&theta, SOME_NEURONS, shape.d).expect("sized above");
    neurons(isa, theta, None, &[T::ZERO; SOME_NEURONS])
}

type Sums<'a, T> = (Rows<'a, T>, &'a mut [T], RowsMut<'a, T>);

fn finish_arguments<'a, T: Real>(call: &'a mut Call<'_, '_, T>) -> Sums<'a, T> {
    let array = matrix("", call.shape.n, call.shape);
    let [potential, score] = call.outputs else { unreachable!("two outputs") };
    copy_rows(vector("", call.shape.n), call.inputs[1], potential);
    copy_rows(array, call.inputs[2], score);
    (array.rows(call.inputs[0]), potential, array.rows_mut(score))
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

fn gate_arguments<'a, T: Real>(call: Call<'a, '_, T>) -> (T, [&'a mut [T]; 3]) {
    for (output, input) in call.outputs.iter_mut().zip(&call.inputs[1..]) {
        copy_rows(vector("", call.shape.n), input, output);
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

fn carried_inputs(shape: Shape) -> Vec<Array> {
    let [x, theta, v] = [("x", shape.n), ("theta", shape.m), ("v", shape.n)]
        .map(|(name, rows)| matrix(name, rows, shape));
    let mut arrays = vec![x, theta, v];
    if shape.bias {
        arrays.push(vector("b", shape.m));
    }
    arrays
}

type Carried<'a, T> = (Rows<'a, T>, Option<&'a [T]>, Rows<'a, T>, Rows<'a, T>);

fn carried_of<'a, T>(shape: Shape, inputs: &[&'a [T]]) -> Carried<'a, T> {
    let samples = |k: usize| matrix("", shape.n, shape).rows(inputs[k]);
    let theta = matrix("", shape.m, shape).rows(inputs[1]);
    (theta, shape.bias.then(|| inputs[3]), samples(0), samples(2))
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
    // Of more than 32 bits, also where addresses have no more.
    shape.n as u64 * shape.m as u64 * shape.d as u64
}

fn bytes<T>(inputs: Vec<Array>, outputs: Vec<Array>) -> u64 {
    let values: usize = inputs.iter().chain(&outputs).map(|array| array.rows * array.cols).sum();
    (values * size_of::<T>()) as u64
}
