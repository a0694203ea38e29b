//! gibbsite's side of `benches/peers/run`, which compares it with other libraries: the public API, for updates that of the kernels,
//! on arrays of .npy files that all sides read.
//!
//! With `--serve THREADS` it reads requests from stdin, a line each, and answers with a line: `load TASK TYPE DIRECTORY
//! N D M` takes up a task, `run` does it and tells its processor time and its time on the clock in seconds, `save FILE` writes
//! the results as raw numbers. With `--test` it does every task once.

use gibbsite::{
    Isa, Real, ReluEnergy, Rows, RowsMut,
    random::Streams,
    sampler::{Sampler, Start},
    stein::{Gram, Statistic, SteinKernel, stein_thin},
};
use gibbsite_kernels::{
    Scratch,
    chain::{self, Moving, Rule, Space},
    noise,
};
use gibbsite_measure::{process_time, values};
use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead, Write},
    path::Path,
    time::Instant,
};

const TASKS: [&str; 10] =
    ["energy", "score", "grad", "chains", "descent", "normals", "update", "gram", "ksd", "thin"];

/// Steps of a chain, the step size h, the offset c of the kernel (c² + r²)^(-1/2), and points that are picked.
const STEPS: usize = 100;
const STEP: f64 = 0.01;
const OFFSET: f64 = 5.0;
const PICKED: usize = 100;

/// A task and its results.
struct Task<T> {
    run: Box<Work<T>>,
    out: Vec<T>,
}

type Work<T> = dyn FnMut(&mut Vec<T>) -> gibbsite::Result<()>;

/// A task of any element type.
trait Job {
    fn run(&mut self) -> gibbsite::Result<()>;
    fn save(&self, path: &Path) -> io::Result<()>;
}

impl<T: Real> Job for Task<T> {
    fn run(&mut self) -> gibbsite::Result<()> {
        (self.run)(&mut self.out)
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        fs::write(path, bytemuck::cast_slice(&self.out))
    }
}

/// Arrays `x` [n, d], `theta` [m, d], `w` [m] and `s` [n, d], the latter for Stein kernels and updates.
fn task<T: Real>(
    name: &str,
    [n, d, m]: [usize; 3],
    array: impl Fn(&str, usize) -> io::Result<Vec<T>>,
) -> Result<Box<dyn Job>, Box<dyn Error>> {
    let model = || -> Result<ReluEnergy<T>, Box<dyn Error>> {
        let (theta, w) = (array("theta", m * d)?, array("w", m)?);
        Ok(ReluEnergy::new(Rows::new(&theta, m, d)?, &w)?)
    };
    let with_length = |len: usize, run: Box<Work<T>>| Task { run, out: vec![T::ZERO; len] };
    let kernel = SteinKernel::imq(OFFSET, -0.5)?;
    let task = match name {
        "energy" => {
            let (model, x) = (model()?, array("x", n * d)?);
            with_length(n, Box::new(move |out| model.energy(points(&x, d)?, out)))
        }
        "score" => {
            let (model, x) = (model()?, array("x", n * d)?);
            with_length(
                n * d,
                Box::new(move |out| model.score(points(&x, d)?, points_mut(out, d)?)),
            )
        }
        "grad" => {
            let (model, x) = (model()?, array("x", n * d)?);
            let mut grad = model.zero_grad();
            let run = move |out: &mut Vec<T>| {
                model.param_grad(points(&x, d)?, None, &mut grad)?;
                let (w, theta) = out.split_at_mut(m);
                w.copy_from_slice(&grad.w);
                theta.copy_from_slice(&grad.theta);
                Ok(())
            };
            with_length(m + m * d, Box::new(run))
        }
        "chains" | "descent" => {
            let (model, x) = (model()?.with_base_scale(T::ONE)?, array("x", n * d)?);
            let noise = if name == "chains" { 1.0 } else { 0.0 };
            let sampler =
                Sampler::ula(STEP).noise(noise).chains(n).start(Start::Points(points(&x, d)?));
            let chains = sampler.build(&model)?;
            let run = move |out: &mut Vec<T>| {
                let mut chains = chains.clone();
                chains.run(&model, STEPS)?;
                let states = chains.states();
                out.clear();
                states.iter().for_each(|row| out.extend_from_slice(row));
                Ok(())
            };
            with_length(n * d, Box::new(run))
        }
        "normals" => {
            let mut streams = Streams::new(0, 0, n, Isa::best())?;
            with_length(n * d, Box::new(move |out| streams.normals(points_mut(out, d)?)))
        }
        "update" => {
            let (x, s) = (array("x", n * d)?, array("s", n * d)?);
            let mut streams = noise::Streams::<T>::range(0, 0, n);
            let noise = T::ONE;
            let rule =
                Rule::Unadjusted { step: T::from_f64((2.0 * STEP).sqrt()), noise, bounds: None };
            let (mut velocity, mut energy) = (vec![T::ZERO; n * d], vec![T::ZERO; n]);
            let (scale, mut scratch) = (vec![T::ONE; d], Scratch::default());
            let run = move |out: &mut Vec<T>| {
                let mut moving = Moving {
                    x: points_mut(out, d)?,
                    score: points(&s, d)?,
                    velocity: points_mut(&mut velocity, d)?,
                    energy: &mut energy,
                    streams: &mut streams,
                };
                let isa = Isa::best();
                chain::advance(isa, rule, Space::Flat, &scale, 0, &mut moving, &mut scratch);
                Ok(())
            };
            Task { run: Box::new(run), out: x }
        }
        "gram" => {
            let (x, s) = (array("x", n * d)?, array("s", n * d)?);
            let run = move |out: &mut Vec<T>| {
                let gram = Gram::new(&kernel, points(&x, d)?, points(&s, d)?)?;
                gram.write(0, RowsMut::new(out, n, n)?)
            };
            with_length(n * n, Box::new(run))
        }
        "ksd" => {
            let (x, s) = (array("x", n * d)?, array("s", n * d)?);
            let run = move |out: &mut Vec<T>| {
                let gram = Gram::new(&kernel, points(&x, d)?, points(&s, d)?)?;
                out[0] = T::from_f64(gram.ksd(Statistic::V, &mut |_| {})?.squared);
                Ok(())
            };
            with_length(1, Box::new(run))
        }
        "thin" => {
            let (x, s) = (array("x", n * d)?, array("s", n * d)?);
            // That of the peer.
            let kernel = SteinKernel::imq(1.0, -0.5)?;
            let run = move |out: &mut Vec<T>| {
                let picked = stein_thin(&kernel, points(&x, d)?, points(&s, d)?, PICKED)?;
                out.clear();
                out.extend(picked.indices.iter().map(|&i| T::from_f64(i as f64)));
                Ok(())
            };
            with_length(PICKED, Box::new(run))
        }
        _ => return Err(format!("no task {name}").into()),
    };
    Ok(Box::new(task))
}

fn points<T>(data: &[T], d: usize) -> gibbsite::Result<Rows<'_, T>> {
    Ok(Rows::new(data, data.len() / d, d)?)
}

fn points_mut<T>(data: &mut [T], d: usize) -> gibbsite::Result<RowsMut<'_, T>> {
    let n = data.len() / d;
    Ok(RowsMut::new(data, n, d)?)
}

/// The numbers of an .npy file of this element type in C order, which the other side has written.
fn read<T: Real>(path: &Path, len: usize) -> io::Result<Vec<T>> {
    let bytes = fs::read(path)?;
    let data = &bytes[10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))..];
    let wrong = || io::Error::other(format!("{}: not {len} of {}", path.display(), T::NAME));
    if data.len() != len * size_of::<T>() {
        return Err(wrong());
    }
    Ok(data.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
}

fn load(request: &[&str]) -> Result<Box<dyn Job>, Box<dyn Error>> {
    let [name, dtype, directory, n, d, m] = request else { return Err("a wrong request".into()) };
    let file = |array: &str| Path::new(directory).join(format!("{array}.npy"));
    let shape = [n.parse()?, d.parse()?, m.parse()?];
    match *dtype {
        "f32" => task::<f32>(name, shape, |array, len| read(&file(array), len)),
        _ => task::<f64>(name, shape, |array, len| read(&file(array), len)),
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let mut job: Option<Box<dyn Job>> = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        match (&words[..], &mut job) {
            (["load", request @ ..], _) => {
                drop(job.take());
                job = Some(load(request)?);
                println!("loaded");
            }
            (["run"], Some(job)) => {
                let (start, mut outcome) = (Instant::now(), Ok(()));
                let processor = process_time(|| outcome = job.run());
                let clock = start.elapsed();
                outcome?;
                println!("{} {}", processor.as_secs_f64(), clock.as_secs_f64());
            }
            (["save", file], Some(job)) => {
                job.save(Path::new(file))?;
                println!("saved");
            }
            _ => return Err(format!("{line}: not understood").into()),
        }
        io::stdout().flush()?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--serve") {
        let threads = arguments.get(at + 1).ok_or("--serve needs a number of threads")?.parse()?;
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        return serve();
    }
    if !arguments.iter().any(|argument| argument == "--test") {
        println!("The other side is started by benches/peers/run.");
        return Ok(());
    }
    for name in TASKS {
        let array = |name: &str, len| Ok(values::<f64>(len, name.len() as u64));
        task(name, [130, 7, 9], array)?.run()?;
        println!("{name} done");
    }
    Ok(())
}
