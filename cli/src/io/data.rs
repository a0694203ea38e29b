//! Numbers in memory, or in a file that is mapped into it.

use super::Element;
use filebuffer::FileBuffer;
use std::{fmt, ops::Deref, ops::DerefMut};

/// Numbers that were read; those of a file that holds them as memory does stay there, so that pages can be dropped and read
/// again. The file must not be cut short while it is in use.
pub struct Data<T>(Source<T>);

enum Source<T> {
    Held(Vec<T>),
    /// From this byte on.
    Mapped(FileBuffer, usize),
}

impl<T: Element> Data<T> {
    /// The numbers from byte `start` of the file to its end; `None` if they do not lie as in memory.
    pub(super) fn mapped(file: FileBuffer, start: usize) -> Option<Self> {
        bytemuck::try_cast_slice::<u8, T>(file.get(start..)?).ok()?;
        cfg!(target_endian = "little").then_some(Self(Source::Mapped(file, start)))
    }
}

impl<T> From<Vec<T>> for Data<T> {
    fn from(numbers: Vec<T>) -> Self {
        Self(Source::Held(numbers))
    }
}

impl<T: Element> Deref for Data<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Source::Held(numbers) => numbers,
            Source::Mapped(file, start) => bytemuck::cast_slice(&file[*start..]),
        }
    }
}

/// Copies what is mapped.
impl<T: Element> DerefMut for Data<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if let Source::Mapped(..) = self.0 {
            self.0 = Source::Held(self.to_vec());
        }
        match &mut self.0 {
            Source::Held(numbers) => numbers,
            Source::Mapped(..) => unreachable!("copied above"),
        }
    }
}

impl<T: Element> Clone for Data<T> {
    fn clone(&self) -> Self {
        self.to_vec().into()
    }
}

impl<T: Element> fmt::Debug for Data<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Element> PartialEq for Data<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Element, const N: usize> PartialEq<[T; N]> for Data<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        **self == *other
    }
}
