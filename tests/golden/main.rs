//! The bits of every kernel's results, pinned by hashes in `tests/golden/<family>.txt`, and those of the library's in
//! `results.txt`.
//!
//! The same file has to hold on every instruction-set level of every architecture. A change of
//! bits is a breaking change: `GIBBSITE_BLESS=1 cargo test --test golden` writes the new hashes, and
//! the changelog says why under "Numerics". `GIBBSITE_ISA` caps the levels.

#[path = "../common/mod.rs"]
mod common;
mod results;
#[path = "../../kernels/tests/support/mod.rs"]
mod support;

use gibbsite_kernels::{
    Isa, Real, Scratch,
    registry::{Array, Call, Entry, Shape, entries},
};
use results::Results;
use std::{collections::BTreeMap, env, fmt::Write, fs, path::PathBuf};
use support::by_effort;

/// `(n, d, m)`: a few of each kind of remainder, sums of more than one tile, and nothing at all.
const SHAPES: [(usize, usize, usize); 16] = [
    (0, 3, 5),
    (4, 0, 3),
    (3, 5, 0),
    (1, 1, 1),
    (2, 2, 2),
    (5, 3, 7),
    (8, 4, 16),
    (13, 9, 31),
    (17, 15, 24),
    (24, 6, 95),
    (33, 7, 96),
    (9, 16, 97),
    (97, 2, 12),
    (50, 1, 193),
    (193, 3, 10),
    (3, 130, 40),
];

/// SplitMix64: inputs come from integers alone, so that they are the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What inputs are made of.
#[derive(Clone, Copy)]
enum Class {
    /// Multiples of 2^-20 up to 2.
    Ordinary,
    /// The same times 2^-20 to 2^20.
    Wide,
    /// -2 to 2: sums are often 0.
    Integers,
    /// Ordinary, with one in 256 a NaN, infinite, or any bits at all.
    Special,
}

const CLASSES: [Class; 4] = [Class::Ordinary, Class::Wide, Class::Integers, Class::Special];

/// An element type with access to its bits.
trait Float: Real {
    fn from_high_bits(bits: u64) -> Self;
    /// All NaNs are one.
    fn canonical_bits(self) -> u64;
}

impl Float for f32 {
    fn from_high_bits(bits: u64) -> Self {
        f32::from_bits((bits >> 32) as u32)
    }
    fn canonical_bits(self) -> u64 {
        if self.is_nan() { u64::MAX } else { self.to_bits().into() }
    }
}

impl Float for f64 {
    fn from_high_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn canonical_bits(self) -> u64 {
        if self.is_nan() { u64::MAX } else { self.to_bits() }
    }
}

fn value<T: Float>(class: Class, rng: &mut Rng) -> T {
    let ordinary = |bits: u64| ((bits >> 42) as f64 - f64::from(1 << 21)) / f64::from(1 << 20);
    let bits = rng.next();
    T::from_f64(match class {
        Class::Ordinary => ordinary(bits),
        Class::Wide => ordinary(bits) * f64::from_bits((1023 - 20 + bits % 41) << 52),
        Class::Integers => (bits % 5) as f64 - 2.0,
        Class::Special if bits.is_multiple_of(256) => match bits >> 8 & 3 {
            0 => f64::NAN,
            1 => f64::NEG_INFINITY,
            _ => return T::from_high_bits(rng.next()),
        },
        Class::Special => ordinary(bits),
    })
}

/// FNV-1a, 128 bits.
struct Hash(u128);

impl Hash {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bits: u64) {
        for byte in bits.to_le_bytes() {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul((1 << 88) + 0x13b);
        }
    }
}

/// Hash of all outputs of a kernel on one level, and the number of calls.
fn hash<T: Float>(entry: &Entry<T>, isa: Isa) -> (u128, usize) {
    let (mut hash, mut calls, mut rng) = (Hash::new(), 0, Rng(0));
    let mut scratch = Scratch::default();
    for (n, d, m) in SHAPES {
        for class in CLASSES {
            for (bias, weighted) in [(false, false), (true, true)] {
                let shape = Shape { n, d, m, bias, weighted, pad: 0 };
                let inputs = (entry.inputs)(shape);
                let mut values = |array: &Array| -> Vec<T> {
                    (0..array.len()).map(|_| value(class, &mut rng)).collect()
                };
                let inputs: Vec<_> = inputs.iter().map(&mut values).collect();
                let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
                let outputs = (entry.outputs)(shape);
                let mut outputs: Vec<_> =
                    outputs.iter().map(|array| vec![T::ZERO; array.len()]).collect();
                let mut slices: Vec<_> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
                let call = Call { shape, inputs: &inputs, outputs: &mut slices };
                (entry.run)(isa, call, &mut scratch);
                outputs.iter().flatten().for_each(|value| hash.add(value.canonical_bits()));
                calls += 1;
            }
        }
    }
    (hash.0, calls)
}

/// Lines `kernel dtype hash`, by family.
type Files = BTreeMap<&'static str, String>;

/// Adds the line of each kernel; all levels have to agree on it.
fn add_lines<T: Float>(files: &mut Files) {
    for entry in entries::<T>() {
        let mut common = None;
        for isa in Isa::available().filter(|&isa| isa <= Isa::best()) {
            let (hash, calls) = hash(&entry, isa);
            println!("{:20} {:5} {isa:8} {calls:6}  {hash:032x}", entry.name, T::NAME);
            let (level, bits) = *common.get_or_insert((isa, hash));
            assert_eq!(bits, hash, "{} {}: {level} and {isa} differ", entry.name, T::NAME);
        }
        let (_, hash) = common.expect("scalar is always available");
        let family = entry.name.split('.').next().expect("family.kernel");
        writeln!(files.entry(family).or_default(), "{} {} {hash:032x}", entry.name, T::NAME)
            .expect("strings take all that fits into memory");
    }
}

/// Compares lines with those of a file, or writes the file.
fn check(name: &str, lines: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden"].iter().collect();
    let path = path.join(name).with_extension("txt");
    if env::var_os("GIBBSITE_BLESS").is_some() {
        fs::write(&path, lines).expect("the file can be written");
    }
    let recorded = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; see tests/golden/main.rs", path.display()));
    for (recorded, line) in recorded.lines().zip(lines.lines()) {
        assert_eq!(recorded, line, "bits differ from {}; see tests/golden/main.rs", path.display());
    }
    let count = (recorded.lines().count(), lines.lines().count());
    assert_eq!(count.0, count.1, "lines recorded in {} and made", path.display());
}

#[test]
fn bits_are_as_recorded() {
    let mut files = Files::new();
    println!("{:20} {:5} {:8} {:>6}", "kernel", "dtype", "level", "cases");
    add_lines::<f32>(&mut files);
    add_lines::<f64>(&mut files);
    files.into_iter().for_each(|(family, lines)| check(family, &lines));
}

#[cfg(feature = "rayon")]
fn in_pool(threads: usize, work: impl FnOnce() + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(work);
}

#[cfg(not(feature = "rayon"))]
fn in_pool(_: usize, work: impl FnOnce()) {
    work();
}

/// What `add` adds for both element types, the same in pools of one thread, a few, and more than some calls have work for.
fn made(add: [fn(&mut Results); 2]) -> String {
    // One pool is enough for an emulator, and without rayon there is none.
    let pools = by_effort(&[2][..], &[1, 2, 3, 7], &[1, 2, 3, 7]);
    let pools = if cfg!(feature = "rayon") { pools } else { &[1] };
    let mut first = None;
    for &threads in pools {
        println!("{threads} threads");
        let mut results = Results(String::new());
        in_pool(threads, || add.iter().for_each(|add| add(&mut results)));
        let first = first.get_or_insert_with(|| results.0.clone());
        for (line, first) in results.0.lines().zip(first.lines()) {
            assert_eq!(line, first, "{threads} threads and {}", pools[0]);
        }
    }
    first.expect("there are pools")
}

#[test]
fn results_are_as_recorded_for_any_number_of_threads() {
    check("results", &made([Results::add_all::<f32>, Results::add_all::<f64>]));
}

/// Last digits of what goes through faer depend on the CPU, so they are not recorded; on threads they do not depend.
#[test]
fn what_is_not_recorded_is_the_same_for_any_number_of_threads() {
    made([Results::add_unrecorded::<f32>, Results::add_unrecorded::<f64>]);
}
