//! The bottom layer alone: plain slices, one call per batch, the instruction set given by value.

use gibbsite_kernels::{Isa, Real, Rows, RowsMut, Scratch, relu};

// f(x) = (1/2) (3 max(x_0 + b_0, 0) - max(x_0 + x_1 + b_1, 0)); every intermediate result below
// is a small multiple of 1/2, so both element types hold it exactly.
const THETA: [f64; 4] = [1.0, 0.0, 1.0, 1.0];
const WEIGHTS: [f64; 2] = [3.0, -1.0];
const BIAS: [f64; 2] = [-1.0, 2.0];
// Both neurons on; first off; both off; the first exactly at its kink without bias.
const X: [f64; 8] = [2.0, 5.0, -1.0, 4.0, -3.0, -4.0, 0.0, 1.0];

pub fn run() {
    for isa in Isa::available() {
        check::<f32>(isa);
        check::<f64>(isa);
        println!("kernels on {isa}: energy, score and parameter sums agree");
    }
}

fn check<T: Real>(isa: Isa) {
    let [theta, w, b, x] = [&THETA[..], &WEIGHTS, &BIAS, &X].map(cast::<T>);
    let theta = Rows::new(&theta, 2, 2).unwrap();
    let x = Rows::new(&x, 4, 2).unwrap();
    let mut scratch = Scratch::default();

    let cases = [
        (None, [-0.5, -1.5, 0.0, -0.5], [-1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]),
        (Some(&b[..]), [-3.0, -2.5, 0.0, -1.5], [-1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]),
    ];
    for (bias, energy, score) in cases {
        let panel = relu::Panel::neurons(isa, theta, bias, &w).unwrap();
        assert_eq!(panel.isa(), isa);
        let (mut e, mut s) = (vec![T::ONE; 4], vec![T::ONE; 8]);
        let mut s_rows = RowsMut::new(&mut s, 4, 2).unwrap();
        relu::energy_score(&panel, x, &mut e, &mut s_rows, &mut scratch);
        assert_eq!(e, cast(&energy));
        assert_eq!(s, cast(&score));
    }

    // Σ_i r_i max(z_ij, 0), Σ_i r_i 1{z_ij > 0} x_i, Σ_i r_i 1{z_ij > 0}
    let r: Vec<T> = cast(&[1.0, -2.0, 3.0, 4.0]);
    let panel = relu::Panel::samples(isa, x, Some(&r), true).unwrap();
    let (mut value, mut grad, mut bias_grad) = (vec![T::ONE; 2], vec![T::ONE; 4], vec![T::ONE; 2]);
    relu::param_sums(
        &panel,
        theta,
        Some(&b),
        &mut value,
        &mut RowsMut::new(&mut grad, 2, 2).unwrap(),
        Some(&mut bias_grad),
        &mut scratch,
    );
    assert_eq!(value, cast(&[1.0, 11.0]));
    assert_eq!(grad, cast(&[2.0, 5.0, 4.0, 1.0]));
    assert_eq!(bias_grad, cast(&[1.0, 3.0]));

    assert!(Rows::new(&w, 2, 2).is_err(), "a matrix that does not fill its slice");
    assert!(relu::Panel::neurons(isa, theta, None, &w[..1]).is_err(), "a weight is missing");
}

fn cast<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}
