//! A teacher and its student in three dimensions: front views of the sphere.

use crate::{
    Number,
    error::Result,
    from_f64,
    plot::{BLUE, Curve, GREEN, ORANGE, Plot, UPPER_RIGHT},
    run::Context,
};
use gibbsite::{
    ReluEnergy, Rows, normaliser,
    teacher::Teacher,
    train::{self, Estimator, NegativePhase, Optimiser, Regime, TrainOptions},
};
use plotters::style::RGBColor;
use std::fmt::Write;

const TEACHER: &str = "j2w-2.5";
const POINTS: usize = 50_000;
const HELD_OUT: usize = 5000;
const NEURONS: usize = 64;
const ITERATIONS: usize = 1000;
const EVALUATE_EVERY: usize = 10;
/// Points behind a KL divergence.
const KL_POINTS: usize = 50_000;

/// Radius of a disc in pixels, and the height of a row of its picture.
const RADIUS: f64 = 170.0;
const ROW: f64 = 2.0;
/// Shades of the density.
const SHADES: f64 = 24.0;
/// Length of the longest arrow in radii.
const LONGEST: f64 = 1.25;
const CENTRES: [f64; 2] = [250.0, 710.0];
const MIDDLE: f64 = 290.0;

type Vector = [f64; 3];

/// The teacher, and students that learn in three ways.
pub struct Sphere<T: Number> {
    teacher: Teacher<T>,
    /// The last of the students, unless training diverged.
    student: Option<ReluEnergy<T>>,
    /// KL(teacher | model) against iteration, up to where training diverged if it did.
    curves: Vec<Curve>,
    seed: u64,
}

impl<T: Number> Sphere<T> {
    pub fn new(context: Context) -> Result<Self> {
        let common = TrainOptions {
            estimator: Estimator::MaximumLikelihood {
                negative: NegativePhase::Bank { size: 10_000 },
            },
            neurons: NEURONS,
            iterations: ITERATIONS,
            evaluate_every: EVALUATE_EVERY,
            // Neurons that start small turn to where they are needed.
            initial_variance: 0.01,
            seed: context.seed,
            isa: context.isa,
            backend: context.backend,
            ..TrainOptions::default()
        };
        let transport =
            TrainOptions { optimiser: Optimiser::Transport, weight_decay: 1e-4, ..common.clone() };
        let active = TrainOptions { learning_rate: Some(0.2), ..common.clone() };
        let lazy = TrainOptions { regime: Regime::F2, ..common };
        let students = [
            ("f2: gradient descent of outer weights", ORANGE, lazy),
            ("f1: transport with birth and death", GREEN, transport),
            ("f1: gradient descent", BLUE, active),
        ];
        Self::trained(POINTS, &students, context.seed)
    }

    fn trained(n: usize, students: &[(&str, RGBColor, TrainOptions)], seed: u64) -> Result<Self> {
        let teacher = Teacher::<T>::named(TEACHER, 3, seed)?;
        let data = teacher.sample(n, seed, 0)?;
        let validation = teacher.sample(HELD_OUT, seed, 1)?;
        let (mut curves, mut student) = (Vec::new(), None);
        for (label, color, options) in students {
            let mut points = Vec::new();
            let outcome = train::fit(rows(&data)?, rows(&validation)?, options, |record, model| {
                points.push((record.iteration as f64, teacher.kl_to(model, KL_POINTS, seed)?));
                Ok(())
            });
            student = match outcome {
                Ok(trained) => Some(trained.model),
                Err(error) if error.is_divergence() => None,
                Err(error) => return Err(error.into()),
            };
            let end = if student.is_some() { "" } else { ", diverged" };
            let label = format!("{label}{end}");
            curves.push(Curve { label, color: *color, points, bars: Vec::new() });
        }
        Ok(Self { teacher, student, curves, seed })
    }

    /// How the students approach the teacher.
    pub fn kl(self) -> Plot {
        Plot {
            title: format!("Three dimensions: teacher {TEACHER}, {NEURONS} neurons, n = {POINTS}"),
            x_label: "iteration",
            y_label: "KL(teacher | model) in nats",
            curves: self.curves,
            level: None,
            mark: None,
            log: true,
            log_x: false,
            legend: UPPER_RIGHT,
        }
    }

    /// Densities and neurons of the teacher and the student by gradient descent, as an SVG document.
    pub fn svg(&self) -> Result<String> {
        let Self { teacher, student, seed, .. } = self;
        let axes = axes(teacher.model());
        let mut views = vec![View::new(teacher.model(), &axes, *seed)?];
        let outcome = match student {
            None => "diverged".to_owned(),
            Some(student) => {
                views.push(View::new(student, &axes, *seed)?);
                format!("KL {:.5}", teacher.kl_to(student, 150_000, *seed)?)
            }
        };
        let all = || views.iter().flat_map(|view| &view.cells).map(|cell| cell.density);
        let range = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        let mut svg = String::new();
        let out = &mut svg;
        let mut write = |line: String| writeln!(out, "{line}").expect("memory takes all");
        write(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="960" height="580" font-family="sans-serif" font-size="15" text-anchor="middle">
<rect width="960" height="580" fill="#ffffff"/>
<text x="480" y="32" font-size="20">Density and neurons on the sphere in three dimensions</text>"##
        .to_owned(),
    );
        let titles = [
            format!("teacher {TEACHER}"),
            format!("student: {NEURONS} neurons, n = {POINTS}, {outcome}"),
        ];
        for (centre, title) in CENTRES.iter().zip(titles) {
            write(format!(r#"<text x="{centre}" y="62">{title}</text>"#));
        }
        for (view, centre) in views.iter().zip(CENTRES) {
            view.draw(centre, range, &mut write);
        }
        legend(range, &mut write);
        write("</svg>".to_owned());
        Ok(svg)
    }
}

fn rows<T: Number>(x: &[T]) -> Result<Rows<'_, T>> {
    super::engine::points(x, 3)
}

/// Right, up, and the direction of view: from aslant above the plane of the teacher's two neurons.
fn axes<T: Number>(teacher: &ReluEnergy<T>) -> [Vector; 3] {
    let [a, b] = [0, 1].map(|j| vector(teacher.theta().row(j)));
    let middle = unit(combine([1.0, 1.0], [a, b]));
    let right = unit(combine([1.0, -1.0], [a, b]));
    let front = unit(combine([1.0, 1.0], [middle, cross(right, middle)]));
    [right, cross(front, right), front]
}

/// A point of a disc.
struct Cell {
    x: f64,
    y: f64,
    density: f64,
}

struct Arrow {
    tip: Vector,
    negative: bool,
}

struct View {
    cells: Vec<Cell>,
    arrows: Vec<Arrow>,
}

impl View {
    fn new<T: Number>(model: &ReluEnergy<T>, axes: &[Vector; 3], seed: u64) -> Result<Self> {
        let steps = (RADIUS / ROW) as i32;
        let side = |i: i32| (f64::from(i) + 0.5) / f64::from(steps);
        let disc: Vec<(f64, f64)> = (-steps..steps)
            .flat_map(|row| (-steps..steps).map(move |column| (side(column), side(row))))
            .filter(|(x, y)| x * x + y * y < 1.0)
            .collect();
        let x: Vec<T> = disc
            .iter()
            .flat_map(|&(x, y)| {
                let z = (1.0 - x * x - y * y).sqrt();
                unit(std::array::from_fn(|k| x * axes[0][k] + y * axes[1][k] + z * axes[2][k]))
            })
            .map(from_f64::<T>)
            .collect();
        let mut energy = vec![T::ZERO; disc.len()];
        model.energy(Rows::new(&x, disc.len(), 3).map_err(gibbsite::Error::from)?, &mut energy)?;
        let log_z = normaliser::log_z(model, seed)?.value;
        let cells = disc.iter().zip(&energy).map(|(&(x, y), &f)| {
            let density = (-f.into() - log_z).exp();
            Cell { x, y, density }
        });
        let arrows = model.theta().iter().zip(model.w()).map(|(theta, &w)| {
            let (theta, w): (_, f64) = (vector(theta), w.into());
            Arrow { tip: axes.map(|axis| w.abs() * dot(theta, axis)), negative: w < 0.0 }
        });
        Ok(Self { cells: cells.collect(), arrows: arrows.collect() })
    }

    fn draw(&self, centre: f64, range: (f64, f64), write: &mut impl FnMut(String)) {
        let shade = |cell: &Cell| shade(cell.density, range);
        let same = |a: &Cell, b: &Cell| a.y == b.y && shade(a) == shade(b);
        let runs: Vec<&[Cell]> = self.cells.chunk_by(same).collect();
        for level in 0..SHADES as i32 {
            let level = f64::from(level);
            let stretch = |run: &&[Cell]| {
                let left = centre + RADIUS * run[0].x - ROW / 2.0;
                let top = MIDDLE - RADIUS * run[0].y - ROW / 2.0;
                format!(
                    "M{left:.0} {top:.0}h{width}v{ROW}h-{width}z",
                    width = ROW * run.len() as f64
                )
            };
            let path: String =
                runs.iter().filter(|run| shade(&run[0]) == level).map(stretch).collect();
            let color = color(level);
            write(format!(r#"<path d="{path}" fill="{color}" shape-rendering="crispEdges"/>"#));
        }
        write(format!(
            r##"<circle cx="{centre}" cy="{MIDDLE}" r="{RADIUS}" fill="none" stroke="#5a5a5a" stroke-width="2"/>"##
        ));
        let longest = self.arrows.iter().map(|arrow| dot(arrow.tip, arrow.tip).sqrt());
        let scale = LONGEST * RADIUS / longest.fold(f64::MIN_POSITIVE, f64::max);
        for Arrow { tip, negative } in &self.arrows {
            let [x, y, _] = tip.map(|tip| scale * tip);
            write(arrow((centre, MIDDLE), (centre + x, MIDDLE - y), tip[2] < 0.0, *negative));
        }
    }
}

/// A stroke with a head; dashed if it points away from the viewer.
fn arrow(from: (f64, f64), to: (f64, f64), away: bool, negative: bool) -> String {
    let color = if negative { "#d95f02" } else { "#1b7837" };
    let dashes = if away { r#" stroke-dasharray="5 3""# } else { "" };
    let length = (to.0 - from.0).hypot(to.1 - from.1);
    let head = (0.3 * length).min(9.0);
    let (x, y) = ((to.0 - from.0) / length.max(1e-9), (to.1 - from.1) / length.max(1e-9));
    let barb = |side: f64| (to.0 - head * (x - side * 0.5 * y), to.1 - head * (y + side * 0.5 * x));
    let (a, b) = (barb(1.0), barb(-1.0));
    format!(
        r#"<path d="M{:.1} {:.1}L{:.1} {:.1}" stroke="{color}" stroke-width="2"{dashes}/><path d="M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}Z" fill="{color}"/>"#,
        from.0, from.1, to.0, to.1, a.0, a.1, to.0, to.1, b.0, b.1
    )
}

fn legend((low, high): (f64, f64), write: &mut impl FnMut(String)) {
    let (left, top, width) = (90.0, 528.0, 10.0);
    for i in 0..SHADES as i32 {
        let x = left + width * f64::from(i);
        let color = color(f64::from(i));
        write(format!(r#"<rect x="{x}" y="{top}" width="{width}" height="14" fill="{color}"/>"#));
    }
    let right = left + width * SHADES;
    write(format!(r#"<text x="{left}" y="562">{low:.2}</text>"#));
    write(format!(r#"<text x="{right}" y="562">{high:.2}</text>"#));
    write(format!(r#"<text x="{}" y="562">density, uniform: 1</text>"#, (left + right) / 2.0));
    for (x, negative, text) in [(400.0, true, "w &lt; 0"), (510.0, false, "w &gt; 0")] {
        write(arrow((x, 535.0), (x + 34.0, 535.0), false, negative));
        write(format!(r#"<text x="{}" y="540" text-anchor="start">{text}</text>"#, x + 42.0));
    }
    write(
        r#"<text x="620" y="540" text-anchor="start">neurons |w| θ, dashed if they point away</text>"#
            .to_owned(),
    );
}

/// Number of the shade.
fn shade(density: f64, (low, high): (f64, f64)) -> f64 {
    let share = (density - low) / (high - low).max(f64::MIN_POSITIVE);
    (SHADES * share).floor().min(SHADES - 1.0)
}

fn color(shade: f64) -> String {
    let share = shade / (SHADES - 1.0);
    let mix = |light: f64, dark: f64| (light + share * (dark - light)).round();
    format!("rgb({},{},{})", mix(240.0, 8.0), mix(247.0, 64.0), mix(255.0, 129.0))
}

fn vector<T: Number>(x: &[T]) -> Vector {
    std::array::from_fn(|k| x[k].into())
}

fn combine([s, t]: [f64; 2], [a, b]: [Vector; 2]) -> Vector {
    std::array::from_fn(|k| s * a[k] + t * b[k])
}

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn unit(a: Vector) -> Vector {
    a.map(|x| x / dot(a, a).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_student_that_diverges_is_left_out_of_the_pictures() {
        let options = |rate| TrainOptions {
            neurons: 4,
            iterations: 4,
            evaluate_every: 2,
            learning_rate: Some(rate),
            ..TrainOptions::default()
        };
        for (rate, diverged) in [(0.1, false), (1e300, true)] {
            let students = [("one", BLUE, options(0.1)), ("other", BLUE, options(rate))];
            let sphere = Sphere::<f64>::trained(50, &students, 0).unwrap();
            let svg = sphere.svg().unwrap();
            assert_eq!(svg.contains("diverged"), diverged);
            assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
            let svg = sphere.kl().svg();
            assert_eq!(svg.matches("diverged").count(), usize::from(diverged));
            assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
        }
    }
}
