//! Stein kernels against the formulas in 200 bits, in units of the sum of the absolute values of all terms times the
//! type's epsilon: for points of every kind, near duplicates and points far from the origin among them. An exponential
//! multiplies the rounding of its exponent z, so its terms weigh 1 + |z|.

use astro_float::{BigFloat, Consts, RoundingMode};
use gibbsite::{
    Real, Rows,
    random::Stream,
    stein::{Gram, SteinKernel},
};

const BITS: usize = 200;
const ROUND: RoundingMode = RoundingMode::ToEven;

/// A number in high precision, with the sum of the absolute values of what it is made of.
#[derive(Clone)]
struct Number {
    value: BigFloat,
    size: BigFloat,
}

fn big(x: f64) -> BigFloat {
    BigFloat::from_f64(x, BITS)
}

fn exact(x: f64) -> Number {
    Number { value: big(x), size: big(x.abs()) }
}

impl Number {
    fn plus(&self, other: &Self) -> Self {
        Self {
            value: self.value.add(&other.value, BITS, ROUND),
            size: self.size.add(&other.size, BITS, ROUND),
        }
    }
    fn times(&self, other: &Self) -> Self {
        Self {
            value: self.value.mul(&other.value, BITS, ROUND),
            size: self.size.mul(&other.size, BITS, ROUND),
        }
    }
    /// A difference of inputs, which rounds once and is a factor of its own.
    fn minus_input(&self, other: &Self) -> Self {
        let value = self.value.sub(&other.value, BITS, ROUND);
        Self { size: value.abs(), value }
    }
}

/// φ, -2φ' and 4φ'' at t.
fn radial(name: &str, t: &BigFloat, consts: &mut Consts) -> [Number; 3] {
    let positive = |value: BigFloat| Number { size: value.clone(), value };
    let number = |x: f64| big(x);
    match name {
        "rbf" => {
            let precision = number(1.0).div(&number(1.75 * 1.75), BITS, ROUND);
            let exponent = precision.mul(t, BITS, ROUND).mul(&number(-0.5), BITS, ROUND);
            let weight = number(1.0).sub(&exponent, BITS, ROUND);
            let phi = exponent.exp(BITS, ROUND, consts);
            let first = phi.mul(&precision, BITS, ROUND);
            let second = first.mul(&precision, BITS, ROUND);
            [phi, first, second]
                .map(|value| Number { size: value.mul(&weight, BITS, ROUND), value })
        }
        _ => {
            let b = if name == "imq" { -0.5 } else { -0.25 };
            let q = number(1.25 * 1.25).add(t, BITS, ROUND);
            let phi = q.pow(&number(b), BITS, ROUND, consts);
            let first = phi.div(&q, BITS, ROUND).mul(&number(-2.0 * b), BITS, ROUND);
            let second = first.div(&q, BITS, ROUND).mul(&number(2.0 * (1.0 - b)), BITS, ROUND);
            [phi, first, second].map(positive)
        }
    }
}

/// u(x, y) in R^d.
fn value(name: &str, [x, sx]: [&[f64]; 2], [y, sy]: [&[f64]; 2], consts: &mut Consts) -> Number {
    let zero = exact(0.0);
    let (mut t, mut cross, mut scores) = (zero.clone(), zero.clone(), zero.clone());
    let (mut product, mut own) = (zero.clone(), zero);
    for k in 0..x.len() {
        let r = exact(x[k]).minus_input(&exact(y[k]));
        let difference = exact(sx[k]).minus_input(&exact(sy[k]));
        t = t.plus(&r.times(&r));
        cross = cross.plus(&difference.times(&r));
        scores = scores.plus(&exact(sx[k]).times(&exact(sy[k])));
        product = product.plus(&exact(x[k]).times(&exact(y[k])));
        own = own.plus(&exact(x[k]).times(&exact(sx[k])));
        own = own.plus(&exact(y[k]).times(&exact(sy[k])));
    }
    let d = exact(x.len() as f64);
    if name == "linear" {
        return exact(1.0).plus(&product).times(&scores).plus(&own).plus(&d);
    }
    let [phi, first, second] = radial(name, &t.value, consts);
    let mut curved = second.times(&t);
    curved.value = curved.value.neg();
    phi.times(&scores).plus(&first.times(&d.plus(&cross))).plus(&curved)
}

/// Largest error in epsilons of the sum of terms.
fn worst<T: Real>(name: &str, kernel: &SteinKernel, x: &[f64], s: &[f64], d: usize) -> f64 {
    let mut consts = Consts::new().expect("memory for constants");
    // What the type holds is what goes in.
    let [typed_x, typed_s] = [x, s].map(|v| v.iter().map(|&v| T::from_f64(v)).collect::<Vec<_>>());
    let [x, s] = [&typed_x, &typed_s].map(|v| v.iter().map(|v| v.to_f64()).collect::<Vec<_>>());
    let n = x.len() / d;
    let rows = |v| Rows::new(v, n, d).unwrap();
    let gram = Gram::new(kernel, rows(&typed_x), rows(&typed_s)).unwrap().matrix().unwrap();
    let mut worst = 0.0_f64;
    for i in 0..n {
        for j in 0..=i {
            let point = |i: usize| [&x[i * d..][..d], &s[i * d..][..d]];
            let expected = value(name, point(i), point(j), &mut consts);
            let error = big(gram[i * n + j].to_f64()).sub(&expected.value, BITS, ROUND).abs();
            let relative = error.div(&expected.size, BITS, ROUND);
            let relative: f64 = relative.to_string().parse().expect("a number");
            worst = worst.max(relative / <T as gibbsite_kernels::Real>::EPSILON.to_f64());
        }
    }
    worst
}

#[test]
fn values_are_within_eight_units_of_the_sum_of_terms() {
    let kernels = [
        ("imq", SteinKernel::imq(1.25, -0.5).unwrap()),
        ("imq^-0.25", SteinKernel::imq(1.25, -0.25).unwrap()),
        ("rbf", SteinKernel::rbf(1.75).unwrap()),
        ("linear", SteinKernel::linear()),
    ];
    for d in [1, 3, 15, 64] {
        let n = 12;
        let mut normals = vec![0.0_f64; 2 * n * d];
        Stream::new(12, d as u64).fill_normal(&mut normals);
        let (x, s) = normals.split_at(n * d);
        // Pairs apart by a relative 1e-6, and everything around 1e4.
        let mut close = x.to_vec();
        for i in (1..n).step_by(2) {
            for k in 0..d {
                close[i * d + k] = close[(i - 1) * d + k] * (1.0 + 1e-6 * s[i * d + k]);
            }
        }
        let far: Vec<f64> = close.iter().map(|x| x + 1e4).collect();
        let mut overall = [0.0_f64; 2];
        for (name, kernel) in &kernels {
            for (place, x) in [("apart", x), ("close", &close), ("far", &far)] {
                let errors =
                    [worst::<f32>(name, kernel, x, s, d), worst::<f64>(name, kernel, x, s, d)];
                println!("{name}, d = {d}, {place}: {errors:.3?}");
                for (overall, error) in overall.iter_mut().zip(errors) {
                    *overall = overall.max(error);
                }
            }
        }
        assert!(overall.iter().all(|&error| error <= 8.0), "d = {d}: {overall:?}");
    }
}
