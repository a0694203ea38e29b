//! The one error type of the file layer.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Why a file could not be read or written.
///
/// Every message is a single line that names the file, whatever the file or its name contains.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file name does not end in a supported extension.
    #[error("{}: unsupported file type, expected a name ending in .npy or .csv", shown(path))]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The path names something that is not a regular file, such as a directory or a device.
    #[error("{}: not a regular file", shown(path))]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Opening or reading failed.
    #[error("{}: cannot read: {}", shown(path), clip(&source.to_string(), 200))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// Creating, writing or renaming failed.
    #[error("{}: cannot write: {}", shown(path), clip(&source.to_string(), 200))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// The numbers in the file do not fit in memory.
    #[error("{}: not enough memory for {count} numbers", shown(path))]
    Memory {
        /// The file.
        path: PathBuf,
        /// How many numbers the file holds.
        count: usize,
    },
    /// The file is well formed but has no rows or no columns.
    #[error("{}: holds no data", shown(path))]
    NoData {
        /// The file.
        path: PathBuf,
    },
    /// The file breaks the rules of its format.
    #[error("{}: invalid {format} file: {problem}", shown(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The format.
        format: &'static str,
        /// The rule that is broken.
        problem: String,
    },
    /// A NumPy array holds elements that are not real numbers or integers.
    #[error("{}: unsupported dtype {found}, expected f4, f8, i1 to i8 or u1 to u8", shown(path))]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The dtype of the file.
        found: String,
    },
    /// The array has the wrong number of dimensions.
    #[error("{}: expected {expected}, found {found}", shown(path))]
    Shape {
        /// The file.
        path: PathBuf,
        /// The shape asked for.
        expected: &'static str,
        /// The shape of the file.
        found: String,
    },
    /// A number is finite in the file but too large for the type asked for.
    #[error("{}: {value} at {place} is too large for {wanted}", shown(path))]
    Overflow {
        /// The file.
        path: PathBuf,
        /// Zero-based index of the number in its array.
        place: String,
        /// The number.
        value: String,
        /// The type asked for.
        wanted: &'static str,
    },
    /// A CSV field is not a number.
    #[error("{}: line {line}, field {field}: expected {expected}, found `{found}`", shown(path))]
    Field {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// Field in the line, from 1.
        field: usize,
        /// What belongs there.
        expected: &'static str,
        /// The text found, shortened.
        found: String,
    },
    /// A CSV line is longer or shorter than the first one.
    #[error("{}: line {line}: expected {expected} fields, found {found}", shown(path))]
    Ragged {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// Fields in the first line.
        expected: usize,
        /// Fields in this line.
        found: usize,
    },
    /// A safetensors file that holds something else than a model.
    #[error("{}: not a gibbsite model: {reason}", shown(path))]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What gives it away.
        reason: String,
    },
    /// A safetensors file that holds something else than a checkpoint.
    #[error("{}: not a checkpoint of gibbsite", shown(path))]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// A tensor of a model file is missing, unexpected or wrong.
    #[error("{}: tensor `{tensor}`: {problem}", shown(path))]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A metadata entry of a model file is missing, unexpected or wrong.
    #[error("{}: metadata `{key}`: {problem}", shown(path))]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Key of the entry.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// Whether the user named or supplied a bad file, as opposed to a failure of the machine
    /// (full disk, read error, out of memory).
    pub fn is_bad_input(&self) -> bool {
        match self {
            Error::Read { source, .. } | Error::Write { source, .. } => matches!(
                source.kind(),
                ErrorKind::NotFound
                    | ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::NotADirectory
                    | ErrorKind::IsADirectory
                    | ErrorKind::InvalidFilename
            ),
            Error::Memory { .. } => false,
            _ => true,
        }
    }
}

/// A path fit for one line.
fn shown(path: &Path) -> String {
    escape(path.to_string_lossy().chars())
}

/// `text` fit for one line, cut after `limit` characters.
pub(super) fn clip(text: &str, limit: usize) -> String {
    let mut out = escape(text.chars().take(limit + 1));
    if let Some((end, _)) = out.char_indices().nth(limit) {
        out.truncate(end);
        out.push('…');
    }
    out
}

/// As [`clip`] for bytes that need not be text. Looks at the start only, however long they are.
pub(super) fn clip_bytes(bytes: &[u8], limit: usize) -> String {
    clip(&String::from_utf8_lossy(&bytes[..bytes.len().min(4 * limit + 4)]), limit)
}

fn escape(chars: impl Iterator<Item = char>) -> String {
    let mut out = String::new();
    for c in chars {
        // The two separators are no control characters, yet terminals and editors break lines there.
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line() {
        let path = PathBuf::from("a\nb\u{2028}.npy");
        let source = io::Error::other("two\nlines");
        let text = Error::Read { path, source }.to_string();
        assert_eq!(text, "a\\nb\\u{2028}.npy: cannot read: two\\nlines");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(clip("äöü", 2), "äö…");
        assert_eq!(clip("\0\0", 7), "\\u{0}\\u…");
        assert_eq!(clip_bytes(&[b'x'; 1000], 40), "x".repeat(40) + "…");
        assert_eq!(clip_bytes(b"\xff\t", 40), "\u{fffd}\\t");
    }

    #[test]
    fn full_disk_is_not_the_users_fault() {
        let error = |kind| Error::Write { path: "x".into(), source: io::Error::from(kind) };
        assert!(!error(ErrorKind::StorageFull).is_bad_input());
        assert!(!error(ErrorKind::QuotaExceeded).is_bad_input());
        assert!(error(ErrorKind::NotFound).is_bad_input());
        assert!(!Error::Memory { path: "x".into(), count: 1 }.is_bad_input());
        assert!(Error::NoData { path: "x".into() }.is_bad_input());
    }
}
