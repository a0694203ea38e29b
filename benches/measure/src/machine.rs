//! What the machine can do.

use crate::Element;
use cpu_time::{ProcessTime, ThreadTime};
use gibbsite_kernels::Isa;
use std::{hint::black_box, time::Duration};

/// Processor time of one call on this thread.
pub fn time(f: impl FnOnce()) -> Duration {
    let start = ThreadTime::now();
    f();
    start.elapsed()
}

/// Processor time of one call on all threads.
pub fn process_time(f: impl FnOnce()) -> Duration {
    let start = ProcessTime::now();
    f();
    start.elapsed()
}

/// Floating-point operations per second of fused multiply-adds in registers, in a run of a millisecond or two; longer where the clock of
/// processor time has larger steps, as on Windows.
pub fn peak<T: Element>(isa: Isa) -> f64 {
    let steps = if isa == Isa::Scalar { 20_000 } else { 300_000 };
    let (mut flops, mut elapsed) = (0, Duration::ZERO);
    while elapsed.is_zero() {
        elapsed = time(|| flops += T::multiply_add(isa, steps));
    }
    flops as f64 / elapsed.as_secs_f64()
}

/// Memory that is copied.
pub struct Copy {
    from: Vec<f64>,
    to: Vec<f64>,
}

impl Copy {
    /// Of arrays of `len` values, of which both are in memory.
    pub fn new(len: usize) -> Self {
        Self { from: vec![1.0; len], to: vec![2.0; len] }
    }

    /// Bytes of an array.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.from[..])
    }

    /// Bytes per second, those read and those written, of one copy.
    pub fn bandwidth(&mut self) -> f64 {
        let Self { from, to } = self;
        let elapsed = time(|| black_box(&mut *to).copy_from_slice(black_box(from)));
        2.0 * self.bytes() as f64 / elapsed.as_secs_f64()
    }
}
