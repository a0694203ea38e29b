//! Readers of foreign files: no panic, bounded memory, and what is accepted survives being
//! written and read again.
//!
//! The first byte of an input picks the reader and the type of number, the rest is the file.
#![no_main]

use gibbsite_cli::io::{self, Element, Matrix, checkpoint, csv, model, npy};
use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use std::{env, fs, path::Path, process};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SLACK: usize = 64 << 10;

/// Of checkpoints, whose headers a crate parses whole.
const CHECKPOINT_SLACK: usize = 256 << 10;

type Result<T> = std::result::Result<T, gibbsite_cli::io::Error>;

/// Runs a reader, which may take a multiple of the length of the file and 64 KiB: one multiple if it refuses the file, whatever its
/// header says, and one if it accepts.
fn bounded<T>(len: usize, multiples: [usize; 2], read: impl FnOnce() -> Result<T>) -> Result<T> {
    bounded_beyond(SLACK, len, multiples, read)
}

fn bounded_beyond<T>(
    slack: usize,
    len: usize,
    multiples: [usize; 2],
    read: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = read();
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let multiple = multiples[usize::from(result.is_ok())];
    assert!(peak <= multiple * len + slack, "{peak} bytes allocated for a file of {len}");
    result
}

/// Keeps what was read, or checks that the complaint is one line that names the file.
fn accepted<T>(result: Result<T>) -> Option<T> {
    let message = match result {
        Ok(value) => return Some(value),
        Err(error) => error.to_string(),
    };
    assert!(message.starts_with("name: "), "{message}");
    assert!(message.len() < 600 && !message.contains(char::is_control), "{message:?}");
    None
}

fn assert_same<T: Element>(a: &[T], b: &[T]) {
    let bits = |x: &T| {
        let x: f64 = (*x).into();
        if x.is_nan() { u64::MAX } else { x.to_bits() }
    };
    assert!(a.iter().map(bits).eq(b.iter().map(bits)));
}

/// Integers of one byte become numbers of eight.
fn array<T: Element>(file: &[u8]) {
    let (path, len) = (Path::new("name"), file.len());
    let vector = bounded(len, [1, 9], || npy::parse_vector::<T>(path, file, len as u64));
    let matrix = bounded(len, [1, 9], || npy::parse_matrix::<T>(path, file, len as u64));
    if let Some(vector) = accepted(vector) {
        let mut out = Vec::new();
        npy::encode(&mut out, &[vector.len()], &vector).unwrap();
        let again = npy::parse_vector(path, &out[..], out.len() as u64).unwrap();
        assert_same(&vector, &again);
    }
    // From the disk, where numbers that lie as in memory are mapped.
    let place = env::temp_dir().join(format!("gibbsite-{}.npy", process::id()));
    fs::write(&place, file).expect("room for a small file");
    let mapped = io::read_matrix::<T>(&place);
    fs::remove_file(&place).expect("written before");
    match (&mapped, &matrix) {
        (Ok(mapped), Ok(matrix)) => {
            assert_eq!((mapped.rows, mapped.cols), (matrix.rows, matrix.cols));
            assert_same(&mapped.data, &matrix.data);
        }
        _ => assert!(mapped.is_err() && matrix.is_err()),
    }
    if let Some(Matrix { data, rows, cols }) = accepted(matrix) {
        let mut out = Vec::new();
        npy::encode(&mut out, &[rows, cols], &data).unwrap();
        let again = npy::parse_matrix(path, &out[..], out.len() as u64).unwrap();
        assert_eq!((again.rows, again.cols), (rows, cols));
        assert_same(&data, &again.data);
    }
}

/// Numbers of two characters become numbers of eight bytes, in an array that doubles as it grows.
fn table<T: Element>(file: &[u8]) {
    let path = Path::new("name");
    let vector = bounded(file.len(), [16, 16], || csv::parse_vector::<T>(path, file));
    let matrix = bounded(file.len(), [16, 16], || csv::parse_matrix::<T>(path, file));
    match (accepted(vector), &matrix) {
        (Some(vector), Ok(matrix)) => assert_same(&vector, &matrix.data),
        (None, Ok(matrix)) => assert!(matrix.rows > 1 && matrix.cols > 1),
        (vector, Err(_)) => assert!(vector.is_none()),
    }
    if let Some(Matrix { data, rows, cols }) = accepted(matrix) {
        let mut out = Vec::new();
        let row = |row: &[T]| row.iter().map(|x| (*x).into()).collect::<Vec<f64>>();
        csv::encode(&mut out, &[], data.chunks(cols).map(row)).unwrap();
        let again = csv::parse_matrix(path, &out).unwrap();
        assert_eq!((again.rows, again.cols), (rows, cols));
        assert_same(&data, &again.data);
    }
}

/// Numbers of four bytes may become numbers of eight.
fn file<T: Element + PartialEq + std::fmt::Debug>(file: &[u8]) {
    let (path, len) = (Path::new("name"), file.len());
    let model = bounded(len, [1, 3], || model::parse::<T>(path, file, len as u64));
    if let Some(model) = accepted(model) {
        let (mut out, mut twice) = (Vec::new(), Vec::new());
        model::encode(&mut out, &model).unwrap();
        let again = model::parse::<T>(path, &out[..], out.len() as u64).unwrap();
        assert_eq!(model, again);
        assert_same(&model.theta.data, &again.theta.data);
        model::encode(&mut twice, &again).unwrap();
        assert_eq!(out, twice);
    }
}

fn saved_run(file: &[u8]) {
    let (path, len) = (Path::new("name"), file.len());
    let read = || checkpoint::parse(path, file);
    if let Some(saved) = accepted(bounded_beyond(CHECKPOINT_SLACK, len, [1, 1], read)) {
        let (mut out, mut twice) = (Vec::new(), Vec::new());
        checkpoint::encode(&mut out, &saved).unwrap();
        let again = checkpoint::parse(path, &out).unwrap();
        checkpoint::encode(&mut twice, &again).unwrap();
        assert!(out == twice && saved.counts == again.counts);
        assert!(saved.reals.keys().eq(again.reals.keys()));
        saved.reals.values().zip(again.reals.values()).for_each(|(a, b)| assert_same(a, b));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else { return };
    match which % 7 {
        0 => array::<f64>(rest),
        1 => array::<f32>(rest),
        2 => table::<f64>(rest),
        3 => table::<f32>(rest),
        4 => file::<f64>(rest),
        5 => file::<f32>(rest),
        _ => saved_run(rest),
    }
});
