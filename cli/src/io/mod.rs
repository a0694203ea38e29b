//! Files: tables of numbers (`.npy`, `.csv`), models and checkpoints (`.safetensors`).
//!
//! Nothing in a file is trusted. A header is checked against the length of the file before
//! anything is allocated for what it announces, so a hostile array or model costs at most the size
//! of the file plus 64 KiB, a checkpoint 256 KiB. Tables as text cost at most 16 times their size:
//! a number of two characters takes eight bytes, in an array that doubles as it grows. Files appear
//! whole or not at all, see [`write_atomic`].

pub mod checkpoint;
pub mod csv;
mod data;
mod error;
pub mod model;
pub mod npy;
mod number;

pub use data::Data;
pub use error::Error;
pub use number::{Element, Stored};

use std::{
    fs::{self, File, Metadata},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Numbers in rows and columns, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix<T: Element> {
    /// All rows, one after the other.
    pub data: Data<T>,
    /// Number of rows.
    pub rows: usize,
    /// Numbers in each row.
    pub cols: usize,
}

enum Format {
    Npy,
    Csv,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Error> {
        let is = |name| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(name));
        match () {
            () if is("npy") => Ok(Format::Npy),
            () if is("csv") => Ok(Format::Csv),
            () => Err(Error::Extension { path: path.into() }),
        }
    }
}

/// Reads a table from a `.npy` or `.csv` file; see [`npy`] and [`csv`] for what is accepted.
///
/// Not-a-number and infinity are accepted, a finite number too large for `T` is an error. A `.npy` file of `T` in this machine's
/// order is mapped into memory, not copied.
pub fn read_matrix<T: Element>(path: &Path) -> Result<Matrix<T>, Error> {
    match Format::of(path)? {
        Format::Npy => {
            let (file, len) = open(path)?;
            npy::read_matrix(path, file, len)
        }
        Format::Csv => csv::parse_matrix(path, &read_all(path)?),
    }
}

/// Reads a vector from a `.npy` file of shape `[n]`, `[n, 1]` or `[1, n]`, or from a `.csv` file
/// of one column or one row.
pub fn read_vector<T: Element>(path: &Path) -> Result<Vec<T>, Error> {
    match Format::of(path)? {
        Format::Npy => {
            let (file, len) = open(path)?;
            npy::parse_vector(path, file, len)
        }
        Format::Csv => csv::parse_vector(path, &read_all(path)?),
    }
}

/// Writes a `.npy` file in C order.
///
/// # Panics
///
/// If `shape` does not multiply out to the length of `data`.
pub fn write_npy<T: Stored>(path: &Path, shape: &[usize], data: &[T]) -> Result<(), Error> {
    write_atomic(path, |out| npy::encode(out, shape, data))
}

/// Writes a `.npy` file in C order, of numbers that `write` hands over part by part.
///
/// # Panics
///
/// If `write` succeeds and `shape` does not multiply out to the count of the numbers.
pub fn write_npy_parts<T: Stored>(
    path: &Path,
    shape: &[usize],
    write: impl FnOnce(&mut dyn FnMut(&[T]) -> io::Result<()>) -> io::Result<()>,
) -> Result<(), Error> {
    write_atomic(path, |out| {
        npy::encode_header::<T>(out, shape)?;
        let mut count = 0;
        write(&mut |part| {
            count += part.len();
            npy::encode_numbers(out, part)
        })?;
        assert_eq!(shape.iter().product::<usize>(), count, "shape {shape:?}");
        Ok(())
    })
}

/// Writes a table of numbers as `.csv`; see [`csv::encode`].
pub fn write_csv<R: AsRef<[f64]>>(
    path: &Path,
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> Result<(), Error> {
    write_atomic(path, |out| csv::encode(out, header, rows))
}

/// Creates or replaces a file with what `write` writes.
///
/// The file appears under its name once it is complete and on disk; on failure an older file of
/// that name stays as it was and nothing is left behind; a process that is killed leaves
/// `.NAME.XXXXXX.part` beside it. A file that is replaced hands on its permissions. Symbolic links
/// are followed, to places where there is no file yet as well. Devices and pipes are refused, as
/// renaming would replace them by a file.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let (target, old) = target(path)?;
    let attempt = || {
        let temporary = temporary(&target)?;
        if let Some(old) = old {
            // Before it has contents that others may not see.
            temporary.as_file().set_permissions(old.permissions())?;
        }
        let mut out = BufWriter::with_capacity(64 << 10, temporary.as_file());
        write(&mut out)?;
        out.flush()?;
        drop(out);
        temporary.as_file().sync_all()?;
        temporary.persist(&target)?;
        Ok(())
    };
    attempt().map_err(|source| Error::Write { path: path.into(), source })
}

/// Makes sure that [`write_atomic`] can start: that the directory takes files, and that neither the
/// name nor that of the temporary file is too long.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    let (target, _) = target(path)?;
    let attempt = || {
        drop(temporary(&target)?);
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    attempt().map_err(|source| Error::Write { path: path.into(), source })
}

/// Where a path leads by symbolic links, and the regular file that is there, if there is one.
fn target(path: &Path) -> Result<(PathBuf, Option<Metadata>), Error> {
    // As many as Linux follows.
    const MOST: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..=MOST {
        if let Ok(link) = fs::read_link(&target) {
            target = target.parent().unwrap_or(Path::new("")).join(link);
            continue;
        }
        return match fs::metadata(&target) {
            Ok(old) if !old.is_file() => Err(Error::NotAFile { path: path.into() }),
            old => Ok((target, old.ok())),
        };
    }
    let source = io::Error::other("too many symbolic links");
    Err(Error::Write { path: path.into(), source })
}

/// The file that becomes `target` when it is complete.
fn temporary(target: &Path) -> io::Result<NamedTempFile> {
    // Cut, since a name that is long as it is would become too long.
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{}.", name.chars().take(40).collect::<String>());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".part");
    // As for any new file: less what the umask withholds.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty());
    builder.tempfile_in(dir.unwrap_or(Path::new(".")))
}

/// Opens a regular file and tells its length.
fn open(path: &Path) -> Result<(File, u64), Error> {
    let failed = |source| Error::Read { path: path.into(), source };
    // Before opening, which blocks on a pipe.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    Ok((file, len))
}

fn read_all(path: &Path) -> Result<Vec<u8>, Error> {
    let (mut file, _) = open(path)?;
    let mut bytes = Vec::new();
    // Reserves the length of the file first, and fails if there is no memory for it.
    file.read_to_end(&mut bytes).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(bytes)
}
