//! Exports facts about the build, for `gibbsite info` and benchmark reports. Generates no code.
//!
//! With the feature `blas`, the build script of the kernels finds the library, since the linker's flags must
//! come from the crate that calls it; `BuildInfo::blas` says which.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=GIBBSITE_RUSTC={}", version.trim());
    println!("cargo::rustc-env=GIBBSITE_TARGET={}", env::var("TARGET").expect("set by cargo"));
    println!("cargo::rustc-env=GIBBSITE_PROFILE={}", env::var("PROFILE").expect("set by cargo"));
}
