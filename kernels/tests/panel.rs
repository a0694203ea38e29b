//! Panels that are filled anew.

use gibbsite_kernels::{
    Isa, Rows, RowsMut, Scratch,
    relu::{Gate, Panel, carried_sums, param_sums},
};

const D: usize = 3;

fn values(rows: usize, salt: usize) -> Vec<f64> {
    (0..rows * D).map(|i| ((i * 37 + salt * 11) % 23) as f64 / 8.0 - 1.25).collect()
}

fn rows(values: &[f64]) -> Rows<'_, f64> {
    Rows::new(values, values.len() / D, D).unwrap()
}

/// What the two kernels that take samples make of a panel.
fn sums(panel: &Panel<f64>) -> Vec<f64> {
    let theta = values(5, 1);
    let mut scratch = Scratch::default();
    let [mut value, mut gradient, mut carried] = [vec![0.0; 5], vec![0.0; 5 * D], vec![0.0; 5 * D]];
    let mut out = RowsMut::new(&mut gradient, 5, D).unwrap();
    param_sums(panel, rows(&theta), None, &mut value, &mut out, None, &mut scratch);
    let mut out = RowsMut::new(&mut carried, 5, D).unwrap();
    carried_sums(panel, rows(&theta), None, &mut out, &mut scratch);
    [value, gradient, carried].concat()
}

#[test]
fn nothing_is_left_of_what_was_packed_before() {
    let (many, few, v) = (values(300, 2), values(7, 3), values(7, 4));
    for isa in Isa::available() {
        let samples = Panel::samples(isa, rows(&few), None, false).unwrap();
        let carriers = Panel::carriers(isa, rows(&few), rows(&v), Gate::Relu, false).unwrap();
        assert_ne!(sums(&samples), sums(&carriers), "both alike: the test sees nothing");

        let mut panel = Panel::new(isa);
        panel.set_samples(rows(&many), None, false).unwrap();
        panel.set_carriers(rows(&few), rows(&v), Gate::Relu, false).unwrap();
        assert_eq!(sums(&panel), sums(&carriers), "carriers after samples on {isa}");
        panel.set_samples(rows(&few), None, false).unwrap();
        assert_eq!(sums(&panel), sums(&samples), "samples after carriers on {isa}");
        panel.set_samples(rows(&few), Some(&[1.0; 7]), true).unwrap();
        panel.set_samples(rows(&few), None, false).unwrap();
        assert_eq!(sums(&panel), sums(&samples), "samples after samples with a bias on {isa}");
    }
}
