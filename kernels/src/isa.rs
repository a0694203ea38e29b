//! Instruction-set levels and the choice among them.

use std::{fmt, str::FromStr, sync::OnceLock};

/// An instruction-set level. Levels are ordered; a kernel asked for a level that the CPU lacks
/// runs on the next lower one that it has.
///
/// A value of this type grants nothing by itself: every kernel proves the features it uses on
/// the running CPU before it uses them (CPUID and the operating system's enabled state), so a
/// level that is out of reach costs speed, never soundness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// One lane at a time, no assumption on the CPU. Fused multiply-adds may be library calls.
    Scalar,
    /// 128-bit NEON (aarch64).
    Neon,
    /// 256-bit AVX2 with FMA (x86-64-v3).
    Avx2,
    /// 512-bit AVX-512 F, BW, CD, DQ and VL (x86-64-v4).
    Avx512,
}

impl Isa {
    /// Every level, highest first.
    pub const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Scalar];

    /// The name used by the command line, the environment and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether the running CPU and operating system offer this level.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => pulp::aarch64::Neon::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[allow(unreachable_patterns, reason = "which levels exist depends on the target")]
            _ => false,
        }
    }

    /// The levels that the running CPU offers, highest first; [`Isa::Scalar`] is always the last.
    pub fn available() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// This level if the CPU offers it, otherwise the next lower one that it does.
    pub fn or_lower(self) -> Isa {
        Self::available().find(|&isa| isa <= self).unwrap_or(Isa::Scalar)
    }

    /// The highest level of the running CPU, capped by the environment variable
    /// `GIBBSITE_ISA` (`avx512`, `avx2`, `neon` or `scalar`; any other value is ignored here, the
    /// command line reports it). Detected once per process.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let cap = std::env::var("GIBBSITE_ISA").ok().and_then(|name| name.parse().ok());
            cap.unwrap_or(Isa::Avx512).or_lower()
        })
    }
}

impl Default for Isa {
    fn default() -> Self {
        Self::best()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no instruction-set level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseIsaError(String);

impl fmt::Display for ParseIsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown instruction set {:?}: expected avx512, avx2, neon or scalar", self.0)
    }
}

impl std::error::Error for ParseIsaError {}

impl FromStr for Isa {
    type Err = ParseIsaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == text)
            .ok_or_else(|| ParseIsaError(text.to_owned()))
    }
}
