//! `gibbsite info`.

use super::{Context, isa_cap, usable_isas};
use crate::{
    error::Result,
    report::{Facts, Voice},
};
use gibbsite::{BuildInfo, Isa};
use serde::Serialize;

#[derive(Serialize)]
struct Info {
    version: &'static str,
    isa: &'static str,
    isa_found: Vec<&'static str>,
    isa_usable: Vec<&'static str>,
    isa_cap: Option<&'static str>,
    backends: &'static [&'static str],
    blas: Option<&'static str>,
    blas_version: Option<String>,
    threads: usize,
    dtype: &'static str,
    rustc: &'static str,
    target: &'static str,
    profile: &'static str,
}

pub fn run(context: Context) -> Result<()> {
    let build = BuildInfo::CURRENT;
    let info = Info {
        version: build.version,
        isa: context.isa.name(),
        isa_found: Isa::available().map(Isa::name).collect(),
        isa_usable: usable_isas().map(Isa::name).collect(),
        isa_cap: isa_cap()?.map(Isa::name),
        backends: build.backends,
        blas: build.blas,
        blas_version: build.blas_version(),
        threads: context.threads,
        dtype: context.dtype,
        rustc: build.rustc,
        target: build.target,
        profile: build.profile,
    };
    let mut facts = Facts::default();
    facts.add("version", info.version);
    facts.add("instruction sets found", info.isa_found.join(", "));
    facts.add("instruction set used", info.isa);
    facts.add("cap (GIBBSITE_ISA)", info.isa_cap.unwrap_or("none"));
    facts.add("backends", info.backends.join(", "));
    facts.add("BLAS", super::blas().as_deref().unwrap_or("none"));
    facts.add("threads", info.threads);
    facts.add("compiler", info.rustc);
    facts.add("target", info.target);
    facts.add("profile", info.profile);
    // Facts are all this command is about: they are printed even if quiet.
    Voice { quiet: false, ..context.voice }.result(&info, format_args!("gibbsite\n{facts}"))
}
