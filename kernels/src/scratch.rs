//! Working memory for kernels.

use bytemuck::{Pod, Zeroable};

/// A cache line, which is also the widest register: buffers made of it start aligned for both.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Working memory of kernel calls.
///
/// Grows on demand and is kept, so a caller that passes the same value again pays for the
/// allocation once. The contents carry no meaning from one call to the next.
#[derive(Clone, Default)]
pub struct Scratch(AlignedBuf);

impl Scratch {
    /// Disjoint buffers of the given lengths, each starting on a cache line, contents arbitrary.
    #[inline]
    pub(crate) fn buffers<V: Pod, const N: usize>(&mut self, lens: [usize; N]) -> [&mut [V]; N] {
        let lines = lens.map(lines_for::<V>);
        self.0.reserve_lines(lines.iter().sum());
        let mut rest = &mut self.0.lines[..];
        std::array::from_fn(|i| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(lines[i]);
            rest = tail;
            // By way of bytes: a line need not hold a whole number of values.
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(head);
            bytemuck::cast_slice_mut(&mut bytes[..lens[i] * size_of::<V>()])
        })
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scratch({} bytes)", self.0.lines.len() * size_of::<Line>())
    }
}

/// A growable buffer that starts on a cache line.
#[derive(Clone, Default)]
pub(crate) struct AlignedBuf {
    lines: Vec<Line>,
}

impl AlignedBuf {
    fn reserve_lines(&mut self, lines: usize) {
        if self.lines.len() < lines {
            // The old contents carry no meaning; fresh pages are zero without being written.
            self.lines = Vec::new();
            self.lines = bytemuck::zeroed_vec(lines);
        }
    }

    /// Makes room for `len` values; the contents are arbitrary.
    pub(crate) fn reserve<V: Pod>(&mut self, len: usize) {
        self.reserve_lines(lines_for::<V>(len));
    }

    #[inline]
    pub(crate) fn as_slice<V: Pod>(&self) -> &[V] {
        bytemuck::cast_slice(&self.lines)
    }

    #[inline]
    pub(crate) fn as_mut_slice<V: Pod>(&mut self) -> &mut [V] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

/// Whether a buffer of `len` values is one that there could be memory for.
pub(crate) fn addressable<V>(len: usize) -> bool {
    let bytes = len
        .checked_mul(size_of::<V>())
        .and_then(|bytes| bytes.checked_next_multiple_of(size_of::<Line>()));
    bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok())
}

fn lines_for<V>(len: usize) -> usize {
    assert!(addressable::<V>(len), "buffer larger than the address space");
    (len * size_of::<V>()).div_ceil(size_of::<Line>())
}
