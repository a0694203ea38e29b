//! What the kernels should compute, straight from the formulas in the documentation of
//! [`gibbsite_kernels::relu`] and in arithmetic of its own: double-double, against which rounding
//! errors are measured, and exact integers.

use super::{
    cases::{Case, Class},
    compare::Rig,
    support::Float,
};
use gibbsite_kernels::registry::{Array, Shape};

/// Arithmetic in which the formulas are evaluated.
pub trait Number: Copy {
    fn of(value: f64) -> Self;
    fn plus_product(self, a: Self, b: Self) -> Self;
    /// The nearest `f64`, or near it.
    fn approx(self) -> f64;
}

/// An unevaluated sum of two `f64`, the second below half an ulp of the first: about 106 bits.
#[derive(Clone, Copy)]
pub struct DoubleDouble(f64, f64);

/// `a + b` and its rounding error (Knuth).
fn two_sum(a: f64, b: f64) -> DoubleDouble {
    let sum = a + b;
    let b_part = sum - a;
    DoubleDouble(sum, (a - (sum - b_part)) + (b - b_part))
}

/// `a * b` and its rounding error.
fn two_product(a: f64, b: f64) -> DoubleDouble {
    let product = a * b;
    DoubleDouble(product, a.mul_add(b, -product))
}

impl DoubleDouble {
    fn plus(self, other: Self) -> Self {
        let high = two_sum(self.0, other.0);
        let low = two_sum(self.1, other.1);
        let sum = two_sum(high.0, high.1 + low.0);
        two_sum(sum.0, sum.1 + low.1)
    }
}

impl Number for DoubleDouble {
    fn of(value: f64) -> Self {
        Self(value, 0.0)
    }

    fn plus_product(self, a: Self, b: Self) -> Self {
        let product = two_product(a.0, b.0);
        let product = two_sum(product.0, product.1 + (a.0 * b.1 + a.1 * b.0));
        self.plus(product)
    }

    fn approx(self) -> f64 {
        self.0 + self.1
    }
}

/// A multiple of 2^-20. Operands are multiples of 2^-2 and at most three of them are
/// multiplied, so that no product loses a bit.
#[derive(Clone, Copy)]
pub struct Fixed(i128);

const FIXED_BITS: i32 = 20;

impl Number for Fixed {
    fn of(value: f64) -> Self {
        let scaled = value * 2.0_f64.powi(FIXED_BITS);
        assert_eq!(scaled, scaled.trunc(), "{value} is not a multiple of 2^-{FIXED_BITS}");
        Self(scaled as i128)
    }

    fn plus_product(self, a: Self, b: Self) -> Self {
        let product = a.0 * b.0;
        assert_eq!(product % (1 << FIXED_BITS), 0, "a product that is not exact");
        Self(self.0 + (product >> FIXED_BITS))
    }

    fn approx(self) -> f64 {
        self.0 as f64 / 2.0_f64.powi(FIXED_BITS)
    }
}

/// A sum, with what is needed to judge the error of a computed one.
#[derive(Clone, Copy)]
struct Sum<N> {
    value: N,
    /// Sum of the absolute values of all products that enter.
    terms: f64,
    /// Sum of the absolute values of the terms whose gate may have come out either way.
    doubtful: f64,
    /// The sum is divided by this.
    divisor: f64,
}

impl<N: Number> Sum<N> {
    fn zero(divisor: f64) -> Self {
        Self { value: N::of(0.0), terms: 0.0, doubtful: 0.0, divisor }
    }

    fn add(&mut self, a: N, b: N) {
        self.value = self.value.plus_product(a, b);
        self.terms += (a.approx() * b.approx()).abs();
    }
}

/// γ_k for the unit roundoff of `T`.
pub fn gamma<T: Float>(k: usize) -> f64 {
    let ku = k as f64 * T::EPSILON.to_f64() / 2.0;
    ku / (1.0 - ku)
}

/// The arrays of a problem by name.
struct Inputs<N>(Vec<(&'static str, Vec<Vec<N>>)>);

impl<N: Number> Inputs<N> {
    fn of<T: Float>(rig: &Rig<T>, shape: Shape) -> Self {
        let rows = |(array, data): (Array, &[T])| {
            let row = |i| {
                let row = &data[i * array.stride..][..array.cols];
                row.iter().map(|value| N::of(value.to_f64())).collect()
            };
            (array.name, (0..array.rows).map(row).collect())
        };
        Self((rig.entry().inputs)(shape).into_iter().zip(rig.inputs()).map(rows).collect())
    }

    fn matrix(&mut self, name: &str) -> Option<Vec<Vec<N>>> {
        let at = self.0.iter().position(|(array, _)| *array == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn vector(&mut self, name: &str) -> Option<Vec<N>> {
        self.matrix(name).map(|rows| rows.concat())
    }
}

/// What a kernel should compute: the value at a place of the output of a name.
trait Oracle<N> {
    fn output(&self, name: &str, row: usize, col: usize) -> Sum<N>;
}

/// Neurons at samples, with all preactivations.
struct Relu<N> {
    shape: Shape,
    x: Vec<Vec<N>>,
    theta: Vec<Vec<N>>,
    w: Option<Vec<N>>,
    r: Option<Vec<N>>,
    v: Option<Vec<Vec<N>>>,
    /// Preactivation of neuron j at sample i.
    z: Vec<Vec<Sum<N>>>,
    /// A gate is in doubt where |z| is at most this times its terms.
    gamma_z: f64,
}

impl<N: Number> Relu<N> {
    fn new<T: Float>(mut inputs: Inputs<N>, shape: Shape) -> Self {
        let (x, theta) = (inputs.matrix("x"), inputs.matrix("theta"));
        let (x, theta) = (x.expect("samples"), theta.expect("neurons"));
        let b = inputs.vector("b");
        let preactivation = |x: &Vec<N>, j: usize| {
            let mut z = Sum::zero(1.0);
            if let Some(b) = &b {
                z.add(b[j], N::of(1.0));
            }
            for (&theta, &x) in theta[j].iter().zip(x) {
                z.add(theta, x);
            }
            z
        };
        let z = x.iter().map(|x| (0..shape.m).map(|j| preactivation(x, j)).collect()).collect();
        let gamma_z = gamma::<T>(shape.d + usize::from(shape.bias));
        let (w, r, v) = (inputs.vector("w"), inputs.vector("r"), inputs.matrix("v"));
        Self { shape, w, r, v, x, theta, z, gamma_z }
    }

    /// Adds `a max(z_ij, 0)`.
    fn add_relu(&self, sum: &mut Sum<N>, a: N, i: usize, j: usize) {
        let z = &self.z[i][j];
        if z.value.approx() > 0.0 {
            sum.value = sum.value.plus_product(a, z.value);
        }
        sum.terms += a.approx().abs() * z.terms;
    }

    /// Adds `a b 1{z_ij > 0}`.
    fn add_gated(&self, sum: &mut Sum<N>, a: N, b: N, i: usize, j: usize) {
        let z = &self.z[i][j];
        if z.value.approx() > 0.0 {
            sum.add(a, b);
        }
        if z.value.approx().abs() <= self.gamma_z * z.terms {
            let term = (a.approx() * b.approx()).abs();
            sum.doubtful += term;
            sum.terms += term;
        }
    }
}

impl<N: Number> Oracle<N> for Relu<N> {
    fn output(&self, name: &str, row: usize, col: usize) -> Sum<N> {
        let Shape { n, m, .. } = self.shape;
        let one = N::of(1.0);
        let mean = Sum::zero(m.max(1) as f64);
        let total = Sum::zero(1.0);
        let w = |j: usize| self.w.as_ref().expect("outer weights")[j];
        let r = |i: usize| self.r.as_ref().map_or(one, |r| r[i]);
        let v = |i: usize| self.v.as_ref().expect("carried vectors")[i][col];
        let over_neurons = |add: &dyn Fn(&mut Sum<N>, usize)| {
            let mut sum = mean;
            (0..m).for_each(|j| add(&mut sum, j));
            sum
        };
        let over_samples = |add: &dyn Fn(&mut Sum<N>, usize)| {
            let mut sum = total;
            (0..n).for_each(|i| add(&mut sum, i));
            sum
        };
        match name {
            "energy" => over_neurons(&|sum, j| self.add_relu(sum, w(j), col, j)),
            "score" => {
                let sum = over_neurons(&|sum, j| {
                    self.add_gated(sum, w(j), self.theta[j][col], row, j);
                });
                Sum { divisor: -sum.divisor, ..sum }
            }
            "value" => over_samples(&|sum, i| self.add_relu(sum, r(i), i, col)),
            "gradient" => over_samples(&|sum, i| self.add_gated(sum, r(i), self.x[i][col], i, row)),
            "bias_gradient" => over_samples(&|sum, i| self.add_gated(sum, r(i), one, i, col)),
            "step_sum" => over_samples(&|sum, i| self.add_gated(sum, v(i), one, i, row)),
            "relu_sum" => over_samples(&|sum, i| self.add_relu(sum, v(i), i, row)),
            _ => panic!("this oracle does not know the output {name}"),
        }
    }
}

/// One column of preactivations turned into gates, and its shares added to sums.
struct GateColumn<N> {
    weight: N,
    z: Vec<N>,
    value: Vec<N>,
    gate_sum: Vec<N>,
}

impl<N: Number> GateColumn<N> {
    fn new(mut inputs: Inputs<N>) -> Self {
        let mut vector = |name| inputs.vector(name).expect(name);
        let weight = vector("weight")[0];
        Self { weight, z: vector("z"), value: vector("value"), gate_sum: vector("gate_sum") }
    }
}

impl<N: Number> Oracle<N> for GateColumn<N> {
    fn output(&self, name: &str, _: usize, i: usize) -> Sum<N> {
        let one = N::of(1.0);
        let active = self.z[i].approx() > 0.0;
        let mut sum = Sum::zero(1.0);
        match name {
            "z" => {}
            "value" => sum.add(self.value[i], one),
            "gate_sum" => sum.add(self.gate_sum[i], one),
            _ => panic!("this oracle does not know the output {name}"),
        }
        if active {
            sum.add(self.weight, if name == "value" { self.z[i] } else { one });
        }
        sum
    }
}

/// Products of rows.
struct Dot<N> {
    x: Vec<Vec<N>>,
    y: Vec<Vec<N>>,
}

impl<N: Number> Dot<N> {
    fn new(mut inputs: Inputs<N>) -> Self {
        let mut matrix = |name| inputs.matrix(name).expect(name);
        Self { x: matrix("x"), y: matrix("y") }
    }
}

impl<N: Number> Oracle<N> for Dot<N> {
    fn output(&self, _: &str, _: usize, i: usize) -> Sum<N> {
        let mut sum = Sum::zero(1.0);
        self.x[i].iter().zip(&self.y[i]).for_each(|(&x, &y)| sum.add(x, y));
        sum
    }
}

/// Calls `judge` with each expected output of the rig and the oracle's. Since all levels have
/// been compared with the reference by then, its outputs stand for theirs.
fn judge<T: Float, N: Number + 'static>(
    rig: &Rig<T>,
    case: &Case,
    judge: impl Fn(f64, Sum<N>, usize) -> Result<(), String>,
) -> Result<(), String> {
    let (entry, shape) = (rig.entry(), case.shape);
    let inputs = Inputs::of(rig, shape);
    let oracle: Box<dyn Oracle<N>> = match entry.name {
        "rowwise.dot" => Box::new(Dot::new(inputs)),
        "relu.gate_column" => Box::new(GateColumn::new(inputs)),
        name if name.starts_with("relu.") => Box::new(Relu::new::<T>(inputs, shape)),
        name => panic!("no oracle knows {name}: write one here"),
    };
    let roundings = (entry.roundings)(shape);
    for (k, array) in (entry.outputs)(shape).iter().enumerate() {
        for row in 0..array.rows {
            for col in 0..array.cols {
                let got = rig.expected()[k][row * array.stride + col].to_f64();
                judge(got, oracle.output(array.name, row, col), roundings[k]).map_err(|error| {
                    let (kernel, dtype, output) = (entry.name, T::NAME, array.name);
                    format!("{kernel} {dtype}, {case}:\n  {output}[{row}, {col}] {error}")
                })?;
            }
        }
    }
    Ok(())
}

/// The error is within the proven bound, γ_k times the sum of the absolute values of the terms.
/// For values of like size, rounding errors average out: four epsilons of that sum have to be
/// enough then, however large k is. (Not without coordinates, where all preactivations, and so
/// their rounding errors, are equal.)
///
/// A gate can come out wrong only where the preactivation is within its own error bound of 0;
/// such a term may be counted or not, so its absolute value is added to the bound.
pub fn within_bound<T: Float>(rig: &Rig<T>, case: &Case) -> Result<(), String> {
    let shape = case.shape;
    judge(rig, case, |got, exact: Sum<DoubleDouble>, k| {
        // Undivided, since the quotient need not be a DoubleDouble.
        let error = DoubleDouble::of(0.0)
            .plus_product(DoubleDouble::of(got), DoubleDouble::of(exact.divisor))
            .plus(DoubleDouble(-exact.value.0, -exact.value.1));
        let error = error.approx().abs();
        let relative = match case.class {
            Class::Normal if shape.d > 0 => gamma::<T>(k).min(4.0 * T::EPSILON.to_f64()),
            _ => gamma::<T>(k),
        };
        // `terms` itself is rounded.
        let bound = (relative * exact.terms + exact.doubtful) * (1.0 + 1e-9);
        if error <= bound {
            return Ok(());
        }
        let (want, divisor) = (exact.value.approx() / exact.divisor, exact.divisor.abs());
        let (error, bound) = (error / divisor, bound / divisor);
        Err(format!("= {got:e}, exactly {want:e}: error {error:e} over the bound {bound:e}"))
    })
}

/// Nothing rounds, so the result is the exact one.
pub fn exactly<T: Float>(rig: &Rig<T>, case: &Case) -> Result<(), String> {
    judge(rig, case, |got, exact: Sum<Fixed>, _| {
        let want = exact.value.approx() / exact.divisor;
        if got == want { Ok(()) } else { Err(format!("= {got}, exactly {want}")) }
    })
}
