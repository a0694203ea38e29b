//! Checkpoints of training as safetensors files: arrays of F64 and U64 under their names, so that they can be looked at elsewhere.

use super::{Error, error::clip, read_all, write_atomic};
use gibbsite::train::Checkpoint;
use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use std::{
    collections::HashMap,
    io::{self, Write},
    path::Path,
};

const FORMAT: &str = "gibbsite-checkpoint-1";

/// Parsed JSON takes many times its length: this keeps it below 256 KiB. The header of a checkpoint
/// has some 2,000 bytes.
const MAX_HEADER: u64 = 8 << 10;

/// Writes a checkpoint. The same one gives the same bytes.
pub fn write_checkpoint(path: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    write_atomic(path, |out| encode(out, checkpoint))
}

/// Writes a checkpoint to `out`.
pub fn encode(out: &mut dyn Write, checkpoint: &Checkpoint) -> io::Result<()> {
    let reals = checkpoint.reals.iter().map(|(name, x)| {
        (name, Dtype::F64, x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    });
    let counts = checkpoint
        .counts
        .iter()
        .map(|(name, x)| (name, Dtype::U64, x.iter().flat_map(|x| x.to_le_bytes()).collect()));
    let arrays: Vec<_> = reals.chain(counts).collect();
    let views = arrays.iter().map(|(name, dtype, bytes)| {
        Ok((name, TensorView::new(*dtype, vec![bytes.len() / 8], bytes)?))
    });
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    // One entry, since more would come in random order.
    let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
    let bytes = views.and_then(|views| serialize(views, Some(metadata)));
    out.write_all(&bytes.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?)
}

/// Reads a checkpoint. What its arrays hold is for the training run to check.
pub fn read_checkpoint(path: &Path) -> Result<Checkpoint, Error> {
    parse(path, &read_all(path)?)
}

/// Reads a checkpoint from the bytes of a file called `path`.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Checkpoint, Error> {
    let malformed = |error: safetensors::SafeTensorError| Error::Malformed {
        path: path.into(),
        format: "safetensors",
        problem: clip(&error.to_string(), 200),
    };
    let size = bytes.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
    if size > MAX_HEADER {
        let problem = format!("a header of {size} bytes, expected at most {MAX_HEADER}");
        return Err(Error::Malformed { path: path.into(), format: "checkpoint", problem });
    }
    let (size, header) = SafeTensors::read_metadata(bytes).map_err(malformed)?;
    if header.metadata().as_ref().and_then(|entries| entries.get("format")) != Some(&FORMAT.into())
    {
        return Err(Error::NotACheckpoint { path: path.into() });
    }
    let data = &bytes[size_of::<u64>() + size..];
    let mut checkpoint = Checkpoint::default();
    for (name, info) in header.tensors() {
        let (begin, end) = info.data_offsets;
        let words = data[begin..end].as_chunks().0.iter().copied();
        match info.dtype {
            Dtype::F64 => {
                checkpoint.reals.insert(name, words.map(f64::from_le_bytes).collect());
            }
            Dtype::U64 => {
                checkpoint.counts.insert(name, words.map(u64::from_le_bytes).collect());
            }
            other => {
                let problem = format!("dtype {other}, expected F64 or U64");
                return Err(Error::Tensor { path: path.into(), tensor: clip(&name, 40), problem });
            }
        }
    }
    Ok(checkpoint)
}
