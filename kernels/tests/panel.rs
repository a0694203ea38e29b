//! Panels that are filled anew, and panels that are not what a kernel takes.

use gibbsite_kernels::{
    Isa, Rows, RowsMut, Scratch,
    chain::{ReluTarget, Space, finish},
    relu::{Gate, Panel, carried_sums, energy, param_sums},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

const D: usize = 3;

fn values(rows: usize, salt: usize) -> Vec<f64> {
    (0..rows * D).map(|i| ((i * 37 + salt * 11) % 23) as f64 / 8.0 - 1.25).collect()
}

fn rows(values: &[f64]) -> Rows<'_, f64> {
    Rows::new(values, values.len() / D, D).unwrap()
}

/// Sums over samples.
fn sums(panel: &Panel<f64>) -> Vec<f64> {
    let theta = values(5, 1);
    let [mut value, mut gradient] = [vec![0.0; 5], vec![0.0; 5 * D]];
    let mut out = RowsMut::new(&mut gradient, 5, D).unwrap();
    param_sums(panel, rows(&theta), None, &mut value, &mut out, None, &mut Scratch::default());
    [value, gradient].concat()
}

/// Sums of what samples carry.
fn carried(panel: &Panel<f64>) -> Vec<f64> {
    let theta = values(5, 1);
    let mut sums = vec![0.0; 5 * D];
    let mut out = RowsMut::new(&mut sums, 5, D).unwrap();
    carried_sums(panel, rows(&theta), None, &mut out, &mut Scratch::default());
    sums
}

/// Potentials at some samples.
fn potentials(panel: &Panel<f64>) -> Vec<f64> {
    let mut potentials = vec![0.0; 5];
    let target = ReluTarget { panel, beta: 1.0, precision: None, space: Space::Flat };
    let x = values(5, 1);
    finish(target, rows(&x), Some(&mut potentials), None, &mut Scratch::default());
    potentials
}

/// Energies of some samples.
fn energies(panel: &Panel<f64>) -> Vec<f64> {
    let mut energies = vec![0.0; 5];
    energy(panel, rows(&values(5, 1)), &mut energies, &mut Scratch::default());
    energies
}

#[test]
fn nothing_is_left_of_what_was_packed_before() {
    let (many, few, v) = (values(300, 2), values(7, 3), values(7, 4));
    for isa in Isa::available() {
        let samples = Panel::samples(isa, rows(&few), None, false).unwrap();
        let carriers = Panel::carriers(isa, rows(&few), rows(&v), Gate::Relu, false).unwrap();
        let mut panel = Panel::new(isa);
        panel.set_samples(rows(&many), None, false).unwrap();
        panel.set_carriers(rows(&few), rows(&v), Gate::Relu, false).unwrap();
        assert_eq!(carried(&panel), carried(&carriers), "carriers after samples on {isa}");
        panel.set_samples(rows(&few), None, false).unwrap();
        assert_eq!(sums(&panel), sums(&samples), "samples after carriers on {isa}");
        panel.set_samples(rows(&few), Some(&[1.0; 7]), true).unwrap();
        panel.set_samples(rows(&few), None, false).unwrap();
        assert_eq!(sums(&panel), sums(&samples), "samples after samples with a bias on {isa}");
    }
}

#[test]
fn every_kernel_takes_its_own_kind_alone() {
    let (x, v) = (values(7, 3), values(7, 4));
    let (x, v, isa) = (rows(&x), rows(&v), Isa::best());
    let panels = [
        Panel::neurons(isa, x, None, &[1.0; 7]).unwrap(),
        Panel::samples(isa, x, None, false).unwrap(),
        Panel::carriers(isa, x, v, Gate::Step, false).unwrap(),
        Panel::new(isa),
    ];
    type Call = fn(&Panel<f64>) -> Vec<f64>;
    let kernels: [Call; 4] = [energies, sums, carried, potentials];
    for (k, kernel) in kernels.into_iter().enumerate() {
        let own = k % 3;
        kernel(&panels[own]);
        for (p, panel) in panels.iter().enumerate().filter(|&(p, _)| p != own) {
            let refused = catch_unwind(AssertUnwindSafe(|| kernel(panel))).unwrap_err();
            let message = refused.downcast_ref::<String>().unwrap();
            let held = ["Neurons", "Samples", "Carriers", "Nothing"][p];
            assert!(message.contains("panel") && message.contains(held), "{k}: {message}");
        }
    }
}

#[test]
fn rows_that_are_not_there_can_be_of_any_length() {
    for (isa, cols) in Isa::available().flat_map(|isa| [1 << 20, usize::MAX].map(|d| (isa, d))) {
        let none = Rows::<f64>::with_stride(&[], 0, cols, cols).unwrap();
        for with_bias in [false, true] {
            let panels = [
                Panel::neurons(isa, none, with_bias.then_some(&[][..]), &[]),
                Panel::samples(isa, none, None, with_bias),
                Panel::carriers(isa, none, none, Gate::Step, with_bias),
            ];
            for panel in panels {
                assert_eq!(panel.is_ok_and(|panel| panel.dim() == cols), cols < usize::MAX);
            }
        }
        // As long as any that a panel takes.
        let cols = cols >> 3;
        let none = Rows::<f64>::with_stride(&[], 0, cols, cols).unwrap();
        let panel = Panel::neurons(isa, none, None, &[]).unwrap();
        let mut scratch = Scratch::default();
        energy(&panel, none, &mut [], &mut scratch);
        let target = ReluTarget { panel: &panel, beta: 1.0, precision: None, space: Space::Flat };
        finish(target, none, Some(&mut []), None, &mut scratch);
    }
}

#[test]
fn rows_of_nothing_are_as_many_as_their_weights_fit_memory() {
    for count in [usize::MAX, usize::MAX / 2, usize::MAX / 16 + 1] {
        let many = Rows::<f64>::new(&[], count, 0).unwrap();
        for (isa, with_bias) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
            let samples = Panel::samples(isa, many, None, with_bias);
            let carriers = Panel::carriers(isa, many, many, Gate::Step, with_bias);
            for panel in [samples, carriers] {
                let error = panel.unwrap_err().to_string();
                let expected =
                    format!("panel: expected rows that memory can hold, got {count} x 0");
                assert_eq!(error, expected);
            }
        }
    }
}

#[test]
fn a_refused_panel_is_as_before() {
    let (few, huge) = (values(7, 3), usize::MAX);
    let mut panel = Panel::samples(Isa::best(), rows(&few), None, false).unwrap();
    let before = sums(&panel);
    let none = Rows::with_stride(&[], 0, huge, huge).unwrap();
    let error = panel.set_carriers(none, none, Gate::Relu, false).unwrap_err().to_string();
    assert_eq!(error, format!("panel: expected rows that memory can hold, got 0 x {huge}"));
    assert!(panel.set_samples(rows(&few), Some(&[1.0; 6]), false).is_err());
    assert_eq!(sums(&panel), before);
}

#[test]
fn debug_output_is_short() {
    let few = values(7, 3);
    let panel = Panel::carriers(Isa::Scalar, rows(&few), rows(&few), Gate::Relu, true).unwrap();
    assert_eq!(format!("{panel:?}"), "Panel(Carriers(Relu), 7 x 3, with_bias: true, scalar)");
}
