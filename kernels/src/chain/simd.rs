//! [`reference`](super::reference) in lanes, one chain in each.
//!
//! Chains are taken in sub-tiles of `R` registers, `[coordinate][R]`, as in the kernels of the energy; all
//! operations on a chain stay in its lane.

use super::{Chains, Moving, ReluTarget, Rule, Space};
use crate::{
    Isa, Real, Rows, RowsMut, Scratch,
    elementary::simd::sin_cos_pi,
    lanes::{Kernel, Lanes, Levels},
    noise::{
        Streams,
        simd::{States, ln_uniform},
    },
    relu, transpose,
};

/// What is to be done with chains.
pub enum Move<'a, 'b, T> {
    Relu(ReluSteps<'a, T>),
    Advance {
        rule: Rule<T>,
        space: Space,
        scale: &'a [T],
        drift: usize,
        chains: &'a mut Moving<'b, T>,
        scratch: &'a mut Scratch,
    },
    Settle {
        rule: Rule<T>,
        scale: &'a [T],
        ln_uniform: &'a mut [T],
        chains: &'a mut Moving<'b, T>,
        scratch: &'a mut Scratch,
    },
    Finish {
        target: ReluTarget<'a, T>,
        x: Rows<'a, T>,
        potential: Option<&'a mut [T]>,
        score: Option<RowsMut<'a, T>>,
        scratch: &'a mut Scratch,
    },
}

/// The family's entry point for one element type.
pub trait Dispatch: Sized {
    fn chain(isa: Isa, work: Move<'_, '_, Self>);
}

macro_rules! dispatch {
    ($($t:ty)*) => {$(
        impl Dispatch for $t {
            fn chain(isa: Isa, work: Move<'_, '_, Self>) {
                <Self as Levels>::dispatch(isa, work);
            }
        }
    )*};
}
dispatch!(f32 f64);

impl<T: Real> Kernel<T> for Move<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<T>>(self, simd: L) {
        match self {
            Move::Relu(run) => {
                // As many registers per sub-tile as the kernels of the energy.
                match L::REGISTERS {
                    32.. => run.chains::<L, 3, 8, 8>(simd),
                    16.. => run.chains::<L, 2, 6, 6>(simd),
                    _ => run.chains::<L, 1, 4, 4>(simd),
                }
            }
            Move::Advance { rule, space, scale, drift, chains, scratch } => {
                advance(simd, rule, space, scale, drift, chains, scratch);
            }
            Move::Settle { rule, scale, ln_uniform, chains, scratch } => {
                settle(simd, rule, scale, ln_uniform, chains, scratch);
            }
            Move::Finish { target, x, potential, score, scratch } => {
                finish(simd, target, x, potential, score, scratch);
            }
        }
    }
}

/// Half of a number, in every lane of a product.
#[inline(always)]
fn half<T: Real>() -> T {
    T::from_f64(0.5)
}

// Operations on one sub-tile, `[coordinate][R]`, named as in the reference.

/// The streams of `R` blocks.
#[inline(always)]
fn load<L: Lanes<T>, T: Real, const R: usize>(
    streams: &[Streams<T>],
    block: usize,
) -> [States<L, T>; R] {
    let mut states = [States::load(streams, block); R];
    for r in 1..R {
        states[r] = States::load(streams, block + r);
    }
    states
}

#[inline(always)]
fn store<L: Lanes<T>, T: Real, const R: usize>(
    states: [States<L, T>; R],
    streams: &mut [Streams<T>],
    block: usize,
) {
    for r in 0..R {
        states[r].store(streams, block + r);
    }
}

#[inline(always)]
fn dot<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    a: &[[L::Vector; R]],
    b: &[[L::Vector; R]],
    mut sum: [L::Vector; R],
) -> [L::Vector; R] {
    for (a, b) in a.iter().zip(b) {
        for r in 0..R {
            sum[r] = simd.mul_add(a[r], b[r], sum[r]);
        }
    }
    sum
}

/// `½ · sum`.
#[inline(always)]
fn halved<L: Lanes<T>, T: Real, const R: usize>(simd: L, sum: [L::Vector; R]) -> [L::Vector; R] {
    let mut out = sum;
    for r in 0..R {
        out[r] = simd.mul(simd.splat(half()), sum[r]);
    }
    out
}

/// `a ← a + factor b`, a factor per chain.
#[inline(always)]
fn add_multiple<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    a: &mut [[L::Vector; R]],
    b: &[[L::Vector; R]],
    factor: [L::Vector; R],
) {
    for (a, b) in a.iter_mut().zip(b) {
        for r in 0..R {
            a[r] = simd.mul_add(factor[r], b[r], a[r]);
        }
    }
}

#[inline(always)]
fn project<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    v: &mut [[L::Vector; R]],
    x: &[[L::Vector; R]],
) {
    let zero = simd.splat(T::ZERO);
    let mut normal = dot(simd, v, x, [zero; R]);
    for r in 0..R {
        normal[r] = simd.mul(simd.splat(-T::ONE), normal[r]);
    }
    add_multiple(simd, v, x, normal);
}

/// `v ← noise ξ`.
#[inline(always)]
fn normals<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    states: &mut [States<L, T>; R],
    noise: T,
    v: &mut [[L::Vector; R]],
) {
    let noise = simd.splat(noise);
    for v in v.chunks_mut(2) {
        for r in 0..R {
            let pair = states[r].pair(simd);
            for (v, &normal) in v.iter_mut().zip(&pair) {
                v[r] = simd.mul(noise, normal);
            }
        }
    }
}

#[inline(always)]
fn kick<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    v: &mut [[L::Vector; R]],
    score: &[[L::Vector; R]],
    time: T,
    scale: &[T],
) {
    for ((v, score), &scale) in v.iter_mut().zip(score).zip(scale) {
        let factor = simd.splat(time * scale);
        for r in 0..R {
            v[r] = simd.mul_add(factor, score[r], v[r]);
        }
    }
}

#[inline(always)]
fn drift<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    space: Space,
    x: &mut [[L::Vector; R]],
    v: &mut [[L::Vector; R]],
    time: T,
    scale: &[T],
) {
    if space == Space::Flat {
        return kick(simd, x, v, time, scale);
    }
    let zero = simd.splat(T::ZERO);
    let speed_squared = dot(simd, v, v, [zero; R]);
    let (mut cosine, mut along, mut back) = ([zero; R], [zero; R], [zero; R]);
    for r in 0..R {
        let speed = simd.sqrt(speed_squared[r]);
        let half_turns = simd.mul(simd.splat(time), speed);
        let half_turns = simd.mul(half_turns, simd.splat(T::from_f64(std::f64::consts::FRAC_1_PI)));
        let (sin, cos) = sin_cos_pi(simd, half_turns);
        cosine[r] = cos;
        along[r] = simd.select_less(zero, speed, simd.div(sin, speed), zero);
        back[r] = simd.mul(simd.splat(-T::ONE), simd.mul(speed, sin));
    }
    let mut norm_squared = [zero; R];
    for (x, v) in x.iter_mut().zip(v) {
        for r in 0..R {
            let (old_x, old_v) = (x[r], v[r]);
            x[r] = simd.mul_add(along[r], old_v, simd.mul(cosine[r], old_x));
            v[r] = simd.mul_add(back[r], old_x, simd.mul(cosine[r], old_v));
            norm_squared[r] = simd.mul_add(x[r], x[r], norm_squared[r]);
        }
    }
    let mut norm = norm_squared;
    for r in 0..R {
        norm[r] = simd.sqrt(norm_squared[r]);
    }
    for x in x {
        for r in 0..R {
            x[r] = simd.div(x[r], norm[r]);
        }
    }
}

/// The update of ULA in R^d, wherever the lanes are: `x + ε g (ξ + ½ ε g s)` within bounds.
#[inline(always)]
fn unadjusted<L: Lanes<T>, T: Real>(
    simd: L,
    x: L::Vector,
    score: L::Vector,
    noise: L::Vector,
    (kick, drift): (L::Vector, L::Vector),
    bounds: Option<(T, T)>,
) -> L::Vector {
    let v = simd.mul_add(kick, score, noise);
    let x = simd.mul_add(drift, v, x);
    let Some((low, high)) = bounds else { return x };
    let (low, high) = (simd.splat(low), simd.splat(high));
    let at_least = simd.select_less(x, low, low, x);
    simd.select_less(high, at_least, high, at_least)
}

/// Coordinates whose noise is made at a time by [`unadjusted_rows`]: noise and its transpose stay in L1.
const ROW_COLUMNS: usize = 128;

/// ULA in R^d on rows: only the noise changes from lanes of chains to lanes of coordinates.
#[inline(always)]
fn unadjusted_rows<L: Lanes<T>, T: Real>(
    simd: L,
    rule: (T, T, Option<(T, T)>),
    scale: &[T],
    chains: &mut Moving<'_, T>,
    scratch: &mut Scratch,
) {
    let (n, d) = (chains.x.rows(), chains.x.cols());
    let at_once = ROW_COLUMNS.min(d);
    // Short rows without gaps are taken as one.
    let joined = d == at_once && chains.x.stride() == d && chains.score.stride() == d;
    let [tile, rows, scales] = scratch.buffers::<L::Vector, 3>([at_once; 3]);
    let rows: &mut [T] = bytemuck::cast_slice_mut(rows);
    let scales: &mut [T] = bytemuck::cast_slice_mut(scales);
    for scales in scales.chunks_exact_mut(d.max(1)) {
        scales.copy_from_slice(scale);
    }
    for start in (0..n).step_by(L::LANES) {
        let count = L::LANES.min(n - start);
        let block = start / L::LANES;
        let mut states = load::<L, T, 1>(chains.streams, block);
        for col in (0..d).step_by(at_once.max(1)) {
            let cols = at_once.min(d - col);
            let (tile, rows) = (&mut tile[..cols], &mut rows[..L::LANES * cols]);
            states[0].normals(simd, tile);
            let mut noise = RowsMut::new(rows, L::LANES, cols).expect("sized above");
            let tile = bytemuck::cast_slice(tile);
            transpose::scatter::<T, L>(simd, tile, L::LANES, &mut noise, 0, 0);
            if joined {
                let (x, _) = chains.x.data_mut(start);
                let len = count * d;
                let score = &chains.score.as_slice()[start * d..][..len];
                unadjusted_slice(simd, rule, &mut x[..len], score, &rows[..len], &scales[..len]);
            } else {
                let scale = &scale[col..col + cols];
                for (i, noise) in rows.chunks_exact(cols).take(count).enumerate() {
                    let x = &mut chains.x.row_mut(start + i)[col..col + cols];
                    let score = &chains.score.row(start + i)[col..col + cols];
                    unadjusted_slice(simd, rule, x, score, noise, scale);
                }
            }
        }
        store(states, chains.streams, block);
    }
}

#[inline(always)]
fn unadjusted_slice<L: Lanes<T>, T: Real>(
    simd: L,
    (step, factor, bounds): (T, T, Option<(T, T)>),
    x: &mut [T],
    score: &[T],
    noise: &[T],
    scale: &[T],
) {
    let (half_step, step, factor) =
        (simd.splat(half::<T>() * step), simd.splat(step), simd.splat(factor));
    let body = x.len() - x.len() % L::LANES;
    let (x, x_tail) = x.split_at_mut(body);
    let (score, score_tail) = score.split_at(body);
    let (noise, noise_tail) = noise.split_at(body);
    let (scale, scale_tail) = scale.split_at(body);
    let registers: &mut [L::Vector] = bytemuck::cast_slice_mut(x);
    let score: &[L::Vector] = bytemuck::cast_slice(score);
    let noise: &[L::Vector] = bytemuck::cast_slice(noise);
    let scale: &[L::Vector] = bytemuck::cast_slice(scale);
    for (((x, &score), &noise), &scale) in registers.iter_mut().zip(score).zip(noise).zip(scale) {
        let factors = (simd.mul(half_step, scale), simd.mul(step, scale));
        *x = unadjusted::<L, T>(simd, *x, score, simd.mul(factor, noise), factors, bounds);
    }
    if !x_tail.is_empty() {
        let scale = padded(simd, scale_tail);
        let factors = (simd.mul(half_step, scale), simd.mul(step, scale));
        let noise = simd.mul(factor, padded(simd, noise_tail));
        let (x, score) = (padded(simd, x_tail), padded(simd, score_tail));
        let moved = [unadjusted::<L, T>(simd, x, score, noise, factors, bounds)];
        x_tail.copy_from_slice(&bytemuck::cast_slice(&moved)[..x_tail.len()]);
    }
}

/// Fewer values than lanes, zeros behind them.
#[inline(always)]
fn padded<T: Real, L: Lanes<T>>(simd: L, values: &[T]) -> L::Vector {
    let mut register = [simd.splat(T::ZERO)];
    bytemuck::cast_slice_mut(&mut register)[..values.len()].copy_from_slice(values);
    register[0]
}

/// ULA in R^d in one pass over the coordinates.
#[inline(always)]
fn unadjusted_flat<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    (step, noise, bounds): (T, T, Option<(T, T)>),
    states: &mut [States<L, T>; R],
    x: &mut [[L::Vector; R]],
    score: &[[L::Vector; R]],
    scale: &[T],
) {
    let noise = simd.splat(noise);
    let half_step = half::<T>() * step;
    for ((x, score), scale) in x.chunks_mut(2).zip(score.chunks(2)).zip(scale.chunks(2)) {
        for r in 0..R {
            let pair = states[r].pair(simd);
            for k in 0..x.len() {
                let factors = (simd.splat(half_step * scale[k]), simd.splat(step * scale[k]));
                let noise = simd.mul(noise, pair[k]);
                x[k][r] = unadjusted::<L, T>(simd, x[k][r], score[k][r], noise, factors, bounds);
            }
        }
    }
}

/// The middle of BAOAB: `v ← keep v + √(1 - keep²) ξ`.
#[inline(always)]
fn ornstein_uhlenbeck<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    states: &mut [States<L, T>; R],
    keep: T,
    v: &mut [[L::Vector; R]],
) {
    let fresh = simd.splat((-keep).mul_add(keep, T::ONE).sqrt());
    let keep = simd.splat(keep);
    for v in v.chunks_mut(2) {
        for r in 0..R {
            let pair = states[r].pair(simd);
            for (v, &normal) in v.iter_mut().zip(&pair) {
                v[r] = simd.mul_add(fresh, normal, simd.mul(keep, v[r]));
            }
        }
    }
}

/// [`advance`](super::advance) for one sub-tile or, in flat space, for some of its coordinates; adds to the sum of squares of
/// refreshed velocities.
#[inline(always)]
fn advance_tile<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    (rule, space, index): (Rule<T>, Space, usize),
    states: &mut [States<L, T>; R],
    x: &mut [[L::Vector; R]],
    score: &[[L::Vector; R]],
    v: &mut [[L::Vector; R]],
    scale: &[T],
    squares: &mut [L::Vector; R],
) {
    match rule {
        Rule::Unadjusted { step, noise, bounds } if space == Space::Flat => {
            unadjusted_flat(simd, (step, noise, bounds), states, x, score, scale);
        }
        Rule::Unadjusted { step, noise, .. } => {
            normals(simd, states, noise, v);
            project(simd, v, x);
            kick(simd, v, score, half::<T>() * step, scale);
            drift(simd, space, x, v, step, scale);
        }
        Rule::Hamiltonian { step, .. } => {
            if index == 0 {
                normals(simd, states, T::ONE, v);
                if space == Space::Sphere {
                    project(simd, v, x);
                }
                *squares = dot(simd, v, v, *squares);
                kick(simd, v, score, half::<T>() * step, scale);
            } else {
                kick(simd, v, score, step, scale);
            }
            drift(simd, space, x, v, step, scale);
        }
        Rule::Baoab { step, keep } => {
            let half_step = half::<T>() * step;
            kick(simd, v, score, half_step, scale);
            drift(simd, space, x, v, half_step, scale);
            ornstein_uhlenbeck(simd, states, keep, v);
            drift(simd, space, x, v, half_step, scale);
        }
    }
}

/// Coordinates that are taken at a time where they do not depend on each other. Even, so that pairs of normals stay
/// together.
const COLUMNS: usize = 64;

/// Rows `start..` and columns `col..col + cols` of a matrix, as one register of chains.
#[inline(always)]
fn columns<T: Real>(
    rows: Rows<'_, T>,
    start: usize,
    count: usize,
    col: usize,
    cols: usize,
) -> Rows<'_, T> {
    rows.range(start, count).columns(col, cols)
}

#[inline(always)]
fn advance<L: Lanes<T>, T: Real>(
    simd: L,
    rule: Rule<T>,
    space: Space,
    scale: &[T],
    index: usize,
    chains: &mut Moving<'_, T>,
    scratch: &mut Scratch,
) {
    let (n, d) = (chains.x.rows(), chains.x.cols());
    if let (Rule::Unadjusted { step, noise, bounds }, Space::Flat) = (rule, space) {
        return unadjusted_rows(simd, (step, noise, bounds), scale, chains, scratch);
    }
    let at_once = if space == Space::Flat { COLUMNS.min(d) } else { d };
    let [x, score, v] = scratch.buffers::<[L::Vector; 1], 3>([at_once; 3]);
    // ULA has no use for the velocity behind it, and a refresh none for the one before.
    let keeps_velocity = !matches!(rule, Rule::Unadjusted { .. });
    let reads_velocity = match rule {
        Rule::Unadjusted { .. } => false,
        Rule::Hamiltonian { .. } => index > 0,
        Rule::Baoab { .. } => true,
    };
    for start in (0..n).step_by(L::LANES) {
        let count = L::LANES.min(n - start);
        let block = start / L::LANES;
        let mut states = load::<L, T, 1>(chains.streams, block);
        let mut squares = [simd.splat(T::ZERO)];
        for col in (0..d).step_by(at_once.max(1)) {
            let cols = at_once.min(d - col);
            let (x, score, v) = (&mut x[..cols], &mut score[..cols], &mut v[..cols]);
            let part = columns(chains.x.as_rows(), start, count, col, cols);
            transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(x), L::LANES, part);
            let part = columns(chains.score, start, count, col, cols);
            transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(score), L::LANES, part);
            if reads_velocity {
                let part = columns(chains.velocity.as_rows(), start, count, col, cols);
                transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(v), L::LANES, part);
            }
            let scale = &scale[col..col + cols];
            let what = (rule, space, index);
            advance_tile(simd, what, &mut states, x, score, v, scale, &mut squares);
            let tile = bytemuck::cast_slice(x);
            transpose::scatter::<T, L>(simd, tile, L::LANES, &mut chains.x, start, col);
            if keeps_velocity {
                let tile = bytemuck::cast_slice(v);
                transpose::scatter::<T, L>(simd, tile, L::LANES, &mut chains.velocity, start, col);
            }
        }
        store(states, chains.streams, block);
        if let (Rule::Hamiltonian { .. }, 0) = (rule, index) {
            let energy = halved(simd, squares);
            chains.energy[start..start + count]
                .copy_from_slice(&bytemuck::cast_slice(&energy)[..count]);
        }
    }
}

#[inline(always)]
fn settle<L: Lanes<T>, T: Real>(
    simd: L,
    rule: Rule<T>,
    scale: &[T],
    ln_uniforms: &mut [T],
    chains: &mut Moving<'_, T>,
    scratch: &mut Scratch,
) {
    let (metropolis, step) = match rule {
        Rule::Unadjusted { .. } => return,
        Rule::Hamiltonian { step, .. } => (true, step),
        Rule::Baoab { step, .. } => (false, step),
    };
    let (n, d) = (chains.x.rows(), chains.x.cols());
    let [score, v] = scratch.buffers::<[L::Vector; 1], 2>([COLUMNS.min(d); 2]);
    for start in (0..n).step_by(L::LANES) {
        let count = L::LANES.min(n - start);
        let mut squares = [simd.splat(T::ZERO)];
        for col in (0..d).step_by(COLUMNS) {
            let cols = COLUMNS.min(d - col);
            let (score, v) = (&mut score[..cols], &mut v[..cols]);
            let part = columns(chains.score, start, count, col, cols);
            transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(score), L::LANES, part);
            let part = columns(chains.velocity.as_rows(), start, count, col, cols);
            transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(v), L::LANES, part);
            kick(simd, v, score, half::<T>() * step, &scale[col..col + cols]);
            squares = dot(simd, v, v, squares);
            let tile = bytemuck::cast_slice(v);
            transpose::scatter::<T, L>(simd, tile, L::LANES, &mut chains.velocity, start, col);
        }
        if metropolis {
            let block = start / L::LANES;
            let mut states = load::<L, T, 1>(chains.streams, block);
            let [a, _] = states[0].integers(simd);
            store(states, chains.streams, block);
            let (energy, uniform) = (halved(simd, squares), [ln_uniform::<T, L>(simd, a)]);
            let range = start..start + count;
            chains.energy[range.clone()].copy_from_slice(&bytemuck::cast_slice(&energy)[..count]);
            ln_uniforms[range].copy_from_slice(&bytemuck::cast_slice(&uniform)[..count]);
        }
    }
}

/// See [`relu_steps`](super::relu_steps).
pub struct ReluSteps<'a, T> {
    pub target: ReluTarget<'a, T>,
    pub rule: Rule<T>,
    pub scale: &'a [T],
    pub steps: usize,
    pub chains: Chains<'a, T>,
    pub scratch: &'a mut Scratch,
}

impl<T: Real> ReluSteps<'_, T> {
    /// Full sub-tiles first, then single registers for what is left.
    #[inline(always)]
    fn chains<L: Lanes<T>, const R: usize, const G: usize, const K: usize>(mut self, simd: L) {
        assert_eq!(self.target.panel.group, G, "panel packed for another instruction set");
        let n = self.chains.x.rows();
        let rest = n % (R * L::LANES);
        // Streams of a whole last sub-tile need not exist.
        let full = n - rest;
        self.blocks::<L, R, G, K>(simd, 0, full);
        self.blocks::<L, 1, G, K>(simd, full, n);
    }

    #[inline(always)]
    fn blocks<L: Lanes<T>, const R: usize, const G: usize, const K: usize>(
        &mut self,
        simd: L,
        start: usize,
        end: usize,
    ) {
        let subtiles = relu::simd::subtiles_per_block::<L, T, R>(self.target.panel, true);
        let block = R * L::LANES * subtiles;
        for start in (start..end).step_by(block) {
            self.block::<L, R, G, K>(simd, start, block.min(end - start));
        }
    }

    #[inline(always)]
    fn block<L: Lanes<T>, const R: usize, const G: usize, const K: usize>(
        &mut self,
        simd: L,
        start: usize,
        count: usize,
    ) {
        let Self { target: ReluTarget { panel, space, .. }, rule, scale, .. } = *self;
        let (coords, d, lead) = (panel.coords, scale.len(), usize::from(panel.lead));
        let per_subtile = R * L::LANES;
        let subtiles = count.div_ceil(per_subtile);
        let (metropolis, drifts) = match rule {
            Rule::Hamiltonian { drifts, .. } => (true, drifts),
            _ => (false, 1),
        };
        let kept = if metropolis { subtiles * d } else { 0 };
        let zero = simd.splat(T::ZERO);
        let [
            points,
            gradient,
            values,
            gates,
            v,
            old_x,
            old_score,
            potential,
            log_ratio,
            accepted,
            kinetic,
        ] = self.scratch.buffers::<[L::Vector; R], 11>([
            subtiles * coords,
            subtiles * coords,
            subtiles,
            relu::simd::gates_len::<L, T, R>(coords, subtiles),
            subtiles * d,
            kept,
            kept,
            subtiles,
            subtiles,
            subtiles,
            subtiles,
        ]);
        let keeps_velocity = matches!(rule, Rule::Baoab { .. });
        let Chains {
            x,
            score,
            velocity,
            streams,
            potential: potentials,
            log_ratio: log_ratios,
            accepted: counts,
        } = &mut self.chains;
        for s in 0..subtiles {
            let start = start + s * per_subtile;
            let count = per_subtile.min(x.rows() - start);
            let (front, tile) = points[s * coords..][..coords].split_at_mut(lead);
            front.fill([simd.splat(T::ONE); R]);
            let rows = x.as_rows().range(start, count);
            transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(tile), per_subtile, rows);
            let tile = &mut gradient[s * coords + lead..][..d];
            let rows = score.as_rows().range(start, count);
            transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(tile), per_subtile, rows);
            if keeps_velocity {
                let tile = &mut v[s * d..][..d];
                let rows = velocity.as_rows().range(start, count);
                transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(tile), per_subtile, rows);
            }
        }
        let entries = start..start + count;
        for (registers, values) in [
            (&mut *potential, &**potentials),
            (&mut *log_ratio, &**log_ratios),
            (&mut *accepted, &**counts),
        ] {
            registers.fill([zero; R]);
            bytemuck::cast_slice_mut(registers)[..count].copy_from_slice(&values[entries.clone()]);
        }

        for _ in 0..self.steps {
            for index in 0..drifts {
                for s in 0..subtiles {
                    let block = start / L::LANES + s * R;
                    let x = &mut points[s * coords + lead..][..d];
                    let score = &gradient[s * coords + lead..][..d];
                    if metropolis && index == 0 {
                        old_x[s * d..][..d].copy_from_slice(x);
                        old_score[s * d..][..d].copy_from_slice(score);
                    }
                    let v = &mut v[s * d..][..d];
                    let mut states = load::<L, T, R>(streams, block);
                    let mut squares = [zero; R];
                    let what = (rule, space, index);
                    advance_tile(simd, what, &mut states, x, score, v, scale, &mut squares);
                    store(states, streams, block);
                    if index == 0 {
                        kinetic[s] = halved(simd, squares);
                    }
                }
                let wanted = (metropolis && index + 1 == drifts, true);
                relu::simd::sums::<L, T, R, G, K>(
                    simd, panel, wanted, lead, points, values, gradient, gates,
                );
                for s in 0..subtiles {
                    let x = &points[s * coords + lead..][..d];
                    let score = &mut gradient[s * coords + lead..][..d];
                    evaluate(simd, &self.target, x, score, &mut values[s], wanted.0);
                }
            }
            for s in 0..subtiles {
                let x = &mut points[s * coords + lead..][..d];
                let score = &mut gradient[s * coords + lead..][..d];
                let v = &mut v[s * d..][..d];
                match rule {
                    Rule::Unadjusted { .. } => {}
                    Rule::Baoab { step, .. } => kick(simd, v, score, half::<T>() * step, scale),
                    Rule::Hamiltonian { step, .. } => {
                        let block = start / L::LANES + s * R;
                        kick(simd, v, score, half::<T>() * step, scale);
                        let energy = halved(simd, dot(simd, v, v, [zero; R]));
                        let mut states = load::<L, T, R>(streams, block);
                        let (old_x, old_score) = (&old_x[s * d..][..d], &old_score[s * d..][..d]);
                        for r in 0..R {
                            let [a, _] = states[r].integers(simd);
                            let uniform = ln_uniform::<T, L>(simd, a);
                            let before = simd.sub(potential[s][r], values[s][r]);
                            let ratio = simd.add(before, simd.sub(kinetic[s][r], energy[r]));
                            log_ratio[s][r] = ratio;
                            for k in 0..d {
                                x[k][r] = simd.select_less(uniform, ratio, x[k][r], old_x[k][r]);
                                score[k][r] =
                                    simd.select_less(uniform, ratio, score[k][r], old_score[k][r]);
                            }
                            potential[s][r] =
                                simd.select_less(uniform, ratio, values[s][r], potential[s][r]);
                            let one = simd.select_less(uniform, ratio, simd.splat(T::ONE), zero);
                            accepted[s][r] = simd.add(accepted[s][r], one);
                        }
                        store(states, streams, block);
                    }
                }
            }
        }

        for s in 0..subtiles {
            let start = start + s * per_subtile;
            let tile = bytemuck::cast_slice(&points[s * coords + lead..][..d]);
            transpose::scatter::<T, L>(simd, tile, per_subtile, x, start, 0);
            let tile = bytemuck::cast_slice(&gradient[s * coords + lead..][..d]);
            transpose::scatter::<T, L>(simd, tile, per_subtile, score, start, 0);
            if keeps_velocity {
                let tile = bytemuck::cast_slice(&v[s * d..][..d]);
                transpose::scatter::<T, L>(simd, tile, per_subtile, velocity, start, 0);
            }
        }
        for (registers, values) in [
            (&*potential, &mut **potentials),
            (&*log_ratio, &mut **log_ratios),
            (&*accepted, &mut **counts),
        ] {
            values[entries.clone()].copy_from_slice(&bytemuck::cast_slice(registers)[..count]);
        }
    }
}

/// See [`finish`](super::finish).
#[inline(always)]
fn finish<L: Lanes<T>, T: Real>(
    simd: L,
    target: ReluTarget<'_, T>,
    points: Rows<'_, T>,
    mut potential: Option<&mut [T]>,
    mut score: Option<RowsMut<'_, T>>,
    scratch: &mut Scratch,
) {
    let (n, d) = (points.rows(), points.cols());
    if n == 0 {
        // Of any length, for which there may be no memory.
        return;
    }
    let [x, tile] = scratch.buffers::<[L::Vector; 1], 2>([d; 2]);
    for start in (0..n).step_by(L::LANES) {
        let count = L::LANES.min(n - start);
        let rows = points.range(start, count);
        transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(x), L::LANES, rows);
        if let Some(score) = &score {
            let rows = score.as_rows().range(start, count);
            transpose::gather::<T, L>(simd, bytemuck::cast_slice_mut(tile), L::LANES, rows);
        }
        let sums = if score.is_some() { &mut *tile } else { Default::default() };
        let mut value = [simd.splat(T::ZERO)];
        if let Some(potential) = &potential {
            value = [padded(simd, &potential[start..start + count])];
        }
        evaluate(simd, &target, x, sums, &mut value, potential.is_some());
        if let Some(potential) = &mut potential {
            potential[start..start + count].copy_from_slice(&bytemuck::cast_slice(&value)[..count]);
        }
        if let Some(score) = &mut score {
            let tile = bytemuck::cast_slice(tile);
            transpose::scatter::<T, L>(simd, tile, L::LANES, score, start, 0);
        }
    }
}

/// Turns the sums over neurons at one sub-tile into potentials, if wanted, and scores, if there are any.
#[inline(always)]
pub(crate) fn evaluate<L: Lanes<T>, T: Real, const R: usize>(
    simd: L,
    target: &ReluTarget<'_, T>,
    x: &[[L::Vector; R]],
    score: &mut [[L::Vector; R]],
    value: &mut [L::Vector; R],
    with_potential: bool,
) {
    let m = T::from_f64(target.panel.len().max(1) as f64);
    let (beta, minus_m) = (simd.splat(target.beta), simd.splat(-m));
    for (score, x) in score.iter_mut().zip(x) {
        for r in 0..R {
            let gradient = simd.mul(beta, simd.div(score[r], minus_m));
            score[r] = match target.precision {
                Some(precision) => simd.sub(gradient, simd.mul(simd.splat(precision), x[r])),
                None => gradient,
            };
        }
    }
    if target.space == Space::Sphere {
        project(simd, score, x);
    }
    if with_potential {
        let m = simd.splat(m);
        for r in 0..R {
            value[r] = simd.mul(beta, simd.div(value[r], m));
        }
        if let Some(precision) = target.precision {
            let half_precision = simd.splat(half::<T>() * precision);
            let squares = dot(simd, x, x, [simd.splat(T::ZERO); R]);
            for r in 0..R {
                value[r] = simd.add(value[r], simd.mul(half_precision, squares[r]));
            }
        }
    }
}
