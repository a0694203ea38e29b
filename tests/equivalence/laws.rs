//! Laws that hold bit for bit, whatever the sums are.

use super::{
    cases::{Class, all_options},
    compare::{evaluate, is_nan, random_inputs, same},
    support::{Float, Rng, by_effort, levels},
};
use gibbsite_kernels::registry::{Array, Entry, Shape};

/// Arrays that enter preactivations.
const PREACTIVATED: [&str; 4] = ["x", "theta", "b", "z"];

/// Arrays in which, taken together, the outputs are linear.
const LINEAR: [&str; 6] = ["w", "r", "v", "weight", "value", "gate_sum"];

/// A dimension along which a kernel treats every item by itself.
#[derive(Clone, Copy)]
enum Axis {
    Samples,
    Neurons,
}

/// How an array lies along an axis.
#[derive(Clone, Copy, PartialEq)]
enum Along {
    Rows,
    Cols,
    No,
}

impl Axis {
    /// The axis that all outputs lie along.
    fn of<T: Float>(entry: &Entry<T>, shape: Shape) -> Self {
        let all_along = |axis: Axis| {
            let outputs = axis.arrays(entry.outputs, shape);
            outputs.iter().all(|&(_, along)| along != Along::No)
        };
        match (all_along(Axis::Samples), all_along(Axis::Neurons)) {
            (true, false) => Axis::Samples,
            (false, true) => Axis::Neurons,
            _ => panic!("{}: outputs for each sample or for each neuron", entry.name),
        }
    }

    fn len(self, shape: Shape) -> usize {
        match self {
            Axis::Samples => shape.n,
            Axis::Neurons => shape.m,
        }
    }

    fn with_len(self, shape: Shape, len: usize) -> Shape {
        match self {
            Axis::Samples => Shape { n: len, ..shape },
            Axis::Neurons => Shape { m: len, ..shape },
        }
    }

    fn arrays(self, arrays: fn(Shape) -> Vec<Array>, shape: Shape) -> Vec<(Array, Along)> {
        let longer = arrays(self.with_len(shape, self.len(shape) + 1));
        let along = |(array, longer): (Array, Array)| {
            let along = match (array.rows != longer.rows, array.cols != longer.cols) {
                (true, _) => Along::Rows,
                (_, true) => Along::Cols,
                _ => Along::No,
            };
            (array, along)
        };
        arrays(shape).into_iter().zip(longer).map(along).collect()
    }

    /// Where the values of one item are in an array.
    fn item((array, along): (Array, Along), item: usize) -> std::ops::Range<usize> {
        match along {
            Along::Rows => item * array.stride..item * array.stride + array.cols,
            Along::Cols => item..item + 1,
            Along::No => 0..0,
        }
    }

    /// The arrays of only these items, in this order.
    fn select<T: Float>(
        self,
        arrays: &[(Array, Along)],
        data: &[Vec<T>],
        items: &[usize],
    ) -> Vec<Vec<T>> {
        let select = |(&array, data): (&(Array, Along), &Vec<T>)| match array.1 {
            Along::No => data.clone(),
            _ => items.iter().flat_map(|&i| data[Self::item(array, i)].to_vec()).collect(),
        };
        arrays.iter().zip(data).map(select).collect()
    }
}

fn first_difference<T: Float>(a: &[Vec<T>], b: &[Vec<T>]) -> Option<(usize, usize)> {
    let differs = |(k, (a, b)): (usize, (&Vec<T>, &Vec<T>))| {
        assert_eq!(a.len(), b.len(), "output {k}");
        a.iter().zip(b).position(|(&a, &b)| !same(a, b)).map(|at| (k, at))
    };
    a.iter().zip(b).enumerate().find_map(differs)
}

/// Random problems without gaps between rows, each with inputs, for every combination of options.
fn problems<T: Float>(
    entry: &Entry<T>,
    rng: &mut Rng,
    mut law: impl FnMut(&mut Rng, Shape, Vec<Vec<T>>) -> Result<(), String>,
) -> Result<(), String> {
    for _ in 0..by_effort(5, 300, 3_000) {
        let mut length = |end| 1 + rng.below(end);
        let (n, d, m) = (length(60), length(20), length(110));
        for shape in all_options(entry, Shape { n, d, m, ..Shape::default() }) {
            if shape.pad == 0 {
                let inputs = random_inputs(entry, shape, Class::Normal, rng);
                law(rng, shape, inputs)
                    .map_err(|error| format!("{} {}, {shape:?}: {error}", entry.name, T::NAME))?;
            }
        }
    }
    Ok(())
}

/// Items that are permuted, taken out of the batch or repeated keep their results.
pub fn selection<T: Float>(entry: Entry<T>) -> Result<(), String> {
    let mut rng = Rng::of(&format!("selection/{}/{}", entry.name, T::NAME));
    problems(&entry, &mut rng, |rng, shape, inputs| {
        let axis = Axis::of(&entry, shape);
        let len = axis.len(shape);
        let mut shuffled: Vec<usize> = (0..len).collect();
        for i in (1..len).rev() {
            shuffled.swap(i, rng.below(i + 1));
        }
        let start = rng.below(len);
        let slice = (start..start + rng.below(len - start + 1)).collect();
        let repeated = (0..rng.below(2 * len)).map(|_| rng.below(len)).collect();
        for isa in levels() {
            let all = evaluate(&entry, isa, shape, &inputs);
            let in_arrays = axis.arrays(entry.inputs, shape);
            let out_arrays = axis.arrays(entry.outputs, shape);
            for items in [&shuffled, &slice, &repeated] {
                let shape = axis.with_len(shape, items.len());
                let selected = axis.select(&in_arrays, &inputs, items);
                let got = evaluate(&entry, isa, shape, &selected);
                let want = axis.select(&out_arrays, &all, items);
                if let Some((k, at)) = first_difference(&got, &want) {
                    return Err(format!("{isa}: output {k} differs at {at} for items {items:?}"));
                }
            }
        }
        Ok(())
    })
}

/// Outer weights times a power of two give outputs times that power.
pub fn scaling<T: Float>(entry: Entry<T>) -> Result<(), String> {
    let mut rng = Rng::of(&format!("scaling/{}/{}", entry.name, T::NAME));
    let mut any_scaled = false;
    problems(&entry, &mut rng, |rng, shape, inputs| {
        let arrays = (entry.inputs)(shape);
        let is_scaled = |array: &Array| LINEAR.contains(&array.name);
        if !arrays.iter().any(is_scaled) {
            return Ok(());
        }
        any_scaled = true;
        // Far from overflow, and from underflow as well: inputs are multiples of 2^-23.
        let factor = T::from_f64(2.0_f64.powi(rng.below(41) as i32 - 20));
        let scale = |data: &mut Vec<T>| data.iter_mut().for_each(|value| *value = *value * factor);
        let mut scaled = inputs.clone();
        for (_, data) in arrays.iter().zip(&mut scaled).filter(|(array, _)| is_scaled(array)) {
            scale(data);
        }
        for isa in levels() {
            let mut want = evaluate(&entry, isa, shape, &inputs);
            want.iter_mut().for_each(scale);
            let got = evaluate(&entry, isa, shape, &scaled);
            if let Some((k, at)) = first_difference(&got, &want) {
                return Err(format!("{isa}: output {k} is not {factor} times as large at {at}"));
            }
        }
        Ok(())
    })?;
    match any_scaled {
        true => Ok(()),
        false => Err(format!("{}: no array of {LINEAR:?} to scale", entry.name)),
    }
}

/// A NaN or an infinity in one item changes the outputs of that item only; a NaN that enters
/// preactivations makes all outputs NaN that they enter, whether a gate is open or not.
pub fn locality<T: Float>(entry: Entry<T>) -> Result<(), String> {
    let mut rng = Rng::of(&format!("locality/{}/{}", entry.name, T::NAME));
    problems(&entry, &mut rng, |rng, shape, inputs| {
        let axis = Axis::of(&entry, shape);
        let out_arrays = axis.arrays(entry.outputs, shape);
        let special = rng.pick(&[f64::NAN, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        for isa in levels() {
            let plain = evaluate(&entry, isa, shape, &inputs);
            for (k, &array) in axis.arrays(entry.inputs, shape).iter().enumerate() {
                let spreads = special.is_nan() && PREACTIVATED.contains(&array.0.name);
                let item = rng.below(axis.len(shape));
                let at = match array.1 {
                    Along::No => rng.below(inputs[k].len()),
                    _ => {
                        let item = Axis::item(array, item);
                        item.start + rng.below(item.len())
                    }
                };
                let mut inputs = inputs.clone();
                inputs[k][at] = T::from_f64(special);
                let got = evaluate(&entry, isa, shape, &inputs);
                for (out, &out_array) in out_arrays.iter().enumerate() {
                    let touched = match array.1 {
                        Along::No => 0..got[out].len(),
                        _ => Axis::item(out_array, item),
                    };
                    for (i, (&got, &plain)) in got[out].iter().zip(&plain[out]).enumerate() {
                        let right = match touched.contains(&i) {
                            true => !spreads || is_nan(got),
                            false => same(got, plain),
                        };
                        if !right {
                            return Err(format!(
                                "{isa}: {special} in {}[{at}] makes output {out} at {i} {got} \
                                 instead of {plain}",
                                array.0.name
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    })
}
