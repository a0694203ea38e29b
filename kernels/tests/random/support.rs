//! How much is run, on which levels, on how many threads.

use gibbsite_kernels::{Isa, Real};
use std::{
    env,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::SystemTime,
};

/// How much is run, from `GIBBSITE_TEST_EFFORT`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// For emulators.
    Small,
    /// For every commit.
    Normal,
    /// Everything that can be enumerated, and the largest samples.
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

/// The seed of this run: `GIBBSITE_TEST_SEED`, or a fixed one; a fresh one for large runs.
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
    fn bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;

    /// Bits in which all NaNs are one.
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
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The output function of SplitMix64.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What threads collect; the order of merging must not matter.
pub trait Merge: Default + Send {
    fn merge(&mut self, other: Self);
}

/// Collects over the items 0 to `count` on all CPUs.
pub fn parallel<S: Merge>(count: u64, collect: impl Fn(&mut S, u64) + Sync) -> S {
    let next = AtomicU64::new(0);
    let work = || {
        let mut state = S::default();
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= count {
                return state;
            }
            collect(&mut state, item);
        }
    };
    let mut total = S::default();
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(state) => total.merge(state),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    total
}

/// The pair of normals that the next words of a stream make.
pub fn next_pair<T: Real>(mut word: impl FnMut() -> u64) -> [T; 2] {
    let first = word();
    match T::WIDTH {
        64 => T::pair([first, word()]),
        _ => T::pair([first & u64::from(u32::MAX), first >> 32]),
    }
}
