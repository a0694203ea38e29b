//! What a training run needs to go on later.

use crate::{Error, Real, ReluEnergy, Result};
use std::collections::BTreeMap;

/// A training run between two evaluations, as named arrays for a file format of the caller's choice: the run that goes on from it
/// gives the bits of one that was never interrupted. [`Training::checkpoint`](crate::train::Training::checkpoint) makes it.
///
/// Callers may add arrays of their own; a colon in their names keeps them apart from the run's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Arrays of numbers, NaN for absent ones; those of `f32` runs lose nothing.
    pub reals: BTreeMap<String, Vec<f64>>,
    /// Arrays of whole numbers: counts and the states of random streams.
    pub counts: BTreeMap<String, Vec<u64>>,
}

impl Checkpoint {
    pub(crate) fn put_reals(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        self.reals.insert(name.to_owned(), values.into_iter().collect());
    }

    pub(crate) fn put_counts(&mut self, name: &str, values: impl IntoIterator<Item = u64>) {
        self.counts.insert(name.to_owned(), values.into_iter().collect());
    }

    pub(crate) fn put_model<T: Real>(&mut self, name: &str, model: &ReluEnergy<T>) {
        let mut put = |part, values: &[T]| {
            self.put_reals(&format!("{name}.{part}"), values.iter().map(|x| x.to_f64()));
        };
        put("w", model.w());
        put("theta", model.theta().as_slice());
        if let Some(bias) = model.bias() {
            put("bias", bias);
        }
    }

    /// Replaces the parameters of a model.
    pub(crate) fn model<T: Real>(&self, name: &str, model: &mut ReluEnergy<T>) -> Result<()> {
        let part = |part, len| self.reals::<T>(&format!("{name}.{part}"), len);
        let (w, theta) =
            (part("w", model.w().len())?, part("theta", model.theta().as_slice().len())?);
        let bias = model.bias().map(|bias| part("bias", bias.len())).transpose()?;
        model.update_parameters(|to_w, to_theta, to_bias| {
            to_w.copy_from_slice(&w);
            to_theta.copy_from_slice(&theta);
            if let (Some(to_bias), Some(bias)) = (to_bias, bias) {
                to_bias.copy_from_slice(&bias);
            }
        })
    }

    /// Numbers of this name, `len` of them, all finite.
    pub(crate) fn reals<T: Real>(&self, name: &str, len: usize) -> Result<Vec<T>> {
        let values = self.reals_of_any_kind(name, len)?;
        let finite = |value: &T| value.to_f64().is_finite();
        match values.iter().all(finite) {
            true => Ok(values),
            false => Err(Error::Checkpoint(format!("`{name}` has values that are not finite"))),
        }
    }

    /// Numbers of this name, `len` of them.
    pub(crate) fn reals_of_any_kind<T: Real>(&self, name: &str, len: usize) -> Result<Vec<T>> {
        let values = checked(self.reals.get(name), name, len)?;
        Ok(values.iter().map(|&value| T::from_f64(value)).collect())
    }

    /// Whole numbers of this name, `len` of them.
    pub(crate) fn counts(&self, name: &str, len: usize) -> Result<&[u64]> {
        checked(self.counts.get(name), name, len)
    }

    /// A count of this name that memory can hold.
    pub(crate) fn size(&self, name: &str) -> Result<usize> {
        let count = self.counts(name, 1)?[0];
        let too_large = |_| Error::Checkpoint(format!("`{name}` is {count}"));
        count.try_into().map_err(too_large)
    }
}

fn checked<'a, V>(values: Option<&'a Vec<V>>, name: &str, len: usize) -> Result<&'a [V]> {
    match values {
        None => Err(Error::Checkpoint(format!("there is no `{name}`"))),
        Some(values) if values.len() != len => {
            let found = values.len();
            Err(Error::Checkpoint(format!("`{name}` has {found} values, expected {len}")))
        }
        Some(values) => Ok(values),
    }
}
