//! Which level runs: order, fallback, names and the cap by environment.

use super::{
    cases::Class,
    compare::{evaluate, random_inputs, same},
    support::{Rng, levels},
};
use gibbsite_kernels::{
    Isa, ParseIsaError, Rows,
    registry::{Shape, entries},
    relu::Panel,
};
use std::{env, process::Command};

/// A child process with this variable set prints [`Isa::best`] and does nothing else.
pub const PRINT_BEST: &str = "GIBBSITE_TEST_PRINT_BEST";

/// Wider levels come before narrower ones, and scalar is below all.
pub fn order() {
    assert!(Isa::Avx512 > Isa::Avx2 && Isa::Avx2 > Isa::Scalar && Isa::Neon > Isa::Scalar);
    assert!(Isa::ALL.is_sorted_by(|a, b| a > b), "highest first, no level twice");
    let available: Vec<Isa> = Isa::available().collect();
    assert_eq!(available.last(), Some(&Isa::Scalar));
    assert!(available.is_sorted_by(|a, b| a > b));
    assert!(available.iter().all(|isa| isa.is_available()));
    assert_eq!(available.len(), Isa::ALL.iter().filter(|isa| isa.is_available()).count());
    assert!(Isa::best().is_available());
    assert_eq!(Isa::default(), Isa::best());
}

/// What this CPU can do at least, as far as the target says.
pub fn detection() {
    assert_eq!(Isa::Neon.is_available(), cfg!(target_arch = "aarch64"));
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        assert!(avx2 || !Isa::Avx2.is_available(), "AVX2 found by pulp and not by std");
        let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq");
        assert!(avx512 || !Isa::Avx512.is_available(), "AVX-512 found by pulp and not by std");
        // With more than what a level asks for it has to be there.
        macro_rules! all {
            ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
        }
        let v3 = all!("avx2" "fma" "bmi1" "bmi2" "f16c" "lzcnt" "movbe" "popcnt" "xsave");
        assert!(!v3 || Isa::Avx2.is_available(), "AVX2 found by std and not by us");
        let v4 = v3 && all!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
        assert!(!v4 || Isa::Avx512.is_available(), "AVX-512 found by std and not by us");
    }
}

/// A level that the CPU lacks falls to the next lower one that it has, in calls as well.
pub fn fallback() {
    let entries = entries::<f64>();
    let entry = entries.first().expect("an entry");
    let shape = Shape { n: 19, d: 3, m: 7, bias: true, ..Shape::default() };
    let inputs = random_inputs(entry, shape, Class::Normal, &mut Rng::of("fallback"));
    let scalar = evaluate(entry, Isa::Scalar, shape, &inputs);
    for isa in Isa::ALL {
        let lower = isa.or_lower();
        assert!(lower <= isa && lower.is_available(), "{isa} fell to {lower}");
        assert!(Isa::available().all(|other| other <= lower || other > isa), "{isa}: {lower}");
        assert_eq!(lower.or_lower(), lower);
        let theta = Rows::new(&[1.0_f64], 1, 1).expect("one value");
        let panel = Panel::neurons(isa, theta, None, &[1.0]).expect("shapes that fit");
        assert_eq!(panel.isa(), lower);
        let forced = evaluate(entry, isa, shape, &inputs);
        assert!(forced[0].iter().zip(&scalar[0]).all(|(&a, &b)| same(a, b)), "forced {isa}");
    }
}

/// Names are read back as they are printed, and nothing else is read.
pub fn names() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
        assert_eq!(isa.to_string(), isa.name());
        assert_eq!(format!("{isa:>8}"), format!("{:>8}", isa.name()));
    }
    for wrong in ["", "AVX2", " avx2", "avx", "sse2", "auto"] {
        let error = wrong.parse::<Isa>().expect_err(wrong);
        let text = error.to_string();
        assert!(text.contains(&format!("{wrong:?}")), "{text}");
        assert!(Isa::ALL.iter().all(|isa| text.contains(isa.name())), "{text}");
    }
}

/// `GIBBSITE_ISA` caps the level of a process and never raises it.
pub fn cap() {
    let best_under = |cap: Option<&str>| {
        let mut command = this_program();
        command.env(PRINT_BEST, "1").env_remove("GIBBSITE_ISA");
        if let Some(cap) = cap {
            command.env("GIBBSITE_ISA", cap);
        }
        let output = command.output().expect("this program runs again");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a name")
    };
    for isa in Isa::ALL {
        assert_eq!(best_under(Some(isa.name())), isa.or_lower().name());
    }
    let uncapped = Isa::available().next().expect("a level").name();
    for cap in [None, Some(""), Some("avx1024"), Some("AVX2")] {
        assert_eq!(best_under(cap), uncapped, "GIBBSITE_ISA={cap:?}");
    }
}

/// This program, behind the emulator that cargo was told to run it with, if any.
fn this_program() -> Command {
    let program = env::current_exe().expect("the path of this program");
    let arch = env::consts::ARCH.to_uppercase();
    let is_runner = |name: &str| {
        name.starts_with("CARGO_TARGET_") && name.ends_with("_RUNNER") && name.contains(&arch)
    };
    let runner = env::vars().find(|(name, _)| is_runner(name)).map(|(_, runner)| runner);
    let mut words = runner.as_deref().unwrap_or_default().split_whitespace();
    match words.next() {
        Some(runner) => {
            let mut command = Command::new(runner);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Every level named in `GIBBSITE_REQUIRE_ISA` is under test.
pub fn required() -> Result<(), String> {
    let required = env::var("GIBBSITE_REQUIRE_ISA").unwrap_or_default();
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let isa: Isa = name.parse().map_err(|error: ParseIsaError| error.to_string())?;
        if !levels().contains(&isa) {
            return Err(format!("GIBBSITE_REQUIRE_ISA={required}: {isa} is not available"));
        }
    }
    Ok(())
}
