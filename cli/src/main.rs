//! The `gibbsite` program.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    gibbsite_cli::main()
}
