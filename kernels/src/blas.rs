//! Matrix products by the BLAS library that is linked: [`LIBRARY`]. Only with the feature `blas`.
//!
//! The build script finds OpenBLAS, BLIS or MKL by pkg-config, in this order, or Accelerate on Apple's systems.
//! `GIBBSITE_BLAS` in the environment of the build names one of them (`openblas`, `blis`, `mkl`, `accelerate`), and
//! `GIBBSITE_BLAS_DIR` the directory that holds it if pkg-config does not know. Integers are of 32 bits; on x86-64 and
//! aarch64 a library that takes others is told by a call.
//!
//! # Threads
//!
//! Products here are tiles of a larger job whose threads are the caller's. A library that took threads of its own for
//! each would keep them all waiting, so it is held to one as long as any [`OneThread`] lives. The number of threads of MKL,
//! and of BLIS from 1.0 on, is a matter of the calling thread, and other threads see no change. Those of OpenBLAS and of older
//! BLIS are process-wide: other parts of the program that call the library at the same time get one thread too. When the
//! last [`OneThread`] ends, the library has the number back that it had before the first. A number that the program sets in
//! between is lost: it should be set before or after. BLIS's numbers for single loops (`BLIS_JC_NT` and the like)
//! take precedence over this, and Accelerate has no such setting (`VECLIB_MAXIMUM_THREADS=1` is one).
//!
//! Several threads call the library at the same time, which all these libraries allow, but for two kinds of OpenBLAS:
//!
//! | built with | |
//! |---|---|
//! | OpenMP | Its threads are OpenMP's, and a number that is set while products run frees memory that they use. So none is set, and products wait for each other, each with as many threads as OpenMP gives (`OMP_NUM_THREADS`). |
//! | no threads | Without `USE_LOCKING=1`, calls at the same time share memory. So products wait for each other unless the library tells that it has it. |
//!
//! Both are slower than the usual kind, with threads of its own (Debian: `libopenblas0-pthread`). [`version`] tells which it is.

#![allow(unsafe_code, reason = "foreign functions")]

use crate::{Real, Rows, RowsMut};
use std::{
    cell::RefCell,
    ffi::c_int,
    marker::PhantomData,
    sync::{Mutex, OnceLock, PoisonError},
};

/// The library that is linked: `"openblas"`, `"blis"`, `"mkl"` or `"accelerate"`.
pub const LIBRARY: &str = if cfg!(gibbsite_blas = "openblas") {
    "openblas"
} else if cfg!(gibbsite_blas = "blis") {
    "blis"
} else if cfg!(gibbsite_blas = "mkl") {
    "mkl"
} else {
    "accelerate"
};

/// Rows and columns as they are in memory, their order, and a factor in front: `C ← α op(A) op(B) + β C`.
#[doc(hidden)]
pub type Gemm<T> = unsafe extern "C" fn(
    order: c_int,
    trans_a: c_int,
    trans_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: T,
    a: *const T,
    lda: c_int,
    b: *const T,
    ldb: c_int,
    beta: T,
    c: *mut T,
    ldc: c_int,
);

unsafe extern "C" {
    pub(crate) fn cblas_sgemm(
        order: c_int,
        trans_a: c_int,
        trans_b: c_int,
        m: c_int,
        n: c_int,
        k: c_int,
        alpha: f32,
        a: *const f32,
        lda: c_int,
        b: *const f32,
        ldb: c_int,
        beta: f32,
        c: *mut f32,
        ldc: c_int,
    );
    pub(crate) fn cblas_dgemm(
        order: c_int,
        trans_a: c_int,
        trans_b: c_int,
        m: c_int,
        n: c_int,
        k: c_int,
        alpha: f64,
        a: *const f64,
        lda: c_int,
        b: *const f64,
        ldb: c_int,
        beta: f64,
        c: *mut f64,
        ldc: c_int,
    );
    /// Its integers are of 32 or 64 bits.
    fn cblas_dasum(n: i64, x: *const f64, incx: i64) -> f64;
}

/// `CblasRowMajor`, `CblasNoTrans`, `CblasTrans`.
const ROW_MAJOR: c_int = 101;
const NO_TRANS: c_int = 111;
const TRANS: c_int = 112;

/// What the library calls itself, with version and configuration; nothing if it does not tell.
pub fn version() -> Option<String> {
    library::version()
}

/// How many threads the library would use if it were called on this thread now; nothing if it does not tell.
pub fn threads() -> Option<usize> {
    library::threads()
}

/// Whether the library's integers can hold the shape.
pub fn fits<T>(rows: Rows<'_, T>) -> bool {
    [rows.rows(), rows.cols(), rows.stride()].iter().all(|&size| c_int::try_from(size).is_ok())
}

/// Whether the library's integers are those declared: shown by the length of a sum that is 2 in its lower half and negative as
/// a whole. Taken for granted where functions may rely on the upper half.
fn has_32_bit_integers() -> bool {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return true;
    }
    let values = [1.0, 1.0];
    // SAFETY: both architectures pass the integers in whole registers, of which a function that takes 32 bits ignores the upper
    // half: it sees 2, and reads the two values. One that takes 64 bits sees a negative length, for which BLAS
    // reads nothing and gives 0.
    unsafe { cblas_dasum(!0 << 32 | 2, values.as_ptr(), 1) == 2.0 }
}

/// Holds the library to one thread while it lives, and computes products.
#[derive(Debug)]
pub struct OneThread {
    /// The number may be a matter of the thread.
    not_send: PhantomData<*const ()>,
}

/// How many live, and the number of threads before the first of them.
struct Living {
    count: usize,
    before: library::Count,
}

impl Living {
    const NONE: Self = Self { count: 0, before: library::ONE };

    fn enter(&mut self) {
        // Every time: OpenMP below OpenBLAS has a number for each thread.
        let before = library::set_threads(library::ONE);
        if self.count == 0 {
            self.before = before;
        }
        self.count += 1;
    }

    fn leave(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            library::set_threads(self.before);
        }
    }
}

/// Those of the thread, where the number is a matter of the thread, else of the process.
fn living(change: fn(&mut Living)) {
    static OF_PROCESS: Mutex<Living> = Mutex::new(Living::NONE);
    thread_local! {
        static OF_THREAD: RefCell<Living> = const { RefCell::new(Living::NONE) };
    }
    match library::is_per_thread() {
        true => OF_THREAD.with_borrow_mut(change),
        // Nothing between lock and unlock panics.
        false => change(&mut OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner)),
    }
}

impl OneThread {
    /// From now on the library uses one thread, where it lets itself be told ([Threads](self#threads)).
    ///
    /// # Panics
    /// If the library takes integers of 64 bits.
    pub fn enter() -> Self {
        static INTEGERS: OnceLock<bool> = OnceLock::new();
        let known = *INTEGERS.get_or_init(has_32_bit_integers);
        assert!(
            known,
            "the BLAS library {LIBRARY} has 64-bit integers: link one with 32-bit integers"
        );
        living(Living::enter);
        Self { not_send: PhantomData }
    }

    /// `C ← C + A Bᵀ`: `a` is p×k, `b` is q×k, `c` is p×q.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or one of them not the library ([`fits`]).
    pub fn add_a_bt<T: Real>(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut RowsMut<'_, T>) {
        assert_eq!(a.cols(), b.cols(), "columns of a against those of b");
        assert_eq!((c.rows(), c.cols()), (a.rows(), b.rows()), "shape of c");
        gemm((NO_TRANS, a), (TRANS, b), a.cols(), c);
    }

    /// `C ← C + Aᵀ B`: `a` is k×p, `b` is k×q, `c` is p×q.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or one of them not the library ([`fits`]).
    pub fn add_at_b<T: Real>(&self, a: Rows<'_, T>, b: Rows<'_, T>, c: &mut RowsMut<'_, T>) {
        assert_eq!(a.rows(), b.rows(), "rows of a against those of b");
        assert_eq!((c.rows(), c.cols()), (a.cols(), b.cols()), "shape of c");
        gemm((TRANS, a), (NO_TRANS, b), a.rows(), c);
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        living(Living::leave);
    }
}

/// `C ← C + op(A) op(B)` with `k` terms per sum. The shapes fit each other.
fn gemm<T: Real>(
    (trans_a, a): (c_int, Rows<'_, T>),
    (trans_b, b): (c_int, Rows<'_, T>),
    k: usize,
    c: &mut RowsMut<'_, T>,
) {
    let (m, n) = (c.rows(), c.cols());
    if [m, n, k].contains(&0) {
        return;
    }
    assert!(fits(a) && fits(b) && fits(c.as_rows()), "sizes beyond the library's integers");
    static ONE_CALL: Mutex<()> = Mutex::new(());
    let _alone = (!library::takes_calls_at_once())
        .then(|| ONE_CALL.lock().unwrap_or_else(PoisonError::into_inner));
    let (c, c_stride) = c.data_mut(0);
    let int = |size: usize| size as c_int;
    // SAFETY: `Rows` and `RowsMut` guarantee that their slices hold the first value of a row each `stride` values,
    // and whole rows of `cols <= stride` of them; the callers have checked that op(A) is m×k, op(B) is k×n and C is m×n. So
    // the function reads inside a and b and writes inside c, which is borrowed mutably and so overlaps neither.
    // No size is 0, and all are below 2^31, so the conversions are exact and leading dimensions are at
    // least the rows' lengths, as CBLAS demands. `enter` has checked that its integers are those declared, where it can. The library may be called from
    // several threads, or `ONE_CALL` is held.
    unsafe {
        T::GEMM(
            ROW_MAJOR,
            trans_a,
            trans_b,
            int(m),
            int(n),
            int(k),
            T::ONE,
            a.as_slice().as_ptr(),
            int(a.stride()),
            b.as_slice().as_ptr(),
            int(b.stride()),
            T::ONE,
            c.as_mut_ptr(),
            int(c_stride),
        );
    }
}

#[cfg(gibbsite_blas = "openblas")]
mod library {
    use std::{
        ffi::{CStr, c_char, c_int},
        sync::OnceLock,
    };

    pub type Count = c_int;
    pub const ONE: Count = 1;

    /// Its kinds, as `openblas_get_parallel` has them.
    const SEQUENTIAL: c_int = 0;
    const OPENMP: c_int = 2;

    // Setting the number may run beside products of other threads, unless they are OpenMP's: for fewer threads it is the store of
    // one integer that a product reads at its start, and while anybody holds `OneThread` only the 1 that is there already is stored.
    unsafe extern "C" {
        safe fn openblas_get_parallel() -> c_int;
        safe fn openblas_get_num_threads() -> c_int;
        safe fn openblas_set_num_threads(threads: c_int);
        /// Writes the string anew in each call.
        safe fn openblas_get_config() -> *const c_char;
    }

    pub fn threads() -> Option<usize> {
        openblas_get_num_threads().try_into().ok()
    }

    pub fn is_per_thread() -> bool {
        false
    }

    pub fn takes_calls_at_once() -> bool {
        match openblas_get_parallel() {
            OPENMP => false,
            SEQUENTIAL => config().contains("USE_LOCKING"),
            _ => true,
        }
    }

    /// Gives the number before.
    pub fn set_threads(threads: Count) -> Count {
        let before = openblas_get_num_threads();
        if openblas_get_parallel() != OPENMP {
            openblas_set_num_threads(threads);
        }
        before
    }

    pub fn version() -> Option<String> {
        let kind = match (openblas_get_parallel(), takes_calls_at_once()) {
            (OPENMP, _) => ", with OpenMP: one product at a time",
            (_, false) => ", without threads or locking: one product at a time",
            _ => "",
        };
        Some(format!("{}{kind}", config()))
    }

    fn config() -> &'static str {
        static CONFIG: OnceLock<String> = OnceLock::new();
        CONFIG.get_or_init(|| {
            // SAFETY: a string in memory that the library keeps for ever, with a zero at its end; as this is done once, no
            // other call of ours writes there meanwhile.
            let config = unsafe { CStr::from_ptr(openblas_get_config()) };
            config.to_string_lossy().trim().to_owned()
        })
    }
}

#[cfg(gibbsite_blas = "blis")]
mod library {
    use std::{
        ffi::{CStr, c_char},
        sync::OnceLock,
    };

    /// BLIS's `dim_t` and `gint_t`.
    pub type Count = isize;
    pub const ONE: Count = 1;

    unsafe extern "C" {
        safe fn bli_thread_get_num_threads() -> isize;
        safe fn bli_thread_set_num_threads(threads: isize);
        safe fn bli_info_get_version_str() -> *const c_char;
    }

    pub fn threads() -> Option<usize> {
        // Below 1 if none was set, which means 1.
        bli_thread_get_num_threads().max(1).try_into().ok()
    }

    /// From version 1.0 on. AMD's BLIS, whose versions are above that, calls itself `AOCL-BLIS 4.2` and the like.
    pub fn is_per_thread() -> bool {
        static PER_THREAD: OnceLock<bool> = OnceLock::new();
        *PER_THREAD.get_or_init(|| {
            let version = version_of_blis();
            let number = version.trim_start_matches(|c: char| !c.is_ascii_digit());
            !number.starts_with("0.")
        })
    }

    pub fn takes_calls_at_once() -> bool {
        true
    }

    /// Gives the number before, below 1 if none was set.
    pub fn set_threads(threads: Count) -> Count {
        let before = bli_thread_get_num_threads();
        bli_thread_set_num_threads(threads);
        before
    }

    pub fn version() -> Option<String> {
        Some(format!("BLIS {}", version_of_blis()))
    }

    fn version_of_blis() -> String {
        // SAFETY: a string that the library keeps for ever, with a zero at its end.
        let version = unsafe { CStr::from_ptr(bli_info_get_version_str()) };
        version.to_string_lossy().trim().to_owned()
    }
}

#[cfg(gibbsite_blas = "mkl")]
mod library {
    use std::ffi::{CStr, c_char, c_int};

    pub type Count = c_int;
    pub const ONE: Count = 1;

    unsafe extern "C" {
        safe fn MKL_Get_Max_Threads() -> c_int;
        safe fn MKL_Set_Num_Threads_Local(threads: c_int) -> c_int;
        fn MKL_Get_Version_String(buffer: *mut c_char, len: c_int);
    }

    pub fn threads() -> Option<usize> {
        MKL_Get_Max_Threads().try_into().ok()
    }

    pub fn is_per_thread() -> bool {
        true
    }

    pub fn takes_calls_at_once() -> bool {
        true
    }

    /// Gives the number before, 0 if this thread had none of its own.
    pub fn set_threads(threads: Count) -> Count {
        MKL_Set_Num_Threads_Local(threads)
    }

    pub fn version() -> Option<String> {
        let mut buffer = [0; 256];
        // SAFETY: the library writes at most `len` bytes; the last is left alone as the string's end.
        unsafe { MKL_Get_Version_String(buffer.as_mut_ptr().cast(), buffer.len() as c_int - 1) };
        let version = CStr::from_bytes_until_nul(&buffer).ok()?;
        Some(version.to_string_lossy().trim().to_owned())
    }
}

#[cfg(gibbsite_blas = "accelerate")]
mod library {
    pub type Count = ();
    pub const ONE: Count = ();

    pub fn threads() -> Option<usize> {
        None
    }

    pub fn is_per_thread() -> bool {
        true
    }

    pub fn takes_calls_at_once() -> bool {
        true
    }

    pub fn set_threads((): Count) {}

    pub fn version() -> Option<String> {
        None
    }
}
