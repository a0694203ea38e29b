//! What is said, and where: results on stdout, everything else on stderr.

use crate::error::{Error, Result};
use serde::Serialize;
use std::{
    fmt,
    io::{self, Write},
};

/// How much is said.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// Errors only.
    pub quiet: bool,
    /// Results as one JSON object.
    pub json: bool,
}

impl Voice {
    /// A line on stderr.
    pub fn message(self, text: impl fmt::Display) {
        if !self.quiet {
            // There is nobody left to tell if stderr is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// A warning on stderr.
    pub fn warning(self, text: impl fmt::Display) {
        self.message(format_args!("warning: {text}"));
    }

    /// A warning on stderr, and in the result's list.
    pub fn warn(self, warnings: &mut Vec<String>, text: String) {
        self.warning(&text);
        warnings.push(text);
    }

    /// The result of a command on stdout: as JSON if asked for, otherwise as text for people.
    pub fn result(self, json: &impl Serialize, text: impl fmt::Display) -> Result<()> {
        if self.json {
            print(serde_json::to_string(json).expect("plain data"))
        } else if self.quiet {
            Ok(())
        } else {
            print(text)
        }
    }
}

fn print(text: impl fmt::Display) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // Whoever read along has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Error::System(format!("cannot write to stdout: {error}"))),
    }
}

/// Lines of two columns: what, value.
#[derive(Default)]
pub struct Facts(Vec<(&'static str, String)>);

impl Facts {
    /// Adds a line.
    pub fn add(&mut self, name: &'static str, value: impl fmt::Display) {
        self.0.push((name, value.to_string()));
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (i, (name, value)) in self.0.iter().enumerate() {
            let end = if i + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "  {name:width$}  {value}{end}")?;
        }
        Ok(())
    }
}

/// A path as it is shown in a line of text.
pub fn shown(path: &std::path::Path) -> String {
    let mut out = String::new();
    for c in path.to_string_lossy().chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
