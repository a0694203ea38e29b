//! With the feature `blas`: finds the library that has the CBLAS functions, and links it. Does nothing otherwise.
//!
//! This is the work of the crate that declares those functions. Flags of a crate further up would stand before
//! the calls on the linker's command line, where linkers drop shared libraries that nothing has asked for yet.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rustc-check-cfg=cfg(gibbsite_blas, values(\"openblas\", \"blis\", \"mkl\", \"accelerate\"))"
    );
    #[cfg(feature = "blas")]
    match blas::link() {
        Ok(library) => println!("cargo::rustc-cfg=gibbsite_blas=\"{library}\""),
        Err(message) => println!("cargo::error=feature `blas`: {message}"),
    }
}

#[cfg(feature = "blas")]
mod blas {
    use std::{env, path::Path};

    /// Which library: one of the names below.
    const NAME: &str = "GIBBSITE_BLAS";
    /// Where it is, if pkg-config does not know.
    const DIRECTORY: &str = "GIBBSITE_BLAS_DIR";

    /// A library that may be linked.
    struct Library {
        name: &'static str,
        /// What pkg-config calls it. Only interfaces with 32-bit integers.
        modules: &'static [&'static str],
        /// What linkers call it.
        link_name: &'static str,
    }

    /// In the order in which they are looked for.
    const LIBRARIES: [Library; 3] = [
        Library { name: "openblas", modules: &["openblas"], link_name: "openblas" },
        Library { name: "blis", modules: &["blis"], link_name: "blis" },
        // The sequential one first: threads are not wanted.
        Library { name: "mkl", modules: &["mkl-dynamic-lp64-seq", "mkl-sdl"], link_name: "mkl_rt" },
    ];

    const ACCELERATE: &str = "accelerate";

    /// Tells cargo what to link; gives the library's name.
    pub fn link() -> Result<&'static str, String> {
        let apple = env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
        let (wanted, directory) = (variable(NAME)?, variable(DIRECTORY)?);
        match (wanted.as_deref(), directory) {
            (Some(ACCELERATE), _) if !apple => {
                Err(format!("{NAME}={ACCELERATE}, but Accelerate is part of Apple's systems only"))
            }
            (Some(ACCELERATE), _) => Ok(accelerate()),
            (None, None) if apple => Ok(accelerate()),
            (None, None) => LIBRARIES
                .iter()
                .find(|library| in_pkg_config(library))
                .map(|library| library.name)
                .ok_or_else(|| not_found(&LIBRARIES)),
            (None, Some(_)) => Err(format!("{DIRECTORY} is set, but not {NAME}: {}", usage())),
            (Some(wanted), directory) => {
                let library = LIBRARIES.iter().find(|library| library.name == wanted);
                let library = library.ok_or_else(|| format!("{NAME}={wanted}: {}", usage()))?;
                match directory {
                    Some(directory) => in_directory(library, Path::new(&directory))?,
                    None if in_pkg_config(library) => {}
                    None => return Err(not_found(std::slice::from_ref(library))),
                }
                Ok(library.name)
            }
        }
    }

    /// An environment variable; if empty, it counts as unset.
    fn variable(name: &str) -> Result<Option<String>, String> {
        println!("cargo::rerun-if-env-changed={name}");
        match env::var(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not valid Unicode")),
        }
    }

    fn accelerate() -> &'static str {
        println!("cargo::rustc-link-lib=framework=Accelerate");
        ACCELERATE
    }

    /// Links the library if pkg-config knows it by a name that linkers take; MKL's wheels have files that are not.
    fn in_pkg_config(library: &Library) -> bool {
        library.modules.iter().any(|module| {
            // What a probe tells cargo is linked, so the first one is silent.
            let found = pkg_config::Config::new().cargo_metadata(false).probe(module);
            found.is_ok_and(|found| found.libs.iter().any(|lib| lib.contains(library.name)))
                && pkg_config::probe_library(module).is_ok()
        })
    }

    /// Links the library if it is in the directory.
    fn in_directory(library: &Library, directory: &Path) -> Result<(), String> {
        if directory.is_relative() {
            // Neither this program nor the compiler runs where the path was written.
            return Err(format!("{DIRECTORY}={}: not an absolute path", directory.display()));
        }
        let name = library.link_name;
        let prefixed = ["so", "dylib", "a"].map(|ending| format!("lib{name}.{ending}"));
        let files = prefixed.into_iter().chain([format!("{name}.lib")]);
        let Some(file) = files.map(|file| directory.join(file)).find(|file| file.is_file()) else {
            return Err(format!(
                "{DIRECTORY}={}: no library {name} there, such as lib{name}.so",
                directory.display()
            ));
        };
        println!("cargo::rerun-if-changed={}", file.display());
        println!("cargo::rustc-link-search=native={}", directory.display());
        println!("cargo::rustc-link-lib={name}");
        Ok(())
    }

    fn not_found(libraries: &[Library]) -> String {
        let modules: Vec<_> =
            libraries.iter().flat_map(|library| library.modules).copied().collect();
        let why = match pkg_config::Config::new().cargo_metadata(false).probe(modules[0]) {
            Err(pkg_config::Error::CrossCompilation) => {
                "pkg-config is not asked for another target than this machine's, unless \
                 PKG_CONFIG_ALLOW_CROSS=1 and its paths are set"
                    .to_owned()
            }
            Err(pkg_config::Error::EnvNoPkgConfig(variable)) => {
                format!("pkg-config is not asked, as {variable} is set")
            }
            _ => format!("pkg-config is missing or knows nothing of {}", modules.join(", ")),
        };
        format!(
            "no CBLAS library found: {why}. Install one (Debian, Ubuntu: apt-get install pkg-config \
             libopenblas-dev), or {}",
            usage()
        )
    }

    fn usage() -> String {
        let names: Vec<_> = LIBRARIES.iter().map(|library| library.name).collect();
        format!(
            "set {NAME} to {} or {ACCELERATE} and, if pkg-config does not know the library, {DIRECTORY} to the \
             directory that holds it",
            names.join(", ")
        )
    }
}
