//! Products by the BLAS library against plain loops. Only with the feature `blas`.

use gibbsite_kernels::{Real, Rows, RowsMut, blas};
use std::{env, process::Command, thread};

/// Numbers whose products and sums are exact in `f32`, the same in every run.
fn integers<T: Real>(len: usize, mut state: u64) -> Vec<T> {
    let mut next = move || {
        state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        (state >> 33) as i32 % 15 - 7
    };
    (0..len).map(|_| T::from_f64(next().into())).collect()
}

/// A matrix whose rows have NaNs between them.
fn with_gaps<T: Real>(rows: usize, cols: usize, gap: usize, seed: u64) -> Vec<T> {
    let mut data: Vec<T> = integers(rows * (cols + gap), seed);
    data.chunks_exact_mut(cols + gap).for_each(|row| row[cols..].fill(T::NAN));
    data
}

fn products_are_those_of_plain_loops<T: Real>() {
    let sizes = [1, 2, 3, 7, 8, 9, 31, 65, 192, 257];
    let mut cases = 0_usize;
    for (i, &p) in sizes.iter().enumerate() {
        for &q in &sizes {
            for k in [1, 2, 5, 16, 33, 300] {
                cases += 1;
                let gap = [0, 1, 13][cases % 3];
                let (a, b) = (with_gaps::<T>(p, k, gap, 1), with_gaps::<T>(q, k, 2 * gap, 2));
                let (a, b) = (
                    Rows::with_stride(&a, p, k, k + gap).unwrap(),
                    Rows::with_stride(&b, q, k, k + 2 * gap).unwrap(),
                );
                let start = with_gaps::<T>(p, q, gap, 3 + i as u64);
                let expected: Vec<T> = (0..start.len())
                    .map(|at| match (at / (q + gap), at % (q + gap)) {
                        (r, s) if s < q => {
                            let terms = a.row(r).iter().zip(b.row(s)).map(|(&a, &b)| a * b);
                            terms.fold(start[at], |sum, term| sum + term)
                        }
                        _ => T::NAN,
                    })
                    .collect();
                let check = |name: &str, multiply: &dyn Fn(&mut RowsMut<'_, T>)| {
                    let mut c = start.clone();
                    multiply(&mut RowsMut::with_stride(&mut c, p, q, q + gap).unwrap());
                    for (at, (&got, &want)) in c.iter().zip(&expected).enumerate() {
                        // NaNs between rows were neither read nor written.
                        let same = got == want || (got.to_f64().is_nan() && want.to_f64().is_nan());
                        assert!(same, "{name} {p}x{k} by {q}: {got} at {at}, not {want}");
                    }
                };
                let library = blas::OneThread::enter();
                check("a b'", &|c| library.add_a_bt(a, b, c));
                let transposed = |rows: Rows<'_, T>, gap: usize| -> Vec<T> {
                    let mut data = with_gaps::<T>(rows.cols(), rows.rows(), gap, 0);
                    for (r, row) in rows.iter().enumerate() {
                        row.iter().enumerate().for_each(|(s, &x)| {
                            data[s * (rows.rows() + gap) + r] = x;
                        });
                    }
                    data
                };
                let (at, bt) = (transposed(a, gap), transposed(b, 0));
                let at = Rows::with_stride(&at, k, p, p + gap).unwrap();
                let bt = Rows::new(&bt, k, q).unwrap();
                check("a' b", &|c| library.add_at_b(at, bt, c));
            }
        }
    }
}

#[test]
fn products_are_those_of_plain_loops_f32() {
    products_are_those_of_plain_loops::<f32>();
}

#[test]
fn products_are_those_of_plain_loops_f64() {
    products_are_those_of_plain_loops::<f64>();
}

#[test]
fn threads_call_the_library_at_the_same_time() {
    let (p, q, k) = (70, 90, 110);
    let (a, b) = (integers::<f64>(p * k, 1), integers(q * k, 2));
    let product = || {
        let mut c = vec![0.0; p * q];
        let (a, b) = (Rows::new(&a, p, k).unwrap(), Rows::new(&b, q, k).unwrap());
        let mut rows = RowsMut::new(&mut c, p, q).unwrap();
        blas::OneThread::enter().add_a_bt(a, b, &mut rows);
        c
    };
    let expected = product();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..300).for_each(|_| assert!(product() == expected)));
        }
    });
}

#[test]
fn empty_products_add_nothing() {
    let library = blas::OneThread::enter();
    let (none, some) = (Rows::<f64>::new(&[], 0, 3).unwrap(), [1.0; 6]);
    let some = Rows::new(&some, 2, 3).unwrap();
    library.add_a_bt(none, some, &mut RowsMut::new(&mut [], 0, 2).unwrap());
    let mut c = [5.0; 9];
    library.add_at_b(none, none, &mut RowsMut::new(&mut c, 3, 3).unwrap());
    let thin = Rows::new(&[], 3, 0).unwrap();
    library.add_a_bt(thin, thin, &mut RowsMut::new(&mut c, 3, 3).unwrap());
    assert_eq!(c, [5.0; 9]);
}

#[test]
fn shapes_are_asserted() {
    let data = [1.0; 12];
    let rows = |rows, cols| Rows::new(&data[..rows * cols], rows, cols).unwrap();
    let fails = |a: Rows<'_, f64>, b: Rows<'_, f64>, (p, q): (usize, usize), transposed: bool| {
        let mut c = vec![0.0; p * q];
        let multiply = std::panic::AssertUnwindSafe(|| {
            let (library, mut c) = (blas::OneThread::enter(), RowsMut::new(&mut c, p, q).unwrap());
            if transposed { library.add_at_b(a, b, &mut c) } else { library.add_a_bt(a, b, &mut c) }
        });
        std::panic::catch_unwind(multiply).is_err()
    };
    assert!(!fails(rows(2, 3), rows(4, 3), (2, 4), false));
    assert!(fails(rows(2, 3), rows(4, 2), (2, 4), false));
    assert!(fails(rows(2, 3), rows(4, 3), (2, 5), false));
    assert!(fails(rows(2, 3), rows(4, 3), (3, 4), false));
    assert!(!fails(rows(3, 2), rows(3, 4), (2, 4), true));
    assert!(fails(rows(3, 2), rows(2, 4), (2, 4), true));
    assert!(fails(rows(3, 2), rows(3, 4), (2, 3), true));
    assert!(fails(rows(3, 2), rows(3, 4), (3, 4), true));
}

#[test]
fn integers_of_32_bits_bound_the_shape() {
    let data = [1.0; 4];
    let with_stride = |stride| Rows::with_stride(&data, 1, 4, stride).unwrap();
    let most = i32::MAX as usize;
    assert!(blas::fits(with_stride(4)) && blas::fits(with_stride(most)));
    assert!(!blas::fits(with_stride(most + 1)) && !blas::fits(with_stride(usize::MAX)));
}

#[test]
fn the_library_tells_what_it_is() {
    assert!(["openblas", "blis", "mkl", "accelerate"].contains(&blas::LIBRARY));
    let version = blas::version().unwrap_or("accelerate".to_owned()).to_lowercase();
    let name = if blas::LIBRARY == "mkl" { "math kernel library" } else { blas::LIBRARY };
    assert!(version.contains(name), "{version}");
}

/// Set in the process of the test below.
const ALONE: &str = "GIBBSITE_TEST_ALONE";

/// In a process of its own, since the number is the process's, with libraries asked for two threads.
#[test]
fn the_library_has_its_threads_back() {
    if env::var_os(ALONE).is_some() {
        return threads_are_held_and_given_back();
    }
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_library_has_its_threads_back", "--nocapture"])
        .env(ALONE, "1")
        .envs(
            ["OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "MKL_NUM_THREADS"].map(|name| (name, "2")),
        )
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    println!("{}{}", said[0], said[1]);
    assert!(child.status.success() && said[0].contains("1 passed"));
}

fn threads_are_held_and_given_back() {
    let (threads, version) = (blas::threads(), blas::version().unwrap_or_default());
    if threads != Some(2) || version.contains("OpenMP") {
        // Accelerate does not tell, OpenBLAS takes no more than there are cores or leaves them to OpenMP, and some builds have none.
        return eprintln!("SKIPPED: {} threads are {threads:?}, asked for 2", blas::LIBRARY);
    }
    // Not in the order of a stack.
    let (first, second) = (blas::OneThread::enter(), blas::OneThread::enter());
    drop(first);
    assert_eq!(blas::threads(), Some(1));
    drop(second);
    assert_eq!(blas::threads(), Some(2));

    let outer = blas::OneThread::enter();
    assert_eq!(blas::threads(), Some(1));
    let other = thread::spawn(|| {
        let inner = blas::OneThread::enter();
        let during = blas::threads();
        drop(inner);
        (during, blas::threads())
    });
    let (during, after) = other.join().unwrap();
    assert_eq!(during, Some(1));
    // In MKL and in newer BLIS, threads have numbers of their own.
    let own = blas::LIBRARY == "mkl" || blas::LIBRARY == "blis" && !version.starts_with("BLIS 0.");
    assert_eq!(after, Some(if own { 2 } else { 1 }));
    assert_eq!(blas::threads(), Some(1));
    drop(outer);
    assert_eq!(blas::threads(), Some(2));
}
