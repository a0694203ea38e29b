//! What test programs of all crates share: how much is run, from which seed, on which levels, and numbers by their bits.
#![allow(dead_code, reason = "no program uses everything")]

use gibbsite_kernels::{Isa, Real};
use std::{env, iter, sync::OnceLock, time::SystemTime};

/// How much is run, from `GIBBSITE_TEST_EFFORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// For emulators.
    Small,
    /// For every commit.
    Normal,
    /// For releases: what can be enumerated, and the largest samples.
    Large,
}

pub fn effort() -> Effort {
    static EFFORT: OnceLock<Effort> = OnceLock::new();
    *EFFORT.get_or_init(|| match env::var("GIBBSITE_TEST_EFFORT").as_deref() {
        Ok("small") => Effort::Small,
        Ok("normal") | Err(_) => Effort::Normal,
        Ok("large") => Effort::Large,
        Ok(other) => panic!("GIBBSITE_TEST_EFFORT={other}: expected small, normal or large"),
    })
}

/// One of three values, by effort.
pub fn by_effort<U>(small: U, normal: U, large: U) -> U {
    match effort() {
        Effort::Small => small,
        Effort::Normal => normal,
        Effort::Large => large,
    }
}

/// The seed of this run: `GIBBSITE_TEST_SEED`, or a fixed one; for large runs a fresh one, which is printed.
pub fn run_seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match env::var("GIBBSITE_TEST_SEED") {
        Ok(text) => text.parse().expect("GIBBSITE_TEST_SEED is a number"),
        Err(_) if effort() == Effort::Large => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let seed = now.map_or(1, |now| now.as_nanos() as u64);
            println!("GIBBSITE_TEST_SEED={seed}");
            seed
        }
        Err(_) => 1,
    })
}

/// The levels under test: what the CPU has and `GIBBSITE_ISA` allows.
pub fn levels() -> Vec<Isa> {
    Isa::available().filter(|&isa| isa <= Isa::best()).collect()
}

/// An element type with access to its bits.
pub trait Float: Real {
    /// Largest finite value.
    const MAX: Self;

    fn bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;

    /// Bits in which all NaNs are one: which of the many NaNs an operation returns is left open by IEEE 754 and differs between
    /// instruction sets.
    fn canonical(self) -> u64 {
        if self.to_f64().is_nan() { u64::MAX } else { self.bits() }
    }

    /// The bit of the sign, set.
    fn sign_bit() -> u64 {
        1 << (Self::WIDTH - 1)
    }
}

macro_rules! float {
    ($t:ident, $bits:ident) => {
        impl Float for $t {
            const MAX: Self = $t::MAX;

            fn bits(self) -> u64 {
                self.to_bits().into()
            }
            fn from_bits(bits: u64) -> Self {
                $t::from_bits(bits as $bits)
            }
        }
    };
}
float!(f32, u32);
float!(f64, u64);

/// SplitMix64, for inputs of tests.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of one test: another sequence for each name and run.
    pub fn of(name: &str) -> Self {
        Self(name.bytes().fold(run_seed(), |seed, byte| Self(seed ^ u64::from(byte)).next()))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    pub fn pick<U: Copy>(&mut self, of: &[U]) -> U {
        of[self.below(of.len())]
    }

    /// In [-1, 1), a multiple of 2^-23.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 40) as f64 * 0.5_f64.powi(23) - 1.0
    }

    /// Mean 0, variance 1, nearly normal.
    pub fn normal(&mut self) -> f64 {
        iter::repeat_with(|| self.uniform()).take(3).sum()
    }
}

/// The output function of SplitMix64.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
