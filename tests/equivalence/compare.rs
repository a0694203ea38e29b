//! Runs a kernel and its reference on one case and compares them bit by bit.

use super::{
    cases::{Case, Class, Place, Signal, offsets},
    guard::{self, Pages},
    support::{Float, Rng, levels},
};
use gibbsite_kernels::{
    Isa, Scratch,
    registry::{Array, Call, Entry, Shape},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData, ops::Range, sync::Mutex};

/// A kernel call, as failures name it.
#[derive(Clone, Copy)]
pub struct Running {
    kernel: &'static str,
    dtype: &'static str,
    /// `None` for the reference.
    isa: Option<Isa>,
    case: Case,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, dtype, isa, case } = self;
        match isa {
            Some(isa) => write!(f, "{kernel} {dtype} on {isa}, {case}"),
            None => write!(f, "the reference of {kernel} {dtype}, {case}"),
        }
    }
}

/// Cases and mismatches of one kernel, element type and level.
#[derive(Clone, Copy, Default)]
pub struct Count {
    pub cases: usize,
    pub mismatches: usize,
}

/// What has run: `(kernel, dtype, level)`.
pub static TALLY: Mutex<BTreeMap<(&str, &str, Isa), Count>> = Mutex::new(BTreeMap::new());

/// An array between pages that fault, with canaries around it.
struct Slot<T> {
    pages: Pages,
    range: Range<usize>,
    elements: PhantomData<T>,
}

impl<T: Float> Slot<T> {
    fn new() -> Self {
        Self { pages: Pages::new(1), range: 0..0, elements: PhantomData }
    }

    fn all(&self) -> &[T] {
        bytemuck::cast_slice(self.pages.bytes())
    }

    fn all_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.pages.bytes_mut())
    }

    /// Makes the array one of `len` at `place`; its contents are arbitrary.
    fn place(&mut self, len: usize, place: Place) {
        let rim = offsets::<T>();
        if self.all().len() < len + rim {
            self.pages = Pages::new((len + rim) * size_of::<T>());
        }
        let total = self.all().len();
        self.range = match place {
            Place::Left(offset) => offset..offset + len,
            Place::Right(offset) => total - offset - len..total - offset,
        };
        for range in self.rims() {
            self.all_mut()[range].fill(T::canary());
        }
    }

    /// A cache line's worth before and after, as far as the pages reach.
    fn rims(&self) -> [Range<usize>; 2] {
        let rim = offsets::<T>();
        let Range { start, end } = self.range;
        [start.saturating_sub(rim)..start, end..(end + rim).min(self.all().len())]
    }

    fn rims_intact(&self) -> bool {
        let canary = T::canary().bits();
        let mut rims = self.rims().into_iter();
        rims.all(|range| self.all()[range].iter().all(|value| value.bits() == canary))
    }

    fn get(&self) -> &[T] {
        &self.all()[self.range.clone()]
    }

    fn get_mut(&mut self) -> &mut [T] {
        let range = self.range.clone();
        &mut self.all_mut()[range]
    }
}

/// Arrays for the calls of one kernel, reused from case to case.
pub struct Rig<T> {
    entry: Entry<T>,
    inputs: Vec<Slot<T>>,
    outputs: Vec<Slot<T>>,
    /// What the reference gives, gaps between rows included.
    expected: Vec<Vec<T>>,
    scratch: Scratch,
}

impl<T: Float> Rig<T> {
    pub fn new(entry: Entry<T>) -> Self {
        Self {
            entry,
            inputs: Vec::new(),
            outputs: Vec::new(),
            expected: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    pub fn entry(&self) -> &Entry<T> {
        &self.entry
    }

    pub fn inputs(&self) -> Vec<&[T]> {
        self.inputs.iter().map(Slot::get).collect()
    }

    pub fn expected(&self) -> &[Vec<T>] {
        &self.expected
    }

    /// Compares all levels with the reference, then whatever `and` compares. Goes on after a
    /// mismatch, so that the table shows how many there are, but not for ever.
    pub fn check_all(
        &mut self,
        cases: Vec<Case>,
        and: impl Fn(&Self, &Case) -> Result<(), String>,
    ) -> Result<(), String> {
        let levels = levels();
        let (mut failed, mut first) = (0, None);
        for (done, case) in cases.iter().enumerate() {
            if failed == 20 {
                eprintln!("{}: gave up after {done} of {} cases", self.entry.name, cases.len());
                break;
            }
            let mut result = self.prepare(case);
            if result.is_ok() {
                for &isa in &levels {
                    let outcome = self.compare(isa, case);
                    let mut tally = TALLY.lock().unwrap_or_else(|error| error.into_inner());
                    let count = tally.entry((self.entry.name, T::NAME, isa)).or_default();
                    count.cases += 1;
                    count.mismatches += usize::from(outcome.is_err());
                    result = result.and(outcome);
                }
                result = result.and_then(|()| and(self, case));
            }
            if let Err(message) = result {
                failed += 1;
                if first.is_none() {
                    first = Some(self.shrink(*case, message, &levels, &and));
                }
            }
        }
        match first {
            Some(message) => {
                Err(format!("{failed} cases failed; the first, made small:\n{message}"))
            }
            None => Ok(()),
        }
    }

    /// Looks for a smaller case that fails as well.
    fn shrink(
        &mut self,
        mut case: Case,
        mut message: String,
        levels: &[Isa],
        and: impl Fn(&Self, &Case) -> Result<(), String>,
    ) -> String {
        let mut attempt = |case: &Case| {
            self.prepare(case)?;
            levels.iter().try_for_each(|&isa| self.compare(isa, case))?;
            and(self, case)
        };
        while let Some((smaller, error)) =
            case.smaller().find_map(|case| attempt(&case).err().map(|error| (case, error)))
        {
            (case, message) = (smaller, error);
        }
        message
    }

    /// Makes the inputs and lets the reference compute the expected outputs.
    fn prepare(&mut self, case: &Case) -> Result<(), String> {
        let Case { shape, class, place, seed } = *case;
        let mut rng = Rng::new(seed);
        let arrays = (self.entry.inputs)(shape);
        self.inputs.resize_with(arrays.len(), Slot::new);
        for (k, (array, slot)) in arrays.iter().zip(&mut self.inputs).enumerate() {
            slot.place(array.len(), place.of_array::<T>(k));
            class.fill(&mut rng, k, array, slot.get_mut());
        }

        let arrays = (self.entry.outputs)(shape);
        self.outputs.resize_with(arrays.len(), Slot::new);
        self.expected.resize_with(arrays.len(), Vec::new);
        for (array, out) in arrays.iter().zip(&mut self.expected) {
            out.clear();
            out.resize(array.len(), T::poison());
        }
        let inputs: Vec<_> = self.inputs.iter().map(Slot::get).collect();
        let mut outputs: Vec<_> = self.expected.iter_mut().map(Vec::as_mut_slice).collect();
        let call = Call { shape, inputs: &inputs, outputs: &mut outputs };
        let running = Running { kernel: self.entry.name, dtype: T::NAME, isa: None, case: *case };
        guard::call(running, || (self.entry.reference)(call))?;
        for (array, out) in arrays.iter().zip(&self.expected) {
            for (at, &value) in out.iter().enumerate() {
                if (value.bits() == T::poison().bits()) == in_row(array, at) {
                    let what = position(array, at);
                    return Err(format!("{running}:\n  wrote {value:?} to {what}, or nothing"));
                }
            }
        }
        Ok(())
    }

    /// Runs the kernel on one level and compares it with what [`Self::prepare`] found.
    fn compare(&mut self, isa: Isa, case: &Case) -> Result<(), String> {
        let Case { shape, place, .. } = *case;
        let arrays = (self.entry.outputs)(shape);
        for (k, (array, slot)) in arrays.iter().zip(&mut self.outputs).enumerate() {
            slot.place(array.len(), place.of_array::<T>(self.inputs.len() + k));
            slot.get_mut().fill(T::poison());
        }
        let inputs: Vec<_> = self.inputs.iter().map(Slot::get).collect();
        let mut outputs: Vec<_> = self.outputs.iter_mut().map(Slot::get_mut).collect();
        let call = Call { shape, inputs: &inputs, outputs: &mut outputs };
        let running =
            Running { kernel: self.entry.name, dtype: T::NAME, isa: Some(isa), case: *case };
        guard::call(running, || (self.entry.run)(isa, call, &mut self.scratch))?;

        for ((array, slot), expected) in arrays.iter().zip(&self.outputs).zip(&self.expected) {
            if !slot.rims_intact() {
                return Err(format!("{running}:\n  wrote around {}", array.name));
            }
            for (at, (&got, &want)) in slot.get().iter().zip(expected).enumerate() {
                let written = got.bits() != T::poison().bits();
                let what = || position(array, at);
                let wrong = match (in_row(array, at), written) {
                    (false, false) => continue,
                    (true, true) if same(got, want) => continue,
                    (true, true) => {
                        let (got_bits, want_bits) = (got.bits(), want.bits());
                        let reference = format!("the reference gives {want:?} ({want_bits:#x})");
                        format!("{} = {got:?} ({got_bits:#x}), {reference}", what())
                    }
                    (true, false) => format!("did not write {}", what()),
                    (false, true) => format!("wrote {got:?} to {}, between rows", what()),
                };
                return Err(format!("{running}:\n  {wrong}"));
            }
        }
        Ok(())
    }
}

/// Whether the `at`-th value of an array lies inside a row.
fn in_row(array: &Array, at: usize) -> bool {
    at % array.stride < array.cols
}

fn position(array: &Array, at: usize) -> String {
    format!("{}[{}, {}]", array.name, at / array.stride, at % array.stride)
}

/// The same bits, or both NaN.
pub fn same<T: Float>(a: T, b: T) -> bool {
    a.canonical() == b.canonical()
}

pub fn is_nan<T: Float>(value: T) -> bool {
    value.to_f64().is_nan()
}

/// Outputs of a kernel for inputs in ordinary memory.
pub fn evaluate<T: Float>(
    entry: &Entry<T>,
    isa: Isa,
    shape: Shape,
    inputs: &[Vec<T>],
) -> Vec<Vec<T>> {
    let arrays = (entry.outputs)(shape);
    let mut results: Vec<_> = arrays.iter().map(|array| vec![T::poison(); array.len()]).collect();
    let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<_> = results.iter_mut().map(Vec::as_mut_slice).collect();
    let call = Call { shape, inputs: &inputs, outputs: &mut outputs };
    (entry.run)(isa, call, &mut Scratch::default());
    results
}

/// Inputs in ordinary memory.
pub fn random_inputs<T: Float>(
    entry: &Entry<T>,
    shape: Shape,
    class: Class,
    rng: &mut Rng,
) -> Vec<Vec<T>> {
    let arrays = (entry.inputs)(shape);
    let fill = |(k, array): (usize, &Array)| {
        let mut data = vec![T::canary(); array.len()];
        class.fill(rng, k, array, &mut data);
        data
    };
    arrays.iter().enumerate().map(fill).collect()
}
