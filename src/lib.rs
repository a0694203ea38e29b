//! Shallow ReLU energy-based models on the CPU.
#![forbid(unsafe_code)]
