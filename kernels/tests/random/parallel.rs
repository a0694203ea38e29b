//! Work on all CPUs, and the pair of normals that words of a stream make.

use gibbsite_kernels::Real;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

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
