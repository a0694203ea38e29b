//! How the kernels of gibbsite are timed: what its benches and its command `bench` share.
//!
//! Everything runs on the calling thread. Times are times on the processor, which other processes disturb less than
//! times on the clock; what is compared takes turns and keeps its shortest time, so that ratios and shares are of
//! one run and of the same clock frequency.

#![forbid(unsafe_code)]

mod machine;
mod peak;
mod problem;
mod rows;
mod unfused;
mod values;

pub use machine::{Copy, peak, process_time, time};
pub use peak::Element;
pub use problem::{Problem, Size, cases, levels, name, shape_of_level};
pub use rows::{Effort, Limit, Row, rows};
pub use unfused::Unfused;
pub use values::values;
