//! The only user of rayon. Work is cut into items beforehand, in a way that never changes results;
//! threads only decide who computes which item.

use gibbsite_kernels::Scratch;
use std::cell::RefCell;

thread_local! {
    /// Each thread keeps its kernels' working memory, so calls after the first allocate none.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Number of threads that [`for_each`] may use: that of the caller's rayon pool.
pub(crate) fn threads() -> usize {
    cfg_if::cfg_if! {
        if #[cfg(feature = "rayon")] {
            rayon::current_num_threads()
        } else {
            1
        }
    }
}

/// Calls `f` on every item. `f` must run kernels only, never code of the library's users: it holds
/// the thread's scratch memory.
pub(crate) fn for_each<I: Send>(items: Vec<I>, f: impl Fn(I, &mut Scratch) + Send + Sync) {
    let run = |item| SCRATCH.with_borrow_mut(|scratch| f(item, scratch));
    #[cfg(feature = "rayon")]
    if items.len() > 1 && threads() > 1 {
        use rayon::prelude::*;
        return items.into_par_iter().with_max_len(1).for_each(run);
    }
    items.into_iter().for_each(run);
}

/// How many rows an item should hold so that `rows` rows spread evenly over the threads without
/// falling below `least` rows an item. A multiple of `multiple`.
pub(crate) fn rows_per_item(rows: usize, least: usize, multiple: usize) -> usize {
    const ITEMS_PER_THREAD: usize = 4;
    let items = match threads() {
        1 => 1,
        threads => threads * ITEMS_PER_THREAD,
    };
    rows.div_ceil(items).max(least).max(1).next_multiple_of(multiple)
}
