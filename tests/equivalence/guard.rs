//! Memory between pages that fault: an access outside of it ends the process, after a line that
//! says which case was running.

use super::compare::Running;
use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
};

thread_local! {
    /// The kernel call that this thread is in, for the report of a fault.
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
    /// Message and place of the last panic inside a call.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Calls `f`; a panic becomes an error, and a fault is reported as one of `running`.
pub fn call(running: Running, f: impl FnOnce()) -> Result<(), String> {
    RUNNING.set(Some(running));
    let result = catch_unwind(AssertUnwindSafe(f));
    RUNNING.set(None);
    result.map_err(|_| format!("{running}:\n  {}", PANIC.take()))
}

/// From now on faults and panics inside of [`call`] are reported with what was running.
pub fn install() {
    report_faults();
    let default = take_hook();
    set_hook(Box::new(move |info| match RUNNING.get() {
        Some(_) => PANIC.set(info.to_string()),
        None => default(info),
    }));
}

#[cfg(unix)]
pub use unix::Pages;
#[cfg(unix)]
use unix::report_faults;

#[cfg(unix)]
mod unix {
    use super::RUNNING;
    use std::io::Write;

    /// Readable and writable bytes with an inaccessible page in front and one behind.
    pub struct Pages {
        start: *mut u8,
        len: usize,
        page: usize,
    }

    impl Pages {
        /// At least `len` bytes, zeroed.
        pub fn new(len: usize) -> Self {
            // SAFETY: sysconf has no preconditions.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let page = usize::try_from(page).expect("a page size");
            let len = len.next_multiple_of(page);
            // SAFETY: a new anonymous mapping at an address of the kernel's choice.
            let base = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len + 2 * page,
                    libc::PROT_NONE,
                    libc::MAP_PRIVATE | libc::MAP_ANON,
                    -1,
                    0,
                )
            };
            assert_ne!(base, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
            let start = base.cast::<u8>().wrapping_add(page);
            // SAFETY: `len` bytes from the mapping's second page on; the last page is left out.
            let status =
                unsafe { libc::mprotect(start.cast(), len, libc::PROT_READ | libc::PROT_WRITE) };
            assert_eq!(status, 0, "mprotect: {}", std::io::Error::last_os_error());
            Self { start, len, page }
        }

        /// Everything up to the inaccessible page.
        pub fn bytes(&self) -> &[u8] {
            // SAFETY: `new` made these bytes accessible and zeroed, and `self` owns them.
            unsafe { std::slice::from_raw_parts(self.start, self.len) }
        }

        /// Everything up to the inaccessible page.
        pub fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
            unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            let base = self.start.wrapping_sub(self.page);
            // SAFETY: exactly the mapping made by `new`, and nothing borrows from it any more.
            unsafe { libc::munmap(base.cast(), self.len + 2 * self.page) };
        }
    }

    /// From now on a fault names the case that was running before it ends the process.
    pub fn report_faults() {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: an all-zero sigaction is valid, and the handler has the signature that a
            // handler without SA_SIGINFO must have.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_fault as *const () as usize;
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }

    extern "C" fn on_fault(signal: libc::c_int) {
        // The fault comes from the interrupted call itself, never out of an allocation or a
        // lock, but nothing here allocates or locks all the same.
        let mut buffer = [0_u8; 1024];
        let mut rest = &mut buffer[..];
        let _ = match RUNNING.get() {
            Some(running) => writeln!(rest, "memory fault in {running}"),
            None => writeln!(rest, "memory fault outside of any kernel call"),
        };
        let len = 1024 - rest.len();
        // SAFETY: `buffer` holds `len` bytes, and ending the process by the default action of
        // the signal that is being handled is always allowed.
        unsafe {
            libc::write(libc::STDERR_FILENO, buffer.as_ptr().cast(), len);
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}

#[cfg(not(unix))]
pub use elsewhere::Pages;
#[cfg(not(unix))]
use elsewhere::report_faults;

/// Without inaccessible pages, only the rims around the arrays show an access beyond the end.
#[cfg(not(unix))]
mod elsewhere {
    /// What starts on a boundary of every register width.
    #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C, align(64))]
    struct Line([u8; 64]);

    /// Readable and writable bytes.
    pub struct Pages(Vec<Line>);

    impl Pages {
        /// At least `len` bytes, zeroed.
        pub fn new(len: usize) -> Self {
            Self(vec![Line([0; 64]); len.div_ceil(64)])
        }

        /// All of them.
        pub fn bytes(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }

        /// All of them.
        pub fn bytes_mut(&mut self) -> &mut [u8] {
            bytemuck::cast_slice_mut(&mut self.0)
        }
    }

    /// Nothing to report.
    pub fn report_faults() {}
}
