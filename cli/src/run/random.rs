//! `gibbsite random`.

use super::Context;
use crate::{
    Number,
    args::{RandomArgs, RandomKind},
    error::{Error, Result},
    from_f64,
};
use gibbsite::{RowsMut, random::Streams};
use std::io::{self, Write};

/// Numbers per block of output.
const BLOCK: usize = 1 << 16;

/// Writes until nobody reads any more.
pub fn run<T: Number>(args: &RandomArgs, context: Context) -> Result<()> {
    if context.voice.json {
        return Err(Error::Usage("--json: random writes binary numbers to stdout".to_owned()));
    }
    let k = args.streams;
    let mut streams = Streams::<T>::new(context.seed, 0, k, context.isa)?;
    let steps = BLOCK.div_ceil(k);
    let mut words = vec![0; steps * k];
    // Row per stream; pairs of normals must not be torn.
    let columns = steps.next_multiple_of(2);
    let mut normals = vec![T::ZERO; k * columns];
    let mut bytes = Vec::new();
    let mut out = io::stdout().lock();
    loop {
        bytes.clear();
        match args.kind {
            RandomKind::U64 => {
                streams.words(&mut words);
                bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            }
            RandomKind::Uniform => {
                streams.words(&mut words);
                for &word in &words {
                    put(uniform::<T>(word), &mut bytes);
                }
            }
            RandomKind::Normal => {
                let rows = RowsMut::new(&mut normals, k, columns).map_err(gibbsite::Error::from)?;
                streams.normals(rows)?;
                for step in 0..columns {
                    for stream in normals.chunks_exact(columns) {
                        put(stream[step], &mut bytes);
                    }
                }
            }
        }
        match out.write_all(&bytes) {
            // Whoever read has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => {
                result.map_err(|error| Error::System(format!("cannot write to stdout: {error}")))?
            }
        }
    }
}

/// The top bits of a word as a multiple of 2^-53 or 2^-24 in [0, 1).
fn uniform<T: Number>(word: u64) -> T {
    let bits = if size_of::<T>() == 4 { 24 } else { 53 };
    from_f64((word >> (64 - bits)) as f64 / (1_u64 << bits) as f64)
}

fn put<T: Number>(x: T, bytes: &mut Vec<u8>) {
    let x: f64 = x.into();
    match size_of::<T>() {
        4 => bytes.extend((x as f32).to_le_bytes()),
        _ => bytes.extend(x.to_le_bytes()),
    }
}
