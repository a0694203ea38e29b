//! What streams give: the words of the published generator, whatever the level, the lane and the
//! way of asking.

use crate::{
    parallel::{Merge, next_pair, parallel},
    support::{Float, Rng, by_effort, levels},
};
use gibbsite_kernels::{
    Isa, Real, RowsMut,
    noise::{self, STREAMS, Streams, reference},
};
use rand_core::{Rng as _, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The published generator.
fn published(seed: u64, stream: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(reference::key(seed, stream))
}

/// `steps` words of `count` streams, in the order of [`noise::words`].
fn published_words(seed: u64, first: u64, count: usize, steps: usize) -> Vec<u64> {
    let mut words = vec![0; steps * count];
    for c in 0..count {
        let mut stream = published(seed, first.wrapping_add(c as u64));
        for words in words.chunks_exact_mut(count) {
            words[c] = stream.next_u64();
        }
    }
    words
}

/// `cols` normals of `count` streams, a row for each.
fn published_normals<T: Float>(seed: u64, first: u64, count: usize, cols: usize) -> Vec<Vec<T>> {
    let row = |c| {
        let mut stream = published(seed, first.wrapping_add(c as u64));
        let mut row = Vec::new();
        while row.len() < cols {
            row.extend::<[T; 2]>(next_pair(|| stream.next_u64()));
        }
        row.truncate(cols);
        row
    };
    (0..count).map(row).collect()
}

fn normals<T: Real>(isa: Isa, streams: &mut [Streams<T>], rows: usize, cols: usize) -> Vec<Vec<T>> {
    let mut out = vec![T::ZERO; rows * cols];
    noise::normals(isa, streams, RowsMut::new(&mut out, rows, cols).expect("a matrix"));
    (0..rows).map(|c| out[c * cols..][..cols].to_vec()).collect()
}

fn bits<T: Float>(values: &[T]) -> Vec<u64> {
    values.iter().map(|value| value.bits()).collect()
}

fn words_of<T: Real>() {
    // Not all of them fill the last group of streams, or the lanes of any level.
    const COUNTS: [usize; 12] = [1, 2, 3, 5, 8, 15, 16, 17, 31, 48, 61, 100];
    let total: usize = by_effort(1 << 16, 1 << 24, 1 << 28);
    for (k, count) in COUNTS.into_iter().enumerate() {
        let (seed, first) = (k as u64, [0, 7, u64::MAX - 40][k % 3]);
        let expected = published_words(seed, first, count, total.div_ceil(COUNTS.len() * count));
        for isa in levels() {
            let mut words = vec![0; expected.len()];
            noise::words(isa, &mut Streams::<T>::range(seed, first, count), count, &mut words);
            let wrong = words.iter().zip(&expected).position(|(word, expected)| word != expected);
            assert_eq!(wrong, None, "{} {isa}: first wrong word of {count} streams", T::NAME);
        }
    }
    println!("{}: {total} words as published, on {:?}", T::NAME, levels());
}

#[test]
fn words_are_those_of_the_published_generator() {
    words_of::<f32>();
    words_of::<f64>();
}

impl Merge for () {
    fn merge(&mut self, (): ()) {}
}

/// Steps or columns are asked for in any portions, across the chunks that kernels work in.
fn splits_of<T: Float>() {
    const COUNT: usize = 40;
    const STEPS: usize = 330;
    let (seed, first) = (5, 11);
    let words = published_words(seed, first, COUNT, STEPS + 1);
    let rows = published_normals::<T>(seed, first, COUNT, STEPS);
    let rows: Vec<_> = rows.iter().map(|row| bits(row)).collect();
    let trials = by_effort(30, 10_000, 1_000_000);
    parallel(trials, |(), trial| {
        let mut rng = Rng::new(trial << 20);
        let levels = levels();
        let isa = levels[rng.below(levels.len())];
        let count = 1 + rng.below(COUNT);
        let longest = [3, 30, 70, 200][rng.below(4)];

        let mut streams = Streams::<T>::range(seed, first, count);
        let mut done = 0;
        while done < STEPS {
            let steps = rng.below(longest).min(STEPS - done);
            let mut out = vec![0; steps * count];
            noise::words(isa, &mut streams, count, &mut out);
            for (k, out) in out.chunks_exact(count).enumerate() {
                let expected = &words[(done + k) * COUNT..][..count];
                assert_eq!(out, expected, "{isa}, step {} of trial {trial}", done + k);
            }
            done += steps;
        }

        let mut streams = Streams::<T>::range(seed, first, count);
        let mut done = 0;
        while done < STEPS {
            let mut cols = rng.below(longest).min(STEPS - done);
            if done + cols < STEPS {
                // The second of a pair is dropped at the end of a row.
                cols -= cols % 2;
            }
            for (c, row) in normals(isa, &mut streams, count, cols).iter().enumerate() {
                let expected = &rows[c][done..][..cols];
                assert_eq!(bits(row), expected, "{isa}, row {c} from {done} on, trial {trial}");
            }
            done += cols;
        }
        let used = STEPS.div_ceil(2) * T::WIDTH as usize / 32;
        let mut out = vec![0; count];
        noise::words(isa, &mut streams, count, &mut out);
        let expected = &words[used * COUNT..][..count];
        assert_eq!(out, expected, "{isa}, words after normals, trial {trial}");
    });
    println!("{}: {trials} splits", T::NAME);
}

#[test]
fn splits_do_not_matter() {
    splits_of::<f32>();
    splits_of::<f64>();
}

#[test]
fn words_are_asked_for_in_whole_steps() {
    let words = |count, len| {
        let mut out = vec![7; len];
        noise::words(Isa::best(), &mut Streams::<f64>::range(1, 0, 5), count, &mut out);
        out
    };
    let refused = |count, len| std::panic::catch_unwind(|| words(count, len)).is_err();
    assert!(refused(5, 4) && refused(5, 11) && refused(17, 17));
    // No stream can have filled any.
    assert!(refused(0, 1) && words(0, 0).is_empty());
}

/// Rows of a batch are those of their streams alone, and of the reference.
fn rows_of<T: Float>() {
    for (rows, cols) in [(1, 1), (3, 2), (16, 64), (17, 63), (33, 129), (50, 1000)] {
        for (seed, first) in [(0, 0), (1, 16), (u64::MAX, u64::MAX - 20)] {
            let expected = published_normals::<T>(seed, first, rows, cols);
            for isa in levels() {
                let batch = normals(isa, &mut Streams::<T>::range(seed, first, rows), rows, cols);
                for c in 0..rows {
                    let number = first.wrapping_add(c as u64);
                    let mut alone = [Streams::<T>::new(seed, number)];
                    let alone = normals(isa, &mut alone, 1, cols);
                    let what = format!("{} {isa}: row {c} of {rows} x {cols}", T::NAME);
                    assert_eq!(bits(&batch[c]), bits(&alone[0]), "{what}, alone");
                    assert_eq!(bits(&batch[c]), bits(&expected[c]), "{what}, pair by pair");
                    let mut state = reference::start(seed, number);
                    let mut row = vec![T::ZERO; cols];
                    reference::normals(|| reference::next(&mut state), &mut row);
                    assert_eq!(bits(&batch[c]), bits(&row), "{what}, by reference");
                }
            }
        }
    }
}

#[test]
fn rows_do_not_depend_on_the_batch() {
    rows_of::<f32>();
    rows_of::<f64>();
}

/// The states that a group starts in are those of its streams.
fn starts_of<T: Real>() {
    for (seed, first) in [(0, 0), (3, 5), (u64::MAX, u64::MAX - 3)] {
        let streams = Streams::<T>::new(seed, first);
        for i in 0..STREAMS {
            let number = first.wrapping_add(i as u64);
            assert_eq!(streams.state(i), reference::start(seed, number), "stream {i} from {first}");
        }
    }
}

#[test]
fn groups_start_as_their_streams() {
    starts_of::<f32>();
    starts_of::<f64>();
}

/// Neighbouring pairs of seed and number have streams of their own, also with the two exchanged.
#[test]
fn streams_are_distinct() {
    let side = by_effort(100, 1000, 4000);
    // Around zero, where both wrap.
    let near_zero = |i: u64| i.wrapping_sub(side / 2);
    let pairs = || (0..side).flat_map(|i| (0..side).map(move |j| (near_zero(i), near_zero(j))));
    let firsts = pairs().map(|(seed, stream)| reference::next(&mut reference::start(seed, stream)));
    let mut words: Vec<_> = firsts.collect();
    words.sort_unstable();
    words.dedup();
    println!("{} distinct first words of {} streams", words.len(), side * side);
    assert_eq!(words.len() as u64, side * side);
}
