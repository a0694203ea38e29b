//! Every kernel on small shapes and every level against its reference: a first look, and small enough for interpreters of machine
//! code such as Miri. The workspace's `equivalence` has the millions of cases.

use gibbsite_kernels::{
    Isa, Real, Scratch,
    registry::{Array, Call, Shape, entries},
};

/// Neither short nor sparse, and with kinks: multiples of 1/8 in [-2, 2), from a hash.
fn values<T: Real>(len: usize, salt: usize) -> Vec<T> {
    let value = |i: usize| {
        let hash = (i + 1000 * salt + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59;
        T::from_f64(hash as f64 / 8.0 - 2.0)
    };
    (0..len).map(value).collect()
}

fn arrays<T: Real>(arrays: &[Array], salt: usize) -> Vec<Vec<T>> {
    arrays.iter().enumerate().map(|(k, array)| values(array.len(), salt + k)).collect()
}

fn all<T: Real>() {
    let shapes: &[(usize, usize, usize)] = match cfg!(miri) {
        true => &[(0, 2, 3), (3, 0, 2), (2, 3, 0), (9, 5, 7), (2, 17, 9)],
        false => {
            &[(0, 2, 3), (3, 0, 2), (2, 3, 0), (9, 5, 7), (2, 17, 9), (70, 71, 101), (1, 1, 1)]
        }
    };
    for entry in entries::<T>() {
        // Miri lacks NEON's shifts of words, which random streams and elementary functions use.
        let shifts = !matches!(entry.name.split('.').next(), Some("relu" | "rowwise"));
        if cfg!(all(miri, target_arch = "aarch64")) && shifts {
            continue;
        }
        for (i, &(n, d, m)) in shapes.iter().enumerate() {
            let (bias, weighted) = (i % 2 == 0, i % 3 == 0);
            let shape = Shape { n, d, m, bias, weighted, pad: i % 2 };
            let inputs = arrays::<T>(&(entry.inputs)(shape), 0);
            let inputs: Vec<&[T]> = inputs.iter().map(Vec::as_slice).collect();
            let run = |run: &dyn Fn(Call<'_, '_, T>)| -> Vec<u64> {
                let mut outputs = arrays::<T>(&(entry.outputs)(shape), 90);
                let mut slices: Vec<&mut [T]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
                run(Call { shape, inputs: &inputs, outputs: &mut slices });
                // Any NaN is as good as another.
                let bits =
                    |x: &T| if x.to_f64().is_nan() { u64::MAX } else { x.to_f64().to_bits() };
                outputs.iter().flatten().map(bits).collect()
            };
            let expected = run(&|call| (entry.reference)(call));
            for isa in Isa::available() {
                let got = run(&|call| (entry.run)(isa, call, &mut Scratch::default()));
                assert_eq!(got, expected, "{} {} on {isa}, {shape:?}", entry.name, T::NAME);
            }
        }
    }
}

#[test]
fn singles() {
    all::<f32>();
}

#[test]
fn doubles() {
    all::<f64>();
}

fn bytes<T: Real>() {
    for entry in entries::<T>() {
        let shape = Shape { n: 7, d: 5, m: 3, pad: 2, bias: true, weighted: true };
        let arrays = [(entry.inputs)(shape), (entry.outputs)(shape)].concat();
        let values: usize = arrays.iter().map(|array| array.rows * array.cols).sum();
        // Moves that neither read nor write velocities, and those that make new ones.
        let unused = match entry.name {
            "chain.moves_ula_sphere" => 2 * shape.n * shape.d,
            "chain.moves_hmc" | "chain.moves_hmc_sphere" => shape.n * shape.d,
            _ => 0,
        };
        let expected = (values - unused) * size_of::<T>();
        assert_eq!((entry.bytes)(shape), expected as u64, "{} {}", entry.name, T::NAME);
    }
}

#[test]
fn bytes_are_those_of_the_arrays() {
    bytes::<f32>();
    bytes::<f64>();
}

/// A function of a family that takes a level or scratch space is a kernel.
#[test]
fn every_kernel_is_listed() {
    let registry = include_str!("../src/registry.rs");
    let mut kernels = 0;
    for (module, source) in [
        ("chain", include_str!("../src/chain/mod.rs")),
        ("elementary", include_str!("../src/elementary/mod.rs")),
        ("noise", include_str!("../src/noise/mod.rs")),
        ("relu", include_str!("../src/relu/mod.rs")),
        ("rowwise", include_str!("../src/rowwise.rs")),
        ("stein", include_str!("../src/stein/mod.rs")),
    ] {
        for function in source.split("\npub fn ").skip(1) {
            let (name, rest) = function.split_once(['<', '(']).expect("an argument list");
            let signature = rest.split_once('{').expect("a body").0;
            if signature.contains("isa: Isa") || signature.contains("scratch: &mut Scratch") {
                assert!(registry.contains(&format!("{module}::{name}(")), "{module}::{name}");
                kernels += 1;
            }
        }
    }
    assert!(kernels >= 20, "{kernels} found");
}
