//! Stein kernels against the formulas in 200 bits, in units of the sum of the absolute values of all terms times the
//! type's epsilon: for points of every kind, near duplicates, opposite ones and points far from the origin among them. An exponential
//! multiplies the rounding of its exponent z, so its terms weigh 1 + |z|.

use astro_float::{BigFloat, Consts, RoundingMode};
use gibbsite::{
    Domain, Real, Rows,
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
    fn negative(&self) -> Self {
        Self { value: self.value.neg(), size: self.size.clone() }
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

/// A point and the score there.
type Point<'a> = [&'a [f64]; 2];

/// u(x, y) in R^d.
fn in_space(name: &str, [x, sx]: Point<'_>, [y, sy]: Point<'_>, consts: &mut Consts) -> Number {
    let [t, cross, scores] = sums([x, sx], [y, sy]);
    let d = exact(x.len() as f64);
    if name == "linear" {
        let (mut product, mut own) = (exact(0.0), exact(0.0));
        for k in 0..x.len() {
            product = product.plus(&exact(x[k]).times(&exact(y[k])));
            own = own.plus(&exact(x[k]).times(&exact(sx[k])));
            own = own.plus(&exact(y[k]).times(&exact(sy[k])));
        }
        return exact(1.0).plus(&product).times(&scores).plus(&own).plus(&d);
    }
    let [phi, first, second] = radial(name, &t.value, consts);
    phi.times(&scores).plus(&first.times(&d.plus(&cross))).plus(&second.times(&t).negative())
}

/// u(x, y) on the unit sphere, with c = x·y = 1 - t/2 and w = 1 - c² = t (1 - t/4).
fn on_sphere(name: &str, x: Point<'_>, y: Point<'_>, consts: &mut Consts) -> Number {
    let [t, cross, scores] = sums(x, y);
    let d = x[0].len() as f64;
    let c = exact(1.0).plus(&exact(-0.5).times(&t));
    let w = t.times(&exact(1.0).plus(&exact(-0.25).times(&t)));
    let [phi, first, second] = match name {
        "linear" => [exact(1.0).plus(&c), exact(1.0), exact(0.0)],
        _ => radial(name, &t.value, consts),
    };
    let curvature = exact(d - 1.0);
    let inner = curvature.times(&curvature.times(&c).plus(&cross)).plus(&scores);
    let slope = c.times(&c.plus(&cross)).plus(&exact(d - 2.0)).negative();
    let slope = exact(2.0).times(&curvature).times(&w).plus(&slope);
    let tail = first.times(&slope).plus(&second.times(&c).times(&w));
    phi.times(&inner).plus(&tail.negative())
}

/// |x - y|², the difference of the scores by x - y, and their product.
fn sums([x, sx]: Point<'_>, [y, sy]: Point<'_>) -> [Number; 3] {
    let [mut t, mut cross, mut scores] = [(); 3].map(|()| exact(0.0));
    for k in 0..x.len() {
        let r = exact(x[k]).minus_input(&exact(y[k]));
        let difference = exact(sx[k]).minus_input(&exact(sy[k]));
        t = t.plus(&r.times(&r));
        cross = cross.plus(&difference.times(&r));
        scores = scores.plus(&exact(sx[k]).times(&exact(sy[k])));
    }
    [t, cross, scores]
}

/// Largest error in epsilons of the sum of terms.
fn worst<T: Real>(name: &str, kernel: &SteinKernel, x: &[f64], s: &[f64], d: usize) -> f64 {
    let value = match kernel.domain() {
        Domain::Sphere => on_sphere,
        _ => in_space,
    };
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
            // The largest of numbers passes over NaN.
            assert!(relative.is_finite(), "{name}, d = {d}, {i} and {j}: {}", gram[i * n + j]);
            worst = worst.max(relative / <T as gibbsite_kernels::Real>::EPSILON.to_f64());
        }
    }
    worst
}

fn kernels() -> [(&'static str, SteinKernel); 4] {
    [
        ("imq", SteinKernel::imq(1.25, -0.5).unwrap()),
        ("imq^-0.25", SteinKernel::imq(1.25, -0.25).unwrap()),
        ("rbf", SteinKernel::rbf(1.75).unwrap()),
        ("linear", SteinKernel::linear()),
    ]
}

const POINTS: usize = 12;

/// Points and scores.
fn normals(d: usize) -> [Vec<f64>; 2] {
    [0, 1].map(|half| {
        let mut normals = vec![0.0_f64; 2 * POINTS * d];
        Stream::new(12, d as u64).fill_normal(&mut normals);
        normals[half * POINTS * d..][..POINTS * d].to_vec()
    })
}

/// Every second point `factor` times the one before it, but for a relative 1e-6.
fn pairs(x: &[f64], s: &[f64], d: usize, factor: f64) -> Vec<f64> {
    let mut x = x.to_vec();
    for i in (1..POINTS).step_by(2) {
        for k in 0..d {
            x[i * d + k] = factor * x[(i - 1) * d + k] * (1.0 + 1e-6 * s[i * d + k]);
        }
    }
    x
}

/// Compares at points of every kind with their scores.
fn check(kernels: &[(&str, SteinKernel)], d: usize, points: &[(&str, &[f64], &[f64])]) {
    let mut overall = [0.0_f64; 2];
    for (name, kernel) in kernels {
        for (place, x, s) in points {
            let errors = [worst::<f32>(name, kernel, x, s, d), worst::<f64>(name, kernel, x, s, d)];
            println!("{name}, d = {d}, {place}: {errors:.3?}");
            for (overall, error) in overall.iter_mut().zip(errors) {
                *overall = overall.max(error);
            }
        }
    }
    assert!(overall.iter().all(|&error| error <= 8.0), "d = {d}: {overall:?}");
}

#[test]
fn values_are_within_eight_units_of_the_sum_of_terms() {
    for d in [1, 3, 15, 64] {
        let [x, s] = normals(d);
        // And everything around 1e4.
        let close = pairs(&x, &s, d, 1.0);
        let far: Vec<f64> = close.iter().map(|x| x + 1e4).collect();
        check(&kernels(), d, &[("apart", &x, &s), ("close", &close, &s), ("far", &far, &s)]);
    }
}

#[test]
fn values_on_the_sphere_are_within_eight_units_of_the_sum_of_terms() {
    for d in [2, 3, 15, 64] {
        let [x, s] = normals(d);
        let unit = |mut x: Vec<f64>| {
            for x in x.chunks_exact_mut(d) {
                let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
                x.iter_mut().for_each(|x| *x /= norm);
            }
            x
        };
        let tangential = |x: &[f64]| {
            let mut s = s.clone();
            for (s, x) in s.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                let along: f64 = s.iter().zip(x).map(|(s, x)| s * x).sum();
                s.iter_mut().zip(x).for_each(|(s, x)| *s -= along * x);
            }
            s
        };
        let places = [x.clone(), pairs(&x, &s, d, 1.0), pairs(&x, &s, d, -1.0)].map(unit);
        let scores = places.each_ref().map(|x| tangential(x));
        let names = ["apart", "close", "opposite"];
        let points = [0, 1, 2].map(|k| (names[k], &*places[k], &*scores[k]));
        check(&kernels().map(|(name, kernel)| (name, kernel.on_sphere())), d, &points);
    }
}
