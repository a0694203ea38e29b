//! The `gibbsite` program.

#![forbid(unsafe_code)]

fn main() {}
